#include "relay/ledger.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/text.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define PICO 1000000000000LL /* picodollars of a dollar */
enum { NAME_RAW_MAX = 132, AGENT_RAW_MAX = 132, ID_MAX = 24, BUCKETS = 128 };
/* Of what is read, and of sums: two of these can be added. */
static const int64_t NUMBER_MAX = 1LL << 50, CALL_PICO_MAX = 1LL << 53, SUM_PICO_MAX = 1LL << 60;

const char *ledger_sum_name(enum ledger_sum s)
{
    static const char *const names[] = {
#define X(name) #name,
        LEDGER_SUMS(X)
#undef X
    };
    return (unsigned)s < LEDGER_SUM_COUNT ? names[s] : "?";
}

struct totals {
    int64_t calls, attempts, failed, last_ms;
    int64_t estimated, unpriced; /* calls of which a part is */
    int64_t known_pico;          /* cost, as far as it is known */
    int64_t sums[LEDGER_SUM_COUNT];
    int64_t failures[FAILURE_COUNT];
};
struct line {
    size_t n;
    char text[];
};
struct entry {
    struct list node; /* used last: first */
    struct list bucket;
    char id[ID_MAX];
    char name[NAME_RAW_MAX];   /* the inside of a JSON string */
    char agent[AGENT_RAW_MAX]; /* the same */
    struct totals totals;
    unsigned first, count; /* a ring: its oldest line, and how many there are */
    struct line *lines[LEDGER_CALLS];
    uint32_t marks[LEDGER_CALLS]; /* hashes of their calls' ids: few lines are read to find one */
};
struct ledger {
    pthread_mutex_t lock;
    struct list entries, buckets[BUCKETS]; /* the same, by their ids */
    unsigned count;
};

struct ledger *ledger_new(void)
{
    struct ledger *l = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->entries);
    for (unsigned i = 0; i < BUCKETS; i++)
        list_init(&l->buckets[i]);
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
    list_remove(&e->bucket);
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

static struct list *bucket_of(struct ledger *l, struct span id)
{
    return &l->buckets[hash_bytes(id, 0) % BUCKETS];
}

static struct entry *find(struct ledger *l, struct span id)
{
    struct list *alike = bucket_of(l, id);
    LIST_EACH(node, alike)
    {
        struct entry *e = LIST_OF(node, struct entry, bucket);
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
    list_init(&e->bucket);
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
    list_push_front(bucket_of(l, span_str(e->id)), &e->bucket);
}

/* ---- what a line says --------------------------------------------------------------------- */

static int64_t bounded(int64_t v)
{
    return v < NUMBER_MAX ? v : NUMBER_MAX;
}

static int64_t whole(struct json number)
{
    int64_t v;
    return json_i64(number, &v) && v > 0 ? bounded(v) : 0;
}

static int64_t number(struct json v, const char *name)
{
    return whole(json_get(v, name));
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

/* Every member of a call that counts, found in one walk. */
#define MEMBERS(X) \
    X(session)     \
    X(id)          \
    X(name)        \
    X(agent)       \
    X(began_ms)    \
    X(took_ms)     \
    LEDGER_SUMS(X) \
    X(estimated)   \
    X(cost_usd)    \
    X(attempts)
enum member {
#define X(name) MEMBER_##name,
    MEMBERS(X)
#undef X
        MEMBER_COUNT
};

/* Members stand in their order, nearly always: *next is where the search begins. */
static enum member member_of(struct span key, unsigned *next)
{
    static const struct span names[] = {
#define X(name) {#name, sizeof(#name) - 1},
        MEMBERS(X)
#undef X
    };
    for (unsigned i = 0; i < MEMBER_COUNT; i++) {
        unsigned at = (*next + i) % MEMBER_COUNT;
        if (!span_eq(key, names[at]))
            continue;
        *next = at + 1;
        return (enum member)at;
    }
    for (unsigned i = 0; i < MEMBER_COUNT && memchr(key.p, '\\', key.n); i++)
        if (json_key_is(key, names[i].p))
            return (enum member)i;
    return MEMBER_COUNT;
}

static void read_attempts(struct json list, struct ledger_call *call)
{
    struct json_walk w;
    struct json a;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &a)) {
        enum failure f = failure_of(json_get(a, "class"));
        call->attempts++;
        call->failed += f != FAILURE_NONE;
        if (f < FAILURE_COUNT)
            call->failures[f]++;
    }
}

