/* The one place that looks at status codes. */
#include "provider/classify.h"

#include "conf/preset.h"
#include "provider/envelope.h"
#include "provider/provider_priv.h"
#include "provider/redact.h"
#include "provider/signs.h"

#include <stdio.h>

enum { SAID_MAX = 4096, ARENA_MAX = 256 * 1024 };

/* What is known of one answer. */
struct answer_signs {
    const struct preset *preset;   /* NULL: unknown */
    const struct http1_head *head; /* NULL: an event in a stream */
    const struct envelope *said;
    struct span words; /* message and upstream's message, lower case */
    struct span body;
    int http;   /* as answered; 0: unknown */
    int status; /* the one that counts: the body's own when it came in a 200 */
    unsigned at;
};

/* ---- what is said, ready for comparing ------------------------------------------ */

static size_t add_lower(char *out, size_t n, struct span s)
{
    for (size_t i = 0; i < s.n && n < SAID_MAX; i++)
        out[n++] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 32 : s.p[i]);
    return n;
}

static struct span lower_words(const struct envelope *e, char *out)
{
    size_t n = add_lower(out, 0, span_upto(e->message, SAID_MAX / 2));
    if (e->more.n > 0 && n < SAID_MAX)
        out[n++] = '\n';
    return span_of(out, add_lower(out, n, e->more));
}

/* ---- figures in a sentence --------------------------------------------------------- */

/* The number behind the last "<word> " or "<word>: ", thousands separators allowed; -1: none. */
static int64_t figure_after(struct span words, const char *word)
{
    int64_t found = -1;
    size_t n = strlen(word);
    for (size_t at = 0; at + n < words.n; at++) {
        if (memcmp(words.p + at, word, n) != 0)
            continue;
        struct span rest = span_from(words, at + n);
        while (rest.n > 0 && (rest.p[0] == ' ' || rest.p[0] == ':'))
            rest = span_from(rest, 1);
        int64_t v = -1;
        for (size_t i = 0; i < rest.n && v < INT64_MAX / 100; i++) {
            if (rest.p[i] >= '0' && rest.p[i] <= '9')
                v = (v < 0 ? 0 : v) * 10 + (rest.p[i] - '0');
            else if (rest.p[i] != ',' || v < 0)
                break;
        }
        if (v >= 0)
            found = v;
    }
    return found;
}

/* "Limit 30000, Requested 40000": it never fits, however long one waits. */
static bool asks_over_limit(const struct answer_signs *a)
{
    if (!(a->at & (AT_400 | AT_413 | AT_429 | AT_OK)))
        return false;
    int64_t requested = figure_after(a->words, "requested"), limit = figure_after(a->words, "limit");
    return requested > 0 && limit > 0 && requested > limit;
}

/* ---- deciding ------------------------------------------------------------------------ */

static enum failure failure_of_status(int status)
{
    switch (status) {
    case 401:
        return FAILURE_AUTH;
    case 402:
        return FAILURE_BILLING;
    case 403:
        return FAILURE_PERMISSION;
    case 404:
    case 405:
    case 410:
        return FAILURE_NOT_FOUND; /* 405: the address is not this API; 410: the model was retired */
    case 407:
        return FAILURE_CONNECT; /* a proxy between us and it wants a password */
    case 408:
    case 504:
    case 524:
    case 598:
    case 599:
        return FAILURE_TIMEOUT;
    case 424:
    case 425:
    case 426:
    case 499:
        return FAILURE_SERVER; /* trouble behind or between, not in the request */
    case 421:
    case 444:
        return FAILURE_RESET;
    case 429:
        return FAILURE_RATE;
    case 451:
        return FAILURE_PERMISSION;
    case 498:
    case 503:
    case 529:
        return FAILURE_OVERLOAD; /* 498: Groq's flex tier is full */
    default:
        return status < 400 ? FAILURE_NONE : status < 500 ? FAILURE_BAD : FAILURE_SERVER;
    }
}

/* An answer that says success, or nothing. */
static enum failure failure_of_success(const struct answer_signs *a)
{
    const struct envelope *e = a->said;
    if (a->http >= 300)
        return FAILURE_NOT_FOUND; /* a redirect: the base_url is not the API's */
    if (a->http == 202)
        return FAILURE_OVERLOAD; /* NIM: queued, to be asked for later; no capacity for now */
    if (e->error)
        return FAILURE_SERVER; /* it failed, and does not say how */
    return e->shape == ENVELOPE_NOTHING ? FAILURE_EMPTY : FAILURE_MALFORMED;
}

static const struct sign *sign_of(const struct answer_signs *a)
{
    const struct envelope *e = a->said;
    const struct span exact[] = {e->reason, e->inner_code, e->code, e->type};
    const struct sign *s = NULL;
    size_t n = sizeof exact / sizeof exact[0];
    for (size_t i = 0; !s && i < n; i++)
        s = sign_of_code(exact[i], a->at);
    if (!s && e->shape != ENVELOPE_HTML)
        s = sign_of_words(a->words, a->at);
    for (size_t i = n; !s && i-- > 0;)
        s = sign_of_weak_code(exact[i], a->at);
    return s;
}

