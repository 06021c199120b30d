/* Bedrock's runtime: Converse and ConverseStream in one shape for all models, InvokeModel in the words of each maker. */
#include "parse/eventstream.h"
#include "simulate/dialect.h"
#include "simulate/sign.h"

#include <ctype.h>
#include <stdio.h>

enum { TOOL_USE_ID_MAX = 64 };

static const struct error_like errors[] = {
    {"bad_request", 400, "ValidationException", NULL,
     "Malformed input request, please reformat your input and try again."},
    {"context_length", 400, "ValidationException", NULL, "Input is too long for requested model."},
    {"content_filter", 400, "ValidationException", NULL, "The request was blocked by a content policy."},
    {"billing", 400, "ServiceQuotaExceededException", NULL, "Your account has exceeded its service quota."},
    {"model_not_found", 400, "ValidationException", NULL, "The provided model identifier is invalid."},
    {"auth", 403, "UnrecognizedClientException", NULL, "The security token included in the request is invalid."},
    {"permission", 403, "AccessDeniedException", NULL,
     "You don't have access to the model with the specified model ID."},
    {"not_found", 404, "ResourceNotFoundException", NULL, "This model version has reached the end of its life."},
    {"timeout", 408, "ModelTimeoutException", NULL,
     "Model has timed out in processing the request. Try your request again."},
    {"too_large", 413, "ValidationException", NULL, "The request body is too large."},
    {"model_error", 424, "ModelErrorException", NULL, "The model failed to process the request."},
    {"rate_limit", 429, "ThrottlingException", NULL, "Too many requests, please wait before trying again."},
    {"tokens", 429, "ThrottlingException", NULL, "Too many tokens, please wait before trying again."},
    {"quota", 429, "ThrottlingException", NULL, "Too many tokens per day, please wait before trying again."},
    {"server_error", 500, "InternalServerException", NULL,
     "The system encountered an unexpected error during processing. Try your request again."},
    {"bad_gateway", 502, "ServiceUnavailableException", NULL, "Bad gateway"},
    {"overloaded", 503, "ServiceUnavailableException", NULL, "Bedrock is unable to process your request."},
    {"unavailable", 503, "ServiceUnavailableException", NULL, "Bedrock is unable to process your request."},
    {"gateway_timeout", 504, "ModelTimeoutException", NULL, "Model has timed out in processing the request."},
};

static const struct finish_word finishes[] = {
    {"stop", "end_turn"},
    {"length", "max_tokens"},
    {"tool_calls", "tool_use"},
    {"content_filter", "content_filtered"},
    {"refusal", "content_filtered"},
    {NULL, NULL},
};

/* ---- reading: blocks ---------------------------------------------------------- */

struct place {
    struct reading *r;
    struct said *m;
    unsigned message, block;
};

static struct span media_type(struct reading *r, const char *kind, struct span format)
{
    static const struct {
        const char *format, *type;
    } documents[] = {
        {"pdf", "application/pdf"},
        {"txt", "text/plain"},
        {"md", "text/markdown"},
        {"csv", "text/csv"},
        {"html", "text/html"},
        {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    };
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        if (span_is(format, documents[i].format))
            return span_str(documents[i].type);
    const char *text = arena_printf(r->mem, "%s/%.*s", kind, SPAN_FMT(span_upto(format, 40)));
    return span_str(text);
}

static pd_err read_media(struct place *at, const char *kind, struct json v)
{
    struct json source = json_get(v, "source");
    struct span format;
    pd_err err = ask_string(at->r, json_get(v, "format"), &format);
    if (err != PD_OK)
        return err;
    if (json_get(source, "s3Location").type == JSON_OBJECT)
        return ask_media_url(at->r, at->m, json_path(source, "s3Location.uri"));
    if (json_get(source, "text").type == JSON_STRING)
        return ask_text(at->r, at->m, SAID_TEXT, json_get(source, "text"));
    struct span type = media_type(at->r, kind, format);
    if (!type.p)
        return PD_NOMEM;
    if (json_get(source, "bytes").type != JSON_STRING)
        return ask_refuse(at->r, "bad_request",
                          "1 validation error detected: Value at 'messages.%u.member.content.%u.member.%s.source' "
                          "failed to satisfy constraint: Member must not be null",
                          at->message + 1, at->block + 1, kind);
    return ask_media(at->r, at->m, type, json_get(source, "bytes"));
}

static pd_err read_id(struct place *at, struct json id, const char *kind, struct span *ret)
{
    pd_err err = ask_string(at->r, id, ret);
    bool fine = ret->n > 0 && ret->n <= TOOL_USE_ID_MAX;
    for (size_t i = 0; i < ret->n && fine; i++)
        fine = isalnum((unsigned char)ret->p[i]) || (ret->p[i] && strchr("_.:-", ret->p[i]));
    if (err != PD_OK || fine)
        return err;
    return ask_refuse(
        at->r, "bad_request",
        "1 validation error detected: Value '%.*s' at "
        "'messages.%u.member.content.%u.member.%s.toolUseId' failed to satisfy constraint: Member must "
        "satisfy regular expression pattern: [a-zA-Z0-9_.:-]+",
        SPAN_FMT(span_upto(*ret, 100)), at->message + 1, at->block + 1, kind);
}

static pd_err read_call(struct place *at, struct json call)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_CALL);
    pd_err err = p ? read_id(at, json_get(call, "toolUseId"), "toolUse", &p->id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(at->r, json_get(call, "name"), &p->name);
    if (err == PD_OK && json_get(call, "input").type != JSON_OBJECT)
        return ask_refuse(
            at->r, "bad_request",
            "The format of the value at messages.%u.content.%u.toolUse.input is invalid. Provide a json "
            "object for the field and try again.",
            at->message, at->block);
    return err;
}

