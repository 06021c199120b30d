/* watch.h - does an agent get on? Measured from outside, since what is alive need not be working.
 *
 *   its calls   GET /api/calls of its gateway: calls begin and end, and the bytes of those that run grow. A call that waits for a provider (in the queue,
 *               on hold, tried) explains that nothing else moves: who waits out an outage is not stuck
 *   its files   times and sizes of what is in its folder; .git, .perdure and perdure-state are no work
 *
 * Another signature of the files is progress, and so is a mark of a call that was not there before. That one is gone is none: the gateway forgets ended
 * calls as others come, whosoever they are. */
#ifndef PERDURE_TASK_WATCH_H
#define PERDURE_TASK_WATCH_H

#include "base/buf.h"

#include <sys/stat.h>

enum {
    WATCH_FILES_MAX =
        20000, /* entries looked at, those of the upper folders first: what lies behind is not seen */
    WATCH_DEPTH_MAX = 24,
    WATCH_ANSWER_MAX = 8 << 20,
    WATCH_CALLS_MAX = 1024, /* calls that are told apart; the running ones first */
};

struct watch_files {
    uint64_t signature;
    unsigned seen;
    bool cut; /* there are more than WATCH_FILES_MAX */
};
/* `path` is relative to the folder and lives until it returns. False: enough. */
typedef bool watch_file_fn(void *ctx, const char *path, const struct stat *st);
/* Regular files; links are not followed. What cannot be read is passed over. `fn` may be NULL. */
void watch_files(const char *folder, watch_file_fn *fn, void *ctx, struct watch_files *ret);

/* Whose calls are looked at. `client`: those of this client key. NULL: those that say that they are of `agent`, and those that say nothing, unless
 * `only_own`; never those of another agent. */
struct watch_whose {
    const char *client, *agent;
    bool only_own;
};
struct watch_calls {
    unsigned running, waiting; /* waiting: explained */
    unsigned recent;
    unsigned own; /* of these, those known to be its own */
    unsigned marks_count;
    uint64_t marks[WATCH_CALLS_MAX]; /* of a call, how much it has said, and whether it has ended; sorted */
};
/* The answer of /api/calls. False: it is none. Pure. */
bool watch_calls(struct span answer, const struct watch_whose *whose, struct watch_calls *ret);
/* Has `now` a mark that `before` has not? */
bool watch_calls_moved(const struct watch_calls *before, const struct watch_calls *now);

#endif
