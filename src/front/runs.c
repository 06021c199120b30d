/* /api/runs: runs made, looked at, followed, paused. docs/runs-api.md */
#include "base/mem.h"
#include "dialect/codec.h"
#include "front/desk.h"
#include "front/front_priv.h"
#include "parse/utf8.h"
#include "relay/relay.h"

#include <stdio.h>

enum { RUNS_LISTED = 100, RUNS_LISTED_MAX = 1000, EVENTS_AT_ONCE = 1000, PLAN_NAME_MAX = 200 };

/* ---- making --------------------------------------------------------------------------------- */

struct making {
    struct visit *a;
    struct loop *loop;
    struct arena arena;
    struct plan plan;
    char name[PLAN_NAME_MAX + 1];
    struct span text; /* the visit's own */
};

/* A large plan takes longer than a turn of the loop may. */
static void parse(void *ctx)
{
    struct making *m = ctx;
    struct visit *a = m->a;
    a->err = utf8_valid(m->text) ? plan_parse(m->text, m->name, NULL, &m->arena, &m->plan, a->why) : PD_INVALID;
    if (a->err == PD_INVALID && !a->why[0])
        snprintf(a->why, sizeof(a->why), "%s: not UTF-8: save the file as UTF-8", m->name);
}

static struct making *making_of(struct visit *a)
{
    return (struct making *)(void *)a->text.p;
}

/* With its visit, however that ends: a client that has left is not answered. */
static void making_free(struct visit *a)
{
    struct making *m = making_of(a);
    arena_done(&m->arena);
    mem_free(m);
}

static pd_err create_work(struct tx *t, struct visit *a)
{
    struct span key = a->wish.claim;
    return runs_create(t, &making_of(a)->plan, key, a->now_ms, a->id, &a->run_state, &a->flag);
}

static void create_answer(struct visit *a, pd_err e)
{
    char text[120];
    a->why[0] = '\0';
    if (e) {
        visit_error(a, e, "conflict");
        return;
    }
    int n = snprintf(text, sizeof(text), "{\"id\":\"%s\",\"state\":\"%s\"}", a->id, run_state_name(a->run_state));
    visit_json(a, a->flag ? 201 : 200, span_of(text, (size_t)n));
}

static void parsed(void *ctx)
{
    struct making *m = ctx;
    struct visit *a = m->a;
    a->under_way = false;
    if (!a->err && a->rq && a->worker->jobs) {
        visit_start(a);
        return;
    }
    pd_err e = a->err ? a->err : PD_CLOSED;
    if (e == PD_INVALID)
        visit_refuse(a, 400, "plan_invalid", a->why);
    else if (e == PD_TOOBIG)
        visit_refuse(a, 413, "too_large", a->why);
    else
        visit_error(a, e, "");
}

void serve_run_create(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct span word = request_header(rq, "idempotency-key"), name = desk_query(request_query(rq), "name");
    struct visit *a = visit_new(w, rq, create_work, create_answer);
    if (!a)
        return;
    if (word.n > RUN_KEY_MAX || !utf8_valid(word)) {
        visit_refuse(a, 400, "bad_request", "Idempotency-Key is too long, or not UTF-8");
        return;
    }
    struct making *m = mem_zalloc(sizeof(*m));
    a->wish.claim = arena_span(&a->arena, word);
    if (!m || (word.n && !a->wish.claim.p)) {
        mem_free(m);
        visit_error(a, PD_NOMEM, "");
        return;
    }
    bool named = name.n && name.n <= PLAN_NAME_MAX && utf8_valid(name) && !memchr(name.p, 0, name.n);
    snprintf(m->name, sizeof(m->name), "%.*s", SPAN_FMT(named ? name : SPAN_LIT("plan")));
    arena_init(&m->arena, 0, PLAN_MEMORY_MAX);
    m->a = a;
    m->text = a->body;
    a->text = span_of((const char *)m, sizeof(*m));
    a->drop = making_free;
    a->changes = true;
    runs_new_id(a->id);
    a->under_way = true;
    if (loop_offload(w->loop, parse, parsed, m) == PD_OK)
        return;
    a->under_way = false;
    visit_error(a, PD_NOMEM, "");
}

/* ---- looking ---------------------------------------------------------------------------------- */

static void out_answer(struct visit *a, pd_err e)
{
    if (e)
        visit_error(a, e, "");
    else
        visit_json(a, 200, buf_span(&a->out));
}

static pd_err list_work(struct tx *t, struct visit *a)
{
    return runs_list_json(t, a->limit, &a->out);
}

static unsigned number_of(struct span query, const char *name, unsigned most)
{
    uint64_t n = 0;
    return span_u64(desk_query(query, name), &n) && n && n < most ? (unsigned)n : most;
}

void serve_runs(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct visit *a = visit_new(w, rq, list_work, out_answer);
    if (!a)
        return;
    bool said = desk_query(request_query(rq), "limit").n > 0;
    a->limit = said ? number_of(request_query(rq), "limit", RUNS_LISTED_MAX) : RUNS_LISTED;
    a->reads = true;
    visit_start(a);
}

static pd_err one_work(struct tx *t, struct visit *a)
{
    return a->task ? runs_task_json(t, a->run, a->task, &a->out) : runs_one_json(t, a->run, a->flag, &a->out);
}

/* ---- events ------------------------------------------------------------------------------------- */

