/* checkpoint.h - where an agent was, so that it can go on from there.
 *
 * A checkpoint is the guide's record: agent, task, step, hash of the last good output, memory pointers, open files with cursor
 * positions, time, provider, milestone, token usage, progress, and any JSON state. It is stored twice:
 *
 *   the database     table `checkpoints` (the guide's names), its large parts content-addressed in `blobs`: complete in itself
 *   the object store checkpoints/AGENT/ID.json.zst, the whole of it, and the contents it refers to under blobs/; then
 *                    checkpoints/AGENT/latest, moved with a conditional write, names the newest: complete in itself too
 *
 * checkpoint_create() returns when the database has committed: from then on it is never lost. The object store follows (outbox table
 * `uploads`): it may be down for days, and catches up in order. Either side alone restores.
 *
 * A restore proves every SHA-256. A damaged newest one falls back to the other side's copy of it, then to the one before, and says so.
 *
 * Conversations: a session's checkpoint does not hold its messages but names them, each stored once whatever is repeated from turn to
 * turn; it holds what changed since its parent (so many kept from its start, then these), and every CHECKPOINT_WHOLE_EVERY-th one all names. */
#ifndef PERDURE_CHECKPOINT_CHECKPOINT_H
#define PERDURE_CHECKPOINT_CHECKPOINT_H

#include "store/content.h"
#include "store/db.h"
#include "store/objects.h"

enum {
    CHECKPOINT_ID_BYTES = 200,    /* AGENT_UNIXMS_xxxxxxxx, with a NUL */
    CHECKPOINT_AGENT_BYTES = 129, /* letters, digits, - _ . : with a NUL; does not begin with '.' */
    CHECKPOINT_MESSAGES_MAX = 100000,
    CHECKPOINT_TEXT_MAX = 1000, /* of task, milestone, provider, reason, output_hash */
    CHECKPOINT_WHY_BYTES = 300,
    CHECKPOINT_STATE_MAX = 64 << 20,
    CHECKPOINT_WHOLE_EVERY = 32,
    CHECKPOINT_INLINE_MAX = 4096, /* a document up to here stands in its row, larger ones in `blobs` */
};

/* Spans are raw JSON where they are not said to be text; empty: not given (null). */
struct checkpoint {
    struct span agent;       /* text; $AGENT_ID, else "default-agent" (g) */
    struct span task;        /* text: run/task, or whatever the agent calls it */
    int64_t step_index;      /* -1: not given */
    struct span output_hash; /* text: SHA-256 of the last good output */
    struct span memory;      /* pointers: an array of ids, not texts */
    struct span open_files;  /* [{"path": ..., "cursor": ...}] */
    struct span provider;    /* text: the one used */
    struct span milestone;   /* text */
    struct span token_usage, progress, state;
    struct span reason; /* text: step | interval | milestone | before_risky | after_risky | turn | manual */
    struct span parent; /* text: the id of the checkpoint it follows; empty: the agent's newest is found */
    /* of a conversation: messages as raw JSON, the whole conversation each time; what is stored already is not stored again */
    const struct span *messages;
    size_t messages_count;
    /* of a session's turn (turns.h): the first of the messages is the request without them, the last is the answer when there is one */
    struct span conversation;
};
/* A session's checkpoints are those of this agent and its id: "session:s-0123...". They are kept for checkpoints_rules.keep_ms and then go, all of
 * them; an agent's newest never goes. */
#define CHECKPOINT_SESSION "session:"
/* Is it an agent's name? */
bool checkpoint_agent_fine(struct span agent);

struct checkpoints;
struct checkpoints_rules {
    unsigned keep_last;      /* of each agent, at least; default 50 */
    uint64_t keep_ms;        /* younger ones are kept whatever their number; default 7 days */
    bool keep_milestones;    /* those with a milestone are kept; default true */
    uint64_t waiting_bytes;  /* of checkpoints that wait to be made, over it PD_TOOBIG; default 64 MB */
    uint64_t ahead_ms;       /* tests: so much later is the time that pruning goes by */
    uint64_t prune_every_ms; /* by the catching-up thread; 0: never, default 1 h */
};
void checkpoints_rules_default(struct checkpoints_rules *r);

/* `db` or `objects` may be NULL when only the other side is left (a restore). Starts the thread that makes checkpoints and the one that catches up. Both
 * outlive it. PD_NOMEM. */
pd_err checkpoints_open(struct db *db, struct objects *objects, const struct checkpoints_rules *r,
                        struct checkpoints **ret) PD_CHECKED;
