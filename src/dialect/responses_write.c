/* OpenAI Responses: the neutral form as a request's body. */
#include "dialect/responses_priv.h"
#include "dialect/value_priv.h"

struct writer {
    struct put put;
    const struct msg_request *m;
    struct arena *a;
    bool more; /* a member or an item was written: a comma comes first */
};

static void put_member(struct put *p, const char *name, struct span escaped)
{
    put_text(p, ",");
    put_field(p, name, escaped);
}

static void put_member_if(struct put *p, const char *name, struct span escaped)
{
    if (escaped.n)
        put_member(p, name, escaped);
}

static void put_raw_if(struct put *p, const char *name, struct span raw)
{
    if (!raw.n)
        return;
    put_text(p, ",\"");
    put_text(p, name);
    put_text(p, "\":");
    put_span(p, raw);
}

static void put_separated(struct writer *w, const char *text)
{
    put_text(&w->put, w->more ? "," : "");
    put_text(&w->put, text);
    w->more = true;
}

/* ---- parts ------------------------------------------------------------------------- */

/* `"name":"data:TYPE;base64,..."` */
static void put_data_url(struct put *p, const char *name, const struct msg_part *part, const char *type)
{
    put_text(p, ",\"");
    put_text(p, name);
    put_text(p, "\":\"data:");
    if (part->media_type.n)
        put_span(p, part->media_type);
    else
        put_text(p, type);
    put_text(p, ";base64,");
    put_span(p, part->data);
    put_text(p, "\"");
}

static void put_image(struct put *p, const struct msg_part *part)
{
    put_text(p, "{\"type\":\"input_image\"");
    if (part->data.n)
        put_data_url(p, "image_url", part, "image/png");
    put_member_if(p, "image_url", part->url);
    put_member_if(p, "file_id", part->file_id);
    put_member_if(p, "detail", part->detail);
    put_text(p, "}");
}

static void put_file(struct put *p, const struct msg_part *part)
{
    put_text(p, "{\"type\":\"input_file\"");
    if (part->data.n) /* a file needs a name, and its name says what it is */
        put_member(p, "filename", part->file_name.n ? part->file_name : SPAN_LIT("document.pdf"));
    else
        put_member_if(p, "filename", part->url.n ? SPAN_NONE : part->file_name);
    if (part->data.n)
        put_data_url(p, "file_data", part, "application/pdf");
    put_member_if(p, "file_url", part->url);
    put_member_if(p, "file_id", part->file_id);
    put_text(p, "}");
}

static void put_audio(struct put *p, const struct msg_part *part)
{
    struct span format = part->media_type;
    span_cut(&format, '/');
    if (span_is(format, "mpeg") || !format.n)
        format = SPAN_LIT("mp3");
    else if (span_starts(format, "x-"))
        format = span_from(format, 2);
    put_text(p, "{\"type\":\"input_audio\",\"input_audio\":{\"data\":");
    put_escaped(p, "", part->data);
    put_member(p, "format", format);
    put_text(p, "}}");
}

static void put_typed_text(struct put *p, const char *type, const char *name, struct span text)
{
    put_text(p, "{\"type\":\"");
    put_text(p, type);
    put_text(p, "\"");
    put_member(p, name, text);
    put_text(p, "}");
}

/* A part of a message, or of a tool's output. */
static void put_part(struct put *p, const struct msg_part *part, bool assistant)
{
    switch (part->kind) {
    case MSG_PART_TEXT:
        put_typed_text(p, assistant ? "output_text" : "input_text", "text", part->text);
        break;
    case MSG_PART_REFUSAL:
        put_typed_text(p, "refusal", "refusal", part->text);
        break;
    case MSG_PART_MEDIA:
        if (part->media == MSG_IMAGE)
            put_image(p, part);
        else if (part->media == MSG_AUDIO)
            put_audio(p, part);
        else
            put_file(p, part);
        break;
    case MSG_PART_REASONING:
    case MSG_PART_TOOL_CALL:
    case MSG_PART_TOOL_RESULT:
        break; /* items of their own */
    }
}

