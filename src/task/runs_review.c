/* What people decide. A decision is taken once: it is a transition out of REVIEW, and there is only one. */
#include "task/runs_priv.h"

#include <stdio.h>

struct deciding {
    struct tx *t;
    const struct review *review;
    struct task_row row;
    struct buf data; /* of its event */
    uint64_t now_ms;
    char *why;
};

static pd_err say(struct deciding *d, const char *why)
{
    snprintf(d->why, PLAN_WHY_BYTES, "%s", why);
    return PD_INVALID;
}

/* Members of `over` in place of those of `spec`. */
static pd_err merge(struct json spec, struct json over, struct buf *out)
{
    struct put p = put_into(out);
    struct json_walk w;
    struct json v;
    struct span key;
    bool any = false;
    for (int pass = 0; pass < 2; pass++) {
        json_walk_init(&w, pass ? over : spec);
        while (json_walk_next(&w, &key, &v)) {
            struct json_walk o;
            struct json x;
            struct span name;
            bool replaced = false;
            json_walk_init(&o, pass ? (struct json){JSON_NONE, SPAN_NONE} : over);
            while (json_walk_next(&o, &name, &x))
                replaced |= span_eq(name, key);
            if (replaced)
                continue;
            put_text(&p, any ? "," : "{");
            put_escaped(&p, "", key);
            put_text(&p, ":");
            put_span(&p, v.raw);
            any = true;
        }
    }
    put_text(&p, any ? "}" : "{}");
    return p.err;
}

/* What the run itself goes by stands beside the spec. */
static pd_err new_rules(struct deciding *d, struct json over)
{
    static const struct {
        const char *name, *sql, *why;
        int64_t most;
    } rules[] = {
        {"retries", "UPDATE tasks SET retries = $3 WHERE run = $1 AND id = $2", "retries is a number up to 100",
         PLAN_RETRIES_MAX},
        {"backoff_ms", "UPDATE tasks SET backoff_ms = $3 WHERE run = $1 AND id = $2",
         "backoff_ms is a number of milliseconds up to an hour", RUNS_BACKOFF_MAX_MS},
    };
    pd_err e = PD_OK;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && !e; i++) {
        struct json v = json_get(over, rules[i].name);
        int64_t n;
        if (v.type == JSON_NONE)
            continue;
        if (!json_i64(v, &n) || n < 0 || n > rules[i].most)
            return say(d, rules[i].why);
        e = TX_RUN(d->t, rules[i].sql, NULL, NULL, DB_S(d->row.run), DB_S(d->row.id), DB_I(n));
    }
    return e;
}

static pd_err new_spec(struct deciding *d)
{
    struct json over, spec;
    struct buf old = {0}, merged = {0};
    if (!d->review->value.n)
        return PD_OK;
    if (json_first(d->review->value, &over, NULL) != PD_OK || over.type != JSON_OBJECT)
        return say(d, "value is to be an object whose members replace those of the task's spec");
    if (json_get(over, "id").type != JSON_NONE || json_get(over, "kind").type != JSON_NONE ||
        json_get(over, "needs").type != JSON_NONE)
        return say(d, "id, kind and needs of a task stay as they are");
    pd_err e = new_rules(d, over);
    if (!e)
        e = TX_RUN(d->t, "SELECT spec FROM task_specs WHERE run = $1 AND task = $2", runs_on_text, &old,
                   DB_S(d->row.run), DB_S(d->row.id));
    if (!e)
        e = json_first(buf_span(&old), &spec, NULL);
    if (!e)
        e = merge(spec, over, &merged);
    if (!e && buf_size(&merged) > RUNS_VALUE_MAX)
        e = PD_TOOBIG;
    if (!e)
        e = TX_RUN(d->t, "UPDATE task_specs SET spec = $3 WHERE run = $1 AND task = $2", NULL, NULL,
                   DB_S(d->row.run), DB_S(d->row.id), DB_T(buf_span(&merged)));
    buf_done(&old);
    buf_done(&merged);
    return e;
}

static pd_err retry(struct deciding *d)
{
    struct entering how = {.forget = true, .event = "decided", .data = buf_span(&d->data)};
    pd_err e = new_spec(d);
    if (!e)
        e = runs_forget_steps(d->t, &d->row);
    return e ? e : runs_enter(d->t, &d->row, TASK_READY, &how, d->now_ms);
}

static pd_err to_done(struct deciding *d, struct span output)
{
    struct entering how = {.event = "decided", .data = buf_span(&d->data)};
    char why[PLAN_WHY_BYTES] = "";
    pd_err e = PD_OK;
    if (runs_is_planner(&d->row)) {
        e = runs_take_plan(d->t, &d->row, output, d->now_ms, why);
        if (e == PD_INVALID)
            return say(d, why);
    }
    if (!e)
        e = runs_keep_result(d->t, &d->row, output, SPAN_NONE, SPAN_NONE);
    return e ? e : runs_enter(d->t, &d->row, TASK_DONE, &how, d->now_ms);
}

static pd_err edit(struct deciding *d)
{
    if (!d->review->value.n)
        return say(d, "an edit needs a value: the output");
    return d->review->value.n > RUNS_VALUE_MAX ? PD_TOOBIG : to_done(d, d->review->value);
}

static pd_err take_output(struct deciding *d)
{
    struct buf output = {0};
    pd_err e = TX_RUN(d->t, "SELECT output FROM task_results WHERE run = $1 AND task = $2", runs_on_text, &output,
                      DB_S(d->row.run), DB_S(d->row.id));
    if (!e)
        e = buf_size(&output) ? to_done(d, buf_span(&output))
                              : say(d, "it has no output to accept: edit it, and give one");
    buf_done(&output);
    return e;
}

static pd_err decide(struct deciding *d)
{
    struct put p = put_into(&d->data);
    put_printf(&p, "{\"decision\":\"%s\",\"who\":", review_decision_name(d->review->decision));
    put_json(&p, span_upto(d->review->who, WORKER_NAME_BYTES));
    put_text(&p, "}");
    struct entering drop = {.event = "decided", .data = buf_span(&d->data)};
    if (p.err)
        return p.err;
    switch (d->review->decision) {
    case REVIEW_RETRY:
        return retry(d);
    case REVIEW_EDIT:
        return edit(d);
    case REVIEW_ACCEPT:
        return take_output(d);
    case REVIEW_DROP:
        return runs_enter(d->t, &d->row, TASK_DROPPED, &drop, d->now_ms);
    case REVIEW_DECISION_COUNT:
        break;
    }
    return say(d, "a decision is retry, edit, accept or drop");
}

pd_err runs_review(struct tx *t, const struct review *r, uint64_t now_ms, enum task_state *ret_state,
                   char why[PLAN_WHY_BYTES])
{
    struct deciding d = {.t = t, .review = r, .now_ms = now_ms, .why = why};
    why[0] = '\0';
    pd_err e = runs_row(t, r->run, r->task, &d.row);
    if (!e && d.row.state != TASK_REVIEW)
        e = PD_EXISTS;
    if (!e)
        e = decide(&d);
    buf_done(&d.data);
    *ret_state = d.row.state;
    return e;
}
