/* recorder.c - what a program does to its disk, in order; loaded into it with LD_PRELOAD.
 *
 * Every call that changes a file or a folder under CRASH_ROOT, or makes such a change durable, is a *point*. Points are numbered over all
 * processes of a run: a lock is held while one is made and written down, so the record has them in the order in which they happened.
 *
 *   CRASH_ROOT    the folder that is watched
 *   CRASH_RECORD  file that gets the record; disk.py reads it and makes the disks that a loss of power could have left
 *   CRASH_ROLE    which process is to die: the program's first argument ("serve", "worker", "run"; "supervise" is the watchdog), or the program's name;
 *                 "keeper" is the one of supervise, "guard" what it forks around a program
 *   CRASH_COUNT   file with that role's count of points so far (a 64-bit number), so that it goes on over several processes of a role
 *   CRASH_AT      the point before which a process of that role is killed (SIGKILL), once
 *   CRASH_ALL     all processes of the run are killed with it, as by a machine that stops
 *   CRASH_SOCKETS what a process of that role sends on sockets is a point too (for one that writes little itself)
 *   CRASH_PIPES   so is what it writes into pipes, and each signal that it sends
 *
 * Without CRASH_RECORD nothing is written down, without CRASH_AT nobody dies. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* One letter for each kind: what disk.py reads. */
enum point {
    POINT_CREATE = 'c',   /* a new file: its number, its path */
    POINT_WRITE = 'w',    /* bytes at a place of a file */
    POINT_TRUNCATE = 't', /* to a length */
    POINT_SYNC = 's',     /* a file's bytes, or a folder's names, are durable from here on */
    POINT_RENAME = 'r',   /* two paths */
    POINT_LINK = 'l',
    POINT_UNLINK = 'u',
    POINT_MKDIR = 'd',
    POINT_RMDIR = 'x',
    POINT_SEND = 'n', /* on a socket: nothing of the disk */
};

struct record_head {
    uint32_t magic;
    uint8_t kind, role; /* role 1: a process of CRASH_ROLE */
    uint16_t path_bytes, other_bytes;
    uint16_t unused;
    uint32_t pid;
    uint64_t file, at, bytes;
};
enum { RECORD_MAGIC = 0x43524153, FDS = 4096 };

/* CRASH_COUNT, mapped by all processes of a run. */
enum { TALLY_PIDS = 4000 };
struct tally {
    uint64_t points, died; /* points of the role; who died */
    uint32_t pids_count, pids[TALLY_PIDS];
};

static char root[PATH_MAX];
static size_t root_bytes;
static const char *record_path;
static int record_fd = -1;
static pid_t record_pid;
static struct tally *tally;
static uint64_t die_at;
static bool is_role, counts_sockets, counts_pipes, dies_with_all;
static int forks, role_forks = -1; /* since the program began; only that child of a program of the role; -1: any */
static bool program_is_role, asks_sockets, asks_pipes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int inside; /* our own calls are no points */
static _Atomic char
    watched[FDS]; /* of a descriptor: 0 not asked, 1 under root, 2 elsewhere, 3 a socket, 4 a pipe */

#define NEXT(name)                         \
    static __typeof__(&(name)) next;       \
    if (!next) {                           \
        void *p = dlsym(RTLD_NEXT, #name); \
        memcpy(&next, &p, sizeof(p));      \
    }

static bool role_fits(const char *role)
{
    char line[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    line[n] = 0;
    const char *base = strrchr(line, '/'), *first = line + strlen(line) + 1;
    if (strcmp(base ? base + 1 : line, role) == 0)
        return true;
    if (first >= line + n || !strstr(line, "perdure"))
        return false;
    const char *second = first + strlen(first) + 1;
    bool supervises = strcmp(first, "supervise") == 0,
         keeps = supervises && second < line + n && strncmp(second, "--keeper=", 9) == 0;
    if (strcmp(role, "keeper") == 0 || strcmp(role, "guard") == 0) {
        role_forks = strcmp(role, "guard") == 0;
        return keeps;
    }
    if (supervises)
        role_forks = 0;
    return strcmp(first, role) == 0 && !keeps;
}

static char mark[PATH_MAX + 16]; /* what the surroundings of each process of this run have */

static void register_self(void)
{
    uint32_t n = tally && dies_with_all ? __atomic_fetch_add(&tally->pids_count, 1, __ATOMIC_SEQ_CST) : TALLY_PIDS;
    if (n < TALLY_PIDS)
        tally->pids[n] = (uint32_t)getpid();
}

static void decide_role(void)
{
    is_role = program_is_role && (role_forks < 0 || role_forks == forks);
    counts_sockets = is_role && asks_sockets;
    counts_pipes = is_role && asks_pipes;
}

/* A child has the lock as it was at the fork: of a thread that it has not. */
static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}
static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}
static void in_child(void)
{
    pthread_mutex_unlock(&lock);
    forks++;
    decide_role();
    register_self();
}

