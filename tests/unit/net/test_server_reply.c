#include "serve.h"

#include <sys/resource.h>

/* ---- replies ---- */

static void replies_are_framed_as_the_client_can_read_them(void **state)
{
    (void)state;
    static const struct {
        const char *name, *wire;
        int status, length; /* length -1: not known */
        const char *must, *must_not, *ends;
        bool closes;
    } rows[] = {
        {"1.1 chunked", GET("/hold"), 200, -1, "Transfer-Encoding: chunked\r\n", "Content-Length",
         "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", false},
        {"1.1 length", GET("/hold"), 200, 3, "Content-Length: 3\r\n", "Transfer-Encoding", "\r\n\r\nabc", false},
        {"1.0 until close", "GET /hold HTTP/1.0\r\n\r\n", 200, -1, "Connection: close\r\n", "chunked",
         "\r\n\r\nabc", true},
        {"1.0 length", "GET /hold HTTP/1.0\r\n\r\n", 200, 3, "Content-Length: 3\r\nConnection: close\r\n",
         "chunked", "\r\n\r\nabc", true},
        {"1.0 kept", "GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, 3, "Connection: keep-alive\r\n",
         "chunked", "\r\n\r\nabc", false},
        {"HEAD chunked", "HEAD /hold HTTP/1.1\r\nHost: a\r\n\r\n", 200, -1, "chunked", "abc", "\r\n\r\n", false},
        {"HEAD length", "HEAD /hold HTTP/1.1\r\nHost: a\r\n\r\n", 200, 3, "Content-Length: 3\r\n", "abc",
         "\r\n\r\n", false},
        {"204", GET("/hold"), 204, -1, "204 No Content", "chunked", "\r\n\r\n", false},
        {"304", GET("/hold"), 304, 3, "304 Not Modified", "Content-Length", "\r\n\r\n", false},
        {"close asked", "GET /hold HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, 3,
         "Connection: close\r\n", "chunked", "\r\n\r\nabc", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct serve t;
        struct caller p;
        serve_rules(&t);
        serve_begin(&t);
        struct request *rq = serve_hold(&t, &p, rows[i].wire);
        struct span parts[2] = {SPAN_LIT("a"), SPAN_LIT("b")}, c = SPAN_LIT("c");
        assert_int_equal(reply_begin(rq, rows[i].status, NULL, 0, rows[i].length), PD_OK);
        assert_true(reply_begun(rq));
        assert_int_equal(reply_write(rq, parts, 2), PD_OK);
        assert_int_equal(reply_write(rq, &c, 1), PD_OK);
        reply_end(rq);
        call_hear(&t, &p, rows[i].ends);
        if (!call_has(&p, rows[i].must) || call_has(&p, rows[i].must_not) ||
            memcmp(p.in + p.n - strlen(rows[i].ends), rows[i].ends, strlen(rows[i].ends)) != 0)
            fail_msg("%s: %s", rows[i].name, p.in);
        if (rows[i].closes) {
            call_hear_end(&t, &p);
            assert_false(p.reset);
        } else {
            call_forget(&p);
            call_say(&t, &p, POST("/x", "2", "go"));
            call_hear(&t, &p, "\r\n\r\ngo");
        }
        call_end(&p);
        serve_end(&t);
        assert_int_equal(t.gone, 0);
    }
}

static void header_bytes_that_break_the_head_are_refused(void **state)
{
    (void)state;
    static const struct header bad[] = {
        {{"X", 1}, {"a\r\nY: b", 7}},
        {{"X", 1}, {"a\nb", 3}},
        {{"X", 1}, {"a\0b", 3}},
        {{"X Y", 3}, {"a", 1}},
        {{"", 0}, {"a", 1}},
        {{"X:", 2}, {"a", 1}},
        {{"content-length", 14}, {"1", 1}},
        {{"Connection", 10}, {"close", 5}},
        {{"TRANSFER-ENCODING", 17}, {"chunked", 7}},
    };
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(reply_begin(rq, 200, &bad[i], 1, -1), PD_INVALID);
    assert_int_equal(reply_begin(rq, 100, NULL, 0, -1), PD_INVALID);
    assert_false(reply_begun(rq));
    struct header good = {SPAN_LIT("X-A"), SPAN_LIT("b\tc \xc3\xa4")};
    reply_simple(rq, 200, &good, 1, SPAN_LIT("ok"));
    call_hear(&t, &p, "\r\nX-A: b\tc \xc3\xa4\r\n");
    call_end(&p);
    serve_end(&t);
}

static void a_reply_that_is_cut_is_seen_as_cut(void **state)
{
    (void)state;
    static const struct {
        const char *wire;
        int length;
        bool end; /* reply_end before all was written */
    } rows[] = {
        {GET("/hold"), -1, false},
        {GET("/hold"), 10, false},
        {GET("/hold"), 10, true},
        {"GET /hold HTTP/1.0\r\n\r\n", -1, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct serve t;
        struct caller p;
        serve_rules(&t);
        serve_begin(&t);
        struct request *rq = serve_hold(&t, &p, rows[i].wire);
        struct span part = SPAN_LIT("abc");
        assert_int_equal(reply_begin(rq, 200, NULL, 0, rows[i].length), PD_OK);
        assert_int_equal(reply_write(rq, &part, 1), PD_OK);
        if (i < 3)
            call_hear(&t, &p, "abc");
        if (rows[i].end)
            reply_end(rq);
        else
            reply_abort(rq);
        call_hear_end(&t, &p);
        if (i < 3)
            assert_false(call_has(&p, "\r\n0\r\n"));
        else
            assert_true(p.reset); /* without a length, a plain close would look whole */
        call_end(&p);
        serve_end(&t);
        assert_int_equal(t.gone, 0);
    }
}

static void too_much_for_the_announced_length_is_refused(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    struct span part = SPAN_LIT("abcd");
    assert_int_equal(reply_write(rq, &part, 1), PD_INVALID); /* not begun */
    assert_int_equal(reply_begin(rq, 200, NULL, 0, 3), PD_OK);
    assert_int_equal(reply_begin(rq, 200, NULL, 0, 3), PD_INVALID);
    assert_int_equal(reply_write(rq, &part, 1), PD_INVALID);
    part.n = 3;
    assert_int_equal(reply_write(rq, &part, 1), PD_OK);
    reply_end(rq);
    call_hear(&t, &p, "\r\n\r\nabc");
    call_end(&p);
    serve_end(&t);
}

static void a_reset_is_a_reset_and_raw_bytes_are_raw(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    reply_reset(serve_hold(&t, &p, GET("/hold")));
    call_hear_end(&t, &p);
    assert_true(p.reset);
    call_end(&p);

    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    assert_int_equal(reply_raw(rq, SPAN_LIT("HTTP/1.1 200")), PD_OK);
    assert_int_equal(reply_raw(rq, SPAN_LIT(" OK\n\0")), PD_OK);
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_INVALID);
    reply_abort(rq);
    call_hear_end(&t, &p);
    assert_int_equal(p.n, 17);
    assert_memory_equal(p.in, "HTTP/1.1 200 OK\n\0", 17);
    call_end(&p);

    reply_abort(serve_hold(&t, &p, GET("/hold"))); /* nothing was begun: closed without a word */
    call_hear_end(&t, &p);
    assert_int_equal(p.n, 0);
    call_end(&p);
    serve_end(&t);
    assert_int_equal(t.gone, 0);
}

static void a_slow_reader_holds_its_writer_back(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    char small[1000];
    memset(small, 'z', sizeof(small));
    struct span part = span_of(small, sizeof(small));
    size_t written = 0;
    while (reply_queued(rq) <= t.rules.out_high_bytes) {
        for (int i = 0; i < 10; i++, written += part.n)
            assert_int_equal(reply_write(rq, &part, 1), PD_OK);
        serve_settle(&t);
    }
    assert_true(reply_queued(rq) < t.rules.out_high_bytes + 20000);
    assert_int_equal(t.drains, 0);
    while (!t.drains) {
        call_take(&p);
        serve_wait(&t, p.fd, POLLIN, "on_drain", __LINE__);
    }
    assert_true(reply_queued(rq) < t.rules.out_low_bytes);
    assert_int_equal(t.drains, 1);
    reply_end(rq);
    call_hear(&t, &p, "\r\n0\r\n\r\n");
    size_t letters = 0;
    for (size_t i = 0; i < p.n; i++)
        letters += p.in[i] == 'z';
    assert_int_equal(letters, written);
    call_end(&p);
    serve_end(&t);
}

static void large_pieces_arrive_in_order_through_a_full_socket(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    enum { N = 3000001, PIECES = 4 };
    char *piece = malloc(N);
    assert_non_null(piece);
    struct request *rq = serve_hold(&t, &p, GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, (int64_t)N * PIECES), PD_OK);
    for (int k = 0; k < PIECES; k++) {
        for (size_t i = 0; i < N; i++)
            piece[i] = (char)(i * 31 + (size_t)k + i / 997);
        struct span parts[3] = {span_of(piece, 1), span_of(piece + 1, 2000000),
                                span_of(piece + 2000001, N - 2000001)};
        assert_int_equal(reply_write(rq, parts, 3), PD_OK);
    }
    reply_end(rq);
    call_hear(&t, &p, "\r\n\r\n");
    size_t head = (size_t)(strstr(p.in, "\r\n\r\n") + 4 - p.in);
    while (p.n < head + (size_t)N * PIECES) {
        serve_wait(&t, p.fd, POLLIN, "the rest", __LINE__);
        call_take(&p);
    }
    assert_int_equal(p.n, head + (size_t)N * PIECES);
    for (size_t k = 0; k < PIECES; k++)
        for (size_t i = 0; i < N; i++)
            if (p.in[head + k * N + i] != (char)(i * 31 + k + i / 997))
                fail_msg("piece %zu differs at %zu", k, i);
    call_say(&t, &p, POST("/x", "5", "after"));
    call_hear(&t, &p, "\r\n\r\nafter");
    free(piece);
    call_end(&p);
    serve_end(&t);
}

