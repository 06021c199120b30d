/* schema.c - a value against its schema.
 *
 * Whether it fits has three answers: what cannot be told stays untold under "not" and "oneOf" too, so that nothing is refused for
 * want of understanding. */
#include "validate/schema.h"

#include "parse/json.h"
#include "validate/number.h"
#include "validate/pattern.h"

#include <stdarg.h>
#include <stdio.h>

enum fit { FIT_NOT, FIT_UNTOLD, FIT_YES }; /* all of: the least; one of: the most */

/* Where in the value we are: a list up the stack. */
struct place {
    const struct place *up;
    struct span key; /* escaped; p NULL: an item */
    size_t index;
};

/* The keywords that say something about a value, and those that are known to say nothing (SILENT). Any other one is untold. */
#define KEYWORDS(X)                                  \
    X(REF, "$ref")                                   \
    X(TYPE, "type")                                  \
    X(NULLABLE, "nullable")                          \
    X(ENUM, "enum")                                  \
    X(CONST, "const")                                \
    X(PROPERTIES, "properties")                      \
    X(REQUIRED, "required")                          \
    X(ADDITIONAL_PROPERTIES, "additionalProperties") \
    X(PATTERN_PROPERTIES, "patternProperties")       \
    X(PROPERTY_NAMES, "propertyNames")               \
    X(MIN_PROPERTIES, "minProperties")               \
    X(MAX_PROPERTIES, "maxProperties")               \
    X(DEPENDENT_REQUIRED, "dependentRequired")       \
    X(DEPENDENT_SCHEMAS, "dependentSchemas")         \
    X(DEPENDENCIES, "dependencies")                  \
    X(ITEMS, "items")                                \
    X(PREFIX_ITEMS, "prefixItems")                   \
    X(ADDITIONAL_ITEMS, "additionalItems")           \
    X(CONTAINS, "contains")                          \
    X(MIN_CONTAINS, "minContains")                   \
    X(MAX_CONTAINS, "maxContains")                   \
    X(MIN_ITEMS, "minItems")                         \
    X(MAX_ITEMS, "maxItems")                         \
    X(UNIQUE_ITEMS, "uniqueItems")                   \
    X(MIN_LENGTH, "minLength")                       \
    X(MAX_LENGTH, "maxLength")                       \
    X(PATTERN, "pattern")                            \
    X(MINIMUM, "minimum")                            \
    X(MAXIMUM, "maximum")                            \
    X(EXCLUSIVE_MINIMUM, "exclusiveMinimum")         \
    X(EXCLUSIVE_MAXIMUM, "exclusiveMaximum")         \
    X(MULTIPLE_OF, "multipleOf")                     \
    X(ANY_OF, "anyOf")                               \
    X(ONE_OF, "oneOf")                               \
    X(ALL_OF, "allOf")                               \
    X(NOT, "not")                                    \
    X(IF, "if")                                      \
    X(THEN, "then")                                  \
    X(ELSE, "else")

enum keyword {
#define X(code, word) code,
    KEYWORDS(X)
#undef X
        SILENT,
    UNKNOWN,
    KEYWORD_COUNT = SILENT
};

/* Which draft the schema says it is: what they read differently is only judged where it is known. */
enum draft { DRAFT_UNSAID, DRAFT_OLD, DRAFT_NEW };

struct check {
    struct json root, base; /* base: where "#" leads to */
    enum draft draft;
    struct arena arena;
    unsigned work, depth;
    unsigned quiet; /* in a branch whose failing is no news */
    pd_err err;
    char *why;
    size_t why_bytes;
    bool said;
};

/* One schema object and the value at hand. */
struct ask {
    struct json k[KEYWORD_COUNT];
    struct json v;
    const struct place *at;
    bool unknown;
};

static enum fit eval(struct check *c, struct json schema, struct json v, const struct place *at);

static enum fit least(enum fit a, enum fit b)
{
    return a < b ? a : b;
}

static enum fit fit_if(bool yes)
{
    return yes ? FIT_YES : FIT_NOT;
}

/* ---- the limits ------------------------------------------------------------------------- */

enum { WORK_BYTES = 256 }; /* stepped over in the time of one piece of work */

/* Before anything that takes time: false when it is too much, or has gone wrong; then nothing can be told. */
static bool spend(struct check *c, size_t bytes)
{
    size_t work = 1 + bytes / WORK_BYTES;
    if (c->err || work > SCHEMA_WORK_MAX - c->work) {
        c->work = SCHEMA_WORK_MAX;
        return false;
    }
    c->work += (unsigned)work;
    return true;
}

/* ---- texts and keys ----------------------------------------------------------------------- */

/* What a string says. False: it cannot be told. */
static bool text_of(struct check *c, struct json v, struct span *ret)
{
    if (!spend(c, v.raw.n))
        return false;
    if (v.raw.n + 16 > SCHEMA_MEMORY_MAX - c->arena.used_bytes) {
        c->work = SCHEMA_WORK_MAX;
        return false;
    }
    pd_err e = json_text(v, &c->arena, ret);
    if (e == PD_NOMEM)
        c->err = e;
    return !e;
}

