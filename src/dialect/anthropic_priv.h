/* anthropic_priv.h - what the files of the Anthropic Messages format share. */
#ifndef PERDURE_DIALECT_ANTHROPIC_PRIV_H
#define PERDURE_DIALECT_ANTHROPIC_PRIV_H

#include "dialect/encoder_priv.h"
#include "dialect/reader_priv.h"

/* Begins a text in which Claude Code tells Anthropic its version; it changes from call to call. */
#define ANTHROPIC_BILLING "x-anthropic-billing-header:"

/* What asks a generation without `formats` for an answer that fits the schema: the inside of a JSON string, for its instructions. */
void anthropic_put_schema_instruction(struct put *p, struct span schema);

extern const struct reader_ops anthropic_reader;
extern const struct collector_ops anthropic_collector;
extern const struct encoder_ops anthropic_encoder;

/* What a message says first of all, in one walk: its content may be the whole of a large request. */
void anthropic_message(struct json message, struct json *ret_role, struct json *ret_content);
pd_err anthropic_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret) PD_CHECKED;
pd_err anthropic_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                               const char **ret_why) PD_CHECKED;
pd_err anthropic_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                               struct buf *out) PD_CHECKED;
/* The body of count_tokens: the same without what concerns the answer alone. */
pd_err anthropic_write_count(const struct msg_request *m, const struct write_want *want, struct arena *a,
                             struct buf *out) PD_CHECKED;

/* False when it reports no number at all. Input is counted as msg_usage has it: what came from a cache or went into it
 * is added, which this format does not do. */
bool anthropic_usage(struct json usage, struct msg_usage *ret);

/* The event's type. It stands in the object; servers that forget it there have it in the framing. */
enum { ANTHROPIC_TYPE_ROOM = 64 };
struct json anthropic_type(struct span type, struct json obj, char room[ANTHROPIC_TYPE_ROOM]);

#endif
