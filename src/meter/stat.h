/* stat.h - figures that decisions are made of: moving averages and quantiles in constant memory. Pure; no clock. */
#ifndef PERDURE_METER_STAT_H
#define PERDURE_METER_STAT_H

#include <stdbool.h>
#include <stdint.h>

/* Exponentially weighted: each sample moves the value by 1/8 of the difference (as TCP's RTT); the first sets it. */
struct ewma {
    double value;
    uint64_t samples;
};
void ewma_add(struct ewma *e, double v);

/* A quantile over roughly the last `QUANTILE_WINDOW` samples: log-spaced buckets (about 9 % wide, 1 ms .. 1 h) that are halved when full. */
enum { QUANTILE_BUCKETS = 180, QUANTILE_WINDOW = 256 };
struct quantile {
    uint16_t count[QUANTILE_BUCKETS];
    uint32_t total;
    bool round_up; /* turns with each halving */
};
void quantile_add(struct quantile *q, uint64_t ms);
/* The upper bound of the bucket in which the p-quantile lies (0 < p < 1), in ms; 0 when there are no samples. */
uint64_t quantile_at(const struct quantile *q, double p);

#endif
