/* db_priv.h - what the two databases share: who waits, who is served, what went wrong last.
 *
 * db.c has the queues, and knows nothing of SQL; db_sqlite.c and db_postgres.c each fill a struct db_backend. */
#ifndef PERDURE_STORE_DB_PRIV_H
#define PERDURE_STORE_DB_PRIV_H

#include "store/db.h"
#include "store/sql.h"

#include <pthread.h>

enum { DB_BUCKETS = 64, DB_STATEMENTS_MAX = 1000 /* prepared on one connection */ };

/* A transaction as a job sees it. */
struct tx {
    struct db *db;
    void *conn; /* the backend's */
    const struct db_job *job;
    pd_err lost; /* what ended the transaction: every later statement returns it */
    int64_t changed;
    uint64_t timeout_ms; /* of one statement */
    bool in_row;
};

struct db_backend {
    bool postgres;
    /* Makes d->side and its first connection. On failure d->side is given to close() when it is not NULL. */
    pd_err (*open)(struct db *d, const char *where, char *why, size_t why_bytes);
    unsigned (*threads)(const struct db *d);
    /* The tables are up to date, threads come next; may be NULL. */
    void (*settled)(struct db *d);
    /* One job by itself on the first connection, before there are threads. */
    pd_err (*one)(struct db *d, struct db_job *job);
    /* A thread's life: takes jobs until db_take() has none. */
    void (*serve)(struct db *d, unsigned thread);
    void (*stop)(struct db *d); /* may be NULL: the end is near, from any thread */
    void (*close)(struct db *d);
    pd_err (*run)(struct tx *t, const char *sql, const struct db_value *args, unsigned args_count, db_row_fn *fn,
                  void *ctx);
};
extern const struct db_backend db_sqlite, db_postgres;

struct db {
    const struct db_backend *backend;
    void *side; /* the backend's */
    struct db_rules rules;

    pthread_mutex_t lock;
    pthread_cond_t work;     /* there are jobs, or the end */
    pthread_cond_t finished; /* of a job that someone waits for */
    struct list waiting;
    bool closing;
    unsigned visitors; /* threads that wait in db_do() */
    struct db_stats stats;
    char trouble[DB_WHY_BYTES];
    bool unwell;      /* and it is in the log */
    uint64_t said_ms; /* when that was */

    pthread_t *threads;
    unsigned threads_count;
};

/* Waits for work; moves up to `most` jobs to `into`, in order. False: there are none, and will be none. */
bool db_take(struct db *d, unsigned most, struct list *into);
/* The job is its caller's again. */
void db_finish(struct db *d, struct db_job *job, pd_err e);
/* Waits until a moment of the monotonic clock has come or the database is closed: true when it is. */
bool db_pause(struct db *d, uint64_t until_ms);
bool db_closing(struct db *d);
void db_count(struct db *d, uint64_t commits, uint64_t again, uint64_t connects);
void db_say(struct db *d, const char *fmt, ...) PD_PRINTF(2, 3); /* the trouble */
void db_well(struct db *d);                                      /* there is none any more */
void db_lost(struct db *d); /* the server does not answer: told before jobs lose their patience */
void db_log(struct db *d, pd_err e, bool wrote); /* how a job ended */

/* The job's function with a transaction around it that someone else has begun: what it returned, or what its transaction was lost by. */
pd_err db_run_job(struct tx *t);
/* One row for a job's function; keeps it from using the tx meanwhile. */
pd_err db_give_row(struct tx *t, db_row_fn *fn, void *ctx, const struct db_value *columns, unsigned n);

/* ---- statements by their text's address ---- */
struct statement {
    struct statement *next;
    const char *at; /* whose text: an address */
    char *text;     /* what it said: an address may be used again */
    unsigned args;
    uint64_t types;  /* PostgreSQL: of its arguments, 4 bits each for the first 16, mixed beyond */
    void *handle;    /* SQLite: the statement */
    unsigned number; /* PostgreSQL: of its name */
};
struct statements {
    struct statement *buckets[DB_BUCKETS];
    unsigned count;
};
/* NULL: it is not there. */
struct statement *statements_find(struct statements *s, const char *sql, uint64_t types);
/* The new one is in the table, its handle is not made yet. *ret_text: what the database is to read, for mem_free(). */
pd_err statements_add(struct statements *s, const char *sql, uint64_t types, bool postgres, struct statement **ret,
                      struct buf *text);
void statements_drop(struct statements *s, struct statement *st);
/* Calls end for each, and frees them. */
void statements_clear(struct statements *s, void (*end)(struct statement *st));

/* ---- schema.c ---- */
/* Brings the tables up to this program's version, or to rules.only_to; without rules.migrate only looks. */
pd_err schema_migrate(struct db *d, char *why, size_t why_bytes) PD_CHECKED;
unsigned schema_newest(void);

#endif
