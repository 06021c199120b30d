/* invariants.c - what must hold at every moment of every run, whatever fails. One function and one sentence each.
 *
 * They look at the world's own books (sim.h), and at the code under test only to compare. */
#include "sim.h"

#include "base/clock.h"

#include <stdio.h>

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN };

/* Time that a late timer may add to whatever it ends. */
static uint64_t late(const struct moment *m)
{
    return m->w->late_ms;
}

static const struct settings *settings_of(const struct moment *m)
{
    return &m->c->want.route->settings;
}

static const struct attempt *attempt_of(const struct moment *m)
{
    return &m->c->call.attempts[m->attempt];
}

/* ---- what may be asked of a target, by the world's own books */

/* The last attempt of the call that failed there; NULL: none did. */
static const struct script *last_failure(const struct moment *m, unsigned target, const struct attempt **ret)
{
    const struct sim_call *c = m->c;
    for (unsigned i = c->call.attempts_count; i-- > 0;) {
        *ret = &c->call.attempts[i];
        if ((*ret)->target == target && (*ret)->state == ATTEMPT_FAILED)
            return &c->scripts[i];
    }
    return NULL;
}

static bool unfit_for_the_request(enum failure f)
{
    return f == FAILURE_CARRY || f == FAILURE_CONTEXT || f == FAILURE_BAD;
}

/* It can be used, and nobody else who waits for it comes first. */
static bool is_free(const struct moment *m, struct target *t)
{
    uint64_t at;
    return target_look(t, m->c->want.prompt_bytes, m->w->now, &at) == TARGET_FREE &&
           queue_may_start(m->w->fleet, &m->c->call.ticket, t);
}

/* This call may still go to this target of its route, as far as what happened to it there tells. */
static bool may_go_to(const struct moment *m, unsigned target)
{
    const struct sim_call *c = m->c;
    for (unsigned i = 0; i < c->call.attempts_count; i++) {
        const struct attempt *a = &c->call.attempts[i];
        const struct ending *v = &c->scripts[i].verdict;
        if (c->want.no_fallback && a->target != target)
            return false;
        if (a->target != target || a->state != ATTEMPT_FAILED)
            continue;
        if (unfit_for_the_request(a->failure) ||
            (a->failure == v->failure && v->has_retry_after &&
             m->w->now < call_time(&c->call, a->ended_at) + v->retry_after_ms))
            return false;
    }
    return true;
}

/* Free for a first try of this round. After a hold a target that failed the call before it is not asked at once again. */
static bool free_for_a_first_try(const struct moment *m, unsigned target)
{
    const struct sim_call *c = m->c;
    struct target *t = c->want.route->targets[target].target;
    const struct attempt *a;
    bool by_hold = c->holds && last_failure(m, target, &a);
    return c->starts_on[t->id] == 0 && !by_hold && is_free(m, t) && may_go_to(m, target);
}

static uint64_t hold_most(const struct moment *m)
{
    const struct settings *s = &m->c->want.route->settings;
    bool shown = m->c->call.continuing || m->c->call.breaks || m->c->want.resumes;
    uint64_t by_settings_ms = m->c->want.in_session ? s->hold : s->hold_single;
    if (shown && s->hold > by_settings_ms)
        by_settings_ms = s->hold;
    return m->c->want.hold_ms == UINT64_MAX ? by_settings_ms : m->c->want.hold_ms;
}

static uint64_t held(const struct moment *m)
{
    return m->c->held_ms + (m->c->holding ? m->w->now - m->c->holding_since : 0);
}

/* It ended for want of a target, not by its deadline, a refusal or its last allowed break. */
static bool ended_for_want_of_a_target(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (m->w->now >= c->deadline_at || c->starts == CALL_ATTEMPTS_MAX)
        return false;
    return c->call.outcome == CALL_CUT_BEFORE ||
           (c->breaks && c->gone_on == c->broke && c->told != FAILURE_FILTER);
}

/* ---- the end of a call */

static bool ends_exactly_once(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (c->call.state != CALL_OVER)
        return c->finishes + c->fails + c->breaks == 0 && !c->departed;
    return c->finishes + c->fails + c->breaks == (c->call.outcome == CALL_CLIENT_GONE ? 0 : 1);
}

static bool outcome_is_what_the_client_saw(const struct moment *m)
{
    const struct sim_call *c = m->c;
    switch (c->call.outcome) {
    case CALL_COMPLETE:
        return c->finishes == 1 && c->commits == 1 && !c->want.resumes;
    case CALL_CLIENT_GONE:
        return c->departed;
    case CALL_CUT_BEFORE:
        return c->fails == 1 && c->commits == 0 && c->shown == 0;
    case CALL_CUT_AFTER:
        return c->breaks == 1 && c->commits + c->want.resumes >= 1 && c->told != FAILURE_STALLED;
    case CALL_STALLED:
        return c->breaks == 1 && c->commits + c->want.resumes >= 1 && c->told == FAILURE_STALLED;
    case CALL_ERROR:
        return c->fails == 1 && c->commits == 0 && c->refused + (c->told == FAILURE_CONTEXT) > 0;
    case CALL_CONTINUED:
        return c->finishes == 1 && c->commits + c->want.resumes > 1;
    case CALL_OUTCOME_COUNT:
        return false;
    }
    return false;
}