static pd_err read_result(struct place *at, struct json result)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_RESULT);
    struct json content = json_get(result, "content"), block;
    struct json_walk w;
    pd_err err = p ? read_id(at, json_get(result, "toolUseId"), "toolResult", &p->id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_content_text(at->r, content, &p->text);
    json_walk_init(&w, content);
    while (err == PD_OK && json_walk_next(&w, NULL, &block)) {
        struct json value = json_get(block, "json"), image = json_get(block, "image"),
                    document = json_get(block, "document");
        if (value.type != JSON_NONE && !p->text.n)
            p->text = value.raw;
        if (image.type == JSON_OBJECT)
            err = read_media(at, "image", image);
        else if (document.type == JSON_OBJECT)
            err = read_media(at, "document", document);
    }
    return err;
}

static pd_err read_reasoning(struct place *at, struct json v)
{
    struct json text = json_get(v, "reasoningText"), redacted = json_get(v, "redactedContent");
    bool claude = ask_model_is_claude(at->r->ask->model);
    struct said_part *p = ask_part(at->r, at->m, redacted.type == JSON_STRING ? SAID_REDACTED : SAID_THINKING);
    pd_err err = p ? ask_string(at->r, json_get(text, "text"), &p->text) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(at->r, redacted.type == JSON_STRING ? redacted : json_get(text, "signature"),
                         &p->signature);
    if (err != PD_OK || !claude)
        return err;
    if (sign_fits(MAKER_ANTHROPIC, redacted.type == JSON_STRING ? "redacted" : "thinking", p->text, p->signature,
                  at->r->mem))
        return PD_OK;
    return ask_refuse(
        at->r, "bad_request",
        "The model returned the following errors: messages.%u.content.%u: Invalid `%s` in `%s` block", at->message,
        at->block, redacted.type == JSON_STRING ? "data" : "signature",
        redacted.type == JSON_STRING ? "redacted_thinking" : "thinking");
}

static pd_err read_text_block(struct place *at, struct json text)
{
    if (text.raw.n <= 2)
        return ask_refuse(
            at->r, "bad_request",
            "The text field in the ContentBlock object at messages.%u.content.%u is blank. Add text to "
            "the text field, and try again.",
            at->message, at->block);
    return ask_text(at->r, at->m, SAID_TEXT, text);
}

static pd_err read_block(struct place *at, struct json block)
{
    static const struct {
        const char *name;
        pd_err (*read)(struct place *at, struct json v);
    } rows[] = {{"text", read_text_block},
                {"toolUse", read_call},
                {"toolResult", read_result},
                {"reasoningContent", read_reasoning}};
    static const char *const media[] = {"image", "document", "video", "audio"};
    static const char *const others[] = {"cachePoint", "guardContent", "citationsContent", "searchResult"};
    struct json v;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if ((v = json_get(block, rows[i].name)).type != JSON_NONE)
            return rows[i].read(at, v);
    for (size_t i = 0; i < sizeof(media) / sizeof(media[0]); i++)
        if ((v = json_get(block, media[i])).type == JSON_OBJECT)
            return read_media(at, media[i], v);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (json_get(block, others[i]).type != JSON_NONE)
            return ask_part(at->r, at->m, SAID_OTHER) ? PD_OK : PD_NOMEM;
    return ask_refuse(
        at->r, "bad_request",
        "The content field in the Message object at messages.%u is invalid. Add a ContentBlock object to "
        "the content field and try again.",
        at->message);
}

