/* Gemini's generateContent and its siblings: the Gemini API under /v1beta and /v1, and Vertex AI. */
#include "simulate/dialect.h"
#include "simulate/sign.h"

#include <stdio.h>

static const struct error_like errors[] = {
    {"bad_request", 400, "INVALID_ARGUMENT", NULL, "Request contains an invalid argument."},
    {"context_length", 400, "INVALID_ARGUMENT", NULL,
     "The input token count (9001) exceeds the maximum number of tokens allowed (8192)."},
    {"content_filter", 400, "INVALID_ARGUMENT", NULL, "The request was blocked."},
    {"auth", 400, "INVALID_ARGUMENT", "API_KEY_INVALID", "API key not valid. Please pass a valid API key."},
    {"auth_401", 401, "UNAUTHENTICATED", NULL,
     "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
     "authentication credential."},
    {"billing", 402, "RESOURCE_EXHAUSTED", NULL, "Your prepaid credits are used up."},
    {"permission", 403, "PERMISSION_DENIED", NULL, "The caller does not have permission"},
    {"model_not_found", 404, "NOT_FOUND", NULL,
     "models/unknown is not found for API version v1beta, or is not supported for generateContent. Call "
     "ListModels to "
     "see the list of available models and their supported methods."},
    {"timeout", 408, "DEADLINE_EXCEEDED", NULL, "Deadline expired before operation could complete."},
    {"too_large", 413, "INVALID_ARGUMENT", NULL, "Request payload size exceeds the limit: 20971520 bytes."},
    {"rate_limit", 429, "RESOURCE_EXHAUSTED", "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
     "You exceeded your current quota, please check your plan and billing details. Please retry in 1.5s."},
    {"tokens", 429, "RESOURCE_EXHAUSTED", "GenerateContentInputTokensPerModelPerMinute-FreeTier",
     "You exceeded your current quota, please check your plan and billing details. Please retry in 1.5s."},
    {"quota", 429, "RESOURCE_EXHAUSTED", "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
     "You exceeded your current quota, please check your plan and billing details. Please retry in 1.5s."},
    {"cancelled", 499, "CANCELLED", NULL, "The operation was cancelled."},
    {"server_error", 500, "INTERNAL", NULL, "An internal error has occurred. Please retry."},
    {"bad_gateway", 502, "UNAVAILABLE", NULL, "Bad gateway"},
    {"overloaded", 503, "UNAVAILABLE", NULL, "The model is overloaded. Please try again later."},
    {"unavailable", 503, "UNAVAILABLE", NULL, "The service is currently unavailable."},
    {"gateway_timeout", 504, "DEADLINE_EXCEEDED", NULL, "Deadline expired before operation could complete."},
};

static const struct finish_word finishes[] = {
    {"stop", "STOP"},      {"length", "MAX_TOKENS"},  {"tool_calls", "STOP"}, {"content_filter", "SAFETY"},
    {"refusal", "SAFETY"}, {"stop_sequence", "STOP"}, {NULL, NULL},
};

/* What the documentation gives for calls that another model made. */
static const char any_signature[] = "skip_thought_signature_validator";

/* ---- reading --------------------------------------------------------------- */

/* Google takes both spellings of a name: camelCase and snake_case. */
static struct json either(struct json v, const char *camel, const char *snake)
{
    struct json found = json_get(v, camel);
    return found.type != JSON_NONE ? found : json_get(v, snake);
}

struct place {
    struct reading *r;
    struct said *m;
    unsigned content, part;
};

static bool signature_fits(struct reading *r, const char *what, struct span text, struct span signature)
{
    return span_is(signature, any_signature) || sign_fits(MAKER_GOOGLE, what, text, signature, r->mem);
}

static pd_err read_signature(struct place *at, struct json part, struct span *ret)
{
    struct json signature = either(part, "thoughtSignature", "thought_signature");
    *ret = SPAN_NONE;
    return signature.type == JSON_STRING ? ask_string(at->r, signature, ret) : PD_OK;
}

