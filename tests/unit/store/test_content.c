/* A content is stored small, comes back the same, and nothing else passes for it. */
#include "store/content.h"
#include "test.h"
#include "torture.h"

static struct content_name named(struct span s)
{
    struct content_name n;
    assert_int_equal(content_name_of(s, &n), PD_OK);
    return n;
}

static void a_name_is_the_sha256(void **state)
{
    (void)state;
    /* FIPS 180-4's example */
    assert_string_equal(named(SPAN_LIT("abc")).hex,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct content_name n;
    assert_true(
        content_name_read(SPAN_LIT("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), &n));
    assert_false(
        content_name_read(SPAN_LIT("BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), &n));
    assert_false(content_name_read(SPAN_LIT("ba78"), &n));
}

static const struct row {
    const char *name;
    struct span plain;
    size_t most; /* bytes stored */
} rows[] = {
    {"nothing", {"", 0}, 0},
    {"too short to gain", {"abc", 3}, 3},
    {"repeats are stored once", {"abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc", 66}, 30},
    {"plain bytes that look packed", {"\x28\xb5\x2f\xfdhello", 9}, 40},
};

static void what_is_packed_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf stored = {0}, plain = {0};
        struct content_name n = named(rows[i].plain);
        assert_int_equal(content_pack(rows[i].plain, &stored), PD_OK);
        assert_true(buf_size(&stored) <= rows[i].most);
        assert_int_equal(content_unpack(buf_span(&stored), &n, &plain), PD_OK);
        assert_true(span_eq(buf_span(&plain), rows[i].plain));
        buf_done(&stored);
        buf_done(&plain);
    }
}

/* zstd leaves a bit of its header unused: what comes back may be right, but never anything else. */
static void a_changed_byte_never_gives_other_bytes(void **state)
{
    (void)state;
    const char text[] = "one two three one two three one two three one two three one two three";
    struct content_name n = named(span_str(text));
    struct buf stored = {0}, plain = {0};
    size_t seen = 0;
    assert_int_equal(content_pack(span_str(text), &stored), PD_OK);
    for (size_t at = 0; at < buf_size(&stored); at++) {
        char *p = stored.p + stored.head + at;
        *p ^= 1;
        if (content_unpack(buf_span(&stored), &n, &plain))
            seen++;
        else
            assert_true(span_eq(buf_span(&plain), span_str(text)));
        buf_clear(&plain);
        *p ^= 1;
        assert_int_not_equal(content_unpack(span_upto(buf_span(&stored), at), &n, &plain), PD_OK);
    }
    assert_int_equal(content_unpack(buf_span(&stored), &n, &plain), PD_OK);
    assert_true(seen + 1 >= buf_size(&stored));
    buf_done(&stored);
    buf_done(&plain);
}

static pd_err pack_and_back(void *ctx)
{
    struct span s = span_str(ctx);
    struct content_name n;
    struct buf stored = {0}, plain = {0};
    pd_err e = content_name_of(s, &n);
    e = e ? e : content_pack(s, &stored);
    e = e ? e : content_unpack(buf_span(&stored), &n, &plain);
    buf_done(&stored);
    buf_done(&plain);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char in[] = "one two three one two three one two three one two three";
    assert_true(torture(pack_and_back, in) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_the_sha256),
        cmocka_unit_test(what_is_packed_comes_back),
        cmocka_unit_test(a_changed_byte_never_gives_other_bytes),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
