#include "call/call_priv.h"

#include <assert.h>
#include <string.h>

const char *call_state_name(enum call_state s)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        CALL_STATES(X)
#undef X
    };
    return (unsigned)s < CALL_STATE_COUNT ? names[s] : "?";
}

const char *call_outcome_name(enum call_outcome o)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        CALL_OUTCOMES(X)
#undef X
    };
    return (unsigned)o < CALL_OUTCOME_COUNT ? names[o] : "?";
}

const char *attempt_state_name(enum attempt_state s)
{
    static const char *const names[] = {"none", "running", "complete", "failed", "cancelled"};
    return (unsigned)s < sizeof(names) / sizeof(names[0]) ? names[s] : "?";
}

struct call_action *call_act(struct call_actions *ret, enum call_act act, int attempt)
{
    assert(ret->count < CALL_ACTIONS_MAX);
    struct call_action *a = &ret->list[ret->count++];
    *a = (struct call_action){.act = act, .attempt = attempt};
    return a;
}

static void leave(struct call *c, uint64_t now)
{
    uint64_t took_ms = now - c->wait_began_ms;
    if (c->state == CALL_WAITING && c->wait_counts)
        c->waited_ms += took_ms;
    if (c->state != CALL_HOLDING)
        return;
    c->held_ms += took_ms;
    if (!c->want.deadline_ms)
        c->deadline_ms += took_ms;
}

void call_enter(struct call *c, enum call_state to, uint64_t now)
{
    leave(c, now);
    switch (to) {
    case CALL_NEW:
        break;
    case CALL_WAITING:
    case CALL_HOLDING:
        c->winner = -1;
        c->wait_began_ms = now;
        break;
    case CALL_TRYING:
        c->winner = -1;
        c->try_at_ms = CLOCK_NEVER;
        c->try_target = -1;
        break;
    case CALL_COLLECTING:
    case CALL_RELAYING:
    case CALL_OVER:
        c->try_at_ms = CLOCK_NEVER;
        break;
    case CALL_STATE_COUNT:
        assert(!"not a state");
    }
    c->state = to;
}

void call_over(struct call *c, enum call_outcome outcome, uint64_t now)
{
    assert(call_running(c) == 0);
    c->outcome = outcome;
    queue_leave(c->fleet, &c->ticket, false, now);
    call_enter(c, CALL_OVER, now);
}

void call_give_room(struct call *c, struct attempt *more)
{
    memcpy(more, c->attempts, c->attempts_count * sizeof(*more));
    c->attempts = more;
    c->attempts_room = CALL_ATTEMPTS_MAX;
}

void call_begin(struct call *c, struct fleet *f, const struct call_want *want, uint64_t now,
                struct call_actions *ret)
{
    ret->count = 0;
    memset(c, 0, sizeof(*c));
    c->fleet = f;
    c->want = *want;
    c->attempts = c->few;
    c->attempts_room = CALL_ATTEMPTS_FEW;
    c->began_ms = now;
    c->deadline_ms = now + (want->deadline_ms ? want->deadline_ms : want->route->settings.call_timeout);
    c->try_target = c->worst = c->broke_attempt = c->winner = -1;
    c->continuing = want->resumes;
    c->ticket.owner = want->owner;
    c->ticket.asked_ms = want->asked_ms;
    call_enter(c, CALL_NEW, now);
    c->try_at_ms = CLOCK_NEVER;

    budget_earn(fleet_retry_budget(f), want->route->settings.retry_budget, now);
    budget_earn(fleet_hedge_budget(f), want->route->settings.hedge_budget, now);
    call_advance(c, now, ret);
}

/* The first to give output is the answer: the others stop in the same moment. */
static void win(struct call *c, int attempt, uint64_t now, struct call_actions *ret)
{
    struct attempt *a = &c->attempts[attempt];
    c->moved_ms = now;
    a->output_at = call_moment(c, now);
    target_first_token(call_target_of(c, a)->target, &c->lanes[a->lane].place, now - call_time(c, a->started_at),
                       now);
    target_pace(call_target_of(c, a)->target, c->want.prompt_bytes, now - call_time(c, a->started_at), now);
    c->winner = attempt;
    call_cancel_others(c, attempt, now, ret);
}

