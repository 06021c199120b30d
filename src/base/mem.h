/* mem.h - the one door to the heap.
 *
 * Everything allocates here, libraries included, so that there is one place to
 * count, to limit and, in tests, to fail. A failed allocation returns NULL and
 * fails one call, never the process. */
#ifndef PERDURE_BASE_MEM_H
#define PERDURE_BASE_MEM_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t n) PD_CHECKED;                   /* NULL when out of memory; n may be 0 */
void *mem_zalloc(size_t n) PD_CHECKED;                  /* zeroed */
void *mem_calloc(size_t count, size_t size) PD_CHECKED; /* zeroed; NULL on overflow too */
void *mem_realloc(void *p, size_t n) PD_CHECKED;        /* on NULL the old block is still the caller's */
void mem_free(void *p);                                 /* NULL is fine */
char *mem_strdup(const char *s) PD_CHECKED;
char *mem_strndup(const char *s, size_t n) PD_CHECKED; /* copies n bytes and adds a NUL */

/* For PD_CLEANUP(mem_freep): frees what a pointer variable points to. */
void mem_freep(void *pp);

/* A pool of large blocks (64 KB and more) is kept, because a malloc and free of
 * each request body costs an mmap, an munmap and its page faults. */
void *mem_big_alloc(size_t n, size_t *ret_capacity) PD_CHECKED;
void mem_big_free(void *p, size_t capacity);
void mem_big_trim(void); /* gives the pool back */
/* Gives the system what is free in whole pages, and what is mapped of the program and its libraries and can be read again. For rare moments: it walks
 * the heap, and what is used next is mapped anew. */
void mem_trim(void);

/* Figures, for /metrics and for leak checks in tests. */
size_t mem_blocks(void);  /* blocks now allocated */
uint64_t mem_count(void); /* allocations ever made */

/* Tests only: the nth allocation from now on fails, once (1 is the next; 0 never).
 * mem_failed() says whether it did. */
void mem_fail_at(uint64_t n);
int mem_failed(void);

/* For library code that aborts when an allocation fails (libuv's tables): counted, never failed by a test. */
void *mem_lib_alloc(size_t n);
void *mem_lib_calloc(size_t count, size_t size);
void *mem_lib_realloc(void *p, size_t n);

#define PD_CLEANUP(fn) __attribute__((cleanup(fn)))
/* Moves a pointer out of a PD_CLEANUP variable. */
#define PD_TAKE(var)                    \
    (__extension__({                    \
        __typeof__(var) taken_ = (var); \
        (var) = NULL;                   \
        taken_;                         \
    }))

#endif
