/* What entering a state means for a task, for what needs it, and for its run. */
#include "task/runs_priv.h"

#include <stdio.h>

static pd_err on_row(void *ctx, const struct db_value *c, unsigned n)
{
    struct task_row *r = ctx;
    (void)n;
    r->found = true;
    r->state = runs_task_state(c[0].s);
    r->kind = c[1].n == 1 << TASK_LLM ? TASK_LLM : c[1].n == 1 << TASK_COMMAND ? TASK_COMMAND : TASK_AGENT;
    r->epoch = c[2].n;
    r->attempt = c[3].n;
    r->failures = c[4].n;
    r->losses = c[5].n;
    r->steps = c[6].n;
    r->retries = c[7].n;
    r->backoff_ms = c[8].n;
    r->review = c[9].n != 0;
    r->budgeted = c[10].n > 0 || c[11].n > 0;
    return PD_OK;
}

pd_err runs_row(struct tx *t, const char *run, const char *task, struct task_row *ret)
{
    *ret = (struct task_row){0};
    if (strlen(run) >= sizeof(ret->run) || strlen(task) >= sizeof(ret->id))
        return PD_NOTFOUND;
    snprintf(ret->run, sizeof(ret->run), "%s", run);
    snprintf(ret->id, sizeof(ret->id), "%s", task);
    pd_err e = TX_RUN(
        t,
        "SELECT t.state, t.kind, t.epoch, t.attempt, t.failures, t.losses, t.steps, t.retries, t.backoff_ms, "
        "t.review,"
        " r.budget_tokens, r.budget_pico FROM tasks t JOIN runs r ON r.id = t.run WHERE t.run = $1 AND t.id = $2"
        "{pg: FOR UPDATE OF t}",
        on_row, ret, DB_S(run), DB_S(task));
    return e ? e : ret->found ? PD_OK : PD_NOTFOUND;
}

pd_err runs_held(struct tx *t, const struct held_task *h, struct task_row *ret)
{
    pd_err e = runs_row(t, h->run, h->task, ret);
    if (e == PD_NOTFOUND)
        return RUNS_FENCED;
    return e ? e : ret->epoch == h->epoch && ret->state == TASK_RUNNING ? PD_OK : RUNS_FENCED;
}

/* ---- what a state means for others ------------------------------------------------------- */

static pd_err free_dependents(struct tx *t, const struct task_row *r)
{
    return TX_RUN(t,
                  "UPDATE tasks SET needs_left = needs_left - 1, state = CASE WHEN needs_left <= 1 THEN 'ready' "
                  "ELSE state END"
                  " WHERE run = $1 AND state = 'waiting' AND id IN (SELECT task FROM task_needs WHERE run = $1 "
                  "AND need = $2)",
                  NULL, NULL, DB_S(r->run), DB_S(r->id));
}

struct dropping {
    struct buf ids; /* with a NUL behind each */
};

static pd_err on_dropped(void *ctx, const struct db_value *c, unsigned n)
{
    struct dropping *d = ctx;
    (void)n;
    pd_err e = buf_add(&d->ids, c[0].s);
    return e ? e : buf_add(&d->ids, span_of("", 1));
}

/* All that needs it, directly or not: none of it can be done any more. */
static pd_err drop_dependents(struct tx *t, const struct task_row *r, uint64_t now_ms)
{
    struct dropping d = {0};
    pd_err e = TX_RUN(t,
                      "WITH RECURSIVE lost (id) AS (SELECT task FROM task_needs WHERE run = $1 AND need = $2"
                      " UNION SELECT n.task FROM task_needs n JOIN lost l ON n.need = l.id WHERE n.run = $1)"
                      " UPDATE tasks SET state = 'dropped', ended_ms = $3 WHERE run = $1 AND state = 'waiting'"
                      " AND id IN (SELECT id FROM lost) RETURNING id",
                      on_dropped, &d, DB_S(r->run), DB_S(r->id), DB_I(now_ms));
    struct span rest = buf_span(&d.ids);
    while (!e && rest.n) {
        struct span id = span_cut(&rest, '\0');
        e = runs_event(t, r->run, id.p, "dropped", SPAN_NONE, now_ms);
    }
    buf_done(&d.ids);
    return e;
}

/* ---- the row ------------------------------------------------------------------------------ */

