/* A stream of Anthropic's events, collected into the message that an unstreamed request would have had. Members that are not known
 * here are kept. */
#include "dialect/anthropic_priv.h"
#include "dialect/merge_priv.h"

#include "base/mem.h"

struct kept_block {
    struct kept_block *next;
    int64_t index;
    struct merge_node *object, *pieces; /* pieces: "input", as it came in pieces of its text */
};

struct anthropic_collector {
    struct collector base;
    struct merge merge;
    struct merge_node *top, *usage;
    struct kept_block *first, *last;
    unsigned count; /* of these: MERGE_ITEMS_MAX at most */
    bool started;
};

static pd_err init(struct collector *base, size_t limit_bytes)
{
    struct anthropic_collector *k = (struct anthropic_collector *)base;
    merge_init(&k->merge, limit_bytes);
    k->top = merge_node(&k->merge, MERGE_OBJECT);
    k->usage = k->top ? merge_node(&k->merge, MERGE_OBJECT) : NULL;
    return k->usage ? PD_OK : PD_NOMEM;
}

static void done(struct collector *base)
{
    merge_done(&((struct anthropic_collector *)base)->merge);
}

/* ---- blocks ------------------------------------------------------------------------- */

static struct kept_block *block_at(struct anthropic_collector *k, int64_t index)
{
    struct kept_block *found = NULL;
    if (k->last && k->last->index == index)
        return k->last;
    for (struct kept_block *b = k->first; b; b = b->next)
        if (b->index == index)
            found = b;
    return found;
}

/* Texts go on growing; everything else stands as it came. */
static bool is_text(struct span key)
{
    return json_key_is(key, "text") || json_key_is(key, "thinking");
}

static pd_err add_block(struct anthropic_collector *k, int64_t index, struct json v)
{
    if (k->count == MERGE_ITEMS_MAX)
        return PD_TOOBIG;
    struct kept_block *b = merge_take(&k->merge, sizeof(*b));
    if (!b)
        return merge_failure(&k->merge);
    k->count++;
    *b = (struct kept_block){.index = index};
    b->object = merge_node(&k->merge, MERGE_OBJECT);
    b->pieces = b->object ? merge_node(&k->merge, MERGE_OBJECT) : NULL;
    if (!b->pieces)
        return merge_failure(&k->merge);
    struct json_walk w;
    struct span key;
    struct json member;
    pd_err e = PD_OK;
    json_walk_init(&w, v);
    while (!e && json_walk_next(&w, &key, &member))
        e = merge_member(&k->merge, b->object, key, member, is_text(key) ? MERGE_PART : MERGE_PLAIN);
    if (k->last)
        k->last->next = b;
    else
        k->first = b;
    k->last = b;
    return e;
}

static pd_err add_citation(struct anthropic_collector *k, struct kept_block *b, struct json citation)
{
    struct buf list;
    if (citation.type == JSON_NONE)
        return PD_OK;
    buf_init(&list, 0);
    struct put p = put_into(&list);
    put_text(&p, "[");
    put_span(&p, citation.raw);
    put_text(&p, "]");
    pd_err e = p.err;
    if (!e)
        e = merge_member(&k->merge, b->object, SPAN_LIT("citations"), (struct json){JSON_ARRAY, buf_span(&list)},
                         MERGE_APPEND);
    buf_done(&list);
    return e;
}

static pd_err add_delta(struct anthropic_collector *k, int64_t index, struct json delta)
{
    struct kept_block *b = block_at(k, index);
    struct json type = json_get(delta, "type"), v;
    if (!b)
        return PD_OK;
    if (json_is(type, "citations_delta"))
        return add_citation(k, b, json_get(delta, "citation"));
    v = json_get(delta, "partial_json");
    if (v.type == JSON_STRING)
        return json_inner(v).n ? merge_member(&k->merge, b->pieces, SPAN_LIT("input"), v, MERGE_CALL) : PD_OK;
    struct json_walk w;
    struct span key;
    pd_err e = PD_OK;
    json_walk_init(&w, delta);
    while (!e && json_walk_next(&w, &key, &v)) {
        bool grows = is_text(key) || json_is(type, "compaction_delta");
        if (!json_key_is(key, "type"))
            e = merge_member(&k->merge, b->object, key, v, grows ? MERGE_PART : MERGE_PLAIN);
    }
    return e;
}

/* ---- events -------------------------------------------------------------------------- */

static pd_err add_usage(struct anthropic_collector *k, struct json usage)
{
    return usage.type == JSON_OBJECT ? merge_object(&k->merge, k->usage, usage, MERGE_PLAIN) : PD_OK;
}

