#include "store/loaded.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#undef curl_easy_setopt /* a macro that checks types, where the compiler can */
#undef curl_easy_getinfo

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct curl_library curl;
static struct pq_library pq;
static bool has_curl, has_pq;

/* A function's pointer out of an object's: ISO C has no cast for it, POSIX promises that the bytes are the same. */
static bool find(void *library, const char *name, void *ret, char *why, size_t why_bytes)
{
    void *at = dlsym(library, name);
    memcpy(ret, &at, sizeof(at));
    if (!at)
        snprintf(why, why_bytes, "%s is missing in the library: it is too old", name);
    return at != NULL;
}

static void *open_library(const char *const *names, const char *package, char *why, size_t why_bytes)
{
    void *library = NULL;
    for (int i = 0; !library && names[i]; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        snprintf(why, why_bytes, "%s cannot be loaded: install the package %s", names[0], package);
    return library;
}

static char *lib_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = mem_lib_alloc(n);
    return copy ? memcpy(copy, s, n) : NULL;
}

static pd_err load_curl(char *why, size_t why_bytes)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.4.dylib", NULL};
    void *library = open_library(names, "libcurl4", why, why_bytes);
    if (!library)
        return PD_NOTFOUND;
#define X(name)                                            \
    if (!find(library, #name, &curl.name, why, why_bytes)) \
        return PD_NOTFOUND;
    CURL_FUNCTIONS(X)
#undef X
    if (curl.curl_global_init_mem(CURL_GLOBAL_DEFAULT, mem_lib_alloc, mem_free, mem_lib_realloc, lib_strdup,
                                  mem_lib_calloc) != CURLE_OK) {
        snprintf(why, why_bytes, "libcurl cannot be set up");
        return PD_NOTFOUND;
    }
    has_curl = true;
    return PD_OK;
}

static pd_err load_pq(char *why, size_t why_bytes)
{
    static const char *const names[] = {"libpq.so.5", "libpq.5.dylib", NULL};
    void *library = open_library(names, "libpq5", why, why_bytes);
    if (!library)
        return PD_NOTFOUND;
#define X(name)                                          \
    if (!find(library, #name, &pq.name, why, why_bytes)) \
        return PD_NOTFOUND;
    PQ_FUNCTIONS(X)
#undef X
    has_pq = true;
    return PD_OK;
}

pd_err loaded_curl(const struct curl_library **ret, char *why, size_t why_bytes)
{
    pthread_mutex_lock(&lock);
    pd_err e = has_curl ? PD_OK : load_curl(why, why_bytes);
    pthread_mutex_unlock(&lock);
    if (!e)
        *ret = &curl;
    return e;
}

pd_err loaded_pq(const struct pq_library **ret, char *why, size_t why_bytes)
{
    pthread_mutex_lock(&lock);
    pd_err e = has_pq ? PD_OK : load_pq(why, why_bytes);
    pthread_mutex_unlock(&lock);
    if (!e)
        *ret = &pq;
    return e;
}
