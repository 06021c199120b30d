/* /api/work: what workers in any language ask. docs/runs-api.md */
#include "dialect/codec.h"
#include "front/desk.h"
#include "front/front_priv.h"
#include "relay/routing.h"

#include <stdio.h>

/* run, task and epoch of a claim. */
static bool read_held(struct visit *a)
{
    uint64_t epoch = 0;
    if (!visit_text(a, "run", RUN_ID_BYTES - 1, true, &a->run) ||
        !visit_text(a, "task", PLAN_ID_MAX, true, &a->task) || !visit_count(a, "epoch", INT64_MAX, true, &epoch))
        return false;
    a->held = (struct held_task){a->run, a->task, (int64_t)epoch};
    return true;
}

static struct span raw(struct visit *a, const char *name)
{
    struct json v = json_get(a->doc, name);
    return v.type == JSON_NONE || v.type == JSON_NULL ? SPAN_NONE : v.raw;
}

static void answer_put(struct visit *a, struct buf *out, pd_err e)
{
    if (e)
        visit_error(a, e, "");
    else
        visit_json(a, 200, buf_span(out));
    buf_done(out);
}

/* ---- claim ------------------------------------------------------------------------------- */

static pd_err claim_work(struct tx *t, struct visit *a)
{
    claimed_done(&a->claimed);
    return runs_claim(t, &a->wish, a->now_ms, &a->claimed, &a->wait_ms);
}

static void claim_answer(struct visit *a, pd_err e)
{
    desk_tried(a, e);
    if (e == PD_NOTFOUND) {
        desk_wait(a);
        return;
    }
    if (e) {
        visit_error(a, e, "");
        return;
    }
    const struct claimed *c = &a->claimed;
    meter_add(a->worker->meter, METER_WORK_CLAIMED, 1, LABELS(task_kind_name(c->kind)));
    struct buf out = {0};
    struct put p = put_into(&out);
    put_text(&p, "{\"run\":");
    put_json(&p, span_str(c->run));
    put_text(&p, ",\"task\":");
    put_json(&p, span_str(c->task));
    put_printf(
        &p, ",\"epoch\":%lld,\"attempt\":%lld,\"kind\":\"%s\",\"lease_ms\":%lld,\"checkpoint_ms\":%llu,\"spec\":",
        (long long)c->epoch, (long long)c->attempt, task_kind_name(c->kind), (long long)c->lease_ms,
        (unsigned long long)routing_conf(a->worker->routing)->settings.checkpoint_interval);
    put_span(&p, buf_span(&c->spec));
    put_text(&p, ",\"plan\":");
    put_span(&p, buf_span(&c->run_document));
    put_text(&p, ",\"inputs\":");
    put_span(&p, buf_span(&c->inputs));
    put_text(&p, ",\"last_error\":");
    put_span(&p, buf_size(&c->last_error) ? buf_span(&c->last_error) : SPAN_LIT("null"));
    put_text(&p, "}");
    answer_put(a, &out, p.err);
}

static bool read_kinds(struct visit *a)
{
    struct json list = json_get(a->doc, "kinds"), v;
    struct json_walk w;
    if (list.type == JSON_NONE || list.type == JSON_NULL)
        return true;
    json_walk_init(&w, list);
    while (list.type == JSON_ARRAY && json_walk_next(&w, NULL, &v)) {
        unsigned bit = 0;
        for (unsigned i = 0; i < TASK_KIND_COUNT; i++)
            if (json_is(v, task_kind_name((enum task_kind)i)))
                bit = 1u << i;
        a->wish.kinds |= bit;
        if (!bit)
            a->wish.kinds = ~0u;
        if (!bit)
            break;
    }
    if (a->wish.kinds && a->wish.kinds != ~0u)
        return true;
    visit_refuse(a, 400, "bad_request", "kinds is to be a list of llm, command and agent");
    return false;
}

