#include "task/work_http.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/asker.h"
#include "parse/put.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    PATIENCE_MS = 60 * 1000,
    PATIENCE_STOPPED_MS = 5 * 1000, /* of a worker that ends: its perdure may have ended too */
    PAUSE_FIRST_MS = 50,
    PAUSE_MOST_MS = 2000,          /* who waits for so long says so */
    ANSWER_MS = 30 * 1000,         /* a request that does not wait for anything */
    CLAIM_WAIT_MAX_MS = 20 * 1000, /* of one request: a connection that died is noticed */
    ANSWER_MAX = 32 << 20,
    WHY_MAX = 300,
    PATH_MAX_BYTES = 400,
};

struct seat {
    struct asker *asker;
    bool taken, claims;
};

struct work_http {
    struct work_queue queue; /* first */
    char *url, *base, *bearer;
    uint64_t patience_ms;
    pthread_mutex_t lock;
    pthread_cond_t left; /* a seat is free */
    struct seat seats[WORK_HTTP_ASKERS];
    _Atomic(struct asker *) askers[WORK_HTTP_ASKERS]; /* the same, for a signal handler */
    atomic_bool claiming[WORK_HTTP_ASKERS];
    atomic_bool stopped, unreached; /* unreached: nobody answers, and that was said */
    char why[WHY_MAX];
};

/* ---- seats: an asker each, made when first used --------------------------------------------------------------- */

static int seat_take(struct work_http *h)
{
    int found = -1;
    pthread_mutex_lock(&h->lock);
    while (found < 0) {
        for (int i = 0; i < WORK_HTTP_ASKERS && found < 0; i++)
            if (!h->seats[i].taken)
                found = i;
        if (found < 0)
            pthread_cond_wait(&h->left, &h->lock);
    }
    h->seats[found].taken = true;
    pthread_mutex_unlock(&h->lock);
    return found;
}

static void seat_leave(struct work_http *h, int i)
{
    pthread_mutex_lock(&h->lock);
    h->seats[i].taken = false;
    pthread_cond_signal(&h->left);
    pthread_mutex_unlock(&h->lock);
}

static pd_err seat_asker(struct work_http *h, int i)
{
    if (h->seats[i].asker)
        return PD_OK;
    pd_err e = asker_new(h->url, &h->seats[i].asker);
    if (!e)
        atomic_store(&h->askers[i], h->seats[i].asker);
    return e;
}

static void set_why(struct work_http *h, const char *what, struct span said)
{
    pthread_mutex_lock(&h->lock);
    snprintf(h->why, sizeof(h->why), said.n ? "%s: %.*s" : "%s", what, SPAN_FMT(span_upto(said, 240)));
    pthread_mutex_unlock(&h->lock);
}

/* ---- one request, until it is answered ------------------------------------------------------------------------- */

static pd_err ask_once(struct work_http *h, int seat, const char *path, struct span body, uint64_t limit_ms,
                       bool claim, struct asker_answer *ret)
{
    char whole[PATH_MAX_BYTES];
    struct http1_field fields[2] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")}};
    *ret = (struct asker_answer){.why = ""}; /* what fails before it is asked has no sentence */
    pd_err e = seat_asker(h, seat);
    if (e)
        return e;
    if (!claim)
        asker_again(h->seats[seat].asker); /* it may have been stopped while it waited for a task */
    else if (atomic_load(&h->stopped))
        return PD_CANCELLED;
    snprintf(whole, sizeof(whole), "%s%s", h->base, path);
    if (h->bearer)
        fields[1] = (struct http1_field){SPAN_LIT("Authorization"), span_str(h->bearer)};
    struct asker_question q = {.method = "POST",
                               .path = whole,
                               .fields = fields,
                               .fields_count = h->bearer ? 2 : 1,
                               .body = body,
                               .limit_ms = limit_ms,
                               .answer_bytes = ANSWER_MAX};
    return asker_ask(h->seats[seat].asker, &q, ret);
}

