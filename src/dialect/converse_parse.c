/* A Converse request into the neutral form. */
#include "dialect/converse_priv.h"
#include "dialect/encoder.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

#include "parse/base64.h"

struct parse {
    struct msg_request *m;
    struct arena *a;
    const char **why;
};

static pd_err wrong(struct parse *p, const char *sentence)
{
    *p->why = sentence;
    return PD_INVALID;
}

/* ---- where a part goes ------------------------------------------------------------- */

/* Into a turn, or into a tool's result. */
struct place {
    struct msg_turn *turn;
    struct msg_part *result, *last;
};

static struct msg_part *add(struct parse *p, struct place *at, enum msg_part_kind kind)
{
    at->last = at->result ? msg_content_add(at->result, p->a, kind) : msg_part_add(at->turn, p->a, kind);
    return at->last;
}

static pd_err add_text(struct parse *p, struct place *at, struct json text)
{
    struct msg_part *part = add(p, at, MSG_PART_TEXT);
    if (!part)
        return PD_NOMEM;
    part->text = json_inner(text);
    return PD_OK;
}

/* Bytes that are no JSON string yet, as the inside of one. */
static pd_err escape(struct parse *p, struct span text, struct span *ret)
{
    struct buf b;
    buf_init(&b, 0);
    struct put put = put_into(&b);
    put_json_inner(&put, text);
    pd_err e = put.err;
    if (!e) {
        *ret = arena_span(p->a, buf_span(&b));
        e = ret->p || !buf_size(&b) ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

static void mark_cache(struct msg_part *part, struct json point)
{
    if (!part)
        return;
    part->cache = true;
    part->cache_ttl = json_inner(json_get(point, "ttl"));
}

/* ---- media -------------------------------------------------------------------------- */

/* A document that is plain text: base64, as all data is. */
static pd_err encode_text(struct parse *p, struct msg_part *part, struct span text)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = base64_encode(text, &b);
    if (!e) {
        part->data = arena_span(p->a, buf_span(&b));
        e = part->data.p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    if (!part->media_type.n)
        part->media_type = SPAN_LIT("text/plain");
    return e;
}

/* {"content": [{"text"}, ...]}: chunks of one text. */
static pd_err join_text(struct parse *p, struct json list, struct buf *out)
{
    struct json_walk w;
    struct json item;
    struct span text;
    pd_err e = PD_OK;
    json_walk_init(&w, list);
    while (!e && json_walk_next(&w, NULL, &item)) {
        e = json_text(json_get(item, "text"), p->a, &text);
        if (e && e != PD_NOMEM)
            return wrong(p, "a document's \"content\" holds something that is no text");
        if (!e && buf_size(out))
            e = buf_puts(out, "\n");
        if (!e)
            e = buf_add(out, text);
    }
    return e;
}

static pd_err take_text_source(struct parse *p, struct msg_part *part, struct json source)
{
    struct json text = json_get(source, "text");
    struct span plain;
    if (text.type == JSON_STRING) {
        pd_err e = json_text(text, p->a, &plain);
        if (e)
            return e == PD_NOMEM ? e : wrong(p, "a document's text has an escape that JSON does not know");
        return encode_text(p, part, plain);
    }
    struct buf b;
    buf_init(&b, 0);
    pd_err e = join_text(p, json_get(source, "content"), &b);
    if (!e)
        e = encode_text(p, part, buf_span(&b));
    buf_done(&b);
    return e;
}

static pd_err take_media(struct parse *p, struct place *at, enum msg_media media, struct json v)
{
    struct msg_part *part = add(p, at, MSG_PART_MEDIA);
    struct json source = json_get(v, "source"), format = json_get(v, "format");
    if (!part)
        return PD_NOMEM;
    const struct converse_format *f = converse_format_by_word(media, json_inner(format));
    part->media = media;
    part->media_type = f ? span_str(f->type) : SPAN_NONE;
    part->file_name = json_inner(json_get(v, "name"));
    struct json bytes = json_get(source, "bytes"), uri = json_path(source, "s3Location.uri");
    if (bytes.type == JSON_STRING) {
        part->data = json_inner(bytes);
        return PD_OK;
    }
    if (uri.type == JSON_STRING) {
        part->url = json_inner(uri);
        return PD_OK;
    }
    if (media == MSG_DOCUMENT)
        return take_text_source(p, part, source);
    return wrong(p, "a content block's \"source\" has neither \"bytes\" nor \"s3Location\"");
}

/* ---- reasoning ------------------------------------------------------------------------ */

/* What Anthropic's own format has as text stands here as the base64 of that text. */
static pd_err take_sealed(struct parse *p, struct msg_part *part, struct json v)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = base64_decode(json_inner(v), &b);
    if (!e)
        e = escape(p, buf_span(&b), &part->sealed);
    buf_done(&b);
    return e == PD_SYNTAX ? wrong(p, "\"redactedContent\" is not base64") : e;
}

static pd_err take_reasoning(struct parse *p, struct place *at, struct json v)
{
    struct json text = json_get(v, "reasoningText"), sealed = json_get(v, "redactedContent");
    struct msg_part *part = add(p, at, MSG_PART_REASONING);
    if (!part)
        return PD_NOMEM;
    part->text = json_inner(json_get(text, "text"));
    struct span signature = json_inner(json_get(text, "signature"));
    if (signature.n && !span_starts(signature, ENCODER_FOREIGN)) {
        part->signature = signature;
        part->maker = MSG_MAKER_ANTHROPIC;
    }
    if (sealed.type != JSON_STRING)
        return PD_OK;
    part->maker = MSG_MAKER_ANTHROPIC;
    return take_sealed(p, part, sealed);
}

/* ---- tools' calls and results ------------------------------------------------------------ */

static pd_err take_block(struct parse *p, struct place *at, struct span key, struct json v);

/* The one member of a block that says what it is; "cachePoint" and others stand alone as well. */
static pd_err take_blocks(struct parse *p, struct place *at, struct json list)
{
    struct json_walk w, members;
    struct json block, v;
    struct span key;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &block)) {
        json_walk_init(&members, block);
        while (json_walk_next(&members, &key, &v)) {
            pd_err e = v.type == JSON_NULL ? PD_OK : take_block(p, at, key, v);
            if (e)
                return e;
        }
    }
    return w.err ? wrong(p, "\"content\" is not valid JSON") : PD_OK;
}

