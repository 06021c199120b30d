#include "base/text.h"

void text_add(struct text *t, struct span s)
{
    size_t left = t->room - 1 - t->n, n = s.n < left ? s.n : left;
    if (n)
        memcpy(t->p + t->n, s.p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_u64(struct text *t, uint64_t v)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    text_add(t, span_of(digits + at, sizeof(digits) - at));
}

void text_hex16(struct text *t, uint64_t v)
{
    char digits[16];
    for (int i = 15; i >= 0; i--, v >>= 4)
        digits[i] = "0123456789abcdef"[v & 15];
    text_add(t, span_of(digits, sizeof(digits)));
}

void text_thousandths(struct text *t, uint64_t v)
{
    const char part[4] = {'.', (char)('0' + v / 100 % 10), (char)('0' + v / 10 % 10), (char)('0' + v % 10)};
    text_u64(t, v / 1000);
    text_add(t, span_of(part, sizeof(part)));
}

void text_copy(char *dst, size_t room, struct span s)
{
    struct text t = text_in(dst, room);
    text_add(&t, s);
}
