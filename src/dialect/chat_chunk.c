/* One object of a chat answer: a chunk with deltas, or a whole answer with messages. Both have the same fields. */
#include "dialect/codec_priv.h"

#include "base/hash.h"
#include "base/mem.h"

void chat_reader_init(struct chat_reader *r, struct arena *a, bool whole)
{
    *r = (struct chat_reader){.arena = a, .whole = whole, .first_choice = -1, .facts.usage = MSG_USAGE_NONE};
    buf_init(&r->usage, ANSWER_USAGE_MAX);
    buf_init(&r->scratch, 0); /* as large as an event at most, and six times that when all of it is escaped */
}

void chat_reader_done(struct chat_reader *r)
{
    buf_done(&r->usage);
    buf_done(&r->scratch);
    mem_free(r->tools);
    r->tools = NULL;
}

/* ---- what is kept ------------------------------------------------------------ */

/* The first text that is not empty stays: later chunks repeat it. */
static pd_err keep_word(struct chat_reader *r, struct span *kept, struct json v)
{
    struct span inner = json_inner(v), text;
    if (kept->n || inner.n == 0 || inner.n > ANSWER_WORD_MAX)
        return PD_OK;
    pd_err e = json_text(v, r->arena, &text);
    if (e)
        return e == PD_NOMEM ? e : PD_OK;
    if (text.p == inner.p && !r->whole) {
        text = arena_span(r->arena, text);
        if (!text.p)
            return PD_NOMEM;
    }
    *kept = text;
    return PD_OK;
}

static pd_err take_usage(struct chat_reader *r, struct json usage, unsigned *holds)
{
    if (!usage_read(usage, &r->facts.usage))
        return PD_OK;
    *holds |= ANSWER_USAGE;
    r->facts.usage_raw = usage.raw;
    if (r->whole)
        return PD_OK;
    buf_clear(&r->usage);
    pd_err e = buf_add(&r->usage, usage.raw);
    if (e == PD_NOMEM)
        return e;
    r->facts.usage_raw = e ? SPAN_NONE : buf_span(&r->usage);
    return PD_OK;
}

/* ---- deltas ------------------------------------------------------------------ */

static void emit(struct chat_reader *r, struct msg_delta d)
{
    r->facts.has_output = true;
    if (d.kind != MSG_TOOL_START)
        r->facts.output_bytes += d.text.n;
    if (r->on_delta)
        r->on_delta(r->ctx, &d);
}

static void emit_text(struct chat_reader *r, enum msg_delta_kind kind, int64_t choice, struct json v)
{
    struct span text = json_inner(v);
    if (text.n)
        emit(r, (struct msg_delta){.kind = kind, .choice = (int)choice, .tool = -1, .text = text});
}

/* "thinking": a text, or a list of {"type":"text","text":...}. */
static void read_thinking(struct chat_reader *r, int64_t choice, struct json v)
{
    struct json_walk w;
    struct json item;
    emit_text(r, MSG_REASONING, choice, v);
    if (v.type != JSON_ARRAY)
        return;
    json_walk_init(&w, v);
    while (json_walk_next(&w, NULL, &item))
        emit_text(r, MSG_REASONING, choice, item.type == JSON_STRING ? item : json_get(item, "text"));
}

/* Content as a list of parts (Mistral). Parts that have no text, such as images, are output too. */
static void read_parts(struct chat_reader *r, int64_t choice, struct json list)
{
    struct json_walk w;
    struct json part;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &part)) {
        struct json thinking = json_get(part, "thinking"), text = json_get(part, "text");
        if (thinking.type != JSON_NONE)
            read_thinking(r, choice, thinking);
        else if (text.type == JSON_STRING)
            emit_text(r, MSG_TEXT, choice, text);
        else
            r->facts.has_output = true;
    }
}

/* OpenRouter's details beside or in place of "reasoning"; `silent` when that has the same text already. */
static void read_details(struct chat_reader *r, int64_t choice, struct json list, bool silent)
{
    static const char *const texts[] = {"text", "summary"}, *const opaque[] = {"data", "signature"};
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        for (size_t i = 0; i < 2; i++) {
            if (!silent)
                emit_text(r, MSG_REASONING, choice, json_get(item, texts[i]));
            if (json_inner(json_get(item, opaque[i])).n)
                r->facts.has_output = true;
        }
    }
}

/* ---- tool calls -------------------------------------------------------------- */

static struct chat_tool *tool_at(struct chat_reader *r, int64_t choice, int64_t index)
{
    for (unsigned i = r->tool_count; i > 0; i--)
        if (r->tools[i - 1].choice == choice && r->tools[i - 1].index == index)
            return &r->tools[i - 1];
    return NULL;
}

