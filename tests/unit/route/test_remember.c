/* What keeps targets out, and where sessions are, over a restart. */
#include "test.h"
#include "torture.h"

#include "base/hash.h"
#include "base/mem.h"
#include "route/fleet_priv.h"

#include <math.h>
#include <stdio.h>

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

/* What an earlier version wrote. */
static void a_document_of_the_first_version_still_loads(void **state)
{
    (void)state;
    static const char recorded[] = "fleet 1\n"
                                   "breaker 5030000 60000 p/open one\n"
                                   "park auth 5300000 1 p/parked\n"
                                   "rest 5009000 3 p/resting\n"
                                   "session 42 8600000 p/resting\n";
    struct fleet *f = fleet_new(2);
    struct target *open = target(f, "open one"), *parked = target(f, "parked"), *resting = target(f, "resting");
    assert_int_equal(fleet_load(f, span_str(recorded), NOW, WALL), PD_OK);
    assert_int_equal(open->breaker.state, BREAKER_OPEN);
    assert_int_equal(open->breaker.open_until_ms, NOW + 30000);
    assert_int_equal(open->breaker.hold_ms, 60000);
    assert_int_equal(parked->parked_for, FAILURE_AUTH);
    assert_int_equal(parked->park_until_ms, NOW + 300000);
    assert_int_equal(resting->rest_until_ms, NOW + 9000);
    assert_int_equal(affinity_get(&f->affinity, 42, NOW), (int)resting->id);

    /* Its last line, torn, is another target's. */
    struct fleet *g = fleet_new(2);
    struct target *r = target(g, "res");
    assert_int_equal(fleet_load(g, span_upto(span_str(recorded), sizeof(recorded) - 6), NOW, WALL), PD_SYNTAX);
    assert_int_equal(affinity_get(&g->affinity, 42, NOW), -1);
    (void)r;
    fleet_free(f);
    fleet_free(g);
}

enum { TARGETS = 7, DAY_MS = 24 * 3600 * 1000 };

/* Anything that a target can have learned, in the units in which it is written. */
static void learn_anything(struct target *t, struct rnd *r)
{
    for (uint64_t n = rnd_below(r, 8); n > 0; n--)
        fail_once(t, rnd_below(r, 2) ? FAILURE_SERVER : FAILURE_RATE);
    if (rnd_below(r, 4) == 0)
        fail_once(t, rnd_below(r, 2) ? FAILURE_AUTH : FAILURE_QUOTA);
    for (uint64_t n = rnd_below(r, 300); n > 0; n--)
        quantile_add(&t->ttft, 1 + rnd_below(r, 100000));
    for (uint64_t n = rnd_below(r, 3); n > 0; n--) {
        ewma_add(&t->ttft_ms, (double)rnd_below(r, 100000));
        ewma_add(&t->tokens_per_second, (double)rnd_below(r, 1000));
    }
    for (uint64_t n = rnd_below(r, 3); n > 0; n--) {
        struct place p = target_start(t, 1000, NOW);
        int64_t limit = 1 + (int64_t)rnd_below(r, 1000000), left = (int64_t)rnd_below(r, (uint64_t)limit);
        struct rate_facts said = {limit, left, (int64_t)rnd_below(r, DAY_MS), -1, -1, -1};
        if (rnd_below(r, 2))
            said = (struct rate_facts){-1, -1, -1, limit, left, (int64_t)rnd_below(r, DAY_MS)};
        target_rate_facts(t, &p, &said, NOW);
        target_used(t, &p, 1000, 10 + rnd_below(r, 5000));
        target_end(t, NULL, false, &p, NOW);
    }
    t->budget.meter[RATE_TOKENS].bucket = rnd_below(r, 2);
    if (rnd_below(r, 2)) {
        t->budget.meter[RATE_REQUESTS].ceiling = 5 + (double)rnd_below(r, 100);
        t->budget.meter[RATE_REQUESTS].refused_ms = NOW - rnd_below(r, 60000);
    }
    if (rnd_below(r, 2))
        t->limiter = (struct limiter){.state = (enum limiter_state)(1 + rnd_below(r, 2)),
                                      .limit = 1 + (double)rnd_below(r, 500)};
    for (int i = 0; i < PACE_SIZES; i++)
        if (rnd_below(r, 2))
            t->pace.ttft[i] = (struct pace_base){rnd_unit(r) * 12, 1 + rnd_below(r, 99), NOW - rnd_below(r, 9999)};
    if (rnd_below(r, 2))
        t->pace.token = (struct pace_base){rnd_unit(r) * 6, 1 + rnd_below(r, 99), NOW - rnd_below(r, 9999)};
    for (uint64_t n = rnd_below(r, 5); n > 0; n--)
        fleet_remember(t->fleet, rnd_next(r), t, 1 + rnd_below(r, 3600000), NOW);
}

