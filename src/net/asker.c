#include "net/asker.h"

#include "base/mem.h"
#include "base/text.h"
#include "net/client.h"

#include <stdatomic.h>
#include <stdio.h>

struct asker {
    struct loop *loop;
    struct client *client;
    struct origin *origin;
    struct waker *waker;
    struct timer limit, look;
    atomic_bool stopped;
    /* of the question that is under way */
    const struct asker_question *q;
    struct asker_answer *ret;
    struct exchange *exchange;
    pd_err err;
};

static void end(struct asker *a, pd_err e)
{
    if (a->exchange)
        exchange_cancel(a->exchange);
    a->exchange = NULL;
    if (!a->err)
        a->err = e;
    loop_stop(a->loop);
}

static void on_head(void *ctx, const struct http1_head *head)
{
    struct asker *a = ctx;
    a->ret->status = head->status;
    for (unsigned i = 0; i < a->q->want_count; i++)
        text_copy(a->q->want[i].value, ASKER_FIELD_BYTES, http1_get(head, a->q->want[i].name));
}

static void on_body(void *ctx, struct span bytes)
{
    struct asker *a = ctx;
    bool piecewise = a->q->piece && a->ret->status >= 200 && a->ret->status < 300;
    if (a->err)
        return;
    a->err = piecewise ? a->q->piece(a->q->ctx, bytes) : buf_add(&a->ret->body, bytes);
    if (a->err)
        end(a, a->err);
}

static void on_end(void *ctx, pd_err err, const char *why)
{
    struct asker *a = ctx;
    a->exchange = NULL;
    snprintf(a->ret->why, sizeof(a->ret->why), "%s", why ? why : "");
    end(a, err);
}

static void on_limit(void *ctx)
{
    struct asker *a = ctx;
    snprintf(a->ret->why, sizeof(a->ret->why), "no whole answer within %llu s",
             (unsigned long long)(a->q->limit_ms / 1000));
    end(a, PD_TIMEOUT);
}

static void on_look(void *ctx)
{
    struct asker *a = ctx;
    a->q->look(a->q->ctx);
    uv_update_time(loop_uv(a->loop)); /* it may have taken its time */
    timer_arm(a->loop, &a->look, loop_now_ms(a->loop) + a->q->look_ms);
}

static void on_wake(void *ctx)
{
    struct asker *a = ctx;
    if (a->q && atomic_load(&a->stopped))
        end(a, PD_CANCELLED);
}

static void on_closed(void *ctx)
{
    loop_stop(((struct asker *)ctx)->loop);
}

pd_err asker_new(const char *url, struct asker **ret)
{
    struct client_rules rules;
    struct asker *a = mem_zalloc(sizeof(*a));
    pd_err e = a ? PD_OK : PD_NOMEM;
    client_rules_default(&rules);
    if (a) {
        a->loop = loop_new();
        a->client = a->loop ? client_new(a->loop, &rules) : NULL;
        a->waker = a->loop ? waker_new(a->loop, on_wake, a) : NULL;
        timer_init(&a->limit, on_limit, a);
        timer_init(&a->look, on_look, a);
        e = a->client && a->waker ? PD_OK : PD_NOMEM;
    }
    struct origin_config origin = {.base_url = url, .proxy = ""};
    if (!e)
        e = client_origin(a->client, &origin, &a->origin);
    if (e) {
        asker_free(a);
        return e;
    }
    *ret = a;
    return PD_OK;
}

struct asker *asker_free(struct asker *a)
{
    if (!a)
        return NULL;
    origin_unref(a->origin);
    if (a->client) {
        client_close(a->client, on_closed, a);
        loop_run(a->loop);
        client_free(a->client);
    }
    waker_free(a->waker);
    loop_free(a->loop);
    mem_free(a);
    return NULL;
}

pd_err asker_ask(struct asker *a, const struct asker_question *q, struct asker_answer *ret)
{
    static const struct exchange_handler handler = {NULL, on_head, on_body, NULL, on_end};
    struct exchange_request rq = {.method = q->method,
                                  .path = span_str(q->path),
                                  .fields = q->fields,
                                  .fields_count = q->fields_count,
                                  .body = &q->body,
                                  .body_count = q->body.n ? 1 : 0};
    *ret = (struct asker_answer){.body = {.limit_bytes = q->answer_bytes}};
    for (unsigned i = 0; i < q->want_count; i++)
        q->want[i].value[0] = '\0';
    if (atomic_load(&a->stopped))
        return PD_CANCELLED;
    a->q = q;
    a->ret = ret;
    a->err = PD_OK;
    uv_update_time(loop_uv(a->loop)); /* the loop has stood still since the last question */
    pd_err e = exchange_start(a->client, a->origin, &rq, &handler, a, &a->exchange);
    if (!e) {
        timer_arm(a->loop, &a->limit, loop_now_ms(a->loop) + q->limit_ms);
        if (q->look)
            timer_arm(a->loop, &a->look, loop_now_ms(a->loop) + q->look_ms);
        loop_run(a->loop);
        timer_stop(a->loop, &a->limit);
        timer_stop(a->loop, &a->look);
        e = a->err;
    }
    a->q = NULL;
    a->ret = NULL;
    if (e)
        buf_done(&ret->body);
    return e;
}

void asker_stop(struct asker *a)
{
    atomic_store(&a->stopped, true);
    waker_wake(a->waker);
}

void asker_again(struct asker *a)
{
    atomic_store(&a->stopped, false);
}
