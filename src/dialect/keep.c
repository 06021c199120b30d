/* A hash table of blobs whose oldest leave when the limit is met, and how a blob goes back into a request. */
#include "dialect/keep.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "parse/json.h"

struct entry {
    struct list used;   /* oldest first */
    struct entry *next; /* in its bucket */
    uint64_t hash, scope;
    enum msg_maker maker;
    size_t id_n, blob_n;
    char bytes[]; /* id, blob */
};

struct keep {
    struct list used;
    struct entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t count, bytes, limit_bytes;
    keep_fn *watch;
    void *watch_ctx;
};

enum { BUCKETS_LEAST = 64 };

struct keep *keep_new(size_t limit_bytes)
{
    struct keep *k = mem_zalloc(sizeof(*k));
    if (!k)
        return NULL;
    list_init(&k->used);
    k->limit_bytes = limit_bytes;
    k->bucket_count = BUCKETS_LEAST;
    k->buckets = mem_calloc(k->bucket_count, sizeof(struct entry *));
    return k->buckets ? k : keep_free(k);
}

struct keep *keep_free(struct keep *k)
{
    if (!k)
        return NULL;
    LIST_EACH(it, &k->used)
    mem_free(LIST_OF(it, struct entry, used));
    mem_free(k->buckets);
    mem_free(k);
    return NULL;
}

/* ---- the table ------------------------------------------------------------------- */

/* What an entry costs, with its share of the buckets. */
static size_t size_of(size_t id_n, size_t blob_n)
{
    return sizeof(struct entry) + 2 * sizeof(struct entry *) + id_n + blob_n;
}

static struct span id_of(const struct entry *en)
{
    return span_of(en->bytes, en->id_n);
}

static struct entry **bucket_of(const struct keep *k, uint64_t hash)
{
    return &k->buckets[hash & (k->bucket_count - 1)];
}

/* NULL when there is none. */
static struct entry *find(const struct keep *k, uint64_t hash, uint64_t scope, struct span id)
{
    struct entry *en = *bucket_of(k, hash);
    while (en && (en->hash != hash || en->scope != scope || !span_eq(id_of(en), id)))
        en = en->next;
    return en;
}

static void forget(struct keep *k, struct entry *en)
{
    struct entry **at = bucket_of(k, en->hash);
    while (*at && *at != en)
        at = &(*at)->next;
    if (*at)
        *at = en->next;
    list_remove(&en->used);
    k->count--;
    k->bytes -= size_of(en->id_n, en->blob_n);
    mem_free(en);
}

/* Without memory the chains grow longer instead. */
static void grow(struct keep *k)
{
    size_t count = k->bucket_count * 2;
    struct entry **buckets = mem_calloc(count, sizeof(struct entry *));
    if (!buckets)
        return;
    LIST_EACH(it, &k->used)
    {
        struct entry *en = LIST_OF(it, struct entry, used), **at = &buckets[en->hash & (count - 1)];
        en->next = *at;
        *at = en;
    }
    mem_free(k->buckets);
    k->buckets = buckets;
    k->bucket_count = count;
}

void keep_put(struct keep *k, uint64_t scope, struct span tool_id, enum msg_maker maker, struct span blob)
{
    if (tool_id.n == 0 || tool_id.n > KEEP_ID_MAX)
        return;
    uint64_t hash = hash_bytes(tool_id, scope);
    struct entry *old = find(k, hash, scope, tool_id);
    if (old)
        forget(k, old); /* what is no longer right must not stay, even if the new one finds no room */
    size_t bytes = size_of(tool_id.n, blob.n);
    if (blob.n > KEEP_BLOB_MAX || bytes > k->limit_bytes)
        return;
    while (!list_empty(&k->used) && k->bytes + bytes > k->limit_bytes)
        forget(k, LIST_OF(list_first(&k->used), struct entry, used));
    struct entry *en = mem_alloc(sizeof(*en) + tool_id.n + blob.n);
    if (!en)
        return;
    if (k->count >= k->bucket_count)
        grow(k);
    struct entry **bucket = bucket_of(k, hash);
    *en = (struct entry){
        .next = *bucket, .hash = hash, .scope = scope, .maker = maker, .id_n = tool_id.n, .blob_n = blob.n};
    memcpy(en->bytes, tool_id.p, tool_id.n);
    if (blob.n)
        memcpy(en->bytes + tool_id.n, blob.p, blob.n);
    *bucket = en;
    list_push(&k->used, &en->used);
    k->count++;
    k->bytes += bytes;
    if (k->watch)
        k->watch(k->watch_ctx, scope, tool_id, maker, blob);
}

