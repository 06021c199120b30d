/* Requests of Anthropic Messages: what its servers refuse is refused in their words. */
#include "simulate/dialect.h"
#include "simulate/sign.h"

enum { CACHE_POINTS_MAX = 4, THINKING_BUDGET_MIN = 1024 };

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
