#include "base/buf.h"
#include "base/mem.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "test.h"

static void an_empty_buffer_takes_no_memory(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(buf_add(&b, SPAN_NONE), PD_OK);
    assert_int_equal(buf_size(&b), 0);
    assert_int_equal(mem_blocks(), blocks);
    buf_take(&b, 0);
    buf_clear(&b);
    buf_shrink(&b);
    buf_done(&b);
}

/* A queue of numbered bytes, with chunks of many sizes in and out, across the sizes where blocks change. */
static void bytes_leave_in_the_order_they_came(void **state)
{
    (void)state;
    size_t blocks = mem_blocks();
    struct buf b;
    unsigned in = 0, out = 0;
    buf_init(&b, 0);
    for (unsigned round = 0; round < 4000; round++) {
        char chunk[400];
        size_t n = (round * 7919u) % sizeof(chunk);
        for (size_t i = 0; i < n; i++)
            chunk[i] = (char)(in++ % 251);
        assert_int_equal(buf_add(&b, span_of(chunk, n)), PD_OK);
        size_t leave = (round * 104729u) % 390;
        if (leave > buf_size(&b))
            leave = buf_size(&b);
        for (size_t i = 0; i < leave; i++)
            if ((unsigned char)b.p[b.head + i] != out++ % 251)
                fail_msg("round %u: byte %zu", round, i);
        buf_take(&b, leave);
        assert_int_equal(buf_size(&b), in - out);
    }
    buf_done(&b);
    assert_int_equal(mem_blocks(), blocks);
}

static void a_buffer_that_drains_does_not_grow(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    uint64_t made = 0;
    for (unsigned i = 0; i < 10000; i++) {
        if (i == 100)
            made = mem_count();
        assert_int_equal(buf_puts(&b, "0123456789"), PD_OK);
        if (i >= 10)
            buf_take(&b, 10);
    }
    assert_true(b.capacity <= 512);
    assert_true(mem_count() == made);
    buf_done(&b);
}

static void the_limit_holds_for_what_is_inside(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    assert_int_equal(buf_puts(&b, "12345678"), PD_OK);
    assert_int_equal(buf_puts(&b, "abc"), PD_TOOBIG);
    assert_int_equal(buf_printf(&b, "%d", 100), PD_TOOBIG);
    assert_int_equal(buf_reserve(&b, 3), PD_TOOBIG);
    assert_true(span_is(buf_span(&b), "12345678"));
    buf_take(&b, 4);
    assert_int_equal(buf_puts(&b, "abcdef"), PD_OK);
    assert_true(span_is(buf_span(&b), "5678abcdef"));
    assert_int_equal(buf_reserve(&b, SIZE_MAX), PD_TOOBIG);
    buf_done(&b);
    assert_int_equal(b.limit_bytes, 10);
}

static void a_format_of_any_length_arrives_whole(void **state)
{
    (void)state;
    char text[1024];
    memset(text, 'x', sizeof(text));
    for (int n = 0; n <= (int)sizeof(text); n += n < 300 ? 1 : 50) {
        struct buf b;
        buf_init(&b, 0);
        assert_int_equal(buf_printf(&b, "%.*s|", n, text), PD_OK);
        assert_int_equal(buf_printf(&b, "%d", n), PD_OK);
        char want[1100];
        snprintf(want, sizeof(want), "%.*s|%d", n, text, n);
        assert_true(span_is(buf_span(&b), want));
        buf_done(&b);
    }
}

static void room_reserved_can_be_written(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    for (size_t n = 1; n < 300000; n *= 3) {
        assert_int_equal(buf_reserve(&b, n), PD_OK);
        memset(b.p + b.tail, 'r', n);
        buf_added(&b, n);
    }
    for (size_t i = 0; i < buf_size(&b); i++)
        assert_int_equal(b.p[b.head + i], 'r');
    buf_clear(&b);
    assert_true(b.capacity > 0);
    buf_shrink(&b);
    assert_int_equal(b.capacity, 0);
    buf_done(&b);
}

static void shrinking_keeps_what_is_inside(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(buf_puts(&b, "stay"), PD_OK);
    buf_shrink(&b);
    assert_true(span_is(buf_span(&b), "stay"));
    buf_done(&b);
}

static pd_err grow(void *ctx)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = PD_OK;
    for (unsigned i = 0; i < 3000 && !e; i++) {
        size_t before = buf_size(&b);
        e = i % 2 ? buf_puts(&b, ctx) : buf_printf(&b, "%s", (const char *)ctx);
        if (e && buf_size(&b) != before)
            e = PD_OK; /* a failed add must leave nothing: torture() objects to PD_OK */
    }
    buf_done(&b);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char text[] = "0123456789012345678901234567890123456789";
    assert_true(torture(grow, text) >= 5);
}

static void what_grows_piece_by_piece_keeps_little_room_that_it_does_not_use(void **state)
{
    (void)state;
    struct buf b;
    char piece[100];
    buf_init(&b, 0);
    for (unsigned n = 1; n <= 400; n++) {
        memset(piece, (int)('a' + n % 26), sizeof(piece));
        assert_int_equal(buf_add(&b, span_of(piece, sizeof(piece))), PD_OK);
        if (n > 40)
            assert_true(b.capacity <= buf_size(&b) * 3 / 2 + sizeof(piece));
        if (n == 300)
            buf_take(&b, 50); /* what does not begin at the block's beginning is moved there */
    }
    struct span all = buf_span(&b);
    assert_int_equal(all.n, 400 * sizeof(piece) - 50);
    for (size_t i = 0; i < all.n; i++)
        assert_int_equal(all.p[i],
                         'a' + (i + 50) / sizeof(piece) % 26 + 1 - ((i + 50) / sizeof(piece) % 26 == 25) * 26);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_takes_no_memory),
        cmocka_unit_test(what_grows_piece_by_piece_keeps_little_room_that_it_does_not_use),
        cmocka_unit_test(bytes_leave_in_the_order_they_came),
        cmocka_unit_test(a_buffer_that_drains_does_not_grow),
        cmocka_unit_test(the_limit_holds_for_what_is_inside),
        cmocka_unit_test(a_format_of_any_length_arrives_whole),
        cmocka_unit_test(room_reserved_can_be_written),
        cmocka_unit_test(shrinking_keeps_what_is_inside),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
