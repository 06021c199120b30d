#include "task/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "parse/put.h"
#include "task/doing.h"
#include "task/shell.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    TASK_BYTES_MAX = 256 << 20,
    BEATS_A_LEASE = 3,
    TRIES_A_BEAT = 3, /* one that nobody heard is made again so much sooner */
    SPARE_IN_LEASE =
        6, /* the last sixth of a lease: what is done is brought to an end, before another begins it */
    BEAT_LEAST_MS = 100,
    CLAIM_LONG_MS = 60 * 1000,
    MEMORY_TRIES = 50, /* what failed for want of memory is asked again so often: most of it passes */
    MEMORY_PAUSE_MS = 100,
};

struct task_worker {
    struct worker_rules rules;
    worker_kind_fn *kinds[TASK_KIND_COUNT];
    struct asker *asker, *aside; /* as struct doing has them */
    int wake_fd;                 /* the task's: stop */
    int beat_fd;                 /* the beating thread's: look */
    _Atomic int stops;           /* times that worker_stop() was called */
    pthread_t beater, watcher;
    bool beats, watches;
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* doing, ends */
    struct doing *doing;    /* NULL: between tasks */
    bool ends;
    uint64_t heard_ms;   /* when the newest beat that was answered was sent: its lease began no earlier */
    uint64_t drained_ms; /* 0: not ending */
};

static void ring(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));
    (void)n; /* full is as good */
}

static void hush(int fd)
{
    uint64_t n;
    ssize_t got = read(fd, &n, sizeof(n));
    (void)got;
}

static bool waits_for_memory(pd_err e, unsigned *tries)
{
    if (e != PD_NOMEM || ++*tries >= MEMORY_TRIES)
        return false;
    (void)poll(NULL, 0, MEMORY_PAUSE_MS);
    return true;
}

/* ---- stopping a task ------------------------------------------------------------------------------------------------------ */

/* Under the lock. A worse reason goes over a lesser one. */
static void stop_doing(struct task_worker *w, enum doing_stop why)
{
    if (!w->doing || atomic_load(&w->doing->stop) >= (int)why)
        return;
    atomic_store(&w->doing->stop, (int)why);
    LOG(NULL, LOG_INFO, "worker.stops", "run=%s task=%s why=%s", w->doing->held.run, w->doing->held.task,
        why == DOING_RELEASE  ? "worker_ends"
        : why == DOING_CANCEL ? "cancelled"
        : why == DOING_LOST   ? "nobody_hears"
                              : "fenced");
    ring(w->wake_fd);
    if (w->asker)
        asker_stop(w->asker);
    if (w->aside)
        asker_stop(w->aside);
}

/* ---- beating ---------------------------------------------------------------------------------------------------------------- */

static pd_err put_progress(struct doing *d, struct buf *out)
{
    struct put p = put_into(out);
    pthread_mutex_lock(&d->lock);
    uint64_t bytes = d->bytes + d->coming;
    put_text(&p, "{\"at\":");
    put_json(&p, span_str(d->at));
    put_printf(&p, ",\"tokens_in\":%llu,\"tokens_out\":%llu,\"bytes\":%llu,\"steps\":%u,\"ms\":%llu}",
               (unsigned long long)d->tokens_in, (unsigned long long)d->tokens_out, (unsigned long long)bytes,
               d->steps, (unsigned long long)(clock_mono_ms() - d->began_ms));
    pthread_mutex_unlock(&d->lock);
    return p.err;
}

static uint64_t beat_ms(const struct task_worker *w)
{
    uint64_t every = w->rules.lease_ms / BEATS_A_LEASE;
    return every < BEAT_LEAST_MS ? BEAT_LEAST_MS : every;
}

