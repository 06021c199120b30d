#include "base/clock.h"
#include "base/mem.h"
#include "state/folder.h"
#include "store/db_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GROUP_MAX = 256,               /* jobs in one commit */
    WAL_KEPT_BYTES = 16 << 20,     /* of a WAL that was longer */
    PROGRESS_OPS = 10000,          /* steps of a statement between two looks at the clock */
    CHECKED_BYTES_MAX = 256 << 20, /* a larger file is not read whole at each open */
    APPLICATION_ID = 0x70647265,
    FILE_MODE = 0600,
    MEM_HEAD = 16, /* before each block of SQLite's: it wants to know how large they are */
};

/* Prepared at open: ending a transaction needs no memory. */
#define CONTROLS(X)                   \
    X(BEGIN_READ, "BEGIN DEFERRED")   \
    X(BEGIN_WRITE, "BEGIN IMMEDIATE") \
    X(COMMIT, "COMMIT")               \
    X(ROLLBACK, "ROLLBACK")           \
    X(SAVE, "SAVEPOINT job")          \
    X(SAVE_DROP, "RELEASE job")       \
    X(SAVE_ROLLBACK, "ROLLBACK TO job")
enum control {
#define X(name, sql) name,
    CONTROLS(X)
#undef X
        CONTROL_COUNT
};
static const char *const control_sql[] = {
#define X(name, sql) sql,
    CONTROLS(X)
#undef X
};

struct lite {
    struct db *db;
    sqlite3 *c;
    int lock_fd;
    sqlite3_stmt *control[CONTROL_COUNT];
    struct statements statements;
    uint64_t deadline_ms; /* of the statement under way */
    int wal_pages;        /* in the WAL after the last commit */
    int checkpoint_at;    /* pages */
    char path[FOLDER_PATH_MAX];
};

/* ---- memory -------------------------------------------------------------- */

static void *lite_malloc(int n)
{
    char *p = mem_alloc((size_t)n + MEM_HEAD);
    if (!p)
        return NULL;
    memcpy(p, &n, sizeof(n));
    return p + MEM_HEAD;
}

static void lite_free(void *p)
{
    mem_free(p ? (char *)p - MEM_HEAD : NULL);
}

static void *lite_realloc(void *old, int n)
{
    char *p = mem_realloc(old ? (char *)old - MEM_HEAD : NULL, (size_t)n + MEM_HEAD);
    if (!p)
        return NULL;
    memcpy(p, &n, sizeof(n));
    return p + MEM_HEAD;
}

static int lite_size(void *p)
{
    int n = 0;
    if (p)
        memcpy(&n, (char *)p - MEM_HEAD, sizeof(n));
    return n;
}

static int lite_roundup(int n)
{
    return (n + 7) & ~7;
}

static int lite_init(void *ctx)
{
    (void)ctx;
    return SQLITE_OK;
}

static void lite_shutdown(void *ctx)
{
    (void)ctx;
}

static void set_up_process(void)
{
    static const sqlite3_mem_methods methods = {lite_malloc,  lite_free, lite_realloc,  lite_size,
                                                lite_roundup, lite_init, lite_shutdown, NULL};
    sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1); /* a folder for temporary files may not be there */
    sqlite3_initialize();
}

/* ---- errors -------------------------------------------------------------- */

static pd_err failed_io(sqlite3 *c, int rc)
{
    int no = sqlite3_system_errno(c);
    if (rc == SQLITE_IOERR_NOMEM)
        return PD_NOMEM;
    return no == ENOSPC || no == EDQUOT ? PD_NOSPACE : PD_IO;
}

static pd_err constraint(int rc)
{
    return rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_ROWID
               ? PD_EXISTS
               : PD_INVALID;
}

static pd_err error_of(sqlite3 *c, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return PD_OK;
    case SQLITE_NOMEM:
        return PD_NOMEM;
    case SQLITE_TOOBIG:
        return PD_TOOBIG;
    case SQLITE_FULL:
        return PD_NOSPACE;
    case SQLITE_INTERRUPT:
        return PD_TIMEOUT;
    case SQLITE_CONSTRAINT:
        return constraint(rc);
    case SQLITE_IOERR:
        return failed_io(c, rc);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        return PD_IO;
    default:
        return PD_INVALID;
    }
}

