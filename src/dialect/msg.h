/* msg.h - the neutral form: what any request and any answer says, whatever its wire format.
 *
 * Kept to what decisions need today: the bytes themselves are relayed, not
 * rebuilt, so a field that is not here is not lost. Text in deltas is still
 * JSON-escaped (`json_inner`), so that it can be spliced without being undone. */
#ifndef PERDURE_DIALECT_MSG_H
#define PERDURE_DIALECT_MSG_H

#include "base/span.h"

/* Tokens as reported; -1: not reported, which is not 0. Input includes what came from a cache, output includes reasoning where the
 * provider counts it so. The last report of a stream holds; reports are never summed. */
struct msg_usage {
    int64_t input_total, cache_read, cache_write, output_total, reasoning;
};
#define MSG_USAGE_NONE ((struct msg_usage){-1, -1, -1, -1, -1})

#define MSG_FINISHES(X)                                                                \
    X(MSG_FINISH_NONE, "none", "not finished")                                         \
    X(MSG_FINISH_STOP, "stop", "the model was done")                                   \
    X(MSG_FINISH_LENGTH, "length", "the token limit was reached")                      \
    X(MSG_FINISH_TOOL_CALLS, "tool_calls", "tools are asked for")                      \
    X(MSG_FINISH_CONTENT_FILTER, "content_filter", "the provider filtered the answer") \
    X(MSG_FINISH_ERROR, "error", "the provider gave up")                               \
    X(MSG_FINISH_OTHER, "other", "a reason that is not in this list")

enum msg_finish {
#define X(code, name, what) code,
    MSG_FINISHES(X)
#undef X
        MSG_FINISH_COUNT
};
const char *msg_finish_name(enum msg_finish f);

/* One piece of an answer. */
enum msg_delta_kind { MSG_TEXT, MSG_REASONING, MSG_REFUSAL, MSG_TOOL_START, MSG_TOOL_ARGUMENTS };
struct msg_delta {
    enum msg_delta_kind kind;
    int choice;           /* of n > 1 */
    int tool;             /* index of the tool call; -1 otherwise */
    struct span text;     /* escaped; of a tool start its name */
    struct span id;       /* escaped; tool start only */
    bool legacy_function; /* a function_call of old, not a tool call */
};
typedef void msg_delta_fn(void *ctx, const struct msg_delta *d);

#endif
