#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "call_fixture.h"

/* ---- every class, alone and with others */

static void every_class_follows_its_row(void **state)
{
    (void)state;
    for (int i = FAILURE_NONE + 1; i < FAILURE_COUNT; i++) {
        const struct failure_row *row = failure_row((enum failure)i);
        struct fixture f;
        begin(&f);
        settle(&f);
        struct call_actions acts;
        call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
        call_failed(&f.call, 0, &(struct verdict){.failure = (enum failure)i}, NOW + 10, &acts);
        bool nowhere = !row->elsewhere || i == FAILURE_CONTEXT;
        if (nowhere && row->same == SAME_NEVER) {
            assert_int_equal(f.call.outcome, CALL_ERROR);
            assert_int_equal(acts.list[0].failure, i);
        } else if (i == FAILURE_JOIN) { /* it answers, so it is asked in another way at once */
            assert_int_equal(acts.count, 1);
            assert_int_equal(f.call.attempts[1].target, 0);
            assert_true(acts.list[0].same_target);
        } else if (row->same == SAME_FIRST) {
            assert_int_equal(f.call.state, CALL_WAITING);
            assert_int_equal(f.call.try_target, 0);
        } else {
            assert_int_equal(acts.count, 1);
            assert_int_equal(f.call.attempts[1].target, 1);
            assert_int_equal(f.call.used_up & 1, row->same == SAME_NEVER);
        }
        fleet_free(f.fleet);
    }
}

/* Targets 0 and 2 are regions of one provider. */
static void a_region_that_fails_is_followed_by_the_next(void **state)
{
    (void)state;
    for (int i = FAILURE_NONE + 1; i < FAILURE_COUNT; i++) {
        if (!failure_row((enum failure)i)->elsewhere || i == FAILURE_CONTEXT)
            continue;
        struct fixture f;
        begin(&f);
        settle(&f);
        f.route.targets[0].group = f.route.targets[2].group = 1;
        struct call_actions acts;
        call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
        struct verdict v = {.failure = (enum failure)i, .provider_says_stop = true};
        f.route.targets[0].settings.attempts = 1; /* no second try of the same */
        call_failed(&f.call, 0, &v, NOW + 10, &acts);
        assert_int_equal(f.call.state, CALL_TRYING);
        assert_int_equal(f.call.attempts[1].target, 2);
        call_gone(&f.call, NOW + 20, &acts);
        fleet_free(f.fleet);
    }
}

/* ---- waiting for targets to come back */

static void a_call_waits_for_the_first_target_that_comes_back(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    settle(&f);
    for (unsigned i = 0; i < TARGETS; i++)
        f.t[i]->rest_until_ms = NOW + (10 - i) * S;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    assert_int_equal(acts.count, 0);
    assert_int_equal(f.call.state, CALL_WAITING);
    uint64_t next = call_next(&f.call);
    assert_in_range(next, NOW + 8 * S, NOW + 9 * S); /* spread, so that all that wait do not come at once */
    call_wake(&f.call, next, &acts);
    assert_int_equal(f.call.attempts[0].target, f.t[1]->rest_until_ms <= next ? 1 : 2);
    assert_int_equal(f.call.waited_ms, next - NOW);
    call_gone(&f.call, next, &acts);
    fleet_free(f.fleet);
}

static void a_call_for_which_the_wait_is_too_long_is_told_how_long(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.route.count = 1;
    settle(&f);
    f.t[0]->rest_until_ms = NOW + 61 * S;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    assert_int_equal(acts.list[0].act, CALL_FAIL);
    assert_int_equal(acts.list[0].attempt, -1);
    assert_int_equal(acts.list[0].failure, FAILURE_OVERLOAD);
    assert_int_equal(acts.list[0].retry_after_ms, 61 * S);
    fleet_free(f.fleet);
}

