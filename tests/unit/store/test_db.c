/* What db.h promises, with SQLite: what was told done is there, what failed left nothing. */
#include "base/buf.h"
#include "base/mem.h"
#include "store/db.h"
#include "test.h"
#include "torture.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[80], why[DB_WHY_BYTES];

static struct db *open_db(void)
{
    struct db_rules r;
    struct db *d = NULL;
    db_rules_default(&r);
    pd_err e = db_open(path, &r, &d, why, sizeof(why));
    if (e)
        fprintf(stderr, "%s: %s\n", pd_err_name(e), why);
    assert_int_equal(e, PD_OK);
    return d;
}

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_db.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/perdure.db", folder);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    return rmdir(folder);
}

/* ---- jobs ---- */

static pd_err make_table(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t,
                  "CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY, name TEXT, bytes {lite:BLOB}{pg:BYTEA}, x "
                  "DOUBLE PRECISION)",
                  NULL, 0, NULL, NULL);
}

struct insert {
    int64_t id;
    pd_err result; /* returned after the insert */
    unsigned runs;
};

static pd_err insert(struct tx *t, void *ctx)
{
    struct insert *x = ctx;
    x->runs++;
    pd_err e = TX_RUN(t, "INSERT INTO t (id, name) VALUES ($1, $2)", NULL, NULL, DB_I(x->id), DB_S("row"));
    return e ? e : x->result;
}

static pd_err take_number(void *ctx, const struct db_value *columns, unsigned n)
{
    assert_int_equal(n, 1);
    *(int64_t *)ctx = columns[0].n;
    return PD_OK;
}

static pd_err count(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT COUNT(*) FROM t", NULL, 0, take_number, ctx);
}

static int64_t rows_in(struct db *d)
{
    int64_t n = -1;
    assert_int_equal(db_do(d, count, &n), PD_OK);
    return n;
}

static struct db *with_table(void)
{
    struct db *d = open_db();
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    return d;
}

/* ---- statements ---- */

static pd_err same_values(void *ctx, const struct db_value *v, unsigned n)
{
    (*(unsigned *)ctx)++;
    assert_int_equal(n, 5);
    assert_int_equal(v[0].type, DB_INT);
    assert_true(v[0].n == INT64_MIN);
    assert_int_equal(v[1].type, DB_TEXT);
    assert_true(span_is(v[1].s, "gr\xc3\xbc\xc3\x9f"));
    assert_int_equal(v[2].type, DB_BYTES);
    assert_true(span_eq(v[2].s, span_of("\0\xff{}$1'", 7)));
    assert_int_equal(v[3].type, DB_REAL);
    assert_true(v[3].d == 0.25);
    assert_int_equal(v[4].type, DB_NULL);
    return PD_OK;
}

static pd_err empty_values(void *ctx, const struct db_value *v, unsigned n)
{
    (*(unsigned *)ctx)++;
    assert_int_equal(n, 2);
    assert_int_equal(v[0].type, DB_TEXT);
    assert_int_equal(v[0].s.n, 0);
    assert_int_equal(v[1].type, DB_BYTES);
    assert_int_equal(v[1].s.n, 0);
    return PD_OK;
}

static pd_err write_and_read(struct tx *t, void *ctx)
{
    pd_err e = TX_RUN(t, "INSERT INTO t (id, name, bytes, x) VALUES ($1, $2, $3, $4)", NULL, NULL, DB_I(INT64_MIN),
                      DB_S("gr\xc3\xbc\xc3\x9f"), DB_B(span_of("\0\xff{}$1'", 7)), DB_D(0.25));
    assert_int_equal(tx_changed(t), 1);
    e = e ? e
          : TX_RUN(t, "SELECT id, name, bytes, x, NULL FROM t WHERE id = $1", same_values, ctx, DB_I(INT64_MIN));
    assert_int_equal(tx_changed(t), 0);
    e = e ? e
          : TX_RUN(t, "INSERT INTO t (id, name, bytes) VALUES ($1, $2, $3)", NULL, NULL, DB_I(2), DB_S(NULL),
                   DB_B(SPAN_NONE));
    e = e ? e : TX_RUN(t, "SELECT name, bytes FROM t WHERE id = $1", empty_values, ctx, DB_I(2));
    e = e ? e : TX_RUN(t, "UPDATE t SET name = $1", NULL, NULL, DB_NONE);
    assert_int_equal(tx_changed(t), 2);
    return e;
}

static void values_come_back_as_they_went(void **state)
{
    (void)state;
    struct db *d = with_table();
    unsigned seen = 0;
    assert_int_equal(db_do(d, write_and_read, &seen), PD_OK);
    assert_int_equal(seen, 2);
    assert_false(db_is_postgres(d));
    db_close(d);
}

static void what_was_done_is_there_after_closing(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct insert x = {.id = 1};
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    db_close(d);
    d = open_db();
    assert_int_equal(rows_in(d), 1);
    db_close(d);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_job_that_fails_leaves_nothing(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct insert x = {.id = 1, .result = PD_NOTFOUND};
    assert_int_equal(db_do(d, insert, &x), PD_NOTFOUND);
    assert_int_equal(rows_in(d), 0);
    x.result = PD_OK;
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    assert_int_equal(db_do(d, insert, &x), PD_EXISTS);
    assert_int_equal(rows_in(d), 1);
    db_close(d);
}

static int close_none(void **state)
{
    return drop(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, close_none)
    const struct CMUnitTest tests[] = {
        TEST(values_come_back_as_they_went),
        TEST(what_was_done_is_there_after_closing),
        TEST(a_job_that_fails_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
