/* One attempt: the request as this provider wants it, and its answer read as it comes. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "relay/relay_priv.h"

/* ---- the request --------------------------------------------------------------- */

/* What of a client's head is not the provider's business: the connection's own fields, credentials, and what we set ourselves. */
static bool withheld(struct span name)
{
#define NAME(s)             \
    {                       \
        "" s, sizeof(s) - 1 \
    }
    static const struct span exact[] = {
        NAME("host"),
        NAME("connection"),
        NAME("keep-alive"),
        NAME("proxy-connection"),
        NAME("proxy-authorization"),
        NAME("te"),
        NAME("trailer"),
        NAME("upgrade"),
        NAME("transfer-encoding"),
        NAME("content-length"),
        NAME("content-type"),
        NAME("content-encoding"),
        NAME("expect"),
        NAME("accept"),
        NAME("accept-encoding"),
        NAME("authorization"),
        NAME("x-api-key"),
        NAME("api-key"),
        NAME("x-goog-api-key"),
        NAME("cookie"),
        NAME("origin"),
        NAME("referer"),
        NAME("forwarded"),
        NAME("via"),
        NAME("x-real-ip"),
        NAME("openai-organization"),
        NAME("openai-project"),
        NAME("idempotency-key"),
        NAME("x-request-id"),
    };
#undef NAME
    for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++)
        if (name.n == exact[i].n && span_ieq(name, exact[i]))
            return true;
    return span_ieq(span_upto(name, 10), SPAN_LIT("x-perdure-")) ||
           span_ieq(span_upto(name, 12), SPAN_LIT("x-forwarded-")) ||
           span_ieq(span_upto(name, 12), SPAN_LIT("x-stainless-")) ||
           span_ieq(span_upto(name, 4), SPAN_LIT("sec-"));
}

struct fields {
    struct http1_field list[HTTP1_FIELDS_MAX];
    unsigned count;
};

static void put(struct fields *f, const char *name, struct span value)
{
    if (f->count < HTTP1_FIELDS_MAX)
        f->list[f->count++] = (struct http1_field){span_str(name), value};
}

static bool configured(const struct conf_provider *p, struct span name)
{
    for (unsigned i = 0; i < p->headers_count; i++)
        if (span_iis(name, p->headers[i].name))
            return true;
    return false;
}

static pd_err put_key(struct relay *r, const struct conf_provider *p, struct fields *f)
{
    if (!p->key)
        return PD_OK;
    if (p->preset->auth == AUTH_API_KEY) {
        put(f, "api-key", span_str(p->key));
        return PD_OK;
    }
    char *bearer = arena_printf(&r->arena, "Bearer %s", p->key);
    if (!bearer)
        return PD_NOMEM;
    put(f, "Authorization", span_str(bearer));
    return PD_OK;
}

static pd_err build_fields(struct relay *r, const struct conf_provider *p, bool stream, struct fields *f)
{
    f->count = 0;
    pd_err e = put_key(r, p, f);
    if (e)
        return e;
    put(f, "Content-Type", SPAN_LIT("application/json"));
    put(f, "Accept", stream ? SPAN_LIT("text/event-stream, application/json") : SPAN_LIT("application/json"));
    put(f, "Accept-Encoding", SPAN_LIT("identity"));
    for (unsigned i = 0; i < p->headers_count; i++)
        put(f, p->headers[i].name, span_str(p->headers[i].value));
    const struct http1_field *theirs;
    unsigned n = request_headers(r->rq, &theirs);
    for (unsigned i = 0; i < n && f->count < HTTP1_FIELDS_MAX; i++)
        if (!withheld(theirs[i].name) && !configured(p, theirs[i].name))
            f->list[f->count++] = theirs[i];
    return PD_OK;
}

/* ---- what the reader finds ------------------------------------------------------- */

static void fail(struct run *run, const struct verdict *v)
{
    if (!run->over)
        relay_attempt_failed(run->relay, run, v);
}

