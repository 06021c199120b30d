#include "serve.h"

#include <sys/syscall.h>

/* ---- a socket that does little at a time ----
 *
 * These stand before libc's, for one descriptor of the server. */

static struct {
    int fd;                  /* 0: nobody's */
    size_t most;             /* bytes in one call */
    unsigned calls, every;   /* each call whose number is a multiple of `every` fails with `error` */
    int error;
} meddle;

static bool meddled(int fd, size_t *n)
{
    if (!meddle.fd || fd != meddle.fd)
        return false;
    if (meddle.most && *n > meddle.most)
        *n = meddle.most;
    if (!meddle.every || ++meddle.calls % meddle.every)
        return false;
    errno = meddle.error;
    return true;
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    return meddled(fd, &n) ? -1 : syscall(SYS_recvfrom, fd, p, n, flags, NULL, NULL);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    return meddled(fd, &n) ? -1 : syscall(SYS_sendto, fd, p, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    size_t n = SIZE_MAX;
    struct msghdr short_m = *m;
    if (meddled(fd, &n))
        return -1;
    if (n == SIZE_MAX)
        return syscall(SYS_sendmsg, fd, m, flags);
    for (short_m.msg_iovlen = 0; short_m.msg_iovlen < m->msg_iovlen; short_m.msg_iovlen++)
        if (m->msg_iov[short_m.msg_iovlen].iov_len) {     /* the first part, or the start of it */
            const struct iovec *v = &m->msg_iov[short_m.msg_iovlen];
            return syscall(SYS_sendto, fd, v->iov_base, v->iov_len < n ? v->iov_len : n, flags, NULL, 0);
        }
    return 0;
}

static void short_reads_interruptions_and_full_sockets_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t most;
        unsigned every;
        int error;
    } rows[] = {
        {"one byte", 1, 0, 0},     {"seven bytes", 7, 0, 0},      {"interrupted", 500, 2, EINTR},
        {"full or empty", 500, 2, EAGAIN}, {"a byte, then interrupted", 1, 2, EINTR}, {"large", 30000, 3, EAGAIN},
    };
    static char body[40000];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct serve t;
        struct caller p;
        serve_rules(&t);
        serve_begin(&t);
        size_t n = rows[i].most < 100 ? 300 : sizeof(body);
        for (size_t k = 0; k < n; k++)
            body[k] = (char)('a' + (k * 7 + i) % 26);
        call_begin(&p, &t);
        meddle.fd = serve_conn(&t)->watch.fd;
        meddle.most = rows[i].most;
        meddle.every = rows[i].every;
        meddle.error = rows[i].error;
        char head[128];
        snprintf(head, sizeof(head), "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", n);
        call_say(&t, &p, head);
        call_send(&t, &p, body, n);
        SERVE_UNTIL(&t, t.held_count == 1);
        assert_true(span_eq(request_body(t.held[0]), span_of(body, n)));

        struct span parts[3] = {span_of(body, 10), span_of(body + 10, n - 20), span_of(body + n - 10, 10)};
        assert_int_equal(reply_begin(t.held[0], 200, NULL, 0, (int64_t)n), PD_OK);
        assert_int_equal(reply_write(t.held[0], parts, 3), PD_OK);
        reply_end(t.held[0]);
        body[0] = '\0';     /* nothing of ours may still be needed */
        call_hear(&t, &p, "\r\n\r\n");
        size_t head_n = (size_t)(strstr(p.in, "\r\n\r\n") + 4 - p.in);
        while (p.n < head_n + n) {
            serve_wait(&t, p.fd, POLLIN, rows[i].name, __LINE__);
            call_take(&p);
        }
        assert_memory_equal(p.in + head_n + 1, body + 1, n - 1);
        call_forget(&p);
        call_say(&t, &p, CHUNKED("/x") "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n" GET("/x"));
        call_hear(&t, &p, "\r\n\r\nabcdefg");
        call_end(&p);
        SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
        memset(&meddle, 0, sizeof(meddle));
        serve_end(&t);
    }
}

/* A write finds out first that the client has gone: its caller is told later, not from within its own call. */
static void a_write_into_a_reset_connection_tells_later(void **state)
{
    (void)state;
    static char block[100000];
    struct span large = span_of(block, sizeof(block)), small = SPAN_LIT("x");
    for (int how = 0; how < 5; how++) {
        struct serve t;
        struct caller p;
        serve_rules(&t);
        serve_begin(&t);
        struct request *rq = serve_hold(&t, &p, GET("/hold"));
        assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
        meddle.fd = serve_conn(&t)->watch.fd;
        meddle.every = 1;
        meddle.error = how & 1 ? EPIPE : ECONNRESET;
        assert_int_equal(reply_write(rq, how < 2 ? &large : &small, 1), PD_OK);
        if (how >= 2)
            reply_flush(rq);
        assert_int_equal(t.gone, 0);
        assert_int_equal(reply_write(rq, &large, 1), PD_OK);
        if (how == 4)
            reply_end(rq);
        assert_int_equal(t.gone, 0);
        SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
        assert_int_equal(t.gone, how == 4 ? 0 : 1);
        memset(&meddle, 0, sizeof(meddle));
        call_end(&p);
        serve_end(&t);
    }
}

static void a_last_write_that_fails_just_closes(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    meddle.fd = serve_conn(&t)->watch.fd;
    meddle.every = 1;
    meddle.error = EPIPE;
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("x"));
    memset(&meddle, 0, sizeof(meddle));
    assert_int_equal(server_stats(t.server)->connections_open, 0);
    assert_int_equal(t.gone, 0);
    call_end(&p);
    serve_end(&t);
}

static void IPv6_works_too(void **state)
{
    (void)state;
    struct serve t;
    struct caller p = {.fd = -1};
    uint16_t port;
    serve_rules(&t);
    serve_begin(&t);
    pd_err err = server_listen(t.server, "[::1]:0", &port);
    if (err == PD_IO) {
        serve_end(&t);
        skip();     /* a machine without IPv6 */
    }
    assert_int_equal(err, PD_OK);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    p.fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(p.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    call_say(&t, &p, GET("/hold"));
    SERVE_UNTIL(&t, t.held_count == 1);
    assert_true(span_starts(span_str(request_peer(t.held[0])), "[::1]:"));
    assert_true(request_peer_is_loopback(t.held[0]));
    int fds[4];
    assert_int_equal(server_listening(t.server, fds, 4), 2);
    assert_int_equal(server_listening(t.server, fds, 1), 1);
    reply_simple(t.held[0], 200, NULL, 0, SPAN_LIT("six"));
    call_hear(&t, &p, "six");
    call_end(&p);
    serve_end(&t);
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_reads_interruptions_and_full_sockets_change_nothing),
        cmocka_unit_test(a_write_into_a_reset_connection_tells_later),
        cmocka_unit_test(a_last_write_that_fails_just_closes),
        cmocka_unit_test(IPv6_works_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