static bool no_byte_lost_or_doubled(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (c->committed < 0)
        return c->shown == c->resumed_at;
    const struct script *s = &c->scripts[c->committed];
    return c->misplaced == 0 && c->shown == s->from + s->given && (!c->finishes || s->given == s->tokens);
}

static bool continued_means_a_bridged_break(const struct moment *m)
{
    const struct sim_call *c = m->c;
    return (c->call.outcome == CALL_CONTINUED) == (c->finishes && c->bridged > 0) &&
           c->call.continued == c->bridged && c->bridged <= c->gone_on + c->want.resumes;
}

static bool broken_ends_as_broken(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (c->fails)
        return c->shown == 0 && c->commits == 0;
    if (!c->breaks || c->want.resumes || c->told == FAILURE_FILTER)
        return true;
    return c->told == (c->broke && !c->relaying ? c->broke_by : FAILURE_TIMEOUT);
}

static bool continuations_are_bounded(const struct moment *m)
{
    const struct sim_call *c = m->c;
    return c->gone_on <= (c->want.can_continue ? settings_of(m)->continuations : 0) && c->broke <= c->gone_on + 1;
}

static bool goes_on_where_something_was_shown(const struct moment *m)
{
    const struct sim_call *c = m->c;
    return c->scripts[m->attempt].continues == (c->commits > 0 || c->want.resumes);
}

/* ---- holding */

static bool holds_no_longer_than_it_may(const struct moment *m)
{
    return held(m) <= hold_most(m) + late(m);
}

static bool holds_only_when_nothing_is_free(const struct moment *m)
{
    for (unsigned i = 0; i < m->c->want.route->count; i++)
        if (free_for_a_first_try(m, i))
            return false;
    return true;
}

/* Time heals what ended the call's last attempt there, or keeps it from there. */
static bool time_heals(const struct moment *m, unsigned target)
{
    const struct attempt *a;
    const struct target *t = m->c->want.route->targets[target].target;
    if (last_failure(m, target, &a) && failure_row(a->failure)->blame == BLAME_NONE)
        return false;
    return t->parked_for == FAILURE_NONE || t->parked_for == FAILURE_QUOTA;
}

static bool no_error_while_it_may_still_hold(const struct moment *m)
{
    const struct sim_call *c = m->c;
    uint64_t most_ms = hold_most(m);
    if (!ended_for_want_of_a_target(m) || held(m) >= most_ms)
        return true;
    uint64_t end_at = m->w->now + most_ms - held(m);
    for (unsigned i = 0; i < c->want.route->count; i++) {
        uint64_t at, told_until = 0;
        const struct attempt *a;
        const struct script *s = last_failure(m, i, &a);
        if (s && s->verdict.has_retry_after && s->verdict.failure == a->failure)
            told_until = call_time(&c->call, a->ended_at) + s->verdict.retry_after_ms;
        target_usable(c->want.route->targets[i].target, m->w->now, &at);
        bool can = time_heals(m, i) && (may_go_to(m, i) || told_until > m->w->now) && at < end_at &&
                   told_until < end_at && c->call.not_before_ms[i] < end_at;
        if (can && !(c->want.no_fallback && c->starts && c->call.attempts[0].target != i))
            return false;
    }
    return true;
}

/* Half of its time is over, and its target has refused without a time before: what we guess of its limit holds it back no longer. */
static bool presses_past_a_guess(const struct moment *m)
{
    const struct sim_call *c = m->c;
    uint64_t all_ms = c->want.deadline_ms ? c->want.deadline_ms : settings_of(m)->call_timeout;
    return m->t->target->budget.meter[RATE_REQUESTS].ceiling > 0 && m->w->now >= c->deadline_at - all_ms / 2;
}

/* The order of keys and sessions is the queue's own; within a session it is that of waiting. */
static bool a_session_is_served_in_order(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (m->hedge || m->same_target || c->want.session == 0 || presses_past_a_guess(m))
        return true;
    for (unsigned i = 0; i < SIM_CALLS && m->w->calls[i]; i++) {
        const struct sim_call *o = m->w->calls[i];
        const struct ticket *t = &o->call.ticket;
        if (!o->used || o == c || !o->in_line_since || o->want.session != c->want.session ||
            o->want.key != c->want.key || !ticket_waits(t))
            continue;
        bool before = !c->in_line_since || o->in_line_since < c->in_line_since;
        for (unsigned k = 0; before && k < o->want.route->count; k++)
            if (o->want.route->targets[k].target == m->t->target && !(t->not_these >> k & 1))
                return false;
    }
    return true;
}

