/* ollama_priv.h - what the files of Ollama's own format share: /api/chat and /api/generate.
 *
 * Fields: docs.ollama.com/api. */
#ifndef PERDURE_DIALECT_OLLAMA_PRIV_H
#define PERDURE_DIALECT_OLLAMA_PRIV_H

#include "dialect/encoder_priv.h"
#include "dialect/reader_priv.h"

pd_err ollama_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret) PD_CHECKED;
pd_err ollama_parse_chat(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                         const char **ret_why) PD_CHECKED;
pd_err ollama_parse_generate(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                             const char **ret_why) PD_CHECKED;
pd_err ollama_write_chat(const struct msg_request *m, const struct write_want *want, struct arena *a,
                         struct buf *out) PD_CHECKED;

extern const struct reader_ops ollama_reader;
extern const struct collector_ops ollama_collector;
extern const struct encoder_ops ollama_chat_encoder, ollama_generate_encoder;

/* Errors, of the embeddings too. */
const char *ollama_error_type(int status);
pd_err ollama_put_error(const struct client_error *e, struct buf *out) PD_CHECKED;
pd_err ollama_put_error_event(const struct client_error *e, struct buf *out) PD_CHECKED;

#endif
