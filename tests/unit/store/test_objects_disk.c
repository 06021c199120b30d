#include "store/objects.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* What the disk is asked, wrapped by the linker: the nth call of one kind fails, for every n until none is reached. */
#define CALLS(X) \
    X(WRITE)     \
    X(FSYNC)     \
    X(RENAME)    \
    X(LINK)      \
    X(MKDIR)     \
    X(OPENAT)    \
    X(ATTRIBUTE) \
    X(READ)      \
    X(UNLINK)    \
    X(COUNT)
enum call {
#define X(name) name,
    CALLS(X)
#undef X
};

static struct {
    bool armed;
    enum call call;
    unsigned at, seen, happened;
    int error;  /* 0: half of it is written or read */
    bool again; /* from then on, each */
    unsigned syncs, order;
    unsigned synced_file, alone, named, synced_folder; /* when, by `order` */
} disk;

/* Descriptors that a program would have that another thread starts at this moment. */
static uint64_t inherited; /* a bit each */

static void look_at_descriptors(void)
{
    for (unsigned fd = 3; fd < 64; fd++) {
        int flags = fcntl((int)fd, F_GETFD);
        if (flags >= 0 && !(flags & FD_CLOEXEC))
            inherited |= (uint64_t)1 << fd;
    }
}

static bool fails(enum call c)
{
    look_at_descriptors();
    errno = 0;
    if (!disk.armed || disk.call != c)
        return false;
    disk.seen++;
    if (disk.seen != disk.at && !(disk.again && disk.seen > disk.at))
        return false;
    disk.happened++;
    errno = disk.error;
    return true;
}

#define WRAPPED(type, name, declared, given, call)     \
    type __real_##name declared;                       \
    type __wrap_##name declared;                       \
    type __wrap_##name declared                        \
    {                                                  \
        return fails(call) ? -1 : __real_##name given; \
    }

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (!fails(WRITE))
        return __real_write(fd, p, n);
    return disk.error ? -1 : __real_write(fd, p, n > 1 ? n / 2 : n);
}

ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n)
{
    if (!fails(READ))
        return __real_read(fd, p, n);
    return disk.error ? -1 : __real_read(fd, p, n > 1 ? n / 2 : n);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    struct stat st;
    if (fails(FSYNC))
        return -1;
    disk.syncs++;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        disk.synced_folder = ++disk.order;
    else
        disk.synced_file = ++disk.order;
    return __real_fsync(fd);
}

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
    if (operation == LOCK_EX)
        disk.alone = ++disk.order;
    return __real_flock(fd, operation);
}

int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new)
{
    disk.named = ++disk.order;
    return fails(RENAME) ? -1 : __real_renameat(from, old, to, new);
}

int __real_linkat(int from, const char *old, int to, const char *new, int flags);
int __wrap_linkat(int from, const char *old, int to, const char *new, int flags);
int __wrap_linkat(int from, const char *old, int to, const char *new, int flags)
{
    disk.named = ++disk.order;
    return fails(LINK) ? -1 : __real_linkat(from, old, to, new, flags);
}

WRAPPED(int, mkdirat, (int fd, const char *name, mode_t mode), (fd, name, mode), MKDIR)
WRAPPED(int, openat, (int fd, const char *name, int flags, mode_t mode), (fd, name, flags, mode), OPENAT)
WRAPPED(int, openat64, (int fd, const char *name, int flags, mode_t mode), (fd, name, flags, mode), OPENAT)
WRAPPED(int, fsetxattr, (int fd, const char *name, const void *p, size_t n, int flags), (fd, name, p, n, flags),
        ATTRIBUTE)
WRAPPED(int, unlinkat, (int fd, const char *name, int flags), (fd, name, flags), UNLINK)

/* ---- what is done ------------------------------------------------------------------------ */

static char folder[] = "/tmp/perdure-disk-XXXXXX";
static struct objects *o;
static unsigned fresh; /* a folder of its own for each, so that it has to be made */

static const char *none(void *ctx, const char *name)
{
    return NULL;
}

static struct span old_bytes = {"the old bytes", 13}, new_bytes = {"the new bytes, which are more", 29};

enum op { NEW, REPLACE, SAME, GET, DELETE, OP_COUNT };

static pd_err run(enum op op, const char *key, const char *etag)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = PD_OK;
    switch (op) {
    case NEW:
        e = objects_put(o, key, new_bytes, OBJECT_IF_NEW, NULL, NULL);
        break;
    case REPLACE:
        e = objects_put(o, key, new_bytes, OBJECT_ALWAYS, NULL, NULL);
        break;
    case SAME:
        e = objects_put(o, key, new_bytes, OBJECT_IF_SAME, etag, NULL);
        break;
    case GET:
        e = objects_get(o, key, &b, NULL);
        assert_true(e ? buf_size(&b) == 0 : span_eq(buf_span(&b), old_bytes));
        break;
    case DELETE:
        e = objects_delete(o, key);
        break;
    case OP_COUNT:
        break;
    }
    buf_done(&b);
    return e;
}

