/* proxy.h - which proxy stands between us and a host.
 *
 * The variables that every HTTP client reads: http_proxy for http, https_proxy and
 * HTTPS_PROXY for https, all_proxy and ALL_PROXY for both, no_proxy and NO_PROXY
 * for exceptions. HTTP_PROXY is not read: in a CGI it is the client's "Proxy:" header.
 * Loopback hosts never go through a proxy of the environment. */
#ifndef PERDURE_NET_PROXY_H
#define PERDURE_NET_PROXY_H

#include "base/err.h"
#include "base/span.h"

struct proxy {
    char *host; /* NULL: no proxy. Without brackets for IPv6 */
    uint16_t port;
    char *authorization; /* "Basic ...", or NULL */
};

typedef char *proxy_env_fn(const char *name); /* getenv, or a test's */

/* The value of the variable that counts for this host; NULL: go there directly. */
const char *proxy_from_env(proxy_env_fn *env, bool tls, struct span host, uint16_t port);
/* Does a no_proxy list name this host? "*", "example.com" and ".example.com" (and all below), "host:port", addresses, "10.0.0.0/8". */
bool proxy_excepted(struct span list, struct span host, uint16_t port);
/* "localhost", names below it, 127.0.0.0/8, ::1. */
bool proxy_is_loopback(struct span host);

/* "http://user:password@host:port" or "host:port". PD_UNSUPPORTED: a proxy we cannot speak to (https, socks); PD_SYNTAX; PD_NOMEM. */
pd_err proxy_parse(struct span value, struct proxy *ret) PD_CHECKED;
void proxy_done(struct proxy *p);

#endif