static struct chat_tool *tool_by_id(struct chat_reader *r, int64_t choice, uint64_t id_hash)
{
    for (unsigned i = r->tool_count; i > 0; i--)
        if (r->tools[i - 1].choice == choice && r->tools[i - 1].id_hash == id_hash)
            return &r->tools[i - 1];
    return NULL;
}

static struct chat_tool *tool_last(struct chat_reader *r, int64_t choice)
{
    for (unsigned i = r->tool_count; i > 0; i--)
        if (r->tools[i - 1].choice == choice)
            return &r->tools[i - 1];
    return NULL;
}

static pd_err tool_add(struct chat_reader *r, int64_t choice, int64_t index, struct chat_tool **ret)
{
    if (r->tool_count == ANSWER_TOOLS_MAX)
        return PD_TOOBIG;
    if (r->tool_count == r->tool_room) {
        unsigned room = r->tool_room ? r->tool_room * 2 : 4;
        struct chat_tool *tools = mem_realloc(r->tools, room * sizeof(*tools));
        if (!tools)
            return PD_NOMEM;
        r->tools = tools;
        r->tool_room = room;
    }
    struct chat_tool *last = tool_last(r, choice), *t = &r->tools[r->tool_count];
    *t = (struct chat_tool){.choice = choice, .number = last ? last->number + 1 : 0};
    t->index = index == INT64_MIN ? t->number : index;
    r->tool_count++;
    *ret = t;
    return PD_OK;
}

/* What one item of tool_calls says. */
struct tool_piece {
    struct json index, id, name, arguments;
    uint64_t id_hash;
};

static struct tool_piece piece_of(struct json item)
{
    struct tool_piece p = {0};
    struct json function = json_get(item, "function");
    p.index = json_get(item, "index");
    p.id = json_get(item, "id");
    if (function.type == JSON_OBJECT) {
        p.name = json_get(function, "name");
        p.arguments = json_get(function, "arguments");
    } else {
        struct json custom = json_get(item, "custom");
        p.name = json_get(custom, "name");
        p.arguments = json_get(custom, "input");
    }
    if (json_inner(p.id).n)
        p.id_hash = hash_bytes(json_inner(p.id), 0) | 1;
    return p;
}

/* The call this piece goes on with, or a new one. Without an index, and when a server gives every call index 0, id and name tell:
 * a new id with a name starts a call (a new id alone does not: some servers make one up for each piece). */
static pd_err tool_find(struct chat_reader *r, int64_t choice, const struct tool_piece *p, struct chat_tool **ret)
{
    bool named = json_inner(p->name).n > 0;
    int64_t index = INT64_MIN;
    struct chat_tool *t = NULL;
    if (!r->whole && json_i64(p->index, &index) && index >= 0) {
        t = tool_at(r, choice, index);
        if (t && named && p->id_hash && t->id_hash && t->id_hash != p->id_hash)
            t = NULL;
    } else if (!r->whole) {
        index = INT64_MIN;
        t = p->id_hash ? tool_by_id(r, choice, p->id_hash) : NULL;
        if (!t && !named)
            t = tool_last(r, choice);
    }
    if (!t)
        return tool_add(r, choice, index, ret);
    *ret = t;
    return PD_OK;
}

static void start_tool(struct chat_reader *r, struct chat_tool *t, struct span name, struct span id)
{
    t->started = true;
    emit(r, (struct msg_delta){.kind = MSG_TOOL_START,
                               .choice = (int)t->choice,
                               .tool = t->number,
                               .text = name,
                               .id = id,
                               .legacy_function = t->index == CHAT_LEGACY});
}

/* Arguments are a string; some servers send the object itself. */
static pd_err argument_text(struct chat_reader *r, struct json v, struct span *ret)
{
    *ret = json_inner(v);
    if (v.type != JSON_OBJECT && v.type != JSON_ARRAY)
        return PD_OK;
    buf_clear(&r->scratch);
    pd_err e = json_put_str(&r->scratch, v.raw);
    if (!e)
        *ret = span_of(buf_span(&r->scratch).p + 1, buf_size(&r->scratch) - 2);
    return e;
}

static pd_err tool_take(struct chat_reader *r, struct chat_tool *t, const struct tool_piece *p)
{
    struct span name = json_inner(p->name), id = json_inner(p->id), arguments;
    pd_err e = argument_text(r, p->arguments, &arguments);
    if (e)
        return e;
    r->facts.has_tool_calls = r->facts.has_output = true;
    if (t->choice == r->first_choice)
        r->first_has_tools = true;
    if (p->id_hash && !t->id_hash)
        t->id_hash = p->id_hash;
    if (!t->started && (name.n || arguments.n || r->whole)) {
        start_tool(r, t, name, id.n ? id : t->id);
    } else if (!t->started && id.n && id.n <= ANSWER_WORD_MAX && !t->id.n) {
        t->id = arena_span(r->arena, id);
        if (!t->id.p)
            return PD_NOMEM;
    }
    if (arguments.n)
        emit(r, (struct msg_delta){.kind = MSG_TOOL_ARGUMENTS,
                                   .choice = (int)t->choice,
                                   .tool = t->number,
                                   .text = arguments,
                                   .legacy_function = t->index == CHAT_LEGACY});
    return PD_OK;
}

