#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "route/fleet.h"

enum { S = 1000, MIN = 60 * S, NOW = 1000 * 1000 };

struct fixture {
    struct fleet *fleet;
    struct settings settings;
    struct target *t;
    unsigned breaker_changes, parks, unparks;
};

static void on_breaker(void *ctx, const struct target *t, enum breaker_state from, enum breaker_state to)
{
    (void)t;
    assert_int_not_equal(from, to);
    ((struct fixture *)ctx)->breaker_changes++;
}

static void on_parked(void *ctx, const struct target *t, enum failure why, uint64_t until_ms)
{
    (void)t;
    (void)until_ms;
    struct fixture *f = ctx;
    *(why == FAILURE_NONE ? &f->unparks : &f->parks) += 1;
}

static void begin(struct fixture *f)
{
    *f = (struct fixture){0};
    settings_default(&f->settings);
    f->fleet = fleet_new(11);
    assert_non_null(f->fleet);
    fleet_set_watch(f->fleet, &(struct fleet_watch){on_breaker, on_parked, NULL, NULL}, f);
    assert_int_equal(fleet_target(f->fleet, "p", "m", &f->settings, &f->t), PD_OK);
}

static void end(struct fixture *f)
{
    assert_int_equal(f->t->running, 0);
    f->fleet = fleet_free(f->fleet);
}

/* One attempt that ends at `now` with this failure. */
static void one(struct fixture *f, enum failure failure, uint64_t retry_after_ms, uint64_t now)
{
    struct verdict v = {
        .failure = failure, .has_retry_after = retry_after_ms > 0, .retry_after_ms = retry_after_ms};
    target_end(f->t, &v, false, (struct place[]){target_start(f->t, 0, now)}, now);
}

static bool usable(struct fixture *f, uint64_t now)
{
    uint64_t at;
    return target_usable(f->t, now, &at);
}

static uint64_t ready_at(struct fixture *f, uint64_t now)
{
    uint64_t at;
    target_usable(f->t, now, &at);
    return at;
}

/* After one failure of each class: what the target's blame makes of it. */
static const struct row {
    enum failure failure;
    uint64_t told_ms, least_ms, most_ms; /* out of use for so long; 0, 0: not at all */
} rows[] = {
    {FAILURE_RATE, 7 * S, 7 * S, 7 * S},
    {FAILURE_RATE, 0, 800, 1200},
    {FAILURE_QUOTA, 0, 10 * MIN, 10 * MIN},
    {FAILURE_QUOTA, 90 * MIN, 90 * MIN, 90 * MIN},
    {FAILURE_AUTH, 0, 5 * MIN, 5 * MIN},
    {FAILURE_PERMISSION, 0, 5 * MIN, 5 * MIN},
    {FAILURE_BILLING, 0, 30 * MIN, 30 * MIN},
    {FAILURE_NOT_FOUND, 0, 1 * MIN, 1 * MIN},
    {FAILURE_SERVER, 0, 0, 0},
    {FAILURE_OVERLOAD, 5 * S, 0, 0},
    {FAILURE_TIMEOUT, 0, 0, 0},
    {FAILURE_BAD, 0, 0, 0},
    {FAILURE_FILTER, 0, 0, 0},
    {FAILURE_CONTEXT, 0, 0, 0},
    {FAILURE_OURS, 0, 0, 0},
};

static void each_failure_keeps_the_target_away_as_long_as_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        begin(&f);
        f.settings.probe = 0;
        assert_int_equal(fleet_target(f.fleet, "p", "m", &f.settings, &f.t), PD_OK);
        one(&f, rows[i].failure, rows[i].told_ms, NOW);
        uint64_t away = ready_at(&f, NOW) - NOW;
        if (away < rows[i].least_ms || away > rows[i].most_ms)
            fail_msg("%s: away for %llu ms", failure_row(rows[i].failure)->name, (unsigned long long)away);
        assert_int_equal(usable(&f, NOW), rows[i].most_ms == 0);
        assert_true(usable(&f, NOW + away));
        if (away)
            assert_false(usable(&f, NOW + away - 1));
        assert_int_equal(f.t->last_failure, rows[i].failure);
        assert_int_equal(f.t->failed_total, 1);
        end(&f);
    }
}

static void rests_double_while_limits_repeat_and_start_small_after_a_success(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    uint64_t now = NOW;
    for (int i = 0; i < 10; i++) {
        one(&f, FAILURE_RATE, 0, now);
        uint64_t rest = f.t->rest_until_ms - now, want = 1000ull << (i < 6 ? i : 6);
        want = want > 60 * S ? 60 * S : want;
        assert_in_range(rest, want * 8 / 10, want * 12 / 10);
        now += rest;
    }
    one(&f, FAILURE_NONE, 0, now);
    one(&f, FAILURE_RATE, 0, now);
    assert_in_range(f.t->rest_until_ms - now, 800, 1200);
    end(&f);
}

