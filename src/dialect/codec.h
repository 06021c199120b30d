/* codec.h - a wire format as a const table of functions.
 *
 * Requests are read for facts and sent on as the original bytes with a few spans
 * replaced. Answers are read alongside while their bytes are relayed. */
#ifndef PERDURE_DIALECT_CODEC_H
#define PERDURE_DIALECT_CODEC_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "dialect/msg.h"
#include "parse/json.h"

/* ---- requests ------------------------------------------------------------ */

/* What routing needs to know of a request, and where its changing spans stand. Spans point into the body or the arena. */
enum { PREFIX_MAX = 64 * 1024 };

struct request_facts {
    struct span body;
    struct span model;     /* text; empty when absent */
    bool stream;           /* the client wants a stream */
    bool include_usage;    /* and asked for usage in it */
    bool tools, reasoning; /* asks for reasoning (reasoning_effort and relatives) */
    bool many;             /* n > 1 */
    int64_t max_tokens;    /* -1: not said */
    uint64_t prefix_hash;  /* of the conversation's beginning (up to and with its first user message, of which
                                      PREFIX_MAX bytes are looked at): the same in every turn */
    bool continues;        /* something follows that beginning: this is not the conversation's first turn */
    struct span
        user; /* a session hint, empty when none: prompt_cache_key, else metadata.session_id or .conversation_id,
                                    * else "user", which all of an application may share */
    /* sites: byte ranges of values in the body; of duplicates all are listed (at most this many, more is PD_INVALID) */
    struct span models[8];
    unsigned models_count;
    struct span streams[8];
    unsigned streams_count;
    struct span options[8];
    unsigned options_count; /* stream_options */
    size_t open_at;         /* offset just behind the top object's '{' */
    bool empty_object;      /* no member: no comma behind an insertion */
};

struct request_edit {
    struct span model; /* new model name, text; p NULL: unchanged */
    bool force_stream; /* set "stream": true whatever it said */
    bool
        forbid_stream; /* set it to false: a provider that cannot; stream_options go with it. Not with force_stream */
    bool want_usage; /* ask for usage in the stream; nothing when there is none */
};

enum { REQUEST_PARTS_MAX = 64 };

/* ---- answers ------------------------------------------------------------- */

/* What one event of a streamed answer holds; several at once are common, and none at all too: an empty chunk behind output,
 * which goes on to the client like any other. Before the first OUTPUT nothing is worth showing, a FINISH alone included:
 * whether it is an answer is known at the end. */
enum {
    ANSWER_OUTPUT = 1 << 0,     /* text, reasoning, refusal or a tool call: something for the client */
    ANSWER_FINISH = 1 << 1,     /* a finish reason */
    ANSWER_USAGE = 1 << 2,      /* a usage report */
    ANSWER_ONLY_USAGE = 1 << 3, /* and nothing else: an extra chunk that the client may not have asked for */
    ANSWER_DONE = 1 << 4,       /* the terminator */
    ANSWER_ERROR = 1 << 5,      /* an error object; `error` has it */
    ANSWER_KEEPALIVE = 1 << 6,  /* a comment or an event without data: proves nothing */
    ANSWER_MALFORMED = 1 << 7,  /* counted and skipped; not for the client */
    ANSWER_START = 1 << 8,      /* a chunk before any output (role, filters): held until there is output */
};

struct answer_event {
    unsigned holds; /* ANSWER_* */
    struct span
        raw; /* ready for the client as it stands: the source bytes, or re-framed where the source was no SSE */
    struct json json; /* the event's object; JSON_NONE for none */
    struct json
        error; /* the object around the error, for provider/classify: the event's own, or a member of it that has it */
};
typedef pd_err answer_fn(void *ctx, const struct answer_event *ev);

/* Kept by a reader; valid at any time. Spans live as long as the reader. */
struct answer_facts {
    struct msg_usage usage;
    struct span usage_raw;  /* the last usage object, as it came */
    enum msg_finish finish; /* of the first choice, normalised by content (tool calls count) */
    struct span finish_raw; /* its own word, text (in a stream its first 64 bytes, escaped) */
    struct span id, model;  /* text */
    unsigned events;        /* with data, the terminator not counted */
    unsigned comments, malformed;
    uint64_t output_bytes; /* of text, reasoning, refusals and arguments, escaped */
    bool has_output, has_tool_calls, done, error;
};

