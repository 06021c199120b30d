#include "h2_call.h"

/* ---- requests arrive ---- */

static void requests_are_answered_on_one_connection(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t get = h2_get(&p, "/x?y=1"), post = h2_post(&p, "/x", SPAN_LIT("hello"));
    H2_HEAR(&p, post, 200, "hello");
    H2_HEAR(&p, get, 200, "");
    struct h2_got *g = h2_got(&p, post);
    assert_non_null(strstr(g->fields, "content-length: 5\n"));
    assert_non_null(strstr(g->fields, "\ndate: "));
    assert_non_null(strstr(g->fields, " GMT\n"));
    assert_null(strstr(g->fields, "connection"));
    assert_null(strstr(g->fields, "transfer-encoding"));
    for (int i = 0; i < 300; i++) {
        int32_t id = h2_post(&p, "/x", SPAN_LIT("again"));
        H2_HEAR(&p, id, 200, "again");
    }
    const struct server_stats *s = server_stats(t.server);
    assert_int_equal(s->connections_total, 1);
    assert_int_equal(s->h2_connections_total, 1);
    assert_int_equal(s->requests_total, 302);
    assert_int_equal(s->requests_open + s->gone_total + s->bad_requests_total + s->h2_floods_total, 0);
    assert_int_equal(t.gone, 0);
    assert_true(list_empty(&serve_conn(&t)->h2->streams));
    h2_hang_up(&p);
    serve_end(&t);
}

static void a_handler_sees_all_of_the_request(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    struct span body = SPAN_LIT("abc");
    static const char *const more[] = {"cookie",         "a=1", "x-one", "1", "cookie", "b=2",
                                       "content-length", "3",   NULL};
    h2_ask_with(&p, "PUT", "/hold?a=b?c", &body, false, more);
    struct request *rq = h2_held(&p, 1);
    const struct http1_field *fields;
    assert_true(span_is(request_method(rq), "PUT"));
    assert_true(span_is(request_path(rq), "/hold"));
    assert_true(span_is(request_query(rq), "a=b?c"));
    assert_true(span_is(request_header(rq, "Host"), "a"));
    assert_true(span_is(request_header(rq, "x-ONE"), "1"));
    assert_true(span_is(request_header(rq, "cookie"), "a=1; b=2"));
    assert_int_equal(request_headers(rq, &fields), 4);
    assert_true(span_is(request_body(rq), "abc"));
    assert_false(request_minor_0(rq));
    assert_true(request_began_us(rq) > 0 && request_began_us(rq) <= request_read_us(rq));
    assert_true(span_starts(span_str(request_peer(rq)), "127.0.0.1:"));
    assert_true(request_peer_is_loopback(rq));
    assert_false(reply_begun(rq));

    struct header h[] = {{SPAN_LIT("X-Upper"), SPAN_LIT(" v ")}, {SPAN_LIT("Keep-Alive"), SPAN_LIT("timeout=5")}};
    struct header bad = {SPAN_LIT("Connection"), SPAN_LIT("close")};
    assert_int_equal(reply_begin(rq, 200, &bad, 1, -1), PD_INVALID);
    assert_int_equal(reply_raw(rq, SPAN_LIT("x")), PD_INVALID);
    reply_simple(rq, 201, h, 2, SPAN_LIT("made"));
    H2_HEAR(&p, 1, 201, "made");
    assert_non_null(strstr(h2_got(&p, 1)->fields, "\nx-upper: v\n"));
    assert_null(strstr(h2_got(&p, 1)->fields, "keep-alive"));
    h2_hang_up(&p);
    serve_end(&t);
}

static size_t first_flight(char *wire)
{
    size_t n = 24;
    memcpy(wire, h2_magic, 24);
    n += h2_frame(wire + n, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    n += h2_frame(wire + n, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1,
                  "\x83\x84\x86\x41\x01"
                  "a",
                  6);
    n += h2_frame(wire + n, NGHTTP2_DATA, 0, 1, "hello ", 6);
    return n + h2_frame(wire + n, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "world", 5);
}

static void a_connection_is_the_same_at_every_split(void **state)
{
    (void)state;
    char wire[256];
    size_t n = first_flight(wire);
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    for (size_t cut = 0; cut <= n; cut++) {
        call_begin(&p, &t);
        call_send(&t, &p, wire, cut);
        call_send(&t, &p, wire + cut, n - cut);
        call_hear(&t, &p, "hello world");
        call_end(&p);
    }
    call_begin(&p, &t);
    for (size_t at = 0; at < n; at++)
        call_send(&t, &p, wire + at, 1);
    call_hear(&t, &p, "hello world");
    call_end(&p);
    assert_int_equal(server_stats(t.server)->h2_connections_total, n + 2);
    assert_int_equal(server_stats(t.server)->requests_total, n + 2);
    assert_int_equal(server_stats(t.server)->bad_requests_total, 0);
    serve_end(&t);
}

static void only_a_whole_preface_at_the_start_begins_it(void **state)
{
    (void)state;
    static const char *const wires[] = {
        GET("/x") "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n",
        "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
    };
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        call_begin(&p, &t);
        call_say(&t, &p, wires[i]);
        call_hear(&t, &p, "Connection: close\r\n");
        call_end(&p);
    }
    assert_int_equal(server_stats(t.server)->h2_connections_total, 0);
    call_begin(&p, &t);
    call_say(&t, &p, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    call_hear_end(&t, &p);
    call_end(&p);
    assert_int_equal(server_stats(t.server)->bad_requests_total, 5);
    serve_end(&t);
}

static void streams_are_answered_in_any_order(void **state)
{
    (void)state;
    enum { MANY = 60 };
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    for (int i = 0; i < MANY; i++)
        h2_get(&p, "/hold");
    H2_UNTIL(&p, t.held_count == MANY);
    assert_int_equal(server_stats(t.server)->requests_open, MANY);
    for (int i = MANY; i-- > 0;) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        reply_simple(t.held[i], 200, NULL, 0, span_str(text));
        H2_HEAR(&p, 2 * i + 1, 200, text);
    }
    assert_int_equal(server_stats(t.server)->connections_total, 1);
    h2_hang_up(&p);
    serve_end(&t);
}

