#include "test.h"
#include "torture.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "state/folder.h"
#include "state/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a disk that can be full ---- */
static _Atomic long room = -1; /* bytes that still fit; -1: any number */
static _Atomic int full_with = ENOSPC;
static _Atomic unsigned refused;

ssize_t write(int fd, const void *p, size_t n);
ssize_t write(int fd, const void *p, size_t n)
{
    if (room >= 0 && fd > STDERR_FILENO) {
        if (room == 0) {
            refused++;
            errno = full_with;
            return -1;
        }
        n = n < (size_t)room ? n : (size_t)room;
        room -= (long)n;
    }
    return syscall(SYS_write, fd, p, n);
}

/* ---- a folder ---- */
struct place {
    char folder[64];
};

static void place_make(struct place *p)
{
    char base[] = "/tmp/perdure-journal-XXXXXX";
    assert_non_null(mkdtemp(base));
    snprintf(p->folder, sizeof(p->folder), "%s", base);
}

static unsigned each_file(const struct place *p, void (*fn)(const char *path, void *ctx), void *ctx)
{
    DIR *d = opendir(p->folder);
    assert_non_null(d);
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[400];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", p->folder, e->d_name);
        n++;
        if (fn)
            fn(path, ctx);
    }
    closedir(d);
    return n;
}

static void remove_it(const char *path, void *ctx)
{
    (void)ctx;
    unlink(path);
}

static void place_drop(struct place *p)
{
    each_file(p, remove_it, NULL);
    rmdir(p->folder);
}

static void keep_name(const char *path, void *ctx)
{
    strcpy(ctx, path);
}

static size_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

/* ---- what was read ---- */
struct seen {
    uint64_t count, small, missing, last_us; /* small: ids below 100 */
    bool in_order, in_row;                   /* of time; of ids, each one more than the one before */
    uint64_t last_id;
    struct buf text; /* payloads, joined */
};

static void seen_init(struct seen *s)
{
    *s = (struct seen){.in_order = true, .in_row = true};
    buf_init(&s->text, 0);
}

static void on_record(void *ctx, const struct journal_record *r)
{
    struct seen *s = ctx;
    s->in_order &= r->time_us > s->last_us;
    s->last_us = r->time_us;
    if (r->kind == JOURNAL_DROPPED) {
        uint64_t n = 0;
        assert_true(span_u64(r->payload, &n));
        s->missing += n;
        return;
    }
    s->in_row &= s->count == 0 || r->id == s->last_id + 1;
    s->last_id = r->id;
    s->count++;
    s->small += r->id < 100;
    if (buf_size(&s->text) < 4096)
        assert_int_equal(buf_add(&s->text, r->payload), PD_OK);
}

static void read_all(const struct place *p, struct seen *s, struct journal_reader_stats *ret)
{
    struct journal_reader *r = journal_reader_new(p->folder);
    assert_non_null(r);
    assert_int_equal(journal_read(r, on_record, s), PD_OK);
    if (ret)
        *ret = *journal_reader_stats(r);
    journal_reader_free(r);
}

static struct journal_rules quick(void)
{
    struct journal_rules r;
    journal_rules_default(&r);
    r.batch_ms = 1;
    r.retry_ms = 1;
    return r;
}

static struct journal *opened(const struct place *p, const struct journal_rules *r)
{
    struct journal *j = NULL;
    assert_int_equal(journal_open(p->folder, r, 0, &j), PD_OK);
    return j;
}

static void put_n(struct journal *j, uint64_t from, uint64_t n, size_t bytes)
{
    char text[4096];
    memset(text, 'x', sizeof(text));
    for (uint64_t i = from; i < from + n; i++)
        assert_true(journal_put(j, JOURNAL_ANSWER_PIECE, i, span_of(text, bytes)));
}

/* ---- promises ---- */

