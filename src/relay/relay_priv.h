/* relay_priv.h - one call's runner, for the files of this room. */
#ifndef PERDURE_RELAY_RELAY_PRIV_H
#define PERDURE_RELAY_RELAY_PRIV_H

#include "call/call.h"
#include "credential/credential.h"
#include "dialect/encoder.h"
#include "dialect/toolgate.h"
#include "relay/ask.h"
#include "relay/recall.h"
#include "relay/record.h"
#include "relay/relay.h"
#include "relay/spent.h"

/* How the bytes of an upstream answer are read. */
enum run_mode {
    RUN_WAITING,  /* no head yet */
    RUN_SNIFFING, /* a head that does not say what the body is: its first bytes will */
    RUN_STREAM,   /* events */
    RUN_WHOLE,    /* one JSON document */
    RUN_REFUSED,  /* an error status: the body says why */
};

enum {
    RUN_HELD_MAX = 256 * 1024,             /* of events before the first output */
    RUN_END_MAX = ANSWER_EVENT_MAX + 4096, /* of an end mark: Responses' repeats the whole answer */
    RUN_EARLY_MAX = 16 * 1024, /* kept of a stream without output yet: it may turn out to be an error page */
    RUN_FINISH_GRACE_MS =
        3000, /* from the finish reason to whatever still follows: then nothing more is waited for */
    RUN_DONE_GRACE_MS = 250, /* from the terminator to the end of the body, in which an error may still follow */
    COLLECT_MAX = 64 << 20,  /* an answer that is collected */
    RUN_SECRETS_MAX = 4,
    RUN_REQUEST_ID_MAX = 63,
};

/* One attempt under way: an exchange and who reads it. */
struct run {
    struct relay *relay;
    struct list node;          /* in relay->dead once it is over */
    int n;                     /* the attempt's number in the call */
    struct exchange *exchange; /* NULL when it is over */
    struct target *target;
    const struct conf_provider *provider;
    enum run_mode mode;
    int status;
    bool over;                      /* no events for it any more */
    struct ask ask;                 /* what was asked, and in which wire format */
    struct credential_waiter signs; /* waits for credentials before anything is sent */
    bool content_type_stream;       /* its head says that it is a stream */
    bool produced;                  /* the call knows of output */
    bool continues;                 /* it goes on with what the client has of an attempt that broke */
    bool asked_on;                  /* and was asked to: not only its end is ours to write */
    bool shows;                     /* the client has something of it */
    struct answer *answer;          /* RUN_STREAM */
    struct collector *collector;    /* RUN_STREAM for a client of the same format that does not stream */
    struct encoder *encoder;        /* writes the answer in the client's format where it cannot go on as it came */
    struct answer_facts *facts;     /* of a complete answer: its reader's, or from the call's arena; else NULL */
    unsigned items;                 /* events put of an answer that is one JSON array */
    struct buf body;                /* RUN_WHOLE, RUN_REFUSED, RUN_SNIFFING; RUN_STREAM: its beginning */
    struct buf terminator;          /* the end mark as it came: shown when the answer is known to be whole */
    /* ---- flow.c: what is not shown yet */
    struct shown told;     /* its deltas */
    size_t fed;            /* of these the encoder knows so much */
    struct buf held;       /* bytes for the client that wait for the first output */
    struct buf late;       /* events that wait for the tool calls to be whole */
    uint64_t sequence;     /* of the event behind those that are not late, in formats that number them */
    struct toolgate *gate; /* its tool calls */
    bool gated;            /* one has begun: what follows waits */
    pd_err delta_err;      /* found while deltas were told */
    struct join *join;     /* continues: where its text goes on; NULL: no text was shown */
    enum join_state seam;
    const struct http1_head *
        head; /* RUN_REFUSED: the head, which belongs to its body; from the call's arena, NULL when out of memory */
    uint64_t started_us, head_us, output_us;
    uint64_t output_told;                 /* bytes of output that are in the relay's output_so_far */
    uint64_t generation;                  /* of the credentials it was signed with */
    struct span secrets[RUN_SECRETS_MAX]; /* what it was signed with: no provider's words hand them on */
    unsigned secrets_count;
    const char *request_id; /* its provider's, at most RUN_REQUEST_ID_MAX bytes; "": none */
};

