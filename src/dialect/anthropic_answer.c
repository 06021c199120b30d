/* Anthropic's answers: events of a stream, or a whole message.
 *
 * Blocks are known by their index, for relays mix them. Unknown events, blocks and deltas are stepped over, as the format's
 * versioning rules want. At Bedrock the same objects come out of an event stream's chunks; their own "type" tells what they are. */
#include "dialect/anthropic_priv.h"
#include "dialect/value_priv.h"

enum {
    OPEN_MAX =
        64, /* blocks open at once; the format has one. Deltas of those beyond are relayed but not followed */
};

/* A block between its start and its stop. */
struct open_block {
    int64_t index;
    int tool;         /* number of the call; -1: no call of the client's */
    bool told;        /* a piece of its arguments was handed on */
    struct buf input; /* arguments that stood in its start, escaped: they count when no piece follows */
};

struct anthropic_reader {
    struct reader base;
    struct open_block open[OPEN_MAX];
    unsigned open_count;
    int tool_count;
    enum msg_finish word; /* what its own word says, before the content is looked at */
    bool started;         /* there was a message_start */
};

static void done(struct reader *base)
{
    struct anthropic_reader *r = (struct anthropic_reader *)base;
    for (unsigned i = 0; i < r->open_count; i++)
        buf_done(&r->open[i].input);
}

/* ---- words -------------------------------------------------------------------- */

static enum msg_finish finish_of(struct json word)
{
    static const struct value_finish rows[] = {
        {"end_turn", MSG_FINISH_STOP},
        {"stop_sequence", MSG_FINISH_STOP},
        {"max_tokens", MSG_FINISH_LENGTH},
        {"model_context_window_exceeded", MSG_FINISH_LENGTH},
        {"tool_use", MSG_FINISH_TOOL_CALLS},
        {"pause_turn", MSG_FINISH_PAUSE},
        {"refusal", MSG_FINISH_REFUSAL},
        /* of servers that speak this format with their own words */
        {"stop", MSG_FINISH_STOP},
        {"length", MSG_FINISH_LENGTH},
        {"tool_calls", MSG_FINISH_TOOL_CALLS},
        {"content_filter", MSG_FINISH_CONTENT_FILTER},
        {"content_filtered", MSG_FINISH_CONTENT_FILTER},
        {"guardrail_intervened", MSG_FINISH_CONTENT_FILTER},
        {"sensitive", MSG_FINISH_CONTENT_FILTER},
        {"error", MSG_FINISH_ERROR},
        {"network_error", MSG_FINISH_ERROR},
    };
    return value_finish(rows, sizeof(rows) / sizeof(rows[0]), word);
}

bool anthropic_usage(struct json usage, struct msg_usage *ret)
{
    *ret = (struct msg_usage){
        .input_total = reader_count(usage, "input_tokens"),
        .cache_read = reader_count(usage, "cache_read_input_tokens"),
        .cache_write = reader_count(usage, "cache_creation_input_tokens"),
        .output_total = reader_count(usage, "output_tokens"),
        .reasoning = reader_count(usage, "output_tokens_details.thinking_tokens"),
    };
    if (usage.type != JSON_OBJECT || (ret->input_total < 0 && ret->output_total < 0))
        return false;
    return true;
}

/* ---- finish and usage ------------------------------------------------------------ */

/* Counts of the parts overlay what was reported before; the total is made from what holds then. */
static pd_err take_usage(struct anthropic_reader *r, struct json usage, unsigned *holds)
{
    struct msg_usage u, *kept = &r->base.facts.usage;
    if (!anthropic_usage(usage, &u))
        return PD_OK;
    int64_t read = u.cache_read >= 0 ? u.cache_read : kept->cache_read;
    int64_t write = u.cache_write >= 0 ? u.cache_write : kept->cache_write;
    int64_t before =
        (kept->cache_read > 0 ? kept->cache_read : 0) + (kept->cache_write > 0 ? kept->cache_write : 0);
    int64_t plain = u.input_total >= 0 ? u.input_total : kept->input_total >= 0 ? kept->input_total - before : -1;
    u.input_total = plain < 0 ? -1 : plain + (read > 0 ? read : 0) + (write > 0 ? write : 0);
    return reader_keep_usage(&r->base, usage, &u, holds);
}

