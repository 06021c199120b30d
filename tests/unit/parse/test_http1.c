#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "test.h"

#include "base/buf.h"
#include "parse/http1.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- requests ---- */

#define H "Host: a\r\n"

struct shape {
    const char *name, *in;
    size_t n;
    int status; /* 0: taken */
};
#define SHAPE(name, in, status)          \
    {                                    \
        name, in, sizeof(in) - 1, status \
    }

static const struct shape shapes[] = {
    SHAPE("plain GET", "GET / HTTP/1.1\r\n" H "\r\n", 0),
    SHAPE("POST with a length", "POST /v1/x HTTP/1.1\r\n" H "Content-Length: 7\r\n\r\n", 0),
    SHAPE("chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 0),
    SHAPE("chunked in capitals", "POST / HTTP/1.1\r\n" H "TRANSFER-ENCODING: Chunked\r\n\r\n", 0),
    SHAPE("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 0),
    SHAPE("HTTP/1.0 with Host", "GET / HTTP/1.0\r\n" H "\r\n", 0),
    SHAPE("absolute target, same host", "GET http://a/x?y HTTP/1.1\r\n" H "\r\n", 0),
    SHAPE("absolute target without a path", "GET http://a HTTP/1.1\r\n" H "\r\n", 0),
    SHAPE("OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0),
    SHAPE("value with a tab and high bytes", "GET / HTTP/1.1\r\n" H "X: a\tb\x80\xff\r\n\r\n", 0),
    SHAPE("empty value", "GET / HTTP/1.1\r\n" H "X:\r\n\r\n", 0),
    SHAPE("value of blanks", "GET / HTTP/1.1\r\n" H "X:  \t \r\n\r\n", 0),
    SHAPE("Host with a port", "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", 0),
    SHAPE("Host is IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0),
    SHAPE("Expect 100-continue", "POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n", 0),
    SHAPE("Expect is ignored in 1.0", "POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", 0),
    SHAPE("length with leading zeros", "POST / HTTP/1.1\r\n" H "Content-Length: 007\r\n\r\n", 0),
    SHAPE("target with braces and bars", "GET /{a}|b HTTP/1.1\r\n" H "\r\n", 0),

    SHAPE("length and chunked", "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
          400),
    SHAPE("chunked and length", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
          400),
    SHAPE("two lengths that differ", "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
          400),
    SHAPE("two lengths that agree", "POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 4\r\n\r\n", 400),
    SHAPE("a list of lengths", "POST / HTTP/1.1\r\n" H "Content-Length: 7, 7\r\n\r\n", 400),
    SHAPE("length with a plus", "POST / HTTP/1.1\r\n" H "Content-Length: +7\r\n\r\n", 400),
    SHAPE("length with a minus", "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400),
    SHAPE("length in hex", "POST / HTTP/1.1\r\n" H "Content-Length: 0x7\r\n\r\n", 400),
    SHAPE("length that overflows", "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n", 400),
    SHAPE("length over the signed range", "POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n",
          400),
    SHAPE("empty length", "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400),
    SHAPE("length with a blank inside", "POST / HTTP/1.1\r\n" H "Content-Length: 1 2\r\n\r\n", 400),
    SHAPE("space before the colon", "POST / HTTP/1.1\r\n" H "Content-Length : 4\r\n\r\n", 400),
    SHAPE("tab before the colon", "POST / HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n", 400),
    SHAPE("folded line", "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", 400),
    SHAPE("fold before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    SHAPE("bare LF at the end of a header", "GET / HTTP/1.1\r\n" H "X: a\nY: b\r\n\r\n", 400),
    SHAPE("bare LF in the first line", "GET / HTTP/1.1\n" H "\r\n", 400),
    SHAPE("only bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400),
    SHAPE("bare LF for the empty line", "GET / HTTP/1.1\r\n" H "\n", 400),
    SHAPE("bare CR in a value", "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", 400),
    SHAPE("NUL in a value", "GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n", 400),
    SHAPE("NUL in a name", "GET / HTTP/1.1\r\n" H "X\0: a\r\n\r\n", 400),
    SHAPE("DEL in a value", "GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n", 400),
    SHAPE("escape in a value", "GET / HTTP/1.1\r\n" H "X: a\x1b\r\n\r\n", 400),
    SHAPE("high byte in a name", "GET / HTTP/1.1\r\n" H "X\x80: a\r\n\r\n", 400),
    SHAPE("header without a colon", "GET / HTTP/1.1\r\n" H "X\r\n\r\n", 400),
    SHAPE("empty name", "GET / HTTP/1.1\r\n" H ": a\r\n\r\n", 400),
    SHAPE("TE xchunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 501),
    SHAPE("TE identity, chunked", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity, chunked\r\n\r\n", 501),
    SHAPE("TE chunked, gzip", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, gzip\r\n\r\n", 501),
    SHAPE("TE quoted", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", 501),
    SHAPE("TE with a vertical tab", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \vchunked\r\n\r\n", 400),
    SHAPE("TE twice", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
          400),
    SHAPE("TE empty", "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", 400),
    SHAPE("TE in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    SHAPE("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
    SHAPE("two Hosts", "GET / HTTP/1.1\r\n" H H "\r\n", 400),
    SHAPE("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" H H "\r\n", 400),
    SHAPE("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    SHAPE("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    SHAPE("Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    SHAPE("Host with a comma", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    SHAPE("Host with a bad port", "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400),
    SHAPE("Host with a port of six digits", "GET / HTTP/1.1\r\nHost: a:100000\r\n\r\n", 400),
    SHAPE("Host with an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    SHAPE("Host of brackets alone", "GET / HTTP/1.1\r\nHost: []\r\n\r\n", 400),
    SHAPE("Host with text behind the bracket", "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400),
    SHAPE("absolute target, other host", "GET http://b/ HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("absolute target, user", "GET http://u@a/ HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("absolute target, no host", "GET http:/// HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("absolute target, other scheme", "GET ftp://a/ HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("target without a slash", "GET x HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("target *, not OPTIONS", "GET * HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    SHAPE("fragment in the target", "GET /a#b HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("control byte in the target", "GET /a\tb HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("NUL in the target", "GET /a\0b HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("high byte in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("space in the target", "GET /a b HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("two spaces after the method", "GET  / HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("two spaces before the version", "GET /  HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("space after the version", "GET / HTTP/1.1 \r\n" H "\r\n", 400),
    SHAPE("tab after the method", "GET\t/ HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("space before the method", " GET / HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("no method", "/ HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("method of 33 bytes", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("HTTP/0.9", "GET /\r\n\r\n", 400),
    SHAPE("HTTP/0.9 spelt out", "GET / HTTP/0.9\r\n" H "\r\n", 505),
    SHAPE("HTTP/1.2", "GET / HTTP/1.2\r\n" H "\r\n", 505),
    SHAPE("HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", 400),
    SHAPE("HTTP/2.0 on a path", "GET / HTTP/2.0\r\n" H "\r\n", 505),
    SHAPE("HTTP/11", "GET / HTTP/11\r\n" H "\r\n", 400),
    SHAPE("HTTP/1.10", "GET / HTTP/1.10\r\n" H "\r\n", 400),
    SHAPE("http/1.1", "GET / http/1.1\r\n" H "\r\n", 400),
    SHAPE("Expect something else", "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", 417),
    SHAPE("only an empty line", "\r\n\r\n", 400),
    SHAPE("empty line first", "\r\nGET / HTTP/1.1\r\n" H "\r\n", 400),
    SHAPE("CR CR LF", "GET / HTTP/1.1\r\r\n" H "\r\n", 400),
};

/* A copy with nothing behind it, so that a sanitizer sees a read past the end. */
static char *copy_of(const char *p, size_t n)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    return copy;
}

static void each_request_shape_is_taken_or_refused_with_its_status(void **state)
{
    (void)state;
    static struct http1_head h;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        char *in = copy_of(shapes[i].in, shapes[i].n);
        int status = 0;
        const char *why = NULL;
        pd_err err = http1_request(span_of(in, shapes[i].n), &h, &status, &why);
        if ((err ? status : 0) != shapes[i].status)
            fail_msg("%s: answered %d (%s), not %d", shapes[i].name, err ? status : 0, why ? why : "taken",
                     shapes[i].status);
        if (err)
            assert_non_null(why);
        free(in);
    }
}

/* What is cut short is never taken, and never read past. */
static void no_part_of_a_head_is_taken(void **state)
{
    (void)state;
    static struct http1_head h;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (size_t n = 0; n < shapes[i].n; n++) {
            char *in = copy_of(shapes[i].in, n);
            int status = 0;
            const char *why = NULL;
            if (!http1_request(span_of(in, n), &h, &status, &why))
                fail_msg("%s: taken after %zu of %zu bytes", shapes[i].name, n, shapes[i].n);
            free(in);
        }
}

static void a_head_ends_at_the_same_byte_however_it_arrives(void **state)
{
    (void)state;
    static const char tail[] = "GET /next HTTP/1.1\r\n\r\n";
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        char all[600];
        size_t n = shapes[i].n + sizeof(tail) - 1;
        memcpy(all, shapes[i].in, shapes[i].n);
        memcpy(all + shapes[i].n, tail, sizeof(tail) - 1);
        size_t seen = 0, whole = http1_head_size(span_of(all, n), &seen);
        assert_true(whole > 0 && whole <= shapes[i].n);

        size_t at = 0, dripped = 0;
        for (seen = 0; at <= n && !dripped; at++)
            dripped = http1_head_size(span_of(all, at), &seen);
        assert_int_equal(dripped, whole);
        assert_int_equal(at - 1, whole); /* not a byte later than needed */

        for (size_t cut = 0; cut < n; cut++) {
            seen = 0;
            size_t size = http1_head_size(span_of(all, cut), &seen);
            if (!size)
                size = http1_head_size(span_of(all, n), &seen);
            assert_int_equal(size, whole);
        }
    }
}

static void a_hopeless_head_is_known_early_and_a_good_one_never_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        if (!shapes[i].status)
            for (size_t n = 0; n <= shapes[i].n; n++)
                for (size_t from = 0; from <= n; from++)
                    assert_false(http1_head_hopeless(span_of(shapes[i].in, n), from));

    static const struct shape early[] = {
        SHAPE("TLS hello", "\x16\x03\x01\x02", 1),
        SHAPE("empty line", "\r\n", 1),
        SHAPE("long word", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 1),
        SHAPE("bare LF", "GET / HTTP/1.1\nHo", 1),
        SHAPE("bare CR", "GET / HTTP/1.1\rHo", 1),
        SHAPE("NUL", "GET / HTTP/1.1\r\nX: \0", 1),
    };
    for (size_t i = 0; i < sizeof(early) / sizeof(early[0]); i++)
        if (!http1_head_hopeless(span_of(early[i].in, early[i].n), 0))
            fail_msg("%s: not seen", early[i].name);
}

static void a_request_is_taken_apart(void **state)
{
    (void)state;
    static struct http1_head h;
    int status;
    const char *why;
    struct span in =
        SPAN_LIT("POST http://Ex.org:81/a%20b?q=1 HTTP/1.1\r\nhost: ex.ORG:81\r\nX-A:  one two \t\r\n"
                 "Content-Length: 12\r\nConnection: foo, Close\r\nx-list: a\r\nX-List: ,b ,c\r\n\r\n");
    assert_int_equal(http1_request(in, &h, &status, &why), PD_OK);
    assert_true(span_is(h.method, "POST"));
    assert_true(span_is(h.target, "/a%20b?q=1"));
    assert_true(span_is(h.host, "Ex.org:81"));
    assert_int_equal(h.minor, 1);
    assert_int_equal(h.content_length, 12);
    assert_false(h.keep_alive);
    assert_false(h.chunked);
    assert_int_equal(h.fields_count, 6);
    assert_true(span_is(http1_get(&h, "x-a"), "one two"));
    assert_true(http1_get(&h, "x-b").p == NULL);
    assert_true(http1_has_token(&h, "X-LIST", "C"));
    assert_true(http1_has_token(&h, "X-LIST", "a"));
    assert_false(http1_has_token(&h, "X-LIST", ""));
    assert_false(http1_has_token(&h, "X-LIST", "d"));
    assert_int_equal(http1_request_framing(&h), HTTP1_LENGTH);

    struct span more = SPAN_LIT("GET / HTTP/1.0\r\n\r\nx"); /* a head and a byte is not a head */
    assert_int_equal(http1_request(more, &h, &status, &why), PD_SYNTAX);

    in = SPAN_LIT("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(http1_request(in, &h, &status, &why), PD_OK);
    assert_true(span_is(h.target, "/"));
    assert_true(h.target.p > in.p && h.target.p < in.p + in.n);
    assert_true(h.keep_alive);
    assert_int_equal(h.content_length, -1);
    assert_int_equal(http1_request_framing(&h), HTTP1_NO_BODY);

    in = SPAN_LIT("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_int_equal(http1_request(in, &h, &status, &why), PD_OK);
    assert_true(h.keep_alive);
    in = SPAN_LIT("GET / HTTP/1.0\r\n\r\n");
    assert_int_equal(http1_request(in, &h, &status, &why), PD_OK);
    assert_false(h.keep_alive);
}

static void too_many_fields_and_too_long_targets_have_their_own_status(void **state)
{
    (void)state;
    static struct http1_head h;
    for (int over = 0; over < 2; over++) {
        struct buf b;
        buf_init(&b, 0);
        assert_int_equal(buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\n"), PD_OK);
        for (int i = 1; i < HTTP1_FIELDS_MAX + over; i++)
            assert_int_equal(buf_printf(&b, "X-%d: y\r\n", i), PD_OK);
        assert_int_equal(buf_puts(&b, "\r\n"), PD_OK);
        int status = 0;
        const char *why;
        pd_err err = http1_request(buf_span(&b), &h, &status, &why);
        assert_int_equal(err, over ? PD_TOOBIG : PD_OK);
        assert_int_equal(status, over ? 431 : 0);
        buf_done(&b);

        assert_int_equal(buf_puts(&b, "GET /"), PD_OK);
        for (int i = 1; i < HTTP1_TARGET_MAX + over; i++)
            assert_int_equal(buf_puts(&b, "a"), PD_OK);
        assert_int_equal(buf_puts(&b, " HTTP/1.1\r\nHost: a\r\n\r\n"), PD_OK);
        status = 0;
        err = http1_request(buf_span(&b), &h, &status, &why);
        assert_int_equal(err, over ? PD_TOOBIG : PD_OK);
        assert_int_equal(status, over ? 414 : 0);
        buf_done(&b);
    }
}

/* ---- responses ---- */

static const struct {
    const char *name, *in;
    bool taken, head_request;
    enum http1_framing framing;
    int status;
} answers[] = {
    {"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, false, HTTP1_LENGTH, 200},
    {"length of nothing", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, false, HTTP1_LENGTH, 200},
    {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, false, HTTP1_CHUNKED, 200},
    {"until close", "HTTP/1.1 200 OK\r\n\r\n", true, false, HTTP1_UNTIL_CLOSE, 200},
    {"answer to HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, true, HTTP1_NO_BODY, 200},
    {"204", "HTTP/1.1 204 No Content\r\n\r\n", true, false, HTTP1_NO_BODY, 204},
    {"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", true, false, HTTP1_NO_BODY, 304},
    {"interim", "HTTP/1.1 100 Continue\r\n\r\n", true, false, HTTP1_NO_BODY, 100},
    {"529", "HTTP/1.1 529 Overloaded\r\n\r\n", true, false, HTTP1_UNTIL_CLOSE, 529},
    {"empty reason", "HTTP/1.1 200 \r\n\r\n", true, false, HTTP1_UNTIL_CLOSE, 200},
    {"no reason and no space", "HTTP/1.1 200\r\n\r\n", true, false, HTTP1_UNTIL_CLOSE, 200},
    {"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", true, false, HTTP1_UNTIL_CLOSE, 200},
    {"two digits", "HTTP/1.1 20 OK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"four digits", "HTTP/1.1 2000 OK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"status 600", "HTTP/1.1 600 OK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"status 099", "HTTP/1.1 099 OK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"not HTTP", "ICY 200 OK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"bare LF", "HTTP/1.1 200 OK\n\n", false, false, HTTP1_NO_BODY, 0},
    {"bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", false, false,
     HTTP1_NO_BODY, 0},
    {"length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", false,
     false, HTTP1_NO_BODY, 0},
    {"gzip coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
    {"folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, false, HTTP1_NO_BODY, 0},
};

static void each_response_is_taken_with_its_framing_or_refused(void **state)
{
    (void)state;
    static struct http1_head h;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        const char *why = NULL;
        size_t n = strlen(answers[i].in);
        for (size_t cut = 0; cut < n; cut++) {
            char *in = copy_of(answers[i].in, cut);
            assert_int_not_equal(http1_response(span_of(in, cut), &h, &why), PD_OK);
            free(in);
        }
        pd_err err = http1_response(span_str(answers[i].in), &h, &why);
        if (!err != answers[i].taken)
            fail_msg("%s: %s", answers[i].name, err ? why : "taken");
        if (err)
            continue;
        assert_int_equal(h.status, answers[i].status);
        if (http1_response_framing(&h, answers[i].head_request) != answers[i].framing)
            fail_msg("%s: framing %d", answers[i].name, (int)http1_response_framing(&h, answers[i].head_request));
    }
    assert_string_equal(http1_reason(404), "Not Found");
    assert_string_equal(http1_reason(299), "");
}

/* ---- bodies ---- */

#define BODY(name, in, out, rest, err)           \
    {                                            \
        name, in, sizeof(in) - 1, out, rest, err \
    }
static const struct {
    const char *name, *in;
    size_t n;
    const char *out;
    size_t rest; /* bytes behind the body */
    pd_err err;  /* PD_CUT: not at its end */
} bodies[] = {
    BODY("one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello", 0, PD_OK),
    BODY("two chunks and more behind", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", "abcde", 3, PD_OK),
    BODY("nothing", "0\r\n\r\n", "", 0, PD_OK),
    BODY("many zeros", "0005\r\nhello\r\n000\r\n\r\n", "hello", 0, PD_OK),
    BODY("hex in both cases", "a\r\n0123456789\r\nB\r\n01234567890\r\n0\r\n\r\n", "012345678901234567890", 0,
         PD_OK),
    BODY("extension", "5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", "hello", 0, PD_OK),
    BODY("blank before an extension", "5 ;a\r\nhello\r\n0\r\n\r\n", "hello", 0, PD_OK),
    BODY("trailers", "1\r\na\r\n0\r\nX-Sum: 5\r\nY:\r\n\r\n", "a", 0, PD_OK),
    BODY("data that looks like framing", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", 0, PD_OK),
    BODY("cut in data", "5\r\nhel", "hel", 0, PD_CUT),
    BODY("cut before the last empty line", "1\r\na\r\n0\r\n", "a", 0, PD_CUT),
    BODY("no size", "\r\nhello", "", 0, PD_SYNTAX),
    BODY("size with 0x", "0x5\r\nhello\r\n", "", 0, PD_SYNTAX),
    BODY("size with a plus", "+5\r\nhello\r\n", "", 0, PD_SYNTAX),
    BODY("size with a minus", "-5\r\nhello\r\n", "", 0, PD_SYNTAX),
    BODY("blank before the size", " 5\r\nhello\r\n", "", 0, PD_SYNTAX),
    BODY("blank behind the size", "5 \r\nhello\r\n", "", 0, PD_SYNTAX),
    BODY("size with a blank inside", "1 0\r\nhello\r\n", "", 0, PD_SYNTAX),
    BODY("bare LF behind the size", "5\nhello\r\n0\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "hello", 0, PD_SYNTAX),
    BODY("data longer than its size", "5\r\nhelloX\r\n0\r\n\r\n", "hello", 0, PD_SYNTAX),
    BODY("data shorter than its size", "6\r\nhello\r\n0\r\n\r\n", "hello\r", 0, PD_SYNTAX),
    BODY("size that overflows", "10000000000000005\r\nhello\r\n", "", 0, PD_TOOBIG),
    BODY("size of 64 bits", "ffffffffffffffff\r\nhello\r\n", "", 0, PD_TOOBIG),
    BODY("bare LF as the last line", "0\r\n\n", "", 0, PD_SYNTAX),
    BODY("trailer without a colon", "0\r\nX\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("folded trailer", "0\r\nX: a\r\n b\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("bare LF in a trailer", "0\r\nX: a\n\r\n", "", 0, PD_SYNTAX),
    BODY("blank before the colon of a trailer", "0\r\nX : a\r\n\r\n", "", 0, PD_SYNTAX),
    BODY("trailer with an empty name", "0\r\n: a\r\n\r\n", "", 0, PD_SYNTAX),
};

struct taken {
    struct http1_body body;
    char out[64];
    size_t out_n, rest;
    pd_err err;
};

static void take(struct taken *t, const char *p, size_t n)
{
    char *in = copy_of(p, n);
    size_t at = 0;
    while (!t->err && at < n && !t->body.done) {
        size_t used = 0;
        struct span data;
        t->err = http1_body_step(&t->body, span_of(in + at, n - at), &used, &data);
        if (t->err)
            break;
        assert_true(used > 0 && used <= n - at);
        memcpy(t->out + t->out_n, data.p, data.n);
        t->out_n += data.n;
        at += used;
    }
    if (!t->err)
        t->rest += n - at;
    free(in);
}

static void check_taken(const struct taken *t, size_t i, const char *how)
{
    pd_err err = t->err ? t->err : http1_body_eof(&t->body);
    if (err != bodies[i].err)
        fail_msg("%s %s: %s", bodies[i].name, how, pd_err_name(err));
    if (!span_is(span_of(t->out, t->out_n), bodies[i].out))
        fail_msg("%s %s: got \"%.*s\"", bodies[i].name, how, (int)t->out_n, t->out);
    if (!err)
        assert_int_equal(t->rest, bodies[i].rest);
}

static void chunked_bodies_are_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct taken t;
        for (size_t cut = 0; cut <= bodies[i].n; cut++) {
            t = (struct taken){0};
            http1_body_init(&t.body, HTTP1_CHUNKED, -1);
            take(&t, bodies[i].in, cut);
            take(&t, bodies[i].in + cut, bodies[i].n - cut);
            check_taken(&t, i, "in two");
        }
        t = (struct taken){0};
        http1_body_init(&t.body, HTTP1_CHUNKED, -1);
        for (size_t at = 0; at < bodies[i].n; at++)
            take(&t, bodies[i].in + at, 1);
        check_taken(&t, i, "byte by byte");
    }
}

static void endless_chunk_lines_and_trailers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *before, *again;
        unsigned most;
    } rows[] = {
        {"5;", "x", HTTP1_CHUNK_LINE_MAX},
        {"", "0", HTTP1_CHUNK_LINE_MAX},
        {"0\r\nX:", "x", HTTP1_TRAILER_MAX},
        {"0\r\n", "a:b\r\n", HTTP1_TRAILER_MAX * 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http1_body b;
        http1_body_init(&b, HTTP1_CHUNKED, -1);
        size_t used;
        struct span data;
        assert_int_equal(http1_body_step(&b, span_str(rows[i].before), &used, &data), PD_OK);
        pd_err err = PD_OK;
        unsigned n = 0;
        for (; !err && n <= rows[i].most; n++)
            err = http1_body_step(&b, span_str(rows[i].again), &used, &data);
        assert_int_equal(err, PD_TOOBIG);
    }
}

static void each_chunk_line_has_the_limit_to_itself(void **state)
{
    (void)state;
    struct http1_body b;
    http1_body_init(&b, HTTP1_CHUNKED, -1);
    size_t used, bytes = 0;
    for (int i = 0; i < 3 * HTTP1_CHUNK_LINE_MAX; i++)
        for (struct span in = SPAN_LIT("01;e\r\nx\r\n"), data; in.n; in = span_from(in, used), bytes += data.n)
            assert_int_equal(http1_body_step(&b, in, &used, &data), PD_OK);
    assert_int_equal(bytes, 3 * HTTP1_CHUNK_LINE_MAX);
}

static void other_framings_end_where_they_should(void **state)
{
    (void)state;
    struct http1_body b;
    size_t used;
    struct span data;

    http1_body_init(&b, HTTP1_LENGTH, 5);
    assert_int_equal(http1_body_step(&b, SPAN_LIT("abc"), &used, &data), PD_OK);
    assert_int_equal(used, 3);
    assert_false(b.done);
    assert_int_equal(http1_body_eof(&b), PD_CUT);
    assert_int_equal(http1_body_step(&b, SPAN_LIT("defg"), &used, &data), PD_OK);
    assert_int_equal(used, 2);
    assert_true(span_is(data, "de"));
    assert_true(b.done);
    assert_int_equal(http1_body_eof(&b), PD_OK);
    assert_int_equal(http1_body_step(&b, SPAN_LIT("x"), &used, &data), PD_OK);
    assert_int_equal(used, 0);

    http1_body_init(&b, HTTP1_UNTIL_CLOSE, -1);
    assert_int_equal(http1_body_step(&b, SPAN_LIT("abc"), &used, &data), PD_OK);
    assert_int_equal(used, 3);
    assert_false(b.done);
    assert_int_equal(http1_body_eof(&b), PD_OK);

    http1_body_init(&b, HTTP1_NO_BODY, 5);
    assert_true(b.done);
    http1_body_init(&b, HTTP1_LENGTH, 0);
    assert_true(b.done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_shape_is_taken_or_refused_with_its_status),
        cmocka_unit_test(no_part_of_a_head_is_taken),
        cmocka_unit_test(a_head_ends_at_the_same_byte_however_it_arrives),
        cmocka_unit_test(a_hopeless_head_is_known_early_and_a_good_one_never_is),
        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(too_many_fields_and_too_long_targets_have_their_own_status),
        cmocka_unit_test(each_response_is_taken_with_its_framing_or_refused),
        cmocka_unit_test(chunked_bodies_are_the_same_at_every_split),
        cmocka_unit_test(endless_chunk_lines_and_trailers_are_refused),
        cmocka_unit_test(each_chunk_line_has_the_limit_to_itself),
        cmocka_unit_test(other_framings_end_where_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
