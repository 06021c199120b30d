/* Random conversations through every format and every pair of formats.
 *
 * What a format writes, it reads back to the same; and a request that goes by way of two formats says what the table
 * (carry.h) lets each of them say, no less and nothing else. `simplify` of a format is what it cannot tell apart: defaults that it has
 * to write out, words that it does not have. A new format joins with a row in `sides`.
 *
 * PERDURE_SEEDS: how many conversations (500). A failure names its seed; PERDURE_SEED runs that one alone. */
#include "dialect/carry.h"
#include "neutral.h"
#include "told.h"

static const char default_schema[] = "{\"type\":\"object\",\"properties\":{}}";

/* ---- what a format cannot tell apart -------------------------------------------------------------- */

static void each_part(struct msg_request *m, void (*change)(struct msg_request *m, struct msg_part *p))
{
    for (struct msg_turn *t = m->first; t; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next) {
            change(m, p);
            for (struct msg_part *c = p->content; c; c = c->next)
                change(m, c);
        }
}

static void without_detail(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    p->detail = SPAN_NONE;
}

static void without_file_name(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    p->file_name = SPAN_NONE;
}

/* At an address nobody says what is there. */
static void without_type_of_url(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    if (p->url.n || p->file_id.n)
        p->media_type = SPAN_NONE;
}

/* Only a file with its data has to have a name. */
static void usual_file_name(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    if (p->kind != MSG_PART_MEDIA)
        return;
    if (p->media != MSG_DOCUMENT || p->url.n || p->file_id.n)
        p->file_name = SPAN_NONE;
    else if (p->data.n && !p->file_name.n)
        p->file_name = SPAN_LIT("document.pdf");
}

static void usual_audio_type(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    if (span_is(p->media_type, "audio/mp3"))
        p->media_type = SPAN_LIT("audio/mpeg");
}

static struct arena *simplify_arena; /* of the case that runs */

/* Arguments that are no object are the one member of one. */
static void wrapped_arguments(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    if (p->kind != MSG_PART_TOOL_CALL || p->arguments.p)
        return;
    p->arguments = span_str(arena_printf(simplify_arena, "{\"input\":\"%.*s\"}", SPAN_FMT(p->text)));
}

static void usual_tools(struct msg_request *m, int strict_unsaid)
{
    for (struct msg_tool *t = m->tools; t; t = t->next) {
        if (!t->schema.n && t->kind == MSG_TOOL_FUNCTION)
            t->schema = span_str(default_schema);
        if (t->strict != 1)
            t->strict = strict_unsaid;
    }
}

static void usual_format_name(struct msg_request *m)
{
    if (m->format != MSG_FORMAT_SCHEMA)
        m->format_name = m->format_description = m->format_schema = SPAN_NONE;
    else if (!m->format_name.n)
        m->format_name = SPAN_LIT("answer");
}

static void no_format_words(struct msg_request *m)
{
    m->format_name = m->format_description = SPAN_NONE;
    m->format_strict = -1;
}

static void no_namespaces(struct msg_request *m)
{
    for (struct msg_tool *t = m->tools; t; t = t->next)
        t->space = t->plain_name = SPAN_NONE;
}

/* How each model is asked to think is tested where its format is; here it would change other settings. */
static void no_thinking(struct msg_request *m)
{
    m->effort = MSG_EFFORT_UNSAID;
    m->reasoning_tokens = m->reasoning_shown = -1;
}

static bool is_top(const struct msg_request *m, const struct msg_turn *turn)
{
    for (const struct msg_turn *t = m->first; t != turn; t = t->next)
        if (t->role != MSG_SYSTEM && t->role != MSG_DEVELOPER)
            return false;
    return true;
}

static void only_system(struct msg_request *m)
{
    for (struct msg_turn *t = m->first; t; t = t->next)
        if (t->role == MSG_DEVELOPER)
            t->role = MSG_SYSTEM;
}

