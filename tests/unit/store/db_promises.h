/* db_promises.h - what db.h promises whatever is behind it: included by the tests of SQLite and of PostgreSQL, which say where. */
#ifndef PERDURE_TESTS_DB_PROMISES_H
#define PERDURE_TESTS_DB_PROMISES_H

#include "base/buf.h"
#include "db_jobs.h"

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
    assert_true(v[3].d == -0.3);
    assert_int_equal(v[4].type, DB_NULL);
    return PD_OK;
}

static pd_err empty_values(void *ctx, const struct db_value *v, unsigned n)
{
    (*(unsigned *)ctx)++;
    assert_int_equal(n, 3);
    assert_int_equal(v[0].type, DB_TEXT);
    assert_int_equal(v[0].s.n, 0);
    assert_int_equal(v[1].type, DB_BYTES);
    assert_int_equal(v[1].s.n, 0);
    assert_int_equal(v[2].type, DB_NULL);
    return PD_OK;
}

static pd_err write_and_read(struct tx *t, void *ctx)
{
    pd_err e = TX_RUN(t, "INSERT INTO t (id, name, bytes, x) VALUES ($1, $2, $3, $4)", NULL, NULL, DB_I(INT64_MIN),
                      DB_S("gr\xc3\xbc\xc3\x9f"), DB_B(span_of("\0\xff{}$1'", 7)), DB_D(-0.3));
    assert_int_equal(tx_changed(t), 1);
    e = e ? e
          : TX_RUN(t, "SELECT id, name, bytes, x, NULL FROM t WHERE id = $1", same_values, ctx, DB_I(INT64_MIN));
    assert_int_equal(tx_changed(t), 0);
    e = e ? e
          : TX_RUN(t, "INSERT INTO t (id, name, bytes, x) VALUES ($1, $2, $3, $4)", NULL, NULL, DB_I(2),
                   DB_S(NULL), DB_B(SPAN_NONE), DB_NONE);
    e = e ? e : TX_RUN(t, "SELECT name, bytes, x FROM t WHERE id = $1", empty_values, ctx, DB_I(2));
    e = e ? e : TX_RUN(t, "UPDATE t SET name = $1", NULL, NULL, DB_NONE);
    assert_int_equal(tx_changed(t), 2);
    e = e ? e : TX_RUN(t, "UPDATE t SET name = $1 WHERE id = $2", NULL, NULL, DB_S("x"), DB_I(77));
    assert_int_equal(tx_changed(t), 0);
    e = e ? e
          : TX_RUN(t, "INSERT INTO t (id) VALUES ($1), ($2), ($3) ON CONFLICT (id) DO NOTHING RETURNING id", NULL,
                   NULL, DB_I(2), DB_I(3), DB_I(4));
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
    db_close(d);
}

/* What an expression gives, as "int 5", "real 0.25", "text x", "bytes x", "null". */
static const struct expression {
    const char *sql, *is;
} expressions[] = {
    {"SELECT SUM(n) FROM (SELECT 9007199254740993 AS n UNION ALL SELECT 1) AS q", "int 9007199254740994"},
    {"SELECT SUM(n) FROM (SELECT CAST(-5 AS BIGINT) AS n UNION ALL SELECT 1) AS q", "int -4"},
    {"SELECT SUM(n) FROM (SELECT CAST(20000 AS BIGINT) AS n UNION ALL SELECT -20000) AS q", "int 0"},
    {"SELECT SUM(n) FROM (SELECT CAST(120000000 AS BIGINT) AS n UNION ALL SELECT -20000000) AS q",
     "int 100000000"},
    {"SELECT SUM(n) FROM (SELECT CAST(9223372036854775807 AS BIGINT) AS n) AS q", "int 9223372036854775807"},
    {"SELECT AVG(n) FROM (SELECT CAST(1 AS BIGINT) AS n UNION ALL SELECT 2) AS q", "real 1.5"},
    {"SELECT AVG(n) FROM (SELECT CAST(-1234567 AS BIGINT) AS n) AS q", "real -1.23457e+06"},
    {"SELECT AVG(n) FROM (SELECT CAST(120000000 AS BIGINT) AS n) AS q", "real 1.2e+08"},
    {"SELECT AVG(n) FROM (SELECT CAST(0 AS BIGINT) AS n UNION ALL SELECT 0 UNION ALL SELECT 0 UNION ALL SELECT 1) "
     "AS q",
     "real 0.25"},
    {"SELECT MAX(id) FROM t", "null"},
    {"SELECT SUM(n) FROM t", "null"},
    {"SELECT COUNT(*) FROM t", "int 0"},
    {"SELECT CAST(7 AS SMALLINT)", "int 7"},
    {"SELECT -7", "int -7"},
    {"SELECT 'a' || 'b'", "text ab"},
    {"SELECT CAST(0.5 AS DOUBLE PRECISION)", "real 0.5"},
    {"SELECT CAST(0.5 AS REAL)", "real 0.5"},
    {"SELECT {lite:CAST('xy' AS BLOB)}{pg:CAST('xy' AS BYTEA)}", "bytes xy"},
    {"SELECT COALESCE(MAX(n), 0) + 1 FROM t", "int 1"},
    {"SELECT CASE WHEN 1 = 1 THEN 'x' ELSE 'y' END", "text x"},
};