/* ---- limits of the server ---- */

static void connections_over_the_limit_are_told_so(void **state)
{
    (void)state;
    struct serve t;
    struct caller a, b, c;
    serve_rules(&t);
    t.rules.connections = 2;
    serve_begin(&t);
    call_begin(&a, &t);
    call_begin(&b, &t);
    call_begin(&c, &t);
    call_hear(&t, &c, "\"code\":\"too_many_connections\"");
    assert_memory_equal(c.in, "HTTP/1.1 503 ", 13);
    call_hear_end(&t, &c);
    call_end(&c);
    assert_int_equal(server_stats(t.server)->connections_refused_total, 1);
    call_end(&a);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 1);
    call_check_alive(&t, "a refused connection");
    call_end(&b);
    serve_end(&t);
}

static void running_out_of_descriptors_is_answered_and_survived(void **state)
{
    (void)state;
    struct serve t;
    struct caller first, p[3];
    struct rlimit was, low;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&first, &t);
    for (int i = 0; i < 3; i++) /* connected, not accepted yet: the client's side has its descriptors */
        call_dial(&p[i], t.port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = was;
    int lowest = open("/dev/null", O_RDONLY);
    close(lowest);
    low.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);

    for (int i = 0; i < 3; i++) {
        call_hear(&t, &p[i], "\"code\":\"out_of_descriptors\"");
        call_hear_end(&t, &p[i]);
    }
    assert_int_equal(server_stats(t.server)->connections_refused_total, 3);
    call_say(&t, &first, GET("/"));
    call_hear(&t, &first, "200 OK");

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    for (int i = 0; i < 3; i++)
        call_end(&p[i]);
    call_check_alive(&t, "descriptors came back");
    call_end(&first);
    serve_end(&t);
}