/* Calls of tools that Bedrock runs itself, and what they gave back, are its own affair. */
static bool by_server(struct json v)
{
    struct json type = json_get(v, "type");
    return type.type == JSON_STRING && !json_is(type, "tool_use");
}

static pd_err take_call(struct parse *p, struct place *at, struct json v)
{
    if (by_server(v)) {
        msg_drop(p->m, "server_tool_use");
        return PD_OK;
    }
    struct msg_part *part = add(p, at, MSG_PART_TOOL_CALL);
    struct json input = json_get(v, "input");
    if (!part)
        return PD_NOMEM;
    part->id = json_inner(json_get(v, "toolUseId"));
    part->name = json_inner(json_get(v, "name"));
    part->arguments = input.type == JSON_OBJECT ? input.raw : SPAN_LIT("{}");
    return PD_OK;
}

static pd_err take_result(struct parse *p, struct place *at, struct json v)
{
    if (by_server(v)) {
        msg_drop(p->m, "server_tool_use");
        return PD_OK;
    }
    struct msg_part *part = add(p, at, MSG_PART_TOOL_RESULT);
    if (!part)
        return PD_NOMEM;
    part->id = json_inner(json_get(v, "toolUseId"));
    part->failed = json_is(json_get(v, "status"), "error");
    struct place inside = {.turn = at->turn, .result = part};
    return take_blocks(p, &inside, json_get(v, "content"));
}

static pd_err take_json(struct parse *p, struct place *at, struct json v)
{
    struct msg_part *part = add(p, at, MSG_PART_TEXT);
    return part ? escape(p, v.raw, &part->text) : PD_NOMEM;
}

