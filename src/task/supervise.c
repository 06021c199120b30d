#include "task/supervise.h"

#include <assert.h>
#include <string.h>

static const char *const state_names[] = {
#define X(code, name, what) name,
    SUPERVISE_STATES(X)
#undef X
};
static const char *const why_names[] = {
#define X(code, name, what) name,
    SUPERVISE_WHYS(X)
#undef X
};

const char *supervise_state_name(enum supervise_state s)
{
    return state_names[s];
}

const char *supervise_why_name(enum supervise_why w)
{
    return why_names[w];
}

void supervise_rules_default(struct supervise_rules *r)
{
    *r = (struct supervise_rules){.restarts = SUPERVISE_RESTARTS,
                                  .window_ms = SUPERVISE_WINDOW_MS,
                                  .stall_ms = SUPERVISE_STALL_MS,
                                  .pause_ms = SUPERVISE_PAUSE_MS,
                                  .pause_most_ms = SUPERVISE_PAUSE_MOST_MS};
}

static uint64_t after(uint64_t now, uint64_t ms)
{
    return ms > UINT64_MAX - now ? UINT64_MAX : now + ms;
}

/* The only place that writes s->state: what entering a state means is here. */
static void enter(struct supervise *s, enum supervise_state to, uint64_t now)
{
    s->due_ms = UINT64_MAX;
    switch (to) {
    case SUPERVISE_RUNNING:
        s->starts++;
        s->began_ms = s->progress_ms = s->sign_ms = now;
        break;
    case SUPERVISE_WAITING:
        s->due_ms = after(now, s->pause_ms);
        s->pause_ms = s->pause_ms < s->rules.pause_most_ms / 2 ? s->pause_ms * 2 : s->rules.pause_most_ms;
        break;
    case SUPERVISE_IDLE:
    case SUPERVISE_ENDING:
    case SUPERVISE_CHECKING:
    case SUPERVISE_STOPPING:
    case SUPERVISE_DONE:
    case SUPERVISE_PAUSED:
    case SUPERVISE_STOPPED:
        break;
    case SUPERVISE_STATE_COUNT:
        assert(!"not a state");
    }
    s->state = to;
}

void supervise_init(struct supervise *s, const struct supervise_rules *r)
{
    *s = (struct supervise){.rules = *r, .due_ms = UINT64_MAX, .pause_ms = r->pause_ms};
    if (s->rules.restarts > SUPERVISE_RESTARTS_MAX - 1)
        s->rules.restarts = SUPERVISE_RESTARTS_MAX - 1;
}

void supervise_recall(struct supervise *s, unsigned starts, uint64_t now, const uint64_t *ages_ms, unsigned count)
{
    s->starts = starts;
    for (unsigned i = 0; i < count && s->restarted < SUPERVISE_RESTARTS_MAX && ages_ms[i] <= now; i++)
        s->restarted_ms[s->restarted++] = now - ages_ms[i];
}

unsigned supervise_recent(const struct supervise *s, uint64_t now)
{
    unsigned n = 0;
    while (n < s->restarted && now - s->restarted_ms[n] < s->rules.window_ms)
        n++;
    return n;
}

enum supervise_action supervise_begin(struct supervise *s, uint64_t now)
{
    s->why = s->starts ? SUPERVISE_RESUMED : SUPERVISE_FIRST;
    enter(s, SUPERVISE_RUNNING, now);
    return SUPERVISE_START;
}

void supervise_progress(struct supervise *s, uint64_t now)
{
    s->progress_ms = s->sign_ms = now;
}

void supervise_said(struct supervise *s, uint64_t now)
{
    if (now - s->sign_ms < SUPERVISE_SAID_STALLS * s->rules.stall_ms)
        s->progress_ms = now;
}

