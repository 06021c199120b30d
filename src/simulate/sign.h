/* sign.h - what a maker of models signs, so that it knows its own again: reasoning, thought signatures, encrypted content.
 *
 * The keys are constants: every simulated provider of a maker, in any process, knows the signatures of the others, and none knows
 * those of another maker. */
#ifndef PERDURE_SIMULATE_SIGN_H
#define PERDURE_SIMULATE_SIGN_H

#include "base/arena.h"
#include "parse/put.h"

enum maker { MAKER_ANTHROPIC, MAKER_GOOGLE, MAKER_OPENAI };

enum { SIGN_NONCE = 16, SIGN_MAC = 32, SIGN_BYTES = 1 + SIGN_NONCE + SIGN_MAC + 32 };

/* A signature over `what` ("thinking", "call", ...) and `text`. `seed` makes two of the same text differ. */
void sign_put(struct put *out, enum maker maker, const char *what, struct span text, struct span seed);
/* Did this maker sign this? `signature` is what sign_put() wrote. */
bool sign_fits(enum maker maker, const char *what, struct span text, struct span signature, struct arena *mem);

/* Ids that tell whether they are ours: `n` letters, the second half of them made from the first. */
void sign_id_put(struct put *out, struct span first_half, const char *what);
bool sign_id_fits(struct span id, const char *what);

#endif
