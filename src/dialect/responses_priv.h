/* responses_priv.h - what the files of the OpenAI Responses format share. */
#ifndef PERDURE_DIALECT_RESPONSES_PRIV_H
#define PERDURE_DIALECT_RESPONSES_PRIV_H

#include "dialect/encoder_priv.h"
#include "dialect/reader_priv.h"

extern const struct reader_ops responses_reader;
extern const struct collector_ops responses_collector;
extern const struct encoder_ops responses_encoder;

pd_err responses_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret) PD_CHECKED;
pd_err responses_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                               const char **ret_why) PD_CHECKED;
pd_err responses_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                               struct buf *out) PD_CHECKED;

/* Tools in a namespace ("type": "namespace") are called by a name and a namespace. Elsewhere there is one name: both, joined.
 * From the arena, escaped, at most TOOL_NAME_MAX bytes; p NULL: out of memory. */
enum { TOOL_NAME_MAX = 64 };
struct span responses_joined_name(struct arena *a, struct span space, struct span name) PD_CHECKED;
/* The tool that is called so, NULL: none. */
const struct msg_tool *responses_tool(const struct msg_request *m, struct span name);

/* Reasoning that perdure showed in place of a foreign maker's: its item's id begins with this. */
/* What stands in the neutral form between two paragraphs of reasoning: an empty line. */
#define RESPONSES_BREAK "\\n\\n"
#define RESPONSES_FOREIGN "rs_" ENCODER_FOREIGN

/* What an output item is, and where its pieces stand. */
enum item_kind {
    ITEM_OTHER, /* of a hosted tool: for clients of this format only */
    ITEM_MESSAGE,
    ITEM_REASONING,
    ITEM_FUNCTION,
    ITEM_CUSTOM,
    ITEM_IMAGE
};
enum item_kind responses_item_kind(struct json type);

#endif
