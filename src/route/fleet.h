/* fleet.h - all targets with their shared numbers, and which one to take.
 *
 * Pure: no clock, no sockets, no memory taken while deciding. Workers share one
 * fleet: the caller holds fleet_lock() around calls here and in call/, never
 * across I/O. Targets live until the fleet ends (a reload keeps those whose name
 * and provider stay, with their numbers). */
#ifndef PERDURE_ROUTE_FLEET_H
#define PERDURE_ROUTE_FLEET_H

#include "base/buf.h"
#include "base/err.h"
#include "base/rnd.h"
#include "base/span.h"
#include "conf/conf.h"
#include "meter/stat.h"
#include "provider/classify.h"
#include "provider/failure.h"
#include "route/breaker.h"
#include "route/limiter.h"
#include "route/pace.h"
#include "route/queue.h"
#include "route/rate_budget.h"

enum { FLEET_TARGETS_MAX = 4096, ROUTE_TARGETS_MAX = 32, FLEET_SESSIONS_MAX = 65536 };

/* ---- a target ---- */
struct target {
    const char *name; /* "provider/model" */
    const char *provider, *model;
    unsigned id; /* index in the fleet, stable */
    struct fleet *fleet;
    struct breaker breaker;
    struct breaker_rules breaker_rules;
    uint64_t rest_until_ms;  /* BLAME_LIMIT: busy until */
    unsigned rest_steps;     /* rests in a row without a Retry-After: each doubles the next */
    bool rest_for_place;     /* the limit was on concurrency, no time was told: an attempt's end ends the rest */
    uint64_t park_until_ms;  /* BLAME_PARK: out of use until, then a probe */
    enum failure parked_for; /* FAILURE_NONE: not parked */
    unsigned park_steps;     /* parked again and again: each doubles the next */
    struct pace pace;        /* whether it throttles by becoming slow */
    struct pace_rules pace_rules;
    bool pace_watched; /* off: nothing is sampled */
    struct ewma ttft_ms, tokens_per_second;
    struct quantile ttft;
    unsigned running;     /* attempts now on it */
    bool probing;         /* a probe is under way */
    uint64_t probe_at_ms; /* not before */
    uint64_t probe_every_ms;
    uint64_t early_at_ms;    /* an early probe, not before */
    uint64_t early_every_ms; /* between two of them at most, unless they say what is not true; 0: none are made */
    unsigned early_probes;   /* since the last whole answer: each doubles the time until the next */
    unsigned false_starts;   /* trials that failed since then: each makes early probes half as frequent */
    uint64_t ok_total, failed_total, last_ok_ms, last_failed_ms;
    enum failure last_failure;
    struct rate_facts rate; /* as the last headers said */
    struct limiter limiter;
    bool limited; /* concurrency_adaptive; off: overload cuts nothing, it only comes back a few at a time */
    struct rate_budget budget;
    bool rate_paced; /* rate_pacing; off: nothing is held back */
    struct {
        uint64_t since_ms;
        unsigned started, most;
    } influx; /* calls that moved to it since then, and how many of them may until INFLUX_MS later */
};
/* When a provider dies under thousands of calls, the others are asked to take them: a part of what they have already, and a few, in each
 * INFLUX_MS. Whoever comes fresh is not counted. */
enum { INFLUX_MS = 20, INFLUX_LEAST = 20, INFLUX_SHARE = 20 };

/* Why a target cannot be used now: the first that holds. */
#define TARGET_BARS(X)                                                      \
    X(TARGET_FREE, "none", "it can be used")                                \
    X(TARGET_PARKED, "parked", "key, quota or model: out of use")           \
    X(TARGET_DOWN, "breaker", "its breaker is open, or a probe decides")    \
    X(TARGET_RESTING, "resting", "it said that it has enough")              \
    X(TARGET_TRIAL, "trial", "a few calls find out whether it works again") \
    X(TARGET_RATE, "rate", "its budget of requests or tokens is used up")   \
    X(TARGET_BUSY, "busy", "as many attempts run on it as it can take")     \
    X(TARGET_INFLUX, "influx", "many calls move to it at once: a part of them each moment")

enum target_bar {
#define X(code, name, what) code,
    TARGET_BARS(X)
#undef X
        TARGET_BAR_COUNT
};
const char *target_bar_name(enum target_bar b);

/* What an attempt holds of its target, from target_start() to target_end(). */
struct place {
    uint32_t trial; /* the breaker's trial place; TRIAL_NONE */
    struct rate_share rate;
    uint64_t started_ms;
};

