/* fleet_priv.h - what the files of this room share. */
#ifndef PERDURE_ROUTE_FLEET_PRIV_H
#define PERDURE_ROUTE_FLEET_PRIV_H

#include "route/fleet.h"

#include <pthread.h>

/* ---- affinity.c: session -> target. A set of a few neighbouring slots may hold a session, so that there is nothing to rehash and
 * nothing to tidy: what is out of date is overwritten. Untouched pages of the table cost no memory. */
enum { AFFINITY_NEIGHBOURS = 8, AFFINITY_STRETCH = 64 };
struct affinity_slot {
    uint64_t session; /* 0: never used */
    uint64_t until_ms;
    uint64_t target; /* id */
};
struct affinity {
    struct affinity_slot *slots; /* FLEET_SESSIONS_MAX */
    bool used[FLEET_SESSIONS_MAX /
              AFFINITY_STRETCH]; /* a slot of this stretch ever was: who reads all skips the others */
};
pd_err affinity_init(struct affinity *a) PD_CHECKED;
void affinity_done(struct affinity *a);
/* The id of the session's target; -1: none. */
int affinity_get(const struct affinity *a, uint64_t session, uint64_t now);
void affinity_set(struct affinity *a, uint64_t session, unsigned target, uint64_t keep_ms, uint64_t now);

/* ---- budget.c */
void budget_init(struct budget *b);

/* ---- queue.c: a key, or a session of one */
struct flow {
    struct list turn;     /* among its kind; the first has its turn next */
    struct list children; /* of a key its sessions, of a session its tickets */
    struct flow *parent;  /* NULL: a key */
    struct flow *next;    /* in its bucket */
    uint64_t id;
    uint64_t since_ms; /* when it came to the end of the line */
    uint64_t mask;     /* bit per target id modulo 64 that someone in it may wait for; may hold too many */
    bool shared;       /* used when there was no memory for another */
};
enum { QUEUE_BUCKETS = 1024 };
struct waiters {
    struct list keys;
    struct flow *buckets[QUEUE_BUCKETS];
    struct flow shared_key, shared_session;
    unsigned count; /* of tickets */
};
void waiters_init(struct waiters *q);
void waiters_done(struct waiters *q);

/* ---- remember_read.c: lines of what was learned of targets that are not there (yet), as they were written */
enum { FLEET_UNSEEN_BYTES = 1 << 20 };
#define FLEET_UNSEEN_MS (7ull * 24 * 3600 * 1000) /* they are written again for so long */
struct unseen {
    char *text;
    size_t bytes, capacity;
    unsigned lines;           /* about targets */
    uint64_t now_ms, wall_ms; /* when they were read */
};
void unseen_done(struct unseen *u);
/* The target is new: what there is of it is taken. */
void unseen_find(struct fleet *f, struct target *t);

/* ---- fleet.c */
enum { FLEET_BUCKETS = 256 };
struct target_node {
    struct target target;
    struct target_node *next; /* in its bucket */
};
struct fleet {
    pthread_mutex_t mutex;
    struct rnd rnd;
    struct target_node *buckets[FLEET_BUCKETS];
    struct target **targets; /* by id */
    unsigned count, capacity;
    struct affinity affinity;
    struct budget retries, hedges;
    struct waiters queue;
    struct unseen unseen;
    struct fleet_watch watch;
    void *watch_ctx;
};

/* ---- target.c: the breaker is only moved through these two, so that nobody misses a change */
void target_tick(struct target *t, uint64_t now);
void target_breaker_probed(struct target *t, bool passed, uint64_t now);
void target_rest(struct target *t, const struct verdict *v, uint64_t now);
void target_park(struct target *t, enum failure why, const struct verdict *v, uint64_t now);
void target_unpark(struct target *t, uint64_t now);
/* The next early probe comes a while from now, as it does after one that was made. */
void target_early_later(struct target *t, uint64_t now);
/* It has named a time, and is not probed before. */
void target_early_told(struct target *t, const struct verdict *v, uint64_t now);

#endif
