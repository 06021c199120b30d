/* Anthropic Messages: at Anthropic, on Vertex AI (no model in the body), and inside Bedrock's InvokeModel. Requests are read in
 * dialect_messages_read.c. */
#include "simulate/dialect.h"
#include "simulate/sign.h"

#include <stdio.h>

static const struct error_like errors[] = {
    {"bad_request", 400, "invalid_request_error", NULL, "messages.0: Input does not match the expected shape."},
    {"context_length", 400, "invalid_request_error", NULL, "prompt is too long: 9001 tokens > 8192 maximum"},
    {"content_filter", 400, "invalid_request_error", NULL, "Output blocked by content filtering policy"},
    {"auth", 401, "authentication_error", NULL, "invalid x-api-key"},
    {"billing", 400, "invalid_request_error", NULL,
     "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or "
     "purchase "
     "credits."},
    {"billing_402", 402, "billing_error", NULL, "There's an issue with your billing or payment information."},
    {"permission", 403, "permission_error", NULL,
     "Your API key does not have permission to use the specified resource."},
    {"model_not_found", 404, "not_found_error", NULL, "model: unknown"},
    {"timeout", 408, "timeout_error", NULL, "Request timed out."},
    {"too_large", 413, "request_too_large", NULL, "Request exceeds the maximum size"},
    {"rate_limit", 429, "rate_limit_error", NULL,
     "This request would exceed your organization's rate limit of 50 requests per minute."},
    {"tokens", 429, "rate_limit_error", NULL,
     "This request would exceed your organization's rate limit of 30,000 input tokens per minute."},
    {"quota", 429, "rate_limit_error", "enforced_spend_limit_reached",
     "This request would exceed your organization's monthly spend limit."},
    {"server_error", 500, "api_error", NULL, "Internal server error"},
    {"bad_gateway", 502, "api_error", NULL, "Bad gateway"},
    {"unavailable", 503, "api_error", NULL, "Service unavailable"},
    {"gateway_timeout", 504, "timeout_error", NULL, "The upstream server did not answer in time."},
    {"overloaded", 529, "overloaded_error", NULL, "Overloaded"},
};

static const struct finish_word finishes[] = {
    {"stop", "end_turn"},          {"length", "max_tokens"}, {"tool_calls", "tool_use"},
    {"content_filter", "refusal"}, {"refusal", "refusal"},   {NULL, NULL},
};

/* ---- counting ------------------------------------------------------------------- */

static pd_err count_tokens(struct reading *r, struct put *out)
{
    put_text(out, "{\"input_tokens\":");
    put_uint(out, r->ask->prompt_tokens);
    put_text(out, "}");
    return out->err;
}

/* ---- writing ------------------------------------------------------------------ */

