/* Requests of /api/chat and /api/generate into the neutral form. */
#include "dialect/ollama_priv.h"
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

static pd_err cannot(struct parse *p, const char *sentence)
{
    *p->why = sentence;
    return PD_UNSUPPORTED;
}

/* ---- content ------------------------------------------------------------------------ */

static pd_err add_text(struct parse *p, struct msg_turn *t, enum msg_part_kind kind, struct json text)
{
    if (json_inner(text).n == 0)
        return PD_OK;
    struct msg_part *part = msg_part_add(t, p->a, kind);
    if (!part)
        return PD_NOMEM;
    part->text = json_inner(text);
    return PD_OK;
}

/* An image's first bytes tell what it is; the format does not. */
static struct span image_type(struct span data)
{
    static const struct {
        const char *begins, *type;
    } rows[] = {
        {"iVBORw0KGgo", "image/png"}, {"/9j/", "image/jpeg"}, {"R0lGOD", "image/gif"}, {"UklGR", "image/webp"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_starts(data, rows[i].begins))
            return span_str(rows[i].type);
    return SPAN_LIT("image/png");
}

/* Into the turn, or, with `result`, into a tool's result. */
static pd_err add_images(struct parse *p, struct msg_turn *t, struct msg_part *result, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        if (item.type != JSON_STRING)
            return wrong(p, "\"images\" must be a list of texts in base64");
        struct msg_part *part =
            result ? msg_content_add(result, p->a, MSG_PART_MEDIA) : msg_part_add(t, p->a, MSG_PART_MEDIA);
        if (!part)
            return PD_NOMEM;
        part->media = MSG_IMAGE;
        if (span_starts(json_inner(item), "data:"))
            value_take_url(part, json_inner(item));
        else
            part->data = json_inner(item);
        if (!part->media_type.n)
            part->media_type = image_type(part->data);
    }
    return PD_OK;
}

/* ---- messages ------------------------------------------------------------------------- */

static pd_err add_calls(struct parse *p, struct msg_turn *t, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        struct json function = json_get(item, "function");
        struct msg_part *part = msg_part_add(t, p->a, MSG_PART_TOOL_CALL);
        if (!part)
            return PD_NOMEM;
        part->id = json_inner(json_get(item, "id"));
        part->name = json_inner(json_get(function, "name"));
        part->arguments = SPAN_LIT("{}");
        struct json arguments = json_get(function, "arguments");
        pd_err e = arguments.type > JSON_NULL ? value_take_arguments(arguments, p->a, part) : PD_OK;
        if (e)
            return e;
    }
    return PD_OK;
}

/* All results of one round stand in one user turn. */
static pd_err add_result(struct parse *p, struct json message)
{
    struct msg_turn *t = p->m->last;
    if (!t || t->role != MSG_USER || !t->last || t->last->kind != MSG_PART_TOOL_RESULT)
        t = msg_turn_add(p->m, p->a, MSG_USER);
    struct msg_part *part = t ? msg_part_add(t, p->a, MSG_PART_TOOL_RESULT) : NULL;
    struct msg_part *text = part ? msg_content_add(part, p->a, MSG_PART_TEXT) : NULL;
    if (!text)
        return PD_NOMEM;
    struct json name = json_get(message, "tool_name");
    part->name = json_inner(name.type == JSON_STRING ? name : json_get(message, "name"));
    part->id = json_inner(json_get(message, "tool_call_id"));
    text->text = json_inner(json_get(message, "content"));
    return add_images(p, t, part, json_get(message, "images"));
}

static pd_err add_message(void *ctx, struct json message)
{
    struct parse *p = ctx;
    static const struct {
        const char *word;
        enum msg_role role;
    } rows[] = {
        {"user", MSG_USER}, {"assistant", MSG_ASSISTANT}, {"system", MSG_SYSTEM}, {"developer", MSG_DEVELOPER}};
    struct json role = json_get(message, "role");
    if (json_is(role, "tool"))
        return add_result(p, message);
    size_t i = 0;
    while (i < sizeof(rows) / sizeof(rows[0]) && !json_is(role, rows[i].word))
        i++;
    if (i == sizeof(rows) / sizeof(rows[0]))
        return wrong(p, "a message has a \"role\" that is none of system, user, assistant, tool");
    struct msg_turn *t = msg_turn_add(p->m, p->a, rows[i].role);
    if (!t)
        return PD_NOMEM;
    pd_err e =
        rows[i].role == MSG_ASSISTANT ? add_text(p, t, MSG_PART_REASONING, json_get(message, "thinking")) : PD_OK;
    if (!e)
        e = add_text(p, t, MSG_PART_TEXT, json_get(message, "content"));
    if (!e)
        e = add_images(p, t, NULL, json_get(message, "images"));
    return e ? e : add_calls(p, t, json_get(message, "tool_calls"));
}

