/* upgrade.h - listening sockets that go from one process to the next.
 *
 * On SIGUSR2 the program is started again from its own path, with its own arguments, and inherits the listening sockets:
 *
 *   old  upgrade_begin() --starts--> new   inherited_take(), reads the configuration, listens on what it inherited
 *   old  UPGRADE_READY  <---byte--   new   inherited_ready(), then accepts
 *   old  accepts no more, ends what runs, exits; new sees that the line between them closes
 *   old  UPGRADE_DIED   <--closes--  new   killed, or broken: as long as the old one is there it accepts again
 *   old  UPGRADE_LEAVES <---byte--   new   inherited_leaving(): it was told to end, or has a successor of its own
 *
 * Both hold the same sockets, so the queue of those who wait to be accepted is never closed. When the new one ends, does not get ready in
 * time, or dies while the old one still ends its calls, the old one has lost nothing.
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
    int tell_fd;    /* the same line, for what we tell it; open until the end of the process */
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
/* Tells the old process, if it is there still, that the end of this one is meant. */
void inherited_leaving(const struct inherited *in);

/* A line for systemd, such as "STOPPING=1"; without NOTIFY_SOCKET nothing happens. */
void notify_supervisor(const char *text);

enum upgrade_news {
    UPGRADE_READY,  /* it serves */
    UPGRADE_FAILED, /* it never did, and is gone */
    UPGRADE_LEAVES, /* it was ready, and ends because it is meant to */
    UPGRADE_DIED,   /* it was ready, and is gone */
};
/* `why`: of FAILED and DIED; else NULL. */
typedef void upgrade_fn(void *ctx, enum upgrade_news news, pid_t pid, const char *why);

struct upgrade {
    struct loop *loop;
    struct watch line;
    struct timer limit;
    pid_t pid; /* 0: there is none */
    bool ready, leaving;
    bool closing, ending; /* `line` is the loop's still; it is waited for */
    int kept_fd;          /* our end, once it is ready: its closing tells the new one that we have ended */
    upgrade_fn *told;
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
void upgrade_init(struct upgrade *u, struct loop *l, upgrade_fn *told, void *ctx);
/* PD_EXISTS: there is one; PD_IO, PD_NOFD, PD_NOMEM: it could not be started (errno). */
pd_err upgrade_begin(struct upgrade *u, const struct upgrade_ask *ask) PD_CHECKED;
/* The one that is being started is ended; nothing is told. */
void upgrade_cancel(struct upgrade *u);
/* Before the loop is freed; the one that is ready goes on. */
void upgrade_done(struct upgrade *u);

#endif
