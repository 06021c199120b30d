/* value_priv.h - small values that several formats spell alike: read from a request's JSON, and their words.
 *
 * Spans point into the source. */
#ifndef PERDURE_DIALECT_VALUE_PRIV_H
#define PERDURE_DIALECT_VALUE_PRIV_H

#include "dialect/msg.h"
#include "parse/json.h"

bool value_is_nothing(struct json v); /* absent or null */
bool value_has_items(struct json v);  /* an array with an item, an object with a member */
int value_tristate(struct json v);    /* -1: neither true nor false */
/* A number as it is spelled; empty when it is none. */
struct span value_number(struct json v);

/* Each item of "messages", in order. What `take` returned; PD_INVALID with a sentence when these are no list. */
typedef pd_err value_message_fn(void *ctx, struct json message);
pd_err value_messages(struct json list, value_message_fn *take, void *ctx, const char **ret_why) PD_CHECKED;

/* By a media type ("image/png"); what is none of the others is a document. */
enum msg_media value_media(struct span media_type);
/* "data:image/png;base64,..." into media_type and data, anything else into url. */
void value_take_url(struct msg_part *part, struct span url);
/* A call's arguments: a string of JSON text ("" is {}), or an object. Text that is no JSON object stays in part->text. PD_NOMEM. */
pd_err value_take_arguments(struct json v, struct arena *a, struct msg_part *part) PD_CHECKED;

/* A format's words for the end of an answer; one that is in no row is MSG_FINISH_OTHER. */
struct value_finish {
    const char *word;
    enum msg_finish finish;
};
enum msg_finish value_finish(const struct value_finish *rows, size_t count, struct json word);

/* OpenAI's words, "none" to "xhigh"; "max" is read too. */
enum msg_effort value_effort(struct json v);
const char *value_effort_word(enum msg_effort e); /* NULL when not said */

#endif
