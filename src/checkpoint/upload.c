/* The thread that catches up: what stands in the outbox goes to the object store, in order, and once in a while what the rules no longer keep is
 * deleted.
 *
 *   contents that are new, then the snapshot, then `latest` when it is the agent's newest; then the row leaves the outbox.
 *
 * All of it can be done again. Several processes with one PostgreSQL take turns: whoever has put its name on the first row does it. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/checkpoint_priv.h"

#include <stdio.h>
#include <time.h>

enum {
    PAUSE_FIRST_MS = 1000,
    PAUSE_MOST_MS = 60 * 1000,
    LOOK_MS = 30 * 1000, /* with nothing to do: another process may have left something */
    /* So long a row is another's, who may be dead. What is put can be put twice; a deletion that comes late deletes what was put since. */
    PUT_TAKEN_MS = 15 * 1000,
    DELETE_TAKEN_MS = 60 * 1000,
    LATEST_TRIES = 5,
    COUNT_EVERY = 64,
    SWEEP_MOST = 1000, /* turns that are left out in one transaction */
};

struct upload {
    int64_t n, kind, taken_ms, waiting;
    char item[OBJECT_KEY_MAX + 1], taken_by[LINE_BYTES];
    bool found, ours;
};

/* ---- the outbox --------------------------------------------------------------------------------- */

static pd_err on_first(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct upload *u = ctx;
    u->found = true;
    u->n = columns[0].n;
    u->kind = columns[1].n;
    u->taken_ms = columns[4].n;
    text_copy(u->item, sizeof(u->item), columns[2].s);
    text_copy(u->taken_by, sizeof(u->taken_by), columns[3].s);
    return PD_OK;
}

static pd_err on_count(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    *(int64_t *)ctx = columns[0].n;
    return PD_OK;
}

struct taking {
    struct checkpoints *c;
    struct upload *u;
    bool counts;  /* how many wait: not each time, it looks at all of them */
    bool hurries; /* nothing rests */
};

enum { SKIPPED = 3, DAMAGED = 4 }; /* checkpoints.uploaded: a later turn is there; it cannot be put there */

#define SWEPT                                                                                                     \
    "FROM (SELECT n, item FROM uploads WHERE kind = 0 AND taken_by = '' AND taken_ms <= $1 ORDER BY n LIMIT $2) " \
    "u "                                                                                                          \
    "JOIN checkpoints c ON c.checkpoint_id = u.item JOIN checkpoint_agents a ON a.agent_id = c.agent_id "         \
    "WHERE c.reason = 'turn' AND a.newest <> c.checkpoint_id"

/* Turns whose rest is over and that later ones of their sessions have overtaken: all at once, without a look at each. Those later ones rest no more, or the store
 * would never hear of a session that is always at work. */
static pd_err sweep(struct tx *t, uint64_t now)
{
    pd_err e =
        TX_RUN(t,
               "UPDATE uploads SET taken_ms = 0 WHERE kind = 0 AND taken_by = '' AND taken_ms > $1 AND item IN "
               "(SELECT a.newest " SWEPT ")",
               NULL, NULL, DB_I(now), DB_I(SWEEP_MOST));
    if (!e)
        e = TX_RUN(t,
                   "UPDATE checkpoints SET uploaded = $3 WHERE uploaded = 0 AND checkpoint_id IN "
                   "(SELECT c.checkpoint_id " SWEPT ")",
                   NULL, NULL, DB_I(now), DB_I(SWEEP_MOST), DB_I(SKIPPED));
    return e ? e
             : TX_RUN(t, "DELETE FROM uploads WHERE n IN (SELECT u.n " SWEPT " AND c.uploaded = $3)", NULL, NULL,
                      DB_I(now), DB_I(SWEEP_MOST), DB_I(SKIPPED));
}

static uint64_t taken_until(const struct upload *u)
{
    return (uint64_t)u->taken_ms + (u->kind ? DELETE_TAKEN_MS : PUT_TAKEN_MS);
}