/* What a status means to the one who asked. PD_TIMEOUT: later perhaps. */
static pd_err judge(struct work_http *h, const struct asker_answer *a)
{
    struct json body = {JSON_OBJECT, buf_span(&a->body)};
    char what[60];
    if (a->status == 204)
        return PD_NOTFOUND;
    if (a->status >= 200 && a->status < 300)
        return span_starts(body.raw, "{") && !json_check(body.raw) ? PD_OK : PD_PROTO;
    snprintf(what, sizeof(what), "it answers with status %d", a->status);
    set_why(h, what, span_starts(body.raw, "{") ? json_inner(json_path(body, "error.message")) : SPAN_NONE);
    switch (a->status) {
    case 409:
        return RUNS_FENCED;
    case 413:
        return PD_TOOBIG;
    case 507:
        return PD_NOSPACE;
    case 400:
    case 404:
    case 405:
        return PD_INVALID;
    case 401:
    case 403:
        return PD_UNSUPPORTED;
    default:
        return PD_TIMEOUT;
    }
}

static bool is_lost(pd_err e)
{
    return e != PD_OK && e != PD_NOTFOUND && e != RUNS_FENCED && e != PD_TOOBIG && e != PD_INVALID &&
           e != PD_UNSUPPORTED && e != PD_CANCELLED && e != PD_NOMEM;
}

static void pause_ms(uint64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000 * 1000};
    nanosleep(&t, NULL); /* a signal ends it early, which is as well */
}

static void say_reach(struct work_http *h, bool lost)
{
    if (atomic_exchange(&h->unreached, lost) == lost)
        return;
    pthread_mutex_lock(&h->lock);
    if (lost)
        LOG(NULL, LOG_WARN, "worker.unreached",
            "url=%s why=\"%s\" remedy=\"it asks again: start perdure there, or name another with --url\"", h->url,
            h->why);
    else
        LOG(NULL, LOG_INFO, "worker.reached", "url=%s", h->url);
    pthread_mutex_unlock(&h->lock);
}

/* The same request again, with growing pauses, until it is answered or patience ends. *ret has a body on PD_OK. */
static pd_err ask(struct work_http *h, const char *path, struct span body, uint64_t limit_ms, bool claim,
                  struct asker_answer *ret)
{
    uint64_t began = clock_mono_ms(), pause = PAUSE_FIRST_MS;
    int seat = seat_take(h);
    pd_err e;
    atomic_store(&h->claiming[seat], claim);
    for (;;) {
        e = ask_once(h, seat, path, body, limit_ms, claim, ret);
        if (e)
            set_why(h, ret->why[0] ? ret->why : pd_err_text(e), SPAN_NONE);
        else if ((e = judge(h, ret)) != PD_OK)
            buf_done(&ret->body);
        uint64_t patience = h->patience_ms;
        if (atomic_load(&h->stopped) && patience > PATIENCE_STOPPED_MS)
            patience = PATIENCE_STOPPED_MS;
        if (!is_lost(e) || clock_mono_ms() - began + pause > patience)
            break;
        if (pause == PAUSE_MOST_MS)
            say_reach(h, true);
        pause_ms(pause);
        pause = pause * 2 < PAUSE_MOST_MS ? pause * 2 : PAUSE_MOST_MS;
    }
    if (!is_lost(e))
        say_reach(h, false);
    atomic_store(&h->claiming[seat], false);
    seat_leave(h, seat);
    return is_lost(e) ? PD_IO : e;
}

/* ---- claim ------------------------------------------------------------------------------------------------------- */

static void put_kinds(struct put *p, unsigned kinds)
{
    const char *comma = "";
    if (!kinds)
        return;
    put_text(p, ",\"kinds\":[");
    for (int k = 0; k < TASK_KIND_COUNT; k++)
        if (kinds & (1u << k)) {
            put_printf(p, "%s\"%s\"", comma, task_kind_name(k));
            comma = ",";
        }
    put_text(p, "]");
}