/* A number may be another process's by now. */
static bool is_of_this_run(uint32_t pid)
{
    char path[64], all[65536];
    snprintf(path, sizeof(path), "/proc/%u/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, all, sizeof(all) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    all[n] = 0;
    for (char *at = all; at < all + n; at += strlen(at) + 1)
        if (strcmp(at, mark) == 0)
            return true;
    return false;
}

static void kill_all(void)
{
    inside++;
    for (uint32_t i = 0; i < tally->pids_count && i < TALLY_PIDS; i++)
        if (tally->pids[i] != (uint32_t)getpid() && is_of_this_run(tally->pids[i]))
            kill((pid_t)tally->pids[i], SIGKILL);
    inside--;
}

__attribute__((constructor)) static void begin(void)
{
    inside++;
    const char *r = getenv("CRASH_ROOT"), *role = getenv("CRASH_ROLE"), *at = getenv("CRASH_AT"),
               *counted = getenv("CRASH_COUNT");
    if (r && realpath(r, root))
        root_bytes = strlen(root);
    record_path = getenv("CRASH_RECORD");
    if (record_path)
        record_path = strdup(record_path); /* a server may write its title over its environment */
    asks_sockets = getenv("CRASH_SOCKETS") != NULL;
    asks_pipes = getenv("CRASH_PIPES") != NULL;
    program_is_role = role && role_fits(role);
    decide_role();
    die_at = at ? strtoull(at, NULL, 10) : 0;
    dies_with_all = getenv("CRASH_ALL") != NULL;
    if (counted && (program_is_role || dies_with_all)) {
        snprintf(mark, sizeof(mark), "CRASH_COUNT=%s", counted);
        int fd = open(counted, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && ftruncate(fd, sizeof(*tally)) == 0) {
            void *p = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            tally = p == MAP_FAILED ? NULL : p;
        }
        if (fd >= 0)
            close(fd);
        register_self();
    }
    pthread_atfork(before_fork, after_fork, in_child);
    inside--;
}

/* Across processes by flock, which the end of a process lets go of. A descriptor that came over a fork would share its parent's lock. */
static void enter(void)
{
    inside++;
    pthread_mutex_lock(&lock);
    if (record_path && record_pid != getpid()) {
        record_fd = open(record_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (record_fd >= 0 && record_fd < 900) { /* out of the way of programs that close what they know */
            int high = fcntl(record_fd, F_DUPFD_CLOEXEC, 900);
            if (high >= 0) {
                close(record_fd);
                record_fd = high;
            }
        }
        record_pid = getpid();
    }
    if (record_path && record_fd >= 0)
        flock(record_fd, LOCK_EX);
}

static void leave(void)
{
    int e = errno;
    if (record_path && record_fd >= 0)
        flock(record_fd, LOCK_UN);
    pthread_mutex_unlock(&lock);
    inside--;
    errno = e;
}

/* The point is about to be made. */
static void count_point(void)
{
    if (!is_role || !tally)
        return;
    uint64_t n = __atomic_add_fetch(&tally->points, 1, __ATOMIC_SEQ_CST);
    if (die_at && n == die_at) {
        tally->died = (uint64_t)getpid(); /* who died: a fault test in which nothing died is none */
        if (dies_with_all)                /* the others may take this one with them at once */
            kill_all();
        kill(getpid(), SIGKILL);
        pause();
    }
}

static void put(enum point kind, uint64_t file, uint64_t at, const char *path, const char *other,
                const struct iovec *v, int n, uint64_t bytes)
{
    if (!record_path || record_fd < 0)
        return;
    struct record_head h = {.magic = RECORD_MAGIC,
                            .kind = (uint8_t)kind,
                            .role = is_role,
                            .pid = (uint32_t)getpid(),
                            .file = file,
                            .at = at,
                            .bytes = bytes};
    h.path_bytes = path ? (uint16_t)strlen(path) : 0;
    h.other_bytes = other ? (uint16_t)strlen(other) : 0;
    size_t most = sizeof(h) + h.path_bytes + h.other_bytes + (v ? bytes : 0), k = 0;
    char *all = malloc(most);
    if (!all)
        abort();
    memcpy(all, &h, sizeof(h)), k = sizeof(h);
    if (path)
        memcpy(all + k, path, h.path_bytes), k += h.path_bytes;
    if (other)
        memcpy(all + k, other, h.other_bytes), k += h.other_bytes;
    for (int i = 0; v && i < n && k < most; i++) {
        size_t part = v[i].iov_len < most - k ? v[i].iov_len : most - k;
        memcpy(all + k, v[i].iov_base, part), k += part;
    }
    for (size_t done = 0; done < most;) {
        ssize_t w = write(record_fd, all + done, most - done);
        if (w < 0 && errno != EINTR)
            abort();
        done += w > 0 ? (size_t)w : 0;
    }
    free(all);
}

/* ---- which descriptors ------------------------------------------------------------------------------ */

static bool under_root(const char *path)
{
    return root_bytes && strncmp(path, root, root_bytes) == 0 &&
           (path[root_bytes] == '/' || path[root_bytes] == 0);
}

static bool path_of_fd(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = 0;
    return true;
}

static int look(int fd)
{
    char path[PATH_MAX];
    struct stat st;
    if (fd < 0 || fd >= FDS)
        return 2;
    if (watched[fd])
        return watched[fd];
    inside++;
    int e = errno, is = 2;
    if (fstat(fd, &st) == 0) {
        if (S_ISSOCK(st.st_mode))
            is = 3;
        else if (S_ISFIFO(st.st_mode))
            is = 4;
        else if ((S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && path_of_fd(fd, path) && under_root(path))
            is = 1;
    }
    errno = e;
    inside--;
    watched[fd] = (char)is;
    return is;
}

static void forget(int fd)
{
    if (fd >= 0 && fd < FDS)
        watched[fd] = 0;
}

static uint64_t file_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* The path as the kernel would name it, as far as its folder goes: "." and links are followed. */
static bool whole_path(int at, const char *path, char *out)
{
    char joined[2 * PATH_MAX], folder[PATH_MAX];
    if (path[0] == '/')
        snprintf(joined, sizeof(joined), "%s", path);
    else {
        char base[PATH_MAX];
        if (at == AT_FDCWD ? !getcwd(base, sizeof(base)) : !path_of_fd(at, base))
            return false;
        snprintf(joined, sizeof(joined), "%s/%s", base, path);
    }
    char *slash = strrchr(joined, '/');
    if (!slash)
        return false;
    *slash = 0;
    if (!realpath(joined[0] ? joined : "/", folder))
        return false;
    return snprintf(out, PATH_MAX, "%s/%s", folder, slash + 1) < PATH_MAX;
}

/* ---- opening ------------------------------------------------------------------------------------------ */

typedef int open_fn(int at, const char *path, int flags, mode_t mode);

static int do_open(int at, const char *path, int flags, mode_t mode, open_fn *real)
{
    char whole[PATH_MAX];
    bool changes = (flags & (O_CREAT | O_TRUNC)) != 0;
    if (inside || !root_bytes || !changes || !path) {
        int fd = real(at, path, flags, mode);
        if (!inside)
            forget(fd);
        return fd;
    }
    inside++;
    bool ours = whole_path(at, path, whole) && under_root(whole);
    inside--;
    if (!ours) {
        int fd = real(at, path, flags, mode);
        forget(fd);
        return fd;
    }
    enter();
    struct stat st;
    bool there = stat(whole, &st) == 0;
    if (!there || ((flags & O_TRUNC) && st.st_size > 0))
        count_point();
    int fd = real(at, path, flags, mode);
    if (fd >= 0) {
        forget(fd);
        if (!there)
            put(POINT_CREATE, file_of(fd), 0, whole, NULL, NULL, 0, 0);
        else if ((flags & O_TRUNC) && st.st_size > 0)
            put(POINT_TRUNCATE, file_of(fd), 0, NULL, NULL, NULL, 0, 0);
    }
    leave();
    return fd;
}

static int real_openat(int at, const char *path, int flags, mode_t mode)
{
    NEXT(openat)
    return next(at, path, flags, mode);
}

#define MODE_OF(flags)                       \
    mode_t mode = 0;                         \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list ap;                          \
        va_start(ap, flags);                 \
        mode = (mode_t)va_arg(ap, int);      \
        va_end(ap);                          \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return do_open(AT_FDCWD, path, flags, mode, real_openat);
}
int open64(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return do_open(AT_FDCWD, path, flags | O_LARGEFILE, mode, real_openat);
}
int openat(int at, const char *path, int flags, ...)
{
    MODE_OF(flags)
    return do_open(at, path, flags, mode, real_openat);
}
int openat64(int at, const char *path, int flags, ...)
{
    MODE_OF(flags)
    return do_open(at, path, flags | O_LARGEFILE, mode, real_openat);
}
int creat(const char *path, mode_t mode)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, real_openat);
}

