/* The client's side of a call: what it sees, and that it never sees a broken answer as a whole one. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "base/text.h"
#include "relay/error_dialect.h"
#include "relay/relay_priv.h"
#include "relay/resume.h"
#include "relay/turn.h"

#include <stdio.h>

/* ---- heads ------------------------------------------------------------------------ */

enum { REPLY_FIELDS = 15, DROPPED_BYTES = 512 };
struct reply_head {
    struct header list[REPLY_FIELDS];
    unsigned count;
    char attempts[12], retry_after[24], timing[200], dropped[DROPPED_BYTES];
};

static void put(struct reply_head *h, const char *name, const char *value)
{
    if (name && value && *value && h->count < REPLY_FIELDS)
        h->list[h->count++] = (struct header){span_str(name), span_str(value)};
}

/* How long the request waited for its attempt, the provider for its first token, and perdure itself worked; in milliseconds. */
static void put_timing(struct relay *r, const struct run *run, struct reply_head *h)
{
    uint64_t now = loop_now_us(r->w->loop);
    struct text t = text_in(h->timing, sizeof(h->timing));
    text_str(&t, "queue;dur=");
    text_thousandths(&t, (run ? run->started_us : now) - r->read_us);
    text_str(&t, ", ttft;dur=");
    text_thousandths(&t, run && run->output_us ? run->output_us - run->started_us : 0);
    text_str(&t, ", perdure;dur=");
    text_thousandths(&t, r->overhead_us);
    put(h, "Server-Timing", h->timing);
}

/* What the provider's format had no place for: of the request, and, where it is known by now, of the answer. */
static void put_dropped(const struct run *run, struct reply_head *h)
{
    struct text t = text_in(h->dropped, sizeof(h->dropped));
    const struct msg_request *m = run->ask.neutral;
    const struct embed_request *em = run->ask.embeds;
    const char *const *names = m ? m->dropped : em ? em->dropped : NULL;
    unsigned count = m ? m->dropped_count : em ? em->dropped_count : 0;
    for (unsigned i = 0; i < count; i++) {
        text_str(&t, t.n ? ", " : "");
        text_str(&t, names[i]);
    }
    const char *const *more = run->encoder ? encoder_dropped(run->encoder) : NULL;
    for (; more && *more; more++) {
        text_str(&t, t.n ? ", " : "");
        text_str(&t, *more);
    }
    put(h, "x-perdure-dropped", h->dropped);
}

static void common_head(struct relay *r, const struct run *run, struct reply_head *h)
{
    h->count = 0;
    put(h, "x-request-id", r->id);
    put(h, r->what.codec->request_id_header, r->id);
    if (run)
        put_dropped(run, h);
    if (run) {
        put(h, "x-perdure-provider", run->target->provider);
        put(h, "x-perdure-model", run->target->model);
        put(h, "x-perdure-provider-request-id", run->request_id);
    }
    struct text t = text_in(h->attempts, sizeof(h->attempts));
    text_u64(&t, r->call.attempts_count);
    put(h, "x-perdure-attempts", h->attempts);
    put_timing(r, run, h);
}

/* The reply cannot go on: the client sees a cut connection, the call learns that its client is gone. */
static bool lost(struct relay *r, pd_err e)
{
    struct request *rq = r->rq;
    LOG(&r->scope, LOG_WARN, "reply.lost", "why=%s", pd_err_name(e));
    resume_expect(r);
    r->rq = NULL;
    reply_abort(rq);
    struct call_actions actions;
    fleet_lock(r->w->gateway->fleet);
    call_gone(&r->call, relay_now_ms(r), &actions);
    fleet_unlock(r->w->gateway->fleet);
    for (unsigned i = 0; i < actions.count; i++)
        if (actions.list[i].act == CALL_CANCEL && relay_run(r, actions.list[i].attempt))
            run_cancel(relay_run(r, actions.list[i].attempt));
    relay_rearm(r);
    loop_later(r->w->loop, &r->reaper);
    return false;
}

