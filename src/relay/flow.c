/* What of an attempt's answer the client gets, and when: held until there is something to show, tool calls until they are whole, a continued answer
 * until its seam is found.
 *
 *   reader --deltas--> run->told --(fed)--> encoder --bytes--+
 *          --raw events-------------------------------------+--> run->held   until the call takes this attempt as its answer
 *                                                            +--> run->late   once a tool call has begun, until all are whole
 *                                                            +--> the client  (reply_show), and run->told moves to relay->kept
 *
 * relay->kept has what the client has seen and nothing else: another attempt can go on from it. */
#include "base/clock.h"
#include "base/mem.h"
#include "relay/relay_priv.h"

/* ---- deltas --------------------------------------------------------------------------- */

/* The text of an answer that goes on from another: only what is new of it. */
static pd_err join_text(struct run *run, const struct msg_delta *d)
{
    struct msg_delta fresh = *d;
    if (run->join) {
        pd_err e = join_feed(run->join, d->text, &run->seam, &fresh.text);
        if (e)
            return e;
    }
    return fresh.text.n ? shown_add(&run->told, &fresh) : PD_OK;
}

/* Something that is no text comes, or the end: where the seam is must be known now. */
static pd_err end_seam(struct run *run)
{
    struct msg_delta rest = {.kind = MSG_TEXT, .tool = -1};
    if (!run->join || run->seam != JOIN_LOOKING)
        return PD_OK;
    pd_err e = join_end(run->join, &run->seam, &rest.text);
    return e || !rest.text.n ? e : shown_add(&run->told, &rest);
}

/* Of a continued answer: its reasoning was begun again and is not shown twice, and only its first choice counts. */
static pd_err take_continued(struct run *run, const struct msg_delta *d)
{
    bool of_reasoning =
        d->kind == MSG_REASONING || d->kind == MSG_SEALED || (d->kind == MSG_SIGNATURE && d->tool < 0);
    if (of_reasoning || d->kind == MSG_STEP || d->choice != 0)
        return PD_OK;
    if (d->kind == MSG_TEXT)
        return join_text(run, d);
    pd_err e = end_seam(run);
    return e ? e : shown_add(&run->told, d);
}

/* From the first tool call on nothing is shown until all are whole. */
static pd_err hold_call(struct run *run, const struct msg_delta *d)
{
    run->gated = true;
    if (!run->gate)
        run->gate = toolgate_new(TOOLGATE_BYTES_MAX);
    if (!run->gate)
        return PD_NOMEM;
    toolgate_delta(run->gate, d);
    return toolgate_error(run->gate);
}

void flow_delta(void *ctx, const struct msg_delta *d)
{
    struct run *run = ctx;
    if (run->delta_err)
        return;
    if (d->kind == MSG_TOOL_START || d->kind == MSG_TOOL_ARGUMENTS)
        run->delta_err = hold_call(run, d);
    if (!run->delta_err)
        run->delta_err = run->continues ? take_continued(run, d) : shown_add(&run->told, d);
}

/* ---- where bytes go --------------------------------------------------------------------- */

/* Who writes this attempt's answer for the client; NULL: it goes on as it comes. */
struct encoder *flow_encoder(const struct run *run)
{
    return run->continues ? run->relay->writer : run->encoder;
}

static bool showing(const struct run *run)
{
    return run->relay->call.winner == run->n && run->relay->call.state == CALL_RELAYING && run->relay->begun;
}

/* It is kept for a client that does not stream, as the call's answer. */
static bool collecting(const struct run *run)
{
    const struct relay *r = run->relay;
    return r->kept && !r->facts.stream && r->call.winner == run->n && r->call.state == CALL_COLLECTING;
}

static void add_shown(void *ctx, const struct msg_delta *d)
{
    struct relay *r = ctx;
    if (shown_add(&r->kept->shown, d))
        r->shown_lost = true; /* it cannot be gone on with any more */
}

