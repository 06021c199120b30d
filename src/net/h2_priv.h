/* h2_priv.h - HTTP/2 connections of the server (RFC 9113, section 3.3: prior knowledge), for the server's own files.
 *
 * A connection starts as HTTP/1.1. When its first head is the first half of HTTP/2's preface, h2_begin() takes it over, with
 * every byte since its first, and server_conn.c hands on what the loop tells. Frames, HPACK and flow control are nghttp2's;
 * what a request may be, what is held of it and for how long is ours, by the same limits as for HTTP/1.1.
 *
 * h2.c is the connection: the session, reading, writing, floods, leaving. h2_stream.c is the way of a request up to its
 * handler. h2_reply.c is the way back.
 *
 * nghttp2 must not be entered from within its own callbacks, and handlers run in those: so a handler's calls only submit, and
 * h2_turn() at the end of the turn sends. For the same reason no stream's memory goes before that. */
#ifndef PERDURE_NET_H2_PRIV_H
#define PERDURE_NET_H2_PRIV_H

#include "net/server_priv.h"

#include <nghttp2/nghttp2.h>

enum {
    H2_WINDOW_BYTES = 1 << 20, /* what a client may send of one body before we say more */
    H2_CONN_WINDOW_BYTES =
        16 << 20, /* and of all of them; given back at once, since the streams' windows are the limit */
    H2_OUT_BYTES = 64 * 1024,   /* frames that wait for the socket; the rest waits in its stream */
    H2_READ_TURN = 8,           /* reads of SERVER_SCRATCH before others get their turn */
    H2_WAITING_BODIES = 1,      /* unfinished bodies of a connection together, times body_bytes: more are paused */
    H2_HELD_BODIES = 4,         /* finished bodies whose requests still run, likewise: then all are paused */
    H2_FRAME_BYTES = 16 * 1024, /* largest frame that a client may send (RFC 9113's least) */
    H2_CONTINUATIONS = 8,       /* of one head, beyond those that head_bytes needs */
    H2_CONTINUATIONS_MOST = 80, /* for the largest head_bytes that can be set */
    H2_RESETS = 200,            /* streams ended by a reset: that many at once, */
    H2_RESETS_PER_SECOND = 20,  /* and that many a second: CVE-2023-44487, CVE-2025-8671 */
    H2_FRAMES = 2000,           /* frames that bring nothing (PING, SETTINGS, PRIORITY, empty DATA), likewise */
    H2_FRAMES_PER_SECOND = 100,
    H2_QUEUE_MOST = 1000,  /* frames of nghttp2's own that a client does not take */
    H2_PING_LEAVING = 1,   /* the first byte of a PING: what its answer is waited for; */
    H2_PING_CUT = 2,       /* of this one the last four are the stream */
    H2_HEADERS_MOST = 128, /* fields of a reply */
};

/* What a client may do so and so often. Plain value. */
struct h2_ration {
    unsigned left;
    uint64_t since_ms;
};

/*   OPEN --drain, idle, requests_per_connection--> LEAVING --PING answered, or late--> LEFT --no stream left--> (CONN_LINGER)
 *
 * Told to go at once, a client would see the requests it has on the way refused. So it is first told that no more are
 * wanted, and everything that was sent before it heard that is still taken (RFC 9113 section 6.8). */
#define H2_STATES(X)                                                                       \
    X(H2_OPEN, "streams come and go")                                                      \
    X(H2_LEAVING, "GOAWAY without a last stream was sent, and a PING to know it was read") \
    X(H2_LEFT, "GOAWAY with the last stream was sent; open streams come to their end")

enum h2_state {
#define X(code, what) code,
    H2_STATES(X)
#undef X
};

/* The header block that is being read: there is one at most (RFC 9113 section 4.3). */
struct h2_block {
    int32_t id; /* its stream; 0: none */
    bool trailers;
    uint64_t began_us;
    struct buf fields; /* struct h2_field_sizes, name, value; again and again */
    size_t bytes;      /* as lines of HTTP/1.1 */
    unsigned continuations;
    bool too_large;
    const char *bad; /* a sentence; NULL: good so far */
};

struct h2 {
    struct conn *conn;
    nghttp2_session *session;
    struct list streams; /* oldest first */
    struct timer clock;  /* idle, an unfinished head, or leaving: h2.c's clock_due() */
    enum h2_state state;
    struct h2_block block;
    uint64_t idle_since_ms, leaving_since_ms;
    uint64_t waiting_bytes, held_bytes; /* of bodies: unfinished, finished */
    struct h2_ration resets, frames;
    bool withheld;   /* credit is owed to a stream */
    bool inside;     /* nghttp2 is on the stack */
    bool terminated; /* by us, with GOAWAY: nothing more is read */
};

/*   BODY --END_STREAM--> REPLY --reply_end, reply_abort--> FLUSH --last frame sent--> OVER
 *     |                    ^
 *     +--answered early----+   (what still comes of the body is dropped)
 *
 * Whatever the state, a reset or the end of the connection leads to OVER. */
