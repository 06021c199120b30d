#include "base/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_anew(int fd)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void outlet_open(struct outlet *o, int fd)
{
    struct stat st;
    *o = (struct outlet){fd, OUTLET_TAKES};
    if (fstat(fd, &st) != 0)
        return;
    if (S_ISSOCK(st.st_mode)) {
        o->kind = OUTLET_SOCKET;
    } else if (S_ISFIFO(st.st_mode) || isatty(fd)) {
        int own = open_anew(fd);
        *o = own >= 0 ? (struct outlet){own, OUTLET_OWN} : (struct outlet){fd, OUTLET_LOOKED};
    }
}

void outlet_close(struct outlet *o)
{
    if (o->kind == OUTLET_OWN)
        close(o->fd);
    *o = (struct outlet){-1, OUTLET_TAKES};
}

static ssize_t write_once(const struct outlet *o, struct span s)
{
    switch (o->kind) {
    case OUTLET_SOCKET:
        return send(o->fd, s.p, s.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    case OUTLET_LOOKED:
        s = span_upto(s, PIPE_BUF);
        if (!outlet_wait(o, 0)) {
            errno = EAGAIN;
            return -1;
        }
        return write(o->fd, s.p, s.n);
    case OUTLET_TAKES:
    case OUTLET_OWN:
        break;
    }
    return write(o->fd, s.p, s.n);
}

/* True: it was made larger. */
static bool grow(const struct outlet *o)
{
    int has = fcntl(o->fd, F_GETPIPE_SZ); /* -1: no pipe */
    return has > 0 && has < OUTLET_PIPE_BYTES && fcntl(o->fd, F_SETPIPE_SZ, OUTLET_PIPE_BYTES) > has;
}

ssize_t outlet_write(const struct outlet *o, struct span s)
{
    for (;;) {
        ssize_t n = write_once(o, s);
        if (n >= 0)
            return n;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return -1;
        if (!grow(o))
            return 0;
    }
}

bool outlet_wait(const struct outlet *o, int ms)
{
    struct pollfd fd = {o->fd, POLLOUT, 0};
    return poll(&fd, 1, ms) > 0;
}
