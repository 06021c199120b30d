/* Strings and numbers: from their spelling to their value, and back. */
#include "parse/json_priv.h"

#include "parse/utf8.h"

#include <stdlib.h>

/* ---- escapes --------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int32_t json_hex4(const char *p)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(p[i]);
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static unsigned put_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | (c >> 6));
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | (c >> 12));
        out[1] = (char)(0x80 | ((c >> 6) & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (c >> 18));
    out[1] = (char)(0x80 | ((c >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((c >> 6) & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static bool high_surrogate(int32_t c)
{
    return c >= 0xd800 && c <= 0xdbff;
}

static bool low_surrogate(int32_t c)
{
    return c >= 0xdc00 && c <= 0xdfff;
}

/* p is after "\u". */
static struct json_char unicode_escape(const char *p, const char *end)
{
    struct json_char ch = {0};
    int32_t c = end - p >= 4 ? json_hex4(p) : -1;
    if (c < 0)
        return ch;
    ch.next = p + 4;
    if (high_surrogate(c) && end - ch.next >= 6 && ch.next[0] == '\\' && ch.next[1] == 'u') {
        int32_t low = json_hex4(ch.next + 2);
        if (low_surrogate(low)) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            ch.next += 6;
        }
    }
    if (high_surrogate(c) || low_surrogate(c))
        c = 0xfffd;
    ch.n = put_utf8((uint32_t)c, ch.utf8);
    return ch;
}

struct json_char json_escape(const char *p, const char *end)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    struct json_char ch = {0};
    if (end - p < 2)
        return ch;
    if (p[1] == 'u')
        return unicode_escape(p + 2, end);
    const char *at = p[1] ? strchr(from, p[1]) : NULL;
    if (!at)
        return ch;
    ch.utf8[0] = to[at - from];
    ch.n = 1;
    ch.next = p + 2;
    return ch;
}

/* ---- strings --------------------------------------------------------------- */

/* The escaped text equals the plain one? */
static bool same_text(struct span raw, const char *text, size_t n)
{
    const char *p = raw.p, *end = raw.p + raw.n;
    while (p < end) {
        struct json_char ch = {.next = p + 1, .utf8 = {*p}, .n = 1};
        if (*p == '\\')
            ch = json_escape(p, end);
        if (!ch.next || ch.n > n || memcmp(ch.utf8, text, ch.n) != 0)
            return false;
        p = ch.next;
        text += ch.n;
        n -= ch.n;
    }
    return n == 0;
}

bool json_key_unescapes_to(struct span raw_key, struct span key)
{
    return memchr(raw_key.p, '\\', raw_key.n) && same_text(raw_key, key.p, key.n);
}

struct span json_inner(struct json v)
{
    if (v.type != JSON_STRING || v.raw.n < 2)
        return SPAN_NONE;
    return span_of(v.raw.p + 1, v.raw.n - 2);
}

bool json_is(struct json v, const char *text)
{
    return v.type == JSON_STRING && json_key_is(json_inner(v), text);
}

pd_err json_text(struct json v, struct arena *a, struct span *ret)
{
    if (v.type != JSON_STRING)
        return PD_INVALID;
    struct span in = json_inner(v);
    const char *slash = in.n ? memchr(in.p, '\\', in.n) : NULL;
    if (!slash) {
        *ret = in;
        return PD_OK;
    }
    char *text = arena_alloc(a, in.n);
    if (!text)
        return PD_NOMEM;

    const char *p = in.p, *end = in.p + in.n;
    size_t n = 0;
    while (slash) {
        memcpy(text + n, p, (size_t)(slash - p));
        n += (size_t)(slash - p);
        struct json_char ch = json_escape(slash, end);
        if (!ch.next)
            return PD_SYNTAX;
        memcpy(text + n, ch.utf8, ch.n);
        n += ch.n;
        p = ch.next;
        slash = memchr(p, '\\', (size_t)(end - p));
    }
    memcpy(text + n, p, (size_t)(end - p));
    *ret = span_of(text, n + (size_t)(end - p));
    return PD_OK;
}

/* How many bytes at the start of s can stand in a JSON string as they are. */
static size_t plain_size(struct span s)
{
    size_t at = 0;
    while (at < s.n) {
        unsigned char c = (unsigned char)s.p[at];
        if (c < 0x20 || c == '"' || c == '\\')
            return at;
        size_t n = c < 0x80 ? 1 : utf8_next(span_of(s.p + at, s.n - at));
        if (n == 0)
            return at;
        at += n;
    }
    return at;
}

