#include "dialect/merge_priv.h"

struct merge_piece {
    struct merge_piece *next;
    size_t n, room;
    char bytes[];
};

enum { PIECE_LEAST = 48, PIECE_MOST = 32 * 1024 };

void merge_init(struct merge *m, size_t limit_bytes)
{
    *m = (struct merge){.limit_bytes = limit_bytes};
    arena_init(&m->arena, 4096, 0); /* the limit is ours to watch: it tells full from out of memory */
    buf_init(&m->scratch, 0);
}

void merge_done(struct merge *m)
{
    arena_done(&m->arena);
    buf_done(&m->scratch);
}

pd_err merge_failure(const struct merge *m)
{
    return m->full ? PD_TOOBIG : PD_NOMEM;
}

void *merge_take(struct merge *m, size_t n)
{
    if (m->limit_bytes && (n > m->limit_bytes || m->arena.used_bytes > m->limit_bytes - n)) {
        m->full = true;
        return NULL;
    }
    return arena_alloc(&m->arena, n);
}

struct merge_node *merge_node(struct merge *m, enum merge_kind kind)
{
    struct merge_node *n = merge_take(m, sizeof(*n));
    if (n)
        *n = (struct merge_node){.kind = kind, .index = -1};
    return n;
}

/* ---- values that are replaced --------------------------------------------------- */

pd_err merge_set(struct merge *m, struct merge_node *n, struct json v)
{
    if (v.raw.n > n->raw_room) {
        size_t room = n->raw_room ? v.raw.n * 2 : v.raw.n; /* what grew once may grow again */
        char *raw = merge_take(m, room);
        if (!raw)
            return merge_failure(m);
        n->raw = raw;
        n->raw_room = room;
    }
    if (v.raw.n)
        memcpy(n->raw, v.raw.p, v.raw.n);
    n->raw_n = v.raw.n;
    n->kind = MERGE_RAW;
    n->first = n->last = NULL; /* what it was before is gone; its room stays in the arena */
    n->count = 0;
    n->text = n->text_last = NULL;
    n->text_n = 0;
    return PD_OK;
}

static struct span raw_of(const struct merge_node *n)
{
    return span_of(n->raw, n->raw_n);
}

bool merge_is_null(const struct merge_node *n)
{
    return !n || n->kind == MERGE_NONE || (n->kind == MERGE_RAW && span_is(raw_of(n), "null"));
}

bool merge_says(const struct merge_node *n)
{
    return !merge_is_null(n) && !(n->kind == MERGE_RAW && (span_is(raw_of(n), "\"\"") || span_is(raw_of(n), "0")));
}

/* ---- text that grows -------------------------------------------------------------- */

/* NULL: merge_failure() says why. */
static struct merge_piece *add_piece(struct merge *m, struct merge_node *n, size_t least)
{
    size_t room = n->text_last ? n->text_last->room * 2 : PIECE_LEAST;
    if (room > PIECE_MOST)
        room = PIECE_MOST;
    if (room < least)
        room = least;
    struct merge_piece *piece = merge_take(m, sizeof(*piece) + room);
    if (!piece)
        return NULL;
    *piece = (struct merge_piece){.room = room};
    if (n->text_last)
        n->text_last->next = piece;
    else
        n->text = piece;
    n->text_last = piece;
    return piece;
}

static pd_err add_text(struct merge *m, struct merge_node *n, struct span text)
{
    n->kind = MERGE_TEXT;
    while (text.n) {
        struct merge_piece *last = n->text_last;
        if (!last || last->n == last->room)
            last = add_piece(m, n, text.n < PIECE_MOST ? text.n : PIECE_MOST);
        if (!last)
            return merge_failure(m);
        struct span now = span_upto(text, last->room - last->n);
        memcpy(last->bytes + last->n, now.p, now.n);
        last->n += now.n;
        n->text_n += now.n;
        text = span_from(text, now.n);
    }
    return PD_OK;
}

