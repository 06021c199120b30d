#include "simulate/answer.h"

#include "simulate/frame.h"
#include "simulate/schema.h"
#include "simulate/varied.h"

#include <stdio.h>

/* ---- words ---------------------------------------------------------------- */

static const char *const words[] = {
    "the",      "stream",  "goes",     "on",        "while",      "a",     "provider", "falls",
    "silent",   "and",     "another",  "takes",     "its",        "place", "before",   "anyone",
    "has",      "noticed", "that",     "something", "went",       "wrong", "each",     "token",
    "arrives",  "in",      "order",    "one",       "after",      "the",   "other",    "until",
    "answer",   "is",      "complete", "then",      "connection", "waits", "for",      "next",
    "question", "which",   "may",      "be",        "short",      "or",    "long",     "but",
    "never",    "lost",    "because",  "every",     "word",       "was",   "counted",  "twice",
    "at",       "both",    "ends",     "of",        "this",       "quiet", "little",   "simulation",
};
enum { WORDS = sizeof(words) / sizeof(words[0]) };

pd_err answer_words(uint64_t seed, int64_t n, struct arena *mem, struct span *ret)
{
    struct rnd rnd = {seed};
    if (n > ANSWER_TOKENS_MAX)
        n = ANSWER_TOKENS_MAX;
    char *text = arena_alloc(mem, (size_t)n * (PIECE_MAX + 1) + 1);
    if (!text)
        return PD_NOMEM;
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *word = words[rnd_below(&rnd, WORDS)];
        size_t length = strlen(word);
        if (i > 0)
            text[at++] = ' ';
        memcpy(text + at, word, length);
        if (i == 0)
            text[at] = (char)(text[at] - 'a' + 'A');
        at += length;
    }
    if (n > 0)
        text[at++] = '.';
    *ret = span_of(text, at);
    return PD_OK;
}

/* ---- the directive -------------------------------------------------------- */

bool directive_read(struct span text, void (*fn)(void *ctx, struct span key, struct span value), void *ctx)
{
    const char *at = text.n ? memmem(text.p, text.n, "[[sim", 5) : NULL;
    if (!at)
        return false;
    struct span in = {at + 5, (size_t)(text.p + text.n - at - 5)};
    const char *end = memmem(in.p, in.n, "]]", 2);
    if (!end)
        return false;
    in.n = (size_t)(end - in.p);
    for (;;) {
        in = span_trim(in);
        const char *equals = in.n ? memchr(in.p, '=', in.n) : NULL;
        if (!equals)
            return true;
        struct span key = span_trim(span_of(in.p, (size_t)(equals - in.p))), value;
        in = span_from(in, (size_t)(equals - in.p) + 1);
        if (in.n && in.p[0] == '"') {
            in = span_from(in, 1);
            value = span_cut(&in, '"');
        } else if (span_is(key, "text")) {
            value = span_trim(in);
            in = SPAN_NONE;
        } else {
            value = span_cut(&in, ' ');
        }
        fn(ctx, key, value);
    }
}

struct wish {
    struct span text, finish, refusal;
    int64_t tokens, items, reasoning, parallel;
    bool media, redacted;
    int tools;          /* -1: not said */
    struct buf *faults; /* the JSON of a fault, as it is written */
    bool in_fault;
    pd_err err;
};

static void on_directive(void *ctx, struct span key, struct span value)
{
    struct wish *w = ctx;
    uint64_t n = 0;
    bool number = span_u64(value, &n) && n <= ANSWER_TOKENS_MAX;
    if (span_is(key, "fault") || (w->in_fault && fault_key_known(key))) {
        struct put put = {w->faults, w->err};
        put_text(&put, w->in_fault ? "," : "{");
        put_json(&put, key);
        put_text(&put, ":");
        put_json(&put, value);
        w->err = put.err;
        w->in_fault = true;
    } else if (span_is(key, "text")) {
        w->text = value.p ? value : SPAN_LIT("");
    } else if (span_is(key, "tokens") && number) {
        w->tokens = (int64_t)n;
    } else if (span_is(key, "items") && n <= VARIED_ITEMS_MAX && number) {
        w->items = (int64_t)n;
    } else if (span_is(key, "reasoning") && number) {
        w->reasoning = (int64_t)n;
    } else if (span_is(key, "parallel") && number) {
        w->parallel = (int64_t)n;
    } else if (span_is(key, "tools")) {
        w->tools = !span_is(value, "none") && !span_is(value, "no");
    } else if (span_is(key, "finish")) {
        w->finish = value;
    } else if (span_is(key, "refusal")) {
        w->refusal = value.n ? value : SPAN_LIT("I cannot help with that.");
    } else if (span_is(key, "redacted")) {
        w->redacted = !span_is(value, "no");
    } else if (span_is(key, "media")) {
        w->media = !span_is(value, "no");
    }
}

