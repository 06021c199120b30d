#include "route/rate_budget.h"

#include <math.h>
#include <string.h>

enum { SLICE_MS = RATE_WINDOW_MS / RATE_SLICES };
#define CEILING_GROWTH 1.1 /* each minute without a refusal */
#define CEILING_SHARE 0.95 /* of what went through */
#define CEILING_FALL 0.5   /* at once, at most: behind a rest little went through */
#define CEILING_SAME 0.25  /* ceilings that differ by less of the first are one */
#define TOKENS_UNSURE 0.05 /* of the estimate, and of an attempt as it usually is */
#define USED_WEIGHT 0.05   /* of the newest attempt, in tokens for a byte */

const char *rate_kind_name(enum rate_kind k)
{
    static const char *const names[] = {
#define X(code, name) name,
        RATE_KINDS(X)
#undef X
    };
    return (unsigned)k < RATE_KIND_COUNT ? names[k] : "?";
}

void rate_budget_init(struct rate_budget *b)
{
    memset(b, 0, sizeof(*b));
    for (int k = 0; k < RATE_KIND_COUNT; k++)
        b->meter[k].limit = -1;
}

/* ---- time */

static void refill(struct rate_meter *m, uint64_t now)
{
    if (m->limit < 0)
        return;
    if (m->bucket) {
        m->left = fmin(m->limit, m->left + m->per_ms * (double)(now - m->filled_ms));
    } else if (now >= m->reset_ms) {
        m->left = m->limit;
        m->said_started_ms = m->reset_ms;
        m->reset_ms = now + RATE_WINDOW_MS; /* until it is told */
        m->reset_guessed = true;
        m->next_ms = 0;
    }
    m->filled_ms = now;
}

static void slide(struct rate_budget *b, uint64_t now)
{
    uint64_t slice = now / SLICE_MS;
    for (; b->slice < slice && b->slice + RATE_SLICES > slice; b->slice++)
        for (int k = 0; k < RATE_KIND_COUNT; k++)
            b->meter[k].slices[(b->slice + 1) % RATE_SLICES] = 0;
    if (b->slice < slice) { /* all of it is over */
        for (int k = 0; k < RATE_KIND_COUNT; k++)
            memset(b->meter[k].slices, 0, sizeof(b->meter[k].slices));
        b->slice = slice;
    }
}

void rate_tick(struct rate_budget *b, uint64_t now)
{
    slide(b, now);
    for (int k = 0; k < RATE_KIND_COUNT; k++)
        refill(&b->meter[k], now);
}

static double in_window(const struct rate_meter *m)
{
    double sum = 0;
    for (int i = 0; i < RATE_SLICES; i++)
        sum += m->slices[i];
    return sum;
}

/* What was started in a second that ended after this moment. */
static double started_since(const struct rate_budget *b, const struct rate_meter *m, uint64_t since_ms)
{
    uint64_t from = since_ms / SLICE_MS;
    double sum = 0;
    if (from + RATE_SLICES <= b->slice)
        return in_window(m);
    for (uint64_t i = from; i <= b->slice; i++)
        sum += m->slices[i % RATE_SLICES];
    return sum;
}

/* Less than what the provider told: what it cannot have counted by then. */
static double left_of(const struct rate_budget *b, const struct rate_meter *m)
{
    uint64_t counted_ms = m->said_started_ms > RATE_JITTER_MS ? m->said_started_ms - RATE_JITTER_MS : 0;
    return m->left - fmin(m->flying, started_since(b, m, counted_ms));
}

/* ---- may it start */

static double ceiling_of(const struct rate_meter *m, uint64_t now)
{
    uint64_t minutes = (now - m->refused_ms) / RATE_WINDOW_MS, calm = 1u << m->confirmed;
    uint64_t growing = minutes > calm ? minutes - calm : 0;
    if (m->ceiling <= 0 || growing * RATE_WINDOW_MS >= RATE_CEILING_KEEP_MS)
        return 0;
    return m->ceiling * pow(CEILING_GROWTH, (double)growing);
}

