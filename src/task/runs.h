/* runs.h - runs and their tasks, in the database: who may do what, and what is done.
 *
 *   WAITING   --its needs are done-->            READY
 *   READY     --claimed (epoch + 1)-->           RUNNING
 *   RUNNING   --finished, checks passed-->       DONE          (REVIEW first, where the plan says so)
 *   RUNNING   --failed, retries are left-->      READY, not before `due`
 *   RUNNING   --failed, none are left-->         REVIEW        (a dead letter: a person retries, edits, accepts or drops it)
 *   RUNNING   --its worker is gone-->            READY; AMBIGUOUS when an outside effect was begun whose result nobody knows
 *   AMBIGUOUS --resolved by its kind-->          READY, DONE or REVIEW
 *   any       --the run is cancelled-->          CANCELLED
 *   WAITING   --a need was dropped-->            DROPPED
 *
 * Every claim raises the task's epoch, and every write of a worker carries it: an old worker that wakes up writes nothing (RUNS_FENCED). No clock decides who is dead: a worker beats (a counter in the row); a sweeper that has seen the same count for
 * a whole lease by its own monotonic clock ends the claim, `WHERE epoch = and beat =`. So a clock that jumps an hour changes nothing. What it has
 * watched of a silence is kept, so that sweepers that never live for a lease end lost claims too.
 *
 * A step is recorded before (intent) and after (result): a recorded result is given back and never made again; an intent of an earlier
 * epoch without a result is ambiguous, and resolved by its kind: PURE repeat, FILES compare, EFFECT ask by its key, else a person.
 *
 * All functions are jobs of one transaction: they are called inside a db job. */
#ifndef PERDURE_TASK_RUNS_H
#define PERDURE_TASK_RUNS_H

#include "store/db.h"
#include "task/plan.h"

#define TASK_STATES(X)                                                                 \
    X(TASK_WAITING, "waiting", "for tasks it needs")                                   \
    X(TASK_READY, "ready", "for a worker")                                             \
    X(TASK_RUNNING, "running", "a worker has it")                                      \
    X(TASK_AMBIGUOUS, "ambiguous", "an effect was begun, and nobody knows its result") \
    X(TASK_REVIEW, "review", "waits for a person")                                     \
    X(TASK_DONE, "done", "verified and recorded")                                      \
    X(TASK_CANCELLED, "cancelled", "its run was")                                      \
    X(TASK_DROPPED, "dropped", "a person said so, or something it needs was")
#define RUN_STATES(X)                                                                          \
    X(RUN_PLANNING, "planning", "a model makes its tasks")                                     \
    X(RUN_RUNNING, "running", "tasks are worked on")                                           \
    X(RUN_PAUSED, "paused", "nothing new is begun: a person, a budget, or restarts too often") \
    X(RUN_DONE, "done", "every task is")                                                       \
    X(RUN_FAILED, "failed", "what is left cannot be done")                                     \
    X(RUN_CANCELLED, "cancelled", "a person said so")
enum task_state {
#define X(code, name, what) code,
    TASK_STATES(X)
#undef X
        TASK_STATE_COUNT
};
enum run_state {
#define X(code, name, what) code,
    RUN_STATES(X)
#undef X
        RUN_STATE_COUNT
};
const char *task_state_name(enum task_state s);
const char *run_state_name(enum run_state s);

enum {
    RUN_ID_BYTES = 40,
    RUN_KEY_MAX = 200,
    WORKER_NAME_BYTES = 100,
    CLAIM_BYTES = 40,
    LEASE_DEFAULT_MS = 30 * 1000,
    LEASE_LEAST_MS = 1000,
    LEASE_MOST_MS = 60 * 60 * 1000,
    STEP_NAME_MAX = 200,      /* of a name, and of a key */
    STEPS_MAX = 10000,        /* of one task */
    RUNS_VALUE_MAX = 4 << 20, /* a spec, an output, evidence, a step's result */
    RUNS_ERROR_MAX = 64 << 10,
    RUNS_PROGRESS_MAX = 4 << 10,
    RUNS_EVENTS_KEPT = 20000, /* of one run */
    RUNS_LOSSES_MAX = 5,      /* workers that one attempt may lose one after the other: then a person looks */
    RUNS_BACKOFF_MAX_MS = 60 * 60 * 1000,
    RUNS_REVIEWS_SHOWN = 200,
};

