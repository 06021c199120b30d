/* The table of what each format can carry, and the passes over a request that the table asks for. */
#include "dialect/carry_priv.h"

#include <stdio.h>

/* ---- the table's own words ------------------------------------------------------------ */

static const struct {
    const char *prefix, *title; /* of the codecs' names */
} formats[CARRY_FORMATS] = {
    {"openai-chat", "OpenAI Chat"}, {"openai-responses", "OpenAI Responses"}, {"anthropic", "Anthropic Messages"},
    {"gemini", "Gemini"},           {"bedrock-converse", "Bedrock Converse"}, {"ollama", "Ollama"},
};

enum fate {
    C, /* carried */
    S, /* carried in another shape */
    D, /* dropped, and named */
    R, /* refused */
};

/* Of a part in a turn, or, with `result`, in that tool's result. */
typedef bool part_test(const struct carry *f, const struct msg_turn *t, const struct msg_part *result,
                       const struct msg_part *p);

struct row {
    const char *name; /* what is named when it is dropped; NULL: drop() names it more exactly */
    const char *what; /* for people; with "cannot be given to " behind it a sentence */
    enum fate fate[CARRY_FORMATS];
    bool not_mistral; /* chat: Mistral refuses members that it does not know */
    bool (*uses)(const struct carry *f);
    part_test *part;                  /* in place of uses: some part does */
    pd_err (*shape)(struct carry *f); /* for S; NULL: the format's writer gives it that shape */
    pd_err (*drop)(struct carry *f);  /* for D; NULL: the part goes */
};

/* ---- parts ------------------------------------------------------------------------------ */

static bool any_part(const struct carry *f, part_test *is)
{
    for (const struct msg_turn *t = f->m->first; t; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next) {
            if (is(f, t, NULL, p))
                return true;
            for (const struct msg_part *c = p->content; c; c = c->next)
                if (is(f, t, p, c))
                    return true;
        }
    return false;
}

/* Returns the last that stays. */
static struct msg_part *remove_from(const struct carry *f, part_test *is, const struct msg_turn *t,
                                    const struct msg_part *result, struct msg_part **at)
{
    struct msg_part *last = NULL;
    while (*at) {
        if (is(f, t, result, *at)) {
            *at = (*at)->next;
            continue;
        }
        last = *at;
        at = &last->next;
    }
    return last;
}

static void remove_parts(const struct carry *f, part_test *is)
{
    for (struct msg_turn *t = f->m->first; t; t = t->next) {
        t->last = remove_from(f, is, t, NULL, &t->first);
        for (struct msg_part *p = t->first; p; p = p->next)
            remove_from(f, is, t, p, &p->content);
    }
}

static bool is_media(const struct msg_part *p, enum msg_media media)
{
    return p->kind == MSG_PART_MEDIA && p->media == media;
}

static bool is_web(struct span url)
{
    return span_starts(url, "https:") || span_starts(url, "http:");
}

#define PART_TEST(name)                                                                   \
    static bool name(const struct carry *f PD_UNUSED, const struct msg_turn *t PD_UNUSED, \
                     const struct msg_part *result PD_UNUSED, const struct msg_part *p)

