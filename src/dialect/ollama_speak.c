/* Answers as /api/chat and /api/generate give them: lines, or one object. */
#include "dialect/ollama_priv.h"

#include <time.h>

static bool is_generate(const struct encoder *en)
{
    return en->ops == &ollama_generate_encoder;
}

/* ---- pieces ------------------------------------------------------------------------- */

static void put_head(struct encoder *en, struct put *p)
{
    char text[sizeof("-2147481748-12-31T23:59:59Z")] = "1970-01-01T00:00:00Z";
    time_t at = (time_t)en->want.created;
    struct tm tm;
    if (gmtime_r(&at, &tm))
        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    put_text(p, "{\"model\":");
    put_json(p, en->want.model);
    put_printf(p, ",\"created_at\":\"%s\"", text);
}

static void put_logprobs(struct encoder *en, struct put *p)
{
    if (!buf_size(&en->logprobs))
        return;
    put_text(p, ",\"logprobs\":[");
    put_span(p, buf_span(&en->logprobs));
    put_text(p, "]");
    buf_clear(&en->logprobs);
}

/* What stands in a line or an answer: "response" and "thinking" at the top, or a message with them. */
static void begin_said(struct encoder *en, struct put *p)
{
    put_head(en, p);
    put_text(p, is_generate(en) ? ",\"response\":\"" : ",\"message\":{\"role\":\"assistant\",\"content\":\"");
}

static void end_said(struct encoder *en, struct put *p)
{
    put_text(p, is_generate(en) ? "" : "}");
    put_logprobs(en, p);
}

static void put_call(struct encoder *en, struct put *p, const struct block *b)
{
    put_escaped(p, "{\"id\":", b->id);
    put_text(p, ",\"function\":{\"index\":");
    put_int(p, b->tool);
    put_escaped(p, ",\"name\":", b->name);
    put_text(p, ",\"arguments\":");
    encoder_put_arguments(p, en, buf_span(&b->text));
    put_text(p, "}}");
}

static uint64_t or_zero(int64_t n)
{
    return encoder_count(n);
}

/* How long things took is not known here; clients want numbers. */
static void put_end(struct put *p, const struct answer_facts *f)
{
    put_printf(p, ",\"done\":true,\"done_reason\":\"%s\"", f->finish == MSG_FINISH_LENGTH ? "length" : "stop");
    put_text(p, ",\"total_duration\":0,\"load_duration\":0,\"prompt_eval_count\":");
    put_uint(p, or_zero(f->usage.input_total));
    put_text(p, ",\"prompt_eval_duration\":0,\"eval_count\":");
    put_uint(p, or_zero(f->usage.output_total));
    put_text(p, ",\"eval_duration\":0}");
}

/* What has no place here is counted by name. */
static bool has_place(struct encoder *en, const struct block *b)
{
    if (encoder_citations(b))
        encoder_drop(en, "citations");
    switch (b->kind) {
    case BLOCK_TEXT:
    case BLOCK_REASONING:
    case BLOCK_REFUSAL:
        return true;
    case BLOCK_TOOL:
        if (is_generate(en))
            encoder_drop(en, "tool_calls");
        return !is_generate(en);
    case BLOCK_SEALED:
        encoder_drop(en, "sealed_reasoning");
        return false;
    case BLOCK_HOSTED:
        return false;
    case BLOCK_MEDIA:
        break;
    }
    encoder_drop(en, "media");
    return false;
}

/* ---- streamed ------------------------------------------------------------------------ */

static void add(struct encoder *en, struct block *b, struct span piece)
{
    struct put *p = &en->put;
    if (b->kind == BLOCK_TOOL)
        return; /* calls go out whole */
    begin_said(en, p);
    if (b->kind == BLOCK_REASONING) {
        put_escaped(p, "\",\"thinking\":", piece);
    } else {
        put_span(p, piece);
        put_text(p, "\"");
    }
    end_said(en, p);
    put_text(p, ",\"done\":false}\n");
}

static void close(struct encoder *en, struct block *b)
{
    if (!has_place(en, b) || b->kind != BLOCK_TOOL)
        return;
    begin_said(en, &en->put);
    put_text(&en->put, "\",\"tool_calls\":[");
    put_call(en, &en->put, b);
    put_text(&en->put, "]");
    end_said(en, &en->put);
    put_text(&en->put, ",\"done\":false}\n");
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    begin_said(en, &en->put);
    put_text(&en->put, "\"");
    end_said(en, &en->put);
    put_end(&en->put, f);
    put_text(&en->put, "\n");
}

/* ---- whole ----------------------------------------------------------------------------- */

static void put_texts(const struct encoder *en, struct put *p, bool reasoning)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (reasoning ? b->kind == BLOCK_REASONING : b->kind == BLOCK_TEXT || b->kind == BLOCK_REFUSAL)
            put_span(p, buf_span(&b->text));
}

static bool has_reasoning(const struct encoder *en)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (b->kind == BLOCK_REASONING && buf_size(&b->text))
            return true;
    return false;
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *p)
{
    bool any = false;
    begin_said(en, p);
    put_texts(en, p, false);
    put_text(p, "\"");
    if (has_reasoning(en)) {
        put_text(p, ",\"thinking\":\"");
        put_texts(en, p, true);
        put_text(p, "\"");
    }
    for (const struct block *b = en->first; b; b = b->next) {
        if (!has_place(en, b) || b->kind != BLOCK_TOOL)
            continue;
        put_text(p, any ? "," : ",\"tool_calls\":[");
        put_call(en, p, b);
        any = true;
    }
    put_text(p, any ? "]" : "");
    end_said(en, p);
    put_end(p, f);
}

const struct encoder_ops ollama_chat_encoder = {.add = add, .close = close, .end = end, .whole = whole};
const struct encoder_ops ollama_generate_encoder = {.add = add, .close = close, .end = end, .whole = whole};
