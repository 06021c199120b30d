/* What a session's calls come to, and that what is kept of them is bounded. */
#include "relay/ledger.h"

#include "base/hash.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "test.h"

static void add(struct ledger *l, const char *session, unsigned n)
{
    char line[400];
    snprintf(line, sizeof(line),
             "{\"session\":\"%s\",\"id\":\"c-%u\",\"began_ms\":%u,\"took_ms\":5,\"held_ms\":7,\"tokens_in\":null,"
             "\"tokens_out\":3,\"attempts\":[{\"class\":\"cut\"},{\"class\":\"none\"}]}",
             session, n, n);
    assert_int_equal(ledger_add(l, span_str(line)), PD_OK);
}

static bool shows(struct ledger *l, const char *id, const char *what)
{
    struct buf out = {0};
    struct put p = put_into(&out);
    bool found = ledger_show(l, span_str(id), &p);
    assert_int_equal(p.err, PD_OK);
    assert_true(!found || json_check(buf_span(&out)) == PD_OK);
    bool has = found && span_has(buf_span(&out), what);
    buf_done(&out);
    return has;
}

static void totals_are_exact_when_old_lines_are_gone(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    for (unsigned i = 1; i <= LEDGER_CALLS + 1; i++)
        add(l, "s-1", i);
    assert_true(shows(l, "s-1", "\"calls\":65,\"attempts\":130,\"failed\":65"));
    assert_true(shows(l, "s-1", "\"waited_ms\":0,\"held_ms\":455,\"breaks\":0,\"continued\":0"));
    assert_true(shows(l, "s-1", "\"tokens_in\":0,\"tokens_out\":195"));
    assert_true(shows(l, "s-1", "\"last_ms\":70,"));
    assert_false(shows(l, "s-1", "\"c-1\""));
    assert_true(shows(l, "s-1", "\"list\":[{\"session\":\"s-1\",\"id\":\"c-2\""));
    assert_true(shows(l, "s-1", "\"c-65\""));
    ledger_free(l);
}

/* And across a restart. */
static void a_session_is_of_the_agent_that_said_so_last(void **state)
{
    (void)state;
    struct ledger *l = ledger_new(), *later = ledger_new();
    struct buf out = {0};
    struct put p = put_into(&out);
    assert_non_null(l);
    assert_non_null(later);
    assert_int_equal(ledger_add(l, SPAN_LIT("{\"session\":\"s-1\",\"id\":\"c-1\",\"agent\":\"one\"}")), PD_OK);
    assert_int_equal(ledger_add(l, SPAN_LIT("{\"session\":\"s-1\",\"id\":\"c-2\",\"agent\":\"two\"}")), PD_OK);
    assert_int_equal(ledger_add(l, SPAN_LIT("{\"session\":\"s-1\",\"id\":\"c-3\",\"agent\":\"\"}")), PD_OK);
    assert_true(shows(l, "s-1", "\"name\":\"\",\"agent\":\"two\",\"last_ms\""));
    assert_true(ledger_show(l, SPAN_LIT("s-1"), &p));
    assert_int_equal(ledger_load(later, buf_span(&out)), PD_OK);
    assert_true(shows(later, "s-1", "\"agent\":\"two\",\"last_ms\""));
    buf_done(&out);
    ledger_free(l);
    ledger_free(later);
}

static void the_session_unused_longest_is_forgotten(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    char id[24];
    for (unsigned i = 0; i < LEDGER_SESSIONS; i++) {
        snprintf(id, sizeof(id), "s-%u", i);
        add(l, id, i);
    }
    add(l, "s-0", 1);
    add(l, "s-new", 1);
    assert_true(shows(l, "s-0", "\"calls\":2"));
    assert_false(shows(l, "s-1", ""));
    assert_true(shows(l, "s-2", "\"calls\":1"));
    ledger_free(l);
}

#define LINE(session, id, more) "{\"session\":\"" session "\",\"id\":\"" id "\"" more "}"

static void add_text(struct ledger *l, const char *line)
{
    assert_int_equal(ledger_add(l, span_str(line)), PD_OK);
}

static void a_member_is_found_in_any_order_and_spelling(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    add_text(l, "{\"tokens_out\":4,\"other\":1,\"\\u0069d\":\"c-1\",\"billed_\\u006fut\":9,\"tokens_in\":3,"
                "\"s\\u0065ssion\":\"s-1\",\"tokens_in\":5}");
    assert_true(shows(l, "s-1", "\"tokens_in\":5,\"tokens_out\":4,\"billed_in\":0,\"billed_out\":9"));
    assert_int_equal(ledger_add(l, SPAN_LIT("{\"id\":\"c-1\",\"session\":\"s-1\"}")), PD_EXISTS);
    ledger_free(l);
}

