/* fuzz_jsonarray.c - an array split whole, in two and byte by byte gives the same items.
 *
 * The first bytes of the input choose the split; the rest is the array. A document that is
 * one gives its own items, and a small limit ends in PD_TOOBIG or nothing. */
#include "base/buf.h"
#include "parse/json.h"
#include "parse/jsonarray.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static pd_err note(void *ctx, struct span item)
{
    uint64_t n = item.n;
    MUST(buf_add(ctx, span_of((const char *)&n, sizeof(n))) == PD_OK);
    return buf_add(ctx, item);
}

static pd_err run(struct span in, size_t first, size_t step, size_t max_item, struct buf *ret)
{
    buf_init(ret, 0);
    struct jsonarray *j = jsonarray_new(max_item, note, ret);
    MUST(j);
    pd_err e = PD_OK;
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step) {
        if (n > in.n - at)
            n = in.n - at;
        char *piece = malloc(n ? n : 1);
        memcpy(piece, in.p + at, n);
        e = jsonarray_feed(j, span_of(piece, n));
        free(piece);
        MUST(jsonarray_pending(j) <= max_item);
    }
    if (!e)
        e = jsonarray_finish(j);
    j = jsonarray_free(j);
    return e;
}

static void agree(struct span in, size_t first, size_t step, const struct buf *whole)
{
    struct buf split;
    MUST(run(in, first, step, in.n + 1, &split) == PD_OK);
    MUST(span_eq(buf_span(&split), buf_span(whole)));
    buf_done(&split);
}

/* What the JSON reader says the items of a valid array are. */
static void agree_with_json(struct span in, const struct buf *whole)
{
    struct json v, item;
    struct json_walk w;
    struct buf items;
    if (json_check(in) || json_first(in, &v, NULL) || v.type != JSON_ARRAY)
        return;
    buf_init(&items, 0);
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &item))
        MUST(note(&items, item.raw) == PD_OK);
    MUST(span_eq(buf_span(&items), buf_span(whole)));
    buf_done(&items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_of((const char *)data + 2, size - 2);
    size_t at = in.n ? (data[0] | (size_t)data[1] << 8) % (in.n + 1) : 0;
    struct buf whole, small;
    MUST(run(in, in.n, 1, in.n + 1, &whole) == PD_OK);
    agree(in, at, in.n + 1, &whole);
    agree(in, 1, 1, &whole);
    agree_with_json(in, &whole);
    pd_err e = run(in, at, 3, 8, &small);
    MUST(e == PD_OK || e == PD_TOOBIG);
    buf_done(&small);
    buf_done(&whole);
    return 0;
}
