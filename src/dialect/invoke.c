/* Bedrock's InvokeModel: every family of models in its own words, known by the shape of its objects.
 *
 * Answers are read for what they say; requests pass as they are, for nothing but their maker's model understands them. Streams
 * come as FRAMING_CHUNKS. Families whose format has a reader here already are handed to it: Claude, and the many that answer as
 * OpenAI chat; Nova's events are Converse's, each as the one member of an object. */
#include "dialect/anthropic_priv.h"
#include "dialect/converse_priv.h"
#include "dialect/request_priv.h"
#include "dialect/request_splice.h"
#include "dialect/value_priv.h"

#include "parse/eventstream.h"

/* ---- requests ---------------------------------------------------------------------- */

struct members {
    struct json messages, system, tools, max_tokens, thinking;
};

static void member(void *ctx, struct span key, struct json v)
{
    static const struct request_field rows[] = {REQUEST_FIELD(struct members, messages),
                                                REQUEST_FIELD(struct members, system),
                                                REQUEST_FIELD(struct members, tools),
                                                REQUEST_FIELD(struct members, max_tokens),
                                                {"max_gen_len", offsetof(struct members, max_tokens)},
                                                REQUEST_FIELD(struct members, thinking)};
    request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ctx);
}

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    struct members m = {0};
    struct request_facts f;
    int64_t n;
    pd_err e = request_read(body, a, member, &m, &f, ret_why);
    if (e)
        return e;
    request_take_line(&f, line);
    f.include_usage = true;
    f.tools = json_path(m.tools, "0").type != JSON_NONE;
    f.reasoning = m.thinking.type == JSON_OBJECT && !json_is(json_get(m.thinking, "type"), "disabled");
    if (json_i64(m.max_tokens, &n) && n >= 0)
        f.max_tokens = n;
    if (m.messages.type == JSON_ARRAY)
        request_take_prefix(&f, m.system, m.messages, false);
    *ret = f;
    return PD_OK;
}

static pd_err edit_request(const struct request_facts *f, const struct request_edit *ed, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    (void)ed;
    return splice_parts(&(struct splices){0}, f->body, a, parts, ret_count);
}

/* ---- answers ------------------------------------------------------------------------ */

struct invoke_reader {
    struct converse_reader nova; /* begins with struct reader; Nova's, and what is kept of all */
    struct reader *other;        /* of Claude or of OpenAI's kind; NULL: neither */
    bool plain;                  /* a family that is read here */
    bool said_stop;              /* a stop sequence of the client's was met */
};

static const char metrics_key[] = "amazon-bedrock-invocationMetrics";

static void done(struct reader *base)
{
    struct invoke_reader *r = (struct invoke_reader *)base;
    r->other = reader_free(r->other);
    converse_reader_done(&r->nova);
}

/* ---- families that have a reader ---- */

static pd_err read_other(struct invoke_reader *r, struct span type, struct json obj, unsigned *holds,
                         struct json *error)
{
    struct reader *base = &r->nova.base, *other = r->other;
    other->on_delta = base->on_delta;
    other->ctx = base->ctx;
    pd_err e = other->codec->reader->read(other, type, obj, holds, error);
    struct answer_facts counted = base->facts;
    base->facts = other->facts;
    base->facts.events = counted.events;
    base->facts.malformed = counted.malformed;
    base->facts.comments = counted.comments;
    base->facts.error |= counted.error;
    base->facts.done |= counted.done;
    return e;
}

static bool is_claude(struct json obj)
{
    struct json type = json_get(obj, "type");
    return type.type == JSON_STRING &&
           (json_is(type, "message") || json_is(type, "ping") || json_is(type, "error") ||
            span_starts(json_inner(type), "message_") || span_starts(json_inner(type), "content_block_"));
}

/* Choices with a message or a delta; those of Mistral and DeepSeek with a bare text are read here. */
static bool is_chat(struct json obj)
{
    struct json choice = json_path(obj, "choices.0");
    return json_get(obj, "choices").type == JSON_ARRAY && json_get(choice, "text").type == JSON_NONE;
}

static pd_err choose(struct invoke_reader *r, struct json obj)
{
    struct reader *base = &r->nova.base;
    const struct codec *c = is_claude(obj) ? &codec_anthropic : is_chat(obj) ? &codec_openai_chat : NULL;
    return c && !r->plain && !r->other ? reader_new(c, base->arena, base->whole, &r->other) : PD_OK;
}

/* ---- Nova ---- */

