/* The one who writes. journal_put() fills `front`; the thread takes it over as `back` and writes that. */
#include "state/journal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "state/journal_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { LOG_EVERY_MS = 60 * 1000, BLOCK_BYTES = 64 << 10, SEGMENT_MODE = 0600 };

/* What waits, in blocks of one size: one buffer that grows would leave all its smaller selves behind. */
struct block {
    struct block *next;
    size_t capacity, used;
    char bytes[];
};
struct batch {
    struct block *first, *last;
    struct block *fill; /* all before it are full, all behind it empty; NULL: there is none */
    size_t bytes;
    uint64_t records; /* whole ones, and nothing else */
};

struct journal {
    struct journal_rules rules;
    char *folder;
    uint64_t seed;
    pthread_t thread;

    pthread_mutex_t lock; /* what is below, up to `back` */
    pthread_cond_t wake;  /* for the thread: there is something to do */
    pthread_cond_t done;  /* for journal_flush(): a write has ended, well or not */
    struct batch front;
    uint64_t last_us;
    uint64_t put, written;    /* records taken, records written */
    uint64_t missing;         /* dropped, and not told of in the journal yet */
    uint64_t dropped_settled; /* as it was at the last journal_settle() */
    uint64_t tries;           /* writes begun */
    uint64_t tries_done;      /* ended */
    struct journal_stats stats;
    bool closing, hurry, failing;

    /* the thread's own */
    struct batch back;
    struct segment_name name;
    int fd;
    size_t segment_bytes; /* whole records written, and the head */
    uint64_t logged_ms;
};

void journal_rules_default(struct journal_rules *r)
{
    *r = (struct journal_rules){
        .segment_bytes = JOURNAL_SEGMENT_BYTES,
        .segments = JOURNAL_SEGMENTS,
        .waiting_bytes = JOURNAL_WAITING_BYTES,
        .batch_bytes = JOURNAL_BATCH_BYTES,
        .batch_ms = JOURNAL_BATCH_MS,
        .retry_ms = JOURNAL_RETRY_MS,
    };
}

/* ---- what waits ------------------------------------------------------------------- */

static size_t waiting(const struct journal *j)
{
    return j->front.bytes + j->back.bytes;
}

static size_t room_in(const struct batch *b)
{
    size_t room = 0;
    for (const struct block *k = b->fill; k; k = k->next)
        room += k->capacity - k->used;
    return room;
}

/* Room for n more bytes. False: out of memory. */
static bool batch_reserve(struct batch *b, size_t n)
{
    for (size_t room = room_in(b); room < n;) {
        size_t bytes;
        struct block *k = mem_big_alloc(BLOCK_BYTES, &bytes);
        if (!k)
            return false;
        *k = (struct block){.capacity = bytes - sizeof(*k)};
        if (b->last)
            b->last->next = k;
        else
            b->first = k;
        b->last = k;
        if (!b->fill)
            b->fill = k;
        room += k->capacity;
    }
    return true;
}

/* There is room for it. */
static void batch_add(struct batch *b, struct span s)
{
    b->bytes += s.n;
    while (s.n) {
        struct block *k = b->fill;
        assert(k);
        size_t room = k->capacity - k->used, take = s.n < room ? s.n : room;
        memcpy(k->bytes + k->used, s.p, take);
        k->used += take;
        s = span_from(s, take);
        if (k->used == k->capacity)
            b->fill = k->next;
    }
}

static void batch_done(struct batch *b)
{
    while (b->first) {
        struct block *k = b->first;
        b->first = k->next;
        mem_big_free(k, k->capacity + sizeof(*k));
    }
    *b = (struct batch){0};
}

/* ---- putting ---------------------------------------------------------------------- */

static uint64_t next_us(struct journal *j)
{
    uint64_t now = clock_wall_us();
    j->last_us = now > j->last_us ? now : j->last_us + 1;
    return j->last_us;
}

