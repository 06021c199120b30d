/* One object of a chat answer: a chunk with deltas, or a whole answer with messages. Both have the same fields. */
#include "dialect/openai_chat_priv.h"
#include "dialect/value_priv.h"

#include "base/hash.h"
#include "base/mem.h"

/* A tool call as far as it has come. */
struct chat_tool {
    int64_t choice, index; /* the provider's own; index CHAT_LEGACY: a function_call of old */
    int number;            /* ours, from 0 in each choice */
    uint64_t id_hash;      /* of the id; 0: none yet */
    struct span id;        /* waits for the name */
    bool started;          /* its start was handed on */
};
enum { CHAT_LEGACY = -1 };

/* What reading an answer's objects remembers between them. Used for chunks and for whole answers. */
struct chat_reader {
    struct reader base;
    struct chat_tool *tools;
    unsigned tool_count, tool_room;
    uint64_t seen, finished; /* choices by index */
    int64_t first_choice;    /* -1: none yet */
    bool first_has_tools;
    enum msg_finish first_word; /* what its own word says, before the content is looked at */
};

static void init(struct reader *base)
{
    ((struct chat_reader *)base)->first_choice = -1;
}

static void done(struct reader *base)
{
    mem_free(((struct chat_reader *)base)->tools);
}

static pd_err take_usage(struct chat_reader *r, struct json usage, unsigned *holds)
{
    struct msg_usage u;
    if (!usage_read(usage, &u))
        return PD_OK;
    r->base.facts.usage = MSG_USAGE_NONE; /* reports replace each other, whole */
    return reader_keep_usage(&r->base, usage, &u, holds);
}

/* ---- deltas ------------------------------------------------------------------ */

static void emit_text(struct chat_reader *r, enum msg_delta_kind kind, int64_t choice, struct json v)
{
    reader_emit_text(&r->base, kind, (int)choice, v);
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
            r->base.facts.has_output = true;
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
                r->base.facts.has_output = true;
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
    bool custom;
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
        p.custom = custom.type == JSON_OBJECT;
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
    if (!r->base.whole && json_i64(p->index, &index) && index >= 0) {
        t = tool_at(r, choice, index);
        if (t && named && p->id_hash && t->id_hash && t->id_hash != p->id_hash)
            t = NULL;
    } else if (!r->base.whole) {
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

static void start_tool(struct chat_reader *r, struct chat_tool *t, struct span name, struct span id, bool custom)
{
    t->started = true;
    reader_emit(&r->base, &(struct msg_delta){.kind = MSG_TOOL_START,
                                              .choice = (int)t->choice,
                                              .tool = t->number,
                                              .text = name,
                                              .id = id,
                                              .legacy_function = t->index == CHAT_LEGACY,
                                              .free_text = custom,
                                              .place = reader_place(t->index)});
}

static pd_err tool_take(struct chat_reader *r, struct chat_tool *t, const struct tool_piece *p)
{
    struct span name = json_inner(p->name), id = json_inner(p->id), arguments;
    pd_err e = reader_arguments(&r->base, p->arguments, &arguments);
    if (e)
        return e;
    r->base.facts.has_tool_calls = r->base.facts.has_output = true;
    if (t->choice == r->first_choice)
        r->first_has_tools = true;
    if (p->id_hash && !t->id_hash)
        t->id_hash = p->id_hash;
    if (!t->started && (name.n || arguments.n || r->base.whole)) {
        start_tool(r, t, name, id.n ? id : t->id, p->custom);
    } else if (!t->started && id.n && id.n <= ANSWER_WORD_MAX && !t->id.n) {
        t->id = arena_span(r->base.arena, id);
        if (!t->id.p)
            return PD_NOMEM;
    }
    if (arguments.n)
        reader_emit(&r->base, &(struct msg_delta){.kind = MSG_TOOL_ARGUMENTS,
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
            r->base.facts.has_output |= value_has_items(m);
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
    if (choice < ANSWER_CHOICES) {
        r->finished |= (uint64_t)1 << choice;
        r->base.facts.finishes[choice] = (uint8_t)finish_of_word(word);
    }
    if (choice != r->first_choice)
        return PD_OK;
    r->first_word = finish_of_word(word);
    return reader_keep_finish(&r->base, word);
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
        r->base.facts.finish_raw = SPAN_NONE;
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

static pd_err read_object(struct reader *base, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct chat_reader *r = (struct chat_reader *)base;
    (void)type;
    struct json id = {0}, created = {0}, model = {0}, choices = {0}, usage = {0}, groq = {0}, error = {0}, m;
    struct json_walk w;
    struct span key;
    unsigned holds = 0;
    bool suspect = false, any = false;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &m)) {
        if (json_key_is(key, "id"))
            id = m;
        else if (json_key_is(key, "created"))
            created = m;
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

    bool had_output = r->base.facts.has_output;
    r->base.facts.has_output = false; /* for a moment: is there any in this object? */
    pd_err e = reader_keep_word(&r->base, &r->base.facts.id, id);
    if (!e)
        e = reader_keep_word(&r->base, &r->base.facts.model, model);
    if (!r->base.facts.created)
        (void)json_i64(created, &r->base.facts.created);
    if (!e)
        e = read_choices(r, choices, &holds, &error, &any);
    if (r->base.facts.has_output)
        holds |= ANSWER_OUTPUT;
    r->base.facts.has_output |= had_output;
    if (!e)
        e = take_usage(r, json_get(groq, "usage"), &holds);
    if (!e)
        e = take_usage(r, usage, &holds);
    if (e)
        return e;

    if (error.type != JSON_NONE) {
        holds |= ANSWER_ERROR;
        r->base.facts.error = true;
    } else if ((holds & ANSWER_USAGE) && !any) {
        holds |= ANSWER_ONLY_USAGE;
    }
    r->base.facts.finish =
        r->first_word == MSG_FINISH_STOP && r->first_has_tools ? MSG_FINISH_TOOL_CALLS : r->first_word;
    *ret_holds = holds;
    *ret_error = error;
    return PD_OK;
}

static enum answer_end end(const struct reader *base)
{
    const struct chat_reader *r = (const struct chat_reader *)base;
    const struct answer_facts *f = &base->facts;
    if (f->error)
        return ANSWER_FAILED;
    /* A provider that gave up said so in place of a reason: what came is not the whole. */
    if (f->finish == MSG_FINISH_ERROR)
        return f->has_output ? ANSWER_CUT : ANSWER_EMPTY;
    bool finished = r->seen && (r->seen & ~r->finished) == 0;
    /* [DONE] alone is no proof: some end every stream with it, a broken one too. With a report of what was used it is. */
    bool accounted = f->done && f->usage_raw.n;
    if (f->has_output)
        return finished || accounted || r->base.whole ? ANSWER_COMPLETE : ANSWER_CUT;
    /* No output for a reason (a filter, the limit) is an answer; "stop" without a word is none. */
    bool reasoned = finished && f->finish != MSG_FINISH_STOP && f->finish != MSG_FINISH_TOOL_CALLS;
    if (reasoned)
        return ANSWER_COMPLETE;
    return finished || f->done || r->base.whole || f->events == 0 ? ANSWER_EMPTY : ANSWER_CUT;
}

static bool is_event(struct json obj)
{
    return json_get(obj, "choices").type == JSON_ARRAY || json_get(obj, "usage").type == JSON_OBJECT;
}

const struct reader_ops chat_reader = {sizeof(struct chat_reader), init, done, read_object, end, is_event};
