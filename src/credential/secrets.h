/* secrets.h - what endpoints answer that hand out credentials, and the files that Google's tools write.
 *
 * Pure. Texts are copied into the arena where they have escapes, and point into the body elsewhere: both must live. */
#ifndef PERDURE_CREDENTIAL_SECRETS_H
#define PERDURE_CREDENTIAL_SECRETS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* What a container's endpoint and EC2's metadata service answer. */
struct secrets_aws {
    struct span access_key_id, secret_access_key, session_token;
    uint64_t expires_ms;       /* CLOCK_NEVER: it says no moment */
    struct span code, message; /* of a refusal, which may come with a 200 */
};
/* What a token endpoint answers (RFC 6749, 5.1 and 5.2). */
struct secrets_token {
    struct span access_token;
    uint64_t lifetime_ms;      /* 0: not said */
    struct span code, message; /* error and error_description */
};
/* A JSON file of Google's. */
struct secrets_google {
    struct span type;
    struct span client_email, private_key, private_key_id, token_uri; /* of a service_account */
    struct span client_id, client_secret, refresh_token;              /* of an authorized_user */
    struct span project, quota_project;
};

/* PD_SYNTAX: no JSON object, or a known member is not of its type; PD_NOMEM. What is absent is empty. */
pd_err secrets_aws_read(struct span body, struct arena *a, struct secrets_aws *ret) PD_CHECKED;
pd_err secrets_token_read(struct span body, struct arena *a, struct secrets_token *ret) PD_CHECKED;
pd_err secrets_google_read(struct span body, struct arena *a, struct secrets_google *ret) PD_CHECKED;

#endif
