/* run_gateway.h - the perdure that keeps a run: the one that holds the state folder, else one of our own for the time of the run.
 *
 * However many `perdure run` begin at once, one of them starts it (`serve --for-run` ends at once where another holds the folder), and the others use it.
 * When it ends before they do, or is killed, one of them starts the next, at the same address if that is free: workers then go on as if nothing
 * had been. A perdure that nobody's run has started is waited for: those who started it bring it back. */
#ifndef PERDURE_APP_RUN_GATEWAY_H
#define PERDURE_APP_RUN_GATEWAY_H

#include "app/ask.h"
#include "app/child.h"

#include <signal.h>

enum {
    RUN_GATEWAY_START_MS = 60 * 1000
}; /* from its start until it serves, and how long it is waited for when it is away */

struct run_gateway {
    struct ask_where *where; /* is kept right */
    const char *config;
    char *state;             /* the folder; NULL: none */
    const sigset_t *signals; /* one of them ends a wait, but for SIGCHLD */
    int log_fd;
    bool said_log;      /* what it writes stands in a file */
    struct child child; /* pid 0: it is not ours */
    char port[12];      /* where the next one of a run's listens; empty: anywhere */
    bool brief;         /* it is a run's, ours or another's */
    bool wrong;         /* the newest start failed, and not because another was quicker */
    uint64_t again_ms;
};

/* `where` as the options have it; said by --url it is never changed. */
void run_gateway_init(struct run_gateway *g, struct ask_where *where, const char *config, const sigset_t *signals);
/* The one that serves, or ours. False: none could be had, and that was said; or a signal came. */
bool run_gateway_find(struct run_gateway *g);
/* When no answer comes: one look, and where its time has come one try to start the next. Does not wait but for that. */
void run_gateway_look(struct run_gateway *g);
/* Between two looks. False: a signal came that ends the command. */
bool run_gateway_pause(const struct run_gateway *g, unsigned ms);
void run_gateway_end(struct run_gateway *g, unsigned ms);

#endif
