#include "route/limiter.h"

const char *limiter_state_name(enum limiter_state s)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        LIMITER_STATES(X)
#undef X
    };
    return (unsigned)s < LIMITER_STATE_COUNT ? names[s] : "?";
}

unsigned limiter_limit(const struct limiter *l)
{
    return l->state == LIMITER_FREE ? 0 : (unsigned)l->limit;
}

/* The limit that nobody has met for a while is not needed any more. */
static void lift(struct limiter *l, uint64_t now)
{
    uint64_t calm_ms = l->state == LIMITER_RAMP ? LIMITER_RAMP_LIFT_MS : LIMITER_LIFT_MS;
    if (l->limit >= LIMITER_MOST || now - l->bound_ms >= calm_ms)
        l->state = LIMITER_FREE;
}

bool limiter_allows(struct limiter *l, unsigned running, uint64_t now)
{
    if (l->state == LIMITER_FREE)
        return true;
    bool free = running < (unsigned)l->limit;
    if (free)
        lift(l, now);
    else
        l->bound_ms = now;
    return free;
}

/* Half of all that a ramp has let in, while rounds double, came in the last one. */
static double ramp_step(const struct limiter *l)
{
    return l->limit - l->began_with < 2.0 * LIMITER_RAMP_ROUND ? 2 : 1;
}

void limiter_success(struct limiter *l)
{
    if (l->state == LIMITER_LIMITED)
        l->limit += 1 / l->limit;
    else if (l->state == LIMITER_RAMP)
        l->limit += ramp_step(l);
}

bool limiter_overload(struct limiter *l, unsigned running, uint64_t started_ms, uint64_t now)
{
    if (l->cuts_total > 0 && started_ms <= l->cut_ms)
        return false; /* one burst is one event */
    double limit = (double)running * LIMITER_SHARE;
    if (l->state != LIMITER_FREE && l->limit * LIMITER_SHARE < limit)
        limit = l->limit * LIMITER_SHARE;
    l->state = LIMITER_LIMITED;
    l->limit = limit < 1 ? 1 : limit;
    l->cut_ms = l->bound_ms = now;
    l->cuts_total++;
    return true;
}

void limiter_ramp(struct limiter *l, unsigned first, uint64_t now)
{
    if (first < LIMITER_RAMP_FIRST)
        first = LIMITER_RAMP_FIRST;
    if (l->state != LIMITER_FREE && l->limit <= first)
        return;
    l->state = LIMITER_RAMP;
    l->limit = l->began_with = first;
    l->bound_ms = now;
}
