#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "route/fleet_priv.h"

void waiters_init(struct waiters *q)
{
    list_init(&q->keys);
    list_init(&q->shared_key.children);
    list_init(&q->shared_key.turn);
    list_init(&q->shared_session.children);
    list_init(&q->shared_session.turn);
    q->shared_key.shared = q->shared_session.shared = true;
    q->shared_session.parent = &q->shared_key;
}

/* ---- keys and sessions */

static struct flow **bucket_of(struct waiters *q, const struct flow *parent, uint64_t id)
{
    uint64_t seed = (uint64_t)(uintptr_t)parent;
    return &q->buckets[hash_bytes(span_of((const char *)&id, sizeof(id)), seed) % QUEUE_BUCKETS];
}

static struct flow *flow_find(struct waiters *q, struct flow *parent, uint64_t id)
{
    struct flow **bucket = bucket_of(q, parent, id);
    for (struct flow *w = *bucket; w; w = w->next)
        if (w->parent == parent && w->id == id)
            return w;
    struct flow *w = mem_zalloc(sizeof(*w));
    if (!w)
        return NULL;
    list_init(&w->children);
    list_init(&w->turn);
    w->parent = parent;
    w->id = id;
    w->next = *bucket;
    *bucket = w;
    return w;
}

static void flow_drop_empty(struct waiters *q, struct flow *w)
{
    if (!w || !list_empty(&w->children))
        return;
    struct flow *parent = w->parent;
    list_remove(&w->turn);
    w->mask = 0;
    if (!w->shared) {
        struct flow **at = bucket_of(q, parent, w->id);
        while (*at != w)
            at = &(*at)->next;
        *at = w->next;
        mem_free(w);
    }
    flow_drop_empty(q, parent);
}

static struct flow *session_flow(struct waiters *q, uint64_t key, uint64_t session)
{
    struct flow *of_key = flow_find(q, NULL, key);
    struct flow *w = of_key ? flow_find(q, of_key, session) : NULL;
    if (w)
        return w;
    flow_drop_empty(q, of_key);
    return &q->shared_session;
}

void waiters_done(struct waiters *q)
{
    for (unsigned i = 0; i < QUEUE_BUCKETS; i++)
        while (q->buckets[i]) {
            struct flow *w = q->buckets[i];
            q->buckets[i] = w->next;
            mem_free(w);
        }
}

/* Behind all that came to the end of the line before: all others, but for one that was in line in an earlier process. */
static void stand(struct waiters *q, struct flow *w, uint64_t since_ms)
{
    struct list *line = w->parent ? &w->parent->children : &q->keys, *at;
    list_remove(&w->turn);
    for (at = line->prev; at != line && LIST_OF(at, struct flow, turn)->since_ms > since_ms;)
        at = at->prev;
    list_push_front(at, &w->turn);
    w->since_ms = since_ms;
}

static void to_the_end(struct waiters *q, struct flow *w, uint64_t now)
{
    stand(q, w, now);
}

static void stand_in_session(struct ticket *t)
{
    struct list *line = &t->flow->children, *at;
    for (at = line->prev; at != line && LIST_OF(at, struct ticket, node)->since_ms > t->since_ms;)
        at = at->prev;
    list_push_front(at, &t->node);
}

/* ---- whose turn it is */

static uint64_t bit_of(const struct target *t)
{
    return (uint64_t)1 << t->id % 64;
}

static uint64_t mask_of(const struct ticket *t)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < t->route->count; i++)
        if (!(t->not_these >> i & 1))
            mask |= bit_of(t->route->targets[i].target);
    return mask;
}

/* Its place in the ticket's route; -1: not one it could use. */
static int index_on(const struct ticket *t, const struct target *on)
{
    for (unsigned i = 0; i < t->route->count; i++)
        if (t->route->targets[i].target == on && !(t->not_these >> i & 1))
            return (int)i;
    return -1;
}

static struct ticket *first_in_session(struct flow *w, const struct target *on)
{
    uint64_t mask = 0;
    LIST_EACH(node, &w->children)
    {
        struct ticket *t = LIST_OF(node, struct ticket, node);
        if (index_on(t, on) >= 0)
            return t;
        mask |= mask_of(t);
    }
    w->mask = mask; /* all were looked at: what left since is forgotten */
    return NULL;
}

static struct ticket *first_in_key(struct flow *key, const struct target *on)
{
    uint64_t mask = 0;
    LIST_EACH(node, &key->children)
    {
        struct flow *w = LIST_OF(node, struct flow, turn);
        struct ticket *t = w->mask & bit_of(on) ? first_in_session(w, on) : NULL;
        if (t)
            return t;
        mask |= w->mask;
    }
    key->mask = mask;
    return NULL;
}

