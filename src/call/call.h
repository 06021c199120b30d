/* call.h - one client request's whole life, as decisions: which target, when to give up, when to try again, what the client may see.
 *
 *   NEW ------------> TRYING <-----> WAITING          (backoff, Retry-After, nothing usable yet)
 *   TRYING, WAITING --every target is down-----> HOLDING --one is back--> TRYING   (the deadline stands still)
 *   TRYING --first output, unstreamed client---> COLLECTING   (nothing shown yet: a failure is still invisible: back to TRYING)
 *   TRYING --output that cannot be shown yet---> COLLECTING --something to show--> RELAYING
 *   TRYING --first output, streamed client-----> RELAYING     (committed)
 *   RELAYING --broke, can be continued---------> TRYING, WAITING, HOLDING   (as after any failure; the attempts go on with what was shown)
 *   COLLECTING, RELAYING --complete------------> OVER
 *   any --client gone, deadline, nothing left--> OVER
 *
 * A call that is `continuing` has shown something that is not whole. Each of its attempts is asked to go on exactly there, and the first
 * output of one (CALL_COMMIT once more) or its end bridges the break. What cannot be bridged ends in CALL_BREAK, never in an error answer.
 *
 * Events of an attempt that is not running (late ones after a cancel) and any event of a call that is OVER do nothing.
 *
 * Pure: a function of (state, event, now) that returns actions, which the runner (relay/, or the simulator in tests/sim) carries
 * out in order. No clock, no sockets, no memory. The caller holds the fleet's lock. */
#ifndef PERDURE_CALL_CALL_H
#define PERDURE_CALL_CALL_H

#include "base/clock.h"
#include "provider/failure.h"
#include "route/fleet.h"

#define CALL_STATES(X)                                                                \
    X(CALL_NEW, "new", "not begun")                                                   \
    X(CALL_WAITING, "waiting", "for a moment at which trying makes sense")            \
    X(CALL_HOLDING, "holding", "for recovery: every target is down")                  \
    X(CALL_TRYING, "trying", "attempts run, nothing has come")                        \
    X(CALL_COLLECTING, "collecting", "an answer comes and is kept until it is whole") \
    X(CALL_RELAYING, "relaying", "the client sees the answer as it comes")            \
    X(CALL_OVER, "over", "it has its outcome")

enum call_state {
#define X(code, name, what) code,
    CALL_STATES(X)
#undef X
        CALL_STATE_COUNT
};
const char *call_state_name(enum call_state s);

/* SPEC 3: every call ends in exactly one, and each is counted. */
#define CALL_OUTCOMES(X)                                                                          \
    X(CALL_COMPLETE, "complete", "the whole answer was handed on")                                \
    X(CALL_CONTINUED, "continued", "whole, after a break that the client did not see")            \
    X(CALL_CLIENT_GONE, "client_gone", "the client left")                                         \
    X(CALL_CUT_BEFORE, "cut_before_output", "no target gave an answer: an honest error")          \
    X(CALL_CUT_AFTER, "cut_after_output", "the stream broke after output: an honest error in it") \
    X(CALL_STALLED, "stalled", "the stream went silent after output: an honest error in it")      \
    X(CALL_ERROR, "error", "the request was refused: the provider's own message, or ours")

enum call_outcome {
#define X(code, name, what) code,
    CALL_OUTCOMES(X)
#undef X
        CALL_OUTCOME_COUNT
};
const char *call_outcome_name(enum call_outcome o);

/* Attempts in one call at most, whatever `attempts` and the number of targets would allow. */
enum { CALL_ATTEMPTS_MAX = 64, CALL_RUNNING_MAX = 3, CALL_ACTIONS_MAX = 12 };
enum { CALL_ATTEMPTS_FEW = 4 }; /* which a call has room for by itself; see call_wants_room() */

