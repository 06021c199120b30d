/* gemini_priv.h - what the files of Gemini's format share.
 *
 * Facts: ai.google.dev/api/generate-content and the same page of Vertex AI; what both leave out was read from recorded answers. */
#ifndef PERDURE_DIALECT_GEMINI_PRIV_H
#define PERDURE_DIALECT_GEMINI_PRIV_H

#include "dialect/encoder_priv.h"
#include "dialect/reader_priv.h"

#include <stddef.h>

extern const struct reader_ops gemini_reader;
extern const struct collector_ops gemini_collector;
extern const struct encoder_ops gemini_encoder;
extern const struct embed_ops gemini_embed;

/* The documented signature that stands for "this call is not mine": in its place a call without one is refused. */
#define GEMINI_NO_SIGNATURE "skip_thought_signature_validator"

/* ---- names -------------------------------------------------------------------- */

/* A member's name in the API's JSON is camelCase, and snake_case is taken too: is `key` either of them? */
bool gemini_key(struct span key, const char *camel);
struct json gemini_get(struct json obj, const char *camel);

/* Members that are wanted of an object, found in one walk: of duplicates the last, null is absent. */
struct gemini_field {
    const char *name; /* camelCase */
    size_t at;        /* of its struct json in what is filled */
};
#define GEMINI_FIELD(of, name)    \
    {                             \
#name, offsetof(of, name) \
    }
typedef pd_err gemini_other_fn(void *ctx, struct span key, struct json v);
struct gemini_fields {
    const struct gemini_field *rows;
    size_t count;
    gemini_other_fn *other; /* is shown the members that are in no row; may be NULL */
    void *ctx;
};
/* What `other` returned. */
pd_err gemini_read(struct json obj, const struct gemini_fields *fields, void *ret) PD_CHECKED;
/* The same when nobody looks at other members. */
void gemini_take(struct json obj, const struct gemini_field *rows, size_t count, void *ret);

/* A whole number, also one in a string, as the API takes them; else `otherwise`. */
int64_t gemini_int(struct json v, int64_t otherwise);

/* ---- models ------------------------------------------------------------------- */

enum gemini_thinking {
    GEMINI_THINKS_NOT,    /* no thinkingConfig */
    GEMINI_THINKS_BUDGET, /* thinkingBudget, in tokens */
    GEMINI_THINKS_LEVEL,  /* thinkingLevel, and signatures on calls are wanted back */
};
struct gemini_model {
    enum gemini_thinking thinking;
    int64_t least, most;   /* of a budget */
    bool can_be_off;       /* a budget of 0 is allowed; the level "minimal" */
    bool medium;           /* the level "medium" is known */
    bool media_in_results; /* functionResponse.parts */
};
/* `name` as it stands in a path: "gemini-2.5-pro". */
struct gemini_model gemini_model(struct span name);

/* ---- requests ----------------------------------------------------------------- */

pd_err gemini_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret) PD_CHECKED;
pd_err gemini_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                            const char **ret_why) PD_CHECKED;
pd_err gemini_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out) PD_CHECKED;
pd_err gemini_write_count(const struct msg_request *m, const struct write_want *want, struct arena *a,
                          struct buf *out) PD_CHECKED;
/* The request without its model's name, as edit_request() of all of this maker's formats. */
pd_err gemini_edit_request(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count) PD_CHECKED;
/* Takes the model from the path; without one there, from the body. */
void gemini_take_line(struct request_facts *f, const struct request_line *line);

/* An OpenAPI schema ("parameters", "responseSchema") as JSON Schema. `schema` passed json_check. */
void gemini_put_schema(struct put *p, struct json schema);

/* Base64 with the alphabet and padding that all formats take: clients send the other alphabet too. PD_NOMEM. */
pd_err gemini_base64(struct json v, struct arena *a, struct span *ret) PD_CHECKED;

/* ---- errors ------------------------------------------------------------------- */

const char *gemini_error_status(int status);
pd_err gemini_put_error(const struct client_error *e, struct buf *out) PD_CHECKED;
pd_err gemini_put_error_event(const struct client_error *e, struct buf *out) PD_CHECKED;

#endif
