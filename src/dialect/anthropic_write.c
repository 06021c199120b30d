/* The neutral form as an Anthropic request.
 *
 * carry_fit() has taken out what this format has no place for. What is done here is what its servers insist on: turns
 * alternate, results of tools come first in a user turn, no text is empty, and thinking excludes other settings. */
#include "dialect/anthropic_priv.h"
#include "dialect/claude_priv.h"

#include "parse/base64.h"

void anthropic_put_schema_instruction(struct put *p, struct span schema)
{
    put_text(p,
             "Answer with one JSON value that is valid under the following JSON Schema and nothing else: no other "
             "text, no code fence.\\n\\n");
    put_json_inner(p, schema);
}

/* ---- the writer ---------------------------------------------------------------------- */

struct writer {
    struct put p;
    const struct msg_request *m;
    const struct write_want *want;
    const struct claude_generation *is;
    bool members;                   /* something stands before the next member of the body */
    bool comma;                     /* something stands before the next item of the list that is being written */
    enum msg_role in;               /* the open message's; MSG_SYSTEM: none is open */
    bool any;                       /* a message was written */
    const struct msg_turn *prefill; /* the turn that the answer is to go on with; NULL: none */
    unsigned marks;                 /* cache marks that are still too many: the first ones are left out */
    bool thinks;                    /* thinking is on */
    int64_t max_tokens, budget;
};

/* The next member of the body. */
static void put_member(struct writer *w, const char *name)
{
    put_text(&w->p, w->members ? ",\"" : "\"");
    w->members = true;
    put_text(&w->p, name);
    put_text(&w->p, "\":");
}

static void put_item(struct writer *w)
{
    put_text(&w->p, w->comma ? "," : "");
    w->comma = true;
}

enum { MARKS_MAX = 4 }; /* more cache breakpoints are refused */

static void put_cache(struct writer *w, bool cache, struct span ttl)
{
    if (!cache)
        return;
    if (w->marks) {
        w->marks--;
        return;
    }
    put_text(&w->p, ",\"cache_control\":{\"type\":\"ephemeral\"");
    if (ttl.n)
        put_escaped(&w->p, ",\"ttl\":", ttl);
    put_text(&w->p, "}");
}

/* ---- what of a part is written --------------------------------------------------------- */

static bool is_space_escape(char c)
{
    return c == 'n' || c == 'r' || c == 't';
}

/* Reasoning without a signature was never Anthropic's to accept. */
static bool is_written(const struct msg_part *p)
{
    switch (p->kind) {
    case MSG_PART_TEXT:
    case MSG_PART_REFUSAL:
        return !msg_is_blank(p->text);
    case MSG_PART_REASONING:
        return p->maker == MSG_MAKER_ANTHROPIC && (p->signature.n || p->sealed.n);
    case MSG_PART_MEDIA:
        return p->media == MSG_IMAGE || p->media == MSG_DOCUMENT;
    case MSG_PART_TOOL_CALL:
    case MSG_PART_TOOL_RESULT:
        break;
    }
    return true;
}

static bool is_empty(const struct msg_turn *t)
{
    for (const struct msg_part *p = t->first; p; p = p->next)
        if (is_written(p))
            return false;
    return true;
}

/* The beginning of an answer must not end in white space: the tail of its text goes. */
static struct span without_tail(struct span escaped)
{
    for (;;) {
        size_t n = escaped.n, slashes = 0;
        if (n && escaped.p[n - 1] == ' ') {
            escaped.n--;
            continue;
        }
        if (n < 2 || !is_space_escape(escaped.p[n - 1]))
            return escaped;
        while (slashes < n - 1 && escaped.p[n - 2 - slashes] == '\\')
            slashes++;
        if (slashes % 2 == 0)
            return escaped; /* a letter behind a backslash that is one itself */
        escaped.n -= 2;
    }
}

/* ---- parts ------------------------------------------------------------------------------ */

static void put_text_block(struct writer *w, const char *before, struct span text, const char *behind)
{
    put_text(&w->p, "{\"type\":\"text\",\"text\":\"");
    put_text(&w->p, before);
    put_span(&w->p, text);
    put_text(&w->p, behind);
    put_text(&w->p, "\"");
}