static void instructions_between_are_the_users(struct msg_request *m)
{
    only_system(m);
    for (struct msg_turn *t = m->first; t; t = t->next)
        if (t->role == MSG_SYSTEM && !is_top(m, t))
            t->role = MSG_USER;
}

static void no_instructions_between(struct msg_request *m)
{
    only_system(m);
    for (struct msg_turn **at = &m->first; *at;)
        if ((*at)->role == MSG_SYSTEM && !is_top(m, *at))
            *at = (*at)->next;
        else
            at = &(*at)->next;
}

static void chat_simplify(struct msg_request *m)
{
    no_namespaces(m);
    only_system(m);
    each_part(m, usual_file_name);
    each_part(m, without_type_of_url);
    each_part(m, usual_audio_type);
    usual_tools(m, -1);
    usual_format_name(m);
    if (m->format == MSG_FORMAT_TEXT)
        m->format = MSG_FORMAT_UNSAID;
    m->reasoning_shown = -1;
}

static void responses_simplify(struct msg_request *m)
{
    each_part(m, usual_file_name);
    each_part(m, without_type_of_url);
    usual_tools(m, 0);
    usual_format_name(m);
    if (m->reasoning_shown == 0)
        m->reasoning_shown = -1;
}

static void anthropic_simplify(struct msg_request *m)
{
    no_namespaces(m);
    no_instructions_between(m);
    each_part(m, without_detail);
    each_part(m, without_type_of_url);
    each_part(m, wrapped_arguments);
    usual_tools(m, -1);
    no_thinking(m);
    no_format_words(m);
    if (m->format != MSG_FORMAT_SCHEMA) /* in words, among the instructions */
        m->format = MSG_FORMAT_UNSAID;
    if (m->temperature.n)
        m->top_p = SPAN_NONE; /* not both with the model that is taken here */
    if (m->max_tokens < 0)
        m->max_tokens = 32000;
    if (m->parallel == 1 || m->choice == MSG_CHOICE_NONE)
        m->parallel = -1;
    if (m->parallel == 0 && m->choice == MSG_CHOICE_UNSAID)
        m->choice = MSG_CHOICE_AUTO;
}

static bool has_calls(const struct msg_request *m)
{
    return msg_has(m, MSG_PART_TOOL_CALL) || msg_has(m, MSG_PART_TOOL_RESULT);
}

static bool has_tool(const struct msg_request *m, struct span name)
{
    for (const struct msg_tool *t = m->tools; t; t = t->next)
        if (span_eq(t->name, name))
            return true;
    return false;
}

/* Calls in the history are refused where there are no tools. */
static void called_tools(struct msg_request *m)
{
    if (m->tools)
        return;
    for (struct msg_turn *t = m->first; t; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next) {
            if (p->kind != MSG_PART_TOOL_CALL || has_tool(m, p->name))
                continue;
            struct msg_tool *tool = msg_tool_add(m, simplify_arena, MSG_TOOL_FUNCTION);
            assert_non_null(tool);
            tool->name = p->name;
        }
}

static void converse_simplify(struct msg_request *m)
{
    no_namespaces(m);
    instructions_between_are_the_users(m);
    each_part(m, without_detail);
    each_part(m, without_file_name);
    each_part(m, wrapped_arguments);
    called_tools(m);
    usual_tools(m, -1);
    no_thinking(m);
    m->format_strict = -1;
    if (m->temperature.n)
        m->top_p = SPAN_NONE; /* not both with the model that is taken here */
    m->service_tier = SPAN_NONE;
    if (m->format != MSG_FORMAT_SCHEMA)
        m->format = MSG_FORMAT_UNSAID;
    if (m->choice == MSG_CHOICE_NONE && !has_calls(m))
        m->tools = m->last_tool = NULL;
    if (m->choice == MSG_CHOICE_NONE)
        m->choice = MSG_CHOICE_UNSAID;
    m->parallel = -1;
}

