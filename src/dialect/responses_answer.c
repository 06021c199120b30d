/* OpenAI Responses: reading answers. A stream's events and a whole response have the same items.
 *
 * Events are told apart by "type" in the object: not all servers say it on an "event:" line. Items are known by output_index: some
 * relays give an item another id when it is done. What a server did not send in pieces is told when its item is done,
 * and what has no item event at all when the response ends. */
#include "dialect/responses_priv.h"

#include "base/mem.h"

#include <stdio.h>

enum { ITEMS_MAX = ANSWER_TOOLS_MAX };

struct item {
    int64_t index; /* output_index */
    enum item_kind kind;
    struct span id; /* as its first event has it */
    int tool;       /* number of the call; -1: none */
    bool told;      /* some of its text was handed on */
    bool ended;     /* and all that its end says */
};

struct responses_reader {
    struct reader r;
    struct item *items;
    unsigned count, room;
    int tools;     /* calls so far */
    bool terminal; /* the response's last event was seen */
    bool pending;  /* a response that is not done, and says so (background) */
};

static struct responses_reader *own(struct reader *r)
{
    return (struct responses_reader *)r;
}

static void done(struct reader *r)
{
    mem_free(own(r)->items);
    own(r)->items = NULL;
}

enum item_kind responses_item_kind(struct json type)
{
    static const struct {
        const char *word;
        enum item_kind kind;
    } rows[] = {
        {"message", ITEM_MESSAGE},         {"reasoning", ITEM_REASONING},         {"function_call", ITEM_FUNCTION},
        {"custom_tool_call", ITEM_CUSTOM}, {"image_generation_call", ITEM_IMAGE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (json_is(type, rows[i].word))
            return rows[i].kind;
    return ITEM_OTHER;
}

/* ---- items ------------------------------------------------------------------------- */

static struct item *item_at(struct responses_reader *rr, int64_t index)
{
    for (unsigned i = rr->count; i > 0; i--) /* the last is nearly always the one */
        if (rr->items[i - 1].index == index)
            return &rr->items[i - 1];
    return NULL;
}

/* That item; a new one when it was not told of before. */
static pd_err item_get(struct responses_reader *rr, int64_t index, struct item **ret)
{
    *ret = item_at(rr, index);
    if (*ret)
        return PD_OK;
    if (rr->count == ITEMS_MAX)
        return PD_TOOBIG;
    if (rr->count == rr->room) {
        unsigned room = rr->room ? rr->room * 2 : 8;
        struct item *items = mem_realloc(rr->items, room * sizeof(*items));
        if (!items)
            return PD_NOMEM;
        rr->items = items;
        rr->room = room;
    }
    *ret = &rr->items[rr->count++];
    **ret = (struct item){.index = index, .kind = ITEM_OTHER, .tool = -1};
    return PD_OK;
}

/* Of an event. Servers that have one item may leave it out. */
static int64_t index_of(struct json obj)
{
    int64_t n;
    return json_i64(json_get(obj, "output_index"), &n) && n >= 0 ? n : 0;
}

/* The item that an event is of; what is told from here on is of it. */
static pd_err item_at_hand(struct responses_reader *rr, int64_t index, struct json id, struct item **ret)
{
    pd_err e = item_get(rr, index, ret);
    struct span name = json_inner(id);
    if (e)
        return e;
    if (rr->r.on_delta && !rr->r.whole && !(*ret)->id.n && name.n && name.n <= ANSWER_WORD_MAX) {
        (*ret)->id = arena_span(rr->r.arena, name);
        if (!(*ret)->id.p) {
            (*ret)->id = SPAN_NONE;
            return PD_NOMEM;
        }
    }
    rr->r.place = rr->r.whole ? 0 : reader_place(index);
    rr->r.item = (*ret)->id;
    return PD_OK;
}

/* A namespace and a name there are one name for everyone else. */
static pd_err start_call(struct responses_reader *rr, struct item *it, struct json v)
{
    struct json id = json_get(v, "call_id"), name = json_get(v, "name");
    struct span space = json_inner(json_get(v, "namespace"));
    if (it->tool >= 0)
        return PD_OK;
    if (!json_inner(id).n)
        id = json_get(v, "id");
    it->tool = rr->tools++;
    struct span called = json_inner(name);
    if (space.n) {
        called = responses_joined_name(rr->r.arena, space, called);
        if (!called.p)
            return PD_NOMEM;
    }
    reader_emit(&rr->r, &(struct msg_delta){.kind = MSG_TOOL_START,
                                            .tool = it->tool,
                                            .text = called,
                                            .id = json_inner(id),
                                            .type = space,
                                            .free_text = it->kind == ITEM_CUSTOM,
                                            .place = rr->r.place,
                                            .item = rr->r.item});
    return PD_OK;
}

static pd_err start_item(struct responses_reader *rr, int64_t index, struct json v, struct item **ret)
{
    struct item *it;
    pd_err e = item_at_hand(rr, index, json_get(v, "id"), &it);
    if (e)
        return e;
    *ret = it;
    if (it->kind == ITEM_OTHER)
        it->kind = responses_item_kind(json_get(v, "type"));
    return it->kind == ITEM_FUNCTION || it->kind == ITEM_CUSTOM ? start_call(rr, it, v) : PD_OK;
}

static void tell_text(struct responses_reader *rr, struct item *it, enum msg_delta_kind kind, struct json v)
{
    if (json_inner(v).n)
        it->told = true;
    reader_emit_text(&rr->r, kind, 0, v);
}

static pd_err tell_arguments(struct responses_reader *rr, struct item *it, struct json v)
{
    if (it->tool < 0) { /* its start did not come: a call without a name is still one */
        struct json none = {0};
        it->tool = rr->tools++;
        reader_emit_tool(&rr->r, 0, it->tool, none, none);
    }
    if (json_inner(v).n || v.type == JSON_OBJECT)
        it->told = true;
    return reader_emit_arguments(&rr->r, 0, it->tool, v);
}

static void tell_citation(struct responses_reader *rr, struct json v)
{
    struct json url = json_get(v, "url");
    if (!json_is(json_get(v, "type"), "url_citation") && !json_inner(url).n)
        return;
    if (json_get(v, "url_citation").type == JSON_OBJECT) /* chat's shape, as some servers have it here */
        v = json_get(v, "url_citation");
    reader_emit(&rr->r, &(struct msg_delta){.kind = MSG_CITATION,
                                            .tool = -1,
                                            .text = json_inner(json_get(v, "url")),
                                            .id = json_inner(json_get(v, "title")),
                                            .place = rr->r.place,
                                            .item = rr->r.item});
}

static void tell_logprobs(struct responses_reader *rr, struct json list)
{
    struct json_walk w;
    struct json item;
    json_walk_init(&w, list);
    if (list.type == JSON_ARRAY && json_walk_next(&w, NULL, &item))
        reader_emit(&rr->r, &(struct msg_delta){.kind = MSG_LOGPROBS, .tool = -1, .text = list.raw});
}

/* A part of a message that did not come in pieces. */
static void tell_part(struct responses_reader *rr, struct item *it, struct json v)
{
    struct json_walk w;
    struct json mark;
    tell_text(rr, it, MSG_REFUSAL, json_get(v, "refusal"));
    tell_text(rr, it, MSG_TEXT, json_get(v, "text"));
    tell_logprobs(rr, json_get(v, "logprobs"));
    json_walk_init(&w, json_get(v, "annotations"));
    while (json_walk_next(&w, NULL, &mark))
        tell_citation(rr, mark);
}

/* Paragraphs of reasoning are parts of a list; in one text an empty line is between them. */
static void tell_break(struct responses_reader *rr, const struct item *it)
{
    if (it->told)
        reader_emit(&rr->r, &(struct msg_delta){.kind = MSG_REASONING,
                                                .tool = -1,
                                                .text = SPAN_LIT(RESPONSES_BREAK),
                                                .place = rr->r.place,
                                                .item = rr->r.item});
}

static void tell_reasoning_list(struct responses_reader *rr, struct item *it, struct json list)
{
    struct json_walk w;
    struct json part;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &part)) {
        if (json_inner(json_get(part, "text")).n)
            tell_break(rr, it);
        tell_text(rr, it, MSG_REASONING, json_get(part, "text"));
    }
}