/* The first one is the message; of a second one (some relays send it) only the usage is news. */
static pd_err add_message(struct anthropic_collector *k, struct json message)
{
    struct json_walk w;
    struct span key;
    struct json v;
    pd_err e = PD_OK;
    json_walk_init(&w, message);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "usage"))
            e = add_usage(k, v);
        else if (!k->started && !json_key_is(key, "content"))
            e = merge_member(&k->merge, k->top, key, v, MERGE_PLAIN);
    }
    struct json_walk blocks;
    json_walk_init(&blocks, json_get(message, "content"));
    for (int64_t i = 0; !e && !k->started && json_walk_next(&blocks, NULL, &v); i++)
        e = add_block(k, i, v);
    k->started = true;
    return e;
}

/* message_delta: what of it is not the delta stands beside it in the message. */
static pd_err add_end(struct anthropic_collector *k, struct json event)
{
    struct json_walk w;
    struct span key;
    struct json v;
    pd_err e = PD_OK;
    json_walk_init(&w, event);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "delta"))
            e = merge_object(&k->merge, k->top, v, MERGE_PLAIN);
        else if (json_key_is(key, "usage"))
            e = add_usage(k, v);
        else if (!json_key_is(key, "type"))
            e = merge_member(&k->merge, k->top, key, v, MERGE_PLAIN);
    }
    return e;
}

static pd_err add(struct collector *base, struct span type, struct json event)
{
    struct anthropic_collector *k = (struct anthropic_collector *)base;
    char room[ANTHROPIC_TYPE_ROOM];
    struct json t = anthropic_type(type, event, room);
    int64_t index = 0;
    if (!json_i64(json_get(event, "index"), &index))
        index = 0;
    if (json_is(t, "content_block_delta"))
        return add_delta(k, index, json_get(event, "delta"));
    if (json_is(t, "content_block_start"))
        return add_block(k, index, json_get(event, "content_block"));
    if (json_is(t, "message_start"))
        return add_message(k, json_get(event, "message"));
    if (json_is(t, "message_delta"))
        return add_end(k, event);
    return PD_OK;
}

/* ---- writing --------------------------------------------------------------------------- */

/* The pieces of a call's input are the text of an object. A text that is none, as one that was cut at the token limit, is
 * wrapped as Anthropic's documentation of streamed input tells to hand it on. */
static pd_err write_input(const struct merge_node *text, struct buf *out)
{
    struct buf quoted;
    struct arena a;
    struct span plain = SPAN_NONE;
    buf_init(&quoted, 0);
    arena_init(&a, 0, 0);
    pd_err e = merge_write(text, &quoted);
    if (!e)
        e = json_text((struct json){JSON_STRING, buf_span(&quoted)}, &a, &plain);
    struct put p = put_into(out);
    if (e == PD_SYNTAX || (!e && json_check(plain))) {
        e = PD_OK;
        put_text(&p, "{\"INVALID_JSON\":");
        put_span(&p, buf_span(&quoted));
        put_text(&p, "}");
    } else if (!e) {
        put_span(&p, plain);
    }
    arena_done(&a);
    buf_done(&quoted);
    return e ? e : p.err;
}

static pd_err write_block(const struct kept_block *b, struct buf *out)
{
    const struct merge_node *input = merge_get(b->pieces, "input");
    bool first = true;
    pd_err e = buf_puts(out, "{");
    for (const struct merge_node *n = b->object->first; !e && n; n = n->next)
        if (!input || !json_key_is(n->key, "input"))
            e = merge_write_member(n, &first, out);
    if (!e && input) {
        e = buf_puts(out, first ? "\"input\":" : ",\"input\":");
        if (!e)
            e = write_input(input, out);
    }
    return e ? e : buf_puts(out, "}");
}

static pd_err write(struct collector *base, struct buf *out)
{
    struct anthropic_collector *k = (struct anthropic_collector *)base;
    bool first = true;
    pd_err e = buf_puts(out, "{");
    for (const struct merge_node *n = k->top->first; !e && n; n = n->next)
        e = merge_write_member(n, &first, out);
    if (!e)
        e = buf_puts(out, first ? "\"type\":\"message\",\"role\":\"assistant\",\"content\":[" : ",\"content\":[");
    for (const struct kept_block *b = k->first; !e && b; b = b->next) {
        e = write_block(b, out);
        if (!e && b->next)
            e = buf_puts(out, ",");
    }
    if (!e)
        e = buf_puts(out, "],\"usage\":");
    if (!e)
        e = merge_write(k->usage, out);
    return e ? e : buf_puts(out, "}");
}

const struct collector_ops anthropic_collector = {
    .bytes = sizeof(struct anthropic_collector),
    .init = init,
    .done = done,
    .add = add,
    .write = write,
};
