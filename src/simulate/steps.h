/* steps.h - an answer as a row of blocks that open, grow and close: how all streams but chat's are built.
 *
 *   BEGIN  (OPEN PIECE* CLOSE)*  FINISH  END
 *
 * A dialect writes an event, several or none for each step. */
#ifndef PERDURE_SIMULATE_STEPS_H
#define PERDURE_SIMULATE_STEPS_H

#include "simulate/answer.h"

enum step { STEP_BEGIN, STEP_OPEN, STEP_PIECE, STEP_CLOSE, STEP_FINISH, STEP_END, STEP_OVER };

enum { STEP_BLOCKS_MAX = 4 + ANSWER_CALLS_MAX };

struct block {
    enum said_kind kind; /* THINKING, REDACTED, TEXT, CALL */
    bool refusal;        /* of a text: it refuses */
    struct span text;    /* arguments, of a call */
    const struct answer_call *call;
    unsigned number; /* of a call among the calls */
};

struct steps {
    struct block blocks[STEP_BLOCKS_MAX];
    unsigned count;
    /* the step at hand */
    enum step step;
    unsigned block;
    struct span piece;
    /* what comes */
    enum step next;
    size_t at; /* in the block's text */
    bool stop; /* no block goes on: the current one closes, then it ends */
};

/* `empty_text`: an answer without any block gets an empty text. */
void steps_init(struct steps *s, const struct answer *a, bool empty_text);
/* The next step into s->step; adds to *tokens what it said. */
void steps_next(struct steps *s, bool calls_whole, uint64_t *tokens);
/* Nothing is left to be said. */
bool steps_said(const struct steps *s);
void steps_stop(struct steps *s);
/* What of the block at hand was said so far. */
struct span steps_said_text(const struct steps *s);

#endif