static pd_err describe(void *ctx, const struct db_value *v, unsigned n)
{
    static const char *const names[] = {
        [DB_NULL] = "null", [DB_INT] = "int ", [DB_REAL] = "real ", [DB_TEXT] = "text ", [DB_BYTES] = "bytes "};
    char *out = ctx;
    assert_int_equal(n, 1);
    int at = snprintf(out, 100, "%s", names[v->type]);
    if (v->type == DB_INT)
        snprintf(out + at, 80, "%lld", (long long)v->n);
    else if (v->type == DB_REAL)
        snprintf(out + at, 80, "%g", v->d);
    else
        snprintf(out + at, 80, "%.*s", SPAN_FMT(v->s));
    return PD_OK;
}

struct asked {
    const char *sql;
    char is[100];
};

static pd_err ask_it(struct tx *t, void *ctx)
{
    struct asked *a = ctx;
    return tx_run(t, a->sql, NULL, 0, describe, a->is);
}

static void both_give_the_same_types(void **state)
{
    (void)state;
    struct db *d = with_table();
    for (size_t i = 0; i < sizeof(expressions) / sizeof(expressions[0]); i++) {
        struct asked a = {.sql = expressions[i].sql};
        assert_int_equal(db_do(d, ask_it, &a), PD_OK);
        assert_string_equal(a.is, expressions[i].is);
    }
    db_close(d);
}

static void what_was_done_is_there_after_closing(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct insert x = {.id = 1};
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    db_close(d);
    d = open_with(NULL);
    assert_int_equal(rows_in(d), 1);
    db_close(d);
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
    struct db_stats s;
    db_stats(d, &s);
    assert_int_equal(s.failed, 2);
    assert_int_equal(s.again, 0);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.jobs, 6);
    db_close(d);
}

/* ---- statements that fail ---- */

struct bad {
    const char *name, *sql;
    struct db_value args[2];
    unsigned args_count;
    pd_err e;
    bool reads;
};
static const struct bad bads[] = {
    {"no SQL", "SELEC 1", {{0}}, 0, PD_INVALID, false},
    {"no such table", "SELECT 1 FROM nobody", {{0}}, 0, PD_INVALID, false},
    {"an open brace", "SELECT {pg:1", {{0}}, 0, PD_INVALID, false},
    {"an argument is missing",
     "INSERT INTO t (id, name) VALUES ($1, $2)",
     {{.type = DB_INT, .n = 9}},
     1,
     PD_INVALID,
     false},
    {"two statements",
     "INSERT INTO t (id) VALUES (8); INSERT INTO t (id) VALUES (9)",
     {{0}},
     0,
     PD_INVALID,
     false},
    {"text that is no UTF-8",
     "INSERT INTO t (id, name) VALUES (9, $1)",
     {{.type = DB_TEXT, .s = {"\xff", 1}}},
     1,
     PD_INVALID,
     false},
    {"text with a NUL",
     "INSERT INTO t (id, name) VALUES (9, $1)",
     {{.type = DB_TEXT, .s = {"a\0b", 3}}},
     1,
     PD_INVALID,
     false},
    {"NULL where none may be", "INSERT INTO t (id, n) VALUES (9, $1)", {{.type = DB_NULL}}, 1, PD_INVALID, false},
    {"a key that is taken", "INSERT INTO t (id) VALUES ($1)", {{.type = DB_INT, .n = 1}}, 1, PD_EXISTS, false},
    {"one that reads writes", "INSERT INTO t (id) VALUES ($1)", {{.type = DB_INT, .n = 9}}, 1, PD_INVALID, true},
};

