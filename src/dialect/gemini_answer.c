/* Gemini's answers: one GenerateContentResponse, a chunk of a stream or the whole. Both have the same members.
 *
 * Nothing ends a stream but the end of its bytes, and a finish reason may come more than once: with code execution one was seen
 * in the middle, with text behind it. An answer is whole when every candidate has one. */
#include "dialect/gemini_priv.h"
#include "dialect/value_priv.h"

struct gemini_reader {
    struct reader r;
    uint64_t seen, finished;            /* candidates, by number */
    unsigned tools[ANSWER_CHOICES];     /* calls of each so far */
    unsigned citations[ANSWER_CHOICES]; /* sources of each so far: a later list repeats an earlier one */
    enum msg_finish word;               /* what the first candidate's own word says */
    bool blocked;                       /* the prompt was refused: there will be no candidate */
};

/* ---- words ------------------------------------------------------------------------ */

static enum msg_finish finish_of(struct json word)
{
    static const struct value_finish rows[] = {
        {"STOP", MSG_FINISH_STOP},
        {"MAX_TOKENS", MSG_FINISH_LENGTH},
        {"SAFETY", MSG_FINISH_CONTENT_FILTER},
        {"RECITATION", MSG_FINISH_CONTENT_FILTER},
        {"LANGUAGE", MSG_FINISH_CONTENT_FILTER},
        {"BLOCKLIST", MSG_FINISH_CONTENT_FILTER},
        {"PROHIBITED_CONTENT", MSG_FINISH_CONTENT_FILTER},
        {"SPII", MSG_FINISH_CONTENT_FILTER},
        {"MODEL_ARMOR", MSG_FINISH_CONTENT_FILTER},
        {"IMAGE_SAFETY", MSG_FINISH_CONTENT_FILTER},
        {"IMAGE_PROHIBITED_CONTENT", MSG_FINISH_CONTENT_FILTER},
        {"IMAGE_RECITATION", MSG_FINISH_CONTENT_FILTER},
        {"MALFORMED_FUNCTION_CALL", MSG_FINISH_ERROR},
        {"UNEXPECTED_TOOL_CALL", MSG_FINISH_ERROR},
        {"TOO_MANY_TOOL_CALLS", MSG_FINISH_ERROR},
        {"MISSING_THOUGHT_SIGNATURE", MSG_FINISH_ERROR},
        {"MALFORMED_RESPONSE", MSG_FINISH_ERROR},
    };
    return value_finish(rows, sizeof(rows) / sizeof(rows[0]), word);
}

/* Servers that write their enums as numbers. Behind these the two hosts count differently. */
static struct json finish_word(struct json v)
{
    static const char *const words[] = {"\"FINISH_REASON_UNSPECIFIED\"",
                                        "\"STOP\"",
                                        "\"MAX_TOKENS\"",
                                        "\"SAFETY\"",
                                        "\"RECITATION\"",
                                        "\"OTHER\"",
                                        "\"BLOCKLIST\"",
                                        "\"PROHIBITED_CONTENT\"",
                                        "\"SPII\""};
    enum { WORDS = sizeof(words) / sizeof(words[0]) };
    int64_t n;
    if (v.type != JSON_NUMBER || !json_i64(v, &n) || n < 0)
        return v;
    return (struct json){JSON_STRING, n < WORDS ? span_str(words[n]) : SPAN_LIT("\"OTHER\"")};
}

static bool says_something(struct json word, const char *nothing)
{
    return json_inner(word).n && !json_is(word, nothing);
}

/* ---- parts ------------------------------------------------------------------------ */