/* Gemini says "check your plan and billing details" to its limits by the minute too: only the quota's name, deep in the details, tells. */
static bool is_minute_quota(const struct answer_signs *a)
{
    return a->at == AT_429 && span_is(a->said->type, "RESOURCE_EXHAUSTED") && span_has(a->body, "\"quotaId\"") &&
           span_ihas(a->body, "PerMinute") && !span_ihas(a->body, "PerDay");
}

static enum failure decide(const struct answer_signs *a)
{
    const struct envelope *e = a->said;
    if (asks_over_limit(a))
        return FAILURE_CONTEXT;
    if (e->flagged && (a->at & (AT_400 | AT_403 | AT_OK)))
        return FAILURE_FILTER;
    /* OpenRouter: money is bound by calls that still run. With a time it passes, without it does not. */
    if (a->at == AT_402 && a->head && http1_get(a->head, "retry-after").n > 0)
        return FAILURE_RATE;
    if (is_minute_quota(a))
        return FAILURE_RATE;

    const struct sign *s = sign_of(a);
    if (s)
        return s->failure;
    return a->at == AT_OK ? failure_of_success(a) : failure_of_status(a->status);
}

static bool is_preset(const struct answer_signs *a, const char *name)
{
    return a->preset && strcmp(a->preset->name, name) == 0;
}

static enum limit_kind decide_limit(const struct answer_signs *a, enum failure f)
{
    struct rate_facts facts;
    const struct envelope *e = a->said;
    if (f == FAILURE_CONTEXT && (a->at == AT_429 || a->at == AT_413))
        return LIMIT_TOKENS;
    if (f != FAILURE_RATE && f != FAILURE_QUOTA)
        return LIMIT_UNKNOWN;
    if (span_iis(e->code, "slow_down"))
        return LIMIT_RAMP;
    enum limit_kind k = limit_of_words(a->words);
    if (k == LIMIT_UNKNOWN && e->limit_source.n > 0)
        k = limit_of_words(e->limit_source);
    if (a->at == AT_429 && span_ihas(a->body, "PerDay")) /* Google's quotaId is deep in the details */
        k = LIMIT_DAILY;
    if (k != LIMIT_UNKNOWN)
        return k;
    if (a->at == AT_402)
        return LIMIT_CONCURRENCY;
    if (span_iis(e->type, "tokens"))
        return LIMIT_TOKENS;
    if (span_iis(e->type, "requests"))
        return LIMIT_REQUESTS;
    if (is_preset(a, "deepseek"))
        return LIMIT_CONCURRENCY; /* the only limit that it has */

    if (rate_day_is_over(a->head))
        return LIMIT_DAILY;
    rate_read(a->head, 0, &facts);
    if (facts.requests_left == 0)
        return is_preset(a, "groq") ? LIMIT_DAILY : LIMIT_REQUESTS; /* Groq counts requests by the day */
    return facts.tokens_left == 0 ? LIMIT_TOKENS : LIMIT_UNKNOWN;
}

/* ---- the verdict ----------------------------------------------------------------------- */

/* Coming again later helps with these; a wait that is named beside another failure is about something else. */
static bool passes_with_time(enum failure f)
{
    return failure_row(f)->same != SAME_NEVER || f == FAILURE_QUOTA || f == FAILURE_BILLING;
}

static void take_headers(const struct http1_head *head, struct verdict *ret)
{
    redact_copy(provider_request_id(head), ret->request_id, sizeof ret->request_id);
    if (!head)
        return;
    struct span again = http1_get(head, "x-should-retry");
    ret->provider_says_retry = span_iis(again, "true");
    ret->provider_says_stop = span_iis(again, "false");
}

static void say(struct verdict *ret, const char *before, struct span text)
{
    char whole[sizeof ret->message * 2];
    int n = snprintf(whole, sizeof whole, "%s%.*s", before, SPAN_FMT(span_upto(text, sizeof whole - 1)));
    size_t length = n < 0 ? 0 : (size_t)n;
    redact_copy(span_of(whole, length < sizeof whole ? length : sizeof whole - 1), ret->message,
                sizeof ret->message);
}

/* The provider's own words; where there are none, or where they hide what to do, ours. */
static void take_message(const struct answer_signs *a, struct verdict *ret)
{
    const struct envelope *e = a->said;
    char none[96];
    if (a->http >= 300 && a->http < 400)
        say(ret, "the provider redirects: check base_url: ", span_str(http1_reason(a->http)));
    else if (ret->failure == FAILURE_NOT_FOUND && (a->status == 404 || a->status == 405) &&
             (e->shape != ENVELOPE_JSON || says_no_such_path(a->words)))
        say(ret, "no such path at the provider: check base_url: ", e->message);
    else if (e->shape == ENVELOPE_HTML)
        say(ret, "an HTML page: ", e->message);
    else if (e->message.n > 0)
        redact_copy(e->message, ret->message, sizeof ret->message);
    else if (a->http < 300)
        redact_copy(span_str(failure_row(ret->failure)->what), ret->message, sizeof ret->message);
    else {
        snprintf(none, sizeof none, "status %d %s, and nothing said", a->http, http1_reason(a->http));
        redact_copy(span_str(none), ret->message, sizeof ret->message);
    }
}

