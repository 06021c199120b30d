/* What a worker does: claim, beat, record steps, finish. */
#include "task/runs_priv.h"

#include <stdio.h>

void claimed_done(struct claimed *c)
{
    buf_done(&c->spec);
    buf_done(&c->run_document);
    buf_done(&c->inputs);
    buf_done(&c->last_error);
    *c = (struct claimed){0};
}

/* ---- claims ----------------------------------------------------------------------------- */

struct claiming {
    struct claimed *to;
    bool found;
};

static enum task_kind kind_of(int64_t bit)
{
    return bit == 1 << TASK_LLM ? TASK_LLM : bit == 1 << TASK_COMMAND ? TASK_COMMAND : TASK_AGENT;
}

static pd_err on_claimed(void *ctx, const struct db_value *c, unsigned n)
{
    struct claiming *k = ctx;
    struct claimed *to = k->to;
    (void)n;
    snprintf(to->run, sizeof(to->run), "%.*s", SPAN_FMT(c[0].s));
    snprintf(to->task, sizeof(to->task), "%.*s", SPAN_FMT(c[1].s));
    to->epoch = c[2].n;
    to->attempt = c[3].n;
    to->kind = kind_of(c[4].n);
    to->lease_ms = c[5].n;
    k->found = true;
    return PD_OK;
}

/* The oldest run that has something ready; of it what is due longest, then as in the plan. PostgreSQL looks once, for one row, whatever way it
 * takes to the update: hence MATERIALIZED. SQLite takes runs first, each by its index: hence CROSS. */
#define CLAIM(which)                                                                                            \
    "{pg:WITH x AS MATERIALIZED (SELECT y.run, y.id FROM (SELECT r.id FROM runs r WHERE " which                 \
    " r.claimable = 1 ORDER BY r.number OFFSET 0) r CROSS JOIN LATERAL (SELECT t.run, t.id FROM tasks t"        \
    " WHERE t.run = r.id AND t.state = 'ready' AND t.due_ms <= $4 AND (t.kind & $5) <> 0"                       \
    " ORDER BY t.due_ms, t.position LIMIT 1 FOR UPDATE SKIP LOCKED) y LIMIT 1) }"                               \
    "UPDATE tasks SET state = 'running', epoch = epoch + 1, beat = 0, worker = $1, claim = $2, lease_ms = $3,"  \
    " began_ms = $4, progress = ''"                                                                             \
    "{pg: FROM x WHERE tasks.run = x.run AND tasks.id = x.id}"                                                  \
    "{lite: WHERE (run, id) IN (SELECT t.run, t.id FROM runs r CROSS JOIN tasks t ON t.run = r.id WHERE " which \
    " r.claimable = 1 AND t.state = 'ready' AND t.due_ms <= $4 AND (t.kind & $5) <> 0"                          \
    " ORDER BY r.number, t.due_ms, t.position LIMIT 1)}"                                                        \
    " RETURNING tasks.run, tasks.id, tasks.epoch, tasks.attempt, tasks.kind, tasks.lease_ms"

static pd_err claim_new(struct tx *t, const struct claim_wish *w, uint64_t now_ms, struct claiming *k)
{
    unsigned kinds = w->kinds ? w->kinds : (1u << TASK_KIND_COUNT) - 1;
    uint64_t lease = w->lease_ms ? w->lease_ms : LEASE_DEFAULT_MS;
    if (w->run)
        return TX_RUN(t, CLAIM("r.id = $6 AND "), on_claimed, k, DB_T(w->worker), DB_T(w->claim), DB_I(lease),
                      DB_I(now_ms), DB_I(kinds), DB_S(w->run));
    return TX_RUN(t, CLAIM(""), on_claimed, k, DB_T(w->worker), DB_T(w->claim), DB_I(lease), DB_I(now_ms),
                  DB_I(kinds));
}

/* The same word again, of a worker whose answer was lost. */
static pd_err claim_again(struct tx *t, const struct claim_wish *w, struct claiming *k)
{
    return TX_RUN(t,
                  "SELECT run, id, epoch, attempt, kind, lease_ms FROM tasks WHERE claim = $1 AND state = "
                  "'running' AND worker = $2",
                  on_claimed, k, DB_T(w->claim), DB_T(w->worker));
}