static pd_err put_claim(const struct claim_wish *w, uint64_t wait_ms, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "{\"worker\":");
    put_json(&p, w->worker);
    put_text(&p, ",\"claim\":");
    put_json(&p, w->claim);
    if (w->run) {
        put_text(&p, ",\"run\":");
        put_json(&p, span_str(w->run));
    }
    put_kinds(&p, w->kinds);
    if (w->lease_ms)
        put_printf(&p, ",\"lease_ms\":%llu", (unsigned long long)w->lease_ms);
    put_printf(&p, ",\"wait_ms\":%llu}", (unsigned long long)wait_ms);
    return p.err;
}

static bool take_text(struct json v, char *out, size_t room)
{
    struct span s = json_inner(v);
    if (!s.n || s.n >= room)
        return false;
    snprintf(out, room, "%.*s", SPAN_FMT(s));
    return true;
}

static pd_err take_raw(struct json v, enum json_type type, const char *none, struct buf *out)
{
    return type == JSON_NONE || v.type == type
               ? buf_add(out, v.type == JSON_NULL || v.type == JSON_NONE ? span_str(none) : v.raw)
               : PD_PROTO;
}

static pd_err take_claim(struct span answer, struct claimed *ret)
{
    struct json a = {JSON_OBJECT, answer};
    int kind = 0;
    int64_t every = 0;
    *ret = (struct claimed){0};
    if (json_i64(json_get(a, "checkpoint_ms"), &every) && every > 0)
        ret->checkpoint_ms = (uint64_t)every;
    while (kind < TASK_KIND_COUNT && !json_is(json_get(a, "kind"), task_kind_name(kind)))
        kind++;
    ret->kind = kind;
    pd_err e = kind < TASK_KIND_COUNT && take_text(json_get(a, "run"), ret->run, sizeof(ret->run)) &&
                       take_text(json_get(a, "task"), ret->task, sizeof(ret->task)) &&
                       json_i64(json_get(a, "epoch"), &ret->epoch) &&
                       json_i64(json_get(a, "attempt"), &ret->attempt)
                   ? PD_OK
                   : PD_PROTO;
    if (!e)
        e = take_raw(json_get(a, "spec"), JSON_OBJECT, "{}", &ret->spec);
    if (!e)
        e = take_raw(json_get(a, "plan"), JSON_OBJECT, "{}", &ret->run_document);
    if (!e)
        e = take_raw(json_get(a, "inputs"), JSON_NONE, "{}", &ret->inputs);
    if (!e)
        e = take_raw(json_get(a, "last_error"), JSON_NONE, "", &ret->last_error);
    if (e)
        claimed_done(ret);
    return e;
}

static pd_err http_claim(struct work_queue *q, const struct claim_wish *w, uint64_t wait_ms, struct claimed *ret)
{
    struct work_http *h = (struct work_http *)q;
    uint64_t now = clock_mono_ms(), until = wait_ms > UINT64_MAX - now ? UINT64_MAX : now + wait_ms;
    for (;;) {
        struct asker_answer a;
        struct buf body = {0};
        uint64_t left = until > now ? until - now : 0;
        uint64_t wait = left < CLAIM_WAIT_MAX_MS ? left : CLAIM_WAIT_MAX_MS;
        pd_err e = put_claim(w, wait, &body);
        if (!e)
            e = ask(h, "/api/work/claim", buf_span(&body), ANSWER_MS + wait, true, &a);
        buf_done(&body);
        if (!e) {
            e = take_claim(buf_span(&a.body), ret);
            buf_done(&a.body);
        }
        now = clock_mono_ms();
        if (e != PD_NOTFOUND || now >= until)
            return e;
    }
}

/* ---- what carries an epoch ------------------------------------------------------------------------------------------ */

