/* A provider whose machine vanished is noticed, however silent the wait. */
#include "drive.h"
#include "net/client_priv.h"

#include <linux/filter.h>

/* ---- the socket's options ------------------------------------------------------------------------ */

static void answers(struct peer *p, void *arg)
{
    struct link *k = peer_accept(p);
    (void)arg;
    peer_check(p, link_request(k, NULL));
    peer_tell(p);
    peer_wait(p);
    peer_check(p, link_send(k, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
    peer_check(p, link_closed(k));
    link_close(k);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof(value);
    assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
    return value;
}

static const struct row {
    uint64_t peer_ms;
    int keepalive, after, every, probes, unacknowledged;
} rows[] = {
    {30000, 1, 15, 5, 3, 30000},
    {3000, 1, 1, 1, 3, 3000},
    {100, 1, 1, 1, 3, 100},
    {600000, 1, 60, 180, 3, 600000},
    {UINT64_MAX, 1, 60, 28780, 3, 86400000},
    {0, 0, 0, 0, 0, 0},
};

static void connections_are_watched_by_the_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct drive d;
        struct peer p;
        struct got g = {0};
        drive_init(&d);
        d.rules.peer_ms = r->peer_ms;
        client_set_rules(d.client, &d.rules);
        peer_init(&p);
        drive_peer(&d, &p);
        peer_run(&p, answers, NULL);
        struct origin *o = drive_origin(&d, p.url);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, p.told == 1);
        int fd = g.x->conn->watch.fd;
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), r->keepalive);
        assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), r->unacknowledged);
        if (r->keepalive) {
            assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), r->after);
            assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), r->every);
            assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), r->probes);
        }
        peer_go(&p);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_OK);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void rules_wait_half_a_minute_by_default(void **state)
{
    (void)state;
    struct client_rules r;
    client_rules_default(&r);
    assert_int_equal(r.peer_ms, 30000);
}

/* ---- a machine that is gone ---------------------------------------------------------------------- */

/* From now on the kernel drops what comes to this socket before looking at it: nothing is acknowledged, and nothing is said. */
static bool vanish(int fd)
{
    struct sock_filter drop_all = {BPF_RET | BPF_K, 0, 0, 0};
    struct sock_fprog program = {1, &drop_all};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
}

static void vanishes(struct peer *p, void *arg)
{
    struct link *k = peer_accept(p);
    if (*(bool *)arg)
        peer_check(p, link_request(k, NULL)); /* and then thinks */
    peer_check(p, vanish(k->fd));
    peer_tell(p);
    peer_wait(p);
    link_reset(k);
}

static void is_noticed(bool after_the_request)
{
    static char body[1 << 20];
    struct span part = {body, sizeof(body)};
    struct drive d;
    struct peer p;
    struct got g = {0};
    drive_init(&d);
    d.rules.peer_ms = 1000;
    client_set_rules(d.client, &d.rules);
    peer_init(&p);
    drive_peer(&d, &p);
    peer_run(&p, vanishes, &after_the_request);
    struct origin *o = drive_origin(&d, p.url);
    if (after_the_request)
        drive_get(&d, o, &g);
    else
        drive_post(&d, o, &g, &part, 1);
    DRIVE_UNTIL(&d, g.ends); /* the test's own clocks are longer: a wait in vain fails */
    assert_int_equal(g.err, PD_TIMEOUT);
    assert_non_null(strstr(g.why, "peer_timeout"));
    peer_go(&p);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void a_machine_that_vanishes_during_a_silent_wait_is_noticed(void **state)
{
    (void)state;
    is_noticed(true);
}

static void a_machine_that_vanishes_during_the_request_is_noticed(void **state)
{
    (void)state;
    is_noticed(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_watched_by_the_rules),
        cmocka_unit_test(rules_wait_half_a_minute_by_default),
        cmocka_unit_test(a_machine_that_vanishes_during_a_silent_wait_is_noticed),
        cmocka_unit_test(a_machine_that_vanishes_during_the_request_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
