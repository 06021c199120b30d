/* sim.h - the running simulation: providers, the requests they are working on, and what is counted. For this room's files.
 *
 *   provider.c  listening, requests by path, counting, what was asked last
 *   play.c      one request from its start to its end: waits, tokens, backpressure, client gone
 *   play_start.c  what a request gets: an answer, a fault, a refusal
 *   strike.c    what each fault does
 *   control.c   /sim/...: state, faults, release, wait
 *   speak.c, dialect_*.c  the words of each dialect      auth.c  who may ask
 *   simulate.c  options, start and end
 *
 * All of it lives on one loop. A run belongs to its provider until its reply has ended. */
#ifndef PERDURE_SIMULATE_SIM_H
#define PERDURE_SIMULATE_SIM_H

#include "base/list.h"
#include "loop/loop.h"
#include "simulate/auth.h"
#include "simulate/dialect.h"
#include "simulate/wire.h"

enum {
    SIM_RECENT = 16,           /* requests that /sim/state shows, for each provider */
    SIM_RECENT_BYTES = 8192,   /* of the headers of one */
    SIM_RECENT_BODY = 1 << 20, /* of its body; of a longer one only the size is known */
    SIM_PEERS = 4096,          /* connections remembered as used */
    SIM_TURN_TOKENS = 512,     /* written before others get their turn */
    SIM_RESET_MS = 20,         /* what was written is read before a reset throws it away */
    SIM_WAIT_MS = 30000,       /* the longest /sim/wait without timeout= */
    SIM_BODY_BYTES = 256 << 20
};

#define SIM_COUNTERS(X)                                                                                   \
    X(requests, "requests for answers, embeddings and token counts")                                      \
    X(complete, "answered in full, errors of a script not among them")                                    \
    X(faulted, "ended by a fault")                                                                        \
    X(cancelled, "ended by the client, before their end")                                                 \
    X(refused,                                                                                            \
      "answered with an error that no fault asked for: bad request, bad key, unknown model, concurrency") \
    X(tokens, "generated, sent or not: what a provider would bill")                                       \
    X(prompt_tokens, "of requests that a model began to answer: what a provider would bill")              \
    X(continued, "answers that went on where another stopped")                                            \
    X(strayed, "requests to go on from a text that is no beginning of a varied answer: it was damaged")   \
    X(struck, "faults that did what they say")                                                            \
    X(stalls, "times a run went silent by a fault")

struct door; /* a server and whether it is closing */

struct recent {
    uint64_t number;
    char method[8], path[512], query[256], sha256[65], fault[24];
    size_t body_bytes;
    bool reused, streamed;
    struct endpoint at;
    struct buf headers; /* JSON */
    struct buf body;    /* empty when it was larger than SIM_RECENT_BODY */
};

struct provider {
    struct sim *sim;
    const struct script_provider *conf;
    struct door *door; /* NULL: refuses connections */
    uint16_t port;
    struct fault_set *faults;
    struct list runs;
    unsigned running, held;
#define X(name, what) uint64_t name;
    SIM_COUNTERS(X)
#undef X
    uint64_t by_fault[FAULT_KIND_COUNT];
    uint64_t by_dialect[SIM_DIALECT_COUNT][OP_ABOUT + 1];
    uint64_t drifted;          /* requests since start or reset, for `drift` */
    uint64_t peers[SIM_PEERS]; /* hashes of peers that have asked before */
    struct recent recent[SIM_RECENT];
    struct timer flap, up;
    struct later shut; /* closes the listening socket, not from within one of its callbacks */
    bool shut_hard;
    bool flapped;
    bool dropping; /* the listening socket is being closed with its requests: they were not cancelled */
};

struct sim {
    struct loop *loop;
    struct script *script;
    struct provider *providers; /* providers_count of the script */
    struct door *control;
    uint16_t control_port;
    struct list doors; /* all, closing ones too */
    struct list waiters;
    struct later check;      /* looks at the waiters */
    struct buf event, frame; /* scratch of one event, and of its bytes */
    bool verbose, ending;
};

enum play_stage {
    PLAY_STARTING, /* the answer is decided, its timing not */
    PLAY_WAITING,  /* for the first token; comments may go out */
    PLAY_DRIPPING, /* the head goes out byte by byte */
    PLAY_TALKING,
    PLAY_STALLED, /* silent, or only comments; until the client leaves or `for` is over */
    PLAY_HELD,    /* until /sim/release */
    PLAY_RESETTING
};

