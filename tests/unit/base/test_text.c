#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "test.h"

static void numbers_read_as_printf_writes_them(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 9, 10, 999, 1000, 1234567, 18446744073709551615u};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char made[96], want[96];
        unsigned long long v = values[i];
        struct text t = text_in(made, sizeof(made));
        text_u64(&t, v);
        text_str(&t, " ");
        text_hex16(&t, v);
        text_str(&t, " ");
        text_thousandths(&t, v);
        snprintf(want, sizeof(want), "%llu %016llx %llu.%03llu", v, v, v / 1000, v % 1000);
        assert_string_equal(made, want);
    }
}

static void what_does_not_fit_is_cut(void **state)
{
    (void)state;
    for (size_t room = 1; room < 12; room++) {
        char made[16];
        memset(made, '#', sizeof(made));
        struct text t = text_in(made, room);
        text_str(&t, "abc");
        text_u64(&t, 123456);
        assert_int_equal(strlen(made), room - 1 < 9 ? room - 1 : 9);
        assert_memory_equal(made, "abc123456", strlen(made));
        assert_int_equal(made[room], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_read_as_printf_writes_them),
                                       cmocka_unit_test(what_does_not_fit_is_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
