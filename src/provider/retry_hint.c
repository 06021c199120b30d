/* How long a provider asks us to stay away, wherever it says so. */
#include "parse/date.h"
#include "provider/envelope.h"
#include "provider/provider_priv.h"

#include <stdio.h>

enum { HINT_TEXT_MAX = 4096 }; /* of a message, as much as is searched for a sentence */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ---- durations -------------------------------------------------------------- */

static const struct unit {
    const char *name;
    double ms;
} units[] = {
    /* longer names first where one starts with another */
    {"milliseconds", 1}, {"millisecond", 1},  {"minutes", 60e3}, {"minute", 60e3},
    {"mins", 60e3},      {"min", 60e3},       {"ms", 1},         {"microseconds", 1e-3},
    {"us", 1e-3},        {"\xc2\xb5s", 1e-3}, {"ns", 1e-6},      {"seconds", 1e3},
    {"second", 1e3},     {"secs", 1e3},       {"sec", 1e3},      {"hours", 3600e3},
    {"hour", 3600e3},    {"hrs", 3600e3},     {"hr", 3600e3},    {"days", 86400e3},
    {"day", 86400e3},    {"s", 1e3},          {"m", 60e3},       {"h", 3600e3},
    {"d", 86400e3},
};

static bool starts_with(struct span s, const char *name)
{
    return span_iis(span_upto(s, strlen(name)), name);
}

/* "12", "1.78": leaves what follows in *s. */
static bool take_number(struct span *s, double *ret)
{
    double v = 0, scale = 1;
    size_t i = 0, digits = 0;
    for (; i < s->n && is_digit(s->p[i]); i++, digits++)
        v = v * 10 + (s->p[i] - '0');
    if (i + 1 < s->n && s->p[i] == '.' && is_digit(s->p[i + 1]))
        for (i++; i < s->n && is_digit(s->p[i]); i++, digits++)
            v += (s->p[i] - '0') * (scale /= 10);
    if (digits == 0 || digits > 40)
        return false;

    *s = span_from(*s, i);
    *ret = v;
    return true;
}

static const struct unit *take_unit(struct span *s)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (starts_with(*s, units[i].name)) {
            *s = span_from(*s, strlen(units[i].name));
            return &units[i];
        }
    return NULL;
}

uint64_t hint_cap(double ms)
{
    if (!(ms > 0))
        return 0;
    /* Rounded up, as 0.4 ms is not now; not by the last bits of 1.78 x 1000. */
    return ms >= (double)HINT_MAX_MS ? HINT_MAX_MS : (uint64_t)(ms + 0.999);
}

bool retry_duration(struct span s, uint64_t *ret_ms)
{
    double total = 0;
    if (s.n == 0)
        return false;
    while (s.n > 0) {
        double v;
        if (!take_number(&s, &v))
            return false;
        const struct unit *u = take_unit(&s);
        if (!u)
            return false;
        total += v * u->ms;
    }
    *ret_ms = hint_cap(total);
    return true;
}

bool hint_seconds(struct span s, uint64_t *ret_ms)
{
    double v;
    s = span_trim(s);
    bool negative = s.n > 1 && s.p[0] == '-';
    if (negative)
        s = span_from(s, 1);
    if (!take_number(&s, &v) || s.n > 0)
        return false;
    *ret_ms = negative ? 0 : hint_cap(v * 1e3);
    return true;
}

/* ---- headers ------------------------------------------------------------------- */

/* A moment as a wait. The provider's own Date is the better clock: ours may be off, and both of its figures come from it. */
static uint64_t until(const struct http1_head *head, uint64_t at_ms, uint64_t wall_ms)
{
    uint64_t now = wall_ms;
    struct span date = http1_get(head, "date");
    if (date.p && !date_parse_http(date, wall_ms, &now))
        now = wall_ms;
    return at_ms > now ? hint_cap((double)(at_ms - now)) : 0;
}

static bool retry_after(const struct http1_head *head, uint64_t wall_ms, uint64_t *ret_ms)
{
    struct span v = http1_get(head, "retry-after");
    uint64_t at;
    if (v.n == 0)
        return false;
    if (hint_seconds(v, ret_ms) || retry_duration(span_trim(v), ret_ms))
        return true;
    if (!date_parse_http(v, wall_ms, &at))
        return false;
    *ret_ms = until(head, at, wall_ms);
    return true;
}

static bool retry_after_ms(const struct http1_head *head, uint64_t *ret_ms)
{
    struct span v = span_trim(http1_get(head, "retry-after-ms"));
    double ms;
    if (!take_number(&v, &ms) || v.n > 0)
        return false;
    *ret_ms = hint_cap(ms);
    return true;
}

