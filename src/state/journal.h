/* journal.h - what must outlive the process, written as it happens.
 *
 * An append-only row of records in the state folder. journal_put() copies a record into a buffer under a short lock and
 * never waits for the disk; one thread writes what waits, every batch_ms or when batch_bytes have come together. What
 * was written is safe from the end of the process (kill -9), not from the end of the machine: nothing is fsynced
 * but a segment that is full, and that only with rules.fsync.
 *
 * The disk may fail: then records wait, up to waiting_bytes; over it they are dropped and counted, and a record
 * JOURNAL_DROPPED says how many, once the disk works again. Nothing else in the gateway notices.
 *
 * The files: each writer has segments of its own, named by the moment it began, its process and a number, so that an old
 * process and its successor may both write. Over rules.segments the oldest are deleted. A reader joins the
 * segments of all writers by time; a record that is torn, or whose hash is wrong, is skipped and counted.
 *
 * A start: journal_reader_new(), journal_read() gives all that is there; journal_open(); what is still of use is put again;
 * journal_settle() deletes the old segments once that is written. While an old process still writes (an upgrade), journal_read()
 * again gives what it has written since.
 *
 * Threads: journal_put() and journal_stats() are for any; a reader is for one thread at a time. */
#ifndef PERDURE_STATE_JOURNAL_H
#define PERDURE_STATE_JOURNAL_H

#include "base/err.h"
#include "base/span.h"

enum {
    JOURNAL_BATCH_MS = 100,
    JOURNAL_BATCH_BYTES = 256 << 10,
    JOURNAL_SEGMENT_BYTES = 16 << 20,
    JOURNAL_SEGMENTS = 8,
    JOURNAL_WAITING_BYTES = 32 << 20,
    JOURNAL_RECORD_MAX = 8 << 20, /* payload of one record; a larger one is dropped */
    JOURNAL_RETRY_MS = 1000,      /* after a write that failed */
};

struct journal_rules {
    size_t segment_bytes; /* a new segment is begun when this has been written */
    unsigned segments;    /* kept in the folder, of all writers; the one being written is one of them */
    size_t waiting_bytes; /* for the disk, in memory */
    size_t batch_bytes;
    uint64_t batch_ms, retry_ms;
    bool fsync; /* of a segment that is full */
};
void journal_rules_default(struct journal_rules *r);

/* Kinds of records. 0 is the journal's own; the others are whoever puts them: they are listed here so that none is used twice. */
#define JOURNAL_KINDS(X)                                                               \
    X(JOURNAL_DROPPED, "so many records before this one are missing (decimal number)") \
    X(JOURNAL_ANSWER_BEGUN, "a call has begun to show an answer")                      \
    X(JOURNAL_ANSWER_PIECE, "bytes shown to the client of a call")                     \
    X(JOURNAL_ANSWER_ENDED, "how the answer of a call ended")                          \
    X(JOURNAL_HOLD_BEGUN, "a call waits for recovery")                                 \
    X(JOURNAL_HOLD_ENDED, "it waits no longer")                                        \
    X(JOURNAL_RUN, "a line of a session's ledger")                                     \
    X(JOURNAL_KEPT, "what a maker wants back with a tool call (dialect/keep.h)")       \
    X(JOURNAL_SESSION, "a session's ledger as a start found it (relay/ledger.h)")      \
    X(JOURNAL_CALL, "the line of a call that runs, in case that it never ends (relay/lost.h)")
enum journal_kind {
#define X(code, what) code,
    JOURNAL_KINDS(X)
#undef X
        JOURNAL_KIND_COUNT
};

struct journal;
/* Makes the folder (0700) when it is not there, and begins to write at the first record. `after_us`: the newest time the reader has
 * seen (journal_reader_stats), so that new records sort behind old ones even if the clock went back. PD_IO: folder cannot be made or written. */
pd_err journal_open(const char *folder, const struct journal_rules *rules, uint64_t after_us,
                    struct journal **ret) PD_CHECKED;
/* Writes what waits, as far as the disk takes it at once, and ends. NULL is fine; returns NULL. */
struct journal *journal_close(struct journal *j);

/* Any thread. The payload is copied from its parts. False: dropped, and counted. A journal NULL takes nothing (false). */
bool journal_put(struct journal *j, uint32_t kind, uint64_t id, struct span payload);
bool journal_put_parts(struct journal *j, uint32_t kind, uint64_t id, const struct span *parts, size_t n);
/* Waits until all that was put so far is written: false when it cannot be. For the end and for tests; never on a loop. */
bool journal_flush(struct journal *j);

struct journal_stats {
    uint64_t records, bytes; /* written */
    uint64_t dropped;        /* records that found no room */
    uint64_t failures;       /* writes that failed */
    uint64_t segments;       /* begun */
    size_t waiting;          /* bytes not yet written */
};
void journal_stats(struct journal *j, struct journal_stats *ret);

/* ---- reading ---- */
struct journal_record {
    uint32_t kind;
    uint64_t id, time_us; /* wall clock; strictly growing within one writer */
    struct span payload;  /* lives until fn returns */
};
typedef void journal_fn(void *ctx, const struct journal_record *r);

struct journal_reader_stats {
    uint64_t records, segments;
    uint64_t damaged; /* places where bytes were skipped; of torn ends too when the writer is gone */
    uint64_t newest_us;
};

struct journal_reader;
struct journal_reader *journal_reader_new(const char *folder) PD_CHECKED;
struct journal_reader *journal_reader_free(struct journal_reader *r);
/* Gives every whole record that it has not given before, of all writers in order of time. PD_NOTFOUND: no folder; PD_NOMEM; PD_IO. */
pd_err journal_read(struct journal_reader *r, journal_fn *fn, void *ctx) PD_CHECKED;
const struct journal_reader_stats *journal_reader_stats(const struct journal_reader *r);
/* Not the records of this journal, which its own process put: for a reader that goes on after journal_open(). */
void journal_reader_skip(struct journal_reader *r, const struct journal *own);
/* Deletes the segments that `r` has read to their end and whose writer is gone, after all that was put into `j` so far has been
 * written; when it could not be, nothing is deleted. Waits for the disk: not on a loop. */
pd_err journal_settle(struct journal *j, struct journal_reader *r) PD_CHECKED;

#endif
