/* Asking a provider to go on where another stopped. */
#include "dialect/continuation.h"

#include "dialect/claude_priv.h"
#include "parse/put.h"

const char *continue_way_name(enum continue_way w)
{
    static const char *const names[] = {
#define X(code, name, what) [code] = name,
        CONTINUE_WAYS(X)
#undef X
    };
    return names[w];
}

bool continue_way_find(struct span name, enum continue_way *ret)
{
    for (int w = 0; w < CONTINUE_WAY_COUNT; w++)
        if (span_iis(name, continue_way_name((enum continue_way)w))) {
            *ret = (enum continue_way)w;
            return true;
        }
    return false;
}

enum join_mode continue_join_mode(enum continue_way w)
{
    switch (w) {
    case CONTINUE_ASK:
        return JOIN_ANCHOR;
    case CONTINUE_REPEAT:
        return JOIN_REPEAT;
    case CONTINUE_TRAILING:
    case CONTINUE_PREFIX:
    case CONTINUE_FINAL:
    case CONTINUE_WAY_COUNT:
        break;
    }
    return JOIN_PREFILL;
}

/* ---- who honours what ---------------------------------------------------------------- */

/* Models that think whatever is asked: what they are given as a beginning would stand before their thinking. */
static bool always_thinks(struct span model)
{
    return span_ihas(model, "reasoner") || span_ihas(model, "deepseek-r1") || span_ihas(model, "magistral");
}

static bool trailing_holds(const struct codec *c, struct span model)
{
    if (c == &codec_gemini || c == &codec_openai_responses)
        return false;
    if (span_ihas(model, "claude"))
        return !claude_generation(model)->adapts;
    return c != &codec_bedrock_converse; /* the other makers there promise nothing */
}

enum continue_way continue_way_for(enum continue_way way, const struct codec *c, struct span model,
                                   const struct request_facts *f)
{
    bool holds = false;
    switch (way) {
    case CONTINUE_ASK:
    case CONTINUE_REPEAT:
        return way;
    case CONTINUE_TRAILING:
        holds = trailing_holds(c, model);
        break;
    case CONTINUE_PREFIX:
    case CONTINUE_FINAL: /* members of OpenAI's chat format alone */
        holds = c == &codec_openai_chat || c == &codec_mistral;
        break;
    case CONTINUE_WAY_COUNT:
        break;
    }
    return holds && !f->reasoning && !always_thinks(model) ? way : CONTINUE_ASK;
}

/* ---- the turns ------------------------------------------------------------------------- */

/* Text as it stands in a JSON string. p NULL: out of memory. */
static struct span escaped(struct arena *a, struct span text)
{
    struct buf b;
    buf_init(&b, 0);
    struct put p = put_into(&b);
    put_json_inner(&p, text);
    struct span s = p.err ? SPAN_NONE : arena_span(a, buf_span(&b));
    buf_done(&b);
    return s;
}

/* What is said to one that does not take the beginning of its answer. */
static struct span asking(struct arena *a, struct span anchor)
{
    char *s = arena_printf(a,
                           "The connection broke while your last message was being sent; all of it that arrived "
                           "is above. Continue that "
                           "message. Begin by repeating exactly its last words, which are:\n\n%.*s\n\nand go on "
                           "right behind them as if "
                           "nothing had happened, in the same language, tone and format. Write nothing else: no "
                           "introduction, no remark, "
                           "no quotation marks or code fence around it, and nothing that stands before these "
                           "words. If the message was "
                           "complete already, write these words alone.",
                           SPAN_FMT(anchor));
    return s ? escaped(a, span_str(s)) : SPAN_NONE;
}

static pd_err add_turn(struct msg_request *m, struct arena *a, enum msg_role role, struct span text)
{
    struct msg_turn *t = text.p ? msg_turn_add(m, a, role) : NULL;
    struct msg_part *part = t ? msg_part_add(t, a, MSG_PART_TEXT) : NULL;
    if (!part)
        return PD_NOMEM;
    part->text = text;
    return PD_OK;
}

static bool adds_turns(const struct continuation *k)
{
    return k->way != CONTINUE_REPEAT && join_givable(k->seen) > 0;
}

/* ---- neutral --------------------------------------------------------------------------- */

