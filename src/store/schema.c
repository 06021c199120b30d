/* The tables, as numbered steps. A step that was ever released is never changed, only followed by another one.
 *
 * To add: an array of statements (SQL of db.h, each text one statement), and its row in `migrations`. A step is one transaction: it is there as a whole or
 * not at all, and several processes that start at once on a PostgreSQL take turns. */
#include "base/clock.h"
#include "store/db_priv.h"

#include <stdio.h>

enum {
    STEP_TIMEOUT_MS = 10 * 60 * 1000
};                               /* of one statement: a large table may get an index; and others are waited for */
#define ADVISORY_LOCK 0x70647265 /* of PostgreSQL, for the steps */

struct migration {
    unsigned number;
    const char *name;
    const char *const *statements; /* ends in NULL */
};

/* ---- 1: what the steps need themselves ---- */
static const char *const meta[] = {
    "CREATE TABLE perdure_schema (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_ms BIGINT NOT NULL)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    NULL,
};

/* ---- 2: checkpoints ---- */
static const char *const checkpoints[] = {
    NULL,
};

/* ---- 3: runs and tasks ---- */
static const char *const runs[] = {
    NULL,
};

static const struct migration migrations[] = {
    {1, "meta", meta},
    {2, "checkpoints", checkpoints},
    {3, "runs", runs},
};
enum { MIGRATIONS = sizeof(migrations) / sizeof(migrations[0]) };

unsigned schema_newest(void)
{
    return migrations[MIGRATIONS - 1].number;
}

/* ---- the runner ---- */

struct step {
    unsigned goal;
    unsigned version; /* found, then reached */
    bool look_only;
};

static pd_err on_number(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(unsigned *)ctx = columns[0].type == DB_INT ? (unsigned)columns[0].n : 0;
    return PD_OK;
}

static pd_err read_version(struct tx *t, unsigned *ret)
{
    unsigned tables = 0;
    *ret = 0;
    pd_err e = TX_RUN(t,
                      "SELECT COUNT(*) FROM {lite:sqlite_master WHERE type = 'table' AND name = $1}"
                      "{pg:pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = $1}",
                      on_number, &tables, DB_S("perdure_schema"));
    if (e || !tables)
        return e;
    return tx_run(t, "SELECT MAX(version) FROM perdure_schema", NULL, 0, on_number, ret);
}

/* The next step after `version`, in the transaction that has read it. */
static pd_err apply(struct tx *t, const struct migration *m)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; !e && m->statements[i]; i++)
        e = tx_run(t, m->statements[i], NULL, 0, NULL, NULL);
    return e ? e
             : TX_RUN(t, "INSERT INTO perdure_schema (version, name, applied_ms) VALUES ($1, $2, $3)", NULL, NULL,
                      DB_I(m->number), DB_S(m->name), DB_I(clock_wall_ms()));
}

static pd_err one_step(struct tx *t, void *ctx)
{
    struct step *s = ctx;
    pd_err e = PD_OK;
    t->timeout_ms = STEP_TIMEOUT_MS;
    if (t->db->backend->postgres)
        e = tx_run(t, "SET LOCAL statement_timeout = '10min'", NULL, 0, NULL, NULL);
    if (!e && t->db->backend->postgres)
        e = TX_RUN(t, "SELECT 1 FROM (SELECT pg_advisory_xact_lock($1)) AS taken", NULL, NULL,
                   DB_I(ADVISORY_LOCK));
    e = e ? e : read_version(t, &s->version);
    if (e || s->look_only || s->version >= s->goal)
        return e;
    const struct migration *m = &migrations[0];
    while (m->number <= s->version)
        m++;
    e = apply(t, m);
    if (!e)
        s->version = m->number;
    return e;
}

pd_err schema_migrate(struct db *d, char *why, size_t why_bytes)
{
    unsigned newest = schema_newest();
    struct step s = {.goal = d->rules.only_to && d->rules.only_to < newest ? d->rules.only_to : newest,
                     .look_only = !d->rules.migrate};
    struct db_job job = {.fn = one_step, .ctx = &s};
    pd_err e;
    do {
        e = d->backend->one(d, &job);
    } while (!e && !s.look_only && s.version < s.goal);
    if (e) {
        char trouble[DB_WHY_BYTES];
        db_trouble(d, trouble, sizeof(trouble));
        snprintf(why, why_bytes, "the tables cannot be brought from version %u to %u: %.300s", s.version, s.goal,
                 trouble[0] ? trouble : pd_err_text(e));
        return e;
    }
    if (s.version > newest)
        snprintf(why, why_bytes,
                 "the database's tables are of a newer perdure (version %u, this one knows %u): use that one",
                 s.version, newest);
    else if (s.version < s.goal)
        snprintf(why, why_bytes,
                 "the database's tables are of an older perdure (version %u, wanted %u): migrate them", s.version,
                 s.goal);
    else
        return PD_OK;
    return PD_UNSUPPORTED;
}