/* What was told of the answer has reached the client, or what is collected for it. */
static void told_is_shown(struct run *run)
{
    struct relay *r = run->relay;
    struct kept_answer *kept = r->kept;
    const struct answer_facts *f = run_facts(run);
    run->shows = r->facts.stream || run->continues; /* what else is collected is lost with its attempt */
    if (!kept || !run->told.any)
        return;
    pthread_mutex_lock(&kept->lock);
    bool as_it_came = !flow_encoder(run);
    if (shown_identity(&kept->shown, as_it_came ? f->id : SPAN_NONE,
                       as_it_came ? f->model : span_str(run->target->model), as_it_came ? f->created : 0))
        r->shown_lost = true;
    shown_tell(&run->told, 0, add_shown, r);
    bool many = kept->shown.many;
    pthread_mutex_unlock(&kept->lock);
    shown_clear(&run->told);
    run->fed = 0;
    if (r->shown_lost || many)
        r->call.want.can_continue = false;
}

/* Shown if the client sees this attempt, else kept until it does. */
static pd_err show_bytes(struct run *run, struct span bytes)
{
    struct relay *r = run->relay;
    if (!bytes.n)
        return PD_OK;
    if (showing(run)) {
        bool torn =
            run->continues && r->unended && r->any_shown; /* what broke has no blank line behind its last event */
        if (torn && !r->facts.line.array && !reply_show(r, SPAN_LIT("\n\n")))
            return PD_CANCELLED;
        return reply_show(r, bytes) ? PD_OK : PD_CANCELLED;
    }
    run->held.limit_bytes = run->gated ? COLLECT_MAX : RUN_HELD_MAX;
    return buf_add(&run->held, bytes);
}

/* What the encoder makes of what was told since the last time. */
static pd_err encode(struct run *run, struct span *ret)
{
    struct encoder *en = flow_encoder(run);
    run->fed = shown_tell(&run->told, run->fed, encoder_delta, en);
    return encoder_bytes(en, ret);
}

/* The first real output, or more of it. `hidden`: there is nothing to show of it yet. False: the run is over. */
static bool produced(struct run *run, bool hidden)
{
    struct relay *r = run->relay;
    if (run->produced) {
        relay_attempt_moved(r, run);
        return true;
    }
    run->produced = true;
    run->output_us = loop_now_us(r->w->loop);
    buf_done(&run->body); /* the beginning was kept in case it was an error page */
    relay_attempt_output(r, run, hidden);
    return !run->over;
}

/* There is something to show now: the reply begins, if it has not. */
static pd_err surface(struct run *run)
{
    struct relay *r = run->relay;
    if (!run->produced || !r->facts.stream || showing(run))
        return PD_OK;
    relay_attempt_shows(r, run);
    return run->over ? PD_CANCELLED : PD_OK;
}

/* ---- one event ---------------------------------------------------------------------------- */

static bool for_client(const struct run *run, const struct answer_event *ev)
{
    if ((ev->holds & ANSWER_ONLY_USAGE) && !run->relay->facts.include_usage)
        return false;
    return (ev->holds & ANSWER_MALFORMED) == 0;
}

/* An event as it came, or as an item of one JSON array (Gemini). */
static pd_err put_raw(struct run *run, const struct answer_event *ev,
                      pd_err (*put)(struct run *run, struct span bytes))
{
    if (!run->relay->facts.line.array)
        return put(run, ev->raw);
    if (ev->json.type != JSON_OBJECT)
        return PD_OK;
    pd_err e = put(run, run->items++ ? SPAN_LIT(",\r\n") : SPAN_LIT("["));
    return e ? e : put(run, ev->json.raw);
}

static pd_err put_late(struct run *run, struct span bytes)
{
    run->late.limit_bytes = COLLECT_MAX;
    return buf_add(&run->late, bytes);
}