/* ---- reading: messages --------------------------------------------------------- */

static pd_err check_results(struct reading *r, const struct said *m)
{
    const struct said *before = ask_before(r->ask, m);
    unsigned results = ask_count(m, SAID_RESULT), calls = m->role == SAID_USER ? ask_count(before, SAID_CALL) : 0;
    if (results > calls)
        return ask_refuse(
            r, "bad_request",
            "The number of toolResult blocks at messages.%u.content exceeds the number of toolUse blocks "
            "of previous turn.",
            m->index);
    for (const struct said_part *p = m->parts; p; p = p->next)
        if (p->kind == SAID_RESULT && !ask_call_of(before, p->id, SPAN_NONE))
            return ask_refuse(
                r, "bad_request",
                "The toolResult block at messages.%u.content has a toolUseId that no toolUse block of the "
                "previous turn has: %.*s",
                m->index, SPAN_FMT(p->id));
    for (const struct said_part *c = calls ? before->parts : NULL; c; c = c->next) {
        bool answered = c->kind != SAID_CALL;
        for (const struct said_part *p = m->parts; p; p = p->next)
            answered |= p->kind == SAID_RESULT && span_eq(p->id, c->id);
        if (!answered)
            return ask_refuse(r, "bad_request",
                              "Expected toolResult blocks at messages.%u.content for the following Ids: %.*s",
                              m->index, SPAN_FMT(c->id));
    }
    return PD_OK;
}

static pd_err read_message(struct reading *r, struct json message, unsigned number)
{
    struct json role = json_get(message, "role"), block;
    bool assistant = json_is(role, "assistant");
    struct json_walk w;
    if (!assistant && !json_is(role, "user"))
        return ask_refuse(
            r, "bad_request",
            "1 validation error detected: Value '%.*s' at 'messages.%u.member.role' failed to satisfy "
            "constraint: Member must satisfy enum value set: [user, assistant]",
            SPAN_FMT(span_upto(json_inner(role), 40)), number + 1);
    if (!number && assistant)
        return ask_refuse(
            r, "bad_request",
            "A conversation must start with a user message. Try again with a conversation that starts "
            "with a user message.");
    if (number && r->ask->said_last->role == (assistant ? SAID_ASSISTANT : SAID_USER))
        return ask_refuse(
            r, "bad_request",
            "A conversation must alternate between user and assistant roles. Make sure the conversation "
            "alternates between user and assistant roles and try again.");
    struct place at = {r, ask_say(r, assistant ? SAID_ASSISTANT : SAID_USER), number, 0};
    pd_err err = at.m ? PD_OK : PD_NOMEM;
    json_walk_init(&w, json_get(message, "content"));
    for (; err == PD_OK && json_walk_next(&w, NULL, &block); at.block++)
        err = read_block(&at, block);
    if (err == PD_OK && !at.block)
        return ask_refuse(
            r, "bad_request",
            "The content field in the Message object at messages.%u is empty. Add a ContentBlock object "
            "to the content field and try again.",
            number);
    return err == PD_OK ? check_results(r, at.m) : err;
}

static pd_err read_tools(struct reading *r)
{
    struct ask *a = r->ask;
    struct json config = json_get(a->root, "toolConfig"), choice = json_get(config, "toolChoice"), tool;
    struct json_walk w;
    pd_err err = PD_OK;
    json_walk_init(&w, json_get(config, "tools"));
    while (err == PD_OK && json_walk_next(&w, NULL, &tool)) {
        struct json spec = json_get(tool, "toolSpec");
        struct span name;
        if (spec.type != JSON_OBJECT)
            continue;
        err = ask_string(r, json_get(spec, "name"), &name);
        bool fine = name.n > 0 && name.n <= 64;
        for (size_t i = 0; i < name.n && fine; i++)
            fine = isalnum((unsigned char)name.p[i]) || name.p[i] == '_' || name.p[i] == '-';
        if (err == PD_OK && !fine)
            return ask_refuse(
                r, "bad_request",
                "1 validation error detected: Value '%.*s' at 'toolConfig.tools.1.member.toolSpec.name' "
                "failed to satisfy constraint: Member must satisfy regular expression pattern: "
                "[a-zA-Z0-9_-]+",
                SPAN_FMT(span_upto(name, 100)));
        if (err == PD_OK)
            err = ask_tool(r, name, json_path(spec, "inputSchema.json"));
    }
    if (err != PD_OK)
        return err;
    a->choice = json_get(choice, "any").type == JSON_OBJECT    ? CHOOSE_ANY
                : json_get(choice, "tool").type == JSON_OBJECT ? CHOOSE_NAMED
                                                               : CHOOSE_AUTO;
    if (choice.type == JSON_OBJECT && a->choice == CHOOSE_AUTO && json_get(choice, "auto").type != JSON_OBJECT)
        return ask_refuse(r, "bad_request",
                          "The toolChoice field is invalid. Set it to auto, any or tool, and try again.");
    for (const struct said *m = a->said; m && config.type != JSON_OBJECT; m = m->next)
        if (ask_count(m, SAID_CALL) || ask_count(m, SAID_RESULT))
            return ask_refuse(
                r, "bad_request",
                "The toolConfig field must be defined when using toolUse and toolResult content blocks.");
    return ask_string(r, json_path(choice, "tool.name"), &a->choice_name);
}

