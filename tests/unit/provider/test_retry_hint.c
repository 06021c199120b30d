#include "head.h"
#include "provider/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

#define DAY_MS (24ull * 3600 * 1000)
#define NOW_MS 784111776000ull /* Sun, 06 Nov 1994 08:49:36 GMT */
#define NONE UINT64_MAX

static const struct {
    const char *in;
    uint64_t ms; /* NONE: not a duration */
    /* clang-format off */
} durations[] = {
    {"1.78s", 1780},  {"6m0s", 360000},    {"20ms", 20},        {"2m59.56s", 179560}, {"1h2m", 3720000}, {"0s", 0},
    {"18m43.2s", 1123200}, {"12ms", 12},   {"1h0m0.5s", 3600500}, {"100us", 1},       {"1500\xc2\xb5s", 2}, {"2000us", 2},
    {"1d", DAY_MS},   {"99h", DAY_MS},     {"9999999999999999999999h", DAY_MS},       {"0.4ms", 1},      {"34.747s", 34747},
    {"", NONE},       {"s", NONE},         {"12", NONE},        {"1.s", NONE},        {"-1s", NONE},     {"1x", NONE},
    {"1s ", NONE},    {"1 s", NONE},       {".5s", 500},       {"1h2", NONE},
};
/* clang-format on */

static void a_go_duration_is_read_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        uint64_t ms = 77;
        bool ok = retry_duration(span_str(durations[i].in), &ms);
        if (ok != (durations[i].ms != NONE) || (ok && ms != durations[i].ms))
            fail_msg("\"%s\": %d, %llu ms", durations[i].in, ok, (unsigned long long)ms);
        if (!ok)
            assert_int_equal(ms, 77);
    }
}

