/* OpenAI Responses: an answer of another format, told in this one: every block is an output item with the events of its kind.
 *
 * The last event repeats the whole response, so all text is gathered. What only another maker can read (signatures, sealed
 * reasoning) has no item: an item that OpenAI cannot open would be refused when it comes back. */
#include "dialect/responses_priv.h"
#include "dialect/value_priv.h"

/* en->state: the number of items so far, and the open item's. */
enum { STATE_ITEMS, STATE_OPEN };

/* ---- items ------------------------------------------------------------------------- */

static bool is_image(const struct block *b)
{
    return span_starts(b->name, "image/");
}

static bool has_item(const struct block *b)
{
    return b->kind != BLOCK_SEALED && (b->kind != BLOCK_MEDIA || is_image(b));
}

/* Is the call of a tool that takes free text? Then its arguments are that text, or, from a maker that has functions only,
 * an object with one "input". */
static bool is_custom(const struct encoder *en, const struct block *b)
{
    if (b->word.n)
        return span_is(b->word, "custom_tool_call");
    const struct msg_tool *t = responses_tool(en->want.asked, b->name);
    return t && (t->kind == MSG_TOOL_CUSTOM || t->free_text);
}

static void put_id(struct put *p, const struct encoder *en, const char *prefix, uint64_t index)
{
    put_text(p, prefix);
    put_span(p, en->want.id);
    put_printf(p, "_%llu", (unsigned long long)index);
}

static void put_item_id(struct put *p, const struct encoder *en, const struct block *b, uint64_t index)
{
    if (b->item.n) {
        put_span(p, b->item);
        return;
    }
    switch (b->kind) {
    case BLOCK_TEXT:
    case BLOCK_REFUSAL:
        put_id(p, en, "msg_", index);
        break;
    case BLOCK_REASONING:
        put_id(p, en, RESPONSES_FOREIGN, index);
        break;
    case BLOCK_TOOL:
        put_id(p, en, is_custom(en, b) ? "ctc_" : "fc_", index);
        break;
    case BLOCK_SEALED:
    case BLOCK_HOSTED:
    case BLOCK_MEDIA:
        put_id(p, en, "ig_", index);
        break;
    }
}

static void put_annotation(struct put *p, const struct block_citation *c)
{
    put_text(p, "{\"type\":\"url_citation\",\"start_index\":0,\"end_index\":0,\"url\":\"");
    put_span(p, c->url);
    put_text(p, "\",\"title\":\"");
    put_span(p, c->title);
    put_text(p, "\"}");
}

/* `part` NULL: it is the only one. */
static void put_annotations(struct put *p, const struct block *b, const struct block_part *part)
{
    const struct block_citation *c = part && part->before ? part->before->next : b->citations;
    const struct block_citation *behind = !part || !part->next ? NULL
                                          : part->next->before ? part->next->before->next
                                                               : b->citations;
    for (; c && c != behind; c = c->next) {
        put_annotation(p, c);
        put_text(p, c->next && c->next != behind ? "," : "");
    }
}

static void put_text_part(struct put *p, const struct block *b, const struct block_part *part, struct span text,
                          struct span logprobs)
{
    if (b->kind == BLOCK_REFUSAL) {
        put_text(p, "{\"type\":\"refusal\",\"refusal\":\"");
        put_span(p, text);
        put_text(p, "\"}");
        return;
    }
    put_text(p, "{\"type\":\"output_text\",\"text\":\"");
    put_span(p, text);
    put_text(p, "\",\"annotations\":[");
    if (text.n)
        put_annotations(p, b, part);
    put_text(p, "],\"logprobs\":[");
    put_span(p, logprobs);
    put_text(p, "]}");
}

/* Free text out of {"input": "..."}, when it is that; else as it came. */
static struct span custom_input(struct encoder *en, struct span escaped)
{
    struct buf quoted;
    struct span text = SPAN_NONE, found = escaped;
    buf_init(&quoted, 0);
    pd_err e = buf_puts(&quoted, "\"");
    if (!e)
        e = buf_add(&quoted, escaped);
    if (!e)
        e = buf_puts(&quoted, "\"");
    if (!e)
        e = json_text((struct json){JSON_STRING, buf_span(&quoted)}, &en->arena, &text);
    text = span_trim(text);
    if (!e && text.n && text.p[0] == '{' && json_check(text) == PD_OK) {
        struct json input = json_get((struct json){JSON_OBJECT, text}, "input");
        if (input.type == JSON_STRING) {
            found = arena_span(&en->arena, json_inner(input));
            if (!found.p)
                e = PD_NOMEM;
        } else if (span_is(text, "{}")) {
            found = SPAN_LIT("");
        }
    }
    buf_done(&quoted);
    if (e == PD_NOMEM && !en->err)
        en->err = e;
    return found.p ? found : SPAN_LIT("");
}

