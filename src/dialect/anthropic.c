/* Anthropic Messages: what requests say and what is changed in them, errors, and the two codecs. */
#include "dialect/anthropic_priv.h"
#include "dialect/embed.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

#include "base/hash.h"

/* ---- the conversation's beginning ---------------------------------------------------- */

/* A hash of what is said, the same in every turn of a conversation: cache marks wander from turn to turn, and clients write
 * a text as a block once a mark stands on it. At most PREFIX_MAX bytes are looked at. */
struct beginning {
    uint64_t hash;
    size_t left;
};

static void hash_span(struct beginning *b, struct span s)
{
    s = span_upto(s, b->left);
    b->left -= s.n;
    b->hash = hash_bytes(s, b->hash);
}

static void hash_block(struct beginning *b, struct json block)
{
    struct json text = json_get(block, "text");
    struct json_walk w;
    struct span key;
    struct json v;
    if (text.type == JSON_STRING) {
        /* Claude Code's first text names its version and changes with every call. */
        if (!span_starts(json_inner(text), ANTHROPIC_BILLING))
            hash_span(b, json_inner(text));
        return;
    }
    json_walk_init(&w, block);
    while (b->left && json_walk_next(&w, &key, &v))
        if (!json_key_is(key, "cache_control"))
            hash_span(b, v.raw);
}

static void hash_content(struct beginning *b, struct json content)
{
    struct json_walk w;
    struct json block;
    if (content.type == JSON_STRING)
        hash_span(b, json_inner(content));
    json_walk_init(&w, content.type == JSON_ARRAY ? content : (struct json){0});
    while (b->left && json_walk_next(&w, NULL, &block))
        hash_block(b, block);
}

void anthropic_message(struct json message, struct json *ret_role, struct json *ret_content)
{
    struct json_walk w;
    struct span key;
    struct json v;
    *ret_role = *ret_content = (struct json){0};
    json_walk_init(&w, message);
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "role"))
            *ret_role = v;
        else if (json_key_is(key, "content"))
            *ret_content = v;
    }
}

/* Up to and with the first message of the user: what follows is not looked at. */
static void take_beginning(struct request_facts *f, struct json system, struct json messages)
{
    struct beginning b = {.left = PREFIX_MAX};
    struct json_walk w;
    struct json message;
    hash_content(&b, system);
    if (messages.type != JSON_ARRAY)
        return;
    f->turns = messages.raw;
    json_walk_doc(&w, messages.raw);
    while (json_walk_next(&w, NULL, &message)) {
        struct json role, content;
        anthropic_message(message, &role, &content);
        hash_content(&b, content);
        if (!json_is(role, "user"))
            continue;
        struct span rest = span_trim(w.rest);
        f->continues = rest.n && rest.p[0] == ',';
        break;
    }
    f->prefix_hash = b.hash;
}

/* ---- facts ------------------------------------------------------------------------------ */

struct members {
    struct json messages, system, tools, max_tokens, thinking, metadata;
};

static void take_member(void *ctx, struct span key, struct json v)
{
    static const struct request_field rows[] = {
        REQUEST_FIELD(struct members, messages), REQUEST_FIELD(struct members, system),
        REQUEST_FIELD(struct members, tools),    REQUEST_FIELD(struct members, max_tokens),
        REQUEST_FIELD(struct members, thinking), REQUEST_FIELD(struct members, metadata)};
    request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ctx);
}

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    struct members m = {0};
    struct request_facts f;
    int64_t n;
    pd_err e = request_read(body, a, take_member, &m, &f, ret_why);
    if (e)
        return e;
    if (line) {
        f.line = *line;
        f.model = line->model.p ? line->model : f.model;
        f.stream = line->model.p ? line->stream : f.stream;
    }
    f.include_usage = true; /* it always comes */
    take_beginning(&f, m.system, m.messages);
    f.tools = value_has_items(m.tools);
    f.reasoning = m.thinking.type == JSON_OBJECT && !json_is(json_get(m.thinking, "type"), "disabled");
    f.max_tokens = json_i64(m.max_tokens, &n) && n >= 0 ? n : -1;
    /* Claude Code puts its session into it; an SDK's user has one at least for each person. */
    e = json_text(json_get(m.metadata, "user_id"), a, &f.user);
    if (e == PD_NOMEM) {
        *ret_why = "out of memory while reading the request";
        return e;
    }
    if (e)
        f.user = SPAN_NONE; /* none, or a bad escape: for the provider to complain about */
    *ret = f;
    return PD_OK;
}