/* A key as a walk tells it stands between its quotes. */
static bool key_text(struct check *c, struct span key, struct span *ret)
{
    return text_of(c, (struct json){JSON_STRING, span_of(key.p - 1, key.n + 2)}, ret);
}

/* The member by its plain key, of duplicates the last. JSON_NONE: none, or it cannot be told (c->work is then used up). */
static struct json find(struct check *c, struct json obj, struct span key)
{
    struct json found = {0}, v;
    struct json_walk w;
    struct span k, text;
    if (obj.type != JSON_OBJECT || !spend(c, obj.raw.n))
        return found;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &k, &v)) {
        if (memchr(k.p, '\\', k.n) ? key_text(c, k, &text) && span_eq(text, key) : span_eq(k, key))
            found = v;
    }
    return found;
}

static bool used_up(const struct check *c)
{
    return c->err || c->work >= SCHEMA_WORK_MAX;
}

/* ---- saying why ----------------------------------------------------------------------------- */

static const char *const type_words[] = {
    [JSON_NONE] = "nothing",    [JSON_NULL] = "null",      [JSON_BOOL] = "a boolean",  [JSON_NUMBER] = "a number",
    [JSON_STRING] = "a string", [JSON_ARRAY] = "an array", [JSON_OBJECT] = "an object"};

/* Without the bytes of a character that was cut in two. */
static void cut_clean(char *text)
{
    size_t n = strlen(text), back = 0;
    while (back < n && back < 3 && (text[n - 1 - back] & 0xc0) == 0x80)
        back++;
    unsigned char lead = back < n ? (unsigned char)text[n - 1 - back] : 0;
    size_t wants = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (wants > back)
        text[n - 1 - back] = '\0';
}

static size_t put_place(char *out, size_t room, const struct place *at)
{
    if (!at)
        return (size_t)snprintf(out, room, "arguments");
    size_t n = put_place(out, room, at->up);
    char *to = n < room ? out + n : NULL;
    size_t left = n < room ? room - n : 0;
    int more = at->key.p ? snprintf(to, left, ".%.*s", SPAN_FMT(span_upto(at->key, 64)))
                         : snprintf(to, left, "[%zu]", at->index);
    return n + (size_t)(more > 0 ? more : 0);
}

/* The first that is found is the one that is told. */
PD_PRINTF(3, 4)
static enum fit refuse(struct check *c, const struct place *at, const char *fmt, ...)
{
    if (c->quiet || c->said || !c->why || !c->why_bytes)
        return FIT_NOT;
    c->said = true;
    size_t n = put_place(c->why, c->why_bytes, at);
    if (n < c->why_bytes)
        n += (size_t)snprintf(c->why + n, c->why_bytes - n, ": ");
    va_list args;
    va_start(args, fmt);
    if (n < c->why_bytes)
        vsnprintf(c->why + n, c->why_bytes - n, fmt, args);
    va_end(args);
    cut_clean(c->why);
    return FIT_NOT;
}

/* A value's first bytes. */
enum { SHOWN = 24 };
struct shown {
    char text[SHOWN + 8];
};
static struct shown show(struct json v)
{
    struct shown s;
    struct span head = span_upto(v.raw, SHOWN);
    snprintf(s.text, sizeof(s.text), "%.*s", SPAN_FMT(head));
    cut_clean(s.text);
    if (v.raw.n > SHOWN)
        snprintf(s.text + strlen(s.text), 4, "...");
    return s;
}

/* ---- equality ------------------------------------------------------------------------------- */

static enum fit equal(struct check *c, struct json a, struct json b, unsigned depth);

static enum fit equal_numbers(struct json a, struct json b)
{
    struct number x, y;
    if (!number_read(a, &x) || !number_read(b, &y))
        return span_eq(a.raw, b.raw) ? FIT_YES : FIT_UNTOLD;
    return fit_if(number_compare(&x, &y) == 0);
}

static enum fit equal_strings(struct check *c, struct json a, struct json b)
{
    struct span x, y;
    if (span_eq(a.raw, b.raw))
        return FIT_YES;
    if (!text_of(c, a, &x) || !text_of(c, b, &y))
        return FIT_UNTOLD;
    return fit_if(span_eq(x, y));
}

static enum fit equal_arrays(struct check *c, struct json a, struct json b, unsigned depth)
{
    struct json_walk w, u;
    struct json x, y;
    enum fit f = FIT_YES;
    json_walk_init(&w, a);
    json_walk_init(&u, b);
    for (;;) {
        bool more = json_walk_next(&w, NULL, &x), too = json_walk_next(&u, NULL, &y);
        if (!more && !too)
            return f;
        if (more != too)
            return FIT_NOT;
        f = least(f, equal(c, x, y, depth + 1));
        if (f == FIT_NOT)
            return f;
    }
}

/* Every member of a is in b. */
static enum fit within(struct check *c, struct json a, struct json b, unsigned depth)
{
    struct json_walk w;
    struct json x;
    struct span key, text;
    enum fit f = FIT_YES;
    json_walk_init(&w, a);
    while (f != FIT_NOT && json_walk_next(&w, &key, &x)) {
        if (!key_text(c, key, &text))
            return FIT_UNTOLD;
        struct json y = find(c, b, text);
        if (used_up(c))
            return FIT_UNTOLD;
        f = least(f, y.type == JSON_NONE ? FIT_NOT : equal(c, x, y, depth + 1));
    }
    return f;
}

