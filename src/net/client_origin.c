#include "net/client_priv.h"

#include "base/mem.h"
#include "parse/url.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- idle connections: the last used goes first, the longest unused at the end ------------- */

static struct conn *oldest(struct origin *o)
{
    return list_empty(&o->idle) ? NULL : LIST_OF(o->idle.prev, struct conn, node);
}

static void sweep(void *ctx)
{
    struct origin *o = ctx;
    struct client *c = o->c;
    uint64_t now = loop_now_ms(c->loop);
    struct conn *k;
    while ((k = oldest(o)) != NULL && k->idle_since_ms + c->rules.idle_ms <= now)
        upstream_close(k);
    if (k)
        timer_arm(c->loop, &o->idle_timer, k->idle_since_ms + c->rules.idle_ms);
}

void origin_put_idle(struct origin *o, struct conn *k)
{
    struct client *c = o->c;
    if (c->closed || c->rules.idle_per_origin == 0) {
        upstream_close(k);
        return;
    }
    while (o->idle_count >= c->rules.idle_per_origin)
        upstream_close(oldest(o));
    k->state = CONN_IDLE;
    k->x = NULL;
    k->idle_since_ms = loop_now_ms(c->loop);
    list_push_front(&o->idle, &k->node);
    o->idle_count++;
    c->stats.connections_idle++;
    if (!o->idle_timer.armed)
        timer_arm(c->loop, &o->idle_timer, k->idle_since_ms + c->rules.idle_ms);
    watch_want(&k->watch,
               WATCH_READ | WATCH_GONE); /* armed while idle: its death is seen at once, not by the next request */
}

void origin_lost_idle(struct origin *o, struct conn *k)
{
    list_remove(&k->node);
    o->idle_count--;
    o->c->stats.connections_idle--;
    if (list_empty(&o->idle))
        timer_stop(o->c->loop, &o->idle_timer);
}

struct conn *origin_take_idle(struct origin *o)
{
    if (list_empty(&o->idle))
        return NULL;
    struct conn *k = LIST_OF(o->idle.next, struct conn, node);
    origin_lost_idle(o, k);
    k->state = CONN_BUSY;
    return k;
}

void origin_close_idle(struct origin *o)
{
    struct conn *k;
    while ((k = oldest(o)) != NULL)
        upstream_close(k);
}

/* ---- trust: one TLS context for all who trust alike ----------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void trust_unref(struct trust *t)
{
    if (!t || --t->refs)
        return;
    list_remove(&t->node);
    tls_ctx_free(t->tls);
    mem_free(t->ca_file);
    mem_free(t);
}

static pd_err trust_get(struct client *c, const struct origin_config *cfg, struct trust **ret)
{
    LIST_EACH(it, &c->trusts)
    {
        struct trust *t = LIST_OF(it, struct trust, node);
        if (t->insecure == cfg->tls_insecure && same_text(t->ca_file, cfg->ca_file)) {
            t->refs++;
            *ret = t;
            return PD_OK;
        }
    }
    struct trust *t = mem_zalloc(sizeof(*t));
    if (!t)
        return PD_NOMEM;
    t->refs = 1;
    t->insecure = cfg->tls_insecure;
    list_push(&c->trusts, &t->node);
    pd_err e = PD_OK;
    if (cfg->ca_file)
        e = (t->ca_file = mem_strdup(cfg->ca_file)) ? PD_OK : PD_NOMEM;
    if (!e)
        e = tls_ctx_new(cfg->ca_file, cfg->tls_insecure, &t->tls);
    if (e) {
        trust_unref(t);
        return e;
    }
    *ret = t;
    return PD_OK;
}

/* ---- origins ---------------------------------------------------------------------------------- */

static bool same_origin(const struct origin *o, const struct url *u, const struct origin_config *cfg)
{
    if (o->tls != u->tls || o->port != u->port || !span_ieq(span_str(o->host), u->host) ||
        !same_text(o->proxy_given, cfg->proxy))
        return false;
    return !o->tls || (o->trust->insecure == cfg->tls_insecure && same_text(o->trust->ca_file, cfg->ca_file));
}

static pd_err choose_proxy(struct origin *o, const struct origin_config *cfg)
{
    const char *value = cfg->proxy;
    if (value) {
        o->proxy_given = mem_strdup(value);
        if (!o->proxy_given)
            return PD_NOMEM;
    } else {
        value = proxy_from_env(getenv, o->tls, span_str(o->host), o->port);
    }
    return value && *value ? proxy_parse(span_str(value), &o->proxy) : PD_OK;
}

static char *make_authority(const struct url *u)
{
    char text[300];
    int n = snprintf(text, sizeof(text), "%s%.*s%s", u->ipv6 ? "[" : "", SPAN_FMT(u->host), u->ipv6 ? "]" : "");
    if (u->port != (u->tls ? 443 : 80))
        snprintf(text + n, sizeof(text) - (size_t)n, ":%u", (unsigned)u->port);
    return mem_strdup(text);
}

static void origin_free(struct origin *o)
{
    origin_close_idle(o);
    timer_stop(o->c->loop, &o->idle_timer);
    list_remove(&o->node);
    tls_sessions_done(&o->sessions);
    trust_unref(o->trust);
    proxy_done(&o->proxy);
    mem_free(o->proxy_given);
    mem_free(o->authority);
    mem_free(o->host);
    mem_free(o);
}

static pd_err fill(struct origin *o, const struct url *u, const struct origin_config *cfg)
{
    o->tls = u->tls;
    o->port = u->port;
    o->host = mem_strndup(u->host.p, u->host.n);
    o->authority = make_authority(u);
    if (!o->host || !o->authority)
        return PD_NOMEM;
    for (char *p = o->host; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + ('a' - 'A') : *p);
    pd_err e = choose_proxy(o, cfg);
    if (!e && o->tls)
        e = trust_get(o->c, cfg, &o->trust);
    return e;
}

pd_err client_origin(struct client *c, const struct origin_config *cfg, struct origin **ret)
{
    struct url u;
    const char *why;
    pd_err e = url_parse(span_str(cfg->base_url), &u, &why);
    if (e)
        return e;
    LIST_EACH(it, &c->origins)
    {
        struct origin *known = LIST_OF(it, struct origin, node);
        if (same_origin(known, &u, cfg)) {
            known->refs++;
            *ret = known;
            return PD_OK;
        }
    }
    struct origin *o = mem_zalloc(sizeof(*o));
    if (!o)
        return PD_NOMEM;
    o->c = c;
    o->refs = 1;
    list_init(&o->idle);
    timer_init(&o->idle_timer, sweep, o);
    tls_sessions_init(&o->sessions);
    list_push(&c->origins, &o->node);
    e = fill(o, &u, cfg);
    if (e) {
        origin_free(o);
        return e;
    }
    *ret = o;
    return PD_OK;
}

struct origin *origin_unref(struct origin *o)
{
    if (o && --o->refs == 0)
        origin_free(o);
    return NULL;
}

unsigned origin_idle(const struct origin *o)
{
    return o->idle_count;
}

const char *origin_authority(const struct origin *o)
{
    return o->authority;
}
