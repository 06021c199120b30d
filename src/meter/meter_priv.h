/* meter_priv.h - the tables of a meter, shared by counting (meter.c) and writing (meter_write.c). */
#ifndef PERDURE_METER_METER_PRIV_H
#define PERDURE_METER_METER_PRIV_H

#include "meter/meter.h"

#include <pthread.h>

struct metric_row {
    const char *name;
    enum metric_type type;
    const double *bounds; /* of a histogram's buckets, rising; +Inf is not among them */
    unsigned bounds_count;
    const char *labels; /* names, separated by commas; "": none */
    const char *help;
};
extern const struct metric_row metric_rows[METRIC_COUNT];

/* All values of a label tuple, each with its NUL: at most this. */
enum { SERIES_KEY_MAX = METRIC_LABELS_MAX * (METER_LABEL_BYTES + 1) };

/* One label tuple of a family; one block of memory with its key and its buckets. */
struct series {
    uint64_t hash;
    double value;       /* counter, gauge; of a histogram the sum */
    uint64_t count;     /* of a histogram */
    struct span key;    /* the label values, each with its NUL */
    uint64_t buckets[]; /* bounds_count, not cumulated; what is above the last bound is in `count` only */
};

struct family {
    struct series **slots; /* open addressing; NULL: free */
    struct series *last;   /* the one that was counted last; NULL: none yet */
    unsigned slots_count;  /* a power of two, or 0 */
    unsigned series_count;
    unsigned labels_count;
    bool has_other; /* the series that takes what is beyond METRIC_SERIES_MAX is there; it is not among those */
};

struct meter {
    pthread_mutex_t lock;
    struct family families[METRIC_COUNT];
    uint64_t lost; /* counts lost for want of memory */
};

/* The series of that key, made when it is new; past METRIC_SERIES_MAX that of "other". NULL: out of memory. Under m->lock. */
struct series *meter_series(struct meter *m, enum metric id, struct span key) PD_CHECKED;

#endif
