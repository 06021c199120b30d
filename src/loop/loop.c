#include "loop/loop.h"

#include "base/clock.h"
#include "base/mem.h"
#include "loop/loop_priv.h"

#include <assert.h>
#include <sys/resource.h>
#include <unistd.h>

void loop_process_init(unsigned *ret_fds)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    *ret_fds = getrlimit(RLIMIT_NOFILE, &r) == 0 ? (unsigned)r.rlim_cur : 1024;
    uv_replace_allocator(mem_lib_alloc, mem_lib_realloc, mem_lib_calloc, mem_free);
}

/* ---- the turn of the loop ------------------------------------------------ */

static void on_heap_timer(uv_timer_t *uv)
{
    struct loop *l = uv->data;
    timers_run(l);
}

/* Runs before the loop waits for events: whatever callbacks of this turn put off. */
static void on_prepare(uv_prepare_t *uv)
{
    struct loop *l = uv->data;
    for (int round = 0; round < 64 && !list_empty(&l->laters); round++) {
        struct list batch;
        list_init(&batch);
        struct list *node;
        while ((node = list_first(&l->laters)) != NULL) {
            list_remove(node);
            list_push(&batch, node);
        }
        while ((node = list_first(&batch)) != NULL) {
            struct later *x = LIST_OF(node, struct later, node);
            list_remove(node);
            x->fn(x->ctx);
        }
    }
    if (!list_empty(&l->laters))
        uv_async_send(&l->again); /* do not let one object's rescheduling starve the sockets */
    timers_arm_uv(l);
    uint64_t now = clock_mono_us();
    if (l->turn_began_us && now - l->turn_began_us > l->lag_us)
        l->lag_us = now - l->turn_began_us;
    l->turn_began_us = 0;
}

static void on_check(uv_check_t *uv)
{
    struct loop *l = uv->data;
    l->turn_began_us = clock_mono_us();
}

static void on_again(uv_async_t *uv)
{
    (void)uv;
}

struct loop *loop_new(void)
{
    struct loop *l = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    if (uv_loop_init(&l->uv) != 0) {
        mem_free(l);
        return NULL;
    }
    list_init(&l->laters);
    uv_timer_init(&l->uv, &l->timer);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_check_init(&l->uv, &l->check);
    uv_async_init(&l->uv, &l->again, on_again);
    l->timer.data = l->prepare.data = l->check.data = l->again.data = l;
    uv_prepare_start(&l->prepare, on_prepare);
    uv_check_start(&l->check, on_check);
    return l;
}

static void close_signals(struct loop *l);

struct loop *loop_free(struct loop *l)
{
    if (!l)
        return NULL;
    close_signals(l);
    uv_close((uv_handle_t *)&l->timer, NULL);
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->check, NULL);
    uv_close((uv_handle_t *)&l->again, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&l->uv);
    assert(busy == 0);
    (void)busy;
    mem_free(l);
    return NULL;
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

void loop_run(struct loop *l)
{
    l->stopping = false;
    while (!l->stopping)
        uv_run(&l->uv, UV_RUN_ONCE);
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
    uv_stop(&l->uv);
    uv_async_send(&l->again);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv);
}

uint64_t loop_now_us(const struct loop *l)
{
    (void)l;
    return clock_mono_us();
}

uint64_t loop_lag_us(struct loop *l)
{
    uint64_t lag = l->lag_us;
    l->lag_us = 0;
    return lag;
}

void timers_arm_uv(struct loop *l)
{
    if (!l->timers) {
        if (l->timer_due)
            uv_timer_stop(&l->timer);
        l->timer_due = 0;
        return;
    }
    uint64_t due = l->timers->heap_ms;
    if (due == l->timer_due)
        return;
    uint64_t now = uv_now(&l->uv);
    l->timer_due = due;
    uv_timer_start(&l->timer, on_heap_timer, due > now ? due - now : 0, 0);
}

/* ---- descriptors --------------------------------------------------------- */

static int to_uv(int events)
{
    return (events & WATCH_READ ? UV_READABLE : 0) | (events & WATCH_WRITE ? UV_WRITABLE : 0) |
           (events & WATCH_GONE ? UV_DISCONNECT : 0);
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
    struct watch *w = uv->data;
    int seen = (events & UV_READABLE ? WATCH_READ : 0) | (events & UV_WRITABLE ? WATCH_WRITE : 0) |
               (events & UV_DISCONNECT ? WATCH_GONE : 0);
    w->fn(w->ctx, status < 0 ? w->wanted : seen, status < 0 ? PD_IO : PD_OK);
}

