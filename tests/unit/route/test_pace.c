#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/rnd.h"
#include "route/pace.h"

#include <math.h>

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN, SMALL = 1000, LARGE = 300 * 1000 };

static const struct pace_rules rules = {
    .factor = 3, .samples = 8, .hold_ms = 30 * S, .hold_max_ms = 10 * MIN, .trials = 3};

struct fixture {
    struct pace pace;
    uint64_t now;
};

static void samples(struct fixture *f, enum pace_kind kind, size_t bytes, double ms, unsigned n)
{
    for (unsigned i = 0; i < n; i++, f->now += S)
        pace_sample(&f->pace, &rules, kind, bytes, ms, f->now);
}

/* Usually 500 ms and 20 ms a token. */
static void begin(struct fixture *f)
{
    pace_init(&f->pace);
    f->now = 100 * HOUR;
    samples(f, PACE_TTFT, SMALL, 500, 20);
    samples(f, PACE_TOKEN, 0, 20, 20);
    assert_int_equal(f->pace.state, PACE_USUAL);
}

/* Answers after the usual ones, a letter each: q quick, s slow. */
static const struct {
    const char *name, *answers;
    enum pace_state state;
} rows[] = {
    {"all quick", "qqqqqqqqqqqqqqqq", PACE_USUAL},
    {"five slow: of eight too few", "sssss", PACE_USUAL},
    {"six slow", "ssssss", PACE_THROTTLED},
    {"six of eight", "ssqssqss", PACE_THROTTLED},
    {"every second", "sqsqsqsqsqsqsqsqsqsqsqsqsqsqsqsqsqsqsqsq", PACE_USUAL},
    {"two of three", "ssqssqssqssqssqssqssqssqssqssqssqssq", PACE_THROTTLED},
    {"a slow one now and then", "qqqqsqqqqqsqqqqqsqqqqqsqqqqqs", PACE_USUAL},
};

static void most_of_the_last_answers_have_to_be_slow(void **state)
{
    (void)state;
    for (int kind = 0; kind < PACE_KIND_COUNT; kind++)
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            struct fixture f;
            begin(&f);
            double usual = kind == PACE_TTFT ? 500 : 20;
            bool throttled = false;
            for (const char *c = rows[i].answers; *c; c++, f.now += S)
                throttled |= pace_sample(&f.pace, &rules, (enum pace_kind)kind, SMALL,
                                         *c == 's' ? usual * 3.2 : usual, f.now);
            if (throttled != (rows[i].state == PACE_THROTTLED))
                fail_msg("%s, %s: %s", pace_kind_name((enum pace_kind)kind), rows[i].name,
                         pace_state_name(f.pace.state));
            if (throttled)
                assert_int_equal(f.pace.cause, kind);
        }
}

static void nothing_is_slow_before_it_is_known_what_is_usual(void **state)
{
    (void)state;
    struct fixture f = {.now = HOUR};
    pace_init(&f.pace);
    samples(&f, PACE_TTFT, SMALL, 500, 7);
    samples(&f, PACE_TTFT, SMALL, 5000, 1); /* the eighth is still learned from */
    assert_int_equal(f.pace.known[PACE_TTFT], 0);
    begin(&f);
    samples(&f, PACE_TTFT, LARGE, 9000, 8); /* nothing is known of prompts of this size */
    assert_int_equal(f.pace.state, PACE_USUAL);
    assert_int_equal(f.pace.known[PACE_TTFT], 12);
}

static void prompts_are_compared_with_those_of_their_size(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    samples(&f, PACE_TTFT, LARGE, 4000, 40);
    samples(&f, PACE_TTFT, SMALL, 500, 8);
    assert_int_equal(f.pace.state, PACE_USUAL);
    assert_in_range((uint64_t)pace_usual_ms(&f.pace, PACE_TTFT, LARGE), 3900, 4100);
    assert_in_range((uint64_t)pace_usual_ms(&f.pace, PACE_TTFT, SMALL), 490, 510);
    samples(&f, PACE_TTFT, SMALL, 4000, 8);
    assert_int_equal(f.pace.state, PACE_THROTTLED);
}

static void what_nobody_notices_is_not_slow(void **state)
{
    (void)state;
    struct fixture f = {.now = HOUR};
    pace_init(&f.pace);
    samples(&f, PACE_TTFT, SMALL, 5, 20);
    samples(&f, PACE_TTFT, SMALL, 200, 30);
    samples(&f, PACE_TOKEN, 0, 1, 20);
    samples(&f, PACE_TOKEN, 0, 9, 30);
    assert_int_equal(f.pace.state, PACE_USUAL);
}

