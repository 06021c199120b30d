/* lost.h - calls that were under way when their process was killed: they get their line in the ledger at the next start.
 *
 * A call that lasts is written to the journal as its line would be if it ended now, with the outcome LOST_OUTCOME: after LOST_FROM_MS, when its state
 * changes or an attempt begins, and else in growing gaps, since what it has used grows. Its true line, when it ends, takes that
 * line's place. One that was left behind was killed: what was spent on it, as far as it was written, is counted, once.
 *
 * For one thread at a time. */
#ifndef PERDURE_RELAY_LOST_H
#define PERDURE_RELAY_LOST_H

#include "relay/ledger.h"
#include "state/journal.h"

#define LOST_OUTCOME "interrupted"
enum {
    LOST_FROM_MS = 250,
    LOST_GAP_LEAST_MS = 250,      /* between two lines of a call; doubled each time, */
    LOST_GAP_MOST_MS = 60 * 1000, /* up to this */
    LOST_MOST = 16384,            /* calls that are looked for at a start */
};

/* Any thread; a journal NULL takes nothing. */
void lost_running(struct journal *j, struct span call_id, struct span line);

struct lost;
struct lost *lost_new(void) PD_CHECKED;
struct lost *lost_free(struct lost *l); /* NULL is fine; returns NULL */
/* Records of an earlier process, one by one. */
void lost_record(struct lost *l, const struct journal_record *r);
/* Whoever wrote them has ended: what is left goes into the ledger and, as the lines of ended calls, into `j` (may be NULL). How many did. */
unsigned lost_take(struct lost *l, struct ledger *ledger, struct journal *j);

#endif
