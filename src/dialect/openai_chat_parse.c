/* A chat request into the neutral form. */
#include "dialect/openai_chat_priv.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

struct parse {
    struct msg_request *m;
    struct arena *a;
    const char **why;
};

static pd_err wrong(struct parse *p, const char *sentence)
{
    *p->why = sentence;
    return PD_INVALID;
}

/* ---- small values ---------------------------------------------------------------- */

static int64_t count_of(struct json v, int64_t otherwise)
{
    int64_t n;
    return json_i64(v, &n) ? n : otherwise;
}

/* ---- parts ------------------------------------------------------------------------ */

static void take_cache(struct msg_part *part, struct json v)
{
    struct json cache = json_get(v, "cache_control");
    part->cache = cache.type == JSON_OBJECT;
    part->cache_ttl = json_inner(json_get(cache, "ttl"));
}

/* "audio": {"data", "format": "wav"}. */
static pd_err take_audio(struct parse *p, struct msg_part *part, struct json audio)
{
    struct span format = json_inner(json_get(audio, "format"));
    char *type = arena_printf(p->a, "audio/%.*s", SPAN_FMT(format.n ? format : SPAN_LIT("wav")));
    if (!type)
        return PD_NOMEM;
    part->media = MSG_AUDIO;
    part->media_type = span_str(type);
    part->data = json_inner(json_get(audio, "data"));
    return PD_OK;
}

static void take_file(struct msg_part *part, struct json file)
{
    struct json data = json_get(file, "file_data");
    part->file_name = json_inner(json_get(file, "filename"));
    part->file_id = json_inner(json_get(file, "file_id"));
    if (data.type == JSON_STRING)
        value_take_url(part, json_inner(data));
    if (part->url.p && !span_has(part->url, "://")) { /* bare base64 */
        part->data = part->url;
        part->url = SPAN_NONE;
        part->media_type = SPAN_LIT("application/pdf");
    }
    part->media = part->media_type.n ? value_media(part->media_type) : MSG_DOCUMENT;
    if (part->file_id.n)
        part->maker = MSG_MAKER_OPENAI;
}

enum { KINDS_NOTHING = -1 };

/* Which neutral part a content part of this type is; KINDS_NOTHING: none that is known. */
static int kind_of(struct json type)
{
    static const struct {
        const char *type;
        enum msg_part_kind kind;
    } rows[] = {
        {"text", MSG_PART_TEXT},       {"input_text", MSG_PART_TEXT}, {"output_text", MSG_PART_TEXT},
        {"refusal", MSG_PART_REFUSAL}, {"image_url", MSG_PART_MEDIA}, {"input_audio", MSG_PART_MEDIA},
        {"file", MSG_PART_MEDIA},      {"video_url", MSG_PART_MEDIA}, {"thinking", MSG_PART_REASONING},
        {"audio_url", MSG_PART_MEDIA},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_is(type, rows[i].type))
            return (int)rows[i].kind;
    return KINDS_NOTHING;
}

static struct span text_of(struct json v)
{
    struct json text = json_get(v, "text");
    return json_inner(text.type == JSON_STRING ? text : json_get(v, "refusal"));
}

static pd_err fill_media(struct parse *p, struct msg_part *part, struct json v)
{
    static const struct {
        const char *key;
        enum msg_media media;
    } rows[] = {{"image_url", MSG_IMAGE}, {"video_url", MSG_VIDEO}, {"audio_url", MSG_AUDIO}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct json at = json_get(v, rows[i].key);
        if (at.type == JSON_NONE)
            continue;
        part->media = rows[i].media;
        part->detail = json_inner(json_get(at, "detail"));
        value_take_url(part, json_inner(at.type == JSON_STRING ? at : json_get(at, "url")));
        return PD_OK;
    }
    struct json audio = json_get(v, "input_audio");
    if (audio.type == JSON_OBJECT)
        return take_audio(p, part, audio);
    take_file(part, json_get(v, "file"));
    return PD_OK;
}

