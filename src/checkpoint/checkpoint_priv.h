/* checkpoint_priv.h - what the files of this room share: how a document is written, how a list of contents is named. */
#ifndef PERDURE_CHECKPOINT_CHECKPOINT_PRIV_H
#define PERDURE_CHECKPOINT_CHECKPOINT_PRIV_H

#include "base/arena.h"
#include "base/list.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    NAME_BYTES = 32,
    LINE_BYTES = 17,
    TURN_RESTS_MS =
        2000, /* so long a turn stands in the outbox (uploads.taken_ms: not before) for one that overtakes it */
};

/* ---- document.c: pure ---- */

/* A name as its 32 bytes, as lists of them and the database have it. */
void name_to_bytes(const struct content_name *name, char out[NAME_BYTES]);
void name_from_bytes(const char *bytes, struct content_name *ret);

/* Everything that is to be written of one checkpoint. Its texts are in `arena`. */
struct made {
    struct arena arena;
    struct checkpoint cp; /* a copy */
    char id[CHECKPOINT_ID_BYTES], timestamp[32];
    uint64_t made_ms;
    struct buf document; /* plain */
    struct content_name hash;
    struct buf packed;     /* of the document */
    struct buf names;      /* of the messages, NAME_BYTES each */
    struct packer *packer; /* its maker's, who waits for it to be written; NULL: none */
    /* ---- what its maker remembers of the agent's newest; empty: it is looked up */
    struct span before_id, before_names;
    int64_t before_links;
    /* ---- as it was written */
    int64_t stored_bytes, links;
};
/* Checks every member: PD_INVALID, PD_TOOBIG with `why`. */
pd_err checkpoint_check(const struct checkpoint *cp, char *why, size_t why_bytes) PD_CHECKED;
/* The same without the messages: who has named them has scanned them. */
pd_err checkpoint_check_members(const struct checkpoint *cp, char *why, size_t why_bytes) PD_CHECKED;
/* Gives it a name and writes the document, its hash and its packed form; again is fine, under another name. Messages that are named already (`names`) are
 * not read. */
pd_err made_write(struct made *m) PD_CHECKED;
/* `copy`: of everything that cp points to. */
struct made *made_new(const struct checkpoint *cp, bool copy) PD_CHECKED;
struct made *made_free(struct made *m); /* NULL is fine; returns NULL */

/* The agent of an id: what stands before its last two '_'. Empty: it is none. */
struct span agent_of_id(struct span id);
/* checkpoints/AGENT/ID.json.zst; id NULL: its folder, with the '/'; "latest". False: it is no key. */
bool snapshot_key(struct span agent, const char *id, char out[OBJECT_KEY_MAX + 1]);
bool latest_key(struct span agent, char out[OBJECT_KEY_MAX + 1]);
void blob_key(const struct content_name *name, char out[OBJECT_KEY_MAX + 1]);

/* The snapshot: the document with a seal, its last member, of what proves it: {"sha256": of the document, "line", "seq", "messages": [names]}. */
struct seal {
    struct content_name hash;
    char line[LINE_BYTES];
    int64_t seq;
    uint64_t made_ms;
};
pd_err sealed_write(struct span document, const struct seal *s, struct span names, struct buf *out) PD_CHECKED;
/* Proves it: PD_INVALID. `names` gets NAME_BYTES for each message. */
pd_err sealed_open(struct span snapshot, struct buf *document, struct buf *names, struct seal *ret) PD_CHECKED;
/* Do these names belong to this document? */
bool names_fit(struct span document, struct span names);
/* The document with its messages in it. `contents` are messages_count plain texts. */
pd_err document_whole(struct span document, const struct span *contents, size_t n, struct buf *out) PD_CHECKED;

/* The newest pointer. */
pd_err latest_write(const char *id, const struct seal *s, struct buf *out) PD_CHECKED;
bool latest_open(struct span text, char ret_id[CHECKPOINT_ID_BYTES], struct seal *ret);

/* ---- checkpoint.c ---- */

struct maker; /* one that waits to be made */
struct checkpoints {
    _Atomic unsigned refs; /* the owner, and what was submitted and is not told yet: that may be after its end */
    struct db *db;
    struct objects *objects;
    struct checkpoints_rules rules;
    pthread_mutex_t lock;
    pthread_cond_t work;   /* of the making thread */
    pthread_cond_t behind; /* of the catching-up thread, and of who waits for it */
    pthread_cond_t asked;  /* of the thread that works for loops */
    struct list makers, works;
    uint64_t waiting_bytes;
    bool ending, kick;
    uint64_t came, looked; /* into the outbox; as it was when the catching-up thread looked there */
    struct packer *packer; /* of the catching-up thread */
    bool hurries;          /* somebody waits for the outbox to be empty: nothing rests in it */
    pthread_t making, catching, working;
    bool makes, catches, has_works; /* the last is begun with the first work */
    struct checkpoints_stats stats;
    char trouble[OBJECTS_WHY_BYTES];
    char name[LINE_BYTES]; /* of this process, for the outbox */
};
void checkpoints_count(struct checkpoints *c, const struct made *m, pd_err e);
void checkpoints_kick(struct checkpoints *c); /* there is something to upload */

/* write.c: a job that writes `m`. PD_EXISTS: its id is taken by another. */
pd_err write_job(struct tx *t, struct made *m, bool outbox) PD_CHECKED;
/* The names of a checkpoint's messages, through its parents. */
pd_err names_load(struct tx *t, const char *id, struct buf *ret, int64_t *ret_links) PD_CHECKED;

/* upload.c */
void *upload_thread(void *ctx);

/* refill.c: looks whether the object store still has what it was given; if not, everything goes into the outbox again. */
pd_err refill(struct checkpoints *c) PD_CHECKED;

#endif