static pd_err take_stop(struct anthropic_reader *r, struct json reason, struct json sequence, unsigned *holds)
{
    if (json_inner(reason).n == 0)
        return PD_OK;
    *holds |= ANSWER_FINISH;
    r->word = finish_of(reason);
    pd_err e = reader_keep_finish(&r->base, reason);
    struct span text = json_inner(sequence);
    if (e || text.n == 0 || text.n > ANSWER_WORD_MAX)
        return e;
    r->base.facts.stop_sequence = arena_span(r->base.arena, text);
    return r->base.facts.stop_sequence.p ? PD_OK : PD_NOMEM;
}

/* ---- blocks ---------------------------------------------------------------------- */

static struct open_block *find_open(struct anthropic_reader *r, int64_t index)
{
    for (unsigned i = r->open_count; i > 0; i--)
        if (r->open[i - 1].index == index)
            return &r->open[i - 1];
    return NULL;
}

static void emit_signature(struct anthropic_reader *r, struct json v)
{
    struct span text = json_inner(v);
    if (text.n)
        reader_emit(&r->base, &(struct msg_delta){.kind = MSG_SIGNATURE,
                                                  .tool = -1,
                                                  .text = text,
                                                  .maker = MSG_MAKER_ANTHROPIC,
                                                  .place = r->base.place});
}

/* What the text told last rests on. Places in a document that has no address have no form elsewhere. */
static void emit_citation(struct anthropic_reader *r, struct json v)
{
    struct span url = json_inner(json_get(v, "url"));
    if (url.n == 0)
        url = json_inner(json_get(v, "source"));
    if (url.n)
        reader_emit(&r->base, &(struct msg_delta){.kind = MSG_CITATION,
                                                  .tool = -1,
                                                  .text = url,
                                                  .id = json_inner(json_get(v, "title")),
                                                  .type = json_inner(json_get(v, "cited_text")),
                                                  .place = r->base.place});
}

static void emit_citations(struct anthropic_reader *r, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item))
        emit_citation(r, item);
}

static bool has_members(struct json v)
{
    struct json_walk w;
    struct json member;
    json_walk_init(&w, v);
    return json_walk_next(&w, NULL, &member);
}

/* A call begins. Arguments in its start are its own when it is whole, else they wait (compatible servers put them
 * there; some of these send them in pieces too). */
static pd_err start_tool(struct anthropic_reader *r, struct json block, int *ret_tool, struct buf *waits)
{
    if (r->tool_count == ANSWER_TOOLS_MAX)
        return PD_TOOBIG;
    *ret_tool = r->tool_count++;
    reader_emit_tool(&r->base, 0, *ret_tool, json_get(block, "id"), json_get(block, "name"));
    struct json input = json_get(block, "input");
    if (!waits)
        return reader_emit_arguments(&r->base, 0, *ret_tool, input);
    if (!has_members(input))
        return PD_OK;
    struct span text;
    pd_err e = reader_arguments(&r->base, input, &text);
    return e ? e : buf_add(waits, text);
}

/* What stands in a block as it starts, or in a block of a whole message. */
static pd_err take_block(struct anthropic_reader *r, struct json block, int *ret_tool, struct buf *waits)
{
    struct json type = json_get(block, "type");
    if (json_is(type, "tool_use"))
        return start_tool(r, block, ret_tool, waits);
    if (json_is(type, "text")) {
        reader_emit_text(&r->base, MSG_TEXT, 0, json_get(block, "text"));
        emit_citations(r, json_get(block, "citations"));
    } else if (json_is(type, "thinking")) {
        reader_emit_text(&r->base, MSG_REASONING, 0, json_get(block, "thinking"));
        emit_signature(r, json_get(block, "signature"));
    } else if (json_is(type, "redacted_thinking")) {
        reader_emit(&r->base, &(struct msg_delta){.kind = MSG_SEALED,
                                                  .tool = -1,
                                                  .text = json_inner(json_get(block, "data")),
                                                  .maker = MSG_MAKER_ANTHROPIC,
                                                  .place = r->base.place});
    } else {
        r->base.facts.has_output =
            true; /* a tool that the provider runs, its result: shown in this format alone */
    }
    return PD_OK;
}

/* A call without a piece of arguments: those of its start, or none. */
static void tell_input(struct anthropic_reader *r, const struct open_block *b)
{
    if (b->tool < 0 || b->told)
        return;
    struct span text = buf_size(&b->input) ? buf_span(&b->input) : SPAN_LIT("{}");
    reader_emit(&r->base,
                &(struct msg_delta){
                    .kind = MSG_TOOL_ARGUMENTS, .tool = b->tool, .text = text, .place = reader_place(b->index)});
}

