/* signing.h - who a request is from, in the provider's way: a key in a header, or credentials that are fetched (credential/). */
#ifndef PERDURE_RELAY_SIGNING_H
#define PERDURE_RELAY_SIGNING_H

#include "credential/credential.h"
#include "relay/ask.h"

/* READY at once where a key is all there is. The view lives until control returns to the loop. */
enum credential_state signing_get(const struct routing *r, const struct conf_provider *p,
                                  struct credential_view *ret);
/* After WAIT: as credential_wait(). */
void signing_wait(const struct routing *r, const struct conf_provider *p, struct credential_waiter *w,
                  void (*fn)(void *ctx), void *ctx);
/* The provider refused what was signed with this generation. */
void signing_refused(const struct routing *r, const struct conf_provider *p, uint64_t generation);
/* The project that requests are charged to: the config's, else the credentials', in the arena; NULL: none, or no memory. */
const char *signing_project(const struct conf_provider *p, const struct credential_view *view, struct arena *a);
/* Adds the fields that sign `rq`, whose method, path and body are set; values from the arena. PD_NOMEM, PD_INVALID. */
pd_err signing_put(const struct conf_provider *p, const struct credential_view *view,
                   const struct exchange_request *rq, struct arena *a, struct ask_fields *f) PD_CHECKED;

#endif
