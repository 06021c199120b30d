#include "parse/tree_priv.h"

#include <stdarg.h>
#include <stdio.h>

void *tree_fail(struct tree_build *b, unsigned line, const char *fmt, ...)
{
    char why[TREE_WHY_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    b->failed = true;
    b->r->say(b->r->ctx, line, why);
    return NULL;
}

void *tree_nomem(struct tree_build *b)
{
    b->r->nomem = true;
    b->failed = true;
    return NULL;
}

bool tree_counted(struct tree_build *b, unsigned values, unsigned line)
{
    const struct tree_rules *rules = b->r->rules;
    if (values <= rules->values - b->values) {
        b->values += values;
        return true;
    }
    tree_fail(b, line,
              "more than %u values, those that aliases repeat counted: this is no %s that anyone reads; make it "
              "smaller",
              rules->values, rules->what);
    return false;
}

struct node *tree_node(struct tree_build *b, enum node_kind kind, unsigned line)
{
    if (!tree_counted(b, 1, line))
        return NULL;
    struct node *n = arena_zalloc(b->r->arena, sizeof(*n));
    if (!n)
        return tree_nomem(b);
    n->kind = kind;
    n->line = line;
    n->values = 1;
    return n;
}

struct node *tree_scalar(struct tree_build *b, enum node_kind kind, struct span text, bool quoted, unsigned line)
{
    struct node *n = tree_node(b, kind, line);
    if (!n)
        return NULL;
    const char *copy = arena_strndup(b->r->arena, text.p, text.n);
    if (!copy)
        return tree_nomem(b);
    n->text = span_of(copy, text.n);
    n->quoted = quoted;
    return n;
}

bool tree_add(struct tree_build *b, struct node *to, struct node *key, struct node *value)
{
    if (to->entries == b->r->rules->entries) {
        tree_fail(b, value->line, "more than %u entries in one place", b->r->rules->entries);
        return false;
    }
    struct entry *e = arena_zalloc(b->r->arena, sizeof(*e));
    if (!e) {
        tree_nomem(b);
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

const char *node_kind_name(enum node_kind k)
{
    switch (k) {
    case NODE_NULL:
        return "nothing";
    case NODE_SCALAR:
        return "single value";
    case NODE_LIST:
        return "list";
    case NODE_MAP:
        return "mapping";
    }
    return "";
}
