#include "front/desk.h"

#include "base/clock.h"
#include "base/mem.h"
#include "dialect/codec.h"
#include "front/front_priv.h"
#include "parse/json.h"
#include "parse/utf8.h"
#include "relay/relay.h"

#include <stdio.h>

enum { DESK_EMPTY_MAX = 16, DESK_BUSY_RETRY_MS = 1000 };

/* What was looked for in this round and is not there. */
struct empty {
    char run[RUN_ID_BYTES];
    unsigned kinds;
};

struct desk {
    struct worker *worker;
    struct waker *waker;
    struct list waiting, following; /* struct visit, by `node` */
    unsigned parked;                /* in both */
    struct timer tick;
    bool ticking;
    _Atomic bool changed;
    /* a look */
    unsigned trying;
    bool again;
    uint64_t round;
    struct empty empty[DESK_EMPTY_MAX];
    unsigned empty_count;
    /* the first worker's */
    struct sweeper *sweeper;
    struct db_job sweep;
    bool sweeping, looked; /* looked: it has swept */
    unsigned swept;
    uint64_t sweep_now_ms;
};

static void look(struct desk *d);

/* ---- visits -------------------------------------------------------------------------------- */

static void refuse(struct request *rq, int status, const char *code, const char *message)
{
    uint64_t retry = status == 503 ? DESK_BUSY_RETRY_MS : 0;
    relay_refuse(rq, &codec_openai_chat, status, code, message, retry);
}

static const char no_database[] =
    "there is no database: `database` in the configuration says where it is; the log says why it "
    "could not be opened";
static const char no_memory[] = "perdure is out of memory; try again";

struct visit *visit_free(struct visit *a)
{
    if (a) {
        timer_stop(a->worker->loop, &a->timer);
        if (a->drop)
            a->drop(a);
        claimed_done(&a->claimed);
        buf_done(&a->out);
        arena_done(&a->arena);
        mem_free(a);
    }
    return NULL;
}

static void unpark(struct visit *a)
{
    if (list_empty(&a->node))
        return;
    list_remove(&a->node);
    a->desk->parked--;
}

static void on_gone(void *ctx)
{
    struct visit *a = ctx;
    a->rq = NULL;
    unpark(a);
    if (!a->under_way)
        visit_free(a);
}

static void on_drain(void *ctx)
{
    struct visit *a = ctx;
    if (!a->paused)
        return;
    a->paused = false;
    if (!a->under_way)
        visit_start(a);
}

struct visit *visit_new(struct worker *w, struct request *rq, visit_work *work, visit_answer *answer)
{
    static const struct request_handler handler = {on_gone, on_drain};
    if (!w->desk || !w->jobs) {
        refuse(rq, 503, "no_database", no_database);
        return NULL;
    }
    struct visit *a = mem_zalloc(sizeof(*a));
    if (!a) {
        refuse(rq, 503, "out_of_memory", no_memory);
        return NULL;
    }
    a->worker = w;
    a->desk = w->desk;
    a->rq = rq;
    a->work = work;
    a->answer = answer;
    list_init(&a->node);
    timer_init(&a->timer, NULL, a);
    arena_init(&a->arena, 0, 0);
    a->body = arena_span(&a->arena, request_body(rq));
    if (request_body(rq).n && !a->body.p) {
        visit_free(a);
        refuse(rq, 503, "out_of_memory", no_memory);
        return NULL;
    }
    request_set_handler(rq, &handler, a);
    return a;
}

struct visit *visit_new_json(struct worker *w, struct request *rq, visit_work *work, visit_answer *answer)
{
    struct visit *a = visit_new(w, rq, work, answer);
    if (!a)
        return NULL;
    bool fine = json_check(a->body) == PD_OK && utf8_valid(a->body) &&
                json_first(a->body, &a->doc, NULL) == PD_OK && a->doc.type == JSON_OBJECT;
    if (fine)
        return a;
    visit_refuse(a, 400, "bad_request", "the body is to be one JSON object, in UTF-8");
    return NULL;
}

static pd_err on_job(struct tx *t, void *ctx)
{
    struct visit *a = ctx;
    buf_clear(&a->out);
    return a->work(t, a);
}

