#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "route/fleet.h"

#include <stdio.h>

enum { S = 1000, MIN = 60 * S, NOW = 1000 * 1000 };

struct fixture {
    struct fleet *fleet;
    struct settings settings;
    struct route route;
};

static void begin(struct fixture *f, enum conf_strategy strategy, unsigned n, const uint64_t *weights)
{
    settings_default(&f->settings);
    f->fleet = fleet_new(3);
    assert_non_null(f->fleet);
    f->route = (struct route){.name = "r", .strategy = strategy, .count = n, .settings = f->settings};
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%u", i);
        f->route.targets[i] = (struct route_target){.weight = weights ? weights[i] : 1, .settings = f->settings};
        assert_int_equal(fleet_target(f->fleet, name, "m", &f->settings, &f->route.targets[i].target), PD_OK);
    }
}

static struct pick ask_after(struct fixture *f, uint32_t not_these, unsigned group)
{
    struct pick got;
    fleet_pick(f->fleet, &(struct pick_ask){&f->route, 0, not_these, NOW, group, 0, NULL, false}, &got);
    return got;
}

static struct pick ask(struct fixture *f, uint64_t session, uint32_t not_these, uint64_t now)
{
    struct pick got;
    fleet_pick(f->fleet, &(struct pick_ask){&f->route, session, not_these, now, 0, 0, NULL, false}, &got);
    return got;
}

static void rest(struct fixture *f, unsigned i, uint64_t until)
{
    f->route.targets[i].target->rest_until_ms = until;
}

static void weighted_follows_the_weights(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_WEIGHTED, 3, (const uint64_t[]){70, 30, 0});
    unsigned got[3] = {0};
    for (int i = 0; i < 10000; i++)
        got[ask(&f, 0, 0, NOW).index]++;
    assert_in_range(got[0], 6700, 7300);
    assert_in_range(got[1], 2700, 3300);
    assert_int_equal(got[2], 0);
    fleet_free(f.fleet);
}

/* Which of three can be taken: a bit per target that rests, and those left out by the caller. */
static const struct row {
    const char *name;
    uint64_t weights[3];
    uint32_t resting, not_these;
    int want; /* by priority; -1: none */
} rows[] = {
    {"the first", {1, 1, 1}, 0, 0, 0},
    {"the next when it rests", {1, 1, 1}, 1, 0, 1},
    {"the next when it is left out", {1, 1, 1}, 0, 1, 1},
    {"a standby comes after the others", {0, 1, 1}, 0, 0, 1},
    {"a standby when the others rest", {0, 1, 1}, 6, 0, 0},
    {"a standby when the others are left out", {0, 1, 1}, 0, 6, 0},
    {"none", {1, 1, 1}, 3, 4, -1},
    {"none of a standby that rests", {1, 0, 1}, 7, 0, -1},
};

static void only_usable_targets_are_taken_and_standbys_last(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int strategy = 0; strategy < 3; strategy++) {
            struct fixture f;
            begin(&f, (enum conf_strategy)strategy, 3, rows[i].weights);
            for (unsigned t = 0; t < 3; t++)
                if (rows[i].resting >> t & 1)
                    rest(&f, t, NOW + (t + 1) * S);
            for (int again = 0; again < 50; again++) {
                struct pick got = ask(&f, 0, rows[i].not_these, NOW);
                bool bad = got.index >= 0 && ((rows[i].resting | rows[i].not_these) >> got.index & 1);
                if (strategy == STRATEGY_PRIORITY ? got.index != rows[i].want
                                                  : bad || (got.index < 0) != (rows[i].want < 0))
                    fail_msg("%s: %d", rows[i].name, got.index);
            }
            fleet_free(f.fleet);
        }
}

static void when_none_is_free_it_says_when_one_may_be(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_PRIORITY, 3, NULL);
    rest(&f, 0, NOW + 9 * S);
    rest(&f, 1, NOW + 4 * S);
    rest(&f, 2, NOW + 2 * S);
    assert_int_equal(ask(&f, 0, 0, NOW).ready_at_ms, NOW + 2 * S);
    assert_int_equal(ask(&f, 0, 4, NOW).ready_at_ms, NOW + 4 * S);
    assert_int_equal(ask(&f, 0, 7, NOW).ready_at_ms, CLOCK_NEVER);
    assert_int_equal(ask(&f, 0, 4, NOW + 4 * S).index, 1);
    fleet_free(f.fleet);
}

