/* fuzz_responses.c - two promises of the OpenAI Responses format.
 *
 * An answer says the same whether its bytes come whole or in parts, and what is collected from it is JSON. A request that is taken can be
 * written again, and is then read to the same; fitted for another format it can be written there. The first byte chooses between
 * the two, the second the split; the rest is the body. */
#include "base/arena.h"
#include "dialect/carry.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static const struct codec *const responses = &codec_openai_responses;

/* ---- answers ---------------------------------------------------------------------- */

struct seen {
    struct buf said;
    struct collector *collector;
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
    if (!seen->collector || ev->json.type != JSON_OBJECT)
        return PD_OK;
    pd_err e = collector_add(seen->collector, ev->type, ev->json);
    MUST(e == PD_OK || e == PD_TOOBIG);
    return e;
}

static pd_err feed(struct answer *an, struct span s)
{
    char *copy = malloc(s.n ? s.n : 1); /* memory of its own, so that reading past it shows */
    MUST(copy);
    if (s.n)
        memcpy(copy, s.p, s.n);
    pd_err e = answer_feed(an, span_of(copy, s.n));
    free(copy);
    return e;
}

static pd_err run(struct span in, size_t first, size_t step, struct seen *seen)
{
    struct answer *an = answer_new(responses, FRAMING_LINES, on_event, seen);
    enum answer_end end = ANSWER_EMPTY;
    pd_err e = PD_OK;
    MUST(an);
    answer_on_delta(an, on_delta, seen);
    for (size_t at = 0, n = first; at < in.n && !e; at += n, n = step)
        e = feed(an, span_upto(span_from(in, at), n));
    if (!e)
        e = answer_finish(an, &end);
    const struct answer_facts *f = answer_facts(an);
    put(&seen->said, end, f->finish_raw);
    put(&seen->said, f->finish, f->id);
    put(&seen->said, f->events, f->model);
    put(&seen->said, f->malformed, f->usage_raw);
    MUST(end != ANSWER_COMPLETE || f->events);
    an = answer_free(an);
    return e;
}

static void use_collected(struct collector *k)
{
    struct buf body;
    struct arena a;
    struct answer_facts facts;
    enum answer_end end;
    arena_init(&a, 0, 0);
    buf_init(&body, 0);
    pd_err e = collector_write(k, &body);
    MUST(e == PD_OK || e == PD_INVALID);
    if (!e) {
        MUST(json_check(buf_span(&body)) == PD_OK);
        e = answer_read_whole(responses, buf_span(&body), &a, &facts, &end, NULL, NULL);
        MUST(e == PD_OK || e == PD_TOOBIG);
    }
    buf_done(&body);
    arena_done(&a);
}

static void answers(struct span in, size_t split)
{
    struct seen whole = {0}, parts = {0};
    whole.collector = collector_new(responses, 1 << 20);
    MUST(whole.collector);
    pd_err e = run(in, in.n, 1, &whole);
    MUST(e == PD_OK || e == PD_TOOBIG);
    if (!e) {
        MUST(run(in, split % (in.n + 1), split % 7 + 1, &parts) == PD_OK);
        MUST(buf_size(&whole.said) == buf_size(&parts.said));
        MUST(memcmp(buf_span(&whole.said).p, buf_span(&parts.said).p, buf_size(&whole.said)) == 0);
        use_collected(whole.collector);
    }
    collector_free(whole.collector);
    buf_done(&whole.said);
    buf_done(&parts.said);
}

/* ---- requests --------------------------------------------------------------------- */

static bool parse(struct span body, struct arena *a, struct msg_request *m)
{
    struct request_facts f;
    const char *why = NULL;
    pd_err e = responses->read_request(body, &(struct request_line){0}, a, &f, &why);
    if (!e)
        e = responses->parse_request(&f, a, m, &why);
    MUST(e == PD_OK || ((e == PD_SYNTAX || e == PD_INVALID || e == PD_UNSUPPORTED) && why));
    return e == PD_OK;
}

static void edit(struct span body, struct arena *a)
{
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    struct request_edit ed = {
        .model = SPAN_LIT("new"), .strip_foreign = true, .force_stream = true, .want_usage = true};
    struct buf out;
    unsigned count = 0;
    const char *why = NULL;
    buf_init(&out, 0);
    if (responses->read_request(body, &(struct request_line){0}, a, &f, &why) == PD_OK) {
        MUST(responses->edit_request(&f, &ed, a, parts, &count) == PD_OK && count <= REQUEST_PARTS_MAX);
        for (unsigned i = 0; i < count; i++)
            MUST(buf_add(&out, parts[i]) == PD_OK);
        MUST(json_check(body) != PD_OK || json_check(buf_span(&out)) == PD_OK);
    }
    buf_done(&out);
}

static void write_in(const struct codec *to, const struct msg_request *m, struct arena *a, struct buf *out)
{
    struct write_want want = {.model = SPAN_LIT("m"), .stream = m->stream};
    MUST(to->write_request(m, &want, a, out) == PD_OK);
    MUST(json_check(buf_span(out)) == PD_OK);
}

static void fit_in(const struct codec *to, struct span body, struct arena *a)
{
    struct msg_request m;
    struct write_want want = {.model = SPAN_LIT("m")};
    struct buf out;
    const char *why = NULL;
    buf_init(&out, 0);
    MUST(parse(body, a, &m));
    pd_err e = carry_fit(&m, to, &want, a, &why);
    MUST(e == PD_OK || (e == PD_UNSUPPORTED && why));
    if (!e)
        write_in(to, &m, a, &out);
    buf_done(&out);
}

static void requests(struct span in)
{
    struct arena a;
    struct msg_request m, again;
    struct buf once, twice;
    arena_init(&a, 0, 0);
    buf_init(&once, 0);
    buf_init(&twice, 0);
    edit(in, &a);
    if (json_check(in) == PD_OK &&
        parse(in, &a, &m)) { /* a body is not validated inside before it is translated: see relay */
        write_in(responses, &m, &a, &once);
        MUST(parse(buf_span(&once), &a, &again));
        write_in(responses, &again, &a, &twice);
        MUST(span_eq(buf_span(&once), buf_span(&twice)));
        fit_in(&codec_openai_chat, in, &a);
        fit_in(&codec_anthropic, in, &a);
    }
    buf_done(&once);
    buf_done(&twice);
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t n = size - 2;
    char *copy = malloc(n ? n : 1);
    MUST(copy);
    if (n)
        memcpy(copy, data + 2, n);
    struct span in = span_of(copy, n);
    if (data[0] & 1)
        requests(in);
    else
        answers(in, data[1] * (size_t)(1 + data[0]));
    free(copy);
    return 0;
}
