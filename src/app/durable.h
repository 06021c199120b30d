/* durable.h - the service's database and its checkpoints: opened, tried again, handed to a successor.
 *
 * The gateway serves without them, and says so once for each reason: what cannot be opened is tried again with growing pauses. A file is held by one
 * process: when a successor takes over, the old process gives it up at once, and leaves the last turns of its sessions in the folder `turns` of the state, where
 * the successor finds them (checkpoint/left.h).
 *
 *   gateway->db, ->checkpoints   set on the first worker's loop when they are open; NULL before, and after they were given up
 *   worker->jobs                 made and given up on the worker's own loop, by durable_seat() */
#ifndef PERDURE_APP_DURABLE_H
#define PERDURE_APP_DURABLE_H

#include "relay/gateway.h"

struct durable;
struct durable_options {
    const struct conf *conf;
    bool successor;          /* an old process may hold the file still: it is waited for */
    void (*tell)(void *ctx); /* every worker is to call durable_seat() soon, on its own loop; called on `loop` */
    void *ctx;
};
/* A SQLite file is opened before it returns, if it can be; all else is found out later. *ret is NULL when there is neither database nor snapshots: no
 * error. PD_NOMEM. */
pd_err durable_open(struct gateway *g, struct loop *l, const struct durable_options *o,
                    struct durable **ret) PD_CHECKED;
/* On the worker's loop, when told and before it is freed. */
void durable_seat(struct durable *k, struct worker *w);
/* Another configuration: what is kept of checkpoints holds from now on; another place of the database or of snapshots is for a successor, which is
 * said. `k` NULL: there is no database. */
void durable_reload(struct durable *k, const struct conf *c);
/* A successor waits for it. The last worker's durable_seat() lets go of it. */
void durable_hand_over(struct durable *k);
/* It has died: the database is opened again, once all have let go of it. */
void durable_take_back(struct durable *k);
/* What is under way ends, and is told. The workers' threads have ended; their loops are still there. NULL is fine; returns NULL. */
struct durable *durable_close(struct durable *k);

#endif
