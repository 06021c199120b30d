#include "net/client_priv.h"

#include <stdio.h>

/* What the exchange still takes of its bytes. False: it ended, was cancelled, lost its connection, or pauses. */
static bool going_on(const struct exchange *x, const struct conn *k)
{
    return !x->ended && x->conn == k && !x->paused;
}

static void complain(struct exchange *x, pd_err err, const char *why)
{
    exchange_end(x, err == PD_SYNTAX ? PD_PROTO : err, why);
}

/* ---- the head ----------------------------------------------------------------------- */

static void took_head(struct exchange *x, const struct http1_head *head)
{
    enum http1_framing framing = http1_response_framing(head, x->head_request);
    http1_body_init(&x->body, framing, head->content_length);
    x->info.phase = EXCHANGE_READING;
    x->info.head_us = loop_now_us(x->c->loop);
    x->info.until_close = framing == HTTP1_UNTIL_CLOSE;
    x->keep = head->keep_alive && framing != HTTP1_UNTIL_CLOSE;
    if (framing == HTTP1_NO_BODY)
        x->body.done = true;
    if (!x->sent && head->status >= 300 && !x->no_more) {
        /* Refused before all was sent: the rest would be for nothing. (A 2xx may well stream while it still reads.) */
        x->no_more = true;
        x->send_blocked = false;
        timer_stop(x->c->loop, &x->deadline);
    }
    x->h.on_head(x->ctx, head);
}

/* Takes one whole head off `in`. False: it is not all there, or the exchange ended. */
static bool step_head(struct exchange *x, struct span *in)
{
    size_t limit = x->c->rules.head_bytes;
    size_t n = http1_head_size(*in, &x->head_seen);
    if (n > limit || (n == 0 && in->n > limit)) {
        char why[80];
        snprintf(why, sizeof(why), "the head of the answer is larger than the %zu bytes of head_bytes", limit);
        exchange_end(x, PD_TOOBIG, why);
        return false;
    }
    if (n == 0)
        return false;
    struct http1_head head;
    const char *why = "";
    pd_err e = http1_response(span_upto(*in, n), &head, &why);
    if (e) {
        complain(x, e, why);
        return false;
    }
    *in = span_from(*in, n);
    x->head_seen = 0;
    if (head.status >= 200) {
        took_head(x, &head);
        return true;
    }
    if (head.status == 101 || ++x->interim > CLIENT_INTERIM_MAX) {
        exchange_end(x, PD_PROTO,
                     head.status == 101 ? "101 to a request that asked for no upgrade"
                                        : "too many interim 1xx heads");
        return false;
    }
    return true;
}

/* ---- the body ----------------------------------------------------------------------- */

static bool step_body(struct exchange *x, struct span *in)
{
    size_t used = 0;
    struct span data = SPAN_NONE;
    pd_err e = http1_body_step(&x->body, *in, &used, &data);
    if (e) {
        complain(x, e, "the chunks of the answer are malformed");
        return false;
    }
    *in = span_from(*in, used);
    if (data.n)
        x->h.on_body(x->ctx, data);
    return used > 0;
}

/* Hands over what it can; what is left in *in waits for more bytes, or for the end of a pause. */
static void digest(struct exchange *x, struct conn *k, struct span *in)
{
    if (in->n && !x->answered) {
        x->answered = true;
        exchange_drop_head(x);
    }
    while (going_on(x, k)) {
        if (x->info.phase != EXCHANGE_READING) {
            if (in->n == 0 || !step_head(x, in))
                return;
        } else if (x->body.done || in->n == 0 || !step_body(x, in)) {
            return;
        }
    }
}

/* The socket has ended: is that a proper end of what was being read? */
static void ended_here(struct exchange *x, pd_err how)
{
    struct conn *k = x->conn;
    bool reading = x->info.phase == EXCHANGE_READING;
    if (how == PD_CLOSED && k->send_end && !reading)
        how = k->send_end; /* the reset was told to the writer */
    if (!reading) {
        if (x->answered && (how == PD_CLOSED || how == PD_CUT))
            exchange_end(x, PD_CUT, "closed by the other side inside the head of its answer");
        else
            exchange_lost(x, how);
        return;
    }
    x->keep = false;
    if (how == PD_CUT && x->info.until_close)
        exchange_end(x, PD_CUT, "the answer has no length and its TLS connection ended without close_notify");
    else if (how == PD_CLOSED || how == PD_CUT)
        exchange_end(x, http1_body_eof(&x->body), NULL);
    else
        exchange_end(x, how, NULL);
}

/* ---- reading ------------------------------------------------------------------------ */

