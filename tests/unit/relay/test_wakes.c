/* Calls that are told to look: on their worker's loop, once for any number of times, and never after they have gone. */
#include "relay/wakes.h"

#include "loop/loop.h"
#include "torture.h"

#include <pthread.h>

#include "test.h"

struct node {
    struct list wake;
    unsigned woken;
};

static struct stage {
    struct worker worker;
    struct wakes *wakes;
    struct node nodes[100];
    unsigned until, woken; /* the loop ends when so many have been woken */
    bool once;             /* each counts once */
    struct node *forgets, *tells_again;
} stage;

static void on_wake(struct list *n)
{
    struct node *node = LIST_OF(n, struct node, wake);
    bool counts = !stage.once || !node->woken;
    node->woken++;
    if (stage.forgets) {
        wakes_forget(stage.wakes, &stage.forgets->wake);
        stage.forgets = NULL;
    }
    if (stage.tells_again == node) {
        stage.tells_again = NULL;
        wakes_tell(stage.wakes, n);
    }
    stage.woken += counts;
    if (stage.woken == stage.until)
        loop_stop(stage.worker.loop);
}

static void open_stage(unsigned until)
{
    stage = (struct stage){.until = until, .worker.loop = loop_new()};
    assert_non_null(stage.worker.loop);
    for (unsigned i = 0; i < 100; i++)
        list_init(&stage.nodes[i].wake);
    stage.wakes = wakes_new(&stage.worker, on_wake);
    assert_non_null(stage.wakes);
}

static void close_stage(void)
{
    wakes_free(stage.wakes);
    loop_free(stage.worker.loop);
}

static void each_is_woken_once_in_the_order_in_which_it_was_told(void **state)
{
    (void)state;
    open_stage(2);
    for (int i = 0; i < 5; i++)
        wakes_tell(stage.wakes, &stage.nodes[0].wake);
    wakes_tell(stage.wakes, &stage.nodes[1].wake);
    loop_run(stage.worker.loop);
    assert_int_equal(stage.nodes[0].woken, 1);
    assert_int_equal(stage.nodes[1].woken, 1);
    close_stage();
}

static void who_goes_is_not_woken_any_more(void **state)
{
    (void)state;
    open_stage(2);
    stage.forgets = &stage.nodes[1]; /* the first takes the second with it */
    for (int i = 0; i < 3; i++)
        wakes_tell(stage.wakes, &stage.nodes[i].wake);
    loop_run(stage.worker.loop);
    assert_int_equal(stage.nodes[0].woken, 1);
    assert_int_equal(stage.nodes[1].woken, 0);
    assert_int_equal(stage.nodes[2].woken, 1);
    wakes_forget(stage.wakes, &stage.nodes[1].wake); /* twice is fine */
    close_stage();
}

static void who_is_told_while_it_looks_looks_again(void **state)
{
    (void)state;
    open_stage(2);
    stage.tells_again = &stage.nodes[0];
    wakes_tell(stage.wakes, &stage.nodes[0].wake);
    loop_run(stage.worker.loop);
    assert_int_equal(stage.nodes[0].woken, 2);
    close_stage();
}

static void *tell_all(void *ctx)
{
    (void)ctx;
    for (int round = 0; round < 50; round++)
        for (unsigned i = 0; i < 99; i++)
            wakes_tell(stage.wakes, &stage.nodes[i].wake);
    wakes_tell(stage.wakes, &stage.nodes[99].wake);
    return NULL;
}

static void any_thread_may_tell(void **state)
{
    (void)state;
    pthread_t t;
    open_stage(100);
    stage.once = true;
    assert_int_equal(pthread_create(&t, NULL, tell_all, NULL), 0);
    loop_run(stage.worker.loop);
    pthread_join(t, NULL);
    for (unsigned i = 0; i < 100; i++)
        wakes_forget(stage.wakes, &stage.nodes[i].wake);
    assert_int_equal(stage.woken, 100); /* none was lost */
    close_stage();
}

static pd_err life(void *ctx)
{
    (void)ctx;
    struct worker w = {.loop = loop_new()};
    struct wakes *k = w.loop ? wakes_new(&w, on_wake) : NULL;
    wakes_free(k);
    loop_free(w.loop);
    return k ? PD_OK : PD_NOMEM;
}

static void each_failed_allocation_is_told_and_nothing_leaks(void **state)
{
    (void)state;
    assert_true(torture(life, NULL) >= 3);
    assert_null(wakes_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_woken_once_in_the_order_in_which_it_was_told),
        cmocka_unit_test(who_goes_is_not_woken_any_more),
        cmocka_unit_test(who_is_told_while_it_looks_looks_again),
        cmocka_unit_test(any_thread_may_tell),
        cmocka_unit_test(each_failed_allocation_is_told_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