/* Under the lock. All of it or nothing. */
static bool add_record(struct journal *j, struct record_head *h, const struct span *parts, size_t n)
{
    size_t bytes = sizeof(*h) + h->length;
    if (waiting(j) + bytes > j->rules.waiting_bytes || !batch_reserve(&j->front, bytes))
        return false;
    h->time_us = next_us(j);
    h->hash = record_head_hash(h, j->seed);
    batch_add(&j->front, span_of((const char *)h, sizeof(*h)));
    for (size_t i = 0; i < n; i++)
        batch_add(&j->front, parts[i]);
    j->put++;
    j->front.records++;
    return true;
}

/* Under the lock: the journal tells where records are missing, as soon as there is room for that. */
static void tell_missing(struct journal *j)
{
    char text[24];
    if (!j->missing)
        return;
    struct span payload =
        span_of(text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)j->missing));
    struct record_head h = {.magic = RECORD_MAGIC,
                            .kind = JOURNAL_DROPPED,
                            .length = (uint32_t)payload.n,
                            .payload_hash = record_payload_hash(payload, j->seed)};
    if (add_record(j, &h, &payload, 1))
        j->missing = 0;
}

static bool put_record(struct journal *j, struct record_head *h, const struct span *parts, size_t n)
{
    pthread_mutex_lock(&j->lock);
    bool was_empty = !j->front.bytes;
    tell_missing(j);
    bool taken = h->length <= JOURNAL_RECORD_MAX && !j->missing && add_record(j, h, parts, n);
    if (!taken) {
        j->missing++;
        j->stats.dropped++;
    }
    size_t bytes = j->front.bytes;
    /* The thread sleeps until the first record of a batch, then until the batch is due or large. */
    if (bytes && !j->failing &&
        (was_empty || (bytes >= j->rules.batch_bytes && bytes - h->length < j->rules.batch_bytes + sizeof(*h))))
        pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    return taken;
}

bool journal_put_parts(struct journal *j, uint32_t kind, uint64_t id, const struct span *parts, size_t n)
{
    if (!j)
        return false;
    size_t length = 0;
    for (size_t i = 0; i < n; i++)
        length += parts[i].n < JOURNAL_RECORD_MAX + 1 - length ? parts[i].n : JOURNAL_RECORD_MAX + 1 - length;
    struct record_head h = {.magic = RECORD_MAGIC, .kind = kind, .id = id, .length = (uint32_t)length};
    if (n == 1) {
        if (length <= JOURNAL_RECORD_MAX)
            h.payload_hash = record_payload_hash(parts[0], j->seed);
        return put_record(j, &h, parts, n);
    }
    /* The hash is that of the payload in one piece. */
    PD_CLEANUP(mem_freep) char *joined = length <= JOURNAL_RECORD_MAX ? mem_alloc(length) : NULL;
    size_t at = 0;
    for (size_t i = 0; joined && i < n; i++)
        if (parts[i].n) {
            memcpy(joined + at, parts[i].p, parts[i].n);
            at += parts[i].n;
        }
    struct span payload = span_of(joined, length);
    if (joined)
        h.payload_hash = record_payload_hash(payload, j->seed);
    else
        h.length = JOURNAL_RECORD_MAX + 1; /* no memory for it: dropped */
    return put_record(j, &h, &payload, 1);
}

bool journal_put(struct journal *j, uint32_t kind, uint64_t id, struct span payload)
{
    return journal_put_parts(j, kind, id, &payload, 1);
}

/* ---- segments ----------------------------------------------------------------------- */

