#include "test.h"
#include "torture.h"

#include "base/log.h"
#include "base/mem.h"
#include "state/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char folder[64];
static bool disk_full;

ssize_t write(int fd, const void *p, size_t n);
ssize_t write(int fd, const void *p, size_t n)
{
    if (disk_full && fd > STDERR_FILENO) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, p, n);
}

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/perdure-snapshot-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static unsigned files(bool drop)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        n++;
        if (drop)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d)
        closedir(d);
    return n;
}

static int drop(void **state)
{
    (void)state;
    disk_full = false;
    files(true);
    return rmdir(folder);
}

static pd_err read_back(const char *want)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = snapshot_read(folder, "fleet", &b);
    if (!e)
        assert_true(span_is(buf_span(&b), want));
    else
        assert_int_equal(buf_size(&b), 0);
    buf_done(&b);
    return e;
}

static void the_last_one_written_is_read(void **state)
{
    (void)state;
    assert_int_equal(read_back(""), PD_NOTFOUND);
    assert_int_equal(snapshot_write(folder, "fleet", SPAN_LIT("one\ntwo")), PD_OK);
    assert_int_equal(read_back("one\ntwo"), PD_OK);
    assert_int_equal(snapshot_write(folder, "fleet", SPAN_NONE), PD_OK);
    assert_int_equal(read_back(""), PD_OK);
    assert_int_equal(files(false), 1);
    struct stat st;
    char path[100];
    snprintf(path, sizeof(path), "%s/fleet", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_damaged_or_torn_one_is_not_believed(void **state)
{
    (void)state;
    char path[100];
    snprintf(path, sizeof(path), "%s/fleet", folder);
    assert_int_equal(snapshot_write(folder, "fleet", SPAN_LIT("{\"a\":1}")), PD_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_RDWR);
    for (off_t at = 0; at < st.st_size; at++) {
        unsigned char was, is;
        assert_int_equal(pread(fd, &was, 1, at), 1);
        is = was ^ 4;
        assert_int_equal(pwrite(fd, &is, 1, at), 1);
        assert_int_equal(read_back(""), PD_SYNTAX);
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    assert_int_equal(read_back("{\"a\":1}"), PD_OK);
    for (off_t n = st.st_size; n-- > 0;) {
        assert_int_equal(ftruncate(fd, n), 0);
        assert_int_equal(read_back(""), PD_SYNTAX);
    }
    close(fd);
}

static void a_full_disk_leaves_the_old_one(void **state)
{
    (void)state;
    assert_int_equal(snapshot_write(folder, "fleet", SPAN_LIT("old")), PD_OK);
    disk_full = true;
    assert_int_equal(snapshot_write(folder, "fleet", SPAN_LIT("new")), PD_IO);
    assert_int_equal(errno, ENOSPC);
    disk_full = false;
    assert_int_equal(read_back("old"), PD_OK);
    assert_int_equal(files(false), 1);
}

static pd_err write_and_read(void *ctx)
{
    (void)ctx;
    struct buf b;
    buf_init(&b, 0);
    pd_err e = snapshot_write(folder, "fleet", SPAN_LIT("x"));
    if (!e)
        e = snapshot_read(folder, "fleet", &b);
    buf_done(&b);
    return e;
}

static void what_killed_writers_left_is_removed_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool stays;
    } left[] = {{"one.1.new", false},    {"one.4194304.new", false},
                {"one.new", true},       {"one.1.old", true},
                {"one.two.1.new", true}, {"oneone.1.new", true},
                {"on.1.new", true},      {"one.1x.new", true},
                {"one.1.newer", true},   {"one.-1.new", true},
                {"one..new", true},      {"one.1.2.new", true},
                {"onex1.new", true},     {"one", true}};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, left[i].name);
        int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0 && close(fd) == 0);
    }
    snapshot_sweep(folder, "one");
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, left[i].name);
        if ((access(path, F_OK) == 0) != left[i].stays)
            fail_msg("%s %s", left[i].name, left[i].stays ? "is gone" : "is still there");
    }
    snapshot_sweep("/no/such", "one"); /* is nothing to be done */
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(write_and_read, NULL) >= 1);
}

/* ---- the saver ---- */
struct source {
    struct loop *loop;
    struct timer watch;
    unsigned asked, stop_at, version;
};

static pd_err document(void *ctx, struct buf *out)
{
    struct source *s = ctx;
    if (++s->asked == s->stop_at)
        loop_stop(s->loop);
    return s->version ? buf_printf(out, "v%u", s->version) : PD_NOTFOUND;
}

static void it_saves_what_has_changed_and_a_last_time_at_the_end(void **state)
{
    (void)state;
    struct source s = {.loop = loop_new(), .stop_at = 2, .version = 1};
    struct saver *v = saver_new(s.loop, folder, "fleet", document, &s);
    assert_non_null(v);
    loop_run(
        s.loop); /* until it has asked a second time: the first was written by then, and the second had nothing new */
    assert_int_equal(read_back("v1"), PD_OK);
    files(true);
    assert_null(saver_free(v));
    assert_int_equal(files(false), 0); /* unchanged: not written again */

    v = saver_new(s.loop, folder, "fleet", document, &s);
    s.version = 2;
    saver_free(v);
    assert_int_equal(read_back("v2"), PD_OK);
    v = saver_new(s.loop, folder, "fleet", document, &s);
    s.version = 0; /* what cannot be written down now leaves what is there */
    saver_free(v);
    assert_int_equal(read_back("v2"), PD_OK);
    loop_free(s.loop);
}

/* Others stop the loop too when the process ends: that is no word that the disk is done. */
static void it_waits_for_the_disk_though_the_loop_is_told_to_stop(void **state)
{
    (void)state;
    struct source s = {.loop = loop_new(), .stop_at = 1, .version = 1};
    struct saver *v = saver_new(s.loop, folder, "fleet", document, &s);
    assert_non_null(v);
    loop_run(s.loop); /* it is being written */
    loop_stop(s.loop);
    s.version = 3;
    assert_null(saver_free(v));
    assert_int_equal(read_back("v3"), PD_OK);
    assert_int_equal(files(false), 1); /* and no half of another beside it */
    loop_free(s.loop);
}

int main(void)
{
    log_threshold = LOG_ERROR;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_one_written_is_read, make, drop),
        cmocka_unit_test_setup_teardown(a_damaged_or_torn_one_is_not_believed, make, drop),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_old_one, make, drop),
        cmocka_unit_test_setup_teardown(what_killed_writers_left_is_removed_and_nothing_else, make, drop),
        cmocka_unit_test_setup_teardown(survives_every_failed_allocation, make, drop),
        cmocka_unit_test_setup_teardown(it_saves_what_has_changed_and_a_last_time_at_the_end, make, drop),
        cmocka_unit_test_setup_teardown(it_waits_for_the_disk_though_the_loop_is_told_to_stop, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
