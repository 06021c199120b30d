/* converse_priv.h - what the files of Bedrock's Converse format share.
 *
 * Shapes: AWS's API model of bedrock-runtime, 2023-09-30 (Converse, ConverseStream). */
#ifndef PERDURE_DIALECT_CONVERSE_PRIV_H
#define PERDURE_DIALECT_CONVERSE_PRIV_H

#include "dialect/reader_priv.h"
#include "parse/put.h"

/* ---- media ---- */

/* A format's word as Converse has it ("jpeg", "pdf") and its media type. */
struct converse_format {
    enum msg_media media;
    const char *word, *type;
};
/* By Converse's own word; NULL when it is unknown. */
const struct converse_format *converse_format_by_word(enum msg_media media, struct span word);
/* The word for a media type (parameters behind a ';' do not matter); NULL when Converse has none. */
const struct converse_format *converse_format_by_type(enum msg_media media, struct span type);

/* ---- requests ---- */
pd_err converse_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret) PD_CHECKED;
pd_err converse_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                              const char **ret_why);
pd_err converse_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                              struct buf *out);

/* ---- answers ---- */
struct converse_tool {
    int64_t block; /* its content block's index */
    int number;
};
struct converse_reader {
    struct reader base;
    struct converse_tool *tools;
    unsigned tool_count, tool_room;
    enum msg_finish word;                       /* what the stop reason says, before the content is looked at */
    const struct converse_format *image_format; /* of the image block that is open; NULL: unknown */
    struct buf sealed;
};
void converse_reader_done(struct converse_reader *r);
/* One event by its type; types that are unknown do nothing. */
pd_err converse_read_event(struct converse_reader *r, struct span type, struct json obj, unsigned *holds);
enum answer_end converse_end(const struct reader *r);

/* ---- errors, of all that is Bedrock's ---- */
const char *bedrock_error_type(int status);
pd_err bedrock_put_error(const struct client_error *e, struct buf *out) PD_CHECKED;
pd_err bedrock_put_error_event(const struct client_error *e, struct buf *out) PD_CHECKED;

extern const struct reader_ops converse_reader_ops;
extern const struct collector_ops converse_collector;
extern const struct encoder_ops converse_encoder;

#endif
