/* PostgreSQL. A statement's way: prepare (once for each connection), send, flush, wait until the answer is there or the deadline is.
 *
 *   NONE --connect()--> READY --an error of class 08, 57P, ... or a deadline--> NONE
 *
 * A job's transaction that ends by the connection's loss, a deadlock or a serialization failure sets `again`; the job's
 * statements return PD_CANCELLED until it returns, and it is run anew. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rnd.h"
#include "store/db_priv.h"
#include "store/loaded.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CONNECT_MS = 20 * 1000,        /* for one connection to be made, and at an opening for a server that starts */
    CLOSING_CONNECT_MS = 2 * 1000, /* the same, when all is to end */
    GRACE_MS = 5 * 1000,           /* after the statement's own deadline, which the server keeps */
    PAUSE_FIRST_MS = 100,          /* before the second try to connect; doubled, and a random part taken of it */
    PAUSE_MOST_MS = 5 * 1000,      /* between two tries to connect */
    CONFLICT_PAUSE_MOST_MS = 250,  /* between two runs of a job that others were in the way of */
    SERVER_VERSION_LEAST = 120000, /* 12.0 */
};

/* Types of PostgreSQL's, by their numbers in its catalogue. */
enum pg_type {
    PG_BOOL = 16,
    PG_BYTEA = 17,
    PG_NAME = 19,
    PG_INT8 = 20,
    PG_INT2 = 21,
    PG_INT4 = 23,
    PG_TEXT = 25,
    PG_OID = 26,
    PG_JSON = 114,
    PG_FLOAT4 = 700,
    PG_FLOAT8 = 701,
    PG_UNKNOWN = 705,
    PG_BPCHAR = 1042,
    PG_VARCHAR = 1043,
    PG_NUMERIC = 1700,
    PG_VOID = 2278,
};

enum again { AGAIN_NOT, AGAIN_CONFLICT, AGAIN_CONNECT };

struct conn {
    struct pg *pg;
    PGconn *c; /* NULL: NONE */
    struct statements statements;
    unsigned statement_number;
    bool used;            /* a job was done on it */
    enum again again;     /* why the job under way is to be run again */
    uint64_t limit_ms;    /* monotonic: nothing of the job under way is waited for longer */
    uint64_t next_try_ms; /* to connect; monotonic */
    uint64_t pause_ms;
    struct rnd rnd;
};

struct pg {
    struct db *db;
    const struct pq_library *pq;
    char *url;
    int stop[2]; /* a pipe: its writing end is closed when nobody is to wait for a connection any more */
    unsigned count;
    struct conn conns[];
};

/* ---- waiting ------------------------------------------------------------- */

/* `stoppable`: PD_CLOSED as soon as the database is to be closed. */
static pd_err wait_for(struct conn *c, short events, uint64_t deadline_ms, bool stoppable)
{
    struct pollfd fds[2] = {{.fd = c->pg->pq->PQsocket(c->c), .events = events}, {.fd = c->pg->stop[0]}};
    for (uint64_t now; (now = clock_mono_ms()) < deadline_ms;) {
        uint64_t left = deadline_ms - now;
        int n = poll(fds, stoppable ? 2 : 1, left > INT32_MAX ? INT32_MAX : (int)left);
        if (n > 0)
            return fds[0].revents ? PD_OK : PD_CLOSED;
    }
    return PD_TIMEOUT;
}

static uint64_t at_most(const struct conn *c, uint64_t deadline_ms)
{
    return deadline_ms < c->limit_ms ? deadline_ms : c->limit_ms;
}

static void disconnect(struct conn *c)
{
    statements_clear(&c->statements, NULL);
    if (c->c)
        c->pg->pq->PQfinish(c->c);
    c->c = NULL;
    c->used = false;
}

/* ---- errors -------------------------------------------------------------- */

static bool has_class(const char *state, const char *const *list)
{
    for (; *list; list++)
        if (strncmp(state, *list, strlen(*list)) == 0)
            return true;
    return false;
}

/* Ours to repeat on another connection: it was lost, the server ends or may not write any more. */
static bool is_lost(const char *state, bool reads)
{
    static const char *const lost[] = {"08", "57P", "25P03", NULL};
    return (has_class(state, lost) && strcmp(state, "08P01") != 0) || (!reads && strcmp(state, "25006") == 0);
}

