/* fault.h - what a simulated provider can do wrong, how it is written, and which request gets it.
 *
 * A list of faults is read in order. For each request the first entry that applies is taken: one without `rate` applies to
 * `times` requests and is then used up, one with `rate` to that share of them, drawn from the seed and the request's number, so
 * that the same seed gives the same faults. No I/O and no clock: what a fault does is strike.c's.
 *
 * Ownership: a set is counted by reference, so that a live replacement leaves running requests theirs. */
#ifndef PERDURE_SIMULATE_FAULT_H
#define PERDURE_SIMULATE_FAULT_H

#include "simulate/endpoint.h"
#include "simulate/read.h"
#include "simulate/style.h"

/* `where` says when a kind acts: BEFORE anything is answered, INSIDE after some tokens, ALL along. The third column lists its keys. */
#define FAULT_KINDS(X)                                                                                            \
    X(NONE, "none", BEFORE, "a good answer; uses up its place in the list")                                       \
    X(STATUS, "status", BEFORE, "an error answer with this status, headers and body")                             \
    X(ERROR_IN_200, "error_in_200", BEFORE, "status 200 with an error object as body")                            \
    X(SILENT, "silent", BEFORE, "takes the request and never answers")                                            \
    X(HOLD, "hold", INSIDE, "waits, before the answer or after `after` tokens, until POST /sim/release")          \
    X(RESET, "reset", INSIDE, "a TCP reset, before the answer or after `after` tokens")                           \
    X(REFUSE, "refuse", BEFORE, "resets this request and refuses connections for a time, or until POST /sim/up")  \
    X(EMPTY, "empty", BEFORE, "200 with nothing in it")                                                           \
    X(SLOW, "slow", ALL,                                                                                          \
      "a good answer, but slower: ttft, token_delay, jitter, and `drift` more with each request")                 \
    X(KEEPALIVE, "keepalive", ALL, "comments (empty lines when unstreamed) for a time, then a good answer")       \
    X(SLOW_HEAD, "slow_head", ALL, "the response head byte by byte")                                              \
    X(INTERIM, "interim", ALL, "1xx heads, then a good answer")                                                   \
    X(WRONG_TYPE, "wrong_type", ALL, "a good answer under a wrong content type")                                  \
    X(CUT, "cut", INSIDE, "the connection closes after `after` tokens, without the end of the chunked body")      \
    X(EARLY_END, "early_end", INSIDE, "a proper HTTP end after `after` tokens, without finish_reason and [DONE]") \
    X(EARLY_DONE, "early_done", INSIDE, "[DONE] after `after` tokens, without finish_reason")                     \
    X(FINISH, "finish", INSIDE, "ends after `after` tokens with this finish_reason")                              \
    X(STALL, "stall", INSIDE, "says nothing more after `after` tokens, or only comments, pings or blank lines")   \
    X(ERROR_IN_STREAM, "error_in_stream", INSIDE, "an error after `after` tokens of a 200 stream")                \
    X(MALFORMED, "malformed", INSIDE, "frames that are no chunk, then the answer goes on")                        \
    X(HUGE, "huge", INSIDE, "one event of `bytes` bytes, then the answer goes on")                                \
    X(BAD_CHUNK, "bad_chunk", INSIDE, "broken chunked framing after `after` tokens")                              \
    X(UNFIT, "unfit", ALL, "a tool call that does not fit: its arguments, or its name")                           \
    X(SHORT_LENGTH, "short_length", ALL,                                                                          \
      "a Content-Length that is larger than the body, then the connection closes")                                \
    X(UNTIL_CLOSE, "until_close", ALL,                                                                            \
      "no length and no chunks: the end of the connection is the end of the body")                                \
    X(CLOSE_IDLE, "close_idle", ALL, "a good answer that promises keep-alive, then the connection closes")

enum fault_kind {
#define X(code, name, where, what) FAULT_##code,
    FAULT_KINDS(X)
#undef X
        FAULT_KIND_COUNT
};

