/* provider_priv.h - what the files of this room share. */
#ifndef PERDURE_PROVIDER_PROVIDER_PRIV_H
#define PERDURE_PROVIDER_PROVIDER_PRIV_H

#include "provider/classify.h"

enum {
    HINT_MAX_MS = 24 * 3600 * 1000
}; /* a longer wait is not believed: the target is looked at again after a day */

uint64_t hint_cap(double ms);                       /* rounded up, [0, HINT_MAX_MS] */
bool hint_seconds(struct span s, uint64_t *ret_ms); /* "2", "0.5"; a negative one is 0 */

/* A header says that nothing is left of a limit that counts by the day or the month. */
bool rate_day_is_over(const struct http1_head *head);

int64_t rate_count(struct span s); /* "1000"; -1: none */
int64_t rate_reset(struct span s,
                   uint64_t wall_ms); /* "6m0s", "12", RFC 3339, seconds or milliseconds since 1970; -1: none */

#endif