/* ---- bodies ---- */

static char *pattern(size_t n)
{
    char *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + i * 7 % 23);
    return p;
}

static void large_bodies_pass_both_ways(void **state)
{
    (void)state;
    enum { N = 10 << 20, MANY = 3 };
    char *body = pattern(N);
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    for (int i = 0; i < MANY; i++)
        h2_post(&p, "/x", span_of(body, N));
    for (int i = 0; i < MANY; i++) {
        struct h2_got *g = h2_got(&p, 2 * i + 1);
        H2_UNTIL(&p, g->ended);
        assert_int_equal(g->n, N);
        assert_memory_equal(g->body, body, N);
    }
    assert_int_equal(serve_conn(&t)->h2->held_bytes + serve_conn(&t)->h2->waiting_bytes, 0);
    h2_hang_up(&p);
    serve_end(&t);
    free(body);
}

/* Many bodies at once on a connection are paused, not all held, and all come through. */
static void bodies_of_a_connection_have_a_limit_together(void **state)
{
    (void)state;
    enum { N = 3 << 20, MANY = 12 };
    char *body = pattern(N);
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.body_bytes = 3 << 20;
    t.rules.body_stall_ms = 400;
    serve_begin(&t);
    h2_dial(&p, &t, false);
    for (int i = 0; i < MANY; i++)
        h2_post(&p, "/hold", span_of(body, N));
    h2_settle(&p);
    const struct h2 *h = serve_conn(&t)->h2;
    assert_true(h->withheld);
    assert_true(t.held_count < MANY);
    uint64_t later = clock_mono_ms() + 2 * t.rules.body_stall_ms + 50; /* who is paused by us is not slow */
    SERVE_UNTIL(&t, clock_mono_ms() > later);
    assert_int_equal(server_stats(t.server)->timeouts_total, 0);
    /* limits and one window for each that is unfinished */
    assert_true(h->waiting_bytes + h->held_bytes <=
                (H2_HELD_BODIES + 2 * H2_WAITING_BODIES) * t.rules.body_bytes + (uint64_t)MANY * H2_WINDOW_BYTES);
    for (unsigned i = 0; i < MANY; i++) {
        H2_UNTIL(&p, t.held_count > i);
        assert_int_equal(request_body(t.held[i]).n, N);
        reply_simple(t.held[i], 200, NULL, 0, SPAN_LIT("ok"));
    }
    for (int i = 0; i < MANY; i++)
        H2_HEAR(&p, 2 * i + 1, 200, "ok");
    assert_int_equal(h->held_bytes + h->waiting_bytes, 0);
    assert_int_equal(server_stats(t.server)->timeouts_total, 0);
    h2_hang_up(&p);
    serve_end(&t);
    free(body);
}

static void an_early_answer_ends_the_body(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t early = h2_ask_with(&p, "POST", "/early", NULL, true, NULL);
    H2_UNTIL(&p, h2_got(&p, early)->closed);
    assert_true(h2_is(&p, early, 401, "early"));
    assert_int_equal(h2_got(&p, early)->code, NGHTTP2_NO_ERROR);

    int32_t stream = h2_ask_with(&p, "POST", "/early-stream", NULL, true, NULL);
    struct request *rq = h2_held(&p, stream);
    struct span piece = SPAN_LIT("piece");
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    H2_UNTIL(&p, h2_got(&p, stream)->n == 5);
    h2_body_more(&p, stream, SPAN_LIT("not asked for"), true);
    h2_settle(&p);
    reply_end(rq);
    H2_HEAR(&p, stream, 200, "piece");
    assert_int_equal(t.gone, 0);
    assert_int_equal(server_stats(t.server)->h2_floods_total, 0);
    h2_hang_up(&p);
    serve_end(&t);
}

static void answers_without_a_body_are_only_a_head(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t head = h2_ask_with(&p, "HEAD", "/hold", NULL, false, NULL);
    reply_simple(h2_held(&p, head), 200, NULL, 0, SPAN_LIT("not sent"));
    H2_HEAR(&p, head, 200, "");
    assert_non_null(strstr(h2_got(&p, head)->fields, "content-length: 8\n"));
    int32_t none;
    reply_simple(h2_hold(&p, &none), 204, NULL, 0, SPAN_NONE);
    H2_HEAR(&p, none, 204, "");
    assert_null(strstr(h2_got(&p, none)->fields, "content-length"));
    int32_t refused = h2_ask_with(&p, "HEAD", "*", NULL, false, NULL);
    H2_UNTIL(&p, h2_got(&p, refused)->closed);
    assert_int_equal(h2_got(&p, refused)->n, 0);
    h2_hang_up(&p);
    serve_end(&t);
}