static const char *event_of(enum task_state to)
{
    switch (to) {
    case TASK_REVIEW:
    case TASK_DONE:
    case TASK_DROPPED:
    case TASK_CANCELLED:
    case TASK_AMBIGUOUS:
        return task_state_name(to);
    case TASK_WAITING:
    case TASK_READY:
    case TASK_RUNNING:
    case TASK_STATE_COUNT:
        break;
    }
    return "";
}

static pd_err tell(struct tx *t, const struct task_row *r, enum task_state to, const struct entering *how,
                   uint64_t now_ms)
{
    const char *what = how->event ? how->event : event_of(to);
    struct buf data = {0};
    struct put p = put_into(&data);
    if (!what[0])
        return PD_OK;
    if (to == TASK_REVIEW && !how->data.n) {
        put_text(&p, "{\"reason\":");
        put_json(&p, span_str(how->reason));
        put_text(&p, ",\"message\":");
        put_json(&p, span_upto(how->message, RUNS_MESSAGE_MAX));
        put_text(&p, "}");
    }
    pd_err e = p.err;
    if (!e)
        e = runs_event(t, r->run, r->id, what, how->data.n ? how->data : buf_span(&data), now_ms);
    buf_done(&data);
    return e;
}

pd_err runs_enter(struct tx *t, struct task_row *r, enum task_state to, const struct entering *how,
                  uint64_t now_ms)
{
    bool ended = to == TASK_DONE || to == TASK_DROPPED || to == TASK_CANCELLED;
    char message[RUNS_MESSAGE_MAX * 6 + 1];
    struct span said = span_upto(how->message, RUNS_MESSAGE_MAX);
    while (said.n && said.n < how->message.n && ((unsigned char)said.p[said.n] & 0xc0) == 0x80)
        said.n--; /* whole characters */
    snprintf(message, sizeof(message), "%.*s", SPAN_FMT(said));
    r->failures = how->forget ? 0 : r->failures + how->failed;
    r->losses = how->forget || how->failed ? 0 : r->losses + how->lost;
    pd_err e = TX_RUN(t,
                      "UPDATE tasks SET state = $4, epoch = epoch + $5, due_ms = $6, attempt = attempt + $7, "
                      "failures = $8, losses = $9,"
                      " ended_ms = $10, since_ms = $11, reason = $12, message = $13, claim = '', progress = ''"
                      " WHERE run = $1 AND id = $2 AND epoch = $3",
                      NULL, NULL, DB_S(r->run), DB_S(r->id), DB_I(r->epoch), DB_S(task_state_name(to)),
                      DB_I(how->fence), DB_I(to == TASK_READY ? how->due_ms : 0), DB_I(how->failed),
                      DB_I(r->failures), DB_I(r->losses), DB_I(ended ? now_ms : 0), DB_I(now_ms),
                      DB_S(to == TASK_REVIEW ? how->reason : ""), DB_S(to == TASK_REVIEW ? message : ""));
    r->state = to;
    r->epoch += how->fence;
    r->attempt += how->failed;
    if (!e)
        e = tell(t, r, to, how, now_ms);
    if (!e && to == TASK_DONE)
        e = free_dependents(t, r);
    if (!e && to == TASK_DROPPED)
        e = drop_dependents(t, r, now_ms);
    return e || !ended ? e : runs_end_if_over(t, r->run, now_ms);
}

pd_err runs_keep_result(struct tx *t, const struct task_row *r, struct span output, struct span error,
                        struct span evidence)
{
    return TX_RUN(t,
                  "INSERT INTO task_results (run, task, output, error, evidence) VALUES ($1, $2, $3, $4, $5)"
                  " ON CONFLICT (run, task) DO UPDATE SET output = COALESCE(excluded.output, task_results.output),"
                  " error = COALESCE(excluded.error, task_results.error),"
                  " evidence = COALESCE(excluded.evidence, task_results.evidence)",
                  NULL, NULL, DB_S(r->run), DB_S(r->id), output.p ? DB_T(output) : DB_NONE,
                  error.p ? DB_T(error) : DB_NONE, evidence.p ? DB_T(evidence) : DB_NONE);
}

pd_err runs_forget_steps(struct tx *t, const struct task_row *r)
{
    if (!r->steps)
        return PD_OK;
    return TX_RUN(t, "DELETE FROM task_steps WHERE run = $1 AND task = $2 AND kind <> 'effect'", NULL, NULL,
                  DB_S(r->run), DB_S(r->id));
}
