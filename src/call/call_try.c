/* Where a call goes next: the same target, another, a wait, or an honest end. */
#include "base/rnd.h"
#include "call/call_priv.h"

/* A hedge that could not be started is asked for again after its limit, and not before this. */
enum { HEDGE_AGAIN_LEAST_MS = 1000 };
/* Calls that wait for the same moment are spread over an eighth of their wait, and this at most. */
enum { WAIT_SPREAD = 8, WAIT_SPREAD_MOST_MS = 1000 };
/* Whoever is nowhere the first in the queue is told when it is, if it can be; it looks by itself now and then all the same. */
enum { QUEUE_LOOK_MS = 5000 };
/* What a client is told at least when trying again makes sense. */
enum { RETRY_AFTER_LEAST_MS = 1000, BACKOFF_DOUBLINGS_MOST = 20 };

/* ---- the end without an answer */

static bool client_may_retry(enum failure why)
{
    int status = failure_row(why)->client_status;
    return status == 429 || status == 502 || status == 503 || status == 504;
}

/* When one of the route's targets may be usable again. A new call starts afresh, so what this one used up counts too. */
static uint64_t soonest(const struct call *c, uint64_t now)
{
    uint64_t soonest_ms = CLOCK_NEVER;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        uint64_t at;
        target_usable(c->want.route->targets[i].target, now, &at);
        if (at < soonest_ms)
            soonest_ms = at;
    }
    return soonest_ms;
}

static void fail(struct call *c, enum failure why, enum call_outcome outcome, uint64_t now,
                 struct call_actions *ret)
{
    bool told_by_worst = c->worst >= 0 && c->attempts[c->worst].failure == why;
    struct call_action *act = call_act(ret, CALL_FAIL, told_by_worst ? c->worst : -1);
    act->failure = why;
    if (client_may_retry(why)) {
        uint64_t at = soonest(c, now);
        uint64_t ms = at == CLOCK_NEVER || at < now ? 0 : at - now;
        act->retry_after_ms = ms < RETRY_AFTER_LEAST_MS ? RETRY_AFTER_LEAST_MS : ms;
    }
    call_over(c, outcome, now);
}

/* No attempt was made: every target is out of use. Where all are parked, the first tells for what: a key, a quota, a model. */
enum failure call_why_none(const struct call *c)
{
    if (c->worst >= 0)
        return c->attempts[c->worst].failure;
    const struct route *route = c->want.route;
    for (unsigned i = 0; i < route->count; i++)
        if (route->targets[i].target->parked_for == FAILURE_NONE)
            return FAILURE_OVERLOAD;
    return route->count ? route->targets[0].target->parked_for : FAILURE_OVERLOAD;
}

void call_break(struct call *c, int attempt, enum failure why, uint64_t now, struct call_actions *ret)
{
    call_act(ret, CALL_BREAK, attempt)->failure = why;
    call_over(c, why == FAILURE_STALLED ? CALL_STALLED : CALL_CUT_AFTER, now);
}

/* Where something was shown, the break that could not be bridged is what is told. */
void call_give_up(struct call *c, enum failure why, uint64_t now, struct call_actions *ret)
{
    if (!c->continuing)
        fail(c, why, CALL_CUT_BEFORE, now, ret);
    else if (c->broke_by != FAILURE_NONE)
        call_break(c, c->broke_attempt, c->broke_by, now, ret);
    else
        call_break(c, c->worst, why, now, ret);
}

/* No way on: the last failure that a provider or the network gave is the one to tell. */
static void give_up(struct call *c, uint64_t now, struct call_actions *ret)
{
    call_give_up(c, call_why_none(c), now, ret);
}

/* ---- choosing */

static uint32_t bit(unsigned target)
{
    return 1u << target;
}

static uint32_t tried_set(const struct call *c)
{
    uint32_t set = 0;
    for (unsigned i = 0; i < c->want.route->count; i++)
        if (c->tries[i])
            set |= bit(i);
    return set;
}

/* A try whose stream broke was a good one: it does not count. After a hold one try shows whether it is over. */
static uint64_t tries_most(const struct call *c, unsigned target)
{
    if (c->hold_rounds)
        return 1;
    bool broke_here = c->broke_attempt >= 0 && c->attempts[c->broke_attempt].target == target;
    return c->want.route->targets[target].settings.attempts + broke_here;
}

