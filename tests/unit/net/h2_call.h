/* h2_call.h - clients that speak HTTP/2 to the server of serve.h: nghttp2's own client session, and frames made by hand. */
#ifndef PERDURE_TESTS_H2_CALL_H
#define PERDURE_TESTS_H2_CALL_H

#include "net/h2_priv.h"
#include "serve.h"

#include <netinet/tcp.h>

#define H2_FN __attribute__((unused)) static

enum { H2_GOTS = 1200 };

/* What came for one stream. */
struct h2_got {
    int status, interims;
    char fields[1024]; /* "name: value\n" each */
    char *body;
    size_t n;
    struct span rest; /* of the request's body, to be sent */
    bool hold_body;   /* not now */
    bool ended, closed;
    uint32_t code; /* with which it was closed */
};

struct h2_caller {
    struct serve *t;
    int fd;
    nghttp2_session *session;
    struct h2_got *gots; /* by (id - 1) / 2 */
    char out[1 << 20];   /* bytes nghttp2 made and the socket did not take yet */
    size_t out_n;
    bool no_windows; /* no WINDOW_UPDATE is sent unless a test does */
    bool ended, reset;
    int goaways;
    int32_t goaway_last;
    uint32_t goaway_code;
    int pings;
};

H2_FN struct h2_got *h2_got(struct h2_caller *p, int32_t id)
{
    assert_in_range(id, 1, 2 * H2_GOTS - 1);
    return &p->gots[(id - 1) / 2];
}

/* ---- what nghttp2 tells the client ---- */