PART_TEST(is_refusal)
{
    return p->kind == MSG_PART_REFUSAL;
}
PART_TEST(is_broken_call)
{
    return p->kind == MSG_PART_TOOL_CALL && !p->custom && !p->arguments.p;
}
PART_TEST(is_web_image)
{
    return is_media(p, MSG_IMAGE) && is_web(p->url);
}
PART_TEST(is_web_document)
{
    return is_media(p, MSG_DOCUMENT) && is_web(p->url);
}
PART_TEST(is_web_sound)
{
    return (is_media(p, MSG_AUDIO) || is_media(p, MSG_VIDEO)) && is_web(p->url);
}
PART_TEST(is_at_google)
{
    return p->kind == MSG_PART_MEDIA && span_starts(p->url, "gs:");
}
PART_TEST(is_at_amazon)
{
    return p->kind == MSG_PART_MEDIA && span_starts(p->url, "s3:");
}
PART_TEST(is_elsewhere)
{
    return p->kind == MSG_PART_MEDIA && p->url.n && !is_web(p->url) && !span_starts(p->url, "gs:") &&
           !span_starts(p->url, "s3:");
}
PART_TEST(is_document)
{
    return is_media(p, MSG_DOCUMENT);
}
PART_TEST(is_audio)
{
    return is_media(p, MSG_AUDIO);
}
PART_TEST(is_video)
{
    return is_media(p, MSG_VIDEO);
}
PART_TEST(is_foreign_file)
{
    return p->kind == MSG_PART_MEDIA && p->file_id.n && p->maker != f->files;
}
PART_TEST(is_kept_image)
{
    return is_media(p, MSG_IMAGE) && p->file_id.n;
}
PART_TEST(is_kept_sound)
{
    return (is_media(p, MSG_AUDIO) || is_media(p, MSG_VIDEO)) && p->file_id.n;
}
PART_TEST(is_result_media)
{
    return result && p->kind == MSG_PART_MEDIA;
}
PART_TEST(is_result_sound)
{
    return result && (is_media(p, MSG_AUDIO) || is_media(p, MSG_VIDEO));
}
PART_TEST(is_system_media)
{
    return msg_is_system(t) && p->kind == MSG_PART_MEDIA;
}
PART_TEST(is_assistant_media)
{
    return t->role == MSG_ASSISTANT && p->kind == MSG_PART_MEDIA;
}
PART_TEST(is_failed_result)
{
    return p->kind == MSG_PART_TOOL_RESULT && p->failed;
}
PART_TEST(is_marked)
{
    return p->cache;
}

/* Reasoning goes back to its maker, with what proves that it is its own, and in the open to servers that want it so. */
PART_TEST(is_foreign_reasoning)
{
    if (p->kind != MSG_PART_REASONING)
        return false;
    switch (f->to) {
    case CARRY_CHAT:
        return !f->want->reasoning_back || !p->text.n;
    case CARRY_OLLAMA:
        return !p->text.n;
    case CARRY_RESPONSES:
        return p->maker != MSG_MAKER_OPENAI || !p->sealed.n;
    case CARRY_ANTHROPIC:
    case CARRY_CONVERSE:
        return p->maker != MSG_MAKER_ANTHROPIC || (!p->signature.n && !p->sealed.n);
    case CARRY_GEMINI:
        return p->maker != MSG_MAKER_GEMINI || !p->signature.n;
    case CARRY_FORMATS:
        break;
    }
    return true;
}

/* On a text or a call, where only its maker has a place for it. */
PART_TEST(is_signed)
{
    return p->kind != MSG_PART_REASONING && p->signature.n &&
           (f->to != CARRY_GEMINI || p->maker != MSG_MAKER_GEMINI);
}

PART_TEST(is_reasoning)
{
    return p->kind == MSG_PART_REASONING;
}

/* For whoever takes reasoning in the open: what only its maker could read. */
PART_TEST(is_sealed_beside_text)
{
    return p->kind == MSG_PART_REASONING && (p->signature.n || p->sealed.n) &&
           (f->to == CARRY_CHAT || f->to == CARRY_OLLAMA);
}

static void each_part(struct carry *f, part_test *is, void (*change)(struct msg_part *p))
{
    for (struct msg_turn *t = f->m->first; t; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next) {
            if (is(f, t, NULL, p))
                change(p);
            for (struct msg_part *c = p->content; c; c = c->next)
                if (is(f, t, p, c))
                    change(c);
        }
}