static void trouble(struct journal *j, const char *doing)
{
    int why = errno;
    uint64_t now = clock_mono_ms();
    if (j->logged_ms && now - j->logged_ms < LOG_EVERY_MS)
        return;
    j->logged_ms = now;
    LOG(NULL, LOG_WARN, "journal.failed", "doing=%s folder=\"%s\" why=\"%s\" remedy=\"%s\"", doing, j->folder,
        strerror(why),
        why == ENOSPC || why == EDQUOT ? "make room on the disk, or name another folder with state:"
        : why == EMFILE || why == ENFILE
            ? "raise ulimit -n"
            : "see to the disk; until then what a restart would bring back is not written");
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t took = write(fd, p, n);
        if (took < 0 && errno == EINTR)
            continue;
        if (took <= 0) {
            errno = took < 0 ? errno : ENOSPC;
            return false;
        }
        p += took;
        n -= (size_t)took;
    }
    return true;
}

/* The oldest leave; what another process is writing stays. */
static void trim(struct journal *j)
{
    struct segment_name *list = NULL;
    unsigned count = 0;
    if (segments_list(j->folder, &list, &count))
        return;
    unsigned left = count;
    for (unsigned i = 0; i < count && left > j->rules.segments; i++) {
        char path[FOLDER_PATH_MAX];
        if (!segment_is_held(j->folder, &list[i]) && !segment_path(j->folder, &list[i], path) && unlink(path) == 0)
            left--;
    }
    mem_free(list);
}

static void leave_segment(struct journal *j)
{
    if (j->fd < 0)
        return;
    if (j->rules.fsync)
        (void)fdatasync(j->fd);
    close(j->fd);
    j->fd = -1;
}

/* The new one is held before the old one is let go: a writer that lives always holds one. */
static bool begin_segment(struct journal *j)
{
    char path[FOLDER_PATH_MAX];
    struct segment_name next = j->name;
    next.number++;
    struct segment_head h = {.magic = SEGMENT_MAGIC, .seed = j->seed};
    h.hash = segment_head_hash(&h);
    if (folder_make(j->folder) || segment_path(j->folder, &next, path))
        return false;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, SEGMENT_MODE);
    if (fd < 0)
        return false;
    (void)flock(fd, LOCK_EX);
    if (!write_all(fd, (const char *)&h, sizeof(h))) {
        int why = errno;
        (void)unlink(path);
        close(fd);
        errno = why;
        return false;
    }
    leave_segment(j);
    j->fd = fd;
    j->name.number = next.number;
    j->segment_bytes = sizeof(h);
    trim(j);
    return true;
}

/* What was written of a batch that failed is taken back; where that fails too, the segment is left as it is. */
static void take_back(struct journal *j)
{
    int why = errno;
    if (ftruncate(j->fd, (off_t)j->segment_bytes) != 0)
        leave_segment(j);
    errno = why;
}

static bool write_back(struct journal *j)
{
    if ((j->fd < 0 || j->segment_bytes >= j->rules.segment_bytes) && !begin_segment(j)) {
        trouble(j, "segment");
        return false;
    }
    for (const struct block *k = j->back.first; k; k = k->next)
        if (!write_all(j->fd, k->bytes, k->used)) {
            take_back(j);
            trouble(j, "write");
            return false;
        }
    j->segment_bytes += j->back.bytes;
    return true;
}

/* ---- the thread ------------------------------------------------------------------------ */

