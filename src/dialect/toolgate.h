/* toolgate.h - the tool calls of one answer, held until they are known to be whole.
 *
 * A client acts on a tool call: half a call, arguments that are no JSON, or arguments that the
 * tool's schema does not allow end its run. So from the first call on nothing of an answer is
 * shown before its end, and then either all of it or nothing: the gate keeps the calls as
 * they come and judges them together.
 *
 *   gate = toolgate_new(TOOLGATE_BYTES_MAX)
 *   answer_on_delta(reader, ..)      -> toolgate_delta(gate, d)   of every delta
 *   toolgate_any(gate)               -> from here on the client's bytes are held
 *   the answer is complete           -> toolgate_judge(gate, tools, ..)
 *   another attempt                  -> toolgate_reset(gate)
 *
 * Pure. */
#ifndef PERDURE_DIALECT_TOOLGATE_H
#define PERDURE_DIALECT_TOOLGATE_H

#include "dialect/msg.h"

enum { TOOLGATE_BYTES_MAX = 16 << 20 }; /* all calls of an answer together */

/* How the calls of an answer are.
 * An unlisted tool's call only has to be JSON (the client answers for it); a tool that takes free text, anything. */
#define TOOLGATE_VERDICTS(X)                                                          \
    X(TOOLGATE_WHOLE, "whole", "there are none, or all are JSON and fit their tools") \
    X(TOOLGATE_BROKEN, "broken", "one is cut off, or is no JSON object")              \
    X(TOOLGATE_MISFIT, "misfit", "one does not fit its tool's schema")

enum toolgate_verdict {
#define X(code, name, what) code,
    TOOLGATE_VERDICTS(X)
#undef X
        TOOLGATE_VERDICT_COUNT
};
const char *toolgate_verdict_name(enum toolgate_verdict v);

struct toolgate;
struct toolgate *toolgate_new(size_t limit_bytes) PD_CHECKED; /* NULL: out of memory */
struct toolgate *toolgate_free(struct toolgate *g);
/* An msg_delta_fn: ctx is the gate. Takes TOOL_START and TOOL_ARGUMENTS, ignores the rest; copies. What goes wrong (PD_NOMEM, PD_TOOBIG) is kept
 * for toolgate_judge(), and nothing more is taken then. */
void toolgate_delta(void *gate, const struct msg_delta *d);
bool toolgate_any(const struct toolgate *g); /* a call was begun */
void toolgate_reset(struct toolgate *g);     /* for another attempt; the memory stays */
unsigned toolgate_count(const struct toolgate *g);
pd_err toolgate_error(const struct toolgate *g); /* what went wrong so far, PD_OK: nothing */

/* One of them, in the order in which they began, for logs; false: there are not that many. Spans live until the next delta. */
struct toolgate_call {
    int choice, tool;
    struct span name, id;   /* escaped */
    size_t arguments_bytes; /* escaped */
    bool legacy_function;
};
bool toolgate_call(const struct toolgate *g, unsigned i, struct toolgate_call *ret);

/* `tools`: what the request offers, as the client wrote it (codec->parse_tools) or as it was written for the provider; a call is found by
 * either of a tool's names. NULL: nothing is known, so only JSON is looked for. `why` (may be NULL) gets a sentence about the first that
 * is not whole, with a NUL, cut to fit; it holds names of members and the beginnings of values: for the log of an operator who asks for them,
 * not for others. PD_NOMEM, PD_TOOBIG. */
pd_err toolgate_judge(struct toolgate *g, const struct msg_request *tools, enum toolgate_verdict *ret, char *why,
                      size_t why_bytes) PD_CHECKED;

#endif