static void a_body_that_is_waited_for_is_asked_for(void **state)
{
    (void)state;
    static const char *const expect[] = {"expect", "100-continue", NULL}, *const other[] = {"expect", "tea", NULL};
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t id = h2_ask_with(&p, "POST", "/x", NULL, true, expect);
    H2_UNTIL(&p, h2_got(&p, id)->interims == 1);
    h2_body_more(&p, id, SPAN_LIT("now"), true);
    H2_HEAR(&p, id, 200, "now");
    int32_t tea = h2_ask_with(&p, "POST", "/x", NULL, true, other);
    H2_UNTIL(&p, h2_got(&p, tea)->ended);
    assert_int_equal(h2_got(&p, tea)->status, 417);
    int32_t early = h2_ask_with(&p, "POST", "/early", NULL, true, expect);
    H2_HEAR(&p, early, 401, "early");
    assert_int_equal(h2_got(&p, early)->interims, 0);
    h2_hang_up(&p);
    serve_end(&t);
}

static void trailers_are_ignored(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_raw(&p, &t);
    h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1,
                 "\x83\x84\x86\x41\x01"
                 "a",
                 6);
    h2_raw_frame(&t, &p, NGHTTP2_DATA, 0, 1, "with trailers", 13);
    h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1,
                 "\x00\x01"
                 "x\x01"
                 "y",
                 5);
    call_hear(&t, &p, "with trailers");
    assert_int_equal(serve_conn(&t)->h2->block.id, 0);
    assert_int_equal(server_stats(t.server)->bad_requests_total, 0);
    call_end(&p);
    serve_end(&t);
}

/* ---- the way back ---- */

static void what_is_queued_is_bounded_for_each_stream(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, true);
    int32_t slow, other;
    struct request *rq = h2_hold(&p, &slow);
    char *big = pattern(200000);
    struct span piece = span_of(big, 200000);
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    assert_true(reply_queued(rq) > t.rules.out_high_bytes);
    reply_flush(rq);
    h2_settle(&p);
    assert_int_equal(h2_got(&p, slow)->n, 65535); /* its window, and the connection's */
    assert_int_equal(reply_queued(rq), 200000 - 65535);
    assert_int_equal(t.drains, 0);

    /* The connection has room again, that stream has not: another one is served. */
    assert_int_equal(nghttp2_session_consume_connection(p.session, 65535), 0);
    reply_simple(h2_hold(&p, &other), 200, NULL, 0, SPAN_LIT("meanwhile"));
    H2_HEAR(&p, other, 200, "meanwhile");
    assert_int_equal(reply_queued(rq), 200000 - 65535);
    assert_int_equal(nghttp2_session_consume_connection(p.session, 9), 0);

    while (!t.drains) {
        size_t n = h2_got(&p, slow)->n;
        assert_int_equal(nghttp2_session_consume_stream(p.session, slow, 65535), 0);
        H2_UNTIL(&p, h2_got(&p, slow)->n > n);
        h2_settle(&p);
        assert_int_equal(nghttp2_session_consume_connection(p.session, h2_got(&p, slow)->n - n), 0);
        assert_int_equal(t.drains, reply_queued(rq) < t.rules.out_low_bytes);
    }
    struct span last = SPAN_LIT("z");
    assert_int_equal(reply_write(rq, &last, 1), PD_OK);
    h2_settle(&p);
    assert_int_equal(t.drains, 1); /* said once */
    reply_end(rq);
    nghttp2_session_consume_stream(p.session, slow, 65535);
    H2_UNTIL(&p, h2_got(&p, slow)->ended);
    assert_int_equal(h2_got(&p, slow)->n, 200001);
    assert_memory_equal(h2_got(&p, slow)->body, big, 200000);
    assert_int_equal(t.drains, 1);
    h2_hang_up(&p);
    serve_end(&t);
    free(big);
}

static void a_flushed_piece_leaves_at_once(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t id;
    struct request *rq = h2_hold(&p, &id);
    struct span piece = SPAN_LIT("now");
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    reply_flush(rq);
    h2_step(&p); /* the loop did not turn */
    assert_int_equal(h2_got(&p, id)->n, 3);
    assert_false(h2_got(&p, id)->ended);
    reply_end(rq);
    H2_HEAR(&p, id, 200, "now");
    h2_hang_up(&p);
    serve_end(&t);
}

static void an_answer_that_was_cut_looks_cut(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    struct span piece = SPAN_LIT("half");
    int32_t ids[3];
    struct request *rq = h2_hold(&p, &ids[0]); /* in the middle */
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    reply_abort(rq);
    rq = h2_hold(&p, &ids[1]); /* shorter than announced */
    assert_int_equal(reply_begin(rq, 200, NULL, 0, 10), PD_OK);
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    assert_int_equal(reply_write(rq, (struct span[]){SPAN_LIT("too long")}, 1), PD_INVALID);
    reply_end(rq);
    rq = h2_hold(&p, &ids[2]); /* before its head */
    reply_abort(rq);
    for (int i = 0; i < 3; i++) {
        struct h2_got *g = h2_got(&p, ids[i]);
        H2_UNTIL(&p, g->closed);
        assert_false(g->ended);
        assert_int_equal(g->code, NGHTTP2_INTERNAL_ERROR);
        assert_int_equal(g->n, i < 2 ? 4 : 0); /* what was written before came */
    }
    int32_t after = h2_post(&p, "/x", SPAN_LIT("alive"));
    H2_HEAR(&p, after, 200, "alive");
    assert_int_equal(t.gone, 0);
    assert_int_equal(serve_conn(&t)->h2->resets.left, H2_RESETS); /* not the client's doing */
    h2_hang_up(&p);
    serve_end(&t);
}

