/* Base64 both ways: the vectors of RFC 4648, what is refused, and every length. */
#include "parse/base64.h"
#include "test.h"
#include "torture.h"

static const struct row {
    const char *bytes, *text;
} rows[] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xff\xef\xbe", "/+++"},
};

static void the_standards_vectors(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_clear(&b);
        assert_int_equal(base64_encode(span_str(rows[i].bytes), &b), PD_OK);
        assert_true(span_is(buf_span(&b), rows[i].text));
        buf_clear(&b);
        assert_int_equal(base64_decode(span_str(rows[i].text), &b), PD_OK);
        assert_true(span_is(buf_span(&b), rows[i].bytes));
    }
    buf_done(&b);
}

static void what_has_more_than_one_reading_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z",    "Zg",   "Zg=",  "Zg=a",  "Z===", "====",     "=",        "Zm9=v",
        "Zh==", "Zm9=", "Zm 9", "Zm9\n", "Zm-_", "Zg==Zg==", "Zm9vZ===", "\xc3\xa4\xc3\xa4"};
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(buf_puts(&b, "kept"), PD_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (base64_decode(span_str(bad[i]), &b) != PD_SYNTAX)
            fail_msg("%s was read", bad[i]);
        assert_true(span_is(buf_span(&b), "kept"));
    }
    buf_done(&b);
}

static void every_length_comes_back(void **state)
{
    (void)state;
    char bytes[100];
    struct buf text, back;
    buf_init(&text, 0);
    buf_init(&back, 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 37 + 200);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        buf_clear(&text);
        buf_clear(&back);
        assert_int_equal(base64_encode(span_of(bytes, n), &text), PD_OK);
        assert_int_equal(buf_size(&text), (n + 2) / 3 * 4);
        assert_int_equal(base64_decode(buf_span(&text), &back), PD_OK);
        assert_true(span_eq(buf_span(&back), span_of(bytes, n)));
    }
    buf_done(&text);
    buf_done(&back);
}

static void limits_hold(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 3);
    assert_int_equal(base64_encode(SPAN_LIT("a"), &b), PD_TOOBIG);
    assert_int_equal(base64_decode(SPAN_LIT("Zm9vYmFy"), &b), PD_TOOBIG);
    assert_int_equal(buf_size(&b), 0);
    buf_done(&b);
}

static pd_err both_ways(void *ctx)
{
    struct buf text, back;
    buf_init(&text, 0);
    buf_init(&back, 0);
    pd_err e = base64_encode(span_str(ctx), &text);
    if (!e)
        e = base64_decode(buf_span(&text), &back);
    buf_done(&text);
    buf_done(&back);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char in[] = "some bytes";
    assert_true(torture(both_ways, in) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standards_vectors),
        cmocka_unit_test(what_has_more_than_one_reading_is_refused),
        cmocka_unit_test(every_length_comes_back),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
