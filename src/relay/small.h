/* small.h - a small request that perdure makes by itself (a probe, a model list): one exchange, its answer, one deadline. */
#ifndef PERDURE_RELAY_SMALL_H
#define PERDURE_RELAY_SMALL_H

#include "relay/ask.h"

struct small;
/* err PD_OK: an answer came, whatever its status. The spans live until the callback returns; the small request is over by then. */
struct small_answer {
    pd_err err;
    const char *why;
    int status;
    struct span body;
};
typedef void small_fn(void *ctx, const struct small_answer *a);
/* Looks at the bytes of a 200 as they come. True: enough was seen. The rest is not waited for, and the callback gets what was there. */
typedef bool small_look_fn(void *ctx, struct span bytes);

struct small_request {
    const struct ask *ask; /* POST of its body in its wire format; the body is copied. NULL: GET of `below` */
    struct span model;     /* text; outlives the small request */
    const char *below;     /* as for routing_path(); outlives it too */
    small_look_fn *look;   /* NULL: nobody does */
};

/* Signed and sent when the credentials are there. Callbacks never come from inside this call. */
pd_err small_start(struct worker *w, struct routing *routing, const struct conf_provider *p,
                   const struct small_request *what, size_t answer_max, uint64_t timeout_ms, small_fn *fn,
                   void *ctx, struct small **ret) PD_CHECKED;
void small_cancel(struct small *s);

#endif
