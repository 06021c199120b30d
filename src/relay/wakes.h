/* wakes.h - calls of a worker that wait in the fair queue, and are told that something is free for them, by any worker's thread. */
#ifndef PERDURE_RELAY_WAKES_H
#define PERDURE_RELAY_WAKES_H

#include "base/list.h"
#include "relay/gateway.h"

struct wakes;
/* `wake` runs on the worker's loop, for each node that was told, once however often it was told before that. */
struct wakes *wakes_new(struct worker *w, void (*wake)(struct list *node)) PD_CHECKED;
struct wakes *wakes_free(struct wakes *k);             /* NULL is fine; returns NULL */
void wakes_tell(struct wakes *k, struct list *node);   /* any thread; takes no lock but its own */
void wakes_forget(struct wakes *k, struct list *node); /* it goes: the worker's thread */

#endif
