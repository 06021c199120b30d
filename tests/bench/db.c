/* What a commit costs: one after the other, and with 64 that wait.
 *
 *   bench_db PATH | postgres://...      a table `bench` is made in it, and dropped */
#include "store/db.h"
#include "bench.h"

enum { WARM = 50, ALONE = 1000, WAITING = 64, TOGETHER = 20000 };

static struct bench {
    struct db *d;
    struct loop *loop;
    struct db_queue *queue;
    struct db_job jobs[WAITING];
    unsigned begun, done;
    int64_t id;
} b;

static pd_err make(struct tx *t, void *ctx)
{
    return tx_run(
        t, "CREATE TABLE bench (id {lite:INTEGER PRIMARY KEY}{pg:BIGSERIAL PRIMARY KEY}, name TEXT, at BIGINT)",
        NULL, 0, NULL, NULL);
}

static pd_err drop(struct tx *t, void *ctx)
{
    return tx_run(t, "DROP TABLE IF EXISTS bench", NULL, 0, NULL, NULL);
}

static pd_err one_row(struct tx *t, void *ctx)
{
    return TX_RUN(
        t, "INSERT INTO bench (name, at) VALUES ($1, $2)", NULL, NULL,
        DB_S("a hundred bytes or so of text, as a short row of perdure's has it, and a little more of them"),
        DB_I(7));
}

static void must(pd_err e)
{
    if (e) {
        fprintf(stderr, "bench_db: %s\n", pd_err_text(e));
        exit(1);
    }
}

static void on_done(void *ctx, pd_err e)
{
    must(e);
    b.done++;
    if (b.begun < TOGETHER) {
        b.begun++;
        must(db_submit(b.queue, ctx));
    } else if (b.done == TOGETHER) {
        loop_stop(b.loop);
    }
}

static void alone(void)
{
    static uint64_t took[ALONE];
    for (int i = -WARM; i < ALONE; i++) {
        uint64_t before = now_ns();
        must(db_do(b.d, one_row, NULL));
        if (i >= 0)
            took[i] = now_ns() - before;
    }
    qsort(took, ALONE, sizeof(took[0]), by_value);
    printf("one row, alone      p50 %.0f us, p99 %.0f us\n", percentile(took, ALONE, 0.5),
           percentile(took, ALONE, 0.99));
}

static void together(void)
{
    struct db_stats before, after;
    b.loop = loop_new();
    b.queue = db_queue_new(b.d, b.loop);
    db_stats(b.d, &before);
    uint64_t began = now_ns();
    for (b.begun = 0; b.begun < WAITING; b.begun++) {
        struct db_job *j = &b.jobs[b.begun];
        *j = (struct db_job){.fn = one_row, .done = on_done, .ctx = j};
        must(db_submit(b.queue, j));
    }
    loop_run(b.loop);
    double s = (double)(now_ns() - began) / 1e9;
    db_stats(b.d, &after);
    printf("one row, 64 waiting %.0f jobs/s (%.1f jobs a commit)\n", TOGETHER / s,
           (double)TOGETHER / (double)(after.commits - before.commits));
    db_queue_free(b.queue);
    loop_free(b.loop);
}

int main(int argc, char **argv)
{
    struct db_rules r;
    char why[DB_WHY_BYTES];
    db_rules_default(&r);
    if (argc != 2 || db_open(argv[1], &r, &b.d, why, sizeof(why))) {
        fprintf(stderr, "bench_db: %s\n", argc == 2 ? why : "name a file or a postgres:// address");
        return 1;
    }
    must(db_do(b.d, drop, NULL));
    must(db_do(b.d, make, NULL));
    alone();
    together();
    must(db_do(b.d, drop, NULL));
    db_close(b.d);
    return 0;
}
