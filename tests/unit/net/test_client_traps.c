/* The traps that were met when HTTP stacks were compared (docs/internals), those of the upstream side: a test each. */
#include "drive.h"
#include "net/client_priv.h"
#include "peer_tls.h"

#include "base/mem.h"

#include <fcntl.h>
#include <sys/resource.h>

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

static struct origin *any_origin(struct drive *d, const char *url)
{
    struct origin *o = NULL;
    struct origin_config cfg = {.base_url = url, .proxy = "", .ca_file = ca.path};
    assert_int_equal(client_origin(d->client, &cfg, &o), PD_OK);
    return o;
}

static void init_peer(struct peer *p, bool secure)
{
    if (secure)
        peer_init_tls(p, tls);
    else
        peer_init(p);
}

/* Nothing wakes the loop: what is level-triggered and left alone would. */
static void assert_quiet(struct drive *d)
{
    drive_settle(d);
    struct pollfd f = {.fd = uv_backend_fd(loop_uv(d->loop)), .events = POLLIN};
    assert_int_equal(poll(&f, 1, 0), 0);
}

/* ---- 1: a peer that leaves is noticed in every state, and its level-triggered mark does not spin ---------- */

enum { LEFT = 40 * 1000 }; /* less than the kernel takes, so that the end arrives too */
static void answers_and_leaves(struct peer *p, void *arg)
{
    bool reset = arg != NULL;
    static char zeros[LEFT];
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, "HTTP/1.1 200 OK\r\nContent-Length: 40001\r\n\r\nx"));
    peer_wait(p); /* the client pauses now */
    peer_check(p, link_send_bytes(k, zeros, LEFT));
    peer_tell(p);
    if (reset)
        link_reset(k);
    else
        link_close(k);
    peer_tell(p);
}

static void trap_1_a_peer_that_left_while_we_paused_neither_spins_nor_loses_bytes(void **state)
{
    (void)state;
    for (int secure = 0; secure < 2; secure++) {
        struct drive d;
        struct peer p;
        struct got g = {.pause_on_body = true};
        drive_init(&d);
        init_peer(&p, secure);
        drive_peer(&d, &p);
        peer_run(&p, answers_and_leaves, NULL);
        struct origin *o = any_origin(&d, p.url);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.bodies == 1);
        peer_go(&p);
        DRIVE_UNTIL(&d, p.told == 2);
        DRIVE_UNTIL(&d, g.x->conn->gone || g.x->conn->unwatched);
        assert_quiet(&d);
        assert_int_equal(g.bodies, 1);
        g.pause_on_body = false;
        exchange_resume(g.x);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_OK);
        assert_int_equal(g.body_bytes, LEFT + 1);
        assert_int_equal(origin_idle(o), 0);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void closes_after_answer(struct peer *p, void *arg)
{
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, OK_BODY));
    peer_wait(p);
    if (!arg) {
        link_close(k);
    } else if (strcmp(arg, "reset") == 0) {
        link_reset(k);
    } else {
        peer_check(p, link_send(k, arg));
        peer_check(p, link_closed(k));
        link_close(k);
    }
}