/* The turn of the assistant's that the client itself ended with, to be gone on with: NULL: none. */
static struct msg_turn *begun_turn(struct msg_request *m)
{
    struct msg_turn *t = m->last;
    if (!t || t->role != MSG_ASSISTANT)
        return NULL;
    for (const struct msg_part *p = t->first; p; p = p->next)
        if (p->kind == MSG_PART_TOOL_CALL)
            return NULL;
    return t;
}

static pd_err go_on_in(struct msg_turn *t, struct arena *a, struct span text)
{
    struct msg_part *part = t->last && t->last->kind == MSG_PART_TEXT ? t->last : NULL;
    if (!text.p)
        return PD_NOMEM;
    if (!part) {
        part = msg_part_add(t, a, MSG_PART_TEXT);
        if (!part)
            return PD_NOMEM;
        part->text = text;
        return PD_OK;
    }
    char *both = arena_alloc(a, part->text.n + text.n);
    if (!both)
        return PD_NOMEM;
    if (part->text.n)
        memcpy(both, part->text.p, part->text.n);
    memcpy(both + part->text.n, text.p, text.n);
    part->text = span_of(both, part->text.n + text.n);
    return PD_OK;
}

enum {
    BYTES_A_TOKEN = 4,
    TOKENS_LEAST = 16, /* what is left to say at least: the least that OpenAI's Responses takes */
};

/* What was said already counts, as far as one can tell without its tokenizer. */
static void reduce_limit(struct msg_request *m, const struct continuation *k)
{
    if (m->max_tokens <= TOKENS_LEAST)
        return;
    int64_t again = k->way == CONTINUE_ASK ? (int64_t)join_anchor(k->seen).n : 0;
    m->max_tokens -= ((int64_t)k->seen.n - again) / BYTES_A_TOKEN;
    if (m->max_tokens < TOKENS_LEAST)
        m->max_tokens = TOKENS_LEAST;
}

pd_err continuation_add(struct msg_request *m, const struct continuation *k, struct arena *a)
{
    if (!adds_turns(k))
        return PD_OK;
    struct span text = escaped(a, span_upto(k->seen, join_givable(k->seen)));
    struct msg_turn *begun = begun_turn(m);
    pd_err e = begun ? go_on_in(begun, a, text) : add_turn(m, a, MSG_ASSISTANT, text);
    if (!e && k->way == CONTINUE_ASK)
        e = add_turn(m, a, MSG_USER, asking(a, join_anchor(k->seen)));
    if (m->format == MSG_FORMAT_JSON || m->format == MSG_FORMAT_SCHEMA)
        m->format = MSG_FORMAT_UNSAID;
    reduce_limit(m, k);
    return e;
}

/* ---- the client's own bytes ------------------------------------------------------------ */

/* n bytes at `at` give way to `text`. */
struct change {
    const char *at;
    size_t n;
    struct span text;
};
enum { CHANGES_MAX = 10 };
struct changes {
    struct change list[CHANGES_MAX]; /* in order of place */
    unsigned count;
};

static void add_change(struct changes *cs, const char *at, size_t n, struct span text)
{
    unsigned i = cs->count;
    if (i == CHANGES_MAX)
        return; /* there are not so many */
    cs->count++;
    for (; i > 0 && cs->list[i - 1].at > at; i--)
        cs->list[i] = cs->list[i - 1];
    cs->list[i] = (struct change){at, n, text};
}

