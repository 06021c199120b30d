/* A chat.completion as the stream that a client asked for: for each choice its message, then its finish reason. */
#include "dialect/openai_chat_priv.h"

/* The body taken apart. */
struct answer_parts {
    struct json top, choices, usage;
    bool include_usage;
};

/* A value without its line ends, which would end the event's line. They only stand between tokens: in strings they are escaped. */
static pd_err put_raw(struct buf *out, struct span raw)
{
    pd_err e = PD_OK;
    while (!e && raw.p) {
        struct span line = span_cut(&raw, '\n');
        while (!e && line.p)
            e = buf_add(out, span_cut(&line, '\r'));
    }
    return e;
}

static pd_err put_member(struct buf *out, struct span key, struct json v)
{
    pd_err e = buf_puts(out, ",\"");
    if (!e)
        e = buf_add(out, key);
    if (!e)
        e = buf_puts(out, "\":");
    return e ? e : put_raw(out, v.raw);
}

/* What is in every chunk: the answer's own fields. The large ones (lists, objects) only in the first. */
static pd_err put_head(struct buf *out, const struct answer_parts *p, bool first)
{
    struct json_walk w;
    struct span key;
    struct json v;
    pd_err e = buf_puts(out, "data: {\"object\":\"chat.completion.chunk\"");
    json_walk_init(&w, p->top);
    while (!e && json_walk_next(&w, &key, &v)) {
        bool own = json_key_is(key, "object") || json_key_is(key, "choices") || json_key_is(key, "usage");
        if (!own && (first || (v.type != JSON_OBJECT && v.type != JSON_ARRAY)))
            e = put_member(out, key, v);
    }
    return e ? e : buf_puts(out, ",\"choices\":[");
}

static pd_err put_tail(struct buf *out, const struct answer_parts *p)
{
    return buf_puts(out, p->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

/* Arguments that are an object become the text of it, as streams have it. */
static pd_err put_function(struct buf *out, struct json function)
{
    struct json_walk w;
    struct span key;
    struct json v;
    bool first = true;
    pd_err e = buf_puts(out, "{");
    json_walk_init(&w, function);
    while (!e && json_walk_next(&w, &key, &v)) {
        bool as_text = json_key_is(key, "arguments") && (v.type == JSON_OBJECT || v.type == JSON_ARRAY);
        e = buf_printf(out, "%s\"%.*s\":", first ? "" : ",", SPAN_FMT(key));
        first = false;
        if (!e)
            e = as_text ? json_put_str(out, v.raw) : put_raw(out, v.raw);
    }
    return e ? e : buf_puts(out, "}");
}

static pd_err put_tool(struct buf *out, struct json tool, unsigned index)
{
    struct json_walk w;
    struct span key;
    struct json v;
    pd_err e = buf_printf(out, "%s{\"index\":%u", index ? "," : "", index);
    json_walk_init(&w, tool);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "index"))
            continue;
        if (!json_key_is(key, "function") || v.type != JSON_OBJECT) {
            e = put_member(out, key, v);
            continue;
        }
        e = buf_puts(out, ",\"function\":");
        if (!e)
            e = put_function(out, v);
    }
    return e ? e : buf_puts(out, "}");
}

static pd_err put_tools(struct buf *out, struct json list)
{
    struct json_walk w;
    struct json tool;
    unsigned index = 0;
    pd_err e = buf_puts(out, ",\"tool_calls\":[");
    json_walk_init(&w, list);
    while (!e && json_walk_next(&w, NULL, &tool))
        if (tool.type == JSON_OBJECT)
            e = put_tool(out, tool, index++);
    return e ? e : buf_puts(out, "]");
}

static pd_err put_delta(struct buf *out, struct json message)
{
    struct json_walk w;
    struct span key;
    struct json v, role = json_get(message, "role");
    pd_err e = buf_puts(out, "{\"role\":");
    if (!e)
        e = role.type == JSON_STRING ? buf_add(out, role.raw) : buf_puts(out, "\"assistant\"");
    json_walk_init(&w, message);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "role"))
            continue;
        e = json_key_is(key, "tool_calls") && v.type == JSON_ARRAY ? put_tools(out, v) : put_member(out, key, v);
    }
    return e ? e : buf_puts(out, "}");
}

static pd_err put_message_chunk(struct buf *out, const struct answer_parts *p, struct json choice, int64_t index,
                                bool first)
{
    struct json logprobs = json_get(choice, "logprobs");
    pd_err e = put_head(out, p, first);
    if (!e)
        e = buf_printf(out, "{\"index\":%lld,\"delta\":", (long long)index);
    if (!e)
        e = put_delta(out, json_get(choice, "message"));
    if (!e)
        e = put_member(out, SPAN_LIT("logprobs"),
                       logprobs.type == JSON_NONE ? (struct json){JSON_NULL, SPAN_LIT("null")} : logprobs);
    if (!e)
        e = buf_puts(out, ",\"finish_reason\":null}");
    return e ? e : put_tail(out, p);
}

static pd_err put_finish_chunk(struct buf *out, const struct answer_parts *p, struct json choice, int64_t index)
{
    struct json_walk w;
    struct span key;
    struct json v;
    bool finish = false;
    pd_err e = put_head(out, p, false);
    if (!e)
        e = buf_printf(out, "{\"index\":%lld,\"delta\":{}", (long long)index);
    json_walk_init(&w, choice);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "index") || json_key_is(key, "message") || json_key_is(key, "logprobs") ||
            json_key_is(key, "text"))
            continue;
        finish |= json_key_is(key, "finish_reason");
        e = put_member(out, key, v);
    }
    if (!e && !finish)
        e = buf_puts(out, ",\"finish_reason\":null");
    if (!e)
        e = buf_puts(out, "}");
    return e ? e : put_tail(out, p);
}

static pd_err put_choices(struct buf *out, const struct answer_parts *p)
{
    struct json_walk w;
    struct json choice;
    bool first = true;
    pd_err e = PD_OK;
    json_walk_init(&w, p->choices);
    for (int64_t at = 0; !e && json_walk_next(&w, NULL, &choice); at++) {
        int64_t index;
        if (!json_i64(json_get(choice, "index"), &index) || index < 0)
            index = at;
        e = put_message_chunk(out, p, choice, index, first);
        first = false;
        if (!e)
            e = put_finish_chunk(out, p, choice, index);
    }
    return e;
}

static pd_err put_usage(struct buf *out, const struct answer_parts *p)
{
    if (!p->include_usage || p->usage.type != JSON_OBJECT)
        return PD_OK;
    pd_err e = put_head(out, p, false);
    if (!e)
        e = buf_puts(out, "],\"usage\":");
    if (!e)
        e = put_raw(out, p->usage.raw);
    return e ? e : buf_puts(out, "}\n\n");
}

pd_err answer_expand(const struct codec *c, struct span body, bool include_usage, struct buf *out)
{
    (void)c;
    struct answer_parts p = {.include_usage = include_usage};
    struct span text = span_trim(body);
    size_t before = buf_size(out);
    if (json_doc(text, &p.top))
        return PD_SYNTAX;
    p.choices = json_get(p.top, "choices");
    p.usage = json_get(p.top, "usage");
    if (p.choices.type != JSON_ARRAY)
        return PD_INVALID;
    pd_err e = put_choices(out, &p);
    if (!e)
        e = put_usage(out, &p);
    if (!e)
        e = buf_puts(out, "data: [DONE]\n\n");
    if (e)
        out->tail = out->head + before;
    return e;
}