/* Forty calls wait for a breaker; it lets three in. The others wait on, never in step, and each is served in the end. */
static void those_that_wait_for_trial_places_take_turns(void **state)
{
    (void)state;
    enum { CALLS = 40 };
    struct fixture f;
    begin(&f);
    f.route.count = 1;
    f.settings.probe = 0;
    f.want.owner = &f; /* those that are told are looked for */
    settle(&f);
    struct verdict bad = {.failure = FAILURE_TIMEOUT};
    for (int i = 0; i < 3; i++)
        target_end(f.t[0], &bad, false, (struct place[]){target_start(f.t[0], 0, NOW)}, NOW);
    static struct call calls[CALLS];
    struct call_actions acts;
    for (int i = 0; i < CALLS; i++)
        call_begin(&calls[i], f.fleet, &f.want, NOW, &acts);
    unsigned served = 0, wakes = 0;
    for (uint64_t now = NOW; now < NOW + 60 * S; now += 10)
        for (int i = 0; i < CALLS; i++) {
            if (calls[i].state == CALL_TRYING &&
                now >= call_time(&calls[i], calls[i].attempts[0].started_at) + 400) {
                call_complete(&calls[i], 0, now, &acts);
                served++;
            } else if (now >= call_next(&calls[i]) || calls[i].ticket.told) {
                call_wake(&calls[i], now, &acts);
                wakes++;
            }
            assert_true(f.t[0]->breaker.state != BREAKER_TRIAL || f.t[0]->breaker.trials_out <= 3);
        }
    assert_int_equal(served, CALLS);
    assert_true(wakes < CALLS * 8);
    assert_int_equal(f.t[0]->breaker.state, BREAKER_CLOSED);
    fleet_free(f.fleet);
}

/* ---- what targets learn */

static void losers_are_slow_only_past_their_own_limit(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        struct fixture f;
        begin(&f);
        f.want.ttft_ms = 500; /* the client is in a hurry: no fault of the target */
        settle(&f);
        struct call_actions acts;
        call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
        call_wake(&f.call, NOW + 500, &acts);
        assert_true(acts.list[0].hedge);
        call_output(&f.call, 1, NOW + (late ? 2000 : 1999), &acts);
        assert_int_equal(f.call.attempts[0].state, late ? ATTEMPT_FAILED : ATTEMPT_CANCELLED);
        assert_int_equal(f.t[0]->breaker.timed_out_count, late);
        assert_int_equal(f.t[0]->ttft_ms.samples, late);
        assert_int_equal(f.call.tries[0], late);
        call_gone(&f.call, NOW + 3000, &acts);
        assert_int_equal(f.t[1]->breaker.failed_count, 0);
        fleet_free(f.fleet);
    }
}

static void a_complete_answer_binds_its_session(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.want.session = 5;
    settle(&f);
    struct call_actions acts;
    f.t[0]->rest_until_ms = NOW + 1;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    call_complete(&f.call, 0, NOW, &acts);
    call_begin(&f.call, f.fleet, &f.want, NOW + 10 * S, &acts);
    assert_int_equal(f.call.attempts[0].target, 1);
    call_gone(&f.call, NOW + 11 * S, &acts);
    f.want.begins = true; /* another conversation that looks like this one */
    call_begin(&f.call, f.fleet, &f.want, NOW + 12 * S, &acts);
    assert_int_equal(f.call.attempts[0].target, 0);
    call_gone(&f.call, NOW + 13 * S, &acts);
    fleet_free(f.fleet);
}

static void the_retry_budget_bounds_an_outage(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.route.count = 1;
    f.settings.breaker_failures = 0;
    f.settings.retry_budget = 200000;
    settle(&f);
    struct call_actions acts;
    unsigned attempts = 0;
    enum { CALLS = 500 };
    for (int i = 0; i < CALLS; i++) {
        uint64_t now = NOW + (uint64_t)i; /* no time for the floor to come back */
        call_begin(&f.call, f.fleet, &f.want, now, &acts);
        while (f.call.state != CALL_OVER) {
            if (f.call.state == CALL_TRYING)
                call_failed(&f.call, (int)f.call.attempts_count - 1, &(struct verdict){.failure = FAILURE_SERVER},
                            now, &acts);
            else
                call_wake(&f.call, call_next(&f.call), &acts);
        }
        attempts += f.call.attempts_count;
    }
    assert_in_range(attempts, CALLS + 100, CALLS + BUDGET_FLOOR + CALLS / 5 + 1);
    fleet_free(f.fleet);
}

