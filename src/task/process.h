/* process.h - another program, run so that nothing of it is left behind: not when it ends, not when we are killed.
 *
 *   we --fork--> guard --fork--> the program (its own process group)
 *                  |                 `--> whatever it starts, also what leaves the group or its parent
 *                  `-- subreaper: orphans become its children
 *
 * The guard is a copy of us that only waits. When the program has ended it kills what is left of its children and says how it ended;
 * when we are gone (a pipe closes: kill -9 too) it kills all of them at once. It is done when the kernel says that it has no child, so "nothing is
 * left" is known and not hoped for. Signals of the terminal do not reach it.
 *
 * The program has descriptors 0, 1 and 2 and no others, signals as a fresh program has them, and dies with the guard.
 *
 * Blocking: process_wait() polls. One thread at a time for each process; any thread may start one. SIGPIPE is ignored (net_process_init()). Linux. */
#ifndef PERDURE_TASK_PROCESS_H
#define PERDURE_TASK_PROCESS_H

#include "base/buf.h"

#include <sys/types.h>

enum {
    PROCESS_OUTPUT_DEFAULT = 1 << 20, /* bytes kept of each of both outputs */
    PROCESS_GRACE_DEFAULT_MS = 5000,
    PROCESS_WHY_BYTES = 400,
};

enum process_stream { PROCESS_STDOUT, PROCESS_STDERR, PROCESS_STREAMS };
/* A piece of output as it arrives; lives until it returns. */
typedef void process_output_fn(void *ctx, enum process_stream from, struct span piece);

struct process_rules {
    const char *const *argv; /* ends in NULL; argv[0] is looked for in PATH when it has no '/' */
    const char *const *env;  /* ends in NULL; NULL: ours */
    const char *dir;         /* where it works; NULL: where we do */
    struct span
        input; /* for its standard input; must live as long as the process. Empty: it reads nothing (/dev/null) */
    bool through;        /* its three descriptors are ours: an agent in a terminal. Nothing is kept then */
    size_t output_bytes; /* kept of each output; 0: the default. Over it the middle is left out, and said */
    int hold_fd; /* kept open by the guard until nothing is left; 0: none. A lock on it says so, also when we are gone */
    uint64_t grace_ms;            /* from being asked to end (TERM) to being ended (KILL); 0: the default */
    process_output_fn *on_output; /* may be NULL */
    void *ctx;
};

struct process;
/* PD_NOTFOUND: no such program or folder; PD_IO: it cannot be started, or its guard was killed amid it; `why` says both. PD_NOFD, PD_NOMEM. The program runs when this returns. */
pd_err process_start(const struct process_rules *r, struct process **ret, char why[PROCESS_WHY_BYTES]) PD_CHECKED;
/* Kills what still runs, waits until nothing is left, and frees. NULL is fine; returns NULL. */
struct process *process_free(struct process *p);

/* Moves input and output until it has ended and nothing is left of it (true), or for at most `ms`, or until `wake_fd` (-1: none) can
 * be read, or a signal comes (false). */
bool process_wait(struct process *p, uint64_t ms, int wake_fd);
bool process_woken(int wake_fd); /* it can be read */
/* An output is not read meanwhile: who writes it waits, once its pipe is full. Not at its end, when all that is there is read. */
void process_hold(struct process *p, enum process_stream s, bool hold);
/* Asks the group to end, and after the grace kills all. Again is fine. */
void process_end(struct process *p);
void process_kill(struct process *p);               /* all of it, now */
void process_signal(struct process *p, int signum); /* to its group */

enum process_how { PROCESS_EXITED, PROCESS_SIGNALLED, PROCESS_LOST };
struct process_result {
    enum process_how how; /* LOST: its guard was killed, nobody knows */
    int status;           /* of EXITED: its status; of SIGNALLED: the signal */
    unsigned strays;      /* processes that it left, and that were killed */
};
/* After process_wait() was true. */
struct process_result process_result(const struct process *p);
pid_t process_pid(const struct process *p);                                    /* the program's: its group's too */
uint64_t process_output_total(const struct process *p, enum process_stream s); /* bytes, kept or not */
/* What was kept of an output; with a line in place of what was left out. PD_NOMEM, also when more would have been kept: then what is there is given all the
 * same. */
pd_err process_output(const struct process *p, enum process_stream s, struct buf *out) PD_CHECKED;

#endif