static pd_err fill_part(struct parse *p, struct msg_part *part, struct json v)
{
    take_cache(part, v);
    switch (part->kind) {
    case MSG_PART_TEXT:
    case MSG_PART_REFUSAL:
        part->text = text_of(v);
        break;
    case MSG_PART_REASONING: { /* Mistral: {"type":"thinking","thinking":[{"type":"text","text":...}]} */
        struct json thinking = json_get(v, "thinking");
        part->text = json_inner(thinking.type == JSON_STRING ? thinking : json_path(thinking, "0.text"));
        break;
    }
    case MSG_PART_MEDIA:
        return fill_media(p, part, v);
    case MSG_PART_TOOL_CALL:
    case MSG_PART_TOOL_RESULT:
        break;
    }
    return PD_OK;
}

static pd_err unknown_part(struct parse *p, struct json type)
{
    char *text = arena_printf(p->a,
                              "a message has a content part of type \"%.*s\", which cannot be carried to a "
                              "provider of another format",
                              SPAN_FMT(span_upto(json_inner(type), 40)));
    *p->why = text ? text : "a content part cannot be carried to a provider of another format";
    return PD_UNSUPPORTED;
}

/* Content into the turn, or, with `result`, into a tool's result. */
static pd_err take_content(struct parse *p, struct msg_turn *t, struct msg_part *result, struct json content)
{
    if (content.type == JSON_STRING) {
        if (json_inner(content).n == 0 && !result)
            return PD_OK;
        struct msg_part *part =
            result ? msg_content_add(result, p->a, MSG_PART_TEXT) : msg_part_add(t, p->a, MSG_PART_TEXT);
        if (!part)
            return PD_NOMEM;
        part->text = json_inner(content);
        return PD_OK;
    }
    struct json_walk w;
    struct json v;
    json_walk_init(&w, content);
    while (json_walk_next(&w, NULL, &v)) {
        int kind = v.type == JSON_STRING ? MSG_PART_TEXT : kind_of(json_get(v, "type"));
        if (kind == KINDS_NOTHING)
            return unknown_part(p, json_get(v, "type"));
        struct msg_part *part = result ? msg_content_add(result, p->a, (enum msg_part_kind)kind)
                                       : msg_part_add(t, p->a, (enum msg_part_kind)kind);
        if (!part)
            return PD_NOMEM;
        if (v.type == JSON_STRING)
            part->text = json_inner(v);
        pd_err e = v.type == JSON_OBJECT ? fill_part(p, part, v) : PD_OK;
        if (e)
            return e;
    }
    return PD_OK;
}

/* ---- calls ------------------------------------------------------------------------ */

static pd_err take_call(struct parse *p, struct msg_turn *t, struct json call, struct json id)
{
    struct msg_part *part = msg_part_add(t, p->a, MSG_PART_TOOL_CALL);
    if (!part)
        return PD_NOMEM;
    part->id = json_inner(id);
    part->name = json_inner(json_get(call, "name"));
    struct json input = json_get(call, "input");
    if (input.type == JSON_STRING) {
        part->custom = true;
        part->text = json_inner(input);
        return PD_OK;
    }
    return value_take_arguments(json_get(call, "arguments"), p->a, part);
}

static pd_err take_calls(struct parse *p, struct msg_turn *t, struct json list)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        struct json call = json_get(v, "function");
        if (call.type != JSON_OBJECT)
            call = json_get(v, "custom");
        pd_err e = take_call(p, t, call, json_get(v, "id"));
        if (e)
            return e;
        /* Gemini's compatible endpoint carries its signature here. */
        struct json signature = json_path(v, "extra_content.google.thought_signature");
        if (json_inner(signature).n) {
            t->last->signature = json_inner(signature);
            t->last->maker = MSG_MAKER_GEMINI;
        }
    }
    return PD_OK;
}

/* ---- messages --------------------------------------------------------------------- */

