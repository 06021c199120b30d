#include "net/client_priv.h"

#include "base/mem.h"

#include <assert.h>

void client_rules_default(struct client_rules *r)
{
    *r = (struct client_rules){
        .connect_ms = 10 * 1000,
        .tls_ms = 10 * 1000,
        .idle_ms = 60 * 1000,
        .idle_per_origin = 512,
        .head_bytes = 64 * 1024,
        .dns_ttl_ms = 30 * 1000,
        .send_stall_ms = 60 * 1000,
        .peer_ms = 30 * 1000,
    };
}

/* Frees what ended in this turn, when nobody can hold it any more. */
static void reap(void *ctx)
{
    struct client *c = ctx;
    struct list *node;
    while ((node = list_first(&c->graveyard)) != NULL) {
        struct exchange *x = LIST_OF(node, struct exchange, node);
        list_remove(node);
        later_cancel(&x->kick);
        origin_unref(x->o);
        mem_free(x->head);
        mem_free(x);
    }
    client_check_closed(c);
}

void client_bury(struct client *c, struct exchange *x)
{
    list_remove(&x->node);
    list_push(&c->graveyard, &x->node);
    loop_later(c->loop, &c->reap);
}

struct client *client_new(struct loop *l, const struct client_rules *rules)
{
    struct client *c = mem_zalloc(sizeof(*c));
    if (!c)
        return NULL;
    c->loop = l;
    c->rules = *rules;
    list_init(&c->origins);
    list_init(&c->trusts);
    list_init(&c->exchanges);
    list_init(&c->graveyard);
    later_init(&c->reap, reap, c);
    c->dns = dns_new(l, rules->dns_ttl_ms);
    if (!c->dns) {
        mem_free(c);
        return NULL;
    }
    return c;
}

void client_set_rules(struct client *c, const struct client_rules *rules)
{
    c->rules = *rules;
    dns_set_ttl(c->dns, rules->dns_ttl_ms);
}

/* ---- closing ------------------------------------------------------------------- */

static void dns_ended(void *ctx)
{
    client_check_closed(ctx);
}

void client_check_closed(struct client *c)
{
    if (!c->closed || c->conns || !list_empty(&c->graveyard) || !list_empty(&c->exchanges))
        return;
    if (!dns_close(c->dns, dns_ended, c))
        return;
    void (*closed)(void *ctx) = c->closed;
    c->closed = NULL;
    closed(c->closed_ctx); /* may free the client */
}

void client_close(struct client *c, void (*closed)(void *ctx), void *ctx)
{
    c->closed = closed;
    c->closed_ctx = ctx;
    LIST_EACH(it, &c->exchanges) /* none should be left; what is left would never hear of its end */
    exchange_cancel(LIST_OF(it, struct exchange, node));
    LIST_EACH(at, &c->origins)
    origin_close_idle(LIST_OF(at, struct origin, node));
    loop_later(c->loop, &c->reap);
}

struct client *client_free(struct client *c)
{
    if (!c)
        return NULL;
    assert(c->conns == 0 && list_empty(&c->exchanges) && list_empty(&c->origins));
    later_cancel(&c->reap);
    dns_free(c->dns);
    mem_free(c);
    return NULL;
}

const struct client_stats *client_stats(const struct client *c)
{
    return &c->stats;
}