/* The models of this test have no place for media in results: they follow these. */
static void move_result_media(struct msg_request *m)
{
    for (struct msg_turn *t = m->first; t; t = t->next)
        for (struct msg_part *p = t->first; p; p = p->next)
            for (struct msg_part **at = &p->content; *at;) {
                struct msg_part *c = *at;
                if (c->kind != MSG_PART_MEDIA) {
                    at = &c->next;
                    continue;
                }
                *at = c->next;
                c->next = NULL;
                t->last = t->last->next = c;
            }
}

static void gemini_simplify(struct msg_request *m)
{
    no_namespaces(m);
    instructions_between_are_the_users(m);
    move_result_media(m);
    each_part(m, without_detail);
    each_part(m, without_file_name);
    each_part(m, without_type_of_url);
    each_part(m, wrapped_arguments);
    no_thinking(m);
    no_format_words(m);
    for (struct msg_tool *t = m->tools; t; t = t->next)
        t->strict = -1;
    m->parallel = -1;
}

static void take_turn_in(struct msg_turn *t)
{
    const struct msg_turn *behind = t->next;
    *(t->last ? &t->last->next : &t->first) = behind->first;
    t->last = behind->last ? behind->last : t->last;
    t->next = behind->next;
}

/* Turns of one role are one. */
static void join_turns(struct msg_request *m)
{
    for (struct msg_turn *t = m->first; t; t = t->next) {
        while (t->next && t->next->role == t->role)
            take_turn_in(t);
        m->last = t;
    }
}

/* Its parts of one kind to the end of the list that is being made; texts become one, of lines. */
static struct msg_part **take_parts(struct msg_part **left, enum msg_part_kind kind, struct msg_part **at)
{
    struct msg_part *text = NULL;
    while (*left) {
        struct msg_part *p = *left;
        if (p->kind != kind) {
            left = &p->next;
            continue;
        }
        *left = p->next;
        p->next = NULL;
        if (text && p->kind != MSG_PART_MEDIA && p->kind != MSG_PART_TOOL_CALL &&
            p->kind != MSG_PART_TOOL_RESULT) {
            text->text =
                span_str(arena_printf(simplify_arena, "%.*s\\n%.*s", SPAN_FMT(text->text), SPAN_FMT(p->text)));
            continue;
        }
        text = p;
        *at = p;
        at = &p->next;
    }
    return at;
}

/* A message is one text, and has a place of its own for each other kind of part. */
static void one_text_each(struct msg_request *m)
{
    static const enum msg_part_kind order[] = {MSG_PART_TOOL_RESULT, MSG_PART_REASONING, MSG_PART_TEXT,
                                               MSG_PART_MEDIA, MSG_PART_TOOL_CALL};
    join_turns(m);
    for (struct msg_turn *t = m->first; t; t = t->next) {
        struct msg_part *left = t->first, **at = &t->first;
        t->first = NULL;
        for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
            at = take_parts(&left, order[i], at);
        assert_null(left);
        for (t->last = t->first; t->last && t->last->next;)
            t->last = t->last->next;
    }
}

/* An image's own bytes say what it is; those of this test say nothing. */
static void usual_image_type(struct msg_request *m, struct msg_part *p)
{
    (void)m;
    if (p->kind == MSG_PART_MEDIA)
        p->media_type = SPAN_LIT("image/png");
}

static void ollama_simplify(struct msg_request *m)
{
    no_namespaces(m);
    only_system(m);
    one_text_each(m);
    each_part(m, usual_image_type);
    each_part(m, without_detail);
    each_part(m, without_file_name);
    each_part(m, wrapped_arguments);
    usual_tools(m, -1);
    no_thinking(m);
    no_format_words(m);
    if (m->format == MSG_FORMAT_TEXT)
        m->format = MSG_FORMAT_UNSAID;
    m->choice = MSG_CHOICE_UNSAID; /* "auto" is what it does */
    m->parallel = -1;
}