static pd_err on_due(void *ctx, const struct db_value *c, unsigned n)
{
    (void)n;
    *(uint64_t *)ctx = (uint64_t)c[0].n;
    return PD_OK;
}

/* When the next task becomes due, as far as one waits for its moment alone. */
static pd_err look_ahead(struct tx *t, const struct claim_wish *w, uint64_t now_ms, uint64_t *ret_wait_ms)
{
    uint64_t due = 0;
    pd_err e = TX_RUN(t,
                      "SELECT t.due_ms FROM runs r {lite:CROSS }JOIN tasks t ON t.run = r.id WHERE r.claimable = "
                      "1 AND t.state = 'ready'"
                      " AND t.due_ms > $1 AND (r.id = $2 OR $2 = '') ORDER BY t.due_ms LIMIT 1",
                      on_due, &due, DB_I(now_ms), DB_S(w->run));
    *ret_wait_ms = due ? due - now_ms : UINT64_MAX;
    return e ? e : PD_NOTFOUND;
}

struct inputs {
    struct put p;
    bool any;
};

static pd_err on_input(void *ctx, const struct db_value *c, unsigned n)
{
    struct inputs *in = ctx;
    (void)n;
    put_text(&in->p, in->any ? "," : "{");
    put_json(&in->p, c[0].s);
    put_text(&in->p, ":");
    put_span(&in->p, runs_json_or(c[1].s, "null"));
    in->any = true;
    return in->p.err;
}

static pd_err read_claimed(struct tx *t, struct claimed *c)
{
    struct inputs in = {.p = put_into(&c->inputs)};
    pd_err e = TX_RUN(t, "SELECT spec FROM task_specs WHERE run = $1 AND task = $2", runs_on_text, &c->spec,
                      DB_S(c->run), DB_S(c->task));
    if (!e)
        e = TX_RUN(t, "SELECT document FROM runs WHERE id = $1", runs_on_text, &c->run_document, DB_S(c->run));
    if (!e)
        e = TX_RUN(t,
                   "SELECT n.need, r.output FROM task_needs n LEFT JOIN task_results r ON r.run = n.run AND "
                   "r.task = n.need"
                   " WHERE n.run = $1 AND n.task = $2 ORDER BY n.need{pg: COLLATE \"C\"}",
                   on_input, &in, DB_S(c->run), DB_S(c->task));
    put_text(&in.p, in.any ? "}" : "{}");
    if (!e)
        e = in.p.err;
    return e ? e
             : TX_RUN(t, "SELECT error FROM task_results WHERE run = $1 AND task = $2", runs_on_text,
                      &c->last_error, DB_S(c->run), DB_S(c->task));
}

static pd_err tell_claim(struct tx *t, const struct claimed *c, struct span worker, uint64_t now_ms)
{
    struct buf data = {0};
    struct put p = put_into(&data);
    put_text(&p, "{\"worker\":");
    put_json(&p, worker);
    put_printf(&p, ",\"epoch\":%lld,\"attempt\":%lld}", (long long)c->epoch, (long long)c->attempt);
    pd_err e = p.err ? p.err : runs_event(t, c->run, c->task, "claimed", buf_span(&data), now_ms);
    buf_done(&data);
    return e;
}

pd_err runs_claim(struct tx *t, const struct claim_wish *w, uint64_t now_ms, struct claimed *ret,
                  uint64_t *ret_wait_ms)
{
    struct claiming k = {.to = ret};
    *ret = (struct claimed){0};
    *ret_wait_ms = 0;
    pd_err e = claim_again(t, w, &k);
    bool again = k.found;
    if (!e && !again)
        e = claim_new(t, w, now_ms, &k);
    if (!e && !k.found)
        e = look_ahead(t, w, now_ms, ret_wait_ms);
    if (!e)
        e = read_claimed(t, ret);
    if (!e && !again)
        e = tell_claim(t, ret, w->worker, now_ms);
    if (e)
        claimed_done(ret);
    return e;
}

