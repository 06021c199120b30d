/* From a name to one connected socket, after RFC 8305: the addresses are tried in turn, families alternating, the next one
 * after 250 ms or as soon as one fails; the first that connects wins and the others are closed. */
#include "net/client_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

static void try_next(struct dial *d);

static void stop(struct dial *d)
{
    dns_cancel(&d->ask);
    timer_stop(d->c->loop, &d->stagger);
    LIST_EACH(it, &d->tries)
    upstream_close(LIST_OF(it, struct conn, node));
    d->x->dial = NULL;
    mem_free(d);
}

void dial_abort(struct dial *d)
{
    stop(d);
}

static void fail(struct dial *d, pd_err err, const char *why)
{
    struct exchange *x = d->x;
    char sentence[CLIENT_WHY];
    if (d->failed > 1)
        snprintf(sentence, sizeof(sentence), "%s (and %u other address%s)", why, d->failed - 1,
                 d->failed > 2 ? "es" : "");
    else
        snprintf(sentence, sizeof(sentence), "%s", why);
    d->c->stats.connect_errors_total++;
    if (d->failed)
        dns_forget(d->c->dns, d->host);
    stop(d);
    exchange_end(x, err, sentence);
}

static const char *reason(int code)
{
    switch (code) {
    case ECONNREFUSED:
        return "connection refused by";
    case ETIMEDOUT:
        return "no answer from";
    case ENETUNREACH:
        return "no network route to";
    case EHOSTUNREACH:
        return "no host route to";
    case EMFILE:
    case ENFILE:
        return "out of file descriptors (raise the limit, ulimit -n) for";
    default:
        return NULL;
    }
}

/* The first failure is the one told: it belongs to the address that should have worked. */
static void remember(struct dial *d, pd_err err, int code, const union dns_address *a)
{
    char where[DNS_ADDRESS_TEXT];
    dns_address_text(a, d->port, where);
    d->failed++;
    if (d->failed > 1)
        return;
    d->err = err == PD_NOFD || err == PD_NOMEM ? err : PD_CONNECT;
    if (reason(code))
        snprintf(d->why, sizeof(d->why), "%s %s", reason(code), where);
    else
        snprintf(d->why, sizeof(d->why), "no connection to %s: %s", where,
                 code ? strerror(code) : pd_err_text(err));
}

static void try_one(struct dial *d, const union dns_address *a)
{
    struct conn *k = upstream_new(d->c, d->x->o);
    if (!k) {
        remember(d, PD_NOMEM, 0, a);
        return;
    }
    errno = 0;
    pd_err e = conn_connect(k, a, d->port);
    if (e) {
        remember(d, e, errno, a);
        return;
    }
    k->dial = d;
    list_push(&d->tries, &k->node);
}

/* Starts the next address; one that fails at once makes room for the one after it. */
static void try_next(struct dial *d)
{
    unsigned before = d->failed;
    while (d->next < d->to.count) {
        try_one(d, &d->to.at[d->next++]);
        if (d->failed == before)
            break;
        before = d->failed;
    }
    if (list_empty(&d->tries)) {
        fail(d, d->err, d->why);
        return;
    }
    if (d->next < d->to.count)
        timer_arm(d->c->loop, &d->stagger, loop_now_ms(d->c->loop) + CLIENT_NEXT_ADDRESS_MS);
}

static void on_stagger(void *ctx)
{
    try_next(ctx);
}

void dial_event(struct conn *k)
{
    struct dial *d = k->dial;
    struct exchange *x = d->x;
    int code;
    if (!conn_connected(k, &code)) {
        remember(d, conn_errno(code), code, &k->address);
        upstream_close(k);
        timer_stop(d->c->loop, &d->stagger);
        try_next(d);
        return;
    }
    list_remove(&k->node);
    k->dial = NULL;
    stop(d);
    exchange_connected(x, k);
}

static void on_name(void *ctx, pd_err err, const struct dns_addresses *found, const char *why)
{
    struct dial *d = ctx;
    if (err) {
        fail(d, err, why);
        return;
    }
    d->to = *found;
    d->x->info.phase = EXCHANGE_CONNECTING;
    try_next(d);
}

static void resolve(struct dial *d)
{
    const char *why = "";
    pd_err e = dns_known(d->c->dns, d->host, &d->to, &why);
    if (!e || e == PD_DNS) {
        on_name(d, e, &d->to, why);
        return;
    }
    uint64_t before = dns_queries(d->c->dns);
    e = dns_ask(d->c->dns, &d->ask, d->host);
    d->c->stats.dns_queries_total += dns_queries(d->c->dns) - before;
    if (e)
        fail(d, e, e == PD_NOMEM ? pd_err_text(e) : "the name of the host cannot be looked up at all");
}

pd_err dial_start(struct exchange *x)
{
    struct origin *o = x->o;
    struct dial *d = mem_zalloc(sizeof(*d));
    if (!d)
        return PD_NOMEM;
    d->c = x->c;
    d->x = x;
    d->host = o->proxy.host ? o->proxy.host : o->host;
    d->port = o->proxy.host ? o->proxy.port : o->port;
    d->err = PD_CONNECT;
    d->ask.fn = on_name;
    d->ask.ctx = d;
    list_init(&d->ask.node);
    list_init(&d->tries);
    timer_init(&d->stagger, on_stagger, d);
    x->dial = d;
    x->info.phase = EXCHANGE_RESOLVING;
    resolve(d); /* may end the exchange */
    return PD_OK;
}