/* A failure to tell the client. */
struct told {
    struct told *next;
    int attempt;
    struct verdict verdict;
    bool foreign;     /* it was said in another format than the client's: so were type and code */
    struct span body; /* the provider's error body, if it is in the client's format; p NULL otherwise */
    char request_id[64];
};

/* The id that a provider gave an attempt. */
struct given_id {
    struct given_id *next;
    int attempt;
    char text[];
};

/* A time in which nothing was under way for a call. */
struct pause {
    struct pause *next;
    bool held;               /* it waited for recovery; else for another try, or its turn */
    uint32_t from_ms, to_ms; /* from the call's start */
};
enum { PAUSES_MAX = 64, SESSION_NAME_MAX = 64 };

struct relay {
    struct list node; /* gateway->calls */
    struct list wake; /* worker->wakes */
    struct worker *w;
    struct request *rq; /* NULL when replied, or gone */
    struct routing *routing;
    struct route_use *route;
    struct relay_request what;
    struct arena arena;
    struct request_facts facts;
    struct call call;
    struct timer timer;
    struct later reaper;
    struct list dead; /* runs that are over, freed at the end of the turn */
    struct run *runs[CALL_RUNNING_MAX];
    struct told *told;        /* newest first */
    struct given_id *ids;     /* newest first */
    struct spent *spent;      /* by its attempts; newest first */
    struct span agent;        /* whose call it is, by the client's own word; n 0: it did not say */
    struct span session_name; /* the client's own, as far as it can be printed; n 0: it sent none */
    struct pause *pauses;     /* newest first, at most PAUSES_MAX */
    unsigned pauses_count, breaks_seen;
    enum call_state was; /* as record_step() saw it last, */
    uint64_t since_ms;   /* and since when */
    uint64_t line_due_ms, line_gap_ms,
        line_ms; /* the journal is to have its line then; 0: not yet looked at (lost.h) */
    unsigned line_attempts;
    struct log_scope scope;
    char id[24];
    uint64_t began_wall_ms, read_us, began_us;
    uint64_t overhead_us; /* our own time so far */
    uint64_t output_bytes;
    _Atomic uint64_t output_so_far; /* of all attempts; other workers look */
    struct msg_usage usage;
    uint64_t done_at_ms;   /* the winner's terminator was read at; 0: not yet */
    uint64_t finish_at_ms; /* the winner's finish reason was */
    uint64_t events_shown; /* of attempts that are over */
    /* ---- what the client has */
    bool begun;        /* the reply has its head */
    bool any_shown;    /* and bytes */
    bool unended;      /* what was shown last has no blank line after it */
    uint64_t spoke_ms; /* when it was last sent anything; at first: when the call began */
    struct kept_answer *
        kept; /* of a streamed answer: what the client has of it; another attempt goes on from there. NULL: not kept */
    struct recall recall;   /* what the journal has of it */
    uint64_t asked_wall_ms; /* when it was asked at first: in an earlier process, perhaps */
    bool hold_written;      /* the journal says that it is on hold */
    bool shown_lost;        /* not all of it could be kept */
    bool orphan;            /* the client left, and the answer goes on for when it comes back (`linger`) */
    uint64_t orphan_until_ms;
    struct request *asked;  /* what the client asked, for attempts; `rq` is where the reply goes */
    bool keeps_asked;       /* it outlives its client, and is ours to release */
    struct buf answered;    /* by a client that does not stream, where it is to be a checkpoint: turn.h */
    struct encoder *writer; /* writes on in the client's format once an attempt broke; outlives the attempts */
    struct buf seen;        /* its text, plain: made for an attempt that goes on */
    size_t seen_at;         /* for so much of `shown` */
    uint8_t
        ways[ROUTE_TARGETS_MAX]; /* in which way each target did not go on: enum continue_way + 1; 0: in none */
    uint64_t earlier_tokens;     /* of output, by attempts that broke off: reported, or estimated */
    int64_t first_input;         /* tokens of the prompt, as an attempt that broke off reported; -1 */
    struct msg_request *tools;   /* of the request, for toolgate_judge(); NULL: not read yet */
    unsigned tool_repairs;
    bool mixed;          /* the route has targets of several formats: an earlier answer may have been translated */
    uint64_t keep_scope; /* whose calls may be known to gateway->keep */
    bool paused;         /* the client is slower than the provider */
};

/* ---- relay.c: events for the call, actions from it ---- */
void relay_attempt_output(struct relay *r, struct run *run,
                          bool hidden);                     /* hidden: there is nothing to show of it yet */
