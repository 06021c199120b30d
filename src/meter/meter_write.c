#include "meter/meter_priv.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *type_name(enum metric_type t)
{
    switch (t) {
    case METRIC_COUNTER:
        return "counter";
    case METRIC_GAUGE:
        return "gauge";
    case METRIC_HISTOGRAM:
        return "histogram";
    }
    return "untyped";
}

/* The shortest form that reads back as the same number. */
static const char *number(double v, char *out, size_t out_bytes)
{
    if (isnan(v))
        return "NaN";
    if (isinf(v))
        return v > 0 ? "+Inf" : "-Inf";
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, out_bytes, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    return out;
}

/* Length of the well-formed UTF-8 character at p; 0 when there is none (parse/ is a neighbour and is not included from here). */
static unsigned character(const unsigned char *p)
{
    unsigned n = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : (p[0] & 0xf0) == 0xe0       ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;
    for (unsigned i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

/* A label value between its quotes, or (without `quote`) a help text. Prometheus drops a page that is not UTF-8. */
static pd_err escaped(struct buf *out, const char *text, bool quote)
{
    const char *p = text;
    pd_err e = PD_OK;
    while (*p && !e) {
        unsigned n = character((const unsigned char *)p);
        if (*p == '\\')
            e = buf_puts(out, "\\\\");
        else if (*p == '\n')
            e = buf_puts(out, "\\n");
        else if (*p == '"' && quote)
            e = buf_puts(out, "\\\"");
        else
            e = buf_add(out, n ? span_of(p, n) : SPAN_LIT("\xef\xbf\xbd"));
        p += n ? n : 1;
    }
    return e;
}

/* {a="x",b="y",le="5"} or nothing. */
static pd_err write_labels(const struct metric_row *row, struct span key, const char *le, struct buf *out)
{
    struct span names = span_str(row->labels);
    const char *value = key.p;
    const char *before = "{";
    while (names.n) {
        struct span name = span_cut(&names, ',');
        pd_err e = buf_printf(out, "%s%.*s=\"", before, SPAN_FMT(name));
        if (!e)
            e = escaped(out, value, true);
        if (!e)
            e = buf_puts(out, "\"");
        if (e)
            return e;
        value += strlen(value) + 1;
        before = ",";
    }
    if (le)
        return buf_printf(out, "%sle=\"%s\"}", before, le);
    return *before == ',' ? buf_puts(out, "}") : PD_OK;
}

static pd_err write_sample(const struct metric_row *row, const char *suffix, struct span key, const char *le,
                           double v, struct buf *out)
{
    char room[40];
    pd_err e = buf_printf(out, "%s%s", row->name, suffix);
    if (!e)
        e = write_labels(row, key, le, out);
    return e ? e : buf_printf(out, " %s\n", number(v, room, sizeof(room)));
}

static pd_err write_series(const struct metric_row *row, const struct series *s, struct buf *out)
{
    if (row->type != METRIC_HISTOGRAM)
        return write_sample(row, "", s->key, NULL, s->value, out);
    uint64_t below = 0;
    pd_err e = PD_OK;
    for (unsigned i = 0; i < row->bounds_count && !e; i++) {
        char le[40];
        below += s->buckets[i];
        e = write_sample(row, "_bucket", s->key, number(row->bounds[i], le, sizeof(le)), (double)below, out);
    }
    if (!e)
        e = write_sample(row, "_bucket", s->key, "+Inf", (double)s->count, out);
    if (!e)
        e = write_sample(row, "_sum", s->key, NULL, s->value, out);
    return e ? e : write_sample(row, "_count", s->key, NULL, (double)s->count, out);
}

static int by_key(const void *pa, const void *pb)
{
    const struct series *a = *(struct series *const *)pa, *b = *(struct series *const *)pb;
    size_t n = a->key.n < b->key.n ? a->key.n : b->key.n;
    int order = n ? memcmp(a->key.p, b->key.p, n) : 0;
    return order ? order : (a->key.n > b->key.n) - (a->key.n < b->key.n);
}

/* Spoils the table's order: only for the sum, which is thrown away. */
static pd_err write_family(const struct metric_row *row, struct family *f, struct buf *out)
{
    if (f->series_count == 0)
        return PD_OK;
    pd_err e = buf_printf(out, "# HELP %s ", row->name);
    if (!e)
        e = escaped(out, row->help, false);
    if (!e)
        e = buf_printf(out, "\n# TYPE %s %s\n", row->name, type_name(row->type));
    unsigned n = 0;
    for (unsigned i = 0; i < f->slots_count; i++) {
        struct series *s = f->slots[i];
        f->slots[i] = NULL;
        if (s)
            f->slots[n++] = s;
    }
    qsort(f->slots, n, sizeof(struct series *), by_key);
    for (unsigned i = 0; i < n && !e; i++)
        e = write_series(row, f->slots[i], out);
    return e;
}

static pd_err merge_series(struct meter *sum, enum metric id, const struct series *from)
{
    struct series *to = meter_series(sum, id, from->key);
    if (!to)
        return PD_NOMEM;
    to->value += from->value;
    to->count += from->count;
    for (unsigned i = 0; i < metric_rows[id].bounds_count; i++)
        to->buckets[i] += from->buckets[i];
    return PD_OK;
}

static pd_err merge(struct meter *sum, struct meter *m)
{
    pd_err e = PD_OK;
    pthread_mutex_lock(&m->lock);
    for (unsigned id = 0; id < METRIC_COUNT && !e; id++) {
        const struct family *f = &m->families[id];
        for (unsigned i = 0; i < f->slots_count && !e; i++)
            if (f->slots[i])
                e = merge_series(sum, (enum metric)id, f->slots[i]);
    }
    sum->lost += m->lost;
    pthread_mutex_unlock(&m->lock);
    return e;
}

pd_err meter_write(struct meter *const *meters, unsigned count, struct buf *out)
{
    struct meter *sum = meter_new();
    pd_err e = sum ? PD_OK : PD_NOMEM;
    for (unsigned i = 0; i < count && !e; i++)
        e = merge(sum, meters[i]);
    if (!e)
        meter_add(sum, METER_LOST, (double)sum->lost, NO_LABELS);
    for (unsigned id = 0; id < METRIC_COUNT && !e; id++)
        e = write_family(&metric_rows[id], &sum->families[id], out);
    meter_free(sum);
    return e;
}

static pd_err write_bounds(const struct metric_row *row, struct buf *out)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; i < row->bounds_count && !e; i++) {
        char room[40];
        e = buf_printf(out, "%s%s", i ? " " : "", number(row->bounds[i], room, sizeof(room)));
    }
    return e;
}

pd_err metrics_write_markdown(struct buf *out)
{
    pd_err e = buf_puts(out, "| metric | type | labels | what it is | buckets |\n|---|---|---|---|---|\n");
    for (unsigned id = 0; id < METRIC_COUNT && !e; id++) {
        const struct metric_row *row = &metric_rows[id];
        e = buf_printf(out, "| `%s` | %s | ", row->name, type_name(row->type));
        struct span names = span_str(row->labels);
        while (names.n && !e) {
            struct span name = span_cut(&names, ',');
            e = buf_printf(out, "`%.*s`%s", SPAN_FMT(name), names.n ? ", " : "");
        }
        if (!e)
            e = buf_printf(out, " | %s | ", row->help);
        if (!e)
            e = write_bounds(row, out);
        if (!e)
            e = buf_puts(out, " |\n");
    }
    return e;
}
