#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "parse/utf8.h"
#include "store/db_priv.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum {
    CONNECTIONS = 4,
    CONNECTIONS_MAX = 64,
    WAITING = 10000,
    TIMEOUT_MS = 30 * 1000,
    PATIENCE_MS = 60 * 1000,
    WAL_PAGES = 1000,
    SAID_EVERY_MS = 10 * 1000, /* a disk that fails now and then is not logged each time */
};

/* A loop's door: what is done waits here for its turn. It has a lock of its own, so that it may outlive the database. */
struct db_queue {
    struct db *db;
    struct waker *waker;
    pthread_mutex_t lock;
    struct list done;
};

void db_rules_default(struct db_rules *r)
{
    *r = (struct db_rules){.connections = CONNECTIONS,
                           .waiting = WAITING,
                           .timeout_ms = TIMEOUT_MS,
                           .patience_ms = PATIENCE_MS,
                           .wal_pages = WAL_PAGES,
                           .migrate = true};
}

/* ---- jobs ---------------------------------------------------------------- */

static pd_err add_job(struct db *d, struct db_job *job)
{
    pd_err e = PD_OK;
    job->err = PD_OK;
    job->finished = job->taken = false;
    job->since_ms = clock_mono_ms();
    pthread_mutex_lock(&d->lock);
    if (d->closing)
        e = PD_CLOSED;
    else if (d->stats.waiting >= d->rules.waiting)
        e = PD_TOOBIG;
    else {
        list_push(&d->waiting, &job->node);
        d->stats.waiting++;
        d->visitors += job->from == NULL;
        pthread_cond_signal(&d->work);
    }
    pthread_mutex_unlock(&d->lock);
    return e;
}

bool db_take(struct db *d, unsigned most, struct list *into)
{
    struct list *node;
    pthread_mutex_lock(&d->lock);
    while (list_empty(&d->waiting) && !d->closing)
        pthread_cond_wait(&d->work, &d->lock);
    for (unsigned n = 0; n < most && (node = list_first(&d->waiting)) != NULL; n++) {
        list_remove(node);
        list_push(into, node);
        LIST_OF(node, struct db_job, node)->taken = true;
        d->stats.waiting--;
    }
    pthread_mutex_unlock(&d->lock);
    return !list_empty(into);
}

/* A disk or a server that fails is logged when it begins, and when it is well again. */
void db_log(struct db *d, pd_err e, bool wrote)
{
    char why[DB_WHY_BYTES], quoted[DB_WHY_BYTES + 40];
    bool bad = e == PD_IO || e == PD_NOSPACE || e == PD_TIMEOUT, news = false;
    uint64_t now = clock_mono_ms();
    pthread_mutex_lock(&d->lock);
    d->stats.failing |= bad;
    if (bad && !d->unwell && (!d->said_ms || now - d->said_ms >= SAID_EVERY_MS)) {
        news = d->unwell = true;
        d->said_ms = now;
    } else if (!e && wrote && d->unwell) {
        news = true;
        d->unwell = false;
    }
    snprintf(why, sizeof(why), "%s", d->trouble[0] ? d->trouble : pd_err_text(e));
    pthread_mutex_unlock(&d->lock);
    if (news && bad)
        LOG(NULL, LOG_WARN, "database.trouble",
            "why=%s remedy=\"what failed is refused, and may be sent again; what was acknowledged stays\"",
            log_quote(span_str(why), quoted, sizeof(quoted)));
    else if (news)
        LOG(NULL, LOG_INFO, "database.well", "writes=again");
}

static void tell_done(struct db_queue *q, struct db_job *job)
{
    pthread_mutex_lock(&q->lock);
    list_push(&q->done, &job->node);
    waker_wake(q->waker); /* under the lock: after it the loop may have freed the queue */
    pthread_mutex_unlock(&q->lock);
}