static pd_err read_call(struct place *at, struct json part, struct json call)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_CALL);
    struct json args = json_get(call, "args");
    pd_err err = p ? ask_string(at->r, json_get(call, "name"), &p->name) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(at->r, json_get(call, "id"), &p->id);
    if (err == PD_OK)
        err = read_signature(at, part, &p->signature);
    if (err != PD_OK)
        return err;
    if (!p->name.n)
        return ask_refuse(
            at->r, "bad_request",
            "* GenerateContentRequest.contents[%u].parts[%u].function_call.name: Name cannot be empty.",
            at->content, at->part);
    if (args.type != JSON_NONE && args.type != JSON_OBJECT)
        return ask_refuse(at->r, "bad_request",
                          "Invalid value at 'contents[%u].parts[%u].function_call.args' "
                          "(type.googleapis.com/google.protobuf.Struct), %.*s",
                          at->content, at->part, SPAN_FMT(span_upto(args.raw, 60)));
    if (p->signature.n && !signature_fits(at->r, "call", p->name, p->signature))
        return ask_refuse(at->r, "bad_request", "Corrupted thought signature.");
    return PD_OK;
}

/* What a result says: its one member, if it is a text, else its JSON. */
static pd_err result_text(struct reading *r, struct json response, struct span *ret)
{
    static const char *const names[] = {"result", "output", "content", "error"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct json v = json_get(response, names[i]);
        if (v.type == JSON_STRING)
            return ask_string(r, v, ret);
    }
    *ret = response.raw;
    return PD_OK;
}

static pd_err read_response(struct place *at, struct json given)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_RESULT);
    struct json response = json_get(given, "response"), part;
    struct json_walk w;
    pd_err err = p ? ask_string(at->r, json_get(given, "name"), &p->name) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(at->r, json_get(given, "id"), &p->id);
    if (err != PD_OK)
        return err;
    if (response.type != JSON_OBJECT)
        return ask_refuse(at->r, "bad_request",
                          "Invalid value at 'contents[%u].parts[%u].function_response.response' "
                          "(type.googleapis.com/google.protobuf.Struct), %.*s",
                          at->content, at->part, SPAN_FMT(span_upto(response.raw, 60)));
    err = result_text(at->r, response, &p->text);
    json_walk_init(&w, json_get(given, "parts")); /* Gemini 3: images of a result */
    while (err == PD_OK && json_walk_next(&w, NULL, &part)) {
        struct json data = either(part, "inlineData", "inline_data");
        struct span type;
        err = ask_string(at->r, either(data, "mimeType", "mime_type"), &type);
        if (err == PD_OK && data.type == JSON_OBJECT)
            err = ask_media(at->r, at->m, type, json_get(data, "data"));
    }
    return err;
}

static pd_err read_inline(struct place *at, struct json data)
{
    struct span type;
    pd_err err = ask_string(at->r, either(data, "mimeType", "mime_type"), &type);
    if (err == PD_OK && !type.n)
        return ask_refuse(at->r, "bad_request", "Unable to submit request because it must have a mimeType.");
    return err == PD_OK ? ask_media(at->r, at->m, type, json_get(data, "data")) : err;
}