/* {"content": [{"text"}], "citations"}: an answer's text that goes back. */
static pd_err take_cited(struct parse *p, struct place *at, struct json v)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, json_get(v, "content"));
    while (json_walk_next(&w, NULL, &item)) {
        pd_err e = add_text(p, at, json_get(item, "text"));
        if (e)
            return e;
    }
    if (json_get(v, "citations").type == JSON_ARRAY)
        msg_drop(p->m, "citations");
    return PD_OK;
}

/* Guardrails are Bedrock's; what they guard is content like any other. */
static pd_err take_guarded(struct parse *p, struct place *at, struct json v)
{
    struct json image = json_get(v, "image");
    msg_drop(p->m, "guardContent");
    return image.type == JSON_OBJECT ? take_media(p, at, MSG_IMAGE, image)
                                     : add_text(p, at, json_path(v, "text.text"));
}

static pd_err unknown_block(struct parse *p, struct span key)
{
    char *text = arena_printf(p->a,
                              "a message has a content block \"%.*s\", which cannot be carried to a provider of "
                              "another format",
                              SPAN_FMT(span_upto(key, 40)));
    *p->why = text ? text : "a content block cannot be carried to a provider of another format";
    return PD_UNSUPPORTED;
}

static pd_err take_block(struct parse *p, struct place *at, struct span key, struct json v)
{
    static const struct {
        const char *key;
        enum msg_media media;
    } media[] = {{"image", MSG_IMAGE}, {"document", MSG_DOCUMENT}, {"video", MSG_VIDEO}, {"audio", MSG_AUDIO}};
    if (json_key_is(key, "text"))
        return add_text(p, at, v);
    if (json_key_is(key, "cachePoint")) {
        mark_cache(at->last, v);
        return PD_OK;
    }
    if (json_key_is(key, "toolUse") && !at->result)
        return take_call(p, at, v);
    if (json_key_is(key, "toolResult") && !at->result)
        return take_result(p, at, v);
    if (json_key_is(key, "json") && at->result)
        return take_json(p, at, v);
    if (json_key_is(key, "reasoningContent"))
        return take_reasoning(p, at, v);
    if (json_key_is(key, "citationsContent"))
        return take_cited(p, at, v);
    if (json_key_is(key, "guardContent"))
        return take_guarded(p, at, v);
    for (size_t i = 0; i < sizeof(media) / sizeof(media[0]); i++)
        if (json_key_is(key, media[i].key))
            return take_media(p, at, media[i].media, v);
    return unknown_block(p, key);
}

/* ---- messages ------------------------------------------------------------------------------ */

/* Results before anything else of their turn. */
static void results_first(struct msg_turn *t)
{
    struct msg_part *results = NULL, **result = &results, *others = NULL, **other = &others, *last = NULL;
    for (struct msg_part *part = t->first; part; part = part->next) {
        struct msg_part ***at = part->kind == MSG_PART_TOOL_RESULT ? &result : &other;
        **at = part;
        *at = &part->next;
    }
    *other = NULL;
    *result = others;
    t->first = results;
    for (struct msg_part *part = t->first; part; part = part->next)
        last = part;
    t->last = last;
}

static pd_err take_message(void *ctx, struct json message)
{
    struct parse *p = ctx;
    struct json role = json_get(message, "role"), content = json_get(message, "content");
    bool assistant = json_is(role, "assistant"), system = json_is(role, "system");
    if (!assistant && !system && !json_is(role, "user"))
        return wrong(p, "a message has a \"role\" that is neither user nor assistant");
    if (content.type != JSON_ARRAY)
        return wrong(p, "a message's \"content\" must be a list");
    struct place at = {.turn = msg_turn_add(p->m, p->a,
                                            assistant ? MSG_ASSISTANT
                                            : system  ? MSG_SYSTEM
                                                      : MSG_USER)};
    if (!at.turn)
        return PD_NOMEM;
    pd_err e = take_blocks(p, &at, content);
    results_first(at.turn);
    return e;
}

static pd_err take_messages(struct parse *p, struct json list)
{
    return value_messages(list, take_message, p, p->why);
}

static pd_err take_system(struct parse *p, struct json list)
{
    struct place at = {0};
    struct json first = json_path(list, "0");
    if (first.type == JSON_NONE)
        return PD_OK;
    at.turn = msg_turn_add(p->m, p->a, MSG_SYSTEM);
    return at.turn ? take_blocks(p, &at, list) : PD_NOMEM;
}

