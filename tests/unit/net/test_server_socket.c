#include "serve.h"

#include <netinet/tcp.h>
#include <sys/syscall.h>

/* ---- a socket that does little at a time ----
 *
 * These stand before libc's, for one descriptor of the server. */

static struct {
    int fd;                /* 0: nobody's */
    size_t most;           /* bytes in one call */
    unsigned calls, every; /* each call whose number is a multiple of `every` fails with `error` */
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
        if (m->msg_iov[short_m.msg_iovlen].iov_len) { /* the first part, or the start of it */
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
        {"one byte", 1, 0, 0},
        {"seven bytes", 7, 0, 0},
        {"interrupted", 500, 2, EINTR},
        {"full or empty", 500, 2, EAGAIN},
        {"a byte, then interrupted", 1, 2, EINTR},
        {"large", 30000, 3, EAGAIN},
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
        body[0] = '\0'; /* nothing of ours may still be needed */
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
        skip(); /* a machine without IPv6 */
    }
    assert_int_equal(err, PD_OK);
    struct sockaddr_in6 a = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
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

static void the_sockets_are_set_up_as_they_should(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    int fds[1], value = 0;
    socklen_t n = sizeof(value);
    assert_int_equal(server_listening(t.server, fds, 1), 1);
    assert_int_equal(getsockopt(fds[0], SOL_SOCKET, SO_REUSEADDR, &value, &n), 0);
    assert_int_not_equal(value, 0);
    int fd = serve_conn(&t)->watch.fd;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n), 0);
    assert_int_not_equal(value, 0);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &n), 0);
    assert_int_not_equal(value, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    call_end(&p);
    serve_end(&t);
}

/* ---- limits that only a stubborn client meets ---- */

static void a_body_that_starts_fast_and_then_drips_is_refused(void **state)
{
    (void)state;
    static char block[100000];
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_stall_ms = 100;
    t.rules.body_rate = 10000;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/x", "200000", ""));
    call_send(&t, &p, block, sizeof(block)); /* ten seconds' worth, but only the first window has it */
    uint64_t began = clock_mono_ms();
    while (!call_has(&p, "408 ")) {
        call_send(&t, &p, "x", 1);
        serve_wait(&t, p.fd, POLLIN, "408", __LINE__);
    }
    assert_true(clock_mono_ms() - began < 8000);
    call_hear(&t, &p, "\"code\":\"body_too_slow\"");
    call_end(&p);
    serve_end(&t);
}

static void chunk_framing_is_limited_too(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_bytes = 100000;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, CHUNKED("/x"));
    char chunk[256];
    memset(chunk, 'e', sizeof(chunk));
    memcpy(chunk, "1;", 2);
    memcpy(chunk + 250, "\r\nx\r\n", 5);
    unsigned sent = 0;
    for (; !call_has(&p, "\"code\":\"body_too_large\"") && sent < 2000; sent++)
        call_send(&t, &p, chunk, 255);
    assert_true(sent > 600 && sent < 800); /* (100000 + 64 KB) / 254 */
    call_end(&p);
    serve_end(&t);
}

static void lingering_ends_by_itself(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    t.server->linger_ms = 50;
    call_begin(&p, &t);
    call_say(&t, &p, "nonsense\r\n\r\n");
    call_hear_end(&t, &p); /* our side stays open */
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    call_end(&p);
    serve_end(&t);
}

/* What was kept is taken up when a reply ends, also in a turn in which nothing else happens. */
static void a_kept_request_starts_when_a_long_reply_ends(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold") POST("/x", "4", "next"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    call_hear(&t, &p, "chunked");
    reply_end(rq);
    call_hear(&t, &p, "\r\n\r\nnext");
    call_end(&p);
    serve_end(&t);
}