/* What was prepared is not there any more, or its tables have changed: a mistake of ours on a new connection. */
static bool is_stale(const char *state)
{
    static const char *const stale[] = {"26000", "0A000", NULL};
    return has_class(state, stale);
}

static const struct {
    const char *state; /* how it begins */
    pd_err e;
} states[] = {
    {"23505", PD_EXISTS}, {"53100", PD_NOSPACE}, {"53200", PD_NOMEM}, {"57014", PD_TIMEOUT}, {"55P03", PD_TIMEOUT},
    {"54", PD_TOOBIG},    {"53", PD_IO},         {"58", PD_IO},       {"XX", PD_IO},         {"F0", PD_IO},
};

static pd_err error_of(struct conn *c, const char *state, bool reads)
{
    static const char *const conflicts[] = {"40001", "40P01", "40003", NULL};
    if (has_class(state, conflicts)) {
        c->again = AGAIN_CONFLICT;
        return PD_CANCELLED;
    }
    if (is_lost(state, reads) || (c->used && is_stale(state))) {
        c->again = AGAIN_CONNECT;
        return PD_CANCELLED;
    }
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0)
            return states[i].e;
    return PD_INVALID;
}

static pd_err connection_lost(struct conn *c, const char *what)
{
    const char *said = c->c ? c->pg->pq->PQerrorMessage(c->c) : "";
    db_say(c->pg->db, "PostgreSQL: %s%s%s", what, said[0] ? ": " : "", said);
    db_lost(c->pg->db);
    c->again = AGAIN_CONNECT;
    return PD_CANCELLED;
}

/* Of a result that is an error. Only its first line is told: the details have values in them. */
static pd_err result_failed(struct conn *c, const PGresult *r, bool reads)
{
    const struct pq_library *pq = c->pg->pq;
    const char *state = pq->PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *text = pq->PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (!state || pq->PQstatus(c->c) == CONNECTION_BAD)
        return connection_lost(c, "the connection was lost");
    pd_err e = error_of(c, state, reads);
    if (e != PD_EXISTS)
        db_say(c->pg->db, "PostgreSQL: %s (%s)", text ? text : "an error", state);
    return e;
}

/* ---- one exchange -------------------------------------------------------- */

static pd_err flush(struct conn *c, uint64_t deadline_ms)
{
    const struct pq_library *pq = c->pg->pq;
    int left;
    while ((left = pq->PQflush(c->c)) == 1) {
        if (wait_for(c, POLLIN | POLLOUT, deadline_ms, false))
            return connection_lost(c, "the server takes nothing");
        if (!pq->PQconsumeInput(c->c))
            return connection_lost(c, "the connection was lost");
    }
    return left == 0 ? PD_OK : connection_lost(c, "the connection was lost");
}

/* The answer to what was sent: the last result that has one, or the first that is an error. NULL: it never came. */
static PGresult *collect(struct conn *c, uint64_t deadline_ms)
{
    const struct pq_library *pq = c->pg->pq;
    PGresult *kept = NULL;
    bool failed = false;
    for (;;) {
        while (pq->PQisBusy(c->c)) {
            if (wait_for(c, POLLIN, deadline_ms, false)) {
                (void)connection_lost(c, "no answer came in time");
                pq->PQclear(kept);
                return NULL;
            }
            if (!pq->PQconsumeInput(c->c))
                break; /* PQgetResult() says so */
        }
        PGresult *r = pq->PQgetResult(c->c);
        if (!r)
            return kept;
        if (failed) {
            pq->PQclear(r);
            continue;
        }
        pq->PQclear(kept);
        kept = r;
        ExecStatusType s = pq->PQresultStatus(r);
        failed = s != PGRES_COMMAND_OK && s != PGRES_TUPLES_OK && s != PGRES_EMPTY_QUERY;
    }
}

/* `sent`: what PQsend...() said. *ret is for PQclear(). */
static pd_err exchange(struct conn *c, int sent, uint64_t timeout_ms, bool reads, PGresult **ret)
{
    const struct pq_library *pq = c->pg->pq;
    uint64_t deadline = at_most(c, clock_mono_ms() + timeout_ms + GRACE_MS);
    *ret = NULL;
    if (!sent)
        return connection_lost(c, "the connection was lost");
    pd_err e = flush(c, deadline);
    if (e)
        return e;
    PGresult *r = collect(c, deadline);
    if (!r)
        return c->again ? PD_CANCELLED : connection_lost(c, "no answer came");
    ExecStatusType s = pq->PQresultStatus(r);
    if (s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK) {
        *ret = r;
        return PD_OK;
    }
    e = s == PGRES_FATAL_ERROR || s == PGRES_NONFATAL_ERROR ? result_failed(c, r, reads) : PD_INVALID;
    pq->PQclear(r);
    return e;
}