/* When the next beat is due. The task may end while one is under way: its names are copied. */
static uint64_t beat_once(struct task_worker *w)
{
    char run[RUN_ID_BYTES], task[PLAN_ID_MAX + 1];
    struct held_task held = {run, task, 0};
    struct beat_answer answer = {0};
    struct buf progress = {0};
    pthread_mutex_lock(&w->lock);
    bool any = w->doing != NULL;
    pd_err e = PD_OK;
    if (any) {
        snprintf(run, sizeof(run), "%s", w->doing->held.run);
        snprintf(task, sizeof(task), "%s", w->doing->held.task);
        held.epoch = w->doing->held.epoch;
        e = put_progress(w->doing, &progress);
    }
    pthread_mutex_unlock(&w->lock);
    uint64_t sent = clock_mono_ms();
    if (any && !e)
        e = w->rules.queue->ops->beat(w->rules.queue, &held, buf_span(&progress), beat_ms(w), &answer);
    buf_done(&progress);
    if (!any)
        return 0;
    pthread_mutex_lock(&w->lock);
    /* Runs of one plan have the same tasks, at the same epochs. */
    if (w->doing && w->doing->held.epoch == held.epoch && strcmp(w->doing->held.task, task) == 0 &&
        strcmp(w->doing->held.run, run) == 0) {
        if (!e && sent > w->heard_ms)
            w->heard_ms = sent;
        if (e == RUNS_FENCED)
            stop_doing(w, DOING_FENCED);
        else if (answer.cancel)
            stop_doing(w, DOING_CANCEL);
    }
    pthread_mutex_unlock(&w->lock);
    return clock_mono_ms() + (e ? beat_ms(w) / TRIES_A_BEAT : beat_ms(w));
}

