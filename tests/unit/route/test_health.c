#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "route/fleet.h"

#include <stdio.h>
#include <string.h>

enum { S = 1000, MIN = 60 * S, NOW = 1000 * 1000 };

struct fixture {
    struct fleet *fleet;
    struct settings settings;
    struct target *t;
};

static void begin_early(struct fixture *f)
{
    settings_default(&f->settings);
    f->settings.probe_waiting = 5 * S;
    f->fleet = fleet_new(5);
    assert_non_null(f->fleet);
    assert_int_equal(fleet_target(f->fleet, "p", "m", &f->settings, &f->t), PD_OK);
}

/* Without early probes: they have tests of their own. */
static void begin(struct fixture *f)
{
    begin_early(f);
    f->settings.probe_waiting = 0;
    assert_int_equal(fleet_target(f->fleet, "p", "m", &f->settings, &f->t), PD_OK);
}

static void one(struct fixture *f, enum failure failure, uint64_t now)
{
    struct verdict v = {.failure = failure};
    target_end(f->t, &v, false, (struct place[]){target_start(f->t, 0, now)}, now);
}

static struct target *due(struct fixture *f, uint64_t now)
{
    uint64_t next;
    return fleet_probe_due(f->fleet, now, &next);
}

static uint64_t next_probe(struct fixture *f, uint64_t now)
{
    uint64_t next;
    assert_null(fleet_probe_due(f->fleet, now, &next));
    return next;
}

static void probed(struct fixture *f, enum failure failure, uint64_t now)
{
    fleet_probe_result(f->fleet, f->t, &(struct verdict){.failure = failure}, now);
}

static void open_breaker(struct fixture *f, uint64_t now)
{
    for (int i = 0; i < 3; i++)
        one(f, FAILURE_TIMEOUT, now);
    assert_int_equal(f->t->breaker.state, BREAKER_OPEN);
}

static void a_healthy_target_is_not_probed(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(next_probe(&f, NOW), CLOCK_NEVER);
    one(&f, FAILURE_SERVER, NOW);
    assert_int_equal(next_probe(&f, NOW + 10 * MIN), CLOCK_NEVER);
    fleet_free(f.fleet);
}

static void an_open_breaker_is_probed_at_the_end_of_its_hold_and_once_at_a_time(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    open_breaker(&f, NOW);
    uint64_t at = next_probe(&f, NOW);
    assert_in_range(at, NOW + 30 * S, NOW + 31 * S);
    assert_null(due(&f, at - 1));
    assert_ptr_equal(due(&f, at), f.t);
    assert_true(f.t->probing);
    assert_null(due(&f, at + 10 * MIN));
    uint64_t soon;
    assert_false(target_usable(f.t, at, &soon));
    assert_int_equal(soon, at + TARGET_SOON_MS); /* the probe that runs decides soon */
    probed(&f, FAILURE_NONE, at + 5);
    assert_int_equal(f.t->breaker.state, BREAKER_TRIAL);
    assert_true(target_usable(f.t, at + 5, &soon));
    fleet_free(f.fleet);
}

/* What the probe of an open breaker says. */
static const struct row {
    enum failure failure;
    enum breaker_state then;
} rows[] = {
    {FAILURE_NONE, BREAKER_TRIAL},    {FAILURE_BAD, BREAKER_TRIAL},    {FAILURE_FILTER, BREAKER_TRIAL},
    {FAILURE_CONTEXT, BREAKER_TRIAL}, {FAILURE_SERVER, BREAKER_OPEN},  {FAILURE_CONNECT, BREAKER_OPEN},
    {FAILURE_TIMEOUT, BREAKER_OPEN},  {FAILURE_STALLED, BREAKER_OPEN}, {FAILURE_RATE, BREAKER_PROBING},
    {FAILURE_AUTH, BREAKER_PROBING},  {FAILURE_OURS, BREAKER_PROBING},
};

static void the_probe_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        begin(&f);
        open_breaker(&f, NOW);
        uint64_t at = next_probe(&f, NOW);
        assert_ptr_equal(due(&f, at), f.t);
        probed(&f, rows[i].failure, at);
        if (f.t->breaker.state != rows[i].then)
            fail_msg("%s: it is %s", failure_row(rows[i].failure)->name, breaker_state_name(f.t->breaker.state));
        uint64_t again = rows[i].then == BREAKER_TRIAL ? CLOCK_NEVER : next_probe(&f, at);
        assert_true(again >= at + 30 * S); /* never sooner than `probe`, and later where it rests or is parked */
        if (rows[i].failure == FAILURE_AUTH)
            assert_true(again >= at + 5 * MIN);
        fleet_free(f.fleet);
    }
}

