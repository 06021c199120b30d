/* ask.h - a running perdure, asked over HTTP: what the commands share that show or change something of one.
 *
 * One question at a time, from a loop of its own. What is wrong is said on stderr in one sentence with a remedy, once. */
#ifndef PERDURE_APP_ASK_H
#define PERDURE_APP_ASK_H

#include "base/buf.h"

enum {
    ASK_URL_MAX = 1000,
    ASK_BASE_MAX = 200,
    ASK_PATH_MAX = 1500,
    ASK_MS = 30 * 1000,
    ASK_ANSWER_MAX = 256 << 20
};
#define ASK_URL_DEFAULT "http://127.0.0.1:8080"

/* Where it runs. */
struct ask_where {
    const char *command;      /* "perdure sessions": what messages begin with */
    char url[ASK_URL_MAX];    /* scheme, host and port */
    char base[ASK_BASE_MAX];  /* the path before /api */
    const char *key;          /* NULL: none is sent */
    const char *key_variable; /* that it stands in: no program that is started is to have it; NULL: none */
    bool said;                /* by --url */
};
void ask_init(struct ask_where *a, const char *command);
/* "127.0.0.1:8080", "http://host/v1/": what a client was given will do. False: not understood. */
bool ask_url(struct ask_where *a, const char *text);
/* Where nobody has said it: where the process serves that holds the state folder of this configuration (as load_config()), if one does. */
void ask_find(struct ask_where *a, const char *config);
/* The variable that holds an admin key. False: it is not set. */
bool ask_key_env(struct ask_where *a, const char *variable);

struct ask_question {
    const char *method; /* NULL: GET */
    const char *path;   /* from /api on */
    struct span body;   /* JSON; empty: none */
    const char *key;    /* Idempotency-Key; NULL: none */
    uint64_t limit_ms;  /* until the answer is there; 0: ASK_MS */
    pd_err (*piece)(
        void *ctx,
        struct span bytes); /* NULL: the body is collected; else of a 2xx it comes in pieces, as it does */
    void *ctx;
};
struct ask_answer {
    int status; /* 0: no answer */
    pd_err err;
    char why[200];
    struct buf body;
};
/* What came is in *ret, whose body is the caller's (buf_done()). */
void ask(const struct ask_where *a, const struct ask_question *q, struct ask_answer *ret);
/* The same; anything but a 2xx is said on stderr: false then, and nothing is left in ret->body. */
bool ask_well(const struct ask_where *a, const struct ask_question *q, struct ask_answer *ret);
/* ask_well() of what must be a JSON object. */
bool ask_json(const struct ask_where *a, const struct ask_question *q, struct ask_answer *ret);
/* $CHECKPOINT_INTERVAL, in seconds (g); `without` where it is not set, or is none. */
uint64_t ask_checkpoint_ms(uint64_t without);
/* Says that what answered is no perdure. */
void ask_no_perdure(const struct ask_where *a);

/* ---- options, as all these commands have them ---- */
/* "--url URL", "--url=URL". True: argv[*i] is this option, *ret its value (NULL: it is missing), *i at its last word. */
bool ask_option(int argc, char **argv, int *i, const char *name, const char **ret);
/* "10m", within bounds that are written likewise; in milliseconds. False: not a time (NULL neither), or out of bounds. */
bool ask_time(const char *text, const char *least, const char *most, uint64_t *ret);
/* --url and --key-env. 0: not one of them; 1: taken; 2: wrong, and said. */
int ask_where_option(struct ask_where *a, int argc, char **argv, int *i);

#endif
