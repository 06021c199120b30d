/* server_priv.h - connections and requests, for the server's own files.
 *
 * server.c listens, accepts and counts; server_conn.c reads; server_request.c holds requests; server_reply.c writes.
 * A connection that turns out to speak HTTP/2 is h2.c's from then on (h2_priv.h). */
#ifndef PERDURE_NET_SERVER_PRIV_H
#define PERDURE_NET_SERVER_PRIV_H

#include "base/buf.h"
#include "net/server.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum {
    SERVER_SCRATCH = 64 * 1024, /* one read; also the most that is kept of what a client sends ahead */
    SERVER_ACCEPT_BATCH = 256,  /* accepted before others get their turn */
    SERVER_PAUSE_MS = 100,      /* no accepting after it failed for want of descriptors or memory */
    SERVER_DISCARD_BYTES =
        64 * 1024,           /* a body up to this is read and dropped after an early answer; else we close */
    SERVER_LINGER_MS = 5000, /* how long, and how much, is read and dropped after we closed our side */
    SERVER_LINGER_BYTES = 16 << 20,
    SERVER_FRAMING_BYTES = 64 * 1024, /* chunk lines and trailers of a body, beyond its size */
    SERVER_BODY_FIRST = 4 << 20,      /* reserved on the word of a Content-Length; the rest when this has come */
    SERVER_BODY_TURN = 1 << 20,       /* read of a body before others get their turn */
    SERVER_COPY_BYTES =
        16 * 1024, /* a piece up to this is copied and sent with others; larger is written where it is */
    SERVER_SPARES = 64,
    SERVER_SPARE_BYTES = 16 * 1024, /* empty queues kept for whoever writes next */
};

/*   IDLE --first byte--> HEAD --all of it--> BODY --all of it--> REPLY --reply_end--> FLUSH --all sent--> IDLE
 *                         |                   |                                        |
 *                         |                   +--answered early--> DISCARD --> IDLE    +--must close--> LINGER --> CLOSED
 *                         +--bad, slow, large: answered--> FLUSH                       +--and nothing unread--> CLOSED
 *
 * The first head may be HTTP/2's preface: then H2, and from there LINGER.
 * Whatever the phase, a client that leaves leads to CLOSED. A phase that is over at once is passed through. */
#define CONN_PHASES(X)                                                                            \
    X(CONN_IDLE, "waits for the first byte of a head")                                            \
    X(CONN_HEAD, "part of a head is here")                                                        \
    X(CONN_BODY, "the head was taken, the body comes")                                            \
    X(CONN_REPLY, "the request is its handler's until the reply has ended")                       \
    X(CONN_DISCARD, "answered before its body was here; the rest of it is dropped")               \
    X(CONN_FLUSH, "the reply has ended; its last bytes leave")                                    \
    X(CONN_H2, "speaks HTTP/2; its streams have states of their own")                             \
    X(CONN_LINGER, "our side is closed; what still comes is dropped, so that our answer is read") \
    X(CONN_CLOSED, "the descriptor is closed; the memory goes when the loop lets go of it")

enum conn_phase {
#define X(code, what) code,
    CONN_PHASES(X)
#undef X
};

/* How fast a body comes. */
struct pace {
    uint64_t progress_ms;             /* its last byte */
    uint64_t window_ms, window_bytes; /* since when bytes are counted for the rate, and how many came */
};
enum pace_verdict { PACE_GOOD, PACE_STALLED, PACE_SLOW };

struct h2;
struct h2_stream;

struct conn {
    struct list node; /* in server->conns until the memory goes */
    struct server *server;
    struct watch watch;
    struct timer deadline; /* what it means depends on the phase */
    struct later later;
    struct buf in; /* an unfinished head, or what came behind a request in the same read */
    struct buf out;
    size_t seen, checked;   /* of an unfinished head */
    struct request *rq;     /* from its head until its reply has ended */
    struct http1_body body; /* of rq, as it comes */
    uint64_t framing_bytes;
    uint64_t head_began_us;
    struct pace pace; /* of the body */
    struct h2 *h2;    /* NULL: HTTP/1.1 */
    uint64_t lingered;
    unsigned requests;
    enum conn_phase phase;
    bool skipped_line; /* the one empty line that may come before a head */
    bool consuming;    /* conn_consume() is on the stack and goes on by itself */
    bool deaf;         /* bytes came while busy: not read until the reply has ended */
    bool blocked;      /* the socket takes no more; WATCH_WRITE tells when */
    bool broken;       /* sending failed; on_gone follows at the end of the turn */
    bool over_high;    /* on_drain is owed */
    bool close_after;  /* no further request on this connection */
    bool unread;       /* closing with bytes unread: linger */
    bool cut;          /* the reply was aborted */
    bool reset_at_end; /* only a reset shows that this reply was cut */
    bool loopback;
    char peer[58];
};

