/* front_priv.h - the endpoints' functions, for the table. */
#ifndef PERDURE_FRONT_FRONT_PRIV_H
#define PERDURE_FRONT_FRONT_PRIV_H

#include "checkpoint/checkpoint.h"
#include "front/front.h"
#include "parse/put.h"

struct endpoint;
typedef void endpoint_fn(struct worker *w, struct request *rq, const struct endpoint *at,
                         const struct conf_key *key);

/* Who may use an endpoint when client keys are configured, or when the peer is another machine. */
enum access {
    ACCESS_ANYONE,  /* a load balancer's question */
    ACCESS_CLIENT,  /* any configured key */
    ACCESS_FIGURES, /* any configured key, or this machine */
    ACCESS_ADMIN,   /* an admin key, or this machine */
};

struct endpoint {
    const char *method,
        *path; /* a path that ends in '/' takes everything below it; "{model}" in it stands for one or more bytes */
    enum access access;
    endpoint_fn *serve;
    const struct codec *codec; /* the client's wire format: of calls, and for errors; NULL: OpenAI's */
    const char *operation;
    bool stream; /* the path says that a stream is wanted */
};
/* What "{model}" stands for in this path, escapes left in; empty when the row has none. False: the path does not fit the row. */
bool endpoint_fits(const struct endpoint *e, struct span path, struct span *ret_model);
const struct codec *endpoint_codec(const struct endpoint *e);

/* guard.c: may this request be served? False: it was answered. `*ret_key` is the client's key, NULL without keys. */
bool guard(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key **ret_key);
/* Of a Host header: a name of this machine. A page on the web whose name was made to point here (DNS rebinding) has another one. Pure. */
bool guard_is_local_name(struct span host);
/* Of an Origin header: "http://localhost:3000", a page served from this machine. Pure. */
bool guard_is_local_origin(struct span origin);

/* agent.c: who says that it asks, as one of:
 *
 *   the path     /agent/NAME before what it would be else, as of a base URL of its own; only there with endpoints of clients
 *   a header     x-perdure-agent: NAME
 *   the key      perdure-agent-NAME, where no client keys are configured and any word is one
 *
 * It is a word, and proves nothing: nobody may do more by it. */
struct agent {
    char name[CHECKPOINT_AGENT_BYTES]; /* "": nobody */
};
/* Takes it off the path. False: there is none. */
bool agent_skip(struct request *rq);
/* False: what is said is no name, and the client was told. */
bool agent_of(struct request *rq, const struct endpoint *at, const struct conf_key *key, struct agent *ret);
/* guard.c: the key as each kind of client sends it; n 0: none. */
struct span sent_key(struct request *rq);

endpoint_fn serve_call, serve_wrapper, serve_models, serve_model, serve_tags, serve_version, serve_metrics,
    serve_health, serve_ready, serve_storage, serve_providers, serve_calls, serve_one_call, serve_sessions,
    serve_one_session, serve_index, serve_run_create, serve_runs, serve_one_run, serve_run_wish, serve_work_claim,
    serve_work_beat, serve_work_step, serve_work_finish, serve_reviews, serve_review, serve_checkpoints,
    serve_one_checkpoint, serve_checkpoint_create, serve_checkpoint_prune;

/* Answers with a JSON document that was put together in `out`; frees it. Out of memory: 503. */
void answer_json(struct request *rq, int status, struct buf *out, pd_err e);
void answer_text(struct request *rq, int status, const char *content_type, struct span text);

#endif
