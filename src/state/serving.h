/* serving.h - where the process that holds a state folder serves: for commands that look for it.
 *
 * A file `serving` in the folder: one line "URL PID KIND". It is written whole (a file beside it, renamed), and its writer holds a lock on it for as
 * long as it lives: a file without its lock is that of a dead process, and says nothing. Each writer makes a file of its own, so whoever looks never stands in
 * the way of the next one. An upgrade: the successor's file takes the place of the old one's.
 *
 * Who holds the folder is decided by its `lock` alone (folder.h); only that one writes here. */
#ifndef PERDURE_STATE_SERVING_H
#define PERDURE_STATE_SERVING_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { SERVING_URL_MAX = 300 };

struct serving {
    char url[SERVING_URL_MAX]; /* "http://127.0.0.1:8080" */
    uint64_t pid;
    bool brief; /* started by a `perdure run`, and ends with it: then another one may take its place */
};

/* The descriptor is what says that its writer lives: kept until serving_end(), or the end of the process. PD_IO (errno says why), PD_NOFD, PD_TOOBIG. */
pd_err serving_write(const char *folder, const struct serving *s, int *ret_fd) PD_CHECKED;
/* Takes it away again, unless a successor's is there. fd -1 is fine. */
void serving_end(const char *folder, int fd);
/* PD_NOTFOUND: nobody serves there. PD_NOFD, PD_TOOBIG. */
pd_err serving_read(const char *folder, struct serving *ret) PD_CHECKED;

#endif
