/* fuzz_utf8.c - utf8_valid against the definition by code points, and utf8_whole at every cut. */
#include "parse/utf8.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

/* RFC 3629 by arithmetic: decode, then refuse what was too long, a surrogate or out of range. */
static size_t slow_next(const unsigned char *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t size = (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (size == 0 || n < size)
        return 0;
    uint32_t c = p[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[size] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span all = span_of((const char *)data, size);
    size_t at = 0;
    for (;;) {
        size_t n = slow_next(data + at, size - at);
        MUST(utf8_next(span_from(all, at)) == n);
        if (n == 0)
            break;
        at += n;
    }
    bool valid = at == size;
    MUST(utf8_valid(all) == valid);

    MUST(utf8_whole(all) <= size && size - utf8_whole(all) < 4);
    for (size_t cut = 0; valid && cut <= size; cut++) {
        size_t whole = utf8_whole(span_upto(all, cut));
        MUST(utf8_valid(span_upto(all, whole)));
        MUST(utf8_next(span_from(all, whole)) == 0 ? whole == size
                                                   : whole + utf8_next(span_from(all, whole)) > cut);
    }
    return 0;
}