static void become_text(struct msg_part *p)
{
    p->kind = MSG_PART_TEXT;
}
static void forget_failure(struct msg_part *p)
{
    p->failed = false;
}
static void forget_mark(struct msg_part *p)
{
    p->cache = false;
    p->cache_ttl = SPAN_NONE;
}
static void forget_seal(struct msg_part *p)
{
    p->signature = p->sealed = p->seal_id = SPAN_NONE;
    p->maker = MSG_MAKER_NONE;
}
static void forget_signature(struct msg_part *p)
{
    p->signature = SPAN_NONE;
    if (!p->file_id.n)
        p->maker = MSG_MAKER_NONE;
}

static pd_err refusals_to_texts(struct carry *f)
{
    each_part(f, is_refusal, become_text);
    return PD_OK;
}
static pd_err drop_failures(struct carry *f)
{
    each_part(f, is_failed_result, forget_failure);
    return PD_OK;
}
static pd_err drop_marks(struct carry *f)
{
    each_part(f, is_marked, forget_mark);
    for (struct msg_tool *t = f->m->tools; t; t = t->next) {
        t->cache = false;
        t->cache_ttl = SPAN_NONE;
    }
    return PD_OK;
}
static pd_err drop_seals(struct carry *f)
{
    each_part(f, is_sealed_beside_text, forget_seal);
    return PD_OK;
}
static pd_err drop_signatures(struct carry *f)
{
    each_part(f, is_signed, forget_signature);
    return PD_OK;
}

static bool has_marks(const struct carry *f)
{
    for (const struct msg_tool *t = f->m->tools; t; t = t->next)
        if (t->cache)
            return true;
    return any_part(f, is_marked);
}

/* Media out of the results, to the end of the turn that has these: there the user may show them. */
static pd_err move_media(struct carry *f, part_test *is)
{
    for (struct msg_turn *t = f->m->first; t; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next)
            for (struct msg_part **at = &p->content; *at;) {
                struct msg_part *c = *at;
                if (!is(f, t, p, c)) {
                    at = &c->next;
                    continue;
                }
                *at = c->next;
                c->next = NULL;
                t->last = t->last->next = c;
            }
    return PD_OK;
}
/* Gemini's writer knows which models have a place for them. */
static pd_err move_result_media(struct carry *f)
{
    return f->to == CARRY_GEMINI ? PD_OK : move_media(f, is_result_media);
}
static pd_err move_result_sound(struct carry *f)
{
    return f->to == CARRY_GEMINI ? PD_OK : move_media(f, is_result_sound);
}

/* ---- turns -------------------------------------------------------------------------------- */

static bool has_names(const struct carry *f)
{
    for (const struct msg_turn *t = f->m->first; t; t = t->next)
        if (t->name.n)
            return true;
    return false;
}
static pd_err drop_names(struct carry *f)
{
    for (struct msg_turn *t = f->m->first; t; t = t->next)
        t->name = SPAN_NONE;
    return PD_OK;
}

/* ---- tools -------------------------------------------------------------------------------- */

static bool has_tool(const struct carry *f, enum msg_tool_kind kind)
{
    for (const struct msg_tool *t = f->m->tools; t; t = t->next)
        if (t->kind == kind)
            return true;
    return false;
}
static bool has_hosted(const struct carry *f)
{
    return has_tool(f, MSG_TOOL_HOSTED);
}

PART_TEST(is_custom_call)
{
    return (p->kind == MSG_PART_TOOL_CALL || p->kind == MSG_PART_TOOL_RESULT) && p->custom;
}
static bool has_custom(const struct carry *f)
{
    return has_tool(f, MSG_TOOL_CUSTOM) || any_part(f, is_custom_call);
}

/* "tools.web_search": each by its own name. */
static pd_err drop_hosted(struct carry *f)
{
    struct msg_tool **at = &f->m->tools, *last = NULL;
    while (*at) {
        struct msg_tool *t = *at;
        if (t->kind != MSG_TOOL_HOSTED) {
            last = t;
            at = &t->next;
            continue;
        }
        char *name = arena_printf(f->a, "tools.%.*s", SPAN_FMT(span_upto(t->name, 48)));
        if (!name || msg_drop_span(f->m, f->a, span_str(name)))
            return PD_NOMEM;
        *at = t->next;
    }
    f->m->last_tool = last;
    return PD_OK;
}

