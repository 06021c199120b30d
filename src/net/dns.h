/* dns.h - names to addresses, off the loop, remembered for a while.
 *
 * Both families are asked for. Answers are believed for ttl_ms, failures for
 * DNS_NEGATIVE_MS; lookups of one name that overlap are one query. When a resolver
 * is down (not when it says that there is no such name) the last good answer is
 * served for up to DNS_STALE_MS: an outage of DNS need not be one of ours.
 *
 * Ownership: a `struct dns_ask` is the caller's and lives until its fn was called or
 * dns_cancel. The query itself goes on after a cancel, and its answer is kept. */
#ifndef PERDURE_NET_DNS_H
#define PERDURE_NET_DNS_H

#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum {
    DNS_ADDRESSES_MAX = 12, /* more are dropped */
    DNS_NAMES_MAX = 256,    /* remembered at most; names come from the config, not from peers */
    DNS_NEGATIVE_MS = 1000,
    DNS_STALE_MS = 10 * 60 * 1000,
    DNS_ADDRESS_TEXT = 64 /* room for "[v6 address]:port" */
};

union dns_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct dns_addresses {
    unsigned count;
    union dns_address at[DNS_ADDRESSES_MAX]; /* families in turn, the resolver's first choice first (RFC 8305) */
};

struct dns;
struct dns_name;
struct dns_ask {
    struct list node;
    void (*fn)(void *ctx, pd_err err, const struct dns_addresses *found, const char *why);
    void *ctx;
};

struct dns *dns_new(struct loop *l, uint64_t ttl_ms) PD_CHECKED;
void dns_set_ttl(struct dns *d, uint64_t ttl_ms);
/* No ask may be open. True: nothing is running, dns_free now. False: `closed` is called when the last query has ended. */
bool dns_close(struct dns *d, void (*closed)(void *ctx), void *ctx);
struct dns *dns_free(struct dns *d); /* NULL is fine; returns NULL */

/* Without waiting: PD_OK for an address literal or a remembered answer, PD_DNS (with *ret_why) for a remembered failure,
 * PD_NOTFOUND when it has to be asked. */
pd_err dns_known(struct dns *d, const char *host, struct dns_addresses *ret, const char **ret_why) PD_CHECKED;
/* fn is called once, later: PD_OK with addresses, PD_DNS with a sentence. Without calling fn: PD_NOMEM, or PD_DNS for what cannot
 * be a name at all. */
pd_err dns_ask(struct dns *d, struct dns_ask *a, const char *host) PD_CHECKED;
void dns_cancel(struct dns_ask *a); /* not asked, or answered: fine */
/* None of its addresses could be reached: ask anew next time. */
void dns_forget(struct dns *d, const char *host);
uint64_t dns_queries(const struct dns *d);

/* "1.2.3.4" or "::1" (without brackets) as an address; false when it is a name. */
bool dns_literal(const char *host, union dns_address *ret);
/* "127.0.0.1:80", "[::1]:80". Returns `out`. */
const char *dns_address_text(const union dns_address *a, uint16_t port, char out[DNS_ADDRESS_TEXT]);

/* Tests and simulations only: `query` takes the place of the system's resolver and calls dns_answer() for `n` later. */
void dns_set_query(struct dns *d, void (*query)(void *ctx, struct dns_name *n, const char *host), void *ctx);
/* status 0, or the resolver's (UV_EAI_...). The order of the families is made here. */
void dns_answer(struct dns_name *n, int status, const union dns_address *found, unsigned count);

#endif