static pd_err read_part(struct place *at, struct json part)
{
    struct json call = either(part, "functionCall", "function_call"),
                response = either(part, "functionResponse", "function_response"),
                data = either(part, "inlineData", "inline_data"), file = either(part, "fileData", "file_data");
    struct span signature;
    if (call.type == JSON_OBJECT)
        return read_call(at, part, call);
    if (response.type == JSON_OBJECT)
        return read_response(at, response);
    if (data.type == JSON_OBJECT)
        return read_inline(at, data);
    if (file.type == JSON_OBJECT)
        return ask_media_url(at->r, at->m, either(file, "fileUri", "file_uri"));
    pd_err err = read_signature(at, part, &signature);
    if (err == PD_OK && signature.n && !signature_fits(at->r, "text", SPAN_NONE, signature))
        return ask_refuse(at->r, "bad_request", "Corrupted thought signature.");
    if (err != PD_OK)
        return err;
    bool thought = json_is_true(json_get(part, "thought"));
    if (json_get(part, "text").type == JSON_STRING)
        return ask_text(at->r, at->m, thought ? SAID_THINKING : SAID_TEXT, json_get(part, "text"));
    if (either(part, "executableCode", "executable_code").type == JSON_OBJECT ||
        either(part, "codeExecutionResult", "code_execution_result").type == JSON_OBJECT || signature.n)
        return ask_part(at->r, at->m, SAID_OTHER) ? PD_OK : PD_NOMEM;
    return ask_refuse(
        at->r, "bad_request",
        "* GenerateContentRequest.contents[%u].parts[%u].data: required oneof field 'data' must have one "
        "initialized field",
        at->content, at->part);
}

/* As many results as calls, each for a call that was made. */
static pd_err check_results(struct reading *r, const struct said *m)
{
    const struct said *before = ask_before(r->ask, m);
    unsigned results = ask_count(m, SAID_RESULT), calls = ask_count(before, SAID_CALL);
    if (!results)
        return PD_OK;
    if (!before || before->role != SAID_ASSISTANT || !calls)
        return ask_refuse(
            r, "bad_request",
            "Please ensure that function response turn comes immediately after a function call turn.");
    bool known = true;
    for (const struct said_part *p = m->parts; p; p = p->next)
        if (p->kind == SAID_RESULT)
            known &= ask_call_of(before, SPAN_NONE, p->name) != NULL &&
                     (!p->id.n || ask_call_of(before, p->id, SPAN_NONE) != NULL);
    if (results != calls || !known)
        return ask_refuse(
            r, "bad_request",
            "Please ensure that the number of function response parts is equal to the number of function "
            "call parts of the function call turn.");
    return PD_OK;
}

static pd_err read_content(struct reading *r, struct json content, unsigned number)
{
    struct json role = json_get(content, "role"), parts = json_get(content, "parts"), part;
    bool model = json_is(role, "model");
    struct json_walk w;
    if (role.type == JSON_STRING && !model && !json_is(role, "user") && !json_is(role, "function"))
        return ask_refuse(r, "bad_request", "Please use a valid role: user, model.");
    struct said *last = r->ask->said_last; /* the SDKs send a stream back as it came, a content for each piece */
    bool more = model && last && last->role == SAID_ASSISTANT;
    struct place at = {r, more ? last : ask_say(r, model ? SAID_ASSISTANT : SAID_USER), number, 0};
    if (!at.m)
        return PD_NOMEM;
    pd_err err = PD_OK;
    if (parts.type == JSON_OBJECT)
        err = read_part(&at, parts);
    json_walk_init(&w, parts);
    for (; err == PD_OK && parts.type == JSON_ARRAY && json_walk_next(&w, NULL, &part); at.part++)
        err = read_part(&at, part);
    if (err == PD_OK && !at.m->parts)
        return ask_refuse(r, "bad_request",
                          "* GenerateContentRequest.contents[%u].parts: contents.parts must not be empty.",
                          number);
    return err == PD_OK ? check_results(r, at.m) : err;
}