static void put_held(struct put *p, const struct held_task *t)
{
    put_text(p, "{\"run\":");
    put_json(p, span_str(t->run));
    put_text(p, ",\"task\":");
    put_json(p, span_str(t->task));
    put_printf(p, ",\"epoch\":%lld", (long long)t->epoch);
}

static void put_member(struct put *p, const char *name, struct span json)
{
    if (!json.n)
        return;
    put_printf(p, ",\"%s\":", name);
    put_span(p, json);
}

static pd_err http_beat(struct work_queue *q, const struct held_task *t, struct span progress, uint64_t limit_ms,
                        struct beat_answer *ret)
{
    struct work_http *h = (struct work_http *)q;
    struct asker_answer a;
    struct buf body = {0};
    struct put p = put_into(&body);
    put_held(&p, t);
    put_member(&p, "progress", progress);
    put_text(&p, "}");
    pd_err e = p.err;
    if (!e) {
        int seat = seat_take(h);
        e = ask_once(h, seat, "/api/work/beat", buf_span(&body), limit_ms, false, &a);
        seat_leave(h, seat);
        if (!e) {
            e = judge(h, &a);
            struct json answer = {JSON_OBJECT, buf_span(&a.body)};
            if (!e)
                *ret = (struct beat_answer){json_is_true(json_get(answer, "cancel")),
                                            json_is_true(json_get(answer, "pause"))};
            buf_done(&a.body);
        }
    }
    buf_done(&body);
    return is_lost(e) ? PD_IO : e;
}

static pd_err take_found(struct span answer, enum step_found *ret, struct buf *result)
{
    struct json a = {JSON_OBJECT, answer}, found = json_get(a, "found");
    buf_clear(result);
    if (json_is(found, "new")) {
        *ret = STEP_NEW;
        return PD_OK;
    }
    *ret = json_is(found, "done") ? STEP_DONE : STEP_AMBIGUOUS;
    if (*ret == STEP_AMBIGUOUS && !json_is(found, "ambiguous"))
        return PD_PROTO;
    struct json v = json_get(a, *ret == STEP_DONE ? "result" : "key");
    return v.type == JSON_NONE ? PD_OK : buf_add(result, v.raw);
}

static pd_err http_step_begin(struct work_queue *q, const struct held_task *t, const struct step *s,
                              enum step_found *ret, struct buf *result)
{
    struct asker_answer a;
    struct buf body = {0};
    struct put p = put_into(&body);
    put_held(&p, t);
    put_text(&p, ",\"phase\":\"begin\",\"step\":");
    put_json(&p, span_str(s->name));
    put_printf(&p, ",\"kind\":\"%s\"", step_kind_name(s->kind));
    if (s->key.n) {
        put_text(&p, ",\"key\":");
        put_json(&p, s->key);
    }
    put_text(&p, "}");
    pd_err e = p.err ? p.err : ask((struct work_http *)q, "/api/work/step", buf_span(&body), ANSWER_MS, false, &a);
    if (!e) {
        e = take_found(buf_span(&a.body), ret, result);
        buf_done(&a.body);
    }
    buf_done(&body);
    return e;
}

static pd_err http_step_end(struct work_queue *q, const struct held_task *t, const char *step, struct span result)
{
    struct asker_answer a;
    struct buf body = {0};
    struct put p = put_into(&body);
    put_held(&p, t);
    put_text(&p, ",\"phase\":\"end\",\"step\":");
    put_json(&p, span_str(step));
    put_member(&p, "result", result.n ? result : SPAN_LIT("null"));
    put_text(&p, "}");
    pd_err e = p.err ? p.err : ask((struct work_http *)q, "/api/work/step", buf_span(&body), ANSWER_MS, false, &a);
    if (!e)
        buf_done(&a.body);
    buf_done(&body);
    return e;
}