pd_err watch_open(struct loop *l, struct watch *w, int fd, int events, watch_fn *fn, void *ctx)
{
    *w = (struct watch){.loop = l, .fn = fn, .ctx = ctx, .fd = fd};
    if (uv_poll_init(&l->uv, &w->uv, fd) != 0)
        return PD_IO;
    w->uv.data = w;
    w->open = true;
    watch_want(w, events);
    return PD_OK;
}

void watch_want(struct watch *w, int events)
{
    if (!w->open || events == w->wanted)
        return;
    w->wanted = events;
    if (events)
        uv_poll_start(&w->uv, to_uv(events), on_poll);
    else
        uv_poll_stop(&w->uv);
}

static void on_watch_closed(uv_handle_t *h)
{
    struct watch *w = h->data;
    if (w->closed)
        w->closed(w->ctx);
}

void watch_close(struct watch *w, void (*closed)(void *ctx))
{
    if (!w->open)
        return;
    w->open = false;
    w->closed = closed;
    uv_poll_stop(&w->uv);
    uv_close((uv_handle_t *)&w->uv, on_watch_closed);
    close(w->fd);
    w->fd = -1;
}

/* ---- work elsewhere ------------------------------------------------------- */

struct offload {
    uv_work_t uv;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

static void offload_work(uv_work_t *uv)
{
    struct offload *o = uv->data;
    o->work(o->ctx);
}

static void offload_done(uv_work_t *uv, int status)
{
    (void)status;
    struct offload *o = uv->data;
    void (*done)(void *ctx) = o->done;
    void *ctx = o->ctx;
    mem_free(o);
    done(ctx);
}

pd_err loop_offload(struct loop *l, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
    struct offload *o = mem_alloc(sizeof(*o));
    if (!o)
        return PD_NOMEM;
    *o = (struct offload){.work = work, .done = done, .ctx = ctx};
    o->uv.data = o;
    if (uv_queue_work(&l->uv, &o->uv, offload_work, offload_done) != 0) {
        mem_free(o);
        return PD_NOMEM;
    }
    return PD_OK;
}

/* ---- later, waker, signals ------------------------------------------------- */

void later_init(struct later *x, void (*fn)(void *ctx), void *ctx)
{
    *x = (struct later){.fn = fn, .ctx = ctx};
    list_init(&x->node);
}

void loop_later(struct loop *l, struct later *x)
{
    if (list_empty(&x->node))
        list_push(&l->laters, &x->node);
}

void later_cancel(struct later *x)
{
    list_remove(&x->node);
}

struct waker {
    uv_async_t uv;
    void (*fn)(void *ctx);
    void *ctx;
};

static void on_wake(uv_async_t *uv)
{
    struct waker *w = uv->data;
    w->fn(w->ctx);
}

struct waker *waker_new(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct waker *w = mem_zalloc(sizeof(*w));
    if (!w)
        return NULL;
    w->fn = fn;
    w->ctx = ctx;
    w->uv.data = w;
    if (uv_async_init(&l->uv, &w->uv, on_wake) != 0) {
        mem_free(w);
        return NULL;
    }
    return w;
}

void waker_wake(struct waker *w)
{
    uv_async_send(&w->uv);
}

static void waker_closed(uv_handle_t *h)
{
    mem_free(h->data);
}

struct waker *waker_free(struct waker *w)
{
    if (w)
        uv_close((uv_handle_t *)&w->uv, waker_closed);
    return NULL;
}

struct signal_handler {
    uv_signal_t uv;
    struct signal_handler *next;
    void (*fn)(void *ctx, int signum);
    void *ctx;
};

static void on_signal(uv_signal_t *uv, int signum)
{
    struct signal_handler *s = uv->data;
    s->fn(s->ctx, signum);
}

pd_err loop_on_signal(struct loop *l, int signum, void (*fn)(void *ctx, int signum), void *ctx)
{
    struct signal_handler *s = mem_zalloc(sizeof(*s));
    if (!s)
        return PD_NOMEM;
    s->fn = fn;
    s->ctx = ctx;
    uv_signal_init(&l->uv, &s->uv);
    s->uv.data = s;
    s->next = l->signals;
    l->signals = s;
    return uv_signal_start(&s->uv, on_signal, signum) == 0 ? PD_OK : PD_IO;
}

static void signal_closed(uv_handle_t *h)
{
    mem_free(h->data);
}

static void close_signals(struct loop *l)
{
    while (l->signals) {
        struct signal_handler *s = l->signals;
        l->signals = s->next;
        uv_close((uv_handle_t *)&s->uv, signal_closed);
    }
}