static enum fit equal(struct check *c, struct json a, struct json b, unsigned depth)
{
    if (depth > SCHEMA_DEPTH_MAX || !spend(c, a.raw.n + b.raw.n))
        return FIT_UNTOLD;
    if (a.type != b.type)
        return FIT_NOT;
    switch (a.type) {
    case JSON_NUMBER:
        return equal_numbers(a, b);
    case JSON_STRING:
        return equal_strings(c, a, b);
    case JSON_ARRAY:
        return equal_arrays(c, a, b, depth);
    case JSON_OBJECT: {
        enum fit f = within(c, a, b, depth);
        return f == FIT_YES ? within(c, b, a, depth) : f;
    }
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_NONE:
        break;
    }
    return fit_if(span_eq(a.raw, b.raw));
}

/* ---- any value ------------------------------------------------------------------------------ */

static enum fit is_type(struct json word, struct json v)
{
    static const struct {
        const char *word;
        enum json_type type;
    } rows[] = {{"string", JSON_STRING}, {"number", JSON_NUMBER}, {"object", JSON_OBJECT},
                {"array", JSON_ARRAY},   {"boolean", JSON_BOOL},  {"null", JSON_NULL}};
    struct span w = json_inner(word);
    struct number n;
    if (span_iis(w, "integer")) {
        if (v.type != JSON_NUMBER)
            return FIT_NOT;
        return number_read(v, &n) ? fit_if(number_is_whole(&n)) : FIT_UNTOLD;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_iis(w, rows[i].word))
            return fit_if(v.type == rows[i].type);
    return FIT_UNTOLD;
}

