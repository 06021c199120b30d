/* upgrade.h - listening sockets that go from one process to the next.
 *
 * On SIGUSR2 the program is started again from its own path, with its own arguments, and inherits the listening sockets:
 *
 *   old  upgrade_begin() --starts--> new   inherited_take(), reads the configuration, listens on what it inherited
 *   old  on_end("ready") <--byte--   new   inherited_ready(), then accepts
 *   old  accepts no more, ends what runs, exits; new sees that the line between them closes
 *
 * Both hold the same sockets, so the queue of those who wait to be accepted is never closed. When the new one ends, or does not get ready in
 * time, the old one has lost nothing.
 *
 * PERDURE_LISTEN_FDS (numbers with commas), PERDURE_UPGRADE_FD (the line) and PERDURE_STATE_FD (who holds the state folder) are for the successor
 * only; it takes them out of its environment. systemd's socket activation (LISTEN_PID, LISTEN_FDS) is read too. */
#ifndef PERDURE_APP_UPGRADE_H
#define PERDURE_APP_UPGRADE_H

#include "loop/loop.h"

#include <stdbool.h>
#include <sys/types.h>

enum { UPGRADE_READY_MS = 30 * 1000, INHERITED_MAX = 64 };

struct inherited {
    int fds[INHERITED_MAX]; /* listening sockets; -1: taken */
    unsigned count;
    bool activated; /* from systemd: they are what to listen on, whatever the configuration says */
    bool upgrade;   /* from a process that still runs */
    int line_fd;    /* to it; readable when it has ended; -1: none */
    int state_fd;   /* holds the state folder; -1: none */
};

/* Once, before threads are started. */
void inherited_take(struct inherited *ret);
/* The socket for an address, which is the caller's then; -1: none was inherited. */
int inherited_find(struct inherited *in, const char *address);
/* What nobody asked for is closed. */
void inherited_close_rest(struct inherited *in);
/* Tells the old process, and systemd (NOTIFY_SOCKET), that this one serves. */
void inherited_ready(const struct inherited *in);

/* A line for systemd, such as "STOPPING=1"; without NOTIFY_SOCKET nothing happens. */
void notify_supervisor(const char *text);

struct upgrade {
    struct loop *loop;
    struct watch line;
    struct timer limit;
    pid_t pid;    /* 0: none is under way */
    bool closing; /* `line` is the loop's still */
    int kept_fd;  /* our end, once it is ready: its closing tells the new one that we have ended */
    void (*ended)(void *ctx, pid_t pid, const char *why); /* why NULL: it is ready */
    void *ctx;
};
struct upgrade_ask {
    char **argv;
    const char *program; /* where it was started from, for when argv[0] leads nowhere */
    const int *fds;      /* listening */
    unsigned count;
    bool activated;
    int state_fd; /* -1: none */
};
void upgrade_init(struct upgrade *u, struct loop *l, void (*ended)(void *ctx, pid_t pid, const char *why),
                  void *ctx);
/* PD_EXISTS: one is under way; PD_IO, PD_NOFD, PD_NOMEM: it could not be started (errno). */
pd_err upgrade_begin(struct upgrade *u, const struct upgrade_ask *ask) PD_CHECKED;
/* The one that is being started is ended; `ended` is not called. */
void upgrade_cancel(struct upgrade *u);

#endif