/* ---- edits -------------------------------------------------------------------------------- */

/* Members that may have to change; of duplicates the last, which is the one that counts. */
struct sites {
    struct json messages, thinking, context_management, anthropic_version;
};

static void find_sites(struct span body, struct sites *ret)
{
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_doc(&w, body);
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "messages"))
            ret->messages = v;
        else if (json_key_is(key, "thinking"))
            ret->thinking = v;
        else if (json_key_is(key, "context_management"))
            ret->context_management = v;
        else if (json_key_is(key, "anthropic_version"))
            ret->anthropic_version = v;
    }
}

static bool is_foreign(struct json v)
{
    return span_starts(json_inner(v), ENCODER_FOREIGN);
}

static bool is_foreign_thinking(struct json block)
{
    return json_is(json_get(block, "type"), "thinking") && is_foreign(json_get(block, "signature"));
}

static bool has_foreign_citation(struct json block)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, json_get(block, "citations"));
    while (json_walk_next(&w, NULL, &item))
        if (is_foreign(json_get(item, "encrypted_index")))
            return true;
    return false;
}

/* An object without the member, or with another value of it. */
static void put_object(struct put *p, struct json obj, const char *member, struct span value)
{
    struct json_walk w;
    struct span key;
    struct json v;
    bool any = false;
    put_text(p, "{");
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &v)) {
        bool it = json_key_is(key, member);
        if (it && !value.p)
            continue;
        put_text(p, any ? ",\"" : "\"");
        put_span(p, key);
        put_text(p, "\":");
        put_span(p, it ? value : v.raw);
        any = true;
    }
    put_text(p, "}");
}

/* What is left of the conversation, as far as it matters whether thinking may be on. */
struct stripped {
    struct put list;    /* the messages */
    struct buf content; /* of one message */
    unsigned messages;
    bool thinks, results; /* the last answer begins with thinking; results of tools follow it */
};

/* True when something was taken out. */
static bool strip_content(struct stripped *s, struct json content, unsigned *ret_left, bool *ret_thinks)
{
    struct put p = put_into(&s->content);
    struct json_walk w;
    struct json block;
    bool changed = false;
    *ret_left = 0;
    *ret_thinks = false;
    buf_clear(&s->content);
    put_text(&p, "[");
    json_walk_init(&w, content);
    while (json_walk_next(&w, NULL, &block)) {
        struct json type = json_get(block, "type");
        if (is_foreign_thinking(block)) {
            changed = true;
            continue;
        }
        put_text(&p, *ret_left ? "," : "");
        if (has_foreign_citation(block)) {
            put_object(&p, block, "citations", SPAN_NONE);
            changed = true;
        } else {
            put_span(&p, block.raw);
        }
        if (++*ret_left == 1)
            *ret_thinks = json_is(type, "thinking") || json_is(type, "redacted_thinking");
        s->results |= json_is(type, "tool_result");
    }
    put_text(&p, "]");
    s->list.err = s->list.err ? s->list.err : p.err;
    return changed;
}

static void strip_message(struct stripped *s, struct json message)
{
    struct json content = json_get(message, "content");
    bool answer = json_is(json_get(message, "role"), "assistant"), changed = false, thinks = false;
    unsigned left = 1;
    if (answer)
        s->results = false;
    if (content.type == JSON_ARRAY)
        changed = strip_content(s, content, &left, &thinks);
    if (answer)
        s->thinks = thinks;
    if (changed && left == 0)
        return; /* nothing but what was made up; an empty message is refused */
    put_text(&s->list, s->messages++ ? "," : "");
    if (changed)
        put_object(&s->list, message, "content", buf_span(&s->content));
    else
        put_span(&s->list, message.raw);
}

/* Replaces the messages, and switches thinking off for this turn where the thinking that it would need was taken out. (Adaptive
 * thinking needs none.) */
