#include "relay/small.h"

#include "base/mem.h"

struct small {
    struct worker *w;
    struct routing *routing;
    struct exchange *exchange;
    struct timer timer;
    struct later reaper;
    struct arena arena;
    struct buf body;
    struct span sent;
    int status;
    bool over;
    small_fn *fn;
    void *ctx;
};

static void on_reap(void *ctx)
{
    struct small *s = ctx;
    routing_unref(s->routing);
    arena_done(&s->arena);
    buf_done(&s->body);
    mem_free(s);
}

static void stop(struct small *s)
{
    s->over = true;
    timer_stop(s->w->loop, &s->timer);
    if (s->exchange)
        exchange_cancel(s->exchange);
    s->exchange = NULL;
    loop_later(s->w->loop, &s->reaper);
}

static void finish(struct small *s, pd_err err, const char *why)
{
    if (s->over)
        return;
    stop(s);
    struct small_answer a = {err, why, s->status, buf_span(&s->body)};
    s->fn(s->ctx, &a);
}

static void on_head(void *ctx, const struct http1_head *head)
{
    struct small *s = ctx;
    s->status = head->status;
}

static void on_body(void *ctx, struct span bytes)
{
    struct small *s = ctx;
    if (s->over)
        return;
    pd_err e = buf_add(&s->body, bytes);
    if (e)
        finish(s, e, pd_err_text(e));
}

static void on_end(void *ctx, pd_err err, const char *why)
{
    struct small *s = ctx;
    s->exchange = NULL;
    finish(s, err, why);
}

static void on_timeout(void *ctx)
{
    finish(ctx, PD_TIMEOUT, "no answer in time");
}

/* The header that the provider's key goes into. */
static const char *key_header(enum preset_auth auth)
{
    switch (auth) {
    case AUTH_API_KEY:
        return "api-key";
    case AUTH_X_API_KEY:
        return "x-api-key";
    case AUTH_GOOG_KEY:
        return "x-goog-api-key";
    case AUTH_BEARER:
    case AUTH_OPTIONAL_BEARER:
    case AUTH_GOOGLE:
    case AUTH_SIGV4:
        return "Authorization";
    }
    return "Authorization";
}

static pd_err begin(struct small *s, const struct conf_provider *p, const char *wire, const char *below,
                    struct span body)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, NULL, on_end};
    struct http1_field fields[4 + 32];
    unsigned n = 0;
    struct span path;
    pd_err e = routing_path(p, wire, below, &s->arena, &path);
    if (e)
        return e;
    if (body.p) {
        s->sent = arena_span(&s->arena, body);
        if (!s->sent.p)
            return PD_NOMEM;
        fields[n++] = (struct http1_field){SPAN_LIT("Content-Type"), SPAN_LIT("application/json")};
    }
    fields[n++] = (struct http1_field){SPAN_LIT("Accept-Encoding"), SPAN_LIT("identity")};
    if (p->key) {
        const char *name = key_header(p->preset->auth);
        char *value = arena_printf(&s->arena, "%s%s", strcmp(name, "Authorization") == 0 ? "Bearer " : "", p->key);
        if (!value)
            return PD_NOMEM;
        fields[n++] = (struct http1_field){span_str(name), span_str(value)};
    }
    if (p->preset->auth == AUTH_X_API_KEY)
        fields[n++] = (struct http1_field){SPAN_LIT("anthropic-version"), SPAN_LIT("2023-06-01")};
    for (unsigned i = 0; i < p->headers_count && i < 32; i++)
        fields[n++] = (struct http1_field){span_str(p->headers[i].name), span_str(p->headers[i].value)};
    struct exchange_request rq = {.method = body.p ? "POST" : "GET",
                                  .path = path,
                                  .fields = fields,
                                  .fields_count = n,
                                  .body = &s->sent,
                                  .body_count = body.p ? 1 : 0};
    return exchange_start(s->w->client, routing_origin(s->routing, p), &rq, &handler, s, &s->exchange);
}

pd_err small_start(struct worker *w, struct routing *routing, const struct conf_provider *p, const char *wire,
                   const char *below, struct span body, size_t answer_max, uint64_t timeout_ms, small_fn *fn,
                   void *ctx, struct small **ret)
{
    struct small *s = mem_zalloc(sizeof(*s));
    if (!s)
        return PD_NOMEM;
    s->w = w;
    s->routing = routing_ref(routing);
    s->fn = fn;
    s->ctx = ctx;
    arena_init(&s->arena, 512, 0);
    buf_init(&s->body, answer_max);
    timer_init(&s->timer, on_timeout, s);
    later_init(&s->reaper, on_reap, s);
    pd_err e = begin(s, p, wire, below, body);
    if (e) {
        on_reap(s);
        return e;
    }
    timer_arm(w->loop, &s->timer, loop_now_ms(w->loop) + timeout_ms);
    *ret = s;
    return PD_OK;
}

void small_cancel(struct small *s)
{
    if (s && !s->over)
        stop(s);
}
