/* embed.h - embeddings in neutral form: texts in, vectors out.
 *
 * Ownership: spans point into the body or the arena. */
#ifndef PERDURE_DIALECT_EMBED_H
#define PERDURE_DIALECT_EMBED_H

#include "dialect/codec.h"
#include "parse/put.h"

struct embed_input {
    struct embed_input *next;
    struct span text;   /* escaped */
    struct span tokens; /* raw array of numbers, in place of a text; only OpenAI's kind takes them */
};
struct embed_request {
    struct span model; /* text */
    struct embed_input *first, *last;
    unsigned count;
    bool list;          /* the client sent a list: it gets one back, of one item too */
    int64_t dimensions; /* -1: not said */
    bool base64;        /* vectors are wanted as base64 of little-endian float32 */
    struct span
        task; /* escaped: Gemini's taskType words ("RETRIEVAL_QUERY"), others' mapped to them; empty: not said */
    struct span title; /* escaped */
    struct span user;  /* escaped */
    bool bare;         /* Ollama's /api/embeddings of old: the answer is one vector, in no list */
    const char *dropped[MSG_DROPPED_MAX];
    unsigned dropped_count;
};
struct embed_vector {
    struct embed_vector *next;
    struct span numbers; /* raw array of numbers; p NULL: `base64` has it */
    struct span base64;
};
struct embed_answer {
    struct embed_vector *first, *last;
    unsigned count;
    struct msg_usage usage; /* input_total */
    struct span model, id;  /* text */
};

struct embed_ops {
    /* PD_SYNTAX, PD_INVALID with a sentence; PD_NOMEM. */
    pd_err (*parse)(const struct request_facts *f, struct arena *a, struct embed_request *ret,
                    const char **ret_why);
    /* Several inputs where the format takes one at a time: PD_UNSUPPORTED. */
    pd_err (*write)(const struct embed_request *m, const struct write_want *want, struct arena *a,
                    struct buf *out);
    pd_err (*read)(struct span body, struct arena *a, struct embed_answer *ret, enum answer_end *ret_end);
    pd_err (*put)(const struct embed_answer *an, const struct embed_request *asked, struct buf *out);
};

/* ---- for the formats ---- */
enum { EMBED_INPUTS_MAX = 65536 }; /* of one request */
/* NULL: out of memory. What is added is empty and last. */
struct embed_input *embed_input_add(struct embed_request *m, struct arena *a) PD_CHECKED;
struct embed_vector *embed_vector_add(struct embed_answer *an, struct arena *a) PD_CHECKED;
/* A text or a list of texts; with `tokens` also a list of numbers or a list of these. PD_NOMEM; PD_INVALID with a sentence. */
pd_err embed_take_input(struct embed_request *m, struct arena *a, struct json input, bool tokens,
                        const char **ret_why) PD_CHECKED;
/* The whole body, member by member, for formats that call their inputs "input". */
typedef pd_err embed_member_fn(struct embed_request *m, struct arena *a, struct span key, struct json v,
                               const char **ret_why);
pd_err embed_parse(const struct request_facts *f, struct arena *a, embed_member_fn *member,
                   struct embed_request *ret, const char **ret_why) PD_CHECKED;
/* An array of numbers, or a string of base64, as the next vector; anything else is none. PD_NOMEM. */
pd_err embed_take_vector(struct embed_answer *an, struct arena *a, struct json v) PD_CHECKED;
/* Notes a member that has no place in the neutral form. PD_NOMEM. */
pd_err embed_drop(struct embed_request *m, struct arena *a, struct span key) PD_CHECKED;
/* The vector in either shape, turned into the one that is asked for: a JSON array, or a JSON string with the base64 of little-endian
 * float32. p->err PD_SYNTAX when it is neither. */
void embed_put_numbers(struct put *p, const struct embed_vector *x);
void embed_put_base64(struct put *p, const struct embed_vector *x);
/* Any input that is no text? */
bool embed_has_tokens(const struct embed_request *m);

/* CODEC_COUNT: how many tokens a request would be. */
struct count_ops {
    bool (*read)(struct json obj, int64_t *ret_tokens);
    pd_err (*put)(int64_t tokens, struct buf *out);
};

#endif