static const char *stream_type(const struct relay *r)
{
    return r->facts.line.array ? "application/json" : r->what.codec->stream_type;
}

/* ---- a stream ------------------------------------------------------------------------ */

bool reply_head_begin(struct relay *r, struct run *run)
{
    struct reply_head h;
    common_head(r, run, &h);
    put(&h, "Content-Type", stream_type(r));
    put(&h, "Cache-Control", "no-cache");
    put(&h, "X-Accel-Buffering", "no");
    pd_err e = reply_begin(r->rq, 200, h.list, h.count, -1);
    if (e)
        return lost(r, e);
    r->begun = true;
    return true;
}

bool reply_commit(struct relay *r, struct run *run)
{
    if (!r->begun && !reply_head_begin(r, run))
        return false;
    if (r->orphan) {
        flow_begun(run);
        return true;
    }
    bool fine = buf_size(&run->held) == 0 || reply_show(r, buf_span(&run->held));
    buf_done(&run->held);
    if (fine)
        flow_begun(run);
    return fine;
}

/* ---- signs of life ------------------------------------------------------------------- */

uint64_t reply_keepalive_at(const struct relay *r)
{
    uint64_t every_ms = route_used(r->route)->settings.keepalive;
    bool can = r->rq && r->facts.stream && r->what.codec->keepalive && r->call.state != CALL_OVER;
    return can && every_ms ? r->spoke_ms + every_ms : CLOCK_NEVER;
}

/* Honest: the call is not over, so its deadlines, stall clocks and hold are running, and it acts when they end. What the provider sends as
 * signs of life counts for none of these. */
void reply_keepalive(struct relay *r)
{
    if (!r->begun && !reply_head_begin(r, NULL))
        return;
    struct span comment = r->facts.line.array ? SPAN_LIT("\n") : span_str(r->what.codec->keepalive);
    bool any = r->any_shown, whole = !r->unended || r->facts.line.array || !r->any_shown;
    if (whole && reply_show(r, comment) && r->rq)
        reply_flush(r->rq);
    r->any_shown = any; /* it is no part of the answer */
    r->spoke_ms = relay_now_ms(r);
}

bool reply_ends_event(struct span raw)
{
    return span_ends(raw, "\n\n") || span_ends(raw, "\n\r\n") || span_ends(raw, "\r\r");
}

bool reply_show(struct relay *r, struct span raw)
{
    if (!r->rq)
        return r->orphan;
    r->unended = !reply_ends_event(raw);
    r->any_shown |= raw.n > 0;
    r->spoke_ms = relay_now_ms(r);
    pd_err e = reply_write(r->rq, &raw, 1);
    if (e)
        return lost(r, e);
    struct run *run = relay_run(r, r->call.winner);
    size_t high = 64 * 1024;
    if (run && run->exchange && !r->paused && reply_queued(r->rq) > high) {
        r->paused = true;
        exchange_pause(run->exchange);
    }
    return true;
}

/* ---- an answer at once ----------------------------------------------------------------- */

/* {"provider": "...", "response": ...} of POST /api/llm. */
static pd_err wrap(const struct run *run, struct span answer, struct buf *out)
{
    pd_err e = buf_puts(out, "{\"provider\":");
    if (!e)
        e = json_put_str(out, span_str(run->target->provider));
    if (!e)
        e = buf_puts(out, ",\"model\":");
    if (!e)
        e = json_put_str(out, span_str(run->target->model));
    if (!e)
        e = buf_puts(out, ",\"response\":");
    if (!e)
        e = buf_add(out, span_trim(answer));
    return e ? e : buf_puts(out, "}");
}

static void done_bufp(struct buf *b)
{
    buf_done(b);
}

