#include "simulate/answer.h"

#include "base/hash.h"
#include "simulate/schema.h"

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

/* ---- the request ---------------------------------------------------------- */

/* The text of a message: a string, or the text parts of a list one after the other. */
static pd_err content_text(struct json content, struct arena *mem, struct span *ret)
{
    *ret = SPAN_LIT("");
    if (content.type == JSON_STRING) {
        pd_err err = json_text(content, mem, ret);
        return err == PD_SYNTAX ? PD_INVALID : err;
    }
    struct json_walk w;
    struct json part;
    char *joined = NULL;
    size_t n = 0;
    json_walk_init(&w, content);
    while (content.type == JSON_ARRAY && json_walk_next(&w, NULL, &part)) {
        struct span text;
        struct json v = json_get(part, "text");
        if (v.type != JSON_STRING)
            continue;
        pd_err err = json_text(v, mem, &text);
        if (err != PD_OK)
            return err == PD_SYNTAX ? PD_INVALID : err;
        if (!joined && !(joined = arena_alloc(mem, content.raw.n)))
            return PD_NOMEM;
        if (text.n)
            memcpy(joined + n, text.p, text.n);
        n += text.n;
    }
    if (joined)
        *ret = span_of(joined, n);
    return PD_OK;
}

static pd_err read_messages(struct json messages, struct arena *mem, struct ask *rq, const char **ret_why)
{
    struct json_walk w;
    struct json m, user = {0}, tool = {0}, assistant = {0};
    struct span before = {messages.raw.p, 0}; /* the messages before the last */
    bool last_assistant = false;
    json_walk_init(&w, messages);
    while (json_walk_next(&w, NULL, &m)) {
        struct json role = json_get(m, "role");
        last_assistant = json_is(role, "assistant");
        if (last_assistant) {
            before.n = (size_t)(m.raw.p - messages.raw.p);
            assistant = m;
            rq->steps++;
        } else if (json_is(role, "user")) {
            user = json_get(m, "content");
            rq->tool_results = false;
            tool = (struct json){0};
        } else if (json_is(role, "tool") || json_is(role, "function")) {
            tool = json_get(m, "content");
            rq->tool_results = true;
        } else if (role.type != JSON_STRING) {
            *ret_why = "a message has no role";
            return PD_INVALID;
        }
    }
    if (w.err != PD_OK) {
        *ret_why = "messages is not a list that can be read";
        return PD_INVALID;
    }
    if (!last_assistant)
        before = messages.raw;
    while (before.n && strchr(", \t\r\n", before.p[before.n - 1]))
        before.n--; /* with or without what follows, the same conversation */
    if (before.n && before.p[before.n - 1] == ']' && before.n == messages.raw.n)
        before.n--;
    while (before.n && strchr(" \t\r\n", before.p[before.n - 1]))
        before.n--;
    rq->conversation = hash_bytes(before, 0);
    *ret_why = "a message has a bad escape";
    pd_err err = user.type == JSON_NONE ? PD_OK : content_text(user, mem, &rq->last_user);
    if (err == PD_OK && tool.type != JSON_NONE)
        err = content_text(tool, mem, &rq->last_tool);
    rq->last = rq->last_tool.p ? rq->last_tool : rq->last_user;
    if (err == PD_OK && last_assistant && json_get(assistant, "tool_calls").type == JSON_NONE) {
        rq->steps--;
        err = content_text(json_get(assistant, "content"), mem, &rq->prefill);
    }
    return err;
}

pd_err ask_read(struct span body, struct arena *mem, struct ask *ret, const char **ret_why)
{
    struct json_walk w;
    struct json v;
    struct span key;
    struct ask rq = {.n = 1, .max_tokens = -1, .parallel = -1};
    json_walk_doc(&w, body);
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "model"))
            rq.model = json_inner(v);
        else if (json_key_is(key, "messages"))
            rq.messages = v;
        else if (json_key_is(key, "stream"))
            rq.streamed = json_is_true(v);
        else if (json_key_is(key, "stream_options"))
            rq.usage_asked = json_is_true(json_get(v, "include_usage"));
        else if (json_key_is(key, "tools"))
            rq.tools = v;
        else if (json_key_is(key, "tool_choice"))
            rq.tool_choice = v;
        else if (json_key_is(key, "parallel_tool_calls"))
            rq.parallel = json_is_true(v);
        else if (json_key_is(key, "response_format"))
            rq.response_format = v;
        else if (json_key_is(key, "logprobs"))
            rq.logprobs = json_is_true(v);
        else if (json_key_is(key, "n"))
            (void)json_i64(v, &rq.n);
        else if (json_key_is(key, "max_tokens") || json_key_is(key, "max_completion_tokens"))
            (void)json_i64(v, &rq.max_tokens);
    }
    if (w.err != PD_OK) {
        *ret_why = "the body is not JSON";
        return PD_INVALID;
    }
    if (!rq.model.n || rq.messages.type != JSON_ARRAY) {
        *ret_why = rq.model.n ? "messages is missing or no list" : "model is missing";
        return PD_INVALID;
    }
    if (rq.n < 1 || rq.n > ANSWER_CHOICES_MAX) {
        *ret_why = "n is not in 1 to 16";
        return PD_INVALID;
    }
    rq.prompt_tokens = rq.messages.raw.n / 4 + 1;
    *ret = rq;
    return read_messages(rq.messages, mem, ret, ret_why);
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
    struct span text, finish, fault;
    int64_t tokens, reasoning, parallel;
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
    } else if (span_is(key, "reasoning") && number) {
        w->reasoning = (int64_t)n;
    } else if (span_is(key, "parallel") && number) {
        w->parallel = (int64_t)n;
    } else if (span_is(key, "tools")) {
        w->tools = !span_is(value, "none") && !span_is(value, "no");
    } else if (span_is(key, "finish")) {
        w->finish = value;
    }
}