static void all_attempts_fail(bool with_room)
{
    struct fixture f;
    begin(&f);
    f.settings.attempts = 30;
    f.settings.backoff = 0;
    f.settings.breaker_failures = 0;
    f.settings.retry_budget = 10 * 1000000;
    settle(&f);
    struct call_actions acts;
    for (int i = 0; i < 20; i++)
        budget_earn(fleet_retry_budget(f.fleet), f.settings.retry_budget, NOW);
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    for (int i = 0; i < 200 && f.call.state != CALL_OVER; i++) {
        if (with_room)
            make_room(&f);
        if (f.call.state == CALL_TRYING)
            call_failed(&f.call, (int)f.call.attempts_count - 1, &(struct verdict){.failure = FAILURE_SERVER}, NOW,
                        &acts);
        else
            call_wake(&f.call, call_next(&f.call), &acts);
    }
    assert_int_equal(f.call.state, CALL_OVER);
    assert_int_equal(f.call.attempts_count, with_room ? CALL_ATTEMPTS_MAX : CALL_ATTEMPTS_FEW);
    assert_int_equal(f.call.outcome, CALL_CUT_BEFORE);
    for (unsigned i = 0; i < f.call.attempts_count; i++)
        assert_int_equal(f.call.attempts[i].state, ATTEMPT_FAILED);
    fleet_free(f.fleet);
}

static void attempts_have_a_most(void **state)
{
    (void)state;
    all_attempts_fail(true);
}

static void a_call_whose_owner_has_no_memory_ends_with_few_attempts(void **state)
{
    (void)state;
    all_attempts_fail(false);
}

/* ---- holding */

static void fail_the_last(struct fixture *f, enum failure why, uint64_t now, struct call_actions *acts)
{
    call_failed(&f->call, (int)f->call.attempts_count - 1, &(struct verdict){.failure = why}, now, acts);
}

static void alone_on_hold(struct fixture *f, uint64_t hold_ms)
{
    begin(f);
    f->route.count = 1;
    f->settings.attempts = 1;
    f->settings.hold = hold_ms;
    f->settings.breaker_failures = 0;
    f->settings.retry_after_max = 0;
    f->want.in_session = true;
    f->want.hold_ms = UINT64_MAX;
    settle(f);
}

static void a_hold_has_attempts_for_all_of_its_time(void **state)
{
    (void)state;
    for (uint64_t hold_ms = MIN; hold_ms <= 24 * 60 * MIN; hold_ms *= 4) {
        struct fixture f;
        alone_on_hold(&f, hold_ms);
        struct call_actions acts;
        uint64_t now = NOW;
        call_begin(&f.call, f.fleet, &f.want, now, &acts);
        while (f.call.state != CALL_OVER) {
            make_room(&f);
            if (f.call.state == CALL_TRYING) {
                fail_the_last(&f, FAILURE_CONNECT, now, &acts);
            } else {
                now = call_next(&f.call);
                call_wake(&f.call, now, &acts);
            }
        }
        assert_true(f.call.attempts_count < CALL_ATTEMPTS_MAX);
        assert_true(f.call.attempts_count >= 5);
        assert_true(now - NOW <= hold_ms);
        assert_true(now - NOW >= hold_ms / 4);
        fleet_free(f.fleet);
    }
}

static void holds_add_up(void **state)
{
    (void)state;
    struct fixture f;
    alone_on_hold(&f, 10 * S);
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    uint64_t began_deadline = f.call.deadline_ms, held_ms = 0, now = NOW;
    for (int i = 0; i < 2; i++) {
        fail_the_last(&f, FAILURE_CONNECT, now, &acts);
        assert_int_equal(f.call.state, CALL_HOLDING);
        while (f.call.state == CALL_HOLDING) {
            held_ms += call_next(&f.call) - now;
            now = call_next(&f.call);
            call_wake(&f.call, now, &acts);
        }
        assert_int_equal(f.call.state, CALL_TRYING);
        assert_int_equal(f.call.held_ms, held_ms);
        assert_int_equal(f.call.deadline_ms, began_deadline + held_ms);
    }
    f.t[0]->rest_until_ms = now + 10 * S - held_ms; /* just too late for what is left */
    fail_the_last(&f, FAILURE_CONNECT, now, &acts);
    assert_int_equal(f.call.state, CALL_OVER);
    assert_int_equal(acts.list[0].act, CALL_FAIL);
    fleet_free(f.fleet);
}