static pd_err take_reasoning(struct parse *p, struct msg_turn *t, struct json message)
{
    struct json v = json_get(message, "reasoning_content");
    if (json_inner(v).n == 0)
        v = json_get(message, "reasoning");
    if (json_inner(v).n == 0)
        return PD_OK;
    struct msg_part *part = msg_part_add(t, p->a, MSG_PART_REASONING);
    if (!part)
        return PD_NOMEM;
    part->text = json_inner(v);
    return PD_OK;
}

static pd_err take_assistant(struct parse *p, struct msg_turn *t, struct json message)
{
    struct json legacy = json_get(message, "function_call"), refusal = json_get(message, "refusal");
    pd_err e = take_reasoning(p, t, message);
    if (!e)
        e = take_content(p, t, NULL, json_get(message, "content"));
    if (!e && json_inner(refusal).n) {
        struct msg_part *part = msg_part_add(t, p->a, MSG_PART_REFUSAL);
        if (!part)
            return PD_NOMEM;
        part->text = json_inner(refusal);
    }
    if (!e)
        e = take_calls(p, t, json_get(message, "tool_calls"));
    if (!e && legacy.type == JSON_OBJECT)
        e = take_call(p, t, legacy, (struct json){0});
    return e;
}

/* All results of one round of calls stand in one user turn. */
static pd_err take_result(struct parse *p, struct json message)
{
    struct msg_turn *t = p->m->last;
    if (!t || t->role != MSG_USER || !t->last || t->last->kind != MSG_PART_TOOL_RESULT)
        t = msg_turn_add(p->m, p->a, MSG_USER);
    struct msg_part *part = t ? msg_part_add(t, p->a, MSG_PART_TOOL_RESULT) : NULL;
    if (!part)
        return PD_NOMEM;
    part->id = json_inner(json_get(message, "tool_call_id"));
    part->name = json_inner(json_get(message, "name"));
    take_cache(part, message);
    return take_content(p, t, part, json_get(message, "content"));
}

static pd_err take_message(void *ctx, struct json message)
{
    struct parse *p = ctx;
    struct json role = json_get(message, "role");
    if (message.type != JSON_OBJECT)
        return wrong(p, "an item of \"messages\" is not an object");
    if (json_is(role, "tool") || json_is(role, "function"))
        return take_result(p, message);
    bool assistant = json_is(role, "assistant") || json_is(role, "model");
    bool known = assistant || json_is(role, "user") || json_is(role, "system") || json_is(role, "developer");
    if (!known)
        return wrong(p, "a message has a \"role\" that is none of system, developer, user, assistant, tool");
    struct msg_turn *t = msg_turn_add(p->m, p->a,
                                      assistant                    ? MSG_ASSISTANT
                                      : json_is(role, "user")      ? MSG_USER
                                      : json_is(role, "developer") ? MSG_DEVELOPER
                                                                   : MSG_SYSTEM);
    if (!t)
        return PD_NOMEM;
    t->name = json_inner(json_get(message, "name"));
    pd_err e = assistant ? take_assistant(p, t, message) : take_content(p, t, NULL, json_get(message, "content"));
    if (!e && t->last && json_get(message, "cache_control").type == JSON_OBJECT)
        take_cache(t->last, message);
    return e;
}

static pd_err take_messages(struct parse *p, struct json list)
{
    return value_messages(list, take_message, p, p->why);
}

/* ---- tools ------------------------------------------------------------------------ */

static pd_err take_function(struct parse *p, struct json function, struct json around)
{
    struct msg_tool *t = msg_tool_add(p->m, p->a, MSG_TOOL_FUNCTION);
    if (!t)
        return PD_NOMEM;
    struct json schema = json_get(function, "parameters"), cache = json_get(around, "cache_control");
    t->name = json_inner(json_get(function, "name"));
    t->description = json_inner(json_get(function, "description"));
    t->schema = schema.type == JSON_OBJECT ? schema.raw : SPAN_NONE;
    t->strict = value_tristate(json_get(function, "strict"));
    t->cache = cache.type == JSON_OBJECT;
    t->cache_ttl = json_inner(json_get(cache, "ttl"));
    return PD_OK;
}

