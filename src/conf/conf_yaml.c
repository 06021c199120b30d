/* YAML as a tree with line numbers, from libyaml's events. Only what a config needs: one document, names that are plain
 * text, no tags. Aliases are pointers into the tree, counted as if they were written out, so a bomb of them is refused
 * before anyone walks it. */
#include "conf/conf_priv.h"

#include <yaml.h>

struct anchor {
    const char *name;
    struct node *node; /* NULL while its value is being read: an alias to it there would be a circle */
};

struct yaml {
    struct conf_reader *r;
    yaml_parser_t parser;
    struct span text;
    struct anchor anchors[CONF_ANCHORS_MAX];
    unsigned anchors_count;
    unsigned values; /* of the whole file so far */
    bool failed;
};

static struct node *fail(struct yaml *y)
{
    y->failed = true;
    return NULL;
}

static struct node *fail_nomem(struct yaml *y)
{
    y->r->nomem = true;
    return fail(y);
}

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
        conf_error(y->r, line, "not YAML: %.*s%s", SPAN_FMT(problem), remedy(problem));
        return;
    }
    unsigned line = (unsigned)p->problem_mark.line + 1, column = (unsigned)p->problem_mark.column + 1;
    const char *what =
        indented_with_tab(line_of(y->text, line)) ? "; indent with spaces, YAML takes no tabs" : remedy(problem);
    conf_error(y->r, line, "column %u: not YAML: %.*s%s", column, SPAN_FMT(problem), what);
}

static bool next_event(struct yaml *y, yaml_event_t *ret)
{
    if (yaml_parser_parse(&y->parser, ret))
        return true;
    if (y->parser.error == YAML_MEMORY_ERROR)
        y->r->nomem = true;
    else
        say_syntax(y);
    y->failed = true;
    return false;
}

static unsigned line_at(const yaml_event_t *ev)
{
    return (unsigned)ev->start_mark.line + 1;
}

/* Counts what this value, written out, adds to the file. */
static bool counted(struct yaml *y, unsigned values, unsigned line)
{
    if (values <= CONF_VALUES_MAX - y->values) {
        y->values += values;
        return true;
    }
    conf_error(y->r, line,
               "more than %d values, those that aliases repeat counted: this is no config that anyone reads; make "
               "it smaller",
               CONF_VALUES_MAX);
    y->failed = true;
    return false;
}

static struct node *new_node(struct yaml *y, enum node_kind kind, unsigned line)
{
    if (!counted(y, 1, line))
        return NULL;
    struct node *n = arena_zalloc(&y->r->scratch, sizeof(*n));
    if (!n)
        return fail_nomem(y);
    n->kind = kind;
    n->line = line;
    n->values = 1;
    return n;
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
    struct node *n = new_node(y, is_null(ev, text) ? NODE_NULL : NODE_SCALAR, line_at(ev));
    if (!n)
        return NULL;
    const char *copy = arena_strndup(&y->r->scratch, text.p, text.n);
    if (!copy)
        return fail_nomem(y);
    n->text = span_of(copy, text.n);
    return n;
}

static struct node *alias(struct yaml *y, const yaml_event_t *ev)
{
    const char *name = (const char *)ev->data.alias.anchor;
    for (unsigned i = y->anchors_count; i-- > 0;) {
        struct node *n = y->anchors[i].node;
        if (strcmp(y->anchors[i].name, name) != 0)
            continue;
        if (n)
            return counted(y, n->values, line_at(ev)) ? n : NULL;
        conf_error(y->r, line_at(ev), "*%s stands within the value that it names: that has no end", name);
        return fail(y);
    }
    conf_error(y->r, line_at(ev), "*%s names no anchor above: write &%s before the value that it repeats", name,
               name);
    return fail(y);
}