static bool a_held_call_looks_often(const struct moment *m)
{
    return m->c->call.state != CALL_HOLDING || call_next(&m->c->call) <= m->w->now + 3 * S;
}

static bool truncated_is_never_finished(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (!c->finishes)
        return true;
    const struct script *s = &c->scripts[c->committed];
    return s->verdict.failure == FAILURE_NONE && !s->silent_then && s->given == s->tokens;
}

/* Nothing was tried: what is told is that nothing is free, or for what all targets are parked. */
static bool tells_why_none_was_tried(const struct moment *m)
{
    const struct route *r = m->c->want.route;
    bool parked = true;
    for (unsigned i = 0; i < r->count; i++)
        parked = parked && r->targets[i].target->parked_for != FAILURE_NONE;
    return m->c->told == (parked && r->count ? r->targets[0].target->parked_for : FAILURE_OVERLOAD);
}

static bool failure_told_really_happened(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (!c->fails && !c->breaks)
        return true;
    bool any = false;
    for (unsigned i = 0; i < c->call.attempts_count; i++) {
        const struct attempt *a = &c->call.attempts[i];
        any = any || (a->state == ATTEMPT_FAILED && a->failure != FAILURE_OURS);
        if (a->state == ATTEMPT_FAILED && a->failure == c->told)
            return true;
    }
    return c->told == FAILURE_TIMEOUT ? m->w->now >= c->deadline_at : !any && tells_why_none_was_tried(m);
}

static bool client_is_told_when_to_come_back(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (!c->fails)
        return true;
    int status = failure_row(c->told)->client_status;
    bool may_retry = status == 429 || status == 502 || status == 503 || status == 504;
    return may_retry ? c->retry_after_ms >= 1 * S : c->retry_after_ms == 0;
}

static bool healthy_target_means_an_answer(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (!ended_for_want_of_a_target(m) || c->want.no_fallback)
        return true;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        const struct sim_target *t = &m->w->targets[c->want.route->targets[i].target->id];
        bool healthy = t->last_bad_ms < c->began_at && t->state == BREAKER_CLOSED && !t->parked &&
                       t->target->rest_until_ms <= c->began_at;
        /* What it has told of its limits may keep a call from it for longer than that can wait: an honest end. Our guess may not. */
        uint64_t at;
        enum target_bar bar = target_look(t->target, c->want.prompt_bytes, m->w->now, &at);
        bool told = bar == TARGET_RATE && rate_told(&t->target->budget, c->want.prompt_bytes, m->w->now);
        if (healthy && !told && (at < c->deadline_at || bar == TARGET_RATE))
            return false;
    }
    return true;
}

static bool never_gives_up_beside_a_free_target(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (!ended_for_want_of_a_target(m))
        return true;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        struct target *t = c->want.route->targets[i].target;
        if (c->starts_since_output[t->id] == 0 && is_free(m, t) && may_go_to(m, i))
            return false;
    }
    return true;
}

/* ---- attempts */

static bool attempt_ends_exactly_once(const struct moment *m)
{
    return m->c->ends[m->attempt] == 1 && !m->c->live[m->attempt];
}

static bool nothing_runs_after_the_end(const struct moment *m)
{
    return m->c->live_count == 0;
}

static bool few_run_at_once(const struct moment *m)
{
    return m->c->live_count <= CALL_RUNNING_MAX;
}

static bool one_attempt_of_a_call_on_a_target(const struct moment *m)
{
    const struct sim_call *c = m->c;
    for (int i = 0; i < (int)c->call.attempts_count; i++)
        if (i != m->attempt && c->live[i] && c->call.attempts[i].target == attempt_of(m)->target)
            return false;
    return true;
}

static bool few_tries_on_one_target(const struct moment *m)
{
    const struct sim_call *c = m->c;
    bool broke_here = c->broke && c->call.attempts[c->committed].target == attempt_of(m)->target;
    return c->starts_on[m->t->target->id] <= (c->round_of_hold ? 1 : settings_of(m)->attempts + broke_here);
}

static bool a_second_try_is_called_one(const struct moment *m)
{
    return m->same_target == (m->c->starts_on[m->t->target->id] > 1);
}

static bool refused_request_is_sent_nowhere_else(const struct moment *m)
{
    return m->c->refused == 0;
}

