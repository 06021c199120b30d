/* One attempt: the request as this provider wants it, and its answer read as it comes. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "credential/clock_skew.h"
#include "relay/relay_priv.h"
#include "relay/resume.h"
#include "relay/signing.h"

#include <stdio.h>

/* ---- failures ------------------------------------------------------------------------ */

void run_failed(struct run *run, struct verdict *v)
{
    if (!v->request_id[0])
        text_copy(v->request_id, sizeof(v->request_id), span_str(run->request_id));
    if (!run->over)
        relay_attempt_failed(run->relay, run, v);
}

void run_failed_as(struct run *run, enum failure f, const char *message)
{
    struct verdict v;
    classify_as(f, message, &v);
    v.status = run->status;
    run_failed(run, &v);
}

static void fail_ours(struct run *run, pd_err e)
{
    run_failed_as(run, FAILURE_OURS, pd_err_text(e));
}

/* ---- the answer as it comes -------------------------------------------------------- */

/* An encoder for the client's format: `stream` writes events, else a whole answer. */
static pd_err begin_encoding(struct run *run, bool stream)
{
    struct relay *r = run->relay;
    struct encode_want want = {.model = span_str(run->target->model),
                               .id = span_from(span_str(r->id), 2), /* without "c-" */
                               .created = (int64_t)(r->began_wall_ms / 1000),
                               .stream = stream,
                               .include_usage = r->facts.include_usage,
                               .array = r->facts.line.array,
                               .asked = run->ask.neutral};
    run->encoder = encoder_new(r->what.codec, &want, COLLECT_MAX);
    return run->encoder ? PD_OK : PD_NOMEM;
}

static bool is_chat(const struct run *run)
{
    return run->ask.codec->kind == CODEC_CHAT;
}

static pd_err begin_stream(struct run *run)
{
    struct relay *r = run->relay;
    const struct codec *c = run->ask.codec;
    run->mode = RUN_STREAM;
    run->answer = answer_new(c, run->ask.wire->framing, flow_event, run);
    if (!run->answer)
        return PD_NOMEM;
    if (is_chat(run))
        answer_on_delta(run->answer, flow_delta, run);
    if (run->continues)
        return PD_OK; /* the client's encoder is the call's */
    if (!run->ask.same || (!r->facts.stream && !c->collector))
        return begin_encoding(run, r->facts.stream);
    if (r->facts.stream)
        return PD_OK;
    run->collector = collector_new(c, COLLECT_MAX);
    return run->collector ? PD_OK : PD_NOMEM;
}

/* NULL: it gave none, or there is no memory for it. */
static struct given_id *keep_id(struct run *run, struct span said)
{
    size_t n = said.n < RUN_REQUEST_ID_MAX ? said.n : RUN_REQUEST_ID_MAX;
    struct given_id *id = n ? arena_alloc(&run->relay->arena, sizeof(*id) + n + 1) : NULL;
    if (!id)
        return NULL;
    id->attempt = run->n;
    text_copy(id->text, n + 1, said);
    run->request_id = id->text;
    return id;
}

static void on_head(void *ctx, const struct http1_head *head)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    run->status = head->status;
    run->head_us = loop_now_us(r->w->loop);
    struct given_id *kept = keep_id(run, provider_request_id(head));
    struct rate_facts rate;
    rate_read(head, clock_wall_ms(), &rate);
    fleet_lock(r->w->gateway->fleet);
    struct place *place = call_place(&r->call, run->n);
    if (place)
        target_rate_facts(run->target, place, &rate, loop_now_ms(r->w->loop));
    if (kept) {
        kept->next = r->ids;
        r->ids = kept;
    }
    fleet_unlock(r->w->gateway->fleet);

    struct span type = http1_get(head, "content-type");
    run->content_type_stream = span_ihas(type, "event-stream") || span_ihas(type, "ndjson") ||
                               span_ihas(type, "jsonl") || span_ihas(type, "amazon.eventstream");
    if (head->status != 200) {
        run->mode = RUN_REFUSED;
        run->head = classify_keep_head(head, &r->arena);
        return;
    }
    run->mode = run->ask.stream ? RUN_SNIFFING : RUN_WHOLE;
    if (run->ask.stream && run->content_type_stream) {
        pd_err e = begin_stream(run);
        if (e)
            fail_ours(run, e);
    }
}

/* What cannot be read is the provider's fault, what cannot be kept is ours. */
static void fail_reading(struct run *run, pd_err e)
{
    run_failed_as(run, e == PD_TOOBIG || e == PD_SYNTAX ? FAILURE_MALFORMED : FAILURE_OURS, pd_err_text(e));
}

