/* The neutral form as a chat request. carry_fit() has taken out what chat has no place for. */
#include "dialect/continuation.h"
#include "dialect/openai_chat_priv.h"
#include "dialect/value_priv.h"

struct writer {
    struct put p;
    const struct msg_request *m;
    const struct write_want *want;
    bool comma; /* something stands before the next item of the list that is being written */
};

/* ---- pieces ----------------------------------------------------------------------- */

static void put_cache(struct put *p, bool cache, struct span ttl)
{
    if (!cache)
        return;
    put_text(p, ",\"cache_control\":{\"type\":\"ephemeral\"");
    if (ttl.n)
        put_escaped(p, ",\"ttl\":", ttl);
    put_text(p, "}");
}

static void put_item(struct writer *w)
{
    put_text(&w->p, w->comma ? "," : "");
    w->comma = true;
}

/* ---- content ---------------------------------------------------------------------- */

static void put_data_url(struct put *p, const struct msg_part *part, const char *otherwise)
{
    put_text(p, "\"");
    if (part->data.n) {
        put_text(p, "data:");
        put_span(p, part->media_type.n ? part->media_type : span_str(otherwise));
        put_text(p, ";base64,");
        put_span(p, part->data);
    } else {
        put_span(p, part->url);
    }
    put_text(p, "\"");
}

static void put_audio(struct put *p, const struct msg_part *part)
{
    struct span format = part->media_type;
    (void)span_cut(&format, '/');
    if (span_starts(format, "x-"))
        format = span_from(format, 2);
    if (span_is(format, "mpeg"))
        format = SPAN_LIT("mp3");
    put_escaped(p, "{\"type\":\"input_audio\",\"input_audio\":{\"data\":", part->data);
    put_escaped(p, ",\"format\":", format.n ? format : SPAN_LIT("wav"));
    put_text(p, "}");
}

static void put_file(struct put *p, const struct msg_part *part)
{
    put_text(p, "{\"type\":\"file\",\"file\":{");
    if (part->file_id.n) {
        put_escaped(p, "\"file_id\":", part->file_id);
    } else {
        put_escaped(p, "\"filename\":", part->file_name.n ? part->file_name : SPAN_LIT("document.pdf"));
        put_text(p, ",\"file_data\":");
        put_data_url(p, part, "application/pdf");
    }
    put_text(p, "}");
}

static void put_media(struct put *p, const struct msg_part *part)
{
    switch (part->media) {
    case MSG_IMAGE:
    case MSG_VIDEO:
        put_text(p, part->media == MSG_IMAGE ? "{\"type\":\"image_url\",\"image_url\":{\"url\":"
                                             : "{\"type\":\"video_url\",\"video_url\":{\"url\":");
        put_data_url(p, part, part->media == MSG_IMAGE ? "image/png" : "video/mp4");
        if (part->detail.n)
            put_escaped(p, ",\"detail\":", part->detail);
        put_text(p, "}");
        break;
    case MSG_AUDIO:
        put_audio(p, part);
        break;
    case MSG_DOCUMENT:
        put_file(p, part);
        break;
    }
    put_cache(p, part->cache, part->cache_ttl);
    put_text(p, "}");
}

static bool is_content(const struct msg_part *part)
{
    return part->kind == MSG_PART_TEXT || part->kind == MSG_PART_MEDIA;
}

/* One text without marks is a string, which every server understands; anything else is a list of parts. */
static bool one_text(const struct msg_part *first, const struct msg_part **ret)
{
    unsigned n = 0;
    *ret = NULL;
    for (const struct msg_part *part = first; part; part = part->next) {
        if (!is_content(part))
            continue;
        n++;
        *ret = part;
    }
    return n == 0 || (n == 1 && (*ret)->kind == MSG_PART_TEXT && !(*ret)->cache);
}

static void put_content(struct writer *w, const struct msg_part *first)
{
    const struct msg_part *only;
    bool comma = false;
    if (one_text(first, &only)) {
        put_escaped(&w->p, "", only ? only->text : SPAN_LIT(""));
        return;
    }
    put_text(&w->p, "[");
    for (const struct msg_part *part = first; part; part = part->next) {
        if (!is_content(part))
            continue;
        put_text(&w->p, comma ? "," : "");
        comma = true;
        if (part->kind == MSG_PART_MEDIA) {
            put_media(&w->p, part);
            continue;
        }
        put_escaped(&w->p, "{\"type\":\"text\",\"text\":", part->text);
        put_cache(&w->p, part->cache, part->cache_ttl);
        put_text(&w->p, "}");
    }
    put_text(&w->p, "]");
}

/* ---- messages --------------------------------------------------------------------- */

static void put_result(struct writer *w, const struct msg_part *result)
{
    put_item(w);
    put_escaped(&w->p, "{\"role\":\"tool\",\"tool_call_id\":", result->id);
    if (w->want->mistral && result->name.n)
        put_escaped(&w->p, ",\"name\":", result->name);
    put_text(&w->p, ",\"content\":");
    put_content(w, result->content);
    put_text(&w->p, "}");
}

