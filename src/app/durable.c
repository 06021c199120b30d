#include "app/durable.h"

#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/turns.h"

#include <stdio.h>

enum {
    AGAIN_SUCCESSOR_MS = 10, /* the old process lets go within a moment */
    AGAIN_FIRST_MS = 1000,
    AGAIN_MOST_MS = 60 * 1000,
};

struct durable {
    struct gateway *gateway;
    struct loop *loop;
    char *where, *snapshots, *left_turns;
    struct checkpoints_rules rules;
    void (*tell)(void *ctx);
    void *ctx;
    bool successor;
    /* ---- an opening under way; the pool's while busy */
    bool busy, ending;
    struct db *opened;
    pd_err err;
    char why[DB_WHY_BYTES], said[DB_WHY_BYTES];
    struct timer again;
    uint64_t pause_ms;
    /* ---- what is open */
    struct db *db;
    struct objects *objects; /* NULL: none */
    struct checkpoints *checkpoints;
    struct turns *turns;
    _Atomic bool leaving;
    _Atomic unsigned handovers;
    bool back;               /* it was left to a successor that has died */
    _Atomic unsigned seated; /* workers that have a queue, or are about to */
    struct waker *left;      /* the last of them has given its queue up */
};

/* ---- opening ------------------------------------------------------------------------------------- */

static void open_work(void *ctx)
{
    struct durable *k = ctx;
    struct db_rules rules;
    db_rules_default(&rules);
    k->err = db_open(k->where, &rules, &k->opened, k->why, sizeof(k->why));
}

static void say_why(struct durable *k)
{
    char quoted[DB_WHY_BYTES + 40];
    if (strcmp(k->why, k->said) == 0)
        return;
    snprintf(k->said, sizeof(k->said), "%s", k->why);
    LOG(NULL, LOG_WARN, "database.not_open",
        "why=%s remedy=\"calls are served; checkpoints and runs are not, until it opens: it is tried again\"",
        log_quote(span_str(k->why), quoted, sizeof(quoted)));
}

/* Without a place for snapshots the database alone has them. */
static void open_checkpoints(struct durable *k)
{
    char why[OBJECTS_WHY_BYTES] = "", quoted[OBJECTS_WHY_BYTES + 40];
    pd_err e = PD_OK;
    if (strcmp(k->snapshots, "off") != 0)
        e = objects_open(k->snapshots, conf_getenv, NULL, &k->objects, why, sizeof(why));
    if (e)
        LOG(NULL, LOG_WARN, "snapshots.not_open",
            "why=%s remedy=\"checkpoints are in the database alone until perdure is started with another "
            "snapshots:\"",
            log_quote(span_str(*why ? why : pd_err_text(e)), quoted, sizeof(quoted)));
    e = checkpoints_open(k->db, k->objects, &k->rules, &k->checkpoints);
    if (e)
        LOG(NULL, LOG_WARN, "snapshots.not_open", "why=%s remedy=\"there are no checkpoints\"", pd_err_name(e));
    if (k->turns) /* the successor has died */
        turns_return(k->turns, k->checkpoints);
    else if (k->checkpoints)
        k->turns = turns_begin(
            k->checkpoints,
            &(struct turns_rules){k->rules.waiting_bytes, *k->left_turns ? k->left_turns : NULL, k->successor});
}

/* The last turns are left for the successor, which has the database from now on. */
static void close_checkpoints(struct durable *k)
{
    turns_leave(k->turns);
    k->checkpoints = checkpoints_close(k->checkpoints);
    k->objects = objects_close(k->objects);
    k->db = db_close(k->db);
}

static void opened(struct durable *k)
{
    k->db = k->opened;
    k->opened = NULL;
    open_checkpoints(k);
    atomic_store(&k->seated, k->gateway->workers_count);
    atomic_store(&k->gateway->db, k->db);
    atomic_store(&k->gateway->checkpoints, k->checkpoints);
    atomic_store(&k->gateway->turns, k->turns);
    LOG(NULL, LOG_INFO, "database.open", "kind=%s", db_is_postgres(k->db) ? "postgres" : "sqlite");
    k->tell(k->ctx);
}

static void open_done(void *ctx)
{
    struct durable *k = ctx;
    k->busy = false;
    if (k->ending) {
        loop_stop(k->loop); /* durable_close() waits */
        return;
    }
    if (atomic_load(&k->leaving)) { /* it is the successor's, whether it was opened or not */
        k->opened = db_close(k->opened);
        return;
    }
    if (!k->err) {
        opened(k);
        return;
    }
    bool soon = k->successor && k->err == PD_EXISTS;
    if (!soon)
        say_why(k);
    timer_arm(k->loop, &k->again, loop_now_ms(k->loop) + (soon ? AGAIN_SUCCESSOR_MS : k->pause_ms));
    if (!soon)
        k->pause_ms = k->pause_ms * 2 < AGAIN_MOST_MS ? k->pause_ms * 2 : AGAIN_MOST_MS;
}

static void on_again(void *ctx)
{
    struct durable *k = ctx;
    k->busy = loop_offload(k->loop, open_work, open_done, k) == PD_OK;
    if (!k->busy)
        timer_arm(k->loop, &k->again, loop_now_ms(k->loop) + AGAIN_FIRST_MS);
}

/* ---- letting go ---------------------------------------------------------------------------------- */

static void open_again(struct durable *k)
{
    k->back = false;
    atomic_store(&k->leaving, false);
    if (!k->busy)
        on_again(k);
}

static void on_left(void *ctx)
{
    struct durable *k = ctx;
    if (!k->db || atomic_load(&k->seated) != 0)
        return;
    close_checkpoints(k);
    LOG(NULL, LOG_INFO, "database.handed_over", "to=%s", "successor");
    if (k->back)
        open_again(k);
}