static bool stands_in_message(const struct msg_part *part)
{
    return part->kind == MSG_PART_TEXT || part->kind == MSG_PART_REFUSAL || part->kind == MSG_PART_MEDIA;
}

/* ---- items ------------------------------------------------------------------------- */

/* The parts up to the first that is an item of its own. Returns that one. */
static const struct msg_part *put_message(struct writer *w, enum msg_role role, const struct msg_part *part)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant"};
    put_separated(w, "{\"type\":\"message\",\"role\":\"");
    put_text(&w->put, roles[role]);
    put_text(&w->put, "\",\"content\":[");
    for (bool first = true; part && stands_in_message(part); part = part->next, first = false) {
        put_text(&w->put, first ? "" : ",");
        put_part(&w->put, part, role == MSG_ASSISTANT);
    }
    put_text(&w->put, "]}");
    return part;
}

static void put_reasoning(struct writer *w, const struct msg_part *part)
{
    put_separated(w, "{\"type\":\"reasoning\"");
    put_member_if(&w->put, "id", part->seal_id);
    put_text(&w->put, ",\"summary\":[");
    if (part->text.n)
        put_typed_text(&w->put, "summary_text", "text", part->text);
    put_text(&w->put, "]");
    put_member_if(&w->put, "encrypted_content", part->sealed);
    put_text(&w->put, "}");
}

/* The name that the format knows, and the namespace. */
static void put_tool_name(struct writer *w, struct span name)
{
    const struct msg_tool *t = responses_tool(w->m, name);
    if (t && t->space.n) {
        put_member(&w->put, "namespace", t->space);
        put_member(&w->put, "name", t->plain_name);
    } else {
        put_member(&w->put, "name", name);
    }
}

static void put_call(struct writer *w, const struct msg_part *part)
{
    put_separated(w, part->custom ? "{\"type\":\"custom_tool_call\"" : "{\"type\":\"function_call\"");
    put_member(&w->put, "call_id", part->id);
    put_tool_name(w, part->name);
    if (part->custom) {
        put_member(&w->put, "input", part->text);
    } else if (part->arguments.p) {
        put_text(&w->put, ",\"arguments\":");
        put_json(&w->put, part->arguments);
    } else {
        put_member(&w->put, "arguments", part->text);
    }
    put_text(&w->put, "}");
}

static void put_result(struct writer *w, const struct msg_part *part)
{
    const struct msg_part *c = part->content;
    put_separated(w,
                  part->custom ? "{\"type\":\"custom_tool_call_output\"" : "{\"type\":\"function_call_output\"");
    put_member(&w->put, "call_id", part->id);
    if (!c || (!c->next && c->kind == MSG_PART_TEXT)) {
        put_member(&w->put, "output", c ? c->text : SPAN_NONE);
    } else {
        put_text(&w->put, ",\"output\":[");
        for (; c; c = c->next) {
            put_part(&w->put, c, false);
            put_text(&w->put, c->next ? "," : "");
        }
        put_text(&w->put, "]");
    }
    put_text(&w->put, "}");
}

static void put_turn(struct writer *w, const struct msg_turn *t)
{
    for (const struct msg_part *part = t->first; part;) {
        if (stands_in_message(part)) {
            part = put_message(w, t->role, part);
            continue;
        }
        if (part->kind == MSG_PART_REASONING)
            put_reasoning(w, part);
        else if (part->kind == MSG_PART_TOOL_CALL)
            put_call(w, part);
        else
            put_result(w, part);
        part = part->next;
    }
}

/* The first system turn, where it is one text and not all there is: it becomes the instructions. */
static const struct msg_turn *instructions_of(const struct msg_request *m)
{
    const struct msg_turn *t = m->first;
    bool one_text = t && t->role == MSG_SYSTEM && t->first && !t->first->next && t->first->kind == MSG_PART_TEXT;
    return one_text && t->first->text.n && t->next ? t : NULL;
}