static void on_done(void *ctx, pd_err e)
{
    struct visit *a = ctx;
    struct gateway *g = a->worker->gateway;
    bool changed = !e && a->changes;
    a->under_way = false;
    if (a->rq || a->trying)
        a->answer(a, e);
    else
        visit_free(a);
    if (changed)
        desk_changed(g);
}

void visit_start(struct visit *a)
{
    a->job = (struct db_job){.fn = on_job, .done = on_done, .ctx = a, .reads = a->reads};
    a->now_ms = clock_wall_ms();
    pd_err e = a->worker->jobs ? db_submit(a->worker->jobs, &a->job) : PD_CLOSED;
    if (!e)
        a->under_way = true;
    else if (a->trying)
        a->answer(a, e == PD_TOOBIG ? PD_CONNECT : e);
    else
        visit_error(a, e == PD_TOOBIG ? PD_CONNECT : e, "");
}

void visit_json(struct visit *a, int status, struct span json)
{
    struct request *rq = a->rq;
    a->rq = NULL;
    unpark(a);
    if (rq)
        answer_text(rq, status, "application/json", json);
    visit_free(a);
}

void visit_refuse(struct visit *a, int status, const char *code, const char *message)
{
    struct request *rq = a->rq;
    a->rq = NULL;
    unpark(a);
    if (rq && a->begun)
        reply_abort(rq);
    else if (rq)
        refuse(rq, status, code, message);
    visit_free(a);
}

void visit_error(struct visit *a, pd_err e, const char *exists)
{
    static const char fenced[] = "the task has another epoch by now, or is not running: stop working on it";
    if (e == PD_NOTFOUND)
        visit_refuse(a, 404, "not_found", "there is no such run, task or step");
    else if (e == PD_EXISTS && strcmp(exists, "fenced") == 0) {
        meter_add(a->worker->meter, METER_WORK_FENCED, 1, NO_LABELS);
        visit_refuse(a, 409, "fenced", fenced);
    } else if (e == PD_EXISTS)
        visit_refuse(a, 409, "conflict", "it does not wait for a person (any more): a decision is taken once");
    else if (e == PD_INVALID)
        visit_refuse(a, a->why[0] ? 400 : 409, a->why[0] ? "bad_request" : "conflict",
                     a->why[0] ? a->why : "that is not possible in its state");
    else if (e == PD_TOOBIG)
        visit_refuse(a, 413, "too_large", "a value or a name is larger than its limit (docs/runs-api.md)");
    else if (e == PD_NOSPACE)
        visit_refuse(a, 507, "disk_full", "the database's disk is full; nothing was recorded");
    else if (e == PD_NOMEM)
        visit_refuse(a, 503, "out_of_memory", no_memory);
    else if (e == PD_CLOSED)
        visit_refuse(a, 503, "no_database", no_database);
    else
        visit_refuse(a, 503, "database_down",
                     "the database does not answer, or its disk fails (the log says why); what was asked for may "
                     "be sent again");
}

/* ---- members ------------------------------------------------------------------------------------ */

static bool refuse_member(struct visit *a, const char *name, const char *what)
{
    char message[200];
    snprintf(message, sizeof(message), "%s %s", name, what);
    visit_refuse(a, 400, "bad_request", message);
    return false;
}

bool visit_text(struct visit *a, const char *name, size_t most, bool needed, const char **ret)
{
    struct json v = json_get(a->doc, name);
    struct span s = SPAN_NONE;
    *ret = NULL;
    if (v.type == JSON_NONE || v.type == JSON_NULL)
        return needed ? refuse_member(a, name, "is missing") : true;
    pd_err e = json_text(v, &a->arena, &s);
    if (e && e != PD_NOMEM)
        return refuse_member(a, name, "is to be a text");
    if (!e && (s.n > most || memchr(s.p, 0, s.n) || (needed && !s.n) || !utf8_valid(s)))
        return refuse_member(a, name, s.n > most ? "is too long" : "is empty, or has bytes that no text has");
    *ret = e ? NULL : arena_strndup(&a->arena, s.p, s.n);
    if (*ret)
        return true;
    visit_refuse(a, 503, "out_of_memory", no_memory);
    return false;
}

