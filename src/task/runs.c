/* Runs: made, planned, paused, resumed, cancelled, over. */
#include "task/runs.h"

#include "base/mem.h"
#include "base/rnd.h"
#include "task/runs_priv.h"

#include <stdio.h>

#define NAMES(list, type, fn, count)                     \
    const char *fn(type v)                               \
    {                                                    \
        static const char *const names[] = {list(NAME)}; \
        return (unsigned)v < count ? names[v] : "";      \
    }
#define NAME(code, name, what) name,
NAMES(TASK_STATES, enum task_state, task_state_name, TASK_STATE_COUNT)
NAMES(RUN_STATES, enum run_state, run_state_name, RUN_STATE_COUNT)
NAMES(STEP_KINDS, enum step_kind, step_kind_name, STEP_KIND_COUNT)
NAMES(REVIEW_DECISIONS, enum review_decision, review_decision_name, REVIEW_DECISION_COUNT)

enum task_state runs_task_state(struct span name)
{
    int s = 0;
    while (s < TASK_STATE_COUNT && !span_is(name, task_state_name((enum task_state)s)))
        s++;
    return (enum task_state)s;
}

enum run_state runs_run_state(struct span name)
{
    int s = 0;
    while (s < RUN_STATE_COUNT && !span_is(name, run_state_name((enum run_state)s)))
        s++;
    return (enum run_state)s;
}

/* ---- rows ------------------------------------------------------------------------------- */

pd_err runs_on_number(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(int64_t *)ctx = columns[0].type == DB_INT ? columns[0].n : 0;
    return PD_OK;
}

pd_err runs_on_text(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    return columns[0].type == DB_TEXT ? buf_add(ctx, columns[0].s) : PD_OK;
}

pd_err runs_on_any(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)columns, (void)n;
    *(bool *)ctx = true;
    return PD_OK;
}

pd_err runs_event(struct tx *t, const char *run, const char *task, const char *what, struct span data,
                  uint64_t now_ms)
{
    return TX_RUN(t, "INSERT INTO run_events (run, ms, task, what, data) VALUES ($1, $2, $3, $4, $5)", NULL, NULL,
                  DB_S(run), DB_I(now_ms), DB_S(task), DB_S(what), DB_T(runs_json_or(data, "{}")));
}

static pd_err event_why(struct tx *t, const char *run, const char *what, struct span why, uint64_t now_ms)
{
    struct buf data = {0};
    struct put p = put_into(&data);
    put_text(&p, "{\"why\":");
    put_json(&p, why);
    put_text(&p, "}");
    pd_err e = p.err ? p.err : runs_event(t, run, NULL, what, buf_span(&data), now_ms);
    buf_done(&data);
    return e;
}

static pd_err event_count(struct tx *t, const char *run, const char *what, unsigned tasks, uint64_t now_ms)
{
    char data[40];
    int n = snprintf(data, sizeof(data), "{\"tasks\":%u}", tasks);
    return runs_event(t, run, NULL, what, span_of(data, (size_t)n), now_ms);
}

void runs_put_dollars(struct put *p, int64_t pico)
{
    char text[RUNS_PICO_TEXT];
    uint64_t v = pico < 0 ? 0 : (uint64_t)pico;
    int n = snprintf(text, sizeof(text), "%llu.%012llu", (unsigned long long)(v / PICO_IN_DOLLAR),
                     (unsigned long long)(v % PICO_IN_DOLLAR));
    while (n > 0 && text[n - 1] == '0')
        n--;
    n -= n > 0 && text[n - 1] == '.';
    put_span(p, span_of(text, (size_t)n));
}

/* ---- making ------------------------------------------------------------------------------ */

void runs_new_id(char ret_id[RUN_ID_BYTES])
{
    snprintf(ret_id, RUN_ID_BYTES, "r-%016llx", (unsigned long long)rnd_seed());
}

/* What others use of it stands in no member of its own: a worker is told, for it sees this task alone. */
static pd_err add_spec(struct tx *t, const char *run, const struct plan_task *k)
{
    struct buf spec = {0};
    struct put p = put_into(&spec);
    bool told = k->kind == TASK_COMMAND && k->output_used;
    put_span(&p, told ? span_upto(k->spec, k->spec.n - 1) : k->spec);
    put_text(&p, told ? ",\"output_used\":true}" : "");
    pd_err e = p.err ? p.err
                     : TX_RUN(t, "INSERT INTO task_specs (run, task, spec) VALUES ($1, $2, $3)", NULL, NULL,
                              DB_S(run), DB_T(k->id), DB_T(buf_span(&spec)));
    buf_done(&spec);
    return e;
}

