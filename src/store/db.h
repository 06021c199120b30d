/* db.h - the database: SQLite or PostgreSQL behind one table of functions.
 *
 * Work is a job: a function that runs statements in one transaction, on a thread of the database's, never on a loop. When
 * it is done, and only then, what it wrote survives kill -9 and the loss of power.
 *
 * SQLite: one thread owns the only connection (WAL, synchronous=FULL). Jobs that wait together are committed together (group commit):
 * each in a savepoint of its own, so that one that fails takes nothing of the others with it. The file is held by one
 * process (flock on FILE.lock, and SQLite's own exclusive lock against other programs): other processes ask that one over HTTP.
 * PostgreSQL: `connections` threads with a connection each (libpq, not blocking: every wait has a deadline and can be ended). A lost
 * connection is made again, with growing pauses; a job cut off by it, by a deadlock or a serialization failure is run again.
 * A job may run more than once in both (SQLite: alone, when the group it was in could not be committed), also when its first run was
 * committed and only the answer was lost: it sets what it tells its caller anew each time, and its statements must bear being
 * repeated (ON CONFLICT DO NOTHING, "WHERE epoch = ...").
 * Jobs run at once in PostgreSQL (READ COMMITTED): what one must decide alone begins by locking its row ({pg:FOR UPDATE}), or the job is
 * `serial`. In SQLite they run one after another.
 *
 * SQL is written once for both: `$1`, `$2` ... for arguments, `ON CONFLICT`, `RETURNING`; what only one has stands in braces:
 * "SELECT ... {pg:FOR UPDATE SKIP LOCKED}", "{lite:BLOB}{pg:BYTEA}". Statements are prepared once for each connection, and found by
 * their text's address (literals; another text at the same address is noticed). An argument has the type that its value has: BIGINT, TEXT, BYTEA, DOUBLE
 * PRECISION. So has a column: BIGINT, TEXT and so on, no JSONB, no BOOLEAN, no TIMESTAMP. A text is UTF-8 without NUL in both. Text sorts by bytes in SQLite: where
 * an order is to be the same, say {pg:COLLATE "C"}. Statements end without ';'.
 *
 * Tables are made by the numbered migrations of schema.c.
 *
 * Times in tables are milliseconds since 1970 UTC in BIGINT columns, but where the guide's tables have a `timestamp` (ISO 8601, UTC, text).
 * Nothing decides by comparing them that must hold when a clock jumps. */
#ifndef PERDURE_STORE_DB_H
#define PERDURE_STORE_DB_H

#include "base/span.h"
#include "loop/loop.h"

struct db;
struct tx;

enum { DB_WHY_BYTES = 500 };

enum db_type { DB_NULL, DB_INT, DB_REAL, DB_TEXT, DB_BYTES };
struct db_value {
    enum db_type type;
    int64_t n;     /* DB_INT */
    double d;      /* DB_REAL */
    struct span s; /* DB_TEXT, DB_BYTES */
};
#define DB_I(x) ((struct db_value){.type = DB_INT, .n = (int64_t)(x)})
#define DB_D(x) ((struct db_value){.type = DB_REAL, .d = (x)})
#define DB_T(x) ((struct db_value){.type = DB_TEXT, .s = (x)})
#define DB_S(x) ((struct db_value){.type = DB_TEXT, .s = span_str(x)}) /* a string; NULL is "" */
#define DB_B(x) ((struct db_value){.type = DB_BYTES, .s = (x)})
#define DB_NONE ((struct db_value){.type = DB_NULL})

/* One row of a result; its spans live until it returns; it must not use the tx. Anything but PD_OK ends the statement and is returned by
 * tx_run(). */
typedef pd_err db_row_fn(void *ctx, const struct db_value *columns, unsigned n);

/* Runs one statement. fn may be NULL. PD_EXISTS: a unique key is taken (use ON CONFLICT where it is expected);
 * PD_NOMEM; PD_TOOBIG; PD_TIMEOUT: it took longer than rules.timeout_ms; PD_NOSPACE: the disk is full; PD_IO; PD_INVALID: the SQL is wrong, another
 * constraint does not hold, a text is not UTF-8, a job that `reads` writes; PD_CANCELLED: the job is to return at once, it will be run again.
 * After any of these the transaction is lost: later statements return the same, and so does the job whatever it returns. */
pd_err tx_run(struct tx *t, const char *sql, const struct db_value *args, unsigned args_count, db_row_fn *fn,
              void *ctx) PD_CHECKED;
