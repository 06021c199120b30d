#include "net/net.h"

#include "base/mem.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

static void *ssl_alloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return n ? mem_alloc(n) : NULL;
}

static void ssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    mem_free(p);
}

static void *ssl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    if (n)
        return mem_realloc(p, n);
    mem_free(p);
    return NULL;
}

/* A context made and thrown away makes OpenSSL fetch its algorithms and build its error strings now: later, with memory
 * short, it would remember the failure. */
static pd_err warm_up(void)
{
    if (!OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL))
        return PD_NOMEM;
    SSL_CTX *x = SSL_CTX_new(TLS_client_method());
    if (!x)
        return PD_NOMEM;
    SSL *s = SSL_new(x);
    SSL_free(s);
    SSL_CTX_free(x);
    ERR_clear_error();
    return s ? PD_OK : PD_NOMEM;
}

static pd_err first_result; /* written once, under pthread_once */

static void first(void)
{
    signal(SIGPIPE, SIG_IGN);
    bool ours = CRYPTO_set_mem_functions(ssl_alloc, ssl_realloc, ssl_free) == 1;
    first_result = warm_up();
    if (!first_result && !ours)
        first_result = PD_EXISTS;
}

pd_err net_process_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, first);
    return first_result;
}
