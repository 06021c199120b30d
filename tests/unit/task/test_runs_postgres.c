/* What runs.h promises, on a real PostgreSQL. */
#include "postgres.h"
#include "runs_promises.h"

static struct postgres *server;

static int make(void **state)
{
    (void)state;
    snprintf(where, sizeof(where), "%s", postgres_url(server));
    postgres_sql(server, "DROP SCHEMA public CASCADE; CREATE SCHEMA public", NULL, 0);
    open_db();
    return 0;
}

static int drop(void **state)
{
    (void)state;
    close_db();
    return 0;
}

int main(void)
{
    server = postgres_start();
    if (!server)
        return 77;
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop),
    const struct CMUnitTest tests[] = {RUNS_PROMISES(TEST)};
    int failed_tests = cmocka_run_group_tests(tests, NULL, NULL);
    postgres_end(server);
    return failed_tests;
}
