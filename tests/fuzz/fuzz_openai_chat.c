/* fuzz_openai_chat.c - two promises of the OpenAI chat dialect.
 *
 * An answer says the same whether its bytes come whole or in parts, and what is collected from it is JSON that can be
 * expanded again. A request, edited, differs in the edited members only. The first byte chooses between the two and the
 * edits, the second one the split; the rest is the body. */
#include "base/arena.h"
#include "dialect/codec.h"
#include "dialect/models.h"

#include <stdlib.h>

#define MUST(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static const struct codec *const chat = &codec_openai_chat;

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
    put(&seen->said, (unsigned)d->choice, d->id);
    put(&seen->said, (unsigned)d->tool, SPAN_NONE);
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

static pd_err run(struct span in, size_t first, size_t step, struct seen *seen)
{
    struct answer *an = answer_new(chat, FRAMING_LINES, on_event, seen);
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
    put(&seen->said, f->comments, f->usage_raw);
    put(&seen->said, f->malformed, span_of((const char *)&f->usage, sizeof(f->usage)));
    MUST(end != ANSWER_COMPLETE || f->events);
    an = answer_free(an);
    return e;
}

static void use_collected(struct collector *k)
{
    struct buf body, stream;
    struct answer_facts facts;
    enum answer_end end;
    struct arena a;
    arena_init(&a, 0, 0);
    buf_init(&body, 0);
    buf_init(&stream, 0);
    MUST(collector_write(k, &body) == PD_OK);
    MUST(json_check(buf_span(&body)) == PD_OK);
    MUST(answer_expand(chat, buf_span(&body), true, &stream) == PD_OK);
    pd_err e = answer_read_whole(chat, buf_span(&body), &a, &facts, &end, NULL, NULL);
    MUST(e == PD_OK || e == PD_TOOBIG);
    buf_done(&body);
    buf_done(&stream);
    arena_done(&a);
}

static void answers(struct span in, size_t split)
{
    struct seen whole = {0}, parts = {0};
    whole.collector = collector_new(chat, 1 << 20);
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

static bool is_edited(struct span key)
{
    return json_key_is(key, "model") || json_key_is(key, "stream") || json_key_is(key, "stream_options");
}

/* The next member that no edit touches. */
static bool next_other(struct json_walk *w, struct span *key, struct json *v)
{
    while (json_walk_next(w, key, v))
        if (!is_edited(*key))
            return true;
    return false;
}

static void same_others(struct span a, struct span b)
{
    struct json_walk wa, wb;
    struct span ka, kb;
    struct json va, vb;
    json_walk_doc(&wa, a);
    json_walk_doc(&wb, b);
    while (next_other(&wa, &ka, &va)) {
        MUST(next_other(&wb, &kb, &vb));
        MUST(span_eq(ka, kb) && span_eq(va.raw, vb.raw));
    }
    MUST(!next_other(&wb, &kb, &vb));
    MUST(wa.err == PD_OK && wb.err == PD_OK);
}

static void check_edit(const struct request_facts *f, const struct request_edit *ed, struct arena *a)
{
    struct span parts[REQUEST_PARTS_MAX];
    struct request_facts again;
    unsigned count = 0;
    const char *why = NULL;
    struct buf out;
    buf_init(&out, 0);
    MUST(chat->edit_request(f, ed, a, parts, &count) == PD_OK && count <= REQUEST_PARTS_MAX);
    for (unsigned i = 0; i < count; i++)
        MUST(buf_add(&out, parts[i]) == PD_OK);
    MUST(chat->read_request(buf_span(&out), &(struct request_line){0}, a, &again, &why) == PD_OK);
    same_others(f->body, buf_span(&out));
    MUST(json_check(f->body) != PD_OK || json_check(buf_span(&out)) == PD_OK);
    MUST(again.stream == (ed->force_stream || (f->stream && !ed->forbid_stream)));
    MUST(!ed->want_usage || !again.stream || again.include_usage);
    MUST(!ed->forbid_stream || again.options_count == 0);
    MUST(ed->model.p ? span_eq(again.model, ed->model) : span_eq(again.model, f->model));
    MUST(again.prefix_hash == f->prefix_hash && again.continues == f->continues);
    buf_done(&out);
}

static void requests(struct span in, unsigned choice)
{
    struct arena a;
    struct request_facts f;
    const char *why = NULL;
    arena_init(&a, 0, 0);
    pd_err e = chat->read_request(in, &(struct request_line){0}, &a, &f, &why);
    MUST(e == PD_OK || ((e == PD_SYNTAX || e == PD_INVALID) && why));
    MUST(e == PD_OK || e == PD_INVALID || json_check(in) != PD_OK || !in.n || span_trim(in).p[0] != '{');
    struct request_edit ed = {.model = choice & 2 ? SPAN_LIT("new\"") : SPAN_NONE,
                              .force_stream = (choice & 12) == 4,
                              .forbid_stream = (choice & 12) == 8,
                              .want_usage = choice & 16};
    if (!e)
        check_edit(&f, &ed, &a);
    arena_done(&a);
}

static pd_err on_model(void *ctx, struct span id)
{
    *(size_t *)ctx += id.n;
    return PD_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t n = size - 2, bytes = 0;
    char *copy = malloc(n ? n : 1);
    MUST(copy);
    if (n)
        memcpy(copy, data + 2, n);
    struct span in = span_of(copy, n);
    if (data[0] & 1)
        requests(in, data[0]);
    else
        answers(in, data[1] * (size_t)(1 + data[0]));
    pd_err e = models_read(in, on_model, &bytes);
    MUST(e == PD_OK || e == PD_SYNTAX || e == PD_INVALID);
    free(copy);
    return 0;
}