/* ---- out of the process and back ------------------------------------------------------- */

void keep_watch(struct keep *k, keep_fn *fn, void *ctx)
{
    k->watch = fn;
    k->watch_ctx = ctx;
}

void keep_each(const struct keep *k, keep_fn *fn, void *ctx)
{
    LIST_EACH(it, &k->used)
    {
        const struct entry *en = LIST_OF(it, const struct entry, used);
        fn(ctx, en->scope, id_of(en), en->maker, span_of(en->bytes + en->id_n, en->blob_n));
    }
}

/* Written by name, since another version may number makers otherwise. */
static enum msg_maker maker_named(struct span name)
{
    for (unsigned m = MSG_MAKER_NONE + 1; m < MSG_MAKER_COUNT; m++)
        if (span_is(name, msg_maker_name((enum msg_maker)m)))
            return (enum msg_maker)m;
    return MSG_MAKER_NONE;
}

/* "SCOPE MAKER LENGTH\n", the id, which is so long, and the blob. */
pd_err keep_write(struct buf *out, uint64_t scope, struct span tool_id, enum msg_maker maker, struct span blob)
{
    pd_err e = buf_printf(out, "%llu %s %zu\n", (unsigned long long)scope, msg_maker_name(maker), tool_id.n);
    if (!e)
        e = buf_add(out, tool_id);
    return e || !blob.n ? e : buf_add(out, blob);
}

pd_err keep_read(struct keep *k, struct span record)
{
    struct span rest = record, line = span_cut(&rest, '\n');
    uint64_t scope, id_n;
    bool ok = rest.p && span_u64(span_cut(&line, ' '), &scope);
    enum msg_maker maker = maker_named(span_cut(&line, ' '));
    if (!ok || !maker || !span_u64(line, &id_n) || id_n > rest.n)
        return PD_SYNTAX;
    keep_put(k, scope, span_upto(rest, (size_t)id_n), maker, span_from(rest, (size_t)id_n));
    return PD_OK;
}

static struct entry *look(struct keep *k, uint64_t scope, struct span tool_id, enum msg_maker maker)
{
    struct entry *en = find(k, hash_bytes(tool_id, scope), scope, tool_id);
    if (!en || en->maker != maker)
        return NULL;
    list_remove(&en->used); /* a conversation that goes on keeps what it needs */
    list_push(&k->used, &en->used);
    return en;
}

/* PD_NOTFOUND (also when it is larger than `most`), PD_NOMEM. */
static pd_err get(struct keep *k, uint64_t scope, struct span tool_id, enum msg_maker maker, size_t most,
                  struct arena *a, struct span *ret)
{
    const struct entry *en = look(k, scope, tool_id, maker);
    if (!en || en->blob_n > most)
        return PD_NOTFOUND;
    char *copy = arena_strndup(a, en->bytes + en->id_n, en->blob_n);
    if (!copy)
        return PD_NOMEM;
    *ret = span_of(copy, en->blob_n);
    return PD_OK;
}

bool keep_get(struct keep *k, uint64_t scope, struct span tool_id, enum msg_maker maker, struct arena *a,
              struct span *ret)
{
    return get(k, scope, tool_id, maker, SIZE_MAX, a, ret) == PD_OK;
}

/* ---- back into a request ------------------------------------------------------------ */

