#include "relay/prober.h"

#include "base/clock.h"
#include "base/mem.h"
#include "dialect/codec.h"
#include "dialect/models.h"
#include "relay/small.h"

enum {
    PROBE_TIMEOUT_MS = 15000,
    PROBE_ANSWER_MAX = 256 * 1024,
    LIST_TIMEOUT_MS = 15000,
    LIST_ANSWER_MAX = 8 << 20,
    LIST_AGAIN_MS = 30000, /* after a failed read */
    LOOK_MOST_MS = 1000,   /* how long a want for a probe may go unseen */
};

struct probe {
    struct list node;
    struct prober *prober;
    struct target *target; /* a health probe */
    char *provider;        /* a model list */
    const struct preset *preset;
    struct small *small;
    struct answer *reader; /* of a streamed answer */
    bool shown;            /* and it has shown output */
    bool refused;          /* or an error: */
    struct verdict verdict;
};

struct prober {
    struct worker *w;
    struct timer probes, lists;
    struct list running;
};

static void probe_free(struct probe *p)
{
    list_remove(&p->node);
    answer_free(p->reader);
    mem_free(p->provider);
    mem_free(p);
}

static struct probe *probe_new(struct prober *of)
{
    struct probe *p = mem_zalloc(sizeof(*p));
    if (!p)
        return NULL;
    p->prober = of;
    list_init(&p->node);
    list_push(&of->running, &p->node);
    return p;
}

/* ---- health --------------------------------------------------------------------- */

static void look(struct prober *p);

static void probe_result(struct prober *p, struct target *t, const struct verdict *v)
{
    struct worker *w = p->w;
    meter_add(w->meter, METER_PROBES, 1,
              LABELS(t->provider, t->model, v->failure == FAILURE_NONE ? "passed" : "failed"));
    LOG(NULL, LOG_INFO, "probe.end", "target=%s result=%s class=%s status=%d", t->name,
        v->failure == FAILURE_NONE ? "passed" : "failed", failure_row(v->failure)->name, v->status);
    fleet_lock(w->gateway->fleet);
    fleet_probe_result(w->gateway->fleet, t, v, loop_now_ms(w->loop));
    fleet_unlock(w->gateway->fleet);
}

/* Responses has the member in every answer: null. */
static bool says_error(struct span body)
{
    enum json_type t = json_path((struct json){JSON_OBJECT, span_trim(body)}, "error").type;
    return t != JSON_NONE && t != JSON_NULL;
}

/* The first output, or an error, decides: a provider that gives two tokens in a second would take long for all of them. */
static pd_err on_probe_event(void *ctx, const struct answer_event *ev)
{
    struct probe *p = ctx;
    if (ev->holds & ANSWER_ERROR) {
        p->refused = true;
        classify_answer(p->preset, NULL, 200, ev->error.raw, clock_wall_ms(), &p->verdict);
    }
    p->shown |= ev->holds & ANSWER_OUTPUT;
    return p->shown || p->refused ? PD_CANCELLED : PD_OK;
}

/* Bytes that are no stream are left to the end: it may be one document. */
static bool look_at_probe(void *ctx, struct span bytes)
{
    struct probe *p = ctx;
    if (p->reader && answer_feed(p->reader, bytes))
        p->reader = answer_free(p->reader);
    return p->shown || p->refused;
}

/* A provider that understood the probe and objects to its content is alive: its own limits on a one-token request are no fault. */
static void on_probe(void *ctx, const struct small_answer *a)
{
    struct probe *p = ctx;
    struct prober *of = p->prober;
    struct verdict v;
    if (a->err)
        classify_transport(a->err, a->why, a->status != 0, &v);
    else if (p->refused)
        v = p->verdict;
    else if (a->status == 200 && (p->shown || !says_error(a->body)))
        classify_as(FAILURE_NONE, "", &v);
    else
        classify_answer(p->preset, NULL, a->status, a->body, clock_wall_ms(), &v);
    if (failure_row(v.failure)->blame == BLAME_NONE && v.failure != FAILURE_OURS)
        v.failure = FAILURE_NONE;
    v.status = a->status;
    struct target *t = p->target;
    probe_free(p);
    probe_result(of, t, &v);
    look(of);
}

static void probe(struct prober *of, struct target *t)
{
    struct worker *w = of->w;
    struct verdict v;
    const struct conf_provider *provider = routing_provider(w->routing, t);
    struct probe *one = provider ? probe_new(of) : NULL;
    if (!one) {
        classify_as(FAILURE_OURS, provider ? "out of memory" : "its provider is no longer configured", &v);
        probe_result(of, t, &v);
        return;
    }
    one->target = t;
    one->preset = provider->preset;
    struct arena a;
    struct ask ask;
    arena_init(&a, 512, 0);
    pd_err e = ask_probe(provider, span_str(t->model), w->gateway->spoken[t->id], &a, &ask);
    if (!e) {
        struct small_request what = {.ask = &ask, .model = span_str(t->model), .look = look_at_probe};
        if (ask.stream)
            one->reader = answer_new(ask.codec, ask.wire->framing, on_probe_event, one);
        e = ask.stream && !one->reader ? PD_NOMEM
                                       : small_start(w, w->routing, provider, &what, PROBE_ANSWER_MAX,
                                                     PROBE_TIMEOUT_MS, on_probe, one, &one->small);
        ask_done(&ask);
    }
    arena_done(&a);
    if (e) {
        probe_free(one);
        classify_as(FAILURE_OURS, pd_err_text(e), &v);
        probe_result(of, t, &v);
    }
}