static struct target *nth(struct fleet *f, unsigned i)
{
    char model[32];
    snprintf(model, sizeof(model), "model %u", i);
    return target(f, model);
}

static struct fleet *anything(struct rnd *r)
{
    struct fleet *f = fleet_new(rnd_next(r));
    for (unsigned i = 0; i < TARGETS; i++)
        learn_anything(nth(f, i), r);
    f->retries.tokens = (double)rnd_below(r, 100);
    f->hedges.tokens = (double)rnd_below(r, 1000) / 10;
    return f;
}

/* In any order: sessions lie where their hash puts them, and what has not been seen stands last. */
static uint64_t sum_of_lines(struct span doc)
{
    uint64_t sum = 0;
    while (doc.n) {
        struct span line = span_cut(&doc, '\n'), what = line;
        what = span_cut(&what, ' ');
        if (!span_is(what, "since") && !span_is(what, "end"))
            sum += hash_bytes(line, 1);
    }
    return sum;
}

static void what_was_learned_is_the_same_after_a_restart(void **state)
{
    (void)state;
    struct rnd r = {11};
    uint64_t bytes = 0;
    for (int i = 0; i < 300; i++) {
        struct fleet *f = anything(&r), *g = fleet_new(3);
        struct buf before, after;
        buf_init(&before, 0);
        buf_init(&after, 0);
        assert_int_equal(fleet_save(f, &before, NOW, WALL), PD_OK);
        unsigned there = (unsigned)rnd_below(&r, TARGETS + 1), then = (unsigned)rnd_below(&r, TARGETS + 1);
        for (unsigned k = 0; k < there; k++)
            (void)nth(g, k);
        assert_int_equal(fleet_load(g, buf_span(&before), NOW, WALL), PD_OK);
        for (unsigned k = TARGETS; k-- > then;)
            (void)nth(g, k); /* made on demand */
        assert_int_equal(fleet_save(g, &after, NOW, WALL), PD_OK);
        if (sum_of_lines(buf_span(&before)) != sum_of_lines(buf_span(&after)))
            fail_msg("%.*s\nbecame\n%.*s", SPAN_FMT(buf_span(&before)), SPAN_FMT(buf_span(&after)));
        if (there >= then)
            assert_null(g->unseen.text); /* all of it has been asked for */
        bytes += buf_size(&before);
        buf_done(&before);
        buf_done(&after);
        fleet_free(f);
        fleet_free(g);
    }
    printf("%llu bytes for each target\n", (unsigned long long)bytes / 300 / TARGETS);
}

static void a_budget_for_the_day_outlives_the_night(void **state)
{
    (void)state;
    enum { HOUR = 3600 * 1000 };
    struct fleet *f = fleet_new(1), *g = fleet_new(1);
    struct target *t = target(f, "day"), *u = target(g, "day");
    struct place p = target_start(t, 0, NOW);
    target_rate_facts(t, &p, &(struct rate_facts){1000, 0, 10 * HOUR, -1, -1, -1}, NOW);
    target_end(t, NULL, false, &p, NOW);
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(fleet_save(f, &b, NOW + HOUR, WALL + HOUR), PD_OK);
    assert_int_equal(fleet_load(g, buf_span(&b), LATER, WALL + 3 * HOUR), PD_OK);
    uint64_t at;
    assert_int_equal(target_look(u, 0, LATER, &at), TARGET_RATE);
    assert_int_equal(at, LATER + 7 * HOUR);
    assert_int_equal(target_look(u, 0, LATER + 7 * HOUR, &at), TARGET_FREE);
    assert_int_equal(rate_left(&u->budget, RATE_REQUESTS, LATER + 7 * HOUR), 1000);
    buf_done(&b);
    fleet_free(f);
    fleet_free(g);
}