static pd_err add_messages(struct parse *p, struct json list)
{
    return value_messages(list, add_message, p, p->why);
}

/* ---- tools ------------------------------------------------------------------------------ */

static pd_err add_tools(struct parse *p, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        struct json function = json_get(item, "function"), schema = json_get(function, "parameters");
        struct msg_tool *t = msg_tool_add(p->m, p->a, MSG_TOOL_FUNCTION);
        if (!t)
            return PD_NOMEM;
        t->name = json_inner(json_get(function, "name"));
        t->description = json_inner(json_get(function, "description"));
        t->schema = schema.type == JSON_OBJECT ? schema.raw : SPAN_NONE;
    }
    return PD_OK;
}

/* ---- settings ----------------------------------------------------------------------------- */

static void take_stops(struct msg_request *m, struct json v)
{
    struct json_walk w;
    struct json item;
    if (json_inner(v).n)
        m->stops[m->stops_count++] = json_inner(v);
    json_walk_init(&w, v.type == JSON_ARRAY ? v : (struct json){0});
    while (json_walk_next(&w, NULL, &item)) {
        if (m->stops_count == MSG_STOPS_MAX)
            msg_drop(m, "options.stop");
        else if (json_inner(item).n)
            m->stops[m->stops_count++] = json_inner(item);
    }
}

/* How the model is run (its context's size, threads, ...) is for Ollama alone. */
static pd_err drop_option(struct parse *p, struct span key)
{
    char *name = arena_printf(p->a, "options.%.*s", SPAN_FMT(span_upto(key, 48)));
    return name ? msg_drop_span(p->m, p->a, span_str(name)) : PD_NOMEM;
}

static pd_err take_options(struct parse *p, struct json options)
{
    struct msg_request *m = p->m;
    struct {
        const char *key;
        struct span *at;
    } numbers[] = {{"temperature", &m->temperature},
                   {"top_p", &m->top_p},
                   {"top_k", &m->top_k},
                   {"min_p", &m->min_p},
                   {"seed", &m->seed},
                   {"presence_penalty", &m->presence_penalty},
                   {"frequency_penalty", &m->frequency_penalty}};
    enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_init(&w, options);
    while (json_walk_next(&w, &key, &v)) {
        size_t i = 0;
        int64_t n;
        while (i < NUMBERS && !json_key_is(key, numbers[i].key))
            i++;
        pd_err e = PD_OK;
        if (i < NUMBERS)
            *numbers[i].at = v.type == JSON_NUMBER ? v.raw : SPAN_NONE;
        else if (json_key_is(key, "stop"))
            take_stops(m, v);
        else if (json_key_is(key, "num_predict"))
            m->max_tokens = json_i64(v, &n) && n >= 0 ? n : -1; /* -1 and -2 mean no limit */
        else
            e = drop_option(p, key);
        if (e)
            return e;
    }
    return PD_OK;
}

static void take_format(struct msg_request *m, struct json v)
{
    if (json_is(v, "json")) {
        m->format = MSG_FORMAT_JSON;
    } else if (v.type == JSON_OBJECT) {
        m->format = MSG_FORMAT_SCHEMA;
        m->format_schema = v.raw;
    }
}

static void take_think(struct msg_request *m, struct json v)
{
    if (v.type == JSON_STRING)
        m->effort = value_effort(v);
    else if (v.type == JSON_BOOL)
        m->effort = json_is_true(v) ? MSG_EFFORT_MEDIUM : MSG_EFFORT_NONE;
    if (m->effort > MSG_EFFORT_NONE)
        m->reasoning_shown = 1;
}

/* What both kinds of requests have. *ret_taken: it was one of these. */
static pd_err take_member(struct parse *p, struct span key, struct json v, bool *ret_taken)
{
    struct msg_request *m = p->m;
    int64_t n;
    *ret_taken = true;
    if (json_key_is(key, "options"))
        return take_options(p, v);
    if (json_key_is(key, "format"))
        take_format(m, v);
    else if (json_key_is(key, "think"))
        take_think(m, v);
    else if (json_key_is(key, "logprobs"))
        m->logprobs = json_is_true(v);
    else if (json_key_is(key, "top_logprobs"))
        m->top_logprobs = json_i64(v, &n) ? n : -1;
    else
        *ret_taken = json_key_is(key, "model") || json_key_is(key, "stream") || v.type == JSON_NULL;
    return PD_OK;
}

