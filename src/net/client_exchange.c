#include "net/client_priv.h"

#include <assert.h>
#include <stdio.h>

/* ---- sentences -------------------------------------------------------------------- */

const char *exchange_where(struct exchange *x, char *out, size_t n)
{
    struct origin *o = x->o;
    if (o->proxy.host)
        snprintf(out, n, "%s:%u by the proxy %s:%u", o->host, (unsigned)o->port, o->proxy.host,
                 (unsigned)o->proxy.port);
    else
        snprintf(out, n, "%s:%u", o->host, (unsigned)o->port);
    return out;
}

static const char *phase_text(enum exchange_phase p)
{
    switch (p) {
    case EXCHANGE_RESOLVING:
        return "looking up the name of";
    case EXCHANGE_CONNECTING:
        return "connecting to";
    case EXCHANGE_PROXY:
        return "opening a tunnel to";
    case EXCHANGE_TLS:
        return "TLS handshake with";
    case EXCHANGE_SENDING:
        return "sending the request to";
    case EXCHANGE_WAITING:
        return "waiting for the answer of";
    case EXCHANGE_READING:
        return "reading the answer of";
    }
    return "talking to";
}

/* ---- the end ---------------------------------------------------------------------- */

void exchange_abort(struct exchange *x)
{
    if (x->dial)
        dial_abort(x->dial);
    if (x->conn)
        upstream_close(x->conn);
    x->conn = NULL;
    timer_stop(x->c->loop, &x->deadline);
    later_cancel(&x->kick);
}

/* May the next request go over this connection? */
static bool reusable(struct exchange *x)
{
    struct conn *k = x->conn;
    char byte;
    if (!x->keep || !x->sent || k->read_end || k->send_end || k->gone || k->unwatched || buf_size(&k->held))
        return false;
    /* What OpenSSL holds back would never wake us: a late ticket is fine, data is not. */
    return !tls_pending(&k->tls) || (conn_read(k, &byte, 1) == 0 && !k->read_end);
}

/* Lives until the next one is said. */
static const char *say_why(struct exchange *x, pd_err err, const char *why)
{
    char where[320];
    if (!why && err == PD_TIMEOUT) /* ours have their sentences: this one is the kernel's */
        why = "its machine acknowledged nothing for too long (peer_timeout)";
    snprintf(x->c->why, CLIENT_WHY, "%s %s: %s", phase_text(x->info.phase),
             exchange_where(x, where, sizeof(where)), why ? why : pd_err_text(err));
    return x->c->why;
}

void exchange_end(struct exchange *x, pd_err err, const char *why)
{
    if (x->ended)
        return;
    const char *sentence = err ? say_why(x, err, why) : "";
    x->ended = true;
    struct conn *k = x->conn;
    if (k && !err && reusable(x)) {
        x->conn = NULL;
        origin_put_idle(x->o, k);
    }
    exchange_abort(x);
    client_bury(x->c, x);
    x->h.on_end(x->ctx, err, sentence);
}

void exchange_cancel(struct exchange *x)
{
    if (x->ended)
        return;
    x->ended = true;
    x->c->stats.cancelled_total++;
    exchange_abort(x);
    client_bury(x->c, x);
}

/* ---- phases ------------------------------------------------------------------------ */

static void on_deadline(void *ctx)
{
    struct exchange *x = ctx;
    const struct client_rules *r = &x->c->rules;
    char why[96];
    switch (x->info.phase) {
    case EXCHANGE_RESOLVING:
    case EXCHANGE_CONNECTING:
    case EXCHANGE_PROXY:
        snprintf(why, sizeof(why), "not done within the %llu ms of connect_ms", (unsigned long long)x->connect_ms);
        x->c->stats.connect_errors_total++;
        break;
    case EXCHANGE_TLS:
        snprintf(why, sizeof(why), "not done within the %llu ms of tls_ms", (unsigned long long)x->tls_ms);
        x->c->stats.connect_errors_total++;
        break;
    case EXCHANGE_SENDING:
    case EXCHANGE_WAITING:
    case EXCHANGE_READING:
        snprintf(why, sizeof(why), "nothing of the request was taken for %llu ms (send_stall_ms)",
                 (unsigned long long)r->send_stall_ms);
        break;
    }
    exchange_end(x, PD_TIMEOUT, why);
}

