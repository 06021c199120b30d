/* The neutral form as a Converse request. carry_fit() has taken out what Converse has no place for. */
#include "dialect/anthropic_priv.h"
#include "dialect/claude_priv.h"
#include "dialect/converse_priv.h"

#include "base/mem.h"
#include "parse/base64.h"

struct writer {
    struct put p;
    const struct msg_request *m;
    const struct write_want *want;
    struct arena *a;
    const struct claude_generation *is; /* of Claude; NULL: another model */
    bool thinking;                      /* is asked for, and the rest of the request allows it */
    bool cache;                         /* the model knows cache points */
    bool comma;      /* something stands before the next block of the list that is being written */
    unsigned number; /* of the document that comes next, from 1; all have one when there are several */
    bool several;
};

/* ---- pieces ----------------------------------------------------------------------- */

static void put_base64(struct put *p, struct span bytes)
{
    put_text(p, "\"");
    if (!p->err)
        p->err = base64_encode(bytes, p->b);
    put_text(p, "\"");
}

static void put_cache_point(struct put *p, struct span ttl)
{
    put_text(p, "{\"cachePoint\":{\"type\":\"default\"");
    if (span_is(ttl, "5m") || span_is(ttl, "1h"))
        put_escaped(p, ",\"ttl\":", ttl);
    put_text(p, "}}");
}

/* ---- the model, by its name ---------------------------------------------------------- */

static bool is_claude(struct span model)
{
    return span_has(model, "claude");
}
static bool is_nova(struct span model)
{
    return span_has(model, "amazon.nova");
}

/* Of a model behind an inference profile's ARN nothing is known: the client's marks are believed. */
static bool knows_cache(struct span model)
{
    return is_claude(model) || is_nova(model) || span_starts(model, "arn:");
}

/* ---- media ---------------------------------------------------------------------------- */

/* For data whose type nobody said, or one that Converse has no word for. */
static const char *word_otherwise(const struct msg_part *part)
{
    switch (part->media) {
    case MSG_IMAGE:
        return "png";
    case MSG_DOCUMENT:
        return span_starts(part->data, "JVBERi") ? "pdf" : "txt"; /* "%PDF-" */
    case MSG_AUDIO:
        return "wav";
    case MSG_VIDEO:
        return "mp4";
    }
    return "txt";
}

/* The type, else the file name's extension, else a guess. */
static const char *format_word(const struct msg_part *part)
{
    const struct converse_format *f = converse_format_by_type(part->media, part->media_type);
    if (!f && part->file_name.n) {
        struct span name = part->file_name;
        size_t dot = name.n;
        while (dot > 0 && name.p[dot - 1] != '.')
            dot--;
        if (dot)
            f = converse_format_by_word(part->media, span_from(name, dot));
    }
    return f ? f->word : word_otherwise(part);
}

static bool fits_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '(' ||
           c == ')' || c == '[' || c == ']';
}

enum { DOCUMENT_NAME_MAX = 160 };

/* Letters, digits, single spaces and a few signs; no two documents may share a name. */
static void put_document_name(struct writer *w, struct span name)
{
    char text[DOCUMENT_NAME_MAX];
    size_t n = 0;
    for (size_t i = 0; i < name.n && n < sizeof(text); i++) {
        char c = fits_name(name.p[i]) ? name.p[i] : ' ';
        if (c != ' ' || (n && text[n - 1] != ' '))
            text[n++] = c;
    }
    while (n && text[n - 1] == ' ')
        n--;
    put_text(&w->p, ",\"name\":\"");
    put_span(&w->p, n ? span_of(text, n) : SPAN_LIT("document"));
    if (w->several)
        put_printf(&w->p, "-%u", w->number);
    w->number++;
    put_text(&w->p, "\"");
}

static bool is_s3(const struct msg_part *part)
{
    return span_starts(part->url, "s3:");
}

static void put_media(struct writer *w, const struct msg_part *part)
{
    static const char *const keys[] = {
        [MSG_IMAGE] = "image", [MSG_DOCUMENT] = "document", [MSG_AUDIO] = "audio", [MSG_VIDEO] = "video"};
    struct put *p = &w->p;
    put_printf(p, "{\"%s\":{\"format\":\"%s\"", keys[part->media], format_word(part));
    if (part->media == MSG_DOCUMENT)
        put_document_name(w, part->file_name);
    if (part->data.n) {
        put_escaped(p, ",\"source\":{\"bytes\":", part->data);
        put_text(p, "}}}");
    } else {
        put_escaped(p, ",\"source\":{\"s3Location\":{\"uri\":", part->url);
        put_text(p, "}}}}");
    }
}