/* What a body is that does not say so: '{' begins a document, anything else a stream. */
static void sniff(struct run *run)
{
    struct span s = span_trim(buf_span(&run->body));
    if (s.n == 0)
        return;
    bool lines = run->ask.codec->lines; /* there every event begins like a document */
    if (!lines && (span_starts(s, "{") || span_starts(s, "["))) {
        run->mode = RUN_WHOLE;
        return;
    }
    pd_err e = begin_stream(run);
    struct buf early = run->body; /* apart, since the first output gives up run->body while these bytes are read */
    run->body = (struct buf){0};
    if (!e)
        e = answer_feed(run->answer, buf_span(&early));
    if (e && !run->over)
        fail_reading(run, e);
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
        run_failed_as(run, e == PD_TOOBIG ? FAILURE_MALFORMED : FAILURE_OURS, pd_err_text(e));
}

/* Who looks at the running calls sees that it gets on. */
static void count_output(struct run *run)
{
    uint64_t so_far = answer_facts(run->answer)->output_bytes;
    if (so_far > run->output_told)
        atomic_fetch_add_explicit(&run->relay->output_so_far, so_far - run->output_told, memory_order_relaxed);
    run->output_told = so_far;
}

/* What is told of an event is mostly with the client before the next: only while it is read has an attempt room for it. */
static pd_err feed(struct run *run, struct span bytes)
{
    struct worker *w = run->relay->w;
    if (!run->told.any)
        shown_lend(&w->told, &run->told);
    pd_err e = answer_feed(run->answer, bytes);
    shown_lend(&run->told, &w->told);
    return e;
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
            pd_err e = feed(run, bytes);
            if (e && !run->over)
                fail_reading(run, e);
            else if (!run->over)
                count_output(run);
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
    if (r->rq && r->begun && r->call.winner == run->n)
        reply_flush(r->rq);
    resume_progress(r);
    relay_rearm(r);
}

/* ---- the end ------------------------------------------------------------------------- */

/* What signed it is fetched anew; and where the server's clock is far from ours, that is what it minds. */
static void refused_signature(struct run *run, struct verdict *v)
{
    uint64_t now = clock_wall_ms();
    char skew[CLOCK_SKEW_TEXT_BYTES], message[sizeof(v->message)];
    signing_refused(run->relay->routing, run->provider, run->generation);
    if (!routing_credential(run->relay->routing, run->provider) || !run->head)
        return;
    if (!*clock_skew_text(clock_skew_of(run->head, now), now, skew))
        return;
    snprintf(message, sizeof(message), "%s (%s)", skew, v->message);
    text_copy(v->message, sizeof(v->message), span_str(message));
}

static void end_refused(struct run *run)
{
    struct verdict v;
    classify_answer(run->provider->preset, run->head, run->status, buf_span(&run->body), clock_wall_ms(), &v);
    if (v.failure == FAILURE_AUTH || v.failure == FAILURE_PERMISSION)
        refused_signature(run, &v);
    if (run->continues &&
        v.failure == FAILURE_BAD) { /* the request to go on is ours: in another way it may be taken */
        v.failure = FAILURE_JOIN;
        v.provider_says_stop = false; /* of the way that it was asked in */
    }
    run_failed(run, &v);
}

/* A whole answer: read, and told to the encoder where it is in another format than the client's, or the client wants events of it. */
static pd_err read_whole(struct run *run, enum answer_end *ret_end)
{
    struct relay *r = run->relay;
    const struct codec *c = run->ask.codec;
    struct span body = buf_span(&run->body);
    run->facts = arena_zalloc(&r->arena, sizeof(*run->facts));
    if (!run->facts)
        return PD_NOMEM;
    if (!is_chat(run))
        return answer_read_whole(c, body, &r->arena, run->facts, ret_end, NULL, NULL);
    bool expanded_as_it_is = run->ask.same && c == &codec_openai_chat;
    if (!run->continues && !expanded_as_it_is && (!run->ask.same || r->facts.stream)) {
        pd_err e = begin_encoding(run, r->facts.stream);
        if (e)
            return e;
    }
    return answer_read_whole(c, body, &r->arena, run->facts, ret_end, flow_delta, run);
}

static void end_whole(struct run *run)
{
    struct relay *r = run->relay;
    enum answer_end end;
    pd_err e = read_whole(run, &end);
    if (!e && end == ANSWER_COMPLETE)
        e = flow_end(run);
    if (run->over)
        return;
    if (e) {
        fail_ours(run, e);
        return;
    }
    switch (end) {
    case ANSWER_COMPLETE:
        r->usage = run->facts->usage;
        r->output_bytes = run->facts->output_bytes;
        run->produced = true;
        if (!run->output_us)
            run->output_us = loop_now_us(r->w->loop);
        relay_attempt_complete(r, run);
        return;
    case ANSWER_FAILED:
        end_refused(run);
        return;
    case ANSWER_EMPTY:
        run_failed_as(run, FAILURE_EMPTY, "the answer holds no output");
        return;
    case ANSWER_CUT:
        run_failed_as(run, FAILURE_MALFORMED, "the answer is not a whole JSON document");
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
            run_failed(run, &v);
            return;
        }
    }
    run_failed_as(run, FAILURE_EMPTY, "the stream holds no output");
}

