#include "base/mem.h"
#include "net/h2_priv.h"

#include <assert.h>
#include <errno.h>

static uint64_t now_ms(const struct h2 *h)
{
    return loop_now_ms(h->conn->server->loop);
}

bool h2_is_preface(struct span head)
{
    return span_is(head, "PRI * HTTP/2.0\r\n\r\n");
}

void h2_soon(struct h2 *h)
{
    if (h->conn->phase != CONN_CLOSED)
        loop_later(h->conn->server->loop, &h->conn->later);
}

void h2_break(struct h2 *h)
{
    h->conn->broken = true;
    h2_soon(h);
}

/* ---- floods ---- */

static bool spend(struct h2_ration *r, unsigned most, unsigned per_second, uint64_t now)
{
    uint64_t grown = (now - r->since_ms) * per_second / 1000;
    if (grown) {
        r->left = grown >= most - r->left ? most : r->left + (unsigned)grown;
        r->since_ms = now;
    }
    if (!r->left)
        return false;
    r->left--;
    return true;
}

/* GOAWAY, and nothing more is read or written. */
static void terminate(struct h2 *h, uint32_t code)
{
    h->terminated = true;
    if (nghttp2_session_terminate_session(h->session, code))
        h2_break(h);
}

static void flooded(struct h2 *h)
{
    if (h->terminated)
        return;
    h->conn->server->stats.h2_floods_total++;
    terminate(h, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void count_reset(struct h2 *h)
{
    if (!spend(&h->resets, H2_RESETS, H2_RESETS_PER_SECOND, now_ms(h)))
        flooded(h);
}

static bool brings_nothing(const nghttp2_frame_hd *hd)
{
    switch (hd->type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_RST_STREAM:    /* counted by themselves */
    case NGHTTP2_WINDOW_UPDATE: /* as many as a client likes, for what it receives: nothing follows from one */
    case NGHTTP2_CONTINUATION:
    case NGHTTP2_GOAWAY:
        return false;
    case NGHTTP2_DATA:
        return !hd->length && !(hd->flags & NGHTTP2_FLAG_END_STREAM);
    default: /* frames of an unknown type are not told: nghttp2 drops them unread */
        return true;
    }
}

/* ---- what nghttp2 tells ---- */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *ctx)
{
    (void)session;
    struct h2 *h = ctx;
    if (hd->type == NGHTTP2_CONTINUATION &&
        ++h->block.continuations > H2_CONTINUATIONS + h->conn->server->rules.head_bytes / H2_FRAME_BYTES)
        flooded(h);
    else if (brings_nothing(hd) && !spend(&h->frames, H2_FRAMES, H2_FRAMES_PER_SECOND, now_ms(h)))
        flooded(h);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    (void)session;
    h2_block_begin(ctx, frame->hd.stream_id, frame->headers.cat != NGHTTP2_HCAT_REQUEST);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *ctx)
{
    (void)session, (void)frame, (void)flags;
    h2_block_add(ctx, span_of((const char *)name, name_n), span_of((const char *)value, value_n));
    return 0;
}

static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                             size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *ctx)
{
    (void)session, (void)frame, (void)name, (void)name_n, (void)value, (void)value_n, (void)flags;
    h2_block_bad(ctx, "A field has a name or a value that HTTP does not allow.");
    return 0;
}

static void left(struct h2 *h)
{
    h->state = H2_LEFT;
    int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);
    if (nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0))
        h2_break(h);
}

/* The client has seen all that was sent before this PING. */
static void on_pong(struct h2 *h, const uint8_t *said)
{
    int32_t id = (int32_t)((uint32_t)said[4] << 24 | (uint32_t)said[5] << 16 | (uint32_t)said[6] << 8 | said[7]);
    struct h2_stream *s = NULL;
    if (said[0] == H2_PING_LEAVING && h->state == H2_LEAVING)
        left(h);
    if (said[0] == H2_PING_CUT)
        s = nghttp2_session_get_stream_user_data(h->session, id);
    if (s && s->cut)
        h2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct h2 *h = ctx;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct h2_stream *s = NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            h2_block_end(h, end);
            return 0;
        }
        h->block.id = 0; /* trailers: what they say is not asked for */
        break;
    case NGHTTP2_DATA:
        break;
    case NGHTTP2_RST_STREAM:
        count_reset(h);
        return 0;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            on_pong(h, frame->ping.opaque_data);
        return 0;
    default:
        return 0;
    }
    s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (s && end)
        h2_body_end(s);
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code, void *ctx)
{
    (void)session, (void)code;
    struct h2 *h = ctx;
    if (frame->hd.type == NGHTTP2_HEADERS)
        h->block.id = 0;
    h->conn->server->stats.bad_requests_total++;
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *ctx)
{
    (void)flags;
    struct h2 *h = ctx;
    if (nghttp2_session_consume_connection(session, n))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (s && !h->terminated)
        h2_body_add(s, span_of((const char *)data, n));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *ctx)
{
    (void)code, (void)ctx;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
    if (s)
        h2_stream_over(s);
    return 0;
}

