/* msg.h - the neutral form: what any request and any answer says, whatever its wire format.
 *
 * A request is a list of turns made of parts, tools, and settings; an answer is a
 * flow of deltas. Codecs read their format into this form and write their format
 * from it, so that N codecs make N x N translations. Where the formats are the same
 * nothing is translated: the bytes themselves are relayed (codec.h).
 *
 * Two spellings of bytes, named in each field's comment:
 *   escaped   the inside of a JSON string as it stood in the source (json_inner): it can be
 *             spliced into another JSON string without being undone.
 *   raw       a whole JSON value as it stood in the source.
 *   text      plain bytes.
 *
 * Ownership: spans point into the source body or the arena that was handed in; structs are the arena's. */
#ifndef PERDURE_DIALECT_MSG_H
#define PERDURE_DIALECT_MSG_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* ---- answers ---------------------------------------------------------------- */

/* Tokens as reported; -1: not reported, which is not 0. Input includes what came from a cache or went into one, output
 * includes reasoning. The last report of a stream holds; reports are never summed. */
struct msg_usage {
    int64_t input_total, cache_read, cache_write, output_total, reasoning;
};
#define MSG_USAGE_NONE ((struct msg_usage){-1, -1, -1, -1, -1})

#define MSG_FINISHES(X)                                                                \
    X(MSG_FINISH_NONE, "none", "not finished")                                         \
    X(MSG_FINISH_STOP, "stop", "the model was done")                                   \
    X(MSG_FINISH_LENGTH, "length", "the token limit was reached")                      \
    X(MSG_FINISH_TOOL_CALLS, "tool_calls", "tools are asked for")                      \
    X(MSG_FINISH_CONTENT_FILTER, "content_filter", "the provider filtered the answer") \
    X(MSG_FINISH_REFUSAL, "refusal", "the model refused")                              \
    X(MSG_FINISH_PAUSE, "pause", "the turn goes on when it is sent back")              \
    X(MSG_FINISH_ERROR, "error", "the provider gave up")                               \
    X(MSG_FINISH_OTHER, "other", "a reason that is not in this list")

enum msg_finish {
#define X(code, name, what) code,
    MSG_FINISHES(X)
#undef X
        MSG_FINISH_COUNT
};
const char *msg_finish_name(enum msg_finish f);

/* Whose opaque bytes (signatures, sealed reasoning) these are: they are valid at their maker alone. */
enum msg_maker { MSG_MAKER_NONE, MSG_MAKER_ANTHROPIC, MSG_MAKER_GEMINI, MSG_MAKER_OPENAI, MSG_MAKER_COUNT };
const char *msg_maker_name(enum msg_maker m);

/* One piece of an answer. */
enum msg_delta_kind {
    MSG_TEXT,
    MSG_REASONING, /* text may come in any number of pieces */
    MSG_REFUSAL,
    MSG_TOOL_START, /* text: the name, id: the call's id (may be empty), type: the namespace it came from (Responses) */
    MSG_TOOL_ARGUMENTS, /* text: a piece of the arguments' JSON text, escaped once more as in a JSON string */
    MSG_SIGNATURE, /* text: an opaque signature, whole. tool >= 0: of that call; else of the reasoning told last, or, where
                           there was none, of the text */
    MSG_SEALED, /* text: a block of reasoning that only its maker can read (redacted, encrypted), whole. id: the maker's
                           name for it, may be empty */
    MSG_MEDIA,    /* text: base64 data, type: its media type */
    MSG_CITATION, /* text: a URL, id: its title, type: the cited text; of the text told last */
    MSG_LOGPROBS, /* text: a raw array of OpenAI's {token, logprob, bytes, top_logprobs} */
    MSG_HOSTED, /* work of a tool that the provider ran itself, which its own format alone can show. text: what is named when it is
                           dropped ("code_execution"), a literal */
    MSG_STEP, /* a step of a block on the wire that says nothing by itself (enum msg_step), for who goes on in the same format: everyone else leaves
                           it alone. `type`: the wire's own word for the block ("thinking", "web_search_call"), for OPENED */
};
/* How far a block has come on the wire, in formats whose blocks begin and end by events of their own. */
enum msg_step {
    MSG_STEP_OPENED = 1,
    MSG_STEP_PART,      /* Responses: its content part, or part of a summary, was begun */
    MSG_STEP_TEXT_DONE, /* its text or arguments were said to be over */
    MSG_STEP_PART_DONE,
    MSG_STEP_CLOSED, /* Responses: `text` is raw, all of the item, where the neutral form holds nothing of it */
    MSG_STEP_FINISHED, /* of no block: the answer's finish reason was told, by an event before the last (Messages, Converse) */
    MSG_STEP_COUNT
};
struct msg_delta {
    enum msg_delta_kind kind;
    int choice;           /* of n > 1 */
    int tool;             /* number of the tool call, from 0 in each choice; -1 otherwise */
    struct span text;     /* escaped unless said */
    struct span id;       /* escaped */
    struct span type;     /* escaped */
    enum msg_maker maker; /* of SIGNATURE and SEALED */
    bool legacy_function; /* a function_call of old, not a tool call */
    bool free_text;       /* of TOOL_START: a custom tool's, whose input is text and not JSON */
    int place; /* the number that its block has on the wire (Messages, Converse: index; Responses: output_index), from 1; 0: none */
    enum msg_step step; /* STEP */
    struct span item;   /* escaped: the id that its block has on the wire (Responses: item_id); empty: none */
};
typedef void msg_delta_fn(void *ctx, const struct msg_delta *d);