/* outputConfig.textFormat: the schema is a JSON text in a string. */
static pd_err read_format(struct reading *r)
{
    struct json format = json_path(r->ask->root, "outputConfig.textFormat"),
                schema = json_path(format, "structure.jsonSchema.schema");
    struct span text;
    r->ask->json_wanted = json_is(json_get(format, "type"), "json_schema");
    if (schema.type != JSON_STRING) {
        r->ask->schema = schema;
        return PD_OK;
    }
    pd_err err = ask_string(r, schema, &text);
    if (err == PD_OK && (json_check(text) != PD_OK || json_first(text, &r->ask->schema, NULL) != PD_OK))
        return ask_refuse(r, "bad_request",
                          "The schema at outputConfig.textFormat.structure.jsonSchema is no JSON.");
    return err;
}

static pd_err read_messages(struct reading *r)
{
    struct ask *a = r->ask;
    struct json messages = json_get(a->root, "messages"), m;
    struct json_walk w;
    unsigned count = 0;
    pd_err err = PD_OK;
    a->prompt_tokens = messages.raw.n / 4 + 1;
    (void)json_i64(json_path(a->root, "inferenceConfig.maxTokens"), &a->max_tokens);
    a->stops = json_path(a->root, "inferenceConfig.stopSequences");
    json_walk_init(&w, messages);
    while (err == PD_OK && messages.type == JSON_ARRAY && json_walk_next(&w, NULL, &m))
        err = read_message(r, m, count++);
    if (err == PD_OK && !count)
        return ask_refuse(
            r, "bad_request",
            "1 validation error detected: Value at 'messages' failed to satisfy constraint: Member must "
            "have length greater than or equal to 1");
    if (err == PD_OK)
        err = read_tools(r);
    if (err == PD_OK)
        err = read_format(r);
    return err;
}

static pd_err check_claude(struct reading *r)
{
    struct ask *a = r->ask;
    struct json thinking = json_path(a->root, "additionalModelRequestFields.thinking");
    if (!ask_model_is_claude(a->model))
        return PD_OK;
    a->thinks = json_is(json_get(thinking, "type"), "enabled") || json_is(json_get(thinking, "type"), "adaptive");
    a->thinks_never = !a->thinks;
    if (a->said_last->role != SAID_ASSISTANT || !ask_model_refuses_prefill(a->model))
        return PD_OK;
    return ask_refuse(
        r, "bad_request",
        "The model returned the following errors: This model does not support assistant message prefill. "
        "The conversation must end with a user message.");
}

static pd_err converse_read(struct reading *r)
{
    static const char *const fields[] = {
        "messages",        "system",          "inferenceConfig",   "toolConfig",
        "guardrailConfig", "requestMetadata", "performanceConfig", "additionalModelRequestFields",
        "promptVariables", "serviceTier",     "outputConfig",      "additionalModelResponseFieldPaths",
    };
    struct json_walk w;
    struct json v;
    struct span key;
    json_walk_init(&w, r->ask->root);
    while (json_walk_next(&w, &key, &v)) {
        bool known = false;
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
            known |= json_key_is(key, fields[i]);
        if (!known)
            return ask_refuse(
                r, "bad_request",
                "Malformed input request: #: extraneous key [%.*s] is not permitted, please reformat your "
                "input and try again.",
                SPAN_FMT(span_upto(key, 80)));
    }
    pd_err err = ask_path_model(r);
    if (err == PD_OK)
        err = read_messages(r);
    return err == PD_OK ? check_claude(r) : err;
}

/* ---- writing: Converse ----------------------------------------------------------- */

static void put_usage(const struct answer *a, uint64_t tokens, struct put *out)
{
    unsigned long long said = tokens, hidden = a->hidden_tokens, asked = a->prompt_tokens;
    put_printf(out, "{\"inputTokens\":%llu,\"outputTokens\":%llu,\"totalTokens\":%llu}", asked, said + hidden,
               asked + said + hidden);
}