/* ---- what nghttp2 sends ---- */

static bool out_is_full(const struct h2 *h)
{
    return buf_size(&h->conn->out) >= H2_OUT_BYTES;
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t n, int flags, void *ctx)
{
    (void)session, (void)flags;
    struct h2 *h = ctx;
    if (out_is_full(h))
        return NGHTTP2_ERR_WOULDBLOCK;
    return conn_queue(h->conn, span_of((const char *)data, n)) ? NGHTTP2_ERR_CALLBACK_FAILURE : (ssize_t)n;
}

/* A DATA frame, of which nghttp2 made the first 9 bytes. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t n,
                        nghttp2_data_source *source, void *ctx)
{
    (void)session, (void)frame;
    struct h2 *h = ctx;
    struct h2_stream *s = source->ptr;
    if (out_is_full(h))
        return NGHTTP2_ERR_WOULDBLOCK;
    if (conn_queue(h->conn, span_of((const char *)head, 9)) ||
        conn_queue(h->conn, span_upto(buf_span(&s->out), n)))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    buf_take(&s->out, n);
    buf_shrink(&s->out);
    h2_out_moved(s);
    return 0;
}

/* A client that measures the path sends PINGs along with what it receives. */
static void pay(struct h2_ration *r)
{
    if (r->left < H2_FRAMES)
        r->left++;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct h2 *h = ctx;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    bool reset = frame->hd.type == NGHTTP2_RST_STREAM, data = frame->hd.type == NGHTTP2_DATA;
    uint32_t code = reset ? frame->rst_stream.error_code : NGHTTP2_NO_ERROR;
    /* That we had to, because of what the client did, counts as if it had. */
    if (code != NGHTTP2_NO_ERROR && code != NGHTTP2_REFUSED_STREAM && !(s && s->cut))
        count_reset(h);
    if (data)
        pay(&h->frames);
    bool complete = (data || frame->hd.type == NGHTTP2_HEADERS) && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    /* The reply is complete and the rest of the body is not wanted (RFC 9113 section 8.1). */
    if (complete && s && !s->body_done &&
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return 0;
}

/* A reply's head that cannot be sent, being too large for one: then there is no reply. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int code, void *ctx)
{
    (void)ctx;
    if (frame->hd.type != NGHTTP2_HEADERS || code == NGHTTP2_ERR_STREAM_CLOSED ||
        code == NGHTTP2_ERR_STREAM_CLOSING)
        return 0;
    return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR)
               ? NGHTTP2_ERR_CALLBACK_FAILURE
               : 0;
}

/* ---- a session ---- */

static void *lib_alloc(size_t n, void *ctx)
{
    (void)ctx;
    return mem_alloc(n);
}
static void *lib_calloc(size_t count, size_t n, void *ctx)
{
    (void)ctx;
    return mem_calloc(count, n);
}
static void *lib_realloc(void *p, size_t n, void *ctx)
{
    (void)ctx;
    return mem_realloc(p, n);
}
static void lib_free(void *p, void *ctx)
{
    (void)ctx;
    mem_free(p);
}

/* These two are the only blocks that nghttp2 takes from the C library itself: once for a server, and never for what a peer does. */
static pd_err remember(struct server *s)
{
    if (s->h2_option)
        return PD_OK;
    if (!s->h2_callbacks && nghttp2_session_callbacks_new(&s->h2_callbacks))
        return PD_NOMEM;
    if (nghttp2_option_new(&s->h2_option))
        return PD_NOMEM;

    nghttp2_session_callbacks *cb = s->h2_callbacks;
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_send_callback(cb, on_send);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_not_sent);

    /* Priorities stay those of RFC 7540: with NO_RFC7540_PRIORITIES, nghttp2 1.52 frees a frame that its stream still points to
     * when memory runs out on queueing it. Trees are small, PRIORITY frames are rationed, and closed streams leave them. */
    nghttp2_option_set_no_closed_streams(s->h2_option, 1);
    nghttp2_option_set_no_auto_window_update(s->h2_option, 1);
    nghttp2_option_set_max_outbound_ack(s->h2_option, H2_FRAMES); /* on_begin_frame() is the limit here too */
#ifdef PERDURE_NGHTTP2_CONTINUATIONS
    nghttp2_option_set_max_continuations(s->h2_option, H2_CONTINUATIONS_MOST); /* on_begin_frame() is the limit */
#endif
    return PD_OK;
}