static void every_sum_and_class_of_a_session_is_its_calls(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    add_text(
        l, LINE("s-1", "c-1",
                ",\"name\":\"night\",\"waited_ms\":1,\"held_ms\":2,\"breaks\":3,\"continued\":4,\"hedges_lost\":5,"
                "\"tool_repairs\":6,\"tokens_in\":7,\"tokens_out\":8,\"billed_in\":9,\"billed_out\":10,"
                "\"estimated\":true,\"cost_usd\":0.000000000001,\"attempts\":[{\"class\":\"cut\"},{\"class\":\"of_"
                "tomorrow\"},"
                "{\"class\":\"cut\"},{\"class\":\"none\"}]"));
    add_text(l, LINE("s-1", "c-2",
                     ",\"waited_ms\":10,\"held_ms\":20,\"breaks\":30,\"continued\":40,\"hedges_lost\":50,"
                     "\"tool_repairs\":60,\"tokens_in\":70,\"tokens_out\":80,\"billed_in\":90,\"billed_out\":100,"
                     "\"estimated\":false,\"cost_usd\":1.5,\"attempts\":[]"));
    assert_true(shows(
        l, "s-1",
        "\"name\":\"night\",\"agent\":\"\",\"last_ms\":0,\"calls\":2,\"attempts\":4,\"failed\":3,\"waited_ms\":11,"
        "\"held_ms\":22,\"breaks\":33,\"continued\":44,\"hedges_lost\":55,\"tool_repairs\":66,"
        "\"tokens_in\":77,\"tokens_out\":88,\"billed_in\":99,\"billed_out\":110,\"estimated\":1,"
        "\"unpriced\":0,\"cost_usd\":1.500000000001,\"known_usd\":1.500000000001"));
    assert_true(shows(l, "s-1", "\"failures\":{\"cut\":2}"));
    ledger_free(l);
}

static void a_cost_that_is_not_known_is_null_and_the_rest_is_told(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    add_text(l, LINE("s-1", "c-1", ",\"cost_usd\":0.25"));
    assert_true(shows(l, "s-1", "\"unpriced\":0,\"cost_usd\":0.25,\"known_usd\":0.25"));
    add_text(l, LINE("s-1", "c-2", ",\"cost_usd\":null"));
    add_text(l, LINE("s-1", "c-3", ""));
    add_text(l, LINE("s-1", "c-4", ",\"cost_usd\":-1"));
    assert_true(shows(l, "s-1", "\"unpriced\":3,\"cost_usd\":null,\"known_usd\":0.25"));
    ledger_free(l);
}

static void all_of(struct ledger *l, struct buf *out)
{
    struct put p = put_into(out);
    ledger_list(l, LEDGER_SESSIONS, &p);
    (void)ledger_show(l, SPAN_LIT("s-1"), &p);
    (void)ledger_show(l, SPAN_LIT("s-2"), &p);
    assert_int_equal(p.err, PD_OK);
}

