#include "base/mem.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __linux__
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Atomic size_t blocks;
static _Atomic uint64_t made;
static _Atomic uint64_t fail_at;
static _Atomic int failed;

/* True when a test asked for this allocation to fail. */
static int doomed(void)
{
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) == 0)
        return 0;
    if (atomic_fetch_sub(&fail_at, 1) != 1)
        return 0;
    atomic_store(&failed, 1);
    return 1;
}

static void *counted(void *p)
{
    if (p) {
        atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    }
    return p;
}

void *mem_alloc(size_t n)
{
    return doomed() ? NULL : counted(malloc(n ? n : 1));
}

void *mem_zalloc(size_t n)
{
    return doomed() ? NULL : counted(calloc(1, n ? n : 1));
}

void *mem_calloc(size_t count, size_t size)
{
    return doomed() ? NULL : counted(calloc(count ? count : 1, size ? size : 1));
}

void *mem_realloc(void *p, size_t n)
{
    if (doomed())
        return NULL;
    if (!p)
        return counted(malloc(n ? n : 1));
    atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    return realloc(p, n ? n : 1);
}

void mem_free(void *p)
{
    if (!p)
        return;
    atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
    free(p);
}

void mem_freep(void *pp)
{
    void **p = pp;
    mem_free(*p);
    *p = NULL;
}

char *mem_strndup(const char *s, size_t n)
{
    char *copy = mem_alloc(n + 1);
    if (!copy)
        return NULL;
    if (n)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

void *mem_lib_alloc(size_t n)
{
    return counted(malloc(n ? n : 1));
}

void *mem_lib_calloc(size_t count, size_t size)
{
    return counted(calloc(count ? count : 1, size ? size : 1));
}

void *mem_lib_realloc(void *p, size_t n)
{
    if (!p)
        return mem_lib_alloc(n);
    return realloc(p, n ? n : 1);
}

/* ---- large blocks ------------------------------------------------------ */

enum { BIG_LEAST = 64 * 1024, BIG_CLASSES = 11 /* 64 KB .. 64 MB */, BIG_KEPT_EACH = 8 };
/* Of the larger classes fewer are kept: the pool never holds more than this. */
#define BIG_KEPT_BYTES ((size_t)32 << 20)

static struct {
    pthread_mutex_t lock;
    void *kept[BIG_CLASSES][BIG_KEPT_EACH];
    unsigned count[BIG_CLASSES];
    size_t bytes;
} big = {.lock = PTHREAD_MUTEX_INITIALIZER};

static unsigned big_class(size_t n)
{
    unsigned c = 0;
    while (c < BIG_CLASSES && ((size_t)BIG_LEAST << c) < n)
        c++;
    return c;
}

void *mem_big_alloc(size_t n, size_t *ret_capacity)
{
    unsigned c = big_class(n);
    if (c == BIG_CLASSES) {
        void *p = mem_alloc(n);
        if (p)
            *ret_capacity = n;
        return p;
    }
    size_t capacity = (size_t)BIG_LEAST << c;
    if (doomed())
        return NULL;
    void *p = NULL;
    pthread_mutex_lock(&big.lock);
    if (big.count[c]) {
        p = big.kept[c][--big.count[c]];
        big.bytes -= capacity;
    }
    pthread_mutex_unlock(&big.lock);
    if (!p)
        p = malloc(capacity);
    if (!counted(p))
        return NULL;
    *ret_capacity = capacity;
    return p;
}

void mem_big_free(void *p, size_t capacity)
{
    if (!p)
        return;
    unsigned c = big_class(capacity);
    int keep = 0;
    if (c < BIG_CLASSES && capacity == ((size_t)BIG_LEAST << c)) {
        pthread_mutex_lock(&big.lock);
        keep = big.count[c] < BIG_KEPT_EACH && big.bytes + capacity <= BIG_KEPT_BYTES;
        if (keep) {
            big.kept[c][big.count[c]++] = p;
            big.bytes += capacity;
        }
        pthread_mutex_unlock(&big.lock);
    }
    if (keep)
        atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
    else
        mem_free(p);
}

void mem_big_trim(void)
{
    pthread_mutex_lock(&big.lock);
    for (unsigned c = 0; c < BIG_CLASSES; c++)
        while (big.count[c])
            free(big.kept[c][--big.count[c]]);
    big.bytes = 0;
    pthread_mutex_unlock(&big.lock);
}

#ifdef __linux__
/* Was its code written to while it was linked? That would be lost. */
static bool relocated(const struct dl_phdr_info *object)
{
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_DYNAMIC)
            continue;
        /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
        const ElfW(Dyn) *d = (const void *)(uintptr_t)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
        for (; d->d_tag != DT_NULL; d++)
            if (d->d_tag == DT_TEXTREL || (d->d_tag == DT_FLAGS && (d->d_un.d_val & DF_TEXTREL)))
                return true;
    }
    return false;
}

/* The pages of a program or library that nobody writes to. They are there again, from the page cache, when they are used. */
static int let_go(struct dl_phdr_info *object, size_t bytes, void *page)
{
    (void)bytes;
    uintptr_t mask = ~(*(uintptr_t *)page - 1);
    if (relocated(object))
        return 0;
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || (part->p_flags & PF_W))
            continue;
        uintptr_t from = (object->dlpi_addr + part->p_vaddr) & mask;
        uintptr_t end = (object->dlpi_addr + part->p_vaddr + part->p_filesz + ~mask) & mask;
        /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
        (void)madvise((void *)from, end - from, MADV_DONTNEED);
    }
    return 0;
}

/* A debugger's breakpoints stand in pages of the program, and would be gone with them. */
static bool traced(void)
{
    char text[1024];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *who = strstr(text, "TracerPid:\t");
    return !who || who[sizeof("TracerPid:\t") - 1] != '0';
}

/* Linking, reading the configuration and setting OpenSSL up touch most of what is mapped, and use little of it again. */
static void trim_mapped(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (!traced())
        dl_iterate_phdr(let_go, &page);
}
#else
static void trim_mapped(void) {}
#endif

void mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    trim_mapped();
}

/* ---- figures and tests -------------------------------------------------- */

size_t mem_blocks(void)
{
    return atomic_load(&blocks);
}

uint64_t mem_count(void)
{
    return atomic_load(&made);
}

void mem_fail_at(uint64_t n)
{
    atomic_store(&failed, 0);
    atomic_store(&fail_at, n);
}

int mem_failed(void)
{
    return atomic_load(&failed);
}
