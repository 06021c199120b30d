/* asker.h - one HTTP question after the other, each waited for: for threads and programs that have no loop.
 *
 * It has a loop and a client of its own, keeps its connection, and belongs to one thread at a time. Only asker_stop() may come from
 * another thread, or from a signal handler. */
#ifndef PERDURE_NET_ASKER_H
#define PERDURE_NET_ASKER_H

#include "base/buf.h"
#include "parse/http1.h"

enum { ASKER_FIELD_BYTES = 160, ASKER_WHY_BYTES = 200, ASKER_FIELDS_MAX = 8 };

struct asker;
/* `url`: scheme, host and port. PD_SYNTAX, PD_NOMEM. */
pd_err asker_new(const char *url, struct asker **ret) PD_CHECKED;
struct asker *asker_free(struct asker *a); /* NULL is fine; returns NULL */

/* A field of the answer that is wanted: its value, cut to fit; empty: not there. */
struct asker_field {
    const char *name;
    char value[ASKER_FIELD_BYTES];
};
struct asker_question {
    const char *method;
    const char *path;
    const struct http1_field *fields;
    unsigned fields_count;
    struct span body;
    uint64_t limit_ms;   /* until all of the answer is there */
    size_t answer_bytes; /* of the answer, at most: over it PD_TOOBIG */
    struct asker_field *want;
    unsigned want_count;
    /* NULL: the body is collected; else of a 2xx it comes in pieces, as it does. Anything but PD_OK ends the question with it. */
    pd_err (*piece)(void *ctx, struct span bytes);
    void (*look)(void *ctx); /* NULL: none; else once in `look_ms` while it is under way. May ask another asker */
    uint64_t look_ms;
    void *ctx; /* of both */
};
struct asker_answer {
    int status;      /* 0: no answer */
    struct buf body; /* the caller's: buf_done() */
    char why[ASKER_WHY_BYTES];
};
/* PD_OK: an answer, whatever its status. PD_CANCELLED: asker_stop(); PD_TIMEOUT and what a client can meet. */
pd_err asker_ask(struct asker *a, const struct asker_question *q, struct asker_answer *ret) PD_CHECKED;
/* The question that is under way ends with PD_CANCELLED, as do all after it, until asker_again(). */
void asker_stop(struct asker *a);
void asker_again(struct asker *a);

#endif
