/* The one who reads: segments of each writer one after the other, the writers side by side, the oldest record first. */
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "state/journal_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is known of a segment. */
struct seen {
    struct segment_name name;
    uint64_t seed;
    size_t offset; /* bytes that are done with; 0: its head has not been read */
};

/* One writer while records are read. */
struct stream {
    unsigned at, behind; /* its segments in `seen` */
    struct buf bytes;    /* of segment `at`, from its offset on */
    bool loaded, ended;
    struct record_head head; /* of the record in front */
};

struct journal_reader {
    char *folder;
    struct seen *seen; /* in the order of segments_list() */
    unsigned count;
    struct segment_name own;
    bool has_own;
    struct journal_reader_stats stats;
};

struct journal_reader *journal_reader_new(const char *folder)
{
    struct journal_reader *r = mem_zalloc(sizeof(*r));
    if (!r)
        return NULL;
    r->folder = mem_strdup(folder);
    return r->folder ? r : journal_reader_free(r);
}

struct journal_reader *journal_reader_free(struct journal_reader *r)
{
    if (!r)
        return NULL;
    mem_free(r->seen);
    mem_free(r->folder);
    mem_free(r);
    return NULL;
}

const struct journal_reader_stats *journal_reader_stats(const struct journal_reader *r)
{
    return &r->stats;
}

void journal_reader_skip(struct journal_reader *r, const struct journal *own)
{
    r->own = journal_name(own);
    r->has_own = true;
}

/* ---- which segments there are ---------------------------------------------------------- */

static bool same_segment(const struct segment_name *a, const struct segment_name *b)
{
    return segment_same_writer(a, b) && a->number == b->number;
}

static bool is_own(const struct journal_reader *r, const struct segment_name *s)
{
    return r->has_own && segment_same_writer(&r->own, s);
}

static pd_err look(struct journal_reader *r)
{
    struct segment_name *list = NULL;
    unsigned count = 0;
    pd_err e = segments_list(r->folder, &list, &count);
    if (e)
        return e;
    struct seen *seen = mem_calloc(count ? count : 1, sizeof(*seen));
    unsigned kept = 0;
    for (unsigned i = 0; seen && i < count; i++) {
        if (is_own(r, &list[i]))
            continue;
        struct seen s = {.name = list[i]};
        for (unsigned k = 0; k < r->count; k++)
            if (same_segment(&r->seen[k].name, &list[i]))
                s = r->seen[k];
        seen[kept++] = s;
    }
    mem_free(list);
    if (!seen)
        return PD_NOMEM;
    mem_free(r->seen);
    r->seen = seen;
    r->count = kept;
    return PD_OK;
}

/* ---- bytes --------------------------------------------------------------------------------- */

static pd_err read_from(int fd, size_t offset, struct buf *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return PD_IO;
    size_t n = (size_t)st.st_size > offset ? (size_t)st.st_size - offset : 0;
    buf_clear(out);
    if (n && buf_reserve(out, n))
        return PD_NOMEM;
    while (n) {
        ssize_t got = pread(fd, out->p + out->tail, n, (off_t)(offset + buf_size(out)));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return PD_IO;
        if (got == 0)
            break;
        buf_added(out, (size_t)got);
        n -= (size_t)got;
    }
    return PD_OK;
}

static void damaged(struct journal_reader *r, const struct seen *s, size_t bytes)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_write(&s->name, name);
    r->stats.damaged++;
    LOG(NULL, LOG_WARN, "journal.damaged", "file=%s offset=%zu skipped=%zu", name, s->offset, bytes);
}

static bool read_segment_head(struct seen *s, struct span in)
{
    struct segment_head h;
    if (in.n < sizeof(h))
        return false;
    memcpy(&h, in.p, sizeof(h));
    if (memcmp(h.magic, SEGMENT_MAGIC, sizeof(h.magic)) != 0 || h.hash != segment_head_hash(&h))
        return false;
    s->seed = h.seed;
    return true;
}

/* A segment that cannot be read does not stop the others. */
static pd_err load(struct journal_reader *r, struct stream *w)
{
    char path[FOLDER_PATH_MAX];
    struct seen *s = &r->seen[w->at];
    w->loaded = true;
    buf_clear(&w->bytes);
    int fd = segment_path(r->folder, &s->name, path) == PD_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return PD_OK;
    pd_err e = read_from(fd, s->offset, &w->bytes);
    close(fd);
    if (e == PD_IO) {
        damaged(r, s, 0);
        buf_clear(&w->bytes);
        return PD_OK;
    }
    if (e || s->offset || !buf_size(&w->bytes))
        return e;
    r->stats.segments++;
    if (read_segment_head(s, buf_span(&w->bytes))) {
        s->offset = sizeof(struct segment_head);
        buf_take(&w->bytes, sizeof(struct segment_head));
    } else if (!segment_is_held(r->folder, &s->name)) {
        damaged(r, s, buf_size(&w->bytes));
        s->offset = buf_size(&w->bytes);
        buf_clear(&w->bytes);
    } else {
        buf_clear(&w->bytes); /* not written yet */
    }
    return PD_OK;
}

/* ---- records --------------------------------------------------------------------------------- */

