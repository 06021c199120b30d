#include "parse/http1.h"

#include <assert.h>

/* What a byte may be part of. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, HOST = 8, DIGIT = 16, HEX = 32 };

#define ALPHA_ROW(b) [b] = TOKEN | VALUE | TARGET | HOST
#define HEXA_ROW(b) [b] = TOKEN | VALUE | TARGET | HOST | HEX
#define DIGIT_ROW(b) [b] = TOKEN | VALUE | TARGET | HOST | DIGIT | HEX

#define HIGH_FOUR(b) [b] = VALUE, [(b) + 1] = VALUE, [(b) + 2] = VALUE, [(b) + 3] = VALUE
#define HIGH_ROW(b) HIGH_FOUR(b), HIGH_FOUR((b) + 4), HIGH_FOUR((b) + 8), HIGH_FOUR((b) + 12)

/* RFC 9110 section 5.6.2 (token), 5.5 (field value: no control bytes but the tab), RFC 3986 for hosts. A target takes every
 * visible ASCII byte but '#': clients do send '|' and '{', and nothing behind us is confused by them. */
static const uint8_t kinds[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | VALUE | TARGET | HOST,
    ['"'] = VALUE | TARGET,
    ['#'] = TOKEN | VALUE,
    ['$'] = TOKEN | VALUE | TARGET | HOST,
    ['%'] = TOKEN | VALUE | TARGET | HOST,
    ['&'] = TOKEN | VALUE | TARGET | HOST,
    ['\''] = TOKEN | VALUE | TARGET | HOST,
    ['('] = VALUE | TARGET | HOST,
    [')'] = VALUE | TARGET | HOST,
    ['*'] = TOKEN | VALUE | TARGET | HOST,
    ['+'] = TOKEN | VALUE | TARGET | HOST,
    [','] = VALUE | TARGET,
    ['-'] = TOKEN | VALUE | TARGET | HOST,
    ['.'] = TOKEN | VALUE | TARGET | HOST,
    ['/'] = VALUE | TARGET,
    DIGIT_ROW('0'),
    DIGIT_ROW('1'),
    DIGIT_ROW('2'),
    DIGIT_ROW('3'),
    DIGIT_ROW('4'),
    DIGIT_ROW('5'),
    DIGIT_ROW('6'),
    DIGIT_ROW('7'),
    DIGIT_ROW('8'),
    DIGIT_ROW('9'),
    [':'] = VALUE | TARGET,
    [';'] = VALUE | TARGET | HOST,
    ['<'] = VALUE | TARGET,
    ['='] = VALUE | TARGET | HOST,
    ['>'] = VALUE | TARGET,
    ['?'] = VALUE | TARGET,
    ['@'] = VALUE | TARGET,
    HEXA_ROW('A'),
    HEXA_ROW('B'),
    HEXA_ROW('C'),
    HEXA_ROW('D'),
    HEXA_ROW('E'),
    HEXA_ROW('F'),
    ALPHA_ROW('G'),
    ALPHA_ROW('H'),
    ALPHA_ROW('I'),
    ALPHA_ROW('J'),
    ALPHA_ROW('K'),
    ALPHA_ROW('L'),
    ALPHA_ROW('M'),
    ALPHA_ROW('N'),
    ALPHA_ROW('O'),
    ALPHA_ROW('P'),
    ALPHA_ROW('Q'),
    ALPHA_ROW('R'),
    ALPHA_ROW('S'),
    ALPHA_ROW('T'),
    ALPHA_ROW('U'),
    ALPHA_ROW('V'),
    ALPHA_ROW('W'),
    ALPHA_ROW('X'),
    ALPHA_ROW('Y'),
    ALPHA_ROW('Z'),
    ['['] = VALUE | TARGET,
    ['\\'] = VALUE | TARGET,
    [']'] = VALUE | TARGET,
    ['^'] = TOKEN | VALUE | TARGET,
    ['_'] = TOKEN | VALUE | TARGET | HOST,
    ['`'] = TOKEN | VALUE | TARGET,
    HEXA_ROW('a'),
    HEXA_ROW('b'),
    HEXA_ROW('c'),
    HEXA_ROW('d'),
    HEXA_ROW('e'),
    HEXA_ROW('f'),
    ALPHA_ROW('g'),
    ALPHA_ROW('h'),
    ALPHA_ROW('i'),
    ALPHA_ROW('j'),
    ALPHA_ROW('k'),
    ALPHA_ROW('l'),
    ALPHA_ROW('m'),
    ALPHA_ROW('n'),
    ALPHA_ROW('o'),
    ALPHA_ROW('p'),
    ALPHA_ROW('q'),
    ALPHA_ROW('r'),
    ALPHA_ROW('s'),
    ALPHA_ROW('t'),
    ALPHA_ROW('u'),
    ALPHA_ROW('v'),
    ALPHA_ROW('w'),
    ALPHA_ROW('x'),
    ALPHA_ROW('y'),
    ALPHA_ROW('z'),
    ['{'] = VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['~'] = TOKEN | VALUE | TARGET | HOST,
    HIGH_ROW(0x80),
    HIGH_ROW(0x90),
    HIGH_ROW(0xa0),
    HIGH_ROW(0xb0),
    HIGH_ROW(0xc0),
    HIGH_ROW(0xd0),
    HIGH_ROW(0xe0),
    HIGH_ROW(0xf0),
};

