/* Answers in Anthropic's format: the event grammar of its streams, and whole messages.
 *
 * Blocks that the format cannot show (media, sealed reasoning of other makers) take no index, so indexes are counted here
 * and not taken from the driver's blocks. */
#include "dialect/anthropic_priv.h"

/* en->state */
enum { SHOWN /* blocks so far */, TOOLS /* calls among them */, REFUSED /* 1: the model refused */ };

/* What stands where a signature would, which only Anthropic could give. */
static const char foreign[] = ENCODER_FOREIGN "-foreign";

static bool shown(const struct block *b)
{
    return b->kind != BLOCK_MEDIA && !(b->kind == BLOCK_SEALED && b->maker != MSG_MAKER_ANTHROPIC);
}

static struct span signature_of(const struct block *b)
{
    bool own = b->maker == MSG_MAKER_ANTHROPIC && b->signature.n;
    return own ? b->signature : span_of(foreign, sizeof(foreign) - 1);
}

static bool fits_id(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* The id comes back in the next request, which may go to Anthropic as it is: it has to be one that is taken there. */
static void fit_id(struct encoder *en, struct block *b)
{
    size_t bad = 0;
    for (size_t i = 0; i < b->id.n; i++)
        bad += !fits_id(b->id.p[i]);
    if (!bad)
        return;
    char *id = arena_strndup(&en->arena, b->id.p, b->id.n);
    if (!id) {
        if (!en->err)
            en->err = PD_NOMEM;
        return;
    }
    for (size_t i = 0; i < b->id.n; i++)
        if (!fits_id(id[i]))
            id[i] = '_';
    b->id = span_of(id, b->id.n);
}

/* ---- what ends an answer ----------------------------------------------------------- */

static const char *stop_reason(const struct encoder *en, const struct answer_facts *f)
{
    switch (f->finish) {
    case MSG_FINISH_LENGTH:
        return "max_tokens";
    case MSG_FINISH_CONTENT_FILTER:
    case MSG_FINISH_REFUSAL:
        return "refusal";
    case MSG_FINISH_PAUSE:
        return "pause_turn";
    case MSG_FINISH_NONE:
    case MSG_FINISH_STOP:
    case MSG_FINISH_TOOL_CALLS:
    case MSG_FINISH_ERROR:
    case MSG_FINISH_OTHER:
    case MSG_FINISH_COUNT:
        break;
    }
    if (en->state[REFUSED])
        return "refusal";
    if (en->state[TOOLS])
        return "tool_use";
    return f->stop_sequence.n ? "stop_sequence" : "end_turn";
}

static void put_stop(struct put *p, const struct encoder *en, const struct answer_facts *f)
{
    const char *reason = stop_reason(en, f);
    put_text(p, "\"stop_reason\":\"");
    put_text(p, reason);
    if (strcmp(reason, "stop_sequence") == 0) {
        put_text(p, "\",\"stop_sequence\":\"");
        put_span(p, f->stop_sequence);
        put_text(p, "\"");
    } else {
        put_text(p, "\",\"stop_sequence\":null");
    }
}

/* This format counts input without what came from a cache or went into it. */
static void put_usage(struct put *p, const struct msg_usage *u)
{
    uint64_t read = encoder_count(u->cache_read), write = encoder_count(u->cache_write);
    uint64_t total = encoder_count(u->input_total);
    put_text(p, "\"usage\":{\"input_tokens\":");
    put_uint(p, total > read + write ? total - read - write : 0);
    put_text(p, ",\"cache_creation_input_tokens\":");
    put_uint(p, write);
    put_text(p, ",\"cache_read_input_tokens\":");
    put_uint(p, read);
    put_text(p, ",\"output_tokens\":");
    put_uint(p, encoder_count(u->output_total));
    if (u->reasoning >= 0) {
        put_text(p, ",\"output_tokens_details\":{\"thinking_tokens\":");
        put_uint(p, encoder_count(u->reasoning));
        put_text(p, "}");
    }
    put_text(p, "}");
}

static void put_head(struct put *p, struct encoder *en)
{
    put_text(p, "{\"id\":\"");
    encoder_put_id(en, p, "msg_");
    put_text(p, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    put_json(p, en->want.model);
    put_text(p, ",\"content\":[");
}

static void put_citation(struct put *p, const struct block_citation *c)
{
    put_text(p, "{\"type\":\"web_search_result_location\",\"url\":\"");
    put_span(p, c->url);
    put_text(p, "\",\"title\":\"");
    put_span(p, c->title);
    put_text(p, "\",\"cited_text\":\"");
    put_span(p, c->cited);
    put_text(p, "\",\"encrypted_index\":\"");
    put_text(p, foreign);
    put_text(p, "\"}");
}

/* ---- streamed ------------------------------------------------------------------------ */

static void start(struct encoder *en, const struct answer_facts *f)
{
    struct put *p = &en->put;
    (void)f; /* usage is told at the end; what stands here must be numbers */
    put_text(p, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    put_head(p, en);
    put_text(p, "],\"stop_reason\":null,\"stop_sequence\":null,"
                "\"usage\":{\"input_tokens\":0,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,"
                "\"output_tokens\":0}}}\n\n");
}

static void begin(struct put *p, const char *event, uint64_t index)
{
    put_text(p, "event: ");
    put_text(p, event);
    put_text(p, "\ndata: {\"type\":\"");
    put_text(p, event);
    put_text(p, "\",\"index\":");
    put_uint(p, index);
}

static void open_block(struct encoder *en, struct block *b)
{
    struct put *p = &en->put;
    if (!shown(b))
        return;
    begin(p, "content_block_start", en->state[SHOWN]++);
    switch (b->kind) {
    case BLOCK_REFUSAL:
        en->state[REFUSED] = 1; /* its words are text */
        put_text(p, ",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
        break;
    case BLOCK_TEXT:
        put_text(p, ",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
        break;
    case BLOCK_REASONING:
        put_text(p, ",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n");
        break;
    case BLOCK_TOOL:
        en->state[TOOLS]++;
        fit_id(en, b);
        put_text(p, ",\"content_block\":{\"type\":\"tool_use\",\"id\":\"");
        put_span(p, b->id);
        put_text(p, "\",\"name\":\"");
        put_span(p, b->name);
        put_text(p, "\",\"input\":{}}}\n\n");
        break;
    case BLOCK_SEALED:
        put_text(p, ",\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"");
        put_span(p, buf_span(&b->text));
        put_text(p, "\"}}\n\n");
        break;
    case BLOCK_MEDIA:
    case BLOCK_HOSTED:
        break;
    }
}

static void put_delta(struct encoder *en, const char *kind, const char *member, struct span text)
{
    struct put *p = &en->put;
    begin(p, "content_block_delta", en->state[SHOWN] - 1);
    put_text(p, ",\"delta\":{\"type\":\"");
    put_text(p, kind);
    put_text(p, "\",\"");
    put_text(p, member);
    put_text(p, "\":\"");
    put_span(p, text);
    put_text(p, "\"}}\n\n");
}

static void add(struct encoder *en, struct block *b, struct span piece)
{
    if (b->kind == BLOCK_REASONING)
        put_delta(en, "thinking_delta", "thinking", piece);
    else if (b->kind == BLOCK_TOOL)
        put_delta(en, "input_json_delta", "partial_json", piece);
    else
        put_delta(en, "text_delta", "text", piece);
}

static void close_block(struct encoder *en, struct block *b)
{
    struct put *p = &en->put;
    if (b->kind == BLOCK_MEDIA)
        encoder_drop(en, "media");
    if (!shown(b))
        return;
    for (const struct block_citation *c = encoder_citations(b); c; c = c->next) {
        begin(p, "content_block_delta", en->state[SHOWN] - 1);
        put_text(p, ",\"delta\":{\"type\":\"citations_delta\",\"citation\":");
        put_citation(p, c);
        put_text(p, "}}\n\n");
    }
    if (b->kind == BLOCK_REASONING && !b->shown_signature)
        put_delta(en, "signature_delta", "signature", signature_of(b));
    begin(p, "content_block_stop", en->state[SHOWN] - 1);
    put_text(p, "}\n\n");
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    struct put *p = &en->put;
    if (!en->finished) {
        put_text(p, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
        put_stop(p, en, f);
        put_text(p, "},");
        put_usage(p, &f->usage);
        put_text(p, "}\n\n");
    }
    put_text(p, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

/* ---- whole ---------------------------------------------------------------------------- */

static void put_text_block(struct put *p, const struct block *b)
{
    put_text(p, "{\"type\":\"text\",\"text\":\"");
    put_span(p, buf_span(&b->text));
    put_text(p, "\"");
    for (const struct block_citation *c = b->citations; c; c = c->next) {
        put_text(p, c == b->citations ? ",\"citations\":[" : ",");
        put_citation(p, c);
    }
    put_text(p, b->citations ? "]}" : "}");
}

static void put_block(struct put *p, struct encoder *en, struct block *b)
{
    switch (b->kind) {
    case BLOCK_REFUSAL:
    case BLOCK_TEXT:
        put_text_block(p, b);
        break;
    case BLOCK_REASONING:
        put_text(p, "{\"type\":\"thinking\",\"thinking\":\"");
        put_span(p, buf_span(&b->text));
        put_text(p, "\",\"signature\":\"");
        put_span(p, signature_of(b));
        put_text(p, "\"}");
        break;
    case BLOCK_TOOL:
        fit_id(en, b);
        put_text(p, "{\"type\":\"tool_use\",\"id\":\"");
        put_span(p, b->id);
        put_text(p, "\",\"name\":\"");
        put_span(p, b->name);
        put_text(p, "\",\"input\":");
        encoder_put_arguments(p, en, buf_span(&b->text));
        put_text(p, "}");
        break;
    case BLOCK_SEALED:
        put_text(p, "{\"type\":\"redacted_thinking\",\"data\":\"");
        put_span(p, buf_span(&b->text));
        put_text(p, "\"}");
        break;
    case BLOCK_MEDIA:
    case BLOCK_HOSTED:
        break;
    }
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *p)
{
    put_head(p, en);
    for (struct block *b = en->first; b; b = b->next) {
        if (b->kind == BLOCK_MEDIA)
            encoder_drop(en, "media");
        if (!shown(b))
            continue;
        if (en->state[SHOWN]++)
            put_text(p, ",");
        en->state[TOOLS] += b->kind == BLOCK_TOOL;
        en->state[REFUSED] |= b->kind == BLOCK_REFUSAL;
        put_block(p, en, b);
    }
    put_text(p, "],");
    put_stop(p, en, f);
    put_text(p, ",");
    put_usage(p, &f->usage);
    put_text(p, "}");
}

static enum block_kind kind_of(struct span word)
{
    return span_is(word, "text") ? BLOCK_TEXT : span_is(word, "thinking") ? BLOCK_REASONING : BLOCK_HOSTED;
}

static void resumed(struct encoder *en)
{
    en->state[SHOWN] = (uint64_t)en->highest_place;
}

const struct encoder_ops anthropic_encoder = {
    .kind_of = kind_of,
    .resumed = resumed,
    .start = start,
    .open = open_block,
    .add = add,
    .close = close_block,
    .end = end,
    .whole = whole,
};