/* Not now: where it cannot work, and where all tries were made. */
static uint32_t closed_set(const struct call *c)
{
    uint32_t set = c->used_up;
    for (unsigned i = 0; i < c->want.route->count; i++)
        if (c->tries[i] >= tries_most(c, i))
            set |= bit(i);
    return set;
}

static uint32_t not_yet_set(const struct call *c, uint64_t now)
{
    uint32_t set = 0;
    for (unsigned i = 0; i < c->want.route->count; i++)
        if (c->not_before_ms[i] > now)
            set |= bit(i);
    return set;
}

void call_queue(struct call *c, uint64_t now)
{
    uint32_t not_these = closed_set(c) | not_yet_set(c, now);
    if (c->broke && !c->paid)
        not_these |= tried_set(c);
    bool any = false;
    for (unsigned i = 0; i < c->want.route->count; i++)
        any = any || !(not_these & bit(i));
    if (any)
        queue_enter(c->fleet, &c->ticket, c->want.route, not_these, c->want.prompt_bytes, c->want.key,
                    c->want.session, now);
    else
        queue_leave(c->fleet, &c->ticket, false, now);
    queue_next_ms(c->fleet, &c->ticket, now); /* it has looked */
}

void call_afresh(struct call *c)
{
    c->used_up = c->unfit;
    c->unhealing = 0;
    c->hold_rounds = 0;
    c->broke = false;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        c->tries[i] = 0;
        if (!(c->told & bit(i)))
            c->not_before_ms[i] = 0;
    }
}

/* Half of its time is over: our guesses at limits hold it back no longer. */
static uint64_t pressed_at(const struct call *c)
{
    uint64_t all_ms = c->want.deadline_ms ? c->want.deadline_ms : c->want.route->settings.call_timeout;
    return c->deadline_ms - all_ms / 2;
}

/* `group`: whose regions come first; 0: none's. */
static int pick(struct call *c, uint32_t not_these, unsigned group, uint64_t now)
{
    struct pick_ask ask = {.route = c->want.route,
                           .session = c->want.begins ? 0 : c->want.session,
                           .not_these = not_these,
                           .now_ms = now,
                           .group = group,
                           .prompt_bytes = c->want.prompt_bytes,
                           .ticket = &c->ticket,
                           .pressed = c->state != CALL_TRYING && now >= pressed_at(c)};
    struct pick got;
    fleet_pick(c->fleet, &ask, &got);
    return got.index;
}

/* What was shown in part and goes on takes the place of a stream that ran: it multiplies nothing, and needs no token. Thousands of them
 * break at once when a provider dies. */
static bool pay_for_retry(struct call *c)
{
    if (c->paid)
        return true;
    if (c->broke)
        return false;
    c->paid =
        c->want.route->settings.retry_budget > 0 && (c->continuing || budget_spend(fleet_retry_budget(c->fleet)));
    if (!c->paid) {
        c->broke = true;
        c->denied++;
    }
    return c->paid;
}

static void start_again(struct call *c, unsigned target, uint64_t now, struct call_actions *ret)
{
    c->paid = false;
    call_start(c, target, false, now, ret);
}

/* ---- waiting */

static uint64_t spread(struct call *c, uint64_t wait_ms)
{
    uint64_t most = wait_ms / WAIT_SPREAD;
    if (most > WAIT_SPREAD_MOST_MS)
        most = WAIT_SPREAD_MOST_MS;
    return rnd_below(fleet_rnd(c->fleet), most + 1);
}

/* When one target comes back, and what for. */
struct way_back {
    uint64_t at_ms;
    bool
        counts; /* towards retry_after_max: it is out of use, not only held back by us so that it goes on working */
    bool in_line; /* a turn may come at any time, up to the deadline */
    bool forced;  /* a guess of ours is all that keeps the call from it, and has for long enough */
};

