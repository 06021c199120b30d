/* watch.h - does an agent get on? Measured from outside, since what is alive need not be working.
 *
 *   its calls   GET /api/calls of its gateway: calls begin and end, and the bytes of those that run grow. A call that waits for a provider (in the queue,
 *               on hold, tried) explains that nothing else moves: who waits out an outage is not stuck
 *   its files   times and sizes of what is in its folder; .git, .perdure and perdure-state are no work
 *
 * Both are a signature: another one is progress. */
#ifndef PERDURE_TASK_WATCH_H
#define PERDURE_TASK_WATCH_H

#include "base/buf.h"

#include <sys/stat.h>

enum {
    WATCH_FILES_MAX = 20000, /* entries looked at, in the order of the folders: what lies behind is not seen */
    WATCH_DEPTH_MAX = 24,
    WATCH_ANSWER_MAX = 8 << 20,
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

struct watch_calls {
    uint64_t signature;
    unsigned running, waiting; /* waiting: explained */
    unsigned recent;
};
/* The answer of /api/calls. `client`: only calls of this client key; NULL: all. False: it is none. Pure. */
bool watch_calls(struct span answer, const char *client, struct watch_calls *ret);

#endif
