/* encoder.h - an answer in the client's format, written from the deltas of a reader of another.
 *
 * Streamed: each delta becomes bytes at once, in encoder_bytes(). Whole: everything is
 * gathered and encoder_whole() writes the body. Blocks of one kind follow each other; a
 * tool call's arguments stream while it is the oldest unfinished one, those of later ones
 * wait, since formats with blocks allow one open block at a time.
 *
 * What has no place in the client's format is counted by name (encoder_dropped): nothing
 * vanishes silently (carry.h has the table).
 *
 * Reasoning of a foreign maker is shown in the client's way and marked with
 * ENCODER_FOREIGN where the format wants a signature or an id, so that it can be
 * recognised and taken out when the conversation goes to a provider of that format
 * (request_edit.strip_foreign). Signatures themselves are kept aside (keep.h). */
#ifndef PERDURE_DIALECT_ENCODER_H
#define PERDURE_DIALECT_ENCODER_H

#include "dialect/codec.h"

#define ENCODER_FOREIGN \
    "perdure" /* beginning of signatures ("perdure-foreign") and of item ids ("rs_perdure...") that we made up */

enum { ENCODER_BLOCKS_MAX = 8192 }; /* of one answer: texts, reasonings and calls in turn; more is PD_TOOBIG */

struct encode_want {
    struct span model; /* text: the model's name for the client */
    struct span id;    /* text: letters, digits, '-': ids are made from it */
    int64_t created;   /* Unix seconds */
    bool stream;
    bool include_usage;              /* OpenAI chat: an extra chunk with usage */
    bool array;                      /* Gemini: one JSON array in place of SSE */
    const struct msg_request *asked; /* may be NULL; must outlive the encoder: Responses repeats what was asked */
};

struct encoder;
/* PD_NOMEM as NULL. `limit_bytes`: of all that is gathered. */
struct encoder *encoder_new(const struct codec *to, const struct encode_want *want, size_t limit_bytes) PD_CHECKED;
struct encoder *encoder_free(struct encoder *en);
/* A msg_delta_fn; ctx is the encoder. A failure is kept and returned by the calls below. */
void encoder_delta(void *en, const struct msg_delta *d);
/* What was written since encoder_clear(): ready for the client. PD_NOMEM, PD_TOOBIG. */
pd_err encoder_bytes(const struct encoder *en, struct span *ret) PD_CHECKED;
void encoder_clear(struct encoder *en);
/* The answer is complete: closes what is open, then finish, usage and the format's terminator. */
pd_err encoder_end(struct encoder *en, const struct answer_facts *f) PD_CHECKED;
/* The whole answer as one body (want.stream false). */
pd_err encoder_whole(struct encoder *en, const struct answer_facts *f, struct buf *out) PD_CHECKED;
/* Before anything was told: the client has seen `s` already, as it came from a provider of its own format. The encoder takes that over - blocks with
 * their numbers and ids, the answer's id, model and time, the count of events - and goes on behind it without writing a byte of it again. The text
 * block told last stays open, reasoning too until another block comes. Names come from shown_identity(), the count of events from s->sequence
 * (answer_facts.sequence); the blocks' numbers and ids from the deltas. Where the finish reason was shown (and only the end mark is missing)
 * encoder_end() writes the rest. PD_NOMEM, PD_TOOBIG; PD_INVALID: something was told, or want.stream is false. */
struct shown;
pd_err encoder_resume(struct encoder *en, const struct shown *s) PD_CHECKED;
/* What is told from here on comes from another reader: its tool calls are others than those told of before, though it numbers them from 0 too. A text that is
 * open goes on. encoder_resume() does this itself. */
void encoder_next_answer(struct encoder *en);
/* How many events it wrote, in formats that number them; else 0. */
uint64_t encoder_sequence(const struct encoder *en);
/* Names of what could not be carried, each once; NULL ends. */
const char *const *encoder_dropped(const struct encoder *en);
/* Each tool call of the answer with what its maker wants back with it: `blob` as keep.h has it. */
typedef void encoder_keep_fn(void *ctx, struct span tool_id, enum msg_maker maker, struct span blob);
pd_err encoder_each_kept(const struct encoder *en, encoder_keep_fn *fn, void *ctx) PD_CHECKED;

#endif