/* ---- tools ---------------------------------------------------------------- */

static struct json tool_at(struct json tools, struct span name, unsigned index)
{
    struct json_walk w;
    struct json v, found = {0};
    json_walk_init(&w, tools);
    for (unsigned i = 0; json_walk_next(&w, NULL, &v); i++) {
        struct json function = json_get(v, "function");
        if (function.type != JSON_OBJECT)
            continue;
        if (name.p ? span_eq(json_inner(json_get(function, "name")), name) : i == index)
            return function;
        if (!name.p && found.type == JSON_NONE)
            found = function; /* fewer tools than calls: the first again */
    }
    return found;
}

static pd_err add_call(struct answer *a, const struct style *style, struct rnd *rnd, struct span name,
                       struct span arguments, struct arena *mem)
{
    struct buf text;
    if (a->calls_count == ANSWER_CALLS_MAX)
        return PD_OK;
    buf_init(&text, 0);
    struct put put = put_into(&text);
    style_put_call_id(&put, style, a->calls_count, rnd);
    struct answer_call *c = &a->calls[a->calls_count];
    pd_err err = put.err;
    if (err == PD_OK) {
        c->id = arena_span(mem, buf_span(&text));
        c->name = name;
        c->arguments = arguments;
        err = c->id.p ? PD_OK : PD_NOMEM;
    }
    a->calls_count += err == PD_OK;
    buf_done(&text);
    return err;
}

