/* A stream of chunks, collected into the answer that generateContent would have given.
 *
 * Texts of one kind that follow each other become one part, as in an answer that was not streamed; every other part stays as it
 * came. Of all members beside the parts the last one holds: usage and metadata grow from chunk to chunk. */
#include "dialect/gemini_priv.h"
#include "dialect/merge_priv.h"

/* A part: a text that grows, or one that is whole. */
struct kept_part {
    struct kept_part *next;
    struct merge_node *node;
    bool thought, open; /* open: a text that grows */
};

struct kept_candidate {
    struct kept_candidate *next; /* in order of index */
    int64_t index;
    struct kept_part *first, *last;
    struct merge_node *others, *content; /* members beside parts */
};

enum { COLLECT_CANDIDATES_MAX = 1024 };

struct gemini_collector {
    struct collector base;
    struct merge merge;
    struct merge_node *top,
        *usage; /* usage: the last report as it was; its counts are not mixed with earlier ones */
    struct kept_candidate *candidates;
    unsigned candidate_count;
};

static pd_err init(struct collector *base, size_t limit_bytes)
{
    struct gemini_collector *k = (struct gemini_collector *)base;
    merge_init(&k->merge, limit_bytes);
    k->top = merge_node(&k->merge, MERGE_OBJECT);
    k->usage = k->top ? merge_node(&k->merge, MERGE_NONE) : NULL;
    return k->usage ? PD_OK : PD_NOMEM;
}

static void done(struct collector *base)
{
    merge_done(&((struct gemini_collector *)base)->merge);
}

/* ---- parts ------------------------------------------------------------------------ */

/* {"text": ...} with nothing else but "thought". */
static bool plain_text(struct json part, struct json *ret_text, bool *ret_thought)
{
    struct json_walk w;
    struct span key;
    struct json v;
    *ret_text = (struct json){0};
    *ret_thought = false;
    json_walk_init(&w, part);
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "text"))
            *ret_text = v;
        else if (json_key_is(key, "thought"))
            *ret_thought = json_is_true(v);
        else
            return false;
    }
    return ret_text->type == JSON_STRING;
}

static struct kept_part *part_new(struct gemini_collector *k, struct kept_candidate *c, enum merge_kind kind)
{
    struct kept_part *part = merge_take(&k->merge, sizeof(*part));
    struct merge_node *node = part ? merge_node(&k->merge, kind) : NULL;
    if (!node)
        return NULL;
    *part = (struct kept_part){.node = node};
    if (c->last)
        c->last->next = part;
    else
        c->first = part;
    return c->last = part;
}

/* The text is a member of an object, where texts are joined. */
static pd_err grow(struct gemini_collector *k, struct kept_candidate *c, struct json text, bool thought)
{
    struct kept_part *part = c->last;
    if (!part || !part->open || part->thought != thought) {
        if (json_inner(text).n == 0 && part)
            return PD_OK; /* an empty piece at the end begins nothing */
        part = part_new(k, c, MERGE_OBJECT);
        if (!part)
            return merge_failure(&k->merge);
        part->open = true;
        part->thought = thought;
    }
    return merge_member(&k->merge, part->node, SPAN_LIT("text"), text, MERGE_PART);
}

static pd_err add_part(struct gemini_collector *k, struct kept_candidate *c, struct json v)
{
    struct json text;
    bool thought;
    if (v.type != JSON_OBJECT)
        return PD_OK;
    if (plain_text(v, &text, &thought))
        return grow(k, c, text, thought);
    struct kept_part *part = part_new(k, c, MERGE_NONE);
    return part ? merge_set(&k->merge, part->node, v) : merge_failure(&k->merge);
}

static pd_err add_content(struct gemini_collector *k, struct kept_candidate *c, struct json content)
{
    struct json_walk w, parts;
    struct span key;
    struct json v, part;
    pd_err e = PD_OK;
    json_walk_init(&w, content.type == JSON_OBJECT ? content : (struct json){0});
    while (!e && json_walk_next(&w, &key, &v)) {
        if (!json_key_is(key, "parts")) {
            e = merge_member(&k->merge, c->content, key, v, MERGE_PLAIN);
            continue;
        }
        json_walk_init(&parts, v);
        while (!e && json_walk_next(&parts, NULL, &part))
            e = add_part(k, c, part);
    }
    return e;
}

/* ---- candidates ------------------------------------------------------------------- */