/* ---- beats ------------------------------------------------------------------------------- */

static pd_err on_pause(void *ctx, const struct db_value *c, unsigned n)
{
    (void)n;
    *(bool *)ctx = span_is(c[0].s, run_state_name(RUN_PAUSED));
    return PD_OK;
}

pd_err runs_beat(struct tx *t, const struct held_task *h, struct span progress, uint64_t now_ms,
                 struct beat_answer *ret)
{
    struct task_row r;
    (void)now_ms;
    *ret = (struct beat_answer){0};
    if (progress.n > RUNS_PROGRESS_MAX)
        return PD_TOOBIG;
    pd_err e = TX_RUN(t,
                      "UPDATE tasks SET beat = beat + 1, progress = CASE WHEN $4 = '' THEN progress ELSE $4 END"
                      " WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running'",
                      NULL, NULL, DB_S(h->run), DB_S(h->task), DB_I(h->epoch), DB_T(progress));
    if (e)
        return e;
    if (tx_changed(t))
        return TX_RUN(t, "SELECT state FROM runs WHERE id = $1", on_pause, &ret->pause, DB_S(h->run));
    e = runs_row(t, h->run, h->task, &r);
    ret->cancel = !e && r.epoch == h->epoch && r.state == TASK_CANCELLED;
    return e == PD_NOTFOUND || (!e && !ret->cancel) ? RUNS_FENCED : e;
}

/* ---- steps -------------------------------------------------------------------------------- */

struct known_step {
    struct buf *result;
    int64_t epoch;
    bool ended, found;
};

static pd_err on_step(void *ctx, const struct db_value *c, unsigned n)
{
    struct known_step *k = ctx;
    (void)n;
    k->found = true;
    k->epoch = c[0].n;
    k->ended = c[1].type == DB_TEXT;
    if (k->ended)
        return k->result ? buf_add(k->result, c[1].s) : PD_OK;
    return PD_OK;
}

/* It was begun before. */
static pd_err known_step(struct tx *t, const struct held_task *h, const struct step *s, enum step_found *ret_found,
                         struct buf *result)
{
    struct known_step k = {.result = result};
    pd_err e = TX_RUN(t, "SELECT epoch, result FROM task_steps WHERE run = $1 AND task = $2 AND step = $3",
                      on_step, &k, DB_S(h->run), DB_S(h->task), DB_S(s->name));
    if (e)
        return e;
    bool own = k.epoch == h->epoch; /* the answer to its beginning was lost */
    *ret_found = k.ended ? STEP_DONE : own || s->kind == STEP_PURE ? STEP_NEW : STEP_AMBIGUOUS;
    if (*ret_found == STEP_AMBIGUOUS)
        return s->key.n ? json_put_str(result, s->key) : PD_OK;
    if (*ret_found == STEP_NEW && !own)
        e = TX_RUN(t, "UPDATE task_steps SET epoch = $4 WHERE run = $1 AND task = $2 AND step = $3", NULL, NULL,
                   DB_S(h->run), DB_S(h->task), DB_S(s->name), DB_I(h->epoch));
    return e;
}

pd_err runs_step_begin(struct tx *t, const struct held_task *h, const struct step *s, uint64_t now_ms,
                       enum step_found *ret_found, struct buf *result)
{
    struct task_row r;
    buf_clear(result);
    if (!s->name[0] || strlen(s->name) > STEP_NAME_MAX || s->key.n > STEP_NAME_MAX)
        return PD_TOOBIG;
    pd_err e = runs_held(t, h, &r);
    if (e)
        return e;
    e = TX_RUN(t,
               "INSERT INTO task_steps (run, task, step, kind, key, epoch, result, begun_ms, ended_ms)"
               " VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, 0) ON CONFLICT (run, task, step) DO NOTHING",
               NULL, NULL, DB_S(h->run), DB_S(h->task), DB_S(s->name), DB_S(step_kind_name(s->kind)), DB_T(s->key),
               DB_I(h->epoch), DB_I(now_ms));
    if (e)
        return e;
    if (!tx_changed(t))
        return known_step(t, h, s, ret_found, result);
    *ret_found = STEP_NEW;
    if (r.steps >= STEPS_MAX)
        return PD_TOOBIG;
    return TX_RUN(t, "UPDATE tasks SET steps = steps + 1 WHERE run = $1 AND id = $2", NULL, NULL, DB_S(h->run),
                  DB_S(h->task));
}

