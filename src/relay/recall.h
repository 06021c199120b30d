/* recall.h - answers on disk: what a client had of its answer when the process was killed is there for it when it asks again.
 *
 * A stream that lasts is written to the journal (state/journal.h) as it goes on, in pieces, a little behind what its
 * client has; one that ends soon never is. At the next start what had not come to its client's end is
 * put among the kept answers (kept.h): the same request goes on from it. */
#ifndef PERDURE_RELAY_RECALL_H
#define PERDURE_RELAY_RECALL_H

#include "relay/kept.h"
#include "state/journal.h"

enum {
    RECALL_FROM_MS = 250,      /* a stream younger than this is not written */
    RECALL_EVERY_MS = 250,     /* and then a piece as often as this */
    RECALL_PIECE_BYTES = 4096, /* or when so much has come together */
};
/* What of an answer the journal has. */
struct recall {
    bool begun;
    size_t at;        /* written up to this position */
    uint64_t next_ms; /* not before */
};

/* Writes what is new, when it is time. The answer's lock is not held. */
void recall_write(struct recall *c, struct journal *j, struct kept_answer *a, uint64_t age_ms, uint64_t now_ms);
/* What was added so far was taken back: the answer begins anew, and in the journal with the next piece. */
void recall_anew(struct recall *c);
/* The call is over. */
void recall_ended(struct recall *c, struct journal *j, struct kept_answer *a, enum kept_state state);
/* At start: records of an earlier process are told one by one, and then what it left behind is taken: answers younger than keep_ms are put into the table, and
 * into `j` (may be NULL) again. `all`: also what seems to be under way, since whoever wrote it is gone. For one thread at a time. */
struct recall_search;
struct recall_search *recall_search_new(struct kept_table *k) PD_CHECKED;
struct recall_search *recall_search_free(struct recall_search *s);
void recall_record(struct recall_search *s, const struct journal_record *r);
unsigned recall_take(struct recall_search *s, struct journal *j, uint64_t keep_ms, bool all, uint64_t wall_ms,
                     uint64_t now_ms);

#endif
