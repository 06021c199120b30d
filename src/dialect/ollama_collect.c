/* A stream of lines, collected into the one object that Ollama answers with when it does not stream. */
#include "dialect/ollama_priv.h"

struct ollama_collector_state {
    struct collector base;
    size_t limit_bytes, kept_bytes;
    struct buf text, thinking;  /* escaped */
    struct buf calls, logprobs; /* raw items, joined by commas */
    struct buf last;            /* raw: the last line, which has all that is said once */
    bool generate;
};

enum { KEPT = 5 };
static void kept(struct ollama_collector_state *k, struct buf *bufs[KEPT])
{
    bufs[0] = &k->text;
    bufs[1] = &k->thinking;
    bufs[2] = &k->calls;
    bufs[3] = &k->logprobs;
    bufs[4] = &k->last;
}

static pd_err init(struct collector *base, size_t limit_bytes)
{
    struct ollama_collector_state *k = (struct ollama_collector_state *)base;
    struct buf *bufs[KEPT];
    k->limit_bytes = limit_bytes;
    kept(k, bufs);
    for (int i = 0; i < KEPT; i++)
        buf_init(bufs[i], limit_bytes);
    return PD_OK;
}

static void done(struct collector *base)
{
    struct buf *bufs[KEPT];
    kept((struct ollama_collector_state *)base, bufs);
    for (int i = 0; i < KEPT; i++)
        buf_done(bufs[i]);
}

static pd_err grow(struct ollama_collector_state *k, struct buf *b, struct span s, const char *between)
{
    if (s.n + 1 > k->limit_bytes - k->kept_bytes)
        return PD_TOOBIG;
    if (!s.n)
        return PD_OK;
    k->kept_bytes += s.n + 1;
    pd_err e = buf_size(b) ? buf_puts(b, between) : PD_OK;
    return e ? e : buf_add(b, s);
}

static pd_err grow_list(struct ollama_collector_state *k, struct buf *b, struct json list)
{
    struct json_walk w;
    struct json item;
    pd_err e = PD_OK;
    json_walk_init(&w, list.type == JSON_ARRAY ? list : (struct json){0});
    while (!e && json_walk_next(&w, NULL, &item))
        e = grow(k, b, item.raw, ",");
    return e;
}

static pd_err add(struct collector *base, struct span type, struct json chunk)
{
    struct ollama_collector_state *k = (struct ollama_collector_state *)base;
    (void)type;
    struct json message = json_get(chunk, "message"), response = json_get(chunk, "response");
    bool chat = message.type == JSON_OBJECT;
    k->generate = !chat && response.type == JSON_STRING;
    pd_err e = grow(k, &k->text, json_inner(chat ? json_get(message, "content") : response), "");
    if (!e)
        e = grow(k, &k->thinking, json_inner(json_get(chat ? message : chunk, "thinking")), "");
    if (!e)
        e = grow_list(k, &k->calls, json_get(message, "tool_calls"));
    if (!e)
        e = grow_list(k, &k->logprobs, json_get(chunk, "logprobs"));
    buf_clear(&k->last);
    return e ? e : buf_add(&k->last, chunk.raw);
}

/* ---- the object ------------------------------------------------------------------------ */

/* The members of an object but for those that are collected, each with a comma before it; `first`: the first has none. */
static void put_others(struct put *p, struct json obj, const char *const *collected, bool *first)
{
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &v)) {
        bool skip = false;
        for (const char *const *name = collected; *name; name++)
            skip |= json_key_is(key, *name);
        if (skip)
            continue;
        put_escaped(p, *first ? "" : ",", key);
        *first = false;
        put_text(p, ":");
        put_span(p, v.raw);
    }
}

static void put_list(struct put *p, const char *before, const struct buf *items)
{
    if (!buf_size(items))
        return;
    put_text(p, before);
    put_span(p, buf_span(items));
    put_text(p, "]");
}

static void put_said(struct ollama_collector_state *k, struct put *p, struct json last)
{
    static const char *const collected[] = {"role", "content", "thinking", "tool_calls", NULL};
    bool first = false;
    if (k->generate)
        put_escaped(p, "\"response\":", buf_span(&k->text));
    else
        put_escaped(p, "\"message\":{\"role\":\"assistant\",\"content\":", buf_span(&k->text));
    if (buf_size(&k->thinking))
        put_escaped(p, ",\"thinking\":", buf_span(&k->thinking));
    if (k->generate)
        return;
    put_list(p, ",\"tool_calls\":[", &k->calls);
    put_others(p, json_get(last, "message"), collected, &first);
    put_text(p, "}");
}

static pd_err write(struct collector *base, struct buf *out)
{
    static const char *const collected[] = {"message", "response", "thinking", "logprobs", NULL};
    struct ollama_collector_state *k = (struct ollama_collector_state *)base;
    struct json last = {buf_size(&k->last) ? JSON_OBJECT : JSON_NONE, buf_span(&k->last)};
    struct put p = put_into(out);
    bool first = true;
    put_text(&p, "{");
    put_others(&p, last, collected, &first);
    put_text(&p, first ? "" : ",");
    put_said(k, &p, last);
    put_list(&p, ",\"logprobs\":[", &k->logprobs);
    put_text(&p, "}");
    return p.err;
}

const struct collector_ops ollama_collector = {
    .bytes = sizeof(struct ollama_collector_state),
    .init = init,
    .done = done,
    .add = add,
    .write = write,
};
