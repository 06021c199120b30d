/* /api/checkpoints: an agent's checkpoints are made, listed and given back.
 *
 * What waits for the database or the object store runs off the loop; a client that has left meanwhile is not answered. */
#include "base/mem.h"
#include "checkpoint/checkpoint.h"
#include "dialect/codec.h"
#include "front/front_priv.h"
#include "parse/url.h"
#include "relay/relay.h"
#include "relay/routing.h"

#include <stdio.h>

enum { LIST_USUAL = 100, LIST_MOST = 10000, AGAIN_MS = 1000 };

/* One request that is being worked for. */
struct waiting {
    struct worker *w;
    struct request *rq; /* NULL: the client has left */
    char agent[CHECKPOINT_AGENT_BYTES], id[CHECKPOINT_ID_BYTES];
    bool by_id, resume, dry;
    unsigned limit;
    struct db_job job;
    struct buf out, notes;
    struct checkpoints_pruned pruned;
    pd_err err;
};

static void on_gone(void *ctx)
{
    ((struct waiting *)ctx)->rq = NULL;
}

static void refuse(struct request *rq, int status, const char *code, const char *message, uint64_t again_ms)
{
    relay_refuse(rq, &codec_openai_chat, status, code, message, again_ms);
}

static void refuse_closed(struct request *rq)
{
    refuse(rq, 503, "database_not_open",
           "the database is not open (now): the log says why; checkpoints are kept in it, see docs/checkpoints.md",
           AGAIN_MS);
}

static void refuse_err(struct request *rq, pd_err e, const char *why)
{
    switch ((int)e) {
    case PD_INVALID:
    case PD_SYNTAX:
        refuse(rq, 400, "bad_request", why, 0);
        break;
    case PD_NOTFOUND:
        refuse(rq, 404, "not_found", why, 0);
        break;
    case PD_NOSPACE:
        refuse(rq, 507, "disk_full", why, AGAIN_MS);
        break;
    case PD_TOOBIG:
        refuse(rq, 413, "too_large", why, 0);
        break;
    default:
        refuse(rq, 503, "not_stored", why, AGAIN_MS);
    }
}

static struct waiting *waiting_new(struct worker *w, struct request *rq)
{
    static const struct request_handler handler = {on_gone, NULL};
    struct waiting *k = mem_zalloc(sizeof(*k));
    if (!k) {
        refuse(rq, 503, "out_of_memory", "perdure is out of memory; try again", AGAIN_MS);
        return NULL;
    }
    k->w = w;
    k->rq = rq;
    request_set_handler(rq, &handler, k);
    return k;
}

static void waiting_free(struct waiting *k)
{
    buf_done(&k->out);
    buf_done(&k->notes);
    mem_free(k);
}

/* It was not begun. */
static void refuse_begin(struct waiting *k, pd_err e)
{
    if (k->rq && e == PD_CLOSED)
        refuse_closed(k->rq);
    else if (k->rq)
        refuse_err(k->rq, e,
                   e == PD_TOOBIG ? "too many checkpoints wait to be stored; try again" : pd_err_text(e));
    waiting_free(k);
}

static struct checkpoints *is_open(struct worker *w, struct request *rq)
{
    struct checkpoints *c = w->jobs ? atomic_load(&w->gateway->checkpoints) : NULL;
    if (!c)
        refuse_closed(rq);
    return c;
}

/* A member of the query, escapes undone. False: it is there, and too long. */
static bool query_text(struct request *rq, const char *name, char *out, size_t room)
{
    struct span query = request_query(rq);
    size_t n = strlen(name);
    out[0] = '\0';
    while (query.p && query.n) {
        struct span one = span_cut(&query, '&');
        if (one.n <= n || !span_starts(one, name) || one.p[n] != '=')
            continue;
        one = span_from(one, n + 1);
        if (one.n >= room)
            return false;
        out[url_unescape(one, out)] = '\0';
    }
    return true;
}

static bool query_is(struct request *rq, const char *name, const char *value)
{
    char text[32];
    return query_text(rq, name, text, sizeof(text)) && strcmp(text, value) == 0;
}

/* ---- POST /api/checkpoints ------------------------------------------------------------------- */

struct reading {
    struct arena arena;
    struct checkpoint cp;
    const char *why;
};

