#include "relay/held.h"

#include "base/list.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct entry {
    struct list node;
    struct held_call call;
};

struct held {
    pthread_mutex_t lock;
    struct list entries;    /* as they were read: by the time at which they went on hold */
    unsigned count;         /* of these */
    uint64_t until_wall_ms; /* those that are to come back are awaited; 0: their process may still run */
    _Atomic bool any;
};

/* ---- writing ------------------------------------------------------------------------ */

void held_begun(struct journal *j, const struct held_call *h)
{
    journal_put(j, JOURNAL_HOLD_BEGUN, h->number, span_of((const char *)h, sizeof(*h)));
}

void held_ended(struct journal *j, uint64_t number)
{
    journal_put(j, JOURNAL_HOLD_ENDED, number, SPAN_NONE);
}

/* ---- what an earlier process left ---------------------------------------------------- */

struct held *held_new(void)
{
    struct held *h = mem_zalloc(sizeof(*h));
    if (!h)
        return NULL;
    pthread_mutex_init(&h->lock, NULL);
    list_init(&h->entries);
    return h;
}

static void drop(struct held *h, struct entry *e)
{
    list_remove(&e->node);
    h->count--;
    mem_free(e);
}

static void drop_all(struct held *h)
{
    LIST_EACH(node, &h->entries)
    {
        drop(h, LIST_OF(node, struct entry, node));
    }
    atomic_store(&h->any, false);
}

struct held *held_free(struct held *h)
{
    if (!h)
        return NULL;
    drop_all(h);
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
    return NULL;
}

static void forget(struct held *h, uint64_t number)
{
    LIST_EACH(node, &h->entries)
    {
        struct entry *e = LIST_OF(node, struct entry, node);
        if (e->call.number == number)
            drop(h, e);
    }
}

/* Without memory, or when there are too many, one is as any new call. */
static void add(struct held *h, const struct held_call *call)
{
    struct entry *e = h->count < HELD_MOST ? mem_zalloc(sizeof(*e)) : NULL;
    if (!e)
        return;
    e->call = *call;
    list_init(&e->node);
    list_push(&h->entries, &e->node);
    h->count++;
}

void held_record(struct held *h, const struct journal_record *r)
{
    struct held_call call;
    bool begun = r->kind == JOURNAL_HOLD_BEGUN && r->payload.n == sizeof(call);
    if (!h || !(begun || r->kind == JOURNAL_HOLD_ENDED))
        return;
    pthread_mutex_lock(&h->lock);
    forget(h, r->id);
    if (begun) {
        memcpy(&call, r->payload.p, sizeof(call));
        call.number = r->id;
        add(h, &call);
    }
    pthread_mutex_unlock(&h->lock);
}

unsigned held_take_over(struct held *h, struct journal *j, uint64_t wall_ms)
{
    if (!h)
        return 0;
    pthread_mutex_lock(&h->lock);
    LIST_EACH(node, &h->entries)
    {
        held_begun(j, &LIST_OF(node, struct entry, node)->call);
    }
    unsigned count = h->count;
    h->until_wall_ms = wall_ms + HELD_RETURN_MS;
    atomic_store(&h->any, count > 0);
    pthread_mutex_unlock(&h->lock);
    return count;
}

bool held_any(struct held *h)
{
    return h && atomic_load(&h->any);
}

static struct entry *first_with(struct held *h, uint64_t key)
{
    struct entry *first = NULL;
    LIST_EACH(node, &h->entries)
    {
        struct entry *e = LIST_OF(node, struct entry, node);
        if (e->call.key == key && (!first || e->call.asked_wall_ms < first->call.asked_wall_ms))
            first = e;
    }
    return first;
}

bool held_find(struct held *h, uint64_t key, uint64_t wall_ms, struct held_call *ret)
{
    if (!held_any(h))
        return false;
    pthread_mutex_lock(&h->lock);
    if (wall_ms >= h->until_wall_ms)
        drop_all(h);
    struct entry *e = first_with(h, key);
    if (e) {
        *ret = e->call;
        if (wall_ms > ret->since_wall_ms)
            ret->held_ms += wall_ms - ret->since_wall_ms;
        drop(h, e);
    }
    atomic_store(&h->any, h->count > 0);
    pthread_mutex_unlock(&h->lock);
    return e != NULL;
}