/* Which strings grow where. */
static bool grows(struct span key, enum merge_place place)
{
    static const char *const in_delta[] = {"content",   "refusal",  "reasoning_content",
                                           "reasoning", "thinking", NULL};
    static const char *const in_part[] = {"text", "thinking", "content", "summary", "data", "transcript", NULL};
    static const char *const in_call[] = {"arguments", "input", NULL};
    static const char *const nowhere[] = {NULL};
    const char *const *keys = place == MERGE_DELTA  ? in_delta
                              : place == MERGE_PART ? in_part
                              : place == MERGE_CALL ? in_call
                                                    : nowhere;
    for (; *keys; keys++)
        if (json_key_is(key, *keys))
            return true;
    return false;
}

/* What stands below a member. */
static enum merge_place below(struct span key, enum merge_place place)
{
    static const struct {
        const char *key;
        enum merge_place place;
    } rows[] = {
        {"tool_calls", MERGE_TOOLS}, {"function_call", MERGE_CALL},     {"function", MERGE_CALL},
        {"custom", MERGE_CALL},      {"content", MERGE_PART},           {"thinking", MERGE_PART},
        {"audio", MERGE_PART},       {"reasoning_details", MERGE_PART},
    };
    if (place == MERGE_PLAIN || place == MERGE_APPEND || place == MERGE_CALL)
        return place == MERGE_APPEND ? MERGE_APPEND : MERGE_PLAIN;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_key_is(key, rows[i].key))
            return rows[i].place;
    return MERGE_PLAIN;
}

/* ---- children ------------------------------------------------------------------- */

static void adopt(struct merge_node *parent, struct merge_node *child)
{
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->count++;
}

struct merge_node *merge_get(const struct merge_node *object, const char *key)
{
    for (struct merge_node *n = object->first; n; n = n->next)
        if (json_key_is(n->key, key))
            return n;
    return NULL;
}

static struct merge_node *member_of(const struct merge_node *object, struct span key)
{
    for (struct merge_node *n = object->first; n; n = n->next)
        if (span_eq(n->key, key))
            return n;
    return NULL;
}

static pd_err member_at(struct merge *m, struct merge_node *object, struct span key, struct merge_node **ret)
{
    *ret = member_of(object, key);
    if (*ret)
        return PD_OK;
    if (object->count == MERGE_MEMBERS_MAX)
        return PD_TOOBIG;
    struct merge_node *n = merge_node(m, MERGE_NONE);
    char *copy = n ? merge_take(m, key.n) : NULL;
    if (!copy)
        return merge_failure(m);
    memcpy(copy, key.p, key.n);
    n->key = span_of(copy, key.n);
    adopt(object, n);
    *ret = n;
    return PD_OK;
}

static pd_err merge_value(struct merge *m, struct merge_node *n, struct span key, struct json v,
                          enum merge_place place);

pd_err merge_member(struct merge *m, struct merge_node *n, struct span key, struct json v, enum merge_place place)
{
    struct merge_node *member;
    pd_err e = member_at(m, n, key, &member);
    return e ? e : merge_value(m, member, key, v, place);
}

pd_err merge_object(struct merge *m, struct merge_node *n, struct json obj, enum merge_place place)
{
    struct json_walk w;
    struct span key;
    struct json v;
    n->kind = MERGE_OBJECT;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &v)) {
        if (place == MERGE_TOOLS && json_key_is(key, "index"))
            continue; /* belongs to streams; the item's place says it */
        if (place == MERGE_TOOLS && json_key_is(key, "id") && merge_says(merge_get(n, "id")))
            continue; /* some servers make a new one up for each piece */
        pd_err e = merge_member(m, n, key, v, place);
        if (e)
            return e;
    }
    return PD_OK;
}

/* ---- arrays --------------------------------------------------------------------- */

static struct span raw_text(const struct merge_node *object, const char *key)
{
    const struct merge_node *n = merge_get(object, key);
    return n && n->kind == MERGE_RAW ? raw_of(n) : SPAN_NONE;
}

/* Both have the member and it differs. */
static bool differs(const struct merge_node *object, struct json item, const char *key)
{
    struct span mine = raw_text(object, key), theirs = json_get(item, key).raw;
    return mine.n > 2 && theirs.n > 2 && !span_is(mine, "null") && !span_is(theirs, "null") &&
           !span_eq(mine, theirs);
}

