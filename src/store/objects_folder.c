#include "base/clock.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "state/folder.h"
#include "store/objects_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif

enum {
    FOLDER_MODE = 0700,
    FILE_MODE = 0600,
    HASH_BYTES = 32,
    LEFT_MS = 60 * 60 * 1000, /* what is in .new for so long belongs to nobody any more */
    READ_BYTES_MOST = 8 << 20,
};

#define HASH_ATTRIBUTE "user.perdure.sha256"

struct folder {
    struct objects o; /* o.where is its path */
};

/* ---- errors and descriptors -------------------------------------------------------------- */

static pd_err code_of(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return PD_NOSPACE;
    case EMFILE:
    case ENFILE:
        return PD_NOFD;
    case ENOMEM:
        return PD_NOMEM;
    default:
        return PD_IO;
    }
}

static pd_err fail_errno(struct objects *o, const char *key, const char *what)
{
    int error = errno;
    return objects_fail(code_of(error), "%s/%s: %s failed: %s", o->where, key, what, strerror(error));
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static int open_again(int at, const char *name, int flags)
{
    int fd;
    do
        fd = openat(at, name, flags | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Of its own, which no program has that another thread starts meanwhile. */
static int dup_fd(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int open_folder(int at, const char *name)
{
    return open_again(at, name, O_RDONLY | O_DIRECTORY);
}

static bool sync_fd(int fd)
{
    int failed;
    do
        failed = fsync(fd);
    while (failed && errno == EINTR);
    return !failed;
}

/* Opened anew each time: a folder that was moved away and put back is found again. It is not made again: what is missing may be a
 * disk that is not there. */
static pd_err open_root(struct objects *o, int *ret)
{
    int fd;
    do
        fd = open(o->where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return fail_errno(o, "", "opening the folder");
    *ret = fd;
    return PD_OK;
}

/* ---- the way to a key -------------------------------------------------------------------- */

enum way { WAY_LOOK, WAY_MAKE, WAY_SYNC };

/* Opens the folder that `key` is in, part by part, so that no link leads out of the root. PD_NOTFOUND: a part of the way is not there. */
static pd_err walk(struct objects *o, int root, const char *key, enum way way, int *ret, const char **ret_leaf)
{
    int at = dup_fd(root);
    if (at < 0)
        return fail_errno(o, key, "opening its folder");
    const char *part = key, *slash;
    for (; (slash = strchr(part, '/')) != NULL; part = slash + 1) {
        char name[OBJECT_NAME_MAX + 1];
        memcpy(name, part, (size_t)(slash - part));
        name[slash - part] = '\0';
        if (way == WAY_SYNC && !sync_fd(at))
            break;
        if (way == WAY_MAKE && mkdirat(at, name, FOLDER_MODE) != 0 && errno != EEXIST)
            break;
        int next = open_folder(at, name);
        if (next < 0)
            break;
        close(at);
        at = next;
    }
    if (!slash && (way != WAY_SYNC || sync_fd(at))) {
        *ret = at;
        *ret_leaf = part;
        return PD_OK;
    }
    pd_err e;
    if (errno == ENOENT && way != WAY_MAKE)
        e = objects_fail(PD_NOTFOUND, "%s/%s: there is no such object", o->where, key);
    else if (errno == ENOTDIR)
        e = objects_fail(PD_INVALID, "%s/%s: a part of its way is an object, or a link", o->where, key);
    else
        e = fail_errno(o, key, way == WAY_MAKE ? "making its folder" : "opening its folder");
    close(at);
    return e;
}

/* From the root down, every time: whoever made a folder may not have come to its fsync. Of what is on the disk already it costs nothing. */
static pd_err sync_way(struct objects *o, int root, const char *key)
{
    PD_CLEANUP(close_fd) int at = -1;
    const char *leaf = key;
    return walk(o, root, key, WAY_SYNC, &at, &leaf);
}

static void etag_of(const struct stat *st, char ret[OBJECT_ETAG_BYTES])
{
    snprintf(ret, OBJECT_ETAG_BYTES, "%llx-%llx-%llx", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_mtim.tv_sec * 1000000000ull + (unsigned long long)st->st_mtim.tv_nsec,
             (unsigned long long)st->st_size);
}

/* One at a time may look and then publish, of all processes. *ret is closed to let go. */
static pd_err take_turn(struct objects *o, int root, int *ret)
{
    int fd = open_again(root, ".lock", O_RDWR | O_CREAT), failed;
    if (fd < 0)
        return fail_errno(o, ".lock", "opening");
    do
        failed = flock(fd, LOCK_EX);
    while (failed && errno == EINTR);
    if (failed && errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS) {
        pd_err e = fail_errno(o, ".lock", "locking");
        close(fd);
        return e;
    }
    if (failed)
        atomic_store(&o->note,
                     "the file system of the objects' folder has no locks: let one process alone write there");
    *ret = fd;
    return PD_OK;
}

/* ---- the checksum ------------------------------------------------------------------------ */

static bool hash_of(struct span bytes, unsigned char ret[HASH_BYTES])
{
    return EVP_Digest(bytes.n ? bytes.p : "", bytes.n, ret, NULL, EVP_sha256(), NULL) == 1;
}

/* With the file, so that it comes and goes with it. A file system without attributes does without. */
static pd_err keep_hash(struct objects *o, int fd, const char *key, struct span bytes)
{
    unsigned char hash[HASH_BYTES];
    if (!hash_of(bytes, hash))
        return objects_fail(PD_NOMEM, "%s: out of memory", key);
#ifdef __linux__
    if (fsetxattr(fd, HASH_ATTRIBUTE, hash, sizeof(hash), 0) != 0 && errno != EOPNOTSUPP && errno != EPERM)
        return fail_errno(o, key, "writing its checksum");
#endif
    return PD_OK;
}

static pd_err check_hash(struct objects *o, int fd, const char *key, struct span bytes)
{
#ifdef __linux__
    unsigned char hash[HASH_BYTES], kept[HASH_BYTES];
    if (fgetxattr(fd, HASH_ATTRIBUTE, kept, sizeof(kept)) != sizeof(kept))
        return PD_OK;
    if (!hash_of(bytes, hash))
        return objects_fail(PD_NOMEM, "%s: out of memory", key);
    if (memcmp(hash, kept, sizeof(hash)) != 0)
        return objects_fail(PD_INVALID, "%s/%s: damaged: its bytes are not those that were written", o->where,
                            key);
#endif
    return PD_OK;
}

/* ---- put --------------------------------------------------------------------------------- */

static bool write_all(int fd, struct span bytes)
{
    while (bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return false;
        bytes = span_from(bytes, (size_t)n);
    }
    return true;
}

static int open_new(int root)
{
    int fd = open_folder(root, ".new");
    if (fd < 0 && errno == ENOENT && (mkdirat(root, ".new", FOLDER_MODE) == 0 || errno == EEXIST))
        fd = open_folder(root, ".new");
    return fd;
}

/* The bytes on the disk, under a name of their own. On failure nothing is left. */
static pd_err write_new(struct objects *o, int new_fd, const char *key, struct span bytes, char name[24],
                        char ret_etag[OBJECT_ETAG_BYTES])
{
    struct rnd r = {rnd_seed()};
    snprintf(name, 24, "%016llx", (unsigned long long)rnd_next(&r));
    PD_CLEANUP(close_fd) int fd = open_again(new_fd, name, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return fail_errno(o, key, "making a file");
    struct stat st = {.st_size = 0};
    pd_err e = PD_OK;
    if (!write_all(fd, bytes))
        e = fail_errno(o, key, "writing");
    if (!e)
        e = keep_hash(o, fd, key, bytes);
    if (!e && (!sync_fd(fd) || fstat(fd, &st) != 0))
        e = fail_errno(o, key, "writing it to the disk");
    if (e)
        unlinkat(new_fd, name, 0);
    else
        etag_of(&st, ret_etag);
    return e;
}

static pd_err may_publish(struct objects *o, int at, const char *leaf, const char *key, enum object_when when,
                          const char *etag)
{
    struct stat st;
    char now[OBJECT_ETAG_BYTES] = "";
    if (fstatat(at, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISREG(st.st_mode))
            return objects_fail(PD_INVALID, "%s/%s: there is something that is no object", o->where, key);
        etag_of(&st, now);
    } else if (errno != ENOENT) {
        return fail_errno(o, key, "looking at it");
    }
    if (when == OBJECT_IF_NEW && now[0])
        return objects_fail(PD_EXISTS, "%s/%s: it is there already", o->where, key);
    if (when == OBJECT_IF_SAME && strcmp(now, etag) != 0)
        return objects_fail(PD_EXISTS, "%s/%s: it is another one by now", o->where, key);
    return PD_OK;
}

/* A link is refused where the name is taken, whoever took it; some file systems have none. */
static bool publish(int new_fd, const char *name, int at, const char *leaf, enum object_when when)
{
    if (when == OBJECT_IF_NEW) {
        if (linkat(new_fd, name, at, leaf, 0) == 0)
            return true; /* its first name is taken away by the caller */
        if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
            return false;
    }
    return renameat(new_fd, name, at, leaf) == 0;
}

static pd_err put_in_place(struct objects *o, int root, int new_fd, const char *name, const char *key,
                           enum object_when when, const char *etag)
{
    PD_CLEANUP(close_fd) int turn = -1;
    PD_CLEANUP(close_fd) int at = -1;
    const char *leaf = key;
    pd_err e = take_turn(o, root, &turn);
    if (!e)
        e = walk(o, root, key, WAY_MAKE, &at, &leaf);
    if (!e)
        e = may_publish(o, at, leaf, key, when, etag);
    if (!e && !publish(new_fd, name, at, leaf, when))
        e = errno == EEXIST ? objects_fail(PD_EXISTS, "%s/%s: it is there already", o->where, key)
                            : fail_errno(o, key, "giving it its name");
    return e;
}

static pd_err folder_put(struct objects *o, const char *key, struct span bytes, enum object_when when,
                         const char *etag, char ret_etag[OBJECT_ETAG_BYTES])
{
    PD_CLEANUP(close_fd) int root = -1;
    PD_CLEANUP(close_fd) int new_fd = -1;
    char name[24];
    pd_err e = open_root(o, &root);
    if (e)
        return e;
    new_fd = open_new(root);
    if (new_fd < 0)
        return fail_errno(o, ".new", "making the folder");
    e = write_new(o, new_fd, key, bytes, name, ret_etag);
    if (e)
        return e;
    e = put_in_place(o, root, new_fd, name, key, when, etag);
    unlinkat(new_fd, name, 0); /* not there any more when it was renamed */
    return e ? e : sync_way(o, root, key);
}

/* ---- get, delete ------------------------------------------------------------------------- */

static pd_err read_all(struct objects *o, int fd, const char *key, size_t bytes, struct buf *out)
{
    size_t read_bytes = 0;
    pd_err e = buf_reserve(out, bytes + 1);
    if (e == PD_TOOBIG && out->limit_bytes)
        e = buf_reserve(out, bytes);
    if (e)
        return objects_fail(e, "%s: %s", key, pd_err_text(e));
    while (read_bytes < bytes) {
        size_t want = bytes - read_bytes;
        ssize_t n = read(fd, out->p + out->tail, want < READ_BYTES_MOST ? want : READ_BYTES_MOST);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(o, key, "reading");
        if (n == 0)
            return objects_fail(PD_INVALID, "%s/%s: damaged: it ended before its end", o->where, key);
        buf_added(out, (size_t)n);
        read_bytes += (size_t)n;
    }
    return PD_OK;
}

static pd_err open_object(struct objects *o, const char *key, int *ret, struct stat *st)
{
    PD_CLEANUP(close_fd) int root = -1;
    PD_CLEANUP(close_fd) int at = -1;
    const char *leaf = key;
    pd_err e = open_root(o, &root);
    if (!e)
        e = walk(o, root, key, WAY_LOOK, &at, &leaf);
    if (e == PD_INVALID) /* a part of its way is an object: then there is none of this name */
        e = objects_fail(PD_NOTFOUND, "%s/%s: there is no such object", o->where, key);
    if (e)
        return e;
    int fd = open_again(at, leaf, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP
                   ? objects_fail(PD_NOTFOUND, "%s/%s: there is no such object", o->where, key)
                   : fail_errno(o, key, "opening");
    if (fstat(fd, st) != 0)
        e = fail_errno(o, key, "looking at it");
    else if (!S_ISREG(st->st_mode))
        e = objects_fail(PD_NOTFOUND, "%s/%s: there is no such object", o->where, key);
    else if (st->st_size > OBJECT_BYTES_MAX)
        e = objects_fail(PD_TOOBIG, "%s/%s: larger than an object may be", o->where, key);
    if (e)
        close(fd);
    else
        *ret = fd;
    return e;
}

static pd_err folder_get(struct objects *o, const char *key, struct buf *out, char ret_etag[OBJECT_ETAG_BYTES])
{
    PD_CLEANUP(close_fd) int fd = -1;
    struct stat st = {.st_size = 0};
    pd_err e = open_object(o, key, &fd, &st);
    size_t before = buf_size(out);
    if (!e)
        e = read_all(o, fd, key, (size_t)st.st_size, out);
    if (!e)
        e = check_hash(o, fd, key, span_from(buf_span(out), before));
    if (!e)
        etag_of(&st, ret_etag);
    return e;
}

/* Folders that it leaves empty stay: another process may be about to write there. */
static pd_err folder_delete(struct objects *o, const char *key)
{
    PD_CLEANUP(close_fd) int root = -1;
    PD_CLEANUP(close_fd) int turn = -1;
    PD_CLEANUP(close_fd) int at = -1;
    const char *leaf = key;
    pd_err e = open_root(o, &root);
    if (!e)
        e = take_turn(o, root, &turn);
    if (!e)
        e = walk(o, root, key, WAY_LOOK, &at, &leaf);
    if (e == PD_NOTFOUND || e == PD_INVALID)
        return PD_OK;
    if (e)
        return e;
    struct stat st;
    if (fstatat(at, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
        return PD_OK;
    if (unlinkat(at, leaf, 0) != 0 && errno != ENOENT)
        return fail_errno(o, key, "deleting");
    return sync_fd(at) ? PD_OK : fail_errno(o, key, "deleting it from the disk");
}

/* ---- list -------------------------------------------------------------------------------- */

struct lister {
    struct objects *o;
    struct span prefix;
    object_fn *fn;
    void *ctx;
    struct object_info info; /* info.key is the way to where it is now */
};

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Is it, or may what is in it be, what is asked for? */
static bool wanted(struct span way, bool folder, struct span prefix)
{
    if (way.n < prefix.n)
        return folder && memcmp(way.p, prefix.p, way.n) == 0;
    return memcmp(way.p, prefix.p, prefix.n) == 0;
}

/* The names in a folder, each with a NUL, those of folders with '/' at their ends: so they are in the order of the keys. */
static pd_err read_names(struct lister *l, int fd, size_t n, struct buf *names, size_t *ret_count)
{
    int own = dup_fd(fd);
    DIR *d = own >= 0 ? fdopendir(own) : NULL;
    if (!d) {
        pd_err e = fail_errno(l->o, l->info.key, "reading the folder");
        close_fd(&own);
        return e;
    }
    pd_err e = PD_OK;
    struct dirent *entry;
    while (!e && (errno = 0, entry = readdir(d)) != NULL) {
        struct stat st;
        char name[OBJECT_NAME_MAX + 2], way[OBJECT_KEY_MAX + OBJECT_NAME_MAX + 3];
        bool folder = entry->d_type == DT_DIR;
        if ((n == 0 && entry->d_name[0] == '.') || strlen(entry->d_name) > OBJECT_NAME_MAX)
            continue;
        if (entry->d_type == DT_UNKNOWN && fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            folder = S_ISDIR(st.st_mode);
        snprintf(name, sizeof(name), "%s%s", entry->d_name, folder ? "/" : "");
        int way_n = snprintf(way, sizeof(way), "%.*s%s", (int)n, l->info.key, name);
        struct span key = span_of(way, (size_t)way_n - folder);
        if (!object_key_fits(key) || !wanted(span_str(way), folder, l->prefix))
            continue;
        e = buf_add(names, span_of(name, strlen(name) + 1));
        *ret_count += 1;
    }
    if (!e && errno)
        e = fail_errno(l->o, l->info.key, "reading the folder");
    else if (e)
        e = objects_fail(e, "listing: %s", pd_err_text(e));
    closedir(d);
    return e;
}

static pd_err sorted_names(struct buf *names, size_t count, const char ***ret)
{
    const char **sorted = mem_calloc(count ? count : 1, sizeof(*sorted));
    if (!sorted)
        return objects_fail(PD_NOMEM, "listing: out of memory");
    const char *at = names->p ? names->p + names->head : "";
    for (size_t i = 0; i < count; i++) {
        sorted[i] = at;
        at += strlen(at) + 1;
    }
    qsort(sorted, count, sizeof(*sorted), name_order);
    *ret = sorted;
    return PD_OK;
}

static pd_err tell(struct lister *l, int fd, const char *name)
{
    struct stat st;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? PD_OK : fail_errno(l->o, l->info.key, "looking at it");
    if (!S_ISREG(st.st_mode))
        return PD_OK;
    l->info.bytes = (uint64_t)st.st_size;
    l->info.modified_ms = (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
    etag_of(&st, l->info.etag);
    return l->fn(l->ctx, &l->info);
}

/* The first n bytes of info.key are the way to `fd`. As deep as a key has parts. */
static pd_err list_folder(struct lister *l, int fd, size_t n)
{
    struct buf names;
    buf_init(&names, 0);
    size_t count = 0;
    PD_CLEANUP(mem_freep) const char **sorted = NULL;
    pd_err e = read_names(l, fd, n, &names, &count);
    if (!e)
        e = sorted_names(&names, count, &sorted);
    for (size_t i = 0; sorted && i < count && !e; i++) {
        size_t name_n = strlen(sorted[i]);
        memcpy(l->info.key + n, sorted[i], name_n + 1); /* it is a key: it fits */
        if (!span_ends(span_str(sorted[i]), "/")) {
            e = tell(l, fd, sorted[i]);
            continue;
        }
        int inner = open_folder(fd, sorted[i]);
        if (inner < 0 && errno == ENOENT)
            continue;
        e = inner < 0 ? fail_errno(l->o, l->info.key, "opening the folder") : list_folder(l, inner, n + name_n);
        close_fd(&inner);
    }
    buf_done(&names);
    return e;
}

static pd_err folder_list(struct objects *o, const char *prefix, object_fn *fn, void *ctx)
{
    PD_CLEANUP(close_fd) int root = -1;
    struct lister *l = mem_zalloc(sizeof(*l));
    if (!l)
        return objects_fail(PD_NOMEM, "listing: out of memory");
    *l = (struct lister){.o = o, .prefix = span_str(prefix), .fn = fn, .ctx = ctx};
    pd_err e = open_root(o, &root);
    if (!e)
        e = list_folder(l, root, 0);
    mem_free(l);
    return e;
}

/* ---- open -------------------------------------------------------------------------------- */

/* What a process that died was writing. */
static void clean_new(int root)
{
    int fd = open_folder(root, ".new");
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        close_fd(&fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(d)) != NULL) {
        struct stat st;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            (uint64_t)st.st_mtim.tv_sec * 1000 + LEFT_MS < clock_wall_ms())
            unlinkat(fd, entry->d_name, 0);
    }
    closedir(d);
}

static pd_err folder_check(struct objects *o)
{
    PD_CLEANUP(close_fd) int root = -1;
    pd_err e = open_root(o, &root);
    if (!e && faccessat(root, ".", R_OK | W_OK | X_OK, 0) != 0)
        e = fail_errno(o, "", "writing there");
    return e;
}

static void folder_close(struct objects *o)
{
    mem_free(o);
}

static const struct objects_table folder_table = {
    .close = folder_close,
    .check = folder_check,
    .put = folder_put,
    .get = folder_get,
    .remove = folder_delete,
    .list = folder_list,
};

pd_err objects_folder_open(const char *folder, struct objects **ret, char *why, size_t why_bytes)
{
    PD_CLEANUP(close_fd) int root = -1;
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    if (n == 0 || n > OBJECTS_WHERE_MAX) {
        snprintf(why, why_bytes, "the folder's name has %zu characters: 1 to %d are possible", n,
                 OBJECTS_WHERE_MAX);
        return PD_TOOBIG;
    }
    struct folder *f = mem_zalloc(sizeof(*f));
    if (!f) {
        snprintf(why, why_bytes, "out of memory");
        return PD_NOMEM;
    }
    f->o.table = &folder_table;
    memcpy(f->o.where, folder, n);
    pd_err e = folder_make(f->o.where);
    if (e)
        snprintf(why, why_bytes, "the folder %.200s: %s", f->o.where,
                 e == PD_IO ? strerror(errno) : pd_err_text(e));
    if (!e && (e = open_root(&f->o, &root)) != PD_OK)
        snprintf(why, why_bytes, "%s", objects_why());
    if (e) {
        mem_free(f);
        return e;
    }
    clean_new(root);
    *ret = &f->o;
    return PD_OK;
}