static void what_was_put_is_read_back_in_order(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    const struct span parts[] = {SPAN_LIT("one "), SPAN_NONE, SPAN_LIT("two ")};
    assert_true(journal_put_parts(j, JOURNAL_RUN, 7, parts, 3));
    assert_true(journal_put(j, JOURNAL_RUN, 8, SPAN_LIT("three")));
    assert_true(journal_put(j, JOURNAL_RUN, 9, SPAN_NONE));
    assert_true(journal_put_parts(j, JOURNAL_RUN, 10, NULL, 0));
    assert_null(journal_close(j));

    struct seen s;
    struct journal_reader_stats st;
    seen_init(&s);
    read_all(&p, &s, &st);
    assert_int_equal(s.count, 4);
    assert_true(s.in_order && s.in_row && s.last_id == 10);
    assert_true(span_is(buf_span(&s.text), "one two three"));
    assert_int_equal(st.damaged, 0);
    assert_int_equal(st.newest_us, s.last_us);
    char path[400] = "";
    each_file(&p, keep_name, path);
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    buf_done(&s.text);
    place_drop(&p);
}

static void the_folder_is_made_for_its_owner_alone(void **state)
{
    (void)state;
    struct place p, inner;
    place_make(&p);
    snprintf(inner.folder, sizeof(inner.folder), "%s/a", p.folder);
    struct journal_rules rules = quick();
    struct journal *j = opened(&inner, &rules);
    struct stat sb;
    assert_int_equal(stat(inner.folder, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0700);
    journal_close(j);
    rmdir(inner.folder);
    place_drop(&p);
}

static void a_journal_that_is_none_takes_nothing(void **state)
{
    (void)state;
    assert_false(journal_put(NULL, JOURNAL_RUN, 1, SPAN_LIT("x")));
    assert_false(journal_flush(NULL));
    assert_null(journal_close(NULL));
    struct journal_reader *r = journal_reader_new("/nonexistent/folder");
    assert_int_equal(journal_read(r, on_record, NULL), PD_NOTFOUND);
    journal_reader_free(r);
    struct journal *j = NULL;
    struct journal_rules rules = quick();
    assert_int_equal(journal_open("/proc/none/here", &rules, 0, &j), PD_IO);
}

static void kill_9_loses_nothing_that_was_flushed(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct journal_rules rules = quick();
        rules.segment_bytes = 64 << 10;
        struct journal *j = NULL;
        if (journal_open(p.folder, &rules, 0, &j))
            _exit(1);
        char text[200] = {0};
        for (uint64_t i = 1;; i++) {
            (void)!journal_put(j, JOURNAL_ANSWER_PIECE, i, span_of(text, sizeof(text)));
            if (i % 100 == 0 && journal_flush(j) && write(told[1], &i, sizeof(i)) != sizeof(i))
                _exit(1);
        }
    }
    close(told[1]);
    uint64_t flushed = 0;
    while (flushed < 1000)
        assert_int_equal(read(told[0], &flushed, sizeof(flushed)), sizeof(flushed));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (uint64_t more; read(told[0], &more, sizeof(more)) == sizeof(more);)
        flushed = more;
    close(told[0]);
    struct seen s;
    seen_init(&s);
    read_all(&p, &s, NULL);
    assert_true(s.last_id >= flushed);
    assert_true(s.in_order && s.in_row);
    assert_true(s.count > 100); /* the oldest segments may have left */
    buf_done(&s.text);
    place_drop(&p);
}

/* Cut after every byte: what is whole is there, what is torn is not, and nothing else happens. */
static void a_torn_end_costs_its_record_only(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    put_n(j, 1, 5, 20);
    journal_close(j);
    char path[400] = "";
    each_file(&p, keep_name, path);
    size_t size = size_of(path), head = 24, record = 40 + 20;
    assert_int_equal(size, head + 5 * record);
    for (size_t n = size; n-- > 0;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        struct seen s;
        struct journal_reader_stats st;
        seen_init(&s);
        read_all(&p, &s, &st);
        assert_int_equal(s.count, n < head ? 0 : (n - head) / record);
        assert_true(s.in_row);
        assert_int_equal(st.damaged, n == 0 || (n >= head && (n - head) % record == 0) ? 0 : 1);
        buf_done(&s.text);
    }
    place_drop(&p);
}

