/* Anthropic Messages: at Anthropic, on Vertex AI (no model in the body), and inside Bedrock's InvokeModel. */
#include "simulate/dialect.h"
#include "simulate/sign.h"

#include <stdio.h>

enum { CACHE_POINTS_MAX = 4, THINKING_BUDGET_MIN = 1024 };

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

/* ---- reading: the fields ----------------------------------------------------- */

static const char *const fields[] = {
    "messages",       "max_tokens",    "system",        "tools",         "tool_choice",
    "stop_sequences", "temperature",   "top_k",         "top_p",         "metadata",
    "thinking",       "service_tier",  "container",     "mcp_servers",   "context_management",
    "output_config",  "output_format", "cache_control", "inference_geo", "speed",
};

static bool field_known(const struct reading *r, struct span key)
{
    bool own = r->ask->at.platform == PLATFORM_OWN, bedrock = r->ask->at.platform == PLATFORM_BEDROCK;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (json_key_is(key, fields[i]))
            return true;
    if (json_key_is(key, "model"))
        return own;
    if (json_key_is(key, "stream"))
        return !bedrock;
    return !own && (json_key_is(key, "anthropic_version") || json_key_is(key, "anthropic_beta"));
}

static pd_err check_fields(struct reading *r)
{
    struct json_walk w;
    struct json v;
    struct span key;
    json_walk_init(&w, r->ask->root);
    while (json_walk_next(&w, &key, &v))
        if (!field_known(r, key))
            return ask_refuse(r, "bad_request", "%.*s: Extra inputs are not permitted",
                              SPAN_FMT(span_upto(key, 80)));
    if (r->ask->at.platform == PLATFORM_OWN && !r->versioned)
        return ask_refuse(r, "bad_request", "anthropic-version: header is required");
    if (r->ask->at.platform != PLATFORM_OWN && json_get(r->ask->root, "anthropic_version").type != JSON_STRING)
        return ask_refuse(r, "bad_request", "anthropic_version: Field required");
    return PD_OK;
}

static unsigned cache_points(struct json v)
{
    struct json_walk w;
    struct json inner;
    struct span key = SPAN_NONE;
    unsigned n = 0;
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &inner))
        n += v.type == JSON_OBJECT && json_key_is(key, "cache_control") && inner.type == JSON_OBJECT;
    return n;
}

static unsigned cache_points_in(struct json list)
{
    struct json_walk w;
    struct json v;
    unsigned n = 0;
    json_walk_init(&w, list);
    while (list.type == JSON_ARRAY && json_walk_next(&w, NULL, &v))
        n += cache_points(v);
    return n;
}

static pd_err check_cache(struct reading *r)
{
    struct json_walk w;
    struct json m, root = r->ask->root;
    unsigned n = cache_points_in(json_get(root, "system")) + cache_points_in(json_get(root, "tools"));
    json_walk_init(&w, json_get(root, "messages"));
    while (json_walk_next(&w, NULL, &m))
        n += cache_points_in(json_get(m, "content"));
    if (n > CACHE_POINTS_MAX)
        return ask_refuse(r, "bad_request", "A maximum of %d blocks with cache_control may be provided. Found %u.",
                          CACHE_POINTS_MAX, n);
    return PD_OK;
}

static pd_err read_tools(struct reading *r)
{
    struct json_walk w;
    struct json tool;
    pd_err err = PD_OK;
    json_walk_init(&w, json_get(r->ask->root, "tools"));
    for (unsigned i = 0; err == PD_OK && json_walk_next(&w, NULL, &tool); i++) {
        struct json type = json_get(tool, "type"), schema = json_get(tool, "input_schema");
        struct span name;
        if (type.type == JSON_STRING && !json_is(type, "custom"))
            continue; /* a server's own tool */
        if (schema.type != JSON_OBJECT)
            return ask_refuse(r, "bad_request", "tools.%u.custom.input_schema: Field required", i);
        if (!json_is(json_get(schema, "type"), "object"))
            return ask_refuse(r, "bad_request", "tools.%u.custom.input_schema.type: Field required", i);
        err = ask_string(r, json_get(tool, "name"), &name);
        if (err == PD_OK && !name.n)
            return ask_refuse(r, "bad_request", "tools.%u.custom.name: Field required", i);
        if (err == PD_OK)
            err = ask_tool(r, name, schema);
    }
    return err;
}

