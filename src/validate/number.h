/* number.h - JSON numbers as what they say, exactly: 1.0 is 1, and 2^53 + 1 is not 2^53.
 *
 * Spans point into the source. */
#ifndef PERDURE_VALIDATE_NUMBER_H
#define PERDURE_VALIDATE_NUMBER_H

#include "parse/json.h"

/* 0.d1d2d3... times 10 to the power of `exponent`; without digits it is 0. */
struct number {
    bool negative;
    struct span
        digits; /* as spelled from the first that is not 0 to the last such one; there may be a point among them */
    size_t count; /* of digits */
    int64_t exponent;
};
/* False: no number, or one with an exponent that nobody means. */
bool number_read(struct json v, struct number *ret);
int number_compare(const struct number *a, const struct number *b); /* < 0, 0, > 0 */
bool number_is_whole(const struct number *n);
/* -1: cannot be told (a divisor of 0 or of too many digits). */
int number_is_multiple(const struct number *n, const struct number *of);

#endif
