/* ledger_view.h - the ledger as people read it in a terminal: a table of sessions, and the calls of one with a bar for each.
 *
 * Takes what /api/sessions and /api/sessions/ID answer. Members that are missing count as 0: another version may have written it. */
#ifndef PERDURE_RELAY_LEDGER_VIEW_H
#define PERDURE_RELAY_LEDGER_VIEW_H

#include "base/buf.h"

struct ledger_look {
    bool utf8;       /* else plain ASCII */
    bool colour;     /* a terminal that has it */
    uint64_t now_ms; /* wall clock: how long ago things were */
    unsigned width;  /* of the terminal, in cells; 0: lines may be of any length */
};

/* PD_INVALID: this is no such document, and nothing was put; PD_NOMEM. Nothing that a name holds can move the terminal's cursor. */
pd_err ledger_view_list(struct span answer, const struct ledger_look *look, struct buf *out) PD_CHECKED;
pd_err ledger_view_session(struct span answer, const struct ledger_look *look, struct buf *out) PD_CHECKED;

#endif