/* Gemini 3: each step of the current turn that called tools is to be signed, at its first call. */
static pd_err check_signatures(struct reading *r)
{
    const struct said *turn = r->ask->said;
    if (!span_ihas(r->ask->model, "gemini-3"))
        return PD_OK;
    for (const struct said *m = r->ask->said; m; m = m->next)
        if (m->role == SAID_USER && !ask_count(m, SAID_RESULT))
            turn = m;
    for (const struct said *m = turn; m; m = m->next)
        for (const struct said_part *p = m->parts; p; p = p->next) {
            if (p->kind != SAID_CALL)
                continue;
            if (!p->signature.n)
                return ask_refuse(r, "bad_request",
                                  "Function call is missing a thought_signature in functionCall parts. This is "
                                  "required for tools to "
                                  "work correctly, and missing thought_signature may lead to degraded model "
                                  "performance. Additional "
                                  "data, function call `default_api:%.*s`, position %u. Please refer to "
                                  "https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
                                  SPAN_FMT(span_upto(p->name, 60)), m->index + 1);
            break; /* only the first of parallel calls has one */
        }
    return PD_OK;
}

static pd_err read_tools(struct reading *r)
{
    struct json_walk w, inner;
    struct json tool, function;
    pd_err err = PD_OK;
    json_walk_init(&w, json_get(r->ask->root, "tools"));
    while (err == PD_OK && json_walk_next(&w, NULL, &tool)) {
        json_walk_init(&inner, either(tool, "functionDeclarations", "function_declarations"));
        while (err == PD_OK && json_walk_next(&inner, NULL, &function)) {
            struct span name;
            struct json schema = either(function, "parametersJsonSchema", "parameters_json_schema");
            err = ask_string(r, json_get(function, "name"), &name);
            if (err == PD_OK && !name.n)
                return ask_refuse(
                    r, "bad_request",
                    "* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid function "
                    "name. Must start with a letter or an underscore.");
            if (err == PD_OK)
                err = ask_tool(r, name, schema.type == JSON_OBJECT ? schema : json_get(function, "parameters"));
        }
    }
    return err;
}

static pd_err read_config(struct reading *r)
{
    struct ask *a = r->ask;
    struct json config = either(a->root, "generationConfig", "generation_config"),
                thinking = either(config, "thinkingConfig", "thinking_config"),
                calling = either(either(a->root, "toolConfig", "tool_config"), "functionCallingConfig",
                                 "function_calling_config"),
                mode = json_get(calling, "mode"), schema = either(config, "responseSchema", "response_schema"),
                only;
    int64_t budget = -1;
    (void)json_i64(either(config, "maxOutputTokens", "max_output_tokens"), &a->max_tokens);
    a->stops = either(config, "stopSequences", "stop_sequences");
    a->json_wanted = json_is(either(config, "responseMimeType", "response_mime_type"), "application/json");
    if (schema.type != JSON_OBJECT)
        schema = either(config, "responseJsonSchema", "response_json_schema");
    a->schema = schema;
    if (schema.type == JSON_OBJECT && !a->json_wanted)
        return ask_refuse(
            r, "bad_request",
            "* GenerateContentRequest.generation_config.response_schema: only allowed when the response "
            "mime type is application/json.");
    (void)json_i64(either(thinking, "thinkingBudget", "thinking_budget"), &budget);
    a->thoughts_hidden = !json_is_true(either(thinking, "includeThoughts", "include_thoughts"));
    a->thinks = thinking.type == JSON_OBJECT && budget != 0;
    a->thinks_never = budget == 0;
    a->choice = json_is(mode, "NONE") ? CHOOSE_NONE : json_is(mode, "ANY") ? CHOOSE_ANY : CHOOSE_AUTO;
    only = either(calling, "allowedFunctionNames", "allowed_function_names");
    if (a->choice != CHOOSE_ANY || json_path(only, "0").type != JSON_STRING)
        return PD_OK;
    a->choice = CHOOSE_NAMED;
    return ask_string(r, json_path(only, "0"), &a->choice_name);
}

static pd_err read_system(struct reading *r)
{
    struct json system = either(r->ask->root, "systemInstruction", "system_instruction");
    if (system.type == JSON_NONE)
        return PD_OK;
    struct said *m = ask_say(r, SAID_SYSTEM);
    struct said_part *p = m ? ask_part(r, m, SAID_TEXT) : NULL;
    r->ask->said_count = 0; /* contents are numbered without it */
    struct json parts = json_get(system, "parts");
    if (parts.type == JSON_OBJECT)
        parts = json_get(parts, "text");
    return p ? ask_content_text(r, parts, &p->text) : PD_NOMEM;
}

