/* Simulated providers: long quiet times, episodes of one fault each, and a little noise between them. */
#include "sim.h"

#include <math.h>

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN };

const char *fault_name(enum fault f)
{
    static const char *const names[] = {
#define X(code, name) name,
        FAULTS(X)
#undef X
    };
    return names[f];
}

static uint64_t between(struct rnd *r, uint64_t least, uint64_t most)
{
    return least + rnd_below(r, most - least + 1);
}

static double exponential(struct rnd *r, double mean)
{
    return -mean * log(1 - rnd_unit(r));
}

/* Around `median`, mostly within a factor of `spread`. */
static double log_spread(struct rnd *r, double median, double spread)
{
    double sum = rnd_unit(r) + rnd_unit(r) + rnd_unit(r) + rnd_unit(r) - 2;
    return median * pow(spread, sum);
}

void provider_setup(struct provider *p, struct rnd *r)
{
    *p = (struct provider){
        .ttft_ms = log_spread(r, 500, 6),
        .gap_ms = log_spread(r, 120, 4),
        .places = rnd_below(r, 4) == 0 ? (unsigned)between(r, 2, 8) : 0,
        .capacity = rnd_below(r, 4) == 0 ? (unsigned)between(r, 3, 12) : 0,
        .whole = rnd_below(r, 5) == 0,
        .window_bytes = rnd_below(r, 3) == 0 ? 400 * 1000 : 8 * 1000 * 1000,
        .noise = rnd_below(r, 2) ? 0.02 : 0.002,
        .no_continue = rnd_below(r, 6) == 0,
        .no_join = rnd_below(r, 3) ? 0.05 : 0.5,
    };
}

/* Faults that an episode or noise can be made of; the request's own and RATE_PLACES come by themselves. */
static const enum fault episode_faults[] = {
    FAULT_RATE_TOLD,   FAULT_RATE_BARE,  FAULT_QUOTA,       FAULT_BILLING,
    FAULT_AUTH,        FAULT_PERMISSION, FAULT_NOT_FOUND,   FAULT_OVERLOADED,
    FAULT_UNAVAILABLE, FAULT_SERVER,     FAULT_SERVER_STOP, FAULT_OVERLOADED_RETRY,
    FAULT_GATEWAY,     FAULT_DNS,        FAULT_CONNECT,     FAULT_TLS,
    FAULT_RESET,       FAULT_RESET_ALL,  FAULT_SILENT,      FAULT_SLOW,
    FAULT_STALL,       FAULT_CUT,        FAULT_MALFORMED,   FAULT_EMPTY,
    FAULT_FLAP,        FAULT_DRIFT,      FAULT_THROTTLE,    FAULT_THROTTLE,
};
static const enum fault noise_faults[] = {
    FAULT_CUT,   FAULT_CUT,       FAULT_STALL,     FAULT_SERVER,     FAULT_RESET, FAULT_CUT,
    FAULT_STALL, FAULT_SILENT,    FAULT_SLOW,      FAULT_MALFORMED,  FAULT_EMPTY, FAULT_TOOL,
    FAULT_OURS,  FAULT_RATE_TOLD, FAULT_RATE_BARE, FAULT_OVERLOADED, FAULT_AUTH,  FAULT_NOT_FOUND,
};
#define ANY(r, list) (list)[rnd_below(r, sizeof(list) / sizeof((list)[0]))]

void provider_turn(struct provider *p, struct rnd *r, uint64_t now, bool calm)
{
    struct episode *e = &p->episode;
    bool quiet = calm || e->fault != FAULT_NO_FAULT;
    *e = (struct episode){.began_ms = now};
    if (quiet) {
        e->until_ms = now + 1 + (uint64_t)exponential(r, 2.0 * HOUR);
        return;
    }
    e->fault = ANY(r, episode_faults);
    e->until_ms = now + 1 + (uint64_t)exponential(r, rnd_below(r, 3) ? 5.0 * MIN : 40.0 * MIN);
    e->share = rnd_below(r, 2) ? 1 : 0.2 + 0.8 * rnd_unit(r);
    e->flap_ms = between(r, 2 * S, 20 * S);
    if (e->fault == FAULT_THROTTLE) {
        e->share = 1;
        e->until_ms = now + 10 * MIN + (uint64_t)exponential(r, 60.0 * MIN);
    }
}