static bool from_header(const struct http1_head *head, uint64_t wall_ms, uint64_t *ret_ms)
{
    uint64_t seconds;
    bool has_seconds = retry_after(head, wall_ms, &seconds);
    if (retry_after_ms(head, ret_ms)) {
        /* Azure sends retry-after-ms: 0 beside retry-after: 1. Zero is a rounding there, not an invitation. */
        if (*ret_ms == 0 && has_seconds)
            *ret_ms = seconds;
        return true;
    }
    if (has_seconds)
        *ret_ms = seconds;
    return has_seconds;
}

/* The reset of what is used up. What is not used up says nothing about when to come back. */
static bool from_rate_headers(const struct http1_head *head, uint64_t wall_ms, uint64_t *ret_ms)
{
    struct rate_facts f;
    rate_read(head, wall_ms, &f);
    int64_t ms = -1;
    if (f.requests_left == 0)
        ms = f.requests_reset_ms;
    if (f.tokens_left == 0 && f.tokens_reset_ms > ms)
        ms = f.tokens_reset_ms;
    if (ms < 0)
        return false;
    *ret_ms = hint_cap((double)ms);
    return true;
}

/* ---- bodies ---------------------------------------------------------------------- */

static bool number_hint(struct json v, double unit_ms, uint64_t *ret_ms)
{
    double d;
    if (!json_f64(v, &d))
        return false;
    *ret_ms = hint_cap(d * unit_ms);
    return true;
}

static bool string_hint(struct json v, uint64_t *ret_ms)
{
    struct span s = json_inner(v);
    return s.n > 0 && (retry_duration(s, ret_ms) || hint_seconds(s, ret_ms));
}

/* google.rpc.RetryInfo: error.details[].retryDelay "48.9s" */
static bool from_retry_info(struct json error, uint64_t *ret_ms)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, json_get(error, "details"));
    while (json_walk_next(&w, NULL, &item))
        if (string_hint(json_get(item, "retryDelay"), ret_ms))
            return true;
    return false;
}

/* The day of the month of the n-th Sunday. `first`: weekday of the month's first day, Sunday is 0. */
static int nth_sunday(int first, int n)
{
    return 1 + (7 - first) % 7 + 7 * (n - 1);
}

static int weekday_of(int64_t days) /* since 1970-01-01, a Thursday; Sunday is 0 */
{
    return (int)(((days + 4) % 7 + 7) % 7);
}

/* Hours between Pacific time and UTC: 7 from 2 o'clock on the second Sunday of March to 2 o'clock on the first of November, else 8. */
static int64_t pacific_offset_h(int64_t utc_s)
{
    int year = 1970 + (int)(utc_s / 31556952);
    int64_t march = date_days(year, 3, 1), november = date_days(year, 11, 1);
    int64_t begins_s = (march + nth_sunday(weekday_of(march), 2) - 1) * 86400 + 10 * 3600;    /* 2 h at -8 */
    int64_t ends_s = (november + nth_sunday(weekday_of(november), 1) - 1) * 86400 + 9 * 3600; /* 2 h at -7 */
    return utc_s >= begins_s && utc_s < ends_s ? 7 : 8;
}

/* Google's daily quotas begin anew at midnight Pacific time. */
static uint64_t until_pacific_midnight(uint64_t wall_ms)
{
    int64_t now_s = (int64_t)(wall_ms / 1000);
    int64_t local_s = now_s - pacific_offset_h(now_s) * 3600;
    int64_t midnight_s = (local_s / 86400 + 1) * 86400; /* as local time */
    int64_t at_s = midnight_s + pacific_offset_h(midnight_s + 8 * 3600) * 3600;
    return hint_cap((double)(at_s - now_s) * 1e3);
}

/* google.rpc.QuotaFailure: error.details[].violations[].quotaId "GenerateRequestsPerDayPerProjectPerModel-FreeTier". The RetryInfo beside
 * it is of seconds: it is about the next minute, not about the quota. */
static bool from_daily_quota(struct json error, uint64_t wall_ms, uint64_t *ret_ms)
{
    struct json_walk w, v;
    struct json item, violation;
    json_walk_init(&w, json_get(error, "details"));
    while (json_walk_next(&w, NULL, &item)) {
        bool daily = span_ihas(json_inner(json_get(item, "quotaId")), "PerDay") ||
                     span_ihas(json_inner(json_path(item, "metadata.quota_limit")), "PerDay");
        json_walk_init(&v, json_get(item, "violations"));
        while (!daily && json_walk_next(&v, NULL, &violation))
            daily = span_ihas(json_inner(json_get(violation, "quotaId")), "PerDay");
        if (daily) {
            *ret_ms = until_pacific_midnight(wall_ms);
            return true;
        }
    }
    return false;
}

