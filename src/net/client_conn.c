#include "net/client_priv.h"

#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    CONN_IOV = 64,
    CONN_PROBES = 3,
    CONN_PROBE_AFTER_MAX_S =
        60, /* of silence: what stands between may forget a connection that is silent for longer */
    CONN_PEER_MAX_MS = 24 * 3600 * 1000,
    TLS_RECORD = 16 * 1024
};

pd_err conn_errno(int code)
{
    switch (code) {
    case ECONNRESET:
    case EPIPE:
        return PD_RESET;
    case ETIMEDOUT:
        return PD_TIMEOUT;
    case EMFILE:
    case ENFILE:
        return PD_NOFD;
    case ENOMEM:
    case ENOBUFS:
        return PD_NOMEM;
    default:
        return PD_IO;
    }
}

struct conn *upstream_new(struct client *c, struct origin *o)
{
    struct conn *k = mem_zalloc(sizeof(*k));
    if (!k)
        return NULL;
    k->c = c;
    k->o = o;
    k->state = CONN_CONNECTING;
    list_init(&k->node);
    buf_init(&k->held, 0); /* its limits are those of what is put in: a head, or one read */
    c->conns++;
    return k;
}

static void conn_free(struct conn *k)
{
    struct client *c = k->c;
    buf_done(&k->held);
    mem_free(k);
    c->conns--;
}

static void on_closed(void *ctx)
{
    struct conn *k = ctx;
    struct client *c = k->c;
    conn_free(k);
    client_check_closed(c);
}

/* Only an idle connection has no one who waits for its bytes. A TLS 1.3 ticket is no data; anything else, or the end, closes it:
 * what came could be taken for the answer to the next request. */
static void idle_event(struct conn *k)
{
    char byte;
    if (k->tls.ssl && conn_read(k, &byte, 1) == 0 && !k->read_end)
        return;
    upstream_close(k);
}

static void on_event(void *ctx, int events, pd_err err)
{
    struct conn *k = ctx;
    switch (k->state) {
    case CONN_CONNECTING:
        dial_event(k);
        return;
    case CONN_BUSY:
        exchange_event(k->x, events, err);
        return;
    case CONN_IDLE:
        if (err)
            upstream_close(k);
        else
            idle_event(k);
        return;
    case CONN_CLOSING:
        return;
    }
}

static void set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value,
                     sizeof(value)); /* where it is not to be had, the caller's clocks are left */
}

/* A host that vanished while a model thinks: without this nothing tells it from one that is thinking. Probes begin after half of
 * `ms`, and the connection ends with it: when CONN_PROBES were not answered, or when what was sent is not acknowledged. */
static void watch_peer(int fd, int ms)
{
    int after = ms / 2000 < CONN_PROBE_AFTER_MAX_S ? ms / 2000 : CONN_PROBE_AFTER_MAX_S;
    after = after < 1 ? 1 : after;
    int every = (ms / 1000 - after) / CONN_PROBES;
    every = every < 1 ? 1 : every;
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#if defined(TCP_KEEPIDLE)
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, after);
#elif defined(TCP_KEEPALIVE) /* macOS */
    set_option(fd, IPPROTO_TCP, TCP_KEEPALIVE, after);
#endif
#ifdef TCP_KEEPINTVL
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, every);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, CONN_PROBES);
#endif
#if defined(TCP_USER_TIMEOUT)
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms);
#elif defined(TCP_RXT_CONNDROPTIME) /* macOS, in seconds */
    set_option(fd, IPPROTO_TCP, TCP_RXT_CONNDROPTIME, ms < 1000 ? 1 : ms / 1000);
#endif
    (void)every;
}

static void set_options(int fd, uint64_t peer_ms)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (peer_ms)
        watch_peer(fd, peer_ms > CONN_PEER_MAX_MS ? CONN_PEER_MAX_MS : (int)peer_ms);
}

pd_err conn_connect(struct conn *k, const union dns_address *a, uint16_t port)
{
    k->address = *a;
    bool v6 = a->any.sa_family == AF_INET6;
    if (v6)
        k->address.v6.sin6_port = htons(port);
    else
        k->address.v4.sin_port = htons(port);

    int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    int code = fd < 0 ? errno : 0;
    if (fd >= 0) {
        set_options(fd, k->c->rules.peer_ms);
        if (connect(fd, &k->address.any, v6 ? sizeof(k->address.v6) : sizeof(k->address.v4)) != 0 &&
            errno != EINPROGRESS)
            code = errno;
    }
    pd_err e = code ? conn_errno(code) : watch_open(k->c->loop, &k->watch, fd, WATCH_WRITE, on_event, k);
    if (!e) {
        k->watch.ctx = k;
        return PD_OK;
    }
    if (fd >= 0)
        close(fd);
    conn_free(k);
    errno = code; /* for the sentence */
    return e;
}