static struct way_back way_back(const struct call *c, unsigned target, uint64_t now)
{
    struct target *t = c->want.route->targets[target].target;
    struct way_back w = {0};
    enum target_bar bar = target_look(t, c->want.prompt_bytes, now, &w.at_ms);
    bool guessed = bar == TARGET_RATE && target_only_guessed(t, c->want.prompt_bytes, now);
    bool behind = bar == TARGET_FREE && !queue_may_start(c->fleet, &c->ticket, t);
    if (guessed && w.at_ms > pressed_at(c)) {
        w.forced = pressed_at(c) <= now;
        w.at_ms = w.forced ? now : pressed_at(c);
    }
    w.in_line = guessed || behind || bar == TARGET_BUSY || bar == TARGET_INFLUX ||
                (bar == TARGET_RATE && w.at_ms - now <= RATE_WINDOW_MS);
    w.counts = bar != TARGET_FREE && !w.in_line;
    if ((behind || bar == TARGET_BUSY) && w.at_ms < now + QUEUE_LOOK_MS) /* it is told */
        w.at_ms = now + QUEUE_LOOK_MS;
    if (w.in_line && w.at_ms > c->deadline_ms)
        w.at_ms = c->deadline_ms;
    if (c->not_before_ms[target] > w.at_ms) {
        w.at_ms = c->not_before_ms[target];
        w.counts = w.counts || c->told & bit(target);
    }
    return w;
}

/* The target that comes back first, of those that this call may still take and can wait for; -1: none. */
static int first_back(const struct call *c, uint64_t now, struct way_back *ret)
{
    int best = -1;
    uint32_t closed = closed_set(c);
    for (unsigned i = 0; i < c->want.route->count; i++) {
        if (closed & bit(i) || (c->broke && c->tries[i] && !c->paid))
            continue;
        struct way_back w = way_back(c, i, now);
        if (w.counts &&
            (w.at_ms == CLOCK_NEVER || c->waited_ms + (w.at_ms - now) > c->want.route->settings.retry_after_max))
            continue;
        if (w.at_ms > c->deadline_ms || (w.at_ms == c->deadline_ms && !w.in_line) ||
            (best >= 0 && w.at_ms >= ret->at_ms))
            continue;
        best = (int)i;
        *ret = w;
    }
    return best;
}

static void wait_until(struct call *c, int target, uint64_t at, bool counts, uint64_t now)
{
    c->try_at_ms = at;
    c->try_target = target;
    if (target >= 0)
        queue_leave(c->fleet, &c->ticket, false, now);
    c->wait_counts = counts;
    call_enter(c, CALL_WAITING, now);
}

/* When it may stand in line for one more target than now: a backoff of its own is over there. A breaker that is open is probed early only
 * for those that stand in line. */
static uint64_t first_own_over(const struct call *c, uint64_t now)
{
    uint64_t first = CLOCK_NEVER;
    uint32_t closed = closed_set(c);
    for (unsigned i = 0; i < c->want.route->count; i++)
        if (!(closed >> i & 1) && c->not_before_ms[i] > now && c->not_before_ms[i] < first)
            first = c->not_before_ms[i];
    return first;
}

static bool wait_for_first_back(struct call *c, uint64_t now)
{
    struct way_back w = {.at_ms = CLOCK_NEVER};
    int target = first_back(c, now, &w);
    if (target < 0)
        return false;
    if (c->tries[target] && !pay_for_retry(c))
        return wait_for_first_back(c, now); /* once: from now on only those not yet tried are looked at */
    uint64_t at = w.at_ms > now ? w.at_ms + spread(c, w.at_ms - now) : now + 1;
    call_queue(c, now);
    uint64_t look_ms = w.counts ? c->want.route->settings.retry_after_max - c->waited_ms : QUEUE_LOOK_MS;
    if (look_ms > QUEUE_LOOK_MS)
        look_ms = QUEUE_LOOK_MS;
    if (ticket_waits(&c->ticket) && !c->ticket.heads && at < now + look_ms && !w.forced)
        at = now + look_ms;
    uint64_t own = first_own_over(c, now);
    if (own < w.at_ms && own < at)
        at = own + spread(c, own - now);
    wait_until(c, -1, at, w.counts, now); /* past the deadline by the spread, the deadline comes first */
    return true;
}

