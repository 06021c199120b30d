/* TLS through the client, against OpenSSL as the other side: trust, names, resumption, records, truncation. */
#include "drive.h"
#include "net/client_priv.h"
#include "peer_tls.h"

#define OK_BODY "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static struct authority ca, other_ca;
static SSL_CTX *good; /* valid for 127.0.0.1 */

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(net_process_init(), PD_OK);
    authority_init(&ca, "test authority");
    authority_init(&other_ca, "another authority");
    good = server_ctx(&ca, "IP:127.0.0.1", -60, 3600, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(good);
    authority_done(&ca);
    authority_done(&other_ca);
    return 0;
}

static struct origin *tls_origin(struct drive *d, const char *url, const char *ca_file, bool insecure)
{
    struct origin *o = NULL;
    struct origin_config cfg = {.base_url = url, .proxy = "", .ca_file = ca_file, .tls_insecure = insecure};
    assert_int_equal(client_origin(d->client, &cfg, &o), PD_OK);
    return o;
}

/* Serves `links` connections in turn, one request each, until the client closes. */
static void serves_links(struct peer *p, void *arg)
{
    unsigned links = *(unsigned *)arg;
    for (unsigned i = 0; i < links; i++) {
        struct link *k = peer_accept(p);
        if (k->ssl) {
            while (link_request(k, NULL))
                peer_check(p, link_send(k, OK_BODY));
        }
        link_close(k);
    }
}

static void get_one(struct drive *d, struct origin *o, struct got *g)
{
    *g = (struct got){0};
    drive_get(d, o, g);
    DRIVE_UNTIL(d, g->ends);
    free(g->body);
    g->body = NULL;
}

/* ---- trust ----------------------------------------------------------------------------------- */

static const struct trust_row {
    const char *name, *san;
    long from_s, to_s;
    bool other, insecure;
    pd_err err;
    const char *why;
} trust_rows[] = {
    {"valid", "IP:127.0.0.1", -60, 3600, false, false, PD_OK, ""},
    {"expired", "IP:127.0.0.1", -7200, -3600, false, false, PD_TLS, "certificate has expired (host 127.0.0.1)"},
    {"not yet valid", "IP:127.0.0.1", 3600, 7200, false, false, PD_TLS,
     "certificate is not yet valid (host 127.0.0.1)"},
    {"wrong address", "IP:127.0.0.2", -60, 3600, false, false, PD_TLS, "IP address mismatch (host 127.0.0.1)"},
    {"a name is no address", "DNS:127.0.0.1", -60, 3600, false, false, PD_TLS,
     "IP address mismatch (host 127.0.0.1)"},
    {"unknown authority", "IP:127.0.0.1", -60, 3600, true, false, PD_TLS,
     "unable to get local issuer certificate (host 127.0.0.1)"},
    {"unknown, but not to be verified", "IP:9.9.9.9", -7200, -3600, true, true, PD_OK, ""},
};

static void only_a_certificate_that_proves_the_host_is_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(trust_rows) / sizeof(trust_rows[0]); i++) {
        const struct trust_row *r = &trust_rows[i];
        struct drive d;
        struct peer p;
        struct got g;
        unsigned one = 1;
        SSL_CTX *x = server_ctx(r->other ? &other_ca : &ca, r->san, r->from_s, r->to_s, 0);
        drive_init(&d);
        peer_init_tls(&p, x);
        peer_run(&p, serves_links, &one);
        struct origin *o = tls_origin(&d, p.url, ca.path, r->insecure);
        get_one(&d, o, &g);
        if (g.err != r->err || !strstr(g.why, r->why))
            fail_msg("%s: %s: %s", r->name, pd_err_name(g.err), g.why);
        if (r->err)
            assert_int_equal(g.info.phase, EXCHANGE_TLS);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
        SSL_CTX_free(x);
    }
}

