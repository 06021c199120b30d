/* The way to a connection: several addresses, names, and proxies. */
#include "drive.h"
#include "net/client_priv.h"
#include "peer_tls.h"

#define OK_BODY "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static struct authority ca;
static SSL_CTX *tls;

static int set_up(void **state)
{
    (void)state;
    static const char *const clear[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    for (size_t i = 0; i < sizeof(clear) / sizeof(clear[0]); i++)
        unsetenv(clear[i]);
    assert_int_equal(net_process_init(), PD_OK);
    authority_init(&ca, "test authority");
    tls = server_ctx(&ca, "DNS:api.test,IP:127.0.0.1", -60, 3600, 0);
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(tls);
    authority_done(&ca);
    return 0;
}

/* A resolver that answers from a list, in the turn after it was asked. */
struct book {
    struct drive *d;
    struct dns_name *asked;
    char host[64];
    const char *addresses; /* space-separated */
    struct later later;
    unsigned times;
};
static void book_answer(void *ctx)
{
    struct book *b = ctx;
    union dns_address a[DNS_ADDRESSES_MAX];
    unsigned n = 0;
    struct span rest = span_str(b->addresses);
    while (rest.n) {
        struct span next = span_cut(&rest, ' ');
        char one[64];
        snprintf(one, sizeof(one), "%.*s", SPAN_FMT(next));
        assert_true(dns_literal(one, &a[n++]));
    }
    dns_answer(b->asked, 0, a, n);
}
static void book_query(void *ctx, struct dns_name *n, const char *host)
{
    struct book *b = ctx;
    b->asked = n;
    b->times++;
    snprintf(b->host, sizeof(b->host), "%s", host);
    loop_later(b->d->loop, &b->later);
}
static void book_init(struct book *b, struct drive *d, const char *addresses)
{
    *b = (struct book){.d = d, .addresses = addresses};
    later_init(&b->later, book_answer, b);
    dns_set_query(d->client->dns, book_query, b);
}

static struct origin *origin_of(struct drive *d, const char *scheme, const char *host, uint16_t port,
                                const char *proxy)
{
    char url[128];
    struct origin *o = NULL;
    snprintf(url, sizeof(url), "%s://%s:%u", scheme, host, (unsigned)port);
    struct origin_config cfg = {.base_url = url, .proxy = proxy, .ca_file = ca.path};
    assert_int_equal(client_origin(d->client, &cfg, &o), PD_OK);
    return o;
}

static void answers_ok(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    while (link_request(k, NULL))
        peer_check(p, link_send(k, OK_BODY));
    link_close(k);
}

/* ---- several addresses -------------------------------------------------------------------------- */

static void an_address_that_refuses_is_passed_over_at_once(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct book b;
    struct got g = {0};
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, answers_ok, NULL);
    book_init(&b, &d, "127.0.0.2 127.0.0.3 127.0.0.1");
    struct origin *o = origin_of(&d, "http", "api.test", p.port, "");
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_true(g.info.connected_us - g.info.started_us < CLIENT_NEXT_ADDRESS_MS * 1000);
    assert_int_equal(client_stats(d.client)->dns_queries_total, 1);
    assert_int_equal(client_stats(d.client)->connect_errors_total, 0);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void when_all_refuse_the_first_is_named_and_the_name_asked_anew(void **state)
{
    (void)state;
    struct drive d;
    struct book b;
    struct got g = {0};
    uint16_t port = 0;
    char want[128];
    close(peer_listen_on("127.0.0.1", &port, 1));
    drive_init(&d);
    book_init(&b, &d, "127.0.0.3 127.0.0.2 127.0.0.1");
    struct origin *o = origin_of(&d, "http", "api.test", port, "");
    snprintf(want, sizeof(want),
             "connecting to api.test:%u: connection refused by 127.0.0.3:%u (and 2 other addresses)",
             (unsigned)port, (unsigned)port);
    for (unsigned i = 1; i <= 2; i++) {
        g = (struct got){0};
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_CONNECT);
        assert_string_equal(g.why, want);
        assert_int_equal(b.times, i);
    }
    origin_unref(o);
    drive_done(&d);
}

