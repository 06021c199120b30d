/* OpenAPI's schemas, as Gemini's "parameters" and "responseSchema" are written, as JSON Schema. */
#include "dialect/gemini_priv.h"

/* How a member of a schema is carried over. */
enum carry { AS_IT_IS, LOWER, NUMBER, SCHEMA, SCHEMAS, NAMED_SCHEMAS, LEFT_OUT };

static const struct keyword {
    const char *name;
    enum carry carry;
    const char *written; /* NULL: as `name` */
} keywords[] = {
    {"type", LOWER, NULL},
    {"nullable", LEFT_OUT, NULL}, /* becomes a type */
    {"propertyOrdering", LEFT_OUT, NULL},
    {"properties", NAMED_SCHEMAS, NULL},
    {"patternProperties", NAMED_SCHEMAS, NULL},
    {"$defs", NAMED_SCHEMAS, NULL},
    {"defs", NAMED_SCHEMAS, "$defs"},
    {"ref", AS_IT_IS, "$ref"},
    {"items", SCHEMA, NULL},
    {"additionalProperties", SCHEMA, NULL},
    {"not", SCHEMA, NULL},
    {"anyOf", SCHEMAS, NULL},
    {"oneOf", SCHEMAS, NULL},
    {"allOf", SCHEMAS, NULL},
    {"prefixItems", SCHEMAS, NULL},
    {"minItems", NUMBER, NULL}, /* 64 bit numbers are strings in this API */
    {"maxItems", NUMBER, NULL},
    {"minLength", NUMBER, NULL},
    {"maxLength", NUMBER, NULL},
    {"minProperties", NUMBER, NULL},
    {"maxProperties", NUMBER, NULL},
};

static const struct keyword *keyword_of(struct span key)
{
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++)
        if (gemini_key(key, keywords[i].name))
            return &keywords[i];
    return NULL;
}

static void put_lower(struct put *p, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        put_span(p, span_of(&c, 1));
    }
}

static void put_type(struct put *p, struct json v, bool nullable)
{
    if (v.type != JSON_STRING) {
        put_span(p, v.raw); /* a list, as JSON Schema has it */
        return;
    }
    put_text(p, nullable ? "[\"" : "\"");
    put_lower(p, json_inner(v));
    put_text(p, nullable ? "\",\"null\"]" : "\"");
}

static void put_schemas(struct put *p, struct json list)
{
    struct json_walk w;
    struct json item;
    const char *sep = "[";
    json_walk_init(&w, list);
    for (; json_walk_next(&w, NULL, &item); sep = ",") {
        put_text(p, sep);
        gemini_put_schema(p, item);
    }
    put_text(p, *sep == '[' ? "[]" : "]");
}

static void put_named(struct put *p, struct json map)
{
    struct json_walk w;
    struct json item;
    struct span key;
    const char *sep = "{\"";
    json_walk_init(&w, map);
    for (; json_walk_next(&w, &key, &item); sep = ",\"") {
        put_text(p, sep);
        put_span(p, key);
        put_text(p, "\":");
        gemini_put_schema(p, item);
    }
    put_text(p, *sep == '{' ? "{}" : "}");
}

static void put_value(struct put *p, enum carry carry, struct json v, bool nullable)
{
    switch (carry) {
    case LOWER:
        put_type(p, v, nullable);
        return;
    case NUMBER:
        put_int(p, gemini_int(v, 0));
        return;
    case SCHEMA:
        gemini_put_schema(p, v);
        return;
    case SCHEMAS:
        if (v.type == JSON_ARRAY)
            put_schemas(p, v);
        break;
    case NAMED_SCHEMAS:
        if (v.type == JSON_OBJECT)
            put_named(p, v);
        break;
    case AS_IT_IS:
    case LEFT_OUT:
        break;
    }
    bool done = (carry == SCHEMAS && v.type == JSON_ARRAY) || (carry == NAMED_SCHEMAS && v.type == JSON_OBJECT);
    if (!done)
        put_span(p, v.raw);
}

static bool left_out(const struct keyword *k, struct json v)
{
    if (!k)
        return false;
    return k->carry == LEFT_OUT || (k->carry == LOWER && json_is(v, "TYPE_UNSPECIFIED"));
}

void gemini_put_schema(struct put *p, struct json schema)
{
    struct json_walk w;
    struct json v;
    struct span key;
    const char *sep = "{\"";
    if (schema.type != JSON_OBJECT) {
        put_span(p, schema.raw); /* true, false */
        return;
    }
    bool nullable = json_is_true(json_get(schema, "nullable"));
    json_walk_init(&w, schema);
    while (json_walk_next(&w, &key, &v)) {
        const struct keyword *k = keyword_of(key);
        if (left_out(k, v))
            continue;
        put_text(p, sep);
        if (k)
            put_text(p, k->written ? k->written : k->name);
        else
            put_span(p, key);
        put_text(p, "\":");
        put_value(p, k ? k->carry : AS_IT_IS, v, nullable);
        sep = ",\"";
    }
    put_text(p, *sep == '{' ? "{}" : "}");
}
