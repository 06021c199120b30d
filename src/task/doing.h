/* doing.h - one task, while a worker does it: what the kinds of tasks (do_llm.c, do_command.c, do_agent.c) share.
 *
 * A kind's function fills d->end through doing_fail(), doing_output(), doing_check() and returns PD_OK; or it returns what a function here
 * returned, and the worker makes of it what is right: RUNS_FENCED and PD_CANCELLED (doing_stopped()) are no failures of the task. */
#ifndef PERDURE_TASK_DOING_H
#define PERDURE_TASK_DOING_H

#include "base/arena.h"
#include "net/asker.h"
#include "parse/json.h"
#include "task/worker.h"

#include <pthread.h>

/* Why a task is not gone on with. The highest holds. */
enum doing_stop {
    DOING_GOES,
    DOING_RELEASE, /* the worker ends: given back */
    DOING_CANCEL,  /* the run was cancelled: given back */
    DOING_LOST,    /* nobody heard a beat for almost a lease: it may be another's soon */
    DOING_FENCED,  /* it is another's */
};

struct doing {
    const struct worker_rules *rules;
    struct claimed *claim;
    struct held_task held;
    struct arena arena;
    struct json spec;      /* with everything filled in, but for its schemas */
    struct json document;  /* the plan */
    struct filled *filled; /* what was filled into texts for the shell */
    unsigned filled_count;
    bool starved; /* a text of its spec was not to be had for want of memory: nothing is begun with the rest */
    uint64_t began_ms, until_ms; /* its timeout, CLOCK_NEVER: none; monotonic */
    int wake_fd;                 /* can be read when it is to stop: for process_wait() */
    _Atomic int stop;            /* enum doing_stop */
    struct asker *asker;         /* of the gateway; NULL: none. The beating thread stops it */
    struct asker *aside; /* the same, for checkpoints: they are made while the other one waits for an answer */
    /* what the next beat tells, under the lock */
    pthread_mutex_t lock;
    unsigned steps; /* results recorded */
    char at[80];
    uint64_t tokens_in, tokens_out, bytes, asks;
    uint64_t coming; /* bytes of the answer that is being told */
    /* the end, its bytes in these buffers */
    struct task_end end;
    struct buf output, error, evidence;
    char provider[ASKER_FIELD_BYTES];
};

/* Stopped, and why: PD_OK, RUNS_FENCED or PD_CANCELLED. */
pd_err doing_stopped(struct doing *d) PD_CHECKED;
uint64_t doing_left_ms(const struct doing *d); /* of its timeout */
/* For the progress: "asks the model". Any thread. */
void doing_at(struct doing *d, const char *fmt, ...) PD_PRINTF(2, 3);
void doing_count(struct doing *d, uint64_t tokens_in, uint64_t tokens_out, uint64_t bytes);

/* A member of its spec as a text with a NUL, in its arena; NULL: not there, or no memory: then it is `starved`. */
const char *doing_text(struct doing *d, const char *member);
/* A program's words: a list, or a text for sh -c. NULL: it is none, or no memory. */
const char *const *doing_argv(struct doing *d, struct json program);
/* Ours but for the admin key, what the spec's `env` says, and PERDURE_RUN, PERDURE_TASK, PERDURE_ATTEMPT, PERDURE_URL, PERDURE_IDEMPOTENCY_KEY, PERDURE_FILLED_1... */
const char *const *doing_env(struct doing *d) PD_CHECKED;
/* A variable of the environment with this value, for a text that the shell reads: DOING_FILLED and the number that is returned. 0: no memory. */
#define DOING_FILLED "PERDURE_FILLED_"
unsigned doing_fill(struct doing *d, struct span value) PD_CHECKED;
/* Where it works: the worker's folder and the spec's `cwd`. */
const char *doing_dir(struct doing *d);
/* PD_NOMEM: it is `starved`. Asked before each effect that such texts say, and by doing_begin() and doing_check(). */
pd_err doing_fed(const struct doing *d) PD_CHECKED;

/* Steps, as in work.h. `result` is JSON. */
pd_err doing_begin(struct doing *d, const char *step, enum step_kind kind, const char *key, enum step_found *ret,
                   struct buf *result) PD_CHECKED;
pd_err doing_end(struct doing *d, const char *step, struct span result) PD_CHECKED;

/* It failed: PD_OK, or PD_NOMEM. `final`: trying again makes no sense. */
pd_err doing_fail(struct doing *d, const char *class, bool final, const char *fmt, ...) PD_CHECKED PD_PRINTF(4, 5);
/* What it gives, as JSON. */
pd_err doing_output(struct doing *d, struct span json) PD_CHECKED;
/* `write: {path, from}`: the output, or a member of it, into a file; whole or not at all, and there after a loss of power. A step of its own.
 * `nth`: of this attempt's outputs, from 1. PD_OK also when it cannot be written: then it is doing_fail(). */
pd_err doing_write(struct doing *d, unsigned nth) PD_CHECKED;
/* Makes the checks and decides between done, failed and inconclusive. *ret_why: what failed, for a model that is told so; empty: nothing. `proven`: something was
 * verified already (a schema). */
enum { DOING_WHY_BYTES = 1024 };
pd_err doing_check(struct doing *d, bool proven, char ret_why[DOING_WHY_BYTES]) PD_CHECKED;
/* A checkpoint of where it is: `reason` as in checkpoint.h. A gateway that has none is fine. */
void doing_checkpoint(struct doing *d, const char *reason, const char *milestone);
/* The same with this as its `state`, JSON. */
void doing_checkpoint_state(struct doing *d, const char *reason, const char *milestone, struct span state);
void doing_coming(struct doing *d, uint64_t bytes);  /* so much of an answer is here; 0: it is over */
uint64_t doing_checkpoint_ms(const struct doing *d); /* from one to the next, of a task that takes long */

pd_err do_llm(struct doing *d) PD_CHECKED;
pd_err do_command(struct doing *d) PD_CHECKED;
pd_err do_agent(struct doing *d) PD_CHECKED;

/* Of do_command.c, what an agent's program has too: the end of an output, in d's arena; both outputs as JSON, for a step's result; and of such a
 * result what the task gives, by its schema. */
struct process;
pd_err do_command_tail(const struct process *p, int stream, struct doing *d, const char **ret) PD_CHECKED;
pd_err do_command_result(const struct process *p, struct buf *out) PD_CHECKED;
pd_err do_command_output(struct doing *d, struct json result, bool *ret_proven) PD_CHECKED;

#endif