static enum supervise_action again(struct supervise *s, enum supervise_why why, uint64_t now)
{
    s->why = why;
    if (supervise_recent(s, now) >= s->rules.restarts) {
        enter(s, SUPERVISE_PAUSED, now);
        return SUPERVISE_ALERT;
    }
    if (now - s->began_ms >= s->rules.window_ms)
        s->pause_ms = s->rules.pause_ms;
    memmove(s->restarted_ms + 1, s->restarted_ms, (SUPERVISE_RESTARTS_MAX - 1) * sizeof(s->restarted_ms[0]));
    s->restarted_ms[0] = now;
    if (s->restarted < SUPERVISE_RESTARTS_MAX)
        s->restarted++;
    enter(s, SUPERVISE_WAITING, now);
    return SUPERVISE_NOTHING;
}

enum supervise_action supervise_fell(struct supervise *s, uint64_t now)
{
    return again(s, SUPERVISE_FELL, now);
}

enum supervise_action supervise_ended(struct supervise *s, bool well, uint64_t now)
{
    switch (s->state) {
    case SUPERVISE_STOPPING:
        enter(s, SUPERVISE_STOPPED, now);
        return SUPERVISE_LEAVE;
    case SUPERVISE_ENDING: /* with 0 too: asked to end is not done */
        return again(s, SUPERVISE_STALLED, now);
    case SUPERVISE_RUNNING:
        if (!well)
            return again(s, SUPERVISE_DIED, now);
        enter(s, s->rules.check ? SUPERVISE_CHECKING : SUPERVISE_DONE, now);
        return s->rules.check ? SUPERVISE_CHECK : SUPERVISE_LEAVE;
    case SUPERVISE_IDLE:
    case SUPERVISE_CHECKING:
    case SUPERVISE_WAITING:
    case SUPERVISE_DONE:
    case SUPERVISE_PAUSED:
    case SUPERVISE_STOPPED:
    case SUPERVISE_STATE_COUNT:
        break;
    }
    return SUPERVISE_NOTHING;
}

enum supervise_action supervise_checked(struct supervise *s, bool passed, uint64_t now)
{
    if (s->state == SUPERVISE_STOPPING) {
        enter(s, SUPERVISE_STOPPED, now);
        return SUPERVISE_LEAVE;
    }
    if (s->state != SUPERVISE_CHECKING)
        return SUPERVISE_NOTHING;
    if (!passed)
        return again(s, SUPERVISE_UNPROVEN, now);
    s->verified = true;
    enter(s, SUPERVISE_DONE, now);
    return SUPERVISE_LEAVE;
}

enum supervise_action supervise_stop(struct supervise *s, uint64_t now)
{
    switch (s->state) {
    case SUPERVISE_RUNNING:
    case SUPERVISE_CHECKING: /* what is run then is the check: it is ended too */
        enter(s, SUPERVISE_STOPPING, now);
        return SUPERVISE_END;
    case SUPERVISE_ENDING: /* it was asked already */
        enter(s, SUPERVISE_STOPPING, now);
        return SUPERVISE_NOTHING;
    case SUPERVISE_IDLE:
    case SUPERVISE_WAITING:
        enter(s, SUPERVISE_STOPPED, now);
        return SUPERVISE_LEAVE;
    case SUPERVISE_STOPPING:
    case SUPERVISE_DONE:
    case SUPERVISE_PAUSED:
    case SUPERVISE_STOPPED:
    case SUPERVISE_STATE_COUNT:
        break;
    }
    return SUPERVISE_NOTHING;
}

uint64_t supervise_next(const struct supervise *s)
{
    return s->state == SUPERVISE_RUNNING ? after(s->progress_ms, s->rules.stall_ms) : s->due_ms;
}

enum supervise_action supervise_wake(struct supervise *s, uint64_t now)
{
    if (now < supervise_next(s))
        return SUPERVISE_NOTHING;
    if (s->state == SUPERVISE_RUNNING) {
        enter(s, SUPERVISE_ENDING, now);
        return SUPERVISE_END;
    }
    if (s->state != SUPERVISE_WAITING)
        return SUPERVISE_NOTHING;
    enter(s, SUPERVISE_RUNNING, now);
    return SUPERVISE_START;
}