static pd_err call_tools(struct answer *a, const struct script_provider *p, const struct ask *rq, struct rnd *rnd,
                         unsigned count, struct arena *mem)
{
    struct span name = json_inner(json_path(rq->tool_choice, "function.name"));
    struct buf text;
    pd_err err = PD_OK;
    buf_init(&text, 0);
    for (unsigned i = 0; i < count && err == PD_OK; i++) {
        struct json function = tool_at(rq->tools, name.n ? name : SPAN_NONE, i);
        if (function.type == JSON_NONE)
            break;
        buf_clear(&text);
        struct put put = put_into(&text);
        schema_put_example(&put, json_get(function, "parameters"));
        struct span arguments = SPAN_NONE, called;
        err = put.err;
        if (err == PD_OK && !(arguments = arena_span(mem, buf_span(&text))).p)
            err = PD_NOMEM;
        if (err == PD_OK && json_text(json_get(function, "name"), mem, &called) != PD_OK)
            called = SPAN_LIT("nameless");
        if (err == PD_OK)
            err = add_call(a, p->style, rnd, called, arguments, mem);
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

static pd_err structured(const struct ask *rq, struct arena *mem, struct span *ret)
{
    struct json schema = json_path(rq->response_format, "json_schema.schema");
    struct buf text;
    buf_init(&text, 0);
    struct put put = put_into(&text);
    if (schema.type == JSON_OBJECT)
        schema_put_example(&put, schema);
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

/* The texts of all choices: the first is `given`, or words; the others are words of their own. */
static pd_err put_texts(const struct script_provider *p, uint64_t seed, const struct ask *rq, const struct wish *w,
                        struct span given, struct arena *mem, struct answer *a)
{
    for (unsigned i = 0; i < a->choices; i++) {
        pd_err err = PD_OK;
        if (given.p)
            a->texts[i] = given;
        else
            err = answer_words(seed ^ rq->conversation ^ i, w->tokens >= 0 ? w->tokens : p->tokens, mem,
                               &a->texts[i]);
        if (err != PD_OK)
            return err;
        struct span prefill = rq->prefill;
        if (p->style->continues && prefill.n && prefill.n <= a->texts[i].n &&
            memcmp(prefill.p, a->texts[i].p, prefill.n) == 0)
            a->texts[i] = span_from(a->texts[i], prefill.n);
    }
    return PD_OK;
}

static pd_err put_reasoning(const struct script_provider *p, uint64_t seed, const struct ask *rq,
                            const struct wish *w, struct arena *mem, struct answer *a)
{
    int64_t n = w->reasoning >= 0 ? w->reasoning : p->reasoning;
    if (n < 0)
        n = span_ihas(rq->model, "reason") ? 12 : 0;
    return n > 0 ? answer_words(~seed ^ rq->conversation, n, mem, &a->reasoning) : PD_OK;
}

static void count_tokens(const struct ask *rq, const struct wish *w, struct answer *a)
{
    a->reasoning_tokens = frame_pieces(a->reasoning);
    a->completion_tokens = a->reasoning_tokens * a->choices; /* each choice thinks aloud */
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
    (void)w;
}

static pd_err finish_name(struct span name, struct arena *mem, struct answer *a)
{
    if (!name.p)
        return PD_OK;
    a->finish = arena_strndup(mem, name.p, name.n);
    return a->finish ? PD_OK : PD_NOMEM;
}

static pd_err decide(const struct script_provider *p, uint64_t seed, const struct ask *rq, const struct wish *w,
                     struct arena *mem, struct answer *a)
{
    struct rnd rnd = {seed ^ rq->conversation};
    struct span text = w->text, format = json_inner(json_get(rq->response_format, "type"));
    bool offered = json_path(rq->tools, "0").type != JSON_NONE, spent = false;
    bool tools = offered && !json_is(rq->tool_choice, "none");
    bool directed = w->text.p || w->tools >= 0 || w->tokens >= 0;
    const struct turn *t = NULL;
    pd_err err = directed ? PD_OK : turn_find(p, rq, tools, mem, &spent, &t);

    if (err != PD_OK)
        return err;
    if (t) {
        text = t->text;
        if (t->reasoning.p)
            a->reasoning = t->reasoning;
        for (unsigned i = 0; i < t->calls_count && err == PD_OK; i++)
            err = add_call(a, p->style, &rnd, t->calls[i].name, t->calls[i].arguments, mem);
        if (err == PD_OK)
            err = finish_name(t->finish, mem, a);
    } else if (spent && tools) {
        text = SPAN_LIT("There is nothing left to do.");
    } else if (p->scripted_tools && !tools && !directed) {
        text = SPAN_LIT("A simulated session"); /* agents ask for a title like this */
    } else if (tools && w->tools != 0 && !w->text.p && (w->tools == 1 || !rq->tool_results)) {
        unsigned count = w->parallel > 0 ? (unsigned)w->parallel : (unsigned)p->parallel;
        if (w->parallel < 0 && rq->parallel == 1 && count < 2 && json_path(rq->tools, "1").type != JSON_NONE)
            count = 2;
        err = call_tools(a, p, rq, &rnd, count > ANSWER_CALLS_MAX ? ANSWER_CALLS_MAX : count, mem);
    } else if (!text.p && rq->tool_results) {
        err = quote_result(rq, mem, &text);
    } else if (!text.p && (span_is(format, "json_schema") || span_is(format, "json_object"))) {
        err = structured(rq, mem, &text);
    } else if (!text.p && w->tokens < 0) {
        text = p->answer;
    }
    if (err != PD_OK)
        return err;
    if (a->calls_count) {
        a->finish = t && t->finish.p ? a->finish : "tool_calls";
        for (unsigned i = 0; i < a->choices; i++)
            a->texts[i] = text.p ? text : SPAN_LIT("");
        return PD_OK;
    }
    return put_texts(p, seed, rq, w, text, mem, a);
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

pd_err answer_make(const struct script_provider *p, uint64_t seed, const struct ask *rq, struct arena *mem,
                   struct answer *ret)
{
    struct buf faults;
    struct wish w = {.tokens = -1, .reasoning = -1, .parallel = -1, .tools = -1, .faults = &faults};
    *ret = (struct answer){.choices = (unsigned)rq->n, .finish = "stop"};
    buf_init(&faults, 64 * 1024);
    (void)directive_read(rq->last_user, on_directive, &w);
    pd_err err = w.err;
    if (err == PD_OK)
        err = put_reasoning(p, seed, rq, &w, mem, ret);
    if (err == PD_OK)
        err = decide(p, seed, rq, &w, mem, ret);
    if (err == PD_OK) {
        count_tokens(rq, &w, ret);
        err = finish_name(w.finish, mem, ret);
    }
    if (err == PD_OK && w.in_fault)
        err = directive_fault(&w, mem, ret);
    buf_done(&faults);
    return err;
}
