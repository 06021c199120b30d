#include "head.h"
#include "provider/classify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "test.h"

#define NOW_MS 1700000000000ull

static const struct {
    const char *name, *head;
    struct rate_facts facts;
    /* clang-format off */
} rows[] = {
    {"nothing", "content-type: text/plain", {-1, -1, -1, -1, -1, -1}},
    {"OpenAI",
     "x-ratelimit-limit-requests: 500\nx-ratelimit-remaining-requests: 499\nx-ratelimit-reset-requests: 120ms\n"
     "x-ratelimit-limit-tokens: 30000\nx-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 6m0s",
     {500, 499, 120, 30000, 0, 360000}},
    {"Groq, names in any case",
     "X-RateLimit-Limit-Requests: 1000\nX-RateLimit-Remaining-Requests: 987\nX-RateLimit-Reset-Requests: 18m43.2s\n"
     "X-RateLimit-Limit-Tokens: 8000\nX-RateLimit-Remaining-Tokens: 3367\nX-RateLimit-Reset-Tokens: 34.747s",
     {1000, 987, 1123200, 8000, 3367, 34747}},
    {"Azure: plain seconds", "x-ratelimit-remaining-requests: 119\nx-ratelimit-remaining-tokens: 119984\nx-ratelimit-reset-requests: 10",
     {-1, 119, 10000, -1, 119984, -1}},
    {"Mistral",
     "x-ratelimit-limit-req-minute: 60\nx-ratelimit-remaining-req-minute: 58\nx-ratelimit-limit-tokens-minute: 500000\n"
     "x-ratelimit-remaining-tokens-minute: 499000\nx-ratelimit-limit-tokens-month: 1000000000",
     {60, 58, -1, 500000, 499000, -1}},
    {"Mistral, older", "ratelimitbysize-limit: 500000\nratelimitbysize-remaining: 499950\nratelimitbysize-reset: 22",
     {-1, -1, -1, 500000, 499950, 22000}},
    {"xAI: no resets",
     "x-ratelimit-limit-requests: 480\nx-ratelimit-remaining-requests: 479\nx-ratelimit-limit-tokens: 2000000\n"
     "x-ratelimit-remaining-tokens: 1999000",
     {480, 479, -1, 2000000, 1999000, -1}},
    {"OpenRouter: a moment in ms", "x-ratelimit-limit: 20\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1700000030000",
     {20, 0, 30000, -1, -1, -1}},
    {"a moment in seconds", "x-ratelimit-limit: 20\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1700000005", {20, 0, 5000, -1, -1, -1}},
    {"a moment that is over", "x-ratelimit-reset: 1600000000", {-1, -1, 0, -1, -1, -1}},
    {"the IETF draft", "ratelimit-limit: 10\nratelimit-remaining: 3\nratelimit-reset: 7", {10, 3, 7000, -1, -1, -1}},
    {"the named limit is preferred", "x-ratelimit-limit: 20\nx-ratelimit-limit-requests: 500", {500, -1, -1, -1, -1, -1}},
    {"a float is a number", "x-ratelimit-limit-tokens: 8000.0", {-1, -1, -1, 8000, -1, -1}},
    {"Anthropic",
     "anthropic-ratelimit-requests-limit: 4000\nanthropic-ratelimit-requests-remaining: 3999\nanthropic-ratelimit-requests-reset: 2023-11-14T22:13:21Z\n"
     "anthropic-ratelimit-input-tokens-limit: 400000\nanthropic-ratelimit-input-tokens-remaining: 399000\n"
     "anthropic-ratelimit-output-tokens-limit: 80000\nanthropic-ratelimit-output-tokens-remaining: 79000\n"
     "anthropic-ratelimit-tokens-limit: 480000\nanthropic-ratelimit-tokens-remaining: 478000\nanthropic-ratelimit-tokens-reset: 2023-11-14T22:14:20+00:00",
     {4000, 3999, 1000, 480000, 478000, 60000}},
    {"Anthropic, output tokens used up",
     "anthropic-ratelimit-input-tokens-limit: 400000\nanthropic-ratelimit-input-tokens-remaining: 399000\n"
     "anthropic-ratelimit-output-tokens-limit: 80000\nanthropic-ratelimit-output-tokens-remaining: 0\nanthropic-ratelimit-output-tokens-reset: 2023-11-14T22:13:30Z",
     {-1, -1, -1, 80000, 0, 10000}},
    {"what is used up counts before what is left", "x-ratelimit-remaining-req-minute: 58\nx-ratelimit-limit-req-10-second: 5\nx-ratelimit-remaining-req-10-second: 0",
     {5, 0, -1, -1, -1, -1}},
    {"Fireworks", "x-ratelimit-limit-tokens-prompt: 60000\nx-ratelimit-remaining-tokens-prompt: 59990", {-1, -1, -1, 60000, 59990, -1}},
    {"OpenAI, the project's tokens", "x-ratelimit-remaining-tokens: 5\nx-ratelimit-reset-tokens: 1s\nx-ratelimit-limit-project-tokens: 100\n"
     "x-ratelimit-remaining-project-tokens: 0\nx-ratelimit-reset-project-tokens: 7s", {-1, -1, -1, 100, 0, 7000}},
    {"the first of two fields of one name", "x-ratelimit-remaining-tokens: 5\nx-ratelimit-remaining-tokens: 0", {-1, -1, -1, -1, 5, -1}},
    {"no numbers", "x-ratelimit-limit-requests: many\nx-ratelimit-remaining-requests: -5\nx-ratelimit-reset-requests: soon\n"
     "x-ratelimit-limit-tokens: 99999999999999999999\nx-ratelimit-remaining-tokens:",
     {-1, -1, -1, -1, -1, -1}},
};
/* clang-format on */

