#include "route/pace.h"

#include <assert.h>
#include <math.h>

/* What is slower by less than this is not slow, whatever the factor: between a millisecond and five nobody waits. */
static const double noticed_ms[PACE_KIND_COUNT] = {250, 10};
/* Of the last answers so many have to be slow. */
enum { PACE_QUARTERS = 3 };
/* How fast `ratio` follows, and the most that one answer moves a baseline. */
static const double ratio_weight = 0.25, base_weight_most = 0.125;

const char *pace_state_name(enum pace_state s)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        PACE_STATES(X)
#undef X
    };
    return (unsigned)s < PACE_STATE_COUNT ? names[s] : "?";
}

const char *pace_kind_name(enum pace_kind k)
{
    switch (k) {
    case PACE_TTFT:
        return "ttft";
    case PACE_TOKEN:
        return "token";
    case PACE_KIND_COUNT:
        break;
    }
    return "?";
}

void pace_init(struct pace *p)
{
    *p = (struct pace){0};
}

/* ---- what is usual ------------------------------------------------------------- */

static unsigned size_of(size_t prompt_bytes)
{
    unsigned size = 0;
    for (size_t most = 4096; prompt_bytes >= most && size < PACE_SIZES - 1; most *= 4)
        size++;
    return size;
}

static struct pace_base *base_of(struct pace *p, enum pace_kind kind, size_t prompt_bytes)
{
    return kind == PACE_TTFT ? &p->ttft[size_of(prompt_bytes)] : &p->token;
}

double pace_usual_ms(const struct pace *p, enum pace_kind kind, size_t prompt_bytes)
{
    const struct pace_base *b = base_of((struct pace *)p, kind, prompt_bytes);
    return b->samples ? exp(b->log_ms) : 0;
}

static void learn(struct pace_base *b, const struct pace_rules *r, double ms, uint64_t now)
{
    double weight = 1.0 / (double)(b->samples + 1);
    if (b->samples >= r->samples) { /* by time, not by answers: a busy hour and a quiet one are both an hour */
        uint64_t passed_ms = now > b->moved_ms ? now - b->moved_ms : 0;
        weight = (double)passed_ms / PACE_SLOWLY_MS;
        if (weight > base_weight_most)
            weight = base_weight_most;
    }
    b->log_ms += (log(ms) - b->log_ms) * weight;
    b->samples++;
    b->moved_ms = now;
}

/* ---- states -------------------------------------------------------------------- */

static void forget_answers(struct pace *p)
{
    for (int k = 0; k < PACE_KIND_COUNT; k++) {
        p->slow[k] = 0;
        p->known[k] = 0;
    }
}

/* Longer each time; small again when it was as usual for longer than the longest hold. */
static void grow_hold(struct pace *p, const struct pace_rules *r, uint64_t now)
{
    bool calm = p->state == PACE_USUAL && now - p->since_ms > r->hold_max_ms;
    uint64_t most = r->hold_max_ms > r->hold_ms ? r->hold_max_ms : r->hold_ms;
    p->hold_ms = p->hold_ms == 0 || calm ? r->hold_ms : p->hold_ms * 2;
    if (p->hold_ms > most)
        p->hold_ms = most;
}

/* The only place that writes p->state: what entering a state means is here. */
static void enter(struct pace *p, const struct pace_rules *r, enum pace_state to, uint64_t now)
{
    switch (to) {
    case PACE_USUAL:
        forget_answers(p);
        p->since_ms = now;
        break;
    case PACE_THROTTLED:
        grow_hold(p, r, now);
        if (p->state == PACE_USUAL) {
            p->throttled_total++;
            p->since_ms = now;
        }
        p->until_ms = now + p->hold_ms;
        p->quick = 0;
        break;
    case PACE_TRIAL:
        p->trials_left = r->trials;
        p->until_ms = now + r->hold_ms; /* should its calls be given up, others follow */
        p->quick = 0;
        break;
    case PACE_STATE_COUNT:
        assert(!"not a state");
    }
    p->state = to;
}

bool pace_spared(const struct pace *p, uint64_t now)
{
    switch (p->state) {
    case PACE_USUAL:
        return false;
    case PACE_THROTTLED:
        return now < p->until_ms;
    case PACE_TRIAL:
        return p->trials_left == 0 && now < p->until_ms;
    case PACE_STATE_COUNT:
        break;
    }
    return false;
}

