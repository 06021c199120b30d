/* auth.h - is this caller allowed? As each provider finds out: a key in the header of its dialect, or an AWS signature.
 *
 * The signature (SigV4) is computed here from the request as it came, with OpenSSL alone, so that it proves what the gateway signed. */
#ifndef PERDURE_SIMULATE_AUTH_H
#define PERDURE_SIMULATE_AUTH_H

#include "simulate/ask.h"

enum { SIGV4_WINDOW_S = 300, SIGV4_HEADERS_MAX = 64 };

/* What of a request decides. */
struct caller {
    struct span method, path, query, body;
    struct span (*header)(void *ctx, const char *name); /* p NULL: absent */
    void *ctx;
};

/* True: allowed. False: *why says how the provider refuses. `now_s`: seconds since 1970. */
bool auth_check(const struct script_provider *conf, const struct endpoint *at, const struct caller *c,
                uint64_t now_s, struct refusal *why);

#endif
