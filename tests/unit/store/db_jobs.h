/* db_jobs.h - a database that tests open, and jobs for it. */
#ifndef PERDURE_TESTS_DB_JOBS_H
#define PERDURE_TESTS_DB_JOBS_H

#include "base/buf.h"
#include "base/clock.h"
#include "loop/loop.h"
#include "store/db.h"
#include "test.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char where[300], why[DB_WHY_BYTES];

static pd_err try_open(const struct db_rules *r, struct db **ret)
{
    struct db_rules usual;
    db_rules_default(&usual);
    return db_open(where, r ? r : &usual, ret, why, sizeof(why));
}

static struct db *open_with(const struct db_rules *r)
{
    struct db *d = NULL;
    pd_err e = try_open(r, &d);
    if (e)
        fprintf(stderr, "%s: %s\n", pd_err_name(e), why);
    assert_int_equal(e, PD_OK);
    return d;
}

static pd_err make_table(struct tx *t, void *ctx)
{
    (void)ctx;
    return tx_run(t,
                  "CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY, name TEXT, bytes {lite:BLOB}{pg:BYTEA}, x "
                  "DOUBLE PRECISION, n BIGINT NOT NULL DEFAULT 0)",
                  NULL, 0, NULL, NULL);
}

PD_UNUSED static struct db *with_table(void)
{
    struct db *d = open_with(NULL);
    assert_int_equal(db_do(d, make_table, NULL), PD_OK);
    return d;
}

/* ---- jobs that many tests use ---- */

struct insert {
    int64_t id;
    pd_err result; /* returned after the insert */
    unsigned runs;
};

PD_UNUSED static pd_err insert(struct tx *t, void *ctx)
{
    struct insert *x = ctx;
    x->runs++;
    pd_err e = TX_RUN(t, "INSERT INTO t (id, name) VALUES ($1, $2)", NULL, NULL, DB_I(x->id), DB_S("row"));
    return e ? e : x->result;
}

PD_UNUSED static pd_err take_number(void *ctx, const struct db_value *columns, unsigned n)
{
    assert_int_equal(n, 1);
    assert_true(columns[0].type == DB_INT || columns[0].type == DB_NULL);
    *(int64_t *)ctx = columns[0].n;
    return PD_OK;
}

PD_UNUSED static pd_err count(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT COUNT(*) FROM t", NULL, 0, take_number, ctx);
}

PD_UNUSED static int64_t rows_in(struct db *d)
{
    int64_t n = -1;
    struct db_job job = {.fn = count, .ctx = &n, .reads = true};
    assert_int_equal(db_do_job(d, &job), PD_OK);
    return n;
}

/* Holds one of the database's threads from hold() to let_go(). */
struct gate {
    struct db *d;
    sem_t in, out;
    pthread_t thread;
};

static pd_err wait_at_gate(struct tx *t, void *ctx)
{
    struct gate *g = ctx;
    (void)t;
    sem_post(&g->in);
    sem_wait(&g->out);
    return PD_OK;
}

static void *hold_main(void *arg)
{
    struct gate *g = arg;
    return db_do(g->d, wait_at_gate, g) == PD_OK ? NULL : g;
}

static void hold(struct db *d, struct gate *g)
{
    g->d = d;
    sem_init(&g->in, 0, 0);
    sem_init(&g->out, 0, 0);
    assert_int_equal(pthread_create(&g->thread, NULL, hold_main, g), 0);
    sem_wait(&g->in);
}

PD_UNUSED static void let_go(struct gate *g)
{
    void *failed = NULL;
    sem_post(&g->out);
    pthread_join(g->thread, &failed);
    assert_null(failed);
    sem_destroy(&g->in);
    sem_destroy(&g->out);
}

#endif