static void set_ttft(struct fixture *f, unsigned i, uint64_t ms)
{
    struct place none = {0};
    for (int n = 0; n < 20; n++)
        target_first_token(f->route.targets[i].target, &none, ms, NOW);
}

static unsigned times(struct fixture *f, int index, unsigned of)
{
    unsigned n = 0;
    for (unsigned i = 0; i < of; i++)
        n += ask(f, 0, 0, NOW).index == index;
    return n;
}

static void latency_takes_the_fastest_and_still_looks_around(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_LATENCY, 3, NULL);
    set_ttft(&f, 0, 900);
    set_ttft(&f, 1, 300);
    set_ttft(&f, 2, 500);
    assert_in_range(times(&f, 1, 1000), 930, 990);
    f.route.targets[1].target->running = 1; /* 300 x 2 > 500 */
    assert_in_range(times(&f, 2, 1000), 930, 990);
    target_rate(f.route.targets[0].target, 10, 100, NOW);
    target_rate(f.route.targets[2].target, 10, 100, NOW);
    target_rate(f.route.targets[1].target, 1000, 100, NOW);
    assert_in_range(times(&f, 1, 1000), 930, 990); /* (300 + 100) x 2 < 500 + 10000 */
    fleet_free(f.fleet);
}

static void latency_finds_out_about_unknown_targets_with_one_call(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_LATENCY, 2, NULL);
    set_ttft(&f, 0, 100);
    assert_in_range(times(&f, 1, 1000), 950, 1000);
    f.route.targets[1].target->running = 1;
    assert_in_range(times(&f, 0, 1000), 950, 1000);
    fleet_free(f.fleet);
}

static void a_session_keeps_its_target_while_that_is_usable(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_PRIORITY, 3, NULL);
    fleet_remember(f.fleet, 77, f.route.targets[2].target, 10 * MIN, NOW);
    assert_int_equal(ask(&f, 77, 0, NOW + 10 * MIN - 1).index, 2);
    assert_int_equal(ask(&f, 78, 0, NOW).index, 0);
    assert_int_equal(ask(&f, 0, 0, NOW).index, 0);
    assert_int_equal(ask(&f, 77, 4, NOW).index, 0);
    rest(&f, 2, NOW + S);
    assert_int_equal(ask(&f, 77, 0, NOW).index, 0);
    assert_int_equal(ask(&f, 77, 0, NOW + S).index, 2);
    assert_int_equal(ask(&f, 77, 0, NOW + 10 * MIN).index, 0); /* forgotten */
    fleet_remember(f.fleet, 77, f.route.targets[1].target, 10 * MIN, NOW + 11 * MIN);
    assert_int_equal(ask(&f, 77, 0, NOW + 12 * MIN).index, 1);
    fleet_remember(f.fleet, 79, f.route.targets[1].target, 0, NOW);
    assert_int_equal(ask(&f, 79, 0, NOW).index, 0);
    fleet_free(f.fleet);
}

static void a_session_leaves_a_standby_when_the_others_are_back(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_PRIORITY, 2, (const uint64_t[]){1, 0});
    fleet_remember(f.fleet, 77, f.route.targets[1].target, 10 * MIN, NOW);
    assert_int_equal(ask(&f, 77, 0, NOW).index, 0);
    rest(&f, 0, NOW + S);
    assert_int_equal(ask(&f, 77, 0, NOW).index, 1);
    fleet_free(f.fleet);
}

/* More sessions than the table has places: the newest are remembered, nothing else breaks. */
static void a_flood_of_sessions_pushes_out_the_oldest(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, STRATEGY_PRIORITY, 2, NULL);
    const uint64_t n = 3 * FLEET_SESSIONS_MAX, fresh = FLEET_SESSIONS_MAX / 8;
    for (uint64_t i = 1; i <= n; i++)
        fleet_remember(f.fleet, i, f.route.targets[1].target, 10 * MIN, NOW + i);
    unsigned known = 0;
    for (uint64_t i = n - fresh; i <= n; i++)
        known += ask(&f, i, 0, NOW + n).index == 1;
    assert_true(known > fresh * 95 / 100);
    assert_int_equal(ask(&f, 1, 0, NOW + n).index, 0);
    fleet_free(f.fleet);
}

static void throttle(struct fixture *f, unsigned i)
{
    f->route.targets[i].target->pace.state = PACE_THROTTLED;
    f->route.targets[i].target->pace.until_ms = NOW + 30 * S;
}