static pd_err run_bad(struct tx *t, void *ctx)
{
    const struct bad *b = ctx;
    if (!b->reads)
        assert_int_equal(TX_RUN(t, "INSERT INTO t (id) VALUES ($1)", NULL, NULL, DB_I(100)), PD_OK);
    assert_int_equal(tx_run(t, b->sql, b->args, b->args_count, NULL, NULL), b->e);
    assert_int_equal(tx_run(t, "SELECT 1", NULL, 0, NULL, NULL), b->e); /* the transaction is lost */
    return PD_OK;                                                       /* whatever it says: */
}

static void a_statement_that_fails_is_the_end_of_its_job(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct insert x = {.id = 1};
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        struct bad b = bads[i];
        struct db_job job = {.fn = run_bad, .ctx = &b, .reads = b.reads};
        pd_err e = db_do_job(d, &job);
        if (e != b.e)
            fprintf(stderr, "%s: %s\n", b.name, pd_err_name(e));
        assert_int_equal(e, b.e);
        assert_int_equal(rows_in(d), 1);
    }
    struct db_stats s;
    db_stats(d, &s);
    assert_int_equal(s.again, 0); /* mistakes are not tried again */
    db_close(d);
}

static pd_err make_child(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "CREATE TABLE c (id BIGINT PRIMARY KEY REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)",
                  NULL, 0, NULL, NULL);
}

static pd_err insert_orphan(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "INSERT INTO c (id) VALUES (1)", NULL, 0, NULL, NULL);
}

static void what_the_commit_refuses_is_not_there_and_others_go_on(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct insert x = {.id = 1};
    assert_int_equal(db_do(d, make_child, NULL), PD_OK);
    assert_int_equal(db_do(d, insert_orphan, NULL), PD_INVALID);
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    assert_int_equal(db_do(d, insert_orphan, NULL), PD_OK); /* it has its parent now, and was not there before */
    db_close(d);
}

static pd_err third(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)columns;
    (void)n;
    return ++*(unsigned *)ctx == 3 ? PD_TOOBIG : PD_OK;
}

static pd_err stop_at_the_third(struct tx *t, void *ctx)
{
    unsigned seen = 0;
    (void)ctx;
    assert_int_equal(
        tx_run(t, "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4", NULL, 0, third, &seen),
        PD_TOOBIG);
    assert_int_equal(seen, 3);
    return TX_RUN(t, "INSERT INTO t (id) VALUES ($1)", NULL, NULL, DB_I(5));
}

static void a_row_may_end_its_statement_and_not_the_job(void **state)
{
    (void)state;
    struct db *d = with_table();
    assert_int_equal(db_do(d, stop_at_the_third, NULL), PD_OK);
    assert_int_equal(rows_in(d), 1);
    db_close(d);
}

static pd_err own_row(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)columns;
    (void)n;
    return tx_run(ctx, "SELECT 1", NULL, 0, NULL, NULL);
}

static pd_err run_in_row(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "SELECT 2", NULL, 0, own_row, t);
}

static void a_row_does_not_run_statements(void **state)
{
    (void)state;
    struct db *d = with_table();
    assert_int_equal(db_do(d, run_in_row, NULL), PD_INVALID);
    db_close(d);
}

static void another_text_at_the_same_address_is_another_statement(void **state)
{
    (void)state;
    struct db *d = open_with(NULL);
    char sql[40];
    struct asked a = {.sql = sql};
    for (int i = 0; i < 3000; i++) { /* more than are kept */
        snprintf(sql, sizeof(sql), "SELECT %d", i);
        assert_int_equal(db_do(d, ask_it, &a), PD_OK);
        assert_int_equal(atoi(a.is + 4), i);
    }
    db_close(d);
}

