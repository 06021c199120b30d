/* work.h - where a worker's tasks come from: a perdure asked over HTTP, or the database itself.
 *
 *   claim -> beat, beat, step_begin, step_end, beat ... -> finish
 *
 * One table of functions with two implementations that mean the same: work_http.c asks a perdure (docs/runs-api.md), work_db.c runs the jobs of
 * runs.h on a database that the process has opened itself (PostgreSQL: many workers on many machines).
 *
 * All functions block, and any number of threads may call them at once. What cannot be reached is tried again inside, with growing pauses, for
 * `patience_ms`; everything but beats bears being sent twice. Then it is PD_IO, and the task is lost to this worker when its lease ends; what it
 * did is not recorded.
 *
 * RUNS_FENCED: the task is another's by now, or ended: stop its work at once, write nothing, claim another.
 * PD_CANCELLED: work_queue_stop() was called. */
#ifndef PERDURE_TASK_WORK_H
#define PERDURE_TASK_WORK_H

#include "task/runs.h"

#include <stdatomic.h>

struct work_queue;
struct work_ops {
    /* Waits for a task up to wait_ms. PD_NOTFOUND: none. Fills *ret, which the caller ends with claimed_done(). */
    pd_err (*claim)(struct work_queue *q, const struct claim_wish *w, uint64_t wait_ms, struct claimed *ret);
    /* One try, which ends after `limit_ms` (the caller beats again soon anyhow). PD_IO: not told; go on. `progress`: JSON, or empty. */
    pd_err (*beat)(struct work_queue *q, const struct held_task *h, struct span progress, uint64_t limit_ms,
                   struct beat_answer *ret);
    /* As runs_step_begin(): STEP_DONE fills `result`; STEP_AMBIGUOUS fills it with the key as a JSON string, or leaves it empty. */
    pd_err (*step_begin)(struct work_queue *q, const struct held_task *h, const struct step *s,
                         enum step_found *ret, struct buf *result);
    pd_err (*step_end)(struct work_queue *q, const struct held_task *h, const char *step, struct span result);
    /* *ret_state: what the task is now. */
    pd_err (*finish)(struct work_queue *q, const struct held_task *h, const struct task_end *end,
                     enum task_state *ret_state);
    /* Ends waits: claims return PD_CANCELLED from now on; beats, steps and finishes still work. From any thread and from a signal handler. */
    void (*stop)(struct work_queue *q);
    void (*free)(struct work_queue *q);
};
struct work_queue {
    const struct work_ops *ops; /* first in each implementation's own struct */
};

static inline void work_queue_stop(struct work_queue *q)
{
    q->ops->stop(q);
}
/* When no thread is inside any more. NULL is fine; returns NULL. */
static inline struct work_queue *work_queue_free(struct work_queue *q)
{
    if (q)
        q->ops->free(q);
    return NULL;
}

/* The database is opened here: where as in db_open(). `why`: what to do when it fails. */
struct work_db_rules {
    uint64_t patience_ms; /* default 60 s */
    uint64_t look_ms;     /* while it waits, how often it looks for tasks of others; default 500 ms */
    bool sweep;           /* sweep too, once a second: where no perdure serves this database; default true */
};
void work_db_rules_default(struct work_db_rules *r);
pd_err work_db_open(const char *where, const struct work_db_rules *r, struct work_queue **ret, char *why,
                    size_t why_bytes) PD_CHECKED;

#endif
