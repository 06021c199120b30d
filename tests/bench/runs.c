/* How many tasks a second: claimed and finished by several threads, from one plan of many. On SQLite in a folder, or on a PostgreSQL, there beside a bare loop in
 * SQL that does the least that could be called the same: one row marked taken (SKIP LOCKED), one marked done.
 *
 *   build/tests/bench/bench_runs WHERE [TASKS] [THREADS] */
#include "task/runs.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS_MAX = 64 };

struct hand {
    pthread_t thread;
    struct db *db;
    int index, done;
    bool bare;
    char run[RUN_ID_BYTES];
    /* of the job under way */
    struct claimed claim;
    char word[CLAIM_BYTES];
    int64_t number;
};

static pd_err claim(struct tx *t, void *ctx)
{
    struct hand *h = ctx;
    uint64_t wait;
    struct claim_wish w = {.worker = SPAN_LIT("bench"), .claim = span_str(h->word)};
    claimed_done(&h->claim);
    return runs_claim(t, &w, clock_wall_ms(), &h->claim, &wait);
}

static pd_err finish(struct tx *t, void *ctx)
{
    struct hand *h = ctx;
    enum task_state s;
    const struct held_task held = {h->claim.run, h->claim.task, h->claim.epoch};
    const struct task_end end = {.outcome = OUTCOME_DONE, .output = SPAN_LIT("{\"text\":\"done\"}"), .tokens = 10};
    return runs_finish(t, &held, &end, clock_wall_ms(), &s);
}

static pd_err on_number(void *ctx, const struct db_value *c, unsigned n)
{
    (void)n;
    ((struct hand *)ctx)->number = c[0].n;
    return PD_OK;
}

static pd_err bare_take(struct tx *t, void *ctx)
{
    struct hand *h = ctx;
    h->number = 0;
    pd_err e =
        tx_run(t,
               "UPDATE bare SET state = 1 WHERE id = (SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT 1"
               "{pg: FOR UPDATE SKIP LOCKED}) RETURNING id",
               NULL, 0, on_number, h);
    return e || h->number ? e : PD_NOTFOUND;
}

static pd_err bare_done(struct tx *t, void *ctx)
{
    struct hand *h = ctx;
    return TX_RUN(t, "UPDATE bare SET state = 2 WHERE id = $1", NULL, NULL, DB_I(h->number));
}

static void *work(void *ctx)
{
    struct hand *h = ctx;
    for (;; h->done++) {
        snprintf(h->word, sizeof(h->word), "%d-%d", h->index, h->done);
        pd_err e = db_do(h->db, h->bare ? bare_take : claim, h);
        if (e == PD_NOTFOUND)
            return NULL;
        if (!e)
            e = db_do(h->db, h->bare ? bare_done : finish, h);
        if (e) {
            fprintf(stderr, "%s\n", pd_err_name(e));
            exit(1);
        }
    }
}

struct making {
    struct plan plan;
    char id[RUN_ID_BYTES];
    int tasks;
};

static pd_err make(struct tx *t, void *ctx)
{
    struct making *m = ctx;
    enum run_state state;
    bool fresh;
    return runs_create(t, &m->plan, SPAN_NONE, clock_wall_ms(), m->id, &state, &fresh);
}

static pd_err make_bare(struct tx *t, void *ctx)
{
    struct making *m = ctx;
    pd_err e = tx_run(t, "DROP TABLE IF EXISTS bare", NULL, 0, NULL, NULL);
    if (!e)
        e = tx_run(t, "CREATE TABLE bare (id BIGINT PRIMARY KEY, state BIGINT NOT NULL)", NULL, 0, NULL, NULL);
    if (!e)
        e = tx_run(t, "CREATE INDEX bare_ready ON bare (id) WHERE state = 0", NULL, 0, NULL, NULL);
    for (int i = 1; !e && i <= m->tasks; i++)
        e = TX_RUN(t, "INSERT INTO bare (id, state) VALUES ($1, 0)", NULL, NULL, DB_I(i));
    return e;
}

static void measure(struct db *db, const char *what, int threads, bool bare)
{
    static struct hand hands[THREADS_MAX];
    struct db_stats before, after;
    int done = 0;
    uint64_t began = clock_mono_us();
    db_stats(db, &before);
    for (int i = 0; i < threads; i++) {
        hands[i] = (struct hand){.db = db, .index = i, .bare = bare};
        pthread_create(&hands[i].thread, NULL, work, &hands[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(hands[i].thread, NULL);
        claimed_done(&hands[i].claim);
        done += hands[i].done;
    }
    double s = (double)(clock_mono_us() - began) / 1e6;
    db_stats(db, &after);
    printf("%-28s %6d tasks %3d threads %8.2f s %9.0f tasks/s %7llu commits\n", what, done, threads, s, done / s,
           (unsigned long long)(after.commits - before.commits));
}

int main(int argc, char **argv)
{
    const char *where = argc > 1 ? argv[1] : "/tmp/bench-runs.db";
    int tasks = argc > 2 ? atoi(argv[2]) : 10000, threads = argc > 3 ? atoi(argv[3]) : 32;
    char why[PLAN_WHY_BYTES] = "";
    struct db_rules rules;
    struct db *db;
    struct buf text = {0};
    struct arena a;
    struct making m = {.tasks = tasks};
    arena_init(&a, 0, 0);
    db_rules_default(&rules);
    threads = threads < THREADS_MAX ? threads : THREADS_MAX;
    if (db_open(where, &rules, &db, why, sizeof(why)) != PD_OK || buf_puts(&text, "tasks:\n") != PD_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    for (int i = 0; i < tasks; i++)
        if (buf_printf(&text, "- {id: t%d, command: [echo, hello]}\n", i) != PD_OK)
            return 1;
    uint64_t began = clock_mono_us();
    if (plan_parse(buf_span(&text), "bench", NULL, &a, &m.plan, why) != PD_OK)
        return 1;
    printf("%-28s %6d tasks %23.2f s\n", "the plan read", tasks, (double)(clock_mono_us() - began) / 1e6);
    runs_new_id(m.id);
    began = clock_mono_us();
    if (db_do(db, make, &m) != PD_OK)
        return 1;
    printf("%-28s %6d tasks %23.2f s\n", "the run made", tasks, (double)(clock_mono_us() - began) / 1e6);
    measure(db, "claimed and finished", threads, false);
    if (db_do(db, make_bare, &m) != PD_OK)
        return 1;
    measure(db, "a bare loop in SQL", threads, true);
    buf_done(&text);
    arena_done(&a);
    db_close(db);
    return 0;
}