static void trap_1_an_idle_connection_that_ends_or_speaks_is_dropped_at_once(void **state)
{
    (void)state;
    static const char *const ways[] = {NULL, "reset", "HTTP/1.1 408 Request Timeout\r\n\r\n", "x"};
    for (int i = 0; i < 8; i++) {
        struct drive d;
        struct peer p;
        struct got g = {0};
        drive_init(&d);
        init_peer(&p, i >= 4);
        peer_run(&p, closes_after_answer, (void *)(uintptr_t)ways[i % 4]);
        struct origin *o = any_origin(&d, p.url);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(origin_idle(o), 1);
        peer_go(&p);
        DRIVE_UNTIL(&d, origin_idle(o) == 0);
        assert_int_equal(client_stats(d.client)->connections_open, 0);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void leaves_unanswered(struct peer *p, void *arg)
{
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_wait(p);
    if (arg)
        link_reset(k);
    else
        link_close(k);
}

static void trap_1_a_peer_that_leaves_without_an_answer_is_noticed(void **state)
{
    (void)state;
    for (int reset = 0; reset < 2; reset++) {
        struct drive d;
        struct peer p;
        struct got g = {0};
        drive_init(&d);
        peer_init(&p);
        peer_run(&p, leaves_unanswered, reset ? &p : NULL);
        struct origin *o = any_origin(&d, p.url);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.sent);
        peer_go(&p);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, reset ? PD_RESET : PD_CLOSED);
        assert_int_equal(g.info.phase, EXCHANGE_WAITING);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

/* ---- 3: one read is one batch, one request is one write --------------------------------------------------- */

static void answers_many_frames(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    int on = 1, off = 0;
    peer_check(p, link_request(k, NULL));
    setsockopt(k->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    link_send(k, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 50; i++)
        link_send(k, "7\r\ndata: x\r\n");
    link_send(k, "0\r\n\r\n");
    setsockopt(k->fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void trap_3_all_frames_of_one_read_are_one_batch(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_many_frames, NULL);
    struct origin *o = any_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.bodies, 50);
    assert_int_equal(g.batches, 1);
    assert_string_equal(g.order, "shbte");
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- 4: a large body is neither copied nor does it cost an allocation -------------------------------------- */

static void answers_two(struct peer *p, void *arg)
{
    size_t *bytes = arg;
    struct link *k = peer_accept(p);
    for (int i = 0; i < 2; i++) {
        peer_check(p, link_request(k, bytes));
        peer_check(p, link_send(k, OK_BODY));
    }
    peer_check(p, link_closed(k));
    link_close(k);
}

static void trap_4_a_large_body_costs_no_memory(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    size_t n = 2 << 20, received = 0;
    char *large = calloc(1, n);
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_two, &received);
    struct origin *o = any_origin(&d, p.url);
    struct span body[] = {{large, 7}, {large, n - 7}};
    drive_post(&d, o, &g, body, 2);
    DRIVE_UNTIL(&d, g.ends);
    got_done(&g);
    uint64_t made = mem_count();
    drive_post(&d, o, &g, body, 2);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_true(g.info.reused);
    assert_int_equal(received, n);
    assert_int_equal(mem_count() - made, 2); /* the exchange and its head */
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
    free(large);
}

/* ---- 5: no Nagle upstream ------------------------------------------------------------------------------------ */

static void trap_5_small_writes_are_not_delayed(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    size_t ignored;
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_two, &ignored);
    struct origin *o = any_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    int fd = LIST_OF(o->idle.next, struct conn, node)->watch.fd, on = 0;
    socklen_t n = sizeof(on);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &n), 0);
    assert_true(on);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &n), 0);
    assert_true(on);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    got_done(&g);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- 6: bytes inside OpenSSL, which no event tells of ---------------------------------------------------------- */