static void end_reasoning(struct responses_reader *rr, struct item *it, struct json v)
{
    struct json sealed = json_get(v, "encrypted_content");
    if (!it->told)
        tell_reasoning_list(rr, it, json_get(v, "content"));
    if (!it->told)
        tell_reasoning_list(rr, it, json_get(v, "summary"));
    if (json_inner(sealed).n)
        reader_emit(&rr->r, &(struct msg_delta){.kind = MSG_SEALED,
                                                .tool = -1,
                                                .text = json_inner(sealed),
                                                .id = json_inner(json_get(v, "id")),
                                                .maker = MSG_MAKER_OPENAI,
                                                .place = rr->r.place,
                                                .item = rr->r.item});
}

static pd_err end_image(struct responses_reader *rr, struct json v)
{
    struct span format = json_inner(json_get(v, "output_format")), data = json_inner(json_get(v, "result"));
    char type[32];
    if (!data.n)
        return PD_OK;
    int n = snprintf(type, sizeof(type), "image/%.*s", format.n && format.n < 16 ? (int)format.n : 3,
                     format.n && format.n < 16 ? format.p : "png");
    reader_emit(&rr->r, &(struct msg_delta){.kind = MSG_MEDIA,
                                            .tool = -1,
                                            .text = data,
                                            .type = span_of(type, (size_t)n),
                                            .place = rr->r.place,
                                            .item = rr->r.item});
    return PD_OK;
}

