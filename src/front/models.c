/* GET /v1/models: routes first, then provider/model for every model that a provider lists or was given. */
#include "dialect/codec.h"
#include "front/front_priv.h"
#include "relay/relay.h"
#include "relay/routing.h"

#include <stdio.h>
#include <stdlib.h>

struct listing {
    struct put p;
    uint64_t created;
    bool any;
    struct span only; /* p NULL: all */
};

static void put_model(struct listing *l, const char *owner, const char *prefix, const char *model)
{
    char id[400];
    int n = snprintf(id, sizeof(id), "%s%s%s", prefix, *prefix ? "/" : "", model);
    if (n < 0 || (size_t)n >= sizeof(id) || (l->only.p && !span_is(l->only, id)))
        return;
    if (l->any && l->only.p)
        return;
    put_text(&l->p, l->any ? ",{\"id\":" : "{\"id\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"object\":\"model\",\"created\":");
    put_uint(&l->p, l->created);
    put_text(&l->p, ",\"owned_by\":");
    put_json(&l->p, span_str(owner));
    put_text(&l->p, "}");
    l->any = true;
}

static bool lists_plain(const struct worker *w, const struct conf *c, unsigned upto, const char *model)
{
    for (unsigned i = 0; i < upto; i++) {
        const struct conf_provider *p = &c->providers[i];
        const struct catalog_provider *known = catalog_find(&w->gateway->catalog, p->name);
        for (unsigned k = 0; k < p->models_count; k++)
            if (strcmp(p->models[k], model) == 0)
                return true;
        if (!p->models_count && known && catalog_lists(known, span_str(model)))
            return true;
    }
    return false;
}

static void list_models(struct worker *w, struct listing *l)
{
    const struct conf *c = routing_conf(w->routing);
    for (unsigned i = 0; i < c->routes_count; i++)
        put_model(l, "perdure", "", c->routes[i].name);
    fleet_lock(w->gateway->fleet);
    for (int prefixed = 0; prefixed < 2; prefixed++)
        for (unsigned i = 0; i < c->providers_count; i++) {
            const struct conf_provider *p = &c->providers[i];
            if (i && strcmp(p->group, c->providers[i - 1].group) == 0)
                continue; /* another region of the same */
            const struct catalog_provider *known = catalog_find(&w->gateway->catalog, p->name);
            unsigned count = p->models_count ? p->models_count : known ? known->count : 0;
            for (unsigned k = 0; k < count; k++) {
                const char *model = p->models_count ? p->models[k] : known->models[k];
                if (prefixed)
                    put_model(l, p->group, p->group, model);
                else if (!lists_plain(w, c, i, model))
                    put_model(l, p->group, "", model);
            }
        }
    fleet_unlock(w->gateway->fleet);
}

void serve_models(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct buf out = {0};
    struct listing l = {.p = put_into(&out), .created = w->gateway->started_wall_ms / 1000};
    put_text(&l.p, "{\"object\":\"list\",\"data\":[");
    list_models(w, &l);
    put_text(&l.p, "]}");
    answer_json(rq, 200, &out, l.p.err);
}

/* The path's percent escapes undone: model names hold slashes, which SDKs escape. */
static size_t unescape(struct span in, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < in.n && n + 1 < room; i++) {
        char c = in.p[i];
        if (c == '%' && i + 2 < in.n) {
            char hex[3] = {in.p[i + 1], in.p[i + 2], 0}, *end;
            unsigned long v = strtoul(hex, &end, 16);
            if (end == hex + 2 && v) {
                c = (char)v;
                i += 2;
            }
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n;
}

void serve_model(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    char id[400];
    size_t n = unescape(span_from(request_path(rq), strlen(at->path)), id, sizeof(id));
    struct buf out = {0};
    struct listing l = {
        .p = put_into(&out), .created = w->gateway->started_wall_ms / 1000, .only = span_of(id, n)};
    list_models(w, &l);
    if (l.any || l.p.err) {
        answer_json(rq, 200, &out, l.p.err);
        return;
    }
    buf_done(&out);
    relay_refuse(rq, &codec_openai_chat, 404, "model_not_found",
                 "no route or listed model has this name; GET /v1/models tells which have", 0);
}
