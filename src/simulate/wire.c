#include "simulate/wire.h"

void wire_init(struct wire *w, struct request *rq, struct rnd *rnd)
{
    *w = (struct wire){.rq = rq, .rnd = rnd};
    buf_init(&w->pending, 0);
}

void wire_done(struct wire *w)
{
    buf_done(&w->pending);
}

/* ---- the head ------------------------------------------------------------- */

pd_err wire_interim(struct wire *w, int status)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_printf(&out, "HTTP/1.1 %d %s\r\n%s\r\n", status, http1_reason(status),
               status == 103 ? "link: </style.css>; rel=preload\r\n" : "");
    pd_err err = out.err;
    if (err == PD_OK)
        err = reply_raw(w->rq, buf_span(&text));
    if (w->form == WIRE_PLAIN)
        w->form = WIRE_RAW;
    buf_done(&text);
    return err;
}

static pd_err raw_head(struct wire *w, int status, const struct header *h, size_t n, int64_t length)
{
    struct put out = put_into(&w->pending);
    put_printf(&out, "HTTP/1.1 %d %s\r\n", status, http1_reason(status));
    for (size_t i = 0; i < n; i++) {
        put_span(&out, h[i].name);
        put_text(&out, ": ");
        put_span(&out, h[i].value);
        put_text(&out, "\r\n");
    }
    w->chunked = w->form != WIRE_UNTIL_CLOSE && w->form != WIRE_SHORT && length < 0;
    if (w->form == WIRE_SHORT)
        length = (length < 0 ? 1 << 20 : length) + (int64_t)w->missing;
    if (w->chunked)
        put_text(&out, "transfer-encoding: chunked\r\n");
    else if (w->form != WIRE_UNTIL_CLOSE) {
        put_text(&out, "content-length: ");
        put_int(&out, length);
        put_text(&out, "\r\n");
    }
    put_text(&out, w->form == WIRE_UNTIL_CLOSE ? "connection: close\r\n\r\n" : "connection: keep-alive\r\n\r\n");
    return out.err;
}

pd_err wire_begin(struct wire *w, int status, const struct header *h, size_t n, int64_t length)
{
    w->begun = true;
    if (w->form != WIRE_PLAIN)
        return raw_head(w, status, h, n, length);
    w->chunked = length < 0;
    return reply_begin(w->rq, status, h, n, length);
}

bool wire_send_head(struct wire *w, size_t most, pd_err *ret_err)
{
    struct span part = span_upto(buf_span(&w->pending), most);
    *ret_err = PD_OK;
    if (w->form == WIRE_PLAIN || part.n == 0)
        return false;
    *ret_err = reply_raw(w->rq, part);
    reply_flush(w->rq);
    buf_take(&w->pending, part.n);
    return buf_size(&w->pending) > 0;
}

/* ---- the body ------------------------------------------------------------- */

static pd_err put_piece(struct wire *w, struct span bytes)
{
    if (w->form == WIRE_PLAIN)
        return reply_write(w->rq, &bytes, 1);
    char line[24];
    struct buf head = {.p = line, .capacity = sizeof(line), .limit_bytes = sizeof(line)};
    struct put out = put_into(&head);
    if (!w->chunked)
        return reply_raw(w->rq, bytes);
    frame_chunk_head(&out, bytes.n);
    pd_err err = out.err != PD_OK ? out.err : reply_raw(w->rq, buf_span(&head));
    if (err == PD_OK)
        err = reply_raw(w->rq, bytes);
    return err != PD_OK ? err : reply_raw(w->rq, SPAN_LIT("\r\n"));
}

static pd_err put_split(struct wire *w, struct span bytes)
{
    while (bytes.n) {
        size_t n = w->framing & FRAME_ONE_BYTE ? 1 : 1 + rnd_below(w->rnd, WIRE_SPLIT_MAX);
        pd_err err = put_piece(w, span_upto(bytes, n));
        if (err != PD_OK)
            return err;
        reply_flush(w->rq); /* a packet of its own, as far as the kernel lets it */
        bytes = span_from(bytes, n);
    }
    return PD_OK;
}

static pd_err send_pending(struct wire *w)
{
    pd_err err = PD_OK;
    if (w->begun && buf_size(&w->pending)) {
        err = put_piece(w, buf_span(&w->pending));
        buf_clear(&w->pending);
    }
    return err;
}

pd_err wire_write(struct wire *w, struct span bytes)
{
    if (bytes.n == 0)
        return PD_OK;
    if (w->framing & (FRAME_ONE_BYTE | FRAME_SPLIT))
        return put_split(w, bytes);
    if (!(w->framing & FRAME_COALESCED))
        return put_piece(w, bytes);
    pd_err err = buf_add(&w->pending, bytes);
    return err == PD_OK && buf_size(&w->pending) >= WIRE_COALESCE_BYTES ? send_pending(w) : err;
}

pd_err wire_raw(struct wire *w, struct span bytes)
{
    pd_err err = send_pending(w);
    return err != PD_OK ? err : reply_raw(w->rq, bytes);
}

void wire_flush(struct wire *w)
{
    if (w->rq && send_pending(w) == PD_OK)
        reply_flush(w->rq);
}

/* ---- the end -------------------------------------------------------------- */

void wire_end(struct wire *w)
{
    pd_err err = send_pending(w);
    struct request *rq = w->rq;
    w->rq = NULL;
    if (err == PD_OK && w->form == WIRE_PLAIN) {
        reply_end(rq);
        return;
    }
    if (err == PD_OK && w->chunked)
        (void)(reply_raw(rq, SPAN_LIT("0\r\n\r\n")) == PD_OK); /* without memory for five bytes, the cut says it */
    reply_flush(rq);
    reply_abort(rq);
}

void wire_cut(struct wire *w)
{
    wire_flush(w);
    struct request *rq = w->rq;
    w->rq = NULL;
    reply_abort(rq);
}

void wire_reset(struct wire *w)
{
    struct request *rq = w->rq;
    w->rq = NULL;
    reply_reset(rq);
}