/* The queue falls a little at a time: on_drain comes below out_low_bytes and not before. */
static void drain_is_called_below_the_low_mark_only(void **state)
{
    (void)state;
    static char block[15000];
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    meddle.fd = serve_conn(&t)->watch.fd;
    meddle.most = 2000;
    meddle.every = 2;
    meddle.error = EAGAIN;
    struct span part = span_of(block, sizeof(block));
    while (reply_queued(rq) <= t.rules.out_high_bytes)
        assert_int_equal(reply_write(rq, &part, 1), PD_OK);
    while (!t.drains) {
        assert_true(reply_queued(rq) > 0);
        call_take(&p);
        serve_wait(&t, p.fd, POLLIN, "on_drain", __LINE__);
    }
    assert_true(reply_queued(rq) < t.rules.out_low_bytes);
    memset(&meddle, 0, sizeof(meddle));
    reply_end(rq);
    call_hear(&t, &p, "\r\n0\r\n\r\n");
    call_end(&p);
    serve_end(&t);
}

/* The last bytes before a close are read first: closing over them would be a reset, which can take our answer with it. */
static void a_close_behind_late_bytes_is_no_reset(void **state)
{
    (void)state;
    static char block[30000];
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, "nonsense\r\n\r\n");
    assert_true(send(p.fd, block, sizeof(block), MSG_NOSIGNAL) > 0);
    shutdown(p.fd, SHUT_WR);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    int fault = -1;
    socklen_t n = sizeof(fault);
    assert_int_equal(getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &fault, &n), 0);
    assert_int_equal(fault, 0);
    call_hear_end(&t, &p);
    assert_false(p.reset);
    assert_true(call_has(&p, "HTTP/1.1 400 "));
    call_end(&p);
    serve_end(&t);
}

static void a_promised_length_reserves_only_a_part(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/x", "60000000", "abc"));
    SERVE_UNTIL(&t, t.heads == 1);
    assert_true(serve_conn(&t)->rq->big.capacity >= SERVER_BODY_FIRST);
    assert_true(serve_conn(&t)->rq->big.capacity <= 2 * SERVER_BODY_FIRST);
    call_end(&p);
    serve_end(&t);
}

/* A handler that began its answer in on_head is not asked again. */
static void on_request_is_not_called_behind_an_early_beginning(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/early-stream", "3", "abc"));
    SERVE_UNTIL(&t, t.held_count == 1);
    struct span part = SPAN_LIT("mine");
    assert_int_equal(reply_write(t.held[0], &part, 1), PD_OK);
    reply_end(t.held[0]);
    call_hear(&t, &p, "\r\n\r\n4\r\nmine\r\n0\r\n\r\n");
    call_say(&t, &p, POST("/x", "4", "next"));
    call_hear(&t, &p, "\r\n\r\nnext");
    call_end(&p);
    serve_end(&t);
}

static void a_stream_that_began_before_a_drain_closes_behind_itself(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    call_hear(&t, &p, "chunked");
    server_drain(t.server, serve_is_drained, &t);
    serve_settle(&t);
    assert_false(t.drained);
    reply_end(rq);
    call_hear(&t, &p, "\r\n0\r\n\r\n");
    call_hear_end(&t, &p);
    SERVE_UNTIL(&t, t.drained);
    call_end(&p);
    t.server = server_free(t.server);
    t.loop = loop_free(t.loop);
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
        cmocka_unit_test(the_sockets_are_set_up_as_they_should),
        cmocka_unit_test(a_body_that_starts_fast_and_then_drips_is_refused),
        cmocka_unit_test(chunk_framing_is_limited_too),
        cmocka_unit_test(lingering_ends_by_itself),
        cmocka_unit_test(drain_is_called_below_the_low_mark_only),
        cmocka_unit_test(a_close_behind_late_bytes_is_no_reset),
        cmocka_unit_test(a_promised_length_reserves_only_a_part),
        cmocka_unit_test(on_request_is_not_called_behind_an_early_beginning),
        cmocka_unit_test(a_stream_that_began_before_a_drain_closes_behind_itself),
        cmocka_unit_test(a_kept_request_starts_when_a_long_reply_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
