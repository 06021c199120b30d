#include "relay/ledger.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/text.h"
#include "provider/failure.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PICO 1000000000000LL /* picodollars of a dollar */
enum { NAME_RAW_MAX = 132, ID_MAX = 24 };
/* Of what is read, and of sums: two of these can be added. */
static const int64_t NUMBER_MAX = 1LL << 50, CALL_PICO_MAX = 1LL << 53, SUM_PICO_MAX = 1LL << 60;

enum sum {
#define X(name) SUM_##name,
    LEDGER_SUMS(X)
#undef X
        SUM_COUNT
};
static const char *const sum_names[] = {
#define X(name) #name,
    LEDGER_SUMS(X)
#undef X
};

struct totals {
    int64_t calls, attempts, failed, last_ms;
    int64_t estimated, unpriced; /* calls of which a part is */
    int64_t known_pico;          /* cost, as far as it is known */
    int64_t sums[SUM_COUNT];
    int64_t failures[FAILURE_COUNT];
};
struct line {
    size_t n;
    char text[];
};
struct entry {
    struct list node; /* used last: first */
    char id[ID_MAX];
    char name[NAME_RAW_MAX]; /* the inside of a JSON string */
    struct totals totals;
    unsigned first, count; /* a ring: its oldest line, and how many there are */
    struct line *lines[LEDGER_CALLS];
};
struct ledger {
    pthread_mutex_t lock;
    struct list entries;
    unsigned count;
};

struct ledger *ledger_new(void)
{
    struct ledger *l = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->entries);
    return l;
}

static void entry_free(struct entry *e)
{
    for (unsigned i = 0; i < LEDGER_CALLS; i++)
        mem_free(e->lines[i]);
    mem_free(e);
}

static void drop(struct ledger *l, struct entry *e)
{
    list_remove(&e->node);
    l->count--;
    entry_free(e);
}

struct ledger *ledger_free(struct ledger *l)
{
    if (!l)
        return NULL;
    LIST_EACH(node, &l->entries)
    drop(l, LIST_OF(node, struct entry, node));
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
    return NULL;
}

static struct entry *find(struct ledger *l, struct span id)
{
    LIST_EACH(node, &l->entries)
    {
        struct entry *e = LIST_OF(node, struct entry, node);
        if (span_is(id, e->id))
            return e;
    }
    return NULL;
}

static struct entry *entry_new(struct span id)
{
    struct entry *e = mem_zalloc(sizeof(*e));
    if (!e)
        return NULL;
    list_init(&e->node);
    text_copy(e->id, sizeof(e->id), id);
    return e;
}

/* Among the others, as the one used last. */
static void enter(struct ledger *l, struct entry *e)
{
    if (l->count == LEDGER_SESSIONS)
        drop(l, LIST_OF(l->entries.prev, struct entry, node));
    l->count++;
    list_push_front(&l->entries, &e->node);
}

/* ---- what a line says --------------------------------------------------------------------- */

static int64_t number(struct json call, const char *name)
{
    int64_t v;
    if (!json_i64(json_get(call, name), &v) || v < 0)
        return 0;
    return v < NUMBER_MAX ? v : NUMBER_MAX;
}

static void add_up(int64_t *sum, int64_t v, int64_t most)
{
    *sum = *sum + v < most ? *sum + v : most;
}

static bool read_usd(struct json v, int64_t most, int64_t *ret)
{
    double usd;
    if (!json_f64(v, &usd) || usd < 0 || usd * (double)PICO > (double)most)
        return false;
    *ret = llround(usd * (double)PICO);
    return true;
}

/* FAILURE_COUNT: a class of another version. */
static enum failure failure_of(struct json name)
{
    for (int f = 0; f < FAILURE_COUNT; f++)
        if (json_is(name, failure_row((enum failure)f)->name))
            return (enum failure)f;
    return FAILURE_COUNT;
}

static void sum(struct totals *t, struct json call)
{
    struct json_walk w;
    struct json a;
    int64_t pico, ended_ms = number(call, "began_ms") + number(call, "took_ms");
    t->calls++;
    if (ended_ms > t->last_ms)
        t->last_ms = ended_ms;
    t->estimated += json_is_true(json_get(call, "estimated"));
    if (read_usd(json_get(call, "cost_usd"), CALL_PICO_MAX, &pico))
        add_up(&t->known_pico, pico, SUM_PICO_MAX);
    else
        t->unpriced++;
    for (unsigned i = 0; i < SUM_COUNT; i++)
        add_up(&t->sums[i], number(call, sum_names[i]), NUMBER_MAX);
    json_walk_init(&w, json_get(call, "attempts"));
    while (json_walk_next(&w, NULL, &a)) {
        enum failure f = failure_of(json_get(a, "class"));
        t->attempts++;
        t->failed += f != FAILURE_NONE;
        if (f < FAILURE_COUNT)
            t->failures[f]++;
    }
}

