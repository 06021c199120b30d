#include "base/hash.h"
#include "base/mem.h"
#include "route/fleet_priv.h"

#include <stdio.h>
#include <string.h>

enum { FLEET_CAPACITY_FIRST = 16 };

struct fleet *fleet_new(uint64_t seed)
{
    PD_CLEANUP(mem_freep) struct fleet *f = mem_zalloc(sizeof(*f));
    if (!f || affinity_init(&f->affinity))
        return NULL;
    if (pthread_mutex_init(&f->mutex, NULL)) {
        affinity_done(&f->affinity);
        return NULL;
    }
    f->rnd.state = seed;
    budget_init(&f->retries);
    budget_init(&f->hedges);
    waiters_init(&f->queue);
    return PD_TAKE(f);
}

static void target_free(struct target_node *n)
{
    mem_free((char *)n->target.name);
    mem_free((char *)n->target.provider);
    mem_free((char *)n->target.model);
    mem_free(n);
}

struct fleet *fleet_free(struct fleet *f)
{
    if (!f)
        return NULL;
    for (unsigned i = 0; i < FLEET_BUCKETS; i++)
        while (f->buckets[i]) {
            struct target_node *n = f->buckets[i];
            f->buckets[i] = n->next;
            target_free(n);
        }
    affinity_done(&f->affinity);
    waiters_done(&f->queue);
    unseen_done(&f->unseen);
    pthread_mutex_destroy(&f->mutex);
    mem_free(f->targets);
    mem_free(f);
    return NULL;
}

void fleet_lock(struct fleet *f)
{
    pthread_mutex_lock(&f->mutex);
}

void fleet_unlock(struct fleet *f)
{
    pthread_mutex_unlock(&f->mutex);
}

static void set_rules(struct target *t, const struct settings *s)
{
    t->breaker_rules = (struct breaker_rules){
        .failures = (unsigned)s->breaker_failures,
        .timeouts = (unsigned)s->breaker_timeouts,
        .window_ms = s->breaker_window,
        .hold_ms = s->breaker_hold,
        .hold_max_ms = s->breaker_hold_max,
        .trials = (unsigned)s->breaker_trials,
        .probes = s->probe > 0,
    };
    t->probe_every_ms = s->probe;
    t->early_every_ms = s->probe_waiting;
    t->limited = s->concurrency_adaptive;
    if (!t->limited && t->limiter.state == LIMITER_LIMITED)
        t->limiter.state = LIMITER_FREE;
    t->rate_paced = s->rate_pacing;
    t->pace_rules = (struct pace_rules){
        .factor = (double)s->throttle_factor / 1e6,
        .samples = (unsigned)s->throttle_samples,
        .hold_ms = s->breaker_hold,
        .hold_max_ms = s->breaker_hold_max,
        .trials = (unsigned)s->breaker_trials,
    };
}

static struct target_node **bucket_of(struct fleet *f, const char *provider, const char *model)
{
    uint64_t h = hash_bytes(span_str(provider), 0);
    return &f->buckets[hash_bytes(span_str(model), h) % FLEET_BUCKETS];
}

static char *full_name(const char *provider, const char *model)
{
    size_t n = strlen(provider) + strlen(model) + 2;
    char *s = mem_alloc(n);
    if (s)
        snprintf(s, n, "%s/%s", provider, model);
    return s;
}

static struct target_node *target_new(struct fleet *f, const char *provider, const char *model)
{
    struct target_node *n = mem_zalloc(sizeof(*n));
    if (!n)
        return NULL;
    struct target *t = &n->target;
    t->provider = mem_strdup(provider);
    t->model = mem_strdup(model);
    t->name = full_name(provider, model);
    if (!t->provider || !t->model || !t->name) {
        target_free(n);
        return NULL;
    }
    t->fleet = f;
    breaker_init(&t->breaker);
    pace_init(&t->pace);
    rate_budget_init(&t->budget);
    t->rate = (struct rate_facts){-1, -1, -1, -1, -1, -1};
    return n;
}

static pd_err room_for_one(struct fleet *f)
{
    if (f->count == FLEET_TARGETS_MAX)
        return PD_TOOBIG;
    if (f->count < f->capacity)
        return PD_OK;
    unsigned capacity = f->capacity ? f->capacity * 2 : FLEET_CAPACITY_FIRST;
    struct target **list = mem_realloc(f->targets, capacity * sizeof(struct target *));
    if (!list)
        return PD_NOMEM;
    f->targets = list;
    f->capacity = capacity;
    return PD_OK;
}

pd_err fleet_target(struct fleet *f, const char *provider, const char *model, const struct settings *s,
                    struct target **ret)
{
    struct target_node **bucket = bucket_of(f, provider, model);
    for (struct target_node *n = *bucket; n; n = n->next) {
        if (strcmp(n->target.provider, provider) != 0 || strcmp(n->target.model, model) != 0)
            continue;
        set_rules(&n->target, s);
        *ret = &n->target;
        return PD_OK;
    }
    pd_err e = room_for_one(f);
    if (e)
        return e;
    struct target_node *n = target_new(f, provider, model);
    if (!n)
        return PD_NOMEM;
    set_rules(&n->target, s);
    n->next = *bucket;
    *bucket = n;
    n->target.id = f->count;
    f->targets[f->count++] = &n->target;
    unseen_find(f, &n->target);
    *ret = &n->target;
    return PD_OK;
}

unsigned fleet_count(const struct fleet *f)
{
    return f->count;
}

struct target *fleet_at(struct fleet *f, unsigned i)
{
    return f->targets[i];
}

struct rnd *fleet_rnd(struct fleet *f)
{
    return &f->rnd;
}

struct budget *fleet_retry_budget(struct fleet *f)
{
    return &f->retries;
}

struct budget *fleet_hedge_budget(struct fleet *f)
{
    return &f->hedges;
}

void fleet_set_watch(struct fleet *f, const struct fleet_watch *w, void *ctx)
{
    f->watch = *w;
    f->watch_ctx = ctx;
}
