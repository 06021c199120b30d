#include "base/mem.h"
#include "net/h2_priv.h"

#include <assert.h>

static struct server *server_of(const struct h2_stream *s)
{
    return s->h2->conn->server;
}

static uint64_t now_ms(const struct h2_stream *s)
{
    return loop_now_ms(server_of(s)->loop);
}

/* ---- the header block, as it comes ---- */

struct h2_field_sizes {
    uint32_t name, value;
};

void h2_block_begin(struct h2 *h, int32_t id, bool trailers)
{
    struct h2_block *b = &h->block;
    buf_clear(&b->fields);
    b->id = id;
    b->trailers = trailers;
    b->began_us = loop_now_us(h->conn->server->loop);
    b->bytes = 0;
    b->continuations = 0;
    b->too_large = false;
    b->bad = NULL;
}

void h2_block_bad(struct h2 *h, const char *why)
{
    if (!h->block.bad)
        h->block.bad = why;
}

static bool pseudo(struct span name)
{
    return name.n && name.p[0] == ':';
}

/* What nghttp2 lets through is looked at once more: it is going to be lines, of which none may become two. */
static bool field_ok(struct span name, struct span value)
{
    if (pseudo(name))
        return !memchr(value.p, ' ', value.n) && !memchr(value.p, '\t', value.n) && server_text_ok(value, false);
    return server_text_ok(name, true) && server_text_ok(value, false);
}

void h2_block_add(struct h2 *h, struct span name, struct span value)
{
    struct h2_block *b = &h->block;
    if (b->trailers || b->too_large || b->bad)
        return;
    b->bytes += name.n + value.n + 4;
    if (b->bytes > h->conn->server->rules.head_bytes) {
        b->too_large = true;
        return;
    }
    if (!field_ok(name, value)) {
        h2_block_bad(h, "A field has a name or a value that HTTP does not allow.");
        return;
    }
    struct h2_field_sizes sizes = {(uint32_t)name.n, (uint32_t)value.n};
    if (buf_add(&b->fields, span_of((const char *)&sizes, sizeof(sizes))) || buf_add(&b->fields, name) ||
        buf_add(&b->fields, value))
        h2_break(h);
}

/* The next field of `in`; false at the end. */
static bool next_field(struct span *in, struct span *name, struct span *value)
{
    struct h2_field_sizes sizes;
    if (in->n < sizeof(sizes))
        return false;
    memcpy(&sizes, in->p, sizeof(sizes));
    *in = span_from(*in, sizeof(sizes));
    *name = span_upto(*in, sizes.name);
    *value = span_upto(span_from(*in, sizes.name), sizes.value);
    *in = span_from(*in, sizes.name + sizes.value);
    return true;
}

/* ---- a head, as HTTP/1.1 writes it, so that one reader judges both ---- */

struct pseudos {
    struct span method, path, authority, host;
};

static void find_pseudos(struct span fields, struct pseudos *ret)
{
    struct span name, value;
    *ret = (struct pseudos){0};
    while (next_field(&fields, &name, &value))
        if (span_is(name, ":method"))
            ret->method = value;
        else if (span_is(name, ":path"))
            ret->path = value;
        else if (span_is(name, ":authority"))
            ret->authority = value;
        else if (span_is(name, "host"))
            ret->host = value;
}

static pd_err add_line(struct buf *out, struct span name, struct span value)
{
    pd_err err = buf_add(out, name);
    err = err ? err : buf_puts(out, ": ");
    err = err ? err : buf_add(out, value);
    return err ? err : buf_puts(out, "\r\n");
}

/* RFC 9113 section 8.2.3: crumbs of cookies are one field again. */
static pd_err add_cookies(struct buf *out, struct span fields)
{
    struct span name, value;
    pd_err err = PD_OK;
    bool any = false;
    while (!err && next_field(&fields, &name, &value)) {
        if (!span_is(name, "cookie"))
            continue;
        err = buf_puts(out, any ? "; " : "cookie: ");
        err = err ? err : buf_add(out, value);
        any = true;
    }
    return any && !err ? buf_puts(out, "\r\n") : err;
}

