/* meter.h - counters, gauges and histograms, and the text of /metrics.
 *
 * One row of metrics.def makes one metric family. Each worker counts in a meter of
 * its own (its lock is never contended but by a scrape); meter_write() adds them up.
 * Label values come from configuration and fixed lists, never from clients; series
 * beyond METRIC_SERIES_MAX of a family are counted together under "other". */
#ifndef PERDURE_METER_METER_H
#define PERDURE_METER_METER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum { METRIC_LABELS_MAX = 6, METRIC_SERIES_MAX = 1000, METER_LABEL_BYTES = 200 };

enum metric {
#define METRIC(id, name, type, buckets, labels, help) METER_##id,
#include "meter/metrics.def"
#undef METRIC
    METRIC_COUNT
};

struct meter;
struct meter *meter_new(void) PD_CHECKED;
struct meter *meter_free(struct meter *m);

/* `labels` are the values in the order of the row, as C strings; a missing one counts as "", a value over METER_LABEL_BYTES is cut.
 * Out of memory a count is lost and perdure_meter_lost_total says so. Any thread. */
void meter_add(struct meter *m, enum metric id, double v, const char *const *labels);
void meter_set(struct meter *m, enum metric id, double v, const char *const *labels);
void meter_observe(struct meter *m, enum metric id, double v, const char *const *labels);
/* A gauge that goes up and down. */
void meter_shift(struct meter *m, enum metric id, double by, const char *const *labels);
#define LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_LABELS ((const char *const[]){NULL})

double meter_value(struct meter *m, enum metric id,
                   const char *const *labels); /* for tests and /api; of a histogram the count */

/* Prometheus text format 0.0.4, families in the order of the file, series sorted. The meters are added up, gauges too: a gauge
 * that is a state and no amount (a breaker's) is set on one meter only. PD_NOMEM, PD_TOOBIG: what is in `out` is of no use. */
pd_err meter_write(struct meter *const *meters, unsigned count, struct buf *out) PD_CHECKED;

/* The table of all families, for docs/metrics.md. */
pd_err metrics_write_markdown(struct buf *out) PD_CHECKED;

#endif
