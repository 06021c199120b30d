#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/rnd.h"
#include "route/breaker.h"

#include <string.h>

static const struct breaker_rules rules = {.failures = 5,
                                           .timeouts = 3,
                                           .window_ms = 60000,
                                           .hold_ms = 30000,
                                           .hold_max_ms = 100000,
                                           .trials = 2,
                                           .probes = true};
static const struct breaker_rules no_probes = {
    .failures = 5, .timeouts = 3, .window_ms = 60000, .hold_ms = 30000, .hold_max_ms = 100000, .trials = 2};

/* A story in letters, each told at a time of its own:
 *   f t o n   a call that began now fails, times out, ends well, is neutral
 *   S         a call starts and goes on; F O N U: the oldest such call fails, ends well, is neutral, shows output
 *   p P       the probe fails, passes      .   time passes */
struct step {
    uint64_t at_s;
    char what;
};
struct story {
    const char *name;
    struct step steps[24];
    enum breaker_state then;
};

static void tell(struct breaker *b, const struct breaker_rules *r, const struct step *steps)
{
    uint32_t running[8] = {0};
    unsigned first = 0, n = 0;
    for (const struct step *s = steps; s->what; s++) {
        uint64_t now = 1000000 + s->at_s * 1000;
        breaker_tick(b, r, now);
        static const char ends[] = "foFOtnN";
        static const enum breaker_result results[] = {BREAKER_FAILED, BREAKER_OK,        BREAKER_FAILED,
                                                      BREAKER_OK,     BREAKER_TIMED_OUT, BREAKER_NEUTRAL,
                                                      BREAKER_NEUTRAL};
        if (s->what == 'S')
            running[n++ % 8] = breaker_start(b);
        else if (s->what == 'U')
            breaker_output(b, r, &running[first % 8], now);
        else if (s->what == 'p' || s->what == 'P')
            breaker_probe_result(b, r, s->what == 'P', now);
        else if (strchr("FON", s->what))
            breaker_result(b, r, results[strchr(ends, s->what) - ends], running[first++ % 8], now);
        else if (s->what != '.')
            breaker_result(b, r, results[strchr(ends, s->what) - ends], breaker_start(b), now);
    }
}