/* How a step's effect can be known again (see above). */
#define STEP_KINDS(X)                                               \
    X(STEP_PURE, "pure", "nothing outside changes: it is repeated") \
    X(STEP_FILES, "files", "files change: they are compared")       \
    X(STEP_EFFECT, "effect", "something outside does: it is asked by a key, else a person")
enum step_kind {
#define X(code, name, what) code,
    STEP_KINDS(X)
#undef X
        STEP_KIND_COUNT
};
const char *step_kind_name(enum step_kind k);
enum step_found { STEP_NEW, STEP_DONE, STEP_AMBIGUOUS };
struct step {
    const char *name; /* the same for the same work, at most STEP_NAME_MAX bytes */
    enum step_kind kind;
    struct span key; /* of an effect: what the other side knows it by; empty: none */
};

/* ---- runs ---- */
/* A new word; before the job, so that a job that is run twice makes one run. */
void runs_new_id(char ret_id[RUN_ID_BYTES]);
/* `key`: of the one who asks, empty: none; the same key again gives the same run, as it is now: `id` gets its name and *ret_new is false. */
pd_err runs_create(struct tx *t, const struct plan *p, struct span key, uint64_t now_ms, char id[RUN_ID_BYTES],
                   enum run_state *ret_state, bool *ret_new) PD_CHECKED;
/* Tasks that a planner made, once: again is fine. runs_finish() and runs_review() call it for the output of PLAN_PLANNER_ID. */
pd_err runs_planned(struct tx *t, const char *run, const struct plan *p, uint64_t now_ms) PD_CHECKED;
enum run_wish { RUN_PAUSE, RUN_RESUME, RUN_CANCEL };
/* Again is fine. PD_NOTFOUND; PD_INVALID: the run is over. *ret: what it is now. */
pd_err runs_wish(struct tx *t, const char *run, enum run_wish w, struct span why, uint64_t now_ms,
                 enum run_state *ret) PD_CHECKED;

/* ---- workers ---- */
struct claim_wish {
    struct span worker,
        claim; /* claim: a random word of the worker's; the same again gives the same task, so a lost answer costs nothing */
    const char *run; /* NULL: of any */
    unsigned kinds;  /* bits of enum task_kind */
    uint64_t lease_ms;
};
struct claimed {
    char run[RUN_ID_BYTES], task[PLAN_ID_MAX + 1];
    int64_t epoch, attempt, lease_ms;
    enum task_kind kind;
    struct buf spec;         /* JSON */
    struct buf run_document; /* JSON: goal, defaults, model */
    struct buf inputs;       /* JSON: {"need": output, ...} */
    struct buf last_error;   /* JSON of the attempt before; empty: none */
    uint64_t checkpoint_ms;  /* between checkpoints, as who gave it says; 0: not said. Not of the database */
};
void claimed_done(struct claimed *c);
/* PD_NOTFOUND: there is nothing to do now; *ret_wait_ms then says when something is due (UINT64_MAX: when something changes). */
pd_err runs_claim(struct tx *t, const struct claim_wish *w, uint64_t now_ms, struct claimed *ret,
                  uint64_t *ret_wait_ms) PD_CHECKED;

struct held_task {
    const char *run, *task;
    int64_t epoch;
};
/* What the functions below return when the task has another epoch by now. */
#define RUNS_FENCED PD_EXISTS
struct beat_answer {
    bool cancel, pause;
};
pd_err runs_beat(struct tx *t, const struct held_task *h, struct span progress, uint64_t now_ms,
                 struct beat_answer *ret) PD_CHECKED;