static const char *const outcomes[] = {[OUTCOME_DONE] = "done",
                                       [OUTCOME_FAILED] = "failed",
                                       [OUTCOME_INCONCLUSIVE] = "inconclusive",
                                       [OUTCOME_AMBIGUOUS] = "ambiguous",
                                       [OUTCOME_RELEASED] = "released"};

static pd_err put_end(const struct held_task *t, const struct task_end *end, struct buf *out)
{
    struct put p = put_into(out);
    put_held(&p, t);
    put_printf(&p, ",\"outcome\":\"%s\",\"tokens\":%llu,\"cost\":%.12f,\"final\":%s", outcomes[end->outcome],
               (unsigned long long)end->tokens, (double)end->picodollars / 1e12, end->final ? "true" : "false");
    put_member(&p, "output", end->output);
    put_member(&p, "error", end->error);
    put_member(&p, "evidence", end->evidence);
    put_text(&p, "}");
    return p.err;
}

static pd_err http_finish(struct work_queue *q, const struct held_task *t, const struct task_end *end,
                          enum task_state *ret_state)
{
    struct asker_answer a;
    struct buf body = {0};
    pd_err e = put_end(t, end, &body);
    if (!e)
        e = ask((struct work_http *)q, "/api/work/finish", buf_span(&body), ANSWER_MS, false, &a);
    if (!e) {
        struct json state = json_get((struct json){JSON_OBJECT, buf_span(&a.body)}, "state");
        int s = 0;
        while (s < TASK_STATE_COUNT && !json_is(state, task_state_name(s)))
            s++;
        *ret_state = s < TASK_STATE_COUNT ? (enum task_state)s : TASK_READY;
        buf_done(&a.body);
    }
    buf_done(&body);
    return e;
}

/* ---- its life ----------------------------------------------------------------------------------------------------- */

static void http_stop(struct work_queue *q)
{
    struct work_http *h = (struct work_http *)q;
    atomic_store(&h->stopped, true);
    for (int i = 0; i < WORK_HTTP_ASKERS; i++) {
        struct asker *a = atomic_load(&h->askers[i]);
        if (a && atomic_load(&h->claiming[i]))
            asker_stop(a);
    }
}

static void http_free(struct work_queue *q)
{
    struct work_http *h = (struct work_http *)q;
    for (int i = 0; i < WORK_HTTP_ASKERS; i++)
        asker_free(h->seats[i].asker);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->left);
    mem_free(h->url);
    mem_free(h->base);
    mem_free(h->bearer);
    mem_free(h);
}

static const struct work_ops ops = {http_claim,  http_beat, http_step_begin, http_step_end,
                                    http_finish, http_stop, http_free};

pd_err work_http_open(const struct work_http_rules *r, struct work_queue **ret)
{
    struct work_http *h = mem_zalloc(sizeof(*h));
    if (!h)
        return PD_NOMEM;
    h->queue.ops = &ops;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->left, NULL);
    h->patience_ms = r->patience_ms ? r->patience_ms : PATIENCE_MS;
    h->url = mem_strdup(r->url);
    h->base = mem_strdup(r->base ? r->base : "");
    size_t n = r->key ? strlen(r->key) + sizeof("Bearer ") : 0;
    h->bearer = n ? mem_alloc(n) : NULL;
    if (h->bearer)
        snprintf(h->bearer, n, "Bearer %s", r->key);
    pd_err e =
        h->url && h->base && (h->bearer || !r->key) ? seat_asker(h, 0) : PD_NOMEM; /* a bad URL is said now */
    if (e) {
        http_free(&h->queue);
        return e;
    }
    *ret = &h->queue;
    return PD_OK;
}

void work_http_why(struct work_queue *q, char *out, size_t out_bytes)
{
    struct work_http *h = (struct work_http *)q;
    pthread_mutex_lock(&h->lock);
    snprintf(out, out_bytes, "%s", h->why);
    pthread_mutex_unlock(&h->lock);
}