static pd_err read_choice(struct reading *r)
{
    struct ask *a = r->ask;
    struct json choice = json_get(a->root, "tool_choice"), type = json_get(choice, "type");
    if (choice.type == JSON_NONE)
        return PD_OK;
    if (choice.type != JSON_OBJECT)
        return ask_refuse(r, "bad_request", "tool_choice: Input should be an object");
    if (json_is_true(json_get(choice, "disable_parallel_tool_use")))
        a->parallel = 0;
    a->choice = json_is(type, "any")    ? CHOOSE_ANY
                : json_is(type, "tool") ? CHOOSE_NAMED
                : json_is(type, "none") ? CHOOSE_NONE
                                        : CHOOSE_AUTO;
    if (a->choice == CHOOSE_AUTO && !json_is(type, "auto"))
        return ask_refuse(
            r, "bad_request",
            "tool_choice: Input tag found using 'type' does not match any of the expected tags: 'auto', "
            "'any', 'tool', 'none'");
    if (!a->tools_count && json_get(a->root, "tools").type == JSON_NONE && a->choice != CHOOSE_NONE)
        return ask_refuse(r, "bad_request",
                          "tool_choice: tool_choice may only be specified while providing tools.");
    return ask_string(r, json_get(choice, "name"), &a->choice_name);
}

static pd_err read_thinking(struct reading *r)
{
    struct ask *a = r->ask;
    struct json thinking = json_get(a->root, "thinking"), type = json_get(thinking, "type");
    int64_t budget = -1;
    a->thinks = json_is(type, "enabled") || json_is(type, "adaptive");
    a->thinks_never = !a->thinks;
    a->thoughts_hidden = json_is(json_get(thinking, "display"), "omitted");
    if (!a->thinks)
        return PD_OK;
    if (a->choice == CHOOSE_ANY || a->choice == CHOOSE_NAMED)
        return ask_refuse(r, "bad_request", "Thinking may not be enabled when tool_choice forces tool use.");
    if (!json_is(type, "enabled"))
        return PD_OK;
    if (!json_i64(json_get(thinking, "budget_tokens"), &budget))
        return ask_refuse(r, "bad_request", "thinking.enabled.budget_tokens: Field required");
    if (budget < THINKING_BUDGET_MIN)
        return ask_refuse(r, "bad_request",
                          "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024");
    if (budget >= a->max_tokens && a->max_tokens >= 0)
        return ask_refuse(r, "bad_request", "`max_tokens` must be greater than `thinking.budget_tokens`.");
    return PD_OK;
}

static void read_format(struct ask *a)
{
    struct json format = json_path(a->root, "output_config.format");
    if (format.type != JSON_OBJECT)
        format = json_get(a->root, "output_format");
    a->json_wanted = json_is(json_get(format, "type"), "json_schema");
    a->schema = json_get(format, "schema");
}

/* ---- reading: the messages --------------------------------------------------- */

struct place {
    struct reading *r;
    struct said *m;
    unsigned message, block;
};

static bool id_fine(struct span id)
{
    for (size_t i = 0; i < id.n; i++)
        if (id.p[i] == '_' || id.p[i] == '-')
            continue;
        else if (!memchr(alphabet_alnum, id.p[i], 62))
            return false;
    return id.n > 0;
}

static pd_err read_media(struct place *at, struct json block, const char *kind)
{
    struct json source = json_get(block, "source"), type = json_get(source, "type");
    struct span media;
    if (json_is(type, "url"))
        return ask_media_url(at->r, at->m, json_get(source, "url"));
    if (json_is(type, "base64")) {
        pd_err err = ask_string(at->r, json_get(source, "media_type"), &media);
        if (err == PD_OK && !media.n)
            return ask_refuse(at->r, "bad_request",
                              "messages.%u.content.%u.%s.source.base64.media_type: Field required", at->message,
                              at->block, kind);
        err = err == PD_OK ? ask_media(at->r, at->m, media, json_get(source, "data")) : err;
        if (err == PD_INVALID)
            return ask_refuse(at->r, "bad_request",
                              "messages.%u.content.%u.%s.source.base64.data: invalid base64 data", at->message,
                              at->block, kind);
        return err;
    }
    if (json_is(type, "text"))
        return ask_text(at->r, at->m, SAID_TEXT, json_get(source, "data"));
    if (json_is(type, "content"))
        return ask_text(at->r, at->m, SAID_TEXT, json_get(source, "content"));
    if (json_is(type, "file"))
        return ask_media_url(at->r, at->m, json_get(source, "file_id"));
    return ask_refuse(at->r, "bad_request", "messages.%u.content.%u.%s.source: Field required", at->message,
                      at->block, kind);
}