static const char *type_word(struct json word)
{
    static const char *const rows[][2] = {
        {"integer", "an integer"}, {"number", "a number"},       {"string", "a string"}, {"object", "an object"},
        {"array", "an array"},     {"boolean", "true or false"}, {"null", "null"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_iis(json_inner(word), rows[i][0]))
            return rows[i][1];
    return "something else";
}

static enum fit check_type(struct check *c, struct ask *q)
{
    struct json t = q->k[TYPE], word;
    struct json_walk w;
    enum fit f = FIT_NOT;
    char wanted[96] = "";
    size_t n = 0;
    if (t.type == JSON_NONE)
        return FIT_YES;
    if (t.type == JSON_STRING) {
        f = is_type(t, q->v);
        snprintf(wanted, sizeof(wanted), "%s", type_word(t));
    } else if (t.type == JSON_ARRAY) {
        json_walk_init(&w, t);
        while (f != FIT_YES && json_walk_next(&w, NULL, &word)) {
            enum fit one = is_type(word, q->v);
            f = one > f ? one : f;
            if (n < sizeof(wanted))
                n += (size_t)snprintf(wanted + n, sizeof(wanted) - n, "%s%s", n ? " or " : "", type_word(word));
        }
    } else {
        f = FIT_UNTOLD;
    }
    if (f != FIT_NOT)
        return f;
    return refuse(c, q->at, "%s is wanted, %s is %s", wanted, show(q->v).text, type_words[q->v.type]);
}

static enum fit check_values(struct check *c, struct ask *q)
{
    struct json_walk w;
    struct json one;
    enum fit f = FIT_YES;
    if (q->k[CONST].type != JSON_NONE && equal(c, q->k[CONST], q->v, 0) == FIT_NOT)
        return refuse(c, q->at, "%s is wanted, it is %s", show(q->k[CONST]).text, show(q->v).text);
    if (q->k[ENUM].type == JSON_NONE)
        return FIT_YES;
    if (q->k[ENUM].type != JSON_ARRAY)
        return FIT_UNTOLD;
    f = FIT_NOT;
    json_walk_init(&w, q->k[ENUM]);
    while (f != FIT_YES && json_walk_next(&w, NULL, &one)) {
        enum fit same = equal(c, one, q->v, 0);
        f = same > f ? same : f;
    }
    return f == FIT_NOT ? refuse(c, q->at, "%s is none of the values that are allowed", show(q->v).text) : f;
}

/* ---- counts ----------------------------------------------------------------------------------- */

/* A keyword's number against how many there are. */
static enum fit check_count(struct check *c, struct ask *q, enum keyword least_word, enum keyword most_word,
                            size_t count, const char *noun)
{
    struct number limit, have;
    char spelled[32];
    enum fit f = FIT_YES;
    int n = snprintf(spelled, sizeof(spelled), "%zu", count);
    bool read = number_read((struct json){JSON_NUMBER, span_of(spelled, (size_t)n)}, &have);
    for (int most = 0; most < 2 && read; most++) {
        struct json k = q->k[most ? most_word : least_word];
        if (k.type == JSON_NONE)
            continue;
        if (!number_read(k, &limit)) {
            f = FIT_UNTOLD;
            continue;
        }
        int order = number_compare(&have, &limit);
        if (most ? order > 0 : order < 0)
            return refuse(c, q->at, "%zu %s, %.*s at %s are wanted", count, noun, SPAN_FMT(span_upto(k.raw, 20)),
                          most ? "most" : "least");
    }
    return f;
}

/* ---- numbers ---------------------------------------------------------------------------------- */

/* `exclusive` may be a number of its own, or, as it was once, true: the bound beside it is no longer allowed itself. */
static enum fit check_bound(struct check *c, struct ask *q, const struct number *n, enum keyword bound,
                            enum keyword exclusive, bool upper)
{
    enum fit f = FIT_YES;
    bool strict = json_is_true(q->k[exclusive]);
    for (int i = 0; i < 2; i++) {
        struct json k = q->k[i ? exclusive : bound];
        struct number limit;
        if (k.type == JSON_NONE || (i && k.type == JSON_BOOL))
            continue;
        if (!number_read(k, &limit)) {
            f = FIT_UNTOLD;
            continue;
        }
        int order = number_compare(n, &limit);
        order = upper ? -order : order;
        if (order < 0 || (order == 0 && (i || strict)))
            return refuse(c, q->at, "%s is %s%s than %s", show(q->v).text, order ? "" : "not ",
                          (order < 0) == upper ? "more" : "less", show(k).text);
    }
    return f;
}

static enum fit check_number(struct check *c, struct ask *q)
{
    struct number n, of;
    struct json k = q->k[MULTIPLE_OF];
    if (q->v.type != JSON_NUMBER)
        return FIT_YES;
    if (!number_read(q->v, &n))
        return FIT_UNTOLD;
    enum fit f = check_bound(c, q, &n, MINIMUM, EXCLUSIVE_MINIMUM, false);
    if (f != FIT_NOT)
        f = least(f, check_bound(c, q, &n, MAXIMUM, EXCLUSIVE_MAXIMUM, true));
    if (f == FIT_NOT || k.type == JSON_NONE)
        return f;
    int multiple = number_read(k, &of) ? number_is_multiple(&n, &of) : -1;
    if (multiple == 0)
        return refuse(c, q->at, "%s is no multiple of %s", show(q->v).text, show(k).text);
    return multiple < 0 ? FIT_UNTOLD : f;
}

/* ---- strings ------------------------------------------------------------------------------------ */

static size_t characters(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

/* What looking for a pattern may cost at most, in work. */
static bool spend_on_pattern(struct check *c, struct span text)
{
    return spend(c, (50 + 20 * text.n) * WORK_BYTES);
}

static enum fit matches(struct check *c, struct json pattern, struct span text)
{
    struct span p;
    enum pattern_answer found = PATTERN_CANNOT_TELL;
    if (pattern.type != JSON_STRING || text.n > PATTERN_TEXT_MAX || !text_of(c, pattern, &p) ||
        !spend_on_pattern(c, text))
        return FIT_UNTOLD;
    pd_err e = pattern_match(p, text, &found);
    if (e)
        c->err = e;
    return found == PATTERN_YES ? FIT_YES : found == PATTERN_NO ? FIT_NOT : FIT_UNTOLD;
}

static enum fit check_string(struct check *c, struct ask *q)
{
    struct span text;
    if (q->v.type != JSON_STRING ||
        (q->k[MIN_LENGTH].type | q->k[MAX_LENGTH].type | q->k[PATTERN].type) == JSON_NONE)
        return FIT_YES;
    if (!text_of(c, q->v, &text))
        return FIT_UNTOLD;
    enum fit f = check_count(c, q, MIN_LENGTH, MAX_LENGTH, characters(text), "characters");
    if (f == FIT_NOT || q->k[PATTERN].type == JSON_NONE)
        return f;
    enum fit m = matches(c, q->k[PATTERN], text);
    if (m == FIT_NOT)
        return refuse(c, q->at, "%s does not match the pattern %s", show(q->v).text, show(q->k[PATTERN]).text);
    return least(f, m);
}

/* ---- objects ------------------------------------------------------------------------------------ */

/* Each name of a list has to be there. */
static enum fit require(struct check *c, struct ask *q, struct json list)
{
    struct json_walk w;
    struct json name;
    struct span text;
    if (list.type != JSON_ARRAY)
        return list.type == JSON_NONE ? FIT_YES : FIT_UNTOLD;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &name)) {
        if (name.type != JSON_STRING || !text_of(c, name, &text))
            return FIT_UNTOLD;
        bool there = find(c, q->v, text).type != JSON_NONE;
        if (used_up(c))
            return FIT_UNTOLD;
        if (!there)
            return refuse(c, q->at, "%.*s is missing", SPAN_FMT(span_upto(name.raw, 64)));
    }
    return FIT_YES;
}

