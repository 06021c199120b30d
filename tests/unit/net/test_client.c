/* The client against real sockets: order of callbacks, pool, framing, deadlines, cancelling, closing. */
#include "drive.h"

#include "base/clock.h"
#include "base/mem.h"

#define OK_BODY "HTTP/1.1 200 OK\r\nX-Test: yes\r\nContent-Length: 5\r\n\r\nhello"

static void answers_ok(struct peer *p, void *arg)
{
    unsigned n = *(unsigned *)arg;
    struct link *k = peer_accept(p);
    for (unsigned i = 0; i < n; i++) {
        peer_check(p, link_request(k, NULL));
        peer_check(p, link_send(k, OK_BODY));
    }
    peer_check(p, link_closed(k));
    link_close(k);
}

static void callbacks_come_in_order_and_the_connection_is_kept(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    unsigned requests = 3;
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_ok, &requests);
    struct origin *o = drive_origin(&d, p.url);
    for (unsigned i = 0; i < requests; i++) {
        struct got g = {0};
        struct span body[] = {SPAN_LIT("{\"a\":"), SPAN_LIT(""), SPAN_LIT("1}")};
        drive_post(&d, o, &g, body, 3);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_OK);
        assert_string_equal(g.order, "shbte");
        assert_int_equal(g.status, 200);
        assert_string_equal(g.head_value, "yes");
        assert_string_equal(g.body, "hello");
        assert_int_equal(g.info.reused, i > 0);
        assert_true(g.info.started_us <= g.info.connected_us && g.info.connected_us <= g.info.sent_us &&
                    g.info.sent_us <= g.info.head_us);
        assert_int_equal(origin_idle(o), 1);
        got_done(&g);
    }
    const struct client_stats *s = client_stats(d.client);
    assert_int_equal(s->connects_total, 1);
    assert_int_equal(s->reused_total, 2);
    assert_int_equal(s->connections_open, 1);
    assert_int_equal(s->connections_idle, 1);
    origin_unref(o); /* the pool goes with its last user */
    DRIVE_UNTIL(&d, client_stats(d.client)->connections_idle == 0);
    drive_done(&d);
    peer_join(&p);
}

/* ---- the request as it is sent ------------------------------------------------------------ */

struct wire {
    char head[4096];
};

static void records_head(struct peer *p, void *arg)
{
    struct wire *w = arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    snprintf(w->head, sizeof(w->head), "%.4000s", k->in);
    peer_check(p, link_send(k, OK_BODY));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void the_request_is_what_was_asked_for(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct wire w;
    char want[512];
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, records_head, &w);
    struct origin *o = drive_origin(&d, p.url);
    struct got g = {0};
    struct http1_field fields[] = {{SPAN_LIT("Authorization"), SPAN_LIT("Bearer k")},
                                   {SPAN_LIT("X-Empty"), SPAN_LIT("")}};
    struct span body = SPAN_LIT("{}");
    struct exchange_request rq = {.method = "POST",
                                  .path = SPAN_LIT("/v1/chat?a=b"),
                                  .fields = fields,
                                  .fields_count = 2,
                                  .body = &body,
                                  .body_count = 1};
    assert_int_equal(exchange_start(d.client, o, &rq, &got_handler, &g, &g.x), PD_OK);
    DRIVE_UNTIL(&d, g.ends);
    snprintf(want, sizeof(want),
             "POST /v1/chat?a=b HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAuthorization: Bearer k\r\nX-Empty: \r\n"
             "Accept-Encoding: identity\r\nContent-Length: 2\r\n\r\n",
             (unsigned)p.port);
    assert_string_equal(w.head, want);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void what_could_break_the_head_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *name, *value;
    } rows[] = {
        {"/a b", "X", "y"},  {"/a\r\nX: y", "X", "y"}, {"", "X", "y"},          {"/", "X\r\nY", "y"},
        {"/", "", "y"},      {"/", "X Y", "y"},        {"/", "X", "y\r\nZ: w"}, {"/", "X", "y\nz"},
        {"/", "X", "y\x7f"}, {"/", "X", "y\x01\tz"},   {"/", "X", "y\tz\x01"},
    };
    struct drive d;
    drive_init(&d);
    struct origin *o = drive_origin(&d, "http://127.0.0.1:1");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct got g = {0};
        struct http1_field f = {span_str(rows[i].name), span_str(rows[i].value)};
        struct exchange_request rq = {
            .method = "GET", .path = span_str(rows[i].path), .fields = &f, .fields_count = 1};
        assert_int_equal(exchange_start(d.client, o, &rq, &got_handler, &g, &g.x), PD_INVALID);
    }
    origin_unref(o);
    drive_done(&d);
}

/* ---- answers, in one piece and cut at every byte --------------------------------------------- */