static bool is(char c, int kind)
{
    return (kinds[(uint8_t)c] & kind) != 0;
}

static bool all(struct span s, int kind)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is(s.p[i], kind))
            return false;
    return true;
}

/* ---- finding the end of a head ---- */

size_t http1_head_size(struct span in, size_t *seen)
{
    size_t at = *seen;
    while (at < in.n) {
        const char *lf = memchr(in.p + at, '\n', in.n - at);
        if (!lf)
            break;

        size_t next = (size_t)(lf - in.p) + 1;
        /* A bare LF ends a line here too, so that such a head is refused now and not at a deadline. */
        if (next < in.n && in.p[next] == '\n')
            return next + 1;
        if (next + 1 < in.n && in.p[next] == '\r' && in.p[next + 1] == '\n')
            return next + 2;
        if (next >= in.n || (next + 1 >= in.n && in.p[next] == '\r')) {
            *seen = next - 1;
            return 0;
        }
        at = next;
    }
    *seen = in.n;
    return 0;
}

bool http1_head_hopeless(struct span in, size_t from)
{
    if (from == 0)
        for (size_t i = 0; i < in.n && in.p[i] != ' '; i++)
            if (!is(in.p[i], TOKEN) || i >= HTTP1_METHOD_MAX)
                return true;

    for (size_t i = from; i < in.n; i++) {
        char c = in.p[i];
        if (is(c, VALUE))
            continue;
        if (c == '\n' ? (i == 0 || in.p[i - 1] != '\r') : c == '\r' ? (i + 1 < in.n && in.p[i + 1] != '\n') : true)
            return true;
    }
    return false;
}

/* ---- fields ---- */

struct reader {
    const char *p, *end;
    bool request;
    int status;
    const char *why;
    unsigned hosts, lengths, codings;
    bool said_close, said_keep_alive;
};

static pd_err refuse(struct reader *r, pd_err err, int status, const char *why)
{
    r->status = status;
    r->why = why;
    return err;
}

static pd_err bad(struct reader *r, const char *why)
{
    return refuse(r, PD_SYNTAX, 400, why);
}

static bool at_line_end(const struct reader *r)
{
    return r->end - r->p >= 2 && r->p[0] == '\r' && r->p[1] == '\n';
}

/* Each element of a comma-separated list; false when there is none left. */
static bool next_element(struct span *list, struct span *ret)
{
    while (list->p) {
        struct span e = span_trim(span_cut(list, ','));
        if (e.n) {
            *ret = e;
            return true;
        }
    }
    return false;
}

static bool list_has(struct span list, const char *token)
{
    for (struct span e; next_element(&list, &e);)
        if (span_iis(e, token))
            return true;
    return false;
}

