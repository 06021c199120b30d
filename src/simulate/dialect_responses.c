/* OpenAI Responses: items in, items out, and a stream whose events are numbered. */
#include "simulate/dialect.h"
#include "simulate/sign.h"

enum { OUTPUT_TOKENS_MIN = 16, ID_HALF = 24 };

static const struct error_like errors[] = {
    {"bad_request", 400, "invalid_request_error", "invalid_value", "Invalid value in the request."},
    {"context_length", 400, "invalid_request_error", "context_length_exceeded",
     "Your input exceeds the context window of this model. Please adjust your input and try again."},
    {"content_filter", 400, "invalid_request_error", "content_filter",
     "The response was filtered due to the prompt triggering the content management policy."},
    {"auth", 401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."},
    {"billing", 402, "insufficient_quota", "insufficient_balance", "Insufficient Balance"},
    {"permission", 403, "permission_error", "forbidden", "You are not allowed to use this model."},
    {"model_not_found", 400, "invalid_request_error", "model_not_found", "The requested model does not exist."},
    {"not_found", 404, "invalid_request_error", NULL, "Not found."},
    {"timeout", 408, "timeout", "request_timeout", "The request took too long."},
    {"too_large", 413, "invalid_request_error", "request_too_large", "The request body is too large."},
    {"rate_limit", 429, "requests", "rate_limit_exceeded",
     "Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 1s."},
    {"tokens", 429, "tokens", "rate_limit_exceeded",
     "Rate limit reached on tokens per min (TPM): Limit 8000, Used 7000, Requested 2000. Please try again in 1s."},
    {"quota", 429, "insufficient_quota", "insufficient_quota",
     "You exceeded your current quota, please check your plan and billing details."},
    {"server_error", 500, "server_error", "server_error",
     "An error occurred while processing your request. You can retry your request."},
    {"bad_gateway", 502, "server_error", "bad_gateway", "Bad gateway"},
    {"unavailable", 503, "server_error", "service_unavailable", "The service is temporarily unavailable."},
    {"overloaded", 503, "server_error", "server_is_overloaded",
     "Our servers are currently overloaded. Please try again later."},
    {"gateway_timeout", 504, "server_error", "gateway_timeout", "The upstream server did not answer in time."},
};

/* ---- reading --------------------------------------------------------------- */

static void refuse_like(struct reading *r, const char *param, const char *code)
{
    r->why->param = span_str(param);
    r->why->code = span_str(code);
}

static struct said *say(struct reading *r, enum said_role role)
{
    struct said *last = r->ask->said_last; /* the items of one turn of the assistant are one */
    return last && last->role == role && role == SAID_ASSISTANT ? last : ask_say(r, role);
}

static pd_err read_parts(struct reading *r, struct said *m, struct json content)
{
    struct json_walk w;
    struct json part;
    pd_err err = PD_OK;
    if (content.type == JSON_STRING)
        return ask_text(r, m, SAID_TEXT, content);
    json_walk_init(&w, content);
    while (err == PD_OK && json_walk_next(&w, NULL, &part)) {
        struct json type = json_get(part, "type");
        if (json_is(type, "input_image")) {
            struct json url = json_get(part, "image_url");
            err = ask_media_url(r, m, url.type == JSON_STRING ? url : json_get(part, "file_id"));
        } else if (json_is(type, "input_file")) {
            struct json data = json_get(part, "file_data");
            err = ask_media_url(r, m,
                                data.type == JSON_STRING                         ? data
                                : json_get(part, "file_url").type == JSON_STRING ? json_get(part, "file_url")
                                                                                 : json_get(part, "file_id"));
        } else if (json_is(type, "input_text") || json_is(type, "output_text") || json_is(type, "text")) {
            err = ask_text(r, m, SAID_TEXT, json_get(part, "text"));
        } else if (json_is(type, "refusal")) {
            err = ask_text(r, m, SAID_TEXT, json_get(part, "refusal"));
        } else {
            return ask_refuse(
                r, "bad_request",
                "Invalid value: '%.*s'. Supported values are: 'input_text', 'input_image', 'output_text', "
                "'refusal' and 'input_file'.",
                SPAN_FMT(span_upto(json_inner(type), 60)));
        }
    }
    return err;
}

static pd_err read_message(struct reading *r, struct json item)
{
    struct json role = json_get(item, "role");
    if (role.type != JSON_STRING)
        return ask_refuse(r, "bad_request", "Missing required parameter: 'input[%u].role'.", r->ask->said_count);
    struct said *m = say(r, json_is(role, "assistant")                              ? SAID_ASSISTANT
                            : json_is(role, "system") || json_is(role, "developer") ? SAID_SYSTEM
                                                                                    : SAID_USER);
    return m ? read_parts(r, m, json_get(item, "content")) : PD_NOMEM;
}

static pd_err read_call(struct reading *r, struct json item)
{
    struct said *m = say(r, SAID_ASSISTANT);
    struct said_part *p = m ? ask_part(r, m, SAID_CALL) : NULL;
    pd_err err = p ? ask_string(r, json_get(item, "call_id"), &p->id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(r, json_get(item, "name"), &p->name);
    if (err == PD_OK && !p->id.n)
        return ask_refuse(r, "bad_request", "Missing required parameter: 'input.call_id'.");
    return err;
}

static bool call_known(const struct reading *r, struct span id)
{
    for (const struct said *m = r->ask->said; m; m = m->next)
        if (ask_call_of(m, id, SPAN_NONE))
            return true;
    return json_get(r->ask->root, "previous_response_id").type == JSON_STRING && span_starts(id, "call_") &&
           sign_id_fits(span_from(id, 5), "call"); /* it was in the answer that is gone on with */
}

static pd_err read_output(struct reading *r, struct json item)
{
    struct json output = json_get(item, "output");
    struct said *last = r->ask->said_last, *m = last && last->role == SAID_USER && ask_count(last, SAID_RESULT)
                                                    ? last
                                                    : ask_say(r, SAID_USER);
    struct said_part *p = m ? ask_part(r, m, SAID_RESULT) : NULL;
    pd_err err = p ? ask_string(r, json_get(item, "call_id"), &p->id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_content_text(r, output, &p->text);
    if (err == PD_OK && output.type == JSON_ARRAY) {
        struct json_walk w;
        struct json part;
        json_walk_init(&w, output);
        while (err == PD_OK && json_walk_next(&w, NULL, &part))
            if (json_is(json_get(part, "type"), "input_image"))
                err = ask_media_url(r, m, json_get(part, "image_url"));
    }
    if (err != PD_OK || call_known(r, p->id))
        return err;
    refuse_like(r, "input", NULL);
    return ask_refuse(r, "bad_request", "No tool call found for function call output with call_id %.*s.",
                      SPAN_FMT(span_upto(p->id, 100)));
}

static pd_err unknown_item(struct reading *r, struct span id)
{
    refuse_like(r, "input", NULL);
    return ask_refuse(
        r, "not_found",
        "Item with id '%.*s' not found. Items are not persisted when `store` is set to false. Try again "
        "with `store` set to true, or remove this item from your input.",
        SPAN_FMT(span_upto(id, 100)));
}

/* Ids of items that were kept say so themselves. */
static bool item_kept(struct span id)
{
    const char *at = id.n ? memchr(id.p, '_', id.n) : NULL;
    return at && sign_id_fits(span_from(id, (size_t)(at - id.p) + 1), "kept");
}

static pd_err read_reasoning(struct reading *r, struct json item)
{
    struct json encrypted = json_get(item, "encrypted_content");
    struct said *m = say(r, SAID_ASSISTANT);
    struct said_part *p = m ? ask_part(r, m, SAID_THINKING) : NULL;
    struct span id = SPAN_NONE;
    pd_err err = p ? ask_string(r, json_get(item, "id"), &id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_content_text(r, json_get(item, "summary"), &p->text);
    if (err == PD_OK && json_get(item, "summary").type != JSON_ARRAY)
        return ask_refuse(r, "bad_request", "Missing required parameter: 'input.summary'.");
    if (err != PD_OK)
        return err;
    if (encrypted.type != JSON_STRING)
        return item_kept(id) ? PD_OK : unknown_item(r, id);
    err = ask_string(r, encrypted, &p->signature);
    if (err != PD_OK || sign_fits(MAKER_OPENAI, "reasoning", SPAN_NONE, p->signature, r->mem))
        return err;
    refuse_like(r, "input", "invalid_encrypted_content");
    return ask_refuse(
        r, "bad_request",
        "The encrypted content for item %.*s could not be verified. Reason: Encrypted content could not "
        "be decrypted or parsed.",
        SPAN_FMT(span_upto(id, 100)));
}

static pd_err read_item(struct reading *r, struct json item)
{
    struct json type = json_get(item, "type");
    struct span id;
    if (type.type == JSON_NONE || json_is(type, "message"))
        return read_message(r, item);
    if (json_is(type, "function_call") || json_is(type, "custom_tool_call"))
        return read_call(r, item);
    if (json_is(type, "function_call_output") || json_is(type, "custom_tool_call_output"))
        return read_output(r, item);
    if (json_is(type, "reasoning"))
        return read_reasoning(r, item);
    pd_err err = ask_string(r, json_get(item, "id"), &id);
    if (err == PD_OK && json_is(type, "item_reference") && !item_kept(id))
        return unknown_item(r, id);
    struct said *m = err == PD_OK ? say(r, SAID_ASSISTANT) : NULL;
    return m && ask_part(r, m, SAID_OTHER) ? PD_OK : err != PD_OK ? err : PD_NOMEM;
}

/* Each call is answered; reasoning has what it led to behind it. */
static pd_err check_calls(struct reading *r)
{
    for (const struct said *m = r->ask->said; m; m = m->next)
        for (const struct said_part *c = m->parts; c; c = c->next) {
            bool answered = c->kind != SAID_CALL;
            for (const struct said *n = m->next; n && !answered; n = n->next)
                for (const struct said_part *p = n->parts; p; p = p->next)
                    answered |= p->kind == SAID_RESULT && span_eq(p->id, c->id);
            if (!answered) {
                refuse_like(r, "input", NULL);
                return ask_refuse(r, "bad_request", "No tool output found for function call %.*s.",
                                  SPAN_FMT(span_upto(c->id, 100)));
            }
            if (c->kind == SAID_THINKING && !c->next)
                return ask_refuse(r, "bad_request",
                                  "Item of type 'reasoning' was provided without its required following item.");
        }
    return PD_OK;
}

static pd_err read_tools(struct reading *r)
{
    struct json_walk w;
    struct json tool, choice = json_get(r->ask->root, "tool_choice"), name = json_get(choice, "name");
    pd_err err = PD_OK;
    json_walk_init(&w, json_get(r->ask->root, "tools"));
    for (unsigned i = 0; err == PD_OK && json_walk_next(&w, NULL, &tool); i++) {
        struct span text;
        if (!json_is(json_get(tool, "type"), "function"))
            continue;
        if (json_get(tool, "name").type != JSON_STRING)
            return ask_refuse(r, "bad_request", "Missing required parameter: 'tools[%u].name'.", i);
        err = ask_string(r, json_get(tool, "name"), &text);
        if (err == PD_OK)
            err = ask_tool(r, text, json_get(tool, "parameters"));
    }
    r->ask->choice = json_is(choice, "none")       ? CHOOSE_NONE
                     : json_is(choice, "required") ? CHOOSE_ANY
                     : name.type == JSON_STRING    ? CHOOSE_NAMED
                                                   : CHOOSE_AUTO;
    return err == PD_OK ? ask_string(r, name, &r->ask->choice_name) : err;
}

static pd_err read_settings(struct reading *r)
{
    struct ask *a = r->ask;
    struct json format = json_path(a->root, "text.format"), parallel = json_get(a->root, "parallel_tool_calls"),
                reasoning = json_get(a->root, "reasoning"), summary = json_get(reasoning, "summary"), v;
    struct json_walk w;
    a->streamed = json_is_true(json_get(a->root, "stream"));
    a->kept = json_get(a->root, "store").type != JSON_BOOL || json_is_true(json_get(a->root, "store"));
    if (parallel.type == JSON_BOOL)
        a->parallel = json_is_true(parallel);
    a->json_wanted =
        json_is(json_get(format, "type"), "json_schema") || json_is(json_get(format, "type"), "json_object");
    a->schema = json_get(format, "schema");
    a->thinks = reasoning.type == JSON_OBJECT && !json_is(json_get(reasoning, "effort"), "none");
    a->thoughts_hidden = summary.type != JSON_STRING;
    json_walk_init(&w, json_get(a->root, "include"));
    while (json_walk_next(&w, NULL, &v))
        a->encrypted |= json_is(v, "reasoning.encrypted_content");
    if (!json_i64(json_get(a->root, "max_output_tokens"), &a->max_tokens) || a->max_tokens >= OUTPUT_TOKENS_MIN)
        return PD_OK;
    refuse_like(r, "max_output_tokens", "integer_below_min_value");
    return ask_refuse(
        r, "bad_request",
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= %d, but got %lld "
        "instead.",
        OUTPUT_TOKENS_MIN, (long long)a->max_tokens);
}

static pd_err check_previous(struct reading *r)
{
    struct json previous = json_get(r->ask->root, "previous_response_id");
    struct span id;
    if (previous.type != JSON_STRING)
        return PD_OK;
    pd_err err = ask_string(r, previous, &id);
    if (err != PD_OK || item_kept(id))
        return err;
    refuse_like(r, "previous_response_id", "previous_response_not_found");
    return ask_refuse(r, "bad_request", "Previous response with id '%.*s' not found.",
                      SPAN_FMT(span_upto(id, 100)));
}

static pd_err read_instructions(struct reading *r)
{
    struct json text = json_get(r->ask->root, "instructions");
    if (text.type != JSON_STRING)
        return PD_OK;
    struct said *m = ask_say(r, SAID_SYSTEM);
    return m ? ask_text(r, m, SAID_TEXT, text) : PD_NOMEM;
}

static pd_err responses_read(struct reading *r)
{
    struct ask *a = r->ask;
    struct json input = json_get(a->root, "input"), item;
    struct json_walk w;
    a->model = json_inner(json_get(a->root, "model"));
    if (!a->model.n) {
        refuse_like(r, "model", "missing_required_parameter");
        return ask_refuse(r, "bad_request", "Missing required parameter: 'model'.");
    }
    if (input.type != JSON_STRING && input.type != JSON_ARRAY) {
        refuse_like(r, "input", "missing_required_parameter");
        return ask_refuse(r, "bad_request", "Missing required parameter: 'input'.");
    }
    a->prompt_tokens = input.raw.n / 4 + 1;
    pd_err err = read_settings(r);
    if (err == PD_OK)
        err = check_previous(r);
    if (err == PD_OK)
        err = read_instructions(r);
    if (err == PD_OK && input.type == JSON_STRING) {
        struct said *m = ask_say(r, SAID_USER);
        err = m ? ask_text(r, m, SAID_TEXT, input) : PD_NOMEM;
    }
    json_walk_init(&w, input);
    while (err == PD_OK && input.type == JSON_ARRAY && json_walk_next(&w, NULL, &item))
        err = read_item(r, item);
    if (err == PD_OK)
        err = check_calls(r);
    return err == PD_OK ? read_tools(r) : err;
}

/* ---- writing: items ---------------------------------------------------------- */

static const char *item_prefix(const struct block *b)
{
    return b->kind == SAID_CALL ? "fc_" : b->kind == SAID_TEXT ? "msg_" : "rs_";
}

/* The id of an item, which says whether it was kept. */
static struct span item_id(const struct speech *speech, const struct block *b)
{
    struct buf half, text;
    buf_init(&half, 0);
    buf_init(&text, 0);
    struct put first = put_into(&half), out = put_into(&text);
    put_random(&first, speech->rnd, alphabet_hex, ID_HALF);
    put_text(&out, b ? item_prefix(b) : "resp_");
    sign_id_put(&out, buf_span(&half), speech->rq->kept ? "kept" : "not kept");
    struct span id = first.err == PD_OK && out.err == PD_OK ? arena_span(speech->mem, buf_span(&text)) : SPAN_NONE;
    buf_done(&half);
    buf_done(&text);
    return id;
}

static void put_text_part(struct put *out, const struct block *b, struct span text)
{
    put_text(out, b->refusal ? "{\"type\":\"refusal\",\"refusal\":"
                             : "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
    put_json(out, text);
    put_text(out, "}");
}

/* status NULL: an item that begins. */
static void put_item(struct put *out, const struct speech *speech, const struct block *b, struct span id,
                     struct span text, const char *status)
{
    put_text(out, "{\"id\":");
    put_json(out, id);
    if (b->kind == SAID_CALL) {
        put_printf(
            out, ",\"type\":\"function_call\",\"status\":\"%s\",\"arguments\":", status ? status : "in_progress");
        put_json(out, text);
        put_text(out, ",\"call_id\":");
        put_json(out, b->call->id);
        put_text(out, ",\"name\":");
        put_json(out, b->call->name);
    } else if (b->kind == SAID_TEXT) {
        put_printf(out, ",\"type\":\"message\",\"status\":\"%s\",\"content\":[", status ? status : "in_progress");
        if (status)
            put_text_part(out, b, text);
        put_text(out, "],\"role\":\"assistant\"");
    } else {
        put_text(out, ",\"type\":\"reasoning\"");
        if (speech->rq->encrypted) {
            put_text(out, ",\"encrypted_content\":\"");
            sign_put(out, MAKER_OPENAI, "reasoning", SPAN_NONE, id);
            put_text(out, "\"");
        }
        put_text(out, ",\"summary\":[");
        if (status && text.n) {
            put_text(out, "{\"type\":\"summary_text\",\"text\":");
            put_json(out, text);
            put_text(out, "}");
        }
        put_text(out, "]");
    }
    put_text(out, "}");
}

/* ---- writing: the response object ------------------------------------------------ */

static void put_echo(struct put *out, const struct ask *rq, const char *key, const char *otherwise)
{
    struct json v = json_get(rq->root, key);
    put_printf(out, ",\"%s\":", key);
    if (v.type == JSON_NONE || v.type == JSON_NULL)
        put_text(out, otherwise);
    else
        put_span(out, v.raw);
}

static void put_usage(const struct speech *speech, uint64_t tokens, struct put *out)
{
    const struct answer *a = speech->answer;
    uint64_t output = tokens + a->hidden_tokens,
             thought = a->reasoning_tokens < output ? a->reasoning_tokens : output;
    put_text(out, ",\"usage\":{\"input_tokens\":");
    put_uint(out, a->prompt_tokens);
    put_text(out, ",\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":");
    put_uint(out, output);
    put_text(out, ",\"output_tokens_details\":{\"reasoning_tokens\":");
    put_uint(out, thought);
    put_text(out, "},\"total_tokens\":");
    put_uint(out, a->prompt_tokens + output);
    put_text(out, "}");
}

static const char *incomplete_reason(const char *finish)
{
    if (strcmp(finish, "length") == 0)
        return "max_output_tokens";
    return strcmp(finish, "content_filter") == 0 ? "content_filter" : NULL;
}

struct closing {
    const char *status; /* "in_progress", "completed", "incomplete", "failed" */
    const char *incomplete;
    const struct style_fault *fault;
    const struct steps *steps; /* what was said: blocks up to steps->block, the last as far as it came */
    const struct span *ids;
    bool all; /* every block is whole */
    uint64_t tokens;
};

static void put_output(struct put *out, const struct speech *speech, const struct closing *c)
{
    const struct steps *s = c->steps;
    bool begun = s && (c->all || s->step != STEP_BEGIN);
    for (unsigned i = 0; begun && i < s->count && (c->all || i <= s->block); i++) {
        const struct block *b = &s->blocks[i];
        if (!c->ids[i].p) /* it never opened */
            break;
        bool whole = c->all || i < s->block || s->at >= b->text.n;
        put_text(out, i ? "," : "");
        put_item(out, speech, b, c->ids[i], whole ? b->text : steps_said_text(s),
                 whole ? "completed" : "incomplete");
    }
}

static void put_response(struct put *out, const struct speech *speech, const struct closing *c)
{
    const struct ask *rq = speech->rq;
    bool over = strcmp(c->status, "in_progress") != 0;
    put_text(out, "{\"id\":");
    put_json(out, speech->id);
    put_printf(out, ",\"object\":\"response\",\"created_at\":%llu,\"status\":\"%s\",\"background\":false",
               (unsigned long long)speech->created, c->status);
    put_text(out, ",\"error\":");
    if (c->fault) {
        put_text(out, "{\"code\":");
        put_json(out, c->fault->code.p ? c->fault->code : c->fault->type);
        put_text(out, ",\"message\":");
        put_json(out, c->fault->message);
        put_text(out, "}");
    } else {
        put_text(out, "null");
    }
    put_text(out, ",\"incomplete_details\":");
    if (c->incomplete)
        put_printf(out, "{\"reason\":\"%s\"}", c->incomplete);
    else
        put_text(out, "null");
    put_echo(out, rq, "instructions", "null");
    put_echo(out, rq, "max_output_tokens", "null");
    put_text(out, ",\"model\":\"");
    put_span(out, rq->model);
    put_text(out, "\",\"output\":[");
    put_output(out, speech, c);
    put_text(out, "]");
    put_echo(out, rq, "parallel_tool_calls", "true");
    put_echo(out, rq, "previous_response_id", "null");
    put_echo(out, rq, "prompt_cache_key", "null");
    put_echo(out, rq, "reasoning", "{\"effort\":null,\"summary\":null}");
    put_text(out, rq->kept ? ",\"service_tier\":\"default\",\"store\":true"
                           : ",\"service_tier\":\"default\",\"store\":false");
    put_echo(out, rq, "temperature", "1.0");
    put_echo(out, rq, "text", "{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}");
    put_echo(out, rq, "tool_choice", "\"auto\"");
    put_echo(out, rq, "tools", "[]");
    put_echo(out, rq, "top_p", "1.0");
    put_echo(out, rq, "truncation", "\"disabled\"");
    if (over && !c->fault)
        put_usage(speech, c->tokens, out);
    else
        put_text(out, ",\"usage\":null");
    put_text(out, ",\"user\":null");
    put_echo(out, rq, "metadata", "{}");
    put_text(out, "}");
}

/* ---- writing: the stream --------------------------------------------------------- */

static struct put *begin(struct stream *s, const char *type)
{
    struct put *out = event_begin(s);
    put_printf(out, "{\"type\":\"%s\"", type);
    return out;
}

static void finish(struct stream *s, const char *type)
{
    put_printf(&s->json, ",\"sequence_number\":%llu}", (unsigned long long)s->sequence++);
    s->events++;
    event_end(s, type);
}

static void put_response_event(struct stream *s, const char *type, const struct closing *c)
{
    struct put *out = begin(s, type);
    put_text(out, ",\"response\":");
    put_response(out, s->speech, c);
    finish(s, type);
}

static void put_place(struct put *out, const struct stream *s, const struct block *b, bool part)
{
    put_text(out, ",\"item_id\":");
    put_json(out, s->ids[s->steps.block]);
    put_printf(out, ",\"output_index\":%u", s->steps.block);
    if (part && b->kind == SAID_TEXT)
        put_text(out, ",\"content_index\":0");
    else if (part && b->kind != SAID_CALL)
        put_text(out, ",\"summary_index\":0");
}

static void put_item_event(struct stream *s, const char *type, const struct block *b, struct span text,
                           const char *status)
{
    struct put *out = begin(s, type);
    put_text(out, ",\"item\":");
    put_item(out, s->speech, b, s->ids[s->steps.block], text, status);
    put_printf(out, ",\"output_index\":%u", s->steps.block);
    finish(s, type);
}

/* What the parts of each kind of block are called. */
struct part_words {
    const char *added, *delta, *done, *part_done, *text_key;
};

static const struct part_words *words_of(const struct block *b)
{
    static const struct part_words call = {NULL, "response.function_call_arguments.delta",
                                           "response.function_call_arguments.done", NULL, "arguments"},
                                   text = {"response.content_part.added", "response.output_text.delta",
                                           "response.output_text.done", "response.content_part.done", "text"},
                                   refusal = {"response.content_part.added", "response.refusal.delta",
                                              "response.refusal.done", "response.content_part.done", "refusal"},
                                   summary = {"response.reasoning_summary_part.added",
                                              "response.reasoning_summary_text.delta",
                                              "response.reasoning_summary_text.done",
                                              "response.reasoning_summary_part.done", "text"};
    if (b->kind == SAID_CALL)
        return &call;
    return b->kind != SAID_TEXT ? &summary : b->refusal ? &refusal : &text;
}

static void put_part_event(struct stream *s, const char *type, const struct block *b, struct span text)
{
    struct put *out = begin(s, type);
    put_place(out, s, b, true);
    put_text(out, ",\"part\":");
    if (b->kind == SAID_TEXT) {
        put_text_part(out, b, text);
    } else {
        put_text(out, "{\"type\":\"summary_text\",\"text\":");
        put_json(out, text);
        put_text(out, "}");
    }
    finish(s, type);
}

static bool has_parts(const struct block *b)
{
    return b->kind == SAID_CALL || b->kind == SAID_TEXT || b->text.n;
}

static void put_open(struct stream *s, const struct block *b)
{
    s->ids[s->steps.block] = item_id(s->speech, b);
    if (!s->ids[s->steps.block].p) {
        s->out->err = PD_NOMEM;
        return;
    }
    put_item_event(s, "response.output_item.added", b, SPAN_LIT(""), NULL);
    if (has_parts(b) && words_of(b)->added)
        put_part_event(s, words_of(b)->added, b, SPAN_LIT(""));
}

static void put_delta(struct stream *s, const struct block *b, struct span text)
{
    const char *type = words_of(b)->delta;
    struct put *out = begin(s, type);
    put_place(out, s, b, true);
    put_text(out, ",\"delta\":");
    put_json(out, text);
    if (b->kind == SAID_TEXT && !b->refusal)
        put_text(out, ",\"logprobs\":[]");
    put_text(out, ",\"obfuscation\":\"");
    put_random(out, s->speech->rnd, alphabet_alnum, (unsigned)rnd_below(s->speech->rnd, 16) + 1);
    put_text(out, "\"");
    finish(s, type);
}

static void put_close(struct stream *s, const struct block *b)
{
    const struct part_words *words = words_of(b);
    struct span said = steps_said_text(&s->steps);
    bool whole = said.n == b->text.n;
    if (has_parts(b) && whole) {
        struct put *out = begin(s, words->done);
        put_place(out, s, b, true);
        put_printf(out, ",\"%s\":", words->text_key);
        put_json(out, said);
        if (b->kind == SAID_CALL) {
            put_text(out, ",\"name\":");
            put_json(out, b->call->name);
        } else if (b->kind == SAID_TEXT && !b->refusal) {
            put_text(out, ",\"logprobs\":[]");
        }
        finish(s, words->done);
        if (words->part_done)
            put_part_event(s, words->part_done, b, said);
    }
    put_item_event(s, "response.output_item.done", b, said, whole ? "completed" : "incomplete");
}

static struct closing closing_of(const struct stream *s)
{
    const char *incomplete = incomplete_reason(s->finish);
    return (struct closing){.status = incomplete ? "incomplete" : "completed",
                            .incomplete = incomplete,
                            .steps = &s->steps,
                            .ids = s->ids,
                            .tokens = s->tokens};
}

static enum stream_piece responses_next(struct stream *s)
{
    static const struct closing open = {.status = "in_progress"};
    uint64_t before = s->tokens;
    steps_next(&s->steps, false, &s->tokens);
    /* one that is open or was: the other steps do not look at it */
    const struct block *b = &s->steps.blocks[s->steps.block < s->steps.count ? s->steps.block : 0];
    struct closing c;
    switch (s->steps.step) {
    case STEP_BEGIN:
        put_response_event(s, "response.created", &open);
        put_response_event(s, "response.in_progress", &open);
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
        c = closing_of(s);
        put_response_event(s, c.incomplete ? "response.incomplete" : "response.completed", &c);
        return PIECE_FINISH;
    case STEP_END:
        return PIECE_USAGE;
    case STEP_OVER:
        return PIECE_NONE;
    }
    return s->tokens > before ? PIECE_TOKEN : PIECE_START;
}

static bool is_openrouter(const struct script_provider *conf)
{
    return conf->style->error == ERROR_OPENROUTER;
}

/* OpenRouter has no event lines, and ends with [DONE]; the others have it the other way round. */
static void frame(struct stream *s, struct span type, struct span json)
{
    frame_event(s->out, s->framing, is_openrouter(s->speech->conf) ? SPAN_NONE : type, json);
}

static void end(struct stream *s)
{
    if (is_openrouter(s->speech->conf))
        frame_done(s->out, s->framing);
}

static void token(struct stream *s, struct span text)
{
    static const struct block block = {.kind = SAID_TEXT};
    put_delta(s, &block, text);
}

static void ping(struct stream *s, enum ping_kind kind)
{
    if (kind == PING_PING)
        frame_event(s->out, s->framing, SPAN_LIT("ping"), SPAN_LIT("{\"type\":\"ping\"}"));
    else
        ping_comment(s, kind);
}

static void responses_whole(const struct speech *speech, struct put *out)
{
    struct steps steps;
    struct span ids[STEP_BLOCKS_MAX];
    const char *incomplete = incomplete_reason(speech->answer->finish);
    steps_init(&steps, speech->answer, true);
    for (unsigned i = 0; i < steps.count; i++) {
        ids[i] = item_id(speech, &steps.blocks[i]);
        if (!ids[i].p)
            out->err = PD_NOMEM;
    }
    struct closing c = {.status = incomplete ? "incomplete" : "completed",
                        .incomplete = incomplete,
                        .steps = &steps,
                        .ids = ids,
                        .all = true,
                        .tokens = speech->answer->completion_tokens};
    put_response(out, speech, &c);
}

/* ---- errors ---------------------------------------------------------------------- */

static void put_error(struct put *out, const struct script_provider *conf, const struct endpoint *at,
                      const struct style_fault *f)
{
    (void)at;
    style_put_error(out, conf->style, f);
}

/* The error, then response.failed; shape "string": the flat form of the reference; "event": the error alone. */
static void stream_error(struct stream *s, const struct style_fault *f, unsigned shape)
{
    struct put *out = begin(s, "error");
    bool flat = shape == FAULT_SHAPE_ERROR + SHAPE_STRING;
    put_text(out, flat ? ",\"code\":" : ",\"error\":{\"type\":");
    if (!flat) {
        put_json(out, f->type);
        put_text(out, ",\"code\":");
    }
    put_json(out, f->code.p ? f->code : f->type);
    put_text(out, ",\"message\":");
    put_json(out, f->message);
    put_text(out, flat ? ",\"param\":null" : ",\"param\":null}");
    finish(s, "error");
    if (flat || shape == FAULT_SHAPE_ERROR + SHAPE_EVENT)
        return;
    struct closing c = {.status = "failed", .fault = f, .steps = &s->steps, .ids = s->ids, .tokens = s->tokens};
    put_response_event(s, "response.failed", &c);
    if (shape == FAULT_SHAPE_ERROR + SHAPE_DONE)
        frame_done(s->out, s->framing);
    else
        end(s);
}

static pd_err headers(struct sim_headers *h)
{
    struct span id = make_id(h->mem, h->rnd, "req_", 32, true);
    pd_err err = id.p ? h->add(h->ctx, span_str(h->conf->style->request_id_header), id) : PD_NOMEM;
    if (err == PD_OK)
        err = header_add(h, "openai-processing-ms", "%u", 120u);
    return err == PD_OK ? header_add(h, "openai-version", "2020-10-01") : err;
}

struct span responses_id(const struct speech *speech)
{
    return item_id(speech, NULL);
}

const struct sim_dialect sim_responses = {
    .stream_type = "text/event-stream; charset=utf-8",
    .errors = errors,
    .errors_count = sizeof(errors) / sizeof(errors[0]),
    .delta_type = "response.output_text.delta",
    .read = responses_read,
    .headers = headers,
    .next = responses_next,
    .frame = frame,
    .end = end,
    .token = token,
    .ping = ping,
    .whole = responses_whole,
    .put_error = put_error,
    .stream_error = stream_error,
};
