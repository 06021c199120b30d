/* sim.h - a world of virtual time around route/ and call/: simulated providers that fail in every way, clients that come, wait and leave.
 *
 *   clients --arrive, leave-->  runner (world.c)  --events-->  call/, route/   the code under test, unchanged
 *   providers (provider.c)  --what becomes of an attempt-->  runner  <--actions--
 *                                                              |
 *                                                    invariants.c looks at every step
 *
 * Everything comes from one seed: the same seed gives the same run, to the last event. The world keeps its own books of what it saw
 * and did; the invariants compare these with what the code under test believes. */
#ifndef PERDURE_TESTS_SIM_H
#define PERDURE_TESTS_SIM_H

#include "base/rnd.h"
#include "call/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- faults: each must have happened in a run, or the run proves nothing about it */
#define FAULTS(X)                                         \
    X(NO_FAULT, "none")                                   \
    X(RATE_TOLD, "429 with Retry-After")                  \
    X(RATE_BARE, "429 without")                           \
    X(RATE_PLACES, "429, too many at once")               \
    X(QUOTA, "quota used up")                             \
    X(BILLING, "unpaid")                                  \
    X(AUTH, "key refused")                                \
    X(PERMISSION, "not permitted")                        \
    X(NOT_FOUND, "model unknown")                         \
    X(OVERLOADED, "529")                                  \
    X(UNAVAILABLE, "503 with Retry-After")                \
    X(SERVER, "500")                                      \
    X(SERVER_STOP, "500 with x-should-retry: false")      \
    X(OVERLOADED_RETRY, "529 with x-should-retry: true")  \
    X(GATEWAY, "504")                                     \
    X(DNS, "name not resolved")                           \
    X(CONNECT, "connection refused")                      \
    X(TLS, "handshake failed")                            \
    X(RESET, "reset before output")                       \
    X(RESET_ALL, "outage that resets what runs")          \
    X(SILENT, "no answer at all")                         \
    X(SLOW, "slow first token")                           \
    X(STALL, "silent after some tokens")                  \
    X(CUT, "cut after some tokens")                       \
    X(MALFORMED, "unreadable")                            \
    X(EMPTY, "success without an answer")                 \
    X(TOOL, "tool call that does not fit")                \
    X(CONTEXT, "prompt too long")                         \
    X(BAD, "bad request")                                 \
    X(FILTER, "content filtered")                         \
    X(OURS, "out of memory on our side")                  \
    X(FLAP, "up and down every few seconds")              \
    X(DRIFT, "latency drifting up")                       \
    X(THROTTLE, "throttling by latency")                  \
    X(CROWDED, "529, more at once than it can take")      \
    X(OUTAGE, "all providers down at once")               \
    X(NO_JOIN, "does not go on with what was shown")      \
    X(NO_CONTINUE, "refuses the continuing request")      \
    X(CUT_AGAIN, "broke again while it was gone on with") \
    X(CUT_HIDDEN, "broke while output was held back")

enum fault {
#define X(code, name) FAULT_##code,
    FAULTS(X)
#undef X
        FAULT_COUNT
};
const char *fault_name(enum fault f);

/* ---- the queue of events */
enum ev_kind {
    EV_ARRIVE,
    EV_STEP,
    EV_WAKE,
    EV_EARLY_WAKE,
    EV_LEAVE,
    EV_LATE,
    EV_TOLD, /* its ticket was told */
    EV_EPISODE,
    EV_OUTAGE,
    EV_PROBE_CHECK,
    EV_PROBE_END
};
struct ev {
    uint64_t at;
    uint64_t order; /* events of one moment come in random order */
    enum ev_kind kind;
    unsigned slot, generation; /* the call, or the provider, or the target */
    unsigned arg;              /* attempt, or the number of the wake */
};
struct queue {
    struct ev *heap;
    size_t count, capacity;
};
void queue_push(struct queue *q, const struct ev *e);
bool queue_pop(struct queue *q, struct ev *ret);
void queue_done(struct queue *q);