/* What nobody has asked for since is written again, for a week. */
static void a_target_that_is_made_on_demand_is_known_again(void **state)
{
    (void)state;
    struct fleet *f = fleet_new(1);
    nth(f, 1)->rest_until_ms = NOW + 3600000;
    fleet_remember(f, 77, nth(f, 1), 3600000, NOW);
    uint64_t wall = WALL, day = DAY_MS;
    unsigned days = 0;
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(fleet_save(f, &b, NOW, wall), PD_OK);
    fleet_free(f);
    for (;; days++) {
        f = fleet_new(1);
        (void)nth(f, 0);
        assert_int_equal(fleet_load(f, buf_span(&b), LATER, wall), PD_OK);
        buf_clear(&b);
        wall += day;
        assert_int_equal(fleet_save(f, &b, LATER + day, wall), PD_OK);
        bool known = span_has(buf_span(&b), "p/model 1");
        if (days == 0) {
            assert_int_equal(nth(f, 1)->rest_until_ms, LATER + 3600000);
            assert_int_equal(affinity_get(&f->affinity, 77, LATER), (int)nth(f, 1)->id);
        }
        fleet_free(f);
        if (!known)
            break;
    }
    assert_int_equal(days, 6);
    buf_done(&b);
}

/* Nothing is taken of a document that is not whole. */
static void a_damaged_document_teaches_nothing(void **state)
{
    (void)state;
    struct rnd r = {12};
    struct fleet *f = anything(&r), *g = fleet_new(3);
    struct buf b, empty, now;
    buf_init(&b, 0);
    buf_init(&empty, 0);
    buf_init(&now, 0);
    assert_int_equal(fleet_save(f, &b, NOW, WALL), PD_OK);
    for (unsigned k = 0; k < TARGETS; k++)
        (void)nth(g, k);
    assert_int_equal(fleet_save(g, &empty, NOW, WALL), PD_OK);
    for (size_t n = 0; n < buf_size(&b); n++) {
        char *copy = mem_alloc(n ? n : 1); /* of this size: a byte too far is seen */
        memcpy(copy, b.p + b.head, n);
        assert_int_equal(fleet_load(g, span_of(copy, n), NOW, WALL), PD_SYNTAX);
        mem_free(copy);
    }
    for (size_t n = 0; n < buf_size(&b); n++)
        for (int bit = 0; bit < 8; bit += 1 + (int)rnd_below(&r, 3)) {
            b.p[b.head + n] ^= (char)(1 << bit);
            assert_int_equal(fleet_load(g, buf_span(&b), NOW, WALL), PD_SYNTAX);
            b.p[b.head + n] ^= (char)(1 << bit);
        }
    assert_int_equal(fleet_save(g, &now, NOW, WALL), PD_OK);
    assert_true(span_eq(buf_span(&empty), buf_span(&now)));
    assert_int_equal(fleet_load(g, buf_span(&b), NOW, WALL), PD_OK);
    buf_done(&b);
    buf_done(&empty);
    buf_done(&now);
    fleet_free(f);
    fleet_free(g);
}

