/* jsonarray.h - one JSON array that arrives in pieces, item by item.
 *
 * Some servers stream an answer as the items of one array: `[{...}` now, `,{...}`
 * later, `]` at the end. The splitter finds where top items end, and keeps only the
 * unfinished one, so memory is bounded by `max_item` whatever the peer does. An item
 * that lies whole in one feed is not copied.
 *
 * It looks at brackets and strings, not at the grammar: items are for the caller to
 * check (json_check). So that nothing goes unseen, what is no array at all comes as
 * items too: a bare object is one, and text where a value should be is one up to the next
 * comma, bracket or line end.
 *
 * Ownership: the span given to the callback lives until it returns. */
#ifndef PERDURE_PARSE_JSONARRAY_H
#define PERDURE_PARSE_JSONARRAY_H

#include "base/err.h"
#include "base/span.h"

typedef pd_err jsonarray_fn(void *ctx, struct span item);

struct jsonarray;
struct jsonarray *jsonarray_new(size_t max_item, jsonarray_fn *on_item, void *ctx) PD_CHECKED;
struct jsonarray *jsonarray_free(struct jsonarray *j); /* NULL is fine; returns NULL */

/* Takes all of `in` or fails: PD_NOMEM, PD_TOOBIG, or what on_item returned. After a failure the splitter is spent: free it. */
pd_err jsonarray_feed(struct jsonarray *j, struct span in) PD_CHECKED;
/* The bytes are over: what is pending is delivered as it stands (it is cut, unless it is a scalar). */
pd_err jsonarray_finish(struct jsonarray *j) PD_CHECKED;
/* Was the array's own closing bracket seen? */
bool jsonarray_closed(const struct jsonarray *j);
/* Bytes now held back for an unfinished item. */
size_t jsonarray_pending(const struct jsonarray *j);

#endif