static pd_err gemini_read(struct reading *r)
{
    struct ask *a = r->ask;
    struct json contents = json_get(a->root, "contents"), content;
    struct json_walk w;
    unsigned count = 0;
    if (a->at.op == OP_COUNT && contents.type == JSON_NONE) {
        struct json inner = either(a->root, "generateContentRequest", "generate_content_request");
        if (inner.type == JSON_OBJECT)
            a->root = inner;
        contents = json_get(a->root, "contents");
    }
    pd_err err = ask_path_model(r);
    if (err == PD_OK)
        err = read_system(r);
    if (err == PD_OK && contents.type == JSON_OBJECT)
        err = read_content(r, contents, count++);
    json_walk_init(&w, contents);
    while (err == PD_OK && contents.type == JSON_ARRAY && json_walk_next(&w, NULL, &content))
        err = read_content(r, content, count++);
    if (err == PD_OK && !count)
        return ask_refuse(r, "bad_request", "* GenerateContentRequest.contents: contents is not specified");
    a->prompt_tokens = contents.raw.n / 4 + 1;
    if (err == PD_OK)
        err = read_tools(r);
    if (err == PD_OK)
        err = read_config(r);
    return err == PD_OK ? check_signatures(r) : err;
}

/* ---- writing --------------------------------------------------------------- */