/* Who has just written a line says what it says, and its session comes to the same. */
static void a_line_that_is_not_read_again_counts_as_one_that_is(void **state)
{
    (void)state;
    static const char line[] =
        LINE("s-1", "c-1",
             ",\"name\":\"a \\\"b\\\"\",\"began_ms\":40,\"took_ms\":2,\"waited_ms\":1,\"held_ms\":2,\"breaks\":3,"
             "\"continued\":4,\"hedges_lost\":5,\"tool_repairs\":6,\"tokens_out\":8,\"billed_in\":9,"
             "\"billed_out\":10,\"estimated\":true,\"cost_usd\":0.25,\"attempts\":[{\"class\":\"cut\"},{\"class\":"
             "\"cut\"},{\"class\":\"none\"}]");
    struct ledger_call call = {.session = SPAN_LIT("s-1"),
                               .id = SPAN_LIT("c-1"),
                               .name = SPAN_LIT("a \\\"b\\\""),
                               .sums = {1, 2, 3, 4, 5, 6, -1, 8, 9, 10},
                               .ended_ms = 42,
                               .cost_pico = 250000000000,
                               .estimated = true,
                               .attempts = 3,
                               .failed = 2,
                               .failures = {[FAILURE_NONE] = 1, [FAILURE_CUT] = 2}};
    struct ledger *read = ledger_new(), *booked = ledger_new();
    struct buf a = {0}, b = {0};
    assert_non_null(read);
    assert_non_null(booked);
    add_text(read, line);
    assert_int_equal(ledger_book(booked, &call, span_str(line)), PD_OK);
    assert_int_equal(ledger_book(booked, &call, span_str(line)), PD_EXISTS);
    all_of(read, &a);
    all_of(booked, &b);
    assert_true(shows(booked, "s-1", "\"last_ms\":42,\"calls\":1,\"attempts\":3,\"failed\":2"));
    assert_true(shows(booked, "s-1", "\"unpriced\":0,\"cost_usd\":0.25"));
    assert_true(span_eq(buf_span(&a), buf_span(&b)));
    call.id = SPAN_LIT("c-2");
    call.cost_pico = INT64_MAX; /* more than what is read of a line */
    call.sums[LEDGER_billed_in] = INT64_MAX;
    assert_int_equal(ledger_book(booked, &call, span_str(line)), PD_OK);
    assert_true(shows(booked, "s-1", "\"unpriced\":1,\"cost_usd\":null,\"known_usd\":0.25"));
    assert_true(shows(booked, "s-1", "\"billed_in\":1125899906842624,"));
    call.session = SPAN_NONE;
    assert_int_equal(ledger_book(booked, &call, span_str(line)), PD_INVALID);
    buf_done(&a);
    buf_done(&b);
    ledger_free(read);
    ledger_free(booked);
}

static void a_call_is_booked_once(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    add_text(l, LINE("s-1", "c-1", ",\"held_ms\":5"));
    assert_int_equal(ledger_add(l, SPAN_LIT(LINE("s-1", "c-1", ",\"held_ms\":7"))), PD_EXISTS);
    add_text(l, LINE("s-2", "c-1", ",\"held_ms\":5"));
    assert_true(shows(l, "s-1", "\"calls\":1"));
    assert_true(shows(l, "s-1", "\"held_ms\":5"));
    ledger_free(l);
}

/* Calls are found by a hash of 32 bits: these two have the same one. */
static void two_calls_whose_hashes_are_alike_are_two(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    assert_int_equal((uint32_t)hash_bytes(SPAN_LIT("c-35678"), 0), (uint32_t)hash_bytes(SPAN_LIT("c-60983"), 0));
    add(l, "s-1", 35678);
    add(l, "s-1", 60983);
    assert_true(shows(l, "s-1", "\"calls\":2"));
    ledger_free(l);
}

static void sums_stay_within_bounds(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    for (int i = 0; i < 9; i++) {
        char line[300];
        snprintf(line, sizeof(line),
                 "{\"session\":\"s-1\",\"id\":\"c-%d\",\"billed_in\":9223372036854775807,\"cost_usd\":9000}", i);
        add_text(l, line);
    }
    assert_true(shows(l, "s-1", "\"billed_in\":1125899906842624,"));
    assert_true(shows(l, "s-1", "\"cost_usd\":81000.0,"));
    add_text(l, LINE("s-1", "c-x", ",\"cost_usd\":1e300"));
    assert_true(shows(l, "s-1", "\"unpriced\":1,\"cost_usd\":null,\"known_usd\":81000.0"));
    ledger_free(l);
}

static void a_list_ends_at_its_limit(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    struct buf out = {0};
    struct put p = put_into(&out);
    assert_non_null(l);
    add(l, "s-1", 1);
    add(l, "s-2", 2);
    add(l, "s-3", 3);
    ledger_list(l, 2, &p);
    assert_int_equal(p.err, PD_OK);
    assert_int_equal(json_check(buf_span(&out)), PD_OK);
    assert_true(span_has(buf_span(&out), "s-3") && span_has(buf_span(&out), "s-2"));
    assert_false(span_has(buf_span(&out), "s-1"));
    buf_done(&out);
    ledger_free(l);
}

/* ---- across a restart ---- */

static pd_err load_into(void *ctx, struct span session)
{
    return ledger_load(ctx, session);
}

static struct ledger *a_full_one(void)
{
    struct ledger *l = ledger_new();
    assert_non_null(l);
    add_text(l,
             LINE("s-2", "c-0",
                  ",\"name\":\"a \\\"name\\\"\",\"estimated\":true,\"billed_out\":12,\"cost_usd\":0.000000123456,"
                  "\"attempts\":[{\"class\":\"stalled\"}]"));
    for (unsigned i = 0; i < LEDGER_CALLS + 3; i++)
        add(l, "s-1", i);
    return l;
}

