/* Which target a call takes. */
#include "base/clock.h"
#include "route/fleet_priv.h"

/* `latency` now and then looks whether another has become faster. */
#define EXPLORE_SHARE 0.05
/* An answer's length, for weighing the first token against the rest. */
enum { NOMINAL_TOKENS = 100 };

/* The route targets that can be used now; fills ready_at with the earliest moment for one of the others. */
static uint32_t usable_set(const struct pick_ask *ask, uint64_t *ret_ready_at_ms)
{
    uint32_t set = 0;
    *ret_ready_at_ms = CLOCK_NEVER;
    for (unsigned i = 0; i < ask->route->count; i++) {
        if (ask->not_these >> i & 1)
            continue;
        struct target *t = ask->route->targets[i].target;
        uint64_t at;
        bool usable = target_look(t, ask->prompt_bytes, ask->now_ms, &at) == TARGET_FREE;
        if (usable && ask->ticket && !queue_may_start(t->fleet, ask->ticket, t)) {
            usable = false;
            at = CLOCK_NEVER; /* others come first: whoever waits is told */
        }
        if (!usable && ask->pressed)
            usable = target_only_guessed(t, ask->prompt_bytes, ask->now_ms);
        if (usable)
            set |= 1u << i;
        else if (at < *ret_ready_at_ms)
            *ret_ready_at_ms = at;
    }
    return set;
}

/* Those that throttle by becoming slow come last: without any other they are all there is. */
static uint32_t without_throttled(const struct pick_ask *ask, uint32_t set)
{
    uint32_t quick = 0;
    for (unsigned i = 0; i < ask->route->count; i++)
        if (set >> i & 1 && !pace_spared(&ask->route->targets[i].target->pace, ask->now_ms))
            quick |= 1u << i;
    return quick ? quick : set;
}

/* Targets of weight 0 stand by: without any other they are all there is. */
static uint32_t without_standbys(const struct route *r, uint32_t set)
{
    uint32_t weighted = 0;
    for (unsigned i = 0; i < r->count; i++)
        if (set >> i & 1 && r->targets[i].weight > 0)
            weighted |= 1u << i;
    return weighted ? weighted : set;
}

static int first_of(uint32_t set)
{
    return __builtin_ctz(set);
}

static int any_of(struct rnd *rnd, uint32_t set)
{
    for (uint64_t skip = rnd_below(rnd, (uint64_t)__builtin_popcount(set)); skip > 0; skip--)
        set &= set - 1;
    return first_of(set);
}

static uint32_t of_group(const struct route *r, unsigned group, uint32_t set)
{
    uint32_t members = 0;
    for (unsigned i = 0; group && i < r->count; i++)
        if (set >> i & 1 && r->targets[i].group == group)
            members |= 1u << i;
    return members;
}

/* A group's weight is that of the first of its regions that can be used: the later ones carry none. */
static uint32_t without_later_regions(const struct route *r, uint32_t set)
{
    uint32_t heads = set;
    for (unsigned i = 0; i < r->count; i++)
        if (heads >> i & 1 && r->targets[i].group)
            heads &= ~of_group(r, r->targets[i].group, set) | 1u << i;
    return heads;
}

static int by_weight(struct rnd *rnd, const struct route *r, uint32_t set)
{
    set = without_later_regions(r, set);
    uint64_t total = 0;
    for (unsigned i = 0; i < r->count; i++)
        if (set >> i & 1)
            total += r->targets[i].weight;
    if (total == 0)
        return first_of(set); /* only standbys: in the order of the config */
    uint64_t at = rnd_below(rnd, total);
    for (unsigned i = 0; i < r->count; i++) {
        if (!(set >> i & 1))
            continue;
        if (at < r->targets[i].weight)
            return (int)i;
        at -= r->targets[i].weight;
    }
    return first_of(set);
}

static double expected_ms(const struct target *t)
{
    double ms = t->ttft_ms.value;
    if (t->tokens_per_second.samples && t->tokens_per_second.value > 0)
        ms += NOMINAL_TOKENS * 1000.0 / t->tokens_per_second.value;
    return ms * (1 + t->running);
}

static int by_latency(struct rnd *rnd, const struct route *r, uint32_t set)
{
    if (rnd_unit(rnd) < EXPLORE_SHARE)
        return any_of(rnd, set);
    int best = -1;
    double best_ms = 0;
    for (unsigned i = 0; i < r->count; i++) {
        if (!(set >> i & 1))
            continue;
        const struct target *t = r->targets[i].target;
        if (t->ttft_ms.samples == 0) {
            if (t->running == 0)
                return (int)i; /* one call at a time finds out */
            continue;
        }
        double ms = expected_ms(t);
        if (best < 0 || ms < best_ms) {
            best = (int)i;
            best_ms = ms;
        }
    }
    return best >= 0 ? best : any_of(rnd, set);
}

static int of_session(const struct fleet *f, const struct pick_ask *ask, uint32_t set)
{
    int id = affinity_get(&f->affinity, ask->session, ask->now_ms);
    if (id < 0)
        return -1;
    for (unsigned i = 0; i < ask->route->count; i++)
        if (set >> i & 1 && ask->route->targets[i].target->id == (unsigned)id)
            return (int)i;
    return -1;
}

void fleet_pick(struct fleet *f, const struct pick_ask *ask, struct pick *ret)
{
    ret->index = -1;
    uint32_t set = usable_set(ask, &ret->ready_at_ms);
    if (!set)
        return;
    set = without_throttled(ask, set);
    uint32_t regions = of_group(ask->route, ask->group, set);
    set = without_standbys(ask->route, set);
    ret->index = of_session(f, ask, set);
    if (ret->index < 0 && regions)
        ret->index = first_of(regions);
    if (ret->index >= 0)
        return;
    switch (ask->route->strategy) {
    case STRATEGY_WEIGHTED:
        ret->index = by_weight(&f->rnd, ask->route, set);
        break;
    case STRATEGY_PRIORITY:
        ret->index = first_of(set);
        break;
    case STRATEGY_LATENCY:
        ret->index = by_latency(&f->rnd, ask->route, set);
        break;
    }
}

void fleet_remember(struct fleet *f, uint64_t session, const struct target *t, uint64_t keep_ms, uint64_t now)
{
    affinity_set(&f->affinity, session, t->id, keep_ms, now);
}
