/* JSON numbers are what they say, however they are spelled. */
#include "validate/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "test.h"

static struct number read(const char *s)
{
    struct number n;
    if (!number_read((struct json){JSON_NUMBER, span_str(s)}, &n))
        fail_msg("%s is not read", s);
    return n;
}

static void numbers_are_ordered_by_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int order;
    } rows[] = {
        {"1", "1.0", 0},
        {"1e2", "100", 0},
        {"100", "1E+2", 0},
        {"0.001", "1e-3", 0},
        {"0", "-0", 0},
        {"0.0", "0e5", 0},
        {"1200", "12e2", 0},
        {"10.10", "10.1", 0},
        {"9007199254740993", "9007199254740992", 1},
        {"0.1", "0.10000000000000000001", -1},
        {"-1", "1", -1},
        {"-2", "-1", -1},
        {"0", "-1", 1},
        {"0", "0.5", -1},
        {"99", "100", -1},
        {"0.09", "0.1", -1},
        {"1e30", "9e29", 1},
        {"123", "1234e-1", -1},
        {"0e0000000000000", "0", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct number a = read(rows[i].a), b = read(rows[i].b);
        int x = number_compare(&a, &b), y = number_compare(&b, &a);
        if ((x > 0) - (x < 0) != rows[i].order || (y > 0) - (y < 0) != -rows[i].order)
            fail_msg("%s and %s: %d %d", rows[i].a, rows[i].b, x, y);
    }
}

static void whole_numbers_are_known(void **state)
{
    (void)state;
    static const char *const whole[] = {"0", "0.0", "-3", "3.0", "1e3", "1.5e1", "120", "1200e-2", "1e300"};
    static const char *const broken[] = {"0.5", "1.5", "1e-1", "121e-1", "-0.01"};
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        struct number n = read(whole[i]);
        if (!number_is_whole(&n))
            fail_msg("%s", whole[i]);
    }
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct number n = read(broken[i]);
        if (number_is_whole(&n))
            fail_msg("%s", broken[i]);
    }
}

static void multiples_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *n, *of;
        int is;
    } rows[] = {
        {"10", "5", 1},
        {"11", "5", 0},
        {"0", "3", 1},
        {"1.1", "0.1", 1},
        {"0.3", "0.1", 1},
        {"0.35", "0.1", 0},
        {"-9", "3", 1},
        {"1e300", "7", 0},
        {"4.5", "1.5", 1},
        {"35", "1.5", 0},
        {"1e300", "2", 1},
        {"12391239123", "1e-8", 1},
        {"7", "0", -1},
        {"1e600", "3", -1},
        {"100", "1e3", 0},
        {"5000", "1e3", 1},
        {"1", "-1", 1},
        {"0.0075", "0.0001", 1},
        {"0.00751", "0.0001", 0},
        {"1", "1234567890123456789", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct number n = read(rows[i].n), of = read(rows[i].of);
        if (number_is_multiple(&n, &of) != rows[i].is)
            fail_msg("%s of %s", rows[i].n, rows[i].of);
    }
}

static void what_is_no_number_is_not_read(void **state)
{
    (void)state;
    static const char *const rows[] = {"", "-", ".", "1e", "1e+", "1.2.3", "1-2", "1e5e5", "1e12345678901"};
    struct number n;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (number_read((struct json){JSON_NUMBER, span_str(rows[i])}, &n))
            fail_msg("%s", rows[i]);
    assert_false(number_read((struct json){JSON_STRING, SPAN_LIT("\"1\"")}, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_ordered_by_what_they_say),
        cmocka_unit_test(whole_numbers_are_known),
        cmocka_unit_test(multiples_are_exact),
        cmocka_unit_test(what_is_no_number_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
