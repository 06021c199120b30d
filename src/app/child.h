/* child.h - perdure itself, started as a helper of a command: it ends when the command does.
 *
 * In a process group of its own, so that Ctrl-C reaches the command alone, which ends it in good order; the kernel tells it (SIGTERM) when the
 * command is gone. For programs of tasks, which are to leave nothing behind, there is task/process.h. Linux. */
#ifndef PERDURE_APP_CHILD_H
#define PERDURE_APP_CHILD_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct child {
    pid_t pid; /* 0: none */
    int out;   /* its standard output; -1: not asked for */
};
/* `words` end in NULL and begin with the command ("serve"). `log_fd`: its standard error, and its standard output when that is not asked
 * for; -1: ours. PD_IO, PD_NOFD, PD_NOMEM. */
pd_err child_start(const char *const *words, bool want_out, int log_fd, struct child *ret) PD_CHECKED;
/* It has ended: true, once; *ret_status as of waitpid(). Does not wait. */
bool child_ended(struct child *c, int *ret_status);
void child_signal(const struct child *c, int signum);
/* Waits until it has ended, kills it after `ms`. */
void child_wait(struct child *c, unsigned ms);
/* Is there a process below us that is not one of these? An orphan of theirs, which is ours by then (child_adopt()). */
bool child_strangers(const struct child *const *known, unsigned count);
void child_adopt(void);

#endif
