/* What db.h promises, with SQLite: what was told done is there, what failed left nothing. */
#include "db_promises.h"
#include "torture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
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

/* ---- groups ---- */

static uint64_t commits_of(struct db *d)
{
    struct db_stats s;
    db_stats(d, &s);
    return s.commits;
}

/* Twenty jobs that wait together, one of which is `odd`; all others are told done. Returns the commits. */
static uint64_t a_group_with(db_job_fn *odd, pd_err want)
{
    struct db_rules r;
    db_rules_default(&r);
    r.timeout_ms = 200;
    struct db *d = open_with(&r);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    struct gate g;
    struct client c = {.d = d, .jobs = 20};
    client_begin(&c);
    hold(d, &g);
    if (odd)
        c.each[7].job.fn = odd;
    c.each[7].insert.result = want; /* what on_done() compares with */
    for (unsigned i = 0; i < c.jobs; i++)
        assert_int_equal(db_submit(c.queue, &c.each[i].job), PD_OK);
    uint64_t before = commits_of(d);
    let_go(&g);
    loop_run(c.loop);
    assert_int_equal(c.wrong, 0);
    assert_int_equal(rows_in(d), want ? 19 : 20);
    uint64_t commits = commits_of(d) - before;
    client_end(&c);
    db_close(d);
    empty_folder();
    return commits;
}

static pd_err insert_and_never_end(struct tx *t, void *ctx)
{
    pd_err e = insert_one(t, ctx);
    return e ? e : never_ends(t, ctx);
}

static pd_err insert_and_spin(struct tx *t, void *ctx)
{
    /* the deadline comes in a statement that writes: SQLite then rolls the whole transaction back */
    (void)ctx;
    return tx_run(t,
                  "INSERT INTO t (id) WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n + "
                  "5000 FROM r WHERE "
                  "n < 0",
                  NULL, 0, NULL, NULL);
}

static pd_err insert_twice(struct tx *t, void *ctx)
{
    pd_err e = insert_one(t, ctx);
    return e ? e : insert_one(t, ctx);
}

static void a_group_is_one_commit(void **state)
{
    (void)state;
    assert_int_equal(a_group_with(NULL, PD_OK), 2); /* and that of the job before it, which held them up */
    assert_int_equal(a_group_with(insert_twice, PD_EXISTS), 2);
    assert_int_equal(a_group_with(insert_and_never_end, PD_TIMEOUT), 2);
}

static void who_breaks_the_group_takes_nothing_of_the_others_with_it(void **state)
{
    (void)state;
    assert_int_equal(a_group_with(insert_and_spin, PD_TIMEOUT), 1 + 19);
}

static pd_err take_count(struct tx *t, void *ctx)
{
    struct one *o = ctx;
    return count(t, &o->insert.id);
}

static void who_reads_sees_what_is_committed(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct gate g;
    struct client c = {.d = d, .first = 10, .jobs = 3};
    client_begin(&c);
    c.each[1].job.fn = take_count;
    c.each[1].job.reads = true;
    hold(d, &g);
    for (unsigned i = 0; i < c.jobs; i++)
        assert_int_equal(db_submit(c.queue, &c.each[i].job), PD_OK);
    let_go(&g);
    loop_run(c.loop);
    assert_int_equal(c.each[1].insert.id, 0); /* not the row of the job before it, which was not told done yet */
    assert_int_equal(rows_in(d), 2);
    client_end(&c);
    db_close(d);
}

/* ---- opening ---- */

