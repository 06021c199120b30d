/* reader_priv.h - what the readers of all formats share: an answer's objects, one by one, into facts and deltas.
 *
 * A format's own reader is a struct that begins with struct reader. answer.c cuts the
 * bytes into objects (framing) and hands each to reader_ops.read(). */
#ifndef PERDURE_DIALECT_READER_PRIV_H
#define PERDURE_DIALECT_READER_PRIV_H

#include "dialect/codec.h"

/* Limits of what one answer may make us remember. */
enum {
    ANSWER_TOOLS_MAX = 4096,      /* tool calls of one answer; more is PD_TOOBIG */
    ANSWER_WORD_MAX = 512,        /* bytes of an id or a model name; longer ones are relayed but not kept */
    ANSWER_FINISH_MAX = 64,       /* bytes of a finish reason that are kept */
    ANSWER_USAGE_MAX = 64 * 1024, /* of a usage object; larger ones are read but not kept */
};

struct reader {
    const struct codec *codec;
    struct arena *arena; /* for what is kept */
    bool whole;          /* one object is all: spans may point into it */
    struct answer_facts facts;
    struct buf usage, scratch; /* scratch: an event's own, reused */
    msg_delta_fn *on_delta;    /* NULL: nobody asks */
    void *ctx;
    int place;        /* of the block that the event at hand is of: what the calls below tell as msg_delta's */
    struct span item; /* the same; lives as long as the reader */
    char finish_word[ANSWER_FINISH_MAX];
};

struct reader_ops {
    size_t bytes;                   /* of the format's own struct, zeroed before init */
    void (*init)(struct reader *r); /* NULL: nothing of its own */
    void (*done)(struct reader *r); /* NULL: nothing of its own */
    /* One object, checked by json_check. `type`: as answer_event. *ret_holds: ANSWER_*, without START. With ANSWER_ERROR *ret_error is
     * what provider/classify should look at. PD_NOMEM, PD_TOOBIG. */
    pd_err (*read)(struct reader *r, struct span type, struct json obj, unsigned *ret_holds,
                   struct json *ret_error);
    /* How the answer stands if no more comes. */
    enum answer_end (*end)(const struct reader *r);
    /* Is this object, found as a bare line without "data:", an event of this format? */
    bool (*is_event)(struct json obj);
};

pd_err reader_new(const struct codec *c, struct arena *a, bool whole, struct reader **ret) PD_CHECKED;
struct reader *reader_free(struct reader *r);

/* ---- for the formats ---- */
/* Hands a delta on and keeps has_output, has_tool_calls and output_bytes. */
void reader_emit(struct reader *r, const struct msg_delta *d);
/* A step of the block at hand; `word`, `more`: msg_delta's type and id. */
void reader_emit_step(struct reader *r, enum msg_step step, struct span word, struct span more);
/* Text of that kind, nothing when it is empty or no string. */
void reader_emit_text(struct reader *r, enum msg_delta_kind kind, int choice, struct json v);
void reader_emit_tool(struct reader *r, int choice, int tool, struct json id, struct json name);
/* Arguments: a string with a piece of JSON text, or the object itself, which becomes its text. PD_NOMEM. */
pd_err reader_arguments(struct reader *r, struct json v,
                        struct span *ret) PD_CHECKED; /* that text, in r->scratch */
pd_err reader_emit_arguments(struct reader *r, int choice, int tool, struct json v) PD_CHECKED;
/* The first text that is not empty stays. */
pd_err reader_keep_word(struct reader *r, struct span *kept, struct json v) PD_CHECKED;
/* Keeps the provider's own word as facts.finish_raw; `v` a string. */
pd_err reader_keep_finish(struct reader *r, struct json v) PD_CHECKED;
/* Keeps `usage` as what was reported, with `u` as its meaning, and adds ANSWER_USAGE. Counts that `u` lacks (-1) stay as they were
 * reported earlier in the stream (overlay). */
pd_err reader_keep_usage(struct reader *r, struct json usage, const struct msg_usage *u,
                         unsigned *holds) PD_CHECKED;
/* A block's number on the wire as a place; 0 when it cannot be one. */
int reader_place(int64_t index);
/* A member that is a count, or -1. */
int64_t reader_count(struct json usage, const char *path);
/* Of two counts, of which one may be -1. */
int64_t reader_sum(int64_t a, int64_t b);

/* The object is an error, or holds one: what provider/classify should look at; else JSON_NONE. */
struct json answer_error_in(struct json obj);

/* ---- collectors: a stream's objects into the body that an unstreamed request would have had ---- */
struct collector_ops {
    size_t bytes; /* of the format's own struct, zeroed, which begins with struct collector */
    pd_err (*init)(struct collector *k, size_t limit_bytes);
    void (*done)(struct collector *k);
    pd_err (*add)(struct collector *k, struct span type, struct json chunk);
    pd_err (*write)(struct collector *k, struct buf *out);
};
struct collector {
    const struct collector_ops *ops;
};

#endif
