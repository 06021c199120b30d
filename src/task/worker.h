/* worker.h - a worker: takes one task after the other and does it.
 *
 *   claim -> [intent -> effect -> result] ... -> checks -> finish
 *
 * A worker is a process; its one task is done in plain blocking code, while a second thread beats: it tells how far the task is, and hears
 * when it must stop (the run was cancelled, the task is another's by now, nobody was reached for a whole lease). Everything that a kind of task does
 * outside is between an intent and a result (work.h), so that the next worker knows what the last one did.
 *
 * Ended by worker_stop(), which a signal handler may call: the first time it takes no more tasks and gives the one at hand `drain_ms` to be
 * finished, then it gives it back; the second time at once. */
#ifndef PERDURE_TASK_WORKER_H
#define PERDURE_TASK_WORKER_H

#include "task/work.h"

struct worker_rules {
    struct work_queue *queue;
    const char *name;
    const char *run;   /* NULL: of any */
    unsigned kinds;    /* bits of enum task_kind; 0: those that can be done */
    uint64_t lease_ms; /* 0: LEASE_DEFAULT_MS */
    uint64_t drain_ms; /* 0: WORKER_DRAIN_MS */
    uint64_t idle_ms;  /* without a task for so long it ends; 0: never */
    /* The gateway, which llm tasks ask and checkpoints are given to. NULL: no llm tasks. */
    const char *url;  /* scheme, host and port */
    const char *base; /* the path before /v1 and /api */
    const char *key;  /* NULL: none */
    const char
        *key_variable; /* of the environment, that holds it: not given to the programs of tasks; NULL: none */
    const char *dir;   /* where tasks work; NULL: here */
    uint64_t
        checkpoint_ms; /* between those of a task that takes long; 0: what its claim says, else WORKER_CHECKPOINT_MS */
};
enum {
    WORKER_DRAIN_MS = 10 * 1000,
    WORKER_CHECKPOINT_MS = 300 * 1000, /* g */
    WORKER_REPAIRS = 3, /* times that a model is told what does not fit in its answer, in one attempt */
};

struct worker_done {
    unsigned tasks, failed;
};
/* Until it is stopped or idle. PD_OK; PD_IO: nobody was to be reached; PD_UNSUPPORTED: it is not allowed to; PD_NOMEM. */
struct task_worker;
pd_err worker_new(const struct worker_rules *r, struct task_worker **ret) PD_CHECKED;
pd_err worker_run(struct task_worker *w, struct worker_done *ret) PD_CHECKED;
void worker_stop(struct task_worker *w);
struct task_worker *worker_free(struct task_worker *w); /* NULL is fine; returns NULL */

/* A kind of task that another room or file adds: agents. Set before worker_run(). */
struct doing;
typedef pd_err worker_kind_fn(struct doing *d);
void worker_set_kind(struct task_worker *w, enum task_kind k, worker_kind_fn *fn);

#endif