static void read_line(struct json line, struct ledger_call *ret)
{
    struct json members[MEMBER_COUNT] = {0};
    struct json_walk w;
    struct json v;
    struct span key;
    unsigned next = 0;
    json_walk_init(&w, line);
    while (json_walk_next(&w, &key, &v)) {
        enum member m = member_of(key, &next);
        if (m < MEMBER_COUNT)
            members[m] = v;
    }
    *ret = (struct ledger_call){.session = json_inner(members[MEMBER_session]),
                                .id = json_inner(members[MEMBER_id]),
                                .name = json_inner(members[MEMBER_name]),
                                .agent = json_inner(members[MEMBER_agent]),
                                .ended_ms = whole(members[MEMBER_began_ms]) + whole(members[MEMBER_took_ms]),
                                .cost_pico = -1,
                                .estimated = json_is_true(members[MEMBER_estimated])};
    (void)read_usd(members[MEMBER_cost_usd], CALL_PICO_MAX, &ret->cost_pico);
#define X(name) ret->sums[LEDGER_##name] = whole(members[MEMBER_##name]);
    LEDGER_SUMS(X)
#undef X
    read_attempts(members[MEMBER_attempts], ret);
}

/* ---- adding --------------------------------------------------------------------------------- */

static void sum(struct totals *t, const struct ledger_call *call)
{
    t->calls++;
    if (call->ended_ms > t->last_ms)
        t->last_ms = call->ended_ms;
    t->estimated += call->estimated;
    if (call->cost_pico < 0 || call->cost_pico > CALL_PICO_MAX)
        t->unpriced++;
    else
        add_up(&t->known_pico, call->cost_pico, SUM_PICO_MAX);
    for (unsigned i = 0; i < LEDGER_SUM_COUNT; i++)
        if (call->sums[i] > 0)
            add_up(&t->sums[i], bounded(call->sums[i]), NUMBER_MAX);
    t->attempts += call->attempts;
    t->failed += call->failed;
    for (unsigned f = 0; f < FAILURE_COUNT; f++)
        t->failures[f] += call->failures[f];
}

static uint32_t mark_of(struct span id)
{
    return (uint32_t)hash_bytes(id, 0);
}

static struct span call_id(const struct line *line)
{
    return json_inner(json_get((struct json){JSON_OBJECT, span_of(line->text, line->n)}, "id"));
}