/* Intent: *ret_found; STEP_DONE fills `result`. PD_TOOBIG: a limit above. */
pd_err runs_step_begin(struct tx *t, const struct held_task *h, const struct step *s, uint64_t now_ms,
                       enum step_found *ret_found, struct buf *result) PD_CHECKED;
pd_err runs_step_end(struct tx *t, const struct held_task *h, const char *step, struct span result,
                     uint64_t now_ms) PD_CHECKED;

enum task_outcome {
    OUTCOME_DONE,
    OUTCOME_FAILED,
    OUTCOME_INCONCLUSIVE,
    OUTCOME_AMBIGUOUS,
    OUTCOME_RELEASED /* the worker was told to stop: no attempt is counted */
};
struct task_end {
    enum task_outcome outcome;
    struct span output;   /* JSON */
    struct span error;    /* JSON {"class":, "message":, ...}; empty: none */
    struct span evidence; /* JSON: checks with what they said */
    uint64_t tokens, picodollars;
    bool final; /* FAILED: trying again makes no sense */
};
/* *ret_state: what the task is now. The same again, with the same epoch, changes nothing. */
pd_err runs_finish(struct tx *t, const struct held_task *h, const struct task_end *end, uint64_t now_ms,
                   enum task_state *ret_state) PD_CHECKED;

/* ---- sweeping: by whoever has the database open ---- */
struct sweeper;
struct sweeper *sweeper_new(void) PD_CHECKED; /* remembers beats; pure but for what it is told */
struct sweeper *sweeper_free(struct sweeper *s);
/* Ends claims that have not beaten for a lease. `mono_ms` is the caller's monotonic clock. */
pd_err runs_sweep(struct tx *t, struct sweeper *s, uint64_t mono_ms, uint64_t now_ms,
                  unsigned *ret_ended) PD_CHECKED;

/* ---- people ---- */
#define REVIEW_DECISIONS(X)                                            \
    X(REVIEW_RETRY, "retry", "again, with all its retries")            \
    X(REVIEW_EDIT, "edit", "the value given is its output")            \
    X(REVIEW_ACCEPT, "accept", "the output that it has is its output") \
    X(REVIEW_DROP, "drop", "not done, nor what needs it")
enum review_decision {
#define X(code, name, what) code,
    REVIEW_DECISIONS(X)
#undef X
        REVIEW_DECISION_COUNT
};
const char *review_decision_name(enum review_decision d);
struct review {
    const char *run, *task;
    enum review_decision decision;
    struct span
        value; /* JSON. EDIT: the new output; RETRY: an object whose members replace those of its spec, or empty */
    struct span who;
};
/* A decision is taken once: PD_EXISTS when it does not wait for one (any more). PD_INVALID: `why` says what is missing. PD_NOTFOUND. */
pd_err runs_review(struct tx *t, const struct review *r, uint64_t now_ms, enum task_state *ret_state,
                   char why[PLAN_WHY_BYTES]) PD_CHECKED;

/* ---- looking (JSON, as /api answers) ---- */
pd_err runs_list_json(struct tx *t, unsigned limit, struct buf *out) PD_CHECKED;
pd_err runs_one_json(struct tx *t, const char *run, bool tasks, struct buf *out) PD_CHECKED; /* PD_NOTFOUND */
pd_err runs_task_json(struct tx *t, const char *run, const char *task,
                      struct buf *out) PD_CHECKED; /* PD_NOTFOUND */
struct events_wish {
    const char *run;
    int64_t after;
    unsigned limit;
    bool sse; /* "id: ..., data: ..." in place of lines */
    bool
        follow; /* in order for one who reads on: PostgreSQL numbers events before they are seen, so the newest second is left out */
};
/* *ret_last: the number of the last, or `after`; *ret_over: the run is, and there are no more. PD_NOTFOUND. */
pd_err runs_events_json(struct tx *t, const struct events_wish *w, struct buf *out, int64_t *ret_last,
                        bool *ret_over) PD_CHECKED;
pd_err runs_reviews_json(struct tx *t, struct buf *out) PD_CHECKED;

#endif
