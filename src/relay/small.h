/* small.h - a small request that perdure makes by itself (a probe, a model list): one exchange, its whole answer, one deadline. */
#ifndef PERDURE_RELAY_SMALL_H
#define PERDURE_RELAY_SMALL_H

#include "relay/routing.h"

struct small;
/* err PD_OK: an answer came, whatever its status. The spans live until the callback returns; the small request is over by then. */
struct small_answer {
    pd_err err;
    const char *why;
    int status;
    struct span body;
};
typedef void small_fn(void *ctx, const struct small_answer *a);

/* POST with a body, or GET when body.p is NULL. `wire` and `below` as for routing_path(). The body is copied. Callbacks never come from
 * inside this call. */
pd_err small_start(struct worker *w, struct routing *routing, const struct conf_provider *p, const char *wire,
                   const char *below, struct span body, size_t answer_max, uint64_t timeout_ms, small_fn *fn,
                   void *ctx, struct small **ret) PD_CHECKED;
void small_cancel(struct small *s);

#endif