static void deadline_in(struct exchange *x, uint64_t ms)
{
    timer_arm(x->c->loop, &x->deadline, loop_now_ms(x->c->loop) + ms);
}

void exchange_watch(struct exchange *x)
{
    struct conn *k = x->conn;
    if (!k || k->unwatched)
        return;
    int want = 0;
    if (!x->paused)
        want |= WATCH_READ;
    if (!k->gone)
        want |= WATCH_GONE; /* level-triggered: once seen while bytes wait, it would wake us for ever */
    if (x->send_blocked)
        want |= WATCH_WRITE;
    watch_want(&k->watch, want);
}

static void start_sending(struct exchange *x)
{
    x->info.phase = EXCHANGE_SENDING;
    timer_stop(x->c->loop, &x->deadline);
    exchange_send(x);
}

static void handshake(struct exchange *x)
{
    struct conn *k = x->conn;
    enum tls_want want;
    char why[256];
    pd_err e = tls_handshake(&k->tls, &want, x->o->host, why, sizeof(why));
    if (e) {
        x->c->stats.connect_errors_total++;
        exchange_end(x, e == PD_NOMEM ? e : PD_TLS, why);
        return;
    }
    if (want != TLS_DONE && k->unwatched) {
        exchange_end(x, PD_RESET, NULL);
        return;
    }
    if (want != TLS_DONE) {
        watch_want(&k->watch, want == TLS_WANTS_READ ? WATCH_READ | WATCH_GONE : WATCH_WRITE | WATCH_GONE);
        return;
    }
    x->info.tls_resumed = tls_resumed(&k->tls);
    if (x->info.tls_resumed)
        x->c->stats.tls_resumed_total++;
    else
        x->c->stats.tls_handshakes_total++;
    x->info.connected_us = loop_now_us(x->c->loop);
    start_sending(x);
}

static void start_tls(struct exchange *x)
{
    struct origin *o = x->o;
    x->info.phase = EXCHANGE_TLS;
    deadline_in(x, x->tls_ms);
    pd_err e = tls_open(&x->conn->tls, o->trust->tls, x->conn->watch.fd, o->host, &o->sessions);
    if (e)
        exchange_end(x, e, NULL);
    else
        handshake(x);
}

static void start_tunnel(struct exchange *x)
{
    struct conn *k = x->conn;
    struct origin *o = x->o;
    x->info.phase = EXCHANGE_PROXY;
    bool v6 = strchr(o->host, ':') != NULL;
    pd_err e = buf_printf(&k->held,
                          v6 ? "CONNECT [%s]:%u HTTP/1.1\r\nHost: [%s]:%u\r\n"
                             : "CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n",
                          o->host, (unsigned)o->port, o->host, (unsigned)o->port);
    if (!e && o->proxy.authorization)
        e = buf_printf(&k->held, "Proxy-Authorization: %s\r\n", o->proxy.authorization);
    if (!e)
        e = buf_puts(&k->held, "\r\n");
    if (e) {
        exchange_end(x, e, NULL);
        return;
    }
    /* It is small and the socket new: what does not take it whole does not work. */
    struct span ask = buf_span(&k->held);
    bool full;
    if (conn_write(k, &ask, 1, 0, &full) != ask.n) {
        exchange_end(x, PD_PROXY, "the proxy took no request");
        return;
    }
    buf_done(&k->held);
    watch_want(&k->watch, WATCH_READ | WATCH_GONE);
}

void exchange_connected(struct exchange *x, struct conn *k)
{
    x->conn = k;
    k->x = x;
    k->state = CONN_BUSY;
    x->info.connected_us = loop_now_us(x->c->loop);
    if (x->o->proxy.host && x->o->tls)
        start_tunnel(x);
    else if (x->o->tls)
        start_tls(x);
    else
        start_sending(x);
}

