/* What the rate-limit headers of an answer say, in the spellings of all providers. */
#include "provider/provider_priv.h"

static const double year_2001_s = 1e9; /* larger numbers are moments, not waits */

int64_t rate_count(struct span s)
{
    uint64_t v;
    s = span_trim(s);
    struct span whole = span_cut(&s, '.'); /* "8000.0" was seen */
    return span_u64(whole, &v) && v <= INT64_MAX ? (int64_t)v : -1;
}

static int64_t wait_until(uint64_t at_ms, uint64_t wall_ms)
{
    return at_ms > wall_ms ? (int64_t)hint_cap((double)(at_ms - wall_ms)) : 0;
}

int64_t rate_reset(struct span s, uint64_t wall_ms)
{
    uint64_t v, ms;
    s = span_trim(s);
    if (span_u64(s, &v)) {
        if ((double)v >= year_2001_s * 1e3)
            return wait_until(v, wall_ms);
        if ((double)v >= year_2001_s)
            return wait_until(v * 1000, wall_ms);
    }
    if (hint_seconds(s, &ms) || retry_duration(s, &ms))
        return (int64_t)ms;
    return -1;
}

/* The first of these fields that is there and can be read. */
static int64_t first_count(const struct http1_head *head, const char *const names[])
{
    for (; *names; names++) {
        int64_t v = rate_count(http1_get(head, *names));
        if (v >= 0)
            return v;
    }
    return -1;
}

static int64_t first_reset(const struct http1_head *head, const char *const names[], uint64_t wall_ms)
{
    for (; *names; names++) {
        int64_t v = rate_reset(http1_get(head, *names), wall_ms);
        if (v >= 0)
            return v;
    }
    return -1;
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* OpenAI, Azure, Groq and most: -requests, -tokens. Mistral: -req-minute, -tokens-minute, older: ratelimitbysize-.
 * OpenRouter and the drafts of the IETF: one unnamed limit, taken as requests. */
void rate_read(const struct http1_head *head, uint64_t wall_ms, struct rate_facts *ret)
{
    *ret = (struct rate_facts){-1, -1, -1, -1, -1, -1};
    if (!head)
        return;
    ret->requests_limit = first_count(head, NAMES("x-ratelimit-limit-requests", "x-ratelimit-limit-req-minute",
                                                  "x-ratelimit-limit", "ratelimit-limit"));
    ret->requests_left =
        first_count(head, NAMES("x-ratelimit-remaining-requests", "x-ratelimit-remaining-req-minute",
                                "x-ratelimit-remaining", "ratelimit-remaining"));
    ret->requests_reset_ms =
        first_reset(head, NAMES("x-ratelimit-reset-requests", "x-ratelimit-reset", "ratelimit-reset"), wall_ms);
    ret->tokens_limit =
        first_count(head, NAMES("x-ratelimit-limit-tokens", "x-ratelimit-limit-tokens-minute",
                                "x-tokenlimit-limit", "ratelimitbysize-limit", "x-ratelimitbysize-limit-minute"));
    ret->tokens_left = first_count(head, NAMES("x-ratelimit-remaining-tokens",
                                               "x-ratelimit-remaining-tokens-minute", "x-tokenlimit-remaining",
                                               "ratelimitbysize-remaining", "x-ratelimitbysize-remaining-minute"));
    ret->tokens_reset_ms = first_reset(
        head, NAMES("x-ratelimit-reset-tokens", "x-tokenlimit-reset", "ratelimitbysize-reset"), wall_ms);
}

struct span provider_request_id(const struct http1_head *head)
{
    static const char *const names[] = {
        "x-request-id",
        "request-id",
        "apim-request-id",
        "mistral-correlation-id",
        "x-ds-trace-id",
        "x-generation-id",
        "x-chutes-invocationid",
        "nvcf-reqid",
        "x-siliconcloud-trace-id",
        "x-amzn-requestid",
        "x-kong-request-id",
        "x-correlation-id",
        "x-trace-id",
        "cf-ray",
    };
    for (size_t i = 0; head && i < sizeof names / sizeof names[0]; i++) {
        struct span v = http1_get(head, names[i]);
        if (v.n > 0)
            return v;
    }
    return SPAN_NONE;
}
