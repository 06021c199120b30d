#include "net/dns.h"

#include "base/mem.h"
#include "base/span.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netdb.h>
#include <stdio.h>

struct dns_name {
    struct list node; /* dns->names, the last used first */
    struct list asks;
    struct dns *d;
    uv_getaddrinfo_t uv;
    bool running;
    bool failed;             /* the last query did; `why` says how */
    uint64_t good_until_ms;  /* the answer, or the failure, is believed until then */
    uint64_t stale_until_ms; /* an answer may be served until then while the resolver is down */
    struct dns_addresses found;
    char why[160];
    char host[];
};

struct dns {
    struct loop *loop;
    struct list names;
    unsigned count, running;
    uint64_t ttl_ms, queries;
    void (*query)(void *ctx, struct dns_name *n, const char *host);
    void *query_ctx;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* ---- values --------------------------------------------------------------- */

bool dns_literal(const char *host, union dns_address *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1) {
        ret->v4.sin_family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, host, &ret->v6.sin6_addr) == 1) {
        ret->v6.sin6_family = AF_INET6;
        return true;
    }
    return false;
}

const char *dns_address_text(const union dns_address *a, uint16_t port, char out[DNS_ADDRESS_TEXT])
{
    char ip[INET6_ADDRSTRLEN] = "?";
    bool v6 = a->any.sa_family == AF_INET6;
    inet_ntop(a->any.sa_family, v6 ? (const void *)&a->v6.sin6_addr : (const void *)&a->v4.sin_addr, ip,
              sizeof(ip));
    snprintf(out, DNS_ADDRESS_TEXT, v6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)port);
    return out;
}

static bool same_address(const union dns_address *a, const union dns_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0 &&
           a->v6.sin6_scope_id == b->v6.sin6_scope_id;
}

static void keep(struct dns_addresses *to, const union dns_address *a)
{
    for (unsigned i = 0; i < to->count; i++)
        if (same_address(&to->at[i], a))
            return;
    if (to->count < DNS_ADDRESSES_MAX)
        to->at[to->count++] = *a;
}

/* The next address of (or not of) this family at or after `from`; `count` when there is none. */
static unsigned next_of(const union dns_address *in, unsigned count, unsigned from, bool of, sa_family_t family)
{
    while (from < count && (in[from].any.sa_family == family) != of)
        from++;
    return from;
}

/* Families in turn, beginning with that of the resolver's first choice (RFC 8305, section 4). */
static void interleave(const union dns_address *in, unsigned count, struct dns_addresses *ret)
{
    ret->count = 0;
    if (!count)
        return;
    sa_family_t first = in[0].any.sa_family;
    unsigned a = 0, b = next_of(in, count, 0, false, first);
    while (a < count || b < count) {
        if (a < count) {
            keep(ret, &in[a]);
            a = next_of(in, count, a + 1, true, first);
        }
        if (b < count) {
            keep(ret, &in[b]);
            b = next_of(in, count, b + 1, false, first);
        }
    }
}

/* ---- the table -------------------------------------------------------------- */

static void free_name(struct dns_name *n)
{
    assert(!n->running && list_empty(&n->asks));
    list_remove(&n->node);
    n->d->count--;
    mem_free(n);
}

static struct dns_name *find(struct dns *d, const char *host)
{
    LIST_EACH(it, &d->names)
    {
        struct dns_name *n = LIST_OF(it, struct dns_name, node);
        if (strcmp(n->host, host) == 0) {
            list_remove(it);
            list_push_front(&d->names, it);
            return n;
        }
    }
    return NULL;
}

/* Room for one more: the name that was not used for longest goes, unless it is being asked for. */
static void make_room(struct dns *d)
{
    for (struct list *it = d->names.prev; it != &d->names && d->count >= DNS_NAMES_MAX;) {
        struct dns_name *n = LIST_OF(it, struct dns_name, node);
        it = it->prev;
        if (!n->running)
            free_name(n);
    }
}

static struct dns_name *add(struct dns *d, const char *host)
{
    make_room(d);
    size_t bytes = strlen(host) + 1;
    struct dns_name *n = mem_zalloc(sizeof(*n) + bytes);
    if (!n)
        return NULL;
    memcpy(n->host, host, bytes);
    n->d = d;
    list_init(&n->asks);
    list_push_front(&d->names, &n->node);
    d->count++;
    return n;
}

/* ---- queries ---------------------------------------------------------------- */

static void learn(struct dns_name *n, int status, const union dns_address *found, unsigned count)
{
    uint64_t now = loop_now_ms(n->d->loop);
    if (!status && count) {
        interleave(found, count, &n->found);
        n->failed = false;
        n->good_until_ms = now + n->d->ttl_ms;
        n->stale_until_ms = n->good_until_ms + DNS_STALE_MS;
        return;
    }
    bool gone = !status || status == UV_EAI_NONAME || status == UV_EAI_NODATA; /* an answer, not an outage */
    n->good_until_ms = now + DNS_NEGATIVE_MS;
    n->failed = gone || n->found.count == 0 || now >= n->stale_until_ms;
    if (n->failed) {
        n->found.count = 0;
        snprintf(n->why, sizeof(n->why), "name %.80s could not be resolved: %s", n->host,
                 status ? uv_strerror(status) : "it has no address");
    }
}

