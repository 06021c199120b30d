/* The neutral form as a request of /api/chat. carry_fit() has taken out what it has no place for. */
#include "dialect/ollama_priv.h"

struct writer {
    struct put p;
    const struct msg_request *m;
    const struct write_want *want;
    bool comma; /* something stands before the next item of the list that is being written */
};

/* ---- pieces ----------------------------------------------------------------------- */

static void put_item(struct writer *w)
{
    put_text(&w->p, w->comma ? "," : "");
    w->comma = true;
}

/* ---- messages ---------------------------------------------------------------------- */

/* Content is one text: parts are joined by line ends. */
static void put_content(struct writer *w, const struct msg_part *first)
{
    bool any = false;
    put_text(&w->p, ",\"content\":\"");
    for (const struct msg_part *part = first; part; part = part->next) {
        if ((part->kind != MSG_PART_TEXT && part->kind != MSG_PART_REFUSAL) || part->text.n == 0)
            continue;
        put_text(&w->p, any ? "\\n" : "");
        put_span(&w->p, part->text);
        any = true;
    }
    put_text(&w->p, "\"");
}

static bool is_image(const struct msg_part *part)
{
    return part->kind == MSG_PART_MEDIA && part->media == MSG_IMAGE && part->data.n;
}

static void put_images(struct writer *w, const struct msg_part *first)
{
    bool any = false;
    for (const struct msg_part *part = first; part; part = part->next) {
        if (!is_image(part))
            continue;
        put_escaped(&w->p, any ? "," : ",\"images\":[", part->data);
        any = true;
    }
    put_text(&w->p, any ? "]" : "");
}

/* Ids that were made for formats which need them are left out again. */
static bool has_own_id(const struct msg_part *part)
{
    return part->id.n && !span_starts(part->id, MSG_MADE_ID);
}

static void put_result(struct writer *w, const struct msg_part *part)
{
    put_item(w);
    put_text(&w->p, "{\"role\":\"tool\"");
    put_content(w, part->content);
    put_images(w, part->content);
    if (part->name.n)
        put_escaped(&w->p, ",\"tool_name\":", part->name);
    if (has_own_id(part))
        put_escaped(&w->p, ",\"tool_call_id\":", part->id);
    put_text(&w->p, "}");
}

static void put_call(struct writer *w, const struct msg_part *part)
{
    put_text(&w->p, "{");
    if (has_own_id(part))
        put_escaped(&w->p, "\"id\":", part->id);
    put_escaped(&w->p, has_own_id(part) ? ",\"function\":{\"name\":" : "\"function\":{\"name\":", part->name);
    put_text(&w->p, ",\"arguments\":");
    if (part->arguments.p) {
        put_span(&w->p, part->arguments);
    } else { /* a free text, or what a model cut short */
        put_escaped(&w->p, "{\"input\":", part->text);
        put_text(&w->p, "}");
    }
    put_text(&w->p, "}}");
}

/* Thinking is text here; what a maker sealed or signed is not Ollama's. */
static void put_thinking(struct writer *w, const struct msg_turn *t)
{
    bool any = false;
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind != MSG_PART_REASONING || part->maker != MSG_MAKER_NONE || part->text.n == 0)
            continue;
        put_text(&w->p, any ? "\\n" : ",\"thinking\":\"");
        put_span(&w->p, part->text);
        any = true;
    }
    put_text(&w->p, any ? "\"" : "");
}

static void put_calls(struct writer *w, const struct msg_turn *t)
{
    bool any = false;
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind != MSG_PART_TOOL_CALL)
            continue;
        put_text(&w->p, any ? "," : ",\"tool_calls\":[");
        put_call(w, part);
        any = true;
    }
    put_text(&w->p, any ? "]" : "");
}

/* Is there anything but results? */
static bool says_more(const struct msg_turn *t)
{
    for (const struct msg_part *part = t->first; part; part = part->next)
        if (part->kind != MSG_PART_TOOL_RESULT)
            return true;
    return !t->first;
}

static void put_turn(struct writer *w, const struct msg_turn *t)
{
    static const char *const roles[] = {
        [MSG_SYSTEM] = "system", [MSG_DEVELOPER] = "system", [MSG_USER] = "user", [MSG_ASSISTANT] = "assistant"};
    for (const struct msg_part *part = t->first; part; part = part->next)
        if (part->kind == MSG_PART_TOOL_RESULT)
            put_result(w, part);
    if (!says_more(t))
        return;
    put_item(w);
    put_printf(&w->p, "{\"role\":\"%s\"", roles[t->role]);
    put_content(w, t->first);
    put_images(w, t->first);
    if (t->role == MSG_ASSISTANT) {
        put_thinking(w, t);
        put_calls(w, t);
    }
    put_text(&w->p, "}");
}

/* ---- tools -------------------------------------------------------------------------- */

