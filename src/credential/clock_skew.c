#include "credential/clock_skew.h"

#include "parse/date.h"

#include <stdio.h>

int64_t clock_skew_of(const struct http1_head *head, uint64_t wall_ms)
{
    uint64_t theirs;
    struct span date = http1_get(head, "date");
    if (!date.p || !date_parse_http(date, wall_ms, &theirs))
        return 0;
    int64_t skew = (int64_t)(wall_ms - theirs);
    return skew > CLOCK_SKEW_LEAST_MS || skew < -CLOCK_SKEW_LEAST_MS ? skew : 0;
}

const char *clock_skew_text(int64_t skew_ms, uint64_t wall_ms, char *out)
{
    char ours[DATE_ISO_BYTES], theirs[DATE_ISO_BYTES];
    out[0] = '\0';
    if (skew_ms)
        snprintf(out, CLOCK_SKEW_TEXT_BYTES,
                 "the clock of this machine may be wrong: it says %s, the server says %s",
                 date_format_iso(wall_ms, ours), date_format_iso(wall_ms - (uint64_t)skew_ms, theirs));
    return out;
}