static void fails(struct script *s, enum failure f, int status)
{
    s->verdict.failure = f;
    s->verdict.status = status;
}

static void told(struct script *s, uint64_t ms)
{
    s->verdict.has_retry_after = true;
    s->verdict.retry_after_ms = ms;
}

static void after_some_tokens(struct script *s, struct rnd *r)
{
    if (!s->whole && s->tokens)
        s->fail_after = 1 + (unsigned)rnd_below(r, s->tokens);
}

/* Fills in what a fault does to an attempt that would have gone well. */
static void spoil(const struct provider *p, struct rnd *r, enum fault f, uint64_t now, struct script *s)
{
    uint64_t usual_ms = s->first_ms;
    s->fault = f;
    s->first_ms = between(r, 5, 400);
    switch (f) {
    case FAULT_RATE_TOLD:
        fails(s, FAILURE_RATE, 429);
        told(s, between(r, 1, rnd_below(r, 4) ? 20 * S : 10 * MIN));
        break;
    case FAULT_RATE_BARE:
        fails(s, FAILURE_RATE, 429);
        break;
    case FAULT_RATE_PLACES:
        fails(s, FAILURE_RATE, 429);
        s->verdict.limit = LIMIT_CONCURRENCY;
        break;
    case FAULT_QUOTA:
        fails(s, FAILURE_QUOTA, 429);
        if (rnd_below(r, 2))
            told(s, between(r, 1 * MIN, 2 * HOUR));
        break;
    case FAULT_BILLING:
        fails(s, FAILURE_BILLING, 402);
        break;
    case FAULT_AUTH:
        fails(s, FAILURE_AUTH, 401);
        break;
    case FAULT_PERMISSION:
        fails(s, FAILURE_PERMISSION, 403);
        break;
    case FAULT_NOT_FOUND:
        fails(s, FAILURE_NOT_FOUND, 404);
        break;
    case FAULT_OVERLOADED:
    case FAULT_CROWDED:
        fails(s, FAILURE_OVERLOAD, 529);
        break;
    case FAULT_OVERLOADED_RETRY:
        fails(s, FAILURE_OVERLOAD, 529);
        s->verdict.provider_says_retry = true;
        break;
    case FAULT_UNAVAILABLE:
        fails(s, FAILURE_OVERLOAD, 503);
        told(s, between(r, 1, 2 * MIN));
        break;
    case FAULT_SERVER:
    case FAULT_FLAP:
        fails(s, FAILURE_SERVER, 500);
        break;
    case FAULT_SERVER_STOP:
        fails(s, FAILURE_SERVER, 500);
        s->verdict.provider_says_stop = true;
        break;
    case FAULT_GATEWAY:
        fails(s, FAILURE_TIMEOUT, 504);
        s->first_ms = between(r, 1 * S, 59 * S);
        break;
    case FAULT_DNS:
        fails(s, FAILURE_DNS, 0);
        break;
    case FAULT_CONNECT:
    case FAULT_RESET_ALL:
        fails(s, FAILURE_CONNECT, 0);
        break;
    case FAULT_TLS:
        fails(s, FAILURE_TLS, 0);
        break;
    case FAULT_RESET:
        fails(s, FAILURE_RESET, 0);
        break;
    case FAULT_SILENT:
        s->silent_then = true;
        break;
    case FAULT_SLOW:
        s->first_ms = usual_ms * between(r, 8, 60);
        break;
    case FAULT_STALL:
        s->first_ms = usual_ms;
        s->silent_then = true;
        after_some_tokens(s, r);
        break;
    case FAULT_CUT:
        s->first_ms = usual_ms;
        fails(s, FAILURE_CUT, 200);
        after_some_tokens(s, r);
        break;
    case FAULT_MALFORMED:
        fails(s, FAILURE_MALFORMED, 200);
        break;
    case FAULT_EMPTY:
        fails(s, FAILURE_EMPTY, 200);
        break;
    case FAULT_TOOL:
        fails(s, FAILURE_TOOL, 400);
        break;
    case FAULT_CONTEXT:
        fails(s, FAILURE_CONTEXT, 400);
        break;
    case FAULT_BAD:
        fails(s, FAILURE_BAD, 400);
        break;
    case FAULT_FILTER:
        fails(s, FAILURE_FILTER, 400);
        break;
    case FAULT_OURS:
        fails(s, FAILURE_OURS, 0);
        break;
    case FAULT_DRIFT:
        s->first_ms = (uint64_t)((double)usual_ms * (1 + 25.0 * (double)(now - p->episode.began_ms) /
                                                             (double)(p->episode.until_ms - p->episode.began_ms)));
        break;
    case FAULT_THROTTLE: /* the first token, the others, or all of them */
        s->first_ms = usual_ms * (rnd_below(r, 8) ? between(r, 4, 12) : 1);
        s->gap_ms *= rnd_below(r, 8) ? between(r, 4, 12) : 1;
        break;
    case FAULT_OUTAGE: {
        static const enum failure ways[] = {FAILURE_CONNECT, FAILURE_OVERLOAD, FAILURE_SERVER, FAILURE_RESET};
        fails(s, ANY(r, ways), 0);
        break;
    }
    case FAULT_NO_JOIN:
        s->first_ms = usual_ms;
        fails(s, FAILURE_JOIN, 200);
        break;
    case FAULT_NO_CONTINUE:
        fails(s, FAILURE_BAD, 400);
        break;
    case FAULT_CUT_AGAIN: /* these two are seen, not made */
    case FAULT_CUT_HIDDEN:
    case FAULT_NO_FAULT:
    case FAULT_COUNT:
        break;
    }
}