static void the_system_store_can_be_named_by_the_environment(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g;
    unsigned one = 1;
    setenv("SSL_CERT_FILE", ca.path, 1);
    drive_init(&d);
    peer_init_tls(&p, good);
    peer_run(&p, serves_links, &one);
    struct origin *o = tls_origin(&d, p.url, NULL, false);
    get_one(&d, o, &g);
    unsetenv("SSL_CERT_FILE");
    assert_int_equal(g.err, PD_OK);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- names ------------------------------------------------------------------------------------- */

struct hello {
    char sni[128], alpn[64];
};
static int sees_name(SSL *ssl, int *alert, void *arg)
{
    struct hello *h = arg;
    (void)alert;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    snprintf(h->sni, sizeof(h->sni), "%s", name ? name : "none");
    return SSL_TLSEXT_ERR_OK;
}
static int sees_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned in_n,
                     void *arg)
{
    struct hello *h = arg;
    (void)ssl;
    snprintf(h->alpn, sizeof(h->alpn), "%.*s", (int)in_n, (const char *)in);
    *out = in + 1;
    *n = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static void resolves_to_loopback(void *ctx, struct dns_name *n, const char *host)
{
    (void)host;
    *(struct dns_name **)ctx = n;
}

static const struct {
    const char *host, *san, *sni;
    pd_err err;
    const char *why;
} name_rows[] = {
    {"api.test", "DNS:api.test", "api.test", PD_OK, ""},
    {"api.test.", "DNS:api.test", "api.test", PD_OK, ""},
    {"API.test", "DNS:api.test", "api.test", PD_OK, ""},
    {"api.x.test", "DNS:*.x.test", "api.x.test", PD_OK, ""},
    {"a.b.x.test", "DNS:*.x.test", "a.b.x.test", PD_TLS, "hostname mismatch (host a.b.x.test)"},
    {"api.test", "DNS:*.test", "api.test", PD_TLS, "hostname mismatch (host api.test)"},
    {"api.test", "DNS:api.test.evil", "api.test", PD_TLS, "hostname mismatch (host api.test)"},
    {"api.x.test", "DNS:a*.x.test", "api.x.test", PD_TLS, "hostname mismatch"},
    {"127.0.0.1", "IP:127.0.0.1", "none", PD_OK, ""},
};

static void names_are_sent_and_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(name_rows) / sizeof(name_rows[0]); i++) {
        struct drive d;
        struct peer p;
        struct got g = {0};
        struct hello h = {{0}, {0}};
        struct dns_name *asked = NULL;
        union dns_address loopback;
        unsigned one = 1;
        char url[128];
        SSL_CTX *x = server_ctx(&ca, name_rows[i].san, -60, 3600, 0);
        SSL_CTX_set_tlsext_servername_callback(x, sees_name);
        SSL_CTX_set_tlsext_servername_arg(x, &h);
        SSL_CTX_set_alpn_select_cb(x, sees_alpn, &h);
        drive_init(&d);
        dns_set_query(d.client->dns, resolves_to_loopback, &asked);
        dns_literal("127.0.0.1", &loopback);
        peer_init_tls(&p, x);
        peer_run(&p, serves_links, &one);
        snprintf(url, sizeof(url), "https://%s:%u", name_rows[i].host, (unsigned)p.port);
        struct origin *o = tls_origin(&d, url, ca.path, false);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, asked || g.ends);
        if (asked)
            dns_answer(asked, 0, &loopback, 1);
        DRIVE_UNTIL(&d, g.ends);
        if (g.err != name_rows[i].err || !strstr(g.why, name_rows[i].why))
            fail_msg("%s with %s: %s: %s", name_rows[i].host, name_rows[i].san, pd_err_name(g.err), g.why);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
        assert_string_equal(h.sni, name_rows[i].sni);
        assert_string_equal(h.alpn, "\x08http/1.1");
        SSL_CTX_free(x);
    }
}

/* ---- handshakes that fail ------------------------------------------------------------------------ */