static pd_err read_tools(struct chat_reader *r, int64_t choice, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &item)) {
        if (item.type != JSON_OBJECT)
            continue;
        struct tool_piece p = piece_of(item);
        struct chat_tool *t;
        pd_err e = tool_find(r, choice, &p, &t);
        if (!e)
            e = tool_take(r, t, &p);
        if (e)
            return e;
    }
    return PD_OK;
}

static pd_err read_legacy(struct chat_reader *r, int64_t choice, struct json call)
{
    if (call.type != JSON_OBJECT)
        return PD_OK;
    struct tool_piece p = {.name = json_get(call, "name"), .arguments = json_get(call, "arguments")};
    struct chat_tool *t = tool_at(r, choice, CHAT_LEGACY);
    pd_err e = t ? PD_OK : tool_add(r, choice, CHAT_LEGACY, &t);
    return e ? e : tool_take(r, t, &p);
}

/* ---- choices ----------------------------------------------------------------- */

static bool has_items(struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    return json_walk_next(&w, NULL, &item);
}

/* A delta's members, found in one walk. */
struct delta {
    struct json content, refusal, reasoning_content, reasoning, thinking, details, tools, function;
};

static pd_err read_delta(struct chat_reader *r, int64_t choice, struct json v)
{
    struct delta d = {0};
    struct json_walk w;
    struct span key;
    struct json m;
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &m)) {
        if (m.type == JSON_NULL)
            continue;
        if (json_key_is(key, "content"))
            d.content = m;
        else if (json_key_is(key, "refusal"))
            d.refusal = m;
        else if (json_key_is(key, "reasoning_content"))
            d.reasoning_content = m;
        else if (json_key_is(key, "reasoning"))
            d.reasoning = m;
        else if (json_key_is(key, "thinking"))
            d.thinking = m;
        else if (json_key_is(key, "reasoning_details"))
            d.details = m;
        else if (json_key_is(key, "tool_calls"))
            d.tools = m;
        else if (json_key_is(key, "function_call"))
            d.function = m;
        else if (m.type == JSON_ARRAY || json_key_is(key, "audio")) /* images, audio, tools the server ran */
            r->facts.has_output |= has_items(m);
    }
    /* Several names for the same text at once: the first that has any is taken. */
    struct json reasoning = json_inner(d.reasoning_content).n ? d.reasoning_content
                            : json_inner(d.reasoning).n       ? d.reasoning
                                                              : d.thinking;
    read_thinking(r, choice, reasoning);
    read_details(r, choice, d.details, json_inner(reasoning).n > 0);
    emit_text(r, MSG_TEXT, choice, d.content);
    if (d.content.type == JSON_ARRAY)
        read_parts(r, choice, d.content);
    emit_text(r, MSG_REFUSAL, choice, d.refusal);
    pd_err e = read_tools(r, choice, d.tools);
    return e ? e : read_legacy(r, choice, d.function);
}

static pd_err take_finish(struct chat_reader *r, int64_t choice, struct json word)
{
    if (choice < ANSWER_CHOICES)
        r->finished |= (uint64_t)1 << choice;
    if (choice != r->first_choice)
        return PD_OK;
    struct span inner = json_inner(word), text;
    r->first_word = finish_of_word(word);
    if (r->whole) {
        pd_err e = json_text(word, r->arena, &text);
        if (e == PD_NOMEM)
            return e;
        r->facts.finish_raw = e ? inner : text;
        return PD_OK;
    }
    text = span_upto(inner, ANSWER_FINISH_MAX);
    memcpy(r->finish_word, text.p, text.n);
    r->facts.finish_raw = span_of(r->finish_word, text.n);
    return PD_OK;
}

/* The first choice is number 0, or, until that is seen, the one that came first. */
static void see_choice(struct chat_reader *r, int64_t choice)
{
    if (choice < ANSWER_CHOICES)
        r->seen |= (uint64_t)1 << choice;
    if (r->first_choice < 0 || (choice == 0 && r->first_choice > 0)) {
        r->first_choice = choice;
        r->first_has_tools = false;
        r->first_word = MSG_FINISH_NONE;
        r->facts.finish_raw = SPAN_NONE;
    }
}