/* ---- requests --------------------------------------------------------------- */

enum msg_role { MSG_SYSTEM, MSG_DEVELOPER, MSG_USER, MSG_ASSISTANT };

enum msg_part_kind {
    MSG_PART_TEXT,
    MSG_PART_REFUSAL,
    MSG_PART_REASONING, /* of the assistant; with a signature only its maker accepts it */
    MSG_PART_MEDIA,
    MSG_PART_TOOL_CALL,   /* in assistant turns */
    MSG_PART_TOOL_RESULT, /* in user turns, before anything else of the turn */
};
enum msg_media { MSG_IMAGE, MSG_DOCUMENT, MSG_AUDIO, MSG_VIDEO };

struct msg_part {
    struct msg_part *next;
    enum msg_part_kind kind;
    struct span text; /* escaped: TEXT, REFUSAL, REASONING (may be empty beside a signature) */

    /* tool calls and results */
    struct span id,
        name; /* escaped; id may be empty (Gemini, Ollama): message order tells then. A result has its call's name
                                 once msg_link() has run */
    struct span
        arguments; /* raw: of a call, an object; "{}" when there were none. p NULL when the text was not JSON: see `text` */
    bool custom;              /* the call's input is free text, in `text`; arguments then has p NULL */
    struct msg_part *content; /* of a result: TEXT and MEDIA parts */
    bool failed;              /* a result that reports an error */

    /* media: data or url */
    enum msg_media media;
    struct span media_type;        /* escaped: "image/png"; empty when not known */
    struct span data;              /* base64 */
    struct span url;               /* escaped: https:, gs:, s3: ...; never data: */
    struct span file_id;           /* escaped: of a file kept at a maker's; only its maker can read it */
    struct span file_name, detail; /* escaped; detail: OpenAI's "low", "high", "auto" */

    /* what only its maker can use */
    struct span signature; /* escaped: of REASONING, TOOL_CALL (Gemini), TEXT (Gemini) */
    struct span sealed;    /* escaped: REASONING that only its maker can read */
    struct span seal_id;   /* escaped: the maker's name for the reasoning ("rs_...") */
    enum msg_maker maker;

    bool cache;            /* a cache breakpoint stands behind this part */
    struct span cache_ttl; /* escaped: "1h"; empty: the maker's default */
};

struct msg_turn {
    struct msg_turn *next;
    enum msg_role role;
    struct span name; /* escaped: OpenAI's participant name; usually empty */
    struct msg_part *first, *last;
};

enum msg_tool_kind {
    MSG_TOOL_FUNCTION,
    MSG_TOOL_CUSTOM, /* takes free text (OpenAI); elsewhere a function with one string "input" */
    MSG_TOOL_HOSTED, /* run by the provider itself (web search, ...): `raw` in its maker's own words, no other can take it */
};
struct msg_tool {
    struct msg_tool *next;
    enum msg_tool_kind kind;
    struct span name, description; /* escaped */
    struct span schema;            /* raw JSON Schema of the arguments; empty: none given */
    int strict;                    /* -1: not said */
    struct span
        client_name; /* escaped: what the client calls it, where `name` had to be made to fit the target; empty: `name` */
    bool free_text; /* FUNCTION: stands for a CUSTOM one: its "input" is that one's text */
    bool cache;
    struct span cache_ttl;
    struct span
        raw; /* HOSTED: the source's own value. CUSTOM: OpenAI's "format" (a grammar), where there is one */
    struct span space,
        plain_name; /* escaped: the namespace that the source has it in, and its name there (OpenAI Responses); `name` is
                                      both, joined */
};

