#include "relay/routing.h"

#include "base/mem.h"
#include "credential/credential.h"

/* Routes made for model names that clients asked for; over this the oldest unused is dropped. */
enum { MADE_ROUTES_MAX = 256 };

struct route_use {
    struct list node;
    unsigned refs;       /* calls, plus one while the snapshot keeps it */
    uint64_t generation; /* of the catalog it was made from; 0: from the config */
    char *name;
    const struct conf_provider
        *last; /* while it is made: the provider of the target added last; NULL: start afresh */
    struct route route;
};

struct routing {
    unsigned refs;
    struct conf_ref *ref;
    const struct conf *conf;
    struct origin **origins; /* one for each provider */
    struct credential *
        *credentials;          /* one for each provider that signs in; a group's regions share the first one's */
    struct route_use **routes; /* one for each route of the config */
    struct list made;          /* struct route_use, newest last */
    unsigned made_count;
};

/* ---- routes ------------------------------------------------------------------ */

static struct route_use *use_new(struct span name)
{
    struct route_use *u = mem_zalloc(sizeof(*u));
    if (!u)
        return NULL;
    u->name = mem_strndup(name.p, name.n);
    if (!u->name) {
        mem_free(u);
        return NULL;
    }
    list_init(&u->node);
    u->refs = 1;
    u->route.name = u->name;
    return u;
}

struct route_use *route_release(struct route_use *u)
{
    if (u && --u->refs == 0) {
        mem_free(u->name);
        mem_free(u);
    }
    return NULL;
}

static void drop_usep(struct route_use **u)
{
    *u = route_release(*u);
}

const struct route *route_used(const struct route_use *u)
{
    return &u->route;
}

const char *route_label(const struct route_use *u)
{
    return u->generation ? "model" : u->name;
}

/* Adds provider/model with its weight; the fleet is locked. Regions of one provider that are added in a row are a group. */
static pd_err add_target(struct worker *w, struct route_use *u, const struct conf_provider *p, const char *model,
                         uint64_t weight, const struct settings *settings)
{
    struct route *route = &u->route;
    if (route->count == ROUTE_TARGETS_MAX)
        return PD_OK; /* more ways than any call could try */
    struct route_target *rt = &route->targets[route->count];
    pd_err e = fleet_target(w->gateway->fleet, p->name, model, settings, &rt->target);
    if (e)
        return e;
    target_watch_pace(rt->target, p->throttles_by_latency && p->stream != 0);
    rt->weight = weight;
    rt->settings = *settings;
    rt->group = 0;
    struct route_target *before = u->last ? rt - 1 : NULL;
    if (before && strcmp(u->last->group, p->group) == 0 && strcmp(before->target->model, model) == 0) {
        if (!before->group)
            before->group = route->count; /* its place, from 1 */
        rt->group = before->group;
    }
    u->last = p;
    route->count++;
    return PD_OK;
}

static pd_err configured_route(struct worker *w, const struct conf *c, const struct conf_route *from,
                               struct route_use **ret)
{
    PD_CLEANUP(drop_usep) struct route_use *u = use_new(span_str(from->name));
    if (!u)
        return PD_NOMEM;
    u->route.strategy = from->strategy;
    u->route.settings = from->settings;
    for (unsigned i = 0; i < from->targets_count; i++) {
        const struct conf_target *t = &from->targets[i];
        u->last = NULL; /* what stands apart in the config has a weight of its own */
        for (unsigned k = 0; k < t->regions; k++) {
            const struct conf_provider *p = &c->providers[t->provider + k];
            struct settings settings;
            settings_overlay(from, p, &settings);
            pd_err e = add_target(w, u, p, t->model, t->weight, &settings);
            if (e)
                return e;
        }
    }
    *ret = PD_TAKE(u);
    return PD_OK;
}

/* ---- the snapshot ------------------------------------------------------------- */

static struct routing *routing_free(struct routing *r)
{
    for (unsigned i = 0; r->origins && i < r->conf->providers_count; i++)
        origin_unref(r->origins[i]);
    for (unsigned i = 0; r->credentials && i < r->conf->providers_count; i++)
        credential_free(r->credentials[i]);
    for (unsigned i = 0; r->routes && i < r->conf->routes_count; i++)
        route_release(r->routes[i]);
    LIST_EACH(node, &r->made)
    {
        list_remove(node);
        route_release(LIST_OF(node, struct route_use, node));
    }
    mem_free(r->origins);
    mem_free(r->credentials);
    mem_free(r->routes);
    conf_ref_drop(r->ref);
    mem_free(r);
    return NULL;
}

struct routing *routing_ref(struct routing *r)
{
    r->refs++;
    return r;
}

struct routing *routing_unref(struct routing *r)
{
    return r && --r->refs == 0 ? routing_free(r) : NULL;
}

static void drop_routingp(struct routing **r)
{
    *r = routing_unref(*r);
}

/* The first provider of the group of number i. */
static unsigned group_of(const struct conf *c, unsigned i)
{
    while (i && strcmp(c->providers[i - 1].group, c->providers[i].group) == 0)
        i--;
    return i;
}

