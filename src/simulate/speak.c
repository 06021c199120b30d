#include "simulate/speak.h"

#include "simulate/dialect.h"

pd_err stream_init(struct stream *s, const struct speech *speech, unsigned framing, struct buf *scratch)
{
    *s = (struct stream){.speech = speech,
                         .framing = framing,
                         .scratch = scratch,
                         .finish = speech->answer->finish,
                         .comment = SPAN_LIT("keep-alive")};
    if (speech->rq->at.dialect == SIM_CHAT)
        return chat_begin(s);
    steps_init(&s->steps, speech->answer, true);
    return PD_OK;
}

enum stream_piece stream_next(struct stream *s, struct put *out)
{
    size_t before = buf_size(out->b);
    enum stream_piece piece;
    s->out = out;
    do /* a step without an event is passed over */
        piece = s->speech->dialect->next(s);
    while (piece != PIECE_NONE && piece != PIECE_TOKEN && buf_size(out->b) == before && out->err == PD_OK);
    if (piece == PIECE_NONE && s->speech->dialect->end)
        s->speech->dialect->end(s);
    return piece;
}

static struct stream_place steps_place(const struct steps *s, bool calls_whole)
{
    const struct block *b = &s->blocks[s->block < STEP_BLOCKS_MAX ? s->block : 0];
    if (s->next == STEP_END)
        return (struct stream_place){.where = WHERE_FINISHED};
    bool closed = s->next == STEP_OPEN && s->step == STEP_CLOSE;
    closed |= calls_whole && s->next == STEP_CLOSE && s->block + 1 < s->count; /* without an event of its own */
    if (closed && b[1].kind == SAID_CALL)
        return (struct stream_place){.where = b->kind == SAID_CALL ? WHERE_BETWEEN_CALLS : WHERE_ELSE,
                                     .call = b[1].number};
    if (s->next != STEP_PIECE && s->next != STEP_CLOSE)
        return (struct stream_place){0};
    return (struct stream_place){.where = b->kind == SAID_CALL       ? WHERE_CALL
                                          : b->kind == SAID_THINKING ? WHERE_REASONING
                                                                     : WHERE_TEXT,
                                 .call = b->number,
                                 .at = s->at,
                                 .size = b->text.n};
}

struct stream_place stream_place(const struct stream *s)
{
    return s->speech->rq->at.dialect == SIM_CHAT ? chat_place(s)
                                                 : steps_place(&s->steps, s->speech->dialect->calls_whole);
}

bool stream_said(struct stream *s)
{
    return s->speech->rq->at.dialect == SIM_CHAT ? chat_said(s) : steps_said(&s->steps);
}

void stream_finish(struct stream *s, const char *finish)
{
    s->finish = finish;
    if (s->speech->rq->at.dialect == SIM_CHAT)
        chat_finish(s);
    else
        steps_stop(&s->steps);
}

void stream_end_early(struct stream *s, struct put *out)
{
    s->out = out;
    if (s->speech->rq->at.dialect == SIM_CHAT) {
        s->speech->dialect->end(s);
        return;
    }
    s->steps.next = STEP_END;
    while (stream_next(s, out) != PIECE_NONE)
        ;
}

void whole_put(const struct speech *speech, struct put *out)
{
    speech->dialect->whole(speech, out);
}
