/* ask.h - a request in a small neutral form, whatever dialect it came in.
 *
 * Each dialect has a reader (dialect.h) that fills it and refuses what its provider refuses, in that provider's words. Nothing of it is
 * shared with the gateway's own readers: the simulation is there to find their mistakes.
 *
 * Ownership: texts lie in the arena or in the request's body; both live as long as the ask. */
#ifndef PERDURE_SIMULATE_ASK_H
#define PERDURE_SIMULATE_ASK_H

#include "base/arena.h"
#include "parse/json.h"
#include "simulate/endpoint.h"
#include "simulate/script.h"

enum { ASK_ANCHOR_LEAST = 12, ASK_ANCHOR_MOST = 512 };
enum { ANSWER_CHOICES_MAX = 16, ANSWER_CALLS_MAX = 32, ANSWER_TOKENS_MAX = 1000000, ASK_TOOLS_MAX = 4096 };

enum said_role { SAID_SYSTEM, SAID_USER, SAID_ASSISTANT };
enum said_kind {
    SAID_TEXT,
    SAID_MEDIA,    /* image, document, sound, video */
    SAID_THINKING, /* text and signature */
    SAID_REDACTED, /* signature only */
    SAID_CALL,
    SAID_RESULT, /* of the call with this id, or with this name where the dialect has no ids */
    SAID_OTHER   /* what is carried along, and not looked at */
};

struct said_part {
    struct said_part *next;
    enum said_kind kind;
    struct span text;       /* of text, thinking and results */
    struct span id, name;   /* of calls and results */
    struct span signature;  /* p NULL: none */
    struct span media_type; /* of media; "url" when it is a reference, which is in `text` */
    uint64_t media_bytes;
    char sha256[65];
};

struct said {
    struct said *next;
    enum said_role role;
    struct said_part *parts, *last;
    unsigned index; /* of the message in the request, for messages of errors */
};

struct ask_tool {
    struct span name;
    struct json schema; /* JSON_NONE: none */
};

enum ask_choice { CHOOSE_AUTO, CHOOSE_NONE, CHOOSE_ANY, CHOOSE_NAMED };

struct ask {
    struct endpoint at;
    struct json root;  /* the whole body */
    struct span model; /* escapes left in */
    struct said *said, *said_last;
    unsigned said_count;
    struct ask_tool *tools;
    unsigned tools_count;
    enum ask_choice choice;
    struct span choice_name;
    bool json_wanted;   /* an answer in JSON... */
    struct json schema; /* ...that fits this; JSON_NONE: any */
    bool streamed, usage_asked, logprobs;
    bool thinks;           /* the request switches reasoning on */
    bool thinks_never;     /* the request leaves it off, where that is the caller's to say */
    bool thoughts_hidden;  /* reasoning is counted and signed, its text is not shown */
    bool encrypted;        /* Responses: reasoning.encrypted_content was asked for */
    bool kept;             /* Responses: store, so that ids may come back alone */
    bool prefixed;         /* chat: the last message says "prefix": true */
    bool final;            /* chat: continue_final_message */
    int parallel;          /* -1: not said */
    int64_t n, max_tokens; /* max_tokens -1: not said */
    struct json stops;     /* a list of stop texts; JSON_NONE: none */
    /* found by ask_settle() */
    struct span last_user, last_tool; /* texts; p NULL: none */
    struct span last;                 /* the later of the two */
    const struct said *media;         /* the last user message, if it has media; NULL: none */
    struct span prefill;              /* of a trailing assistant message; p NULL: none */
    struct span so_far;     /* the answer that the last user turn asks to go on with; p NULL: it does not */
    struct span anchor;     /* its end, as that turn quotes it */
    const struct ask *then; /* what was asked when it was answered first, of so_far alone */
    uint64_t conversation;  /* hash of what was said before it */
    unsigned steps;         /* assistant messages before */
    bool tool_results;      /* after the last user message */
    uint64_t prompt_tokens; /* guessed */
};

/* A refusal as a provider would say it; empty members take what is usual for `like`. */
struct refusal {
    const char *like; /* one of error_likes */
    int status;       /* 0: that of `like` */
    struct span message, type, code, param;
    struct span body; /* p NULL: none; else the whole body in place of the envelope */
};

struct reading {
    const struct script_provider *conf;
    struct span body;
    bool versioned; /* the header anthropic-version is there */
    bool beta;      /* anthropic-beta is there */
    struct arena *mem;
    struct ask *ask;
    struct refusal *why;
};

/* Reads the request at `at`. PD_INVALID: refused, *r->why says how; PD_NOMEM. */
pd_err ask_read(struct reading *r, const struct endpoint *at) PD_CHECKED;

/* ---- for the readers ---- */
/* Says why and returns PD_INVALID (PD_NOMEM without memory for the message). */
pd_err ask_refuse(struct reading *r, const char *like, const char *fmt, ...) PD_PRINTF(3, 4);
/* A new message; NULL: no memory. */
struct said *ask_say(struct reading *r, enum said_role role) PD_CHECKED;
/* A part of a message; NULL: no memory. */
struct said_part *ask_part(struct reading *r, struct said *m, enum said_kind kind) PD_CHECKED;
/* A part with this JSON string as text; a bad escape is refused. Not a string: no part. */
pd_err ask_text(struct reading *r, struct said *m, enum said_kind kind, struct json text) PD_CHECKED;
/* The text of a value: a string, or the "text" members of a list one after the other. */
pd_err ask_content_text(struct reading *r, struct json content, struct span *ret) PD_CHECKED;
/* A string without its escapes; empty when it is none. */
pd_err ask_string(struct reading *r, struct json v, struct span *ret) PD_CHECKED;
/* Media whose bytes are in the request as base64. */
pd_err ask_media(struct reading *r, struct said *m, struct span type, struct json base64) PD_CHECKED;
/* "data:TYPE;base64,..." or a reference. */
pd_err ask_media_url(struct reading *r, struct said *m, struct json url) PD_CHECKED;
pd_err ask_tool(struct reading *r, struct span name, struct json schema) PD_CHECKED;
/* Finds in the message before a call with this id, or with this name; NULL: none. */
const struct said_part *ask_call_of(const struct said *m, struct span id, struct span name);
const struct said *ask_before(const struct ask *a, const struct said *m); /* NULL: it is the first */
unsigned ask_count(const struct said *m, enum said_kind kind);
/* The model of the path, percent-decoded and ready to stand in JSON. */
pd_err ask_path_model(struct reading *r) PD_CHECKED;
/* What comes of a prefill here: never PREFILL_DEFAULT. */
enum prefill_way ask_prefill_way(const struct script_provider *conf, const struct ask *a);
/* A model of Anthropic from 4.6 on: no prefill. */
bool ask_model_refuses_prefill(struct span model);
bool ask_model_is_claude(struct span model);

/* The bytes of base64 text, plain or URL-safe. PD_SYNTAX: it is none. */
pd_err base64_read(struct span text, struct arena *mem, struct span *ret) PD_CHECKED;
void base64_put(struct put *out, struct span bytes);

#endif