static void what_is_saved_is_loaded_as_it_was(void **state)
{
    (void)state;
    struct ledger *l = a_full_one(), *again = ledger_new();
    struct buf before = {0}, after = {0};
    assert_non_null(again);
    add(again, "s-1", 1000); /* what was known before is in it already */
    assert_int_equal(ledger_save(l, load_into, again), PD_OK);
    all_of(l, &before);
    all_of(again, &after);
    assert_true(span_eq(buf_span(&before), buf_span(&after)));
    add(l, "s-1", 500);
    add(again, "s-1", 500);
    buf_clear(&before);
    buf_clear(&after);
    all_of(l, &before);
    all_of(again, &after);
    assert_true(span_eq(buf_span(&before), buf_span(&after)));
    buf_done(&before);
    buf_done(&after);
    ledger_free(again);
    ledger_free(l);
}

static pd_err refuse(void *ctx, struct span session)
{
    (void)session;
    ++*(unsigned *)ctx;
    return PD_IO;
}

static void saving_stops_where_it_fails(void **state)
{
    (void)state;
    struct ledger *l = a_full_one();
    unsigned told = 0;
    assert_int_equal(ledger_save(l, refuse, &told), PD_IO);
    assert_int_equal(told, 1);
    ledger_free(l);
}

static void what_is_no_session_is_not_loaded(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    add(l, "s-1", 1);
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"session\":\"s-1\",\"list\":[",
                                      "{\"session\":\"s-1\"}",
                                      "{\"session\":\"s-1\",\"list\":{}}",
                                      "{\"list\":[]}",
                                      "{\"session\":\"123456789012345678901234\",\"list\":[]}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ledger_load(l, span_str(bad[i])), PD_INVALID);
    assert_true(shows(l, "s-1", "\"calls\":1"));
    ledger_free(l);
}

static pd_err whole_life(void *ctx)
{
    (void)ctx;
    struct ledger *l = ledger_new(), *again = l ? ledger_new() : NULL;
    pd_err e = l && again ? PD_OK : PD_NOMEM;
    for (int i = 0; i < 3 && !e; i++) {
        char line[200];
        snprintf(line, sizeof(line), LINE("s-%d", "c-%d", ",\"cost_usd\":1,\"attempts\":[{\"class\":\"cut\"}]"),
                 i % 2, i);
        e = ledger_add(l, span_str(line));
        struct buf out = {0};
        struct put p = put_into(&out);
        ledger_list(l, LEDGER_SESSIONS, &p);
        /* all of the call, or nothing */
        char last[20];
        snprintf(last, sizeof(last), "\"c-%d\"", i);
        if (!p.err && e)
            assert_int_equal(ledger_show(l, SPAN_LIT("s-0"), &p) && !p.err && span_has(buf_span(&out), last), 0);
        e = e ? e : p.err;
        buf_done(&out);
    }
    if (!e)
        e = ledger_save(l, load_into, again);
    ledger_free(again);
    ledger_free(l);
    return e;
}

static void it_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(whole_life, NULL) > 10);
}

static void what_is_no_line_is_refused(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    static const char *const bad[] = {
        "", "[]", "{", "{}", "{\"session\":\"\"}", "{\"session\":\"123456789012345678901234\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ledger_add(l, span_str(bad[i])), PD_INVALID);
    ledger_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals_are_exact_when_old_lines_are_gone),
        cmocka_unit_test(a_session_is_of_the_agent_that_said_so_last),
        cmocka_unit_test(the_session_unused_longest_is_forgotten),
        cmocka_unit_test(a_member_is_found_in_any_order_and_spelling),
        cmocka_unit_test(every_sum_and_class_of_a_session_is_its_calls),
        cmocka_unit_test(a_cost_that_is_not_known_is_null_and_the_rest_is_told),
        cmocka_unit_test(a_line_that_is_not_read_again_counts_as_one_that_is),
        cmocka_unit_test(a_call_is_booked_once),
        cmocka_unit_test(two_calls_whose_hashes_are_alike_are_two),
        cmocka_unit_test(sums_stay_within_bounds),
        cmocka_unit_test(a_list_ends_at_its_limit),
        cmocka_unit_test(what_is_saved_is_loaded_as_it_was),
        cmocka_unit_test(saving_stops_where_it_fails),
        cmocka_unit_test(what_is_no_session_is_not_loaded),
        cmocka_unit_test(it_survives_every_failed_allocation),
        cmocka_unit_test(what_is_no_line_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