static void an_answer_to_another_call_ends_the_wait(void **state)
{
    (void)state;
    struct fixture f;
    alone_on_hold(&f, 15 * MIN);
    f.settings.backoff = 5 * MIN;
    f.settings.backoff_max = 5 * MIN;
    settle(&f);
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    fail_the_last(&f, FAILURE_CONNECT, NOW, &acts);
    uint64_t now = call_next(&f.call);
    assert_in_range(now, NOW + 1, NOW + 3 * S);
    call_wake(&f.call, now, &acts);
    assert_int_equal(f.call.state, CALL_HOLDING);
    f.t[0]->last_ok_ms = now;
    now = call_next(&f.call);
    call_wake(&f.call, now, &acts);
    assert_int_equal(f.call.state, CALL_TRYING);
    call_gone(&f.call, now, &acts);
    fleet_free(f.fleet);
}

static void a_target_that_is_free_at_the_end_of_the_hold_is_taken(void **state)
{
    (void)state;
    struct fixture f;
    alone_on_hold(&f, 1500);
    f.t[0]->rest_until_ms = NOW + 1400;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    assert_int_equal(f.call.state, CALL_HOLDING);
    call_wake(&f.call, NOW + 1600, &acts); /* a timer that is late */
    assert_int_equal(f.call.state, CALL_TRYING);
    fail_the_last(&f, FAILURE_CONNECT, NOW + 1700, &acts);
    assert_int_equal(f.call.state, CALL_OVER);
    fleet_free(f.fleet);
}

/* ---- what is told of a call that waits */

static void open_breaker(struct target *t)
{
    struct verdict bad = {.failure = FAILURE_SERVER};
    while (t->breaker.state != BREAKER_OPEN)
        target_end(t, &bad, false, (struct place[]){target_start(t, 0, NOW)}, NOW);
}

static void behind_open_breakers_a_call_is_told_as_holding(void **state)
{
    (void)state;
    for (int probes = 0; probes < 2; probes++)
        for (int in_session = 0; in_session < 2; in_session++) {
            struct fixture f;
            begin(&f);
            f.route.count = 2;
            f.settings.hold = 15 * MIN;
            f.settings.probe_waiting = 0; /* no early probes: the breaker's hold is waited for */
            if (!probes)
                f.settings.probe = 0;
            f.want.in_session = in_session;
            f.want.hold_ms = UINT64_MAX;
            settle(&f);
            open_breaker(f.t[0]);
            open_breaker(f.t[1]);
            f.t[1]->breaker.open_until_ms += 5 * S; /* the later one does not matter */
            struct call_actions acts;
            call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
            assert_int_equal(f.call.state, CALL_WAITING);
            struct call_pause p;
            uint64_t hold_ms = in_session ? f.settings.hold : 0;
            assert_true(call_pause(&f.call, NOW + 2 * S, &p));
            assert_int_equal(p.state, CALL_HOLDING);
            assert_int_equal(p.since_ms, NOW);
            assert_int_equal(p.until_ms, NOW + f.settings.retry_after_max + hold_ms);
            uint64_t back_ms = f.t[0]->breaker.open_until_ms;
            if (probes)
                assert_in_range(p.next_ms, back_ms, back_ms + 4 * S);
            else
                assert_int_equal(p.next_ms, back_ms);
            f.call.waited_ms = 7 * S; /* before, for something else */
            assert_true(call_pause(&f.call, NOW + 2 * S, &p));
            assert_int_equal(p.until_ms, NOW + f.settings.retry_after_max - 7 * S + hold_ms);
            f.call.deadline_ms = NOW + 10 * S; /* which comes first */
            assert_true(call_pause(&f.call, NOW + 2 * S, &p));
            assert_int_equal(p.until_ms, NOW + 10 * S);
            call_gone(&f.call, NOW, &acts);
            assert_false(call_pause(&f.call, NOW, &p));
            fleet_free(f.fleet);
        }
}

