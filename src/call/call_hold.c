/* Waiting for recovery: nothing can be used now, and time may heal that. */
#include "base/rnd.h"
#include "call/call_priv.h"

#include <assert.h>

/* How often a held call looks at least: probes and other calls find out that a target is back, not it. Calls that would look at the
 * same moment are spread. */
enum { HOLD_LOOK_MS = 2000, HOLD_SPREAD_MS = 250 };
/* Where nothing keeps calls from a target that fails (no breaker), a held call tries it again after so long at first. */
enum { HOLD_GAP_LEAST_MS = 1000, HOLD_DOUBLINGS_MOST = 20 };

static uint64_t hold_left(const struct call *c, uint64_t now)
{
    const struct settings *s = &c->want.route->settings;
    uint64_t most_ms = c->want.in_session ? s->hold : s->hold_single;
    if (c->continuing && s->hold > most_ms) /* half an answer is waited for, session or not */
        most_ms = s->hold;
    if (c->want.hold_ms != UINT64_MAX)
        most_ms = c->want.hold_ms;
    uint64_t held_ms = c->want.held_ms + c->held_ms + (c->state == CALL_HOLDING ? now - c->wait_began_ms : 0);
    return held_ms < most_ms ? most_ms - held_ms : 0;
}

/* A refused key, an unpaid account or an unknown model waits for a person. */
static bool parked_for_good(const struct target *t)
{
    return t->parked_for != FAILURE_NONE && t->parked_for != FAILURE_QUOTA;
}

/* When the first of the targets may be back; CLOCK_NEVER: there is none that it makes sense to wait for. */
static uint64_t first_recovery(const struct call *c, uint64_t now)
{
    uint64_t soonest_ms = CLOCK_NEVER;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        uint64_t at;
        struct target *t = c->want.route->targets[i].target;
        bool usable = target_usable(t, now, &at);
        if ((c->unfit | c->unhealing) >> i & 1 || (!usable && parked_for_good(t)))
            continue;
        if (!usable && target_only_guessed(t, c->want.prompt_bytes, now))
            at = now; /* no reason to hold: it stands in line there */
        else if (!usable)
            at = target_recovers_ms(t, at, now);
        if (c->not_before_ms[i] > at)
            at = c->not_before_ms[i];
        if (at < soonest_ms)
            soonest_ms = at;
    }
    return soonest_ms;
}

/* Until a target that has failed us, and that nothing else keeps calls from, is tried again: longer each time, and so long that the
 * attempts that a call may make last for the whole hold. */
static uint64_t gap(const struct call *c, const struct settings *s, uint64_t left_ms)
{
    assert(c->attempts_count < CALL_ATTEMPTS_MAX);
    unsigned doublings = c->hold_rounds < HOLD_DOUBLINGS_MOST ? c->hold_rounds : HOLD_DOUBLINGS_MOST;
    uint64_t ms = (s->backoff > HOLD_GAP_LEAST_MS ? s->backoff : HOLD_GAP_LEAST_MS) << doublings;
    uint64_t most_ms = left_ms * c->want.route->count / (CALL_ATTEMPTS_MAX - c->attempts_count);
    if (most_ms < s->backoff_max)
        most_ms = s->backoff_max;
    if (most_ms < HOLD_GAP_LEAST_MS)
        most_ms = HOLD_GAP_LEAST_MS;
    return ms < most_ms ? ms : most_ms;
}

static void look_again(struct call *c, uint64_t recovery_ms, uint64_t left_ms, uint64_t now)
{
    uint64_t wait_ms = recovery_ms - now;
    if (wait_ms > HOLD_LOOK_MS || recovery_ms <= now) /* then it is only not its turn, and is told when it is */
        wait_ms = HOLD_LOOK_MS;
    wait_ms += 1 + rnd_below(fleet_rnd(c->fleet), HOLD_SPREAD_MS);
    call_queue(c, now);
    c->try_at_ms = now + (wait_ms < left_ms ? wait_ms : left_ms);
}

