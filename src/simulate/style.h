/* style.h - the habits of each kind of server that speaks the OpenAI dialect, one row each.
 *
 * What is the same everywhere stands in stream.c and whole.c; only what differs is here. */
#ifndef PERDURE_SIMULATE_STYLE_H
#define PERDURE_SIMULATE_STYLE_H

#include "base/rnd.h"
#include "parse/put.h"

enum style_usage {
    USAGE_EXTRA,  /* a chunk of its own with empty choices, when asked */
    USAGE_FINISH, /* in the finish chunk, asked or not */
    USAGE_REPEAT, /* a last chunk that repeats the finish_reason, asked or not */
    USAGE_EVERY,  /* in every chunk, growing */
};
enum style_error {
    ERROR_OPENAI,
    ERROR_AZURE,
    ERROR_MISTRAL,
    ERROR_SILICONFLOW,
    ERROR_DETAIL,
    ERROR_PROBLEM,
    ERROR_INT_CODE,
    ERROR_OPENROUTER
};
/* How the ids of tool calls look; those after CALL_ID_32 are of the other dialects. */
enum style_call_id {
    CALL_ID_24,
    CALL_ID_DEEPSEEK,
    CALL_ID_9,
    CALL_ID_VLLM,
    CALL_ID_32,
    CALL_ID_SIGNED, /* as CALL_ID_24, and known again: sign.h */
    CALL_ID_TOOLU,
    CALL_ID_TOOLU_VERTEX,
    CALL_ID_TOOLU_BEDROCK,
    CALL_ID_TOOLUSE,
    CALL_ID_8,
    CALL_ID_NONE
};

/* How an error stands in a stream. */
enum error_shape {
    SHAPE_STYLE,  /* as this style does it */
    SHAPE_OBJECT, /* data: {"error": {...}}, then the end */
    SHAPE_EVENT,  /* event: error, with the same data */
    SHAPE_BARE,   /* the JSON alone: no data:, no line end */
    SHAPE_DONE,   /* data: {"error": {...}}, then data: [DONE] */
    SHAPE_CHUNK,  /* error beside an empty delta with finish_reason "error", then [DONE] */
    SHAPE_STRING  /* data: {"error": "text"} */
};

/* What a trailing assistant message is to a server. */
enum style_continues {
    CONTINUES_NOT,      /* a turn like any other: it answers afresh */
    CONTINUES_TRAILING, /* the beginning of its answer */
    CONTINUES_PREFIX,   /* the same, when it says "prefix": true */
    CONTINUES_FINAL,    /* the same, when the request says continue_final_message */
};

struct style {
    const char *name;
    const char *what; /* a sentence for --help */
    const char *id_prefix;
    const char *request_id_header;
    const char *comment;         /* NULL: none. Sent while the first token is awaited */
    const char *reasoning_field; /* NULL: content becomes a list of parts */
    const char *chunk_extra;     /* members of every chunk, with the leading comma */
    const char *choice_extra;    /* members of every choice, with the leading comma */
    const char *finish_extra;    /* members of the choice that has the finish_reason */
    enum style_usage usage;
    enum style_error error;
    enum error_shape stream_error; /* never SHAPE_STYLE */
    enum style_call_id call_id;
    bool usage_null;   /* chunks before carry "usage":null when it was asked for */
    bool obfuscation;  /* random padding in each chunk */
    bool filter_first; /* a first chunk without choices, with prompt_filter_results */
    bool groq_extra;   /* x_groq on the first chunk and the finish chunk */
    bool role_each;    /* every delta repeats the role */
    bool call_whole;   /* a tool call in one chunk */
    bool head_early;   /* 200 and the head at once, before there is a token */
    bool blank_lines;  /* unstreamed: empty lines before the JSON while it is awaited */
    enum style_continues continues;
};

extern const struct style styles[];
extern const unsigned styles_count;
const struct style *style_find(struct span name); /* NULL when unknown */

/* What an error says; empty members take what is usual for the status. */
struct style_fault {
    int status;
    struct span message, type, code;
    struct span param;      /* p NULL: null */
    struct span request_id; /* where the body repeats it; p NULL: one that stands for it */
};
/* The JSON body of an error, in the style's envelope. */
void style_put_error(struct put *out, const struct style *s, const struct style_fault *f);

struct error_like {
    const char *name;
    int status;
    const char *type, *code, *message;
};
enum { ERROR_LIKES = 17 };
extern const struct error_like error_likes[ERROR_LIKES];
extern const unsigned error_likes_count;
const struct error_like *error_like_find(struct span name); /* NULL when unknown */

/* An id for a tool call, as this style makes them. */
void style_put_call_id(struct put *out, enum style_call_id form, unsigned index, struct rnd *rnd);
/* Mistral's own server, or one of its models elsewhere: ids of nine characters. */
bool style_is_mistral(const struct style *s, struct span model);
void put_random(struct put *out, struct rnd *rnd, const char *alphabet, unsigned n);
extern const char alphabet_hex[], alphabet_alnum[];

#endif