static void write_file(const char *ending, const char *bytes, size_t n, off_t at)
{
    char path[320];
    snprintf(path, sizeof(path), "%s%s", where, ending);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void a_page_is_overwritten(void)
{
    char junk[4096];
    memset(junk, 0x5a, sizeof(junk));
    write_file("", junk, sizeof(junk), 4096);
}

static void the_head_is_overwritten(void)
{
    char junk[100];
    memset(junk, 0x5a, sizeof(junk));
    write_file("", junk, sizeof(junk), 0);
}

static void the_end_is_missing(void)
{
    assert_int_equal(truncate(where, 4096), 0);
}

static void the_file_is_missing(void)
{
    assert_int_equal(unlink(where), 0);
    write_file("-wal", "something", 9, 0);
}

static void the_file_is_empty(void)
{
    assert_int_equal(truncate(where, 0), 0);
    write_file("-wal", "something", 9, 0);
}

static void another_program_made_it(void)
{
    sqlite3 *c = NULL;
    assert_int_equal(unlink(where), 0);
    assert_int_equal(sqlite3_open(where, &c), SQLITE_OK);
    assert_int_equal(sqlite3_exec(c, "CREATE TABLE x (y)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(c);
}

static void its_folder_is_a_file(void)
{
    assert_int_equal(unlink(where), 0);
    write_file("", "x", 1, 0);
    strcat(where, "/perdure.db");
}

static sqlite3 *other;

static void another_program_has_it_open(void)
{
    assert_int_equal(sqlite3_open(where, &other), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(other, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT", NULL, NULL, NULL),
        SQLITE_OK);
}

static void its_path_is_empty(void)
{
    where[0] = '\0';
}

static const struct harm {
    const char *name;
    void (*deed)(void);
    pd_err e;
    const char *says;
} harms[] = {
    {"a page is overwritten", a_page_is_overwritten, PD_INVALID, "restored from the bucket"},
    {"the head is overwritten", the_head_is_overwritten, PD_INVALID, "restored from the bucket"},
    {"the end is missing", the_end_is_missing, PD_INVALID, "restored from the bucket"},
    {"the file is missing and its WAL is there", the_file_is_missing, PD_INVALID, "put the file back"},
    {"the file is empty and its WAL is there", the_file_is_empty, PD_INVALID, "put the file back"},
    {"another program made it", another_program_made_it, PD_INVALID, "another program"},
    {"its folder is a file", its_folder_is_a_file, PD_IO, "cannot be made"},
    {"another program has it open", another_program_has_it_open, PD_EXISTS, "end it"},
    {"no path", its_path_is_empty, PD_TOOBIG, "path"},
};

static void a_file_that_will_not_do_is_told_with_what_to_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++) {
        struct db *d = with_table();
        char was[300];
        db_close(d);
        memcpy(was, where, sizeof(was));
        harms[i].deed();
        pd_err e = try_open(NULL, &d);
        if (e != harms[i].e || !strstr(why, harms[i].says))
            fprintf(stderr, "%s: %s, %s\n", harms[i].name, pd_err_name(e), why);
        assert_int_equal(e, harms[i].e);
        assert_non_null(strstr(why, harms[i].says));
        sqlite3_close(other);
        other = NULL;
        memcpy(where, was, sizeof(was));
        empty_folder();
    }
}

static void a_file_is_held_by_one_process(void **state)
{
    (void)state;
    struct db *d = open_with(NULL), *second = NULL;
    assert_int_equal(try_open(NULL, &second), PD_EXISTS);
    assert_non_null(strstr(why, "another perdure"));
    pid_t child = fork();
    if (child == 0)
        _exit(execl("/bin/sh", "sh", "-c", "for f in /proc/$$/fd/*; do readlink $f; done | grep -q perdure.db",
                    (char *)NULL));
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 1); /* no program that we start keeps it held */
    db_close(d);
    d = open_with(NULL);
    db_close(d);
}

/* Two connections could lose data (SQLite before 3.51.3): there is none but ours, and no memory to share with one. */
static void no_other_program_gets_in(void **state)
{
    (void)state;
    struct db *d = with_table();
    char shm[320];
    snprintf(shm, sizeof(shm), "%s-shm", where);
    assert_int_equal(sqlite3_open(where, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "SELECT * FROM t", NULL, NULL, NULL), SQLITE_BUSY);
    assert_int_equal(sqlite3_exec(other, "INSERT INTO t (id) VALUES (1)", NULL, NULL, NULL), SQLITE_BUSY);
    sqlite3_close(other);
    other = NULL;
    assert_int_equal(access(shm, F_OK), -1);
    assert_int_equal(rows_in(d), 0);
    db_close(d);
}

static void its_folder_is_made(void **state)
{
    (void)state;
    char was[300], path[330];
    memcpy(was, where, sizeof(was));
    snprintf(path, sizeof(path), "%s/new/state", folder);
    snprintf(where, sizeof(where), "%s/new/state/x.db", folder);
    db_close(open_with(NULL));
    unlink(where);
    strcat(where, ".lock");
    unlink(where);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/new", folder);
    assert_int_equal(rmdir(path), 0);
    memcpy(where, was, sizeof(was));
}

/* ---- kill -9 ---- */

/* Writes rows, and their numbers to `out` as they are told done; never ends. */
static void write_rows(int out)
{
    struct db *d = open_with(NULL);
    for (int64_t i = 1;; i++) {
        struct insert x = {.id = i};
        if (db_do(d, insert, &x) != PD_OK || write(out, &i, sizeof(i)) != sizeof(i))
            _exit(1);
    }
}

static void what_was_told_done_survives_kill_9(void **state)
{
    (void)state;
    int64_t told = 0;
    for (int round = 0; round < 8; round++) {
        db_close(with_table());
        int out[2];
        assert_int_equal(pipe(out), 0);
        pid_t child = fork();
        if (child == 0) {
            close(out[0]);
            write_rows(out[1]);
        }
        close(out[1]);
        for (int i = 0; i < 20 + 7 * round; i++)
            assert_int_equal(read(out[0], &told, sizeof(told)), sizeof(told));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(out[0], &told, sizeof(told)) == sizeof(told))
            ;
        close(out[0]);
        struct db *d = open_with(NULL);
        assert_in_range(rows_in(d), told, told + 1);
        db_close(d);
        empty_folder();
    }
}

