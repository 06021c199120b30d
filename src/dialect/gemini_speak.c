/* An answer in Gemini's format: a chunk for each piece, a call whole in one part, the reason and the usage in the last chunk.
 *
 * Nothing ends the stream but its end. A client that wants one JSON array gets the same chunks as its items. */
#include "dialect/gemini.h"
#include "dialect/gemini_priv.h"

/* en->state: chunks written; choices whose first call is out. */
enum { CHUNKS, SIGNED };

/* ---- parts ------------------------------------------------------------------------ */

static void put_signature(struct put *p, struct span signature)
{
    if (!signature.n)
        return;
    put_text(p, ",");
    put_field(p, "thoughtSignature", signature);
}

static struct span own_signature(const struct block *b)
{
    return b->maker == MSG_MAKER_GEMINI ? b->signature : SPAN_NONE;
}

static void put_text_part(struct put *p, const struct block *b, struct span text, struct span signature)
{
    put_text(p, "{");
    put_field(p, "text", text);
    put_text(p, b->kind == BLOCK_REASONING ? ",\"thought\":true" : "");
    put_signature(p, signature);
    put_text(p, "}");
}

/* The first call of an answer has a signature. Of another's making it gets the word that stands for none, so that the client can
 * send it back to Gemini. */
static void put_call_part(struct put *p, struct encoder *en, const struct block *b)
{
    uint64_t bit = (uint64_t)1 << (b->choice % 64);
    struct span signature = own_signature(b);
    if (!signature.n && !(en->state[SIGNED] & bit))
        signature = SPAN_LIT(GEMINI_NO_SIGNATURE);
    en->state[SIGNED] |= bit;
    put_text(p, "{\"functionCall\":{");
    put_field(p, "id", b->id);
    put_text(p, ",");
    put_field(p, "name", b->name);
    put_text(p, ",\"args\":");
    encoder_put_arguments(p, en, buf_span(&b->text));
    put_text(p, "}");
    put_signature(p, signature);
    put_text(p, "}");
}

static void put_media_part(struct put *p, const struct block *b)
{
    put_text(p, "{\"inlineData\":{");
    put_field(p, "mimeType", b->name.n ? b->name : SPAN_LIT("application/octet-stream"));
    put_text(p, ",");
    put_field(p, "data", buf_span(&b->text));
    put_text(p, "}}");
}

/* A block at its end. False: it has nothing (more) to say. */
static bool says_at_end(struct encoder *en, const struct block *b)
{
    switch (b->kind) {
    case BLOCK_TOOL:
    case BLOCK_MEDIA:
        return true;
    case BLOCK_SEALED:
        encoder_drop(en, "sealed reasoning");
        return false;
    case BLOCK_HOSTED:
        return false;
    case BLOCK_TEXT:
    case BLOCK_REASONING:
    case BLOCK_REFUSAL:
        break;
    }
    return !en->want.stream || (own_signature(b).n && !b->shown_signature);
}

static void put_block(struct put *p, struct encoder *en, const struct block *b)
{
    if (b->kind == BLOCK_TOOL)
        put_call_part(p, en, b);
    else if (b->kind == BLOCK_MEDIA)
        put_media_part(p, b);
    else
        put_text_part(p, b, en->want.stream ? SPAN_LIT("") : buf_span(&b->text), own_signature(b));
}

/* ---- candidates ------------------------------------------------------------------- */

static const char *finish_word(enum msg_finish f)
{
    switch (f) {
    case MSG_FINISH_NONE:
    case MSG_FINISH_STOP:
    case MSG_FINISH_TOOL_CALLS: /* the calls themselves tell */
        return "STOP";
    case MSG_FINISH_LENGTH:
        return "MAX_TOKENS";
    case MSG_FINISH_CONTENT_FILTER:
    case MSG_FINISH_REFUSAL:
        return "SAFETY";
    case MSG_FINISH_PAUSE:
    case MSG_FINISH_ERROR:
    case MSG_FINISH_OTHER:
    case MSG_FINISH_COUNT:
        break;
    }
    return "OTHER";
}

