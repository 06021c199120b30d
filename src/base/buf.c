#include "base/buf.h"

#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* Small ones double. Larger ones grow by half: of thousands of answers that are kept while they come, much would be room that nobody uses. */
enum { BUF_LEAST = 256, BUF_DOUBLES = 2048, BUF_BIG = 64 * 1024 };

void buf_init(struct buf *b, size_t limit_bytes)
{
    *b = (struct buf){.limit_bytes = limit_bytes};
}

static void release(char *p, size_t capacity)
{
    if (capacity >= BUF_BIG)
        mem_big_free(p, capacity);
    else
        mem_free(p);
}

void buf_done(struct buf *b)
{
    release(b->p, b->capacity);
    *b = (struct buf){.limit_bytes = b->limit_bytes};
}

/* Nothing is to be done for n more bytes: nearly always so where text is put together piece by piece. */
static inline bool has_room(const struct buf *b, size_t n)
{
    return n <= b->capacity - b->tail && (!b->limit_bytes || n + buf_size(b) <= b->limit_bytes);
}

/* Often what stands behind the block is free, and nothing is copied. */
static pd_err in_place(struct buf *b, size_t capacity)
{
    char *p = mem_realloc(b->p, capacity);
    if (!p)
        return PD_NOMEM;
    b->p = p;
    b->capacity = capacity;
    return PD_OK;
}

pd_err buf_reserve(struct buf *b, size_t n)
{
    size_t held = buf_size(b);
    assert(b->p || held == 0);
    if (n > SIZE_MAX / 4 || held > SIZE_MAX / 4)
        return PD_TOOBIG;
    size_t need = held + n;
    if (b->limit_bytes && need > b->limit_bytes)
        return PD_TOOBIG;
    if (b->capacity - b->tail >= n)
        return PD_OK;
    if (b->capacity >= need && b->head >= b->capacity / 2) {
        if (held)
            memmove(b->p, b->p + b->head, held);
        b->head = 0;
        b->tail = held;
        return PD_OK;
    }
    size_t capacity = b->capacity ? b->capacity : BUF_LEAST;
    while (capacity < need)
        capacity += capacity < BUF_DOUBLES ? capacity : capacity / 2;
    if (b->head == 0 && capacity < BUF_BIG)
        return in_place(b, capacity);
    char *p = capacity >= BUF_BIG ? mem_big_alloc(capacity, &capacity) : mem_alloc(capacity);
    if (!p)
        return PD_NOMEM;
    if (held)
        memcpy(p, b->p + b->head, held);
    release(b->p, b->capacity);
    b->p = p;
    b->capacity = capacity;
    b->head = 0;
    b->tail = held;
    return PD_OK;
}

pd_err buf_add(struct buf *b, struct span s)
{
    if (s.n == 0)
        return PD_OK;
    assert(s.p);
    if (!has_room(b, s.n)) {
        pd_err e = buf_reserve(b, s.n);
        if (e)
            return e;
    }
    memcpy(b->p + b->tail, s.p, s.n);
    b->tail += s.n;
    return PD_OK;
}

pd_err buf_puts(struct buf *b, const char *s)
{
    return buf_add(b, span_str(s));
}

pd_err buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    char *at = b->p ? b->p + b->tail : NULL;
    size_t room = b->capacity - b->tail;
    int n = vsnprintf(at, room, fmt, args);
    va_end(args);
    pd_err e = n < 0 ? PD_INVALID : PD_OK;
    if (!e && ((size_t)n >= room || (b->limit_bytes && buf_size(b) + (size_t)n > b->limit_bytes))) {
        e = buf_reserve(b, (size_t)n + 1);
        if (!e)
            vsnprintf(b->p + b->tail, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    if (!e)
        b->tail += (size_t)n;
    return e;
}

void buf_take(struct buf *b, size_t n)
{
    assert(n <= buf_size(b));
    b->head += n;
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

void buf_clear(struct buf *b)
{
    b->head = b->tail = 0;
}

void buf_shrink(struct buf *b)
{
    if (buf_size(b) == 0)
        buf_done(b);
}
