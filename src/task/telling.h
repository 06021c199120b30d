/* telling.h - what a model is telling through the gateway: a stream of chat completion chunks, collected.
 *
 * Its text can be looked at while it comes, which is what a checkpoint in the middle of a long answer holds. That it is whole is proven as the
 * gateway proves it (codec.h): what only stops is no answer. */
#ifndef PERDURE_TASK_TELLING_H
#define PERDURE_TASK_TELLING_H

#include "base/buf.h"
#include "parse/json.h"

enum { TELLING_TEXT_MAX = 16 << 20 };

struct telling;
struct telling *telling_new(void) PD_CHECKED;    /* NULL: no memory */
struct telling *telling_free(struct telling *t); /* NULL is fine; returns NULL */

/* The next bytes, cut anywhere. PD_NOMEM, PD_TOOBIG; PD_PROTO: it broke off with an error, or is no such stream. Spent then. */
pd_err telling_take(struct telling *t, struct span bytes) PD_CHECKED;
/* All bytes are here. PD_OK: `out` has the chat completion that it makes; PD_PROTO: it is not whole; PD_NOMEM, PD_TOOBIG. */
pd_err telling_end(struct telling *t, struct buf *out) PD_CHECKED;

/* So far, as it stands between the quotes of a JSON string; good until more comes. */
struct span telling_text(const struct telling *t);
/* The error with which it broke off: {"error": ...}; empty: there was none. */
struct span telling_error(const struct telling *t);

#endif