static bool spread_out(const struct rate_meter *m, double left)
{
    return !m->bucket && left < m->limit * RATE_SPREAD_SHARE;
}

/* 0: now. */
static uint64_t free_at(const struct rate_budget *b, struct rate_meter *m, double need, uint64_t now)
{
    if (m->limit < 0)
        return 0;
    refill(m, now);
    if (need > m->limit)
        need = m->limit; /* it never fits: the provider is to say so */
    double left = left_of(b, m);
    if (left >= need)
        return spread_out(m, left) && now < m->next_ms ? m->next_ms : 0;
    if (m->bucket && m->per_ms > 0)
        return now + (uint64_t)ceil((need - left) / m->per_ms);
    return m->reset_ms;
}

/* What was learned from a refusal is a guess: at the ceiling, attempts are spread, never stopped. */
static uint64_t below_ceiling_at(const struct rate_meter *m, double need, uint64_t now)
{
    double ceiling = ceiling_of(m, now);
    if (ceiling <= 0 || in_window(m) + need <= ceiling)
        return 0;
    return m->started_ms + (uint64_t)(RATE_WINDOW_MS * fmin(1, need / ceiling));
}

static double tokens_of(const struct rate_budget *b, size_t prompt_bytes)
{
    double ratio = b->bytes > 0 ? b->tokens / b->bytes : 1.0 / RATE_BYTES_PER_TOKEN;
    return fmin((double)prompt_bytes * ratio, UINT32_MAX / 2);
}

static double need_of(const struct rate_budget *b, int kind, size_t prompt_bytes)
{
    if (kind == RATE_REQUESTS)
        return 1;
    double tokens = tokens_of(b, prompt_bytes);
    return fmax(1, tokens + TOKENS_UNSURE * (tokens + b->tokens));
}

bool rate_told(struct rate_budget *b, size_t prompt_bytes, uint64_t now)
{
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        struct rate_meter *m = &b->meter[k];
        if (free_at(b, m, need_of(b, k, prompt_bytes), now) > now && !m->reset_guessed)
            return true;
    }
    return false;
}

bool rate_allows(struct rate_budget *b, size_t prompt_bytes, uint64_t now, uint64_t *ret_at_ms)
{
    *ret_at_ms = now;
    slide(b, now);
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        struct rate_meter *m = &b->meter[k];
        double need = need_of(b, k, prompt_bytes);
        uint64_t at = free_at(b, m, need, now), under = below_ceiling_at(m, need, now);
        if (under > at)
            at = under;
        if (at > *ret_at_ms)
            *ret_at_ms = at;
    }
    return *ret_at_ms == now;
}

double rate_left_exact(const struct rate_budget *b, enum rate_kind kind)
{
    return left_of(b, &b->meter[kind]);
}

int64_t rate_left(const struct rate_budget *b, enum rate_kind kind, uint64_t now)
{
    struct rate_meter m = b->meter[kind];
    if (m.limit < 0)
        return -1;
    refill(&m, now);
    double left = left_of(b, &m);
    return left > 0 ? (int64_t)left : 0;
}

/* ---- the life of an attempt */

static double share_of(const struct rate_share *s, int kind)
{
    return kind == RATE_REQUESTS ? 1 : s->tokens;
}

void rate_start(struct rate_budget *b, size_t prompt_bytes, uint64_t now, struct rate_share *ret)
{
    *ret = (struct rate_share){.tokens = (uint32_t)tokens_of(b, prompt_bytes), .flying = true};
    slide(b, now);
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        struct rate_meter *m = &b->meter[k];
        double share = share_of(ret, k);
        m->started_ms = now;
        if (m->limit >= 0) {
            refill(m, now);
            double left = left_of(b, m);
            if (spread_out(m, left) && left > 0)
                m->next_ms = now + (uint64_t)((double)(m->reset_ms - now) * fmin(1, fmax(share, 1) / left));
        }
        m->slices[b->slice % RATE_SLICES] += (uint32_t)share;
        m->flying += share;
    }
}