static bool whole_record(struct span in, uint64_t seed, struct record_head *h)
{
    if (in.n < sizeof(*h))
        return false;
    memcpy(h, in.p, sizeof(*h));
    return h->magic == RECORD_MAGIC && h->hash == record_head_hash(h, seed) && h->length <= in.n - sizeof(*h) &&
           h->payload_hash == record_payload_hash(span_of(in.p + sizeof(*h), h->length), seed);
}

/* Where the next whole record begins behind a damaged place; in.n: nowhere. */
static size_t next_record(struct span in, uint64_t seed)
{
    const uint32_t magic = RECORD_MAGIC;
    struct record_head h;
    for (size_t at = 1; at < in.n;) {
        const char *found = memmem(in.p + at, in.n - at, &magic, sizeof(magic));
        if (!found)
            break;
        at = (size_t)(found - in.p);
        if (whole_record(span_from(in, at), seed, &h))
            return at;
        at++;
    }
    return in.n;
}

static void pass(struct stream *w, struct seen *s, size_t n)
{
    s->offset += n;
    buf_take(&w->bytes, n);
}

/* True: w->head is that of a whole record in front. */
static bool in_front(struct journal_reader *r, struct stream *w)
{
    struct seen *s = &r->seen[w->at];
    struct span in = buf_span(&w->bytes);
    if (!in.n)
        return false;
    if (whole_record(in, s->seed, &w->head))
        return true;
    size_t at = next_record(in, s->seed);
    if (at == in.n && w->at + 1 == w->behind && segment_is_held(r->folder, &s->name))
        return false; /* being written */
    damaged(r, s, at);
    pass(w, s, at);
    return at < in.n && whole_record(buf_span(&w->bytes), s->seed, &w->head);
}

static pd_err advance(struct journal_reader *r, struct stream *w)
{
    while (!w->ended) {
        if (!w->loaded) {
            pd_err e = load(r, w);
            if (e)
                return e;
        }
        if (in_front(r, w))
            return PD_OK;
        w->loaded = false;
        w->ended = ++w->at == w->behind;
    }
    return PD_OK;
}

static void give(struct journal_reader *r, struct stream *w, journal_fn *fn, void *ctx)
{
    struct span in = buf_span(&w->bytes);
    struct journal_record record = {.kind = w->head.kind,
                                    .id = w->head.id,
                                    .time_us = w->head.time_us,
                                    .payload = span_of(in.p + sizeof(w->head), w->head.length)};
    r->stats.records++;
    if (record.time_us > r->stats.newest_us)
        r->stats.newest_us = record.time_us;
    fn(ctx, &record);
    pass(w, &r->seen[w->at], sizeof(w->head) + w->head.length);
}

static unsigned cut_streams(struct journal_reader *r, struct stream *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->count; i++) {
        if (i == 0 || !segment_same_writer(&r->seen[i].name, &r->seen[i - 1].name)) {
            w[n] = (struct stream){.at = i};
            buf_init(&w[n++].bytes, 0); /* a segment */
        }
        w[n - 1].behind = i + 1;
    }
    return n;
}

static pd_err merge(struct journal_reader *r, struct stream *w, unsigned n, journal_fn *fn, void *ctx)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; i < n && !e; i++)
        e = advance(r, &w[i]);
    while (!e) {
        struct stream *first = NULL;
        for (unsigned i = 0; i < n; i++)
            if (!w[i].ended && (!first || w[i].head.time_us < first->head.time_us))
                first = &w[i];
        if (!first)
            break;
        give(r, first, fn, ctx);
        e = advance(r, first);
    }
    return e;
}

pd_err journal_read(struct journal_reader *r, journal_fn *fn, void *ctx)
{
    pd_err e = look(r);
    if (e)
        return e;
    struct stream *w = mem_calloc(r->count ? r->count : 1, sizeof(*w));
    if (!w)
        return PD_NOMEM;
    unsigned n = cut_streams(r, w);
    e = merge(r, w, n, fn, ctx);
    for (unsigned i = 0; i < n; i++)
        buf_done(&w[i].bytes);
    mem_free(w);
    return e;
}

/* ---- what is no longer of use ------------------------------------------------------------------ */

static bool read_to_the_end(const struct journal_reader *r, const struct seen *s)
{
    char path[FOLDER_PATH_MAX];
    struct stat st;
    return segment_path(r->folder, &s->name, path) == PD_OK && stat(path, &st) == 0 &&
           (size_t)st.st_size <= s->offset;
}

static bool writer_lives(const struct journal_reader *r, const struct segment_name *name)
{
    for (unsigned i = 0; i < r->count; i++)
        if (segment_same_writer(&r->seen[i].name, name) && segment_is_held(r->folder, &r->seen[i].name))
            return true;
    return false;
}

pd_err journal_settle(struct journal *j, struct journal_reader *r)
{
    pd_err e = journal_settled(j);
    if (e)
        return e;
    journal_reader_skip(r, j);
    if ((e = look(r)) != PD_OK)
        return e;
    for (unsigned i = 0; i < r->count; i++) {
        char path[FOLDER_PATH_MAX];
        const struct seen *s = &r->seen[i];
        if (!writer_lives(r, &s->name) && read_to_the_end(r, s) &&
            segment_path(r->folder, &s->name, path) == PD_OK)
            (void)unlink(path);
    }
    return PD_OK;
}
