/* number.c - comparing numbers as they are spelled. */
#include "validate/number.h"

enum {
    EXPONENT_DIGITS = 9, /* more is nothing that anybody means */
    DIVISOR_DIGITS = 17, /* ten times what is left of a division has to fit in 64 bits */
    SCALE_MAX = 400,     /* zeros behind a number in a division */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool read_exponent(struct span s, int64_t *ret)
{
    bool negative = s.n && s.p[0] == '-';
    int64_t e = 0;
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = span_from(s, 1);
    while (s.n > 1 && s.p[0] == '0')
        s = span_from(s, 1);
    if (s.n == 0 || s.n > EXPONENT_DIGITS)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]))
            return false;
        e = e * 10 + (s.p[i] - '0');
    }
    *ret = negative ? -e : e;
    return true;
}

/* The digits of "0012.340": from the first to the last that counts. The point's place goes into the exponent. */
static bool read_digits(struct span s, struct number *n)
{
    size_t first = s.n, last = 0, before_point = 0, seen = 0, first_seen = 0;
    bool point = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (!is_digit(s.p[i]))
            return false;
        if (s.p[i] != '0') {
            if (first == s.n) {
                first = i;
                first_seen = seen;
            }
            last = i;
            n->count = seen - first_seen + 1;
        }
        seen++;
        before_point += !point;
    }
    if (first == s.n)
        return seen > 0; /* 0 */
    n->digits = span_of(s.p + first, last - first + 1);
    n->exponent = (int64_t)before_point - (int64_t)first_seen;
    return true;
}

bool number_read(struct json v, struct number *ret)
{
    struct span s = v.raw;
    int64_t e = 0;
    *ret = (struct number){0};
    if (v.type != JSON_NUMBER || s.n == 0)
        return false;
    bool negative = s.p[0] == '-';
    s = span_from(s, negative);
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == 'e' || s.p[i] == 'E') {
            if (!read_exponent(span_from(s, i + 1), &e))
                return false;
            s = span_upto(s, i);
        }
    if (!read_digits(s, ret))
        return false;
    if (ret->count) { /* -0 is 0 */
        ret->negative = negative;
        ret->exponent += e;
    }
    return true;
}

/* The digits one by one, and 0 behind the last. */
static int next_digit(const struct number *n, size_t *at)
{
    if (*at < n->digits.n && n->digits.p[*at] == '.')
        ++*at;
    return *at < n->digits.n ? n->digits.p[(*at)++] - '0' : 0;
}

static int compare_size(const struct number *a, const struct number *b)
{
    if (!a->count || !b->count)
        return (a->count > 0) - (b->count > 0);
    if (a->exponent != b->exponent)
        return a->exponent < b->exponent ? -1 : 1;
    size_t most = a->count > b->count ? a->count : b->count, i = 0, k = 0;
    for (size_t n = 0; n < most; n++) {
        int x = next_digit(a, &i), y = next_digit(b, &k);
        if (x != y)
            return x - y;
    }
    return 0;
}

int number_compare(const struct number *a, const struct number *b)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    return a->negative ? compare_size(b, a) : compare_size(a, b);
}

bool number_is_whole(const struct number *n)
{
    return n->count == 0 || n->exponent >= (int64_t)n->count;
}

/* n = N * 10^a and of = D * 10^b with whole N and D that do not end in 0. */
int number_is_multiple(const struct number *n, const struct number *of)
{
    int64_t a = n->exponent - (int64_t)n->count, b = of->exponent - (int64_t)of->count;
    uint64_t divisor = 0, rest = 0;
    size_t at = 0;
    if (of->count == 0 || of->count > DIVISOR_DIGITS)
        return -1;
    if (n->count == 0)
        return 1;
    if (a < b) /* N would have to end in 0 */
        return 0;
    if (a - b > SCALE_MAX)
        return -1;
    for (size_t i = 0; i < of->count; i++)
        divisor = divisor * 10 + (uint64_t)next_digit(of, &at);
    if (divisor == 0) /* its first digit is none: number_read() takes zeros away */
        return -1;
    at = 0;
    for (size_t i = 0; i < n->count + (size_t)(a - b); i++)
        rest = (rest * 10 + (uint64_t)next_digit(n, &at)) % divisor;
    return rest == 0;
}