static bool never_again_where_it_cannot_work(const struct moment *m)
{
    for (int i = 0; i < m->attempt; i++) {
        const struct attempt *a = &m->c->call.attempts[i];
        if (i < (int)m->c->round_from && !unfit_for_the_request(a->failure))
            continue; /* it has healed since, or goes on with another answer */
        if (a->target == attempt_of(m)->target && a->state == ATTEMPT_FAILED &&
            failure_row(a->failure)->same == SAME_NEVER)
            return false;
        if (a->target == attempt_of(m)->target && m->c->scripts[i].verdict.provider_says_stop &&
            a->failure == FAILURE_SERVER)
            return false;
    }
    return true;
}

static bool retry_after_is_waited_out(const struct moment *m)
{
    for (int i = 0; i < m->attempt; i++) {
        const struct attempt *a = &m->c->call.attempts[i];
        const struct ending *v = &m->c->scripts[i].verdict;
        if (a->target == attempt_of(m)->target && a->state == ATTEMPT_FAILED && a->failure == v->failure &&
            v->has_retry_after && m->w->now < call_time(&m->c->call, a->ended_at) + v->retry_after_ms)
            return false;
    }
    return true;
}

static bool no_fallback_stays_on_one_target(const struct moment *m)
{
    return !m->c->want.no_fallback || attempt_of(m)->target == m->c->call.attempts[0].target;
}

static bool spared(const struct moment *m, const struct target *t)
{
    return pace_spared(&t->pace, m->w->now);
}

static bool throttled_comes_last(const struct moment *m)
{
    const struct route *r = m->c->want.route;
    if (m->same_target || m->t->target->pace.state != PACE_THROTTLED)
        return true;
    for (unsigned i = 0; i < r->count; i++)
        if (free_for_a_first_try(m, i) && !spared(m, r->targets[i].target))
            return false;
    return true;
}

static bool only_the_slow_are_throttled(const struct moment *m)
{
    return m->t->target->pace_watched && m->t->last_bad_ms + 1 * HOUR > m->w->now &&
           m->w->settings.throttle_factor > 0;
}

static unsigned group_of(const struct moment *m, int attempt)
{
    return m->c->want.route->targets[m->c->call.attempts[attempt].target].group;
}

/* The target is a region of a provider of which another region was tried before. */
static bool follows_a_region(const struct moment *m)
{
    unsigned group = group_of(m, m->attempt);
    for (int i = 0; i < m->attempt && group; i++)
        if (group_of(m, i) == group)
            return true;
    return false;
}

static bool regions_come_before_other_providers(const struct moment *m)
{
    const struct sim_call *c = m->c;
    const struct route *r = c->want.route;
    int before = m->attempt - 1;
    if (before < 0 || c->call.hedges || m->same_target || c->call.attempts[before].state != ATTEMPT_FAILED)
        return true;
    unsigned group = group_of(m, before);
    bool own = c->want.session && m->w->sessions[c->want.session - 1].target == (int)m->t->target->id;
    if (!group || group == group_of(m, m->attempt) || own)
        return true;
    for (unsigned i = 0; i < r->count; i++)
        if (r->targets[i].group == group && free_for_a_first_try(m, i) && !spared(m, r->targets[i].target))
            return false;
    return true;
}

static bool a_group_is_used_in_its_order(const struct moment *m)
{
    const struct route *r = m->c->want.route;
    unsigned group = group_of(m, m->attempt);
    bool own = m->c->want.session && m->w->sessions[m->c->want.session - 1].target == (int)m->t->target->id;
    if (!group || r->strategy == STRATEGY_LATENCY || m->same_target || own)
        return true;
    for (unsigned i = 0; i < attempt_of(m)->target; i++)
        if (r->targets[i].group == group && free_for_a_first_try(m, i) && !spared(m, r->targets[i].target))
            return false;
    return true;
}

static bool standby_only_when_others_are_down(const struct moment *m)
{
    const struct route *r = m->c->want.route;
    if (r->targets[attempt_of(m)->target].weight > 0)
        return true;
    for (unsigned i = 0; i < r->count; i++) {
        if (r->targets[i].weight > 0 && free_for_a_first_try(m, i) && !spared(m, r->targets[i].target))
            return m->c->starts_on[m->t->target->id] > 1 || follows_a_region(m); /* a retry stays where it is */
    }
    return true;
}

static bool session_keeps_its_target(const struct moment *m)
{
    const struct sim_call *c = m->c;
    if (m->attempt != 0 || c->want.session == 0 || c->want.begins)
        return true;
    int id = m->w->sessions[c->want.session - 1].target;
    if (id < 0 || m->w->sessions[c->want.session - 1].until <= m->w->now)
        return true;
    bool in_route = false, weighted_free = false, own_weighted = false;
    for (unsigned i = 0; i < c->want.route->count; i++) {
        const struct route_target *rt = &c->want.route->targets[i];
        bool own = rt->target->id == (unsigned)id;
        in_route = in_route || own;
        own_weighted = own_weighted || (own && rt->weight > 0);
        bool free_before =
            rt->target == m->t->target || is_free(m, rt->target); /* it may have the last place now */
        weighted_free = weighted_free || (rt->weight > 0 && free_before);
    }
    const struct sim_target *own = &m->w->targets[id];
    if (!in_route || own->state != BREAKER_CLOSED || (!own_weighted && weighted_free) ||
        !is_free(m, own->target) || spared(m, own->target))
        return true;
    return m->t == own;
}

