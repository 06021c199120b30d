#include "relay/lost.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "parse/json.h"

#include <string.h>

enum { BUCKETS = 1024 };

struct entry {
    struct list node; /* in order of their last lines */
    struct entry *next;
    uint64_t number;
    size_t n;
    char line[];
};
struct lost {
    struct list entries;
    struct entry *buckets[BUCKETS];
    unsigned count;
};

static uint64_t number_of(struct span call_id)
{
    return hash_bytes(call_id, 23);
}

void lost_running(struct journal *j, struct span call_id, struct span line)
{
    (void)journal_put(j, JOURNAL_CALL, number_of(call_id), line); /* it counts what it drops */
}

struct lost *lost_new(void)
{
    struct lost *l = mem_zalloc(sizeof(*l));
    if (l)
        list_init(&l->entries);
    return l;
}

static void forget(struct lost *l, uint64_t number)
{
    struct entry **at = &l->buckets[number % BUCKETS];
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    struct entry *e = *at;
    if (!e)
        return;
    *at = e->next;
    list_remove(&e->node);
    l->count--;
    mem_free(e);
}

static void forget_all(struct lost *l)
{
    LIST_EACH(node, &l->entries)
    forget(l, LIST_OF(node, struct entry, node)->number);
}

struct lost *lost_free(struct lost *l)
{
    if (!l)
        return NULL;
    forget_all(l);
    mem_free(l);
    return NULL;
}

/* Takes the place of its line before. Without memory that one stays; a call too many is not counted. */
static void add(struct lost *l, uint64_t number, struct span line)
{
    struct entry *e = line.n <= LEDGER_LINE_MAX ? mem_alloc(sizeof(*e) + line.n) : NULL;
    if (!e)
        return;
    forget(l, number);
    if (l->count == LOST_MOST) {
        mem_free(e);
        return;
    }
    e->number = number;
    e->n = line.n;
    memcpy(e->line, line.p, line.n);
    list_init(&e->node);
    list_push(&l->entries, &e->node);
    e->next = l->buckets[number % BUCKETS];
    l->buckets[number % BUCKETS] = e;
    l->count++;
}

void lost_record(struct lost *l, const struct journal_record *r)
{
    if (r->kind == JOURNAL_CALL) {
        add(l, r->id, r->payload);
    } else if (r->kind == JOURNAL_RUN && l->count && span_starts(r->payload, "{") && !json_check(r->payload)) {
        forget(l, number_of(json_inner(json_get((struct json){JSON_OBJECT, r->payload}, "id"))));
    }
}

unsigned lost_take(struct lost *l, struct ledger *ledger, struct journal *j)
{
    unsigned count = 0;
    LIST_EACH(node, &l->entries)
    {
        const struct entry *e = LIST_OF(node, struct entry, node);
        struct span line = span_of(e->line, e->n);
        if (!ledger || ledger_add(ledger, line) != PD_OK) /* it has it, or it is none */
            continue;
        (void)journal_put(j, JOURNAL_RUN, 0, line);
        count++;
    }
    forget_all(l);
    return count;
}