/* The client sees more: what had broken before is whole up to here. */
static void commit(struct call *c, int attempt, struct call_actions *ret)
{
    c->continued += c->continuing;
    call_act(ret, CALL_COMMIT, attempt);
}

static void take_output(struct call *c, int attempt, bool to_show, uint64_t now, struct call_actions *ret)
{
    ret->count = 0;
    if (!call_running_one(c, attempt))
        return;
    if (c->winner == attempt) {
        call_moved(c, attempt, now);
    } else {
        win(c, attempt, now, ret);
        call_enter(c, CALL_COLLECTING, now);
    }
    if (to_show && c->want.streamed && c->state == CALL_COLLECTING) {
        call_enter(c, CALL_RELAYING, now);
        commit(c, attempt, ret);
    }
}

void call_output(struct call *c, int attempt, uint64_t now, struct call_actions *ret)
{
    take_output(c, attempt, true, now, ret);
}

void call_hidden_output(struct call *c, int attempt, uint64_t now, struct call_actions *ret)
{
    take_output(c, attempt, false, now, ret);
}

void call_complete(struct call *c, int attempt, uint64_t now, struct call_actions *ret)
{
    ret->count = 0;
    if (!call_running_one(c, attempt))
        return;
    if (c->winner != attempt)
        win(c, attempt, now, ret);
    call_attempt_ended(c, attempt, NULL, now);
    fleet_remember(c->fleet, c->want.session, call_target_of(c, &c->attempts[attempt])->target,
                   c->want.route->settings.affinity, now);
    if (c->state != CALL_RELAYING)
        commit(c, attempt, ret);
    call_act(ret, CALL_FINISH, attempt);
    call_over(c, c->continued ? CALL_CONTINUED : CALL_COMPLETE, now);
}

/* What was shown cannot be taken back. True: the call goes on with it. */
static bool goes_on(struct call *c, int attempt, const struct verdict *v)
{
    if (!c->want.can_continue || c->breaks >= c->want.route->settings.continuations)
        return false;
    c->breaks++;
    c->continuing = true;
    c->broke_attempt = attempt;
    c->broke_by = v->failure;
    call_afresh(c);
    c->tries[c->attempts[attempt].target] = 1;
    return true;
}

/* The books of the attempt are closed; what does it mean for the call? */
static void failed(struct call *c, int attempt, const struct verdict *v, uint64_t now, struct call_actions *ret)
{
    if (c->state == CALL_RELAYING && !goes_on(c, attempt, v)) {
        call_break(c, attempt, v->failure, now, ret);
        return;
    }
    if (c->state == CALL_COLLECTING || c->state == CALL_RELAYING)
        call_enter(c, CALL_TRYING, now); /* nothing that is to come was shown: as if it had never answered */
    call_after_failure(c, attempt, v, now, ret);
}

void call_failed(struct call *c, int attempt, const struct verdict *v, uint64_t now, struct call_actions *ret)
{
    assert(v->failure != FAILURE_NONE);
    ret->count = 0;
    if (!call_running_one(c, attempt))
        return;
    call_attempt_ended(c, attempt, v, now);
    failed(c, attempt, v, now, ret);
}

void call_shows_nothing(struct call *c)
{
    c->continuing = c->want.resumes = false;
    c->broke_by = FAILURE_NONE;
    c->broke_attempt = -1;
}

void call_gone(struct call *c, uint64_t now, struct call_actions *ret)
{
    ret->count = 0;
    if (c->state == CALL_OVER)
        return;
    call_cancel_others(c, -1, now, ret);
    call_over(c, CALL_CLIENT_GONE, now);
}

