#include "parse/date.h"

#include <stdio.h>
#include <time.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- the three date forms of RFC 9110, 5.6.7 --------------------------------- */

static bool take(struct span *s, const char *word)
{
    if (!span_starts(*s, word))
        return false;
    *s = span_from(*s, strlen(word));
    return true;
}

static bool take_digits(struct span *s, unsigned count, int *ret)
{
    int v = 0;
    if (s->n < count)
        return false;
    for (unsigned i = 0; i < count; i++) {
        if (!is_digit(s->p[i]))
            return false;
        v = v * 10 + (s->p[i] - '0');
    }
    *s = span_from(*s, count);
    *ret = v;
    return true;
}

static bool take_month(struct span *s, int *ret)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (s->n >= 3 && memcmp(s->p, names + 3 * i, 3) == 0) {
            *s = span_from(*s, 3);
            *ret = i + 1;
            return true;
        }
    return false;
}

struct date {
    int year, month, day, hour, minute, second;
};

static bool take_time(struct span *s, struct date *d)
{
    return take_digits(s, 2, &d->hour) && take(s, ":") && take_digits(s, 2, &d->minute) && take(s, ":") &&
           take_digits(s, 2, &d->second);
}

/* The year starts in March, so that the leap day is its last. */
int64_t date_days(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool date_to_ms(const struct date *d, uint64_t *ret_ms)
{
    static const int lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (d->year < 1970 || d->month < 1 || d->month > 12 || d->day < 1 || d->day > lengths[d->month - 1])
        return false;
    if (d->hour > 23 || d->minute > 59 || d->second > 60) /* 60: a leap second */
        return false;
    int64_t s = date_days(d->year, d->month, d->day) * 86400 + d->hour * 3600 + d->minute * 60 + d->second;
    *ret_ms = (uint64_t)s * 1000;
    return true;
}

/* Two digits of a year: the one within fifty years of now (RFC 9110). */
static int full_year(int two, uint64_t now_ms)
{
    int now_year = 1970 + (int)(now_ms / 1000 / 31556952);
    int year = now_year - now_year % 100 + two;
    return year > now_year + 50 ? year - 100 : year <= now_year - 50 ? year + 100 : year;
}

static bool is_imf_fixdate(struct span s, struct date *d) /* Sun, 06 Nov 1994 08:49:37 GMT */
{
    struct span day_name = span_cut(&s, ',');
    return day_name.n == 3 && take(&s, " ") && take_digits(&s, 2, &d->day) && take(&s, " ") &&
           take_month(&s, &d->month) && take(&s, " ") && take_digits(&s, 4, &d->year) && take(&s, " ") &&
           take_time(&s, d) && span_is(s, " GMT");
}

static bool is_rfc850(struct span s, uint64_t now_ms, struct date *d) /* Sunday, 06-Nov-94 08:49:37 GMT */
{
    struct span day_name = span_cut(&s, ',');
    int two;
    if (day_name.n < 6 || !take(&s, " ") || !take_digits(&s, 2, &d->day) || !take(&s, "-") ||
        !take_month(&s, &d->month) || !take(&s, "-") || !take_digits(&s, 2, &two) || !take(&s, " ") ||
        !take_time(&s, d) || !span_is(s, " GMT"))
        return false;
    d->year = full_year(two, now_ms);
    return true;
}

static bool is_asctime(struct span s, struct date *d) /* Sun Nov  6 08:49:37 1994 */
{
    struct span day_name = span_cut(&s, ' ');
    if (day_name.n != 3 || !take_month(&s, &d->month) || !take(&s, " "))
        return false;
    bool day = take(&s, " ") ? take_digits(&s, 1, &d->day) : take_digits(&s, 2, &d->day);
    return day && take(&s, " ") && take_time(&s, d) && take(&s, " ") && take_digits(&s, 4, &d->year) && s.n == 0;
}

bool date_parse_http(struct span s, uint64_t now_ms, uint64_t *ret_ms)
{
    struct date d = {0};
    s = span_trim(s);
    if (!is_imf_fixdate(s, &d) && !is_rfc850(s, now_ms, &d) && !is_asctime(s, &d))
        return false;
    return date_to_ms(&d, ret_ms);
}

/* ---- RFC 3339 --------------------------------------------------------------------- */

/* ".123": as much of it as milliseconds can hold. */
static int take_fraction(struct span *s)
{
    int ms = 0, scale = 100;
    if (!take(s, "."))
        return 0;
    for (; s->n && is_digit(s->p[0]); *s = span_from(*s, 1), scale /= 10)
        ms += (s->p[0] - '0') * scale;
    return ms;
}

/* "Z", "+00:00", "-0730"; in minutes east of UTC. */
static bool take_zone(struct span *s, int *ret)
{
    int hours, minutes, sign = span_starts(*s, "-") ? -1 : 1;
    if (take(s, "Z") || take(s, "z")) {
        *ret = 0;
        return true;
    }
    if (!(take(s, "+") || take(s, "-")) || !take_digits(s, 2, &hours))
        return false;
    take(s, ":");
    if (!take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret = sign * (hours * 60 + minutes);
    return true;
}

bool date_parse_iso(struct span s, uint64_t *ret_ms)
{
    struct date d = {0};
    uint64_t ms;
    int zone;
    s = span_trim(s);
    if (!take_digits(&s, 4, &d.year) || !take(&s, "-") || !take_digits(&s, 2, &d.month) || !take(&s, "-") ||
        !take_digits(&s, 2, &d.day) || !(take(&s, "T") || take(&s, "t") || take(&s, " ")) || !take_time(&s, &d))
        return false;
    int fraction = take_fraction(&s);
    if (!take_zone(&s, &zone) || s.n || !date_to_ms(&d, &ms))
        return false;
    int64_t at = (int64_t)ms - (int64_t)zone * 60000 + fraction;
    *ret_ms = at > 0 ? (uint64_t)at : 0;
    return true;
}

const char *date_format_iso(uint64_t ms, char *out)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || !strftime(out, DATE_ISO_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(out, DATE_ISO_BYTES, "?");
    return out;
}