static void fail_as(struct run *run, enum failure f, const char *message)
{
    struct verdict v;
    classify_as(f, message, &v);
    v.status = run->status;
    text_copy(v.request_id, sizeof(v.request_id), span_str(run->request_id));
    fail(run, &v);
}

static void fail_ours(struct run *run, pd_err e)
{
    fail_as(run, FAILURE_OURS, pd_err_text(e));
}

/* Something for the client came. Returns false when the run is over. */
static bool produced(struct run *run)
{
    struct relay *r = run->relay;
    if (run->produced) {
        relay_attempt_moved(r, run);
        return true;
    }
    run->produced = true;
    run->output_us = loop_now_us(r->w->loop);
    buf_done(&run->body); /* the beginning was kept in case it was an error page */
    relay_attempt_output(r, run);
    return !run->over;
}

/* An error object in the stream: after it nothing counts. */
static void read_error(struct run *run, const struct answer_event *ev)
{
    struct verdict v;
    classify_answer(run->provider->preset, NULL, run->status, ev->error.raw, clock_wall_ms(), &v);
    if (!v.request_id[0])
        text_copy(v.request_id, sizeof(v.request_id), span_str(run->request_id));
    fail(run, &v);
}

static bool for_client(const struct run *run, const struct answer_event *ev)
{
    if ((ev->holds & ANSWER_ONLY_USAGE) && !run->relay->facts.include_usage)
        return false;
    return (ev->holds & ANSWER_MALFORMED) == 0;
}

static pd_err show_or_hold(struct run *run, const struct answer_event *ev)
{
    struct relay *r = run->relay;
    if (run->collector) /* usage too: a whole answer always has it */
        return ev->json.type == JSON_OBJECT && !(ev->holds & ANSWER_MALFORMED)
                   ? collector_add(run->collector, ev->type, ev->json)
                   : PD_OK;
    if (!for_client(run, ev))
        return PD_OK;
    if (ev->holds & ANSWER_DONE) { /* an error may follow it, or the answer be no whole one */
        run->terminator.limit_bytes = RUN_HELD_MAX;
        return buf_add(&run->terminator, ev->raw);
    }
    if (r->call.winner == run->n && r->shown)
        return reply_show(r, ev->raw) ? PD_OK : PD_CANCELLED;
    if (ev->holds & ANSWER_KEEPALIVE)
        return PD_OK; /* nothing is shown yet, a comment is not worth keeping */
    run->held.limit_bytes = RUN_HELD_MAX;
    return buf_add(&run->held, ev->raw);
}

static pd_err on_event(void *ctx, const struct answer_event *ev)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    if (run->over)
        return PD_CANCELLED;
    if (ev->holds & ANSWER_ERROR) {
        read_error(run, ev);
        return PD_CANCELLED;
    }
    if (ev->holds & ANSWER_MALFORMED)
        meter_add(r->w->meter, METER_MALFORMED, 1, LABELS(RUN_LABELS(run)));
    if ((ev->holds & ANSWER_DONE) && r->call.winner == run->n)
        r->done_at_ms = relay_now_ms(r);
    if ((ev->holds & ANSWER_OUTPUT) && !produced(run))
        return PD_CANCELLED;
    if (run->produced && (ev->holds & (ANSWER_FINISH | ANSWER_USAGE)))
        relay_attempt_moved(r, run);
    return show_or_hold(run, ev);
}

/* ---- the answer as it comes -------------------------------------------------------- */

static pd_err begin_stream(struct run *run)
{
    struct relay *r = run->relay;
    run->mode = RUN_STREAM;
    run->answer = answer_new(r->what.codec, FRAMING_LINES, on_event, run);
    if (!run->answer)
        return PD_NOMEM;
    if (!r->facts.stream) {
        run->collector = collector_new(r->what.codec, COLLECT_MAX);
        if (!run->collector)
            return PD_NOMEM;
    }
    return PD_OK;
}

