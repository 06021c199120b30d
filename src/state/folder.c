#include "state/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDER_MODE = 0700, FILE_MODE = 0600 };

/* A name that was just made lasts once the folder it is in is synced. Where that cannot be, it is as good as it gets. */
static void keep_name(const char *path)
{
    char above[FOLDER_PATH_MAX + 4];
    snprintf(above, sizeof(above), "%s/..", path);
    (void)!folder_sync(above);
}

pd_err folder_make(const char *folder)
{
    char path[FOLDER_PATH_MAX];
    size_t n = strlen(folder);
    if (n == 0 || n >= sizeof(path))
        return PD_TOOBIG;
    memcpy(path, folder, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        path[i] = '\0';
        if (mkdir(path, FOLDER_MODE) == 0)
            keep_name(path);
        else if (errno != EEXIST && i == n)
            return PD_IO; /* one above it may be there without our being allowed to look: only the last one counts */
        path[i] = folder[i];
    }
    struct stat st;
    if (stat(folder, &st) != 0)
        return PD_IO;
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return PD_IO;
    }
    return access(folder, R_OK | W_OK | X_OK) == 0 ? PD_OK : PD_IO;
}

pd_err folder_path(const char *folder, const char *name, char *out)
{
    int n = snprintf(out, FOLDER_PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < FOLDER_PATH_MAX ? PD_OK : PD_TOOBIG;
}

pd_err folder_sync(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
    int failed = fsync(fd);
    close(fd);
    return failed ? PD_IO : PD_OK;
}

pd_err folder_hold(const char *folder, int *ret_fd)
{
    char path[FOLDER_PATH_MAX];
    pd_err e = folder_path(folder, "lock", path);
    if (e)
        return e;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        e = errno == EWOULDBLOCK ? PD_EXISTS : PD_IO;
        close(fd);
        return e;
    }
    *ret_fd = fd;
    return PD_OK;
}
