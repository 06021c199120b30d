#include "net/server.h"

#include "base/clock.h"
#include "base/mem.h"
#include "net/h2_priv.h"
#include "net/server_priv.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

void server_rules_default(struct server_rules *r)
{
    *r = (struct server_rules){
        .head_bytes = 64 * 1024,
        .body_bytes = (size_t)64 << 20,
        .head_ms = 30000,
        .body_stall_ms = 60000,
        .body_rate = 1024,
        .idle_ms = 75000,
        .write_stall_ms = 60000,
        .connections = 10000,
        .requests_per_connection = 0,
        .h2_streams = 100,
        .out_high_bytes = 64 * 1024,
        .out_low_bytes = 16 * 1024,
    };
}

/* ---- the date, written once a second ---- */

struct span server_date(struct server *s)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

    uint64_t now = clock_wall_ms() / 1000;
    if (now != s->date_s) {
        time_t t = (time_t)now;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(s->date, sizeof(s->date), "Date: %s, %02u %s %04u %02u:%02u:%02u GMT\r\n", days[tm.tm_wday % 7],
                 (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12], ((unsigned)tm.tm_year + 1900) % 10000,
                 (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
        s->date_s = now;
    }
    return span_of(s->date, sizeof("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n") - 1);
}

/* ---- accepting ---- */

static int accept_one(int listener, struct sockaddr_storage *peer)
{
    socklen_t n = sizeof(*peer);
    return accept4(listener, (struct sockaddr *)peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Closed with an answer, without a connection of ours. What the client already sent is read first: closing over unread
 * bytes is a reset, which can overtake the answer. */
static void refuse_fd(struct server *s, int fd, const char *code, const char *message)
{
    struct buf out;
    buf_init(&out, 0);
    s->stats.connections_refused_total++;
    if (!server_format_refusal(s, &out, 503, code, message))
        (void)send(fd, out.p + out.head, buf_size(&out), MSG_NOSIGNAL | MSG_DONTWAIT);
    buf_done(&out);
    (void)shutdown(fd, SHUT_WR);
    (void)recv(fd, s->scratch, SERVER_SCRATCH, MSG_DONTWAIT);
    close(fd);
}

static void listen_want(struct server *s, int events)
{
    LIST_EACH(node, &s->listeners)
    watch_want(&LIST_OF(node, struct listener, node)->watch, events);
}

static void pause_accepting(struct server *s)
{
    s->paused = true;
    s->stats.accept_paused_total++;
    listen_want(s, 0);
    timer_arm(s->loop, &s->pause, loop_now_ms(s->loop) + SERVER_PAUSE_MS);
}

static void open_reserve(struct server *s)
{
    if (s->reserve_fd < 0)
        s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void resume_accepting(void *ctx)
{
    struct server *s = ctx;
    timer_stop(s->loop, &s->pause);
    open_reserve(s);
    if (!s->paused)
        return;
    s->paused = false;
    listen_want(s, WATCH_READ);
}

void server_conn_closed(struct server *s)
{
    if (s->paused || s->reserve_fd < 0)
        resume_accepting(s);
    server_look_quiet(s);
}

/* Descriptors are out: the reserve is given up for one client, who is told so, rather than left to wait unseen. */
static bool refuse_with_reserve(struct server *s, int listener)
{
    if (s->reserve_fd < 0)
        return false;

    close(s->reserve_fd);
    s->reserve_fd = -1;
    struct sockaddr_storage peer;
    int fd = accept_one(listener, &peer);
    if (fd >= 0)
        refuse_fd(s, fd, "out_of_descriptors", "The server is out of file descriptors; try again later.");
    open_reserve(s);
    return fd >= 0 && s->reserve_fd >= 0;
}

static void take_connection(struct server *s, int fd, const struct sockaddr_storage *peer)
{
    s->stats.connections_total++;
    if (s->stats.connections_open >= s->rules.connections) {
        refuse_fd(s, fd, "too_many_connections",
                  "The server has reached its limit `connections`; try again later.");
        return;
    }
    if (conn_new(s, fd, peer) != PD_OK)
        refuse_fd(s, fd, "out_of_memory", "The server is out of memory; try again later.");
}

static void on_connection(void *ctx, int events, pd_err err)
{
    struct listener *ln = ctx;
    struct server *s = ln->server;
    if (err) {
        pause_accepting(s);
        return;
    }
    for (int i = 0; i < SERVER_ACCEPT_BATCH && ln->watch.open && !s->paused; i++) {
        struct sockaddr_storage peer;
        int fd = accept_one(ln->watch.fd, &peer);
        if (fd >= 0) {
            take_connection(s, fd, &peer);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
            continue;
        if ((errno == EMFILE || errno == ENFILE) && refuse_with_reserve(s, ln->watch.fd))
            continue;
        pause_accepting(s);
        return;
    }
}

/* ---- listening ---- */

static bool parse_address(struct span text, struct sockaddr_storage *ret, socklen_t *ret_size)
{
    size_t colon = text.n;
    while (colon > 0 && text.p[colon - 1] != ':')
        colon--;
    uint64_t port;
    char host[INET6_ADDRSTRLEN];
    if (colon < 2 || !span_u64(span_from(text, colon), &port) || port > 65535)
        return false;

    struct span name = span_upto(text, colon - 1);
    bool six = name.p[0] == '[';
    if (six) {
        if (name.n < 3 || name.p[name.n - 1] != ']')
            return false;
        name = span_of(name.p + 1, name.n - 2);
    }
    if (name.n >= sizeof(host))
        return false;
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';

    memset(ret, 0, sizeof(*ret));
    if (six) {
        struct sockaddr_in6 *a = (struct sockaddr_in6 *)ret;
        a->sin6_family = AF_INET6;
        a->sin6_port = htons((uint16_t)port);
        *ret_size = sizeof(*a);
        return inet_pton(AF_INET6, host, &a->sin6_addr) == 1;
    }
    struct sockaddr_in *a = (struct sockaddr_in *)ret;
    a->sin_family = AF_INET;
    a->sin_port = htons((uint16_t)port);
    *ret_size = sizeof(*a);
    return inet_pton(AF_INET, host, &a->sin_addr) == 1;
}

union any_address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_storage room;
};

bool server_listens_at(int fd, const char *address)
{
    union any_address want, have = {.room = {0}};
    socklen_t want_size, n = sizeof(have);
    if (!parse_address(span_str(address), &want.room, &want_size) || getsockname(fd, &have.any, &n) != 0 ||
        have.any.sa_family != want.any.sa_family)
        return false;
    if (have.any.sa_family == AF_INET6)
        return memcmp(&have.six.sin6_addr, &want.six.sin6_addr, sizeof(want.six.sin6_addr)) == 0 &&
               (!want.six.sin6_port || have.six.sin6_port == want.six.sin6_port);
    return have.four.sin_addr.s_addr == want.four.sin_addr.s_addr &&
           (!want.four.sin_port || have.four.sin_port == want.four.sin_port);
}

pd_err server_address(int fd, char *out, size_t out_bytes, uint16_t *ret_port)
{
    char host[INET6_ADDRSTRLEN] = "";
    union any_address have = {.room = {0}};
    socklen_t n = sizeof(have);
    if (getsockname(fd, &have.any, &n) != 0)
        return PD_IO;
    if (have.any.sa_family == AF_INET) {
        *ret_port = ntohs(have.four.sin_port);
        inet_ntop(AF_INET, &have.four.sin_addr, host, sizeof(host));
    } else if (have.any.sa_family == AF_INET6) {
        *ret_port = ntohs(have.six.sin6_port);
        inet_ntop(AF_INET6, &have.six.sin6_addr, host, sizeof(host));
    } else {
        return PD_UNSUPPORTED;
    }
    bool six = have.any.sa_family == AF_INET6;
    snprintf(out, out_bytes, "%s%s%s:%u", six ? "[" : "", host, six ? "]" : "", *ret_port);
    return PD_OK;
}

static void set_int(int fd, int level, int option, int value)
{
    /* None of these is worth refusing to listen: a Unix socket, for one, has no TCP_NODELAY. */
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

pd_err server_listen_fd(struct server *s, int fd)
{
    struct listener *ln = mem_zalloc(sizeof(*ln));
    if (!ln)
        return PD_NOMEM;

    /* Accepted sockets inherit these, which saves two calls for each. A client whose machine vanished is found by keep-alive. */
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    ln->server = s;
    pd_err err = watch_open(s->loop, &ln->watch, fd, s->paused ? 0 : WATCH_READ, on_connection, ln);
    if (err) {
        mem_free(ln);
        return err;
    }
    list_push(&s->listeners, &ln->node);
    return PD_OK;
}

static pd_err bound(int fd, const struct sockaddr_storage *a, socklen_t size, uint16_t *ret_port)
{
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (a->ss_family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(fd, (const struct sockaddr *)a, size) != 0 || listen(fd, SOMAXCONN) != 0)
        return errno == EADDRINUSE ? PD_EXISTS : PD_IO;

    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } got = {.six = {0}};
    socklen_t n = sizeof(got);
    if (getsockname(fd, &got.any, &n) != 0)
        return PD_IO;
    *ret_port = ntohs(got.any.sa_family == AF_INET6 ? got.six.sin6_port : got.four.sin_port);
    return PD_OK;
}

pd_err server_listen(struct server *s, const char *address, uint16_t *ret_port)
{
    struct sockaddr_storage a;
    socklen_t size;
    if (!parse_address(span_str(address), &a, &size))
        return PD_INVALID;

    int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
    uint16_t port = 0;
    pd_err err = bound(fd, &a, size, &port);
    if (!err)
        err = server_listen_fd(s, fd);
    if (err) {
        close(fd);
        return err;
    }
    *ret_port = port;
    return PD_OK;
}

static void listener_closed(void *ctx)
{
    struct listener *ln = ctx;
    struct server *s = ln->server;
    list_remove(&ln->node);
    mem_free(ln);
    server_look_quiet(s);
}

/* The sockets stay: while one process has them open, those who wait in their queues are not turned away. */
static void rest_listening(struct server *s)
{
    timer_stop(s->loop, &s->pause);
    s->paused = false;
    s->resting = true;
    listen_want(s, 0);
}

static void stop_listening(struct server *s)
{
    timer_stop(s->loop, &s->pause);
    s->resting = false;
    LIST_EACH(node, &s->listeners)
    watch_close(&LIST_OF(node, struct listener, node)->watch, listener_closed);
}

/* ---- ending ---- */

static bool nothing_left(struct server *s)
{
    return list_empty(&s->conns) && (s->resting || list_empty(&s->listeners));
}

static void on_quiet(void *ctx)
{
    struct server *s = ctx;
    if (!nothing_left(s))
        return;
    void (*drained)(void *) = s->drained;
    void (*closed)(void *) = s->closed;
    s->drained = s->closed = NULL;
    void *drained_ctx = s->drained_ctx, *closed_ctx = s->closed_ctx;
    if (drained)
        drained(drained_ctx);
    if (closed)
        closed(closed_ctx); /* may free the server */
}

void server_look_quiet(struct server *s)
{
    if ((s->drained || s->closed) && nothing_left(s))
        loop_later(s->loop, &s->quiet);
}

static int accept_waiting_one(struct server *s, struct listener *ln, struct sockaddr_storage *peer)
{
    for (;;) {
        int fd = accept_one(ln->watch.fd, peer);
        if (fd >= 0)
            return fd;
        if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
            continue;
        if ((errno == EMFILE || errno == ENFILE) && refuse_with_reserve(s, ln->watch.fd))
            continue;
        return -1;
    }
}

/* Closing a listening socket resets who waits in its queue: they are taken first. */
static void accept_waiting(struct server *s)
{
    LIST_EACH(node, &s->listeners)
    {
        struct listener *ln = LIST_OF(node, struct listener, node);
        struct sockaddr_storage peer;
        for (int fd; ln->watch.open && (fd = accept_waiting_one(s, ln, &peer)) >= 0;)
            take_connection(s, fd, &peer);
    }
}

static void drain(struct server *s, bool shared, void (*drained)(void *ctx), void *ctx)
{
    s->draining = true;
    s->drained = drained;
    s->drained_ctx = ctx;
    if (shared)
        rest_listening(s);
    else
        stop_listening(s);
    LIST_EACH(node, &s->conns)
    {
        struct conn *c = LIST_OF(node, struct conn, node);
        if (c->phase == CONN_IDLE)
            conn_leave(c);
        else if (c->phase == CONN_H2)
            h2_leave(c);
    }
    server_look_quiet(s);
}

void server_drain(struct server *s, void (*drained)(void *ctx), void *ctx)
{
    drain(s, false, drained, ctx);
}

void server_leave(struct server *s, uint64_t grace_ms, bool shared, void (*drained)(void *ctx), void *ctx)
{
    if (!shared)
        accept_waiting(s);
    s->grace_ms = grace_ms;
    drain(s, shared, drained, ctx);
}

void server_return(struct server *s)
{
    if (!s->resting)
        return;
    s->draining = s->resting = false;
    s->grace_ms = 0;
    s->drained = NULL;
    listen_want(s, WATCH_READ);
}

void server_let_go(struct server *s)
{
    if (s->resting)
        stop_listening(s);
}

void server_close(struct server *s, void (*closed)(void *ctx), void *ctx)
{
    s->draining = s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    stop_listening(s);
    LIST_EACH(node, &s->conns)
    conn_drop(LIST_OF(node, struct conn, node));
    server_look_quiet(s);
}

struct server *server_new(struct loop *l, const struct server_rules *rules, const struct server_handler *h,
                          void *ctx)
{
    struct server *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    s->scratch = mem_alloc(SERVER_SCRATCH);
    if (!s->scratch) {
        mem_free(s);
        return NULL;
    }
    s->loop = l;
    s->rules = *rules;
    s->handler = *h;
    s->ctx = ctx;
    list_init(&s->listeners);
    list_init(&s->conns);
    timer_init(&s->pause, resume_accepting, s);
    later_init(&s->quiet, on_quiet, s);
    s->linger_ms = SERVER_LINGER_MS;
    s->reserve_fd = -1;
    open_reserve(s);
    return s;
}

struct server *server_free(struct server *s)
{
    if (!s)
        return NULL;
    assert(list_empty(&s->conns) && list_empty(&s->listeners));
    timer_stop(s->loop, &s->pause);
    later_cancel(&s->quiet);
    while (s->spares_count)
        buf_done(&s->spares[--s->spares_count]);
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    h2_forget(s);
    mem_free(s->scratch);
    mem_free(s);
    return NULL;
}

unsigned server_listening(const struct server *s, int *fds, unsigned most)
{
    unsigned n = 0;
    for (const struct list *it = s->listeners.next; it != &s->listeners && n < most; it = it->next)
        fds[n++] = LIST_OF(it, const struct listener, node)->watch.fd;
    return n;
}

void server_set_rules(struct server *s, const struct server_rules *rules)
{
    s->rules = *rules;
}

const struct server_stats *server_stats(const struct server *s)
{
    return &s->stats;
}
