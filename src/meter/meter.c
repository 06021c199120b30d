#include "meter/meter_priv.h"

#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <math.h>

/* Bounds of the histograms' buckets. Those of durations and tokens are the ones OpenTelemetry's GenAI conventions advise, carried
 * on to what long agent calls take; 2 s (the default limit) is a bound of TTFT so that its share can be read exactly. */
static const double bounds_TTFT[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                                     0.75,  1,     1.5,  2,    2.5,  5,    7.5,  10,  30,   60};
static const double bounds_DURATION[] = {0.01, 0.02,  0.04,  0.08,  0.16,  0.32,   0.64,   1.28,   2.56,
                                         5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36, 1310.72};
static const double bounds_PER_TOKEN[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                          0.15,  0.2,    0.3,   0.4,  0.5,   0.75, 1,     2.5};
static const double bounds_RATE[] = {1, 2, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000};
static const double bounds_MICROS[] = {5e-6,   10e-6,  15e-6,  20e-6,  30e-6, 40e-6, 50e-6, 75e-6, 100e-6,
                                       150e-6, 200e-6, 300e-6, 500e-6, 1e-3,  2e-3,  5e-3,  10e-3, 50e-3};
static const double bounds_TOKENS[] = {1,     4,     16,     64,      256,     1024,     4096,
                                       16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
static const double bounds_COUNTS[] = {1, 2, 3, 4, 5, 8, 12, 20};

#define LIST_AND_COUNT(a) a, sizeof(a) / sizeof((a)[0])
#define BUCKETS_TTFT LIST_AND_COUNT(bounds_TTFT)
#define BUCKETS_DURATION LIST_AND_COUNT(bounds_DURATION)
#define BUCKETS_PER_TOKEN LIST_AND_COUNT(bounds_PER_TOKEN)
#define BUCKETS_RATE LIST_AND_COUNT(bounds_RATE)
#define BUCKETS_MICROS LIST_AND_COUNT(bounds_MICROS)
#define BUCKETS_TOKENS LIST_AND_COUNT(bounds_TOKENS)
#define BUCKETS_COUNTS LIST_AND_COUNT(bounds_COUNTS)
#define BUCKETS_NONE NULL, 0

const struct metric_row metric_rows[METRIC_COUNT] = {
#define METRIC(id, name, type, buckets, labels, help) {name, METRIC_##type, BUCKETS_##buckets, labels, help},
#include "meter/metrics.def"
#undef METRIC
};

enum { SLOTS_LEAST = 8 };

static unsigned labels_of(const struct metric_row *row)
{
    unsigned n = row->labels[0] != '\0';
    for (const char *p = row->labels; *p; p++)
        n += *p == ',';
    return n;
}

/* A family without labels has its one series from the start: it is shown as 0, and counting in it needs no memory. */
struct meter *meter_new(void)
{
    struct meter *m = mem_zalloc(sizeof(*m));
    if (!m)
        return NULL;
    if (pthread_mutex_init(&m->lock, NULL)) {
        mem_free(m);
        return NULL;
    }
    for (unsigned id = 0; id < METRIC_COUNT; id++) {
        m->families[id].labels_count = labels_of(&metric_rows[id]);
        assert(m->families[id].labels_count <= METRIC_LABELS_MAX);
        if (m->families[id].labels_count == 0 && !meter_series(m, (enum metric)id, SPAN_LIT("")))
            return meter_free(m);
    }
    return m;
}

struct meter *meter_free(struct meter *m)
{
    if (!m)
        return NULL;
    for (unsigned id = 0; id < METRIC_COUNT; id++) {
        struct family *f = &m->families[id];
        for (unsigned i = 0; i < f->slots_count; i++)
            mem_free(f->slots[i]);
        mem_free(f->slots);
    }
    pthread_mutex_destroy(&m->lock);
    mem_free(m);
    return NULL;
}

/* The slot that holds the key, or the free one where it would go. There is always a free one: grow() sees to it. */
static struct series **slot_of(struct series **slots, unsigned slots_count, uint64_t hash, struct span key)
{
    for (unsigned at = (unsigned)hash;; at++) {
        struct series **slot = &slots[at & (slots_count - 1)];
        if (!*slot || ((*slot)->hash == hash && span_eq((*slot)->key, key)))
            return slot;
    }
}

/* Makes room for one more, at most three slots in four being taken. */
static pd_err grow(struct family *f)
{
    if (f->slots_count && f->series_count + 1 <= f->slots_count / 4 * 3)
        return PD_OK;
    unsigned more = f->slots_count ? f->slots_count * 2 : SLOTS_LEAST;
    struct series **slots = mem_calloc(more, sizeof(struct series *));
    if (!slots)
        return PD_NOMEM;
    for (unsigned i = 0; i < f->slots_count; i++)
        if (f->slots[i])
            *slot_of(slots, more, f->slots[i]->hash, f->slots[i]->key) = f->slots[i];
    mem_free(f->slots);
    f->slots = slots;
    f->slots_count = more;
    return PD_OK;
}

static struct series *series_new(unsigned buckets, uint64_t hash, struct span key)
{
    size_t head = sizeof(struct series) + buckets * sizeof(uint64_t);
    struct series *s = mem_zalloc(head + key.n);
    if (!s)
        return NULL;
    char *copy = (char *)s + head;
    if (key.n)
        memcpy(copy, key.p, key.n);
    s->hash = hash;
    s->key = span_of(copy, key.n);
    return s;
}

/* Every label "other". */
static struct span other_key(char *out, unsigned labels_count)
{
    for (unsigned i = 0; i < labels_count; i++)
        memcpy(out + i * sizeof("other"), "other", sizeof("other"));
    return span_of(out, labels_count * sizeof("other"));
}

struct series *meter_series(struct meter *m, enum metric id, struct span key)
{
    struct family *f = &m->families[id];
    uint64_t hash = hash_bytes(key, id);
    if (f->slots_count) {
        struct series *s = *slot_of(f->slots, f->slots_count, hash, key);
        if (s)
            return s;
    }
    char room[SERIES_KEY_MAX];
    struct span other = other_key(room, f->labels_count);
    if (f->series_count - f->has_other >= METRIC_SERIES_MAX && !span_eq(key, other)) {
        key = other;
        hash = hash_bytes(key, id);
        struct series *s = *slot_of(f->slots, f->slots_count, hash, key);
        if (s)
            return s;
    }
    if (grow(f))
        return NULL;
    struct series *s = series_new(metric_rows[id].bounds_count, hash, key);
    if (!s)
        return NULL;
    *slot_of(f->slots, f->slots_count, hash, key) = s;
    f->series_count++;
    f->has_other |= f->labels_count && span_eq(key, other);
    return s;
}

/* The values with their NULs, one after the other. A long one is cut where a character begins. */
static struct span key_of(const struct family *f, const char *const *labels, char *out)
{
    size_t n = 0;
    for (unsigned i = 0; i < f->labels_count; i++) {
        const char *value = *labels ? *labels++ : "";
        size_t bytes = strnlen(value, METER_LABEL_BYTES + 1);
        if (bytes > METER_LABEL_BYTES) {
            bytes = METER_LABEL_BYTES;
            while (bytes && ((unsigned char)value[bytes] & 0xc0) == 0x80)
                bytes--;
        }
        memcpy(out + n, value, bytes);
        n += bytes;
        out[n++] = '\0';
    }
    return span_of(out, n);
}

/* Is this the key of these labels? It has as many values as the family has labels, each with its NUL, as key_of() made it. */
static bool is_key_of(const struct family *f, const char *const *labels, const char *at)
{
    for (unsigned i = 0; i < f->labels_count; i++) {
        const char *value = *labels ? *labels++ : "";
        while (*value && *at == *value) {
            at++;
            value++;
        }
        if (*at++ != *value) /* both are at their NUL, or they differ */
            return false;
    }
    return true;
}

/* Locked when it returns a series. What is counted is mostly what was counted last: then the key need not be made. */
static struct series *lock_series(struct meter *m, enum metric id, const char *const *labels)
{
    struct family *f = &m->families[id];
    pthread_mutex_lock(&m->lock);
    if (f->last && is_key_of(f, labels, f->last->key.p))
        return f->last;
    char room[SERIES_KEY_MAX];
    struct series *s = meter_series(m, id, key_of(f, labels, room));
    if (s) {
        f->last = s;
        return s;
    }
    m->lost++;
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* A provider may report -5 tokens: a counter never goes down, so that is no count. */
void meter_add(struct meter *m, enum metric id, double v, const char *const *labels)
{
    assert(metric_rows[id].type == METRIC_COUNTER);
    if (!isfinite(v) || v < 0)
        return;
    struct series *s = lock_series(m, id, labels);
    if (!s)
        return;
    s->value += v;
    pthread_mutex_unlock(&m->lock);
}

void meter_set(struct meter *m, enum metric id, double v, const char *const *labels)
{
    assert(metric_rows[id].type != METRIC_HISTOGRAM);
    struct series *s = lock_series(m, id, labels);
    if (!s)
        return;
    s->value = v;
    pthread_mutex_unlock(&m->lock);
}

void meter_shift(struct meter *m, enum metric id, double by, const char *const *labels)
{
    assert(metric_rows[id].type == METRIC_GAUGE);
    struct series *s = lock_series(m, id, labels);
    if (!s)
        return;
    s->value += by;
    pthread_mutex_unlock(&m->lock);
}

/* A NaN would spoil the sum for ever: it is dropped. */
void meter_observe(struct meter *m, enum metric id, double v, const char *const *labels)
{
    const struct metric_row *row = &metric_rows[id];
    assert(row->type == METRIC_HISTOGRAM);
    if (!isfinite(v))
        return;
    unsigned bucket = 0;
    while (bucket < row->bounds_count && v > row->bounds[bucket])
        bucket++;
    struct series *s = lock_series(m, id, labels);
    if (!s)
        return;
    s->value += v;
    s->count++;
    if (bucket < row->bounds_count)
        s->buckets[bucket]++;
    pthread_mutex_unlock(&m->lock);
}

double meter_value(struct meter *m, enum metric id, const char *const *labels)
{
    char room[SERIES_KEY_MAX];
    struct span key = key_of(&m->families[id], labels, room);
    struct family *f = &m->families[id];
    double v = 0;
    pthread_mutex_lock(&m->lock);
    if (f->slots_count) {
        const struct series *s = *slot_of(f->slots, f->slots_count, hash_bytes(key, id), key);
        if (s)
            v = metric_rows[id].type == METRIC_HISTOGRAM ? (double)s->count : s->value;
    }
    if (id == METER_LOST)
        v += (double)m->lost;
    pthread_mutex_unlock(&m->lock);
    return v;
}
