/* What runs.h promises, on SQLite. */
#include "runs_promises.h"

#include <unistd.h>

static char folder[64];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_runs.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    open_db();
    return 0;
}

static int drop(void **state)
{
    (void)state;
    static const char *const ends[] = {"", "-wal", "-shm", ".lock", "-journal"};
    close_db();
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char path[400];
        snprintf(path, sizeof(path), "%s%s", where, ends[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop),
    const struct CMUnitTest tests[] = {RUNS_PROMISES(TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