/* A beat may hang as long as it likes: that nobody hears it is noticed here, while its lease still lasts. */
static void *watch_silence(void *ctx)
{
    struct task_worker *w = ctx;
    uint64_t most = w->rules.lease_ms - w->rules.lease_ms / SPARE_IN_LEASE;
    pthread_mutex_lock(&w->lock);
    while (!w->ends) {
        uint64_t until = w->heard_ms + most;
        struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
        if (!w->doing || atomic_load(&w->doing->stop) >= DOING_LOST)
            pthread_cond_wait(&w->changed, &w->lock);
        else if (clock_mono_ms() >= until)
            stop_doing(w, DOING_LOST);
        else
            pthread_cond_timedwait(&w->changed, &w->lock, &at);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* The end of the worker, as it nears. */
static void look_at_end(struct task_worker *w)
{
    int stops = atomic_load(&w->stops);
    uint64_t now = clock_mono_ms();
    pthread_mutex_lock(&w->lock);
    if (stops && !w->drained_ms)
        w->drained_ms = now + w->rules.drain_ms;
    if (stops > 1 || (stops && now >= w->drained_ms))
        stop_doing(w, DOING_RELEASE);
    pthread_mutex_unlock(&w->lock);
}

static void *beat(void *ctx)
{
    struct task_worker *w = ctx;
    for (uint64_t due = 0;;) {
        look_at_end(w);
        pthread_mutex_lock(&w->lock);
        bool ends = w->ends;
        uint64_t drained = w->drained_ms;
        pthread_mutex_unlock(&w->lock);
        if (ends)
            return NULL;
        uint64_t now = clock_mono_ms();
        if (now >= due) {
            due = beat_once(w);
            now = clock_mono_ms();
        }
        uint64_t until = now < due ? due : now + beat_ms(w);
        if (drained && drained > now && drained < until)
            until = drained;
        struct pollfd fd = {w->beat_fd, POLLIN, 0};
        if (poll(&fd, 1, (int)(until - now)) == 1)
            hush(w->beat_fd);
    }
}

/* ---- what the plan says, filled in ---------------------------------------------------------------------------------------------- */

struct filling {
    struct doing *d;
    bool ends_here;
    char why[PLAN_WHY_BYTES];
};

static pd_err value_of(void *ctx, struct span name, struct buf *out)
{
    struct doing *d = ((struct filling *)ctx)->d;
    if (span_is(name, "run"))
        return buf_puts(out, d->held.run);
    if (span_is(name, "task"))
        return buf_puts(out, d->held.task);
    if (span_is(name, "attempt"))
        return buf_printf(out, "%lld", (long long)d->claim->attempt);
    if (span_is(name, "goal")) {
        struct span goal;
        pd_err e = json_text(json_get(d->document, "goal"), &d->arena, &goal);
        return e == PD_NOMEM ? e : e ? PD_NOTFOUND : buf_add(out, goal);
    }
    return plan_input(buf_span(&d->claim->inputs), name, out);
}

/* In a text for sh -c: by way of the environment (shell.h). */
static pd_err shell_value_of(void *ctx, struct span name, struct buf *out)
{
    struct filling *f = ctx;
    struct span mark;
    struct buf value = {0};
    enum shell_place place = shell_place(buf_span(out), &mark);
    pd_err e = value_of(f, name, &value);
    if (!e && place == SHELL_AS_IS) {
        f->ends_here = shell_ends_here(buf_span(&value), mark);
        e = f->ends_here ? PD_NOTFOUND : buf_add(out, buf_span(&value));
    } else if (!e) {
        unsigned n = doing_fill(f->d, buf_span(&value));
        bool single = place == SHELL_SINGLE;
        e = n ? buf_printf(out, "%s${" DOING_FILLED "%u}%s", single ? "'\"" : "", n, single ? "\"'" : "")
              : PD_NOMEM;
    }
    buf_done(&value);
    return e;
}

static pd_err fill_text(struct filling *f, struct json v, bool shell, struct put *p)
{
    struct span plain;
    struct buf filled = {0};
    if (!memmem(v.raw.p, v.raw.n, "${", 2)) {
        put_span(p, v.raw);
        return p->err;
    }
    pd_err e = json_text(v, &f->d->arena, &plain);
    if (!e)
        e = plan_fill(plain, shell ? shell_value_of : value_of, f, &filled, f->why);
    if (!e)
        put_json(p, buf_span(&filled));
    else if (f->ends_here)
        snprintf(f->why, sizeof(f->why), "what is to be filled into a here-document has the line that ends it");
    buf_done(&filled);
    return e ? e : p->err;
}

/* `programs`: a task, a check, or a list of checks: its programs may be texts for sh -c. */
static pd_err fill_value(struct filling *f, struct json v, bool programs, struct put *p);

static bool is_program(struct span key)
{
    return span_is(key, "command") || span_is(key, "agent") || span_is(key, "resolve");
}

static pd_err fill_many(struct filling *f, struct json v, bool programs, struct put *p)
{
    struct json_walk w;
    struct json item;
    struct span key;
    bool map = v.type == JSON_OBJECT, first = true;
    pd_err e = PD_OK;
    put_text(p, map ? "{" : "[");
    json_walk_init(&w, v);
    while (!e && json_walk_next(&w, &key, &item)) {
        put_text(p, first ? "" : ",");
        first = false;
        if (map)
            put_printf(p, "\"%.*s\":", SPAN_FMT(key));
        if (map && span_is(key, "schema"))
            put_span(p, item.raw); /* what stands in a schema is the schema's */
        else if (map && programs && item.type == JSON_STRING && is_program(key))
            e = fill_text(f, item, true, p);
        else
            e = fill_value(f, item, programs && (!map || span_is(key, "checks")), p);
    }
    put_text(p, map ? "}" : "]");
    return e ? e : p->err;
}

static pd_err fill_value(struct filling *f, struct json v, bool programs, struct put *p)
{
    if (v.type == JSON_STRING)
        return fill_text(f, v, false, p);
    if (v.type == JSON_OBJECT || v.type == JSON_ARRAY)
        return fill_many(f, v, programs, p);
    put_span(p, v.raw);
    return p->err;
}

static pd_err fill_spec(struct doing *d)
{
    struct filling f = {.d = d};
    struct buf whole = {0};
    struct put p = put_into(&whole);
    struct json spec = {JSON_OBJECT, buf_span(&d->claim->spec)};
    pd_err e = fill_value(&f, spec, true, &p);
    if (!e) {
        d->spec = (struct json){JSON_OBJECT, arena_span(&d->arena, buf_span(&whole))};
        e = d->spec.raw.p ? PD_OK : PD_NOMEM;
    } else if (e == PD_NOTFOUND) {
        d->spec = spec;
        e = doing_fail(d, "not_filled", true, "%s", f.why);
    }
    buf_done(&whole);
    return e;
}

/* ---- one task ------------------------------------------------------------------------------------------------------------------- */

static void set_doing(struct task_worker *w, struct doing *d)
{
    pthread_mutex_lock(&w->lock);
    w->doing = d;
    w->heard_ms = clock_mono_ms();
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    ring(w->beat_fd);
}

static void doing_init(struct task_worker *w, struct doing *d, struct claimed *c)
{
    int64_t timeout = 0;
    *d = (struct doing){.rules = &w->rules,
                        .claim = c,
                        .held = {c->run, c->task, c->epoch},
                        .document = {JSON_OBJECT, buf_span(&c->run_document)},
                        .began_ms = clock_mono_ms(),
                        .until_ms = CLOCK_NEVER,
                        .wake_fd = w->wake_fd,
                        .asker = w->asker,
                        .aside = w->aside};
    struct json spec = {JSON_OBJECT, buf_span(&c->spec)};
    if (json_i64(json_get(spec, "timeout_ms"), &timeout) && timeout > 0)
        d->until_ms = d->began_ms + (uint64_t)timeout;
    pthread_mutex_init(&d->lock, NULL);
    arena_init(&d->arena, 4096, TASK_BYTES_MAX);
    d->output.limit_bytes = d->evidence.limit_bytes = RUNS_VALUE_MAX;
    d->error.limit_bytes = RUNS_ERROR_MAX;
    d->end.outcome = OUTCOME_DONE;
    hush(w->wake_fd);
    if (w->asker)
        asker_again(w->asker);
    if (w->aside)
        asker_again(w->aside);
}

static void doing_done(struct doing *d)
{
    buf_done(&d->output);
    buf_done(&d->error);
    buf_done(&d->evidence);
    arena_done(&d->arena);
    pthread_mutex_destroy(&d->lock);
}

static pd_err do_kind(struct task_worker *w, struct doing *d)
{
    pd_err e = fill_spec(d);
    if (e || d->end.outcome == OUTCOME_FAILED)
        return e;
    worker_kind_fn *fn = w->kinds[d->claim->kind];
    bool risky = json_is_true(json_get(d->spec, "risky"));
    if (!fn)
        return doing_fail(d, "kind", true, "this worker does no tasks of kind %s", task_kind_name(d->claim->kind));
    if (risky)
        doing_checkpoint(d, "before_risky", NULL);
    e = fn(d);
    if (!e && (risky || d->end.outcome == OUTCOME_DONE))
        doing_checkpoint(d, risky ? "after_risky" : "step", d->end.outcome == OUTCOME_DONE ? d->held.task : NULL);
    return e;
}

/* What is wrong with us is no failure of the task's doing, but it must end somehow. */
static void our_fault(struct doing *d, pd_err e)
{
    if (doing_fail(d,
                   e == PD_NOMEM    ? "out_of_memory"
                   : e == PD_TOOBIG ? "too_large"
                                    : "worker",
                   false, "the worker could not go on: %s", pd_err_text(e)) != PD_OK)
        buf_clear(&d->error);
    d->end.outcome = OUTCOME_FAILED;
}

/* The same again is fine, and how it ended must not be lost: it would be done anew. */
static pd_err tell_end(struct task_worker *w, struct doing *d, enum task_state *ret)
{
    unsigned tries = 0;
    pd_err e;
    do
        e = w->rules.queue->ops->finish(w->rules.queue, &d->held, &d->end, ret);
    while (waits_for_memory(e, &tries));
    return e;
}

static pd_err finish(struct task_worker *w, struct doing *d, struct worker_done *done)
{
    enum task_state state = TASK_READY;
    int stop = atomic_load(&d->stop);
    if (stop >= DOING_LOST)
        return PD_OK; /* nothing of ours counts any more */
    d->end.output = buf_span(&d->output);
    d->end.error = d->end.outcome == OUTCOME_DONE ? SPAN_NONE : buf_span(&d->error);
    d->end.evidence = buf_span(&d->evidence);
    if (d->end.outcome == OUTCOME_RELEASED)
        d->end.output = d->end.error = d->end.evidence = SPAN_NONE;
    pd_err e = tell_end(w, d, &state);
    if (e == PD_TOOBIG || e == PD_INVALID) { /* what we say of it is not taken: say less */
        our_fault(d, e);
        d->end.output = d->end.evidence = SPAN_NONE;
        d->end.error = buf_span(&d->error);
        e = tell_end(w, d, &state);
    }
    bool failed = d->end.outcome == OUTCOME_FAILED;
    LOG(NULL, failed ? LOG_WARN : LOG_INFO, "worker.finished",
        "run=%s task=%s attempt=%lld state=%s took_ms=%llu tokens=%llu", d->held.run, d->held.task,
        (long long)d->claim->attempt, e ? pd_err_name(e) : task_state_name(state),
        (unsigned long long)(clock_mono_ms() - d->began_ms), (unsigned long long)d->end.tokens);
    if (!e && d->end.outcome != OUTCOME_RELEASED) {
        done->tasks++;
        done->failed += failed;
    }
    return e == RUNS_FENCED ? PD_OK : e;
}

static pd_err do_task(struct task_worker *w, struct claimed *c, struct worker_done *done)
{
    struct doing d;
    doing_init(w, &d, c);
    set_doing(w, &d);
    LOG(NULL, LOG_INFO, "worker.task", "run=%s task=%s kind=%s attempt=%lld epoch=%lld", c->run, c->task,
        task_kind_name(c->kind), (long long)c->attempt, (long long)c->epoch);
    pd_err e = do_kind(w, &d);
    if (e && doing_stopped(&d) != PD_OK)
        d.end.outcome = OUTCOME_RELEASED;
    else if (e)
        our_fault(&d, e);
    e = finish(w, &d, done);
    set_doing(w, NULL);
    doing_done(&d);
    return e;
}

/* ---- one task after the other ------------------------------------------------------------------------------------------------------ */

static pd_err new_word(char word[CLAIM_BYTES])
{
    unsigned char random[16];
    if (RAND_bytes(random, sizeof(random)) != 1)
        return PD_IO;
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(word + 2 * i, 3, "%02x", random[i]);
    return PD_OK;
}

static unsigned kinds_of(const struct task_worker *w)
{
    unsigned can = 0;
    for (int k = 0; k < TASK_KIND_COUNT; k++)
        if (w->kinds[k] && (k != TASK_LLM || w->asker))
            can |= 1u << k;
    return w->rules.kinds ? w->rules.kinds & can : can;
}

/* PD_NOTFOUND: idle for too long. */
static pd_err take(struct task_worker *w, struct claimed *c)
{
    char word[CLAIM_BYTES];
    pd_err e = new_word(word);
    struct claim_wish wish = {.worker = span_str(w->rules.name),
                              .claim = span_str(word),
                              .run = w->rules.run,
                              .kinds = kinds_of(w),
                              .lease_ms = w->rules.lease_ms};
    uint64_t now = clock_mono_ms(), until = w->rules.idle_ms ? now + w->rules.idle_ms : CLOCK_NEVER;
    unsigned tries = 0;
    if (!e)
        e = PD_NOTFOUND;
    while ((e == PD_NOTFOUND && now < until) || waits_for_memory(e, &tries)) {
        if (atomic_load(&w->stops))
            return PD_CANCELLED;
        uint64_t left = now < until ? until - now : 0;
        claimed_done(c);
        e = w->rules.queue->ops->claim(w->rules.queue, &wish, left < CLAIM_LONG_MS ? left : CLAIM_LONG_MS, c);
        now = clock_mono_ms();
    }
    return e;
}

pd_err worker_run(struct task_worker *w, struct worker_done *ret)
{
    pd_err e = PD_OK;
    *ret = (struct worker_done){0};
    while (!e && !atomic_load(&w->stops)) {
        struct claimed c = {0};
        e = take(w, &c);
        if (e) {
            claimed_done(&c);
            break;
        }
        e = do_task(w, &c, ret);
        claimed_done(&c);
        if (e == PD_IO) /* nobody heard how it ended; the next claim waits for somebody who does */
            e = PD_OK;
    }
    return e == PD_NOTFOUND || e == PD_CANCELLED ? PD_OK : e;
}

/* ---- its life ------------------------------------------------------------------------------------------------------------------------ */

void worker_set_kind(struct task_worker *w, enum task_kind k, worker_kind_fn *fn)
{
    w->kinds[k] = fn;
}

pd_err worker_new(const struct worker_rules *r, struct task_worker **ret)
{
    struct task_worker *w = mem_zalloc(sizeof(*w));
    if (!w)
        return PD_NOMEM;
    w->rules = *r;
    if (!w->rules.lease_ms)
        w->rules.lease_ms = LEASE_DEFAULT_MS;
    if (!w->rules.drain_ms)
        w->rules.drain_ms = WORKER_DRAIN_MS;
    w->kinds[TASK_LLM] = do_llm;
    w->kinds[TASK_COMMAND] = do_command;
    w->kinds[TASK_AGENT] = do_agent;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->beat_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pd_err e = w->wake_fd >= 0 && w->beat_fd >= 0 ? PD_OK : PD_NOFD;
    if (!e && r->url)
        e = asker_new(r->url, &w->asker);
    if (!e && r->url)
        e = asker_new(r->url, &w->aside);
    w->beats = !e && pthread_create(&w->beater, NULL, beat, w) == 0;
    w->watches = w->beats && pthread_create(&w->watcher, NULL, watch_silence, w) == 0;
    if (!e && !w->watches)
        e = PD_NOMEM;
    if (e) {
        worker_free(w);
        return e;
    }
    *ret = w;
    return PD_OK;
}

void worker_stop(struct task_worker *w)
{
    atomic_fetch_add(&w->stops, 1);
    work_queue_stop(w->rules.queue);
    ring(w->beat_fd);
}

struct task_worker *worker_free(struct task_worker *w)
{
    if (!w)
        return NULL;
    pthread_mutex_lock(&w->lock);
    w->ends = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (w->watches)
        pthread_join(w->watcher, NULL);
    if (w->beats) {
        ring(w->beat_fd);
        pthread_join(w->beater, NULL);
    }
    asker_free(w->asker);
    asker_free(w->aside);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    if (w->beat_fd >= 0)
        close(w->beat_fd);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
    return NULL;
}