/* What the request asks for. */
struct call_want {
    const struct route *route;
    uint64_t session; /* 0: none */
    bool begins;      /* the session's first call: its target is chosen afresh, and remembered */
    bool streamed;    /* the client sees output as it comes */
    bool reasoning;
    bool no_fallback;  /* x-perdure-no-fallback: only the first target */
    bool can_continue; /* streamed chat with one choice: what broke after output may be gone on with */
    bool in_session;   /* settings.hold applies, else hold_single */
    bool
        resumes; /* text of an earlier call with the same request was shown to this client before: `continuing` from the beginning on */
    size_t prompt_bytes;
    uint64_t ttft_ms;     /* x-perdure-ttft; UINT64_MAX: by the settings */
    uint64_t deadline_ms; /* x-perdure-deadline, from now; 0: by the settings. It does not stand still on hold */
    uint64_t held_ms;     /* an earlier process held it for so long */
    uint64_t asked_ms;    /* and it has been waiting since then; 0: it is new */
    uint64_t hold_ms;     /* x-perdure-hold; UINT64_MAX: by the settings */
    uint64_t key;         /* hash of the client's key, for the fair queue; 0: none */
    void *owner;          /* whose ticket fleet_watch.ready tells of: it is to be woken then */
};

enum attempt_state { ATTEMPT_NONE, ATTEMPT_RUNNING, ATTEMPT_DONE, ATTEMPT_FAILED, ATTEMPT_CANCELLED };
const char *attempt_state_name(enum attempt_state s);
struct attempt {
    uint8_t state, target, failure; /* enum attempt_state; index in route->targets; enum failure */
    bool hedge, hedged;             /* started as a hedge; a hedge was started because of it */
    uint8_t lane;                   /* RUNNING: its place in call.lanes */
    uint16_t status;
    uint32_t started_at, output_at, ended_at; /* see call_time(); 0: not reached */
};
/* What matters of an attempt only while it runs: calls have many attempts, of which few run. */
struct call_lane {
    bool taken;
    struct place place;   /* what it holds of its target */
    uint64_t hedge_at_ms; /* no output until then: another may be started beside it; CLOCK_NEVER */
    uint64_t slow_at_ms;  /* no output until then: it is slow by its target's own measure; CLOCK_NEVER */
};

enum call_act {
    CALL_START,  /* start attempt n on its target */
    CALL_CANCEL, /* stop attempt n at once; no more events for it */
    CALL_COMMIT, /* attempt n is the answer: begin (and go on) showing it; a collected one is shown whole. One that continues: what is new of it */
    CALL_FINISH, /* the answer of attempt n is complete: end the reply properly */
    CALL_FAIL, /* nothing was shown: an error answer; attempt n's failure is the one to tell, -1: our own (no target was free, a deadline) */
    CALL_BREAK, /* something was shown and it broke for good: an error in the stream, never a clean end. Attempt n broke; -1: an earlier call's */
};
struct call_action {
    enum call_act act;
    int attempt;
    enum failure failure;    /* of FAIL and BREAK */
    uint64_t retry_after_ms; /* of FAIL: what to tell the client; 0: nothing */
    bool same_target, hedge; /* of START: this target is tried once more; a hedge */
    bool continues;          /* of START: it is to go on with what was shown */
};
struct call_actions {
    struct call_action list[CALL_ACTIONS_MAX];
    unsigned count;
};

struct call {
    enum call_state state;
    enum call_outcome outcome; /* when OVER */
    struct fleet *fleet;
    struct call_want want;
    struct ticket
        ticket; /* WAITING for a target, HOLDING: its place among those that do; the call must not move then */
    uint64_t began_ms, deadline_ms; /* later by the time on hold */
    uint64_t try_at_ms;             /* WAITING: when; HOLDING: the next look; CLOCK_NEVER otherwise */
    uint64_t wait_began_ms;         /* WAITING, HOLDING */
    uint64_t moved_ms;              /* last output of the winner */
    int try_target;                 /* WAITING: this one, or -1: pick again */
    bool wait_counts;               /* WAITING for a target to come back, not only our own backoff */
    bool paid;                      /* a token of the retry budget is in hand */
    bool broke;                     /* the retry budget said no: no target is tried twice any more */
    bool continuing;                /* something was shown, and it is not whole: attempts go on with it */
    uint64_t waited_ms;             /* in WAITING for targets to come back, bounded by retry_after_max */
    uint64_t held_ms;               /* in HOLDING, all together, bounded by the hold */
    uint32_t used_up;   /* bit per route target: not again until the call looks at its targets afresh */
    uint32_t unfit;     /* bit per route target: not again in this call: it cannot take this request */
    uint32_t unhealing; /* bit per route target: the last failure there is none that time heals */
    uint32_t told;      /* bit per route target: not_before is its Retry-After */
    unsigned group;     /* of the last failure's target: the other regions of its provider come next; 0: none */
    uint64_t not_before_ms[ROUTE_TARGETS_MAX]; /* backoff or Retry-After after a failure there */
    uint8_t tries[ROUTE_TARGETS_MAX]; /* since it looked afresh; without those that were cancelled and not late */
    struct attempt *attempts;         /* `few`, or what call_give_room() was given */
    unsigned attempts_count, attempts_room;
    struct attempt few[CALL_ATTEMPTS_FEW]; /* most calls have no more; the call must not move */
    struct call_lane lanes[CALL_RUNNING_MAX];
    int winner;                       /* attempt that gave the first output; -1 */
    unsigned retries, hedges, denied; /* denied: by a budget */
    int worst;                        /* attempt whose failure is told to the client if nothing better comes; -1 */
    unsigned hold_rounds;             /* holds since the last output: a target is tried once in each round */
    unsigned breaks, continued;       /* streams of it that broke and were to be gone on with; those that were */
    int broke_attempt;                /* the last that broke; -1 */
    enum failure broke_by;            /* and by what; FAILURE_NONE: none did */
};

