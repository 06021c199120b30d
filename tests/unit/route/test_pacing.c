#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/mem.h"
#include "route/fleet.h"

enum { S = 1000, MIN = 60 * S, NOW = 1000 * 1000, MANY = 1000 };

struct fixture {
    struct fleet *fleet;
    struct settings settings;
    struct route route, other;
    struct target *t, *u;
    unsigned told;
    struct ticket *last_told;
};

static void on_ready(void *ctx, struct ticket *t)
{
    struct fixture *f = ctx;
    f->told++;
    f->last_told = t;
}

static void begin(struct fixture *f)
{
    *f = (struct fixture){0};
    settings_default(&f->settings);
    f->fleet = fleet_new(5);
    assert_non_null(f->fleet);
    fleet_set_watch(f->fleet, &(struct fleet_watch){.ready = on_ready}, f);
    assert_int_equal(fleet_target(f->fleet, "p", "m", &f->settings, &f->t), PD_OK);
    assert_int_equal(fleet_target(f->fleet, "q", "m", &f->settings, &f->u), PD_OK);
    f->route = (struct route){.name = "r", .count = 1, .settings = f->settings};
    f->route.targets[0] = (struct route_target){.target = f->t, .weight = 1};
    f->other = (struct route){.name = "o", .count = 1, .settings = f->settings};
    f->other.targets[0] = (struct route_target){.target = f->u, .weight = 1};
}

static void end(struct fixture *f)
{
    assert_int_equal(queue_count(f->fleet), 0);
    f->fleet = fleet_free(f->fleet);
}

static struct ticket *head(struct fixture *f, struct ticket *all, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (ticket_waits(&all[i]) && queue_may_start(f->fleet, &all[i], f->t))
            return &all[i];
    return NULL;
}

static void a_thousand_of_one_key_delay_another_key_by_one_slot_at_most(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    static struct ticket crowd[MANY], alone;
    memset(crowd, 0, sizeof(crowd));
    alone = (struct ticket){0};
    for (unsigned i = 0; i < MANY; i++)
        queue_enter(f.fleet, &crowd[i], &f.route, 0, 0, 1, i % 7, NOW);
    queue_enter(f.fleet, &alone, &f.route, 0, 0, 2, 0, NOW);
    assert_int_equal(queue_count(f.fleet), MANY + 1);
    assert_int_equal(queue_waiting_for(f.fleet, f.t), MANY + 1);
    assert_false(queue_may_start(f.fleet, &alone, f.t));
    queue_leave(f.fleet, head(&f, crowd, MANY), true, NOW);
    assert_true(queue_may_start(f.fleet, &alone, f.t));
    assert_ptr_equal(f.last_told, &alone);
    queue_leave(f.fleet, &alone, true, NOW);
    unsigned of_session[7] = {0};
    for (unsigned served = 1; served < MANY; served++) { /* sessions take turns, each in its order */
        struct ticket *t = head(&f, crowd, MANY);
        assert_non_null(t);
        unsigned session = (unsigned)(t - crowd) % 7;
        of_session[session]++;
        if (served < MANY - 10)
            assert_in_range(of_session[session], served / 7, served / 7 + 1);
        queue_leave(f.fleet, t, true, NOW);
    }
    end(&f);
}

static void who_cannot_use_a_target_holds_nobody_up_there(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct ticket on_u = {0}, fresh = {0}, on_t = {0};
    queue_enter(f.fleet, &on_u, &f.other, 0, 0, 1, 1, NOW);
    assert_true(queue_may_start(f.fleet, &fresh, f.t));
    assert_false(queue_may_start(f.fleet, &fresh, f.u)); /* a fresh call goes behind those that wait */
    queue_enter(f.fleet, &on_t, &f.route, 0, 0, 1, 1, NOW);
    assert_true(queue_may_start(f.fleet, &on_t, f.t));
    assert_true(queue_may_start(f.fleet, &on_u, f.u));
    queue_enter(f.fleet, &on_t, &f.route, 1, 0, 1, 1, NOW); /* it gave the target up */
    assert_true(queue_may_start(f.fleet, &fresh, f.t));
    queue_leave(f.fleet, &on_u, false, NOW);
    queue_leave(f.fleet, &on_t, false, NOW);
    queue_leave(f.fleet, &on_t, false, NOW);
    end(&f);
}

static void one_that_waited_in_an_earlier_process_stands_where_it_stood(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct ticket new = {0}, back = {.asked_ms = NOW - S}, mate = {.asked_ms = NOW - 2 * S};
    queue_enter(f.fleet, &new, &f.route, 0, 0, 1, 1, NOW);
    queue_enter(f.fleet, &back, &f.route, 0, 0, 2, 1, NOW);
    assert_true(queue_may_start(f.fleet, &back, f.t));
    queue_enter(f.fleet, &mate, &f.route, 0, 0, 2, 1, NOW);
    assert_true(queue_may_start(f.fleet, &mate, f.t));
    queue_leave(f.fleet, &mate, true, NOW); /* its key has had its turn */
    assert_true(queue_may_start(f.fleet, &new, f.t));
    queue_leave(f.fleet, &new, true, NOW);
    queue_leave(f.fleet, &back, true, NOW);
    end(&f);
}