/* ---- which targets may be used */

static bool open_breaker_gets_nothing(const struct moment *m)
{
    return m->t->state == BREAKER_CLOSED || m->t->state == BREAKER_TRIAL;
}

static bool few_trials_at_once(const struct moment *m)
{
    return m->t->state != BREAKER_TRIAL || m->t->places_out <= settings_of(m)->breaker_trials;
}

static bool resting_target_rests(const struct moment *m)
{
    return m->w->now >= m->t->rest_until && m->w->now >= m->t->target->rest_until_ms;
}

static bool starts_stay_within_the_limit(const struct moment *m)
{
    unsigned limit = limiter_limit(&m->t->target->limiter);
    return limit == 0 || m->t->live <= limit;
}

static bool parked_target_waits_for_its_probe(const struct moment *m)
{
    if (!m->t->parked)
        return true;
    return settings_of(m)->probe == 0 && m->w->now >= m->t->park_until;
}

/* ---- first output and after */

static bool committed_once(const struct moment *m)
{
    return m->c->commits <= 1 + m->c->gone_on && m->c->starts_beside == 0;
}

static bool losers_stop_at_once(const struct moment *m)
{
    enum call_state s = m->c->call.state;
    return (s != CALL_COLLECTING && s != CALL_RELAYING) ||
           (m->c->live_count == 1 && m->c->live[m->c->call.winner]);
}

static bool only_the_streamed_see_it_early(const struct moment *m)
{
    return m->c->want.streamed || m->c->call.state != CALL_COLLECTING || m->c->commits == 0;
}

/* ---- limits of time */

static bool none_starts_after_the_deadline(const struct moment *m)
{
    return m->w->now < m->c->deadline_at;
}

static bool none_runs_past_the_deadline(const struct moment *m)
{
    return m->w->now <= m->c->deadline_at + late(m);
}

static bool first_token_comes_in_time(const struct moment *m)
{
    uint64_t ran_ms = m->w->now - m->c->started_at[m->attempt];
    return m->c->scripts[m->attempt].given > 0 || ran_ms <= settings_of(m)->first_token_timeout + late(m);
}

static bool silence_is_cut_short(const struct moment *m)
{
    uint64_t stall_ms = settings_of(m)->stall;
    if (!stall_ms || m->c->scripts[m->attempt].given == 0)
        return true;
    return m->w->now - m->c->moved_at[m->attempt] <= stall_ms + late(m);
}

static bool slowness_alone_fails_nothing(const struct moment *m)
{
    if (!m->verdict || (m->verdict->failure != FAILURE_SLOW && m->verdict->failure != FAILURE_STALLED))
        return true;
    uint64_t ran_ms = m->w->now - m->c->started_at[m->attempt];
    if (m->verdict->failure == FAILURE_STALLED)
        return m->w->now - m->c->moved_at[m->attempt] >= settings_of(m)->stall;
    return settings_of(m)->ttft > 0 && ran_ms >= settings_of(m)->ttft &&
           (m->c->call.winner >= 0 || m->c->call.state == CALL_OVER);
}

static bool hedges_only_the_late(const struct moment *m)
{
    if (!m->hedge)
        return true;
    uint64_t limit = m->c->want.ttft_ms == UINT64_MAX ? settings_of(m)->ttft : m->c->want.ttft_ms;
    for (int i = 0; i < m->attempt && limit; i++)
        if (m->c->live[i] && m->c->scripts[i].given == 0 && m->w->now - m->c->started_at[i] >= limit)
            return true;
    return false;
}

static bool waits_are_bounded(const struct moment *m)
{
    return m->c->call.waited_ms <= settings_of(m)->retry_after_max + 1 * S + late(m);
}

static bool wakes_are_for_the_future(const struct moment *m)
{
    return m->c->call.state == CALL_OVER || call_next(&m->c->call) > m->w->now;
}

static bool wakes_are_few(const struct moment *m)
{
    return m->c->wakes <= 16 + 4 * m->c->starts + m->c->shown + (m->w->now - m->c->began_at) / 300;
}

static bool every_call_has_a_next(const struct moment *m)
{
    return m->c->call.state == CALL_OVER || call_next(&m->c->call) <= m->c->deadline_at ||
           (m->c->call.state == CALL_HOLDING && !m->c->want.deadline_ms);
}

