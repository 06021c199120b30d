/* Answers of Converse: the events of its stream and its whole body, which has the same content blocks. */
#include "dialect/converse_priv.h"
#include "dialect/value_priv.h"

#include "base/mem.h"
#include "parse/base64.h"

/* ---- tools -------------------------------------------------------------------- */

static struct converse_tool *tool_at(struct converse_reader *r, int64_t block)
{
    for (unsigned i = r->tool_count; i > 0; i--)
        if (r->tools[i - 1].block == block)
            return &r->tools[i - 1];
    return NULL;
}

static pd_err tool_add(struct converse_reader *r, int64_t block, struct converse_tool **ret)
{
    if (r->tool_count == ANSWER_TOOLS_MAX)
        return PD_TOOBIG;
    if (r->tool_count == r->tool_room) {
        unsigned room = r->tool_room ? r->tool_room * 2 : 4;
        struct converse_tool *tools = mem_realloc(r->tools, room * sizeof(*tools));
        if (!tools)
            return PD_NOMEM;
        r->tools = tools;
        r->tool_room = room;
    }
    struct converse_tool *t = &r->tools[r->tool_count];
    *t = (struct converse_tool){.block = block, .number = (int)r->tool_count};
    r->tool_count++;
    *ret = t;
    return PD_OK;
}

static pd_err start_tool(struct converse_reader *r, int64_t block, struct json use)
{
    struct converse_tool *t;
    pd_err e = tool_add(r, block, &t);
    if (e)
        return e;
    reader_emit_tool(&r->base, 0, t->number, json_get(use, "toolUseId"), json_get(use, "name"));
    return reader_emit_arguments(&r->base, 0, t->number, json_get(use, "input"));
}

/* Pieces of a call whose start was not seen are a call too: without its name it is of no use, but nothing is hidden. */
static pd_err add_to_tool(struct converse_reader *r, int64_t block, struct json piece)
{
    struct converse_tool *t = tool_at(r, block);
    struct json input = json_get(piece, "input");
    if (!t)
        return start_tool(r, block, piece);
    return reader_emit_arguments(&r->base, 0, t->number, input);
}

/* ---- content ------------------------------------------------------------------ */

static void emit_mark(struct converse_reader *r, enum msg_delta_kind kind, struct span text)
{
    struct msg_delta d = {
        .kind = kind, .tool = -1, .text = text, .maker = MSG_MAKER_ANTHROPIC, .place = r->base.place};
    if (text.n)
        reader_emit(&r->base, &d);
}

/* A blob whose bytes are what Anthropic's own format has as text. */
static pd_err emit_sealed(struct converse_reader *r, struct json v)
{
    struct span text = json_inner(v);
    buf_clear(&r->sealed);
    pd_err e = base64_decode(text, &r->sealed);
    if (e == PD_SYNTAX)
        return PD_OK;
    if (e)
        return e;
    buf_clear(&r->base.scratch);
    e = json_put_str(&r->base.scratch, buf_span(&r->sealed));
    if (!e)
        emit_mark(r, MSG_SEALED, span_of(buf_span(&r->base.scratch).p + 1, buf_size(&r->base.scratch) - 2));
    return e;
}

/* {"text"}, {"signature"}, {"redactedContent"} in a stream; the first two in "reasoningText" in a whole answer. */
static pd_err read_reasoning(struct converse_reader *r, struct json v)
{
    struct json inner = json_get(v, "reasoningText");
    if (inner.type != JSON_OBJECT)
        inner = v;
    reader_emit_text(&r->base, MSG_REASONING, 0, json_get(inner, "text"));
    emit_mark(r, MSG_SIGNATURE, json_inner(json_get(inner, "signature")));
    struct json sealed = json_get(v, "redactedContent");
    return json_inner(sealed).n ? emit_sealed(r, sealed) : PD_OK;
}

static void read_citation(struct converse_reader *r, struct json v)
{
    struct json url = json_path(v, "location.web.url");
    if (url.type != JSON_STRING)
        url = json_get(v, "source");
    struct msg_delta d = {.kind = MSG_CITATION,
                          .tool = -1,
                          .text = json_inner(url),
                          .id = json_inner(json_get(v, "title")),
                          .type = json_inner(json_path(v, "sourceContent.0.text")),
                          .place = r->base.place};
    if (d.text.n || d.id.n)
        reader_emit(&r->base, &d);
}

static void read_image(struct converse_reader *r, struct json image)
{
    struct json format = json_get(image, "format");
    if (format.type == JSON_STRING)
        r->image_format = converse_format_by_word(MSG_IMAGE, json_inner(format));
    struct msg_delta d = {.kind = MSG_MEDIA,
                          .tool = -1,
                          .text = json_inner(json_path(image, "source.bytes")),
                          .type = span_str(r->image_format ? r->image_format->type : ""),
                          .place = r->base.place};
    if (d.text.n)
        reader_emit(&r->base, &d);
}

