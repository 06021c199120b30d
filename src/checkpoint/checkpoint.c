#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "checkpoint/checkpoint_priv.h"

#include <stdio.h>
#include <time.h>

enum {
    KEEP_LAST = 50,
    KEEP_MS = 7 * 24 * 3600 * 1000,
    WAITING_BYTES = 64 << 20,
    PRUNE_EVERY_MS = 3600 * 1000,
    ID_TRIES = 5,       /* ids of one agent in one millisecond may be the same, with a chance of 1 in 4 billion */
    MAKER_BYTES = 4096, /* what one costs beside its texts */
};

void checkpoints_rules_default(struct checkpoints_rules *r)
{
    *r = (struct checkpoints_rules){.keep_last = KEEP_LAST,
                                    .keep_ms = KEEP_MS,
                                    .keep_milestones = true,
                                    .waiting_bytes = WAITING_BYTES,
                                    .prune_every_ms = PRUNE_EVERY_MS};
}

/* ---- one is made ----------------------------------------------------------------------------- */

void checkpoints_count(struct checkpoints *c, const struct made *m, pd_err e)
{
    pthread_mutex_lock(&c->lock);
    c->stats.created += !e;
    c->stats.failed += e != PD_OK;
    if (!e) {
        c->stats.last_ms = m->made_ms;
        c->stats.stored_bytes += (uint64_t)m->stored_bytes;
        c->came++;
        c->kick |=
            !c->stats.uploads_waiting || !span_is(m->cp.reason, "turn"); /* it looks after what rests by itself */
        c->stats.uploads_waiting += c->objects != NULL;
        if (c->kick)
            pthread_cond_broadcast(&c->behind);
    }
    pthread_mutex_unlock(&c->lock);
}

struct writing {
    struct made *m;
    bool outbox;
};

static pd_err on_write(struct tx *t, void *ctx)
{
    struct writing *w = ctx;
    return write_job(t, w->m, w->outbox);
}

static void say_why(pd_err e, char *why, size_t why_bytes, struct db *db)
{
    char trouble[DB_WHY_BYTES] = "";
    if (!e || why[0])
        return;
    if (db)
        db_trouble(db, trouble, sizeof(trouble));
    snprintf(why, why_bytes, "%s%s%s", pd_err_text(e), trouble[0] ? ": " : "", trouble);
}

static pd_err prepare(struct made *m, char *why, size_t why_bytes)
{
    why[0] = '\0';
    pd_err e = checkpoint_check(&m->cp, why, why_bytes);
    return e ? e : made_write(m);
}

static pd_err write_now(struct checkpoints *c, struct made *m, char *why, size_t why_bytes)
{
    struct writing w = {m, c->objects != NULL};
    pd_err e = prepare(m, why, why_bytes);
    for (int i = 0; i < ID_TRIES; i++) {
        if (!e)
            e = c->db ? db_do(c->db, on_write, &w) : PD_UNSUPPORTED;
        if (e != PD_EXISTS)
            break;
        e = made_write(m);
    }
    say_why(e, why, why_bytes, c->db);
    checkpoints_count(c, m, e);
    return e;
}

pd_err checkpoint_create(struct checkpoints *c, const struct checkpoint *cp, char ret_id[CHECKPOINT_ID_BYTES],
                         char *why, size_t why_bytes)
{
    struct made *m = made_new(cp, false);
    if (!m) {
        snprintf(why, why_bytes, "%s", pd_err_text(PD_NOMEM));
        return PD_NOMEM;
    }
    pd_err e = write_now(c, m, why, why_bytes);
    if (!e)
        memcpy(ret_id, m->id, sizeof(m->id));
    made_free(m);
    return e;
}

/* ---- without waiting --------------------------------------------------------------------------- */

struct maker {
    struct list node;
    struct checkpoints *c;
    struct made *m;
    struct db_queue *q;
    struct db_job job;
    size_t bytes;
    checkpoint_done_fn *done;
    void *ctx;
    pd_err err; /* of its preparing */
    int tries;
    char why[CHECKPOINT_WHY_BYTES];
};

static pd_err on_maker(struct tx *t, void *ctx)
{
    struct maker *k = ctx;
    pd_err e = write_job(t, k->m, k->c->objects != NULL);
    if (e == PD_EXISTS && k->tries++ < ID_TRIES && made_write(k->m) == PD_OK)
        e = write_job(t, k->m, k->c->objects != NULL); /* nothing of the first has been written */
    return e;
}

