/* loop_priv.h - the loop's own state, for loop.c and timer.c. */
#ifndef PERDURE_LOOP_LOOP_PRIV_H
#define PERDURE_LOOP_LOOP_PRIV_H

#include "loop/loop.h"

struct signal_handler;

struct loop {
    uv_loop_t uv;
    uv_timer_t timer; /* fires when the first of our timers is due */
    uv_prepare_t prepare;
    uv_check_t check;
    uv_async_t again;
    struct timer *timers; /* root of the pairing heap: the first due */
    uint64_t timer_due;   /* what uv's timer is set to; 0: not set */
    struct list laters;
    struct signal_handler *signals;
    uint64_t turn_began_us, lag_us;
    bool stopping;
};

/* Fires what is due. */
void timers_run(struct loop *l);
/* Sets uv's timer to the first due of ours; once a turn, before waiting. */
void timers_arm_uv(struct loop *l);

#endif
