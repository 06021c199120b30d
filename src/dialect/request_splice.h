/* request_splice.h - a body with some of its values replaced: byte identity for all others, however many they are. */
#ifndef PERDURE_DIALECT_REQUEST_SPLICE_H
#define PERDURE_DIALECT_REQUEST_SPLICE_H

#include "dialect/codec.h"

/* A value's place in the body, and what stands there instead. */
struct splice {
    struct splice *next;
    struct span site, text;
};
struct splices {
    struct splice *first, *last; /* in order of place */
    unsigned count;
};

/* `site` lies in the body, behind all that were added before; `text` outlives the parts. PD_NOMEM. */
pd_err splice_add(struct splices *s, struct arena *a, struct span site, struct span text) PD_CHECKED;
/* As codec.edit_request(): when the parts are too many, one part from the arena has the whole body. PD_NOMEM. */
pd_err splice_parts(const struct splices *s, struct span body, struct arena *a,
                    struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count) PD_CHECKED;

/* Takes items out of an array: those for which `unwanted` says so. What is left stands joined by commas in *ret, from the arena;
 * *ret_left counts it. p NULL: nothing was unwanted. PD_NOMEM. */
typedef bool splice_fn(struct json item);
pd_err splice_filter(struct json array, splice_fn *unwanted, struct arena *a, struct span *ret,
                     unsigned *ret_left) PD_CHECKED;

#endif