static const char input_schema[] =
    "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\"}},\"required\":[\"input\"]}";

/* The model has to know the grammar that the text must follow, since nobody holds it to that. */
static pd_err describe_grammar(struct carry *f, struct msg_tool *t)
{
    struct json format = {JSON_OBJECT, t->raw}, grammar = json_get(format, "grammar");
    if (!t->raw.n)
        return PD_OK;
    if (grammar.type != JSON_OBJECT)
        grammar = format;
    struct span syntax = json_inner(json_get(grammar, "syntax")),
                definition = json_inner(json_get(grammar, "definition"));
    if (!definition.n)
        return PD_OK;
    char *text =
        arena_printf(f->a, "%.*s%s\\\"input\\\" must follow this %.*s grammar:\\n%.*s", SPAN_FMT(t->description),
                     t->description.n ? "\\n\\n" : "", SPAN_FMT(syntax), SPAN_FMT(definition));
    if (!text)
        return PD_NOMEM;
    t->description = span_str(text);
    return PD_OK;
}

static pd_err custom_to_function(struct carry *f)
{
    for (struct msg_tool *t = f->m->tools; t; t = t->next) {
        if (t->kind != MSG_TOOL_CUSTOM)
            continue;
        if (describe_grammar(f, t))
            return PD_NOMEM;
        t->kind = MSG_TOOL_FUNCTION;
        t->free_text = true;
        t->schema = span_str(input_schema);
        t->raw = SPAN_NONE;
    }
    for (struct msg_turn *turn = f->m->first; turn; turn = turn->next)
        for (struct msg_part *p = turn->first; p; p = p->next) {
            if (!is_custom_call(f, turn, NULL, p))
                continue;
            p->custom = false;
            if (p->kind != MSG_PART_TOOL_CALL)
                continue;
            char *arguments = arena_printf(f->a, "{\"input\":\"%.*s\"}", SPAN_FMT(p->text));
            if (!arguments)
                return PD_NOMEM;
            p->arguments = span_str(arguments);
            p->text = SPAN_NONE;
        }
    return PD_OK;
}

static bool has_strict(const struct carry *f)
{
    for (const struct msg_tool *t = f->m->tools; t; t = t->next)
        if (t->strict == 1)
            return true;
    return false;
}
static pd_err drop_strict(struct carry *f)
{
    for (struct msg_tool *t = f->m->tools; t; t = t->next)
        t->strict = -1;
    return PD_OK;
}

static bool forces_tool(const struct carry *f)
{
    return f->m->choice == MSG_CHOICE_REQUIRED || f->m->choice == MSG_CHOICE_NAMED;
}
static bool forbids_tools(const struct carry *f)
{
    return f->m->choice == MSG_CHOICE_NONE && f->m->tools;
}
static pd_err drop_choice(struct carry *f)
{
    f->m->choice = MSG_CHOICE_UNSAID;
    f->m->choice_name = SPAN_NONE;
    return PD_OK;
}
/* Without tools none is called. Converse wants them as long as there are calls in the history: its writer decides. */
static pd_err forbid_tools(struct carry *f)
{
    if (f->to == CARRY_OLLAMA)
        f->m->tools = f->m->last_tool = NULL;
    return PD_OK;
}
static bool wants_one_call(const struct carry *f)
{
    return f->m->parallel == 0;
}
static pd_err drop_parallel(struct carry *f)
{
    f->m->parallel = -1;
    return PD_OK;
}

/* ---- settings ------------------------------------------------------------------------------- */

#define SPAN_SETTING(field)                        \
    static bool has_##field(const struct carry *f) \
    {                                              \
        return f->m->field.n > 0;                  \
    }                                              \
    static pd_err drop_##field(struct carry *f)    \
    {                                              \
        f->m->field = SPAN_NONE;                   \
        return PD_OK;                              \
    }
