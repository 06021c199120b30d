/* keep.h - what makers want back with a tool call, while a client's format has no place for it.
 *
 * Anthropic wants the thinking that led to a call, with its signature; Gemini a signature on the call;
 * OpenAI Responses the encrypted reasoning before it. A client of another format cannot send these back, so they are
 * kept here under the call's id, and put into the request again when the conversation is at its maker.
 * Bounded: the oldest go first. Not thread safe: the caller locks. After a restart a conversation needs them as before: keep_each(), keep_read().
 *
 * A blob is JSON: {"reasoning":[{"text":E,"signature":E,"sealed":E,"id":E},...],"signature":E}, each member where it is there. */
#ifndef PERDURE_DIALECT_KEEP_H
#define PERDURE_DIALECT_KEEP_H

#include "dialect/codec.h"

enum { KEEP_ID_MAX = 256, KEEP_BLOB_MAX = 1 << 20 }; /* larger ones are not kept */
/* Of one request: what is restored in all, and the pieces of reasoning in front of one answer. What is more stays out. */
enum { KEEP_RESTORED_MAX = 16 << 20, KEEP_REASONING_MAX = 1024 };

struct keep;
struct keep *keep_new(size_t limit_bytes) PD_CHECKED;
struct keep *keep_free(struct keep *k);
/* `scope` separates clients: a hash of the client's key. Replaces an older one. Without memory nothing is kept. */
void keep_put(struct keep *k, uint64_t scope, struct span tool_id, enum msg_maker maker, struct span blob);
/* What is kept, oldest first; and from now on what is put, as it is put (fn NULL: no more). So it outlives the process: whoever watches writes it
 * down, and puts it again after a restart. */
typedef void keep_fn(void *ctx, uint64_t scope, struct span tool_id, enum msg_maker maker, struct span blob);
void keep_each(const struct keep *k, keep_fn *fn, void *ctx);
void keep_watch(struct keep *k, keep_fn *fn, void *ctx);
/* One of them as a record and back. PD_NOMEM; PD_SYNTAX: it is none. */
pd_err keep_write(struct buf *out, uint64_t scope, struct span tool_id, enum msg_maker maker,
                  struct span blob) PD_CHECKED;
pd_err keep_read(struct keep *k, struct span record) PD_CHECKED;
/* Copies the blob into the arena. False: not there, or another maker's, or no memory. */
bool keep_get(struct keep *k, uint64_t scope, struct span tool_id, enum msg_maker maker, struct arena *a,
              struct span *ret);
/* Puts what `maker` wants back into the assistant turns of `m` that came without it. PD_NOMEM. */
pd_err keep_restore(struct keep *k, uint64_t scope, enum msg_maker maker, struct msg_request *m,
                    struct arena *a) PD_CHECKED;

#endif