H2_FN int h2_on_header(nghttp2_session *x, const nghttp2_frame *f, const uint8_t *name, size_t name_n,
                       const uint8_t *value, size_t value_n, uint8_t flags, void *ctx)
{
    (void)x, (void)flags;
    struct h2_got *g = h2_got(ctx, f->hd.stream_id);
    if (name_n == 7 && memcmp(name, ":status", 7) == 0) {
        g->status = atoi((const char *)value);
        g->interims += g->status < 200;
    }
    size_t at = strlen(g->fields);
    snprintf(g->fields + at, sizeof(g->fields) - at, "%.*s: %.*s\n", (int)name_n, name, (int)value_n, value);
    return 0;
}
H2_FN int h2_on_data(nghttp2_session *x, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *ctx)
{
    (void)x, (void)flags;
    struct h2_got *g = h2_got(ctx, id);
    g->body = realloc(g->body, g->n + n + 1);
    assert_non_null(g->body);
    memcpy(g->body + g->n, data, n);
    g->n += n;
    g->body[g->n] = '\0';
    return 0;
}
H2_FN int h2_on_frame(nghttp2_session *x, const nghttp2_frame *f, void *ctx)
{
    (void)x;
    struct h2_caller *p = ctx;
    if (f->hd.type == NGHTTP2_GOAWAY) {
        p->goaways++;
        p->goaway_code = f->goaway.error_code;
        p->goaway_last = f->goaway.last_stream_id;
    }
    p->pings += f->hd.type == NGHTTP2_PING;
    if ((f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) && (f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        h2_got(p, f->hd.stream_id)->ended = true;
    return 0;
}
H2_FN int h2_on_close(nghttp2_session *x, int32_t id, uint32_t code, void *ctx)
{
    (void)x;
    struct h2_got *g = h2_got(ctx, id);
    g->closed = true;
    g->code = code;
    return 0;
}
H2_FN ssize_t h2_body(nghttp2_session *x, int32_t id, uint8_t *to, size_t most, uint32_t *flags,
                      nghttp2_data_source *source, void *ctx)
{
    (void)x, (void)source;
    struct h2_got *g = h2_got(ctx, id);
    if (g->hold_body && !g->rest.n)
        return NGHTTP2_ERR_DEFERRED;
    size_t n = g->rest.n < most ? g->rest.n : most;
    memcpy(to, g->rest.p, n);
    g->rest = span_from(g->rest, n);
    if (!g->rest.n && !g->hold_body)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* ---- the connection ---- */

H2_FN void h2_dial(struct h2_caller *p, struct serve *t, bool no_windows)
{
    struct caller plain;
    call_dial(&plain, t->port);
    memset(p, 0, sizeof(*p));
    p->t = t;
    p->fd = plain.fd;
    p->no_windows = no_windows;
    p->gots = calloc(H2_GOTS, sizeof(*p->gots));
    assert_non_null(p->gots);

    nghttp2_session_callbacks *cb;
    nghttp2_option *o;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    assert_int_equal(nghttp2_option_new(&o), 0);
    nghttp2_session_callbacks_set_on_header_callback(cb, h2_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, h2_on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2_on_close);
    nghttp2_option_set_no_auto_window_update(o, no_windows);
    assert_int_equal(nghttp2_session_client_new2(&p->session, cb, p, o), 0);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(o);
    assert_int_equal(nghttp2_submit_settings(p->session, 0, NULL, 0), 0);
}

H2_FN void h2_hang_up(struct h2_caller *p)
{
    if (p->fd >= 0)
        close(p->fd);
    nghttp2_session_del(p->session);
    for (int i = 0; i < H2_GOTS; i++)
        free(p->gots[i].body);
    free(p->gots);
    p->fd = -1;
    serve_settle(p->t);
}

/* Says and hears what can be said and heard now. True when anything was. */
H2_FN bool h2_step(struct h2_caller *p)
{
    bool any = false;
    for (;;) {
        const uint8_t *data;
        while (p->out_n < sizeof(p->out) / 2) {
            ssize_t n = nghttp2_session_mem_send(p->session, &data);
            if (n <= 0)
                break;
            memcpy(p->out + p->out_n, data, (size_t)n);
            p->out_n += (size_t)n;
        }
        ssize_t sent = p->out_n ? send(p->fd, p->out, p->out_n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (sent <= 0)
            break;
        memmove(p->out, p->out + sent, p->out_n - (size_t)sent);
        p->out_n -= (size_t)sent;
        any = true;
    }
    char in[65536];
    while (!p->ended && !p->reset) {
        ssize_t n = recv(p->fd, in, sizeof(in), MSG_DONTWAIT);
        p->ended |= n == 0;
        p->reset |= n < 0 && errno != EAGAIN;
        if (n <= 0)
            break;
        nghttp2_session_mem_recv(p->session, (const uint8_t *)in, (size_t)n);
        any = true;
    }
    return any;
}

#define H2_UNTIL(p, what)                                                                          \
    do {                                                                                           \
        h2_step(p);                                                                                \
        serve_settle((p)->t);                                                                      \
        while (!(what)) {                                                                          \
            if (!h2_step(p))                                                                       \
                serve_wait((p)->t, (p)->fd, POLLIN | ((p)->out_n ? POLLOUT : 0), #what, __LINE__); \
            else                                                                                   \
                serve_settle((p)->t);                                                              \
        }                                                                                          \
    } while (0)

/* Until nothing moves any more. */
H2_FN void h2_settle(struct h2_caller *p)
{
    for (int quiet = 0; quiet < 3; quiet = h2_step(p) ? 0 : quiet + 1)
        serve_settle(p->t);
}

/* ---- requests ---- */

#define H2_NV(n, v)                                                                                      \
    {                                                                                                    \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), NGHTTP2_NV_FLAG_NONE \
    }

/* `body` NULL: none. `more`: pairs of names and values, NULL at the end. */
H2_FN int32_t h2_ask_with(struct h2_caller *p, const char *method, const char *path, const struct span *body,
                          bool hold_body, const char *const *more)
{
    nghttp2_nv nv[160] = {H2_NV(":method", method), H2_NV(":scheme", "http"), H2_NV(":path", path),
                          H2_NV(":authority", "a")};
    size_t n = 4;
    for (; more && more[0]; more += 2)
        nv[n++] = (nghttp2_nv)H2_NV(more[0], more[1]);
    nghttp2_data_provider give = {.read_callback = h2_body};
    int32_t id = nghttp2_submit_request(p->session, NULL, nv, n, body || hold_body ? &give : NULL, NULL);
    assert_true(id > 0);
    struct h2_got *g = h2_got(p, id);
    g->rest = body ? *body : SPAN_NONE;
    g->hold_body = hold_body;
    return id;
}
H2_FN int32_t h2_get(struct h2_caller *p, const char *path)
{
    return h2_ask_with(p, "GET", path, NULL, false, NULL);
}
H2_FN int32_t h2_post(struct h2_caller *p, const char *path, struct span body)
{
    return h2_ask_with(p, "POST", path, &body, false, NULL);
}
/* More of a body that was held. */
H2_FN void h2_body_more(struct h2_caller *p, int32_t id, struct span more, bool last)
{
    h2_got(p, id)->rest = more;
    h2_got(p, id)->hold_body = !last;
    (void)nghttp2_session_resume_data(p->session, id); /* or it was not asked for yet */
}
/* A request that its handler keeps. */
H2_FN struct request *h2_held(struct h2_caller *p, int32_t id)
{
    struct serve *t = p->t;
    unsigned before = t->held_count;
    (void)id;
    H2_UNTIL(p, t->held_count > before);
    return t->held[before];
}
H2_FN struct request *h2_hold(struct h2_caller *p, int32_t *ret_id)
{
    int32_t id = h2_get(p, "/hold");
    if (ret_id)
        *ret_id = id;
    return h2_held(p, id);
}
H2_FN bool h2_is(struct h2_caller *p, int32_t id, int status, const char *body)
{
    struct h2_got *g = h2_got(p, id);
    return g->status == status && g->ended && g->n == strlen(body) && (!g->n || memcmp(g->body, body, g->n) == 0);
}
#define H2_HEAR(p, id, status, body) H2_UNTIL((p), h2_is((p), (id), (status), (body)))

/* ---- by hand ---- */

static const char h2_magic[] PD_UNUSED = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define H2_HEAD            \
    "\x82\x84\x86\x41\x01" \
    "a" /* GET / http a */

H2_FN size_t h2_frame(char *to, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t n)
{
    char head[9] = {(char)(n >> 16),  (char)(n >> 8),   (char)n,         (char)type, (char)flags,
                    (char)(id >> 24), (char)(id >> 16), (char)(id >> 8), (char)id};
    memcpy(to, head, 9);
    if (n)
        memcpy(to + 9, payload, n);
    return 9 + n;
}

/* Preface and SETTINGS, and a plain socket afterwards. */
H2_FN void h2_raw(struct caller *p, struct serve *t)
{
    char settings[9];
    int now = 1; /* each frame goes out when it is said */
    call_begin(p, t);
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &now, sizeof(now));
    call_send(t, p, h2_magic, 24);
    call_send(t, p, settings, h2_frame(settings, NGHTTP2_SETTINGS, 0, 0, NULL, 0));
}
H2_FN void h2_raw_frame(struct serve *t, struct caller *p, uint8_t type, uint8_t flags, uint32_t id,
                        const void *payload, size_t n)
{
    char *frame = malloc(9 + n);
    assert_non_null(frame);
    call_send(t, p, frame, h2_frame(frame, type, flags, id, payload, n));
    free(frame);
}
/* How many frames of a type came, and the last one's payload. */
H2_FN unsigned h2_frames(struct caller *p, uint8_t type, const uint8_t **ret_payload)
{
    unsigned found = 0;
    const uint8_t *at = (const uint8_t *)p->in;
    call_take(p);
    at = (const uint8_t *)p->in;
    for (size_t left = p->n; left >= 9;) {
        size_t n = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if (left < 9 + n)
            break;
        if (at[3] == type) {
            found++;
            if (ret_payload)
                *ret_payload = at + 9;
        }
        at += 9 + n;
        left -= 9 + n;
    }
    return found;
}

#endif
