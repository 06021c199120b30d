#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/rnd.h"
#include "loop/loop.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

struct ring {
    struct timer timer;
    struct fixture *of;
    uint64_t want_ms;
};

struct fixture {
    struct loop *loop;
    struct ring rings[400];
    uint64_t last_ms;
    unsigned fired, left;
};

static void on_ring(void *ctx)
{
    struct ring *r = ctx;
    uint64_t now = loop_now_ms(r->of->loop);
    assert_true(now >= r->want_ms);
    r->of->fired++;
    if (--r->of->left == 0)
        loop_stop(r->of->loop);
}

/* Random arming, moving, pushing and stopping: every timer still armed fires, none early, no stopped one. */
static void each_armed_timer_fires_and_none_early(void **state)
{
    (void)state;
    struct fixture *f = mem_zalloc(sizeof(*f));
    assert_non_null(f);
    f->loop = loop_new();
    struct rnd rnd = {7};
    uint64_t now = loop_now_ms(f->loop);
    for (unsigned i = 0; i < 400; i++) {
        struct ring *r = &f->rings[i];
        r->of = f;
        timer_init(&r->timer, on_ring, r);
        r->want_ms = now + rnd_below(&rnd, 40);
        timer_arm(f->loop, &r->timer, r->want_ms);
    }
    for (unsigned i = 0; i < 400; i++) {
        struct ring *r = &f->rings[rnd_below(&rnd, 400)];
        switch (rnd_below(&rnd, 3)) {
        case 0:
            timer_stop(f->loop, &r->timer);
            break;
        case 1:
            r->want_ms = now + rnd_below(&rnd, 40);
            timer_arm(f->loop, &r->timer, r->want_ms);
            break;
        case 2:
            if (r->timer.armed)
                timer_push(f->loop, &r->timer, r->want_ms += 15);
            break;
        }
    }
    for (unsigned i = 0; i < 400; i++)
        f->left += f->rings[i].timer.armed;
    unsigned armed = f->left;
    assert_true(armed > 100 && armed < 400);
    loop_run(f->loop);
    assert_int_equal(f->fired, armed);
    loop_free(f->loop);
    mem_free(f);
}

static struct {
    struct loop *loop;
    int events;
    unsigned order[3], count;
} seen;

static void on_event(void *ctx, int events, pd_err err)
{
    (void)ctx;
    assert_int_equal(err, PD_OK);
    seen.events = events;
    loop_stop(seen.loop);
}

static void on_closed(void *ctx)
{
    *(int *)ctx = 1;
    loop_stop(seen.loop);
}

static void a_peer_that_leaves_is_seen_while_nothing_is_read(void **state)
{
    (void)state;
    int pair[2], closed = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    seen.loop = loop_new();
    struct watch w;
    assert_int_equal(watch_open(seen.loop, &w, pair[0], WATCH_GONE, on_event, &closed), PD_OK);
    assert_int_equal(write(pair[1], "unread", 6), 6);
    close(pair[1]);
    loop_run(seen.loop);
    assert_true(seen.events & WATCH_GONE);
    watch_close(&w, on_closed);
    assert_int_equal(closed, 0);
    loop_run(seen.loop);
    assert_int_equal(closed, 1);
    loop_free(seen.loop);
}

static void note(void *ctx)
{
    seen.order[seen.count++] = *(unsigned *)ctx;
    if (seen.count == 2)
        loop_stop(seen.loop);
}

static void later_runs_once_in_order_and_can_be_cancelled(void **state)
{
    (void)state;
    unsigned one = 1, two = 2, three = 3;
    struct later a, b, c;
    seen.loop = loop_new();
    seen.count = 0;
    later_init(&a, note, &one);
    later_init(&b, note, &two);
    later_init(&c, note, &three);
    loop_later(seen.loop, &a);
    loop_later(seen.loop, &c);
    loop_later(seen.loop, &b);
    loop_later(seen.loop, &a);
    later_cancel(&c);
    loop_run(seen.loop);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.order[0], 1);
    assert_int_equal(seen.order[1], 2);
    loop_free(seen.loop);
}

static void work(void *ctx)
{
    *(int *)ctx += 1;
}

static void done(void *ctx)
{
    *(int *)ctx += 10;
    loop_stop(seen.loop);
}

static void offloaded_work_comes_back_to_the_loop(void **state)
{
    (void)state;
    int n = 0;
    seen.loop = loop_new();
    assert_int_equal(loop_offload(seen.loop, work, done, &n), PD_OK);
    loop_run(seen.loop);
    assert_int_equal(n, 11);
    loop_free(seen.loop);
}

int main(void)
{
    unsigned fds;
    loop_process_init(&fds);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_armed_timer_fires_and_none_early),
        cmocka_unit_test(a_peer_that_leaves_is_seen_while_nothing_is_read),
        cmocka_unit_test(later_runs_once_in_order_and_can_be_cancelled),
        cmocka_unit_test(offloaded_work_comes_back_to_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
