/* The neutral form as a generateContent request. */
#include "dialect/gemini_priv.h"

struct writer {
    struct put p;
    const struct msg_request *m;
    struct gemini_model model;
};

/* ---- parts ------------------------------------------------------------------------ */

/* An address says what is behind it, more or less; Vertex insists on a type. */
static struct span type_of(const struct msg_part *part)
{
    static const struct {
        const char *end;
        const char *type;
    } rows[] = {
        {".png", "image/png"},   {".gif", "image/gif"},   {".webp", "image/webp"},     {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"}, {".heic", "image/heic"}, {".pdf", "application/pdf"}, {".txt", "text/plain"},
        {".mp3", "audio/mpeg"},  {".wav", "audio/wav"},   {".ogg", "audio/ogg"},       {".flac", "audio/flac"},
        {".mp4", "video/mp4"},   {".webm", "video/webm"}, {".mov", "video/quicktime"},
    };
    static const char *const usual[] = {
        [MSG_IMAGE] = "image/jpeg",
        [MSG_DOCUMENT] = "application/pdf",
        [MSG_AUDIO] = "audio/mpeg",
        [MSG_VIDEO] = "video/mp4",
    };
    if (part->media_type.n)
        return part->media_type;
    struct span path = part->url;
    path = span_cut(&path, '?');
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_ends(path, rows[i].end) || (part->file_name.n && span_ends(part->file_name, rows[i].end)))
            return span_str(rows[i].type);
    return span_str(usual[part->media]);
}

static void put_media(struct put *p, const struct msg_part *part)
{
    struct span uri = part->url.n ? part->url : part->file_id;
    put_text(p, uri.n ? "\"fileData\":{" : "\"inlineData\":{");
    put_field(p, "mimeType", type_of(part));
    put_text(p, ",");
    put_field(p, uri.n ? "fileUri" : "data", uri.n ? uri : part->data);
    put_text(p, "}");
}

/* An id that nobody but us knows is left out: order and name tell. */
static void put_id(struct put *p, struct span id)
{
    if (!id.n || span_starts(id, MSG_MADE_ID))
        return;
    put_text(p, ",");
    put_field(p, "id", id);
}

static void put_call(struct put *p, const struct msg_part *part)
{
    put_text(p, "\"functionCall\":{");
    put_field(p, "name", part->name);
    put_text(p, ",\"args\":");
    if (part->arguments.p) {
        put_span(p, part->arguments);
    } else { /* free text, or what is no JSON */
        put_text(p, "{");
        put_field(p, "input", part->text);
        put_text(p, "}");
    }
    put_id(p, part->id);
    put_text(p, "}");
}

static bool has_media(const struct msg_part *result)
{
    for (const struct msg_part *c = result->content; c; c = c->next)
        if (c->kind == MSG_PART_MEDIA)
            return true;
    return false;
}

static void put_result_media(struct put *p, const struct msg_part *result)
{
    const char *sep = ",\"parts\":[{";
    for (const struct msg_part *c = result->content; c; c = c->next) {
        if (c->kind != MSG_PART_MEDIA)
            continue;
        put_text(p, sep);
        put_media(p, c);
        put_text(p, "}");
        sep = ",{";
    }
    put_text(p, "]");
}

/* A response must be an object. */
static void put_result(struct writer *w, const struct msg_part *part)
{
    struct put *p = &w->p;
    const char *sep = "";
    put_text(p, "\"functionResponse\":{");
    put_field(p, "name", part->name.n ? part->name : SPAN_LIT("tool"));
    put_text(p, part->failed ? ",\"response\":{\"error\":\"" : ",\"response\":{\"result\":\"");
    for (const struct msg_part *c = part->content; c; c = c->next) {
        if (c->kind == MSG_PART_MEDIA)
            continue;
        put_text(p, sep);
        put_span(p, c->text);
        sep = "\\n";
    }
    put_text(p, "\"}");
    put_id(p, part->id);
    if (w->model.media_in_results && has_media(part))
        put_result_media(p, part);
    put_text(p, "}");
}

/* `call_of_step`: the first call of a step, which carries the signature for all of it. One of another's making, which this model
 * would refuse without, gets the word for that. */
static void put_signature(struct writer *w, const struct msg_part *part, bool call_of_step)
{
    struct span signature = part->maker == MSG_MAKER_GEMINI ? part->signature : SPAN_NONE;
    if (!signature.n && call_of_step && w->model.thinking == GEMINI_THINKS_LEVEL)
        signature = SPAN_LIT(GEMINI_NO_SIGNATURE);
    if (!signature.n)
        return;
    put_text(&w->p, ",");
    put_field(&w->p, "thoughtSignature", signature);
}

