/* What is there, and what may go. */
#include "base/clock.h"
#include "base/mem.h"
#include "checkpoint/checkpoint_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    GRACE_MS = 3600 * 1000, /* so long a content without a checkpoint stays: one may be under way to it */
    LIST_MAX = 10000,
};

/* ---- the list ---------------------------------------------------------------------------------- */

struct listing {
    struct span agent;
    unsigned limit;
    struct arena arena;
    struct checkpoint_summary *rows;
    size_t count, room;
    pd_err err;
};

static struct span keep(struct listing *l, struct span s)
{
    struct span kept = arena_span(&l->arena, s);
    if (s.n && !kept.p)
        l->err = PD_NOMEM;
    return kept;
}

static pd_err on_summary(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct listing *l = ctx;
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        void *rows = mem_realloc(l->rows, room * sizeof(*l->rows));
        if (!rows)
            return PD_NOMEM;
        l->rows = rows;
        l->room = room;
    }
    l->rows[l->count++] = (struct checkpoint_summary){
        .agent = keep(l, columns[0].s),
        .id = keep(l, columns[1].s),
        .timestamp = keep(l, columns[2].s),
        .milestone = keep(l, columns[3].s),
        .task = keep(l, columns[4].s),
        .reason = keep(l, columns[5].s),
        .provider = keep(l, columns[6].s),
        .step_index = columns[7].type == DB_INT ? columns[7].n : -1,
        .bytes = columns[8].n,
        .stored_bytes = columns[9].n,
        .messages = columns[11].n,
        .uploaded = columns[10].n == 1,
    };
    return l->err;
}

#define SUMMARY                                                                                         \
    "SELECT agent_id, checkpoint_id, timestamp, milestone, task, reason, provider, step_index, bytes, " \
    "stored_bytes, "                                                                                    \
    "uploaded, names_count FROM checkpoints "

static pd_err list_job(struct tx *t, void *ctx)
{
    struct listing *l = ctx;
    l->count = 0;
    arena_reset(&l->arena);
    if (l->agent.n)
        return TX_RUN(t, SUMMARY "WHERE agent_id = $1 ORDER BY seq DESC LIMIT $2", on_summary, l, DB_T(l->agent),
                      DB_I(l->limit));
    return TX_RUN(t, SUMMARY "ORDER BY made_ms DESC, seq DESC LIMIT $1", on_summary, l, DB_I(l->limit));
}

pd_err checkpoints_list_job(struct tx *t, struct span agent, unsigned limit, checkpoint_summary_fn *fn, void *ctx)
{
    struct listing l = {.agent = agent, .limit = limit && limit < LIST_MAX ? limit : LIST_MAX};
    arena_init(&l.arena, 8192, 0); /* LIST_MAX rows of a limited size */
    pd_err e = list_job(t, &l);
    for (size_t i = 0; i < l.count && !e; i++)
        e = fn(ctx, &l.rows[i]);
    arena_done(&l.arena);
    mem_free(l.rows);
    return e;
}

pd_err checkpoints_list(struct checkpoints *c, struct span agent, unsigned limit, checkpoint_summary_fn *fn,
                        void *ctx)
{
    struct listing l = {.agent = agent, .limit = limit && limit < LIST_MAX ? limit : LIST_MAX};
    struct db_job job = {.fn = list_job, .ctx = &l, .reads = true};
    if (!c->db)
        return PD_UNSUPPORTED;
    arena_init(&l.arena, 8192, 0); /* LIST_MAX rows of a limited size */
    pd_err e = db_do_job(c->db, &job);
    for (size_t i = 0; i < l.count && !e; i++)
        e = fn(ctx, &l.rows[i]);
    arena_done(&l.arena);
    mem_free(l.rows);
    return e;
}

/* ---- an agent's checkpoints that may go ---------------------------------------------------------- */

struct old {
    char id[CHECKPOINT_ID_BYTES], parent[CHECKPOINT_ID_BYTES];
    uint64_t made_ms;
    int64_t stored_bytes, uploaded;
    bool milestone, stays;
};

struct pruning {
    struct checkpoints_rules rules; /* as they were when it began */
    struct checkpoints *c;
    bool dry;
    uint64_t now;
    struct buf agents; /* CHECKPOINT_AGENT_BYTES each */
    struct span agent;
    struct old *rows; /* newest first */
    size_t count, room;
    struct checkpoints_pruned one, all;
};

static pd_err on_agent(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    char agent[CHECKPOINT_AGENT_BYTES] = "";
    text_copy(agent, sizeof(agent), columns[0].s);
    return buf_add(ctx, span_of(agent, sizeof(agent)));
}

static pd_err agents_job(struct tx *t, void *ctx)
{
    struct pruning *p = ctx;
    buf_clear(&p->agents);
    return TX_RUN(t, "SELECT agent_id FROM checkpoint_agents WHERE seq > $1", on_agent, &p->agents, DB_I(0));
}

