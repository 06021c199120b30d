/* What was learned, as text, over a restart. A line each; the target's name ends it, since it may hold spaces:
 *
 *   breaker UNTIL HOLD TARGET     park CLASS UNTIL STEPS TARGET     rest UNTIL STEPS TARGET     session ID UNTIL TARGET
 *
 * Times are wall clock, in milliseconds. */
#include "route/fleet_priv.h"

static uint64_t to_wall(uint64_t t, uint64_t now, uint64_t wall)
{
    return t > now ? wall + (t - now) : wall;
}

/* A clock that was put back must not keep a target out for years. */
static uint64_t from_wall(uint64_t t, uint64_t now, uint64_t wall)
{
    uint64_t left = t > wall ? t - wall : 0;
    return now + (left < FLEET_RESTORED_MS ? left : FLEET_RESTORED_MS);
}

/* ---- writing ------------------------------------------------------------------------------ */

static pd_err save_target(struct buf *out, const struct target *t, uint64_t now, uint64_t wall)
{
    pd_err e = PD_OK;
    if (strchr(t->name, '\n'))
        return PD_OK;
    if (t->breaker.state != BREAKER_CLOSED) /* probing and on trial: open, and due */
        e = buf_printf(out, "breaker %llu %llu %s\n",
                       (unsigned long long)(t->breaker.state == BREAKER_OPEN
                                                ? to_wall(t->breaker.open_until_ms, now, wall)
                                                : wall),
                       (unsigned long long)t->breaker.hold_ms, t->name);
    if (!e && t->parked_for != FAILURE_NONE)
        e = buf_printf(out, "park %s %llu %u %s\n", failure_row(t->parked_for)->name,
                       (unsigned long long)to_wall(t->park_until_ms, now, wall), t->park_steps, t->name);
    if (!e && t->rest_until_ms > now)
        e = buf_printf(out, "rest %llu %u %s\n", (unsigned long long)to_wall(t->rest_until_ms, now, wall),
                       t->rest_steps, t->name);
    return e;
}

static pd_err save_sessions(struct fleet *f, struct buf *out, uint64_t now, uint64_t wall)
{
    pd_err e = PD_OK;
    unsigned saved = 0;
    for (unsigned i = 0; i < FLEET_SESSIONS_MAX && saved < FLEET_SAVED_SESSIONS && !e; i++) {
        const struct affinity_slot *s = &f->affinity.slots[i];
        if (!s->session || s->until_ms <= now || s->target >= f->count ||
            strchr(f->targets[s->target]->name, '\n'))
            continue;
        saved++;
        e = buf_printf(out, "session %llu %llu %s\n", (unsigned long long)s->session,
                       (unsigned long long)to_wall(s->until_ms, now, wall), f->targets[s->target]->name);
    }
    return e;
}

pd_err fleet_save(struct fleet *f, struct buf *out, uint64_t now, uint64_t wall)
{
    pd_err e = buf_puts(out, "fleet 1\n");
    for (unsigned i = 0; i < f->count && !e; i++)
        e = save_target(out, f->targets[i], now, wall);
    return e ? e : save_sessions(f, out, now, wall);
}

/* ---- reading ------------------------------------------------------------------------------- */

static struct target *named(struct fleet *f, struct span name)
{
    for (unsigned i = 0; i < f->count; i++)
        if (span_is(name, f->targets[i]->name))
            return f->targets[i];
    return NULL;
}

static enum failure class_named(struct span name)
{
    for (unsigned i = FAILURE_NONE + 1; i < FAILURE_COUNT; i++)
        if (span_is(name, failure_row((enum failure)i)->name))
            return (enum failure)i;
    return FAILURE_NONE;
}

static bool number(struct span *line, uint64_t *ret)
{
    struct span word = span_cut(line, ' ');
    return word.n && span_u64(word, ret);
}

/* False: not a line of ours. A target that is gone is none of our business any more. */
static bool load_line(struct fleet *f, struct span line, uint64_t now, uint64_t wall)
{
    uint64_t a, b;
    struct target *t;
    struct span what = span_cut(&line, ' '), class = span_is(what, "park") ? span_cut(&line, ' ') : SPAN_NONE;
    if (!number(&line, &a) || !number(&line, &b))
        return false;
    t = named(f, line);
    if (span_is(what, "session")) {
        uint64_t until = from_wall(b, now, wall);
        if (t && a && until > now)
            affinity_set(&f->affinity, a, t->id, until - now, now);
    } else if (span_is(what, "breaker")) {
        if (t)
            breaker_reopen(&t->breaker, &t->breaker_rules, from_wall(a, now, wall), b, now);
    } else if (span_is(what, "rest")) {
        if (t) {
            t->rest_until_ms = from_wall(a, now, wall);
            t->rest_steps = (unsigned)b;
        }
    } else if (class_named(class)) {
        if (t) {
            t->parked_for = class_named(class);
            t->park_until_ms = from_wall(a, now, wall);
            t->park_steps = (unsigned)b;
        }
    } else {
        return false;
    }
    return true;
}

pd_err fleet_load(struct fleet *f, struct span doc, uint64_t now, uint64_t wall)
{
    bool all = true;
    struct span first = span_cut(&doc, '\n');
    if (!span_is(first, "fleet 1"))
        return PD_SYNTAX;
    while (doc.n)
        all &= load_line(f, span_cut(&doc, '\n'), now, wall);
    return all ? PD_OK : PD_SYNTAX;
}