static void put_part(struct writer *w, const struct msg_part *part, bool call_of_step)
{
    struct put *p = &w->p;
    put_text(p, "{");
    switch (part->kind) {
    case MSG_PART_TEXT:
    case MSG_PART_REFUSAL:
        put_field(p, "text", part->text);
        break;
    case MSG_PART_REASONING:
        put_field(p, "text", part->text);
        put_text(p, ",\"thought\":true");
        break;
    case MSG_PART_MEDIA:
        put_media(p, part);
        break;
    case MSG_PART_TOOL_CALL:
        put_call(p, part);
        break;
    case MSG_PART_TOOL_RESULT:
        put_result(w, part);
        break;
    }
    put_signature(w, part, call_of_step);
    put_text(p, "}");
}

/* ---- contents --------------------------------------------------------------------- */

static bool is_model(const struct msg_turn *t)
{
    return t->role == MSG_ASSISTANT;
}

/* What of a turn is written: reasoning of others has no place. */
static bool has_place(const struct msg_part *part)
{
    return part->kind != MSG_PART_REASONING || part->text.n || part->maker == MSG_MAKER_GEMINI;
}

/* The parts of a content, as they are written one after the other. */
struct content {
    const char *sep;
    bool call_yet;
};

static void begin_part(struct writer *w, struct content *c)
{
    put_text(&w->p, c->sep);
    c->sep = ",";
}

static void put_results(struct writer *w, struct content *c, const struct msg_turn *t)
{
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind != MSG_PART_TOOL_RESULT)
            continue;
        begin_part(w, c);
        put_part(w, part, false);
    }
}

/* Media of results where results have no place for them stand behind these. */
static void put_media_behind(struct writer *w, struct content *c, const struct msg_part *result)
{
    for (const struct msg_part *m = result->content; m; m = m->next) {
        if (m->kind != MSG_PART_MEDIA || w->model.media_in_results)
            continue;
        begin_part(w, c);
        put_text(&w->p, "{");
        put_media(&w->p, m);
        put_text(&w->p, "}");
    }
}

static void put_others(struct writer *w, struct content *c, const struct msg_turn *t)
{
    for (const struct msg_part *part = t->first; part; part = part->next) {
        if (part->kind == MSG_PART_TOOL_RESULT) {
            put_media_behind(w, c, part);
            continue;
        }
        if (!has_place(part))
            continue;
        bool call = part->kind == MSG_PART_TOOL_CALL;
        begin_part(w, c);
        put_part(w, part, call && !c->call_yet);
        c->call_yet |= call;
    }
}

/* The parts of `t` and of all turns of the same role behind it, results first; returns what comes next. */
static const struct msg_turn *put_turns(struct writer *w, const struct msg_turn *t)
{
    struct content c = {.sep = ""};
    const struct msg_turn *next = t;
    bool model = is_model(t);
    put_text(&w->p, model ? "{\"role\":\"model\",\"parts\":[" : "{\"role\":\"user\",\"parts\":[");
    for (; next && is_model(next) == model; next = next->next)
        put_results(w, &c, next);
    for (; t != next; t = t->next)
        put_others(w, &c, t);
    if (!*c.sep)
        put_text(&w->p, "{\"text\":\"\"}"); /* no content is without a part */
    put_text(&w->p, "]}");
    return next;
}

static void put_contents(struct writer *w)
{
    const struct msg_turn *t = msg_behind_system(w->m);
    const char *sep = "";
    put_text(&w->p, "\"contents\":[");
    while (t && !w->p.err) {
        put_text(&w->p, sep);
        t = put_turns(w, t);
        sep = ",";
    }
    put_text(&w->p, "]");
}

static void put_system(struct writer *w)
{
    const char *sep = ",\"systemInstruction\":{\"parts\":[";
    bool any = false;
    for (const struct msg_turn *t = w->m->first; t && msg_is_system(t); t = t->next)
        for (const struct msg_part *part = t->first; part; part = part->next) {
            put_text(&w->p, sep);
            put_part(w, part, false);
            sep = ",";
            any = true;
        }
    put_text(&w->p, any ? "]}" : "");
}

/* ---- tools ------------------------------------------------------------------------ */

static void put_function(struct put *p, const struct msg_tool *t)
{
    put_text(p, "{");
    put_field(p, "name", t->name);
    if (t->description.n) {
        put_text(p, ",");
        put_field(p, "description", t->description);
    }
    if (t->kind == MSG_TOOL_CUSTOM) {
        put_text(p,
                 ",\"parametersJsonSchema\":{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},"
                 "\"required\":[\"input\"]}");
    } else if (t->schema.n) {
        put_text(p, ",\"parametersJsonSchema\":");
        put_span(p, t->schema);
    }
    put_text(p, "}");
}