/* Nearly all calls have one attempt, and thousands run at once: room for many is given to those that need it, by their owner, before the next event.
 * `more` has room for CALL_ATTEMPTS_MAX and lives as long as the call. Without it the call ends where it may have no further attempt. */
static inline bool call_wants_room(const struct call *c)
{
    return c->attempts == c->few && c->attempts_room - c->attempts_count < CALL_RUNNING_MAX;
}
void call_give_room(struct call *c, struct attempt *more);

/* Begins: gives the first actions. */
void call_begin(struct call *c, struct fleet *f, const struct call_want *want, uint64_t now,
                struct call_actions *ret);
/* An attempt gave its first real output (text, reasoning, refusal, tool call). */
void call_output(struct call *c, int attempt, uint64_t now, struct call_actions *ret);
/* The same, but there is nothing to show yet: some formats tell a tool call only when it is whole. The attempt is the answer, and its
 * failure still invisible, until call_output() tells that there is. */
void call_hidden_output(struct call *c, int attempt, uint64_t now, struct call_actions *ret);
/* More real output came: the stall clock starts anew. O(1), no actions. */
static inline void call_moved(struct call *c, int attempt, uint64_t now)
{
    if (c->winner == attempt)
        c->moved_ms = now;
}
/* The moments of attempts are short, since a call has room for many: milliseconds from its beginning, plus one. CLOCK_NEVER for one that was not reached. */
static inline uint32_t call_moment(const struct call *c, uint64_t now)
{
    uint64_t after = now - c->began_ms;
    return after < UINT32_MAX ? (uint32_t)after + 1 : UINT32_MAX;
}
static inline uint64_t call_time(const struct call *c, uint32_t moment)
{
    return moment ? c->began_ms + moment - 1 : CLOCK_NEVER;
}
/* An attempt's answer is whole. Without output before it this is its first output too. */
void call_complete(struct call *c, int attempt, uint64_t now, struct call_actions *ret);
/* An attempt ended badly. */
void call_failed(struct call *c, int attempt, const struct verdict *v, uint64_t now, struct call_actions *ret);
/* What was to be gone on with has not been shown to this client yet (want.resumes) and will not be: attempts begin afresh. */
void call_shows_nothing(struct call *c);
/* The client left. */
void call_gone(struct call *c, uint64_t now, struct call_actions *ret);
/* Time has come to call_next(): deadlines, TTFT limit, stall, backoff over; or fleet_watch.ready told of its ticket. Early calls do nothing. After it call_next() is later than
 * `now`, always. An attempt that it cancels and that a later FAIL or BREAK names has no verdict of the provider: the action's class tells. */
void call_wake(struct call *c, uint64_t now, struct call_actions *ret);
/* A call that waits, as it is told: HOLDING is one all of whose targets are down, whether it is on hold already or still in the time that it
 * may wait without (`retry_after_max`). */
struct call_pause {
    enum call_state state;
    uint64_t since_ms;
    uint64_t until_ms; /* HOLDING: when it gives up at the latest; 0: no such moment */
    uint64_t
        next_ms; /* when it may be tried next, as things stand: a probe, or the end of a breaker's hold, decides */
};
/* False: it does not wait. */
bool call_pause(const struct call *c, uint64_t now, struct call_pause *ret);
uint64_t call_next(const struct call *c); /* CLOCK_NEVER: nothing to wait for */

/* What a running attempt holds of its target, for what is told about it (target_rate_facts(), target_used()); NULL: it does not run. */
struct place *call_place(struct call *c, int attempt);

#endif