/* ---- tools ---------------------------------------------------------------------------------- */

static pd_err take_spec(struct parse *p, struct json spec)
{
    struct msg_tool *t = msg_tool_add(p->m, p->a, MSG_TOOL_FUNCTION);
    if (!t)
        return PD_NOMEM;
    struct json schema = json_path(spec, "inputSchema.json"), strict = json_get(spec, "strict");
    t->name = json_inner(json_get(spec, "name"));
    t->description = json_inner(json_get(spec, "description"));
    t->schema = schema.type == JSON_OBJECT ? schema.raw : SPAN_NONE;
    t->strict = strict.type == JSON_BOOL ? json_is_true(strict) : -1;
    return PD_OK;
}

static pd_err take_tool(struct parse *p, struct json v)
{
    struct json spec = json_get(v, "toolSpec"), point = json_get(v, "cachePoint");
    if (spec.type == JSON_OBJECT)
        return take_spec(p, spec);
    if (point.type == JSON_OBJECT) {
        if (p->m->last_tool) {
            p->m->last_tool->cache = true;
            p->m->last_tool->cache_ttl = json_inner(json_get(point, "ttl"));
        }
        return PD_OK;
    }
    struct msg_tool *t = msg_tool_add(p->m, p->a, MSG_TOOL_HOSTED);
    if (!t)
        return PD_NOMEM;
    t->name = json_inner(json_path(v, "systemTool.name"));
    t->raw = v.raw;
    return PD_OK;
}

static pd_err take_tool_config(struct parse *p, struct json config)
{
    struct json_walk w;
    struct json v, choice = json_get(config, "toolChoice"), named = json_get(choice, "tool");
    json_walk_init(&w, json_get(config, "tools"));
    while (json_walk_next(&w, NULL, &v)) {
        pd_err e = take_tool(p, v);
        if (e)
            return e;
    }
    if (named.type == JSON_OBJECT) {
        p->m->choice = MSG_CHOICE_NAMED;
        p->m->choice_name = json_inner(json_get(named, "name"));
    } else if (json_get(choice, "any").type == JSON_OBJECT) {
        p->m->choice = MSG_CHOICE_REQUIRED;
    } else if (json_get(choice, "auto").type == JSON_OBJECT) {
        p->m->choice = MSG_CHOICE_AUTO;
    }
    return PD_OK;
}

/* ---- settings ------------------------------------------------------------------------------- */

static pd_err take_inference(struct parse *p, struct json config)
{
    struct msg_request *m = p->m;
    struct json_walk w;
    struct json v;
    int64_t n;
    if (json_i64(json_get(config, "maxTokens"), &n) && n >= 0)
        m->max_tokens = n;
    m->temperature = value_number(json_get(config, "temperature"));
    m->top_p = value_number(json_get(config, "topP"));
    json_walk_init(&w, json_get(config, "stopSequences"));
    while (json_walk_next(&w, NULL, &v)) {
        if (m->stops_count == MSG_STOPS_MAX)
            msg_drop(m, "stopSequences");
        else if (json_inner(v).n)
            m->stops[m->stops_count++] = json_inner(v);
    }
    return PD_OK;
}

/* Claude's {"type": "enabled", "budget_tokens"} and {"type": "adaptive"}; Nova's {"type": "enabled", "maxReasoningEffort"}; others
 * have a word alone. */
static void take_thinking(struct msg_request *m, struct json v)
{
    struct json type = json_get(v, "type");
    enum msg_effort effort = value_effort(v.type == JSON_STRING ? v : json_get(v, "maxReasoningEffort"));
    int64_t n;
    if (json_is(type, "enabled")) /* Converse has no way to hide it */
        m->reasoning_shown = 1;
    if (json_is(type, "disabled"))
        m->effort = MSG_EFFORT_NONE;
    else if (effort != MSG_EFFORT_UNSAID)
        m->effort = effort;
    else if (json_i64(json_get(v, "budget_tokens"), &n) && n > 0)
        m->reasoning_tokens = n;
    else if ((json_is(type, "adaptive") || json_is(type, "enabled")) && m->effort == MSG_EFFORT_UNSAID)
        m->effort = MSG_EFFORT_HIGH;
}

