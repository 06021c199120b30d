/* prober.h - what perdure asks providers by itself: health probes of targets that were taken out of traffic, and model lists.
 *
 * One worker has it. Probes are real requests of one token, made only for targets that wait for one. */
#ifndef PERDURE_RELAY_PROBER_H
#define PERDURE_RELAY_PROBER_H

#include "relay/gateway.h"

struct prober;
struct prober *prober_new(struct worker *w) PD_CHECKED;
struct prober *prober_free(struct prober *p); /* cancels what is under way; NULL is fine */
/* Looks again now: a breaker changed, or a config was loaded (`lists`: read all model lists anew). */
void prober_kick(struct prober *p, bool lists);

#endif
