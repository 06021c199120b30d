#include "net/proxy.h"

#include "base/mem.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "test.h"

/* ---- the environment, as rows of name and value ---------------------------------------- */

static const char *const *env_rows; /* what fake_env reads: a getenv has no context */

static char *fake_env(const char *name)
{
    for (const char *const *r = env_rows; *r; r += 2)
        if (strcmp(r[0], name) == 0)
            return (char *)(uintptr_t)r[1];
    return NULL;
}

struct row {
    const char *name;
    const char *env[9];
    bool tls;
    const char *host;
    uint16_t port;
    const char *want;
};
static const struct row rows[] = {
    {"nothing set", {NULL}, false, "api.x", 80, NULL},
    {"http_proxy", {"http_proxy", "p:1", NULL}, false, "api.x", 80, "p:1"},
    {"http_proxy is not for https", {"http_proxy", "p:1", NULL}, true, "api.x", 443, NULL},
    {"HTTP_PROXY is the client's header in a CGI", {"HTTP_PROXY", "p:1", NULL}, false, "api.x", 80, NULL},
    {"https_proxy", {"https_proxy", "p:1", NULL}, true, "api.x", 443, "p:1"},
    {"HTTPS_PROXY", {"HTTPS_PROXY", "p:1", NULL}, true, "api.x", 443, "p:1"},
    {"lower case first", {"HTTPS_PROXY", "p:1", "https_proxy", "q:1", NULL}, true, "api.x", 443, "q:1"},
    {"ALL_PROXY for both", {"ALL_PROXY", "p:1", NULL}, false, "api.x", 80, "p:1"},
    {"all_proxy for both", {"all_proxy", "p:1", NULL}, true, "api.x", 443, "p:1"},
    {"the scheme's own first", {"all_proxy", "p:1", "https_proxy", "q:1", NULL}, true, "api.x", 443, "q:1"},
    {"set and empty means none", {"https_proxy", "", "all_proxy", "q:1", NULL}, true, "api.x", 443, NULL},
    {"no_proxy", {"https_proxy", "p:1", "no_proxy", "api.x", NULL}, true, "api.x", 443, NULL},
    {"NO_PROXY", {"https_proxy", "p:1", "NO_PROXY", "*", NULL}, true, "api.x", 443, NULL},
    {"localhost never", {"http_proxy", "p:1", NULL}, false, "localhost", 8000, NULL},
    {"127.0.0.9 never", {"http_proxy", "p:1", NULL}, false, "127.0.0.9", 8000, NULL},
    {"::1 never", {"all_proxy", "p:1", NULL}, false, "::1", 8000, NULL},
};

static void the_environment_names_the_proxy(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        env_rows = rows[i].env;
        const char *got = proxy_from_env(fake_env, rows[i].tls, span_str(rows[i].host), rows[i].port);
        if (!got != !rows[i].want || (got && strcmp(got, rows[i].want) != 0))
            fail_msg("%s: got %s", rows[i].name, got ? got : "none");
    }
}

static const struct {
    const char *list, *host;
    uint16_t port;
    bool want;
} exceptions[] = {
    {"", "api.x", 443, false},
    {"*", "api.x", 443, true},
    {"a.b, api.x", "api.x", 443, true},
    {"a.b\tapi.x", "api.x", 443, true},
    {"a.b api.x", "api.x", 443, true},
    {"x", "api.x", 443, true},
    {".x", "api.x", 443, true},
    {"*.x", "api.x", 443, true},
    {".api.x", "api.x", 443, true},
    {"pi.x", "api.x", 443, false},
    {"api.x.y", "api.x", 443, false},
    {"API.X", "api.x", 443, true},
    {"api.x.", "api.x", 443, true},
    {"api.x", "api.x.", 443, true},
    {"api.x:443", "api.x", 443, true},
    {"api.x:8443", "api.x", 443, false},
    {"10.0.0.1", "10.0.0.1", 80, true},
    {"10.0.0.1", "10.0.0.11", 80, false},
    {"0.0.1", "10.0.0.1", 80, false},
    {"10.0.0.0/8", "10.9.8.7", 80, true},
    {"10.0.0.0/8", "11.9.8.7", 80, false},
    {"10.0.0.0/12", "10.15.0.1", 80, true},
    {"10.0.0.0/12", "10.16.0.1", 80, false},
    {"10.0.0.0/99", "10.0.0.0", 80, false},
    {"0.0.0.0/0", "1.2.3.4", 80, true},
    {"fd00::/8", "fd12::1", 80, true},
    {"fd00::/8", "fe12::1", 80, false},
    {"10.0.0.0/8", "fd12::1", 80, false},
    {"[fd12::1]:80", "fd12::1", 80, true},
    {"[fd12::1]:81", "fd12::1", 80, false},
    {"fd12::1", "fd12:0::1", 80, true},
    {"10.0.0.0/8", "ten.x", 80, false},
    {",,, ,", "api.x", 80, false},
};

