/* fuzz_gemini.c - three promises of Gemini's format.
 *
 * An answer says the same whether its bytes come whole or in parts, as events and as one array, and what is collected from it
 * is JSON that says as much. A request that is taken can be written, and is written the same when it is read again. What an
 * answer says can be spoken, and is then JSON or an event stream of it. The first byte chooses, the second one the split; the
 * rest is the body. */
#include "dialect/encoder.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static const struct codec *const gemini = &codec_gemini;

/* ---- answers ---------------------------------------------------------------------- */

struct seen {
    struct buf said;
    struct collector *collector;
    struct encoder *streamed, *whole;
};

static void put(struct buf *b, unsigned what, struct span s)
{
    unsigned head[2] = {what, (unsigned)s.n};
    MUST(buf_add(b, span_of((const char *)head, sizeof(head))) == PD_OK);
    MUST(buf_add(b, s) == PD_OK);
}

static void on_delta(void *ctx, const struct msg_delta *d)
{
    struct seen *seen = ctx;
    put(&seen->said, 1000u + d->kind, d->text);
    put(&seen->said, (unsigned)d->choice, d->id);
    put(&seen->said, (unsigned)d->tool, d->type);
    if (seen->streamed)
        encoder_delta(seen->streamed, d);
    if (seen->whole)
        encoder_delta(seen->whole, d);
}

static pd_err on_event(void *ctx, const struct answer_event *ev)
{
    struct seen *seen = ctx;
    if (ev->holds == ANSWER_KEEPALIVE)
        return PD_OK; /* blank lines at the end may be split */
    put(&seen->said, ev->holds, ev->json.raw);
    put(&seen->said, 0, ev->error.raw);
    MUST(!(ev->holds & ANSWER_ERROR) == (ev->error.type == JSON_NONE));
    pd_err e = PD_OK;
    if (seen->collector && ev->json.type == JSON_OBJECT)
        e = collector_add(seen->collector, ev->type, ev->json);
    MUST(e == PD_OK || e == PD_TOOBIG);
    return e;
}

static void feed(struct answer *an, struct span s, pd_err *e)
{
    char *copy = malloc(s.n ? s.n : 1); /* memory of its own, so that reading past it shows */
    MUST(copy);
    if (s.n)
        memcpy(copy, s.p, s.n);
    if (!*e)
        *e = answer_feed(an, span_of(copy, s.n));
    free(copy);
}

/* Events as they are spoken: each is JSON. */
static pd_err on_spoken(void *ctx, const struct answer_event *ev)
{
    (void)ctx;
    MUST(!(ev->holds & ANSWER_MALFORMED));
    return PD_OK;
}

static void use_spoken(struct seen *seen, const struct answer_facts *f)
{
    struct span bytes;
    struct buf body;
    enum answer_end end;
    buf_init(&body, 0);
    if (encoder_end(seen->streamed, f) == PD_OK && encoder_bytes(seen->streamed, &bytes) == PD_OK) {
        struct answer *an = answer_new(gemini, FRAMING_LINES, on_spoken, NULL);
        MUST(an && answer_feed(an, bytes) == PD_OK && answer_finish(an, &end) == PD_OK);
        answer_free(an);
    }
    if (encoder_whole(seen->whole, f, &body) == PD_OK)
        MUST(json_check(buf_span(&body)) == PD_OK);
    buf_done(&body);
}

static pd_err run(enum framing framing, struct span in, size_t first, size_t step, struct seen *seen)
{
    struct answer *an = answer_new(gemini, framing, on_event, seen);
    enum answer_end end = ANSWER_EMPTY;
    pd_err e = PD_OK;
    MUST(an);
    answer_on_delta(an, on_delta, seen);
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step)
        feed(an, span_upto(span_from(in, at), n), &e);
    if (!e)
        e = answer_finish(an, &end);
    const struct answer_facts *f = answer_facts(an);
    put(&seen->said, end, f->finish_raw);
    put(&seen->said, f->finish, f->id);
    put(&seen->said, f->events, f->model);
    put(&seen->said, f->malformed, f->usage_raw);
    put(&seen->said, 0, span_of((const char *)&f->usage, sizeof(f->usage)));
    if (!e && seen->streamed)
        use_spoken(seen, f);
    an = answer_free(an);
    return e;
}

