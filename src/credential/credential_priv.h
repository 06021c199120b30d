/* credential_priv.h - what the files of this room share: one errand, which fetches one set of credentials.
 *
 * An errand is a chain of steps. Each step ends in errand_offload(), errand_fetch(), errand_found() or errand_failed(), and after
 * any of them touches the errand no more: it may be gone. */
#ifndef PERDURE_CREDENTIAL_CREDENTIAL_PRIV_H
#define PERDURE_CREDENTIAL_CREDENTIAL_PRIV_H

#include "base/arena.h"
#include "credential/credential.h"

/* One set. Its strings are in its arena. */
struct credential_set {
    struct arena arena;
    struct span bearer;
    struct sigv4_credentials aws;
    struct sigv4_key key;
    struct span project, quota_project;
    const char *source;
    uint64_t expires_ms;
};
struct credential_set *credential_set_free(struct credential_set *s); /* NULL is fine; returns NULL */

struct errand;
typedef void errand_fn(struct errand *e);

struct errand {
    const struct credential_setup *setup;
    const struct credential_source
        *source; /* both the credential's: none where it is gone, so not to be used off the loop */
    void (*over)(struct errand *e, pd_err err); /* found or failed; the errand is the caller's again */
    void *owner;                                /* NULL: nobody waits for it any more */
    bool working;                               /* on another thread */
    struct arena arena;                         /* what it needs on its way */
    struct credential_set *set;                 /* what it makes */
    char why[CREDENTIAL_WHY_BYTES];
    errand_fn *work, *next;

    /* the exchange under way, and what it brought */
    struct exchange *exchange;
    struct origin *origin;
    struct timer timer;
    struct buf body;
    int status;
    int64_t skew_ms;
    pd_err err;
    char trouble[256];
    const char *label; /* as named in messages */

    /* what the source's own steps keep, in the arena */
    void *plan;
};

/* Begin the chain for a source; may be over when they return. */
errand_fn aws_begin, google_begin;

struct errand *errand_new(const struct credential_setup *setup, const struct credential_source *source,
                          void (*over)(struct errand *e, pd_err err), void *owner) PD_CHECKED;
/* Also while something is under way: what runs on another thread ends there unseen, and frees it. */
void errand_free(struct errand *e);

void errand_found(struct errand *e);
/* The sentence is kept up to CREDENTIAL_WHY_BYTES. */
void errand_failed(struct errand *e, pd_err err, const char *fmt, ...) PD_PRINTF(3, 4);
/* The same with what a step on another thread left in e->why. */
void errand_failed_as_said(struct errand *e, pd_err err);
void errand_nomem(struct errand *e);

/* `work` runs on another thread and may use the arena, the set, the plan and why; then `next` on the loop. */
void errand_offload(struct errand *e, errand_fn *work, errand_fn *next);

struct errand_request {
    const char *method;
    const char *url; /* up to its path, which may follow in `path` */
    const char *path;
    const struct http1_field *fields;
    unsigned fields_count;
    struct span body;    /* lives in the errand's arena */
    const char *label;   /* what messages call it; NULL: its URL */
    bool direct;         /* not through a proxy: an address of the machine itself */
    uint64_t timeout_ms; /* for all of it */
};
/* Then `next`, with e->err PD_OK and e->status and e->body, or an error and e->trouble. */
void errand_fetch(struct errand *e, const struct errand_request *rq, errand_fn *next);
/* Fails with what the last exchange brought: "LABEL answered 400 CODE: MESSAGE; the clock ...", or its trouble. */
void errand_refused(struct errand *e, struct span code, struct span message);
/* The same for an answer that is not what it should be. */
void errand_malformed(struct errand *e, const char *what);

/* ---- small things ---- */
const char *errand_env(const struct errand *e, const char *name); /* "" when not set */
uint64_t errand_wall_ms(const struct errand *e);
/* Copies into the set; false when out of memory. */
bool errand_keep(struct errand *e, struct span text, struct span *ret) PD_CHECKED;
/* Reads a whole file. On failure *ret_why is the reason as strerror() or "larger than ..." says it, in the arena or static.
 * PD_NOTFOUND: there is none; PD_IO, PD_TOOBIG, PD_NOMEM. Any thread. */
pd_err errand_read_file(const char *path, struct arena *a, struct span *ret, const char **ret_why) PD_CHECKED;

#endif
