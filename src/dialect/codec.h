/* codec.h - a wire format as a const table of functions.
 *
 * Same format on both sides: requests are read for facts and sent on as the
 * original bytes with a few spans replaced; answers are read alongside while their
 * bytes are relayed.
 * Different formats: the request is read into the neutral form (msg.h) and written
 * anew; the answer's reader tells deltas, which an encoder (encoder.h) writes in the
 * client's format. N codecs make N x N translations. */
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

/* What the path of a request says where the body does not: Gemini's and Bedrock's model and whether to stream. */
struct request_line {
    struct span model; /* text; p NULL: the body says it */
    bool stream;
    bool array; /* Gemini without alt=sse: the stream is to be one JSON array */
    bool batch; /* Gemini's batchEmbedContents */
};

/* Where a value stands in a body. */
struct request_site {
    uint32_t at, n;
};

struct request_facts {
    struct request_line line;
    struct span body;
    struct span model;     /* text; empty when absent */
    bool stream;           /* the client wants a stream */
    bool include_usage;    /* and asked for usage in it */
    bool tools, reasoning; /* asks for reasoning (reasoning_effort and relatives) */
    bool many;             /* n > 1 */
    int64_t max_tokens;    /* -1: not said */
    uint64_t prefix_hash;  /* of the conversation's beginning (up to and with its first user message, of which
                                      PREFIX_MAX bytes are looked at): the same in every turn */
    struct span turns;     /* the array of the conversation's messages, in the body; empty: there is none */
    bool continues;        /* something follows that beginning: this is not the conversation's first turn */
    struct span
        user; /* a session hint, empty when none: prompt_cache_key, else metadata.session_id or .conversation_id,
                                    * else "user", which all of an application may share */
    /* sites: byte ranges of values in the body; of duplicates all are listed (at most this many, more is PD_INVALID) */
    struct request_site models[8], streams[8], options[8]; /* options: stream_options */
    unsigned models_count, streams_count, options_count;
    size_t open_at;    /* offset just behind the top object's '{' */
    bool empty_object; /* no member: no comma behind an insertion */
};

static inline struct span request_site(const struct request_facts *f, struct request_site s)
{
    return span_of(f->body.p + s.at, s.n);
}

struct request_edit {
    struct span model; /* new model name, text; p NULL: unchanged. Nothing where the path has it */
    bool
        drop_model; /* take "model" and "stream" out of the body: the path says them (Anthropic at Vertex and Bedrock) */
    const char *version; /* and put "anthropic_version" with this value in; NULL: leave as it is */
    struct span
        betas; /* "a,b": put in as "anthropic_beta", a list, unless there is one (Bedrock reads no such header) */
    bool
        strip_foreign; /* take out what perdure itself put into earlier answers for want of a maker's own: reasoning that
                           this format's makers would not accept (encoder.h) */
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
    unsigned holds;   /* ANSWER_* */
    struct span type; /* the event's type where the framing has one: "event:" of SSE, :event-type of AWS */
    struct span
        raw; /* ready for the client as it stands: the source bytes, or re-framed where the source was no SSE */
    struct json json; /* the event's object; JSON_NONE for none */
    struct json
        error; /* the object around the error, for provider/classify: the event's own, or a member of it that has it */
};
typedef pd_err answer_fn(void *ctx, const struct answer_event *ev);

enum { ANSWER_CHOICES = 64 }; /* of n > 1; choices beyond these are relayed but not followed to their end */

