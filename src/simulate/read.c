#include "simulate/read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void reader_init(struct reader *r, const char *name, struct span doc, bool lines, struct arena *mem, char *why)
{
    *r = (struct reader){.name = name, .doc = doc, .lines = lines, .mem = mem, .why = why};
    why[0] = '\0';
}

const char *key_type_what(enum key_type t)
{
    static const char *const what[] = {
#define X(code, type, text) [code] = (text),
        KEY_TYPES(X)
#undef X
    };
    return what[t];
}

static unsigned line_of(const struct reader *r, struct span at)
{
    unsigned line = 1;
    if (at.p < r->doc.p || at.p > r->doc.p + r->doc.n)
        return 0;
    for (const char *p = r->doc.p; p < at.p; p++)
        line += *p == '\n';
    return line;
}

pd_err reader_fail(const struct reader *r, struct span at, const char *fmt, ...)
{
    char what[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    unsigned line = r->lines ? line_of(r, at) : 0;
    char where[32] = "";
    if (line)
        snprintf(where, sizeof(where), " line %u", line);
    snprintf(r->why, READ_WHY, "%.100s%s: %s%s%s", r->name, where, r->where, r->where[0] ? ": " : "", what);
    return PD_INVALID;
}

const struct key_row *key_find(const struct key_row *rows, unsigned count, struct span key)
{
    for (unsigned i = 0; i < count; i++)
        if (json_key_is(key, rows[i].name))
            return &rows[i];
    return NULL;
}

const char *key_names(const struct key_row *rows, unsigned count, const char *kind, char *out, size_t out_bytes)
{
    char pattern[40];
    snprintf(pattern, sizeof(pattern), " %s ", kind ? kind : "");
    size_t at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        if (kind && (!rows[i].kinds || !strstr(rows[i].kinds, pattern)))
            continue;
        int n = snprintf(out + at, out_bytes - at, "%s%s", at ? ", " : "", rows[i].name);
        if (n < 0 || (size_t)n >= out_bytes - at)
            break;
        at += (size_t)n;
    }
    return out;
}

/* ---- values --------------------------------------------------------------- */

pd_err read_text(struct reader *r, const char *what, struct json v, struct span *ret)
{
    if (v.type == JSON_NUMBER || v.type == JSON_BOOL) {
        *ret = v.raw;
        return PD_OK;
    }
    if (v.type != JSON_STRING)
        return reader_fail(r, v.raw, "%s is not a text: write it in quotes", what);
    pd_err err = json_text(v, r->mem, ret);
    if (err == PD_SYNTAX)
        return reader_fail(r, v.raw, "%s has a bad escape: write \\n, \\\" or \\u0041", what);
    if (err == PD_OK && !ret->p)
        *ret = SPAN_LIT("");
    return err;
}

bool read_time(struct span text, int64_t *ret)
{
    static const struct {
        const char *name;
        double us;
    } units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}, {"", 1e3}};
    char copy[40];
    if (text.n == 0 || text.n >= sizeof(copy) || !(text.p[0] >= '0' && text.p[0] <= '9'))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    char *unit;
    double value = strtod(copy, &unit);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].name) != 0)
            continue;
        value *= units[i].us;
        if (!(value >= 0 && value <= 30.0 * 24 * 3600e6))
            return false;
        *ret = (int64_t)value;
        return true;
    }
    return false;
}

static pd_err bad(struct reader *r, const struct key_row *row, struct json v, const char *expected)
{
    return reader_fail(r, v.raw, "%s is %.*s: write %s", row->name, v.raw.n > 60 ? 60 : (int)v.raw.n,
                       v.raw.p ? v.raw.p : "", expected);
}

static pd_err read_count(struct reader *r, const struct key_row *row, struct json v, int64_t *into)
{
    uint64_t n;
    if (v.type == JSON_NUMBER && json_i64(v, into) && *into >= 0)
        return PD_OK;
    if (v.type == JSON_STRING && span_u64(json_inner(v), &n) && n <= INT64_MAX) {
        *into = (int64_t)n;
        return PD_OK;
    }
    return bad(r, row, v, "a whole number, 0 or more");
}

static pd_err read_ratio(struct reader *r, const struct key_row *row, struct json v, double *into)
{
    struct json number = v;
    if (v.type == JSON_STRING && json_first(json_inner(v), &number, NULL) != PD_OK)
        return bad(r, row, v, "a number from 0 to 1");
    if (!json_f64(number, into) || *into < 0 || *into > 1)
        return bad(r, row, v, "a number from 0 to 1");
    return PD_OK;
}

static pd_err read_bool(struct reader *r, const struct key_row *row, struct json v, int *into)
{
    if (v.type == JSON_BOOL)
        *into = json_is_true(v);
    else if (json_is(v, "true") || json_is(v, "yes") || json_is(v, "on") || json_is(v, "1"))
        *into = 1;
    else if (json_is(v, "false") || json_is(v, "no") || json_is(v, "off") || json_is(v, "0"))
        *into = 0;
    else
        return bad(r, row, v, "true or false");
    return PD_OK;
}

static const struct key_word *word_find(const struct key_word *words, struct span name)
{
    for (; words->name; words++)
        if (span_is(name, words->name))
            return words;
    return NULL;
}