static pd_err with_types(struct tx *t, void *ctx)
{
    const struct db_value *v = ctx;
    return tx_run(t, "INSERT INTO t (id, name) VALUES (COALESCE((SELECT MAX(id) FROM t), 0) + 1, $1)", v, 1, NULL,
                  NULL);
}

static void a_value_may_be_there_or_not(void **state)
{
    (void)state;
    struct db *d = with_table();
    struct db_value none = DB_NONE, text = DB_S("x");
    assert_int_equal(db_do(d, with_types, &none), PD_OK);
    assert_int_equal(db_do(d, with_types, &text), PD_OK);
    assert_int_equal(db_do(d, with_types, &none), PD_OK);
    db_close(d);
}

struct same {
    struct db_value v;
    char is[100];
};

static pd_err ask_same(struct tx *t, void *ctx)
{
    struct same *s = ctx;
    return tx_run(t, "SELECT $1", &s->v, 1, describe, s->is);
}

static void a_value_may_have_another_type_the_next_time(void **state)
{
    (void)state;
    static const struct row {
        struct db_value v;
        const char *is;
    } rows[] = {
        {{.type = DB_TEXT, .s = {"x", 1}}, "text x"},
        {{.type = DB_INT, .n = 7}, "int 7"},
        {{.type = DB_REAL, .d = 0.5}, "real 0.5"},
        {{.type = DB_BYTES, .s = {"y", 1}}, "bytes y"},
        {{.type = DB_NULL}, "null"},
        {{.type = DB_TEXT, .s = {"z", 1}}, "text z"},
    };
    struct db *d = open_with(NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct same s = {.v = rows[i].v};
        assert_int_equal(db_do(d, ask_same, &s), PD_OK);
        assert_string_equal(s.is, rows[i].is);
    }
    db_close(d);
}

/* ---- time ---- */

static pd_err never_ends(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(
        t,
        "WITH RECURSIVE r(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM r) SELECT COUNT(*) FROM r",
        NULL, 0, NULL, NULL);
}

static void a_statement_has_a_deadline(void **state)
{
    (void)state;
    struct db_rules r;
    db_rules_default(&r);
    r.timeout_ms = 200;
    struct db *d = open_with(&r);
    uint64_t before = clock_mono_ms();
    assert_int_equal(db_do(d, never_ends, NULL), PD_TIMEOUT);
    assert_true(clock_mono_ms() - before >= 200 && clock_mono_ms() - before < 10000);
    char trouble[DB_WHY_BYTES];
    db_trouble(d, trouble, sizeof(trouble));
    assert_true(trouble[0]);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    db_trouble(d, trouble, sizeof(trouble));
    assert_string_equal(trouble, "");
    db_close(d);
}

/* ---- loops ---- */

struct client {
    struct db *d;
    struct loop *loop;
    struct db_queue *queue;
    pthread_t thread;
    unsigned first, jobs, done, wrong, failing; /* failing: every so many-th job fails by itself */
    struct one {
        struct client *client;
        struct db_job job;
        struct insert insert;
    } * each;
};

static void on_done(void *ctx, pd_err err)
{
    struct one *o = ctx;
    struct client *c = o->client;
    c->wrong += !pthread_equal(pthread_self(), c->thread) || err != o->insert.result;
    if (++c->done == c->jobs)
        loop_stop(c->loop);
}

static pd_err insert_one(struct tx *t, void *ctx)
{
    struct one *o = ctx;
    return insert(t, &o->insert);
}

/* Before its thread, and its end after it: descriptors that libuv closes unseen are given to another thread meanwhile, which looks like a race. */
static void client_begin(struct client *c)
{
    c->thread = pthread_self();
    c->loop = loop_new();
    c->queue = db_queue_new(c->d, c->loop);
    c->each = calloc(c->jobs, sizeof(*c->each));
    for (unsigned i = 0; i < c->jobs; i++) {
        struct one *o = &c->each[i];
        o->client = c;
        o->job = (struct db_job){.fn = insert_one, .done = on_done, .ctx = o};
        o->insert.id = c->first + i;
        o->insert.result = c->failing && i % c->failing == 0 ? PD_NOTFOUND : PD_OK;
    }
}

static void client_end(struct client *c)
{
    db_queue_free(c->queue);
    loop_free(c->loop);
    free(c->each);
}