struct part {
    struct json text, thought, thoughtSignature, functionCall, inlineData, fileData;
    struct json executableCode, codeExecutionResult, toolCall, toolResponse;
};
static const struct gemini_field part_rows[] = {
    GEMINI_FIELD(struct part, text),
    GEMINI_FIELD(struct part, thought),
    GEMINI_FIELD(struct part, thoughtSignature),
    GEMINI_FIELD(struct part, functionCall),
    GEMINI_FIELD(struct part, inlineData),
    GEMINI_FIELD(struct part, fileData),
    GEMINI_FIELD(struct part, executableCode),
    GEMINI_FIELD(struct part, codeExecutionResult),
    GEMINI_FIELD(struct part, toolCall),
    GEMINI_FIELD(struct part, toolResponse),
};
#define TAKE(obj, rows, ret) gemini_take((obj), (rows), sizeof(rows) / sizeof((rows)[0]), (ret))

/* Whole in one part. Where arguments were asked for in pieces (partialArgs, which only this format's clients do), pieces without a name
 * belong to the call before, and are relayed without being put together. */
static pd_err read_call(struct gemini_reader *g, int choice, struct json v, int *ret_tool)
{
    struct json name = json_get(v, "name"), args = json_get(v, "args");
    unsigned count = g->tools[choice];
    g->r.facts.has_output = true;
    if (json_inner(name).n == 0)
        return PD_OK;
    if (count == ANSWER_TOOLS_MAX)
        return PD_TOOBIG;
    g->tools[choice]++;
    *ret_tool = (int)count;
    reader_emit_tool(&g->r, choice, (int)count, json_get(v, "id"), name);
    bool none = args.type != JSON_OBJECT;
    return reader_emit_arguments(&g->r, choice, (int)count,
                                 none ? (struct json){JSON_OBJECT, SPAN_LIT("{}")} : args);
}

static pd_err read_media(struct gemini_reader *g, int choice, struct json v)
{
    struct json type = gemini_get(v, "mimeType");
    struct span data;
    pd_err e = gemini_base64(json_get(v, "data"), g->r.arena, &data);
    if (e)
        return e == PD_NOMEM ? e : PD_OK;
    if (data.n)
        reader_emit(&g->r,
                    &(struct msg_delta){
                        .kind = MSG_MEDIA, .choice = choice, .tool = -1, .text = data, .type = json_inner(type)});
    return PD_OK;
}

/* A signature alone shows the client nothing: many an empty answer has one. */
static void read_signature(struct gemini_reader *g, int choice, int tool, struct json v)
{
    bool output = g->r.facts.has_output;
    if (!json_inner(v).n)
        return;
    reader_emit(&g->r, &(struct msg_delta){.kind = MSG_SIGNATURE,
                                           .choice = choice,
                                           .tool = tool,
                                           .text = json_inner(v),
                                           .maker = MSG_MAKER_GEMINI});
    g->r.facts.has_output = output;
}

static void tell_hosted(struct gemini_reader *g, int choice, struct json v, struct span name)
{
    if (v.type == JSON_OBJECT)
        reader_emit(&g->r, &(struct msg_delta){.kind = MSG_HOSTED, .choice = choice, .tool = -1, .text = name});
}

/* Tools that the provider ran itself show their work. */
static void read_hosted(struct gemini_reader *g, int choice, const struct part *p)
{
    tell_hosted(g, choice, p->executableCode, SPAN_LIT("code_execution"));
    tell_hosted(g, choice, p->codeExecutionResult, SPAN_LIT("code_execution"));
    tell_hosted(g, choice, p->toolCall, SPAN_LIT("hosted_tools"));
    tell_hosted(g, choice, p->toolResponse, SPAN_LIT("hosted_tools"));
    tell_hosted(g, choice, p->fileData, SPAN_LIT("media"));
}

static pd_err read_part(struct gemini_reader *g, int choice, struct json v)
{
    struct part p = {0};
    int tool = -1;
    pd_err e = PD_OK;
    TAKE(v, part_rows, &p);
    reader_emit_text(&g->r, json_is_true(p.thought) ? MSG_REASONING : MSG_TEXT, choice, p.text);
    if (p.functionCall.type == JSON_OBJECT)
        e = read_call(g, choice, p.functionCall, &tool);
    else if (p.inlineData.type == JSON_OBJECT)
        e = read_media(g, choice, p.inlineData);
    read_hosted(g, choice, &p);
    if (!e)
        read_signature(g, choice, tool, p.thoughtSignature);
    return e;
}