bool visit_count(struct visit *a, const char *name, uint64_t most, bool needed, uint64_t *ret)
{
    struct json v = json_get(a->doc, name);
    int64_t n = 0;
    if (v.type == JSON_NONE || v.type == JSON_NULL)
        return needed ? refuse_member(a, name, "is missing") : true;
    if (v.type != JSON_NUMBER || !json_i64(v, &n) || n < 0 || (uint64_t)n > most)
        return refuse_member(a, name, "is to be a whole number within its limits");
    *ret = (uint64_t)n;
    return true;
}

struct span desk_query(struct span query, const char *name)
{
    size_t n = strlen(name);
    while (query.p && query.n) {
        struct span one = span_cut(&query, '&');
        if (one.n > n && memcmp(one.p, name, n) == 0 && one.p[n] == '=')
            return span_from(one, n + 1);
    }
    return SPAN_NONE;
}

/* ---- waiting -------------------------------------------------------------------------------------- */

static void begin_ticking(struct desk *d)
{
    if (d->ticking)
        return;
    d->ticking = true;
    bool soon = d->sweeper && !d->looked; /* a process may live for a moment only: what it watches begins early */
    timer_arm(d->worker->loop, &d->tick, loop_now_ms(d->worker->loop) + (soon ? DESK_FIRST_MS : DESK_TICK_MS));
}

static void park(struct visit *a, struct list *where)
{
    struct desk *d = a->desk;
    if (d->parked >= DESK_WAITING_MAX) {
        visit_refuse(a, 503, "database_down", "too many wait already; try again");
        return;
    }
    d->parked++;
    list_push(where, &a->node);
    begin_ticking(d);
}

/* Its time is over. */
static void on_wait_over(void *ctx)
{
    struct visit *a = ctx;
    if (a->under_way) /* being tried: that decides */
        return;
    struct request *rq = a->rq;
    a->rq = NULL;
    unpark(a);
    if (rq)
        reply_simple(rq, 204, NULL, 0, SPAN_NONE);
    visit_free(a);
}

void desk_wait(struct visit *a)
{
    struct loop *l = a->worker->loop;
    if (!a->rq || loop_now_ms(l) >= a->until_ms || atomic_load(&a->worker->gateway->draining)) {
        on_wait_over(a);
        return;
    }
    a->timer.fn = on_wait_over;
    timer_arm(l, &a->timer, a->until_ms);
    park(a, &a->desk->waiting);
}

static void on_follow_due(void *ctx)
{
    struct visit *a = ctx;
    if (a->under_way || a->paused)
        return;
    unpark(a);
    visit_start(a);
}

void desk_follow(struct visit *a)
{
    a->timer.fn = on_follow_due;
    a->told_ms = loop_now_ms(a->worker->loop);
    park(a, &a->desk->following);
}

/* ---- looking ---------------------------------------------------------------------------------------- */

static bool known_empty(const struct desk *d, const struct visit *a)
{
    for (unsigned i = 0; i < d->empty_count; i++)
        if (d->empty[i].kinds == a->wish.kinds && strcmp(d->empty[i].run, a->wish.run ? a->wish.run : "") == 0)
            return true;
    return false;
}

/* Tries the next that was not tried in this round, and does not want what is known not to be there. */
static void try_one(struct desk *d)
{
    LIST_EACH(n, &d->waiting)
    {
        struct visit *a = LIST_OF(n, struct visit, node);
        if (a->round == d->round || known_empty(d, a))
            continue;
        a->round = d->round;
        unpark(a);
        timer_stop(d->worker->loop, &a->timer);
        a->trying = true;
        d->trying++;
        visit_start(a);
        return;
    }
}

/* What a claim that was tried for others found; called by its answer through desk_tried(). */
static void tried(struct desk *d, const struct visit *a, pd_err e)
{
    d->trying--;
    if (!e) {
        try_one(d);
        try_one(d);
    } else if (e == PD_NOTFOUND && d->empty_count < DESK_EMPTY_MAX) {
        struct empty *x = &d->empty[d->empty_count++];
        snprintf(x->run, sizeof(x->run), "%s", a->wish.run ? a->wish.run : "");
        x->kinds = a->wish.kinds;
        try_one(d);
    }
    if (!d->trying && d->again) {
        d->again = false;
        look(d);
    }
}

