#include "route/fleet_priv.h"

/* How long a target rests after a rate limit that named no time: the first rest, doubled by each that follows at once. */
enum { REST_FIRST_MS = 1000, REST_MOST_MS = 60 * 1000 };
/* The same for a limit by the day: nobody knows when its day ends, and asking each minute until then is of no use. */
enum { REST_DAY_FIRST_MS = 10 * 60 * 1000, REST_DAY_MOST_MS = 60 * 60 * 1000 };
/* How long a target stays parked, by what parked it; doubled by each failing probe. */
enum {
    PARK_QUOTA_MS = 10 * 60 * 1000,
    PARK_KEY_MS = 5 * 60 * 1000,
    PARK_BILLING_MS = 30 * 60 * 1000,
    PARK_MODEL_MS = 60 * 1000,
    PARK_MOST_MS = 60 * 60 * 1000,
};
/* A p95 of fewer samples is chance. */
enum { TTFT_SAMPLES_LEAST = 8 };
enum { TTFT_BYTES_PER_S = 100 * 1000, TTFT_REASONING = 4, DOUBLINGS_MOST = 16 };
/* The first probe after a hold comes within this time, so that an outage of many targets does not end in a burst. */
enum { PROBE_SPREAD_MS = 1000 };

/* It was out of use, and many may wait for it: a few first, whatever the settings say of overload. */
static void come_back(struct target *t, uint64_t now)
{
    limiter_ramp(&t->limiter, t->running + 1, now);
}

static void breaker_changed(struct target *t, enum breaker_state from, uint64_t now)
{
    enum breaker_state to = t->breaker.state;
    if (from == to)
        return;
    if (to == BREAKER_OPEN) {
        uint64_t spread_ms = (t->breaker.open_until_ms - now) / 10;
        uint64_t at = t->breaker.open_until_ms +
                      rnd_below(&t->fleet->rnd, (spread_ms < PROBE_SPREAD_MS ? spread_ms : PROBE_SPREAD_MS) + 1);
        if (at > t->probe_at_ms)
            t->probe_at_ms = at;
        t->false_starts += from == BREAKER_TRIAL;
        target_early_later(t, now);
    }
    if (to == BREAKER_CLOSED)
        come_back(t, now);
    if (t->fleet->watch.breaker)
        t->fleet->watch.breaker(t->fleet->watch_ctx, t, from, to);
    if (to == BREAKER_CLOSED || to == BREAKER_TRIAL)
        queue_tell(t->fleet, t, now);
}

void target_tick(struct target *t, uint64_t now)
{
    enum breaker_state from = t->breaker.state;
    breaker_tick(&t->breaker, &t->breaker_rules, now);
    breaker_changed(t, from, now);
}

void target_breaker_probed(struct target *t, bool passed, uint64_t now)
{
    enum breaker_state from = t->breaker.state;
    breaker_probe_result(&t->breaker, &t->breaker_rules, passed, now);
    breaker_changed(t, from, now);
}

static void breaker_told(struct target *t, enum breaker_result res, uint32_t trial, uint64_t now)
{
    enum breaker_state from = t->breaker.state;
    breaker_result(&t->breaker, &t->breaker_rules, res, trial, now);
    breaker_changed(t, from, now);
}

/* ---- pace */

/* The rate of a shorter answer is chance: its tokens come in one or two packets. */
enum { PACE_TOKENS_LEAST = 16 };

void target_watch_pace(struct target *t, bool on)
{
    if (on == t->pace_watched)
        return;
    t->pace_watched = on;
    pace_init(&t->pace);
}

static void pace_changed(struct target *t, enum pace_state from)
{
    if (from != t->pace.state && t->fleet->watch.paced)
        t->fleet->watch.paced(t->fleet->watch_ctx, t, from, t->pace.state);
}

void target_pace(struct target *t, size_t prompt_bytes, uint64_t ttft_ms, uint64_t now)
{
    enum pace_state from = t->pace.state;
    if (t->pace_watched && pace_sample(&t->pace, &t->pace_rules, PACE_TTFT, prompt_bytes, (double)ttft_ms, now))
        pace_changed(t, from);
}

void target_pace_waited(struct target *t, size_t prompt_bytes, uint64_t at_least_ms, uint64_t now)
{
    enum pace_state from = t->pace.state;
    if (t->pace_watched && pace_waited(&t->pace, &t->pace_rules, prompt_bytes, (double)at_least_ms, now))
        pace_changed(t, from);
}