/* ---- books that must balance */

static bool running_is_what_runs(const struct moment *m)
{
    for (unsigned i = 0; i < m->w->targets_count; i++)
        if (m->w->targets[i].target->running != m->w->targets[i].live)
            return false;
    return true;
}

static bool trial_places_balance(const struct moment *m)
{
    for (unsigned i = 0; i < m->w->targets_count; i++) {
        const struct sim_target *t = &m->w->targets[i];
        if (t->state == BREAKER_TRIAL && t->target->breaker.state == BREAKER_TRIAL &&
            t->target->breaker.trials_out != t->places_out)
            return false;
    }
    return true;
}

/* The code gives the floor back at the next call, all that is due at once. It pays for a retry when it is decided on, the model when it
 * starts: so many may be on their way, in line for a target. */
enum { ON_THEIR_WAY = BUDGET_MOST };
static double overdrawn_most(bool retries)
{
    return -(double)(BUDGET_FLOOR + (retries ? ON_THEIR_WAY : 0));
}

static bool retries_stay_in_budget(const struct moment *m)
{
    if (!m->same_target)
        return true;
    bool free = m->c->scripts[m->attempt].continues; /* it takes the place of a stream that ran */
    return settings_of(m)->retry_budget > 0 && (free || m->w->retries.tokens >= overdrawn_most(true));
}

static bool hedges_stay_in_budget(const struct moment *m)
{
    return !m->hedge || (settings_of(m)->hedge_budget > 0 && m->w->hedges.tokens >= overdrawn_most(false));
}

/* ---- breakers */

static bool breaker_goes_lawful_ways(const struct moment *m)
{
    bool probes = m->w->settings.probe > 0;
    if (m->from != m->t->state)
        return false;
    switch (m->from) {
    case BREAKER_CLOSED:
        return m->to == BREAKER_OPEN;
    case BREAKER_OPEN:
        return m->to == (probes ? BREAKER_PROBING : BREAKER_TRIAL) ||
               (m->to == BREAKER_TRIAL && m->t->early_passed);
    case BREAKER_PROBING:
        return probes && (m->to == BREAKER_TRIAL || m->to == BREAKER_OPEN);
    case BREAKER_TRIAL:
        return m->to == BREAKER_CLOSED || m->to == BREAKER_OPEN;
    case BREAKER_STATE_COUNT:
        return false;
    }
    return false;
}

static unsigned within(const uint64_t *log, unsigned count, uint64_t window_ms, uint64_t now)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && i < SIM_LOG; i++)
        n += now - log[i] <= window_ms;
    return n;
}

static bool enough_failures(const struct moment *m, uint64_t window_ms)
{
    const struct settings *s = &m->w->settings;
    const struct sim_target *t = m->t;
    return (s->breaker_failures && within(t->failed_at, t->failed, window_ms, m->w->now) >= s->breaker_failures) ||
           (s->breaker_timeouts &&
            within(t->timed_out_at, t->timed_out, window_ms, m->w->now) >= s->breaker_timeouts);
}

enum { BREAKER_GRAIN_MS = 32 };

static bool breaker_opens_for_a_reason(const struct moment *m)
{
    return m->from != BREAKER_CLOSED || enough_failures(m, m->w->settings.breaker_window + BREAKER_GRAIN_MS);
}

static bool breaker_opens_when_it_must(const struct moment *m)
{
    return m->t->state != BREAKER_CLOSED || !enough_failures(m, m->w->settings.breaker_window - BREAKER_GRAIN_MS);
}

static bool open_lasts_its_hold(const struct moment *m)
{
    if (m->from != BREAKER_OPEN || m->t->early_passed)
        return true;
    uint64_t hold_ms = m->w->settings.breaker_hold;
    uint64_t most_ms = hold_ms > m->w->settings.breaker_hold_max ? hold_ms : m->w->settings.breaker_hold_max;
    for (unsigned i = 1; i < m->t->opens_in_row && hold_ms < most_ms; i++)
        hold_ms = hold_ms * 2 < most_ms ? hold_ms * 2 : most_ms;
    return m->w->now - m->t->opened_at >= hold_ms;
}

static bool probes_are_few(const struct moment *m)
{
    const struct sim_target *t = m->t;
    bool down = t->state == BREAKER_PROBING || t->state == BREAKER_OPEN;
    bool early =
        down && !t->parked && m->w->settings.probe_waiting > 0 && queue_waiting_for(m->w->fleet, t->target) > 0;
    uint64_t apart_ms = 1 * S;
    for (unsigned i = 0; i < t->early && apart_ms < m->w->settings.probe_waiting; i++)
        apart_ms *= 2;
    if (apart_ms > m->w->settings.probe_waiting)
        apart_ms = m->w->settings.probe_waiting;
    apart_ms = apart_ms * 8 / 10;
    bool wanted = t->parked || t->state == BREAKER_PROBING || early;
    uint64_t since_ms = m->w->now - t->last_probe_at;
    bool spaced = t->last_probe_at == 0 || since_ms >= m->w->settings.probe || (early && since_ms >= apart_ms);
    return wanted && spaced && t->probes_live == 1 && m->w->settings.probe > 0 && m->w->now >= t->rest_until;
}

