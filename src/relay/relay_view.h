/* relay_view.h - the running calls as /api/calls shows them. */
#ifndef PERDURE_RELAY_RELAY_VIEW_H
#define PERDURE_RELAY_RELAY_VIEW_H

#include "relay/record.h"
#include "relay/relay.h"

/* The caller holds the fleet's lock. The record lives until the callback returns; `state` is the call's state. */
void relay_each_running(struct gateway *g, uint64_t now_ms,
                        void (*each)(void *ctx, const struct call_record *r, const char *state), void *ctx);

/* The answer of a call by its id, running or kept, with a reference; NULL: none, or it is no stream. */
struct kept_answer;
struct kept_answer *relay_answer_of(struct gateway *g, struct span id, uint64_t now_ms);

#endif
