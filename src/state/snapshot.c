#include "state/snapshot.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "state/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SNAPSHOT_MODE = 0600, HEAD_BYTES = 64, LOG_EVERY_MS = 60 * 1000 };

/* ---- one document --------------------------------------------------------------------- */

static pd_err io_error(void)
{
    return errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
}

static bool write_all(int fd, struct span s)
{
    while (s.n) {
        ssize_t took = write(fd, s.p, s.n);
        if (took < 0 && errno == EINTR)
            continue;
        if (took <= 0) {
            errno = took < 0 ? errno : ENOSPC;
            return false;
        }
        s = span_from(s, (size_t)took);
    }
    return true;
}

static pd_err write_beside(const char *path, struct span document)
{
    char head[HEAD_BYTES];
    int n = snprintf(head, sizeof(head), "perdure 1 %zu %016" PRIx64 "\n", document.n,
                     hash_bytes(span_of(document.p ? document.p : "", document.n), 0));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, SNAPSHOT_MODE);
    if (fd < 0)
        return io_error();
    bool ok = write_all(fd, span_of(head, (size_t)n)) && write_all(fd, document) && fsync(fd) == 0;
    int why = errno;
    close(fd);
    errno = why;
    return ok ? PD_OK : PD_IO;
}

pd_err snapshot_write(const char *folder, const char *name, struct span document)
{
    char path[FOLDER_PATH_MAX], beside[FOLDER_PATH_MAX], other[256];
    if (snprintf(other, sizeof(other), "%s.%u.new", name, (unsigned)getpid()) >= (int)sizeof(other))
        return PD_TOOBIG;
    pd_err e = folder_make(folder);
    if (!e)
        e = folder_path(folder, name, path);
    if (!e)
        e = folder_path(folder, other, beside);
    if (!e)
        e = write_beside(beside, document);
    if (!e && rename(beside, path) != 0)
        e = PD_IO;
    if (!e)
        return folder_sync(folder);
    int why = errno;
    (void)unlink(beside);
    errno = why;
    return e;
}

/* "NAME.PID.new" */
static bool is_beside(const char *file, const char *name)
{
    uint64_t pid;
    struct span s = span_str(file);
    if (!span_starts(s, name))
        return false;
    s = span_from(s, strlen(name));
    if (!span_starts(s, "."))
        return false;
    s = span_from(s, 1);
    return span_ends(s, ".new") && span_u64(span_upto(s, s.n - strlen(".new")), &pid);
}

