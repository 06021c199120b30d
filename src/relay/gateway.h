/* gateway.h - what the workers share, and what each has for itself.
 *
 * A worker is one thread: one loop, its own server, upstream client, meter and
 * routing snapshot. A call never leaves its worker. The fleet (targets with their
 * numbers), the model lists and the list of calls are shared: they are touched
 * under fleet_lock(), never across I/O. */
#ifndef PERDURE_RELAY_GATEWAY_H
#define PERDURE_RELAY_GATEWAY_H

#include "base/list.h"
#include "conf/conf.h"
#include "dialect/shown.h"
#include "loop/loop.h"
#include "meter/meter.h"
#include "net/client.h"
#include "net/server.h"
#include "relay/catalog.h"
#include "route/fleet.h"

#include <pthread.h>
#include <stdatomic.h>

struct checkpoints;
struct codec;
struct db;
struct db_queue;
struct desk;
struct follows;
struct journal;
struct keep;
struct ledger;
struct kept_table;
struct routing;
struct turns;
struct wakes;
struct call_record;

enum { RECENT_CALLS = 256 };

/* A loaded config and who uses it. */
struct conf_ref {
    _Atomic unsigned refs;
    struct conf *conf;
};
struct conf_ref *conf_ref_new(struct conf *c) PD_CHECKED; /* takes the config over on success */
struct conf_ref *conf_ref_take(struct conf_ref *r);
struct conf_ref *conf_ref_drop(struct conf_ref *r); /* NULL is fine; returns NULL */

struct gateway {
    struct fleet *fleet;
    struct catalog catalog; /* under the fleet's lock */
    const struct codec *spoken
        [FLEET_TARGETS_MAX]; /* by target id: what it was last asked, so what it can be probed with; NULL: chat */
    struct keep *keep;       /* what makers want back with tool calls; under keep_lock */
    pthread_mutex_t keep_lock;
    struct journal
        *journal; /* what must outlive the process (state/journal.h), from any worker; NULL: it is not kept */
    struct kept_table *kept;         /* answers that their clients may come back for; has a lock of its own */
    _Atomic uint64_t resume_keep_ms; /* of the newest configuration */
    struct held *held;               /* calls that an earlier process held; NULL: none are known */
    struct ledger *ledger;           /* the sessions' ended calls; has a lock of its own; NULL: out of memory */
    /* The database, the checkpoints in it and the turns of sessions that are to be: they may come late and go early (app/durable.h), so look
     * each time. NULL: there is none, or not now. */
    _Atomic(struct db *) db;
    _Atomic(struct checkpoints *) checkpoints;
    _Atomic(struct turns *) turns;
    struct list calls;                        /* running struct relay, by `node`; under the fleet's lock */
    struct call_record *recent[RECENT_CALLS]; /* ended calls, a ring; under the fleet's lock */
    unsigned recent_next;
    uint64_t calls_made; /* numbers call ids; under the fleet's lock */
    uint64_t id_seed;
    uint64_t started_wall_ms;
    _Atomic bool draining;
    _Atomic bool
        marked; /* some client has reasoning with our own mark in place of its maker's (encoder.h): it may come back */
    struct worker **workers;
    unsigned workers_count;
};

struct worker {
    struct gateway *gateway;
    struct loop *loop;
    struct client *client;
    struct server *server;
    struct meter *meter;
    struct routing *routing; /* the current snapshot */
    struct wakes *wakes;     /* calls that are told to look again */
    struct follows *follows; /* clients that follow another call's answer */
    struct shown told; /* empty: what all attempts that show what they are told at once have for it (attempt.c) */
    struct prober *prober; /* the first worker's; NULL elsewhere */
    struct desk *desk;     /* requests that wait for the database or for work (front/desk.h) */
    struct db_queue *jobs; /* this loop's door to the database; NULL: there is none, or not now */
    struct db_queue
        *jobs_old;      /* as a successor took the database over: what was under way comes back through it */
    unsigned jobs_left; /* 0: not yet, else at which taking over */
    unsigned index;
};

#endif