/* ---- providers */
struct episode {
    enum fault fault;
    uint64_t began_ms, until_ms;
    double share; /* of attempts that it hits */
    uint64_t flap_ms;
};
struct provider {
    struct episode episode;
    double ttft_ms, gap_ms; /* usual */
    unsigned places;        /* at once; 0: no limit */
    unsigned capacity;      /* over it it is overloaded, and says no more than that; 0: no limit */
    bool whole;             /* does not stream: the answer comes at once */
    size_t window_bytes;
    double noise;           /* share of attempts with a lone fault, outside of episodes */
    bool no_continue;       /* refuses requests that ask it to go on */
    double no_join;         /* share of continuing attempts whose answer does not fit to what was shown */
    uint64_t down_until_ms; /* an outage of all */
};
/* How an attempt fails: what of a verdict matters here. */
struct ending {
    enum failure failure;
    enum limit_kind limit;
    int status;
    bool has_retry_after, provider_says_retry, provider_says_stop;
    uint64_t retry_after_ms;
};
/* What becomes of one attempt. */
struct script {
    enum fault fault;
    struct ending verdict;     /* failure NONE: it ends well */
    uint64_t first_ms, gap_ms; /* until its first step; between tokens */
    unsigned from;       /* where its first token stands in the whole text: it goes on behind what was shown */
    unsigned tokens;     /* of the whole answer, from there on */
    unsigned hidden;     /* so many tokens cannot be shown before the next has come */
    unsigned fail_after; /* tokens given before it fails */
    bool silent_then;    /* at that point it says nothing any more instead of failing */
    bool whole, continues;
    unsigned given;
};
struct request {
    bool bad, filtered; /* by everyone; by whoever looks */
    bool continues;     /* asks to go on with what was shown */
    size_t prompt_bytes;
};
void provider_setup(struct provider *p, struct rnd *r);
/* The next episode, or time without one. `calm`: no faults any more. */
void provider_turn(struct provider *p, struct rnd *r, uint64_t now, bool calm);
void provider_answer(const struct provider *p, struct rnd *r, const struct request *q, unsigned live, uint64_t now,
                     bool calm, struct script *ret);

/* ---- the world */
enum { SIM_TARGETS = 6, SIM_ROUTES = 3, SIM_CALLS = 8192, SIM_SESSIONS = 64, SIM_KEYS = 4, SIM_LOG = 128 };

struct sim_call {
    struct call call;
    struct attempt room[CALL_ATTEMPTS_MAX]; /* given to it when it wants it */
    struct call_want want;
    struct request request;
    struct script scripts[CALL_ATTEMPTS_MAX];
    bool live[CALL_ATTEMPTS_MAX];      /* by our own books */
    bool output[CALL_ATTEMPTS_MAX];    /* gave some */
    unsigned place[CALL_ATTEMPTS_MAX]; /* the round of the trial place it holds; 0: none */
    uint8_t ends[CALL_ATTEMPTS_MAX];   /* how often it ended */
    uint64_t started_at[CALL_ATTEMPTS_MAX], moved_at[CALL_ATTEMPTS_MAX];
    unsigned starts, live_count;
    unsigned
        starts_on[SIM_TARGETS]; /* since the last break or hold; without those that were cancelled and not late */
    unsigned starts_since_output[SIM_TARGETS];
    bool round_of_hold;  /* the round began with a hold: one try on each */
    unsigned round_from; /* the first attempt since the last break or hold */
    unsigned refused;    /* attempts that were told the request itself is wrong */
    bool used, departed;
    uint64_t in_line_since; /* of a ticket that waits; 0: none does */
    unsigned slot, generation, wake_number, wakes;
    uint64_t began_at, wake_at, deadline_at;
    unsigned commits, finishes, fails, breaks;
    int committed;          /* attempt; -1 */
    bool relaying;          /* and it is being shown */
    unsigned shown;         /* tokens that the client saw */
    unsigned resumed_at;    /* of them, from an earlier call */
    unsigned misplaced;     /* tokens that did not stand behind the last one shown */
    unsigned starts_beside; /* attempts started while an answer was being shown */
    unsigned broke, gone_on,
        bridged;           /* breaks; those after which the call went on; those that another answer followed */
    enum failure broke_by; /* the last */
    bool holding;          /* by our own books */
    uint64_t holding_since, held_ms;
    unsigned holds;
    uint64_t retry_after_ms;
    enum failure told;
};

