/* Probes: which target wants one, and what its result means. */
#include "base/clock.h"
#include "route/fleet_priv.h"

/* ---- early probes */

/* Its hold, or the time between two probes, is all that keeps it from being probed. */
static bool early_helps(const struct target *t)
{
    return t->early_every_ms > 0 && t->probe_every_ms > 0 && t->parked_for == FAILURE_NONE &&
           (t->breaker.state == BREAKER_OPEN || t->breaker.state == BREAKER_PROBING);
}

static uint64_t doubled(uint64_t ms, unsigned times, uint64_t most_ms)
{
    while (times-- > 0 && ms < most_ms)
        ms *= 2;
    return ms < most_ms ? ms : most_ms;
}

void target_early_later(struct target *t, uint64_t now)
{
    uint64_t ms = doubled(EARLY_FIRST_MS, t->early_probes, t->early_every_ms);
    ms = doubled(ms, t->false_starts, EARLY_MOST_MS);
    uint64_t at = now + (uint64_t)((double)ms * (0.8 + 0.4 * rnd_unit(&t->fleet->rnd)));
    if (at > t->early_at_ms)
        t->early_at_ms = at;
}

void target_early_told(struct target *t, const struct verdict *v, uint64_t now)
{
    if (v->has_retry_after && now + v->retry_after_ms > t->early_at_ms)
        t->early_at_ms = now + v->retry_after_ms;
}

static uint64_t early_time(const struct target *t)
{
    return t->rest_until_ms > t->early_at_ms ? t->rest_until_ms : t->early_at_ms;
}

uint64_t target_recovers_ms(const struct target *t, uint64_t ready_at_ms, uint64_t now)
{
    if (!early_helps(t))
        return ready_at_ms;
    uint64_t at = early_time(t);
    at = (at > now ? at : now) + TARGET_SOON_MS;
    return at < ready_at_ms ? at : ready_at_ms;
}

/* ---- which one is due */

/* When this target may be probed whoever waits; CLOCK_NEVER: it needs none. */
static uint64_t probe_time(struct target *t, uint64_t now)
{
    target_tick(t, now);
    bool parked = t->parked_for != FAILURE_NONE;
    if (t->probing || t->probe_every_ms == 0 ||
        (!parked && t->breaker.state != BREAKER_PROBING && t->breaker.state != BREAKER_OPEN))
        return CLOCK_NEVER;
    uint64_t at = t->probe_at_ms;
    if (t->rest_until_ms > at)
        at = t->rest_until_ms;
    if (parked && t->park_until_ms > at)
        at = t->park_until_ms;
    if (t->breaker.state == BREAKER_OPEN && t->breaker.open_until_ms > at)
        at = t->breaker.open_until_ms;
    return at;
}

/* The same, with early probes where calls wait. `*ret_look`: when to see again whether any do. */
static uint64_t probe_time_now(struct target *t, uint64_t now, uint64_t *ret_look)
{
    uint64_t at = probe_time(t, now);
    *ret_look = at;
    if (t->probing || !early_helps(t) || early_time(t) >= at)
        return at;
    if (early_time(t) > now) {
        *ret_look = early_time(t);
        return at;
    }
    if (queue_waits_for(t->fleet, t))
        return now;
    if (now + EARLY_LOOK_MS < at)
        *ret_look = now + EARLY_LOOK_MS;
    return at;
}

static void begin_probe(struct target *t, uint64_t now)
{
    t->probing = true;
    t->probe_at_ms = now + t->probe_every_ms + rnd_below(&t->fleet->rnd, t->probe_every_ms / 4 + 1);
    if (early_helps(t)) {
        if (t->early_probes < EARLY_MOST_MS / EARLY_FIRST_MS) /* enough for all doublings */
            t->early_probes++;
        target_early_later(t, now);
    }
}

struct target *fleet_probe_due(struct fleet *f, uint64_t now, uint64_t *ret_next_ms)
{
    *ret_next_ms = CLOCK_NEVER;
    for (unsigned i = 0; i < f->count; i++) {
        struct target *t = f->targets[i];
        uint64_t look;
        if (probe_time_now(t, now, &look) <= now) {
            begin_probe(t, now);
            *ret_next_ms = now;
            return t;
        }
        if (look < *ret_next_ms)
            *ret_next_ms = look;
    }
    return NULL;
}

void fleet_probe_result(struct fleet *f, struct target *t, const struct verdict *v, uint64_t now)
{
    (void)f;
    t->probing = false;
    if (v->failure == FAILURE_OURS)
        return;
    switch (failure_row(v->failure)->blame) {
    case BLAME_NONE: /* any answer about the request itself shows that the target works */
        target_unpark(t, now);
        target_breaker_probed(t, true, now);
        break;
    case BLAME_LIMIT:
        target_rest(t, v, now);
        break;
    case BLAME_PARK:
        target_park(t, v->failure, v, now);
        break;
    case BLAME_FAILURE:
    case BLAME_TIMEOUT:
        target_early_told(t, v, now);
        target_breaker_probed(t, false, now);
        if (t->parked_for != FAILURE_NONE)
            target_park(t, t->parked_for, v, now);
        break;
    }
}