/* Lines as a document of ours could not have them: each is left out, whatever stands in it. */
static void no_line_can_do_harm(void **state)
{
    (void)state;
    static const char *const lines[] = {"rate requests window 10 5 5 1 9 0",
                                        "rate others window 10 5 5 1 9 0 p/model 0",
                                        "rate requests often 10 5 5 1 9 0 p/model 0",
                                        "rate requests window 10 5 5 1 9 -1 p/model 0",
                                        "ceiling requests 0 1 9 p/model 0",
                                        "ceiling others 9 1 9 p/model 0",
                                        "prompt 1 0 p/model 0",
                                        "limit free 5000000 p/model 0",
                                        "limit limited 0 p/model 0",
                                        "limit limited 999999 p/model 0",
                                        "limit limited 18446744073709551615 p/model 0",
                                        "ttft 1 1 180:1 p/model 0",
                                        "ttft 1 1 1:257 p/model 0",
                                        "ttft 1 1 1:1,1:1 p/model 0",
                                        "ttft 1 1 1:200,2:200 p/model 0",
                                        "ttft 1 1 1 p/model 0",
                                        "pace ttft 6 1 1 1 p/model 0",
                                        "pace token 1 1 1 1 p/model 0",
                                        "pace other 0 1 1 1 p/model 0",
                                        "pace ttft 0 99000000 1 1 p/model 0",
                                        "pace ttft 0 1 9999999999 1 p/model 0",
                                        "budget 5 other",
                                        "budget x retry",
                                        "since",
                                        "session 99999999999999999999 1 p/model 0",
                                        "park none 1 1 p/model 0",
                                        ""};
    struct fleet *g = fleet_new(3);
    struct target *t = nth(g, 0);
    struct buf empty, now;
    buf_init(&empty, 0);
    buf_init(&now, 0);
    assert_int_equal(fleet_save(g, &empty, NOW, WALL), PD_OK);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char doc[200];
        snprintf(doc, sizeof(doc), "fleet 1\n%s\n", lines[i]);
        assert_int_equal(fleet_load(g, span_str(doc), NOW, WALL), PD_SYNTAX);
    }
    assert_int_equal(fleet_save(g, &now, NOW, WALL), PD_OK);
    assert_true(span_eq(span_upto(buf_span(&empty), buf_size(&empty) - 22),
                        span_upto(buf_span(&now), buf_size(&empty) - 22)));
    /* And what can be believed, however large, is bounded. */
    assert_int_equal(
        fleet_load(g,
                   SPAN_LIT("fleet 1\nrate requests bucket 18446744073709551615 18446744073709551615 1 "
                            "18446744073709551615 18446744073709551615 18446744073709551615 p/model 0\n"
                            "budget 18446744073709551615 retry\n"
                            "park auth 18446744073709551615 18446744073709551615 p/model 0\n"
                            "pace ttft 0 30000000 9 18446744073709551615 p/model 0\n"
                            "ceiling tokens 5000000 18446744073709551615 18446744073709551615 p/model 0\n"
                            "prompt 18446744073709551615 1 p/model 0\n"),
                   NOW, WALL),
        PD_OK);
    uint64_t at;
    (void)target_look(t, 1000, NOW, &at);
    (void)target_look(t, 1000, NOW + 1000ull * DAY_MS, &at);
    assert_true(t->park_until_ms <= NOW + FLEET_RESTORED_MS);
    assert_true(g->retries.tokens <= BUDGET_MOST);
    assert_true(isfinite(t->budget.meter[RATE_REQUESTS].left));
    buf_done(&empty);
    buf_done(&now);
    fleet_free(g);
}

static pd_err save(void *ctx)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = fleet_save(ctx, &b, NOW, WALL);
    buf_done(&b);
    return e;
}

/* Without memory for what finds no target it is forgotten. */
static pd_err load(void *ctx)
{
    struct fleet *f = fleet_new(1);
    if (!f)
        return PD_NOMEM;
    pd_err e = fleet_load(f, buf_span(ctx), LATER, WALL);
    struct target *t;
    if (!e)
        e = fleet_target(f, "p", "open one", rules(), &t);
    fleet_free(f);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct fleet *f = learned();
    assert_true(torture(save, f) >= 1);
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(fleet_save(f, &b, NOW, WALL), PD_OK);
    assert_true(torture_lenient(load, &b) >= 4);
    buf_done(&b);
    fleet_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_is_out_and_a_session_finds_its_target),
        cmocka_unit_test(a_clock_that_went_back_keeps_nobody_out_for_years),
        cmocka_unit_test(what_is_not_understood_is_left_out),
        cmocka_unit_test(a_document_of_the_first_version_still_loads),
        cmocka_unit_test(what_was_learned_is_the_same_after_a_restart),
        cmocka_unit_test(a_budget_for_the_day_outlives_the_night),
        cmocka_unit_test(a_target_that_is_made_on_demand_is_known_again),
        cmocka_unit_test(a_damaged_document_teaches_nothing),
        cmocka_unit_test(no_line_can_do_harm),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
