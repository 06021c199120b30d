/* faults.c - a disk that fails when it is told to, and a clock that jumps; loaded into a program with LD_PRELOAD.
 *
 *   FAULTS_AT    the part of a path that a file must have to fail
 *   FAULTS_TALK  a file of 64-bit numbers, shared with the test (faults.py): what is to fail, and what has
 *
 * A call that fails does nothing, but for a short write, which writes the first half. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { NOTHING, WRITE_EIO, WRITE_ENOSPC, WRITE_SHORT, SYNC_EIO, READ_EIO };

struct talk {
    _Atomic int64_t kind, after, count; /* the calls of this kind after so many, and so many of them */
    _Atomic int64_t calls, failed;      /* of this kind, since the test has set `kind` */
    _Atomic int64_t clock_ms;           /* how much the wall clock is ahead */
    _Atomic int64_t clock_reads;        /* of a clock that is */
};

static struct talk none, *talk = &none;
static const char *part;

static void *real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p)
        abort();
    return p;
}

/* Looked up at the first use: others' constructors may come before ours. */
#define REAL(name)                  \
    ({                              \
        static typeof(&name) found; \
        if (!found)                 \
            found = real(#name);    \
        found;                      \
    })

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_TALK");
    int fd = path ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    part = getenv("FAULTS_AT");
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof(*talk), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED)
        talk = p;
}

static bool is_watched(int fd)
{
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return false;
    path[n] = '\0';
    return part && strstr(path, part);
}

static bool fails(enum kind kind, int fd)
{
    if (talk->kind != kind || !is_watched(fd))
        return false;
    int64_t n = atomic_fetch_add(&talk->calls, 1);
    if (n < talk->after || n >= talk->after + talk->count)
        return false;
    atomic_fetch_add(&talk->failed, 1);
    return true;
}

/* Whether a write is to fail, with errno; *n is smaller when it is to be short. */
static bool write_fails(int fd, size_t *n)
{
    if (talk->kind == NOTHING)
        return false;
    bool eio = fails(WRITE_EIO, fd);
    if (eio || fails(WRITE_ENOSPC, fd)) {
        errno = eio ? EIO : ENOSPC;
        return true;
    }
    if (*n > 1 && fails(WRITE_SHORT, fd))
        *n /= 2;
    return false;
}

ssize_t write(int fd, const void *p, size_t n)
{
    return write_fails(fd, &n) ? -1 : REAL(write)(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    return write_fails(fd, &n) ? -1 : REAL(pwrite)(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    return write_fails(fd, &n) ? -1 : REAL(pwrite64)(fd, p, n, at);
}

static bool read_fails(int fd)
{
    if (!fails(READ_EIO, fd))
        return false;
    errno = EIO;
    return true;
}

ssize_t read(int fd, void *p, size_t n)
{
    return read_fails(fd) ? -1 : REAL(read)(fd, p, n);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return read_fails(fd) ? -1 : REAL(pread)(fd, p, n, at);
}

ssize_t pread64(int fd, void *p, size_t n, off64_t at)
{
    return read_fails(fd) ? -1 : REAL(pread64)(fd, p, n, at);
}

static bool sync_fails(int fd)
{
    if (!fails(SYNC_EIO, fd))
        return false;
    errno = EIO;
    return true;
}

int fsync(int fd)
{
    return sync_fails(fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return sync_fails(fd) ? -1 : REAL(fdatasync)(fd);
}

/* ---- the clock ----------------------------------------------------------- */

static int64_t ahead_ms(void)
{
    int64_t ms = talk->clock_ms;
    if (ms)
        atomic_fetch_add(&talk->clock_reads, 1);
    return ms;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int rc = REAL(clock_gettime)(id, ts);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ts->tv_sec += ahead_ms() / 1000;
    return rc;
}

time_t time(time_t *ret)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (ret)
        *ret = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    int rc = REAL(gettimeofday)(tv, zone);
    if (rc == 0)
        tv->tv_sec += ahead_ms() / 1000;
    return rc;
}
