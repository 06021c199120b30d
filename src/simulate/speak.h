/* speak.h - an answer in the words of a dialect: event by event, or whole.
 *
 * Pure: no sockets and no clock. stream_next() writes the bytes of the next events, framed; how they go to the socket is wire.h's.
 *
 * Ownership: everything points into the call's arena, the answer and the script; scratch and out are the caller's. */
#ifndef PERDURE_SIMULATE_SPEAK_H
#define PERDURE_SIMULATE_SPEAK_H

#include "simulate/frame.h"
#include "simulate/steps.h"

struct sim_dialect;

struct speech {
    const struct script_provider *conf;
    const struct ask *rq;
    const struct answer *answer;
    const struct sim_dialect *dialect;
    struct span id;
    uint64_t created; /* seconds since 1970 */
    struct rnd *rnd;
    struct arena *mem;
};

/* What stream_next() wrote. */
enum stream_piece { PIECE_START, PIECE_TOKEN, PIECE_FINISH, PIECE_USAGE, PIECE_NONE };

enum choice_phase {
    CHOICE_ROLE,
    CHOICE_REASONING,
    CHOICE_TEXT,
    CHOICE_REFUSAL,
    CHOICE_CALLS,
    CHOICE_FINISH,
    CHOICE_OVER
};
struct stream_choice {
    enum choice_phase phase;
    unsigned call;
    size_t at; /* in the text, reasoning or arguments of this phase */
    bool call_begun;
};

struct stream {
    const struct speech *speech;
    unsigned framing; /* FRAME_ bits */
    struct buf *scratch;
    struct put *out, json;
    uint64_t tokens;    /* sent */
    const char *finish; /* of the answer, or of a fault */
    /* all but chat */
    struct steps steps;
    uint64_t events; /* written */
    bool pinged;
    struct span comment;              /* text of signs of life */
    struct span ids[STEP_BLOCKS_MAX]; /* Responses: of the items */
    uint64_t sequence;
    /* chat */
    struct span head; /* of every chunk, up to the number of the choice */
    struct span tail; /* of every chunk after its delta, up to what varies */
    struct stream_choice choices[ANSWER_CHOICES_MAX];
    unsigned turn; /* whose turn it is */
    bool filter_sent, usage_sent;
};

/* `scratch` is used for one event at a time. */
pd_err stream_init(struct stream *s, const struct speech *speech, unsigned framing,
                   struct buf *scratch) PD_CHECKED;
/* The next events; PIECE_NONE: all was said, and the end was written. */
enum stream_piece stream_next(struct stream *s, struct put *out);
/* Where the stream is, before its next piece. */
enum stream_where { WHERE_ELSE, WHERE_REASONING, WHERE_TEXT, WHERE_CALL, WHERE_BETWEEN_CALLS, WHERE_FINISHED };
struct stream_place {
    enum stream_where where;
    unsigned call;   /* of CALL and BETWEEN_CALLS: which one, or which comes */
    size_t at, size; /* said of its arguments, and all of them */
};
struct stream_place stream_place(const struct stream *s);
/* Nothing is left to say but how it ended and what follows that. */
bool stream_said(struct stream *s);
/* Ends it now with this finish: what is left is the finish and the usage. */
void stream_finish(struct stream *s, const char *finish);

/* The end marker alone, without how it ended. */
void stream_end_early(struct stream *s, struct put *out);

/* The unstreamed answer. */
void whole_put(const struct speech *speech, struct put *out);

/* ---- chat's own, for stream_init() ---- */
pd_err chat_begin(struct stream *s) PD_CHECKED;
struct stream_place chat_place(const struct stream *s);
bool chat_said(struct stream *s);
void chat_finish(struct stream *s);

#endif
