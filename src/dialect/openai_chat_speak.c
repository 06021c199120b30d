/* A chat answer, as chunks or whole, from neutral blocks. */
#include "dialect/openai_chat_priv.h"

#include "parse/put.h"

void chat_put_head(struct put *p, struct encoder *en, const char *object)
{
    put_text(p, "{\"id\":\"");
    encoder_put_id(en, p, "chatcmpl-");
    put_text(p, "\",\"object\":\"");
    put_text(p, object);
    put_text(p, "\",\"created\":");
    put_int(p, en->want.created);
    put_text(p, ",\"model\":");
    put_json(p, en->want.model);
}

static void begin_chunk(struct encoder *en, int choice)
{
    put_text(&en->put, "data: ");
    chat_put_head(&en->put, en, "chat.completion.chunk");
    put_text(&en->put, ",\"choices\":[{\"index\":");
    put_int(&en->put, choice);
    put_text(&en->put, ",\"delta\":{");
    uint64_t bit = (uint64_t)1 << (choice < 64 ? choice : 63);
    if (!(en->state[0] & bit)) {
        en->state[0] |= bit;
        put_text(&en->put, "\"role\":\"assistant\",");
    }
}

static void put_logprobs(struct encoder *en, struct put *p)
{
    put_text(p, ",\"logprobs\":");
    if (!buf_size(&en->logprobs)) {
        put_text(p, "null");
        return;
    }
    put_text(p, "{\"content\":[");
    put_span(p, buf_span(&en->logprobs));
    put_text(p, "],\"refusal\":null}");
    buf_clear(&en->logprobs);
}

static void end_chunk(struct encoder *en)
{
    put_text(&en->put, "}");
    put_logprobs(en, &en->put);
    put_text(&en->put, ",\"finish_reason\":null}]");
    put_text(&en->put, en->want.include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
}

/* The number of a tool among its choice's tools is what "index" says. */
static void put_tool_start(struct put *p, const struct block *b)
{
    put_text(p, "\"tool_calls\":[{\"index\":");
    put_int(p, b->tool);
    put_text(p, ",\"id\":\"");
    put_span(p, b->id);
    put_text(p, "\",\"type\":\"function\",\"function\":{\"name\":\"");
    put_span(p, b->name);
    put_text(p, "\",\"arguments\":\"\"}}]");
}

static void open_block(struct encoder *en, struct block *b)
{
    if (b->kind != BLOCK_TOOL || b->legacy_function)
        return;
    begin_chunk(en, b->choice);
    if (!(en->state[1]++)) /* first tool: content is null where nothing was said */
        put_text(&en->put, "\"content\":null,");
    put_tool_start(&en->put, b);
    end_chunk(en);
}

static const char *const text_keys[] = {
    [BLOCK_TEXT] = "\"content\":\"",
    [BLOCK_REASONING] = "\"reasoning_content\":\"",
    [BLOCK_REFUSAL] = "\"refusal\":\"",
};

static void add(struct encoder *en, struct block *b, struct span piece)
{
    struct put *p = &en->put;
    begin_chunk(en, b->choice);
    if (b->kind == BLOCK_TOOL && b->legacy_function) {
        put_text(p, "\"function_call\":{\"name\":\"");
        put_span(p, b->name);
        put_text(p, "\",\"arguments\":\"");
        put_span(p, piece);
        put_text(p, "\"}");
    } else if (b->kind == BLOCK_TOOL) {
        put_text(p, "\"tool_calls\":[{\"index\":");
        put_int(p, b->tool);
        put_text(p, ",\"function\":{\"arguments\":\"");
        put_span(p, piece);
        put_text(p, "\"}}]");
    } else {
        put_text(p, text_keys[b->kind]);
        put_span(p, piece);
        put_text(p, "\"");
    }
    end_chunk(en);
}

static void put_annotations(struct put *p, const struct block_citation *c)
{
    put_text(p, "\"annotations\":[");
    for (; c; c = c->next) {
        put_text(p, "{\"type\":\"url_citation\",\"url_citation\":{\"start_index\":0,\"end_index\":0,\"url\":\"");
        put_span(p, c->url);
        put_text(p, "\",\"title\":\"");
        put_span(p, c->title);
        put_text(p, c->next ? "\"}}," : "\"}}");
    }
    put_text(p, "]");
}

/* As OpenRouter's image models say it; there is no word of OpenAI's own. */
static void put_image(struct put *p, const struct block *b)
{
    put_text(p, "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:");
    put_span(p, b->name.n ? b->name : SPAN_LIT("image/png"));
    put_text(p, ";base64,");
    put_span(p, buf_span(&b->text));
    put_text(p, "\"}}");
}

static void close_block(struct encoder *en, struct block *b)
{
    if (b->kind == BLOCK_MEDIA) {
        begin_chunk(en, b->choice);
        put_text(&en->put, "\"images\":[");
        put_image(&en->put, b);
        put_text(&en->put, "]");
        end_chunk(en);
    } else if (encoder_citations(b)) {
        begin_chunk(en, b->choice);
        put_annotations(&en->put, encoder_citations(b));
        end_chunk(en);
    }
}

/* ---- the end ---------------------------------------------------------------------- */

static const char *finish_word(enum msg_finish f, bool tools)
{
    switch (f) {
    case MSG_FINISH_LENGTH:
        return "length";
    case MSG_FINISH_CONTENT_FILTER:
    case MSG_FINISH_REFUSAL:
        return "content_filter";
    case MSG_FINISH_TOOL_CALLS:
        return "tool_calls";
    case MSG_FINISH_NONE:
    case MSG_FINISH_STOP:
    case MSG_FINISH_PAUSE:
    case MSG_FINISH_ERROR:
    case MSG_FINISH_OTHER:
    case MSG_FINISH_COUNT:
        break;
    }
    return tools ? "tool_calls" : "stop";
}

const char *chat_finish_of(const struct encoder *en, const struct answer_facts *f, int choice)
{
    bool tools = false;
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice == choice && b->kind == BLOCK_TOOL) {
            if (b->legacy_function)
                return "function_call";
            tools = true;
        }
    }
    return finish_word(encoder_finish(f, choice), tools);
}