static void put_input(struct writer *w)
{
    const struct msg_turn *t = w->m->first, *instructions = instructions_of(w->m);
    if (instructions) {
        put_member(&w->put, "instructions", instructions->first->text);
        t = t->next;
    }
    put_text(&w->put, ",\"input\":[");
    w->more = false;
    for (; t; t = t->next)
        put_turn(w, t);
    put_text(&w->put, "]");
}

/* ---- tools ------------------------------------------------------------------------- */

/* The form of a custom tool's text. Chat has what a grammar says in an object of its own. */
static void put_grammar(struct put *p, struct span format)
{
    struct json v = {JSON_OBJECT, format}, grammar = json_get(v, "grammar");
    if (grammar.type != JSON_OBJECT) {
        put_raw_if(p, "format", format);
        return;
    }
    put_text(p, ",\"format\":{\"type\":\"grammar\"");
    put_raw_if(p, "syntax", json_get(grammar, "syntax").raw);
    put_raw_if(p, "definition", json_get(grammar, "definition").raw);
    put_text(p, "}");
}

static void put_tool(struct writer *w, const struct msg_tool *t)
{
    struct put *p = &w->put;
    if (t->kind == MSG_TOOL_HOSTED) {
        put_separated(w, "");
        put_span(p, t->raw);
        return;
    }
    put_separated(w, t->kind == MSG_TOOL_CUSTOM ? "{\"type\":\"custom\"" : "{\"type\":\"function\"");
    put_member(p, "name", t->space.n ? t->plain_name : t->name);
    put_member_if(p, "description", t->description);
    if (t->kind == MSG_TOOL_CUSTOM) {
        put_grammar(p, t->raw);
    } else {
        put_raw_if(p, "parameters", t->schema.n ? t->schema : SPAN_LIT("{\"type\":\"object\",\"properties\":{}}"));
        put_text(p, t->strict == 1 ? ",\"strict\":true"
                                   : ",\"strict\":false"); /* unsaid is true here, and nowhere else */
    }
    put_text(p, "}");
}

/* The tools of one namespace that follow each other. Returns the first behind them. */
static const struct msg_tool *put_namespace(struct writer *w, const struct msg_tool *t)
{
    struct span space = t->space;
    put_separated(w, "{\"type\":\"namespace\"");
    put_member(&w->put, "name", space);
    put_text(&w->put, ",\"tools\":[");
    w->more = false;
    for (; t && span_eq(t->space, space); t = t->next)
        put_tool(w, t);
    put_text(&w->put, "]}");
    w->more = true;
    return t;
}

static void put_tools(struct writer *w)
{
    if (!w->m->tools)
        return;
    put_text(&w->put, ",\"tools\":[");
    w->more = false;
    for (const struct msg_tool *t = w->m->tools; t;) {
        if (t->space.n) {
            t = put_namespace(w, t);
        } else {
            put_tool(w, t);
            t = t->next;
        }
    }
    put_text(&w->put, "]");
}

static void put_choice(struct writer *w)
{
    const struct msg_request *m = w->m;
    const struct msg_tool *t;
    switch (m->choice) {
    case MSG_CHOICE_UNSAID:
        break;
    case MSG_CHOICE_AUTO:
        put_text(&w->put, ",\"tool_choice\":\"auto\"");
        break;
    case MSG_CHOICE_NONE:
        put_text(&w->put, ",\"tool_choice\":\"none\"");
        break;
    case MSG_CHOICE_REQUIRED:
        put_text(&w->put, ",\"tool_choice\":\"required\"");
        break;
    case MSG_CHOICE_NAMED:
        t = responses_tool(m, m->choice_name);
        put_text(&w->put, t && t->kind == MSG_TOOL_CUSTOM ? ",\"tool_choice\":{\"type\":\"custom\""
                                                          : ",\"tool_choice\":{\"type\":\"function\"");
        put_tool_name(w, m->choice_name);
        put_text(&w->put, "}");
        break;
    }
    if (m->parallel >= 0)
        put_text(&w->put, m->parallel ? ",\"parallel_tool_calls\":true" : ",\"parallel_tool_calls\":false");
}

