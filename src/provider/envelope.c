#include "provider/envelope.h"

enum { LOOSE_MAX = 4096, NESTING_MAX = 4, ITEMS_MAX = 16 };

/* ---- finding the document ------------------------------------------------------ */

static bool starts_json(struct span s)
{
    return s.n > 0 && (s.p[0] == '{' || s.p[0] == '[' || s.p[0] == '"');
}

static struct span skip_mark(struct span body)
{
    return span_trim(span_starts(body, "\xef\xbb\xbf") ? span_from(body, 3) : body);
}

/* The first data line that holds JSON; the body itself when it is no SSE. */
static struct span without_frame(struct span body)
{
    if (!span_starts(body, "data:") && !span_starts(body, "event:") && !span_starts(body, ":") &&
        !span_starts(body, "id:"))
        return body;
    struct span rest = body;
    while (rest.n > 0) {
        struct span line = span_trim(span_cut(&rest, '\n'));
        if (!span_starts(line, "data:"))
            continue;
        line = span_trim(span_from(line, 5));
        if (starts_json(line))
            return line;
    }
    return body;
}

struct json envelope_document(struct span body)
{
    struct json doc = {.type = JSON_NONE};
    body = without_frame(skip_mark(body));
    if (!starts_json(body) || json_first(body, &doc, NULL) != PD_OK)
        return (struct json){.type = JSON_NONE};
    return doc;
}

/* ---- values as text ------------------------------------------------------------- */

static struct span text_of(struct json v, struct arena *a)
{
    struct span s;
    if (v.type == JSON_NUMBER || v.type == JSON_BOOL)
        return v.raw;
    if (v.type != JSON_STRING)
        return SPAN_NONE;
    return json_text(v, a, &s) == PD_OK ? s : json_inner(v);
}

static struct span get_text(struct json obj, const char *key, struct arena *a)
{
    return text_of(json_get(obj, key), a);
}

static int status_of(struct json v)
{
    int64_t n;
    uint64_t u;
    if (v.type == JSON_STRING)
        return span_u64(json_inner(v), &u) && u >= 400 && u <= 599 ? (int)u : 0;
    return json_i64(v, &n) && n >= 400 && n <= 599 ? (int)n : 0;
}

/* ---- shapes ------------------------------------------------------------------------ */

static void read_value(struct json v, struct arena *a, unsigned depth, struct envelope *ret);

static bool take_message(struct span s, struct envelope *ret)
{
    s = span_trim(s);
    if (ret->message.n == 0 && s.n > 0)
        ret->message = s;
    return ret->message.n > 0;
}

/* FastAPI: [{"loc": ["body", "temperature"], "msg": "...", "type": "...", "input": ...}]. The input is the client's text: not read. */
static void read_validation(struct json item, struct arena *a, struct envelope *ret)
{
    struct span msg = get_text(item, "msg", a), where = SPAN_NONE, part;
    struct json_walk w;
    struct json v;
    json_walk_init(&w, json_get(item, "loc"));
    while (json_walk_next(&w, NULL, &v))
        if ((part = text_of(v, a)).n > 0)
            where = part;
    char *both = where.n > 0 && msg.n > 0 ? arena_printf(a, "%.*s: %.*s", SPAN_FMT(where), SPAN_FMT(msg)) : NULL;
    take_message(both ? span_str(both) : msg, ret);
    if (ret->param.n == 0)
        ret->param = where;
    if (ret->type.n == 0)
        ret->type = get_text(item, "type", a);
}

static void read_array(struct json list, struct arena *a, unsigned depth, struct envelope *ret)
{
    struct json_walk w;
    struct json v;
    json_walk_init(&w, list);
    for (unsigned i = 0; i < ITEMS_MAX && ret->message.n == 0 && json_walk_next(&w, NULL, &v); i++) {
        if (json_get(v, "msg").type == JSON_STRING && json_get(v, "loc").type == JSON_ARRAY)
            read_validation(v, a, ret);
        else
            read_value(v, a, depth + 1, ret);
    }
}

/* A message that is JSON again: {"detail": [...]} in a string, as Mistral's proxy sends it. */
static void read_string(struct json v, struct arena *a, unsigned depth, struct envelope *ret)
{
    struct span s = span_trim(text_of(v, a));
    struct json inner;
    if (depth < NESTING_MAX && s.n > 1 && (s.p[0] == '{' || s.p[0] == '[') && json_check(s) == PD_OK &&
        json_first(s, &inner, NULL) == PD_OK) {
        read_value(inner, a, depth + 1, ret);
        if (ret->message.n > 0)
            return;
    }
    take_message(s, ret);
}

static void set_once(struct span *field, struct span value)
{
    if (field->n == 0)
        *field = value;
}