static void a_limit_by_the_day_rests_for_minutes_and_a_told_time_is_kept(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    uint64_t now = NOW;
    struct verdict day = {.failure = FAILURE_RATE, .limit = LIMIT_DAILY};
    for (int i = 0; i < 5; i++) {
        target_end(f.t, &day, false, (struct place[]){target_start(f.t, 0, now)}, now);
        uint64_t rest = f.t->rest_until_ms - now, want = 10 * MIN << i;
        want = want > 60 * MIN ? 60 * MIN : want;
        assert_in_range(rest, want * 8 / 10, want * 12 / 10);
        now += rest;
    }
    day.has_retry_after = true;
    day.retry_after_ms = 9 * 60 * MIN;
    target_end(f.t, &day, false, (struct place[]){target_start(f.t, 0, now)}, now);
    assert_int_equal(f.t->rest_until_ms, now + 9 * 60 * MIN);
    end(&f);
}

static void ten_refused_at_once_are_one_rest(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 10; i++)
        one(&f, FAILURE_RATE, 0, NOW + i);
    assert_true(f.t->rest_until_ms <= NOW + 1200);
    assert_int_equal(f.t->rest_steps, 1);
    end(&f);
}

static void a_longer_retry_after_wins_and_a_running_success_does_not_end_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct place stream = target_start(f.t, 0, NOW);
    one(&f, FAILURE_RATE, 5 * S, NOW);
    one(&f, FAILURE_RATE, 30 * S, NOW);
    one(&f, FAILURE_RATE, 1 * S, NOW);
    target_end(f.t, NULL, false, &stream, NOW + 1);
    assert_false(usable(&f, NOW + 30 * S - 1));
    assert_true(usable(&f, NOW + 30 * S));
    end(&f);
}

static void a_free_place_ends_a_rest_for_want_of_places(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct place other = target_start(f.t, 0, NOW), refused = target_start(f.t, 0, NOW);
    target_end(f.t, &(struct verdict){.failure = FAILURE_RATE, .limit = LIMIT_CONCURRENCY}, false, &refused, NOW);
    assert_false(usable(&f, NOW + 10));
    target_end(f.t, NULL, true, &other, NOW + 20);
    assert_true(usable(&f, NOW + 20));
    end(&f);
}

static void timeouts_and_failures_open_the_breaker_and_the_watch_hears_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 3; i++)
        one(&f, FAILURE_STALLED, 0, NOW);
    assert_false(usable(&f, NOW));
    assert_int_equal(f.breaker_changes, 1);
    assert_true(ready_at(&f, NOW) >= NOW + 30 * S);
    assert_false(usable(&f, NOW + 30 * S));
    assert_int_equal(f.breaker_changes, 2); /* it wants a probe */
    end(&f);
}

static void cancelled_attempts_say_nothing(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 20; i++)
        target_end(f.t, NULL, true, (struct place[]){target_start(f.t, 0, NOW)}, NOW);
    assert_true(usable(&f, NOW));
    assert_int_equal(f.t->failed_total + f.t->ok_total, 0);
    end(&f);
}

static void parking_is_told_to_the_watch_once(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct place a = target_start(f.t, 0, NOW), b = target_start(f.t, 0, NOW);
    struct verdict v = {.failure = FAILURE_AUTH};
    target_end(f.t, &v, false, &a, NOW);
    target_end(f.t, &v, false, &b, NOW + 5); /* it began before the parking: no second, no doubling */
    assert_int_equal(f.parks, 1);
    assert_int_equal(f.t->park_until_ms, NOW + 5 * MIN);
    assert_int_equal(f.t->parked_for, FAILURE_AUTH);
    end(&f);
}

static void without_probes_a_success_after_its_time_ends_the_parking(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.settings.probe = 0;
    assert_int_equal(fleet_target(f.fleet, "p", "m", &f.settings, &f.t), PD_OK);
    one(&f, FAILURE_AUTH, 0, NOW);
    assert_true(usable(&f, NOW + 5 * MIN));
    one(&f, FAILURE_AUTH, 0, NOW + 5 * MIN);
    assert_int_equal(f.t->park_until_ms, NOW + 15 * MIN); /* doubled */
    one(&f, FAILURE_NONE, 0, NOW + 15 * MIN);
    assert_int_equal(f.t->parked_for, FAILURE_NONE);
    assert_int_equal(f.unparks, 1);
    end(&f);
}

/* ---- the TTFT limit */

static void first_tokens(struct fixture *f, unsigned n, uint64_t ms)
{
    struct place none = {0};
    for (unsigned i = 0; i < n; i++)
        target_first_token(f->t, &none, ms, NOW);
}