/* ---- tools ---------------------------------------------------------------- */

/* The tool of this name, or the one at `index`; fewer tools than calls: the first again. NULL: none. */
static const struct ask_tool *tool_at(const struct ask *rq, struct span name, unsigned index)
{
    if (!name.p)
        return rq->tools_count ? &rq->tools[index < rq->tools_count ? index : 0] : NULL;
    for (unsigned i = 0; i < rq->tools_count; i++)
        if (span_eq(rq->tools[i].name, name))
            return &rq->tools[i];
    return NULL;
}

static pd_err add_call(struct answer *a, enum style_call_id form, struct rnd *rnd, struct span name,
                       struct span arguments, struct arena *mem)
{
    struct buf text;
    if (a->calls_count == ANSWER_CALLS_MAX)
        return PD_OK;
    buf_init(&text, 0);
    struct put put = put_into(&text);
    style_put_call_id(&put, form, a->calls_count, rnd);
    struct answer_call *c = &a->calls[a->calls_count];
    pd_err err = put.err;
    if (err == PD_OK) {
        c->id = buf_size(&text) ? arena_span(mem, buf_span(&text)) : SPAN_LIT("");
        c->name = name;
        c->arguments = arguments;
        err = c->id.p ? PD_OK : PD_NOMEM;
    }
    a->calls_count += err == PD_OK;
    buf_done(&text);
    return err;
}

static pd_err call_tools(const struct script_provider *p, struct answer *a, enum style_call_id form,
                         const struct ask *rq, struct rnd *rnd, unsigned count, struct arena *mem)
{
    struct buf text;
    pd_err err = PD_OK;
    buf_init(&text, 0);
    for (unsigned i = 0; i < count && err == PD_OK; i++) {
        const struct ask_tool *tool = tool_at(rq, rq->choice == CHOOSE_NAMED ? rq->choice_name : SPAN_NONE, i);
        if (!tool)
            break;
        buf_clear(&text);
        struct put put = put_into(&text);
        schema_put_varied(&put, tool->schema, p->varied ? rnd : NULL);
        struct span arguments = SPAN_NONE;
        err = put.err;
        if (err == PD_OK && !(arguments = arena_span(mem, buf_span(&text))).p)
            err = PD_NOMEM;
        if (err == PD_OK)
            err = add_call(a, form, rnd, tool->name, arguments, mem);
    }
    buf_done(&text);
    return err;
}

/* ---- the script ----------------------------------------------------------- */

/* `line` is the same text, ended by NUL as regexec wants it. */
static bool turn_matches(const struct turn *t, struct span text, const char *line)
{
    if (!t->regex)
        return t->match.n == 0 || (text.p && memmem(text.p, text.n, t->match.p, t->match.n));
    return regexec(t->regex, line, 0, NULL, 0) == 0;
}

static bool turn_is_for(const struct script_provider *p, const struct turn *t, bool tools)
{
    switch ((enum turn_for)t->who) {
    case TURN_FOR_DEFAULT:
        return !p->scripted_tools || tools;
    case TURN_FOR_TOOLS:
        return tools;
    case TURN_FOR_PLAIN:
        return !tools;
    case TURN_FOR_ANY:
        return true;
    }
    return true;
}

/* *ret is NULL when no turn applies; *ret_spent: the conversation has gone past the last step. */
static pd_err turn_find(const struct script_provider *p, const struct ask *rq, bool tools, struct arena *mem,
                        bool *ret_spent, const struct turn **ret)
{
    bool steps = false;
    *ret = NULL;
    if (!p->turns_count)
        return PD_OK;
    const char *line = arena_strndup(mem, rq->last.p ? rq->last.p : "", rq->last.n);
    if (!line)
        return PD_NOMEM;
    for (unsigned i = 0; i < p->turns_count; i++) {
        const struct turn *t = &p->turns[i];
        if (t->matched && turn_is_for(p, t, tools) && turn_matches(t, rq->last, line)) {
            *ret = t;
            return PD_OK;
        }
    }
    for (unsigned i = 0; i < p->turns_count; i++) {
        const struct turn *t = &p->turns[i];
        if (t->matched || !turn_is_for(p, t, tools))
            continue;
        if (t->step == rq->steps) {
            *ret = t;
            return PD_OK;
        }
        steps = true;
    }
    *ret_spent = steps;
    return PD_OK;
}