/* OpenAI itself has it as it is. */
static struct span free_text(struct encoder *en, const struct block *b)
{
    return b->shown ? buf_span(&b->text) : custom_input(en, buf_span(&b->text));
}

/* Without the namespace that stands before it, of a call that was shown. */
static struct span plain_name(const struct block *b)
{
    bool joined = b->space.n && b->name.n > b->space.n + 2 && span_eq(span_upto(b->name, b->space.n), b->space) &&
                  b->name.p[b->space.n] == '_';
    return joined ? span_from(b->name, b->space.n + 2) : b->name;
}

static void put_call(struct put *p, struct encoder *en, const struct block *b, struct span arguments)
{
    const struct msg_tool *t = responses_tool(en->want.asked, b->name);
    put_text(p, ",\"call_id\":\"");
    put_span(p, b->id);
    struct span space = b->space.n ? b->space : t ? t->space : SPAN_NONE;
    put_text(p, "\",\"name\":\"");
    put_span(p, t && t->space.n ? t->plain_name : plain_name(b));
    if (space.n) {
        put_text(p, "\",\"namespace\":\"");
        put_span(p, space);
    }
    put_text(p, is_custom(en, b) ? "\",\"input\":\"" : "\",\"arguments\":\"");
    put_span(p, arguments);
    put_text(p, "\"");
}

/* Of reasoning that is shown as it is, and not as a summary. */
static bool is_raw(const struct block *b)
{
    return b->kind == BLOCK_REASONING && span_is(b->word, "reasoning_text");
}

static void put_part(struct put *p, const struct block *b, const struct block_part *part, struct span text,
                     struct span logprobs)
{
    if (b->kind != BLOCK_REASONING) {
        put_text_part(p, b, part, text, logprobs);
        return;
    }
    put_text(p, is_raw(b) ? "{\"type\":\"reasoning_text\",\"text\":\"" : "{\"type\":\"summary_text\",\"text\":\"");
    put_span(p, text);
    put_text(p, "\"}");
}

/* Its text from the beginning of the part on that is under way. */
static struct span part_text(const struct block *b)
{
    return span_from(buf_span(&b->text), b->last_part ? b->last_part->at : 0);
}

/* All parts of an item: one, unless the client saw more of them. */
static void put_parts(struct put *p, const struct block *b, struct span logprobs)
{
    if (!b->parts) {
        put_part(p, b, NULL, buf_span(&b->text), logprobs);
        return;
    }
    for (const struct block_part *part = b->parts; part; part = part->next) {
        put_part(p, b, part, span_from(span_upto(buf_span(&b->text), part->end), part->at), logprobs);
        put_text(p, part->next ? "," : "");
    }
}

/* As its provider had it; what broke while it was at work has failed. */
static void put_hosted(struct put *p, const struct block *b)
{
    if (buf_size(&b->text)) {
        put_one_line(p, buf_span(&b->text));
        return;
    }
    put_escaped(p, "{\"id\":", b->item);
    put_escaped(p, ",\"type\":", b->word);
    put_text(p, ",\"status\":\"failed\"}");
}