/* ---- a route: plain values, made by whoever has the config; must outlive the calls that use it ---- */
struct route_target {
    struct target *target;
    uint64_t weight; /* 0: only when the others are down */
    unsigned
        group; /* 0: it stands alone; else the number of its group: one provider's regions, in order, of one weight together */
    struct settings settings; /* nearest-wins overlay for this route and this provider */
};
struct route {
    const char *name;
    enum conf_strategy strategy;
    struct route_target targets[ROUTE_TARGETS_MAX];
    unsigned count;
    struct settings settings;
};

/* ---- budgets: a share of calls over the last minutes, above a floor ---- */
struct budget {
    double tokens;
    uint64_t filled_ms; /* when the floor was last looked after */
};
/* Tokens at the start and what can be saved up. Below the floor one token comes back in each refill time, so that a gateway with few calls
 * is not left without retries for good. */
enum { BUDGET_FLOOR = 10, BUDGET_MOST = 100, BUDGET_REFILL_MS = 30 * 1000 };

struct fleet;
struct fleet *fleet_new(uint64_t seed) PD_CHECKED;
struct fleet *fleet_free(struct fleet *f);
void fleet_lock(struct fleet *f);
void fleet_unlock(struct fleet *f);
/* The target of this name, made when new. Settings give its breaker and probe rules from now on. PD_TOOBIG over FLEET_TARGETS_MAX. */
pd_err fleet_target(struct fleet *f, const char *provider, const char *model, const struct settings *s,
                    struct target **ret) PD_CHECKED;
/* Whether the target's pace is watched (the preset's throttles_by_latency, or what the config says); off at first. */
void target_watch_pace(struct target *t, bool on);
unsigned fleet_count(const struct fleet *f);
struct target *fleet_at(struct fleet *f, unsigned i);
struct rnd *fleet_rnd(struct fleet *f);

/* ---- choosing ---- */
struct pick_ask {
    const struct route *route;
    uint64_t session;   /* 0: none */
    uint32_t not_these; /* bit per route target: tried, or running now */
    uint64_t now_ms;
    unsigned group; /* one of its regions has failed the call: the others come before any other target; 0: none */
    size_t prompt_bytes;         /* 0: of any size */
    const struct ticket *ticket; /* whoever waits before it goes first (queue.h); NULL: nobody is waited for */
    bool
        pressed; /* it has waited long: what we only guess of rate limits, and those in line for it, hold it back no longer */
};
struct pick {
    int index; /* into route->targets; -1: none can be used now */
    uint64_t
        ready_at_ms; /* when none: the earliest moment at which one of those not excluded may be usable; CLOCK_NEVER: unknown or never */
};
/* The strategy among usable targets (breaker allows, not resting, not parked), targets with weight before those without; a session's own
 * target first while it is usable, then the regions of ask->group. By weight a group is one choice: its first usable region.
 * Targets that throttle by becoming slow are left out of all this as long as there are others, standbys too. */
void fleet_pick(struct fleet *f, const struct pick_ask *ask, struct pick *ret);
/* `*ret_ready_at_ms`: now, or the earliest moment at which asking again makes sense. Where a probe or others' trial calls decide, that
 * is a guess of TARGET_SOON_MS. */
enum { TARGET_SOON_MS = 500 };
bool target_usable(struct target *t, uint64_t now, uint64_t *ret_ready_at_ms);
/* The same for a prompt of this size (0: of any), and why not. */
enum target_bar target_look(struct target *t, size_t prompt_bytes, uint64_t now, uint64_t *ret_ready_at_ms);
/* All that keeps an attempt with this prompt from it now is a guess of ours at its rate: what refusals taught, a reset that nobody has
 * told. A guess may delay a call, and never fail it. */
bool target_only_guessed(struct target *t, size_t prompt_bytes, uint64_t now);
/* A session's target, until it was not used for keep_ms. The table has a fixed size; when full the one nearest its end is forgotten. */
void fleet_remember(struct fleet *f, uint64_t session, const struct target *t, uint64_t keep_ms, uint64_t now);

