/* Answers of /api/chat and /api/generate: lines of a stream, or one object. Both have the same fields. */
#include "dialect/ollama_priv.h"

struct ollama_reader_state {
    struct reader base;
    int tool_count;
    bool over; /* "done": true was seen */
    enum msg_finish word;
};

static pd_err read_calls(struct ollama_reader_state *r, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        struct json function = json_get(item, "function");
        if (r->tool_count == ANSWER_TOOLS_MAX)
            return PD_TOOBIG;
        int tool = r->tool_count++; /* calls come whole */
        reader_emit_tool(&r->base, 0, tool, json_get(item, "id"), json_get(function, "name"));
        pd_err e = reader_emit_arguments(&r->base, 0, tool, json_get(function, "arguments"));
        if (e)
            return e;
    }
    return PD_OK;
}

static void read_logprobs(struct ollama_reader_state *r, struct json list)
{
    struct msg_delta d = {.kind = MSG_LOGPROBS, .tool = -1, .text = list.raw};
    if (list.type == JSON_ARRAY && json_path(list, "0").type != JSON_NONE)
        reader_emit(&r->base, &d);
}

/* "stop" also when tools are asked for; "load" and "unload" when there was nothing to answer. Servers of old give no reason. */
static enum msg_finish finish_of(struct json word)
{
    return json_is(word, "stop") || json_inner(word).n == 0 ? MSG_FINISH_STOP
           : json_is(word, "length")                        ? MSG_FINISH_LENGTH
                                                            : MSG_FINISH_OTHER;
}

static pd_err read_end(struct ollama_reader_state *r, struct json obj, unsigned *holds)
{
    struct json word = json_get(obj, "done_reason");
    struct answer_facts *f = &r->base.facts;
    r->over = f->done = true;
    r->word = finish_of(word);
    f->finish = r->word == MSG_FINISH_STOP && f->has_tool_calls ? MSG_FINISH_TOOL_CALLS : r->word;
    *holds |= ANSWER_FINISH | ANSWER_DONE;
    pd_err e = json_inner(word).n ? reader_keep_finish(&r->base, word) : PD_OK;
    struct msg_usage u = MSG_USAGE_NONE;
    u.input_total = reader_count(obj, "prompt_eval_count"); /* not told when it came from a cache */
    u.output_total = reader_count(obj, "eval_count");
    if (e || (u.input_total < 0 && u.output_total < 0))
        return e;
    return reader_keep_usage(&r->base, obj, &u, holds);
}

static pd_err read_object(struct reader *base, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct ollama_reader_state *r = (struct ollama_reader_state *)base;
    (void)type;
    *ret_holds = 0;
    *ret_error = answer_error_in(obj);
    if (ret_error->type != JSON_NONE && json_get(obj, "message").type != JSON_OBJECT) {
        *ret_holds = ANSWER_ERROR;
        base->facts.error = true;
        return PD_OK;
    }
    *ret_error = (struct json){0};
    struct json message = json_get(obj, "message");
    struct json text = message.type == JSON_OBJECT ? json_get(message, "content") : json_get(obj, "response");
    struct json thinking = json_get(message.type == JSON_OBJECT ? message : obj, "thinking");
    uint64_t before = base->facts.output_bytes;
    int tools = r->tool_count;
    pd_err e = reader_keep_word(base, &base->facts.model, json_get(obj, "model"));
    if (e)
        return e;
    reader_emit_text(base, MSG_REASONING, 0, thinking);
    reader_emit_text(base, MSG_TEXT, 0, text);
    read_logprobs(r, json_get(obj, "logprobs"));
    e = read_calls(r, json_get(message, "tool_calls"));
    if (json_inner(json_get(obj, "image")).n) { /* of models that draw; the type is not told */
        base->facts.has_output = true;
        *ret_holds |= ANSWER_OUTPUT;
    }
    if (base->facts.output_bytes != before || r->tool_count != tools)
        *ret_holds |= ANSWER_OUTPUT;
    return !e && json_is_true(json_get(obj, "done")) ? read_end(r, obj, ret_holds) : e;
}

static enum answer_end end(const struct reader *base)
{
    const struct ollama_reader_state *r = (const struct ollama_reader_state *)base;
    const struct answer_facts *f = &base->facts;
    if (f->error)
        return ANSWER_FAILED;
    if (!r->over)
        return f->has_output || f->events ? ANSWER_CUT : ANSWER_EMPTY;
    return f->has_output || r->word != MSG_FINISH_STOP ? ANSWER_COMPLETE : ANSWER_EMPTY;
}

static bool is_event(struct json obj)
{
    return json_get(obj, "done").type == JSON_BOOL || json_get(obj, "message").type == JSON_OBJECT ||
           json_get(obj, "response").type == JSON_STRING;
}

const struct reader_ops ollama_reader = {
    .bytes = sizeof(struct ollama_reader_state),
    .read = read_object,
    .end = end,
    .is_event = is_event,
};
