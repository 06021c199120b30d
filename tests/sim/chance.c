/* What a seed chooses: settings, mechanisms switched off included, and routes. */
#include "sim.h"

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN };

uint64_t one_of(struct rnd *r, const uint64_t *list, unsigned n)
{
    return list[rnd_below(r, n)];
}

void random_settings(struct rnd *r, struct settings *s)
{
    settings_default(s);
    if (rnd_below(r, 4) == 0)
        return;
    s->attempts = ONE_OF(r, 1, 2, 3, 3, 5, 20);
    s->backoff = ONE_OF(r, 0, 100, 1000, 5000);
    s->backoff_max = ONE_OF(r, 0, 2000, 30000, 300000);
    s->retry_after_max = ONE_OF(r, 0, 5000, 60000, 600000);
    s->retry_budget = ONE_OF(r, 0, 50000, 200000, 1000000);
    s->ttft = ONE_OF(r, 0, 500, 2000, 10000);
    s->ttft_adaptive = rnd_below(r, 3) > 0;
    s->hedge_budget = ONE_OF(r, 0, 50000, 100000, 1000000);
    s->first_token_timeout = ONE_OF(r, 3000, 20000, 60000, 60000);
    s->stall = ONE_OF(r, 0, 1000, 30000, 30000);
    s->call_timeout = ONE_OF(r, 30 * S, 5 * MIN, 30 * MIN);
    s->breaker_failures = ONE_OF(r, 0, 1, 5, 20);
    s->breaker_timeouts = ONE_OF(r, 0, 1, 3, 10);
    s->breaker_window = ONE_OF(r, 10 * S, 60 * S, 10 * MIN);
    s->breaker_hold = ONE_OF(r, 1 * S, 30 * S, 5 * MIN);
    s->breaker_hold_max = ONE_OF(r, 30 * S, 10 * MIN, 1 * HOUR);
    s->breaker_trials = ONE_OF(r, 1, 3, 10);
    s->probe = ONE_OF(r, 0, 5 * S, 30 * S, 5 * MIN);
    s->probe_waiting = ONE_OF(r, 0, 1 * S, 5 * S, 30 * S);
    s->affinity = ONE_OF(r, 0, 5 * MIN, 1 * HOUR);
    s->throttle_factor = ONE_OF(r, 0, 2500000, 3000000, 5000000);
    s->throttle_samples = ONE_OF(r, 6, 8, 20, 64);
    s->hold = ONE_OF(r, 0, 30 * S, 15 * MIN, 1 * HOUR);
    s->hold_single = ONE_OF(r, 0, 0, 10 * S, 5 * MIN);
    s->continuations = ONE_OF(r, 0, 1, 2, 8);
    if (s->call_timeout < s->first_token_timeout)
        s->call_timeout = 2 * s->first_token_timeout;
}

/* A few targets that stand together become the regions of one provider. */
static void random_group(struct rnd *r, struct route *route)
{
    if (route->count < 2 || rnd_below(r, 2))
        return;
    unsigned first = (unsigned)rnd_below(r, route->count - 1);
    unsigned end = first + 2 + (unsigned)rnd_below(r, route->count - first - 1);
    for (unsigned i = first; i < end; i++) {
        route->targets[i].group = first + 1;
        route->targets[i].weight = route->targets[first].weight;
    }
}

void random_route(struct world *w, struct route *route)
{
    struct rnd *r = &w->rnd;
    *route =
        (struct route){.name = "route", .strategy = (enum conf_strategy)rnd_below(r, 3), .settings = w->settings};
    for (unsigned i = 0; i < w->targets_count; i++) {
        if (rnd_below(r, 4) == 0 && !(i + 1 == w->targets_count && route->count == 0))
            continue;
        route->targets[route->count++] = (struct route_target){
            .target = w->targets[i].target, .weight = ONE_OF(r, 0, 1, 30, 70), .settings = w->settings};
    }
    random_group(r, route);
}