/* Vectors in the client's format. */
static pd_err embed_bytes(struct relay *r, struct run *run, struct buf *made)
{
    struct embed_answer an;
    enum answer_end end;
    pd_err e = run->ask.codec->embed->read(buf_span(&run->body), &r->arena, &an, &end);
    if (!e && !an.model.n)
        an.model = span_str(run->target->model);
    return e ? e : r->what.codec->embed->put(&an, run->ask.embeds, made);
}

/* An answer of another format, or one that was read whole for a client that wants events. */
static pd_err encoded_bytes(struct relay *r, struct run *run, struct buf *made, struct span *ret)
{
    pd_err e;
    if (!r->facts.stream) {
        e = encoder_whole(flow_encoder(run), run->facts, made);
        *ret = buf_span(made);
        return e;
    }
    e = encoder_end(flow_encoder(run), run->facts);
    return e ? e : encoder_bytes(flow_encoder(run), ret);
}

/* The answer's bytes as this client wants them: as they came, collected, translated, or taken apart into a stream. */
static pd_err answer_bytes(struct relay *r, struct run *run, struct buf *made, struct span *ret)
{
    pd_err e = PD_OK;
    *ret = buf_span(&run->body);
    if (flow_encoder(run))
        return encoded_bytes(r, run, made, ret);
    if (run->collector)
        e = collector_write(run->collector, made);
    else if (!run->ask.same && r->what.codec->kind == CODEC_EMBED)
        e = embed_bytes(r, run, made);
    else if (!run->ask.same && r->what.codec->kind == CODEC_COUNT)
        e = r->what.codec->count->put(run->facts->usage.input_total, made);
    else if (r->facts.stream)
        e = answer_expand(r->what.codec, buf_span(&run->body), r->facts.include_usage, made);
    else
        return PD_OK;
    *ret = buf_span(made);
    return e;
}

/* Requests and answers of which something was left out, by the provider's format. */
static void count_dropped(struct relay *r, const struct run *run)
{
    bool asked = (run->ask.neutral && run->ask.neutral->dropped_count) ||
                 (run->ask.embeds && run->ask.embeds->dropped_count);
    bool answered = run->encoder && encoder_dropped(run->encoder)[0];
    if (asked)
        meter_add(r->w->meter, METER_DROPPED, 1, LABELS(r->what.codec->name, run->ask.codec->name, "request"));
    if (answered)
        meter_add(r->w->meter, METER_DROPPED, 1, LABELS(r->what.codec->name, run->ask.codec->name, "answer"));
}

bool reply_answer(struct relay *r, struct run *run)
{
    PD_CLEANUP(done_bufp) struct buf made = {0};
    PD_CLEANUP(done_bufp) struct buf wrapped = {0};
    struct span bytes;
    uint64_t before = loop_now_us(r->w->loop);
    pd_err e = answer_bytes(r, run, &made, &bytes);
    if (!e && r->what.wrapper && !r->facts.stream) {
        e = wrap(run, bytes, &wrapped);
        bytes = buf_span(&wrapped);
    }
    if (e)
        return lost(r, e);
    r->overhead_us += loop_now_us(r->w->loop) - before;
    struct reply_head h;
    common_head(r, run, &h);
    put(&h, "Content-Type", r->facts.stream ? stream_type(r) : "application/json");
    count_dropped(r, run);
    turn_keep(r, bytes);
    struct request *rq = r->rq;
    r->rq = NULL;
    reply_simple(rq, 200, h.list, h.count, bytes);
    return true;
}

/* A whole answer ends as clients expect it, also when its provider does without: clients wait for [DONE], and do not read an event that
 * has no blank line after it. False: the reply is lost. */