static void a_reply_may_reset_its_connection(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    struct request *rq = h2_hold(&p, NULL);
    h2_hold(&p, NULL);
    reply_reset(rq);
    assert_int_equal(t.gone, 0); /* never from within */
    H2_UNTIL(&p, p.reset);
    assert_int_equal(t.gone, 1);
    h2_hang_up(&p);
    serve_end(&t);
}

/* ---- clients that leave ---- */

static void a_stream_that_is_reset_is_a_client_that_left(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t goes, stays;
    struct request *left = h2_hold(&p, &goes), *rq = h2_hold(&p, &stays);
    struct span piece = SPAN_LIT("still ");
    assert_int_equal(reply_begin(left, 200, NULL, 0, -1), PD_OK);
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    assert_int_equal(nghttp2_submit_rst_stream(p.session, 0, goes, NGHTTP2_CANCEL), 0);
    H2_UNTIL(&p, t.gone == 1);
    assert_int_equal(server_stats(t.server)->requests_open, 1);
    assert_int_equal(server_stats(t.server)->gone_total, 1);
    reply_write(rq, &piece, 1) ? fail() : (void)0;
    reply_end(rq);
    H2_HEAR(&p, stays, 200, "still ");

    int32_t body = h2_ask_with(&p, "POST", "/x", NULL, true, NULL); /* while its body comes */
    h2_body_more(&p, body, SPAN_LIT("part"), false);
    H2_UNTIL(&p, serve_conn(&t)->h2->waiting_bytes == 4);
    assert_int_equal(nghttp2_submit_rst_stream(p.session, 0, body, NGHTTP2_CANCEL), 0);
    H2_UNTIL(&p, t.gone == 2);
    assert_int_equal(serve_conn(&t)->h2->waiting_bytes, 0);
    h2_hang_up(&p);
    serve_end(&t);
}

static void a_connection_that_ends_takes_all_its_streams_along(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    for (int i = 0; i < 5; i++)
        h2_hold(&p, NULL);
    h2_hang_up(&p);
    SERVE_UNTIL(&t, t.gone == 5);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    assert_int_equal(server_stats(t.server)->gone_total, 5);
    t.held_count = 0;

    h2_dial(&p, &t, false); /* and a server that is closed */
    h2_hold(&p, NULL);
    serve_end(&t);
    assert_int_equal(t.gone, 6);
    t.loop = loop_new();
    struct serve none = {.loop = t.loop};
    p.t = &none;
    h2_hang_up(&p);
    loop_free(t.loop);
}

/* ---- limits ---- */

static int refused(struct h2_caller *p, int32_t id, const char *code)
{
    struct h2_got *g = h2_got(p, id);
    H2_UNTIL(p, g->ended);
    if (!g->body || !strstr(g->body, code))
        fail_msg("%s is not in %s", code, g->body ? g->body : "nothing");
    return g->status;
}

static void requests_over_a_limit_are_refused_alone(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.head_bytes = 32 * 1024;
    t.rules.body_bytes = 100000;
    serve_begin(&t);
    h2_dial(&p, &t, false);
    struct request *rq = h2_hold(&p, NULL);

    static char long_path[9000], large[40000];
    memset(long_path, 'x', sizeof(long_path) - 1);
    memset(large, 'x', sizeof(large) - 1);
    long_path[0] = '/';
    static char names[101][8];
    const char *many[2 * 101 + 1] = {NULL};
    for (int i = 0; i < 101; i++) {
        snprintf(names[i], sizeof(names[i]), "x%d", i);
        many[2 * i] = names[i];
        many[2 * i + 1] = "y";
    }
    const char *const big_field[] = {"x", large, NULL}, *const length[] = {"content-length", "100001", NULL},
                      *const host[] = {"host", "elsewhere", NULL}, *const coding[] = {"content-length", "2", NULL};
    assert_int_equal(refused(&p, h2_get(&p, long_path), "target_too_long"), 414);
    assert_int_equal(refused(&p, h2_ask_with(&p, "GET", "/", NULL, false, big_field), "head_too_large"), 431);
    assert_int_equal(refused(&p, h2_ask_with(&p, "GET", "/", NULL, false, many), "head_too_large"), 431);
    assert_int_equal(refused(&p, h2_ask_with(&p, "POST", "/", NULL, true, length), "body_too_large"), 413);
    assert_int_equal(refused(&p, h2_ask_with(&p, "GET", "/", NULL, false, host), "different hosts"), 400);
    char *body = pattern(100001);
    assert_int_equal(refused(&p, h2_post(&p, "/", span_of(body, 100001)), "body_too_large"), 413);

    int32_t wrong =
        h2_ask_with(&p, "POST", "/", &(struct span){"abc", 3}, false, coding); /* longer than its length */
    H2_UNTIL(&p, h2_got(&p, wrong)->closed);
    assert_int_equal(h2_got(&p, wrong)->code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(t.gone, 2); /* the body over the limit, and this: their handlers knew of them */
    assert_int_equal(refused(&p, h2_post(&p, "/", span_of(body, 100000)), ""), 200);
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("untouched"));
    H2_HEAR(&p, 1, 200, "untouched");
    h2_hang_up(&p);
    serve_end(&t);
    free(body);
}

