#include "base/span.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool span_ieq_bytes(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

/* All of it, without a way out: so it is done sixteen bytes at a time. */
bool span_printable(struct span s)
{
    unsigned char bad = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bad |= (unsigned char)((c < 0x20) | (c == 0x7f));
    }
    return !bad;
}

bool span_ihas(struct span hay, const char *needle)
{
    size_t n = strlen(needle);
    for (size_t i = 0; i + n <= hay.n; i++)
        if (span_ieq_bytes(hay.p + i, needle, n))
            return true;
    return false;
}

bool span_has(struct span hay, const char *needle)
{
    size_t n = strlen(needle);
    return n == 0 || (hay.n >= n && memmem(hay.p, hay.n, needle, n) != NULL);
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span span_trim(struct span s)
{
    while (s.n && blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct span span_cut(struct span *s, char sep)
{
    const char *at = s->n ? memchr(s->p, sep, s->n) : NULL;
    struct span head = *s;
    if (!at) {
        *s = SPAN_NONE;
        return head;
    }
    head.n = (size_t)(at - s->p);
    *s = span_from(*s, head.n + 1);
    return head;
}

bool span_u64(struct span s, uint64_t *ret)
{
    if (s.n == 0)
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *ret = v;
    return true;
}