static bool end_mark(struct relay *r, struct run *run)
{
    struct span parts[3];
    unsigned n = 0;
    struct span came = buf_span(&run->terminator);
    const char *usual = r->what.codec->terminator;
    bool events = r->what.codec->stream_type && span_has(span_str(r->what.codec->stream_type), "event-stream") &&
                  run->ask.wire->framing != FRAMING_EVENTSTREAM;
    if (r->unended && events)
        parts[n++] = SPAN_LIT("\n\n");
    if (came.n)
        parts[n++] = came;
    else if (usual)
        parts[n++] = span_str(usual);
    if (came.n && !reply_ends_event(came) && events)
        parts[n++] = SPAN_LIT("\n\n");
    pd_err e = n ? reply_write(r->rq, parts, n) : PD_OK;
    return e == PD_OK || lost(r, e);
}

/* What the format ends a translated stream with. */
static bool encoded_end(struct relay *r, struct run *run)
{
    struct span made;
    pd_err e = encoder_end(flow_encoder(run), run->facts);
    if (!e)
        e = encoder_bytes(flow_encoder(run), &made);
    if (!e)
        e = reply_write(r->rq, &made, 1);
    count_dropped(r, run);
    return e == PD_OK || lost(r, e);
}

static bool array_end(struct relay *r)
{
    struct span bracket = SPAN_LIT("]");
    pd_err e = reply_write(r->rq, &bracket, 1);
    return e == PD_OK || lost(r, e);
}

static bool put_end(struct relay *r, struct run *run)
{
    if (flow_encoder(run))
        return encoded_end(r, run);
    return r->facts.line.array ? array_end(r) : end_mark(r, run);
}

/* A whole answer for a client that has its head already. */
static bool reply_rest(struct relay *r, struct run *run)
{
    PD_CLEANUP(done_bufp) struct buf made = {0};
    struct span bytes;
    pd_err e = answer_bytes(r, run, &made, &bytes);
    if (!e)
        e = reply_write(r->rq, &bytes, 1);
    count_dropped(r, run);
    return e == PD_OK || lost(r, e);
}

void reply_finish(struct relay *r, struct run *run)
{
    if (!r->rq || !run)
        return;
    if (!r->begun) {
        (void)reply_answer(r, run);
        return;
    }
    bool at_once =
        run->mode == RUN_WHOLE && !run->continues; /* though the head went out while it was waited for */
    if (at_once ? !reply_rest(r, run) : !put_end(r, run))
        return;
    turn_keep(r, SPAN_NONE);
    struct request *rq = r->rq;
    r->rq = NULL;
    reply_end(rq);
}

/* ---- honest errors -------------------------------------------------------------------------- */

static const struct told *told_of(const struct relay *r, int attempt)
{
    for (const struct told *t = r->told; t; t = t->next)
        if (t->attempt == attempt)
            return t;
    return NULL;
}

/* What was tried, so that a support ticket can be written from it. */
static pd_err put_attempts(struct relay *r, struct buf *out)
{
    pd_err e = buf_puts(out, "[");
    for (unsigned i = 0; i < r->call.attempts_count && !e; i++) {
        const struct attempt *a = &r->call.attempts[i];
        const struct target *t = route_used(r->route)->targets[a->target].target;
        const struct told *told = told_of(r, (int)i);
        e = buf_printf(out, "%s{\"provider\":", i ? "," : "");
        if (!e)
            e = json_put_str(out, span_str(t->provider));
        if (!e)
            e = buf_puts(out, ",\"model\":");
        if (!e)
            e = json_put_str(out, span_str(t->model));
        if (!e)
            e = buf_printf(out, ",\"class\":\"%s\",\"status\":%d,\"ms\":%llu,\"request_id\":",
                           failure_row((enum failure)a->failure)->name, told ? told->verdict.status : a->status,
                           (unsigned long long)(a->ended_at ? a->ended_at - a->started_at : 0));
        if (!e)
            e = told && told->verdict.request_id[0] ? json_put_str(out, span_str(told->verdict.request_id))
                                                    : buf_puts(out, "null");
        if (!e)
            e = buf_puts(out, "}");
    }
    return e ? e : buf_puts(out, "]");
}