/* The reserve is gone too: the server must wait without spinning, and go on. */
static void without_even_the_reserve_accepting_pauses_and_resumes(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    struct rlimit was, low;
    serve_rules(&t);
    serve_begin(&t);
    close(t.server->reserve_fd);
    t.server->reserve_fd = -1;
    call_dial(&p, t.port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = was;
    low.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    SERVE_UNTIL(&t, server_stats(t.server)->accept_paused_total == 1);
    for (int i = 0; i < 50; i++)
        serve_settle(&t);
    assert_int_equal(server_stats(t.server)->accept_paused_total, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    call_say(&t, &p, GET("/"));
    call_hear(&t, &p, "200 OK");
    assert_true(t.server->reserve_fd >= 0);
    call_end(&p);
    serve_end(&t);
}

/* Not at the next try of the clock, but when a connection gives its descriptor back. */
static void a_closed_connection_resumes_accepting(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    t.server->paused = true; /* as pause_accepting() leaves it, with a try that is far away */
    timer_arm(t.loop, &t.server->pause, loop_now_ms(t.loop) + 1000000);
    call_end(&p);
    SERVE_UNTIL(&t, !t.server->paused);
    call_check_alive(&t, "accepting was resumed");
    serve_end(&t);
}

static void a_connection_has_as_many_requests_as_the_rules_say(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    t.rules.requests_per_connection = 2;
    server_set_rules(t.server, &t.rules);
    call_begin(&p, &t);
    call_say(&t, &p, GET("/"));
    call_hear(&t, &p, "200 OK");
    assert_false(call_has(&p, "Connection: close"));
    call_say(&t, &p, GET("/"));
    call_hear(&t, &p, "Connection: close");
    call_hear_end(&t, &p);
    call_end(&p);
    serve_end(&t);
}

static void addresses_are_taken_or_refused(void **state)
{
    (void)state;
    struct serve t;
    serve_rules(&t);
    serve_begin(&t);
    static const char *const bad[] = {"",           "8080",        ":8080",           "127.0.0.1",
                                      "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "localhost:1",
                                      "[::1:80",    "[]:80",       "1.2.3:80",        "::1:80"};
    uint16_t port;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (server_listen(t.server, bad[i], &port) != PD_INVALID)
            fail_msg("\"%s\" was taken", bad[i]);
    char same[32];
    snprintf(same, sizeof(same), "127.0.0.1:%u", t.port);
    assert_int_equal(server_listen(t.server, same, &port), PD_EXISTS);
    assert_int_equal(server_listen(t.server, "127.0.0.1:0", &port), PD_OK);
    assert_int_not_equal(port, t.port);
    struct caller p;
    call_dial(&p, port);
    call_say(&t, &p, GET("/"));
    call_hear(&t, &p, "200 OK");
    call_end(&p);
    serve_end(&t);
}

/* ---- ends ---- */

static void draining_lets_requests_end_and_closes_the_rest(void **state)
{
    (void)state;
    struct serve t;
    struct caller idle, busy, late;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&idle, &t);
    struct request *rq = serve_hold(&t, &busy, GET("/hold"));
    server_drain(t.server, serve_is_drained, &t);
    call_hear_end(&t, &idle);
    assert_false(t.drained);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(t.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    late.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(late.fd, (struct sockaddr *)&a, sizeof(a)), -1);
    close(late.fd);

    reply_simple(rq, 200, NULL, 0, SPAN_LIT("done"));
    call_hear(&t, &busy, "\r\n\r\ndone");
    assert_true(call_has(&busy, "Connection: close"));
    call_hear_end(&t, &busy);
    SERVE_UNTIL(&t, t.drained);
    assert_int_equal(t.gone, 0);
    call_end(&idle);
    call_end(&busy);
    t.server = server_free(t.server);
    t.loop = loop_free(t.loop);
}

/* Idle, waiting in the queue, or with a reply that promised to keep the connection: each may ask once more. */
static void leaving_loses_no_request_that_is_on_its_way(void **state)
{
    (void)state;
    struct serve t;
    struct caller idle, busy, queued;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&idle, &t);
    call_say(&t, &idle, GET("/first"));
    call_hear(&t, &idle, "\r\n\r\n");
    struct request *rq = serve_hold(&t, &busy, GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    call_hear(&t, &busy, "chunked");
    call_dial(&queued, t.port); /* connected; the loop has not accepted it */
    assert_int_equal(write(queued.fd, GET("/queued"), sizeof(GET("/queued")) - 1), sizeof(GET("/queued")) - 1);
    server_leave(t.server, 600000, false, serve_is_drained, &t);
    call_hear(&t, &queued, "\r\n\r\n");
    assert_true(call_has(&queued, "200 OK") && call_has(&queued, "Connection: close"));
    call_hear_end(&t, &queued);
    call_say(&t, &idle, GET("/second"));
    call_hear(&t, &idle, "Connection: close");
    call_hear_end(&t, &idle);
    reply_end(rq);
    call_hear(&t, &busy, "0\r\n\r\n");
    assert_false(call_has(&busy, "Connection: close"));
    call_say(&t, &busy, GET("/again"));
    call_hear(&t, &busy, "Connection: close");
    call_hear_end(&t, &busy);
    SERVE_UNTIL(&t, t.drained);
    call_end(&idle);
    call_end(&busy);
    call_end(&queued);
    t.server = server_free(t.server);
    t.loop = loop_free(t.loop);
}

static void leaving_ends_what_asks_no_more(void **state)
{
    (void)state;
    struct serve t;
    struct caller idle;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&idle, &t);
    call_say(&t, &idle, GET("/first"));
    call_hear(&t, &idle, "\r\n\r\n");
    server_leave(t.server, 20, false, serve_is_drained, &t);
    call_hear_end(&t, &idle);
    SERVE_UNTIL(&t, t.drained);
    call_end(&idle);
    t.server = server_free(t.server);
    t.loop = loop_free(t.loop);
}