void call_advance(struct call *c, uint64_t now, struct call_actions *ret)
{
    if (now >= c->deadline_ms) { /* the timer that says so may be late */
        call_give_up(c, FAILURE_TIMEOUT, now, ret);
        return;
    }
    if (c->attempts_count == c->attempts_room) {
        give_up(c, now, ret);
        return;
    }
    uint32_t tried = tried_set(c);
    uint32_t not_yet = not_yet_set(c, now);
    int fresh = pick(c, closed_set(c) | tried | not_yet, c->group, now);
    if (fresh >= 0) {
        call_start(c, (unsigned)fresh, false, now, ret);
        return;
    }
    int again = c->broke && !c->paid ? -1 : pick(c, closed_set(c) | ~tried | not_yet, 0, now);
    if (again >= 0 && pay_for_retry(c)) {
        start_again(c, (unsigned)again, now, ret);
        return;
    }
    if (!wait_for_first_back(c, now) && !call_hold(c, now))
        give_up(c, now, ret);
}

void call_wait_over(struct call *c, uint64_t now, struct call_actions *ret)
{
    call_enter(c, CALL_WAITING, now); /* books the wait so far */
    int target = c->try_target;
    uint64_t at;
    struct target *t = target >= 0 ? c->want.route->targets[target].target : NULL;
    if (t && target_usable(t, now, &at) && queue_may_start(c->fleet, &c->ticket, t))
        start_again(c, (unsigned)target, now, ret);
    else
        call_advance(c, now, ret);
}

/* ---- after a failure */

/* backoff x 2^(n-1) x [0.8, 1.2], the factor within the cap too. */
static uint64_t backoff(struct call *c, const struct settings *s, unsigned tries)
{
    unsigned doublings = tries - 1 < BACKOFF_DOUBLINGS_MOST ? tries - 1 : BACKOFF_DOUBLINGS_MOST;
    uint64_t ms = s->backoff << doublings;
    if (ms > s->backoff_max)
        ms = s->backoff_max;
    ms = (uint64_t)((double)ms * (0.8 + 0.4 * rnd_unit(fleet_rnd(c->fleet))));
    return ms < s->backoff_max ? ms : s->backoff_max;
}

/* Notes what the failure means for its target in this call. */
static void note(struct call *c, int attempt, const struct verdict *v, uint64_t now)
{
    const struct attempt *a = &c->attempts[attempt];
    bool told = v->has_retry_after && v->retry_after_ms > 0;
    enum failure f = v->failure;
    if (v->failure != FAILURE_OURS || c->worst < 0)
        c->worst = attempt;
    c->group =
        call_target_of(c, a)->group; /* a refused key too: accounts have regions that are not open to them */
    if (failure_row(v->failure)->same == SAME_NEVER || v->provider_says_stop)
        c->used_up |= bit(a->target);
    if (f == FAILURE_CARRY || f == FAILURE_CONTEXT || f == FAILURE_BAD)
        c->unfit |= bit(a->target);
    bool heals = failure_row(f)->blame != BLAME_NONE;
    c->unhealing = heals ? c->unhealing & ~bit(a->target) : c->unhealing | bit(a->target);
    uint64_t wait_ms = told                ? v->retry_after_ms
                       : f == FAILURE_JOIN ? 0 /* it answers: it is asked in another way */
                                           : backoff(c, &call_target_of(c, a)->settings, c->tries[a->target]);
    c->not_before_ms[a->target] = now + wait_ms;
    c->told = told ? c->told | bit(a->target) : c->told & ~bit(a->target);
}

/* The request is at fault, or its content: anywhere else it would fail too, or go round a safety decision. A prompt that is too long
 * belongs here until compaction exists and windows are known; its row already says that it may go elsewhere then. */
static bool of_the_request(enum failure f)
{
    const struct failure_row *row = failure_row(f);
    return (!row->elsewhere && row->same == SAME_NEVER) || f == FAILURE_CONTEXT;
}

/* The request of a continuing attempt is not the client's: what this target refuses another may take. A safety decision stays one. */
static bool ends_the_call(const struct call *c, enum failure f, bool others_run)
{
    if (c->continuing)
        return f == FAILURE_FILTER;
    return of_the_request(f) && !(others_run && f == FAILURE_CONTEXT);
}

/* One more try on the target that has just failed for the first time, before any other. Not where a reader is in the middle of an answer:
 * another target goes on with it at once, and only where there is none this one does, after its backoff. */
