/* OpenAI Responses: what requests say, how they are edited, and errors in this format. */
#include "dialect/openai_chat_priv.h"
#include "dialect/request_priv.h"
#include "dialect/responses_priv.h"
#include "dialect/value_priv.h"

/* ---- requests ---------------------------------------------------------------- */

/* The members that are read, as the walk finds them: of duplicates the last. */
struct members {
    struct json input, instructions, tools, max_output_tokens, reasoning;
    struct json user, prompt_cache_key, metadata, client_metadata, conversation, previous_response_id;
};

static void take_member(void *ctx, struct span key, struct json v)
{
    static const struct request_field rows[] = {REQUEST_FIELD(struct members, input),
                                                REQUEST_FIELD(struct members, instructions),
                                                REQUEST_FIELD(struct members, tools),
                                                REQUEST_FIELD(struct members, max_output_tokens),
                                                REQUEST_FIELD(struct members, reasoning),
                                                REQUEST_FIELD(struct members, user),
                                                REQUEST_FIELD(struct members, prompt_cache_key),
                                                REQUEST_FIELD(struct members, metadata),
                                                REQUEST_FIELD(struct members, client_metadata),
                                                REQUEST_FIELD(struct members, conversation),
                                                REQUEST_FIELD(struct members, previous_response_id)};
    request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ctx);
}

/* "reasoning": {"effort": "high"}, or a summary alone. */
static bool asks_reasoning(struct json v)
{
    return v.type == JSON_OBJECT && value_has_items(v) && !json_is(json_get(v, "effort"), "none");
}

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    struct members m = {0};
    struct request_facts f;
    int64_t n;
    (void)line;
    pd_err e = request_read(body, a, take_member, &m, &f, ret_why);
    if (e)
        return e;
    if (m.input.type == JSON_ARRAY || m.input.type == JSON_STRING)
        request_take_prefix(&f, m.instructions, m.input, false);
    if (!value_is_nothing(m.previous_response_id))
        f.continues = true;
    f.tools = value_has_items(m.tools);
    /* The most exact word comes first: `user` may be shared by all of an application. */
    struct json hints[] = {m.prompt_cache_key,
                           json_get(m.client_metadata, "session_id"),
                           m.conversation.type == JSON_STRING ? m.conversation : json_get(m.conversation, "id"),
                           json_get(m.metadata, "session_id"),
                           json_get(m.metadata, "conversation_id"),
                           m.user};
    f.max_tokens = json_i64(m.max_output_tokens, &n) && n >= 0 ? n : -1;
    f.reasoning = asks_reasoning(m.reasoning);
    e = request_take_hint(&f, hints, sizeof(hints) / sizeof(hints[0]), a, ret_why);
    if (e)
        return e;
    *ret = f;
    return PD_OK;
}

/* ---- editing ------------------------------------------------------------------- */

/* Reasoning that perdure showed in an answer of another maker: this format's makers do not know it. */
static bool is_foreign(struct json item)
{
    return json_is(json_get(item, "type"), "reasoning") &&
           span_starts(json_inner(json_get(item, "id")), RESPONSES_FOREIGN) &&
           json_inner(json_get(item, "encrypted_content")).n == 0;
}

static bool has_foreign(struct json input)
{
    struct json_walk w;
    struct json item;
    if (!span_has(input.raw, RESPONSES_FOREIGN)) /* nearly always */
        return false;
    json_walk_init(&w, input);
    while (json_walk_next(&w, NULL, &item))
        if (is_foreign(item))
            return true;
    return false;
}

static struct json input_of(struct span body)
{
    struct json_walk w;
    struct span key;
    struct json v, input = {0};
    json_walk_doc(&w, body);
    while (json_walk_next(&w, &key, &v))
        if (json_key_is(key, "input"))
            input = v;
    return input;
}

/* The items without those, as they stood, with what was between them. PD_NOMEM. */
static pd_err without_foreign(struct json input, struct arena *a, struct span *ret)
{
    struct json_walk w;
    struct json item;
    struct buf b;
    bool any = false;
    buf_init(&b, 0);
    pd_err e = buf_puts(&b, "[");
    json_walk_init(&w, input);
    while (!e && json_walk_next(&w, NULL, &item)) {
        if (is_foreign(item))
            continue;
        if (any)
            e = buf_puts(&b, ",");
        if (!e)
            e = buf_add(&b, item.raw);
        any = true;
    }
    if (!e)
        e = buf_puts(&b, "]");
    if (!e) {
        *ret = arena_span(a, buf_span(&b));
        e = ret->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

/* Puts `text` in place of `site` in what other edits left. */
static void replace_in_parts(struct span parts[REQUEST_PARTS_MAX], unsigned *count, struct span site,
                             struct span text)
{
    for (unsigned i = 0; i < *count; i++) {
        struct span part = parts[i];
        if (site.p < part.p || site.p + site.n > part.p + part.n)
            continue;
        struct span rest = span_from(part, (size_t)(site.p - part.p) + site.n);
        memmove(&parts[i + 3], &parts[i + 1], (*count - i - 1) * sizeof(parts[0]));
        parts[i] = span_upto(part, (size_t)(site.p - part.p));
        parts[i + 1] = text;
        parts[i + 2] = rest;
        *count += 2;
        return;
    }
}

/* Usage always comes here, unasked: "include_usage" would be refused. */
static pd_err edit_request(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    struct request_edit edit = *e;
    struct json input = e->strip_foreign ? input_of(f->body) : (struct json){0};
    struct span kept;
    edit.want_usage = false;
    pd_err err = request_edit(f, &edit, a, parts, ret_count);
    if (err || input.type != JSON_ARRAY || !has_foreign(input))
        return err;
    err = without_foreign(input, a, &kept);
    if (!err)
        replace_in_parts(parts, ret_count, input.raw, kept);
    return err;
}

/* ---- errors ------------------------------------------------------------------- */

/* Clients look for the error in the event, or for its members beside the type. */
static pd_err put_error_event(const struct client_error *e, struct buf *out)
{
    struct put p = put_into(out);
    struct span message = e->message.p ? e->message : SPAN_LIT("");
    struct buf body;
    buf_init(&body, 0);
    pd_err err = openai_put_error(e, &body); /* {"error":{...}} */
    put_text(&p, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":");
    put_uint(&p, e->sequence);
    put_text(&p, ",\"code\":");
    if (e->code)
        put_json(&p, span_str(e->code));
    else
        put_text(&p, "null");
    put_text(&p, ",\"message\":");
    put_json(&p, message);
    put_text(&p, ",\"param\":");
    if (e->param.p)
        put_json(&p, e->param);
    else
        put_text(&p, "null");
    put_text(&p, ",");
    put_span(&p, span_from(buf_span(&body), 1));
    put_text(&p, "\n\n");
    buf_done(&body);
    return err ? err : p.err;
}

const struct codec codec_openai_responses = {
    .name = "openai-responses",
    .kind = CODEC_CHAT,
    .maker = MSG_MAKER_OPENAI,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_request = responses_parse_request,
    .parse_tools = responses_parse_tools,
    .write_request = responses_write_request,
    .turns_member = "input",
    .streams = true,
    .reader = &responses_reader,
    .collector = &responses_collector,
    .encoder = &responses_encoder,
    .stream_type = "text/event-stream; charset=utf-8",
    .keepalive = ": keep-alive\n\n",
    .error_type = openai_error_type,
    .put_error = openai_put_error,
    .put_error_event = put_error_event,
};
