/* failure.h - every way an attempt ends badly, in exactly one class (SPEC 3).
 *
 * The class decides what happens; nothing else in the program looks at status codes.
 * The rows are the whole policy. */
#ifndef PERDURE_PROVIDER_FAILURE_H
#define PERDURE_PROVIDER_FAILURE_H

#include "base/span.h"

/* on the same target */
enum failure_same {
    SAME_NEVER, /* it would fail again */
    SAME_LAST,  /* only when there is nowhere else to go; after Retry-After, or backoff */
    SAME_FIRST, /* one more try before going elsewhere; up to `attempts` when there is nowhere else */
};
/* what it says of the target */
enum failure_blame {
    BLAME_NONE,    /* nothing: the request's own fault */
    BLAME_FAILURE, /* counts for the breaker */
    BLAME_TIMEOUT, /* counts for the breaker's second rule too */
    BLAME_LIMIT,   /* busy, not broken: rests for Retry-After, the breaker does not count it */
    BLAME_PARK,    /* out of use until its time or a probe: key, quota, model */
};

/* The client's status is the one after which the client at hand tries again when that makes sense and stops when it does
 * not; 0: the provider's own status and body are handed on.
 *
 *  code              name                same        elsewhere  blame          client  type, code for the client            what it is */
#define FAILURES(X)                                                                                               \
    X(FAILURE_NONE, "none", SAME_NEVER, false, BLAME_NONE, 0, "", "it ended well")                                \
    X(FAILURE_RATE, "rate_limited", SAME_LAST, true, BLAME_LIMIT, 429, "rate_limit_exceeded",                     \
      "too many requests or tokens for this target")                                                              \
    X(FAILURE_QUOTA, "quota_exhausted", SAME_NEVER, true, BLAME_PARK, 429, "insufficient_quota",                  \
      "the quota or the balance is used up")                                                                      \
    X(FAILURE_BILLING, "billing", SAME_NEVER, true, BLAME_PARK, 402, "insufficient_quota",                        \
      "the account must be paid")                                                                                 \
    X(FAILURE_OVERLOAD, "overloaded", SAME_LAST, true, BLAME_FAILURE, 503, "overloaded",                          \
      "the provider has no capacity")                                                                             \
    X(FAILURE_CONTEXT, "context_too_long", SAME_NEVER, true, BLAME_NONE, 0, "context_length_exceeded",            \
      "the prompt does not fit the model's window")                                                               \
    X(FAILURE_BAD, "bad_request", SAME_NEVER, false, BLAME_NONE, 0, "bad_request", "the request itself is wrong") \
    X(FAILURE_FILTER, "content_filtered", SAME_NEVER, false, BLAME_NONE, 0, "content_filter",                     \
      "the provider refused the content")                                                                         \
    X(FAILURE_TOOL, "tool_use_failed", SAME_FIRST, true, BLAME_NONE, 502, "tool_use_failed",                      \
      "the model made a tool call that does not fit")                                                             \
    X(FAILURE_AUTH, "auth", SAME_NEVER, true, BLAME_PARK, 502, "provider_auth", "the provider refused the key")   \
    X(FAILURE_PERMISSION, "permission", SAME_NEVER, true, BLAME_PARK, 502, "provider_permission",                 \
      "the key may not do this")                                                                                  \
    X(FAILURE_NOT_FOUND, "not_found", SAME_NEVER, true, BLAME_PARK, 404, "model_not_found",                       \
      "the provider does not know the model")                                                                     \
    X(FAILURE_DNS, "dns", SAME_FIRST, true, BLAME_FAILURE, 503, "provider_unreachable",                           \
      "the provider's name did not resolve")                                                                      \
    X(FAILURE_CONNECT, "connect", SAME_FIRST, true, BLAME_FAILURE, 503, "provider_unreachable",                   \
      "no connection could be made")                                                                              \
    X(FAILURE_TLS, "tls", SAME_NEVER, true, BLAME_FAILURE, 503, "provider_unreachable",                           \
      "the TLS handshake failed")                                                                                 \
    X(FAILURE_RESET, "reset", SAME_FIRST, true, BLAME_FAILURE, 503, "provider_unreachable",                       \
      "the connection was lost")                                                                                  \
    X(FAILURE_SLOW, "slow_start", SAME_LAST, true, BLAME_TIMEOUT, 504, "provider_timeout",                        \
      "no first token in time")                                                                                   \
    X(FAILURE_STALLED, "stalled", SAME_LAST, true, BLAME_TIMEOUT, 504, "provider_timeout",                        \
      "it went silent between tokens")                                                                            \
    X(FAILURE_CUT, "cut", SAME_FIRST, true, BLAME_FAILURE, 502, "stream_interrupted",                             \
      "it ended without its end mark")                                                                            \
    X(FAILURE_TIMEOUT, "timeout", SAME_LAST, true, BLAME_TIMEOUT, 504, "provider_timeout",                        \
      "the provider gave up waiting")                                                                             \
    X(FAILURE_SERVER, "server_error", SAME_FIRST, true, BLAME_FAILURE, 502, "provider_error",                     \
      "the provider failed")                                                                                      \
    X(FAILURE_MALFORMED, "malformed", SAME_FIRST, true, BLAME_FAILURE, 502, "provider_error",                     \
      "the answer cannot be read")                                                                                \
    X(FAILURE_EMPTY, "empty", SAME_FIRST, true, BLAME_FAILURE, 502, "provider_error",                             \
      "the answer says success and nothing else")                                                                 \
    X(FAILURE_CARRY, "cannot_carry", SAME_NEVER, true, BLAME_NONE, 400, "cannot_be_carried",                      \
      "the request holds what this target's wire format has no place for")                                        \
    X(FAILURE_JOIN, "cannot_join", SAME_FIRST, true, BLAME_NONE, 502, "stream_interrupted",                       \
      "it would not go on with the text that was already shown")                                                  \
    X(FAILURE_OURS, "internal", SAME_NEVER, true, BLAME_NONE, 500, "internal_error",                              \
      "perdure itself ran out of something")

enum failure {
#define X(code, name, same, elsewhere, blame, status, client_code, what) code,
    FAILURES(X)
#undef X
        FAILURE_COUNT
};

struct failure_row {
    const char *name;
    enum failure_same same;
    bool elsewhere;
    enum failure_blame blame;
    int client_status;
    const char *client_code, *what;
};
const struct failure_row *failure_row(enum failure f);

/* Of a rate limit or quota, which one. */
enum limit_kind { LIMIT_UNKNOWN, LIMIT_REQUESTS, LIMIT_TOKENS, LIMIT_DAILY, LIMIT_CONCURRENCY, LIMIT_RAMP };
const char *limit_kind_name(enum limit_kind k);

/* How one attempt ended. */
struct verdict {
    enum failure failure;
    enum limit_kind limit;
    int status; /* HTTP; 0: none was seen */
    bool has_retry_after;
    uint64_t retry_after_ms;
    bool provider_says_retry; /* x-should-retry: true */
    bool provider_says_stop;  /* x-should-retry: false */
    char message[240];        /* the provider's own, cut; NUL-terminated; never a prompt or a key */
    char type[48], code[48];  /* the provider's */
    char request_id[80];      /* the provider's, for a support ticket */
};

#endif