static bool has_call(const struct entry *e, struct span id)
{
    for (unsigned i = 0; i < e->count && id.n; i++) {
        const struct line *line = e->lines[(e->first + i) % LEDGER_CALLS];
        struct json have = json_get((struct json){JSON_OBJECT, span_of(line->text, line->n)}, "id");
        if (span_eq(json_inner(have), id))
            return true;
    }
    return false;
}

static struct line *copy_line(struct span text)
{
    struct line *line = mem_alloc(sizeof(*line) + text.n);
    if (!line)
        return NULL;
    line->n = text.n;
    memcpy(line->text, text.p, text.n);
    return line;
}

/* The line that had its place is what is returned. */
static struct line *push(struct entry *e, struct line *line)
{
    struct line **at = &e->lines[(e->first + e->count) % LEDGER_CALLS], *old = *at;
    *at = line;
    if (e->count == LEDGER_CALLS)
        e->first = (e->first + 1) % LEDGER_CALLS;
    else
        e->count++;
    return old;
}

static void take_name(struct entry *e, struct json call)
{
    struct span name = json_inner(json_get(call, "name"));
    if (name.n && name.n < sizeof(e->name))
        text_copy(e->name, sizeof(e->name), name);
}

/* A session's name that fits; n 0: there is none. */
static struct span session_of(struct json v)
{
    struct span id = json_inner(json_get(v, "session"));
    return id.n < ID_MAX ? id : SPAN_NONE;
}

static pd_err add(struct ledger *l, struct span id, struct json call, struct line **line)
{
    struct entry *e = find(l, id);
    if (e && has_call(e, json_inner(json_get(call, "id"))))
        return PD_EXISTS;
    if (e) {
        list_remove(&e->node);
        list_push_front(&l->entries, &e->node);
    } else {
        e = entry_new(id);
        if (!e)
            return PD_NOMEM;
        enter(l, e);
    }
    sum(&e->totals, call);
    take_name(e, call);
    *line = push(e, *line);
    return PD_OK;
}

pd_err ledger_add(struct ledger *l, struct span text)
{
    struct json call = {JSON_OBJECT, text};
    if (text.n > LEDGER_LINE_MAX)
        return PD_TOOBIG;
    if (!span_starts(text, "{") || json_check(text))
        return PD_INVALID;
    struct span id = session_of(call);
    if (id.n == 0)
        return PD_INVALID;
    struct line *line = copy_line(text);
    if (!line)
        return PD_NOMEM;
    pthread_mutex_lock(&l->lock);
    pd_err e = add(l, id, call, &line);
    pthread_mutex_unlock(&l->lock);
    mem_free(line);
    return e;
}

/* ---- what is told ---------------------------------------------------------------------------- */

void ledger_put_usd(struct put *p, int64_t pico)
{
    if (pico < 0) {
        put_text(p, "null");
        return;
    }
    char decimals[16];
    snprintf(decimals, sizeof(decimals), "%012lld", (long long)(pico % PICO));
    size_t n = strlen(decimals);
    while (n > 1 && decimals[n - 1] == '0')
        n--;
    put_printf(p, "%lld.%.*s", (long long)(pico / PICO), (int)n, decimals);
}

static void put_totals(struct put *p, const struct entry *e)
{
    const struct totals *t = &e->totals;
    const char *comma = "";
    put_text(p, "{\"session\":");
    put_json(p, span_str(e->id));
    put_printf(p, ",\"name\":\"%s\",\"last_ms\":%lld,\"calls\":%lld,\"attempts\":%lld,\"failed\":%lld", e->name,
               (long long)t->last_ms, (long long)t->calls, (long long)t->attempts, (long long)t->failed);
    for (unsigned i = 0; i < SUM_COUNT; i++)
        put_printf(p, ",\"%s\":%lld", sum_names[i], (long long)t->sums[i]);
    put_printf(p, ",\"estimated\":%lld,\"unpriced\":%lld,\"cost_usd\":", (long long)t->estimated,
               (long long)t->unpriced);
    ledger_put_usd(p, t->unpriced ? -1 : t->known_pico);
    put_text(p, ",\"known_usd\":");
    ledger_put_usd(p, t->known_pico);
    put_text(p, ",\"failures\":{");
    for (int f = FAILURE_NONE + 1; f < FAILURE_COUNT; f++) {
        if (t->failures[f] == 0)
            continue;
        put_printf(p, "%s\"%s\":%lld", comma, failure_row((enum failure)f)->name, (long long)t->failures[f]);
        comma = ",";
    }
    put_text(p, "}");
}

