/* span.h - bytes and their length, together and in that order.
 *
 * A span owns nothing. Its bytes need not end in NUL. */
#ifndef PERDURE_BASE_SPAN_H
#define PERDURE_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *p;
    size_t n;
};

#define SPAN_LIT(s) ((struct span){"" s, sizeof(s) - 1})
#define SPAN_NONE ((struct span){NULL, 0})
/* For printf("%.*s", SPAN_FMT(s)). */
#define SPAN_FMT(s) ((int)(s).n), ((s).p ? (s).p : "")

static inline struct span span_of(const char *p, size_t n)
{
    return (struct span){p, n};
}
static inline struct span span_str(const char *s)
{
    return (struct span){s, s ? strlen(s) : 0};
}
static inline struct span span_from(struct span s, size_t at)
{
    return at >= s.n ? (struct span){s.n ? s.p + s.n : s.p, 0} : (struct span){s.p + at, s.n - at};
}
static inline struct span span_upto(struct span s, size_t n)
{
    return (struct span){s.p, n < s.n ? n : s.n};
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool span_is(struct span a, const char *s)
{
    return span_eq(a, span_str(s));
}
static inline bool span_starts(struct span a, const char *s)
{
    size_t n = strlen(s);
    return a.n >= n && memcmp(a.p, s, n) == 0;
}
static inline bool span_ends(struct span a, const char *s)
{
    size_t n = strlen(s);
    return a.n >= n && memcmp(a.p + a.n - n, s, n) == 0;
}

bool span_ieq_bytes(const char *a, const char *b, size_t n); /* ASCII case ignored */
/* Inline, since nearly all that are compared (names of header fields) differ in length, and that costs no call then. */
static inline bool span_ieq(struct span a, struct span b)
{
    return a.n == b.n && span_ieq_bytes(a.p, b.p, a.n);
}
static inline bool span_iis(struct span a, const char *s) /* the same, against a string */
{
    return span_ieq(a, span_str(s));
}
bool span_printable(struct span s);                  /* no control byte in it: none below a blank, no DEL */
bool span_ihas(struct span hay, const char *needle); /* needle occurs, ASCII case ignored */
bool span_has(struct span hay, const char *needle);
struct span span_trim(struct span s); /* without spaces, tabs, CR, LF at both ends */
/* Cuts at the first `sep`: returns what is before it and leaves what is after it in *s.
 * Without a separator it returns all and leaves *s empty with p == NULL. */
struct span span_cut(struct span *s, char sep);
bool span_u64(struct span s, uint64_t *ret); /* only digits, no overflow; else false */

#endif
