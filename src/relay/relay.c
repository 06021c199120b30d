#include "relay/relay_priv.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "dialect/keep.h"
#include "parse/url.h"
#include "relay/follow.h"
#include "relay/resume.h"
#include "relay/turn.h"
#include "relay/wakes.h"

#include <stdio.h>

static void on_timer(void *ctx);
static void on_drain(void *ctx);
static void orphan_ends(struct relay *r);
static void on_reap(void *ctx);
static void do_actions(struct relay *r, const struct call_actions *actions);

uint64_t relay_now_ms(const struct relay *r)
{
    return loop_now_ms(r->w->loop);
}

/* ---- the call's events: each takes the lock for the decision alone, then acts on it ---------- */

static void done_step(struct relay *r, const struct call_actions *actions)
{
    record_step(r);
    resume_holds(r);
    do_actions(r, actions);
    relay_rearm(r);
    if (r->call.state == CALL_OVER)
        loop_later(r->w->loop, &r->reaper);
}

/* Without memory it has to do with the attempts that it had. */
static void make_room(struct relay *r)
{
    bool wants = call_wants_room(&r->call);
    struct attempt *more = wants ? arena_alloc(&r->arena, CALL_ATTEMPTS_MAX * sizeof(*more)) : NULL;
    if (!more)
        return;
    fleet_lock(r->w->gateway->fleet);
    call_give_room(&r->call, more);
    fleet_unlock(r->w->gateway->fleet);
}

#define STEP(r, decision)                     \
    do {                                      \
        struct call_actions actions_;         \
        make_room(r);                         \
        fleet_lock((r)->w->gateway->fleet);   \
        decision(&actions_);                  \
        fleet_unlock((r)->w->gateway->fleet); \
        done_step((r), &actions_);            \
    } while (0)

void relay_attempt_output(struct relay *r, struct run *run, bool hidden)
{
    meter_observe(r->w->meter, METER_TTFT, (double)(run->output_us - run->started_us) / 1e6,
                  LABELS(RUN_LABELS(run)));
    meter_observe(r->w->meter, METER_OTEL_TTFT, (double)(run->output_us - run->started_us) / 1e6,
                  LABELS(r->what.operation, run->provider->preset->otel_name, run->target->model));
    if (hidden) {
#define DECIDE(a) call_hidden_output(&r->call, run->n, relay_now_ms(r), (a))
        STEP(r, DECIDE);
#undef DECIDE
    } else {
        relay_attempt_shows(r, run);
    }
}

