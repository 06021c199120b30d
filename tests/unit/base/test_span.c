#include "base/span.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include "test.h"

static void equality_is_of_bytes_and_length(void **state)
{
    (void)state;
    assert_true(span_is(SPAN_LIT("abc"), "abc"));
    assert_false(span_is(SPAN_LIT("abc"), "ab"));
    assert_false(span_is(SPAN_LIT("ab"), "abc"));
    assert_true(span_eq(SPAN_NONE, SPAN_LIT("")));
    assert_false(span_eq(SPAN_LIT("a\0b"), SPAN_LIT("a\0c")));
    assert_true(span_is(span_str(NULL), ""));
    assert_true(span_starts(SPAN_LIT("abc"), "ab") && span_starts(SPAN_LIT("abc"), ""));
    assert_false(span_starts(SPAN_LIT("a"), "ab"));
    assert_true(span_ends(SPAN_LIT("abc"), "bc"));
    assert_false(span_ends(SPAN_LIT("c"), "bc"));
}

static void case_is_ignored_for_ascii_letters_only(void **state)
{
    (void)state;
    assert_true(span_iis(SPAN_LIT("Content-TYPE"), "content-type"));
    assert_false(span_iis(SPAN_LIT("content-typ"), "content-type"));
    assert_false(span_iis(SPAN_LIT("@["), "`{")); /* 0x20 apart, but no letters */
    assert_false(span_iis(SPAN_LIT("\xc3\x89"), "\xc3\xa9"));
    assert_true(span_ihas(SPAN_LIT("Please Retry later"), "retry LATER"));
    assert_true(span_ihas(SPAN_LIT("x"), ""));
    assert_false(span_ihas(SPAN_LIT("retr"), "retry"));
    assert_true(span_has(SPAN_LIT("abcabd"), "abd"));
    assert_false(span_has(SPAN_LIT("abcABD"), "abd"));
    assert_false(span_has(SPAN_NONE, "a"));
    assert_true(span_has(SPAN_NONE, ""));
}

/* At every place of every length up to three steps of the vector loop. */
static void only_what_can_be_printed_is_printable(void **state)
{
    (void)state;
    char text[48];
    for (size_t n = 0; n <= sizeof(text); n++) {
        memset(text, 'x', sizeof(text));
        assert_true(span_printable(span_of(text, n)));
        for (size_t at = 0; at < n; at++)
            for (unsigned c = 0; c < 256; c++) {
                text[at] = (char)c;
                assert_int_equal(span_printable(span_of(text, n)), c >= 0x20 && c != 0x7f);
                text[at] = 'x';
            }
    }
}

static void cutting_and_trimming_stay_inside(void **state)
{
    (void)state;
    struct span s = SPAN_LIT("abc");
    assert_true(span_is(span_from(s, 1), "bc") && span_is(span_from(s, 3), "") && span_is(span_from(s, 9), ""));
    assert_true(span_is(span_upto(s, 2), "ab") && span_is(span_upto(s, 9), "abc"));
    assert_true(span_is(span_trim(SPAN_LIT(" \t\r\n a b \n")), "a b"));
    assert_true(span_is(span_trim(SPAN_LIT("  ")), ""));
    assert_int_equal(span_trim(SPAN_NONE).n, 0);
}

static void a_list_is_cut_at_each_separator(void **state)
{
    (void)state;
    struct span rest = SPAN_LIT("a,,b,");
    assert_true(span_is(span_cut(&rest, ','), "a") && rest.p);
    assert_true(span_is(span_cut(&rest, ','), "") && rest.p);
    assert_true(span_is(span_cut(&rest, ','), "b") && rest.p);
    assert_true(span_is(span_cut(&rest, ','), ""));
    assert_null(rest.p);
    assert_int_equal(rest.n, 0);
}

static void numbers_are_digits_that_fit(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool is;
        uint64_t value;
    } rows[] = {
        {"0", true, 0},
        {"007", true, 7},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"18446744073709551620", false, 0},
        {"99999999999999999999999", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1a", false, 0},
        {"0x1", false, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t got = 99;
        bool is = span_u64(span_str(rows[i].in), &got);
        if (is != rows[i].is || got != (is ? rows[i].value : 99))
            fail_msg("\"%s\"", rows[i].in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality_is_of_bytes_and_length),
        cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(only_what_can_be_printed_is_printable),
        cmocka_unit_test(cutting_and_trimming_stay_inside),
        cmocka_unit_test(a_list_is_cut_at_each_separator),
        cmocka_unit_test(numbers_are_digits_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
