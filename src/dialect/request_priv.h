/* request_priv.h - reading and editing a request body, shared by the OpenAI dialects. */
#ifndef PERDURE_DIALECT_REQUEST_PRIV_H
#define PERDURE_DIALECT_REQUEST_PRIV_H

#include "dialect/codec.h"

/* Is shown each member of the top object that is not common to all. */
typedef void request_member_fn(void *ctx, struct span key, struct json v);

/* Walks the top object once. As codec.read_request(); `member` may be NULL. */
pd_err request_read(struct span body, struct arena *a, request_member_fn *member, void *ctx,
                    struct request_facts *ret, const char **ret_why);
pd_err request_edit(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                    struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count);

#endif