/* A whole stream, whose last pieces the client may not have yet. */
static void complete_stream(struct run *run)
{
    pd_err e = flow_end(run);
    if (!e)
        relay_attempt_complete(run->relay, run);
    else if (!run->over)
        fail_ours(run, e);
}

/* The provider said why it ended, and the client has seen it: only the end mark is missing, which is ours to write. Asked to go on, another would add to
 * an answer that is whole. */
static bool has_finished(const struct run *run)
{
    enum msg_finish f = run->facts->finish;
    return run->shows && (f == MSG_FINISH_STOP || f == MSG_FINISH_LENGTH || f == MSG_FINISH_TOOL_CALLS);
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
    struct answer_facts *facts = run->facts = answer_own_facts(run->answer);
    r->usage = facts->usage;
    r->output_bytes = facts->output_bytes;
    struct verdict v;
    switch (end) {
    case ANSWER_COMPLETE:
        complete_stream(run);
        return;
    case ANSWER_CUT:
        if (has_finished(run)) {
            e = relay_only_end(r, run);
            if (e)
                fail_ours(run, e);
            else
                complete_stream(run);
        } else if (err) {
            classify_transport(err, why, true, &v);
            run_failed(run, &v);
        } else {
            run_failed_as(run, FAILURE_CUT, "the stream ended without its end mark");
        }
        return;
    case ANSWER_EMPTY:
        if (err) {
            classify_transport(err, why, true, &v);
            run_failed(run, &v);
        } else if (facts->finish == MSG_FINISH_CONTENT_FILTER || facts->finish == MSG_FINISH_LENGTH ||
                   (run->continues && facts->finish != MSG_FINISH_NONE)) {
            complete_stream(run); /* nothing was said, and the provider says why; or nothing was left to say */
        } else {
            end_unread(run);
        }
        return;
    case ANSWER_FAILED:
        run_failed_as(run, FAILURE_SERVER, "the provider gave up in the middle of its answer");
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
        run_failed(run, &v);
    } else if (buf_size(&run->body) == 0) {
        run_failed_as(run, FAILURE_EMPTY, "the answer has no body");
    } else {
        end_whole(run);
    }
    if (r->rq && r->begun)
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

/* Keys and tokens among the fields that sign it. A signature is good for this one request only. */
static void remember_secrets(struct run *run, const struct ask_fields *f, unsigned from)
{
    static const char *const names[] = {"authorization", "x-amz-security-token", "x-api-key", "api-key",
                                        "x-goog-api-key"};
    for (unsigned i = from; i < f->count; i++)
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            struct span value = f->list[i].value;
            if (!span_iis(f->list[i].name, names[k]) || run->secrets_count == RUN_SECRETS_MAX)
                continue;
            run->secrets[run->secrets_count++] = span_starts(value, "Bearer ") ? span_from(value, 7) : value;
        }
}

/* Path, head and signature are there: off it goes. */
static pd_err send_off(struct run *run, const struct credential_view *view, const char **ret_why)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, on_batch, on_end};
    struct relay *r = run->relay;
    const struct route_target *way = &route_used(r->route)->targets[r->call.attempts[run->n].target];
    const struct conf_provider *p = run->provider;
    struct span path, model = span_str(run->target->model);
    struct ask_fields fields = {.count = 0};
    pd_err e = ask_path(&run->ask, p, model, signing_project(p, view, &r->arena), request_query(r->asked),
                        &r->arena, &path);
    if (e == PD_INVALID)
        *ret_why =
            "its requests need a project and a location: set `project` and `location`, or GOOGLE_CLOUD_PROJECT";
    if (e)
        return e;
    ask_head(r, p, &run->ask, &fields);
    struct exchange_request rq = {.method = "POST",
                                  .path = path,
                                  .body = run->ask.parts,
                                  .body_count = run->ask.parts_count,
                                  .connect_ms = way->settings.connect_timeout};
    unsigned before = fields.count;
    e = signing_put(p, view, &rq, &r->arena, &fields);
    remember_secrets(run, &fields, before);
    rq.fields = fields.list;
    rq.fields_count = fields.count;
    if (e)
        return e;
    return exchange_start(r->w->client, routing_origin(r->routing, p), &rq, &handler, run, &run->exchange);
}