/* {"when this is there": a list of what has to be there too, or a schema for all of it}. */
static enum fit check_dependent(struct check *c, struct ask *q, struct json map)
{
    struct json_walk w;
    struct json then;
    struct span key, text;
    enum fit f = map.type == JSON_OBJECT || map.type == JSON_NONE ? FIT_YES : FIT_UNTOLD;
    json_walk_init(&w, map.type == JSON_OBJECT ? map : (struct json){0});
    while (f != FIT_NOT && json_walk_next(&w, &key, &then)) {
        if (!key_text(c, key, &text))
            return FIT_UNTOLD;
        bool there = find(c, q->v, text).type != JSON_NONE;
        if (used_up(c))
            return FIT_UNTOLD;
        if (there)
            f = least(f, then.type == JSON_ARRAY ? require(c, q, then) : eval(c, then, q->v, q->at));
    }
    return f;
}

/* Those of patternProperties that the key matches. *ret_any: one did, or might have. */
static enum fit check_patterns(struct check *c, struct ask *q, struct span text, struct json v,
                               const struct place *at, bool *ret_any)
{
    struct json_walk w;
    struct json schema;
    struct span pattern;
    enum fit f = FIT_YES;
    json_walk_init(&w, q->k[PATTERN_PROPERTIES].type == JSON_OBJECT ? q->k[PATTERN_PROPERTIES] : (struct json){0});
    while (f != FIT_NOT && json_walk_next(&w, &pattern, &schema)) {
        enum fit m = matches(c, (struct json){JSON_STRING, span_of(pattern.p - 1, pattern.n + 2)}, text);
        *ret_any |= m != FIT_NOT;
        if (m == FIT_YES)
            f = least(f, eval(c, schema, v, at));
        else if (m == FIT_UNTOLD)
            f = least(f, FIT_UNTOLD);
    }
    return f;
}

static enum fit check_member(struct check *c, struct ask *q, struct span key, struct json v)
{
    struct place at = {.up = q->at, .key = key};
    struct span text;
    enum fit f = FIT_YES;
    if (!key_text(c, key, &text))
        return FIT_UNTOLD;
    if (q->k[PROPERTY_NAMES].type != JSON_NONE)
        f = eval(c, q->k[PROPERTY_NAMES], (struct json){JSON_STRING, span_of(key.p - 1, key.n + 2)}, &at);
    struct json schema = find(c, q->k[PROPERTIES], text);
    bool taken = schema.type != JSON_NONE;
    if (f != FIT_NOT && taken)
        f = least(f, eval(c, schema, v, &at));
    if (f != FIT_NOT)
        f = least(f, check_patterns(c, q, text, v, &at, &taken));
    if (used_up(c))
        return FIT_UNTOLD;
    if (f == FIT_NOT || taken || q->k[ADDITIONAL_PROPERTIES].type == JSON_NONE)
        return f;
    if (q->k[ADDITIONAL_PROPERTIES].type == JSON_BOOL && !json_is_true(q->k[ADDITIONAL_PROPERTIES]))
        return refuse(c, q->at, "there is no \"%.*s\" in the schema", SPAN_FMT(span_upto(key, 64)));
    return least(f, eval(c, q->k[ADDITIONAL_PROPERTIES], v, &at));
}

/* Of a name that comes twice the last is the one that counts. */
static bool comes_again(struct check *c, struct json obj, struct span key, struct json v)
{
    struct span text;
    return key_text(c, key, &text) && find(c, obj, text).raw.p != v.raw.p;
}

static enum fit check_object(struct check *c, struct ask *q)
{
    struct json_walk w;
    struct json v;
    struct span key;
    size_t count = 0;
    enum fit f = FIT_YES;
    if (q->v.type != JSON_OBJECT)
        return FIT_YES;
    f = require(c, q, q->k[REQUIRED]);
    bool each = q->k[PROPERTIES].type || q->k[PATTERN_PROPERTIES].type || q->k[ADDITIONAL_PROPERTIES].type ||
                q->k[PROPERTY_NAMES].type || q->k[MIN_PROPERTIES].type || q->k[MAX_PROPERTIES].type;
    json_walk_init(&w, each ? q->v : (struct json){0});
    while (f != FIT_NOT && json_walk_next(&w, &key, &v)) {
        if (comes_again(c, q->v, key, v))
            continue;
        count++;
        f = least(f, check_member(c, q, key, v));
    }
    if (f != FIT_NOT && !used_up(c) && each)
        f = least(f, check_count(c, q, MIN_PROPERTIES, MAX_PROPERTIES, count, "members"));
    if (f != FIT_NOT)
        f = least(f, check_dependent(c, q, q->k[DEPENDENT_REQUIRED]));
    if (f != FIT_NOT)
        f = least(f, check_dependent(c, q, q->k[DEPENDENT_SCHEMAS]));
    if (f != FIT_NOT && c->draft != DRAFT_NEW)
        f = least(f, check_dependent(c, q, q->k[DEPENDENCIES]));
    return f;
}

/* ---- arrays ------------------------------------------------------------------------------------- */

/* The schemas of the first items, and that of those behind them (JSON_NONE: none). */
static void items_schemas(const struct ask *q, struct json *first, struct json *rest)
{
    *first = q->k[PREFIX_ITEMS];
    *rest = q->k[ITEMS];
    if (q->k[ITEMS].type == JSON_ARRAY) { /* as it was once */
        *first = q->k[ITEMS];
        *rest = q->k[ADDITIONAL_ITEMS];
    }
}