static void fill_error(enum failure f, const struct told *t, struct client_error *ce, char *message,
                       size_t message_bytes)
{
    const struct failure_row *row = failure_row(f);
    bool own_words = t && t->verdict.message[0], own_type = row->client_status == 0 && t && !t->foreign;
    ce->code = row->client_code;
    ce->type = own_type && t->verdict.type[0] ? t->verdict.type
               : row->client_status == 0      ? "invalid_request_error"
               : row->client_status == 429    ? "rate_limit_error"
               : row->client_status < 500     ? "invalid_request_error"
                                              : "api_error";
    if (own_type && t->verdict.code[0])
        ce->code = t->verdict.code;
    if (own_words)
        snprintf(message, message_bytes, row->client_status == 0 ? "%.0s%s" : "%s: %s", row->what,
                 t->verdict.message);
    else
        snprintf(message, message_bytes, "%s", row->what);
    ce->message = span_str(message);
}

static enum client_kind kind_of(const struct request *rq)
{
    return client_kind_of(request_header(rq, "user-agent"));
}

/* No provider could count: an estimate is better than none, and says that it is one. False: there is none either. */
bool reply_estimate(struct relay *r)
{
    PD_CLEANUP(done_bufp) struct buf body = {0};
    struct msg_request m;
    const char *why;
    if (r->what.codec->parse_request(&r->facts, &r->arena, &m, &why))
        return false;
    if (r->what.codec->count->put(msg_estimate_tokens(&m), &body))
        return false;
    struct reply_head h;
    common_head(r, NULL, &h);
    put(&h, "Content-Type", "application/json");
    put(&h, "x-perdure-estimated", "1");
    struct request *rq = r->rq;
    r->rq = NULL;
    reply_simple(rq, 200, h.list, h.count, buf_span(&body));
    return true;
}

/* The status is spent: an error in the stream, and no proper end. */
static void error_in_stream(struct relay *r, struct client_error *ce)
{
    PD_CLEANUP(done_bufp) struct buf event = {0};
    PD_CLEANUP(done_bufp) struct buf attempts = {0};
    pd_err e = put_attempts(r, &attempts);
    ce->attempts_json = buf_span(&attempts);
    ce->sequence = r->events_shown;
    if (!e && r->facts.line.array) /* one more item of an array that stays open */
        e = buf_puts(&event, r->any_shown ? ",\r\n" : "[");
    if (!e)
        e = r->facts.line.array ? codec_put_error(r->what.codec, ce, &event)
                                : codec_put_error_event(r->what.codec, ce, &event);
    struct span bytes = buf_span(&event);
    if (!e && client_break_style(kind_of(r->rq)) == BREAK_EVENT && reply_write(r->rq, &bytes, 1) == PD_OK)
        reply_flush(r->rq);
    struct request *rq = r->rq;
    r->rq = NULL;
    reply_abort(rq); /* not even without the error event does it look like an end */
}

/* It failed before any output, but its client was told meanwhile that it is worked for. */
static void fail_in_stream(struct relay *r, const struct told *t, enum failure f)
{
    char message[400];
    struct client_error ce = {0};
    fill_error(f, t, &ce, message, sizeof(message));
    ce.status = error_form_of(kind_of(r->rq), f, t ? t->verdict.status : 0, 0).status;
    error_in_stream(r, &ce);
}

