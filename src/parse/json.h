/* json.h - JSON (RFC 8259) read in place, with source spans.
 *
 * Values are spans of the original bytes, so what we do not understand passes
 * through byte for byte, and numbers keep their spelling. Nothing is allocated
 * but unescaped strings. Reading is lazy: an object is walked member by member
 * and values that are not asked for are skipped (strings by memchr). */
#ifndef PERDURE_PARSE_JSON_H
#define PERDURE_PARSE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum json_type { JSON_NONE, JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum { JSON_DEPTH_MAX = 256 }; /* deeper nesting is PD_TOOBIG */

struct json {
    enum json_type type; /* JSON_NONE: not there */
    struct span raw;     /* the value's own bytes; a string's quotes included */
};

/* Strict check of a whole document: one value, white space around it, nothing else; valid UTF-8 not required. */
pd_err json_check(struct span doc) PD_CHECKED;
/* The same, and the document's value. */
pd_err json_doc(struct span doc, struct json *ret) PD_CHECKED;
/* The first value of `in`, skipped without being validated inside. PD_SYNTAX when it does not close or does not start.
 * *ret_rest, when not NULL, gets what follows the value. */
pd_err json_first(struct span in, struct json *ret, struct span *ret_rest) PD_CHECKED;

/* Walks the members of an object or the items of an array.
 *   struct json_walk w; struct json v; struct span key;
 *   json_walk_init(&w, obj);
 *   while (json_walk_next(&w, &key, &v)) ...
 *   if (w.err) ... */
struct json_walk {
    struct span rest;
    bool object, started, done;
    pd_err err; /* PD_SYNTAX or PD_TOOBIG when the walk ended at a fault */
};
void json_walk_init(struct json_walk *w, struct json v); /* a scalar or nothing walks over nothing */
/* The same over the object or array a document starts with, without looking for its end first: a large body is then read
 * once. After the walk w->rest is what follows; anything but an object or array is PD_SYNTAX. */
void json_walk_doc(struct json_walk *w, struct span doc);
/* `key` (may be NULL) is the raw key without its quotes, escapes not undone. */
bool json_walk_next(struct json_walk *w, struct span *ret_key, struct json *ret);

/* The member of an object by key; of duplicates the last, as nearly all parsers do. JSON_NONE when absent or not an object.
 * Of an object with a fault inside, what stands before the fault is looked at. */
struct json json_get(struct json obj, const char *key);
/* The same along a path of keys and array indexes: json_path(v, "choices.0.delta.content"). */
struct json json_path(struct json v, const char *path);
/* Of a raw key longer than `key`: is it the same when its escapes are undone? */
bool json_key_unescapes_to(struct span raw_key, struct span key);

static inline bool json_key_eq(struct span raw_key, struct span key)
{
    /* Undoing an escape always shortens: of the same length, only what has no escape can be equal. */
    if (raw_key.n < key.n || key.n == 0)
        return raw_key.n == key.n;
    if (raw_key.n == key.n)
        return memcmp(raw_key.p, key.p, key.n) == 0 && !memchr(key.p, '\\', key.n);
    return (raw_key.p[0] == key.p[0] || raw_key.p[0] == '\\') && json_key_unescapes_to(raw_key, key);
}

/* An escaped key in the source equals this plain key? (Keys are nearly never escaped; when they are, this still holds.)
 * Inline, so that of a key that stands in the code only a length and a few bytes are compared: it is asked of each member
 * of each event, once for each name that a format knows. */
static inline bool json_key_is(struct span raw_key, const char *key)
{
    return json_key_eq(raw_key, span_str(key));
}

bool json_is_true(struct json v);
bool json_i64(struct json v, int64_t *ret); /* whole numbers only, also "1e3" and "5.0"; false when not */
bool json_f64(struct json v, double *ret);  /* finite ones; false when not, or spelled with over 1000 bytes */
/* A string without its quotes, escapes left in: what can be spliced into another string. Empty when not a string. */
struct span json_inner(struct json v);
/* A string's text as UTF-8. Points into the source when there was nothing to undo, else into the arena. Lone
 * surrogates become U+FFFD; bytes that are no escapes stay as they are, UTF-8 or not. PD_SYNTAX on a bad escape, PD_INVALID
 * when not a string, PD_NOMEM. */
pd_err json_text(struct json v, struct arena *a, struct span *ret) PD_CHECKED;
/* The string equals this plain text? */
bool json_is(struct json v, const char *text);

/* Appends the text as a JSON string, quotes included. Each byte that is not UTF-8 becomes U+FFFD. On failure nothing was
 * appended. */
pd_err json_put_str(struct buf *out, struct span text) PD_CHECKED;

#endif