/* An item with what its block has said so far; `done`: it is over, and `logprobs` are its own. */
static void put_item(struct put *p, struct encoder *en, const struct block *b, uint64_t index, bool over,
                     struct span logprobs)
{
    struct span text = over ? buf_span(&b->text) : SPAN_LIT("");
    if (b->kind == BLOCK_HOSTED) {
        put_hosted(p, b);
        return;
    }
    bool cut = over && b->kind == BLOCK_TOOL && !b->complete && !is_custom(en, b) && text.n;
    put_text(p, "{\"id\":\"");
    put_item_id(p, en, b, index);
    put_text(p, "\",\"type\":\"");
    switch (b->kind) {
    case BLOCK_TEXT:
    case BLOCK_REFUSAL:
        put_text(p, "message\",\"role\":\"assistant\"");
        if (b->phase.n)
            put_escaped(p, ",\"phase\":", b->phase);
        put_text(p, ",\"content\":[");
        if (over)
            put_parts(p, b, logprobs);
        put_text(p, "]");
        break;
    case BLOCK_REASONING:
        put_text(p, is_raw(b) ? "reasoning\",\"summary\":[],\"content\":[" : "reasoning\",\"summary\":[");
        if (text.n)
            put_parts(p, b, SPAN_NONE);
        put_text(p, "]");
        if (over && b->sealed.n)
            put_escaped(p, ",\"encrypted_content\":", b->sealed);
        break;
    case BLOCK_TOOL:
        put_text(p, is_custom(en, b) ? "custom_tool_call\"" : "function_call\"");
        put_call(p, en, b, is_custom(en, b) && over ? free_text(en, b) : text);
        break;
    case BLOCK_SEALED:
    case BLOCK_HOSTED:
    case BLOCK_MEDIA:
        put_text(p, "image_generation_call\",\"result\":");
        put_text(p, over ? "\"" : "null");
        put_span(p, text);
        put_text(p, over ? "\"" : "");
        break;
    }
    put_text(p, !over ? ",\"status\":\"in_progress\"}"
                : cut ? ",\"status\":\"incomplete\"}"
                      : ",\"status\":\"completed\"}");
}

/* ---- the response ------------------------------------------------------------------ */

static void put_usage(struct put *p, const struct answer_facts *f)
{
    if (!f) {
        put_text(p, "null");
        return;
    }
    const struct msg_usage *u = &f->usage;
    put_text(p, "{\"input_tokens\":");
    put_uint(p, encoder_count(u->input_total));
    put_text(p, ",\"input_tokens_details\":{\"cached_tokens\":");
    put_uint(p, encoder_count(u->cache_read));
    put_text(p, ",\"cache_write_tokens\":"); /* newer clients want a number */
    put_uint(p, encoder_count(u->cache_write));
    put_text(p, "},\"output_tokens\":");
    put_uint(p, encoder_count(u->output_total));
    put_text(p, ",\"output_tokens_details\":{\"reasoning_tokens\":");
    put_uint(p, encoder_count(u->reasoning));
    put_text(p, "},\"total_tokens\":");
    put_uint(p, encoder_count(u->input_total) + encoder_count(u->output_total));
    put_text(p, "}");
}

/* A raw value, or null. */
static void put_number(struct put *p, const char *name, struct span raw)
{
    put_text(p, name);
    if (raw.n)
        put_span(p, raw);
    else
        put_text(p, "null");
}

static void put_choice(struct put *p, const struct msg_request *m)
{
    static const char *const words[] = {"auto", "auto", "none", "required"};
    if (!m || m->choice != MSG_CHOICE_NAMED) {
        put_printf(p, "\"%s\"", words[m ? m->choice : MSG_CHOICE_AUTO]);
        return;
    }
    const struct msg_tool *t = responses_tool(m, m->choice_name);
    put_text(p, t && t->kind == MSG_TOOL_CUSTOM ? "{\"type\":\"custom\",\"name\":\""
                                                : "{\"type\":\"function\",\"name\":\"");
    put_span(p, t && t->space.n ? t->plain_name : m->choice_name);
    put_text(p, "\"}");
}

static void put_format(struct put *p, const struct msg_request *m)
{
    enum msg_format format = m ? m->format : MSG_FORMAT_UNSAID;
    if (format == MSG_FORMAT_SCHEMA && m->format_schema.n) {
        put_text(p, "{\"type\":\"json_schema\",\"name\":\"");
        put_span(p, m->format_name.n ? m->format_name : SPAN_LIT("answer"));
        put_text(p, "\",\"schema\":");
        put_one_line(p, m->format_schema);
        put_text(p, m->format_strict == 1 ? ",\"strict\":true}" : ",\"strict\":false}");
    } else {
        put_text(p, format == MSG_FORMAT_JSON ? "{\"type\":\"json_object\"}" : "{\"type\":\"text\"}");
    }
}