static bool host_ok(struct span s)
{
    if (!s.n)
        return false;

    struct span name = s, port = SPAN_NONE;
    if (s.p[0] == '[') {
        const char *close = memchr(s.p, ']', s.n);
        if (!close || close == s.p + 1)
            return false;
        for (const char *c = s.p + 1; c < close; c++)
            if (!is(*c, HEX) && *c != ':' && *c != '.')
                return false;
        port = span_from(s, (size_t)(close - s.p) + 1);
        if (port.n && port.p[0] != ':')
            return false;
        return all(span_from(port, 1), DIGIT) && port.n <= 6;
    }

    const char *colon = memchr(s.p, ':', s.n);
    if (colon) {
        name.n = (size_t)(colon - s.p);
        port = span_from(s, name.n + 1);
    }
    return name.n && all(name, HOST) && all(port, DIGIT) && port.n <= 5;
}

static pd_err know_length(struct reader *r, struct http1_head *h, struct span value)
{
    uint64_t n;
    if (++r->lengths > 1)
        return bad(r, "Content-Length is given more than once.");
    if (!value.n || !all(value, DIGIT) || !span_u64(value, &n) || n > INT64_MAX)
        return bad(r, "Content-Length is not a number.");
    h->content_length = (int64_t)n;
    return PD_OK;
}

static pd_err know_coding(struct reader *r, struct http1_head *h, struct span value)
{
    if (++r->codings > 1)
        return bad(r, "Transfer-Encoding is given more than once.");
    if (!value.n)
        return bad(r, "Transfer-Encoding is empty.");
    if (!span_iis(value, "chunked"))
        return refuse(r, PD_UNSUPPORTED, 501, "Transfer-Encoding is not understood: only \"chunked\" is.");
    h->chunked = true;
    return PD_OK;
}

static pd_err know_host(struct reader *r, struct http1_head *h, struct span value)
{
    if (!r->request)
        return PD_OK;
    if (++r->hosts > 1)
        return bad(r, "Host is given more than once.");
    if (!host_ok(value))
        return bad(r, "Host is not a host name with an optional port.");
    h->host = value;
    return PD_OK;
}

static pd_err know_expect(struct reader *r, struct http1_head *h, struct span value)
{
    if (!r->request || h->minor == 0)
        return PD_OK; /* RFC 9110 section 10.1.1: ignored in HTTP/1.0 */
    if (!span_iis(value, "100-continue"))
        return refuse(r, PD_UNSUPPORTED, 417, "Expect is not understood: only \"100-continue\" is.");
    h->expect_continue = true;
    return PD_OK;
}

/* The few fields that say how the message is framed. */
static pd_err know(struct reader *r, struct http1_head *h, const struct http1_field *f)
{
    switch (f->name.n) {
    case 4:
        return span_iis(f->name, "host") ? know_host(r, h, f->value) : PD_OK;
    case 6:
        return span_iis(f->name, "expect") ? know_expect(r, h, f->value) : PD_OK;
    case 10:
        if (span_iis(f->name, "connection")) {
            r->said_close |= list_has(f->value, "close");
            r->said_keep_alive |= list_has(f->value, "keep-alive");
        }
        return PD_OK;
    case 14:
        return span_iis(f->name, "content-length") ? know_length(r, h, f->value) : PD_OK;
    case 17:
        return span_iis(f->name, "transfer-encoding") ? know_coding(r, h, f->value) : PD_OK;
    default:
        return PD_OK;
    }
}

static pd_err read_field(struct reader *r, struct http1_head *h)
{
    if (h->fields_count == HTTP1_FIELDS_MAX)
        return refuse(r, PD_TOOBIG, 431, "There are more than 100 header fields.");

    struct http1_field *f = &h->fields[h->fields_count];
    const char *start = r->p;
    while (r->p < r->end && is(*r->p, TOKEN))
        r->p++;
    if (r->p == start)
        return bad(r, is(*r->p, VALUE) && (*r->p == ' ' || *r->p == '\t')
                          ? "A header line starts with a blank (line folding)."
                          : "A header name is empty or holds a byte that is not allowed.");
    if (r->p == r->end || *r->p != ':')
        return bad(r, "A header name is not followed by a colon at once.");
    f->name = span_of(start, (size_t)(r->p - start));

    r->p++;
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t'))
        r->p++;
    start = r->p;
    while (r->p < r->end && is(*r->p, VALUE))
        r->p++;
    if (!at_line_end(r))
        return bad(r, "A header value holds a control byte, or a line does not end in CR LF.");

    const char *end = r->p;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    f->value = span_of(start, (size_t)(end - start));
    r->p += 2;
    h->fields_count++;
    return know(r, h, f);
}

