/* pattern.h - does a text match one of JSON Schema's patterns?
 *
 * These are ECMAScript's regular expressions; PCRE2 does the matching. What the two understand
 * differently, and what would take long, is not answered. */
#ifndef PERDURE_VALIDATE_PATTERN_H
#define PERDURE_VALIDATE_PATTERN_H

#include "base/err.h"
#include "base/span.h"

enum {
    PATTERN_BYTES_MAX = 4096, /* of a pattern */
    PATTERN_TEXT_MAX = 1024,  /* of a text */
    PATTERN_STEPS_MAX = 2000, /* at each place of the text */
};
enum pattern_answer { PATTERN_NO, PATTERN_CANNOT_TELL, PATTERN_YES };

/* Anywhere in the text, as JSON Schema has it. Both plain. PD_NOMEM. */
pd_err pattern_match(struct span pattern, struct span text, enum pattern_answer *ret) PD_CHECKED;

#endif