static pd_err add_task(struct tx *t, const char *run, const struct plan_task *k, unsigned position)
{
    pd_err e = TX_RUN(
        t,
        "INSERT INTO tasks (run, id, position, kind, state, needs_left, epoch, attempt, failures, losses, steps, "
        "beat, lease_ms,"
        " worker, claim, due_ms, retries, backoff_ms, review, tokens, pico, began_ms, ended_ms, since_ms, reason, "
        "message, progress)"
        " VALUES ($1, $2, $3, $4, $5, $6, 0, 1, 0, 0, 0, 0, 0, '', '', 0, $7, $8, $9, 0, 0, 0, 0, 0, '', '', '')"
        " ON CONFLICT (run, id) DO NOTHING",
        NULL, NULL, DB_S(run), DB_T(k->id), DB_I(position), DB_I(1 << k->kind),
        DB_S(task_state_name(k->needs_count ? TASK_WAITING : TASK_READY)), DB_I(k->needs_count), DB_I(k->retries),
        DB_I(k->backoff_ms), DB_I(k->review));
    if (e || !tx_changed(t)) /* a job that is run again: all of it is there */
        return e;
    e = add_spec(t, run, k);
    for (unsigned i = 0; !e && i < k->needs_count; i++)
        e = TX_RUN(t, "INSERT INTO task_needs (run, need, task) VALUES ($1, $2, $3)", NULL, NULL, DB_S(run),
                   DB_T(k->needs[i]), DB_T(k->id));
    return e;
}

static pd_err add_tasks(struct tx *t, const char *run, const struct plan *p)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; !e && i < p->tasks_count; i++)
        e = add_task(t, run, &p->tasks[i], i + 1);
    return e;
}

static pd_err add_planner(struct tx *t, const char *run, const struct plan *p)
{
    struct arena a;
    struct plan_task k = {.id = SPAN_LIT(PLAN_PLANNER_ID), .retries = PLAN_RETRIES, .backoff_ms = PLAN_BACKOFF_MS};
    arena_init(&a, 0, 0);
    pd_err e = plan_planner_spec(p, &a, &k.spec);
    if (!e)
        e = add_task(t, run, &k, 0);
    arena_done(&a);
    return e;
}

/* The run that a key has already. */
struct there {
    char id[RUN_ID_BYTES];
    enum run_state state;
};

static pd_err on_there(void *ctx, const struct db_value *columns, unsigned n)
{
    struct there *r = ctx;
    (void)n;
    snprintf(r->id, sizeof(r->id), "%.*s", SPAN_FMT(columns[0].s));
    r->state = runs_run_state(columns[1].s);
    return PD_OK;
}

pd_err runs_create(struct tx *t, const struct plan *p, struct span key, uint64_t now_ms, char id[RUN_ID_BYTES],
                   enum run_state *ret_state, bool *ret_new)
{
    bool planning = p->planner.n > 0;
    struct there there = {.id = ""};
    *ret_state = planning ? RUN_PLANNING : RUN_RUNNING;
    pd_err e = TX_RUN(
        t,
        "INSERT INTO runs (id, key, name, goal, document, state, claimable, why, budget_tokens, budget_pico,"
        " spent_tokens, spent_pico, created_ms, ended_ms)"
        " VALUES ($1, $2, $3, $4, $5, $6, 1, '', $7, $8, 0, 0, $9, 0) ON CONFLICT DO NOTHING",
        NULL, NULL, DB_S(id), key.n ? DB_T(key) : DB_NONE, DB_T(p->name), DB_T(p->goal), DB_T(p->document),
        DB_S(run_state_name(*ret_state)), DB_I(p->budget_tokens), DB_I(p->budget_picodollars), DB_I(now_ms));
    if (e)
        return e;
    if (!tx_changed(t)) {
        e = TX_RUN(t, "SELECT id, state FROM runs WHERE id = $1 OR (key = $2 AND $2 <> '')", on_there, &there,
                   DB_S(id), DB_T(key));
        *ret_new = strcmp(id, there.id) == 0; /* the job is run again: it is the one that it made */
        *ret_state = there.state;
        memcpy(id, there.id, RUN_ID_BYTES);
        return e;
    }
    *ret_new = true;
    e = planning ? add_planner(t, id, p) : add_tasks(t, id, p);
    return e ? e : event_count(t, id, "created", p->tasks_count, now_ms);
}

pd_err runs_planned(struct tx *t, const char *run, const struct plan *p, uint64_t now_ms)
{
    pd_err e =
        TX_RUN(t, "UPDATE runs SET state = 'running' WHERE id = $1 AND state = 'planning'", NULL, NULL, DB_S(run));
    if (!e)
        e = add_tasks(t, run, p);
    return e ? e : event_count(t, run, "planned", p->tasks_count, now_ms);
}

pd_err runs_take_plan(struct tx *t, const struct task_row *r, struct span output, uint64_t now_ms,
                      char why[PLAN_WHY_BYTES])
{
    struct arena a;
    struct buf document = {0};
    struct plan of, made;
    arena_init(&a, 0, 0);
    why[0] = '\0';
    pd_err e = TX_RUN(t, "SELECT document FROM runs WHERE id = $1", runs_on_text, &document, DB_S(r->run));
    if (!e)
        e = plan_of_document(buf_span(&document), &a, &of);
    if (!e)
        e = plan_parse_tasks(output, &of, &a, &made, why);
    if (!e)
        e = runs_planned(t, r->run, &made, now_ms);
    buf_done(&document);
    arena_done(&a);
    return e;
}

