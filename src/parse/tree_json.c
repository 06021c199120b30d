/* JSON as the same tree that YAML becomes. */
#include "parse/json.h"
#include "parse/tree_priv.h"

struct reading {
    struct tree_build b;
    struct arena scratch; /* of a text with escapes, until it is copied */
    const char *counted;  /* lines are counted up to here */
    unsigned line;
};

static unsigned line_at(struct reading *r, const char *p)
{
    const char *nl;
    while (r->counted < p && (nl = memchr(r->counted, '\n', (size_t)(p - r->counted)))) {
        r->line++;
        r->counted = nl + 1;
    }
    return r->line;
}

static struct node *fail_syntax(struct reading *r, const char *at)
{
    return tree_fail(&r->b, line_at(r, at),
                     "not JSON: a quote, a comma or a bracket is missing, or there is one too many");
}

static struct node *text_node(struct reading *r, struct json v, unsigned line)
{
    struct span text;
    pd_err e = json_text(v, &r->scratch, &text);
    struct node *n = e == PD_NOMEM ? tree_nomem(&r->b)
                     : e           ? fail_syntax(r, v.raw.p)
                                   : tree_scalar(&r->b, NODE_SCALAR, text, true, line);
    arena_reset(&r->scratch);
    return n;
}

static struct node *value_node(struct reading *r, struct json v, unsigned depth);

static struct node *walk(struct reading *r, struct json v, unsigned depth, unsigned line)
{
    if (depth == r->b.r->rules->depth)
        return tree_fail(&r->b, line, "lists and mappings are nested more than %u deep", depth);
    struct node *n = tree_node(&r->b, v.type == JSON_OBJECT ? NODE_MAP : NODE_LIST, line);
    struct json_walk w;
    struct json item;
    struct span key;
    json_walk_init(&w, v);
    while (n && json_walk_next(&w, &key, &item)) {
        struct node *name = NULL;
        if (v.type == JSON_OBJECT) {
            struct json quoted = {JSON_STRING, span_of(key.p - 1, key.n + 2)};
            if (!(name = text_node(r, quoted, line_at(r, key.p))))
                return NULL;
        }
        struct node *value = value_node(r, item, depth + 1);
        if (!value || !tree_add(&r->b, n, name, value))
            return NULL;
    }
    return n && w.err ? fail_syntax(r, w.rest.p ? w.rest.p : v.raw.p) : n;
}

static struct node *value_node(struct reading *r, struct json v, unsigned depth)
{
    unsigned line = line_at(r, v.raw.p);
    switch (v.type) {
    case JSON_NULL:
        return tree_scalar(&r->b, NODE_NULL, v.raw, false, line);
    case JSON_BOOL:
    case JSON_NUMBER:
        return tree_scalar(&r->b, NODE_SCALAR, v.raw, false, line);
    case JSON_STRING:
        return text_node(r, v, line);
    case JSON_ARRAY:
    case JSON_OBJECT:
        return walk(r, v, depth, line);
    case JSON_NONE:
        break;
    }
    return fail_syntax(r, v.raw.p);
}

struct node *tree_json(struct tree_reader *reader, struct span text)
{
    struct reading r = {.b = {.r = reader}, .counted = text.p, .line = 1};
    struct json v;
    if (json_first(text, &v, NULL) != PD_OK)
        return fail_syntax(&r, text.p);
    arena_init(&r.scratch, 0, 0);
    struct node *n = value_node(&r, v, 0); /* says where it fails, which the check of the whole does not */
    arena_done(&r.scratch);
    return n && json_check(text) != PD_OK ? fail_syntax(&r, text.p) : n;
}
