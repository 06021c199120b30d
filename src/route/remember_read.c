/* Reads what was learned before a restart (remember.c says how it is written). What cannot be, whatever wrote it, is left out line by
 * line. Lines of targets that are not there are kept as they are until fleet_target() makes them. */
#include "base/mem.h"
#include "route/remember_priv.h"

#include <stdio.h>

enum { WORDS_MOST = 8, SAMPLES_MOST = 1 << 30, LOG_MS_MOST = 30, STEPS_MOST = 64 };

/* A line without its name: what it says, in words and as numbers where they are. */
struct line {
    struct span word[WORDS_MOST];
    uint64_t number[WORDS_MOST];
};
struct moment {
    uint64_t now, wall; /* the same one */
};

/* A clock that was put back must not keep a target out for years. */
static uint64_t from_wall(uint64_t t, const struct moment *m)
{
    uint64_t left = t > m->wall ? t - m->wall : 0;
    return m->now + (left < FLEET_RESTORED_MS ? left : FLEET_RESTORED_MS);
}

/* Of what is over; this machine's clock may be younger than that. */
static uint64_t past(uint64_t t, const struct moment *m)
{
    uint64_t age = m->wall > t ? m->wall - t : 0;
    return m->now > age ? m->now - age : 0;
}

static unsigned steps(uint64_t n)
{
    return n < STEPS_MOST ? (unsigned)n : STEPS_MOST;
}

/* ---- the kinds of lines. Each: false when it is not one of ours; `t` NULL: only whether it is. */

static bool take_breaker(struct target *t, const struct line *l, const struct moment *m)
{
    if (t)
        breaker_reopen(&t->breaker, &t->breaker_rules, from_wall(l->number[0], m), l->number[1], m->now);
    return true;
}

static bool take_rest(struct target *t, const struct line *l, const struct moment *m)
{
    if (t) {
        t->rest_until_ms = from_wall(l->number[0], m);
        t->rest_steps = steps(l->number[1]);
    }
    return true;
}

static bool take_park(struct target *t, const struct line *l, const struct moment *m)
{
    for (unsigned i = FAILURE_NONE + 1; i < FAILURE_COUNT; i++) {
        if (!span_is(l->word[0], failure_row((enum failure)i)->name))
            continue;
        if (t) {
            t->parked_for = (enum failure)i;
            t->park_until_ms = from_wall(l->number[1], m);
            t->park_steps = steps(l->number[2]);
        }
        return true;
    }
    return false;
}

static bool take_session(struct target *t, const struct line *l, const struct moment *m)
{
    uint64_t until_ms = from_wall(l->number[1], m);
    if (t && l->number[0] && until_ms > m->now)
        affinity_set(&t->fleet->affinity, l->number[0], t->id, until_ms - m->now, m->now);
    return true;
}

static int rate_kind_of(struct span word)
{
    for (int k = 0; k < RATE_KIND_COUNT; k++)
        if (span_is(word, rate_kind_name((enum rate_kind)k)))
            return k;
    return -1;
}

static bool take_rate(struct target *t, const struct line *l, const struct moment *m)
{
    int kind = rate_kind_of(l->word[0]);
    bool bucket = span_is(l->word[1], "bucket"), guessed = span_is(l->word[1], "guessed");
    const uint64_t *n = l->number;
    double left = (double)n[3] / REMEMBER_UNITS;
    if (kind < 0 || !(bucket || guessed || span_is(l->word[1], "window")))
        return false;
    if (!t)
        return true;
    struct rate_meter *r = &t->budget.meter[kind];
    r->limit = (double)n[2];
    r->left = left < r->limit ? left : r->limit;
    r->said_left = (double)n[4];
    r->per_ms = (double)n[5] / REMEMBER_PER_MS;
    r->reset_ms = from_wall(n[6], m);
    r->moves = steps(n[7]);
    r->bucket = bucket;
    r->reset_guessed = guessed;
    r->filled_ms = m->now;
    return true;
}

static bool take_ceiling(struct target *t, const struct line *l, const struct moment *m)
{
    int kind = rate_kind_of(l->word[0]);
    if (kind < 0 || !l->number[1])
        return false;
    if (t) {
        t->budget.meter[kind].ceiling = (double)l->number[1] / REMEMBER_UNITS;
        t->budget.meter[kind].confirmed =
            l->number[2] < RATE_CONFIRMED_MOST ? (unsigned)l->number[2] : RATE_CONFIRMED_MOST;
        t->budget.meter[kind].refused_ms = past(l->number[3], m);
    }
    return true;
}