#define TX_RUN(t, sql, fn, ctx, ...)                       \
    tx_run(t, sql, (const struct db_value[]){__VA_ARGS__}, \
           sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value), fn, ctx)
/* Rows that the last statement wrote; 0 after a SELECT. */
int64_t tx_changed(const struct tx *t);

/* Anything but PD_OK rolls back what this job wrote, and is the job's result. On a thread of the database's: `ctx` is its alone until it is done. */
typedef pd_err db_job_fn(struct tx *t, void *ctx);

struct db_job {
    db_job_fn *fn;
    void (*done)(void *ctx, pd_err err); /* on the loop it was given with, after the commit */
    void *ctx;
    bool reads;  /* it only reads: it need not wait for a commit, and sees what is committed, as of one moment */
    bool serial; /* PostgreSQL: SERIALIZABLE, as if jobs ran one after another; conflicts are run again */
    uint64_t
        limit_ms; /* with its waiting, over it PD_IO or PD_TIMEOUT: a server that hangs is not waited for longer, though it may do the job yet. 0: as
                        * the rules say. In SQLite only the waiting is limited */
    /* the database's own, while it runs */
    struct list node;
    struct db_queue *from;
    pd_err err;
    bool finished, taken;
    uint64_t since_ms; /* monotonic */
};

struct db_rules {
    unsigned connections; /* PostgreSQL; default 4 */
    unsigned waiting;     /* jobs that may wait; over it PD_TOOBIG; default 10,000 */
    uint64_t timeout_ms;  /* of one statement; default 30 s */
    uint64_t patience_ms; /* how long a job is tried again before PD_IO; default 60 s */
    bool migrate;         /* bring the tables up to this program's version; default true */
    unsigned wal_pages;   /* SQLite: so many in the WAL are moved into the file; default 1,000 (4 MB) */
    unsigned only_to;     /* tests: no further than this migration; 0: all */
};
void db_rules_default(struct db_rules *r);

/* `where`: "postgres://USER@HOST/NAME" (or postgresql://), else the path of a SQLite file, which is made, and its folder too. Blocks: opens, migrates. On
 * failure `why` has a sentence with what to do. PD_EXISTS: another process holds the file; PD_UNSUPPORTED: its tables are of a newer perdure (or of
 * an older one, without rules.migrate); PD_INVALID: the file is damaged, or is something else; PD_CONNECT: no server answers; PD_NOTFOUND: libpq is not
 * there; PD_IO, PD_NOSPACE, PD_NOMEM. */
pd_err db_open(const char *where, const struct db_rules *r, struct db **ret, char *why,
               size_t why_bytes) PD_CHECKED;
/* Ends the jobs that wait (they are run; with a server that is gone they fail), then the threads. Queues may be freed after it. NULL is fine;
 * returns NULL. */
struct db *db_close(struct db *d);
bool db_is_postgres(const struct db *d);

/* A loop's own door: jobs given here are done on this loop. Free it before the loop, when nothing is under way. */
struct db_queue *db_queue_new(struct db *d, struct loop *l) PD_CHECKED;
struct db_queue *db_queue_free(struct db_queue *q);
/* Calls the `done` of what is finished now, where the loop will not run again. After db_close() that is all. NULL is fine. */
void db_queue_settle(struct db_queue *q);
/* `job` must live until done. PD_TOOBIG: too many wait; PD_CLOSED: it is being closed. Any thread: done comes on the queue's loop. */
pd_err db_submit(struct db_queue *q, struct db_job *job) PD_CHECKED;
/* Without being run the job is done with this error, on the queue's loop. Any thread. */
void db_queue_refuse(struct db_queue *q, struct db_job *job, pd_err e);
/* db_submit(), waiting for it: for programs without a loop and for tests; never on a loop. */
pd_err db_do(struct db *d, db_job_fn *fn, void *ctx) PD_CHECKED;
/* The same with the job's flags; `done` is not called. */
pd_err db_do_job(struct db *d, struct db_job *job) PD_CHECKED;

struct db_stats {
    uint64_t jobs, commits, failed, again, connects; /* again: runs after the first */
    unsigned waiting;
    bool failing; /* its disk or its server failed, and nothing went well since */
};
void db_stats(struct db *d, struct db_stats *ret);
/* The newest trouble, a sentence; empty: none since the last success. */
void db_trouble(struct db *d, char *out, size_t out_bytes);

#endif