static void a_parked_target_needs_a_probe_and_a_failing_one_parks_it_longer(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    one(&f, FAILURE_NOT_FOUND, NOW);
    uint64_t now = NOW, ready;
    for (int i = 1; i <= 9; i++) {
        now = next_probe(&f, now);
        assert_false(target_usable(f.t, now, &ready));
        assert_ptr_equal(due(&f, now), f.t);
        probed(&f, i & 1 ? FAILURE_NOT_FOUND : FAILURE_SERVER, now);
        uint64_t want = (1ull << i) * MIN;
        assert_int_equal(f.t->park_until_ms - now, want > 60 * MIN ? 60 * MIN : want);
        assert_int_equal(f.t->parked_for, FAILURE_NOT_FOUND);
    }
    now = next_probe(&f, now);
    assert_ptr_equal(due(&f, now), f.t);
    probed(&f, FAILURE_NONE, now);
    assert_true(target_usable(f.t, now, &ready));
    one(&f, FAILURE_NOT_FOUND, now);
    assert_int_equal(f.t->park_until_ms - now, 1 * MIN); /* it starts small again */
    fleet_free(f.fleet);
}

static void without_probes_none_is_due(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.settings.probe = 0;
    assert_int_equal(fleet_target(f.fleet, "p", "m", &f.settings, &f.t), PD_OK);
    open_breaker(&f, NOW);
    one(&f, FAILURE_AUTH, NOW);
    assert_int_equal(next_probe(&f, NOW + 60 * MIN), CLOCK_NEVER);
    fleet_free(f.fleet);
}

static void many_that_failed_together_are_not_probed_together(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    char model[16];
    uint64_t at[20], least = CLOCK_NEVER, most = 0, ready;
    for (unsigned i = 0; i < 20; i++) {
        snprintf(model, sizeof(model), "m%u", i);
        assert_int_equal(fleet_target(f.fleet, "q", model, &f.settings, &f.t), PD_OK);
        open_breaker(&f, NOW);
        target_usable(f.t, NOW, &ready);
        at[i] = f.t->probe_at_ms;
        least = at[i] < least ? at[i] : least;
        most = at[i] > most ? at[i] : most;
    }
    assert_true(most - least > 200);
    fleet_free(f.fleet);
}

/* ---- early probes */

struct waiting {
    struct route route;
    struct ticket ticket;
};

static void wait_for(struct fixture *f, struct waiting *w, uint64_t now)
{
    memset(w, 0, sizeof(*w));
    w->route.count = 1;
    w->route.targets[0].target = f->t;
    queue_enter(f->fleet, &w->ticket, &w->route, 0, 0, 0, 0, now);
}

/* The time of the next probe, as one who asks whenever it is told to finds it; it has begun. */
static uint64_t run_to_probe(struct fixture *f, uint64_t now, uint64_t most)
{
    uint64_t next;
    while (!fleet_probe_due(f->fleet, now, &next)) {
        assert_true(next > now);
        if (next > most)
            return CLOCK_NEVER;
        now = next;
    }
    return now;
}

static void calls_that_wait_are_probed_for_before_the_hold_is_over(void **state)
{
    (void)state;
    struct fixture f;
    struct waiting w;
    begin_early(&f);
    open_breaker(&f, NOW);
    wait_for(&f, &w, NOW);
    uint64_t now = NOW, most_ms[] = {1200, 2400, 4800, 6000, 6000};
    for (int i = 0; i < 5; i++) {
        uint64_t at = run_to_probe(&f, now, NOW + 29 * S);
        assert_in_range(at - now, most_ms[i] * 2 / 3, most_ms[i]);
        assert_null(due(&f, at + 100)); /* one at a time */
        now = at;
        probed(&f, FAILURE_SERVER, now);
        assert_int_equal(f.t->breaker.state, BREAKER_OPEN);
        assert_int_equal(f.t->breaker.open_until_ms, NOW + 30 * S);
    }
    now = run_to_probe(&f, now, NOW + 29 * S);
    probed(&f, FAILURE_NONE, now + 5);
    assert_int_equal(f.t->breaker.state, BREAKER_TRIAL);
    queue_leave(f.fleet, &w.ticket, true, now);
    fleet_free(f.fleet);
}

static void nobody_waits_or_it_is_off_and_the_hold_is_the_hold(void **state)
{
    (void)state;
    for (int off = 0; off < 2; off++) {
        struct fixture f;
        struct waiting w;
        begin_early(&f);
        f.settings.probe_waiting = off ? 0 : f.settings.probe_waiting;
        assert_int_equal(fleet_target(f.fleet, "p", "m", &f.settings, &f.t), PD_OK);
        open_breaker(&f, NOW);
        if (off)
            wait_for(&f, &w, NOW);
        assert_in_range(run_to_probe(&f, NOW, CLOCK_NEVER - 1), NOW + 30 * S, NOW + 31 * S);
        if (off)
            queue_leave(f.fleet, &w.ticket, false, NOW);
        fleet_free(f.fleet);
    }
}