static bool read_claim(struct visit *a)
{
    const char *worker, *claim;
    uint64_t lease = LEASE_DEFAULT_MS;
    a->wait_ms = 0;
    if (!visit_text(a, "worker", WORKER_NAME_BYTES, true, &worker) ||
        !visit_text(a, "claim", CLAIM_BYTES, true, &claim) ||
        !visit_text(a, "run", RUN_ID_BYTES - 1, false, &a->run) ||
        !visit_count(a, "lease_ms", LEASE_MOST_MS, false, &lease) ||
        !visit_count(a, "wait_ms", DESK_WAIT_MAX_MS, false, &a->wait_ms) || !read_kinds(a))
        return false;
    if (lease < LEASE_LEAST_MS) {
        visit_refuse(a, 400, "bad_request", "lease_ms is to be 1000 at least");
        return false;
    }
    a->wish.worker = span_str(worker);
    a->wish.claim = span_str(claim);
    a->wish.run = a->run;
    a->wish.lease_ms = lease;
    return true;
}

void serve_work_claim(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new_json(w, rq, claim_work, claim_answer);
    if (!a || !read_claim(a))
        return;
    a->until_ms = loop_now_ms(w->loop) + a->wait_ms;
    visit_start(a);
}

/* ---- beat ----------------------------------------------------------------------------------- */

static pd_err beat_work(struct tx *t, struct visit *a)
{
    return runs_beat(t, &a->held, a->text, a->now_ms, &a->beat);
}

static void beat_answer_it(struct visit *a, pd_err e)
{
    char text[60];
    if (e) {
        visit_error(a, e, "fenced");
        return;
    }
    int n = snprintf(text, sizeof(text), "{\"cancel\":%s,\"pause\":%s}", a->beat.cancel ? "true" : "false",
                     a->beat.pause ? "true" : "false");
    visit_json(a, 200, span_of(text, (size_t)n));
}

void serve_work_beat(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new_json(w, rq, beat_work, beat_answer_it);
    if (!a || !read_held(a))
        return;
    a->text = raw(a, "progress");
    visit_start(a);
}

/* ---- steps ------------------------------------------------------------------------------------ */

static pd_err begin_work(struct tx *t, struct visit *a)
{
    return runs_step_begin(t, &a->held, &a->step, a->now_ms, &a->found, &a->out);
}

static void begin_answer(struct visit *a, pd_err e)
{
    static const char *const found[] = {"new", "done", "ambiguous"};
    struct buf out = {0};
    struct put p = put_into(&out);
    if (e) {
        visit_error(a, e, "fenced");
        return;
    }
    put_printf(&p, "{\"found\":\"%s\"", found[a->found]);
    if (a->found != STEP_NEW && buf_size(&a->out)) {
        put_text(&p, a->found == STEP_DONE ? ",\"result\":" : ",\"key\":");
        put_span(&p, buf_span(&a->out));
    }
    put_text(&p, "}");
    answer_put(a, &out, p.err);
}

static pd_err end_work(struct tx *t, struct visit *a)
{
    return runs_step_end(t, &a->held, a->step.name, a->text, a->now_ms);
}

static void end_answer(struct visit *a, pd_err e)
{
    if (e)
        visit_error(a, e, "fenced");
    else
        visit_json(a, 200, SPAN_LIT("{}"));
}

static bool read_step(struct visit *a)
{
    const char *kind = NULL, *key = NULL, *phase;
    if (!read_held(a) || !visit_text(a, "step", STEP_NAME_MAX, true, &a->step.name) ||
        !visit_text(a, "phase", 10, true, &phase) || !visit_text(a, "kind", 10, false, &kind) ||
        !visit_text(a, "key", STEP_NAME_MAX, false, &key))
        return false;
    a->step.key = span_str(key ? key : "");
    if (strcmp(phase, "end") == 0) {
        a->work = end_work;
        a->answer = end_answer;
        a->changes = true;
        a->text = json_get(a->doc, "result").raw;
        return true;
    }
    for (int i = 0; kind && i < STEP_KIND_COUNT; i++) {
        a->step.kind = (enum step_kind)i;
        if (strcmp(phase, "begin") == 0 && strcmp(kind, step_kind_name(a->step.kind)) == 0)
            return true;
    }
    visit_refuse(a, 400, "bad_request", "phase is to be begin, with a kind of pure, files or effect, or end");
    return false;
}

void serve_work_step(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new_json(w, rq, begin_work, begin_answer);
    if (a && read_step(a))
        visit_start(a);
}

