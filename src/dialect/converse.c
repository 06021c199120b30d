/* Bedrock's Converse: what requests say, edits, errors, and the words for media.
 *
 * The model and whether to stream stand in the path; the body has neither. */
#include "dialect/converse_priv.h"
#include "dialect/encoder.h"
#include "dialect/request_priv.h"
#include "dialect/request_splice.h"

#include "parse/eventstream.h"

/* ---- media -------------------------------------------------------------------------- */

#define OFFICE "application/vnd.openxmlformats-officedocument."
static const struct converse_format formats[] = {
    {MSG_IMAGE, "png", "image/png"},
    {MSG_IMAGE, "jpeg", "image/jpeg"},
    {MSG_IMAGE, "jpeg", "image/jpg"},
    {MSG_IMAGE, "gif", "image/gif"},
    {MSG_IMAGE, "webp", "image/webp"},
    {MSG_DOCUMENT, "pdf", "application/pdf"},
    {MSG_DOCUMENT, "csv", "text/csv"},
    {MSG_DOCUMENT, "doc", "application/msword"},
    {MSG_DOCUMENT, "docx", OFFICE "wordprocessingml.document"},
    {MSG_DOCUMENT, "xls", "application/vnd.ms-excel"},
    {MSG_DOCUMENT, "xlsx", OFFICE "spreadsheetml.sheet"},
    {MSG_DOCUMENT, "html", "text/html"},
    {MSG_DOCUMENT, "txt", "text/plain"},
    {MSG_DOCUMENT, "md", "text/markdown"},
    {MSG_VIDEO, "mp4", "video/mp4"},
    {MSG_VIDEO, "mov", "video/quicktime"},
    {MSG_VIDEO, "mkv", "video/x-matroska"},
    {MSG_VIDEO, "webm", "video/webm"},
    {MSG_VIDEO, "flv", "video/x-flv"},
    {MSG_VIDEO, "mpeg", "video/mpeg"},
    {MSG_VIDEO, "mpg", "video/mpg"},
    {MSG_VIDEO, "wmv", "video/x-ms-wmv"},
    {MSG_VIDEO, "three_gp", "video/3gpp"},
    {MSG_AUDIO, "mp3", "audio/mpeg"},
    {MSG_AUDIO, "mp3", "audio/mp3"},
    {MSG_AUDIO, "wav", "audio/wav"},
    {MSG_AUDIO, "wav", "audio/x-wav"},
    {MSG_AUDIO, "opus", "audio/opus"},
    {MSG_AUDIO, "aac", "audio/aac"},
    {MSG_AUDIO, "x-aac", "audio/x-aac"},
    {MSG_AUDIO, "flac", "audio/flac"},
    {MSG_AUDIO, "mp4", "audio/mp4"},
    {MSG_AUDIO, "m4a", "audio/m4a"},
    {MSG_AUDIO, "ogg", "audio/ogg"},
    {MSG_AUDIO, "mkv", "audio/x-matroska"},
    {MSG_AUDIO, "mka", "audio/mka"},
    {MSG_AUDIO, "mpeg", "audio/x-mpeg"},
    {MSG_AUDIO, "mpga", "audio/mpga"},
    {MSG_AUDIO, "pcm", "audio/pcm"},
    {MSG_AUDIO, "webm", "audio/webm"},
};
enum { FORMATS = sizeof(formats) / sizeof(formats[0]) };

const struct converse_format *converse_format_by_word(enum msg_media media, struct span word)
{
    for (const struct converse_format *f = formats; f < formats + FORMATS; f++)
        if (f->media == media && span_iis(word, f->word))
            return f;
    return NULL;
}

const struct converse_format *converse_format_by_type(enum msg_media media, struct span type)
{
    struct span plain = span_trim(span_cut(&type, ';'));
    for (const struct converse_format *f = formats; f < formats + FORMATS; f++)
        if (f->media == media && span_iis(plain, f->type))
            return f;
    return NULL;
}

/* ---- requests -------------------------------------------------------------------------- */

/* The members that are read, as the walk finds them: of duplicates the last. */
struct members {
    struct json messages, system, inference, tools, more, metadata;
};

static void member(void *ctx, struct span key, struct json v)
{
    static const struct request_field rows[] = {REQUEST_FIELD(struct members, messages),
                                                REQUEST_FIELD(struct members, system),
                                                {"inferenceConfig", offsetof(struct members, inference)},
                                                {"toolConfig", offsetof(struct members, tools)},
                                                {"additionalModelRequestFields", offsetof(struct members, more)},
                                                {"requestMetadata", offsetof(struct members, metadata)}};
    request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ctx);
}

static bool says_yes(struct json v)
{
    return v.type > JSON_NULL && !json_is(v, "none") && !json_is(json_get(v, "type"), "disabled");
}