/* What is kept, and how much may wait, from now on; the rest of the rules stays. Any thread. */
void checkpoints_set_rules(struct checkpoints *c, const struct checkpoints_rules *r);
/* What was submitted is given to the database, and told when db_close() has ended; what is not uploaded stays in the outbox. NULL is fine; returns NULL. */
struct checkpoints *checkpoints_close(struct checkpoints *c);

/* Blocks until the database has committed: for threads that may. *ret_id gets its name. PD_INVALID: `why` says which member; PD_NOSPACE, PD_IO, PD_TOOBIG. */
pd_err checkpoint_create(struct checkpoints *c, const struct checkpoint *cp, char ret_id[CHECKPOINT_ID_BYTES],
                         char *why, size_t why_bytes) PD_CHECKED;
/* The same without waiting: copies cp (one copy), checks and packs it on a thread of its own; `done` comes on the loop of `q`. PD_TOOBIG: too much waits;
 * PD_NOMEM. Then `done` is not called. */
typedef void checkpoint_done_fn(void *ctx, pd_err e, const char *id, const char *why);
pd_err checkpoint_submit(struct checkpoints *c, struct db_queue *q, const struct checkpoint *cp,
                         checkpoint_done_fn *done, void *ctx) PD_CHECKED;

/* The whole document as JSON ({"agent_id": ..., "checkpoint_id": ..., "timestamp": ..., ..., "state": ..., "messages": [...]}), proven. `id` NULL: the agent's newest
 * that can be restored. `note` gets what had to be passed over or taken from the other side, a sentence each; empty: nothing. Blocks. PD_NOTFOUND. */
pd_err checkpoint_restore(struct checkpoints *c, struct span agent, const char *id, struct buf *out,
                          struct buf *note) PD_CHECKED;
/* A text for an agent that is to go on from this document: what it was at, what is done, what is open. Pure. */
pd_err checkpoint_resume_text(struct span document, struct buf *out) PD_CHECKED;
/* What differs between two documents, in lines for a person ("+ state.files[2]: ..."); nothing: an empty text. Pure. */
pd_err checkpoint_diff(struct span older, struct span newer, struct buf *out) PD_CHECKED;

struct checkpoint_summary {
    struct span agent, id, timestamp, milestone, task, reason, provider;
    int64_t step_index, bytes, stored_bytes, messages; /* step_index -1: none */
    bool uploaded;
};
typedef pd_err checkpoint_summary_fn(void *ctx, const struct checkpoint_summary *s);
/* Newest first. agent empty: of all. Blocks; or within a job of one's own. */
pd_err checkpoints_list_job(struct tx *t, struct span agent, unsigned limit, checkpoint_summary_fn *fn,
                            void *ctx) PD_CHECKED;
pd_err checkpoints_list(struct checkpoints *c, struct span agent, unsigned limit, checkpoint_summary_fn *fn,
                        void *ctx) PD_CHECKED;
struct checkpoints_pruned {
    uint64_t checkpoints, blobs, bytes, objects;
};
/* By the rules; never the newest of an agent, never a parent that one that stays needs. What is deleted leaves the object store by the outbox. `dry`: only
 * counts. Blocks. */
pd_err checkpoints_prune(struct checkpoints *c, bool dry, struct checkpoints_pruned *ret) PD_CHECKED;

/* Work that may wait for either side, for who sits on a loop: `work` runs on a thread of the checkpoints' own, one after another, then `done` on the loop
 * of `q`. Also when they are being closed: the object store answers nothing any more then. PD_NOMEM, PD_CLOSED: neither runs. */
pd_err checkpoints_work(struct checkpoints *c, struct db_queue *q, void (*work)(struct checkpoints *c, void *ctx),
                        void (*done)(void *ctx), void *ctx) PD_CHECKED;

struct checkpoints_stats {
    uint64_t created, failed, uploads_waiting, uploaded, upload_failures;
    uint64_t stored_bytes; /* compressed, of documents and contents that were new */
    uint64_t last_ms;      /* wall; 0: none */
    bool objects;          /* there is an object store */
};
/* Waits until the outbox is empty or the time is over: true when it is. For programs that end, and for tests. */
bool checkpoints_settle(struct checkpoints *c, uint64_t limit_ms);
/* The sentence of the newest trouble with the object store; empty: none since the last success. */
void checkpoints_trouble(struct checkpoints *c, char *out, size_t out_bytes);
void checkpoints_stats(struct checkpoints *c, struct checkpoints_stats *ret);

#endif
