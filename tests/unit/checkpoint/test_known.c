/* What known.h promises: what was scanned before is not scanned again, and nothing else is taken for it. */
#include "checkpoint/known.h"

#include "base/mem.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>

static void is_named(struct known *k, const char *text)
{
    char name[NAME_BYTES], want[NAME_BYTES];
    struct content_name hex;
    assert_int_equal(content_name_of(span_str(text), &hex), PD_OK);
    name_to_bytes(&hex, want);
    assert_int_equal(known_name(k, span_str(text), name), PD_OK);
    assert_memory_equal(name, want, NAME_BYTES);
}

static void what_was_scanned_is_found_again_and_has_the_same_name(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"a\":1}", "{\"a\":2}", "{\"a\":1} ", "[]", "\"\u00e4\""};
    enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };
    struct known *k = known_new();
    struct known_stats s;
    assert_non_null(k);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < TEXTS; i++)
            is_named(k, texts[i]);
        known_stats(k, &s);
        assert_int_equal(s.scanned, TEXTS);
        assert_int_equal(s.found, (round - 1) * TEXTS);
    }
    known_free(k);
}

static void what_is_no_json_is_refused_each_time(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{\"a\":}", "{} {}", "\"\xff\""};
    char name[NAME_BYTES];
    struct known *k = known_new();
    assert_non_null(k);
    for (unsigned i = 0; i < 2 * sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(known_name(k, span_str(texts[i / 2]), name), PD_INVALID);
    is_named(k, "{\"a\":1}");
    known_free(k);
}

/* More than it has room for: what is asked for again and again stays, and all have their own names. */
static void a_full_table_forgets_what_was_not_asked_for(void **state)
{
    (void)state;
    enum { MANY = 100000, EVERY = 100 };
    struct known *k = known_new();
    struct known_stats s;
    assert_non_null(k);
    for (unsigned i = 0; i < MANY; i++) {
        char text[32], name[NAME_BYTES];
        snprintf(text, sizeof(text), "%u", i);
        assert_int_equal(known_name(k, span_str(text), name), PD_OK);
        if (i % EVERY == 0)
            is_named(k, "\"again and again\"");
    }
    known_stats(k, &s);
    assert_int_equal(s.scanned, MANY + 1);
    is_named(k, "0");
    known_stats(k, &s);
    assert_int_equal(s.scanned, MANY + 2); /* forgotten long ago */
    known_free(k);
}

static pd_err work(void *ctx)
{
    (void)ctx;
    char name[NAME_BYTES];
    struct known *k = known_new();
    pd_err e = k ? known_name(k, SPAN_LIT("[1]"), name) : PD_NOMEM;
    known_free(k);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(work, NULL) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_scanned_is_found_again_and_has_the_same_name),
        cmocka_unit_test(what_is_no_json_is_refused_each_time),
        cmocka_unit_test(a_full_table_forgets_what_was_not_asked_for),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests_name("known", tests, NULL, NULL);
}