/* The item is whole. */
static pd_err end_item(struct responses_reader *rr, struct item *it, struct json v)
{
    struct json_walk w;
    struct json part;
    if (it->ended)
        return PD_OK;
    it->ended = true;
    switch (it->kind) {
    case ITEM_OTHER:
        return PD_OK;
    case ITEM_MESSAGE:
        if (it->told)
            return PD_OK;
        json_walk_init(&w, json_get(v, "content"));
        while (json_walk_next(&w, NULL, &part))
            tell_part(rr, it, part);
        return PD_OK;
    case ITEM_REASONING:
        end_reasoning(rr, it, v);
        return PD_OK;
    case ITEM_FUNCTION:
        return it->told ? PD_OK : tell_arguments(rr, it, json_get(v, "arguments"));
    case ITEM_CUSTOM:
        return it->told ? PD_OK : tell_arguments(rr, it, json_get(v, "input"));
    case ITEM_IMAGE:
        return end_image(rr, v);
    }
    return PD_OK;
}

/* ---- the response ------------------------------------------------------------------ */

static pd_err take_names(struct responses_reader *rr, struct json response)
{
    pd_err e = reader_keep_word(&rr->r, &rr->r.facts.id, json_get(response, "id"));
    if (!rr->r.facts.created)
        (void)json_i64(json_get(response, "created_at"), &rr->r.facts.created);
    return e ? e : reader_keep_word(&rr->r, &rr->r.facts.model, json_get(response, "model"));
}

static pd_err take_usage(struct responses_reader *rr, struct json usage, unsigned *holds)
{
    struct msg_usage u = {
        .input_total = reader_count(usage, "input_tokens"),
        .cache_read = reader_count(usage, "input_tokens_details.cached_tokens"),
        .cache_write = reader_count(usage, "input_tokens_details.cache_write_tokens"),
        .output_total = reader_count(usage, "output_tokens"),
        .reasoning = reader_count(usage, "output_tokens_details.reasoning_tokens"),
    };
    if (usage.type != JSON_OBJECT || (u.input_total < 0 && u.output_total < 0))
        return PD_OK;
    return reader_keep_usage(&rr->r, usage, &u, holds);
}

/* "completed", or "incomplete:REASON". */
static pd_err keep_status(struct responses_reader *rr, struct json status, struct json reason)
{
    char word[ANSWER_FINISH_MAX];
    if (!json_inner(reason).n)
        return reader_keep_finish(&rr->r, status);
    int n = snprintf(word, sizeof(word), "\"%.*s:%.*s\"", SPAN_FMT(span_upto(json_inner(status), 16)),
                     SPAN_FMT(span_upto(json_inner(reason), 40)));
    struct json v = {JSON_STRING, span_of(word, (size_t)n)};
    if (rr->r.whole) {
        v.raw = arena_span(rr->r.arena, v.raw);
        if (!v.raw.p)
            return PD_NOMEM;
    }
    return reader_keep_finish(&rr->r, v);
}

