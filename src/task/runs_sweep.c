/* The sweeper: claims whose worker does not beat any more are ended; what nobody else notices is put right.
 *
 * No clock is believed but the sweeper's own monotonic one, which begins anew with each process. So that a process that never lives for a lease ends
 * lost claims all the same, what it has watched of a silence is kept in the database, in steps, and the next sweeper goes on from there. What
 * passed between the two counts for nothing: nobody could beat then. A worker that lives beats again soon when somebody is there to hear it: it is given FRESH_SHARE of
 * its lease for that in this process, or, where no process lives for so long, SURE_LEASES that were watched in all. */
#include "base/hash.h"
#include "base/mem.h"
#include "task/runs_priv.h"

#include <stdio.h>

enum {
    SWEEP_EVENTS_EVERY = 60,
    SWEEP_TABLE_LEAST = 64,
    FRESH_SHARE = 40, /* per cent */
    SURE_LEASES = 2,
    STEPS_IN_LEASE = 8,
    STEP_MOST_MS = 2000,
};

/* A running task as it was seen. */
struct seen {
    char run[RUN_ID_BYTES], id[PLAN_ID_MAX + 1];
    int64_t epoch, beat, lease_ms;
    uint64_t since_ms;  /* monotonic: it stands still since, as far as this sweeper saw it */
    uint64_t before_ms; /* watched by those before it */
    uint64_t kept_ms;   /* what the database has of it */
    bool used;
};

struct sweeper {
    struct seen *table; /* by hash of run and id */
    size_t size;        /* a power of two */
    uint64_t rounds;
};

struct sweeper *sweeper_new(void)
{
    return mem_zalloc(sizeof(struct sweeper));
}

struct sweeper *sweeper_free(struct sweeper *s)
{
    if (s) {
        mem_free(s->table);
        mem_free(s);
    }
    return NULL;
}

static struct seen *slot(struct seen *table, size_t size, const char *run, const char *id)
{
    uint64_t at = hash_bytes(span_str(id), hash_bytes(span_str(run), 0));
    for (;; at++) {
        struct seen *x = &table[at & (size - 1)];
        if (!x->used || (strcmp(x->id, id) == 0 && strcmp(x->run, run) == 0))
            return x;
    }
}

/* All that runs now, in a list; a row function may not use the tx. */
struct running {
    struct seen *list;
    size_t count, room;
};

static pd_err on_running(void *ctx, const struct db_value *c, unsigned n)
{
    struct running *r = ctx;
    (void)n;
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : SWEEP_TABLE_LEAST;
        struct seen *list = mem_realloc(r->list, room * sizeof(*list));
        if (!list)
            return PD_NOMEM;
        r->list = list;
        r->room = room;
    }
    struct seen *x = &r->list[r->count++];
    *x = (struct seen){
        .epoch = c[2].n, .beat = c[3].n, .lease_ms = c[4].n, .kept_ms = (uint64_t)c[5].n, .used = true};
    snprintf(x->run, sizeof(x->run), "%.*s", SPAN_FMT(c[0].s));
    snprintf(x->id, sizeof(x->id), "%.*s", SPAN_FMT(c[1].s));
    return PD_OK;
}

/* Since when each stands still. A job that is run twice sees the same again. */
static pd_err remember(struct sweeper *s, struct running *r, uint64_t mono_ms)
{
    size_t size = SWEEP_TABLE_LEAST;
    while (size < 2 * r->count)
        size *= 2;
    struct seen *table = mem_calloc(size, sizeof(*table));
    if (!table)
        return PD_NOMEM;
    for (size_t i = 0; i < r->count; i++) {
        struct seen *x = &r->list[i];
        struct seen *old = s->size ? slot(s->table, s->size, x->run, x->id) : NULL;
        bool same = old && old->used && old->epoch == x->epoch && old->beat == x->beat;
        x->since_ms = same ? old->since_ms : mono_ms;
        x->before_ms = same ? old->before_ms : x->kept_ms;
        *slot(table, size, x->run, x->id) = *x;
    }
    mem_free(s->table);
    s->table = table;
    s->size = size;
    return PD_OK;
}

/* ---- silence --------------------------------------------------------------------------------------- */

static bool is_lost(const struct seen *x, uint64_t mono_ms)
{
    uint64_t here = mono_ms - x->since_ms, all = x->before_ms + here, lease = (uint64_t)x->lease_ms;
    bool fresh = here * 100 >= lease * FRESH_SHARE;
    return here >= lease || (all >= lease && fresh) || (all >= SURE_LEASES * lease && here);
}

