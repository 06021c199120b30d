/* pace.h - finds providers that throttle by becoming slow: they refuse nobody, send no headers, and answer ever later.
 *
 * What is usual is each target's own: a baseline of its time to the first token for prompts of like size, and of its time for each token after it,
 * which follow slowly (PACE_SLOWLY_MS). The last answers are the fast side. When at least three quarters of them took `factor` times the
 * baseline or more, the target is throttled: traffic goes elsewhere where it can, and a few calls find out when it is over.
 *
 *   USUAL     --the last answers are slow------>  THROTTLED
 *   THROTTLED --the hold is over, a call comes->  TRIAL
 *   TRIAL     --the trial calls are quick------>  USUAL      (one is slow: THROTTLED, hold doubled)
 *   THROTTLED --calls that had to go there are quick-->  USUAL
 *   THROTTLED, TRIAL --for PACE_BELIEVE_MS----->  USUAL      (this is how it is now: the baseline is learned anew)
 *
 * Slow answers are not learned, so that throttling does not become usual by itself.
 *
 * Pure: no clock, no sockets. The caller passes `now`. */
#ifndef PERDURE_ROUTE_PACE_H
#define PERDURE_ROUTE_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACE_STATES(X)                                                      \
    X(PACE_USUAL, "usual", "as quick as ever")                              \
    X(PACE_THROTTLED, "throttled", "slow: used when there is nothing else") \
    X(PACE_TRIAL, "trial", "a few calls find out whether it is over")

enum pace_state {
#define X(code, name, what) code,
    PACE_STATES(X)
#undef X
        PACE_STATE_COUNT
};
const char *pace_state_name(enum pace_state s);

/* What is measured. */
enum pace_kind {
    PACE_TTFT /* ms to the first token */,
    PACE_TOKEN /* ms for each token after it */,
    PACE_KIND_COUNT
};
const char *pace_kind_name(enum pace_kind k); /* "ttft", "token" */

enum {
    PACE_SAMPLES_MOST = 64,            /* rules.samples at most */
    PACE_SIZES = 6,                    /* prompts under 4 KB, 16 KB, 64 KB, 256 KB, 1 MB, and above */
    PACE_SLOWLY_MS = 3600 * 1000,      /* a baseline follows what it sees within about this time */
    PACE_BELIEVE_MS = 2 * 3600 * 1000, /* slow for so long is no throttling */
};

struct pace_rules {
    double factor;    /* 0: off */
    unsigned samples; /* that a baseline is made of at first, and that are looked at; at most PACE_SAMPLES_MOST */
    uint64_t hold_ms, hold_max_ms;
    unsigned trials; /* quick calls that end it */
};

struct pace_base {
    double log_ms; /* of the geometric mean, which a lone outlier moves little */
    uint64_t samples, moved_ms;
};

struct pace {
    enum pace_state state;
    enum pace_kind cause; /* unless USUAL: what became slow */
    struct pace_base ttft[PACE_SIZES], token;
    double ratio[PACE_KIND_COUNT]; /* lately, times the baseline; 0: not known */
    uint64_t
        slow[PACE_KIND_COUNT]; /* bit per answer, the last is the lowest: it took `factor` times the baseline */
    unsigned known[PACE_KIND_COUNT]; /* bits that count */
    uint64_t since_ms;               /* in this state; of TRIAL: throttled since */
    uint64_t until_ms;               /* THROTTLED: no trial before; TRIAL: then another round of calls may start */
    uint64_t hold_ms;                /* the last hold; 0: none yet */
    unsigned trials_left, quick;     /* that may still start; quick answers in a row */
    uint64_t throttled_total;
};

void pace_init(struct pace *p);
/* An answer took so long. `prompt_bytes` is looked at for PACE_TTFT. True: the state changed. */
bool pace_sample(struct pace *p, const struct pace_rules *r, enum pace_kind kind, size_t prompt_bytes, double ms,
                 uint64_t now);
/* It took at least so long and was then given up: counts when that is slow already. */
bool pace_waited(struct pace *p, const struct pace_rules *r, size_t prompt_bytes, double at_least_ms,
                 uint64_t now);
/* A call starts. True: the state changed. */
bool pace_start(struct pace *p, const struct pace_rules *r, uint64_t now);
/* Calls should go elsewhere if they can. */
bool pace_spared(const struct pace *p, uint64_t now);
/* The usual ms to the first token of a prompt of this size; 0: not known. */
double pace_usual_ms(const struct pace *p, enum pace_kind kind, size_t prompt_bytes);

#endif