void desk_tried(struct visit *a, pd_err e)
{
    if (!a->trying)
        return;
    a->trying = false;
    tried(a->desk, a, e);
}

static void look(struct desk *d)
{
    if (d->trying) {
        d->again = true;
        return;
    }
    d->round++;
    d->empty_count = 0;
    try_one(d);
}

static void tell_followers(struct desk *d)
{
    uint64_t now = loop_now_ms(d->worker->loop);
    LIST_EACH(n, &d->following)
    {
        struct visit *a = LIST_OF(n, struct visit, node);
        if (!a->timer.armed)
            timer_arm(d->worker->loop, &a->timer,
                      a->told_ms + DESK_FOLLOW_MS > now ? a->told_ms + DESK_FOLLOW_MS : now);
    }
}

static void on_wake(void *ctx)
{
    struct desk *d = ctx;
    if (!atomic_exchange(&d->changed, false))
        return;
    look(d);
    tell_followers(d);
}

void desk_changed(struct gateway *g)
{
    for (unsigned i = 0; i < g->workers_count; i++) {
        struct desk *d = g->workers[i]->desk;
        if (d && !atomic_exchange(&d->changed, true))
            waker_wake(d->waker);
    }
}

/* ---- once a second ------------------------------------------------------------------------------------- */

static pd_err sweep_job(struct tx *t, void *ctx)
{
    struct desk *d = ctx;
    /* it may have waited: what is seen now was not so before */
    return runs_sweep(t, d->sweeper, clock_mono_ms(), d->sweep_now_ms, &d->swept);
}

static void sweep_done(void *ctx, pd_err e)
{
    struct desk *d = ctx;
    d->sweeping = false;
    if (e || !d->swept)
        return;
    meter_add(d->worker->meter, METER_WORK_LOST, d->swept, NO_LABELS);
    desk_changed(d->worker->gateway);
}

static void sweep(struct desk *d)
{
    if (!d->sweeper || d->sweeping || !d->worker->jobs)
        return;
    d->sweep = (struct db_job){.fn = sweep_job, .done = sweep_done, .ctx = d};
    d->sweep_now_ms = clock_wall_ms();
    d->sweeping = db_submit(d->worker->jobs, &d->sweep) == PD_OK;
    d->looked |= d->sweeping;
}

/* A service that ends lets nobody wait: they ask again, of whoever comes then. */
static void send_home(struct desk *d)
{
    struct list *n;
    while ((n = list_first(&d->waiting)) != NULL)
        on_wait_over(LIST_OF(n, struct visit, node));
    while ((n = list_first(&d->following)) != NULL) {
        struct visit *a = LIST_OF(n, struct visit, node);
        struct request *rq = a->rq;
        a->rq = NULL;
        unpark(a);
        if (a->begun)
            reply_end(rq);
        else
            refuse(rq, 503, "no_database", "perdure is ending; ask again");
        visit_free(a);
    }
}

static void on_tick(void *ctx)
{
    struct desk *d = ctx;
    d->ticking = false;
    if (atomic_load(&d->worker->gateway->draining))
        send_home(d);
    sweep(d);
    look(d);
    tell_followers(d);
    if (d->sweeper || d->parked)
        begin_ticking(d);
}

/* ---- the desk ------------------------------------------------------------------------------------------- */

struct desk *desk_new(struct worker *w)
{
    struct desk *d = mem_zalloc(sizeof(*d));
    if (!d)
        return NULL;
    d->worker = w;
    list_init(&d->waiting);
    list_init(&d->following);
    timer_init(&d->tick, on_tick, d);
    d->waker = waker_new(w->loop, on_wake, d);
    if (w->index == 0)
        d->sweeper = sweeper_new();
    if (!d->waker || (w->index == 0 && !d->sweeper))
        return desk_free(d);
    if (d->sweeper)
        begin_ticking(d);
    return d;
}

struct desk *desk_free(struct desk *d)
{
    if (d) {
        timer_stop(d->worker->loop, &d->tick);
        waker_free(d->waker);
        sweeper_free(d->sweeper);
        mem_free(d);
    }
    return NULL;
}

unsigned desk_parked(const struct desk *d)
{
    return d ? d->parked : 0;
}