static void a_throttled_target_is_spared_until_its_hold_ends_and_then_tried(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    samples(&f, PACE_TTFT, SMALL, 3000, 8);
    assert_int_equal(f.pace.throttled_total, 1);
    assert_true(pace_spared(&f.pace, f.now));
    uint64_t until = f.pace.until_ms;
    assert_true(pace_spared(&f.pace, until - 1));
    assert_false(pace_spared(&f.pace, until));
    for (unsigned i = 0; i < 3; i++) {
        assert_false(pace_spared(&f.pace, until));
        assert_int_equal(pace_start(&f.pace, &rules, until), i == 0);
    }
    assert_int_equal(f.pace.state, PACE_TRIAL);
    assert_true(pace_spared(&f.pace, until));           /* three calls are enough */
    assert_false(pace_spared(&f.pace, until + 30 * S)); /* should they be given up, others follow */
    f.now = until + S;
    samples(&f, PACE_TOKEN, 0, 20, 5); /* not what had become slow */
    assert_int_equal(f.pace.state, PACE_TRIAL);
    samples(&f, PACE_TTFT, SMALL, 500, 2);
    assert_int_equal(f.pace.state, PACE_TRIAL);
    samples(&f, PACE_TTFT, SMALL, 500, 1);
    assert_int_equal(f.pace.state, PACE_USUAL);
    assert_false(pace_spared(&f.pace, f.now));
}

static void each_slow_trial_doubles_the_hold_and_calm_makes_it_small_again(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    samples(&f, PACE_TTFT, SMALL, 3000, 8);
    uint64_t want = 30 * S;
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(f.pace.hold_ms, want);
        f.now = f.pace.until_ms;
        pace_start(&f.pace, &rules, f.now);
        samples(&f, PACE_TTFT, SMALL, 3000, 1);
        assert_int_equal(f.pace.state, PACE_THROTTLED);
        want = want * 2 < 10 * MIN ? want * 2 : 10 * MIN;
    }
    f.now = f.pace.until_ms;
    pace_start(&f.pace, &rules, f.now);
    samples(&f, PACE_TTFT, SMALL, 500, 3);
    samples(&f, PACE_TTFT, SMALL, 3000, 8); /* at once again: the hold goes on where it was */
    assert_int_equal(f.pace.hold_ms, 10 * MIN);
    f.now = f.pace.until_ms;
    pace_start(&f.pace, &rules, f.now);
    samples(&f, PACE_TTFT, SMALL, 500, 3);
    f.now += 11 * MIN;
    samples(&f, PACE_TTFT, SMALL, 3000, 8);
    assert_int_equal(f.pace.hold_ms, 30 * S);
    assert_int_equal(f.pace.throttled_total, 3);
}

/* With nothing else to use its calls go on, and show when it is over. */
static void quick_calls_during_the_hold_end_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    samples(&f, PACE_TTFT, SMALL, 3000, 8);
    samples(&f, PACE_TTFT, SMALL, 500, 2);
    samples(&f, PACE_TTFT, SMALL, 3000, 1);
    samples(&f, PACE_TTFT, SMALL, 500, 2);
    assert_int_equal(f.pace.state, PACE_THROTTLED);
    samples(&f, PACE_TTFT, SMALL, 500, 1);
    assert_int_equal(f.pace.state, PACE_USUAL);
}

static void a_wait_that_was_given_up_counts_when_it_is_slow_already(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (unsigned i = 0; i < 20; i++)
        assert_false(pace_waited(&f.pace, &rules, SMALL, 1400, f.now));
    assert_int_equal(f.pace.known[PACE_TTFT], 12);
    for (unsigned i = 0; i < 8; i++)
        pace_waited(&f.pace, &rules, SMALL, 2000, f.now);
    assert_int_equal(f.pace.state, PACE_THROTTLED);
}

static void slowness_is_not_learned_but_believed_in_the_end(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    uint64_t since = f.now;
    samples(&f, PACE_TTFT, SMALL, 3000, 6);
    while (f.pace.state != PACE_USUAL) {
        assert_in_range((uint64_t)pace_usual_ms(&f.pace, PACE_TTFT, SMALL), 490, 510);
        f.now += 5 * MIN;
        pace_start(&f.pace, &rules, f.now);
        pace_sample(&f.pace, &rules, PACE_TTFT, SMALL, 3000, f.now);
        assert_true(f.now - since < 3 * HOUR);
    }
    assert_true(f.now - since >= PACE_BELIEVE_MS);
    samples(&f, PACE_TTFT, SMALL, 3000, 40);
    assert_int_equal(f.pace.state, PACE_USUAL);
    assert_in_range((uint64_t)pace_usual_ms(&f.pace, PACE_TTFT, SMALL), 2900, 3100);
}