static pd_err on_old(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct pruning *p = ctx;
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        void *rows = mem_realloc(p->rows, room * sizeof(*p->rows));
        if (!rows)
            return PD_NOMEM;
        p->rows = rows;
        p->room = room;
    }
    struct old *o = &p->rows[p->count++];
    *o = (struct old){.made_ms = (uint64_t)columns[2].n,
                      .milestone = columns[3].s.n > 0,
                      .stored_bytes = columns[4].n,
                      .uploaded = columns[5].n};
    text_copy(o->id, sizeof(o->id), columns[0].s);
    text_copy(o->parent, sizeof(o->parent), columns[1].s);
    return PD_OK;
}

/* A parent is older than its child: it comes later, and mostly next. */
static struct old *find_parent(struct pruning *p, size_t child)
{
    const char *id = p->rows[child].parent;
    for (size_t i = child + 1; i < p->count && *id; i++)
        if (strcmp(p->rows[i].id, id) == 0)
            return &p->rows[i];
    return NULL;
}

static void decide(struct pruning *p)
{
    const struct checkpoints_rules *r = &p->rules;
    bool session = span_starts(p->agent, CHECKPOINT_SESSION);
    for (size_t i = 0; i < p->count; i++) {
        struct old *o = &p->rows[i];
        bool young = o->made_ms + r->keep_ms > p->now;
        o->stays |= young || (o->milestone && r->keep_milestones) || (!session && (i == 0 || i < r->keep_last));
    }
    for (size_t i = 0; i < p->count; i++) {
        struct old *parent = p->rows[i].stays ? find_parent(p, i) : NULL;
        if (parent)
            parent->stays = true;
    }
}

static pd_err drop(struct tx *t, struct pruning *p, const struct old *o)
{
    char key[OBJECT_KEY_MAX + 1];
    p->one.checkpoints++;
    p->one.bytes += (uint64_t)o->stored_bytes;
    p->one.objects += o->uploaded == 1;
    if (p->dry)
        return PD_OK;
    pd_err e = TX_RUN(t, "DELETE FROM checkpoints WHERE checkpoint_id = $1", NULL, NULL, DB_S(o->id));
    if (!e && p->c->objects && o->uploaded != 3 && snapshot_key(p->agent, o->id, key))
        e = TX_RUN(t, "INSERT INTO uploads (kind, item, taken_by, taken_ms) VALUES (1, $1, '', 0)", NULL, NULL,
                   DB_S(key));
    return e;
}

/* A session of which nothing is left. */
static pd_err forget(struct tx *t, struct pruning *p)
{
    char key[OBJECT_KEY_MAX + 1];
    pd_err e = TX_RUN(t, "DELETE FROM checkpoint_agents WHERE agent_id = $1", NULL, NULL, DB_T(p->agent));
    if (!e && p->c->objects && latest_key(p->agent, key))
        e = TX_RUN(t, "INSERT INTO uploads (kind, item, taken_by, taken_ms) VALUES (1, $1, '', 0)", NULL, NULL,
                   DB_S(key));
    return e;
}

static pd_err agent_job(struct tx *t, void *ctx)
{
    struct pruning *p = ctx;
    size_t gone = 0;
    p->count = 0;
    p->one = (struct checkpoints_pruned){0};
    /* Whoever makes one of this agent waits: it may want one of these as its parent. */
    pd_err e = TX_RUN(t, "SELECT seq FROM checkpoint_agents WHERE agent_id = $1 {pg:FOR UPDATE}", NULL, NULL,
                      DB_T(p->agent));
    if (!e)
        e = TX_RUN(t,
                   "SELECT checkpoint_id, parent, made_ms, milestone, stored_bytes, uploaded FROM checkpoints "
                   "WHERE agent_id = $1 ORDER BY seq DESC",
                   on_old, p, DB_T(p->agent));
    if (!e)
        decide(p);
    for (size_t i = 0; i < p->count && !e; i++)
        if (!p->rows[i].stays) {
            e = drop(t, p, &p->rows[i]);
            gone++;
        }
    return !e && p->count && gone == p->count && !p->dry ? forget(t, p) : e;
}

/* ---- contents that nothing refers to ------------------------------------------------------------- */

/* Open addressing over the first eight bytes of names, which are as good as random. */
struct marks {
    char (*names)[NAME_BYTES];
    bool *used;
    size_t room, count;
};

static size_t place(const struct marks *m, const char *name)
{
    uint64_t h;
    memcpy(&h, name, sizeof(h));
    size_t i = h & (m->room - 1);
    while (m->used[i] && memcmp(m->names[i], name, NAME_BYTES) != 0)
        i = (i + 1) & (m->room - 1);
    return i;
}

static pd_err grow(struct marks *m)
{
    struct marks to = {.room = m->room ? 2 * m->room : 1024, .count = m->count};
    to.names = mem_calloc(to.room, NAME_BYTES);
    to.used = mem_calloc(to.room, sizeof(bool));
    if (!to.names || !to.used) {
        mem_free(to.names);
        mem_free(to.used);
        return PD_NOMEM;
    }
    for (size_t i = 0; i < m->room; i++)
        if (m->used[i]) {
            size_t at = place(&to, m->names[i]);
            memcpy(to.names[at], m->names[i], NAME_BYTES);
            to.used[at] = true;
        }
    mem_free(m->names);
    mem_free(m->used);
    *m = to;
    return PD_OK;
}