/* Most payloads are padded to a random length. */
static void end_event(struct stream *s, const char *type)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    put_text(&s->json, ",\"p\":\"");
    put_span(&s->json, span_of(letters, 1 + rnd_below(s->speech->rnd, sizeof(letters) - 1)));
    put_text(&s->json, "\"}");
    s->events++;
    event_end(s, type);
}

static void put_redacted(struct put *out, const struct speech *speech)
{
    put_text(out, "{\"redactedContent\":\"");
    sign_put(out, MAKER_ANTHROPIC, "redacted", SPAN_NONE, speech->id);
    put_text(out, "\"}");
}

static void put_signature(struct put *out, const struct block *b, const struct speech *speech)
{
    put_text(out, "\"signature\":\"");
    sign_put(out, MAKER_ANTHROPIC, "thinking", b->text, speech->id);
    put_text(out, "\"");
}

static void put_delta(struct stream *s, const struct block *b, struct span text)
{
    struct put *out = event_begin(s);
    put_printf(out, "{\"contentBlockIndex\":%u,\"delta\":{%s", s->steps.block,
               b->kind == SAID_CALL       ? "\"toolUse\":{\"input\":"
               : b->kind == SAID_THINKING ? "\"reasoningContent\":{\"text\":"
                                          : "\"text\":");
    put_json(out, text);
    put_text(out, b->kind == SAID_TEXT ? "}" : "}}");
    end_event(s, "contentBlockDelta");
}

/* Only tool blocks are announced; text and reasoning begin with their first delta. */
static void put_open(struct stream *s, const struct block *b)
{
    struct put *out;
    if (b->kind == SAID_CALL) {
        out = event_begin(s);
        put_printf(out, "{\"contentBlockIndex\":%u,\"start\":{\"toolUse\":{\"name\":", s->steps.block);
        put_json(out, b->call->name);
        put_text(out, ",\"toolUseId\":");
        put_json(out, b->call->id);
        put_text(out, "}}");
        end_event(s, "contentBlockStart");
    } else if (b->kind == SAID_REDACTED) {
        out = event_begin(s);
        put_printf(out, "{\"contentBlockIndex\":%u,\"delta\":{\"reasoningContent\":", s->steps.block);
        put_redacted(out, s->speech);
        put_text(out, "}");
        end_event(s, "contentBlockDelta");
    } else if (!b->text.n && b->kind == SAID_TEXT) {
        put_delta(s, b, SPAN_LIT(""));
    }
}

static void put_close(struct stream *s, const struct block *b)
{
    struct put *out;
    if (b->kind == SAID_THINKING && ask_model_is_claude(s->speech->rq->model)) {
        out = event_begin(s);
        put_printf(out, "{\"contentBlockIndex\":%u,\"delta\":{\"reasoningContent\":{", s->steps.block);
        put_signature(out, b, s->speech);
        put_text(out, "}}");
        end_event(s, "contentBlockDelta");
    }
    put_printf(event_begin(s), "{\"contentBlockIndex\":%u", s->steps.block);
    end_event(s, "contentBlockStop");
}

static void put_metadata(struct stream *s)
{
    struct put *out = event_begin(s);
    put_text(out, "{\"metrics\":{\"latencyMs\":120},\"usage\":");
    put_usage(s->speech->answer, s->tokens, out);
    end_event(s, "metadata");
}

static enum stream_piece converse_next(struct stream *s)
{
    uint64_t before = s->tokens;
    steps_next(&s->steps, false, &s->tokens);
    const struct block *b = &s->steps.blocks[s->steps.block < s->steps.count ? s->steps.block : 0];
    switch (s->steps.step) {
    case STEP_BEGIN:
        put_text(event_begin(s), "{\"role\":\"assistant\"");
        end_event(s, "messageStart");
        break;
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
        put_printf(event_begin(s), "{\"stopReason\":\"%s\"", dialect_finish(&sim_converse, s->finish));
        end_event(s, "messageStop");
        return PIECE_FINISH;
    case STEP_END:
        put_metadata(s);
        return PIECE_USAGE;
    case STEP_OVER:
        return PIECE_NONE;
    }
    return s->tokens > before ? PIECE_TOKEN : PIECE_START;
}

static void put_frame(struct stream *s, const char *kind, struct span type, struct span json)
{
    if (s->out->err == PD_OK)
        s->out->err = eventstream_put(s->out->b, kind, type, SPAN_LIT("application/json"), json);
}

static void frame(struct stream *s, struct span type, struct span json)
{
    put_frame(s, "event", type, json);
}