/* ---- blocks ------------------------------------------------------------------------------ */

static void put_item(struct writer *w)
{
    put_text(&w->p, w->comma ? "," : "");
    w->comma = true;
}

static void put_text_block(struct writer *w, struct span text)
{
    put_item(w);
    put_escaped(&w->p, "{\"text\":", text);
    put_text(&w->p, "}");
}

/* The sealed text's bytes as base64: the blob that it is here. */
static void put_sealed(struct writer *w, struct span sealed)
{
    char *quoted = arena_printf(w->a, "\"%.*s\"", SPAN_FMT(sealed));
    struct span text;
    pd_err e = quoted ? json_text((struct json){JSON_STRING, span_str(quoted)}, w->a, &text) : PD_NOMEM;
    if (e) {
        w->p.err = w->p.err ? w->p.err : e;
        return;
    }
    put_item(w);
    put_text(&w->p, "{\"reasoningContent\":{\"redactedContent\":");
    put_base64(&w->p, text);
    put_text(&w->p, "}}");
}

/* Claude takes its own reasoning back with its signature, and no other. */
static bool takes_back(const struct msg_part *part)
{
    return part->maker == MSG_MAKER_ANTHROPIC && (part->signature.n || part->sealed.n);
}

static void put_reasoning(struct writer *w, const struct msg_part *part)
{
    if (!takes_back(part))
        return;
    if (part->sealed.n) {
        put_sealed(w, part->sealed);
        return;
    }
    put_item(w);
    put_escaped(&w->p, "{\"reasoningContent\":{\"reasoningText\":{\"text\":", part->text);
    put_escaped(&w->p, ",\"signature\":", part->signature);
    put_text(&w->p, "}}}");
}

/* Arguments that are no object, a free text or what a model cut short, as the one member of an object. */
static void put_call(struct writer *w, const struct msg_part *part)
{
    put_item(w);
    put_escaped(&w->p, "{\"toolUse\":{\"toolUseId\":", part->id);
    put_escaped(&w->p, ",\"name\":", part->name);
    put_text(&w->p, ",\"input\":");
    if (part->arguments.p) {
        put_span(&w->p, part->arguments);
    } else {
        put_escaped(&w->p, "{\"input\":", part->text);
        put_text(&w->p, "}");
    }
    put_text(&w->p, "}}");
}

static void put_result(struct writer *w, const struct msg_part *part)
{
    put_item(w);
    put_escaped(&w->p, "{\"toolResult\":{\"toolUseId\":", part->id);
    put_text(&w->p, ",\"content\":[");
    w->comma = false;
    for (const struct msg_part *c = part->content; c; c = c->next) {
        if (c->kind == MSG_PART_MEDIA && (c->data.n || is_s3(c))) {
            put_item(w);
            put_media(w, c);
        } else if (c->kind != MSG_PART_MEDIA && !msg_is_blank(c->text)) {
            put_text_block(w, c->text);
        }
    }
    if (!w->comma) /* a tool that had nothing to say */
        put_text(&w->p, "{\"json\":{}}");
    put_text(&w->p, part->failed ? "],\"status\":\"error\"}}" : "]}}");
    w->comma = true;
}

static void put_part(struct writer *w, const struct msg_part *part)
{
    switch (part->kind) {
    case MSG_PART_TEXT:
    case MSG_PART_REFUSAL:
        if (!msg_is_blank(part->text))
            put_text_block(w, part->text);
        break;
    case MSG_PART_REASONING:
        put_reasoning(w, part);
        break;
    case MSG_PART_MEDIA:
        if (!part->data.n && !is_s3(part))
            break;
        put_item(w);
        put_media(w, part);
        break;
    case MSG_PART_TOOL_CALL:
        put_call(w, part);
        break;
    case MSG_PART_TOOL_RESULT:
        put_result(w, part);
        break;
    }
    if (part->cache && w->cache && w->comma) {
        put_item(w);
        put_cache_point(&w->p, part->cache_ttl);
    }
}

/* ---- messages ------------------------------------------------------------------------------ */

/* Claude before 4.5 refuses outputConfig and strict tools. */
static bool has_formats(const struct writer *w)
{
    return !w->is || w->is->formats;
}