/* Room for the anchor's node; *ret NULL when there is no anchor. */
static bool new_anchor(struct yaml *y, const yaml_char_t *name, unsigned line, struct anchor **ret)
{
    *ret = NULL;
    if (!name)
        return true;
    if (y->anchors_count == CONF_ANCHORS_MAX) {
        conf_error(y->r, line, "more than %d anchors: write the values out", CONF_ANCHORS_MAX);
        y->failed = true;
        return false;
    }
    struct anchor *a = &y->anchors[y->anchors_count];
    a->node = NULL;
    a->name = arena_strndup(&y->r->scratch, (const char *)name, strlen((const char *)name));
    if (!a->name) {
        fail_nomem(y);
        return false;
    }
    y->anchors_count++;
    *ret = a;
    return true;
}

static bool add_entry(struct yaml *y, struct node *to, struct node *key, struct node *value)
{
    if (to->entries == CONF_ENTRIES_MAX) {
        conf_error(y->r, value->line, "more than %d entries in one place", CONF_ENTRIES_MAX);
        y->failed = true;
        return false;
    }
    struct entry *e = arena_zalloc(&y->r->scratch, sizeof(*e));
    if (!e) {
        fail_nomem(y);
        return false;
    }
    e->key = key;
    e->value = value;
    if (to->last)
        to->last->next = e;
    else
        to->first = e;
    to->last = e;
    to->entries++;
    to->values += (key ? key->values : 0) + value->values;
    return true;
}

static struct node *value_of(struct yaml *y, yaml_event_t *ev, unsigned depth);

/* The next event as a value. NULL with y->failed unset: the list or mapping ends here. */
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
            conf_error(y->r, key->line,
                       "a %s stands where a name is expected: a '{' or '[' is a value; put quotes around text",
                       conf_kind_name(key->kind));
            y->failed = true;
            return false;
        }
        struct node *value = next_value(y, depth);
        if (!value || !add_entry(y, n, key, value))
            return false;
    }
    return !y->failed;
}

static bool fill_list(struct yaml *y, struct node *n, unsigned depth)
{
    struct node *value;
    while ((value = next_value(y, depth)) != NULL)
        if (!add_entry(y, n, NULL, value))
            return false;
    return !y->failed;
}

static struct node *collection(struct yaml *y, const yaml_event_t *ev, enum node_kind kind, unsigned depth)
{
    if (depth == CONF_DEPTH_MAX) {
        conf_error(y->r, line_at(ev), "lists and mappings are nested more than %d deep", CONF_DEPTH_MAX);
        return fail(y);
    }
    struct node *n = new_node(y, kind, line_at(ev));
    if (!n)
        return NULL;
    bool fine = kind == NODE_MAP ? fill_map(y, n, depth + 1) : fill_list(y, n, depth + 1);
    return fine ? n : NULL;
}

static struct node *tagless(struct yaml *y, const yaml_char_t *tag, const yaml_char_t *anchor_name,
                            yaml_event_t *ev, enum node_kind kind, unsigned depth)
{
    if (tag && strcmp((const char *)tag, "!") != 0) {
        conf_error(y->r, line_at(ev), "tags such as !!str are not supported: write the value alone");
        return fail(y);
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
            if (y->values == 0)
                return true;
            conf_error(y->r, line, "a second document begins here: a config is one; remove the \"---\"");
            y->failed = true;
            return false;
        }
    }
}

static struct node *document(struct yaml *y)
{
    bool over;
    if (!to_document(y, &over)) {
        if (over)
            conf_error(y->r, 0,
                       "the file is empty: write at least `listen: 127.0.0.1:8080`, or start without a file");
        return NULL;
    }
    struct node *root = next_value(y, 0);
    if (!root || y->failed)
        return NULL;
    to_document(y, &over);
    return over ? root : NULL;
}

struct node *conf_yaml(struct conf_reader *r, struct span text)
{
    struct yaml *y = arena_zalloc(&r->scratch, sizeof(*y));
    if (!y || !yaml_parser_initialize(&y->parser)) {
        r->nomem = true;
        return NULL;
    }
    y->r = r;
    y->text = text;
    yaml_parser_set_input_string(&y->parser, (const unsigned char *)(text.p ? text.p : ""), text.n);
    struct node *root = document(y);
    yaml_parser_delete(&y->parser);
    return root;
}