static pd_err take_job(struct tx *t, void *ctx)
{
    struct taking *k = ctx;
    struct upload *u = k->u;
    uint64_t now = clock_wall_ms();
    pd_err e = PD_OK;
    *u = (struct upload){0};
    if (k->counts)
        e = sweep(t, k->hurries ? INT64_MAX : now);
    if (k->counts && !e)
        e = TX_RUN(t, "SELECT COUNT(*) FROM uploads WHERE n > $1", on_count, &u->waiting, DB_I(0));
    if (!e)
        e = TX_RUN(t,
                   "SELECT n, kind, item, taken_by, taken_ms FROM uploads WHERE taken_by <> '' OR taken_ms <= $1 "
                   "OR taken_ms > $2 ORDER BY n LIMIT 1 {pg:FOR UPDATE}",
                   on_first, u, DB_I(k->hurries ? INT64_MAX : (int64_t)now), DB_I(now + TURN_RESTS_MS));
    if (e || !u->found)
        return e;
    u->ours = !db_is_postgres(k->c->db) || !u->taken_by[0] || strcmp(u->taken_by, k->c->name) == 0 ||
              taken_until(u) < now;
    if (u->ours && db_is_postgres(k->c->db))
        e = TX_RUN(t, "UPDATE uploads SET taken_by = $2, taken_ms = $3 WHERE n = $1", NULL, NULL, DB_I(u->n),
                   DB_S(k->c->name), DB_I(now));
    return e;
}

/* ---- one checkpoint --------------------------------------------------------------------------------- */

struct parcel {
    struct checkpoints *c;
    const char *id;
    /* ---- read */
    char agent[CHECKPOINT_AGENT_BYTES];
    struct seal seal;
    struct buf document, names; /* plain; all of its names */
    struct content_name hash;
    bool found, in_row, newest, turn, parent_is_there, damaged;
    int64_t kept;
    /* ---- contents that are there by now; NAME_BYTES and '1' or '2' each */
    struct buf put;
    /* ---- the one at hand */
    const char *name;
    struct buf stored;
    bool wanted;
    const struct upload *u;
};

static pd_err on_parcel(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct parcel *p = ctx;
    p->found = true;
    text_copy(p->agent, sizeof(p->agent), columns[0].s);
    p->seal.seq = columns[1].n;
    p->seal.made_ms = (uint64_t)columns[2].n;
    if (columns[3].s.n == NAME_BYTES)
        name_from_bytes(columns[3].s.p, &p->seal.hash);
    p->in_row = columns[4].type == DB_BYTES;
    p->kept = columns[5].n;
    p->turn = span_is(columns[6].s, "turn");
    text_copy(p->seal.line, sizeof(p->seal.line), columns[7].s);
    p->newest = span_is(columns[8].s, p->id);
    p->parent_is_there = columns[9].type == DB_INT && columns[9].n == 1;
    if (!p->in_row)
        return PD_OK;
    pd_err e = content_unpack(columns[4].s, &p->seal.hash, &p->document);
    p->damaged |= e == PD_INVALID;
    return e == PD_INVALID ? PD_OK : e;
}

static pd_err on_document(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct parcel *p = ctx;
    pd_err e = content_unpack(columns[0].s, &p->seal.hash, &p->document);
    p->damaged |= e == PD_INVALID;
    return e == PD_INVALID ? PD_OK : e;
}

static pd_err parcel_job(struct tx *t, void *ctx)
{
    struct parcel *p = ctx;
    int64_t links;
    char hash[NAME_BYTES];
    p->found = p->damaged = false;
    buf_clear(&p->document);
    pd_err e =
        TX_RUN(t,
               "SELECT c.agent_id, c.seq, c.made_ms, c.sha256, c.document, c.kept, c.reason, a.line, a.newest, "
               "p.uploaded FROM checkpoints c JOIN checkpoint_agents a ON a.agent_id = c.agent_id "
               "LEFT JOIN checkpoints p ON p.checkpoint_id = c.parent WHERE c.checkpoint_id = $1",
               on_parcel, p, DB_S(p->id));
    if (e || !p->found)
        return e;
    name_to_bytes(&p->seal.hash, hash);
    if (!p->in_row)
        e = TX_RUN(t, "SELECT stored FROM blobs WHERE name = $1", on_document, p, DB_B(span_of(hash, NAME_BYTES)));
    if (!e)
        e = names_load(t, p->id, &p->names, &links);
    p->damaged |= e == PD_INVALID ||
                  (!e && (!buf_size(&p->document) || !names_fit(buf_span(&p->document), buf_span(&p->names))));
    return e == PD_INVALID ? PD_OK : e;
}

static pd_err on_content(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct parcel *p = ctx;
    p->found = true;
    p->wanted = columns[1].n == 0;
    return p->wanted ? buf_add(&p->stored, columns[0].s) : PD_OK;
}

static pd_err content_job(struct tx *t, void *ctx)
{
    struct parcel *p = ctx;
    p->found = p->wanted = false;
    buf_clear(&p->stored);
    return TX_RUN(t, "SELECT CASE WHEN uploaded = 0 THEN stored END, uploaded FROM blobs WHERE name = $1",
                  on_content, p, DB_B(span_of(p->name, NAME_BYTES)));
}