static pd_err read_tool_use(struct place *at, struct json block)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_CALL);
    pd_err err = p ? ask_string(at->r, json_get(block, "id"), &p->id) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(at->r, json_get(block, "name"), &p->name);
    if (err != PD_OK)
        return err;
    if (!id_fine(p->id))
        return ask_refuse(at->r, "bad_request",
                          "messages.%u.content.%u.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
                          at->message, at->block);
    if (json_get(block, "input").type != JSON_OBJECT)
        return ask_refuse(at->r, "bad_request",
                          "messages.%u.content.%u.tool_use.input: Input should be a valid dictionary", at->message,
                          at->block);
    return PD_OK;
}

/* Texts of a result are its text, its images are media of the message. */
static pd_err read_result_content(struct place *at, struct said_part *p, struct json content)
{
    struct json_walk w;
    struct json block;
    pd_err err = ask_content_text(at->r, content, &p->text);
    json_walk_init(&w, content);
    while (err == PD_OK && content.type == JSON_ARRAY && json_walk_next(&w, NULL, &block)) {
        if (json_is(json_get(block, "type"), "image") || json_is(json_get(block, "type"), "document"))
            err = read_media(at, block, "tool_result");
        if (err == PD_OK && json_is(json_get(block, "type"), "text") && json_get(block, "text").raw.n <= 2)
            return ask_refuse(at->r, "bad_request", "messages: text content blocks must be non-empty");
    }
    return err;
}

static pd_err read_tool_result(struct place *at, struct json block)
{
    struct said *m = at->m;
    const struct said *before = ask_before(at->r->ask, m);
    bool late = false; /* something that is no result stands before it */
    for (const struct said_part *p = m->parts; p; p = p->next)
        late |= p->kind == SAID_TEXT;
    struct said_part *p = ask_part(at->r, m, SAID_RESULT);
    pd_err err = p ? ask_string(at->r, json_get(block, "tool_use_id"), &p->id) : PD_NOMEM;
    if (err != PD_OK)
        return err;
    if (!id_fine(p->id))
        return ask_refuse(at->r, "bad_request",
                          "messages.%u.content.%u.tool_result.tool_use_id: String should match pattern "
                          "'^[a-zA-Z0-9_-]+$'",
                          at->message, at->block);
    if (!before || before->role != SAID_ASSISTANT || !ask_call_of(before, p->id, SPAN_NONE))
        return ask_refuse(
            at->r, "bad_request",
            "messages.%u.content.%u: unexpected `tool_use_id` found in `tool_result` blocks: %.*s. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
            at->message, at->block, SPAN_FMT(span_upto(p->id, 100)));
    if (late)
        return ask_refuse(
            at->r, "bad_request",
            "messages.%u: `tool_use` ids were found without `tool_result` blocks immediately after: %.*s. "
            "Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
            at->message - 1, SPAN_FMT(span_upto(p->id, 100)));
    return read_result_content(at, p, json_get(block, "content"));
}

static pd_err read_thought(struct place *at, struct json block)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_THINKING);
    pd_err err = p ? ask_string(at->r, json_get(block, "thinking"), &p->text) : PD_NOMEM;
    if (err == PD_OK)
        err = ask_string(at->r, json_get(block, "signature"), &p->signature);
    if (err != PD_OK)
        return err;
    if (!sign_fits(MAKER_ANTHROPIC, "thinking", p->text, p->signature, at->r->mem))
        return ask_refuse(at->r, "bad_request", "messages.%u.content.%u: Invalid `signature` in `thinking` block",
                          at->message, at->block);
    return PD_OK;
}

static pd_err read_redacted(struct place *at, struct json block)
{
    struct said_part *p = ask_part(at->r, at->m, SAID_REDACTED);
    pd_err err = p ? ask_string(at->r, json_get(block, "data"), &p->signature) : PD_NOMEM;
    if (err == PD_OK && !sign_fits(MAKER_ANTHROPIC, "redacted", SPAN_NONE, p->signature, at->r->mem))
        return ask_refuse(at->r, "bad_request",
                          "messages.%u.content.%u: Invalid `data` in `redacted_thinking` block", at->message,
                          at->block);
    return err;
}

