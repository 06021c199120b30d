#include "base/mem.h"
#include "base/text.h"
#include "net/h2_priv.h"

#include <stdarg.h>
#include <stdio.h>

static struct server *server_of(const struct h2_stream *s)
{
    return s->h2->conn->server;
}

/* ---- heads ---- */

/* The fields of a reply and the bytes of their names, until nghttp2 has its copy. */
struct draft {
    nghttp2_nv *fields;
    size_t n;
    char *bytes, *at;
};

static pd_err draft_init(struct draft *d, const struct header *h, size_t n)
{
    size_t names = 0;
    for (size_t i = 0; i < n; i++)
        names += h[i].name.n;
    *d = (struct draft){.fields = mem_alloc((n + 4) * sizeof(nghttp2_nv)), .bytes = mem_alloc(names + 1)};
    d->at = d->bytes;
    if (d->fields && d->bytes)
        return PD_OK;
    mem_free(d->fields);
    mem_free(d->bytes);
    return PD_NOMEM;
}

static void draft_done(struct draft *d)
{
    mem_free(d->fields);
    mem_free(d->bytes);
}

static void draft_add(struct draft *d, struct span name, struct span value)
{
    d->fields[d->n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)(value.p ? value.p : ""),
                                     name.n, value.n, NGHTTP2_NV_FLAG_NONE};
}

/* RFC 9113 section 8.2.2. Content-Length, Transfer-Encoding and Connection cannot come here. */
static bool of_connections(struct span name)
{
    return span_iis(name, "keep-alive") || span_iis(name, "proxy-connection") || span_iis(name, "upgrade");
}

static void draft_header(struct draft *d, const struct header *h)
{
    if (of_connections(h->name))
        return;
    char *name = d->at;
    for (size_t i = 0; i < h->name.n; i++) {
        char ch = h->name.p[i];
        *d->at++ = ch >= 'A' && ch <= 'Z' ? (char)(ch + 'a' - 'A') : ch;
    }
    draft_add(d, span_of(name, h->name.n), span_trim(h->value)); /* blanks around a value are an error in HTTP/2 */
}

/* `bodyless`: the head is all. content_length -1: none is told. */
static pd_err submit_head(struct h2_stream *s, int status, const struct header *h, size_t n,
                          int64_t content_length, bool bodyless)
{
    struct draft d;
    pd_err err = draft_init(&d, h, n);
    if (err)
        return err;
    char digits[3] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10), (char)('0' + status % 10)},
         number[24];
    struct text length = text_in(number, sizeof(number));
    struct span date = server_date(server_of(s));
    draft_add(&d, SPAN_LIT(":status"), span_of(digits, 3));
    draft_add(&d, SPAN_LIT("date"), span_of(date.p + 6, date.n - 8));
    for (size_t i = 0; i < n; i++)
        draft_header(&d, &h[i]);
    if (content_length >= 0) {
        text_u64(&length, (uint64_t)content_length);
        draft_add(&d, SPAN_LIT("content-length"), span_of(length.p, length.n));
    }

    nghttp2_data_provider body = {.source.ptr = s, .read_callback = h2_give_data};
    int e = nghttp2_submit_response(s->h2->session, s->id, d.fields, d.n, bodyless ? NULL : &body);
    draft_done(&d);
    if (e)
        return e == NGHTTP2_ERR_NOMEM ? PD_NOMEM : PD_INVALID;
    s->answered = true;
    h2_soon(s->h2);
    return PD_OK;
}

void h2_continue(struct h2_stream *s)
{
    static const char name[] = ":status", value[] = "100";
    nghttp2_nv nv = {(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, 7, 3, NGHTTP2_NV_FLAG_NONE};
    if (nghttp2_submit_headers(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL) < 0)
        h2_break(s->h2);
}

/* ---- bodies ---- */

/* Clients drop what they have not passed on yet when RST_STREAM comes, and with it the error event that tells why. An answered PING
 * says that they have: then comes the reset, in h2_stream_cut(), or at the deadline of whoever does not answer. */
static ssize_t before_reset(struct h2_stream *s)
{
    uint8_t id[8] = {H2_PING_CUT,   0, 0, 0, (uint8_t)(s->id >> 24), (uint8_t)(s->id >> 16), (uint8_t)(s->id >> 8),
                     (uint8_t)s->id};
    if (nghttp2_submit_ping(s->h2->session, NGHTTP2_FLAG_NONE, id))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM now */
    return NGHTTP2_ERR_DEFERRED;
}

ssize_t h2_give_data(nghttp2_session *session, int32_t id, uint8_t *room, size_t most, uint32_t *flags,
                     nghttp2_data_source *source, void *ctx)
{
    (void)session, (void)id, (void)room, (void)ctx;
    struct h2_stream *s = source->ptr;
    size_t n = buf_size(&s->out);
    if (!n && s->cut)
        return before_reset(s);
    if (!n && !s->ended)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY; /* on_send_data() takes it from `out` */
    if (n <= most && s->ended && !s->cut)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)(n < most ? n : most);
}