/* ---- settings ---------------------------------------------------------------------- */

static void put_text_settings(struct put *p, const struct msg_request *m)
{
    if (m->format == MSG_FORMAT_UNSAID && !m->verbosity.n)
        return;
    put_text(p, ",\"text\":{");
    switch (m->format) {
    case MSG_FORMAT_UNSAID:
        break;
    case MSG_FORMAT_TEXT:
        put_text(p, "\"format\":{\"type\":\"text\"}");
        break;
    case MSG_FORMAT_JSON:
        put_text(p, "\"format\":{\"type\":\"json_object\"}");
        break;
    case MSG_FORMAT_SCHEMA:
        put_text(p, "\"format\":{\"type\":\"json_schema\"");
        put_member(p, "name", m->format_name.n ? m->format_name : SPAN_LIT("answer"));
        put_member_if(p, "description", m->format_description);
        put_raw_if(p, "schema", m->format_schema);
        if (m->format_strict >= 0)
            put_text(p, m->format_strict ? ",\"strict\":true" : ",\"strict\":false");
        put_text(p, "}");
        break;
    }
    if (m->verbosity.n) {
        put_text(p, m->format == MSG_FORMAT_UNSAID ? "\"verbosity\":" : ",\"verbosity\":");
        put_escaped(p, "", m->verbosity);
    }
    put_text(p, "}");
}

static void put_reasoning_wish(struct put *p, const struct msg_request *m)
{
    const char *effort = value_effort_word(m->effort);
    bool summary = m->reasoning_shown == 1;
    if (!effort && !summary)
        return;
    put_text(p, ",\"reasoning\":{");
    if (effort)
        put_printf(p, "\"effort\":\"%s\"%s", effort, summary ? "," : "");
    if (summary)
        put_text(p, "\"summary\":\"auto\"");
    put_text(p, "}");
}

/* What the maker has to send along for the conversation to go on without a store. Models that do not reason refuse it: so
 * only where the conversation reasons. */
static void put_include(struct put *p, const struct msg_request *m)
{
    bool sealed = (m->effort != MSG_EFFORT_UNSAID && m->effort != MSG_EFFORT_NONE) || m->reasoning_shown == 1 ||
                  msg_has(m, MSG_PART_REASONING);
    if (!sealed && !m->logprobs)
        return;
    put_printf(p, ",\"include\":[%s%s%s]", sealed ? "\"reasoning.encrypted_content\"" : "",
               sealed && m->logprobs ? "," : "", m->logprobs ? "\"message.output_text.logprobs\"" : "");
}

static void put_settings(struct put *p, const struct msg_request *m)
{
    if (m->max_tokens >= 0)
        put_printf(p, ",\"max_output_tokens\":%lld", (long long)m->max_tokens);
    put_raw_if(p, "temperature", m->temperature);
    put_raw_if(p, "top_p", m->top_p);
    if (m->top_logprobs >= 0)
        put_printf(p, ",\"top_logprobs\":%lld", (long long)m->top_logprobs);
    put_text_settings(p, m);
    put_reasoning_wish(p, m);
    put_include(p, m);
    put_member_if(p, "user", m->user);
    put_member_if(p, "service_tier", m->service_tier);
    put_member_if(p, "prompt_cache_key", m->cache_key);
}

pd_err responses_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                               struct buf *out)
{
    struct writer w = {.put = put_into(out), .m = m, .a = a};
    put_text(&w.put, "{");
    if (!want->drop_model) {
        put_text(&w.put, "\"model\":");
        put_json(&w.put, want->model);
        put_text(&w.put, ",");
    }
    put_text(&w.put, want->stream ? "\"stream\":true,\"store\":false" : "\"store\":false");
    put_input(&w);
    put_tools(&w);
    put_choice(&w);
    put_settings(&w.put, m);
    put_text(&w.put, "}");
    return w.put.err;
}