/* ---- resting and parking */

static uint64_t doubled(uint64_t first_ms, unsigned steps, uint64_t most_ms)
{
    uint64_t ms = first_ms << (steps < DOUBLINGS_MOST ? steps : DOUBLINGS_MOST);
    return ms < most_ms ? ms : most_ms;
}

void target_rest(struct target *t, const struct verdict *v, uint64_t now)
{
    if (t->rest_until_ms <= now)
        come_back(t, now); /* when the rest is over */
    if (v->has_retry_after && v->retry_after_ms > 0) {
        if (now + v->retry_after_ms > t->rest_until_ms)
            t->rest_until_ms = now + v->retry_after_ms;
        t->rest_for_place = false;
        return;
    }
    if (t->rest_until_ms > now)
        return; /* an attempt from before the rest: ten refused at once are one event, not ten doublings */
    bool day = v->limit == LIMIT_DAILY;
    uint64_t ms =
        doubled(day ? REST_DAY_FIRST_MS : REST_FIRST_MS, t->rest_steps, day ? REST_DAY_MOST_MS : REST_MOST_MS);
    t->rest_until_ms = now + (uint64_t)((double)ms * (0.8 + 0.4 * rnd_unit(&t->fleet->rnd)));
    t->rest_for_place = v->limit == LIMIT_CONCURRENCY;
    t->rest_steps++;
}

static uint64_t park_first(enum failure why)
{
    switch (why) { /* only the classes of BLAME_PARK come here */
    case FAILURE_BILLING:
        return PARK_BILLING_MS;
    case FAILURE_AUTH:
    case FAILURE_PERMISSION:
        return PARK_KEY_MS;
    case FAILURE_NOT_FOUND:
        return PARK_MODEL_MS;
    case FAILURE_QUOTA:
    case FAILURE_NONE:
    case FAILURE_RATE:
    case FAILURE_OVERLOAD:
    case FAILURE_CONTEXT:
    case FAILURE_BAD:
    case FAILURE_FILTER:
    case FAILURE_TOOL:
    case FAILURE_DNS:
    case FAILURE_CONNECT:
    case FAILURE_TLS:
    case FAILURE_RESET:
    case FAILURE_SLOW:
    case FAILURE_STALLED:
    case FAILURE_CUT:
    case FAILURE_TIMEOUT:
    case FAILURE_SERVER:
    case FAILURE_MALFORMED:
    case FAILURE_EMPTY:
    case FAILURE_CARRY:
    case FAILURE_JOIN:
    case FAILURE_OURS:
    case FAILURE_COUNT:
        return PARK_QUOTA_MS;
    }
    return PARK_QUOTA_MS;
}

void target_park(struct target *t, enum failure why, const struct verdict *v, uint64_t now)
{
    uint64_t told_ms = v->has_retry_after ? v->retry_after_ms : 0;
    bool parked = t->parked_for != FAILURE_NONE && t->park_until_ms > now;
    if (parked && now + told_ms <= t->park_until_ms)
        return; /* an attempt from before */

    uint64_t ms = told_ms;
    if (told_ms == 0) {
        ms = doubled(park_first(why), t->park_steps, PARK_MOST_MS);
        t->park_steps++;
    }
    t->parked_for = why;
    t->park_until_ms = now + ms;
    uint64_t probe_at = t->park_until_ms + rnd_below(&t->fleet->rnd, PROBE_SPREAD_MS + 1);
    if (probe_at > t->probe_at_ms)
        t->probe_at_ms = probe_at;
    if (t->fleet->watch.parked)
        t->fleet->watch.parked(t->fleet->watch_ctx, t, why, t->park_until_ms);
}

void target_unpark(struct target *t, uint64_t now)
{
    if (t->parked_for == FAILURE_NONE)
        return;
    come_back(t, now);
    t->parked_for = FAILURE_NONE;
    t->park_until_ms = 0;
    t->park_steps = 0;
    if (t->fleet->watch.parked)
        t->fleet->watch.parked(t->fleet->watch_ctx, t, FAILURE_NONE, 0);
    queue_tell(t->fleet, t, now);
}

/* ---- may it be used */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

const char *target_bar_name(enum target_bar b)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        TARGET_BARS(X)
#undef X
    };
    return (unsigned)b < TARGET_BAR_COUNT ? names[b] : "?";
}