static void use_collected(struct collector *k)
{
    struct buf body;
    struct answer_facts facts;
    enum answer_end end;
    struct arena a;
    arena_init(&a, 0, 0);
    buf_init(&body, 0);
    MUST(collector_write(k, &body) == PD_OK);
    MUST(json_check(buf_span(&body)) == PD_OK);
    pd_err e = answer_read_whole(gemini, buf_span(&body), &a, &facts, &end, NULL, NULL);
    MUST(e == PD_OK || e == PD_TOOBIG);
    buf_done(&body);
    arena_done(&a);
}

static void answers(enum framing framing, struct span in, size_t split)
{
    struct seen whole = {0}, parts = {0};
    struct encode_want want = {.model = SPAN_LIT("g"), .id = SPAN_LIT("r"), .stream = true};
    whole.collector = collector_new(gemini, 1 << 20);
    whole.streamed = encoder_new(gemini, &want, 1 << 20);
    want.stream = false;
    whole.whole = encoder_new(gemini, &want, 1 << 20);
    MUST(whole.collector && whole.streamed && whole.whole);
    pd_err e = run(framing, in, in.n, 1, &whole);
    MUST(e == PD_OK || e == PD_TOOBIG);
    if (!e) {
        MUST(run(framing, in, split % (in.n + 1), split % 7 + 1, &parts) == PD_OK);
        MUST(span_eq(buf_span(&whole.said), buf_span(&parts.said)));
        use_collected(whole.collector);
    }
    collector_free(whole.collector);
    encoder_free(whole.streamed);
    encoder_free(whole.whole);
    buf_done(&whole.said);
    buf_done(&parts.said);
}

/* ---- requests --------------------------------------------------------------------- */

/* False: it was not taken. */
static bool rewrite(const struct codec *c, struct span in, bool vertex, struct buf *out)
{
    struct write_want want = {.model = vertex ? SPAN_LIT("gemini-2.5-pro") : SPAN_LIT("gemini-3-flash"),
                              .drop_model = vertex};
    struct request_line line = {.model = SPAN_LIT("m")};
    struct request_facts f;
    struct msg_request m;
    struct arena a;
    const char *why = NULL;
    arena_init(&a, 0, 0);
    pd_err e = c->read_request(in, &line, &a, &f, &why);
    if (!e)
        e = c->parse_request(&f, &a, &m, &why);
    MUST(e == PD_OK || (e != PD_NOMEM && why));
    if (!e)
        MUST(c->write_request(&m, &want, &a, out) == PD_OK);
    arena_done(&a);
    return !e;
}

static void requests(const struct codec *c, struct span in, bool vertex)
{
    struct buf once, twice;
    buf_init(&once, 0);
    buf_init(&twice, 0);
    if (rewrite(c, in, vertex, &once)) {
        MUST(json_check(buf_span(&once)) == PD_OK);
        MUST(rewrite(c, buf_span(&once), vertex, &twice));
        MUST(span_eq(buf_span(&once), buf_span(&twice)));
    }
    buf_done(&once);
    buf_done(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span in = span_of((const char *)data + 2, size - 2);
    switch (data[0] % 4) {
    case 0:
        answers(FRAMING_LINES, in, data[1]);
        break;
    case 1:
        answers(FRAMING_ARRAY, in, data[1]);
        break;
    case 2:
        requests(gemini, in, data[1] % 2);
        break;
    default:
        requests(&codec_gemini_count, in, data[1] % 2);
    }
    return 0;
}
