/* turns.h - a checkpoint of a session after each of its turns: the request as its client sent it, and the answer.
 *
 * The loop gives a turn away and goes on: what it points to lives until `release`. A thread of its own takes the request apart (each message is a
 * content, stored once; one that was in a turn before is not scanned again, see known.h), puts the answer together and writes several turns in one
 * transaction. What waits is bounded: over it a turn is left out, and counted; the next one of the session has the whole conversation again. For the same
 * reason one that is overtaken while it waits, by a later one of the same conversation that is not shorter, is left out too. */
#ifndef PERDURE_CHECKPOINT_TURNS_H
#define PERDURE_CHECKPOINT_TURNS_H

#include "base/list.h"
#include "checkpoint/checkpoint.h"
#include "dialect/msg.h"

struct codec;
struct shown;

struct turn {
    struct list node, alike;                 /* turns' own, while it waits */
    const struct codec *codec;               /* the client's format */
    struct span body;                        /* the request */
    struct span turns;                       /* the array of its messages, where it was looked for already */
    struct span answer;                      /* JSON; empty: `shown` has it */
    const struct shown *shown;               /* as it was streamed; NULL: there is none */
    void (*lock)(struct turn *t, bool lock); /* while `shown` is read; NULL: nobody else has it */
    struct msg_usage usage;
    enum msg_finish finish;
    char agent[40];                                    /* "session:s-..." */
    char name[68], provider[64], model[128], call[24]; /* cut to fit; name: the client's own for its session */
    uint64_t
        begins; /* hash of the conversation's beginning, which tells a session's conversations apart; 0: not known */
    size_t bytes;                    /* what it weighs while it waits */
    void (*release)(struct turn *t); /* on any thread, under no lock */
};

struct turns;
/* PD_NOMEM as NULL. `left`: the folder where a process before this one may have left turns (left.h), and where they are left; NULL: none. `follows`: it is at
 * work still, so the folder is looked at again and again. */
struct turns_rules {
    uint64_t waiting_bytes;
    const char *left;
    bool follows;
};
struct turns *turns_begin(struct checkpoints *c, const struct turns_rules *r) PD_CHECKED;
struct turns *turns_new(struct checkpoints *c, uint64_t waiting_bytes) PD_CHECKED; /* without a folder */
/* A successor has the database: from its return on turns are left in the folder, and the checkpoints are not used any more. Blocks while one batch is written. */
void turns_leave(struct turns *t);
/* It has died: there are checkpoints again. */
void turns_return(struct turns *t, struct checkpoints *c);
/* Ends what waits. Before checkpoints_close(). NULL is fine; returns NULL. */
struct turns *turns_free(struct turns *t);
/* False: too much waits; it is the caller's still. Any thread. */
bool turns_give(struct turns *t, struct turn *turn) PD_CHECKED;
struct turns_stats {
    uint64_t made, failed, left_out, overtaken;
};
void turns_stats(struct turns *t, struct turns_stats *ret);

#endif