/* What base64 begins with, where nobody said what it is. */
static struct span sniffed(const struct msg_part *part)
{
    static const struct {
        const char *begins, *type;
    } rows[] = {
        {"/9j/", "image/jpeg"}, {"R0lG", "image/gif"}, {"UklGR", "image/webp"}, {"JVBERi", "application/pdf"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (span_starts(part->data, rows[i].begins))
            return span_str(rows[i].type);
    return part->media == MSG_IMAGE ? SPAN_LIT("image/png") : SPAN_LIT("application/pdf");
}

/* A document of text is given as text here; it came as base64. What is none is given as it is. */
static void put_decoded(struct put *p, struct span data)
{
    struct buf text;
    buf_init(&text, 0);
    pd_err e = base64_decode(data, &text);
    if (e == PD_NOMEM)
        p->err = p->err ? p->err : e;
    put_json(p, e ? data : buf_span(&text));
    buf_done(&text);
}

static void put_source(struct put *p, const struct msg_part *part)
{
    struct span type = part->media_type.n ? part->media_type : sniffed(part);
    if (part->file_id.n) {
        put_escaped(p, ",\"source\":{\"type\":\"file\",\"file_id\":", part->file_id);
    } else if (part->url.n) {
        put_escaped(p, ",\"source\":{\"type\":\"url\",\"url\":", part->url);
    } else if (part->media == MSG_DOCUMENT && span_starts(type, "text/")) {
        put_text(p, ",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":");
        put_decoded(p, part->data);
    } else {
        put_escaped(p, ",\"source\":{\"type\":\"base64\",\"media_type\":", type);
        put_escaped(p, ",\"data\":", part->data);
    }
    put_text(p, "}");
}

static void put_media(struct writer *w, const struct msg_part *part)
{
    put_text(&w->p, part->media == MSG_IMAGE ? "{\"type\":\"image\"" : "{\"type\":\"document\"");
    put_source(&w->p, part);
    if (part->media == MSG_DOCUMENT && part->file_name.n)
        put_escaped(&w->p, ",\"title\":", part->file_name);
}

static void put_reasoning(struct writer *w, const struct msg_part *part)
{
    if (part->sealed.n) {
        put_escaped(&w->p, "{\"type\":\"redacted_thinking\",\"data\":", part->sealed);
    } else {
        put_escaped(&w->p, "{\"type\":\"thinking\",\"thinking\":", part->text);
        put_escaped(&w->p, ",\"signature\":", part->signature);
    }
}

static void put_call(struct writer *w, const struct msg_part *part)
{
    put_escaped(&w->p, "{\"type\":\"tool_use\",\"id\":", part->id);
    put_escaped(&w->p, ",\"name\":", part->name);
    put_text(&w->p, ",\"input\":");
    if (!part->custom && part->arguments.n && part->arguments.p[0] == '{') {
        put_span(&w->p, part->arguments);
    } else if (!part->custom && part->arguments.n) { /* a value that is no object */
        put_text(&w->p, "{\"input\":");
        put_span(&w->p, part->arguments);
        put_text(&w->p, "}");
    } else { /* free text, or a text that should have been JSON */
        put_escaped(&w->p, "{\"input\":", part->text);
        put_text(&w->p, "}");
    }
}

static void put_part(struct writer *w, const struct msg_part *part);

static void put_result(struct writer *w, const struct msg_part *part)
{
    put_escaped(&w->p, "{\"type\":\"tool_result\",\"tool_use_id\":", part->id);
    if (part->failed)
        put_text(&w->p, ",\"is_error\":true");
    put_text(&w->p, ",\"content\":[");
    bool comma = false;
    for (const struct msg_part *c = part->content; c; c = c->next) {
        if (!is_written(c))
            continue;
        put_text(&w->p, comma ? "," : "");
        comma = true;
        put_part(w, c);
    }
    put_text(&w->p, "]");
}

/* With its mark and its closing brace. */
static void put_part(struct writer *w, const struct msg_part *part)
{
    switch (part->kind) {
    case MSG_PART_TEXT:
    case MSG_PART_REFUSAL:
        put_text_block(w, "", part->text, "");
        break;
    case MSG_PART_MEDIA:
        put_media(w, part);
        break;
    case MSG_PART_REASONING:
        put_reasoning(w, part);
        put_text(&w->p, "}"); /* takes no mark */
        return;
    case MSG_PART_TOOL_CALL:
        put_call(w, part);
        break;
    case MSG_PART_TOOL_RESULT:
        put_result(w, part);
        break;
    }
    put_cache(w, part->cache, part->cache_ttl);
    put_text(&w->p, "}");
}

/* ---- messages --------------------------------------------------------------------------- */

static enum msg_role role_of(const struct msg_turn *t)
{
    return t->role == MSG_ASSISTANT ? MSG_ASSISTANT : MSG_USER;
}

static void close_message(struct writer *w)
{
    if (w->in != MSG_SYSTEM)
        put_text(&w->p, "]}");
    w->in = MSG_SYSTEM;
}

/* The message that what follows belongs to: the open one, or a new one. The first has to be the user's. */
static void in_message(struct writer *w, enum msg_role role)
{
    if (w->in == role) {
        put_item(w);
        return;
    }
    close_message(w);
    if (!w->any && role == MSG_ASSISTANT)
        put_text(
            &w->p,
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"(The conversation goes on here.)\"}]}");
    put_text(&w->p, w->any || role == MSG_ASSISTANT ? "," : "");
    put_text(&w->p,
             role == MSG_USER ? "{\"role\":\"user\",\"content\":[" : "{\"role\":\"assistant\",\"content\":[");
    w->in = role;
    w->any = true;
    w->comma = true;
}

/* An instruction in the middle: older models have no place for it but a user's text. */
static void put_instruction(struct writer *w, const struct msg_part *part)
{
    put_text_block(w, "<system>", part->text, "</system>");
    put_cache(w, part->cache, part->cache_ttl);
    put_text(&w->p, "}");
}

/* The last text of an answer that is to be gone on with. */
static void put_beginning(struct writer *w, const struct msg_part *part)
{
    put_text_block(w, "", without_tail(part->text), "");
    put_cache(w, part->cache, part->cache_ttl);
    put_text(&w->p, "}");
}

/* Results of a run of turns, or all else of them. */
static void put_run(struct writer *w, const struct msg_turn *from, const struct msg_turn *behind, bool results)
{
    bool only_instructions = msg_behind_system(w->m) == NULL;
    for (const struct msg_turn *t = from; t != behind; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next) {
            if ((p->kind == MSG_PART_TOOL_RESULT) != results || !is_written(p))
                continue;
            in_message(w, role_of(t));
            if (msg_is_system(t) && p->kind == MSG_PART_TEXT && !only_instructions)
                put_instruction(w, p);
            else if (t == w->prefill && p == t->last && p->kind == MSG_PART_TEXT)
                put_beginning(w, p);
            else
                put_part(w, p);
        }
}

static const struct msg_turn *last_written(const struct msg_request *m)
{
    const struct msg_turn *last = NULL;
    for (const struct msg_turn *t = m->first; t; t = t->next)
        if (!is_empty(t))
            last = t;
    return last;
}

static bool is_prefill(const struct msg_request *m)
{
    const struct msg_turn *last = last_written(m);
    return last && last->role == MSG_ASSISTANT;
}

static void put_messages(struct writer *w)
{
    const struct msg_turn *t = msg_behind_system(w->m);
    if (!t)
        t = w->m->first; /* nothing but instructions: they are what is asked */
    put_member(w, "messages");
    put_text(&w->p, "[");
    w->in = MSG_SYSTEM;
    while (t) {
        const struct msg_turn *behind = t->next;
        while (behind && (role_of(behind) == role_of(t) || is_empty(behind)))
            behind = behind->next;
        put_run(w, t, behind, true);
        put_run(w, t, behind, false);
        t = behind;
    }
    if (is_prefill(w->m) && w->is->adapts) {
        in_message(w, MSG_USER);
        put_text_block(w, "Go on exactly where your last message ends, without repeating any of it.", SPAN_NONE,
                       "");
        put_text(&w->p, "}");
    }
    close_message(w);
    put_text(&w->p, "]");
}

/* ---- system ------------------------------------------------------------------------------ */

/* An item of "system", which is there only when something is in it. */
static void put_system_item(struct writer *w)
{
    if (!w->comma) {
        put_member(w, "system");
        put_text(&w->p, "[");
    }
    put_item(w);
}

/* Structured output for models without output_config.format: the instruction works beside tools and thinking and at every
 * server of this format. A forced tool, the other usual way, does neither, and its answer would come as a call. */
static void put_format_instruction(struct writer *w)
{
    if (w->m->format == MSG_FORMAT_JSON) {
        put_system_item(w);
        put_text_block(w, "Answer with one JSON object and nothing else: no other text, no code fence.", SPAN_NONE,
                       "");
        put_text(&w->p, "}");
    } else if (w->m->format == MSG_FORMAT_SCHEMA && !w->is->formats) {
        put_system_item(w);
        put_text(&w->p, "{\"type\":\"text\",\"text\":\"");
        anthropic_put_schema_instruction(&w->p, w->m->format_schema);
        put_text(&w->p, "\"}");
    }
}

static void put_system(struct writer *w)
{
    const struct msg_turn *behind = msg_behind_system(w->m);
    w->comma = false;
    for (const struct msg_turn *t = w->m->first; behind && t != behind; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next)
            if (p->kind == MSG_PART_TEXT && is_written(p)) {
                put_system_item(w);
                put_part(w, p);
            }
    put_format_instruction(w);
    put_text(&w->p, w->comma ? "]" : "");
}

/* ---- tools --------------------------------------------------------------------------------- */

/* The schema has to be of an object. */
static void put_schema(struct put *p, struct span schema)
{
    struct json v = {JSON_OBJECT, span_trim(schema)};
    if (v.raw.n < 2 || v.raw.p[0] != '{') {
        put_text(p, "{\"type\":\"object\",\"properties\":{}}");
    } else if (json_get(v, "type").type == JSON_NONE) {
        struct span rest = span_trim(span_from(v.raw, 1));
        put_text(p, rest.p[0] == '}' ? "{\"type\":\"object\"" : "{\"type\":\"object\",");
        put_span(p, rest);
    } else {
        put_span(p, schema);
    }
}

static void put_tool(struct writer *w, const struct msg_tool *t)
{
    put_item(w);
    if (t->kind == MSG_TOOL_HOSTED) {
        put_span(&w->p, t->raw); /* its mark is in it */
        return;
    }
    put_escaped(&w->p, "{\"name\":", t->name);
    if (t->description.n)
        put_escaped(&w->p, ",\"description\":", t->description);
    put_text(&w->p, ",\"input_schema\":");
    if (t->kind == MSG_TOOL_CUSTOM)
        put_text(
            &w->p,
            "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},\"required\":[\"input\"]}");
    else
        put_schema(&w->p, t->schema);
    if (t->strict == 1 && w->is->formats)
        put_text(&w->p, ",\"strict\":true");
    put_cache(w, t->cache, t->cache_ttl);
    put_text(&w->p, "}");
}

static void put_tools(struct writer *w)
{
    if (!w->m->tools)
        return;
    put_member(w, "tools");
    put_text(&w->p, "[");
    w->comma = false;
    for (const struct msg_tool *t = w->m->tools; t; t = t->next)
        put_tool(w, t);
    put_text(&w->p, "]");
}

static bool is_forced(const struct msg_request *m)
{
    return m->tools && (m->choice == MSG_CHOICE_REQUIRED || m->choice == MSG_CHOICE_NAMED);
}

static void put_choice(struct writer *w)
{
    const struct msg_request *m = w->m;
    bool alone = m->parallel == 0 && m->choice != MSG_CHOICE_NONE;
    if (!m->tools || (m->choice == MSG_CHOICE_UNSAID && !alone))
        return;
    put_member(w, "tool_choice");
    switch (m->choice) {
    case MSG_CHOICE_UNSAID:
    case MSG_CHOICE_AUTO:
        put_text(&w->p, "{\"type\":\"auto\"");
        break;
    case MSG_CHOICE_NONE:
        put_text(&w->p, "{\"type\":\"none\"");
        break;
    case MSG_CHOICE_REQUIRED:
        put_text(&w->p, "{\"type\":\"any\"");
        break;
    case MSG_CHOICE_NAMED:
        put_escaped(&w->p, "{\"type\":\"tool\",\"name\":", m->choice_name);
        break;
    }
    put_text(&w->p, alone ? ",\"disable_parallel_tool_use\":true}" : "}");
}

/* ---- thinking -------------------------------------------------------------------------------- */

static bool has_result(const struct msg_turn *t)
{
    return t->first && t->first->kind == MSG_PART_TOOL_RESULT;
}

/* The conversation ends in results of tools, and the turn that called them does not begin with its thinking: with a budget
 * such a turn is refused. (With adaptive thinking it is not.) */
static bool lacks_thinking(const struct msg_request *m)
{
    const struct msg_turn *answer = NULL; /* where the last run of assistant turns begins */
    bool in_answer = false, results = false;
    for (const struct msg_turn *t = m->first; t; t = t->next) {
        if (is_empty(t))
            continue;
        if (role_of(t) == MSG_ASSISTANT) {
            answer = in_answer ? answer : t;
            results = false;
        } else {
            results |= has_result(t);
        }
        in_answer = role_of(t) == MSG_ASSISTANT;
    }
    if (!answer || in_answer || !results)
        return false;
    const struct msg_part *p = answer->first;
    while (!is_written(p))
        p = p->next;
    return p->kind != MSG_PART_REASONING;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Whether to think, and how long. What a client forces (a tool) or began (the answer) goes before thinking, which excludes it. */
static void decide_thinking(struct writer *w)
{
    const struct msg_request *m = w->m;
    enum msg_effort effort = claude_effort(m);
    w->max_tokens = m->max_tokens > 0 ? m->max_tokens : w->is->answer;
    if (!w->is->thinks || effort == MSG_EFFORT_UNSAID || effort == MSG_EFFORT_NONE || is_forced(m))
        return;
    if (w->is->adapts) {
        w->thinks = true;
        return;
    }
    bool said = m->reasoning_tokens > 0;
    w->budget = said ? m->reasoning_tokens : claude_budget(effort);
    if (w->budget < CLAUDE_BUDGET_LEAST)
        w->budget = CLAUDE_BUDGET_LEAST;
    w->budget =
        least(w->budget, said ? w->max_tokens - 1 : w->max_tokens - w->max_tokens / 4); /* room for the answer */
    w->thinks = w->budget >= CLAUDE_BUDGET_LEAST && !is_prefill(m) && !lacks_thinking(m);
}

static void put_thinking(struct writer *w)
{
    const struct msg_request *m = w->m;
    bool off = w->is->thinks && claude_effort(m) == MSG_EFFORT_NONE;
    if (!w->thinks && !off)
        return;
    put_member(w, "thinking");
    if (off) {
        put_text(&w->p, "{\"type\":\"disabled\"}");
    } else if (!w->is->adapts) {
        put_text(&w->p, "{\"type\":\"enabled\",\"budget_tokens\":");
        put_int(&w->p, w->budget);
        put_text(&w->p, "}");
    } else { /* later models show nothing unless they are asked to */
        put_text(&w->p, m->reasoning_shown == 0 ? "{\"type\":\"adaptive\",\"display\":\"omitted\"}"
                                                : "{\"type\":\"adaptive\",\"display\":\"summarized\"}");
    }
}

static void put_output_config(struct writer *w)
{
    const char *effort = w->is->adapts ? claude_effort_word(claude_effort(w->m)) : NULL;
    bool format = w->m->format == MSG_FORMAT_SCHEMA && w->is->formats;
    if (!effort && !format)
        return;
    put_member(w, "output_config");
    put_text(&w->p, "{");
    if (effort) {
        put_text(&w->p, "\"effort\":\"");
        put_text(&w->p, effort);
        put_text(&w->p, format ? "\"," : "\"");
    }
    if (format) {
        put_text(&w->p, "\"format\":{\"type\":\"json_schema\",\"schema\":");
        put_span(&w->p, w->m->format_schema);
        put_text(&w->p, "}");
    }
    put_text(&w->p, "}");
}

/* ---- settings ---------------------------------------------------------------------------------- */

/* 0 to 1 here, 0 to 2 elsewhere. */
static struct span temperature_of(struct span raw)
{
    double t;
    bool hotter = json_f64((struct json){JSON_NUMBER, raw}, &t) && t > 1;
    return hotter ? SPAN_LIT("1") : raw;
}

static void put_number(struct writer *w, const char *name, struct span raw)
{
    if (raw.n == 0)
        return;
    put_member(w, name);
    put_span(&w->p, raw);
}

static void put_sampling(struct writer *w)
{
    const struct msg_request *m = w->m;
    if (w->thinks || w->is->no_sample)
        return;
    put_number(w, "temperature", temperature_of(m->temperature));
    if (!m->temperature.n || !w->is->one_sample)
        put_number(w, "top_p", m->top_p);
    put_number(w, "top_k", m->top_k);
}

static void put_stops(struct writer *w)
{
    bool any = false;
    for (unsigned i = 0; i < w->m->stops_count; i++) {
        if (msg_is_blank(w->m->stops[i]))
            continue; /* refused */
        if (!any)
            put_member(w, "stop_sequences");
        put_escaped(&w->p, any ? "," : "[", w->m->stops[i]);
        any = true;
    }
    put_text(&w->p, any ? "]" : "");
}

enum { USER_MAX = 256 }; /* bytes of metadata.user_id */

/* What concerns the answer alone. */
static void put_answer_settings(struct writer *w)
{
    const struct msg_request *m = w->m;
    put_member(w, "max_tokens");
    put_int(&w->p, w->max_tokens);
    if (w->want->stream && !w->want->drop_model) {
        put_member(w, "stream");
        put_text(&w->p, "true");
    }
    put_sampling(w);
    put_stops(w);
    if (m->user.n && m->user.n <= USER_MAX) {
        put_member(w, "metadata");
        put_escaped(&w->p, "{\"user_id\":", m->user);
        put_text(&w->p, "}");
    }
    bool automatic = span_is(m->service_tier, "auto");
    if (automatic || span_is(m->service_tier, "default")) {
        put_member(w, "service_tier");
        put_text(&w->p, automatic ? "\"auto\"" : "\"standard_only\"");
    }
}

/* ---- the body ---------------------------------------------------------------------------------- */

static unsigned count_marks(const struct msg_request *m)
{
    unsigned n = 0;
    for (const struct msg_tool *t = m->tools; t; t = t->next)
        n += t->cache;
    for (const struct msg_turn *t = m->first; t; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next) {
            n += p->cache && is_written(p) && p->kind != MSG_PART_REASONING;
            for (const struct msg_part *c = p->content; c; c = c->next)
                n += c->cache && is_written(c);
        }
    return n;
}

static void put_head(struct writer *w)
{
    if (w->want->version) {
        put_member(w, "anthropic_version");
        put_json(&w->p, span_str(w->want->version));
    }
    if (!w->want->drop_model) {
        put_member(w, "model");
        put_json(&w->p, w->want->model);
    }
}

static pd_err write_body(const struct msg_request *m, const struct write_want *want, bool counts, struct buf *out)
{
    struct writer w = {.p = put_into(out), .m = m, .want = want, .is = claude_generation(want->model)};
    unsigned marks = count_marks(m);
    w.marks = marks > MARKS_MAX ? marks - MARKS_MAX : 0;
    w.prefill = is_prefill(m) && !w.is->adapts ? last_written(m) : NULL;
    decide_thinking(&w);
    put_text(&w.p, "{");
    put_head(&w);
    if (!counts)
        put_answer_settings(&w);
    put_thinking(&w);
    put_output_config(&w);
    put_tools(&w);
    put_choice(&w);
    put_system(&w);
    put_messages(&w);
    put_text(&w.p, "}");
    return w.p.err;
}

pd_err anthropic_write_request(const struct msg_request *m, const struct write_want *want, struct arena *a,
                               struct buf *out)
{
    (void)a;
    return write_body(m, want, false, out);
}

pd_err anthropic_write_count(const struct msg_request *m, const struct write_want *want, struct arena *a,
                             struct buf *out)
{
    (void)a;
    return write_body(m, want, true, out);
}
