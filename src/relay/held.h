/* held.h - calls that were on hold when their process ended: the same request asked again waits on from where it was.
 *
 * A call that begins to wait for recovery is written to the journal, and again when it waits no longer. What an earlier process left behind is
 * read at the start; a request that comes back takes its hold up: the clock of the hold goes on (time without a perdure was spent waiting too), and
 * its place among those that wait is that of its first asking (route/queue.h). Whoever does not come back soon is forgotten.
 *
 * Any thread, but for held_record() and held_take_over(): one at a time. */
#ifndef PERDURE_RELAY_HELD_H
#define PERDURE_RELAY_HELD_H

#include "state/journal.h"

enum { HELD_RETURN_MS = 10 * 60 * 1000, HELD_MOST = 16384 };

struct held_call {
    uint64_t number;        /* of the call, in the journal */
    uint64_t key;           /* who asks for what */
    uint64_t asked_wall_ms; /* at first */
    uint64_t held_ms;       /* before `since` */
    uint64_t since_wall_ms; /* on hold */
};
/* A journal NULL takes nothing. */
void held_begun(struct journal *j, const struct held_call *h);
void held_ended(struct journal *j, uint64_t number);

struct held;
struct held *held_new(void) PD_CHECKED;
struct held *held_free(struct held *h);
/* Records of an earlier process, one by one, and then: it has ended, these are to come back. They are written to `j` (may be NULL) again. */
void held_record(struct held *h, const struct journal_record *r);
unsigned held_take_over(struct held *h, struct journal *j, uint64_t wall_ms);
/* Cheap where there is none; h may be NULL. */
bool held_any(struct held *h);
/* The one with this key that asked first; it is taken out. `held_ms` is up to now. False: there is none. */
bool held_find(struct held *h, uint64_t key, uint64_t wall_ms, struct held_call *ret);

#endif