static struct merge_node *item_at(const struct merge_node *array, struct json item, int64_t index,
                                  enum merge_place place)
{
    struct merge_node *found = NULL;
    for (struct merge_node *n = array->first; n; n = n->next)
        if (n->kind == MERGE_OBJECT && n->index == index)
            found = n;
    if (!found)
        return NULL;
    if (place == MERGE_TOOLS) {
        /* As the reader has it: a new id with a name is a new call. */
        struct json name = json_path(item, "function.name");
        return differs(found, item, "id") && json_inner(name).n ? NULL : found;
    }
    return differs(found, item, "type") ? NULL : found;
}

/* A tool call without an index: known by its id; without one too, it goes on with the last unless it has a name. */
static struct merge_node *tool_without_index(const struct merge_node *array, struct json item)
{
    struct json id = json_get(item, "id");
    for (struct merge_node *n = array->first; n && json_inner(id).n; n = n->next)
        if (span_eq(raw_text(n, "id"), id.raw))
            return n;
    bool named = json_inner(json_path(item, "function.name")).n || json_inner(json_path(item, "custom.name")).n;
    return named ? NULL : array->last;
}

/* Parts of a text follow each other: a piece of the same type goes on with the last one. */
static struct merge_node *part_to_go_on(const struct merge_node *array, struct json item)
{
    struct json type = json_get(item, "type");
    if (!array->last || array->last->kind != MERGE_OBJECT || array->last->index >= 0)
        return NULL;
    bool text = json_is(type, "text") || json_is(type, "thinking");
    return text && span_eq(raw_text(array->last, "type"), type.raw) ? array->last : NULL;
}

static pd_err merge_item(struct merge *m, struct merge_node *array, struct json item, enum merge_place place)
{
    struct merge_node *n = NULL;
    int64_t index = -1;
    bool tree = item.type == JSON_OBJECT && (place == MERGE_PART || place == MERGE_TOOLS);
    if (tree && json_i64(json_get(item, "index"), &index) && index >= 0) {
        if (array->count >= MERGE_ITEMS_MAX)
            return PD_TOOBIG;
        n = item_at(array, item, index, place);
    } else if (tree) {
        index = -1;
        n = place == MERGE_TOOLS ? tool_without_index(array, item) : part_to_go_on(array, item);
    }
    if (!n) {
        n = merge_node(m, MERGE_NONE);
        if (!n)
            return merge_failure(m);
        n->index = index;
        adopt(array, n);
    }
    return tree ? merge_object(m, n, item, place) : merge_set(m, n, item);
}

static pd_err merge_array(struct merge *m, struct merge_node *n, struct json list, enum merge_place place)
{
    struct json_walk w;
    struct json item;
    n->kind = MERGE_ARRAY;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        pd_err e = merge_item(m, n, item, place);
        if (e)
            return e;
    }
    return PD_OK;
}

/* ---- any value -------------------------------------------------------------------- */

/* Content that was a text and goes on as parts, or the other way round, becomes parts. */
static pd_err add_text_part(struct merge *m, struct merge_node *array, struct span text)
{
    static const char text_part[] = "{\"type\":\"text\"}";
    struct json part = {JSON_OBJECT, {text_part, sizeof(text_part) - 1}};
    if (text.n == 0)
        return PD_OK;
    struct merge_node *member;
    pd_err e = merge_item(m, array, part, MERGE_PART);
    if (!e)
        e = member_at(m, array->last, SPAN_LIT("text"), &member);
    return e ? e : add_text(m, member, text);
}

static pd_err text_into_parts(struct merge *m, struct merge_node *n)
{
    struct merge_piece *piece = n->text;
    n->text = n->text_last = NULL;
    n->text_n = 0;
    n->kind = MERGE_ARRAY;
    for (; piece; piece = piece->next) {
        pd_err e = add_text_part(m, n, span_of(piece->bytes, piece->n));
        if (e)
            return e;
    }
    return PD_OK;
}

/* Arguments that are an object become the text of it, as they would have been in a whole answer. */
static pd_err add_as_text(struct merge *m, struct merge_node *n, struct json v)
{
    buf_clear(&m->scratch);
    pd_err e = json_put_str(&m->scratch, v.raw);
    if (e)
        return e;
    struct span quoted = buf_span(&m->scratch);
    return add_text(m, n, span_of(quoted.p + 1, quoted.n - 2));
}