SPAN_SETTING(top_k)
SPAN_SETTING(min_p)
SPAN_SETTING(seed)
SPAN_SETTING(presence_penalty)
SPAN_SETTING(frequency_penalty)
SPAN_SETTING(user)
SPAN_SETTING(service_tier)
SPAN_SETTING(cache_key)
SPAN_SETTING(verbosity)

static bool is_hot(const struct carry *f)
{
    double t;
    return json_f64((struct json){JSON_NUMBER, f->m->temperature}, &t) && t > 1;
}
static pd_err cool(struct carry *f)
{
    f->m->temperature = SPAN_LIT("1");
    return PD_OK;
}
static bool wants_many(const struct carry *f)
{
    return f->m->n > 1;
}
static bool wants_logprobs(const struct carry *f)
{
    return f->m->logprobs || f->m->top_logprobs >= 0;
}
static pd_err drop_logprobs(struct carry *f)
{
    f->m->logprobs = false;
    f->m->top_logprobs = -1;
    return PD_OK;
}
static bool has_stops(const struct carry *f)
{
    return f->m->stops_count > 0;
}
static pd_err drop_stops(struct carry *f)
{
    f->m->stops_count = 0;
    return PD_OK;
}
/* More are refused. */
static unsigned stops_most(const struct carry *f)
{
    return f->to == CARRY_CHAT ? 4 : f->to == CARRY_GEMINI ? 5 : MSG_STOPS_MAX;
}
static bool has_many_stops(const struct carry *f)
{
    return f->m->stops_count > stops_most(f);
}
static pd_err drop_last_stops(struct carry *f)
{
    f->m->stops_count = stops_most(f);
    return PD_OK;
}
static bool wants_json(const struct carry *f)
{
    return f->m->format == MSG_FORMAT_JSON;
}
static pd_err drop_format(struct carry *f)
{
    f->m->format = MSG_FORMAT_UNSAID;
    return PD_OK;
}
static bool has_budget(const struct carry *f)
{
    return f->m->reasoning_tokens >= 0;
}

/* The efforts that makers say these budgets stand for. */
static pd_err budget_to_effort(struct carry *f)
{
    int64_t n = f->m->reasoning_tokens;
    if (f->m->effort == MSG_EFFORT_UNSAID)
        f->m->effort = n == 0      ? MSG_EFFORT_NONE
                       : n <= 2048 ? MSG_EFFORT_LOW
                       : n <= 8192 ? MSG_EFFORT_MEDIUM
                                   : MSG_EFFORT_HIGH;
    f->m->reasoning_tokens = -1;
    return PD_OK;
}

enum { RESPONSES_TOKENS_LEAST = 16 }; /* of max_output_tokens; less is refused */

static bool has_low_limit(const struct carry *f)
{
    return f->m->max_tokens >= 0 && f->m->max_tokens < RESPONSES_TOKENS_LEAST;
}
static pd_err raise_limit(struct carry *f)
{
    f->m->max_tokens = RESPONSES_TOKENS_LEAST;
    return PD_OK;
}

/* ---- the table ---------------------------------------------------------------------------------
 *
 * In the order in which it is gone through: what is dropped or moved first is not refused later. */
#define SETTING(field) .uses = has_##field, .drop = drop_##field

