/* url.h - the http and https URLs of a config (RFC 3986, absolute, no user info). */
#ifndef PERDURE_PARSE_URL_H
#define PERDURE_PARSE_URL_H

#include "base/err.h"
#include "base/span.h"

struct url {
    bool tls;         /* https */
    struct span host; /* without brackets for IPv6 */
    bool ipv6;
    uint16_t port;         /* given, or 80 / 443 */
    struct span user_info; /* "user:password" before an @, for proxies; p NULL when absent */
    struct span path;      /* with its leading '/'; empty when none; no trailing '/' */
    struct span query;     /* without '?' */
};

/* PD_SYNTAX with *ret_why a sentence. Spans point into `in`. */
pd_err url_parse(struct span in, struct url *ret, const char **ret_why) PD_CHECKED;

/* Percent escapes undone, as far as they are ones; %00 stays. Returns how many bytes were written: at most in.n. */
size_t url_unescape(struct span in, char *out);

#endif
