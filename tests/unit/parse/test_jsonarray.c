#include "base/buf.h"
#include "base/mem.h"
#include "parse/jsonarray.h"
#include "torture.h"

#include <stdlib.h>

#include "test.h"

/* Items as "<item>", then "]" when the array was closed. */
static const struct row {
    const char *name, *in, *out;
} rows[] = {
    {"nothing", "", ""},
    {"an empty array", "[]", "]"},
    {"white space around", " \r\n[ \n ] \n", "]"},
    {"one object", "[{\"a\":1}]", "<{\"a\":1}>]"},
    {"as it is streamed", "[{\n  \"a\": 1\n}\n,\r\n{\n  \"a\": 2\n}\n]", "<{\n  \"a\": 1\n}><{\n  \"a\": 2\n}>]"},
    {"brackets in strings", "[{\"a\":\"]}[{\"},{\"b\":\"}\"}]", "<{\"a\":\"]}[{\"}><{\"b\":\"}\"}>]"},
    {"quotes in strings", "[{\"a\":\"\\\"}\"},{}]", "<{\"a\":\"\\\"}\"}><{}>]"},
    {"a backslash at a string's end", "[{\"a\":\"\\\\\"},{}]", "<{\"a\":\"\\\\\"}><{}>]"},
    {"nested", "[[1,[2]],{\"a\":[{}]}]", "<[1,[2]]><{\"a\":[{}]}>]"},
    {"scalars", "[1, \"a,]\" ,true\n,null]", "<1><\"a,]\"><true><null>]"},
    {"no comma between", "[{}{}]", "<{}><{}>]"},
    {"the end is missing", "[{\"a\":1}", "<{\"a\":1}>"},
    {"cut in an object", "[{\"a\":1},{\"a", "<{\"a\":1}><{\"a>"},
    {"cut in a number", "[12", "<12>"},
    {"an object and no array", "{\"error\":{}}", "<{\"error\":{}}>"},
    {"a closing bracket of nothing", "]", ""},
    {"text", "upstream error, sorry\nbye", "<upstream error><sorry><bye>"},
    {"text and then an array", "oops\n[{\"a\":1}]", "<oops><{\"a\":1}>]"},
    {"something behind the array", "[{}]\n{\"error\":1}", "<{}><{\"error\":1}>]"},
};

static pd_err put_item(void *ctx, struct span item)
{
    struct buf *out = ctx;
    pd_err e = buf_puts(out, "<");
    if (!e)
        e = buf_add(out, item);
    return e ? e : buf_puts(out, ">");
}

/* Feeds a first piece of `first` bytes and then pieces of `step`, each from memory of its own size. */
static pd_err split(struct span in, size_t first, size_t step, size_t max_item, struct buf *out)
{
    struct jsonarray *j = jsonarray_new(max_item, put_item, out);
    if (!j)
        return PD_NOMEM;
    pd_err e = PD_OK;
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step) {
        if (n > in.n - at)
            n = in.n - at;
        char *piece = malloc(n ? n : 1);
        assert_non_null(piece);
        memcpy(piece, in.p + at, n);
        e = jsonarray_feed(j, span_of(piece, n));
        free(piece);
        assert_true(e || jsonarray_pending(j) <= max_item);
    }
    if (!e)
        e = jsonarray_finish(j);
    if (!e && jsonarray_closed(j))
        e = buf_puts(out, "]");
    j = jsonarray_free(j);
    return e;
}

static void check(const struct row *r, size_t first, size_t step)
{
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(split(span_str(r->in), first, step, 1024, &out), PD_OK);
    if (!span_is(buf_span(&out), r->out))
        fail_msg("%s (cut at %zu, %zu): %.*s", r->name, first, step, SPAN_FMT(buf_span(&out)));
    buf_done(&out);
}

static void items_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check(&rows[i], strlen(rows[i].in), 1);
}

static void same_items_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t at = 1; at < strlen(rows[i].in); at++) {
            check(&rows[i], at, strlen(rows[i].in));
            check(&rows[i], at, 1);
        }
}

static void an_item_is_bounded(void **state)
{
    (void)state;
    struct span in = SPAN_LIT("[{\"a\":1},{\"a\":\"123456789\"}]");
    for (size_t step = 1; step <= in.n; step++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(split(in, step, step, 17, &out), PD_OK);
        buf_clear(&out);
        assert_int_equal(split(in, step, step, 16, &out), PD_TOOBIG);
        assert_true(span_is(buf_span(&out), "<{\"a\":1}>"));
        buf_done(&out);
    }
}

static pd_err stop(void *ctx, struct span item)
{
    (void)item;
    ++*(unsigned *)ctx;
    return PD_CANCELLED;
}

static void what_the_callback_returns_ends_it(void **state)
{
    (void)state;
    unsigned seen = 0;
    struct jsonarray *j = jsonarray_new(64, stop, &seen);
    assert_non_null(j);
    assert_int_equal(jsonarray_feed(j, SPAN_LIT("[{},{}]")), PD_CANCELLED);
    assert_int_equal(seen, 1);
    j = jsonarray_free(j);
    assert_null(j);
    assert_null(jsonarray_free(NULL));
}

static pd_err split_one(void *ctx)
{
    struct buf out;
    buf_init(&out, 0);
    pd_err e = split(span_str(ctx), 3, 3, 1024, &out);
    buf_done(&out);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char in[] = "[{\"a\":1},{\"a\":[2]}]";
    assert_true(torture(split_one, in) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_are_found),
        cmocka_unit_test(same_items_at_every_split),
        cmocka_unit_test(an_item_is_bounded),
        cmocka_unit_test(what_the_callback_returns_ends_it),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