struct request {
    struct conn *conn;
    struct h2_stream *stream; /* NULL: HTTP/1.1 */
    struct request_handler handler;
    void *ctx;
    struct span method, target, body;
    struct span prefix; /* taken off the target */
    const struct http1_field *fields;
    unsigned fields_count;
    struct buf big; /* a body that did not come with its head */
    uint64_t began_us, read_us;
    uint64_t left; /* of the announced length of the reply */
    bool minor_0, keep_alive, expects, is_head;
    bool begun, chunked, has_length, bodyless, until_close, raw;
    bool over; /* the client has gone; on_gone is running */
    bool kept; /* its handler frees it */
};

struct listener {
    struct list node;
    struct server *server;
    struct watch watch;
};

struct server {
    struct loop *loop;
    struct server_rules rules;
    struct server_handler handler;
    void *ctx;
    struct list listeners, conns;
    struct server_stats stats;
    struct timer pause;
    struct later quiet; /* calls drained and closed */
    uint64_t grace_ms;  /* draining: how long an idle connection may still ask */
    void (*drained)(void *ctx);
    void *drained_ctx;
    void (*closed)(void *ctx);
    void *closed_ctx;
    bool draining, closing, paused;
    bool
        resting; /* draining: the listening sockets are another process's to accept from, and kept for its death */
    uint64_t linger_ms; /* SERVER_LINGER_MS, unless a test is in a hurry */
    int reserve_fd;     /* given up to accept, and so refuse, one more when descriptors are out */
    uint64_t date_s;
    char date[40]; /* "Date: ...\r\n" of that second */
    unsigned spares_count;
    struct buf spares[SERVER_SPARES];
    struct http1_head head; /* scratch */
    char *scratch;
    struct nghttp2_session_callbacks *h2_callbacks; /* made for the first HTTP/2 connection */
    struct nghttp2_option *h2_option;
};

/* ---- server.c ---- */
/* "Date: ...\r\n" */
struct span server_date(struct server *s);
/* A connection's memory has gone, or one became idle while draining. */
void server_look_quiet(struct server *s);
void server_conn_closed(struct server *s);

/* ---- server_conn.c ---- */
/* Takes the descriptor; on failure it is still the caller's. */
pd_err conn_new(struct server *s, int fd, const struct sockaddr_storage *peer) PD_CHECKED;
/* The client has left or cannot be served: on_gone if a request is open. */
void conn_gone(struct conn *c);
void conn_close(struct conn *c);
void conn_leave(struct conn *c); /* idle, and the server drains: now, or after its grace */
void conn_reset(struct conn *c);
/* Server closes: on_gone, but the client did not leave. */
void conn_drop(struct conn *c);
/* The reply has ended and left: the next request, or the end. */
void conn_next(struct conn *c);
void conn_watch(struct conn *c);
/* The only place that writes c->phase. */
void conn_enter(struct conn *c, enum conn_phase to);
/* The code that stands in the answer to a head that was refused with this status. */
const char *head_fault_code(int status);
void pace_begin(struct pace *p, uint64_t now_ms);
void pace_add(struct pace *p, size_t bytes, uint64_t now_ms);
/* At p->progress_ms + rules->body_stall_ms, again and again. */
enum pace_verdict pace_judge(struct pace *p, const struct server_rules *rules, uint64_t now_ms);

/* ---- server_request.c ---- */
/* Copies the head and, when all of the body is in `rest` and it is small, the body: then *ret_taken of `rest`. */
struct request *request_new(struct conn *c, const struct http1_head *h, struct span head, struct span rest,
                            size_t *ret_taken) PD_CHECKED;
void request_free(struct request *rq);

/* ---- server_reply.c ---- */
/* The server's own answer, after which the connection closes. */
void conn_refuse(struct conn *c, int status, const char *code, const char *fmt, ...) PD_PRINTF(4, 5);
/* Appends the answer's bytes, for clients that get no connection. */
pd_err server_format_refusal(struct server *s, struct buf *out, int status, const char *code,
                             const char *message) PD_CHECKED;
enum { SERVER_REFUSAL_BYTES = 640 };
/* Its body alone: `out` has SERVER_REFUSAL_BYTES. The sentence is put into JSON as it should be. */
struct span server_refusal_body(char *out, int status, const char *code, const char *sentence);
/* Nothing in it that could break a head; a name has at least one byte. */
bool server_text_ok(struct span s, bool name);
pd_err conn_queue(struct conn *c, struct span s) PD_CHECKED;
/* Sends what is queued. False when that failed: the caller must end the connection. */
bool conn_send(struct conn *c) PD_CHECKED;
/* Sends and does what follows from it; for callbacks of the loop, not for those of requests. */
void conn_flush(struct conn *c);
/* An early answer need not close the connection: the body is here, or small enough to be dropped. */
bool conn_can_discard(const struct conn *c);

#endif