/* Blocks that nghttp2's client would not send, or that it would be told not to. */
static void malformed_requests_are_refused_alone(void **state)
{
    (void)state;
    static const struct row {
        const char *name, *block;
        size_t n;
    } rows[] = {
#define BLOCK(s) s, sizeof(s) - 1
        {"no method", BLOCK("\x84\x86\x41\x01"
                            "a")},
        {"no path", BLOCK("\x82\x86\x41\x01"
                          "a")},
        {"no host", BLOCK("\x82\x84\x86")},
        {"CONNECT", BLOCK("\x02\x07"
                          "CONNECT\x41\x01"
                          "a")},
        {"two paths", BLOCK("\x82\x84\x85\x86\x41\x01"
                            "a")},
        {"path with a blank", BLOCK("\x82\x86\x41\x01"
                                    "a\x04\x04/a b")},
        {"path without a slash", BLOCK("\x82\x86\x41\x01"
                                       "a\x04\x01"
                                       "x")},
        {"path with a line end", BLOCK("\x82\x86\x41\x01"
                                       "a\x04\x07/\r\nx: y")},
        {"method with a line end", BLOCK("\x84\x86\x41\x01"
                                         "a\x02\x07G\r\nx: y")},
        {"value with a line end", BLOCK(H2_HEAD "\x00\x01x\x06"
                                                "a\r\nb:c")},
        {"value with a NUL", BLOCK(H2_HEAD "\x00\x01x\x03"
                                           "a\0b")},
        {"name in capitals", BLOCK(H2_HEAD "\x00\x01X\x01y")},
        {"name with a colon", BLOCK(H2_HEAD "\x00\x03"
                                            "a:b\x01y")},
        {"connection", BLOCK(H2_HEAD "\x00\x0a"
                                     "connection\x05"
                                     "close")},
        {"transfer-encoding", BLOCK(H2_HEAD "\x00\x11transfer-encoding\x07"
                                            "chunked")},
        {"upgrade", BLOCK(H2_HEAD "\x00\x07upgrade\x03h2c")},
        {"te", BLOCK(H2_HEAD "\x00\x02te\x04gzip")},
        {"two lengths", BLOCK(H2_HEAD "\x00\x0e"
                                      "content-length\x01"
                                      "0\x00\x0e"
                                      "content-length\x01"
                                      "0")},
        {"host with a blank", BLOCK("\x82\x84\x86\x41\x03"
                                    "a b")},
        {"unknown pseudo field", BLOCK("\x82\x84\x86\x41\x01"
                                       "a\x00\x02:x\x01y")},
        {"pseudo field behind a field", BLOCK("\x82\x84\x86\x00\x01x\x01y\x41\x01"
                                              "a")},
#undef BLOCK
    };
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const uint8_t *payload = NULL;
        uint64_t bad = server_stats(t.server)->bad_requests_total;
        h2_raw(&p, &t);
        h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, rows[i].block,
                     rows[i].n);
        serve_settle(&t);
        if (!h2_frames(&p, NGHTTP2_RST_STREAM, &payload) && !call_has(&p, "invalid_http"))
            fail_msg("%s: not refused", rows[i].name);
        if (server_stats(t.server)->bad_requests_total != bad + 1)
            fail_msg("%s: not counted", rows[i].name);
        call_forget(&p);
        h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 3,
                     "\x83\x84\x86\x41\x01"
                     "a",
                     6);
        h2_raw_frame(&t, &p, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 3, "next", 4);
        serve_settle(&t);
        if (!call_has(&p, "next"))
            fail_msg("%s: the next request is not served", rows[i].name);
        call_end(&p);
    }
    assert_int_equal(t.gone, 0);
    serve_end(&t);
}

static void streams_over_the_limit_are_refused(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    const uint8_t *payload = (const uint8_t *)"\0\0\0\0\0\0\0\0";
    serve_rules(&t);
    t.rules.h2_streams = 3;
    serve_begin(&t);
    h2_raw(&p, &t); /* SETTINGS are not acknowledged, so that the limit may not be known yet */
    for (uint32_t id = 1; id <= 9; id += 2)
        h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, H2_HEAD, 6);
    serve_settle(&t);
    assert_int_equal(t.heads, 3);
    assert_int_equal(h2_frames(&p, NGHTTP2_RST_STREAM, &payload), 2);
    assert_int_equal(payload[3], NGHTTP2_REFUSED_STREAM);
    h2_raw_frame(&t, &p, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 3, "second", 6);
    call_hear(&t, &p, "second");
    call_end(&p);
    serve_end(&t);
}

/* ---- deadlines ---- */

static void a_head_that_does_not_end_ends_the_connection(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.head_ms = 30;
    serve_begin(&t);
    h2_raw(&p, &t);
    h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, H2_HEAD, 5);
    serve_settle(&t);
    while (!h2_frames(&p, NGHTTP2_GOAWAY, NULL))
        serve_wait(&t, p.fd, POLLIN, "GOAWAY", __LINE__);
    call_hear_end(&t, &p);
    assert_int_equal(server_stats(t.server)->timeouts_total, 1);
    assert_int_equal(t.heads, 0);
    call_end(&p);
    serve_end(&t);
}