static void a_shared_socket_stays_another_s(void **state)
{
    (void)state;
    struct serve t;
    struct caller late;
    int fds[2];
    serve_rules(&t);
    serve_begin(&t);
    assert_int_equal(server_listening(t.server, fds, 2), 1);
    int other = dup(fds[0]);
    char address[64];
    uint16_t port = 0;
    assert_int_equal(server_address(other, address, sizeof(address), &port), PD_OK);
    assert_int_equal(port, t.port);
    assert_true(server_listens_at(other, address));
    assert_true(server_listens_at(other, "127.0.0.1:0"));
    assert_false(server_listens_at(other, "127.0.0.2:0"));
    assert_false(server_listens_at(other, "127.0.0.1:1"));
    assert_false(server_listens_at(other, "[::1]:0"));
    assert_false(server_listens_at(other, "nonsense"));
    call_dial(&late, t.port);
    server_leave(t.server, 1000, true, serve_is_drained, &t);
    SERVE_UNTIL(&t, t.drained);
    assert_int_equal(server_stats(t.server)->connections_total, 0);
    int fd = accept(other, NULL, NULL);
    assert_true(fd >= 0); /* it was not taken, nor reset */
    close(fd);
    close(other);
    call_end(&late);
    serve_end(&t);
}

static void a_shared_socket_is_accepted_from_again_when_the_other_dies(void **state)
{
    (void)state;
    struct serve t;
    struct caller busy, late;
    serve_rules(&t);
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &busy, GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    for (int round = 0; round < 2; round++) {
        uint64_t before = server_stats(t.server)->connections_total;
        server_leave(t.server, 600000, true, serve_is_drained, &t);
        call_begin(&late, &t); /* the queue takes it, and nobody else does */
        assert_int_equal(write(late.fd, GET("/late"), sizeof(GET("/late")) - 1), sizeof(GET("/late")) - 1);
        assert_int_equal(server_stats(t.server)->connections_total, before);
        server_return(t.server);
        call_hear(&t, &late, "\r\n\r\n");
        assert_true(call_has(&late, "200 OK"));
        assert_false(call_has(&late, "Connection: close"));
        assert_int_equal(server_stats(t.server)->connections_total, before + 1);
        call_end(&late);
    }
    reply_end(rq);
    call_hear(&t, &busy, "0\r\n\r\n");
    call_end(&busy);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    assert_false(t.drained); /* that wish is forgotten */
    server_return(t.server); /* which nobody left: nothing changes */
    server_let_go(t.server);
    call_begin(&late, &t);
    call_say(&t, &late, GET("/more"));
    call_hear(&t, &late, "200 OK");
    call_end(&late);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    server_leave(t.server, 20, true, serve_is_drained, &t);
    SERVE_UNTIL(&t, t.drained);
    int fds[1];
    assert_int_equal(server_listening(t.server, fds, 1), 1);
    server_let_go(t.server);
    SERVE_UNTIL(&t, server_listening(t.server, fds, 1) == 0);
    serve_end(&t);
}

