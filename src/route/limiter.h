/* limiter.h - how many attempts a target gets at once: nothing is limited until it shows that it is overloaded.
 *
 *   FREE    --a sign of overload------------------------->  LIMITED  (a share of what was running, at least 1)
 *   LIMITED --another, of an attempt that began after it->  LIMITED  (cut again)
 *   LIMITED --a success---------------------------------->  LIMITED  (1 / limit more: one more for each round of successes)
 *   FREE    --it comes back from an outage or a rest----->  RAMP     (a few)
 *   RAMP    --a success---------------------------------->  RAMP     (two more: each round starts twice as many as the one before;
 *                                                                     one more, once a round starts LIMITER_RAMP_ROUND)
 *   any     --the limit held nobody back for a while----->  FREE
 *
 * A success is a first token: an overloaded provider refuses at the door, and a stream of half an hour must not keep the limit low for as long.
 *
 * In a ramp what has started keeps its place while its stream runs: one more for each success would start the same few in every round.
 *
 * Pure: no clock, no sockets. The caller passes `now`. */
#ifndef PERDURE_ROUTE_LIMITER_H
#define PERDURE_ROUTE_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#define LIMITER_SHARE 0.6 /* of what was running is left by a cut */
enum {
    LIMITER_LIFT_MS = 5 * 60 * 1000,  /* a limit that held nobody back for so long is lifted */
    LIMITER_RAMP_LIFT_MS = 10 * 1000, /* the same of a ramp */
    LIMITER_RAMP_FIRST = 4,           /* attempts that a ramp begins with, at least */
    LIMITER_RAMP_ROUND = 512,         /* and a round starts, at most: from there on rounds grow no more */
    LIMITER_MOST = 1000 * 1000,       /* a limit that has grown so far is none */
};

#define LIMITER_STATES(X)                                     \
    X(LIMITER_FREE, "free", "no limit")                       \
    X(LIMITER_LIMITED, "limited", "overload has set a limit") \
    X(LIMITER_RAMP, "ramp", "it came back: a few, then more")

enum limiter_state {
#define X(code, name, what) code,
    LIMITER_STATES(X)
#undef X
        LIMITER_STATE_COUNT
};
const char *limiter_state_name(enum limiter_state s);

struct limiter {
    enum limiter_state state;
    double limit;      /* unless FREE */
    double began_with; /* RAMP: the first limit */
    uint64_t cut_ms;   /* the last cut or ramp: failures of attempts from before it do not cut again */
    uint64_t bound_ms; /* when the limit was last reached */
    uint64_t cuts_total;
};

/* May another start while `running` run? Lifts what held nobody back for a while. */
bool limiter_allows(struct limiter *l, unsigned running, uint64_t now);
void limiter_success(struct limiter *l);
/* A sign of overload, of an attempt that began at `started_ms`; `running` with this one. True: it was cut. */
bool limiter_overload(struct limiter *l, unsigned running, uint64_t started_ms, uint64_t now);
/* The target comes back: `first` attempts, then twice as many more each round, as far as rounds grow. A lower limit that is there already stays. */
void limiter_ramp(struct limiter *l, unsigned first, uint64_t now);
/* Whole attempts; 0: no limit. */
unsigned limiter_limit(const struct limiter *l);

#endif
