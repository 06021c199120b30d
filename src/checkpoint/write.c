/* A checkpoint on its way into the tables, in one transaction:
 *
 *   1 is it there? (the job is run again after its commit was lost)
 *   2 checkpoint_agents: its number among the agent's, which orders them; the agent's row is locked from here on
 *   3 its messages: so many are its parent's; contents that are new go into blobs
 *   4 its document, where it is large, into blobs
 *   5 checkpoints: the row
 *   6 uploads: the outbox */
#include "base/clock.h"
#include "base/rnd.h"
#include "checkpoint/checkpoint_priv.h"

#include <stdio.h>

/* ---- contents ---------------------------------------------------------------------------------- */

/* `packed` empty: it is packed when it is new. */
static pd_err put_content(struct tx *t, struct made *m, const char *name, struct span plain, struct span packed)
{
    struct span key = span_of(name, NAME_BYTES);
    pd_err e = TX_RUN(t, "UPDATE blobs SET used_ms = $2 WHERE name = $1", NULL, NULL, DB_B(key), DB_I(m->made_ms));
    if (e || tx_changed(t))
        return e;
    struct buf made = {0};
    if (!packed.n) {
        e = packer_pack(m->packer, plain, &made);
        packed = buf_span(&made);
    }
    if (!e)
        e = TX_RUN(t,
                   "INSERT INTO blobs (name, stored, bytes, used_ms, uploaded) VALUES ($1, $2, $3, $4, 0) "
                   "ON CONFLICT (name) DO UPDATE SET used_ms = EXCLUDED.used_ms",
                   NULL, NULL, DB_B(key), DB_B(packed), DB_I(plain.n), DB_I(m->made_ms));
    m->stored_bytes += (int64_t)packed.n;
    buf_done(&made);
    return e;
}

/* ---- a conversation ------------------------------------------------------------------------------ */

struct link {
    struct buf *names;
    int64_t links;
    pd_err err;
    bool first;
};

/* From the one that has all names to the checkpoint itself: each tells how many of its parent's it keeps, and what comes behind them. */
static pd_err on_link(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct link *l = ctx;
    size_t kept = (size_t)columns[0].n * NAME_BYTES;
    l->first = true;
    if (columns[0].n < 0 || columns[1].s.n % NAME_BYTES || kept > buf_size(l->names))
        l->err = PD_INVALID; /* the transaction goes on */
    if (l->err)
        return PD_OK;
    l->names->tail = l->names->head + kept;
    l->links = columns[2].n;
    return buf_add(l->names, columns[1].s);
}

pd_err names_load(struct tx *t, const char *id, struct buf *ret, int64_t *ret_links)
{
    struct link l = {.names = ret};
    buf_clear(ret);
    /* The oldest first: it keeps nothing. */
    pd_err e =
        TX_RUN(t,
               "WITH RECURSIVE chain (kept, names, links, parent, depth) AS ("
               "SELECT kept, names, links, parent, 0 FROM checkpoints WHERE checkpoint_id = $1 UNION ALL "
               "SELECT c.kept, c.names, c.links, c.parent, chain.depth + 1 FROM chain "
               "JOIN checkpoints c ON c.checkpoint_id = chain.parent WHERE chain.kept > 0 AND chain.depth < 1000) "
               "SELECT kept, names, links FROM chain ORDER BY depth DESC",
               on_link, &l, DB_S(id));
    *ret_links = l.links;
    if (!e && !l.first)
        e = PD_NOTFOUND;
    return e ? e : l.err;
}

static size_t common(struct span a, struct span b)
{
    size_t n = 0;
    while ((n + 1) * NAME_BYTES <= a.n && (n + 1) * NAME_BYTES <= b.n &&
           memcmp(a.p + n * NAME_BYTES, b.p + n * NAME_BYTES, NAME_BYTES) == 0)
        n++;
    return n;
}

struct chain {
    char parent[CHECKPOINT_ID_BYTES]; /* empty: none */
    size_t kept;
    int64_t links;
};

/* What of the messages its parent has. */
static pd_err find_parent(struct tx *t, const struct made *m, struct chain *c)
{
    struct buf loaded = {.limit_bytes = (size_t)CHECKPOINT_MESSAGES_MAX * NAME_BYTES};
    struct span names = m->before_names;
    int64_t links = m->before_links;
    pd_err e = PD_OK;
    if (!span_is(m->before_id, c->parent)) {
        e = names_load(t, c->parent, &loaded, &links);
        names = buf_span(&loaded);
    }
    if (!e && links + 1 < CHECKPOINT_WHOLE_EVERY)
        c->kept = common(names, buf_span(&m->names));
    c->links = c->kept ? links + 1 : 0;
    if (!c->kept)
        c->parent[0] = '\0';
    buf_done(&loaded);
    if (e == PD_NOTFOUND || e == PD_INVALID) { /* it is gone, or damaged: this one is whole */
        c->kept = 0;
        c->parent[0] = '\0';
        e = PD_OK;
    }
    return e;
}

