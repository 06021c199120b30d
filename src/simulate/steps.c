#include "simulate/steps.h"

#include "simulate/frame.h"

static struct block *add(struct steps *s, enum said_kind kind, struct span text)
{
    struct block *b = &s->blocks[s->count++];
    *b = (struct block){.kind = kind, .text = text};
    return b;
}

void steps_init(struct steps *s, const struct answer *a, bool empty_text)
{
    *s = (struct steps){.next = STEP_BEGIN};
    if (a->blank)
        return;
    if (a->reasoning.n || a->sign_only)
        add(s, SAID_THINKING, a->reasoning);
    if (a->redacted)
        add(s, SAID_REDACTED, SPAN_NONE);
    if (a->texts[0].n)
        add(s, SAID_TEXT, a->texts[0]);
    if (a->refusal.p)
        add(s, SAID_TEXT, a->refusal)->refusal = true;
    for (unsigned i = 0; i < a->calls_count; i++) {
        struct block *b = add(s, SAID_CALL, a->calls[i].arguments);
        b->call = &a->calls[i];
        b->number = i;
    }
    if (!s->count && empty_text)
        add(s, SAID_TEXT, SPAN_LIT(""));
}

static enum step after_open(const struct steps *s)
{
    return s->stop || !s->blocks[s->block].text.n ? STEP_CLOSE : STEP_PIECE;
}

void steps_next(struct steps *s, bool calls_whole, uint64_t *tokens)
{
    if (s->step == STEP_CLOSE && s->next == STEP_OPEN)
        s->block++;
    const struct block *b = &s->blocks[s->block < STEP_BLOCKS_MAX ? s->block : 0];
    size_t n;
    s->step = s->next;
    s->piece = SPAN_NONE;
    switch (s->step) {
    case STEP_BEGIN:
        s->next = s->count && !s->stop ? STEP_OPEN : STEP_FINISH;
        return;
    case STEP_OPEN:
        s->at = 0;
        *tokens += b->kind == SAID_CALL;
        s->next = after_open(s);
        return;
    case STEP_PIECE:
        n = b->kind == SAID_CALL && calls_whole ? b->text.n : frame_piece(span_from(b->text, s->at));
        *tokens += b->kind == SAID_CALL && calls_whole ? frame_pieces(b->text) : 1;
        s->piece = span_upto(span_from(b->text, s->at), n);
        s->at += n;
        s->next = s->at >= b->text.n || s->stop ? STEP_CLOSE : STEP_PIECE;
        return;
    case STEP_CLOSE:
        s->next = !s->stop && s->block + 1 < s->count ? STEP_OPEN : STEP_FINISH;
        return;
    case STEP_FINISH:
        s->next = STEP_END;
        return;
    case STEP_END:
        s->next = STEP_OVER;
        return;
    case STEP_OVER:
        return;
    }
}

bool steps_said(const struct steps *s)
{
    if (s->stop || s->next >= STEP_FINISH)
        return true;
    if (s->next == STEP_CLOSE)
        return s->block + 1 >= s->count;
    return s->count == 0 || (s->count == 1 && !s->blocks[0].text.n && s->blocks[0].kind != SAID_CALL);
}

void steps_stop(struct steps *s)
{
    s->stop = true;
    if (s->next == STEP_PIECE)
        s->next = STEP_CLOSE;
    else if (s->next == STEP_OPEN)
        s->next = STEP_FINISH;
}

struct span steps_said_text(const struct steps *s)
{
    return span_upto(s->blocks[s->block].text, s->at);
}
