#include "app/persist.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "dialect/keep.h"
#include "relay/held.h"
#include "relay/ledger.h"
#include "relay/lost.h"
#include "relay/recall.h"
#include "relay/routing.h"
#include "state/folder.h"
#include "state/journal.h"
#include "state/serving.h"
#include "state/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLEET "fleet" /* the document of what was learned of targets */
enum {
    FOLLOW_EVERY_MS = 100,                            /* while an old process writes on, what it writes is read */
    KEEP_WAITING_BYTES = 128 << 20,                   /* all that is kept is put again at the start */
    LEDGER_WAITING_BYTES = JOURNAL_WAITING_BYTES / 2, /* of the ledger, before the disk is waited for */
};

/* A journal, and what the process before this one wrote in it. */
struct log {
    struct journal *journal;
    struct journal_reader *reader; /* NULL: nothing more is to come */
};

struct persist {
    struct gateway *gateway;
    struct loop *loop;
    char folder[FOLDER_PATH_MAX], keep_folder[FOLDER_PATH_MAX];
    int lock_fd, serving_fd;
    struct log calls, keep;
    struct lost *lost;
    struct recall_search *answers; /* of the process before this one, as they are read */
    size_t written;                /* of the ledger, since the disk was waited for */
    struct buf record;             /* under keep_lock: the one being written */
    struct timer follow;
    struct watch line; /* to the process before this one, as long as it runs */
    bool line_open, old_runs, last_time;
    bool returned, once_more; /* a successor has died; what it wrote is yet to be read */
    struct saver *fleet;
    bool busy, ending, handed_over;
};

/* ---- what is read ------------------------------------------------------------------------- */

/* A line that an old process writes while we are here already is put again; what was there before, all at once (write_ledger()). */
static void on_ledger_record(struct persist *k, const struct journal_record *r)
{
    struct ledger *l = k->gateway->ledger;
    pd_err e = PD_OK;
    if (!l || (r->kind != JOURNAL_RUN && r->kind != JOURNAL_SESSION))
        return;
    if (r->kind == JOURNAL_RUN)
        e = ledger_add(l, r->payload);
    else if (!k->returned || !ledger_has(l, r->payload)) /* a successor that died knew no more of it than we did */
        e = ledger_load(l, r->payload);
    if (!e && r->kind == JOURNAL_RUN)
        (void)journal_put(k->calls.journal, JOURNAL_RUN, r->id, r->payload);
    if (e && e != PD_EXISTS)
        LOG(NULL, LOG_WARN, "state.unreadable", "what=ledger why=\"%s\"", pd_err_text(e));
}

/* On any one thread, before or while others serve. */
static void on_call_record(void *ctx, const struct journal_record *r)
{
    struct persist *k = ctx;
    recall_record(k->answers, r);
    held_record(k->gateway->held, r);
    lost_record(k->lost, r);
    on_ledger_record(k, r);
}

static void on_keep_record(void *ctx, const struct journal_record *r)
{
    struct persist *k = ctx;
    if (r->kind != JOURNAL_KEPT)
        return;
    pthread_mutex_lock(&k->gateway->keep_lock);
    pd_err e = keep_read(k->gateway->keep, r->payload);
    pthread_mutex_unlock(&k->gateway->keep_lock);
    if (e)
        LOG(NULL, LOG_WARN, "state.unreadable", "what=keep why=\"%s\"", pd_err_text(e));
}

static void read_log(struct persist *k, struct log *l, const char *what, journal_fn *fn)
{
    pd_err e = l->reader ? journal_read(l->reader, fn, k) : PD_OK;
    if (e && e != PD_NOTFOUND)
        LOG(NULL, LOG_WARN, "state.unreadable", "what=%s why=\"%s\"", what, pd_err_text(e));
}

static void read_all(struct persist *k)
{
    read_log(k, &k->keep, "keep", on_keep_record);
    read_log(k, &k->calls, "journal", on_call_record);
}