static pd_err put_messages(struct tx *t, struct made *m, struct chain *c)
{
    pd_err e = c->parent[0] ? find_parent(t, m, c) : PD_OK;
    for (size_t i = c->kept; i < m->cp.messages_count && !e; i++)
        e = put_content(t, m, buf_span(&m->names).p + i * NAME_BYTES, m->cp.messages[i], SPAN_NONE);
    return e;
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static pd_err on_hash(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct buf *out = ctx;
    return buf_add(out, columns[0].s);
}

/* PD_OK: it is not there; PD_CANCELLED: it is; PD_EXISTS: another is. */
static pd_err look(struct tx *t, const struct made *m, const char *hash)
{
    struct buf found = {0};
    pd_err e = TX_RUN(t, "SELECT sha256 FROM checkpoints WHERE checkpoint_id = $1", on_hash, &found, DB_S(m->id));
    if (!e && buf_size(&found))
        e = span_eq(buf_span(&found), span_of(hash, NAME_BYTES)) ? PD_CANCELLED : PD_EXISTS;
    buf_done(&found);
    return e;
}

static pd_err on_newest(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct chain *c = ctx;
    if (!c->parent[0])
        text_copy(c->parent, sizeof(c->parent), columns[0].s);
    return PD_OK;
}

static pd_err on_seq(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(int64_t *)ctx = columns[0].n;
    return PD_OK;
}

static pd_err take_number(struct tx *t, const struct made *m, struct chain *c, int64_t *ret)
{
    struct rnd rnd = {rnd_seed()};
    char line[LINE_BYTES];
    snprintf(line, sizeof(line), "%016llx", (unsigned long long)rnd_next(&rnd));
    if (span_eq(agent_of_id(m->cp.parent), m->cp.agent)) /* another agent's may be pruned meanwhile */
        text_copy(c->parent, sizeof(c->parent), m->cp.parent);
    pd_err e = TX_RUN(t, "SELECT newest FROM checkpoint_agents WHERE agent_id = $1 {pg:FOR UPDATE}", on_newest, c,
                      DB_T(m->cp.agent));
    if (!e)
        e = TX_RUN(
            t,
            "INSERT INTO checkpoint_agents (agent_id, seq, newest, line) VALUES ($1, 1, $2, $3) "
            "ON CONFLICT (agent_id) DO UPDATE SET seq = checkpoint_agents.seq + 1, newest = EXCLUDED.newest "
            "RETURNING seq",
            on_seq, ret, DB_T(m->cp.agent), DB_S(m->id), DB_S(line));
    return e;
}

/* For a look into the table: values of moderate size; the document has them all. */
static struct db_value shown(struct span s, const char *without)
{
    return s.n > CHECKPOINT_INLINE_MAX ? DB_NONE : s.n ? DB_T(s) : without ? DB_S(without) : DB_NONE;
}

static pd_err put_row(struct tx *t, const struct made *m, const char *hash, const struct chain *c, int64_t seq,
                      bool in_row)
{
    const struct checkpoint *cp = &m->cp;
    struct span names = span_from(buf_span(&m->names), c->kept * NAME_BYTES);
    return TX_RUN(t,
                  "INSERT INTO checkpoints (checkpoint_id, agent_id, seq, timestamp, made_ms, milestone, state, "
                  "token_usage, "
                  "progress, task, step_index, reason, provider, sha256, document, bytes, stored_bytes, parent, "
                  "kept, names, "
                  "names_count, links, uploaded) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
                  "$14, $15, $16, "
                  "$17, $18, $19, $20, $21, $22, 0)",
                  NULL, NULL, DB_S(m->id), DB_T(cp->agent), DB_I(seq), DB_S(m->timestamp), DB_I(m->made_ms),
                  DB_T(cp->milestone.n ? cp->milestone : SPAN_LIT("")), shown(cp->state, NULL),
                  shown(cp->token_usage, "{}"), shown(cp->progress, "{}"),
                  DB_T(cp->task.n ? cp->task : SPAN_LIT("")), cp->step_index >= 0 ? DB_I(cp->step_index) : DB_NONE,
                  DB_T(cp->reason.n ? cp->reason : SPAN_LIT("")),
                  DB_T(cp->provider.n ? cp->provider : SPAN_LIT("")), DB_B(span_of(hash, NAME_BYTES)),
                  in_row ? DB_B(buf_span(&m->packed)) : DB_NONE, DB_I(buf_size(&m->document)),
                  DB_I(m->stored_bytes), DB_S(c->parent), DB_I(c->kept), DB_B(names.n ? names : SPAN_LIT("")),
                  DB_I(cp->messages_count), DB_I(c->links));
}

/* The session's next turn has all of this one again, and is likely to come soon. */
static uint64_t rests_until(const struct made *m)
{
    return span_is(m->cp.reason, "turn") ? m->made_ms + TURN_RESTS_MS : 0;
}

pd_err write_job(struct tx *t, struct made *m, bool outbox)
{
    struct chain c = {.parent = ""};
    char hash[NAME_BYTES];
    int64_t seq = 0;
    bool in_row = buf_size(&m->packed) <= CHECKPOINT_INLINE_MAX;
    name_to_bytes(&m->hash, hash);
    m->stored_bytes = 0;
    pd_err e = look(t, m, hash);
    if (e == PD_CANCELLED)
        return PD_OK;
    if (!e)
        e = take_number(t, m, &c, &seq);
    if (!e && m->cp.messages_count)
        e = put_messages(t, m, &c);
    else
        c.parent[0] = '\0';
    if (!e && !in_row)
        e = put_content(t, m, hash, buf_span(&m->document), buf_span(&m->packed));
    else
        m->stored_bytes += (int64_t)buf_size(&m->packed);
    if (!e)
        e = put_row(t, m, hash, &c, seq, in_row);
    m->links = c.links;
    if (!e && outbox)
        e = TX_RUN(t, "INSERT INTO uploads (kind, item, taken_by, taken_ms) VALUES (0, $1, '', $2)", NULL, NULL,
                   DB_S(m->id), DB_I(rests_until(m)));
    return e;
}