static void landed(struct rate_budget *b, struct rate_share *s, uint64_t started_ms)
{
    if (!s->flying)
        return;
    s->flying = false;
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        struct rate_meter *m = &b->meter[k];
        m->flying = fmax(0, m->flying - share_of(s, k));
        if (!m->refusing || started_ms > m->refused_ms)
            continue;
        m->ceiling += share_of(s, k) * CEILING_SHARE;
        s->raised |= (uint8_t)(1u << k);
    }
}

/* Nothing tells whether the provider has counted it: it has. */
static void charge(struct rate_budget *b, struct rate_share *s, int kind, uint64_t started_ms)
{
    struct rate_meter *m = &b->meter[kind];
    if (m->limit < 0 || started_ms + RATE_JITTER_MS < m->said_started_ms)
        return;
    m->left -= share_of(s, kind);
    s->charged |= (uint8_t)(1u << kind);
}

static void said(struct rate_meter *m, double limit, double left, uint64_t reset_ms, uint64_t started_ms,
                 uint64_t now)
{
    bool known = m->limit >= 0;
    if (known)
        refill(m, now);
    if (started_ms + reset_ms < now)
        return; /* of a time that may be over: all may be there again */
    if (limit < 0)
        limit = known ? fmax(m->limit, left) : left;
    uint64_t at = now + reset_ms;
    /* It was said between the attempt's begin and now: it has moved only if it did by both. */
    bool moved = known && !m->reset_guessed && started_ms + reset_ms > m->reset_ms + RATE_SAME_RESET_MS;
    bool anew = !known || m->reset_guessed || limit != m->limit || (moved && left > m->said_left);
    /* Of attempts of one moment the one with less left was counted last. */
    bool later = started_ms > m->said_started_ms + RATE_JITTER_MS ||
                 (started_ms + RATE_JITTER_MS >= m->said_started_ms && left <= m->said_left);
    if (!anew && !later) { /* older news */
        m->left = fmin(m->left, left);
        return;
    }
    if (anew)
        m->moves = 0;
    if (known && limit != m->limit)
        m->bucket = false;
    else if (moved && left <= m->said_left && ++m->moves >= RATE_MOVES)
        m->bucket = true; /* a window's reset stands still while it is used up */
    if (reset_ms > 0)
        m->per_ms = (limit - left) / (double)reset_ms;
    m->limit = limit;
    m->left = m->said_left = left;
    m->reset_ms = anew || moved || at < m->reset_ms ? at : m->reset_ms;
    m->reset_guessed = false;
    m->filled_ms = now;
    if (anew || started_ms > m->said_started_ms)
        m->said_started_ms = started_ms;
}

void rate_facts_said(struct rate_budget *b, struct rate_share *s, const struct rate_facts *f, uint64_t started_ms,
                     uint64_t now)
{
    const int64_t say[RATE_KIND_COUNT][3] = {{f->requests_limit, f->requests_left, f->requests_reset_ms},
                                             {f->tokens_limit, f->tokens_left, f->tokens_reset_ms}};
    bool flying = s->flying;
    slide(b, now);
    landed(b, s, started_ms);
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        uint64_t reset_ms = say[k][2] >= 0 ? (uint64_t)say[k][2] : RATE_WINDOW_MS;
        if (say[k][1] >= 0)
            said(&b->meter[k], (double)say[k][0], (double)say[k][1], reset_ms, started_ms, now);
        else if (flying)
            charge(b, s, k, started_ms);
    }
}

