/* tls.h - OpenSSL on a non-blocking socket, as a client.
 *
 * A `tls_ctx` is what connections share: trust and protocol settings. A
 * `tls_sessions` holds the sessions of one origin, so that the next connection
 * there needs no full handshake (a TLS 1.3 session is used once). A `struct tls` is
 * one connection: a plain value inside its owner.
 *
 * Bytes may wait inside OpenSSL where epoll does not see them: after tls_read, ask
 * tls_pending() before going back to wait. */
#ifndef PERDURE_NET_TLS_H
#define PERDURE_NET_TLS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct ssl_st;
struct ssl_session_st;
struct tls_ctx;

enum { TLS_SESSIONS_KEPT = 8 };
struct tls_sessions {
    struct ssl_session_st *kept[TLS_SESSIONS_KEPT]; /* the newest last */
    unsigned count;
};
void tls_sessions_init(struct tls_sessions *s);
void tls_sessions_done(struct tls_sessions *s);

/* TLS 1.2 and later, verified against `ca_file` (PEM) or, when NULL, the system's store (SSL_CERT_FILE and SSL_CERT_DIR are honoured);
 * insecure: not verified. PD_TLS: ca_file cannot be read or holds no certificate; PD_NOMEM. */
pd_err tls_ctx_new(const char *ca_file, bool insecure, struct tls_ctx **ret) PD_CHECKED;
struct tls_ctx *tls_ctx_free(struct tls_ctx *c); /* NULL is fine; returns NULL */

struct tls {
    struct ssl_st *ssl; /* NULL: not a TLS connection */
    bool spent;         /* a fatal error or the end was seen: nothing may be sent */
};

/* Binds to a connected socket. `host` is checked against the certificate, and sent as SNI unless it is an address. `sessions` is used
 * and filled; it must outlive `t`. PD_NOMEM; PD_TLS. */
pd_err tls_open(struct tls *t, struct tls_ctx *c, int fd, const char *host,
                struct tls_sessions *sessions) PD_CHECKED;
/* Frees. `in_order`: everything was read and sent, so the peer is told. Not open is fine. */
void tls_done(struct tls *t, bool in_order);

enum tls_want { TLS_DONE, TLS_WANTS_READ, TLS_WANTS_WRITE };
/* On PD_TLS, PD_CLOSED, PD_RESET, PD_IO: `why` gets half a sentence ("certificate has expired (host api.x)"). */
pd_err tls_handshake(struct tls *t, enum tls_want *ret_want, const char *host, char *why,
                     size_t why_bytes) PD_CHECKED;
bool tls_resumed(const struct tls *t);

/* *ret is 0 when it would block. PD_CLOSED: ended with close_notify; PD_CUT: the connection ended without it; PD_RESET, PD_TLS, PD_IO. */
pd_err tls_read(struct tls *t, char *p, size_t n, size_t *ret) PD_CHECKED;
/* May take less than n; *ret is 0 when it would block: call again with the same bytes, at least as many. */
pd_err tls_write(struct tls *t, const char *p, size_t n, size_t *ret) PD_CHECKED;
bool tls_pending(const struct tls *t);

#endif