enum fault_shape { /* of malformed, empty, bad_chunk and stall */
                   FAULT_SHAPE_DEFAULT,
                   FAULT_SHAPE_JSON,
                   FAULT_SHAPE_TRUNCATED,
                   FAULT_SHAPE_HTML,
                   FAULT_SHAPE_BINARY,
                   FAULT_SHAPE_TEXT,
                   FAULT_SHAPE_CRC,
                   FAULT_SHAPE_FIELD,
                   FAULT_SHAPE_BODY,
                   FAULT_SHAPE_NO_CHOICES,
                   FAULT_SHAPE_NO_CONTENT,
                   FAULT_SHAPE_SIZE,
                   FAULT_SHAPE_LINE,
                   FAULT_SHAPE_OVERFLOW,
                   FAULT_SHAPE_NOTHING,
                   FAULT_SHAPE_COMMENTS,
                   FAULT_SHAPE_PINGS,
                   FAULT_SHAPE_BLANK,
                   FAULT_SHAPE_MISSING,
                   FAULT_SHAPE_TYPE,
                   FAULT_SHAPE_NAME,
                   FAULT_SHAPE_ERROR /* + enum error_shape: of error_in_stream */
};

/* Where in an answer a fault strikes, when it is not said in tokens or bytes. */
enum fault_at {
    FAULT_AT_ANY,
    FAULT_AT_REASONING, /* after `after` tokens, and within the reasoning */
    FAULT_AT_TEXT,
    FAULT_AT_CHARACTER, /* `bytes` bytes into the first character of several bytes after `after` tokens */
    FAULT_AT_ID,        /* of the tool call number `call` */
    FAULT_AT_NAME,
    FAULT_AT_ARGUMENTS,
    FAULT_AT_CALLS, /* before it */
    FAULT_AT_FINISH /* it was said why it ended, and the end mark has not come */
};

/* CHAT: answers of a model, in any dialect. */
enum { FAULT_ON_CHAT = 1, FAULT_ON_EMBEDDINGS = 2, FAULT_ON_MODELS = 4, FAULT_ON_COUNT = 8 };
enum fault_when { FAULT_WHEN_ANY, FAULT_WHEN_STREAMED, FAULT_WHEN_WHOLE, FAULT_WHEN_REUSED, FAULT_WHEN_FRESH };
enum { FAULT_AFTER_DEFAULT = 10, FAULT_ROWS_MAX = 1000, FAULT_BYTES_MAX = 64 << 20 };

struct fault {
    unsigned kind, shape;
    /* which requests */
    int64_t times, from, to, since_us, until_us; /* times 0: for ever; to 0: without end; until 0: without end */
    double rate;                                 /* 0: every one */
    struct span match;
    unsigned on, when;
    unsigned dialect; /* 0: any; else 1 + enum sim_dialect_id */
    /* what */
    unsigned at;                                                 /* enum fault_at */
    int64_t status, after, after_bytes, call, count, bytes;      /* -1: not given */
    int64_t for_us, every_us, ttft_us, token_delay_us, drift_us; /* -1: not given */
    double jitter;                                               /* -1: not given */
    int before_body, html;
    struct span body, content_type, message, type, code, text, reason, like;
    struct read_headers headers;
    /* state */
    int64_t used, struck;
};

struct fault_set {
    unsigned refs;
    struct arena mem;
    struct fault *rows;
    unsigned count;
    uint64_t began_us;
    uint64_t requests; /* asked for since then */
};

struct fault_set *fault_set_new(uint64_t now_us) PD_CHECKED;
struct fault_set *fault_set_ref(struct fault_set *s);
struct fault_set *fault_set_unref(struct fault_set *s); /* NULL is fine; returns NULL */

/* A list of faults, or one. The document must outlive nothing: texts are copied into `mem`, which is r->mem. */
pd_err fault_read_list(struct reader *r, struct json v, struct fault **ret_rows, unsigned *ret_count) PD_CHECKED;
pd_err fault_read(struct reader *r, struct json v, struct fault *ret) PD_CHECKED;
bool fault_key_known(struct span key); /* a key of some fault: for options of --provider */
const char *fault_name(unsigned kind);
/* It did what it says, for once more. */
void fault_struck(struct fault_set *s, const struct fault *f);

struct fault_query {
    uint64_t seed, now_us;
    unsigned on; /* one of FAULT_ON_ */
    enum sim_dialect_id dialect;
    bool head_only; /* the body is not there yet: only faults with before_body apply */
    bool streamed, reused;
    struct span body;
};
/* The fault of the next request, used up by one, or NULL. Counts the request unless head_only found nothing. */
const struct fault *fault_pick(struct fault_set *s, const struct fault_query *ask);

/* For --help and the documentation. */
extern const struct key_row fault_keys[];
extern const unsigned fault_keys_count;
struct fault_kind_row {
    const char *name, *what;
    enum { FAULT_ACTS_BEFORE, FAULT_ACTS_INSIDE, FAULT_ACTS_ALL } where;
};
extern const struct fault_kind_row fault_kinds[FAULT_KIND_COUNT];

#endif