static pd_err write_head(struct buf *out, struct span fields, const struct pseudos *p)
{
    pd_err err = buf_printf(out, "%.*s %.*s HTTP/1.1\r\n", SPAN_FMT(p->method), SPAN_FMT(p->path));
    if (!err && p->authority.n)
        err = add_line(out, SPAN_LIT("host"), p->authority);
    struct span name, value;
    for (struct span rest = fields; !err && next_field(&rest, &name, &value);)
        if (!pseudo(name) && !span_is(name, "cookie") && !(p->authority.n && span_is(name, "host")))
            err = add_line(out, name, value);
    err = err ? err : add_cookies(out, fields);
    return err ? err : buf_puts(out, "\r\n");
}

/* ---- states ---- */

static void arm(struct h2_stream *s, uint64_t due_ms)
{
    timer_arm(server_of(s)->loop, &s->deadline, due_ms);
}

void h2_stream_enter(struct h2_stream *s, enum h2_stream_state to)
{
    s->state = to;
    switch (to) {
    case H2_BODY:
        pace_begin(&s->pace, now_ms(s));
        arm(s, now_ms(s) + server_of(s)->rules.body_stall_ms);
        break;
    case H2_REPLY:
        timer_stop(server_of(s)->loop, &s->deadline); /* set again when something waits: h2_out_moved() */
        break;
    case H2_FLUSH:
        s->sent_ms = now_ms(s);
        arm(s, s->sent_ms + server_of(s)->rules.write_stall_ms);
        break;
    case H2_OVER:
        timer_stop(server_of(s)->loop, &s->deadline);
        buf_done(&s->out);
        break;
    }
}

void h2_stream_reset(struct h2_stream *s, uint32_t code)
{
    if (s->state != H2_OVER && nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, code))
        h2_break(s->h2);
    h2_soon(s->h2);
}

static void body_deadline(struct h2_stream *s)
{
    struct server *v = server_of(s);
    uint64_t now = now_ms(s);
    if (s->owed) /* it is us who hold it up */
        pace_begin(&s->pace, now);
    switch (pace_judge(&s->pace, &v->rules, now)) {
    case PACE_GOOD:
        arm(s, s->pace.progress_ms + v->rules.body_stall_ms);
        break;
    case PACE_STALLED:
        v->stats.timeouts_total++;
        h2_refuse(s, 408, "body_timeout", "No byte of the request body came for body_timeout (%llu ms).",
                  (unsigned long long)v->rules.body_stall_ms);
        break;
    case PACE_SLOW:
        v->stats.timeouts_total++;
        h2_refuse(s, 408, "body_too_slow", "The request body came slower than body_rate (%llu bytes per second).",
                  (unsigned long long)v->rules.body_rate);
        break;
    }
}

