/* gemini.h - what the relay needs of Gemini's format beside its codec.
 *
 * A client that did not ask for alt=sse gets its stream as the items of one JSON array, while the provider is always asked
 * for events. */
#ifndef PERDURE_DIALECT_GEMINI_H
#define PERDURE_DIALECT_GEMINI_H

#include "base/buf.h"

#define GEMINI_ARRAY_TYPE "application/json; charset=UTF-8"

/* The object of an event as the array's next item; `first`: nothing was written yet. Objects of errors are items too, but nothing
 * follows them: the array stays open, so that a broken stream is no whole array. PD_NOMEM, PD_TOOBIG; on failure nothing was added. */
pd_err gemini_array_item(struct buf *out, bool first, struct span object) PD_CHECKED;
/* The array's end. `first`: it has no item. */
pd_err gemini_array_end(struct buf *out, bool first) PD_CHECKED;

#endif
