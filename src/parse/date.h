/* date.h - moments as text: those of HTTP (RFC 9110, 5.6.7) and of RFC 3339. All in milliseconds since 1970 UTC. */
#ifndef PERDURE_PARSE_DATE_H
#define PERDURE_PARSE_DATE_H

#include "base/span.h"

/* All three forms; a year of two digits is the one within fifty years of now. */
bool date_parse_http(struct span s, uint64_t now_ms, uint64_t *ret_ms);
/* "2026-11-24T07:08:09Z", with a fraction or another zone too; before 1970 is 0. */
bool date_parse_iso(struct span s, uint64_t *ret_ms);
/* Days since 1970-01-01 of a day in the Gregorian calendar. */
int64_t date_days(int year, int month, int day);
/* "2026-11-24T07:08:09Z". Returns out, of DATE_ISO_BYTES. */
enum { DATE_ISO_BYTES = 32 };
const char *date_format_iso(uint64_t ms, char *out);

#endif
