#include "relay/signing.h"

#include "base/clock.h"

enum credential_state signing_get(const struct routing *r, const struct conf_provider *p,
                                  struct credential_view *ret)
{
    struct credential *c = routing_credential(r, p);
    *ret = (struct credential_view){.why = ""};
    return c ? credential_get(c, ret) : CREDENTIAL_READY;
}

void signing_wait(const struct routing *r, const struct conf_provider *p, struct credential_waiter *w,
                  void (*fn)(void *ctx), void *ctx)
{
    credential_wait(routing_credential(r, p), w, fn, ctx);
}

void signing_refused(const struct routing *r, const struct conf_provider *p, uint64_t generation)
{
    struct credential *c = routing_credential(r, p);
    if (c)
        credential_refused(c, generation);
}

const char *signing_project(const struct conf_provider *p, const struct credential_view *view, struct arena *a)
{
    if (p->cloud.project)
        return p->cloud.project;
    return view->project.n ? arena_strndup(a, view->project.p, view->project.n) : NULL;
}

static pd_err put_bearer(struct span token, struct arena *a, struct ask_fields *f)
{
    const struct span parts[] = {SPAN_LIT("Bearer "), token};
    char *bearer = arena_join(a, parts, sizeof(parts) / sizeof(parts[0]));
    if (!bearer)
        return PD_NOMEM;
    ask_put(f, "Authorization", span_str(bearer));
    return PD_OK;
}

/* The authority of base_url: what net/client sends as Host. */
static struct span host_of(const struct conf_provider *p)
{
    const char *at = strstr(p->base_url, "://");
    struct span rest = span_str(at ? at + 3 : p->base_url);
    return span_cut(&rest, '/');
}

static pd_err put_aws(const struct conf_provider *p, const struct credential_view *view,
                      const struct exchange_request *rq, struct arena *a, struct ask_fields *f)
{
    struct http1_field type = {SPAN_LIT("Content-Type"), SPAN_LIT("application/json")}, made[SIGV4_FIELDS_MAX];
    unsigned n;
    struct sigv4_request s = {.method = span_str(rq->method),
                              .target = rq->path,
                              .host = host_of(p),
                              .fields = &type,
                              .fields_count = rq->body_count ? 1 : 0,
                              .body = rq->body,
                              .body_count = rq->body_count};
    pd_err e = sigv4_sign(&s, &view->aws, span_str(p->region ? p->region : "us-east-1"), SPAN_LIT("bedrock"),
                          clock_wall_ms(), view->key, a, made, &n);
    for (unsigned i = 0; !e && i < n && f->count < HTTP1_FIELDS_MAX; i++)
        f->list[f->count++] = made[i];
    return e;
}

pd_err signing_put(const struct conf_provider *p, const struct credential_view *view,
                   const struct exchange_request *rq, struct arena *a, struct ask_fields *f)
{
    switch (p->preset->auth) {
    case AUTH_API_KEY:
    case AUTH_X_API_KEY:
    case AUTH_GOOG_KEY:
        if (p->key)
            ask_put(f,
                    p->preset->auth == AUTH_API_KEY     ? "api-key"
                    : p->preset->auth == AUTH_X_API_KEY ? "x-api-key"
                                                        : "x-goog-api-key",
                    span_str(p->key));
        return PD_OK;
    case AUTH_GOOGLE:
    case AUTH_SIGV4:
        if (view->quota_project.n)
            ask_put(f, "x-goog-user-project", view->quota_project);
        return view->bearer.n ? put_bearer(view->bearer, a, f) : put_aws(p, view, rq, a, f);
    case AUTH_BEARER:
    case AUTH_OPTIONAL_BEARER:
        break;
    }
    return p->key ? put_bearer(span_str(p->key), a, f) : PD_OK;
}