static bool has_call(const struct entry *e, struct span id)
{
    uint32_t mark = mark_of(id);
    for (unsigned i = 0; i < e->count && id.n; i++) {
        unsigned at = (e->first + i) % LEDGER_CALLS;
        if (e->marks[at] == mark && span_eq(call_id(e->lines[at]), id))
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
static struct line *push(struct entry *e, struct line *line, struct span id)
{
    unsigned at = (e->first + e->count) % LEDGER_CALLS;
    struct line *old = e->lines[at];
    e->lines[at] = line;
    e->marks[at] = mark_of(id);
    if (e->count == LEDGER_CALLS)
        e->first = (e->first + 1) % LEDGER_CALLS;
    else
        e->count++;
    return old;
}

static void take_names(struct entry *e, struct span name, struct span agent)
{
    if (name.n && name.n < sizeof(e->name))
        text_copy(e->name, sizeof(e->name), name);
    if (agent.n && agent.n < sizeof(e->agent))
        text_copy(e->agent, sizeof(e->agent), agent);
}

static bool is_session(struct span id)
{
    return id.n > 0 && id.n < ID_MAX;
}

static pd_err add(struct ledger *l, const struct ledger_call *call, struct line **line)
{
    struct entry *e = find(l, call->session);
    if (e && has_call(e, call->id))
        return PD_EXISTS;
    if (e) {
        list_remove(&e->node);
        list_push_front(&l->entries, &e->node);
    } else {
        e = entry_new(call->session);
        if (!e)
            return PD_NOMEM;
        enter(l, e);
    }
    sum(&e->totals, call);
    take_names(e, call->name, call->agent);
    *line = push(e, *line, call->id);
    return PD_OK;
}

pd_err ledger_book(struct ledger *l, const struct ledger_call *call, struct span text)
{
    if (text.n > LEDGER_LINE_MAX)
        return PD_TOOBIG;
    if (!is_session(call->session))
        return PD_INVALID;
    struct line *line = copy_line(text);
    if (!line)
        return PD_NOMEM;
    pthread_mutex_lock(&l->lock);
    pd_err e = add(l, call, &line);
    pthread_mutex_unlock(&l->lock);
    mem_free(line);
    return e;
}

pd_err ledger_add(struct ledger *l, struct span text)
{
    struct ledger_call call;
    if (text.n > LEDGER_LINE_MAX)
        return PD_TOOBIG;
    if (!span_starts(text, "{") || json_check(text))
        return PD_INVALID;
    read_line((struct json){JSON_OBJECT, text}, &call);
    return ledger_book(l, &call, text);
}

/* ---- what is told ---------------------------------------------------------------------------- */

void ledger_put_usd(struct put *p, int64_t pico)
{
    if (pico < 0) {
        put_text(p, "null");
        return;
    }
    char decimals[12]; /* as many as PICO has zeros; those at the end are left out, but for the first */
    int64_t rest = pico % PICO;
    size_t n = sizeof(decimals);
    for (size_t i = n; i-- > 0; rest /= 10)
        decimals[i] = (char)('0' + rest % 10);
    while (n > 1 && decimals[n - 1] == '0')
        n--;
    put_int(p, pico / PICO);
    put_text(p, ".");
    put_span(p, span_of(decimals, n));
}

static void put_totals(struct put *p, const struct entry *e)
{
    const struct totals *t = &e->totals;
    const char *comma = "";
    put_text(p, "{\"session\":");
    put_json(p, span_str(e->id));
    put_printf(p, ",\"name\":\"%s\",\"agent\":\"%s\",\"last_ms\":%lld,\"calls\":%lld", e->name, e->agent,
               (long long)t->last_ms, (long long)t->calls);
    put_printf(p, ",\"attempts\":%lld,\"failed\":%lld", (long long)t->attempts, (long long)t->failed);
    for (unsigned i = 0; i < LEDGER_SUM_COUNT; i++)
        put_printf(p, ",\"%s\":%lld", ledger_sum_name((enum ledger_sum)i), (long long)t->sums[i]);
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
    for (unsigned i = 0; i < LEDGER_SUM_COUNT; i++)
        t->sums[i] = number(session, ledger_sum_name((enum ledger_sum)i));
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
        mem_free(push(e, line, call_id(line)));
    }
    return PD_OK;
}

pd_err ledger_load(struct ledger *l, struct span session)
{
    struct json v = {JSON_OBJECT, session};
    if (!span_starts(session, "{") || json_check(session))
        return PD_INVALID;
    struct span id = json_inner(json_get(v, "session"));
    struct json list = json_get(v, "list");
    if (!is_session(id) || list.type != JSON_ARRAY)
        return PD_INVALID;
    struct entry *e = entry_new(id);
    pd_err err = e ? load_lines(e, list) : PD_NOMEM;
    if (err) {
        if (e)
            entry_free(e);
        return err;
    }
    load_totals(&e->totals, v);
    take_names(e, json_inner(json_get(v, "name")), json_inner(json_get(v, "agent")));
    pthread_mutex_lock(&l->lock);
    struct entry *before = find(l, id);
    if (before)
        drop(l, before);
    enter(l, e);
    pthread_mutex_unlock(&l->lock);
    return PD_OK;
}

bool ledger_has(struct ledger *l, struct span session)
{
    if (!span_starts(session, "{") || json_check(session))
        return false;
    struct span id = json_inner(json_get((struct json){JSON_OBJECT, session}, "session"));
    pthread_mutex_lock(&l->lock);
    bool has = find(l, id) != NULL;
    pthread_mutex_unlock(&l->lock);
    return has;
}