static void on_head(void *ctx, const struct http1_head *head)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    run->status = head->status;
    run->head_us = loop_now_us(r->w->loop);
    struct span id = provider_request_id(head);
    text_copy(run->request_id, sizeof(run->request_id), id);
    char *kept = id.n ? arena_strndup(&r->arena, run->request_id, strlen(run->request_id)) : NULL;
    struct rate_facts rate;
    rate_read(head, clock_wall_ms(), &rate);
    fleet_lock(r->w->gateway->fleet);
    run->target->rate = rate;
    r->ids[run->n] = kept;
    fleet_unlock(r->w->gateway->fleet);

    struct span type = http1_get(head, "content-type");
    run->content_type_sse =
        span_ihas(type, "event-stream") || span_ihas(type, "ndjson") || span_ihas(type, "jsonl");
    if (head->status != 200) {
        run->mode = RUN_REFUSED;
        run->head = classify_keep_head(head, &r->arena);
        return;
    }
    run->mode = run->asked_stream ? RUN_SNIFFING : RUN_WHOLE;
    if (run->asked_stream && run->content_type_sse) {
        pd_err e = begin_stream(run);
        if (e)
            fail_ours(run, e);
    }
}

/* What a body is that does not say so: '{' begins a document, anything else a stream. */
static void sniff(struct run *run)
{
    struct span s = span_trim(buf_span(&run->body));
    if (s.n == 0)
        return;
    if (span_starts(s, "{") || span_starts(s, "[")) {
        run->mode = RUN_WHOLE;
        return;
    }
    pd_err e = begin_stream(run);
    struct buf early = run->body; /* apart, since the first output gives up run->body while these bytes are read */
    run->body = (struct buf){0};
    if (!e)
        e = answer_feed(run->answer, buf_span(&early));
    if (e && !run->over)
        fail_ours(run, e);
    if (run->produced || run->over)
        buf_done(&early);
    else
        run->body = early;
}

static void keep(struct run *run, struct span bytes, size_t limit)
{
    run->body.limit_bytes = limit;
    pd_err e = buf_add(&run->body, bytes);
    if (e == PD_TOOBIG && (run->mode == RUN_REFUSED || run->mode == RUN_STREAM))
        return; /* the beginning is enough */
    if (e)
        fail_as(run, e == PD_TOOBIG ? FAILURE_MALFORMED : FAILURE_OURS, pd_err_text(e));
}

static void on_body(void *ctx, struct span bytes)
{
    struct run *run = ctx;
    if (run->over)
        return;
    switch (run->mode) {
    case RUN_WAITING:
        break;
    case RUN_SNIFFING:
        keep(run, bytes, RUN_EARLY_MAX + 64 * 1024);
        if (!run->over)
            sniff(run);
        break;
    case RUN_STREAM:
        if (!run->produced && buf_size(&run->body) < RUN_EARLY_MAX)
            keep(run, span_upto(bytes, RUN_EARLY_MAX), 2 * RUN_EARLY_MAX);
        if (!run->over) {
            pd_err e = answer_feed(run->answer, bytes);
            if (e && !run->over)
                fail_as(run, e == PD_TOOBIG || e == PD_SYNTAX ? FAILURE_MALFORMED : FAILURE_OURS, pd_err_text(e));
        }
        break;
    case RUN_WHOLE:
        keep(run, bytes, COLLECT_MAX);
        break;
    case RUN_REFUSED:
        keep(run, bytes, CLASSIFY_BODY_MAX);
        break;
    }
}

static void on_batch(void *ctx)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    if (run->over)
        return;
    if (r->rq && r->shown && r->call.winner == run->n)
        reply_flush(r->rq);
    relay_rearm(r);
}

/* ---- the end ------------------------------------------------------------------------- */

static void end_refused(struct run *run)
{
    struct verdict v;
    classify_answer(run->provider->preset, run->head, run->status, buf_span(&run->body), clock_wall_ms(), &v);
    text_copy(v.request_id, sizeof(v.request_id), span_str(run->request_id));
    fail(run, &v);
}