static void damaged(const struct lite *l, const char *how, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes,
             "%s is damaged (%.100s): move it and %s-wal away and start again: checkpoints are restored from the "
             "bucket or "
             "snapshot folder (perdure checkpoints restore), tasks begin anew",
             l->path, how, l->path);
}

/* A sentence with what to do. */
static void explain(const struct lite *l, int rc, char *why, size_t why_bytes)
{
    const char *text = l->c ? sqlite3_errmsg(l->c) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        damaged(l, text, why, why_bytes);
        return;
    case SQLITE_BUSY:
        snprintf(why, why_bytes, "another program has %s open: end it", l->path);
        return;
    case SQLITE_FULL:
        snprintf(why, why_bytes, "the disk of %s is full: make room", l->path);
        return;
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        snprintf(why, why_bytes, "%s cannot be opened for writing: check its owner and rights, and its folder's",
                 l->path);
        return;
    default:
        snprintf(why, why_bytes, "%s: %s", l->path, text);
    }
}

static pd_err failed(struct lite *l, int rc)
{
    pd_err e = error_of(l->c, rc);
    char why[DB_WHY_BYTES];
    explain(l, rc, why, sizeof(why));
    if (e && e != PD_EXISTS)
        db_say(l->db, "%s", why);
    return e;
}

/* ---- statements ---------------------------------------------------------- */

static int on_progress(void *ctx)
{
    struct lite *l = ctx;
    return clock_mono_ms() > l->deadline_ms;
}

static pd_err control(struct lite *l, enum control which)
{
    l->deadline_ms = UINT64_MAX;
    int rc = sqlite3_step(l->control[which]);
    pd_err e = failed(l, rc);
    sqlite3_reset(l->control[which]);
    return e;
}

static bool in_transaction(const struct lite *l)
{
    return !sqlite3_get_autocommit(l->c);
}

static void end_statement(struct statement *st)
{
    sqlite3_finalize(st->handle);
}

static pd_err prepare(struct lite *l, const char *sql, struct statement **ret)
{
    struct statement *st = statements_find(&l->statements, sql, 0);
    if (st) {
        *ret = st;
        return PD_OK;
    }
    if (l->statements.count >= DB_STATEMENTS_MAX)
        statements_clear(&l->statements, end_statement);
    struct buf text;
    buf_init(&text, 0);
    pd_err e = statements_add(&l->statements, sql, 0, false, &st, &text);
    if (!e) {
        struct span s = buf_span(&text);
        sqlite3_stmt *h = NULL;
        const char *rest = NULL;
        int rc = sqlite3_prepare_v3(l->c, s.p, (int)s.n, SQLITE_PREPARE_PERSISTENT, &h, &rest);
        st->handle = h;
        e = failed(l, rc);
        if (!e && (!h || span_trim(span_str(rest)).n))
            e = PD_INVALID; /* no statement, or two */
        if (e) {
            end_statement(st);
            statements_drop(&l->statements, st);
        }
    }
    buf_done(&text);
    if (!e)
        *ret = st;
    return e == PD_SYNTAX ? PD_INVALID : e;
}

