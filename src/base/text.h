/* text.h - short texts in fixed room, where printf would cost more than the rest of the work. All end in NUL and are cut to fit. */
#ifndef PERDURE_BASE_TEXT_H
#define PERDURE_BASE_TEXT_H

#include "base/span.h"

/* A text under construction in `room` bytes. */
struct text {
    char *p;
    size_t n, room;
};

static inline struct text text_in(char *p, size_t room)
{
    p[0] = '\0';
    return (struct text){p, 0, room};
}
void text_add(struct text *t, struct span s);
void text_u64(struct text *t, uint64_t v);
void text_hex16(struct text *t, uint64_t v);       /* 16 digits */
void text_thousandths(struct text *t, uint64_t v); /* 1234567 is written 1234.567 */
static inline void text_str(struct text *t, const char *s)
{
    text_add(t, span_str(s));
}
/* All of it at once. */
void text_copy(char *dst, size_t room, struct span s);

#endif