static void end_whole(struct run *run)
{
    struct relay *r = run->relay;
    struct answer_facts facts;
    enum answer_end end;
    pd_err e = answer_read_whole(r->what.codec, buf_span(&run->body), &r->arena, &facts, &end, NULL, NULL);
    if (e) {
        fail_ours(run, e);
        return;
    }
    switch (end) {
    case ANSWER_COMPLETE:
        r->usage = facts.usage;
        r->output_bytes = facts.output_bytes;
        run->produced = true;
        if (!run->output_us)
            run->output_us = loop_now_us(r->w->loop);
        relay_attempt_complete(r, run);
        return;
    case ANSWER_FAILED:
        end_refused(run);
        return;
    case ANSWER_EMPTY:
        fail_as(run, FAILURE_EMPTY, "the answer holds no output");
        return;
    case ANSWER_CUT:
        fail_as(run, FAILURE_MALFORMED, "the answer is not a whole JSON document");
        return;
    }
}

/* A stream in which no event was an event may be an error page or document under a wrong name. */
static void end_unread(struct run *run)
{
    struct verdict v;
    if (buf_size(&run->body)) {
        classify_answer(run->provider->preset, NULL, run->status, buf_span(&run->body), clock_wall_ms(), &v);
        if (v.failure != FAILURE_NONE) {
            fail(run, &v);
            return;
        }
    }
    fail_as(run, FAILURE_EMPTY, "the stream holds no output");
}

static void end_stream(struct run *run, pd_err err, const char *why)
{
    struct relay *r = run->relay;
    enum answer_end end;
    pd_err e = answer_finish(run->answer, &end);
    if (run->over)
        return;
    if (e) {
        fail_ours(run, e);
        return;
    }
    const struct answer_facts *facts = answer_facts(run->answer);
    r->usage = facts->usage;
    r->output_bytes = facts->output_bytes;
    struct verdict v;
    switch (end) {
    case ANSWER_COMPLETE:
        relay_attempt_complete(r, run);
        return;
    case ANSWER_CUT:
        if (err) {
            classify_transport(err, why, true, &v);
            text_copy(v.request_id, sizeof(v.request_id), span_str(run->request_id));
            fail(run, &v);
        } else {
            fail_as(run, FAILURE_CUT, "the stream ended without its end mark");
        }
        return;
    case ANSWER_EMPTY:
        if (err) {
            classify_transport(err, why, true, &v);
            fail(run, &v);
        } else if (facts->finish == MSG_FINISH_CONTENT_FILTER || facts->finish == MSG_FINISH_LENGTH) {
            relay_attempt_complete(r, run); /* nothing was said, and the provider says why */
        } else {
            end_unread(run);
        }
        return;
    case ANSWER_FAILED:
        fail_as(run, FAILURE_SERVER, "the provider gave up in the middle of its answer");
        return;
    }
}

/* A deadline that passed on the way to the provider says where; only one that passed at the provider is a timeout of its own. */
static pd_err placed(const struct run *run, pd_err err)
{
    if (err != PD_TIMEOUT)
        return err;
    switch (exchange_info(run->exchange)->phase) {
    case EXCHANGE_RESOLVING:
        return PD_DNS;
    case EXCHANGE_CONNECTING:
        return PD_CONNECT;
    case EXCHANGE_PROXY:
        return PD_PROXY;
    case EXCHANGE_TLS:
        return PD_TLS;
    case EXCHANGE_SENDING:
    case EXCHANGE_WAITING:
    case EXCHANGE_READING:
        break;
    }
    return err;
}

static void on_end(void *ctx, pd_err err, const char *why)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    err = placed(run, err);
    run->exchange = NULL;
    if (run->over)
        return;
    struct verdict v;
    if (run->mode == RUN_STREAM) {
        end_stream(run, err, why);
    } else if (run->mode == RUN_REFUSED) {
        end_refused(run); /* its status is known, whatever became of its body */
    } else if (err) {
        classify_transport(err, why, run->mode != RUN_WAITING, &v);
        text_copy(v.request_id, sizeof(v.request_id), span_str(run->request_id));
        fail(run, &v);
    } else if (buf_size(&run->body) == 0) {
        fail_as(run, FAILURE_EMPTY, "the answer has no body");
    } else {
        end_whole(run);
    }
    if (r->rq && r->shown)
        reply_flush(r->rq);
}