static void closes_at_once(struct peer *p, void *arg)
{
    (void)arg;
    link_close(peer_accept(p));
}
static void resets_the_hello(struct peer *p, void *arg)
{
    (void)arg;
    char c;
    struct link *k = peer_accept(p);
    peer_check(p, recv(k->fd, &c, 1, 0) == 1);
    link_reset(k);
}
static void speaks_plain(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    link_send(k, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    link_closed(k);
    link_close(k);
}
static void says_nothing(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    link_closed(k);
    link_close(k);
}

static void a_handshake_that_fails_says_how(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*script)(struct peer *p, void *arg);
        uint64_t tls_ms;
        pd_err err;
        const char *why;
    } rows[] = {
        {"closed", closes_at_once, 10000, PD_TLS, "TLS handshake with 127.0.0.1:"},
        {"reset", resets_the_hello, 10000, PD_TLS, "TLS handshake with 127.0.0.1:"},
        {"plain text", speaks_plain, 10000, PD_TLS, "wrong version number (host 127.0.0.1)"},
        {"silent", says_nothing, 40, PD_TIMEOUT, "tls_ms"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct drive d;
        struct peer p;
        struct got g;
        drive_init(&d);
        d.rules.tls_ms = rows[i].tls_ms;
        client_set_rules(d.client, &d.rules);
        peer_init(&p);
        snprintf(p.url, sizeof(p.url), "https://127.0.0.1:%u", (unsigned)p.port);
        peer_run(&p, rows[i].script, NULL);
        struct origin *o = tls_origin(&d, p.url, ca.path, false);
        get_one(&d, o, &g);
        if (g.err != rows[i].err || !strstr(g.why, rows[i].why))
            fail_msg("%s: %s: %s", rows[i].name, pd_err_name(g.err), g.why);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

static void old_protocols_are_refused(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g;
    unsigned one = 1;
    SSL_CTX *x = server_ctx(&ca, "IP:127.0.0.1", -60, 3600, TLS1_1_VERSION);
    SSL_CTX_set_security_level(x, 0);
    SSL_CTX_set_cipher_list(x, "ALL:@SECLEVEL=0");
    drive_init(&d);
    peer_init_tls(&p, x);
    peer_run(&p, serves_links, &one);
    struct origin *o = tls_origin(&d, p.url, ca.path, false);
    get_one(&d, o, &g);
    assert_int_equal(g.err, PD_TLS);
    assert_non_null(strstr(g.why, "protocol version"));
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
    SSL_CTX_free(x);
}

/* ---- sessions --------------------------------------------------------------------------------------- */

static void sessions_are_resumed_by_later_connections(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (int v = 0; v < 2; v++) {
        struct drive d;
        struct peer p;
        struct got g;
        unsigned links = 4;
        SSL_CTX *x = server_ctx(&ca, "IP:127.0.0.1", -60, 3600, versions[v]);
        drive_init(&d);
        d.rules.idle_per_origin = 0; /* so that every request makes its own connection */
        client_set_rules(d.client, &d.rules);
        peer_init_tls(&p, x);
        peer_run(&p, serves_links, &links);
        struct origin *o = tls_origin(&d, p.url, ca.path, false);
        for (unsigned i = 0; i < links; i++) {
            get_one(&d, o, &g);
            assert_int_equal(g.err, PD_OK);
            assert_int_equal(g.info.tls_resumed, i > 0);
        }
        assert_int_equal(client_stats(d.client)->tls_handshakes_total, 1);
        assert_int_equal(client_stats(d.client)->tls_resumed_total, 3);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
        SSL_CTX_free(x);
    }
}

/* A cancelled stream ends its connection hard; its session must serve the next one all the same. */
static void a_cancelled_exchange_does_not_spoil_the_session(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g = {.cancel_on_body = true};
    unsigned links = 2;
    drive_init(&d);
    peer_init_tls(&p, good);
    peer_run(&p, serves_links, &links);
    struct origin *o = tls_origin(&d, p.url, ca.path, false);
    drive_get(&d, o, &g);
    DRIVE_UNTIL(&d, g.bodies);
    assert_int_equal(g.ends, 0);
    got_done(&g);
    get_one(&d, o, &g);
    assert_int_equal(g.err, PD_OK);
    assert_true(g.info.tls_resumed);
    assert_int_equal(client_stats(d.client)->cancelled_total, 1);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

static void gives_a_late_ticket(struct peer *p, void *arg)
{
    (void)arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, OK_BODY));
    peer_wait(p);
    peer_check(p, SSL_new_session_ticket(k->ssl) == 1);
    peer_check(p, SSL_do_handshake(k->ssl) == 1); /* sends it */
    peer_tell(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, OK_BODY));
    peer_wait(p);
    peer_check(p, link_send(k, "uncalled for"));
    peer_check(p, link_closed(k));
    link_close(k);
}

static void a_ticket_on_an_idle_connection_is_fine_and_data_is_not(void **state)
{
    (void)state;
    struct drive d;
    struct peer p;
    struct got g;
    drive_init(&d);
    peer_init_tls(&p, good);
    drive_peer(&d, &p);
    peer_run(&p, gives_a_late_ticket, NULL);
    struct origin *o = tls_origin(&d, p.url, ca.path, false);
    get_one(&d, o, &g);
    assert_int_equal(g.err, PD_OK);
    peer_go(&p);
    DRIVE_UNTIL(&d, p.told == 1);
    drive_settle(&d);
    assert_int_equal(origin_idle(o), 1);
    get_one(&d, o, &g);
    assert_int_equal(g.err, PD_OK);
    assert_true(g.info.reused);
    peer_go(&p);
    DRIVE_UNTIL(&d, origin_idle(o) == 0);
    origin_unref(o);
    drive_done(&d);
    peer_join(&p);
}

/* ---- how a body ends ----------------------------------------------------------------------------------- */

struct ending {
    const char *bytes;
    enum { ORDERLY, TRUNCATED, RESET } how;
    pd_err err;
};
static void ends_so(struct peer *p, void *arg)
{
    struct ending *e = arg;
    struct link *k = peer_accept(p);
    peer_check(p, link_request(k, NULL));
    peer_check(p, link_send(k, e->bytes));
    peer_wait(p);
    if (e->how == ORDERLY) {
        link_close(k);
    } else if (e->how == TRUNCATED) {
        SSL_set_quiet_shutdown(k->ssl, 1);
        link_free(k);
    } else {
        link_reset(k);
    }
}

