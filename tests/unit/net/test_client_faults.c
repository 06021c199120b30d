/* A whole exchange with its 1st, 2nd, 3rd ... allocation failing: nothing leaks, and on_end comes exactly once.
 *
 * The other side is a process of its own, so that only our allocations are counted and failed. */
#include "drive.h"
#include "peer_tls.h"

#include "base/mem.h"
#include "torture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define HEAD_PART "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Long: "

struct server {
    pid_t pid;
    struct peer p;
};

static _Noreturn void serve(struct peer *p)
{
    static char pad[3000];
    memset(pad, 'x', sizeof(pad) - 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct link *k = peer_accept(p);
        while ((k->ssl || !p->tls) && link_request(k, NULL)) {
            link_send(k, HEAD_PART); /* a head in two reads */
            link_send(k, pad);
            link_send(k, "\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        }
        link_close(k);
    }
}

static void server_start(struct server *s, SSL_CTX *tls)
{
    if (tls)
        peer_init_tls(&s->p, tls);
    else
        peer_init(&s->p);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0)
        serve(&s->p);
}

static void server_stop(struct server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    close(s->p.fd);
}

struct life {
    const char *url, *ca_file;
};

/* What ends in the part of a turn before the wait must be seen before waiting. */
static void turn(struct loop *l)
{
    struct pollfd f = {.fd = uv_backend_fd(loop_uv(l)), .events = POLLIN};
    uv_run(loop_uv(l), UV_RUN_NOWAIT);
    poll(&f, 1, 1);
}

static pd_err one_exchange(struct loop *l, struct client *c, struct origin *o, struct timer *guard, bool *late)
{
    static char bytes[100000];
    struct got g = {0};
    struct span body[] = {{bytes, 10}, {bytes + 10, sizeof(bytes) - 10}};
    struct exchange_request rq = {.method = "POST", .path = SPAN_LIT("/x"), .body = body, .body_count = 2};
    pd_err e = exchange_start(c, o, &rq, &got_handler, &g, &g.x);
    if (e)
        return e;
    timer_arm(l, guard, loop_now_ms(l) + PEER_PATIENCE_MS);
    while (!g.ends && !*late)
        turn(l);
    assert_false(*late);
    assert_int_equal(g.ends, 1);
    if (!g.err)
        assert_string_equal(g.body, "hello");
    else
        assert_true(g.why[0] != '\0');
    free(g.body);
    return g.err;
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static pd_err whole_life(void *ctx)
{
    struct life *life = ctx;
    struct client_rules rules;
    struct origin *o = NULL;
    struct origin_config cfg = {.base_url = life->url, .proxy = "", .ca_file = life->ca_file};
    struct timer guard;
    bool late = false, closed = false;
    struct loop *l = loop_new();
    if (!l)
        return PD_NOMEM;
    client_rules_default(&rules);
    timer_init(&guard, set_true, &late);
    struct client *c = client_new(l, &rules);
    pd_err e = c ? client_origin(c, &cfg, &o) : PD_NOMEM;
    for (int i = 0; !e && i < 3; i++) {
        if (i == 2)
            rules.idle_per_origin = 0;
        client_set_rules(c, &rules);
        e = one_exchange(l, c, o, &guard, &late); /* fresh, reused, and the last one closes */
    }
    if (!e)
        e = one_exchange(l, c, o, &guard, &late); /* fresh again: a resumed session, where there is TLS */
    origin_unref(o);
    if (c) {
        client_close(c, set_true, &closed);
        timer_arm(l, &guard, loop_now_ms(l) + PEER_PATIENCE_MS);
        while (!closed && !late)
            turn(l);
        assert_false(late);
        client_free(c);
    }
    timer_stop(l, &guard);
    loop_free(l);
    return e;
}

static void survives_every_failed_allocation_plain(void **state)
{
    (void)state;
    struct server s;
    assert_int_equal(net_process_init(), PD_OK);
    server_start(&s, NULL);
    struct life life = {.url = s.p.url};
    assert_int_equal(whole_life(&life), PD_OK);
    assert_true(torture(whole_life, &life) >= 12);
    server_stop(&s);
}

/* OpenSSL keeps some things once made (an algorithm, a thread's error state), so a run may end with a few blocks more. Only what
 * is lost again by the same failure is a leak. */
static bool leaks(struct life *life, unsigned n, bool *ret_failed)
{
    for (int again = 0; again < 3; again++) {
        size_t before = mem_blocks();
        mem_fail_at(n);
        (void)whole_life(life); /* a session that could not be kept is no error */
        *ret_failed = mem_failed();
        mem_fail_at(0);
        if (mem_blocks() <= before)
            return false;
    }
    return true;
}

/* Some five thousand allocations, nearly all OpenSSL's: every eighth, unless PERDURE_TORTURE_ALL is set. */
static void survives_failed_allocations_tls(void **state)
{
    (void)state;
    struct server s;
    struct authority ca;
    unsigned step = getenv("PERDURE_TORTURE_ALL") ? 1 : 8, n = 1;
    bool failed = true;
    assert_int_equal(net_process_init(), PD_OK);
    authority_init(&ca, "test authority");
    SSL_CTX *tls = server_ctx(&ca, "IP:127.0.0.1", -60, 3600, 0);
    server_start(&s, tls);
    struct life life = {.url = s.p.url, .ca_file = ca.path};
    for (int i = 0; i < 2; i++)
        assert_int_equal(whole_life(&life), PD_OK);
    for (; failed; n += step)
        if (leaks(&life, n, &failed))
            fail_msg("leaks when allocation %u fails", n);
    assert_true(n >= 1000);
    server_stop(&s);
    SSL_CTX_free(tls);
    authority_done(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_every_failed_allocation_plain),
        cmocka_unit_test(survives_failed_allocations_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
