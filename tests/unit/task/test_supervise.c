/* In virtual time: an agent is kept going, and one that cannot be is given to a person. */
#include "test.h"

#include "task/supervise.h"

#include <stdlib.h>

enum { S = 1000, MIN = 60 * S };

static struct supervise begun(struct supervise_rules *r, bool check, uint64_t now)
{
    struct supervise s;
    supervise_rules_default(r);
    r->check = check;
    supervise_init(&s, r);
    assert_int_equal(supervise_begin(&s, now), SUPERVISE_START);
    assert_int_equal(s.state, SUPERVISE_RUNNING);
    return s;
}

/* To the moment at which something is due. */
static enum supervise_action sleep_on(struct supervise *s, uint64_t *now)
{
    uint64_t due = supervise_next(s);
    assert_true(due > *now && due != UINT64_MAX);
    assert_int_equal(supervise_wake(s, due - 1), SUPERVISE_NOTHING);
    *now = due;
    return supervise_wake(s, due);
}

static void an_agent_without_progress_is_ended_and_started_again(void **state)
{
    (void)state;
    struct supervise_rules r;
    uint64_t now = 5 * S;
    struct supervise s = begun(&r, false, now);
    assert_int_equal(supervise_next(&s), now + 10 * MIN);
    assert_int_equal(sleep_on(&s, &now), SUPERVISE_END);
    assert_int_equal(s.state, SUPERVISE_ENDING);
    assert_int_equal(supervise_next(&s), UINT64_MAX); /* the grace is the guard's */
    assert_int_equal(supervise_ended(&s, true, now += 3 * S), SUPERVISE_NOTHING);
    assert_int_equal(s.state, SUPERVISE_WAITING);
    assert_int_equal(s.why, SUPERVISE_STALLED);
    assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    assert_int_equal(s.starts, 2);
}

static void progress_puts_the_stall_off_for_as_long_as_it_lasts(void **state)
{
    (void)state;
    struct supervise_rules r;
    uint64_t now = 0;
    struct supervise s = begun(&r, false, now);
    for (int i = 0; i < 1000; i++) {
        now += 10 * MIN - 1;
        assert_int_equal(supervise_wake(&s, now), SUPERVISE_NOTHING);
        supervise_progress(&s, now);
    }
    assert_int_equal(s.starts, 1);
    assert_int_equal(sleep_on(&s, &now), SUPERVISE_END);
}

static void an_end_with_0_is_done_and_verified_only_by_a_check(void **state)
{
    (void)state;
    struct supervise_rules r;
    struct supervise s = begun(&r, false, 0);
    assert_int_equal(supervise_ended(&s, true, 1), SUPERVISE_LEAVE);
    assert_int_equal(s.state, SUPERVISE_DONE);
    assert_false(s.verified);
    s = begun(&r, true, 0);
    assert_int_equal(supervise_ended(&s, true, 1), SUPERVISE_CHECK);
    assert_int_equal(s.state, SUPERVISE_CHECKING);
    assert_int_equal(supervise_checked(&s, true, 2), SUPERVISE_LEAVE);
    assert_int_equal(s.state, SUPERVISE_DONE);
    assert_true(s.verified);
}

static void a_claim_that_the_check_refutes_is_a_restart(void **state)
{
    (void)state;
    struct supervise_rules r;
    uint64_t now = 1;
    struct supervise s = begun(&r, true, 0);
    assert_int_equal(supervise_ended(&s, true, now), SUPERVISE_CHECK);
    assert_int_equal(supervise_checked(&s, false, now), SUPERVISE_NOTHING);
    assert_int_equal(s.why, SUPERVISE_UNPROVEN);
    assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    assert_int_equal(supervise_recent(&s, now), 1);
}

static void more_than_3_restarts_in_10_minutes_pause_and_alert(void **state)
{
    (void)state;
    struct supervise_rules r;
    uint64_t now = 0;
    struct supervise s = begun(&r, false, now);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(supervise_ended(&s, false, now += S), SUPERVISE_NOTHING);
        assert_int_equal(supervise_recent(&s, now), i);
        assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    }
    assert_int_equal(s.starts, 4);
    assert_int_equal(supervise_ended(&s, false, now += S), SUPERVISE_ALERT);
    assert_int_equal(s.state, SUPERVISE_PAUSED);
    assert_int_equal(supervise_next(&s), UINT64_MAX);
    assert_int_equal(supervise_wake(&s, now + 24 * 60 * MIN), SUPERVISE_NOTHING);
    assert_int_equal(supervise_stop(&s, now), SUPERVISE_NOTHING);
}

static void slower_deaths_go_on_for_ever(void **state)
{
    (void)state;
    struct supervise_rules r;
    uint64_t now = 0;
    struct supervise s = begun(&r, false, now);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(supervise_ended(&s, false, now += 200 * S), SUPERVISE_NOTHING);
        assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    }
    assert_int_equal(s.starts, 501);
}