static void what_throttles_by_latency_comes_last_even_after_standbys(void **state)
{
    (void)state;
    for (int strategy = 0; strategy < 3; strategy++) {
        struct fixture f;
        begin(&f, (enum conf_strategy)strategy, 3, (const uint64_t[]){9, 9, 0});
        throttle(&f, 0);
        fleet_remember(f.fleet, 5, f.route.targets[0].target, 60 * MIN, NOW);
        for (int again = 0; again < 30; again++) {
            assert_int_equal(ask(&f, 0, 0, NOW).index, 1);
            assert_int_equal(ask(&f, 5, 0, NOW).index, 1); /* its session leaves it too */
            assert_int_equal(ask(&f, 0, 1 << 1, NOW).index, 2);
            assert_int_equal(ask(&f, 0, 1 << 1 | 1 << 2, NOW).index, 0); /* there is no other */
        }
        assert_int_equal(ask(&f, 5, 0, NOW + 30 * S).index, 0); /* the hold is over: a call finds out */
        throttle(&f, 1);
        throttle(&f, 2);
        assert_int_not_equal(ask(&f, 0, 0, NOW).index, 2); /* all alike: by the strategy again */
        fleet_free(f.fleet);
    }
}

/* Targets 1 to 3 are the regions of one provider. */
static void begin_regions(struct fixture *f, enum conf_strategy strategy, const uint64_t *weights)
{
    begin(f, strategy, 5, weights);
    for (unsigned i = 1; i <= 3; i++)
        f->route.targets[i].group = 2;
}

static void a_group_has_one_weight_and_its_first_region_carries_it(void **state)
{
    (void)state;
    struct fixture f;
    begin_regions(&f, STRATEGY_WEIGHTED, (const uint64_t[]){1, 2, 2, 2, 1});
    assert_in_range(times(&f, 1, 4000), 1850, 2150);
    assert_int_equal(times(&f, 2, 1000) + times(&f, 3, 1000), 0);
    rest(&f, 1, NOW + S);
    assert_in_range(times(&f, 2, 4000), 1850, 2150);
    assert_int_equal(times(&f, 1, 1000) + times(&f, 3, 1000), 0);
    rest(&f, 2, NOW + S);
    rest(&f, 3, NOW + S);
    assert_in_range(times(&f, 0, 4000), 1850, 2150);
    fleet_free(f.fleet);
}

static void after_a_region_failed_the_others_of_its_group_come_first(void **state)
{
    (void)state;
    for (int strategy = 0; strategy < 3; strategy++) {
        struct fixture f;
        begin_regions(&f, (enum conf_strategy)strategy, (const uint64_t[]){9, 1, 1, 1, 9});
        for (int again = 0; again < 50; again++) {
            assert_int_equal(ask_after(&f, 1 << 1, 2).index, 2);
            assert_int_equal(ask_after(&f, 1 << 1 | 1 << 2, 2).index, 3);
            int other = ask_after(&f, 1 << 1 | 1 << 2 | 1 << 3, 2).index;
            assert_true(other == 0 || other == 4);
        }
        rest(&f, 2, NOW + S);
        assert_int_equal(ask_after(&f, 1 << 1, 2).index, 3);
        fleet_free(f.fleet);
    }
}

static void standby_regions_come_first_too_when_one_of_them_has_failed(void **state)
{
    (void)state;
    struct fixture f;
    begin_regions(&f, STRATEGY_WEIGHTED, (const uint64_t[]){1, 0, 0, 0, 1});
    assert_int_equal(ask_after(&f, 1 << 1, 2).index, 2);
    int other = ask_after(&f, 1 << 1, 0).index;
    assert_true(other == 0 || other == 4);
    fleet_free(f.fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted_follows_the_weights),
        cmocka_unit_test(only_usable_targets_are_taken_and_standbys_last),
        cmocka_unit_test(when_none_is_free_it_says_when_one_may_be),
        cmocka_unit_test(latency_takes_the_fastest_and_still_looks_around),
        cmocka_unit_test(latency_finds_out_about_unknown_targets_with_one_call),
        cmocka_unit_test(a_session_keeps_its_target_while_that_is_usable),
        cmocka_unit_test(a_session_leaves_a_standby_when_the_others_are_back),
        cmocka_unit_test(what_throttles_by_latency_comes_last_even_after_standbys),
        cmocka_unit_test(a_group_has_one_weight_and_its_first_region_carries_it),
        cmocka_unit_test(after_a_region_failed_the_others_of_its_group_come_first),
        cmocka_unit_test(standby_regions_come_first_too_when_one_of_them_has_failed),
        cmocka_unit_test(a_flood_of_sessions_pushes_out_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