static enum msg_finish finish_of(const struct responses_reader *rr, struct json status, struct json reason)
{
    if (json_is(status, "completed"))
        return rr->r.facts.has_tool_calls ? MSG_FINISH_TOOL_CALLS : MSG_FINISH_STOP;
    if (json_is(status, "incomplete"))
        return json_is(reason, "max_output_tokens") || json_is(reason, "max_tokens") ? MSG_FINISH_LENGTH
               : json_is(reason, "content_filter")                                   ? MSG_FINISH_CONTENT_FILTER
                                                                                     : MSG_FINISH_OTHER;
    return json_is(status, "queued") || json_is(status, "in_progress") ? MSG_FINISH_OTHER : MSG_FINISH_ERROR;
}

static bool says_error(struct json response)
{
    struct json error = json_get(response, "error");
    return json_is(json_get(response, "status"), "failed") ||
           (error.type != JSON_NONE && error.type != JSON_NULL && error.type != JSON_BOOL);
}

static pd_err take_output(struct responses_reader *rr, struct json list)
{
    struct json_walk w;
    struct json v;
    int64_t index = 0;
    json_walk_init(&w, list);
    for (; json_walk_next(&w, NULL, &v); index++) {
        struct item *it;
        pd_err e = start_item(rr, index, v, &it);
        if (!e)
            e = end_item(rr, it, v);
        if (e)
            return e;
    }
    return PD_OK;
}

/* The response as it stands at its end, or a whole one. */
static pd_err take_response(struct responses_reader *rr, struct json response, unsigned *holds, struct json *error)
{
    struct json status = json_get(response, "status"), reason = json_path(response, "incomplete_details.reason");
    pd_err e = take_names(rr, response);
    if (!e)
        e = take_output(rr, json_get(response, "output"));
    if (!e)
        e = take_usage(rr, json_get(response, "usage"), holds);
    if (!e)
        e = keep_status(rr, status, reason);
    if (e)
        return e;
    rr->terminal = true;
    rr->pending = json_is(status, "queued") || json_is(status, "in_progress");
    rr->r.facts.finish = finish_of(rr, status, reason);
    *holds |= ANSWER_FINISH;
    if (says_error(response)) {
        rr->r.facts.error = true;
        *holds = (*holds & ~(unsigned)ANSWER_FINISH) | ANSWER_ERROR;
        *error = response;
    }
    return PD_OK;
}

/* ---- events ------------------------------------------------------------------------ */

struct event {
    struct responses_reader *rr;
    struct json obj;
    struct item *it; /* that output_index names */
    unsigned holds;
    struct json error;
};

static pd_err on_named(struct event *ev)
{
    return take_names(ev->rr, json_get(ev->obj, "response"));
}

static pd_err on_terminal(struct event *ev)
{
    ev->holds |= ANSWER_DONE;
    ev->rr->r.facts.done = true;
    return take_response(ev->rr, json_get(ev->obj, "response"), &ev->holds, &ev->error);
}

static pd_err on_failed(struct event *ev)
{
    pd_err e = on_terminal(ev);
    ev->rr->r.facts.error = true;
    ev->holds = (ev->holds & ~(unsigned)ANSWER_FINISH) | ANSWER_ERROR;
    ev->error = json_get(ev->obj, "response");
    if (ev->error.type != JSON_OBJECT)
        ev->error = ev->obj;
    return e;
}

static pd_err on_error(struct event *ev)
{
    ev->rr->r.facts.error = true;
    ev->holds |= ANSWER_ERROR;
    ev->error = ev->obj;
    return PD_OK;
}

static pd_err on_item_added(struct event *ev)
{
    struct json item = json_get(ev->obj, "item");
    pd_err e = start_item(ev->rr, ev->it->index, item, &ev->it);
    if (!e)
        reader_emit_step(&ev->rr->r, MSG_STEP_OPENED, json_inner(json_get(item, "type")),
                         json_inner(json_get(item, "phase")));
    return e;
}