static void with_one_target_that_only_rests_a_call_is_told_as_waiting(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.route.count = 2;
    settle(&f);
    open_breaker(f.t[0]);
    f.t[1]->rest_until_ms = NOW + 9 * S;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    struct call_pause p;
    assert_true(call_pause(&f.call, NOW, &p));
    assert_int_equal(p.state, CALL_WAITING);
    assert_int_equal(p.until_ms, 0);
    assert_int_equal(p.next_ms, call_next(&f.call));
    f.t[1]->rest_until_ms = 0;
    f.t[1]->parked_for = FAILURE_QUOTA; /* until it is paid: it is down like the other */
    f.t[1]->park_until_ms = NOW + 9 * S;
    assert_true(call_pause(&f.call, NOW, &p));
    assert_int_equal(p.state, CALL_HOLDING);
    f.t[1]->parked_for = FAILURE_NONE;
    f.t[1]->breaker.state = BREAKER_TRIAL; /* and all of its places are taken */
    f.t[1]->breaker.trials_out = 1000;
    assert_true(call_pause(&f.call, NOW, &p));
    assert_int_equal(p.state, CALL_HOLDING);
    f.t[1]->breaker.state = BREAKER_CLOSED;
    f.t[1]->rest_until_ms = NOW + 9 * S;
    f.call.unfit = 2; /* where it could not go anyway */
    assert_true(call_pause(&f.call, NOW, &p));
    assert_int_equal(p.state, CALL_HOLDING);
    f.call.unfit = 3;
    assert_true(call_pause(&f.call, NOW, &p));
    assert_int_equal(p.state, CALL_WAITING);
    call_gone(&f.call, NOW, &acts);
    fleet_free(f.fleet);
}

static void a_call_on_hold_is_told_when_it_may_be_tried_and_when_it_gives_up(void **state)
{
    (void)state;
    struct fixture f;
    alone_on_hold(&f, 10 * S);
    f.t[0]->rest_until_ms = NOW + 8 * S;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    assert_int_equal(f.call.state, CALL_HOLDING);
    struct call_pause p;
    assert_true(call_pause(&f.call, NOW + S, &p));
    assert_int_equal(p.state, CALL_HOLDING);
    assert_int_equal(p.next_ms, NOW + 8 * S); /* not the looks until then */
    assert_int_equal(p.until_ms, NOW + 10 * S);
    f.t[0]->rest_until_ms = 0; /* free, and not its turn */
    assert_true(call_pause(&f.call, NOW + S, &p));
    assert_int_equal(p.next_ms, call_next(&f.call));
    call_gone(&f.call, NOW + S, &acts);
    fleet_free(f.fleet);
}

static void what_is_parked_for_a_person_is_not_waited_for(void **state)
{
    (void)state;
    static const enum failure why[] = {FAILURE_AUTH, FAILURE_PERMISSION, FAILURE_NOT_FOUND, FAILURE_BILLING,
                                       FAILURE_QUOTA};
    for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++) {
        struct fixture f;
        alone_on_hold(&f, 15 * MIN);
        f.t[0]->parked_for = why[i];
        f.t[0]->park_until_ms = NOW + 5 * MIN;
        struct call_actions acts;
        call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
        assert_int_equal(f.call.state, why[i] == FAILURE_QUOTA ? CALL_HOLDING : CALL_OVER);
        call_gone(&f.call, NOW, &acts);
        fleet_free(f.fleet);
    }
}

static void a_hold_ends_when_it_is_known_to_be_in_vain(void **state)
{
    (void)state;
    struct fixture f;
    alone_on_hold(&f, 1 * MIN);
    f.t[0]->rest_until_ms = NOW + 10 * S;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    assert_int_equal(f.call.state, CALL_HOLDING);
    f.t[0]->rest_until_ms = NOW + 61 * S;
    call_wake(&f.call, call_next(&f.call), &acts);
    assert_int_equal(f.call.state, CALL_OVER);
    assert_true(f.call.held_ms <= 3 * S);
    assert_in_range(acts.list[0].retry_after_ms, 58 * S, 61 * S);
    fleet_free(f.fleet);
}

static void a_broken_stream_needs_no_token_whatever_was_refused_before(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.route.count = 2;
    f.settings.retry_budget = 1000000;
    f.want.can_continue = true;
    settle(&f);
    while (budget_spend(fleet_retry_budget(f.fleet)))
        ;
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    while (budget_spend(fleet_retry_budget(f.fleet)))
        ;
    fail_the_last(&f, FAILURE_SERVER, NOW, &acts);
    assert_int_equal(f.call.attempts[1].target, 1); /* the second try of the first one was not paid for */
    call_output(&f.call, 1, NOW, &acts);
    f.t[0]->rest_until_ms = NOW + 60 * S; /* there is no other to go on */
    fail_the_last(&f, FAILURE_CUT, NOW, &acts);
    assert_int_equal(f.call.state, CALL_WAITING);
    call_wake(&f.call, call_next(&f.call), &acts);
    assert_int_equal(f.call.attempts_count, 3);
    assert_int_equal(f.call.attempts[2].target, 1);
    call_gone(&f.call, NOW, &acts);
    fleet_free(f.fleet);
}

