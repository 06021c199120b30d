#include "base/mem.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

static void what_is_allocated_is_counted_until_it_is_freed(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    uint64_t made = mem_count();
    void *a = mem_alloc(0), *b = mem_zalloc(16), *c = mem_calloc(3, 5);
    char *d = mem_strdup("text"), *e = mem_strndup("text", 2), *f = mem_realloc(NULL, 8);
    assert_true(a && b && c && d && e && f);
    assert_int_equal(mem_blocks(), blocks + 6);
    assert_int_equal(mem_count(), made + 6);
    assert_string_equal(d, "text");
    assert_string_equal(e, "te");
    assert_memory_equal(b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);

    f = mem_realloc(f, 4000);
    assert_non_null(f);
    assert_int_equal(mem_blocks(), blocks + 6);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(d);
    mem_free(e);
    mem_freep(&f);
    assert_null(f);
    mem_free(NULL);
    assert_int_equal(mem_blocks(), blocks);
}

static long rss_file_kb(void)
{
    char line[200];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        sscanf(line, "RssFile: %ld", &kb);
    if (f)
        fclose(f);
    return kb;
}

/* The test goes on afterwards: that is half of what it shows. */
static void what_only_the_start_needed_is_given_back(void **state)
{
    (void)state;
    long before = rss_file_kb();
    if (before < 0)
        skip();
    mem_trim();
    assert_true(rss_file_kb() < before * 3 / 4);
}

/* AddressSanitizer aborts on a size no malloc can give, unless told to fail as malloc does. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void a_product_that_overflows_is_refused(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    volatile size_t half = SIZE_MAX / 2; /* volatile: the compiler would warn, which is not the point */
    assert_null(mem_calloc(half, 3));
    assert_int_equal(mem_blocks(), blocks);
}

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    size_t blocks = mem_blocks(), capacity = 0;
    mem_fail_at(2);
    void *a = mem_alloc(1);
    assert_non_null(a);
    assert_false(mem_failed());
    assert_null(mem_alloc(1));
    assert_true(mem_failed());
    void *b = mem_alloc(1);
    assert_non_null(b);

    mem_fail_at(1);
    assert_null(mem_zalloc(1));
    mem_fail_at(1);
    assert_null(mem_calloc(1, 1));
    mem_fail_at(1);
    assert_null(mem_strdup("x"));
    mem_fail_at(1);
    assert_null(mem_big_alloc(100000, &capacity));
    assert_int_equal(capacity, 0);
    mem_fail_at(1);
    void *moved = mem_realloc(a, 100);
    assert_null(moved); /* and a is still ours */
    mem_fail_at(0);
    mem_free(a);
    mem_free(b);
    assert_int_equal(mem_blocks(), blocks);
}

static void library_code_that_cannot_fail_is_not_failed_by_tests(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    mem_fail_at(1);
    void *a = mem_lib_alloc(1), *b = mem_lib_calloc(2, 2), *c = mem_lib_realloc(NULL, 3);
    c = mem_lib_realloc(c, 4);
    assert_true(a && b && c && !mem_failed());
    mem_fail_at(0);
    assert_int_equal(mem_blocks(), blocks + 3);
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static void large_blocks_are_used_again(void **state)
{
    (void)state;
    size_t blocks = mem_blocks(), capacity, again;
    mem_big_trim();
    char *p = mem_big_alloc(100000, &capacity);
    assert_non_null(p);
    assert_int_equal(capacity, 128 * 1024);
    memset(p, 'x', capacity);
    assert_int_equal(mem_blocks(), blocks + 1);
    mem_big_free(p, capacity);
    assert_int_equal(mem_blocks(), blocks);

    char *q = mem_big_alloc(70000, &again);
    assert_ptr_equal(q, p);
    assert_int_equal(again, 128 * 1024);
    assert_int_equal(mem_blocks(), blocks + 1);
    mem_big_free(q, again);
    mem_big_trim();
    assert_int_equal(mem_blocks(), blocks);
}

static void the_smallest_and_the_largest_class_have_their_size(void **state)
{
    (void)state;
    size_t capacity = 0;
    void *p = mem_big_alloc(1, &capacity);
    assert_non_null(p);
    assert_int_equal(capacity, 64 * 1024);
    mem_big_free(p, capacity);
    p = mem_big_alloc((64u << 20) + 1, &capacity); /* above every class: an ordinary block */
    assert_non_null(p);
    assert_int_equal(capacity, (64u << 20) + 1);
    mem_big_free(p, capacity);
    mem_big_free(NULL, 0);
    mem_big_trim();
}

/* What malloc has handed out. (AddressSanitizer's malloc says 0, and then this test proves less.) */
static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void the_pool_keeps_32_megabytes_at_most(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    mem_big_trim();
    size_t before = in_use();
    size_t blocks = mem_blocks(), capacity[COUNT];
    void *p[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = mem_big_alloc(8u << 20, &capacity[i]);
        assert_non_null(p[i]);
    }
    for (unsigned i = 0; i < COUNT; i++)
        mem_big_free(p[i], capacity[i]);
    assert_int_equal(mem_blocks(), blocks);
    assert_true(in_use() <= before + (33u << 20));
    mem_big_trim();
    assert_true(in_use() <= before + (1u << 20));
}

static void a_cleaned_up_pointer_can_be_moved_out(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    char *kept = NULL;
    {
        PD_CLEANUP(mem_freep) char *gone = mem_strdup("gone");
        PD_CLEANUP(mem_freep) char *moved = mem_strdup("kept");
        assert_true(gone && moved);
        kept = PD_TAKE(moved);
        assert_null(moved);
    }
    assert_string_equal(kept, "kept");
    assert_int_equal(mem_blocks(), blocks + 1);
    mem_free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_allocated_is_counted_until_it_is_freed),
        cmocka_unit_test(what_only_the_start_needed_is_given_back),
        cmocka_unit_test(a_product_that_overflows_is_refused),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(library_code_that_cannot_fail_is_not_failed_by_tests),
        cmocka_unit_test(large_blocks_are_used_again),
        cmocka_unit_test(the_smallest_and_the_largest_class_have_their_size),
        cmocka_unit_test(the_pool_keeps_32_megabytes_at_most),
        cmocka_unit_test(a_cleaned_up_pointer_can_be_moved_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
