/* read.h - objects of a script, key by key, from tables of rows.
 *
 * What a user can write is a row: the reader, its messages, --help and the documentation come from the same rows. Every message says
 * where (file, line, which provider and fault), what is wrong, and what to write.
 *
 * Ownership: texts that are read point into the document or into the arena; both must outlive what was read. */
#ifndef PERDURE_SIMULATE_READ_H
#define PERDURE_SIMULATE_READ_H

#include "base/arena.h"
#include "parse/json.h"

enum { READ_WHERE = 200, READ_WHY = 1000, READ_LIST_MAX = 256 };

struct reader {
    const char *name; /* of the document, for messages: "story.json" */
    struct span doc;
    bool lines; /* messages name the line */
    struct arena *mem;
    char where[READ_WHERE]; /* "provider alpha, fault 2" */
    char *why;              /* READ_WHY bytes: the message of a failure */
};
void reader_init(struct reader *r, const char *name, struct span doc, bool lines, struct arena *mem, char *why);

struct sim_header {
    struct span name, value;
};

#define KEY_TYPES(X)                                                              \
    X(KEY_COUNT, int64_t, "a whole number")                                       \
    X(KEY_TIME, int64_t, "a time, as \"200ms\", \"5s\" or \"2m\"")                \
    X(KEY_RATIO, double, "a number from 0 to 1")                                  \
    X(KEY_TEXT, struct span, "a text")                                            \
    X(KEY_BODY, struct span, "a text or any JSON")                                \
    X(KEY_BOOL, int, "true or false")                                             \
    X(KEY_WORD, unsigned, "one of its words")                                     \
    X(KEY_WORDS, unsigned, "words joined by \"+\", or a list of them")            \
    X(KEY_LIST, struct read_list, "a list of texts, or one text joined by \"+\"") \
    X(KEY_HEADERS, struct read_headers, "an object of header names and values")

enum key_type {
#define X(code, type, what) code,
    KEY_TYPES(X)
#undef X
};
const char *key_type_what(enum key_type t);

struct read_list {
    struct span *at;
    unsigned count;
};
struct read_headers {
    struct sim_header *at;
    unsigned count;
};

/* A word of KEY_WORD (its value) or KEY_WORDS (its bit). The list ends with a NULL name. */
struct key_word {
    const char *name;
    unsigned value;
};

/* Times are kept in microseconds. */
struct key_row {
    const char *name;
    enum key_type type;
    size_t offset;
    const struct key_word *words;
    const char *what;  /* a sentence for --help and the documentation */
    const char *kinds; /* only in objects of these kinds: " cut reset "; NULL: in all */
};

/* Sets *why: "story.json line 12: provider alpha, fault 2: ...". Returns PD_INVALID, or PD_SYNTAX for `syntax`. */
pd_err reader_fail(const struct reader *r, struct span at, const char *fmt, ...) PD_PRINTF(3, 4);

/* One value into its field. */
pd_err read_value(struct reader *r, const struct key_row *row, struct json v, void *into) PD_CHECKED;
const struct key_row *key_find(const struct key_row *rows, unsigned count, struct span key);
/* A text with its escapes undone. */
pd_err read_text(struct reader *r, const char *what, struct json v, struct span *ret) PD_CHECKED;
/* Text as a time in microseconds: "200ms", "5s", "100us", "2m", "1h"; a bare number is in milliseconds. False: none. */
bool read_time(struct span text, int64_t *ret);
/* "a, b and c" of the names that are allowed here, for a message. */
const char *key_names(const struct key_row *rows, unsigned count, const char *kind, char *out, size_t out_bytes);

#endif