/* A refusal without a time taught five a minute, and fifty of another key stand in line for them. */
static void a_guessed_limit_delays_a_call_and_never_fails_it(void **state)
{
    (void)state;
    enum { CROWD = 50 };
    static struct ticket crowd[CROWD];
    for (int told = 0; told < 2; told++)
        for (int held = 0; held < 2; held++) {
            struct fixture f;
            begin(&f);
            f.route.count = 1;
            f.want.deadline_ms = 20 * S;
            f.want.hold_ms = held ? 5 * S : 0;
            f.settings.retry_after_max = 0;
            settle(&f);
            struct rate_meter *m = &f.t[0]->budget.meter[RATE_REQUESTS];
            struct place p = target_start(f.t[0], 0, NOW);
            target_rate_facts(f.t[0], &p, told ? &(struct rate_facts){5, 0, 3600 * S, -1, -1, -1} : NULL, NOW);
            target_end(f.t[0], NULL, false, &p, NOW);
            m->ceiling = 1;
            m->refused_ms = NOW;
            memset(crowd, 0, sizeof(crowd));
            for (int i = 0; i < CROWD; i++)
                queue_enter(f.fleet, &crowd[i], &f.route, 0, 0, 7, 0, NOW);
            struct call_actions acts;
            uint64_t now = NOW;
            call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
            unsigned wakes = 0;
            while (acts.count == 0) {
                now = call_next(&f.call);
                assert_true(++wakes < 20);
                call_wake(&f.call, now, &acts);
            }
            assert_int_equal(acts.list[0].act, told ? CALL_FAIL : CALL_START);
            if (!told)
                assert_in_range(now, NOW + 10 * S, NOW + 15 * S + 10);
            call_gone(&f.call, now, &acts);
            for (int i = 0; i < CROWD; i++)
                queue_leave(f.fleet, &crowd[i], false, now);
            fleet_free(f.fleet);
        }
}

/* A call is on hold for its only target, and meanwhile another's refusal without a time taught a limit that lasts longer than the hold. */
static void a_limit_that_is_guessed_during_a_hold_does_not_end_it(void **state)
{
    (void)state;
    for (int told = 0; told < 2; told++) {
        struct fixture f;
        begin(&f);
        f.route.count = 1;
        f.want.deadline_ms = 40 * S;
        f.want.hold_ms = 5 * S;
        f.settings.attempts = 1;
        f.settings.retry_after_max = 0;
        settle(&f);
        struct call_actions acts;
        call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
        fail_the_last(&f, FAILURE_OVERLOAD, NOW, &acts);
        assert_int_equal(f.call.state, CALL_HOLDING);
        struct rate_meter *m = &f.t[0]->budget.meter[RATE_REQUESTS];
        struct place p = target_start(f.t[0], 0, NOW + 1);
        target_rate_facts(f.t[0], &p, told ? &(struct rate_facts){5, 0, 3600 * S, -1, -1, -1} : NULL, NOW + 1);
        target_end(f.t[0], NULL, false, &p, NOW + 1);
        m->ceiling = 1;
        m->refused_ms = NOW + 1;
        uint64_t now = NOW;
        acts.count = 0;
        for (unsigned wakes = 0; acts.count == 0; wakes++) {
            now = call_next(&f.call);
            assert_true(wakes < 40);
            call_wake(&f.call, now, &acts);
        }
        assert_int_equal(acts.list[0].act, told ? CALL_FAIL : CALL_START);
        assert_true(told ? now < NOW + 5 * S : now >= NOW + 5 * S);
        call_gone(&f.call, now, &acts);
        fleet_free(f.fleet);
    }
}

static void after_a_break_a_target_that_could_not_is_waited_for_again(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.route.count = 2;
    f.settings.attempts = 1;
    f.settings.retry_after_max = 0;
    f.want.can_continue = f.want.in_session = true;
    f.want.hold_ms = UINT64_MAX;
    settle(&f);
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    fail_the_last(&f, FAILURE_TOOL, NOW, &acts);
    call_output(&f.call, 1, NOW, &acts);
    f.t[0]->rest_until_ms = NOW + 5 * S;
    fail_the_last(&f, FAILURE_AUTH, NOW, &acts);
    assert_int_equal(f.call.state, CALL_HOLDING);
    call_wake(&f.call, NOW + 6 * S, &acts);
    assert_int_equal(f.call.state, CALL_TRYING);
    assert_int_equal(f.call.attempts[2].target, 0);
    assert_true(acts.list[0].continues);
    call_gone(&f.call, NOW, &acts);
    fleet_free(f.fleet);
}