static pd_err read_text(struct reading *r, struct json v, struct span *ret)
{
    if (v.type == JSON_NULL)
        return PD_OK;
    pd_err e = json_text(v, &r->arena, ret);
    if (e && e != PD_NOMEM)
        r->why = "agent_id, task, output_hash, provider, milestone, reason and parent are to be texts";
    return e;
}

static pd_err read_messages(struct reading *r, struct json v)
{
    struct json_walk w;
    struct json one;
    size_t n = 0;
    if (v.type == JSON_NULL)
        return PD_OK;
    r->why = "messages is to be an array of up to 100,000";
    if (v.type != JSON_ARRAY)
        return PD_INVALID;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &one))
        if (++n > CHECKPOINT_MESSAGES_MAX)
            return PD_INVALID;
    if (w.err)
        return PD_INVALID;
    struct span *list = arena_alloc(&r->arena, (n + 1) * sizeof(*list));
    if (!list)
        return PD_NOMEM;
    json_walk_init(&w, v);
    for (size_t i = 0; i < n && json_walk_next(&w, NULL, &one); i++)
        list[i] = one.raw;
    r->cp.messages = list;
    r->cp.messages_count = n;
    return PD_OK;
}

static pd_err read_member(struct reading *r, struct span key, struct json v)
{
    struct checkpoint *cp = &r->cp;
    const struct {
        const char *name;
        struct span *text, *raw;
    } members[] = {
        {"agent_id", &cp->agent, NULL},          {"task", &cp->task, NULL},
        {"output_hash", &cp->output_hash, NULL}, {"provider", &cp->provider, NULL},
        {"milestone", &cp->milestone, NULL},     {"reason", &cp->reason, NULL},
        {"parent", &cp->parent, NULL},           {"memory", NULL, &cp->memory},
        {"open_files", NULL, &cp->open_files},   {"state", NULL, &cp->state},
        {"token_usage", NULL, &cp->token_usage}, {"progress", NULL, &cp->progress},
    };
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (!json_key_is(key, members[i].name))
            continue;
        if (members[i].raw)
            *members[i].raw = v.raw;
        return members[i].text ? read_text(r, v, members[i].text) : PD_OK;
    }
    if (json_key_is(key, "messages"))
        return read_messages(r, v);
    r->why = "step_index is to be a whole number from 0 on";
    if (json_key_is(key, "step_index"))
        return v.type == JSON_NULL || (json_i64(v, &cp->step_index) && cp->step_index >= 0) ? PD_OK : PD_INVALID;
    r->why = "a member is not known: a checkpoint has agent_id, task, step_index, output_hash, memory, "
             "open_files, provider, "
             "milestone, token_usage, progress, state, reason, parent, messages; anything of your own belongs "
             "into state";
    return PD_INVALID;
}

/* What stands in the members is looked at off the loop. */
static pd_err read_checkpoint(struct reading *r, struct span body)
{
    struct json_walk w;
    struct json v;
    struct span key;
    pd_err e = PD_OK;
    r->why = "the body is to be a JSON object";
    if (!span_starts(span_trim(body), "{"))
        return PD_SYNTAX;
    json_walk_doc(&w, body);
    while (!e && json_walk_next(&w, &key, &v))
        e = read_member(r, key, v);
    if (!e && (w.err || span_trim(w.rest).n)) {
        r->why = "the body is no JSON";
        e = PD_SYNTAX;
    }
    return e;
}

static void on_made(void *ctx, pd_err e, const char *id, const char *why)
{
    struct waiting *k = ctx;
    if (k->rq && e) {
        refuse_err(k->rq, e, why);
    } else if (k->rq) {
        struct put p = put_into(&k->out);
        put_text(&p, "{\"checkpoint_id\":");
        put_json(&p, span_str(id));
        put_text(&p, "}");
        answer_json(k->rq, 201, &k->out, p.err);
    }
    waiting_free(k);
}

