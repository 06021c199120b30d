#include "base/mem.h"
#include "base/text.h"
#include "net/h2_priv.h"
#include "net/server_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/uio.h>

/* ---- the queue: its memory is lent by the server while bytes wait in it ---- */

static pd_err queue_room(struct conn *c, size_t n)
{
    struct server *s = c->server;
    if (!c->out.p && s->spares_count)
        c->out = s->spares[--s->spares_count];
    return buf_reserve(&c->out, n);
}

static void queue_rest(struct conn *c)
{
    struct server *s = c->server;
    if (buf_size(&c->out) || !c->out.p)
        return;
    if (c->out.capacity <= SERVER_SPARE_BYTES && s->spares_count < SERVER_SPARES) {
        s->spares[s->spares_count++] = c->out;
        buf_init(&c->out, 0);
        return;
    }
    buf_done(&c->out);
}

pd_err conn_queue(struct conn *c, struct span s)
{
    pd_err err = queue_room(c, s.n);
    return err ? err : buf_add(&c->out, s);
}

/* For room that was made. */
static void put(struct buf *b, struct span s)
{
    if (!s.n)
        return;
    memcpy(b->p + b->tail, s.p, s.n);
    b->tail += s.n;
}

/* ---- sending ---- */

static void set_blocked(struct conn *c, bool blocked)
{
    if (blocked)
        timer_arm(c->server->loop, &c->deadline, loop_now_ms(c->server->loop) + c->server->rules.write_stall_ms);
    if (c->blocked == blocked)
        return;
    c->blocked = blocked;
    conn_watch(c);
}

bool conn_send(struct conn *c)
{
    while (buf_size(&c->out)) {
        ssize_t n = send(c->watch.fd, c->out.p + c->out.head, buf_size(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!c->blocked)
                set_blocked(c, true);
            return true;
        }
        if (n < 0)
            return false;
        buf_take(&c->out, (size_t)n);
        if (buf_size(&c->out))
            set_blocked(c, true); /* some went: the stall deadline starts anew */
    }
    queue_rest(c);
    set_blocked(c, false);
    return true;
}

static void break_later(struct conn *c)
{
    c->broken = true;
    buf_clear(&c->out);
    loop_later(c->server->loop, &c->later);
}

/* For calls of handlers: nothing of theirs may be called from within. */
static void send_now(struct conn *c)
{
    if (c->broken || c->blocked)
        return;
    if (!conn_send(c))
        break_later(c);
    else if (c->over_high)
        loop_later(c->server->loop, &c->later);
}

void conn_flush(struct conn *c)
{
    if (!conn_send(c)) {
        conn_gone(c);
        return;
    }
    if (c->over_high && buf_size(&c->out) < c->server->rules.out_low_bytes) {
        c->over_high = false;
        struct request *rq = c->rq;
        if (rq && rq->handler.on_drain)
            rq->handler.on_drain(rq->ctx);
    }
    if (c->phase == CONN_FLUSH && !buf_size(&c->out))
        conn_next(c);
}

/* The request has left its handler; its last bytes go out now rather than at the end of the turn. */
static void end_reply(struct request *rq)
{
    struct conn *c = rq->conn;
    c->rq = NULL;
    c->over_high = false;
    request_free(rq);
    if (c->broken || (!c->blocked && !conn_send(c))) {
        conn_close(c);
        return;
    }
    if (c->phase == CONN_BODY && !c->body.done && !c->close_after) {
        conn_enter(c, CONN_DISCARD);
        return;
    }
    if (c->phase == CONN_BODY && !c->body.done)
        c->unread = true;
    conn_enter(c, CONN_FLUSH);
    if (!buf_size(&c->out))
        conn_next(c);
}

/* ---- heads ---- */

bool server_text_ok(struct span s, bool name)
{
    if (!name && span_printable(s))
        return true; /* nearly all values are */
    if (name && !s.n)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t ch = (uint8_t)s.p[i];
        if ((ch < 0x20 && ch != '\t') || ch == 0x7f || (name && (ch <= 0x20 || ch == ':' || ch >= 0x80)))
            return false;
    }
    return true;
}