/* A client that opens no window takes nothing, though its socket may. */
static void reply_deadline(struct h2_stream *s)
{
    struct server *v = server_of(s);
    uint64_t due = s->sent_ms + v->rules.write_stall_ms;
    if (!buf_size(&s->out) && !s->ended)
        return;
    if (now_ms(s) < due) {
        arm(s, due);
        return;
    }
    v->stats.timeouts_total++;
    h2_stream_reset(s, s->cut ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
}

static void on_deadline(void *ctx)
{
    struct h2_stream *s = ctx;
    switch (s->state) {
    case H2_BODY:
        body_deadline(s);
        break;
    case H2_REPLY:
    case H2_FLUSH:
        reply_deadline(s);
        break;
    case H2_OVER:
        break;
    }
}

void h2_stream_over(struct h2_stream *s)
{
    h2_stream_enter(s, H2_OVER);
    h2_soon(s->h2);
}

static struct h2_stream *stream_new(struct h2 *h, int32_t id)
{
    struct h2_stream *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    s->h2 = h;
    s->id = id;
    buf_init(&s->out,
             0); /* bounded by reply_queued() and out_high_bytes, or by what one reply_write() was given */
    timer_init(&s->deadline, on_deadline, s);
    list_push(&h->streams, &s->node);
    return s;
}

void h2_stream_free(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    assert(!s->rq);
    timer_stop(h->conn->server->loop, &s->deadline);
    list_remove(&s->node);
    buf_done(&s->out);
    mem_free(s);
    if (list_empty(&h->streams))
        h->idle_since_ms = loop_now_ms(h->conn->server->loop);
}

struct request *h2_stream_take(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    struct request *rq = s->rq;
    s->rq = NULL;
    if (s->body_done)
        h->held_bytes -= s->body_bytes;
    else
        h->waiting_bytes -= s->body_bytes;
    s->body_bytes = s->owed = 0;
    h2_give_credit(h);
    return rq;
}

void h2_stream_gone(struct h2_stream *s)
{
    struct request *rq = h2_stream_take(s);
    if (!rq)
        return;
    rq->over = true;
    if (rq->handler.on_gone)
        rq->handler.on_gone(rq->ctx);
    request_free(rq);
}

/* ---- bodies ---- */

/* How much a client may send is how much we may have to hold. Bodies that wait for their end may take H2_WAITING_BODIES times
 * body_bytes of a connection together; the oldest of them is never paused for the others' sake, so that they cannot wait for each
 * other. Bodies of running requests may take H2_HELD_BODIES times; those end by themselves, so that waiting for them is safe.
 * To both comes what the clients' windows allowed before. */
static bool may_go_on(const struct h2_stream *s)
{
    const struct h2 *h = s->h2;
    uint64_t one = h->conn->server->rules.body_bytes;
    if (h->held_bytes > H2_HELD_BODIES * one)
        return false;
    if (h->waiting_bytes <= H2_WAITING_BODIES * one)
        return true;
    for (const struct list *it = h->streams.next; it != &s->node; it = it->next)
        if (LIST_OF(it, const struct h2_stream, node)->state == H2_BODY)
            return false;
    return true;
}

static void give(struct h2_stream *s)
{
    size_t n = s->owed;
    s->owed = 0;
    if (nghttp2_session_consume_stream(s->h2->session, s->id, n))
        h2_break(s->h2);
}

void h2_give_credit(struct h2 *h)
{
    if (!h->withheld || h->conn->phase != CONN_H2)
        return;
    h->withheld = false;
    LIST_EACH(node, &h->streams)
    {
        struct h2_stream *s = LIST_OF(node, struct h2_stream, node);
        if (!s->owed || s->state != H2_BODY)
            continue;
        if (!may_go_on(s)) {
            h->withheld = true;
            continue;
        }
        give(s);
        pace_begin(&s->pace, now_ms(s));
    }
    h2_soon(h);
}

void h2_body_add(struct h2_stream *s, struct span data)
{
    struct h2 *h = s->h2;
    if (s->state != H2_BODY || !s->rq)
        return; /* answered already: its window stays shut, and RST_STREAM follows the reply */
    pd_err err = buf_add(&s->rq->big, data);
    if (err == PD_TOOBIG) {
        h2_refuse(s, 413, "body_too_large", "The request body is larger than the limit body_limit (%zu bytes).",
                  h->conn->server->rules.body_bytes);
        return;
    }
    if (err) {
        h2_refuse(s, 503, "out_of_memory", "The server is out of memory; try again later.");
        return;
    }
    s->body_bytes += data.n;
    h->waiting_bytes += data.n;
    s->owed += data.n;
    pace_add(&s->pace, data.n, now_ms(s));
    if (may_go_on(s))
        give(s);
    else
        h->withheld = true;
}

void h2_body_end(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    struct request *rq = s->rq;
    if (s->body_done)
        return;
    s->body_done = true;
    h->waiting_bytes -= s->body_bytes;
    h->held_bytes += s->body_bytes;
    s->owed = 0;
    if (s->state != H2_BODY || !rq)
        return;
    h2_stream_enter(s, H2_REPLY);
    h2_give_credit(h);
    if (buf_size(&rq->big))
        rq->body = buf_span(&rq->big);
    struct server *v = server_of(s);
    rq->read_us = loop_now_us(v->loop);
    v->handler.on_request(v->ctx, rq);
}

/* ---- requests ---- */

/* The handler has its first look; it may answer already. */
static void first_look(struct h2_stream *s)
{
    struct server *v = server_of(s);
    bool expects = s->rq->expects;
    if (v->handler.on_head)
        v->handler.on_head(v->ctx, s->rq);
    if (s->state != H2_BODY)
        return;
    if (s->answered)
        h2_stream_enter(s, H2_REPLY); /* an early answer that goes on: the body is not waited for */
    else if (expects && !s->body_done)
        h2_continue(s);
}

static void begin_request(struct h2_stream *s, struct span head, bool end_stream)
{
    struct h2 *h = s->h2;
    struct server *v = server_of(s);
    struct http1_head *parsed = &v->head;
    int status = 400;
    const char *why = "";
    if (http1_request(head, parsed, &status, &why)) {
        h2_refuse(s, status, head_fault_code(status), "%s", why);
        return;
    }
    v->stats.requests_total++;
    h->conn->requests++;
    if (parsed->content_length > 0 && (uint64_t)parsed->content_length > v->rules.body_bytes) {
        h2_refuse(s, 413, "body_too_large", "The request body is larger than the limit body_limit (%zu bytes).",
                  v->rules.body_bytes);
        return;
    }

    size_t taken;
    s->rq = request_new(h->conn, parsed, head, SPAN_NONE, &taken);
    if (!s->rq) {
        h2_refuse(s, 503, "out_of_memory", "The server is out of memory; try again later.");
        return;
    }
    s->rq->stream = s;
    s->rq->began_us = h->block.began_us;
    first_look(s);
    if (end_stream)
        h2_body_end(s);
    unsigned most = v->rules.requests_per_connection;
    if (most && h->conn->requests >= most && h->conn->phase == CONN_H2)
        h2_leave(h->conn);
}

static void take_block(struct h2_stream *s, bool end_stream)
{
    struct h2 *h = s->h2;
    struct h2_block *b = &h->block;
    struct span fields = buf_span(&b->fields);
    struct pseudos p;
    find_pseudos(fields, &p);
    s->is_head = span_is(p.method, "HEAD");
    if (b->too_large) {
        h2_refuse(s, 431, "head_too_large", "The request head is larger than the limit head_limit (%zu bytes).",
                  server_of(s)->rules.head_bytes);
        return;
    }
    if (!b->bad && (!p.method.n || !p.path.n))
        b->bad = "A request needs a method and a path; CONNECT is not understood.";
    if (!b->bad && p.authority.n && p.host.n && !span_ieq(p.authority, p.host))
        b->bad = "The field host and :authority name different hosts.";
    if (b->bad) {
        h2_refuse(s, 400, "invalid_http", "%s", b->bad);
        return;
    }

    struct buf head;
    buf_init(&head, 0); /* as large as the block, which is bounded, and a line */
    if (write_head(&head, fields, &p))
        h2_refuse(s, 503, "out_of_memory", "The server is out of memory; try again later.");
    else
        begin_request(s, buf_span(&head), end_stream);
    buf_done(&head);
}

/* Streams take turns: a stream of tokens does not wait behind a large answer. So they do by RFC 7540's priorities; this is for
 * versions of nghttp2 that have only RFC 9218's, and not a failure where those are off. */
static bool take_turns(struct h2_stream *s)
{
    nghttp2_extpri even = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
    return nghttp2_session_change_extpri_stream_priority(s->h2->session, s->id, &even, 1) != NGHTTP2_ERR_NOMEM;
}

void h2_block_end(struct h2 *h, bool end_stream)
{
    int32_t id = h->block.id;
    h->block.id = 0;
    if (h->conn->broken || h->terminated)
        return;
    struct h2_stream *s = stream_new(h, id);
    if (!s || nghttp2_session_set_stream_user_data(h->session, id, s) || !take_turns(s)) {
        if (s)
            h2_stream_free(s);
        if (nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM))
            h2_break(h); /* a refused stream may be tried again by the client */
        return;
    }
    h2_stream_enter(s, H2_BODY);
    take_block(s, end_stream);
    if (end_stream)
        s->body_done = true; /* also of what was refused */
    buf_clear(&h->block.fields);
    buf_shrink(&h->block.fields);
}