/* ---- memory ---- */

static pd_err live(void *ctx)
{
    struct db *d = NULL;
    struct db_rules r;
    (void)ctx;
    empty_folder();
    db_rules_default(&r);
    r.only_to = 1; /* the tables of all rooms would make it long */
    pd_err e = db_open(where, &r, &d, why, sizeof(why));
    e = e ? e : db_do(d, make_table, NULL);
    struct insert x = {.id = 1};
    e = e ? e : db_do(d, insert, &x);
    struct asked a = {.sql = "SELECT COUNT(*) FROM t WHERE id = 1"};
    pd_err asked = e ? e : db_do(d, ask_it, &a);
    assert_true(asked || strcmp(a.is, e ? "int 0" : "int 1") == 0);
    struct loop *l = e ? NULL : loop_new();
    struct db_queue *q = l ? db_queue_new(d, l) : NULL;
    db_queue_free(q);
    if (l)
        loop_free(l);
    db_close(d);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_int_equal(live(NULL), PD_OK); /* what SQLite keeps for the process is there now */
    unsigned n = torture_lenient(live, NULL);
    printf("           %u allocations failed in turn\n", n);
    assert_true(n >= 300);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop),
#define SQLITE_PROMISES(TEST)                                      \
    TEST(jobs_that_wait_together_are_committed_together)           \
    TEST(conflicts_need_no_second_run)                             \
    TEST(the_file_is_its_owners)                                   \
    TEST(a_group_is_one_commit)                                    \
    TEST(who_breaks_the_group_takes_nothing_of_the_others_with_it) \
    TEST(who_reads_sees_what_is_committed)                         \
    TEST(a_file_that_will_not_do_is_told_with_what_to_do)          \
    TEST(a_file_is_held_by_one_process)                            \
    TEST(no_other_program_gets_in)                                 \
    TEST(its_folder_is_made)                                       \
    TEST(what_was_told_done_survives_kill_9)                       \
    TEST(survives_every_failed_allocation)
    const struct CMUnitTest tests[] = {DB_PROMISES(TEST) SQLITE_PROMISES(TEST)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
