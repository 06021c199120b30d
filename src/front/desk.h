/* desk.h - requests that wait for the database, or for work.
 *
 * A request becomes a visit: its body is copied, a job does it on the database's thread, and the answer is given on the worker's own loop. A client that leaves
 * meanwhile changes nothing: the job is done, and nobody is told.
 *
 * A claim that finds nothing waits here; readers that follow a run's events too. Nobody of them asks the database by itself: when something
 * changes (desk_changed(), from any worker) or a second has passed, one claim is tried for all that want the same, and each that finds a task
 * wakes two more. The first worker's desk sweeps.
 *
 * One desk for each worker, made by app/. */
#ifndef PERDURE_FRONT_DESK_H
#define PERDURE_FRONT_DESK_H

#include "base/arena.h"
#include "front/front.h"
#include "parse/json.h"
#include "store/db.h"
#include "task/runs.h"

enum {
    DESK_TICK_MS = 1000,      /* looks for what others changed, sweeps */
    DESK_FIRST_MS = 100,      /* until the database is there and was swept once */
    DESK_FOLLOW_MS = 200,     /* a follower is not told more often */
    DESK_WAIT_MAX_MS = 60000, /* of a claim */
    DESK_WAITING_MAX = 10000, /* claims and followers that wait on one worker */
    DESK_FOLLOW_HIGH = 256 * 1024,
};

struct desk *desk_new(struct worker *w) PD_CHECKED;
/* No job is under way any more. NULL is fine; returns NULL. */
struct desk *desk_free(struct desk *d);
unsigned desk_parked(const struct desk *d); /* visits that wait; NULL is fine */
/* Something may be ready, or is to be told: every worker looks soon. Any thread. */
void desk_changed(struct gateway *g);

struct visit;
/* On a thread of the database's: what it runs for, in this visit alone. */
typedef pd_err visit_work(struct tx *t, struct visit *a);
/* On the loop. Answers, or puts it to wait (desk_wait()); e: of the work. */
typedef void visit_answer(struct visit *a, pd_err e);

struct visit {
    struct list node; /* while it waits: in desk->waiting or ->following */
    struct worker *worker;
    struct desk *desk;
    struct request *rq; /* NULL: its client has gone */
    struct db_job job;
    visit_work *work;
    visit_answer *answer;
    void (*drop)(struct visit *a); /* what it has beside its arena; NULL: nothing */
    struct arena arena;            /* everything that it carries */
    struct span body;
    struct json doc; /* of a body that is a JSON object */
    struct buf out;
    uint64_t now_ms; /* wall clock */
    bool reads;      /* and writes nothing */
    bool changes;    /* when it is done, others are told */
    bool trying;     /* it waits, and is looked for now */
    bool under_way;  /* in the database */
    /* of all kinds of visit, what each needs */
    const char *run, *task;
    struct span text; /* of an error, a key, a name */
    struct held_task held;
    struct claim_wish wish;
    struct claimed claimed;
    struct timer timer; /* of a wait */
    uint64_t until_ms, wait_ms, told_ms, round;
    struct step step;
    enum step_found found;
    struct task_end end;
    enum task_state state;
    struct review review;
    enum run_wish run_wish;
    enum run_state run_state;
    struct events_wish events;
    int64_t last;
    struct beat_answer beat;
    unsigned limit;
    bool flag, over, begun, paused;
    char id[RUN_ID_BYTES];
    char why[PLAN_WHY_BYTES];
    pd_err err;
};

/* The body is copied; nothing is asked yet. NULL: it was answered (there is no database, no memory). */
struct visit *visit_new(struct worker *w, struct request *rq, visit_work *work, visit_answer *answer) PD_CHECKED;
/* The same of a body that must be a JSON object, of UTF-8. */
struct visit *visit_new_json(struct worker *w, struct request *rq, visit_work *work,
                             visit_answer *answer) PD_CHECKED;
/* Gives it to the database. Answered here when that cannot be. */
void visit_start(struct visit *a);
struct visit *visit_free(struct visit *a);
/* Each ends the visit. */
void visit_json(struct visit *a, int status, struct span json); /* a copy is not needed after it */
void visit_refuse(struct visit *a, int status, const char *code, const char *message);
/* As the table of docs/runs-api.md says. `exists`: what PD_EXISTS is here: "fenced" or "conflict". */
void visit_error(struct visit *a, pd_err e, const char *exists);
/* Until the next look or its timer. */
void desk_wait(struct visit *a);
/* Of a claim, before its answer: it may have been tried for all that wait. */
void desk_tried(struct visit *a, pd_err e);
void desk_follow(struct visit *a);

/* Members of the body. False: it was refused, and the visit is gone. */
bool visit_text(struct visit *a, const char *name, size_t most, bool needed,
                const char **ret); /* NULL: not there */
bool visit_count(struct visit *a, const char *name, uint64_t most, bool needed,
                 uint64_t *ret); /* unchanged: not there */
/* "name=value" of the query; SPAN_NONE: not there. */
struct span desk_query(struct span query, const char *name);

#endif
