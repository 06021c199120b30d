#include "parse/utf8.h"

/* How many bytes a character takes that starts with this one; 0 when none does. */
static size_t lead_size(unsigned char c)
{
    if (c < 0x80)
        return 1;
    if (c < 0xc2)
        return 0; /* a continuation, or an overlong form of ASCII */
    if (c < 0xe0)
        return 2;
    if (c < 0xf0)
        return 3;
    return c < 0xf5 ? 4 : 0;
}

/* The second byte is where overlong forms, surrogates and what lies above U+10FFFF show. */
static bool second_fits(unsigned char lead, unsigned char second)
{
    switch (lead) {
    case 0xe0:
        return second >= 0xa0 && second <= 0xbf;
    case 0xed:
        return second >= 0x80 && second <= 0x9f;
    case 0xf0:
        return second >= 0x90 && second <= 0xbf;
    case 0xf4:
        return second >= 0x80 && second <= 0x8f;
    default:
        return (second & 0xc0) == 0x80;
    }
}

/* How many bytes of the character of `size` bytes at the start of s are there and fit, at most s.n. */
static size_t fitting(struct span s, size_t size)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t n = 1;
    if (n < size && n < s.n && second_fits(p[0], p[1]))
        n++;
    while (n >= 2 && n < size && n < s.n && (p[n] & 0xc0) == 0x80)
        n++;
    return n;
}

size_t utf8_next(struct span s)
{
    if (s.n == 0)
        return 0;
    size_t size = lead_size((unsigned char)s.p[0]);
    return size && fitting(s, size) == size ? size : 0;
}

bool utf8_valid(struct span s)
{
    size_t at = 0;
    while (at < s.n) {
        if (s.n - at >= 8) {
            uint64_t eight;
            memcpy(&eight, s.p + at, sizeof(eight));
            if ((eight & 0x8080808080808080u) == 0) {
                at += 8;
                continue;
            }
        }
        size_t n = utf8_next(span_of(s.p + at, s.n - at));
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

size_t utf8_whole(struct span s)
{
    /* A character has at most 4 bytes: an unfinished one starts within the last 3. */
    for (size_t back = 1; back <= 3 && back <= s.n; back++) {
        struct span tail = span_of(s.p + s.n - back, back);
        size_t size = lead_size((unsigned char)tail.p[0]);
        if (size > back && fitting(tail, size) == back)
            return s.n - back;
    }
    return s.n;
}