/* Answers that it did not bring to their clients' ends are there for these clients. `all`: also those that it was showing when it ended. */
static void take_answers(struct persist *k, bool all)
{
    unsigned n = recall_take(k->answers, k->calls.journal, k->gateway->resume_keep_ms, all, clock_wall_ms(),
                             clock_mono_ms());
    if (n)
        LOG(NULL, LOG_INFO, "state.answers", "kept=%u", n);
    unsigned held = all ? held_take_over(k->gateway->held, k->calls.journal, clock_wall_ms()) : 0;
    if (held)
        LOG(NULL, LOG_INFO, "state.held_calls", "count=%u", held);
    unsigned lost = all ? lost_take(k->lost, k->gateway->ledger, k->calls.journal) : 0;
    if (lost)
        LOG(NULL, LOG_INFO, "state.interrupted_calls", "count=%u", lost);
}

/* What the process before this one wrote is ours, and written again by us. */
static void settle(struct log *l, const char *what)
{
    pd_err e = l->reader && l->journal ? journal_settle(l->journal, l->reader) : PD_OK;
    if (e)
        LOG(NULL, LOG_WARN, "state.not_settled",
            "what=%s why=\"%s\" remedy=\"none: it is tried at the next start\"", what, pd_err_text(e));
}

/* ---- what is written ------------------------------------------------------------------------ */

/* Under keep_lock. Without memory this one is not written. */
static void write_keep(void *ctx, uint64_t scope, struct span tool_id, enum msg_maker maker, struct span blob)
{
    struct persist *k = ctx;
    buf_clear(&k->record);
    if (keep_write(&k->record, scope, tool_id, maker, blob) == PD_OK)
        (void)journal_put(k->keep.journal, JOURNAL_KEPT, 0, buf_span(&k->record));
}

static pd_err write_session(void *ctx, struct span session)
{
    struct persist *k = ctx;
    if (k->written + session.n > LEDGER_WAITING_BYTES) { /* more than the journal takes at once */
        (void)journal_flush(k->calls.journal);
        k->written = 0;
    }
    k->written += session.n;
    (void)journal_put(k->calls.journal, JOURNAL_SESSION, 0, session); /* it counts what it drops */
    return PD_OK;
}

static void write_ledger(struct persist *k)
{
    pd_err e = k->calls.journal && k->gateway->ledger ? ledger_save(k->gateway->ledger, write_session, k) : PD_OK;
    if (e)
        LOG(NULL, LOG_WARN, "state.not_written", "folder=\"%s\" why=\"%s\"", k->folder, pd_err_text(e));
}

/* ---- the fleet ------------------------------------------------------------------------------- */

static pd_err on_save_fleet(void *ctx, struct buf *out)
{
    struct persist *k = ctx;
    if (k->handed_over)
        return PD_CANCELLED; /* the new process knows better */
    fleet_lock(k->gateway->fleet);
    pd_err e = fleet_save(k->gateway->fleet, out, loop_now_ms(k->loop), clock_wall_ms());
    fleet_unlock(k->gateway->fleet);
    return e;
}

static void load_fleet(struct persist *k)
{
    struct buf b;
    buf_init(&b, 0); /* SNAPSHOT_MAX */
    pd_err e = snapshot_read(k->folder, FLEET, &b);
    if (!e) {
        fleet_lock(k->gateway->fleet);
        e = fleet_load(k->gateway->fleet, buf_span(&b), loop_now_ms(k->loop), clock_wall_ms());
        fleet_unlock(k->gateway->fleet);
    }
    if (e && e != PD_NOTFOUND)
        LOG(NULL, LOG_WARN, "state.unreadable", "what=fleet why=\"%s\"", pd_err_text(e));
    buf_done(&b);
}

static void save_fleet_now(struct persist *k)
{
    struct buf b;
    buf_init(&b, 0); /* of a fleet's size */
    if (on_save_fleet(k, &b) == PD_OK && snapshot_write(k->folder, FLEET, buf_span(&b)) != PD_OK)
        LOG(NULL, LOG_WARN, "state.not_written", "folder=\"%s\" why=\"%s\"", k->folder, strerror(errno));
    buf_done(&b);
}

static uint64_t newest(const struct log *l)
{
    return l->reader ? journal_reader_stats(l->reader)->newest_us : 0;
}