void relay_attempt_shows(struct relay *r, struct run *run)
{
#define DECIDE(a) call_output(&r->call, run->n, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

void relay_attempt_moved(struct relay *r, struct run *run)
{
    call_moved(&r->call, run->n, relay_now_ms(r));
}

static void measure_complete(struct relay *r, struct run *run)
{
    struct meter *m = r->w->meter;
    const char *op = r->what.operation, *otel = run->provider->preset->otel_name, *model = run->target->model;
    uint64_t now = loop_now_us(r->w->loop);
    double took = (double)(now - run->started_us) / 1e6;
    meter_observe(m, METER_DURATION, took, LABELS(RUN_LABELS(run)));
    meter_observe(m, METER_OTEL_DURATION, took, LABELS(op, otel, model, ""));
    static const char *const kinds[] = {"input", "output", "cache_read", "cache_write", "reasoning"};
    const int64_t counts[] = {r->usage.input_total, r->usage.output_total, r->usage.cache_read,
                              r->usage.cache_write, r->usage.reasoning};
    for (int i = 0; i < 5; i++) {
        if (counts[i] < 0)
            continue;
        meter_add(m, METER_TOKENS, (double)counts[i], LABELS(RUN_LABELS(run), kinds[i]));
        if (i < 2)
            meter_observe(m, METER_OTEL_TOKENS, (double)counts[i], LABELS(op, otel, model, kinds[i]));
    }
    if (r->usage.input_total >= 0 && r->usage.output_total >= 0) {
        uint64_t tokens = (uint64_t)r->usage.input_total + (uint64_t)r->usage.output_total;
        fleet_lock(r->w->gateway->fleet);
        struct place *place = call_place(&r->call, run->n);
        if (place)
            target_used(run->target, place, r->call.want.prompt_bytes, tokens);
        fleet_unlock(r->w->gateway->fleet);
    }
    double flowed = (double)(now - run->output_us) / 1e6;
    if (r->usage.output_total > 1 && run->mode == RUN_STREAM && flowed > 0) {
        double rate = (double)r->usage.output_total / flowed;
        meter_observe(m, METER_TOKEN_RATE, rate, LABELS(RUN_LABELS(run)));
        meter_observe(m, METER_OTEL_PER_TOKEN, flowed / (double)(r->usage.output_total - 1),
                      LABELS(op, otel, model));
        fleet_lock(r->w->gateway->fleet);
        target_rate(run->target, rate, (uint64_t)r->usage.output_total, loop_now_ms(r->w->loop));
        fleet_unlock(r->w->gateway->fleet);
    }
}

static void on_kept(void *ctx, struct span tool_id, enum msg_maker maker, struct span blob)
{
    struct relay *r = ctx;
    keep_put(r->w->gateway->keep, r->keep_scope, tool_id, maker, blob);
}

/* What the answer's maker wants back with its tool calls, and the client's format has no place for. */
static void keep_for_makers(struct relay *r, struct run *run)
{
    struct gateway *g = r->w->gateway;
    const struct encoder *en = flow_encoder(run);
    if (!en || !g->keep || !run->facts->has_tool_calls)
        return;
    pthread_mutex_lock(&g->keep_lock);
    if (encoder_each_kept(en, on_kept, r))
        LOG(&r->scope, LOG_WARN, "keep.lost", "why=out_of_memory");
    pthread_mutex_unlock(&g->keep_lock);
}

/* ---- going on -------------------------------------------------------------------------- */

/* What the client is told of a continued answer: all its output, and the prompt once. */
static void sum_usage(struct relay *r, struct run *run)
{
    struct msg_usage *u = &run->facts->usage;
    if (u->output_total >= 0)
        u->output_total += (int64_t)r->earlier_tokens;
    if (r->first_input >= 0)
        u->input_total = r->first_input;
    r->output_bytes += r->kept->shown.text_bytes;
    r->usage = *u;
}

void relay_broke_off(struct relay *r, struct run *run, uint64_t events_shown)
{
    if (r->call.state == CALL_OVER && r->call.outcome != CALL_CLIENT_GONE) {
        r->events_shown = events_shown;
        return;
    }
    const struct answer_facts *f = run_facts(run);
    bool estimated;
    r->earlier_tokens += (uint64_t)spent_output(f, &estimated);
    if (r->first_input < 0)
        r->first_input = f->usage.input_total;
    r->events_shown = events_shown;
    if (r->kept)
        r->kept->shown.sequence = events_shown;
    if (!run->continues && run->encoder) {
        r->writer = run->encoder;
        run->encoder = NULL;
    }
}

/* The encoder that goes on where the client's answer stands. */
static pd_err make_writer(struct relay *r, struct run *run)
{
    if (r->writer) {
        encoder_next_answer(r->writer);
        return PD_OK;
    }
    struct encode_want want = {.model = span_str(run->target->model),
                               .id = span_from(span_str(r->id), 2),
                               .created = (int64_t)(r->began_wall_ms / 1000),
                               .stream = r->facts.stream,
                               .include_usage = r->facts.include_usage,
                               .array = r->facts.line.array};
    r->writer = encoder_new(r->what.codec, &want, COLLECT_MAX);
    if (!r->writer)
        return PD_NOMEM;
    pd_err e = encoder_resume(r->writer, &r->kept->shown);
    if (e)
        r->writer = encoder_free(r->writer);
    return e;
}

pd_err relay_only_end(struct relay *r, struct run *run)
{
    if (flow_encoder(run) || !r->kept)
        return PD_OK;
    r->kept->shown.sequence = run->sequence;
    pd_err e = make_writer(r, run);
    run->continues = !e;
    return e;
}

/* All text that the client has, plain. */
static pd_err read_seen(struct relay *r)
{
    const struct shown *s = &r->kept->shown;
    if (r->seen_at == shown_end(s) && r->seen_at)
        return PD_OK;
    buf_clear(&r->seen);
    pd_err e = shown_text(s, &r->seen);
    r->seen_at = shown_end(s);
    return e;
}

/* This target's next way of being asked to go on, after it refused one, or its answer could not be joined. */
static enum continue_way way_after(enum continue_way failed)
{
    return failed == CONTINUE_ASK ? CONTINUE_REPEAT : CONTINUE_ASK;
}

pd_err relay_continuation(struct relay *r, struct run *run, struct continuation *ret)
{
    uint8_t before = r->ways[r->call.attempts[run->n].target];
    pd_err e = read_seen(r);
    if (!e)
        e = make_writer(r, run);
    if (r->kept->shown.has_reasoning)
        atomic_store(&r->w->gateway->marked, true);
    *ret = (struct continuation){.way = before ? way_after((enum continue_way)(before - 1)) : CONTINUE_WAY_COUNT,
                                 .seen = buf_span(&r->seen)};
    return e;
}

pd_err relay_joiner(struct relay *r, struct run *run)
{
    struct span seen = buf_span(&r->seen);
    run->join = join_new(continue_join_mode(run->ask.way), seen, run->ask.given);
    return run->join ? PD_OK : PD_NOMEM;
}

void relay_attempt_complete(struct relay *r, struct run *run)
{
    spent_note(r, run, true);
    if (run->continues)
        sum_usage(r, run);
    if (r->kept) {
        pthread_mutex_lock(&r->kept->lock);
        r->kept->usage = run->facts->usage;
        r->kept->finish = run->facts->finish;
        pthread_mutex_unlock(&r->kept->lock);
    }
    if (resume_wants_all(r))
        flow_begun(run);
    measure_complete(r, run);
    log_attempt_end(r, run, NULL, "complete");
    keep_for_makers(r, run);
    /* The run stays: CALL_COMMIT and CALL_FINISH still need what it holds. */
#define DECIDE(a) call_complete(&r->call, run->n, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
    run_cancel(run);
}

/* Some providers repeat the key that they refuse. A shorter one is no secret, and would be found in any text. */
enum { SECRET_LEAST = 8 };

static void hide(struct span secret, char *message)
{
    size_t n = strlen(message);
    for (char *at = message; secret.n >= SECRET_LEAST;) {
        at = memmem(at, n - (size_t)(at - message), secret.p, secret.n);
        if (!at)
            return;
        memset(at, '*', secret.n);
    }
}

static void hide_secrets(const struct run *run, char *message)
{
    for (unsigned i = 0; i < run->secrets_count; i++)
        hide(run->secrets[i], message);
}

static bool holds_secret(const struct run *run, struct span body)
{
    for (unsigned i = 0; i < run->secrets_count; i++) {
        struct span s = run->secrets[i];
        if (s.n >= SECRET_LEAST && memmem(body.p, body.n, s.p, s.n))
            return true;
    }
    return false;
}

/* An error in the shape that this format's clients read. OpenAI's relatives send others, which its SDKs make nothing of. */
static bool is_own_error(const struct codec *c, struct span body)
{
    struct json v = {JSON_OBJECT, body};
    if (!span_starts(body, "{") || json_check(body))
        return false;
    return c->error_type_header ? json_get(v, "message").type == JSON_STRING
           : c->lines           ? json_get(v, "error").type == JSON_STRING
                                : json_get(v, "error").type == JSON_OBJECT;
}

static void remember_told(struct relay *r, struct run *run, const struct verdict *v)
{
    struct told *t = arena_zalloc(&r->arena, sizeof(*t));
    if (!t)
        return;
    t->attempt = run->n;
    t->verdict = *v;
    t->foreign = !run->ask.same;
    struct span body = run->mode == RUN_REFUSED ? span_trim(buf_span(&run->body)) : SPAN_NONE;
    if (run->ask.same && is_own_error(run->ask.codec, body) && !holds_secret(run, body))
        t->body = arena_span(&r->arena, body);
    t->next = r->told;
    r->told = t;
}

void relay_attempt_failed(struct relay *r, struct run *run, const struct verdict *said)
{
    struct verdict told = *said, *v = &told;
    hide_secrets(run, told.message);
    const char *class = failure_row(v->failure)->name;
    meter_add(r->w->meter, METER_ERRORS, 1, LABELS(RUN_LABELS(run), class));
    meter_observe(r->w->meter, METER_OTEL_DURATION, (double)(loop_now_us(r->w->loop) - run->started_us) / 1e6,
                  LABELS(r->what.operation, run->provider->preset->otel_name, run->target->model, class));
    log_attempt_end(r, run, v, "failed");
    remember_told(r, run, v);
    if (r->call.winner == run->n) {
        r->done_at_ms = r->finish_at_ms = 0;
        r->paused = false; /* it was that attempt that waited for the client; the next one will when it has to */
    }
    if (run->continues &&
        v->failure == FAILURE_JOIN) /* only then: one that was busy, or broke again, is asked as before */
        r->ways[r->call.attempts[run->n].target] = (uint8_t)(run->ask.way + 1);
    run_cancel(run); /* its place is given up before the call decides: nothing more can come from it */
    if (run->continues && !r->any_shown && (v->failure == FAILURE_JOIN || r->shown_lost))
        resume_give_up(r);
#define DECIDE(a) call_failed(&r->call, run->n, v, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

static void orphan_ends(struct relay *r)
{
    r->orphan = false;
#define DECIDE(a) call_gone(&r->call, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

static void on_gone(void *ctx)
{
    struct relay *r = ctx;
    resume_expect(r);
    r->rq = NULL;
    if (resume_lingers(r)) {
        request_keep(r->asked);
        r->keeps_asked = true;
        on_drain(r); /* nobody is waited for any more */
        relay_rearm(r);
        return;
    }
#define DECIDE(a) call_gone(&r->call, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

static void on_drain(void *ctx)
{
    struct relay *r = ctx;
    struct run *run = relay_run(r, r->call.winner);
    if (!r->paused || !run)
        return;
    r->paused = false;
    relay_attempt_moved(r, run); /* the silence was the client's */
    if (run->exchange)
        exchange_resume(run->exchange);
    relay_rearm(r);
}

/* Something is free for a call that waits in the queue: it looks. */
static void on_wake(struct list *node)
{
    struct relay *r = LIST_OF(node, struct relay, wake);
#define DECIDE(a) call_wake(&r->call, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

struct wakes *relay_wakes(struct worker *w)
{
    return wakes_new(w, on_wake);
}

void relay_ready(void *owner)
{
    struct relay *r = owner;
    wakes_tell(r->w->wakes, &r->wake);
}

/* When an answer that has said that it is over is taken as ended, though its body goes on. */
static uint64_t end_due(const struct relay *r)
{
    return r->done_at_ms     ? r->done_at_ms + RUN_DONE_GRACE_MS
           : r->finish_at_ms ? r->finish_at_ms + RUN_FINISH_GRACE_MS
                             : CLOCK_NEVER;
}

static void on_timer(void *ctx)
{
    struct relay *r = ctx;
    struct run *winner = relay_run(r, r->call.winner);
    uint64_t now = relay_now_ms(r);
    if (winner && r->paused)
        relay_attempt_moved(r, winner);
    if (winner && now >= end_due(r)) {
        run_end_now(winner);
        return;
    }
    if (now >= resume_due(r))
        resume_progress(r);
    if (now >= record_due(r))
        record_running(r);
    if (r->orphan && now >= r->orphan_until_ms && !resume_lingers_on(r)) {
        orphan_ends(r);
        return;
    }
    if (now >= reply_keepalive_at(r))
        reply_keepalive(r);
#define DECIDE(a) call_wake(&r->call, now, (a))
    STEP(r, DECIDE);
#undef DECIDE
}

void relay_rearm(struct relay *r)
{
    if (r->call.state == CALL_OVER) {
        timer_stop(r->w->loop, &r->timer);
        return;
    }
    uint64_t due = call_next(&r->call);
    if (end_due(r) < due)
        due = end_due(r);
    uint64_t comment = reply_keepalive_at(r);
    if (comment < due)
        due = comment;
    if (r->orphan && r->orphan_until_ms < due)
        due = r->orphan_until_ms;
    uint64_t piece = resume_due(r), line = record_due(r);
    if (piece < due)
        due = piece;
    if (line < due)
        due = line;
    uint64_t now = relay_now_ms(r);
    timer_arm(r->w->loop, &r->timer, due > now ? due : now + 1);
}

/* ---- its actions ------------------------------------------------------------------------------ */

struct run *relay_run(struct relay *r, int attempt)
{
    for (int i = 0; attempt >= 0 && i < CALL_RUNNING_MAX; i++)
        if (r->runs[i] && r->runs[i]->n == attempt)
            return r->runs[i];
    return NULL;
}

/* An attempt that could not even begin: the call decides as after any other failure. */
static void failed_to_start(struct relay *r, int attempt, enum failure class, const char *why)
{
    struct verdict v;
    classify_as(class, why, &v);
    struct told *t = arena_zalloc(&r->arena, sizeof(*t));
    if (t) {
        t->attempt = attempt;
        t->verdict = v;
        t->next = r->told;
        r->told = t;
    }
#define DECIDE(a) call_failed(&r->call, attempt, &v, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

static void count_start(struct relay *r, const struct call_action *a)
{
    const struct target *t = route_used(r->route)->targets[r->call.attempts[a->attempt].target].target;
    if (a->hedge)
        meter_add(r->w->meter, METER_HEDGES, 1, LABELS(t->provider, t->model, "started"));
    if (a->same_target)
        meter_add(r->w->meter, METER_RETRIES, 1,
                  LABELS(t->provider, t->model, r->told ? failure_row(r->told->verdict.failure)->name : "none"));
    else if (a->attempt > 0 && !a->hedge && r->told) {
        const struct target *from =
            route_used(r->route)->targets[r->call.attempts[r->told->attempt].target].target;
        meter_add(r->w->meter, METER_FAILOVERS, 1,
                  LABELS(from->name, t->name, failure_row(r->told->verdict.failure)->name));
    }
}

static void start(struct relay *r, const struct call_action *a)
{
    count_start(r, a);
    if (!a->continues)
        resume_afresh(r);
    bool at_once = a->attempt == 0 && !r->call.wait_began_ms; /* to wait for a turn or for recovery is no work */
    uint64_t before = at_once ? r->read_us : loop_now_us(r->w->loop);
    const char *why;
    enum failure class;
    pd_err e = run_start(r, a->attempt, a->continues, &why, &class);
    r->overhead_us += loop_now_us(r->w->loop) - before;
    if (e)
        failed_to_start(r, a->attempt, class, why && *why ? why : pd_err_text(e));
}

static void cancel(struct relay *r, int attempt)
{
    struct run *run = relay_run(r, attempt);
    if (!run)
        return;
    if (run->exchange)
        log_attempt_end(r, run, NULL, "cancelled");
    if (r->call.attempts[attempt].hedge)
        meter_add(r->w->meter, METER_HEDGES, 1, LABELS(RUN_LABELS(run), "lost"));
    run_cancel(run);
}

static void commit(struct relay *r, int attempt)
{
    struct run *run = relay_run(r, attempt);
    if (!run || (!r->rq && !r->orphan))
        return;
    if (r->call.attempts[attempt].hedge)
        meter_add(r->w->meter, METER_HEDGES, 1, LABELS(RUN_LABELS(run), "won"));
    uint64_t before = loop_now_us(r->w->loop);
    if (r->facts.stream && (run->mode == RUN_STREAM || run->continues))
        (void)reply_commit(r, run);
    r->overhead_us += loop_now_us(r->w->loop) - before;
}

enum { REPLY_AGAIN_MS = 1000 };

static void do_actions(struct relay *r, const struct call_actions *actions)
{
    for (unsigned i = 0; i < actions->count; i++) {
        const struct call_action *a = &actions->list[i];
        switch (a->act) {
        case CALL_START:
            start(r, a);
            break;
        case CALL_CANCEL:
            cancel(r, a->attempt);
            break;
        case CALL_COMMIT:
            commit(r, a->attempt);
            break;
        case CALL_FINISH:
            reply_finish(r, relay_run(r, a->attempt));
            break;
        case CALL_FAIL:
            reply_fail(r, a->attempt, a->failure, a->retry_after_ms);
            break;
        case CALL_BREAK:
            resume_expect(r);
            if (!r->begun) /* of what an earlier call had shown this client has seen nothing */
                reply_fail(r, a->attempt, a->failure, REPLY_AGAIN_MS);
            else
                reply_break(r, a->failure, r->told ? r->told->verdict.message : "");
            break;
        }
    }
}

/* ---- the end ------------------------------------------------------------------------------------ */

static void relay_free(struct relay *r)
{
    timer_stop(r->w->loop, &r->timer);
    for (int i = 0; i < CALL_RUNNING_MAX; i++)
        if (r->runs[i])
            run_cancel(r->runs[i]);
    LIST_EACH(node, &r->dead)
    {
        list_remove(node);
        run_free(LIST_OF(node, struct run, node));
    }
    later_cancel(&r->reaper);
    wakes_forget(r->w->wakes, &r->wake);
    encoder_free(r->writer);
    buf_done(&r->seen);
    buf_done(&r->answered);
    fleet_lock(r->w->gateway->fleet);
    list_remove(&r->node);
    fleet_unlock(r->w->gateway->fleet);
    kept_unref(r->kept); /* up to here others may find it by the call's id */
    route_release(r->route);
    routing_unref(r->routing);
    arena_done(&r->arena);
    if (r->keeps_asked)
        request_release(r->asked);
    mem_free(r);
}

static void on_reap(void *ctx)
{
    struct relay *r = ctx;
    LIST_EACH(node, &r->dead)
    {
        list_remove(node);
        run_free(LIST_OF(node, struct run, node));
    }
    if (r->call.state != CALL_OVER)
        return;
    if (r->rq) { /* the call ended without a reply having been made: out of memory */
        struct request *rq = r->rq;
        r->rq = NULL;
        reply_abort(rq);
    }
    resume_settle(r);
    record_call(r);
    turn_give(r);
    meter_shift(r->w->meter, METER_CALLS_RUNNING, -1, NO_LABELS);
    relay_free(r);
}

/* ---- the beginning --------------------------------------------------------------------------------- */

/* A wish in a request header: a duration setting of this name. False: it is not one, and the client was told. */
static bool wish(struct request *rq, const struct codec *codec, const char *header, const char *setting,
                 uint64_t *ret)
{
    struct span text = request_header(rq, header);
    if (!text.p)
        return true;
    char why[200], message[300];
    for (unsigned i = 0; i < setting_rows_count; i++) {
        if (strcmp(setting_rows[i].name, setting) != 0)
            continue;
        if (setting_parse(&setting_rows[i], text, ret, why, sizeof(why)) == PD_OK)
            return true;
        snprintf(message, sizeof(message), "header %s: %s", header, why);
        relay_refuse(rq, codec, 400, "bad_wish", message, 0);
        return false;
    }
    return true;
}

static bool read_wishes(struct request *rq, const struct codec *codec, struct call_want *want)
{
    static const char *const later[] = {"x-perdure-validate", "x-perdure-consensus"};
    for (unsigned i = 0; i < 2; i++)
        if (request_header(rq, later[i]).p) {
            char message[160];
            snprintf(message, sizeof(message),
                     "header %s asks for something that this version of perdure does not do; leave it out",
                     later[i]);
            relay_refuse(rq, codec, 400, "unsupported_wish", message, 0);
            return false;
        }
    want->ttft_ms = want->hold_ms = UINT64_MAX;
    if (!wish(rq, codec, "x-perdure-hold", "hold", &want->hold_ms) ||
        !wish(rq, codec, "x-perdure-ttft", "ttft", &want->ttft_ms) ||
        !wish(rq, codec, "x-perdure-deadline", "call_timeout", &want->deadline_ms))
        return false;
    struct span alone = request_header(rq, "x-perdure-no-fallback");
    want->no_fallback = alone.p && !span_iis(alone, "false") && !span_is(alone, "0");
    return true;
}

/* Without what could move a terminal. Empty without memory. */
static struct span printable(struct arena *a, struct span s)
{
    char *text = arena_strndup(a, s.p, s.n);
    for (size_t i = 0; text && i < s.n; i++)
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '?';
    return text ? span_of(text, s.n) : SPAN_NONE;
}

/* The calls of one conversation: by its own word, else by the beginning that all its turns share. A first turn known only by its beginning
 * may go anywhere: many conversations begin alike. */
static void find_session(struct relay *r, struct call_want *want)
{
    static const char *const headers[] = {"x-perdure-session", "x-session-id", "x-session-affinity",
                                          "session_id",        "session-id",   "x-claude-code-session-id"};
    uint64_t seed = r->what.key ? hash_bytes(span_str(r->what.key->name), 1) : 1;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        struct span s = request_header(r->rq, headers[i]);
        if (s.n) {
            want->session = hash_bytes(s, seed) | 1;
            want->in_session = true;
            r->session_name = printable(&r->arena, span_upto(s, SESSION_NAME_MAX));
            return;
        }
    }
    want->in_session = r->facts.continues ||
                       r->facts.tools; /* one question alone is none, and its asker may rather hear of an outage */
    want->begins = !r->facts.continues;
    if (r->agent.n) /* agents with the same task begin alike */
        seed = hash_bytes(r->agent, seed);
    if (r->facts.user.n)
        want->session = hash_bytes(r->facts.user, seed + r->facts.prefix_hash) | 1;
    else if (r->facts.prefix_hash)
        want->session = hash_bytes(span_of((const char *)&r->facts.prefix_hash, sizeof(uint64_t)), seed) | 1;
}

static bool allowed(const struct conf_key *key, const char *route)
{
    if (!key || key->routes_count == 0)
        return true;
    for (unsigned i = 0; i < key->routes_count; i++)
        if (strcmp(key->routes[i], route) == 0)
            return true;
    return false;
}

static bool find_route(struct relay *r, struct request *rq)
{
    char message[400];
    struct span named = request_header(rq, "x-perdure-route");
    struct span model = named.n ? named : r->facts.model;
    pd_err e = routing_resolve(r->routing, r->w, model, &r->route);
    if (e == PD_NOTFOUND) {
        snprintf(message, sizeof(message),
                 "no route, provider/model or listed model is called \"%.*s\"; GET /v1/models tells what can be "
                 "asked for",
                 SPAN_FMT(span_upto(model, 120)));
        relay_refuse(rq, r->what.codec, 404, "model_not_found", message, 0);
    } else if (e) {
        relay_refuse(rq, r->what.codec, 503, "out_of_memory", "perdure is out of memory; try again", 1000);
    } else if (!allowed(r->what.key, route_used(r->route)->name)) {
        snprintf(message, sizeof(message), "this key may not use route \"%s\"", route_used(r->route)->name);
        relay_refuse(rq, r->what.codec, 403, "route_not_allowed", message, 0);
        e = PD_INVALID;
    }
    return e == PD_OK;
}

/* From here on other workers may see the call (/api/calls): what they read is written before, or under the lock. */
static void give_id(struct relay *r)
{
    struct gateway *g = r->w->gateway;
    struct text id = text_in(r->id, sizeof(r->id)), ids = text_in(r->scope.ids, sizeof(r->scope.ids));
    fleet_lock(g->fleet);
    struct rnd mix = {g->id_seed + ++g->calls_made};
    text_str(&id, "c-");
    text_hex16(&id, rnd_next(&mix));
    list_push(&g->calls, &r->node);
    fleet_unlock(g->fleet);
    text_str(&ids, "call=");
    text_str(&ids, r->id);
}

/* How the route's targets can be spoken to by this client. */
struct ways {
    bool any;   /* at least one has the operation */
    bool mixed; /* some only in another format than the client's: an earlier answer may have been translated */
};

static struct ways ways_of(const struct relay *r)
{
    const struct route *route = route_used(r->route);
    struct ways ways = {false, false};
    for (unsigned i = 0; i < route->count; i++) {
        const struct target *t = route->targets[i].target;
        const struct conf_provider *p = routing_provider(r->routing, t);
        struct ask a;
        bool speaks = p && ask_wire(p, span_str(t->model), r->what.codec, &a);
        ways.any |= speaks;
        ways.mixed |= p && !(speaks && a.same);
    }
    return ways;
}

static struct relay *relay_new(struct worker *w, struct request *rq, const struct relay_request *what)
{
    struct relay *r = mem_zalloc(sizeof(*r));
    if (!r)
        return NULL;
    r->w = w;
    r->rq = r->asked = rq;
    r->what = *what;
    r->routing = routing_ref(w->routing);
    r->call.winner = -1;
    r->usage = MSG_USAGE_NONE;
    r->first_input = -1;
    r->spoke_ms = loop_now_ms(w->loop);
    r->read_us = request_read_us(rq);
    r->began_us = request_began_us(rq);
    r->began_wall_ms = r->asked_wall_ms = clock_wall_ms();
    arena_init(&r->arena, 512, 0); /* a request that goes on as it came takes 300 bytes */
    list_init(&r->node);
    list_init(&r->dead);
    list_init(&r->wake);
    timer_init(&r->timer, on_timer, r);
    later_init(&r->reaper, on_reap, r);
    return r;
}

static pd_err copy_agent(struct relay *r)
{
    const char *name = r->what.agent.n ? arena_strndup(&r->arena, r->what.agent.p, r->what.agent.n) : "";
    r->agent = span_str(name ? name : "");
    return name ? PD_OK : PD_NOMEM;
}

static pd_err unescape_model(struct relay *r)
{
    struct span *model = &r->what.line.model;
    if (!model->n || !memchr(model->p, '%', model->n))
        return PD_OK;
    char *text = arena_alloc(&r->arena, model->n);
    if (!text)
        return PD_NOMEM;
    *model = span_of(text, url_unescape(*model, text));
    return PD_OK;
}

/* Only a conversation's one streamed answer can be gone on with: of several at once nobody knows which was where. */
static bool can_continue(const struct relay *r)
{
    const struct codec *c = r->what.codec;
    return r->kept && c->kind == CODEC_CHAT && c->encoder && c->turns_member && r->facts.stream && !r->facts.many;
}

void relay_start(struct worker *w, struct request *rq, const struct relay_request *what)
{
    static const struct request_handler handler = {on_gone, on_drain};
    struct relay *r = relay_new(w, rq, what);
    if (!r) {
        relay_refuse(rq, what->codec, 503, "out_of_memory", "perdure is out of memory; try again", 1000);
        return;
    }
    const char *why = "";
    struct call_want want = {0};
    pd_err e = copy_agent(r);
    if (!e)
        e = unescape_model(r);
    if (!e)
        e = what->codec->read_request(request_body(rq), &r->what.line, &r->arena, &r->facts, &why);
    if (e) {
        if (e == PD_NOMEM)
            relay_refuse(rq, what->codec, 503, "out_of_memory", "perdure is out of memory; try again", 1000);
        else
            relay_refuse(rq, what->codec, 400, "bad_request", why, 0);
        relay_free(r);
        return;
    }
    if (!read_wishes(rq, what->codec, &want) || !find_route(r, rq)) {
        relay_free(r);
        return;
    }
    struct ways ways = ways_of(r);
    if (what->codec->kind == CODEC_COUNT && !ways.any && reply_estimate(r)) {
        relay_free(r);
        return;
    }
    give_id(r);
    if (resume_join(r)) {
        relay_free(r);
        return;
    }
    r->mixed = ways.mixed;
    r->keep_scope = what->key ? hash_bytes(span_str(what->key->name), 3) : 3;
    want.route = route_used(r->route);
    find_session(r, &want);
    want.key = what->key ? hash_bytes(span_str(what->key->name), 7) : 0;
    want.owner = r;
    want.streamed = r->facts.stream;
    want.can_continue = can_continue(r);
    want.reasoning = r->facts.reasoning;
    want.prompt_bytes = r->facts.body.n;
    want.resumes = resume_is(r);
    resume_hold(r, &want);
    if (want.resumes && resume_replay(r)) { /* its client is not there any more */
        if (r->rq)
            reply_abort(r->rq);
        resume_give_back(r);
        relay_free(r);
        return;
    }
    request_set_handler(rq, &handler, r);
    meter_shift(w->meter, METER_CALLS_RUNNING, 1, NO_LABELS);
    LOG(&r->scope, LOG_DEBUG, "call.begin", "route=%s stream=%d bytes=%zu", route_label(r->route), want.streamed,
        want.prompt_bytes);
#define DECIDE(a) call_begin(&r->call, w->gateway->fleet, &want, relay_now_ms(r), (a))
    STEP(r, DECIDE);
#undef DECIDE
}

void relay_end_orphans(struct worker *w)
{
    for (;;) {
        struct relay *found = NULL;
        fleet_lock(w->gateway->fleet);
        for (struct list *n = w->gateway->calls.next; n != &w->gateway->calls && !found; n = n->next) {
            struct relay *r = LIST_OF(n, struct relay, node);
            if (r->w == w && r->orphan)
                found = r;
        }
        fleet_unlock(w->gateway->fleet);
        if (!found)
            return;
        orphan_ends(found);
    }
}

unsigned relay_running(const struct worker *w)
{
    return (unsigned)meter_value(w->meter, METER_CALLS_RUNNING, NO_LABELS);
}
