/* What was learned, as text, over a restart. A line each; the target's name ends it, since it may hold spaces:
 *
 *   fleet 2 WRITTEN                                           the first line
 *   breaker UNTIL HOLD TARGET                                 rest UNTIL STEPS TARGET
 *   park CLASS UNTIL STEPS TARGET                             session ID UNTIL TARGET
 *   rate KIND HOW LIMIT LEFT SAID PER RESET MOVES TARGET      ceiling KIND SHARES CONFIRMED REFUSED TARGET
 *   prompt TOKENS BYTES TARGET                                limit STATE ATTEMPTS TARGET
 *   ttft MS SAMPLES BUCKET:COUNT,... TARGET                   speed PER_SECOND SAMPLES TARGET
 *   pace KIND SIZE LOG_MS SAMPLES MOVED TARGET                budget TOKENS WHICH
 *   since WRITTEN                                             what follows was written then, of targets not seen since
 *   end HASH                                                  of all before it: the document is whole
 *
 * Times are wall clock, in milliseconds; other figures whole numbers, in the units that REMEMBER_UNITS names. A document of the first
 * version (fleet 1) has the first four kinds, no WRITTEN and no end. */
#include "base/hash.h"
#include "parse/put.h"
#include "route/remember_priv.h"

#include <math.h>
#include <stdio.h>

typedef unsigned long long ull;

static uint64_t to_wall(uint64_t t, uint64_t now, uint64_t wall)
{
    if (t >= now)
        return wall + (t - now);
    return wall > now - t ? wall - (now - t) : 0;
}

/* Until then: what is over is over now. */
static uint64_t until(uint64_t t, uint64_t now, uint64_t wall)
{
    return to_wall(t > now ? t : now, now, wall);
}

static ull scaled(double v, double units)
{
    v *= units;
    return v > 0 ? v < REMEMBER_MOST ? (ull)llround(v) : (ull)REMEMBER_MOST : 0;
}

/* ---- what keeps a target out */

static pd_err save_bars(struct buf *out, const struct target *t, uint64_t now, uint64_t wall)
{
    pd_err e = PD_OK;
    uint64_t open_until = t->breaker.state == BREAKER_OPEN ? t->breaker.open_until_ms : now;
    if (t->breaker.state != BREAKER_CLOSED) /* probing and on trial: open, and due */
        e = buf_printf(out, "breaker %llu %llu %s\n", (ull)until(open_until, now, wall), (ull)t->breaker.hold_ms,
                       t->name);
    if (!e && t->parked_for != FAILURE_NONE)
        e = buf_printf(out, "park %s %llu %u %s\n", failure_row(t->parked_for)->name,
                       (ull)until(t->park_until_ms, now, wall), t->park_steps, t->name);
    if (!e && t->rest_until_ms > now)
        e = buf_printf(out, "rest %llu %u %s\n", (ull)until(t->rest_until_ms, now, wall), t->rest_steps, t->name);
    return e;
}

/* ---- what it lets through */

static pd_err save_meter(struct buf *out, const struct target *t, enum rate_kind kind, uint64_t now, uint64_t wall)
{
    const struct rate_meter *m = &t->budget.meter[kind];
    const char *how = m->bucket ? "bucket" : m->reset_guessed ? "guessed" : "window";
    pd_err e = PD_OK;
    if (m->limit >= 0)
        e = buf_printf(out, "rate %s %s %llu %llu %llu %llu %llu %u %s\n", rate_kind_name(kind), how,
                       scaled(m->limit, 1), scaled(rate_left_exact(&t->budget, kind), REMEMBER_UNITS),
                       scaled(m->said_left, 1), scaled(m->per_ms, REMEMBER_PER_MS),
                       (ull)to_wall(m->reset_ms, now, wall), m->moves, t->name);
    if (!e && m->ceiling > 0)
        e = buf_printf(out, "ceiling %s %llu %u %llu %s\n", rate_kind_name(kind),
                       scaled(m->ceiling, REMEMBER_UNITS), m->confirmed, (ull)to_wall(m->refused_ms, now, wall),
                       t->name);
    return e;
}

static pd_err save_limits(struct buf *out, struct target *t, uint64_t now, uint64_t wall)
{
    pd_err e = PD_OK;
    rate_tick(&t->budget, now);
    for (int k = 0; k < RATE_KIND_COUNT && !e; k++)
        e = save_meter(out, t, (enum rate_kind)k, now, wall);
    if (!e && t->budget.bytes > 0)
        e = buf_printf(out, "prompt %llu %llu %s\n", scaled(t->budget.tokens, REMEMBER_UNITS),
                       scaled(t->budget.bytes, REMEMBER_UNITS), t->name);
    if (!e && t->limiter.state != LIMITER_FREE)
        e = buf_printf(out, "limit %s %llu %s\n", limiter_state_name(t->limiter.state),
                       scaled(t->limiter.limit, REMEMBER_UNITS), t->name);
    return e;
}

/* ---- how quick it is */