static pd_err mark(struct marks *m, const char *name)
{
    pd_err e = 2 * (m->count + 1) > m->room ? grow(m) : PD_OK;
    if (e)
        return e;
    size_t i = place(m, name);
    if (!m->used[i]) {
        m->used[i] = true;
        memcpy(m->names[i], name, NAME_BYTES);
        m->count++;
    }
    return PD_OK;
}

struct sweeping {
    struct pruning *p;
    struct marks marks;
    struct buf doomed; /* NAME_BYTES and '0' to '2' each */
    uint64_t bytes;
    struct checkpoints_pruned found;
};

static pd_err on_marked(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct sweeping *s = ctx;
    pd_err e = columns[0].s.n == NAME_BYTES ? mark(&s->marks, columns[0].s.p) : PD_OK;
    for (size_t at = 0; at + NAME_BYTES <= columns[1].s.n && !e; at += NAME_BYTES)
        e = mark(&s->marks, columns[1].s.p + at);
    return e;
}

static pd_err on_blob(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct sweeping *s = ctx;
    char entry[NAME_BYTES + 1];
    if (columns[0].s.n != NAME_BYTES || (s->marks.room && s->marks.used[place(&s->marks, columns[0].s.p)]))
        return PD_OK;
    s->found.blobs++;
    s->found.bytes += (uint64_t)columns[1].n;
    s->found.objects += columns[2].n == 1;
    memcpy(entry, columns[0].s.p, NAME_BYTES);
    entry[NAME_BYTES] = (char)columns[2].n;
    return buf_add(&s->doomed, span_of(entry, sizeof(entry)));
}

static pd_err drop_blob(struct tx *t, struct sweeping *s, const char *entry, uint64_t before)
{
    char key[OBJECT_KEY_MAX + 1];
    struct content_name name;
    pd_err e = TX_RUN(t, "DELETE FROM blobs WHERE name = $1 AND used_ms < $2", NULL, NULL,
                      DB_B(span_of(entry, NAME_BYTES)), DB_I(before));
    if (e || !tx_changed(t) || entry[NAME_BYTES] != 1 || !s->p->c->objects)
        return e;
    name_from_bytes(entry, &name);
    blob_key(&name, key);
    return TX_RUN(t, "INSERT INTO uploads (kind, item, taken_by, taken_ms) VALUES (1, $1, '', 0)", NULL, NULL,
                  DB_S(key));
}

static pd_err sweep_job(struct tx *t, void *ctx)
{
    struct sweeping *s = ctx;
    uint64_t before = s->p->now > GRACE_MS ? s->p->now - GRACE_MS : 0;
    s->found = (struct checkpoints_pruned){0};
    buf_clear(&s->doomed);
    pd_err e = TX_RUN(t, "SELECT sha256, names FROM checkpoints WHERE seq > $1", on_marked, s, DB_I(0));
    if (!e)
        e = TX_RUN(t,
                   "SELECT name, {lite:LENGTH}{pg:OCTET_LENGTH}(stored), uploaded FROM blobs WHERE used_ms < $1",
                   on_blob, s, DB_I(before));
    struct span doomed = buf_span(&s->doomed);
    for (size_t at = 0; at < doomed.n && !e && !s->p->dry; at += NAME_BYTES + 1)
        e = drop_blob(t, s, doomed.p + at, before);
    return e;
}

static void add(struct checkpoints_pruned *sum, const struct checkpoints_pruned *one)
{
    sum->checkpoints += one->checkpoints;
    sum->blobs += one->blobs;
    sum->bytes += one->bytes;
    sum->objects += one->objects;
}

static pd_err sweep(struct pruning *p)
{
    struct sweeping s = {.p = p};
    pd_err e = db_do(p->c->db, sweep_job, &s);
    if (!e)
        add(&p->all, &s.found);
    mem_free(s.marks.names);
    mem_free(s.marks.used);
    buf_done(&s.doomed);
    return e;
}

pd_err checkpoints_prune(struct checkpoints *c, bool dry, struct checkpoints_pruned *ret)
{
    struct pruning p = {.c = c, .dry = dry, .now = clock_wall_ms() + c->rules.ahead_ms};
    if (!c->db)
        return PD_UNSUPPORTED;
    pthread_mutex_lock(&c->lock);
    p.rules = c->rules;
    pthread_mutex_unlock(&c->lock);
    pd_err e = db_do(c->db, agents_job, &p);
    struct span agents = buf_span(&p.agents);
    for (size_t at = 0; at < agents.n && !e; at += CHECKPOINT_AGENT_BYTES) {
        p.agent = span_str(agents.p + at);
        e = db_do(c->db, agent_job, &p);
        if (!e)
            add(&p.all, &p.one);
    }
    if (!e)
        e = sweep(&p);
    if (!e && !dry)
        checkpoints_kick(c);
    *ret = p.all;
    buf_done(&p.agents);
    mem_free(p.rows);
    return e;
}
