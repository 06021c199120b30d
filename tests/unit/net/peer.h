/* peer.h - a scripted other side for the client's tests: a thread with blocking sockets that does what its script says.
 *
 * A script runs beside the loop under test. What it finds wrong is noted by line and asserted in peer_join(), in the test's own
 * thread. Nothing waits for time to pass: a blocked call that lasts PEER_PATIENCE_MS is itself a failure. */
#ifndef PERDURE_TESTS_PEER_H
#define PERDURE_TESTS_PEER_H

#include "base/span.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

enum { PEER_PATIENCE_MS = 20000, PEER_IN = 256 * 1024 };

struct peer;
struct link { /* one accepted connection */
    struct peer *peer;
    int fd;
    SSL *ssl;
    size_t n; /* bytes of `in` */
    char in[PEER_IN];
};
struct peer {
    int fd;
    uint16_t port;
    char url[64];
    pthread_t thread;
    void (*script)(struct peer *p, void *arg);
    void *arg;
    SSL_CTX *tls;     /* set: every accepted connection begins with a handshake */
    sem_t go;         /* test -> script */
    sem_t said;       /* script -> test, for a test that must not run its loop meanwhile */
    _Atomic int told; /* script -> test */
    void (*wake)(void *ctx);
    void *wake_ctx;
    _Atomic int wrong_line; /* of the first peer_check that failed */
    _Atomic unsigned accepted;
};

#define PEER_FN __attribute__((unused)) static
#define peer_check(p, what)                                                                          \
    do {                                                                                             \
        int none_ = 0;                                                                               \
        if (!(what))                                                                                 \
            __atomic_compare_exchange_n((int *)(void *)&(p)->wrong_line, &none_, __LINE__, 0, 5, 5); \
    } while (0)

PEER_FN int peer_listen_on(const char *ip, uint16_t *port, int backlog)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t n = sizeof(a);
    inet_pton(AF_INET, ip, &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    *port = ntohs(a.sin_port);
    return fd;
}

PEER_FN void peer_init(struct peer *p)
{
    *p = (struct peer){0};
    sem_init(&p->go, 0, 0);
    sem_init(&p->said, 0, 0);
    p->fd = peer_listen_on("127.0.0.1", &p->port, 64);
    assert_true(p->fd >= 0);
    snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%u", (unsigned)p->port);
}

PEER_FN void *peer_main(void *arg)
{
    struct peer *p = arg;
    p->script(p, p->arg);
    return NULL;
}

PEER_FN void peer_run(struct peer *p, void (*script)(struct peer *p, void *arg), void *arg)
{
    p->script = script;
    p->arg = arg;
    assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

PEER_FN void peer_join(struct peer *p)
{
    pthread_join(p->thread, NULL);
    close(p->fd);
    sem_destroy(&p->go);
    sem_destroy(&p->said);
    if (p->wrong_line)
        fail_msg("the scripted peer found something wrong at line %d", p->wrong_line);
}

/* The test lets the script go on; the script waits for it. */
PEER_FN void peer_go(struct peer *p)
{
    sem_post(&p->go);
}
PEER_FN bool peer_patient(sem_t *s)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += PEER_PATIENCE_MS / 1000;
    int r;
    while ((r = sem_timedwait(s, &t)) != 0 && errno == EINTR) {
    }
    return r == 0;
}
PEER_FN void peer_wait(struct peer *p)
{
    peer_check(p, peer_patient(&p->go));
}
PEER_FN void peer_hear(struct peer *p)
{
    assert_true(peer_patient(&p->said));
}
PEER_FN void peer_tell(struct peer *p)
{
    p->told++;
    sem_post(&p->said);
    if (p->wake)
        p->wake(p->wake_ctx);
}

/* ---- a connection ------------------------------------------------------------------ */

PEER_FN struct link *peer_accept(struct peer *p)
{
    struct link *k = calloc(1, sizeof(*k));
    struct pollfd f = {.fd = p->fd, .events = POLLIN};
    k->peer = p;
    peer_check(p, poll(&f, 1, PEER_PATIENCE_MS) == 1);
    k->fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC);
    peer_check(p, k->fd >= 0);
    struct timeval t = {.tv_sec = PEER_PATIENCE_MS / 1000};
    int on = 1;
    setsockopt(k->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    setsockopt(k->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    p->accepted++;
    if (p->tls) {
        k->ssl = SSL_new(p->tls);
        SSL_set_fd(k->ssl, k->fd);
        if (SSL_accept(k->ssl) != 1) {
            SSL_free(k->ssl);
            k->ssl = NULL; /* scripts about failing handshakes look at this */
        }
    }
    return k;
}

/* 0: the end; -1: reset or an error. */
PEER_FN ssize_t link_read(struct link *k, char *p, size_t n)
{
    if (!k->ssl)
        return recv(k->fd, p, n, 0);
    int r = SSL_read(k->ssl, p, (int)n);
    if (r > 0)
        return r;
    return SSL_get_error(k->ssl, r) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

PEER_FN bool link_send_bytes(struct link *k, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n) {
        ssize_t r = k->ssl ? SSL_write(k->ssl, p, (int)n) : send(k->fd, p, n, MSG_NOSIGNAL);
        if (r <= 0)
            return false;
        p += r;
        n -= (size_t)r;
    }
    return true;
}
PEER_FN bool link_send(struct link *k, const char *text)
{
    return link_send_bytes(k, text, strlen(text));
}

/* Reads one request's head into k->in (NUL-ended), then skips its Content-Length. False when the client left. */
PEER_FN bool link_request(struct link *k, size_t *ret_body)
{
    k->n = 0;
    char *end = NULL;
    while (!end) {
        ssize_t r = link_read(k, k->in + k->n, 1); /* one by one: nothing of the body is taken with it */
        if (r <= 0 || k->n + 2 > PEER_IN)
            return false;
        k->n += (size_t)r;
        k->in[k->n] = '\0';
        if (k->n >= 4 && memcmp(k->in + k->n - 4, "\r\n\r\n", 4) == 0)
            end = k->in + k->n;
    }
    char *length = strcasestr(k->in, "\r\nContent-Length: ");
    size_t left = length ? strtoul(length + 18, NULL, 10) : 0;
    if (ret_body)
        *ret_body = left;
    while (left) {
        char skip[16384];
        ssize_t r = link_read(k, skip, left < sizeof(skip) ? left : sizeof(skip));
        if (r <= 0)
            return false;
        left -= (size_t)r;
    }
    return true;
}

/* Waits until the client closes (or resets) this connection. */
PEER_FN bool link_closed(struct link *k)
{
    char rest[4096];
    for (;;) {
        ssize_t r = link_read(k, rest, sizeof(rest));
        if (r == 0 || (r < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
            return true;
        if (r < 0)
            return false;
    }
}

PEER_FN void link_free(struct link *k)
{
    SSL_free(k->ssl);
    close(k->fd);
    free(k);
}
/* An orderly end: close_notify over TLS, then FIN. */
PEER_FN void link_close(struct link *k)
{
    if (k->ssl)
        SSL_shutdown(k->ssl);
    link_free(k);
}
PEER_FN void link_reset(struct link *k)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    if (k->ssl)
        SSL_set_quiet_shutdown(k->ssl, 1);
    link_free(k);
}

#endif
