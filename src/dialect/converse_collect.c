/* A Converse stream, collected into the body that Converse answers with. */
#include "dialect/converse_priv.h"

#include "base/mem.h"

enum { COLLECT_BLOCKS_MAX = 8192 };

struct collect_block {
    struct collect_block *next; /* in order of index */
    int64_t index;
    struct span use, result, image;      /* raw objects of its start */
    struct buf text, reasoning, input;   /* escaped */
    struct buf citations, results;       /* raw items, joined by commas */
    struct span signature, sealed, data; /* escaped; data: the image's raw "source" */
    bool has_text, has_reasoning, has_input;
};

struct converse_collector {
    struct collector base;
    struct arena arena;
    size_t limit_bytes, kept_bytes;
    struct collect_block *blocks;
    unsigned block_count;
    struct span stop, metadata; /* raw objects of the last two events */
};

static pd_err init(struct collector *base, size_t limit_bytes)
{
    struct converse_collector *k = (struct converse_collector *)base;
    k->limit_bytes = limit_bytes;
    arena_init(&k->arena, 0, limit_bytes);
    return PD_OK;
}

static void done(struct collector *base)
{
    struct converse_collector *k = (struct converse_collector *)base;
    for (struct collect_block *b = k->blocks; b; b = b->next) {
        struct buf *bufs[] = {&b->text, &b->reasoning, &b->input, &b->citations, &b->results};
        for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
            buf_done(bufs[i]);
    }
    arena_done(&k->arena);
}

/* ---- what is kept ------------------------------------------------------------------ */

static pd_err charge(struct converse_collector *k, size_t n)
{
    if (n > k->limit_bytes - k->kept_bytes)
        return PD_TOOBIG;
    k->kept_bytes += n;
    return PD_OK;
}

static pd_err keep(struct converse_collector *k, struct span *at, struct span s)
{
    pd_err e = charge(k, s.n);
    if (e || !s.n)
        return e;
    struct span copy = arena_span(&k->arena, s);
    if (!copy.p)
        return PD_NOMEM;
    *at = copy;
    return PD_OK;
}

static pd_err grow(struct converse_collector *k, struct buf *b, struct span s, const char *between)
{
    pd_err e = charge(k, s.n + 1);
    if (!e && buf_size(b))
        e = buf_puts(b, between);
    return e ? e : buf_add(b, s);
}

static pd_err block_at(struct converse_collector *k, int64_t index, struct collect_block **ret)
{
    struct collect_block **at = &k->blocks;
    while (*at && (*at)->index < index)
        at = &(*at)->next;
    if (!*at || (*at)->index != index) {
        pd_err e = k->block_count == COLLECT_BLOCKS_MAX ? PD_TOOBIG : charge(k, sizeof(struct collect_block));
        if (e)
            return e;
        struct collect_block *b = arena_zalloc(&k->arena, sizeof(*b));
        if (!b)
            return PD_NOMEM;
        b->index = index;
        b->next = *at;
        *at = b;
        k->block_count++;
    }
    *ret = *at;
    return PD_OK;
}

/* ---- events -------------------------------------------------------------------------- */

static pd_err add_start(struct converse_collector *k, struct collect_block *b, struct json start)
{
    pd_err e = keep(k, &b->use, json_get(start, "toolUse").raw);
    if (!e)
        e = keep(k, &b->result, json_get(start, "toolResult").raw);
    return e ? e : keep(k, &b->image, json_get(start, "image").raw);
}

static pd_err add_reasoning(struct converse_collector *k, struct collect_block *b, struct json v)
{
    struct json text = json_get(v, "text"), signature = json_get(v, "signature");
    b->has_reasoning = true;
    pd_err e = grow(k, &b->reasoning, json_inner(text), "");
    if (!e)
        e = keep(k, &b->signature, json_inner(signature));
    return e ? e : keep(k, &b->sealed, json_inner(json_get(v, "redactedContent")));
}

static pd_err add_results(struct converse_collector *k, struct collect_block *b, struct json list)
{
    struct json_walk w;
    struct json item;
    pd_err e = PD_OK;
    json_walk_init(&w, list);
    while (!e && json_walk_next(&w, NULL, &item))
        e = grow(k, &b->results, item.raw, ",");
    return e;
}

static pd_err add_delta(struct converse_collector *k, struct collect_block *b, struct json delta)
{
    struct json text = json_get(delta, "text"), use = json_get(delta, "toolUse");
    struct json reasoning = json_get(delta, "reasoningContent"), citation = json_get(delta, "citation");
    pd_err e = PD_OK;
    if (text.type == JSON_STRING) {
        b->has_text = true;
        e = grow(k, &b->text, json_inner(text), "");
    }
    if (!e && use.type == JSON_OBJECT) {
        b->has_input = true;
        e = grow(k, &b->input, json_inner(json_get(use, "input")), "");
    }
    if (!e && reasoning.type == JSON_OBJECT)
        e = add_reasoning(k, b, reasoning);
    if (!e && citation.type == JSON_OBJECT)
        e = grow(k, &b->citations, citation.raw, ",");
    if (!e)
        e = add_results(k, b, json_get(delta, "toolResult"));
    return e ? e : keep(k, &b->data, json_path(delta, "image.source").raw);
}

