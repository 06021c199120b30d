/* runs_priv.h - what the files of runs share: a task's row, and entering a state.
 *
 * runs.c makes and ends runs, runs_task.c is what a worker does, runs_enter.c what a state means, runs_sweep.c ends claims, runs_review.c is for people,
 * runs_look.c only reads. */
#ifndef PERDURE_TASK_RUNS_PRIV_H
#define PERDURE_TASK_RUNS_PRIV_H

#include "parse/put.h"
#include "task/runs.h"

#define PICO_IN_DOLLAR 1000000000000u
enum { RUNS_MESSAGE_MAX = 1000, RUNS_PICO_TEXT = 40 };

/* What is decided by, of a task and its run. */
struct task_row {
    char run[RUN_ID_BYTES], id[PLAN_ID_MAX + 1];
    enum task_state state;
    enum task_kind kind;
    int64_t epoch, attempt, failures, losses, steps, retries, backoff_ms;
    bool review;
    bool budgeted; /* its run has a budget */
    bool found;
};
/* The row, locked in this transaction. PD_NOTFOUND. */
pd_err runs_row(struct tx *t, const char *run, const char *task, struct task_row *ret) PD_CHECKED;
/* The same when the worker still has it, else RUNS_FENCED. */
pd_err runs_held(struct tx *t, const struct held_task *h, struct task_row *ret) PD_CHECKED;
static inline bool runs_is_planner(const struct task_row *r)
{
    return strcmp(r->id, PLAN_PLANNER_ID) == 0;
}

/* How a state is entered. */
struct entering {
    uint64_t due_ms; /* READY: not before; 0: now */
    const char
        *reason; /* REVIEW: dead_letter, plan, ambiguous, inconclusive, lost; for the event of others: NULL */
    struct span message; /* REVIEW */
    const char *event;   /* its name; NULL: the state's own; "": none */
    struct span data;    /* of the event, JSON; empty: {} */
    bool failed, lost;   /* counted */
    bool fence;          /* whoever has it writes nothing any more */
    bool forget;         /* failures and losses so far: a person has decided */
};
/* The only place that writes the state of one task. What needs it is freed or dropped, its run ended when nothing is left. */
pd_err runs_enter(struct tx *t, struct task_row *r, enum task_state to, const struct entering *how,
                  uint64_t now_ms) PD_CHECKED;
/* Ends the run when none of its tasks is open. */
pd_err runs_end_if_over(struct tx *t, const char *run, uint64_t now_ms) PD_CHECKED;
/* `task` NULL: of the run. */
pd_err runs_event(struct tx *t, const char *run, const char *task, const char *what, struct span data,
                  uint64_t now_ms) PD_CHECKED;
/* Members that are empty (p NULL) stay as they are. */
pd_err runs_keep_result(struct tx *t, const struct task_row *r, struct span output, struct span error,
                        struct span evidence) PD_CHECKED;
/* The planner's output becomes the run's tasks. PD_INVALID: `why`. */
pd_err runs_take_plan(struct tx *t, const struct task_row *r, struct span output, uint64_t now_ms,
                      char why[PLAN_WHY_BYTES]) PD_CHECKED;
/* Steps whose work is done again by the next attempt. */
pd_err runs_forget_steps(struct tx *t, const struct task_row *r) PD_CHECKED;

/* Row functions for tx_run(). */
db_row_fn runs_on_number; /* int64_t */
db_row_fn runs_on_text;   /* struct buf: added */
db_row_fn runs_on_any;    /* bool: there is a row */

enum task_state runs_task_state(struct span name); /* TASK_STATE_COUNT: none */
enum run_state runs_run_state(struct span name);
/* "0.0123": dollars. */
void runs_put_dollars(struct put *p, int64_t picodollars);
/* A column that is JSON, or null. */
static inline struct span runs_json_or(struct span s, const char *otherwise)
{
    return s.n ? s : span_str(otherwise);
}

#endif