static bool late_events_do_nothing(const struct moment *m)
{
    return m->actions == 0;
}

static bool no_target_is_lost_for_good(const struct moment *m)
{
    uint64_t at;
    return target_usable(m->t->target, m->w->now, &at) && m->t->target->running == 0 && !spared(m, m->t->target);
}

/* Its windows are not ours: two may end in one slice. */
static bool moves_are_few_at_once(const struct moment *m)
{
    return m->t->moved <= 2 * (INFLUX_LEAST + m->t->target->running / INFLUX_SHARE);
}

/* ---- the list */

static struct invariant {
    const char *sentence;
    unsigned when;
    bool (*holds)(const struct moment *m);
    uint64_t checked, failed;
} invariants[] = {
    {"a call ends exactly once", AT_EVENT, ends_exactly_once, 0, 0},
    {"the outcome that is counted is the one that the client saw", AT_OVER, outcome_is_what_the_client_saw, 0, 0},
    {"no byte is lost or doubled, whoever goes on with the answer", AT_OVER | AT_EVENT, no_byte_lost_or_doubled, 0,
     0},
    {"a truncated answer is never finished as if it were whole", AT_OVER, truncated_is_never_finished, 0, 0},
    {"the failure that the client is told really happened", AT_OVER, failure_told_really_happened, 0, 0},
    {"a client that may try again is told when", AT_OVER, client_is_told_when_to_come_back, 0, 0},
    {"while one target is healthy, no call ends without an answer", AT_OVER, healthy_target_means_an_answer, 0, 0},
    {"no call gives up while a target that it has not tried is free", AT_OVER, never_gives_up_beside_a_free_target,
     0, 0},
    {"an attempt ends exactly once", AT_END, attempt_ends_exactly_once, 0, 0},
    {"nothing runs for a call that is over", AT_OVER, nothing_runs_after_the_end, 0, 0},
    {"only a few attempts of a call run at once", AT_START, few_run_at_once, 0, 0},
    {"a call has one attempt at a time on a target", AT_START, one_attempt_of_a_call_on_a_target, 0, 0},
    {"a call tries a target as often as `attempts` says, once after a hold, and no more", AT_START,
     few_tries_on_one_target, 0, 0},
    {"a second try on a target is marked as one", AT_START, a_second_try_is_called_one, 0, 0},
    {"a refused request or filtered content is sent nowhere else", AT_START, refused_request_is_sent_nowhere_else,
     0, 0},
    {"a target is not tried again after a failure that would come again", AT_START,
     never_again_where_it_cannot_work, 0, 0},
    {"a call does not come back to a target before its Retry-After", AT_START, retry_after_is_waited_out, 0, 0},
    {"a call that wants no fallback stays on its target", AT_START, no_fallback_stays_on_one_target, 0, 0},
    {"a target of weight 0 is used only when the others cannot be", AT_START, standby_only_when_others_are_down, 0,
     0},
    {"a call that failed in one region goes to the next before it goes to another provider", AT_START,
     regions_come_before_other_providers, 0, 0},
    {"the regions of a provider are used in their order", AT_START, a_group_is_used_in_its_order, 0, 0},
    {"a target that throttles by latency is used only when there is no other, or to see whether it is over",
     AT_START, throttled_comes_last, 0, 0},
    {"only a target that has just been slow is taken for throttling", AT_PACE, only_the_slow_are_throttled, 0, 0},
    {"a session stays on its target while that is usable", AT_START, session_keeps_its_target, 0, 0},
    {"an open breaker gets no call", AT_START, open_breaker_gets_nothing, 0, 0},
    {"only a few trial calls run before they have shown output", AT_START, few_trials_at_once, 0, 0},
    {"a target that rests gets no call", AT_START, resting_target_rests, 0, 0},
    {"an attempt starts only within the limit that its target's overload has set", AT_START,
     starts_stay_within_the_limit, 0, 0},
    {"of calls that move, no more come to a target at once than a part of what it has, and a few", AT_START,
     moves_are_few_at_once, 0, 0},
    {"a parked target gets no call before its probe or its time", AT_START, parked_target_waits_for_its_probe, 0,
     0},
    {"an answer is committed once, and again after each break, and nothing is started while it is shown", AT_EVENT,
     committed_once, 0, 0},
    {"an attempt goes on with what was shown when something was, and only then", AT_START,
     goes_on_where_something_was_shown, 0, 0},
    {"a stream is gone on with as often as `continuations` says, and no more", AT_EVENT, continuations_are_bounded,
     0, 0},
    {"a call is called continued when a break was bridged, and only then", AT_OVER,
     continued_means_a_bridged_break, 0, 0},
    {"what was shown in part ends whole, or in the break that could not be bridged", AT_OVER,
     broken_ends_as_broken, 0, 0},
    {"a call holds no longer than it may, all its holds together", AT_EVENT | AT_OVER, holds_no_longer_than_it_may,
     0, 0},
    {"no call holds while a target that it has not tried is free", AT_HOLD, holds_only_when_nothing_is_free, 0, 0},
    {"no call ends for want of a target while it may still hold for one", AT_OVER,
     no_error_while_it_may_still_hold, 0, 0},
    {"of the calls of a session that wait for a target, the one that came first starts first", AT_START,
     a_session_is_served_in_order, 0, 0},
    {"a held call looks for a target every few seconds", AT_EVENT, a_held_call_looks_often, 0, 0},
    {"the moment that one attempt answers, the others stop", AT_EVENT, losers_stop_at_once, 0, 0},
    {"a client that does not stream sees nothing before the answer is whole", AT_EVENT,
     only_the_streamed_see_it_early, 0, 0},
    {"no attempt starts after the deadline", AT_START, none_starts_after_the_deadline, 0, 0},
    {"no attempt runs past the deadline", AT_END, none_runs_past_the_deadline, 0, 0},
    {"an attempt without a first token ends in time", AT_END, first_token_comes_in_time, 0, 0},
    {"silence between tokens ends in time", AT_END, silence_is_cut_short, 0, 0},
    {"slowness alone ends no attempt", AT_END, slowness_alone_fails_nothing, 0, 0},
    {"a hedge is started only beside an attempt that is late", AT_START, hedges_only_the_late, 0, 0},
    {"a call waits for targets no longer than retry_after_max", AT_OVER, waits_are_bounded, 0, 0},
    {"after a wake the next one is later than now", AT_WAKE, wakes_are_for_the_future, 0, 0},
    {"a call is woken a bounded number of times", AT_OVER, wakes_are_few, 0, 0},
    {"a call that is not over will be woken, by its deadline at the latest", AT_EVENT, every_call_has_a_next, 0,
     0},
    {"a target counts as running what runs on it", AT_EVENT, running_is_what_runs, 0, 0},
    {"trial places that were taken are given back", AT_EVENT, trial_places_balance, 0, 0},
    {"retries stay within their budget", AT_START, retries_stay_in_budget, 0, 0},
    {"hedges stay within their budget", AT_START, hedges_stay_in_budget, 0, 0},
    {"a breaker changes only along its drawing", AT_BREAKER, breaker_goes_lawful_ways, 0, 0},
    {"a breaker opens only after its failures in its window", AT_BREAKER, breaker_opens_for_a_reason, 0, 0},
    {"a breaker opens when its failures are in its window", AT_END, breaker_opens_when_it_must, 0, 0},
    {"an open breaker stays open for its hold, doubled each time", AT_BREAKER, open_lasts_its_hold, 0, 0},
    {"probes are spaced, one at a time, and only where they decide something", AT_PROBE, probes_are_few, 0, 0},
    {"late events change nothing", AT_LATE, late_events_do_nothing, 0, 0},
    {"no target is lost for good: all are usable when the faults have ended", AT_CALM, no_target_is_lost_for_good,
     0, 0},
};
enum { COUNT = sizeof(invariants) / sizeof(invariants[0]), REPORTED_MOST = 3 };

bool invariants_check(const struct moment *m)
{
    bool all = true;
    for (unsigned i = 0; i < COUNT; i++) {
        struct invariant *v = &invariants[i];
        if (!(v->when & m->kind))
            continue;
        v->checked++;
        if (v->holds(m))
            continue;
        all = false;
        world_note(m->w, "BROKEN: %s", v->sentence);
        if (v->failed++ < REPORTED_MOST)
            printf("seed %llu, %.3f h: broken: %s\n  see: sim --replay %llu\n", (unsigned long long)m->w->seed,
                   (double)(m->w->now - m->w->began) / HOUR, v->sentence, (unsigned long long)m->w->seed);
    }
    return all;
}

unsigned invariants_report(unsigned *ret_passed)
{
    unsigned failed = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        const struct invariant *v = &invariants[i];
        bool ok = v->failed == 0 && v->checked > 0;
        failed += !ok;
        printf("  %s %12llu  %s%s\n", ok ? "ok  " : "FAIL", (unsigned long long)v->checked, v->sentence,
               v->checked ? "" : " (never checked)");
    }
    *ret_passed = COUNT - failed;
    return failed;
}