static void token(struct stream *s, struct span text)
{
    static const struct block block = {.kind = SAID_TEXT};
    put_delta(s, &block, text);
}

/* Bedrock sends no signs of life: an event that no reader knows comes nearest. */
static void ping(struct stream *s, enum ping_kind kind)
{
    (void)kind;
    put_frame(s, "event", SPAN_LIT("ping"), SPAN_LIT("{}"));
}

static void put_block(struct put *out, const struct speech *speech, const struct block *b)
{
    switch (b->kind) {
    case SAID_CALL:
        put_text(out, "{\"toolUse\":{\"toolUseId\":");
        put_json(out, b->call->id);
        put_text(out, ",\"name\":");
        put_json(out, b->call->name);
        put_text(out, ",\"input\":");
        put_span(out, json_check(b->text) == PD_OK ? b->text : SPAN_LIT("{}"));
        put_text(out, "}}");
        return;
    case SAID_THINKING:
        put_text(out, "{\"reasoningContent\":{\"reasoningText\":{\"text\":");
        put_json(out, b->text);
        if (ask_model_is_claude(speech->rq->model)) {
            put_text(out, ",");
            put_signature(out, b, speech);
        }
        put_text(out, "}}}");
        return;
    case SAID_REDACTED:
        put_text(out, "{\"reasoningContent\":");
        put_redacted(out, speech);
        put_text(out, "}");
        return;
    case SAID_TEXT:
    case SAID_MEDIA:
    case SAID_RESULT:
    case SAID_OTHER:
        put_text(out, "{\"text\":");
        put_json(out, b->text);
        put_text(out, "}");
        return;
    }
}

static void converse_whole(const struct speech *speech, struct put *out)
{
    const struct answer *a = speech->answer;
    struct steps steps;
    steps_init(&steps, a, true);
    put_text(out, "{\"metrics\":{\"latencyMs\":120},\"output\":{\"message\":{\"content\":[");
    for (unsigned i = 0; i < steps.count; i++) {
        put_text(out, i ? "," : "");
        put_block(out, speech, &steps.blocks[i]);
    }
    put_printf(out, "],\"role\":\"assistant\"}},\"stopReason\":\"%s\",\"usage\":",
               dialect_finish(&sim_converse, a->finish));
    put_usage(a, a->completion_tokens, out);
    put_text(out, "}");
}

/* ---- errors ---------------------------------------------------------------------- */

static void put_error(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                      const struct style_fault *f)
{
    (void)conf;
    (void)at;
    put_text(out, "{\"message\":");
    put_json(out, f->message);
    put_text(out, "}");
}

/* An exception frame; its name is that of the error, in lower camel case. */
static void stream_error(struct stream *s, const struct style_fault *f, unsigned shape)
{
    char name[64];
    snprintf(name, sizeof(name), "%.*s", SPAN_FMT(span_upto(f->type, sizeof(name) - 1)));
    name[0] = (char)tolower((unsigned char)name[0]);
    struct put *out = event_begin(s);
    put_text(out, "{\"message\":");
    put_json(out, f->message);
    put_text(out, "}");
    if (shape == FAULT_SHAPE_ERROR + SHAPE_BARE)
        put_span(s->out, buf_span(s->scratch));
    else
        put_frame(s, "exception", span_str(name), buf_span(s->scratch));
}

static pd_err headers(struct sim_headers *h)
{
    char id[40];
    uint64_t a = rnd_next(h->rnd), b = rnd_next(h->rnd);
    snprintf(id, sizeof(id), "%08x-%04x-4%03x-a%03x-%012llx", (unsigned)(a >> 32), (unsigned)(a >> 16 & 0xffff),
             (unsigned)(a & 0xfff), (unsigned)(b >> 52), (unsigned long long)(b & 0xffffffffffffu));
    pd_err err = header_add(h, "x-amzn-requestid", "%s", id);
    if (err == PD_OK && h->failed)
        err = header_add(h, "x-amzn-errortype", "%.*s:http://internal.amazon.com/coral/com.amazon.bedrock/",
                         SPAN_FMT(span_upto(h->error_type, 80)));
    if (err != PD_OK || !h->of || h->at->dialect != SIM_INVOKE)
        return err;
    if (h->streamed)
        return header_add(h, "x-amzn-bedrock-content-type", "application/json");
    err = header_add(h, "x-amzn-bedrock-input-token-count", "%llu",
                     (unsigned long long)h->of->answer->prompt_tokens);
    unsigned long long said = h->of->answer->completion_tokens, hidden = h->of->answer->hidden_tokens;
    if (err == PD_OK)
        err = header_add(h, "x-amzn-bedrock-output-token-count", "%llu", said + hidden);
    return err == PD_OK ? header_add(h, "x-amzn-bedrock-invocation-latency", "%u", 120u) : err;
}

