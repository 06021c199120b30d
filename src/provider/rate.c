/* What the rate-limit headers of an answer say, in the spellings of all providers. */
#include "parse/date.h"
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
    if (date_parse_iso(s, &ms))
        return wait_until(ms, wall_ms);
    return -1;
}

/* A limit as some provider names it in its headers. */
struct rate_row {
    bool tokens;                      /* what is counted; else requests */
    bool days;                        /* by the day or the month; else by the minute or less, or unknown */
    const char *limit, *left, *reset; /* NULL: there is no such header */
};

/* Of a kind the first row counts of which nothing is left, else the first that is there. */
/* clang-format off */
static const struct rate_row rows[] = {
    /* OpenAI, Azure, xAI, Groq (whose requests are by the day: the preset knows) and most */
    {false, false, "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
    {true, false, "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
    {true, false, "x-ratelimit-limit-project-tokens", "x-ratelimit-remaining-project-tokens", "x-ratelimit-reset-project-tokens"},
    /* Anthropic; "tokens" is the tightest of its limits, and the others may be sent without it */
    {false, false, "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"},
    {true, false, "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"},
    {true, false, "anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining",
     "anthropic-ratelimit-input-tokens-reset"},
    {true, false, "anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining",
     "anthropic-ratelimit-output-tokens-reset"},
    /* Mistral, and what it sent before */
    {false, false, "x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", NULL},
    {false, false, "x-ratelimit-limit-req-10-second", "x-ratelimit-remaining-req-10-second", NULL},
    {false, true, "x-ratelimit-limit-req-month", "x-ratelimit-remaining-req-month", NULL},
    {true, false, "x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", NULL},
    {true, true, "x-ratelimit-limit-tokens-month", "x-ratelimit-remaining-tokens-month", NULL},
    {true, false, "ratelimitbysize-limit", "ratelimitbysize-remaining", "ratelimitbysize-reset"},
    {true, false, "x-ratelimitbysize-limit-minute", "x-ratelimitbysize-remaining-minute", NULL},
    {true, true, "x-ratelimitbysize-limit-month", "x-ratelimitbysize-remaining-month", NULL},
    /* Fireworks */
    {true, false, "x-ratelimit-limit-tokens-prompt", "x-ratelimit-remaining-tokens-prompt", NULL},
    {true, false, "x-ratelimit-limit-tokens-generated", "x-ratelimit-remaining-tokens-generated", NULL},
    /* Cerebras */
    {false, true, "x-ratelimit-limit-requests-day", "x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"},
    /* Together's other spelling */
    {true, false, "x-tokenlimit-limit", "x-tokenlimit-remaining", "x-tokenlimit-reset"},
    /* OpenRouter, Together and the drafts of the IETF: one unnamed limit, taken as requests */
    {false, false, "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"},
    {false, false, "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"},
};
/* clang-format on */
enum { ROWS = sizeof rows / sizeof rows[0] };

struct rate_seen {
    int64_t limit, left, reset_ms; /* -1: not there, or no number */
};

static bool is_named(struct span name, const char *row_name)
{
    return row_name && span_iis(name, row_name);
}

/* Once through the head: an answer has dozens of fields, and few of them are about limits. */
static void look(const struct http1_head *head, uint64_t wall_ms, struct rate_seen seen[ROWS])
{
    for (unsigned r = 0; r < ROWS; r++)
        seen[r] = (struct rate_seen){-1, -1, -1};
    for (unsigned i = 0; head && i < head->fields_count; i++) {
        const struct http1_field *f = &head->fields[i];
        if (!span_ihas(span_upto(f->name, 20), "limit"))
            continue;
        for (unsigned r = 0; r < ROWS; r++) {
            if (seen[r].limit < 0 && is_named(f->name, rows[r].limit))
                seen[r].limit = rate_count(f->value);
            else if (seen[r].left < 0 && is_named(f->name, rows[r].left))
                seen[r].left = rate_count(f->value);
            else if (seen[r].reset_ms < 0 && is_named(f->name, rows[r].reset))
                seen[r].reset_ms = rate_reset(f->value, wall_ms);
        }
    }
}

static struct rate_seen tightest(const struct rate_seen seen[ROWS], bool tokens)
{
    const struct rate_seen *first = NULL;
    for (unsigned r = 0; r < ROWS; r++) {
        const struct rate_seen *s = &seen[r];
        if (rows[r].tokens != tokens)
            continue;
        if (s->left == 0)
            return *s;
        if (!first && (s->limit >= 0 || s->left >= 0 || s->reset_ms >= 0))
            first = s;
    }
    return first ? *first : (struct rate_seen){-1, -1, -1};
}

void rate_read(const struct http1_head *head, uint64_t wall_ms, struct rate_facts *ret)
{
    struct rate_seen seen[ROWS];
    look(head, wall_ms, seen);
    struct rate_seen requests = tightest(seen, false), tokens = tightest(seen, true);
    *ret = (struct rate_facts){requests.limit, requests.left, requests.reset_ms,
                               tokens.limit,   tokens.left,   tokens.reset_ms};
}

bool rate_day_is_over(const struct http1_head *head)
{
    struct rate_seen seen[ROWS];
    look(head, 0, seen);
    for (unsigned r = 0; r < ROWS; r++)
        if (rows[r].days && seen[r].left == 0)
            return true;
    return false;
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
        "x-client-request-id",
        "x-ms-client-request-id",
        "inference-id",
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