/* ---- wishes -------------------------------------------------------------------------------- */

struct found_run {
    enum run_state state;
    bool found;
};

static pd_err on_run(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(struct found_run *)ctx = (struct found_run){runs_run_state(columns[0].s), true};
    return PD_OK;
}

static bool is_over(enum run_state s)
{
    return s == RUN_DONE || s == RUN_FAILED || s == RUN_CANCELLED;
}

static pd_err cancel_tasks(struct tx *t, const char *run, uint64_t now_ms)
{
    return TX_RUN(t, "UPDATE tasks SET state = 'cancelled', ended_ms = $2 WHERE run = $1 AND ended_ms = 0", NULL,
                  NULL, DB_S(run), DB_I(now_ms));
}

/* The only place that writes the state of a run, but for its beginning and planned. */
static pd_err enter_run(struct tx *t, const char *run, enum run_state to, struct span why, uint64_t now_ms)
{
    static const char *const events[] = {"resumed",  "resumed",    "paused",
                                         "run_done", "run_failed", "run_cancelled"};
    pd_err e =
        TX_RUN(t,
               "UPDATE runs SET state = $2, claimable = $3, why = $4, ended_ms = $5, spent_tokens = CASE WHEN $6 "
               "= 1 THEN 0 ELSE "
               "spent_tokens END, spent_pico = CASE WHEN $6 = 1 THEN 0 ELSE spent_pico END WHERE id = $1",
               NULL, NULL, DB_S(run), DB_S(run_state_name(to)), DB_I(to == RUN_RUNNING || to == RUN_PLANNING),
               DB_T(why), DB_I(is_over(to) ? now_ms : 0), DB_I(to == RUN_RUNNING || to == RUN_PLANNING));
    return e ? e : event_why(t, run, events[to], why, now_ms);
}

static pd_err resume(struct tx *t, const char *run, struct span why, uint64_t now_ms, enum run_state *ret)
{
    bool planning = false;
    pd_err e = TX_RUN(t, "SELECT 1 FROM tasks WHERE run = $1 AND id = $2 AND ended_ms = 0", runs_on_any, &planning,
                      DB_S(run), DB_S(PLAN_PLANNER_ID));
    *ret = planning ? RUN_PLANNING : RUN_RUNNING;
    return e ? e : enter_run(t, run, *ret, why, now_ms);
}

pd_err runs_wish(struct tx *t, const char *run, enum run_wish w, struct span why, uint64_t now_ms,
                 enum run_state *ret)
{
    struct found_run r = {0};
    pd_err e = TX_RUN(t, "SELECT state FROM runs WHERE id = $1{pg: FOR UPDATE}", on_run, &r, DB_S(run));
    if (e || !r.found)
        return e ? e : PD_NOTFOUND;
    *ret = r.state;
    switch (w) {
    case RUN_PAUSE:
        if (r.state == RUN_PAUSED)
            return PD_OK;
        *ret = RUN_PAUSED;
        break;
    case RUN_RESUME:
        if (r.state == RUN_RUNNING || r.state == RUN_PLANNING)
            return PD_OK;
        return is_over(r.state) ? PD_INVALID : resume(t, run, why, now_ms, ret);
    case RUN_CANCEL:
        if (r.state == RUN_CANCELLED)
            return PD_OK;
        *ret = RUN_CANCELLED;
        break;
    }
    if (is_over(r.state))
        return PD_INVALID;
    e = w == RUN_CANCEL ? cancel_tasks(t, run, now_ms) : PD_OK;
    return e ? e : enter_run(t, run, *ret, why, now_ms);
}

/* ---- the end --------------------------------------------------------------------------------- */

pd_err runs_end_if_over(struct tx *t, const char *run, uint64_t now_ms)
{
    bool open = false;
    struct found_run r = {0};
    int64_t undone = 0;
    pd_err e =
        TX_RUN(t, "SELECT 1 FROM tasks{lite: INDEXED BY tasks_open} WHERE run = $1 AND ended_ms = 0 LIMIT 1",
               runs_on_any, &open, DB_S(run));
    if (e || open)
        return e;
    e = TX_RUN(t, "SELECT state FROM runs WHERE id = $1{pg: FOR UPDATE}", on_run, &r, DB_S(run));
    if (e || !r.found || is_over(r.state))
        return e;
    e = TX_RUN(t, "SELECT COUNT(*) FROM tasks WHERE run = $1 AND state <> 'done'", runs_on_number, &undone,
               DB_S(run));
    if (e)
        return e;
    char why[80] = "";
    if (undone)
        snprintf(why, sizeof(why), "%lld task%s dropped", (long long)undone, undone == 1 ? " was" : "s were");
    return enter_run(t, run, undone ? RUN_FAILED : RUN_DONE, span_str(why), now_ms);
}
