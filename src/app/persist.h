/* persist.h - what the service knows when it starts again: the state folder, opened, read and written.
 *
 *   STATE/lock        held by the process that serves
 *   STATE/serving     where it does (state/serving.h)
 *   STATE/fleet       which targets are out, and where sessions are (snapshot)
 *   STATE/keep/       a journal: what makers want back with tool calls
 *   STATE/journal-*   a journal: answers as they were shown, calls on hold, ledgers
 *
 * Without the folder (it cannot be made, or another process holds it) the gateway serves all the same, and says what it goes without. After an
 * upgrade the old process writes on until its streams have ended; what it writes is read as it comes. */
#ifndef PERDURE_APP_PERSIST_H
#define PERDURE_APP_PERSIST_H

#include "app/upgrade.h"
#include "relay/gateway.h"

struct persist;
/* Reads what is there into the gateway (fleet, keep, journal must be made) and goes on writing. Before other threads run. *ret is NULL when there is no
 * state folder to be had: no error. PD_NOMEM; PD_EXISTS: another process holds it. */
pd_err persist_open(struct gateway *g, struct loop *l, const char *folder, struct inherited *in,
                    struct persist **ret) PD_CHECKED;
/* Writes down what there is now, for a successor that is about to read it. Blocks. */
void persist_write(struct persist *k);
/* A successor writes the snapshots from now on. */
void persist_hand_over(struct persist *k);
/* It has died: what it wrote is read, and snapshots are written again. */
void persist_take_back(struct persist *k);
/* It serves at this URL from now on; again is fine. `brief`: for the time of a run. */
void persist_serving(struct persist *k, const char *url, bool brief);
int persist_lock(const struct persist *k); /* the descriptor that holds the folder; -1: none */
/* Before the loop ends. NULL is fine; returns NULL. */
struct persist *persist_close(struct persist *k);

#endif
