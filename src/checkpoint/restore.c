/* A checkpoint comes back. Each of its parts, the document, the list of its messages, each of these, is taken from the database or from the object
 * store, whichever has it undamaged; nothing is given that is not proven. */
#include "base/mem.h"
#include "checkpoint/checkpoint_priv.h"
#include "parse/put.h"

#include <stdarg.h>
#include <stdio.h>

enum { TRIES_MAX = 1000 /* checkpoints of an agent that are tried, newest first */ };

struct restoring {
    struct checkpoints *c;
    struct buf *note;
    char agent[CHECKPOINT_AGENT_BYTES], id[CHECKPOINT_ID_BYTES];
    struct buf document, names;
    /* ---- of the database */
    bool found, proven, named;
    struct content_name hash;
    struct buf stored;
    bool in_row;
    bool down; /* the database cannot be read: it is waited for once, not for each part */
    /* ---- its messages */
    struct span *contents;
    struct buf *texts;
    size_t count, at;
};

static void note(struct restoring *r, const char *fmt, ...) PD_PRINTF(2, 3);
static void note(struct restoring *r, const char *fmt, ...)
{
    char text[700];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (buf_size(r->note))
        (void)!buf_puts(r->note, "\n"); /* without memory a note less */
    (void)!buf_puts(r->note, text);
}

/* ---- the database ------------------------------------------------------------------------------ */

static pd_err on_row(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct restoring *r = ctx;
    r->found = true;
    if (columns[0].s.n != NAME_BYTES)
        return PD_OK; /* damaged: nothing will fit */
    name_from_bytes(columns[0].s.p, &r->hash);
    r->in_row = columns[1].type == DB_BYTES;
    return r->in_row ? buf_add(&r->stored, columns[1].s) : PD_OK;
}

static pd_err on_stored(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct restoring *r = ctx;
    return buf_add(&r->stored, columns[0].s);
}

static pd_err row_job(struct tx *t, void *ctx)
{
    struct restoring *r = ctx;
    char hash[NAME_BYTES];
    int64_t links;
    r->found = r->proven = r->named = false;
    r->hash.hex[0] = '\0';
    buf_clear(&r->stored);
    buf_clear(&r->document);
    pd_err e =
        TX_RUN(t, "SELECT sha256, document FROM checkpoints WHERE checkpoint_id = $1", on_row, r, DB_S(r->id));
    if (e || !r->found || !r->hash.hex[0])
        return e;
    name_to_bytes(&r->hash, hash);
    if (!r->in_row)
        e = TX_RUN(t, "SELECT stored FROM blobs WHERE name = $1", on_stored, r, DB_B(span_of(hash, NAME_BYTES)));
    if (e)
        return e;
    e = content_unpack(buf_span(&r->stored), &r->hash, &r->document);
    r->proven = !e;
    if (e && e != PD_INVALID)
        return e;
    e = names_load(t, r->id, &r->names, &links);
    r->named = !e && r->proven && names_fit(buf_span(&r->document), buf_span(&r->names));
    return e == PD_INVALID || e == PD_NOTFOUND ? PD_OK : e;
}

static pd_err on_message(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    struct restoring *r = ctx;
    struct content_name name;
    name_from_bytes(buf_span(&r->names).p + r->at * NAME_BYTES, &name);
    pd_err e = content_unpack(columns[0].s, &name, &r->texts[r->at]);
    return e == PD_INVALID ? PD_OK : e; /* the other side may have it */
}

static pd_err messages_job(struct tx *t, void *ctx)
{
    struct restoring *r = ctx;
    pd_err e = PD_OK;
    for (r->at = 0; r->at < r->count && !e; r->at++) {
        buf_clear(&r->texts[r->at]);
        e = TX_RUN(t, "SELECT stored FROM blobs WHERE name = $1", on_message, r,
                   DB_B(span_of(buf_span(&r->names).p + r->at * NAME_BYTES, NAME_BYTES)));
    }
    return e;
}

static pd_err read_from(struct restoring *r, db_job_fn *fn, void *ctx)
{
    struct db_job job = {.fn = fn, .ctx = ctx, .reads = true};
    pd_err e = r->down ? PD_IO : db_do_job(r->c->db, &job);
    r->down |= e && e != PD_NOMEM && e != PD_INVALID;
    return e;
}

static pd_err read_job(struct restoring *r, db_job_fn *fn)
{
    return read_from(r, fn, r);
}

/* ---- the object store ------------------------------------------------------------------------------ */

/* Its own proof, which is in what it says. */
static pd_err unpack_any(struct span stored, struct buf *out)
{
    return content_unpack(stored, NULL, out);
}