/* A provider that was always slow to rise, over hours, is what it is; one that rises within minutes throttles. */
static void a_rise_is_followed_by_the_hour_and_noticed_by_the_minute(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (unsigned i = 0; i < 24 * 60; i++, f.now += MIN)
        pace_sample(&f.pace, &rules, PACE_TTFT, SMALL, 500 * (1 + 5.0 * i / (24 * 60)), f.now);
    assert_int_equal(f.pace.throttled_total, 0);
    begin(&f);
    for (unsigned i = 0; i < 10 * 60; i++, f.now += S)
        pace_sample(&f.pace, &rules, PACE_TTFT, SMALL, 500 * (1 + 5.0 * i / (10 * 60)), f.now);
    assert_int_equal(f.pace.throttled_total, 1);
}

/* Answers scatter, and a few hang: that is no throttling, in a month of traffic. */
static void noise_is_no_throttling(void **state)
{
    (void)state;
    struct rnd r = {.state = 11};
    struct fixture f;
    begin(&f);
    for (unsigned i = 0; i < 100 * 1000; i++, f.now += 25 * S) {
        double spread = rnd_unit(&r) + rnd_unit(&r) + rnd_unit(&r) + rnd_unit(&r) - 2;
        double ms = 500 * pow(2, spread) * (rnd_below(&r, 20) == 0 ? 30 : 1);
        pace_sample(&f.pace, &rules, PACE_TTFT, SMALL, ms, f.now);
    }
    assert_int_equal(f.pace.throttled_total, 0);
}

static void switched_off_it_says_nothing(void **state)
{
    (void)state;
    struct pace_rules off = rules;
    off.factor = 0;
    struct fixture f = {.now = HOUR};
    pace_init(&f.pace);
    for (unsigned i = 0; i < 100; i++)
        assert_false(pace_sample(&f.pace, &off, PACE_TTFT, SMALL, i < 50 ? 10 : 100000, f.now++));
    assert_false(pace_sample(&f.pace, &rules, PACE_TTFT, SMALL, NAN, f.now));
    assert_false(pace_start(&f.pace, &off, f.now));
    assert_false(pace_spared(&f.pace, f.now));
    assert_true(pace_usual_ms(&f.pace, PACE_TTFT, SMALL) == 0);
}

static void the_longest_window_fits(void **state)
{
    (void)state;
    struct pace_rules most = rules;
    most.samples = PACE_SAMPLES_MOST;
    struct fixture f = {.now = HOUR};
    pace_init(&f.pace);
    for (unsigned i = 0; i < 64; i++)
        pace_sample(&f.pace, &most, PACE_TTFT, SMALL, 500, f.now++);
    for (unsigned i = 0; i < 63; i++)
        assert_false(pace_sample(&f.pace, &most, PACE_TTFT, SMALL, 5000, f.now++));
    assert_true(pace_sample(&f.pace, &most, PACE_TTFT, SMALL, 5000, f.now++));
}

static void each_state_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(pace_state_name(PACE_THROTTLED), "throttled");
    assert_string_equal(pace_state_name(PACE_STATE_COUNT), "?");
    assert_string_equal(pace_kind_name(PACE_TOKEN), "token");
    assert_string_equal(pace_kind_name(PACE_KIND_COUNT), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(most_of_the_last_answers_have_to_be_slow),
        cmocka_unit_test(nothing_is_slow_before_it_is_known_what_is_usual),
        cmocka_unit_test(prompts_are_compared_with_those_of_their_size),
        cmocka_unit_test(what_nobody_notices_is_not_slow),
        cmocka_unit_test(a_throttled_target_is_spared_until_its_hold_ends_and_then_tried),
        cmocka_unit_test(each_slow_trial_doubles_the_hold_and_calm_makes_it_small_again),
        cmocka_unit_test(quick_calls_during_the_hold_end_it),
        cmocka_unit_test(a_wait_that_was_given_up_counts_when_it_is_slow_already),
        cmocka_unit_test(slowness_is_not_learned_but_believed_in_the_end),
        cmocka_unit_test(a_rise_is_followed_by_the_hour_and_noticed_by_the_minute),
        cmocka_unit_test(noise_is_no_throttling),
        cmocka_unit_test(switched_off_it_says_nothing),
        cmocka_unit_test(the_longest_window_fits),
        cmocka_unit_test(each_state_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
