/* translate.h - requests from one format into another, and deltas spoken in a format and read back, for tests of this room. */
#ifndef PERDURE_TESTS_TRANSLATE_H
#define PERDURE_TESTS_TRANSLATE_H

#include "dialect/encoder.h"
#include "told.h"

#include <string.h>

/* ---- requests ---------------------------------------------------------------------- */

/* `body` as `from` reads it, written as `to` writes it. */
static inline pd_err translate(const struct codec *from, const struct request_line *line, struct span body,
                               const struct codec *to, const struct write_want *want, struct arena *a,
                               struct buf *out, const char **why)
{
    struct request_facts f;
    struct msg_request m;
    pd_err e = from->read_request(body, line, a, &f, why);
    if (!e)
        e = from->parse_request(&f, a, &m, why);
    return e ? e : to->write_request(&m, want, a, out);
}

struct translate_row {
    const char *name, *in, *out;
};

/* Each row through from and to; returns the faults. */
static inline unsigned translate_rows(const struct codec *from, const struct codec *to, const char *model,
                                      bool stream, const struct translate_row *rows, size_t count)
{
    unsigned faults = 0;
    struct request_line line = {.model = span_str(model), .stream = stream};
    struct write_want want = {.model = span_str(model), .stream = stream};
    for (size_t i = 0; i < count; i++) {
        struct arena a;
        struct buf out;
        const char *why = NULL;
        arena_init(&a, 0, 0);
        buf_init(&out, 0);
        pd_err e = translate(from, &line, span_str(rows[i].in), to, &want, &a, &out, &why);
        if (e == PD_UNSUPPORTED || e == PD_INVALID || e == PD_SYNTAX) {
            buf_clear(&out);
            assert_int_equal(buf_printf(&out, "%s: %s", pd_err_name(e), why ? why : "(no sentence)"), PD_OK);
        } else {
            assert_int_equal(e, PD_OK);
            assert_int_equal(json_check(buf_span(&out)), PD_OK);
        }
        if (!span_is(buf_span(&out), rows[i].out)) {
            print_error("%s\n  expected %s\n  got      %.*s\n", rows[i].name, rows[i].out,
                        SPAN_FMT(buf_span(&out)));
            faults++;
        }
        buf_done(&out);
        arena_done(&a);
    }
    return faults;
}

/* ---- answers ----------------------------------------------------------------------- */

struct spoken {
    const struct codec *codec;
    enum framing framing;
    const struct msg_delta *deltas;
    size_t count;
    struct answer_facts facts;
};

static inline pd_err spoken_new(const struct spoken *s, bool stream, struct encoder **ret)
{
    struct encode_want want = {.model = SPAN_LIT("some-model"),
                               .id = SPAN_LIT("abc123"),
                               .created = 1700000000,
                               .stream = stream,
                               .include_usage = true};
    *ret = encoder_new(s->codec, &want, 1 << 20);
    return *ret ? PD_OK : PD_NOMEM;
}

/* The deltas as a stream, its terminator included. */
static inline pd_err spoken_stream(const struct spoken *s, struct buf *out)
{
    struct encoder *en;
    struct span bytes = SPAN_NONE;
    pd_err e = spoken_new(s, true, &en);
    for (size_t i = 0; !e && i < s->count; i++) {
        encoder_delta(en, &s->deltas[i]);
        e = encoder_bytes(en, &bytes);
        if (!e)
            e = buf_add(out, bytes);
        encoder_clear(en);
    }
    if (!e)
        e = encoder_end(en, &s->facts);
    if (!e)
        e = encoder_bytes(en, &bytes);
    if (!e)
        e = buf_add(out, bytes);
    encoder_free(en);
    return e;
}

static inline pd_err spoken_whole(const struct spoken *s, struct buf *out)
{
    struct encoder *en;
    pd_err e = spoken_new(s, false, &en);
    for (size_t i = 0; !e && i < s->count; i++)
        encoder_delta(en, &s->deltas[i]);
    if (!e)
        e = encoder_whole(en, &s->facts, out);
    encoder_free(en);
    return e;
}

/* What the reader of the same format says of it: facts and deltas, as text. */
static inline pd_err spoken_read(const struct spoken *s, struct span bytes, size_t cut, struct buf *out)
{
    struct reading r;
    pd_err e = reading_init(&r, s->codec, s->framing, false);
    if (!e)
        e = reading_feed(&r, span_upto(bytes, cut));
    if (!e)
        e = reading_feed(&r, span_from(bytes, cut));
    if (!e)
        e = answer_finish(r.an, &r.end);
    if (!e)
        e = buf_printf(out, "%s ", end_name(r.end));
    if (!e)
        e = facts_put(answer_facts(r.an), out);
    if (!e)
        e = told_put(r.told, out);
    reading_done(&r);
    return e;
}

static inline pd_err spoken_read_whole(const struct spoken *s, struct span body, struct buf *out)
{
    struct answer_facts facts;
    enum answer_end end;
    struct arena a;
    struct told *told = told_new();
    arena_init(&a, 0, 0);
    pd_err e = answer_read_whole(s->codec, body, &a, &facts, &end, told_on_delta, told);
    if (!e)
        e = buf_printf(out, "%s ", end_name(end));
    if (!e)
        e = facts_put(&facts, out);
    if (!e)
        e = told_put(told, out);
    told_free(told);
    arena_done(&a);
    return e;
}

/* The lines of choice 0 and the facts. */
static inline struct span spoken_said(const struct buf *b)
{
    struct span all = buf_span(b), rest = all;
    (void)span_cut(&rest, '\n');
    (void)span_cut(&rest, '\n');
    return span_upto(all, rest.p ? (size_t)(rest.p - all.p) - 1 : all.n);
}

static inline void assert_said(const char *what, const struct buf *got, const char *want)
{
    if (!span_is(spoken_said(got), want))
        fail_msg("%s\n  expected %s\n  got      %.*s", what, want, SPAN_FMT(spoken_said(got)));
}

/* Spoken and read back, streamed at every cut and whole, an answer says `want`. */
static inline void assert_spoken(const struct spoken *s, const char *want)
{
    struct buf bytes, got;
    buf_init(&bytes, 0);
    buf_init(&got, 0);
    assert_int_equal(spoken_stream(s, &bytes), PD_OK);
    for (size_t cut = 0; cut <= buf_size(&bytes); cut++) {
        buf_clear(&got);
        assert_int_equal(spoken_read(s, buf_span(&bytes), cut, &got), PD_OK);
        assert_said("streamed", &got, want);
    }
    buf_clear(&bytes);
    buf_clear(&got);
    assert_int_equal(spoken_whole(s, &bytes), PD_OK);
    assert_int_equal(json_check(buf_span(&bytes)), PD_OK);
    assert_int_equal(spoken_read_whole(s, buf_span(&bytes), &got), PD_OK);
    assert_said("whole", &got, want);
    buf_done(&bytes);
    buf_done(&got);
}

/* For torture(): speaks, streamed and whole, and reads both. */
static inline pd_err spoken_work(void *ctx)
{
    const struct spoken *s = ctx;
    struct buf bytes, got;
    buf_init(&bytes, 0);
    buf_init(&got, 0);
    pd_err e = spoken_stream(s, &bytes);
    if (!e)
        e = spoken_read(s, buf_span(&bytes), buf_size(&bytes) / 2, &got);
    buf_clear(&bytes);
    if (!e)
        e = spoken_whole(s, &bytes);
    if (!e)
        e = spoken_read_whole(s, buf_span(&bytes), &got);
    buf_done(&bytes);
    buf_done(&got);
    return e;
}

#endif