struct answer {
    const char *name, *bytes, *body;
    pd_err err;
    int status;
    bool reset;
    enum { THEIRS, OURS, KEPT } then; /* who closes: the peer, the client, nobody */
};
static const struct answer answers[] = {
    {"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", PD_OK, 200, false, KEPT},
    {"no body", "HTTP/1.1 204 No Content\r\n\r\n", "", PD_OK, 204, false, KEPT},
    {"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", PD_OK, 200, false, KEPT},
    {"chunked",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n", "hello",
     PD_OK, 200, false, KEPT},
    {"interim heads are swallowed",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"
     "Content-Length: 2\r\n\r\nok",
     "ok", PD_OK, 200, false, KEPT},
    {"until close", "HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", PD_OK, 200, false, THEIRS},
    {"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", PD_OK, 200, false, OURS},
    {"Connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok", PD_OK, 200,
     false, OURS},
    {"bytes after the answer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", "ok",
     PD_OK, 200, false, OURS},
    {"cut in the length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "hello", PD_CUT, 200, false,
     THEIRS},
    {"cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "hel", PD_CUT, 200, false,
     THEIRS},
    {"cut before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "hel",
     PD_CUT, 200, false, THEIRS},
    {"cut in the head", "HTTP/1.1 200 OK\r\nContent-Le", "", PD_CUT, 0, false, THEIRS},
    {"nothing at all", "", "", PD_CLOSED, 0, false, THEIRS},
    {"reset in the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "hello", PD_RESET, 200, true,
     THEIRS},
    {"reset in a body until close", "HTTP/1.1 200 OK\r\n\r\nhello", "hello", PD_RESET, 200, true, THEIRS},
    {"reset in the head", "HTTP/1.1 200", "", PD_RESET, 0, true, THEIRS},
    {"reset before anything", "", "", PD_RESET, 0, true, THEIRS},
    {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "", PD_PROTO, 0, false,
     THEIRS},
    {"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "", PD_PROTO, 200, false,
     THEIRS},
    {"101", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "", PD_PROTO, 0, false, THEIRS},
    {"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "", PD_PROTO, 0, false, THEIRS},
};

struct feed {
    const struct answer *row;
    size_t cut; /* the answer is sent in two, the second when the first was surely read */
};

static void feeds(struct peer *p, void *arg)
{
    struct feed *f = arg;
    size_t n = strlen(f->row->bytes);
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    link_send_bytes(k, f->row->bytes, f->cut);
    if (f->cut < n) {
        peer_tell(p);
        peer_wait(p);
        link_send_bytes(k, f->row->bytes + f->cut, n - f->cut);
    }
    if (f->row->reset) {
        peer_tell(p);
        peer_wait(p);
        link_reset(k);
        return;
    }
    if (f->row->then == OURS)
        peer_check(p, link_closed(k));
    else if (f->row->then == KEPT)
        peer_wait(p);
    link_close(k);
}

/* The bytes that were sent are all read when the kernel holds none that the client has not acknowledged and taken: on
 * loopback, one more look at the socket after the peer's send returned shows them. */
static void feed_one(const struct answer *row, size_t cut)
{
    struct drive d;
    struct peer p;
    struct feed f = {row, cut};
    struct got g = {0};
    drive_init(&d);
    peer_init(&p);
    drive_peer(&d, &p);
    peer_run(&p, feeds, &f);
    struct origin *o = drive_origin(&d, p.url);
    drive_get(&d, o, &g);
    int told = 0;
    bool stop = false;
    while (!stop) {
        DRIVE_UNTIL(&d, g.ends || p.told > told);
        stop = g.ends;
        if (p.told > told) {
            told++;
            drive_settle(&d);
            peer_go(&p);
        }
    }
    if (g.err != row->err || g.status != row->status || g.ends != 1)
        fail_msg("%s, cut at %zu: err %s (%s), status %d, ends %u", row->name, cut, pd_err_name(g.err), g.why,
                 g.status, g.ends);
    assert_string_equal(g.body ? g.body : "", row->body);
    assert_int_equal(origin_idle(o), row->then == KEPT);
    peer_go(&p);
    peer_go(&p);
    peer_go(&p);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void every_answer_ends_as_its_framing_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        feed_one(&answers[i], strlen(answers[i].bytes));
}

static void an_answer_may_be_split_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        for (size_t cut = 1; cut < strlen(answers[i].bytes); cut += 1 + cut / 24)
            if (answers[i].err != PD_PROTO && answers[i].name[0] != 'b')
                feed_one(&answers[i], cut);
}

/* ---- limits and deadlines --------------------------------------------------------------------- */

static void sends_endless_head(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    link_send(k, "HTTP/1.1 200 OK\r\n");
    while (link_send(k, "X-Pad: 0123456789012345678901234567890123456789\r\n")) {
    }
    link_close(k);
}