static pd_err read_choice(struct chat_reader *r, struct json v, unsigned *holds, struct json *error)
{
    struct json index = {0}, delta = {0}, message = {0}, finish = {0}, usage = {0}, m;
    struct json_walk w;
    struct span key;
    int64_t choice;
    json_walk_init(&w, v);
    while (json_walk_next(&w, &key, &m)) {
        if (json_key_is(key, "index"))
            index = m;
        else if (json_key_is(key, "delta"))
            delta = m;
        else if (json_key_is(key, "message"))
            message = m;
        else if (json_key_is(key, "finish_reason"))
            finish = m;
        else if (json_key_is(key, "usage"))
            usage = m; /* Moonshot */
        else if (json_key_is(key, "error") && m.type == JSON_OBJECT && error->type == JSON_NONE)
            *error = v; /* OpenRouter: the error of one choice */
    }
    if (v.type != JSON_OBJECT)
        return PD_OK;
    if (!json_i64(index, &choice) || choice < 0 || choice > INT32_MAX)
        choice = 0;
    see_choice(r, choice);
    pd_err e = read_delta(r, choice, delta.type == JSON_OBJECT ? delta : message);
    if (!e)
        e = take_usage(r, usage, holds);
    if (!e && json_inner(finish).n) {
        *holds |= ANSWER_FINISH;
        e = take_finish(r, choice, finish);
    }
    return e;
}

static pd_err read_choices(struct chat_reader *r, struct json list, unsigned *holds, struct json *error,
                           bool *ret_any)
{
    struct json_walk w;
    struct json choice;
    *ret_any = false;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &choice)) {
        *ret_any = true;
        pd_err e = read_choice(r, choice, holds, error);
        if (e)
            return e;
    }
    return PD_OK;
}

/* ---- the object ---------------------------------------------------------------- */

pd_err chat_read(struct chat_reader *r, struct json obj, unsigned *ret_holds, struct json *ret_error)
{
    struct json id = {0}, model = {0}, choices = {0}, usage = {0}, groq = {0}, error = {0}, m;
    struct json_walk w;
    struct span key;
    unsigned holds = 0;
    bool suspect = false, any = false;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &m)) {
        if (json_key_is(key, "id"))
            id = m;
        else if (json_key_is(key, "model"))
            model = m;
        else if (json_key_is(key, "choices"))
            choices = m;
        else if (json_key_is(key, "usage"))
            usage = m;
        else if (json_key_is(key, "x_groq"))
            groq = m;
        else if (json_key_is(key, "error"))
            suspect = true;
    }
    if (suspect || groq.type == JSON_OBJECT || choices.type == JSON_NONE)
        error = answer_error_in(obj);

    bool had_output = r->facts.has_output;
    r->facts.has_output = false; /* for a moment: is there any in this object? */
    pd_err e = keep_word(r, &r->facts.id, id);
    if (!e)
        e = keep_word(r, &r->facts.model, model);
    if (!e)
        e = read_choices(r, choices, &holds, &error, &any);
    if (r->facts.has_output)
        holds |= ANSWER_OUTPUT;
    r->facts.has_output |= had_output;
    if (!e)
        e = take_usage(r, json_get(groq, "usage"), &holds);
    if (!e)
        e = take_usage(r, usage, &holds);
    if (e)
        return e;

    if (error.type != JSON_NONE) {
        holds |= ANSWER_ERROR;
        r->facts.error = true;
    } else if ((holds & ANSWER_USAGE) && !any) {
        holds |= ANSWER_ONLY_USAGE;
    }
    r->facts.finish =
        r->first_word == MSG_FINISH_STOP && r->first_has_tools ? MSG_FINISH_TOOL_CALLS : r->first_word;
    *ret_holds = holds;
    *ret_error = error;
    return PD_OK;
}

enum answer_end chat_end(const struct chat_reader *r)
{
    const struct answer_facts *f = &r->facts;
    if (f->error)
        return ANSWER_FAILED;
    /* A provider that gave up said so in place of a reason: what came is not the whole. */
    if (f->finish == MSG_FINISH_ERROR)
        return f->has_output ? ANSWER_CUT : ANSWER_EMPTY;
    bool finished = r->seen && (r->seen & ~r->finished) == 0;
    /* [DONE] alone is no proof: some end every stream with it, a broken one too. With a report of what was used it is. */
    bool accounted = f->done && f->usage_raw.n;
    if (f->has_output)
        return finished || accounted || r->whole ? ANSWER_COMPLETE : ANSWER_CUT;
    /* No output for a reason (a filter, the limit) is an answer; "stop" without a word is none. */
    bool reasoned = finished && f->finish != MSG_FINISH_STOP && f->finish != MSG_FINISH_TOOL_CALLS;
    if (reasoned)
        return ANSWER_COMPLETE;
    return finished || f->done || r->whole || f->events == 0 ? ANSWER_EMPTY : ANSWER_CUT;
}