static void put_system(struct writer *w)
{
    const struct msg_turn *end = msg_behind_system(w->m);
    size_t before = buf_size(w->p.b);
    put_text(&w->p, ",\"system\":[");
    w->comma = false;
    for (const struct msg_turn *t = w->m->first; t && t != end; t = t->next)
        for (const struct msg_part *part = t->first; part; part = part->next)
            put_part(w, part);
    if (w->m->format == MSG_FORMAT_SCHEMA && !has_formats(w)) {
        put_item(w);
        put_text(&w->p, "{\"text\":\"");
        anthropic_put_schema_instruction(&w->p, w->m->format_schema);
        put_text(&w->p, "\"}");
    }
    if (!w->comma && !w->p.err)
        w->p.b->tail = w->p.b->head + before;
    else
        put_text(&w->p, "]");
}

/* Roles take turns: neighbours of one role are one message, and a system turn in the middle speaks as the user. Results come first in
 * their message. A message without content is refused: it is left out. */
static const struct msg_turn *put_message(struct writer *w, const struct msg_turn *t, bool *any)
{
    bool assistant = t->role == MSG_ASSISTANT;
    size_t before = buf_size(w->p.b);
    const struct msg_turn *end = t;
    while (end && (end->role == MSG_ASSISTANT) == assistant)
        end = end->next;
    put_text(&w->p, *any ? "," : "");
    put_printf(&w->p, "{\"role\":\"%s\",\"content\":[", assistant ? "assistant" : "user");
    w->comma = false;
    for (int results = 1; results >= 0; results--)
        for (const struct msg_turn *s = t; s != end; s = s->next)
            for (const struct msg_part *part = s->first; part; part = part->next)
                if ((part->kind == MSG_PART_TOOL_RESULT) == (results == 1))
                    put_part(w, part);
    if (!w->comma && !w->p.err) {
        w->p.b->tail = w->p.b->head + before;
        return end;
    }
    put_text(&w->p, "]}");
    *any = true;
    return end;
}

static void put_messages(struct writer *w)
{
    bool any = false;
    put_text(&w->p, "{\"messages\":[");
    for (const struct msg_turn *t = msg_behind_system(w->m); t;)
        t = put_message(w, t, &any);
    put_text(&w->p, "]");
}

/* ---- tools --------------------------------------------------------------------------------- */

static void put_spec(struct writer *w, const struct msg_tool *t)
{
    put_item(w);
    put_escaped(&w->p, "{\"toolSpec\":{\"name\":", t->name);
    if (!msg_is_blank(t->description))
        put_escaped(&w->p, ",\"description\":", t->description);
    put_text(&w->p, ",\"inputSchema\":{\"json\":");
    if (t->kind == MSG_TOOL_CUSTOM)
        put_text(
            &w->p,
            "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},\"required\":[\"input\"]}");
    else
        put_span(&w->p, t->schema.n ? t->schema : SPAN_LIT("{\"type\":\"object\",\"properties\":{}}"));
    put_text(&w->p, t->strict == 1 && has_formats(w) ? "},\"strict\":true}}" : "}}}");
    if (t->cache && w->cache) {
        put_item(w);
        put_cache_point(&w->p, t->cache_ttl);
    }
}

static void put_hosted(struct writer *w, const struct msg_tool *t)
{
    struct json raw;
    if (json_first(t->raw, &raw, NULL) || json_get(raw, "systemTool").type != JSON_OBJECT)
        return; /* another maker's */
    put_item(w);
    put_span(&w->p, t->raw);
}

/* A name that was called before, the first time it occurs. */
static bool is_first_call(const struct msg_request *m, const struct msg_part *call)
{
    for (const struct msg_turn *t = m->first; t; t = t->next)
        for (const struct msg_part *part = t->first; part; part = part->next)
            if (part == call)
                return true;
            else if (part->kind == MSG_PART_TOOL_CALL && span_eq(part->name, call->name))
                return false;
    return true;
}

/* Converse refuses calls in the history when no tools are given: those that were called are described by their names. */
static void put_called_tools(struct writer *w)
{
    for (const struct msg_turn *t = w->m->first; t; t = t->next)
        for (const struct msg_part *part = t->first; part; part = part->next)
            if (part->kind == MSG_PART_TOOL_CALL && part->name.n && is_first_call(w->m, part))
                put_spec(w, &(struct msg_tool){.kind = MSG_TOOL_FUNCTION, .name = part->name, .strict = -1});
}