typedef pd_err taker(struct parse *p, struct span key, struct json v, struct json *held, bool *ret_taken);

/* The members that stand for turns wait in `held` until all settings are read. */
static pd_err parse_members(struct parse *p, const struct request_facts *f, taker *own, struct json *held)
{
    struct json_walk w;
    struct span key;
    struct json body, v;
    msg_request_init(p->m);
    *p->why = NULL;
    if (json_doc(f->body, &body)) {
        *p->why = "the body is not valid JSON";
        return PD_SYNTAX;
    }
    p->m->model = f->model;
    p->m->stream = f->stream;
    p->m->include_usage = true;
    json_walk_init(&w, body);
    while (json_walk_next(&w, &key, &v)) {
        bool taken = false;
        pd_err e = own(p, key, v, held, &taken);
        if (!e && !taken)
            e = take_member(p, key, v, &taken);
        if (!e && !taken)
            e = msg_drop_span(p->m, p->a, key);
        if (e)
            return e;
    }
    return PD_OK;
}

static pd_err with_sentence(pd_err e, const char **why)
{
    if (e && !*why)
        *why = e == PD_NOMEM ? "out of memory while reading the request" : "the request cannot be read";
    return e;
}

/* ---- /api/chat ------------------------------------------------------------------------------ */

static pd_err take_chat(struct parse *p, struct span key, struct json v, struct json *held, bool *ret_taken)
{
    *ret_taken = true;
    if (json_key_is(key, "messages"))
        *held = v;
    else if (json_key_is(key, "tools"))
        return add_tools(p, v);
    else
        *ret_taken = false;
    return PD_OK;
}

pd_err ollama_parse_chat(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                         const char **ret_why)
{
    struct parse p = {ret, a, ret_why};
    struct json messages = {0};
    pd_err e = parse_members(&p, f, take_chat, &messages);
    if (!e)
        e = add_messages(&p, messages);
    return with_sentence(e ? e : msg_link(ret, a), ret_why);
}

/* ---- /api/generate --------------------------------------------------------------------------- */

enum { HELD_SYSTEM, HELD_PROMPT, HELD_IMAGES, HELD_COUNT };

static pd_err take_generate(struct parse *p, struct span key, struct json v, struct json *held, bool *ret_taken)
{
    *ret_taken = true;
    if (json_key_is(key, "system"))
        held[HELD_SYSTEM] = v;
    else if (json_key_is(key, "prompt"))
        held[HELD_PROMPT] = v;
    else if (json_key_is(key, "images"))
        held[HELD_IMAGES] = v;
    else if (json_key_is(key, "suffix") && json_inner(v).n)
        return cannot(p, "\"suffix\" asks for text between two texts, which only Ollama itself can write");
    else if (json_key_is(key, "context") && json_path(v, "0").type != JSON_NONE)
        return cannot(p,
                      "\"context\" holds a conversation as Ollama's own tokens: send it to /api/chat as messages");
    else
        *ret_taken = json_key_is(key, "suffix") || json_key_is(key, "context");
    return PD_OK;
}

pd_err ollama_parse_generate(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                             const char **ret_why)
{
    struct parse p = {ret, a, ret_why};
    struct json held[HELD_COUNT] = {0};
    pd_err e = parse_members(&p, f, take_generate, held);
    if (!e && json_inner(held[HELD_PROMPT]).n == 0)
        e = wrong(&p, "\"prompt\" is empty");
    if (!e && json_inner(held[HELD_SYSTEM]).n) {
        struct msg_turn *system = msg_turn_add(ret, a, MSG_SYSTEM);
        e = system ? add_text(&p, system, MSG_PART_TEXT, held[HELD_SYSTEM]) : PD_NOMEM;
    }
    struct msg_turn *user = e ? NULL : msg_turn_add(ret, a, MSG_USER);
    if (!e)
        e = user ? add_text(&p, user, MSG_PART_TEXT, held[HELD_PROMPT]) : PD_NOMEM;
    if (!e)
        e = add_images(&p, user, NULL, held[HELD_IMAGES]);
    return with_sentence(e, ret_why);
}

pd_err ollama_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret)
{
    const char *why;
    struct parse p = {ret, a, &why};
    msg_request_init(ret);
    return request_lenient(add_tools(&p, request_member(f, "tools")));
}
