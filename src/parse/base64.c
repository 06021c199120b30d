#include "parse/base64.h"

enum { NO_DIGIT = 64 };

static unsigned digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : NO_DIGIT;
}

/* Four characters, or what is left of them without the padding, into up to three bytes. */
static bool decode_group(const char *in, size_t n, char *out)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; i++) {
        unsigned d = i < n ? digit_of(in[i]) : 0;
        if (d == NO_DIGIT)
            return false;
        bits = bits << 6 | d;
    }
    for (size_t i = 0; i + 1 < n; i++)
        out[i] = (char)(bits >> (16 - 8 * i));
    return n == 4 || bits << (8 * n) == 0; /* no bits that no byte took */
}

pd_err base64_decode(struct span text, struct buf *out)
{
    if (text.n % 4)
        return PD_SYNTAX;
    size_t digits = text.n, before = buf_size(out);
    for (unsigned pad = 0; pad < 2 && digits && text.p[digits - 1] == '='; pad++)
        digits--;
    pd_err e = buf_reserve(out, text.n / 4 * 3);
    if (e)
        return e;
    for (size_t at = 0; at < digits; at += 4) {
        size_t n = digits - at < 4 ? digits - at : 4;
        if (!decode_group(text.p + at, n, out->p + out->tail)) {
            out->tail = out->head + before;
            return PD_SYNTAX;
        }
        buf_added(out, n - 1);
    }
    return PD_OK;
}

pd_err base64_encode(struct span bytes, struct buf *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    pd_err e = bytes.n / 3 >= SIZE_MAX / 4 - 1 ? PD_TOOBIG : buf_reserve(out, (bytes.n + 2) / 3 * 4);
    if (e)
        return e;
    for (size_t at = 0; at < bytes.n; at += 3) {
        size_t n = bytes.n - at < 3 ? bytes.n - at : 3;
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++)
            bits = bits << 8 | (i < n ? (unsigned char)bytes.p[at + i] : 0u);
        for (size_t i = 0; i < 4; i++)
            out->p[out->tail++] = (char)(i <= n ? alphabet[bits >> (18 - 6 * i) & 63] : '=');
    }
    return PD_OK;
}