static void put_choice(struct writer *w)
{
    switch (w->m->choice) {
    case MSG_CHOICE_UNSAID:
    case MSG_CHOICE_NONE: /* not to be said; what is left is auto */
        break;
    case MSG_CHOICE_AUTO:
        put_text(&w->p, ",\"toolChoice\":{\"auto\":{}}");
        break;
    case MSG_CHOICE_REQUIRED:
        put_text(&w->p, ",\"toolChoice\":{\"any\":{}}");
        break;
    case MSG_CHOICE_NAMED:
        put_escaped(&w->p, ",\"toolChoice\":{\"tool\":{\"name\":", w->m->choice_name);
        put_text(&w->p, "}}");
        break;
    }
}

static void put_tools(struct writer *w)
{
    bool history = msg_has(w->m, MSG_PART_TOOL_CALL) || msg_has(w->m, MSG_PART_TOOL_RESULT);
    if (w->m->choice == MSG_CHOICE_NONE && !history)
        return;
    size_t before = buf_size(w->p.b);
    put_text(&w->p, ",\"toolConfig\":{\"tools\":[");
    w->comma = false;
    for (const struct msg_tool *t = w->m->tools; t; t = t->next) {
        if (t->kind == MSG_TOOL_HOSTED)
            put_hosted(w, t);
        else
            put_spec(w, t);
    }
    bool given = w->comma;
    if (!given && history)
        put_called_tools(w);
    if (!w->comma && !w->p.err) {
        w->p.b->tail = w->p.b->head + before;
        return;
    }
    put_text(&w->p, "]");
    if (given)
        put_choice(w);
    put_text(&w->p, "}");
}

/* ---- settings -------------------------------------------------------------------------------- */

/* Tokens to think with, or 0. */
static int64_t thinking_budget(const struct msg_request *m)
{
    int64_t n = m->reasoning_tokens > 0 ? m->reasoning_tokens : claude_budget(m->effort);
    if (m->effort == MSG_EFFORT_NONE || n == 0)
        return 0;
    if (n < CLAUDE_BUDGET_LEAST)
        n = CLAUDE_BUDGET_LEAST;
    if (m->max_tokens >= 0 && n >= m->max_tokens) /* part of the limit must be left for the answer */
        n = m->max_tokens - 1;
    return n < CLAUDE_BUDGET_LEAST ? 0 : n;
}

/* Claude, thinking, wants the calls of the turn that goes on to begin with their own signed reasoning. */
static bool calls_lack_reasoning(const struct msg_request *m)
{
    const struct msg_turn *last = NULL;
    for (const struct msg_turn *t = m->first; t; t = t->next)
        if (t->role == MSG_ASSISTANT)
            last = t;
    if (!last || !m->last || !m->last->first || m->last->first->kind != MSG_PART_TOOL_RESULT)
        return false;
    for (const struct msg_part *part = last->first; part; part = part->next)
        if (part->kind == MSG_PART_REASONING && takes_back(part))
            return false;
    return true;
}

/* What a client forces goes before thinking, which excludes it. */
static bool may_think(const struct writer *w)
{
    const struct msg_request *m = w->m;
    bool forced = m->choice == MSG_CHOICE_REQUIRED || m->choice == MSG_CHOICE_NAMED;
    if (!w->is || !w->is->thinks || forced || m->effort == MSG_EFFORT_NONE)
        return false;
    if (w->is->adapts)
        return m->effort != MSG_EFFORT_UNSAID || m->reasoning_tokens > 0;
    return thinking_budget(m) && !calls_lack_reasoning(m);
}

static void put_stops(struct writer *w)
{
    put_text(&w->p, "\"stopSequences\":[");
    for (unsigned i = 0; i < w->m->stops_count; i++)
        put_escaped(&w->p, i ? "," : "", w->m->stops[i]);
    put_text(&w->p, "]");
}

static void put_number(struct writer *w, const char *name, struct span raw)
{
    if (!raw.n)
        return;
    put_item(w);
    put_text(&w->p, name);
    put_span(&w->p, raw);
}