static pd_err put_special(struct buf *out, unsigned char c)
{
    switch (c) {
    case '"':
        return buf_puts(out, "\\\"");
    case '\\':
        return buf_puts(out, "\\\\");
    case '\b':
        return buf_puts(out, "\\b");
    case '\f':
        return buf_puts(out, "\\f");
    case '\n':
        return buf_puts(out, "\\n");
    case '\r':
        return buf_puts(out, "\\r");
    case '\t':
        return buf_puts(out, "\\t");
    default:
        break;
    }
    if (c >= 0x80)
        return buf_puts(out, "\xef\xbf\xbd");
    static const char hex[] = "0123456789abcdef";
    char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    return buf_add(out, span_of(escape, sizeof(escape)));
}

pd_err json_put_str(struct buf *out, struct span text)
{
    size_t before = buf_size(out);
    pd_err e = buf_reserve(out, text.n + 2);
    if (!e)
        e = buf_puts(out, "\"");
    while (!e && text.n) {
        size_t n = plain_size(text);
        e = buf_add(out, span_upto(text, n));
        text = span_from(text, n);
        if (!e && text.n) {
            e = put_special(out, (unsigned char)text.p[0]);
            text = span_from(text, 1);
        }
    }
    if (!e)
        e = buf_puts(out, "\"");
    if (e)
        out->tail = out->head + before;
    return e;
}

/* ---- numbers --------------------------------------------------------------- */

bool json_is_true(struct json v)
{
    return v.type == JSON_BOOL && span_is(v.raw, "true");
}

/* A number taken apart: value = digits * 10^exponent, the digits being those of `whole` and then of `fraction`. */
struct number {
    bool negative;
    struct span whole, fraction;
    int64_t exponent;
};

static struct span digits_at(const char **p, const char *end)
{
    const char *from = *p;
    while (*p < end && **p >= '0' && **p <= '9')
        (*p)++;
    return span_of(from, (size_t)(*p - from));
}

static bool take_exponent(const char **p, const char *end, int64_t *ret)
{
    bool negative = false;
    if (*p < end && (**p == '+' || **p == '-'))
        negative = *(*p)++ == '-';
    struct span s = digits_at(p, end);
    if (s.n == 0)
        return false;
    int64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        if (v < INT64_MAX / 100) /* beyond it, the exact size no longer matters */
            v = v * 10 + (s.p[i] - '0');
    *ret = negative ? -v : v;
    return true;
}

static bool take_number(struct json v, struct number *ret)
{
    if (v.type != JSON_NUMBER || v.raw.n == 0)
        return false;
    struct number num = {0};
    const char *p = v.raw.p, *end = p + v.raw.n;
    if (*p == '-') {
        num.negative = true;
        p++;
    }
    num.whole = digits_at(&p, end);
    if (num.whole.n == 0 || (num.whole.n > 1 && num.whole.p[0] == '0'))
        return false;
    num.fraction = span_of(p, 0);
    if (p < end && *p == '.') {
        p++;
        num.fraction = digits_at(&p, end);
        if (num.fraction.n == 0)
            return false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (!take_exponent(&p, end, &num.exponent))
            return false;
    }
    *ret = num;
    return p == end;
}

static char digit_of(const struct number *num, size_t i)
{
    return i < num->whole.n ? num->whole.p[i] : num->fraction.p[i - num->whole.n];
}

bool json_i64(struct json v, int64_t *ret)
{
    struct number num;
    if (!take_number(v, &num))
        return false;
    size_t first = 0, last = num.whole.n + num.fraction.n;
    int64_t exponent = num.exponent - (int64_t)num.fraction.n;
    while (first < last && digit_of(&num, first) == '0')
        first++;
    while (first < last && digit_of(&num, last - 1) == '0') {
        last--;
        exponent++;
    }
    if (first == last) {
        *ret = 0;
        return true;
    }
    if (exponent < 0)
        return false;

    uint64_t most = (uint64_t)INT64_MAX + (num.negative ? 1 : 0), value = 0;
    for (size_t i = first; i < last + (size_t)exponent; i++) {
        uint64_t d = i < last ? (uint64_t)(digit_of(&num, i) - '0') : 0;
        if (value > (most - d) / 10)
            return false;
        value = value * 10 + d;
    }
    *ret = num.negative ? -(int64_t)(value - 1) - 1 : (int64_t)value;
    return true;
}

enum { NUMBER_MAX = 1000 }; /* no double needs more digits than 767 to be told from its neighbours */

bool json_f64(struct json v, double *ret)
{
    struct number num;
    char text[NUMBER_MAX + 1];
    if (v.raw.n > NUMBER_MAX || !take_number(v, &num))
        return false;
    memcpy(text, v.raw.p, v.raw.n);
    text[v.raw.n] = '\0';
    char *end;
    double d = strtod(text, &end); /* the program never leaves the "C" locale, so '.' is the point */
    if (end != text + v.raw.n || d - d != 0)
        return false;
    *ret = d;
    return true;
}
