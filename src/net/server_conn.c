#include "base/mem.h"
#include "net/h2_priv.h"
#include "net/server_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* ---- phases ---- */

static uint64_t now_ms(const struct conn *c)
{
    return loop_now_ms(c->server->loop);
}

static void due_in(struct conn *c, uint64_t ms)
{
    timer_arm(c->server->loop, &c->deadline, now_ms(c) + ms);
}

void conn_watch(struct conn *c)
{
    watch_want(&c->watch, WATCH_GONE | (c->deaf ? 0 : WATCH_READ) | (c->blocked ? WATCH_WRITE : 0));
}

void conn_enter(struct conn *c, enum conn_phase to)
{
    const struct server_rules *rules = &c->server->rules;
    c->phase = to;
    switch (to) {
    case CONN_IDLE:
        c->seen = c->checked = 0;
        c->skipped_line = c->deaf = false;
        conn_watch(c);
        due_in(c,
               c->server->draining && c->server->grace_ms < rules->idle_ms ? c->server->grace_ms : rules->idle_ms);
        break;
    case CONN_HEAD:
        c->head_began_us = loop_now_us(c->server->loop);
        due_in(c, rules->head_ms);
        break;
    case CONN_BODY:
        c->framing_bytes = 0;
        pace_begin(&c->pace, now_ms(c));
        if (!c->body.done)
            due_in(c, rules->body_stall_ms);
        break;
    case CONN_REPLY: /* a deadline that is still set means nothing now: see on_deadline() */
    case CONN_FLUSH:
        break;
    case CONN_DISCARD:
        due_in(c, rules->body_stall_ms);
        break;
    case CONN_H2: /* deadlines are its own; this timer is for a client that takes nothing */
        timer_stop(c->server->loop, &c->deadline);
        break;
    case CONN_LINGER:
        (void)shutdown(c->watch.fd, SHUT_WR);
        c->deaf = c->blocked = false;
        conn_watch(c);
        due_in(c, c->server->linger_ms);
        break;
    case CONN_CLOSED:
        timer_stop(c->server->loop, &c->deadline);
        later_cancel(&c->later);
        if (c->h2)
            h2_stop(c->h2);
        c->server->stats.connections_open--;
        break;
    }
}

static void conn_freed(void *ctx)
{
    struct conn *c = ctx;
    struct server *s = c->server;
    list_remove(&c->node);
    c->h2 = h2_free(c->h2);
    buf_done(&c->in);
    buf_done(&c->out);
    mem_free(c);
    server_conn_closed(s);
}

void conn_close(struct conn *c)
{
    if (c->phase == CONN_CLOSED)
        return;
    conn_enter(c, CONN_CLOSED);
    watch_close(&c->watch, conn_freed);
}

void conn_reset(struct conn *c)
{
    if (c->phase == CONN_CLOSED)
        return;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    conn_close(c);
}

/* Takes the request from its handler. The spans of it live until on_gone returns. */
static void tell_gone(struct conn *c)
{
    struct request *rq = c->rq;
    c->rq = NULL;
    if (!rq)
        return;
    rq->over = true;
    if (rq->handler.on_gone)
        rq->handler.on_gone(rq->ctx);
    request_free(rq);
}

void conn_gone(struct conn *c)
{
    if (c->rq)
        c->server->stats.gone_total++;
    conn_close(c);
    tell_gone(c);
    if (c->h2)
        h2_tell_gone(c->h2, true);
}

void conn_drop(struct conn *c)
{
    conn_close(c);
    tell_gone(c);
    if (c->h2)
        h2_tell_gone(c->h2, false);
}

void conn_leave(struct conn *c)
{
    if (c->server->grace_ms)
        due_in(c, c->server->grace_ms);
    else
        conn_close(c);
}

/* A reply that began before the drain did not say that it was the last: its client may be asking again right now. */
static bool may_ask_again(const struct conn *c)
{
    return !c->close_after && (!c->server->draining || c->server->grace_ms);
}

void conn_next(struct conn *c)
{
    if (may_ask_again(c)) {
        conn_enter(c, CONN_IDLE);
        if (buf_size(&c->in) && !c->consuming)
            loop_later(c->server->loop, &c->later);
        return;
    }
    if (c->cut && c->reset_at_end) {
        conn_reset(c);
        return;
    }
    if (!c->cut && (c->unread || c->deaf || buf_size(&c->in)))
        conn_enter(c, CONN_LINGER);
    else
        conn_close(c);
}