static const struct story with_probes[] = {
    {"four failures leave it closed", {{0, 'f'}, {1, 'f'}, {2, 'f'}, {3, 'f'}}, BREAKER_CLOSED},
    {"five open it", {{0, 'f'}, {1, 'f'}, {2, 'f'}, {3, 'f'}, {4, 'f'}}, BREAKER_OPEN},
    {"the fifth at the window's end opens it", {{0, 'f'}, {1, 'f'}, {2, 'f'}, {3, 'f'}, {60, 'f'}}, BREAKER_OPEN},
    {"five over more than the window do not", {{0, 'f'}, {1, 'f'}, {2, 'f'}, {3, 'f'}, {61, 'f'}}, BREAKER_CLOSED},
    {"a success does not clear the window",
     {{0, 'f'}, {1, 'f'}, {2, 'f'}, {3, 'f'}, {3, 'o'}, {4, 'f'}},
     BREAKER_OPEN},
    {"three timeouts open it", {{0, 't'}, {1, 't'}, {2, 't'}}, BREAKER_OPEN},
    {"two timeouts do not", {{0, 't'}, {1, 't'}}, BREAKER_CLOSED},
    {"timeouts count as failures too", {{0, 't'}, {1, 't'}, {2, 'f'}, {3, 'f'}, {4, 'f'}}, BREAKER_OPEN},
    {"neutral results do not count", {{0, 'n'}, {1, 'n'}, {2, 'n'}, {3, 'n'}, {4, 'n'}, {5, 'n'}}, BREAKER_CLOSED},
    {"it stays open for its hold", {{0, 't'}, {0, 't'}, {0, 't'}, {29, '.'}}, BREAKER_OPEN},
    {"then it wants a probe", {{0, 't'}, {0, 't'}, {0, 't'}, {30, '.'}}, BREAKER_PROBING},
    {"a probe that passes leads to trials", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}}, BREAKER_TRIAL},
    {"one that fails opens it", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'p'}}, BREAKER_OPEN},
    {"for twice as long", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'p'}, {89, '.'}}, BREAKER_OPEN},
    {"and no longer", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'p'}, {90, '.'}}, BREAKER_PROBING},
    {"the hold has a most", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'p'}, {90, 'p'}, {189, '.'}}, BREAKER_OPEN},
    {"and keeps it",
     {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'p'}, {90, 'p'}, {190, 'p'}, {290, '.'}},
     BREAKER_PROBING},
    {"one good trial is not enough", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'o'}}, BREAKER_TRIAL},
    {"all trials good close it", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'o'}, {32, 'o'}}, BREAKER_CLOSED},
    {"one bad trial opens it", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'o'}, {32, 'f'}}, BREAKER_OPEN},
    {"for twice as long", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'f'}, {90, '.'}}, BREAKER_OPEN},
    {"a neutral trial decides nothing",
     {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'n'}, {31, 'n'}, {31, 'n'}, {32, 'o'}},
     BREAKER_TRIAL},
    {"a whole answer after closing makes the hold short again",
     {{0, 't'},
      {0, 't'},
      {0, 't'},
      {30, 'p'},
      {90, 'P'},
      {91, 'o'},
      {92, 'o'},
      {92, 'o'},
      {93, 't'},
      {93, 't'},
      {93, 't'},
      {123, '.'}},
     BREAKER_PROBING},
    {"closing forgets the failures before it",
     {{0, 'f'}, {0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'o'}, {32, 'o'}, {33, 't'}, {33, 't'}},
     BREAKER_CLOSED},
    {"calls from before it opened do not keep it open",
     {{0, 'S'}, {0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'F'}},
     BREAKER_TRIAL},
    {"nor close it",
     {{0, 'S'}, {0, 'S'}, {0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'O'}, {31, 'O'}},
     BREAKER_TRIAL},
    {"nor lengthen the hold", {{0, 'S'}, {0, 't'}, {0, 't'}, {0, 't'}, {20, 'F'}, {30, '.'}}, BREAKER_PROBING},
    {"a trial of an earlier round does not count",
     {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'S'}, {31, 'f'}, {91, 'P'}, {92, 'F'}},
     BREAKER_TRIAL},
    {"a probe's result after the probing is over is nothing",
     {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'P'}, {31, 'p'}},
     BREAKER_TRIAL},
};

static const struct story without_probes[] = {
    {"without probes the hold's end alone leads to trials",
     {{0, 't'}, {0, 't'}, {0, 't'}, {30, '.'}},
     BREAKER_TRIAL},
    {"and these close it", {{0, 't'}, {0, 't'}, {0, 't'}, {30, 'o'}, {31, 'o'}}, BREAKER_CLOSED},
};

static void each_story_ends_as_told(void **state)
{
    (void)state;
    const struct {
        const struct story *list;
        size_t n;
        const struct breaker_rules *rules;
    } books[] = {{with_probes, sizeof(with_probes) / sizeof(with_probes[0]), &rules},
                 {without_probes, sizeof(without_probes) / sizeof(without_probes[0]), &no_probes}};
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < books[i].n; j++) {
            struct breaker b;
            breaker_init(&b);
            tell(&b, books[i].rules, books[i].list[j].steps);
            if (b.state != books[i].list[j].then)
                fail_msg("%s: it is %s", books[i].list[j].name, breaker_state_name(b.state));
        }
}

static void open_it(struct breaker *b, const struct breaker_rules *r, uint64_t now)
{
    breaker_init(b);
    for (int i = 0; i < 3; i++)
        breaker_result(b, r, BREAKER_TIMED_OUT, breaker_start(b), now);
    assert_int_equal(b->state, BREAKER_OPEN);
}

static void only_free_trial_places_let_calls_in(void **state)
{
    (void)state;
    struct breaker b;
    open_it(&b, &no_probes, 0);
    assert_false(breaker_allows(&b));
    breaker_tick(&b, &no_probes, 30000);
    assert_true(breaker_allows(&b));
    uint32_t one = breaker_start(&b), two = breaker_start(&b);
    assert_true(one != TRIAL_NONE && two != TRIAL_NONE);
    assert_false(breaker_allows(&b));
    breaker_result(&b, &no_probes, BREAKER_NEUTRAL, one, 30001);
    assert_true(breaker_allows(&b));
    one = breaker_start(&b);
    assert_false(breaker_allows(&b));
    breaker_result(&b, &no_probes, BREAKER_OK, one, 30002);
    breaker_result(&b, &no_probes, BREAKER_OK, two, 30003);
    assert_int_equal(b.state, BREAKER_CLOSED);
}

