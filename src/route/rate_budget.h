/* rate_budget.h - what a provider lets through in a time, learned from its headers and its refusals, and kept to before it refuses.
 *
 * Headers: "60 requests a minute, 10 left, full again in 20 s". What was started since then, or was under way without an answer when it was
 * said, is taken off. Two kinds of provider say the same words: one counts anew at the reset (window), the other fills up all the time
 * (bucket). A budget is taken for a window, the careful reading, until its reset is seen to move. Where much is left nothing is done;
 * below a share of the limit a window's rest is spread over the time to its reset.
 *
 * Refusals without a time, from a provider that sends no such headers: what went through in the last minute is the ceiling for the next
 * ones, which are then spread; it grows from minute to minute and is forgotten after a while.
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
    RATE_MOVES = 3,             /* of a reset make a bucket: a window turns now and then before we believe it */
    RATE_WINDOW_MS = 60 * 1000, /* a budget's time where nobody says it, and that of ceilings */
    RATE_SLICES = 60,           /* of that time */
    RATE_SAME_RESET_MS = 1500,  /* resets that differ by less are one */
    RATE_CEILING_LEAST = 5,     /* fewer attempts in a minute teach no ceiling */
    RATE_CEILING_KEEP_MS = 30 * 60 * 1000, /* a ceiling without a refusal */
    RATE_BYTES_PER_TOKEN = 4,              /* of a prompt, until its target has told better */
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
    double limit, left; /* as last said, and what was started since taken off; limit < 0: nothing known */
    double said_left;
    double flying; /* started, and no answer has told whether it is counted */
    double per_ms; /* what a bucket fills by */
    bool bucket;
    unsigned moves;               /* of its reset, while it was used up */
    bool reset_guessed;           /* the window turned, and nothing was said since */
    uint64_t filled_ms, reset_ms; /* `left` is of the first moment */
    uint64_t said_started_ms;     /* when the attempt that said it began */
    uint64_t next_ms;             /* of a window's rest that is spread: not before */
    double ceiling;               /* learned from refusals, in RATE_WINDOW_MS; 0: none */
    uint64_t refused_ms;          /* the refusal that taught it */
    uint64_t started_ms;          /* the last attempt */
    uint32_t slices[RATE_SLICES]; /* what went through, by second */
};
struct rate_budget {
    struct rate_meter meter[RATE_KIND_COUNT];
    uint64_t slice;         /* number of the newest */
    double tokens_per_byte; /* of prompts, with their answers; 0: not known yet */
};

/* What one attempt has taken. */
struct rate_share {
    uint32_t tokens; /* estimated, then as told */
    bool flying;     /* no answer yet */
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
void rate_used(struct rate_budget *b, struct rate_share *s, size_t prompt_bytes, uint64_t tokens);
/* What may be started now; -1: not known, or no limit. */
int64_t rate_left(const struct rate_budget *b, enum rate_kind kind, uint64_t now);

#endif