static void descriptors_that_come_back_do_not_wake_a_resting_socket(void **state)
{
    (void)state;
    struct serve t;
    struct caller gone, late;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&gone, &t);
    call_say(&t, &gone, GET("/first"));
    call_hear(&t, &gone, "\r\n\r\n");
    t.server->paused = true; /* as pause_accepting() leaves it, with a try that is far away */
    server_leave(t.server, 600000, true, serve_is_drained, &t);
    call_dial(&late, t.port);
    call_end(&gone); /* its end is when accepting is tried again */
    SERVE_UNTIL(&t, t.drained);
    assert_int_equal(server_stats(t.server)->connections_total, 1);
    call_end(&late);
    serve_end(&t);
}

static void closing_tells_each_open_request(void **state)
{
    (void)state;
    struct serve t;
    struct caller p[3];
    serve_rules(&t);
    serve_begin(&t);
    serve_hold(&t, &p[0], GET("/hold"));
    struct request *rq = serve_hold(&t, &p[1], GET("/hold"));
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    call_begin(&p[2], &t);
    server_close(t.server, serve_is_closed, &t);
    assert_int_equal(t.gone, 2);
    assert_false(t.closed); /* later, when the loop has let go */
    SERVE_UNTIL(&t, t.closed);
    for (int i = 0; i < 3; i++)
        call_end(&p[i]);
    t.server = server_free(t.server);
    t.loop = loop_free(t.loop);
}