/* {"contentBlockDelta": {...}}. */
static bool is_nova(struct json obj)
{
    static const char *const events[] = {"messageStart",     "contentBlockStart", "contentBlockDelta",
                                         "contentBlockStop", "messageStop",       "metadata"};
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
        if (json_get(obj, events[i]).type == JSON_OBJECT)
            return true;
    return false;
}

static pd_err read_nova(struct invoke_reader *r, struct json obj, unsigned *holds)
{
    struct json_walk w;
    struct span key;
    struct json v;
    pd_err e = PD_OK;
    json_walk_init(&w, obj);
    while (!e && json_walk_next(&w, &key, &v))
        if (v.type == JSON_OBJECT)
            e = converse_read_event(&r->nova, key, v, holds);
    return e;
}

/* ---- families of one text ---- */

static enum msg_finish finish_of(struct json word)
{
    static const struct value_finish rows[] = {
        {"FINISH", MSG_FINISH_STOP},
        {"FINISHED", MSG_FINISH_STOP},
        {"LENGTH", MSG_FINISH_LENGTH},
        {"STOP_CRITERIA_MET", MSG_FINISH_STOP},
        {"CONTENT_FILTERED", MSG_FINISH_CONTENT_FILTER},
        {"COMPLETE", MSG_FINISH_STOP},
        {"MAX_TOKENS", MSG_FINISH_LENGTH},
        {"STOP_SEQUENCE", MSG_FINISH_STOP},
        {"TOOL_CALL", MSG_FINISH_TOOL_CALLS},
        {"ERROR", MSG_FINISH_ERROR},
        {"ERROR_LIMIT", MSG_FINISH_LENGTH},
        {"ERROR_TOXIC", MSG_FINISH_CONTENT_FILTER},
        {"USER_CANCEL", MSG_FINISH_ERROR},
        {"stop", MSG_FINISH_STOP},
        {"length", MSG_FINISH_LENGTH},
        {"stop_sequence", MSG_FINISH_STOP},
        {"max_tokens", MSG_FINISH_LENGTH},
        {"end_turn", MSG_FINISH_STOP},
        {"tool_calls", MSG_FINISH_TOOL_CALLS},
        {"content_filter", MSG_FINISH_CONTENT_FILTER},
    };
    return value_finish(rows, sizeof(rows) / sizeof(rows[0]), word);
}

/* Where each family has its text and its reason. */
static const struct family {
    const char *mark; /* a member that only this one has */
    const char *text, *finish;
} families[] = {
    {"outputText", "outputText", "completionReason"},                     /* Titan, streamed */
    {"results", "results.0.outputText", "results.0.completionReason"},    /* and whole */
    {"generation", "generation", "stop_reason"},                          /* Llama */
    {"outputs", "outputs.0.text", "outputs.0.stop_reason"},               /* Mistral */
    {"choices", "choices.0.text", "choices.0.stop_reason"},               /* DeepSeek */
    {"completion", "completion", "stop_reason"},                          /* Claude of old */
    {"generations", "generations.0.text", "generations.0.finish_reason"}, /* Cohere, whole */
    {"text", "text", "finish_reason"},                                    /* Cohere, streamed, and Command R */
    {"is_finished", "text", "finish_reason"},
};

static const struct family *family_of(struct json obj)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (json_get(obj, families[i].mark).type != JSON_NONE)
            return &families[i];
    return NULL;
}

static pd_err take_finish(struct invoke_reader *r, struct json word, unsigned *holds)
{
    struct answer_facts *f = &r->nova.base.facts;
    if (json_inner(word).n == 0)
        return PD_OK;
    r->nova.word = f->finish = finish_of(word);
    r->said_stop = json_is(word, "stop_sequence") || json_is(word, "STOP_SEQUENCE");
    *holds |= ANSWER_FINISH;
    return reader_keep_finish(&r->nova.base, word);
}

static pd_err take_counts(struct invoke_reader *r, struct json usage, const char *input, const char *output,
                          unsigned *holds)
{
    struct msg_usage u = MSG_USAGE_NONE;
    u.input_total = reader_count(usage, input);
    u.output_total = reader_count(usage, output);
    if (u.input_total < 0 && u.output_total < 0)
        return PD_OK;
    return reader_keep_usage(&r->nova.base, usage, &u, holds);
}

/* Bedrock's own counts stand in the last object, whatever the family. */
static pd_err take_metrics(struct invoke_reader *r, struct json obj, unsigned *holds)
{
    struct json metrics = json_get(obj, metrics_key);
    if (metrics.type != JSON_OBJECT)
        return PD_OK;
    *holds |= ANSWER_DONE;
    r->nova.base.facts.done = true;
    return take_counts(r, metrics, "inputTokenCount", "outputTokenCount", holds);
}

