/* A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986): nodes live in their owners, so nothing is allocated. */
#include "base/clock.h"
#include "loop/loop_priv.h"

/* The earlier root takes the other as its first child. Both are roots (no next, no prev). */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->heap_ms < a->heap_ms) {
        struct timer *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    b->prev = a;
    a->child = b;
    return a;
}

/* Melds a list of siblings pairwise, left to right, then all of them from the right. */
static struct timer *meld_siblings(struct timer *first)
{
    struct timer *pairs = NULL; /* linked by next, last pair first */
    while (first) {
        struct timer *a = first, *b = first->next;
        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct timer *root = NULL;
    while (pairs) {
        struct timer *rest = pairs->next;
        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

static void insert(struct loop *l, struct timer *t)
{
    t->child = t->next = t->prev = NULL;
    t->heap_ms = t->due_ms;
    t->armed = true;
    l->timers = meld(l->timers, t);
}

static void take_out(struct loop *l, struct timer *t)
{
    if (t == l->timers) {
        l->timers = meld_siblings(t->child);
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        l->timers = meld(l->timers, meld_siblings(t->child));
    }
    t->child = t->next = t->prev = NULL;
    t->armed = false;
}

void timer_init(struct timer *t, timer_fn *fn, void *ctx)
{
    *t = (struct timer){.fn = fn, .ctx = ctx};
}

void timer_arm(struct loop *l, struct timer *t, uint64_t due_ms)
{
    if (t->armed) {
        if (due_ms == t->due_ms)
            return;
        if (due_ms >= t->heap_ms) {
            t->due_ms = due_ms; /* later than the heap thinks: put right when it fires */
            return;
        }
        take_out(l, t);
    }
    t->due_ms = due_ms;
    if (due_ms != CLOCK_NEVER)
        insert(l, t);
}

void timer_push(struct loop *l, struct timer *t, uint64_t due_ms)
{
    timer_arm(l, t, due_ms);
}

void timer_stop(struct loop *l, struct timer *t)
{
    if (t->armed)
        take_out(l, t);
}

void timers_run(struct loop *l)
{
    uint64_t now = loop_now_ms(l);
    l->timer_due = 0;
    while (l->timers && l->timers->heap_ms <= now) {
        struct timer *t = l->timers;
        take_out(l, t);
        if (t->due_ms > now) {
            if (t->due_ms != CLOCK_NEVER)
                insert(l, t);
            continue;
        }
        t->fn(t->ctx); /* may free the timer's owner */
    }
}