void durable_take_back(struct durable *k)
{
    if (!k)
        return;
    k->back = true;
    if (!k->db)
        open_again(k);
}

/* On the worker's own loop: its queue to a database that is closed by now. */
static void forget_old_queue(struct worker *w)
{
    db_queue_settle(w->jobs_old);
    w->jobs_old = db_queue_free(w->jobs_old);
    w->jobs_left = 0;
}

void durable_seat(struct durable *k, struct worker *w)
{
    if (!k)
        return;
    struct db *db = atomic_load(&k->gateway->db);
    bool leaving = atomic_load(&k->leaving);
    unsigned handovers = atomic_load(&k->handovers);
    if (w->jobs_left &&
        (!leaving || w->jobs_left != handovers)) /* all have let go of that one, and it was closed */
        forget_old_queue(w);
    if (!w->jobs && db && !leaving) {
        w->jobs = db_queue_new(db, w->loop);
        if (!w->jobs)
            LOG(NULL, LOG_WARN, "database.not_open", "worker=%u why=out_of_memory", w->index);
    }
    if (!leaving || w->jobs_left)
        return;
    w->jobs_left = handovers; /* what it has under way comes back through the queue still */
    w->jobs_old = w->jobs;
    w->jobs = NULL;
    if (k->db && atomic_fetch_sub(&k->seated, 1) == 1)
        waker_wake(k->left);
}

void durable_hand_over(struct durable *k)
{
    if (!k)
        return;
    atomic_fetch_add(&k->handovers, 1);
    atomic_store(&k->leaving, true);
    atomic_store(&k->gateway->checkpoints, NULL);
    atomic_store(&k->gateway->db, NULL); /* whoever has it now is done with it before it tells that it has left */
    timer_stop(k->loop, &k->again);
    k->tell(k->ctx);
}

/* Empty: there is no folder for the state. */
static char *left_turns_of(const char *state)
{
    struct buf b = {0};
    if (strcmp(state, "off") == 0)
        return mem_strdup("");
    char *path = buf_printf(&b, "%s/turns", state) ? NULL : mem_strndup(buf_span(&b).p, buf_size(&b));
    buf_done(&b);
    return path;
}

/* ---- another configuration ------------------------------------------------------------------------- */

static void take_rules(struct durable *k, const struct settings *s)
{
    k->rules.keep_last = (unsigned)s->checkpoint_keep;
    k->rules.keep_ms = s->checkpoint_keep_for;
    k->rules.keep_milestones = s->checkpoint_milestones;
    k->rules.waiting_bytes = s->checkpoint_memory;
}

static void say_unchanged(const char *what, const char *now, const char *wanted)
{
    if (strcmp(now, wanted) != 0) /* no place is named: it may have a password in it */
        LOG(NULL, LOG_WARN, "config.place_unchanged",
            "what=%s remedy=\"this process goes on with the old one: upgrade with SIGUSR2, or restart\"", what);
}

void durable_reload(struct durable *k, const struct conf *c)
{
    say_unchanged("database", k ? k->where : "off", c->database);
    if (!k)
        return;
    say_unchanged("snapshots", k->snapshots, c->snapshots);
    take_rules(k, &c->settings);
    if (k->checkpoints)
        checkpoints_set_rules(k->checkpoints, &k->rules);
}

/* ---- the whole ------------------------------------------------------------------------------------- */

pd_err durable_open(struct gateway *g, struct loop *l, const struct durable_options *o, struct durable **ret)
{
    *ret = NULL;
    if (strcmp(o->conf->database, "off") == 0)
        return PD_OK;
    struct durable *k = mem_zalloc(sizeof(*k));
    if (!k)
        return PD_NOMEM;
    k->gateway = g;
    k->loop = l;
    k->tell = o->tell;
    k->ctx = o->ctx;
    k->successor = o->successor;
    k->pause_ms = AGAIN_FIRST_MS;
    timer_init(&k->again, on_again, k);
    checkpoints_rules_default(&k->rules);
    take_rules(k, &o->conf->settings);
    k->where = mem_strdup(o->conf->database);
    k->snapshots = mem_strdup(o->conf->snapshots);
    k->left_turns = left_turns_of(o->conf->state);
    k->left = waker_new(l, on_left, k);
    if (!k->where || !k->snapshots || !k->left_turns || !k->left) {
        durable_close(k);
        return PD_NOMEM;
    }
    bool remote = strstr(k->where, "://") != NULL;
    if (remote || k->successor) {
        on_again(k);
    } else {
        open_work(k);
        open_done(k);
    }
    *ret = k;
    return PD_OK;
}

struct durable *durable_close(struct durable *k)
{
    if (!k)
        return NULL;
    k->ending = true;
    timer_stop(k->loop, &k->again);
    while (k->busy)
        loop_run(k->loop);
    atomic_store(&k->gateway->turns, NULL);
    atomic_store(&k->gateway->checkpoints, NULL);
    atomic_store(&k->gateway->db, NULL);
    db_close(k->opened);
    k->turns = turns_free(k->turns);
    close_checkpoints(k);
    for (unsigned i = 0; i < k->gateway->workers_count; i++) {
        struct worker *w = k->gateway->workers[i];
        db_queue_settle(w->jobs);
        db_queue_settle(w->jobs_old);
        w->jobs = db_queue_free(w->jobs);
        w->jobs_old = db_queue_free(w->jobs_old);
    }
    waker_free(k->left);
    mem_free(k->where);
    mem_free(k->snapshots);
    mem_free(k->left_turns);
    mem_free(k);
    return NULL;
}