/* A socket whose backlog is full: SYNs to it are dropped, as by a host that is not there. */
static void fill(const char *ip, uint16_t port, int *fds, int n)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    for (int i = 0; i < n; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fds[i], (struct sockaddr *)&a, sizeof(a));
    }
}

static void a_silent_address_is_overtaken_and_closed(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct book b;
    struct got g = {0};
    int fds[4];
    drive_init(&d);
    peer_init(&p);
    int hole = peer_listen_on("127.0.0.9", &p.port, 0);
    assert_true(hole >= 0);
    fill("127.0.0.9", p.port, fds, 4);
    peer_run(&p, answers_ok, NULL);
    book_init(&b, &d, "127.0.0.9 127.0.0.1");
    struct origin *o = origin_of(&d, "http", "api.test", p.port, "");
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_true(g.info.connected_us - g.info.started_us >= (CLIENT_NEXT_ADDRESS_MS - 1) * 1000);
    drive_settle(&d);
    assert_int_equal(client_stats(d.client)->connections_open, 1);
    assert_int_equal(d.client->conns, 1); /* the loser is gone */
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close(hole);
}

static void a_name_that_is_unknown_is_told(void **state)
{
    (void)state;
    struct drive d;
    struct book b;
    struct got g = {0};
    drive_init(&d);
    book_init(&b, &d, "");
    struct origin *o = origin_of(&d, "http", "api.test", 80, "");
    for (int i = 0; i < 2; i++) {
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.ends);
        assert_int_equal(g.err, PD_DNS);
        assert_string_equal(
            g.why, "looking up the name of api.test:80: name api.test could not be resolved: it has no address");
        g = (struct got){0};
    }
    assert_int_equal(b.times, 1); /* the failure is remembered for a moment */
    origin_unref(o);
    drive_done(&d);
}

/* ---- proxies --------------------------------------------------------------------------------------- */

struct proxy_wire {
    const char *answer; /* to CONNECT; NULL: close */
    char asked[2048];
    bool tunnel;
};

/* A proxy that is also the host behind it. */
static void is_proxy(struct peer *p, void *arg)
{
    struct proxy_wire *w = arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    snprintf(w->asked, sizeof(w->asked), "%.2000s", k->in);
    if (w->answer)
        peer_check(p, link_send(k, w->answer));
    if (w->tunnel) {
        k->ssl = SSL_new(tls);
        SSL_set_fd(k->ssl, k->fd);
        peer_check(p, SSL_accept(k->ssl) == 1);
        peer_check(p, link_request(k, NULL));
        peer_check(p, link_send(k, OK_BODY));
    }
    if (w->answer)
        peer_check(p, link_closed(k));
    link_close(k);
}

