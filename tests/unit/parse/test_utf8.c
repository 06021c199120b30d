#include "parse/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include "test.h"

static const struct row {
    const char *name, *in;
    bool valid;
} rows[] = {
    {"nothing", "", true},
    {"ASCII", "hello, and more than eight bytes", true},
    {"two, three and four bytes", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", true},
    {"the first of each length", "\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80", true},
    {"the last of each length", "\xdf\xbf\xef\xbf\xbf\xf4\x8f\xbf\xbf", true},
    {"around the surrogates", "\xed\x9f\xbf\xee\x80\x80", true},
    {"a surrogate", "\xed\xa0\x80", false},
    {"the last surrogate", "\xed\xbf\xbf", false},
    {"overlong, two bytes", "\xc1\xbf", false},
    {"overlong, three bytes", "\xe0\x9f\xbf", false},
    {"overlong, four bytes", "\xf0\x8f\xbf\xbf", false},
    {"above U+10FFFF", "\xf4\x90\x80\x80", false},
    {"five bytes", "\xf8\x88\x80\x80\x80", false},
    {"a continuation alone", "abc\x80", false},
    {"cut after the first of two", "abcdefgh\xc3", false},
    {"cut after the third of four", "abc\xf0\x9f\x98", false},
    {"a lead byte in place of a continuation", "\xe2\xc3\xa9", false},
    {"a bad byte far behind ASCII", "0123456789abcdef0123456789abcde\xff", false},
};

static void only_what_rfc_3629_allows_is_valid(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (utf8_valid(span_str(rows[i].in)) != rows[i].valid)
            fail_msg("%s", rows[i].name);
}

static void a_bad_byte_is_found_at_every_place(void **state)
{
    (void)state;
    char text[40];
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        text[at] = '\x80';
        assert_false(utf8_valid(span_of(text, sizeof(text))));
    }
}

/* Splits every valid row everywhere: the whole part is valid, and with the next byte or two it goes on. */
static void a_cut_inside_a_character_is_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span all = span_str(rows[i].in);
        for (size_t cut = 0; rows[i].valid && cut <= all.n; cut++) {
            size_t whole = utf8_whole(span_upto(all, cut));
            assert_true(whole <= cut && cut - whole <= 3);
            assert_true(utf8_valid(span_upto(all, whole)));
            if (whole < cut)
                assert_true(whole + utf8_next(span_from(all, whole)) > cut);
        }
    }
}

static void bytes_that_can_become_nothing_are_not_held_back(void **state)
{
    (void)state;
    assert_int_equal(utf8_whole(SPAN_LIT("ab\x80")), 3);
    assert_int_equal(utf8_whole(SPAN_LIT("ab\xff")), 3);
    assert_int_equal(utf8_whole(SPAN_LIT("ab\xe0\x80")), 4); /* overlong, whatever comes */
    assert_int_equal(utf8_whole(SPAN_LIT("ab\xf0\x9f")), 2);
    assert_int_equal(utf8_whole(SPAN_LIT("")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_rfc_3629_allows_is_valid),
        cmocka_unit_test(a_bad_byte_is_found_at_every_place),
        cmocka_unit_test(a_cut_inside_a_character_is_seen),
        cmocka_unit_test(bytes_that_can_become_nothing_are_not_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
