/* The ledger in a terminal: what the bars say, and that nothing in a name can move the cursor. */
#include "relay/ledger_view.h"

#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "test.h"

static const struct ledger_look plain = {.now_ms = 100000};

static char *view(pd_err (*fn)(struct span, const struct ledger_look *, struct buf *), const char *json,
                  const struct ledger_look *look)
{
    static char text[16384];
    struct buf out = {0};
    assert_int_equal(fn(span_str(json), look, &out), PD_OK);
    assert_true(buf_size(&out) < sizeof(text));
    memcpy(text, buf_span(&out).p, buf_size(&out));
    text[buf_size(&out)] = '\0';
    buf_done(&out);
    return text;
}

static void has(const char *text, const char *what)
{
    if (!strstr(text, what)) {
        print_error("%s\n", text ? text : "");
        fail_msg("\"%s\" is not in it", what);
    }
}

#define ONE(call) "{\"session\":\"s-1\",\"calls\":1,\"list\":[" call "]}"
#define CALL(took, outcome, rest) \
    "{\"began_ms\":0,\"took_ms\":" took ",\"outcome\":\"" outcome "\",\"route\":\"main\"," rest "}"
#define ATTEMPT(state, class, from, out, to, more) \
    "{\"target\":\"a/m\",\"state\":\"" state       \
    "\",\"class\":\"" class "\",\"started_ms\":" from ",\"first_output_ms\":" out ",\"ended_ms\":" to more "}"

/* The bar of the first call. */
static const char *bar(const char *json)
{
    static char line[200];
    char *at = strstr(view(ledger_view_session, json, &plain), "00:00:00  ");
    assert_non_null(at);
    snprintf(line, sizeof(line), "%.46s", at + 10);
    line[strcspn(line, " ")] = '\0';
    return line;
}

static void widths_are_by_time(void **state)
{
    (void)state;
    /* 40 cells for 40 s */
    assert_string_equal(
        bar(ONE(CALL("40000", "complete",
                     "\"attempts\":[" ATTEMPT("complete", "none", "0", "10000", "40000", "") "]"))),
        "----------==============================");
}

static void a_break_a_pause_and_what_went_on_stand_in_order(void **state)
{
    (void)state;
    assert_string_equal(
        bar(ONE(CALL("40000", "continued",
                     "\"pauses\":[{\"state\":\"waiting\",\"from_ms\":10000,\"to_ms\":14000},"
                     "{\"state\":\"holding\",\"from_ms\":14000,\"to_ms\":20000}],"
                     "\"attempts\":[" ATTEMPT("failed", "cut", "0", "4000", "10000", "") "," ATTEMPT(
                         "complete", "none", "20000", "24000", "40000", ",\"continues\":true") "]"))),
        "----=====x....~~~~~~>---================");
}

static void a_second_start_that_won_takes_over(void **state)
{
    (void)state;
    assert_string_equal(
        bar(ONE(CALL("40000", "complete",
                     "\"attempts\":[" ATTEMPT("cancelled", "none", "0", "0", "30000", "") "," ATTEMPT(
                         "complete", "none", "20000", "30000", "40000", ",\"hedge\":true") "]"))),
        "--------------------|---------==========");
}

static void a_second_start_that_lost_is_told_in_words(void **state)
{
    (void)state;
    const char *json =
        ONE(CALL("40000", "complete",
                 "\"attempts\":[" ATTEMPT("complete", "none", "0", "20000", "40000", "") "," ATTEMPT(
                     "cancelled", "none", "10000", "0", "20000", ",\"hedge\":true") "]"));
    assert_string_equal(bar(json), "--------------------====================");
    has(view(ledger_view_session, json, &plain), "| a/m at 10.0s: cancelled, started as a second one");
}

static void a_client_that_left_is_seen(void **state)
{
    (void)state;
    const char *text = bar(ONE(CALL(
        "40000", "client_gone", "\"attempts\":[" ATTEMPT("cancelled", "none", "0", "20000", "40000", "") "]")));
    assert_string_equal(text, "--------------------===================o");
}

static void a_short_call_is_seen_beside_a_long_one(void **state)
{
    (void)state;
    const char *text =
        bar(ONE(CALL("10000", "complete",
                     "\"attempts\":[" ATTEMPT("complete", "none", "0", "5000", "10000",
                                              "") "]") "," CALL("1000000", "complete", "\"attempts\":[]")));
    assert_string_equal(text, "--==");
}

