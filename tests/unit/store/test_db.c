/* What db.h promises, with SQLite: what was told done is there, what failed left nothing. */
#include "db_promises.h"
#include "torture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[64];

static int empty_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    return closedir(d);
}

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_db.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    empty_folder();
    return rmdir(folder);
}

static pd_err forget_tables(struct tx *t, void *ctx)
{
    (void)t;
    (void)ctx;
    empty_folder(); /* but for the descriptors that are open: what is opened next is new */
    return PD_OK;
}

static void jobs_that_wait_together_are_committed_together(void **state)
{
    (void)state;
    uint64_t commits = thousand_jobs(0);
    assert_true(commits >= 4 && commits < 300);
}

static void conflicts_need_no_second_run(void **state)
{
    (void)state;
    assert_int_equal(count_together(read_then_write, 50), 0);
}

static void the_file_is_its_owners(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct stat st;
    char wal[320];
    snprintf(wal, sizeof(wal), "%s-wal", where);
    assert_int_equal(stat(where, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(wal, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(db_is_postgres(d));
    db_close(d);
    assert_int_not_equal(stat(wal, &st), 0); /* an orderly end leaves one file */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop),
    const struct CMUnitTest tests[] = {DB_PROMISES(TEST) TEST(jobs_that_wait_together_are_committed_together)
                                           TEST(conflicts_need_no_second_run) TEST(the_file_is_its_owners)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
