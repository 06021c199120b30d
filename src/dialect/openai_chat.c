/* OpenAI Chat Completions: what requests say, and the words of answers. */
#include "dialect/openai_chat_priv.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

/* ---- requests ---------------------------------------------------------------- */

static bool says_no(struct json v)
{
    return v.type == JSON_NONE || v.type == JSON_NULL || span_is(v.raw, "false") || json_is(v, "none") ||
           json_is(v, "disabled");
}

/* "reasoning": {"effort": "high"}, "thinking": {"type": "enabled"}: an object that does not say no. */
static bool asks_in_object(struct json v)
{
    static const char *const switches[] = {"enabled", "type", "effort"};
    if (says_no(v))
        return false;
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
        struct json on = json_get(v, switches[i]);
        if (on.type != JSON_NONE && says_no(on))
            return false;
    }
    return true;
}

/* The members that are read, as the walk finds them: of duplicates the last. */
struct members {
    struct json messages, tools, functions, n, max_tokens, max_completion_tokens;
    struct json reasoning_effort, enable_thinking, reasoning, thinking, chat_template_kwargs;
    struct json user, prompt_cache_key, metadata;
};

static void chat_member(void *ctx, struct span key, struct json v)
{
    static const struct request_field rows[] = {REQUEST_FIELD(struct members, messages),
                                                REQUEST_FIELD(struct members, tools),
                                                REQUEST_FIELD(struct members, functions),
                                                REQUEST_FIELD(struct members, n),
                                                REQUEST_FIELD(struct members, max_tokens),
                                                REQUEST_FIELD(struct members, max_completion_tokens),
                                                REQUEST_FIELD(struct members, reasoning_effort),
                                                REQUEST_FIELD(struct members, enable_thinking),
                                                REQUEST_FIELD(struct members, reasoning),
                                                REQUEST_FIELD(struct members, thinking),
                                                REQUEST_FIELD(struct members, chat_template_kwargs),
                                                REQUEST_FIELD(struct members, user),
                                                REQUEST_FIELD(struct members, prompt_cache_key),
                                                REQUEST_FIELD(struct members, metadata)};
    request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ctx);
}

static int64_t limit_of(const struct members *m)
{
    int64_t n;
    if ((json_i64(m->max_completion_tokens, &n) && n >= 0) || (json_i64(m->max_tokens, &n) && n >= 0))
        return n;
    return -1;
}

pd_err chat_read_request(struct span body, const struct request_line *line, struct arena *a,
                         struct request_facts *ret, const char **ret_why)
{
    (void)line;
    struct members m = {0};
    struct request_facts f;
    int64_t n;
    pd_err e = request_read(body, a, chat_member, &m, &f, ret_why);
    if (e)
        return e;
    if (m.messages.type == JSON_ARRAY)
        request_take_prefix(&f, (struct json){0}, m.messages, false);
    /* The most exact word comes first: `user` may be shared by all of an application. */
    struct json hints[] = {m.prompt_cache_key, json_get(m.metadata, "session_id"),
                           json_get(m.metadata, "conversation_id"), m.user};
    f.tools = value_has_items(m.tools) || value_has_items(m.functions);
    f.many = json_i64(m.n, &n) && n > 1;
    f.max_tokens = limit_of(&m);
    f.reasoning = !says_no(m.reasoning_effort) || !says_no(m.enable_thinking) || asks_in_object(m.reasoning) ||
                  asks_in_object(m.thinking) ||
                  json_is_true(json_get(m.chat_template_kwargs, "enable_thinking")) ||
                  json_is_true(json_get(m.chat_template_kwargs, "thinking"));
    e = request_take_hint(&f, hints, sizeof(hints) / sizeof(hints[0]), a, ret_why);
    if (e)
        return e;
    *ret = f;
    return PD_OK;
}

/* ---- words of answers -------------------------------------------------------- */