void db_finish(struct db *d, struct db_job *job, pd_err e)
{
    struct db_queue *q = job->from;
    db_log(d, e, !job->reads);
    pthread_mutex_lock(&d->lock);
    d->stats.jobs++;
    d->stats.failed += e != PD_OK;
    job->err = e;
    if (!q) {
        job->finished = true;
        pthread_cond_broadcast(&d->finished);
    }
    pthread_mutex_unlock(&d->lock);
    if (q)
        tell_done(q, job);
}

void db_queue_refuse(struct db_queue *q, struct db_job *job, pd_err e)
{
    job->from = q;
    job->err = e;
    tell_done(q, job);
}

bool db_closing(struct db *d)
{
    pthread_mutex_lock(&d->lock);
    bool closing = d->closing;
    pthread_mutex_unlock(&d->lock);
    return closing;
}

bool db_pause(struct db *d, uint64_t until_ms)
{
    struct timespec at = {.tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000) * 1000000};
    pthread_mutex_lock(&d->lock);
    while (!d->closing && clock_mono_ms() < until_ms)
        pthread_cond_timedwait(&d->finished, &d->lock, &at);
    bool closing = d->closing;
    pthread_mutex_unlock(&d->lock);
    return closing;
}

void db_count(struct db *d, uint64_t commits, uint64_t again, uint64_t connects)
{
    pthread_mutex_lock(&d->lock);
    d->stats.commits += commits;
    d->stats.again += again;
    d->stats.connects += connects;
    pthread_mutex_unlock(&d->lock);
}

void db_say(struct db *d, const char *fmt, ...)
{
    char text[DB_WHY_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (size_t n = strlen(text); n && (text[n - 1] == '\n' || text[n - 1] == ' '); n--)
        text[n - 1] = '\0';
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = ' ';
    pthread_mutex_lock(&d->lock);
    memcpy(d->trouble, text, sizeof(text));
    pthread_mutex_unlock(&d->lock);
}

void db_well(struct db *d)
{
    pthread_mutex_lock(&d->lock);
    d->trouble[0] = '\0';
    d->stats.failing = false;
    pthread_mutex_unlock(&d->lock);
}

void db_lost(struct db *d)
{
    pthread_mutex_lock(&d->lock);
    d->stats.failing = true;
    pthread_mutex_unlock(&d->lock);
}

/* ---- loops, and those who wait ------------------------------------------- */

static void on_wake(void *ctx)
{
    struct db_queue *q = ctx;
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&q->lock);
    if (!list_empty(&q->done)) { /* all of them at once: jobs that these begin come with the next turn */
        done = q->done;
        done.next->prev = done.prev->next = &done;
        list_init(&q->done);
    }
    pthread_mutex_unlock(&q->lock);
    struct list *node;
    while ((node = list_first(&done)) != NULL) {
        struct db_job *job = LIST_OF(node, struct db_job, node);
        list_remove(node);
        job->done(job->ctx, job->err);
    }
}

struct db_queue *db_queue_new(struct db *d, struct loop *l)
{
    struct db_queue *q = mem_zalloc(sizeof(*q));
    if (!q)
        return NULL;
    q->db = d;
    list_init(&q->done);
    q->waker = waker_new(l, on_wake, q);
    if (!q->waker) {
        mem_free(q);
        return NULL;
    }
    pthread_mutex_init(&q->lock, NULL);
    return q;
}

struct db_queue *db_queue_free(struct db_queue *q)
{
    if (!q)
        return NULL;
    pthread_mutex_lock(&q->lock); /* whoever gave the last one back has let go of it */
    assert(list_empty(&q->done));
    pthread_mutex_unlock(&q->lock);
    waker_free(q->waker);
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
    return NULL;
}

void db_queue_settle(struct db_queue *q)
{
    if (q)
        on_wake(q);
}

pd_err db_submit(struct db_queue *q, struct db_job *job)
{
    job->from = q;
    return add_job(q->db, job);
}