bool pace_start(struct pace *p, const struct pace_rules *r, uint64_t now)
{
    if (p->state == PACE_USUAL || pace_spared(p, now))
        return false;
    bool begins = p->state == PACE_THROTTLED;
    if (begins || p->trials_left == 0)
        enter(p, r, PACE_TRIAL, now);
    p->trials_left--;
    return begins;
}

/* ---- judging -------------------------------------------------------------------- */

static uint64_t last_bits(unsigned n)
{
    return n >= 64 ? UINT64_MAX : (1ull << n) - 1;
}

static bool mostly_slow(const struct pace *p, const struct pace_rules *r, enum pace_kind kind)
{
    unsigned slow = (unsigned)__builtin_popcountll(p->slow[kind] & last_bits(r->samples));
    return p->known[kind] >= r->samples && slow * 4 >= r->samples * PACE_QUARTERS;
}

/* Slow for so long: that is how it is now. */
static void believe(struct pace *p, const struct pace_rules *r, uint64_t now)
{
    for (int i = 0; i < PACE_SIZES; i++)
        p->ttft[i] = (struct pace_base){0};
    p->token = (struct pace_base){0};
    for (int k = 0; k < PACE_KIND_COUNT; k++)
        p->ratio[k] = 0;
    enter(p, r, PACE_USUAL, now);
}

/* An answer while the target is not as usual. Only what became slow decides: the other is no sign that it is over. */
static void judge_recovery(struct pace *p, const struct pace_rules *r, enum pace_kind kind, bool slow,
                           uint64_t now)
{
    if (now - p->since_ms >= PACE_BELIEVE_MS) {
        believe(p, r, now);
        return;
    }
    if (kind != p->cause)
        return;
    if (slow) {
        p->quick = 0;
        if (p->state == PACE_TRIAL)
            enter(p, r, PACE_THROTTLED, now);
    } else if (++p->quick >= r->trials) {
        enter(p, r, PACE_USUAL, now);
    }
}

static bool judge(struct pace *p, const struct pace_rules *r, enum pace_kind kind, bool slow, uint64_t now)
{
    enum pace_state before = p->state;
    if (p->state != PACE_USUAL) {
        judge_recovery(p, r, kind, slow, now);
        return p->state != before;
    }
    p->slow[kind] = p->slow[kind] << 1 | slow;
    if (p->known[kind] < PACE_SAMPLES_MOST)
        p->known[kind]++;
    if (slow && mostly_slow(p, r, kind)) {
        p->cause = kind;
        enter(p, r, PACE_THROTTLED, now);
    }
    return p->state != before;
}

static bool is_slow(const struct pace_base *b, const struct pace_rules *r, enum pace_kind kind, double ms)
{
    double usual_ms = exp(b->log_ms);
    return ms >= usual_ms * r->factor && ms - usual_ms >= noticed_ms[kind];
}

bool pace_sample(struct pace *p, const struct pace_rules *r, enum pace_kind kind, size_t prompt_bytes, double ms,
                 uint64_t now)
{
    struct pace_base *b = base_of(p, kind, prompt_bytes);
    if (r->factor <= 0 || !(ms >= 0))
        return false;
    if (ms < 1)
        ms = 1;
    if (b->samples < r->samples) {
        learn(b, r, ms, now);
        return false;
    }
    double ratio = ms / exp(b->log_ms);
    p->ratio[kind] = p->ratio[kind] > 0 ? p->ratio[kind] + (ratio - p->ratio[kind]) * ratio_weight : ratio;
    bool slow = is_slow(b, r, kind, ms);
    if (!slow)
        learn(b, r, ms, now);
    return judge(p, r, kind, slow, now);
}

bool pace_waited(struct pace *p, const struct pace_rules *r, size_t prompt_bytes, double at_least_ms, uint64_t now)
{
    const struct pace_base *b = base_of(p, PACE_TTFT, prompt_bytes);
    if (r->factor <= 0 || b->samples < r->samples || !is_slow(b, r, PACE_TTFT, at_least_ms))
        return false;
    return pace_sample(p, r, PACE_TTFT, prompt_bytes, at_least_ms, now);
}