static void the_window_ends_to_the_millisecond(void **state)
{
    (void)state;
    for (int late = 0; late <= 1; late++) {
        struct supervise_rules r;
        uint64_t now = 0;
        struct supervise s = begun(&r, false, now);
        uint64_t first = S;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(supervise_ended(&s, false, i ? now + S : first), SUPERVISE_NOTHING);
            now = supervise_next(&s);
            assert_int_equal(supervise_wake(&s, now), SUPERVISE_START);
        }
        now = first + 10 * MIN - 1 + (uint64_t)late;
        supervise_progress(&s, now);
        assert_int_equal(supervise_ended(&s, false, now), late ? SUPERVISE_NOTHING : SUPERVISE_ALERT);
    }
}

static void the_pause_doubles_has_a_most_and_is_short_again_after_a_long_run(void **state)
{
    (void)state;
    struct supervise_rules r;
    struct supervise s;
    static const uint64_t pauses[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    uint64_t now = 0;
    supervise_rules_default(&r);
    r.restarts = 50;
    supervise_init(&s, &r);
    assert_int_equal(supervise_begin(&s, now), SUPERVISE_START);
    for (unsigned i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
        assert_int_equal(supervise_ended(&s, false, now), SUPERVISE_NOTHING);
        assert_int_equal(supervise_next(&s) - now, pauses[i] * S);
        assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    }
    assert_int_equal(supervise_ended(&s, false, now += 10 * MIN), SUPERVISE_NOTHING);
    assert_int_equal(supervise_next(&s) - now, S);
}

static void being_stopped_ends_the_agent_and_starts_nothing(void **state)
{
    (void)state;
    struct supervise_rules r;
    struct supervise s = begun(&r, true, 0);
    assert_int_equal(supervise_stop(&s, 1), SUPERVISE_END);
    assert_int_equal(supervise_stop(&s, 1), SUPERVISE_NOTHING);
    assert_int_equal(supervise_ended(&s, true, 2), SUPERVISE_LEAVE); /* not checked: it was not asked to be done */
    assert_int_equal(s.state, SUPERVISE_STOPPED);

    s = begun(&r, false, 0); /* while it is ended for want of progress */
    assert_int_equal(supervise_wake(&s, 10 * MIN), SUPERVISE_END);
    assert_int_equal(supervise_stop(&s, 10 * MIN), SUPERVISE_NOTHING);
    assert_int_equal(supervise_ended(&s, false, 10 * MIN), SUPERVISE_LEAVE);

    s = begun(&r, false, 0); /* in a pause */
    assert_int_equal(supervise_ended(&s, false, 1), SUPERVISE_NOTHING);
    assert_int_equal(supervise_stop(&s, 2), SUPERVISE_LEAVE);
    assert_int_equal(s.state, SUPERVISE_STOPPED);
    assert_int_equal(supervise_wake(&s, 99 * MIN), SUPERVISE_NOTHING);

    s = begun(&r, true, 0); /* while it is checked */
    assert_int_equal(supervise_ended(&s, true, 1), SUPERVISE_CHECK);
    assert_int_equal(supervise_stop(&s, 2), SUPERVISE_END);
    assert_int_equal(supervise_checked(&s, true, 3), SUPERVISE_LEAVE);
    assert_int_equal(s.state, SUPERVISE_STOPPED);
}

static void restarts_of_an_earlier_process_count(void **state)
{
    (void)state;
    struct supervise_rules r;
    struct supervise s;
    static const uint64_t ages[] = {MIN, 2 * MIN, 30 * MIN};
    uint64_t now = 100 * MIN;
    supervise_rules_default(&r);
    supervise_init(&s, &r);
    supervise_recall(&s, 4, now, ages, 3);
    assert_int_equal(supervise_recent(&s, now), 2);
    assert_int_equal(supervise_begin(&s, now), SUPERVISE_START);
    assert_int_equal(s.why, SUPERVISE_RESUMED);
    assert_int_equal(s.starts, 5);
    assert_int_equal(supervise_ended(&s, false, now += S), SUPERVISE_NOTHING);
    assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    assert_int_equal(supervise_ended(&s, false, now += S), SUPERVISE_ALERT);

    supervise_init(&s, &r); /* an age from before the machine was there is none */
    supervise_recall(&s, 4, MIN, ages, 3);
    assert_int_equal(s.restarted, 1);
}

static void output_alone_is_believed_for_three_stalls(void **state)
{
    (void)state;
    struct supervise_rules r;
    uint64_t now = 0;
    struct supervise s = begun(&r, false, now);
    for (now = S; now < 30 * MIN; now += S) { /* a spinner */
        supervise_said(&s, now);
        assert_int_equal(supervise_wake(&s, now), SUPERVISE_NOTHING);
    }
    for (; supervise_next(&s) > now; now += S)
        supervise_said(&s, now);
    assert_true(now >= 39 * MIN && now <= 40 * MIN);
    assert_int_equal(supervise_wake(&s, now), SUPERVISE_END);
    s = begun(&r, false, 0); /* with a file changed now and then it goes on */
    for (now = S; now < 300 * MIN; now += S) {
        supervise_said(&s, now);
        if (now % (25 * MIN) == 0)
            supervise_progress(&s, now);
        assert_int_equal(supervise_wake(&s, now), SUPERVISE_NOTHING);
    }
}

static void a_keeper_that_fell_counts_as_a_restart(void **state)
{
    (void)state;
    struct supervise_rules r;
    struct supervise s;
    uint64_t now = 100 * MIN, ages[3] = {0};
    supervise_rules_default(&r);
    for (unsigned before = 0; before <= 3; before++) {
        supervise_init(&s, &r);
        supervise_recall(&s, before + 1, now, ages, before);
        assert_int_equal(supervise_fell(&s, now), before < 3 ? SUPERVISE_NOTHING : SUPERVISE_ALERT);
        assert_int_equal(s.state, before < 3 ? SUPERVISE_WAITING : SUPERVISE_PAUSED);
    }
    supervise_init(&s, &r);
    assert_int_equal(supervise_fell(&s, now), SUPERVISE_NOTHING);
    assert_int_equal(sleep_on(&s, &now), SUPERVISE_START);
    assert_int_equal(s.why, SUPERVISE_FELL);
}

/* Whatever happens in whatever order: an agent is started only when none runs, never more often than allowed, and an end is the end. */
static void nothing_that_happens_breaks_a_rule(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 3000; seed++) {
        struct supervise_rules r;
        struct supervise s;
        unsigned rnd = seed;
        uint64_t now = 0, decided[400];
        unsigned restarts = 0;
        bool runs = true, checks = false, over = false;
        supervise_rules_default(&r);
        r.check = seed % 2;
        supervise_init(&s, &r);
        assert_int_equal(supervise_begin(&s, now), SUPERVISE_START);
        for (int i = 0; i < 300; i++) {
            enum supervise_action a = SUPERVISE_NOTHING;
            enum supervise_state before = s.state;
            rnd = rnd * 1103515245u + 12345u;
            now += (rnd >> 8) % (3 * MIN);
            unsigned what = (rnd >> 20) % 40;
            if (what < 12)
                supervise_progress(&s, now);
            else if (what < 20 && runs) {
                runs = false;
                a = supervise_ended(&s, what % 4 == 0, now);
            } else if (what < 24 && checks) {
                checks = false;
                a = supervise_checked(&s, what % 2, now);
            } else if (what == 24 && rnd % 7 == 0) {
                a = supervise_stop(&s, now);
            } else {
                a = supervise_wake(&s, now);
            }
            if (over)
                assert_int_equal(a, SUPERVISE_NOTHING);
            if (a == SUPERVISE_START) {
                assert_false(runs || checks);
                runs = true;
            }
            if (s.state == SUPERVISE_WAITING && before != SUPERVISE_WAITING) {
                decided[restarts++] = now;
                assert_true(restarts <= 3 || now - decided[restarts - 4] >= r.window_ms);
            }
            if (a == SUPERVISE_CHECK) {
                assert_true(r.check && !runs);
                checks = true;
            }
            if (a == SUPERVISE_END)
                assert_true(runs || checks);
            if (a == SUPERVISE_LEAVE || a == SUPERVISE_ALERT) {
                assert_false(runs || checks);
                over = true;
            }
            assert_true(!s.verified || s.state == SUPERVISE_DONE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_without_progress_is_ended_and_started_again),
        cmocka_unit_test(progress_puts_the_stall_off_for_as_long_as_it_lasts),
        cmocka_unit_test(an_end_with_0_is_done_and_verified_only_by_a_check),
        cmocka_unit_test(a_claim_that_the_check_refutes_is_a_restart),
        cmocka_unit_test(more_than_3_restarts_in_10_minutes_pause_and_alert),
        cmocka_unit_test(slower_deaths_go_on_for_ever),
        cmocka_unit_test(the_window_ends_to_the_millisecond),
        cmocka_unit_test(the_pause_doubles_has_a_most_and_is_short_again_after_a_long_run),
        cmocka_unit_test(being_stopped_ends_the_agent_and_starts_nothing),
        cmocka_unit_test(restarts_of_an_earlier_process_count),
        cmocka_unit_test(output_alone_is_believed_for_three_stalls),
        cmocka_unit_test(a_keeper_that_fell_counts_as_a_restart),
        cmocka_unit_test(nothing_that_happens_breaks_a_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