static pd_err read_block(struct place *at, struct json block)
{
    struct json type = json_get(block, "type");
    if (json_is(type, "text")) {
        struct json text = json_get(block, "text");
        if (text.type != JSON_STRING)
            return ask_refuse(at->r, "bad_request", "messages.%u.content.%u.text.text: Field required",
                              at->message, at->block);
        if (text.raw.n <= 2)
            return ask_refuse(at->r, "bad_request", "messages: text content blocks must be non-empty");
        return ask_text(at->r, at->m, SAID_TEXT, text);
    }
    if (json_is(type, "image"))
        return read_media(at, block, "image");
    if (json_is(type, "document"))
        return read_media(at, block, "document");
    if (json_is(type, "tool_use"))
        return read_tool_use(at, block);
    if (json_is(type, "tool_result"))
        return read_tool_result(at, block);
    if (json_is(type, "thinking"))
        return read_thought(at, block);
    if (json_is(type, "redacted_thinking"))
        return read_redacted(at, block);
    struct span name = json_inner(type);
    if (span_is(name, "server_tool_use") || span_ends(name, "_tool_result") || span_is(name, "search_result") ||
        span_is(name, "container_upload") || span_is(name, "mcp_tool_use") || span_is(name, "compaction"))
        return ask_part(at->r, at->m, SAID_OTHER) ? PD_OK : PD_NOMEM;
    return ask_refuse(
        at->r, "bad_request",
        "messages.%u.content.%u: Input tag '%.*s' found using 'type' does not match any of the expected "
        "tags: 'document', 'image', 'redacted_thinking', 'text', 'thinking', 'tool_result', 'tool_use'",
        at->message, at->block, SPAN_FMT(span_upto(name, 60)));
}

static pd_err read_message(struct reading *r, struct json message, unsigned number)
{
    struct json role = json_get(message, "role"), content = json_get(message, "content"), block;
    bool assistant = json_is(role, "assistant"), system = json_is(role, "system") && r->beta;
    struct json_walk w;
    if (json_is(role, "system") && !system)
        return ask_refuse(r, "bad_request",
                          "messages: Unexpected role \"system\". The Messages API accepts a top-level `system` "
                          "parameter, not \"system\" as an input message role.");
    if (!assistant && !system && !json_is(role, "user"))
        return ask_refuse(r, "bad_request", "messages.%u.role: Input should be 'user' or 'assistant'", number);
    if (number == 0 && assistant)
        return ask_refuse(r, "bad_request", "messages: first message must use the \"user\" role");
    /* turns of one role are one turn */
    enum said_role said = assistant ? SAID_ASSISTANT : system ? SAID_SYSTEM : SAID_USER;
    struct said *last = r->ask->said_last;
    struct place at = {r, last && last->role == said ? last : ask_say(r, said), number, 0};
    if (!at.m)
        return PD_NOMEM;
    if (content.type == JSON_STRING && content.raw.n <= 2 && !assistant)
        return ask_refuse(r, "bad_request",
                          "messages.%u: all messages must have non-empty content except for the optional final "
                          "assistant message",
                          number);
    if (content.type == JSON_STRING)
        return ask_text(r, at.m, SAID_TEXT, content);
    if (content.type != JSON_ARRAY)
        return ask_refuse(r, "bad_request", "messages.%u.content: Field required", number);
    pd_err err = PD_OK;
    json_walk_init(&w, content);
    for (; err == PD_OK && json_walk_next(&w, NULL, &block); at.block++)
        err = read_block(&at, block);
    if (err == PD_OK && at.block == 0 && !assistant)
        return ask_refuse(r, "bad_request",
                          "messages.%u: all messages must have non-empty content except for the optional final "
                          "assistant message",
                          number);
    return err;
}

/* ---- reading: the conversation ------------------------------------------------ */

static pd_err check_answered(struct reading *r)
{
    for (const struct said *m = r->ask->said; m; m = m->next)
        for (const struct said_part *c = m->parts; c; c = c->next) {
            bool answered = c->kind != SAID_CALL;
            const struct said *n = m->next;
            while (n && n->role == SAID_SYSTEM)
                n = n->next;
            for (const struct said_part *p = n ? n->parts : NULL; p; p = p->next)
                answered |= p->kind == SAID_RESULT && span_eq(p->id, c->id);
            if (!answered)
                return ask_refuse(
                    r, "bad_request",
                    "messages.%u: `tool_use` ids were found without `tool_result` blocks immediately "
                    "after: %.*s. Each `tool_use` block must have a corresponding `tool_result` block in "
                    "the next message.",
                    m->index, SPAN_FMT(span_upto(c->id, 100)));
        }
    return PD_OK;
}