static pd_err events_work(struct tx *t, struct visit *a)
{
    return runs_events_json(t, &a->events, &a->out, &a->last, &a->over);
}

static pd_err write_events(struct visit *a)
{
    const struct header h[] = {
        {SPAN_LIT("Content-Type"), a->events.sse ? SPAN_LIT("text/event-stream") : SPAN_LIT("application/jsonl")},
        {SPAN_LIT("Cache-Control"), SPAN_LIT("no-store")}};
    struct span bytes = buf_span(&a->out);
    pd_err e = a->begun ? PD_OK : reply_begin(a->rq, 200, h, 2, -1);
    a->begun = true;
    return e || !bytes.n ? e : reply_write(a->rq, &bytes, 1);
}

static void end_events(struct visit *a)
{
    struct request *rq = a->rq;
    a->rq = NULL;
    reply_end(rq);
    visit_free(a);
}

static void events_answer(struct visit *a, pd_err e)
{
    if (!e)
        e = write_events(a);
    if (e) {
        visit_error(a, e, "");
        return;
    }
    bool more = a->last != a->events.after;
    a->events.after = a->last;
    if (!a->events.follow || a->over) {
        end_events(a);
        return;
    }
    reply_flush(a->rq);
    a->paused = reply_queued(a->rq) > DESK_FOLLOW_HIGH;
    if (a->paused)
        return; /* goes on when its client has taken what is there */
    if (more && buf_size(&a->out) > DESK_FOLLOW_HIGH / 2)
        visit_start(a);
    else
        desk_follow(a);
}

static void serve_events(struct worker *w, struct request *rq, struct span run)
{
    struct span query = request_query(rq), accept = request_header(rq, "accept"),
                last = request_header(rq, "last-event-id");
    uint64_t after = 0;
    struct visit *a = visit_new(w, rq, events_work, events_answer);
    if (!a)
        return;
    a->events.run = arena_strndup(&a->arena, run.p, run.n);
    if (!a->events.run) {
        visit_error(a, PD_NOMEM, "");
        return;
    }
    if (!span_u64(desk_query(query, "after"), &after))
        (void)span_u64(last, &after);
    a->events.after = after < INT64_MAX ? (int64_t)after : INT64_MAX;
    a->events.limit = number_of(query, "limit", EVENTS_AT_ONCE);
    a->events.follow = span_is(desk_query(query, "follow"), "1");
    a->events.sse = span_ihas(accept, "text/event-stream");
    a->reads = true;
    visit_start(a);
}

/* ---- one run: ID, ID/events, ID/tasks/TASK -------------------------------------------------------- */

void serve_one_run(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    struct span below = span_from(request_path(rq), strlen(at->path)), rest = below, run = span_cut(&rest, '/');
    if (span_is(rest, "events")) {
        serve_events(w, rq, run);
        return;
    }
    if (rest.p && !span_starts(rest, "tasks/")) {
        relay_refuse(rq, &codec_openai_chat, 404, "not_found", "below a run are events and tasks/TASK", 0);
        return;
    }
    struct visit *a = visit_new(w, rq, one_work, out_answer);
    if (!a)
        return;
    struct span task = span_from(rest, strlen("tasks/"));
    a->run = arena_strndup(&a->arena, run.p, run.n);
    a->task = rest.p ? arena_strndup(&a->arena, task.p ? task.p : "", task.n) : NULL;
    a->flag = !span_is(desk_query(request_query(rq), "tasks"), "0");
    a->reads = true;
    if (!a->run || (rest.p && !a->task))
        visit_error(a, PD_NOMEM, "");
    else
        visit_start(a);
}

/* ---- wishes ------------------------------------------------------------------------------------------ */

static pd_err wish_work(struct tx *t, struct visit *a)
{
    return runs_wish(t, a->run, a->run_wish, a->text, a->now_ms, &a->run_state);
}

static void wish_answer(struct visit *a, pd_err e)
{
    char text[120];
    if (e) {
        visit_error(a, e, "conflict");
        return;
    }
    int n = snprintf(text, sizeof(text), "{\"id\":\"%s\",\"state\":\"%s\"}", a->run, run_state_name(a->run_state));
    visit_json(a, 200, span_of(text, (size_t)n));
}

void serve_run_wish(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    static const char *const names[] = {"pause", "resume", "cancel"};
    const char *why = NULL;
    struct span rest = span_from(request_path(rq), strlen(at->path)), run = span_cut(&rest, '/');
    unsigned wish = 0;
    while (wish < 3 && !span_is(rest, names[wish]))
        wish++;
    if (wish == 3 || run.n >= RUN_ID_BYTES) {
        relay_refuse(rq, &codec_openai_chat, 404, "not_found", "POST to a run is /pause, /resume or /cancel", 0);
        return;
    }
    bool empty = request_body(rq).n == 0;
    struct visit *a =
        empty ? visit_new(w, rq, wish_work, wish_answer) : visit_new_json(w, rq, wish_work, wish_answer);
    if (!a || (!empty && !visit_text(a, "why", STEP_NAME_MAX, false, &why)))
        return;
    a->run = arena_strndup(&a->arena, run.p, run.n);
    a->run_wish = (enum run_wish)wish;
    a->text = span_str(why ? why : "");
    a->changes = true;
    if (a->run)
        visit_start(a);
    else
        visit_error(a, PD_NOMEM, "");
}