static int bind_one(sqlite3_stmt *h, int at, const struct db_value *v)
{
    const char *p = v->s.p ? v->s.p : "";
    switch (v->type) {
    case DB_NULL:
        return sqlite3_bind_null(h, at);
    case DB_INT:
        return sqlite3_bind_int64(h, at, v->n);
    case DB_REAL:
        return sqlite3_bind_double(h, at, v->d);
    case DB_TEXT:
        return sqlite3_bind_text64(h, at, p, v->s.n, SQLITE_STATIC, SQLITE_UTF8);
    case DB_BYTES:
        return sqlite3_bind_blob64(h, at, p, v->s.n, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static pd_err read_column(struct lite *l, sqlite3_stmt *h, int i, struct db_value *v)
{
    *v = (struct db_value){.type = DB_NULL};
    switch (sqlite3_column_type(h, i)) {
    case SQLITE_INTEGER:
        *v = DB_I(sqlite3_column_int64(h, i));
        return PD_OK;
    case SQLITE_FLOAT:
        *v = DB_D(sqlite3_column_double(h, i));
        return PD_OK;
    case SQLITE_TEXT:
    case SQLITE_BLOB:
        v->type = sqlite3_column_type(h, i) == SQLITE_TEXT ? DB_TEXT : DB_BYTES;
        v->s.p = sqlite3_column_blob(h, i); /* of a text too: it is UTF-8, and a NUL behind it is not needed */
        v->s.n = (size_t)sqlite3_column_bytes(h, i);
        return v->s.n && !v->s.p ? failed(l, SQLITE_NOMEM) : PD_OK;
    default:
        return PD_OK;
    }
}

static pd_err give_row(struct tx *t, sqlite3_stmt *h, db_row_fn *fn, void *ctx)
{
    struct db_value v[SQL_ARGS_MAX];
    int n = sqlite3_column_count(h);
    if (n > SQL_ARGS_MAX)
        return t->lost = PD_INVALID;
    for (int i = 0; i < n; i++) {
        pd_err e = read_column(t->conn, h, i, &v[i]);
        if (e)
            return t->lost = e;
    }
    return db_give_row(t, fn, ctx, v, (unsigned)n);
}

static pd_err step_all(struct tx *t, sqlite3_stmt *h, db_row_fn *fn, void *ctx)
{
    struct lite *l = t->conn;
    int before = sqlite3_total_changes(l->c), rc;
    l->deadline_ms = clock_mono_ms() + t->timeout_ms;
    while ((rc = sqlite3_step(h)) == SQLITE_ROW) {
        pd_err e = give_row(t, h, fn, ctx);
        if (e)
            return e;
    }
    if (rc != SQLITE_DONE)
        return t->lost = failed(l, rc);
    t->changed = sqlite3_total_changes(l->c) == before ? 0 : sqlite3_changes(l->c);
    return PD_OK;
}

static pd_err lite_run(struct tx *t, const char *sql, const struct db_value *args, unsigned args_count,
                       db_row_fn *fn, void *ctx)
{
    struct lite *l = t->conn;
    struct statement *st = NULL;
    t->changed = 0;
    pd_err e = prepare(l, sql, &st);
    if (e)
        return t->lost = e;
    sqlite3_stmt *h = st->handle;
    if (args_count < st->args || (t->job->reads && !sqlite3_stmt_readonly(h))) {
        db_say(t->db, "arguments are missing, or a job that reads writes: %.200s", sql);
        return t->lost = PD_INVALID;
    }
    for (unsigned i = 0; i < st->args && !e; i++) {
        int rc = bind_one(h, (int)i + 1, &args[i]);
        e = rc == SQLITE_RANGE ? PD_OK : failed(l, rc);
        t->lost = e;
    }
    e = e ? e : step_all(t, h, fn, ctx);
    sqlite3_reset(h);
    sqlite3_clear_bindings(h);
    return e;
}

/* ---- transactions -------------------------------------------------------- */

/* Whatever state the transaction is in, there is none afterwards. */
static void roll_back(struct lite *l)
{
    char trouble[DB_WHY_BYTES];
    db_trouble(l->db, trouble, sizeof(trouble)); /* the first one is the one to tell */
    if (in_transaction(l) && control(l, ROLLBACK) != PD_OK && trouble[0])
        db_say(l->db, "%s", trouble);
}

/* After a sync of the WAL that failed, this connection is the one that knows which of its frames are not durable: the next commit writes them
 * again, and syncs. To open the file anew would be to believe what the system's cache has of them. */
static pd_err commit(struct lite *l)
{
    pd_err e = control(l, COMMIT);
    if (e)
        roll_back(l);
    return e;
}

static pd_err run_alone(struct lite *l, struct db_job *job)
{
    struct tx t = {.db = l->db, .conn = l, .job = job, .timeout_ms = l->db->rules.timeout_ms};
    pd_err e = control(l, job->reads ? BEGIN_READ : BEGIN_WRITE);
    if (e)
        return e;
    e = db_run_job(&t);
    if (!e)
        e = commit(l);
    else
        roll_back(l);
    if (!e)
        db_well(l->db);
    return e;
}

/* In the group's transaction. False: the transaction is gone, with all that the others wrote. */
static bool run_in_group(struct lite *l, struct db_job *job)
{
    struct tx t = {.db = l->db, .conn = l, .job = job, .timeout_ms = l->db->rules.timeout_ms};
    if (control(l, SAVE))
        return false;
    job->err = db_run_job(&t);
    if (!in_transaction(l)) /* SQLite itself has rolled back: a full disk, no memory, a deadline */
        return false;
    return (!job->err || !control(l, SAVE_ROLLBACK)) && !control(l, SAVE_DROP);
}

static bool run_group(struct lite *l, struct list *jobs)
{
    if (control(l, BEGIN_WRITE))
        return false;
    LIST_EACH(node, jobs)
    if (!run_in_group(l, LIST_OF(node, struct db_job, node))) {
        roll_back(l);
        return false;
    }
    if (commit(l))
        return false;
    db_well(l->db);
    return true;
}

static unsigned finish_all(struct lite *l, struct list *jobs, bool alone)
{
    struct list *node;
    unsigned n = 0;
    for (; (node = list_first(jobs)) != NULL; n++) {
        struct db_job *job = LIST_OF(node, struct db_job, node);
        list_remove(node);
        bool reads = job->reads;
        pd_err e = alone ? run_alone(l, job) : job->err;
        if (alone && !reads && !e)
            db_count(l->db, 1, 0, 0);
        db_finish(l->db, job, e);
    }
    return n;
}

static void run_writes(struct lite *l, struct list *jobs)
{
    if (list_empty(jobs))
        return;
    bool one = jobs->next->next == jobs;
    if (!one && run_group(l, jobs)) {
        db_count(l->db, 1, 0, 0);
        finish_all(l, jobs, false);
        return;
    }
    if (!one)
        db_log(l->db, PD_IO, true);         /* also when each then succeeds by itself */
    unsigned n = finish_all(l, jobs, true); /* each by itself: what one cannot do, others may */
    if (!one)
        db_count(l->db, 0, n, 0);
}

/* ---- the WAL ------------------------------------------------------------- */

static int on_wal(void *ctx, sqlite3 *c, const char *name, int pages)
{
    (void)c;
    (void)name;
    struct lite *l = ctx;
    l->wal_pages = pages;
    return SQLITE_OK;
}

/* After the answers, so that nobody waits for it but who comes next. */
static void checkpoint(struct lite *l)
{
    if (l->wal_pages < l->checkpoint_at)
        return;
    l->deadline_ms = UINT64_MAX;
    int rc = sqlite3_wal_checkpoint_v2(l->c, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    int most = (int)l->db->rules.wal_pages;
    l->checkpoint_at = rc == SQLITE_OK ? most : l->wal_pages + most;
    if (rc == SQLITE_OK)
        l->wal_pages = 0;
    else
        (void)failed(l, rc);
}

static void lite_serve(struct db *d, unsigned thread)
{
    (void)thread;
    struct lite *l = d->side;
    struct list jobs, reads;
    list_init(&jobs);
    list_init(&reads);
    while (db_take(d, GROUP_MAX, &jobs)) {
        LIST_EACH(node, &jobs)
        if (LIST_OF(node, struct db_job, node)->reads) {
            list_remove(node);
            list_push(&reads, node);
        }
        finish_all(l, &reads, true);
        run_writes(l, &jobs);
        checkpoint(l);
    }
}

/* ---- opening ------------------------------------------------------------- */

static pd_err make_parent(const char *path)
{
    char folder[FOLDER_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return PD_OK;
    snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
    return folder_make(folder);
}

static pd_err hold(struct lite *l, char *why, size_t why_bytes)
{
    char path[FOLDER_PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s.lock", l->path);
    if (make_parent(l->path) == PD_OK)
        l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (l->lock_fd < 0) {
        pd_err e = errno == EMFILE || errno == ENFILE ? PD_NOFD : errno == ENOSPC ? PD_NOSPACE : PD_IO;
        snprintf(why, why_bytes, "%s cannot be made: %s", path, strerror(errno));
        return e;
    }
    if (flock(l->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return PD_OK;
    snprintf(why, why_bytes,
             errno == EWOULDBLOCK ? "another perdure has %s open: end it, or give this one another state folder"
                                  : "%s cannot be locked: it needs a folder on a local disk",
             l->path);
    return errno == EWOULDBLOCK ? PD_EXISTS : PD_IO;
}

/* A new file is made here, for its owner alone. One that is gone while its WAL is there would be begun anew, and the WAL thrown away. */
static pd_err make_file(struct lite *l, char *why, size_t why_bytes)
{
    char wal[FOLDER_PATH_MAX + 8];
    struct stat st, wal_st;
    snprintf(wal, sizeof(wal), "%s-wal", l->path);
    bool is_there = stat(l->path, &st) == 0 && st.st_size > 0;
    if (!is_there && stat(wal, &wal_st) == 0 && wal_st.st_size > 0) {
        snprintf(
            why, why_bytes,
            "%s is missing or empty, but %s is there: put the file back, or move the latter away to begin anew "
            "(checkpoints are restored from the bucket: perdure checkpoints restore)",
            l->path, wal);
        return PD_INVALID;
    }
    int fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        pd_err e = errno == ENOSPC ? PD_NOSPACE : errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
        snprintf(why, why_bytes, "%s cannot be opened: %s", l->path, strerror(errno));
        return e;
    }
    close(fd);
    return PD_OK;
}

/* Of an opening: what cannot be read is PD_INVALID, who is there already PD_EXISTS. */
static pd_err open_failed(struct lite *l, int rc, char *why, size_t why_bytes)
{
    int low = rc & 0xff;
    explain(l, rc, why, why_bytes);
    if (low == SQLITE_CORRUPT || low == SQLITE_NOTADB)
        return PD_INVALID;
    return low == SQLITE_BUSY ? PD_EXISTS : error_of(l->c, rc);
}

/* The number, or the first text, that a pragma or a SELECT answers. */
struct answer {
    sqlite3_int64 n;
    char text[200];
};

static int ask(struct lite *l, const char *sql, struct answer *ret)
{
    sqlite3_stmt *h = NULL;
    *ret = (struct answer){0};
    int rc = sqlite3_prepare_v2(l->c, sql, -1, &h, NULL);
    if (rc != SQLITE_OK)
        return rc;
    if (sqlite3_step(h) == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(h, 0);
        ret->n = sqlite3_column_int64(h, 0);
        snprintf(ret->text, sizeof(ret->text), "%s", text ? (const char *)text : "");
    }
    return sqlite3_finalize(h);
}

static int set_up(struct lite *l)
{
    static const char settings[] =
        "PRAGMA locking_mode=EXCLUSIVE;" /* no second connection, of no program, and no shared memory */
        "PRAGMA synchronous=FULL;"
        "PRAGMA fullfsync=1;"
        "PRAGMA checkpoint_fullfsync=1;"
        "PRAGMA temp_store=MEMORY;"
        "PRAGMA foreign_keys=ON;"
        "PRAGMA cell_size_check=ON;"
        "PRAGMA trusted_schema=OFF;"
        "PRAGMA mmap_size=0;";
    char limit[64];
    snprintf(limit, sizeof(limit), "PRAGMA journal_size_limit=%d", (int)WAL_KEPT_BYTES);
    sqlite3_extended_result_codes(l->c, 1);
    sqlite3_db_config(l->c, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(l->c, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(l->c, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_wal_autocheckpoint(l->c, 0);
    sqlite3_wal_hook(l->c, on_wal, l);
    sqlite3_progress_handler(l->c, PROGRESS_OPS, on_progress, l);
    int rc = sqlite3_exec(l->c, settings, NULL, NULL, NULL);
    return rc ? rc : sqlite3_exec(l->c, limit, NULL, NULL, NULL);
}

/* A read that fails is told in the same way as damage, but nothing is to be moved away for it. */
static pd_err not_whole(const struct lite *l, const char *said, char *why, size_t why_bytes)
{
    bool unread = strstr(said, "error code=") || strstr(said, "get page");
    if (unread)
        snprintf(why, why_bytes, "%s cannot be read (%s): is its disk failing? start again when it can be read",
                 l->path, said);
    else
        damaged(l, said, why, why_bytes);
    return unread ? PD_IO : PD_INVALID;
}

/* Whose file it is, and whether it is whole. */
static pd_err look(struct lite *l, char *why, size_t why_bytes)
{
    struct answer a, mode;
    int rc = ask(l, "PRAGMA application_id", &a);
    sqlite3_int64 id = a.n;
    rc = rc ? rc : ask(l, "SELECT COUNT(*) FROM sqlite_master", &a);
    if (!rc && id != APPLICATION_ID && (id != 0 || a.n != 0)) {
        snprintf(why, why_bytes, "%s is the database of another program: name another file", l->path);
        return PD_INVALID;
    }
    rc = rc ? rc : ask(l, "PRAGMA journal_mode=WAL", &mode);
    if (!rc && strcmp(mode.text, "wal") != 0) {
        snprintf(why, why_bytes, "%s cannot have a write-ahead log: it needs a folder on a local disk", l->path);
        return PD_UNSUPPORTED;
    }
    char set[64];
    snprintf(set, sizeof(set), "PRAGMA application_id=%d", (int)APPLICATION_ID);
    if (!rc && id == 0)
        rc = sqlite3_exec(l->c, set, NULL, NULL, NULL);
    struct stat st;
    if (!rc && stat(l->path, &st) == 0 && st.st_size <= CHECKED_BYTES_MAX) {
        rc = ask(l, "PRAGMA quick_check(1)", &a);
        if (!rc && strcmp(a.text, "ok") != 0)
            return not_whole(l, a.text, why, why_bytes);
    }
    return rc ? open_failed(l, rc, why, why_bytes) : PD_OK;
}

static void disconnect(struct lite *l)
{
    statements_clear(&l->statements, end_statement);
    for (unsigned i = 0; i < CONTROL_COUNT; i++)
        sqlite3_finalize(l->control[i]);
    memset(l->control, 0, sizeof(l->control));
    l->deadline_ms = UINT64_MAX;
    sqlite3_close(l->c); /* checkpoints, and removes the WAL */
    l->c = NULL;
}

static pd_err connect_file(struct lite *l, char *why, size_t why_bytes)
{
    int rc = sqlite3_open_v2(l->path, &l->c, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc || (rc = set_up(l)) != SQLITE_OK)
        return open_failed(l, rc, why, why_bytes);
    pd_err e = look(l, why, why_bytes);
    for (unsigned i = 0; !e && i < CONTROL_COUNT; i++) {
        rc = sqlite3_prepare_v3(l->c, control_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &l->control[i], NULL);
        e = rc ? open_failed(l, rc, why, why_bytes) : PD_OK;
    }
    return e;
}

static pd_err lite_open(struct db *d, const char *where, char *why, size_t why_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up_process);
    if (!where[0] || strlen(where) >= FOLDER_PATH_MAX) {
        snprintf(why, why_bytes, "the database's path is empty or too long");
        return PD_TOOBIG;
    }
    struct lite *l = mem_zalloc(sizeof(*l));
    if (!l)
        return PD_NOMEM;
    d->side = l;
    l->db = d;
    l->lock_fd = -1;
    l->checkpoint_at = (int)d->rules.wal_pages;
    l->deadline_ms = UINT64_MAX;
    memcpy(l->path, where, strlen(where) + 1);
    pd_err e = hold(l, why, why_bytes);
    e = e ? e : make_file(l, why, why_bytes);
    if (e)
        return e;
    e = connect_file(l, why, why_bytes);
    /* a read that failed once can look like damage: nobody is to move a whole file away for it */
    if (e == PD_INVALID) {
        disconnect(l);
        e = connect_file(l, why, why_bytes);
    }
    if (!e)
        db_count(d, 0, 0, 1);
    return e;
}

/* The pages that looking through the whole file has brought: up to 2 MB that nobody asks for. */
static void lite_settled(struct db *d)
{
    struct lite *l = d->side;
    sqlite3_db_release_memory(l->c);
}

static unsigned lite_threads(const struct db *d)
{
    (void)d;
    return 1;
}

static pd_err lite_one(struct db *d, struct db_job *job)
{
    return run_alone(d->side, job);
}

static void lite_close(struct db *d)
{
    struct lite *l = d->side;
    disconnect(l);
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    mem_free(l);
}

const struct db_backend db_sqlite = {
    .open = lite_open,
    .settled = lite_settled,
    .threads = lite_threads,
    .one = lite_one,
    .serve = lite_serve,
    .close = lite_close,
    .run = lite_run,
};