static const struct side {
    const struct codec *codec;
    const char *model; /* one that has no rules of its own, or the fewest */
    void (*simplify)(struct msg_request *m);
} sides[] = {
    {&codec_openai_chat, "some-model", chat_simplify},
    {&codec_openai_responses, "some-model", responses_simplify},
    {&codec_anthropic, "claude-opus-4-6", anthropic_simplify},
    {&codec_bedrock_converse, "anthropic.claude-opus-4-5-20251101-v1:0", converse_simplify},
    {&codec_gemini, "gemini-2.5-flash", gemini_simplify},
    {&codec_ollama, "qwen3", ollama_simplify},
};
enum { SIDES = sizeof(sides) / sizeof(sides[0]) };

/* ---- a random conversation ----------------------------------------------------------------------------- */

struct gen {
    struct arena *a;
    uint64_t state;
    unsigned calls, marks;
    struct msg_request *m;
};

static unsigned pick(struct gen *g, unsigned n)
{
    g->state ^= g->state << 13;
    g->state ^= g->state >> 7;
    g->state ^= g->state << 17;
    return (unsigned)((g->state * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

static bool one_in(struct gen *g, unsigned n)
{
    return pick(g, n) == 0;
}

#define PICK(g, list) (list)[pick(g, sizeof(list) / sizeof((list)[0]))]

/* Text as it may stand in a JSON string; neither blank nor with space at its ends. */
static struct span random_text(struct gen *g)
{
    static const char *const pieces[] = {"a",       "word",     " two words ",    "\\n", "\\\"", "\\\\",
                                         "\\u00e9", "\xc3\xa9", "\\ud83d\\ude00", "{}",  "\\t",  "</x>",
                                         "\\/",     "0"};
    struct span text = SPAN_LIT("t");
    for (unsigned n = pick(g, 6); n > 0; n--)
        text = span_str(arena_printf(g->a, "%.*s%s", SPAN_FMT(text), PICK(g, pieces)));
    return span_str(arena_printf(g->a, "%.*sz", SPAN_FMT(text)));
}

static struct span maybe_text(struct gen *g)
{
    return one_in(g, 3) ? random_text(g) : SPAN_NONE;
}

static struct span random_word(struct gen *g, const char *prefix)
{
    return span_str(arena_printf(g->a, "%s%x", prefix, pick(g, 0x100000)));
}

/* At most as many as the strictest format takes. */
static void maybe_mark(struct gen *g, bool *cache, struct span *ttl)
{
    if (g->marks == 4 || !one_in(g, 8))
        return;
    g->marks++;
    *cache = true;
    *ttl = one_in(g, 2) ? SPAN_LIT("1h") : SPAN_NONE;
}

static struct msg_part *add_text(struct gen *g, struct msg_turn *t)
{
    struct msg_part *p = msg_part_add(t, g->a, MSG_PART_TEXT);
    p->text = random_text(g);
    maybe_mark(g, &p->cache, &p->cache_ttl);
    return p;
}

static void fill_media(struct gen *g, struct msg_part *p)
{
    static const struct {
        enum msg_media media;
        const char *type;
    } kinds[] = {{MSG_IMAGE, "image/png"},          {MSG_IMAGE, "image/jpeg"}, {MSG_IMAGE, "image/webp"},
                 {MSG_DOCUMENT, "application/pdf"}, {MSG_AUDIO, "audio/wav"},  {MSG_AUDIO, "audio/mpeg"},
                 {MSG_VIDEO, "video/mp4"}};
    static const char *const urls[] = {"https://x.example/a", "gs://bucket/a", "s3://bucket/a"},
                             *const details[] = {"low", "high", "auto"};
    unsigned kind = one_in(g, 4) ? pick(g, 7) : pick(g, 4); /* not all formats have the later ones */
    p->media = kinds[kind].media;
    p->media_type = span_str(kinds[kind].type);
    if (one_in(g, 8)) {
        p->url = span_str(PICK(g, urls));
    } else if (one_in(g, 12)) {
        p->file_id = random_word(g, "file-");
        p->maker = one_in(g, 2) ? MSG_MAKER_OPENAI : MSG_MAKER_ANTHROPIC;
    } else
        p->data = SPAN_LIT("QUFBQUFB");
    if (p->media == MSG_DOCUMENT && one_in(g, 2))
        p->file_name = SPAN_LIT("report.pdf");
    if (p->media == MSG_IMAGE && one_in(g, 3))
        p->detail = span_str(PICK(g, details));
}

static void add_reasoning(struct gen *g, struct msg_turn *t)
{
    struct msg_part *p = msg_part_add(t, g->a, MSG_PART_REASONING);
    p->text = random_text(g);
    switch (pick(g, 5)) {
    case 0:
        p->maker = MSG_MAKER_ANTHROPIC;
        p->signature = random_word(g, "SIG");
        break;
    case 1:
        p->maker = MSG_MAKER_ANTHROPIC;
        p->text = SPAN_NONE;
        p->sealed = random_word(g, "SEAL");
        break;
    case 2:
        p->maker = MSG_MAKER_OPENAI;
        p->sealed = random_word(g, "SEAL");
        p->seal_id = random_word(g, "rs_");
        break;
    case 3:
        p->maker = MSG_MAKER_GEMINI;
        p->signature = random_word(g, "GSIG");
        break;
    default: /* nobody's */
        break;
    }
}

/* One that the client runs; NULL: there is none. */
static const struct msg_tool *random_tool(struct gen *g)
{
    const struct msg_tool *found = NULL;
    unsigned seen = 0;
    for (const struct msg_tool *t = g->m->tools; t; t = t->next)
        if (t->kind != MSG_TOOL_HOSTED && one_in(g, ++seen))
            found = t;
    return found;
}

static void add_call(struct gen *g, struct msg_turn *t)
{
    static const char *const arguments[] = {"{}", "{\"a\":1}", "{\"b\": \"x\\n\\\"y\\\"\", \"c\":[1,2,{}]}",
                                            "{\"d\":1.50,\"e\":\"\\u00e9\xc3\xa9\"}"};
    const struct msg_tool *tool = random_tool(g);
    struct msg_part *p = msg_part_add(t, g->a, MSG_PART_TOOL_CALL);
    unsigned form = pick(g, 4), number = ++g->calls;
    char *id = form == 0   ? arena_printf(g->a, "call_%u", number)
               : form == 1 ? arena_printf(g->a, "toolu_%u", number)
               : form == 2 ? arena_printf(g->a, "functions.f:%u", number)
                           : arena_printf(g->a, "call-%u-%060u", number, number);
    p->id = span_str(id);
    p->name = tool->name;
    if (tool->kind == MSG_TOOL_CUSTOM) {
        p->custom = true;
        p->text = random_text(g);
    } else if (one_in(g, 10)) {
        p->text = SPAN_LIT("{\\\"cut\\\":"); /* what a model left when its limit came */
    } else {
        p->arguments = span_str(PICK(g, arguments));
    }
    if (one_in(g, 6)) {
        p->signature = random_word(g, "GSIG");
        p->maker = MSG_MAKER_GEMINI;
    }
}

static void add_result(struct gen *g, struct msg_turn *t, const struct msg_part *call)
{
    struct msg_part *p = msg_part_add(t, g->a, MSG_PART_TOOL_RESULT);
    p->id = call->id;
    p->failed = one_in(g, 5);
    msg_content_add(p, g->a, MSG_PART_TEXT)->text = random_text(g);
    if (one_in(g, 6))
        fill_media(g, msg_content_add(p, g->a, MSG_PART_MEDIA));
}

static void add_instructions(struct gen *g)
{
    struct msg_turn *t = msg_turn_add(g->m, g->a, one_in(g, 3) ? MSG_DEVELOPER : MSG_SYSTEM);
    for (unsigned n = 1 + pick(g, 2); n > 0; n--)
        add_text(g, t);
}

static void add_user(struct gen *g, const struct msg_turn *before)
{
    struct msg_turn *t = msg_turn_add(g->m, g->a, MSG_USER);
    bool results = false;
    for (const struct msg_part *p = before ? before->first : NULL; p; p = p->next)
        if (p->kind == MSG_PART_TOOL_CALL) {
            add_result(g, t, p);
            results = true;
        }
    if (results && one_in(g, 2))
        return;
    if (!results && one_in(g, 8))
        t->name = SPAN_LIT("Al");
    for (unsigned n = 1 + pick(g, 2); n > 0; n--) {
        add_text(g, t);
        if (one_in(g, 5))
            fill_media(g, msg_part_add(t, g->a, MSG_PART_MEDIA));
    }
}

static struct msg_turn *add_assistant(struct gen *g)
{
    struct msg_turn *t = msg_turn_add(g->m, g->a, MSG_ASSISTANT);
    if (one_in(g, 3))
        add_reasoning(g, t);
    if (one_in(g, 8))
        msg_part_add(t, g->a, MSG_PART_REFUSAL)->text = random_text(g);
    else
        add_text(g, t);
    for (unsigned n = random_tool(g) && one_in(g, 2) ? 1 + pick(g, 3) : 0; n > 0; n--)
        add_call(g, t);
    return t;
}

static void add_tool(struct gen *g, unsigned number)
{
    static const char *const schemas[] = {
        "{\"type\":\"object\",\"properties\":{}}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}"};
    bool hosted = one_in(g, 10), custom = one_in(g, 8);
    struct msg_tool *t = msg_tool_add(g->m, g->a,
                                      hosted   ? MSG_TOOL_HOSTED
                                      : custom ? MSG_TOOL_CUSTOM
                                               : MSG_TOOL_FUNCTION);
    if (hosted) {
        t->name = SPAN_LIT("web_search");
        t->raw = SPAN_LIT("{\"type\":\"web_search\"}");
        return;
    }
    t->name = span_str(arena_printf(g->a, "tool_%u", number));
    t->description = maybe_text(g);
    if (custom && one_in(g, 2))
        t->raw = SPAN_LIT("{\"type\":\"grammar\",\"syntax\":\"lark\",\"definition\":\"start: x\"}");
    if (!custom && !one_in(g, 4))
        t->schema = span_str(PICK(g, schemas));
    if (!custom)
        t->strict = (int)pick(g, 3) - 1;
    if (one_in(g, 4)) {
        t->space = SPAN_LIT("group");
        t->plain_name = t->name;
        t->name = span_str(arena_printf(g->a, "group__%.*s", SPAN_FMT(t->plain_name)));
    }
    maybe_mark(g, &t->cache, &t->cache_ttl);
}

static void choose(struct gen *g)
{
    struct msg_request *m = g->m;
    m->choice = (enum msg_choice)pick(g, 5);
    const struct msg_tool *t = random_tool(g);
    if (m->choice == MSG_CHOICE_NAMED && !t)
        m->choice = MSG_CHOICE_AUTO;
    if (m->choice == MSG_CHOICE_NAMED)
        m->choice_name = t->name;
    m->parallel = (int)pick(g, 3) - 1;
}

static struct span maybe_number(struct gen *g, const char *number)
{
    return one_in(g, 4) ? span_str(number) : SPAN_NONE;
}

static void random_settings(struct gen *g)
{
    struct msg_request *m = g->m;
    m->max_tokens = one_in(g, 2) ? (int64_t)pick(g, 4000) + 1 : -1;
    m->temperature = maybe_number(g, one_in(g, 2) ? "0.70" : "1.5");
    m->top_p = maybe_number(g, "0.9");
    m->top_k = maybe_number(g, "40");
    m->min_p = maybe_number(g, "0.05");
    m->seed = maybe_number(g, "7");
    m->presence_penalty = maybe_number(g, "0.1");
    m->frequency_penalty = maybe_number(g, "-0.2");
    m->n = one_in(g, 20) ? 2 : one_in(g, 5) ? 1 : -1;
    m->logprobs = one_in(g, 6);
    m->top_logprobs = m->logprobs && one_in(g, 2) ? 3 : -1;
    m->stops_count = one_in(g, 3) ? 1 + pick(g, 6) : 0;
    for (unsigned i = 0; i < m->stops_count; i++)
        m->stops[i] = random_text(g);
    m->format = (enum msg_format)pick(g, 4);
    if (m->format == MSG_FORMAT_SCHEMA) {
        m->format_schema = SPAN_LIT("{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"}}}");
        m->format_name = one_in(g, 2) ? SPAN_LIT("shape") : SPAN_NONE;
        m->format_description = maybe_text(g);
        m->format_strict = (int)pick(g, 3) - 1;
    }
    m->effort = (enum msg_effort)pick(g, 7);
    m->reasoning_tokens = one_in(g, 4) ? (int64_t)pick(g, 20000) : -1;
    m->reasoning_shown = (int)pick(g, 3) - 1;
    m->user = one_in(g, 4) ? random_word(g, "user-") : SPAN_NONE;
    m->service_tier = one_in(g, 4) ? SPAN_LIT("auto") : SPAN_NONE;
    m->cache_key = one_in(g, 4) ? random_word(g, "key-") : SPAN_NONE;
    m->verbosity = one_in(g, 4) ? SPAN_LIT("low") : SPAN_NONE;
}

static void random_request(struct gen *g)
{
    const struct msg_turn *before = NULL;
    msg_request_init(g->m);
    for (unsigned n = pick(g, 4), i = 0; i < n; i++)
        add_tool(g, i);
    for (unsigned n = pick(g, 3); n > 0; n--)
        add_instructions(g);
    for (unsigned n = pick(g, 4); n > 0; n--) {
        add_user(g, before);
        before = add_assistant(g);
    }
    if (one_in(g, 4) && g->m->last && g->m->last->role == MSG_USER)
        add_instructions(g);
    add_user(g, before);
    if (g->m->tools)
        choose(g);
    random_settings(g);
    assert_int_equal(msg_link(g->m, g->a), PD_OK);
}

/* The same conversation every time it is asked for: what fits one format is changed in place. */
static void make(uint64_t seed, struct arena *a, struct msg_request *ret)
{
    struct gen g = {.a = a, .state = seed * 0x9e3779b97f4a7c15ULL + 1, .m = ret};
    random_request(&g);
}

/* ---- the property --------------------------------------------------------------------------------------- */

static const struct write_want *want_of(const struct side *s, struct arena *a)
{
    struct write_want *want = arena_zalloc(a, sizeof(*want));
    want->model = span_str(s->model);
    want->reasoning_back = true;
    return want;
}

/* What the format can say of it. False: it is refused, with a sentence. */
static bool fit(const struct side *s, struct msg_request *m, struct arena *a)
{
    const char *why = NULL;
    pd_err e = carry_fit(m, s->codec, want_of(s, a), a, &why);
    if (e == PD_UNSUPPORTED) {
        assert_true(why && strstr(why, "cannot be given to a target that speaks"));
        return false;
    }
    assert_int_equal(e, PD_OK);
    simplify_arena = a;
    s->simplify(m);
    return true;
}

/* Written and read again by the format. */
static void pass(const struct side *s, const struct msg_request *m, struct arena *a, struct msg_request *ret,
                 struct span *ret_body)
{
    struct request_line line = {.model = span_str(s->model)};
    struct request_facts f;
    struct buf out;
    const char *why = NULL;
    buf_init(&out, 0);
    assert_int_equal(s->codec->write_request(m, want_of(s, a), a, &out), PD_OK);
    struct span body = *ret_body = arena_span(a, buf_span(&out));
    buf_done(&out);
    if (json_check(body))
        fail_msg("%s wrote no JSON: %.*s", s->codec->name, SPAN_FMT(body));
    if (s->codec->read_request(body, &line, a, &f, &why) || s->codec->parse_request(&f, a, ret, &why))
        fail_msg("%s does not read what it wrote: %s: %.*s", s->codec->name, why, SPAN_FMT(body));
    simplify_arena = a;
    s->simplify(ret);
}

static struct span text_of(const struct msg_request *m, struct arena *a)
{
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(neutral_put(m, &out), PD_OK);
    struct span text = arena_span(a, buf_span(&out));
    buf_done(&out);
    return text;
}

static unsigned compare(uint64_t seed, const struct side *from, const struct side *by, struct span want,
                        struct span got, struct span body)
{
    if (span_eq(want, got))
        return 0;
    fprintf(stderr, "seed %llu, %s by %s:\n--- expected\n%.*s--- got\n%.*s--- body\n%.*s\n",
            (unsigned long long)seed, from->codec->name, by->codec->name, SPAN_FMT(want), SPAN_FMT(got),
            SPAN_FMT(body));
    return 1;
}

/* Returns 1 for a fault; *ret_passed counts what was not refused. */
static unsigned same_by_itself(uint64_t seed, const struct side *s, unsigned *passed)
{
    struct arena a;
    struct msg_request m, again;
    struct span body;
    unsigned faults = 0;
    arena_init(&a, 0, 0);
    make(seed, &a, &m);
    if (fit(s, &m, &a)) {
        pass(s, &m, &a, &again, &body);
        faults = compare(seed, s, s, text_of(&m, &a), text_of(&again, &a), body);
        ++*passed;
    }
    arena_done(&a);
    return faults;
}

/* A, then B, then A again: by way of bodies, and by the table alone. */
static unsigned same_by_another(uint64_t seed, const struct side *from, const struct side *by, unsigned *passed)
{
    struct arena a;
    struct msg_request m, table, in, there, back;
    struct span body = SPAN_NONE;
    unsigned faults = 0;
    arena_init(&a, 0, 0);
    make(seed, &a, &m);
    make(seed, &a, &table);
    bool can = fit(from, &table, &a) && fit(by, &table, &a) && fit(from, &table, &a);
    if (can && fit(from, &m, &a)) {
        pass(from, &m, &a, &in, &body);
        can = fit(by, &in, &a);
        if (can) {
            pass(by, &in, &a, &there, &body);
            can = fit(from, &there, &a);
        }
        if (can) {
            pass(from, &there, &a, &back, &body);
            faults = compare(seed, from, by, text_of(&table, &a), text_of(&back, &a), body);
            ++*passed;
        }
        assert_true(can); /* the table said so */
    }
    arena_done(&a);
    return faults;
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

enum { FAULTS_SHOWN = 1 };

static void conversations_are_the_same_behind_every_format(void **state)
{
    (void)state;
    uint64_t only = number_from("PERDURE_SEED", 0), first = only ? only : 1;
    uint64_t last = only ? only : number_from("PERDURE_SEEDS", 500);
    unsigned passed[SIDES][SIDES] = {{0}}, faults = 0;
    for (uint64_t seed = first; seed <= last && faults < FAULTS_SHOWN; seed++)
        for (unsigned i = 0; i < SIDES; i++)
            for (unsigned k = 0; k < SIDES && faults < FAULTS_SHOWN; k++)
                faults += i == k ? same_by_itself(seed, &sides[i], &passed[i][k])
                                 : same_by_another(seed, &sides[i], &sides[k], &passed[i][k]);
    assert_int_equal(faults, 0);
    for (unsigned i = 0; i < SIDES; i++)
        for (unsigned k = 0; k < SIDES; k++)
            if (!only && passed[i][k] < (last - first) / 10)
                fail_msg("%s by %s: only %u were not refused", sides[i].codec->name, sides[k].codec->name,
                         passed[i][k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_the_same_behind_every_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