static void sends_records_then_waits(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nx"));
    peer_wait(p);
    for (int i = 0; i < 40; i++) { /* 40 records that one recv brings */
        char bytes[100] = {0};
        peer_check(p, link_send_bytes(k, bytes, sizeof(bytes)));
    }
    peer_tell(p);
    peer_wait(p); /* and no other event */
    char rest[999] = {0};
    peer_check(p, link_send_bytes(k, rest, sizeof(rest)));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void trap_6_what_openssl_holds_is_read_without_an_event(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {.pause_on_body = true};
    drive_init(&d);
    init_peer(&p, true);
    drive_peer(&d, &p);
    peer_run(&p, sends_records_then_waits, NULL);
    struct origin *o = any_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.bodies == 1);
    peer_go(&p);
    DRIVE_UNTIL(&d, p.told);
    exchange_resume(g.x); /* paused again at the next piece, with records left inside */
    DRIVE_UNTIL(&d, g.bodies == 2);
    assert_quiet(&d);
    g.pause_on_body = false;
    exchange_resume(g.x);
    unsigned batches = g.batches;
    DRIVE_UNTIL(&d, g.body_bytes == 4001);
    assert_true(g.batches <= batches + 2); /* what was held, and all records together */
    peer_go(&p);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

enum { MORE_THAN_A_READ = CLIENT_SCRATCH }; /* and its head: the last record is cut, and nothing comes after it */
static void sends_more_than_a_read(struct peer *p, void *arg)
{
    (void)arg;
    static char zeros[MORE_THAN_A_READ];
    char head[100];
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", MORE_THAN_A_READ);
    peer_wait(p);
    peer_check(p, link_send(k, head));
    peer_check(p, link_send_bytes(k, zeros, sizeof(zeros)));
    peer_tell(p);
    peer_check(p, link_closed(k));
    link_close(k);
}

/* The last record is cut by the end of our buffer: its rest is in OpenSSL, and no event tells of it. */
static void trap_6_a_record_that_did_not_fit_is_read_on(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    drive_init(&d);
    init_peer(&p, true);
    peer_run(&p, sends_more_than_a_read, NULL);
    struct origin *o = any_origin(&d, p.url);
    drive_get(&d, o, &g);
    exchange_pause(g.x);
    DRIVE_UNTIL(&d, g.sent);
    int room = 1 << 20; /* the kernel takes it all before we read */
    assert_int_equal(setsockopt(g.x->conn->watch.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
    peer_go(&p);
    peer_hear(&p);
    exchange_resume(g.x);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_int_equal(g.body_bytes, MORE_THAN_A_READ);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- 7: nothing is freed inside the batch of events it belongs to ------------------------------------------------ */

static void answers_both_at_once(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k[2] = {peer_accept(p), peer_accept(p)};
    for (int i = 0; i < 2; i++)
        peer_check(p, link_request(k[i], NULL));
    peer_wait(p);
    for (int i = 0; i < 2; i++)
        peer_check(p, link_send(k[i], "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"));
    peer_tell(p);
    for (int i = 0; i < 2; i++) {
        peer_check(p, link_closed(k[i]));
        link_close(k[i]);
    }
}

struct pair {
    struct got g;
    struct pair *other;
};
static void cancels_both(void *ctx, struct span bytes)
{
    struct pair *x = ctx;
    got_body(&x->g, bytes);
    if (x->other->g.x)
        got_cancel(&x->other->g);
    if (x->g.x)
        got_cancel(&x->g);
    if (x->g.body_bytes)
        assert_memory_equal(bytes.p, "hello", 5); /* the bytes live until we return, cancelled or not */
}

static void trap_7_a_connection_ended_inside_its_batch_is_freed_after_it(void **state)
{
    (void)state;
    for (int secure = 0; secure < 2; secure++) {
        struct drive d;
        struct peer p;
        struct pair a = {.other = NULL}, b = {.other = &a};
        struct exchange_handler h = got_handler;
        struct exchange_request rq = {.method = "GET", .path = SPAN_LIT("/")};
        a.other = &b;
        h.on_body = cancels_both;
        drive_init(&d);
        init_peer(&p, secure);
        peer_run(&p, answers_both_at_once, NULL);
        struct origin *o = any_origin(&d, p.url);
        assert_int_equal(exchange_start(d.client, o, &rq, &h, &a, &a.g.x), PD_OK);
        DRIVE_UNTIL(&d, a.g.sent);
        assert_int_equal(exchange_start(d.client, o, &rq, &h, &b, &b.g.x), PD_OK);
        DRIVE_UNTIL(&d, b.g.sent);
        peer_go(&p);
        peer_hear(&p); /* both have bytes: one wakeup brings both events */
        DRIVE_UNTIL(&d, a.g.bodies || b.g.bodies);
        drive_settle(&d);
        assert_int_equal(a.g.bodies + b.g.bodies, 1);
        assert_int_equal(a.g.ends + b.g.ends, 0);
        assert_int_equal(client_stats(d.client)->cancelled_total, 2);
        assert_int_equal(client_stats(d.client)->connections_open, 0);
        got_done(&a.g);
        got_done(&b.g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

/* ---- 8: a kept-alive connection that died is replaced, once, unseen ------------------------------------------------ */

struct stale {
    bool reset, half_answer, second_dies;
};
static void dies_between_requests(struct peer *p, void *arg)
{
    struct stale *s = arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, OK_BODY));
    peer_wait(p);
    if (s->half_answer) {
        peer_tell(p);
        peer_check(p, link_request(k, NULL));
        peer_check(p, link_send(k, "HTTP/1.1 200 OK\r\n"));
    }
    if (s->reset)
        link_reset(k);
    else
        link_close(k);
    peer_tell(p);
    if (s->half_answer)
        return;
    k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    if (s->second_dies) {
        link_close(k);
        return;
    }
    peer_check(p, link_send(k, OK_BODY));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void stale_one(struct stale *s, bool secure, pd_err want, unsigned retries)
{
    struct drive d;
    struct peer p;
    struct got g = {0};
    static char large[300000];
    struct span body = span_of(large, sizeof(large));
    drive_init(&d);
    init_peer(&p, secure);
    peer_run(&p, dies_between_requests, s);
    struct origin *o = any_origin(&d, p.url);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    got_done(&g);
    peer_go(&p);
    peer_hear(&p); /* it is dead, and our loop has not run since: the request meets it unaware */
    drive_post(&d, o, &g, &body, 1);
    DRIVE_UNTIL(&d, g.ends);
    if (g.err != want)
        fail_msg("%s: %s", pd_err_name(g.err), g.why);
    assert_int_equal(g.ends, 1);
    assert_true(g.sent <= 1);
    assert_int_equal(client_stats(d.client)->stale_retries_total, retries);
    if (!want)
        assert_false(g.info.reused);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void trap_8_a_dead_kept_alive_connection_is_replaced_once(void **state)
{
    (void)state;
    for (int secure = 0; secure < 2; secure++) {
        stale_one(&(struct stale){false, false, false}, secure, PD_OK, 1);
        stale_one(&(struct stale){true, false, false}, secure, PD_OK, 1);
        stale_one(&(struct stale){false, false, true}, secure, PD_CLOSED, 1);
        stale_one(&(struct stale){false, true, false}, secure, PD_CUT, 0);
        stale_one(&(struct stale){true, true, false}, secure, PD_RESET, 0);
    }
}

/* ---- 10: deadlines are absolute, and waiting connections share one timer --------------------------------------------- */

static void drips(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    const char *head = "HTTP/1.1 200 OK\r\nX: ";
    for (int i = 0; i < 100000; i++) {
        struct pollfd f = {.fd = k->fd, .events = POLLIN | POLLRDHUP};
        if (!link_send_bytes(k, i < 20 ? head + i : "y", 1) || poll(&f, 1, 2) == 1)
            break; /* the client left */
    }
    link_close(k);
}

static void trap_10_dripping_bytes_do_not_move_the_deadline(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    char proxy[64];
    drive_init(&d);
    d.rules.connect_ms = 60;
    client_set_rules(d.client, &d.rules);
    peer_init(&p);
    peer_run(&p, drips, NULL);
    snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", (unsigned)p.port);
    struct origin_config cfg = {.base_url = "https://api.test", .proxy = proxy, .ca_file = ca.path};
    struct origin *o;
    assert_int_equal(client_origin(d.client, &cfg, &o), PD_OK);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_TIMEOUT);
    assert_int_equal(g.info.phase, EXCHANGE_PROXY);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void answers_two_links(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k[2];
    for (int i = 0; i < 2; i++) {
        k[i] = peer_accept(p);
        peer_check(p, link_request(k[i], NULL));
    }
    for (int i = 0; i < 2; i++) {
        peer_check(p, link_send(k[i], OK_BODY));
        peer_wait(p);
    }
    for (int i = 0; i < 2; i++) {
        peer_check(p, link_closed(k[i]));
        link_close(k[i]);
        peer_tell(p);
    }
}

static void trap_10_idle_connections_end_oldest_first_by_one_timer(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got a = {0}, b = {0};
    drive_init(&d);
    d.rules.idle_ms = 30;
    client_set_rules(d.client, &d.rules);
    peer_init(&p);
    peer_run(&p, answers_two_links, NULL);
    struct origin *o = any_origin(&d, p.url);
    drive_get(&d, o, &a);
    DRIVE_UNTIL(&d, a.sent);
    drive_get(&d, o, &b);
    DRIVE_UNTIL(&d, b.sent && a.ends);
    uint64_t due = o->idle_timer.due_ms;
    peer_go(&p);
    DRIVE_UNTIL(&d, b.ends);
    if (o->idle_count == 2) /* a slow machine may have ended the first already */
        assert_int_equal(o->idle_timer.due_ms, due);
    peer_go(&p);
    DRIVE_UNTIL(&d, origin_idle(o) == 0);
    assert_false(o->idle_timer.armed);
    got_done(&a);
    got_done(&b);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- 11: out of descriptors ----------------------------------------------------------------------------------------- */

static void trap_11_without_descriptors_one_exchange_fails_and_the_next_works(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    struct rlimit was, none;
    size_t ignored;
    drive_init(&d);
    peer_init(&p);
    struct origin *o = any_origin(&d, p.url);
    drive_settle(&d);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = was;
    int probe = dup(0);
    close(probe);
    none.rlim_cur = (rlim_t)probe;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(g.err, PD_NOFD);
    assert_non_null(strstr(g.why, "file descriptors"));
    got_done(&g);
    peer_run(&p, answers_two, &ignored);
    for (int i = 0; i < 2; i++) {
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_OK);
        got_done(&g);
    }
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- what a connection costs ------------------------------------------------------------------------------------------- */

static void a_plain_connection_with_its_request_takes_little(void **state)
{
    (void)state;
    assert_true(sizeof(struct conn) + sizeof(struct exchange) + 2 * sizeof(struct span) + 500 < 1536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trap_1_a_peer_that_left_while_we_paused_neither_spins_nor_loses_bytes),
        cmocka_unit_test(trap_1_an_idle_connection_that_ends_or_speaks_is_dropped_at_once),
        cmocka_unit_test(trap_1_a_peer_that_leaves_without_an_answer_is_noticed),
        cmocka_unit_test(trap_3_all_frames_of_one_read_are_one_batch),
        cmocka_unit_test(trap_4_a_large_body_costs_no_memory),
        cmocka_unit_test(trap_5_small_writes_are_not_delayed),
        cmocka_unit_test(trap_6_what_openssl_holds_is_read_without_an_event),
        cmocka_unit_test(trap_6_a_record_that_did_not_fit_is_read_on),
        cmocka_unit_test(trap_7_a_connection_ended_inside_its_batch_is_freed_after_it),
        cmocka_unit_test(trap_8_a_dead_kept_alive_connection_is_replaced_once),
        cmocka_unit_test(trap_10_dripping_bytes_do_not_move_the_deadline),
        cmocka_unit_test(trap_10_idle_connections_end_oldest_first_by_one_timer),
        cmocka_unit_test(trap_11_without_descriptors_one_exchange_fails_and_the_next_works),
        cmocka_unit_test(a_plain_connection_with_its_request_takes_little),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