/* {"content": [{"text"}], "citations": [...]}. */
static void read_cited(struct converse_reader *r, struct json v)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, json_get(v, "content"));
    while (json_walk_next(&w, NULL, &item))
        reader_emit_text(&r->base, MSG_TEXT, 0, json_get(item, "text"));
    json_walk_init(&w, json_get(v, "citations"));
    while (json_walk_next(&w, NULL, &item))
        read_citation(r, item);
}

/* A block of a whole answer, or the delta of one: the members have the same names. What tools that the server runs gave
 * back is the model's affair. */
static pd_err read_block(struct converse_reader *r, int64_t block, struct json v, bool whole)
{
    struct json_walk w;
    struct span key;
    struct json m;
    pd_err e = PD_OK;
    json_walk_init(&w, v);
    while (!e && json_walk_next(&w, &key, &m)) {
        if (json_key_is(key, "text"))
            reader_emit_text(&r->base, MSG_TEXT, 0, m);
        else if (json_key_is(key, "toolUse"))
            e = whole ? start_tool(r, block, m) : add_to_tool(r, block, m);
        else if (json_key_is(key, "reasoningContent"))
            e = read_reasoning(r, m);
        else if (json_key_is(key, "citation"))
            read_citation(r, m);
        else if (json_key_is(key, "citationsContent"))
            read_cited(r, m);
        else if (json_key_is(key, "image"))
            read_image(r, m);
    }
    return e;
}

/* ---- the end of it ------------------------------------------------------------ */

static enum msg_finish finish_of(struct json word)
{
    static const struct value_finish rows[] = {
        {"end_turn", MSG_FINISH_STOP},
        {"tool_use", MSG_FINISH_TOOL_CALLS},
        {"max_tokens", MSG_FINISH_LENGTH},
        {"stop_sequence", MSG_FINISH_STOP},
        {"guardrail_intervened", MSG_FINISH_CONTENT_FILTER},
        {"content_filtered", MSG_FINISH_CONTENT_FILTER},
        {"model_context_window_exceeded", MSG_FINISH_LENGTH},
        {"malformed_model_output", MSG_FINISH_ERROR},
        {"malformed_tool_use", MSG_FINISH_ERROR},
    };
    return value_finish(rows, sizeof(rows) / sizeof(rows[0]), word);
}

static pd_err take_finish(struct converse_reader *r, struct json word, unsigned *holds)
{
    struct answer_facts *f = &r->base.facts;
    if (json_inner(word).n == 0)
        return PD_OK;
    r->word = finish_of(word);
    *holds |= ANSWER_FINISH;
    f->finish = r->word == MSG_FINISH_STOP && f->has_tool_calls ? MSG_FINISH_TOOL_CALLS : r->word;
    return reader_keep_finish(&r->base, word);
}

/* Input is told without what came from a cache or went into one. The names of old are sent with zeros by models that have no
 * cache at all: these say nothing. */
static int64_t cache_count(struct json usage, const char *name, const char *old)
{
    int64_t n = reader_count(usage, name);
    if (n < 0)
        n = reader_count(usage, old);
    else
        return n;
    return n > 0 ? n : -1;
}