static const struct {
    const char *name, *head, *body, *message;
    uint64_t ms;
    /* clang-format off */
} hints[] = {
    {"seconds", "retry-after: 20", "", "", 20000},
    {"a fraction of seconds", "retry-after: 0.25", "", "", 250},
    {"zero is now", "retry-after: 0", "", "", 0},
    {"seconds with a unit", "retry-after: 30s", "", "", 30000},
    {"a negative wait is none", "retry-after: -3", "", "", 0},
    {"milliseconds are more exact", "retry-after: 2\nretry-after-ms: 1780", "", "", 1780},
    {"zero milliseconds beside a second are a rounding", "retry-after: 1\nretry-after-ms: 0", "", "", 1000},
    {"zero milliseconds alone", "retry-after-ms: 0", "", "", 0},
    {"names in any case", "Retry-After: 7", "", "", 7000},
    {"a year is a day", "retry-after: 31536000", "", "", DAY_MS},
    {"a number with no end is a day", "retry-after: 99999999999999999999999999", "", "", DAY_MS},
    {"unreadable falls through to the sentence", "retry-after: soon", "", "Please try again in 3s.", 3000},

    {"IMF-fixdate", "retry-after: Sun, 06 Nov 1994 08:49:37 GMT", "", "", 1000},
    {"RFC 850", "retry-after: Sunday, 06-Nov-94 08:49:39 GMT", "", "", 3000},
    {"asctime", "retry-after: Sun Nov  6 08:50:36 1994", "", "", 60000},
    {"asctime, two digits of day", "retry-after: Mon Nov 07 08:49:36 1994", "", "", DAY_MS},
    {"a moment that is over", "retry-after: Sun, 06 Nov 1994 08:00:00 GMT", "", "", 0},
    {"the provider's own clock counts", "date: Mon, 07 Nov 2033 08:00:00 GMT\nretry-after: Mon, 07 Nov 2033 08:00:09 GMT", "", "", 9000},
    {"a leap day", "date: Sat, 28 Feb 2032 23:59:59 GMT\nretry-after: Sun, 29 Feb 2032 00:00:00 GMT", "", "", 1000},
    {"no such day", "retry-after: Sun, 32 Nov 1994 08:49:37 GMT", "", "", NONE},
    {"no such hour", "retry-after: Sun, 06 Nov 1994 24:49:37 GMT", "", "", NONE},
    {"another zone", "retry-after: Sun, 06 Nov 1994 08:49:37 CET", "", "", NONE},

    {"RetryInfo", "", "{\"error\":{\"code\":429,\"details\":[{\"@type\":\"a\"},{\"@type\":\"RetryInfo\",\"retryDelay\":\"48.9s\"}]}}", "", 48900},
    {"RetryInfo in an array", "", "[{\"error\":{\"details\":[{\"retryDelay\":\"3s\"}]}}]", "", 3000},
    {"the header beats RetryInfo", "retry-after: 1", "{\"error\":{\"details\":[{\"retryDelay\":\"48s\"}]}}", "", 1000},
    {"RetryInfo beats the sentence", "", "{\"error\":{\"details\":[{\"retryDelay\":\"48s\"}]}}", "retry in 50s", 48000},
    {"a day's quota is out until midnight in California", "", "{\"error\":{\"details\":[{\"retryDelay\":\"3s\"},{\"violations\":[{\"quotaId\":\"aPerMinute\"},{\"quotaId\":"
     "\"GenerateRequestsPerDayPerProject\"}]}]}}", "", 83424000},
    {"a date in the sentence", "", "", "You will regain access on 1994-11-06 at 09:00 UTC.", 624000},
    {"a date without a time", "", "", "You will regain access on 1994-11-07.", 54624000},
    {"a date that is over", "", "", "You will regain access on 1994-11-06.", 0},
    {"a month that is none", "", "", "You will regain access on 1994-13-06.", NONE},
    {"Anthropic's reset", "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 1994-11-06T08:49:46.5Z", "", "", 10500},
    {"with an offset", "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 1994-11-06T09:50:36+01:00", "", "", 60000},
    {"with another", "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 1994-11-06t03:50:36-05:00", "", "", 60000},
    {"without a zone", "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 1994-11-06T08:49:46", "", "", NONE},
    {"with more behind it", "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 1994-11-06T08:49:46Zz", "", "", NONE},
    {"an offset that is none", "anthropic-ratelimit-tokens-remaining: 0\nanthropic-ratelimit-tokens-reset: 1994-11-06T08:49:46+24:00", "", "", NONE},
    {"a reset of which some is left", "anthropic-ratelimit-tokens-remaining: 1\nanthropic-ratelimit-tokens-reset: 1994-11-06T08:49:46Z", "", "", NONE},
    {"a member", "", "{\"error\":{\"retry_after\":12}}", "", 12000},
    {"a member in ms", "", "{\"retry_after_ms\":120}", "", 120},
    {"a model's loading time", "", "{\"error\":\"Model x is currently loading\",\"estimated_time\":20.5}", "", 20500},
    {"OpenRouter's copy of headers, a moment", "",
     "{\"error\":{\"metadata\":{\"headers\":{\"X-RateLimit-Remaining\":\"0\",\"X-RateLimit-Reset\":\"1741305600000\"}}}}", "", DAY_MS},

    {"OpenRouter's copy of headers, with some left", "",
     "{\"error\":{\"metadata\":{\"headers\":{\"X-RateLimit-Remaining\":\"5\",\"X-RateLimit-Reset\":\"1741305600000\"}}}}", "", NONE},

    {"OpenAI's sentence", "", "", "Rate limit reached. Please try again in 1.78s. Visit https://example.com/limits", 1780},
    {"in minutes and seconds", "", "", "Please try again in 6m0s.", 360000},
    {"in milliseconds", "", "", "Please try again in 20ms.", 20},
    {"hours", "", "", "Please try again in 7h12m30.5s. Need more?", 25950500},
    {"Gemini's sentence", "", "", "Please retry in 48.9s.", 48900},
    {"Azure's sentence", "", "", "Please retry after 6 seconds.", 6000},
    {"minutes in words", "", "", "You are blocked, try again in about 2 minutes and be patient", 120000},
    {"wait", "", "", "Too many requests, please wait 15 sec", 15000},
    {"models are no minutes", "", "", "try again in 5 models", NONE},
    {"later is no time", "", "", "Please try again later.", NONE},
    {"capitals", "", "", "PLEASE TRY AGAIN IN 2S", 2000},

    {"the reset of what is used up", "x-ratelimit-remaining-requests: 499\nx-ratelimit-reset-requests: 120ms\n"
     "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 1.78s", "", "", 1780},
    {"the later of two that are used up", "x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 5s\n"
     "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 1s", "", "", 5000},
    {"the reset of what is left says nothing", "x-ratelimit-remaining-requests: 3\nx-ratelimit-reset-requests: 6m0s", "", "", NONE},
    {"the sentence beats the reset", "x-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 60s", "", "try again in 2s", 2000},
    {"nothing", "", "", "", NONE},
    {"nothing at all", NULL, "", "no hint here", NONE},
    {"a body that is no JSON", NULL, "<html>wait 3 s</html>", "", NONE},
};
/* clang-format on */