static pd_err add(struct collector *base, struct span type, struct json chunk)
{
    struct converse_collector *k = (struct converse_collector *)base;
    if (span_is(type, "messageStop"))
        return keep(k, &k->stop, chunk.raw);
    if (span_is(type, "metadata"))
        return keep(k, &k->metadata, chunk.raw);
    bool start = span_is(type, "contentBlockStart");
    if (!start && !span_is(type, "contentBlockDelta"))
        return PD_OK;
    struct collect_block *b;
    int64_t index;
    if (!json_i64(json_get(chunk, "contentBlockIndex"), &index))
        index = 0;
    pd_err e = block_at(k, index, &b);
    if (e)
        return e;
    return start ? add_start(k, b, json_get(chunk, "start")) : add_delta(k, b, json_get(chunk, "delta"));
}

/* ---- the body -------------------------------------------------------------------------- */

struct list {
    struct put p;
    bool comma;
};

static void put_item(struct list *l)
{
    put_text(&l->p, l->comma ? "," : "");
    l->comma = true;
}

/* The members of an object, padding left out, each with a comma behind it. */
static void put_members(struct put *p, struct span object)
{
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_init(&w, (struct json){object.n ? JSON_OBJECT : JSON_NONE, object});
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "p"))
            continue;
        put_escaped(p, "", key);
        put_text(p, ":");
        put_span(p, v.raw);
        put_text(p, ",");
    }
}

/* A call's input, pieces of JSON in strings, as the object that it is; cut short it stays a text. */
static void put_input(struct converse_collector *k, struct put *p, struct span escaped)
{
    char *quoted = arena_printf(&k->arena, "\"%.*s\"", SPAN_FMT(escaped));
    struct span text = SPAN_NONE;
    pd_err e = quoted ? json_text((struct json){JSON_STRING, span_str(quoted)}, &k->arena, &text)
               : escaped.n + 3 > k->limit_bytes ? PD_TOOBIG
                                                : PD_NOMEM;
    text = span_trim(text);
    if (e == PD_NOMEM || e == PD_TOOBIG)
        p->err = p->err ? p->err : e;
    else if (!e && text.n == 0)
        put_text(p, "{}");
    else if (!e && json_check(text) == PD_OK)
        put_span(p, text);
    else
        put_escaped(p, "", escaped);
}

static void put_reasoning(struct list *l, const struct collect_block *b)
{
    if (buf_size(&b->reasoning) || b->signature.n || !b->sealed.n) {
        put_item(l);
        put_escaped(&l->p, "{\"reasoningContent\":{\"reasoningText\":{\"text\":", buf_span(&b->reasoning));
        if (b->signature.n)
            put_escaped(&l->p, ",\"signature\":", b->signature);
        put_text(&l->p, "}}}");
    }
    if (b->sealed.n) {
        put_item(l);
        put_escaped(&l->p, "{\"reasoningContent\":{\"redactedContent\":", b->sealed);
        put_text(&l->p, "}}");
    }
}

static void put_text_block(struct list *l, const struct collect_block *b)
{
    put_item(l);
    if (!buf_size(&b->citations)) {
        put_escaped(&l->p, "{\"text\":", buf_span(&b->text));
        put_text(&l->p, "}");
        return;
    }
    put_text(&l->p, "{\"citationsContent\":{\"content\":[");
    if (b->has_text) {
        put_escaped(&l->p, "{\"text\":", buf_span(&b->text));
        put_text(&l->p, "}");
    }
    put_text(&l->p, "],\"citations\":[");
    put_span(&l->p, buf_span(&b->citations));
    put_text(&l->p, "]}}");
}

static void put_block(struct converse_collector *k, struct list *l, const struct collect_block *b)
{
    if (b->has_reasoning)
        put_reasoning(l, b);
    if (b->has_text || buf_size(&b->citations))
        put_text_block(l, b);
    if (b->use.n || b->has_input) {
        put_item(l);
        put_text(&l->p, "{\"toolUse\":{");
        put_members(&l->p, b->use);
        put_text(&l->p, "\"input\":");
        put_input(k, &l->p, buf_span(&b->input));
        put_text(&l->p, "}}");
    }
    if (b->result.n) {
        put_item(l);
        put_text(&l->p, "{\"toolResult\":{");
        put_members(&l->p, b->result);
        put_text(&l->p, "\"content\":[");
        put_span(&l->p, buf_span(&b->results));
        put_text(&l->p, "]}}");
    }
    if (b->data.n) {
        put_item(l);
        put_text(&l->p, "{\"image\":{");
        put_members(&l->p, b->image);
        put_text(&l->p, "\"source\":");
        put_span(&l->p, b->data);
        put_text(&l->p, "}}");
    }
}

static pd_err write(struct collector *base, struct buf *out)
{
    struct converse_collector *k = (struct converse_collector *)base;
    struct list l = {.p = put_into(out)};
    put_text(&l.p, "{");
    put_members(&l.p, k->metadata);
    put_members(&l.p, k->stop);
    put_text(&l.p, "\"output\":{\"message\":{\"role\":\"assistant\",\"content\":[");
    for (const struct collect_block *b = k->blocks; b; b = b->next)
        put_block(k, &l, b);
    put_text(&l.p, "]}}}");
    return l.p.err;
}

const struct collector_ops converse_collector = {
    .bytes = sizeof(struct converse_collector),
    .init = init,
    .done = done,
    .add = add,
    .write = write,
};