static void unref(struct checkpoints *c)
{
    if (atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->behind);
    pthread_cond_destroy(&c->asked);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static void maker_free(struct maker *k)
{
    struct checkpoints *c = k->c;
    pthread_mutex_lock(&c->lock);
    c->waiting_bytes -= k->bytes;
    pthread_mutex_unlock(&c->lock);
    made_free(k->m);
    mem_free(k);
    unref(c);
}

/* On the loop of its queue. */
static void on_made(void *ctx, pd_err e)
{
    struct maker *k = ctx;
    pthread_mutex_lock(&k->c->lock);
    struct db *db = k->c->ending ? NULL : k->c->db; /* after its end it is not asked why any more */
    pthread_mutex_unlock(&k->c->lock);
    say_why(e, k->why, sizeof(k->why), db);
    checkpoints_count(k->c, k->m, e);
    k->done(k->ctx, e, k->m->id, k->why);
    maker_free(k);
}

static size_t weight(const struct checkpoint *cp)
{
    size_t n = MAKER_BYTES + cp->memory.n + cp->open_files.n + cp->state.n + cp->token_usage.n + cp->progress.n;
    for (size_t i = 0; i < cp->messages_count; i++)
        n += cp->messages[i].n + sizeof(struct span);
    return n;
}

pd_err checkpoint_submit(struct checkpoints *c, struct db_queue *q, const struct checkpoint *cp,
                         checkpoint_done_fn *done, void *ctx)
{
    struct maker *k = mem_zalloc(sizeof(*k));
    pd_err e = PD_OK;
    if (!k)
        return PD_NOMEM;
    *k = (struct maker){.c = c, .q = q, .bytes = weight(cp), .done = done, .ctx = ctx};
    k->job = (struct db_job){.fn = on_maker, .done = on_made, .ctx = k};
    k->m = made_new(cp, true);
    pthread_mutex_lock(&c->lock);
    if (!k->m)
        e = PD_NOMEM;
    else if (c->ending)
        e = PD_CLOSED;
    else if (c->waiting_bytes && c->waiting_bytes + k->bytes > c->rules.waiting_bytes)
        e = PD_TOOBIG;
    if (!e) {
        c->waiting_bytes += k->bytes;
        atomic_fetch_add(&c->refs, 1);
        list_push(&c->makers, &k->node);
        pthread_cond_signal(&c->work);
    }
    pthread_mutex_unlock(&c->lock);
    if (e) {
        made_free(k->m);
        mem_free(k);
    }
    return e;
}

/* Prepares what was submitted, in order, and gives it to the database. What the database does not take is told by it all the same. */
static void *making_thread(void *ctx)
{
    struct checkpoints *c = ctx;
    for (;;) {
        pthread_mutex_lock(&c->lock);
        while (list_empty(&c->makers) && !c->ending)
            pthread_cond_wait(&c->work, &c->lock);
        struct list *node = list_first(&c->makers);
        if (node)
            list_remove(node);
        pthread_mutex_unlock(&c->lock);
        if (!node)
            return NULL;
        struct maker *k = LIST_OF(node, struct maker, node);
        k->err = prepare(k->m, k->why, sizeof(k->why));
        pd_err e = k->err ? k->err : db_submit(k->q, &k->job);
        if (e)
            db_queue_refuse(k->q, &k->job, e);
    }
}

/* ---- work for loops ------------------------------------------------------------------------------- */

struct work {
    struct list node;
    struct checkpoints *c;
    struct db_queue *q;
    struct db_job job;
    void (*fn)(struct checkpoints *c, void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

static void on_worked(void *ctx, pd_err e)
{
    (void)e;
    struct work *k = ctx;
    k->done(k->ctx);
    unref(k->c);
    mem_free(k);
}

static void *working_thread(void *ctx)
{
    struct checkpoints *c = ctx;
    for (;;) {
        pthread_mutex_lock(&c->lock);
        while (list_empty(&c->works) && !c->ending)
            pthread_cond_wait(&c->asked, &c->lock);
        struct list *node = list_first(&c->works);
        if (node)
            list_remove(node);
        pthread_mutex_unlock(&c->lock);
        if (!node)
            return NULL;
        struct work *k = LIST_OF(node, struct work, node);
        k->fn(c, k->ctx);
        db_queue_refuse(k->q, &k->job, PD_OK);
    }
}

pd_err checkpoints_work(struct checkpoints *c, struct db_queue *q, void (*fn)(struct checkpoints *c, void *ctx),
                        void (*done)(void *ctx), void *ctx)
{
    struct work *k = mem_zalloc(sizeof(*k));
    pd_err e = PD_OK;
    if (!k)
        return PD_NOMEM;
    *k = (struct work){.c = c, .q = q, .fn = fn, .done = done, .ctx = ctx};
    k->job = (struct db_job){.done = on_worked, .ctx = k};
    pthread_mutex_lock(&c->lock);
    if (c->ending)
        e = PD_CLOSED;
    else if (!c->has_works && pthread_create(&c->working, NULL, working_thread, c) != 0)
        e = PD_NOMEM;
    if (!e) {
        c->has_works = true;
        atomic_fetch_add(&c->refs, 1);
        list_push(&c->works, &k->node);
        pthread_cond_signal(&c->asked);
    }
    pthread_mutex_unlock(&c->lock);
    if (e)
        mem_free(k);
    return e;
}

/* ---- opening and closing -------------------------------------------------------------------------- */

void checkpoints_kick(struct checkpoints *c)
{
    pthread_mutex_lock(&c->lock);
    c->came++;
    c->kick = true;
    pthread_cond_broadcast(&c->behind);
    pthread_mutex_unlock(&c->lock);
}

static pd_err start(struct checkpoints *c)
{
    c->makes = c->db && pthread_create(&c->making, NULL, making_thread, c) == 0;
    if (c->db && !c->makes)
        return PD_NOMEM;
    c->packer = c->db && c->objects ? packer_new() : NULL; /* without it goes, too */
    bool catches = c->db && (c->objects || c->rules.prune_every_ms);
    c->catches = catches && pthread_create(&c->catching, NULL, upload_thread, c) == 0;
    return catches && !c->catches ? PD_NOMEM : PD_OK;
}

void checkpoints_set_rules(struct checkpoints *c, const struct checkpoints_rules *r)
{
    pthread_mutex_lock(&c->lock);
    c->rules.keep_last = r->keep_last;
    c->rules.keep_ms = r->keep_ms;
    c->rules.keep_milestones = r->keep_milestones;
    c->rules.waiting_bytes = r->waiting_bytes;
    pthread_mutex_unlock(&c->lock);
}

pd_err checkpoints_open(struct db *db, struct objects *objects, const struct checkpoints_rules *r,
                        struct checkpoints **ret)
{
    struct checkpoints *c = mem_zalloc(sizeof(*c));
    struct rnd rnd = {rnd_seed()};
    if (!c)
        return PD_NOMEM;
    atomic_init(&c->refs, 1);
    c->db = db;
    c->objects = objects;
    c->rules = *r;
    list_init(&c->makers);
    list_init(&c->works);
    pthread_cond_init(&c->asked, NULL);
    snprintf(c->name, sizeof(c->name), "%016llx", (unsigned long long)rnd_next(&rnd));
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->behind, &attr);
    pthread_condattr_destroy(&attr);
    pd_err e = start(c);
    if (e)
        checkpoints_close(c);
    else
        *ret = c;
    return e;
}

struct checkpoints *checkpoints_close(struct checkpoints *c)
{
    if (!c)
        return NULL;
    pthread_mutex_lock(&c->lock);
    c->ending = true;
    pthread_cond_broadcast(&c->work);
    pthread_cond_broadcast(&c->behind);
    pthread_cond_broadcast(&c->asked);
    pthread_mutex_unlock(&c->lock);
    if (c->objects)
        objects_cancel(c->objects);
    if (c->makes)
        pthread_join(c->making, NULL);
    if (c->catches)
        pthread_join(c->catching, NULL);
    if (c->has_works)
        pthread_join(c->working, NULL);
    c->packer = packer_free(c->packer);
    unref(c);
    return NULL;
}

void checkpoints_stats(struct checkpoints *c, struct checkpoints_stats *ret)
{
    pthread_mutex_lock(&c->lock);
    *ret = c->stats;
    ret->objects = c->objects != NULL;
    pthread_mutex_unlock(&c->lock);
}

void checkpoints_trouble(struct checkpoints *c, char *out, size_t out_bytes)
{
    pthread_mutex_lock(&c->lock);
    snprintf(out, out_bytes, "%s", c->trouble);
    pthread_mutex_unlock(&c->lock);
}

bool checkpoints_settle(struct checkpoints *c, uint64_t limit_ms)
{
    uint64_t until = clock_mono_ms() + limit_ms;
    struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
    pthread_mutex_lock(&c->lock);
    c->hurries = c->kick = true;
    pthread_cond_broadcast(&c->behind);
    while (c->stats.uploads_waiting && clock_mono_ms() < until)
        pthread_cond_timedwait(&c->behind, &c->lock, &at);
    bool settled = c->stats.uploads_waiting == 0;
    c->hurries = false;
    pthread_mutex_unlock(&c->lock);
    return settled;
}