static void *client_run(void *arg)
{
    struct client *c = arg;
    c->thread = pthread_self();
    for (unsigned i = 0; i < c->jobs; i++)
        c->wrong += db_submit(c->queue, &c->each[i].job) != PD_OK;
    loop_run(c->loop);
    return NULL;
}

enum { CLIENTS = 8, JOBS_EACH = 125 };

/* Returns the commits that it took. */
static uint64_t thousand_jobs(unsigned failing)
{
    struct db *d = with_table();
    struct client clients[CLIENTS];
    struct db_stats before, after;
    unsigned wanted = 0;
    db_stats(d, &before);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.d = d, .first = 1000 * i, .jobs = JOBS_EACH, .failing = failing};
        client_begin(&clients[i]);
        wanted += JOBS_EACH - (failing ? (JOBS_EACH + failing - 1) / failing : 0);
    }
    pthread_t threads[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, client_run, &clients[i]), 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        client_end(&clients[i]);
        assert_int_equal(clients[i].done, JOBS_EACH);
        assert_int_equal(clients[i].wrong, 0);
    }
    assert_int_equal(rows_in(d), wanted);
    db_stats(d, &after);
    assert_int_equal(after.jobs - before.jobs, CLIENTS * JOBS_EACH + 1);
    db_close(d);
    return after.commits - before.commits;
}

static void one_that_fails_takes_nothing_of_the_others_with_it(void **state)
{
    (void)state;
    thousand_jobs(3);
}

static struct db *one_connection(unsigned waiting)
{
    struct db_rules r;
    db_rules_default(&r);
    r.connections = 1;
    r.waiting = waiting;
    struct db *d = open_with(&r);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    return d;
}

static void who_comes_when_too_many_wait_is_told(void **state)
{
    (void)state;
    struct db *d = one_connection(3);
    struct gate g;
    struct client c = {.d = d, .jobs = 4};
    client_begin(&c);
    hold(d, &g);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(db_submit(c.queue, &c.each[i].job), i < 3 ? PD_OK : PD_TOOBIG);
    struct db_stats s;
    db_stats(d, &s);
    assert_int_equal(s.waiting, 3);
    assert_int_equal(db_do(d, count, NULL), PD_TOOBIG);
    let_go(&g);
    c.jobs = 3;
    loop_run(c.loop);
    assert_int_equal(rows_in(d), 3);
    client_end(&c);
    db_close(d);
}

static void *close_it(void *arg)
{
    db_close(arg);
    return NULL;
}

static void closing_ends_what_waits(void **state)
{
    (void)state;
    struct db *d = one_connection(100);
    struct gate g;
    struct client c = {.d = d, .jobs = 20};
    pthread_t closer;
    client_begin(&c);
    hold(d, &g);
    for (unsigned i = 0; i < c.jobs; i++)
        assert_int_equal(db_submit(c.queue, &c.each[i].job), PD_OK);
    assert_int_equal(pthread_create(&closer, NULL, close_it, d), 0);
    let_go(&g);
    pthread_join(closer, NULL);
    loop_run(c.loop); /* the answers are there, the database is not any more */
    assert_int_equal(c.done, 20);
    assert_int_equal(c.wrong, 0);
    client_end(&c);
    d = open_with(NULL);
    assert_int_equal(rows_in(d), 20);
    db_close(d);
}

/* ---- at once ---- */

static pd_err add_one(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "UPDATE t SET n = n + 1 WHERE id = 1", NULL, 0, NULL, NULL);
}

static pd_err read_then_write(struct tx *t, void *ctx)
{
    int64_t n = -1;
    (void)ctx;
    pd_err e = tx_run(t, "SELECT n FROM t WHERE id = 1", NULL, 0, take_number, &n);
    return e ? e : TX_RUN(t, "UPDATE t SET n = $1 WHERE id = 1", NULL, NULL, DB_I(n + 1));
}

struct adder {
    struct db *d;
    db_job_fn *fn;
    unsigned times, failed;
};

static void *add_many(void *arg)
{
    struct adder *a = arg;
    for (unsigned i = 0; i < a->times; i++) {
        struct db_job job = {.fn = a->fn, .serial = a->fn == read_then_write};
        a->failed += db_do_job(a->d, &job) != PD_OK;
    }
    return NULL;
}

