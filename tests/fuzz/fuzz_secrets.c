/* fuzz_secrets.c - any body is an answer of an endpoint: it is read or refused, and what is read has sane numbers. */
#include "base/clock.h"
#include "credential/secrets.h"
#include "parse/date.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

/* Reads every byte, so that a sanitizer sees one that is not there. */
static void touch(struct span s)
{
    static volatile unsigned sum;
    for (size_t i = 0; i < s.n; i++)
        sum = sum + (unsigned char)s.p[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    struct span body = span_of(copy, size);
    struct arena a;
    struct secrets_aws aws;
    struct secrets_token token;
    struct secrets_google google;
    uint64_t ms;
    arena_init(&a, 0, 0);
    pd_err e = secrets_aws_read(body, &a, &aws);
    MUST(e == PD_OK || e == PD_SYNTAX);
    if (!e) {
        touch(aws.access_key_id);
        touch(aws.secret_access_key);
        touch(aws.session_token);
        touch(aws.message);
    }
    e = secrets_token_read(body, &a, &token);
    MUST(e == PD_OK || e == PD_SYNTAX);
    if (!e) {
        touch(token.access_token);
        touch(token.message);
        MUST(token.lifetime_ms <= (uint64_t)INT32_MAX * 1000);
    }
    e = secrets_google_read(body, &a, &google);
    MUST(e == PD_OK || e == PD_SYNTAX);
    if (!e) {
        touch(google.private_key);
        touch(google.refresh_token);
    }
    date_parse_iso(body, &ms);
    date_parse_http(body, 1795504089000u, &ms);
    arena_done(&a);
    free(copy);
    return 0;
}