/* Of a family that nobody knows, any object is an answer: it goes to who asked for that model in its own words. */
static void read_unknown(struct invoke_reader *r, struct json obj, unsigned *holds)
{
    (void)obj;
    r->nova.base.facts.has_output = true;
    *holds |= ANSWER_OUTPUT;
}

static pd_err read_plain(struct invoke_reader *r, struct json obj, unsigned *holds)
{
    struct reader *base = &r->nova.base;
    const struct family *family = family_of(obj);
    uint64_t before = base->facts.output_bytes;
    pd_err e = PD_OK;
    r->plain = true;
    if (family) {
        reader_emit_text(base, MSG_TEXT, 0, json_path(obj, family->text));
        e = take_finish(r, json_path(obj, family->finish), holds);
    } else if (json_get(obj, metrics_key).type == JSON_NONE) {
        read_unknown(r, obj, holds);
    }
    if (base->facts.output_bytes != before)
        *holds |= ANSWER_OUTPUT;
    if (!e && base->whole && json_get(obj, "inputTextTokenCount").type == JSON_NUMBER) {
        e = take_counts(r, obj, "inputTextTokenCount", "results.0.tokenCount", holds);
    } else if (!e && base->whole) {
        e = take_counts(r, obj, "prompt_token_count", "generation_token_count", holds);
    }
    return e ? e : take_metrics(r, obj, holds);
}

/* {"message"} and nothing else that an answer has. */
static bool is_error(struct json obj)
{
    return !family_of(obj) && json_get(obj, "choices").type == JSON_NONE &&
           (json_get(obj, "message").type == JSON_STRING || json_get(obj, "Message").type == JSON_STRING ||
            json_get(obj, "__type").type == JSON_STRING);
}

static pd_err read_object(struct reader *base, struct span type, struct json obj, unsigned *ret_holds,
                          struct json *ret_error)
{
    struct invoke_reader *r = (struct invoke_reader *)base;
    *ret_holds = 0;
    *ret_error = (struct json){0};
    pd_err e = choose(r, obj);
    if (e)
        return e;
    if (r->other)
        return read_other(r, type, obj, ret_holds, ret_error);
    if (is_nova(obj))
        return read_nova(r, obj, ret_holds);
    if (is_error(obj)) {
        *ret_error = obj;
        *ret_holds = ANSWER_ERROR;
        base->facts.error = true;
        return PD_OK;
    }
    if (base->whole && json_get(obj, "output").type == JSON_OBJECT) /* Nova's whole answer is Converse's */
        return codec_bedrock_converse.reader->read(base, SPAN_NONE, obj, ret_holds, ret_error);
    return read_plain(r, obj, ret_holds);
}

static enum answer_end end(const struct reader *base)
{
    const struct invoke_reader *r = (const struct invoke_reader *)base;
    const struct answer_facts *f = &base->facts;
    if (f->error)
        return ANSWER_FAILED;
    if (r->other)
        return r->other->codec->reader->end(r->other);
    if (!r->plain)
        return converse_end(base);
    if (r->nova.word == MSG_FINISH_ERROR)
        return ANSWER_CUT;
    bool over = r->nova.word != MSG_FINISH_NONE || f->done || base->whole;
    if (!over)
        return f->has_output || f->events ? ANSWER_CUT : ANSWER_EMPTY;
    bool said_why = r->said_stop || r->nova.word == MSG_FINISH_LENGTH || r->nova.word == MSG_FINISH_CONTENT_FILTER;
    return f->has_output || said_why ? ANSWER_COMPLETE : ANSWER_EMPTY;
}

static void init(struct reader *base)
{
    converse_reader_ops.init(base);
}

static const struct reader_ops reader = {
    .bytes = sizeof(struct invoke_reader),
    .init = init,
    .done = done,
    .read = read_object,
    .end = end,
};

const struct codec codec_bedrock_invoke = {
    .name = "bedrock-invoke",
    .kind = CODEC_CHAT,
    .maker = MSG_MAKER_ANTHROPIC,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_tools = anthropic_parse_tools,
    .streams = true,
    .reader = &reader,
    .stream_type = EVENTSTREAM_TYPE,
    .request_id_header = "x-amzn-requestid",
    .error_type_header = "x-amzn-errortype",
    .error_type = bedrock_error_type,
    .put_error = bedrock_put_error,
    .put_error_event = bedrock_put_error_event,
};