static pd_err take_tool(struct parse *p, struct json v)
{
    struct json type = json_get(v, "type"), custom = json_get(v, "custom");
    if (json_is(type, "function") || json_get(v, "function").type == JSON_OBJECT)
        return take_function(p, json_get(v, "function"), v);
    struct msg_tool *t = msg_tool_add(p->m, p->a, json_is(type, "custom") ? MSG_TOOL_CUSTOM : MSG_TOOL_HOSTED);
    if (!t)
        return PD_NOMEM;
    t->raw = t->kind == MSG_TOOL_HOSTED ? v.raw : json_get(custom, "format").raw;
    t->name = json_inner(json_is(type, "custom") ? json_get(custom, "name") : type);
    t->description = json_inner(json_get(custom, "description"));
    return PD_OK;
}

static pd_err take_tools(struct parse *p, struct json list, bool legacy)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        pd_err e = legacy ? take_function(p, v, v) : take_tool(p, v);
        if (e)
            return e;
    }
    return PD_OK;
}

static void take_choice(struct msg_request *m, struct json v)
{
    struct json name = json_path(v, "function.name");
    if (name.type == JSON_NONE)
        name = json_path(v, "custom.name");
    if (name.type == JSON_NONE)
        name = json_get(v, "name"); /* function_call of old */
    if (json_is(v, "auto"))
        m->choice = MSG_CHOICE_AUTO;
    else if (json_is(v, "none"))
        m->choice = MSG_CHOICE_NONE;
    else if (json_is(v, "required") || json_is(v, "any"))
        m->choice = MSG_CHOICE_REQUIRED;
    else if (json_inner(name).n)
        m->choice = MSG_CHOICE_NAMED;
    m->choice_name = m->choice == MSG_CHOICE_NAMED ? json_inner(name) : SPAN_NONE;
}

/* ---- settings --------------------------------------------------------------------- */

static void take_format(struct msg_request *m, struct json v)
{
    struct json type = json_get(v, "type"), schema = json_get(v, "json_schema");
    if (json_is(type, "text"))
        m->format = MSG_FORMAT_TEXT;
    else if (json_is(type, "json_object"))
        m->format = MSG_FORMAT_JSON;
    else if (json_is(type, "json_schema"))
        m->format = MSG_FORMAT_SCHEMA;
    m->format_name = json_inner(json_get(schema, "name"));
    m->format_description = json_inner(json_get(schema, "description"));
    m->format_schema = json_get(schema, "schema").raw;
    m->format_strict = value_tristate(json_get(schema, "strict"));
    if (m->format == MSG_FORMAT_SCHEMA && !m->format_schema.n)
        m->format = MSG_FORMAT_JSON;
}

/* OpenRouter's "reasoning" object, DeepSeek's and Anthropic's "thinking". */
static void take_thinking(struct msg_request *m, struct json v)
{
    struct json effort = json_get(v, "effort"), type = json_get(v, "type");
    if (effort.type == JSON_STRING)
        m->effort = value_effort(effort);
    int64_t budget = count_of(json_get(v, "max_tokens"), count_of(json_get(v, "budget_tokens"), -1));
    if (budget >= 0)
        m->reasoning_tokens = budget;
    if (json_is(type, "disabled") ||
        (json_get(v, "enabled").type == JSON_BOOL && !json_is_true(json_get(v, "enabled"))))
        m->effort = MSG_EFFORT_NONE;
    else if (json_is(type, "enabled") && m->effort == MSG_EFFORT_UNSAID)
        m->effort = MSG_EFFORT_MEDIUM;
}

static void take_stops(struct msg_request *m, struct json v)
{
    struct json_walk w;
    struct json item;
    if (v.type == JSON_STRING)
        m->stops[m->stops_count++] = json_inner(v);
    json_walk_init(&w, v.type == JSON_ARRAY ? v : (struct json){0});
    while (json_walk_next(&w, NULL, &item))
        if (item.type == JSON_STRING && m->stops_count < MSG_STOPS_MAX)
            m->stops[m->stops_count++] = json_inner(item);
}