static bool put_already(const struct parcel *p, const char *name)
{
    struct span done = buf_span(&p->put);
    for (size_t at = 0; at < done.n; at += NAME_BYTES + 1)
        if (memcmp(done.p + at, name, NAME_BYTES) == 0)
            return true;
    return false;
}

static pd_err put_content(struct parcel *p, const char *name)
{
    char key[OBJECT_KEY_MAX + 1], entry[NAME_BYTES + 1];
    struct content_name hex;
    struct db_job job = {.fn = content_job, .ctx = p, .reads = true};
    if (put_already(p, name))
        return PD_OK;
    p->name = name;
    pd_err e = db_do_job(p->c->db, &job);
    if (!e && !p->found)
        p->damaged = true;
    if (e || !p->found || !p->wanted)
        return e;
    name_from_bytes(name, &hex);
    blob_key(&hex, key);
    e = objects_put(p->c->objects, key, buf_span(&p->stored), OBJECT_IF_NEW, NULL, NULL);
    if (e && e != PD_EXISTS)
        return e;
    memcpy(entry, name, NAME_BYTES);
    entry[NAME_BYTES] = e == PD_EXISTS ? 2 : 1;
    return buf_add(&p->put, span_of(entry, sizeof(entry)));
}

/* Another database's (it was lost, and this one is new) is told by its age. */
static bool is_newer(const struct seal *there, const struct seal *ours)
{
    return strcmp(there->line, ours->line) == 0 ? there->seq >= ours->seq : there->made_ms > ours->made_ms;
}

static pd_err move_latest(struct parcel *p)
{
    char key[OBJECT_KEY_MAX + 1], etag[OBJECT_ETAG_BYTES], id[CHECKPOINT_ID_BYTES];
    struct buf now = {.limit_bytes = 1 << 20}, fresh = {0};
    pd_err e = latest_key(span_str(p->agent), key) ? latest_write(p->id, &p->seal, &fresh) : PD_INVALID;
    for (int i = 0; i < LATEST_TRIES && !e; i++) {
        struct seal there;
        buf_clear(&now);
        e = objects_get(p->c->objects, key, &now, etag);
        if (e == PD_NOTFOUND)
            e = objects_put(p->c->objects, key, buf_span(&fresh), OBJECT_IF_NEW, NULL, NULL);
        else if (!e && latest_open(buf_span(&now), id, &there) && is_newer(&there, &p->seal))
            break;
        else if (!e)
            e = objects_put(p->c->objects, key, buf_span(&fresh), OBJECT_IF_SAME, etag, NULL);
        else if (e == PD_INVALID) /* what is there is damaged */
            e = objects_put(p->c->objects, key, buf_span(&fresh), OBJECT_ALWAYS, NULL, NULL);
        if (e != PD_EXISTS)
            break;
        e = i + 1 < LATEST_TRIES ? PD_OK : PD_TIMEOUT; /* another process moved it */
    }
    buf_done(&now);
    buf_done(&fresh);
    return e;
}

static pd_err put_snapshot(struct parcel *p)
{
    char key[OBJECT_KEY_MAX + 1];
    struct buf plain = {0}, packed = {0};
    pd_err e = snapshot_key(span_str(p->agent), p->id, key) ? PD_OK : PD_TOOBIG;
    if (!e)
        e = sealed_write(buf_span(&p->document), &p->seal, buf_span(&p->names), &plain);
    if (!e)
        e = packer_pack(p->c->packer, buf_span(&plain), &packed);
    if (e == PD_TOOBIG) /* no later try would end otherwise, and the others wait */
        p->damaged = true;
    else if (!e)
        e = objects_put(p->c->objects, key, buf_span(&packed), OBJECT_ALWAYS, NULL, NULL);
    buf_done(&plain);
    buf_done(&packed);
    if (p->damaged)
        return PD_OK;
    return e ? e : p->newest ? move_latest(p) : PD_OK;
}

static pd_err put_all(struct parcel *p)
{
    struct span names = buf_span(&p->names);
    size_t from = p->parent_is_there ? (size_t)p->kept * NAME_BYTES : 0;
    pd_err e = PD_OK;
    for (size_t at = from; at < names.n && !e; at += NAME_BYTES)
        e = put_content(p, names.p + at);
    return e ? e : put_snapshot(p);
}

/* ---- a row that is done leaves ---------------------------------------------------------------------- */

