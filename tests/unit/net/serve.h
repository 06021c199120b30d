/* serve.h - the server under test, its loop, and clients on plain sockets, all in one thread.
 *
 * A client's reads and writes turn the loop until they are through; a guard ends what would wait for ever. */
#ifndef PERDURE_TESTS_SERVE_H
#define PERDURE_TESTS_SERVE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "test.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "net/server.h"
#include "net/server_priv.h"
#include "torture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path, n, body) "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: " n "\r\n\r\n" body
#define CHUNKED(path) "POST " path " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

#define SERVE_FN __attribute__((unused)) static

enum { HELD_MOST = 64, SERVE_PATIENCE_MS = 20000 };

struct serve {
    struct loop *loop;
    struct server *server;
    struct server_rules rules;
    uint16_t port;
    struct request *held[HELD_MOST]; /* requests for /hold, not answered yet */
    unsigned held_count, gone, drains, heads;
    uint64_t give_up_ms;
    bool drained, closed;
};

struct caller {
    int fd;
    char *in;
    size_t n, capacity;
    bool ended, reset;
};

/* ---- the application ---- */

SERVE_FN void serve_gone(void *ctx)
{
    ((struct serve *)ctx)->gone++;
}
SERVE_FN void serve_drain(void *ctx)
{
    ((struct serve *)ctx)->drains++;
}

SERVE_FN void serve_head(void *ctx, struct request *rq)
{
    struct serve *t = ctx;
    static const struct request_handler on = {.on_gone = serve_gone, .on_drain = serve_drain};
    t->heads++;
    request_set_handler(rq, &on, t);
    if (span_is(request_path(rq), "/early"))
        reply_simple(rq, 401, NULL, 0, SPAN_LIT("early"));
    else if (span_is(request_path(rq), "/early-stream") && !reply_begin(rq, 200, NULL, 0, -1))
        t->held[t->held_count++] = rq;
}

SERVE_FN void serve_request(void *ctx, struct request *rq)
{
    struct serve *t = ctx;
    if (span_is(request_path(rq), "/hold") && t->held_count < HELD_MOST) {
        t->held[t->held_count++] = rq;
        return;
    }
    reply_simple(rq, 200, NULL, 0, request_body(rq));
}

static const struct server_handler serve_handler = {.on_head = serve_head, .on_request = serve_request};

SERVE_FN void serve_rules(struct serve *t)
{
    *t = (struct serve){0};
    server_rules_default(&t->rules);
}

SERVE_FN pd_err serve_try(struct serve *t)
{
    t->give_up_ms = clock_mono_ms() + SERVE_PATIENCE_MS;
    t->loop = loop_new();
    if (!t->loop)
        return PD_NOMEM;
    t->server = server_new(t->loop, &t->rules, &serve_handler, t);
    pd_err err = t->server ? server_listen(t->server, "127.0.0.1:0", &t->port) : PD_NOMEM;
    if (!err)
        return PD_OK;
    server_free(t->server);
    loop_free(t->loop);
    return err;
}

SERVE_FN void serve_begin(struct serve *t)
{
    assert_int_equal(serve_try(t), PD_OK);
}

/* ---- the loop ---- */

SERVE_FN void serve_settle(struct serve *t)
{
    for (int i = 0; i < 3; i++)
        uv_run(loop_uv(t->loop), UV_RUN_NOWAIT);
}

/* Waits for the server's sockets and timers, or for a client's socket. */
SERVE_FN void serve_wait(struct serve *t, int fd, short events, const char *what, int line)
{
    if (clock_mono_ms() > t->give_up_ms)
        fail_msg("line %d: waited in vain for: %s", line, what);
    int timeout = uv_backend_timeout(loop_uv(t->loop));
    struct pollfd f[2] = {{.fd = uv_backend_fd(loop_uv(t->loop)), .events = POLLIN}, {.fd = fd, .events = events}};
    poll(f, fd < 0 ? 1 : 2, timeout < 0 || timeout > 50 ? 50 : timeout);
    serve_settle(t);
}

