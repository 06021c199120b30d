/* The strict check of a document: one pass, no recursion, nothing kept but the brackets that are open. */
#include "parse/json_priv.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What JSON's grammar says of a byte inside a string. */
static inline bool plain(char c)
{
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

#ifdef __SSE2__
/* Which of the 16 bytes at p are not plain. With bit 1 turned over a quote is 0x20, control characters stay below it and all else stays above. */
static inline __m128i special(const char *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i turned = _mm_xor_si128(v, _mm_set1_epi8(2));
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(turned, _mm_set1_epi8(0x20)), turned);
    return _mm_or_si128(low, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
}

static inline unsigned bits(__m128i v)
{
    return (unsigned)_mm_movemask_epi8(v);
}
#endif

/* The first byte from p on that is not plain, or end. */
static inline const char *plain_end(const char *p, const char *end)
{
#ifdef __SSE2__
    for (; end - p >= 32; p += 32) {
        unsigned mask = bits(special(p)) | bits(special(p + 16)) << 16;
        if (mask)
            return p + __builtin_ctz(mask);
    }
    if (end - p >= 16) {
        unsigned mask = bits(special(p));
        if (mask)
            return p + __builtin_ctz(mask);
        p += 16;
    }
#endif
    while (p < end && plain(*p))
        p++;
    return p;
}

/* From after the opening quote to after the closing one; NULL at a fault. */
static inline const char *check_string(const char *p, const char *end)
{
    for (;;) {
        p = plain_end(p, end);
        if (p == end)
            return NULL;
        if (*p == '"')
            return p + 1;
        if (*p != '\\' || end - p < 2)
            return NULL;
        switch (p[1]) {
        case '"':
        case '\\':
        case '/':
        case 'b':
        case 'f':
        case 'n':
        case 'r':
        case 't':
            p += 2;
            break;
        case 'u':
            if (end - p < 6 || json_hex4(p + 2) < 0)
                return NULL;
            p += 6;
            break;
        default:
            return NULL;
        }
    }
}

static inline bool digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

static inline const char *digits(const char *p, const char *end)
{
    while (digit(p, end))
        p++;
    return p;
}

/* From a '-' or a digit to after the number; NULL at a fault. */
static inline const char *check_number(const char *p, const char *end)
{
    if (*p == '-')
        p++;
    if (!digit(p, end))
        return NULL;
    p = *p == '0' ? p + 1 : digits(p, end);
    if (p < end && *p == '.') {
        if (!digit(++p, end))
            return NULL;
        p = digits(p, end);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        if (!digit(p, end))
            return NULL;
        p = digits(p, end);
    }
    return p;
}

static inline const char *check_word(const char *p, const char *end, const char *word, size_t n)
{
    return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

pd_err json_check(struct span doc)
{
    if (doc.n == 0)
        return PD_SYNTAX;
    const char *p = doc.p, *end = doc.p + doc.n;
    char closes[JSON_DEPTH_MAX]; /* what closes the brackets that are open, innermost last */
    unsigned depth = 0;

value:
    p = json_space(p, end);
    if (p == end)
        return PD_SYNTAX;
    switch (*p) {
    case '"':
        p = check_string(p + 1, end);
        break;
    case '{':
    case '[':
        if (depth == JSON_DEPTH_MAX)
            return PD_TOOBIG;
        closes[depth++] = (char)(*p + 2); /* in ASCII, '}' is '{' + 2, and ']' is '[' + 2 */
        p = json_space(p + 1, end);
        if (p < end && *p == closes[depth - 1]) {
            depth--;
            p++;
            break;
        }
        if (closes[depth - 1] == '}')
            goto key;
        goto value;
    case 't':
        p = check_word(p, end, "true", 4);
        break;
    case 'f':
        p = check_word(p, end, "false", 5);
        break;
    case 'n':
        p = check_word(p, end, "null", 4);
        break;
    default:
        p = *p == '-' || digit(p, end) ? check_number(p, end) : NULL;
    }
    if (!p)
        return PD_SYNTAX;

    while (depth) {
        p = json_space(p, end);
        if (p == end)
            return PD_SYNTAX;
        char c = *p++;
        if (c == ',') {
            if (closes[depth - 1] == '}')
                goto key;
            goto value;
        }
        if (c != closes[--depth])
            return PD_SYNTAX;
    }
    return json_space(p, end) == end ? PD_OK : PD_SYNTAX;

key:
    p = json_space(p, end);
    if (p == end || *p != '"')
        return PD_SYNTAX;
    p = check_string(p + 1, end);
    if (!p)
        return PD_SYNTAX;
    p = json_space(p, end);
    if (p == end || *p != ':')
        return PD_SYNTAX;
    p++;
    goto value;
}

static enum json_type type_of(char first)
{
    switch (first) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOL;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

pd_err json_doc(struct span doc, struct json *ret)
{
    pd_err e = json_check(doc);
    if (e)
        return e;
    struct span raw = span_trim(doc); /* what JSON takes for white space */
    *ret = (struct json){type_of(raw.p[0]), raw};
    return PD_OK;
}