void serve_checkpoint_create(struct worker *w, struct request *rq, const struct endpoint *at,
                             const struct conf_key *key)
{
    (void)at, (void)key;
    struct checkpoints *c = is_open(w, rq);
    struct reading r = {.cp = {.step_index = -1}};
    if (!c)
        return;
    arena_init(&r.arena, 1024, 0); /* of a body's size */
    pd_err e = read_checkpoint(&r, request_body(rq));
    if (!r.cp.agent.n)
        r.cp.agent = span_str(routing_conf(w->routing)->agent);
    struct waiting *k = e ? NULL : waiting_new(w, rq);
    if (e)
        refuse_err(rq, e, e == PD_NOMEM ? pd_err_text(e) : r.why);
    else if (k && (e = checkpoint_submit(c, w->jobs, &r.cp, on_made, k)) != PD_OK)
        refuse_begin(k, e);
    arena_done(&r.arena);
}

/* ---- GET /api/checkpoints -------------------------------------------------------------------- */

static pd_err put_summary(void *ctx, const struct checkpoint_summary *s)
{
    struct put *p = ctx;
    bool first = p->b->tail > p->b->head && p->b->p[p->b->tail - 1] == '[';
    put_text(p, first ? "{\"agent_id\":" : ",{\"agent_id\":");
    put_json(p, s->agent);
    const struct {
        const char *name;
        struct span s;
    } texts[] = {{"checkpoint_id", s->id}, {"timestamp", s->timestamp}, {"milestone", s->milestone},
                 {"task", s->task},        {"reason", s->reason},       {"provider", s->provider}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        put_printf(p, ",\"%s\":", texts[i].name);
        put_json(p, texts[i].s);
    }
    if (s->step_index >= 0)
        put_printf(p, ",\"step_index\":%lld", (long long)s->step_index);
    put_printf(p, ",\"messages\":%lld,\"bytes\":%lld,\"stored_bytes\":%lld,\"uploaded\":%s}",
               (long long)s->messages, (long long)s->bytes, (long long)s->stored_bytes,
               s->uploaded ? "true" : "false");
    return p->err;
}

static pd_err list_job(struct tx *t, void *ctx)
{
    struct waiting *k = ctx;
    buf_clear(&k->out);
    struct put p = put_into(&k->out);
    put_text(&p, "{\"checkpoints\":[");
    pd_err e = checkpoints_list_job(t, span_str(k->agent), k->limit, put_summary, &p);
    put_text(&p, "]}");
    return e ? e : p.err;
}

static void on_listed(void *ctx, pd_err e)
{
    struct waiting *k = ctx;
    if (k->rq && e)
        refuse_err(k->rq, e, pd_err_text(e));
    else if (k->rq)
        answer_json(k->rq, 200, &k->out, PD_OK);
    waiting_free(k);
}

void serve_checkpoints(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    char agent[CHECKPOINT_AGENT_BYTES], limit[24];
    uint64_t n = LIST_USUAL;
    if (!is_open(w, rq))
        return;
    if (!query_text(rq, "agent", agent, sizeof(agent)) || (*agent && !checkpoint_agent_fine(span_str(agent))) ||
        !query_text(rq, "limit", limit, sizeof(limit)) || (*limit && (!span_u64(span_str(limit), &n) || n == 0))) {
        refuse(rq, 400, "bad_request", "agent is to be an agent's name, and limit a whole number from 1 on", 0);
        return;
    }
    struct waiting *k = waiting_new(w, rq);
    if (!k)
        return;
    memcpy(k->agent, agent, sizeof(agent));
    k->limit = n < LIST_MOST ? (unsigned)n : LIST_MOST;
    k->job = (struct db_job){.fn = list_job, .done = on_listed, .ctx = k, .reads = true};
    pd_err e = db_submit(w->jobs, &k->job);
    if (e)
        refuse_begin(k, e);
}

/* ---- GET /api/checkpoints/ID, /latest, .../resume ------------------------------------------------- */

static void restore_work(struct checkpoints *c, void *ctx)
{
    struct waiting *k = ctx;
    struct buf text = {0};
    k->err = checkpoint_restore(c, span_str(k->agent), k->by_id ? k->id : NULL, &k->out, &k->notes);
    if (k->err || !k->resume)
        return;
    k->err = checkpoint_resume_text(buf_span(&k->out), &text);
    buf_done(&k->out);
    k->out = text;
}