static void only_heads_look_at_times_and_others_are_told(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.t->rest_until_ms = NOW + 5 * S;
    struct ticket a = {0}, b = {0};
    queue_enter(f.fleet, &a, &f.route, 0, 0, 1, 1, NOW);
    queue_enter(f.fleet, &b, &f.route, 0, 0, 2, 1, NOW);
    assert_int_equal(queue_next_ms(f.fleet, &a, NOW), NOW + 5 * S);
    assert_int_equal(queue_next_ms(f.fleet, &b, NOW), CLOCK_NEVER);
    assert_int_equal(f.told, 0);
    queue_leave(f.fleet, &a, false, NOW);
    assert_int_equal(f.told, 1);
    assert_ptr_equal(f.last_told, &b);
    assert_int_equal(queue_next_ms(f.fleet, &b, NOW), NOW + 5 * S);
    struct place p = target_start(f.t, 0, NOW);
    f.t->rest_until_ms = 0;
    target_end(f.t, NULL, false, &p, NOW); /* an end tells the head */
    assert_int_equal(f.told, 2);
    queue_leave(f.fleet, &b, true, NOW);
    end(&f);
}

static void overload_cuts_once_in_a_burst_and_grows_back(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct place p[40];
    struct verdict busy = {.failure = FAILURE_OVERLOAD};
    f.t->breaker_rules.failures = 0;
    for (int i = 0; i < 40; i++)
        p[i] = target_start(f.t, 0, NOW);
    for (int i = 0; i < 10; i++)
        target_end(f.t, &busy, false, &p[i], NOW + 10);
    assert_int_equal(limiter_limit(&f.t->limiter), 24);
    uint64_t at;
    assert_int_equal(target_look(f.t, 0, NOW + 10, &at), TARGET_BUSY);
    for (int i = 10; i < 40; i++) {
        target_first_token(f.t, &p[i], 5, NOW + 20);
        target_end(f.t, NULL, false, &p[i], NOW + 20);
    }
    assert_int_equal(limiter_limit(&f.t->limiter), 25);
    assert_int_equal(target_look(f.t, 0, NOW + 20 + LIMITER_LIFT_MS, &at), TARGET_FREE);
    assert_int_equal(limiter_limit(&f.t->limiter), 0);
    end(&f);
}

static void what_is_left_of_a_window_is_spread(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct place p = target_start(f.t, 0, NOW);
    target_rate_facts(f.t, &p, &(struct rate_facts){60, 10, 20 * S, -1, -1, -1}, NOW);
    target_end(f.t, NULL, false, &p, NOW);
    unsigned started = 0;
    for (uint64_t now = NOW; now < NOW + 20 * S; now += 10) {
        uint64_t at;
        if (target_look(f.t, 0, now, &at) != TARGET_FREE)
            continue;
        p = target_start(f.t, 0, now);
        target_end(f.t, NULL, false, &p, now);
        started++;
        if (started < 10) {
            assert_int_equal(target_look(f.t, 0, now, &at), TARGET_RATE);
            assert_in_range(at - now, 1900, 2100);
        }
    }
    assert_int_equal(started, 10);
    end(&f);
}

/* A provider that counts 30 in each minute; answers come after up to three seconds. */
static void a_window_is_never_overrun_once_it_was_told(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct rnd rnd = {7};
    enum { LIMIT = 30, LIVE = 64 };
    struct {
        struct place p;
        uint64_t at;
        struct rate_facts said;
        bool live;
    } run[LIVE] = {0};
    unsigned used = 0, refused = 0, passed = 0;
    uint64_t window = 0;
    for (uint64_t now = NOW; now < NOW + 120 * MIN; now += 50) {
        if (now / MIN != window) {
            window = now / MIN;
            used = 0;
        }
        for (int i = 0; i < LIVE; i++)
            if (run[i].live && run[i].at <= now) {
                run[i].live = false;
                target_rate_facts(f.t, &run[i].p, &run[i].said, now);
                target_end(f.t, NULL, false, &run[i].p, now);
            }
        uint64_t at;
        for (int i = 0; i < LIVE && target_look(f.t, 0, now, &at) == TARGET_FREE; i++) {
            if (run[i].live || (f.t->budget.meter[RATE_REQUESTS].limit < 0 && f.t->running))
                continue;
            run[i].p = target_start(f.t, 0, now);
            if (used >= LIMIT)
                refused++;
            else
                used++;
            passed++;
            run[i].live = true;
            run[i].at = now + 50 + rnd_below(&rnd, 3 * S);
            run[i].said =
                (struct rate_facts){LIMIT, LIMIT - used, (int64_t)((window + 1) * MIN - now), -1, -1, -1};
        }
    }
    for (int i = 0; i < LIVE; i++)
        if (run[i].live)
            target_end(f.t, NULL, true, &run[i].p, NOW + 120 * MIN);
    if (refused > 0 || passed < 110 * LIMIT / 2)
        fail_msg("%u of %u refused", refused, passed);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_of_one_key_delay_another_key_by_one_slot_at_most),
        cmocka_unit_test(who_cannot_use_a_target_holds_nobody_up_there),
        cmocka_unit_test(one_that_waited_in_an_earlier_process_stands_where_it_stood),
        cmocka_unit_test(only_heads_look_at_times_and_others_are_told),
        cmocka_unit_test(overload_cuts_once_in_a_burst_and_grows_back),
        cmocka_unit_test(what_is_left_of_a_window_is_spread),
        cmocka_unit_test(a_window_is_never_overrun_once_it_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
