/* fuzz_classify.c - any answer gets exactly one class and a clean verdict.
 *
 * The first byte chooses the status, the next the length of the head's one odd value; the rest is the body. Whatever comes: the
 * class is one of the table, texts end in NUL and hold no control byte, waits are at most a day, the same answer gives the
 * same verdict, and a verdict does not need the preset. */
#include "provider/classify.h"
#include "provider/presets.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

#define DAY_MS (24ull * 3600 * 1000)
#define NOW_MS 1700000000000ull

static const int statuses[] = {0,   200, 202, 204, 301, 400, 401, 402, 403, 404, 405, 407,
                               408, 409, 410, 413, 422, 424, 425, 429, 431, 451, 498, 499,
                               500, 501, 502, 503, 504, 520, 522, 524, 529, 530, 599};
static const char *const names[] = {"retry-after",
                                    "retry-after-ms",
                                    "x-ratelimit-reset-tokens",
                                    "x-ratelimit-remaining-tokens",
                                    "x-ratelimit-reset",
                                    "date",
                                    "x-should-retry",
                                    "x-request-id",
                                    "anthropic-ratelimit-tokens-reset",
                                    "anthropic-ratelimit-tokens-remaining",
                                    "x-amzn-errortype",
                                    "x-ratelimit-remaining-tokens-month",
                                    "ratelimitbysize-reset",
                                    "x-ratelimit-remaining-req-minute",
                                    "anthropic-ratelimit-requests-reset",
                                    "x-amzn-requestid"};

static void check_text(const char *text, size_t room)
{
    const char *end = memchr(text, '\0', room);
    MUST(end);
    for (const char *p = text; p < end; p++)
        MUST((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void check(const struct verdict *v)
{
    MUST((unsigned)v->failure < FAILURE_COUNT);
    MUST(v->failure != FAILURE_NONE);
    MUST((unsigned)v->limit <= LIMIT_RAMP);
    MUST(!v->has_retry_after || v->retry_after_ms <= DAY_MS);
    check_text(v->message, sizeof v->message);
    check_text(v->type, sizeof v->type);
    check_text(v->code, sizeof v->code);
    check_text(v->request_id, sizeof v->request_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    int status = statuses[data[0] % (sizeof statuses / sizeof statuses[0])];
    struct span rest = span_of((const char *)data + 2, size - 2), value = span_upto(rest, data[1] & 31);
    struct span body = span_from(rest, value.n);
    struct http1_head head = {.status = status, .content_length = -1};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        head.fields[head.fields_count++] =
            (struct http1_field){span_str(names[i]), i % 8 == data[1] / 32 ? value : SPAN_NONE};

    /* From memory of its own, so that reading past the body shows. */
    char *own = malloc(body.n ? body.n : 1);
    MUST(own);
    if (body.n)
        memcpy(own, body.p, body.n);
    body = span_of(own, body.n);

    struct verdict first, again, unknown, event;
    memset(&first, 0x55, sizeof first);
    memset(&again, 0xaa, sizeof again);
    const struct preset *p = &presets.rows[data[0] % presets.count];
    classify_answer(p, &head, status, body, NOW_MS, &first);
    classify_answer(p, &head, status, body, NOW_MS, &again);
    classify_answer(NULL, &head, status, body, NOW_MS, &unknown);
    classify_answer(p, NULL, 0, body, NOW_MS, &event);
    check(&first);
    check(&event);
    MUST(first.failure == again.failure && first.limit == again.limit &&
         first.retry_after_ms == again.retry_after_ms);
    MUST(strcmp(first.message, again.message) == 0);
    MUST(first.failure == unknown.failure);

    uint64_t ms;
    if (retry_duration(body, &ms))
        MUST(ms <= DAY_MS);
    struct rate_facts facts;
    rate_read(&head, NOW_MS, &facts);
    MUST(facts.tokens_reset_ms >= -1 && facts.tokens_left >= -1 && facts.requests_reset_ms >= -1);
    free(own);
    return 0;
}