/* Members that say it outright: at the top, or in the error object. */
static bool from_members(struct json obj, uint64_t *ret_ms)
{
    return number_hint(json_get(obj, "retry_after_ms"), 1, ret_ms) ||
           number_hint(json_get(obj, "retry_after"), 1e3, ret_ms) ||
           string_hint(json_get(obj, "retry_after"), ret_ms) ||
           number_hint(json_get(obj, "retry_after_seconds"), 1e3, ret_ms) ||
           number_hint(json_get(obj, "estimated_time"), 1e3, ret_ms);
}

/* OpenRouter hands the upstream's headers on in error.metadata.headers. */
static bool from_metadata(struct json error, uint64_t wall_ms, uint64_t *ret_ms)
{
    struct json headers = json_path(error, "metadata.headers");
    int64_t left, reset;
    struct span seconds = json_inner(json_get(headers, "Retry-After"));
    if (seconds.n > 0 && hint_seconds(seconds, ret_ms))
        return true;
    left = rate_count(json_inner(json_get(headers, "X-RateLimit-Remaining")));
    reset = rate_reset(json_inner(json_get(headers, "X-RateLimit-Reset")), wall_ms);
    if (left > 0 || reset < 0)
        return false;
    *ret_ms = hint_cap((double)reset);
    return true;
}

static bool from_body(struct span body, uint64_t wall_ms, uint64_t *ret_ms)
{
    struct json doc = envelope_document(body);
    if (doc.type == JSON_ARRAY)
        doc = json_path(doc, "0");
    struct json error = json_get(doc, "error");
    if (error.type != JSON_OBJECT)
        error = (struct json){.type = JSON_NONE};
    return from_daily_quota(error, wall_ms, ret_ms) || from_retry_info(error, ret_ms) ||
           from_members(error, ret_ms) || from_members(doc, ret_ms) ||
           from_members(json_get(doc, "detail"), ret_ms) || from_metadata(error, wall_ms, ret_ms);
}

/* ---- sentences --------------------------------------------------------------------- */

/* "1.78s.", "6m0s", "20 seconds", "2 minutes and": a duration at the start of a text. */
static bool leading_duration(struct span s, uint64_t *ret_ms)
{
    double total = 0;
    bool found = false;
    for (;;) {
        double v;
        if (!take_number(&s, &v))
            break;
        if (s.n > 0 && s.p[0] == ' ')
            s = span_from(s, 1);
        const struct unit *u = take_unit(&s);
        if (!u)
            break;
        if (s.n > 0 && is_letter(s.p[0]))
            break; /* "5 models" is no "5 m" */
        total += v * u->ms;
        found = true;
    }
    if (found)
        *ret_ms = hint_cap(total);
    return found;
}

static bool from_sentence(struct span text, uint64_t *ret_ms)
{
    static const char *const leads[] = {"try again in ", "retry in ",    "try again after ", "retry after ",
                                        "reset in ",     "resets in ",   "wait for ",        "wait at least ",
                                        "wait ",         "available in "};
    text = span_upto(text, HINT_TEXT_MAX);
    for (size_t i = 0; i < sizeof leads / sizeof leads[0]; i++)
        for (size_t at = 0; at < text.n; at++) {
            struct span rest = span_from(text, at);
            if (!starts_with(rest, leads[i]))
                continue;
            rest = span_from(rest, strlen(leads[i]));
            if (starts_with(rest, "about "))
                rest = span_from(rest, 6);
            if (leading_duration(rest, ret_ms))
                return true;
        }
    return false;
}

/* Anthropic: "You will regain access on 2027-01-01 at 00:00 UTC." */
static bool from_date_in_sentence(struct span text, uint64_t wall_ms, uint64_t *ret_ms)
{
    static const char lead[] = "regain access on ";
    uint64_t at_ms;
    const char *at = text.n ? memmem(text.p, text.n, lead, sizeof(lead) - 1) : NULL;
    if (!at)
        return false;
    struct span day = span_from(text, (size_t)(at - text.p) + sizeof(lead) - 1), rest = span_from(day, 10);
    struct span clock = span_starts(rest, " at ") ? span_upto(span_from(rest, 4), 5) : SPAN_LIT("00:00");
    char iso[32];
    snprintf(iso, sizeof(iso), "%.*sT%.*s:00Z", SPAN_FMT(span_upto(day, 10)), SPAN_FMT(clock));
    if (!date_parse_iso(span_str(iso), &at_ms))
        return false;
    *ret_ms = at_ms > wall_ms ? hint_cap((double)(at_ms - wall_ms)) : 0;
    return true;
}

bool retry_hint(const struct http1_head *head, struct span body, struct span message, uint64_t wall_ms,
                uint64_t *ret_ms)
{
    return (head && from_header(head, wall_ms, ret_ms)) || from_body(body, wall_ms, ret_ms) ||
           from_sentence(message, ret_ms) || from_date_in_sentence(message, wall_ms, ret_ms) ||
           (head && from_rate_headers(head, wall_ms, ret_ms));
}