/* The new turns as the format writes them, joined by commas: the assistant's unless the client's last turn takes its text. */
static pd_err write_turns(const struct codec *c, const struct continuation *k, bool assistant, struct arena *a,
                          struct span *ret)
{
    struct msg_request m;
    struct write_want want = {.model = SPAN_LIT(""), .continues = (int)k->way};
    msg_request_init(&m);
    /* Some formats want the user's turn first: one stands there for the writer and is left out below. */
    pd_err e = add_turn(&m, a, MSG_USER, SPAN_LIT("-"));
    if (!e && assistant)
        e = add_turn(&m, a, MSG_ASSISTANT, escaped(a, span_upto(k->seen, join_givable(k->seen))));
    else if (!e)
        e = add_turn(&m, a, MSG_ASSISTANT, SPAN_LIT("-"));
    if (!e && k->way == CONTINUE_ASK)
        e = add_turn(&m, a, MSG_USER, asking(a, join_anchor(k->seen)));
    struct buf b;
    buf_init(&b, 0);
    if (!e)
        e = c->write_request(&m, &want, a, &b);
    struct json item, turns = json_get((struct json){JSON_OBJECT, buf_span(&b)}, c->turns_member);
    struct json_walk w;
    unsigned skip = assistant ? 1 : 2, n = 0;
    const char *from = NULL, *end = NULL;
    json_walk_init(&w, turns);
    while (!e && json_walk_next(&w, NULL, &item))
        if (n++ >= skip) {
            from = from ? from : item.raw.p;
            end = item.raw.p + item.raw.n;
        }
    *ret = SPAN_LIT("");
    if (!e && from) {
        *ret = arena_span(a, span_of(from, (size_t)(end - from)));
        e = ret->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

static struct json last_item(struct json array)
{
    struct json item, last = {0};
    struct json_walk w;
    json_walk_init(&w, array);
    while (json_walk_next(&w, NULL, &item))
        last = item;
    return last;
}

/* The last text of a turn that the client itself began the answer with: more can be put in before its closing quote. JSON_NONE: no such. */
static struct json begun_text(struct json turn)
{
    static const struct json none = {0};
    struct json role = json_get(turn, "role"), type = json_get(turn, "type");
    if (!json_is(role, "assistant") && !json_is(role, "model"))
        return none;
    if (json_get(turn, "tool_calls").type == JSON_ARRAY || (type.type != JSON_NONE && !json_is(type, "message")))
        return none;
    struct json content = json_get(turn, "content");
    if (content.type == JSON_NONE)
        content = json_get(turn, "parts");
    if (content.type == JSON_STRING)
        return content;
    struct json part = last_item(content), kind = json_get(part, "type"), text = json_get(part, "text");
    bool plain = kind.type == JSON_NONE || json_is(kind, "text") || json_is(kind, "output_text");
    return text.type == JSON_STRING && plain && !json_is_true(json_get(part, "thought")) ? text : none;
}

/* Members that ask for structured output: another answer under them would begin a document of its own. */
static const struct {
    const struct codec *codec;
    const char *path, *instead;
} formats[] = {
    {&codec_openai_chat, "response_format", "{\"type\":\"text\"}"},
    {&codec_mistral, "response_format", "{\"type\":\"text\"}"},
    {&codec_openai_responses, "text.format", "{\"type\":\"text\"}"},
    {&codec_anthropic, "output_config.format", "null"},
    {&codec_anthropic, "output_format", "null"},
    {&codec_gemini, "generationConfig.responseMimeType", "null"},
    {&codec_gemini, "generationConfig.responseSchema", "null"},
    {&codec_gemini, "generationConfig.responseJsonSchema", "null"},
    {&codec_gemini, "generation_config.response_mime_type", "null"},
    {&codec_gemini, "generation_config.response_schema", "null"},
    {&codec_bedrock_converse, "outputConfig.textFormat", "null"},
    {&codec_ollama, "format", "null"},
};

static void drop_formats(const struct codec *c, struct json body, struct changes *cs)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct json v = formats[i].codec == c ? json_path(body, formats[i].path) : (struct json){0};
        if (v.type != JSON_NONE && v.type != JSON_NULL)
            add_change(cs, v.raw.p, v.raw.n, span_str(formats[i].instead));
    }
}

static const char *end_of(struct json v)
{
    return v.raw.p + v.raw.n;
}

static struct span joined2(struct arena *a, const char *first, struct span second)
{
    char *s = arena_printf(a, "%s%.*s", first, SPAN_FMT(second));
    return s ? span_str(s) : SPAN_NONE;
}

/* Turns behind those of a list. */
static pd_err change_list(const struct codec *c, const struct continuation *k, struct json list, struct arena *a,
                          struct changes *cs)
{
    struct json last = last_item(list), begun = begun_text(last);
    bool merges = begun.type == JSON_STRING;
    struct span turns;
    pd_err e = write_turns(c, k, !merges, a, &turns);
    if (e)
        return e;
    if (merges) {
        struct span text = escaped(a, span_upto(k->seen, join_givable(k->seen)));
        if (!text.p)
            return PD_NOMEM;
        if (k->way == CONTINUE_PREFIX && !json_is_true(json_get(last, "prefix")))
            add_change(cs, last.raw.p + 1, 0, SPAN_LIT("\"prefix\":true,"));
        add_change(cs, end_of(begun) - 1, 0, text);
    }
    if (!turns.n)
        return PD_OK;
    struct span put = joined2(a, last.type == JSON_NONE ? "" : ",", turns);
    if (!put.p)
        return PD_NOMEM;
    add_change(cs, last.type == JSON_NONE ? list.raw.p + 1 : end_of(last), 0, put);
    return PD_OK;
}

