/* A pattern is answered as ECMAScript means it, or not at all. */
#include "torture.h"
#include "validate/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "test.h"

static const struct row {
    const char *pattern, *text;
    enum pattern_answer answer;
} rows[] = {
    {"", "x", PATTERN_YES},
    {"^a*$", "aaa", PATTERN_YES},
    {"^a*$", "aab", PATTERN_NO},
    {"a+", "xxaayy", PATTERN_YES}, /* anywhere */
    {"^a$", "a\n", PATTERN_NO},    /* $ is the end and nothing else */
    {"^\\d{3}-\\d{4}$", "555-1234", PATTERN_YES},
    {"^\\d$", "\xd9\xa3", PATTERN_NO}, /* an Arabic digit */
    {"^.$", "\xc3\xa4", PATTERN_YES},  /* characters, not bytes */
    {"^\\u00e4$", "\xc3\xa4", PATTERN_YES},
    {"^[^]$", "\n", PATTERN_YES}, /* any character */
    {"[]", "a", PATTERN_NO},      /* none */
    {"^(?<year>\\d+)\\k", "1", PATTERN_CANNOT_TELL},
    {"^(?:ab|c)(?!d)", "abe", PATTERN_YES},
    {"^\\s$", " ", PATTERN_YES},
    {"^\\s$", "\xc2\xa0", PATTERN_CANNOT_TELL}, /* a space to ECMAScript alone */
    {"(", "x", PATTERN_CANNOT_TELL},
    {"a\\", "a", PATTERN_CANNOT_TELL},
    {"\\Aa", "a", PATTERN_CANNOT_TELL},
    {"(?i)A", "a", PATTERN_CANNOT_TELL},
    {"(*FAIL)", "a", PATTERN_CANNOT_TELL},
    {"(?R)", "a", PATTERN_CANNOT_TELL},
    {"^[[:alpha:]]$", "a", PATTERN_CANNOT_TELL},
    {"^x{,3}$", "x", PATTERN_CANNOT_TELL},
    {"^\xff$", "x", PATTERN_CANNOT_TELL},
    {"x", "\xff", PATTERN_CANNOT_TELL},
    {"^(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", PATTERN_CANNOT_TELL}, /* would take for ever */
    {"^(a+)+$", "aaaaaaaaaaaaaaaab", PATTERN_CANNOT_TELL},                         /* longer than is worth it */
    {"^\\p{L}+$", "\xc3\xa4", PATTERN_CANNOT_TELL},
};

static void patterns_are_answered_as_ecmascript_means_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum pattern_answer got;
        assert_int_equal(pattern_match(span_str(rows[i].pattern), span_str(rows[i].text), &got), PD_OK);
        if (got != rows[i].answer)
            fail_msg("%s on %s: %d", rows[i].pattern, rows[i].text, (int)got);
    }
}

static void what_is_too_long_is_not_answered(void **state)
{
    (void)state;
    static char text[PATTERN_BYTES_MAX + 1];
    enum pattern_answer got;
    memset(text, 'a', sizeof(text));
    assert_int_equal(pattern_match(SPAN_LIT("b"), span_of(text, PATTERN_TEXT_MAX), &got), PD_OK);
    assert_int_equal(got, PATTERN_NO);
    assert_int_equal(pattern_match(SPAN_LIT("b"), span_of(text, PATTERN_TEXT_MAX + 1), &got), PD_OK);
    assert_int_equal(got, PATTERN_CANNOT_TELL);
    assert_int_equal(pattern_match(span_of(text, PATTERN_BYTES_MAX), SPAN_LIT("b"), &got), PD_OK);
    assert_int_equal(got, PATTERN_NO);
    assert_int_equal(pattern_match(span_of(text, PATTERN_BYTES_MAX + 1), SPAN_LIT("b"), &got), PD_OK);
    assert_int_equal(got, PATTERN_CANNOT_TELL);
    assert_int_equal(pattern_match(span_of("a\0", 2), SPAN_LIT("b"), &got), PD_OK);
    assert_int_equal(got, PATTERN_CANNOT_TELL);
}

static pd_err once(void *ctx)
{
    enum pattern_answer got;
    (void)ctx;
    return pattern_match(SPAN_LIT("^(a|b)*c$"), SPAN_LIT("ababc"), &got);
}

static void it_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(once, NULL) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_answered_as_ecmascript_means_them),
        cmocka_unit_test(what_is_too_long_is_not_answered),
        cmocka_unit_test(it_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