static pd_err from_snapshot(struct restoring *r)
{
    char key[OBJECT_KEY_MAX + 1];
    struct buf stored = {0}, plain = {0};
    struct seal seal;
    if (!snapshot_key(span_str(r->agent), r->id, key))
        return PD_NOTFOUND;
    pd_err e = objects_get(r->c->objects, key, &stored, NULL);
    if (!e)
        e = unpack_any(buf_span(&stored), &plain);
    if (!e)
        e = sealed_open(buf_span(&plain), &r->document, &r->names, &seal);
    struct json v = {JSON_OBJECT, buf_span(&r->document)};
    if (!e && (!json_is(json_get(v, "checkpoint_id"), r->id) || !json_is(json_get(v, "agent_id"), r->agent)))
        e = PD_INVALID; /* it is another's */
    buf_done(&stored);
    buf_done(&plain);
    return e;
}

static pd_err message_from_objects(struct restoring *r, size_t i)
{
    char key[OBJECT_KEY_MAX + 1];
    struct content_name name;
    struct buf stored = {0};
    name_from_bytes(buf_span(&r->names).p + i * NAME_BYTES, &name);
    blob_key(&name, key);
    pd_err e = objects_get(r->c->objects, key, &stored, NULL);
    if (!e)
        e = content_unpack(buf_span(&stored), &name, &r->texts[i]);
    buf_done(&stored);
    return e;
}

/* ---- one checkpoint ------------------------------------------------------------------------------- */

static pd_err get_document(struct restoring *r)
{
    pd_err e = r->c->db ? read_job(r, row_job) : PD_OK;
    if (e)
        note(r, "%s: the database cannot be read (%s)", r->id, pd_err_text(e));
    if (!e && r->c->db && r->found && !r->proven)
        note(r, "%s: the database's copy is damaged", r->id);
    else if (!e && r->c->db && r->found && !r->named)
        note(r, "%s: the database's list of its messages is damaged", r->id);
    if ((!e && r->proven && r->named) || e == PD_NOMEM) /* which is no damage: nothing is passed over for it */
        return e;
    bool there = !e && r->found;
    if (!r->c->objects)
        return there ? PD_INVALID : e ? e : PD_NOTFOUND;
    e = from_snapshot(r);
    if (!e)
        note(r, "%s: taken from the snapshot in the object store", r->id);
    else if (e != PD_NOTFOUND)
        note(r, "%s: the snapshot in the object store cannot be used (%s)", r->id,
             e == PD_INVALID  ? "it is damaged"
             : *objects_why() ? objects_why()
                              : pd_err_text(e));
    return e == PD_NOTFOUND && there ? PD_INVALID : e;
}

static pd_err fill(struct restoring *r)
{
    size_t elsewhere = 0;
    pd_err e = r->c->db ? read_job(r, messages_job) : PD_OK;
    if (e == PD_NOMEM)
        return e;
    for (size_t i = 0; i < r->count; i++) {
        if (!buf_size(&r->texts[i])) {
            e = r->c->objects ? message_from_objects(r, i) : PD_INVALID;
            if (e) {
                note(r, "%s: message %zu of %zu cannot be restored (%s)", r->id, i + 1, r->count,
                     e == PD_INVALID || e == PD_NOTFOUND ? "it is damaged or missing" : pd_err_text(e));
                return e == PD_NOTFOUND ? PD_INVALID : e;
            }
            elsewhere++;
        }
        r->contents[i] = buf_span(&r->texts[i]);
    }
    if (elsewhere && r->c->db)
        note(r, "%s: %zu of its %zu messages were taken from the object store", r->id, elsewhere, r->count);
    return PD_OK;
}

static pd_err get_messages(struct restoring *r, struct buf *out)
{
    r->count = buf_size(&r->names) / NAME_BYTES;
    r->contents = mem_calloc(r->count + 1, sizeof(*r->contents));
    r->texts = mem_calloc(r->count + 1, sizeof(*r->texts));
    pd_err e = r->contents && r->texts ? fill(r) : PD_NOMEM;
    size_t before = buf_size(out);
    if (!e)
        e = document_whole(buf_span(&r->document), r->contents, r->count, out);
    if (e)
        out->tail -= buf_size(out) - before;
    for (size_t i = 0; r->texts && i < r->count; i++)
        buf_done(&r->texts[i]);
    mem_free(r->contents);
    mem_free(r->texts);
    r->contents = NULL;
    r->texts = NULL;
    return e;
}

static pd_err restore_one(struct restoring *r, struct buf *out)
{
    struct span agent = agent_of_id(span_str(r->id));
    if (!agent.n)
        return PD_NOTFOUND;
    text_copy(r->agent, sizeof(r->agent), agent);
    buf_clear(&r->document);
    buf_clear(&r->names);
    pd_err e = get_document(r);
    return e ? e : get_messages(r, out);
}

/* ---- the newest that can be restored ------------------------------------------------------------------- */

struct ids {
    struct buf list; /* CHECKPOINT_ID_BYTES each, newest first */
    struct span agent;
};

static pd_err on_id(void *ctx, const struct db_value *columns, unsigned n)
{
    (void)n;
    char id[CHECKPOINT_ID_BYTES] = "";
    text_copy(id, sizeof(id), columns[0].s);
    return buf_add(ctx, span_of(id, sizeof(id)));
}