/* Responses' input can be one text: it becomes a list with it as the user's turn. */
static pd_err change_text(const struct codec *c, const struct continuation *k, struct json text, struct arena *a,
                          struct changes *cs)
{
    struct span turns;
    pd_err e = write_turns(c, k, true, a, &turns);
    if (e)
        return e;
    char *behind = arena_printf(a, "},%.*s]", SPAN_FMT(turns));
    if (!behind)
        return PD_NOMEM;
    add_change(cs, text.raw.p, 0, SPAN_LIT("[{\"role\":\"user\",\"content\":"));
    add_change(cs, end_of(text), 0, span_str(behind));
    return PD_OK;
}

/* All that changes in a body. */
static pd_err find_changes(const struct codec *c, const struct continuation *k, struct span text, struct arena *a,
                           struct changes *cs)
{
    struct json body = {JSON_OBJECT, text};
    struct json turns = json_get(body, c->turns_member);
    pd_err e = PD_UNSUPPORTED;
    cs->count = 0;
    if (turns.type == JSON_ARRAY)
        e = change_list(c, k, turns, a, cs);
    else if (turns.type == JSON_STRING && c == &codec_openai_responses)
        e = change_text(c, k, turns, a, cs);
    if (e)
        return e;
    drop_formats(c, body, cs);
    if (k->way == CONTINUE_FINAL)
        for (const char *p = text.p + text.n; p > text.p;)
            if (*--p == '}') {
                add_change(cs, p, 0, SPAN_LIT(",\"continue_final_message\":true,\"add_generation_prompt\":false"));
                break;
            }
    return PD_OK;
}

static bool lies_in(const struct change *ch, struct span part)
{
    return ch->at >= part.p && ch->at < part.p + part.n && ch->at + ch->n <= part.p + part.n;
}

/* Each change splits the part that it lies in. False: one lies in none (its place was replaced), or there are too many parts. */
static bool apply(const struct changes *cs, struct span parts[REQUEST_PARTS_MAX], unsigned *count)
{
    struct span out[REQUEST_PARTS_MAX];
    unsigned n = 0, done = 0;
    for (unsigned i = 0; i < *count; i++) {
        struct span rest = parts[i];
        while (done < cs->count && lies_in(&cs->list[done], rest)) {
            const struct change *ch = &cs->list[done++];
            if (n + 3 > REQUEST_PARTS_MAX)
                return false;
            size_t before = (size_t)(ch->at - rest.p);
            if (before)
                out[n++] = span_upto(rest, before);
            if (ch->text.n)
                out[n++] = ch->text;
            rest = span_from(rest, before + ch->n);
        }
        if (rest.n && n == REQUEST_PARTS_MAX)
            return false;
        if (rest.n)
            out[n++] = rest;
    }
    if (done < cs->count)
        return false;
    memcpy(parts, out, n * sizeof(*out));
    *count = n;
    return true;
}

/* The parts as one text. */
static struct span put_together(const struct span *parts, unsigned count, struct arena *a)
{
    size_t n = 0;
    for (unsigned i = 0; i < count; i++)
        n += parts[i].n;
    char *s = arena_alloc(a, n ? n : 1), *to = s;
    if (!s)
        return SPAN_NONE;
    for (unsigned i = 0; i < count; i++) {
        memcpy(to, parts[i].p, parts[i].n);
        to += parts[i].n;
    }
    return span_of(s, n);
}

pd_err continuation_splice(const struct codec *c, const struct request_facts *f, const struct continuation *k,
                           struct arena *a, struct span parts[REQUEST_PARTS_MAX], unsigned *count)
{
    struct changes cs;
    if (!adds_turns(k))
        return PD_OK;
    if (!c->turns_member || !c->write_request)
        return PD_UNSUPPORTED;
    pd_err e = find_changes(c, k, f->body, a, &cs);
    if (e || apply(&cs, parts, count))
        return e;
    struct span all =
        put_together(parts, *count, a); /* what changes was replaced already: rare, and then it is copied */
    if (!all.p)
        return PD_NOMEM;
    e = find_changes(c, k, all, a, &cs);
    if (e)
        return e;
    parts[0] = all;
    *count = 1;
    return apply(&cs, parts, count) ? PD_OK : PD_UNSUPPORTED;
}