void h2_forget(struct server *s)
{
    nghttp2_session_callbacks_del(s->h2_callbacks);
    nghttp2_option_del(s->h2_option);
    s->h2_callbacks = NULL;
    s->h2_option = NULL;
}

static pd_err open_session(struct h2 *h)
{
    struct server *s = h->conn->server;
    nghttp2_mem mem = {NULL, lib_alloc, lib_free, lib_calloc, lib_realloc};
    if (remember(s) || nghttp2_session_server_new3(&h->session, s->h2_callbacks, h, s->h2_option, &mem))
        return PD_NOMEM;

    size_t list = s->rules.head_bytes;
    nghttp2_settings_entry mine[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->rules.h2_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list < UINT32_MAX ? (uint32_t)list : UINT32_MAX},
    };
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, mine, sizeof(mine) / sizeof(mine[0])) ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW_BYTES))
        return PD_NOMEM;
    return PD_OK;
}

/* ---- time ---- */

static uint64_t clock_due(const struct h2 *h)
{
    const struct server *s = h->conn->server;
    uint64_t due = UINT64_MAX, other;
    if (h->block.id)
        due = h->block.began_us / 1000 + s->rules.head_ms;
    if (h->state == H2_OPEN && list_empty(&h->streams)) {
        other = h->idle_since_ms + s->rules.idle_ms;
        due = other < due ? other : due;
    }
    if (h->state == H2_LEAVING) {
        other = h->leaving_since_ms + s->linger_ms;
        due = other < due ? other : due;
    }
    return due;
}

static void set_clock(struct h2 *h)
{
    uint64_t due = clock_due(h);
    if (due == UINT64_MAX)
        timer_stop(h->conn->server->loop, &h->clock);
    else if (!h->clock.armed || h->clock.due_ms != due)
        timer_arm(h->conn->server->loop, &h->clock, due);
}

static void on_clock(void *ctx)
{
    struct h2 *h = ctx;
    struct conn *c = h->conn;
    if (c->phase != CONN_H2)
        return;
    if (h->block.id && now_ms(h) >= h->block.began_us / 1000 + c->server->rules.head_ms) {
        c->server->stats.timeouts_total++;
        h->block.id = 0;
        terminate(
            h,
            NGHTTP2_ENHANCE_YOUR_CALM); /* until its end nothing else may come: there is no telling one stream */
    } else if (h->state == H2_LEAVING) {
        left(h);
    } else if (h->state == H2_OPEN && list_empty(&h->streams)) {
        h2_leave(c);
    }
    h2_turn(c);
}

/* ---- the connection ---- */

void h2_begin(struct conn *c)
{
    struct server *s = c->server;
    struct h2 *h = mem_zalloc(sizeof(*h));
    if (!h) {
        conn_drop(c);
        return;
    }
    h->conn = c;
    h->idle_since_ms = now_ms(h);
    h->resets = (struct h2_ration){H2_RESETS, h->idle_since_ms};
    h->frames = (struct h2_ration){H2_FRAMES, h->idle_since_ms};
    list_init(&h->streams);
    buf_init(&h->block.fields, 0); /* bounded by head_bytes: h2_block_add() */
    timer_init(&h->clock, on_clock, h);
    c->h2 = h;
    s->stats.h2_connections_total++;
    conn_enter(c, CONN_H2);
    if (open_session(h)) {
        conn_drop(c);
        return;
    }
    if (s->draining)
        h2_leave(c);
    h2_soon(h);
}

void h2_stop(struct h2 *h)
{
    timer_stop(h->conn->server->loop, &h->clock);
    LIST_EACH(node, &h->streams)
    timer_stop(h->conn->server->loop, &LIST_OF(node, struct h2_stream, node)->deadline);
}

