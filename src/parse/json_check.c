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

/* The first byte from p on that is not plain, or end. */
static inline const char *plain_end(const char *p, const char *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash));
        stop = _mm_or_si128(stop, _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        unsigned mask = (unsigned)_mm_movemask_epi8(stop);
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