/* ---- finish ------------------------------------------------------------------------------------ */

static pd_err finish_work(struct tx *t, struct visit *a)
{
    return runs_finish(t, &a->held, &a->end, a->now_ms, &a->state);
}

static void state_answer(struct visit *a, pd_err e, const char *exists)
{
    char text[60];
    if (e) {
        visit_error(a, e, exists);
        return;
    }
    int n = snprintf(text, sizeof(text), "{\"state\":\"%s\"}", task_state_name(a->state));
    visit_json(a, 200, span_of(text, (size_t)n));
}

static void finish_answer(struct visit *a, pd_err e)
{
    if (!e)
        meter_add(a->worker->meter, METER_WORK_FINISHED, 1, LABELS(task_state_name(a->state)));
    state_answer(a, e, "fenced");
}

static bool read_outcome(struct visit *a)
{
    static const char *const names[] = {"done", "failed", "inconclusive", "ambiguous", "released"};
    struct json v = json_get(a->doc, "outcome");
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        a->end.outcome = (enum task_outcome)i;
        if (json_is(v, names[i]))
            return true;
    }
    visit_refuse(a, 400, "bad_request", "outcome is to be done, failed, inconclusive, ambiguous or released");
    return false;
}

static bool read_cost(struct visit *a)
{
    enum { COST_MAX = 1000000 };
    struct json v = json_get(a->doc, "cost");
    double dollars = 0;
    bool there = v.type != JSON_NONE && v.type != JSON_NULL;
    if (there && (v.type != JSON_NUMBER || !json_f64(v, &dollars) || dollars < 0 || dollars > COST_MAX)) {
        visit_refuse(a, 400, "bad_request", "cost is to be dollars, as in 0.0123");
        return false;
    }
    a->end.picodollars = (uint64_t)(dollars * 1e12 + 0.5);
    return true;
}

void serve_work_finish(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new_json(w, rq, finish_work, finish_answer);
    if (!a || !read_held(a) || !read_outcome(a) ||
        !visit_count(a, "tokens", INT64_MAX / 1000, false, &a->end.tokens) || !read_cost(a))
        return;
    a->end.output = raw(a, "output");
    a->end.error = raw(a, "error");
    a->end.evidence = raw(a, "evidence");
    a->end.final = json_is_true(json_get(a->doc, "final"));
    a->changes = true;
    visit_start(a);
}

/* ---- reviews ------------------------------------------------------------------------------------ */

static pd_err reviews_work(struct tx *t, struct visit *a)
{
    return runs_reviews_json(t, &a->out);
}

static void out_answer(struct visit *a, pd_err e)
{
    if (e)
        visit_error(a, e, "");
    else
        visit_json(a, 200, buf_span(&a->out));
}

void serve_reviews(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new(w, rq, reviews_work, out_answer);
    if (!a)
        return;
    a->reads = true;
    visit_start(a);
}

static pd_err review_work(struct tx *t, struct visit *a)
{
    return runs_review(t, &a->review, a->now_ms, &a->state, a->why);
}

static void review_answer(struct visit *a, pd_err e)
{
    state_answer(a, e, "conflict");
}

static bool read_review(struct visit *a)
{
    const char *decision, *who;
    if (!visit_text(a, "run", RUN_ID_BYTES - 1, true, &a->review.run) ||
        !visit_text(a, "task", PLAN_ID_MAX, true, &a->review.task) ||
        !visit_text(a, "decision", 10, true, &decision) || !visit_text(a, "who", WORKER_NAME_BYTES, false, &who))
        return false;
    a->review.who = span_str(who ? who : "");
    a->review.value = raw(a, "value");
    for (int i = 0; i < REVIEW_DECISION_COUNT; i++) {
        a->review.decision = (enum review_decision)i;
        if (strcmp(decision, review_decision_name(a->review.decision)) == 0)
            return true;
    }
    visit_refuse(a, 400, "bad_request", "decision is to be retry, edit, accept or drop");
    return false;
}

void serve_review(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new_json(w, rq, review_work, review_answer);
    if (!a || !read_review(a))
        return;
    a->changes = true;
    visit_start(a);
}
