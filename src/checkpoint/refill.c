/* An object store that has lost what it had (another bucket, an empty folder) is filled again from the database.
 *
 * It is told by the oldest checkpoint that is taken to be there: the store would otherwise go on with what is new, and that needs contents which
 * it does not have any more. */
#include "base/log.h"
#include "checkpoint/checkpoint_priv.h"

struct oldest {
    char id[CHECKPOINT_ID_BYTES], agent[CHECKPOINT_AGENT_BYTES];
    bool found;
    int64_t again; /* that are put there again */
};

static pd_err on_oldest(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct oldest *o = ctx;
    o->found = true;
    text_copy(o->id, sizeof(o->id), columns[0].s);
    text_copy(o->agent, sizeof(o->agent), columns[1].s);
    return PD_OK;
}

static pd_err oldest_job(struct tx *t, void *ctx)
{
    struct oldest *o = ctx;
    o->found = false;
    return TX_RUN(t,
                  "SELECT checkpoint_id, agent_id FROM checkpoints WHERE uploaded = $1 ORDER BY made_ms, "
                  "checkpoint_id LIMIT 1",
                  on_oldest, o, DB_I(1));
}

static pd_err on_same(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)columns;
    (void)n;
    *(bool *)ctx = true;
    return PD_OK;
}

static pd_err refill_job(struct tx *t, void *ctx)
{
    struct oldest *o = ctx;
    bool same = false; /* pruned meanwhile, or another process was quicker */
    o->again = 0;
    pd_err e = TX_RUN(t, "SELECT 1 FROM checkpoints WHERE checkpoint_id = $1 AND uploaded = $2", on_same, &same,
                      DB_S(o->id), DB_I(1));
    if (e || !same)
        return e;
    e = TX_RUN(t, "UPDATE blobs SET uploaded = 0 WHERE uploaded <> $1", NULL, NULL, DB_I(0));
    if (!e)
        e = TX_RUN(t,
                   "INSERT INTO uploads (kind, item, taken_by, taken_ms) SELECT 0, checkpoint_id, '', 0 FROM "
                   "checkpoints WHERE uploaded = $1 ORDER BY made_ms, seq",
                   NULL, NULL, DB_I(1));
    if (!e)
        e = TX_RUN(t, "UPDATE checkpoints SET uploaded = 0 WHERE uploaded = $1", NULL, NULL, DB_I(1));
    o->again = tx_changed(t);
    return e;
}

struct looking {
    const char *key;
    bool found;
};

static pd_err on_object(void *ctx, const struct object_info *i)
{
    struct looking *l = ctx;
    l->found |= strcmp(i->key, l->key) == 0;
    return PD_OK;
}

pd_err refill(struct checkpoints *c)
{
    struct oldest o = {0};
    char key[OBJECT_KEY_MAX + 1];
    struct looking looking = {key, false};
    struct db_job job = {.fn = oldest_job, .ctx = &o, .reads = true};
    pd_err e = db_do_job(c->db, &job);
    if (e || !o.found || !snapshot_key(span_str(o.agent), o.id, key))
        return e;
    e = objects_list(c->objects, key, on_object, &looking);
    if (e || looking.found)
        return e;
    e = db_do(c->db, refill_job, &o);
    if (!e && o.again)
        LOG(NULL, LOG_WARN, "snapshots.lost",
            "checkpoints=%lld missing=%s remedy=\"the object store does not have what it was given (any more): "
            "all of "
            "the database's checkpoints are put there again\"",
            (long long)o.again, o.id);
    return e;
}
