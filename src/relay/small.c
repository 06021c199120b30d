#include "relay/small.h"

#include "base/mem.h"
#include "relay/signing.h"

struct small {
    struct worker *w;
    struct routing *routing;
    struct exchange *exchange;
    struct timer timer;
    struct later reaper;
    struct arena arena;
    struct buf body;
    const struct conf_provider *provider;
    struct credential_waiter signs;
    struct ask ask; /* its body is `sent` */
    bool posts;
    struct span sent, model;
    const char *below;
    int status;
    bool over;
    small_fn *fn;
    small_look_fn *look;
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
    credential_unwait(&s->signs);
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
    else if (s->look && s->status == 200 && s->look(s->ctx, bytes))
        finish(s, PD_OK, NULL);
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

static pd_err send_off(struct small *s, const struct credential_view *view)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, NULL, on_end};
    const struct conf_provider *p = s->provider;
    struct ask_fields fields = {.count = 0};
    struct exchange_request rq = {
        .method = s->posts ? "POST" : "GET", .body = &s->sent, .body_count = s->posts ? 1 : 0};
    pd_err e = s->posts ? ask_path(&s->ask, p, s->model, signing_project(p, view, &s->arena), SPAN_NONE, &s->arena,
                                   &rq.path)
                        : routing_path(p, NULL, s->below, &s->arena, &rq.path);
    if (e)
        return e;
    ask_head(NULL, p, &s->ask, &fields);
    e = signing_put(p, view, &rq, &s->arena, &fields);
    if (e)
        return e;
    rq.fields = fields.list;
    rq.fields_count = fields.count;
    return exchange_start(s->w->client, routing_origin(s->routing, p), &rq, &handler, s, &s->exchange);
}

static void on_signed(void *ctx);

/* Waits for credentials, or sends. */
static pd_err sign_and_send(struct small *s, const char **ret_why)
{
    struct credential_view view;
    *ret_why = NULL;
    switch (signing_get(s->routing, s->provider, &view)) {
    case CREDENTIAL_WAIT:
        signing_wait(s->routing, s->provider, &s->signs, on_signed, s);
        return PD_OK;
    case CREDENTIAL_FAILED:
        *ret_why = view.why;
        return PD_NOTFOUND;
    case CREDENTIAL_READY:
        break;
    }
    return send_off(s, &view);
}

static void on_signed(void *ctx)
{
    struct small *s = ctx;
    const char *why;
    if (s->over)
        return;
    pd_err e = sign_and_send(s, &why);
    if (e)
        finish(s, e, why ? why : pd_err_text(e));
}

static void take_ask(struct small *s, const struct ask *ask)
{
    s->ask.wire = ask->wire;
    s->ask.codec = ask->codec;
    s->ask.embeds = ask->embeds;
    s->ask.stream = ask->stream;
    s->sent = arena_span(&s->arena, buf_span(&ask->body));
    s->posts = true;
}

pd_err small_start(struct worker *w, struct routing *routing, const struct conf_provider *p,
                   const struct small_request *what, size_t answer_max, uint64_t timeout_ms, small_fn *fn,
                   void *ctx, struct small **ret)
{
    struct small *s = mem_zalloc(sizeof(*s));
    const char *why;
    if (!s)
        return PD_NOMEM;
    s->w = w;
    s->routing = routing_ref(routing);
    s->provider = p;
    s->model = what->model;
    s->below = what->below;
    s->fn = fn;
    s->look = what->look;
    s->ctx = ctx;
    list_init(&s->signs.node);
    arena_init(&s->arena, 512, 0);
    buf_init(&s->body, answer_max);
    timer_init(&s->timer, on_timeout, s);
    later_init(&s->reaper, on_reap, s);
    if (what->ask)
        take_ask(s, what->ask);
    pd_err e = s->posts && !s->sent.p ? PD_NOMEM : sign_and_send(s, &why);
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