static struct ticket *head_of(struct waiters *q, const struct target *on)
{
    LIST_EACH(node, &q->keys)
    {
        struct flow *key = LIST_OF(node, struct flow, turn);
        struct ticket *t = key->mask & bit_of(on) ? first_in_key(key, on) : NULL;
        if (t)
            return t;
    }
    return NULL;
}

/* ---- telling */

static void tell(struct fleet *f, struct ticket *t)
{
    if (t->told)
        return;
    t->told = true;
    if (f->watch.ready)
        f->watch.ready(f->watch_ctx, t);
}

/* A head that does not know it: it has to look, at least at the time when the target can be used. */
static void tell_new_head(struct fleet *f, const struct target *on)
{
    struct ticket *head = head_of(&f->queue, on);
    if (head && !(head->heads >> index_on(head, on) & 1))
        tell(f, head);
}

void queue_tell(struct fleet *f, struct target *on, uint64_t now)
{
    uint64_t at;
    if (f->queue.count == 0)
        return;
    struct ticket *head = head_of(&f->queue, on);
    if (head && target_look(on, head->prompt_bytes, now, &at) == TARGET_FREE)
        tell(f, head);
}

/* ---- coming and going */

void queue_enter(struct fleet *f, struct ticket *t, const struct route *route, uint32_t not_these,
                 size_t prompt_bytes, uint64_t key, uint64_t session, uint64_t now)
{
    struct waiters *q = &f->queue;
    bool fewer = ticket_waits(t) && (t->route != route || not_these & ~t->not_these);
    t->route = route;
    t->not_these = not_these;
    t->prompt_bytes = prompt_bytes;
    if (!ticket_waits(t)) {
        t->flow = session_flow(q, key, session);
        t->since_ms = t->asked_ms ? t->asked_ms : now;
        t->heads = 0;
        t->told = false;
        stand_in_session(t);
        if (list_empty(&t->flow->turn))
            stand(q, t->flow, t->since_ms);
        if (list_empty(&t->flow->parent->turn))
            stand(q, t->flow->parent, t->since_ms);
        q->count++;
    }
    t->flow->mask |= mask_of(t);
    t->flow->parent->mask |= mask_of(t);
    if (fewer)
        for (unsigned i = 0; i < route->count; i++)
            tell_new_head(f, route->targets[i].target);
}

void queue_leave(struct fleet *f, struct ticket *t, bool starts, uint64_t now)
{
    struct waiters *q = &f->queue;
    if (!ticket_waits(t))
        return;
    struct flow *session = t->flow;
    list_remove(&t->node);
    t->flow = NULL;
    t->told = false;
    q->count--;
    if (starts) {
        t->asked_ms = 0;
        to_the_end(q, session, now);
        to_the_end(q, session->parent, now);
    }
    flow_drop_empty(q, session);
    for (unsigned i = 0; q->count && i < t->route->count; i++)
        tell_new_head(f, t->route->targets[i].target);
}

bool queue_may_start(struct fleet *f, const struct ticket *t, const struct target *on)
{
    if (f->queue.count == 0)
        return true;
    const struct ticket *head = head_of(&f->queue, on);
    return !head || head == t;
}

uint64_t queue_next_ms(struct fleet *f, struct ticket *t, uint64_t now)
{
    uint64_t next = CLOCK_NEVER;
    t->told = false;
    t->heads = 0;
    if (!ticket_waits(t))
        return next;
    for (unsigned i = 0; i < t->route->count; i++) {
        struct target *on = t->route->targets[i].target;
        uint64_t at;
        if (t->not_these >> i & 1)
            continue;
        if (head_of(&f->queue, on) != t) {
            tell_new_head(f, on);
            continue;
        }
        t->heads |= 1u << i;
        target_look(on, t->prompt_bytes, now, &at);
        if (at < next)
            next = at;
    }
    return next;
}

bool queue_waits_for(struct fleet *f, const struct target *on)
{
    return f->queue.count > 0 && head_of(&f->queue, on);
}

unsigned queue_count(const struct fleet *f)
{
    return f->queue.count;
}

unsigned queue_waiting_for(const struct fleet *f, const struct target *on)
{
    unsigned n = 0;
    LIST_EACH(k, (struct list *)&f->queue.keys)
    LIST_EACH(s, &LIST_OF(k, struct flow, turn)->children)
    LIST_EACH(node, &LIST_OF(s, struct flow, turn)->children)
    n += index_on(LIST_OF(node, struct ticket, node), on) >= 0;
    return n;
}
