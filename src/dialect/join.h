/* join.h - where a new answer goes on from the text that a client has seen already.
 *
 * A stream broke; another provider was asked to continue. What it sends may go on exactly
 * there, may repeat the end (an echo), may repeat all from the beginning, or may be something
 * else altogether. The joiner holds the beginning of the new text back until it knows which,
 * within JOIN_WINDOW bytes, and then hands on only what is new. It never makes anything up:
 * what cannot be joined is said to be so.
 *
 *   LOOKING --the seam is found------------------> JOINED  (from there on text passes)
 *   LOOKING --it cannot be there any more--------> FAILED
 *
 * Pure: texts in, texts out. */
#ifndef PERDURE_DIALECT_JOIN_H
#define PERDURE_DIALECT_JOIN_H

#include "base/buf.h"
#include "base/err.h"

/* How the provider was asked, which says what to expect. */
enum join_mode {
    JOIN_PREFILL, /* it was given the text as the beginning of its own answer: it goes on behind it, or echoes */
    JOIN_ANCHOR,  /* it was asked to begin with the text's last words (join_anchor()) and to go on behind them */
    JOIN_REPEAT,  /* it was asked the same once more: the answer has to begin with the text */
};
enum join_state { JOIN_LOOKING, JOIN_JOINED, JOIN_FAILED };
enum {
    JOIN_WINDOW = 1024, /* bytes of a new text before its seam, beside an echo that is still matching */
    JOIN_ANCHOR_LEAST = 16,
    JOIN_ANCHOR_MOST = 96,
};

struct join;
/* `seen`: the whole text so far, plain UTF-8; copied. `given`: how much of it the provider was given as its beginning (PREFILL strips trailing white
 * space: the rest may come again and is then dropped). NULL: out of memory. */
struct join *join_new(enum join_mode mode, struct span seen, size_t given) PD_CHECKED;
struct join *join_free(struct join *j);
/* A piece of the new text, escaped as in a JSON string. *ret: what to show of it and of what was held back, escaped; empty while looking; lives until the
 * next call. PD_NOMEM. The state is *ret_state. */
pd_err join_feed(struct join *j, struct span piece, enum join_state *ret_state, struct span *ret) PD_CHECKED;
/* The new text is over (its answer ended, or something other than text comes). Decides: a LOOKING one becomes JOINED when what it has can be joined (an
 * answer that consists of the echo alone is joined, with nothing to show), else FAILED. */
pd_err join_end(struct join *j, enum join_state *ret_state, struct span *ret) PD_CHECKED;
/* The last words of a text, whole ones from their first letter on, at most JOIN_ANCHOR_MOST bytes: what JOIN_ANCHOR asks for and looks for. All of a
 * short text. */
struct span join_anchor(struct span seen);
/* How much of a text can be given as a beginning: without trailing white space. */
size_t join_givable(struct span seen);

#endif