static void on_signed(void *ctx)
{
    struct run *run = ctx;
    struct relay *r = run->relay;
    struct credential_view view;
    if (run->over || (!r->rq && !r->orphan))
        return;
    switch (signing_get(r->routing, run->provider, &view)) {
    case CREDENTIAL_WAIT:
        signing_wait(r->routing, run->provider, &run->signs, on_signed, run);
        return;
    case CREDENTIAL_FAILED:
        run_failed_as(run, FAILURE_AUTH, view.why);
        return;
    case CREDENTIAL_READY:
        break;
    }
    run->generation = view.generation;
    const char *why = NULL;
    pd_err e = send_off(run, &view, &why);
    if (e)
        run_failed_as(run, FAILURE_OURS, why ? why : pd_err_text(e));
}

/* The request is ready: signed and sent at once, or when the credentials are there. */
static pd_err sign_and_send(struct run *run, const char **ret_why, enum failure *ret_class)
{
    struct relay *r = run->relay;
    struct credential_view view;
    switch (signing_get(r->routing, run->provider, &view)) {
    case CREDENTIAL_WAIT:
        signing_wait(r->routing, run->provider, &run->signs, on_signed, run);
        return PD_OK;
    case CREDENTIAL_FAILED:
        *ret_class = FAILURE_AUTH;
        *ret_why = view.why;
        return PD_INVALID;
    case CREDENTIAL_READY:
        break;
    }
    run->generation = view.generation;
    return send_off(run, &view, ret_why);
}

static struct run **free_place(struct relay *r)
{
    for (int i = 0; i < CALL_RUNNING_MAX; i++)
        if (!r->runs[i])
            return &r->runs[i];
    return NULL;
}

/* The request that asks to go on with what the client has. */
static pd_err continue_body(struct run *run, const char **ret_why)
{
    struct relay *r = run->relay;
    struct continuation k;
    *ret_why = "it is not asked to go on with what another has begun";
    if (!ask_may_continue(run->provider))
        return PD_UNSUPPORTED;
    *ret_why = NULL;
    pd_err e = relay_continuation(r, run, &k);
    if (!e) /* of which nothing but reasoning was shown, that begins again: unseen */
        e = ask_body(r, run->provider, span_str(run->target->model), &run->ask, k.seen.n ? &k : NULL, ret_why);
    return e || !k.seen.n ? e : relay_joiner(r, run);
}

static pd_err prepare(struct run *run, const char **ret_why, enum failure *ret_class)
{
    struct relay *r = run->relay;
    struct span model = span_str(run->target->model);
    if (!ask_wire(run->provider, model, r->what.codec, &run->ask)) {
        *ret_class = FAILURE_CARRY;
        *ret_why = "the provider has no such operation in any format that it speaks";
        return PD_UNSUPPORTED;
    }
    run->ask.stream = run->ask.codec->streams && run->provider->stream != 0;
    if (run->ask.wire->model_in_path && run->ask.same && !r->facts.stream && !run->ask.codec->collector)
        run->ask.stream = false;
    pd_err e =
        run->continues ? continue_body(run, ret_why) : ask_body(r, run->provider, model, &run->ask, NULL, ret_why);
    if (e == PD_UNSUPPORTED)
        *ret_class = FAILURE_CARRY;
    return e ? e : sign_and_send(run, ret_why, ret_class);
}

pd_err run_start(struct relay *r, int attempt, bool continues, const char **ret_why, enum failure *ret_class)
{
    struct target *t = route_used(r->route)->targets[r->call.attempts[attempt].target].target;
    const struct conf_provider *p = routing_provider(r->routing, t);
    struct run **place = free_place(r);
    *ret_class = FAILURE_OURS;
    *ret_why = NULL;
    struct run *run = p && place ? mem_zalloc(sizeof(*run)) : NULL;
    if (!run)
        return p && place ? PD_NOMEM : PD_NOTFOUND;
    run->relay = r;
    run->n = attempt;
    run->target = t;
    run->provider = p;
    run->continues = run->asked_on = continues;
    run->request_id = "";
    shown_init(&run->told);
    run->started_us = loop_now_us(r->w->loop);
    list_init(&run->node);
    list_init(&run->signs.node);
    pd_err e = prepare(run, ret_why, ret_class);
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

/* How many events the client has of it, in formats that number them. */
static uint64_t events_shown(const struct run *run)
{
    return flow_encoder(run) ? encoder_sequence(flow_encoder(run)) : run->sequence;
}

void run_cancel(struct run *run)
{
    struct relay *r = run->relay;
    if (run->over)
        return;
    spent_note(r, run, false);
    if (run->shows)
        relay_broke_off(r, run, events_shown(run));
    run->over = true;
    credential_unwait(&run->signs);
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
    encoder_free(run->encoder);
    toolgate_free(run->gate);
    join_free(run->join);
    shown_done(&run->told);
    ask_done(&run->ask);
    buf_done(&run->body);
    buf_done(&run->held);
    buf_done(&run->late);
    buf_done(&run->terminator);
    mem_free(run);
    return NULL;
}