static bool is_ours(struct span name)
{
    return span_iis(name, "content-length") || span_iis(name, "transfer-encoding") || span_iis(name, "connection");
}

static pd_err check_headers(const struct header *h, size_t n, size_t *ret_bytes)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (!server_text_ok(h[i].name, true) || !server_text_ok(h[i].value, false) || is_ours(h[i].name))
            return PD_INVALID;
        bytes += h[i].name.n + h[i].value.n + 4;
    }
    *ret_bytes = bytes;
    return PD_OK;
}

static void put_status_line(struct buf *b, int status)
{
    char number[4] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10), ' '};
    put(b, SPAN_LIT("HTTP/1.1 "));
    put(b, span_of(number, 4));
    put(b, span_str(http1_reason(status)));
    put(b, SPAN_LIT("\r\n"));
}

static void put_framing(struct buf *b, const struct request *rq, int64_t content_length)
{
    char line[48];
    if (rq->chunked) {
        put(b, SPAN_LIT("Transfer-Encoding: chunked\r\n"));
    } else if (rq->has_length) {
        struct text t = text_in(line, sizeof(line));
        text_str(&t, "Content-Length: ");
        text_u64(&t, (uint64_t)content_length);
        text_str(&t, "\r\n");
        put(b, span_of(t.p, t.n));
    }

    if (rq->conn->close_after)
        put(b, SPAN_LIT("Connection: close\r\n"));
    else if (rq->minor_0)
        put(b, SPAN_LIT("Connection: keep-alive\r\n"));
}

bool conn_can_discard(const struct conn *c)
{
    if (c->phase != CONN_BODY || c->body.done)
        return true;
    return c->body.framing == HTTP1_LENGTH && c->body.left <= SERVER_DISCARD_BYTES && !(c->rq && c->rq->expects);
}

static void decide_framing(struct request *rq, int status, int64_t content_length)
{
    struct conn *c = rq->conn;
    const struct server *s = c->server;
    bool never = status == 204 || status == 304;
    rq->has_length = content_length >= 0 && !never;
    rq->chunked = content_length < 0 && !rq->minor_0 && !never;
    rq->until_close = content_length < 0 && rq->minor_0 && !never;
    rq->bodyless = rq->is_head || never;
    rq->left = rq->has_length && !rq->bodyless ? (uint64_t)content_length : 0;
    unsigned most = s->rules.requests_per_connection;
    if (!rq->keep_alive || rq->until_close || s->draining || (most && c->requests >= most) || !conn_can_discard(c))
        c->close_after = true;
}

pd_err reply_begin(struct request *rq, int status, const struct header *h, size_t n, int64_t content_length)
{
    struct conn *c = rq->conn;
    size_t bytes;
    if (rq->over)
        return PD_OK;
    if (rq->begun || rq->raw || status < 200 || status > 599)
        return PD_INVALID;
    pd_err err = check_headers(h, n, &bytes);
    if (!err && rq->stream)
        return h2_reply_begin(rq, status, h, n, content_length);
    if (!err)
        err = queue_room(c, bytes + 256); /* 256: status line, date, framing and connection lines */
    if (err)
        return err;

    decide_framing(rq, status, content_length);
    put_status_line(&c->out, status);
    put(&c->out, server_date(c->server));
    for (size_t i = 0; i < n; i++) {
        put(&c->out, h[i].name);
        put(&c->out, SPAN_LIT(": "));
        put(&c->out, h[i].value);
        put(&c->out, SPAN_LIT("\r\n"));
    }
    put_framing(&c->out, rq, content_length);
    put(&c->out, SPAN_LIT("\r\n"));
    rq->begun = true;
    loop_later(c->server->loop, &c->later);
    return PD_OK;
}

/* ---- bodies ---- */

static size_t hex_line(size_t n, char *end)
{
    char *p = end;
    *--p = '\n';
    *--p = '\r';
    do
        *--p = "0123456789abcdef"[n & 15];
    while (n >>= 4);
    return (size_t)(end - p);
}

static void after_write(struct conn *c)
{
    if (buf_size(&c->out) > c->server->rules.out_high_bytes)
        c->over_high = true;
    loop_later(c->server->loop, &c->later);
}