static pd_err read_parts(struct gemini_reader *g, int choice, struct json list)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        pd_err e = v.type == JSON_OBJECT ? read_part(g, choice, v) : PD_OK;
        if (e)
            return e;
    }
    return PD_OK;
}

/* ---- what stands beside the parts --------------------------------------------------- */

static void read_citations(struct gemini_reader *g, int choice, struct json list)
{
    struct json_walk w;
    struct json v;
    unsigned number = 0;
    json_walk_init(&w, list);
    for (; json_walk_next(&w, NULL, &v); number++) {
        struct json source = json_get(v, "web");
        if (source.type != JSON_OBJECT)
            source = gemini_get(v, "retrievedContext");
        struct json uri = json_get(source, "uri");
        if (number < g->citations[choice] || !json_inner(uri).n)
            continue;
        reader_emit(&g->r, &(struct msg_delta){.kind = MSG_CITATION,
                                               .choice = choice,
                                               .tool = -1,
                                               .text = json_inner(uri),
                                               .id = json_inner(json_get(source, "title"))});
    }
    if (number > g->citations[choice])
        g->citations[choice] = number;
}

static void put_logprob(struct put *p, struct json v)
{
    struct json token = json_get(v, "token"), logprob = gemini_get(v, "logProbability");
    put_text(p, "{\"token\":");
    put_span(p, token.type == JSON_STRING ? token.raw : SPAN_LIT("\"\""));
    put_text(p, ",\"logprob\":");
    put_span(p, logprob.type == JSON_NUMBER ? logprob.raw : SPAN_LIT("0"));
    put_text(p, ",\"bytes\":null");
}

/* One list of what was chosen, one of what stood beside it; in the neutral form each token has both. */
static pd_err read_logprobs(struct gemini_reader *g, int choice, struct json result)
{
    struct json_walk w, tops, top;
    struct json chosen, beside, candidate;
    const char *sep = "[";
    if (result.type != JSON_OBJECT || !g->r.on_delta)
        return PD_OK;
    buf_clear(&g->r.scratch);
    struct put p = put_into(&g->r.scratch);
    json_walk_init(&tops, gemini_get(result, "topCandidates"));
    json_walk_init(&w, gemini_get(result, "chosenCandidates"));
    for (; json_walk_next(&w, NULL, &chosen); sep = ",") {
        const char *inner = "";
        put_text(&p, sep);
        put_logprob(&p, chosen);
        put_text(&p, ",\"top_logprobs\":[");
        json_walk_init(&top,
                       json_walk_next(&tops, NULL, &beside) ? json_get(beside, "candidates") : (struct json){0});
        for (; json_walk_next(&top, NULL, &candidate); inner = ",") {
            put_text(&p, inner);
            put_logprob(&p, candidate);
            put_text(&p, "}");
        }
        put_text(&p, "]}");
    }
    put_text(&p, "]");
    if (p.err || *sep == '[')
        return p.err;
    reader_emit(&g->r, &(struct msg_delta){
                           .kind = MSG_LOGPROBS, .choice = choice, .tool = -1, .text = buf_span(&g->r.scratch)});
    return PD_OK;
}

/* ---- candidates ------------------------------------------------------------------- */

struct candidate {
    struct json index, content, finishReason, groundingMetadata, logprobsResult;
};

static pd_err take_finish(struct gemini_reader *g, int choice, struct json word)
{
    g->finished |= (uint64_t)1 << choice;
    g->r.facts.finishes[choice] = (uint8_t)finish_of(word);
    if (choice != 0)
        return PD_OK;
    g->word = finish_of(word);
    return reader_keep_finish(&g->r, word);
}

