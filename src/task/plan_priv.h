/* plan_priv.h - how a plan is read: text to a tree (parse/tree.h), members by tables (plan_member.c), tasks with what they need (plan.c). */
#ifndef PERDURE_TASK_PLAN_PRIV_H
#define PERDURE_TASK_PLAN_PRIV_H

#include "parse/put.h"
#include "parse/tree.h"
#include "task/plan.h"

struct plan_reader {
    const char *name;    /* "plan.yaml", for messages */
    struct arena *arena; /* of the plan */
    struct arena scratch;
    const struct plan_files *files; /* NULL: none */
    const struct node *defaults;    /* NULL: none */
    const struct plan *of;          /* a model made these tasks for it; NULL: they are a person's */
    bool no_programs;               /* nor may it make any: not as a check either */
    char *why;
    pd_err err; /* the first; PD_OK so far */
};
/* Keeps the first, and returns false always. */
bool plan_say(struct plan_reader *r, unsigned line, const char *fmt, ...) PD_PRINTF(3, 4);
bool plan_nomem(struct plan_reader *r);
/* For a name in a message: cut to what fits there. */
static inline struct span plan_short(struct span s)
{
    return span_upto(s, 60);
}

/* How a member is written, and what it becomes in the task's JSON. */
enum member_want {
    WANT_TEXT,     /* not empty */
    WANT_TEXT_ANY, /* may be empty */
    WANT_PROGRAM,  /* a text for sh -c, or a list of texts: program and arguments */
    WANT_TEXTS,    /* a text or a list of them; becomes a list */
    WANT_DURATION, /* becomes NAME_ms */
    WANT_MS,       /* the same, written as milliseconds */
    WANT_PINS,     /* files, or {file: SHA-256}; becomes the second */
    WANT_COUNT,
    WANT_NUMBER,
    WANT_BOOL,
    WANT_ENV,    /* a mapping of names to texts */
    WANT_SCHEMA, /* a mapping, or the name of a JSON file */
    WANT_WRITE,
    WANT_CHECKS,
    WANT_OUTPUT, /* what a check says of an output */
    WANT_KIND,
    WANT_NEEDS,
};
struct member {
    const char *name;
    enum member_want want;
    unsigned kinds;           /* bits of enum task_kind; 0: of all */
    bool shared;              /* may stand in `defaults` too */
    const char *least, *most; /* of a duration, count or number */
};
extern const struct member plan_members[];
extern const unsigned plan_members_count;
const struct member *plan_member_of(struct span name);

/* The value of a member, as JSON behind its name: `,"timeout_ms":600000`. `what` is for messages: "task \"x\": timeout". */
bool plan_put_member(struct plan_reader *r, const struct member *m, const struct node *n, const char *what,
                     struct put *out);
/* A name of this mapping that is none of the words, or stands there twice: said, with what was meant. */
bool plan_names_fine(struct plan_reader *r, const struct node *map, const char *what, const char *const *words,
                     unsigned count);
const struct node *plan_get(const struct node *map, const char *name);
bool plan_duration(struct plan_reader *r, const struct node *n, const char *what, const char *least,
                   const char *most, uint64_t *ret);
bool plan_count(struct plan_reader *r, const struct node *n, const char *what, uint64_t least, uint64_t most,
                uint64_t *ret);
bool plan_bool(struct plan_reader *r, const struct node *n, const char *what, bool *ret);
/* Any value as JSON: what is not in quotes and looks like a number, true, false or null is one. */
void plan_put_node(struct put *out, const struct node *n);
/* Dollars as written, in picodollars. */
bool plan_dollars(struct span text, uint64_t *ret);

#endif