static void open_journals(struct persist *k)
{
    struct journal_rules rules, large;
    journal_rules_default(&rules);
    large = rules;
    large.waiting_bytes = KEEP_WAITING_BYTES;
    pd_err e = journal_open(k->folder, &rules, newest(&k->calls), &k->calls.journal);
    if (!e)
        e = journal_open(k->keep_folder, &large, newest(&k->keep), &k->keep.journal);
    if (e)
        LOG(NULL, LOG_WARN, "state.not_written", "folder=\"%s\" why=\"%s\"", k->folder, pd_err_text(e));
    if (k->calls.reader && k->calls.journal)
        journal_reader_skip(k->calls.reader, k->calls.journal);
    if (k->keep.reader && k->keep.journal)
        journal_reader_skip(k->keep.reader, k->keep.journal);
    k->gateway->journal = k->calls.journal;
    write_ledger(k);
    keep_each(k->gateway->keep, write_keep, k);
    keep_watch(k->gateway->keep, write_keep, k);
}

/* ---- an old process that writes on ------------------------------------------------------------ */

static void follow_work(void *ctx)
{
    struct persist *k = ctx;
    read_all(k);
    take_answers(k, k->last_time);
    if (!k->last_time)
        return;
    settle(&k->calls, "journal");
    settle(&k->keep, "keep");
}

static void follow_done(void *ctx)
{
    struct persist *k = ctx;
    k->busy = false;
    if (k->ending)
        loop_stop(k->loop); /* persist_close() waits */
    else if (!k->last_time || k->once_more)
        timer_arm(k->loop, &k->follow, loop_now_ms(k->loop) + FOLLOW_EVERY_MS);
    else if (!k->returned)
        LOG(NULL, LOG_INFO, "upgrade.alone", "%s", "what=\"the old process has ended\"");
}

static void on_follow(void *ctx)
{
    struct persist *k = ctx;
    k->once_more = false;
    k->last_time = !k->old_runs; /* asked before the reading, so that nothing is written after it */
    k->busy = loop_offload(k->loop, follow_work, follow_done, k) == PD_OK;
    if (!k->busy)
        timer_arm(k->loop, &k->follow, loop_now_ms(k->loop) + FOLLOW_EVERY_MS);
}

static void line_closed(void *ctx)
{
    struct persist *k = ctx;
    k->line_open = false;
    if (k->ending)
        loop_stop(k->loop);
}

