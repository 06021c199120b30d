/* fuzz_bedrock_ollama.c - what Bedrock's and Ollama's formats promise.
 *
 * An answer says the same whether its bytes come whole or in parts; what is collected from it is JSON, and so is what is spoken of it.
 * A request that is taken is written as JSON which is taken again. Base64 that is read is written the same.
 * The first byte chooses the format, the second one the split. For event streams each line of the rest becomes a message with right
 * checksums: its type, a space, and its payload. */
#include "dialect/encoder.h"
#include "parse/base64.h"
#include "parse/eventstream.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

/* ---- answers ---------------------------------------------------------------------- */

struct seen {
    struct buf said;
    struct collector *collector;
    struct encoder *whole;
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
    put(&seen->said, (unsigned)d->tool, d->id);
    put(&seen->said, (unsigned)d->maker, d->type);
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
    MUST(ev->json.type == JSON_NONE || json_check(ev->json.raw) == PD_OK);
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

static pd_err run(const struct codec *c, enum framing framing, struct span in, size_t first, size_t step,
                  struct seen *seen)
{
    struct answer *an = answer_new(c, framing, on_event, seen);
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
    put(&seen->said, f->finish, f->model);
    put(&seen->said, f->events, f->usage_raw);
    put(&seen->said, f->malformed, span_of((const char *)&f->usage, sizeof(f->usage)));
    if (!e && seen->whole) {
        struct buf body;
        buf_init(&body, 0);
        if (encoder_whole(seen->whole, f, &body) == PD_OK)
            MUST(json_check(buf_span(&body)) == PD_OK);
        buf_done(&body);
    }
    an = answer_free(an);
    return e;
}

static void use_collected(struct collector *k)
{
    struct buf body;
    buf_init(&body, 0);
    MUST(collector_write(k, &body) == PD_OK);
    MUST(json_check(buf_span(&body)) == PD_OK);
    buf_done(&body);
}

static void answers(const struct codec *c, enum framing framing, struct span in, size_t split)
{
    struct seen whole = {0}, parts = {0};
    struct encode_want want = {.model = SPAN_LIT("m"), .id = SPAN_LIT("r")};
    whole.collector = c->collector ? collector_new(c, 4 << 20) : NULL;
    whole.whole = c->encoder ? encoder_new(c, &want, 4 << 20) : NULL;
    pd_err e = run(c, framing, in, in.n, 1, &whole);
    MUST(e == PD_OK || e == PD_TOOBIG || e == PD_SYNTAX);
    if (!e) {
        MUST(run(c, framing, in, split % (in.n + 1), split % 7 + 1, &parts) == PD_OK);
        MUST(span_eq(buf_span(&whole.said), buf_span(&parts.said)));
        if (whole.collector)
            use_collected(whole.collector);
    }
    collector_free(whole.collector);
    encoder_free(whole.whole);
    buf_done(&whole.said);
    buf_done(&parts.said);
}

/* ---- framing ------------------------------------------------------------------------ */

/* Each line as a message; with `chunks` the payload as the base64 in one. */
static void frame(struct span in, bool chunks, struct buf *out)
{
    while (in.p && in.n) {
        struct span line = span_cut(&in, '\n'), payload = line, type = span_cut(&payload, ' ');
        struct buf around;
        buf_init(&around, 0);
        bool exception = span_ends(type, "Exception");
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

static void framed_answers(const struct codec *c, enum framing framing, struct span in, size_t split)
{
    struct buf stream;
    buf_init(&stream, 0);
    frame(in, framing == FRAMING_CHUNKS, &stream);
    answers(c, framing, buf_span(&stream), split);
    buf_done(&stream);
}

/* ---- requests ------------------------------------------------------------------------- */

static void requests(const struct codec *from, const struct codec *to, struct span in)
{
    struct arena a;
    struct request_facts f;
    struct msg_request m;
    struct buf out;
    const char *why = NULL;
    struct request_line line = {.model = SPAN_LIT("us.anthropic.claude-sonnet-4-5")};
    struct write_want want = {.model = line.model};
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    pd_err e = from->read_request(in, &line, &a, &f, &why);
    if (!e)
        e = from->parse_request(&f, &a, &m, &why);
    MUST(e == PD_OK || why);
    if (!e && json_check(in) == PD_OK) {
        struct request_facts again;
        struct msg_request same;
        MUST(msg_link(&m, &a) == PD_OK);
        MUST(to->write_request(&m, &want, &a, &out) == PD_OK);
        MUST(json_check(buf_span(&out)) == PD_OK);
        MUST(to->read_request(buf_span(&out), &line, &a, &again, &why) == PD_OK);
        MUST(to->parse_request(&again, &a, &same, &why) == PD_OK);
    }
    buf_done(&out);
    arena_done(&a);
}

static void base64(struct span in)
{
    struct buf bytes, text;
    buf_init(&bytes, 0);
    buf_init(&text, 0);
    if (base64_decode(in, &bytes) == PD_OK) {
        MUST(base64_encode(buf_span(&bytes), &text) == PD_OK);
        MUST(span_eq(buf_span(&text), in));
    }
    buf_done(&bytes);
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t n = size - 2, split = data[1] * (size_t)(1 + data[0]);
    char *copy = malloc(n ? n : 1);
    MUST(copy);
    if (n)
        memcpy(copy, data + 2, n);
    struct span in = span_of(copy, n);
    switch (data[0] % 9) {
    case 0:
        framed_answers(&codec_bedrock_converse, FRAMING_EVENTSTREAM, in, split);
        break;
    case 1:
        framed_answers(&codec_bedrock_invoke, FRAMING_CHUNKS, in, split);
        break;
    case 2:
        framed_answers(&codec_anthropic, FRAMING_CHUNKS, in, split);
        break;
    case 3:
        answers(&codec_ollama, FRAMING_LINES, in, split);
        break;
    case 4:
        requests(&codec_bedrock_converse, &codec_bedrock_converse, in);
        break;
    case 5:
        requests(&codec_ollama, &codec_ollama, in);
        break;
    case 6:
        requests(&codec_ollama_generate, &codec_bedrock_converse, in);
        break;
    case 7:
        answers(&codec_bedrock_converse, FRAMING_EVENTSTREAM, in, split);
        break;
    default:
        base64(in);
    }
    free(copy);
    return 0;
}