static void put_sources(struct put *p, const struct encoder *en, int choice)
{
    const char *sep = ",\"groundingMetadata\":{\"groundingChunks\":[";
    bool any = false;
    for (const struct block *b = en->first; b; b = b->next) {
        for (const struct block_citation *c = b->choice == choice ? b->citations : NULL; c; c = c->next) {
            put_text(p, sep);
            put_text(p, "{\"web\":{");
            put_field(p, "uri", c->url);
            put_text(p, ",");
            put_field(p, "title", c->title);
            put_text(p, "}}");
            sep = ",";
            any = true;
        }
    }
    put_text(p, any ? "]}" : "");
}

static void put_logprob(struct put *p, struct json v)
{
    struct json token = json_get(v, "token"), logprob = json_get(v, "logprob");
    put_text(p, "{\"token\":");
    put_span(p, token.type == JSON_STRING ? token.raw : SPAN_LIT("\"\""));
    put_text(p, ",\"logProbability\":");
    put_span(p, logprob.type == JSON_NUMBER ? logprob.raw : SPAN_LIT("0"));
    put_text(p, "}");
}

static void put_top(struct put *p, struct json list)
{
    struct json_walk w;
    struct json v;
    const char *sep = "{\"candidates\":[";
    json_walk_init(&w, list);
    for (; json_walk_next(&w, NULL, &v); sep = ",") {
        put_text(p, sep);
        put_logprob(p, v);
    }
    put_text(p, *sep == '{' ? "{\"candidates\":[]}" : "]}");
}

/* The next of items that are joined by commas. */
static bool next_item(struct span *rest, struct json *ret)
{
    struct span all = span_trim(*rest);
    if (all.n && all.p[0] == ',')
        all = span_from(all, 1);
    return span_trim(all).n && json_first(all, ret, rest) == PD_OK;
}

/* What was told of the first choice's tokens since the last time. */
static void put_logprobs(struct put *p, struct encoder *en, int choice)
{
    struct span rest = buf_span(&en->logprobs);
    struct json v;
    const char *sep = "";
    if (choice != 0 || rest.n == 0)
        return;
    put_text(p, ",\"logprobsResult\":{\"chosenCandidates\":[");
    for (; next_item(&rest, &v); sep = ",") {
        put_text(p, sep);
        put_logprob(p, v);
    }
    put_text(p, "],\"topCandidates\":[");
    rest = buf_span(&en->logprobs);
    for (sep = ""; next_item(&rest, &v); sep = ",") {
        put_text(p, sep);
        put_top(p, json_get(v, "top_logprobs"));
    }
    put_text(p, "]}");
    buf_clear(&en->logprobs);
}

static void put_index(struct put *p, int choice)
{
    put_text(p, ",\"index\":");
    put_int(p, choice);
}

static bool has_blocks(const struct encoder *en, int choice)
{
    for (const struct block *b = en->first; b; b = b->next)
        if (b->choice == choice)
            return true;
    return false;
}

static void put_finish(struct put *p, const struct encoder *en, const struct answer_facts *f, int choice)
{
    put_text(p, ",\"finishReason\":\"");
    put_text(p, finish_word(encoder_finish(f, choice)));
    put_text(p, "\"");
    put_index(p, choice);
    put_sources(p, en, choice);
}

/* ---- the object ------------------------------------------------------------------- */

/* Thoughts stand beside the candidates' tokens. */
static void put_usage(struct put *p, const struct msg_usage *u)
{
    uint64_t input = encoder_count(u->input_total), output = encoder_count(u->output_total);
    uint64_t thoughts = encoder_count(u->reasoning);
    if (u->input_total < 0 && u->output_total < 0)
        return;
    if (thoughts > output)
        thoughts = output;
    put_text(p, ",\"usageMetadata\":{\"promptTokenCount\":");
    put_uint(p, input);
    put_text(p, ",\"candidatesTokenCount\":");
    put_uint(p, output - thoughts);
    put_text(p, ",\"totalTokenCount\":");
    put_uint(p, input + output);
    if (u->cache_read > 0) {
        put_text(p, ",\"cachedContentTokenCount\":");
        put_uint(p, encoder_count(u->cache_read));
    }
    if (thoughts) {
        put_text(p, ",\"thoughtsTokenCount\":");
        put_uint(p, thoughts);
    }
    put_text(p, "}");
}

