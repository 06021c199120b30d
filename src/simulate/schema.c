#include "simulate/schema.h"

#include "simulate/varied.h"

#include <stdio.h>

struct place {
    struct put *out;
    struct json root;
    unsigned depth;
    unsigned left;   /* values that may still be written: a schema that fans out must end */
    struct rnd *rnd; /* NULL: always the same */
};

static void put_value(struct place *at, struct json schema, struct span name);

/* ---- finding the schema that counts --------------------------------------- */

/* "#/$defs/node" in the document; JSON_NONE when it leads nowhere. */
static struct json resolve(struct json root, struct span ref)
{
    struct json v = root;
    if (!span_starts(ref, "#"))
        return (struct json){0};
    struct span rest = span_from(ref, 1);
    if (rest.n)
        rest = span_from(rest, 1);
    else
        return root;
    while (rest.p && v.type != JSON_NONE) {
        struct span part = span_cut(&rest, '/');
        char key[128];
        size_t n = 0;
        for (size_t i = 0; i < part.n && n < sizeof(key) - 1; i++) {
            char c = part.p[i];
            if (c == '~' && i + 1 < part.n)
                c = part.p[++i] == '1' ? '/' : '~';
            key[n++] = c;
        }
        key[n] = '\0';
        v = json_get(v, key);
    }
    return v;
}

/* Google writes types in capitals, as OpenAPI's "OBJECT". */
static bool named(struct json v, const char *name)
{
    return v.type == JSON_STRING && span_iis(json_inner(v), name);
}

static struct json first_of(struct json list)
{
    struct json_walk w;
    struct json v, first = {0};
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        if (named(json_get(v, "type"), "null"))
            continue; /* "or null": the other one says more */
        first = v;
        break;
    }
    return first;
}

/* Follows $ref, anyOf, oneOf and allOf to a schema with something of its own. */
static struct json settle(struct place *at, struct json schema)
{
    for (unsigned i = 0; i < 16 && schema.type == JSON_OBJECT; i++) {
        struct json next = json_get(schema, "$ref");
        if (next.type == JSON_STRING) {
            schema = resolve(at->root, json_inner(next));
            continue;
        }
        if (json_get(schema, "properties").type != JSON_NONE || json_get(schema, "enum").type != JSON_NONE ||
            json_get(schema, "const").type != JSON_NONE)
            return schema;
        next = json_get(schema, "anyOf");
        if (next.type != JSON_ARRAY)
            next = json_get(schema, "oneOf");
        if (next.type != JSON_ARRAY)
            next = json_get(schema, "allOf");
        next = first_of(next);
        if (next.type == JSON_NONE)
            return schema;
        schema = next;
    }
    return schema;
}

static bool type_is(struct json schema, const char *name)
{
    struct json t = json_get(schema, "type");
    if (t.type == JSON_STRING)
        return named(t, name);
    struct json_walk w;
    struct json v;
    json_walk_init(&w, t);
    while (json_walk_next(&w, NULL, &v))
        if (!named(v, "null"))
            return named(v, name); /* the first that is not null counts */
    return false;
}

/* ---- values --------------------------------------------------------------- */

static bool listed(struct json list, struct span raw_key)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v))
        if (span_eq(json_inner(v), raw_key))
            return true;
    return false;
}

static void put_object(struct place *at, struct json schema)
{
    struct json required = json_get(schema, "required");
    struct json_walk w;
    struct json member;
    struct span key;
    bool first = true;
    json_walk_init(&w, json_get(schema, "properties"));
    put_text(at->out, "{");
    while (json_walk_next(&w, &key, &member)) {
        bool wanted = required.type == JSON_ARRAY ? listed(required, key) : at->depth <= SCHEMA_DEPTH_OPTIONAL;
        if (!wanted)
            continue;
        put_text(at->out, first ? "\"" : ",\"");
        put_span(at->out, key); /* raw: its escapes are as they were */
        put_text(at->out, "\":");
        put_value(at, member, key);
        first = false;
    }
    put_text(at->out, "}");
}

static void put_array(struct place *at, struct json schema)
{
    int64_t least = 1, most = INT64_MAX;
    struct json_walk w;
    struct json fixed = json_get(schema, "prefixItems"), items = json_get(schema, "items"), item;
    (void)json_i64(json_get(schema, "minItems"), &least);
    (void)json_i64(json_get(schema, "maxItems"), &most);
    if (items.type == JSON_ARRAY) { /* draft-07's tuple */
        fixed = items;
        items = (struct json){0};
    }
    int64_t count = least > 1 ? least : 1;
    if (count > most)
        count = most < 0 ? 0 : most;
    if (count > 100)
        count = 100;
    if (at->depth > SCHEMA_DEPTH_OPTIONAL && least <= 0)
        count = 0;
    int64_t written = 0;
    put_text(at->out, "[");
    json_walk_init(&w, fixed);
    while (written < most && json_walk_next(&w, NULL, &item)) {
        put_text(at->out, written++ ? "," : "");
        put_value(at, item, SPAN_NONE);
    }
    while (written < count && (items.type == JSON_OBJECT || fixed.type == JSON_NONE)) {
        put_text(at->out, written++ ? "," : "");
        put_value(at, items, SPAN_NONE);
    }
    put_text(at->out, "]");
}

