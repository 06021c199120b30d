/* An Anthropic request into the neutral form. */
#include "dialect/anthropic_priv.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

#include <stddef.h>

struct parse {
    struct msg_request *m;
    struct arena *a;
    const char **why;
};

/* Where parts go: a turn, or a tool's result in it. */
struct sink {
    struct msg_turn *turn;
    struct msg_part *result; /* NULL: the turn itself */
};

static pd_err wrong(struct parse *ps, const char *sentence)
{
    *ps->why = sentence;
    return PD_INVALID;
}

static pd_err cannot(struct parse *ps, const char *what, struct span kind)
{
    char *sentence =
        arena_printf(ps->a, "%s of type \"%.*s\" cannot be translated", what, SPAN_FMT(span_upto(kind, 64)));
    *ps->why = sentence ? sentence : "a content block of this request cannot be translated";
    return PD_UNSUPPORTED;
}

static pd_err no_memory(struct parse *ps)
{
    *ps->why = "out of memory while reading the request";
    return PD_NOMEM;
}

static struct msg_part *add_part(struct parse *ps, const struct sink *to, enum msg_part_kind kind)
{
    return to->result ? msg_content_add(to->result, ps->a, kind) : msg_part_add(to->turn, ps->a, kind);
}

static void take_mark(struct json mark, bool *cache, struct span *ttl)
{
    if (mark.type != JSON_OBJECT)
        return;
    *cache = true;
    *ttl = json_inner(json_get(mark, "ttl"));
}

static void take_cache(struct json v, bool *cache, struct span *ttl)
{
    take_mark(json_get(v, "cache_control"), cache, ttl);
}

/* ---- blocks ------------------------------------------------------------------------ */

static pd_err take_content(struct parse *ps, const struct sink *to, struct json content);

static pd_err add_text(struct parse *ps, const struct sink *to, struct span text, struct json block)
{
    struct msg_part *p = add_part(ps, to, MSG_PART_TEXT);
    if (!p)
        return no_memory(ps);
    p->text = text;
    take_cache(block, &p->cache, &p->cache_ttl);
    return PD_OK;
}

static pd_err take_text(struct parse *ps, const struct sink *to, struct json block)
{
    return add_text(ps, to, json_inner(json_get(block, "text")), block);
}

/* Where media are: "source" of an image or a document. */
static pd_err take_source(struct parse *ps, struct msg_part *p, struct json source)
{
    struct json type = json_get(source, "type");
    p->media_type = json_inner(json_get(source, "media_type"));
    if (json_is(type, "base64")) {
        p->data = json_inner(json_get(source, "data"));
    } else if (json_is(type, "url")) {
        p->url = json_inner(json_get(source, "url"));
    } else if (json_is(type, "file")) {
        p->file_id = json_inner(json_get(source, "file_id"));
        p->maker = MSG_MAKER_ANTHROPIC;
    } else {
        return cannot(ps, "a source", json_inner(type));
    }
    return PD_OK;
}

static pd_err take_media(struct parse *ps, const struct sink *to, struct json block, enum msg_media media)
{
    struct msg_part *p = add_part(ps, to, MSG_PART_MEDIA);
    if (!p)
        return no_memory(ps);
    p->media = media;
    p->file_name = json_inner(json_get(block, "title"));
    take_cache(block, &p->cache, &p->cache_ttl);
    return take_source(ps, p, json_get(block, "source"));
}

static pd_err take_image(struct parse *ps, const struct sink *to, struct json block)
{
    return take_media(ps, to, block, MSG_IMAGE);
}

/* A text of its own with its title, in tags: every format has texts, few have documents of text. */
static pd_err add_titled(struct parse *ps, const struct sink *to, const char *tag, struct json block,
                         struct span text)
{
    struct span title = json_inner(json_get(block, "title"));
    char *all = arena_printf(ps->a, "<%s%s%.*s%s>\\n%.*s\\n</%s>", tag, title.n ? " title=\\\"" : "",
                             SPAN_FMT(title), title.n ? "\\\"" : "", SPAN_FMT(text), tag);
    return all ? add_text(ps, to, span_str(all), block) : no_memory(ps);
}

static pd_err take_document(struct parse *ps, const struct sink *to, struct json block)
{
    struct json source = json_get(block, "source"), type = json_get(source, "type");
    if (json_is(type, "text"))
        return add_titled(ps, to, "document", block, json_inner(json_get(source, "data")));
    if (json_is(type, "content"))
        return take_content(ps, to, json_get(source, "content"));
    return take_media(ps, to, block, MSG_DOCUMENT);
}