/* ---- memory ---- */

struct play {
    const char *wire;
    unsigned answers;
};

/* Each allocation fails in turn. Whatever the server could not do, the client sees an answer or a close, and nothing stays behind. */
static pd_err play(void *ctx)
{
    const struct play *w = ctx;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    pd_err err = serve_try(&t);
    if (err)
        return err;
    call_begin(&p, &t);
    call_say(&t, &p, w->wire);
    unsigned answered = 0;
    for (;;) {
        call_take(&p);
        answered = 0;
        for (const char *at = p.n ? p.in : NULL; at && (at = strstr(at, "HTTP/1.1 200 OK")) != NULL; at++)
            answered++;
        if (p.ended || p.reset || answered == w->answers)
            break;
        serve_wait(&t, p.fd, POLLIN, "an answer or the end", __LINE__);
    }
    call_end(&p);
    serve_end(&t);
    return answered == w->answers ? PD_OK : PD_NOMEM;
}

static void memory_that_fails_costs_one_connection_at_most(void **state)
{
    (void)state;
    static char large[300100];
    int n = snprintf(large, sizeof(large), POST("/x", "300000", ""));
    memset(large + n, 'b', 300000);
    struct play plays[] = {
        {POST("/a", "1", "1"), 1},
        {CHUNKED("/b") "1\r\n2\r\n0\r\n\r\n", 1},
        {POST("/a", "1", "1") POST("/b", "1", "2") GET("/c"), 3},
        {large, 1},
    };
    for (size_t i = 0; i < sizeof(plays) / sizeof(plays[0]); i++) {
        mem_big_trim();
        unsigned failed = torture_lenient(play, &plays[i]);
        assert_true(failed >= 6);
        mem_big_trim();
    }
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_framed_as_the_client_can_read_them),
        cmocka_unit_test(header_bytes_that_break_the_head_are_refused),
        cmocka_unit_test(a_reply_that_is_cut_is_seen_as_cut),
        cmocka_unit_test(too_much_for_the_announced_length_is_refused),
        cmocka_unit_test(a_reset_is_a_reset_and_raw_bytes_are_raw),
        cmocka_unit_test(a_slow_reader_holds_its_writer_back),
        cmocka_unit_test(large_pieces_arrive_in_order_through_a_full_socket),
        cmocka_unit_test(connections_over_the_limit_are_told_so),
        cmocka_unit_test(running_out_of_descriptors_is_answered_and_survived),
        cmocka_unit_test(without_even_the_reserve_accepting_pauses_and_resumes),
        cmocka_unit_test(a_closed_connection_resumes_accepting),
        cmocka_unit_test(a_connection_has_as_many_requests_as_the_rules_say),
        cmocka_unit_test(addresses_are_taken_or_refused),
        cmocka_unit_test(draining_lets_requests_end_and_closes_the_rest),
        cmocka_unit_test(leaving_loses_no_request_that_is_on_its_way),
        cmocka_unit_test(leaving_ends_what_asks_no_more),
        cmocka_unit_test(a_shared_socket_stays_another_s),
        cmocka_unit_test(a_shared_socket_is_accepted_from_again_when_the_other_dies),
        cmocka_unit_test(descriptors_that_come_back_do_not_wake_a_resting_socket),
        cmocka_unit_test(closing_tells_each_open_request),
        cmocka_unit_test(memory_that_fails_costs_one_connection_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
