/* A disk that is full, fails, writes half or does not sync, at every single moment: what was told done is there, what was told failed is not there in
 * part, and when the disk works again so does the database. */
#include "db_jobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char folder[64];

/* ---- the disk: these stand in SQLite's way ---- */

enum kind { WRITES, HALF_WRITES, SYNCS, READS, TRUNCATIONS, OPENS };
static struct {
    enum kind kind;
    int no;       /* errno */
    bool forever; /* from the chosen moment on; else only there */
    _Atomic unsigned at, seen, struck;
    atomic_bool armed;
} disk;

static bool ours(int fd)
{
    char link[40], path[200];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    return strncmp(path, folder, strlen(folder)) == 0;
}

static bool strikes(enum kind kind, bool is_ours)
{
    if (!atomic_load(&disk.armed) || disk.kind != kind || !is_ours)
        return false;
    unsigned now = atomic_fetch_add(&disk.seen, 1) + 1;
    if (now != disk.at && !(disk.forever && now > disk.at))
        return false;
    atomic_fetch_add(&disk.struck, 1);
    errno = disk.no;
    return true;
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    if (strikes(WRITES, ours(fd)))
        return -1;
    if (n > 1 && strikes(HALF_WRITES, ours(fd))) {
        syscall(SYS_pwrite64, fd, p, n / 2, at); /* and the rest finds no room */
        errno = disk.no;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t pread64(int fd, void *p, size_t n, off64_t at)
{
    return strikes(READS, ours(fd)) ? -1 : syscall(SYS_pread64, fd, p, n, at);
}

int fdatasync(int fd)
{
    return strikes(SYNCS, ours(fd)) ? -1 : 0; /* nobody pulls the plug here */
}

int ftruncate64(int fd, off64_t n)
{
    return strikes(TRUNCATIONS, ours(fd)) ? -1 : (int)syscall(SYS_ftruncate, fd, n);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    bool is_ours = strncmp(path, folder, strlen(folder)) == 0;
    return strikes(OPENS, is_ours) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* ---- the work ---- */

enum { JOBS = 12, GROUP = 5, LARGE = 20000 };
struct work {
    struct db *d;
    struct loop *loop;
    unsigned left;
    pd_err opening;
    struct pair {
        struct work *work;
        struct db_job job;
        int64_t i;
        pd_err told;
    } pairs[JOBS];
};

/* Two rows, or none. */
static pd_err insert_pair(struct tx *t, void *ctx)
{
    static char bytes[LARGE];
    struct pair *p = ctx;
    struct span s = span_of(bytes, p->i % 5 == 0 ? LARGE : 1500);
    pd_err e = TX_RUN(t, "INSERT INTO t (id, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING", NULL, NULL,
                      DB_I(2 * p->i), DB_B(s));
    return e ? e
             : TX_RUN(t, "INSERT INTO t (id, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING", NULL, NULL,
                      DB_I(2 * p->i + 1), DB_B(s));
}

static void on_pair(void *ctx, pd_err err)
{
    struct pair *p = ctx;
    p->told = err;
    if (--p->work->left == 0)
        loop_stop(p->work->loop);
}

static struct db_rules small_steps(void)
{
    struct db_rules r;
    db_rules_default(&r);
    r.wal_pages = 10;
    r.only_to = 1; /* the tables of all rooms would make it long */
    return r;
}

/* Some one by one, some that wait together. */
static void do_jobs(struct work *w)
{
    struct gate g;
    struct db_queue *q = db_queue_new(w->d, w->loop);
    for (int i = 0; i < JOBS; i++) {
        struct pair *p = &w->pairs[i];
        p->work = w;
        p->i = i;
        p->job = (struct db_job){.fn = insert_pair, .done = on_pair, .ctx = p};
        if (i < JOBS - GROUP)
            p->told = db_do(w->d, insert_pair, p);
    }
    hold(w->d, &g);
    for (int i = JOBS - GROUP; i < JOBS; i++, w->left++)
        assert_int_equal(db_submit(q, &w->pairs[i].job), PD_OK);
    sem_post(
        &g.out); /* what it was told does not matter: it wrote nothing, but the checkpoint behind it may have failed */
    pthread_join(g.thread, NULL);
    loop_run(w->loop);
    db_queue_free(q);
}

static pd_err count_pair(struct tx *t, void *ctx)
{
    struct pair *p = ctx;
    return TX_RUN(t, "SELECT COUNT(*) FROM t WHERE id IN ($1, $2)", take_number, &p->i, DB_I(2 * p->i),
                  DB_I(2 * p->i + 1));
}

static void check(struct work *w, struct db *d)
{
    for (int i = 0; i < JOBS; i++) {
        struct pair p = {.i = i};
        assert_int_equal(db_do(d, count_pair, &p), PD_OK);
        if (w->pairs[i].told == PD_OK)
            assert_int_equal(p.i, 2);
        else
            assert_true(p.i == 0 || p.i == 2);
    }
}

static void empty_folder(void)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

static void as_expected(pd_err e)
{
    bool ok = !e || (disk.kind == OPENS  ? e == PD_IO || e == PD_NOSPACE || e == PD_NOFD
                     : disk.no == ENOSPC ? e == PD_NOSPACE || (disk.kind == SYNCS && e == PD_IO)
                                         : e == PD_IO);
    if (!ok)
        fprintf(stderr, "kind %d errno %d at %u: %s (%s)\n", disk.kind, disk.no, disk.at, pd_err_name(e), why);
    assert_true(ok);
}

/* From nothing to nothing, with the disk failing at one moment. False: there was no such moment. */
static bool live_through(unsigned at, bool until_closed)
{
    struct db_rules r = small_steps();
    struct work w = {.loop = loop_new()};
    empty_folder();
    disk.at = at;
    disk.seen = disk.struck = 0;
    atomic_store(&disk.armed, true);
    pd_err e = try_open(&r, &w.d);
    as_expected(e);
    if (e) {
        assert_true(why[0]);
        atomic_store(&disk.armed, false);
        w.d = open_with(&r);
        until_closed = false;
    }
    e = db_do(w.d, make_table, NULL);
    as_expected(e);
    if (e) {
        atomic_store(&disk.armed, false);
        assert_int_equal(db_do(w.d, make_table, NULL), PD_OK);
    }
    do_jobs(&w);
    for (int i = 0; i < JOBS; i++)
        as_expected(w.pairs[i].told);
    struct pair later = {.i = 1000};
    if (!until_closed) { /* there is room again */
        atomic_store(&disk.armed, false);
        assert_int_equal(db_do(w.d, insert_pair, &later), PD_OK);
        check(&w, w.d);
    }
    db_close(w.d);
    bool struck = disk.struck > 0;
    atomic_store(&disk.armed, false);
    w.d = open_with(&r); /* and finds nothing damaged */
    check(&w, w.d);
    assert_int_equal(db_do(w.d, insert_pair, &later), PD_OK);
    db_close(w.d);
    loop_free(w.loop);
    return struck;
}

static const struct fault {
    const char *name;
    enum kind kind;
    int no;
    bool forever;
    unsigned least; /* moments */
} faults[] = {
    {"a write finds the disk full, once", WRITES, ENOSPC, false, 100},
    {"the disk is full from here on", WRITES, ENOSPC, true, 100},
    {"a write fails, once", WRITES, EIO, false, 100},
    {"writes fail from here on", WRITES, EIO, true, 100},
    {"half of a write is written, then the disk is full", HALF_WRITES, ENOSPC, true, 100},
    {"half of a write is written, once", HALF_WRITES, EIO, false, 100},
    {"a sync fails, once", SYNCS, EIO, false, 20},
    {"syncs fail from here on", SYNCS, EIO, true, 20},
    {"a sync finds the disk full", SYNCS, ENOSPC, false, 20},
    {"a read fails, once", READS, EIO, false, 3},
    {"a truncation fails", TRUNCATIONS, EIO, true, 1},
    {"a file cannot be opened, once", OPENS, EACCES, false, 4},
    {"no descriptor is left, once", OPENS, EMFILE, false, 4},
};

static void nothing_told_is_lost_whenever_the_disk_fails(void **state)
{
    (void)state;
    unsigned all = 0;
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        unsigned at = 1;
        disk.kind = faults[i].kind;
        disk.no = faults[i].no;
        disk.forever = faults[i].forever;
        while (live_through(at, at % 2 == 0))
            at++;
        printf("           %4u moments: %s\n", at - 1, faults[i].name);
        assert_true(at - 1 >= faults[i].least);
        all += at - 1;
    }
    printf("           %4u in all\n", all);
}

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_db_disk.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    empty_folder();
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_told_is_lost_whenever_the_disk_fails, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
