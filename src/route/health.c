/* Probes: which target wants one, and what its result means. */
#include "base/clock.h"
#include "route/fleet_priv.h"

/* When this target may be probed; CLOCK_NEVER: it needs none. */
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

struct target *fleet_probe_due(struct fleet *f, uint64_t now, uint64_t *ret_next_ms)
{
    *ret_next_ms = CLOCK_NEVER;
    for (unsigned i = 0; i < f->count; i++) {
        struct target *t = f->targets[i];
        uint64_t at = probe_time(t, now);
        if (at <= now) {
            t->probing = true;
            t->probe_at_ms = now + t->probe_every_ms + rnd_below(&f->rnd, t->probe_every_ms / 4 + 1);
            *ret_next_ms = now;
            return t;
        }
        if (at < *ret_next_ms)
            *ret_next_ms = at;
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
        target_breaker_probed(t, false, now);
        if (t->parked_for != FAILURE_NONE)
            target_park(t, t->parked_for, v, now);
        break;
    }
}