bool call_hold(struct call *c, uint64_t now)
{
    uint64_t left_ms = hold_left(c, now);
    if (left_ms == 0)
        return false;
    unsigned rounds = c->hold_rounds;
    uint32_t unhealing = c->unhealing, failed = 0;
    for (unsigned i = 0; i < c->want.route->count; i++)
        failed |= (uint32_t)(c->tries[i] > 0) << i;
    call_afresh(c);
    c->hold_rounds = rounds;
    for (unsigned i = 0; i < c->want.route->count; i++)
        if (failed >> i & 1 && !(c->told >> i & 1))
            c->not_before_ms[i] = now + gap(c, &c->want.route->targets[i].settings, left_ms);
    c->hold_rounds++;
    c->unhealing = unhealing;
    c->used_up |= unhealing;
    uint64_t recovery_ms = first_recovery(c, now);
    if (recovery_ms >= now + left_ms)
        return false; /* it would be in vain */
    call_enter(c, CALL_HOLDING, now);
    look_again(c, recovery_ms, left_ms, now);
    return true;
}

/* An answer that another call got since then says more than our own failure before. */
static void believe_others(struct call *c)
{
    for (unsigned i = 0; i < c->want.route->count; i++)
        if (!(c->told >> i & 1) && c->want.route->targets[i].target->last_ok_ms > c->wait_began_ms)
            c->not_before_ms[i] = 0;
}

/* One of the targets that are back is its own to take before all others that wait. */
static bool has_turn(const struct call *c, uint64_t now)
{
    for (unsigned i = 0; i < c->want.route->count; i++) {
        uint64_t at;
        struct target *t = c->want.route->targets[i].target;
        if (!(c->used_up >> i & 1) && c->not_before_ms[i] <= now && target_usable(t, now, &at) &&
            queue_may_start(c->fleet, &c->ticket, t))
            return true;
    }
    return false;
}

void call_hold_look(struct call *c, uint64_t now, struct call_actions *ret)
{
    uint64_t left_ms = hold_left(c, now);
    believe_others(c);
    uint64_t recovery_ms = first_recovery(c, now);
    if (recovery_ms <= now && (left_ms == 0 || has_turn(c, now))) {
        call_enter(c, CALL_WAITING, now); /* the hold is in the books, and the deadline moved */
        call_advance(c, now, ret);
        return;
    }
    if (left_ms == 0 || recovery_ms >= now + left_ms)
        call_give_up(c, call_why_none(c), now, ret);
    else
        look_again(c, recovery_ms, left_ms, now);
}

/* ---- what is told of it */

/* Every target that may still help is out of use. */
static bool all_down(const struct call *c, uint64_t now)
{
    bool any = false;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        uint64_t at;
        if ((c->unfit | c->unhealing) >> i & 1)
            continue;
        enum target_bar bar = target_look(c->want.route->targets[i].target, c->want.prompt_bytes, now, &at);
        if (bar != TARGET_DOWN && bar != TARGET_PARKED && bar != TARGET_TRIAL)
            return false;
        any = true;
    }
    return any;
}

/* It waits for as long as it may without a hold, and then for what is left of one. */
static uint64_t waits_until(const struct call *c, uint64_t now)
{
    uint64_t most_ms = c->want.route->settings.retry_after_max, at = c->wait_began_ms;
    if (c->state == CALL_HOLDING)
        return now + hold_left(c, now);
    at += most_ms > c->waited_ms ? most_ms - c->waited_ms : 0;
    if (at >= c->deadline_ms)
        return c->deadline_ms;
    return (at > now ? at : now) + hold_left(c, now);
}

bool call_pause(const struct call *c, uint64_t now, struct call_pause *ret)
{
    if (c->state != CALL_WAITING && c->state != CALL_HOLDING)
        return false;
    *ret = (struct call_pause){.state = c->state, .since_ms = c->wait_began_ms, .next_ms = c->try_at_ms};
    if (all_down(c, now))
        ret->state = CALL_HOLDING;
    if (ret->state != CALL_HOLDING)
        return true;
    uint64_t recovery_ms = first_recovery(c, now);
    if (recovery_ms > now && recovery_ms != CLOCK_NEVER) /* till then it only looks */
        ret->next_ms = recovery_ms;
    ret->until_ms = waits_until(c, now);
    return true;
}