/* Under the lock. Until it is done, or nobody has begun it when its time is over. */
static void wait_for_job(struct db *d, struct db_job *job)
{
    uint64_t until = job->since_ms + job->limit_ms;
    struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
    while (!job->finished) {
        if (!job->limit_ms || job->taken) {
            pthread_cond_wait(&d->finished, &d->lock);
        } else if (clock_mono_ms() < until) {
            pthread_cond_timedwait(&d->finished, &d->lock, &at);
        } else {
            list_remove(&job->node);
            d->stats.waiting--;
            job->err = PD_TIMEOUT;
            job->finished = true;
        }
    }
}

pd_err db_do_job(struct db *d, struct db_job *job)
{
    job->from = NULL;
    pd_err e = add_job(d, job);
    if (e)
        return e;
    pthread_mutex_lock(&d->lock);
    wait_for_job(d, job);
    if (--d->visitors == 0 && d->closing)
        pthread_cond_broadcast(&d->finished);
    pthread_mutex_unlock(&d->lock);
    return job->err;
}

pd_err db_do(struct db *d, db_job_fn *fn, void *ctx)
{
    struct db_job job = {.fn = fn, .ctx = ctx};
    return db_do_job(d, &job);
}

/* ---- statements ---------------------------------------------------------- */

static bool args_are_texts(const struct db_value *args, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (args[i].type == DB_TEXT &&
            (!utf8_valid(args[i].s) || (args[i].s.n && memchr(args[i].s.p, '\0', args[i].s.n))))
            return false;
    return true;
}

pd_err tx_run(struct tx *t, const char *sql, const struct db_value *args, unsigned args_count, db_row_fn *fn,
              void *ctx)
{
    if (t->lost)
        return t->lost;
    if (t->in_row || args_count > SQL_ARGS_MAX || !args_are_texts(args, args_count)) {
        db_say(t->db, "a text is not UTF-8, or a row's function used its transaction: %.200s", sql);
        return t->lost = PD_INVALID;
    }
    return t->db->backend->run(t, sql, args, args_count, fn, ctx);
}

int64_t tx_changed(const struct tx *t)
{
    return t->changed;
}

pd_err db_run_job(struct tx *t)
{
    pd_err e = t->job->fn(t, t->job->ctx);
    return t->lost ? t->lost : e;
}

pd_err db_give_row(struct tx *t, db_row_fn *fn, void *ctx, const struct db_value *columns, unsigned n)
{
    if (!fn)
        return PD_OK;
    t->in_row = true;
    pd_err e = fn(ctx, columns, n);
    t->in_row = false;
    return e;
}

static struct statement **bucket(struct statements *s, const char *sql)
{
    return &s->buckets[((uintptr_t)sql >> 3) % DB_BUCKETS];
}

struct statement *statements_find(struct statements *s, const char *sql, uint64_t types)
{
    for (struct statement *st = *bucket(s, sql); st; st = st->next)
        if (st->at == sql && st->types == types && strcmp(st->text, sql) == 0)
            return st;
    return NULL;
}

pd_err statements_add(struct statements *s, const char *sql, uint64_t types, bool postgres, struct statement **ret,
                      struct buf *text)
{
    struct statement *st = mem_zalloc(sizeof(*st));
    if (!st)
        return PD_NOMEM;
    st->at = sql;
    st->types = types;
    st->text = mem_strdup(sql);
    pd_err e = st->text ? sql_expand(sql, postgres, text, &st->args) : PD_NOMEM;
    if (e) {
        mem_free(st->text);
        mem_free(st);
        return e;
    }
    st->next = *bucket(s, sql);
    *bucket(s, sql) = st;
    s->count++;
    *ret = st;
    return PD_OK;
}

void statements_drop(struct statements *s, struct statement *st)
{
    struct statement **at = bucket(s, st->at);
    while (*at != st)
        at = &(*at)->next;
    *at = st->next;
    s->count--;
    mem_free(st->text);
    mem_free(st);
}