const struct sim_dialect sim_converse = {
    .stream_type = EVENTSTREAM_TYPE,
    .errors = errors,
    .errors_count = sizeof(errors) / sizeof(errors[0]),
    .finishes = finishes,
    .delta_type = "contentBlockDelta",
    .read = converse_read,
    .headers = headers,
    .next = converse_next,
    .frame = frame,
    .token = token,
    .ping = ping,
    .whole = converse_whole,
    .put_error = put_error,
    .stream_error = stream_error,
};

/* ---- InvokeModel: whose words? ------------------------------------------------------ */

enum family { FAMILY_NONE, FAMILY_ANTHROPIC, FAMILY_NOVA, FAMILY_TITAN };

static enum family family_of(struct span model)
{
    if (ask_model_is_claude(model))
        return FAMILY_ANTHROPIC;
    return span_ihas(model, "nova") ? FAMILY_NOVA : span_ihas(model, "titan") ? FAMILY_TITAN : FAMILY_NONE;
}

static pd_err titan_read(struct reading *r)
{
    struct ask *a = r->ask;
    struct json text = json_get(a->root, "inputText");
    if (text.type != JSON_STRING)
        return ask_refuse(
            r, "bad_request",
            "Malformed input request: #: required key [inputText] not found, please reformat your input "
            "and try again.");
    (void)json_i64(json_path(a->root, "textGenerationConfig.maxTokenCount"), &a->max_tokens);
    a->stops = json_path(a->root, "textGenerationConfig.stopSequences");
    struct said *m = ask_say(r, SAID_USER);
    return m ? ask_text(r, m, SAID_TEXT, text) : PD_NOMEM;
}

static pd_err invoke_read(struct reading *r)
{
    pd_err err = ask_path_model(r);
    if (err != PD_OK)
        return err;
    switch (family_of(r->ask->model)) {
    case FAMILY_ANTHROPIC:
        return messages_read(r);
    case FAMILY_NOVA:
        return read_messages(r);
    case FAMILY_TITAN:
        return titan_read(r);
    case FAMILY_NONE:
        break;
    }
    return ask_refuse(
        r, "bad_request",
        "The provided model identifier is invalid. InvokeModel is simulated for Anthropic, Nova and Titan.");
}

/* Nova's chunks are Converse's events, each inside an object that has its name. */
static void frame_chunk(struct stream *s, struct span type, struct span json)
{
    struct buf inner, outer;
    buf_init(&inner, 0);
    buf_init(&outer, 0);
    struct put in = put_into(&inner), out = put_into(&outer);
    bool nova = family_of(s->speech->rq->model) == FAMILY_NOVA && s->speech->rq->at.op == OP_GENERATE;
    if (nova) {
        put_text(&in, "{\"");
        put_span(&in, type);
        put_text(&in, "\":");
    }
    put_span(&in, json);
    put_text(&in, nova ? "}" : "");
    put_text(&out, "{\"bytes\":\"");
    base64_put(&out, buf_span(&inner));
    put_text(&out, "\"}");
    if (in.err == PD_OK && out.err == PD_OK)
        put_frame(s, "event", SPAN_LIT("chunk"), buf_span(&outer));
    else if (s->out->err == PD_OK)
        s->out->err = in.err != PD_OK ? in.err : out.err;
    buf_done(&inner);
    buf_done(&outer);
}

static void put_titan(struct stream *s, struct span text, bool last)
{
    struct put *out = event_begin(s);
    put_text(out, "{\"outputText\":");
    put_json(out, text);
    put_printf(out, ",\"index\":0,\"inputTextTokenCount\":%llu",
               (unsigned long long)s->speech->answer->prompt_tokens);
    if (last)
        put_printf(out,
                   ",\"totalOutputTextTokenCount\":%llu,\"completionReason\":\"%s\","
                   "\"amazon-bedrock-invocationMetrics\":{\"inputTokenCount\":%llu,\"outputTokenCount\":%llu}",
                   (unsigned long long)s->tokens, strcmp(s->finish, "length") == 0 ? "LENGTH" : "FINISH",
                   (unsigned long long)s->speech->answer->prompt_tokens, (unsigned long long)s->tokens);
    put_text(out, "}");
    s->events++;
    event_end(s, "chunk");
}

