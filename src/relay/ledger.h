/* ledger.h - the ended calls of each session, with every attempt, and what they come to.
 *
 * A call is one line of JSON: "session" and "id", "name" (the client's own for the session), "agent" (who says that it asks; a session has the newest), numbers that are summed (LEDGER_SUMS), "cost_usd" (null: a price
 * is not known), "estimated", and "attempts" with their "class". The totals of a session count all its calls; of the lines the newest LEDGER_CALLS are
 * kept, of sessions the LEDGER_SESSIONS that were used last. Any thread. */
#ifndef PERDURE_RELAY_LEDGER_H
#define PERDURE_RELAY_LEDGER_H

#include "parse/put.h"
#include "provider/failure.h"

enum { LEDGER_SESSIONS = 512, LEDGER_CALLS = 64, LEDGER_LINE_MAX = 64 * 1024 };

/* Numbers of a call that are summed as they stand. tokens_: what the client was shown; billed_: what all attempts used. */
#define LEDGER_SUMS(X) \
    X(waited_ms)       \
    X(held_ms)         \
    X(breaks)          \
    X(continued)       \
    X(hedges_lost)     \
    X(tool_repairs)    \
    X(tokens_in)       \
    X(tokens_out)      \
    X(billed_in)       \
    X(billed_out)

enum ledger_sum {
#define X(name) LEDGER_##name,
    LEDGER_SUMS(X)
#undef X
        LEDGER_SUM_COUNT
};
const char *ledger_sum_name(enum ledger_sum s);

/* What of a call's line is added up. Whoever has just written the line knows it and need not have it read again. */
struct ledger_call {
    struct span session, id, name;  /* as they stand in the line, without quotes */
    struct span agent;              /* the same */
    int64_t sums[LEDGER_SUM_COUNT]; /* -1: not known */
    int64_t ended_ms, cost_pico;    /* cost -1: not known */
    bool estimated;
    unsigned attempts, failed, failures[FAILURE_COUNT];
};

struct ledger;
struct ledger *ledger_new(void) PD_CHECKED;
struct ledger *ledger_free(struct ledger *l); /* NULL is fine; returns NULL */
/* Adds a call, or nothing at all. The line is copied. PD_INVALID: no such line; PD_EXISTS: the session has a call of this id; PD_TOOBIG; PD_NOMEM. */
pd_err ledger_add(struct ledger *l, struct span line) PD_CHECKED;
/* The same, with what the line says. */
pd_err ledger_book(struct ledger *l, const struct ledger_call *call, struct span line) PD_CHECKED;
/* {"sessions": [...]}, the one used last first, at most `limit`. */
void ledger_list(struct ledger *l, unsigned limit, struct put *p);
/* A session's totals and calls, in order of time. False: it is not known, and nothing was put. */
bool ledger_show(struct ledger *l, struct span id, struct put *p);

/* ---- across a restart ---- */
/* Every session as ledger_show() puts it, the one used last at the end. Stops at the first failure: PD_NOMEM, or what `fn` returns. */
typedef pd_err ledger_fn(void *ctx, struct span session);
pd_err ledger_save(struct ledger *l, ledger_fn *fn, void *ctx) PD_CHECKED;
/* One of these: what was known of that session before is forgotten, since it is in it. All or nothing. PD_INVALID, PD_NOMEM. */
pd_err ledger_load(struct ledger *l, struct span session) PD_CHECKED;
/* Whether anything is known of the session that one of these is about. */
bool ledger_has(struct ledger *l, struct span session);

/* Picodollars as a number of dollars; less than 0: null. */
void ledger_put_usd(struct put *p, int64_t pico);

#endif
