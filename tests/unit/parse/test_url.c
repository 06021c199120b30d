#include "parse/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "test.h"

/* "tls host port path ?query user", with - for what is absent and [] around IPv6. */
static const char *show(const struct url *u, char *out, size_t room)
{
    snprintf(out, room, "%s %s%.*s%s %u %.*s%s%.*s%s%.*s", u->tls ? "tls" : "tcp", u->ipv6 ? "[" : "",
             SPAN_FMT(u->host), u->ipv6 ? "]" : "", (unsigned)u->port, SPAN_FMT(u->path), u->query.p ? " ?" : "",
             SPAN_FMT(u->query), u->user_info.p ? " @" : "", SPAN_FMT(u->user_info));
    return out;
}

static const struct row {
    const char *name, *in, *out; /* out NULL: refused, and `why` is in the sentence */
    const char *why;
} rows[] = {
    {"a provider", "https://api.openai.com/v1", "tls api.openai.com 443 /v1", NULL},
    {"no path", "http://127.0.0.1:8080", "tcp 127.0.0.1 8080 ", NULL},
    {"the slash at the end goes", "http://h/v1/", "tcp h 80 /v1", NULL},
    {"only a slash is no path", "http://h/", "tcp h 80 ", NULL},
    {"several slashes at the end go", "http://h/v1//", "tcp h 80 /v1", NULL},
    {"the scheme in capitals", "HTTPS://H", "tls H 443 ", NULL},
    {"IPv6", "http://[::1]:8080/v1", "tcp [::1] 8080 /v1", NULL},
    {"IPv6 without port", "https://[2001:db8::7]", "tls [2001:db8::7] 443 ", NULL},
    {"a query", "https://x.azure.com/d/?api-version=2024-10-21", "tls x.azure.com 443 /d ?api-version=2024-10-21",
     NULL},
    {"a query right after the host", "http://h?a=/b", "tcp h 80  ?a=/b", NULL},
    {"an underscore in the host, as in compose files", "http://my_llm:80/", "tcp my_llm 80 ", NULL},
    {"the largest port", "http://h:65535", "tcp h 65535 ", NULL},
    {"a proxy's user and password", "http://u:p%40@proxy:3128", "tcp proxy 3128  @u:p%40", NULL},
    {"an empty user", "http://@h", "tcp h 80  @", NULL},
    {"%XX in the path", "http://h/a%20b", "tcp h 80 /a%20b", NULL},

    {"nothing", "", NULL, "http://"},
    {"no scheme", "api.openai.com/v1", NULL, "http://"},
    {"another scheme", "ftp://h/", NULL, "http://"},
    {"one slash", "http:/h", NULL, "http://"},
    {"no host", "https:///v1", NULL, "host is missing"},
    {"no host but a port", "http://:80", NULL, "host is missing"},
    {"no host but a user", "http://u@", NULL, "host is missing"},
    {"port 0", "http://h:0", NULL, "1 to 65535"},
    {"a port too large", "http://h:65536", NULL, "1 to 65535"},
    {"a port too long", "http://h:000080", NULL, "1 to 65535"},
    {"an empty port", "http://h:/", NULL, "1 to 65535"},
    {"a port with a sign", "http://h:+80", NULL, "1 to 65535"},
    {"two ports", "http://h:80:80", NULL, "1 to 65535"},
    {"a space in the host", "http://a b/", NULL, "no host name"},
    {"a non-ASCII host", "http://b\303\274cher.de/", NULL, "no host name"},
    {"a backslash", "http://h\\@evil/", NULL, "%XX"},
    {"a backslash in the host", "http://h\\x", NULL, "no host name"},
    {"a line end in the path", "http://h/a\r\nX: y", NULL, "%XX"},
    {"half a %XX", "http://h/a%2", NULL, "%XX"},
    {"no hex in a %XX", "http://h/a%zz", NULL, "%XX"},
    {"a quote in the query", "http://h/?a=\"", NULL, "%XX"},
    {"a fragment", "http://h/v1#top", NULL, "fragment"},
    {"IPv6 that does not close", "http://[::1", NULL, "']'"},
    {"IPv6 that is none", "http://[v1.x]", NULL, "IPv6"},
    {"nothing in the brackets", "http://[]", NULL, "IPv6"},
    {"text after the brackets", "http://[::1]x", NULL, "port"},
    {"two users", "http://a@b@c", NULL, "no host name"},
};

static void urls_are_taken_apart_or_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct url u;
        const char *why = "";
        char text[256];
        pd_err e = url_parse(span_str(r->in), &u, &why);
        if (r->out && (e || strcmp(show(&u, text, sizeof(text)), r->out) != 0))
            fail_msg("%s: got \"%s\" (%s)", r->name, e ? pd_err_name(e) : text, why);
        if (!r->out && (e != PD_SYNTAX || !strstr(why, r->why)))
            fail_msg("%s: got %s (%s)", r->name, pd_err_name(e), why);
    }
}

static void a_nul_byte_is_allowed_nowhere(void **state)
{
    (void)state;
    static const char *const good[] = {"http://u:p@host:80/path?query", "http://[::1]/", "http://[::1 ]/"};
    char text[64];
    struct url u;
    const char *why;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        for (size_t at = 0; good[i][at]; at++) {
            memcpy(text, good[i], strlen(good[i]));
            text[at] = '\0';
            assert_int_equal(url_parse(span_of(text, strlen(good[i])), &u, &why), PD_SYNTAX);
        }
}

static void a_host_has_at_most_253_bytes(void **state)
{
    (void)state;
    char text[7 + 254];
    struct url u;
    const char *why;
    memset(text, 'a', sizeof(text));
    memcpy(text, "http://", 7);
    assert_int_equal(url_parse(span_of(text, 7 + 253), &u, &why), PD_OK);
    assert_int_equal(url_parse(span_of(text, 7 + 254), &u, &why), PD_SYNTAX);
}

static void a_refused_url_writes_no_result(void **state)
{
    (void)state;
    struct url u = {.port = 7};
    const char *why;
    assert_int_equal(url_parse(SPAN_LIT("https://h/\x01"), &u, &why), PD_SYNTAX);
    assert_true(u.port == 7 && !u.tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart_or_refused_with_a_reason),
        cmocka_unit_test(a_nul_byte_is_allowed_nowhere),
        cmocka_unit_test(a_host_has_at_most_253_bytes),
        cmocka_unit_test(a_refused_url_writes_no_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