static void exceptions_match_names_ports_and_networks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++)
        if (proxy_excepted(span_str(exceptions[i].list), span_str(exceptions[i].host), exceptions[i].port) !=
            exceptions[i].want)
            fail_msg("\"%s\" with %s:%u", exceptions[i].list, exceptions[i].host, exceptions[i].port);
}

static void loopback_is_known_in_every_spelling(void **state)
{
    (void)state;
    static const char *const are[] = {"localhost", "LOCALHOST", "localhost.", "a.localhost",     "127.0.0.1",
                                      "127.9.9.9", "::1",       "[::1]",      "::ffff:127.0.0.1"};
    static const char *const are_not[] = {"localhost.x", "notlocalhost", "128.0.0.1", "::2", "10.127.0.1", "",
                                          "127.0.0.1.x"};
    for (size_t i = 0; i < sizeof(are) / sizeof(are[0]); i++)
        assert_true(proxy_is_loopback(span_str(are[i])));
    for (size_t i = 0; i < sizeof(are_not) / sizeof(are_not[0]); i++)
        assert_false(proxy_is_loopback(span_str(are_not[i])));
}

static const struct {
    const char *in, *host;
    uint16_t port;
    const char *authorization;
    pd_err err;
} urls[] = {
    {"http://p.x:3128", "p.x", 3128, NULL, PD_OK},
    {"p.x:3128", "p.x", 3128, NULL, PD_OK},
    {" http://p.x:3128/ ", "p.x", 3128, NULL, PD_OK},
    {"http://p.x", "p.x", 80, NULL, PD_OK},
    {"http://[::1]:3128", "::1", 3128, NULL, PD_OK},
    {"http://user:pass@p.x:1", "p.x", 1, "Basic dXNlcjpwYXNz", PD_OK},
    {"user:pass@p.x:1", "p.x", 1, "Basic dXNlcjpwYXNz", PD_OK},
    {"http://us%3Aer:p%40ss@p.x:1", "p.x", 1, "Basic dXM6ZXI6cEBzcw==", PD_OK},
    {"http://user@p.x:1", "p.x", 1, "Basic dXNlcjo=", PD_OK},
    {"https://p.x:1", NULL, 0, NULL, PD_UNSUPPORTED},
    {"socks5://p.x:1", NULL, 0, NULL, PD_UNSUPPORTED},
    {"http://", NULL, 0, NULL, PD_SYNTAX},
    {"http://p.x:99999", NULL, 0, NULL, PD_SYNTAX},
};

static void a_proxy_is_read_from_its_url(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct proxy p = {0};
        pd_err e = proxy_parse(span_str(urls[i].in), &p);
        if (e != urls[i].err)
            fail_msg("%s: %s", urls[i].in, pd_err_name(e));
        if (e)
            continue;
        assert_string_equal(p.host, urls[i].host);
        assert_int_equal(p.port, urls[i].port);
        assert_int_equal(!p.authorization, !urls[i].authorization);
        if (p.authorization)
            assert_string_equal(p.authorization, urls[i].authorization);
        proxy_done(&p);
    }
}

static void over_long_ones_are_refused(void **state)
{
    (void)state;
    static char text[9000];
    struct proxy p;
    memset(text, 'a', sizeof(text) - 1);
    assert_int_equal(proxy_parse(span_str(text), &p), PD_SYNTAX);
    memcpy(text, "http://", 7);
    memcpy(text + 2000, "@p:1", 5);
    assert_int_equal(proxy_parse(span_str(text), &p), PD_SYNTAX);
}

static pd_err parse_one(void *ctx)
{
    struct proxy p;
    (void)ctx;
    pd_err e = proxy_parse(SPAN_LIT("http://u:p@h:1"), &p);
    if (!e)
        proxy_done(&p);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_int_equal(torture(parse_one, NULL), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_names_the_proxy),
        cmocka_unit_test(exceptions_match_names_ports_and_networks),
        cmocka_unit_test(loopback_is_known_in_every_spelling),
        cmocka_unit_test(a_proxy_is_read_from_its_url),
        cmocka_unit_test(over_long_ones_are_refused),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