static pd_err read_candidate(struct gemini_reader *g, struct json v, unsigned *holds)
{
    static const struct gemini_field rows[] = {
        GEMINI_FIELD(struct candidate, index),          GEMINI_FIELD(struct candidate, content),
        GEMINI_FIELD(struct candidate, finishReason),   GEMINI_FIELD(struct candidate, groundingMetadata),
        GEMINI_FIELD(struct candidate, logprobsResult),
    };
    struct candidate c = {0};
    TAKE(v, rows, &c);
    int64_t index = gemini_int(c.index, 0);
    int choice = index >= 0 && index < ANSWER_CHOICES ? (int)index : -1;
    if (choice < 0) { /* relayed, but not followed */
        g->r.facts.has_output = true;
        return PD_OK;
    }
    g->seen |= (uint64_t)1 << choice;
    pd_err e = read_logprobs(g, choice, c.logprobsResult);
    if (!e)
        e = read_parts(g, choice, json_get(c.content, "parts"));
    if (e)
        return e;
    read_citations(g, choice, gemini_get(c.groundingMetadata, "groundingChunks"));
    struct json word = finish_word(c.finishReason);
    if (!says_something(word, "FINISH_REASON_UNSPECIFIED"))
        return PD_OK;
    *holds |= ANSWER_FINISH;
    return take_finish(g, choice, word);
}

static pd_err read_candidates(struct gemini_reader *g, struct json list, unsigned *holds)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    while (json_walk_next(&w, NULL, &v)) {
        pd_err e = v.type == JSON_OBJECT ? read_candidate(g, v, holds) : PD_OK;
        if (e)
            return e;
    }
    return PD_OK;
}

static pd_err read_feedback(struct gemini_reader *g, struct json feedback, unsigned *holds)
{
    struct json reason = gemini_get(feedback, "blockReason");
    if (!says_something(reason, "BLOCK_REASON_UNSPECIFIED") &&
        !says_something(reason, "BLOCKED_REASON_UNSPECIFIED"))
        return PD_OK;
    g->blocked = true;
    g->word = MSG_FINISH_CONTENT_FILTER;
    *holds |= ANSWER_FINISH;
    return reader_keep_finish(&g->r, reason);
}

/* ---- usage ------------------------------------------------------------------------ */

struct usage {
    struct json promptTokenCount, cachedContentTokenCount, candidatesTokenCount, thoughtsTokenCount;
    struct json toolUsePromptTokenCount, totalTokenCount;
};

/* Counts that are zero are left out. The prompt's includes what was cached; thoughts stand beside the candidates' tokens, and
 * what tools fed back beside the prompt's. */
static pd_err take_usage(struct gemini_reader *g, struct json v, unsigned *holds)
{
    static const struct gemini_field rows[] = {
        GEMINI_FIELD(struct usage, promptTokenCount),        GEMINI_FIELD(struct usage, cachedContentTokenCount),
        GEMINI_FIELD(struct usage, candidatesTokenCount),    GEMINI_FIELD(struct usage, thoughtsTokenCount),
        GEMINI_FIELD(struct usage, toolUsePromptTokenCount), GEMINI_FIELD(struct usage, totalTokenCount),
    };
    struct usage c = {0};
    TAKE(v, rows, &c);
    struct msg_usage u = MSG_USAGE_NONE;
    u.reasoning = gemini_int(c.thoughtsTokenCount, -1);
    u.input_total = reader_sum(gemini_int(c.promptTokenCount, -1), gemini_int(c.toolUsePromptTokenCount, -1));
    u.output_total = reader_sum(gemini_int(c.candidatesTokenCount, -1), u.reasoning);
    u.cache_read = gemini_int(c.cachedContentTokenCount, -1);
    bool any =
        u.input_total >= 0 || u.output_total >= 0 || u.cache_read >= 0 || c.totalTokenCount.type == JSON_NUMBER;
    return any ? reader_keep_usage(&g->r, v, &u, holds) : PD_OK;
}

