/* supervise.h - what is to be done with an agent that is kept going, as decisions.
 *
 *   IDLE      --begin------------------------> RUNNING
 *   RUNNING   --no progress for stall_ms-----> ENDING    (TERM, a grace, KILL)
 *   RUNNING   --it ends with 0, a check------> CHECKING
 *   RUNNING   --it ends with 0, no check-----> DONE      ("not verified")
 *   RUNNING   --it ends otherwise------------> WAITING
 *   ENDING    --it has ended-----------------> WAITING
 *   CHECKING  --passed-----------------------> DONE      ("verified")
 *   CHECKING  --failed-----------------------> WAITING   (an exit status of 0 is a claim)
 *   WAITING   --the pause is over------------> RUNNING
 *   WAITING   --too many restarts------------> PAUSED    (at once: a person must look)
 *   IDLE      --we hung or were killed amid it-> WAITING  (counts as a restart)
 *   any       --asked to stop----------------> STOPPING, and STOPPED when the agent has ended
 *
 * A restart is counted when it is decided. One more than `restarts` of them within `window_ms` is not made: PAUSED. The pause before a restart doubles with
 * each, and is the first again after the agent has run for `window_ms`.
 *
 * Pure: no clock, no processes. The caller passes `now` (milliseconds, never going back) and does what is returned. */
#ifndef PERDURE_TASK_SUPERVISE_H
#define PERDURE_TASK_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

#define SUPERVISE_STATES(X)                                                  \
    X(SUPERVISE_IDLE, "idle", "nothing was begun")                           \
    X(SUPERVISE_RUNNING, "running", "the agent works")                       \
    X(SUPERVISE_ENDING, "ending", "it made no progress, and is ended")       \
    X(SUPERVISE_CHECKING, "checking", "it says that it is done")             \
    X(SUPERVISE_WAITING, "waiting", "a pause before it is started again")    \
    X(SUPERVISE_STOPPING, "stopping", "we are to stop, and so is the agent") \
    X(SUPERVISE_DONE, "done", "it is done")                                  \
    X(SUPERVISE_PAUSED, "paused", "restarted too often: a person must look") \
    X(SUPERVISE_STOPPED, "stopped", "stopped before its end")
enum supervise_state {
#define X(code, name, what) code,
    SUPERVISE_STATES(X)
#undef X
        SUPERVISE_STATE_COUNT
};
const char *supervise_state_name(enum supervise_state s);

/* Why it is started again. */
#define SUPERVISE_WHYS(X)                                 \
    X(SUPERVISE_FIRST, "first", "its first start")        \
    X(SUPERVISE_RESUMED, "resumed", "gone on with")       \
    X(SUPERVISE_DIED, "died", "it ended badly")           \
    X(SUPERVISE_STALLED, "stalled", "no progress")        \
    X(SUPERVISE_UNPROVEN, "unproven", "its check failed") \
    X(SUPERVISE_FELL, "fell", "its keeper hung or was killed")
enum supervise_why {
#define X(code, name, what) code,
    SUPERVISE_WHYS(X)
#undef X
        SUPERVISE_WHY_COUNT
};
const char *supervise_why_name(enum supervise_why w);

enum {
    SUPERVISE_RESTARTS_MAX = 100,
    SUPERVISE_RESTARTS = 3,               /* g */
    SUPERVISE_WINDOW_MS = 10 * 60 * 1000, /* g */
    SUPERVISE_STALL_MS = 10 * 60 * 1000,
    SUPERVISE_PAUSE_MS = 1000,
    SUPERVISE_PAUSE_MOST_MS = 60 * 1000,
    SUPERVISE_SAID_STALLS =
        3, /* output without anything else is believed for so many stalls: a spinner turns for ever */
};
struct supervise_rules {
    unsigned restarts; /* allowed within window_ms; at most SUPERVISE_RESTARTS_MAX */
    uint64_t window_ms, stall_ms, pause_ms, pause_most_ms;
    bool check; /* an end with 0 is checked */
};
void supervise_rules_default(struct supervise_rules *r);

struct supervise {
    struct supervise_rules rules;
    enum supervise_state state;
    enum supervise_why why; /* of the newest start, or of the next while WAITING */
    unsigned starts;        /* also those of earlier processes: supervise_recall() */
    uint64_t began_ms, due_ms, pause_ms;
    uint64_t progress_ms, sign_ms;                 /* the newest sign of progress; the newest but output */
    uint64_t restarted_ms[SUPERVISE_RESTARTS_MAX]; /* the newest first */
    unsigned restarted;
    bool verified;
};

/* What the caller does now. */
enum supervise_action {
    SUPERVISE_NOTHING,
    SUPERVISE_START, /* the agent */
    SUPERVISE_END,   /* TERM to its group, a grace, KILL; then supervise_ended() */
    SUPERVISE_CHECK, /* the check; then supervise_checked() */
    SUPERVISE_ALERT, /* it is PAUSED: tell a person, and end */
    SUPERVISE_LEAVE, /* it is DONE or STOPPED: end */
};

void supervise_init(struct supervise *s, const struct supervise_rules *r);
/* An earlier process supervised the same: it had started the agent so often, and restarted it this long ago. Before supervise_begin(); the newest first. */
void supervise_recall(struct supervise *s, unsigned starts, uint64_t now, const uint64_t *ages_ms, unsigned count);
enum supervise_action supervise_begin(struct supervise *s, uint64_t now);
/* Instead: an earlier keeper hung or was killed while the agent ran. */
enum supervise_action supervise_fell(struct supervise *s, uint64_t now);
/* It did something, or waits for what is explained. */
void supervise_progress(struct supervise *s, uint64_t now);
/* It printed something: the weaker sign. */
void supervise_said(struct supervise *s, uint64_t now);
/* `well`: with status 0. Also when it could not be started. */
enum supervise_action supervise_ended(struct supervise *s, bool well, uint64_t now);
enum supervise_action supervise_checked(struct supervise *s, bool passed, uint64_t now);
enum supervise_action supervise_stop(struct supervise *s, uint64_t now);
/* When time alone changes something: UINT64_MAX: never. */
uint64_t supervise_next(const struct supervise *s);
enum supervise_action supervise_wake(struct supervise *s, uint64_t now);
/* Restarts that count at this time. */
unsigned supervise_recent(const struct supervise *s, uint64_t now);

#endif