/* In steps, so that a worker that beats as it should costs few writes. */
static pd_err keep_silence(struct tx *t, const struct seen *x, uint64_t mono_ms)
{
    uint64_t all = x->before_ms + mono_ms - x->since_ms, step = (uint64_t)x->lease_ms / STEPS_IN_LEASE;
    if (all < x->kept_ms + (step < STEP_MOST_MS ? step : STEP_MOST_MS) || all == x->kept_ms)
        return PD_OK;
    return TX_RUN(t,
                  "INSERT INTO task_silence (run, task, epoch, beat, silent_ms) VALUES ($1, $2, $3, $4, $5)"
                  " ON CONFLICT (run, task) DO UPDATE SET epoch = $3, beat = $4, silent_ms = $5"
                  " WHERE task_silence.epoch <> $3 OR task_silence.beat <> $4 OR task_silence.silent_ms < $5",
                  NULL, NULL, DB_S(x->run), DB_S(x->id), DB_I(x->epoch), DB_I(x->beat), DB_I(all));
}

static pd_err forget_silence(struct tx *t)
{
    return tx_run(t,
                  "DELETE FROM task_silence WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.run = task_silence.run"
                  " AND t.id = task_silence.task AND t.epoch = task_silence.epoch AND t.state = 'running')",
                  NULL, 0, NULL, NULL);
}

/* ---- a lost worker ------------------------------------------------------------------------------ */

struct begun {
    struct buf step, key;
    bool any, keyless;
};

static pd_err on_begun(void *ctx, const struct db_value *c, unsigned n)
{
    struct begun *b = ctx;
    (void)n;
    bool first_keyless = !c[1].s.n && !b->keyless;
    pd_err e = PD_OK;
    if (!b->any || first_keyless) { /* the one that decides is told */
        buf_clear(&b->step);
        buf_clear(&b->key);
        e = buf_add(&b->step, c[0].s);
        if (!e)
            e = buf_add(&b->key, c[1].s);
    }
    b->any = true;
    b->keyless |= !c[1].s.n;
    return e;
}

static pd_err tell_worker(struct tx *t, const struct task_row *r, struct put *p)
{
    struct buf worker = {0};
    pd_err e = TX_RUN(t, "SELECT worker FROM tasks WHERE run = $1 AND id = $2", runs_on_text, &worker,
                      DB_S(r->run), DB_S(r->id));
    put_text(p, "{\"worker\":");
    put_json(p, buf_span(&worker));
    put_printf(p, ",\"epoch\":%lld}", (long long)r->epoch);
    buf_done(&worker);
    return e ? e : p->err;
}

/* An effect was begun whose result nobody knows: with a key a worker asks by it, without one a person does. */
static pd_err ambiguous(struct tx *t, struct task_row *r, const struct begun *b, uint64_t now_ms)
{
    struct buf data = {0};
    struct put p = put_into(&data);
    put_text(&p, "{\"step\":");
    put_json(&p, buf_span(&b->step));
    put_text(&p, ",\"key\":");
    put_json(&p, buf_span(&b->key));
    put_text(&p, "}");
    struct entering how = {.lost = true, .fence = true, .data = buf_span(&data)};
    pd_err e = p.err ? p.err : runs_enter(t, r, TASK_AMBIGUOUS, &how, now_ms);
    buf_done(&data);
    if (e)
        return e;
    struct entering again = {.event = ""};
    if (!b->keyless && r->losses <= RUNS_LOSSES_MAX)
        return runs_enter(t, r, TASK_READY, &again, now_ms);
    struct entering ask = {.reason = "ambiguous",
                           .message = SPAN_LIT("its worker died amid an effect that has no idempotency key: "
                                               "nobody knows whether it was made")};
    if (!b->keyless)
        ask = (struct entering){.reason = "lost", .message = SPAN_LIT("it lost one worker after the other")};
    return runs_enter(t, r, TASK_REVIEW, &ask, now_ms);
}