/* Results come first, each as a message of its own; then what the user says. */
static void put_user(struct writer *w, const struct msg_turn *t)
{
    bool says = false;
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind == MSG_PART_TOOL_RESULT)
            put_result(w, part);
        says |= is_content(part);
    }
    if (!says)
        return;
    put_item(w);
    put_text(&w->p, "{\"role\":\"user\"");
    if (t->name.n)
        put_escaped(&w->p, ",\"name\":", t->name);
    put_text(&w->p, ",\"content\":");
    put_content(w, t->first);
    put_text(&w->p, "}");
}

static void put_call(struct writer *w, const struct msg_part *call)
{
    struct put *p = &w->p;
    put_escaped(p, "{\"id\":", call->id);
    put_escaped(p,
                call->custom ? ",\"type\":\"custom\",\"custom\":{\"name\":"
                             : ",\"type\":\"function\",\"function\":{\"name\":",
                call->name);
    if (call->custom || !call->arguments.p) {
        put_escaped(p, call->custom ? ",\"input\":" : ",\"arguments\":", call->text);
    } else {
        put_text(p, ",\"arguments\":");
        put_json(p, call->arguments);
    }
    put_text(p, "}");
    if (call->signature.n && call->maker == MSG_MAKER_GEMINI) {
        put_escaped(p, ",\"extra_content\":{\"google\":{\"thought_signature\":", call->signature);
        put_text(p, "}}");
    }
    put_text(p, "}");
}

static void put_calls(struct writer *w, const struct msg_turn *t)
{
    bool any = false;
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind != MSG_PART_TOOL_CALL)
            continue;
        put_text(&w->p, any ? "," : ",\"tool_calls\":[");
        any = true;
        put_call(w, part);
    }
    if (any)
        put_text(&w->p, "]");
}

/* Texts of that kind, joined, as one member. */
static void put_joined(struct writer *w, const struct msg_turn *t, enum msg_part_kind kind, const char *before)
{
    bool any = false;
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind != kind || !part->text.n)
            continue;
        put_text(&w->p, any ? "\\n" : before);
        any = true;
        put_span(&w->p, part->text);
    }
    if (any)
        put_text(&w->p, "\"");
}

static bool has_kind(const struct msg_turn *t, enum msg_part_kind kind)
{
    for (const struct msg_part *part = t->first; part; part = part->next)
        if (part->kind == kind)
            return true;
    return false;
}

static void put_assistant(struct writer *w, const struct msg_turn *t)
{
    bool calls = has_kind(t, MSG_PART_TOOL_CALL), refused = has_kind(t, MSG_PART_REFUSAL);
    bool says = has_kind(t, MSG_PART_TEXT) || has_kind(t, MSG_PART_MEDIA);
    if (!says && !calls && !refused)
        return; /* nothing but reasoning */
    put_item(w);
    put_text(&w->p, "{\"role\":\"assistant\"");
    if (t->name.n)
        put_escaped(&w->p, ",\"name\":", t->name);
    put_text(&w->p, ",\"content\":");
    if (says)
        put_content(w, t->first);
    else
        put_text(&w->p, w->want->mistral ? "\"\"" : "null");
    put_joined(w, t, MSG_PART_REFUSAL, ",\"refusal\":\"");
    if (w->want->reasoning_back)
        put_joined(w, t, MSG_PART_REASONING, ",\"reasoning_content\":\"");
    put_calls(w, t);
    put_text(&w->p, t == w->m->last && w->want->continues == CONTINUE_PREFIX ? ",\"prefix\":true}" : "}");
}

static void put_turn(struct writer *w, const struct msg_turn *t)
{
    switch (t->role) {
    case MSG_USER:
        put_user(w, t);
        return;
    case MSG_ASSISTANT:
        put_assistant(w, t);
        return;
    case MSG_SYSTEM:
    case MSG_DEVELOPER:
        break;
    }
    /* "developer" is OpenAI's own word; every other server knows "system" */
    put_item(w);
    put_text(&w->p, "{\"role\":\"system\",\"content\":");
    put_content(w, t->first);
    put_text(&w->p, "}");
}

/* ---- tools ------------------------------------------------------------------------ */

static void put_tool(struct put *p, const struct msg_tool *t)
{
    if (t->kind != MSG_TOOL_FUNCTION) {
        put_span(p, t->raw);
        return;
    }
    put_escaped(p, "{\"type\":\"function\",\"function\":{\"name\":", t->name);
    if (t->description.n)
        put_escaped(p, ",\"description\":", t->description);
    put_text(p, ",\"parameters\":");
    put_span(p, t->schema.n ? t->schema : SPAN_LIT("{\"type\":\"object\",\"properties\":{}}"));
    if (t->strict >= 0)
        put_text(p, t->strict ? ",\"strict\":true" : ",\"strict\":false");
    put_text(p, "}");
    put_cache(p, t->cache, t->cache_ttl);
    put_text(p, "}");
}

