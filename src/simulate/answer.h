/* answer.h - what a simulated model says to a request: pure, from the seed, the script and the conversation.
 *
 * The same seed and conversation give the same answer from every provider and in every dialect, so that a conversation can move between
 * them. Deciding, in this order: a directive `[[sim ...]]` in the last user message, the turns of the script, tools that were offered,
 * structured output, images and documents (which are described), the provider's `answer`, words from the seed.
 *
 * A varied answer (varied.h) has its words from the seed alone, which is another with every request; what it can go on from is what the
 * request says of it: a prefill, or a last user turn that quotes the end of the answer before it.
 *
 * Ownership: all texts lie in the arena, the script or the request body. */
#ifndef PERDURE_SIMULATE_ANSWER_H
#define PERDURE_SIMULATE_ANSWER_H

#include "simulate/ask.h"

struct answer_call {
    struct span id, name, arguments; /* id n 0: the dialect has none */
};

struct answer {
    struct span texts[ANSWER_CHOICES_MAX];
    unsigned choices;
    struct span reasoning, refusal; /* refusal p NULL: none */
    bool redacted;                  /* some of the reasoning is kept from the caller */
    bool blank;                     /* nothing at all: no text, no block */
    bool sign_only;                 /* reasoning that shows no text, only that it was */
    struct answer_call calls[ANSWER_CALLS_MAX];
    unsigned calls_count;
    const char *finish;     /* one of FINISHES, or a word of the script */
    struct span stopped_at; /* the stop text that ended it; p NULL: none */
    uint64_t prompt_tokens, completion_tokens, reasoning_tokens;
    uint64_t hidden_tokens; /* of reasoning that is not shown: not among completion_tokens */
    bool continues;         /* it goes on where another answer stopped */
    bool strayed;           /* it was to go on, and what was said so far cannot be the beginning of an answer */
    struct json fault;      /* of a directive; JSON_NONE: none */
};

pd_err answer_make(const struct script_provider *p, uint64_t seed, const struct ask *rq, struct arena *mem,
                   struct answer *ret) PD_CHECKED;

/* `n` words from a seed. */
pd_err answer_words(uint64_t seed, int64_t n, struct arena *mem, struct span *ret) PD_CHECKED;

/* "[[sim key=value key="two words" text=to the end]]" in a text: calls fn for each pair; false when there is none. */
bool directive_read(struct span text, void (*fn)(void *ctx, struct span key, struct span value), void *ctx);

#endif