enum msg_choice { MSG_CHOICE_UNSAID, MSG_CHOICE_AUTO, MSG_CHOICE_NONE, MSG_CHOICE_REQUIRED, MSG_CHOICE_NAMED };
enum msg_format { MSG_FORMAT_UNSAID, MSG_FORMAT_TEXT, MSG_FORMAT_JSON, MSG_FORMAT_SCHEMA };
/* How much a model should think: the words of OpenAI's reasoning_effort and their relatives. */
enum msg_effort {
    MSG_EFFORT_UNSAID,
    MSG_EFFORT_NONE,
    MSG_EFFORT_MINIMAL,
    MSG_EFFORT_LOW,
    MSG_EFFORT_MEDIUM,
    MSG_EFFORT_HIGH,
    MSG_EFFORT_MAX
};

enum { MSG_STOPS_MAX = 16, MSG_DROPPED_MAX = 32 };

struct msg_request {
    struct span model; /* text */
    bool stream;
    bool include_usage; /* OpenAI chat: in the stream. Elsewhere usage always comes */

    struct msg_turn *first,
        *last; /* in order; system and developer turns wherever they stood. Those before the first other turn
                                      are what other formats have at the top */
    struct msg_tool *tools, *last_tool;
    enum msg_choice choice;
    struct span choice_name; /* escaped: NAMED */
    int parallel;            /* may call several tools at once: -1 not said, 0, 1 */

    int64_t max_tokens;                                 /* -1: not said */
    struct span temperature, top_p, top_k, min_p, seed; /* raw numbers; empty: not said */
    struct span presence_penalty, frequency_penalty;    /* raw numbers */
    int64_t n;                                          /* answers wanted; -1: not said */
    bool logprobs;
    int64_t top_logprobs;             /* -1: not said */
    struct span stops[MSG_STOPS_MAX]; /* escaped */
    unsigned stops_count;

    enum msg_format format;
    struct span format_name, format_description; /* escaped; may be empty */
    struct span format_schema;                   /* raw: SCHEMA */
    int format_strict;                           /* -1: not said */

    enum msg_effort effort;
    int64_t reasoning_tokens; /* budget; -1: not said */
    int reasoning_shown;      /* its text or a summary of it is wanted: -1 not said, 0, 1 */

    struct span user;         /* escaped: the end user's id */
    struct span service_tier; /* escaped */
    struct span cache_key;    /* escaped: OpenAI's prompt_cache_key */
    struct span verbosity;    /* escaped: OpenAI's "low", "medium", "high" */

    /* What was given and is not in this form, or what its target cannot take: names for x-perdure-dropped. */
    const char *dropped[MSG_DROPPED_MAX];
    unsigned dropped_count, dropped_more; /* more: names that had no room */
};

void msg_request_init(struct msg_request *m);
/* NULL: out of memory. A turn or part is appended. */
struct msg_turn *msg_turn_add(struct msg_request *m, struct arena *a, enum msg_role role) PD_CHECKED;
struct msg_part *msg_part_add(struct msg_turn *t, struct arena *a, enum msg_part_kind kind) PD_CHECKED;
struct msg_part *msg_content_add(struct msg_part *result, struct arena *a, enum msg_part_kind kind) PD_CHECKED;
struct msg_tool *msg_tool_add(struct msg_request *m, struct arena *a, enum msg_tool_kind kind) PD_CHECKED;
/* Notes a name once. `name` lives as long as the request (a literal, or the arena's). */
void msg_drop(struct msg_request *m, const char *name);
/* The same for a name that stands in the source (cut to 64 bytes, made fit for a header). PD_NOMEM. */
pd_err msg_drop_span(struct msg_request *m, struct arena *a, struct span name) PD_CHECKED;
/* Gives each tool result the name of its call, and ids to calls and results that have none (MSG_MADE_ID and a number, by order and name;
 * a format that needs no ids leaves these out). PD_NOMEM. */
#define MSG_MADE_ID "call_made_"
pd_err msg_link(struct msg_request *m, struct arena *a) PD_CHECKED;
/* About how many tokens the request is, without a tokenizer: text at four bytes a token, media at what makers charge for an ordinary one. */
int64_t msg_estimate_tokens(const struct msg_request *m);
/* An instruction: a system or developer turn. */
bool msg_is_system(const struct msg_turn *t);
/* The first turn that is none, NULL: there is no other. Those before it stand at the top in other formats. */
const struct msg_turn *msg_behind_system(const struct msg_request *m);
/* Nothing but white space, as it stands in a JSON string: several makers refuse such a text. */
bool msg_is_blank(struct span escaped);
/* Are there any parts of that kind? */
bool msg_has(const struct msg_request *m, enum msg_part_kind kind);

#endif