static void a_call_of_no_time_has_its_marks(void **state)
{
    (void)state;
    assert_string_equal(
        bar(ONE(CALL("0", "error", "\"attempts\":[" ATTEMPT("failed", "server_error", "0", "0", "0", "") "]"))),
        "!");
    assert_string_equal(bar(ONE(CALL("0", "error", "\"x\":0"))), "");
}

static void failures_costs_and_guesses_are_told(void **state)
{
    (void)state;
    const char *text =
        view(ledger_view_session,
             "{\"session\":\"s-1\",\"name\":\"night\",\"calls\":3,\"attempts\":5,\"failed\":3,\"failures\":{"
             "\"cut\":1,\"stalled\":2},"
             "\"billed_in\":7,\"billed_out\":8,\"estimated\":1,\"cost_usd\":null,\"known_usd\":0.25,\"list\":[]}",
             &plain);
    has(text, "session s-1  night\n");
    has(text, "3 calls, 5 attempts, 3 failed (cut 1, stalled 2)\n");
    has(text, "~7+8 billed; $0.250000+?");
    has(text, "the newest 0 calls");
    text = view(ledger_view_session, "{\"session\":\"s-1\",\"cost_usd\":12.345,\"list\":[]}", &plain);
    has(text, "0+0 billed; $12.3");
    text =
        view(ledger_view_session, "{\"session\":\"s-1\",\"cost_usd\":null,\"known_usd\":0.0,\"list\":[]}", &plain);
    has(text, "billed; ?\n");
}

static void the_table_has_a_row_for_each(void **state)
{
    (void)state;
    const char *text = view(ledger_view_list,
                            "{\"sessions\":[{\"session\":\"s-1\",\"name\":\"a\",\"last_ms\":99000,\"calls\":12,"
                            "\"held_ms\":61000,\"cost_usd\":0.5},{\"session\":\"s-2\",\"last_ms\":200000}]}",
                            &plain);
    has(text, "SESSION");
    has(text, "1.0s     12");
    has(text, "1m01s");
    has(text, "$0.500000\n");
    has(text, "s-2 ");
    has(text, " 0ms ");
    has(view(ledger_view_list, "{\"sessions\":[]}", &plain), "no session yet");
}

static void what_could_move_the_cursor_is_not_printed(void **state)
{
    (void)state;
    const struct ledger_look look = {.utf8 = false};
    const char *text =
        view(ledger_view_session,
             "{\"session\":\"s-\\u001b[2J\",\"name\":\"a\\u001b]0;x\\u0007\xc2\x9b"
             "\",\"failures\":{\"c\\u001b\xc2\x9b\x7f\":1},"
             "\"list\":[{\"route\":\"\\u001b[1m\",\"outcome\":\"\xff\",\"attempts\":[{\"target\":\"\\n\\r\x7f\","
             "\"class\":\"\\u0008\"}]}]}",
             &look);
    for (const char *p = text; *p; p++)
        if ((*p < ' ' && *p != '\n') || *p > '~')
            fail_msg("byte %d at %ld", *p, (long)(p - text));
}

static void colours_and_lines_are_only_for_who_has_them(void **state)
{
    (void)state;
    const char *json =
        ONE(CALL("1000", "complete", "\"attempts\":[" ATTEMPT("complete", "none", "0", "500", "1000", "") "]"));
    const struct ledger_look fine = {.utf8 = true}, bright = {.utf8 = true, .colour = true};
    assert_null(strstr(view(ledger_view_session, json, &fine), "\033["));
    has(view(ledger_view_session, json, &fine), "\u2500\u2500");
    has(view(ledger_view_session, json, &bright), "\033[32m\u2501\033[0m");
    for (const char *p = view(ledger_view_session, json, &plain); *p; p++)
        assert_true(*p == '\n' || (*p >= ' ' && *p <= '~'));
}

static void what_is_no_ledger_is_said_to_be_none(void **state)
{
    (void)state;
    struct buf out = {0};
    static const char *const bad[] = {
        "", "hello", "[]", "{}", "{\"sessions\":{}}", "{\"list\":1}", "{\"list\":[}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(ledger_view_list(span_str(bad[i]), &plain, &out), PD_INVALID);
        assert_int_equal(ledger_view_session(span_str(bad[i]), &plain, &out), PD_INVALID);
    }
    assert_int_equal(buf_size(&out), 0);
    buf_done(&out);
}

