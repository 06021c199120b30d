/* call_priv.h - what the files of this room share.
 *
 * call.c takes the events, call_attempt.c keeps attempts and their targets' books, call_try.c decides where to go next, call_hold.c waits
 * for better times. */
#ifndef PERDURE_CALL_CALL_PRIV_H
#define PERDURE_CALL_CALL_PRIV_H

#include "base/clock.h"
#include "call/call.h"

/* ---- call.c */
struct call_action *call_act(struct call_actions *ret, enum call_act act, int attempt);
/* The only place that writes c->state. */
void call_enter(struct call *c, enum call_state to, uint64_t now);
void call_over(struct call *c, enum call_outcome outcome, uint64_t now);

/* ---- call_attempt.c */
struct route_target *call_target_of(const struct call *c, const struct attempt *a);
bool call_running_one(const struct call *c, int attempt); /* a valid index, and running */
unsigned call_running(const struct call *c);
void call_start(struct call *c, unsigned target, bool hedge, uint64_t now, struct call_actions *ret);
/* Its target's books are closed; no action is added. */
void call_attempt_ended(struct call *c, int attempt, const struct verdict *v, uint64_t now);
/* We stop it: CALL_CANCEL, and the books say what it was: slow, or nothing. */
void call_attempt_cancelled(struct call *c, int attempt, uint64_t now, struct call_actions *ret);
/* The same, and it is a failure of this class. */
void call_attempt_failed_by_us(struct call *c, int attempt, enum failure why, uint64_t now,
                               struct call_actions *ret);
/* Stops all that run, but `but` (-1: all). */
void call_cancel_others(struct call *c, int but, uint64_t now, struct call_actions *ret);

/* ---- call_try.c */
/* What a failed attempt means for the rest of the call; goes on when nothing else runs. */
void call_after_failure(struct call *c, int attempt, const struct verdict *v, uint64_t now,
                        struct call_actions *ret);
/* Nothing runs: the next attempt, a wait, or the end. */
void call_advance(struct call *c, uint64_t now, struct call_actions *ret);
void call_wait_over(struct call *c, uint64_t now, struct call_actions *ret);
/* Starts another attempt beside those that are late. */
void call_hedge(struct call *c, uint64_t now, struct call_actions *ret);
/* No way on, nothing runs: an error answer, or a break where something was shown. */
enum failure call_why_none(const struct call *c);
void call_give_up(struct call *c, enum failure why, uint64_t now, struct call_actions *ret);
void call_break(struct call *c, int attempt, enum failure why, uint64_t now, struct call_actions *ret);
/* Its place in the queue for all targets that it could start on at once; none, when all of them are its own to wait for. */
void call_queue(struct call *c, uint64_t now);
/* What was noted about targets counts no more, but what lasts: those that are unfit, and a Retry-After. */
void call_afresh(struct call *c);

/* ---- call_hold.c */
/* Where the call would end for want of a target: true: it holds. */
bool call_hold(struct call *c, uint64_t now);
/* Time to look whether a target is back. */
void call_hold_look(struct call *c, uint64_t now, struct call_actions *ret);

#endif