static pd_err command(struct conn *c, const char *sql)
{
    const struct pq_library *pq = c->pg->pq;
    PGresult *r;
    pd_err e = exchange(c, pq->PQsendQuery(c->c, sql), c->pg->db->rules.timeout_ms, false, &r);
    pq->PQclear(r);
    return e;
}

/* ---- connecting ---------------------------------------------------------- */

static void no_notice(void *ctx, const char *message)
{
    (void)ctx;
    (void)message;
}

static pd_err shake_hands(struct conn *c)
{
    const struct pq_library *pq = c->pg->pq;
    bool closing = db_closing(c->pg->db);
    uint64_t deadline = at_most(c, clock_mono_ms() + (closing ? CLOSING_CONNECT_MS : CONNECT_MS));
    PostgresPollingStatusType s = PGRES_POLLING_WRITING;
    if (pq->PQstatus(c->c) == CONNECTION_BAD)
        return PD_CONNECT;
    while (s != PGRES_POLLING_OK) {
        if (s == PGRES_POLLING_FAILED)
            return PD_CONNECT;
        pd_err e = wait_for(c, s == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, !closing);
        if (e == PD_CLOSED) {
            closing = true;
            deadline = at_most(c, clock_mono_ms() + CLOSING_CONNECT_MS);
        } else if (e) {
            return e;
        } else {
            s = pq->PQconnectPoll(c->c);
        }
    }
    return PD_OK;
}

static pd_err set_up(struct conn *c)
{
    const struct db_rules *r = &c->pg->db->rules;
    char sql[600];
    snprintf(
        sql, sizeof(sql),
        "SET statement_timeout = %llu; SET idle_in_transaction_session_timeout = %llu; "
        "SET client_min_messages = warning; SET default_transaction_isolation = 'read committed'; "
        "SET timezone = 'UTC'; SET standard_conforming_strings = on; "
        /* what is told done is on the disk, whatever the server's default says */
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        (unsigned long long)r->timeout_ms, (unsigned long long)(r->timeout_ms + GRACE_MS));
    return command(c, sql);
}

/* tcp_user_timeout is also how long a host that says nothing is waited for before the next one of several.
 * What stands in the URL wins over what stands here. */
static PGconn *begin(struct pg *pg)
{
    static const char *const names[] = {"application_name",
                                        "client_encoding",
                                        "connect_timeout",
                                        "keepalives_idle",
                                        "keepalives_interval",
                                        "keepalives_count",
                                        "tcp_user_timeout",
                                        "dbname",
                                        NULL};
    const char *const values[] = {"perdure", "UTF8", "10", "30", "10", "3", "8000", pg->url, NULL};
    return pg->pq->PQconnectStartParams(names, values, 1);
}

static pd_err connect_now(struct conn *c)
{
    const struct pq_library *pq = c->pg->pq;
    struct db *d = c->pg->db;
    disconnect(c);
    c->c = begin(c->pg);
    if (!c->c)
        return PD_NOMEM;
    pq->PQsetNoticeProcessor(c->c, no_notice, NULL);
    pd_err e = shake_hands(c);
    if (!e && pq->PQserverVersion(c->c) < SERVER_VERSION_LEAST) {
        db_say(d, "the PostgreSQL server is too old: at least 12 is needed");
        e = PD_UNSUPPORTED;
    } else if (!e) {
        e = pq->PQsetnonblocking(c->c, 1) == 0 ? set_up(c) : PD_NOMEM;
        e = e == PD_CANCELLED ? PD_CONNECT : e;
        c->again = AGAIN_NOT;
    } else {
        const char *said = pq->PQerrorMessage(c->c);
        db_say(d, "PostgreSQL: %s", e == PD_TIMEOUT || !said[0] ? "no answer came in time" : said);
        db_lost(d);
        e = PD_CONNECT;
    }
    if (e)
        disconnect(c);
    else
        db_count(d, 0, 0, 1);
    return e;
}