struct leaving {
    const struct upload *u;
    struct parcel *p; /* NULL: a deletion */
    int uploaded;
};

static pd_err leave_job(struct tx *t, void *ctx)
{
    struct leaving *k = ctx;
    struct span put = k->p ? buf_span(&k->p->put) : SPAN_NONE;
    pd_err e = PD_OK;
    for (size_t at = 0; at < put.n && !e; at += NAME_BYTES + 1)
        e = TX_RUN(t, "UPDATE blobs SET uploaded = $2 WHERE name = $1", NULL, NULL,
                   DB_B(span_of(put.p + at, NAME_BYTES)), DB_I(put.p[at + NAME_BYTES]));
    if (!e && k->p)
        e = TX_RUN(t, "UPDATE checkpoints SET uploaded = $2 WHERE checkpoint_id = $1", NULL, NULL,
                   DB_S(k->u->item), DB_I(k->uploaded));
    return e ? e : TX_RUN(t, "DELETE FROM uploads WHERE n = $1", NULL, NULL, DB_I(k->u->n));
}

static pd_err upload(struct checkpoints *c, const struct upload *u)
{
    struct parcel p = {.c = c, .id = u->item, .u = u};
    struct db_job job = {.fn = parcel_job, .ctx = &p, .reads = true};
    struct leaving leaving = {u, &p, 1};
    p.names.limit_bytes = (size_t)CHECKPOINT_MESSAGES_MAX * NAME_BYTES;
    pd_err e = db_do_job(c->db, &job);
    if (!e && (p.damaged || (p.turn && !p.newest)))
        leaving.uploaded = p.damaged ? DAMAGED : SKIPPED;
    else if (!e && p.found)
        e = put_all(&p);
    if (!e && p.damaged)
        leaving.uploaded = DAMAGED;
    if (!e && p.damaged)
        LOG(NULL, LOG_ERROR, "checkpoint.damaged",
            "id=%s remedy=\"its parts in the database do not fit together: it is not in the object store, and is "
            "not "
            "restored\"",
            u->item);
    if (!e)
        e = db_do(c->db, leave_job, &leaving);
    buf_done(&p.document);
    buf_done(&p.names);
    buf_done(&p.put);
    buf_done(&p.stored);
    return e;
}

static pd_err delete (struct checkpoints *c, const struct upload *u)
{
    struct leaving leaving = {u, NULL, 0};
    pd_err e = objects_delete(c->objects, u->item);
    return e ? e : db_do(c->db, leave_job, &leaving);
}

/* ---- the thread ------------------------------------------------------------------------------------ */

/* True: it is over. */
static bool rest(struct checkpoints *c, uint64_t ms, bool till_kicked)
{
    uint64_t until = clock_mono_ms() + ms;
    struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
    pthread_mutex_lock(&c->lock);
    while (!c->ending && !(till_kicked && c->kick) && clock_mono_ms() < until)
        pthread_cond_timedwait(&c->behind, &c->lock, &at);
    bool ending = c->ending;
    pthread_mutex_unlock(&c->lock);
    return ending;
}

static void tell(struct checkpoints *c, int64_t waiting, pd_err e)
{
    char quoted[OBJECTS_WHY_BYTES + 40];
    bool news = false;
    pthread_mutex_lock(&c->lock);
    c->stats.uploads_waiting = (uint64_t)waiting;
    c->stats.uploaded += !e;
    c->stats.upload_failures += e != PD_OK;
    if (e && !c->ending) {
        news = !c->trouble[0];
        snprintf(c->trouble, sizeof(c->trouble), "%s", *objects_why() ? objects_why() : pd_err_text(e));
    } else if (!e) {
        c->trouble[0] = '\0';
    }
    pthread_cond_broadcast(&c->behind);
    pthread_mutex_unlock(&c->lock);
    if (news)
        LOG(NULL, LOG_WARN, "snapshots.behind",
            "waiting=%lld why=%s remedy=\"checkpoints are in the database; it is tried again\"",
            (long long)waiting, log_quote(span_str(c->trouble), quoted, sizeof(quoted)));
}

/* True: nothing is to rest. */
static bool look_again(struct checkpoints *c)
{
    pthread_mutex_lock(&c->lock);
    c->kick = false;
    c->looked = c->came;
    bool hurries = c->hurries;
    pthread_mutex_unlock(&c->lock);
    return hurries;
}