static void every_spelling_gives_the_same_figures(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http1_head head;
        struct rate_facts f;
        rate_read(head_of(200, rows[i].head, &head), NOW_MS, &f);
        if (memcmp(&f, &rows[i].facts, sizeof f) != 0)
            fail_msg("%s: requests %lld/%lld in %lld, tokens %lld/%lld in %lld", rows[i].name,
                     (long long)f.requests_left, (long long)f.requests_limit, (long long)f.requests_reset_ms,
                     (long long)f.tokens_left, (long long)f.tokens_limit, (long long)f.tokens_reset_ms);
    }
}

static void no_head_says_nothing(void **state)
{
    (void)state;
    struct rate_facts f;
    rate_read(NULL, NOW_MS, &f);
    assert_int_equal(f.requests_left, -1);
    assert_int_equal(f.tokens_reset_ms, -1);
    assert_null(provider_request_id(NULL).p);
}

static void the_request_id_is_found_under_each_name(void **state)
{
    (void)state;
    static const char *const names[] = {"x-request-id",
                                        "Request-Id",
                                        "apim-request-id",
                                        "mistral-correlation-id",
                                        "x-ds-trace-id",
                                        "X-Chutes-InvocationID",
                                        "NVCF-REQID",
                                        "x-generation-id",
                                        "x-amzn-RequestId",
                                        "inference-id",
                                        "cf-ray"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct http1_head head;
        char line[80];
        snprintf(line, sizeof line, "date: x\n%s: abc-1", names[i]);
        if (!span_is(provider_request_id(head_of(500, line, &head)), "abc-1"))
            fail_msg("%s", names[i]);
    }
    struct http1_head head;
    head_of(500, "cf-ray: edge\nx-request-id:\napim-request-id: own", &head);
    assert_true(span_is(provider_request_id(&head), "own"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_gives_the_same_figures),
        cmocka_unit_test(no_head_says_nothing),
        cmocka_unit_test(the_request_id_is_found_under_each_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