static unsigned left_in_new(void)
{
    char line[200];
    unsigned n = 99;
    snprintf(line, sizeof(line), "ls %s/.new | wc -l", folder);
    FILE *p = popen(line, "r");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%u", &n), 1);
    pclose(p);
    return n;
}

static void clean_new(void)
{
    char line[200];
    snprintf(line, sizeof(line), "rm -f %s/.new/*", folder);
    assert_int_equal(system(line), 0);
}

static bool is_there(const char *key, struct span *ret)
{
    static struct buf b;
    buf_clear(&b);
    pd_err e = objects_get(o, key, &b, NULL);
    assert_true(e == PD_OK || e == PD_NOTFOUND);
    *ret = buf_span(&b);
    return e == PD_OK;
}

/* The old one or the new one, whole; the new one where it was said to be there. */
static void check_whole(enum op op, const char *key, pd_err e)
{
    struct span got;
    bool there = is_there(key, &got);
    if (!there)
        assert_true(op == DELETE || (op == NEW && e));
    else if (!span_eq(got, new_bytes))
        assert_true(span_eq(got, old_bytes) && (e || op == GET));
    else
        assert_true(op != GET && op != DELETE);
}

static bool one_fault(enum op op, enum call call, unsigned at, int error, pd_err *ret)
{
    char key[60], etag[OBJECT_ETAG_BYTES] = "";
    snprintf(key, sizeof(key), "f%u/deep/object", ++fresh);
    if (op != NEW)
        assert_int_equal(objects_put(o, key, old_bytes, OBJECT_ALWAYS, NULL, etag), PD_OK);
    memset(&disk, 0, sizeof(disk));
    disk.armed = true;
    disk.call = call;
    disk.at = at;
    disk.error = error;
    *ret = run(op, key, etag);
    disk.armed = false;
    if (!disk.happened)
        return false;
    if (left_in_new() != 0) {
        assert_int_equal(
            call,
            UNLINK); /* what takes it away failed itself: it is cleaned up when the store is opened, an hour later */
        clean_new();
    }
    check_whole(op, key, *ret);
    return true;
}

/* Each call of each operation, in turn. Returns how many faults there were. */
static unsigned each_fault(int error, pd_err want, bool may_pass)
{
    unsigned faults = 0;
    for (int op = 0; op < OP_COUNT; op++)
        for (int call = 0; call < COUNT; call++)
            for (unsigned at = 1;; at++) {
                pd_err e;
                if (!one_fault((enum op)op, (enum call)call, at, error, &e))
                    break;
                faults++;
                if (e != want && !(may_pass && e == PD_OK) && !(call == UNLINK && op != DELETE && e == PD_OK))
                    fail_msg("operation %d, call %d, the %u-th: %s: %s", op, call, at, pd_err_name(e),
                             objects_why());
            }
    return faults;
}

static void a_full_disk_leaves_nothing_half_and_is_said(void **state)
{
    unsigned faults = each_fault(ENOSPC, PD_NOSPACE, false);
    print_message("ENOSPC: %u faults\n", faults);
    assert_true(faults >= 50);
    each_fault(EDQUOT, PD_NOSPACE, false);
}

static void a_broken_disk_leaves_nothing_half_and_is_said(void **state)
{
    unsigned faults = each_fault(EIO, PD_IO, false);
    print_message("EIO: %u faults\n", faults);
    assert_true(faults >= 50);
}

static void no_descriptors_is_said(void **state)
{
    pd_err e;
    for (int op = 0; op < OP_COUNT; op++) {
        assert_true(one_fault((enum op)op, OPENAT, 1, EMFILE, &e));
        assert_int_equal(e, PD_NOFD);
    }
}

static void interruptions_are_gone_on_from(void **state)
{
    static const enum call calls[] = {WRITE, FSYNC, OPENAT, READ};
    unsigned faults = 0;
    for (int op = 0; op < OP_COUNT; op++)
        for (size_t c = 0; c < sizeof(calls) / sizeof(calls[0]); c++)
            for (unsigned at = 1;; at++) {
                pd_err e;
                if (!one_fault((enum op)op, calls[c], at, EINTR, &e))
                    break;
                faults++;
                assert_int_equal(e, PD_OK);
            }
    assert_true(faults >= 30);
}

