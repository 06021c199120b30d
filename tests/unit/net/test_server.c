#include "serve.h"

/* ---- requests arrive ---- */

static void a_request_is_answered_and_the_connection_kept(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    for (int i = 0; i < 3; i++) {
        call_say(&t, &p, POST("/x?y=1", "5", "hello"));
        call_hear(&t, &p, "Content-Length: 5\r\n\r\nhello");
        assert_true(memcmp(p.in, "HTTP/1.1 200 OK\r\nDate: ", 23) == 0);
        assert_false(call_has(&p, "Connection:"));
        call_forget(&p);
    }
    assert_int_equal(server_stats(t.server)->connections_total, 1);
    assert_int_equal(server_stats(t.server)->requests_total, 3);
    assert_int_equal(t.gone, 0);
    call_end(&p);
    serve_end(&t);
}

static void a_handler_sees_all_of_the_request(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, "PUT /hold?a=b?c HTTP/1.1\r\nHost: a\r\nX-One:  1 \r\nContent-Length: 3\r\n\r\nabc");
    SERVE_UNTIL(&t, t.held_count == 1);

    struct request *rq = t.held[0];
    const struct http1_field *fields;
    assert_true(span_is(request_method(rq), "PUT"));
    assert_true(span_is(request_path(rq), "/hold"));
    assert_true(span_is(request_query(rq), "a=b?c"));
    assert_true(span_is(request_header(rq, "x-ONE"), "1"));
    assert_true(request_header(rq, "x-two").p == NULL);
    assert_int_equal(request_headers(rq, &fields), 3);
    assert_true(span_is(fields[1].name, "X-One"));
    assert_true(span_is(request_body(rq), "abc"));
    assert_false(request_minor_0(rq));
    assert_true(request_began_us(rq) > 0 && request_began_us(rq) <= request_read_us(rq));
    assert_true(span_starts(span_str(request_peer(rq)), "127.0.0.1:"));
    assert_true(request_peer_is_loopback(rq));
    assert_false(reply_begun(rq));
    reply_simple(rq, 204, NULL, 0, SPAN_NONE);
    call_hear(&t, &p, "204 No Content\r\n");
    assert_false(call_has(&p, "Content-Length"));
    call_end(&p);
    serve_end(&t);
}

static void a_request_is_the_same_at_every_split(void **state)
{
    (void)state;
    static const char *const wires[] = {
        POST("/x", "11", "hello world"),
        CHUNKED("/x") "5;e=f\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
        "\r\n" POST("/x", "11", "hello world"),
    };
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        size_t n = strlen(wires[i]);
        call_begin(&p, &t);
        for (size_t cut = 0; cut <= n; cut++) {
            call_send(&t, &p, wires[i], cut);
            call_send(&t, &p, wires[i] + cut, n - cut);
            call_hear(&t, &p, "Content-Length: 11\r\n\r\nhello world");
            call_forget(&p);
        }
        for (size_t at = 0; at < n; at++)
            call_send(&t, &p, wires[i] + at, 1);
        call_hear(&t, &p, "Content-Length: 11\r\n\r\nhello world");
        call_end(&p);
    }
    assert_int_equal(server_stats(t.server)->bad_requests_total, 0);
    serve_end(&t);
}

static void large_bodies_arrive_whole(void **state)
{
    (void)state;
    static const size_t sizes[] = {65000, 65536, 65537, 400000, (4 << 20) - 1, (4 << 20) + 1, 9 << 20};
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t n = sizes[i];
        char *body = malloc(n), head[128];
        assert_non_null(body);
        for (size_t k = 0; k < n; k++)
            body[k] = (char)(k * 7 + k / 251);
        snprintf(head, sizeof(head), "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", n);
        t.held_count = 0;
        call_say(&t, &p, head);
        call_send(&t, &p, body, n);
        SERVE_UNTIL(&t, t.held_count == 1);
        assert_true(span_eq(request_body(t.held[0]), span_of(body, n)));
        reply_simple(t.held[0], 200, NULL, 0, request_body(t.held[0]));
        call_forget(&p);
        call_take(&p);
        while (p.n < n || !call_has(&p, "\r\n\r\n") || p.n < n + (size_t)(strstr(p.in, "\r\n\r\n") + 4 - p.in))
            serve_wait(&t, p.fd, POLLIN, "the echo", __LINE__), call_take(&p);
        assert_memory_equal(p.in + p.n - n, body, n);
        call_forget(&p);
        free(body);
    }
    call_end(&p);
    serve_end(&t);
}