enum { PARTS_MOST = 61 }; /* and the queue, a chunk's size and its end */

/* The queue and the parts in one call; what the socket does not take is copied. */
static pd_err write_through(struct conn *c, struct iovec *iov, int n, size_t total)
{
    size_t queued = buf_size(&c->out);
    iov[0] = queued ? (struct iovec){c->out.p + c->out.head, queued} : (struct iovec){NULL, 0};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t sent;
    do
        sent = sendmsg(c->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        break_later(c);
        return PD_OK;
    }

    size_t gone = sent > 0 ? (size_t)sent : 0;
    buf_take(&c->out, gone < queued ? gone : queued);
    gone -= gone < queued ? gone : queued;
    pd_err err = gone < total ? queue_room(c, total - gone) : PD_OK;
    if (err) { /* part of it is on its way: there is no going back */
        break_later(c);
        return err;
    }
    for (int i = 1; i < n; i++) {
        size_t skip = gone < iov[i].iov_len ? gone : iov[i].iov_len;
        gone -= skip;
        if (skip < iov[i].iov_len)
            put(&c->out, span_of((char *)iov[i].iov_base + skip, iov[i].iov_len - skip));
    }
    if (buf_size(&c->out))
        set_blocked(c, true);
    else
        queue_rest(c);
    return PD_OK;
}

static pd_err write_large(struct conn *c, struct span size, const struct span *parts, size_t n, struct span end,
                          size_t total)
{
    struct iovec iov[PARTS_MOST + 3];
    int k = 1;
    iov[k++] = (struct iovec){(void *)(uintptr_t)size.p, size.n};
    for (size_t i = 0; i < n; i++)
        iov[k++] = (struct iovec){(void *)(uintptr_t)parts[i].p, parts[i].n};
    iov[k++] = (struct iovec){(void *)(uintptr_t)end.p, end.n};
    return write_through(c, iov, k, total + size.n + end.n);
}

static pd_err write_small(struct conn *c, struct span size, const struct span *parts, size_t n, struct span end,
                          size_t total)
{
    pd_err err = queue_room(c, total + size.n + end.n);
    if (err)
        return err;
    put(&c->out, size);
    for (size_t i = 0; i < n; i++)
        put(&c->out, parts[i]);
    put(&c->out, end);
    return PD_OK;
}

pd_err reply_write(struct request *rq, const struct span *parts, size_t n)
{
    struct conn *c = rq->conn;
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += parts[i].n;
    if (rq->over || c->broken || total == 0)
        return PD_OK;
    if (!rq->begun || rq->raw)
        return PD_INVALID;
    if (rq->bodyless)
        return PD_OK;
    if (rq->has_length && total > rq->left)
        return PD_INVALID;
    if (rq->stream)
        return h2_reply_write(rq, parts, n, total);

    char line[24];
    struct span size = SPAN_NONE, end = SPAN_NONE;
    if (rq->chunked) {
        size_t line_n = hex_line(total, line + sizeof(line));
        size = span_of(line + sizeof(line) - line_n, line_n);
        end = SPAN_LIT("\r\n");
    }
    bool large = total > SERVER_COPY_BYTES && n <= PARTS_MOST && !c->blocked;
    pd_err err = large ? write_large(c, size, parts, n, end, total) : write_small(c, size, parts, n, end, total);
    if (err)
        return err;
    if (rq->has_length)
        rq->left -= total;
    after_write(c);
    return PD_OK;
}

/* ---- ends ---- */

void reply_end(struct request *rq)
{
    if (rq->over)
        return;
    if (!rq->begun || rq->raw || rq->left) {
        reply_abort(rq); /* shorter than announced: the client must not take it for whole */
        return;
    }
    if (rq->stream) {
        h2_reply_end(rq);
        return;
    }
    if (rq->chunked && !rq->bodyless && !rq->conn->broken && conn_queue(rq->conn, SPAN_LIT("0\r\n\r\n"))) {
        reply_abort(rq);
        return;
    }
    end_reply(rq);
}

