/* respoken.h - a streamed answer read, spoken again by its own format's encoder, and heard, for tests of this room. */
#ifndef PERDURE_TESTS_RESPOKEN_H
#define PERDURE_TESTS_RESPOKEN_H

#include "dialect/encoder.h"
#include "told.h"

/* What was said in choice 0, as told_put() writes it. */
static inline void said_of(const struct told *t, struct buf *out)
{
    struct buf all;
    buf_init(&all, 0);
    assert_int_equal(told_put(t, &all), PD_OK);
    struct span line = buf_span(&all);
    line = span_cut(&line, '\n');
    assert_int_equal(buf_add(out, span_from(line, 2)), PD_OK);
    buf_done(&all);
}

/* The whole stream, in two parts, collected too. */
static inline void read_stream(struct reading *r, const struct codec *c, enum framing framing, struct span in,
                               size_t cut)
{
    assert_int_equal(reading_init(r, c, framing, true), PD_OK);
    assert_int_equal(reading_feed(r, span_upto(in, cut)), PD_OK);
    assert_int_equal(reading_feed(r, span_from(in, cut)), PD_OK);
    assert_int_equal(answer_finish(r->an, &r->end), PD_OK);
}

struct speech {
    const struct codec *codec;
    const char *in; /* a stream of events */
    struct encode_want want;
    struct buf *out;
};

struct listener {
    struct encoder *en;
    struct buf *out;
    pd_err err;
};

static inline void speech_on_delta(void *ctx, const struct msg_delta *d)
{
    struct listener *l = ctx;
    struct span bytes;
    encoder_delta(l->en, d);
    pd_err e = encoder_bytes(l->en, &bytes);
    if (!e)
        e = buf_add(l->out, bytes);
    encoder_clear(l->en);
    l->err = l->err ? l->err : e;
}

static inline pd_err speech_on_event(void *ctx PD_UNUSED, const struct answer_event *ev PD_UNUSED)
{
    return PD_OK;
}

static inline pd_err finish_speech(struct listener *l, struct answer *an, bool stream)
{
    enum answer_end end;
    struct span bytes;
    pd_err e = answer_finish(an, &end);
    if (!e)
        e = l->err;
    if (e)
        return e;
    if (!stream)
        return encoder_whole(l->en, answer_facts(an), l->out);
    e = encoder_end(l->en, answer_facts(an));
    if (!e)
        e = encoder_bytes(l->en, &bytes);
    return e ? e : buf_add(l->out, bytes);
}

/* The deltas of the stream, spoken again. For torture() too. */
static inline pd_err speak(void *ctx)
{
    struct speech *s = ctx;
    struct listener l = {.out = s->out};
    buf_clear(s->out);
    l.en = encoder_new(s->codec, &s->want, 1 << 20);
    struct answer *an = l.en ? answer_new(s->codec, FRAMING_LINES, speech_on_event, NULL) : NULL;
    pd_err e = an ? PD_OK : PD_NOMEM;
    if (an) {
        answer_on_delta(an, speech_on_delta, &l);
        e = answer_feed(an, span_str(s->in));
        if (!e)
            e = finish_speech(&l, an, s->want.stream);
    }
    answer_free(an);
    encoder_free(l.en);
    return e;
}

/* What our own reader hears of what was spoken. */
static inline void hear(const struct speech *s, struct buf *said, const char **ret_end)
{
    if (s->want.stream) {
        struct reading r;
        read_stream(&r, s->codec, s->want.array ? FRAMING_ARRAY : FRAMING_LINES, buf_span(s->out), 0);
        said_of(r.told, said);
        *ret_end = end_name(r.end);
        reading_done(&r);
        return;
    }
    struct arena a;
    struct answer_facts facts;
    enum answer_end end;
    struct told *t = told_new();
    arena_init(&a, 0, 0);
    assert_int_equal(answer_read_whole(s->codec, buf_span(s->out), &a, &facts, &end, told_on_delta, t), PD_OK);
    said_of(t, said);
    *ret_end = end_name(end);
    arena_done(&a);
    told_free(t);
}

#endif