static pd_err save_ttft(struct buf *out, const struct target *t)
{
    if (t->ttft_ms.samples == 0)
        return PD_OK;
    pd_err e =
        buf_printf(out, "ttft %llu %llu ", scaled(t->ttft_ms.value, REMEMBER_UNITS), (ull)t->ttft_ms.samples);
    const char *comma = "";
    for (unsigned i = 0; i < QUANTILE_BUCKETS && !e; i++) {
        if (!t->ttft.count[i])
            continue;
        e = buf_printf(out, "%s%u:%u", comma, i, t->ttft.count[i]);
        comma = ",";
    }
    return e ? e : buf_printf(out, "%s %s\n", *comma ? "" : "-", t->name);
}

static pd_err save_base(struct buf *out, const struct target *t, enum pace_kind kind, unsigned size,
                        const struct pace_base *b, uint64_t now, uint64_t wall)
{
    if (b->samples == 0)
        return PD_OK;
    return buf_printf(out, "pace %s %u %llu %llu %llu %s\n", pace_kind_name(kind), size,
                      scaled(b->log_ms, REMEMBER_UNITS), (ull)b->samples, (ull)to_wall(b->moved_ms, now, wall),
                      t->name);
}

static pd_err save_speed(struct buf *out, const struct target *t, uint64_t now, uint64_t wall)
{
    pd_err e = save_ttft(out, t);
    if (!e && t->tokens_per_second.samples)
        e = buf_printf(out, "speed %llu %llu %s\n", scaled(t->tokens_per_second.value, REMEMBER_UNITS),
                       (ull)t->tokens_per_second.samples, t->name);
    for (unsigned i = 0; i < PACE_SIZES && !e; i++)
        e = save_base(out, t, PACE_TTFT, i, &t->pace.ttft[i], now, wall);
    return e ? e : save_base(out, t, PACE_TOKEN, 0, &t->pace.token, now, wall);
}

/* ---- the whole */

/* Thousands of them, with the fleet's lock held: without printf. */
static pd_err save_session(struct buf *out, uint64_t session, uint64_t until_ms, const char *target)
{
    struct put p = put_into(out);
    put_text(&p, "session ");
    put_uint(&p, session);
    put_text(&p, " ");
    put_uint(&p, until_ms);
    put_text(&p, " ");
    put_text(&p, target);
    put_text(&p, "\n");
    return p.err;
}

static pd_err save_sessions(struct fleet *f, struct buf *out, uint64_t now, uint64_t wall)
{
    pd_err e = PD_OK;
    unsigned saved = 0;
    for (unsigned i = 0; i < FLEET_SESSIONS_MAX && saved < FLEET_SAVED_SESSIONS && !e; i++) {
        if (!f->affinity.used[i / AFFINITY_STRETCH]) {
            i |= AFFINITY_STRETCH - 1; /* to its end */
            continue;
        }
        const struct affinity_slot *s = &f->affinity.slots[i];
        if (!s->session || s->until_ms <= now || s->target >= f->count ||
            strchr(f->targets[s->target]->name, '\n'))
            continue;
        saved++;
        e = save_session(out, s->session, until(s->until_ms, now, wall), f->targets[s->target]->name);
    }
    return e;
}

/* Targets that were made on demand and are not there yet: what is known of them stays known for a while. */
static pd_err save_unseen(const struct fleet *f, struct buf *out, uint64_t wall)
{
    struct span text = span_of(f->unseen.text, f->unseen.bytes);
    bool kept = false;
    pd_err e = PD_OK;
    while (text.n && !e) {
        struct span line = span_cut(&text, '\n');
        uint64_t since;
        if (remember_since(line, &since))
            kept = since + FLEET_UNSEEN_MS > wall;
        if (kept)
            e = buf_printf(out, "%.*s\n", SPAN_FMT(line));
    }
    return e;
}

pd_err fleet_save(struct fleet *f, struct buf *out, uint64_t now, uint64_t wall)
{
    size_t before = buf_size(out);
    char end[REMEMBER_END_BYTES + 1];
    pd_err e = buf_printf(out, "fleet 2 %llu\n", (ull)wall);
    if (!e)
        e = buf_printf(out, "budget %llu retry\nbudget %llu hedge\n", scaled(f->retries.tokens, REMEMBER_UNITS),
                       scaled(f->hedges.tokens, REMEMBER_UNITS));
    for (unsigned i = 0; i < f->count && !e; i++) {
        struct target *t = f->targets[i];
        if (strchr(t->name, '\n'))
            continue;
        e = save_bars(out, t, now, wall);
        if (!e)
            e = save_limits(out, t, now, wall);
        if (!e)
            e = save_speed(out, t, now, wall);
    }
    if (!e)
        e = save_sessions(f, out, now, wall);
    if (!e)
        e = save_unseen(f, out, wall);
    if (e)
        return e;
    remember_end(span_from(buf_span(out), before), end);
    return buf_puts(out, end);
}

void remember_end(struct span doc, char ret[REMEMBER_END_BYTES + 1])
{
    snprintf(ret, REMEMBER_END_BYTES + 1, "end %016llx\n", (ull)hash_bytes(doc, 0));
}