/* Every byte of a segment flipped in turn: at most the record it is in is missing, and it is counted. */
static void a_flipped_bit_costs_its_record_only(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    put_n(j, 1, 5, 20);
    journal_close(j);
    char path[400] = "";
    each_file(&p, keep_name, path);
    size_t size = size_of(path);
    int fd = open(path, O_RDWR);
    for (size_t at = 0; at < size; at++) {
        unsigned char was, is;
        assert_int_equal(pread(fd, &was, 1, (off_t)at), 1);
        is = (unsigned char)(was ^ (1u << at % 8));
        assert_int_equal(pwrite(fd, &is, 1, (off_t)at), 1);
        struct seen s;
        struct journal_reader_stats st;
        seen_init(&s);
        read_all(&p, &s, &st);
        assert_int_equal(s.count, at < 24 ? 0 : 4);
        assert_int_equal(st.damaged, 1);
        assert_true(s.in_order);
        buf_done(&s.text);
        assert_int_equal(pwrite(fd, &was, 1, (off_t)at), 1);
    }
    close(fd);
    place_drop(&p);
}

/* An answer may hold anything: a copy of a segment in a payload is not read as records. */
static void a_payload_is_never_taken_for_a_record(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    put_n(j, 1000, 3, 20);
    journal_close(j);
    char path[400] = "", bytes[400];
    each_file(&p, keep_name, path);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof(bytes));
    close(fd);
    unlink(path);
    j = opened(&p, &rules);
    assert_true(journal_put(j, JOURNAL_ANSWER_PIECE, 1, span_of(bytes, (size_t)n)));
    put_n(j, 2, 1, 20);
    journal_close(j);
    each_file(&p, keep_name, path);
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "\377", 1, 24 + 8),
                     1); /* the first record's length: a reader looks for where to go on */
    close(fd);
    struct seen s;
    struct journal_reader_stats st;
    seen_init(&s);
    read_all(&p, &s, &st);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.last_id, 2);
    assert_int_equal(st.damaged, 1);
    buf_done(&s.text);
    place_drop(&p);
}

static void a_full_disk_drops_and_tells_and_goes_on(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EIO, EDQUOT};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct place p;
        place_make(&p);
        struct journal_rules rules = quick();
        rules.waiting_bytes = 10 * 140;
        struct journal *j = opened(&p, &rules);
        put_n(j, 1, 3, 100);
        assert_true(journal_flush(j));
        full_with = errors[i];
        refused = 0;
        room = 70; /* half a record */
        unsigned taken = 0;
        for (uint64_t k = 4; k < 40; k++)
            taken += journal_put(j, JOURNAL_ANSWER_PIECE, k, span_of((char[100]){0}, 100));
        assert_false(journal_flush(j));
        assert_true(refused > 0);
        struct journal_stats st;
        journal_stats(j, &st);
        assert_true(st.failures > 0);
        assert_int_equal(st.dropped, 36 - taken);
        assert_true(st.dropped > 0 && st.waiting <= rules.waiting_bytes);
        struct journal_reader *r = journal_reader_new(p.folder);
        assert_int_equal(journal_settle(j, r), PD_IO);
        room = -1;
        assert_true(journal_flush(j));
        assert_true(journal_put(j, JOURNAL_ANSWER_PIECE, 40, SPAN_LIT("again")));
        assert_true(journal_flush(j));
        assert_int_equal(journal_settle(j, r), PD_TOOBIG); /* something was lost: what is old is not deleted */
        assert_int_equal(journal_settle(j, r), PD_OK);
        journal_reader_free(r);
        journal_close(j);
        struct seen s;
        struct journal_reader_stats rs;
        seen_init(&s);
        read_all(&p, &s, &rs);
        assert_int_equal(s.count, 3 + taken + 1);
        assert_int_equal(s.missing, 36 - taken);
        assert_int_equal(rs.damaged, 0); /* the half was taken back */
        assert_int_equal(s.last_id, 40);
        buf_done(&s.text);
        place_drop(&p);
    }
}

static void without_descriptors_it_waits_and_goes_on(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    struct rlimit was, none;
    getrlimit(RLIMIT_NOFILE, &was);
    none = was;
    none.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &none);
    put_n(j, 1, 1, 10);
    assert_false(journal_flush(j));
    setrlimit(RLIMIT_NOFILE, &was);
    assert_true(journal_flush(j));
    journal_close(j);
    struct seen s;
    seen_init(&s);
    read_all(&p, &s, NULL);
    assert_int_equal(s.count, 1);
    buf_done(&s.text);
    place_drop(&p);
}

