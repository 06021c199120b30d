/* arena.h - memory that ends all at once.
 *
 * What ends with a call comes from the call's arena; scratch of one event comes
 * from an arena that is reset after it. Nothing in it is freed alone. */
#ifndef PERDURE_BASE_ARENA_H
#define PERDURE_BASE_ARENA_H

#include "base/err.h"
#include "base/span.h"

struct arena_block;
struct arena {
    struct arena_block *top; /* the block being filled */
    size_t block_bytes;      /* that the first block can hand out */
    size_t used_bytes;       /* handed out since the last reset */
    size_t limit_bytes;      /* 0: none */
};

/* Takes no memory yet. `block_bytes` is what the first block takes, its own head included, since allocators are quick up to round sizes; 0 means 1 KB.
 * Others are about twice as large: the first may be as small as what is nearly always enough. `limit_bytes` 0 means no limit. */
void arena_init(struct arena *a, size_t block_bytes, size_t limit_bytes);
void arena_done(struct arena *a);
/* Forgets everything and keeps one block for the next round. */
void arena_reset(struct arena *a);

void *arena_alloc(struct arena *a,
                  size_t n) PD_CHECKED; /* aligned for any type, not zeroed; NULL: PD_NOMEM or over the limit */
void *arena_zalloc(struct arena *a, size_t n) PD_CHECKED;
char *arena_strndup(struct arena *a, const char *s, size_t n) PD_CHECKED; /* with a NUL */
/* The parts one behind the other, with a NUL: what every call does needs no printf. */
char *arena_join(struct arena *a, const struct span *parts, size_t count) PD_CHECKED;
char *arena_printf(struct arena *a, const char *fmt, ...) PD_CHECKED PD_PRINTF(2, 3);
/* Copies the bytes. On failure: p is NULL although s.n > 0. */
struct span arena_span(struct arena *a, struct span s) PD_CHECKED;

#endif
