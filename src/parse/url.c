#include "parse/url.h"

#include <arpa/inet.h>

enum { URL_HOST_MAX = 253 }; /* RFC 1035: what a name can have */

static bool alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Only unreserved bytes, sub-delims, whole %XX, and those of `also` (RFC 3986, 3.2.1 - 3.4). */
static bool all_allowed(struct span s, const char *also)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            if (s.n - i < 3 || !hex(s.p[i + 1]) || !hex(s.p[i + 2]))
                return false;
            i += 2;
        } else if (!alnum(c) && (c == '\0' || (!strchr("-._~!$&'()*+,;=", c) && !strchr(also, c)))) {
            return false;
        }
    }
    return true;
}

static const char *parse_port(struct span s, uint16_t *ret)
{
    uint64_t port;
    if (s.n > 5 || !span_u64(s, &port) || port == 0 || port > 65535)
        return "the port after ':' is not a number from 1 to 65535";
    *ret = (uint16_t)port;
    return NULL;
}

static const char *parse_ipv6(struct span *host_port, struct url *u)
{
    const char *close = memchr(host_port->p, ']', host_port->n);
    if (!close)
        return "the '[' of an IPv6 address has no ']'";
    u->ipv6 = true;
    u->host = span_of(host_port->p + 1, (size_t)(close - host_port->p) - 1);

    char text[INET6_ADDRSTRLEN];
    struct in6_addr unused;
    if (u->host.n == 0 || u->host.n >= sizeof(text))
        return "what stands between '[' and ']' is no IPv6 address";
    memcpy(text, u->host.p, u->host.n);
    text[u->host.n] = '\0';
    if (memchr(text, '\0', u->host.n) || inet_pton(AF_INET6, text, &unused) != 1)
        return "what stands between '[' and ']' is no IPv6 address";
    *host_port = span_from(*host_port, u->host.n + 2);
    return NULL;
}

/* Names of config files: letters, digits, '-', '_' and '.'; international names are written in their xn-- form. */
static const char *parse_name(struct span *host_port, struct url *u)
{
    size_t n = 0;
    while (n < host_port->n && host_port->p[n] != ':') {
        char c = host_port->p[n++];
        if (!alnum(c) && c != '-' && c != '_' && c != '.')
            return "the host has a byte that no host name has";
    }
    if (n == 0)
        return "the host is missing";
    if (n > URL_HOST_MAX)
        return "the host is longer than 253 bytes";
    u->host = span_of(host_port->p, n);
    *host_port = span_from(*host_port, n);
    return NULL;
}

static const char *parse_authority(struct span s, struct url *u)
{
    const char *at = s.n ? memchr(s.p, '@', s.n) : NULL;
    if (at) {
        u->user_info = span_of(s.p, (size_t)(at - s.p));
        if (!all_allowed(u->user_info, ":"))
            return "the user and password before '@' have a byte that must be written as %XX";
        s = span_from(s, u->user_info.n + 1);
    }
    if (s.n == 0)
        return "the host is missing";

    const char *why = s.p[0] == '[' ? parse_ipv6(&s, u) : parse_name(&s, u);
    if (why || s.n == 0)
        return why;
    if (s.p[0] != ':')
        return "something other than ':' and a port follows the host";
    return parse_port(span_from(s, 1), &u->port);
}

static const char *parse(struct span in, struct url *u)
{
    if (in.n >= 8 && span_iis(span_upto(in, 8), "https://"))
        u->tls = true;
    else if (in.n < 7 || !span_iis(span_upto(in, 7), "http://"))
        return "a URL here starts with http:// or https://";
    u->port = u->tls ? 443 : 80;
    in = span_from(in, u->tls ? 8 : 7);
    if (in.n && memchr(in.p, '#', in.n))
        return "a fragment ('#...') is never sent: leave it out";

    size_t n = 0;
    while (n < in.n && in.p[n] != '/' && in.p[n] != '?')
        n++;
    const char *why = parse_authority(span_upto(in, n), u);
    if (why)
        return why;
    struct span path = span_from(in, n);
    const char *mark = path.n ? memchr(path.p, '?', path.n) : NULL;
    if (mark) {
        u->query = span_from(path, (size_t)(mark - path.p) + 1);
        path.n = (size_t)(mark - path.p);
    }
    if (!all_allowed(path, ":@/"))
        return "the path has a byte that must be written as %XX";
    if (!all_allowed(u->query, ":@/?"))
        return "the query has a byte that must be written as %XX";
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    u->path = path;
    return NULL;
}

pd_err url_parse(struct span in, struct url *ret, const char **ret_why)
{
    struct url u = {0};
    const char *why = parse(in, &u);
    if (why) {
        *ret_why = why;
        return PD_SYNTAX;
    }
    *ret = u;
    return PD_OK;
}

static int hex_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

size_t url_unescape(struct span in, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        int high = in.p[i] == '%' && i + 2 < in.n ? hex_of(in.p[i + 1]) : -1;
        int low = high >= 0 ? hex_of(in.p[i + 2]) : -1;
        bool escape = low >= 0 && (high || low);
        out[n++] = escape ? (char)(high * 16 + low) : in.p[i];
        i += escape ? 2 : 0;
    }
    return n;
}