static void put_choice(struct writer *w)
{
    switch (w->m->choice) {
    case MSG_CHOICE_UNSAID:
        break;
    case MSG_CHOICE_AUTO:
        put_text(&w->p, ",\"tool_choice\":\"auto\"");
        break;
    case MSG_CHOICE_NONE:
        put_text(&w->p, ",\"tool_choice\":\"none\"");
        break;
    case MSG_CHOICE_REQUIRED:
        put_text(&w->p, w->want->mistral ? ",\"tool_choice\":\"any\"" : ",\"tool_choice\":\"required\"");
        break;
    case MSG_CHOICE_NAMED:
        put_escaped(&w->p, ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":", w->m->choice_name);
        put_text(&w->p, "}}");
        break;
    }
}

static void put_tools(struct writer *w)
{
    if (!w->m->tools)
        return;
    put_text(&w->p, ",\"tools\":[");
    for (const struct msg_tool *t = w->m->tools; t; t = t->next) {
        put_tool(&w->p, t);
        put_text(&w->p, t->next ? "," : "]");
    }
    put_choice(w);
    if (w->m->parallel >= 0)
        put_text(&w->p, w->m->parallel ? ",\"parallel_tool_calls\":true" : ",\"parallel_tool_calls\":false");
}

/* ---- settings --------------------------------------------------------------------- */

static void put_number(struct put *p, const char *name, struct span raw)
{
    if (!raw.n)
        return;
    put_text(p, name);
    put_span(p, raw);
}

static void put_count(struct put *p, const char *name, int64_t n)
{
    if (n < 0)
        return;
    put_text(p, name);
    put_int(p, n);
}

static void put_format(struct writer *w)
{
    const struct msg_request *m = w->m;
    struct put *p = &w->p;
    if (m->format == MSG_FORMAT_JSON)
        put_text(p, ",\"response_format\":{\"type\":\"json_object\"}");
    if (m->format != MSG_FORMAT_SCHEMA)
        return;
    put_escaped(p, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":",
                m->format_name.n ? m->format_name : SPAN_LIT("answer"));
    if (m->format_description.n)
        put_escaped(p, ",\"description\":", m->format_description);
    put_text(p, ",\"schema\":");
    put_span(p, m->format_schema);
    if (m->format_strict >= 0)
        put_text(p, m->format_strict ? ",\"strict\":true" : ",\"strict\":false");
    put_text(p, "}}");
}

static void put_stops(struct writer *w)
{
    for (unsigned i = 0; i < w->m->stops_count; i++)
        put_escaped(&w->p, i ? "," : ",\"stop\":[", w->m->stops[i]);
    if (w->m->stops_count)
        put_text(&w->p, "]");
}

static void put_word(struct put *p, const char *before, struct span escaped)
{
    if (escaped.n)
        put_escaped(p, before, escaped);
}

/* The models of OpenAI that reason refuse "max_tokens"; all other servers know that name, and not all the newer one. */
static bool newer_limit(const struct writer *w)
{
    struct span model = w->want->model;
    return w->m->effort != MSG_EFFORT_UNSAID || span_starts(model, "gpt-5") || span_starts(model, "o1") ||
           span_starts(model, "o3") || span_starts(model, "o4");
}

static void put_settings(struct writer *w)
{
    const struct msg_request *m = w->m;
    struct put *p = &w->p;
    put_count(p, newer_limit(w) && !w->want->mistral ? ",\"max_completion_tokens\":" : ",\"max_tokens\":",
              m->max_tokens);
    put_number(p, ",\"temperature\":", m->temperature);
    put_number(p, ",\"top_p\":", m->top_p);
    put_number(p, w->want->mistral ? ",\"random_seed\":" : ",\"seed\":", m->seed);
    put_number(p, ",\"presence_penalty\":", m->presence_penalty);
    put_number(p, ",\"frequency_penalty\":", m->frequency_penalty);
    put_count(p, ",\"n\":", m->n);
    if (m->logprobs)
        put_text(p, ",\"logprobs\":true");
    put_count(p, ",\"top_logprobs\":", m->top_logprobs);
    put_stops(w);
    put_format(w);
    if (value_effort_word(m->effort))
        put_escaped(p, ",\"reasoning_effort\":", span_str(value_effort_word(m->effort)));
    put_word(p, ",\"user\":", m->user);
    put_word(p, ",\"service_tier\":", m->service_tier);
    put_word(p, ",\"prompt_cache_key\":", m->cache_key);
    put_word(p, ",\"verbosity\":", m->verbosity);
    if (w->want->continues == CONTINUE_FINAL)
        put_text(p, ",\"continue_final_message\":true,\"add_generation_prompt\":false");
}

pd_err chat_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                          struct buf *out)
{
    struct writer w = {put_into(out), m, want, false};
    (void)a;
    put_text(&w.p, "{\"model\":");
    put_json(&w.p, want->model);
    if (want->stream)
        put_text(&w.p, ",\"stream\":true");
    if (want->stream && want->ask_usage)
        put_text(&w.p, ",\"stream_options\":{\"include_usage\":true}");
    put_text(&w.p, ",\"messages\":[");
    for (const struct msg_turn *t = m->first; t; t = t->next)
        put_turn(&w, t);
    put_text(&w.p, "]");
    put_tools(&w);
    put_settings(&w);
    put_text(&w.p, "}");
    return w.p.err;
}