/* What a search of the client's own found. */
static pd_err take_search_result(struct parse *ps, const struct sink *to, struct json block)
{
    struct json_walk w;
    struct json item;
    pd_err e = add_titled(ps, to, "search_result", block, json_inner(json_get(block, "source")));
    json_walk_init(&w, json_get(block, "content"));
    while (!e && json_walk_next(&w, NULL, &item))
        e = take_text(ps, to, item);
    return e;
}

/* A tool that the client's search for tools found: tools that were held back are all given elsewhere. */
static pd_err take_tool_reference(struct parse *ps, const struct sink *to, struct json block)
{
    return add_text(ps, to, json_inner(json_get(block, "tool_name")), block);
}

/* Earlier turns, summed up by the provider. */
static pd_err take_compaction(struct parse *ps, const struct sink *to, struct json block)
{
    struct span text = json_inner(json_get(block, "content"));
    return text.n ? add_text(ps, to, text, block) : PD_OK;
}

static pd_err take_thinking(struct parse *ps, const struct sink *to, struct json block)
{
    struct msg_part *p = add_part(ps, to, MSG_PART_REASONING);
    if (!p)
        return no_memory(ps);
    struct span signature = json_inner(json_get(block, "signature"));
    p->text = json_inner(json_get(block, "thinking"));
    if (signature.n && !span_starts(signature, ENCODER_FOREIGN)) {
        p->signature = signature;
        p->maker = MSG_MAKER_ANTHROPIC;
    }
    return PD_OK;
}

static pd_err take_redacted(struct parse *ps, const struct sink *to, struct json block)
{
    struct msg_part *p = add_part(ps, to, MSG_PART_REASONING);
    if (!p)
        return no_memory(ps);
    p->sealed = json_inner(json_get(block, "data"));
    p->maker = MSG_MAKER_ANTHROPIC;
    return PD_OK;
}

static pd_err take_tool_use(struct parse *ps, const struct sink *to, struct json block)
{
    struct json input = json_get(block, "input");
    struct msg_part *p = add_part(ps, to, MSG_PART_TOOL_CALL);
    if (!p)
        return no_memory(ps);
    p->id = json_inner(json_get(block, "id"));
    p->name = json_inner(json_get(block, "name"));
    p->arguments = input.type == JSON_OBJECT ? input.raw : SPAN_LIT("{}");
    take_cache(block, &p->cache, &p->cache_ttl);
    return PD_OK;
}

static pd_err take_tool_result(struct parse *ps, const struct sink *to, struct json block)
{
    struct msg_part *p = add_part(ps, to, MSG_PART_TOOL_RESULT);
    if (!p)
        return no_memory(ps);
    p->id = json_inner(json_get(block, "tool_use_id"));
    p->failed = json_is_true(json_get(block, "is_error"));
    take_cache(block, &p->cache, &p->cache_ttl);
    return take_content(ps, &(struct sink){to->turn, p}, json_get(block, "content"));
}

/* Tools that Anthropic ran itself, and what they gave: sealed for others. What the model made of it is the text behind. */
static pd_err pass_server_tool(struct parse *ps, const struct sink *to, struct json block)
{
    (void)to;
    return msg_drop_span(ps->m, ps->a, json_inner(json_get(block, "type"))) ? no_memory(ps) : PD_OK;
}

enum { IN_TURNS = 1, IN_RESULTS = 2 };

static const struct block_row {
    const char *type;
    unsigned where;
    pd_err (*take)(struct parse *ps, const struct sink *to, struct json block);
} block_rows[] = {
    {"text", IN_TURNS | IN_RESULTS, take_text},
    {"image", IN_TURNS | IN_RESULTS, take_image},
    {"document", IN_TURNS | IN_RESULTS, take_document},
    {"search_result", IN_TURNS | IN_RESULTS, take_search_result},
    {"tool_reference", IN_TURNS | IN_RESULTS, take_tool_reference},
    {"tool_use", IN_TURNS, take_tool_use},
    {"tool_result", IN_TURNS, take_tool_result},
    {"thinking", IN_TURNS, take_thinking},
    {"redacted_thinking", IN_TURNS, take_redacted},
    {"compaction", IN_TURNS, take_compaction},
    {"server_tool_use", IN_TURNS, pass_server_tool},
    {"mcp_tool_use", IN_TURNS, pass_server_tool},
};

