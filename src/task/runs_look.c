/* What there is, as JSON, for /api and the commands. Only reads. */
#include "task/runs_priv.h"

enum { EVENTS_BYTES_MAX = 4 << 20 };

struct looking {
    struct put p;
    bool any;
    int64_t last;
    unsigned count;
    bool sse;
};

static void next(struct looking *l)
{
    put_text(&l->p, l->any ? "," : "");
    l->any = true;
}

static void text(struct looking *l, const char *before, struct span s)
{
    put_text(&l->p, before);
    put_json(&l->p, s);
}

static void number(struct looking *l, const char *name, int64_t v)
{
    put_printf(&l->p, ",\"%s\":%lld", name, (long long)v);
}

/* A value that is JSON already; left out when there is none. */
static void value(struct looking *l, const char *name, struct span json)
{
    if (!json.n)
        return;
    put_printf(&l->p, ",\"%s\":", name);
    put_span(&l->p, json);
}

static void cost(struct looking *l, const char *before, int64_t pico)
{
    put_text(&l->p, before);
    runs_put_dollars(&l->p, pico);
}

/* ---- runs ---------------------------------------------------------------------------------- */

#define COUNT(state) "CAST(COALESCE(SUM(CASE WHEN t.state = '" state "' THEN 1 ELSE 0 END), 0) AS BIGINT)"
#define RUN_COLUMNS                                                                                            \
    "SELECT r.id, r.name, r.goal, r.state, r.why, r.created_ms, r.ended_ms, r.budget_tokens, r.budget_pico,"   \
    " x.tokens, x.pico, x.waiting, x.ready, x.running, x.ambiguous, x.review, x.done, x.cancelled, x.dropped " \
    "FROM "
#define RUN_SUMS                                                                                                  \
    " JOIN (SELECT t.run, CAST(COALESCE(SUM(t.tokens), 0) AS BIGINT) AS tokens, CAST(COALESCE(SUM(t.pico), 0) "   \
    "AS BIGINT) AS pico, " COUNT("waiting") " AS waiting, " COUNT("ready") " AS ready, " COUNT(                   \
        "running") " AS running, " COUNT("ambiguous") " AS ambiguous, " COUNT("review") " AS review, " COUNT("do" \
                                                                                                             "n"  \
                                                                                                             "e") " AS done, " COUNT("cancelled") " AS cancelled, " COUNT("dropped") " AS dropped FROM tasks t"

static void put_run(struct looking *l, const struct db_value *c)
{
    static const char *const states[] = {"waiting", "ready", "running",   "ambiguous",
                                         "review",  "done",  "cancelled", "dropped"};
    text(l, "{\"id\":", c[0].s);
    text(l, ",\"name\":", c[1].s);
    text(l, ",\"goal\":", c[2].s);
    text(l, ",\"state\":", c[3].s);
    text(l, ",\"why\":", c[4].s);
    number(l, "created_ms", c[5].n);
    number(l, "ended_ms", c[6].n);
    number(l, "tokens", c[9].n);
    cost(l, ",\"cost\":", c[10].n);
    if (c[7].n || c[8].n) {
        put_text(&l->p, ",\"budget\":{");
        if (c[7].n)
            put_printf(&l->p, "\"tokens\":%lld", (long long)c[7].n);
        if (c[8].n)
            cost(l, c[7].n ? ",\"cost\":" : "\"cost\":", c[8].n);
        put_text(&l->p, "}");
    }
    put_text(&l->p, ",\"counts\":");
    for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        put_printf(&l->p, "%s\"%s\":%lld", i ? "," : "{", states[i], (long long)c[11 + i].n);
    put_text(&l->p, "}");
}

static pd_err on_run(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    next(l);
    put_run(l, c);
    put_text(&l->p, "}");
    return l->p.err;
}

static pd_err on_one_run(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    l->any = true;
    put_run(l, c);
    return l->p.err;
}

