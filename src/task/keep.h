/* keep.h - an agent kept going: two processes of ours around it, so that each part that can hang or die has one that sees it.
 *
 *   watchdog  --starts, measures, ends-->  keeper  --starts, ends-->  guard (process.h) --> the agent
 *      ^                                     |
 *      `------------- a beat a second -------'
 *
 *   the keeper    does what supervise.h decides: starts the agent, ends it, checks it, makes checkpoints, writes down where it is
 *   the watchdog  is what the user started. It measures progress (watch.h) and tells the keeper; it does nothing that can hang on the agent. A keeper
 *                 that does not beat for hang_ms (stopped, swapped out, stuck) is killed, and another one goes on from what was written down
 *
 * What dies: the agent, then the keeper restarts it; the keeper, then its guard kills all of the agent and the watchdog starts another keeper; the
 * watchdog (kill -9), then the kernel kills the keeper and the guard the agent: nothing is left, and the same command again goes on. A watchdog that is stopped
 * sees nothing; the agent works on.
 *
 * The keeper's record is `supervise-NAME` in `folder`/.perdure, replaced as a whole (snapshot.h) before each start. That it is done is written down too, and the
 * record removed by the watchdog, last of all: a crash between does not have the agent begin anew. A lock that the guard holds keeps two of an agent from
 * living at once, however slowly the one before ends. */
#ifndef PERDURE_TASK_KEEP_H
#define PERDURE_TASK_KEEP_H

#include "base/buf.h"
#include "task/supervise.h"

enum {
    KEEP_NAME_BYTES = 100,
    KEEP_WORDS_MAX = 2000, /* of the command line, the agent's words included */
    KEEP_BEAT_MS = 1000,
    KEEP_HANG_MS = 30 * 1000,
    KEEP_ASK_MS = 5 * 1000,          /* of the gateway: what it measures, makes and resumes by */
    KEEP_CHECKPOINT_MS = 300 * 1000, /* g */
    KEEP_MEASURE_MOST_MS = 10 * 1000,
    KEEP_CHECK_MS = 30 * 60 * 1000, /* of the check; over it it has failed */
    KEEP_ALERT_MS = 60 * 1000,
    KEEP_FREE_MS = 20,           /* between looks whether an earlier agent is gone */
    KEEP_TELL_MS = 10 * 1000,    /* it is not, and that is said again */
    KEEP_RESUME_MAX = 100 << 10, /* of the resume text: an argument holds 128 KB */
    KEEP_FILES_MAX = 200,        /* changed files that a checkpoint names, the newest */
    KEEP_HASH_MAX = 8 << 20,     /* bytes of a file that is hashed; a larger one has its size and time */
};
/* How it ended, and the exit status of the command: those of `perdure run`. */
enum keep_end {
    KEEP_DONE = 0,
    KEEP_FAILED = 1, /* it could not be begun */
    KEEP_WRONG = 2,
    KEEP_PAUSED = 3, /* restarted too often */
    KEEP_STOPPED = 4,
};

struct keep_rules {
    struct supervise_rules rules;
    const char *const *
        argv; /* the agent's; ends in NULL. "{resume}" in a word is the resume text from the second start on, and empty before */
    const char *const *resume_args; /* added from the second start on; ends in NULL; NULL: none */
    const char *folder;             /* where it works; absolute */
    const char *name;               /* letters, digits, - _ . :, which its checkpoints have too */
    const char *task;               /* of its checkpoints; NULL: the command */
    const char *url, *base, *key; /* the gateway; url NULL: none, then files and output are all that is measured */
    const char *client;           /* calls of this client key are its own; NULL: those that say so (watch.h) */
    const char *check, *alert;    /* for sh -c; NULL: none */
    const char *begun; /* it was begun earlier by another: why it is gone on with; NULL: by the record alone */
    const char *key_variable; /* not given to the agent; NULL: none */
    uint64_t checkpoint_ms, grace_ms, hang_ms, check_ms;
    bool through; /* a terminal: its descriptors are ours (process.h) */
};
void keep_rules_default(struct keep_rules *r);
uint64_t keep_measure_ms(const struct keep_rules *r);

/* Keeper to watchdog, in one write. */
struct keep_beat {
    int state; /* enum supervise_state */
    unsigned starts;
};
/* Watchdog to keeper, in one write. */
struct keep_reading {
    bool progress, explained; /* since the reading before; a call waits for a provider */
    bool asked;               /* the gateway answered */
    unsigned running;         /* calls */
};

/* The watchdog, until all is over; the keeper is this program, started with `argv` and "--keeper=FD,FD[,again]" after its first word. SIGTERM, SIGINT and
 * SIGHUP end all in good order, a second one at once. */
enum keep_end watchdog_run(const struct keep_rules *r, char *const *argv);
/* The keeper. Its descriptors: readings come, beats go. `again`: the one before hung or was killed. */
enum keep_end keeper_run(const struct keep_rules *r, int readings_fd, int beats_fd, bool again);

/* ---- what is written down (keep_record.c) ---- */
struct keep_record {
    unsigned starts, restarted;
    uint64_t began_wall_ms; /* of the first start: files changed since then are its work */
    uint64_t restarted_wall_ms[SUPERVISE_RESTARTS_MAX]; /* the newest first */
    uint64_t command_hash;
    char state[20];
};
uint64_t keep_command_hash(const struct keep_rules *r);
pd_err keep_record_write(const struct keep_rules *r, const struct keep_record *k) PD_CHECKED;
/* PD_NOTFOUND: none, or of another command. */
pd_err keep_record_read(const struct keep_rules *r, struct keep_record *ret) PD_CHECKED;
void keep_record_remove(const struct keep_rules *r);
/* What killed keepers left half written. Only for who holds KEEP_AGENT_LOCK. */
void keep_record_sweep(const struct keep_rules *r);
/* Held by one at a time: KEEP_LOCK by the watchdog; KEEP_AGENT_LOCK by the keeper and its guard, as long as anything of the agent may live. PD_EXISTS: by another. */
#define KEEP_LOCK ".lock"
#define KEEP_AGENT_LOCK ".agent"
pd_err keep_hold(const struct keep_rules *r, const char *what, int *ret_fd) PD_CHECKED;

/* ---- what the agent is given (keep_env.c) ---- */
/* The environment of its start number `starts`, made of ours: where the gateway is, by an address and a key that say whose calls they are. What is set to
 * another place stays. Ends in NULL; NULL: no memory. Pure. */
char **keep_env(const struct keep_rules *r, char *const *ours, unsigned starts,
                const char *resume_path) PD_CHECKED;
void keep_words_free(char **words); /* NULL is fine */

/* ---- checkpoints (keep_checkpoint.c) ---- */
struct asker;
/* Names the changed files with their hashes; kept in .perdure, and given to the gateway where one answers. */
void keep_checkpoint(const struct keep_rules *r, struct asker *a, const struct keep_record *k, const char *reason,
                     const char *milestone);
/* The text for an agent that goes on: of its newest checkpoint (the gateway's, else our own), and why it was started again. It is also in a file, whose name
 * is in ret_path. */
pd_err keep_resume(const struct keep_rules *r, struct asker *a, const char *why, struct buf *out, char *ret_path,
                   size_t path_bytes) PD_CHECKED;

#endif