void openai_put_usage(struct put *p, const struct msg_usage *u)
{
    uint64_t in = encoder_count(u->input_total), out = encoder_count(u->output_total);
    put_text(p, "{\"prompt_tokens\":");
    put_uint(p, in);
    put_text(p, ",\"completion_tokens\":");
    put_uint(p, out);
    put_text(p, ",\"total_tokens\":");
    put_uint(p, in + out);
    put_text(p, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    put_uint(p, encoder_count(u->cache_read));
    if (u->cache_write > 0) {
        put_text(p, ",\"cache_write_tokens\":");
        put_uint(p, (uint64_t)u->cache_write);
    }
    put_text(p, "},\"completion_tokens_details\":{\"reasoning_tokens\":");
    put_uint(p, encoder_count(u->reasoning));
    put_text(p, "}}");
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    struct put *p = &en->put;
    for (int choice = 0; choice <= encoder_highest_choice(en); choice++) {
        begin_chunk(en, choice);
        if (p->b->tail > p->b->head && p->b->p[p->b->tail - 1] == ',')
            p->b->tail--; /* a role alone */
        put_text(p, "},\"logprobs\":null,\"finish_reason\":\"");
        put_text(p, chat_finish_of(en, f, choice));
        put_text(p, en->want.include_usage ? "\"}],\"usage\":null}\n\n" : "\"}]}\n\n");
    }
    if (en->want.include_usage) {
        put_text(p, "data: ");
        chat_put_head(p, en, "chat.completion.chunk");
        put_text(p, ",\"choices\":[],\"usage\":");
        openai_put_usage(p, &f->usage);
        put_text(p, "}\n\n");
    }
    put_text(p, "data: [DONE]\n\n");
}

/* ---- whole ------------------------------------------------------------------------ */

/* The texts of one kind, joined, as a member; nothing when there are none, unless `otherwise` says what to put. */
static void put_texts(struct put *p, const struct encoder *en, int choice, enum block_kind kind, const char *key,
                      const char *otherwise)
{
    bool any = false;
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || b->kind != kind || !buf_size(&b->text))
            continue;
        if (!any) {
            put_text(p, ",\"");
            put_text(p, key);
            put_text(p, "\":\"");
        }
        any = true;
        put_span(p, buf_span(&b->text));
    }
    put_text(p, any ? "\"" : otherwise);
}

static void put_whole_call(struct put *p, const struct block *b)
{
    put_text(p, "{\"id\":\"");
    put_span(p, b->id);
    put_text(p, "\",\"type\":\"function\",\"function\":{\"name\":\"");
    put_span(p, b->name);
    put_text(p, "\",\"arguments\":\"");
    put_span(p, buf_span(&b->text));
    put_text(p, "\"}}");
}

static void put_blocks(struct put *p, const struct encoder *en, int choice, enum block_kind kind,
                       const char *before, void (*each)(struct put *, const struct block *))
{
    bool any = false;
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || b->kind != kind || b->legacy_function)
            continue;
        put_text(p, any ? "," : before);
        any = true;
        each(p, b);
    }
    if (any)
        put_text(p, "]");
}

static void put_whole_legacy(struct put *p, const struct encoder *en, int choice)
{
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || !b->legacy_function)
            continue;
        put_text(p, ",\"function_call\":{\"name\":\"");
        put_span(p, b->name);
        put_text(p, "\",\"arguments\":\"");
        put_span(p, buf_span(&b->text));
        put_text(p, "\"}");
        return;
    }
}

static void put_whole_citations(struct put *p, const struct encoder *en, int choice)
{
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || !b->citations)
            continue;
        put_text(p, ",");
        put_annotations(p, b->citations);
        return;
    }
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *p)
{
    chat_put_head(p, en, "chat.completion");
    put_text(p, ",\"choices\":[");
    for (int choice = 0; choice <= encoder_highest_choice(en); choice++) {
        put_text(p, choice ? ",{\"index\":" : "{\"index\":");
        put_int(p, choice);
        put_text(p, ",\"message\":{\"role\":\"assistant\"");
        put_texts(p, en, choice, BLOCK_TEXT, "content", ",\"content\":null");
        put_texts(p, en, choice, BLOCK_REFUSAL, "refusal", ",\"refusal\":null");
        put_texts(p, en, choice, BLOCK_REASONING, "reasoning_content", "");
        put_blocks(p, en, choice, BLOCK_TOOL, ",\"tool_calls\":[", put_whole_call);
        put_blocks(p, en, choice, BLOCK_MEDIA, ",\"images\":[", put_image);
        put_whole_legacy(p, en, choice);
        put_whole_citations(p, en, choice);
        put_text(p, "}");
        if (choice == 0)
            put_logprobs(en, p);
        else
            put_text(p, ",\"logprobs\":null");
        put_text(p, ",\"finish_reason\":\"");
        put_text(p, chat_finish_of(en, f, choice));
        put_text(p, "\"}");
    }
    put_text(p, "],\"usage\":");
    openai_put_usage(p, &f->usage);
    put_text(p, "}");
}

void chat_resumed(struct encoder *en)
{
    en->state[0] |= 1; /* the role */
}

const struct encoder_ops chat_encoder = {
    .resumed = chat_resumed,
    .choices = true,
    .open = open_block,
    .add = add,
    .close = close_block,
    .end = end,
    .whole = whole,
};