static void one_that_comes_to_wait_later_is_probed_for_within_a_second(void **state)
{
    (void)state;
    struct fixture f;
    struct waiting w;
    begin_early(&f);
    open_breaker(&f, NOW);
    uint64_t next = next_probe(&f, NOW + 10 * S);
    assert_int_equal(next, NOW + 10 * S + EARLY_LOOK_MS);
    wait_for(&f, &w, NOW + 10 * S);
    assert_ptr_equal(due(&f, next), f.t);
    queue_leave(f.fleet, &w.ticket, false, next);
    fleet_free(f.fleet);
}

static void what_the_provider_said_is_waited_out(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct fixture f;
        struct waiting w;
        begin_early(&f);
        open_breaker(&f, NOW);
        wait_for(&f, &w, NOW);
        uint64_t at = run_to_probe(&f, NOW, NOW + 2 * S);
        struct verdict said = {.failure =
                                   (enum failure[]){FAILURE_SERVER, FAILURE_RATE, FAILURE_AUTH, FAILURE_SERVER}[i],
                               .has_retry_after = true,
                               .retry_after_ms = 20 * S};
        if (i == 3) { /* a call's, from before */
            probed(&f, FAILURE_SERVER, at);
            target_end(f.t, &said, false, (struct place[]){target_start(f.t, 0, at)}, at);
        } else {
            fleet_probe_result(f.fleet, f.t, &said, at);
        }
        assert_true(run_to_probe(&f, at, NOW + 60 * S) >= at + 20 * S);
        queue_leave(f.fleet, &w.ticket, false, at);
        fleet_free(f.fleet);
    }
}

static void probes_that_promise_too_much_become_rare_until_an_answer_is_whole(void **state)
{
    (void)state;
    struct fixture f;
    struct waiting w;
    begin_early(&f);
    open_breaker(&f, NOW);
    wait_for(&f, &w, NOW);
    uint64_t now = NOW, apart_ms[6];
    for (int i = 0; i < 6; i++) {
        uint64_t at = run_to_probe(&f, now, now + 10 * MIN);
        apart_ms[i] = at - now;
        now = at;
        probed(&f, FAILURE_NONE, now);
        assert_int_equal(f.t->breaker.state, BREAKER_TRIAL);
        one(&f, FAILURE_SERVER, now);
        assert_int_equal(f.t->breaker.state, BREAKER_OPEN);
    }
    assert_in_range(apart_ms[4], 64 * S, 96 * S);
    assert_in_range(apart_ms[5], 128 * S, 192 * S);
    now = run_to_probe(&f, now, now + 20 * MIN);
    probed(&f, FAILURE_NONE, now);
    for (int i = 0; i < 4; i++)
        one(&f, FAILURE_NONE, now);
    assert_int_equal(f.t->breaker.state, BREAKER_CLOSED);
    open_breaker(&f, now);
    assert_in_range(run_to_probe(&f, now, now + 10 * MIN) - now, 800, 1200);
    queue_leave(f.fleet, &w.ticket, true, now);
    fleet_free(f.fleet);
}

static void who_waits_is_told_when_a_probe_may_free_it(void **state)
{
    (void)state;
    struct fixture f;
    begin_early(&f);
    open_breaker(&f, NOW);
    uint64_t ready;
    assert_false(target_usable(f.t, NOW, &ready));
    assert_true(ready >= NOW + 30 * S);
    assert_in_range(target_recovers_ms(f.t, ready, NOW), NOW + 800, NOW + 1200 + TARGET_SOON_MS);
    assert_int_equal(target_recovers_ms(f.t, ready, NOW + 10 * S), NOW + 10 * S + TARGET_SOON_MS);
    f.t->rest_until_ms = NOW + 20 * S;
    assert_int_equal(target_recovers_ms(f.t, ready, NOW + 10 * S), NOW + 20 * S + TARGET_SOON_MS);
    f.t->parked_for = FAILURE_AUTH;
    assert_int_equal(target_recovers_ms(f.t, ready, NOW + 10 * S), ready);
    fleet_free(f.fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_target_is_not_probed),
        cmocka_unit_test(an_open_breaker_is_probed_at_the_end_of_its_hold_and_once_at_a_time),
        cmocka_unit_test(the_probe_decides),
        cmocka_unit_test(a_parked_target_needs_a_probe_and_a_failing_one_parks_it_longer),
        cmocka_unit_test(without_probes_none_is_due),
        cmocka_unit_test(many_that_failed_together_are_not_probed_together),
        cmocka_unit_test(calls_that_wait_are_probed_for_before_the_hold_is_over),
        cmocka_unit_test(nobody_waits_or_it_is_off_and_the_hold_is_the_hold),
        cmocka_unit_test(one_that_comes_to_wait_later_is_probed_for_within_a_second),
        cmocka_unit_test(what_the_provider_said_is_waited_out),
        cmocka_unit_test(probes_that_promise_too_much_become_rare_until_an_answer_is_whole),
        cmocka_unit_test(who_waits_is_told_when_a_probe_may_free_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