static bool retry_first(struct call *c, int attempt, const struct verdict *v, uint64_t now,
                        struct call_actions *ret)
{
    unsigned target = c->attempts[attempt].target;
    const struct settings *s = &c->want.route->targets[target].settings;
    enum failure_same same = failure_row(v->failure)->same;
    if (c->continuing && v->failure != FAILURE_JOIN)
        return false;
    if (same == SAME_LAST && v->provider_says_retry)
        same = SAME_FIRST;
    if (same != SAME_FIRST || c->tries[target] != 1 || closed_set(c) & bit(target) ||
        c->attempts_count == c->attempts_room)
        return false;
    uint64_t usable_at, at = c->not_before_ms[target];
    if (!target_usable(c->want.route->targets[target].target, now, &usable_at) || at >= c->deadline_ms)
        return false;
    bool told = c->told & bit(target);
    if (told && (at - now > s->backoff_max || c->waited_ms + (at - now) > c->want.route->settings.retry_after_max))
        return false; /* too long to be waited out while another may be free */
    if (!pay_for_retry(c))
        return false;
    if (v->failure == FAILURE_JOIN)
        start_again(c, target, now, ret);
    else
        wait_until(c, (int)target, at > now ? at : now + 1, told, now);
    return true;
}

/* A hedge that failed leaves the late one alone again: it may have another. */
static void free_hedges(struct call *c, uint64_t now)
{
    for (unsigned i = 0; i < c->attempts_count; i++) {
        struct attempt *a = &c->attempts[i];
        if (a->state != ATTEMPT_RUNNING || !a->hedged)
            continue;
        a->hedged = false;
        c->lanes[a->lane].hedge_at_ms = now;
    }
}

void call_after_failure(struct call *c, int attempt, const struct verdict *v, uint64_t now,
                        struct call_actions *ret)
{
    note(c, attempt, v, now);
    unsigned running = call_running(c);
    if (ends_the_call(c, v->failure, running > 0)) {
        call_cancel_others(c, -1, now, ret);
        if (c->continuing)
            call_break(c, attempt, v->failure, now, ret);
        else
            fail(c, v->failure, CALL_ERROR, now, ret);
        return;
    }
    if (running) {
        free_hedges(c, now);
        call_hedge(c, now, ret);
        return;
    }
    if (!retry_first(c, attempt, v, now, ret))
        call_advance(c, now, ret);
}

/* ---- hedges */

static uint32_t running_set(const struct call *c)
{
    uint32_t set = 0;
    for (unsigned i = 0; i < c->attempts_count; i++)
        if (c->attempts[i].state == ATTEMPT_RUNNING)
            set |= bit(c->attempts[i].target);
    return set;
}

/* Beside a late attempt: a target that was not tried, else one that failed at once (a hedge, too) and whose backoff is over: with two targets the
 * call would else wait for the silent one alone. */
static bool hedge_one(struct call *c, struct attempt *late, uint64_t now, struct call_actions *ret)
{
    uint32_t not_these = closed_set(c) | running_set(c) | not_yet_set(c, now);
    int target = pick(c, not_these | tried_set(c), call_target_of(c, late)->group, now);
    bool again = target < 0;
    if (again)
        target = pick(c, not_these, 0, now);
    if (target < 0 || (again && !pay_for_retry(c)))
        return false;
    if (c->want.route->settings.hedge_budget == 0 || !budget_spend(fleet_hedge_budget(c->fleet))) {
        c->denied++;
        return false;
    }
    c->paid = false;
    late->hedged = true;
    call_start(c, (unsigned)target, true, now, ret);
    return true;
}

void call_hedge(struct call *c, uint64_t now, struct call_actions *ret)
{
    unsigned before = c->attempts_count; /* those started here are not late */
    for (unsigned i = 0; i < before; i++) {
        struct attempt *a = &c->attempts[i];
        if (a->state != ATTEMPT_RUNNING || a->hedged || c->lanes[a->lane].hedge_at_ms > now ||
            now >= c->deadline_ms)
            continue;
        if (call_running(c) >= CALL_RUNNING_MAX || c->attempts_count == c->attempts_room ||
            !hedge_one(c, a, now, ret)) {
            uint64_t again_ms = c->lanes[a->lane].hedge_at_ms - call_time(c, a->started_at);
            c->lanes[a->lane].hedge_at_ms =
                now + (again_ms > HEDGE_AGAIN_LEAST_MS ? again_ms : HEDGE_AGAIN_LEAST_MS);
        }
    }
}