static void put_session(struct put *p, const struct entry *e)
{
    put_totals(p, e);
    put_text(p, ",\"list\":[");
    for (unsigned i = 0; i < e->count; i++) {
        const struct line *line = e->lines[(e->first + i) % LEDGER_CALLS];
        put_text(p, i ? "," : "");
        put_span(p, span_of(line->text, line->n));
    }
    put_text(p, "]}");
}

void ledger_list(struct ledger *l, unsigned limit, struct put *p)
{
    unsigned count = 0;
    put_text(p, "{\"sessions\":[");
    pthread_mutex_lock(&l->lock);
    LIST_EACH(node, &l->entries)
    {
        if (count == limit)
            break;
        put_text(p, count++ ? "," : "");
        put_totals(p, LIST_OF(node, struct entry, node));
        put_text(p, "}");
    }
    pthread_mutex_unlock(&l->lock);
    put_text(p, "]}");
}

bool ledger_show(struct ledger *l, struct span id, struct put *p)
{
    pthread_mutex_lock(&l->lock);
    const struct entry *e = find(l, id);
    if (e)
        put_session(p, e);
    pthread_mutex_unlock(&l->lock);
    return e != NULL;
}

/* ---- across a restart ------------------------------------------------------------------------ */

pd_err ledger_save(struct ledger *l, ledger_fn *fn, void *ctx)
{
    struct buf session = {0};
    pd_err e = PD_OK;
    pthread_mutex_lock(&l->lock);
    for (struct list *n = l->entries.prev; n != &l->entries && !e; n = n->prev) {
        buf_clear(&session);
        struct put p = put_into(&session);
        put_session(&p, LIST_OF(n, struct entry, node));
        e = p.err ? p.err : fn(ctx, buf_span(&session));
    }
    pthread_mutex_unlock(&l->lock);
    buf_done(&session);
    return e;
}

static void load_totals(struct totals *t, struct json session)
{
    struct json failures = json_get(session, "failures");
    t->calls = number(session, "calls");
    t->attempts = number(session, "attempts");
    t->failed = number(session, "failed");
    t->last_ms = number(session, "last_ms");
    t->estimated = number(session, "estimated");
    t->unpriced = number(session, "unpriced");
    (void)read_usd(json_get(session, "known_usd"), SUM_PICO_MAX, &t->known_pico);
    for (unsigned i = 0; i < SUM_COUNT; i++)
        t->sums[i] = number(session, sum_names[i]);
    for (int f = FAILURE_NONE + 1; f < FAILURE_COUNT; f++)
        t->failures[f] = number(failures, failure_row((enum failure)f)->name);
}

static pd_err load_lines(struct entry *e, struct json list)
{
    struct json_walk w;
    struct json call;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &call)) {
        struct line *line = copy_line(call.raw);
        if (!line)
            return PD_NOMEM;
        mem_free(push(e, line));
    }
    return PD_OK;
}

pd_err ledger_load(struct ledger *l, struct span session)
{
    struct json v = {JSON_OBJECT, session};
    if (!span_starts(session, "{") || json_check(session))
        return PD_INVALID;
    struct span id = session_of(v);
    struct json list = json_get(v, "list");
    if (id.n == 0 || list.type != JSON_ARRAY)
        return PD_INVALID;
    struct entry *e = entry_new(id);
    pd_err err = e ? load_lines(e, list) : PD_NOMEM;
    if (err) {
        if (e)
            entry_free(e);
        return err;
    }
    load_totals(&e->totals, v);
    take_name(e, v);
    pthread_mutex_lock(&l->lock);
    struct entry *before = find(l, id);
    if (before)
        drop(l, before);
    enter(l, e);
    pthread_mutex_unlock(&l->lock);
    return PD_OK;
}
