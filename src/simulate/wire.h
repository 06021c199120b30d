/* wire.h - a reply on its way to the socket: proper HTTP, or HTTP broken on purpose.
 *
 * A plain reply uses the server's own framing and keeps the connection. A raw one (its `form` says so) writes each byte itself, so that
 * what no good server does can be done; its connection always closes.
 *
 * Ownership: the request is the server's; the wire is a plain value inside its owner. wire_end(), wire_cut() and wire_reset() give the
 * request back. */
#ifndef PERDURE_SIMULATE_WIRE_H
#define PERDURE_SIMULATE_WIRE_H

#include "base/rnd.h"
#include "net/server.h"
#include "simulate/frame.h"

enum wire_form {
    WIRE_PLAIN,
    WIRE_RAW,             /* as plain, but written by us */
    WIRE_KEEP_THEN_CLOSE, /* promises keep-alive, then closes */
    WIRE_UNTIL_CLOSE,     /* neither length nor chunks */
    WIRE_SHORT            /* a Content-Length that is not reached */
};

struct wire {
    struct request *rq; /* NULL: given back */
    enum wire_form form;
    unsigned framing; /* FRAME_ONE_BYTE, FRAME_SPLIT, FRAME_COALESCED */
    bool chunked, begun;
    uint64_t missing; /* of WIRE_SHORT */
    struct rnd *rnd;
    struct buf pending; /* of FRAME_COALESCED; the head of a raw reply until it is written */
};

enum { WIRE_COALESCE_BYTES = 4096, WIRE_SPLIT_MAX = 7, WIRE_HEADERS_MAX = 80 };

void wire_init(struct wire *w, struct request *rq, struct rnd *rnd);
void wire_done(struct wire *w);

/* The head. length -1: chunked. A raw head waits in w->pending until wire_send_head(). */
pd_err wire_begin(struct wire *w, int status, const struct header *h, size_t n, int64_t length) PD_CHECKED;
/* At most `most` bytes of a raw head; false when all of it is out. */
bool wire_send_head(struct wire *w, size_t most, pd_err *ret_err);
/* An interim head: the reply becomes raw. */
pd_err wire_interim(struct wire *w, int status) PD_CHECKED;
/* One piece of the body. */
pd_err wire_write(struct wire *w, struct span bytes) PD_CHECKED;
/* Bytes as they are, into a raw reply. */
pd_err wire_raw(struct wire *w, struct span bytes) PD_CHECKED;
void wire_end(struct wire *w);
void wire_cut(struct wire *w);
void wire_reset(struct wire *w);
void wire_flush(struct wire *w);

#endif
