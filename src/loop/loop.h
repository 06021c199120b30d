/* loop.h - libuv behind one header: file descriptors, timers, work done elsewhere, signals.
 *
 * One loop is one thread's. Timers are ours (an intrusive pairing heap over a
 * single uv_timer): arming takes no memory and never fails, and there is no close
 * callback to wait for. A deadline that moves with every token is kept lazily:
 * timer_push() stores the new time and the heap is put right when the old one fires.
 *
 * Callbacks may free the object that holds the timer or watch they were called
 * for (a watch: through watch_close). */
#ifndef PERDURE_LOOP_LOOP_H
#define PERDURE_LOOP_LOOP_H

#include "base/err.h"
#include "base/list.h"

#include <stdint.h>
#include <uv.h>

struct loop;
struct timer;
typedef void timer_fn(void *ctx);

struct timer {
    uint64_t due_ms;  /* when it should fire; may be later than heap_ms */
    uint64_t heap_ms; /* what the heap is sorted by */
    timer_fn *fn;
    void *ctx;
    struct timer *child, *next, *prev; /* pairing heap; prev is the parent for a first child */
    bool armed;
};

struct loop *loop_new(void) PD_CHECKED;
/* All watches must be closed. NULL is fine; returns NULL. */
struct loop *loop_free(struct loop *l);
uv_loop_t *loop_uv(struct loop *l);
void loop_run(struct loop *l); /* until loop_stop() */
void loop_stop(struct loop *l);
uint64_t loop_now_ms(const struct loop *l); /* monotonic; of the current wakeup */
uint64_t loop_now_us(const struct loop *l); /* read anew */
/* Longest time a wakeup's callbacks took since the last call, in microseconds: who did not return quickly. */
uint64_t loop_lag_us(struct loop *l);

void timer_init(struct timer *t, timer_fn *fn, void *ctx);
void timer_arm(struct loop *l, struct timer *t, uint64_t due_ms);  /* again is fine: it moves */
void timer_push(struct loop *l, struct timer *t, uint64_t due_ms); /* only ever later than before: O(1) */
void timer_stop(struct loop *l, struct timer *t);                  /* not armed is fine */

/* A file descriptor. Level-triggered. WATCH_GONE is the peer's close or reset (EPOLLRDHUP), seen also while nothing is read. */
enum { WATCH_READ = 1, WATCH_WRITE = 2, WATCH_GONE = 4 };
struct watch;
typedef void watch_fn(void *ctx, int events, pd_err err);
struct watch {
    uv_poll_t uv;
    struct loop *loop;
    watch_fn *fn;
    void *ctx;
    void (*closed)(void *ctx);
    int wanted, fd;
    bool open;
};
pd_err watch_open(struct loop *l, struct watch *w, int fd, int events, watch_fn *fn, void *ctx) PD_CHECKED;
void watch_want(struct watch *w, int events); /* no system call when nothing changes */
/* Closes the fd too. `closed` is called in a later turn of the loop; the memory of `w` must live until then. */
void watch_close(struct watch *w, void (*closed)(void *ctx));

/* Work on another thread. `work` must not touch anything of this loop; `done` runs on the loop. On PD_NOMEM neither runs. */

pd_err loop_offload(struct loop *l, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx) PD_CHECKED;

/* Runs fn once at the end of this turn, after all callbacks: for flushing and for freeing what callbacks may still use. */
struct later {
    struct list node;
    void (*fn)(void *ctx);
    void *ctx;
};
void later_init(struct later *x, void (*fn)(void *ctx), void *ctx);
void loop_later(struct loop *l, struct later *x); /* already waiting is fine */
void later_cancel(struct later *x);

/* The only loop call that other threads and signal handlers may make: runs fn on the loop soon. Calls may merge. */
struct waker;
struct waker *waker_new(struct loop *l, void (*fn)(void *ctx), void *ctx) PD_CHECKED;
void waker_wake(struct waker *w);
struct waker *waker_free(struct waker *w);

pd_err loop_on_signal(struct loop *l, int signum, void (*fn)(void *ctx, int signum), void *ctx) PD_CHECKED;

/* Once at start: libuv takes our allocator, and descriptors are counted. *ret_fds gets the soft limit after raising it. */
void loop_process_init(unsigned *ret_fds);

#endif