static void put_number(struct place *at, struct json schema, bool whole)
{
    double value = 1, bound, step = 0;
    if (json_f64(json_get(schema, "minimum"), &bound) && value < bound)
        value = bound;
    if (json_f64(json_get(schema, "exclusiveMinimum"), &bound) && value <= bound)
        value = whole ? (double)((int64_t)bound + 1) : bound + 0.5;
    if (json_f64(json_get(schema, "maximum"), &bound) && value > bound)
        value = bound;
    if (json_f64(json_get(schema, "exclusiveMaximum"), &bound) && value >= bound)
        value = whole ? (double)((int64_t)bound - 1) : bound - 0.5;
    if (json_f64(json_get(schema, "multipleOf"), &step) && step > 0 && value > -1e15 && value < 1e15) {
        double times = value / step;
        double up = (double)(int64_t)times;
        value = (up < times ? up + 1 : up) * step;
    }
    bool fits = value > -1e15 && value < 1e15;
    if (fits && (whole || value == (double)(int64_t)value))
        put_int(at->out, (int64_t)value);
    else
        put_printf(at->out, "%.17g", value);
}

static void put_line(struct place *at)
{
    struct buf text;
    buf_init(&text, 0);
    struct put line = put_into(&text);
    varied_put_line(&line, at->rnd);
    if (line.err == PD_OK)
        put_json(at->out, buf_span(&text));
    else
        at->out->err = line.err;
    buf_done(&text);
}

static void put_string(struct place *at, struct json schema, struct span name)
{
    static const struct {
        const char *format, *text;
    } formats[] = {
        {"date-time", "2026-01-02T03:04:05Z"},
        {"date", "2026-01-02"},
        {"time", "03:04:05Z"},
        {"duration", "P1D"},
        {"email", "a@example.com"},
        {"uri", "https://example.com/"},
        {"url", "https://example.com/"},
        {"uri-reference", "/example"},
        {"uuid", "00000000-0000-4000-8000-000000000000"},
        {"hostname", "example.com"},
        {"ipv4", "192.0.2.1"},
        {"ipv6", "2001:db8::1"},
        {"regex", "a+"},
        {"json-pointer", "/a"},
    };
    struct json format = json_get(schema, "format");
    for (size_t i = 0; format.type == JSON_STRING && i < sizeof(formats) / sizeof(formats[0]); i++)
        if (json_is(format, formats[i].format)) {
            put_printf(at->out, "\"%s\"", formats[i].text);
            return;
        }
    char text[256] = "sample";
    int64_t least = 0, most = -1;
    (void)json_i64(json_get(schema, "minLength"), &least);
    (void)json_i64(json_get(schema, "maxLength"), &most);
    if (at->rnd && most < 0 && least <= 0) {
        put_line(at);
        return;
    }
    bool plain = name.n > 0 && name.n < 40;
    for (size_t i = 0; i < name.n && plain; i++)
        plain = (unsigned char)name.p[i] >= 0x20 && (unsigned char)name.p[i] < 0x7f && name.p[i] != '\\' &&
                name.p[i] != '"';
    if (plain)
        snprintf(text, sizeof(text), "sample %.*s", SPAN_FMT(name));
    size_t n = strlen(text);
    while ((int64_t)n < least && n < sizeof(text) - 1)
        text[n++] = 'x';
    if (most >= 0 && (int64_t)n > most)
        n = (size_t)most;
    put_json(at->out, span_of(text, n));
}

static void put_value(struct place *at, struct json schema, struct span name)
{
    if (at->depth >= SCHEMA_DEPTH_MAX || at->left == 0) {
        put_text(at->out, "null");
        return;
    }
    at->depth++;
    at->left--;
    schema = settle(at, schema);
    struct json fixed = json_get(schema, "const");
    if (fixed.type == JSON_NONE)
        fixed = first_of(json_get(schema, "enum"));
    if (fixed.type != JSON_NONE)
        put_span(at->out, fixed.raw);
    else if (type_is(schema, "object") || json_get(schema, "properties").type == JSON_OBJECT)
        put_object(at, schema);
    else if (type_is(schema, "array") || json_get(schema, "items").type != JSON_NONE)
        put_array(at, schema);
    else if (type_is(schema, "integer"))
        put_number(at, schema, true);
    else if (type_is(schema, "number"))
        put_number(at, schema, false);
    else if (type_is(schema, "boolean"))
        put_text(at->out, "true");
    else if (named(json_get(schema, "type"), "null"))
        put_text(at->out, "null");
    else
        put_string(at, schema, name);
    at->depth--;
}

void schema_put_varied(struct put *out, struct json schema, struct rnd *rnd)
{
    struct place at = {out, schema, 0, SCHEMA_VALUES_MAX, rnd};
    if (schema.type != JSON_OBJECT) {
        put_text(out, "{}");
        return;
    }
    put_value(&at, schema, SPAN_NONE);
}

void schema_put_example(struct put *out, struct json schema)
{
    schema_put_varied(out, schema, NULL);
}
