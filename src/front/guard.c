/* Who may ask: client keys, the loopback rule, and what a web page in a browser on this machine may not do. */
#include "dialect/codec.h"
#include "front/front_priv.h"
#include "relay/relay.h"
#include "relay/routing.h"

#include <stdio.h>

/* "127.0.0.1" and its like: digits and dots. "127.example.org" is a name that anyone may own. */
static bool is_loopback_v4(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] != '.' && (name.p[i] < '0' || name.p[i] > '9'))
            return false;
    return span_starts(name, "127.");
}

bool guard_is_local_name(struct span host)
{
    if (host.n && host.p[0] == '[') {
        return span_starts(host, "[::1]") && (host.n == 5 || host.p[5] == ':');
    }
    struct span name = span_cut(&host, ':');
    if (span_ends(name, "."))
        name.n--;
    return span_iis(name, "localhost") || is_loopback_v4(name) ||
           (name.n > 10 && span_iis(span_from(name, name.n - 10), ".localhost"));
}

bool guard_is_local_origin(struct span origin)
{
    struct span rest = origin;
    if (span_starts(rest, "http://"))
        rest = span_from(rest, 7);
    else if (span_starts(rest, "https://"))
        rest = span_from(rest, 8);
    else
        return false;
    return guard_is_local_name(rest);
}

/* AWS's SDKs sign with a secret that we do not have: keys are kept as hashes. What they name their key by is the client's key here. */
static struct span access_key_of(struct span auth)
{
    static const char credential[] = "Credential=";
    const char *at = memmem(auth.p, auth.n, credential, strlen(credential));
    struct span rest = at ? span_from(auth, (size_t)(at - auth.p) + strlen(credential)) : SPAN_NONE;
    return at ? span_cut(&rest, '/') : SPAN_NONE;
}

/* "?key=...", as Google's REST examples have it. */
static struct span key_in_query(struct span query)
{
    while (query.p && query.n) {
        struct span one = span_cut(&query, '&');
        if (span_starts(one, "key="))
            return span_from(one, 4);
    }
    return SPAN_NONE;
}

struct span sent_key(struct request *rq)
{
    struct span auth = request_header(rq, "authorization");
    if (auth.n > 7 && span_ieq(span_upto(auth, 7), SPAN_LIT("bearer ")))
        return span_trim(span_from(auth, 7));
    if (span_starts(auth, "AWS4-HMAC-SHA256 "))
        return access_key_of(auth);
    static const char *const headers[] = {"x-api-key", "api-key", "x-goog-api-key"};
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        struct span key = request_header(rq, headers[i]);
        if (key.p)
            return key;
    }
    return key_in_query(request_query(rq));
}

static bool refuse(struct request *rq, const struct endpoint *at, int status, const char *code,
                   const char *message)
{
    relay_refuse(rq, endpoint_codec(at), status, code, message, 0);
    return false;
}

/* A proxy on this machine says so, if it says anything: who asks it may be anywhere. */
static bool was_forwarded(struct request *rq)
{
    static const char *const names[] = {"forwarded",         "via",      "x-forwarded-for", "x-forwarded-host",
                                        "x-forwarded-proto", "x-real-ip"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (request_header(rq, names[i]).p)
            return true;
    return false;
}

/* A program on this machine, and not a page of another site in its browser, nor another machine behind a proxy. */
static bool is_local(struct request *rq)
{
    if (was_forwarded(rq))
        return false;
    struct span host = request_header(rq, "host"), origin = request_header(rq, "origin");
    return request_peer_is_loopback(rq) && (!host.n || guard_is_local_name(host)) &&
           (!origin.n || guard_is_local_origin(origin));
}

/* Without keys only this machine is served, and of it no page of another site. */
static bool guard_open(struct request *rq, const struct endpoint *at)
{
    if (!request_peer_is_loopback(rq))
        return refuse(rq, at, 403, "keys_needed",
                      "no client key is configured, so only this machine is served; add one under `keys:`");
    if (at->access == ACCESS_ANYONE)
        return true;
    struct span host = request_header(rq, "host"), origin = request_header(rq, "origin");
    if (host.n && !guard_is_local_name(host))
        return refuse(rq, at, 403, "host_not_allowed",
                      "without client keys perdure answers to localhost, 127.0.0.1 and [::1] only; configure a "
                      "key to use another name");
    if (origin.n && !guard_is_local_origin(origin))
        return refuse(rq, at, 403, "origin_not_allowed",
                      "without client keys pages of other sites are not served");
    return true;
}

bool guard(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key **ret_key)
{
    const struct conf *c = routing_conf(w->routing);
    *ret_key = NULL;
    if (c->keys_count == 0)
        return guard_open(rq, at);
    struct span sent = sent_key(rq);
    *ret_key = sent.n ? conf_find_key(c, sent) : NULL;
    switch (at->access) {
    case ACCESS_ANYONE:
        return true;
    case ACCESS_FIGURES:
        if (*ret_key || is_local(rq))
            return true;
        break;
    case ACCESS_ADMIN:
        if ((*ret_key && (*ret_key)->admin) || is_local(rq))
            return true;
        if (*ret_key)
            return refuse(rq, at, 403, "admin_key_needed",
                          "this key is not an admin key; from another machine /api needs one (`admin: true`)");
        break;
    case ACCESS_CLIENT:
        if (*ret_key)
            return true;
        break;
    }
    return refuse(rq, at, 401, "invalid_api_key",
                  sent.n ? "this key is none of those that perdure was given"
                         : "send a client key: Authorization: Bearer KEY");
}
