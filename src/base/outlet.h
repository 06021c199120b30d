/* outlet.h - an output of ours (1 or 2) whose reader may have stopped reading.
 *
 * In `perdure ... | less` a pipe that is full holds up whoever writes to it, for hours. Who has other things to do writes here and never waits.
 *
 * O_NONBLOCK belongs to the open file, which the shell and our neighbours in a pipeline have too: so a pipe or a terminal is opened anew, for us alone, and a
 * socket is told with each write. Files and devices take what they are given. A pipe that is found full is made larger once, as far as it may be: what is in it
 * then is there for its reader also when we are gone.
 *
 * A pipe that may not be opened again (another user's, or no /proc) is looked at before each write, in pieces that fit as a whole: that waits only when another
 * writer fills it just between. */
#ifndef PERDURE_BASE_OUTLET_H
#define PERDURE_BASE_OUTLET_H

#include "base/span.h"

#include <sys/types.h>

enum { OUTLET_PIPE_BYTES = 1 << 20 }; /* what the kernel lets everyone have */

enum outlet_kind {
    OUTLET_TAKES,  /* files, devices: a write is a write */
    OUTLET_OWN,    /* opened anew, never waits */
    OUTLET_SOCKET, /* told with each write */
    OUTLET_LOOKED, /* looked at before each write */
};
struct outlet {
    int fd; /* also to poll for POLLOUT */
    enum outlet_kind kind;
};
/* `fd` stays the caller's, and open. */
void outlet_open(struct outlet *o, int fd);
void outlet_close(struct outlet *o);
/* So many bytes were taken. 0: it would have to wait; -1: nobody reads any more, or it failed (errno). Any thread. */
ssize_t outlet_write(const struct outlet *o, struct span s);
/* Until it would take something, for at most `ms`. False: it would not. */
bool outlet_wait(const struct outlet *o, int ms);

#endif