static void slow_bodies_are_refused_alone(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.body_stall_ms = 60;
    serve_begin(&t);
    h2_dial(&p, &t, false);
    struct request *rq = h2_hold(&p, NULL);
    int32_t stalls = h2_ask_with(&p, "POST", "/x", NULL, true, NULL);
    assert_int_equal(refused(&p, stalls, "body_timeout"), 408);
    assert_int_equal(server_stats(t.server)->timeouts_total, 1);
    int32_t drips = h2_ask_with(&p, "POST", "/x", NULL, true, NULL);
    uint64_t next = 0;
    while (!h2_got(&p, drips)->ended) { /* a byte now and then */
        if (clock_mono_ms() >= next && !h2_got(&p, drips)->closed) {
            h2_body_more(&p, drips, SPAN_LIT("x"), false);
            next = clock_mono_ms() + 10;
        }
        h2_step(&p);
        serve_wait(&t, p.fd, POLLIN, "an answer to a body that drips", __LINE__);
    }
    assert_non_null(strstr(h2_got(&p, drips)->body, "body_too_slow"));
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("untouched"));
    H2_HEAR(&p, 1, 200, "untouched");
    h2_hang_up(&p);
    serve_end(&t);
}

static void a_stream_whose_window_stays_shut_is_given_up(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.write_stall_ms = 40;
    serve_begin(&t);
    h2_dial(&p, &t, true);
    char *big = pattern(200000);
    struct span piece = span_of(big, 200000);
    int32_t writes, ended, after;
    struct request *rq = h2_hold(&p, &writes);
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    rq = h2_hold(&p, &ended);
    reply_simple(rq, 200, NULL, 0, piece);
    H2_UNTIL(&p, h2_got(&p, writes)->closed && h2_got(&p, ended)->closed);
    assert_int_equal(h2_got(&p, writes)->code, NGHTTP2_CANCEL);
    assert_int_equal(h2_got(&p, ended)->code, NGHTTP2_CANCEL);
    assert_int_equal(t.gone, 1);
    assert_int_equal(server_stats(t.server)->timeouts_total, 2);
    nghttp2_session_consume_connection(p.session, 65535);
    rq = h2_hold(&p, &after);
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("alive"));
    H2_HEAR(&p, after, 200, "alive");
    h2_hang_up(&p);
    serve_end(&t);
    free(big);
}

static void a_client_that_reads_nothing_is_gone(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.write_stall_ms = 50;
    serve_begin(&t);
    h2_dial(&p, &t, false);
    nghttp2_session_set_local_window_size(p.session, 0, 0, 1 << 30);
    int small = 4096;
    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    int32_t id;
    struct request *rq = h2_hold(&p, &id);
    nghttp2_session_set_local_window_size(p.session, 0, id, 1 << 30);
    h2_settle(&p);
    assert_int_equal(reply_begin(rq, 200, NULL, 0, -1), PD_OK);
    char *big = pattern(16 << 20);
    struct span piece = span_of(big, 16 << 20);
    assert_int_equal(reply_write(rq, &piece, 1), PD_OK);
    SERVE_UNTIL(&t, t.gone == 1);
    assert_true(server_stats(t.server)->timeouts_total >= 1);
    SERVE_UNTIL(&t, server_stats(t.server)->connections_open == 0);
    h2_hang_up(&p);
    serve_end(&t);
    free(big);
}

static void an_idle_connection_is_told_to_go(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.idle_ms = 30;
    serve_begin(&t);
    h2_dial(&p, &t, false);
    {
        int32_t id = h2_post(&p, "/x", SPAN_LIT("x"));
        H2_HEAR(&p, id, 200, "x");
    }
    H2_UNTIL(&p, p.ended);
    assert_int_equal(p.goaways, 1); /* nghttp2's client reads no further */
    assert_int_equal(p.goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(p.goaway_last, INT32_MAX);
    assert_false(p.reset);
    h2_hang_up(&p);

    struct caller dumb; /* one that does not even answer a PING */
    const uint8_t *payload = (const uint8_t *)"\0\0\0\0\0\0\0\0";
    t.server->linger_ms = 20;
    h2_raw(&dumb, &t);
    call_hear_end(&t, &dumb);
    assert_int_equal(h2_frames(&dumb, NGHTTP2_GOAWAY, &payload), 2);
    assert_memory_equal(payload, "\0\0\0\0\0\0\0\0", 8); /* no stream, no error */
    call_end(&dumb);
    serve_end(&t);
}

/* ---- floods ---- */

static void resets_one_after_the_other_end_the_connection(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    const uint8_t *payload = (const uint8_t *)"\0\0\0\0\0\0\0\0";
    serve_rules(&t);
    serve_begin(&t);
    h2_raw(&p, &t);
    for (uint32_t id = 1; id < 2000 && !p.ended; id += 2) {
        h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, H2_HEAD, 6);
        h2_raw_frame(&t, &p, NGHTTP2_RST_STREAM, 0, id, "\0\0\0\x8", 4);
        call_take(&p);
    }
    call_hear_end(&t, &p);
    assert_int_equal(h2_frames(&p, NGHTTP2_GOAWAY, &payload), 1);
    assert_int_equal(payload[7], NGHTTP2_ENHANCE_YOUR_CALM);
    assert_in_range(server_stats(t.server)->requests_total, H2_RESETS, H2_RESETS + 100);
    assert_int_equal(server_stats(t.server)->h2_floods_total, 1);
    assert_int_equal(server_stats(t.server)->requests_open, 0);
    assert_int_equal(t.gone, server_stats(t.server)->requests_total);
    call_end(&p);
    call_check_alive(&t, "rapid reset");
    serve_end(&t);
}

/* CVE-2025-8671: the client makes the server do the resetting. */
static void errors_one_after_the_other_end_the_connection(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_raw(&p, &t);
    for (uint32_t id = 1; id < 2000 && !p.ended; id += 2) {
        h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, H2_HEAD, 6);
        h2_raw_frame(&t, &p, NGHTTP2_WINDOW_UPDATE, 0, id, "\x7f\xff\xff\xff", 4); /* over the greatest window */
        call_take(&p);
    }
    call_hear_end(&t, &p);
    assert_in_range(server_stats(t.server)->requests_total, H2_RESETS, H2_RESETS + 100);
    assert_int_equal(server_stats(t.server)->h2_floods_total, 1);
    call_end(&p);
    serve_end(&t);
}