/* NULL: too many, no memory, or over the limit. */
static struct kept_candidate *candidate_at(struct gemini_collector *k, int64_t index)
{
    struct kept_candidate **at = &k->candidates;
    while (*at && (*at)->index < index)
        at = &(*at)->next;
    struct kept_candidate *found = *at;
    if (found && found->index == index)
        return found;
    if (k->candidate_count == COLLECT_CANDIDATES_MAX)
        return NULL;
    struct kept_candidate *c = merge_take(&k->merge, sizeof(*c));
    if (!c)
        return NULL;
    *c = (struct kept_candidate){.index = index, .next = *at};
    c->content = merge_node(&k->merge, MERGE_OBJECT);
    c->others = c->content ? merge_node(&k->merge, MERGE_OBJECT) : NULL;
    if (!c->others)
        return NULL;
    k->candidate_count++;
    return *at = c;
}

static pd_err add_candidate(struct gemini_collector *k, struct json v)
{
    struct json_walk w;
    struct span key;
    struct json member;
    if (v.type != JSON_OBJECT)
        return PD_OK;
    int64_t index = gemini_int(json_get(v, "index"), 0);
    struct kept_candidate *c = candidate_at(k, index > 0 ? index : 0);
    if (!c)
        return k->candidate_count == COLLECT_CANDIDATES_MAX ? PD_TOOBIG : merge_failure(&k->merge);
    pd_err e = PD_OK;
    json_walk_init(&w, v);
    while (!e && json_walk_next(&w, &key, &member))
        e = json_key_is(key, "content")
                ? add_content(k, c, member)
                : merge_member(&k->merge, c->others, key, member,
                               json_key_is(key, "logprobsResult") || json_key_is(key, "citationMetadata")
                                   ? MERGE_APPEND
                                   : MERGE_PLAIN);
    return e;
}

static pd_err add(struct collector *base, struct span type, struct json chunk)
{
    struct gemini_collector *k = (struct gemini_collector *)base;
    struct json_walk w, list;
    struct span key;
    struct json v, item;
    pd_err e = PD_OK;
    (void)type;
    json_walk_init(&w, chunk);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "usageMetadata")) {
            e = merge_set(&k->merge, k->usage, v);
            continue;
        }
        if (!json_key_is(key, "candidates")) {
            e = merge_member(&k->merge, k->top, key, v, MERGE_PLAIN);
            continue;
        }
        json_walk_init(&list, v);
        while (!e && json_walk_next(&list, NULL, &item))
            e = add_candidate(k, item);
    }
    return e;
}

/* ---- the body --------------------------------------------------------------------- */

static void put_members(struct put *p, const struct merge_node *object, bool first)
{
    for (const struct merge_node *n = object->first; n && !p->err; n = n->next)
        p->err = merge_write_member(n, &first, p->b);
}

static void put_part(struct put *p, const struct kept_part *part)
{
    if (p->err)
        return;
    if (!part->open) {
        p->err = merge_write(part->node, p->b);
        return;
    }
    put_text(p, "{");
    put_members(p, part->node, true);
    put_text(p, part->thought ? ",\"thought\":true}" : "}");
}

static void put_candidate(struct put *p, const struct kept_candidate *c)
{
    const char *sep = "{\"content\":{\"parts\":[";
    put_text(p, c->first ? "" : "{\"content\":{");
    for (const struct kept_part *part = c->first; part; part = part->next) {
        put_text(p, sep);
        put_part(p, part);
        sep = ",";
    }
    put_text(p, c->first ? "]" : "");
    put_members(p, c->content, !c->first);
    put_text(p, "}");
    put_members(p, c->others, false);
    put_text(p, "}");
}

static pd_err write(struct collector *base, struct buf *out)
{
    const struct gemini_collector *k = (const struct gemini_collector *)base;
    struct put p = put_into(out);
    const char *sep = "{\"candidates\":[";
    for (const struct kept_candidate *c = k->candidates; c; c = c->next) {
        put_text(&p, sep);
        put_candidate(&p, c);
        sep = ",";
    }
    put_text(&p, k->candidates ? "]" : "{\"candidates\":[]");
    put_members(&p, k->top, false);
    if (k->usage->kind != MERGE_NONE) {
        put_text(&p, ",\"usageMetadata\":");
        p.err = p.err ? p.err : merge_write(k->usage, p.b);
    }
    put_text(&p, "}");
    return p.err;
}

const struct collector_ops gemini_collector = {
    .bytes = sizeof(struct gemini_collector),
    .init = init,
    .done = done,
    .add = add,
    .write = write,
};