FILE *fopen(const char *path, const char *how)
{
    NEXT(fopen)
    int flags = how[0] == 'r'
                    ? (strchr(how, '+') ? O_RDWR : O_RDONLY)
                    : (strchr(how, '+') ? O_RDWR : O_WRONLY) | O_CREAT | (how[0] == 'w' ? O_TRUNC : O_APPEND);
    if (inside || !root_bytes || how[0] == 'r')
        return next(path, how);
    int fd = open(path, flags | (strchr(how, 'e') ? O_CLOEXEC : 0), 0666);
    return fd < 0 ? NULL : fdopen(fd, how);
}
FILE *fopen64(const char *path, const char *how)
{
    return fopen(path, how);
}

int close(int fd)
{
    NEXT(close)
    if (!inside && fd == record_fd && record_pid == getpid() && fd >= 0)
        return 0; /* a program that closes everything */
    forget(fd);
    return next(fd);
}
int dup2(int from, int to)
{
    NEXT(dup2)
    forget(to);
    return next(from, to);
}
int dup3(int from, int to, int flags)
{
    NEXT(dup3)
    forget(to);
    return next(from, to, flags);
}

/* ---- writing -------------------------------------------------------------------------------------------- */

enum { AT_POSITION = -1 };

/* Something is about to be said to another process. */
static void told(void)
{
    enter();
    count_point();
    put(POINT_SEND, 0, 0, NULL, NULL, NULL, 0, 0);
    leave();
}