static void https_goes_through_a_tunnel(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct book b;
    struct got g = {0};
    struct proxy_wire w = {.answer = "HTTP/1.1 200 Connection established\r\n\r\n", .tunnel = true};
    char proxy[64];
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, is_proxy, &w);
    book_init(&b, &d, "127.0.0.1");
    snprintf(proxy, sizeof(proxy), "http://me:secret@proxy.test:%u", (unsigned)p.port);
    struct origin *o = origin_of(&d, "https", "api.test", 8443, proxy);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    if (g.err)
        fail_msg("%s", g.why);
    assert_string_equal(g.body, "hello");
    assert_string_equal(b.host, "proxy.test"); /* the proxy looks up the rest */
    assert_int_equal(b.times, 1);
    assert_string_equal(w.asked, "CONNECT api.test:8443 HTTP/1.1\r\nHost: api.test:8443\r\n"
                                 "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n");
    assert_int_equal(origin_idle(o), 1);
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void http_asks_the_proxy_with_the_whole_url(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {0};
    struct proxy_wire w = {.answer = OK_BODY};
    char proxy[64];
    drive_init(&d);
    peer_init(&p);
    peer_run(&p, is_proxy, &w);
    snprintf(proxy, sizeof(proxy), "me:secret@127.0.0.1:%u", (unsigned)p.port);
    struct origin *o = origin_of(&d, "http", "api.test", 8080, proxy);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.ends);
    assert_int_equal(g.err, PD_OK);
    assert_string_equal(w.asked, "GET http://api.test:8080/v1/x?y=1 HTTP/1.1\r\nHost: api.test:8080\r\n"
                                 "Proxy-Authorization: Basic bWU6c2VjcmV0\r\nAccept-Encoding: identity\r\n\r\n");
    got_done(&g);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void a_proxy_that_refuses_is_quoted(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *why;
    } rows[] = {
        {"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
         "the proxy answered 407 Proxy Authentication Required"},
        {"HTTP/1.1 502 Bad Gateway\r\n\r\n", "the proxy answered 502 Bad Gateway"},
        {"HTTP/1.1 403\r\n\r\n", "the proxy answered 403"},
        {"SSH-2.0-x\r\n\r\n", "the proxy's answer is not HTTP"},
        {"HTTP/1.1 200 OK\r\n\r\nextra", "bytes of its own"},
        {NULL, "the proxy closed the connection"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct drive d;
        struct peer p;
        struct got g = {0};
        struct proxy_wire w = {.answer = rows[i].answer};
        char proxy[64];
        drive_init(&d);
        peer_init(&p);
        peer_run(&p, is_proxy, &w);
        snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", (unsigned)p.port);
        struct origin *o = origin_of(&d, "https", "api.test", 443, proxy);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.ends);
        if (g.err != PD_PROXY || !strstr(g.why, rows[i].why) || !strstr(g.why, "by the proxy 127.0.0.1"))
            fail_msg("row %zu: %s: %s", i, pd_err_name(g.err), g.why);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void the_environment_is_read_unless_the_config_says_else(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    char proxy[64];
    drive_init(&d);
    peer_init(&p);
    snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", (unsigned)p.port);
    setenv("https_proxy", proxy, 1);
    setenv("no_proxy", "direct.test", 1);
    struct origin *env = origin_of(&d, "https", "api.test", 443, NULL);
    struct origin *except = origin_of(&d, "https", "direct.test", 443, NULL);
    struct origin *local = origin_of(&d, "https", "127.0.0.1", 443, NULL);
    struct origin *none = origin_of(&d, "https", "api.test", 443, "");
    struct origin *forced = origin_of(&d, "https", "localhost", 443, "http://p.test:1");
    unsetenv("https_proxy");
    unsetenv("no_proxy");
    assert_int_equal(env->proxy.port, p.port);
    assert_null(except->proxy.host);
    assert_null(local->proxy.host);
    assert_null(none->proxy.host);
    assert_string_equal(forced->proxy.host, "p.test");
    assert_true(env != none);
    origin_unref(env);
    origin_unref(except);
    origin_unref(local);
    origin_unref(none);
    origin_unref(forced);
    drive_done(&d);
    close(p.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_that_refuses_is_passed_over_at_once),
        cmocka_unit_test(when_all_refuse_the_first_is_named_and_the_name_asked_anew),
        cmocka_unit_test(a_silent_address_is_overtaken_and_closed),
        cmocka_unit_test(a_name_that_is_unknown_is_told),
        cmocka_unit_test(https_goes_through_a_tunnel),
        cmocka_unit_test(http_asks_the_proxy_with_the_whole_url),
        cmocka_unit_test(a_proxy_that_refuses_is_quoted),
        cmocka_unit_test(the_environment_is_read_unless_the_config_says_else),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