static bool has_functions(const struct msg_request *m)
{
    for (const struct msg_tool *t = m->tools; t; t = t->next)
        if (t->kind != MSG_TOOL_HOSTED)
            return true;
    return false;
}

static void put_tools(struct writer *w)
{
    struct put *p = &w->p;
    const char *sep = "{\"functionDeclarations\":[";
    bool functions = has_functions(w->m);
    if (!w->m->tools)
        return;
    put_text(p, ",\"tools\":[");
    for (const struct msg_tool *t = w->m->tools; t; t = t->next) {
        if (t->kind == MSG_TOOL_HOSTED)
            continue;
        put_text(p, sep);
        put_function(p, t);
        sep = ",";
    }
    put_text(p, functions ? "]}" : "");
    sep = functions ? "," : "";
    for (const struct msg_tool *t = w->m->tools; t; t = t->next) {
        if (t->kind != MSG_TOOL_HOSTED)
            continue;
        put_text(p, sep);
        put_span(p, t->raw);
        sep = ",";
    }
    put_text(p, "]");
}

static void put_choice(struct writer *w)
{
    static const char *const modes[] = {
        [MSG_CHOICE_UNSAID] = NULL,    [MSG_CHOICE_AUTO] = "AUTO", [MSG_CHOICE_NONE] = "NONE",
        [MSG_CHOICE_REQUIRED] = "ANY", [MSG_CHOICE_NAMED] = "ANY",
    };
    struct put *p = &w->p;
    const char *mode = modes[w->m->choice];
    if (!mode || !has_functions(w->m))
        return;
    put_text(p, ",\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"");
    put_text(p, mode);
    put_text(p, "\"");
    if (w->m->choice == MSG_CHOICE_NAMED) {
        put_text(p, ",\"allowedFunctionNames\":[\"");
        put_span(p, w->m->choice_name);
        put_text(p, "\"]");
    }
    put_text(p, "}}");
}

/* ---- settings --------------------------------------------------------------------- */

/* Members of an object of which it is not known whether there will be any. */
struct object {
    struct put *p;
    const char *open; /* what stands before its first member */
    bool any;
};

static void name_member(struct object *o, const char *name)
{
    put_text(o->p, o->any ? ",\"" : o->open);
    put_text(o->p, o->any ? "" : "\"");
    o->any = true;
    put_text(o->p, name);
    put_text(o->p, "\":");
}

static void put_number(struct object *o, const char *name, struct span raw)
{
    if (!raw.n)
        return;
    name_member(o, name);
    put_span(o->p, raw);
}

static void put_whole(struct object *o, const char *name, int64_t n)
{
    if (n < 0)
        return;
    name_member(o, name);
    put_int(o->p, n);
}

static void put_stops(struct object *o, const struct msg_request *m)
{
    if (!m->stops_count)
        return;
    name_member(o, "stopSequences");
    for (unsigned i = 0; i < m->stops_count; i++) {
        put_text(o->p, i ? ",\"" : "[\"");
        put_span(o->p, m->stops[i]);
        put_text(o->p, "\"");
    }
    put_text(o->p, "]");
}

static void put_format(struct object *o, const struct msg_request *m)
{
    if (m->format == MSG_FORMAT_UNSAID)
        return;
    name_member(o, "responseMimeType");
    put_text(o->p, m->format == MSG_FORMAT_TEXT ? "\"text/plain\"" : "\"application/json\"");
    if (m->format != MSG_FORMAT_SCHEMA)
        return;
    name_member(o, "responseJsonSchema");
    put_span(o->p, m->format_schema);
}

/* The tokens that Google's own OpenAI endpoint takes for an effort. */
static int64_t budget_of(const struct gemini_model *model, const struct msg_request *m)
{
    static const int64_t tokens[] = {
        [MSG_EFFORT_UNSAID] = -1, [MSG_EFFORT_NONE] = 0,      [MSG_EFFORT_MINIMAL] = 1024,
        [MSG_EFFORT_LOW] = 1024,  [MSG_EFFORT_MEDIUM] = 8192, [MSG_EFFORT_HIGH] = 24576,
        [MSG_EFFORT_MAX] = 32768,
    };
    int64_t n = m->effort != MSG_EFFORT_NONE && m->reasoning_tokens >= 0 ? m->reasoning_tokens : tokens[m->effort];
    if (n < 0 || (n == 0 && model->can_be_off))
        return n;
    return n < model->least ? model->least : n > model->most ? model->most : n;
}

static const char *level_of(const struct gemini_model *model, const struct msg_request *m)
{
    enum msg_effort effort = m->effort;
    if (effort == MSG_EFFORT_UNSAID && m->reasoning_tokens >= 0)
        effort = m->reasoning_tokens == 0      ? MSG_EFFORT_NONE
                 : m->reasoning_tokens <= 2048 ? MSG_EFFORT_LOW
                 : m->reasoning_tokens <= 8192 ? MSG_EFFORT_MEDIUM
                                               : MSG_EFFORT_HIGH;
    switch (effort) {
    case MSG_EFFORT_UNSAID:
        return NULL;
    case MSG_EFFORT_NONE:
    case MSG_EFFORT_MINIMAL:
        return model->can_be_off ? "MINIMAL" : "LOW";
    case MSG_EFFORT_LOW:
        return "LOW";
    case MSG_EFFORT_MEDIUM:
        return model->medium ? "MEDIUM" : "HIGH";
    case MSG_EFFORT_HIGH:
    case MSG_EFFORT_MAX:
        break;
    }
    return "HIGH";
}

/* Who asks for reasoning sees it, unless it was said otherwise. */
static bool shows_thoughts(const struct msg_request *m)
{
    bool asked = m->effort > MSG_EFFORT_NONE || (m->effort == MSG_EFFORT_UNSAID && m->reasoning_tokens > 0);
    return m->reasoning_shown >= 0 ? m->reasoning_shown && m->effort != MSG_EFFORT_NONE : asked;
}

static void put_thinking(struct object *config, const struct writer *w)
{
    struct put *p = config->p;
    const char *level = w->model.thinking == GEMINI_THINKS_LEVEL ? level_of(&w->model, w->m) : NULL;
    int64_t budget = w->model.thinking == GEMINI_THINKS_BUDGET ? budget_of(&w->model, w->m) : -1;
    bool shown = shows_thoughts(w->m), said = w->m->reasoning_shown == 0;
    if (w->model.thinking == GEMINI_THINKS_NOT || (!level && budget < 0 && !shown && !said))
        return;
    name_member(config, "thinkingConfig");
    struct object o = {.p = p, .open = "{"};
    if (level) {
        name_member(&o, "thinkingLevel");
        put_json(p, span_str(level));
    }
    put_whole(&o, "thinkingBudget", budget);
    name_member(&o, "includeThoughts");
    put_text(p, shown ? "true}" : "false}");
}

static void put_config(struct writer *w)
{
    const struct msg_request *m = w->m;
    struct object o = {.p = &w->p, .open = ",\"generationConfig\":{"};
    put_whole(&o, "maxOutputTokens", m->max_tokens);
    put_number(&o, "temperature", m->temperature);
    put_number(&o, "topP", m->top_p);
    put_number(&o, "topK", m->top_k);
    put_number(&o, "seed", m->seed);
    put_number(&o, "presencePenalty", m->presence_penalty);
    put_number(&o, "frequencyPenalty", m->frequency_penalty);
    put_whole(&o, "candidateCount", m->n);
    if (m->logprobs) {
        name_member(&o, "responseLogprobs");
        put_text(&w->p, "true");
        put_whole(&o, "logprobs", m->top_logprobs);
    }
    put_stops(&o, m);
    put_format(&o, m);
    put_thinking(&o, w);
    put_text(&w->p, o.any ? "}" : "");
}

static void put_tier(struct writer *w)
{
    struct span tier = w->m->service_tier;
    if (!span_is(tier, "flex") && !span_is(tier, "priority"))
        return;
    put_text(&w->p, ",");
    put_field(&w->p, "serviceTier", tier);
}

/* ---- the request ------------------------------------------------------------------ */

static struct writer writer_of(const struct msg_request *m, const struct write_want *want, struct buf *out)
{
    return (struct writer){.p = put_into(out), .m = m, .model = gemini_model(want->model)};
}

static void put_request(struct writer *w)
{
    put_contents(w);
    put_system(w);
    put_tools(w);
    put_choice(w);
    put_config(w);
}

pd_err gemini_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out)
{
    struct writer w = writer_of(m, want, out);
    (void)a;
    put_text(&w.p, "{");
    put_request(&w);
    put_tier(&w);
    put_text(&w.p, "}");
    return w.p.err;
}

/* At its own host only a whole generateContent request is counted with its system turn and tools; Vertex, where the body may not name
 * the model, takes these beside the contents. */
pd_err gemini_write_count(const struct msg_request *m, const struct write_want *want, struct arena *a,
                          struct buf *out)
{
    struct writer w = writer_of(m, want, out);
    (void)a;
    put_text(&w.p, "{");
    if (!want->drop_model) {
        put_text(&w.p, "\"generateContentRequest\":{\"model\":\"models/");
        put_json_inner(&w.p, want->model);
        put_text(&w.p, "\",");
    }
    put_request(&w);
    put_text(&w.p, want->drop_model ? "}" : "}}");
    return w.p.err;
}
