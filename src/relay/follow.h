/* follow.h - a second client of one answer: one that asked again while the first try still ran or had just ended, or that reads a call's stream by its id.
 *
 *   relay --adds--> kept_answer --wakes--> follow --encoder--> client
 *
 * A follower has an encoder of its own and reads the kept answer from its beginning, or from
 * where its client was (Last-Event-ID). It never touches the call, which may be another worker's. */
#ifndef PERDURE_RELAY_FOLLOW_H
#define PERDURE_RELAY_FOLLOW_H

#include "relay/kept.h"
#include "relay/relay.h"

struct follow_want {
    const struct codec *codec;
    bool stream, include_usage, array;
    bool ids;    /* positions as SSE ids, for a client that can resume by Last-Event-ID */
    size_t from; /* position that the client has */
};
/* What a Last-Event-ID says: "c-...:POSITION", or the position alone; 0: nothing. */
size_t follow_position(struct span last_event_id);
/* The reply is the follower's from here on. Takes the reference to the answer over, also when it fails (and answers that). */
void follow_start(struct worker *w, struct request *rq, struct kept_answer *a, const struct follow_want *want);
/* Something was added to the answer, or its state changed: from any thread, without its lock. */
void follow_notify(struct kept_answer *a);

/* A worker's followers; of the worker. */
struct follows;
struct follows *follows_new(struct worker *w) PD_CHECKED;
struct follows *follows_free(struct follows *f); /* all requests must be gone */

#endif
