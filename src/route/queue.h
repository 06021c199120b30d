/* queue.h - calls that wait for a target, in a fair order: client keys in turn, within a key its sessions in turn, within a session by arrival.
 *
 * Routes differ, so there is no one line but one order: the head for a target is the first in that order that could use it. A call may
 * start on a target only as its head, or when nobody waits for it. Whoever cannot use a target holds nobody up there, and keeps its
 * place for others.
 *
 * Waiting calls need no polling. Heads alone look at times (queue_next_ms()); everyone else is told when it has become a head, or when
 * something was freed for it: fleet_watch.ready. A call that is told looks: it picks, starts, or asks queue_next_ms() again.
 *
 * A call that was waiting before its process ended, and is asked again, stands where it would stand (ticket.asked_ms): before those that
 * came to the end of the line later, its key and session too.
 *
 * A ticket waits only while its call could start at once on the targets it names. While it waits for something of its own (backoff) it
 * is to leave, else it would hold up those behind it.
 *
 * Entering takes a little memory for a key or session that has none waiting yet; without any they share one place, nothing fails.
 * All under the fleet's lock. */
#ifndef PERDURE_ROUTE_QUEUE_H
#define PERDURE_ROUTE_QUEUE_H

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fleet;
struct target;
struct route;
struct flow;

/* Embedded in a call, zeroed before its first use; must not move while it waits. */
struct ticket {
    struct list node;  /* in its session */
    struct flow *flow; /* its session; NULL: does not wait */
    const struct route *route;
    uint32_t not_these; /* bit per route target: not on these */
    uint32_t heads;     /* bit per route target: it was the head there when it last looked */
    bool told;          /* and has not looked since */
    size_t prompt_bytes;
    uint64_t since_ms;
    uint64_t
        asked_ms; /* it has waited since then, in an earlier process; 0: it begins when it enters. Until it starts */
    void *owner; /* whose it is, for fleet_watch.ready; the queue does not look */
};

static inline bool ticket_waits(const struct ticket *t)
{
    return t->flow != NULL;
}
/* Begins to wait; one that waits already keeps its place, with the new set of targets. Key and session 0: none, a line of their own. */
void queue_enter(struct fleet *f, struct ticket *t, const struct route *route, uint32_t not_these,
                 size_t prompt_bytes, uint64_t key, uint64_t session, uint64_t now);
/* It starts (its key and session have had their turn) or goes. Whoever becomes a head by it is told. Harmless when it does not wait. */
void queue_leave(struct fleet *f, struct ticket *t, bool starts, uint64_t now);
/* Nobody else who could use this target comes first. `t` need not wait: then nobody at all waits for it. */
bool queue_may_start(struct fleet *f, const struct ticket *t, const struct target *on);
/* When a waiting call should look again without being told; CLOCK_NEVER when it is nowhere the head. */
uint64_t queue_next_ms(struct fleet *f, struct ticket *t, uint64_t now);
/* Something may have become free on this target: its head is told if it could start. */
void queue_tell(struct fleet *f, struct target *on, uint64_t now);
/* Someone waits who could use it. */
bool queue_waits_for(struct fleet *f, const struct target *on);
unsigned queue_count(const struct fleet *f);
/* Of those that wait, how many could use this target. O(all that wait). */
unsigned queue_waiting_for(const struct fleet *f, const struct target *on);

#endif
