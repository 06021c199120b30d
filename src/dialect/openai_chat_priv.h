/* openai_chat_priv.h - what the files of the chat format share. */
#ifndef PERDURE_DIALECT_OPENAI_CHAT_PRIV_H
#define PERDURE_DIALECT_OPENAI_CHAT_PRIV_H

#include "dialect/encoder_priv.h"
#include "dialect/reader_priv.h"

extern const struct reader_ops chat_reader;
extern const struct collector_ops chat_collector;
extern const struct encoder_ops chat_encoder;

pd_err chat_read_request(struct span body, const struct request_line *line, struct arena *a,
                         struct request_facts *ret, const char **ret_why) PD_CHECKED;
/* What every chunk and the whole answer begin with. */
/* The role was shown. */
void chat_resumed(struct encoder *en);
void chat_put_head(struct put *p, struct encoder *en, const char *object);
const char *chat_finish_of(const struct encoder *en, const struct answer_facts *f, int choice);

pd_err chat_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret) PD_CHECKED;
pd_err chat_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                          const char **ret_why) PD_CHECKED;
pd_err chat_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                          struct buf *out) PD_CHECKED;

/* Errors in OpenAI's shape, for all of its formats. */
pd_err openai_put_error(const struct client_error *e, struct buf *out) PD_CHECKED;
pd_err openai_put_error_event(const struct client_error *e, struct buf *out) PD_CHECKED;
const char *openai_error_type(int status);

void openai_put_usage(struct put *p, const struct msg_usage *u);
enum msg_finish finish_of_word(struct json word);
/* False when it reports no number at all. */
bool usage_read(struct json usage, struct msg_usage *ret);

#endif