static void stop_block(struct anthropic_reader *r, int64_t index)
{
    struct open_block *b = find_open(r, index);
    if (!b)
        return;
    tell_input(r, b);
    buf_done(&b->input);
    *b = r->open[--r->open_count];
}

/* A block that was not stopped is over when the answer is. */
static void stop_all(struct anthropic_reader *r)
{
    while (r->open_count)
        stop_block(r, r->open[0].index);
}

static pd_err start_block(struct anthropic_reader *r, int64_t index, struct json block)
{
    int tool = -1;
    stop_block(r, index); /* the same index again: another block */
    if (r->open_count == OPEN_MAX)
        return take_block(r, block, &tool, NULL);
    struct open_block *b = &r->open[r->open_count++];
    *b = (struct open_block){.index = index, .tool = -1};
    buf_init(&b->input, ANSWER_EVENT_MAX);
    pd_err e = take_block(r, block, &b->tool, &b->input);
    if (!e)
        reader_emit_step(&r->base, MSG_STEP_OPENED, json_inner(json_get(block, "type")), SPAN_NONE);
    return e;
}

static void add_arguments(struct anthropic_reader *r, int64_t index, struct json piece)
{
    struct open_block *b = find_open(r, index);
    struct span text = json_inner(piece);
    if (!b || b->tool < 0 || text.n == 0)
        return;
    b->told = true;
    reader_emit(&r->base, &(struct msg_delta){
                              .kind = MSG_TOOL_ARGUMENTS, .tool = b->tool, .text = text, .place = r->base.place});
}

static void take_delta(struct anthropic_reader *r, int64_t index, struct json delta)
{
    struct json type = json_get(delta, "type");
    if (json_is(type, "text_delta"))
        reader_emit_text(&r->base, MSG_TEXT, 0, json_get(delta, "text"));
    else if (json_is(type, "thinking_delta"))
        reader_emit_text(&r->base, MSG_REASONING, 0, json_get(delta, "thinking"));
    else if (json_is(type, "signature_delta"))
        emit_signature(r, json_get(delta, "signature"));
    else if (json_is(type, "input_json_delta"))
        add_arguments(r, index, json_get(delta, "partial_json"));
    else if (json_is(type, "citations_delta"))
        emit_citation(r, json_get(delta, "citation"));
}

/* ---- objects ----------------------------------------------------------------------- */

static pd_err take_blocks(struct anthropic_reader *r, struct json content)
{
    struct json_walk w;
    struct json block;
    int tool = -1;
    pd_err e = PD_OK;
    json_walk_init(&w, content);
    while (!e && json_walk_next(&w, NULL, &block))
        e = take_block(r, block, &tool, NULL);
    return e;
}

static pd_err take_names(struct anthropic_reader *r, struct json message)
{
    pd_err e = reader_keep_word(&r->base, &r->base.facts.id, json_get(message, "id"));
    return e ? e : reader_keep_word(&r->base, &r->base.facts.model, json_get(message, "model"));
}

/* message_start. Some relays send it twice; the first one names the answer. */
static pd_err take_start(struct anthropic_reader *r, struct json message, unsigned *holds)
{
    pd_err e = take_names(r, message);
    if (!e && !r->started)
        e = take_blocks(r, json_get(message, "content")); /* none, but for servers that have it all at once */
    r->started = true;
    return e ? e : take_usage(r, json_get(message, "usage"), holds);
}

static pd_err take_message(struct anthropic_reader *r, struct json message, unsigned *holds)
{
    pd_err e = take_names(r, message);
    if (!e)
        e = take_blocks(r, json_get(message, "content"));
    if (!e)
        e = take_stop(r, json_get(message, "stop_reason"), json_get(message, "stop_sequence"), holds);
    if (!e)
        e = take_usage(r, json_get(message, "usage"), holds);
    r->base.facts.done = true;
    return e;
}

static pd_err take_end(struct anthropic_reader *r, struct json obj, unsigned *holds)
{
    struct json delta = json_get(obj, "delta");
    stop_all(r);
    pd_err e = take_stop(r, json_get(delta, "stop_reason"), json_get(delta, "stop_sequence"), holds);
    if (*holds & ANSWER_FINISH)
        reader_emit_step(&r->base, MSG_STEP_FINISHED, SPAN_NONE, SPAN_NONE);
    return e ? e : take_usage(r, json_get(obj, "usage"), holds);
}

static int64_t index_of(struct json obj)
{
    int64_t n;
    return json_i64(json_get(obj, "index"), &n) ? n : 0;
}