#define H2_STREAM_STATES(X)                                               \
    X(H2_BODY, "the head was taken, the body comes")                      \
    X(H2_REPLY, "the request is its handler's until the reply has ended") \
    X(H2_FLUSH, "the reply has ended; its last bytes leave")              \
    X(H2_OVER, "nghttp2 knows it no more; its handler is told, and the memory goes, at the end of the turn")

enum h2_stream_state {
#define X(code, what) code,
    H2_STREAM_STATES(X)
#undef X
};

struct h2_stream {
    struct list node;
    struct h2 *h2;
    struct request *rq; /* until its reply has ended */
    int32_t id;
    enum h2_stream_state state;
    struct timer deadline; /* of the body, or of a client that takes nothing */
    struct pace pace;
    struct buf out;      /* of the reply, not in a frame yet */
    uint64_t sent_ms;    /* when some of it last left, or began to wait */
    uint64_t body_bytes; /* counted in h2->waiting_bytes or held_bytes */
    size_t owed;         /* credit for the body that is withheld */
    bool is_head;
    bool body_done; /* END_STREAM has come */
    bool answered;  /* the reply's head was submitted */
    bool ended;     /* `out` is the last of the reply */
    bool cut;       /* and after it come a PING and, when that is answered, RST_STREAM */
    bool over_high; /* on_drain is owed */
};

/* ---- h2.c ---- */
/* The first half of the preface, as a head of HTTP/1.1 looks. */
bool h2_is_preface(struct span head);
/* The connection is HTTP/2's from now on; dropped when memory is short. Its bytes are fed from the first on. */
void h2_begin(struct conn *c);
/* Takes all, and returns how much that was; what follows from it is done in h2_turn(), which is called for later. */
size_t h2_feed(struct conn *c, struct span in);
void h2_read(struct conn *c);
void h2_writable(struct conn *c);
/* Sends what there is to send and does what follows. For callbacks of the loop, not for those of requests. */
void h2_turn(struct conn *c);
/* Sends now, if nghttp2 is not on the stack. Calls no handler. */
void h2_send(struct h2 *h);
/* No new requests, if the client is willing; closed when the last stream has ended. */
void h2_leave(struct conn *c);
void h2_stop(struct h2 *h); /* the connection is closed: no timer fires any more */
/* on_gone for all requests; `left`: the clients left, rather than the server. */
void h2_tell_gone(struct h2 *h, bool left);
struct h2 *h2_free(struct h2 *h);
/* What server_new's server keeps for all of them. */
void h2_forget(struct server *s);
/* Sees that h2_turn() is called at the end of the turn. */
void h2_soon(struct h2 *h);
/* nghttp2 failed, or memory: the connection cannot go on. */
void h2_break(struct h2 *h);

/* ---- h2_stream.c ---- */
void h2_block_begin(struct h2 *h, int32_t id, bool trailers);
void h2_block_add(struct h2 *h, struct span name, struct span value);
void h2_block_bad(struct h2 *h, const char *why);
/* All of it is here. */
void h2_block_end(struct h2 *h, bool end_stream);
void h2_body_add(struct h2_stream *s, struct span data);
void h2_body_end(struct h2_stream *s);
/* nghttp2 has let go of it. */
void h2_stream_over(struct h2_stream *s);
/* Takes the request from the stream, and its body from the counts. Not freed: NULL when there is none. */
struct request *h2_stream_take(struct h2_stream *s);
/* The handler is told that the client left, or may believe so. */
void h2_stream_gone(struct h2_stream *s);
void h2_stream_free(struct h2_stream *s);
/* The only place that writes s->state. */
void h2_stream_enter(struct h2_stream *s, enum h2_stream_state to);
/* RST_STREAM, unless it is over. The handler, if there is one, is told when that was sent. */
void h2_stream_reset(struct h2_stream *s, uint32_t code);
/* Frees what is owed, where there is room again. */
void h2_give_credit(struct h2 *h);

/* ---- h2_reply.c ---- */
/* The server's own answer, which ends the request. */
void h2_refuse(struct h2_stream *s, int status, const char *code, const char *fmt, ...) PD_PRINTF(4, 5);
void h2_continue(struct h2_stream *s); /* 100 */
/* `out` began to wait, or some of it left. */
void h2_out_moved(struct h2_stream *s);
/* on_drain, when it is owed and due. */
void h2_drained(struct h2_stream *s);
/* nghttp2's, for `out`. */
ssize_t h2_give_data(nghttp2_session *session, int32_t id, uint8_t *room, size_t most, uint32_t *flags,
                     nghttp2_data_source *source, void *ctx);

pd_err h2_reply_begin(struct request *rq, int status, const struct header *h, size_t n,
                      int64_t content_length) PD_CHECKED;
pd_err h2_reply_write(struct request *rq, const struct span *parts, size_t n, size_t total) PD_CHECKED;
void h2_reply_end(struct request *rq);
void h2_reply_abort(struct request *rq);
void h2_reply_reset(struct request *rq);
size_t h2_reply_queued(const struct request *rq);
void h2_reply_flush(struct request *rq);

#endif