static void each_hint_gives_its_wait(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        struct http1_head head;
        uint64_t ms = 77;
        const struct http1_head *h = hints[i].head ? head_of(429, hints[i].head, &head) : NULL;
        bool ok = retry_hint(h, span_str(hints[i].body), span_str(hints[i].message), NOW_MS, &ms);
        if (ok != (hints[i].ms != NONE) || (ok && ms != hints[i].ms))
            fail_msg("%s: %d, %llu ms, not %llu", hints[i].name, ok, (unsigned long long)ms,
                     (unsigned long long)hints[i].ms);
    }
}

static void a_day_in_california_ends_at_its_midnight(void **state)
{
    (void)state;
    static const char body[] = "{\"error\":{\"details\":[{\"quotaId\":\"xPerDay\"}]}}";
    static const struct {
        const char *name;
        uint64_t now_ms, wait_ms;
    } nights[] = {
        {"in summer", 1719835200000ull, 68400000},
        {"in winter", 1705320000000ull, 72000000},
        {"the night that loses an hour", 1710061200000ull, 79200000},
        {"the night that gains one", 1730620800000ull, 86400000},
        {"after the change in spring", 1710068400000ull, 72000000},
        {"at midnight", 1719903600000ull, 86400000},
        {"the last second", 1735631999000ull, 1000},
        {"new year's eve in Greenwich", 1735689600000ull, 28800000},
    };
    for (size_t i = 0; i < sizeof nights / sizeof nights[0]; i++) {
        uint64_t ms = 77;
        assert_true(retry_hint(NULL, span_str(body), SPAN_NONE, nights[i].now_ms, &ms));
        if (ms != nights[i].wait_ms)
            fail_msg("%s: %llu s", nights[i].name, (unsigned long long)ms / 1000);
    }
}

/* Two digits mean the year within fifty years of now. */
static void a_short_year_is_the_nearest(void **state)
{
    (void)state;
    static const struct {
        const char *date;
        uint64_t now_ms, ms;
    } years[] = {
        {"retry-after: Monday, 03-Nov-03 08:49:37 GMT", NOW_MS, DAY_MS},              /* 2003, seen from 1994 */
        {"retry-after: Sunday, 06-Nov-94 08:49:37 GMT", 2014000000000ull, 0},         /* 1994, seen from 2033 */
        {"retry-after: Wednesday, 06-Nov-80 08:49:37 GMT", 2014000000000ull, DAY_MS}, /* 2080, seen from 2033 */
    };
    for (size_t i = 0; i < sizeof years / sizeof years[0]; i++) {
        struct http1_head head;
        uint64_t ms = 77;
        assert_true(retry_hint(head_of(429, years[i].date, &head), SPAN_NONE, SPAN_NONE, years[i].now_ms, &ms));
        assert_int_equal(ms, years[i].ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_go_duration_is_read_exactly),
        cmocka_unit_test(each_hint_gives_its_wait),
        cmocka_unit_test(a_day_in_california_ends_at_its_midnight),
        cmocka_unit_test(a_short_year_is_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