static void look(struct prober *p)
{
    struct worker *w = p->w;
    uint64_t now = loop_now_ms(w->loop), next = CLOCK_NEVER;
    for (unsigned n = 0; n < 16; n++) {
        fleet_lock(w->gateway->fleet);
        struct target *t = fleet_probe_due(w->gateway->fleet, now, &next);
        fleet_unlock(w->gateway->fleet);
        if (!t)
            break;
        probe(p, t);
    }
    uint64_t due = next < now + LOOK_MOST_MS ? next : now + LOOK_MOST_MS;
    timer_arm(w->loop, &p->probes, due > now ? due : now + 1);
}

static void on_look(void *ctx)
{
    look(ctx);
}

/* ---- model lists -------------------------------------------------------------------- */

struct names {
    char **list;
    unsigned count, room;
    pd_err err;
    bool resources; /* Gemini's: "models/NAME" */
};

static pd_err on_name(void *ctx, struct span id)
{
    struct names *n = ctx;
    if (n->resources && span_starts(id, "models/"))
        id = span_from(id, strlen("models/"));
    if (n->count == CATALOG_MODELS_MAX || !id.n || !routing_name_ok(id))
        return PD_OK;
    if (n->count == n->room) {
        unsigned room = n->room ? n->room * 2 : 64;
        char **more = mem_realloc(n->list, room * sizeof(char *));
        if (!more)
            return PD_NOMEM;
        n->list = more;
        n->room = room;
    }
    n->list[n->count] = mem_strndup(id.p, id.n);
    if (!n->list[n->count])
        return PD_NOMEM;
    n->count++;
    return PD_OK;
}

static void read_lists(struct prober *p);

static void on_list(void *ctx, const struct small_answer *a)
{
    struct probe *one = ctx;
    struct prober *p = one->prober;
    struct worker *w = p->w;
    struct names names = {.resources = one->preset->auth == AUTH_GOOG_KEY};
    pd_err e = a->err;
    if (!e && a->status != 200)
        e = PD_NOTFOUND;
    if (!e)
        e = models_read(a->body, on_name, &names);
    if (!e) {
        fleet_lock(w->gateway->fleet);
        e = catalog_set(&w->gateway->catalog, one->provider, names.list, names.count);
        fleet_unlock(w->gateway->fleet);
    }
    if (e) {
        catalog_free_models(names.list, names.count);
        LOG(NULL, LOG_WARN, "models.failed", "provider=%s status=%d why=%s", one->provider, a->status,
            pd_err_name(e));
        timer_arm(w->loop, &p->lists, loop_now_ms(w->loop) + LIST_AGAIN_MS);
    } else {
        LOG(NULL, LOG_INFO, "models.read", "provider=%s count=%u", one->provider, names.count);
    }
    probe_free(one);
}

static bool reading(const struct prober *p, const char *provider)
{
    for (const struct list *n = p->running.next; n != &p->running; n = n->next) {
        const struct probe *one = LIST_OF(n, struct probe, node);
        if (one->provider && strcmp(one->provider, provider) == 0)
            return true;
    }
    return false;
}

static void read_list(struct prober *p, const struct conf_provider *provider)
{
    struct probe *one = reading(p, provider->name) ? NULL : probe_new(p);
    if (!one)
        return;
    one->preset = provider->preset;
    one->provider = mem_strdup(provider->name);
    struct small_request what = {.below = provider->preset->models_path};
    pd_err e = one->provider ? small_start(p->w, p->w->routing, provider, &what, LIST_ANSWER_MAX, LIST_TIMEOUT_MS,
                                           on_list, one, &one->small)
                             : PD_NOMEM;
    if (e)
        probe_free(one);
}

static void read_lists(struct prober *p)
{
    const struct conf *c = routing_conf(p->w->routing);
    timer_arm(p->w->loop, &p->lists, loop_now_ms(p->w->loop) + c->settings.models_refresh);
    for (unsigned i = 0; i < c->providers_count; i++)
        if (c->providers[i].models_count == 0 && c->providers[i].preset->models_path)
            read_list(p, &c->providers[i]);
}

static void on_lists(void *ctx)
{
    read_lists(ctx);
}

/* ---- life ----------------------------------------------------------------------------- */

struct prober *prober_new(struct worker *w)
{
    struct prober *p = mem_zalloc(sizeof(*p));
    if (!p)
        return NULL;
    p->w = w;
    list_init(&p->running);
    timer_init(&p->probes, on_look, p);
    timer_init(&p->lists, on_lists, p);
    look(p);
    read_lists(p);
    return p;
}

struct prober *prober_free(struct prober *p)
{
    if (!p)
        return NULL;
    timer_stop(p->w->loop, &p->probes);
    timer_stop(p->w->loop, &p->lists);
    LIST_EACH(node, &p->running)
    {
        struct probe *one = LIST_OF(node, struct probe, node);
        small_cancel(one->small);
        probe_free(one);
    }
    mem_free(p);
    return NULL;
}

void prober_kick(struct prober *p, bool lists)
{
    if (!p)
        return;
    look(p);
    if (lists)
        read_lists(p);
}