struct play {
    struct list node; /* provider->runs */
    struct provider *provider;
    struct arena mem;
    struct wire wire;
    struct rnd rnd;
    struct timer timer;
    enum play_stage stage, resume; /* resume: where a hold goes on */
    struct fault_set *faults;      /* keeps `fault` alive */
    const struct fault *fault;     /* NULL: none */
    const struct fault *fault_row; /* the same, as it stands in the list */
    bool struck, blocked;
    uint64_t after; /* tokens before the fault strikes */
    uint64_t number;
    uint64_t began_us, due_us, comment_us, until_us;
    int64_t ttft_us, delay_us, comment_every_us;
    double jitter;
    struct span comment; /* text of comments while waiting; p NULL: none */
    struct endpoint at;
    const struct sim_dialect *dialect;
    struct ask in;
    struct answer answer;
    struct speech speech;
    struct stream stream;
    struct buf body; /* unstreamed: what is sent */
    size_t body_sent;
    struct header *headers;
    unsigned headers_count;
    int status;
    uint64_t sent;                  /* bytes of the body */
    uint64_t counted;               /* of its tokens, in the provider's count */
    bool head_sent, talked, failed; /* failed: it is an error that is answered */
    bool fixed;                     /* the body is there from the start: no answer of a model */
    bool spoiled;                   /* it ends well, but not with what was asked for */
    struct span error_type, request_id;
};

/* ---- provider.c ---- */
pd_err provider_init(struct provider *p, struct sim *sim, const struct script_provider *conf) PD_CHECKED;
void provider_done(struct provider *p); /* stops its timers */
void provider_free(struct provider *p); /* after its runs have ended */
pd_err provider_open(struct provider *p, char *why) PD_CHECKED;
/* Refuses connections. `hard`: running requests are reset too. for_us < 0: until provider_open(). */
void provider_shut(struct provider *p, bool hard, int64_t for_us);
void provider_reset(struct provider *p);
/* A list of faults in place of the old one. */
pd_err provider_faults(struct provider *p, struct span json, char *why) PD_CHECKED;
/* Where a request goes. */
struct endpoint provider_endpoint(const struct request *rq);
/* The error a provider makes up by itself; ends the request. */
void provider_refuse(struct provider *p, struct request *rq, const struct endpoint *at, const struct refusal *why);
/* The same, in a few words. */
void provider_error(struct provider *p, struct request *rq, const struct endpoint *at, int status,
                    const char *like, const char *message);
/* Is the caller allowed? Else *why. */
bool provider_allows(struct provider *p, struct request *rq, const struct endpoint *at, struct refusal *why);
void provider_note(struct provider *p, struct request *rq, const struct endpoint *at, bool reused, bool streamed,
                   const char *fault);
pd_err control_open(struct sim *sim, char *why) PD_CHECKED;
const struct server_stats *provider_stats(const struct provider *p); /* NULL while it refuses connections */
/* Closes all; the loop stops when nothing is left. */
void doors_close(struct sim *sim);

/* ---- play.c ---- */
void play_go(struct play *r); /* as far as it can; may end it */
struct play *play_new(struct provider *p, struct request *rq) PD_CHECKED;
/* Ends with an outcome; the wire has given its request back, or does now. */
enum play_outcome { OUTCOME_COMPLETE, OUTCOME_FAULTED, OUTCOME_CANCELLED, OUTCOME_REFUSED };
void play_over(struct play *r, enum play_outcome outcome);
void play_wake(struct play *r, uint64_t due_us);
void play_release(struct play *r);
void play_fail(struct play *r); /* out of memory, or a fault that this HTTP version cannot have */
pd_err play_add_header(struct play *r, struct span name, struct span value) PD_CHECKED;
pd_err play_begin(struct play *r, int64_t length) PD_CHECKED; /* the head */
/* Writes what was put into sim->frame. */
pd_err play_write(struct play *r, pd_err err) PD_CHECKED;
void play_ended(struct play *r, enum play_outcome outcome); /* the proper end of the body, then play_over */

/* ---- play_start.c ---- */
void play_start(struct provider *p, struct request *rq, const struct endpoint *at, bool reused);

/* ---- strike.c ---- */
/* Before anything is decided about the answer: true when the fault has taken the request. */
bool strike_before(struct play *r);
/* Changes the answer or the wire before the head is written. */
pd_err strike_prepare(struct play *r) PD_CHECKED;
/* An unstreamed body, before its length is told. */
pd_err strike_body(struct play *r) PD_CHECKED;
/* While only the head of the request is there: ends the request. */
void strike_early(struct provider *p, struct request *rq, const struct endpoint *at, const struct fault *f);
/* Is the stream where the fault strikes, before its next frame? */
bool strike_due(struct play *r);
/* How much of the frame at hand goes out before the fault strikes; all of it: it does not strike within. */
size_t strike_within(struct play *r, struct span frame);
/* The same of an unstreamed body. */
size_t strike_part(struct play *r);
/* The fault does what it says: counted once. */
void strike_counted(struct play *r);
/* There: true when the run must not go on now. */
bool strike_inside(struct play *r);

/* ---- embed.c, and the dialects' own lists ---- */
void models_reply(struct provider *p, struct request *rq, const struct endpoint *at);

/* ---- control.c ---- */
/* p NULL: on the control port. */
void control_request(struct sim *sim, struct provider *p, struct request *rq);
/* A counter has moved. */
void control_changed(struct sim *sim);
void control_init(struct sim *sim);

#endif