void statements_clear(struct statements *s, void (*end)(struct statement *st))
{
    for (unsigned i = 0; i < DB_BUCKETS; i++)
        while (s->buckets[i]) {
            if (end)
                end(s->buckets[i]);
            statements_drop(s, s->buckets[i]);
        }
}

/* ---- opening and closing ------------------------------------------------- */

struct starting {
    struct db *db;
    unsigned thread;
};

static void *thread_main(void *arg)
{
    struct starting at = *(struct starting *)arg;
    mem_free(arg);
    at.db->backend->serve(at.db, at.thread);
    return NULL;
}

static pd_err start_threads(struct db *d)
{
    unsigned n = d->backend->threads(d);
    d->threads = mem_calloc(n, sizeof(*d->threads));
    if (!d->threads)
        return PD_NOMEM;
    for (unsigned i = 0; i < n; i++) {
        struct starting *s = mem_alloc(sizeof(*s));
        if (!s)
            return PD_NOMEM;
        *s = (struct starting){d, i};
        if (pthread_create(&d->threads[i], NULL, thread_main, s) != 0) {
            mem_free(s);
            return PD_NOMEM;
        }
        d->threads_count++;
    }
    return PD_OK;
}

static bool is_url(const char *where)
{
    return span_starts(span_str(where), "postgres://") || span_starts(span_str(where), "postgresql://");
}

static struct db *db_new(const char *where, const struct db_rules *r)
{
    struct db *d = mem_zalloc(sizeof(*d));
    if (!d)
        return NULL;
    d->backend = is_url(where) ? &db_postgres : &db_sqlite;
    d->rules = *r;
    if (!d->rules.connections)
        d->rules.connections = 1;
    if (d->rules.connections > CONNECTIONS_MAX)
        d->rules.connections = CONNECTIONS_MAX;
    list_init(&d->waiting);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->finished, &attr);
    pthread_condattr_destroy(&attr);
    return d;
}

pd_err db_open(const char *where, const struct db_rules *r, struct db **ret, char *why, size_t why_bytes)
{
    why[0] = '\0';
    struct db *d = db_new(where, r);
    pd_err e = d ? PD_OK : PD_NOMEM;
    e = e ? e : d->backend->open(d, where, why, why_bytes);
    e = e ? e : schema_migrate(d, why, why_bytes);
    if (!e && d->backend->settled)
        d->backend->settled(d);
    e = e ? e : start_threads(d);
    if (e) {
        if (!why[0])
            snprintf(why, why_bytes, "the database cannot be opened: %s", pd_err_text(e));
        db_close(d);
        return e;
    }
    *ret = d;
    return PD_OK;
}

struct db *db_close(struct db *d)
{
    if (!d)
        return NULL;
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    pthread_cond_broadcast(&d->work);
    pthread_cond_broadcast(&d->finished);
    pthread_mutex_unlock(&d->lock);
    if (d->side && d->backend->stop)
        d->backend->stop(d);
    for (unsigned i = 0; i < d->threads_count; i++)
        pthread_join(d->threads[i], NULL);
    mem_free(d->threads);
    pthread_mutex_lock(&d->lock);
    while (d->visitors) /* their jobs are done, they are only to go */
        pthread_cond_wait(&d->finished, &d->lock);
    pthread_mutex_unlock(&d->lock);
    if (d->side)
        d->backend->close(d);
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->finished);
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
    return NULL;
}

bool db_is_postgres(const struct db *d)
{
    return d->backend->postgres;
}

void db_stats(struct db *d, struct db_stats *ret)
{
    pthread_mutex_lock(&d->lock);
    *ret = d->stats;
    pthread_mutex_unlock(&d->lock);
}

void db_trouble(struct db *d, char *out, size_t out_bytes)
{
    pthread_mutex_lock(&d->lock);
    snprintf(out, out_bytes, "%s", d->trouble);
    pthread_mutex_unlock(&d->lock);
}