static enum stream_piece titan_next(struct stream *s)
{
    steps_next(&s->steps, false, &s->tokens);
    switch (s->steps.step) {
    case STEP_PIECE:
        put_titan(s, s->steps.piece, false);
        return PIECE_TOKEN;
    case STEP_FINISH:
        put_titan(s, SPAN_LIT(""), true);
        return PIECE_FINISH;
    case STEP_BEGIN:
    case STEP_OPEN:
    case STEP_CLOSE:
    case STEP_END:
        return PIECE_START;
    case STEP_OVER:
        break;
    }
    return PIECE_NONE;
}

static enum stream_piece invoke_next(struct stream *s)
{
    switch (family_of(s->speech->rq->model)) {
    case FAMILY_NOVA:
        return converse_next(s);
    case FAMILY_TITAN:
        return titan_next(s);
    case FAMILY_ANTHROPIC:
    case FAMILY_NONE:
        break;
    }
    return messages_next(s);
}

static void invoke_token(struct stream *s, struct span text)
{
    switch (family_of(s->speech->rq->model)) {
    case FAMILY_NOVA:
        token(s, text);
        return;
    case FAMILY_TITAN:
        put_titan(s, text, false);
        return;
    case FAMILY_ANTHROPIC:
    case FAMILY_NONE:
        sim_messages.token(s, text);
        return;
    }
}

static void invoke_ping(struct stream *s, enum ping_kind kind)
{
    if (family_of(s->speech->rq->model) == FAMILY_ANTHROPIC)
        frame_chunk(s, SPAN_NONE, SPAN_LIT("{\"type\":\"ping\"}"));
    else
        ping(s, kind);
}

static void invoke_whole(const struct speech *speech, struct put *out)
{
    const struct answer *a = speech->answer;
    switch (family_of(speech->rq->model)) {
    case FAMILY_NOVA:
        converse_whole(speech, out);
        return;
    case FAMILY_TITAN:
        put_printf(out, "{\"inputTextTokenCount\":%llu,\"results\":[{\"tokenCount\":%llu,\"outputText\":",
                   (unsigned long long)a->prompt_tokens, (unsigned long long)a->completion_tokens);
        put_json(out, a->texts[0]);
        put_printf(out, ",\"completionReason\":\"%s\"}]}", strcmp(a->finish, "length") == 0 ? "LENGTH" : "FINISH");
        return;
    case FAMILY_ANTHROPIC:
    case FAMILY_NONE:
        messages_whole(speech, out);
        return;
    }
}

/* Titan's and Cohere's embeddings come through InvokeModel too. */
static pd_err invoke_embed(struct reading *r, const struct endpoint *at, uint64_t seed, struct put *out)
{
    struct json root, texts, text;
    struct json_walk w;
    int64_t dimensions = 0;
    bool first = true;
    (void)at;
    if (json_check(r->body) != PD_OK || json_first(r->body, &root, NULL) != PD_OK)
        return ask_refuse(r, "bad_request", "Malformed input request, please reformat your input and try again.");
    text = json_get(root, "inputText");
    texts = json_get(root, "texts");
    (void)json_i64(json_get(root, "dimensions"), &dimensions);
    if (text.type == JSON_STRING) {
        put_text(out, "{\"embedding\":");
        pd_err err = put_embedding(out, r, seed, text.raw, dimensions);
        put_printf(out, ",\"inputTextTokenCount\":%zu}", text.raw.n / 4 + 1);
        return err;
    }
    if (texts.type != JSON_ARRAY)
        return ask_refuse(
            r, "bad_request",
            "Malformed input request: #: required key [inputText] not found, please reformat your input "
            "and try again.");
    put_text(out, "{\"embeddings\":[");
    json_walk_init(&w, texts);
    while (json_walk_next(&w, NULL, &text)) {
        put_text(out, first ? "" : ",");
        first = false;
        pd_err err = put_embedding(out, r, seed, text.raw, dimensions);
        if (err != PD_OK)
            return err;
    }
    put_text(out, "],\"id\":\"embed-simulated\",\"response_type\":\"embeddings_floats\",\"texts\":");
    put_span(out, texts.raw);
    put_text(out, "}");
    return out->err;
}

const struct sim_dialect sim_invoke = {
    .stream_type = EVENTSTREAM_TYPE,
    .errors = errors,
    .errors_count = sizeof(errors) / sizeof(errors[0]),
    .finishes = finishes,
    .delta_type = "chunk",
    .read = invoke_read,
    .headers = headers,
    .next = invoke_next,
    .frame = frame_chunk,
    .token = invoke_token,
    .ping = invoke_ping,
    .whole = invoke_whole,
    .put_error = put_error,
    .stream_error = stream_error,
    .embed = invoke_embed,
};