/* On hold and while waiting alike; `retry_after_max` decides which of them it is. */
static void those_that_wait_start_in_their_order(void **state)
{
    (void)state;
    for (uint64_t wait_ms = 0; wait_ms <= MIN; wait_ms += MIN) {
        struct fixture f;
        alone_on_hold(&f, 1 * MIN);
        f.route.settings.retry_after_max = wait_ms;
        f.t[0]->rest_until_ms = NOW + 5 * S;
        f.want.key = 7, f.want.session = 9;
        struct call second;
        struct call_actions acts;
        call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
        call_begin(&second, f.fleet, &f.want, NOW + 1, &acts);
        enum call_state waits = wait_ms ? CALL_WAITING : CALL_HOLDING;
        assert_int_equal(f.call.state, waits);
        assert_int_equal(second.state, waits);
        assert_true(ticket_waits(&f.call.ticket) && ticket_waits(&second.ticket));
        call_wake(&second, NOW + 8 * S, &acts);
        assert_int_not_equal(second.state, CALL_TRYING);
        call_wake(&f.call, NOW + 8 * S, &acts);
        assert_int_equal(f.call.state, CALL_TRYING);
        assert_true(second.ticket.told);
        call_wake(&second, NOW + 8 * S + 1, &acts);
        assert_int_equal(second.state, CALL_TRYING);
        call_gone(&f.call, NOW + 9 * S, &acts);
        call_gone(&second, NOW + 9 * S, &acts);
        fleet_free(f.fleet);
    }
}

static void a_call_stays_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct attempt) <= 32);
    assert_true(sizeof(struct call) <= 1024);
}

/* ---- any events in any order: books balance, it ends, and nothing is written past an array */

static void any_event(struct fixture *f, struct rnd *r, bool has_memory, uint64_t now, struct call_actions *acts)
{
    int n = (int)rnd_below(r, 6) - 1;
    if (has_memory)
        make_room(f);
    switch (rnd_below(r, 8)) {
    case 0:
    case 1:
        call_output(&f->call, n, now, acts);
        break;
    case 2:
        call_complete(&f->call, n, now, acts);
        break;
    case 3:
    case 4:
    case 5: {
        struct verdict v = {.failure = (enum failure)(1 + rnd_below(r, FAILURE_COUNT - 1))};
        v.has_retry_after = rnd_below(r, 2);
        v.retry_after_ms = rnd_below(r, 100 * S);
        v.provider_says_stop = rnd_below(r, 8) == 0;
        v.provider_says_retry = rnd_below(r, 8) == 0;
        call_failed(&f->call, n, &v, now, acts);
        break;
    }
    case 6:
        call_wake(&f->call, now, acts);
        break;
    default:
        if (rnd_below(r, 20) == 0)
            call_gone(&f->call, now, acts);
        else
            acts->count = 0;
        break;
    }
}

