#include "route/breaker.h"

#include <assert.h>
#include <string.h>

enum { BREAKER_UNIT_SHIFT = 4 }; /* 16 ms: 32 bits last for two years, and differences survive the wrap */

const char *breaker_state_name(enum breaker_state s)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        BREAKER_STATES(X)
#undef X
    };
    return (unsigned)s < BREAKER_STATE_COUNT ? names[s] : "?";
}

static void forget_failures(struct breaker *b)
{
    b->failed_count = b->failed_next = 0;
    b->timed_out_count = b->timed_out_next = 0;
}

static uint64_t next_hold(const struct breaker_rules *r, uint64_t hold_ms)
{
    uint64_t most = r->hold_max_ms > r->hold_ms ? r->hold_max_ms : r->hold_ms;
    return hold_ms > most / 2 ? most : hold_ms * 2;
}

/* The only place that writes b->state: what entering a state means is here. */
static void enter(struct breaker *b, const struct breaker_rules *r, enum breaker_state to, uint64_t now)
{
    switch (to) {
    case BREAKER_CLOSED:
        forget_failures(b);
        break;
    case BREAKER_OPEN: {
        uint64_t hold_ms = b->hold_ms ? b->hold_ms : r->hold_ms;
        b->open_until_ms = now + hold_ms;
        b->hold_ms = next_hold(r, hold_ms);
        b->opened_total++;
        forget_failures(b);
        break;
    }
    case BREAKER_PROBING:
        break;
    case BREAKER_TRIAL:
        b->trials_left = r->trials ? r->trials : 1;
        b->trials_out = 0;
        b->trial_round++;
        break;
    case BREAKER_STATE_COUNT:
        assert(!"not a state");
    }
    b->state = to;
    b->since_ms = now;
}

void breaker_init(struct breaker *b)
{
    memset(b, 0, sizeof(*b));
}

void breaker_tick(struct breaker *b, const struct breaker_rules *r, uint64_t now)
{
    if (b->state == BREAKER_OPEN && now >= b->open_until_ms)
        enter(b, r, r->probes ? BREAKER_PROBING : BREAKER_TRIAL, now);
    else if (b->state == BREAKER_PROBING && !r->probes)
        enter(b, r, BREAKER_TRIAL, now); /* a reload switched probes off: nobody would ever decide */
}

void breaker_reopen(struct breaker *b, const struct breaker_rules *r, uint64_t until_ms, uint64_t hold_ms,
                    uint64_t now)
{
    enter(b, r, BREAKER_OPEN, now);
    b->open_until_ms = until_ms;
    if (hold_ms)
        b->hold_ms = hold_ms < r->hold_max_ms ? hold_ms : r->hold_max_ms;
}

bool breaker_allows(const struct breaker *b)
{
    switch (b->state) {
    case BREAKER_CLOSED:
        return true;
    case BREAKER_TRIAL:
        return b->trials_out < b->trials_left;
    case BREAKER_OPEN:
    case BREAKER_PROBING:
    case BREAKER_STATE_COUNT:
        return false;
    }
    return false;
}

uint32_t breaker_start(struct breaker *b)
{
    if (b->state != BREAKER_TRIAL)
        return TRIAL_NONE;
    b->trials_out++;
    return b->trial_round << 1;
}

/* A place of an earlier round was given back when that round ended. */
static bool of_this_round(const struct breaker *b, uint32_t trial)
{
    return b->state == BREAKER_TRIAL && trial != TRIAL_NONE &&
           (trial | TRIAL_SHOWN) == (b->trial_round << 1 | TRIAL_SHOWN);
}

static void pass(struct breaker *b, const struct breaker_rules *r, uint64_t now)
{
    if (--b->trials_left == 0)
        enter(b, r, BREAKER_CLOSED, now);
}

void breaker_output(struct breaker *b, const struct breaker_rules *r, uint32_t *trial, uint64_t now)
{
    if (!of_this_round(b, *trial) || *trial & TRIAL_SHOWN)
        return;
    b->trials_out--;
    *trial |= TRIAL_SHOWN;
    pass(b, r, now);
}

static void trial_result(struct breaker *b, const struct breaker_rules *r, enum breaker_result res, uint32_t trial,
                         uint64_t now)
{
    bool shown = trial & TRIAL_SHOWN;
    if (!shown)
        b->trials_out--;
    switch (res) {
    case BREAKER_OK:
        if (!shown)
            pass(b, r, now);
        break;
    case BREAKER_FAILED:
    case BREAKER_TIMED_OUT:
        enter(b, r, BREAKER_OPEN, now);
        break;
    case BREAKER_NEUTRAL:
        break;
    }
}

/* Notes one failure and says whether the ring now holds `limit` of them within the window. More than the ring remembers are met by
 * their rate: 200 in 60 s as 64 in 19 s. */
static bool over(uint32_t *at, uint16_t *count, uint16_t *next, unsigned limit, uint64_t window_ms, uint64_t now)
{
    uint32_t unit = (uint32_t)(now >> BREAKER_UNIT_SHIFT);
    at[*next] = unit;
    *next = (uint16_t)((*next + 1) % BREAKER_REMEMBERED);
    if (*count < BREAKER_REMEMBERED)
        (*count)++;

    if (limit == 0)
        return false;
    if (limit > BREAKER_REMEMBERED) {
        window_ms = window_ms * BREAKER_REMEMBERED / limit;
        limit = BREAKER_REMEMBERED;
    }
    if (*count < limit)
        return false;
    uint32_t first = at[(*next + BREAKER_REMEMBERED - limit) % BREAKER_REMEMBERED];
    return (uint64_t)(uint32_t)(unit - first) <= window_ms >> BREAKER_UNIT_SHIFT;
}

static void closed_result(struct breaker *b, const struct breaker_rules *r, enum breaker_result res, uint64_t now)
{
    if (res == BREAKER_OK)
        b->hold_ms = 0;
    if (res != BREAKER_FAILED && res != BREAKER_TIMED_OUT)
        return;
    bool open = over(b->failed_at, &b->failed_count, &b->failed_next, r->failures, r->window_ms, now);
    if (res == BREAKER_TIMED_OUT &&
        over(b->timed_out_at, &b->timed_out_count, &b->timed_out_next, r->timeouts, r->window_ms, now))
        open = true;
    if (open)
        enter(b, r, BREAKER_OPEN, now);
}

void breaker_result(struct breaker *b, const struct breaker_rules *r, enum breaker_result res, uint32_t trial,
                    uint64_t now)
{
    if (of_this_round(b, trial))
        trial_result(b, r, res, trial, now);
    else if (b->state == BREAKER_CLOSED)
        closed_result(b, r, res, now);
}

bool breaker_wants_probe(const struct breaker *b)
{
    return b->state == BREAKER_PROBING;
}

void breaker_probe_result(struct breaker *b, const struct breaker_rules *r, bool passed, uint64_t now)
{
    if (b->state == BREAKER_PROBING || (b->state == BREAKER_OPEN && passed))
        enter(b, r, passed ? BREAKER_TRIAL : BREAKER_OPEN, now);
}
