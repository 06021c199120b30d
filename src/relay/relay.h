/* relay.h - carries out what a call decides: upstream exchanges, bytes to the client.
 *
 * relay_start() takes a client's request and sees it through to the end of its
 * reply: whatever happens, the client gets an answer, an honest error, or is gone.
 *
 *   net/server --request--> relay --events--> call/ --actions--> relay --exchange--> net/client
 *   client    <---bytes---- reply.c <-events- dialect <---------- attempt.c <-bytes-- provider */
#ifndef PERDURE_RELAY_RELAY_H
#define PERDURE_RELAY_RELAY_H

#include "dialect/codec.h"
#include "relay/routing.h"

struct relay_request {
    const struct codec *codec;  /* the client's format */
    struct request_line line;   /* what its path says; percent escapes in the model are undone by relay_start() */
    const char *operation;      /* gen_ai.operation.name: "chat", "embeddings" */
    bool wrapper;               /* POST /api/llm: {provider, response} */
    const struct conf_key *key; /* the client's; NULL: none is configured */
    struct span agent;          /* who says that it asks (checkpoint_agent_fine()); n 0: nobody. Copied */
};

/* Answers in the shape of the dialect if the request is not fit; never fails otherwise. The request's reply is the relay's from here on. */
void relay_start(struct worker *w, struct request *rq, const struct relay_request *what);

/* An error in the format's shape, for whoever answers before a relay exists. `retry_after_ms` 0: no Retry-After. */
void relay_refuse(struct request *rq, const struct codec *codec, int status, const char *code, const char *message,
                  uint64_t retry_after_ms);

/* For fleet_watch.ready: the call that owns this ticket is woken, on its own worker. Under the fleet's lock. */
void relay_ready(void *owner);
/* What a worker's calls are woken by (worker->wakes). */
struct wakes *relay_wakes(struct worker *w) PD_CHECKED;

/* The worker ends: calls that went on without their client do too. Before client_close(), which tells nobody; all requests are gone. */
void relay_end_orphans(struct worker *w);
/* Calls now running on this worker. */
unsigned relay_running(const struct worker *w);

#endif
