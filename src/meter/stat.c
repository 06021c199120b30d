#include "meter/stat.h"

#include <math.h>

void ewma_add(struct ewma *e, double v)
{
    e->value = e->samples ? e->value + (v - e->value) / 8 : v;
    e->samples++;
}

enum { QUANTILE_MAX_MS = 3600 * 1000 };

/* ln(QUANTILE_MAX_MS) / QUANTILE_BUCKETS: each bound is about 1.0875 times the one below. */
static const double step = 15.0964444034263 / QUANTILE_BUCKETS;

/* The largest whole millisecond of a bucket. */
static uint64_t bound(unsigned bucket)
{
    if (bucket >= QUANTILE_BUCKETS - 1)
        return QUANTILE_MAX_MS;
    return (uint64_t)exp((bucket + 1) * step);
}

static unsigned bucket_of(uint64_t ms)
{
    if (ms <= 1)
        return 0;
    if (ms >= QUANTILE_MAX_MS)
        return QUANTILE_BUCKETS - 1;
    double at = log((double)ms) / step;
    unsigned bucket =
        at < 1 ? 0
               : (unsigned)at -
                     1; /* one too low at worst: the loop settles it against the same bounds that are reported */
    while (bucket < QUANTILE_BUCKETS - 1 && bound(bucket) < ms)
        bucket++;
    return bucket;
}

/* Halves what stands at or below each bound, not each bucket alone: lone samples do not vanish and the quantiles keep their place.
 * Rounding up and down in turn lets a lone outlier at either end go within two windows. */
static void halve(struct quantile *q)
{
    unsigned carry = q->round_up;
    q->round_up = !q->round_up;
    q->total = 0;
    for (unsigned i = 0; i < QUANTILE_BUCKETS; i++) {
        unsigned n = q->count[i] + carry;
        q->count[i] = (uint16_t)(n / 2);
        carry = n % 2;
        q->total += n / 2;
    }
}

void quantile_add(struct quantile *q, uint64_t ms)
{
    if (q->total >= QUANTILE_WINDOW)
        halve(q);
    q->count[bucket_of(ms)]++;
    q->total++;
}

uint64_t quantile_at(const struct quantile *q, double p)
{
    if (q->total == 0)
        return 0;
    double rank = ceil(p * q->total);
    uint64_t below = 0;
    for (unsigned i = 0; i < QUANTILE_BUCKETS; i++) {
        below += q->count[i];
        if (below && (double)below >= rank)
            return bound(i);
    }
    return QUANTILE_MAX_MS;
}