/* The provider's code; where it has none, what says more than the type does. */
static struct span code_of(const struct envelope *e)
{
    if (e->code.n > 0)
        return e->code;
    return e->inner_code.n > 0 && !span_eq(e->inner_code, e->type) ? e->inner_code : e->reason;
}

static void judge(struct answer_signs *a, uint64_t wall_ms, struct verdict *ret)
{
    const struct envelope *e = a->said;
    ret->failure = decide(a);
    ret->limit = decide_limit(a, ret->failure);
    /* The status of a 200 is of no use to a client that gets the error: the body's, or what such an error usually has. */
    ret->status = a->status;
    if (ret->status < 300 && failure_row(ret->failure)->client_status == 0)
        ret->status = 400;

    redact_copy(e->type, ret->type, sizeof ret->type);
    redact_copy(code_of(e), ret->code, sizeof ret->code);
    take_headers(a->head, ret);
    if (!ret->request_id[0])
        redact_copy(e->request_id, ret->request_id, sizeof ret->request_id);
    take_message(a, ret);
    /* The headers of a 200 were written before it failed. */
    const struct http1_head *hints = a->http >= 400 ? a->head : NULL;
    ret->has_retry_after =
        passes_with_time(ret->failure) && retry_hint(hints, a->body, e->message, wall_ms, &ret->retry_after_ms);
}

void classify_answer(const struct preset *p, const struct http1_head *head, int status, struct span body,
                     uint64_t wall_ms, struct verdict *ret)
{
    char words[SAID_MAX];
    struct arena arena;
    struct envelope said;
    *ret = (struct verdict){0};
    body = span_upto(body, CLASSIFY_BODY_MAX);
    arena_init(&arena, 1024, ARENA_MAX);
    envelope_read(body, &arena, &said);
    if (said.type.n == 0 && head)
        said.type = envelope_aws_type(http1_get(head, "x-amzn-errortype"));

    struct answer_signs a = {.preset = p, .head = head, .said = &said, .body = body, .http = status};
    a.words = lower_words(&said, words);
    a.status = status >= 300 || said.status == 0 ? status : said.status;
    a.at = signs_at(a.status);
    judge(&a, wall_ms, ret);
    arena_done(&arena);
}

const struct http1_head *classify_keep_head(const struct http1_head *head, struct arena *a)
{
    struct http1_head *kept = arena_zalloc(a, sizeof *kept);
    if (!kept)
        return NULL;
    kept->status = head->status;
    kept->minor = head->minor;
    kept->content_length = head->content_length;
    for (unsigned i = 0; i < head->fields_count; i++) {
        const struct http1_field *f = &head->fields[i];
        struct http1_field copy = {arena_span(a, f->name), arena_span(a, f->value)};
        if ((f->name.n > 0 && !copy.name.p) || (f->value.n > 0 && !copy.value.p))
            return NULL;
        kept->fields[kept->fields_count++] = copy;
    }
    return kept;
}

/* ---- without an answer ------------------------------------------------------------------- */

static enum failure failure_of_transport(pd_err e, bool answered)
{
    switch (e) {
    case PD_DNS:
        return FAILURE_DNS;
    case PD_CONNECT:
    case PD_PROXY:
        return FAILURE_CONNECT;
    case PD_TLS:
        return FAILURE_TLS;
    case PD_RESET:
    case PD_CLOSED:
    case PD_CUT:
    case PD_IO:
        return answered ? FAILURE_CUT : FAILURE_RESET;
    case PD_TIMEOUT:
        return FAILURE_TIMEOUT;
    case PD_PROTO:
    case PD_SYNTAX:
    case PD_TOOBIG:
        return FAILURE_MALFORMED;
    case PD_OK:
    case PD_CANCELLED:
        return FAILURE_NONE;
    case PD_NOMEM:
    case PD_NOFD:
    case PD_INVALID:
    case PD_NOTFOUND:
    case PD_EXISTS:
    case PD_UNSUPPORTED:
    case PD_NOSPACE:
    case PD_ERR_COUNT:
        return FAILURE_OURS;
    }
    return FAILURE_OURS;
}

void classify_transport(pd_err e, const char *why, bool answered, struct verdict *ret)
{
    classify_as(failure_of_transport(e, answered), why ? why : pd_err_text(e), ret);
}

void classify_as(enum failure f, const char *message, struct verdict *ret)
{
    *ret = (struct verdict){.failure = f};
    redact_copy(span_str(message ? message : failure_row(f)->what), ret->message, sizeof ret->message);
}