static void any_events_in_any_order_end_in_balance(void **state)
{
    (void)state;
    struct rnd r = {42};
    unsigned outcomes[CALL_OUTCOME_COUNT] = {0}, held = 0;
    for (int run = 0; run < 5000; run++) {
        struct fixture f;
        begin(&f);
        f.want.streamed = rnd_below(&r, 2);
        f.want.no_fallback = rnd_below(&r, 10) == 0;
        f.settings.attempts = 1 + rnd_below(&r, 4);
        f.settings.ttft = rnd_below(&r, 3) * 1000;
        f.settings.stall = rnd_below(&r, 3) * 1000;
        f.settings.hold = rnd_below(&r, 3) * 20 * S;
        f.settings.continuations = rnd_below(&r, 4);
        f.settings.retry_after_max = rnd_below(&r, 2) * MIN;
        f.want.hold_ms = UINT64_MAX;
        f.want.in_session = rnd_below(&r, 2);
        f.want.can_continue = f.want.streamed && rnd_below(&r, 4);
        f.want.resumes = f.want.can_continue && rnd_below(&r, 8) == 0;
        settle(&f);
        struct call_actions acts = {.count = 0};
        uint64_t now = NOW;
        unsigned commits = 0, ends = 0;
        call_begin(&f.call, f.fleet, &f.want, now, &acts);
        for (int i = 0; i < 5000; i++) {
            unsigned running = 0;
            for (unsigned j = 0; j < acts.count; j++) {
                commits += acts.list[j].act == CALL_COMMIT;
                ends += acts.list[j].act == CALL_FINISH || acts.list[j].act == CALL_FAIL ||
                        acts.list[j].act == CALL_BREAK;
                if (acts.list[j].act == CALL_START)
                    assert_int_equal(acts.list[j].continues, commits > 0 || f.want.resumes);
            }
            for (unsigned j = 0; j < TARGETS; j++)
                running += f.t[j]->running;
            unsigned own = 0;
            for (unsigned j = 0; j < f.call.attempts_count; j++)
                own += f.call.attempts[j].state == ATTEMPT_RUNNING;
            assert_int_equal(running, own);
            assert_true(own <= CALL_RUNNING_MAX);
            if (f.call.state == CALL_OVER)
                break;
            assert_int_equal(ends, 0);
            uint64_t next = call_next(&f.call);
            assert_true(f.call.state == CALL_HOLDING ? next <= now + 3 * S : next <= f.call.deadline_ms);
            now += rnd_below(&r, 2000);
            if (rnd_below(&r, 3) == 0 && next > now)
                now = next;
            any_event(&f, &r, run % 8 != 0, now, &acts);
        }
        assert_int_equal(f.call.state, CALL_OVER);
        assert_int_equal(ends, f.call.outcome != CALL_CLIENT_GONE);
        assert_true(commits <= 1 + f.settings.continuations);
        assert_int_equal(f.call.continued, commits - (commits > 0 && !f.want.resumes));
        held += f.call.held_ms > 0;
        outcomes[f.call.outcome]++;
        fleet_free(f.fleet);
    }
    for (int i = 0; i < CALL_OUTCOME_COUNT; i++)
        if (outcomes[i] == 0)
            fail_msg("no run ended as %s: nothing was shown about it", call_outcome_name((enum call_outcome)i));
    assert_true(held > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_class_follows_its_row),
        cmocka_unit_test(a_region_that_fails_is_followed_by_the_next),
        cmocka_unit_test(a_call_waits_for_the_first_target_that_comes_back),
        cmocka_unit_test(a_call_for_which_the_wait_is_too_long_is_told_how_long),
        cmocka_unit_test(those_that_wait_for_trial_places_take_turns),
        cmocka_unit_test(losers_are_slow_only_past_their_own_limit),
        cmocka_unit_test(a_complete_answer_binds_its_session),
        cmocka_unit_test(the_retry_budget_bounds_an_outage),
        cmocka_unit_test(attempts_have_a_most),
        cmocka_unit_test(a_call_whose_owner_has_no_memory_ends_with_few_attempts),
        cmocka_unit_test(a_hold_has_attempts_for_all_of_its_time),
        cmocka_unit_test(holds_add_up),
        cmocka_unit_test(an_answer_to_another_call_ends_the_wait),
        cmocka_unit_test(a_target_that_is_free_at_the_end_of_the_hold_is_taken),
        cmocka_unit_test(behind_open_breakers_a_call_is_told_as_holding),
        cmocka_unit_test(with_one_target_that_only_rests_a_call_is_told_as_waiting),
        cmocka_unit_test(a_call_on_hold_is_told_when_it_may_be_tried_and_when_it_gives_up),
        cmocka_unit_test(what_is_parked_for_a_person_is_not_waited_for),
        cmocka_unit_test(a_hold_ends_when_it_is_known_to_be_in_vain),
        cmocka_unit_test(a_broken_stream_needs_no_token_whatever_was_refused_before),
        cmocka_unit_test(a_guessed_limit_delays_a_call_and_never_fails_it),
        cmocka_unit_test(a_limit_that_is_guessed_during_a_hold_does_not_end_it),
        cmocka_unit_test(after_a_break_a_target_that_could_not_is_waited_for_again),
        cmocka_unit_test(those_that_wait_start_in_their_order),
        cmocka_unit_test(a_call_stays_small),
        cmocka_unit_test(any_events_in_any_order_end_in_balance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