/* How an answer stands when its bytes are over.
 * COMPLETE: every choice has its finish reason, or there was output, a report of usage and [DONE]. No output is complete only when a reason other
 *   than "stop" says why (a filter, the limit).
 * CUT: something came and its end did not, or the provider gave up in place of a reason (MSG_FINISH_ERROR).
 * EMPTY: no event at all, or an end without output. FAILED: there was an error object. */
enum answer_end { ANSWER_COMPLETE, ANSWER_CUT, ANSWER_EMPTY, ANSWER_FAILED };

struct answer; /* reads one answer */

struct codec {
    const char *name; /* "openai-chat" */
    /* PD_SYNTAX or PD_INVALID with *ret_why a sentence for the client; PD_NOMEM. The body is scanned once and not validated inside. */
    pd_err (*read_request)(struct span body, struct arena *a, struct request_facts *ret, const char **ret_why);
    /* The body in parts: untouched ranges of the original and replacements from the arena. PD_NOMEM. */
    pd_err (*edit_request)(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count);
    const char *path; /* below base_url: "/chat/completions" */
    bool streams;     /* answers can be streamed */
    bool has_reader;
};

extern const struct codec codec_openai_chat;
extern const struct codec codec_openai_embeddings;
const struct codec *codec_by_name(struct span name); /* NULL when unknown */

/* ---- reading a streamed answer (SSE, JSON lines, and what is mixed into them) ---- */
enum { ANSWER_EVENT_MAX = 16 << 20 }; /* one event at most; images in base64 are large */
struct answer *answer_new(const struct codec *c, answer_fn *on_event, void *ctx) PD_CHECKED;
struct answer *answer_free(struct answer *an);
void answer_on_delta(struct answer *an, msg_delta_fn *fn, void *ctx); /* optional: the neutral form too */
/* PD_NOMEM, PD_TOOBIG, or what on_event returned; the reader is then spent. */
pd_err answer_feed(struct answer *an, struct span bytes) PD_CHECKED;
/* The bytes are over (`error` of the transport does not matter here). May deliver a last event. */
pd_err answer_finish(struct answer *an, enum answer_end *ret) PD_CHECKED;
const struct answer_facts *answer_facts(const struct answer *an);

/* ---- a whole answer ---- */
/* Reads an unstreamed body into facts (spans into `body` or arena). ANSWER_FAILED when it is an error object (in a 200 too),
 * ANSWER_EMPTY when it is empty or has no output and no reason for that, ANSWER_CUT when it does not parse.
 * Embeddings: has_output when data is there. */
pd_err answer_read_whole(const struct codec *c, struct span body, struct arena *a, struct answer_facts *ret,
                         enum answer_end *ret_end, msg_delta_fn *on_delta, void *ctx) PD_CHECKED;

/* ---- between the two ---- */
struct
    collector; /* a stream, collected into the answer that an unstreamed request would have had; unknown fields kept */
/* NULL: out of memory. The limit is of all that is kept, its overhead included: a few times the answer's own size. */
struct collector *collector_new(const struct codec *c, size_t limit_bytes) PD_CHECKED;
struct collector *collector_free(struct collector *k);
/* `chunk`: the json of an answer_event. PD_NOMEM, PD_TOOBIG. */
pd_err collector_add(struct collector *k, struct json chunk) PD_CHECKED;
pd_err collector_write(struct collector *k, struct buf *out) PD_CHECKED;

/* An unstreamed answer as the stream the client asked for: chunk events and the terminator. PD_SYNTAX, PD_INVALID (no choices in it),
 * PD_NOMEM, PD_TOOBIG; nothing is added then. */
pd_err answer_expand(const struct codec *c, struct span body, bool include_usage, struct buf *out) PD_CHECKED;

/* ---- errors to clients ---- */
struct client_error {
    const char *type, *code; /* as the inbound dialect names them */
    struct span message;
    struct span param;         /* p NULL: null */
    struct span attempts_json; /* an array, or p NULL */
};
/* The error object as a body, and as an event of a stream (which then ends without [DONE]). */
pd_err codec_put_error(const struct codec *c, const struct client_error *e, struct buf *out) PD_CHECKED;
pd_err codec_put_error_event(const struct codec *c, const struct client_error *e, struct buf *out) PD_CHECKED;

#endif