static pd_err read_fields(struct reader *r, struct http1_head *h)
{
    h->content_length = -1;
    h->chunked = h->expect_continue = false;
    h->host = SPAN_NONE;
    h->fields_count = 0;
    while (r->p < r->end && *r->p != '\r') {
        pd_err err = read_field(r, h);
        if (err)
            return err;
    }
    if (!at_line_end(r) || r->p + 2 != r->end)
        return bad(r, "The head does not end in an empty line, or a line does not end in CR LF.");

    if (h->chunked && h->content_length >= 0)
        return bad(r, "Content-Length and Transfer-Encoding are both given.");
    if (h->chunked && h->minor == 0)
        return bad(r, "Transfer-Encoding is not part of HTTP/1.0.");
    h->keep_alive = !r->said_close && (h->minor == 1 || r->said_keep_alive);
    return PD_OK;
}

/* "HTTP/1.1"; the caller knows that 8 bytes are there. */
static pd_err read_version(struct reader *r, struct http1_head *h)
{
    const char *v = r->p;
    if (r->end - v < 8 || memcmp(v, "HTTP/", 5) != 0 || !is(v[5], DIGIT) || v[6] != '.' || !is(v[7], DIGIT))
        return bad(r, "The first line does not name an HTTP version.");
    if (v[5] != '1' || v[7] > '1')
        return refuse(r, PD_UNSUPPORTED, 505, "The HTTP version is not 1.0 or 1.1.");
    h->minor = v[7] - '0';
    r->p += 8;
    return PD_OK;
}

/* ---- requests ---- */

/* "http://host:port/path" is what a client sends to a proxy; a server must take it too (RFC 9112 section 3.2.2). */
static pd_err split_absolute(struct reader *r, struct http1_head *h, struct span *ret_authority)
{
    struct span t = h->target;
    size_t scheme = span_iis(span_upto(t, 7), "http://") ? 7 : span_iis(span_upto(t, 8), "https://") ? 8 : 0;
    if (!scheme)
        return bad(r, "The request target is neither a path nor an http URL.");

    struct span rest = span_from(t, scheme);
    const char *slash = memchr(rest.p, '/', rest.n);
    struct span authority = slash ? span_upto(rest, (size_t)(slash - rest.p)) : rest;
    if (!host_ok(authority))
        return bad(r, "The request target names no valid host.");
    *ret_authority = authority;
    /* Without a path it is "/": one of the two slashes before the host, since spans point into the head. */
    h->target = slash ? span_from(rest, authority.n) : span_of(rest.p - 1, 1);
    return PD_OK;
}

static pd_err read_target(struct reader *r, struct http1_head *h, struct span *ret_authority)
{
    const char *start = r->p;
    while (r->p < r->end && is(*r->p, TARGET))
        r->p++;
    h->target = span_of(start, (size_t)(r->p - start));
    if (!h->target.n || r->p == r->end || *r->p != ' ')
        return bad(r, "The request target is missing or holds a byte that is not allowed.");
    if (h->target.n > HTTP1_TARGET_MAX)
        return refuse(r, PD_TOOBIG, 414, "The request target is longer than 8192 bytes.");
    r->p++;

    if (span_is(h->method, "CONNECT"))
        return refuse(r, PD_UNSUPPORTED, 501, "CONNECT is not supported: this is not a proxy.");
    if (h->target.p[0] == '/')
        return PD_OK;
    if (span_is(h->target, "*"))
        return span_is(h->method, "OPTIONS") ? PD_OK : bad(r, "The request target \"*\" is for OPTIONS only.");
    return split_absolute(r, h, ret_authority);
}

