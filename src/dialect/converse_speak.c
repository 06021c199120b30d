/* Answers as Converse: event streams and whole bodies. */
#include "dialect/converse_priv.h"
#include "dialect/encoder_priv.h"

#include "parse/base64.h"
#include "parse/eventstream.h"

static const struct span json_type = {"application/json", sizeof("application/json") - 1};

/* ---- events ------------------------------------------------------------------------ */

static size_t begin(struct encoder *en, struct span type)
{
    size_t at = 0;
    if (!en->put.err)
        en->put.err = eventstream_begin(&en->out, "event", type, json_type, &at);
    return at;
}

static void end_event(struct encoder *en, size_t at)
{
    if (!en->put.err)
        en->put.err = eventstream_end(&en->out, at);
}

/* Blocks are numbered as they are opened: what is dropped leaves no gap. */
enum { NEXT_BLOCK = 0 };

static size_t begin_delta(struct encoder *en)
{
    size_t at = begin(en, SPAN_LIT("contentBlockDelta"));
    put_text(&en->put, "{\"contentBlockIndex\":");
    put_uint(&en->put, en->state[NEXT_BLOCK]);
    put_text(&en->put, ",\"delta\":{");
    return at;
}

static void end_delta(struct encoder *en, size_t at)
{
    put_text(&en->put, "}}");
    end_event(en, at);
}

/* ---- what a block is here ------------------------------------------------------------- */

static const struct converse_format *image_format(const struct block *b)
{
    return b->kind == BLOCK_MEDIA ? converse_format_by_type(MSG_IMAGE, b->name) : NULL;
}

static const char *image_word(const struct block *b)
{
    const struct converse_format *f = image_format(b);
    return f ? f->word : "png";
}

/* False: there is no place for it, and it is counted as dropped. */
static bool has_place(struct encoder *en, const struct block *b)
{
    if (b->kind == BLOCK_SEALED && b->maker != MSG_MAKER_ANTHROPIC) {
        encoder_drop(en, "sealed_reasoning");
        return false;
    }
    if (b->kind == BLOCK_MEDIA && !image_format(b)) {
        encoder_drop(en, "media");
        return false;
    }
    return true;
}

/* Reasoning that Claude did not sign is marked, so that it can be told when it comes back. */
static struct span signature_of(const struct block *b)
{
    return b->signature.n && b->maker == MSG_MAKER_ANTHROPIC ? b->signature : SPAN_LIT(ENCODER_FOREIGN "-foreign");
}

static void put_redacted(struct encoder *en, struct put *p, struct span escaped)
{
    char *quoted = arena_printf(&en->arena, "\"%.*s\"", SPAN_FMT(escaped));
    struct span text;
    pd_err e = quoted ? json_text((struct json){JSON_STRING, span_str(quoted)}, &en->arena, &text) : PD_NOMEM;
    put_text(p, "{\"redactedContent\":\"");
    if (!p->err)
        p->err = e ? e : base64_encode(text, p->b);
    put_text(p, "\"}");
}

static void put_citation(struct put *p, const struct block_citation *c)
{
    put_escaped(p, "{\"title\":", c->title);
    if (c->cited.n) {
        put_escaped(p, ",\"sourceContent\":[{\"text\":", c->cited);
        put_text(p, "}]");
    }
    if (c->url.n) {
        put_escaped(p, ",\"location\":{\"web\":{\"url\":", c->url);
        put_text(p, "}}");
    }
    put_text(p, "}");
}

/* ---- streamed ---------------------------------------------------------------------------- */

static void start(struct encoder *en, const struct answer_facts *f)
{
    (void)f;
    size_t at = begin(en, SPAN_LIT("messageStart"));
    put_text(&en->put, "{\"role\":\"assistant\"}");
    end_event(en, at);
}

static size_t begin_start(struct encoder *en)
{
    size_t at = begin(en, SPAN_LIT("contentBlockStart"));
    put_text(&en->put, "{\"contentBlockIndex\":");
    put_uint(&en->put, en->state[NEXT_BLOCK]);
    return at;
}

static void open(struct encoder *en, struct block *b)
{
    if (b->kind != BLOCK_TOOL)
        return; /* text and reasoning start with their first delta */
    size_t at = begin_start(en);
    put_escaped(&en->put, ",\"start\":{\"toolUse\":{\"toolUseId\":", b->id);
    put_escaped(&en->put, ",\"name\":", b->name);
    put_text(&en->put, "}}}");
    end_event(en, at);
}

