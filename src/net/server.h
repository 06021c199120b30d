/* server.h - a strict HTTP/1.1 server on bare sockets, which also speaks HTTP/2 to clients that begin with its preface.
 *
 * One `struct request` is one request on a client connection (HTTP/1.1) or one stream of it
 * (HTTP/2, RFC 9113 section 3.3: without TLS, by prior knowledge), from its complete
 * head to the end of its reply. Its handler need not know which. The body is collected before on_request is called
 * (up to body_bytes), so that it can be sent upstream more than once.
 *
 *   head read --on_head--> body read --on_request--> reply_begin .. reply_write .. reply_end
 *
 * A client that leaves is noticed at once, whatever state its request is in
 * (half-close counts as leaving, as in nginx): on_gone is called, once, unless the
 * reply had ended. After on_gone, reply_end, reply_abort and reply_reset the
 * request is the server's again: do not touch it.
 *
 * Replies are queued and written once for each turn of the loop (or on
 * reply_flush). What is queued is bounded: when reply_queued() passes
 * rules.out_high_bytes stop writing; on_drain is called below out_low_bytes.
 * A later pipelined request is not read until this reply has ended.
 *
 * HTTP/2: a stream that its client resets is a client that left, for that stream only. What is
 * queued is counted and paused for each stream. A reply that is aborted ends in RST_STREAM. */
#ifndef PERDURE_NET_SERVER_H
#define PERDURE_NET_SERVER_H

#include "base/err.h"
#include "base/span.h"
#include "loop/loop.h"
#include "parse/http1.h"

/* Every limit has a name; a limit that is hit is answered with it and counted under it. */
struct server_rules {
    size_t head_bytes;                /* 431 */
    size_t body_bytes;                /* 413 */
    uint64_t head_ms;                 /* from the first byte of a head to its last: 408 */
    uint64_t body_stall_ms;           /* without progress in a body: 408 */
    uint64_t body_rate;               /* least bytes per second of a body, averaged over body_stall_ms: 408 */
    uint64_t idle_ms;                 /* a kept-alive connection without a request: closed */
    uint64_t write_stall_ms;          /* a client that takes nothing: closed, on_gone */
    unsigned connections;             /* over it: accepted, answered 503 and closed */
    unsigned requests_per_connection; /* 0: any number */
    unsigned h2_streams; /* HTTP/2: requests at once on a connection; more are refused, unseen by handlers */
    size_t out_high_bytes, out_low_bytes;
};
void server_rules_default(
    struct server_rules
        *r); /* DESIGN 8: 64 KB, 64 MB, 30 s, 60 s, 1 KB/s, 75 s, 60 s, 10000, 0, 100, 64 KB, 16 KB */

#define SERVER_COUNTERS(X)                                                   \
    X(connections_total, "connections accepted")                             \
    X(connections_refused_total, "connections refused over the limit")       \
    X(accept_paused_total, "times accepting paused for want of descriptors") \
    X(requests_total, "requests whose head was read")                        \
    X(bad_requests_total, "requests refused by the HTTP reader")             \
    X(timeouts_total, "requests ended by a slow client")                     \
    X(gone_total, "clients that left before their reply ended")              \
    X(h2_connections_total, "connections that spoke HTTP/2")                 \
    X(h2_floods_total, "HTTP/2 connections ended for a flood of resets or empty frames")

struct server_stats {
    uint64_t connections_open, requests_open;
#define X(name, what) uint64_t name;
    SERVER_COUNTERS(X)
#undef X
};

struct server;
struct request;

struct server_handler {
    /* The head is read, the body not yet. May answer already (reply_*): then the body is read and dropped, or the connection
     * closed. NULL: every head is fine. */
    void (*on_head)(void *ctx, struct request *rq);
    /* Head and body are there. */
    void (*on_request)(void *ctx, struct request *rq);
};
/* For one request, set in on_head or on_request. */
struct request_handler {
    void (*on_gone)(void *ctx);
    void (*on_drain)(void *ctx);
};

struct server *server_new(struct loop *l, const struct server_rules *rules, const struct server_handler *h,
                          void *ctx) PD_CHECKED;
/* Listens on "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:80"; port 0 takes a free one. Several calls listen in several places.
 * PD_INVALID: not an address; PD_EXISTS: taken; PD_IO. */
pd_err server_listen(struct server *s, const char *address, uint16_t *ret_port) PD_CHECKED;
pd_err server_listen_fd(struct server *s, int fd) PD_CHECKED; /* an already listening socket; ours from now on */
/* The listening sockets, still the server's: to be shared (dup) with another worker's server, or handed to another process. Returns how
 * many were stored, at most `most`. */
