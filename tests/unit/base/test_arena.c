#include "base/arena.h"
#include "base/mem.h"
#include "torture.h"

#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>

#include "test.h"

static void pieces_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    struct arena a;
    unsigned char *p[COUNT];
    arena_init(&a, 256, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = arena_alloc(&a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % alignof(max_align_t), 0);
        memset(p[i], (int)(i % 251), i);
    }
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned k = 0; k < i; k++)
            assert_int_equal(p[i][k], i % 251);
    arena_done(&a);
}

static void what_is_zeroed_stays_so_after_a_reset(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0, 0);
    memset(arena_alloc(&a, 100), 'x', 100);
    arena_reset(&a);
    char *p = arena_zalloc(&a, 100);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    arena_done(&a);
}

/* A stream of hours resets its arena after each event: that must not allocate. */
static void a_reset_arena_takes_no_memory_for_the_same_again(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    struct arena a;
    arena_init(&a, 1024, 0);
    assert_int_equal(mem_blocks(), blocks);
    uint64_t made = 0;
    for (unsigned round = 0; round < 50; round++) {
        if (round == 1)
            made = mem_count();
        for (unsigned i = 0; i < 10; i++)
            assert_non_null(arena_alloc(&a, 96));
        assert_int_equal(a.used_bytes, 960);
        arena_reset(&a);
        assert_int_equal(a.used_bytes, 0);
    }
    assert_int_equal(mem_count(), made);
    for (unsigned i = 0; i < 10; i++)
        assert_non_null(arena_alloc(&a, 1000));
    arena_reset(&a);
    assert_int_equal(mem_blocks(), blocks + 1);
    arena_done(&a);
    assert_int_equal(mem_blocks(), blocks);
    arena_done(&a);
}

static void the_limit_counts_all_since_the_last_reset(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 64, 256);
    assert_non_null(arena_alloc(&a, 128));
    assert_non_null(arena_alloc(&a, 128));
    assert_null(arena_alloc(&a, 1));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 256));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 4));
    arena_done(&a);
}

static void text_is_copied_with_a_nul(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0, 0);
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    assert_string_equal(arena_strndup(&a, NULL, 0), "");
    assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
    const struct span parts[] = {SPAN_LIT("ab"), SPAN_NONE, SPAN_LIT("c")};
    assert_string_equal(arena_join(&a, parts, 3), "abc");
    assert_string_equal(arena_join(&a, parts, 2), "ab");
    assert_string_equal(arena_join(&a, NULL, 0), "");
    char source[] = "bytes";
    struct span copy = arena_span(&a, SPAN_LIT("bytes"));
    struct span mine = arena_span(&a, span_of(source, 5));
    source[0] = 'B';
    assert_true(span_is(copy, "bytes") && span_is(mine, "bytes"));
    assert_true(arena_span(&a, SPAN_NONE).n == 0);
    arena_done(&a);
}

static pd_err fill(void *ctx)
{
    struct span text = *(struct span *)ctx;
    struct arena a;
    arena_init(&a, 64, 0);
    pd_err e = PD_OK;
    for (unsigned i = 0; i < 5 && !e; i++)
        if (!arena_alloc(&a, 60) || !arena_join(&a, &text, 1) || !arena_printf(&a, "%.*s", SPAN_FMT(text)) ||
            !arena_span(&a, text).p)
            e = PD_NOMEM;
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct span text = SPAN_LIT("some text that fills a block");
    assert_true(torture(fill, &text) >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_do_not_overlap),
        cmocka_unit_test(what_is_zeroed_stays_so_after_a_reset),
        cmocka_unit_test(a_reset_arena_takes_no_memory_for_the_same_again),
        cmocka_unit_test(the_limit_counts_all_since_the_last_reset),
        cmocka_unit_test(text_is_copied_with_a_nul),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