static void add(struct encoder *en, struct block *b, struct span piece)
{
    static const char *const before[] = {
        [BLOCK_TEXT] = "\"text\":",
        [BLOCK_REASONING] = "\"reasoningContent\":{\"text\":",
        [BLOCK_REFUSAL] = "\"text\":",
        [BLOCK_TOOL] = "\"toolUse\":{\"input\":",
    };
    size_t at = begin_delta(en);
    put_escaped(&en->put, before[b->kind], piece);
    put_text(&en->put, b->kind == BLOCK_REASONING || b->kind == BLOCK_TOOL ? "}" : "");
    end_delta(en, at);
}

static void add_citations(struct encoder *en, const struct block *b)
{
    for (const struct block_citation *c = encoder_citations(b); c; c = c->next) {
        size_t at = begin_delta(en);
        put_text(&en->put, "\"citation\":");
        put_citation(&en->put, c);
        end_delta(en, at);
    }
}

static void add_signature(struct encoder *en, const struct block *b)
{
    size_t at = begin_delta(en);
    put_escaped(&en->put, "\"reasoningContent\":{\"signature\":", signature_of(b));
    put_text(&en->put, "}");
    end_delta(en, at);
}

static void add_redacted(struct encoder *en, const struct block *b)
{
    size_t at = begin_delta(en);
    put_text(&en->put, "\"reasoningContent\":");
    put_redacted(en, &en->put, buf_span(&b->text));
    end_delta(en, at);
}

static void add_image(struct encoder *en, const struct block *b)
{
    size_t at = begin_start(en);
    put_printf(&en->put, ",\"start\":{\"image\":{\"format\":\"%s\"}}}", image_word(b));
    end_event(en, at);
    at = begin_delta(en);
    put_escaped(&en->put, "\"image\":{\"source\":{\"bytes\":", buf_span(&b->text));
    put_text(&en->put, "}}");
    end_delta(en, at);
}

static void close(struct encoder *en, struct block *b)
{
    if (!has_place(en, b))
        return;
    switch (b->kind) {
    case BLOCK_TEXT:
        add_citations(en, b);
        break;
    case BLOCK_REASONING:
        if (!b->shown_signature)
            add_signature(en, b);
        break;
    case BLOCK_SEALED:
        if (!b->shown)
            add_redacted(en, b);
        break;
    case BLOCK_MEDIA:
        if (!b->shown)
            add_image(en, b);
        break;
    case BLOCK_REFUSAL:
    case BLOCK_TOOL:
    case BLOCK_HOSTED:
        break;
    }
    size_t at = begin(en, SPAN_LIT("contentBlockStop"));
    put_text(&en->put, "{\"contentBlockIndex\":");
    put_uint(&en->put, en->state[NEXT_BLOCK]++);
    put_text(&en->put, "}");
    end_event(en, at);
}

/* ---- the end ------------------------------------------------------------------------------ */

static bool has_calls(const struct encoder *en)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (b->kind == BLOCK_TOOL)
            return true;
    return false;
}

/* Clients run tools when the reason says so: where the provider gave none that is known here, the calls themselves do. */
static const char *stop_reason(const struct encoder *en, const struct answer_facts *f)
{
    switch (f->finish) {
    case MSG_FINISH_STOP:
        return f->stop_sequence.n ? "stop_sequence" : "end_turn";
    case MSG_FINISH_TOOL_CALLS:
        return "tool_use";
    case MSG_FINISH_LENGTH:
        return "max_tokens";
    case MSG_FINISH_CONTENT_FILTER:
    case MSG_FINISH_REFUSAL:
        return "content_filtered";
    case MSG_FINISH_NONE:
    case MSG_FINISH_PAUSE:
    case MSG_FINISH_ERROR:
    case MSG_FINISH_OTHER:
    case MSG_FINISH_COUNT:
        break;
    }
    return has_calls(en) ? "tool_use" : "end_turn";
}

