/* pass.h - what a program says, passed on to an output of ours whose reader may stop reading.
 *
 *   READ     --it takes no more----------------> HELD     what waits is kept, and who writes it waits as it would for its own reader
 *   HELD     --it has taken all----------------> READ     nothing was lost
 *   HELD     --it takes nothing for patience---> UNREAD   what comes is left out and counted: nobody waits for someone who does not read
 *   UNREAD   --it has taken what had waited----> READ     with a line that says how much was left out
 *
 * Never waits. The caller passes `now` (milliseconds, never going back). */
#ifndef PERDURE_TASK_PASS_H
#define PERDURE_TASK_PASS_H

#include "base/buf.h"
#include "base/outlet.h"

enum {
    PASS_KEPT_MAX = 256 << 10,  /* bytes that wait: what a program left in its pipes when it ended */
    PASS_PATIENCE_MS = 5 * 1000 /* that takes nothing; then it is not waited for */
};

enum pass_state { PASS_READ, PASS_HELD, PASS_UNREAD };
struct pass {
    struct outlet to;
    enum pass_state state;
    struct buf waits;
    uint64_t patience_ms, taken_ms; /* the newest that was taken, or when it began to wait */
    uint64_t lost, lost_all;        /* bytes: that no line tells of yet; in all */
};
void pass_open(struct pass *p, int fd, uint64_t patience_ms);
void pass_close(struct pass *p);
/* Takes all of `piece`, or counts it as lost. */
void pass_put(struct pass *p, struct span piece, uint64_t now);
/* What waits, as far as it is taken. Often, and when `to.fd` may take something. */
void pass_on(struct pass *p, uint64_t now);
bool pass_waits(const struct pass *p); /* something does: poll `to.fd` */

#endif