/* ---- heads ---- */

static void too_large_head(struct conn *c, struct span in)
{
    if (memchr(in.p, '\n', in.n))
        conn_refuse(c, 431, "head_too_large", "The request head is larger than the limit head_limit (%zu bytes).",
                    c->server->rules.head_bytes);
    else
        conn_refuse(c, 414, "target_too_long", "The request line is larger than the limit head_limit (%zu bytes).",
                    c->server->rules.head_bytes);
}

const char *head_fault_code(int status)
{
    return status == 414   ? "target_too_long"
           : status == 417 ? "expectation_failed"
           : status == 431 ? "head_too_large"
           : status == 501 ? "not_implemented"
           : status == 505 ? "http_version_not_supported"
                           : "invalid_http";
}

static void bad_head(struct conn *c, int status, const char *why)
{
    conn_refuse(c, status, head_fault_code(status), "%s", why);
}

/* The handler has its first look; it may answer already. */
static void on_head(struct conn *c)
{
    struct server *s = c->server;
    struct request *rq = c->rq;
    bool expects = rq->expects;
    if (s->handler.on_head)
        s->handler.on_head(s->ctx, rq);

    if (c->rq && c->phase == CONN_BODY && (rq->begun || rq->raw) && !c->body.done) {
        c->unread = c->close_after = true; /* an early answer that goes on: the body is not waited for */
        conn_enter(c, CONN_REPLY);
    }
    if (c->phase != CONN_BODY || !c->rq || !expects || c->body.done)
        return;
    if (conn_queue(c, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n")) || !conn_send(c))
        conn_gone(c);
}

static void begin_request(struct conn *c, struct span head, struct span rest, size_t *at)
{
    struct server *s = c->server;
    struct http1_head *h = &s->head;
    int status = 400;
    const char *why = "";
    if (http1_request(head, h, &status, &why)) {
        if (h2_is_preface(head) && !c->requests && !c->skipped_line)
            h2_begin(c);
        else
            bad_head(c, status, why);
        return;
    }
    s->stats.requests_total++;
    if (h->content_length > 0 && (uint64_t)h->content_length > s->rules.body_bytes) {
        conn_refuse(c, 413, "body_too_large", "The request body is larger than the limit body_limit (%zu bytes).",
                    s->rules.body_bytes);
        return;
    }

    size_t taken;
    uint64_t began_us = c->phase == CONN_HEAD ? c->head_began_us : loop_now_us(s->loop);
    struct request *rq = request_new(c, h, head, rest, &taken);
    if (!rq) {
        conn_refuse(c, 503, "out_of_memory", "The server is out of memory; try again later.");
        return;
    }
    *at += head.n + taken;
    rq->began_us = began_us;
    c->requests++;
    c->rq = rq;
    http1_body_init(&c->body, http1_request_framing(h), h->content_length);
    if (taken)
        c->body.done = true;
    conn_enter(c, CONN_BODY);
    on_head(c);
}

/* A part of a head: is it still going to be one? */
static void wait_for_head(struct conn *c, struct span in)
{
    if (http1_head_hopeless(in, c->checked)) {
        bad_head(c, 400,
                 "The bytes are not an HTTP/1.1 request: a first line of method, target and version is expected, "
                 "and lines end in CR LF.");
        return;
    }
    if (in.n > c->server->rules.head_bytes) {
        too_large_head(c, in);
        return;
    }
    c->checked = in.n;
    if (c->phase == CONN_IDLE)
        conn_enter(c, CONN_HEAD);
}

/* False when more bytes are needed, or none are wanted. */
static bool take_head(struct conn *c, struct span in, size_t *at)
{
    if (!in.n)
        return false;
    if (!c->skipped_line && in.p[0] == '\r') { /* RFC 9112 section 2.2: one empty line before a head is forgiven */
        if (in.n == 1) {
            if (c->phase == CONN_IDLE)
                conn_enter(c, CONN_HEAD);
            return false;
        }
        c->skipped_line = true;
        if (in.p[1] == '\n') {
            *at += 2;
            return true;
        }
    }

    size_t size = http1_head_size(in, &c->seen);
    if (!size) {
        wait_for_head(c, in);
        return false;
    }
    if (size > c->server->rules.head_bytes) {
        too_large_head(c, span_upto(in, size));
        return false;
    }
    c->seen = c->checked = 0;
    begin_request(c, span_upto(in, size), span_from(in, size), at);
    return true;
}

/* ---- bodies ---- */

static void bad_body(struct conn *c, pd_err err)
{
    const struct server_rules *rules = &c->server->rules;
    if (err == PD_NOMEM)
        conn_refuse(c, 503, "out_of_memory", "The server is out of memory; try again later.");
    else if (err == PD_TOOBIG)
        conn_refuse(
            c, 413, "body_too_large",
            "The request body, or a line of its framing, is larger than its limit (body_limit is %zu bytes).",
            rules->body_bytes);
    else
        conn_refuse(c, 400, "invalid_http", "The chunk framing of the body is broken.");
}

void pace_begin(struct pace *p, uint64_t now)
{
    *p = (struct pace){.progress_ms = now, .window_ms = now};
}

void pace_add(struct pace *p, size_t bytes, uint64_t now)
{
    p->window_bytes += bytes;
    p->progress_ms = now;
}

enum pace_verdict pace_judge(struct pace *p, const struct server_rules *rules, uint64_t now)
{
    uint64_t window = now - p->window_ms;
    if (now - p->progress_ms >= rules->body_stall_ms)
        return PACE_STALLED;
    if (window < rules->body_stall_ms)
        return PACE_GOOD;
    if (p->window_bytes * 1000 < rules->body_rate * window)
        return PACE_SLOW;
    p->window_bytes = 0;
    p->window_ms = now;
    return PACE_GOOD;
}

static pd_err keep_body(struct conn *c, struct span data, size_t used)
{
    struct request *rq = c->rq;
    c->framing_bytes += used - data.n;
    if (c->framing_bytes > c->server->rules.body_bytes + SERVER_FRAMING_BYTES)
        return PD_TOOBIG;
    return rq ? buf_add(&rq->big, data) : PD_OK; /* which knows body_bytes too */
}

static void body_ready(struct conn *c)
{
    struct server *s = c->server;
    struct request *rq = c->rq;
    if (!rq) { /* answered early, and what was dropped ends here */
        conn_enter(c, CONN_FLUSH);
        if (!buf_size(&c->out))
            conn_next(c);
        return;
    }
    if (buf_size(&rq->big))
        rq->body = buf_span(&rq->big);
    rq->read_us = loop_now_us(s->loop);
    conn_enter(c, CONN_REPLY);
    if (!rq->begun && !rq->raw)
        s->handler.on_request(s->ctx, rq);
}

/* A Content-Length is a promise, not memory: the first part is reserved on its word, all of it when that part has come. */
static pd_err reserve_body(struct conn *c)
{
    struct buf *b = &c->rq->big;
    if (c->body.framing != HTTP1_LENGTH || b->capacity - b->tail > 0)
        return PD_OK;
    uint64_t n = c->body.left;
    return buf_reserve(b, buf_size(b) || n < SERVER_BODY_FIRST ? (size_t)n : SERVER_BODY_FIRST);
}

static bool take_body(struct conn *c, struct span in, size_t *at)
{
    size_t data_bytes = 0;
    pd_err err = c->rq && !c->body.done ? reserve_body(c) : PD_OK;
    while (!err && in.n && !c->body.done) {
        size_t used;
        struct span data;
        err = http1_body_step(&c->body, in, &used, &data);
        if (!err)
            err = keep_body(c, data, used);
        if (err)
            break;
        data_bytes += data.n;
        *at += used;
        in = span_from(in, used);
    }
    if (err) {
        bad_body(c, err);
        return false;
    }
    if (c->body.done) {
        body_ready(c);
        return true;
    }
    pace_add(&c->pace, data_bytes, now_ms(c));
    return false;
}

/* Straight to where it stays. */
static void read_body(struct conn *c)
{
    struct buf *b = &c->rq->big;
    for (size_t turn = 0; turn < SERVER_BODY_TURN && c->body.left;) {
        pd_err err = reserve_body(c);
        if (err) {
            bad_body(c, err);
            return;
        }
        size_t room = b->capacity - b->tail;
        if (room > c->body.left)
            room = (size_t)c->body.left;
        ssize_t n = recv(c->watch.fd, b->p + b->tail, room, MSG_DONTWAIT);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
                conn_gone(c);
            return;
        }
        buf_added(b, (size_t)n);
        c->body.left -= (uint64_t)n;
        turn += (size_t)n;
        pace_add(&c->pace, (size_t)n, now_ms(c));
        if ((size_t)n < room)
            return;
    }
    if (c->body.left)
        return;
    c->body.done = true;
    c->consuming = true;
    body_ready(c);
    c->consuming = false;
}

/* ---- reading ---- */

/* How many of the bytes belong to requests that were begun; the rest waits for the reply to end, or for more. */
static size_t conn_consume(struct conn *c, struct span in)
{
    size_t at = 0;
    c->consuming = true;
    for (bool more = true; more;)
        switch (c->phase) {
        case CONN_IDLE:
        case CONN_HEAD:
            more = take_head(c, span_from(in, at), &at);
            break;
        case CONN_BODY:
        case CONN_DISCARD:
            more = take_body(c, span_from(in, at), &at);
            break;
        case CONN_H2:
            at += h2_feed(c, span_from(in, at));
            more = false;
            break;
        case CONN_REPLY:
        case CONN_FLUSH:
        case CONN_LINGER:
        case CONN_CLOSED:
            more = false;
            break;
        }
    c->consuming = false;
    return at;
}

static void consume_kept(struct conn *c)
{
    struct span kept = buf_span(&c->in);
    if (!kept.p)
        return;
    size_t used = conn_consume(c, kept);
    buf_take(&c->in, used);
    buf_shrink(&c->in);
}

/* The server's one large buffer takes a read, so that a connection that waits holds none. */
static void read_scratch(struct conn *c)
{
    struct server *s = c->server;
    ssize_t n = recv(c->watch.fd, s->scratch, SERVER_SCRATCH, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            conn_gone(c);
        return;
    }

    struct span in = span_of(s->scratch, (size_t)n);
    if (buf_size(&c->in)) {
        if (buf_add(&c->in, in))
            conn_refuse(c, 503, "out_of_memory", "The server is out of memory; try again later.");
        else
            consume_kept(c);
        return;
    }
    struct span rest = span_from(in, conn_consume(c, in));
    if (!rest.n || c->phase == CONN_CLOSED || c->phase == CONN_LINGER)
        return;
    if (buf_add(&c->in, rest))
        conn_drop(c);
}

static void drop_input(struct conn *c)
{
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(c->watch.fd, c->server->scratch, SERVER_SCRATCH, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        c->lingered += n > 0 ? (uint64_t)n : 0;
        if (n <= 0 || c->lingered > SERVER_LINGER_BYTES) {
            conn_close(c);
            return;
        }
        if (n < SERVER_SCRATCH)
            return;
    }
}

static void conn_read(struct conn *c)
{
    switch (c->phase) {
    case CONN_IDLE:
        if (buf_size(&c->in))
            consume_kept(c); /* what was kept comes first, so that it is never more than one read */
        else
            read_scratch(c);
        break;
    case CONN_HEAD:
    case CONN_DISCARD:
        read_scratch(c);
        break;
    case CONN_BODY:
        if (c->body.framing == HTTP1_LENGTH)
            read_body(c);
        else
            read_scratch(c);
        break;
    case CONN_REPLY:
    case CONN_FLUSH:
        c->deaf = true;
        conn_watch(c);
        break;
    case CONN_H2:
        h2_read(c);
        break;
    case CONN_LINGER:
        drop_input(c);
        break;
    case CONN_CLOSED:
        break;
    }
}

static void on_event(void *ctx, int events, pd_err err)
{
    struct conn *c = ctx;
    if (c->phase == CONN_CLOSED)
        return;
    if (err) {
        conn_gone(c);
        return;
    }
    if (events & WATCH_GONE) {
        /* Closed over unread bytes, the kernel would throw away what of our answer is still on its way. */
        if (c->phase == CONN_LINGER)
            drop_input(c);
        conn_gone(c);
        return;
    }
    if (events & WATCH_WRITE) {
        if (c->phase == CONN_H2)
            h2_writable(c);
        else
            conn_flush(c);
    }
    if (events & WATCH_READ)
        conn_read(c);
}

/* ---- time ---- */

static void body_deadline(struct conn *c)
{
    const struct server_rules *rules = &c->server->rules;
    switch (pace_judge(&c->pace, rules, now_ms(c))) {
    case PACE_GOOD:
        timer_arm(c->server->loop, &c->deadline, c->pace.progress_ms + rules->body_stall_ms);
        break;
    case PACE_STALLED:
        c->server->stats.timeouts_total++;
        conn_refuse(c, 408, "body_timeout", "No byte of the request body came for body_timeout (%llu ms).",
                    (unsigned long long)rules->body_stall_ms);
        break;
    case PACE_SLOW:
        c->server->stats.timeouts_total++;
        conn_refuse(c, 408, "body_too_slow",
                    "The request body came slower than body_rate (%llu bytes per second).",
                    (unsigned long long)rules->body_rate);
        break;
    }
}

static void on_deadline(void *ctx)
{
    struct conn *c = ctx;
    switch (c->phase) {
    case CONN_IDLE:
    case CONN_LINGER:
        conn_close(c);
        break;
    case CONN_HEAD:
        c->server->stats.timeouts_total++;
        conn_refuse(c, 408, "head_timeout", "The request head did not come within head_timeout (%llu ms).",
                    (unsigned long long)c->server->rules.head_ms);
        break;
    case CONN_BODY:
        body_deadline(c);
        break;
    case CONN_DISCARD:
        conn_close(c);
        break;
    case CONN_REPLY:
    case CONN_FLUSH:
    case CONN_H2:
        if (!c->blocked)
            break; /* left over from an earlier phase */
        c->server->stats.timeouts_total++;
        conn_gone(c);
        break;
    case CONN_CLOSED:
        break;
    }
}

/* ---- the end of a turn ---- */

static void on_later(void *ctx)
{
    struct conn *c = ctx;
    if (c->phase == CONN_CLOSED)
        return;
    if (c->broken) {
        conn_gone(c);
        return;
    }
    if (c->phase == CONN_H2) {
        h2_turn(c);
        return;
    }
    if (!c->blocked)
        conn_flush(c);
    if (c->phase == CONN_IDLE && buf_size(&c->in))
        consume_kept(c);
}

/* ---- beginning ---- */

static void name_peer(struct conn *c, const struct sockaddr_storage *peer)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (peer->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)peer;
        c->loopback = (ntohl(a->sin_addr.s_addr) >> 24) == 127;
        inet_ntop(AF_INET, &a->sin_addr, host, sizeof(host));
        snprintf(c->peer, sizeof(c->peer), "%s:%u", host, ntohs(a->sin_port));
    } else if (peer->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)peer;
        c->loopback = IN6_IS_ADDR_LOOPBACK(&a->sin6_addr) ||
                      (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr) && a->sin6_addr.s6_addr[12] == 127);
        inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof(host));
        snprintf(c->peer, sizeof(c->peer), "[%s]:%u", host, ntohs(a->sin6_port));
    } else {
        c->loopback = true;
        snprintf(c->peer, sizeof(c->peer), "local");
    }
}

pd_err conn_new(struct server *s, int fd, const struct sockaddr_storage *peer)
{
    struct conn *c = mem_zalloc(sizeof(*c));
    if (!c)
        return PD_NOMEM;
    c->server = s;
    pd_err err = watch_open(s->loop, &c->watch, fd, WATCH_READ | WATCH_GONE, on_event, c);
    if (err) {
        mem_free(c);
        return err;
    }
    name_peer(c, peer);
    timer_init(&c->deadline, on_deadline, c);
    later_init(&c->later, on_later, c);
    /* `in` holds at most head_bytes and one read: wait_for_head() and SERVER_SCRATCH bound it. `out` is bounded by
     * reply_queued() and out_high_bytes, or by what one reply_write() was given. */
    buf_init(&c->in, 0);
    buf_init(&c->out, 0);
    list_push(&s->conns, &c->node);
    s->stats.connections_open++;
    conn_enter(c, CONN_IDLE);
    return PD_OK;
}