/* ---- refusals ---- */

static const struct {
    const char *name, *in;
    int status;
    const char *code;
} refusals[] = {
    {"not HTTP", "hello\r\n\r\n", 400, "invalid_http"},
    {"TLS", "\x16\x03\x01", 400, "invalid_http"},
    {"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400,
     "invalid_http"},
    {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400, "invalid_http"},
    {"no host", "GET / HTTP/1.1\r\n\r\n", 400, "invalid_http"},
    {"bad chunk", CHUNKED("/") "x\r\n", 400, "invalid_http"},
    {"chunk over 64 bits", CHUNKED("/") "fffffffffffffffff\r\n", 413, "body_too_large"},
    {"length over the limit", POST("/", "1001", ""), 413, "body_too_large"},
    {"chunks over the limit", CHUNKED("/") "3e9\r\n" /* 1001 */, 0, NULL},
    {"head over the limit", NULL, 431, "head_too_large"},
    {"whole head over the limit", "", 431, "head_too_large"},
    {"line over the limit", NULL, 414, "target_too_long"},
    {"expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", 417,
     "expectation_failed"},
    {"coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"},
    {"version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "http_version_not_supported"},
};

static void each_refusal_has_its_status_and_code_and_closes(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_bytes = 1000;
    t.rules.head_bytes = 2000;
    serve_begin(&t);
    unsigned refused = 0;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        call_begin(&p, &t);
        char filler[2100];
        memset(filler, 'a', sizeof(filler));
        if (refusals[i].in && !*refusals[i].in) {
            char head[2300];
            snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\nX: %.*s\r\n\r\n", (int)sizeof(filler),
                     filler);
            call_say(&t, &p, head);
        } else if (refusals[i].in)
            call_say(&t, &p, refusals[i].in);
        else if (refusals[i].status == 431)
            call_say(&t, &p, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
        else
            call_say(&t, &p, "GET /");
        if (!refusals[i].in || !refusals[i].status)
            call_send(&t, &p, filler, sizeof(filler));

        char line[32], code[64];
        snprintf(line, sizeof(line), "HTTP/1.1 %d ", refusals[i].status ? refusals[i].status : 413);
        snprintf(code, sizeof(code), "\"code\":\"%s\",\"param\":null}}",
                 refusals[i].code ? refusals[i].code : "body_too_large");
        call_hear(&t, &p, code);
        assert_memory_equal(p.in, line, strlen(line));
        assert_true(call_has(&p, "\r\nConnection: close\r\n"));
        assert_true(call_has(&p, "{\"error\":{\"message\":\""));
        call_hear_end(&t, &p);
        assert_false(p.reset);
        call_end(&p);
        refused++;
        assert_int_equal(server_stats(t.server)->bad_requests_total, refused);
        call_check_alive(&t, refusals[i].name);
    }
    assert_int_equal(t.gone, 3); /* those whose chunked body went wrong after on_head */
    serve_end(&t);
}

/* A client that sends all of a large body before it reads must still find the answer. */
static void a_refusal_is_readable_while_the_client_still_sends(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_bytes = 1000;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/", "5000000", ""));
    char *body = calloc(1, 5000000);
    assert_non_null(body);
    call_send(&t, &p, body, 5000000);
    free(body);
    call_hear(&t, &p, "HTTP/1.1 413 ");
    call_hear_end(&t, &p);
    assert_true(p.ended && !p.reset);
    call_end(&p);
    serve_end(&t);
}

static void the_lingering_is_bounded(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_bytes = 1000;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/", "50000000", ""));
    char block[65536] = {0};
    size_t sent = 0;
    while (server_stats(t.server)->connections_open && sent < (size_t)64 << 20) {
        call_send(&t, &p, block, sizeof(block));
        sent += sizeof(block);
    }
    assert_int_equal(server_stats(t.server)->connections_open, 0);
    assert_true(sent >= SERVER_LINGER_BYTES);
    call_end(&p);
    serve_end(&t);
}

/* ---- time ---- */