static void frames_that_bring_nothing_end_the_connection(void **state)
{
    (void)state;
    static const struct row {
        const char *name;
        uint8_t type, flags;
        uint32_t id;
        const char *payload;
        size_t n;
    } rows[] = {
        {"PING", NGHTTP2_PING, 0, 0, "12345678", 8},
        {"SETTINGS", NGHTTP2_SETTINGS, 0, 0, "\0\x4\0\0\xff\xff", 6},
        {"PRIORITY", NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\x1", 5},
        {"empty DATA", NGHTTP2_DATA, 0, 1, NULL, 0},
        {"CONTINUATION", NGHTTP2_CONTINUATION, 0, 3, NULL, 0},
    };
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        h2_raw(&p, &t);
        h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, H2_HEAD, 6);
        if (rows[i].type == NGHTTP2_CONTINUATION)
            h2_raw_frame(&t, &p, NGHTTP2_HEADERS, 0, 3, H2_HEAD, 6);
        unsigned sent = 0;
        for (; sent < 5000 && !p.ended && !p.reset; sent++) {
            h2_raw_frame(&t, &p, rows[i].type, rows[i].flags, rows[i].id, rows[i].payload, rows[i].n);
            call_take(&p);
        }
        if (sent == 5000)
            fail_msg("%s: taken for ever", rows[i].name);
        if (rows[i].type != NGHTTP2_CONTINUATION && sent < H2_FRAMES - 10)
            fail_msg("%s: ended after %u", rows[i].name, sent);
        call_end(&p);
    }
    assert_int_equal(t.gone, sizeof(rows) / sizeof(rows[0]));
    assert_int_equal(server_stats(t.server)->h2_floods_total, sizeof(rows) / sizeof(rows[0]));
    call_check_alive(&t, "floods");
    serve_end(&t);
}

/* Answers that nobody takes must not pile up. */
static void refusals_that_are_not_read_end_the_connection(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    t.rules.h2_streams = 1;
    serve_begin(&t);
    call_begin(&p, &t);
    int small = 2048;
    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    char settings[9];
    call_send(&t, &p, h2_magic, 24);
    call_send(&t, &p, settings, h2_frame(settings, NGHTTP2_SETTINGS, 0, 0, NULL, 0));
    h2_raw_frame(&t, &p, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, H2_HEAD, 6);
    SERVE_UNTIL(&t, t.heads == 1);
    static char batch[15 * 4000];
    for (uint32_t id = 3; !t.gone && id < 100000000;) {
        size_t n = 0;
        for (; n + 15 <= sizeof(batch); id += 2)
            n += h2_frame(batch + n, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, id, H2_HEAD, 6);
        call_send(&t, &p, batch, n);
    }
    assert_int_equal(t.gone, 1);
    assert_int_equal(server_stats(t.server)->h2_floods_total, 1);
    call_end(&p);
    serve_end(&t);
}

/* ---- leaving ---- */

static void a_drain_lets_streams_end(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p, idle;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    h2_dial(&idle, &t, false);
    h2_settle(&idle);
    int32_t before, late;
    struct request *rq = h2_hold(&p, &before);
    server_drain(t.server, serve_is_drained, &t);
    late = h2_post(&p, "/x", SPAN_LIT("on its way")); /* before the client has read anything of it */
    H2_HEAR(&p, late, 200, "on its way");
    H2_UNTIL(&p, p.goaways == 2);
    assert_int_equal(p.goaway_last, late);
    assert_int_equal(p.goaway_code, NGHTTP2_NO_ERROR);
    H2_UNTIL(&idle, idle.ended);
    assert_int_equal(idle.goaways, 1);
    h2_hang_up(&idle);
    assert_false(t.drained);
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("to the end"));
    H2_HEAR(&p, before, 200, "to the end");
    H2_UNTIL(&p, p.ended);
    assert_false(p.reset);
    h2_hang_up(&p);
    SERVE_UNTIL(&t, t.drained);
    assert_int_equal(t.gone, 0);
    serve_end(&t);
}

static void a_preface_that_comes_after_the_drain_began_is_told_to_go(void **state)
{
    (void)state;
    struct serve t;
    struct caller p;
    serve_rules(&t);
    serve_begin(&t);
    call_begin(&p, &t);
    call_send(&t, &p, h2_magic, 5);
    server_drain(t.server, serve_is_drained, &t);
    t.server->linger_ms = 20;
    char settings[9];
    call_send(&t, &p, h2_magic + 5, 19);
    call_send(&t, &p, settings, h2_frame(settings, NGHTTP2_SETTINGS, 0, 0, NULL, 0));
    call_hear_end(&t, &p);
    assert_int_equal(h2_frames(&p, NGHTTP2_GOAWAY, NULL), 2);
    call_end(&p);
    SERVE_UNTIL(&t, t.drained);
    serve_end(&t);
}

static void a_connection_ends_after_its_number_of_requests(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    t.rules.requests_per_connection = 3;
    serve_begin(&t);
    h2_dial(&p, &t, false);
    for (int i = 0; i < 3; i++) {
        int32_t id = h2_post(&p, "/x", SPAN_LIT("x"));
        H2_HEAR(&p, id, 200, "x");
    }
    H2_UNTIL(&p, p.ended);
    assert_int_equal(p.goaways, 1);
    assert_int_equal(p.goaway_code, NGHTTP2_NO_ERROR);
    h2_hang_up(&p);
    serve_end(&t);
}