static pd_err lose(struct tx *t, const struct seen *x, uint64_t now_ms, unsigned *ended)
{
    struct task_row r;
    struct begun b = {0};
    struct buf data = {0};
    struct put p = put_into(&data);
    int64_t beat = -1;
    pd_err e = runs_row(t, x->run, x->id, &r);
    if (e == PD_NOTFOUND || (!e && (r.epoch != x->epoch || r.state != TASK_RUNNING)))
        return PD_OK;
    if (!e)
        e = TX_RUN(t, "SELECT beat FROM tasks WHERE run = $1 AND id = $2", runs_on_number, &beat, DB_S(r.run),
                   DB_S(r.id));
    if (!e && beat != x->beat)
        return PD_OK;
    if (!e)
        e = TX_RUN(
            t,
            "SELECT step, key FROM task_steps WHERE run = $1 AND task = $2 AND kind = 'effect' AND result IS NULL"
            " ORDER BY begun_ms, step{pg: COLLATE \"C\"}",
            on_begun, &b, DB_S(r.run), DB_S(r.id));
    if (!e)
        e = tell_worker(t, &r, &p);
    if (!e && b.any) {
        e = runs_event(t, r.run, r.id, "lost", buf_span(&data), now_ms);
        e = e ? e : ambiguous(t, &r, &b, now_ms);
    } else if (!e && r.losses >= RUNS_LOSSES_MAX) {
        struct entering how = {.lost = true,
                               .fence = true,
                               .reason = "lost",
                               .message = SPAN_LIT("it lost one worker after the other")};
        e = runs_event(t, r.run, r.id, "lost", buf_span(&data), now_ms);
        e = e ? e : runs_enter(t, &r, TASK_REVIEW, &how, now_ms);
    } else if (!e) {
        struct entering how = {.lost = true, .fence = true, .event = "lost", .data = buf_span(&data)};
        e = runs_enter(t, &r, TASK_READY, &how, now_ms);
    }
    *ended += !e;
    buf_done(&data);
    buf_done(&b.step);
    buf_done(&b.key);
    return e;
}

/* ---- what nobody else notices ------------------------------------------------------------------- */

static pd_err on_id(void *ctx, const struct db_value *c, unsigned n)
{
    (void)n;
    pd_err e = buf_add(ctx, c[0].s);
    return e ? e : buf_add(ctx, span_of("", 1));
}

/* Two last tasks that end at the same moment in PostgreSQL: neither sees that the other is done. */
static pd_err end_runs(struct tx *t, uint64_t now_ms)
{
    struct buf ids = {0};
    pd_err e = tx_run(
        t,
        "SELECT r.id FROM runs r WHERE r.ended_ms = 0 AND NOT EXISTS"
        " (SELECT 1 FROM tasks t{lite: INDEXED BY tasks_open} WHERE t.run = r.id AND t.ended_ms = 0) LIMIT 1000",
        NULL, 0, on_id, &ids);
    struct span rest = buf_span(&ids);
    while (!e && rest.n) {
        struct span id = span_cut(&rest, '\0');
        e = runs_end_if_over(t, id.p, now_ms);
    }
    buf_done(&ids);
    return e;
}

static pd_err drop_events(struct tx *t)
{
    struct buf ids = {0};
    pd_err e = tx_run(t, "SELECT id FROM runs WHERE ended_ms = 0", NULL, 0, on_id, &ids);
    struct span rest = buf_span(&ids);
    while (!e && rest.n) {
        struct span id = span_cut(&rest, '\0');
        e = TX_RUN(t,
                   "DELETE FROM run_events WHERE run = $1 AND seq <="
                   " (SELECT seq FROM run_events WHERE run = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)",
                   NULL, NULL, DB_T(id), DB_I(RUNS_EVENTS_KEPT));
    }
    buf_done(&ids);
    return e;
}

pd_err runs_sweep(struct tx *t, struct sweeper *s, uint64_t mono_ms, uint64_t now_ms, unsigned *ret_ended)
{
    struct running r = {0};
    *ret_ended = 0;
    pd_err e =
        tx_run(t,
               "SELECT t.run, t.id, t.epoch, t.beat, t.lease_ms, COALESCE(s.silent_ms, 0) FROM tasks t"
               " LEFT JOIN task_silence s ON s.run = t.run AND s.task = t.id AND s.epoch = t.epoch AND"
               " s.beat = t.beat WHERE t.state = 'running' ORDER BY t.run, t.id", /* all lock in one order */
               NULL, 0, on_running, &r);
    if (!e)
        e = remember(s, &r, mono_ms);
    for (size_t i = 0; !e && i < r.count; i++)
        e = is_lost(&r.list[i], mono_ms) ? lose(t, &r.list[i], now_ms, ret_ended)
                                         : keep_silence(t, &r.list[i], mono_ms);
    mem_free(r.list);
    /* It failed at a time that is not yet: the clock was ahead then, and its pause begins now. */
    if (!e)
        e = TX_RUN(t,
                   "UPDATE tasks SET due_ms = $1 + due_ms - since_ms, since_ms = $1 WHERE state = 'ready' AND "
                   "due_ms > $1 AND since_ms > $1",
                   NULL, NULL, DB_I(now_ms));
    if (!e)
        e = end_runs(t, now_ms);
    if (!e && s->rounds++ % SWEEP_EVENTS_EVERY == 0) {
        e = drop_events(t);
        e = e ? e : forget_silence(t);
    }
    return e;
}
