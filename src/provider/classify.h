/* classify.h - what an upstream answer or its failure means. The one place that looks at status codes. */
#ifndef PERDURE_PROVIDER_CLASSIFY_H
#define PERDURE_PROVIDER_CLASSIFY_H

#include "base/arena.h"
#include "base/err.h"
#include "parse/http1.h"
#include "parse/json.h"
#include "provider/failure.h"

struct preset;

enum { CLASSIFY_BODY_MAX = 64 * 1024 }; /* of an error body, as much as is read */

/* A complete answer that is no success: any status, or a 200 whose body is an error. `head` may be NULL (an event in a stream).
 * Recognises every envelope of protocols: error{}, error string, flat message, detail string/object/list, title, array, response.error, HTML,
 * bare text. What is no JSON of its own is handed in as such: an exception of an AWS event stream as {"__type": ":exception-type",
 * members of the payload...}, an error message of one as {"__type": ":error-code", "message": ":error-message"}.
 * The preset may be NULL: it sharpens the kind of a limit, never the class. Cannot fail; without memory escapes stay in the texts.
 *
 * verdict.status is the answer's; for an error inside a 200 it is the one that its body names, or 400 where the class hands the provider's
 * status on. verdict.message is the provider's own, its keys starred; where it hides what to do (HTML, a path that is not there, a
 * redirect) ours stands before it. */
void classify_answer(const struct preset *p, const struct http1_head *head, int status, struct span body,
                     uint64_t wall_ms, struct verdict *ret);
/* A head for the time when its body is there: the fields with their bytes, copied into the arena (it decides too: a 402 with a
 * Retry-After passes by itself, the headers know which limit was met). NULL: no memory; classify_answer takes that as well. */
const struct http1_head *classify_keep_head(const struct http1_head *head, struct arena *a);
/* The transport failed. `why` is the client's sentence; answered: the head of an answer had come. PD_CANCELLED is no failure. */
void classify_transport(pd_err e, const char *why, bool answered, struct verdict *ret);
/* A class that we found ourselves: stalled, slow_start, cut, empty, malformed. */
void classify_as(enum failure f, const char *message, struct verdict *ret);

/* Retry hints, most exact first: retry-after-ms, retry-after (seconds, also fractional, or an HTTP date), RetryInfo, the "try again in 1.78s"
 * sentences, x-ratelimit-reset-*. False: none. Capped at 24 h. */
bool retry_hint(const struct http1_head *head, struct span body, struct span message, uint64_t wall_ms,
                uint64_t *ret_ms);
/* "1.78s", "6m0s", "20ms", "2m59.56s", "1h2m": a Go duration. */
bool retry_duration(struct span s, uint64_t *ret_ms);

/* What an answer's rate-limit headers say; -1: unknown. */
struct rate_facts {
    int64_t requests_limit, requests_left, requests_reset_ms, tokens_limit, tokens_left, tokens_reset_ms;
};
void rate_read(const struct http1_head *head, uint64_t wall_ms, struct rate_facts *ret);
/* The provider's id of a request: x-request-id, request-id, apim-request-id, mistral-correlation-id, x-ds-trace-id, ... */
struct span provider_request_id(const struct http1_head *head);

#endif
