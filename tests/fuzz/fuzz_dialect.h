/* fuzz_dialect.h - promises that every chat format keeps, whatever comes.
 *
 * An answer says the same whether its bytes come whole or in parts; what is collected from it is JSON; spoken again by the
 * format's encoder it is JSON, or a stream that the format's own reader takes for whole. A request that is taken can be
 * written in its own format, and what was written is taken again; from the second time on it is written to the same bytes.
 * Fitted for another format it can be written there, or is refused with a sentence. A request, edited, is still JSON. Here and
 * not in each target, so that a format's target is its name and its models. */
#ifndef PERDURE_TESTS_FUZZ_DIALECT_H
#define PERDURE_TESTS_FUZZ_DIALECT_H

#include "base/arena.h"
#include "dialect/carry.h"
#include "dialect/encoder.h"
#include "parse/base64.h"
#include "parse/eventstream.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

/* A format, as one of its streams is framed. Of what its codec has no function for nothing is promised. */
struct fuzz_dialect {
    const struct codec *codec;
    enum framing framing; /* of what a provider sends; the encoder speaks events, or this when these are AWS's */
    const char *const *models; /* NULL ends: what a name decides in write_request() */
    bool in_path;              /* the model stands in the path */
};

/* ---- answers ---------------------------------------------------------------------- */

struct seen {
    struct buf said;
    struct collector *collector;
    struct encoder *encoder;
};

static inline void put_seen(struct buf *b, unsigned what, struct span s)
{
    unsigned head[2] = {what, (unsigned)s.n};
    MUST(buf_add(b, span_of((const char *)head, sizeof(head))) == PD_OK);
    MUST(buf_add(b, s) == PD_OK);
}

static inline void on_delta(void *ctx, const struct msg_delta *d)
{
    struct seen *seen = ctx;
    put_seen(&seen->said, 1000u + d->kind, d->text);
    put_seen(&seen->said, (unsigned)d->choice, d->id);
    put_seen(&seen->said, (unsigned)d->tool, d->type);
    if (seen->encoder)
        encoder_delta(seen->encoder, d);
}

static inline pd_err on_event(void *ctx, const struct answer_event *ev)
{
    struct seen *seen = ctx;
    MUST(!(ev->holds & ANSWER_ERROR) == (ev->error.type == JSON_NONE));
    MUST(ev->json.type == JSON_NONE || json_check(ev->json.raw) == PD_OK);
    if (ev->json.type == JSON_NONE)
        return PD_OK; /* blank lines at the end may be split */
    put_seen(&seen->said, ev->holds, ev->json.raw);
    put_seen(&seen->said, 0, ev->error.raw);
    pd_err e = seen->collector ? collector_add(seen->collector, ev->type, ev->json) : PD_OK;
    MUST(e == PD_OK || e == PD_TOOBIG);
    return e;
}

static inline void feed(struct answer *an, struct span s, pd_err *e)
{
    char *copy = malloc(s.n ? s.n : 1); /* memory of its own, so that reading past it shows */
    MUST(copy);
    if (s.n)
        memcpy(copy, s.p, s.n);
    if (!*e)
        *e = answer_feed(an, span_of(copy, s.n));
    free(copy);
}

static inline bool is_aws(enum framing framing)
{
    return framing == FRAMING_EVENTSTREAM || framing == FRAMING_CHUNKS;
}

static inline enum answer_end read_again(const struct fuzz_dialect *d, struct span stream)
{
    struct seen none = {0};
    enum answer_end end = ANSWER_EMPTY;
    struct answer *an = answer_new(d->codec, is_aws(d->framing) ? d->framing : FRAMING_LINES, on_event, &none);
    MUST(an);
    MUST(answer_feed(an, stream) == PD_OK);
    MUST(answer_finish(an, &end) == PD_OK);
    answer_free(an);
    buf_done(&none.said);
    return end;
}

/* What the encoder made of the deltas. It may have had enough of them (a limit, bytes behind a whole value). */
static inline void use_spoken(const struct fuzz_dialect *d, struct encoder *en, bool stream,
                              const struct answer_facts *f)
{
    struct span bytes;
    struct buf out;
    buf_init(&out, 0);
    if (stream) {
        if (encoder_end(en, f) == PD_OK && encoder_bytes(en, &bytes) == PD_OK) {
            enum answer_end end = read_again(d, bytes);
            MUST(end == ANSWER_COMPLETE || end == ANSWER_EMPTY);
        }
    } else if (encoder_whole(en, f, &out) == PD_OK) {
        MUST(json_check(buf_span(&out)) == PD_OK);
    }
    buf_done(&out);
}