void reply_fail(struct relay *r, int attempt, enum failure f, uint64_t retry_after_ms)
{
    if (!r->rq)
        return;
    if (r->begun) {
        fail_in_stream(r, told_of(r, attempt), f);
        return;
    }
    if (r->what.codec->kind == CODEC_COUNT && reply_estimate(r))
        return;
    const struct told *t = told_of(r, attempt);
    const struct target *target =
        attempt >= 0 ? route_used(r->route)->targets[r->call.attempts[attempt].target].target : NULL;
    PD_CLEANUP(done_bufp) struct buf body = {0};
    PD_CLEANUP(done_bufp) struct buf attempts = {0};
    char message[400];
    struct client_error ce = {0};
    pd_err e = PD_OK;
    bool theirs = failure_row(f)->client_status == 0 && t && t->body.p;
    struct error_form form = error_form_of(kind_of(r->rq), f, t ? t->verdict.status : 0, retry_after_ms);
    int status = form.status;
    if (!theirs) {
        fill_error(f, t, &ce, message, sizeof(message));
        ce.status = status;
        e = put_attempts(r, &attempts);
        ce.attempts_json = buf_span(&attempts);
        if (!e)
            e = codec_put_error(r->what.codec, &ce, &body);
    }
    struct reply_head h;
    common_head(r, NULL, &h);
    if (target) {
        put(&h, "x-perdure-provider", target->provider);
        put(&h, "x-perdure-model", target->model);
    }
    put(&h, "Content-Type", "application/json");
    put(&h, r->what.codec->error_type_header, r->what.codec->error_type(status));
    put(&h, "x-should-retry", form.retry ? "true" : "false");
    if (form.retry_after_ms) {
        snprintf(h.retry_after, sizeof(h.retry_after), "%llu",
                 (unsigned long long)((form.retry_after_ms + 999) / 1000));
        put(&h, "Retry-After", h.retry_after);
    }
    struct span bytes = theirs ? t->body : buf_span(&body);
    if (e)
        bytes = SPAN_LIT("{\"error\":{\"message\":\"perdure is out of memory; try "
                         "again\",\"type\":\"api_error\",\"param\":null,"
                         "\"code\":\"out_of_memory\"}}");
    struct request *rq = r->rq;
    r->rq = NULL;
    reply_simple(rq, status, h.list, h.count, bytes);
}

void reply_break(struct relay *r, enum failure f, const char *why)
{
    if (!r->rq)
        return;
    char message[400];
    snprintf(message, sizeof(message), "the answer broke off after output had been sent: %s%s%s",
             failure_row(f)->what, *why ? ": " : "", why);
    struct client_error ce = {.status = failure_row(f)->client_status ? failure_row(f)->client_status : 502,
                              .type = "api_error",
                              .code = failure_row(f)->client_code,
                              .message = span_str(message)};
    error_in_stream(r, &ce);
}

void relay_refuse(struct request *rq, const struct codec *codec, int status, const char *code, const char *message,
                  uint64_t retry_after_ms)
{
    PD_CLEANUP(done_bufp) struct buf body = {0};
    struct client_error ce = {.status = status,
                              .type = status >= 500 ? "api_error" : "invalid_request_error",
                              .code = code,
                              .message = span_str(message)};
    pd_err e = codec_put_error(codec, &ce, &body);
    char seconds[24], id[24];
    struct text t = text_in(id, sizeof(id));
    text_str(&t, "c-"); /* no call was made of it, but a support ticket can name it */
    text_hex16(&t, rnd_seed());
    struct header h[6] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")},
                          {SPAN_LIT("x-request-id"), span_str(id)},
                          {SPAN_LIT("x-should-retry"), status >= 500 ? SPAN_LIT("true") : SPAN_LIT("false")}};
    unsigned n = 3;
    if (codec->request_id_header)
        h[n++] = (struct header){span_str(codec->request_id_header), span_str(id)};
    if (codec->error_type_header)
        h[n++] = (struct header){span_str(codec->error_type_header), span_str(codec->error_type(status))};
    snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)((retry_after_ms + 999) / 1000));
    if (retry_after_ms)
        h[n++] = (struct header){SPAN_LIT("Retry-After"), span_str(seconds)};
    reply_simple(rq, status, h, n,
                 e ? SPAN_LIT("{\"error\":{\"message\":\"perdure is out of memory; try "
                              "again\",\"type\":\"api_error\",\"param\":null,"
                              "\"code\":\"out_of_memory\"}}")
                   : buf_span(&body));
}
