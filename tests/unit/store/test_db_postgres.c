/* What db.h promises, with a real PostgreSQL that is killed, cut off and in the way of itself. */
#include "db_promises.h"
#include "postgres.h"

static struct postgres *server;

static pd_err forget_tables(struct tx *t, void *ctx)
{
    (void)ctx;
    pd_err e = tx_run(t, "DROP SCHEMA public CASCADE", NULL, 0, NULL, NULL);
    return e ? e : tx_run(t, "CREATE SCHEMA public", NULL, 0, NULL, NULL);
}

static int make(void **state)
{
    (void)state;
    snprintf(where, sizeof(where), "%s", postgres_url(server));
    postgres_sql(server, "DROP SCHEMA public CASCADE; CREATE SCHEMA public", NULL, 0);
    return 0;
}

static void conflicts_are_run_again(void **state)
{
    (void)state;
    assert_true(count_together(read_then_write, 50) > 0);
}

int main(void)
{
    server = postgres_start();
    if (!server)
        return 77;
#define TEST(name) cmocka_unit_test_setup(name, make),
    const struct CMUnitTest tests[] = {DB_PROMISES(TEST) TEST(conflicts_are_run_again)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    postgres_end(server);
    return failed;
}
