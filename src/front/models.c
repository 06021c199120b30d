/* The models that can be asked for, in the shape of whoever asks: routes first, then what each provider lists or was given, by its own
 * name and as provider/model. */
#include "base/mem.h"
#include "dialect/codec.h"
#include "front/front_priv.h"
#include "parse/url.h"
#include "relay/relay.h"
#include "relay/routing.h"

#include <stdio.h>
#include <time.h>

struct listing;
typedef void put_model_fn(struct listing *l, const char *owner, const char *id);

struct listing {
    struct put p;
    uint64_t created; /* Unix seconds */
    bool any;
    struct span only; /* p NULL: all */
    put_model_fn *put;
    char first[400], last[400];
};

/* ---- shapes ----------------------------------------------------------------------- */

static void put_openai(struct listing *l, const char *owner, const char *id)
{
    put_text(&l->p, "{\"id\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"object\":\"model\",\"created\":");
    put_uint(&l->p, l->created);
    put_text(&l->p, ",\"owned_by\":");
    put_json(&l->p, span_str(owner));
    put_text(&l->p, "}");
}

/* 2026-11-24T06:34:40Z */
static void put_moment(struct listing *l)
{
    char text[32];
    struct tm tm;
    time_t t = (time_t)l->created;
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    put_json(&l->p, span_str(text));
}

static void put_anthropic(struct listing *l, const char *owner, const char *id)
{
    (void)owner;
    put_text(&l->p, "{\"type\":\"model\",\"id\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"display_name\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"created_at\":");
    put_moment(l);
    put_text(&l->p, "}");
}

static void put_gemini(struct listing *l, const char *owner, const char *id)
{
    (void)owner;
    put_text(&l->p, "{\"name\":\"models/");
    put_json_inner(&l->p, span_str(id));
    put_text(&l->p, "\",\"baseModelId\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"version\":\"1\",\"displayName\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"supportedGenerationMethods\":[\"generateContent\",\"countTokens\",\"embedContent\"]}");
}

static void put_ollama(struct listing *l, const char *owner, const char *id)
{
    put_text(&l->p, "{\"name\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"model\":");
    put_json(&l->p, span_str(id));
    put_text(&l->p, ",\"modified_at\":");
    put_moment(l);
    put_text(&l->p, ",\"size\":0,\"digest\":\"\",\"details\":{\"parent_model\":\"\",\"format\":\"\",\"family\":");
    put_json(&l->p, span_str(owner));
    put_text(&l->p, ",\"families\":[],\"parameter_size\":\"\",\"quantization_level\":\"\"}}");
}

/* One path has three meanings: Anthropic's clients send their version, Google's their kind of key. */
static put_model_fn *shape_of(struct request *rq, const struct endpoint *at)
{
    if (at->codec == &codec_gemini || request_header(rq, "x-goog-api-key").p)
        return put_gemini;
    return request_header(rq, "anthropic-version").p ? put_anthropic : put_openai;
}

/* ---- the list --------------------------------------------------------------------- */

static void put_model(struct listing *l, const char *owner, const char *prefix, const char *model)
{
    char id[sizeof(l->last)];
    int n = snprintf(id, sizeof(id), "%s%s%s", prefix, *prefix ? "/" : "", model);
    if (n < 0 || (size_t)n >= sizeof(id) || (l->only.p && !span_is(l->only, id)))
        return;
    if (l->any && l->only.p)
        return;
    put_text(&l->p, l->any ? "," : "");
    l->put(l, owner, id);
    memcpy(l->last, id, (size_t)n + 1);
    if (!l->any)
        memcpy(l->first, id, (size_t)n + 1);
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

static struct listing listing_of(struct worker *w, struct buf *out, put_model_fn *put)
{
    return (struct listing){.p = put_into(out), .created = w->gateway->started_wall_ms / 1000, .put = put};
}

static void put_id(struct listing *l, const char *key, const char *id)
{
    put_text(&l->p, key);
    if (l->any)
        put_json(&l->p, span_str(id));
    else
        put_text(&l->p, "null");
}

void serve_models(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    struct buf out = {0};
    struct listing l = listing_of(w, &out, shape_of(rq, at));
    put_text(&l.p, l.put == put_openai   ? "{\"object\":\"list\",\"data\":["
                   : l.put == put_gemini ? "{\"models\":["
                                         : "{\"data\":[");
    list_models(w, &l);
    put_text(&l.p, "]");
    if (l.put == put_anthropic) {
        put_id(&l, ",\"has_more\":false,\"first_id\":", l.first);
        put_id(&l, ",\"last_id\":", l.last);
    }
    put_text(&l.p, "}");
    answer_json(rq, 200, &out, l.p.err);
}

void serve_tags(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct buf out = {0};
    struct listing l = listing_of(w, &out, put_ollama);
    put_text(&l.p, "{\"models\":[");
    list_models(w, &l);
    put_text(&l.p, "]}");
    answer_json(rq, 200, &out, l.p.err);
}

/* Ollama's clients look whether their server is there. */
void serve_version(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)w, (void)at, (void)key;
    answer_text(rq, 200, "application/json", SPAN_LIT("{\"version\":\"" PERDURE_VERSION "\"}"));
}

void serve_model(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    char id[400];
    struct span asked = span_from(request_path(rq), strlen(at->path));
    struct buf out = {0};
    struct listing l = listing_of(w, &out, shape_of(rq, at));
    if (asked.n < sizeof(id)) { /* model names hold slashes, which SDKs escape */
        l.only = span_of(id, url_unescape(asked, id));
        list_models(w, &l);
    }
    if (l.any || l.p.err) {
        answer_json(rq, 200, &out, l.p.err);
        return;
    }
    buf_done(&out);
    const struct codec *c = l.put == put_gemini      ? &codec_gemini
                            : l.put == put_anthropic ? &codec_anthropic
                                                     : &codec_openai_chat;
    relay_refuse(rq, c, 404, "model_not_found",
                 "no route or listed model has this name; GET /v1/models tells which have", 0);
}