static ssize_t do_write(int fd, const struct iovec *v, int n, off_t at,
                        ssize_t (*real)(int, const struct iovec *, int, off_t))
{
    int is = inside ? 2 : look(fd);
    if ((is == 3 && counts_sockets) || (is == 4 && counts_pipes))
        told();
    if (is != 1)
        return real(fd, v, n, at);
    enter();
    count_point();
    off_t place = at;
    if (at == AT_POSITION) {
        int flags = fcntl(fd, F_GETFL);
        place = lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    }
    ssize_t done = real(fd, v, n, at);
    if (done > 0)
        put(POINT_WRITE, file_of(fd), (uint64_t)place, NULL, NULL, v, n, (uint64_t)done);
    leave();
    return done;
}

static ssize_t real_vec(int fd, const struct iovec *v, int n, off_t at)
{
    if (at == AT_POSITION) {
        static ssize_t (*next)(int, const struct iovec *, int);
        if (!next) {
            void *p = dlsym(RTLD_NEXT, "writev");
            memcpy(&next, &p, sizeof(p));
        }
        return next(fd, v, n);
    }
    static ssize_t (*next)(int, const struct iovec *, int, off_t);
    if (!next) {
        void *p = dlsym(RTLD_NEXT, "pwritev");
        memcpy(&next, &p, sizeof(p));
    }
    return next(fd, v, n, at);
}
static ssize_t real_one(int fd, const struct iovec *v, int n, off_t at)
{
    (void)n;
    if (at == AT_POSITION) {
        NEXT(write)
        return next(fd, v->iov_base, v->iov_len);
    }
    NEXT(pwrite)
    return next(fd, v->iov_base, v->iov_len, at);
}