static void wait_ms(struct journal *j, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + ms % 1000 * 1000000;
    until.tv_sec += (time_t)(ms / 1000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    while (!j->closing && !j->hurry && (j->failing || j->front.bytes < j->rules.batch_bytes))
        if (pthread_cond_timedwait(&j->wake, &j->lock, &until))
            return;
}

static bool any(const struct journal *j)
{
    return waiting(j) > 0;
}

/* Under the lock: a batch that failed is tried again before anything newer. */
static void take_over(struct journal *j)
{
    if (j->back.bytes)
        return;
    j->back = j->front;
    j->front = (struct batch){0};
}

static void wrote(struct journal *j)
{
    j->stats.records += j->back.records;
    j->stats.bytes += j->back.bytes;
    j->written += j->back.records;
    batch_done(&j->back);
    if (j->failing)
        LOG(NULL, LOG_INFO, "journal.recovered", "folder=\"%s\" dropped=%llu", j->folder,
            (unsigned long long)j->stats.dropped);
    j->failing = false;
    tell_missing(j);
}

static void one_batch(struct journal *j)
{
    take_over(j);
    j->hurry = false;
    j->tries++;
    pthread_mutex_unlock(&j->lock);
    uint32_t before = j->name.number;
    bool ok = write_back(j);
    pthread_mutex_lock(&j->lock);
    j->stats.segments += j->name.number - before;
    j->tries_done++;
    if (ok) {
        wrote(j);
    } else {
        j->failing = true;
        j->stats.failures++;
    }
    pthread_cond_broadcast(&j->done);
}

static void *run(void *ctx)
{
    struct journal *j = ctx;
    pthread_mutex_lock(&j->lock);
    for (;;) {
        while (!any(j) && !j->closing)
            pthread_cond_wait(&j->wake, &j->lock);
        if (!any(j))
            break;
        wait_ms(j, j->failing ? j->rules.retry_ms : j->rules.batch_ms);
        one_batch(j);
        if (j->closing && j->failing)
            break;
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

bool journal_flush(struct journal *j)
{
    if (!j)
        return false;
    pthread_mutex_lock(&j->lock);
    uint64_t want = j->put, first = j->tries + 1; /* a try that has begun may not have all of it */
    while (j->written < want && (j->tries_done < first || !j->failing)) {
        j->hurry = true;
        pthread_cond_signal(&j->wake);
        pthread_cond_wait(&j->done, &j->lock);
    }
    bool ok = j->written >= want;
    pthread_mutex_unlock(&j->lock);
    return ok;
}

void journal_stats(struct journal *j, struct journal_stats *ret)
{
    pthread_mutex_lock(&j->lock);
    *ret = j->stats;
    ret->waiting = waiting(j);
    pthread_mutex_unlock(&j->lock);
}

struct segment_name journal_name(const struct journal *j)
{
    return (struct segment_name){.began_us = j->name.began_us, .pid = j->name.pid};
}

/* ---- beginning and end -------------------------------------------------------------------- */

static void free_all(struct journal *j)
{
    leave_segment(j);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->wake);
    pthread_cond_destroy(&j->done);
    batch_done(&j->front);
    batch_done(&j->back);
    mem_free(j->folder);
    mem_free(j);
}

static void init(struct journal *j, const struct journal_rules *rules, uint64_t after_us)
{
    pthread_condattr_t mono;
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->wake, &mono);
    pthread_cond_init(&j->done, NULL);
    pthread_condattr_destroy(&mono);
    j->rules = *rules;
    j->seed = rnd_seed();
    j->last_us = after_us;
    j->name = (struct segment_name){.began_us = next_us(j), .pid = (uint32_t)getpid()};
    j->fd = -1;
}

/* Signals are the first worker's. */
static bool start(struct journal *j)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&j->thread, NULL, run, j) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return ok;
}

pd_err journal_open(const char *folder, const struct journal_rules *rules, uint64_t after_us, struct journal **ret)
{
    pd_err e = folder_make(folder);
    if (e)
        return e;
    struct journal *j = mem_zalloc(sizeof(*j));
    if (!j)
        return PD_NOMEM;
    init(j, rules, after_us);
    j->folder = mem_strdup(folder);
    if (!j->folder || !start(j)) {
        free_all(j);
        return PD_NOMEM;
    }
    *ret = j;
    return PD_OK;
}

struct journal *journal_close(struct journal *j)
{
    if (!j)
        return NULL;
    pthread_mutex_lock(&j->lock);
    j->closing = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    free_all(j);
    return NULL;
}

pd_err journal_settled(struct journal *j)
{
    if (!journal_flush(j))
        return PD_IO;
    pthread_mutex_lock(&j->lock);
    bool lost = j->stats.dropped != j->dropped_settled;
    j->dropped_settled = j->stats.dropped;
    pthread_mutex_unlock(&j->lock);
    return lost ? PD_TOOBIG : PD_OK;
}