static void a_bar_is_bounded(void **state)
{
    (void)state;
    static char json[64 * 1024];
    size_t n = (size_t)snprintf(json, sizeof(json), "{\"session\":\"s\",\"list\":[{\"took_ms\":5,\"attempts\":[");
    for (int i = 0; i < 200; i++)
        n += (size_t)snprintf(json + n, sizeof(json) - n, "%s" ATTEMPT("failed", "cut", "0", "1", "9000000", ""),
                              i ? "," : "");
    snprintf(json + n, sizeof(json) - n, "]}]}");
    char *at = strstr(view(ledger_view_session, json, &plain), "00:00:00  ");
    assert_non_null(at);
    assert_int_equal(strcspn(at + 10, " \n"), 72);
}

static pd_err both(void *ctx)
{
    (void)ctx;
    struct buf out = {0};
    pd_err e = ledger_view_list(SPAN_LIT("{\"sessions\":[{\"session\":\"s-1\"}]}"), &plain, &out);
    if (!e)
        e = ledger_view_session(
            SPAN_LIT(
                ONE(CALL("9", "complete", "\"attempts\":[" ATTEMPT("complete", "none", "0", "5", "9", "") "]"))),
            &plain, &out);
    buf_done(&out);
    return e;
}

static void it_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(both, NULL) > 0);
}

static unsigned widest(const char *text)
{
    unsigned most = 0;
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        most = n > most ? (unsigned)n : most;
    }
    return most;
}

static const char sessions_of_all_sizes[] =
    "{\"sessions\":[{\"session\":\"s-0123456789abcdef\",\"name\":\"a name of a session that is as long as a name "
    "may be, and longer\",\"calls\":1234567,\"attempts\":7654321,\"held_ms\":90000,\"billed_in\":123456789012,"
    "\"billed_out\":9876543210,\"estimated\":1,\"known_usd\":123456.5,\"cost_usd\":null},"
    "{\"session\":\"s-1\",\"calls\":1,\"cost_usd\":0}]}";

static void columns_are_as_wide_as_what_stands_in_them(void **state)
{
    (void)state;
    const char *text = view(ledger_view_list, sessions_of_all_sizes, &plain);
    has(text, "a name of a session that is as long as a name may be, and longer");
    has(text, "~123456789012+9876543210  $123456.50+?\n");
    size_t n = strcspn(text, "\n");
    for (; *text; text += n + 1)
        assert_int_equal(strcspn(text, "\n"), n);
}

static void a_narrow_terminal_gets_what_matters_most(void **state)
{
    (void)state;
    struct ledger_look look = plain;
    unsigned left_out = 0;
    for (look.width = 200; look.width >= 32; look.width--) {
        const char *text = view(ledger_view_list, sessions_of_all_sizes, &look);
        assert_true(widest(text) <= look.width);
        has(text, "s-0123456789abcdef");
        bool held = strstr(text, "HELD") != NULL, calls = strstr(text, "CALLS") != NULL;
        assert_true(calls || !held); /* that leaves later */
        left_out += !held;
        if (look.width >= 80) {
            has(text, "COST");
            has(text, "TOKENS");
            has(text, "a name of a");
        }
    }
    assert_true(left_out > 20);
    look.width = 100;
    assert_non_null(
        strstr(view(ledger_view_list, sessions_of_all_sizes, &look), "~  ")); /* a name that was cut says so */
}