static pd_err make_credentials(struct worker *w, struct routing *r)
{
    struct credential_setup setup = {.loop = w->loop, .client = w->client, .env = conf_getenv};
    for (unsigned i = 0; i < r->conf->providers_count; i++) {
        struct credential_source source;
        if (group_of(r->conf, i) != i || !credential_source_of(&r->conf->providers[i], &source))
            continue;
        r->credentials[i] = credential_new(&setup, &source);
        if (!r->credentials[i])
            return PD_NOMEM;
    }
    return PD_OK;
}

struct credential *routing_credential(const struct routing *r, const struct conf_provider *p)
{
    return r->credentials[group_of(r->conf, (unsigned)(p - r->conf->providers))];
}

pd_err routing_new(struct worker *w, struct conf_ref *conf, struct routing **ret, const char **ret_why)
{
    const struct conf *c = conf->conf;
    *ret_why = "out of memory";
    PD_CLEANUP(drop_routingp) struct routing *r = mem_zalloc(sizeof(*r));
    if (!r)
        return PD_NOMEM;
    r->refs = 1;
    r->ref = conf_ref_take(conf);
    r->conf = c;
    list_init(&r->made);
    r->origins = mem_calloc(c->providers_count, sizeof(struct origin *));
    r->credentials = mem_calloc(c->providers_count, sizeof(struct credential *));
    r->routes = mem_calloc(c->routes_count, sizeof(struct route_use *));
    if (!r->origins || !r->credentials || !r->routes)
        return PD_NOMEM;
    for (unsigned i = 0; i < c->providers_count; i++) {
        const struct conf_provider *p = &c->providers[i];
        struct origin_config oc = {
            .base_url = p->base_url, .proxy = p->proxy, .ca_file = p->ca_file, .tls_insecure = p->tls_insecure};
        pd_err e = client_origin(w->client, &oc, &r->origins[i]);
        if (e) {
            *ret_why = e == PD_TLS ? "a provider's ca_file cannot be read as PEM certificates"
                                   : "a provider's base_url or proxy is not a usable URL";
            return e;
        }
    }
    pd_err e = make_credentials(w, r);
    if (e)
        return e;
    fleet_lock(w->gateway->fleet);
    for (unsigned i = 0; i < c->routes_count && !e; i++)
        e = configured_route(w, c, &c->routes[i], &r->routes[i]);
    fleet_unlock(w->gateway->fleet);
    if (e)
        return e;
    *ret = PD_TAKE(r);
    return PD_OK;
}

const struct conf *routing_conf(const struct routing *r)
{
    return r->conf;
}

const struct conf_provider *routing_provider(const struct routing *r, const struct target *t)
{
    for (unsigned i = 0; i < r->conf->providers_count; i++)
        if (strcmp(r->conf->providers[i].name, t->provider) == 0)
            return &r->conf->providers[i];
    return NULL;
}

struct origin *routing_origin(const struct routing *r, const struct conf_provider *p)
{
    return r->origins[p - r->conf->providers];
}

pd_err routing_path(const struct conf_provider *p, const char *wire, const char *below, struct arena *a,
                    struct span *ret)
{
    /* base_url is checked by conf: scheme://authority[/path], no query */
    const char *authority = strstr(p->base_url, "://");
    const char *path = authority ? strchr(authority + 3, '/') : NULL;
    const char *query = p->query;
    struct span prefix = SPAN_LIT("");
    if (wire)
        preset_wire_find(p->wires, wire, &prefix);
    const char *joint = !query ? "" : strchr(below, '?') ? "&" : "?";
    const struct span parts[] = {span_str(path), prefix, span_str(below), span_str(joint), span_str(query)};
    char *s = arena_join(a, parts, sizeof(parts) / sizeof(parts[0]));
    if (!s)
        return PD_NOMEM;
    *ret = span_str(s);
    return PD_OK;
}

/* ---- names ---------------------------------------------------------------------- */

static bool named_models_have(const struct conf_provider *p, struct span model)
{
    for (unsigned i = 0; i < p->models_count; i++)
        if (span_is(model, p->models[i]))
            return true;
    return false;
}

enum listing { LISTED, UNKNOWN, NOT_LISTED };

static enum listing lists(const struct worker *w, const struct conf_provider *p, struct span model)
{
    if (p->models_count)
        return named_models_have(p, model) ? LISTED : NOT_LISTED;
    const struct catalog_provider *known = catalog_find(&w->gateway->catalog, p->name);
    if (!known || !known->known)
        return UNKNOWN;
    return catalog_lists(known, model) ? LISTED : NOT_LISTED;
}

static const char *first_model(const struct worker *w, const struct conf_provider *p)
{
    if (p->models_count)
        return p->models[0];
    const struct catalog_provider *known = catalog_find(&w->gateway->catalog, p->name);
    return known && known->count ? known->models[0] : NULL;
}

