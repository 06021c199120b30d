#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/clock.h"
#include "route/fleet.h"
#include "torture.h"

#include <stdio.h>
#include <string.h>

enum { S = 1000, MIN = 60 * S, NOW = 1000 * 1000 };

static void a_name_gives_the_same_target_and_its_newest_rules(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    struct settings s;
    settings_default(&s);
    struct target *a, *b, *again;
    assert_int_equal(fleet_target(f, "p", "m", &s, &a), PD_OK);
    assert_int_equal(fleet_target(f, "p", "n", &s, &b), PD_OK);
    a->ok_total = 7;
    s.breaker_failures = 9;
    s.probe = 0;
    assert_int_equal(fleet_target(f, "p", "m", &s, &again), PD_OK);
    assert_ptr_equal(a, again);
    assert_int_equal(again->ok_total, 7);
    assert_int_equal(again->breaker_rules.failures, 9);
    assert_false(again->breaker_rules.probes);
    assert_ptr_not_equal(a, b);
    assert_string_equal(b->name, "p/n");
    assert_int_equal(fleet_count(f), 2);
    assert_ptr_equal(fleet_at(f, 1), b);
    assert_int_equal(b->id, 1);
    assert_null(fleet_free(f));
    assert_null(fleet_free(NULL));
}

static void there_is_a_most(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    struct settings s;
    settings_default(&s);
    struct target *t;
    char model[16];
    for (unsigned i = 0; i < FLEET_TARGETS_MAX; i++) {
        snprintf(model, sizeof(model), "m%u", i);
        assert_int_equal(fleet_target(f, "p", model, &s, &t), PD_OK);
    }
    assert_int_equal(fleet_target(f, "p", "one too many", &s, &t), PD_TOOBIG);
    assert_int_equal(fleet_target(f, "p", "m17", &s, &t), PD_OK);
    assert_int_equal(t->id, 17);
    fleet_free(f);
}

static pd_err make_one(void *ctx)
{
    (void)ctx;
    struct settings s;
    settings_default(&s);
    struct fleet *f = fleet_new(1);
    if (!f)
        return PD_NOMEM;
    struct target *t;
    pd_err e = fleet_target(f, "p", "m", &s, &t);
    fleet_free(f);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(make_one, NULL) >= 6);
}

/* ---- budgets */

static void a_budget_has_a_floor_a_share_and_a_most(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    struct budget *b = fleet_retry_budget(f);
    assert_ptr_not_equal(b, fleet_hedge_budget(f));
    for (int i = 0; i < BUDGET_FLOOR; i++)
        assert_true(budget_spend(b));
    assert_false(budget_spend(b));

    for (int i = 0; i < 4; i++)
        budget_earn(b, 250000, NOW);
    assert_true(budget_spend(b));
    assert_false(budget_spend(b));

    for (int i = 0; i < 1000; i++)
        budget_earn(b, 1000000, NOW);
    for (int i = 0; i < BUDGET_MOST; i++)
        assert_true(budget_spend(b));
    assert_false(budget_spend(b));
    fleet_free(f);
}

static void time_gives_the_floor_back_and_no_more(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    struct budget *b = fleet_retry_budget(f);
    budget_earn(b, 0, NOW);
    while (budget_spend(b))
        ;
    budget_earn(b, 0, NOW + BUDGET_REFILL_MS - 1);
    assert_false(budget_spend(b));
    budget_earn(b, 0, NOW + BUDGET_REFILL_MS);
    assert_true(budget_spend(b));
    assert_false(budget_spend(b));
    budget_earn(b, 0, NOW + 1000 * (uint64_t)BUDGET_REFILL_MS);
    for (int i = 0; i < BUDGET_FLOOR; i++)
        assert_true(budget_spend(b));
    assert_false(budget_spend(b));
    fleet_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_gives_the_same_target_and_its_newest_rules),
        cmocka_unit_test(there_is_a_most),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_budget_has_a_floor_a_share_and_a_most),
        cmocka_unit_test(time_gives_the_floor_back_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