static void close_step(struct reader *r, struct span raw)
{
    if (r->place)
        reader_emit(r, &(struct msg_delta){.kind = MSG_STEP,
                                           .tool = -1,
                                           .step = MSG_STEP_CLOSED,
                                           .text = raw,
                                           .place = r->place,
                                           .item = r->item});
}

static pd_err on_item_done(struct event *ev)
{
    struct json item = json_get(ev->obj, "item");
    pd_err e = start_item(ev->rr, ev->it->index, item, &ev->it);
    if (!e)
        e = end_item(ev->rr, ev->it, item);
    if (!e)
        close_step(&ev->rr->r, ev->it->kind == ITEM_OTHER ? item.raw : SPAN_NONE);
    return e;
}

static pd_err on_part(struct event *ev)
{
    reader_emit_step(&ev->rr->r, MSG_STEP_PART, json_inner(json_path(ev->obj, "part.type")), SPAN_NONE);
    return PD_OK;
}

static pd_err on_text_done(struct event *ev)
{
    reader_emit_step(&ev->rr->r, MSG_STEP_TEXT_DONE, SPAN_NONE, SPAN_NONE);
    return PD_OK;
}

static pd_err on_part_done(struct event *ev)
{
    reader_emit_step(&ev->rr->r, MSG_STEP_PART_DONE, SPAN_NONE, SPAN_NONE);
    return PD_OK;
}

static pd_err on_text(struct event *ev)
{
    tell_text(ev->rr, ev->it, MSG_TEXT, json_get(ev->obj, "delta"));
    tell_logprobs(ev->rr, json_get(ev->obj, "logprobs"));
    return PD_OK;
}

static pd_err on_refusal(struct event *ev)
{
    tell_text(ev->rr, ev->it, MSG_REFUSAL, json_get(ev->obj, "delta"));
    return PD_OK;
}

static pd_err on_reasoning(struct event *ev)
{
    tell_text(ev->rr, ev->it, MSG_REASONING, json_get(ev->obj, "delta"));
    return PD_OK;
}

static pd_err on_summary_part(struct event *ev)
{
    (void)on_part(ev);
    tell_break(ev->rr, ev->it);
    return PD_OK;
}

static pd_err on_arguments(struct event *ev)
{
    return tell_arguments(ev->rr, ev->it, json_get(ev->obj, "delta"));
}

static pd_err on_arguments_done(struct event *ev)
{
    pd_err e = ev->it->told ? PD_OK : tell_arguments(ev->rr, ev->it, json_get(ev->obj, "arguments"));
    return e ? e : on_text_done(ev);
}

static pd_err on_input_done(struct event *ev)
{
    pd_err e = ev->it->told ? PD_OK : tell_arguments(ev->rr, ev->it, json_get(ev->obj, "input"));
    return e ? e : on_text_done(ev);
}

static pd_err on_annotation(struct event *ev)
{
    tell_citation(ev->rr, json_get(ev->obj, "annotation"));
    return PD_OK;
}

static const struct {
    const char *type;
    pd_err (*take)(struct event *ev);
    bool of_item; /* ev->it is looked up, or made */
} events[] = {
    {"response.output_text.delta", on_text, true}, /* the most frequent first */
    {"response.function_call_arguments.delta", on_arguments, true},
    {"response.reasoning_summary_text.delta", on_reasoning, true},
    {"response.reasoning_text.delta", on_reasoning, true},
    {"response.custom_tool_call_input.delta", on_arguments, true},
    {"response.refusal.delta", on_refusal, true},
    {"response.reasoning_summary_part.added", on_summary_part, true},
    {"response.reasoning_summary.delta", on_reasoning, true}, /* what it was called once */
    {"response.reasoning.delta", on_reasoning, true},
    {"response.output_item.added", on_item_added, true},
    {"response.output_item.done", on_item_done, true},
    {"response.function_call_arguments.done", on_arguments_done, true},
    {"response.custom_tool_call_input.done", on_input_done, true},
    {"response.output_text.annotation.added", on_annotation, true},
    {"response.content_part.added", on_part, true},
    {"response.output_text.done", on_text_done, true},
    {"response.refusal.done", on_text_done, true},
    {"response.reasoning_summary_text.done", on_text_done, true},
    {"response.reasoning_text.done", on_text_done, true},
    {"response.content_part.done", on_part_done, true},
    {"response.reasoning_summary_part.done", on_part_done, true},
    {"response.created", on_named, false},
    {"response.in_progress", on_named, false},
    {"response.queued", on_named, false},
    {"response.completed", on_terminal, false},
    {"response.incomplete", on_terminal, false},
    {"response.done", on_terminal, false},
    {"response.failed", on_failed, false},
    {"response.cancelled", on_failed, false},
    {"error", on_error, false},
};