static void put_notes(struct put *p, struct span notes)
{
    bool any = false;
    put_text(p, "[");
    while (notes.p && notes.n) {
        put_text(p, any ? "," : "");
        put_json(p, span_cut(&notes, '\n'));
        any = true;
    }
    put_text(p, "]");
}

static void answer_restored(struct waiting *k)
{
    struct buf answer = {0};
    struct put p = put_into(&answer);
    if (k->resume) {
        answer_text(k->rq, 200, "text/plain; charset=utf-8", buf_span(&k->out));
        return;
    }
    put_text(&p, "{\"notes\":");
    put_notes(&p, buf_span(&k->notes));
    put_text(&p, ",\"checkpoint\":");
    put_span(&p, buf_span(&k->out));
    put_text(&p, "}");
    answer_json(k->rq, 200, &answer, p.err);
}

static void refuse_restored(struct waiting *k)
{
    char message[600];
    struct span notes = buf_span(&k->notes);
    if (k->err == PD_NOTFOUND)
        refuse(k->rq, 404, "not_found", k->by_id ? "no checkpoint has this id" : "this agent has no checkpoint",
               0);
    else if (k->err == PD_INVALID) {
        snprintf(message, sizeof(message), "no undamaged copy of it is left: %.*s",
                 SPAN_FMT(span_upto(notes, 500)));
        for (char *at = message; (at = strchr(at, '\n')) != NULL;)
            *at = ';';
        refuse(k->rq, 410, "damaged", message, 0);
    } else
        refuse_err(k->rq, k->err, pd_err_text(k->err));
}

static void on_restored(void *ctx)
{
    struct waiting *k = ctx;
    if (k->rq && k->err)
        refuse_restored(k);
    else if (k->rq)
        answer_restored(k);
    waiting_free(k);
}

void serve_one_checkpoint(struct worker *w, struct request *rq, const struct endpoint *at,
                          const struct conf_key *key)
{
    (void)key;
    struct span id = span_from(request_path(rq), strlen(at->path));
    struct checkpoints *c = is_open(w, rq);
    struct waiting *k = c ? waiting_new(w, rq) : NULL;
    if (!k)
        return;
    k->resume = span_ends(id, "/resume");
    if (k->resume)
        id.n -= strlen("/resume");
    k->by_id = !span_is(id, "latest");
    if (id.n < sizeof(k->id))
        k->id[url_unescape(id, k->id)] = '\0';
    if (!query_text(rq, "agent", k->agent, sizeof(k->agent)))
        k->agent[0] = '\0';
    if (!*k->agent)
        snprintf(k->agent, sizeof(k->agent), "%s", routing_conf(w->routing)->agent);
    pd_err e = checkpoints_work(c, w->jobs, restore_work, on_restored, k);
    if (e)
        refuse_begin(k, e);
}

/* ---- POST /api/checkpoints/prune --------------------------------------------------------------------- */

static void prune_work(struct checkpoints *c, void *ctx)
{
    struct waiting *k = ctx;
    k->err = checkpoints_prune(c, k->dry, &k->pruned);
}

static void on_pruned(void *ctx)
{
    struct waiting *k = ctx;
    const struct checkpoints_pruned *n = &k->pruned;
    if (k->rq && k->err) {
        refuse_err(k->rq, k->err, pd_err_text(k->err));
    } else if (k->rq) {
        struct put p = put_into(&k->out);
        put_printf(&p, "{\"dry\":%s,\"checkpoints\":%llu,\"contents\":%llu,\"bytes\":%llu,\"objects\":%llu}",
                   k->dry ? "true" : "false", (unsigned long long)n->checkpoints, (unsigned long long)n->blobs,
                   (unsigned long long)n->bytes, (unsigned long long)n->objects);
        answer_json(k->rq, 200, &k->out, p.err);
    }
    waiting_free(k);
}

void serve_checkpoint_prune(struct worker *w, struct request *rq, const struct endpoint *at,
                            const struct conf_key *key)
{
    (void)at, (void)key;
    struct checkpoints *c = is_open(w, rq);
    struct waiting *k = c ? waiting_new(w, rq) : NULL;
    if (!k)
        return;
    k->dry = query_is(rq, "dry", "true");
    pd_err e = checkpoints_work(c, w->jobs, prune_work, on_pruned, k);
    if (e)
        refuse_begin(k, e);
}