static void a_slow_head_is_refused_however_it_drips(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.head_ms = 60;
    serve_begin(&t);
    call_begin(&p, &t);
    uint64_t began = clock_mono_ms();
    call_say(&t, &p, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    while (!call_has(&p, "408 ")) {
        call_send(&t, &p, "x", 1);
        serve_wait(&t, p.fd, POLLIN, "408", __LINE__);
    }
    assert_true(clock_mono_ms() - began >= 50);
    call_hear(&t, &p, "\"code\":\"head_timeout\"");
    assert_int_equal(server_stats(t.server)->timeouts_total, 1);
    call_end(&p);
    serve_end(&t);
}

static void a_body_that_stops_is_refused(void **state)
{
    (void)state;
    static const char *const wires[] = {POST("/x", "10", "abc"), CHUNKED("/x") "5\r\nab", POST("/x", "10", "")};
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct serve t;
        struct caller p;
        serve_rules(&t);
        t.rules.body_stall_ms = 40;
        serve_begin(&t);
        call_begin(&p, &t);
        call_say(&t, &p, wires[i]);
        call_hear(&t, &p, "\"code\":\"body_timeout\"");
        assert_memory_equal(p.in, "HTTP/1.1 408 ", 13);
        call_hear_end(&t, &p);
        assert_int_equal(t.gone, 1); /* it was seen by on_head, never by on_request */
        call_end(&p);
        serve_end(&t);
    }
}

static void a_body_that_drips_below_its_rate_is_refused(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_stall_ms = 200;
    t.rules.body_rate = 100000;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/x", "100000", ""));
    while (!call_has(&p, "408 ")) {
        call_send(&t, &p, "x", 1);
        serve_wait(&t, p.fd, POLLIN, "408", __LINE__);
    }
    call_hear(&t, &p, "\"code\":\"body_too_slow\"");
    call_end(&p);
    serve_end(&t);
}

static void an_idle_connection_is_closed_without_a_word(void **state)
{
    (void)state;
    struct serve t;
    struct caller fresh, used;
    serve_rules(&t);
    t.rules.idle_ms = 50;
    serve_begin(&t);
    call_begin(&fresh, &t);
    call_begin(&used, &t);
    call_say(&t, &used, GET("/"));
    call_hear(&t, &used, "200 OK");
    call_forget(&used);
    call_hear_end(&t, &used);
    call_hear_end(&t, &fresh);
    assert_int_equal(used.n + fresh.n, 0);
    call_end(&fresh);
    call_end(&used);
    serve_end(&t);
}

static void a_client_that_takes_nothing_is_closed(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.write_stall_ms = 60;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, GET("/hold"));
    SERVE_UNTIL(&t, t.held_count == 1);
    assert_int_equal(reply_begin(t.held[0], 200, NULL, 0, -1), PD_OK);
    serve_settle(&t);
    char block[65536] = {0};
    struct span part = span_of(block, sizeof(block));
    while (!reply_queued(t.held[0]))
        assert_int_equal(reply_write(t.held[0], &part, 1), PD_OK);
    SERVE_UNTIL(&t, t.gone == 1);
    assert_int_equal(server_stats(t.server)->timeouts_total, 1);
    call_end(&p);
    serve_end(&t);
}

static void a_slow_but_steady_body_is_taken(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_stall_ms = 60;
    t.rules.body_rate = 20;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/x", "10", ""));
    uint64_t began = clock_mono_ms();
    for (unsigned sent = 0; sent < 10;) {
        if (clock_mono_ms() - began >= sent * 25) { /* 40 a second, through several windows of the rate */
            call_send(&t, &p, "x", 1);
            sent++;
        }
        serve_wait(&t, p.fd, 0, "time to send", __LINE__);
    }
    call_hear(&t, &p, "\r\n\r\nxxxxxxxxxx");
    call_end(&p);
    serve_end(&t);
}

static void a_deadline_of_an_earlier_phase_ends_nothing(void **state)
{
    (void)state;
    struct serve t;
    struct caller idle, busy;
    serve_rules(&t);
    t.rules.idle_ms = 50;
    serve_begin(&t);
    struct request *rq = serve_hold(&t, &busy, GET("/hold"));
    call_begin(&idle, &t);
    call_hear_end(&t, &idle); /* so the other's idle time is over too */
    serve_settle(&t);
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("late"));
    call_hear(&t, &busy, "\r\n\r\nlate");
    call_end(&idle);
    call_end(&busy);
    serve_end(&t);
}