static pd_err read_n(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT n FROM t WHERE id = 1", NULL, 0, take_number, ctx);
}

/* Eight threads count in one row. Returns how many runs it took more than there were jobs. */
static uint64_t count_together(db_job_fn *fn, unsigned times)
{
    struct db_rules r;
    struct db_stats before, after;
    struct insert x = {.id = 1};
    db_rules_default(&r);
    r.connections = 8;
    struct db *d = open_with(&r);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    assert_int_equal(db_do(d, insert, &x), PD_OK);
    db_stats(d, &before);
    struct adder a[8];
    pthread_t threads[8];
    for (unsigned i = 0; i < 8; i++) {
        a[i] = (struct adder){.d = d, .fn = fn, .times = times};
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &a[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(a[i].failed, 0);
    }
    db_stats(d, &after);
    int64_t n = 0;
    assert_int_equal(db_do(d, read_n, &n), PD_OK);
    assert_int_equal(n, 8 * times);
    db_close(d);
    return after.again - before.again;
}

static void eight_threads_count_right(void **state)
{
    (void)state;
    assert_int_equal(count_together(add_one, 50), 0);
}

/* ---- migrations ---- */

static pd_err read_version(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT MAX(version) FROM perdure_schema", NULL, 0, take_number, ctx);
}

static pd_err from_the_future(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t, "INSERT INTO perdure_schema (version, name, applied_ms) VALUES (1000000, 'x', 1)", NULL, 0,
                  NULL, NULL);
}

static pd_err forget_tables(struct tx *t, void *ctx);

static void every_old_version_is_brought_up(void **state)
{
    (void)state;
    struct db *d = open_with(NULL);
    int64_t newest = 0, n = 0;
    assert_int_equal(db_do(d, read_version, &newest), PD_OK);
    assert_true(newest >= 3);
    db_close(d);
    for (int64_t old = 1; old <= newest; old++) {
        struct db_rules r;
        db_rules_default(&r);
        d = open_with(NULL);
        assert_int_equal(db_do(d, forget_tables, NULL), PD_OK);
        db_close(d);
        r.only_to = (unsigned)old;
        d = open_with(&r);
        assert_int_equal(db_do(d, read_version, &n), PD_OK);
        assert_int_equal(n, old);
        db_close(d);
        r.only_to = 0;
        r.migrate = false;
        assert_int_equal(try_open(&r, &d), old < newest ? PD_UNSUPPORTED : PD_OK);
        if (old < newest)
            assert_non_null(strstr(why, "older"));
        else
            db_close(d);
        d = open_with(NULL);
        assert_int_equal(db_do(d, read_version, &n), PD_OK);
        assert_int_equal(n, newest);
        db_close(d);
    }
}

static void tables_of_a_newer_program_are_left_alone(void **state)
{
    (void)state;
    struct db *d = open_with(NULL);
    assert_int_equal(db_do(d, from_the_future, NULL), PD_OK);
    db_close(d);
    assert_int_equal(try_open(NULL, &d), PD_UNSUPPORTED);
    assert_non_null(strstr(why, "newer"));
}

#define DB_PROMISES(TEST)                                       \
    TEST(values_come_back_as_they_went)                         \
    TEST(both_give_the_same_types)                              \
    TEST(what_was_done_is_there_after_closing)                  \
    TEST(a_job_that_fails_leaves_nothing)                       \
    TEST(a_statement_that_fails_is_the_end_of_its_job)          \
    TEST(what_the_commit_refuses_is_not_there_and_others_go_on) \
    TEST(a_row_may_end_its_statement_and_not_the_job)           \
    TEST(a_row_does_not_run_statements)                         \
    TEST(another_text_at_the_same_address_is_another_statement) \
    TEST(a_value_may_have_another_type_the_next_time)           \
    TEST(a_value_may_be_there_or_not)                           \
    TEST(a_statement_has_a_deadline)                            \
    TEST(one_that_fails_takes_nothing_of_the_others_with_it)    \
    TEST(who_comes_when_too_many_wait_is_told)                  \
    TEST(closing_ends_what_waits)                               \
    TEST(eight_threads_count_right)                             \
    TEST(every_old_version_is_brought_up)                       \
    TEST(tables_of_a_newer_program_are_left_alone)

#endif
