#include "net/proxy.h"

#include "base/mem.h"
#include "net/dns.h"
#include "parse/url.h"

#include <openssl/evp.h>

enum { PROXY_USER_INFO_MAX = 1024, PROXY_URL_MAX = 2048 };

/* ---- which one ---------------------------------------------------------------- */

static bool literal(struct span s, union dns_address *ret)
{
    char text[INET6_ADDRSTRLEN + 2];
    if (s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        s = span_of(s.p + 1, s.n - 2);
    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return dns_literal(text, ret);
}

static const uint8_t *address_bytes(const union dns_address *a, unsigned *ret_bits)
{
    bool v6 = a->any.sa_family == AF_INET6;
    *ret_bits = v6 ? 128 : 32;
    return v6 ? a->v6.sin6_addr.s6_addr : (const uint8_t *)&a->v4.sin_addr;
}

static bool same_network(const union dns_address *a, const union dns_address *b, unsigned bits)
{
    unsigned most;
    const uint8_t *x = address_bytes(a, &most), *y = address_bytes(b, &most);
    if (a->any.sa_family != b->any.sa_family || bits > most)
        return false;
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(x, y, whole) != 0)
        return false;
    return rest == 0 || ((x[whole] ^ y[whole]) >> (8 - rest)) == 0;
}

static struct span without_last_dot(struct span host)
{
    return span_ends(host, ".") ? span_upto(host, host.n - 1) : host;
}

static bool is_or_below(struct span host, struct span domain)
{
    if (domain.n == 0 || host.n < domain.n || !span_ieq(span_from(host, host.n - domain.n), domain))
        return false;
    return host.n == domain.n || host.p[host.n - domain.n - 1] == '.';
}

bool proxy_is_loopback(struct span host)
{
    union dns_address a;
    if (literal(host, &a)) {
        if (a.any.sa_family == AF_INET)
            return ((const uint8_t *)&a.v4.sin_addr)[0] == 127;
        if (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr))
            return a.v6.sin6_addr.s6_addr[12] == 127;
        return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
    }
    return is_or_below(without_last_dot(host), SPAN_LIT("localhost"));
}

/* Cuts ":port" off "host:port" and "[v6]:port"; a bare IPv6 address has colons of its own. */
static bool cut_port(struct span *entry, uint64_t *ret_port)
{
    union dns_address ignored;
    const char *colon = memrchr(entry->p, ':', entry->n);
    if (!colon || literal(*entry, &ignored))
        return false;
    size_t at = (size_t)(colon - entry->p);
    if (!span_u64(span_from(*entry, at + 1), ret_port))
        return false;
    *entry = span_upto(*entry, at);
    return true;
}

static bool entry_matches(struct span entry, struct span host, uint16_t port)
{
    uint64_t its_port, bits;
    if (span_is(entry, "*"))
        return true;
    if (cut_port(&entry, &its_port) && its_port != port)
        return false;

    union dns_address a, b;
    if (literal(host, &a)) {
        struct span network = span_cut(&entry, '/');
        if (!literal(network, &b))
            return false;
        if (!entry.p)
            return same_network(&a, &b, a.any.sa_family == AF_INET6 ? 128 : 32);
        return span_u64(entry, &bits) && bits <= 128 && same_network(&a, &b, (unsigned)bits);
    }
    if (span_starts(entry, "*."))
        entry = span_from(entry, 1);
    if (span_starts(entry, "."))
        entry = span_from(entry, 1);
    return is_or_below(without_last_dot(host), without_last_dot(entry));
}

bool proxy_excepted(struct span list, struct span host, uint16_t port)
{
    while (list.n) {
        size_t n = 0;
        while (n < list.n && !strchr(", \t", list.p[n]))
            n++;
        struct span entry = span_upto(list, n);
        if (entry.n && entry_matches(entry, host, port))
            return true;
        list = span_from(list, n + 1);
    }
    return false;
}

static const char *first_set(proxy_env_fn *env, const char *const *names)
{
    for (; *names; names++) {
        const char *value = env(*names);
        if (value)
            return *value ? value : NULL; /* set and empty: none, and do not look further */
    }
    return NULL;
}

const char *proxy_from_env(proxy_env_fn *env, bool tls, struct span host, uint16_t port)
{
    static const char *const for_http[] = {"http_proxy", "all_proxy", "ALL_PROXY", NULL};
    static const char *const for_https[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL};
    static const char *const exceptions[] = {"no_proxy", "NO_PROXY", NULL};

    if (proxy_is_loopback(host))
        return NULL;
    const char *value = first_set(env, tls ? for_https : for_http);
    if (!value || proxy_excepted(span_str(first_set(env, exceptions)), host, port))
        return NULL;
    return value;
}

/* ---- how to reach it ------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 0x20) - 'a' + 10; /* url_parse let only hex digits through */
}

static size_t percent_decode(struct span in, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] == '%' && in.n - i >= 3) {
            out[n++] = (char)(hex_digit(in.p[i + 1]) * 16 + hex_digit(in.p[i + 2]));
            i += 2;
        } else {
            out[n++] = in.p[i];
        }
    }
    return n;
}

static pd_err make_authorization(struct span user_info, char **ret)
{
    char plain[PROXY_USER_INFO_MAX + 1];
    if (user_info.n > PROXY_USER_INFO_MAX - 1)
        return PD_SYNTAX;
    size_t n = percent_decode(user_info, plain);
    if (!memchr(user_info.p, ':', user_info.n))
        plain[n++] = ':'; /* a user without a password */
    char *value = mem_alloc(sizeof("Basic ") + (n + 2) / 3 * 4);
    if (!value)
        return PD_NOMEM;
    memcpy(value, "Basic ", 6);
    EVP_EncodeBlock((unsigned char *)value + 6, (const unsigned char *)plain, (int)n);
    *ret = value;
    return PD_OK;
}

pd_err proxy_parse(struct span value, struct proxy *ret)
{
    char text[PROXY_URL_MAX];
    struct url url;
    const char *why;
    value = span_trim(value);
    if (!span_has(value, "://")) {
        if (value.n + 7 > sizeof(text))
            return PD_SYNTAX;
        memcpy(text, "http://", 7);
        memcpy(text + 7, value.p, value.n);
        value = span_of(text, value.n + 7);
    }
    if (value.n < 7 || !span_iis(span_upto(value, 7), "http://"))
        return PD_UNSUPPORTED;
    if (url_parse(value, &url, &why) != PD_OK)
        return PD_SYNTAX;

    struct proxy p = {.port = url.port};
    p.host = mem_strndup(url.host.p, url.host.n);
    if (!p.host)
        return PD_NOMEM;
    pd_err e = url.user_info.n ? make_authorization(url.user_info, &p.authorization) : PD_OK;
    if (e) {
        proxy_done(&p);
        return e;
    }
    *ret = p;
    return PD_OK;
}

void proxy_done(struct proxy *p)
{
    mem_free(p->host);
    mem_free(p->authorization);
    *p = (struct proxy){0};
}