static pd_err ids_job(struct tx *t, void *ctx)
{
    struct ids *k = ctx;
    buf_clear(&k->list);
    return TX_RUN(t, "SELECT checkpoint_id FROM checkpoints WHERE agent_id = $1 ORDER BY seq DESC LIMIT $2", on_id,
                  &k->list, DB_T(k->agent), DB_I(TRIES_MAX));
}

static bool has_id(const struct ids *k, const char *id)
{
    struct span s = buf_span(&k->list);
    for (size_t at = 0; at < s.n; at += CHECKPOINT_ID_BYTES)
        if (strcmp(s.p + at, id) == 0)
            return true;
    return false;
}

/* In order of their ids, and so of their times: the newest come last. */
static pd_err on_object(void *ctx, const struct object_info *i)
{
    struct ids *k = ctx;
    char id[CHECKPOINT_ID_BYTES] = "";
    const char *name = strrchr(i->key, '/');
    struct span s = span_str(name ? name + 1 : "");
    if (!span_ends(s, ".json.zst"))
        return PD_OK;
    text_copy(id, sizeof(id), span_upto(s, s.n - strlen(".json.zst")));
    if (!span_eq(agent_of_id(span_str(id)), k->agent))
        return PD_OK;
    return buf_add(&k->list, span_of(id, sizeof(id)));
}

/* What the object store has of an agent: what `latest` names, then the others, newest first. */
static pd_err ids_of_objects(struct restoring *r, struct ids *k)
{
    char key[OBJECT_KEY_MAX + 1], latest[CHECKPOINT_ID_BYTES] = "";
    struct buf text = {.limit_bytes = 1 << 20};
    struct ids all = {.agent = k->agent};
    struct seal seal;
    if (!latest_key(k->agent, key))
        return PD_NOTFOUND;
    pd_err e = objects_get(r->c->objects, key, &text, NULL);
    if (!e && !latest_open(buf_span(&text), latest, &seal))
        e = PD_INVALID;
    buf_done(&text);
    if (e && e != PD_INVALID && e != PD_NOTFOUND)
        return e;
    if (e == PD_INVALID)
        note(r, "%s: latest is damaged: the list of snapshots tells which is the newest", key);
    if (!e)
        e = buf_add(&k->list, span_of(latest, sizeof(latest)));
    else
        e = PD_OK;
    (void)snapshot_key(k->agent, NULL, key);
    if (!e)
        e = objects_list(r->c->objects, key, on_object, &all);
    struct span s = buf_span(&all.list);
    for (size_t at = s.n; at && !e; at -= CHECKPOINT_ID_BYTES)
        if (!has_id(k, s.p + at - CHECKPOINT_ID_BYTES))
            e = buf_add(&k->list, span_of(s.p + at - CHECKPOINT_ID_BYTES, CHECKPOINT_ID_BYTES));
    buf_done(&all.list);
    return e;
}

static pd_err try_ids(struct restoring *r, struct ids *k, struct buf *out)
{
    struct span s = buf_span(&k->list);
    pd_err e = PD_NOTFOUND;
    for (size_t at = 0; at < s.n; at += CHECKPOINT_ID_BYTES) {
        memcpy(r->id, s.p + at, CHECKPOINT_ID_BYTES);
        e = restore_one(r, out);
        if (e != PD_INVALID && e != PD_NOTFOUND)
            return e;
        if (at + CHECKPOINT_ID_BYTES < s.n)
            note(r, "%s is passed over: the one before it is tried", r->id);
    }
    return e;
}

static pd_err restore_newest(struct restoring *r, struct span agent, struct buf *out)
{
    struct ids k = {.agent = agent};
    pd_err e = PD_OK;
    if (r->c->db) {
        e = read_from(r, ids_job, &k);
        if (e)
            note(r, "the database cannot be read (%s)", pd_err_text(e));
    }
    if (!e && buf_size(&k.list))
        e = try_ids(r, &k, out);
    else if (!e)
        e = PD_NOTFOUND;
    if (e && e != PD_NOMEM && r->c->objects) {
        if (r->c->db)
            note(r, "the database has none of %.*s that can be restored: the object store is asked",
                 SPAN_FMT(agent));
        buf_clear(&k.list);
        e = ids_of_objects(r, &k);
        if (!e)
            e = try_ids(r, &k, out);
    }
    buf_done(&k.list);
    return e;
}

pd_err checkpoint_restore(struct checkpoints *c, struct span agent, const char *id, struct buf *out,
                          struct buf *notes)
{
    struct restoring r = {.c = c, .note = notes};
    r.names.limit_bytes = (size_t)CHECKPOINT_MESSAGES_MAX * NAME_BYTES;
    pd_err e = PD_NOTFOUND;
    if (id && strlen(id) < sizeof(r.id)) {
        memcpy(r.id, id, strlen(id) + 1);
        e = restore_one(&r, out);
        if (e == PD_NOTFOUND && r.down) /* nobody knows */
            e = PD_IO;
    } else if (!id && checkpoint_agent_fine(agent)) {
        e = restore_newest(&r, agent, out);
    }
    buf_done(&r.document);
    buf_done(&r.names);
    buf_done(&r.stored);
    return e;
}