static pd_err tell_step(struct tx *t, const struct held_task *h, const char *step, uint64_t now_ms)
{
    struct buf data = {0};
    struct put p = put_into(&data);
    put_text(&p, "{\"step\":");
    put_json(&p, span_str(step));
    put_text(&p, "}");
    pd_err e = p.err ? p.err : runs_event(t, h->run, h->task, "step", buf_span(&data), now_ms);
    buf_done(&data);
    return e;
}

pd_err runs_step_end(struct tx *t, const struct held_task *h, const char *step, struct span result,
                     uint64_t now_ms)
{
    struct task_row r;
    struct known_step k = {0};
    if (result.n > RUNS_VALUE_MAX)
        return PD_TOOBIG;
    pd_err e = runs_held(t, h, &r);
    if (!e)
        e = TX_RUN(t,
                   "UPDATE task_steps SET result = $4, ended_ms = $5 WHERE run = $1 AND task = $2 AND step = $3 "
                   "AND result IS NULL",
                   NULL, NULL, DB_S(h->run), DB_S(h->task), DB_S(step), DB_T(runs_json_or(result, "null")),
                   DB_I(now_ms));
    if (e)
        return e;
    if (tx_changed(t))
        return tell_step(t, h, step, now_ms);
    e = TX_RUN(t, "SELECT epoch, result FROM task_steps WHERE run = $1 AND task = $2 AND step = $3", on_step, &k,
               DB_S(h->run), DB_S(h->task), DB_S(step));
    return e ? e : k.found ? PD_OK : PD_NOTFOUND; /* it ended before: the first result holds */
}

/* ---- the end ------------------------------------------------------------------------------ */

struct finishing {
    struct tx *t;
    struct task_row row;
    const struct task_end *end;
    struct buf message; /* of its error */
    uint64_t now_ms;
};

static pd_err add_spent(struct finishing *f)
{
    const struct task_end *end = f->end;
    if (!end->tokens && !end->picodollars)
        return PD_OK;
    return TX_RUN(f->t, "UPDATE tasks SET tokens = tokens + $3, pico = pico + $4 WHERE run = $1 AND id = $2", NULL,
                  NULL, DB_S(f->row.run), DB_S(f->row.id), DB_I(end->tokens), DB_I(end->picodollars));
}

struct budget {
    int64_t tokens, pico, spent_tokens, spent_pico;
    bool found;
};

static pd_err on_budget(void *ctx, const struct db_value *c, unsigned n)
{
    (void)n;
    *(struct budget *)ctx = (struct budget){c[0].n, c[1].n, c[2].n, c[3].n, true};
    return PD_OK;
}

/* A budget that is used up pauses the run; who resumes it lets it use as much again. */
static pd_err check_budget(struct finishing *f)
{
    struct budget b = {0};
    struct buf why = {0};
    enum run_state state;
    const struct task_end *end = f->end;
    if (!f->row.budgeted || (!end->tokens && !end->picodollars))
        return PD_OK;
    pd_err e = TX_RUN(f->t,
                      "UPDATE runs SET spent_tokens = spent_tokens + $2, spent_pico = spent_pico + $3 WHERE id = "
                      "$1 AND ended_ms = 0"
                      " RETURNING budget_tokens, budget_pico, spent_tokens, spent_pico",
                      on_budget, &b, DB_S(f->row.run), DB_I(end->tokens), DB_I(end->picodollars));
    bool tokens = b.tokens && b.spent_tokens >= b.tokens, cost = b.pico && b.spent_pico >= b.pico;
    if (e || !b.found || (!tokens && !cost))
        return e;
    struct put p = put_into(&why);
    if (tokens) {
        put_printf(&p, "its budget of %lld tokens is used (%lld)", (long long)b.tokens, (long long)b.spent_tokens);
    } else {
        put_text(&p, "its budget of $");
        runs_put_dollars(&p, b.pico);
        put_text(&p, " is used ($");
        runs_put_dollars(&p, b.spent_pico);
        put_text(&p, ")");
    }
    put_text(&p, "; resume it to let it use as much again");
    e = p.err ? p.err : runs_wish(f->t, f->row.run, RUN_PAUSE, buf_span(&why), f->now_ms, &state);
    buf_done(&why);
    return e;
}