void run_end_now(struct run *run)
{
    if (run->over || run->mode != RUN_STREAM)
        return;
    exchange_cancel(run->exchange);
    run->exchange = NULL;
    end_stream(run, PD_OK, "");
}

/* ---- start and stop ---------------------------------------------------------------------- */

static bool asks_stream(const struct relay *r, const struct conf_provider *p)
{
    if (!r->what.codec->streams || p->stream == 0)
        return false;
    return true;
}

pd_err run_start(struct relay *r, int attempt)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, on_batch, on_end};
    const struct route *route = route_used(r->route);
    const struct route_target *way = &route->targets[r->call.attempts[attempt].target];
    struct target *t = way->target;
    const struct conf_provider *p = routing_provider(r->routing, t);
    struct run **place = NULL;
    for (int i = 0; i < CALL_RUNNING_MAX && !place; i++)
        if (!r->runs[i])
            place = &r->runs[i];
    if (!p || !place)
        return PD_NOTFOUND;
    bool stream = asks_stream(r, p);
    struct request_edit edit = {.model = span_str(t->model),
                                .force_stream = stream,
                                .want_usage = stream && p->preset->asks_usage,
                                .forbid_stream = !stream && r->facts.stream};
    struct span parts[REQUEST_PARTS_MAX], path;
    unsigned parts_count;
    struct fields fields;
    pd_err e = r->what.codec->edit_request(&r->facts, &edit, &r->arena, parts, &parts_count);
    if (!e)
        e = routing_path(p, r->what.codec->name,
                         r->what.codec == &codec_openai_chat ? "/chat/completions" : "/embeddings", &r->arena,
                         &path);
    if (!e)
        e = build_fields(r, p, stream, &fields);
    struct run *run = e ? NULL : mem_zalloc(sizeof(*run));
    if (!run)
        return e ? e : PD_NOMEM;
    run->relay = r;
    run->n = attempt;
    run->target = t;
    run->provider = p;
    run->asked_stream = stream;
    run->started_us = loop_now_us(r->w->loop);
    list_init(&run->node);
    struct exchange_request rq = {.method = "POST",
                                  .path = path,
                                  .fields = fields.list,
                                  .fields_count = fields.count,
                                  .body = parts,
                                  .body_count = parts_count,
                                  .connect_ms = way->settings.connect_timeout};
    e = exchange_start(r->w->client, routing_origin(r->routing, p), &rq, &handler, run, &run->exchange);
    if (e) {
        run_free(run);
        return e;
    }
    fleet_lock(r->w->gateway->fleet);
    r->w->gateway->spoken[t->id] = r->what.codec;
    fleet_unlock(r->w->gateway->fleet);
    *place = run;
    meter_add(r->w->meter, METER_REQUESTS, 1, LABELS(RUN_LABELS(run)));
    meter_shift(r->w->meter, METER_TARGET_RUNNING, 1, LABELS(RUN_LABELS(run)));
    return PD_OK;
}

void run_cancel(struct run *run)
{
    struct relay *r = run->relay;
    if (run->over)
        return;
    run->over = true;
    if (run->exchange)
        exchange_cancel(run->exchange);
    run->exchange = NULL;
    meter_shift(r->w->meter, METER_TARGET_RUNNING, -1, LABELS(RUN_LABELS(run)));
    for (int i = 0; i < CALL_RUNNING_MAX; i++)
        if (r->runs[i] == run)
            r->runs[i] = NULL;
    list_push(&r->dead, &run->node);
    loop_later(r->w->loop, &r->reaper);
}

struct run *run_free(struct run *run)
{
    if (!run)
        return NULL;
    answer_free(run->answer);
    collector_free(run->collector);
    buf_done(&run->body);
    buf_done(&run->held);
    buf_done(&run->terminator);
    mem_free(run);
    return NULL;
}
