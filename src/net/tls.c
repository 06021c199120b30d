#include "net/tls.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct tls_ctx {
    SSL_CTX *ssl;
    bool insecure;
};

/* ---- sessions ------------------------------------------------------------------ */

void tls_sessions_init(struct tls_sessions *s)
{
    *s = (struct tls_sessions){0};
}

void tls_sessions_done(struct tls_sessions *s)
{
    while (s->count)
        SSL_SESSION_free(s->kept[--s->count]);
}

static void put_session(struct tls_sessions *s, SSL_SESSION *session)
{
    if (s->count == TLS_SESSIONS_KEPT) {
        SSL_SESSION_free(s->kept[0]);
        memmove(s->kept, s->kept + 1, (TLS_SESSIONS_KEPT - 1) * sizeof(s->kept[0]));
        s->count--;
    }
    s->kept[s->count++] = session;
}

/* OpenSSL 3.4 has a name of its own for a time past 2038, and older ones do not have that name. */
static time_t made_at(const SSL_SESSION *session)
{
#if OPENSSL_VERSION_NUMBER >= 0x30400000L
    return SSL_SESSION_get_time_ex(session);
#else
    return SSL_SESSION_get_time(session);
#endif
}

static bool usable(SSL_SESSION *session)
{
    time_t age = time(NULL) - made_at(session);
    return SSL_SESSION_is_resumable(session) && age >= 0 && age < SSL_SESSION_get_timeout(session);
}

/* The newest usable one, now the caller's. One of TLS 1.2 may serve again and stays here too. */
static SSL_SESSION *take_session(struct tls_sessions *s)
{
    while (s->count) {
        SSL_SESSION *session = s->kept[--s->count];
        if (usable(session)) {
            if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION && SSL_SESSION_up_ref(session))
                s->count++;
            return session;
        }
        SSL_SESSION_free(session);
    }
    return NULL;
}

/* Tickets of TLS 1.3 come after the handshake, whenever the connection is read. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_sessions *s = SSL_get_app_data(ssl);
    if (!s)
        return 0;
    put_session(s, session);
    return 1; /* ours now */
}

/* ---- what is shared --------------------------------------------------------------- */

static pd_err trust(SSL_CTX *ssl, const char *ca_file, bool insecure)
{
    SSL_CTX_set_verify(ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (insecure)
        return PD_OK;
    if (!ca_file)
        return SSL_CTX_set_default_verify_paths(ssl) == 1 ? PD_OK : PD_NOMEM;
    return SSL_CTX_load_verify_file(ssl, ca_file) == 1 ? PD_OK : PD_TLS;
}

static pd_err set_up(SSL_CTX *ssl, const char *ca_file, bool insecure)
{
    static const unsigned char http1[] = "\x08http/1.1";
    if (SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) != 1)
        return PD_TLS;
    if (SSL_CTX_set_alpn_protos(ssl, http1, sizeof(http1) - 1) != 0)
        return PD_NOMEM;
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(ssl,
                           1); /* one recv for header and record; what is left inside is seen by tls_pending */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, on_new_session);
    return trust(ssl, ca_file, insecure);
}

pd_err tls_ctx_new(const char *ca_file, bool insecure, struct tls_ctx **ret)
{
    ERR_clear_error();
    struct tls_ctx *c = mem_zalloc(sizeof(*c));
    if (!c)
        return PD_NOMEM;
    c->insecure = insecure;
    c->ssl = SSL_CTX_new(TLS_client_method());
    pd_err e = c->ssl ? set_up(c->ssl, ca_file, insecure) : PD_NOMEM;
    ERR_clear_error();
    if (e) {
        tls_ctx_free(c);
        return e;
    }
    *ret = c;
    return PD_OK;
}

struct tls_ctx *tls_ctx_free(struct tls_ctx *c)
{
    if (!c)
        return NULL;
    SSL_CTX_free(c->ssl);
    mem_free(c);
    return NULL;
}

/* ---- a connection ------------------------------------------------------------------ */