static pd_err take_block(struct parse *ps, const struct sink *to, struct json block)
{
    struct json type = json_get(block, "type");
    unsigned where = to->result ? IN_RESULTS : IN_TURNS;
    if (block.type != JSON_OBJECT || type.type != JSON_STRING)
        return wrong(ps, "a content block must be an object with a \"type\"");
    for (size_t i = 0; i < sizeof(block_rows) / sizeof(block_rows[0]); i++)
        if ((block_rows[i].where & where) && json_is(type, block_rows[i].type))
            return block_rows[i].take(ps, to, block);
    if (!to->result && span_ends(json_inner(type), "_tool_result"))
        return pass_server_tool(ps, to, block);
    return cannot(ps, to->result ? "a block of a tool result" : "a content block", json_inner(type));
}

static bool is_result(struct json block)
{
    return json_is(json_get(block, "type"), "tool_result");
}

/* Results are first in the neutral form, wherever they stand here. */
static pd_err take_content(struct parse *ps, const struct sink *to, struct json content)
{
    static const struct json no_block = {0};
    struct json_walk w;
    struct json block;
    pd_err e = PD_OK;
    if (content.type == JSON_STRING)
        return add_text(ps, to, json_inner(content), no_block);
    if (content.type != JSON_ARRAY)
        return content.type == JSON_NONE || content.type == JSON_NULL
                   ? PD_OK
                   : wrong(ps, "\"content\" must be a string or an array of content blocks");
    for (int results = 1; results >= 0; results--) {
        json_walk_init(&w, content);
        while (!e && json_walk_next(&w, NULL, &block))
            if (is_result(block) == results)
                e = take_block(ps, to, block);
    }
    return e;
}

/* ---- turns ------------------------------------------------------------------------- */

static pd_err take_turn(struct parse *ps, struct json message)
{
    static const struct {
        const char *word;
        enum msg_role role;
    } rows[] = {
        {"user", MSG_USER}, {"assistant", MSG_ASSISTANT}, {"system", MSG_SYSTEM}, {"developer", MSG_DEVELOPER}};
    struct json role, content;
    anthropic_message(message, &role, &content);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!json_is(role, rows[i].word))
            continue;
        struct msg_turn *t = msg_turn_add(ps->m, ps->a, rows[i].role);
        return t ? take_content(ps, &(struct sink){t, NULL}, content) : no_memory(ps);
    }
    return wrong(ps, "\"role\" of a message must be \"user\", \"assistant\" or \"system\"");
}

static pd_err take_messages(struct parse *ps, struct json messages)
{
    struct json_walk w;
    struct json message;
    pd_err e = PD_OK;
    if (messages.type != JSON_ARRAY)
        return wrong(ps, "\"messages\" must be an array of messages");
    json_walk_init(&w, messages);
    while (!e && json_walk_next(&w, NULL, &message))
        e = take_turn(ps, message);
    return e;
}

static pd_err take_system(struct parse *ps, struct json system)
{
    struct json_walk w;
    struct json block;
    pd_err e = PD_OK;
    if (system.type == JSON_NONE || system.type == JSON_NULL)
        return PD_OK;
    struct msg_turn *t = msg_turn_add(ps->m, ps->a, MSG_SYSTEM);
    if (!t)
        return no_memory(ps);
    struct sink to = {t, NULL};
    if (system.type != JSON_ARRAY)
        return take_content(ps, &to, system);
    json_walk_init(&w, system);
    while (!e && json_walk_next(&w, NULL, &block))
        if (!span_starts(json_inner(json_get(block, "text")), ANTHROPIC_BILLING)) /* would empty others' caches */
            e = take_block(ps, &to, block);
    return e;
}

/* A mark at the top stands for one behind all there is. */
static void take_automatic_cache(struct parse *ps, struct json mark)
{
    struct msg_turn *t = ps->m->last;
    if (t && t->last)
        take_mark(mark, &t->last->cache, &t->last->cache_ttl);
}

/* ---- tools ------------------------------------------------------------------------- */