static void on_line(void *ctx, int events, pd_err err)
{
    (void)events, (void)err;
    struct persist *k = ctx;
    char byte;
    if (recv(k->line.fd, &byte, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    k->old_runs = false;
    watch_close(&k->line, line_closed);
}

static void follow(struct persist *k, struct inherited *in)
{
    if (in->line_fd < 0 || watch_open(k->loop, &k->line, in->line_fd, WATCH_READ | WATCH_GONE, on_line, k))
        return;
    k->old_runs = k->line_open = true;
    timer_arm(k->loop, &k->follow, loop_now_ms(k->loop) + FOLLOW_EVERY_MS);
}

/* ---- the folder --------------------------------------------------------------------------------- */

/* The descriptor that was inherited holds this folder, or another one, when the configuration names another. */
static bool is_lock_of(int fd, const char *folder)
{
    char path[FOLDER_PATH_MAX];
    struct stat a, b;
    return fd >= 0 && folder_path(folder, "lock", path) == PD_OK && fstat(fd, &a) == 0 && stat(path, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* PD_NOTFOUND: there is none to be had, and that was said. PD_EXISTS: another holds it. */
static pd_err hold(struct persist *k, struct inherited *in)
{
    errno = 0;
    pd_err e = folder_make(k->folder);
    if (!e && is_lock_of(in->state_fd, k->folder)) {
        k->lock_fd = in->state_fd;
        in->state_fd = -1;
        return PD_OK;
    }
    if (!e)
        e = folder_hold(k->folder, &k->lock_fd);
    if (!e)
        snapshot_sweep(k->folder, FLEET);
    if (!e || e == PD_EXISTS)
        return e;
    LOG(NULL, LOG_WARN, "state.no_folder",
        "folder=\"%s\" why=\"%s\" remedy=\"what a restart would bring back is not kept: name a folder that can be "
        "written with state:\"",
        k->folder, e == PD_IO ? strerror(errno) : pd_err_text(e));
    return PD_NOTFOUND;
}

static pd_err begin(struct persist *k, struct inherited *in)
{
    k->calls.reader = journal_reader_new(k->folder);
    k->keep.reader = journal_reader_new(k->keep_folder);
    if (!k->calls.reader || !k->keep.reader)
        return PD_NOMEM;
    k->answers = recall_search_new(k->gateway->kept);
    k->lost = lost_new();
    if (!k->answers || !k->lost)
        return PD_NOMEM;
    read_all(k);
    open_journals(k);
    take_answers(k, in->line_fd < 0);
    settle(&k->calls, "journal");
    settle(&k->keep, "keep");
    load_fleet(k);
    k->fleet = saver_new(k->loop, k->folder, FLEET, on_save_fleet, k);
    if (!k->fleet)
        return PD_NOMEM;
    follow(k, in);
    return PD_OK;
}

pd_err persist_open(struct gateway *g, struct loop *l, const char *folder, struct inherited *in,
                    struct persist **ret)
{
    *ret = NULL;
    struct persist *k = mem_zalloc(sizeof(*k));
    if (!k)
        return PD_NOMEM;
    k->gateway = g;
    k->loop = l;
    k->lock_fd = k->serving_fd = -1;
    buf_init(&k->record, 0); /* KEEP_BLOB_MAX and an id */
    timer_init(&k->follow, on_follow, k);
    bool fits = snprintf(k->folder, sizeof(k->folder), "%s", folder) < (int)sizeof(k->folder) &&
                folder_path(folder, "keep", k->keep_folder) == PD_OK;
    pd_err e = fits ? hold(k, in) : PD_NOTFOUND;
    if (e) {
        persist_close(k);
        return e == PD_EXISTS ? e : PD_OK;
    }
    e = begin(k, in);
    if (e) {
        persist_close(k);
        return e;
    }
    *ret = k;
    return PD_OK;
}

void persist_write(struct persist *k)
{
    if (!k)
        return;
    save_fleet_now(k);
    (void)journal_flush(k->calls.journal);
    (void)journal_flush(k->keep.journal);
}

void persist_hand_over(struct persist *k)
{
    if (k)
        k->handed_over = true;
}

void persist_take_back(struct persist *k)
{
    if (!k)
        return;
    k->handed_over = false;
    k->returned = k->once_more = true;
    if (!k->busy)
        timer_arm(k->loop, &k->follow, loop_now_ms(k->loop));
}

/* Others find it by its address all the same. */
void persist_serving(struct persist *k, const char *url, bool brief)
{
    struct serving s = {.pid = (uint64_t)getpid(), .brief = brief};
    int fd = -1;
    if (!k)
        return;
    pd_err e = (size_t)snprintf(s.url, sizeof(s.url), "%s", url) < sizeof(s.url)
                   ? serving_write(k->folder, &s, &fd)
                   : PD_TOOBIG;
    if (e) {
        LOG(NULL, LOG_WARN, "state.serving",
            "folder=\"%s\" why=\"%s\" remedy=\"commands need --url to find this process\"", k->folder,
            e == PD_IO ? strerror(errno) : pd_err_text(e));
        return;
    }
    if (k->serving_fd >= 0)
        close(k->serving_fd);
    k->serving_fd = fd;
}

int persist_lock(const struct persist *k)
{
    return k ? k->lock_fd : -1;
}

struct persist *persist_close(struct persist *k)
{
    if (!k)
        return NULL;
    k->ending = true;
    saver_free(k->fleet);
    watch_close(&k->line, line_closed);
    while (k->busy || k->line_open)
        loop_run(k->loop);
    timer_stop(k->loop, &k->follow);
    if (k->gateway->keep)
        keep_watch(k->gateway->keep, NULL, NULL);
    k->gateway->journal = NULL;
    journal_close(k->calls.journal);
    journal_close(k->keep.journal);
    journal_reader_free(k->calls.reader);
    journal_reader_free(k->keep.reader);
    recall_search_free(k->answers);
    lost_free(k->lost);
    buf_done(&k->record);
    serving_end(k->folder, k->serving_fd); /* before the lock: until then nobody else writes there */
    if (k->lock_fd >= 0)
        close(k->lock_fd);
    mem_free(k);
    return NULL;
}
