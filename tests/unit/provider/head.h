/* head.h - an answer's head from "name: value" lines, for the tests of this room. */
#ifndef PERDURE_TESTS_PROVIDER_HEAD_H
#define PERDURE_TESTS_PROVIDER_HEAD_H

#include "parse/http1.h"

/* One field a line, '\n' between them; NULL is no field. Spans point into `lines`. */
static inline const struct http1_head *head_of(int status, const char *lines, struct http1_head *h)
{
    struct span rest = span_str(lines);
    *h = (struct http1_head){.status = status, .content_length = -1, .minor = 1};
    while (rest.n > 0 && h->fields_count < HTTP1_FIELDS_MAX) {
        struct span value = span_cut(&rest, '\n');
        struct span name = span_cut(&value, ':');
        h->fields[h->fields_count++] = (struct http1_field){span_trim(name), span_trim(value)};
    }
    return h;
}

#endif