/* What stays of bytes that came in the scratch goes to `held`, where the next read adds to it. */
static pd_err keep_rest(struct exchange *x, struct conn *k, struct span rest, bool from_held)
{
    if (x->body.done && rest.n) {
        x->keep = false; /* bytes that nobody asked for: no other request goes over this connection */
        rest.n = 0;
    }
    if (from_held) {
        buf_take(&k->held, buf_size(&k->held) - rest.n);
        buf_shrink(&k->held);
        return PD_OK;
    }
    return buf_add(&k->held, rest);
}

/* Works off one batch of bytes. False: stop reading for now. */
static bool batch(struct exchange *x, struct conn *k, struct span in, bool from_held)
{
    size_t before = in.n;
    digest(x, k, &in);
    if (x->ended || x->conn != k)
        return false;
    pd_err e = keep_rest(x, k, in, from_held);
    if (e) {
        exchange_end(x, e, NULL);
        return false;
    }
    if (x->h.on_batch && in.n < before && x->info.phase == EXCHANGE_READING) {
        x->h.on_batch(x->ctx);
        if (x->ended || x->conn != k)
            return false;
    }
    if (x->info.phase == EXCHANGE_READING && x->body.done && !x->paused) {
        exchange_end(x, PD_OK, NULL);
        return false;
    }
    return !x->paused;
}

void exchange_receive(struct exchange *x)
{
    struct conn *k = x->conn;
    struct client *c = x->c;
    bool more = true;
    if (x->info.phase == EXCHANGE_READING && (buf_size(&k->held) || x->body.done) &&
        !batch(x, k, buf_span(&k->held), true))
        more = false;
    while (more) {
        size_t n = conn_read(k, c->scratch, sizeof(c->scratch));
        if (n == 0)
            break;
        struct span in = span_of(c->scratch, n);
        bool held = buf_size(&k->held) > 0;
        if (held) {
            pd_err e = buf_add(&k->held, in);
            if (e) {
                exchange_end(x, e, NULL);
                return;
            }
            in = buf_span(&k->held);
        }
        if (!batch(x, k, in, held))
            break;
        /* The loop tells again of what the kernel holds; not of what OpenSSL holds, nor after it stopped watching. */
        more = k->unwatched || k->read_end || tls_pending(&k->tls);
    }
    if (x->ended || x->conn != k)
        return;
    if (x->paused) {
        exchange_watch(x);
        return;
    }
    if (k->read_end)
        ended_here(x, k->read_end);
    else if (k->unwatched)
        ended_here(x, PD_RESET); /* an error was told, and reading shows none: nothing more will come */
    else
        exchange_watch(x);
}

/* ---- the proxy's answer to CONNECT ----------------------------------------------------- */

static void proxy_answered(struct exchange *x, struct span head, size_t rest)
{
    struct http1_head h;
    const char *why = "";
    char sentence[200];
    if (http1_response(head, &h, &why) != PD_OK) {
        snprintf(sentence, sizeof(sentence), "the proxy's answer is not HTTP: %s", why);
        exchange_end(x, PD_PROXY, sentence);
        return;
    }
    if (h.status < 200 || h.status > 299) {
        snprintf(sentence, sizeof(sentence), "the proxy answered %d %.100s", h.status,
                 h.reason.n ? "" : http1_reason(h.status));
        size_t at = strlen(sentence);
        for (size_t i = 0; i < h.reason.n && at + 1 < sizeof(sentence); i++)
            sentence[at++] = h.reason.p[i];
        sentence[at] = '\0';
        exchange_end(x, PD_PROXY, sentence);
        return;
    }
    if (rest) {
        exchange_end(x, PD_PROXY, "the proxy sent bytes of its own into the tunnel");
        return;
    }
    buf_done(&x->conn->held);
    x->info.phase = EXCHANGE_TLS;
}

void exchange_proxy_receive(struct exchange *x)
{
    struct conn *k = x->conn;
    struct client *c = x->c;
    size_t n = conn_read(k, c->scratch, sizeof(c->scratch));
    pd_err e = buf_add(&k->held, span_of(c->scratch, n));
    if (e) {
        exchange_end(x, e, NULL);
        return;
    }
    size_t seen = 0, head = http1_head_size(buf_span(&k->held), &seen);
    if (head) {
        proxy_answered(x, span_upto(buf_span(&k->held), head), buf_size(&k->held) - head);
        return;
    }
    if (buf_size(&k->held) > c->rules.head_bytes)
        exchange_end(x, PD_PROXY, "the head of the proxy's answer is larger than head_bytes");
    else if (k->read_end || (k->unwatched && n == 0))
        exchange_end(x, PD_PROXY, "the proxy closed the connection");
}
