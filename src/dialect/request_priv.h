/* request_priv.h - reading and editing a request body, shared by the dialects. */
#ifndef PERDURE_DIALECT_REQUEST_PRIV_H
#define PERDURE_DIALECT_REQUEST_PRIV_H

#include "dialect/codec.h"

#include <stddef.h>

/* Is shown each member of the top object that is not common to all. */
typedef void request_member_fn(void *ctx, struct span key, struct json v);

/* Walks the top object once. As codec.read_request(); `member` may be NULL. */
pd_err request_read(struct span body, struct arena *a, request_member_fn *member, void *ctx,
                    struct request_facts *ret, const char **ret_why);
/* Members that are wanted of the top object, as the walk shows them: of duplicates the last. */
struct request_field {
    const char *key;
    size_t at; /* of its struct json in what is filled */
};
#define REQUEST_FIELD(of, name)   \
    {                             \
#name, offsetof(of, name) \
    }
/* False when `key` is in no row. */
bool request_take_field(const struct request_field *rows, size_t count, struct span key, struct json v, void *ret);
/* One member of the top object (of duplicates the last), for one that is read alone: the rest is stepped over. JSON_NONE: absent. */
struct json request_member(const struct request_facts *f, const char *key);
/* Of codec.parse_tools: what cannot be read is left out, and only PD_NOMEM is told. */
pd_err request_lenient(pd_err e);
/* Where the conversation's beginning ends, by messages that have a "role" (or a text that is all of it): prefix_hash and continues.
 * `system` (may be none) stands before it where a format has it apart. `unnamed`: a message without a role is the user's. */
void request_take_prefix(struct request_facts *f, struct json system, struct json messages, bool unnamed);
/* The first of these words that is not empty, as `user`: on which conversation this is. A bad escape is for the provider to complain
 * about. PD_NOMEM with a sentence. */
pd_err request_take_hint(struct request_facts *f, const struct json *words, size_t count, struct arena *a,
                         const char **ret_why);
/* Model and stream from the path, for formats in whose bodies members of these names mean nothing. */
void request_take_line(struct request_facts *f, const struct request_line *line);
/* As codec.edit_request(); strip_foreign is the format's own to do. */
pd_err request_edit(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                    struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count);

/* A format's own changes besides: values of members of the top object. None of them is one of the sites in the facts. */
enum { REQUEST_CHANGES_MAX = 4 };
struct request_change {
    struct span site; /* the value, in the body */
    bool remove;      /* the member goes; else `text` stands in place of the value */
    struct span text; /* lives as long as the parts */
};
pd_err request_edit_also(const struct request_facts *f, const struct request_edit *e,
                         const struct request_change *changes, unsigned change_count, struct arena *a,
                         struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count);

#endif