/* An item that no event announced is known by the id of its first. */
static pd_err take_item(struct event *ev)
{
    int64_t index = index_of(ev->obj);
    struct json none = {0};
    const struct item *known = item_at(ev->rr, index);
    return item_at_hand(ev->rr, index, known ? none : json_get(ev->obj, "item_id"), &ev->it);
}

static pd_err take_event(struct event *ev, struct json type)
{
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (!json_is(type, events[i].type))
            continue;
        pd_err e = PD_OK;
        ev->rr->r.place = 0;
        ev->rr->r.item = SPAN_NONE;
        if (events[i].of_item)
            e = take_item(ev);
        return e ? e : events[i].take(ev);
    }
    return PD_OK;
}

static bool is_event(struct json obj)
{
    return span_starts(json_inner(json_get(obj, "type")), "response.");
}

static bool is_response(struct json obj)
{
    return json_get(obj, "output").type == JSON_ARRAY || json_is(json_get(obj, "object"), "response");
}

/* Servers that number nothing are counted. */
static void take_sequence(struct responses_reader *rr, struct json obj)
{
    int64_t n;
    bool said = json_i64(json_get(obj, "sequence_number"), &n) && n >= 0;
    rr->r.facts.sequence = said ? (uint64_t)n + 1 : rr->r.facts.sequence + 1;
}

static pd_err read_object(struct reader *r, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct event ev = {.rr = own(r), .obj = obj};
    struct json word = json_get(obj, "type");
    bool had_output = r->facts.has_output;
    pd_err e = PD_OK;
    (void)type;
    r->facts.has_output = false; /* for a moment: is there any in this object? */
    if (is_event(obj)) {
        take_sequence(ev.rr, obj);
        e = take_event(&ev, word);
    } else if (is_response(obj)) {
        e = take_response(ev.rr, obj, &ev.holds, &ev.error);
    } else if (json_is(word, "error") || answer_error_in(obj).type != JSON_NONE) {
        e = on_error(&ev);
        if (!json_is(word, "error"))
            ev.error = answer_error_in(obj);
    }
    if (r->facts.has_output)
        ev.holds |= ANSWER_OUTPUT;
    r->facts.has_output |= had_output;
    if (e)
        return e;
    *ret_holds = ev.holds;
    *ret_error = ev.error;
    return PD_OK;
}

static enum answer_end end(const struct reader *r)
{
    const struct responses_reader *rr = (const struct responses_reader *)r;
    const struct answer_facts *f = &r->facts;
    if (f->error)
        return ANSWER_FAILED;
    if (!rr->terminal)
        return f->has_output || (f->events && !f->done) ? ANSWER_CUT : ANSWER_EMPTY;
    if (f->finish == MSG_FINISH_ERROR)
        return f->has_output ? ANSWER_CUT : ANSWER_EMPTY;
    if (f->has_output || (rr->pending && r->whole))
        return rr->pending && !r->whole ? ANSWER_CUT : ANSWER_COMPLETE;
    bool reasoned = f->finish == MSG_FINISH_LENGTH || f->finish == MSG_FINISH_CONTENT_FILTER;
    return reasoned ? ANSWER_COMPLETE : ANSWER_EMPTY;
}

const struct reader_ops responses_reader = {
    .bytes = sizeof(struct responses_reader),
    .done = done,
    .read = read_object,
    .end = end,
    .is_event = is_event,
};