static void put_tool(struct writer *w, const struct msg_tool *t)
{
    put_text(&w->p, w->comma ? "," : ",\"tools\":[");
    w->comma = true;
    put_escaped(&w->p, "{\"type\":\"function\",\"function\":{\"name\":", t->name);
    if (t->description.n)
        put_escaped(&w->p, ",\"description\":", t->description);
    put_text(&w->p, ",\"parameters\":");
    if (t->kind == MSG_TOOL_CUSTOM)
        put_text(
            &w->p,
            "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},\"required\":[\"input\"]}");
    else
        put_span(&w->p, t->schema.n ? t->schema : SPAN_LIT("{\"type\":\"object\",\"properties\":{}}"));
    put_text(&w->p, "}}");
}

static void put_tools(struct writer *w)
{
    w->comma = false;
    if (w->m->choice != MSG_CHOICE_NONE)
        for (const struct msg_tool *t = w->m->tools; t; t = t->next)
            if (t->kind != MSG_TOOL_HOSTED)
                put_tool(w, t);
    put_text(&w->p, w->comma ? "]" : "");
}

/* ---- settings ------------------------------------------------------------------------ */

static void put_option(struct writer *w, const char *name)
{
    put_text(&w->p, w->comma ? ",\"" : ",\"options\":{\"");
    w->comma = true;
    put_text(&w->p, name);
    put_text(&w->p, "\":");
}

static void put_options(struct writer *w)
{
    const struct msg_request *m = w->m;
    const struct {
        const char *name;
        struct span raw;
    } numbers[] = {{"temperature", m->temperature},
                   {"top_p", m->top_p},
                   {"top_k", m->top_k},
                   {"min_p", m->min_p},
                   {"seed", m->seed},
                   {"presence_penalty", m->presence_penalty},
                   {"frequency_penalty", m->frequency_penalty}};
    w->comma = false;
    if (m->max_tokens >= 0) {
        put_option(w, "num_predict");
        put_int(&w->p, m->max_tokens);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (!numbers[i].raw.n)
            continue;
        put_option(w, numbers[i].name);
        put_span(&w->p, numbers[i].raw);
    }
    if (m->stops_count) {
        put_option(w, "stop");
        for (unsigned i = 0; i < m->stops_count; i++)
            put_escaped(&w->p, i ? "," : "[", m->stops[i]);
        put_text(&w->p, "]");
    }
    put_text(&w->p, w->comma ? "}" : "");
}

static void put_format(struct writer *w)
{
    switch (w->m->format) {
    case MSG_FORMAT_UNSAID:
    case MSG_FORMAT_TEXT:
        break;
    case MSG_FORMAT_JSON:
        put_text(&w->p, ",\"format\":\"json\"");
        break;
    case MSG_FORMAT_SCHEMA:
        put_text(&w->p, ",\"format\":");
        put_span(&w->p, w->m->format_schema);
        break;
    }
}

/* Levels are known to gpt-oss alone: to others they are an error. */
static void put_think(struct writer *w)
{
    static const char *const levels[] = {[MSG_EFFORT_MINIMAL] = "low",
                                         [MSG_EFFORT_LOW] = "low",
                                         [MSG_EFFORT_MEDIUM] = "medium",
                                         [MSG_EFFORT_HIGH] = "high",
                                         [MSG_EFFORT_MAX] = "high"};
    enum msg_effort effort = w->m->effort;
    if (effort == MSG_EFFORT_UNSAID && w->m->reasoning_tokens > 0)
        effort = MSG_EFFORT_MEDIUM;
    if (effort == MSG_EFFORT_UNSAID)
        return;
    if (effort == MSG_EFFORT_NONE)
        put_text(&w->p, ",\"think\":false");
    else if (span_has(w->want->model, "gpt-oss"))
        put_printf(&w->p, ",\"think\":\"%s\"", levels[effort]);
    else
        put_text(&w->p, ",\"think\":true");
}

static void put_logprobs(struct writer *w)
{
    if (w->m->logprobs)
        put_text(&w->p, ",\"logprobs\":true");
    if (w->m->top_logprobs >= 0) {
        put_text(&w->p, ",\"top_logprobs\":");
        put_int(&w->p, w->m->top_logprobs);
    }
}

pd_err ollama_write_chat(const struct msg_request *m, const struct write_want *want, struct arena *a,
                         struct buf *out)
{
    (void)a;
    struct writer w = {.p = put_into(out), .m = m, .want = want};
    size_t before = buf_size(out);
    put_text(&w.p, "{\"model\":");
    put_json(&w.p, want->model);
    put_text(&w.p, ",\"messages\":[");
    for (const struct msg_turn *t = m->first; t; t = t->next)
        put_turn(&w, t);
    put_text(&w.p, "]");
    put_tools(&w);
    put_format(&w);
    put_options(&w);
    put_think(&w);
    put_logprobs(&w);
    put_text(&w.p, want->stream ? ",\"stream\":true}" : ",\"stream\":false}");
    if (w.p.err)
        out->tail = out->head + before;
    return w.p.err;
}