static void put_usage(const struct speech *speech, uint64_t tokens, struct put *out)
{
    const struct answer *a = speech->answer;
    uint64_t shown = a->reasoning_tokens - a->hidden_tokens, thoughts = tokens < shown ? tokens : shown;
    uint64_t said = tokens - thoughts;
    thoughts += a->hidden_tokens;
    put_text(out, ",\"usageMetadata\":{\"promptTokenCount\":");
    put_uint(out, a->prompt_tokens);
    if (said) { /* what is zero is left out */
        put_text(out, ",\"candidatesTokenCount\":");
        put_uint(out, said);
    }
    put_text(out, ",\"totalTokenCount\":");
    put_uint(out, a->prompt_tokens + said + thoughts);
    put_text(out, ",\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":");
    put_uint(out, a->prompt_tokens);
    put_text(out, "}]");
    if (thoughts) {
        put_text(out, ",\"thoughtsTokenCount\":");
        put_uint(out, thoughts);
    }
    put_text(out, speech->rq->at.platform == PLATFORM_VERTEX ? ",\"trafficType\":\"ON_DEMAND\"}" : "}");
}

static void put_tail(const struct speech *speech, uint64_t tokens, struct put *out)
{
    put_usage(speech, tokens, out);
    put_text(out, ",\"modelVersion\":\"");
    put_span(out, speech->rq->model);
    put_text(out, "\",\"responseId\":");
    put_json(out, speech->id);
    put_text(out, "}");
}

static bool signs(const struct speech *speech)
{
    return speech->answer->reasoning_tokens > 0 || span_ihas(speech->rq->model, "gemini-3");
}

static void put_signature(struct put *out, const char *what, struct span text, const struct speech *speech)
{
    put_text(out, ",\"thoughtSignature\":\"");
    sign_put(out, MAKER_GOOGLE, what, text, speech->id);
    put_text(out, "\"");
}

static void put_call(struct put *out, const struct block *b, const struct speech *speech)
{
    put_text(out, "{\"functionCall\":{");
    if (speech->conf->gemini_ids == 1) {
        put_printf(out, "\"id\":\"call-%u-", b->number);
        put_span(out, span_upto(speech->id, 8));
        put_text(out, "\",");
    }
    put_text(out, "\"name\":");
    put_json(out, b->call->name);
    put_text(out, ",\"args\":");
    put_span(out, json_check(b->text) == PD_OK ? b->text : SPAN_LIT("{}"));
    put_text(out, "}");
    if (b->number == 0 && signs(speech))
        put_signature(out, "call", b->call->name, speech);
    put_text(out, "}");
}

static void put_text_part(struct put *out, struct span text, bool thought)
{
    put_text(out, "{\"text\":");
    put_json(out, text);
    put_text(out, thought ? ",\"thought\":true}" : "}");
}

static void begin_chunk(struct put *out)
{
    put_text(out, "{\"candidates\":[{\"content\":{\"parts\":[");
}

static void end_chunk(struct stream *s, const char *finish, struct put *out)
{
    put_text(out, "],\"role\":\"model\"}");
    if (finish) {
        put_text(out, ",\"finishReason\":");
        put_json(out, span_str(dialect_finish(&sim_gemini, finish)));
    }
    put_text(out, ",\"index\":0}]");
    put_tail(s->speech, s->tokens, out);
    event_end(s, "");
}

static void put_text_chunk(struct stream *s, struct span text, bool thought)
{
    struct put *out = event_begin(s);
    begin_chunk(out);
    put_text_part(out, text, thought);
    end_chunk(s, NULL, out);
}

/* A prompt that is refused has no candidate. */
static void put_blocked(const struct speech *speech, struct put *out)
{
    put_text(out, "{\"promptFeedback\":{\"blockReason\":\"PROHIBITED_CONTENT\"}");
    put_tail(speech, 0, out);
}

static bool blocked(const struct answer *a)
{
    return a->refusal.p && !a->texts[0].n && !a->calls_count && !a->refusal.n;
}

static enum stream_piece gemini_next(struct stream *s)
{
    uint64_t before = s->tokens;
    steps_next(&s->steps, true, &s->tokens);
    const struct block *b = &s->steps.blocks[s->steps.block < s->steps.count ? s->steps.block : 0];
    struct put *out;
    switch (s->steps.step) {
    case STEP_BEGIN:
    case STEP_END:
        return PIECE_START;
    case STEP_OPEN:
        return PIECE_START; /* a call's first token comes with its only chunk */
    case STEP_PIECE:
        if (b->kind != SAID_CALL) {
            put_text_chunk(s, s->steps.piece, b->kind == SAID_THINKING);
            break;
        }
        out = event_begin(s);
        begin_chunk(out);
        put_call(out, b, s->speech);
        end_chunk(s, NULL, out);
        break;
    case STEP_CLOSE:
        if (b->kind != SAID_CALL || b->text.n)
            break;
        out = event_begin(s);
        begin_chunk(out);
        put_call(out, b, s->speech);
        end_chunk(s, NULL, out);
        return PIECE_TOKEN;
    case STEP_FINISH:
        out = event_begin(s);
        if (blocked(s->speech->answer)) {
            put_blocked(s->speech, out);
            event_end(s, "");
            return PIECE_FINISH;
        }
        begin_chunk(out);
        put_text(out, "{\"text\":\"\"");
        if (!s->speech->answer->calls_count && signs(s->speech))
            put_signature(out, "text", SPAN_NONE, s->speech);
        put_text(out, "}");
        end_chunk(s, s->finish, out);
        return PIECE_FINISH;
    case STEP_OVER:
        return PIECE_NONE;
    }
    return s->tokens > before ? PIECE_TOKEN : PIECE_START;
}

/* Server-sent events end in CR LF CR LF; without alt=sse the chunks are items of one array. */
static void frame(struct stream *s, struct span type, struct span json)
{
    (void)type;
    if (s->speech->rq->at.sse) {
        frame_event(s->out, s->framing | FRAME_CRLF, SPAN_NONE, json);
        return;
    }
    put_text(s->out, s->events++ ? ",\r\n" : "[");
    put_span(s->out, json);
    put_text(s->out, "\n");
}

static void end(struct stream *s)
{
    if (!s->speech->rq->at.sse)
        put_text(s->out, s->events ? "]" : "[]");
}

static void token(struct stream *s, struct span text)
{
    put_text_chunk(s, text, false);
}

/* Google sends none; what can stand between the chunks without harm is a comment, or white space. */
static void ping(struct stream *s, enum ping_kind kind)
{
    if (!s->speech->rq->at.sse)
        put_text(s->out, "\r\n");
    else if (kind == PING_BLANK)
        frame_blank(s->out, s->framing | FRAME_CRLF);
    else
        frame_comment(s->out, s->framing | FRAME_CRLF, s->comment);
}

static void gemini_whole(const struct speech *speech, struct put *out)
{
    const struct answer *a = speech->answer;
    struct steps steps;
    if (blocked(a)) {
        put_blocked(speech, out);
        return;
    }
    steps_init(&steps, a, true);
    begin_chunk(out);
    bool first = true;
    for (unsigned i = 0; i < steps.count; i++) {
        const struct block *b = &steps.blocks[i];
        if ((b->kind == SAID_THINKING && !b->text.n) || b->kind == SAID_REDACTED)
            continue;
        put_text(out, first ? "" : ",");
        first = false;
        if (b->kind == SAID_CALL) {
            put_call(out, b, speech);
        } else if (b->kind == SAID_TEXT && !a->calls_count && signs(speech)) {
            put_text(out, "{\"text\":");
            put_json(out, b->text);
            put_signature(out, "text", SPAN_NONE, speech);
            put_text(out, "}");
        } else {
            put_text_part(out, b->text, b->kind == SAID_THINKING);
        }
    }
    put_text(out, "],\"role\":\"model\"},\"finishReason\":");
    put_json(out, span_str(dialect_finish(&sim_gemini, a->finish)));
    put_text(out, ",\"index\":0}]");
    put_tail(speech, a->completion_tokens, out);
}

/* ---- errors ------------------------------------------------------------------ */

static void put_details(struct put *out, const struct endpoint *at, const struct style_fault *f)
{
    bool vertex = at->platform == PLATFORM_VERTEX;
    if (!f->code.p || vertex)
        return;
    if (f->status == 429) {
        put_text(out,
                 ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{"
                 "\"quotaMetric\":\"generativelanguage.googleapis.com/generate_content_requests\",\"quotaId\":");
        put_json(out, f->code);
        put_text(out, ",\"quotaDimensions\":{\"location\":\"global\"},\"quotaValue\":\"10\"}]},{\"@type\":"
                      "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"1.5s\"}]");
        return;
    }
    put_text(out, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":");
    put_json(out, f->code);
    put_text(out,
             ",\"domain\":\"googleapis.com\",\"metadata\":{\"service\":\"generativelanguage.googleapis.com\"}}]");
}

static void put_error(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                      const struct style_fault *f)
{
    bool listed = at->op == OP_GENERATE && at->streamed && !at->sse; /* even an error is an item of the array */
    (void)conf;
    put_text(out, listed ? "[" : "");
    put_printf(out, "{\"error\":{\"code\":%d,\"message\":", f->status);
    put_json(out, f->message);
    put_text(out, ",\"status\":");
    put_json(out, f->type);
    put_details(out, at, f);
    put_text(out, listed ? "}}]" : "}}");
}

static void stream_error(struct stream *s, const struct style_fault *f, unsigned shape)
{
    const struct endpoint *at = &s->speech->rq->at;
    struct endpoint single = *at;
    struct put *out = event_begin(s);
    single.sse = true;
    put_error(out, s->speech->conf, &single, f);
    if (at->sse && (!shape || shape == FAULT_SHAPE_ERROR + SHAPE_BARE))
        put_span(s->out, buf_span(s->scratch)); /* raw, between two events */
    else
        event_end(s, "");
}

static pd_err headers(struct sim_headers *h)
{
    pd_err err = header_add(h, "server", "scaffolding on HTTPServer2");
    if (err == PD_OK && h->of && h->at->platform == PLATFORM_OWN)
        err = header_add(h, "x-gemini-service-tier", "standard");
    return err == PD_OK ? header_add(h, "x-content-type-options", "nosniff") : err;
}

/* ---- counts, embeddings, models -------------------------------------------------- */

static pd_err count(struct reading *r, struct put *out)
{
    put_printf(out, "{\"totalTokens\":%llu,\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":%llu}]}",
               (unsigned long long)r->ask->prompt_tokens, (unsigned long long)r->ask->prompt_tokens);
    return out->err;
}

