#include "parse/put.h"

#include <stdarg.h>
#include <stdio.h>

void put_json_inner(struct put *p, struct span s)
{
    bool plain = true;
    for (size_t i = 0; plain && i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
    }
    if (plain) {
        put_span(p, s);
        return;
    }
    size_t at = buf_size(p->b);
    put_json(p, s);
    if (p->err != PD_OK)
        return;
    char *text = p->b->p + p->b->head + at; /* the quotes go away again: the text moves over the first */
    size_t n = buf_size(p->b) - at;
    memmove(text, text + 1, n - 2);
    p->b->tail -= 2;
}

/* No string of valid JSON has a line break in it, and no two tokens are kept apart by one alone. */
void put_one_line(struct put *p, struct span json)
{
    size_t from = 0;
    for (size_t i = 0; i < json.n; i++) {
        if (json.p[i] != '\n' && json.p[i] != '\r')
            continue;
        put_span(p, span_of(json.p + from, i - from));
        from = i + 1;
    }
    put_span(p, span_from(json, from));
}

void put_escaped(struct put *p, const char *before, struct span escaped)
{
    put_text(p, before);
    put_text(p, "\"");
    put_span(p, escaped);
    put_text(p, "\"");
}

void put_field(struct put *p, const char *name, struct span escaped)
{
    put_text(p, "\"");
    put_text(p, name);
    put_escaped(p, "\":", escaped);
}

void put_uint(struct put *p, uint64_t v)
{
    char digits[24];
    char *at = digits + sizeof(digits);
    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    put_span(p, span_of(at, (size_t)(digits + sizeof(digits) - at)));
}

void put_int(struct put *p, int64_t v)
{
    if (v < 0)
        put_text(p, "-");
    put_uint(p, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void put_printf(struct put *p, const char *fmt, ...)
{
    char text[512]; /* only for short, bounded values */
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text))
        p->err = p->err == PD_OK ? PD_TOOBIG : p->err;
    else
        put_span(p, span_of(text, (size_t)n));
}