/* ---- the object ------------------------------------------------------------------- */

struct response {
    struct json candidates, promptFeedback, usageMetadata, modelVersion, responseId, error;
};
static const struct gemini_field response_rows[] = {
    GEMINI_FIELD(struct response, candidates),    GEMINI_FIELD(struct response, promptFeedback),
    GEMINI_FIELD(struct response, usageMetadata), GEMINI_FIELD(struct response, modelVersion),
    GEMINI_FIELD(struct response, responseId),    GEMINI_FIELD(struct response, error),
};

static bool is_response(const struct response *v)
{
    return v->candidates.type == JSON_ARRAY || v->usageMetadata.type == JSON_OBJECT ||
           v->promptFeedback.type == JSON_OBJECT;
}

static bool is_event(struct json obj)
{
    struct response v = {0};
    TAKE(obj, response_rows, &v);
    return is_response(&v);
}

static pd_err read_response(struct gemini_reader *g, const struct response *v, unsigned *holds)
{
    pd_err e = reader_keep_word(&g->r, &g->r.facts.id, v->responseId);
    if (!e)
        e = reader_keep_word(&g->r, &g->r.facts.model, v->modelVersion);
    if (!e)
        e = read_candidates(g, v->candidates, holds);
    if (!e)
        e = read_feedback(g, v->promptFeedback, holds);
    return e ? e : take_usage(g, v->usageMetadata, holds);
}

static pd_err read_object(struct reader *r, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct gemini_reader *g = (struct gemini_reader *)r;
    struct response v = {0};
    unsigned holds = 0;
    bool had_output = r->facts.has_output;
    TAKE(obj, response_rows, &v);
    r->facts.has_output = false; /* for a moment: is there any in this object? */
    pd_err e = read_response(g, &v, &holds);
    if (r->facts.has_output)
        holds |= ANSWER_OUTPUT;
    r->facts.has_output |= had_output;
    if (e)
        return e;
    bool answers = is_response(&v) && v.error.type == JSON_NONE;
    *ret_error = (struct json){0};
    if (!answers)
        *ret_error = answer_error_in(obj);
    if (ret_error->type == JSON_NONE && span_is(type, "error"))
        *ret_error = obj;
    if (ret_error->type != JSON_NONE) {
        holds |= ANSWER_ERROR;
        r->facts.error = true;
    }
    r->facts.finish = g->word == MSG_FINISH_STOP && g->tools[0] ? MSG_FINISH_TOOL_CALLS : g->word;
    *ret_holds = holds;
    return PD_OK;
}

static enum answer_end end_of(const struct reader *r)
{
    const struct gemini_reader *g = (const struct gemini_reader *)r;
    const struct answer_facts *f = &r->facts;
    bool finished = g->blocked || (g->seen && (g->seen & ~g->finished) == 0);
    if (f->error)
        return ANSWER_FAILED;
    /* A model that gave up said so in place of a reason: what came is not the whole. */
    if (f->finish == MSG_FINISH_ERROR)
        return f->has_output ? ANSWER_CUT : ANSWER_EMPTY;
    if (f->has_output)
        return finished || r->whole ? ANSWER_COMPLETE : ANSWER_CUT;
    /* No output for a reason (a filter, the limit) is an answer; "STOP" without a word is none. */
    if (finished && f->finish != MSG_FINISH_STOP && f->finish != MSG_FINISH_TOOL_CALLS)
        return ANSWER_COMPLETE;
    return finished || r->whole || f->events == 0 ? ANSWER_EMPTY : ANSWER_CUT;
}

const struct reader_ops gemini_reader = {
    .bytes = sizeof(struct gemini_reader),
    .read = read_object,
    .end = end_of,
    .is_event = is_event,
};