pd_err runs_list_json(struct tx *t, unsigned limit, struct buf *out)
{
    buf_clear(out);
    struct looking l = {.p = put_into(out)};
    put_text(&l.p, "{\"runs\":[");
    pd_err e =
        TX_RUN(t,
               RUN_COLUMNS "(SELECT * FROM runs ORDER BY number DESC LIMIT $1) r" RUN_SUMS
                           " WHERE t.run IN (SELECT id FROM runs ORDER BY number DESC LIMIT $1) GROUP BY t.run) x"
                           " ON x.run = r.id ORDER BY r.number DESC",
               on_run, &l, DB_I(limit));
    put_text(&l.p, "]}");
    return e ? e : l.p.err;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

#define TASK_COLUMNS                                                                                            \
    "SELECT t.id, t.kind, t.state, t.attempt, t.retries, t.epoch, t.worker, t.began_ms, t.ended_ms, t.due_ms, " \
    "t.tokens, t.pico,"                                                                                         \
    " t.progress, t.reason, t.message, r.error, t.position"

static const char *kind_name(int64_t bit)
{
    int i = 0;
    while (i < TASK_KIND_COUNT - 1 && bit != 1 << i)
        i++;
    return task_kind_name((enum task_kind)i);
}

static void put_task(struct looking *l, const struct db_value *c)
{
    text(l, "{\"id\":", c[0].s);
    put_printf(&l->p, ",\"kind\":\"%s\"", kind_name(c[1].n));
    text(l, ",\"state\":", c[2].s);
    number(l, "attempt", c[3].n);
    number(l, "retries", c[4].n);
    number(l, "epoch", c[5].n);
    text(l, ",\"worker\":", c[6].s);
    number(l, "began_ms", c[7].n);
    number(l, "ended_ms", c[8].n);
    number(l, "due_ms", c[9].n);
    number(l, "tokens", c[10].n);
    cost(l, ",\"cost\":", c[11].n);
    if (c[13].s.n) {
        text(l, ",\"reason\":", c[13].s);
        text(l, ",\"message\":", c[14].s);
    }
    value(l, "progress", c[12].s);
    value(l, "error", c[15].s);
}

static pd_err on_task(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    next(l);
    put_task(l, c);
    put_text(&l->p, "}");
    return l->p.err;
}

static pd_err on_one_task(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    l->any = true;
    put_task(l, c);
    value(l, "spec", c[17].s);
    value(l, "output", c[18].s);
    value(l, "evidence", c[19].s);
    return l->p.err;
}

static pd_err on_edge(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    next(l);
    put_json(&l->p, c[0].s);
    put_text(&l->p, ":[");
    put_span(&l->p, c[1].s);
    put_text(&l->p, "]");
    return l->p.err;
}

/* {"task": ["need", ...]}: ids are letters, digits and the like, so they can be joined into JSON as they are. */
static pd_err put_needs(struct tx *t, const char *run, struct looking *l)
{
    l->any = false;
    put_text(&l->p, ",\"needs\":{");
    pd_err e = TX_RUN(t,
                      "SELECT task, {lite:GROUP_CONCAT}{pg:STRING_AGG}('\"' || need || '\"', ',') FROM task_needs "
                      "WHERE run = $1 GROUP BY task",
                      on_edge, l, DB_S(run));
    put_text(&l->p, "}");
    return e;
}

pd_err runs_one_json(struct tx *t, const char *run, bool tasks, struct buf *out)
{
    buf_clear(out);
    struct looking l = {.p = put_into(out)};
    pd_err e = TX_RUN(
        t, RUN_COLUMNS "runs r" RUN_SUMS " WHERE t.run = $1 GROUP BY t.run) x ON x.run = r.id WHERE r.id = $1",
        on_one_run, &l, DB_S(run));
    if (e || !l.any)
        return e ? e : PD_NOTFOUND;
    if (tasks) {
        l.any = false;
        put_text(&l.p, ",\"tasks\":[");
        e = TX_RUN(t,
                   TASK_COLUMNS
                   " FROM tasks t LEFT JOIN task_results r ON r.run = t.run AND r.task = t.id WHERE t.run = $1"
                   " ORDER BY t.position",
                   on_task, &l, DB_S(run));
        put_text(&l.p, "]");
        if (!e)
            e = put_needs(t, run, &l);
    }
    put_text(&l.p, "}");
    return e ? e : l.p.err;
}

static pd_err on_need(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    next(l);
    put_json(&l->p, c[0].s);
    put_text(&l->p, ":");
    put_span(&l->p, runs_json_or(c[1].s, "null"));
    return l->p.err;
}

static pd_err on_step(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    next(l);
    text(l, "{\"step\":", c[0].s);
    text(l, ",\"kind\":", c[1].s);
    if (c[2].s.n)
        text(l, ",\"key\":", c[2].s);
    number(l, "epoch", c[3].n);
    number(l, "begun_ms", c[5].n);
    number(l, "ended_ms", c[6].n);
    value(l, "result", c[4].s);
    put_text(&l->p, "}");
    return l->p.err;
}

pd_err runs_task_json(struct tx *t, const char *run, const char *task, struct buf *out)
{
    buf_clear(out);
    struct looking l = {.p = put_into(out)};
    pd_err e = TX_RUN(
        t,
        TASK_COLUMNS
        ", s.spec, r.output, r.evidence FROM tasks t LEFT JOIN task_results r ON r.run = t.run AND r.task = t.id"
        " LEFT JOIN task_specs s ON s.run = t.run AND s.task = t.id WHERE t.run = $1 AND t.id = $2",
        on_one_task, &l, DB_S(run), DB_S(task));
    if (e || !l.any)
        return e ? e : PD_NOTFOUND;
    l.any = false;
    put_text(&l.p, ",\"inputs\":{");
    e = TX_RUN(
        t,
        "SELECT n.need, r.output FROM task_needs n LEFT JOIN task_results r ON r.run = n.run AND r.task = n.need"
        " WHERE n.run = $1 AND n.task = $2",
        on_need, &l, DB_S(run), DB_S(task));
    if (e)
        return e;
    l.any = false;
    put_text(&l.p, "},\"steps\":[");
    e = TX_RUN(
        t,
        "SELECT step, kind, key, epoch, result, begun_ms, ended_ms FROM task_steps WHERE run = $1 AND task = $2"
        " ORDER BY begun_ms, step",
        on_step, &l, DB_S(run), DB_S(task));
    put_text(&l.p, "]}");
    return e ? e : l.p.err;
}

/* ---- events ------------------------------------------------------------------------------------ */

static pd_err on_event(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    l->any = buf_size(l->p.b) > EVENTS_BYTES_MAX;
    if (l->any)
        return PD_OK; /* the rest when it is asked for */
    if (l->sse)
        put_printf(&l->p, "id: %lld\ndata: ", (long long)c[0].n);
    put_printf(&l->p, "{\"seq\":%lld,\"ms\":%lld", (long long)c[0].n, (long long)c[1].n);
    if (c[2].s.n)
        text(l, ",\"task\":", c[2].s);
    text(l, ",\"what\":", c[3].s);
    value(l, "data", c[4].s);
    put_text(&l->p, l->sse ? "}\n\n" : "}\n");
    l->last = c[0].n;
    l->count++;
    return l->p.err;
}

pd_err runs_events_json(struct tx *t, const struct events_wish *w, struct buf *out, int64_t *ret_last,
                        bool *ret_over)
{
    int64_t ended = -1;
    buf_clear(out);
    struct looking l = {.p = put_into(out), .last = w->after, .sse = w->sse};
    pd_err e = TX_RUN(t, "SELECT ended_ms FROM runs WHERE id = $1", runs_on_number, &ended, DB_S(w->run));
    if (e || ended < 0)
        return e ? e : PD_NOTFOUND;
    if (w->follow)
        e = TX_RUN(t,
                   "SELECT seq, ms, task, what, data FROM run_events WHERE run = $1 AND seq > $2"
                   "{pg: AND told < clock_timestamp() - INTERVAL '1 second'} ORDER BY seq LIMIT $3",
                   on_event, &l, DB_S(w->run), DB_I(w->after), DB_I(w->limit));
    else
        e = TX_RUN(
            t,
            "SELECT seq, ms, task, what, data FROM run_events WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            on_event, &l, DB_S(w->run), DB_I(w->after), DB_I(w->limit));
    *ret_last = l.last;
    *ret_over = ended > 0 && l.count < w->limit && !l.any;
    if (!e && *ret_over && w->follow) { /* the newest second may still be to come */
        bool more = false;
        e = TX_RUN(t, "SELECT 1 FROM run_events WHERE run = $1 AND seq > $2 LIMIT 1", runs_on_any, &more,
                   DB_S(w->run), DB_I(l.last));
        *ret_over = !more;
    }
    return e ? e : l.p.err;
}

/* ---- reviews ------------------------------------------------------------------------------------- */

static pd_err on_review(void *ctx, const struct db_value *c, unsigned n)
{
    struct looking *l = ctx;
    (void)n;
    next(l);
    text(l, "{\"run\":", c[0].s);
    text(l, ",\"task\":", c[1].s);
    put_printf(&l->p, ",\"kind\":\"%s\"", kind_name(c[2].n));
    text(l, ",\"goal\":", c[3].s);
    text(l, ",\"reason\":", c[4].s);
    text(l, ",\"message\":", c[5].s);
    number(l, "attempt", c[6].n);
    number(l, "since_ms", c[7].n);
    value(l, "spec", c[8].s);
    value(l, "output", c[9].s);
    value(l, "error", c[10].s);
    value(l, "evidence", c[11].s);
    put_text(&l->p, "}");
    return l->p.err;
}

pd_err runs_reviews_json(struct tx *t, struct buf *out)
{
    buf_clear(out);
    struct looking l = {.p = put_into(out)};
    put_text(&l.p, "{\"reviews\":[");
    pd_err e = TX_RUN(
        t,
        "SELECT t.run, t.id, t.kind, u.goal, t.reason, t.message, t.attempt, t.since_ms, s.spec, r.output, "
        "r.error, r.evidence"
        " FROM tasks t JOIN runs u ON u.id = t.run LEFT JOIN task_specs s ON s.run = t.run AND s.task = t.id"
        " LEFT JOIN task_results r ON r.run = t.run AND r.task = t.id WHERE t.state = 'review' ORDER BY "
        "t.since_ms LIMIT $1",
        on_review, &l, DB_I(RUNS_REVIEWS_SHOWN));
    put_text(&l.p, "]}");
    return e ? e : l.p.err;
}