static pd_err put_values(struct reading *r, struct json request, uint64_t seed, struct put *out)
{
    struct json text = json_path(request, "content.parts.0.text");
    int64_t dimensions = 0;
    if (text.type != JSON_STRING)
        return ask_refuse(r, "bad_request", "* EmbedContentRequest.content: content is not specified");
    (void)json_i64(either(request, "outputDimensionality", "output_dimensionality"), &dimensions);
    put_text(out, "{\"values\":");
    pd_err err = put_embedding(out, r, seed, text.raw, dimensions);
    put_text(out, "}");
    return err;
}

static pd_err embed(struct reading *r, const struct endpoint *at, uint64_t seed, struct put *out)
{
    struct json root, request;
    struct json_walk w;
    bool first = true;
    if (json_check(r->body) != PD_OK || json_first(r->body, &root, NULL) != PD_OK)
        return ask_refuse(r, "bad_request", "Invalid JSON payload received.");
    if (!at->batch) {
        put_text(out, "{\"embedding\":");
        pd_err err = put_values(r, root, seed, out);
        put_text(out, "}");
        return err;
    }
    json_walk_init(&w, json_get(root, "requests"));
    put_text(out, "{\"embeddings\":[");
    while (json_walk_next(&w, NULL, &request)) {
        put_text(out, first ? "" : ",");
        first = false;
        pd_err err = put_values(r, request, seed, out);
        if (err != PD_OK)
            return err;
    }
    put_text(out, "]}");
    return first ? ask_refuse(r, "bad_request", "* BatchEmbedContentsRequest.requests: requests is not specified")
                 : out->err;
}