/* What was asked is repeated, as clients' types want it; not the tools and instructions, which may be long. */
static void put_asked(struct put *p, const struct msg_request *m)
{
    const char *effort = m ? value_effort_word(m->effort) : NULL;
    put_text(p, ",\"background\":false,\"instructions\":null,\"max_output_tokens\":");
    if (m && m->max_tokens >= 0)
        put_int(p, m->max_tokens);
    else
        put_text(p, "null");
    put_text(p, ",\"max_tool_calls\":null,\"metadata\":{},\"parallel_tool_calls\":");
    put_text(p, m && m->parallel == 0 ? "false" : "true");
    put_text(p, ",\"previous_response_id\":null,\"prompt_cache_key\":null,\"reasoning\":{\"effort\":");
    if (effort)
        put_printf(p, "\"%s\"", effort);
    else
        put_text(p, "null");
    put_text(p, m && m->reasoning_shown == 1 ? ",\"summary\":\"auto\"}" : ",\"summary\":null}");
    put_text(p, ",\"safety_identifier\":null,\"service_tier\":\"default\",\"store\":false");
    put_number(p, ",\"temperature\":", m ? m->temperature : SPAN_NONE);
    put_text(p, ",\"text\":{\"format\":");
    put_format(p, m);
    put_text(p, "},\"tool_choice\":");
    put_choice(p, m);
    put_text(p, ",\"tools\":[],\"top_logprobs\":");
    put_int(p, m && m->top_logprobs > 0 ? m->top_logprobs : 0);
    put_number(p, ",\"top_p\":", m ? m->top_p : SPAN_NONE);
    put_text(p, ",\"truncation\":\"disabled\",\"user\":null");
}

struct ending {
    const char *event, *status, *reason;
};

static struct ending ending_of(const struct answer_facts *f)
{
    switch (f->finish) {
    case MSG_FINISH_LENGTH:
        return (struct ending){"response.incomplete", "incomplete", "max_output_tokens"};
    case MSG_FINISH_CONTENT_FILTER:
        return (struct ending){"response.incomplete", "incomplete", "content_filter"};
    case MSG_FINISH_NONE:
    case MSG_FINISH_STOP:
    case MSG_FINISH_TOOL_CALLS:
    case MSG_FINISH_REFUSAL:
    case MSG_FINISH_PAUSE:
    case MSG_FINISH_ERROR:
    case MSG_FINISH_OTHER:
    case MSG_FINISH_COUNT:
        break;
    }
    return (struct ending){"response.completed", "completed", NULL};
}

/* `f` NULL: the response is only beginning. */
static void put_response(struct put *p, struct encoder *en, const struct answer_facts *f)
{
    struct ending end = f ? ending_of(f) : (struct ending){NULL, "in_progress", NULL};
    uint64_t index = 0;
    put_text(p, "{\"id\":\"");
    encoder_put_id(en, p, "resp_");
    put_text(p, "\",\"object\":\"response\",\"created_at\":");
    put_int(p, en->want.created);
    put_text(p, ",\"status\":\"");
    put_text(p, end.status);
    put_text(p, "\",\"error\":null,\"incomplete_details\":");
    if (end.reason)
        put_printf(p, "{\"reason\":\"%s\"}", end.reason);
    else
        put_text(p, "null");
    put_text(p, ",\"model\":");
    put_json(p, en->want.model);
    put_text(p, ",\"output\":[");
    for (const struct block *b = f ? en->first : NULL; b; b = b->next) {
        if (!has_item(b))
            continue;
        put_text(p, index ? "," : "");
        put_item(p, en, b, en->want.stream ? b->number : index, true,
                 index == 0 ? buf_span(&en->logprobs) : SPAN_NONE);
        index++;
    }
    put_text(p, "]");
    put_asked(p, en->want.asked);
    put_text(p, ",\"usage\":");
    put_usage(p, f);
    put_text(p, "}");
}

/* ---- events ------------------------------------------------------------------------ */

/* `event: TYPE`, and the object up to its own members. */
static void begin(struct encoder *en, const char *type)
{
    put_text(&en->put, "event: ");
    put_text(&en->put, type);
    put_text(&en->put, "\ndata: {\"type\":\"");
    put_text(&en->put, type);
    put_text(&en->put, "\",\"sequence_number\":");
    put_uint(&en->put, en->sequence++);
}