/* What holds it back for its health; `*at` becomes later, `*by_probe`: a probe decides. */
static enum target_bar health_bar(const struct target *t, uint64_t now, uint64_t *at, bool *by_probe)
{
    enum target_bar bar = TARGET_FREE;
    if (!breaker_allows(&t->breaker)) {
        bar = TARGET_DOWN;
        if (t->breaker.state == BREAKER_TRIAL) {
            bar = TARGET_TRIAL;
            *at = later(*at, now + TARGET_SOON_MS); /* its places are taken */
        } else {
            if (t->breaker.state == BREAKER_OPEN)
                *at = later(*at, t->breaker.open_until_ms);
            *by_probe = t->breaker_rules.probes;
        }
    }
    if (t->rest_until_ms > now) {
        *at = later(*at, t->rest_until_ms);
        if (bar != TARGET_DOWN)
            bar = TARGET_RESTING;
    }
    if (t->parked_for != FAILURE_NONE) {
        *at = later(*at, t->park_until_ms);
        bool probed = t->probe_every_ms > 0; /* without probes the time alone decides */
        *by_probe = *by_probe || probed;
        if (t->park_until_ms > now || probed)
            bar = TARGET_PARKED;
    }
    return bar;
}

static bool influx_full(const struct target *t, uint64_t now)
{
    return t->influx.most && t->influx.started >= t->influx.most && now < t->influx.since_ms + INFLUX_MS;
}

enum target_bar target_look(struct target *t, size_t prompt_bytes, uint64_t now, uint64_t *ret_ready_at_ms)
{
    target_tick(t, now);
    uint64_t at = now, refilled;
    bool by_probe = false;
    enum target_bar bar = health_bar(t, now, &at, &by_probe);
    if (t->rate_paced && !rate_allows(&t->budget, prompt_bytes, now, &refilled)) {
        at = later(at, refilled);
        if (bar == TARGET_FREE)
            bar = TARGET_RATE;
    }
    if (!limiter_allows(&t->limiter, t->running, now)) {
        if (bar == TARGET_FREE)
            bar = TARGET_BUSY;
        at = later(at, now + TARGET_SOON_MS);
    }
    if (bar == TARGET_FREE && influx_full(t, now)) {
        bar = TARGET_INFLUX;
        at = t->influx.since_ms + INFLUX_MS;
    }
    if (by_probe) /* one that is under way decides soon */
        at = (t->probing ? at : later(at, t->probe_at_ms)) + TARGET_SOON_MS;
    *ret_ready_at_ms = bar == TARGET_FREE ? now : at;
    return bar;
}

bool target_only_guessed(struct target *t, size_t prompt_bytes, uint64_t now)
{
    uint64_t at;
    return target_look(t, prompt_bytes, now, &at) == TARGET_RATE && !rate_told(&t->budget, prompt_bytes, now) &&
           limiter_allows(&t->limiter, t->running, now);
}

bool target_usable(struct target *t, uint64_t now, uint64_t *ret_ready_at_ms)
{
    return target_look(t, 0, now, ret_ready_at_ms) == TARGET_FREE;
}

/* ---- the life of an attempt */

struct place target_start(struct target *t, size_t prompt_bytes, uint64_t now)
{
    target_tick(t, now);
    t->running++;
    enum pace_state from = t->pace.state;
    if (t->pace_watched && pace_start(&t->pace, &t->pace_rules, now))
        pace_changed(t, from);
    struct place p = {.trial = breaker_start(&t->breaker), .started_ms = now};
    rate_start(&t->budget, prompt_bytes, now, &p.rate);
    return p;
}

void target_moved(struct target *t, uint64_t now)
{
    if (!t->influx.most || now >= t->influx.since_ms + INFLUX_MS) {
        t->influx.since_ms = now;
        t->influx.started = 0;
        t->influx.most = INFLUX_LEAST + t->running / INFLUX_SHARE;
    }
    t->influx.started++;
}

void target_rate_facts(struct target *t, struct place *p, const struct rate_facts *facts, uint64_t now)
{
    static const struct rate_facts nothing = {-1, -1, -1, -1, -1, -1};
    t->rate = facts ? *facts : nothing;
    rate_facts_said(&t->budget, &p->rate, &t->rate, p->started_ms, now);
    queue_tell(t->fleet, t, now);
}

void target_first_token(struct target *t, struct place *p, uint64_t ttft_ms, uint64_t now)
{
    ewma_add(&t->ttft_ms, (double)ttft_ms);
    quantile_add(&t->ttft, ttft_ms);
    enum breaker_state from = t->breaker.state;
    breaker_output(&t->breaker, &t->breaker_rules, &p->trial, now);
    breaker_changed(t, from, now);
    limiter_success(&t->limiter);
    queue_tell(t->fleet, t, now);
}