ssize_t write(int fd, const void *p, size_t n)
{
    struct iovec v = {(void *)(uintptr_t)p, n};
    return do_write(fd, &v, 1, AT_POSITION, real_one);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    struct iovec v = {(void *)(uintptr_t)p, n};
    return do_write(fd, &v, 1, at, real_one);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    struct iovec v = {(void *)(uintptr_t)p, n};
    return do_write(fd, &v, 1, at, real_one);
}
ssize_t writev(int fd, const struct iovec *v, int n)
{
    return do_write(fd, v, n, AT_POSITION, real_vec);
}
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    return do_write(fd, v, n, at, real_vec);
}
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
    return do_write(fd, v, n, at, real_vec);
}

static void sending(int fd)
{
    if (!inside && counts_sockets && look(fd) == 3)
        told();
}
ssize_t send(int fd, const void *p, size_t n, int flags)
{
    NEXT(send)
    sending(fd);
    return next(fd, p, n, flags);
}
ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
    NEXT(sendto)
    sending(fd);
    return next(fd, p, n, flags, to, to_bytes);
}
ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    NEXT(sendmsg)
    sending(fd);
    return next(fd, m, flags);
}

int kill(pid_t pid, int signum)
{
    NEXT(kill)
    if (!inside && counts_pipes)
        told();
    return next(pid, signum);
}