static void finish_event(struct encoder *en)
{
    put_text(&en->put, "}\n\n");
}

/* An event of the open item. */
static void begin_of_item(struct encoder *en, const struct block *b, const char *type)
{
    begin(en, type);
    put_text(&en->put, ",\"item_id\":\"");
    put_item_id(&en->put, en, b, en->state[STATE_OPEN]);
    put_text(&en->put, "\",\"output_index\":");
    put_uint(&en->put, en->state[STATE_OPEN]);
}

static void put_whole_item(struct encoder *en, const struct block *b, const char *type, bool over)
{
    begin(en, type);
    put_text(&en->put, ",\"output_index\":");
    put_uint(&en->put, en->state[STATE_OPEN]);
    put_text(&en->put, ",\"item\":");
    put_item(&en->put, en, b, en->state[STATE_OPEN], over, SPAN_NONE);
    finish_event(en);
}

/* Which part of its item is under way. */
static void put_part_index(struct encoder *en, const struct block *b)
{
    put_text(&en->put, b->kind == BLOCK_REASONING && !is_raw(b) ? ",\"summary_index\":" : ",\"content_index\":");
    put_uint(&en->put, b->part_count ? b->part_count - 1 : 0);
}

/* An event with one text: `,"NAME":"..."`. */
static void put_text_event(struct encoder *en, const struct block *b, const char *type, const char *name,
                           struct span text)
{
    begin_of_item(en, b, type);
    if (b->kind != BLOCK_TOOL)
        put_part_index(en, b);
    put_printf(&en->put, ",\"%s\":\"", name);
    put_span(&en->put, text);
    put_text(&en->put, "\"");
    if (b->kind == BLOCK_TEXT) {
        put_text(&en->put, ",\"logprobs\":[");
        put_span(&en->put, buf_span(&en->logprobs));
        put_text(&en->put, "]");
        buf_clear(&en->logprobs);
    }
    finish_event(en);
}

static void put_part_event(struct encoder *en, const struct block *b, bool over)
{
    static const char *const types[] = {"response.content_part.added", "response.content_part.done",
                                        "response.reasoning_summary_part.added",
                                        "response.reasoning_summary_part.done"};
    bool summary = b->kind == BLOCK_REASONING && !is_raw(b);
    begin_of_item(en, b, types[summary * 2 + over]);
    put_part_index(en, b);
    put_text(&en->put, ",\"part\":");
    put_part(&en->put, b, b->last_part, over ? part_text(b) : SPAN_LIT(""), SPAN_NONE);
    finish_event(en);
}

static void start(struct encoder *en, const struct answer_facts *f)
{
    static const char *const types[] = {"response.created", "response.in_progress"};
    (void)f;
    for (size_t i = 0; i < 2; i++) {
        begin(en, types[i]);
        put_text(&en->put, ",\"response\":");
        put_response(&en->put, en, NULL);
        finish_event(en);
    }
}

static bool has_parts(const struct block *b)
{
    return b->kind == BLOCK_TEXT || b->kind == BLOCK_REFUSAL || b->kind == BLOCK_REASONING;
}

static void open_item(struct encoder *en, struct block *b)
{
    if (!has_item(b)) {
        if (b->kind == BLOCK_MEDIA)
            encoder_drop(en, "media");
        return;
    }
    b->number = en->state[STATE_OPEN] = en->state[STATE_ITEMS]++;
    put_whole_item(en, b, "response.output_item.added", false);
    if (has_parts(b))
        put_part_event(en, b, false);
}

/* The client saw an item begin and no part of it yet. */
static void need_part(struct encoder *en, struct block *b)
{
    if (!en->replaying && b->step == MSG_STEP_OPENED && has_parts(b)) {
        b->step = MSG_STEP_PART;
        put_part_event(en, b, false);
    }
}

static void add(struct encoder *en, struct block *b, struct span piece)
{
    need_part(en, b);
    switch (b->kind) {
    case BLOCK_TEXT:
        put_text_event(en, b, "response.output_text.delta", "delta", piece);
        break;
    case BLOCK_REFUSAL:
        put_text_event(en, b, "response.refusal.delta", "delta", piece);
        break;
    case BLOCK_REASONING:
        put_text_event(en, b,
                       is_raw(b) ? "response.reasoning_text.delta" : "response.reasoning_summary_text.delta",
                       "delta", piece);
        break;
    case BLOCK_TOOL: /* free text is known when all of it is there: it may come wrapped in an object */
        if (!is_custom(en, b))
            put_text_event(en, b, "response.function_call_arguments.delta", "delta", piece);
        break;
    case BLOCK_SEALED:
    case BLOCK_HOSTED:
    case BLOCK_MEDIA:
        break;
    }
}

