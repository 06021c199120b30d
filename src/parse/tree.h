/* tree.h - YAML, or JSON, as a tree with line numbers: for files that people write and that are to be answered with
 * "line 12: ...".
 *
 * Of YAML what such files need: one document, names that are plain text, no tags. Aliases are pointers into the tree, counted as if they
 * were written out, so a bomb of them is refused before anyone walks it.
 *
 * Ownership: all of the tree is in the reader's arena. */
#ifndef PERDURE_PARSE_TREE_H
#define PERDURE_PARSE_TREE_H

#include "base/arena.h"

enum node_kind { NODE_NULL, NODE_SCALAR, NODE_LIST, NODE_MAP };
const char *node_kind_name(enum node_kind k);

struct entry;
struct node {
    enum node_kind kind;
    bool quoted;                /* a scalar that stands in quotes or in a block: a text whatever it looks like */
    unsigned line;              /* from 1 */
    struct span text;           /* of a scalar, as written, ends in NUL */
    struct entry *first, *last; /* of a list or a mapping */
    unsigned entries;
    unsigned values; /* this one and all below, aliases counted at each use */
};
struct entry {
    struct entry *next;
    struct node *key; /* a scalar; NULL in a list */
    struct node *value;
};

/* Limits, so that neither aliases nor long lists make work that grows faster than the text. */
struct tree_rules {
    const char *what;  /* "config": what the text is, in messages */
    const char *empty; /* what to do when there is nothing in it */
    unsigned depth;    /* lists and mappings within each other */
    unsigned values;   /* in all of it, those that aliases repeat counted again */
    unsigned anchors;
    unsigned entries; /* in one mapping or list */
};
enum { TREE_WHY_BYTES = 512 };
struct tree_reader {
    const struct tree_rules *rules;
    struct arena *arena;
    /* What is wrong, one sentence; `line` 0: none. Called once. */
    void (*say)(void *ctx, unsigned line, const char *why);
    void *ctx;
    bool nomem; /* set when that was why */
};
/* NULL: it was said why, or nomem. */
struct node *tree_yaml(struct tree_reader *r, struct span text);
struct node *tree_json(struct tree_reader *r, struct span text);

#endif