static uint64_t pause_of(const struct task_row *r)
{
    int64_t shift = r->failures < 30 ? r->failures : 30;
    uint64_t ms = (uint64_t)r->backoff_ms << shift;
    return ms < RUNS_BACKOFF_MAX_MS ? ms : RUNS_BACKOFF_MAX_MS;
}

/* What the error says, for a person. */
static pd_err read_message(struct finishing *f, struct span error)
{
    struct json v;
    struct arena a;
    struct span text = SPAN_NONE;
    if (!error.n || json_first(error, &v, NULL) != PD_OK)
        return PD_OK;
    struct json m = v.type == JSON_STRING ? v : json_get(v, "message");
    if (m.type != JSON_STRING)
        return PD_OK;
    arena_init(&a, 0, 0);
    pd_err e = json_text(m, &a, &text);
    if (!e)
        e = buf_add(&f->message, span_upto(text, 4L * RUNS_MESSAGE_MAX));
    arena_done(&a);
    return e == PD_SYNTAX ? PD_OK : e;
}

static pd_err failed(struct finishing *f, struct span error, bool final)
{
    struct task_row *r = &f->row;
    struct buf data = {0};
    struct put p = put_into(&data);
    struct json v = {JSON_NONE, SPAN_NONE};
    struct entering how = {.failed = true, .event = "failed"};
    pd_err e = runs_forget_steps(f->t, r);
    if (e)
        return e;
    if (final || r->failures >= r->retries) {
        how = (struct entering){.failed = true, .reason = "dead_letter", .message = buf_span(&f->message)};
        return runs_enter(f->t, r, TASK_REVIEW, &how, f->now_ms);
    }
    if (error.n && json_first(error, &v, NULL) != PD_OK)
        v = (struct json){JSON_NONE, SPAN_NONE};
    how.due_ms = f->now_ms + pause_of(r);
    put_text(&p, "{\"class\":");
    put_span(&p, json_get(v, "class").type == JSON_STRING ? json_get(v, "class").raw : SPAN_LIT("\"\""));
    put_text(&p, ",\"message\":");
    put_json(&p, span_upto(buf_span(&f->message), RUNS_MESSAGE_MAX));
    put_printf(&p, ",\"attempt\":%lld,\"due_ms\":%llu}", (long long)r->attempt, (unsigned long long)how.due_ms);
    how.data = buf_span(&data);
    e = p.err ? p.err : runs_enter(f->t, r, TASK_READY, &how, f->now_ms);
    buf_done(&data);
    return e;
}

/* A planner whose answer is no plan is told why, as a model is that breaks a schema. */
static pd_err bad_plan(struct finishing *f, const char *why)
{
    struct buf error = {0};
    struct put p = put_into(&error);
    put_text(&p, "{\"class\":\"plan_invalid\",\"message\":");
    put_json(&p, span_str(why));
    put_text(&p, "}");
    pd_err e = p.err;
    if (!e)
        e = runs_keep_result(f->t, &f->row, f->end->output, buf_span(&error), f->end->evidence);
    if (!e)
        e = read_message(f, buf_span(&error));
    if (!e)
        e = failed(f, buf_span(&error), false);
    buf_done(&error);
    return e;
}

static pd_err tell_done(struct finishing *f, enum task_state to, const char *reason)
{
    struct buf data = {0};
    struct put p = put_into(&data);
    struct entering how = {.reason = reason};
    if (to == TASK_DONE) {
        put_printf(&p, "{\"tokens\":%llu,\"cost\":", (unsigned long long)f->end->tokens);
        runs_put_dollars(&p, (int64_t)f->end->picodollars);
        put_text(&p, "}");
        how.data = buf_span(&data);
    }
    pd_err e = p.err ? p.err : runs_enter(f->t, &f->row, to, &how, f->now_ms);
    buf_done(&data);
    return e;
}

