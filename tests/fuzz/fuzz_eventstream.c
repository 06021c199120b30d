/* fuzz_eventstream.c - a stream read whole, split in two and byte by byte gives the same messages and the same end.
 *
 * The first two bytes of the input choose the split. The third says whether the rest is taken as it stands or sealed
 * first: lengths made to fit and checksums made right, so that headers are reached. Beside that, raw bytes together are
 * what was read, every delivered header can be walked, and a small limit ends in an error or nothing. */
#include "parse/eventstream.h"

#include <stdlib.h>
#include <zlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

struct seen {
    struct buf raw, told;
    enum eventstream_fault fault;
};

static void put(struct buf *b, struct span s)
{
    uint64_t n = s.n;
    MUST(buf_add(b, span_of((const char *)&n, sizeof(n))) == PD_OK);
    MUST(buf_add(b, s) == PD_OK);
}

static pd_err note(void *ctx, const struct eventstream_message *m)
{
    struct seen *seen = ctx;
    struct span headers = m->headers;
    struct eventstream_header h;
    MUST(buf_add(&seen->raw, m->raw) == PD_OK);
    put(&seen->told, m->message_type);
    put(&seen->told, m->event_type);
    put(&seen->told, m->exception_type);
    put(&seen->told, m->error_code);
    put(&seen->told, m->error_message);
    put(&seen->told, m->content_type);
    put(&seen->told, m->payload);
    while (eventstream_header_next(&headers, &h)) {
        put(&seen->told, h.name);
        put(&seen->told, h.value);
        put(&seen->told, span_of((const char *)&h.number, sizeof(h.number)));
    }
    MUST(headers.n == 0);
    return PD_OK;
}

/* Feeds pieces of `step` bytes after a first one of `first`, each from memory of its own so that reading past it shows. */
static pd_err run(struct span in, size_t first, size_t step, size_t max_message, struct seen *ret)
{
    *ret = (struct seen){0};
    struct eventstream *s = eventstream_new(max_message, note, ret);
    MUST(s);
    pd_err e = PD_OK;
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step) {
        if (n > in.n - at)
            n = in.n - at;
        char *piece = malloc(n ? n : 1);
        memcpy(piece, in.p + at, n);
        e = eventstream_feed(s, span_of(piece, n));
        free(piece);
        MUST(eventstream_pending(s) <= max_message);
    }
    if (!e)
        e = eventstream_finish(s);
    ret->fault = eventstream_fault(s);
    MUST((e == PD_OK) == (ret->fault == EVENTSTREAM_FAULT_NONE));
    s = eventstream_free(s);
    return e;
}

static void done(struct seen *seen)
{
    buf_done(&seen->raw);
    buf_done(&seen->told);
}

static void agree(struct span in, size_t first, size_t step, pd_err e, const struct seen *whole)
{
    struct seen split;
    MUST(run(in, first, step, EVENTSTREAM_MAX_MESSAGE, &split) == e);
    MUST(split.fault == whole->fault);
    MUST(span_eq(buf_span(&split.raw), buf_span(&whole->raw)));
    MUST(span_eq(buf_span(&split.told), buf_span(&whole->told)));
    done(&split);
}

static void put_be32(unsigned char *p, size_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8)
        p[i] = (unsigned char)v;
}

/* Makes messages of the bytes: the low byte of each announced length counts, and the checksums are put right. */
static void seal(unsigned char *p, size_t n)
{
    while (n >= EVENTSTREAM_OVERHEAD) {
        size_t total = EVENTSTREAM_OVERHEAD + p[3], headers = p[7];
        if (total > n)
            total = n;
        if (headers > total - EVENTSTREAM_OVERHEAD)
            headers = total - EVENTSTREAM_OVERHEAD;
        put_be32(p, total);
        put_be32(p + 4, headers);
        put_be32(p + 8, crc32_z(0, p, 8));
        put_be32(p + total - 4, crc32_z(0, p, total - 4));
        p += total;
        n -= total;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t n = size - 3;
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, data + 3, n);
    if (data[2] % 4)
        seal(copy, n);
    struct span in = span_of((const char *)copy, n);
    size_t first = n ? data[0] % n + 1 : 1, step = data[1] % 32 + 1;
    struct seen whole, small;
    pd_err e = run(in, n ? n : 1, 1, EVENTSTREAM_MAX_MESSAGE, &whole);
    MUST(e != PD_OK || span_eq(buf_span(&whole.raw), in));
    agree(in, first, n ? n : 1, e, &whole);
    agree(in, first, step, e, &whole);
    agree(in, 1, 1, e, &whole);
    done(&whole);
    e = run(in, first, step, 64, &small);
    MUST(e == PD_OK || e == PD_TOOBIG || e == PD_SYNTAX || e == PD_CUT);
    done(&small);
    free(copy);
    return 0;
}