static const struct limit_row {
    const char *name;
    uint64_t ttft, adaptive;
    unsigned samples;
    uint64_t sample_ms;
    size_t prompt;
    bool reasoning;
    uint64_t least, most;
} limits[] = {
    {"the setting", 2000, 1, 0, 0, 0, false, 2000, 2000},
    {"off is off", 0, 1, 100, 9000, 0, true, 0, 0},
    {"not adaptive: the setting, whatever was seen", 2000, 0, 100, 9000, 1000000, true, 2000, 2000},
    {"a second for each 100 KB", 2000, 1, 0, 0, 1000000, false, 12000, 12000},
    {"reasoning takes longer", 2000, 1, 0, 0, 0, true, 8000, 8000},
    {"few samples are chance", 2000, 1, 7, 9000, 0, false, 2000, 2000},
    {"never under the usual p95 and a quarter", 2000, 1, 50, 8000, 0, false, 10000, 11000},
    {"a quick target keeps the setting", 2000, 1, 50, 100, 0, false, 2000, 2000},
};

static void the_ttft_limit_follows_its_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        const struct limit_row *r = &limits[i];
        struct fixture f;
        begin(&f);
        f.settings.ttft = r->ttft;
        f.settings.ttft_adaptive = r->adaptive;
        first_tokens(&f, r->samples, r->sample_ms);
        uint64_t ms = target_ttft_limit(f.t, &f.settings, r->prompt, r->reasoning);
        if (ms < r->least || ms > r->most)
            fail_msg("%s: %llu", r->name, (unsigned long long)ms);
        end(&f);
    }
}

static void waiting_in_vain_makes_the_average_worse_and_never_better(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    first_tokens(&f, 4, 1000);
    target_waited(f.t, 500);
    assert_true(f.t->ttft_ms.value == 1000);
    target_waited(f.t, 9000);
    assert_true(f.t->ttft_ms.value > 1000);
    assert_int_equal(f.t->ttft.total, 4);
    target_rate(f.t, 50, 100, NOW);
    assert_true(f.t->tokens_per_second.value == 50);
    end(&f);
}

static void on_paced(void *ctx, const struct target *t, enum pace_state from, enum pace_state to)
{
    (void)t;
    unsigned *seen = ctx; /* a digit for each state entered */
    assert_int_not_equal(from, to);
    *seen = *seen * 10 + (unsigned)to;
}

static void a_watched_target_is_found_throttling_and_the_watch_hears_it(void **state)
{
    (void)state;
    struct fixture f;
    unsigned seen = 0;
    uint64_t now = NOW;
    begin(&f);
    fleet_set_watch(f.fleet, &(struct fleet_watch){on_breaker, on_parked, on_paced, NULL}, &seen);
    for (unsigned i = 0; i < 50; i++, now += S) /* not watched */
        target_pace(f.t, 1000, i < 20 ? 500 : 5000, now);
    assert_int_equal(f.t->pace.state, PACE_USUAL);
    target_watch_pace(f.t, true);
    for (unsigned i = 0; i < 10; i++, now += S) {
        target_pace(f.t, 1000, 500, now);
        target_rate(f.t, 50, 100, now);
    }
    for (unsigned i = 0; i < 20; i++)
        target_rate(f.t, 5, 15, now); /* answers that are too short to tell */
    assert_int_equal(seen, 0);
    for (unsigned i = 0; i < 10; i++, now += S)
        target_rate(f.t, 5, 100, now);
    assert_int_equal(seen, PACE_THROTTLED);
    assert_int_equal(f.t->pace.cause, PACE_TOKEN);
    now = f.t->pace.until_ms;
    target_end(f.t, NULL, false, (struct place[]){target_start(f.t, 0, now)}, now);
    for (unsigned i = 0; i < 3; i++)
        target_rate(f.t, 50, 100, now);
    assert_int_equal(seen, PACE_THROTTLED * 100 + PACE_TRIAL * 10 + PACE_USUAL);
    for (unsigned i = 0; i < 10; i++)
        target_pace_waited(f.t, 1000, 4000, now);
    assert_int_equal(f.t->pace.cause, PACE_TTFT);
    assert_int_equal(f.t->pace.state, PACE_THROTTLED);
    target_watch_pace(f.t, false);
    assert_false(pace_spared(&f.t->pace, now));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failure_keeps_the_target_away_as_long_as_it_says),
        cmocka_unit_test(rests_double_while_limits_repeat_and_start_small_after_a_success),
        cmocka_unit_test(a_limit_by_the_day_rests_for_minutes_and_a_told_time_is_kept),
        cmocka_unit_test(ten_refused_at_once_are_one_rest),
        cmocka_unit_test(a_longer_retry_after_wins_and_a_running_success_does_not_end_it),
        cmocka_unit_test(a_free_place_ends_a_rest_for_want_of_places),
        cmocka_unit_test(timeouts_and_failures_open_the_breaker_and_the_watch_hears_it),
        cmocka_unit_test(cancelled_attempts_say_nothing),
        cmocka_unit_test(parking_is_told_to_the_watch_once),
        cmocka_unit_test(without_probes_a_success_after_its_time_ends_the_parking),
        cmocka_unit_test(the_ttft_limit_follows_its_rules),
        cmocka_unit_test(waiting_in_vain_makes_the_average_worse_and_never_better),
        cmocka_unit_test(a_watched_target_is_found_throttling_and_the_watch_hears_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