enum msg_finish finish_of_word(struct json word)
{
    static const struct value_finish rows[] = {
        {"stop", MSG_FINISH_STOP},
        {"eos", MSG_FINISH_STOP},
        {"eos_token", MSG_FINISH_STOP},
        {"stop_sequence", MSG_FINISH_STOP},
        {"end_turn", MSG_FINISH_STOP},
        {"length", MSG_FINISH_LENGTH},
        {"model_length", MSG_FINISH_LENGTH},
        {"max_tokens", MSG_FINISH_LENGTH},
        {"tool_calls", MSG_FINISH_TOOL_CALLS},
        {"function_call", MSG_FINISH_TOOL_CALLS},
        {"tool_use", MSG_FINISH_TOOL_CALLS},
        {"content_filter", MSG_FINISH_CONTENT_FILTER},
        {"safety", MSG_FINISH_CONTENT_FILTER},
        {"insufficient_system_resource", MSG_FINISH_ERROR},
        {"error", MSG_FINISH_ERROR},
        {"abort", MSG_FINISH_ERROR},
    };
    if (word.type != JSON_STRING || json_inner(word).n == 0)
        return MSG_FINISH_NONE;
    return value_finish(rows, sizeof(rows) / sizeof(rows[0]), word);
}

/* ---- errors in answers ------------------------------------------------------- */

static bool empty_value(struct json v)
{
    return v.type == JSON_NONE || v.type == JSON_NULL || span_is(v.raw, "false") ||
           (v.type == JSON_STRING && json_inner(v).n == 0);
}

static bool has_text(struct json obj, const char *key)
{
    return json_inner(json_get(obj, key)).n > 0;
}

/* An object without choices or data: is it one of the flat envelopes? */
static bool flat_error(struct json obj)
{
    if (json_is(json_get(obj, "object"), "error") || json_is(json_get(obj, "type"), "error"))
        return true;
    if (json_get(obj, "choices").type != JSON_NONE || json_get(obj, "data").type == JSON_ARRAY ||
        json_get(obj, "usage").type == JSON_OBJECT)
        return false;
    return has_text(obj, "message") || has_text(obj, "detail") || json_get(obj, "detail").type > JSON_STRING ||
           has_text(obj, "title") || has_text(obj, "msg") || has_text(obj, "error_message");
}

struct json answer_error_in(struct json obj)
{
    struct json none = {0}, error = json_get(obj, "error");
    if (!empty_value(error)) {
        bool empty_object = error.type == JSON_OBJECT && !value_has_items(error);
        if (!empty_object || json_get(obj, "choices").type == JSON_NONE)
            return obj;
    }
    struct json groq = json_get(obj, "x_groq");
    if (!empty_value(json_get(groq, "error")))
        return groq;
    return flat_error(obj) ? obj : none;
}

/* ---- errors to clients ------------------------------------------------------- */

static pd_err put_member(struct buf *out, const char *name, struct span text)
{
    pd_err e = buf_puts(out, name);
    if (e)
        return e;
    return text.p ? json_put_str(out, text) : buf_puts(out, "null");
}

pd_err openai_put_error(const struct client_error *e, struct buf *out)
{
    struct span message = e->message.p ? e->message : SPAN_LIT("");
    pd_err err = put_member(out, "{\"error\":{\"message\":", message);
    if (!err)
        err = put_member(out, ",\"type\":", span_str(e->type));
    if (!err)
        err = put_member(out, ",\"param\":", e->param);
    if (!err)
        err = put_member(out, ",\"code\":", span_str(e->code));
    if (!err && e->attempts_json.p)
        err = buf_puts(out, ",\"attempts\":");
    if (!err && e->attempts_json.p)
        err = buf_add(out, e->attempts_json);
    return err ? err : buf_puts(out, "}}");
}

pd_err openai_put_error_event(const struct client_error *e, struct buf *out)
{
    pd_err err = buf_puts(out, "data: ");
    if (!err)
        err = openai_put_error(e, out);
    return err ? err : buf_puts(out, "\n\n");
}

/* The SDKs choose their error class by the status alone; the word is for people. */
const char *openai_error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

const struct codec codec_openai_chat = {
    .name = "openai-chat",
    .kind = CODEC_CHAT,
    .read_request = chat_read_request,
    .edit_request = request_edit,
    .parse_request = chat_parse_request,
    .parse_tools = chat_parse_tools,
    .write_request = chat_write_request,
    .turns_member = "messages",
    .streams = true,
    .reader = &chat_reader,
    .collector = &chat_collector,
    .encoder = &chat_encoder,
    .stream_type = "text/event-stream; charset=utf-8",
    .keepalive = ": keep-alive\n\n",
    .terminator = "data: [DONE]\n\n",
    .error_type = openai_error_type,
    .put_error = openai_put_error,
    .put_error_event = openai_put_error_event,
};