void relay_attempt_shows(struct relay *r, struct run *run); /* and now there is */
void relay_attempt_moved(struct relay *r, struct run *run);
void relay_attempt_complete(struct relay *r, struct run *run);
void relay_attempt_failed(struct relay *r, struct run *run, const struct verdict *v);
struct run *relay_run(struct relay *r, int attempt);
uint64_t relay_now_ms(const struct relay *r);
void relay_rearm(struct relay *r);

/* An attempt of which the client has something is over before its answer is whole: what another needs to go on is kept. */
void relay_broke_off(struct relay *r, struct run *run, uint64_t events_shown);
/* What `run` is asked to go on with, and the call's writer; then, once the request is made, what joins its answer. PD_NOMEM, PD_TOOBIG. */
pd_err relay_continuation(struct relay *r, struct run *run, struct continuation *ret) PD_CHECKED;
pd_err relay_joiner(struct relay *r, struct run *run) PD_CHECKED;
/* The client has all of it but the end of its format, which we write. PD_NOMEM, PD_TOOBIG. */
pd_err relay_only_end(struct relay *r, struct run *run) PD_CHECKED;

/* ---- flow.c ---- */
/* For an answer's reader: deltas (ctx: the run), then the event that told them. */
void flow_delta(void *run, const struct msg_delta *d);
pd_err flow_event(void *run, const struct answer_event *ev);
/* The answer is whole: its tool calls are judged and what was held is shown. PD_OK: it may be completed. Otherwise the run has failed (run->over), or
 * that is the reason why it has to. */
pd_err flow_end(struct run *run) PD_CHECKED;
/* What was told of it is with the client now. */
void flow_begun(struct run *run);
struct encoder *flow_encoder(const struct run *run);

/* ---- attempt.c ---- */
void run_failed(struct run *run, struct verdict *v); /* with its request id; nothing if it is over */
void run_failed_as(struct run *run, enum failure f, const char *message);
/* PD_OK: events will come. Otherwise nothing was started: *ret_class and *ret_why (NULL: the code's own sentence) say what that means. */
pd_err run_start(struct relay *r, int attempt, bool continues, const char **ret_why,
                 enum failure *ret_class) PD_CHECKED;
/* The terminator was read and the body goes on without an end: it is taken as ended. */
void run_end_now(struct run *run);
/* Stops it at once, no more events. The run stays until the end of the turn. */
void run_cancel(struct run *run);
struct run *run_free(struct run *run);
/* What is known of its answer so far. */
static inline const struct answer_facts *run_facts(const struct run *run)
{
    static const struct answer_facts none = {.usage = {-1, -1, -1, -1, -1}};
    return run->answer ? answer_facts(run->answer) : run->facts ? run->facts : &none;
}
/* Labels provider, model for the meter. */
#define RUN_LABELS(run) (run)->target->provider, (run)->target->model

/* ---- reply.c: the client's side ---- */
/* The head of a streamed reply; `run` NULL: before anyone answers. False: the client's side failed, the call is to end. */
bool reply_head_begin(struct relay *r, struct run *run);
/* The first output of `run`: begins the reply, if it has not begun, with what was held. False: as above. */
bool reply_commit(struct relay *r, struct run *run);
/* When a client that hears nothing is told that it is still being worked for; CLOCK_NEVER: its format has no way. */
uint64_t reply_keepalive_at(const struct relay *r);
void reply_keepalive(struct relay *r);
/* One event for the client as it is. */
bool reply_show(struct relay *r, struct span raw);
bool reply_ends_event(struct span raw); /* a blank line stands at its end */
/* A collected or whole answer, at once. */
bool reply_answer(struct relay *r, struct run *run);
void reply_finish(struct relay *r, struct run *run);
/* How many tokens the request has, by our own estimate. False: nothing was replied. */
bool reply_estimate(struct relay *r);
void reply_fail(struct relay *r, int attempt, enum failure f, uint64_t retry_after_ms);
void reply_break(struct relay *r, enum failure f, const char *why);

/* ---- record.c ---- */
void record_call(struct relay *r);
void record_step(struct relay *r); /* after each decision of the call */
/* When the journal is to know what the call has used so far; CLOCK_NEVER: it is not. */
uint64_t record_due(const struct relay *r);
void record_running(struct relay *r);
void log_attempt_end(struct relay *r, const struct run *run, const struct verdict *v, const char *how);

#endif