static pd_err strip(const struct sites *at, struct arena *a, struct request_change *changes, unsigned *count)
{
    struct stripped s = {0};
    struct buf list;
    struct json_walk w;
    struct json message;
    buf_init(&list, 0);
    buf_init(&s.content, 0);
    s.list = put_into(&list);
    put_text(&s.list, "[");
    json_walk_init(&w, at->messages);
    while (json_walk_next(&w, NULL, &message))
        strip_message(&s, message);
    put_text(&s.list, "]");
    struct span text = s.list.err ? SPAN_NONE : arena_span(a, buf_span(&list));
    buf_done(&s.content);
    buf_done(&list);
    if (w.err)
        return PD_OK; /* no JSON inside: for the provider to complain about */
    if (!text.p)
        return PD_NOMEM;
    changes[(*count)++] = (struct request_change){.site = at->messages.raw, .text = text};
    if (s.thinks || !s.results || !json_is(json_get(at->thinking, "type"), "enabled"))
        return PD_OK;
    changes[(*count)++] =
        (struct request_change){.site = at->thinking.raw, .text = SPAN_LIT("{\"type\":\"disabled\"}")};
    if (at->context_management.type != JSON_NONE) /* its clearing of thinking is refused without thinking */
        changes[(*count)++] = (struct request_change){.site = at->context_management.raw, .remove = true};
    return PD_OK;
}

static pd_err edit_request(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    struct request_edit edit = *e;
    struct request_change changes[REQUEST_CHANGES_MAX];
    struct sites at = {0};
    unsigned count = 0;
    bool foreign = e->strip_foreign && span_has(f->body, "\"" ENCODER_FOREIGN);
    edit.want_usage = false; /* it always comes */
    if (foreign || e->version)
        find_sites(f->body, &at);
    if (e->version && at.anthropic_version.type != JSON_NONE) {
        char *quoted = arena_printf(a, "\"%s\"", e->version);
        if (!quoted)
            return PD_NOMEM;
        changes[count++] = (struct request_change){.site = at.anthropic_version.raw, .text = span_str(quoted)};
        edit.version = NULL;
    }
    if (foreign && at.messages.type == JSON_ARRAY) {
        pd_err err = strip(&at, a, changes, &count);
        if (err)
            return err;
    }
    return request_edit_also(f, &edit, changes, count, a, parts, ret_count);
}

/* ---- errors --------------------------------------------------------------------------------- */

static const char *error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 402:
        return "billing_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 409:
        return "conflict_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
    case 529:
        return "overloaded_error";
    case 504:
        return "timeout_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

static pd_err put_error(const struct client_error *e, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "{\"type\":\"error\",\"error\":{\"type\":\"");
    put_text(&p, error_type(e->status));
    put_text(&p, "\",\"message\":");
    put_json(&p, e->message.p ? e->message : SPAN_LIT(""));
    if (e->code) {
        put_text(&p, ",\"code\":");
        put_json(&p, span_str(e->code));
    }
    if (e->attempts_json.p) {
        put_text(&p, ",\"attempts\":");
        put_span(&p, e->attempts_json);
    }
    put_text(&p, "}}");
    return p.err;
}

static pd_err put_error_event(const struct client_error *e, struct buf *out)
{
    pd_err err = buf_puts(out, "event: error\ndata: ");
    if (!err)
        err = put_error(e, out);
    return err ? err : buf_puts(out, "\n\n");
}

/* ---- counting --------------------------------------------------------------------------------- */

static bool read_count(struct json obj, int64_t *ret_tokens)
{
    *ret_tokens = reader_count(obj, "input_tokens");
    return *ret_tokens >= 0;
}

static pd_err put_count(int64_t tokens, struct buf *out)
{
    return buf_printf(out, "{\"input_tokens\":%lld}", (long long)tokens);
}

static const struct count_ops count_ops = {.read = read_count, .put = put_count};

const struct codec codec_anthropic = {
    .name = "anthropic-messages",
    .kind = CODEC_CHAT,
    .maker = MSG_MAKER_ANTHROPIC,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_request = anthropic_parse_request,
    .parse_tools = anthropic_parse_tools,
    .write_request = anthropic_write_request,
    .turns_member = "messages",
    .streams = true,
    .names_events = true,
    .reader = &anthropic_reader,
    .collector = &anthropic_collector,
    .encoder = &anthropic_encoder,
    .stream_type = "text/event-stream; charset=utf-8",
    .keepalive = "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    .request_id_header = "request-id",
    .error_type = error_type,
    .put_error = put_error,
    .put_error_event = put_error_event,
};

const struct codec codec_anthropic_count = {
    .name = "anthropic-count",
    .kind = CODEC_COUNT,
    .maker = MSG_MAKER_ANTHROPIC,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_request = anthropic_parse_request,
    .write_request = anthropic_write_count,
    .count = &count_ops,
    .request_id_header = "request-id",
    .error_type = error_type,
    .put_error = put_error,
    .put_error_event = put_error_event,
};