/* ---- putting it together -------------------------------------------------- */

static pd_err structured(const struct ask *rq, struct rnd *rnd, struct arena *mem, struct span *ret)
{
    struct buf text;
    buf_init(&text, 0);
    struct put put = put_into(&text);
    if (rq->schema.type == JSON_OBJECT)
        schema_put_varied(&put, rq->schema, rnd);
    else
        put_text(&put, "{\"answer\": \"simulated\", \"ok\": true}");
    *ret = put.err == PD_OK ? arena_span(mem, buf_span(&text)) : SPAN_NONE;
    pd_err err = put.err != PD_OK ? put.err : ret->p ? PD_OK : PD_NOMEM;
    buf_done(&text);
    return err;
}

static pd_err quote_result(const struct ask *rq, struct arena *mem, struct span *ret)
{
    struct span result = rq->last_tool;
    if (result.n > 200)
        result = span_upto(result, frame_pieces_size(result, 200 / PIECE_MAX));
    char *text = arena_alloc(mem, result.n + 40);
    if (!text)
        return PD_NOMEM;
    memcpy(text, "The tool answered: ", 19);
    if (result.n)
        memcpy(text + 19, result.p, result.n);
    *ret = span_of(text, 19 + result.n);
    return PD_OK;
}

/* What of images and documents arrived: kind, size and hash, so that a test can tell that it was these bytes. */
static pd_err describe_media(const struct ask *rq, struct arena *mem, struct span *ret)
{
    struct buf text;
    buf_init(&text, 0);
    struct put put = put_into(&text);
    for (const struct said_part *p = rq->media->parts; p; p = p->next) {
        if (p->kind != SAID_MEDIA)
            continue;
        put_text(&put, buf_size(&text) ? " I received " : "I received ");
        put_span(&put, p->media_type);
        if (p->text.p) {
            put_text(&put, " ");
            put_span(&put, p->text);
            put_text(&put, ".");
        } else {
            put_printf(&put, ", %llu bytes, sha256 %s.", (unsigned long long)p->media_bytes, p->sha256);
        }
    }
    *ret = put.err == PD_OK ? arena_span(mem, buf_span(&text)) : SPAN_NONE;
    pd_err err = put.err != PD_OK ? put.err : ret->p ? PD_OK : PD_NOMEM;
    buf_done(&text);
    return err;
}

/* What follows `so_far` in this answer: the words of the seed, a given text, or items. PD_SYNTAX: it did not begin like that. */
static pd_err rest_of(const struct script_provider *p, uint64_t seed, const struct ask *rq, const struct wish *w,
                      struct span given, struct span so_far, struct arena *mem, struct span *ret)
{
    struct buf text;
    struct rnd rnd = {seed};
    pd_err err = PD_OK;
    if (given.p || !p->varied || w->tokens >= 0) {
        struct span whole = given;
        if (!given.p)
            err = answer_words(seed ^ rq->conversation, w->tokens >= 0 ? w->tokens : p->tokens, mem, &whole);
        if (err == PD_OK && so_far.n && (so_far.n > whole.n || memcmp(so_far.p, whole.p, so_far.n) != 0))
            err = PD_SYNTAX;
        *ret = err == PD_OK ? span_from(whole, so_far.n) : SPAN_NONE;
        return err;
    }
    buf_init(&text, 0);
    struct put put = put_into(&text);
    err = varied_go_on(&put, so_far, w->items >= 0 ? w->items : p->items, &rnd);
    if (err == PD_OK)
        *ret = buf_size(&text) ? arena_span(mem, buf_span(&text)) : SPAN_LIT("");
    buf_done(&text);
    return err == PD_OK && !ret->p ? PD_NOMEM : err;
}

static pd_err joined(struct arena *mem, const char *first, struct span a, struct span b, struct span c,
                     struct span *ret)
{
    size_t n = strlen(first);
    char *text = arena_alloc(mem, n + a.n + b.n + c.n + 1);
    if (!text)
        return PD_NOMEM;
    memcpy(text, first, n);
    const struct span parts[] = {a, b, c};
    for (size_t i = 0; i < 3; i++) {
        if (parts[i].n)
            memcpy(text + n, parts[i].p, parts[i].n);
        n += parts[i].n;
    }
    *ret = span_of(text, n);
    return PD_OK;
}

