/* continuation.h - the request that asks a provider to go on where another stopped.
 *
 * Where the provider honours a beginning of its answer (prefill), the text is given as
 * such; elsewhere it is asked in a user turn to repeat the last words and go on. In the
 * client's own format the request stays the client's bytes, with turns put in behind the
 * last one; in another it is written anew (msg.h) with these turns. */
#ifndef PERDURE_DIALECT_CONTINUATION_H
#define PERDURE_DIALECT_CONTINUATION_H

#include "dialect/codec.h"
#include "dialect/join.h"

/* How a provider takes the beginning of its own answer (protocol facts: docs/internals/continuing.md). */
#define CONTINUE_WAYS(X)                                                                                    \
    X(CONTINUE_ASK, "ask", "not at all: it is asked in a user turn")                                        \
    X(CONTINUE_TRAILING, "trailing",                                                                        \
      "a last turn of the assistant is gone on with (Claude up to 4.5, llama.cpp, Ollama)")                 \
    X(CONTINUE_PREFIX, "prefix", "the same, marked \"prefix\": true (DeepSeek at /beta, Mistral)")          \
    X(CONTINUE_FINAL, "final", "continue_final_message: true, add_generation_prompt: false (vLLM, SGLang)") \
    X(CONTINUE_REPEAT, "repeat", "the same request once more; its answer must begin with the same text")

enum continue_way {
#define X(code, name, what) code,
    CONTINUE_WAYS(X)
#undef X
        CONTINUE_WAY_COUNT
};
const char *continue_way_name(enum continue_way w);
bool continue_way_find(struct span name, enum continue_way *ret);
/* Does this model, at a provider of that way, honour it? Claude from 4.6 on answers 400, no thinking model takes it while it thinks, and the members
 * of a way are known in its own format alone. `way` as it is, or CONTINUE_ASK. */
enum continue_way continue_way_for(enum continue_way way, const struct codec *c, struct span model,
                                   const struct request_facts *f);
enum join_mode continue_join_mode(enum continue_way w);

struct continuation {
    enum continue_way way;
    struct span seen; /* plain: all text that was shown; lives as long as the request */
    size_t given;     /* of it, as it is given: for join_new() */
};
/* Both of these put in the text and, for CONTINUE_ASK, a user's turn; a last turn of the assistant's that the client itself began is gone on with. Nothing
 * is put in for CONTINUE_REPEAT, nor where nothing but white space was seen. Structured output is not asked for any more: another answer under it would
 * be a document of its own, where this one is to be gone on with. */
/* Client's format: `parts` (from edit_request()) get the turns put in, and the members that the way needs. PD_UNSUPPORTED: the body has no list of turns to
 * put them in (then write it anew). PD_NOMEM. */
pd_err continuation_splice(const struct codec *c, const struct request_facts *f, const struct continuation *k,
                           struct arena *a, struct span parts[REQUEST_PARTS_MAX], unsigned *count) PD_CHECKED;
/* Neutral form, before carry_fit(). max_tokens, where given, is less by what was said. What the way needs beside that is in write_want.continues.
 * PD_NOMEM. */
pd_err continuation_add(struct msg_request *m, const struct continuation *k, struct arena *a) PD_CHECKED;

#endif