struct h2 *h2_free(struct h2 *h)
{
    if (!h)
        return NULL;
    h2_tell_gone(h, false);
    nghttp2_session_del(h->session);
    LIST_EACH(node, &h->streams)
    h2_stream_free(LIST_OF(node, struct h2_stream, node));
    buf_done(&h->block.fields);
    mem_free(h);
    return NULL;
}

void h2_tell_gone(struct h2 *h, bool left_us)
{
    LIST_EACH(node, &h->streams)
    {
        struct h2_stream *s = LIST_OF(node, struct h2_stream, node);
        if (s->rq && left_us)
            h->conn->server->stats.gone_total++;
        h2_stream_gone(s);
    }
}

void h2_leave(struct conn *c)
{
    struct h2 *h = c->h2;
    if (h->state != H2_OPEN)
        return;
    h->state = H2_LEAVING;
    h->leaving_since_ms = now_ms(h);
    static const uint8_t leaving[8] = {H2_PING_LEAVING};
    if (nghttp2_submit_shutdown_notice(h->session) || nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, leaving))
        h2_break(h);
    h2_soon(h);
}

size_t h2_feed(struct conn *c, struct span in)
{
    struct h2 *h = c->h2;
    if (h->terminated || c->broken)
        return in.n;
    h->inside = true;
    ssize_t n = nghttp2_session_mem_recv(h->session, (const uint8_t *)in.p, in.n);
    h->inside = false;
    if (n == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        c->server->stats.bad_requests_total++;
    if (n == NGHTTP2_ERR_FLOODED)
        c->server->stats.h2_floods_total++;
    if (n < 0)
        c->broken = true;
    h2_soon(h);
    return in.n;
}

void h2_read(struct conn *c)
{
    struct server *s = c->server;
    for (int i = 0; i < H2_READ_TURN && c->phase == CONN_H2 && !c->broken; i++) {
        ssize_t n = recv(c->watch.fd, s->scratch, SERVER_SCRATCH, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
            conn_gone(c);
            return;
        }
        if (n < 0)
            return;
        h2_feed(c, span_of(s->scratch, (size_t)n));
        if (n < SERVER_SCRATCH)
            return;
    }
}

void h2_send(struct h2 *h)
{
    struct conn *c = h->conn;
    while (!h->inside && !c->blocked && !c->broken && c->phase == CONN_H2) {
        h->inside = true;
        int e = nghttp2_session_send(h->session);
        h->inside = false;
        if (e) {
            h2_break(h);
            return;
        }
        if (!buf_size(&c->out))
            return;
        if (!conn_send(c))
            h2_break(h);
    }
}

void h2_writable(struct conn *c)
{
    if (!conn_send(c))
        c->broken = true;
    h2_turn(c);
}

/* Streams that are over leave; those that may go on are told so. */
static void look_at_streams(struct h2 *h)
{
    struct conn *c = h->conn;
    LIST_EACH(node, &h->streams)
    {
        struct h2_stream *s = LIST_OF(node, struct h2_stream, node);
        if (s->state != H2_OVER) {
            h2_drained(s);
        } else {
            c->server->stats.gone_total += s->rq != NULL;
            h2_stream_gone(s);
            h2_stream_free(s);
        }
        if (c->phase != CONN_H2)
            return;
    }
}

void h2_turn(struct conn *c)
{
    struct h2 *h = c->h2;
    if (c->phase != CONN_H2)
        return;
    h2_send(h);
    if (nghttp2_session_get_outbound_queue_size(h->session) >
        H2_QUEUE_MOST) { /* answers to what it sends, and it reads none */
        c->server->stats.h2_floods_total++;
        c->broken = true;
    }
    if (!c->broken)
        look_at_streams(h);
    if (c->phase != CONN_H2)
        return;
    if (c->broken) {
        conn_gone(c);
        return;
    }

    if (!nghttp2_session_want_read(h->session)) { /* GOAWAY was sent, or came, and all that could end has ended */
        h2_tell_gone(h, true);
        if (c->phase == CONN_H2 && !buf_size(&c->out) && !nghttp2_session_want_write(h->session)) {
            h2_stop(h);
            conn_enter(c, CONN_LINGER);
            return;
        }
    }
    if (c->phase == CONN_H2)
        set_clock(h);
}
