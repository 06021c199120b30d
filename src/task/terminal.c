#include "task/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* No reports of the mouse, of focus or of pasting, the keyboard and the main screen as usual, the cursor seen, no colours. A terminal skips those that it does
 * not know; none moves the cursor of one that was left in order. */
#define USUAL \
    "\033[?1000l\033[?1002l\033[?1003l\033[?1006l\033[?1004l\033[?2004l\033[<u\033[?1047l\033[?25h\033[0m"

bool terminal_ours(void)
{
    return isatty(0) && tcgetpgrp(0) == getpgrp();
}

void terminal_open(struct terminal *t)
{
    t->fd = isatty(0) ? open("/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    if (t->fd >= 0 && tcgetattr(t->fd, &t->modes) != 0)
        terminal_close(t);
}

void terminal_close(struct terminal *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

static bool may_touch(const struct terminal *t, pid_t group)
{
    pid_t has = t->fd >= 0 ? tcgetpgrp(t->fd) : -1;
    return has > 0 && (group == 0 || has == group || (kill(-has, 0) < 0 && errno == ESRCH));
}

/* One that is not in the foreground is stopped when it does this, else. */
static void quietly(const struct terminal *t, bool broke, bool take)
{
    sigset_t ttou, before;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &before);
    (void)tcsetattr(t->fd, TCSANOW, &t->modes);
    if (broke) {
        ssize_t n = write(t->fd, USUAL, strlen(USUAL)); /* a terminal that is stopped takes nothing */
        (void)n;
        (void)tcflush(t->fd, TCIFLUSH); /* what it reported in the meantime is no word of its user */
    }
    if (take)
        (void)tcsetpgrp(t->fd, getpgrp());
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void terminal_mend(const struct terminal *t, pid_t group, bool broke)
{
    if (may_touch(t, group))
        quietly(t, broke, false);
}

void terminal_take(const struct terminal *t, pid_t group, bool broke)
{
    if (may_touch(t, group))
        quietly(t, broke, true);
}