static const char calls_of_all_sizes[] = ONE(CALL(
    "3600000", "cut_before_output",
    "\"billed_in\":123456789,\"billed_out\":9876543,\"cost_usd\":12.5,"
    "\"attempts\":[" ATTEMPT("failed", "overloaded", "0", "0", "1000", ",\"status\":529") "," ATTEMPT(
        "failed", "overloaded", "2000", "0", "3000",
        ",\"status\":529") "," ATTEMPT("failed", "overloaded", "4000", "0", "5000",
                                       ",\"status\":529") "," ATTEMPT("failed", "overloaded", "6000", "0", "7000",
                                                                      ",\"status\":503") "," ATTEMPT("failed",
                                                                                                     "cut", "8000",
                                                                                                     "9000",
                                                                                                     "3600000",
                                                                                                     "") "]") ",{"
                                                                                                              "\"b"
                                                                                                              "ega"
                                                                                                              "n_"
                                                                                                              "ms"
                                                                                                              "\":"
                                                                                                              "100"
                                                                                                              "0,"
                                                                                                              "\"t"
                                                                                                              "ook"
                                                                                                              "_ms"
                                                                                                              "\":"
                                                                                                              "10,"
                                                                                                              "\"o"
                                                                                                              "utc"
                                                                                                              "ome"
                                                                                                              "\":"
                                                                                                              "\"c"
                                                                                                              "omp"
                                                                                                              "let"
                                                                                                              "e\""
                                                                                                              ",\""
                                                                                                              "rou"
                                                                                                              "te"
                                                                                                              "\":"
                                                                                                              "\"a"
                                                                                                              "-ro"
                                                                                                              "ute"
                                                                                                              "-wi"
                                                                                                              "th-"
                                                                                                              "a-"
                                                                                                              "nam"
                                                                                                              "e-"
                                                                                                              "as-"
                                                                                                              "lon"
                                                                                                              "g-"
                                                                                                              "as-"
                                                                                                              "the"
                                                                                                              "y-"
                                                                                                              "com"
                                                                                                              "e-"
                                                                                                              "and"
                                                                                                              "-mo"
                                                                                                              "re"
                                                                                                              "\","
                                                                                                              "\"a"
                                                                                                              "tte"
                                                                                                              "mpt"
                                                                                                              "s\""
                                                                                                              ":"
                                                                                                              "[" ATTEMPT(
                                                                                                                  "complete",
                                                                                                                  "none",
                                                                                                                  "0",
                                                                                                                  "1",
                                                                                                                  "10",
                                                                                                                  "") "]}");

/* Where the outcomes of the two calls stand in their lines. */
static void words_of_calls_stand_below_each_other(void **state)
{
    (void)state;
    struct ledger_look look = plain;
    for (look.width = 0; look.width < 220; look.width += look.width ? 1 : 60) {
        const char *text = view(ledger_view_session, calls_of_all_sizes, &look);
        const char *a = strstr(text, "cut_before_output"), *b = strstr(text, "complete  "), *from_a = a,
                   *from_b = b;
        assert_non_null(a);
        assert_non_null(b);
        while (from_a[-1] != '\n')
            from_a--;
        while (from_b[-1] != '\n')
            from_b--;
        assert_int_equal(a - from_a, b - from_b);
        if (look.width)
            assert_true(strcspn(from_a, "\n") <= (look.width > 72 ? look.width : 72));
        has(text, "$12.50\n");
    }
}

static void attempts_that_failed_alike_are_one_line(void **state)
{
    (void)state;
    const char *text = view(ledger_view_session, calls_of_all_sizes, &plain);
    has(text, "! a/m at 1.0s to 5.0s, 3 times: overloaded (status 529)\n");
    has(text, "! a/m at 7.0s: overloaded (status 503)\n");
    has(text, "x a/m at 1h00m: cut\n");
}

static void calls_of_several_days_have_their_dates(void **state)
{
    (void)state;
    assert_null(strstr(view(ledger_view_session, calls_of_all_sizes, &plain), "01-01"));
    const char *text = view(ledger_view_session,
                            "{\"session\":\"s-1\",\"list\":[{\"began_ms\":1000,\"took_ms\":1},"
                            "{\"began_ms\":172801000,\"took_ms\":1}]}",
                            &plain);
    has(text, "01-01 00:00:01  ");
    has(text, "01-03 00:00:01  ");
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_what_stands_in_them),
        cmocka_unit_test(a_narrow_terminal_gets_what_matters_most),
        cmocka_unit_test(words_of_calls_stand_below_each_other),
        cmocka_unit_test(attempts_that_failed_alike_are_one_line),
        cmocka_unit_test(calls_of_several_days_have_their_dates),
        cmocka_unit_test(widths_are_by_time),
        cmocka_unit_test(a_break_a_pause_and_what_went_on_stand_in_order),
        cmocka_unit_test(a_second_start_that_won_takes_over),
        cmocka_unit_test(a_second_start_that_lost_is_told_in_words),
        cmocka_unit_test(a_client_that_left_is_seen),
        cmocka_unit_test(a_short_call_is_seen_beside_a_long_one),
        cmocka_unit_test(a_call_of_no_time_has_its_marks),
        cmocka_unit_test(failures_costs_and_guesses_are_told),
        cmocka_unit_test(the_table_has_a_row_for_each),
        cmocka_unit_test(what_could_move_the_cursor_is_not_printed),
        cmocka_unit_test(colours_and_lines_are_only_for_who_has_them),
        cmocka_unit_test(what_is_no_ledger_is_said_to_be_none),
        cmocka_unit_test(a_bar_is_bounded),
        cmocka_unit_test(it_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