static enum fit check_items(struct check *c, struct ask *q, size_t *ret_count)
{
    struct json first, rest, v, schema;
    struct json_walk w, u;
    struct place at = {.up = q->at};
    enum fit f = FIT_YES;
    items_schemas(q, &first, &rest);
    json_walk_init(&w, q->v);
    json_walk_init(&u, first.type == JSON_ARRAY ? first : (struct json){0});
    for (; f != FIT_NOT && json_walk_next(&w, NULL, &v); at.index++) {
        bool own = json_walk_next(&u, NULL, &schema);
        if (own || rest.type != JSON_NONE)
            f = least(f, eval(c, own ? schema : rest, v, &at));
    }
    *ret_count = at.index;
    return f;
}

static enum fit check_contains(struct check *c, struct ask *q)
{
    struct json_walk w;
    struct json v;
    size_t yes = 0, untold = 0;
    int64_t at_least = 1, at_most = INT64_MAX;
    if (q->k[CONTAINS].type == JSON_NONE)
        return FIT_YES;
    if (c->draft != DRAFT_OLD && q->k[MIN_CONTAINS].type && !json_i64(q->k[MIN_CONTAINS], &at_least))
        return FIT_UNTOLD;
    if (c->draft != DRAFT_OLD && q->k[MAX_CONTAINS].type && !json_i64(q->k[MAX_CONTAINS], &at_most))
        return FIT_UNTOLD;
    c->quiet++;
    json_walk_init(&w, q->v);
    while (json_walk_next(&w, NULL, &v)) {
        enum fit f = eval(c, q->k[CONTAINS], v, q->at);
        yes += f == FIT_YES;
        untold += f == FIT_UNTOLD;
    }
    c->quiet--;
    if ((int64_t)(yes + untold) < at_least)
        return refuse(c, q->at, "too few of its items are what it has to contain");
    if ((int64_t)yes > at_most)
        return refuse(c, q->at, "too many of its items are what it may contain");
    return (int64_t)yes >= at_least && (int64_t)(yes + untold) <= at_most ? FIT_YES : FIT_UNTOLD;
}

static enum fit check_unique(struct check *c, struct ask *q)
{
    struct json_walk w, u;
    struct json a, b;
    enum fit f = FIT_YES;
    if (!json_is_true(q->k[UNIQUE_ITEMS]))
        return FIT_YES;
    json_walk_init(&w, q->v);
    while (json_walk_next(&w, NULL, &a)) {
        u = w; /* those behind it */
        while (json_walk_next(&u, NULL, &b)) {
            enum fit same = equal(c, a, b, 0);
            if (same == FIT_YES)
                return refuse(c, q->at, "%s is in it twice", show(a).text);
            f = same == FIT_UNTOLD ? FIT_UNTOLD : f;
            if (used_up(c))
                return FIT_UNTOLD;
        }
    }
    return f;
}

static enum fit check_array(struct check *c, struct ask *q)
{
    size_t count;
    if (q->v.type != JSON_ARRAY || !spend(c, q->v.raw.n))
        return q->v.type != JSON_ARRAY ? FIT_YES : FIT_UNTOLD;
    enum fit f = check_items(c, q, &count);
    if (f != FIT_NOT)
        f = least(f, check_count(c, q, MIN_ITEMS, MAX_ITEMS, count, "items"));
    if (f != FIT_NOT)
        f = least(f, check_contains(c, q));
    return f == FIT_NOT ? f : least(f, check_unique(c, q));
}

/* ---- schemas of schemas -------------------------------------------------------------------------- */

static enum fit check_all(struct check *c, struct ask *q)
{
    struct json_walk w;
    struct json one;
    enum fit f = FIT_YES;
    if (q->k[ALL_OF].type != JSON_ARRAY)
        return q->k[ALL_OF].type == JSON_NONE ? FIT_YES : FIT_UNTOLD;
    json_walk_init(&w, q->k[ALL_OF]);
    while (f != FIT_NOT && json_walk_next(&w, NULL, &one))
        f = least(f, eval(c, one, q->v, q->at));
    return f;
}

struct votes {
    unsigned yes, no, untold;
};
static struct votes vote(struct check *c, struct ask *q, struct json list, bool first_yes_is_enough)
{
    struct votes n = {0};
    struct json_walk w;
    struct json one;
    c->quiet++;
    json_walk_init(&w, list);
    while (!(first_yes_is_enough && n.yes) && json_walk_next(&w, NULL, &one)) {
        enum fit f = eval(c, one, q->v, q->at);
        n.yes += f == FIT_YES;
        n.no += f == FIT_NOT;
        n.untold += f == FIT_UNTOLD;
    }
    c->quiet--;
    return n;
}

static enum fit check_any(struct check *c, struct ask *q)
{
    if (q->k[ANY_OF].type != JSON_ARRAY)
        return q->k[ANY_OF].type == JSON_NONE ? FIT_YES : FIT_UNTOLD;
    struct votes n = vote(c, q, q->k[ANY_OF], true);
    if (n.yes)
        return FIT_YES;
    if (n.untold)
        return FIT_UNTOLD;
    return refuse(c, q->at, "%s fits none of the %u schemas that are allowed", show(q->v).text, n.no);
}

