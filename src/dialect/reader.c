/* What the readers of all formats share: what is kept of an answer, and how deltas are told. */
#include "dialect/reader_priv.h"

#include "base/mem.h"

pd_err reader_new(const struct codec *c, struct arena *a, bool whole, struct reader **ret)
{
    struct reader *r = mem_zalloc(c->reader->bytes);
    if (!r)
        return PD_NOMEM;
    r->codec = c;
    r->arena = a;
    r->whole = whole;
    r->facts.usage = MSG_USAGE_NONE;
    buf_init(&r->usage, ANSWER_USAGE_MAX);
    buf_init(&r->scratch, 0); /* as large as an event at most, and six times that when all of it is escaped */
    if (c->reader->init)
        c->reader->init(r);
    *ret = r;
    return PD_OK;
}

struct reader *reader_free(struct reader *r)
{
    if (!r)
        return NULL;
    if (r->codec->reader->done)
        r->codec->reader->done(r);
    buf_done(&r->usage);
    buf_done(&r->scratch);
    mem_free(r);
    return NULL;
}

/* ---- deltas ------------------------------------------------------------------ */

void reader_emit(struct reader *r, const struct msg_delta *d)
{
    switch (d->kind) {
    case MSG_TEXT:
    case MSG_REASONING:
    case MSG_REFUSAL:
    case MSG_TOOL_ARGUMENTS:
        r->facts.output_bytes += d->text.n;
        r->facts.has_output = true;
        break;
    case MSG_TOOL_START:
        r->facts.has_tool_calls = r->facts.has_output = true;
        break;
    case MSG_SEALED:
    case MSG_MEDIA:
    case MSG_HOSTED:
    case MSG_SIGNATURE: /* some answer with reasoning of which only the signature is shown */
        r->facts.has_output = true;
        break;
    case MSG_CITATION:
    case MSG_LOGPROBS:
    case MSG_STEP:
        break;
    }
    if (r->on_delta)
        r->on_delta(r->ctx, d);
}

void reader_emit_step(struct reader *r, enum msg_step step, struct span word, struct span more)
{
    if (r->on_delta && (r->place || step == MSG_STEP_FINISHED))
        r->on_delta(r->ctx, &(struct msg_delta){.kind = MSG_STEP,
                                                .tool = -1,
                                                .step = step,
                                                .type = word,
                                                .id = more,
                                                .place = r->place,
                                                .item = r->item});
}

int reader_place(int64_t index)
{
    return index >= 0 && index < INT32_MAX ? (int)index + 1 : 0;
}

void reader_emit_text(struct reader *r, enum msg_delta_kind kind, int choice, struct json v)
{
    struct span text = json_inner(v);
    if (text.n)
        reader_emit(
            r, &(struct msg_delta){
                   .kind = kind, .choice = choice, .tool = -1, .text = text, .place = r->place, .item = r->item});
}

void reader_emit_tool(struct reader *r, int choice, int tool, struct json id, struct json name)
{
    reader_emit(r, &(struct msg_delta){.kind = MSG_TOOL_START,
                                       .choice = choice,
                                       .tool = tool,
                                       .text = json_inner(name),
                                       .id = json_inner(id),
                                       .place = r->place,
                                       .item = r->item});
}

/* Arguments as text: a string's inside, or the object itself, escaped. */
pd_err reader_arguments(struct reader *r, struct json v, struct span *ret)
{
    *ret = json_inner(v);
    if (v.type != JSON_OBJECT && v.type != JSON_ARRAY)
        return PD_OK;
    buf_clear(&r->scratch);
    pd_err e = json_put_str(&r->scratch, v.raw);
    if (!e)
        *ret = span_of(buf_span(&r->scratch).p + 1, buf_size(&r->scratch) - 2);
    return e;
}

pd_err reader_emit_arguments(struct reader *r, int choice, int tool, struct json v)
{
    struct span text;
    pd_err e = reader_arguments(r, v, &text);
    if (!e && text.n)
        reader_emit(r, &(struct msg_delta){.kind = MSG_TOOL_ARGUMENTS,
                                           .choice = choice,
                                           .tool = tool,
                                           .text = text,
                                           .place = r->place,
                                           .item = r->item});
    return e;
}

/* ---- what is kept ------------------------------------------------------------ */

/* The first text that is not empty stays: later events repeat it. */
pd_err reader_keep_word(struct reader *r, struct span *kept, struct json v)
{
    struct span inner = json_inner(v), text;
    if (kept->n || inner.n == 0 || inner.n > ANSWER_WORD_MAX)
        return PD_OK;
    pd_err e = json_text(v, r->arena, &text);
    if (e)
        return e == PD_NOMEM ? e : PD_OK;
    if (text.p == inner.p && !r->whole) {
        text = arena_span(r->arena, text);
        if (!text.p)
            return PD_NOMEM;
    }
    *kept = text;
    return PD_OK;
}

pd_err reader_keep_finish(struct reader *r, struct json v)
{
    struct span inner = json_inner(v), text;
    if (r->whole) {
        pd_err e = json_text(v, r->arena, &text);
        if (e == PD_NOMEM)
            return e;
        r->facts.finish_raw = e ? inner : text;
        return PD_OK;
    }
    text = span_upto(inner, ANSWER_FINISH_MAX);
    if (text.n)
        memcpy(r->finish_word, text.p, text.n);
    r->facts.finish_raw = span_of(r->finish_word, text.n);
    return PD_OK;
}

static void overlay(int64_t *kept, int64_t n)
{
    if (n >= 0)
        *kept = n;
}

pd_err reader_keep_usage(struct reader *r, struct json usage, const struct msg_usage *u, unsigned *holds)
{
    struct msg_usage *kept = &r->facts.usage;
    overlay(&kept->input_total, u->input_total);
    overlay(&kept->cache_read, u->cache_read);
    overlay(&kept->cache_write, u->cache_write);
    overlay(&kept->output_total, u->output_total);
    overlay(&kept->reasoning, u->reasoning);
    *holds |= ANSWER_USAGE;
    r->facts.usage_raw = usage.raw;
    if (r->whole)
        return PD_OK;
    buf_clear(&r->usage);
    pd_err e = buf_add(&r->usage, usage.raw);
    if (e == PD_NOMEM)
        return e;
    r->facts.usage_raw = e ? SPAN_NONE : buf_span(&r->usage);
    return PD_OK;
}

int64_t reader_count(struct json usage, const char *path)
{
    int64_t n;
    return json_i64(json_path(usage, path), &n) && n >= 0 ? n : -1;
}

int64_t reader_sum(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : a > INT64_MAX - b ? INT64_MAX : a + b;
}