static bool take_prompt(struct target *t, const struct line *l, const struct moment *m)
{
    (void)m;
    if (t) {
        t->budget.tokens = (double)l->number[0] / REMEMBER_UNITS;
        t->budget.bytes = (double)l->number[1] / REMEMBER_UNITS;
    }
    return l->number[1] > 0;
}

static bool take_limit(struct target *t, const struct line *l, const struct moment *m)
{
    double limit = (double)l->number[1] / REMEMBER_UNITS;
    enum limiter_state s = span_is(l->word[0], limiter_state_name(LIMITER_RAMP)) ? LIMITER_RAMP : LIMITER_LIMITED;
    if (!span_is(l->word[0], limiter_state_name(s)) || limit < 1 || limit > LIMITER_MOST)
        return false;
    if (t && (t->limited || s == LIMITER_RAMP)) {
        t->limiter.state = s;
        t->limiter.limit = limit;
        t->limiter.cut_ms = t->limiter.bound_ms = m->now;
    }
    return true;
}

/* "BUCKET:COUNT,BUCKET:COUNT", or "-". */
static bool read_quantile(struct span list, struct quantile *ret)
{
    *ret = (struct quantile){0};
    if (span_is(list, "-"))
        return true;
    while (list.n) {
        struct span one = span_cut(&list, ',');
        uint64_t bucket, count;
        if (!span_u64(span_cut(&one, ':'), &bucket) || !span_u64(one, &count) || bucket >= QUANTILE_BUCKETS ||
            count > QUANTILE_WINDOW || ret->count[bucket])
            return false;
        ret->count[bucket] = (uint16_t)count;
        ret->total += (uint32_t)count;
    }
    return ret->total <= QUANTILE_WINDOW;
}

static bool take_ttft(struct target *t, const struct line *l, const struct moment *m)
{
    struct quantile q;
    (void)m;
    if (!read_quantile(l->word[2], &q))
        return false;
    if (t) {
        t->ttft = q;
        t->ttft_ms = (struct ewma){(double)l->number[0] / REMEMBER_UNITS, l->number[1]};
    }
    return true;
}

static bool take_speed(struct target *t, const struct line *l, const struct moment *m)
{
    (void)m;
    if (t)
        t->tokens_per_second = (struct ewma){(double)l->number[0] / REMEMBER_UNITS, l->number[1]};
    return true;
}

static bool take_pace(struct target *t, const struct line *l, const struct moment *m)
{
    bool token = span_is(l->word[0], pace_kind_name(PACE_TOKEN));
    double log_ms = (double)l->number[2] / REMEMBER_UNITS;
    if (!token && !span_is(l->word[0], pace_kind_name(PACE_TTFT)))
        return false;
    if (l->number[1] >= (token ? 1 : PACE_SIZES) || log_ms > LOG_MS_MOST || l->number[3] > SAMPLES_MOST)
        return false;
    if (t) {
        struct pace_base *b = token ? &t->pace.token : &t->pace.ttft[l->number[1]];
        *b = (struct pace_base){log_ms, l->number[3], past(l->number[4], m)};
    }
    return true;
}

/* Which words are numbers: 'n'; of 'w' the line itself knows. */
static const struct kind {
    const char *name, *words;
    bool (*take)(struct target *t, const struct line *l, const struct moment *m);
} kinds[] = {
    {"breaker", "nn", take_breaker}, {"rest", "nn", take_rest},       {"park", "wnn", take_park},
    {"session", "nn", take_session}, {"rate", "wwnnnnnn", take_rate}, {"ceiling", "wnnn", take_ceiling},
    {"prompt", "nn", take_prompt},   {"limit", "wn", take_limit},     {"ttft", "nnw", take_ttft},
    {"speed", "nn", take_speed},     {"pace", "wnnnn", take_pace},
};

/* NULL: not a line about a target. `*ret_name`: whose it is. */
static const struct kind *read_line(struct span text, struct line *ret, struct span *ret_name)
{
    struct span what = span_cut(&text, ' ');
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        if (!span_is(what, kinds[k].name))
            continue;
        for (unsigned i = 0; kinds[k].words[i]; i++) {
            ret->word[i] = span_cut(&text, ' ');
            ret->number[i] = 0;
            if (kinds[k].words[i] == 'n' && !span_u64(ret->word[i], &ret->number[i]))
                return NULL;
        }
        *ret_name = text;
        return text.n ? &kinds[k] : NULL;
    }
    return NULL;
}

/* ---- the whole */

static struct target *named(struct fleet *f, struct span name)
{
    for (unsigned i = 0; i < f->count; i++)
        if (span_is(name, f->targets[i]->name))
            return f->targets[i];
    return NULL;
}