static pd_err take_usage(struct converse_reader *r, struct json usage, unsigned *holds)
{
    if (usage.type != JSON_OBJECT)
        return PD_OK;
    int64_t input = reader_count(usage, "inputTokens");
    struct msg_usage u = {
        .cache_read = cache_count(usage, "cacheReadInputTokens", "cacheReadInputTokenCount"),
        .cache_write = cache_count(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount"),
        .output_total = reader_count(usage, "outputTokens"),
        .reasoning = -1,
    };
    u.input_total = input < 0 ? -1 : reader_sum(reader_sum(input, u.cache_read), u.cache_write);
    if (u.input_total < 0 && u.output_total < 0)
        return PD_OK;
    return reader_keep_usage(&r->base, usage, &u, holds);
}

/* ---- events ------------------------------------------------------------------- */

static int64_t block_of(struct json obj)
{
    int64_t n;
    return json_i64(json_get(obj, "contentBlockIndex"), &n) ? n : 0;
}

static pd_err read_start(struct converse_reader *r, struct json obj)
{
    struct json start = json_get(obj, "start"), use = json_get(start, "toolUse"), image = json_get(start, "image");
    r->image_format = NULL;
    if (image.type == JSON_OBJECT)
        r->image_format = converse_format_by_word(MSG_IMAGE, json_inner(json_get(image, "format")));
    pd_err e = use.type == JSON_OBJECT ? start_tool(r, block_of(obj), use) : PD_OK;
    if (!e)
        reader_emit_step(&r->base, MSG_STEP_OPENED,
                         use.type == JSON_OBJECT ? SPAN_LIT("toolUse") : SPAN_LIT("image"), SPAN_NONE);
    return e;
}

/* The report of usage is the last event: it is held back until the body's end has proved that nothing is missing. */
static pd_err read_metadata(struct converse_reader *r, struct json obj, unsigned *holds)
{
    if (r->word != MSG_FINISH_NONE) {
        *holds |= ANSWER_DONE;
        r->base.facts.done = true;
    }
    return take_usage(r, json_get(obj, "usage"), holds);
}

static void note_output(struct converse_reader *r, uint64_t before, bool had, unsigned *holds)
{
    if (r->base.facts.output_bytes != before || r->base.facts.has_output != had)
        *holds |= ANSWER_OUTPUT;
}

pd_err converse_read_event(struct converse_reader *r, struct span type, struct json obj, unsigned *holds)
{
    uint64_t before = r->base.facts.output_bytes;
    bool had = r->base.facts.has_output;
    unsigned tools = r->tool_count;
    pd_err e = PD_OK;
    r->base.place = span_starts(type, "contentBlock") ? reader_place(block_of(obj)) : 0;
    if (span_is(type, "contentBlockDelta"))
        e = read_block(r, block_of(obj), json_get(obj, "delta"), false);
    else if (span_is(type, "contentBlockStart"))
        e = read_start(r, obj);
    else if (span_is(type, "contentBlockStop"))
        reader_emit_step(&r->base, MSG_STEP_CLOSED, SPAN_NONE, SPAN_NONE);
    else if (span_is(type, "messageStop"))
        e = take_finish(r, json_get(obj, "stopReason"), holds);
    else if (span_is(type, "metadata"))
        e = read_metadata(r, obj, holds);
    if (*holds & ANSWER_FINISH)
        reader_emit_step(&r->base, MSG_STEP_FINISHED, SPAN_NONE, SPAN_NONE);
    note_output(r, before, had, holds);
    if (r->tool_count != tools)
        *holds |= ANSWER_OUTPUT;
    return e;
}

static pd_err read_whole(struct converse_reader *r, struct json obj, unsigned *holds)
{
    struct json_walk w;
    struct json block;
    int64_t n = 0;
    json_walk_init(&w, json_path(obj, "output.message.content"));
    while (json_walk_next(&w, NULL, &block)) {
        pd_err e = read_block(r, n++, block, true);
        if (e)
            return e;
    }
    note_output(r, 0, false, holds);
    pd_err e = take_finish(r, json_get(obj, "stopReason"), holds);
    return e ? e : take_usage(r, json_get(obj, "usage"), holds);
}

/* {"message"}, sometimes {"Message"} or {"__type"}: nothing else says so when the status is 200. */
static bool is_error(struct json obj)
{
    return json_get(obj, "output").type == JSON_NONE &&
           (json_get(obj, "message").type == JSON_STRING || json_get(obj, "Message").type == JSON_STRING ||
            json_get(obj, "__type").type == JSON_STRING);
}

static pd_err read_object(struct reader *base, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct converse_reader *r = (struct converse_reader *)base;
    *ret_holds = 0;
    *ret_error = (struct json){0};
    if (type.n)
        return converse_read_event(r, type, obj, ret_holds);
    if (is_error(obj) || answer_error_in(obj).type != JSON_NONE) {
        *ret_error = obj;
        *ret_holds = ANSWER_ERROR;
        base->facts.error = true;
        return PD_OK;
    }
    return read_whole(r, obj, ret_holds);
}

/* ---- how it stands ------------------------------------------------------------- */

enum answer_end converse_end(const struct reader *base)
{
    const struct converse_reader *r = (const struct converse_reader *)base;
    const struct answer_facts *f = &base->facts;
    if (f->error)
        return ANSWER_FAILED;
    if (r->word == MSG_FINISH_NONE)
        return f->has_output || f->events ? ANSWER_CUT : ANSWER_EMPTY;
    if (r->word == MSG_FINISH_ERROR)
        return ANSWER_CUT;
    /* An end at the client's own stop sequence may come before the first word. */
    bool said_why = r->word != MSG_FINISH_STOP || span_is(f->finish_raw, "stop_sequence");
    return f->has_output || said_why ? ANSWER_COMPLETE : ANSWER_EMPTY;
}

static void init(struct reader *r)
{
    buf_init(&((struct converse_reader *)r)->sealed, 0); /* as large as an event at most */
}

void converse_reader_done(struct converse_reader *r)
{
    buf_done(&r->sealed);
    mem_free(r->tools);
    r->tools = NULL;
}

static void done(struct reader *r)
{
    converse_reader_done((struct converse_reader *)r);
}

const struct reader_ops converse_reader_ops = {
    .bytes = sizeof(struct converse_reader),
    .init = init,
    .done = done,
    .read = read_object,
    .end = converse_end,
};
