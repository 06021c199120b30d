/* merge_priv.h - many JSON objects, piece by piece, into one.
 *
 * Known text fields grow; arrays whose items have an index are merged by it; everything else is replaced by what comes
 * later. Strings stay escaped and numbers keep their spelling, so nothing is decoded and unknown fields survive.
 *
 * Memory: nodes and texts lie in one arena, which is charged against a limit; what is replaced reuses its room. */
#ifndef PERDURE_DIALECT_MERGE_PRIV_H
#define PERDURE_DIALECT_MERGE_PRIV_H

#include "base/arena.h"
#include "parse/json.h"

/* Where in an answer a value stands, which decides how it is merged. */
enum merge_place {
    MERGE_PLAIN,  /* replaced; objects member by member */
    MERGE_DELTA,  /* the members of a delta */
    MERGE_PART,   /* parts of content, of reasoning, of audio */
    MERGE_TOOLS,  /* the items of tool_calls */
    MERGE_CALL,   /* a function with its arguments */
    MERGE_APPEND, /* arrays grow: log probabilities */
};

enum merge_kind { MERGE_NONE, MERGE_RAW, MERGE_TEXT, MERGE_OBJECT, MERGE_ARRAY };

struct merge_piece;
struct merge_node {
    enum merge_kind kind;
    struct span key;         /* of a member, as in the source */
    int64_t index;           /* of an item; -1: none */
    struct merge_node *next; /* the next member or item */
    struct merge_node *first, *last;
    unsigned count;
    char *raw; /* MERGE_RAW: the value's bytes */
    size_t raw_n, raw_room;
    struct merge_piece *text, *text_last; /* MERGE_TEXT: escaped, without quotes */
    size_t text_n;
};

struct merge {
    struct arena arena;
    size_t limit_bytes; /* of all that is kept, the nodes included */
    bool full;          /* the limit was met */
    struct buf scratch;
};

enum {
    MERGE_MEMBERS_MAX = 512, /* members of one object; more is PD_TOOBIG */
    MERGE_ITEMS_MAX = 4096,  /* items of an array that is searched by index */
};

void merge_init(struct merge *m, size_t limit_bytes);
void merge_done(struct merge *m);
void *merge_take(struct merge *m, size_t n) PD_CHECKED; /* NULL: no memory or over the limit */
struct merge_node *merge_node(struct merge *m, enum merge_kind kind) PD_CHECKED;
pd_err merge_failure(const struct merge *m); /* which of the two it was */

/* The members of `obj` into an object node. */
pd_err merge_object(struct merge *m, struct merge_node *n, struct json obj, enum merge_place place) PD_CHECKED;
/* One member. */
pd_err merge_member(struct merge *m, struct merge_node *n, struct span key, struct json v,
                    enum merge_place place) PD_CHECKED;
/* The value as it is, in place of what was there. */
pd_err merge_set(struct merge *m, struct merge_node *n, struct json v) PD_CHECKED;
struct merge_node *merge_get(const struct merge_node *object, const char *key); /* NULL when absent */

bool merge_is_null(const struct merge_node *n); /* absent, null, or nothing in it yet */
bool merge_says(const struct merge_node *n);    /* neither that nor an empty string nor 0 */
pd_err merge_write(const struct merge_node *n, struct buf *out) PD_CHECKED;
pd_err merge_write_member(const struct merge_node *n, bool *first, struct buf *out) PD_CHECKED;

#endif