void snapshot_sweep(const char *folder, const char *name)
{
    struct dirent *e;
    DIR *d = opendir(folder);
    while (d && (e = readdir(d)))
        if (is_beside(e->d_name, name))
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

static pd_err read_file(int fd, struct buf *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return PD_IO;
    if (st.st_size > (off_t)SNAPSHOT_MAX + HEAD_BYTES)
        return PD_TOOBIG;
    for (;;) {
        pd_err e = buf_reserve(out, (size_t)st.st_size - buf_size(out) + 1);
        if (e)
            return e;
        ssize_t got = read(fd, out->p + out->tail, (size_t)st.st_size - buf_size(out) + 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return PD_IO;
        buf_added(out, (size_t)got);
        if (got == 0 || buf_size(out) > (size_t)st.st_size)
            return PD_OK;
    }
}

/* The document is what is behind the first line, when that line is right about it. */
static pd_err prove(struct buf *b)
{
    char head[HEAD_BYTES], want[HEAD_BYTES];
    struct span all = buf_span(b);
    const char *end = memchr(all.p, '\n', all.n < HEAD_BYTES - 1 ? all.n : HEAD_BYTES - 1);
    if (!end)
        return PD_SYNTAX;
    size_t n = (size_t)(end - all.p) + 1;
    struct span document = span_from(all, n);
    memcpy(head, all.p, n);
    head[n] = '\0';
    snprintf(want, sizeof(want), "perdure 1 %zu %016" PRIx64 "\n", document.n, hash_bytes(document, 0));
    if (strcmp(head, want) != 0)
        return PD_SYNTAX;
    buf_take(b, n);
    return PD_OK;
}

pd_err snapshot_read(const char *folder, const char *name, struct buf *ret)
{
    char path[FOLDER_PATH_MAX];
    pd_err e = folder_path(folder, name, path);
    if (e)
        return e;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? PD_NOTFOUND : io_error();
    buf_clear(ret);
    e = read_file(fd, ret);
    close(fd);
    if (!e)
        e = prove(ret);
    if (e)
        buf_clear(ret);
    return e;
}

/* ---- again and again --------------------------------------------------------------------- */

struct saver {
    struct loop *loop;
    struct timer timer;
    char *folder, *name;
    snapshot_fn *fn;
    void *ctx;
    struct buf fresh;   /* being written, while `busy` */
    uint64_t saved;     /* hash of what is on the disk */
    uint64_t writing;   /* of what is being written */
    uint64_t logged_ms; /* 0: no trouble yet */
    pd_err result;
    int why;
    bool busy, ending, has_saved;
};

static void work(void *ctx)
{
    struct saver *s = ctx;
    s->result = snapshot_write(s->folder, s->name, buf_span(&s->fresh));
    s->why = errno;
}

static void free_saver(struct saver *s)
{
    buf_done(&s->fresh);
    mem_free(s->folder);
    mem_free(s->name);
    mem_free(s);
}

static void ended(struct saver *s)
{
    if (!s->result) {
        s->saved = s->writing;
        s->has_saved = true;
        return;
    }
    uint64_t now = clock_mono_ms();
    if (s->logged_ms && now - s->logged_ms < LOG_EVERY_MS)
        return;
    s->logged_ms = now;
    LOG(NULL, LOG_WARN, "snapshot.failed",
        "name=%s folder=\"%s\" why=\"%s\" remedy=\"see to the disk; it is tried again\"", s->name, s->folder,
        s->result == PD_IO ? strerror(s->why) : pd_err_text(s->result));
}

static void done(void *ctx)
{
    struct saver *s = ctx;
    s->busy = false;
    ended(s);
    buf_clear(&s->fresh);
    timer_arm(s->loop, &s->timer, loop_now_ms(s->loop) + SNAPSHOT_EVERY_MS);
    if (s->ending)
        loop_stop(s->loop); /* saver_free() waits */
}

/* True: there is something new to write. */
static bool fill(struct saver *s)
{
    buf_clear(&s->fresh);
    if (s->fn(s->ctx, &s->fresh))
        return false;
    s->writing = hash_bytes(buf_span(&s->fresh), 0);
    return !s->has_saved || s->writing != s->saved;
}

static void on_timer(void *ctx)
{
    struct saver *s = ctx;
    if (fill(s) && loop_offload(s->loop, work, done, s) == PD_OK)
        s->busy = true;
    else
        timer_arm(s->loop, &s->timer, loop_now_ms(s->loop) + SNAPSHOT_EVERY_MS);
}

struct saver *saver_new(struct loop *l, const char *folder, const char *name, snapshot_fn *fn, void *ctx)
{
    struct saver *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    *s = (struct saver){.loop = l, .fn = fn, .ctx = ctx, .folder = mem_strdup(folder), .name = mem_strdup(name)};
    buf_init(&s->fresh, SNAPSHOT_MAX);
    if (!s->folder || !s->name) {
        free_saver(s);
        return NULL;
    }
    timer_init(&s->timer, on_timer, s);
    timer_arm(l, &s->timer, loop_now_ms(l) + SNAPSHOT_EVERY_MS);
    return s;
}

struct saver *saver_free(struct saver *s)
{
    if (!s)
        return NULL;
    s->ending = true;
    while (s->busy) /* the loop may have been told to stop by others, and end at once */
        loop_run(s->loop);
    timer_stop(s->loop, &s->timer);
    if (fill(s)) {
        work(s);
        ended(s);
    }
    free_saver(s);
    return NULL;
}