static pd_err take_tool(struct parse *ps, struct json tool)
{
    struct json type = json_get(tool, "type"), strict = json_get(tool, "strict");
    bool function = type.type != JSON_STRING || json_is(type, "custom");
    if (tool.type != JSON_OBJECT)
        return wrong(ps, "a tool must be an object");
    struct msg_tool *t = msg_tool_add(ps->m, ps->a, function ? MSG_TOOL_FUNCTION : MSG_TOOL_HOSTED);
    if (!t)
        return no_memory(ps);
    t->name = json_inner(json_get(tool, "name"));
    take_cache(tool, &t->cache, &t->cache_ttl);
    if (!function) {
        t->raw = tool.raw;
        return PD_OK;
    }
    struct json schema = json_get(tool, "input_schema");
    t->description = json_inner(json_get(tool, "description"));
    t->schema = schema.type == JSON_OBJECT ? schema.raw : SPAN_NONE;
    t->strict = strict.type == JSON_BOOL ? json_is_true(strict) : -1;
    return PD_OK;
}

static pd_err take_tools(struct parse *ps, struct json tools)
{
    struct json_walk w;
    struct json tool;
    pd_err e = PD_OK;
    json_walk_init(&w, tools);
    while (!e && json_walk_next(&w, NULL, &tool))
        e = take_tool(ps, tool);
    return e;
}

static pd_err take_choice(struct parse *ps, struct json choice)
{
    static const struct {
        const char *word;
        enum msg_choice choice;
    } rows[] = {{"auto", MSG_CHOICE_AUTO},
                {"any", MSG_CHOICE_REQUIRED},
                {"tool", MSG_CHOICE_NAMED},
                {"none", MSG_CHOICE_NONE}};
    struct json type = json_get(choice, "type"), alone = json_get(choice, "disable_parallel_tool_use");
    if (choice.type != JSON_OBJECT)
        return PD_OK;
    if (alone.type == JSON_BOOL)
        ps->m->parallel = !json_is_true(alone);
    ps->m->choice_name = json_inner(json_get(choice, "name"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!json_is(type, rows[i].word))
            continue;
        ps->m->choice = rows[i].choice;
        return PD_OK;
    }
    return wrong(ps, "\"type\" of \"tool_choice\" must be \"auto\", \"any\", \"tool\" or \"none\"");
}

/* ---- settings ------------------------------------------------------------------------ */

static enum msg_effort effort_of(struct json word)
{
    static const struct {
        const char *word;
        enum msg_effort effort;
    } rows[] = {
        {"low", MSG_EFFORT_LOW},   {"medium", MSG_EFFORT_MEDIUM}, {"high", MSG_EFFORT_HIGH},
        {"xhigh", MSG_EFFORT_MAX}, {"max", MSG_EFFORT_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_is(word, rows[i].word))
            return rows[i].effort;
    return MSG_EFFORT_UNSAID;
}

/* "thinking" says whether and how long, output_config.effort how hard. Adaptive thinking without a word on effort is "high",
 * as the API documents; what is enabled is shown unless "display" says otherwise. */
static void take_reasoning(struct msg_request *m, struct json thinking, struct json effort)
{
    struct json type = json_get(thinking, "type"), display = json_get(thinking, "display");
    int64_t budget;
    m->effort = effort_of(effort);
    if (json_is(display, "summarized") || json_is(display, "omitted"))
        m->reasoning_shown = json_is(display, "summarized");
    if (json_is(type, "disabled"))
        m->effort = MSG_EFFORT_NONE;
    if (json_is(type, "adaptive") && m->effort == MSG_EFFORT_UNSAID)
        m->effort = MSG_EFFORT_HIGH;
    if (json_is(type, "enabled") && m->reasoning_shown < 0)
        m->reasoning_shown = 1;
    if (json_is(type, "enabled") && json_i64(json_get(thinking, "budget_tokens"), &budget) && budget >= 0)
        m->reasoning_tokens = budget;
}

static void take_format(struct msg_request *m, struct json format)
{
    struct json schema = json_get(format, "schema");
    if (!json_is(json_get(format, "type"), "json_schema") || schema.type != JSON_OBJECT)
        return;
    m->format = MSG_FORMAT_SCHEMA;
    m->format_schema = schema.raw;
}

static void take_stops(struct msg_request *m, struct json stops)
{
    struct json_walk w;
    struct json stop;
    json_walk_init(&w, stops);
    while (json_walk_next(&w, NULL, &stop)) {
        if (m->stops_count == MSG_STOPS_MAX)
            msg_drop(m, "stop_sequences");
        else if (json_inner(stop).n)
            m->stops[m->stops_count++] = json_inner(stop);
    }
}

/* The tier's words are OpenAI's in the neutral form. */
static struct span tier_of(struct json tier)
{
    return json_is(tier, "standard_only") ? SPAN_LIT("default") : json_inner(tier);
}

/* ---- the body -------------------------------------------------------------------------- */

struct members {
    struct json model, messages, system, tools, tool_choice, max_tokens, stream, temperature, top_p, top_k;
    struct json stop_sequences, thinking, output_config, output_format, metadata, service_tier, cache_control;
    struct json anthropic_version, anthropic_beta;
};

static pd_err take_member(struct parse *ps, struct members *ms, struct span key, struct json v)
{
    static const struct request_field rows[] = {REQUEST_FIELD(struct members, model),
                                                REQUEST_FIELD(struct members, messages),
                                                REQUEST_FIELD(struct members, system),
                                                REQUEST_FIELD(struct members, tools),
                                                REQUEST_FIELD(struct members, tool_choice),
                                                REQUEST_FIELD(struct members, max_tokens),
                                                REQUEST_FIELD(struct members, stream),
                                                REQUEST_FIELD(struct members, temperature),
                                                REQUEST_FIELD(struct members, top_p),
                                                REQUEST_FIELD(struct members, top_k),
                                                REQUEST_FIELD(struct members, thinking),
                                                REQUEST_FIELD(struct members, stop_sequences),
                                                REQUEST_FIELD(struct members, output_config),
                                                REQUEST_FIELD(struct members, output_format),
                                                REQUEST_FIELD(struct members, metadata),
                                                REQUEST_FIELD(struct members, service_tier),
                                                REQUEST_FIELD(struct members, cache_control),
                                                REQUEST_FIELD(struct members, anthropic_beta),
                                                REQUEST_FIELD(struct members, anthropic_version)};
    if (request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ms))
        return PD_OK;
    return msg_drop_span(ps->m, ps->a, key) ? no_memory(ps) : PD_OK;
}