enum { ECHO_WORDS = 6 };

/* The last words of a text, for an echo. */
static struct span last_words(struct span text, unsigned count)
{
    size_t at = text.n;
    while (at && count) {
        at--;
        count -= at && text.p[at] != ' ' && text.p[at - 1] == ' ';
    }
    return span_from(text, at);
}

/* The answer to a request that ends in the beginning of one. */
static pd_err go_on_prefill(const struct script_provider *p, const struct ask *rq, struct span rest,
                            struct arena *mem, struct answer *a)
{
    switch (ask_prefill_way(p, rq)) {
    case PREFILL_ECHO_ALL:
        return joined(mem, "", rq->prefill, rest, SPAN_NONE, &a->texts[0]);
    case PREFILL_ECHO_WORDS:
        return joined(mem, "", last_words(rq->prefill, ECHO_WORDS), rest, SPAN_NONE, &a->texts[0]);
    case PREFILL_DEFAULT:
    case PREFILL_HONOUR:
    case PREFILL_IGNORE:
    case PREFILL_REFUSE:
        break;
    }
    a->texts[0] = rest;
    return PD_OK;
}

/* The answer to a user turn that asks to go on: what stands behind the quoted words may be blanks, which come again. */
static pd_err go_on_asked(const struct script_provider *p, const struct ask *rq, struct span rest,
                          struct arena *mem, struct answer *a)
{
    struct span after = span_from(rq->anchor, rq->anchor.n);
    after.n = (size_t)(rq->so_far.p + rq->so_far.n - after.p);
    if (p->going_on == GO_ON_ANCHOR)
        return joined(mem, "", rq->anchor, after, rest, &a->texts[0]);
    if (p->going_on == GO_ON_CHATTY)
        return joined(mem, "Sure, here it goes on:\n\n", rq->anchor, after, rest, &a->texts[0]);
    a->texts[0] = rest;
    return PD_OK;
}

/* The texts of all choices: the first is `given`, or words; the others are words of their own. `then`: what was asked at first, when
 * this is a request to go on. */
static pd_err put_texts(const struct script_provider *p, uint64_t seed, const struct ask *rq, const struct wish *w,
                        struct span given, struct arena *mem, struct answer *a)
{
    enum prefill_way way = ask_prefill_way(p, rq);
    bool prefilled = rq->prefill.n && way != PREFILL_IGNORE && way != PREFILL_REFUSE;
    bool asked = rq->so_far.p && p->going_on != GO_ON_AFRESH;
    for (unsigned i = 0; i < a->choices; i++) {
        struct span so_far = prefilled ? rq->prefill : asked && i == 0 ? rq->so_far : SPAN_NONE;
        pd_err err = rest_of(p, seed ^ i, rq, w, given, so_far, mem, &a->texts[i]);
        a->continues |= err == PD_OK && so_far.n && i == 0;
        if (err == PD_SYNTAX) {
            a->strayed |= i == 0;
            err = rest_of(p, seed ^ i, rq, w, given, SPAN_NONE, mem, &a->texts[i]);
        }
        if (err != PD_OK)
            return err;
    }
    if (!a->continues)
        return PD_OK;
    return prefilled ? go_on_prefill(p, rq, a->texts[0], mem, a) : go_on_asked(p, rq, a->texts[0], mem, a);
}

static pd_err put_reasoning(const struct script_provider *p, uint64_t seed, const struct ask *rq,
                            const struct wish *w, struct arena *mem, struct answer *a)
{
    int64_t n = w->reasoning >= 0 ? w->reasoning : p->reasoning;
    if (n < 0)
        n = rq->thinks || span_ihas(rq->model, "reason") ? 12 : 0;
    if (rq->thinks_never)
        n = 0;
    a->redacted = w->redacted && !rq->thinks_never;
    return n > 0 ? answer_words(~seed ^ rq->conversation, n, mem, &a->reasoning) : PD_OK;
}

/* Reasoning that is not shown is paid for all the same. */
static void hide_reasoning(const struct ask *rq, struct answer *a)
{
    if (!rq->thoughts_hidden || !a->reasoning.n)
        return;
    a->hidden_tokens = frame_pieces(a->reasoning);
    a->reasoning = SPAN_NONE;
    a->sign_only = true;
}