static void what_is_left_of_an_answered_body_is_not_waited_for_long(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.body_stall_ms = 50;
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/early", "5", "he"));
    call_hear(&t, &p, "\r\n\r\nearly");
    call_hear_end(&t, &p);
    call_end(&p);
    serve_end(&t);
}

/* ---- the client leaves ---- */

enum leaving { CLOSES, RESETS, HALF_CLOSES };
enum moment { IN_BODY, WAITING, STREAMING, STREAMING_WITH_INPUT, BLOCKED };

static void leave_at(enum moment when, enum leaving how)
{
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    char block[65536] = {0};
    struct span part = span_of(block, 10);
    if (when == IN_BODY) {
        call_say(&t, &p, POST("/hold", "10", "abc"));
        SERVE_UNTIL(&t, t.heads == 1);
    } else {
        call_say(&t, &p, GET("/hold"));
        SERVE_UNTIL(&t, t.held_count == 1);
    }
    if (when >= STREAMING) {
        assert_int_equal(reply_begin(t.held[0], 200, NULL, 0, -1), PD_OK);
        assert_int_equal(reply_write(t.held[0], &part, 1), PD_OK);
        call_hear(&t, &p, "chunked");
    }
    if (when == STREAMING_WITH_INPUT)
        call_say(&t, &p, GET("/next"));
    part.n = sizeof(block);
    while (when == BLOCKED && !reply_queued(t.held[0]))
        assert_int_equal(reply_write(t.held[0], &part, 1), PD_OK);

    if (how == CLOSES)
        call_end(&p);
    else if (how == RESETS)
        call_reset(&p);
    else
        shutdown(p.fd, SHUT_WR);
    SERVE_UNTIL(&t, t.gone == 1);
    assert_int_equal(server_stats(t.server)->gone_total, 1);
    assert_int_equal(server_stats(t.server)->requests_open, 0);
    call_end(&p);
    serve_end(&t);
    assert_int_equal(t.gone, 1);
}

static void a_client_that_leaves_is_noticed_in_every_state(void **state)
{
    (void)state;
    for (int when = IN_BODY; when <= BLOCKED; when++)
        for (int how = CLOSES; how <= HALF_CLOSES; how++)
            leave_at((enum moment)when, (enum leaving)how);
}

static void keep_it(void *ctx)
{
    struct serve *t = ctx;
    t->gone++;
    request_keep(t->held[0]);
}

static void what_a_client_asked_can_outlive_it(void **state)
{
    (void)state;
    static const struct request_handler on = {.on_gone = keep_it};
    for (int late = 0; late < 2; late++) { /* a body that came with its head, and one that did not */
        struct serve t;
        struct caller p;
        serve_rules(&t);
        serve_begin(&t);
        call_begin(&p, &t);
        call_say(&t, &p, late ? CHUNKED("/hold") : POST("/hold", "5", "hello"));
        if (late)
            call_say(&t, &p, "5\r\nhello\r\n0\r\n\r\n");
        SERVE_UNTIL(&t, t.held_count == 1);
        struct request *rq = t.held[0];
        request_set_handler(rq, &on, &t);
        call_end(&p);
        SERVE_UNTIL(&t, t.gone == 1);
        assert_int_equal(server_stats(t.server)->requests_open, 0);
        serve_end(&t);
        assert_true(span_is(request_path(rq), "/hold"));
        assert_true(span_is(request_body(rq), "hello"));
        assert_true(span_is(request_header(rq, "host"), "a"));
        assert_null(request_release(rq));
    }
    assert_null(request_release(NULL));
}

static void leaving_between_requests_or_in_a_head_is_no_loss(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, GET("/"));
    call_hear(&t, &p, "200 OK");
    call_end(&p);
    call_begin(&p, &t);
    call_say(&t, &p, "GET / HT");
    call_end(&p);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    assert_int_equal(server_stats(t.server)->gone_total, 0);
    serve_end(&t);
}

