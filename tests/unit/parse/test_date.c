#include "parse/date.h"
#include "test.h"

/* HTTP's dates are tested where they are used first: tests/unit/provider/test_retry_hint.c. */
static const struct row {
    const char *in;
    uint64_t ms; /* 0: none */
} rows[] = {
    {"2026-11-24T07:08:09Z", 1795504089000u},
    {"2026-11-24t07:08:09z", 1795504089000u},
    {" 2026-11-24T07:08:09Z\n", 1795504089000u},
    {"2026-11-24T07:08:09.5Z", 1795504089500u},
    {"2026-11-24T07:08:09.123456789Z", 1795504089123u},
    {"2026-11-24T07:08:09+00:00", 1795504089000u},
    {"2026-11-24T08:38:09+01:30", 1795504089000u},
    {"2026-11-23T23:38:09-0730", 1795504089000u},
    {"2024-02-29T00:00:00Z", 1709164800000u},
    {"2026-02-31T00:00:00Z", 0},
    {"2026-11-24T07:08:09", 0},
    {"2026-11-24", 0},
    {"2026-11-24T07:08Z", 0},
    {"2026-11-24T25:08:09Z", 0},
    {"2026-11-24T07:08:09Zx", 0},
    {"2026-11-24T07:08:09+24:00", 0},
    {"Tue, 24 Nov 2026 07:08:09 GMT", 0},
    {"", 0},
};

static void moments_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t ms = 0;
        bool ok = date_parse_iso(span_str(rows[i].in), &ms);
        if (ok != (rows[i].ms != 0) || ms != rows[i].ms)
            fail_msg("%s: %d %llu", rows[i].in, ok, (unsigned long long)ms);
    }
}

/* Every beginning of a moment is none, and nothing is read behind its end. */
static void a_cut_moment_is_none(void **state)
{
    (void)state;
    static const char whole[] = "2026-11-24T07:08:09.123+01:30";
    for (size_t n = 0; n + 1 < sizeof(whole); n++) {
        uint64_t ms;
        assert_false(date_parse_iso(span_of(whole, n), &ms));
    }
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    char text[DATE_ISO_BYTES];
    uint64_t ms;
    assert_string_equal(date_format_iso(1795504089999u, text), "2026-11-24T07:08:09Z");
    assert_true(date_parse_iso(span_str(text), &ms));
    assert_int_equal(ms, 1795504089000u);
    date_format_iso(UINT64_MAX, text); /* far away is some text */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_read),
        cmocka_unit_test(a_cut_moment_is_none),
        cmocka_unit_test(what_is_written_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