static pd_err read_request(struct reader *r, struct http1_head *h)
{
    const char *start = r->p;
    while (r->p < r->end && is(*r->p, TOKEN))
        r->p++;
    h->method = span_of(start, (size_t)(r->p - start));
    if (!h->method.n || r->p == r->end || *r->p != ' ')
        return bad(r, "The first line does not start with a method and a space.");
    if (h->method.n > HTTP1_METHOD_MAX)
        return bad(r, "The method is longer than any that is known.");
    r->p++;

    struct span authority = SPAN_NONE;
    pd_err err = read_target(r, h, &authority);
    if (!err)
        err = read_version(r, h);
    if (err)
        return err;
    if (!at_line_end(r))
        return bad(r, "The first line does not end in CR LF after the version.");
    r->p += 2;

    err = read_fields(r, h);
    if (err)
        return err;
    if (h->minor == 1 && !r->hosts)
        return bad(r, "Host is missing.");
    if (authority.p && h->host.p && !span_ieq(authority, h->host))
        return bad(r, "Host and the host of the request target differ.");
    if (authority.p)
        h->host = authority;
    return PD_OK;
}

pd_err http1_request(struct span head, struct http1_head *ret, int *ret_status, const char **ret_why)
{
    struct reader r = {.p = head.p, .end = head.p + head.n, .request = true};
    ret->request = true;
    ret->status = 0;
    ret->reason = SPAN_NONE;
    pd_err err = read_request(&r, ret);
    if (err) {
        *ret_status = r.status;
        *ret_why = r.why;
    }
    return err;
}

/* ---- responses ---- */

static pd_err read_status_line(struct reader *r, struct http1_head *h)
{
    pd_err err = read_version(r, h);
    if (err)
        return err;
    if (r->end - r->p < 4 || r->p[0] != ' ' || !is(r->p[1], DIGIT) || !is(r->p[2], DIGIT) || !is(r->p[3], DIGIT))
        return bad(r, "The status line holds no three-digit status.");
    h->status = (r->p[1] - '0') * 100 + (r->p[2] - '0') * 10 + (r->p[3] - '0');
    if (h->status < 100 || h->status > 599)
        return bad(r, "The status is not in the range from 100 to 599.");
    r->p += 4;

    /* The space before an empty reason is required, and left out by some servers. */
    if (!at_line_end(r)) {
        if (r->p == r->end || *r->p != ' ')
            return bad(r, "The status is not followed by a space.");
        r->p++;
    }
    const char *start = r->p;
    while (r->p < r->end && is(*r->p, VALUE))
        r->p++;
    if (!at_line_end(r))
        return bad(r, "The reason holds a control byte, or the status line does not end in CR LF.");
    h->reason = span_of(start, (size_t)(r->p - start));
    r->p += 2;
    return PD_OK;
}

pd_err http1_response(struct span head, struct http1_head *ret, const char **ret_why)
{
    struct reader r = {.p = head.p, .end = head.p + head.n};
    ret->request = false;
    ret->method = ret->target = SPAN_NONE;
    pd_err err = read_status_line(&r, ret);
    if (!err)
        err = read_fields(&r, ret);
    if (err)
        *ret_why = r.why;
    return err;
}

/* ---- asking a head ---- */

struct span http1_find_name(const struct http1_field *fields, unsigned count, struct span name)
{
    for (unsigned i = 0; i < count; i++)
        if (span_ieq(fields[i].name, name))
            return fields[i].value;
    return SPAN_NONE;
}

bool http1_has_token(const struct http1_head *h, const char *name, const char *token)
{
    for (unsigned i = 0; i < h->fields_count; i++)
        if (span_iis(h->fields[i].name, name) && list_has(h->fields[i].value, token))
            return true;
    return false;
}

enum http1_framing http1_request_framing(const struct http1_head *h)
{
    return h->chunked ? HTTP1_CHUNKED : h->content_length > 0 ? HTTP1_LENGTH : HTTP1_NO_BODY;
}

enum http1_framing http1_response_framing(const struct http1_head *h, bool head_request)
{
    if (head_request || h->status < 200 || h->status == 204 || h->status == 304)
        return HTTP1_NO_BODY;
    if (h->chunked)
        return HTTP1_CHUNKED;
    return h->content_length >= 0 ? HTTP1_LENGTH : HTTP1_UNTIL_CLOSE;
}

const char *http1_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {103, "Early Hints"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {424, "Failed Dependency"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].status == status)
            return rows[i].reason;
    return "";
}