static void count_tokens(const struct ask *rq, struct answer *a)
{
    uint64_t shown = frame_pieces(a->reasoning);
    a->reasoning_tokens = shown + a->hidden_tokens;
    a->completion_tokens = shown * a->choices; /* each choice thinks aloud */
    a->completion_tokens += frame_pieces(a->refusal);
    for (unsigned i = 0; i < a->choices; i++) {
        size_t pieces = frame_pieces(a->texts[i]);
        if (rq->max_tokens >= 0 && pieces > (uint64_t)rq->max_tokens) {
            a->texts[i] = span_upto(a->texts[i], frame_pieces_size(a->texts[i], (size_t)rq->max_tokens));
            pieces = frame_pieces(a->texts[i]); /* bytes that are no UTF-8 may fall apart in another way */
            a->finish = "length";
        }
        a->completion_tokens += pieces;
        for (unsigned c = 0; c < a->calls_count; c++)
            a->completion_tokens += 1 + frame_pieces(a->calls[c].arguments);
    }
    a->prompt_tokens = rq->prompt_tokens;
}

static pd_err finish_name(struct span name, struct arena *mem, struct answer *a)
{
    if (!name.p)
        return PD_OK;
    a->finish = arena_strndup(mem, name.p, name.n);
    return a->finish ? PD_OK : PD_NOMEM;
}

/* The earliest of the request's stop texts ends the answer before it. */
static pd_err obey_stops(const struct ask *rq, struct arena *mem, struct answer *a)
{
    struct json_walk w;
    struct json v;
    struct span stop;
    json_walk_init(&w, rq->stops);
    while (json_walk_next(&w, NULL, &v)) {
        if (v.type != JSON_STRING || json_text(v, mem, &stop) != PD_OK || !stop.n)
            continue;
        for (unsigned i = 0; i < a->choices; i++) {
            struct span text = a->texts[i];
            const char *at = text.n >= stop.n ? memmem(text.p, text.n, stop.p, stop.n) : NULL;
            if (!at)
                continue;
            a->texts[i].n = (size_t)(at - text.p);
            a->finish = "stop_sequence";
            a->stopped_at = stop;
        }
    }
    return PD_OK;
}

/* Ids are made as the dialect and the model make them. */
static enum style_call_id id_form(const struct script_provider *p, const struct ask *rq)
{
    switch (rq->at.dialect) {
    case SIM_CHAT:
        return style_is_mistral(p->style, rq->model) ? CALL_ID_9 : p->style->call_id;
    case SIM_RESPONSES:
        return CALL_ID_SIGNED;
    case SIM_MESSAGES:
        return rq->at.platform == PLATFORM_VERTEX ? CALL_ID_TOOLU_VERTEX : CALL_ID_TOOLU;
    case SIM_INVOKE:
        return ask_model_is_claude(rq->model) ? CALL_ID_TOOLU_BEDROCK : CALL_ID_TOOLUSE;
    case SIM_CONVERSE:
        return CALL_ID_TOOLUSE;
    case SIM_GEMINI:
        return CALL_ID_NONE;
    case SIM_OLLAMA:
        return CALL_ID_8;
    case SIM_DIALECT_COUNT:
        break;
    }
    return p->style->call_id;
}

static pd_err take_turn(const struct turn *t, enum style_call_id form, const struct ask *rq, struct rnd *rnd,
                        struct arena *mem, struct answer *a)
{
    pd_err err = PD_OK;
    if (t->reasoning.p && !rq->thinks_never)
        a->reasoning = t->reasoning;
    a->redacted |= t->redacted && !rq->thinks_never;
    for (unsigned i = 0; i < t->calls_count && err == PD_OK; i++)
        err = add_call(a, form, rnd, t->calls[i].name, t->calls[i].arguments, mem);
    a->refusal = t->refusal;
    return err == PD_OK ? finish_name(t->finish, mem, a) : err;
}

static unsigned calls_wanted(const struct script_provider *p, const struct ask *rq, const struct wish *w)
{
    unsigned count = w->parallel > 0 ? (unsigned)w->parallel : (unsigned)p->parallel;
    if (w->parallel < 0 && rq->parallel == 1 && count < 2 && rq->tools_count > 1)
        count = 2;
    if (rq->parallel == 0)
        count = 1;
    return count > ANSWER_CALLS_MAX ? ANSWER_CALLS_MAX : count;
}

