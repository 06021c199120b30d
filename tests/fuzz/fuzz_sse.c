/* fuzz_sse.c - a stream read whole, split in two and byte by byte gives the same events.
 *
 * The first bytes of the input choose the split; the rest is the stream. Beside that, all raw bytes
 * together are the stream, and a small limit ends in PD_TOOBIG or nothing. */
#include "base/buf.h"
#include "parse/sse.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

struct seen {
    struct buf raw, events;
};

static struct span bytes(const struct buf *b)
{
    return buf_size(b) ? buf_span(b) : SPAN_LIT("");
}

static void put(struct buf *b, struct span s)
{
    uint64_t n = s.n;
    MUST(buf_add(b, span_of((const char *)&n, sizeof(n))) == PD_OK);
    MUST(buf_add(b, s) == PD_OK);
}

static pd_err note(void *ctx, const struct sse_event *ev)
{
    struct seen *seen = ctx;
    char head[2] = {(char)ev->kind, ev->has_data};
    MUST(buf_add(&seen->raw, ev->raw) == PD_OK);
    if (ev->kind == SSE_EVENT && !ev->has_data && !ev->type.n && !ev->id.n)
        return PD_OK; /* blank lines at the end, whose line end may be split */
    MUST(buf_add(&seen->events, span_of(head, 2)) == PD_OK);
    put(&seen->events, ev->type);
    put(&seen->events, ev->data);
    put(&seen->events, ev->id);
    return PD_OK;
}

/* Feeds pieces of `step` bytes after a first one of `first`, each from memory of its own so that reading past it shows. */
static pd_err run(struct span in, size_t first, size_t step, size_t max_event, struct seen *ret)
{
    *ret = (struct seen){0};
    struct sse *s = sse_new(max_event, note, ret);
    MUST(s);
    pd_err e = PD_OK;
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step) {
        if (n > in.n - at)
            n = in.n - at;
        char *piece = malloc(n ? n : 1);
        memcpy(piece, in.p + at, n);
        e = sse_feed(s, span_of(piece, n));
        free(piece);
        MUST(sse_pending(s) <= max_event);
    }
    if (!e)
        e = sse_finish(s);
    if (!e)
        MUST(sse_pending(s) == 0);
    s = sse_free(s);
    return e;
}

static void done(struct seen *seen)
{
    buf_done(&seen->raw);
    buf_done(&seen->events);
}

static void agree(struct span in, size_t first, size_t step, const struct seen *whole)
{
    struct seen split;
    MUST(run(in, first, step, in.n + 1, &split) == PD_OK);
    MUST(span_eq(bytes(&split.raw), in));
    MUST(span_eq(bytes(&split.events), bytes(&whole->events)));
    done(&split);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_of((const char *)data + 2, size - 2);
    size_t first = in.n ? data[0] % in.n + 1 : 1, step = data[1] % 32 + 1;
    struct seen whole, small;
    MUST(run(in, in.n ? in.n : 1, 1, in.n + 1, &whole) == PD_OK);
    MUST(span_eq(bytes(&whole.raw), in));
    agree(in, first, in.n, &whole);
    agree(in, first, step, &whole);
    agree(in, 1, 1, &whole);
    done(&whole);
    pd_err e = run(in, first, step, 24, &small);
    MUST(e == PD_OK || e == PD_TOOBIG);
    done(&small);
    return 0;
}
