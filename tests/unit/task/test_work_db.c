/* work_db.c: what work.h says, with the database opened by the worker itself. */
#include "base/clock.h"
#include "runs_lib.h"
#include "task/work.h"

#include <pthread.h>
#include <unistd.h>

static char folder[64];
static struct work_queue *queue;

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_work.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    static const char *const ends[] = {"", "-wal", "-shm", ".lock", "-journal"};
    queue = work_queue_free(queue);
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char path[400];
        snprintf(path, sizeof(path), "%s%s", where, ends[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* The plan is put in by another, who leaves the file to the worker. */
static void open_with(const char *plan)
{
    char why[500];
    struct work_db_rules r;
    open_db();
    create(plan);
    close_db();
    work_db_rules_default(&r);
    r.look_ms = 20;
    pd_err e = work_db_open(where, &r, &queue, why, sizeof(why));
    if (e)
        fail_msg("%s", why);
}

static const struct claim_wish a_wish = {.worker = {"w", 1}, .claim = {"c1", 2}, .lease_ms = 1000};

static void a_task_is_done_from_claim_to_finish(void **state)
{
    (void)state;
    struct claimed c;
    struct beat_answer b;
    enum step_found found;
    enum task_state s;
    struct buf result = {0};
    open_with("tasks:\n- {id: a, command: x}\n");
    assert_int_equal(queue->ops->claim(queue, &a_wish, 0, &c), PD_OK);
    const struct held_task h = {c.run, c.task, c.epoch};
    const struct step step = {"s", STEP_EFFECT, SPAN_LIT("k")};
    assert_int_equal(queue->ops->beat(queue, &h, SPAN_LIT("{}"), 1000, &b), PD_OK);
    assert_int_equal(queue->ops->step_begin(queue, &h, &step, &found, &result), PD_OK);
    assert_int_equal(found, STEP_NEW);
    assert_int_equal(queue->ops->step_end(queue, &h, "s", SPAN_LIT("5")), PD_OK);
    assert_int_equal(queue->ops->step_begin(queue, &h, &step, &found, &result), PD_OK);
    assert_int_equal(found, STEP_DONE);
    assert_true(span_is(buf_span(&result), "5"));
    const struct task_end end = {.outcome = OUTCOME_DONE, .output = SPAN_LIT("1")};
    assert_int_equal(queue->ops->finish(queue, &h, &end, &s), PD_OK);
    assert_int_equal(s, TASK_DONE);
    const struct held_task old = {c.run, c.task, c.epoch - 1};
    assert_int_equal(queue->ops->finish(queue, &old, &end, &s), RUNS_FENCED);
    claimed_done(&c);
    assert_int_equal(queue->ops->claim(queue, &a_wish, 30, &c), PD_NOTFOUND);
    buf_done(&result);
}

static void a_claim_waits_for_what_becomes_due_and_for_the_sweeper(void **state)
{
    (void)state;
    struct claimed c, again;
    struct claim_wish second = a_wish;
    second.claim = SPAN_LIT("c2");
    open_with("tasks:\n- {id: a, command: x}\n");
    assert_int_equal(queue->ops->claim(queue, &a_wish, 0, &c), PD_OK);
    assert_int_equal(queue->ops->claim(queue, &second, 30000, &again), PD_OK); /* the first never beats */
    assert_int_equal(again.epoch, c.epoch + 2);
    claimed_done(&c);
    claimed_done(&again);
}

static void *stop_it(void *ctx)
{
    work_queue_stop(ctx);
    return NULL;
}

static void stopping_ends_every_wait_and_lets_work_be_finished(void **state)
{
    (void)state;
    struct claimed c, none;
    pthread_t t;
    enum task_state s;
    struct claim_wish second = a_wish;
    second.claim = SPAN_LIT("c2");
    open_with("tasks:\n- {id: a, command: x}\n");
    assert_int_equal(queue->ops->claim(queue, &a_wish, 0, &c), PD_OK);
    assert_int_equal(pthread_create(&t, NULL, stop_it, queue), 0);
    uint64_t began = clock_mono_ms();
    assert_int_equal(queue->ops->claim(queue, &second, 600000, &none), PD_CANCELLED);
    assert_true(clock_mono_ms() - began < 60000);
    pthread_join(t, NULL);
    assert_int_equal(queue->ops->claim(queue, &second, 0, &none), PD_CANCELLED);
    const struct held_task h = {c.run, c.task, c.epoch};
    assert_int_equal(queue->ops->finish(queue, &h, &(struct task_end){.outcome = OUTCOME_RELEASED}, &s), PD_OK);
    assert_int_equal(s, TASK_READY);
    claimed_done(&c);
}

static void a_file_that_another_holds_is_said(void **state)
{
    (void)state;
    char why[500];
    struct work_db_rules r;
    struct work_queue *q = NULL;
    work_db_rules_default(&r);
    open_db();
    assert_int_equal(work_db_open(where, &r, &q, why, sizeof(why)), PD_EXISTS);
    assert_true(strlen(why) > 10);
    assert_null(q);
    close_db();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_task_is_done_from_claim_to_finish, make, drop),
        cmocka_unit_test_setup_teardown(a_claim_waits_for_what_becomes_due_and_for_the_sweeper, make, drop),
        cmocka_unit_test_setup_teardown(stopping_ends_every_wait_and_lets_work_be_finished, make, drop),
        cmocka_unit_test_setup_teardown(a_file_that_another_holds_is_said, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
