#include "state/serving.h"

#include "base/span.h"
#include "state/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MODE = 0600, LINE_MAX_BYTES = SERVING_URL_MAX + 64 };
#define BRIEF "run"
#define LASTING "serve"

static pd_err cannot_open(void)
{
    return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
}

/* The lock is there before the name is: nobody sees the one without the other. */
static pd_err write_file(int fd, const struct serving *s, const char *from, const char *to)
{
    char line[LINE_MAX_BYTES];
    int n = snprintf(line, sizeof(line), "%s %llu %s\n", s->url, (unsigned long long)s->pid,
                     s->brief ? BRIEF : LASTING);
    if (n <= 0 || (size_t)n >= sizeof(line))
        return PD_TOOBIG;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || ftruncate(fd, 0) != 0 || write(fd, line, (size_t)n) != n)
        return PD_IO;
    return rename(from, to) == 0 ? PD_OK : PD_IO;
}

pd_err serving_write(const char *folder, const struct serving *s, int *ret_fd)
{
    char beside[FOLDER_PATH_MAX], path[FOLDER_PATH_MAX], name[40];
    snprintf(name, sizeof(name), "serving.%llu", (unsigned long long)s->pid);
    pd_err e = folder_path(folder, name, beside);
    if (!e)
        e = folder_path(folder, "serving", path);
    if (e)
        return e;
    int fd = open(beside, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return cannot_open();
    e = write_file(fd, s, beside, path);
    if (e) {
        int why = errno;
        (void)unlink(beside);
        close(fd);
        errno = why;
        return e;
    }
    *ret_fd = fd;
    return PD_OK;
}

void serving_end(const char *folder, int fd)
{
    char path[FOLDER_PATH_MAX];
    struct stat ours, there;
    if (fd < 0)
        return;
    if (folder_path(folder, "serving", path) == PD_OK && fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
        ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
        (void)unlink(path);
    close(fd);
}

static pd_err read_line(int fd, struct serving *ret)
{
    char line[LINE_MAX_BYTES];
    ssize_t n = read(fd, line, sizeof(line));
    if (n <= 0 || line[n - 1] != '\n')
        return PD_NOTFOUND;
    struct span rest = span_of(line, (size_t)n - 1), url = span_cut(&rest, ' '), pid = span_cut(&rest, ' ');
    if (!url.n || url.n >= sizeof(ret->url) || !span_u64(pid, &ret->pid))
        return PD_NOTFOUND;
    snprintf(ret->url, sizeof(ret->url), "%.*s", SPAN_FMT(url));
    ret->brief = span_is(rest, BRIEF);
    return PD_OK;
}

/* Its writer's lock is what keeps ours away. */
pd_err serving_read(const char *folder, struct serving *ret)
{
    char path[FOLDER_PATH_MAX];
    pd_err e = folder_path(folder, "serving", path);
    if (e)
        return e;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return cannot_open() == PD_NOFD ? PD_NOFD : PD_NOTFOUND;
    bool lives = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    e = lives ? read_line(fd, ret) : PD_NOTFOUND;
    close(fd);
    return e;
}