/* Assistant turns in a row: what one answer may have become at a client that cuts it into items. */
struct run {
    struct msg_turn *first, *behind;
    bool has_own;              /* reasoning of the maker is there already */
    struct msg_part *restored; /* what was put in front, in order */
};

static struct run run_of(struct msg_turn *first, enum msg_maker maker)
{
    struct run run = {.first = first, .behind = first};
    for (; run.behind && run.behind->role == MSG_ASSISTANT; run.behind = run.behind->next)
        for (const struct msg_part *p = run.behind->first; p; p = p->next)
            run.has_own |= p->kind == MSG_PART_REASONING && p->maker == maker;
    return run;
}

static bool same_reasoning(const struct msg_part *a, const struct msg_part *b)
{
    return span_eq(a->text, b->text) && span_eq(a->signature, b->signature) && span_eq(a->sealed, b->sealed) &&
           span_eq(a->seal_id, b->seal_id);
}

static pd_err add_reasoning(struct run *run, struct json item, enum msg_maker maker, struct arena *a)
{
    struct msg_part part = {.kind = MSG_PART_REASONING,
                            .text = json_inner(json_get(item, "text")),
                            .signature = json_inner(json_get(item, "signature")),
                            .sealed = json_inner(json_get(item, "sealed")),
                            .seal_id = json_inner(json_get(item, "id")),
                            .maker = maker};
    struct msg_part **at = &run->restored;
    unsigned count = 0;
    for (; *at; at = &(*at)->next, count++)
        if (same_reasoning(*at, &part))
            return PD_OK;
    if (count == KEEP_REASONING_MAX)
        return PD_OK;
    *at = arena_alloc(a, sizeof(part));
    if (!*at)
        return PD_NOMEM;
    **at = part;
    return PD_OK;
}

static pd_err restore_call(struct run *run, struct msg_part *call, struct span blob, enum msg_maker maker,
                           struct arena *a)
{
    struct json v, item;
    struct json_walk w;
    pd_err e = PD_OK;
    if (json_first(blob, &v, NULL))
        return PD_OK;
    json_walk_init(&w, json_get(v, "reasoning"));
    while (!e && !run->has_own && json_walk_next(&w, NULL, &item))
        e = add_reasoning(run, item, maker, a);
    struct span signature = json_inner(json_get(v, "signature"));
    if (signature.n && call->signature.n == 0) {
        call->signature = signature;
        call->maker = maker;
    }
    return e;
}

/* All of it goes in front: an answer begins with its reasoning, and Anthropic takes it nowhere else. */
static void put_in_front(struct run *run)
{
    struct msg_turn *t = run->first;
    struct msg_part *last = run->restored;
    if (!last)
        return;
    while (last->next)
        last = last->next;
    last->next = t->first;
    t->first = run->restored;
    if (!t->last)
        t->last = last;
}

/* `left`: bytes that may still be restored. A client may name one call as often as it likes. */
static pd_err restore_run(struct keep *k, uint64_t scope, struct run *run, enum msg_maker maker, struct arena *a,
                          size_t *left)
{
    for (struct msg_turn *t = run->first; t != run->behind; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next) {
            struct span blob;
            if (p->kind != MSG_PART_TOOL_CALL || p->id.n == 0)
                continue;
            pd_err e = get(k, scope, p->id, maker, *left, a, &blob);
            if (!e) {
                *left -= blob.n;
                e = restore_call(run, p, blob, maker, a);
            }
            if (e && e != PD_NOTFOUND)
                return e;
        }
    put_in_front(run);
    return PD_OK;
}

pd_err keep_restore(struct keep *k, uint64_t scope, enum msg_maker maker, struct msg_request *m, struct arena *a)
{
    size_t left = KEEP_RESTORED_MAX;
    for (struct msg_turn *t = m->first; t;) {
        if (t->role != MSG_ASSISTANT) {
            t = t->next;
            continue;
        }
        struct run run = run_of(t, maker);
        pd_err e = restore_run(k, scope, &run, maker, a, &left);
        if (e)
            return e;
        t = run.behind;
    }
    return PD_OK;
}