static void put_inference(struct writer *w)
{
    const struct msg_request *m = w->m;
    bool sample = !w->thinking && !(w->is && w->is->no_sample); /* Claude's is not to be changed while it thinks */
    bool both = sample && !(w->is && w->is->one_sample && m->temperature.n);
    if (m->max_tokens < 0 && !m->stops_count && !(sample && m->temperature.n) && !(both && m->top_p.n))
        return;
    put_text(&w->p, ",\"inferenceConfig\":{");
    w->comma = false;
    if (m->max_tokens >= 0) {
        put_item(w);
        put_text(&w->p, "\"maxTokens\":");
        put_int(&w->p, m->max_tokens);
    }
    put_number(w, "\"temperature\":", sample ? m->temperature : SPAN_NONE);
    put_number(w, "\"topP\":", both ? m->top_p : SPAN_NONE);
    if (m->stops_count) {
        put_item(w);
        put_stops(w);
    }
    put_text(&w->p, "}");
}

/* Models of others have these three. */
static const char *level_word(enum msg_effort effort)
{
    return effort == MSG_EFFORT_MAX ? "high" : claude_effort_word(effort);
}

/* What each family of models calls these settings. */
static void put_more_fields(struct writer *w)
{
    const struct msg_request *m = w->m;
    struct span model = w->want->model;
    size_t before = buf_size(w->p.b);
    bool effort = m->effort > MSG_EFFORT_NONE;
    put_text(&w->p, ",\"additionalModelRequestFields\":{");
    w->comma = false;
    if (w->thinking && w->is->adapts) { /* later models show nothing unless they are asked to */
        put_item(w);
        put_printf(&w->p,
                   "\"thinking\":{\"type\":\"adaptive\",\"display\":\"%s\"},\"output_config\":{\"effort\":\"%s\"}",
                   m->reasoning_shown == 0 ? "omitted" : "summarized", claude_effort_word(claude_effort(m)));
    } else if (w->thinking) {
        put_item(w);
        put_text(&w->p, "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":");
        put_int(&w->p, thinking_budget(m));
        put_text(&w->p, "}");
    } else if (w->is) {
        put_number(w, "\"top_k\":", w->is->no_sample ? SPAN_NONE : m->top_k);
    } else if (is_nova(model)) {
        if (effort) {
            put_item(w);
            put_printf(&w->p, "\"reasoningConfig\":{\"type\":\"enabled\",\"maxReasoningEffort\":\"%s\"}",
                       level_word(m->effort));
        }
        if (m->top_k.n) {
            put_number(w, "\"inferenceConfig\":{\"topK\":", m->top_k);
            put_text(&w->p, "}");
        }
    } else if (effort && span_has(model, "openai.")) {
        put_item(w);
        put_printf(&w->p, "\"reasoning_effort\":\"%s\"", level_word(m->effort));
    }
    if (!w->comma && !w->p.err)
        w->p.b->tail = w->p.b->head + before;
    else
        put_text(&w->p, "}");
}

static void put_output(struct writer *w)
{
    const struct msg_request *m = w->m;
    if (m->format != MSG_FORMAT_SCHEMA || !has_formats(w))
        return;
    put_text(
        &w->p,
        ",\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":{\"schema\":");
    put_json(&w->p, m->format_schema);
    if (m->format_name.n)
        put_escaped(&w->p, ",\"name\":", m->format_name);
    if (m->format_description.n)
        put_escaped(&w->p, ",\"description\":", m->format_description);
    put_text(&w->p, "}}}}");
}

static void put_tier(struct writer *w)
{
    static const char *const tiers[] = {"priority", "default", "flex", "reserved"};
    for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++)
        if (span_is(w->m->service_tier, tiers[i]))
            put_printf(&w->p, ",\"serviceTier\":{\"type\":\"%s\"}", tiers[i]);
}

static unsigned count_documents(const struct msg_part *part)
{
    unsigned n = 0;
    for (; part; part = part->next)
        n += (part->kind == MSG_PART_MEDIA && part->media == MSG_DOCUMENT) + count_documents(part->content);
    return n;
}

pd_err converse_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                              struct buf *out)
{
    struct writer w = {.p = put_into(out), .m = m, .want = want, .a = a, .number = 1};
    size_t before = buf_size(out);
    unsigned documents = 0;
    for (const struct msg_turn *t = m->first; t; t = t->next)
        documents += count_documents(t->first);
    w.several = documents > 1;
    w.is = is_claude(want->model) ? claude_generation(want->model) : NULL;
    w.thinking = may_think(&w);
    w.cache = knows_cache(want->model);
    put_messages(&w);
    put_system(&w);
    put_inference(&w);
    put_tools(&w);
    put_output(&w);
    put_more_fields(&w);
    put_tier(&w);
    put_text(&w.p, "}");
    if (w.p.err)
        out->tail = out->head + before;
    return w.p.err;
}