/* Kept by a reader; valid at any time. Spans live as long as the reader. */
struct answer_facts {
    struct msg_usage usage;
    struct span usage_raw;            /* the last usage object, as it came */
    enum msg_finish finish;           /* of the first choice, normalised by content (tool calls count) */
    uint8_t finishes[ANSWER_CHOICES]; /* enum msg_finish of the others, by number, by their own words alone */
    struct span finish_raw;    /* of the first, its own word, text (in a stream its first 64 bytes, escaped) */
    struct span id, model;     /* text */
    int64_t created;           /* Unix seconds; 0: the format has none */
    uint64_t sequence;         /* of the next event, in formats that number them (Responses) */
    struct span stop_sequence; /* escaped: the one that was met, where the provider tells */
    unsigned events;           /* with data, the terminator not counted */
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

enum codec_kind { CODEC_CHAT, CODEC_EMBED, CODEC_COUNT };

/* How bytes of a streamed answer are cut into events. */
enum framing {
    FRAMING_LINES,       /* server-sent events, JSON lines, and what is mixed into them */
    FRAMING_ARRAY,       /* one JSON array, piece by piece (Gemini without alt=sse) */
    FRAMING_EVENTSTREAM, /* AWS event streams, the event's type in its head */
    FRAMING_CHUNKS, /* AWS event streams of {"bytes": base64} around the events of another format (InvokeModel) */
};

struct write_want {
    struct span model;   /* text: the target's name for it */
    bool stream;         /* ask for a stream */
    bool ask_usage;      /* and for usage in it (OpenAI chat) */
    bool drop_model;     /* as request_edit */
    const char *version; /* as request_edit */
    bool reasoning_back; /* assistant reasoning goes back as reasoning_content (chat) */
    bool mistral;        /* chat: tool call ids of 9 letters and digits, "any" for required, no unknown members */
    int continues; /* enum continue_way (continuation.h) of a request whose last turn is the beginning of the answer; 0: none */
};

struct client_error;
struct reader_ops;
struct collector_ops;
struct encoder_ops;
struct embed_ops;
struct count_ops;

struct codec {
    const char *name; /* "openai-chat" */
    enum codec_kind kind;
    enum msg_maker maker; /* whose signatures its answers carry */
    /* PD_SYNTAX or PD_INVALID with *ret_why a sentence for the client; PD_NOMEM. The body is scanned once and not validated inside. */
    pd_err (*read_request)(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why);
    /* The body in parts: untouched ranges of the original and replacements from the arena. PD_NOMEM. */
    pd_err (*edit_request)(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count);

    /* ---- translation (CODEC_CHAT and CODEC_COUNT) ---- */
    /* The whole body into the neutral form. `body` was taken by read_request(). Members that the neutral form has no place for are noted
     * with msg_drop_span(); content that cannot be carried at all (an unknown kind of part in a message) is PD_UNSUPPORTED with a
     * sentence. PD_SYNTAX and PD_INVALID with a sentence; PD_NOMEM.
     * Calls and results are linked (msg_link). */
    pd_err (*parse_request)(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                            const char **ret_why);
    /* The neutral form as a body. carry_fit() has run: everything that is left can be carried. Scratch from `a`. PD_NOMEM, PD_TOOBIG. */
    pd_err (*write_request)(const struct msg_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out);

    /* The tools alone, with their schemas, as parse_request() would give them: cheap, whatever the conversation's size. PD_NOMEM; what cannot be read is
     * left out. NULL: the format has no tools. */
    pd_err (*parse_tools)(const struct request_facts *f, struct arena *a, struct msg_request *ret);
    const char
        *turns_member; /* "messages", "input", "contents": where its turns stand; NULL: continuing is not for it */

    /* ---- answers ---- */
    bool lines;        /* its streams are JSON lines: a bare line is an event as it should be (Ollama) */
    bool streams;      /* answers can be streamed */
    bool names_events; /* its clients go by "event:", so an event without one gets it from its own "type" */
    const struct reader_ops *reader; /* reader_priv.h; NULL: embeddings */
    const struct collector_ops
        *collector; /* NULL: collected by way of the encoder, which keeps what the neutral form has */
    const struct encoder_ops *encoder; /* encoder_priv.h; NULL: nobody translates into it */
    const struct embed_ops *embed;     /* embed.h: CODEC_EMBED */
    const struct count_ops *count;     /* CODEC_COUNT */

