/* speak.h - an answer as the JSON of a provider: chunk by chunk, or whole.
 *
 * Pure: no sockets and no clock. stream_next() writes one chunk's JSON; how it is framed is frame.h's.
 *
 * Ownership: everything points into the call's arena, the answer and the script. */
#ifndef PERDURE_SIMULATE_SPEAK_H
#define PERDURE_SIMULATE_SPEAK_H

#include "simulate/answer.h"

struct speech {
    const struct script_provider *conf;
    const struct ask *rq;
    const struct answer *answer;
    struct span id;
    uint64_t created; /* seconds since 1970 */
    struct rnd *rnd;
    struct arena *mem;
};

/* What stream_next() wrote. */
enum stream_piece { PIECE_START, PIECE_TOKEN, PIECE_FINISH, PIECE_USAGE, PIECE_NONE };

enum choice_phase { CHOICE_ROLE, CHOICE_REASONING, CHOICE_TEXT, CHOICE_CALLS, CHOICE_FINISH, CHOICE_OVER };
struct stream_choice {
    enum choice_phase phase;
    unsigned call;
    size_t at; /* in the text, reasoning or arguments of this phase */
    bool call_begun;
};

struct stream {
    const struct speech *speech;
    struct span head; /* of every chunk, up to the number of the choice */
    struct span tail; /* of every chunk after its delta, up to what varies */
    struct stream_choice choices[ANSWER_CHOICES_MAX];
    unsigned turn; /* whose turn it is */
    bool filter_sent, usage_sent;
    uint64_t tokens; /* sent */
};

pd_err stream_init(struct stream *s, const struct speech *speech) PD_CHECKED;
/* The next chunk; PIECE_NONE: all was said. */
enum stream_piece stream_next(struct stream *s, struct put *out);
/* Nothing is left but the finish chunks and what follows them. */
bool stream_said(struct stream *s);
/* Ends every choice now, with this finish_reason: what is left is the finish chunks and the usage. */
void stream_finish(struct stream *s);
/* A chunk with this text, as any other token: for the fault `huge`. */
void stream_put_text(struct stream *s, struct put *out, struct span text);

/* The unstreamed answer. */
void whole_put(const struct speech *speech, struct put *out);

/* usage {...} with `completion` tokens so far. */
void usage_put(const struct speech *speech, uint64_t completion, struct put *out);

#endif