/* Google: a list of typed objects, one of which has the reason. Anthropic: an object with a code. */
static struct span reason_of(struct json obj, struct arena *a)
{
    struct json details = json_get(obj, "details"), item;
    struct json_walk w;
    if (details.type == JSON_OBJECT)
        return get_text(details, "error_code", a);
    if (details.type != JSON_ARRAY)
        return SPAN_NONE;
    json_walk_init(&w, details);
    for (unsigned i = 0; i < ITEMS_MAX && json_walk_next(&w, NULL, &item); i++) {
        struct json reason = json_get(item, "reason");
        if (reason.type == JSON_STRING)
            return text_of(reason, a);
    }
    return SPAN_NONE;
}

/* AWS: "com.amazonaws.bedrock#ThrottlingException", "ThrottlingException:http://...". */
struct span envelope_aws_type(struct span type)
{
    struct span name = span_cut(&type, ':'), rest = name;
    span_cut(&rest, '#');
    return rest.p ? rest : name;
}

/* What an event of a stream is called says nothing of the error in it. */
static bool names_event(struct span type)
{
    return span_is(type, "error") || span_starts(type, "response.");
}

/* google.rpc.Code: "RESOURCE_EXHAUSTED". */
static bool is_google_status(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(s.p[i] >= 'A' && s.p[i] <= 'Z') && s.p[i] != '_')
            return false;
    return s.n > 0;
}

static void read_type(struct json obj, struct arena *a, struct envelope *ret)
{
    struct span type = get_text(obj, "type", a), status = get_text(obj, "status", a);
    if (!names_event(type))
        set_once(&ret->type, type);
    set_once(&ret->type, envelope_aws_type(get_text(obj, "__type", a)));
    if (is_google_status(status))
        set_once(&ret->type, status);
}

/* code, type and relatives, wherever they stand; the innermost object comes first and wins. */
static void read_facts(struct json obj, struct arena *a, struct envelope *ret)
{
    static const char *const statuses[] = {
        "originalStatusCode", "status_code", "raw_status_code", "status", "statusCode", "http_status", "code"};
    for (size_t i = 0; ret->status == 0 && i < sizeof statuses / sizeof statuses[0]; i++)
        ret->status = status_of(json_get(obj, statuses[i]));
    read_type(obj, a, ret);
    set_once(&ret->reason, reason_of(obj, a));
    set_once(&ret->request_id, get_text(obj, "request_id", a));
    set_once(&ret->code, get_text(obj, "code", a));
    set_once(&ret->code, get_text(obj, "error_code", a));
    set_once(&ret->param, get_text(obj, "param", a));
    set_once(&ret->inner_code, text_of(json_path(obj, "innererror.code"), a));
    if (json_get(obj, "status").type == JSON_STRING)
        set_once(&ret->inner_code, get_text(obj, "status", a)); /* Google: "RESOURCE_EXHAUSTED" */
    if (json_get(obj, "reason").type == JSON_STRING)
        set_once(&ret->inner_code, get_text(obj, "reason", a));

    struct json metadata = json_get(obj, "metadata");
    set_once(&ret->more, json_inner(json_get(metadata, "raw")));
    set_once(&ret->more, json_inner(json_get(obj, "originalMessage")));
    set_once(&ret->limit_source, get_text(metadata, "limit_source", a));
    if (json_get(metadata, "flagged_input").type != JSON_NONE || json_get(metadata, "reasons").type == JSON_ARRAY)
        ret->flagged = true;
}

/* The members that carry the message, most telling first. */
static const char *const message_keys[] = {"error",        "errors",  "message",           "detail",
                                           "msg",          "Message", "error_description", "error_message",
                                           "errorMessage", "title"};

/* Only these make an object an error by their presence; a success may well have a "message" or a "title". */
static bool says_error(struct json obj)
{
    struct json error = json_get(obj, "error"), errors = json_get(obj, "errors");
    if (error.type == JSON_OBJECT || (error.type == JSON_STRING && json_inner(error).n > 0) ||
        errors.type == JSON_ARRAY)
        return true;
    if (json_is(json_get(obj, "object"), "error") || json_is(json_get(obj, "type"), "error"))
        return true;
    return json_get(obj, "choices").type != JSON_ARRAY && json_get(obj, "data").type != JSON_ARRAY &&
           (json_get(obj, "message").type != JSON_NONE || json_get(obj, "detail").type != JSON_NONE ||
            json_get(obj, "msg").type != JSON_NONE);
}