static void a_truncated_connection_is_judged_by_the_framing(void **state)
{
    (void)state;
    static struct ending rows[] = {
        {"HTTP/1.1 200 OK\r\n\r\nhello", ORDERLY, PD_OK},
        {"HTTP/1.1 200 OK\r\n\r\nhello", TRUNCATED, PD_CUT},
        {"HTTP/1.1 200 OK\r\n\r\nhello", RESET, PD_RESET},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", ORDERLY, PD_CUT},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", TRUNCATED, PD_CUT},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", TRUNCATED, PD_OK},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", TRUNCATED, PD_CUT},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ORDERLY, PD_CUT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct drive d;
        struct peer p;
        struct got g = {0};
        drive_init(&d);
        peer_init_tls(&p, good);
        peer_run(&p, ends_so, &rows[i]);
        struct origin *o = tls_origin(&d, p.url, ca.path, false);
        drive_get(&d, o, &g);
        DRIVE_UNTIL(&d, g.body_bytes == 5);
        peer_go(&p);
        DRIVE_UNTIL(&d, g.ends);
        if (g.err != rows[i].err)
            fail_msg("row %zu: %s: %s", i, pd_err_name(g.err), g.why);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
    }
}

/* ---- many bytes ------------------------------------------------------------------------------------------ */

enum { MANY = 3 << 20 };

struct echo {
    size_t received;
    uint64_t sum;
};
static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static void takes_and_gives_many(struct peer *p, void *arg)
{
    struct echo *e = arg;
    struct link *k = peer_accept(p);
    char chunk[10000];
    while (link_read(k, chunk, 1) == 1) { /* the head */
        k->in[k->n++] = chunk[0];
        if (k->n >= 4 && memcmp(k->in + k->n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    while (e->received < MANY) {
        ssize_t n = link_read(k, chunk, sizeof(chunk));
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            peer_check(p, (unsigned char)chunk[i] == byte_at(e->received + (size_t)i));
        e->received += (size_t)n;
    }
    char head[100];
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", MANY);
    peer_check(p, link_send(k, head));
    for (size_t at = 0; at < MANY;) {
        size_t n = 0;
        while (n < sizeof(chunk) && at < MANY)
            chunk[n++] = (char)byte_at(at++);
        peer_check(p, link_send_bytes(k, chunk, n));
    }
    peer_check(p, link_closed(k));
    link_close(k);
}

static void many_bytes_pass_unchanged_both_ways_with_pauses(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct drive d;
        struct peer p;
        struct got g = {.pause_on_body = true};
        struct echo e = {0, 0};
        char *bytes = malloc(MANY);
        for (size_t i = 0; i < MANY; i++)
            bytes[i] = (char)byte_at(i);
        drive_init(&d);
        if (tls)
            peer_init_tls(&p, good);
        else
            peer_init(&p);
        peer_run(&p, takes_and_gives_many, &e);
        struct origin *o = tls_origin(&d, p.url, ca.path, false);
        struct span parts[] = {
            {bytes, 1}, {bytes + 1, 0}, {bytes + 1, 20000}, {bytes + 20001, 100}, {bytes + 20101, MANY - 20101}};
        drive_post(&d, o, &g, parts, 5);
        for (size_t before = 0; !g.ends; before = g.body_bytes) {
            if (g.body_bytes == before)
                drive_turn(&d, "the end", __LINE__);
            if (g.x)
                exchange_resume(g.x);
            drive_settle(&d);
        }
        assert_int_equal(g.err, PD_OK);
        assert_int_equal(g.body_bytes, MANY);
        assert_memory_equal(g.body, bytes, MANY);
        assert_int_equal(e.received, MANY);
        assert_int_equal(origin_idle(o), 1);
        got_done(&g);
        origin_unref(o);
        drive_done(&d);
        peer_join(&p);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_certificate_that_proves_the_host_is_taken),
        cmocka_unit_test(the_system_store_can_be_named_by_the_environment),
        cmocka_unit_test(names_are_sent_and_checked),
        cmocka_unit_test(a_handshake_that_fails_says_how),
        cmocka_unit_test(old_protocols_are_refused),
        cmocka_unit_test(sessions_are_resumed_by_later_connections),
        cmocka_unit_test(a_cancelled_exchange_does_not_spoil_the_session),
        cmocka_unit_test(a_ticket_on_an_idle_connection_is_fine_and_data_is_not),
        cmocka_unit_test(a_truncated_connection_is_judged_by_the_framing),
        cmocka_unit_test(many_bytes_pass_unchanged_both_ways_with_pauses),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