static void a_head_larger_than_its_limit_is_refused(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, sends_endless_head, NULL);
    struct origin *o = drive_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_TOOBIG);
    assert_non_null(strstr(g.why, "65536"));
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void sends_large_head(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    link_send(k, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 60; i++) {
        char line[1024];
        snprintf(line, sizeof(line), "X-%d: %0*d\r\n", i, 1000, 7);
        link_send(k, line);
    }
    link_send(k, "X-Test: last\r\nContent-Length: 4\r\n\r\nbody");
    peer_check(p, link_closed(k));
    link_close(k);
}

static void a_head_that_takes_many_reads_is_put_together(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, sends_large_head, NULL);
    struct origin *o = drive_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_string_equal(g.head_value, "last");
    assert_string_equal(g.body, "body");
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void refused_connections_name_the_address(void **state)
{
    (void)state;
    struct drive d;
    uint16_t port = 0;
    char url[64], want[64];
    int fd = peer_listen_on("127.0.0.1", &port, 1);
    close(fd); /* nobody listens there now */
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)port);
    snprintf(want, sizeof(want), "connection refused by 127.0.0.1:%u", (unsigned)port);
    drive_init(&d);
    struct origin *o = drive_origin(&d, url);
    struct got g = {0};
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_CONNECT);
    assert_non_null(strstr(g.why, want));
    assert_int_equal(g.info.phase, EXCHANGE_CONNECTING);
    assert_int_equal(client_stats(d.client)->connect_errors_total, 1);
    origin_unref(o);
    drive_done(&d);
}

/* A socket whose backlog is full: SYNs to it are dropped, as by a host that is not there. */
struct black_hole {
    int fd, filler[4];
    uint16_t port;
};
static void black_hole_open(struct black_hole *b, const char *ip)
{
    b->fd = peer_listen_on(ip, &b->port, 0);
    assert_true(b->fd >= 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(b->port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    for (int i = 0; i < 4; i++) {
        b->filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(b->filler[i], (struct sockaddr *)&a, sizeof(a));
    }
}
static void black_hole_close(struct black_hole *b)
{
    for (int i = 0; i < 4; i++)
        close(b->filler[i]);
    close(b->fd);
}

static void a_host_that_is_silent_ends_at_connect_ms(void **state)
{
    (void)state;
    struct drive d;
    struct black_hole hole = {0};
    char url[64];
    black_hole_open(&hole, "127.0.0.1");
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)hole.port);
    drive_init(&d);
    d.rules.connect_ms = 40;
    client_set_rules(d.client, &d.rules);
    struct origin *o = drive_origin(&d, url);
    struct got g = {0};
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_TIMEOUT);
    assert_non_null(strstr(g.why, "connect_ms"));
    origin_unref(o);
    drive_done(&d);
    black_hole_close(&hole);
}

static void takes_nothing(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_wait(p);
    link_close(k);
}

static void a_peer_that_takes_nothing_ends_at_send_stall_ms(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    size_t n = 32 << 20;
    char *large = calloc(1, n);
    drive_init(&d);
    d.rules.send_stall_ms = 50;
    client_set_rules(d.client, &d.rules);
    peer_init(&p);
    peer_run(&p, takes_nothing, NULL);
    struct origin *o = drive_origin(&d, p.url);
    struct span body = span_of(large, n);
    drive_post(&d, o, &g, &body, 1);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_TIMEOUT);
    assert_non_null(strstr(g.why, "send_stall_ms"));
    assert_int_equal(g.sent, 0);
    peer_go(&p);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
    free(large);
}

/* ---- the pool -------------------------------------------------------------------------------------- */

static void answers_two_links(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k[2] = {peer_accept(p), peer_accept(p)};
    for (int i = 0; i < 2; i++)
        peer_check(p, link_request(k[i], NULL));
    for (int i = 0; i < 2; i++) {
        peer_check(p, link_send(k[i], OK_BODY));
        peer_wait(p);
    }
    peer_check(p, link_request(k[1], NULL)); /* the last used is taken first */
    peer_check(p, link_send(k[1], OK_BODY));
    peer_check(p, link_closed(k[0]));
    peer_check(p, link_closed(k[1]));
    link_close(k[0]);
    link_close(k[1]);
}

