/* YAML, from libyaml's events. */
#include "parse/tree_priv.h"

#include <yaml.h>

struct anchor {
    const char *name;
    struct node *node; /* NULL while its value is being read: an alias to it there would be a circle */
};

struct yaml {
    struct tree_build b;
    yaml_parser_t parser;
    struct span text;
    struct anchor *anchors; /* room for rules->anchors, made with the first */
    unsigned anchors_count;
};

static struct span line_of(struct span text, unsigned line)
{
    struct span s = SPAN_NONE;
    for (unsigned i = 0; i < line && (i == 0 || text.p); i++)
        s = span_cut(&text, '\n');
    return s;
}

static bool indented_with_tab(struct span line)
{
    for (size_t i = 0; i < line.n && (line.p[i] == ' ' || line.p[i] == '\t'); i++)
        if (line.p[i] == '\t')
            return true;
    return false;
}

/* libyaml's words are for those who know its insides; these are for those who wrote the file. */
static const char *remedy(struct span problem)
{
    static const struct {
        const char *problem, *remedy;
    } rows[] = {
        {"mapping values are not allowed",
         "; put quotes around a value with \": \" in it, and check the indentation"},
        {"did not find expected key", "; check that the indentation is the same as that of its neighbours"},
        {"did not find expected '-' indicator",
         "; check that the indentation is the same as that of its neighbours"},
        {"could not find expected ':'", "; write \"name: value\""},
        {"did not find expected ',' or '}'", "; a '{' is not closed by a '}', or a ',' is missing"},
        {"did not find expected ',' or ']'", "; a '[' is not closed by a ']', or a ',' is missing"},
        {"found unexpected end of stream", "; a quote is not closed"},
        {"found character that cannot start any token", "; put quotes around a value that begins with @, ` or %"},
        {"found unknown escape character",
         "; write \\\\ for a backslash within double quotes, or use single quotes"},
        {"control characters are not allowed", "; remove the byte"},
        {"invalid", "; save the file as UTF-8"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_has(problem, rows[i].problem))
            return rows[i].remedy;
    return "";
}

static void say_syntax(struct yaml *y)
{
    const yaml_parser_t *p = &y->parser;
    struct span problem = span_str(p->problem ? p->problem : "not YAML");
    if (p->error == YAML_READER_ERROR) {
        unsigned line = 1;
        for (size_t i = 0; i < p->problem_offset && i < y->text.n; i++)
            line += y->text.p[i] == '\n';
        tree_fail(&y->b, line, "not YAML: %.*s%s", SPAN_FMT(problem), remedy(problem));
        return;
    }
    unsigned line = (unsigned)p->problem_mark.line + 1, column = (unsigned)p->problem_mark.column + 1;
    const char *what =
        indented_with_tab(line_of(y->text, line)) ? "; indent with spaces, YAML takes no tabs" : remedy(problem);
    tree_fail(&y->b, line, "column %u: not YAML: %.*s%s", column, SPAN_FMT(problem), what);
}

static bool next_event(struct yaml *y, yaml_event_t *ret)
{
    if (yaml_parser_parse(&y->parser, ret))
        return true;
    if (y->parser.error == YAML_MEMORY_ERROR)
        tree_nomem(&y->b);
    else
        say_syntax(y);
    return false;
}

static unsigned line_at(const yaml_event_t *ev)
{
    return (unsigned)ev->start_mark.line + 1;
}

static bool is_null(const yaml_event_t *ev, struct span text)
{
    if (ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    return text.n == 0 || span_is(text, "~") || span_is(text, "null") || span_is(text, "Null") ||
           span_is(text, "NULL");
}

static struct node *scalar(struct yaml *y, const yaml_event_t *ev)
{
    struct span text = span_of((const char *)ev->data.scalar.value, ev->data.scalar.length);
    return tree_scalar(&y->b, is_null(ev, text) ? NODE_NULL : NODE_SCALAR, text,
                       ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE, line_at(ev));
}

static struct node *alias(struct yaml *y, const yaml_event_t *ev)
{
    const char *name = (const char *)ev->data.alias.anchor;
    for (unsigned i = y->anchors_count; i-- > 0;) {
        struct node *n = y->anchors[i].node;
        if (strcmp(y->anchors[i].name, name) != 0)
            continue;
        if (n)
            return tree_counted(&y->b, n->values, line_at(ev)) ? n : NULL;
        return tree_fail(&y->b, line_at(ev), "*%s stands within the value that it names: that has no end", name);
    }
    return tree_fail(&y->b, line_at(ev), "*%s names no anchor above: write &%s before the value that it repeats",
                     name, name);
}

/* Room for the anchor's node; *ret NULL when there is no anchor. */
static bool new_anchor(struct yaml *y, const yaml_char_t *name, unsigned line, struct anchor **ret)
{
    *ret = NULL;
    if (!name)
        return true;
    if (y->anchors_count == y->b.r->rules->anchors) {
        tree_fail(&y->b, line, "more than %u anchors: write the values out", y->b.r->rules->anchors);
        return false;
    }
    if (!y->anchors && !(y->anchors = arena_zalloc(y->b.r->arena, y->b.r->rules->anchors * sizeof(*y->anchors)))) {
        tree_nomem(&y->b);
        return false;
    }
    struct anchor *a = &y->anchors[y->anchors_count];
    a->node = NULL;
    a->name = arena_strndup(y->b.r->arena, (const char *)name, strlen((const char *)name));
    if (!a->name) {
        tree_nomem(&y->b);
        return false;
    }
    y->anchors_count++;
    *ret = a;
    return true;
}

static struct node *value_of(struct yaml *y, yaml_event_t *ev, unsigned depth);

/* The next event as a value. NULL with y->b.failed unset: the list or mapping ends here. */
static struct node *next_value(struct yaml *y, unsigned depth)
{
    yaml_event_t ev;
    if (!next_event(y, &ev))
        return NULL;
    struct node *n = value_of(y, &ev, depth);
    yaml_event_delete(&ev);
    return n;
}

static bool fill_map(struct yaml *y, struct node *n, unsigned depth)
{
    struct node *key;
    while ((key = next_value(y, depth)) != NULL) {
        if (key->kind == NODE_LIST || key->kind == NODE_MAP) {
            tree_fail(&y->b, key->line,
                      "a %s stands where a name is expected: a '{' or '[' is a value; put quotes around text",
                      node_kind_name(key->kind));
            return false;
        }
        struct node *value = next_value(y, depth);
        if (!value || !tree_add(&y->b, n, key, value))
            return false;
    }
    return !y->b.failed;
}

static bool fill_list(struct yaml *y, struct node *n, unsigned depth)
{
    struct node *value;
    while ((value = next_value(y, depth)) != NULL)
        if (!tree_add(&y->b, n, NULL, value))
            return false;
    return !y->b.failed;
}

static struct node *collection(struct yaml *y, const yaml_event_t *ev, enum node_kind kind, unsigned depth)
{
    if (depth == y->b.r->rules->depth) {
        return tree_fail(&y->b, line_at(ev), "lists and mappings are nested more than %u deep",
                         y->b.r->rules->depth);
    }
    struct node *n = tree_node(&y->b, kind, line_at(ev));
    if (!n)
        return NULL;
    bool fine = kind == NODE_MAP ? fill_map(y, n, depth + 1) : fill_list(y, n, depth + 1);
    return fine ? n : NULL;
}

static struct node *tagless(struct yaml *y, const yaml_char_t *tag, const yaml_char_t *anchor_name,
                            yaml_event_t *ev, enum node_kind kind, unsigned depth)
{
    if (tag && strcmp((const char *)tag, "!") != 0) {
        return tree_fail(&y->b, line_at(ev), "tags such as !!str are not supported: write the value alone");
    }
    struct anchor *anchor;
    if (!new_anchor(y, anchor_name, line_at(ev), &anchor))
        return NULL;
    struct node *n = kind == NODE_SCALAR ? scalar(y, ev) : collection(y, ev, kind, depth);
    if (n && anchor)
        anchor->node = n;
    return n;
}

static struct node *value_of(struct yaml *y, yaml_event_t *ev, unsigned depth)
{
    if (ev->type == YAML_ALIAS_EVENT)
        return alias(y, ev);
    if (ev->type == YAML_SCALAR_EVENT)
        return tagless(y, ev->data.scalar.tag, ev->data.scalar.anchor, ev, NODE_SCALAR, depth);
    if (ev->type == YAML_SEQUENCE_START_EVENT)
        return tagless(y, ev->data.sequence_start.tag, ev->data.sequence_start.anchor, ev, NODE_LIST, depth);
    if (ev->type == YAML_MAPPING_START_EVENT)
        return tagless(y, ev->data.mapping_start.tag, ev->data.mapping_start.anchor, ev, NODE_MAP, depth);
    return NULL; /* the end of a list or mapping */
}

/* Skips what stands around values. False: failed, or the stream is over (*ret_over). */
static bool to_document(struct yaml *y, bool *ret_over)
{
    *ret_over = false;
    for (;;) {
        yaml_event_t ev;
        if (!next_event(y, &ev))
            return false;
        yaml_event_type_t type = ev.type;
        unsigned line = line_at(&ev);
        yaml_event_delete(&ev);
        if (type == YAML_STREAM_END_EVENT) {
            *ret_over = true;
            return false;
        }
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (y->b.values == 0)
                return true;
            tree_fail(&y->b, line, "a second document begins here: a %s is one; remove the \"---\"",
                      y->b.r->rules->what);
            return false;
        }
    }
}

static struct node *document(struct yaml *y)
{
    bool over;
    if (!to_document(y, &over)) {
        if (over)
            tree_fail(&y->b, 0, "the file is empty: %s", y->b.r->rules->empty);
        return NULL;
    }
    struct node *root = next_value(y, 0);
    if (!root || y->b.failed)
        return NULL;
    to_document(y, &over);
    return over ? root : NULL;
}

struct node *tree_yaml(struct tree_reader *r, struct span text)
{
    struct yaml *y = arena_zalloc(r->arena, sizeof(*y));
    if (!y || !yaml_parser_initialize(&y->parser)) {
        r->nomem = true;
        return NULL;
    }
    y->b.r = r;
    y->text = text;
    yaml_parser_set_input_string(&y->parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
    struct node *root = document(y);
    yaml_parser_delete(&y->parser);
    return root;
}