/* The model's part of "provider/model" when it names this provider; NULL: it does not. */
static const char *model_below(const char *name, const char *provider)
{
    size_t n = strlen(provider);
    return strncmp(name, provider, n) == 0 && name[n] == '/' && name[n + 1] ? name + n + 1 : NULL;
}

/* provider/model: the one target that was asked for, in all regions that the provider has. */
static pd_err exact_target(struct worker *w, const struct conf *c, struct route_use *u)
{
    for (unsigned i = 0; i < c->providers_count; i++) {
        const struct conf_provider *p = &c->providers[i];
        const char *model = model_below(u->name, p->group);
        if (!model)
            model = model_below(u->name, p->name);
        pd_err e = model ? add_target(w, u, p, model, 1, &p->settings) : PD_OK;
        if (e)
            return e;
    }
    return PD_OK;
}

/* Every provider that lists the model, in order; if none does, those whose list is not known. */
static pd_err every_lister(struct worker *w, const struct conf *c, struct span name, struct route_use *u)
{
    for (int pass = 0; pass < 2 && u->route.count == 0; pass++) {
        for (unsigned i = 0; i < c->providers_count; i++) {
            const struct conf_provider *p = &c->providers[i];
            enum listing listing = lists(w, p, name);
            if (listing != (pass == 0 ? LISTED : UNKNOWN))
                continue;
            pd_err e = add_target(w, u, p, u->name, p->weight, &p->settings);
            if (e)
                return e;
        }
    }
    return PD_OK;
}

/* No model was named: the first of each provider. */
static pd_err any_model(struct worker *w, const struct conf *c, struct route_use *u)
{
    for (unsigned i = 0; i < c->providers_count; i++) {
        const struct conf_provider *p = &c->providers[i];
        const char *model = first_model(w, p);
        pd_err e = model ? add_target(w, u, p, model, p->weight, &p->settings) : PD_OK;
        if (e)
            return e;
    }
    return PD_OK;
}

static struct route_use *find_made(struct routing *r, struct span name, uint64_t generation)
{
    LIST_EACH(node, &r->made)
    {
        struct route_use *u = LIST_OF(node, struct route_use, node);
        if (!span_is(name, u->name))
            continue;
        if (u->generation == generation)
            return u;
        list_remove(node); /* made from lists that have changed since */
        r->made_count--;
        route_release(u);
        return NULL;
    }
    return NULL;
}

static void keep_made(struct routing *r, struct route_use *u)
{
    if (r->made_count == MADE_ROUTES_MAX) {
        struct list *oldest = r->made.next;
        list_remove(oldest);
        r->made_count--;
        route_release(LIST_OF(oldest, struct route_use, node));
    }
    list_push(&r->made, &u->node);
    r->made_count++;
    u->refs++;
}

static pd_err make_route(struct routing *r, struct worker *w, struct span name, struct route_use **ret)
{
    uint64_t generation = w->gateway->catalog.generation + 1;
    struct route_use *made = find_made(r, name, generation);
    if (made) {
        made->refs++;
        *ret = made;
        return PD_OK;
    }
    PD_CLEANUP(drop_usep) struct route_use *u = use_new(name);
    if (!u)
        return PD_NOMEM;
    u->generation = generation;
    u->route.strategy = STRATEGY_PRIORITY;
    u->route.settings = r->conf->settings;
    pd_err e = name.n == 0 ? any_model(w, r->conf, u) : exact_target(w, r->conf, u);
    if (!e && name.n && u->route.count == 0)
        e = every_lister(w, r->conf, name, u);
    if (e)
        return e;
    if (u->route.count == 0)
        return PD_NOTFOUND;
    if (u->route.count == 1)
        u->route.settings = u->route.targets[0].settings;
    keep_made(r, u);
    *ret = PD_TAKE(u);
    return PD_OK;
}

static bool leads_elsewhere(struct span name)
{
    while (name.p) {
        struct span piece = span_cut(&name, '/');
        if (span_is(piece, ".") || span_is(piece, ".."))
            return true;
    }
    return false;
}

bool routing_name_ok(struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if ((unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7f)
            return false;
    return name.n <= MODEL_NAME_MAX && !leads_elsewhere(name);
}

pd_err routing_resolve(struct routing *r, struct worker *w, struct span model, struct route_use **ret)
{
    if (!routing_name_ok(model))
        return PD_NOTFOUND;
    const char *fallback = model.n == 0 ? "default" : NULL;
    for (unsigned i = 0; i < r->conf->routes_count; i++) {
        const char *name = r->conf->routes[i].name;
        if (fallback ? strcmp(name, fallback) == 0 : span_is(model, name)) {
            r->routes[i]->refs++;
            *ret = r->routes[i];
            return PD_OK;
        }
    }
    if (fallback && r->conf->routes_count) {
        r->routes[0]->refs++;
        *ret = r->routes[0];
        return PD_OK;
    }
    fleet_lock(w->gateway->fleet);
    pd_err e = make_route(r, w, model, ret);
    fleet_unlock(w->gateway->fleet);
    return e;
}
