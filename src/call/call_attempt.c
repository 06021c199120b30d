#include "call/call_priv.h"

#include <assert.h>

struct route_target *call_target_of(const struct call *c, const struct attempt *a)
{
    return (struct route_target *)&c->want.route->targets[a->target];
}

bool call_running_one(const struct call *c, int attempt)
{
    return attempt >= 0 && (unsigned)attempt < c->attempts_count && c->attempts[attempt].state == ATTEMPT_RUNNING;
}

unsigned call_running(const struct call *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->attempts_count; i++)
        n += c->attempts[i].state == ATTEMPT_RUNNING;
    return n;
}

static unsigned free_lane(const struct call *c)
{
    unsigned lane = 0;
    while (c->lanes[lane].taken)
        lane++;
    assert(lane < CALL_RUNNING_MAX);
    return lane;
}

void call_start(struct call *c, unsigned target, bool hedge, uint64_t now, struct call_actions *ret)
{
    assert(c->attempts_count < c->attempts_room);
    const struct route_target *rt = &c->want.route->targets[target];
    int n = (int)c->attempts_count++;
    queue_leave(c->fleet, &c->ticket, true, now);
    uint64_t limit_ms = target_ttft_limit(rt->target, &rt->settings, c->want.prompt_bytes, c->want.reasoning);
    uint64_t wish_ms = c->want.ttft_ms == UINT64_MAX ? limit_ms : c->want.ttft_ms;
    unsigned lane = free_lane(c);
    c->attempts[n] = (struct attempt){.state = ATTEMPT_RUNNING,
                                      .target = (uint8_t)target,
                                      .hedge = hedge,
                                      .lane = (uint8_t)lane,
                                      .started_at = call_moment(c, now)};
    c->lanes[lane] = (struct call_lane){
        .taken = true,
        .place = target_start(rt->target, c->want.prompt_bytes, now),
        .hedge_at_ms = wish_ms ? now + wish_ms : CLOCK_NEVER,
        .slow_at_ms = limit_ms ? now + limit_ms : CLOCK_NEVER, /* a wish is no evidence against a target */
    };
    if (n > 0 && !hedge)
        target_moved(rt->target, now);
    bool again = c->tries[target] > 0;
    c->tries[target]++;
    c->retries += again;
    c->hedges += hedge;
    if (c->want.no_fallback)
        c->unfit = c->used_up |= ~(1u << target);
    call_enter(c, CALL_TRYING, now);

    struct call_action *act = call_act(ret, CALL_START, n);
    act->same_target = again;
    act->hedge = hedge;
    act->continues = c->continuing;
}

/* Returns what it held of its target. */
static struct place *leave_lane(struct call *c, const struct attempt *a)
{
    c->lanes[a->lane].taken = false;
    return &c->lanes[a->lane].place;
}

void call_attempt_ended(struct call *c, int attempt, const struct verdict *v, uint64_t now)
{
    struct attempt *a = &c->attempts[attempt];
    a->ended_at = call_moment(c, now);
    a->state = v ? ATTEMPT_FAILED : ATTEMPT_DONE;
    if (v) {
        a->failure = (uint8_t)v->failure;
        a->status = (uint16_t)v->status;
    }
    target_end(call_target_of(c, a)->target, v, false, leave_lane(c, a), now);
}

void call_attempt_failed_by_us(struct call *c, int attempt, enum failure why, uint64_t now,
                               struct call_actions *ret)
{
    struct attempt *a = &c->attempts[attempt];
    if (!a->output_at) {
        target_waited(call_target_of(c, a)->target, now - call_time(c, a->started_at));
        target_pace_waited(call_target_of(c, a)->target, c->want.prompt_bytes, now - call_time(c, a->started_at),
                           now);
    }
    call_attempt_ended(c, attempt, &(struct verdict){.failure = why}, now);
    call_act(ret, CALL_CANCEL, attempt);
}

void call_attempt_cancelled(struct call *c, int attempt, uint64_t now, struct call_actions *ret)
{
    struct attempt *a = &c->attempts[attempt];
    if (!a->output_at && now >= c->lanes[a->lane].slow_at_ms) {
        call_attempt_failed_by_us(c, attempt, FAILURE_SLOW, now, ret);
        return;
    }
    a->ended_at = call_moment(c, now);
    a->state = ATTEMPT_CANCELLED;
    /* It might have answered: should the winner break before it is whole, this one may be asked again. */
    c->tries[a->target]--;
    target_end(call_target_of(c, a)->target, NULL, true, leave_lane(c, a), now);
    call_act(ret, CALL_CANCEL, attempt);
}

void call_cancel_others(struct call *c, int but, uint64_t now, struct call_actions *ret)
{
    for (int i = 0; i < (int)c->attempts_count; i++)
        if (i != but && c->attempts[i].state == ATTEMPT_RUNNING)
            call_attempt_cancelled(c, i, now, ret);
}

struct place *call_place(struct call *c, int attempt)
{
    return call_running_one(c, attempt) ? &c->lanes[c->attempts[attempt].lane].place : NULL;
}