/* What cat and cp try first, and do without where it is not there: what is copied is to be seen. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags)
{
    NEXT(copy_file_range)
    if (inside || look(to) != 1)
        return next(from, from_at, to, to_at, n, flags);
    errno = ENOSYS;
    return -1;
}

static int do_truncate(int fd, off_t n)
{
    NEXT(ftruncate)
    if (inside || look(fd) != 1)
        return next(fd, n);
    enter();
    count_point();
    int r = next(fd, n);
    if (r == 0)
        put(POINT_TRUNCATE, file_of(fd), (uint64_t)n, NULL, NULL, NULL, 0, 0);
    leave();
    return r;
}
int ftruncate(int fd, off_t n)
{
    return do_truncate(fd, n);
}
int ftruncate64(int fd, off64_t n)
{
    return do_truncate(fd, n);
}

/* Only grows a file with zeros: a truncate to the new length is the same to a disk. */
static int allocated(int fd, off_t at, off_t n, int r)
{
    struct stat st;
    (void)at, (void)n;
    if (r == 0 && !inside && look(fd) == 1) {
        enter();
        if (fstat(fd, &st) == 0)
            put(POINT_TRUNCATE, file_of(fd), (uint64_t)st.st_size, NULL, NULL, NULL, 0, 0);
        leave();
    }
    return r;
}
int posix_fallocate(int fd, off_t at, off_t n)
{
    NEXT(posix_fallocate)
    return allocated(fd, at, n, next(fd, at, n));
}
int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    return posix_fallocate(fd, at, n);
}
int fallocate(int fd, int mode, off_t at, off_t n)
{
    NEXT(fallocate)
    return mode == 0 ? allocated(fd, at, n, next(fd, mode, at, n)) : next(fd, mode, at, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
    return fallocate(fd, mode, at, n);
}

/* ---- making it durable ------------------------------------------------------------------------------------- */

static int do_sync(int fd, int (*real)(int))
{
    char path[PATH_MAX];
    struct stat st;
    if (inside || look(fd) != 1)
        return real(fd);
    enter();
    count_point();
    int r = real(fd);
    if (r == 0) {
        bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && path_of_fd(fd, path);
        put(POINT_SYNC, file_of(fd), 0, folder ? path : NULL, NULL, NULL, 0, 0);
    }
    leave();
    return r;
}
int fsync(int fd)
{
    NEXT(fsync)
    return do_sync(fd, next);
}
int fdatasync(int fd)
{
    NEXT(fdatasync)
    return do_sync(fd, next);
}

/* ---- names ---------------------------------------------------------------------------------------------------- */

static int named(enum point kind, int at, const char *path, int at2, const char *path2,
                 int (*real)(int, const char *, int, const char *))
{
    char one[PATH_MAX], two[PATH_MAX];
    inside++;
    bool ours = inside == 1 && root_bytes && whole_path(at, path, one) && under_root(one);
    bool both = ours && (!path2 || (whole_path(at2, path2, two) && under_root(two)));
    inside--;
    if (!both)
        return real(at, path, at2, path2);
    enter();
    count_point();
    struct stat st;
    uint64_t file = lstat(one, &st) == 0 ? (uint64_t)st.st_ino : 0;
    int r = real(at, path, at2, path2);
    if (r == 0) {
        if (kind == POINT_MKDIR && lstat(one, &st) == 0)
            file = (uint64_t)st.st_ino;
        put(kind, file, 0, one, path2 ? two : NULL, NULL, 0, 0);
    }
    leave();
    return r;
}

static int real_rename(int at, const char *a, int at2, const char *b)
{
    NEXT(renameat)
    return next(at, a, at2, b);
}
static int real_link(int at, const char *a, int at2, const char *b)
{
    NEXT(linkat)
    return next(at, a, at2, b, 0);
}
static int real_unlink(int at, const char *a, int at2, const char *b)
{
    (void)at2, (void)b;
    NEXT(unlinkat)
    return next(at, a, 0);
}
static int real_rmdir(int at, const char *a, int at2, const char *b)
{
    (void)at2, (void)b;
    NEXT(unlinkat)
    return next(at, a, AT_REMOVEDIR);
}
static _Thread_local mode_t mkdir_mode;
static int real_mkdir(int at, const char *a, int at2, const char *b)
{
    (void)at2, (void)b;
    NEXT(mkdirat)
    return next(at, a, mkdir_mode);
}

int rename(const char *a, const char *b)
{
    return named(POINT_RENAME, AT_FDCWD, a, AT_FDCWD, b, real_rename);
}
int renameat(int at, const char *a, int at2, const char *b)
{
    return named(POINT_RENAME, at, a, at2, b, real_rename);
}
/* What mv calls. Of its flags only RENAME_EXCHANGE would be another change of names. */
static _Thread_local unsigned rename_flags;
static int real_rename2(int at, const char *a, int at2, const char *b)
{
    NEXT(renameat2)
    return next(at, a, at2, b, rename_flags);
}
int renameat2(int at, const char *a, int at2, const char *b, unsigned flags)
{
    rename_flags = flags;
    return named(POINT_RENAME, at, a, at2, b, real_rename2);
}
int link(const char *a, const char *b)
{
    return named(POINT_LINK, AT_FDCWD, a, AT_FDCWD, b, real_link);
}
int linkat(int at, const char *a, int at2, const char *b, int flags)
{
    (void)flags;
    return named(POINT_LINK, at, a, at2, b, real_link);
}
int unlink(const char *a)
{
    return named(POINT_UNLINK, AT_FDCWD, a, AT_FDCWD, NULL, real_unlink);
}
int unlinkat(int at, const char *a, int flags)
{
    return flags & AT_REMOVEDIR ? named(POINT_RMDIR, at, a, at, NULL, real_rmdir)
                                : named(POINT_UNLINK, at, a, at, NULL, real_unlink);
}
int rmdir(const char *a)
{
    return named(POINT_RMDIR, AT_FDCWD, a, AT_FDCWD, NULL, real_rmdir);
}
int mkdir(const char *a, mode_t mode)
{
    mkdir_mode = mode;
    return named(POINT_MKDIR, AT_FDCWD, a, AT_FDCWD, NULL, real_mkdir);
}
int mkdirat(int at, const char *a, mode_t mode)
{
    mkdir_mode = mode;
    return named(POINT_MKDIR, at, a, at, NULL, real_mkdir);
}