/* Nothing was found that is to go now, and nothing of the kind has come since it was looked for. `resting` were there then. */
static bool is_empty(struct checkpoints *c, int64_t resting, bool *ret_resting)
{
    pthread_mutex_lock(&c->lock);
    uint64_t waiting =
        (uint64_t)resting +
        (c->came - c->looked); /* what came meanwhile may be counted twice: the next look is right */
    bool empty = !c->kick && !(waiting && c->hurries);
    if (empty)
        c->stats.uploads_waiting = waiting;
    *ret_resting = waiting;
    pthread_cond_broadcast(&c->behind);
    pthread_mutex_unlock(&c->lock);
    return empty;
}

static pd_err release_job(struct tx *t, void *ctx)
{
    struct checkpoints *c = ctx;
    return TX_RUN(t, "UPDATE uploads SET taken_by = '' WHERE taken_by = $1", NULL, NULL, DB_S(c->name));
}

/* Until the other is done with it, or dead. Its clock may be another machine's. */
static uint64_t others_ms(const struct upload *u)
{
    uint64_t now = clock_wall_ms(), until = taken_until(u);
    return until > now + LOOK_MS ? LOOK_MS : until > now ? until - now + 1 : 1;
}

/* Everything that is to go now, until something fails. *ret_ms: then it is to be looked for again. */
static pd_err catch_up(struct checkpoints *c, uint64_t *ret_ms)
{
    int64_t waiting = 0;
    bool resting = false;
    for (unsigned i = 0;; i++) {
        struct upload u = {0};
        struct taking k = {.c = c, .u = &u, .counts = i % COUNT_EVERY == 0};
        k.hurries = look_again(c);
        pd_err e = db_do(c->db, take_job, &k);
        if (!e && !u.found && !k.counts) {
            i = COUNT_EVERY - 1; /* looked at once more, and counted */
            continue;
        }
        if (!e && !u.found && !is_empty(c, u.waiting, &resting))
            continue;
        *ret_ms = !u.found ? (resting ? TURN_RESTS_MS / 2 : LOOK_MS) : others_ms(&u);
        if (e || !u.found || !u.ours)
            return e;
        waiting = k.counts ? u.waiting : waiting;
        e = u.kind ? delete (c, &u) : upload(c, &u);
        waiting = waiting > 1 ? waiting - !e : 1; /* that there are none is found by looking */
        tell(c, waiting, e);
        pthread_mutex_lock(&c->lock);
        bool ending = c->ending;
        pthread_mutex_unlock(&c->lock);
        if (e || ending)
            return e;
    }
}

static void prune(struct checkpoints *c)
{
    struct checkpoints_pruned p = {0};
    pd_err e = checkpoints_prune(c, false, &p);
    if (e || p.checkpoints || p.blobs)
        LOG(NULL, e ? LOG_WARN : LOG_INFO, "checkpoint.pruned",
            "result=%s checkpoints=%llu contents=%llu bytes=%llu", pd_err_name(e),
            (unsigned long long)p.checkpoints, (unsigned long long)p.blobs, (unsigned long long)p.bytes);
}

static pd_err newest_job(struct tx *t, void *ctx)
{
    return tx_run(t, "SELECT COALESCE(MAX(made_ms), 0) FROM checkpoints", NULL, 0, on_count, ctx);
}

/* What an earlier process made counts too. */
static void find_newest(struct checkpoints *c)
{
    int64_t ms = 0;
    struct db_job job = {.fn = newest_job, .ctx = &ms, .reads = true};
    if (db_do_job(c->db, &job))
        return;
    pthread_mutex_lock(&c->lock);
    if (!c->stats.last_ms)
        c->stats.last_ms = (uint64_t)ms;
    pthread_mutex_unlock(&c->lock);
}

void *upload_thread(void *ctx)
{
    struct checkpoints *c = ctx;
    find_newest(c);
    uint64_t pause = 0, prune_at = clock_mono_ms() + c->rules.prune_every_ms;
    bool looked = !c->objects || !c->rules.prune_every_ms; /* a command of an hour of need fills nothing */
    for (;;) {
        looked = looked || !refill(c);
        uint64_t look_ms = LOOK_MS;
        pd_err e = c->objects ? catch_up(c, &look_ms) : PD_OK;
        pause = !e ? 0 : !pause ? PAUSE_FIRST_MS : pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
        if (rest(c, pause ? pause : look_ms, !pause)) {
            if (db_is_postgres(c->db))
                (void)!db_do(c->db, release_job, c); /* others would wait for it */
            return NULL;
        }
        if (c->rules.prune_every_ms && clock_mono_ms() >= prune_at) {
            prune(c);
            looked = !c->objects;
            prune_at = clock_mono_ms() + c->rules.prune_every_ms;
        }
    }
}