/* A member that is one value of the neutral form. False: it is another. */
static bool take_value(struct msg_request *m, struct span key, struct json v)
{
    const struct {
        const char *key;
        struct span *number, *text;
    } rows[] = {
        {"temperature", &m->temperature, NULL},
        {"top_p", &m->top_p, NULL},
        {"top_k", &m->top_k, NULL},
        {"min_p", &m->min_p, NULL},
        {"seed", &m->seed, NULL},
        {"presence_penalty", &m->presence_penalty, NULL},
        {"frequency_penalty", &m->frequency_penalty, NULL},
        {"user", NULL, &m->user},
        {"safety_identifier", NULL, &m->user},
        {"service_tier", NULL, &m->service_tier},
        {"prompt_cache_key", NULL, &m->cache_key},
        {"verbosity", NULL, &m->verbosity},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!json_key_is(key, rows[i].key))
            continue;
        if (rows[i].number)
            *rows[i].number = value_number(v);
        else
            *rows[i].text = json_inner(v);
        return true;
    }
    return false;
}

static bool take_setting(struct msg_request *m, struct span key, struct json v)
{
    if (json_key_is(key, "max_completion_tokens"))
        m->max_tokens = count_of(v, m->max_tokens);
    else if (json_key_is(key, "max_tokens"))
        m->max_tokens = m->max_tokens >= 0 ? m->max_tokens : count_of(v, -1);
    else if (json_key_is(key, "n"))
        m->n = count_of(v, -1);
    else if (json_key_is(key, "logprobs"))
        m->logprobs = json_is_true(v);
    else if (json_key_is(key, "top_logprobs"))
        m->top_logprobs = count_of(v, -1);
    else if (json_key_is(key, "stop"))
        take_stops(m, v);
    else if (json_key_is(key, "parallel_tool_calls"))
        m->parallel = value_tristate(v);
    else if (json_key_is(key, "tool_choice") || json_key_is(key, "function_call"))
        take_choice(m, v);
    else if (json_key_is(key, "response_format"))
        take_format(m, v);
    else if (json_key_is(key, "reasoning_effort"))
        m->effort = value_effort(v);
    else if (json_key_is(key, "reasoning") || json_key_is(key, "thinking"))
        take_thinking(m, v);
    else
        return false;
    return true;
}

/* Members that say nothing about the answer: storing, naming and measuring at the maker's. */
static bool is_silent(struct span key)
{
    static const char *const keys[] = {"model", "stream", "stream_options", "metadata", "store"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_key_is(key, keys[i]))
            return true;
    return false;
}

static pd_err take_member(struct parse *p, struct span key, struct json v)
{
    if (json_key_is(key, "messages"))
        return take_messages(p, v);
    if (v.type == JSON_NULL || is_silent(key))
        return PD_OK;
    if (json_key_is(key, "tools") || json_key_is(key, "functions"))
        return take_tools(p, v, json_key_is(key, "functions"));
    if (take_value(p->m, key, v) || take_setting(p->m, key, v))
        return PD_OK;
    return msg_drop_span(p->m, p->a, key);
}

pd_err chat_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                          const char **ret_why)
{
    struct parse p = {ret, a, ret_why};
    struct json_walk w;
    struct span key;
    struct json v;
    bool messages = false;
    msg_request_init(ret);
    ret->model = f->model;
    ret->stream = f->stream;
    ret->include_usage = f->include_usage;
    *ret_why = "out of memory while reading the request";
    json_walk_doc(&w, f->body);
    while (json_walk_next(&w, &key, &v)) {
        messages |= json_key_is(key, "messages");
        pd_err e = take_member(&p, key, v);
        if (e)
            return e;
    }
    if (!messages)
        return wrong(&p, "the request has no \"messages\"");
    return msg_link(ret, a);
}

pd_err chat_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret)
{
    const char *why;
    struct parse p = {ret, a, &why};
    msg_request_init(ret);
    pd_err e = take_tools(&p, request_member(f, "tools"), false);
    if (!e)
        e = take_tools(&p, request_member(f, "functions"), true);
    return request_lenient(e);
}