bool remember_since(struct span line, uint64_t *ret)
{
    return span_is(span_cut(&line, ' '), "since") && span_u64(line, ret);
}

static bool take_budget(struct fleet *f, struct span line)
{
    uint64_t tokens;
    if (!span_is(span_cut(&line, ' '), "budget") || !span_u64(span_cut(&line, ' '), &tokens))
        return false;
    struct budget *b = span_is(line, "retry") ? &f->retries : span_is(line, "hedge") ? &f->hedges : NULL;
    if (!b)
        return false;
    b->tokens = (double)tokens / REMEMBER_UNITS < BUDGET_MOST ? (double)tokens / REMEMBER_UNITS : BUDGET_MOST;
    return true;
}

static void keep_unseen(struct fleet *f, struct span line, bool of_a_target)
{
    if (f->unseen.bytes + line.n + 1 > f->unseen.capacity)
        return;
    f->unseen.lines += of_a_target;
    memcpy(f->unseen.text + f->unseen.bytes, line.p, line.n);
    f->unseen.bytes += line.n;
    f->unseen.text[f->unseen.bytes++] = '\n';
}

static bool load_line(struct fleet *f, struct span text, const struct moment *m)
{
    struct line l;
    struct span name;
    uint64_t since;
    const struct kind *kind = read_line(text, &l, &name);
    if (!kind && remember_since(text, &since)) {
        keep_unseen(f, text, false);
        return true;
    }
    if (!kind)
        return take_budget(f, text);
    struct target *t = named(f, name);
    bool ok = kind->take(t, &l, m);
    if (ok && !t)
        keep_unseen(f, text, true);
    return ok;
}

/* Room for lines that find no target; without any they are forgotten. */
static void begin_unseen(struct fleet *f, size_t doc_bytes, const struct moment *m, uint64_t written)
{
    enum { SINCE_BYTES = 32 };
    size_t most = (doc_bytes < FLEET_UNSEEN_BYTES ? doc_bytes : FLEET_UNSEEN_BYTES) + SINCE_BYTES;
    unseen_done(&f->unseen);
    f->unseen.text = mem_alloc(most);
    if (!f->unseen.text)
        return;
    f->unseen.capacity = most;
    f->unseen.now_ms = m->now;
    f->unseen.wall_ms = m->wall;
    f->unseen.bytes = (size_t)snprintf(f->unseen.text, most, "since %llu\n", (unsigned long long)written);
}

void unseen_done(struct unseen *u)
{
    mem_free(u->text);
    *u = (struct unseen){0};
}

/* What stays of the text is moved together; when nothing does, it is given back. */
void unseen_find(struct fleet *f, struct target *t)
{
    struct unseen *u = &f->unseen;
    struct moment m = {u->now_ms, u->wall_ms};
    struct span text = span_of(u->text, u->bytes);
    size_t kept = 0;
    while (text.n) {
        struct line l;
        struct span line = span_cut(&text, '\n'), name;
        const struct kind *kind = read_line(line, &l, &name);
        if (kind && span_is(name, t->name)) {
            kind->take(t, &l, &m);
            u->lines--;
            continue;
        }
        memmove(u->text + kept, line.p, line.n);
        kept += line.n;
        u->text[kept++] = '\n';
    }
    u->bytes = kept;
    if (!u->lines)
        unseen_done(u);
}

/* Of a document of the second version what is between its first and its last line, if all of it is there. */
static bool whole(struct span *doc, uint64_t *ret_written)
{
    char end[REMEMBER_END_BYTES + 1];
    if (doc->n < REMEMBER_END_BYTES)
        return false;
    struct span before = span_upto(*doc, doc->n - REMEMBER_END_BYTES);
    remember_end(before, end);
    if (!span_is(span_from(*doc, before.n), end))
        return false;
    struct span first = span_cut(&before, '\n');
    *doc = before;
    return span_u64(span_from(first, strlen("fleet 2 ")), ret_written);
}

pd_err fleet_load(struct fleet *f, struct span doc, uint64_t now, uint64_t wall)
{
    struct moment m = {now, wall};
    uint64_t written = wall;
    bool all = true;
    if (span_starts(doc, "fleet 1\n"))
        span_cut(&doc, '\n');
    else if (!span_starts(doc, "fleet 2 ") || !whole(&doc, &written))
        return PD_SYNTAX;
    begin_unseen(f, doc.n, &m, written);
    while (doc.n) {
        bool ends = memchr(doc.p, '\n', doc.n) != NULL;
        struct span line = span_cut(&doc, '\n');
        all &= ends && load_line(f, line, &m);
    }
    if (!f->unseen.lines)
        unseen_done(&f->unseen);
    return all ? PD_OK : PD_SYNTAX;
}