static enum fit check_one(struct check *c, struct ask *q)
{
    if (q->k[ONE_OF].type != JSON_ARRAY)
        return q->k[ONE_OF].type == JSON_NONE ? FIT_YES : FIT_UNTOLD;
    struct votes n = vote(c, q, q->k[ONE_OF], false);
    if (n.yes > 1)
        return refuse(c, q->at, "%s fits %u schemas of which one alone is allowed", show(q->v).text, n.yes);
    if (n.untold)
        return FIT_UNTOLD;
    if (n.yes == 1)
        return FIT_YES;
    return refuse(c, q->at, "%s fits none of the %u schemas that are allowed", show(q->v).text, n.no);
}

static enum fit eval_quietly(struct check *c, struct json schema, struct ask *q)
{
    c->quiet++;
    enum fit f = eval(c, schema, q->v, q->at);
    c->quiet--;
    return f;
}

static enum fit check_not(struct check *c, struct ask *q)
{
    if (q->k[NOT].type == JSON_NONE)
        return FIT_YES;
    enum fit f = eval_quietly(c, q->k[NOT], q);
    if (f == FIT_YES)
        return refuse(c, q->at, "%s is what is not allowed here", show(q->v).text);
    return f == FIT_NOT ? FIT_YES : FIT_UNTOLD;
}

static enum fit check_if(struct check *c, struct ask *q)
{
    if (q->k[IF].type == JSON_NONE)
        return FIT_YES;
    enum fit f = eval_quietly(c, q->k[IF], q);
    if (f == FIT_UNTOLD)
        return f;
    struct json branch = q->k[f == FIT_YES ? THEN : ELSE];
    return branch.type == JSON_NONE ? FIT_YES : eval(c, branch, q->v, q->at);
}

/* ---- references ---------------------------------------------------------------------------------- */

static int hex(char ch)
{
    return ch >= '0' && ch <= '9'   ? ch - '0'
           : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10
           : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10
                                    : -1;
}

/* One step of a pointer: %25 and ~1 undone, in place. */
static struct span unescape_step(char *p, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        bool coded = p[i] == '%' && i + 2 < n && hex(p[i + 1]) >= 0 && hex(p[i + 2]) >= 0;
        p[to++] = coded ? (char)(hex(p[i + 1]) * 16 + hex(p[i + 2])) : p[i];
        i += coded ? 2 : 0;
    }
    n = to;
    for (size_t i = to = 0; i < n; i++) {
        bool coded = p[i] == '~' && i + 1 < n && (p[i + 1] == '0' || p[i + 1] == '1');
        p[to++] = !coded ? p[i] : p[i + 1] == '0' ? '~' : '/';
        i += coded;
    }
    return span_of(p, to);
}

/* A schema with a name of its own: "#" within it leads to it. */
static bool has_own_base(struct json schema)
{
    struct json id = json_get(schema, "$id");
    return id.type == JSON_STRING && json_inner(id).n && json_inner(id).p[0] != '#';
}

static struct json step_into(struct check *c, struct json at, struct span step)
{
    struct json_walk w;
    struct json v;
    uint64_t index;
    if (at.type == JSON_OBJECT)
        return find(c, at, step);
    if (at.type != JSON_ARRAY || !span_u64(step, &index) || !spend(c, at.raw.n))
        return (struct json){0};
    json_walk_init(&w, at);
    while (json_walk_next(&w, NULL, &v))
        if (index-- == 0)
            return v;
    return (struct json){0};
}

/* "/a/b" from the base. */
static struct json by_pointer(struct check *c, struct span pointer, struct json *base)
{
    struct json at = *base;
    char *text = arena_strndup(&c->arena, pointer.p, pointer.n);
    if (!text) {
        c->err = PD_NOMEM;
        return (struct json){0};
    }
    struct span rest = span_of(text + 1, pointer.n - 1);
    while (rest.p && at.type != JSON_NONE) {
        struct span step = span_cut(&rest, '/');
        at = step_into(c, at, unescape_step(text + (step.p - text), step.n));
        if (has_own_base(at))
            *base = at;
    }
    return at;
}

/* Every object that is called so. */
static unsigned find_anchor(struct check *c, struct json at, struct span name, unsigned depth, struct json *ret)
{
    struct json_walk w;
    struct json v;
    struct span key;
    unsigned found = 0;
    if ((at.type != JSON_OBJECT && at.type != JSON_ARRAY) || depth > SCHEMA_DEPTH_MAX || !spend(c, at.raw.n))
        return 0;
    json_walk_init(&w, at);
    while (json_walk_next(&w, &key, &v)) {
        struct span said = json_inner(v);
        bool old = at.type == JSON_OBJECT && json_key_is(key, "$id") && said.n && said.p[0] == '#';
        if (old || (at.type == JSON_OBJECT && json_key_is(key, "$anchor"))) {
            if (span_eq(span_from(said, old), name)) {
                *ret = at;
                found++;
            }
        } else {
            found += find_anchor(c, v, name, depth + 1, ret);
        }
    }
    return found;
}