static void segments_turn_and_the_oldest_leave(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    rules.segment_bytes = 2000;
    rules.segments = 3;
    rules.fsync = true;
    struct journal *j = opened(&p, &rules);
    for (uint64_t i = 0; i < 100; i++) {
        put_n(j, i, 1, 500);
        assert_true(journal_flush(j));
    }
    assert_int_equal(each_file(&p, NULL, NULL), 3);
    struct journal_stats st;
    journal_stats(j, &st);
    assert_int_equal(st.segments, 25);
    assert_int_equal(st.records, 100);
    journal_close(j);
    struct seen s;
    seen_init(&s);
    read_all(&p, &s, NULL);
    assert_true(s.count >= 9 && s.count <= 12 && s.last_id == 99 && s.in_row);
    buf_done(&s.text);
    place_drop(&p);
}

/* An upgrade: the old one writes on while the new one writes too; a reader has both, in order of time, and what came later later. */
static void two_writers_are_joined_by_time(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    rules.segment_bytes = 1000;
    rules.segments = 100;
    struct journal *old = opened(&p, &rules), *fresh = NULL;
    put_n(old, 1, 1, 100);
    assert_true(journal_flush(old));
    struct journal_reader *r = journal_reader_new(p.folder);
    struct seen s;
    seen_init(&s);
    assert_int_equal(journal_read(r, on_record, &s), PD_OK);
    assert_int_equal(s.count, 1);
    assert_int_equal(journal_open(p.folder, &rules, journal_reader_stats(r)->newest_us, &fresh), PD_OK);
    for (uint64_t i = 2; i < 60; i++) {
        for (uint64_t now = clock_wall_us(); clock_wall_us() <= now;) {
            /* until the clock has moved: within one microsecond two writers have no order */
        }
        put_n(i % 3 ? old : fresh, i, 1, 100);
        if (i % 7 == 0)
            assert_true(journal_flush(old) && journal_flush(fresh));
    }
    assert_true(journal_flush(old) && journal_flush(fresh));
    assert_int_equal(journal_read(r, on_record, &s), PD_OK);
    assert_int_equal(s.count, 59);
    assert_true(s.in_order && s.in_row);
    assert_int_equal(journal_read(r, on_record, &s), PD_OK);
    assert_int_equal(s.count, 59); /* none twice */

    /* What the old one has written stays as long as it lives. */
    unsigned files = each_file(&p, NULL, NULL);
    assert_int_equal(journal_settle(fresh, r), PD_OK);
    assert_int_equal(each_file(&p, NULL, NULL), files);
    put_n(old, 60, 1, 100);
    journal_close(old);
    assert_int_equal(journal_read(r, on_record, &s), PD_OK); /* its own records are left out from here on */
    assert_int_equal(s.count, 60);
    assert_int_equal(journal_settle(fresh, r), PD_OK);
    assert_true(each_file(&p, NULL, NULL) < files);
    put_n(fresh, 57, 1, 100);
    assert_true(journal_flush(fresh));
    assert_int_equal(journal_read(r, on_record, &s), PD_OK);
    assert_int_equal(s.count, 60);
    journal_reader_free(r);
    journal_close(fresh);
    buf_clear(&s.text);
    struct seen after;
    seen_init(&after);
    read_all(&p, &after, NULL);
    assert_int_equal(after.count, 20); /* those of the new one: 3, 6, ... 57, 57 */
    buf_done(&after.text);
    buf_done(&s.text);
    place_drop(&p);
}

/* However many segments a successor begins, the one that an old process writes stays. */
static void what_another_writes_does_not_leave(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    rules.segment_bytes = 1000;
    rules.segments = 2;
    struct journal *old = opened(&p, &rules);
    put_n(old, 1, 1, 100);
    assert_true(journal_flush(old));
    struct journal *fresh = opened(&p, &rules);
    for (uint64_t i = 0; i < 20; i++) {
        put_n(fresh, 100 + i, 1, 500);
        assert_true(journal_flush(fresh));
    }
    put_n(old, 2, 1, 100);
    journal_close(old);
    journal_close(fresh);
    struct seen s;
    seen_init(&s);
    read_all(&p, &s, NULL);
    assert_true(s.small == 2 && s.count > 2);
    buf_done(&s.text);
    place_drop(&p);
}

