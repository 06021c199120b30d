/* breaker.h - stops traffic to a target that fails, and lets it back carefully.
 *
 *   CLOSED  --too many failures or timeouts-->  OPEN
 *   OPEN    --the hold is over--------------->  PROBING   (without probes: TRIAL)
 *   OPEN    --an early probe passes---------->  TRIAL     (fails: nothing changes)
 *   PROBING --the probe passes--------------->  TRIAL     (fails: OPEN, hold doubled)
 *   TRIAL   --the trial calls show output---->  CLOSED    (one fails before that: OPEN, hold doubled)
 *
 * An early probe is one that is made before the hold is over, because calls wait. The hold starts small again with the first whole answer
 * while CLOSED: output alone may be followed by a cut, time after time.
 *
 * Pure: no clock, no sockets. The caller passes `now`, so a test can live through ten minutes in a microsecond. */
#ifndef PERDURE_ROUTE_BREAKER_H
#define PERDURE_ROUTE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_STATES(X)                                      \
    X(BREAKER_CLOSED, "closed", "traffic flows")               \
    X(BREAKER_OPEN, "open", "no traffic until the hold ends")  \
    X(BREAKER_PROBING, "probing", "one small request decides") \
    X(BREAKER_TRIAL, "trial", "a few real calls decide, by their first output")

enum breaker_state {
#define X(code, name, what) code,
    BREAKER_STATES(X)
#undef X
        BREAKER_STATE_COUNT
};
const char *breaker_state_name(enum breaker_state s);

struct breaker_rules {
    unsigned failures, timeouts; /* within the window; 0: this rule never opens */
    uint64_t window_ms, hold_ms, hold_max_ms;
    unsigned trials;
    bool probes; /* a probe must pass before trials */
};

enum {
    BREAKER_REMEMBERED = 64
}; /* rules ask for at most 1000: a higher count than this is met by the window's rate */

struct breaker {
    enum breaker_state state;
    uint64_t since_ms, open_until_ms;
    uint64_t hold_ms; /* the next hold; 0: the rules' first */
    uint32_t failed_at[BREAKER_REMEMBERED], timed_out_at[BREAKER_REMEMBERED]; /* rings, in units of 16 ms */
    uint16_t failed_count, failed_next, timed_out_count, timed_out_next;
    unsigned trials_left, trials_out; /* still to show output; now running without */
    uint32_t trial_round; /* grows each time TRIAL is entered: a place of an earlier round counts no more */
    uint64_t opened_total;
};

enum breaker_result {
    BREAKER_OK,
    BREAKER_FAILED,
    BREAKER_TIMED_OUT,
    BREAKER_NEUTRAL /* cancelled, or the request's own fault */
};

/* A call's trial place: the round it was taken in and whether it has passed by its output. */
enum { TRIAL_NONE = 0, TRIAL_SHOWN = 1 }; /* the lowest bit; the round stands above it */

void breaker_init(struct breaker *b);
/* It was open before a restart, until then; `hold_ms` is its next hold. */
void breaker_reopen(struct breaker *b, const struct breaker_rules *r, uint64_t until_ms, uint64_t hold_ms,
                    uint64_t now);
/* Time passes: an OPEN breaker whose hold is over moves on. Call before asking. */
void breaker_tick(struct breaker *b, const struct breaker_rules *r, uint64_t now);
/* May a call start now? In TRIAL only while trial places are free. */
bool breaker_allows(const struct breaker *b);
/* A call starts. Returns the trial place it takes, to be passed to breaker_output() and breaker_result(); TRIAL_NONE: none. */
uint32_t breaker_start(struct breaker *b);
/* The call on this trial place gave its first output: it passes, so that calls which wait need not wait for whole answers. A failure after
 * that is one like any other where the breaker has closed meanwhile, and opens it where it has not. */
void breaker_output(struct breaker *b, const struct breaker_rules *r, uint32_t *trial, uint64_t now);
/* How a call ended. OPEN and PROBING take no results, TRIAL only those of its own round: a call that began before the breaker opened
 * neither opens it again nor closes it. A success while CLOSED does not clear the window: the rule is about failures in a time. */
void breaker_result(struct breaker *b, const struct breaker_rules *r, enum breaker_result res, uint32_t trial,
                    uint64_t now);
bool breaker_wants_probe(const struct breaker *b);
/* Ignored unless PROBING, or OPEN and passed. */
void breaker_probe_result(struct breaker *b, const struct breaker_rules *r, bool passed, uint64_t now);

#endif