/* ---- several requests at once ---- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p,
             POST("/a", "1", "1") CHUNKED("/b") "1\r\n2\r\n0\r\n\r\n" GET("/hold") POST("/c", "1", "3")
                 GET("/hold"));
    call_hear(&t, &p, "\r\n\r\n2");
    SERVE_UNTIL(&t, t.held_count == 1);
    assert_false(call_has(&p, "\r\n\r\n3"));
    assert_int_equal(server_stats(t.server)->requests_total, 3);
    reply_simple(t.held[0], 200, NULL, 0, SPAN_LIT("held"));
    call_hear(&t, &p, "\r\n\r\n3");
    assert_true(strstr(p.in, "\r\n\r\n1") < strstr(p.in, "\r\n\r\n2"));
    assert_true(strstr(p.in, "\r\n\r\n2") < strstr(p.in, "\r\n\r\nheld"));
    assert_true(strstr(p.in, "\r\n\r\nheld") < strstr(p.in, "\r\n\r\n3"));
    SERVE_UNTIL(&t, t.held_count == 2);
    reply_simple(t.held[1], 200, NULL, 0, SPAN_LIT("last"));
    call_hear(&t, &p, "last");
    call_end(&p);
    serve_end(&t);
}

static void a_flood_behind_a_request_stays_in_the_kernel(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, GET("/hold"));
    SERVE_UNTIL(&t, t.held_count == 1);
    char block[65536];
    memset(block, 'x', sizeof(block));
    ssize_t sent;
    size_t total = 0;
    do {
        sent = send(p.fd, block, sizeof(block), MSG_NOSIGNAL | MSG_DONTWAIT);
        total += sent > 0 ? (size_t)sent : 0;
        serve_settle(&t);
    } while (sent > 0 && total < (size_t)64 << 20);
    assert_true(sent < 0); /* the kernel is full, and nobody read */
    assert_true(serve_conn(&t)->in.capacity <= SERVER_SCRATCH);
    assert_int_equal(serve_conn(&t)->watch.wanted, WATCH_GONE);
    reply_simple(t.held[0], 200, NULL, 0, SPAN_LIT("first"));
    call_hear(&t, &p, "first");
    call_hear(&t, &p, "400 Bad Request");
    call_end(&p);
    serve_end(&t);
}

static void an_ordinary_request_changes_no_event_mask(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, GET("/hold"));
    SERVE_UNTIL(&t, t.held_count == 1);
    assert_int_equal(serve_conn(&t)->watch.wanted, WATCH_READ | WATCH_GONE);
    reply_simple(t.held[0], 200, NULL, 0, SPAN_LIT("x"));
    assert_int_equal(serve_conn(&t)->watch.wanted, WATCH_READ | WATCH_GONE);
    call_hear(&t, &p, "200 OK");
    call_end(&p);
    serve_end(&t);
}

static void a_stream_between_two_pieces_holds_no_buffer(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, GET("/hold"));
    SERVE_UNTIL(&t, t.held_count == 1);
    struct span part = SPAN_LIT("data: x\n\n");
    assert_int_equal(reply_begin(t.held[0], 200, NULL, 0, -1), PD_OK);
    assert_int_equal(reply_write(t.held[0], &part, 1), PD_OK);
    call_hear(&t, &p, "9\r\ndata: x\n\n\r\n");
    assert_null(serve_conn(&t)->in.p);
    assert_null(serve_conn(&t)->out.p);
    assert_true(sizeof(struct conn) + sizeof(struct request) < 2048);
    reply_end(t.held[0]);
    call_hear(&t, &p, "\r\n0\r\n\r\n");
    call_end(&p);
    serve_end(&t);
}

/* ---- 100-continue and early answers ---- */

static void continue_is_said_once_the_head_is_accepted(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
#define EXPECT "Host: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    call_say(&t, &p, "POST / HTTP/1.1\r\n" EXPECT);
    call_hear(&t, &p, "HTTP/1.1 100 Continue\r\n\r\n");
    call_say(&t, &p, "abc");
    call_hear(&t, &p, "\r\n\r\nabc");
    call_forget(&p);
    call_say(&t, &p, "POST / HTTP/1.1\r\n" EXPECT "def");
    call_hear(&t, &p, "\r\n\r\ndef");
    assert_memory_equal(p.in, "HTTP/1.1 200 OK", 15); /* the body was there: nothing to wait for */
    call_forget(&p);
    call_say(&t, &p, "POST /early HTTP/1.1\r\n" EXPECT);
    call_hear(&t, &p, "early");
    assert_memory_equal(p.in, "HTTP/1.1 401 ", 13);
    assert_true(call_has(&p, "Connection: close")); /* nobody knows whether the body will come */
    call_hear_end(&t, &p);
    call_end(&p);
    serve_end(&t);
}