static inline pd_err run(const struct fuzz_dialect *d, struct span in, size_t first, size_t step, bool stream,
                         struct seen *seen)
{
    struct answer *an = answer_new(d->codec, d->framing, on_event, seen);
    enum answer_end end = ANSWER_EMPTY;
    pd_err e = PD_OK;
    MUST(an);
    answer_on_delta(an, on_delta, seen);
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step)
        feed(an, span_upto(span_from(in, at), n), &e);
    if (!e)
        e = answer_finish(an, &end);
    const struct answer_facts *f = answer_facts(an);
    put_seen(&seen->said, end, f->finish_raw);
    put_seen(&seen->said, f->finish, f->id);
    put_seen(&seen->said, f->events, f->model);
    put_seen(&seen->said, f->comments, f->usage_raw);
    put_seen(&seen->said, f->malformed, span_of((const char *)&f->usage, sizeof(f->usage)));
    MUST(end != ANSWER_COMPLETE || f->events);
    if (!e && end == ANSWER_COMPLETE && seen->encoder)
        use_spoken(d, seen->encoder, stream, f);
    answer_free(an);
    return e;
}

static inline void use_collected(const struct codec *c, struct collector *k)
{
    struct buf body;
    struct answer_facts facts;
    enum answer_end end;
    struct arena a;
    arena_init(&a, 0, 0);
    buf_init(&body, 0);
    pd_err e = collector_write(k, &body);
    MUST(e == PD_OK || e == PD_INVALID); /* what came is no answer */
    if (!e) {
        MUST(json_check(buf_span(&body)) == PD_OK);
        e = answer_read_whole(c, buf_span(&body), &a, &facts, &end, NULL, NULL);
        MUST(e == PD_OK || e == PD_TOOBIG);
    }
    buf_done(&body);
    arena_done(&a);
}

/* Each line as a message of an event stream, its checksums right: its type, a space, its payload. In chunks the line is the base64
 * in one. */
static inline void frame(struct span in, bool chunks, struct buf *out)
{
    while (in.p && in.n) {
        struct span line = span_cut(&in, '\n'), payload = line, type = span_cut(&payload, ' ');
        bool exception = span_ends(type, "Exception");
        struct buf around;
        buf_init(&around, 0);
        if (chunks && !exception) {
            MUST(buf_puts(&around, "{\"bytes\":\"") == PD_OK);
            MUST(base64_encode(line, &around) == PD_OK);
            MUST(buf_puts(&around, "\"}") == PD_OK);
            type = SPAN_LIT("chunk");
            payload = buf_span(&around);
        }
        pd_err e = eventstream_put(out, exception ? "exception" : "event", type, SPAN_NONE,
                                   payload.p ? payload : SPAN_LIT(""));
        MUST(e == PD_OK || e == PD_TOOBIG);
        buf_done(&around);
    }
}

static inline void fuzz_bytes(const struct fuzz_dialect *d, struct span in, size_t split)
{
    struct seen whole = {0}, parts = {0};
    bool stream = split & 1;
    struct encode_want want = {.model = SPAN_LIT("m"), .id = SPAN_LIT("x"), .stream = stream};
    if (d->codec->collector)
        whole.collector = collector_new(d->codec, 1 << 20);
    if (d->codec->encoder)
        whole.encoder = encoder_new(d->codec, &want, 1 << 20);
    pd_err e = run(d, in, in.n, 1, stream, &whole);
    MUST(e == PD_OK || e == PD_TOOBIG);
    if (!e) {
        MUST(run(d, in, split % (in.n + 1), split % 7 + 1, stream, &parts) == PD_OK);
        MUST(span_eq(buf_span(&whole.said), buf_span(&parts.said)));
        if (whole.collector)
            use_collected(d->codec, whole.collector);
    }
    encoder_free(whole.encoder);
    collector_free(whole.collector);
    buf_done(&whole.said);
    buf_done(&parts.said);
}

static inline void fuzz_answers(const struct fuzz_dialect *d, struct span in, size_t split)
{
    struct buf stream;
    if (!d->codec->reader)
        return;
    buf_init(&stream, 0);
    if (is_aws(d->framing))
        frame(in, d->framing == FRAMING_CHUNKS, &stream);
    fuzz_bytes(d, is_aws(d->framing) ? buf_span(&stream) : in, split);
    buf_done(&stream);
}

/* ---- requests ----------------------------------------------------------------------- */

static inline struct request_line line_of(const struct fuzz_dialect *d)
{
    return (struct request_line){.model = d->in_path ? SPAN_LIT("m") : SPAN_NONE};
}