void target_used(struct target *t, struct place *p, size_t prompt_bytes, uint64_t tokens)
{
    rate_used(&t->budget, &p->rate, prompt_bytes, tokens, p->started_ms);
}

void target_waited(struct target *t, uint64_t at_least_ms)
{
    /* Not a sample for the quantile: a slow target would talk its own limit up. */
    if ((double)at_least_ms > t->ttft_ms.value)
        ewma_add(&t->ttft_ms, (double)at_least_ms);
}

void target_rate(struct target *t, double tokens_per_second, uint64_t tokens, uint64_t now)
{
    enum pace_state from = t->pace.state;
    ewma_add(&t->tokens_per_second, tokens_per_second);
    if (t->pace_watched && tokens >= PACE_TOKENS_LEAST && tokens_per_second > 0 &&
        pace_sample(&t->pace, &t->pace_rules, PACE_TOKEN, 0, 1000 / tokens_per_second, now))
        pace_changed(t, from);
}

/* What began before a rest or a parking and ends well says nothing against it: a revoked key lets running streams finish. So a
 * success counts only after their time. */
static void ended_well(struct target *t, uint32_t trial, uint64_t now)
{
    t->ok_total++;
    t->last_ok_ms = now;
    if (t->rest_until_ms <= now)
        t->rest_steps = 0;
    if (t->park_until_ms <= now && t->probe_every_ms == 0)
        target_unpark(t, now);
    if (t->breaker.state == BREAKER_CLOSED) {
        t->early_probes = t->false_starts = 0;
        t->early_at_ms = 0;
    }
    breaker_told(t, BREAKER_OK, trial, now);
}

static void ended_badly(struct target *t, const struct verdict *v, uint32_t trial, uint64_t now)
{
    t->failed_total++;
    t->last_failed_ms = now;
    t->last_failure = v->failure;
    enum breaker_result res = BREAKER_NEUTRAL;
    switch (failure_row(v->failure)->blame) {
    case BLAME_NONE:
        break;
    case BLAME_FAILURE:
        res = BREAKER_FAILED;
        target_early_told(t, v, now);
        break;
    case BLAME_TIMEOUT:
        res = BREAKER_TIMED_OUT;
        target_early_told(t, v, now);
        break;
    case BLAME_LIMIT:
        target_rest(t, v, now);
        break;
    case BLAME_PARK:
        target_park(t, v->failure, v, now);
        break;
    }
    breaker_told(t, res, trial, now);
}

/* It has no room for so many at once. */
static bool too_many(const struct verdict *v)
{
    return v->failure == FAILURE_OVERLOAD ||
           (v->failure == FAILURE_RATE && (v->limit == LIMIT_CONCURRENCY || v->limit == LIMIT_RAMP));
}

void target_end(struct target *t, const struct verdict *v, bool cancelled, struct place *p, uint64_t now)
{
    uint32_t trial = p->trial;
    rate_end(&t->budget, &p->rate, cancelled ? NULL : v, p->started_ms, now);
    if (t->limited && !cancelled && v && too_many(v))
        limiter_overload(&t->limiter, t->running, p->started_ms, now);
    t->running--;
    if (t->rest_for_place && t->rest_until_ms > now &&
        (cancelled || !v || failure_row(v->failure)->blame != BLAME_LIMIT)) {
        t->rest_until_ms = now; /* there is a free place again */
        t->rest_for_place = false;
    }
    if (cancelled)
        breaker_told(t, BREAKER_NEUTRAL, trial, now);
    else if (!v || v->failure == FAILURE_NONE)
        ended_well(t, trial, now);
    else
        ended_badly(t, v, trial, now);
    queue_tell(t->fleet, t, now);
}

uint64_t target_ttft_limit(const struct target *t, const struct settings *s, size_t prompt_bytes, bool reasoning)
{
    if (s->ttft == 0 || !s->ttft_adaptive)
        return s->ttft;
    uint64_t ms = s->ttft + (uint64_t)prompt_bytes * 1000 / TTFT_BYTES_PER_S;
    if (reasoning)
        ms *= TTFT_REASONING;
    if (t->ttft.total < TTFT_SAMPLES_LEAST)
        return ms;
    return later(ms, quantile_at(&t->ttft, 0.95) * 5 / 4);
}