static void put_names(struct put *p, struct encoder *en)
{
    put_text(p, ",\"modelVersion\":");
    put_json(p, en->want.model);
    put_text(p, ",\"responseId\":\"");
    encoder_put_id(en, p, "");
    put_text(p, "\"}");
}

/* ---- streamed --------------------------------------------------------------------- */

static void begin_chunk(struct encoder *en)
{
    bool first = en->state[CHUNKS]++ == 0;
    put_text(&en->put, !en->want.array ? "data: " : first ? "[" : "\r\n,\r\n");
    put_text(&en->put, "{\"candidates\":[{");
}

static void end_chunk(struct encoder *en)
{
    put_names(&en->put, en);
    put_text(&en->put, en->want.array ? "" : "\r\n\r\n");
}

static void begin_part(struct encoder *en)
{
    begin_chunk(en);
    put_text(&en->put, "\"content\":{\"role\":\"model\",\"parts\":[");
}

static void end_part(struct encoder *en, const struct block *b)
{
    put_text(&en->put, "]}");
    put_index(&en->put, b->choice);
    put_logprobs(&en->put, en, b->choice);
    put_text(&en->put, "}]");
    end_chunk(en);
}

static void add(struct encoder *en, struct block *b, struct span piece)
{
    if (b->kind == BLOCK_TOOL || piece.n == 0)
        return; /* whole, at its end */
    begin_part(en);
    put_text_part(&en->put, b, piece, SPAN_NONE);
    end_part(en, b);
}

static void close_block(struct encoder *en, struct block *b)
{
    if (!says_at_end(en, b))
        return;
    begin_part(en);
    put_block(&en->put, en, b);
    end_part(en, b);
}

static void end(struct encoder *en, const struct answer_facts *f)
{
    struct put *p = &en->put;
    int highest = encoder_highest_choice(en);
    begin_chunk(en);
    for (int choice = 0; choice <= highest; choice++) {
        put_text(p, choice ? ",{" : "");
        put_text(p, has_blocks(en, choice) ? "\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]}"
                                           : "\"content\":{\"role\":\"model\"}");
        put_finish(p, en, f, choice);
        put_logprobs(p, en, choice);
        put_text(p, "}");
    }
    put_text(p, "]");
    put_usage(p, &f->usage);
    end_chunk(en);
    put_text(p, en->want.array ? "\r\n]" : "");
}

/* ---- whole ------------------------------------------------------------------------ */

static void put_whole_candidate(struct encoder *en, const struct answer_facts *f, int choice, struct put *p)
{
    const char *sep = ",\"parts\":[";
    put_text(p, "{\"content\":{\"role\":\"model\"");
    for (const struct block *b = en->first; b; b = b->next) {
        if (b->choice != choice || !says_at_end(en, b))
            continue;
        put_text(p, sep);
        put_block(p, en, b);
        sep = ",";
    }
    put_text(p, sep[1] ? "}" : "]}");
    put_finish(p, en, f, choice);
    put_logprobs(p, en, choice);
    put_text(p, "}");
}

static void whole(struct encoder *en, const struct answer_facts *f, struct put *p)
{
    int highest = encoder_highest_choice(en);
    put_text(p, "{\"candidates\":[");
    for (int choice = 0; choice <= highest; choice++) {
        put_text(p, choice ? "," : "");
        put_whole_candidate(en, f, choice, p);
    }
    put_text(p, "]");
    put_usage(p, &f->usage);
    put_names(p, en);
}

static void resumed(struct encoder *en)
{
    en->state[CHUNKS] += 1;
}

const struct encoder_ops gemini_encoder = {
    .resumed = resumed,
    .choices = true,
    .add = add,
    .close = close_block,
    .end = end,
    .whole = whole,
};