/* Our own books of a target. */
struct sim_target {
    struct target *target;
    struct provider provider;
    unsigned live, probes_live;
    enum breaker_state state;
    uint64_t opened_at, last_probe_at, last_bad_ms;
    unsigned early;                           /* probes since the last whole answer, parked ones not */
    bool early_passed;                        /* a probe has just passed */
    unsigned opens_in_row, round, places_out; /* TRIAL: how many now hold a place */
    uint64_t failed_at[SIM_LOG], timed_out_at[SIM_LOG];
    unsigned failed, timed_out; /* since the breaker was last changed */
    uint64_t rest_until;        /* told by Retry-After */
    uint64_t park_until;
    bool parked;
    uint64_t moved_slice; /* of INFLUX_MS, */
    unsigned moved;       /* and how many calls moved to it therein */
};

struct sim_budget {
    double tokens;
    uint64_t filled_ms;
};

struct world {
    uint64_t seed, now, began, until;
    struct rnd rnd;
    struct fleet *fleet;
    struct settings settings;
    struct route routes[SIM_ROUTES];
    unsigned routes_count, targets_count;
    struct sim_target targets[SIM_TARGETS];
    struct sim_call *calls[SIM_CALLS];
    unsigned calls_live;
    struct queue queue;
    double calls_per_hour;
    uint64_t late_ms; /* timers come late by up to this */
    uint64_t check_probes_at;
    bool calm, trace, broken;
    struct change { /* breakers that changed in this event, not yet in our books */
        struct sim_target *t;
        enum breaker_state from, to;
    } changes[16];
    unsigned changes_count;
    unsigned free_slots[SIM_CALLS], free_count;
    struct sim_budget retries, hedges; /* a model of the budgets */
    struct {
        int target;
        uint64_t until;
    } sessions[SIM_SESSIONS];
    struct tally *tally;
};

/* ---- chance.c */
uint64_t one_of(struct rnd *r, const uint64_t *list, unsigned n);
#define ONE_OF(r, ...) \
    one_of((r), (const uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))
void random_settings(struct rnd *r, struct settings *s);
void random_route(struct world *w, struct route *route);

/* ---- what a run adds up to, over all seeds */
struct tally {
    uint64_t calls, attempts, probes, early_probes, events, outcomes[CALL_OUTCOME_COUNT], faults[FAULT_COUNT];
    uint64_t cuts, told, breaks, bridged, holds, held_hours_ms, released;
    uint64_t hedges, retries, denied, breaker_opened, throttled, unthrottled, late_events;
    double hours;
};

/* Lives through `hours` and then through a calm time in which everything must heal. False: an invariant broke. */
bool world_run(uint64_t seed, double hours, bool trace, struct tally *tally);
void world_note(const struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct verdict verdict_of(const struct ending *e);

/* ---- invariants.c */
enum moment_kind {
    AT_START = 1,    /* an attempt was started */
    AT_END = 2,      /* an attempt ended, in whatever way */
    AT_ACTION = 4,   /* an action was carried out */
    AT_EVENT = 8,    /* an event of a call and all its actions are done */
    AT_WAKE = 16,    /* a call was woken */
    AT_OVER = 32,    /* a call has its outcome */
    AT_BREAKER = 64, /* a breaker changed */
    AT_PROBE = 128,  /* a probe is sent */
    AT_LATE = 256,   /* an event came for an attempt that had ended */
    AT_CALM = 512,   /* the faults ended long ago, and all calls too */
    AT_PACE = 1024,  /* a target was found to throttle by latency */
    AT_HOLD = 2048,  /* a call begins to hold */
};
struct moment {
    enum moment_kind kind;
    const struct world *w;
    const struct sim_call *c;
    const struct sim_target *t;
    int attempt;
    const struct call_action *action;
    const struct verdict *verdict; /* AT_END: NULL when it ended well or was only cancelled */
    bool hedge, same_target;       /* AT_START */
    enum breaker_state from, to;
    unsigned actions; /* AT_LATE: how many it caused */
};
/* False: one is broken; it has been reported. */
bool invariants_check(const struct moment *m);
/* Prints a line for each and returns how many failed. One that was never checked fails. */
unsigned invariants_report(unsigned *ret_passed);

#endif