static void half_a_record_of_a_writer_that_lives_is_waited_for(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    put_n(j, 1, 1, 100);
    assert_true(journal_flush(j));
    char path[400] = "", half[70];
    each_file(&p, keep_name, path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, half, sizeof(half), 24), sizeof(half));
    off_t end = lseek(fd, 0, SEEK_END);
    assert_int_equal(pwrite(fd, half, sizeof(half), end), sizeof(half));
    struct seen s;
    seen_init(&s);
    struct journal_reader *r = journal_reader_new(p.folder);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(journal_read(r, on_record, &s), PD_OK);
        assert_int_equal(s.count, 1);
        assert_int_equal(journal_reader_stats(r)->damaged, 0);
    }
    assert_int_equal(ftruncate(fd, end), 0); /* it takes back what it could not write whole */
    put_n(j, 2, 1, 100);
    assert_true(journal_flush(j));
    assert_int_equal(journal_read(r, on_record, &s), PD_OK);
    assert_int_equal(s.count, 2);
    assert_int_equal(journal_reader_stats(r)->damaged, 0);
    close(fd);
    journal_reader_free(r);
    journal_close(j);
    buf_done(&s.text);
    place_drop(&p);
}

/* What was not read is not deleted. */
static void settling_keeps_what_was_not_read(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    put_n(j, 1, 3, 100);
    journal_close(j);
    struct journal_reader *r = journal_reader_new(p.folder);
    j = opened(&p, &rules);
    assert_int_equal(journal_settle(j, r), PD_OK);
    assert_int_equal(each_file(&p, NULL, NULL), 1);
    struct seen s;
    seen_init(&s);
    assert_int_equal(journal_read(r, on_record, &s), PD_OK);
    assert_int_equal(s.count, 3);
    assert_int_equal(journal_settle(j, r), PD_OK);
    assert_int_equal(each_file(&p, NULL, NULL), 0);
    journal_reader_free(r);
    journal_close(j);
    buf_done(&s.text);
    place_drop(&p);
}

static void a_clock_that_went_back_does_not_turn_the_order(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = NULL;
    uint64_t future = clock_wall_us() + 3600u * 1000000u;
    assert_int_equal(journal_open(p.folder, &rules, future, &j), PD_OK);
    put_n(j, 1, 2, 10);
    journal_close(j);
    struct seen s;
    seen_init(&s);
    read_all(&p, &s, NULL);
    assert_true(s.last_us > future && s.in_order);
    buf_done(&s.text);
    place_drop(&p);
}

static void a_record_over_the_limit_is_dropped_and_told(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules = quick();
    struct journal *j = opened(&p, &rules);
    char *large = mem_zalloc(JOURNAL_RECORD_MAX + 1);
    const struct span parts[] = {{large, JOURNAL_RECORD_MAX}, {large, 1}};
    assert_false(journal_put(j, JOURNAL_RUN, 1, span_of(large, JOURNAL_RECORD_MAX + 1)));
    assert_false(journal_put_parts(j, JOURNAL_RUN, 1, parts, 2));
    assert_true(journal_put(j, JOURNAL_RUN, 1, span_of(large, JOURNAL_RECORD_MAX)));
    mem_free(large);
    journal_close(j);
    struct seen s;
    seen_init(&s);
    read_all(&p, &s, NULL);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.missing, 2);
    buf_done(&s.text);
    place_drop(&p);
}

struct putter {
    struct journal *j;
    pthread_t thread;
    unsigned taken;
};
enum { PUTTERS = 4, PUTS = 50000 };

static void *put_many(void *ctx)
{
    struct putter *u = ctx;
    char text[120] = {1};
    for (unsigned i = 0; i < PUTS; i++)
        u->taken += journal_put(u->j, JOURNAL_ANSWER_PIECE, i, span_of(text, sizeof(text)));
    return NULL;
}

