/* sigv4.h - AWS Signature Version 4 in request headers.
 *
 * Pure: time, credentials and request are handed in, headers come out. Services other than S3 normalise the path and
 * encode the path as sent once more ("%3A" is signed as "%253A"); S3, whose keys may be "a//b" and "../a", signs it as it is sent. The
 * whole body is hashed: one that is not known before it is sent cannot be signed.
 *
 * Sources: "Create a signed AWS API request" in the IAM user guide, "Signature Calculations for the Authorization Header" in S3's API
 * reference. */
#ifndef PERDURE_PROVIDER_SIGV4_H
#define PERDURE_PROVIDER_SIGV4_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"
#include "parse/http1.h"

enum {
    SIGV4_SIGNED_MAX = 32,   /* headers signed, ours among them */
    SIGV4_QUERY_MAX = 64,    /* parameters of a query */
    SIGV4_SEGMENTS_MAX = 64, /* segments of a path */
    SIGV4_FIELDS_MAX = 4,    /* headers made */
    SIGV4_SCOPE_MAX = 64,    /* bytes of a region's and of a service's name, each */
};

struct sigv4_credentials {
    struct span access_key, secret_key;
    struct span session_token; /* of temporary credentials; empty: none */
};

struct sigv4_request {
    struct span method;
    struct span target;               /* as sent: path, and query after '?' */
    struct span host;                 /* as in the Host header */
    const struct http1_field *fields; /* others to sign, such as Content-Type: exactly as they are sent */
    unsigned fields_count;
    const struct span *body; /* its parts, in order */
    unsigned body_count;
    bool
        shows_hash; /* the body's hash is sent, and signed, as X-Amz-Content-Sha256 (S3 demands it; others allow it) */
    bool path_as_sent; /* S3 */
    const char
        *body_hash; /* the body's SHA-256 in hex, when it is known already: `body` is not looked at; or NULL */
};

/* The key derived from a secret for one day, region and service, kept by the caller between calls (one of each set of
 * credentials). Start it at zero; sigv4_sign() finds out itself whether it fits. Is a secret. */
struct sigv4_key {
    unsigned char tag[32]; /* of what it was made from */
    unsigned char key[32];
    bool made;
};

/* Makes Authorization, X-Amz-Date, X-Amz-Security-Token with a session token, X-Amz-Content-Sha256 if wanted; their values
 * live in `a` or are literals. `wall_ms` is the time since 1970 UTC. PD_NOMEM; PD_INVALID: no key, a name out of bounds;
 * PD_TOOBIG: more headers, parameters or segments than the limits. */
pd_err sigv4_sign(const struct sigv4_request *rq, const struct sigv4_credentials *who, struct span region,
                  struct span service, uint64_t wall_ms, struct sigv4_key *key, struct arena *a,
                  struct http1_field ret[SIGV4_FIELDS_MAX], unsigned *ret_count) PD_CHECKED;

#endif