static pd_err word_unknown(struct reader *r, const struct key_row *row, struct span at, struct span word)
{
    char list[300];
    size_t n = 0;
    for (const struct key_word *w = row->words; w->name && n < sizeof(list) - 40; w++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", w->name);
    return reader_fail(r, at, "%s has no \"%.*s\": write one of %s", row->name, word.n > 40 ? 40 : (int)word.n,
                       word.p ? word.p : "", list);
}

/* The next text of a list written either way; false at its end. */
struct texts {
    struct json_walk walk;
    struct span joined;
    bool array;
};

static pd_err texts_init(struct reader *r, const struct key_row *row, struct json v, struct texts *t)
{
    *t = (struct texts){.array = v.type == JSON_ARRAY};
    if (t->array) {
        json_walk_init(&t->walk, v);
        return PD_OK;
    }
    return read_text(r, row->name, v, &t->joined);
}

static pd_err texts_next(struct reader *r, const struct key_row *row, struct texts *t, bool *ret_more,
                         struct span *ret)
{
    struct json item;
    *ret_more = true;
    if (t->array) {
        *ret_more = json_walk_next(&t->walk, NULL, &item);
        return *ret_more ? read_text(r, row->name, item, ret) : PD_OK;
    }
    if (!t->joined.p) {
        *ret_more = false;
        return PD_OK;
    }
    *ret = span_trim(span_cut(&t->joined, '+'));
    return PD_OK;
}

static pd_err read_words(struct reader *r, const struct key_row *row, struct json v, unsigned *into)
{
    struct texts t;
    struct span word = SPAN_NONE;
    bool more;
    unsigned bits = 0;
    pd_err err = texts_init(r, row, v, &t);
    while (err == PD_OK && (err = texts_next(r, row, &t, &more, &word)) == PD_OK && more) {
        const struct key_word *w = word_find(row->words, word);
        if (!w)
            return word_unknown(r, row, v.raw, word);
        bits |= w->value;
    }
    *into = bits;
    return err;
}

static pd_err read_list(struct reader *r, const struct key_row *row, struct json v, struct read_list *into)
{
    struct texts t;
    struct span text = SPAN_NONE;
    bool more;
    struct span *at = arena_alloc(r->mem, sizeof(*at) * READ_LIST_MAX);
    if (!at)
        return PD_NOMEM;
    unsigned count = 0;
    pd_err err = texts_init(r, row, v, &t);
    while (err == PD_OK && (err = texts_next(r, row, &t, &more, &text)) == PD_OK && more) {
        if (count == READ_LIST_MAX)
            return reader_fail(r, v.raw, "%s has more than %d entries: leave some out", row->name, READ_LIST_MAX);
        at[count++] = text;
    }
    *into = (struct read_list){at, count};
    return err;
}

static bool header_name_fine(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return s.n > 0;
}

/* Those decide how the body is framed: faults change them, headers do not. */
static bool header_is_ours(struct span name)
{
    return span_iis(name, "content-length") || span_iis(name, "transfer-encoding") || span_iis(name, "connection");
}

static pd_err read_headers(struct reader *r, const struct key_row *row, struct json v, struct read_headers *into)
{
    enum { HEADERS_MAX = 32 };
    struct json_walk w;
    struct json value;
    struct span key;
    if (v.type != JSON_OBJECT)
        return bad(r, row, v, "an object, as {\"retry-after\": \"2\"}");
    struct sim_header *at = arena_alloc(r->mem, sizeof(*at) * HEADERS_MAX);
    if (!at)
        return PD_NOMEM;
    unsigned count = 0;
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &value)) {
        if (count == HEADERS_MAX)
            return reader_fail(r, v.raw, "%s has more than %d headers: leave some out", row->name, HEADERS_MAX);
        if (!header_name_fine(key))
            return reader_fail(r, value.raw, "\"%.*s\" is no header name: use letters, digits, - and _",
                               SPAN_FMT(span_upto(key, 40)));
        if (header_is_ours(key))
            return reader_fail(
                r, value.raw,
                "the header %.*s cannot be set here: use the faults short_length, until_close or close_idle",
                SPAN_FMT(key));
        at[count].name = key;
        pd_err err = read_text(r, row->name, value, &at[count].value);
        if (err != PD_OK)
            return err;
        for (size_t i = 0; i < at[count].value.n; i++)
            if ((unsigned char)at[count].value.p[i] < 0x20)
                return reader_fail(r, value.raw, "the header %.*s has a control byte in its value: take it out",
                                   SPAN_FMT(key));
        count++;
    }
    *into = (struct read_headers){at, count};
    return PD_OK;
}

pd_err read_value(struct reader *r, const struct key_row *row, struct json v, void *into)
{
    struct span text = SPAN_NONE;
    const struct key_word *word;
    pd_err err;

    switch (row->type) {
    case KEY_COUNT:
        return read_count(r, row, v, into);
    case KEY_RATIO:
        return read_ratio(r, row, v, into);
    case KEY_BOOL:
        return read_bool(r, row, v, into);
    case KEY_TEXT:
        return read_text(r, row->name, v, into);
    case KEY_LIST:
        return read_list(r, row, v, into);
    case KEY_WORDS:
        return read_words(r, row, v, into);
    case KEY_HEADERS:
        return read_headers(r, row, v, into);
    case KEY_BODY:
        if (v.type == JSON_STRING)
            return read_text(r, row->name, v, into);
        *(struct span *)into = v.raw;
        return PD_OK;
    case KEY_TIME:
        if ((v.type == JSON_STRING || v.type == JSON_NUMBER) &&
            read_time(v.type == JSON_STRING ? json_inner(v) : v.raw, into))
            return PD_OK;
        return bad(r, row, v, "a time with its unit, as \"200ms\", \"5s\" or \"2m\"");
    case KEY_WORD:
        err = read_text(r, row->name, v, &text);
        if (err != PD_OK)
            return err;
        word = word_find(row->words, text);
        if (!word)
            return word_unknown(r, row, v.raw, text);
        *(unsigned *)into = word->value;
        return PD_OK;
    }
    return PD_INVALID;
}