static pd_err decide(const struct script_provider *p, uint64_t seed, const struct ask *rq, const struct wish *w,
                     struct arena *mem, struct answer *a)
{
    struct rnd rnd = {seed ^ rq->conversation};
    struct span text = w->text;
    enum style_call_id form = id_form(p, rq);
    bool spent = false, preface = false, tools = rq->tools_count && rq->choice != CHOOSE_NONE;
    bool directed = w->text.p || w->tools >= 0 || w->tokens >= 0 || w->refusal.p || w->media;
    const struct turn *t = NULL;
    pd_err err = directed ? PD_OK : turn_find(p, rq, tools, mem, &spent, &t);

    if (err != PD_OK)
        return err;
    a->refusal = w->refusal;
    if (t) {
        text = t->text;
        err = take_turn(t, form, rq, &rnd, mem, a);
    } else if (w->refusal.p) {
        text = SPAN_NONE;
    } else if (w->media && rq->media) {
        err = describe_media(rq, mem, &text);
    } else if (spent && tools) {
        text = SPAN_LIT("There is nothing left to do.");
    } else if (p->scripted_tools && !tools && !directed) {
        text = SPAN_LIT("A simulated session"); /* agents ask for a title like this */
    } else if (tools && w->tools != 0 && !w->text.p && (w->tools == 1 || !rq->tool_results)) {
        err = call_tools(p, a, form, rq, &rnd, calls_wanted(p, rq, w), mem);
        preface = p->preface;
    } else if (!text.p && rq->tool_results) {
        err = quote_result(rq, mem, &text);
    } else if (!text.p && rq->json_wanted) {
        err = structured(rq, p->varied ? &rnd : NULL, mem, &text);
    } else if (!text.p && rq->media && w->tokens < 0 && !p->answer.p) {
        err = describe_media(rq, mem, &text);
    } else if (!text.p && w->tokens < 0) {
        text = p->answer;
    }
    if (err != PD_OK)
        return err;
    if (a->calls_count || a->refusal.p)
        a->finish = t && t->finish.p ? a->finish : a->refusal.p ? "refusal" : "tool_calls";
    if ((a->calls_count || a->refusal.p) && !preface) {
        if (!text.p)
            text = SPAN_LIT("");
        if (t) /* some of its text may have been said already, or all of it, with the calls to come */
            return put_texts(p, seed, rq, w, text, mem, a);
        for (unsigned i = 0; i < a->choices; i++)
            a->texts[i] = text;
        return PD_OK;
    }
    err = put_texts(p, seed, rq, w, text, mem, a);
    return err == PD_OK ? obey_stops(rq, mem, a) : err;
}

static pd_err directive_fault(struct wish *w, struct arena *mem, struct answer *a)
{
    struct put put = {w->faults, w->err};
    put_text(&put, "}");
    struct span text = put.err == PD_OK ? arena_span(mem, buf_span(w->faults)) : SPAN_NONE;
    if (put.err != PD_OK)
        return put.err;
    return text.p ? json_first(text, &a->fault, NULL) : PD_NOMEM;
}

static pd_err make(const struct script_provider *p, uint64_t seed, const struct ask *rq, struct arena *mem,
                   struct answer *ret)
{
    struct buf faults;
    struct wish w = {.tokens = -1, .items = -1, .reasoning = -1, .parallel = -1, .tools = -1, .faults = &faults};
    *ret = (struct answer){.choices = (unsigned)rq->n, .finish = "stop"};
    buf_init(&faults, 64 * 1024);
    (void)directive_read(rq->last_user, on_directive, &w);
    pd_err err = w.err;
    if (err == PD_OK)
        err = put_reasoning(p, seed, rq, &w, mem, ret);
    if (err == PD_OK)
        err = decide(p, seed, rq, &w, mem, ret);
    if (err == PD_OK) {
        hide_reasoning(rq, ret);
        count_tokens(rq, ret);
        err = finish_name(w.finish, mem, ret);
    }
    if (err == PD_OK && w.in_fault)
        err = directive_fault(&w, mem, ret);
    buf_done(&faults);
    return err;
}

pd_err answer_make(const struct script_provider *p, uint64_t seed, const struct ask *rq, struct arena *mem,
                   struct answer *ret)
{
    if (!rq->so_far.p)
        return make(p, seed, rq, mem, ret);
    struct ask first = *rq->then; /* what was asked at first, with something said already */
    first.so_far = rq->so_far;
    first.anchor = rq->anchor;
    pd_err err = make(p, seed, &first, mem, ret);
    if (err != PD_OK || ret->continues || p->varied)
        return err;
    first = *rq; /* a question that quotes something */
    first.so_far = first.anchor = SPAN_NONE;
    return make(p, seed, &first, mem, ret);
}