static void first_outputs_close_it_and_later_failures_are_like_any_other(void **state)
{
    (void)state;
    struct breaker b;
    open_it(&b, &no_probes, 0);
    breaker_tick(&b, &no_probes, 30000);
    uint32_t one = breaker_start(&b), two = breaker_start(&b);
    breaker_output(&b, &no_probes, &one, 30001);
    breaker_output(&b, &no_probes, &one, 30001); /* a second time changes nothing */
    assert_int_equal(b.state, BREAKER_TRIAL);
    assert_int_equal(b.trials_out, 1);
    assert_int_equal(b.trials_left, 1);
    assert_false(breaker_allows(&b));
    breaker_result(&b, &no_probes, BREAKER_OK, one, 30002); /* it has passed once */
    assert_int_equal(b.state, BREAKER_TRIAL);
    breaker_output(&b, &no_probes, &two, 30003);
    assert_int_equal(b.state, BREAKER_CLOSED);
    for (int i = 0; i < 4; i++)
        breaker_result(&b, &no_probes, BREAKER_FAILED, i ? TRIAL_NONE : two, 30004);
    assert_int_equal(b.state, BREAKER_CLOSED);
    breaker_result(&b, &no_probes, BREAKER_FAILED, TRIAL_NONE, 30005);
    assert_int_equal(b.state, BREAKER_OPEN);
}

static void one_that_breaks_while_others_are_still_to_show_opens_it(void **state)
{
    (void)state;
    struct breaker b;
    open_it(&b, &no_probes, 0);
    breaker_tick(&b, &no_probes, 30000);
    uint32_t one = breaker_start(&b), two = breaker_start(&b);
    breaker_output(&b, &no_probes, &one, 30001);
    breaker_result(&b, &no_probes, BREAKER_FAILED, one, 30002);
    assert_int_equal(b.state, BREAKER_OPEN);
    breaker_output(&b, &no_probes, &two, 30003);
    breaker_result(&b, &no_probes, BREAKER_OK, two, 30004);
    assert_int_equal(b.state, BREAKER_OPEN);
}

/* It begins every answer and ends none. */
static void output_alone_does_not_make_the_hold_short_again(void **state)
{
    (void)state;
    struct breaker b;
    open_it(&b, &no_probes, 0);
    uint64_t now = 30000;
    for (uint64_t round = 1; round <= 2; round++) {
        breaker_tick(&b, &no_probes, now);
        uint32_t trial[2] = {breaker_start(&b), breaker_start(&b)};
        for (int i = 0; i < 2; i++)
            breaker_output(&b, &no_probes, &trial[i], now);
        assert_int_equal(b.state, BREAKER_CLOSED);
        if (round == 2)
            breaker_result(&b, &no_probes, BREAKER_OK, trial[0], now);
        for (int i = 0; i < 3; i++)
            breaker_result(&b, &no_probes, BREAKER_TIMED_OUT, TRIAL_NONE, now);
        assert_int_equal(b.state, BREAKER_OPEN);
        assert_int_equal(b.open_until_ms, now + (round == 1 ? 60000 : 30000));
        now = b.open_until_ms;
    }
}

static void an_early_probe_opens_the_way_and_a_failing_one_changes_nothing(void **state)
{
    (void)state;
    struct breaker b;
    open_it(&b, &rules, 0);
    breaker_probe_result(&b, &rules, false, 1000);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_int_equal(b.open_until_ms, 30000);
    assert_int_equal(b.opened_total, 1);
    breaker_probe_result(&b, &rules, true, 3000);
    assert_int_equal(b.state, BREAKER_TRIAL);
    assert_true(breaker_allows(&b));
}

static void rules_of_zero_never_open(void **state)
{
    (void)state;
    struct breaker_rules none = rules;
    none.failures = none.timeouts = 0;
    struct breaker b;
    breaker_init(&b);
    for (int i = 0; i < 500; i++)
        breaker_result(&b, &none, i & 1 ? BREAKER_FAILED : BREAKER_TIMED_OUT, TRIAL_NONE, 1000);
    assert_int_equal(b.state, BREAKER_CLOSED);
}