void provider_answer(const struct provider *p, struct rnd *r, const struct request *q, unsigned live, uint64_t now,
                     bool calm, struct script *ret)
{
    *ret = (struct script){
        .first_ms = 1 + (uint64_t)log_spread(r, p->ttft_ms, 2) + q->prompt_bytes / 1000,
        .gap_ms = 1 + (uint64_t)log_spread(r, p->gap_ms, 2),
        .tokens = !q->continues + (unsigned)exponential(r, 10), /* going on, there may be nothing more to say */
        .hidden = rnd_below(r, 4) ? 0 : 1 + (unsigned)rnd_below(r, 4),
        .whole = p->whole,
        .continues = q->continues,
    };
    uint64_t calm_ms = 30 + rnd_below(r, 20); /* quicker than usual, if anything: slower would be a fault */
    if (calm && ret->first_ms > calm_ms)
        ret->first_ms = calm_ms;
    if (calm && ret->gap_ms > calm_ms)
        ret->gap_ms = calm_ms;
    const struct episode *e = &p->episode;
    if (!calm && now < p->down_until_ms)
        spoil(p, r, FAULT_OUTAGE, now, ret);
    else if (!calm && e->fault != FAULT_NO_FAULT && rnd_unit(r) < e->share &&
             (e->fault != FAULT_FLAP || (now - e->began_ms) / e->flap_ms % 2 == 0))
        spoil(p, r, e->fault, now, ret);
    else if (p->places && live > p->places)
        spoil(p, r, FAULT_RATE_PLACES, now, ret);
    else if (!calm && p->capacity && live > p->capacity)
        spoil(p, r, FAULT_CROWDED, now, ret);
    else if (q->continues && p->no_continue)
        spoil(p, r, FAULT_NO_CONTINUE, now, ret);
    else if (q->continues && !calm && rnd_unit(r) < p->no_join)
        spoil(p, r, FAULT_NO_JOIN, now, ret);
    else if (q->bad)
        spoil(p, r, FAULT_BAD, now, ret);
    else if (q->filtered)
        spoil(p, r, FAULT_FILTER, now, ret);
    else if (q->prompt_bytes > p->window_bytes)
        spoil(p, r, FAULT_CONTEXT, now, ret);
    else if (!calm && rnd_unit(r) < p->noise)
        spoil(p, r, ANY(r, noise_faults), now, ret);
}