static pd_err take_event(struct anthropic_reader *r, struct json type, struct json obj, unsigned *holds)
{
    if (span_starts(json_inner(type), "content_block"))
        r->base.place = reader_place(index_of(obj));
    if (json_is(type, "content_block_delta")) {
        take_delta(r, index_of(obj), json_get(obj, "delta"));
        return PD_OK;
    }
    if (json_is(type, "content_block_start"))
        return start_block(r, index_of(obj), json_get(obj, "content_block"));
    if (json_is(type, "content_block_stop")) {
        stop_block(r, index_of(obj));
        reader_emit_step(&r->base, MSG_STEP_CLOSED, SPAN_NONE, SPAN_NONE);
        return PD_OK;
    }
    r->base.place = 0;
    if (json_is(type, "message_start"))
        return take_start(r, json_get(obj, "message"), holds);
    if (json_is(type, "message_delta"))
        return take_end(r, obj, holds);
    if (json_is(type, "message"))
        return take_message(r, obj, holds);
    if (json_is(type, "message_stop")) {
        *holds |= ANSWER_DONE;
        r->base.facts.done = true;
        stop_all(r);
    }
    if (json_is(type, "ping"))
        *holds |= ANSWER_KEEPALIVE;
    return PD_OK;
}

struct json anthropic_type(struct span type, struct json obj, char room[ANTHROPIC_TYPE_ROOM])
{
    struct json t = json_get(obj, "type");
    if (t.type == JSON_STRING || type.n == 0 || type.n + 2 > ANTHROPIC_TYPE_ROOM)
        return t;
    room[0] = '"';
    memcpy(room + 1, type.p, type.n);
    room[type.n + 1] = '"';
    return (struct json){JSON_STRING, span_of(room, type.n + 2)};
}

static pd_err read_object(struct reader *base, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct anthropic_reader *r = (struct anthropic_reader *)base;
    struct answer_facts *f = &base->facts;
    char room[ANTHROPIC_TYPE_ROOM];
    unsigned holds = 0;
    struct json t = anthropic_type(type, obj, room), none = {0};
    *ret_error = none;
    if (json_is(t, "error") || t.type != JSON_STRING)
        *ret_error = json_is(t, "error") ? obj : answer_error_in(obj);

    bool had_output = f->has_output;
    f->has_output = false; /* for a moment: is there any in this object? */
    pd_err e = ret_error->type == JSON_NONE ? take_event(r, t, obj, &holds) : PD_OK;
    if (f->has_output)
        holds |= ANSWER_OUTPUT;
    f->has_output |= had_output;
    if (ret_error->type != JSON_NONE) {
        holds |= ANSWER_ERROR;
        f->error = true;
    }
    f->finish = r->word == MSG_FINISH_STOP && f->has_tool_calls ? MSG_FINISH_TOOL_CALLS : r->word;
    *ret_holds = holds;
    return e;
}

/* message_stop proves the end. An empty answer is one when the model spoke to say nothing, as it does behind some tool
 * results: it reports the few tokens that this took. */
static enum answer_end end(const struct reader *base)
{
    const struct answer_facts *f = &base->facts;
    if (f->error)
        return ANSWER_FAILED;
    if (f->finish == MSG_FINISH_ERROR)
        return f->has_output ? ANSWER_CUT : ANSWER_EMPTY;
    if (f->has_output)
        return f->done && f->finish != MSG_FINISH_NONE ? ANSWER_COMPLETE : ANSWER_CUT;
    bool plain = f->finish == MSG_FINISH_STOP || f->finish == MSG_FINISH_TOOL_CALLS;
    bool reasoned = f->finish != MSG_FINISH_NONE && (!plain || f->usage.output_total > 0);
    if (f->done && reasoned)
        return ANSWER_COMPLETE;
    return f->done || base->whole || f->events == 0 ? ANSWER_EMPTY : ANSWER_CUT;
}

static bool is_event(struct json obj)
{
    static const char *const types[] = {"message_start",
                                        "content_block_start",
                                        "content_block_delta",
                                        "content_block_stop",
                                        "message_delta",
                                        "message_stop",
                                        "ping",
                                        "error"};
    struct json type = json_get(obj, "type");
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (json_is(type, types[i]))
            return true;
    return false;
}

const struct reader_ops anthropic_reader = {
    .bytes = sizeof(struct anthropic_reader),
    .done = done,
    .read = read_object,
    .end = end,
    .is_event = is_event,
};