#define SERVE_UNTIL(t, what)                         \
    do {                                             \
        serve_settle(t);                             \
        while (!(what))                              \
            serve_wait((t), -1, 0, #what, __LINE__); \
    } while (0)

SERVE_FN void serve_is_closed(void *ctx)
{
    ((struct serve *)ctx)->closed = true;
}
SERVE_FN void serve_is_drained(void *ctx)
{
    ((struct serve *)ctx)->drained = true;
}

SERVE_FN void serve_end(struct serve *t)
{
    server_close(t->server, serve_is_closed, t);
    SERVE_UNTIL(t, t->closed);
    assert_int_equal(server_stats(t->server)->connections_open, 0);
    assert_int_equal(server_stats(t->server)->requests_open, 0);
    t->server = server_free(t->server);
    t->loop = loop_free(t->loop);
}

/* ---- a client ---- */

SERVE_FN void call_dial(struct caller *p, uint16_t port)
{
    *p = (struct caller){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(p->fd >= 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(p->fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

SERVE_FN void call_begin(struct caller *p, struct serve *t)
{
    call_dial(p, t->port);
    serve_settle(t);
}

SERVE_FN void call_end(struct caller *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->in);
    *p = (struct caller){.fd = -1};
}

SERVE_FN void call_reset(struct caller *p)
{
    struct linger now = {1, 0};
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    call_end(p);
}

SERVE_FN void call_send(struct serve *t, struct caller *p, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n) {
        ssize_t sent = send(p->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
            return; /* the server had enough; what it answered is read next */
        if (sent < 0) {
            assert_int_equal(errno, EAGAIN);
            serve_wait(t, p->fd, POLLOUT, "room to send", __LINE__);
            continue;
        }
        at += sent;
        n -= (size_t)sent;
    }
    serve_settle(t);
}
SERVE_FN void call_say(struct serve *t, struct caller *p, const char *s)
{
    call_send(t, p, s, strlen(s));
}

/* What is there now. */
SERVE_FN void call_take(struct caller *p)
{
    for (;;) {
        if (p->n + 65536 > p->capacity) {
            p->capacity = p->capacity ? p->capacity * 2 : 131072;
            p->in = realloc(p->in, p->capacity);
            assert_non_null(p->in);
        }
        ssize_t n = recv(p->fd, p->in + p->n, 65535, MSG_DONTWAIT);
        if (n > 0) {
            p->n += (size_t)n;
            p->in[p->n] = '\0';
            continue;
        }
        p->ended |= n == 0;
        p->reset |= n < 0 && errno == ECONNRESET;
        return;
    }
}

SERVE_FN bool call_has(struct caller *p, const char *needle)
{
    call_take(p);
    return p->in && p->n && memmem(p->in, p->n, needle, strlen(needle)) != NULL;
}

SERVE_FN void call_hear_(struct serve *t, struct caller *p, const char *needle, int line)
{
    serve_settle(t);
    while (!call_has(p, needle)) {
        if (p->ended || p->reset)
            fail_msg("line %d: the connection %s before \"%s\" came; got: %s", line,
                     p->reset ? "was reset" : "ended", needle, p->n ? p->in : "nothing");
        serve_wait(t, p->fd, POLLIN, needle, line);
    }
}
#define call_hear(t, p, needle) call_hear_((t), (p), (needle), __LINE__)

SERVE_FN void call_hear_end_(struct serve *t, struct caller *p, int line)
{
    serve_settle(t);
    for (call_take(p); !p->ended && !p->reset; call_take(p))
        serve_wait(t, p->fd, POLLIN, "the end of the connection", line);
}
#define call_hear_end(t, p) call_hear_end_((t), (p), __LINE__)

SERVE_FN void call_forget(struct caller *p)
{
    p->n = 0;
}

/* A request that must be answered whatever came before. */
SERVE_FN void call_check_alive(struct serve *t, const char *after)
{
    struct caller p;
    call_begin(&p, t);
    call_say(t, &p, "POST /alive HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nalive");
    serve_settle(t);
    while (!call_has(&p, "\r\n\r\nalive")) {
        if (p.ended || p.reset)
            fail_msg("no answer any more after: %s", after);
        serve_wait(t, p.fd, POLLIN, after, __LINE__);
    }
    call_end(&p);
}

/* A request that the handler keeps. */
SERVE_FN struct request *serve_hold(struct serve *t, struct caller *p, const char *wire)
{
    t->held_count = 0;
    call_begin(p, t);
    call_say(t, p, wire);
    SERVE_UNTIL(t, t->held_count == 1);
    return t->held[0];
}

/* The server's only connection. */
SERVE_FN struct conn *serve_conn(struct serve *t)
{
    assert_false(list_empty(&t->server->conns));
    return LIST_OF(t->server->conns.next, struct conn, node);
}

#endif