static bool is_address(const char *host)
{
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

/* "api.x." and "api.x" are one name, and certificates have it without the dot. */
static bool expect_host(SSL *ssl, const char *host, bool verify)
{
    char name[256];
    size_t n = strlen(host);
    if (n && host[n - 1] == '.')
        n--;
    if (n >= sizeof(name))
        return false;
    memcpy(name, host, n);
    name[n] = '\0';

    X509_VERIFY_PARAM *p = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (is_address(name))
        return !verify || X509_VERIFY_PARAM_set1_ip_asc(p, name) == 1;
    if (SSL_set_tlsext_host_name(ssl, name) != 1)
        return false;
    return !verify || X509_VERIFY_PARAM_set1_host(p, name, 0) == 1;
}

pd_err tls_open(struct tls *t, struct tls_ctx *c, int fd, const char *host, struct tls_sessions *sessions)
{
    ERR_clear_error();
    *t = (struct tls){.ssl = SSL_new(c->ssl)};
    if (!t->ssl)
        return PD_NOMEM;
    if (SSL_set_fd(t->ssl, fd) != 1 || !expect_host(t->ssl, host, !c->insecure)) {
        tls_done(t, false);
        return PD_NOMEM;
    }
    SSL_set_app_data(t->ssl, sessions);
    SSL_SESSION *session = take_session(sessions);
    if (session) {
        SSL_set_session(t->ssl, session); /* if this fails the handshake is a full one: no harm */
        SSL_SESSION_free(session);
    }
    SSL_set_connect_state(t->ssl);
    ERR_clear_error();
    return PD_OK;
}

void tls_done(struct tls *t, bool in_order)
{
    if (!t->ssl)
        return;
    if (!t->spent) {
        /* Without any shutdown OpenSSL would call the session bad, and the next connection could not resume it. */
        if (!in_order)
            SSL_set_quiet_shutdown(t->ssl, 1);
        SSL_shutdown(t->ssl);
    }
    SSL_set_app_data(t->ssl, NULL);
    SSL_free(t->ssl);
    ERR_clear_error();
    *t = (struct tls){0};
}

static pd_err from_errno(int code)
{
    switch (code) {
    case ECONNRESET:
    case EPIPE:
        return PD_RESET;
    case ETIMEDOUT:
        return PD_TIMEOUT;
    case ENOMEM:
    case ENOBUFS:
        return PD_NOMEM;
    default:
        return PD_IO;
    }
}

/* What a failed call meant; PD_OK: it would block, *ret_want says for what. Fatal ones spend the connection. */
static pd_err judge(struct tls *t, int r, int code, enum tls_want *ret_want)
{
    unsigned long reason = ERR_peek_error();
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        *ret_want = TLS_WANTS_READ;
        return PD_OK;
    case SSL_ERROR_WANT_WRITE:
        *ret_want = TLS_WANTS_WRITE;
        return PD_OK;
    case SSL_ERROR_ZERO_RETURN:
        return PD_CLOSED;
    case SSL_ERROR_SYSCALL:
        t->spent = true;
        return code ? from_errno(code) : PD_CUT;
    default:
        t->spent = true;
        if (ERR_GET_REASON(reason) == ERR_R_MALLOC_FAILURE)
            return PD_NOMEM;
        return ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? PD_CUT : PD_TLS;
    }
}

static void explain(const struct tls *t, pd_err e, const char *host, char *why, size_t why_bytes)
{
    long verdict = SSL_get_verify_result(t->ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    if (e == PD_TLS && verdict != X509_V_OK && SSL_get_verify_mode(t->ssl) != SSL_VERIFY_NONE)
        snprintf(why, why_bytes, "%s (host %s)", X509_verify_cert_error_string(verdict), host);
    else if (e == PD_TLS && reason)
        snprintf(why, why_bytes, "%s (host %s)", reason, host);
    else if (e == PD_CUT || e == PD_CLOSED)
        snprintf(why, why_bytes, "the other side closed the connection (host %s)", host);
    else
        snprintf(why, why_bytes, "%s (host %s)", pd_err_text(e), host);
}

pd_err tls_handshake(struct tls *t, enum tls_want *ret_want, const char *host, char *why, size_t why_bytes)
{
    ERR_clear_error();
    errno = 0;
    int r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        *ret_want = TLS_DONE;
        return PD_OK;
    }
    pd_err e = judge(t, r, errno, ret_want);
    if (!e)
        return PD_OK;
    t->spent = true;
    explain(t, e, host, why, why_bytes);
    ERR_clear_error();
    return e == PD_CUT ? PD_CLOSED : e;
}

bool tls_resumed(const struct tls *t)
{
    return t->ssl && SSL_session_reused(t->ssl);
}

pd_err tls_read(struct tls *t, char *p, size_t n, size_t *ret)
{
    enum tls_want want;
    ERR_clear_error();
    errno = 0;
    *ret = 0;
    int r = SSL_read_ex(t->ssl, p, n, ret);
    if (r == 1)
        return PD_OK;
    pd_err e = judge(t, r, errno, &want);
    ERR_clear_error();
    return e;
}

pd_err tls_write(struct tls *t, const char *p, size_t n, size_t *ret)
{
    enum tls_want want;
    ERR_clear_error();
    errno = 0;
    *ret = 0;
    int r = SSL_write_ex(t->ssl, p, n, ret);
    if (r == 1)
        return PD_OK;
    pd_err e = judge(t, r, errno, &want);
    ERR_clear_error();
    return e == PD_CLOSED ? PD_RESET : e;
}

bool tls_pending(const struct tls *t)
{
    return t->ssl && SSL_has_pending(t->ssl);
}