static void many_threads_put_at_once_and_it_keeps_up(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    struct journal_rules rules;
    journal_rules_default(&rules);
    rules.waiting_bytes = 64 << 20; /* on a machine this slow nothing is to be dropped */
    struct journal *j = opened(&p, &rules);
    struct putter u[PUTTERS];
    uint64_t began = clock_mono_us();
    for (int i = 0; i < PUTTERS; i++) {
        u[i] = (struct putter){.j = j};
        assert_int_equal(pthread_create(&u[i].thread, NULL, put_many, &u[i]), 0);
    }
    for (int i = 0; i < PUTTERS; i++) {
        pthread_join(u[i].thread, NULL);
        assert_int_equal(u[i].taken, PUTS);
    }
    uint64_t put_us = clock_mono_us() - began;
    assert_true(journal_flush(j));
    uint64_t all_us = clock_mono_us() - began;
    printf("journal: %u records by %u threads, put at %.0f/s, written at %.0f/s\n", PUTTERS * PUTS, PUTTERS,
           PUTTERS * PUTS * 1e6 / (double)put_us, PUTTERS * PUTS * 1e6 / (double)all_us);
    journal_close(j);
    struct seen s;
    struct journal_reader_stats st;
    seen_init(&s);
    read_all(&p, &s, &st);
    assert_int_equal(s.count, PUTTERS * PUTS);
    assert_true(s.in_order);
    assert_int_equal(st.damaged, 0);
    buf_done(&s.text);
    place_drop(&p);
}

static void ignore(void *ctx, const struct journal_record *r)
{
    (void)ctx, (void)r;
}

static pd_err read_tortured(void *ctx)
{
    struct place *p = ctx;
    struct journal_reader *r = journal_reader_new(p->folder);
    pd_err e = r ? journal_read(r, ignore, NULL) : PD_NOMEM;
    journal_reader_free(r);
    return e;
}

static pd_err open_tortured(void *ctx)
{
    struct place *p = ctx;
    struct journal *j = NULL;
    struct journal_rules rules = quick();
    pd_err e = journal_open(p->folder, &rules, 0, &j);
    if (e)
        return e;
    const struct span parts[] = {SPAN_LIT("a"), SPAN_LIT("b")};
    (void)journal_put_parts(j, JOURNAL_RUN, 1, parts, 2);
    (void)journal_put(j, JOURNAL_RUN, 2, SPAN_LIT("c"));
    (void)journal_flush(j);
    journal_close(j);
    return PD_OK;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    assert_true(torture_lenient(open_tortured, &p) >= 3);
    assert_true(torture(read_tortured, &p) >= 4);
    place_drop(&p);
}

static void a_folder_is_held_by_one_and_let_go_by_its_end(void **state)
{
    (void)state;
    struct place p;
    place_make(&p);
    int a = -1, b = -1, ready[2];
    assert_int_equal(folder_hold(p.folder, &a), PD_OK);
    assert_int_equal(folder_hold(p.folder, &b), PD_EXISTS);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork(); /* the successor has the descriptor */
    if (pid == 0) {
        close(ready[1]);
        char c;
        _exit(read(ready[0], &c, 1) < 0);
    }
    close(a);
    assert_int_equal(folder_hold(p.folder, &b), PD_EXISTS);
    close(ready[1]);
    close(ready[0]);
    waitpid(pid, NULL, 0);
    assert_int_equal(folder_hold(p.folder, &b), PD_OK);
    close(b);
    place_drop(&p);
}

int main(void)
{
    log_threshold = LOG_ERROR;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_read_back_in_order),
        cmocka_unit_test(the_folder_is_made_for_its_owner_alone),
        cmocka_unit_test(a_journal_that_is_none_takes_nothing),
        cmocka_unit_test(kill_9_loses_nothing_that_was_flushed),
        cmocka_unit_test(a_torn_end_costs_its_record_only),
        cmocka_unit_test(a_flipped_bit_costs_its_record_only),
        cmocka_unit_test(a_payload_is_never_taken_for_a_record),
        cmocka_unit_test(a_full_disk_drops_and_tells_and_goes_on),
        cmocka_unit_test(without_descriptors_it_waits_and_goes_on),
        cmocka_unit_test(segments_turn_and_the_oldest_leave),
        cmocka_unit_test(two_writers_are_joined_by_time),
        cmocka_unit_test(what_another_writes_does_not_leave),
        cmocka_unit_test(half_a_record_of_a_writer_that_lives_is_waited_for),
        cmocka_unit_test(settling_keeps_what_was_not_read),
        cmocka_unit_test(a_clock_that_went_back_does_not_turn_the_order),
        cmocka_unit_test(a_record_over_the_limit_is_dropped_and_told),
        cmocka_unit_test(many_threads_put_at_once_and_it_keeps_up),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_folder_is_held_by_one_and_let_go_by_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
