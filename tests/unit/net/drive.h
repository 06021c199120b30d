/* drive.h - the client under test, its loop, and what its callbacks brought. */
#ifndef PERDURE_TESTS_DRIVE_H
#define PERDURE_TESTS_DRIVE_H

#include "net/client.h"
#include "net/net.h"
#include "peer.h"

struct drive {
    struct loop *loop;
    struct client *client;
    struct waker *waker;
    struct client_rules rules;
    struct timer guard;
    bool closed, late;
};

enum { GOT_BODY = 4 << 20 };
struct got { /* everything that one exchange told */
    struct exchange *x;
    char order[64]; /* s h b t e: sent, head, body, batch, end */
    unsigned sent, heads, bodies, batches, ends;
    int status;
    char head_value[64]; /* of the field X-Test */
    char *body;
    size_t body_bytes;
    pd_err err;
    char why[512];
    struct exchange_info info;
    bool pause_on_body, cancel_on_sent, cancel_on_head, cancel_on_body, cancel_on_batch;
};

#define DRIVE_FN __attribute__((unused)) static

DRIVE_FN void drive_late(void *ctx)
{
    struct drive *d = ctx;
    d->late = true;
}
DRIVE_FN void drive_woken(void *ctx)
{
    (void)ctx;
}
DRIVE_FN void drive_closed(void *ctx)
{
    ((struct drive *)ctx)->closed = true;
}
DRIVE_FN void drive_wake(void *ctx)
{
    waker_wake(((struct drive *)ctx)->waker);
}

DRIVE_FN void drive_init(struct drive *d)
{
    *d = (struct drive){0};
    assert_int_equal(net_process_init(), PD_OK);
    d->loop = loop_new();
    assert_non_null(d->loop);
    client_rules_default(&d->rules);
    d->client = client_new(d->loop, &d->rules);
    assert_non_null(d->client);
    d->waker = waker_new(d->loop, drive_woken, d);
    assert_non_null(d->waker);
    timer_init(&d->guard, drive_late, d);
    timer_arm(d->loop, &d->guard, loop_now_ms(d->loop) + PEER_PATIENCE_MS + 5000);
}

/* One wakeup; `what` is the condition waited for. */
DRIVE_FN void drive_turn(struct drive *d, const char *what, int line)
{
    if (d->late)
        fail_msg("line %d: waited in vain for: %s", line, what);
    /* The condition may come true in what is done just before the loop waits, so the waiting is done here, where it is looked at.
     * The cap is for what was put off by the events of this very turn. */
    struct pollfd f = {.fd = uv_backend_fd(loop_uv(d->loop)), .events = POLLIN};
    int timeout = uv_backend_timeout(loop_uv(d->loop));
    poll(&f, 1, timeout < 0 || timeout > 20 ? 20 : timeout);
    uv_run(loop_uv(d->loop), UV_RUN_NOWAIT);
    uv_run(loop_uv(d->loop), UV_RUN_NOWAIT);
}
#define DRIVE_UNTIL(d, what)                       \
    do {                                           \
        uv_run(loop_uv((d)->loop), UV_RUN_NOWAIT); \
        while (!(what))                            \
            drive_turn((d), #what, __LINE__);      \
    } while (0)

/* Lets everything happen that can happen without anybody else doing something. */
DRIVE_FN void drive_settle(struct drive *d)
{
    for (int i = 0; i < 4; i++)
        uv_run(loop_uv(d->loop), UV_RUN_NOWAIT);
}

DRIVE_FN void drive_done(struct drive *d)
{
    client_close(d->client, drive_closed, d);
    DRIVE_UNTIL(d, d->closed);
    client_free(d->client);
    timer_stop(d->loop, &d->guard);
    waker_free(d->waker);
    loop_free(d->loop);
}

DRIVE_FN void drive_peer(struct drive *d, struct peer *p)
{
    p->wake = drive_wake;
    p->wake_ctx = d;
}

DRIVE_FN struct origin *drive_origin(struct drive *d, const char *url)
{
    struct origin *o = NULL;
    struct origin_config cfg = {.base_url = url, .proxy = ""};
    assert_int_equal(client_origin(d->client, &cfg, &o), PD_OK);
    return o;
}

/* ---- what is told -------------------------------------------------------------------- */

DRIVE_FN void got_note(struct got *g, char c)
{
    size_t n = strlen(g->order);
    if (n + 1 < sizeof(g->order) && (n == 0 || g->order[n - 1] != c))
        g->order[n] = c;
}
DRIVE_FN void got_cancel(struct got *g)
{
    exchange_cancel(g->x);
    g->x = NULL;
}
DRIVE_FN void got_sent(void *ctx)
{
    struct got *g = ctx;
    g->sent++;
    got_note(g, 's');
    if (g->cancel_on_sent)
        got_cancel(g);
}
DRIVE_FN void got_head(void *ctx, const struct http1_head *head)
{
    struct got *g = ctx;
    g->heads++;
    g->status = head->status;
    struct span v = http1_get(head, "x-test");
    snprintf(g->head_value, sizeof(g->head_value), "%.*s", SPAN_FMT(v));
    got_note(g, 'h');
    if (g->cancel_on_head)
        got_cancel(g);
}
DRIVE_FN void got_body(void *ctx, struct span bytes)
{
    struct got *g = ctx;
    g->bodies++;
    if (!g->body)
        g->body = malloc(GOT_BODY);
    if (g->body_bytes + bytes.n < GOT_BODY) {
        memcpy(g->body + g->body_bytes, bytes.p, bytes.n);
        g->body[g->body_bytes + bytes.n] = '\0';
    }
    g->body_bytes += bytes.n;
    got_note(g, 'b');
    if (g->cancel_on_body)
        got_cancel(g);
    else if (g->pause_on_body)
        exchange_pause(g->x);
}
DRIVE_FN void got_batch(void *ctx)
{
    struct got *g = ctx;
    g->batches++;
    got_note(g, 't');
    if (g->cancel_on_batch)
        got_cancel(g);
}
DRIVE_FN void got_end(void *ctx, pd_err err, const char *why)
{
    struct got *g = ctx;
    g->ends++;
    g->err = err;
    snprintf(g->why, sizeof(g->why), "%s", why);
    g->info = *exchange_info(g->x);
    g->x = NULL;
    got_note(g, 'e');
}
static const struct exchange_handler got_handler PD_UNUSED = {got_sent, got_head, got_body, got_batch, got_end};

DRIVE_FN void got_done(struct got *g)
{
    free(g->body);
    *g = (struct got){0};
}

DRIVE_FN void drive_post(struct drive *d, struct origin *o, struct got *g, const struct span *body, unsigned n)
{
    struct exchange_request rq = {
        .method = n ? "POST" : "GET", .path = SPAN_LIT("/v1/x?y=1"), .body = body, .body_count = n};
    assert_int_equal(exchange_start(d->client, o, &rq, &got_handler, g, &g->x), PD_OK);
    assert_int_equal(g->ends + g->sent + g->heads, 0); /* never from inside the call */
}
DRIVE_FN void drive_get(struct drive *d, struct origin *o, struct got *g)
{
    drive_post(d, o, g, NULL, 0);
}

#endif