void dns_answer(struct dns_name *n, int status, const union dns_address *found, unsigned count)
{
    struct dns *d = n->d;
    learn(n, status, found, count);
    n->running = false;
    d->running--;

    struct list asks; /* fn may ask again, cancel others, or close us: take them one at a time off our own list */
    list_init(&asks);
    while (!list_empty(&n->asks)) {
        struct list *it = n->asks.next;
        list_remove(it);
        list_push(&asks, it);
    }
    struct dns_addresses copy = n->found;
    char why[sizeof(n->why)];
    memcpy(why, n->why, sizeof(why));
    bool failed = n->failed;
    while (!list_empty(&asks)) {
        struct dns_ask *a = LIST_OF(asks.next, struct dns_ask, node);
        list_remove(&a->node);
        a->fn(a->ctx, failed ? PD_DNS : PD_OK, &copy, failed ? why : "");
    }
    if (d->closed && d->running == 0)
        d->closed(d->closed_ctx);
}

static void resolved(uv_getaddrinfo_t *uv, int status, struct addrinfo *list)
{
    struct dns_name *n = uv->data;
    union dns_address found[DNS_ADDRESSES_MAX * 2];
    unsigned count = 0;
    for (struct addrinfo *a = list; a && count < DNS_ADDRESSES_MAX * 2; a = a->ai_next) {
        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof(found[0]))
            continue;
        memset(&found[count], 0, sizeof(found[0]));
        memcpy(&found[count++], a->ai_addr, a->ai_addrlen);
    }
    uv_freeaddrinfo(list);
    dns_answer(n, status, found, count);
}

static pd_err query(struct dns *d, struct dns_name *n)
{
    n->running = true;
    d->running++;
    d->queries++;
    if (d->query) {
        d->query(d->query_ctx, n, n->host);
        return PD_OK;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    n->uv.data = n;
    int r = uv_getaddrinfo(loop_uv(d->loop), &n->uv, resolved, n->host, NULL, &hints);
    if (r == 0)
        return PD_OK;
    n->running = false;
    d->running--;
    /* libuv refuses a name it cannot even write as a query (too long, bad IDNA): nothing will be called. */
    return r == UV_ENOMEM ? PD_NOMEM : PD_DNS;
}

/* ---- the door ----------------------------------------------------------------- */

struct dns *dns_new(struct loop *l, uint64_t ttl_ms)
{
    struct dns *d = mem_zalloc(sizeof(*d));
    if (!d)
        return NULL;
    d->loop = l;
    d->ttl_ms = ttl_ms;
    list_init(&d->names);
    return d;
}

void dns_set_ttl(struct dns *d, uint64_t ttl_ms)
{
    d->ttl_ms = ttl_ms;
}

bool dns_close(struct dns *d, void (*closed)(void *ctx), void *ctx)
{
    d->closed = closed;
    d->closed_ctx = ctx;
    LIST_EACH(it, &d->names)
    {
        struct dns_name *n = LIST_OF(it, struct dns_name, node);
        if (n->running && !d->query)
            uv_cancel((uv_req_t *)&n->uv); /* one that has begun goes on to its end */
    }
    return d->running == 0;
}

struct dns *dns_free(struct dns *d)
{
    if (!d)
        return NULL;
    LIST_EACH(it, &d->names)
    free_name(LIST_OF(it, struct dns_name, node));
    mem_free(d);
    return NULL;
}

pd_err dns_known(struct dns *d, const char *host, struct dns_addresses *ret, const char **ret_why)
{
    union dns_address literal;
    if (dns_literal(host, &literal)) {
        ret->count = 1;
        ret->at[0] = literal;
        return PD_OK;
    }
    struct dns_name *n = find(d, host);
    if (!n || n->running || loop_now_ms(d->loop) >= n->good_until_ms)
        return PD_NOTFOUND;
    if (n->failed) {
        *ret_why = n->why;
        return PD_DNS;
    }
    *ret = n->found;
    return PD_OK;
}

pd_err dns_ask(struct dns *d, struct dns_ask *a, const char *host)
{
    list_init(&a->node);
    struct dns_name *n = find(d, host);
    if (!n)
        n = add(d, host);
    if (!n)
        return PD_NOMEM;
    list_push(&n->asks, &a->node);
    if (n->running)
        return PD_OK;
    pd_err e = query(d, n);
    if (e)
        list_remove(&a->node);
    return e;
}

void dns_cancel(struct dns_ask *a)
{
    if (a->node.next)
        list_remove(&a->node);
}

void dns_forget(struct dns *d, const char *host)
{
    struct dns_name *n = find(d, host);
    if (n && !n->running)
        n->good_until_ms = 0;
}

uint64_t dns_queries(const struct dns *d)
{
    return d->queries;
}

void dns_set_query(struct dns *d, void (*fn)(void *ctx, struct dns_name *n, const char *host), void *ctx)
{
    d->query = fn;
    d->query_ctx = ctx;
}
