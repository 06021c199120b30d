/* The runner: what relay/ is in production. It carries out actions, hands in events and keeps books. */
#include "sim.h"

#include "base/clock.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN };
enum { CALM_HOURS = 8, PROBE_TIMEOUT_MS = 30 * S, BURST_MOST = 25 };

void world_note(const struct world *w, const char *fmt, ...)
{
    if (!w->trace)
        return;
    uint64_t ms = w->now - w->began;
    printf("%4llu:%02llu:%02llu.%03llu  ", (unsigned long long)ms / HOUR, (unsigned long long)ms / MIN % 60,
           (unsigned long long)ms / S % 60, (unsigned long long)ms % S);
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

static void at(struct world *w, uint64_t when, enum ev_kind kind, unsigned slot, unsigned generation, unsigned arg)
{
    queue_push(&w->queue, &(struct ev){when, rnd_next(&w->rnd), kind, slot, generation, arg});
}

static void check(struct world *w, struct moment m)
{
    m.w = w;
    if (!invariants_check(&m))
        w->broken = true;
}

static struct sim_target *target_of(struct world *w, const struct sim_call *c, unsigned attempt)
{
    return &w->targets[c->want.route->targets[c->call.attempts[attempt].target].target->id];
}

struct verdict verdict_of(const struct ending *e)
{
    return (struct verdict){.failure = e->failure,
                            .limit = e->limit,
                            .status = e->status,
                            .has_retry_after = e->has_retry_after,
                            .retry_after_ms = e->retry_after_ms,
                            .provider_says_retry = e->provider_says_retry,
                            .provider_says_stop = e->provider_says_stop};
}

/* ---- our books of breakers */

static void on_breaker(void *ctx, const struct target *t, enum breaker_state from, enum breaker_state to)
{
    struct world *w = ctx;
    assert(w->changes_count < sizeof(w->changes) / sizeof(w->changes[0]));
    w->changes[w->changes_count++] = (struct change){&w->targets[t->id], from, to};
}

static void on_parked(void *ctx, const struct target *t, enum failure why, uint64_t until_ms)
{
    struct world *w = ctx;
    world_note(w, "%s %s until +%llu ms", t->name, why == FAILURE_NONE ? "in use again" : "parked",
               (unsigned long long)(until_ms > w->now ? until_ms - w->now : 0));
    w->targets[t->id].last_bad_ms = w->now;
    at(w, w->now, EV_PROBE_CHECK, 0, 0, 0);
    w->check_probes_at = w->now;
}

static void on_paced(void *ctx, const struct target *t, enum pace_state from, enum pace_state to)
{
    struct world *w = ctx;
    world_note(w, "%s is %s, %s x %.1f", t->name, pace_state_name(to), pace_kind_name(t->pace.cause),
               t->pace.ratio[t->pace.cause]);
    w->tally->unthrottled += to == PACE_USUAL;
    if (from != PACE_USUAL || to != PACE_THROTTLED)
        return;
    w->tally->throttled++;
    check(w, (struct moment){.kind = AT_PACE, .t = &w->targets[t->id]});
}

static void on_ready(void *ctx, struct ticket *ticket)
{
    struct world *w = ctx;
    const struct sim_call *c = ticket->owner;
    w->tally->told++;
    at(w, w->now, EV_TOLD, c->slot, c->generation, 0);
}

static void book_changes(struct world *w)
{
    for (unsigned i = 0; i < w->changes_count; i++) {
        struct change *ch = &w->changes[i];
        struct sim_target *t = ch->t;
        world_note(w, "%s breaker %s -> %s", t->target->name, breaker_state_name(ch->from),
                   breaker_state_name(ch->to));
        check(w, (struct moment){.kind = AT_BREAKER, .t = t, .from = ch->from, .to = ch->to});
        t->state = ch->to;
        t->last_bad_ms = w->now;
        t->failed = t->timed_out = 0;
        if (ch->to == BREAKER_OPEN) {
            t->opened_at = w->now;
            t->opens_in_row++;
            w->tally->breaker_opened++;
        } else if (ch->to == BREAKER_TRIAL) {
            t->round++;
            t->places_out = 0;
        }
        at(w, w->now, EV_PROBE_CHECK, 0, 0, 0);
        w->check_probes_at = w->now;
    }
    w->changes_count = 0;
}

static void book_verdict(struct world *w, struct sim_target *t, const struct verdict *v, bool probe)
{
    enum failure_blame blame = failure_row(v->failure)->blame;
    t->last_bad_ms = w->now;
    if (t->state == BREAKER_CLOSED && !probe && (blame == BLAME_FAILURE || blame == BLAME_TIMEOUT))
        t->failed_at[t->failed++ % SIM_LOG] = w->now;
    if (t->state == BREAKER_CLOSED && !probe && blame == BLAME_TIMEOUT)
        t->timed_out_at[t->timed_out++ % SIM_LOG] = w->now;
    if (blame == BLAME_LIMIT && v->has_retry_after && w->now + v->retry_after_ms > t->rest_until)
        t->rest_until = w->now + v->retry_after_ms;
    if (blame == BLAME_PARK) {
        uint64_t told_until = v->has_retry_after ? w->now + v->retry_after_ms : 0;
        if (!t->parked || t->park_until <= w->now)
            t->park_until = told_until ? told_until : w->now + 1 * MIN;
        else if (told_until > t->park_until)
            t->park_until = told_until;
        t->parked = true;
    }
}

static void give_place_back(struct sim_target *t, struct sim_call *c, unsigned a)
{
    if (c->place[a] && c->place[a] == t->round && t->state == BREAKER_TRIAL)
        t->places_out--;
    c->place[a] = 0;
}

/* The attempt is over, `v` says how; NULL: well, or only cancelled. */
static void book_end(struct world *w, struct sim_call *c, unsigned a, const struct verdict *v)
{
    struct sim_target *t = target_of(w, c, a);
    c->ends[a]++;
    if (c->call.attempts[a].state == ATTEMPT_CANCELLED && a >= c->round_from)
        c->starts_on[t->target->id]--; /* as if it had not been */
    if (c->live[a]) {
        c->live[a] = false;
        c->live_count--;
        t->live--;
    }
    give_place_back(t, c, a);
    if (v)
        book_verdict(w, t, v, false);
}

/* A whole answer has come; the breaker may have closed by its first output in the same moment. */
static void book_whole(struct world *w, struct sim_target *t)
{
    enum breaker_state state = t->state;
    for (unsigned i = 0; i < w->changes_count; i++)
        if (w->changes[i].t == t)
            state = w->changes[i].to;
    if (state == BREAKER_CLOSED)
        t->opens_in_row = t->early = 0;
}

/* The client sees some tokens of this attempt: each must stand behind the last one it saw. */
static void show(struct sim_call *c, unsigned a, unsigned first, unsigned count)
{
    c->misplaced += c->scripts[a].from + first != c->shown;
    c->shown += count;
}

static void new_round(struct sim_call *c, unsigned before)
{
    memset(c->starts_on, 0, sizeof(c->starts_on));
    c->round_from = before;
}

/* What was being shown broke: will the call go on? */
static void book_break(struct world *w, struct sim_call *c)
{
    if (!c->relaying || c->call.attempts[c->committed].state != ATTEMPT_FAILED)
        return;
    struct sim_target *t = target_of(w, c, (unsigned)c->committed);
    c->relaying = false;
    c->broke++;
    c->broke_by = c->call.attempts[c->committed].failure;
    w->tally->breaks++;
    if (c->commits > 1 || c->want.resumes)
        w->tally->faults[FAULT_CUT_AGAIN]++;
    if (c->call.state == CALL_OVER)
        return;
    c->gone_on++;
    memset(c->starts_since_output, 0, sizeof(c->starts_since_output));
    new_round(c, c->starts);
    c->round_of_hold = false;
    c->starts_on[t->target->id] = c->starts_since_output[t->target->id] = 1;
}

static void book_hold(struct world *w, struct sim_call *c)
{
    bool holds = c->call.state == CALL_HOLDING;
    if (c->holding && !holds) {
        uint64_t held_ms = w->now - c->holding_since;
        c->held_ms += held_ms;
        w->tally->held_hours_ms += held_ms;
        w->tally->released += c->call.state != CALL_OVER;
        if (!c->want.deadline_ms)
            c->deadline_at += held_ms;
    }
    if (holds && !c->holding) {
        c->holding_since = w->now;
        c->holds++;
        w->tally->holds++;
        check(w, (struct moment){.kind = AT_HOLD, .c = c});
        new_round(c, c->starts);
        c->round_of_hold = true;
    }
    c->holding = holds;
}

/* ---- actions */

static void book_fault(struct world *w, enum fault f)
{
    w->tally->faults[f]++;
}

static void budget_use(struct sim_budget *b)
{
    b->tokens -= 1;
}

static void do_start(struct world *w, struct sim_call *c, unsigned slot, const struct call_action *act)
{
    unsigned a = (unsigned)act->attempt;
    struct sim_target *t = target_of(w, c, a);
    struct script *s = &c->scripts[a];
    c->live[a] = true;
    c->live_count++;
    c->starts++;
    c->starts_on[t->target->id]++;
    c->starts_since_output[t->target->id]++;
    c->started_at[a] = w->now;
    c->starts_beside += c->relaying;
    t->live++;
    if (t->state == BREAKER_TRIAL) {
        c->place[a] = t->round;
        t->places_out++;
    }
    w->tally->attempts++;
    w->tally->hedges += act->hedge;
    w->tally->retries += act->same_target;
    if (act->hedge)
        budget_use(&w->hedges);
    if (act->same_target && !act->continues)
        budget_use(&w->retries);

    c->request.continues = act->continues;
    provider_answer(&t->provider, &w->rnd, &c->request, t->live, w->now, w->calm, s);
    s->from = act->continues ? c->shown : 0; /* whoever is not asked to go on begins at the beginning */
    if (s->fault != FAULT_NO_FAULT)
        t->last_bad_ms = w->now;
    world_note(w, "call %u.%u attempt %u starts on %s%s%s: %s", slot, c->generation, a, t->target->name,
               act->hedge ? " (hedge)" : "", act->same_target ? " (again)" : "", fault_name(s->fault));
    if (s->silent_then && s->fail_after == 0)
        book_fault(w, s->fault);
    else
        at(w, w->now + s->first_ms, EV_STEP, slot, c->generation, a);
    if (t->moved_slice != w->now / INFLUX_MS)
        t->moved = 0;
    t->moved_slice = w->now / INFLUX_MS;
    t->moved += a > 0 && !act->hedge;
    check(w, (struct moment){.kind = AT_START,
                             .c = c,
                             .t = t,
                             .attempt = (int)a,
                             .hedge = act->hedge,
                             .same_target = act->same_target});
}

/* A cancelled attempt may be a failure in the call's own judgement: slow, stalled, without a first token. */
static const struct verdict *cancelled_as(const struct sim_call *c, unsigned a, struct verdict *v)
{
    *v = (struct verdict){.failure = c->call.attempts[a].failure};
    return c->call.attempts[a].state == ATTEMPT_FAILED ? v : NULL;
}

static void book_cancels(struct world *w, struct sim_call *c, const struct call_actions *acts)
{
    struct verdict v;
    for (unsigned i = 0; i < acts->count; i++)
        if (acts->list[i].act == CALL_CANCEL)
            book_end(w, c, (unsigned)acts->list[i].attempt, cancelled_as(c, (unsigned)acts->list[i].attempt, &v));
}

static void do_cancel(struct world *w, struct sim_call *c, unsigned slot, const struct call_action *act)
{
    unsigned a = (unsigned)act->attempt;
    struct verdict storage;
    const struct verdict *v = cancelled_as(c, a, &storage);
    world_note(w, "call %u.%u attempt %u is cancelled (%s)", slot, c->generation, a,
               v ? failure_row(v->failure)->name : "not needed");
    check(w, (struct moment){.kind = AT_END, .c = c, .t = target_of(w, c, a), .attempt = (int)a, .verdict = v});
    if (rnd_below(&w->rnd, 5) == 0)
        at(w, w->now + rnd_below(&w->rnd, 500), EV_LATE, slot, c->generation, a);
}

/* `end`: the attempt whose own end caused this; NULL: none did. */
static void carry_out(struct world *w, struct sim_call *c, unsigned slot, const struct call_actions *acts,
                      const struct moment *end)
{
    book_cancels(w, c, acts);
    book_changes(w);
    if (end)
        check(w, *end);
    for (unsigned i = 0; i < acts->count; i++) {
        const struct call_action *act = &acts->list[i];
        switch (act->act) {
        case CALL_START:
            do_start(w, c, slot, act);
            break;
        case CALL_CANCEL:
            do_cancel(w, c, slot, act);
            break;
        case CALL_COMMIT:
            c->commits++;
            c->bridged += c->commits > 1 || c->want.resumes;
            c->committed = act->attempt;
            c->relaying = true;
            memset(c->starts_since_output, 0, sizeof(c->starts_since_output));
            show(c, (unsigned)act->attempt, 0, c->scripts[act->attempt].given);
            break;
        case CALL_FINISH:
            c->finishes++;
            c->relaying = false;
            break;
        case CALL_FAIL:
            c->fails++;
            c->told = act->failure;
            c->retry_after_ms = act->retry_after_ms;
            break;
        case CALL_BREAK:
            c->breaks++;
            c->told = act->failure;
            break;
        }
        if (act->act != CALL_START && act->act != CALL_CANCEL)
            world_note(w, "call %u.%u %s attempt %d %s", slot, c->generation,
                       act->act == CALL_COMMIT   ? "commits to"
                       : act->act == CALL_FINISH ? "is finished by"
                       : act->act == CALL_FAIL   ? "fails by"
                                                 : "breaks in",
                       act->attempt, failure_row(act->failure)->name);
        check(w, (struct moment){.kind = AT_ACTION, .c = c, .attempt = act->attempt, .action = act});
    }
    book_changes(w);
}

/* ---- the life of a call */

/* Events that come to a call after its end change nothing. */
static void disturb(struct world *w, struct sim_call *c)
{
    struct call_actions acts;
    struct verdict v = {.failure = FAILURE_RESET};
    unsigned n = 0;
    int a = c->call.attempts_count ? (int)rnd_below(&w->rnd, c->call.attempts_count) : -1;
    call_output(&c->call, a, w->now, &acts);
    n += acts.count;
    call_complete(&c->call, a, w->now, &acts);
    n += acts.count;
    call_failed(&c->call, a, &v, w->now, &acts);
    n += acts.count;
    call_gone(&c->call, w->now, &acts);
    n += acts.count;
    call_wake(&c->call, w->now + HOUR, &acts);
    n += acts.count;
    w->tally->late_events += 5;
    check(w, (struct moment){.kind = AT_LATE, .c = c, .actions = n});
}

static void end_call(struct world *w, struct sim_call *c, unsigned slot)
{
    w->tally->outcomes[c->call.outcome]++;
    w->tally->denied += c->call.denied;
    w->tally->bridged += c->bridged;
    world_note(w, "call %u.%u is over: %s", slot, c->generation, call_outcome_name(c->call.outcome));
    check(w, (struct moment){.kind = AT_OVER, .c = c});
    if (rnd_below(&w->rnd, 8) == 0)
        disturb(w, c);
    if (c->finishes && c->want.session && w->settings.affinity) {
        w->sessions[c->want.session - 1].target = (int)target_of(w, c, (unsigned)c->committed)->target->id;
        w->sessions[c->want.session - 1].until = w->now + w->settings.affinity;
    }
    c->used = false;
    c->generation++;
    w->calls_live--;
    w->free_slots[w->free_count++] = slot;
}

static void after_event(struct world *w, unsigned slot, const struct call_actions *acts, const struct moment *end,
                        bool woken)
{
    struct sim_call *c = w->calls[slot];
    book_break(w, c);
    book_hold(w, c);
    carry_out(w, c, slot, acts, end);
    if (!ticket_waits(&c->call.ticket))
        c->in_line_since = 0;
    else if (!c->in_line_since)
        c->in_line_since = w->now;
    if (call_wants_room(&c->call))
        call_give_room(&c->call, c->room);
    check(w, (struct moment){.kind = AT_EVENT, .c = c});
    if (woken)
        check(w, (struct moment){.kind = AT_WAKE, .c = c});
    if (c->call.state == CALL_OVER) {
        end_call(w, c, slot);
        return;
    }
    uint64_t next = call_next(&c->call);
    if (!woken && next == c->wake_at)
        return;
    c->wake_at = next;
    c->wake_number++;
    uint64_t late_ms = w->late_ms ? rnd_below(&w->rnd, w->late_ms + 1) : 0;
    at(w, next + late_ms < w->now ? w->now : next + late_ms, EV_WAKE, slot, c->generation, c->wake_number);
    if (rnd_below(&w->rnd, 16) == 0)
        at(w, w->now + rnd_below(&w->rnd, 1000), EV_EARLY_WAKE, slot, c->generation, 0);
}

/* As the relay does at the end of a streamed answer. */
static void tell_rate(struct world *w, struct sim_call *c, unsigned a)
{
    uint64_t output_ms = call_time(&c->call, c->call.attempts[a].output_at);
    if (output_ms != CLOCK_NEVER && w->now > output_ms && c->scripts[a].tokens > 1)
        target_rate(target_of(w, c, a)->target, c->scripts[a].tokens * 1000.0 / (double)(w->now - output_ms),
                    c->scripts[a].tokens, w->now);
}

/* The next thing that the provider does. */
static void step(struct world *w, unsigned slot, unsigned a)
{
    struct sim_call *c = w->calls[slot];
    struct script *s = &c->scripts[a];
    struct call_actions acts;
    if (!c->live[a])
        return;
    if (s->verdict.failure != FAILURE_NONE && s->given >= s->fail_after) {
        struct sim_target *t = target_of(w, c, a);
        book_fault(w, s->fault);
        if (failure_row(s->verdict.failure)->blame == BLAME_NONE && !failure_row(s->verdict.failure)->elsewhere &&
            !(s->continues && s->verdict.failure == FAILURE_BAD))
            c->refused++;
        if (c->call.want.streamed && c->call.state == CALL_COLLECTING)
            book_fault(w, FAULT_CUT_HIDDEN);
        struct verdict v = verdict_of(&s->verdict);
        world_note(w, "call %u.%u attempt %u: %s", slot, c->generation, a, failure_row(s->verdict.failure)->name);
        book_end(w, c, a, &v);
        call_failed(&c->call, (int)a, &v, w->now, &acts);
        after_event(w, slot, &acts,
                    &(struct moment){.kind = AT_END, .c = c, .t = t, .attempt = (int)a, .verdict = &v}, false);
        return;
    }
    if (s->silent_then && s->given >= s->fail_after) {
        book_fault(w, s->fault);
        return;
    }
    if (s->given == 0 && (s->fault == FAULT_SLOW || s->fault == FAULT_DRIFT || s->fault == FAULT_THROTTLE))
        book_fault(w, s->fault);
    bool first = s->given == 0;
    c->moved_at[a] = w->now;
    s->given = s->whole ? s->tokens : s->given + 1;
    bool goes_well = s->verdict.failure == FAILURE_NONE && !s->silent_then;
    if (s->whole || (goes_well && s->given == s->tokens &&
                     rnd_below(&w->rnd, 4) == 0)) { /* the last token and the end may come at once */
        if (c->relaying && c->committed == (int)a)
            show(c, a, s->given - 1, 1);
        c->output[a] = true;
        tell_rate(w, c, a);
        book_end(w, c, a, NULL);
        call_complete(&c->call, (int)a, w->now, &acts);
        book_whole(w, target_of(w, c, a));
        after_event(w, slot, &acts,
                    &(struct moment){.kind = AT_END, .c = c, .t = target_of(w, c, a), .attempt = (int)a}, false);
        return;
    }
    if (s->given > s->tokens) {
        s->given = s->tokens;
        tell_rate(w, c, a);
        book_end(w, c, a, NULL);
        call_complete(&c->call, (int)a, w->now, &acts);
        book_whole(w, target_of(w, c, a));
        after_event(w, slot, &acts,
                    &(struct moment){.kind = AT_END, .c = c, .t = target_of(w, c, a), .attempt = (int)a}, false);
        return;
    }
    at(w, w->now + s->gap_ms, EV_STEP, slot, c->generation, a);
    if (c->relaying && c->committed == (int)a)
        show(c, a, s->given - 1, 1);
    bool hidden = c->call.want.streamed && c->call.state == CALL_COLLECTING && s->given > s->hidden;
    if (!first && !hidden) {
        call_moved(&c->call, (int)a, w->now);
        return;
    }
    if (!first) { /* what was hidden can be shown now */
        call_output(&c->call, (int)a, w->now, &acts);
        after_event(w, slot, &acts, NULL, false);
        return;
    }
    c->output[a] = true;
    give_place_back(target_of(w, c, a), c, a);
    if (s->hidden)
        call_hidden_output(&c->call, (int)a, w->now, &acts);
    else
        call_output(&c->call, (int)a, w->now, &acts);
    after_event(w, slot, &acts, NULL, false);
}

static void late_event(struct world *w, unsigned slot, unsigned a)
{
    struct sim_call *c = w->calls[slot];
    struct call_actions acts;
    struct verdict v = {.failure = FAILURE_RESET};
    switch (rnd_below(&w->rnd, 3)) {
    case 0:
        call_output(&c->call, (int)a, w->now, &acts);
        break;
    case 1:
        call_complete(&c->call, (int)a, w->now, &acts);
        break;
    default:
        call_failed(&c->call, (int)a, &v, w->now, &acts);
        break;
    }
    w->tally->late_events++;
    check(w, (struct moment){.kind = AT_LATE, .c = c, .attempt = (int)a, .actions = acts.count});
}

/* ---- traffic */

/* An upper bound of what a budget can hold: what is earned and what time gives back, up to its most. */
static void earn(struct sim_budget *b, uint64_t ratio, uint64_t now)
{
    if (b->filled_ms)
        b->tokens += (double)(now - b->filled_ms) / BUDGET_REFILL_MS;
    b->filled_ms = now;
    b->tokens = fmin(b->tokens + (double)ratio / 1e6, BUDGET_MOST);
}

static void arrive(struct world *w)
{
    if (w->free_count == 0)
        return;
    unsigned slot = w->free_slots[--w->free_count];
    if (!w->calls[slot]) {
        w->calls[slot] = calloc(1, sizeof(struct sim_call));
        if (!w->calls[slot])
            exit(2);
    }
    struct sim_call *c = w->calls[slot];
    struct rnd *r = &w->rnd;
    unsigned generation = c->generation;
    memset(c, 0, sizeof(*c));
    c->generation = generation;
    c->slot = slot;
    c->used = true;
    c->committed = -1;
    c->began_at = w->now;
    c->request.bad = rnd_below(r, 100) == 0;
    c->request.filtered = rnd_below(r, 200) == 0;
    c->request.prompt_bytes =
        rnd_below(r, 10) ? (size_t)rnd_below(r, 20 * 1000) : (size_t)rnd_below(r, 2 * 1000 * 1000);
    c->want = (struct call_want){
        .route = &w->routes[rnd_below(r, w->routes_count)],
        .session = rnd_below(r, 2) ? 1 + rnd_below(r, SIM_SESSIONS) : 0,
        .begins = rnd_below(r, 5) == 0,
        .streamed = rnd_below(r, 5) < 3,
        .reasoning = rnd_below(r, 10) == 0,
        .no_fallback = rnd_below(r, 30) == 0,
        .prompt_bytes = c->request.prompt_bytes,
        .ttft_ms = rnd_below(r, 30) ? UINT64_MAX : rnd_below(r, 4) * 300,
        .deadline_ms = rnd_below(r, 20) ? 0 : 1 + rnd_below(r, 60 * S),
        .hold_ms = rnd_below(r, 10) ? UINT64_MAX : ONE_OF(r, 0, 1 * S, 2 * MIN, 30 * MIN),
        .key = 1 + rnd_below(r, SIM_KEYS),
        .owner = c,
    };
    c->want.in_session = c->want.session != 0;
    c->want.can_continue = c->want.streamed && rnd_below(r, 10) > 0;
    c->want.resumes = c->want.can_continue && rnd_below(r, 40) == 0;
    c->shown = c->resumed_at = c->want.resumes ? 1 + (unsigned)rnd_below(r, 30) : 0;
    c->deadline_at = w->now + (c->want.deadline_ms ? c->want.deadline_ms : c->want.route->settings.call_timeout);
    if (rnd_below(r, 20) == 0)
        at(w, w->now + rnd_below(r, 20 * S), EV_LEAVE, slot, generation, 0);
    w->calls_live++;
    w->tally->calls++;
    earn(&w->retries, c->want.route->settings.retry_budget, w->now);
    earn(&w->hedges, c->want.route->settings.hedge_budget, w->now);

    struct call_actions acts;
    call_begin(&c->call, w->fleet, &c->want, w->now, &acts);
    c->wake_at = CLOCK_NEVER;
    after_event(w, slot, &acts, NULL, false);
}

static void next_arrival(struct world *w)
{
    double gap_ms = -log(1 - rnd_unit(&w->rnd)) * HOUR / w->calls_per_hour;
    at(w, w->now + (uint64_t)gap_ms, EV_ARRIVE, 0, 0, 0);
}

static void arrivals(struct world *w)
{
    if (w->now >= w->until)
        return;
    uint64_t n = rnd_below(&w->rnd, 20) ? 1 : 1 + rnd_below(&w->rnd, BURST_MOST);
    while (n-- > 0 && !w->broken)
        arrive(w);
    next_arrival(w);
}

/* ---- providers and probes */

static void reset_what_runs(struct world *w, struct sim_target *t)
{
    for (unsigned slot = 0; slot < SIM_CALLS; slot++) {
        struct sim_call *c = w->calls[slot];
        for (unsigned a = 0; c && c->used && a < c->call.attempts_count; a++) {
            if (!c->live[a] || target_of(w, c, a) != t)
                continue;
            struct verdict v = {.failure = FAILURE_RESET};
            struct call_actions acts;
            book_fault(w, FAULT_RESET_ALL);
            book_end(w, c, a, &v);
            call_failed(&c->call, (int)a, &v, w->now, &acts);
            after_event(w, slot, &acts,
                        &(struct moment){.kind = AT_END, .c = c, .t = t, .attempt = (int)a, .verdict = &v}, false);
            break;
        }
    }
}

/* Everything is down for some minutes. */
static void outage(struct world *w)
{
    if (w->calm)
        return;
    uint64_t until_ms = w->now + 1 + (uint64_t)(-log(1 - rnd_unit(&w->rnd)) * 4 * MIN);
    world_note(w, "all are down for %llu ms", (unsigned long long)(until_ms - w->now));
    for (unsigned i = 0; i < w->targets_count && !w->broken; i++) {
        w->targets[i].provider.down_until_ms = until_ms;
        w->targets[i].last_bad_ms = w->now;
        reset_what_runs(w, &w->targets[i]);
    }
    at(w, until_ms + 1 + (uint64_t)(-log(1 - rnd_unit(&w->rnd)) * 90 * MIN), EV_OUTAGE, 0, 0, 0);
}

static void episode(struct world *w, unsigned target)
{
    struct sim_target *t = &w->targets[target];
    provider_turn(&t->provider, &w->rnd, w->now, w->calm);
    world_note(w, "%s: %s", t->target->name, fault_name(t->provider.episode.fault));
    at(w, t->provider.episode.until_ms, EV_EPISODE, target, 0, 0);
    if (t->provider.episode.fault == FAULT_RESET_ALL)
        reset_what_runs(w, t);
}

static void probe_check(struct world *w)
{
    uint64_t next;
    struct target *target;
    while ((target = fleet_probe_due(w->fleet, w->now, &next))) {
        book_changes(w);
        struct sim_target *t = &w->targets[target->id];
        t->probes_live++;
        check(w, (struct moment){.kind = AT_PROBE, .t = t});
        t->last_probe_at = w->now;
        t->early += !t->parked;
        w->tally->early_probes += t->state == BREAKER_OPEN;
        w->tally->probes++;
        struct script s;
        provider_answer(&t->provider, &w->rnd, &(struct request){0}, 1, w->now, w->calm, &s);
        uint64_t took_ms = s.silent_then || s.first_ms > PROBE_TIMEOUT_MS ? PROBE_TIMEOUT_MS : s.first_ms;
        world_note(w, "%s is probed: %s", target->name, fault_name(s.fault));
        at(w, w->now + took_ms, EV_PROBE_END, target->id, 0,
           s.silent_then || s.first_ms > PROBE_TIMEOUT_MS ? (unsigned)FAILURE_TIMEOUT
                                                          : (unsigned)s.verdict.failure);
    }
    book_changes(w);
    w->check_probes_at = next;
    if (next != CLOCK_NEVER)
        at(w, next, EV_PROBE_CHECK, 0, 0, 0);
}

static void probe_end(struct world *w, unsigned target, unsigned failure)
{
    struct sim_target *t = &w->targets[target];
    struct verdict v = {.failure = (enum failure)failure};
    if (rnd_below(&w->rnd, 30) == 0)
        v.failure = FAILURE_OURS;
    t->probes_live--;
    if (v.failure != FAILURE_NONE)
        book_verdict(w, t, &v, true);
    if (failure_row(v.failure)->blame == BLAME_NONE && v.failure != FAILURE_OURS)
        t->parked = false;
    world_note(w, "%s probe: %s", t->target->name, failure_row(v.failure)->name);
    t->early_passed = failure_row(v.failure)->blame == BLAME_NONE && v.failure != FAILURE_OURS;
    fleet_probe_result(w->fleet, t->target, &v, w->now);
    book_changes(w);
    t->early_passed = false;
    probe_check(w);
}

/* ---- running */

static void handle(struct world *w, const struct ev *e)
{
    struct sim_call *c = w->calls[e->slot];
    bool of_call = e->kind == EV_STEP || e->kind == EV_WAKE || e->kind == EV_EARLY_WAKE || e->kind == EV_LEAVE ||
                   e->kind == EV_LATE || e->kind == EV_TOLD;
    if (of_call && (!c || !c->used || c->generation != e->generation))
        return;
    struct call_actions acts;
    switch (e->kind) {
    case EV_ARRIVE:
        arrivals(w);
        break;
    case EV_STEP:
        step(w, e->slot, e->arg);
        break;
    case EV_WAKE:
        if (c->wake_number != e->arg)
            return;
        c->wakes++;
        call_wake(&c->call, w->now, &acts);
        after_event(w, e->slot, &acts, NULL, true);
        break;
    case EV_TOLD:
        call_wake(&c->call, w->now, &acts);
        after_event(w, e->slot, &acts, NULL, true);
        break;
    case EV_EARLY_WAKE:
        call_wake(&c->call, w->now, &acts);
        after_event(w, e->slot, &acts, NULL, false);
        break;
    case EV_LEAVE:
        c->departed = true;
        call_gone(&c->call, w->now, &acts);
        after_event(w, e->slot, &acts, NULL, false);
        break;
    case EV_LATE:
        late_event(w, e->slot, e->arg);
        break;
    case EV_EPISODE:
        if (w->targets[e->slot].provider.episode.until_ms == e->at)
            episode(w, e->slot);
        break;
    case EV_OUTAGE:
        outage(w);
        break;
    case EV_PROBE_CHECK:
        if (w->check_probes_at == e->at)
            probe_check(w);
        break;
    case EV_PROBE_END:
        probe_end(w, e->slot, e->arg);
        break;
    }
}

static void live_until(struct world *w, uint64_t until, bool drain)
{
    struct ev e;
    while (!w->broken && queue_pop(&w->queue, &e)) {
        if (e.at > until && !(drain && w->calls_live)) {
            queue_push(&w->queue, &e);
            break;
        }
        w->now = e.at;
        w->tally->events++;
        handle(w, &e);
    }
}

/* ---- set-up from the seed */

static bool set_up(struct world *w, uint64_t seed, double hours, bool trace, struct tally *tally)
{
    *w = (struct world){.seed = seed, .trace = trace, .tally = tally};
    w->rnd.state = seed * 0x9e3779b97f4a7c15u + 1;
    struct rnd *r = &w->rnd;
    w->began = w->now = 1 + rnd_below(r, 1ull << 36);
    w->until = w->now + (uint64_t)(hours * HOUR);
    w->fleet = fleet_new(rnd_next(r));
    if (!w->fleet)
        return false;
    fleet_set_watch(w->fleet, &(struct fleet_watch){on_breaker, on_parked, on_paced, on_ready}, w);
    random_settings(r, &w->settings);
    w->calls_per_hour = (double)ONE_OF(r, 20, 100, 400, 1500);
    w->late_ms = ONE_OF(r, 0, 0, 1, 10, 50, 2000);
    w->retries.tokens = w->hedges.tokens = BUDGET_FLOOR;
    w->check_probes_at = CLOCK_NEVER;
    w->targets_count = 1 + (unsigned)rnd_below(r, SIM_TARGETS);
    for (unsigned i = 0; i < w->targets_count; i++) {
        struct sim_target *t = &w->targets[i];
        char name[16];
        snprintf(name, sizeof(name), "p%u", i);
        if (fleet_target(w->fleet, name, "m", &w->settings, &t->target))
            return false;
        target_watch_pace(t->target, rnd_below(r, 3) > 0);
        provider_setup(&t->provider, r);
        episode(w, i);
    }
    w->routes_count = 1 + (unsigned)rnd_below(r, SIM_ROUTES);
    for (unsigned i = 0; i < w->routes_count; i++)
        random_route(w, &w->routes[i]);
    for (unsigned i = 0; i < SIM_CALLS; i++)
        w->free_slots[w->free_count++] = SIM_CALLS - 1 - i;
    for (unsigned i = 0; i < SIM_SESSIONS; i++)
        w->sessions[i].target = -1;
    next_arrival(w);
    at(w, w->now + rnd_below(r, 90 * MIN), EV_OUTAGE, 0, 0, 0);
    return true;
}

static void calm_down(struct world *w)
{
    w->calm = true;
    w->calls_per_hour = 10;
    for (unsigned i = 0; i < w->targets_count; i++)
        episode(w, i);
    w->until = w->now + (uint64_t)CALM_HOURS * HOUR;
    next_arrival(w);
}

bool world_run(uint64_t seed, double hours, bool trace, struct tally *tally)
{
    struct world *w = malloc(sizeof(*w));
    if (!w || !set_up(w, seed, hours, trace, tally)) {
        fprintf(stderr, "sim: out of memory\n");
        exit(2);
    }
    live_until(w, w->until, false);
    if (!w->broken) {
        w->now = w->until;
        calm_down(w);
        live_until(w, w->until, true);
    }
    for (unsigned i = 0; i < w->targets_count && !w->broken; i++)
        check(w, (struct moment){.kind = AT_CALM, .t = &w->targets[i]});
    for (unsigned i = 0; i < w->targets_count; i++)
        tally->cuts += w->targets[i].target->limiter.cuts_total;
    tally->hours += (double)(w->now - w->began) / HOUR;

    bool ok = !w->broken;
    for (unsigned i = 0; i < SIM_CALLS; i++)
        free(w->calls[i]);
    queue_done(&w->queue);
    fleet_free(w->fleet);
    free(w);
    return ok;
}