static pd_err take_encoded(struct run *run, const struct answer_event *ev)
{
    struct span made = SPAN_NONE;
    bool output = ev->holds & ANSWER_OUTPUT;
    /* The writer is shared by all attempts that go on with the answer: it is told nothing before this one is the call's. */
    if (run->continues && output && !produced(run, true))
        return PD_CANCELLED;
    /* One that goes on shows nothing before its seam is found: what an earlier call had shown waits in the writer until then. */
    if (run->continues && shown_end(&run->told) == run->fed)
        return PD_OK;
    pd_err e = run->gated ? PD_OK : encode(run, &made);
    if (!e && output && !run->continues &&
        !produced(run, run->relay->facts.stream && !made.n && !buf_size(&run->held)))
        return PD_CANCELLED;
    if (!e && made.n)
        e = surface(run);
    if (!e && run->relay->facts.stream)
        e = show_bytes(run, made);
    if (!run->gated && flow_encoder(run)) /* a reply that was lost took it away */
        encoder_clear(flow_encoder(run));
    if (!e && !run->gated && (showing(run) || collecting(run)))
        told_is_shown(run);
    return e;
}

static pd_err take_collected(struct run *run, const struct answer_event *ev)
{
    if ((ev->holds & ANSWER_OUTPUT) && !produced(run, false))
        return PD_CANCELLED;
    if (!run->gated && collecting(run))
        told_is_shown(run);
    return ev->json.type == JSON_OBJECT && !(ev->holds & ANSWER_MALFORMED)
               ? collector_add(run->collector, ev->type, ev->json) /* usage too: a whole answer always has it */
               : PD_OK;
}

/* Signs of life, which are not worth keeping; the torn rest of an event, which would spoil what comes next; and pings of another format. */
static bool is_nothing(const struct run *run, const struct answer_event *ev)
{
    bool unread = run->relay->what.codec == &codec_gemini; /* by its clients: see codec_gemini.keepalive */
    if ((ev->holds & ANSWER_KEEPALIVE) && (unread || !showing(run) || run->gated || !reply_ends_event(ev->raw)))
        return true;
    return !ev->holds && span_is(ev->type, "ping") && run->ask.codec != &codec_anthropic;
}

static pd_err take_raw(struct run *run, const struct answer_event *ev)
{
    bool array = run->relay->facts.line.array;
    if ((ev->holds & ANSWER_OUTPUT) && !produced(run, run->gated))
        return PD_CANCELLED;
    if (!for_client(run, ev))
        return PD_OK;
    if (!array && (ev->holds & ANSWER_DONE)) { /* an error may follow it, or the answer be no whole one */
        run->terminator.limit_bytes = RUN_END_MAX;
        return buf_add(&run->terminator, ev->raw);
    }
    if (is_nothing(run, ev))
        return PD_OK;
    if (run->gated)
        return put_raw(run, ev, put_late);
    run->sequence = answer_facts(run->answer)->sequence;
    pd_err e = put_raw(run, ev, show_bytes);
    if (!e && showing(run))
        told_is_shown(run);
    return e;
}

/* An error object in the stream: after it nothing counts. */
static void read_error(struct run *run, const struct answer_event *ev)
{
    struct verdict v;
    classify_answer(run->provider->preset, NULL, run->status, ev->error.raw, clock_wall_ms(), &v);
    run_failed(run, &v);
}

pd_err flow_event(void *ctx, const struct answer_event *ev)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    if (run->over)
        return PD_CANCELLED;
    if (run->delta_err)
        return run->delta_err;
    if (ev->holds & ANSWER_ERROR) {
        read_error(run, ev);
        return PD_CANCELLED;
    }
    if (run->seam == JOIN_FAILED) {
        run_failed_as(run, FAILURE_JOIN, "its answer does not go on from what was already shown");
        return PD_CANCELLED;
    }
    if (ev->holds & ANSWER_MALFORMED)
        meter_add(r->w->meter, METER_MALFORMED, 1, LABELS(RUN_LABELS(run)));
    if ((ev->holds & ANSWER_DONE) && r->call.winner == run->n)
        r->done_at_ms = relay_now_ms(r);
    if ((ev->holds & ANSWER_FINISH) && r->call.winner == run->n)
        r->finish_at_ms = relay_now_ms(r);
    if (run->produced && (ev->holds & (ANSWER_FINISH | ANSWER_USAGE)))
        relay_attempt_moved(r, run);
    if (flow_encoder(run))
        return take_encoded(run, ev);
    return run->collector ? take_collected(run, ev) : take_raw(run, ev);
}

