/* client.h - a pooled HTTP/1.1 client for upstreams.
 *
 * An origin is scheme, host, port and the way there (proxy, TLS settings); it owns
 * the idle connections, the resolved addresses and the TLS sessions of that place.
 * An exchange is one request and its answer on one connection. Callbacks come in
 * this order, all on the loop:
 *
 *   [on_sent] -> on_head -> on_body ... (on_batch after each socket read) -> on_end
 *
 * on_end comes exactly once, unless the exchange is cancelled first. Interim 1xx
 * heads are swallowed. A kept-alive connection that dies before the first byte of
 * an answer is replaced by a fresh one, once, unseen. Deadlines for name, connect
 * and TLS are here; those for tokens are the caller's.
 *
 * Not content-decoded: requests ask for identity. */
#ifndef PERDURE_NET_CLIENT_H
#define PERDURE_NET_CLIENT_H

#include "base/err.h"
#include "base/span.h"
#include "loop/loop.h"
#include "parse/http1.h"

struct client_rules {
    uint64_t connect_ms;      /* name and TCP (and proxy) together: 10 s */
    uint64_t tls_ms;          /* handshake: 10 s */
    uint64_t idle_ms;         /* an unused connection is closed after: 60 s */
    unsigned idle_per_origin; /* kept at most: 512 */
    size_t head_bytes;        /* answer head: 64 KB */
    uint64_t dns_ttl_ms;      /* a resolved name is believed for: 30 s */
    uint64_t send_stall_ms;   /* upstream takes nothing of the request: 60 s */
    uint64_t
        peer_ms; /* its machine acknowledges nothing, of what is sent or of the probes that are sent while all is silent: 30 s;
                         0: never given up. Holds for connections that are opened from now on */
};
void client_rules_default(struct client_rules *r);

struct origin_config {
    const char *base_url; /* scheme, host and port of it are used */
    const char *proxy;    /* "http://host:port"; NULL: from the environment; "": none */
    const char *ca_file;  /* PEM, instead of the system store; NULL: system */
    bool tls_insecure;    /* no verification: only if the user says so */
};

struct client;
struct origin;
struct exchange;

struct client *client_new(struct loop *l, const struct client_rules *rules) PD_CHECKED;
void client_set_rules(struct client *c, const struct client_rules *rules);
/* Cancels nothing: all exchanges must be over. Closes idle connections; `closed` is called later; then client_free. */
void client_close(struct client *c, void (*closed)(void *ctx), void *ctx);
struct client *client_free(struct client *c);

/* The same config gives the same origin, with a reference more. PD_SYNTAX: bad URL; PD_NOMEM; PD_TLS: bad ca_file;
 * PD_UNSUPPORTED: a proxy that is not http (socks, https). */
pd_err client_origin(struct client *c, const struct origin_config *cfg, struct origin **ret) PD_CHECKED;
struct origin *origin_unref(
    struct origin *o); /* NULL is fine; returns NULL. Pool and memory go when nobody uses it */
unsigned origin_idle(const struct origin *o);
const char *origin_authority(const struct origin *o); /* "host" or "host:port", as a Host header wants it */

enum exchange_phase {
    EXCHANGE_RESOLVING,
    EXCHANGE_CONNECTING,
    EXCHANGE_PROXY,
    EXCHANGE_TLS,
    EXCHANGE_SENDING,
    EXCHANGE_WAITING,
    EXCHANGE_READING
};

struct exchange_info {
    enum exchange_phase phase; /* how far it came; in on_end: where it ended */
    bool reused;               /* over a kept-alive connection */
    bool until_close;          /* the answer has no length: its end proves nothing */
    bool tls_resumed;
    uint64_t started_us, connected_us, sent_us, head_us; /* loop time; 0: not reached */
};

struct exchange_handler {
    void (*on_sent)(void *ctx);                                /* the whole request is written; may be NULL */
    void (*on_head)(void *ctx, const struct http1_head *head); /* spans live until it returns */
    void (*on_body)(void *ctx, struct span bytes);             /* live until it returns */
    void (*on_batch)(void *ctx); /* all that one read brought was handed over; may be NULL */
    void (*on_end)(
        void *ctx, pd_err err,
        const char *why); /* why: a sentence with the phase, static or living until return; "": it ended well */
};

struct exchange_request {
    const char *method;
    struct span path;                 /* target as sent: path and query */
    const struct http1_field *fields; /* without Host, Content-Length, Connection: those are ours. Copied */
    unsigned fields_count;
    const struct span *body; /* parts; the bytes must stay until on_end or cancel, the array is copied */
    unsigned body_count;
    uint64_t connect_ms; /* name, TCP and proxy together, and again the TLS handshake; 0: the client's rules */
    bool fresh;          /* never on a kept-alive connection */
};

/* PD_OK: callbacks will come, never from inside this call. PD_NOMEM; PD_INVALID: a path or field that could break the head;
 * PD_TOOBIG: more than 256 KB of fields. The exchange is gone when on_end or exchange_cancel has returned. */
pd_err exchange_start(struct client *c, struct origin *o, const struct exchange_request *rq,
                      const struct exchange_handler *h, void *ctx, struct exchange **ret) PD_CHECKED;
void exchange_pause(struct exchange *x); /* no more on_body until resumed: backpressure reaches the provider */
void exchange_resume(struct exchange *x);
/* No callback after this. Closes the connection unless the answer was complete, so that the provider stops working. */
void exchange_cancel(struct exchange *x);
const struct exchange_info *exchange_info(const struct exchange *x);

#define CLIENT_COUNTERS(X)                                                               \
    X(connects_total, "connections opened")                                              \
    X(connect_errors_total, "connections that failed")                                   \
    X(reused_total, "requests sent over a kept-alive connection")                        \
    X(stale_retries_total, "requests sent again since a kept-alive connection had died") \
    X(tls_handshakes_total, "full TLS handshakes")                                       \
    X(tls_resumed_total, "TLS sessions resumed")                                         \
    X(dns_queries_total, "names looked up")                                              \
    X(cancelled_total, "exchanges cancelled before their end")

struct client_stats {
    uint64_t connections_open, connections_idle;
#define X(name, what) uint64_t name;
    CLIENT_COUNTERS(X)
#undef X
};
const struct client_stats *client_stats(const struct client *c);

#endif