static void wake(struct h2_stream *s)
{
    int e = nghttp2_session_resume_data(s->h2->session, s->id); /* INVALID_ARGUMENT: it was not deferred */
    if (e == NGHTTP2_ERR_NOMEM)
        h2_break(s->h2);
    h2_soon(s->h2);
}

void h2_out_moved(struct h2_stream *s)
{
    s->sent_ms = loop_now_ms(server_of(s)->loop);
    if (!s->deadline.armed)
        timer_arm(server_of(s)->loop, &s->deadline, s->sent_ms + server_of(s)->rules.write_stall_ms);
}

void h2_drained(struct h2_stream *s)
{
    if (!s->over_high || buf_size(&s->out) >= server_of(s)->rules.out_low_bytes)
        return;
    s->over_high = false;
    if (s->rq && s->rq->handler.on_drain)
        s->rq->handler.on_drain(s->rq->ctx);
}

/* ---- the server's own answers ---- */

void h2_refuse(struct h2_stream *s, int status, const char *code, const char *fmt, ...)
{
    const struct header headers[] = {{SPAN_LIT("content-type"), SPAN_LIT("application/json")},
                                     {SPAN_LIT("retry-after"), SPAN_LIT("1")}};
    char message[300], room[SERVER_REFUSAL_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);

    struct span body = server_refusal_body(room, status, code, message);
    if (status != 503)
        server_of(s)->stats.bad_requests_total++;
    pd_err err = s->is_head ? PD_OK : buf_add(&s->out, body);
    if (!err)
        err = submit_head(s, status, headers, status == 503 ? 2 : 1, (int64_t)body.n, s->is_head);
    if (err)
        h2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
    s->ended = true;
    h2_stream_enter(s, H2_FLUSH);
    h2_stream_gone(s); /* known to its handler since on_head */
}

/* ---- the handler's ---- */

pd_err h2_reply_begin(struct request *rq, int status, const struct header *h, size_t n, int64_t content_length)
{
    struct h2_stream *s = rq->stream;
    bool never = status == 204 || status == 304;
    if (n > H2_HEADERS_MOST)
        return PD_TOOBIG;
    rq->has_length = content_length >= 0 && !never;
    rq->bodyless = rq->is_head || never;
    if (s->state != H2_OVER) {
        pd_err err = submit_head(s, status, h, n, rq->has_length ? content_length : -1, rq->bodyless);
        if (err)
            return err;
    }
    rq->left = rq->has_length && !rq->bodyless ? (uint64_t)content_length : 0;
    rq->begun = true;
    return PD_OK;
}

pd_err h2_reply_write(struct request *rq, const struct span *parts, size_t n, size_t total)
{
    struct h2_stream *s = rq->stream;
    if (s->state == H2_OVER)
        return PD_OK; /* on_gone follows at the end of the turn */
    bool waited = buf_size(&s->out) > 0;
    pd_err err = buf_reserve(&s->out, total);
    for (size_t i = 0; i < n && !err; i++)
        err = buf_add(&s->out, parts[i]);
    if (err)
        return err;
    if (rq->has_length)
        rq->left -= total;
    if (!waited)
        h2_out_moved(s);
    if (buf_size(&s->out) > server_of(s)->rules.out_high_bytes)
        s->over_high = true;
    wake(s);
    return PD_OK;
}

/* The request is the server's again. */
static void end_reply(struct h2_stream *s)
{
    s->ended = true;
    s->over_high = false;
    if (s->state != H2_OVER) {
        h2_stream_enter(s, H2_FLUSH);
        wake(s);
    }
    request_free(h2_stream_take(s));
}

void h2_reply_end(struct request *rq)
{
    end_reply(rq->stream);
}

void h2_reply_abort(struct request *rq)
{
    struct h2_stream *s = rq->stream;
    s->cut = true;
    if (!rq->begun || rq->bodyless)
        h2_stream_reset(s, NGHTTP2_INTERNAL_ERROR); /* else behind what is queued: before_reset() */
    end_reply(s);
}

void h2_reply_reset(struct request *rq)
{
    struct h2_stream *s = rq->stream;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(s->h2->conn->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    s->cut = true;
    end_reply(s);
    h2_break(s->h2);
}

size_t h2_reply_queued(const struct request *rq)
{
    return buf_size(&rq->stream->out);
}

void h2_reply_flush(struct request *rq)
{
    h2_send(rq->stream->h2);
    h2_soon(rq->stream->h2);
}