static void the_last_used_connection_is_taken_first(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got a = {0}, b = {0}, c = {0};
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_two_links, NULL);
    struct origin *o = drive_origin(&d, p.url);
    drive_get(&d, o, &a);
    DRIVE_UNTIL(&d, a.sent);
    drive_get(&d, o, &b);
    DRIVE_UNTIL(&d, a.ends);
    peer_go(&p);
    DRIVE_UNTIL(&d, b.ends);
    peer_go(&p);
    assert_int_equal(origin_idle(o), 2);
    drive_get(&d, o, &c);
    DRIVE_UNTIL(&d, c.ends);
    assert_int_equal(c.err, PD_OK);
    assert_true(c.info.reused);
    got_done(&a);
    got_done(&b);
    got_done(&c);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void an_idle_connection_is_closed_after_idle_ms(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    unsigned one = 1;
    drive_init(&d);
    d.rules.idle_ms = 20;
    client_set_rules(d.client, &d.rules);
    peer_init(&p);
    peer_run(&p, answers_ok, &one);
    struct origin *o = drive_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(origin_idle(o), 1);
    DRIVE_UNTIL(&d, origin_idle(o) == 0);
    got_done(&g);
    peer_join(&p);
    origin_unref(o);
    drive_done(&d);
}

static void no_more_than_idle_per_origin_are_kept(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got a = {0}, b = {0};
    drive_init(&d);
    d.rules.idle_per_origin = 1;
    client_set_rules(d.client, &d.rules);
    peer_init(&p);
    unsigned one = 1;
    struct origin *o = drive_origin(&d, p.url);
    drive_get(&d, o, &a);
    peer_run(&p, answers_ok, &one);
    DRIVE_UNTIL(&d, a.ends);
    struct exchange_request rq = {.method = "GET", .path = SPAN_LIT("/"), .fresh = true};
    struct peer second;
    peer_init(&second);
    second.port = p.port;
    close(second.fd);
    second.fd = dup(p.fd);
    peer_run(&second, answers_ok, &one);
    assert_int_equal(exchange_start(d.client, o, &rq, &got_handler, &b, &b.x), PD_OK);
    DRIVE_UNTIL(&d, b.ends);
    assert_false(b.info.reused); /* fresh was asked for, though one was idle */
    assert_int_equal(origin_idle(o), 1);
    peer_join(&p); /* the older was closed */
    got_done(&a);
    got_done(&b);
    origin_unref(o);
    drive_done(&d);
    peer_join(&second);
}

static void origins_are_told_apart_by_what_matters(void **state)
{
    (void)state;
    struct drive d;
    drive_init(&d);
    static const struct origin_config cfg[] = {
        {"http://a.test/v1", "", NULL, false},        {"http://A.test:80", "", NULL, false},
        {"https://a.test", "", NULL, false},          {"https://a.test", "", NULL, true},
        {"http://a.test", "http://p:1", NULL, false}, {"http://a.test:81", "", NULL, false},
    };
    static const unsigned same_as[] = {0, 0, 2, 3, 4, 5};
    static const char *const authority[] = {"a.test", "a.test", "a.test", "a.test", "a.test", "a.test:81"};
    struct origin *o[6];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(client_origin(d.client, &cfg[i], &o[i]), PD_OK);
        assert_string_equal(origin_authority(o[i]), authority[i]);
        for (int j = 0; j < i; j++)
            assert_int_equal(o[i] == o[j], same_as[i] == same_as[j]);
    }
    struct origin *bad;
    assert_int_equal(client_origin(d.client, &(struct origin_config){.base_url = "ftp://x", .proxy = ""}, &bad),
                     PD_SYNTAX);
    assert_int_equal(
        client_origin(d.client, &(struct origin_config){.base_url = "http://x", .proxy = "socks5://p:1"}, &bad),
        PD_UNSUPPORTED);
    assert_int_equal(client_origin(d.client,
                                   &(struct origin_config){.base_url = "https://x", .proxy = "", .ca_file = "/no"},
                                   &bad),
                     PD_TLS);
    for (int i = 0; i < 6; i++)
        origin_unref(o[i]);
    drive_done(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_come_in_order_and_the_connection_is_kept),
        cmocka_unit_test(the_request_is_what_was_asked_for),
        cmocka_unit_test(what_could_break_the_head_is_refused),
        cmocka_unit_test(every_answer_ends_as_its_framing_says),
        cmocka_unit_test(an_answer_may_be_split_anywhere),
        cmocka_unit_test(a_head_larger_than_its_limit_is_refused),
        cmocka_unit_test(a_head_that_takes_many_reads_is_put_together),
        cmocka_unit_test(refused_connections_name_the_address),
        cmocka_unit_test(a_host_that_is_silent_ends_at_connect_ms),
        cmocka_unit_test(a_peer_that_takes_nothing_ends_at_send_stall_ms),
        cmocka_unit_test(the_last_used_connection_is_taken_first),
        cmocka_unit_test(an_idle_connection_is_closed_after_idle_ms),
        cmocka_unit_test(no_more_than_idle_per_origin_are_kept),
        cmocka_unit_test(origins_are_told_apart_by_what_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