static void put_model(struct put *out, struct span id)
{
    put_text(out, "{\"name\":\"models/");
    put_json_inner(out, id);
    put_text(out, "\",\"version\":\"001\",\"displayName\":");
    put_json(out, id);
    put_text(out, ",\"inputTokenLimit\":1048576,\"outputTokenLimit\":65536,\"supportedGenerationMethods\":["
                  "\"generateContent\",\"countTokens\",\"embedContent\"],\"thinking\":true}");
}

static bool models(const struct script_provider *conf, struct span id, struct put *out)
{
    const struct span *at;
    unsigned n = model_names(conf, &at);
    for (unsigned i = 0; id.n && i < n; i++)
        if (span_eq(at[i], id)) {
            put_model(out, id);
            return true;
        }
    if (id.n)
        return false;
    put_text(out, "{\"models\":[");
    for (unsigned i = 0; i < n; i++) {
        put_text(out, i ? "," : "");
        put_model(out, at[i]);
    }
    put_text(out, "]}");
    return true;
}

const struct sim_dialect sim_gemini = {
    .stream_type = "text/event-stream",
    .json_type = "application/json; charset=UTF-8",
    .errors = errors,
    .errors_count = sizeof(errors) / sizeof(errors[0]),
    .finishes = finishes,
    .calls_whole = true,
    .delta_type = "",
    .read = gemini_read,
    .headers = headers,
    .next = gemini_next,
    .frame = frame,
    .end = end,
    .token = token,
    .ping = ping,
    .whole = gemini_whole,
    .put_error = put_error,
    .stream_error = stream_error,
    .count = count,
    .embed = embed,
    .models = models,
};