static void an_early_answer_keeps_the_connection_when_the_rest_is_small(void **state)
{
    (void)state;
    static const char *const wires[] = {
        POST("/early", "5", "hello"),
        POST("/early", "5", "he"),
        CHUNKED("/early") "5\r\nhello\r\n0\r\n\r\n",
        GET("/early"),
    };
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct serve t;
        struct caller p;
        serve_rules(&t);
        serve_begin(&t);
        call_begin(&p, &t);
        call_say(&t, &p, wires[i]);
        call_hear(&t, &p, "\r\n\r\nearly");
        bool closes = call_has(&p, "Connection: close");
        assert_int_equal(closes, i == 2); /* how long a chunked body will be is not known */
        if (closes) {
            call_hear_end(&t, &p);
        } else {
            if (i == 1)
                call_say(&t, &p, "llo");
            call_forget(&p);
            call_say(&t, &p, POST("/x", "5", "again"));
            call_hear(&t, &p, "\r\n\r\nagain");
        }
        call_end(&p);
        serve_end(&t);
        assert_int_equal(t.gone, 0);
    }
}

static void an_early_answer_to_a_large_body_closes_and_can_be_read(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_say(&t, &p, POST("/early", "1000000", ""));
    char *body = calloc(1, 1000000);
    assert_non_null(body);
    call_send(&t, &p, body, 1000000);
    free(body);
    call_hear(&t, &p, "\r\n\r\nearly");
    assert_true(call_has(&p, "Connection: close"));
    call_hear_end(&t, &p);
    assert_true(p.ended && !p.reset);
    call_end(&p);

    call_begin(&p, &t); /* begun before the body came, ended later */
    call_say(&t, &p, POST("/early-stream", "1000000", "abc"));
    SERVE_UNTIL(&t, t.held_count == 1);
    struct span part = SPAN_LIT("late");
    assert_int_equal(reply_write(t.held[0], &part, 1), PD_OK);
    reply_end(t.held[0]);
    call_hear(&t, &p, "late\r\n0\r\n\r\n");
    call_hear_end(&t, &p);
    call_end(&p);
    serve_end(&t);
    assert_int_equal(t.gone, 0);
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered_and_the_connection_kept),
        cmocka_unit_test(a_handler_sees_all_of_the_request),
        cmocka_unit_test(a_request_is_the_same_at_every_split),
        cmocka_unit_test(large_bodies_arrive_whole),
        cmocka_unit_test(each_refusal_has_its_status_and_code_and_closes),
        cmocka_unit_test(a_refusal_is_readable_while_the_client_still_sends),
        cmocka_unit_test(the_lingering_is_bounded),
        cmocka_unit_test(a_slow_head_is_refused_however_it_drips),
        cmocka_unit_test(a_body_that_stops_is_refused),
        cmocka_unit_test(a_body_that_drips_below_its_rate_is_refused),
        cmocka_unit_test(a_slow_but_steady_body_is_taken),
        cmocka_unit_test(a_deadline_of_an_earlier_phase_ends_nothing),
        cmocka_unit_test(what_is_left_of_an_answered_body_is_not_waited_for_long),
        cmocka_unit_test(an_idle_connection_is_closed_without_a_word),
        cmocka_unit_test(a_client_that_takes_nothing_is_closed),
        cmocka_unit_test(a_client_that_leaves_is_noticed_in_every_state),
        cmocka_unit_test(what_a_client_asked_can_outlive_it),
        cmocka_unit_test(leaving_between_requests_or_in_a_head_is_no_loss),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_flood_behind_a_request_stays_in_the_kernel),
        cmocka_unit_test(an_ordinary_request_changes_no_event_mask),
        cmocka_unit_test(a_stream_between_two_pieces_holds_no_buffer),
        cmocka_unit_test(continue_is_said_once_the_head_is_accepted),
        cmocka_unit_test(an_early_answer_keeps_the_connection_when_the_rest_is_small),
        cmocka_unit_test(an_early_answer_to_a_large_body_closes_and_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
