/* answer.h - what a simulated model says to a request: pure, from the seed, the script and the conversation.
 *
 * The same seed and conversation give the same answer from every provider, so that a conversation can move between them. Deciding, in
 * this order: a directive `[[sim ...]]` in the last user message, the turns of the script, tools that were offered, structured output,
 * the provider's `answer`, words from the seed.
 *
 * Ownership: all texts lie in the arena, the script or the request body. */
#ifndef PERDURE_SIMULATE_ANSWER_H
#define PERDURE_SIMULATE_ANSWER_H

#include "simulate/script.h"

enum { ANSWER_CHOICES_MAX = 16, ANSWER_CALLS_MAX = 32, ANSWER_TOKENS_MAX = 1000000 };

struct ask {
    struct span model; /* escapes left in */
    struct json messages, tools, tool_choice, response_format;
    struct span last_user, last_tool; /* texts; p NULL: none */
    struct span last;                 /* the later of the two */
    struct span prefill;              /* of a trailing assistant message; p NULL: none */
    uint64_t conversation;            /* hash of the messages before it */
    unsigned steps;                   /* assistant messages before */
    bool tool_results;                /* after the last user message */
    bool streamed, usage_asked, logprobs;
    int parallel;           /* -1: not said */
    int64_t n, max_tokens;  /* max_tokens -1: not said */
    uint64_t prompt_tokens; /* guessed */
};

/* PD_INVALID: not a chat request, *ret_why says what is missing. */
pd_err ask_read(struct span body, struct arena *mem, struct ask *ret, const char **ret_why) PD_CHECKED;

struct answer_call {
    struct span id, name, arguments;
};

struct answer {
    struct span texts[ANSWER_CHOICES_MAX];
    unsigned choices;
    struct span reasoning;
    struct answer_call calls[ANSWER_CALLS_MAX];
    unsigned calls_count;
    const char *finish; /* finish_reason */
    uint64_t prompt_tokens, completion_tokens, reasoning_tokens;
    struct json fault; /* of a directive; JSON_NONE: none */
};

pd_err answer_make(const struct script_provider *p, uint64_t seed, const struct ask *rq, struct arena *mem,
                   struct answer *ret) PD_CHECKED;

/* `n` words from a seed. */
pd_err answer_words(uint64_t seed, int64_t n, struct arena *mem, struct span *ret) PD_CHECKED;

/* "[[sim key=value key="two words" text=to the end]]" in a text: calls fn for each pair; false when there is none. */
bool directive_read(struct span text, void (*fn)(void *ctx, struct span key, struct span value), void *ctx);

#endif
