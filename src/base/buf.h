/* buf.h - bytes that arrive at one end and leave at the other.
 *
 * Grows up to `limit_bytes` (a limit with a name is the caller's duty: whatever
 * a peer can grow has one). Blocks of 64 KB and more come from the recycled pool. */
#ifndef PERDURE_BASE_BUF_H
#define PERDURE_BASE_BUF_H

#include "base/err.h"
#include "base/span.h"

struct buf {
    char *p;
    size_t head, tail; /* the bytes are p[head .. tail) */
    size_t capacity;
    size_t limit_bytes; /* 0: none */
};

void buf_init(struct buf *b, size_t limit_bytes); /* takes no memory yet */
void buf_done(struct buf *b);
static inline size_t buf_size(const struct buf *b)
{
    return b->tail - b->head;
}
static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->p ? b->p + b->head : "", b->tail - b->head};
}

/* Makes room for n more bytes; after it, b->p + b->tail is writable and buf_added(b, k) takes k of them. PD_NOMEM, PD_TOOBIG. */
pd_err buf_reserve(struct buf *b, size_t n) PD_CHECKED;
static inline void buf_added(struct buf *b, size_t n)
{
    b->tail += n;
}
pd_err buf_add(struct buf *b, struct span s) PD_CHECKED;
pd_err buf_puts(struct buf *b, const char *s) PD_CHECKED;
pd_err buf_printf(struct buf *b, const char *fmt, ...) PD_CHECKED PD_PRINTF(2, 3);
void buf_take(struct buf *b, size_t n); /* the first n bytes leave */
void buf_clear(struct buf *b);          /* all leave; the memory stays */
void buf_shrink(struct buf *b);         /* gives the memory back if it is empty */

#endif
