/* Lives of an exchange: cancelled, paused, refused early or closed under, in every phase it can be in. */
#include "drive.h"
#include "net/client_priv.h"
#include "peer_tls.h"

#include "base/mem.h"

#define OK_BODY "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static struct authority ca;
static SSL_CTX *tls;

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(net_process_init(), PD_OK);
    authority_init(&ca, "test authority");
    tls = server_ctx(&ca, "IP:127.0.0.1", -60, 3600, 0);
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(tls);
    authority_done(&ca);
    return 0;
}

static struct origin *any_origin(struct drive *d, const char *url, const char *proxy)
{
    struct origin *o = NULL;
    struct origin_config cfg = {.base_url = url, .proxy = proxy, .ca_file = ca.path};
    assert_int_equal(client_origin(d->client, &cfg, &o), PD_OK);
    return o;
}

/* ---- cancelled in each phase ------------------------------------------------------------------- */

/* Does what makes the client stop in the phase wanted, then waits for it to leave. */
static void holds_at(struct peer *p, void *arg)
{
    enum exchange_phase phase = *(enum exchange_phase *)arg;
    struct link *k = peer_accept(p);
    if (phase >= EXCHANGE_WAITING)
        peer_check(p, link_request(k, NULL));
    if (phase == EXCHANGE_READING)
        peer_check(p, link_send(k, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"));
    if (phase == EXCHANGE_SENDING)
        peer_wait(p); /* nothing is read: its kernel fills up */
    peer_check(p, link_closed(k));
    peer_tell(p);
    link_close(k);
}

static void keeps_query(void *ctx, struct dns_name *n, const char *host)
{
    (void)host;
    *(struct dns_name **)ctx = n;
}

struct stage {
    struct drive d;
    struct peer p;
    struct got g;
    struct origin *o;
    struct dns_name *query;
    char *large;
    bool has_peer;
};

/* Brings an exchange into this phase. */
static void stage_open(struct stage *s, enum exchange_phase *phase)
{
    static const size_t large = 32 << 20;
    char url[64], proxy[64] = "";
    memset(s, 0, sizeof(*s));
    drive_init(&s->d);
    peer_init(&s->p); /* it may outlive the loop: it wakes nobody */
    dns_set_query(s->d.client->dns, keeps_query, &s->query);
    s->has_peer = *phase != EXCHANGE_RESOLVING && *phase != EXCHANGE_CONNECTING;
    if (s->has_peer)
        peer_run(&s->p, holds_at, phase);
    bool secure = *phase == EXCHANGE_TLS || *phase == EXCHANGE_PROXY;
    snprintf(url, sizeof(url), "%s://%s:%u", secure ? "https" : "http",
             *phase == EXCHANGE_RESOLVING ? "api.test" : "127.0.0.1", (unsigned)s->p.port);
    if (*phase == EXCHANGE_PROXY)
        snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", (unsigned)s->p.port);
    s->o = any_origin(&s->d, url, proxy);
    if (*phase == EXCHANGE_SENDING) {
        s->large = calloc(1, large);
        struct span body = span_of(s->large, large);
        drive_post(&s->d, s->o, &s->g, &body, 1);
    } else {
        drive_get(&s->d, s->o, &s->g);
    }
    if (*phase == EXCHANGE_CONNECTING) {
        s->g.x->kick.fn(s->g.x); /* the socket is made, and the loop did not look at it yet */
        assert_int_equal(exchange_info(s->g.x)->phase, EXCHANGE_CONNECTING);
        return;
    }
    DRIVE_UNTIL(&s->d, exchange_info(s->g.x)->phase == *phase &&
                           (*phase != EXCHANGE_SENDING || s->g.x->send_blocked) &&
                           (*phase != EXCHANGE_READING || s->g.bodies));
}

static void stage_close(struct stage *s)
{
    if (s->has_peer) {
        peer_go(&s->p);
        peer_join(&s->p);
    } else {
        close(s->p.fd);
    }
    free(s->large);
    got_done(&s->g);
}

static void a_cancel_in_any_phase_closes_the_connection_and_calls_nothing(void **state)
{
    (void)state;
    for (enum exchange_phase phase = EXCHANGE_RESOLVING; phase <= EXCHANGE_READING; phase++) {
        struct stage s;
        stage_open(&s, &phase);
        exchange_cancel(s.g.x);
        DRIVE_UNTIL(&s.d, client_stats(s.d.client)->connections_open == 0);
        if (phase == EXCHANGE_SENDING)
            peer_go(&s.p);
        if (s.has_peer)
            DRIVE_UNTIL(&s.d, s.p.told); /* the provider sees it, and stops working */
        assert_int_equal(s.g.ends, 0);
        assert_int_equal(client_stats(s.d.client)->cancelled_total, 1);
        if (s.query) {
            union dns_address a;
            dns_literal("127.0.0.1", &a);
            dns_answer(s.query, 0, &a, 1); /* the lookup went on: it finds nobody */
        }
        origin_unref(s.o);
        drive_done(&s.d);
        stage_close(&s);
    }
}

static void closing_in_any_phase_ends_cleanly(void **state)
{
    (void)state;
    for (enum exchange_phase phase = EXCHANGE_RESOLVING; phase <= EXCHANGE_READING; phase++) {
        struct stage s;
        stage_open(&s, &phase);
        exchange_cancel(s.g.x);
        origin_unref(
            s.o); /* and the close at once after it: connections, lookups, graveyard are all still there */
        client_close(s.d.client, drive_closed, &s.d);
        if (s.query) {
            drive_settle(&s.d);
            assert_false(s.d.closed);
            dns_answer(s.query, UV_EAI_AGAIN, NULL, 0);
        }
        DRIVE_UNTIL(&s.d, s.d.closed);
        client_free(s.d.client);
        timer_stop(s.d.loop, &s.d.guard);
        waker_free(s.d.waker);
        loop_free(s.d.loop);
        stage_close(&s);
    }
}

/* With the system's resolver, whose thread cannot be stopped. */
static void closing_waits_for_a_running_lookup(void **state)
{
    (void)state;
    struct drive d;
    struct got g = {0};
    drive_init(&d);
    struct origin *o = any_origin(&d, "http://localhost:9", "");
    drive_get(&d, o, &g);
    g.x->kick.fn(g.x);
    assert_int_equal(exchange_info(g.x)->phase, EXCHANGE_RESOLVING);
    exchange_cancel(g.x);
    origin_unref(o);
    drive_done(&d);
}

/* ---- cancelled inside each callback ---------------------------------------------------------------- */

static void answers_and_waits(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    if (k->ssl || !p->tls) {
        if (link_request(k, NULL))
            link_send(k, OK_BODY);
        peer_check(p, link_closed(k));
    }
    link_close(k);
}

static void a_cancel_inside_a_callback_is_the_last_one(void **state)
{
    (void)state;
    static const char *const orders[] = {"s", "sh", "shb", "shbt"};
    for (int i = 0; i < 8; i++) {
        struct drive d;
        struct peer p;
        int at = i % 4;
        struct got g = {.cancel_on_sent = at == 0,
                        .cancel_on_head = at == 1,
                        .cancel_on_body = at == 2,
                        .cancel_on_batch = at == 3};
        drive_init(&d);
        if (i < 4)
            peer_init(&p);
        else
            peer_init_tls(&p, tls);
        peer_run(&p, answers_and_waits, NULL);
        struct origin *o = any_origin(&d, p.url, "");
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d,
                    client_stats(d.client)->cancelled_total == 1 && client_stats(d.client)->connections_open == 0);
        drive_settle(&d);
        assert_string_equal(g.order, orders[at]);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void ends_and_starts_again(void *ctx, pd_err err, const char *why)
{
    struct got *g = ctx;
    struct origin *o = g->x->o;
    struct client *c = g->x->c;
    got_end(g, err, why);
    struct exchange_request rq = {.method = "GET", .path = SPAN_LIT("/again")};
    if (g->ends == 1)
        assert_int_equal(exchange_start(c, o, &rq, &got_handler, g, &g->x), PD_OK);
}

static void answers_twice(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    for (int i = 0; i < 2; i++) {
        peer_check(p, link_request(k, NULL));
        peer_check(p, link_send(k, OK_BODY));
    }
    peer_check(p, link_closed(k));
    link_close(k);
}

static void on_end_may_start_the_next_and_drop_the_origin(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    struct exchange_handler h = got_handler;
    struct exchange_request rq = {.method = "GET", .path = SPAN_LIT("/")};
    h.on_end = ends_and_starts_again;
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_twice, NULL);
    struct origin *o = any_origin(&d, p.url, "");
    assert_int_equal(exchange_start(d.client, o, &rq, &h, &g, &g.x), PD_OK);
    origin_unref(o); /* the exchanges hold it */
    DRIVE_UNTIL(&d, g.ends == 2);
    assert_true(g.info.reused);
    got_done(&g);
    drive_done(&d);
    peer_join(&p);
}

/* ---- answered before the whole request was sent ------------------------------------------------------ */

struct early {
    const char *bytes;
    bool reset;
    size_t received;
};
static void refuses_early(struct peer *p, void *arg)
{
    struct early *e = arg;
    struct link *k = peer_accept(p);
    char c[1000];
    peer_check(p, link_read(k, c, 1000) > 0);
    peer_check(p, link_send(k, e->bytes));
    if (e->reset) {
        link_reset(k);
        return;
    }
    for (ssize_t n; (n = link_read(k, c, sizeof(c))) > 0;)
        e->received += (size_t)n;
    link_close(k);
}

static void an_early_refusal_is_delivered_and_the_rest_not_sent(void **state)
{
    (void)state;
    static struct early rows[] = {
        {"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig", false, 0},
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nbig", true, 0},
        {"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig", true, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbig", false,
         0}, /* whole before the request was: not to be kept */
    };
    static const size_t large = 48 << 20;
    char *bytes = calloc(1, large);
    for (int i = 0; i < 8; i++) {
        struct drive d;
        struct peer p;
        struct got g = {0};
        struct early *e = &rows[i % 4];
        struct span body = span_of(bytes, large);
        drive_init(&d);
        if (i < 4)
            peer_init(&p);
        else
            peer_init_tls(&p, tls);
        peer_run(&p, refuses_early, e);
        struct origin *o = any_origin(&d, p.url, "");
        drive_post(&d, o, &g, &body, 1);
        DRIVE_UNTIL(&d, g.ends);
        if (g.err)
            fail_msg("row %d: %s: %s", i, pd_err_name(g.err), g.why);
        assert_string_equal(g.body, "big");
        assert_int_equal(g.sent, 0);
        assert_int_equal(origin_idle(o), 0);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
        assert_true(e->received < large / 2);
    }
    free(bytes);
}

static void refuses_slowly(struct peer *p, void *arg)
{
    struct link *k = peer_accept(p);
    char c[1000];
    (void)arg;
    peer_check(p, link_read(k, c, 1000) > 0);
    peer_check(p, link_send(k, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nb"));
    peer_wait(p);
    peer_check(p, link_send(k, "ig"));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void nothing_more_is_sent_once_the_refusal_began(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    size_t large = 32 << 20;
    char *bytes = calloc(1, large);
    struct span body = span_of(bytes, large);
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, refuses_slowly, NULL);
    struct origin *o = any_origin(&d, p.url, "");
    drive_post(&d, o, &g, &body, 1);
    DRIVE_UNTIL(&d, g.body_bytes == 1);
    drive_settle(&d);
    assert_true(g.x->no_more);
    assert_false(g.x->conn->watch.wanted & WATCH_WRITE);
    assert_false(g.x->deadline.armed);
    peer_go(&p);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_string_equal(g.body, "big");
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
    free(bytes);
}

/* A 2xx may stream while it still reads. */
static void answers_while_reading(struct peer *p, void *arg)
{
    size_t want = *(size_t *)arg, got = 0;
    struct link *k = peer_accept(p);
    static char c[65536];
    peer_check(p, link_read(k, c, 1) == 1);
    peer_check(p, link_send(k, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"));
    peer_tell(p);
    peer_wait(p);
    while (got < want) {
        ssize_t n = link_read(k, c, sizeof(c));
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    peer_check(p, got >= want);
    peer_check(p, link_send(k, "llo"));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void a_success_that_begins_early_gets_the_whole_request(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    size_t large = 16 << 20;
    char *bytes = calloc(1, large);
    struct span body = span_of(bytes, large);
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_while_reading, &large);
    struct origin *o = any_origin(&d, p.url, "");
    drive_post(&d, o, &g, &body, 1);
    DRIVE_UNTIL(&d, g.body_bytes == 2);
    assert_int_equal(g.sent, 0);
    peer_go(&p);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_int_equal(g.sent, 1);
    assert_string_equal(g.body, "hello");
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
    free(bytes);
}

/* ---- pausing ------------------------------------------------------------------------------------------- */

enum { FLOOD = 24 << 20 };
static void floods(struct peer *p, void *arg)
{
    _Atomic size_t *sent = arg;
    static char zeros[65536];
    struct link *k = peer_accept(p);
    int small = 65536;
    setsockopt(k->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    peer_check(p, link_request(k, NULL));
    char head[100];
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", FLOOD);
    peer_check(p, link_send(k, head));
    while (*sent < FLOOD) {
        struct pollfd f = {.fd = k->fd, .events = POLLOUT};
        if (poll(&f, 1, 0) == 0)
            peer_tell(p); /* backpressure has come here */
        peer_check(p, link_send_bytes(k, zeros, sizeof(zeros)));
        *sent += sizeof(zeros);
    }
    peer_check(p, link_closed(k));
    link_close(k);
}

static void a_pause_reaches_the_provider_and_holds_little(void **state)
{
    (void)state;
    for (int secure = 0; secure < 2; secure++) {
        struct drive d;
        struct peer p;
        struct got g = {.pause_on_body = true};
        _Atomic size_t sent = 0;
        drive_init(&d);
        if (secure)
            peer_init_tls(&p, tls);
        else
            peer_init(&p);
        drive_peer(&d, &p);
        peer_run(&p, floods, &sent);
        struct origin *o = any_origin(&d, p.url, "");
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.bodies == 1 && p.told);
        drive_settle(&d);
        assert_int_equal(g.bodies, 1);
        assert_true(sent < FLOOD);
        assert_true(buf_size(&g.x->conn->held) <= CLIENT_SCRATCH);
        g.pause_on_body = false;
        exchange_resume(g.x);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_OK);
        assert_int_equal(g.body_bytes, FLOOD);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void a_cancel_while_paused_is_seen_by_the_provider(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {.pause_on_body = true};
    enum exchange_phase phase = EXCHANGE_READING;
    drive_init(&d);
    peer_init(&p);
    drive_peer(&d, &p);
    peer_run(&p, holds_at, &phase);
    struct origin *o = any_origin(&d, p.url, "");
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.bodies == 1);
    exchange_cancel(g.x);
    DRIVE_UNTIL(&d, p.told);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void pausing_before_the_beginning_holds_the_answer(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_and_waits, NULL);
    struct origin *o = any_origin(&d, p.url, "");
    drive_get(&d, o, &g);
    exchange_pause(g.x);
    exchange_pause(g.x);
    DRIVE_UNTIL(&d, g.sent);
    drive_settle(&d);
    assert_int_equal(g.heads, 0);
    exchange_resume(g.x);
    exchange_resume(g.x);
    DRIVE_UNTIL(&d, g.ends);
    assert_string_equal(g.body, "hello");
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cancel_in_any_phase_closes_the_connection_and_calls_nothing),
        cmocka_unit_test(closing_in_any_phase_ends_cleanly),
        cmocka_unit_test(closing_waits_for_a_running_lookup),
        cmocka_unit_test(a_cancel_inside_a_callback_is_the_last_one),
        cmocka_unit_test(on_end_may_start_the_next_and_drop_the_origin),
        cmocka_unit_test(an_early_refusal_is_delivered_and_the_rest_not_sent),
        cmocka_unit_test(nothing_more_is_sent_once_the_refusal_began),
        cmocka_unit_test(a_success_that_begins_early_gets_the_whole_request),
        cmocka_unit_test(a_pause_reaches_the_provider_and_holds_little),
        cmocka_unit_test(a_cancel_while_paused_is_seen_by_the_provider),
        cmocka_unit_test(pausing_before_the_beginning_holds_the_answer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