bool conn_connected(struct conn *k, int *ret_errno)
{
    int code = 0;
    socklen_t n = sizeof(code);
    if (getsockopt(k->watch.fd, SOL_SOCKET, SO_ERROR, &code, &n) != 0)
        code = errno;
    *ret_errno = code;
    if (code)
        return false;
    k->counted = true;
    k->c->stats.connections_open++;
    k->c->stats.connects_total++;
    return true;
}

void upstream_close(struct conn *k)
{
    if (k->state == CONN_CLOSING)
        return;
    bool idle = k->state == CONN_IDLE;
    if (idle)
        origin_lost_idle(k->o, k);
    list_remove(&k->node);
    k->state = CONN_CLOSING;
    tls_done(&k->tls, idle && !k->read_end);
    if (k->counted)
        k->c->stats.connections_open--;
    k->x = NULL;
    k->dial = NULL;
    k->o = NULL;
    watch_close(&k->watch, on_closed);
}

/* ---- bytes --------------------------------------------------------------------------------------- */

static size_t plain_read(struct conn *k, char *p, size_t n)
{
    for (;;) {
        ssize_t r = recv(k->watch.fd, p, n, 0);
        if (r > 0)
            return (size_t)r;
        if (r < 0 && errno == EINTR)
            continue;
        if (r == 0)
            k->read_end = PD_CLOSED;
        else if (errno != EAGAIN && errno != EWOULDBLOCK)
            k->read_end = conn_errno(errno);
        return 0;
    }
}

/* As many records as fit: epoll would not tell of those that OpenSSL already holds. */
static size_t secure_read(struct conn *k, char *p, size_t n)
{
    size_t total = 0;
    do {
        size_t got = 0;
        k->read_end = tls_read(&k->tls, p + total, n - total, &got);
        total += got;
        if (!got)
            break;
    } while (total < n && tls_pending(&k->tls));
    return total;
}

size_t conn_read(struct conn *k, char *p, size_t n)
{
    if (k->read_end)
        return 0;
    return k->tls.ssl ? secure_read(k, p, n) : plain_read(k, p, n);
}

static size_t plain_write(struct conn *k, const struct span *parts, unsigned count, size_t skip, bool *ret_full)
{
    struct iovec iov[CONN_IOV];
    size_t given = 0;
    struct msghdr m = {.msg_iov = iov};
    for (unsigned i = 0; i < count && m.msg_iovlen < CONN_IOV; i++) {
        size_t from = i == 0 ? skip : 0;
        if (parts[i].n == from)
            continue;
        iov[m.msg_iovlen].iov_base = (char *)(uintptr_t)parts[i].p + from;
        iov[m.msg_iovlen++].iov_len = parts[i].n - from;
        given += parts[i].n - from;
    }
    for (;;) {
        ssize_t r = sendmsg(k->watch.fd, &m, MSG_NOSIGNAL);
        *ret_full = r < 0 || (size_t)r < given;
        if (r >= 0)
            return (size_t)r;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            k->send_end = conn_errno(errno);
        return 0;
    }
}

/* A record is made of bytes that lie together. Small parts are gathered into one record, since each alone would be a packet;
 * long ones go as they are. After a "would block" the same parts give the same record, as OpenSSL asks. */
static size_t secure_write(struct conn *k, const struct span *parts, unsigned count, size_t skip)
{
    const char *p = parts[0].p + skip;
    size_t n = parts[0].n - skip, taken;
    if (n < TLS_RECORD && count > 1) {
        char *gathered = k->c->scratch;
        memcpy(gathered, p, n);
        for (unsigned i = 1; i < count && n < TLS_RECORD; i++) {
            size_t more = parts[i].n < TLS_RECORD - n ? parts[i].n : TLS_RECORD - n;
            if (more)
                memcpy(gathered + n, parts[i].p, more);
            n += more;
        }
        p = gathered;
    } else if (n > TLS_RECORD) {
        n = TLS_RECORD;
    }
    k->send_end = tls_write(&k->tls, p, n, &taken);
    return taken;
}

size_t conn_write(struct conn *k, const struct span *parts, unsigned count, size_t skip, bool *ret_full)
{
    *ret_full = false;
    if (k->send_end)
        return 0;
    return k->tls.ssl ? secure_write(k, parts, count, skip) : plain_write(k, parts, count, skip, ret_full);
}
