/* put.h - writes text piece by piece and asks once, at the end, whether all of it was written.
 *
 * After a failure every further call does nothing, so that a chunk of JSON can be put together without a test after each comma.
 *
 * Ownership: the buffer is the caller's. */
#ifndef PERDURE_PARSE_PUT_H
#define PERDURE_PARSE_PUT_H

#include "base/buf.h"
#include "parse/json.h"

struct put {
    struct buf *b;
    pd_err err;
};

static inline struct put put_into(struct buf *b)
{
    return (struct put){b, PD_OK};
}
static inline void put_span(struct put *p, struct span s)
{
    if (p->err == PD_OK && s.n > 0)
        p->err = buf_add(p->b, s);
}
static inline void put_text(struct put *p, const char *s)
{
    put_span(p, span_str(s));
}
/* As a JSON string, quotes included. */
static inline void put_json(struct put *p, struct span s)
{
    if (p->err == PD_OK)
        p->err = json_put_str(p->b, s);
}
/* The same without its quotes: for text that goes on inside a string. */
void put_json_inner(struct put *p, struct span s);
/* A raw JSON value without the line breaks between its tokens: for formats in which a line break ends an event. */
void put_one_line(struct put *p, struct span json);
/* Text that is escaped already, as a string; `before` is what stands before its quote. */
void put_escaped(struct put *p, const char *before, struct span escaped);
/* The same as a member, without the comma before it. */
void put_field(struct put *p, const char *name, struct span escaped);
void put_uint(struct put *p, uint64_t v);
void put_int(struct put *p, int64_t v);
void put_printf(struct put *p, const char *fmt, ...) PD_PRINTF(2, 3);

#endif
