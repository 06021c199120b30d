/* front.h - what clients talk to: endpoints, who may use them, and perdure's own pages of figures.
 *
 * An endpoint is a row of data (endpoints.c). The handler's context is the worker. */
#ifndef PERDURE_FRONT_FRONT_H
#define PERDURE_FRONT_FRONT_H

#include "relay/gateway.h"

extern const struct server_handler front_handler;

/* The figures of this worker's sockets and loop, which are read and not counted: set before a scrape, and now and then for the other
 * workers, whose sockets only they may look at. */
void front_measure(struct worker *w);
/* All workers' meters as /metrics shows them. */
pd_err front_metrics(struct worker *w, struct buf *out) PD_CHECKED;

#endif
