/* tree_priv.h - what both readers of trees (tree_yaml.c, tree_json.c) do alike: nodes, and what is counted of them. */
#ifndef PERDURE_PARSE_TREE_PRIV_H
#define PERDURE_PARSE_TREE_PRIV_H

#include "parse/tree.h"

struct tree_build {
    struct tree_reader *r;
    unsigned values; /* of the whole text so far */
    bool failed;
};
/* Both return NULL, as whoever fails does. */
void *tree_fail(struct tree_build *b, unsigned line, const char *fmt, ...) PD_PRINTF(3, 4);
void *tree_nomem(struct tree_build *b);
/* Counts what this value, written out, adds to the text. */
bool tree_counted(struct tree_build *b, unsigned values, unsigned line);
struct node *tree_node(struct tree_build *b, enum node_kind kind, unsigned line);
/* `text` is copied. */
struct node *tree_scalar(struct tree_build *b, enum node_kind kind, struct span text, bool quoted, unsigned line);
bool tree_add(struct tree_build *b, struct node *to, struct node *key, struct node *value);

#endif
