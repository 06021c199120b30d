/* What keeps targets out, and where sessions are, over a restart. */
#include "test.h"
#include "torture.h"

#include "base/mem.h"
#include "route/fleet_priv.h"

static const struct settings *rules(void)
{
    static struct settings s;
    settings_default(&s);
    return &s;
}

static struct target *target(struct fleet *f, const char *model)
{
    struct target *t = NULL;
    assert_int_equal(fleet_target(f, "p", model, rules(), &t), PD_OK);
    return t;
}

enum { NOW = 1000000, WALL = 5000000, LATER = 77, DOWN_MS = 2000 };

static void fail_once(struct target *t, enum failure how)
{
    struct verdict bad = {.failure = how};
    struct place place = target_start(t, 0, NOW);
    target_end(t, &bad, false, &place, NOW);
}

static struct fleet *learned(void)
{
    struct fleet *f = fleet_new(1);
    struct target *open = target(f, "open one"), *parked = target(f, "parked"), *resting = target(f, "resting");
    (void)target(f, "fine");
    for (int i = 0; i < 10; i++)
        fail_once(open, FAILURE_SERVER);
    assert_int_equal(open->breaker.state, BREAKER_OPEN);
    fail_once(parked, FAILURE_AUTH);
    assert_int_equal(parked->parked_for, FAILURE_AUTH);
    resting->rest_until_ms = NOW + 9000;
    resting->rest_steps = 3;
    fleet_remember(f, 42, resting, 3600000, NOW);
    return f;
}

static void out_is_out_and_a_session_finds_its_target(void **state)
{
    (void)state;
    struct fleet *f = learned(), *g = fleet_new(2);
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(fleet_save(f, &b, NOW, WALL), PD_OK);
    struct target *resting = target(g, "resting"), *fine = target(g, "fine"), *open = target(g, "open one"),
                  *parked = target(g, "parked");
    assert_int_equal(fleet_load(g, buf_span(&b), LATER, WALL + DOWN_MS), PD_OK);
    const struct target *was = target(f, "open one");
    assert_int_equal(open->breaker.state, BREAKER_OPEN);
    assert_int_equal(open->breaker.open_until_ms, was->breaker.open_until_ms - NOW - DOWN_MS + LATER);
    assert_int_equal(open->breaker.hold_ms, was->breaker.hold_ms);
    assert_int_equal(parked->parked_for, FAILURE_AUTH);
    assert_int_equal(parked->park_until_ms, target(f, "parked")->park_until_ms - NOW - DOWN_MS + LATER);
    assert_int_equal(parked->park_steps, target(f, "parked")->park_steps);
    assert_int_equal(resting->rest_until_ms, LATER + 9000 - DOWN_MS);
    assert_int_equal(resting->rest_steps, 3);
    assert_int_equal(fine->breaker.state, BREAKER_CLOSED);
    assert_int_equal(affinity_get(&g->affinity, 42, LATER), (int)resting->id);
    assert_int_equal(affinity_get(&g->affinity, 43, LATER), -1);

    /* Long after, what was open is due for its probe. */
    struct fleet *h = fleet_new(3);
    open = target(h, "open one");
    assert_int_equal(fleet_load(h, buf_span(&b), LATER, WALL + 864000000),
                     PD_OK); /* the others are no longer configured */
    breaker_tick(&open->breaker, &open->breaker_rules, LATER);
    assert_int_equal(open->breaker.state, BREAKER_PROBING);
    buf_done(&b);
    fleet_free(f);
    fleet_free(g);
    fleet_free(h);
}

static void a_clock_that_went_back_keeps_nobody_out_for_years(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    struct target *t = target(f, "m");
    assert_int_equal(fleet_load(f, SPAN_LIT("fleet 1\nrest 99999999999999 1 p/m\n"), LATER, 1000), PD_OK);
    assert_int_equal(t->rest_until_ms, LATER + FLEET_RESTORED_MS);
    assert_int_equal(fleet_load(f, SPAN_LIT("fleet 1\nbreaker 3000 240000 p/m\n"), LATER, 1000), PD_OK);
    assert_int_equal(t->breaker.hold_ms, 240000); /* it had grown */
    assert_int_equal(fleet_load(f, SPAN_LIT("fleet 1\nbreaker 3000 99999999999 p/m\n"), LATER, 1000), PD_OK);
    assert_int_equal(t->breaker.hold_ms, t->breaker_rules.hold_max_ms);
    fleet_free(f);
}

static void what_is_not_understood_is_left_out(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    struct target *t = target(f, "m");
    static const char *const bad[] = {"",
                                      "fleet 2\nrest 9999 1 p/m\n",
                                      "fleet 1\nrest x 1 p/m\n",
                                      "fleet 1\nrest 9999\n",
                                      "fleet 1\npark none 9999 1 p/m\n",
                                      "fleet 1\npark nonsense 9999 1 p/m\n",
                                      "fleet 1\nother 9999 1 p/m\n",
                                      "fleet 1\nbreaker -1 1 p/m\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(fleet_load(f, span_str(bad[i]), LATER, 1000), PD_SYNTAX);
    assert_int_equal(t->rest_until_ms, 0);
    assert_int_equal(t->parked_for, FAILURE_NONE);
    assert_int_equal(t->breaker.state, BREAKER_CLOSED);
    assert_int_equal(fleet_load(f, SPAN_LIT("fleet 1\nnonsense 1 2 x\nrest 2000 1 p/m\n"), LATER, 1000),
                     PD_SYNTAX);
    assert_int_equal(t->rest_until_ms, LATER + 1000);
    fleet_free(f);
}

static pd_err save(void *ctx)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = fleet_save(ctx, &b, NOW, WALL);
    buf_done(&b);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct fleet *f = learned();
    assert_true(torture(save, f) >= 1);
    fleet_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_is_out_and_a_session_finds_its_target),
        cmocka_unit_test(a_clock_that_went_back_keeps_nobody_out_for_years),
        cmocka_unit_test(what_is_not_understood_is_left_out),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
