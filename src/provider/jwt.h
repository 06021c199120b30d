/* jwt.h - signed JSON Web Tokens (RFC 7515, RFC 7519) with RS256, and the one with which a Google service account asks for an
 * access token (RFC 7523).
 *
 * Pure but for OpenSSL: time and key are handed in. A signature takes about a millisecond of a CPU, so it is made off the
 * loop. */
#ifndef PERDURE_PROVIDER_JWT_H
#define PERDURE_PROVIDER_JWT_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

enum { JWT_GOOGLE_SECONDS = 3600 /* the longest that Google takes */ };

/* Base64 with '-' and '_' and no '=' (RFC 4648 section 5). PD_NOMEM. */
pd_err jwt_base64url(struct span in, struct arena *a, struct span *ret) PD_CHECKED;

/* "header.claims.signature". `header` and `claims` are JSON as it stands; `key_pem` is an RSA private key in PEM (PKCS #8 or
 * #1, not encrypted). PD_SYNTAX: no PEM, or damaged; PD_INVALID: a key that is not RSA; PD_NOMEM. */
pd_err jwt_sign_rs256(struct span header, struct span claims, struct span key_pem, struct arena *a,
                      struct span *ret) PD_CHECKED;

struct jwt_grant {
    struct span issuer;   /* the service account's address */
    struct span audience; /* the token endpoint's URL */
    struct span scope;
    struct span key_id;  /* may be empty */
    struct span key_pem; /* secret */
    uint64_t wall_ms;    /* now; it holds for JWT_GOOGLE_SECONDS */
};
/* The assertion to send as grant_type urn:ietf:params:oauth:grant-type:jwt-bearer. Errors as jwt_sign_rs256(). */
pd_err jwt_google_assertion(const struct jwt_grant *g, struct arena *a, struct span *ret) PD_CHECKED;

#endif