void reply_abort(struct request *rq)
{
    struct conn *c = rq->conn;
    if (rq->over)
        return;
    if (rq->stream) {
        h2_reply_abort(rq);
        return;
    }
    c->close_after = c->cut = true;
    c->reset_at_end = rq->until_close;
    end_reply(rq);
}

void reply_reset(struct request *rq)
{
    struct conn *c = rq->conn;
    if (rq->over)
        return;
    if (rq->stream) {
        h2_reply_reset(rq);
        return;
    }
    c->rq = NULL;
    request_free(rq);
    conn_reset(c);
}

void reply_simple(struct request *rq, int status, const struct header *h, size_t n, struct span body)
{
    if (rq->over)
        return;
    if (reply_begin(rq, status, h, n, (int64_t)body.n) || reply_write(rq, &body, 1)) {
        reply_abort(rq);
        return;
    }
    rq->left = 0; /* a broken connection took nothing, and that is not the handler's fault */
    reply_end(rq);
}

size_t reply_queued(const struct request *rq)
{
    if (rq->over)
        return 0;
    return rq->stream ? h2_reply_queued(rq) : buf_size(&rq->conn->out);
}

void reply_flush(struct request *rq)
{
    if (rq->over)
        return;
    if (rq->stream)
        h2_reply_flush(rq);
    else
        send_now(rq->conn);
}

bool reply_begun(const struct request *rq)
{
    return rq->begun || rq->raw;
}

pd_err reply_raw(struct request *rq, struct span bytes)
{
    struct conn *c = rq->conn;
    if (rq->over || c->broken)
        return PD_OK;
    if (rq->stream)
        return PD_INVALID;
    pd_err err = conn_queue(c, bytes);
    if (err)
        return err;
    rq->raw = c->close_after = true;
    after_write(c);
    return PD_OK;
}

/* ---- the server's own answers ---- */

/* A sentence as the inside of a JSON string: ours hold no control bytes, but may quote. */
static void json_text(const char *in, char *out, size_t out_bytes)
{
    size_t at = 0;
    for (; *in && at + 2 < out_bytes; in++) {
        if (*in == '"' || *in == '\\')
            out[at++] = '\\';
        out[at++] = *in;
    }
    out[at] = '\0';
}

struct span server_refusal_body(char *out, int status, const char *code, const char *sentence)
{
    char message[400];
    json_text(sentence, message, sizeof(message));
    int n = snprintf(out, SERVER_REFUSAL_BYTES,
                     "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"code\":\"%s\",\"param\":null}}", message,
                     status == 503 ? "server_error" : "invalid_request_error", code);
    assert(n > 0 && n < SERVER_REFUSAL_BYTES);
    return span_of(out, (size_t)n);
}

pd_err server_format_refusal(struct server *s, struct buf *out, int status, const char *code, const char *message)
{
    char room[SERVER_REFUSAL_BYTES];
    struct span body = server_refusal_body(room, status, code, message);
    return buf_printf(out,
                      "HTTP/1.1 %d %s\r\n%.*sContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: "
                      "close\r\n%s\r\n%.*s",
                      status, http1_reason(status), SPAN_FMT(server_date(s)), body.n,
                      status == 503 ? "Retry-After: 1\r\n" : "", SPAN_FMT(body));
}

void conn_refuse(struct conn *c, int status, const char *code, const char *fmt, ...)
{
    char message[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);

    struct server *s = c->server;
    if (status != 503)
        s->stats.bad_requests_total++;
    c->close_after = c->unread = true;
    pd_err err = queue_room(c, 1024);
    if (!err)
        err = server_format_refusal(s, &c->out, status, code, message);
    if (err || !conn_send(c)) {
        conn_drop(c);
        return;
    }
    conn_enter(c, CONN_FLUSH);
    struct request *rq = c->rq;
    c->rq = NULL;
    if (rq) { /* known to its handler since on_head */
        rq->over = true;
        if (rq->handler.on_gone)
            rq->handler.on_gone(rq->ctx);
        request_free(rq);
    }
    if (c->phase == CONN_FLUSH && !buf_size(&c->out))
        conn_next(c);
}