/* OpenRouter puts the error of one choice into it; DeepSeek gives up with a finish reason and no words. */
static void read_choices(struct json obj, struct arena *a, unsigned depth, struct envelope *ret)
{
    struct json_walk w;
    struct json choice;
    json_walk_init(&w, json_get(obj, "choices"));
    while (!ret->error && json_walk_next(&w, NULL, &choice)) {
        struct json error = json_get(choice, "error"), finish = json_get(choice, "finish_reason");
        if (error.type == JSON_OBJECT || error.type == JSON_STRING)
            read_value(error, a, depth + 1, ret);
        ret->error =
            ret->message.n > 0 || json_is(finish, "error") || json_is(finish, "insufficient_system_resource");
        if (ret->error && ret->message.n == 0)
            ret->code = text_of(finish, a);
    }
}

static void read_object(struct json obj, struct arena *a, unsigned depth, struct envelope *ret)
{
    struct json of_response = json_path(obj, "response.error");
    if (says_error(obj))
        ret->error = true;
    else if (of_response.type == JSON_OBJECT) {
        ret->error = true;
        read_value(of_response, a, depth + 1, ret);
    } else
        read_choices(obj, a, depth, ret);
    for (size_t i = 0; i < sizeof message_keys / sizeof message_keys[0]; i++) {
        struct json v = json_get(obj, message_keys[i]);
        bool carries = v.type == JSON_STRING || v.type == JSON_OBJECT || v.type == JSON_ARRAY;
        if (ret->message.n == 0 && carries)
            read_value(v, a, depth + 1, ret);
    }
    read_facts(obj, a, ret);
}

static void read_value(struct json v, struct arena *a, unsigned depth, struct envelope *ret)
{
    if (depth > NESTING_MAX)
        return;
    switch (v.type) {
    case JSON_OBJECT:
        read_object(v, a, depth, ret);
        break;
    case JSON_ARRAY:
        read_array(v, a, depth, ret);
        break;
    case JSON_STRING:
        read_string(v, a, depth, ret);
        break;
    case JSON_NONE:
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_NUMBER:
        break;
    }
}

/* ---- what is not, or not quite, JSON -------------------------------------------------- */

/* A string member somewhere near the start of an object that was cut off before its end. */
static struct span loose_string(struct span text, const char *quoted_key, struct arena *a)
{
    struct json v;
    size_t n = strlen(quoted_key);
    struct span near = span_upto(text, LOOSE_MAX);
    for (size_t at = 0; at + n < near.n; at++) {
        if (memcmp(near.p + at, quoted_key, n) != 0)
            continue;
        struct span rest = span_trim(span_from(text, at + n));
        if (rest.n == 0 || rest.p[0] != ':')
            continue;
        rest = span_trim(span_from(rest, 1));
        if (rest.n > 0 && rest.p[0] == '"' && json_first(rest, &v, NULL) == PD_OK)
            return text_of(v, a);
    }
    return SPAN_NONE;
}

static void read_cut_json(struct span text, struct arena *a, struct envelope *ret)
{
    ret->shape = ENVELOPE_JSON;
    ret->error = span_has(span_upto(text, LOOSE_MAX), "\"error\"");
    ret->message = loose_string(text, "\"message\"", a);
    ret->type = loose_string(text, "\"type\"", a);
    ret->code = loose_string(text, "\"code\"", a);
}

static bool is_html(struct span s)
{
    static const char *const starts[] = {"<!doctype", "<html",   "<head", "<body", "<title",
                                         "<h1",       "<center", "<!--",  "<?xml"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (span_iis(span_upto(s, strlen(starts[i])), starts[i]))
            return true;
    return false;
}

/* What stands between <tag ...> and the next '<'. */
static struct span element(struct span html, const char *open_tag)
{
    size_t n = strlen(open_tag);
    for (size_t at = 0; at + n < html.n; at++) {
        if (!span_iis(span_upto(span_from(html, at), n), open_tag))
            continue;
        struct span rest = span_from(html, at + n);
        span_cut(&rest, '>');
        return span_trim(span_cut(&rest, '<'));
    }
    return SPAN_NONE;
}

static void read_html(struct span html, struct envelope *ret)
{
    static const char *const tags[] = {"<title", "<h1", "<h2", "<message", "<p"};
    ret->shape = ENVELOPE_HTML;
    for (size_t i = 0; ret->message.n == 0 && i < sizeof tags / sizeof tags[0]; i++)
        ret->message = element(html, tags[i]);
}

void envelope_read(struct span body, struct arena *a, struct envelope *ret)
{
    *ret = (struct envelope){.shape = ENVELOPE_NOTHING};
    struct span text = without_frame(skip_mark(body));
    if (text.n == 0)
        return;

    struct json doc = envelope_document(body);
    if (doc.type != JSON_NONE) {
        ret->shape = ENVELOPE_JSON;
        read_value(doc, a, 0, ret);
    } else if (starts_json(text)) {
        read_cut_json(text, a, ret);
    } else if (is_html(text)) {
        read_html(text, ret);
    } else {
        ret->shape = ENVELOPE_TEXT;
        ret->message = text;
    }
}