    /* ---- to the client ---- */
    const char *stream_type;       /* content type of a streamed answer */
    const char *terminator;        /* bytes that end a whole stream ("data: [DONE]\n\n"); NULL: none */
    const char *keepalive;         /* bytes that its clients pass over in a stream; NULL: there are none */
    const char *request_id_header; /* what this format's clients look for beside x-request-id; NULL: nothing */
    const char *error_type_header; /* a header with the error's type, as AWS clients need it; NULL: none */
    const char *(*error_type)(
        int status); /* the format's own word for errors of this status, for body and header */
    pd_err (*put_error)(const struct client_error *e, struct buf *out); /* a body */
    pd_err (*put_error_event)(
        const struct client_error *e,
        struct buf *out); /* an event, framed, after which a stream ends without its end mark */
};

extern const struct codec codec_openai_chat, codec_openai_responses, codec_openai_embeddings;
extern const struct codec
    codec_mistral; /* OpenAI chat as Mistral's own clients understand its answers; no provider is written to in it */
extern const struct codec codec_anthropic, codec_anthropic_count;
extern const struct codec codec_gemini, codec_gemini_count, codec_gemini_embeddings;
extern const struct codec codec_bedrock_converse, codec_bedrock_invoke, codec_bedrock_embeddings;
extern const struct codec codec_ollama, codec_ollama_generate, codec_ollama_embeddings;
const struct codec *codec_by_name(struct span name); /* NULL when unknown */

/* ---- reading a streamed answer ---- */
enum { ANSWER_EVENT_MAX = 16 << 20 }; /* one event at most; images in base64 are large */
struct answer *answer_new(const struct codec *c, enum framing framing, answer_fn *on_event, void *ctx) PD_CHECKED;
struct answer *answer_free(struct answer *an);
void answer_on_delta(struct answer *an, msg_delta_fn *fn, void *ctx); /* optional: the neutral form too */
/* PD_NOMEM, PD_TOOBIG, PD_SYNTAX (bytes that cannot be cut into events: a wrong checksum), or what on_event returned; the reader
 * is then spent. */
pd_err answer_feed(struct answer *an, struct span bytes) PD_CHECKED;
/* The bytes are over (`error` of the transport does not matter here). May deliver a last event. */
pd_err answer_finish(struct answer *an, enum answer_end *ret) PD_CHECKED;
const struct answer_facts *answer_facts(const struct answer *an);
/* The same once it is over, for who adds to it what came before. */
struct answer_facts *answer_own_facts(struct answer *an);

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
/* `type` and `chunk`: of an answer_event. PD_NOMEM, PD_TOOBIG. */
pd_err collector_add(struct collector *k, struct span type, struct json chunk) PD_CHECKED;
pd_err collector_write(struct collector *k, struct buf *out) PD_CHECKED;

/* An unstreamed OpenAI chat answer as the stream the client asked for: chunk events and the terminator. PD_SYNTAX, PD_INVALID (no
 * choices in it), PD_NOMEM, PD_TOOBIG; nothing is added then. Other formats are expanded by their encoder. */
pd_err answer_expand(const struct codec *c, struct span body, bool include_usage, struct buf *out) PD_CHECKED;

/* ---- errors to clients ---- */
struct client_error {
    int status;              /* HTTP */
    const char *type, *code; /* OpenAI's words; other formats choose theirs by the status */
    struct span message;
    struct span param;         /* p NULL: null */
    struct span attempts_json; /* an array, or p NULL */
    uint64_t sequence;         /* in a stream: how many events stand before it (Responses numbers them) */
};
/* The error object as a body, and as an event of a stream (which then ends without its end mark). All or nothing. */
pd_err codec_put_error(const struct codec *c, const struct client_error *e, struct buf *out) PD_CHECKED;
pd_err codec_put_error_event(const struct codec *c, const struct client_error *e, struct buf *out) PD_CHECKED;

#endif