/* ---- the life of an attempt on a target ---- */
/* What it takes: a trial place, a share of the budgets. To be handed to those below. */
struct place target_start(struct target *t, size_t prompt_bytes, uint64_t now);
/* What was just started goes on with, or tries again, what another attempt could not do. */
void target_moved(struct target *t, uint64_t now);
/* The head of an answer is there: what it says of limits; NULL, or all -1: nothing. */
void target_rate_facts(struct target *t, struct place *p, const struct rate_facts *facts, uint64_t now);
void target_first_token(struct target *t, struct place *p, uint64_t ttft_ms, uint64_t now);
/* What the provider counted for it in the end, prompt and answer together. At most once, before or after target_end(). */
void target_used(struct target *t, struct place *p, size_t prompt_bytes, uint64_t tokens);
/* It gave nothing for so long and was then given up: at least that long it would have taken. */
void target_waited(struct target *t, uint64_t at_least_ms);
/* The same two for its pace: after how long a prompt of this size had its first token, or was given up. */
void target_pace(struct target *t, size_t prompt_bytes, uint64_t ttft_ms, uint64_t now);
void target_pace_waited(struct target *t, size_t prompt_bytes, uint64_t at_least_ms, uint64_t now);
/* NULL or FAILURE_NONE: ended well. `cancelled`: by us, says nothing (but a place is given back). Exactly once for each start. */
void target_end(struct target *t, const struct verdict *v, bool cancelled, struct place *p, uint64_t now);
/* An answer of so many tokens flowed at this rate. Few tokens say little of the pace. */
void target_rate(struct target *t, double tokens_per_second, uint64_t tokens, uint64_t now);
/* The TTFT limit for a request of this size: the setting, or when adaptive at least the target's own p95 x 1.25 and more for long prompts
 * (+1 s for each 100 KB) and for reasoning (x 4). 0: off. */
uint64_t target_ttft_limit(const struct target *t, const struct settings *s, size_t prompt_bytes, bool reasoning);

/* ---- probes ---- */
/* A target that wants a probe now (breaker PROBING, or parked and due, or OPEN while calls wait for it): marks it as probing and returns it; NULL when none. `*ret_next_ms`:
 * when to ask again, as things stand: a breaker that opens later (fleet_watch) can make it earlier. Each one returned is owed a result.
 *
 * A probe that gets any answer about its request (a 400, a filter) passes: the target works. A rate limit makes it rest, a refused
 * key parks it again, and our own trouble (FAILURE_OURS) says nothing: in these cases it is asked again later. */
struct target *fleet_probe_due(struct fleet *f, uint64_t now, uint64_t *ret_next_ms);
void fleet_probe_result(struct fleet *f, struct target *t, const struct verdict *v, uint64_t now);
/* The times between early probes, which calls that wait cause: 1, 2, 4 s and so on up to `probe_waiting`, with some spread. A Retry-After,
 * a rest and parking are waited out all the same. Whether calls wait is looked at once in EARLY_LOOK_MS. */
enum { EARLY_FIRST_MS = 1000, EARLY_LOOK_MS = 1000, EARLY_MOST_MS = 10 * 60 * 1000 };
/* When one that waits may see it usable again, where it can be used at `ready_at_ms` without anyone waiting. */
uint64_t target_recovers_ms(const struct target *t, uint64_t ready_at_ms, uint64_t now);

/* ---- budgets ---- */
struct budget *fleet_retry_budget(struct fleet *f);
struct budget *fleet_hedge_budget(struct fleet *f);
void budget_earn(struct budget *b, uint64_t ratio_millionths, uint64_t now); /* one call came */
bool budget_spend(struct budget *b);                                         /* false: used up */

/* Called at every change of a breaker, of parking or of the pace, for logs and metrics. Set once. Runs under the lock: keep it short. */
struct fleet_watch {
    void (*breaker)(void *ctx, const struct target *t, enum breaker_state from, enum breaker_state to);
    void (*parked)(void *ctx, const struct target *t, enum failure why,
                   uint64_t until_ms); /* FAILURE_NONE: in use again */
    void (*paced)(void *ctx, const struct target *t, enum pace_state from, enum pace_state to);
    /* This waiting call should look now (queue.h): its runner wakes it, after the lock. */
    void (*ready)(void *ctx, struct ticket *ticket);
};
void fleet_set_watch(struct fleet *f, const struct fleet_watch *w, void *ctx);

/* ---- over a restart
 * What was learned, as text: what keeps targets out (open breakers, parking, rests), what they let through (rate budgets, ceilings,
 * limits of concurrency), how quick they usually are, which session is on which target, what is left of the budgets. Loading takes
 * targets that are there already, after the configuration has made them, and others as soon as fleet_target() makes them. Documents of
 * older versions are read too. PD_SYNTAX: some of it was not understood; what was is taken, and nothing at all of a document that is
 * damaged. The caller holds the lock. */
enum { FLEET_SAVED_SESSIONS = 8192, FLEET_RESTORED_MS = 24 * 3600 * 1000 };
pd_err fleet_save(struct fleet *f, struct buf *out, uint64_t now, uint64_t wall_ms) PD_CHECKED;
pd_err fleet_load(struct fleet *f, struct span doc, uint64_t now, uint64_t wall_ms) PD_CHECKED;

#endif