static bool asks_for_reasoning(struct json more)
{
    static const char *const keys[] = {"thinking", "reasoning_config", "reasoningConfig", "reasoning_effort"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (says_yes(json_get(more, keys[i])))
            return true;
    return false;
}

static pd_err take_hint(struct request_facts *f, struct json metadata, struct arena *a, const char **ret_why)
{
    struct json hints[] = {json_get(metadata, "session_id"), json_get(metadata, "sessionId"),
                           json_get(metadata, "conversation_id"), json_get(metadata, "conversationId"),
                           json_get(metadata, "user_id")};
    return request_take_hint(f, hints, sizeof(hints) / sizeof(hints[0]), a, ret_why);
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
    f.tools = json_path(m.tools, "tools.0").type != JSON_NONE;
    f.reasoning = asks_for_reasoning(m.more);
    if (json_i64(json_get(m.inference, "maxTokens"), &n) && n >= 0)
        f.max_tokens = n;
    if (m.messages.type == JSON_ARRAY)
        request_take_prefix(&f, m.system, m.messages, false);
    e = take_hint(&f, m.metadata, a, ret_why);
    if (e)
        return e;
    *ret = f;
    return PD_OK;
}

/* Reasoning that we showed in the place of Claude's own, with a mark for a signature. */
static bool is_foreign(struct json block)
{
    struct json signature = json_path(block, "reasoningContent.reasoningText.signature");
    return span_starts(json_inner(signature), ENCODER_FOREIGN);
}

/* A message needs content: when nothing is left, what was reasoning stays as text. */
static pd_err reasoning_as_text(struct json content, struct arena *a, struct span *ret)
{
    struct json text = json_path(content, "0.reasoningContent.reasoningText.text");
    char *list =
        arena_printf(a, "[{\"text\":%.*s}]", SPAN_FMT(text.type == JSON_STRING ? text.raw : SPAN_LIT("\"-\"")));
    if (!list)
        return PD_NOMEM;
    *ret = span_str(list);
    return PD_OK;
}

static pd_err strip_message(struct json message, struct splices *s, struct arena *a)
{
    struct json content = json_get(message, "content");
    struct span left;
    unsigned count;
    if (!json_is(json_get(message, "role"), "assistant"))
        return PD_OK;
    pd_err e = splice_filter(content, is_foreign, a, &left, &count);
    if (e || !left.p)
        return e;
    if (count == 0)
        e = reasoning_as_text(content, a, &left);
    return e ? e : splice_add(s, a, content.raw, left);
}

static pd_err edit_request(const struct request_facts *f, const struct request_edit *ed, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    struct splices s = {0};
    struct json_walk w;
    struct json body = {JSON_OBJECT, span_trim(f->body)}, message;
    pd_err e = PD_OK;
    if (ed->strip_foreign && span_has(f->body, ENCODER_FOREIGN)) {
        json_walk_init(&w, json_get(body, "messages"));
        while (!e && json_walk_next(&w, NULL, &message))
            e = strip_message(message, &s, a);
    }
    return e ? e : splice_parts(&s, f->body, a, parts, ret_count);
}

/* ---- errors to clients -------------------------------------------------------------------- */

const char *bedrock_error_type(int status)
{
    switch (status) {
    case 401:
    case 403:
        return "AccessDeniedException";
    case 402:
        return "ServiceQuotaExceededException";
    case 404:
        return "ResourceNotFoundException";
    case 408:
    case 504:
        return "ModelTimeoutException";
    case 424:
        return "ModelErrorException";
    case 429:
        return "ThrottlingException";
    case 502:
    case 503:
    case 529:
        return "ServiceUnavailableException";
    default:
        return status >= 500 ? "InternalServerException" : "ValidationException";
    }
}

pd_err bedrock_put_error(const struct client_error *e, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "{\"__type\":");
    put_json(&p, span_str(bedrock_error_type(e->status)));
    put_text(&p, ",\"message\":");
    put_json(&p, e->message.p ? e->message : SPAN_LIT(""));
    if (e->attempts_json.p) {
        put_text(&p, ",\"attempts\":");
        put_span(&p, e->attempts_json);
    }
    put_text(&p, "}");
    return p.err;
}

/* In a stream the words begin with a small letter, and are fewer. */
static const char *exception_name(int status)
{
    if (status == 429)
        return "throttlingException";
    if (status == 424)
        return "modelStreamErrorException";
    if (status >= 500)
        return status == 500 ? "internalServerException" : "serviceUnavailableException";
    return status == 408 ? "serviceUnavailableException" : "validationException";
}

pd_err bedrock_put_error_event(const struct client_error *e, struct buf *out)
{
    struct buf payload;
    buf_init(&payload, 0);
    pd_err err = bedrock_put_error(e, &payload);
    if (!err)
        err = eventstream_put(out, "exception", span_str(exception_name(e->status)), SPAN_LIT("application/json"),
                              buf_span(&payload));
    buf_done(&payload);
    return err;
}

const struct codec codec_bedrock_converse = {
    .name = "bedrock-converse",
    .kind = CODEC_CHAT,
    .maker = MSG_MAKER_ANTHROPIC,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_request = converse_parse_request,
    .parse_tools = converse_parse_tools,
    .write_request = converse_write_request,
    .turns_member = "messages",
    .streams = true,
    .reader = &converse_reader_ops,
    .collector = &converse_collector,
    .encoder = &converse_encoder,
    .stream_type = EVENTSTREAM_TYPE,
    .request_id_header = "x-amzn-requestid",
    .error_type_header = "x-amzn-errortype",
    .error_type = bedrock_error_type,
    .put_error = bedrock_put_error,
    .put_error_event = bedrock_put_error_event,
};