/* With pauses between the tries, the first at once. PD_CONNECT: not by `until_ms`, or not before the end. */
static pd_err connect_by(struct conn *c, uint64_t until_ms)
{
    struct db *d = c->pg->db;
    for (;;) {
        uint64_t now = clock_mono_ms();
        if (now < c->next_try_ms && (c->next_try_ms > until_ms || db_pause(d, c->next_try_ms)))
            return PD_CONNECT;
        pd_err e = connect_now(c);
        if (e != PD_CONNECT && e != PD_NOMEM) {
            c->pause_ms = c->next_try_ms = 0;
            return e;
        }
        c->pause_ms = c->pause_ms ? 2 * c->pause_ms : PAUSE_FIRST_MS;
        if (c->pause_ms > PAUSE_MOST_MS)
            c->pause_ms = PAUSE_MOST_MS;
        c->next_try_ms = clock_mono_ms() + c->pause_ms / 2 + rnd_below(&c->rnd, c->pause_ms / 2 + 1);
    }
}

/* ---- arguments ----------------------------------------------------------- */

static void put_be64(char *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (char)v;
}

static uint64_t get_be(const char *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

/* As libpq takes them. */
struct arguments {
    char room[SQL_ARGS_MAX][8];
    const char *values[SQL_ARGS_MAX];
    int lengths[SQL_ARGS_MAX], formats[SQL_ARGS_MAX];
    Oid types[SQL_ARGS_MAX];
    uint64_t signature;
};

static pd_err put_argument(struct arguments *a, unsigned i, const struct db_value *v)
{
    static const Oid types[] = {
        [DB_NULL] = 0, [DB_INT] = PG_INT8, [DB_REAL] = PG_FLOAT8, [DB_TEXT] = PG_TEXT, [DB_BYTES] = PG_BYTEA};
    uint64_t bits = (uint64_t)v->n;
    if (v->type == DB_REAL)
        memcpy(&bits, &v->d, sizeof(bits));
    if (v->s.n > INT32_MAX / 2)
        return PD_TOOBIG;
    a->types[i] = types[v->type];
    a->formats[i] = 1;
    a->values[i] = NULL;
    a->lengths[i] = 0;
    a->signature = a->signature * 5 + (uint64_t)v->type;
    if (v->type == DB_INT || v->type == DB_REAL) {
        put_be64(a->room[i], bits);
        a->values[i] = a->room[i];
        a->lengths[i] = 8;
    } else if (v->type != DB_NULL) {
        a->values[i] = v->s.p ? v->s.p : "";
        a->lengths[i] = (int)v->s.n;
    }
    return PD_OK;
}

/* ---- results ------------------------------------------------------------- */

enum { NUMERIC_HEAD = 8, NUMERIC_NEGATIVE = 0x4000, NUMERIC_BASE = 10000 };

/* PostgreSQL's SUM of a BIGINT is a NUMERIC: digits of base 10,000. Whole ones are DB_INT, others DB_REAL. */
static bool read_numeric(const char *p, int n, struct db_value *v)
{
    if (n < NUMERIC_HEAD)
        return false;
    int digits = (int16_t)get_be(p, 2), weight = (int16_t)get_be(p + 2, 2);
    unsigned sign = (unsigned)get_be(p + 4, 2), scale = (unsigned)get_be(p + 6, 2);
    if (digits < 0 || n < NUMERIC_HEAD + 2 * digits || (sign != 0 && sign != NUMERIC_NEGATIVE))
        return false;
    int64_t whole = 0; /* negative: it has one more */
    double real = 0;
    bool fits = true;
    for (int i = 0; i <= weight && fits; i++) {
        int64_t digit = i < digits ? (int64_t)get_be(p + NUMERIC_HEAD + 2 * i, 2) : 0;
        fits =
            !__builtin_mul_overflow(whole, NUMERIC_BASE, &whole) && !__builtin_sub_overflow(whole, digit, &whole);
    }
    for (int i = 0; i < digits; i++)
        real = real * NUMERIC_BASE + (double)get_be(p + NUMERIC_HEAD + 2 * i, 2);
    for (int i = weight; i < digits - 1; i++)
        real /= NUMERIC_BASE;
    for (int i = digits - 1; i < weight; i++)
        real *= NUMERIC_BASE;
    if (scale) {
        *v = DB_D(sign ? -real : real);
        return true;
    }
    if (!fits || (!sign && __builtin_mul_overflow(whole, -1, &whole)))
        return false;
    *v = DB_I(whole);
    return true;
}

static double real_of(const char *p, int n)
{
    uint64_t bits = get_be(p, n);
    double d = 0;
    float f = 0;
    uint32_t half = (uint32_t)bits;
    if (n == 8) {
        memcpy(&d, &bits, sizeof(d));
        return d;
    }
    memcpy(&f, &half, sizeof(f));
    return (double)f;
}

/* False: a type that db.h does not have. */
static bool read_value(enum pg_type type, const char *p, int n, struct db_value *v)
{
    *v = (struct db_value){.type = DB_NULL};
    switch (type) {
    case PG_BOOL:
        *v = DB_I(get_be(p, 1));
        return n == 1;
    case PG_INT2:
        *v = DB_I((int16_t)get_be(p, 2));
        return n == 2;
    case PG_INT4:
        *v = DB_I((int32_t)get_be(p, 4));
        return n == 4;
    case PG_OID:
        *v = DB_I(get_be(p, 4));
        return n == 4;
    case PG_INT8:
        *v = DB_I(get_be(p, 8));
        return n == 8;
    case PG_FLOAT4:
    case PG_FLOAT8:
        *v = DB_D(real_of(p, n));
        return n == (type == PG_FLOAT8 ? 8 : 4);
    case PG_NUMERIC:
        return read_numeric(p, n, v);
    case PG_BYTEA:
        *v = DB_B(span_of(p, (size_t)n));
        return true;
    case PG_NAME:
    case PG_TEXT:
    case PG_JSON:
    case PG_UNKNOWN:
    case PG_BPCHAR:
    case PG_VARCHAR:
        *v = DB_T(span_of(p, (size_t)n));
        return true;
    case PG_VOID:
        return true;
    }
    return false;
}

static pd_err give_rows(struct tx *t, const PGresult *r, db_row_fn *fn, void *ctx)
{
    const struct pq_library *pq = ((struct conn *)t->conn)->pg->pq;
    struct db_value v[SQL_ARGS_MAX];
    int rows = fn ? pq->PQntuples(r) : 0, columns = pq->PQnfields(r);
    if (columns > SQL_ARGS_MAX)
        return t->lost = PD_INVALID;
    for (int row = 0; row < rows; row++) {
        for (int i = 0; i < columns; i++) {
            v[i] = (struct db_value){.type = DB_NULL};
            if (!pq->PQgetisnull(r, row, i) &&
                !read_value((enum pg_type)pq->PQftype(r, i), pq->PQgetvalue(r, row, i), pq->PQgetlength(r, row, i),
                            &v[i])) {
                db_say(t->db, "PostgreSQL: column %d has a type that is not read (%u): CAST it", i + 1,
                       pq->PQftype(r, i));
                return t->lost = PD_INVALID;
            }
        }
        pd_err e = db_give_row(t, fn, ctx, v, (unsigned)columns);
        if (e)
            return e;
    }
    return PD_OK;
}

/* ---- statements ---------------------------------------------------------- */

static void name_of(const struct statement *st, char out[24])
{
    snprintf(out, 24, "perdure_%u", st->number);
}

static pd_err prepare(struct tx *t, const char *sql, const struct arguments *a, unsigned count,
                      struct statement **ret)
{
    struct conn *c = t->conn;
    const struct pq_library *pq = c->pg->pq;
    struct statement *st = statements_find(&c->statements, sql, a->signature);
    pd_err e = PD_OK;
    if (st) {
        *ret = st;
        return st->args <= count ? PD_OK : PD_INVALID;
    }
    if (c->statements.count >= DB_STATEMENTS_MAX) {
        e = command(c, "DEALLOCATE ALL");
        if (e)
            return e;
        statements_clear(&c->statements, NULL);
    }
    struct buf text;
    buf_init(&text, 0);
    e = statements_add(&c->statements, sql, a->signature, true, &st, &text);
    if (!e) {
        char name[24];
        PGresult *r = NULL;
        st->number = ++c->statement_number;
        name_of(st, name);
        e = st->args > count ? PD_INVALID
                             : exchange(c, pq->PQsendPrepare(c->c, name, buf_span(&text).p, (int)count, a->types),
                                        t->timeout_ms, t->job->reads, &r);
        pq->PQclear(r);
        if (e)
            statements_drop(&c->statements, st);
    }
    buf_done(&text);
    *ret = st;
    return e == PD_SYNTAX ? PD_INVALID : e;
}

static int64_t rows_changed(const struct pq_library *pq, PGresult *r)
{
    return strncmp(pq->PQcmdStatus(r), "SELECT", 6) == 0 ? 0 : strtoll(pq->PQcmdTuples(r), NULL, 10);
}

static pd_err pg_run(struct tx *t, const char *sql, const struct db_value *args, unsigned args_count,
                     db_row_fn *fn, void *ctx)
{
    struct conn *c = t->conn;
    const struct pq_library *pq = c->pg->pq;
    struct arguments a = {.signature = args_count};
    struct statement *st = NULL;
    PGresult *r = NULL;
    pd_err e = PD_OK;
    t->changed = 0;
    for (unsigned i = 0; i < args_count && !e; i++)
        e = put_argument(&a, i, &args[i]);
    e = e ? e : prepare(t, sql, &a, args_count, &st);
    if (!e) {
        char name[24];
        name_of(st, name);
        e = exchange(c, pq->PQsendQueryPrepared(c->c, name, (int)args_count, a.values, a.lengths, a.formats, 1),
                     t->timeout_ms, t->job->reads, &r);
    }
    if (e)
        return t->lost = e;
    t->changed = rows_changed(pq, r);
    e = give_rows(t, r, fn, ctx);
    pq->PQclear(r);
    return e;
}

/* ---- jobs ---------------------------------------------------------------- */

static const char *begin_sql(const struct db_job *job)
{
    if (job->reads)
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    return job->serial ? "BEGIN ISOLATION LEVEL SERIALIZABLE" : "BEGIN";
}

/* A COMMIT of a transaction that has failed is answered too, with ROLLBACK. */
static pd_err commit(struct conn *c)
{
    const struct pq_library *pq = c->pg->pq;
    PGresult *r;
    pd_err e = exchange(c, pq->PQsendQuery(c->c, "COMMIT"), c->pg->db->rules.timeout_ms, false, &r);
    if (!e && strcmp(pq->PQcmdStatus(r), "COMMIT") != 0)
        e = PD_INVALID;
    pq->PQclear(r);
    return e;
}

static pd_err attempt(struct conn *c, struct db_job *job)
{
    struct tx t = {.db = c->pg->db, .conn = c, .job = job, .timeout_ms = c->pg->db->rules.timeout_ms};
    c->again = AGAIN_NOT;
    pd_err e = command(c, begin_sql(job));
    if (e)
        return e;
    e = db_run_job(&t);
    if (!e)
        return commit(c);
    enum again why = c->again;
    if (why != AGAIN_CONNECT && command(c, "ROLLBACK") != PD_OK)
        disconnect(c); /* nobody is to go on in it */
    c->again = why;
    return e;
}

/* How long others that were in the way are let go first. */
static void step_aside(struct conn *c, unsigned tries)
{
    uint64_t most = (uint64_t)1 << (tries < 8 ? tries : 8);
    if (most > CONFLICT_PAUSE_MOST_MS)
        most = CONFLICT_PAUSE_MOST_MS;
    db_pause(c->pg->db, clock_mono_ms() + rnd_below(&c->rnd, most + 1));
}

/* Until `until`. */
static pd_err run_by(struct conn *c, struct db_job *job, uint64_t until)
{
    struct db *d = c->pg->db;
    for (unsigned tries = 0;; tries++) {
        pd_err e = c->c ? PD_OK : connect_by(c, until);
        if (e)
            return e == PD_CONNECT ? PD_IO : e;
        if (tries)
            db_count(d, 0, 1, 0);
        e = attempt(c, job);
        if (c->again == AGAIN_CONNECT)
            disconnect(c);
        if (!e && !job->reads)
            db_count(d, 1, 0, 0);
        if (!e) {
            c->used = true;
            db_well(d);
        }
        if (!c->again || !e)
            return e;
        if (clock_mono_ms() >= until)
            return PD_IO;
        if (c->again == AGAIN_CONFLICT)
            step_aside(c, tries);
    }
}

static pd_err run_job(struct conn *c, struct db_job *job)
{
    uint64_t since = job->since_ms ? job->since_ms : clock_mono_ms();
    c->limit_ms = job->limit_ms ? since + job->limit_ms : CLOCK_NEVER;
    pd_err e = run_by(c, job, job->limit_ms ? c->limit_ms : since + c->pg->db->rules.patience_ms);
    c->limit_ms = CLOCK_NEVER;
    return e;
}

static void pg_serve(struct db *d, unsigned thread)
{
    struct pg *pg = d->side;
    struct list jobs;
    list_init(&jobs);
    while (db_take(d, 1, &jobs)) {
        struct db_job *job = LIST_OF(jobs.next, struct db_job, node);
        list_remove(&job->node);
        db_finish(d, job, run_job(&pg->conns[thread], job));
    }
    disconnect(&pg->conns[thread]);
}

static pd_err pg_one(struct db *d, struct db_job *job)
{
    struct pg *pg = d->side;
    return run_job(&pg->conns[0], job);
}

/* ---- opening ------------------------------------------------------------- */

/* libpq's own message about an address that it cannot read repeats it, with the password. */
static pd_err check_url(struct pg *pg, char *why, size_t why_bytes)
{
    char *said = NULL;
    PQconninfoOption *o = pg->pq->PQconninfoParse(pg->url, &said);
    pg->pq->PQfreemem(said);
    pg->pq->PQconninfoFree(o);
    if (o)
        return PD_OK;
    snprintf(why, why_bytes, "the database's address cannot be read: write postgres://USER@HOST:PORT/NAME");
    return PD_INVALID;
}

/* A server that is just starting is waited for; one that is not there is not. */
static pd_err first_connection(struct pg *pg, char *why, size_t why_bytes)
{
    uint64_t until = clock_mono_ms() + CONNECT_MS;
    char trouble[DB_WHY_BYTES];
    pd_err e;
    for (;;) {
        e = connect_now(&pg->conns[0]);
        db_trouble(pg->db, trouble, sizeof(trouble));
        if (!e || clock_mono_ms() >= until ||
            !(strstr(trouble, "starting up") || strstr(trouble, "not yet accepting")))
            break;
        db_pause(pg->db, clock_mono_ms() + PAUSE_FIRST_MS);
    }
    if (e)
        snprintf(why, why_bytes,
                 "%.400s: check the address, that the server runs, and that this user may use the database",
                 trouble);
    return e;
}

static pd_err pg_open(struct db *d, const char *where, char *why, size_t why_bytes)
{
    unsigned n = d->rules.connections;
    struct pg *pg = mem_zalloc(sizeof(*pg) + n * sizeof(pg->conns[0]));
    if (!pg)
        return PD_NOMEM;
    d->side = pg;
    pg->db = d;
    pg->count = n;
    pg->stop[0] = pg->stop[1] = -1;
    for (unsigned i = 0; i < n; i++) {
        pg->conns[i].pg = pg;
        pg->conns[i].limit_ms = CLOCK_NEVER;
        pg->conns[i].rnd.state = rnd_seed();
    }
    pd_err e = loaded_pq(&pg->pq, why, why_bytes);
    if (e)
        return e;
    pg->url = mem_strdup(where);
    if (!pg->url)
        return PD_NOMEM;
    if (pipe2(pg->stop, O_CLOEXEC) != 0)
        return PD_NOFD;
    e = check_url(pg, why, why_bytes);
    return e ? e : first_connection(pg, why, why_bytes);
}

static unsigned pg_threads(const struct db *d)
{
    return ((const struct pg *)d->side)->count;
}

static void pg_stop(struct db *d)
{
    struct pg *pg = d->side;
    if (pg->stop[1] >= 0)
        close(pg->stop[1]);
    pg->stop[1] = -1;
}

static void pg_close(struct db *d)
{
    struct pg *pg = d->side;
    for (unsigned i = 0; i < pg->count; i++)
        disconnect(&pg->conns[i]);
    if (pg->stop[0] >= 0)
        close(pg->stop[0]);
    mem_free(pg->url);
    mem_free(pg);
}

const struct db_backend db_postgres = {
    .postgres = true,
    .open = pg_open,
    .threads = pg_threads,
    .one = pg_one,
    .serve = pg_serve,
    .stop = pg_stop,
    .close = pg_close,
    .run = pg_run,
};
