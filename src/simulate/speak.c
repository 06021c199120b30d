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