/* Input without what came from a cache or went into one. */
static void put_usage(struct put *p, const struct msg_usage *u)
{
    uint64_t read = encoder_count(u->cache_read), write = encoder_count(u->cache_write);
    uint64_t input = encoder_count(u->input_total), output = encoder_count(u->output_total);
    put_text(p, "{\"inputTokens\":");
    put_uint(p, input >= read + write ? input - read - write : 0);
    put_text(p, ",\"outputTokens\":");
    put_uint(p, output);
    put_text(p, ",\"totalTokens\":");
    put_uint(p, input + output);
    if (u->cache_read >= 0) {
        put_text(p, ",\"cacheReadInputTokens\":");
        put_uint(p, read);
    }
    if (u->cache_write >= 0) {
        put_text(p, ",\"cacheWriteInputTokens\":");
        put_uint(p, write);
    }
    put_text(p, "}");
}

/* How long it took is not known here; the format wants a number. */
static void put_metrics(struct put *p)
{
    put_text(p, ",\"metrics\":{\"latencyMs\":0}");
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    size_t at;
    if (!en->finished) {
        at = begin(en, SPAN_LIT("messageStop"));
        put_printf(&en->put, "{\"stopReason\":\"%s\"}", stop_reason(en, f));
        end_event(en, at);
    }
    at = begin(en, SPAN_LIT("metadata"));
    put_text(&en->put, "{\"usage\":");
    put_usage(&en->put, &f->usage);
    put_metrics(&en->put);
    put_text(&en->put, "}");
    end_event(en, at);
}

/* ---- whole -------------------------------------------------------------------------------- */

static void put_cited_text(struct put *p, const struct block *b)
{
    put_escaped(p, "{\"citationsContent\":{\"content\":[{\"text\":", buf_span(&b->text));
    put_text(p, "}],\"citations\":[");
    for (const struct block_citation *c = b->citations; c; c = c->next) {
        put_citation(p, c);
        put_text(p, c->next ? "," : "");
    }
    put_text(p, "]}}");
}

static void put_block(struct encoder *en, struct put *p, const struct block *b)
{
    switch (b->kind) {
    case BLOCK_TEXT:
        if (b->citations) {
            put_cited_text(p, b);
            break;
        }
        put_escaped(p, "{\"text\":", buf_span(&b->text));
        put_text(p, "}");
        break;
    case BLOCK_REFUSAL:
        put_escaped(p, "{\"text\":", buf_span(&b->text));
        put_text(p, "}");
        break;
    case BLOCK_REASONING:
        put_escaped(p, "{\"reasoningContent\":{\"reasoningText\":{\"text\":", buf_span(&b->text));
        put_escaped(p, ",\"signature\":", signature_of(b));
        put_text(p, "}}}");
        break;
    case BLOCK_TOOL:
        put_escaped(p, "{\"toolUse\":{\"toolUseId\":", b->id);
        put_escaped(p, ",\"name\":", b->name);
        put_text(p, ",\"input\":");
        encoder_put_arguments(p, en, buf_span(&b->text));
        put_text(p, "}}");
        break;
    case BLOCK_SEALED:
        put_text(p, "{\"reasoningContent\":");
        put_redacted(en, p, buf_span(&b->text));
        put_text(p, "}");
        break;
    case BLOCK_MEDIA:
        put_printf(p, "{\"image\":{\"format\":\"%s\"", image_word(b));
        put_escaped(p, ",\"source\":{\"bytes\":", buf_span(&b->text));
        put_text(p, "}}}");
        break;
    case BLOCK_HOSTED:
        break;
    }
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *p)
{
    bool comma = false;
    put_text(p, "{\"output\":{\"message\":{\"role\":\"assistant\",\"content\":[");
    for (const struct block *b = en->first; b; b = b->next) {
        if (!has_place(en, b))
            continue;
        put_text(p, comma ? "," : "");
        comma = true;
        put_block(en, p, b);
    }
    put_printf(p, "]}},\"stopReason\":\"%s\",\"usage\":", stop_reason(en, f));
    put_usage(p, &f->usage);
    put_metrics(p);
    put_text(p, "}");
}

static enum block_kind kind_of(struct span word)
{
    (void)word; /* texts have no beginning of their own */
    return BLOCK_HOSTED;
}

static void resumed(struct encoder *en)
{
    const struct block *open = encoder_open_block(en);
    en->state[NEXT_BLOCK] = open && open->place ? (uint64_t)open->place - 1 : (uint64_t)en->highest_place;
}

const struct encoder_ops converse_encoder = {
    .kind_of = kind_of,
    .resumed = resumed,
    .start = start,
    .open = open,
    .add = add,
    .close = close,
    .end = end,
    .whole = whole,
};
