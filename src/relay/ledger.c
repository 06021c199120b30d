#include "relay/ledger.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/text.h"

#include <pthread.h>
#include <string.h>

/* Numbers of a call that are summed as they stand. */
static const char *const summed[] = {"waited_ms", "held_ms", "continued", "tokens_in", "tokens_out"};
enum { SUMMED = sizeof(summed) / sizeof(summed[0]) };

struct line {
    size_t n;
    char text[];
};
struct entry {
    struct list node; /* used last: first */
    char id[24];
    uint64_t calls, attempts, failed, last_ms;
    int64_t sums[SUMMED];
    struct line *lines[LEDGER_CALLS]; /* a ring: call i is at i % LEDGER_CALLS */
};
struct ledger {
    pthread_mutex_t lock;
    struct list entries;
    unsigned count;
};

struct ledger *ledger_new(void)
{
    struct ledger *l = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->entries);
    return l;
}

static void drop(struct ledger *l, struct entry *e)
{
    list_remove(&e->node);
    l->count--;
    for (unsigned i = 0; i < LEDGER_CALLS; i++)
        mem_free(e->lines[i]);
    mem_free(e);
}

struct ledger *ledger_free(struct ledger *l)
{
    if (!l)
        return NULL;
    LIST_EACH(node, &l->entries)
    drop(l, LIST_OF(node, struct entry, node));
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
    return NULL;
}

static struct entry *find(struct ledger *l, struct span id)
{
    LIST_EACH(node, &l->entries)
    {
        struct entry *e = LIST_OF(node, struct entry, node);
        if (span_is(id, e->id))
            return e;
    }
    return NULL;
}

static struct entry *entry_of(struct ledger *l, struct span id)
{
    struct entry *e = find(l, id);
    if (e) {
        list_remove(&e->node);
    } else {
        e = mem_zalloc(sizeof(*e));
        if (!e)
            return NULL;
        text_copy(e->id, sizeof(e->id), id);
        if (l->count == LEDGER_SESSIONS)
            drop(l, LIST_OF(l->entries.prev, struct entry, node));
        l->count++;
    }
    list_push_front(&l->entries, &e->node);
    return e;
}

static int64_t number(struct json call, const char *name)
{
    int64_t v;
    return json_i64(json_get(call, name), &v) && v > 0 ? v : 0;
}

static void sum(struct entry *e, struct json call)
{
    struct json_walk w;
    struct json a;
    e->calls++;
    e->last_ms = (uint64_t)number(call, "began_ms") + (uint64_t)number(call, "took_ms");
    for (unsigned i = 0; i < SUMMED; i++)
        e->sums[i] += number(call, summed[i]);
    json_walk_init(&w, json_get(call, "attempts"));
    while (json_walk_next(&w, NULL, &a)) {
        e->attempts++;
        e->failed += !json_is(json_get(a, "class"), "none");
    }
}

pd_err ledger_add(struct ledger *l, struct span line)
{
    struct json call = {JSON_OBJECT, line};
    if (line.n > LEDGER_LINE_MAX)
        return PD_TOOBIG;
    if (!span_starts(line, "{") || json_check(line))
        return PD_INVALID;
    struct span id = json_inner(json_get(call, "session"));
    if (id.n == 0 || id.n >= sizeof(((struct entry *)0)->id))
        return PD_INVALID;
    struct line *kept = mem_alloc(sizeof(*kept) + line.n);
    if (!kept)
        return PD_NOMEM;
    kept->n = line.n;
    memcpy(kept->text, line.p, line.n);
    pthread_mutex_lock(&l->lock);
    struct entry *e = entry_of(l, id);
    if (e) {
        struct line **at = &e->lines[e->calls % LEDGER_CALLS], *old = *at;
        *at = kept;
        kept = old;
        sum(e, call);
    }
    pthread_mutex_unlock(&l->lock);
    mem_free(kept);
    return e ? PD_OK : PD_NOMEM;
}

static void put_totals(struct put *p, const struct entry *e)
{
    put_text(p, "{\"session\":");
    put_json(p, span_str(e->id));
    put_printf(p, ",\"last_ms\":%llu,\"calls\":%llu,\"attempts\":%llu,\"failed\":%llu",
               (unsigned long long)e->last_ms, (unsigned long long)e->calls, (unsigned long long)e->attempts,
               (unsigned long long)e->failed);
    for (unsigned i = 0; i < SUMMED; i++)
        put_printf(p, ",\"%s\":%lld", summed[i], (long long)e->sums[i]);
}

void ledger_list(struct ledger *l, struct put *p)
{
    const char *comma = "";
    put_text(p, "{\"sessions\":[");
    pthread_mutex_lock(&l->lock);
    LIST_EACH(node, &l->entries)
    {
        put_text(p, comma);
        put_totals(p, LIST_OF(node, struct entry, node));
        put_text(p, "}");
        comma = ",";
    }
    pthread_mutex_unlock(&l->lock);
    put_text(p, "]}");
}

bool ledger_show(struct ledger *l, struct span id, struct put *p)
{
    pthread_mutex_lock(&l->lock);
    const struct entry *e = find(l, id);
    if (e) {
        put_totals(p, e);
        put_text(p, ",\"list\":[");
        uint64_t first = e->calls > LEDGER_CALLS ? e->calls - LEDGER_CALLS : 0;
        for (uint64_t i = first; i < e->calls; i++) {
            const struct line *line = e->lines[i % LEDGER_CALLS];
            put_text(p, i > first ? "," : "");
            put_span(p, span_of(line->text, line->n));
        }
        put_text(p, "]}");
    }
    pthread_mutex_unlock(&l->lock);
    return e != NULL;
}
