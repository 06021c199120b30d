/* kept.h - answers as their clients see them come, kept for a client that asks again.
 *
 * Every call writes what it shows into a kept answer, or what it has collected so far for a client that does not stream. While the call runs, others can
 * follow it (follow.h); when it ended before its client had all of it, the answer stays in a
 * table for a while, and the same request asked again goes on from it:
 *
 *   RUNNING --the call ended whole--------------------> WHOLE   (kept where its client left, or is to find it by its Idempotency-Key)
 *   RUNNING --it broke off, or its client left--------> PART    another call may take it up: RUNNING again
 *   RUNNING --it ended without anything to go on from-> GONE
 *
 * A client that comes back is known by its key and the request itself (its format, path and body), and at once when it sends the
 * same Idempotency-Key. The same request of a client whose first one is still there is
 * another call, not a return: people sample one prompt several times at once.
 *
 * Shared by the workers. An answer has a lock of its own, held while a few deltas are added or told. */
#ifndef PERDURE_RELAY_KEPT_H
#define PERDURE_RELAY_KEPT_H

#include "base/list.h"
#include "dialect/shown.h"

#include <pthread.h>
#include <stdatomic.h>

#define KEPT_STATES(X)                                                \
    X(KEPT_RUNNING, "running", "a call is adding to it")              \
    X(KEPT_PART, "part", "it broke off; another call may take it up") \
    X(KEPT_WHOLE, "whole", "all of it is there")                      \
    X(KEPT_GONE, "gone", "there is nothing to come back for")

enum kept_state {
#define X(code, name, what) code,
    KEPT_STATES(X)
#undef X
        KEPT_STATE_COUNT
};
const char *kept_state_name(enum kept_state s);

/* Who asked for what. `sketch` is cheap and made for every call; `body` only where it matters, 0: not made. */
struct kept_key {
    uint64_t sketch; /* of the client's key, format, path, body size and the conversation's beginning */
    uint64_t body;
    uint64_t idempotency; /* of the client's key and its Idempotency-Key; 0: none was sent */
};

struct kept_table;
struct kept_answer {
    struct list node, bucket; /* in the table, oldest first, and among those of like sketches; in none otherwise */
    struct kept_table *kept;
    _Atomic unsigned refs;
    char id[24]; /* of the call that began it */
    struct kept_key key;
    const struct codec *codec;
    bool include_usage, array;
    bool collected; /* its client does not stream: until it is WHOLE it may begin anew, and is told to nobody */
    uint64_t began_wall_ms;
    /* ---- under the lock */
    pthread_mutex_t lock;
    enum kept_state state;
    bool attended; /* its client is there, or has had all of it */
    struct shown shown;
    struct msg_usage usage; /* WHOLE */
    enum msg_finish finish; /* WHOLE */
    uint64_t expires_ms;    /* in the table */
    struct list followers;  /* struct follow; follow.c */
    _Atomic unsigned followers_count;
};

/* memory_bytes: of all answers in the table together; the oldest go first. keep_ms 0: nothing is kept. */
struct kept_table *kept_new(uint64_t memory_bytes, uint64_t keep_ms) PD_CHECKED;
struct kept_table *kept_free(struct kept_table *k);
void kept_rules(struct kept_table *k, uint64_t memory_bytes, uint64_t keep_ms);
/* NULL: out of memory. The caller has a reference. */
struct kept_answer *kept_begin(struct kept_table *k, const char *id, const struct codec *codec) PD_CHECKED;
struct kept_answer *kept_ref(struct kept_answer *a);
struct kept_answer *kept_unref(struct kept_answer *a); /* NULL is fine; returns NULL */

/* Is anything kept that this request may be a return for? Then make key->body and ask kept_find(). Cheap. */
bool kept_may_have(struct kept_table *k, const struct kept_key *key, uint64_t now_ms);
/* What a client that asks for this comes back for, with a reference; NULL: nothing. A PART is given to one alone: it is RUNNING then, out of the table, and
 * *ret_taken. */
struct kept_answer *kept_find(struct kept_table *k, const struct kept_key *key, uint64_t now_ms, bool *ret_taken);
/* By the id of its call; of those in the table. */
struct kept_answer *kept_by_id(struct kept_table *k, struct span id, uint64_t now_ms);
/* Puts it into the table: its client may come back from now on. Its key has the body's hash, or an Idempotency-Key. */
void kept_offer(struct kept_table *k, struct kept_answer *a, uint64_t now_ms);
/* Its call is over. `stays`: it is in the table from now on, for keep_ms; else it leaves it, and only those that follow it have it. */
void kept_settle(struct kept_table *k, struct kept_answer *a, enum kept_state state, bool stays, uint64_t now_ms);
struct kept_figures {
    unsigned count;
    uint64_t bytes;
};
struct kept_figures kept_figures(struct kept_table *k);

#endif