/* ---- the end of an answer ------------------------------------------------------------------- */

/* What the client offers its model; nothing where that cannot be read. */
static pd_err read_tools(struct relay *r)
{
    if (r->tools || !r->what.codec->parse_tools)
        return PD_OK;
    struct msg_request *m = arena_zalloc(&r->arena, sizeof(*m));
    if (!m)
        return PD_NOMEM;
    msg_request_init(m);
    pd_err e = r->what.codec->parse_tools(&r->facts, &r->arena, m);
    r->tools = e ? NULL : m;
    return e;
}

/* The tool calls of a whole answer: PD_OK when they may be handed on; else the run has failed. */
static pd_err judge(struct run *run)
{
    struct relay *r = run->relay;
    const struct msg_request *asked = run->ask.neutral;
    if (!asked) {
        pd_err e = read_tools(r);
        if (e)
            return e;
        asked = r->tools;
    }
    enum toolgate_verdict verdict;
    pd_err e = toolgate_judge(run->gate, asked, &verdict, NULL, 0);
    if (e || verdict == TOOLGATE_WHOLE)
        return e;
    LOG(&r->scope, LOG_DEBUG, "tool.refused", "attempt=%d verdict=%s", run->n, toolgate_verdict_name(verdict));
    if (verdict == TOOLGATE_MISFIT && r->tool_repairs >= route_used(r->route)->settings.tool_repairs)
        return PD_OK; /* as it came: the client tells its model what is wrong with it */
    r->tool_repairs += verdict == TOOLGATE_MISFIT;
    meter_add(r->w->meter, METER_TOOL_REPAIRS, 1, LABELS(RUN_LABELS(run)));
    run_failed_as(run, FAILURE_TOOL,
                  verdict == TOOLGATE_MISFIT ? "a tool call does not fit the tool's schema"
                                             : "a tool call is no JSON object");
    return PD_CANCELLED;
}

pd_err flow_end(struct run *run)
{
    pd_err e = run->delta_err;
    if (!e && run->continues)
        e = end_seam(run);
    if (!e && run->seam == JOIN_FAILED) {
        run_failed_as(run, FAILURE_JOIN, "its answer does not go on from what was already shown");
        return PD_CANCELLED;
    }
    if (!e && run->gated)
        e = judge(run);
    if (e)
        return e;
    run->gated = false;
    struct span made = SPAN_NONE;
    if (!run->continues &&
        (run->mode == RUN_WHOLE || !run->relay->facts.stream)) /* shown at once, by reply_finish() */
        return run->encoder ? encode(run, &made) : PD_OK;
    bool any = run->continues || buf_size(&run->late) || (run->encoder && shown_end(&run->told) > run->fed);
    if (!any)
        return PD_OK;
    if (run->continues && !run->produced && !produced(run, true)) /* it has nothing to add: the answer was whole */
        return PD_CANCELLED;
    made = buf_span(&run->late);
    if (flow_encoder(run))
        e = encode(run, &made);
    if (!e)
        e = surface(run);
    if (!e)
        e = show_bytes(run, made);
    if (flow_encoder(run))
        encoder_clear(flow_encoder(run));
    buf_done(&run->late);
    if (run->answer)
        run->sequence = answer_facts(run->answer)->sequence;
    if (!e && showing(run))
        told_is_shown(run);
    return e;
}

void flow_begun(struct run *run)
{
    told_is_shown(run);
}