/* 1000 in 60 s cannot all be remembered: they are met by their rate. */
static void many_failures_are_met_by_their_rate(void **state)
{
    (void)state;
    struct breaker_rules many = rules;
    many.failures = 1000;
    struct breaker slow, fast;
    breaker_init(&slow);
    breaker_init(&fast);
    for (uint64_t i = 0; i < 300; i++) {
        breaker_result(&slow, &many, BREAKER_FAILED, TRIAL_NONE, i * 100);
        breaker_result(&fast, &many, BREAKER_FAILED, TRIAL_NONE, i * 50);
    }
    assert_int_equal(slow.state, BREAKER_CLOSED);
    assert_int_equal(fast.state, BREAKER_OPEN);
}

static void probes_switched_off_while_probing_lead_to_trials(void **state)
{
    (void)state;
    struct breaker b;
    open_it(&b, &rules, 0);
    breaker_tick(&b, &rules, 30000);
    assert_true(breaker_wants_probe(&b));
    breaker_tick(&b, &no_probes, 30001);
    assert_int_equal(b.state, BREAKER_TRIAL);
}

static void every_state_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(breaker_state_name(BREAKER_TRIAL), "trial");
    assert_string_equal(breaker_state_name(BREAKER_STATE_COUNT), "?");
}

/* Whatever happens in whatever order: trial places balance, and it never opens for longer than its most. */
static void random_results_keep_it_lawful(void **state)
{
    (void)state;
    struct rnd r = {7};
    for (int run = 0; run < 300; run++) {
        struct breaker b;
        breaker_init(&b);
        struct {
            uint32_t trial;
            bool shown, runs;
        } calls[20] = {{0, false, false}};
        uint64_t now = rnd_next(&r) >> 20;
        for (int i = 0; i < 400; i++) {
            now += rnd_below(&r, 4) ? rnd_below(&r, 500) : rnd_below(&r, 40000);
            breaker_tick(&b, &rules, now);
            unsigned n = (unsigned)rnd_below(&r, 20);
            if (calls[n].runs && rnd_below(&r, 3) == 0) {
                breaker_output(&b, &rules, &calls[n].trial, now);
            } else if (calls[n].runs) {
                breaker_result(&b, &rules, (enum breaker_result)rnd_below(&r, 4), calls[n].trial, now);
                calls[n].runs = false;
            } else if (breaker_allows(&b)) {
                calls[n].trial = breaker_start(&b);
                calls[n].runs = true;
            }
            if (breaker_wants_probe(&b) && rnd_below(&r, 2))
                breaker_probe_result(&b, &rules, rnd_below(&r, 2), now);
            unsigned out = 0;
            for (int j = 0; j < 20; j++)
                out += calls[j].runs && b.state == BREAKER_TRIAL && calls[j].trial == b.trial_round << 1;
            if (b.state == BREAKER_TRIAL) {
                assert_int_equal(b.trials_out, out);
                assert_in_range(b.trials_left, 1, rules.trials);
                assert_true(out <= rules.trials);
            }
            if (b.state == BREAKER_OPEN)
                assert_true(b.open_until_ms - b.since_ms >= rules.hold_ms &&
                            b.open_until_ms - b.since_ms <= rules.hold_max_ms);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_story_ends_as_told),
        cmocka_unit_test(only_free_trial_places_let_calls_in),
        cmocka_unit_test(first_outputs_close_it_and_later_failures_are_like_any_other),
        cmocka_unit_test(one_that_breaks_while_others_are_still_to_show_opens_it),
        cmocka_unit_test(output_alone_does_not_make_the_hold_short_again),
        cmocka_unit_test(an_early_probe_opens_the_way_and_a_failing_one_changes_nothing),
        cmocka_unit_test(rules_of_zero_never_open),
        cmocka_unit_test(many_failures_are_met_by_their_rate),
        cmocka_unit_test(probes_switched_off_while_probing_lead_to_trials),
        cmocka_unit_test(every_state_has_a_name),
        cmocka_unit_test(random_results_keep_it_lawful),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