static pd_err take_body(struct parse *ps, struct json body)
{
    struct members ms = {0};
    struct msg_request *m = ps->m;
    struct json_walk w;
    struct span key;
    struct json v;
    pd_err e = PD_OK;
    int64_t n;
    json_walk_init(&w, body);
    while (!e && json_walk_next(&w, &key, &v))
        e = take_member(ps, &ms, key, v);
    if (!e)
        e = take_system(ps, ms.system);
    if (!e)
        e = take_messages(ps, ms.messages);
    if (!e)
        e = take_tools(ps, ms.tools);
    if (!e)
        e = take_choice(ps, ms.tool_choice);
    if (e)
        return e;
    take_automatic_cache(ps, ms.cache_control);
    take_reasoning(m, ms.thinking, json_get(ms.output_config, "effort"));
    take_format(m, ms.output_format);
    take_format(m, json_get(ms.output_config, "format"));
    take_stops(m, ms.stop_sequences);
    m->max_tokens = json_i64(ms.max_tokens, &n) && n >= 0 ? n : -1;
    m->temperature = value_number(ms.temperature);
    m->top_p = value_number(ms.top_p);
    m->top_k = value_number(ms.top_k);
    m->user = json_inner(json_get(ms.metadata, "user_id"));
    m->service_tier = tier_of(ms.service_tier);
    return PD_OK;
}

pd_err anthropic_parse_request(const struct request_facts *f, struct arena *a, struct msg_request *ret,
                               const char **ret_why)
{
    struct msg_request m;
    struct parse ps = {&m, a, ret_why};
    struct json body;
    msg_request_init(&m);
    if (json_doc(f->body, &body)) {
        *ret_why = "the body is not valid JSON";
        return PD_SYNTAX;
    }
    m.model = f->model;
    m.stream = f->stream;
    m.include_usage = true;
    pd_err e = take_body(&ps, body);
    if (!e && msg_link(&m, a))
        e = no_memory(&ps);
    if (!e)
        *ret = m;
    return e;
}

pd_err anthropic_parse_tools(const struct request_facts *f, struct arena *a, struct msg_request *ret)
{
    const char *why;
    struct parse ps = {ret, a, &why};
    msg_request_init(ret);
    return request_lenient(take_tools(&ps, request_member(f, "tools")));
}