/* What the models themselves call their settings. */
static pd_err take_more_fields(struct parse *p, struct json fields)
{
    struct msg_request *m = p->m;
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_init(&w, fields);
    while (json_walk_next(&w, &key, &v)) {
        pd_err e = PD_OK;
        if (json_key_is(key, "thinking") || json_key_is(key, "reasoning_config") ||
            json_key_is(key, "reasoningConfig"))
            take_thinking(m, v);
        else if (json_key_is(key, "reasoning_effort"))
            m->effort = value_effort(v);
        else if (json_key_is(key, "output_config") && json_get(v, "effort").type == JSON_STRING)
            m->effort = value_effort(json_get(v, "effort"));
        else if (json_key_is(key, "top_k"))
            m->top_k = value_number(v);
        else if (json_key_is(key, "inferenceConfig") && json_get(v, "topK").type == JSON_NUMBER)
            m->top_k = value_number(json_get(v, "topK"));
        else
            e = msg_drop_span(m, p->a, key);
        if (e)
            return e;
    }
    return PD_OK;
}

/* The schema is JSON in a string. */
static pd_err take_output(struct parse *p, struct json config)
{
    struct msg_request *m = p->m;
    struct json schema = json_path(config, "textFormat.structure.jsonSchema"), effort = json_get(config, "effort");
    if (effort.type == JSON_STRING)
        m->effort = value_effort(effort);
    if (schema.type != JSON_OBJECT)
        return PD_OK;
    struct span text;
    pd_err e = json_text(json_get(schema, "schema"), p->a, &text);
    if (e == PD_NOMEM)
        return e;
    if (e || json_check(text))
        return wrong(p, "\"outputConfig\" has a \"schema\" that is not JSON in a string");
    m->format = MSG_FORMAT_SCHEMA;
    m->format_schema = span_trim(text);
    m->format_name = json_inner(json_get(schema, "name"));
    m->format_description = json_inner(json_get(schema, "description"));
    return PD_OK;
}

static pd_err take_member(struct parse *p, struct span key, struct json v)
{
    if (json_key_is(key, "messages") || json_key_is(key, "system"))
        return PD_OK; /* in their order, below */
    if (json_key_is(key, "inferenceConfig"))
        return take_inference(p, v);
    if (json_key_is(key, "toolConfig"))
        return take_tool_config(p, v);
    if (json_key_is(key, "additionalModelRequestFields"))
        return take_more_fields(p, v);
    if (json_key_is(key, "outputConfig"))
        return take_output(p, v);
    if (json_key_is(key, "serviceTier")) {
        p->m->service_tier = json_inner(json_get(v, "type"));
        return PD_OK;
    }
    return v.type == JSON_NULL ? PD_OK : msg_drop_span(p->m, p->a, key);
}

pd_err converse_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                              const char **ret_why)
{
    struct parse p = {ret, a, ret_why};
    struct json body, v, system = {0}, messages = {0};
    struct json_walk w;
    struct span key;
    msg_request_init(ret);
    *ret_why = NULL;
    if (json_doc(f->body, &body)) {
        *ret_why = "the body is not valid JSON";
        return PD_SYNTAX;
    }
    pd_err e = PD_OK;
    ret->model = f->model;
    ret->stream = f->stream;
    ret->include_usage = true;
    json_walk_init(&w, body);
    while (!e && json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "system"))
            system = v;
        else if (json_key_is(key, "messages"))
            messages = v;
        e = take_member(&p, key, v);
    }
    if (!e)
        e = take_system(&p, system);
    if (!e)
        e = take_messages(&p, messages);
    if (!e)
        e = msg_link(ret, a);
    if (e && !*ret_why)
        *ret_why = e == PD_NOMEM ? "out of memory while reading the request" : "the request cannot be read";
    return e;
}

pd_err converse_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret)
{
    const char *why;
    struct parse p = {ret, a, &why};
    msg_request_init(ret);
    return request_lenient(take_tool_config(&p, request_member(f, "toolConfig")));
}
