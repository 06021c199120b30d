/* ledger.h - the ended calls of each session, with every attempt, and what they come to.
 *
 * A call is one line of JSON with the members "session", "began_ms", "took_ms", "waited_ms", "held_ms", "continued", "tokens_in", "tokens_out" and
 * "attempts". The totals of a session count all its calls; of the lines the newest LEDGER_CALLS are kept, of sessions the LEDGER_SESSIONS that
 * were used last. Any thread. */
#ifndef PERDURE_RELAY_LEDGER_H
#define PERDURE_RELAY_LEDGER_H

#include "parse/put.h"

enum { LEDGER_SESSIONS = 512, LEDGER_CALLS = 64, LEDGER_LINE_MAX = 64 * 1024 };

struct ledger;
struct ledger *ledger_new(void) PD_CHECKED;
struct ledger *ledger_free(struct ledger *l); /* NULL is fine; returns NULL */
/* Adds a call, or nothing at all. The line is copied. PD_INVALID: no such line; PD_TOOBIG; PD_NOMEM. */
pd_err ledger_add(struct ledger *l, struct span line) PD_CHECKED;
/* {"sessions": [...]}, the one used last first. */
void ledger_list(struct ledger *l, struct put *p);
/* A session's totals and calls, in order of time. False: it is not known, and nothing was put. */
bool ledger_show(struct ledger *l, struct span id, struct put *p);

#endif