static pd_err done(struct finishing *f)
{
    const struct task_end *end = f->end;
    struct task_row *r = &f->row;
    char why[PLAN_WHY_BYTES];
    pd_err e = PD_OK;
    if (runs_is_planner(r)) {
        e = runs_take_plan(f->t, r, end->output, f->now_ms, why);
        if (e == PD_INVALID && why[0])
            return bad_plan(f, why);
    }
    if (!e)
        e = runs_keep_result(f->t, r,
                             span_of(end->output.n ? end->output.p : "null", end->output.n ? end->output.n : 4),
                             SPAN_LIT(""), end->evidence);
    return e ? e : tell_done(f, r->review ? TASK_REVIEW : TASK_DONE, "plan");
}

static pd_err to_review(struct finishing *f, const char *reason)
{
    struct entering how = {.reason = reason, .message = buf_span(&f->message)};
    pd_err e = PD_OK;
    if (f->end->outcome == OUTCOME_AMBIGUOUS) {
        struct entering unknown = {0};
        e = runs_enter(f->t, &f->row, TASK_AMBIGUOUS, &unknown, f->now_ms);
    }
    return e ? e : runs_enter(f->t, &f->row, TASK_REVIEW, &how, f->now_ms);
}

static pd_err by_outcome(struct finishing *f)
{
    const struct task_end *end = f->end;
    struct entering released = {.event = "released"};
    pd_err e = read_message(f, end->error);
    if (!e && end->outcome != OUTCOME_DONE && end->outcome != OUTCOME_RELEASED)
        e = runs_keep_result(f->t, &f->row, end->output.n ? end->output : SPAN_NONE,
                             end->error.n ? end->error : SPAN_LIT(""),
                             end->evidence.n ? end->evidence : SPAN_NONE);
    if (e)
        return e;
    switch (end->outcome) {
    case OUTCOME_DONE:
        return done(f);
    case OUTCOME_FAILED:
        return failed(f, end->error, end->final);
    case OUTCOME_INCONCLUSIVE:
        return to_review(f, "inconclusive");
    case OUTCOME_AMBIGUOUS:
        return to_review(f, "ambiguous");
    case OUTCOME_RELEASED:
        return runs_enter(f->t, &f->row, TASK_READY, &released, f->now_ms);
    }
    return PD_INVALID;
}

/* What is told after the run was cancelled counts as spent, once. */
static pd_err finish_cancelled(struct finishing *f)
{
    pd_err e = TX_RUN(f->t, "UPDATE tasks SET claim = '' WHERE run = $1 AND id = $2 AND claim <> ''", NULL, NULL,
                      DB_S(f->row.run), DB_S(f->row.id));
    return e || !tx_changed(f->t) ? e : add_spent(f);
}

pd_err runs_finish(struct tx *t, const struct held_task *h, const struct task_end *end, uint64_t now_ms,
                   enum task_state *ret_state)
{
    struct finishing f = {.t = t, .end = end, .now_ms = now_ms};
    if (end->output.n > RUNS_VALUE_MAX || end->evidence.n > RUNS_VALUE_MAX || end->error.n > RUNS_ERROR_MAX)
        return PD_TOOBIG;
    pd_err e = runs_row(t, h->run, h->task, &f.row);
    if (e == PD_NOTFOUND || (!e && f.row.epoch != h->epoch))
        return RUNS_FENCED;
    if (e)
        return e;
    if (f.row.state == TASK_RUNNING) {
        e = add_spent(&f);
        if (!e)
            e = by_outcome(&f);
        if (!e)
            e = check_budget(&f);
    } else if (f.row.state == TASK_CANCELLED) {
        e = finish_cancelled(&f);
    } /* else it was finished before, and the answer was lost */
    *ret_state = f.row.state;
    buf_done(&f.message);
    return e;
}
