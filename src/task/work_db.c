/* Tasks out of the database itself. See work.h. */
#include "base/clock.h"
#include "base/mem.h"
#include "task/work.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WORK_DB_SWEEP_MS = 1000, WORK_DB_LOOK_MS = 500, WORK_DB_PATIENCE_MS = 60000 };

struct work_db {
    struct work_queue queue; /* first */
    struct work_db_rules rules;
    struct db *db;
    int stop_fd; /* can be read once it was stopped: never emptied, so that all who wait see it */
    int end_fd;  /* of the sweeping thread */
    struct sweeper *sweeper;
    pthread_t thread;
    bool sweeping;
};

static struct work_db *of(struct work_queue *q)
{
    return (struct work_db *)(void *)q;
}

void work_db_rules_default(struct work_db_rules *r)
{
    *r = (struct work_db_rules){.patience_ms = WORK_DB_PATIENCE_MS, .look_ms = WORK_DB_LOOK_MS, .sweep = true};
}

/* True: it can be read. */
static bool wait_for(int fd, uint64_t ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t until = clock_mono_ms() + ms;
    for (;;) {
        uint64_t now = clock_mono_ms(), left = until > now ? until - now : 0;
        int n = poll(&p, 1, left < 1000000 ? (int)left : 1000000);
        if (n > 0)
            return true;
        if ((n < 0 && errno != EINTR) || clock_mono_ms() >= until)
            return false;
    }
}

static void signal_fd(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one)); /* fails only when it can be read already */
    (void)n;
}

/* ---- jobs ---------------------------------------------------------------------------------- */

struct work_job {
    const struct claim_wish *wish;
    struct claimed *claimed;
    const struct held_task *held;
    const struct step *step;
    const struct task_end *end;
    struct span text;
    uint64_t wait_ms;
    struct beat_answer *beat;
    enum step_found *found;
    struct buf *result;
    enum task_state *state;
};

static pd_err claim_job(struct tx *t, void *ctx)
{
    struct work_job *j = ctx;
    claimed_done(j->claimed);
    return runs_claim(t, j->wish, clock_wall_ms(), j->claimed, &j->wait_ms);
}

static pd_err beat_job(struct tx *t, void *ctx)
{
    struct work_job *j = ctx;
    return runs_beat(t, j->held, j->text, clock_wall_ms(), j->beat);
}

static pd_err begin_job(struct tx *t, void *ctx)
{
    struct work_job *j = ctx;
    return runs_step_begin(t, j->held, j->step, clock_wall_ms(), j->found, j->result);
}

static pd_err end_job(struct tx *t, void *ctx)
{
    struct work_job *j = ctx;
    return runs_step_end(t, j->held, j->step->name, j->text, clock_wall_ms());
}

static pd_err finish_job(struct tx *t, void *ctx)
{
    struct work_job *j = ctx;
    return runs_finish(t, j->held, j->end, clock_wall_ms(), j->state);
}

/* ---- the table ------------------------------------------------------------------------------- */

static pd_err db_claim(struct work_queue *q, const struct claim_wish *w, uint64_t wait_ms, struct claimed *ret)
{
    struct work_db *k = of(q);
    uint64_t until = clock_mono_ms() + wait_ms;
    *ret = (struct claimed){0};
    for (;;) {
        struct work_job j = {.wish = w, .claimed = ret};
        if (wait_for(k->stop_fd, 0))
            return PD_CANCELLED;
        pd_err e = db_do(k->db, claim_job, &j);
        uint64_t now = clock_mono_ms();
        if (e != PD_NOTFOUND || now >= until)
            return e;
        uint64_t pause = j.wait_ms < k->rules.look_ms ? j.wait_ms : k->rules.look_ms;
        if (wait_for(k->stop_fd, pause < until - now ? pause : until - now))
            return PD_CANCELLED;
    }
}

static pd_err db_beat(struct work_queue *q, const struct held_task *h, struct span progress, uint64_t limit_ms,
                      struct beat_answer *ret)
{
    struct work_job j = {.held = h, .text = progress, .beat = ret};
    struct db_job job = {.fn = beat_job, .ctx = &j, .limit_ms = limit_ms};
    pd_err e = db_do_job(of(q)->db, &job);
    return e == PD_TIMEOUT || e == PD_TOOBIG ? PD_IO : e;
}

static pd_err db_step_begin(struct work_queue *q, const struct held_task *h, const struct step *s,
                            enum step_found *ret, struct buf *result)
{
    struct work_job j = {.held = h, .step = s, .found = ret, .result = result};
    return db_do(of(q)->db, begin_job, &j);
}

static pd_err db_step_end(struct work_queue *q, const struct held_task *h, const char *step, struct span result)
{
    struct step s = {.name = step};
    struct work_job j = {.held = h, .step = &s, .text = result};
    return db_do(of(q)->db, end_job, &j);
}

static pd_err db_finish(struct work_queue *q, const struct held_task *h, const struct task_end *end,
                        enum task_state *ret_state)
{
    struct work_job j = {.held = h, .end = end, .state = ret_state};
    return db_do(of(q)->db, finish_job, &j);
}

static void db_stop(struct work_queue *q)
{
    signal_fd(of(q)->stop_fd);
}

static void db_free(struct work_queue *q)
{
    struct work_db *k = of(q);
    if (k->sweeping) {
        signal_fd(k->end_fd);
        pthread_join(k->thread, NULL);
    }
    db_close(k->db);
    sweeper_free(k->sweeper);
    if (k->stop_fd >= 0)
        close(k->stop_fd);
    if (k->end_fd >= 0)
        close(k->end_fd);
    mem_free(k);
}

/* ---- sweeping --------------------------------------------------------------------------------- */

static pd_err sweep_job(struct tx *t, void *ctx)
{
    unsigned ended;
    return runs_sweep(t, ((struct work_db *)ctx)->sweeper, clock_mono_ms(), clock_wall_ms(), &ended);
}

static void *sweep(void *ctx)
{
    struct work_db *k = ctx;
    while (!wait_for(k->end_fd, WORK_DB_SWEEP_MS)) {
        pd_err e = db_do(k->db, sweep_job, k); /* what could not be swept is found the next time */
        (void)e;
    }
    return NULL;
}

/* ---- the beginning ------------------------------------------------------------------------------- */

static const struct work_ops ops = {db_claim, db_beat, db_step_begin, db_step_end, db_finish, db_stop, db_free};

pd_err work_db_open(const char *where, const struct work_db_rules *r, struct work_queue **ret, char *why,
                    size_t why_bytes)
{
    struct db_rules rules;
    struct work_db *k = mem_zalloc(sizeof(*k));
    snprintf(why, why_bytes, "out of memory");
    if (!k)
        return PD_NOMEM;
    k->queue.ops = &ops;
    k->rules = *r;
    k->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->sweeper = sweeper_new();
    db_rules_default(&rules);
    rules.patience_ms = r->patience_ms;
    pd_err e = k->sweeper ? PD_OK : PD_NOMEM;
    if (!e && (k->stop_fd < 0 || k->end_fd < 0)) {
        snprintf(why, why_bytes, "no more descriptors: raise ulimit -n");
        e = PD_NOFD;
    }
    if (!e)
        e = db_open(where, &rules, &k->db, why, why_bytes);
    if (!e && r->sweep) {
        k->sweeping = pthread_create(&k->thread, NULL, sweep, k) == 0;
        e = k->sweeping ? PD_OK : PD_NOMEM;
    }
    if (e) {
        db_free(&k->queue);
        return e;
    }
    *ret = &k->queue;
    return PD_OK;
}