static struct json resolve(struct check *c, struct json ref, struct json *base)
{
    struct span text;
    struct json found = {0};
    if (ref.type != JSON_STRING || !text_of(c, ref, &text) || text.n == 0 || text.p[0] != '#')
        return found;
    if (text.n == 1)
        return *base;
    if (text.p[1] == '/')
        return by_pointer(c, span_from(text, 1), base);
    return find_anchor(c, *base, span_from(text, 1), 0, &found) == 1 ? found : (struct json){0};
}

static enum fit check_ref(struct check *c, struct ask *q)
{
    if (q->k[REF].type == JSON_NONE)
        return FIT_YES;
    struct json base = c->base, schema = resolve(c, q->k[REF], &base);
    if (schema.type == JSON_NONE)
        return FIT_UNTOLD;
    struct json before = c->base;
    c->base = base;
    enum fit f = eval(c, schema, q->v, q->at);
    c->base = before;
    return f;
}

/* ---- one schema ----------------------------------------------------------------------------------- */

static enum keyword keyword_of(struct span key)
{
    static const char *const words[] = {
#define X(code, word) [code] = word,
        KEYWORDS(X)
#undef X
    };
    static const char *const silent[] = {"title",       "description", "default",  "examples", "example",
                                         "$comment",    "$schema",     "$id",      "$anchor",  "$defs",
                                         "definitions", "deprecated",  "readOnly", "writeOnly"};
    for (unsigned i = 0; i < KEYWORD_COUNT; i++)
        if (json_key_is(key, words[i]))
            return (enum keyword)i;
    for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
        if (json_key_is(key, silent[i]))
            return SILENT;
    return UNKNOWN;
}

static void gather(struct ask *q, struct json schema)
{
    struct json_walk w;
    struct json v;
    struct span key;
    json_walk_init(&w, schema);
    while (json_walk_next(&w, &key, &v)) {
        enum keyword k = keyword_of(key);
        if (k < KEYWORD_COUNT)
            q->k[k] = v;
        q->unknown |= k == UNKNOWN;
    }
    q->unknown |= w.err != PD_OK;
}

static enum fit check_others(struct check *c, struct ask *q)
{
    static enum fit (*const checks[])(struct check *, struct ask *) = {
        check_type, check_values, check_number, check_string, check_object, check_array,
        check_all,  check_any,    check_one,    check_not,    check_if};
    enum fit f = q->unknown ? FIT_UNTOLD : FIT_YES;
    for (size_t i = 0; f != FIT_NOT && i < sizeof(checks) / sizeof(checks[0]); i++)
        f = least(f, checks[i](c, q));
    return f;
}

/* Beside a "$ref" nothing else counted up to draft 7, and everything since. */
static enum fit check_object_schema(struct check *c, struct json schema, struct json v, const struct place *at)
{
    struct ask q = {.v = v, .at = at};
    gather(&q, schema);
    if (v.type == JSON_NULL && json_is_true(q.k[NULLABLE]))
        return FIT_YES;
    enum fit f = check_ref(c, &q);
    bool alone = q.k[REF].type != JSON_NONE && c->draft != DRAFT_NEW;
    if (f == FIT_NOT || (alone && c->draft == DRAFT_OLD))
        return f;
    c->quiet += alone;
    enum fit rest = check_others(c, &q);
    c->quiet -= alone;
    return least(f, alone && rest == FIT_NOT ? FIT_UNTOLD : rest);
}

static enum fit eval(struct check *c, struct json schema, struct json v, const struct place *at)
{
    if (c->depth >= SCHEMA_DEPTH_MAX || !spend(c, schema.raw.n))
        return FIT_UNTOLD;
    if (schema.type == JSON_BOOL)
        return json_is_true(schema) ? FIT_YES : refuse(c, at, "nothing is allowed here");
    if (schema.type != JSON_OBJECT)
        return FIT_UNTOLD;
    struct json before = c->base;
    if (has_own_base(schema))
        c->base = schema;
    c->depth++;
    enum fit f = check_object_schema(c, schema, v, at);
    c->depth--;
    c->base = before;
    return used_up(c) ? FIT_UNTOLD : f;
}

static enum draft draft_of(struct json root)
{
    struct span s = json_inner(json_get(root, "$schema"));
    if (span_has(s, "draft-0"))
        return DRAFT_OLD;
    return span_has(s, "2019-09") || span_has(s, "2020-12") ? DRAFT_NEW : DRAFT_UNSAID;
}

pd_err schema_check(struct span schema, struct span value, bool *ret_fits, char *why, size_t why_bytes)
{
    struct check c = {.why = why, .why_bytes = why_bytes};
    struct json v;
    if (why && why_bytes)
        why[0] = '\0';
    *ret_fits = true;
    if (json_first(schema, &c.root, NULL) || json_first(value, &v, NULL))
        return PD_OK;
    c.base = c.root;
    c.draft = draft_of(c.root);
    arena_init(&c.arena, 0, 0);
    enum fit f = eval(&c, c.root, v, NULL);
    arena_done(&c.arena);
    *ret_fits = c.err || f != FIT_NOT;
    if (*ret_fits && why && why_bytes)
        why[0] = '\0';
    return c.err;
}