static pd_err merge_growing(struct merge *m, struct merge_node *n, struct span key, struct json v,
                            enum merge_place place)
{
    if (v.type == JSON_STRING && n->kind == MERGE_ARRAY)
        return add_text_part(m, n, json_inner(v));
    if (v.type == JSON_STRING)
        return add_text(m, n, json_inner(v));
    if (place == MERGE_CALL && (v.type == JSON_OBJECT || v.type == JSON_ARRAY))
        return add_as_text(m, n, v);
    if (v.type == JSON_ARRAY) {
        pd_err e = n->kind == MERGE_TEXT ? text_into_parts(m, n) : PD_OK;
        return e ? e : merge_array(m, n, v, below(key, place));
    }
    return n->kind == MERGE_NONE || n->kind == MERGE_RAW ? merge_set(m, n, v) : PD_OK;
}

/* A value that is kept as it came, until a second one makes its members matter. */
static pd_err unfold(struct merge *m, struct merge_node *n, enum merge_place place)
{
    struct json v;
    if (n->kind != MERGE_RAW || json_first(raw_of(n), &v, NULL) || v.type != JSON_OBJECT)
        return PD_OK;
    return merge_object(m, n, v, place); /* the node's own bytes stay where they are meanwhile */
}

static pd_err merge_value(struct merge *m, struct merge_node *n, struct span key, struct json v,
                          enum merge_place place)
{
    bool empty = n->kind == MERGE_NONE || merge_is_null(n);
    enum merge_place inner = below(key, place);
    if (v.type == JSON_NULL)
        return n->kind == MERGE_NONE ? merge_set(m, n, v) : PD_OK;
    if (grows(key, place))
        return merge_growing(m, n, key, v, place);
    if (v.type == JSON_ARRAY && (inner == MERGE_PART || inner == MERGE_TOOLS || place == MERGE_APPEND))
        return merge_array(m, n, v, inner);
    if (v.type == JSON_ARRAY && place == MERGE_DELTA && (empty || n->kind == MERGE_ARRAY))
        return merge_array(m, n, v,
                           json_get(json_path(v, "0"), "index").type == JSON_NUMBER ? MERGE_PART : MERGE_PLAIN);
    if (v.type == JSON_OBJECT) {
        if (empty && inner == MERGE_PLAIN)
            return merge_set(m, n, v);
        pd_err e = unfold(m, n, inner);
        return e ? e : merge_object(m, n, v, inner);
    }
    bool nothing = v.type == JSON_STRING && v.raw.n == 2; /* servers leave names empty when they repeat */
    return nothing && !empty ? PD_OK : merge_set(m, n, v);
}

/* ---- writing ---------------------------------------------------------------------- */

static pd_err write_text(const struct merge_node *n, struct buf *out)
{
    pd_err e = buf_reserve(out, n->text_n + 2);
    if (!e)
        e = buf_puts(out, "\"");
    for (const struct merge_piece *p = n->text; !e && p; p = p->next)
        e = buf_add(out, span_of(p->bytes, p->n));
    return e ? e : buf_puts(out, "\"");
}

pd_err merge_write_member(const struct merge_node *n, bool *first, struct buf *out)
{
    pd_err e = buf_puts(out, *first ? "\"" : ",\"");
    *first = false;
    if (!e)
        e = buf_add(out, n->key);
    if (!e)
        e = buf_puts(out, "\":");
    return e ? e : merge_write(n, out);
}

static pd_err write_children(const struct merge_node *parent, struct buf *out)
{
    bool object = parent->kind == MERGE_OBJECT, first = true;
    pd_err e = buf_puts(out, object ? "{" : "[");
    for (const struct merge_node *n = parent->first; !e && n; n = n->next) {
        if (object) {
            e = merge_write_member(n, &first, out);
            continue;
        }
        if (!first)
            e = buf_puts(out, ",");
        first = false;
        if (!e)
            e = merge_write(n, out);
    }
    return e ? e : buf_puts(out, object ? "}" : "]");
}

pd_err merge_write(const struct merge_node *n, struct buf *out)
{
    switch (n->kind) {
    case MERGE_NONE:
        return buf_puts(out, "null");
    case MERGE_RAW:
        return buf_add(out, raw_of(n));
    case MERGE_TEXT:
        return write_text(n, out);
    case MERGE_OBJECT:
    case MERGE_ARRAY:
        break;
    }
    return write_children(n, out);
}