/* ---- time */

static uint64_t first_token_deadline(const struct call *c, const struct attempt *a)
{
    return call_time(c, a->started_at) + call_target_of(c, a)->settings.first_token_timeout;
}

static uint64_t stall_deadline(const struct call *c)
{
    const struct attempt *a = &c->attempts[c->winner];
    uint64_t stall_ms = call_target_of(c, a)->settings.stall;
    return stall_ms ? c->moved_ms + stall_ms : CLOCK_NEVER;
}

static void deadline_passed(struct call *c, uint64_t now, struct call_actions *ret)
{
    bool shown = c->state == CALL_RELAYING;
    call_cancel_others(c, -1, now, ret);
    if (shown)
        call_break(c, c->winner, FAILURE_TIMEOUT, now, ret);
    else
        call_give_up(c, FAILURE_TIMEOUT, now, ret);
}

static void end_those_without_first_token(struct call *c, uint64_t now, struct call_actions *ret)
{
    unsigned before = c->attempts_count;
    for (unsigned i = 0; i < before && c->state == CALL_TRYING; i++) {
        if (c->attempts[i].state != ATTEMPT_RUNNING || first_token_deadline(c, &c->attempts[i]) > now)
            continue;
        call_attempt_failed_by_us(c, (int)i, FAILURE_TIMEOUT, now, ret);
        failed(c, (int)i, &(struct verdict){.failure = FAILURE_TIMEOUT}, now, ret);
    }
}

/* On hold the time that is left stands still, but for a deadline that the client has set. */
static uint64_t deadline(const struct call *c)
{
    return c->state == CALL_HOLDING && !c->want.deadline_ms ? CLOCK_NEVER : c->deadline_ms;
}

void call_wake(struct call *c, uint64_t now, struct call_actions *ret)
{
    ret->count = 0;
    if (c->state != CALL_OVER && now >= deadline(c)) {
        deadline_passed(c, now, ret);
        return;
    }
    switch (c->state) {
    case CALL_HOLDING:
        if (now >= c->try_at_ms || c->ticket.told)
            call_hold_look(c, now, ret);
        break;
    case CALL_WAITING:
        if (now >= c->try_at_ms || c->ticket.told)
            call_wait_over(c, now, ret);
        break;
    case CALL_TRYING:
        end_those_without_first_token(c, now, ret);
        if (c->state == CALL_TRYING)
            call_hedge(c, now, ret);
        break;
    case CALL_COLLECTING:
    case CALL_RELAYING:
        if (now < stall_deadline(c))
            break;
        int silent = c->winner;
        call_attempt_failed_by_us(c, silent, FAILURE_STALLED, now, ret);
        failed(c, silent, &(struct verdict){.failure = FAILURE_STALLED}, now, ret);
        break;
    case CALL_NEW:
    case CALL_OVER:
    case CALL_STATE_COUNT:
        break;
    }
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_of_tries(const struct call *c)
{
    uint64_t at = CLOCK_NEVER;
    for (unsigned i = 0; i < c->attempts_count; i++) {
        const struct attempt *a = &c->attempts[i];
        if (a->state != ATTEMPT_RUNNING)
            continue;
        at = sooner(at, first_token_deadline(c, a));
        if (!a->hedged)
            at = sooner(at, c->lanes[a->lane].hedge_at_ms);
    }
    return at;
}

uint64_t call_next(const struct call *c)
{
    switch (c->state) {
    case CALL_WAITING:
    case CALL_HOLDING:
        return sooner(deadline(c), c->try_at_ms);
    case CALL_TRYING:
        return sooner(c->deadline_ms, next_of_tries(c));
    case CALL_COLLECTING:
    case CALL_RELAYING:
        return sooner(c->deadline_ms, stall_deadline(c));
    case CALL_NEW:
    case CALL_OVER:
    case CALL_STATE_COUNT:
        return CLOCK_NEVER;
    }
    return CLOCK_NEVER;
}