static void tunnel_event(struct exchange *x)
{
    exchange_proxy_receive(x);
    if (!x->ended && x->info.phase == EXCHANGE_TLS)
        start_tls(x);
}

void exchange_event(struct exchange *x, int events, pd_err err)
{
    struct conn *k = x->conn;
    if (err)
        k->unwatched = true;
    switch (x->info.phase) {
    case EXCHANGE_PROXY:
        tunnel_event(x);
        return;
    case EXCHANGE_TLS:
        handshake(x);
        return;
    case EXCHANGE_RESOLVING:
    case EXCHANGE_CONNECTING:
        assert(!"no connection yet");
        return;
    case EXCHANGE_SENDING:
    case EXCHANGE_WAITING:
    case EXCHANGE_READING:
        break;
    }
    if ((events & WATCH_WRITE) && x->send_blocked)
        exchange_send(x);
    if (x->ended || x->conn != k)
        return;
    if (x->paused) {
        /* What the peer sent before it left waits in the kernel for the resume. */
        if ((events & WATCH_GONE) || err)
            k->gone = true;
        exchange_watch(x);
        return;
    }
    if ((events & (WATCH_READ | WATCH_GONE)) || err)
        exchange_receive(x);
}

/* ---- beginning ----------------------------------------------------------------------- */

static void dial_anew(struct exchange *x)
{
    x->info.reused = false;
    deadline_in(x, x->connect_ms);
    pd_err e = dial_start(x);
    if (e)
        exchange_end(x, e, NULL);
}

static void begin(struct exchange *x)
{
    struct conn *k = x->fresh ? NULL : origin_take_idle(x->o);
    if (!k) {
        dial_anew(x);
        return;
    }
    x->info.reused = true;
    x->c->stats.reused_total++;
    x->conn = k;
    k->x = x;
    x->info.connected_us = loop_now_us(x->c->loop);
    start_sending(x);
}

static void on_kick(void *ctx)
{
    struct exchange *x = ctx;
    if (x->ended)
        return;
    if (!x->begun) {
        x->begun = true;
        begin(x);
    } else if (!x->paused && x->conn && x->info.phase >= EXCHANGE_SENDING) {
        exchange_receive(x); /* bytes may be held here, in OpenSSL, or behind an error that is told only once */
    }
}

void exchange_set_out(struct exchange *x)
{
    timer_init(&x->deadline, on_deadline, x);
    later_init(&x->kick, on_kick, x);
    loop_later(x->c->loop, &x->kick);
}

void exchange_lost(struct exchange *x, pd_err err)
{
    if (x->info.reused && !x->answered && (err == PD_CLOSED || err == PD_CUT || err == PD_RESET || err == PD_IO)) {
        upstream_close(x->conn);
        x->conn = NULL;
        x->part = 0;
        x->part_at = 0;
        x->head_seen = 0;
        x->sent = x->send_blocked = x->no_more = false;
        x->c->stats.stale_retries_total++;
        dial_anew(x);
        return;
    }
    if (!x->answered && err == PD_CUT)
        err = PD_CLOSED;
    if (err == PD_CLOSED && !x->answered)
        exchange_end(x, PD_CLOSED, "closed by the other side before any answer");
    else
        exchange_end(x, err, NULL);
}

void exchange_pause(struct exchange *x)
{
    if (x->ended || x->paused)
        return;
    x->paused = true;
    if (x->info.phase >= EXCHANGE_SENDING)
        exchange_watch(x);
}

void exchange_resume(struct exchange *x)
{
    if (x->ended || !x->paused)
        return;
    x->paused = false;
    if (!x->conn || x->info.phase < EXCHANGE_SENDING)
        return;
    loop_later(x->c->loop, &x->kick);
}

const struct exchange_info *exchange_info(const struct exchange *x)
{
    return &x->info;
}
