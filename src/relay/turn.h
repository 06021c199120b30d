/* turn.h - a call of a session that ended well becomes a checkpoint (checkpoint/turns.h): the request's own block is kept and handed over, so
 * nothing of it is copied on the loop. */
#ifndef PERDURE_RELAY_TURN_H
#define PERDURE_RELAY_TURN_H

#include "relay/relay_priv.h"

/* Before the reply ends: the request is still wanted afterwards. `answer`: what a client that does not stream is given. */
void turn_keep(struct relay *r, struct span answer);
/* The call is over and booked. */
void turn_give(struct relay *r);

#endif
