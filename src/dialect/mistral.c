/* Answers as Mistral's own clients understand them: in the shape of OpenAI's chat, but a call comes whole in one chunk, reasoning as parts of the
 * content, and usage always, with the finish reason. Their SDKs refuse a call in pieces, and show no other reasoning.
 *
 * Requests are read as chat's. From https://docs.mistral.ai/api and the SDKs' own types (2.7). */
#include "dialect/openai_chat_priv.h"
#include "dialect/request_priv.h"

/* ---- a stream ---------------------------------------------------------------------- */

static void begin_chunk(struct encoder *en, int choice)
{
    uint64_t bit = (uint64_t)1 << (choice < 64 ? choice : 63);
    put_text(&en->put, "data: ");
    chat_put_head(&en->put, en, "chat.completion.chunk");
    put_text(&en->put, ",\"choices\":[{\"index\":");
    put_int(&en->put, choice);
    put_text(&en->put, en->state[0] & bit ? ",\"delta\":{" : ",\"delta\":{\"role\":\"assistant\",");
    en->state[0] |= bit;
}

static void end_chunk(struct encoder *en)
{
    put_text(&en->put, "},\"finish_reason\":null}]}\n\n");
}

static void put_thinking(struct put *p, struct span text)
{
    put_text(p, "{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"");
    put_span(p, text);
    put_text(p, "\"}]}");
}

static void add(struct encoder *en, struct block *b, struct span piece)
{
    struct put *p = &en->put;
    if (b->kind == BLOCK_TOOL)
        return; /* whole, when it is closed */
    begin_chunk(en, b->choice);
    if (b->kind == BLOCK_REASONING) {
        put_text(p, "\"content\":[");
        put_thinking(p, piece);
        put_text(p, "]");
    } else {
        put_text(p, "\"content\":\"");
        put_span(p, piece);
        put_text(p, "\"");
    }
    end_chunk(en);
}

static void put_call(struct put *p, const struct block *b)
{
    put_text(p, "{\"index\":");
    put_int(p, b->tool < 0 ? 0 : b->tool);
    put_text(p, ",\"id\":\"");
    put_span(p, b->id);
    put_text(p, "\",\"type\":\"function\",\"function\":{\"name\":\"");
    put_span(p, b->name);
    put_text(p, "\",\"arguments\":\"");
    put_span(p, buf_span(&b->text));
    put_text(p, "\"}}");
}

static void close_block(struct encoder *en, struct block *b)
{
    if (b->kind == BLOCK_MEDIA)
        encoder_drop(en, "media");
    if (encoder_citations(b))
        encoder_drop(en, "citations");
    if (b->kind != BLOCK_TOOL)
        return;
    begin_chunk(en, b->choice);
    put_text(&en->put, "\"content\":\"\",\"tool_calls\":[");
    put_call(&en->put, b);
    put_text(&en->put, "]");
    end_chunk(en);
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    struct put *p = &en->put;
    int last = encoder_highest_choice(en);
    for (int choice = 0; choice <= last; choice++) {
        begin_chunk(en, choice);
        put_text(p, "\"content\":\"\"},\"finish_reason\":\"");
        put_text(p, chat_finish_of(en, f, choice));
        put_text(p, choice < last ? "\"}]}\n\n" : "\"}],\"usage\":");
    }
    openai_put_usage(p, &f->usage);
    put_text(p, "}\n\ndata: [DONE]\n\n");
}

/* ---- whole ------------------------------------------------------------------------- */

static bool is_text(const struct block *b)
{
    return b->kind == BLOCK_TEXT || b->kind == BLOCK_REFUSAL;
}

static bool thinks(const struct encoder *en, int choice)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (b->choice == choice && b->kind == BLOCK_REASONING && buf_size(&b->text))
            return true;
    return false;
}

/* One text, or, with reasoning, a list of parts. */
static void put_content(struct put *p, const struct encoder *en, int choice)
{
    bool list = thinks(en, choice);
    const char *sep = "";
    put_text(p, list ? "[" : "\"");
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || !buf_size(&b->text) || !(is_text(b) || b->kind == BLOCK_REASONING))
            continue;
        if (!list) {
            put_span(p, buf_span(&b->text));
            continue;
        }
        put_text(p, sep);
        sep = ",";
        if (b->kind == BLOCK_REASONING) {
            put_thinking(p, buf_span(&b->text));
            continue;
        }
        put_text(p, "{\"type\":\"text\",\"text\":\"");
        put_span(p, buf_span(&b->text));
        put_text(p, "\"}");
    }
    put_text(p, list ? "]" : "\"");
}

static void put_calls(struct put *p, const struct encoder *en, int choice)
{
    const char *sep = ",\"tool_calls\":[";
    bool any = false;
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || b->kind != BLOCK_TOOL)
            continue;
        put_text(p, sep);
        put_call(p, b);
        sep = ",";
        any = true;
    }
    put_text(p, any ? "]" : "");
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *p)
{
    for (struct block *b = en->first; b; b = b->next) {
        if (b->kind == BLOCK_MEDIA)
            encoder_drop(en, "media");
        if (b->citations)
            encoder_drop(en, "citations");
    }
    chat_put_head(p, en, "chat.completion");
    put_text(p, ",\"choices\":[");
    for (int choice = 0; choice <= encoder_highest_choice(en); choice++) {
        put_text(p, choice ? ",{\"index\":" : "{\"index\":");
        put_int(p, choice);
        put_text(p, ",\"message\":{\"role\":\"assistant\",\"content\":");
        put_content(p, en, choice);
        put_calls(p, en, choice);
        put_text(p, "},\"finish_reason\":\"");
        put_text(p, chat_finish_of(en, f, choice));
        put_text(p, "\"}");
    }
    put_text(p, "],\"usage\":");
    openai_put_usage(p, &f->usage);
    put_text(p, "}");
}

static const struct encoder_ops encoder = {
    .resumed = chat_resumed,
    .choices = true,
    .add = add,
    .close = close_block,
    .end = end,
    .whole = whole,
};

const struct codec codec_mistral = {
    .name = "mistral",
    .kind = CODEC_CHAT,
    .read_request = chat_read_request,
    .edit_request = request_edit,
    .parse_request = chat_parse_request,
    .parse_tools = chat_parse_tools,
    .write_request = chat_write_request,
    .turns_member = "messages",
    .streams = true,
    .reader = &chat_reader,
    .collector = &chat_collector,
    .encoder = &encoder,
    .stream_type = "text/event-stream; charset=utf-8",
    .keepalive = ": keep-alive\n\n",
    .terminator = "data: [DONE]\n\n",
    .error_type = openai_error_type,
    .put_error = openai_put_error,
    .put_error_event = openai_put_error_event,
};