static const struct row rows[] = {
    /* name, what                                                          chat resp anth gem conv olla */
    {"instructions", "system turns at the beginning", {C, C, C, C, C, C}, .uses = NULL},
    {"instructions", "system turns between others", {C, C, S, S, S, C}, .uses = NULL},
    {"instructions", "developer turns", {S, C, S, S, S, S}, .uses = NULL},
    {"name", "a participant's name", {C, D, D, D, D, D}, .uses = has_names, .drop = drop_names},
    {"refusal", "an earlier refusal", {C, C, S, S, S, S}, .part = is_refusal, .shape = refusals_to_texts},

    {"reasoning",
     "reasoning of another maker, or without its signature",
     {D, D, D, D, D, D},
     .part = is_foreign_reasoning},
    {"reasoning.signature",
     "the signature of reasoning that is shown in the open",
     {D, C, C, C, C, D},
     .part = is_sealed_beside_text,
     .drop = drop_seals},
    {"signature",
     "a signature on a text or a call (Gemini's)",
     {D, D, D, C, D, D},
     .part = is_signed,
     .drop = drop_signatures},

    {"media", "media in an assistant's turn", {D, D, D, C, D, D}, .part = is_assistant_media},
    {"media", "media in a tool's result", {S, C, C, S, C, S}, .part = is_result_media, .shape = move_result_media},
    {"media",
     "audio or video in a tool's result",
     {S, S, R, S, S, S},
     .part = is_result_sound,
     .shape = move_result_sound},
    {"media", "media in a system turn", {R, R, R, R, R, R}, .part = is_system_media},
    {"media", "a file that is kept at another maker's", {R, R, R, R, R, R}, .part = is_foreign_file},
    {"media", "a file that is kept at the target's own maker", {C, C, C, C, R, R}, .uses = NULL},
    {"media", "an image that is kept as a file", {R, C, C, C, R, R}, .part = is_kept_image},
    {"media", "audio or video that is kept as a file", {R, R, R, C, R, R}, .part = is_kept_sound},
    {"media", "an image at a web address", {C, C, C, C, R, R}, .part = is_web_image},
    {"media", "a document at a web address", {R, C, C, C, R, R}, .part = is_web_document},
    {"media", "audio or video at a web address", {R, R, R, C, R, R}, .part = is_web_sound},
    {"media", "media at a \"gs:\" address", {R, R, R, C, R, R}, .part = is_at_google},
    {"media", "media at an \"s3:\" address", {R, R, R, R, C, R}, .part = is_at_amazon},
    {"media", "media at an address of another kind", {R, R, R, R, R, R}, .part = is_elsewhere},
    {"media", "an image", {C, C, C, C, C, C}, .uses = NULL},
    {"media", "a document", {C, C, C, C, C, R}, .part = is_document},
    {"media", "audio", {C, C, R, C, C, R}, .part = is_audio},
    {"media", "video", {C, R, R, C, C, R}, .part = is_video},
    {"cache_control", "a mark where a cache may end", {D, D, C, D, C, D}, .uses = has_marks, .drop = drop_marks},

    {NULL, "a tool that its maker runs itself", {D, D, D, D, D, D}, .uses = has_hosted, .drop = drop_hosted},
    {"tools", "a tool that takes free text", {S, C, S, S, S, S}, .uses = has_custom, .shape = custom_to_function},
    {"tools",
     "a tool's name of other bytes than letters, digits, `_` and `-`, or of over 64",
     {S, S, S, C, S, C},
     .uses = carry_has_unfit_names,
     .shape = carry_fit_names},
    {"tools", "tools in a namespace", {S, C, S, S, S, S}, .uses = NULL},
    {"tools.strict", "strict tools", {C, C, C, D, C, D}, .uses = has_strict, .drop = drop_strict},
    {"tool_calls", "parallel calls and their results", {C, C, S, S, S, C}, .uses = NULL},
    {"tool_calls", "a call whose arguments are no JSON object", {C, C, S, S, S, S}, .part = is_broken_call},
    {"tool_call_id", "the id of a call", {S, S, S, C, S, C}, .uses = carry_has_unfit_ids, .shape = carry_fit_ids},
    {"tool_result.is_error",
     "that a result is an error",
     {D, D, C, C, C, D},
     .part = is_failed_result,
     .drop = drop_failures},
    {"tool_choice", "a tool that has to be called", {C, C, C, C, C, D}, .uses = forces_tool, .drop = drop_choice},
    {"tool_choice",
     "that no tool may be called",
     {C, C, C, C, S, S},
     .uses = forbids_tools,
     .shape = forbid_tools},
    {"parallel_tool_calls",
     "one call at a time",
     {C, C, C, D, D, D},
     .uses = wants_one_call,
     .drop = drop_parallel},

    {"max_tokens",
     "the most tokens of the answer",
     {C, S, C, C, C, C},
     .uses = has_low_limit,
     .shape = raise_limit},
    {"temperature", "a temperature above 1", {C, C, S, C, S, C}, .uses = is_hot, .shape = cool},
    {"top_k", "`top_k`", {D, D, C, C, S, C}, SETTING(top_k)},
    {"min_p", "`min_p`", {D, D, D, D, D, C}, SETTING(min_p)},
    {"seed", "`seed`", {C, D, D, C, D, C}, SETTING(seed)},
    {"presence_penalty", "`presence_penalty`", {C, D, D, C, D, C}, SETTING(presence_penalty)},
    {"frequency_penalty", "`frequency_penalty`", {C, D, D, C, D, C}, SETTING(frequency_penalty)},
    {"n", "several answers at once (`n`)", {C, R, R, C, R, R}, .uses = wants_many},
    {"logprobs", "log probabilities", {C, C, D, C, D, C}, true, .uses = wants_logprobs, .drop = drop_logprobs},
    {"stop", "stop sequences", {C, D, C, C, C, C}, .uses = has_stops, .drop = drop_stops},
    {"stop",
     "stop sequences behind the fourth (Gemini: the fifth)",
     {D, D, C, D, C, C},
     .uses = has_many_stops,
     .drop = drop_last_stops},
    {"response_format",
     "an answer that is a JSON object",
     {C, C, S, C, D, C},
     .uses = wants_json,
     .drop = drop_format},
    {"response_format", "an answer that fits a JSON Schema", {C, C, S, C, S, C}, .uses = NULL},
    {"reasoning_effort", "how much to think, as a word", {C, C, S, S, S, S}, .uses = NULL},
    {"reasoning_tokens",
     "how much to think, in tokens",
     {S, S, C, C, C, S},
     .uses = has_budget,
     .shape = budget_to_effort},
    {"user", "the end user's id", {C, C, C, D, D, D}, true, SETTING(user)},
    {"service_tier", "the tier of service", {C, C, S, D, S, D}, true, SETTING(service_tier)},
    {"prompt_cache_key", "`prompt_cache_key`", {C, C, D, D, D, D}, true, SETTING(cache_key)},
    {"verbosity", "`verbosity`", {C, C, D, D, D, D}, true, SETTING(verbosity)},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* ---- going through it --------------------------------------------------------------------------- */

static bool is_used(const struct carry *f, const struct row *r)
{
    return r->uses ? r->uses(f) : r->part && any_part(f, r->part);
}

static enum fate fate_of(const struct carry *f, const struct row *r)
{
    enum fate fate = r->fate[f->to];
    return fate == C && r->not_mistral && f->to == CARRY_CHAT && f->want->mistral ? D : fate;
}

static pd_err refuse(const struct carry *f, const struct row *r, const char **ret_why)
{
    char *text =
        arena_printf(f->a, "%s cannot be given to a target that speaks %s", r->what, formats[f->to].title);
    *ret_why = text ? text : r->what;
    return PD_UNSUPPORTED;
}

static pd_err drop(struct carry *f, const struct row *r)
{
    if (r->name)
        msg_drop(f->m, r->name);
    if (r->drop)
        return r->drop(f);
    remove_parts(f, r->part);
    return PD_OK;
}

static pd_err apply(struct carry *f, const struct row *r, const char **ret_why)
{
    enum fate fate = fate_of(f, r);
    if (fate == C || !is_used(f, r))
        return PD_OK;
    switch (fate) {
    case C:
        break;
    case S:
        return r->shape ? r->shape(f) : PD_OK;
    case D:
        return drop(f, r);
    case R:
        return refuse(f, r, ret_why);
    }
    return PD_OK;
}

/* A turn of which nothing is left is none. */
static void remove_empty_turns(struct msg_request *m)
{
    struct msg_turn **at = &m->first;
    m->last = NULL;
    while (*at) {
        if (!(*at)->first) {
            *at = (*at)->next;
            continue;
        }
        m->last = *at;
        at = &m->last->next;
    }
}

static bool has_named_tool(const struct msg_request *m)
{
    for (const struct msg_tool *t = m->tools; t; t = t->next)
        if (span_eq(t->name, m->choice_name))
            return true;
    return false;
}

/* Words about tools that are not there are refused by most; n = 1 says nothing. */
static void tidy(struct carry *f)
{
    struct msg_request *m = f->m;
    remove_empty_turns(m);
    if (m->choice == MSG_CHOICE_NAMED && !has_named_tool(m)) {
        msg_drop(m, "tool_choice");
        (void)drop_choice(f);
    }
    if (!m->tools) {
        m->choice = MSG_CHOICE_UNSAID;
        m->parallel = -1;
    }
    if (m->n <= 1)
        m->n = -1;
    if (f->to == CARRY_CHAT || f->to == CARRY_OLLAMA)
        each_part(f, is_reasoning, forget_seal); /* in the open it is nobody's */
}

static enum carry_format format_of(const struct codec *to)
{
    struct span name = span_str(to->name);
    if (span_is(name, "bedrock-invoke"))
        return CARRY_ANTHROPIC;
    for (int i = 0; i < CARRY_FORMATS; i++)
        if (span_starts(name, formats[i].prefix))
            return (enum carry_format)i;
    return CARRY_CHAT;
}

/* Chat has no signatures of its own, but OpenAI's files. Bedrock reads none that are kept at Anthropic's. */
static enum msg_maker files_of(enum carry_format to)
{
    static const enum msg_maker makers[CARRY_FORMATS] = {
        [CARRY_CHAT] = MSG_MAKER_OPENAI,
        [CARRY_RESPONSES] = MSG_MAKER_OPENAI,
        [CARRY_ANTHROPIC] = MSG_MAKER_ANTHROPIC,
        [CARRY_GEMINI] = MSG_MAKER_GEMINI,
    };
    return makers[to];
}

pd_err carry_fit(struct msg_request *m, const struct codec *to, const struct write_want *want, struct arena *a,
                 const char **ret_why)
{
    struct carry f = {.m = m, .to = format_of(to), .want = want, .a = a};
    f.files = files_of(f.to);
    *ret_why = NULL;
    for (int i = 0; i < ROWS; i++) {
        pd_err e = apply(&f, &rows[i], ret_why);
        if (e == PD_NOMEM)
            *ret_why = "out of memory while translating the request";
        if (e)
            return e;
    }
    tidy(&f);
    return PD_OK;
}

/* ---- for people ----------------------------------------------------------------------------------- */

pd_err carry_write_markdown(struct buf *out)
{
    static const char *const fates[] = {"yes", "another shape", "dropped", "refused"};
    pd_err e = buf_puts(out, "| what a request has |");
    for (int i = 0; !e && i < CARRY_FORMATS; i++)
        e = buf_printf(out, " %s |", formats[i].title);
    if (!e)
        e = buf_puts(out, " named |\n|---|");
    for (int i = 0; !e && i <= CARRY_FORMATS; i++)
        e = buf_puts(out, "---|");
    for (int i = 0; !e && i < ROWS; i++) {
        e = buf_printf(out, "\n| %s |", rows[i].what);
        for (int k = 0; !e && k < CARRY_FORMATS; k++)
            e = buf_printf(out, " %s |", fates[rows[i].fate[k]]);
        if (!e)
            e = buf_printf(out, " `%s` |", rows[i].name ? rows[i].name : "tools.TYPE");
    }
    return e ? e : buf_puts(out, "\n");
}