unsigned server_listening(const struct server *s, int *fds, unsigned most);
/* New rules for connections and requests from now on. */
void server_set_rules(struct server *s, const struct server_rules *rules);
/* Stops accepting, closes idle connections, lets requests end ("Connection: close" on their replies); `drained` is called when
 * none is left. */
void server_drain(struct server *s, void (*drained)(void *ctx), void *ctx);
/* The same, without losing a request that is on its way: an idle connection stays open for grace_ms, and one more request on it is answered
 * (with "Connection: close"). What waits in the listening sockets' queues is accepted first; not when they are `shared` with another
 * process, which goes on accepting: then they stay open, in case that one dies, and nothing is accepted from them. */
void server_leave(struct server *s, uint64_t grace_ms, bool shared, void (*drained)(void *ctx), void *ctx);
/* The other process has died: accepts again, as if server_leave() had never been called; `drained` is not called any more. */
void server_return(struct server *s);
/* The other process is to end: the sockets are closed, and what drains goes on draining. */
void server_let_go(struct server *s);
/* Whether a listening socket is at this address, of which port 0 stands for any. */
bool server_listens_at(int fd, const char *address);
/* The address of a socket: "127.0.0.1:8080". PD_UNSUPPORTED: not one of the Internet's. */
pd_err server_address(int fd, char *out, size_t out_bytes, uint16_t *ret_port) PD_CHECKED;
/* Closes everything, on_gone for each open request; `closed` is called later, when nothing is left: then server_free. */
void server_close(struct server *s, void (*closed)(void *ctx), void *ctx);
struct server *server_free(struct server *s);
const struct server_stats *server_stats(const struct server *s);

/* ---- the request: spans live until the reply has ended ---- */
struct span request_method(const struct request *rq);
struct span request_path(const struct request *rq); /* the target before '?', as it came but for request_skip() */
/* The first n bytes of the path are no part of it: they only say who asks. Once. */
void request_skip(struct request *rq, size_t n);
struct span request_prefix(const struct request *rq); /* those bytes */
struct span request_query(const struct request *rq);
struct span request_header(const struct request *rq, const char *name); /* p NULL when absent */
unsigned request_headers(const struct request *rq, const struct http1_field **ret);
struct span request_body(const struct request *rq);
bool request_minor_0(const struct request *rq);      /* HTTP/1.0 */
uint64_t request_began_us(const struct request *rq); /* loop time of the first byte of the head */
uint64_t request_read_us(const struct request *rq);  /* of the last byte of the body */
const char *request_peer(const struct request *rq);  /* "127.0.0.1:5555" */
bool request_peer_is_loopback(const struct request *rq);
/* In on_gone: what the client asked outlives it. The request can be asked for its method, path, query, headers and body, and for nothing else, until it is released. */
void request_keep(struct request *rq);
struct request *request_release(struct request *rq); /* NULL is fine; returns NULL */
void request_set_handler(struct request *rq, const struct request_handler *h, void *ctx);

/* ---- the reply ---- */
struct header {
    struct span name, value; /* never Content-Length, Transfer-Encoding or Connection: those are ours */
};
/* content_length -1: chunked, or for HTTP/1.0 until close. Value bytes that could break the head are refused (PD_INVALID). */
pd_err reply_begin(struct request *rq, int status, const struct header *h, size_t n,
                   int64_t content_length) PD_CHECKED;
/* One piece of the body, given in parts; copied or written before it returns. */
pd_err reply_write(struct request *rq, const struct span *parts, size_t n) PD_CHECKED;
void reply_end(struct request *rq);
/* Ends without the proper end (no last chunk, and the connection closes; or RST_STREAM, when the
 * client has taken what is queued): what was cut is seen as cut. */
void reply_abort(struct request *rq);
/* Closes the connection with a TCP reset. */
void reply_reset(struct request *rq);
/* All in one; falls back to closing the connection when out of memory. */
void reply_simple(struct request *rq, int status, const struct header *h, size_t n, struct span body);
/* Bytes that wait for the client. */
size_t reply_queued(const struct request *rq);
/* Sends what is queued now, not at the end of the turn; reply_end does too. */
void reply_flush(struct request *rq);
bool reply_begun(const struct request *rq);
/* For `perdure simulate` only: bytes on the wire as they are, after which only reply_abort, reply_reset or reply_raw may follow.
 * PD_INVALID over HTTP/2. */
pd_err reply_raw(struct request *rq, struct span bytes) PD_CHECKED;

#endif