static void put_usage(const struct speech *speech, uint64_t output, bool last, struct put *out)
{
    put_text(out, "{\"input_tokens\":");
    put_uint(out, speech->answer->prompt_tokens);
    put_text(out, ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0");
    if (!last)
        put_text(out, ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0}");
    put_text(out, ",\"output_tokens\":");
    put_uint(out, output);
    put_text(out, last ? "}" : ",\"service_tier\":\"standard\"}");
}

static void put_message_head(const struct speech *speech, struct put *out)
{
    put_text(out, "{\"model\":\"");
    put_span(out, speech->rq->model);
    put_text(out, "\",\"id\":");
    put_json(out, speech->id);
    put_text(out, ",\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
}

static void put_signature(struct put *out, const struct block *b, const struct speech *speech)
{
    put_text(out, "\"");
    sign_put(out, MAKER_ANTHROPIC, "thinking", b->text, speech->id);
    put_text(out, "\"");
}

static void put_redacted(struct put *out, const struct speech *speech)
{
    put_text(out, "{\"type\":\"redacted_thinking\",\"data\":\"");
    sign_put(out, MAKER_ANTHROPIC, "redacted", SPAN_NONE, speech->id);
    put_text(out, "\"}");
}

static void put_call(struct put *out, const struct block *b, struct span input)
{
    put_text(out, "{\"type\":\"tool_use\",\"id\":");
    put_json(out, b->call->id);
    put_text(out, ",\"name\":");
    put_json(out, b->call->name);
    put_text(out, ",\"input\":");
    put_span(out, json_check(input) == PD_OK ? input : SPAN_LIT("{}"));
    put_text(out, "}");
}

static void put_stop(struct put *out, const struct speech *speech, const char *finish)
{
    const char *word = dialect_finish(&sim_messages, finish);
    put_text(out, "\"stop_reason\":");
    put_json(out, span_str(word));
    put_text(out, ",\"stop_sequence\":");
    if (speech->answer->stopped_at.p)
        put_json(out, speech->answer->stopped_at);
    else
        put_text(out, "null");
    if (strcmp(word, "refusal") == 0)
        put_text(out, ",\"stop_details\":{\"type\":\"refusal\",\"category\":null,\"explanation\":null}");
}

/* An event, with the blanks before its last brace that Anthropic pads with. */
static void end_event(struct stream *s, const char *type)
{
    static const char blanks[] = "               ";
    put_span(&s->json, span_of(blanks, rnd_below(s->speech->rnd, sizeof(blanks))));
    put_text(&s->json, "}");
    s->events++;
    event_end(s, type);
}

static void put_ping(struct stream *s)
{
    put_text(event_begin(s), "{\"type\": \"ping\"}");
    s->events++;
    event_end(s, "ping");
}

static void put_begin(struct stream *s)
{
    struct put *out = event_begin(s);
    put_text(out, "{\"type\":\"message_start\",\"message\":");
    put_message_head(s->speech, out);
    put_text(out, "],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    put_usage(s->speech, 1, false, out);
    put_text(out, "}");
    end_event(s, "message_start");
    s->pinged = s->speech->rq->at.platform != PLATFORM_OWN;
    if (s->speech->rq->at.platform == PLATFORM_VERTEX)
        put_ping(s);
}

static void put_open(struct stream *s, const struct block *b)
{
    struct put *out = event_begin(s);
    put_printf(out, "{\"type\":\"content_block_start\",\"index\":%u,\"content_block\":", s->steps.block);
    if (b->kind == SAID_CALL)
        put_call(out, b, SPAN_LIT("{}"));
    else if (b->kind == SAID_REDACTED)
        put_redacted(out, s->speech);
    else
        put_text(out, b->kind == SAID_THINKING ? "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"
                                               : "{\"type\":\"text\",\"text\":\"\"}");
    end_event(s, "content_block_start");
    if (!s->pinged) {
        s->pinged = true;
        put_ping(s);
    }
    if (b->kind != SAID_CALL)
        return;
    put_printf(event_begin(s),
               "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":{\"type\":\"input_json_delta\","
               "\"partial_json\":\"\"}",
               s->steps.block);
    end_event(s, "content_block_delta");
}

static void put_delta(struct stream *s, const struct block *b, struct span text)
{
    static const char *const kinds[] = {
        "text_delta\",\"text\":", "thinking_delta\",\"thinking\":", "input_json_delta\",\"partial_json\":"};
    struct put *out = event_begin(s);
    put_printf(out, "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":{\"type\":\"%s", s->steps.block,
               kinds[b->kind == SAID_CALL ? 2 : b->kind == SAID_THINKING]);
    put_text(out, "\"");
    put_json_inner(out, text);
    put_text(out, "\"}");
    end_event(s, "content_block_delta");
}

static void put_close(struct stream *s, const struct block *b)
{
    if (b->kind == SAID_THINKING) {
        struct put *out = event_begin(s);
        put_printf(out,
                   "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":{\"type\":\"signature_delta\","
                   "\"signature\":",
                   s->steps.block);
        put_signature(out, b, s->speech);
        put_text(out, "}");
        end_event(s, "content_block_delta");
    }
    put_printf(event_begin(s), "{\"type\":\"content_block_stop\",\"index\":%u", s->steps.block);
    end_event(s, "content_block_stop");
}

static void put_invocation_metrics(struct stream *s, struct put *out)
{
    if (s->speech->rq->at.platform != PLATFORM_BEDROCK)
        return;
    put_text(out, ",\"amazon-bedrock-invocationMetrics\":{\"inputTokenCount\":");
    put_uint(out, s->speech->answer->prompt_tokens);
    put_text(out, ",\"outputTokenCount\":");
    put_uint(out, s->tokens);
    put_text(out, ",\"invocationLatency\":120,\"firstByteLatency\":60}");
}

enum stream_piece messages_next(struct stream *s)
{
    uint64_t before = s->tokens;
    steps_next(&s->steps, false, &s->tokens);
    const struct block *b = &s->steps.blocks[s->steps.block < s->steps.count ? s->steps.block : 0];
    struct put *out;
    switch (s->steps.step) {
    case STEP_BEGIN:
        put_begin(s);
        return PIECE_START;
    case STEP_OPEN:
        put_open(s, b);
        break;
    case STEP_PIECE:
        put_delta(s, b, s->steps.piece);
        break;
    case STEP_CLOSE:
        put_close(s, b);
        break;
    case STEP_FINISH:
        if (!s->pinged)
            put_ping(s);
        out = event_begin(s);
        put_text(out, "{\"type\":\"message_delta\",\"delta\":{");
        put_stop(out, s->speech, s->finish);
        put_text(out, "},\"usage\":");
        put_usage(s->speech, s->tokens + s->speech->answer->hidden_tokens, true, out);
        end_event(s, "message_delta");
        return PIECE_FINISH;
    case STEP_END:
        out = event_begin(s);
        put_text(out, "{\"type\":\"message_stop\"");
        put_invocation_metrics(s, out);
        end_event(s, "message_stop");
        return PIECE_USAGE;
    case STEP_OVER:
        return PIECE_NONE;
    }
    return s->tokens > before ? PIECE_TOKEN : PIECE_START;
}

static void put_token(struct stream *s, struct span text)
{
    static const struct block block = {.kind = SAID_TEXT};
    put_delta(s, &block, text);
}

static void ping(struct stream *s, enum ping_kind kind)
{
    if (kind == PING_PING)
        put_ping(s);
    else
        ping_comment(s, kind);
}

void messages_whole(const struct speech *speech, struct put *out)
{
    const struct answer *a = speech->answer;
    struct steps steps;
    steps_init(&steps, a, false);
    put_message_head(speech, out);
    for (unsigned i = 0; i < steps.count; i++) {
        const struct block *b = &steps.blocks[i];
        put_text(out, i ? "," : "");
        if (b->kind == SAID_CALL) {
            put_call(out, b, b->text);
        } else if (b->kind == SAID_REDACTED) {
            put_redacted(out, speech);
        } else if (b->kind == SAID_THINKING) {
            put_text(out, "{\"type\":\"thinking\",\"thinking\":");
            put_json(out, b->text);
            put_text(out, ",\"signature\":");
            put_signature(out, b, speech);
            put_text(out, "}");
        } else {
            put_text(out, "{\"type\":\"text\",\"text\":");
            put_json(out, b->text);
            put_text(out, "}");
        }
    }
    put_text(out, "],");
    put_stop(out, speech, a->finish);
    put_text(out, ",\"usage\":");
    put_usage(speech, a->completion_tokens + a->hidden_tokens, false, out);
    put_text(out, "}");
}

/* ---- errors ------------------------------------------------------------------- */

static void put_error(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                      const struct style_fault *f)
{
    (void)conf;
    (void)at;
    put_text(out, "{\"type\":\"error\",\"error\":{");
    if (f->code.p) {
        put_text(out, "\"details\":{\"error_code\":");
        put_json(out, f->code);
        put_text(out, "},");
    }
    put_text(out, "\"type\":");
    put_json(out, f->type);
    put_text(out, ",\"message\":");
    put_json(out, f->message);
    put_text(out, "},\"request_id\":");
    put_json(out, f->request_id.p ? f->request_id : SPAN_LIT("req_011simulated"));
    put_text(out, "}");
}

static void stream_error(struct stream *s, const struct style_fault *f, unsigned shape)
{
    struct put *out = event_begin(s);
    put_text(out, "{\"type\":\"error\",\"error\":{\"details\":null,\"type\":");
    put_json(out, f->type);
    put_text(out, ",\"message\":");
    put_json(out, f->message);
    put_text(out, "},\"request_id\":");
    put_json(out, f->request_id.p ? f->request_id : SPAN_LIT("req_011simulated"));
    put_text(out, "}");
    if (shape == FAULT_SHAPE_ERROR + SHAPE_BARE)
        put_span(s->out, buf_span(s->scratch));
    else
        event_end(s, shape == FAULT_SHAPE_ERROR + SHAPE_OBJECT ? "" : "error");
}

static pd_err headers(struct sim_headers *h)
{
    static const struct {
        const char *name;
        unsigned limit;
    } limits[] = {{"requests", 4000}, {"tokens", 2400000}, {"input-tokens", 2000000}, {"output-tokens", 400000}};
    struct span id = h->request_id.p ? h->request_id : make_id(h->mem, h->rnd, "req_011C", 21, false);
    char name[64], reset[32];
    if (!id.p)
        return PD_NOMEM;
    pd_err err = h->add(h->ctx, SPAN_LIT("request-id"), id);
    if (err != PD_OK || h->at->platform != PLATFORM_OWN)
        return err;
    if (h->failed)
        err = header_add(h, "x-should-retry", "%s", h->status == 429 || h->status >= 500 ? "true" : "false");
    time_text(h->now_s, reset);
    for (size_t i = 0; i < 4 && err == PD_OK && h->of; i++) {
        snprintf(name, sizeof(name), "anthropic-ratelimit-%s-limit", limits[i].name);
        err = header_add(h, name, "%u", limits[i].limit);
        snprintf(name, sizeof(name), "anthropic-ratelimit-%s-remaining", limits[i].name);
        if (err == PD_OK)
            err = header_add(h, name, "%u", limits[i].limit - 1);
        snprintf(name, sizeof(name), "anthropic-ratelimit-%s-reset", limits[i].name);
        if (err == PD_OK)
            err = header_add(h, name, "%s", reset);
    }
    return err;
}

static void put_model(struct put *out, struct span id)
{
    put_text(out, "{\"type\":\"model\",\"id\":");
    put_json(out, id);
    put_text(out, ",\"display_name\":");
    put_json(out, id);
    put_text(out, ",\"created_at\":\"2026-01-02T00:00:00Z\"}");
}

static bool models(const struct script_provider *conf, struct span id, struct put *out)
{
    const struct span *at;
    unsigned count = model_names(conf, &at);
    for (unsigned i = 0; id.n && i < count; i++)
        if (span_eq(at[i], id)) {
            put_model(out, id);
            return true;
        }
    if (id.n)
        return false;
    put_text(out, "{\"data\":[");
    for (unsigned i = 0; i < count; i++) {
        put_text(out, i ? "," : "");
        put_model(out, at[i]);
    }
    put_text(out, "],\"has_more\":false,\"first_id\":");
    put_json(out, count ? at[0] : SPAN_LIT(""));
    put_text(out, ",\"last_id\":");
    put_json(out, count ? at[count - 1] : SPAN_LIT(""));
    put_text(out, "}");
    return true;
}

const struct sim_dialect sim_messages = {
    .stream_type = "text/event-stream; charset=utf-8",
    .errors = errors,
    .errors_count = sizeof(errors) / sizeof(errors[0]),
    .finishes = finishes,
    .delta_type = "content_block_delta",
    .read = messages_read,
    .headers = headers,
    .next = messages_next,
    .frame = frame_named,
    .token = put_token,
    .ping = ping,
    .whole = messages_whole,
    .put_error = put_error,
    .stream_error = stream_error,
    .count = count_tokens,
    .models = models,
};
