/* credential.h - where the secret for a request comes from, when it is not a key that stands in the config.
 *
 * AWS: keys, profiles, a container's endpoint, an EC2 machine's role; or a bearer key. Google: a service account, a user of gcloud,
 * the metadata server. What expires is fetched anew CREDENTIAL_AHEAD_MS before it does, by the request that comes next, which
 * still gets the old one; one fetch at a time, whoever asks. After a failure nothing is fetched for a moment that grows up to
 * CREDENTIAL_HOLD_MOST_MS.
 *
 *   NONE  --get-->  FETCHING  --known-->  READY  --almost expired: fetched beside-->  READY
 *                             --failed--> FAILED --hold is over: get-->               FETCHING
 *
 * Nothing blocks the loop: files are read and tokens signed on another thread, endpoints are asked with the loop's own client, which
 * has deadlines, TLS and proxies already. (libcurl would be a second HTTP client for a handful of requests an hour.)
 *
 * Ownership: a credential is one loop's. It copies what its source names. The environment is read when something is fetched.
 * No secret is in any message or log line. */
#ifndef PERDURE_CREDENTIAL_CREDENTIAL_H
#define PERDURE_CREDENTIAL_CREDENTIAL_H

#include "base/err.h"
#include "base/list.h"
#include "conf/conf.h"
#include "loop/loop.h"
#include "net/client.h"
#include "provider/sigv4.h"

enum {
    CREDENTIAL_AHEAD_MS =
        5 * 60 * 1000, /* fetched anew so long before it expires; of a shorter life, at half of it */
    CREDENTIAL_JITTER_MS = 60 * 1000, /* up to so much sooner, so that not all ask at once */
    CREDENTIAL_MARGIN_MS = 10 * 1000, /* not used any more so long before it expires */
    CREDENTIAL_HOLD_LEAST_MS = 1000,
    CREDENTIAL_HOLD_MOST_MS = 30 * 1000,
    CREDENTIAL_RENEW_LEAST_MS = 10 * 1000, /* refused ones are not fetched anew sooner than this */
    CREDENTIAL_WHY_BYTES = 800,
    CREDENTIAL_FILE_MAX = 1 << 20,    /* of any file that is read */
    CREDENTIAL_ANSWER_MAX = 64 * 1024 /* of what an endpoint answers */
};

/* What it needs of its surroundings; copied. */
struct credential_setup {
    struct loop *loop;
    struct client *client;
    conf_env_fn *env; /* conf_getenv, or a test's */
    void *env_ctx;
    uint64_t (*wall_ms)(void *ctx); /* NULL: clock_wall_ms */
    void *wall_ctx;
};

enum credential_cloud { CREDENTIAL_AWS, CREDENTIAL_GOOGLE };

/* Which one it is. Strings may be NULL, and live only as long as the call of credential_new. */
struct credential_source {
    const char *name; /* of the provider, for the log */
    enum credential_cloud cloud;
    const char *key; /* a bearer key: nothing is fetched */
    struct conf_cloud given;
};
/* That of a provider whose preset says AUTH_SIGV4 or AUTH_GOOGLE; false for others. Regions of one group have the same. */
bool credential_source_of(const struct conf_provider *p, struct credential_source *ret);

struct credential;
struct credential *credential_new(const struct credential_setup *setup,
                                  const struct credential_source *source) PD_CHECKED;
/* Stops what is under way; waiters are forgotten. May be called in a waiter's callback. NULL is fine; returns NULL. */
struct credential *credential_free(struct credential *c);

/* Spans live until control returns to the loop. */
struct credential_view {
    struct span bearer; /* "Authorization: Bearer " and this; empty: sign with `aws` */
    struct sigv4_credentials aws;
    struct sigv4_key *key;     /* for sigv4_sign() with `aws` */
    struct span project;       /* Google: of the environment or the file; may be empty */
    struct span quota_project; /* Google: to be sent as x-goog-user-project; may be empty */
    const char *source;        /* "AWS_ACCESS_KEY_ID", "profile \"x\" of /home/u/.aws/credentials" */
    uint64_t expires_ms;       /* since 1970; CLOCK_NEVER */
    uint64_t generation;       /* another number with each set */
    const char *why;           /* FAILED: a sentence for the user; else "" */
};
enum credential_state { CREDENTIAL_READY, CREDENTIAL_WAIT, CREDENTIAL_FAILED };
/* WAIT: something is being fetched; credential_wait() tells when to ask again. */
enum credential_state credential_get(struct credential *c, struct credential_view *ret);

/* One who waits; storage is the caller's. `fn` is called once, on the loop, never from inside another call of this header: then
 * credential_get() says READY or FAILED. Only after it said WAIT. */
struct credential_waiter {
    struct list node;
    void (*fn)(void *ctx);
    void *ctx;
};
void credential_wait(struct credential *c, struct credential_waiter *w, void (*fn)(void *ctx), void *ctx);
void credential_unwait(struct credential_waiter *w); /* not waiting is fine; so is one that is all zeroes */

/* The provider refused this set (401, or 403 that says expired or invalid): the next get fetches another. */
void credential_refused(struct credential *c, uint64_t generation);

#endif