static void close_call(struct encoder *en, struct block *b)
{
    struct span text = buf_span(&b->text);
    if (b->step >= MSG_STEP_TEXT_DONE)
        return;
    if (is_custom(en, b)) {
        text = free_text(en, b);
        if (!b->shown)
            put_text_event(en, b, "response.custom_tool_call_input.delta", "delta", text);
        put_text_event(en, b, "response.custom_tool_call_input.done", "input", text);
        return;
    }
    put_text_event(en, b, "response.function_call_arguments.done", "arguments", text);
}

static void close_text(struct encoder *en, struct block *b)
{
    unsigned number = 0;
    const struct block_citation *unseen = encoder_citations(b);
    for (const struct block_citation *c = b->citations; c != unseen; c = c->next)
        number++;
    need_part(en, b);
    for (const struct block_citation *c = unseen; c; c = c->next, number++) {
        begin_of_item(en, b, "response.output_text.annotation.added");
        put_part_index(en, b);
        put_printf(&en->put, ",\"annotation_index\":%u,\"annotation\":", number);
        put_annotation(&en->put, c);
        finish_event(en);
    }
    if (b->step < MSG_STEP_TEXT_DONE)
        put_text_event(en, b, b->kind == BLOCK_TEXT ? "response.output_text.done" : "response.refusal.done",
                       b->kind == BLOCK_TEXT ? "text" : "refusal", part_text(b));
    if (b->step < MSG_STEP_PART_DONE)
        put_part_event(en, b, true);
}

static void close_reasoning(struct encoder *en, struct block *b)
{
    if (b->step == MSG_STEP_OPENED) /* sealed, without a word that can be read */
        return;
    if (b->step < MSG_STEP_TEXT_DONE)
        put_text_event(en, b, is_raw(b) ? "response.reasoning_text.done" : "response.reasoning_summary_text.done",
                       "text", part_text(b));
    if (b->step < MSG_STEP_PART_DONE)
        put_part_event(en, b, true);
}

static void close_item(struct encoder *en, struct block *b)
{
    if (!has_item(b))
        return;
    switch (b->kind) {
    case BLOCK_TEXT:
    case BLOCK_REFUSAL:
        close_text(en, b);
        break;
    case BLOCK_REASONING:
        close_reasoning(en, b);
        break;
    case BLOCK_TOOL:
        close_call(en, b);
        break;
    case BLOCK_SEALED:
    case BLOCK_HOSTED:
    case BLOCK_MEDIA:
        break;
    }
    put_whole_item(en, b, "response.output_item.done", true);
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    begin(en, ending_of(f).event);
    put_text(&en->put, ",\"response\":");
    put_response(&en->put, en, f);
    finish_event(en);
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *out)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (b->kind == BLOCK_MEDIA && !is_image(b))
            encoder_drop(en, "media");
    put_response(out, en, f);
}

static enum block_kind kind_of(struct span word)
{
    return span_is(word, "message") || span_is(word, "output_text") ? BLOCK_TEXT
           : span_is(word, "refusal")                               ? BLOCK_REFUSAL
           : span_is(word, "reasoning") || span_is(word, "reasoning_text") || span_is(word, "summary_text")
               ? BLOCK_REASONING
               : BLOCK_HOSTED;
}

static void resumed(struct encoder *en)
{
    const struct block *open = encoder_open_block(en);
    for (struct block *b = en->first; b; b = b->next)
        b->number = b->place ? (unsigned long)b->place - 1 : b->number;
    en->state[STATE_ITEMS] = (uint64_t)en->highest_place;
    if (open)
        en->state[STATE_OPEN] = open->number;
}

const struct encoder_ops responses_encoder = {
    .kind_of = kind_of,
    .resumed = resumed,
    .gathers = true,
    .start = start,
    .open = open_item,
    .add = add,
    .close = close_item,
    .end = end,
    .whole = whole,
};
