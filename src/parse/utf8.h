/* utf8.h - well-formed UTF-8 (RFC 3629). */
#ifndef PERDURE_PARSE_UTF8_H
#define PERDURE_PARSE_UTF8_H

#include "base/span.h"

bool utf8_valid(struct span s);
/* Length of the longest prefix that does not end inside a character. */
size_t utf8_whole(struct span s);
/* Length in bytes of the well-formed character at the start of s; 0 when there is none. */
size_t utf8_next(struct span s);

#endif