static void a_client_that_says_goodbye_is_closed_when_it_has_its_answers(void **state)
{
    (void)state;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    serve_begin(&t);
    h2_dial(&p, &t, false);
    int32_t id;
    struct request *rq = h2_hold(&p, &id);
    assert_int_equal(nghttp2_submit_goaway(p.session, 0, 0, NGHTTP2_NO_ERROR, NULL, 0), 0);
    h2_settle(&p);
    assert_int_equal(t.gone, 0);
    reply_simple(rq, 200, NULL, 0, SPAN_LIT("last"));
    H2_HEAR(&p, id, 200, "last");
    H2_UNTIL(&p, p.ended);
    h2_hang_up(&p);
    serve_end(&t);
}

/* ---- memory ---- */

static struct span torture_body;

/* Everything from nothing to nothing; what fails may fail its stream or its connection, and nothing else. */
static pd_err all_of_it(void *ctx)
{
    (void)ctx;
    struct serve t;
    static struct h2_caller p;
    serve_rules(&t);
    if (serve_try(&t))
        return PD_NOMEM;
    h2_dial(&p, &t, false);
    bool served = false;
    static const char *const more[] = {"cookie", "a", "cookie", "b", "expect", "100-continue", NULL};
    static const char *const tea[] = {"expect", "tea", NULL};
    int32_t post = h2_ask_with(&p, "POST", "/x", &torture_body, false, more),
            bad = h2_ask_with(&p, "GET", "/", NULL, false, tea), held = h2_get(&p, "/hold");
    struct h2_got *g = h2_got(&p, post), *b = h2_got(&p, bad), *k = h2_got(&p, held);
    bool told = false;
    H2_UNTIL(&p, p.ended || p.reset || (g->closed && b->closed && (t.held_count || k->closed)));
    if (t.held_count && !t.gone) {
        struct request *rq = t.held[0];
        struct span piece = SPAN_LIT("piece");
        told = true;
        if (reply_begin(rq, 200, NULL, 0, -1) || reply_write(rq, &piece, 1))
            reply_abort(rq);
        else
            reply_end(rq);
        H2_UNTIL(&p, p.ended || p.reset || k->closed);
    }
    served = told && h2_is(&p, held, 200, "piece") && g->ended && g->status == 200 && g->n == torture_body.n &&
             b->status == 417;
    if (mem_failed())
        call_check_alive(&t, "a failed allocation");
    h2_hang_up(&p);
    serve_end(&t);
    return served ? PD_OK : PD_NOMEM;
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    char *body = pattern(150000);
    torture_body = span_of(body, 150000);
    assert_int_equal(all_of_it(NULL), PD_OK);
    mem_big_trim();
    assert_true(torture_lenient(all_of_it, NULL) >= 40);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered_on_one_connection),
        cmocka_unit_test(a_handler_sees_all_of_the_request),
        cmocka_unit_test(a_connection_is_the_same_at_every_split),
        cmocka_unit_test(only_a_whole_preface_at_the_start_begins_it),
        cmocka_unit_test(streams_are_answered_in_any_order),
        cmocka_unit_test(large_bodies_pass_both_ways),
        cmocka_unit_test(bodies_of_a_connection_have_a_limit_together),
        cmocka_unit_test(an_early_answer_ends_the_body),
        cmocka_unit_test(answers_without_a_body_are_only_a_head),
        cmocka_unit_test(a_body_that_is_waited_for_is_asked_for),
        cmocka_unit_test(trailers_are_ignored),
        cmocka_unit_test(what_is_queued_is_bounded_for_each_stream),
        cmocka_unit_test(a_flushed_piece_leaves_at_once),
        cmocka_unit_test(an_answer_that_was_cut_looks_cut),
        cmocka_unit_test(a_reply_may_reset_its_connection),
        cmocka_unit_test(a_stream_that_is_reset_is_a_client_that_left),
        cmocka_unit_test(a_connection_that_ends_takes_all_its_streams_along),
        cmocka_unit_test(requests_over_a_limit_are_refused_alone),
        cmocka_unit_test(malformed_requests_are_refused_alone),
        cmocka_unit_test(streams_over_the_limit_are_refused),
        cmocka_unit_test(a_head_that_does_not_end_ends_the_connection),
        cmocka_unit_test(slow_bodies_are_refused_alone),
        cmocka_unit_test(a_stream_whose_window_stays_shut_is_given_up),
        cmocka_unit_test(a_client_that_reads_nothing_is_gone),
        cmocka_unit_test(an_idle_connection_is_told_to_go),
        cmocka_unit_test(resets_one_after_the_other_end_the_connection),
        cmocka_unit_test(errors_one_after_the_other_end_the_connection),
        cmocka_unit_test(frames_that_bring_nothing_end_the_connection),
        cmocka_unit_test(refusals_that_are_not_read_end_the_connection),
        cmocka_unit_test(a_drain_lets_streams_end),
        cmocka_unit_test(a_preface_that_comes_after_the_drain_began_is_told_to_go),
        cmocka_unit_test(a_connection_ends_after_its_number_of_requests),
        cmocka_unit_test(a_client_that_says_goodbye_is_closed_when_it_has_its_answers),
        cmocka_unit_test(every_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