static void short_writes_and_reads_are_gone_on_from(void **state)
{
    static const enum call calls[] = {WRITE, READ};
    static const enum op ops[] = {NEW, GET};
    for (size_t i = 0; i < 2; i++) {
        char key[60];
        snprintf(key, sizeof(key), "f%u/short", ++fresh);
        if (ops[i] == GET)
            assert_int_equal(objects_put(o, key, old_bytes, OBJECT_ALWAYS, NULL, NULL), PD_OK);
        memset(&disk, 0, sizeof(disk));
        disk.armed = disk.again = true;
        disk.call = calls[i];
        disk.at = 1;
        assert_int_equal(run(ops[i], key, NULL), PD_OK);
        disk.armed = false;
        assert_true(disk.happened >= 3);
        check_whole(ops[i], key, PD_OK);
    }
}

static void a_file_system_without_links_and_attributes_will_do(void **state)
{
    static const int errors[] = {EPERM, EOPNOTSUPP, ENOSYS};
    pd_err e;
    for (size_t i = 0; i < 3; i++) {
        assert_true(one_fault(NEW, LINK, 1, errors[i], &e));
        assert_int_equal(e, PD_OK);
    }
    assert_true(one_fault(NEW, ATTRIBUTE, 1, EOPNOTSUPP, &e));
    assert_int_equal(e, PD_OK);
}

/* The bytes are on the disk before they get their name, and each folder of the way after it: the power may go at any moment. */
static void the_order_on_the_disk_is_bytes_name_folders(void **state)
{
    static const enum op ops[] = {NEW, REPLACE, SAME};
    for (size_t i = 0; i < 3; i++) {
        char key[60], etag[OBJECT_ETAG_BYTES] = "";
        snprintf(key, sizeof(key), "f%u/deep/er/object", ++fresh);
        if (ops[i] != NEW)
            assert_int_equal(objects_put(o, key, old_bytes, OBJECT_ALWAYS, NULL, etag), PD_OK);
        memset(&disk, 0, sizeof(disk));
        assert_int_equal(run(ops[i], key, etag), PD_OK);
        assert_true(disk.synced_file > 0 && disk.synced_file < disk.named);
        assert_true(disk.alone > 0 && disk.alone < disk.named); /* nobody else looks and names meanwhile */
        assert_true(disk.synced_folder > disk.named);
        assert_int_equal(disk.order - disk.named, 4); /* the root, f, deep, er */
    }
    memset(&disk, 0, sizeof(disk));
    assert_int_equal(objects_delete(o, "f1/none"), PD_OK);
    assert_int_equal(objects_put(o, "gone", old_bytes, OBJECT_ALWAYS, NULL, NULL), PD_OK);
    memset(&disk, 0, sizeof(disk));
    assert_int_equal(objects_delete(o, "gone"), PD_OK);
    assert_true(disk.alone > 0 && disk.synced_folder > disk.alone); /* what is deleted does not come back */
}

static void no_program_that_is_started_meanwhile_has_its_descriptors(void **state)
{
    char key[60];
    snprintf(key, sizeof(key), "f%u/deep/er/object", ++fresh);
    memset(&disk, 0, sizeof(disk));
    inherited = 0;
    look_at_descriptors(); /* the test's own may have come from whoever started it */
    uint64_t before = inherited;
    assert_int_equal(objects_put(o, key, old_bytes, OBJECT_ALWAYS, NULL, NULL), PD_OK);
    assert_int_equal(run(GET, key, NULL), PD_OK);
    assert_int_equal(run(DELETE, key, NULL), PD_OK);
    assert_true(disk.syncs > 0); /* they were looked at */
    assert_int_equal(inherited, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_leaves_nothing_half_and_is_said),
        cmocka_unit_test(a_broken_disk_leaves_nothing_half_and_is_said),
        cmocka_unit_test(no_descriptors_is_said),
        cmocka_unit_test(interruptions_are_gone_on_from),
        cmocka_unit_test(short_writes_and_reads_are_gone_on_from),
        cmocka_unit_test(a_file_system_without_links_and_attributes_will_do),
        cmocka_unit_test(the_order_on_the_disk_is_bytes_name_folders),
        cmocka_unit_test(no_program_that_is_started_meanwhile_has_its_descriptors),
    };
    char line[200], why[400];
    if (!mkdtemp(folder) || objects_open(folder, none, NULL, &o, why, sizeof(why)))
        return 1;
    if (objects_put(o, "first", old_bytes, OBJECT_ALWAYS, NULL, NULL))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    objects_close(o);
    snprintf(line, sizeof(line), "rm -rf %s", folder);
    return failed + (system(line) != 0);
}