/* The provider has not counted it: it never arrived, or was refused for that. */
static void give_back(struct rate_budget *b, struct rate_share *s, uint64_t started_ms)
{
    uint64_t slice = started_ms / SLICE_MS;
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        struct rate_meter *m = &b->meter[k];
        uint32_t share = (uint32_t)share_of(s, k), *in = &m->slices[slice % RATE_SLICES];
        if (b->slice < slice + RATE_SLICES)
            *in -= share < *in ? share : *in;
        if (s->charged >> k & 1)
            m->left = fmin(m->limit, m->left + share);
        if (s->raised >> k & 1)
            m->ceiling = fmax(0, m->ceiling - share * CEILING_SHARE);
    }
    s->charged = s->raised = 0;
}

static void teach_ceiling(struct rate_meter *m, uint64_t started_ms, uint64_t now)
{
    if (m->limit >= 0 || m->refusing || (m->ceiling > 0 && started_ms <= m->refused_ms))
        return; /* headers know better; refusals in a row are one */
    double went_through = in_window(m) - m->flying;
    if (went_through < RATE_CEILING_LEAST)
        return;
    double ceiling = fmax(went_through * CEILING_SHARE, ceiling_of(m, now) * CEILING_FALL);
    bool same = m->ceiling > 0 && fabs(ceiling - m->ceiling) < m->ceiling * CEILING_SAME;
    m->confirmed = !same ? 0 : m->confirmed < RATE_CONFIRMED_MOST ? m->confirmed + 1 : m->confirmed;
    m->ceiling = ceiling;
    m->refused_ms = now;
    m->refusing = true;
}

void rate_end(struct rate_budget *b, struct rate_share *s, const struct verdict *v, uint64_t started_ms,
              uint64_t now)
{
    enum failure why = v ? v->failure : FAILURE_NONE;
    bool refused = why == FAILURE_RATE;
    bool unseen = why == FAILURE_DNS || why == FAILURE_CONNECT || why == FAILURE_TLS;
    bool flying = s->flying;
    slide(b, now);
    landed(b, s, started_ms);
    for (int k = 0; k < RATE_KIND_COUNT; k++) {
        if (flying && !refused && !unseen)
            charge(b, s, k, started_ms);
        if (!v && started_ms > b->meter[k].refused_ms)
            b->meter[k].refusing = false;
    }
    if (refused || unseen)
        give_back(b, s, started_ms);
    if (!refused || v->has_retry_after)
        return;
    if (v->limit == LIMIT_TOKENS)
        teach_ceiling(&b->meter[RATE_TOKENS], started_ms, now);
    else if (v->limit == LIMIT_REQUESTS || v->limit == LIMIT_UNKNOWN)
        teach_ceiling(&b->meter[RATE_REQUESTS], started_ms, now);
}

void rate_used(struct rate_budget *b, struct rate_share *s, size_t prompt_bytes, uint64_t tokens,
               uint64_t started_ms)
{
    if (tokens > UINT32_MAX / 2)
        return; /* no answer has so many: not to be believed */
    struct rate_meter *m = &b->meter[RATE_TOKENS];
    uint64_t slice = started_ms / SLICE_MS;
    uint32_t *in = &m->slices[slice % RATE_SLICES];
    double more = (double)tokens - s->tokens, sum = (double)*in + more;
    if (b->slice < slice + RATE_SLICES)
        *in = sum > 0 ? (uint32_t)fmin(sum, UINT32_MAX) : 0;
    if (s->charged >> RATE_TOKENS & 1)
        m->left -= more;
    if (s->flying)
        m->flying = fmax(0, m->flying + more);
    s->tokens = (uint32_t)tokens;
    if (prompt_bytes == 0)
        return;
    double weight = b->bytes > 0 ? USED_WEIGHT : 1; /* of both, so that short prompts do not make long ones dear */
    b->tokens += weight * ((double)tokens - b->tokens);
    b->bytes += weight * ((double)prompt_bytes - b->bytes);
}
