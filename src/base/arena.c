#include "base/arena.h"

#include "base/mem.h"

#include <assert.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>

struct arena_block {
    struct arena_block *below;
    size_t size, used;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *a, size_t block_bytes, size_t limit_bytes)
{
    size_t block = block_bytes ? block_bytes : 1024, head = sizeof(struct arena_block);
    *a = (struct arena){.block_bytes = block > 2 * head ? block - head : block, .limit_bytes = limit_bytes};
}

void arena_done(struct arena *a)
{
    while (a->top) {
        struct arena_block *below = a->top->below;
        mem_free(a->top);
        a->top = below;
    }
    a->used_bytes = 0;
}

void arena_reset(struct arena *a)
{
    a->used_bytes = 0;
    if (!a->top)
        return;
    while (a->top->below) {
        struct arena_block *below = a->top->below;
        mem_free(a->top);
        a->top = below;
    }
    a->top->used = 0;
}

void *arena_alloc(struct arena *a, size_t n)
{
    size_t need = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (need < n || (a->limit_bytes && (need > a->limit_bytes || a->used_bytes > a->limit_bytes - need)))
        return NULL;
    struct arena_block *b = a->top;
    if (!b || b->size - b->used < need) {
        size_t usual = a->top ? 2 * a->block_bytes : a->block_bytes; /* one was not enough */
        size_t size = need > usual ? need : usual;
        b = mem_alloc(sizeof(*b) + size);
        if (!b)
            return NULL;
        b->size = size;
        b->used = 0;
        b->below = a->top;
        a->top = b;
    }
    void *p = b->bytes + b->used;
    b->used += need;
    a->used_bytes += need;
    return p;
}

void *arena_zalloc(struct arena *a, size_t n)
{
    void *p = arena_alloc(a, n);
    if (p)
        memset(p, 0, n);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *copy = arena_alloc(a, n + 1);
    if (!copy)
        return NULL;
    if (n)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *arena_join(struct arena *a, const struct span *parts, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += parts[i].n;
    char *joined = arena_alloc(a, n + 1), *at = joined;
    if (!joined)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].n)
            memcpy(at, parts[i].p, parts[i].n);
        at += parts[i].n;
    }
    *at = '\0';
    return joined;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *s = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

struct span arena_span(struct arena *a, struct span s)
{
    if (s.n == 0)
        return (struct span){"", 0};
    char *copy = arena_strndup(a, s.p, s.n);
    return (struct span){copy, s.n};
}