/* With thinking on, the assistant's turn that is being gone on with starts with its thoughts. */
static pd_err check_thoughts(struct reading *r)
{
    const struct said *last = NULL;
    bool results = false;
    if (!json_is(json_path(r->ask->root, "thinking.type"), "enabled"))
        return PD_OK;
    for (const struct said *m = r->ask->said; m; m = m->next) {
        if (m->role == SAID_ASSISTANT)
            last = m;
        results = m->role == SAID_USER ? ask_count(m, SAID_RESULT) > 0 : results && m->role != SAID_ASSISTANT;
    }
    const struct said_part *first = last ? last->parts : NULL;
    bool going_on = results || r->ask->said_last == last;
    if (!first || !going_on || first->kind == SAID_THINKING || first->kind == SAID_REDACTED)
        return PD_OK;
    return ask_refuse(
        r, "bad_request",
        "messages.%u.content.0.type: Expected `thinking` or `redacted_thinking`, but found `%s`. When "
        "`thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding "
        "the lastmost set of `tool_use` and `tool_result` blocks). We recommend you include thinking "
        "blocks from previous turns. To avoid this requirement, disable `thinking`.",
        last->index, first->kind == SAID_CALL ? "tool_use" : "text");
}

static pd_err check_prefill(struct reading *r)
{
    const struct said *m = r->ask->said_last;
    if (m->role != SAID_ASSISTANT)
        return PD_OK;
    if (ask_model_refuses_prefill(r->ask->model))
        return ask_refuse(
            r, "bad_request",
            "This model does not support assistant message prefill. The conversation must end with a "
            "user message.");
    struct span text = m->last && m->last->kind == SAID_TEXT ? m->last->text : SPAN_NONE;
    if (text.n && memchr(" \t\r\n", text.p[text.n - 1], 4))
        return ask_refuse(r, "bad_request",
                          "messages: final assistant content cannot end with trailing whitespace");
    return PD_OK;
}

static pd_err read_system(struct reading *r)
{
    struct json system = json_get(r->ask->root, "system"), block;
    struct json_walk w;
    if (system.type == JSON_NONE)
        return PD_OK;
    json_walk_init(&w, system);
    while (system.type == JSON_ARRAY && json_walk_next(&w, NULL, &block))
        if (json_get(block, "text").raw.n <= 2)
            return ask_refuse(r, "bad_request", "system: text content blocks must be non-empty");
    struct said *m = ask_say(r, SAID_SYSTEM);
    struct said_part *p = m ? ask_part(r, m, SAID_TEXT) : NULL;
    r->ask->said_count = 0; /* messages are numbered without it */
    return p ? ask_content_text(r, system, &p->text) : PD_NOMEM;
}

pd_err messages_read(struct reading *r)
{
    struct ask *a = r->ask;
    struct json messages = json_get(a->root, "messages"), m;
    struct json_walk w;
    unsigned count = 0;
    pd_err err = check_fields(r);
    if (err == PD_OK && a->at.platform != PLATFORM_OWN)
        err = ask_path_model(r);
    else if (err == PD_OK)
        a->model = json_inner(json_get(a->root, "model"));
    if (err != PD_OK)
        return err;
    if (!a->model.n)
        return ask_refuse(r, "bad_request", "model: Field required");
    if (!json_i64(json_get(a->root, "max_tokens"), &a->max_tokens) && a->at.op != OP_COUNT)
        return ask_refuse(r, "bad_request", "max_tokens: Field required");
    if (a->max_tokens == 0 || a->max_tokens < -1)
        return ask_refuse(r, "bad_request", "max_tokens: Input should be greater than or equal to 1");
    if (messages.type != JSON_ARRAY)
        return ask_refuse(r, "bad_request", "messages: Field required");
    if (!a->at.by_path)
        a->streamed = json_is_true(json_get(a->root, "stream"));
    a->stops = json_get(a->root, "stop_sequences");
    a->prompt_tokens = messages.raw.n / 4 + 1;
    read_format(a);
    err = check_cache(r);
    if (err == PD_OK)
        err = read_system(r);
    json_walk_init(&w, messages);
    while (err == PD_OK && json_walk_next(&w, NULL, &m))
        err = read_message(r, m, count++);
    if (err == PD_OK && !count)
        return ask_refuse(r, "bad_request", "messages: at least one message is required");
    if (err == PD_OK)
        err = read_tools(r);
    if (err == PD_OK)
        err = read_choice(r);
    if (err == PD_OK)
        err = read_thinking(r);
    if (err == PD_OK)
        err = check_answered(r);
    if (err == PD_OK)
        err = check_thoughts(r);
    return err == PD_OK ? check_prefill(r) : err;
}

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
    const struct block *b = s->steps.block < s->steps.count ? &s->steps.blocks[s->steps.block] : NULL;
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