static inline bool parse_request(const struct fuzz_dialect *d, struct span body, struct arena *a,
                                 struct msg_request *m)
{
    struct request_line line = line_of(d);
    struct request_facts f;
    const char *why = NULL;
    pd_err e = d->codec->read_request(body, &line, a, &f, &why);
    if (!e)
        e = d->codec->parse_request(&f, a, m, &why);
    MUST(!e || why);
    return !e && json_check(body) == PD_OK; /* a body is not validated inside before it is translated: see relay */
}

static inline bool write_request(const struct fuzz_dialect *d, struct span body, const char *model,
                                 struct arena *a, struct buf *out)
{
    struct msg_request m;
    if (!parse_request(d, body, a, &m))
        return false;
    struct write_want want = {.model = span_str(model), .stream = m.stream};
    MUST(d->codec->write_request(&m, &want, a, out) == PD_OK);
    MUST(json_check(buf_span(out)) == PD_OK);
    return true;
}

static inline void fit_request(const struct fuzz_dialect *d, struct span body, size_t choice, struct arena *a)
{
    static const struct codec *const all[] = {&codec_openai_chat, &codec_openai_responses, &codec_anthropic,
                                              &codec_gemini,      &codec_bedrock_converse, &codec_ollama};
    const struct codec *to = all[choice % (sizeof(all) / sizeof(all[0]))];
    struct write_want want = {.model = SPAN_LIT("m")};
    struct msg_request m;
    struct buf out;
    const char *why = NULL;
    buf_init(&out, 0);
    if (parse_request(d, body, a, &m)) {
        MUST(msg_link(&m, a) == PD_OK);
        pd_err e = carry_fit(&m, to, &want, a, &why);
        MUST(e == PD_OK || (e == PD_UNSUPPORTED && why));
        if (!e) {
            MUST(to->write_request(&m, &want, a, &out) == PD_OK);
            MUST(json_check(buf_span(&out)) == PD_OK);
        }
    }
    buf_done(&out);
}

static inline void fuzz_requests(const struct fuzz_dialect *d, struct span in, size_t choice)
{
    struct arena a;
    struct buf once, twice, thrice; /* the first writing mends what servers refuse, which may show in the second */
    size_t count = 0;
    while (d->models && d->models[count])
        count++;
    const char *model = count ? d->models[choice % count] : "m";
    arena_init(&a, 0, 0);
    buf_init(&once, 0);
    buf_init(&twice, 0);
    buf_init(&thrice, 0);
    if (d->codec->parse_request)
        fit_request(d, in, choice, &a);
    if (d->codec->write_request && write_request(d, in, model, &a, &once)) {
        MUST(write_request(d, buf_span(&once), model, &a, &twice));
        MUST(write_request(d, buf_span(&twice), model, &a, &thrice));
        MUST(span_eq(buf_span(&twice), buf_span(&thrice)));
    }
    buf_done(&once);
    buf_done(&twice);
    buf_done(&thrice);
    arena_done(&a);
}

static inline void fuzz_edits(const struct fuzz_dialect *d, struct span in, size_t choice)
{
    struct arena a;
    struct buf out;
    struct request_line line = line_of(d);
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count = 0;
    const char *why = NULL;
    struct request_edit edit = {.force_stream = (choice & 3) == 1,
                                .forbid_stream = (choice & 3) == 2,
                                .drop_model = choice & 4,
                                .strip_foreign = choice & 8,
                                .version = choice & 16 ? "v" : NULL,
                                .want_usage = choice & 32,
                                .model = {choice & 64 ? "d" : NULL, choice & 64 ? 1 : 0}};
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    if (json_check(in) == PD_OK && d->codec->read_request(in, &line, &a, &f, &why) == PD_OK) {
        MUST(d->codec->edit_request(&f, &edit, &a, parts, &count) == PD_OK);
        for (unsigned i = 0; i < count; i++)
            MUST(buf_add(&out, parts[i]) == PD_OK);
        MUST(json_check(buf_span(&out)) == PD_OK);
    }
    buf_done(&out);
    arena_done(&a);
}

/* The first byte chooses the row and what is done, the second the split or the choice; the rest is the body. */
static inline int fuzz_dialects(const struct fuzz_dialect *rows, size_t count, const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_of((const char *)data + 2, size - 2);
    const struct fuzz_dialect *d = &rows[data[0] / 3 % count];
    switch (data[0] % 3) {
    case 0:
        fuzz_answers(d, in, data[1]);
        break;
    case 1:
        fuzz_requests(d, in, data[1]);
        break;
    default:
        fuzz_edits(d, in, data[1]);
    }
    return 0;
}

/* What a target is, but for its promises beyond these. */
#define FUZZ_DIALECTS(rows)                                                       \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                 \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                  \
    {                                                                             \
        return fuzz_dialects(rows, sizeof(rows) / sizeof((rows)[0]), data, size); \
    }

#endif
