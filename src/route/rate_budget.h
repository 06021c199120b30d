/* rate_budget.h - what a provider lets through in a time, learned from its headers and its refusals, and kept to before it refuses.
 *
 * Headers: "60 requests a minute, 10 left, full again in 20 s". Attempts that began before the one whose answer says so are counted in it;
 * those that began later and have no answer yet are taken off. Two kinds of provider say the same words: one counts anew at the reset (window), the other fills up all the time
 * (bucket). A budget is taken for a window, the careful reading, until its reset is seen to move. Where much is left nothing is done;
 * below a share of the limit a window's rest is spread over the time to its reset.
 *
 * Refusals without a time, from a provider that sends no such headers: a little less than what went through in the last minute is the
 * ceiling for the next ones, which are then spread. It holds for a minute, each time that it is confirmed for twice as long; then it grows
 * from minute to minute, and is forgotten after half an hour of that.
 *
 * Pure: no clock, no sockets. The caller passes `now`. */
#ifndef PERDURE_ROUTE_RATE_BUDGET_H
#define PERDURE_ROUTE_RATE_BUDGET_H

#include "provider/classify.h"
#include "provider/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RATE_SPREAD_SHARE 0.2 /* of the limit: below it what is left is spread */
enum {
    RATE_JITTER_MS = 250,       /* attempts may overtake each other on their way by so much */
    RATE_MOVES = 3,             /* of a reset make a bucket: a window turns now and then before we believe it */
    RATE_WINDOW_MS = 60 * 1000, /* a budget's time where nobody says it, and that of ceilings */
    RATE_SLICES = 60,           /* of that time */
    RATE_SAME_RESET_MS = 1500,  /* resets that differ by less are one */
    RATE_CEILING_LEAST = 5,     /* fewer attempts in a minute teach no ceiling */
    RATE_CEILING_KEEP_MS = 30 * 60 * 1000, /* a ceiling that grows without a refusal */
    RATE_CONFIRMED_MOST = 5,
    RATE_BYTES_PER_TOKEN = 4, /* of a prompt, until its target has told better */
};

#define RATE_KINDS(X)            \
    X(RATE_REQUESTS, "requests") \
    X(RATE_TOKENS, "tokens")

enum rate_kind {
#define X(code, name) code,
    RATE_KINDS(X)
#undef X
        RATE_KIND_COUNT
};
const char *rate_kind_name(enum rate_kind k);

struct rate_meter {
    double limit; /* < 0: nothing known */
    double
        left; /* as the provider last counted, and filled up since; without those that it may not have counted yet */
    double said_left;
    double flying; /* started, and no answer yet */
    double per_ms; /* what a bucket fills by */
    bool bucket;
    unsigned moves;               /* of its reset, while it was used up */
    bool reset_guessed;           /* the window turned, and nothing was said since */
    uint64_t filled_ms, reset_ms; /* `left` is of the first moment */
    uint64_t said_started_ms;     /* when the attempt that said it began: those before it are counted */
    uint64_t next_ms;             /* of a window's rest that is spread: not before */
    double ceiling;               /* learned from refusals, in RATE_WINDOW_MS; 0: none */
    unsigned confirmed;           /* refusals at about the same ceiling, in a row */
    bool refusing;                /* and nothing was let through since */
    uint64_t refused_ms;          /* the refusal that taught it */
    uint64_t started_ms;          /* the last attempt */
    uint32_t slices[RATE_SLICES]; /* what was started and not refused, by second */
};
struct rate_budget {
    struct rate_meter meter[RATE_KIND_COUNT];
    uint64_t slice;       /* number of the newest */
    double tokens, bytes; /* of an attempt, with its answer, and of its prompt, lately; 0: not known yet */
};

/* What one attempt has taken. */
struct rate_share {
    uint32_t tokens; /* estimated, then as told */
    bool flying;     /* no answer yet */
    uint8_t charged; /* bit per kind: its answer told nothing, we have taken it off */
    uint8_t raised;  /* bit per kind: it was under way when a ceiling was taught, and has raised it */
};

void rate_budget_init(struct rate_budget *b);
/* Time passes: what is left is that of now. */
void rate_tick(struct rate_budget *b, uint64_t now);
/* May an attempt with a prompt of this size start? Else `*ret_at_ms`: when, as things stand. 0 bytes: of any size. */
bool rate_allows(struct rate_budget *b, size_t prompt_bytes, uint64_t now, uint64_t *ret_at_ms);
/* The provider's own words, not what we made of them, keep such an attempt back. */
bool rate_told(struct rate_budget *b, size_t prompt_bytes, uint64_t now);
void rate_start(struct rate_budget *b, size_t prompt_bytes, uint64_t now, struct rate_share *ret);
/* An attempt's answer began, and this is what its headers say of limits (-1: nothing). */
void rate_facts_said(struct rate_budget *b, struct rate_share *s, const struct rate_facts *facts,
                     uint64_t started_ms, uint64_t now);
/* It ended. Refused by a limit: it took nothing, and may teach. */
void rate_end(struct rate_budget *b, struct rate_share *s, const struct verdict *v, uint64_t started_ms,
              uint64_t now);
/* The tokens that it took in the end, prompt and answer. */
void rate_used(struct rate_budget *b, struct rate_share *s, size_t prompt_bytes, uint64_t tokens,
               uint64_t started_ms);
/* What may be started now; -1: not known, or no limit. */
double rate_left_exact(const struct rate_budget *b,
                       enum rate_kind kind); /* as of the last tick; of a known limit */
int64_t rate_left(const struct rate_budget *b, enum rate_kind kind, uint64_t now);

#endif
