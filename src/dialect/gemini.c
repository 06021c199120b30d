/* Gemini's generateContent: what requests say, what is edited in them, and errors. */
#include "dialect/gemini.h"
#include "dialect/embed.h"
#include "dialect/gemini_priv.h"
#include "dialect/request_priv.h"
#include "dialect/value_priv.h"

/* ---- names -------------------------------------------------------------------- */

bool gemini_key(struct span key, const char *camel)
{
    size_t i = 0;
    for (; *camel; camel++, i++) {
        if (i == key.n)
            return false;
        char c = key.p[i];
        if (c == *camel)
            continue;
        bool snake =
            c == '_' && *camel >= 'A' && *camel <= 'Z' && i + 1 < key.n && key.p[i + 1] == *camel - 'A' + 'a';
        if (!snake)
            return false;
        i++;
    }
    return i == key.n;
}

struct json gemini_get(struct json obj, const char *camel)
{
    struct json found = {0}, v;
    struct json_walk w;
    struct span key;
    if (obj.type != JSON_OBJECT)
        return found;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &v))
        if (v.type != JSON_NULL && gemini_key(key, camel))
            found = v;
    return found;
}

static const struct gemini_field *row_of(const struct gemini_fields *fields, struct span key)
{
    for (size_t i = 0; i < fields->count; i++)
        if (gemini_key(key, fields->rows[i].name))
            return &fields->rows[i];
    return NULL;
}

pd_err gemini_read(struct json obj, const struct gemini_fields *fields, void *ret)
{
    struct json v;
    struct json_walk w;
    struct span key;
    if (obj.type != JSON_OBJECT)
        return PD_OK;
    json_walk_init(&w, obj);
    while (json_walk_next(&w, &key, &v)) {
        const struct gemini_field *row = v.type == JSON_NULL ? NULL : row_of(fields, key);
        if (row)
            memcpy((char *)ret + row->at, &v, sizeof(v));
        pd_err e = row || v.type == JSON_NULL || !fields->other ? PD_OK : fields->other(fields->ctx, key, v);
        if (e)
            return e;
    }
    return PD_OK;
}

void gemini_take(struct json obj, const struct gemini_field *rows, size_t count, void *ret)
{
    struct gemini_fields fields = {.rows = rows, .count = count};
    pd_err e = gemini_read(obj, &fields, ret);
    (void)e; /* nothing in it can fail */
}

int64_t gemini_int(struct json v, int64_t otherwise)
{
    int64_t n;
    if (v.type == JSON_STRING)
        v = (struct json){JSON_NUMBER, json_inner(v)};
    return v.raw.n && json_i64(v, &n) ? n : otherwise;
}

/* ---- models ------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The major version in "gemini-3.1-pro": 0 when there is none, as in "gemini-flash-latest". */
static unsigned major_of(struct span name)
{
    unsigned major = 0;
    struct span rest = span_from(name, strlen("gemini-"));
    for (size_t i = 0; i < rest.n && i < 4 && is_digit(rest.p[i]); i++)
        major = major * 10 + (unsigned)(rest.p[i] - '0');
    return major;
}

struct gemini_model gemini_model(struct span name)
{
    struct gemini_model none = {.thinking = GEMINI_THINKS_NOT};
    while (name.n && memchr(name.p, '/', name.n))
        span_cut(&name, '/');
    if (!name.n || !span_starts(name, "gemini-"))
        return none;
    unsigned major = major_of(name);
    bool pro = span_has(name, "-pro"), lite = span_has(name, "-lite");
    if (major == 1 || (major == 2 && !span_starts(name, "gemini-2.5")))
        return none;
    if (major == 2)
        return (struct gemini_model){.thinking = GEMINI_THINKS_BUDGET,
                                     .least = pro    ? 128
                                              : lite ? 512
                                                     : 1,
                                     .most = pro ? 32768 : 24576,
                                     .can_be_off = !pro};
    return (struct gemini_model){.thinking = GEMINI_THINKS_LEVEL,
                                 .can_be_off = !pro,
                                 .medium = !span_starts(name, "gemini-3-pro"),
                                 .media_in_results = true};
}

/* ---- what a request says -------------------------------------------------------- */

/* A budget that is not 0, a level, or thoughts to be shown. */
static bool asks_for_thoughts(struct json config)
{
    struct json budget = gemini_get(config, "thinkingBudget");
    if (budget.type != JSON_NONE)
        return gemini_int(budget, 0) != 0;
    return json_inner(gemini_get(config, "thinkingLevel")).n ||
           json_is_true(gemini_get(config, "includeThoughts"));
}

struct members {
    struct json contents, systemInstruction, tools, generationConfig, generateContentRequest;
};
static const struct gemini_field member_rows[] = {
    GEMINI_FIELD(struct members, contents),
    GEMINI_FIELD(struct members, systemInstruction),
    GEMINI_FIELD(struct members, tools),
    GEMINI_FIELD(struct members, generationConfig),
    GEMINI_FIELD(struct members, generateContentRequest),
};
enum { MEMBER_ROWS = sizeof(member_rows) / sizeof(member_rows[0]) };

static void on_member(void *ctx, struct span key, struct json v)
{
    struct gemini_fields fields = {.rows = member_rows, .count = MEMBER_ROWS};
    const struct gemini_field *row = row_of(&fields, key);
    if (row)
        memcpy((char *)ctx + row->at, &v, sizeof(v));
}

void gemini_take_line(struct request_facts *f, const struct request_line *line)
{
    if (line)
        f->line = *line;
    if (f->line.model.p)
        f->model = f->line.model;
    else if (span_starts(f->model, "models/"))
        f->model = span_from(f->model, strlen("models/"));
    f->stream = f->line.stream;
    f->include_usage = true; /* every stream of this format has it */
}

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    struct members m = {0};
    struct request_facts f;
    pd_err e = request_read(body, a, on_member, &m, &f, ret_why);
    if (e)
        return e;
    gemini_take_line(&f, line);
    if (m.generateContentRequest.type == JSON_OBJECT) /* to be counted */
        gemini_take(m.generateContentRequest, member_rows, MEMBER_ROWS, &m);
    if (m.contents.type == JSON_ARRAY)
        request_take_prefix(&f, m.systemInstruction, m.contents, true);
    f.tools = value_has_items(m.tools);
    f.many = gemini_int(gemini_get(m.generationConfig, "candidateCount"), 1) > 1;
    f.max_tokens = gemini_int(gemini_get(m.generationConfig, "maxOutputTokens"), -1);
    f.reasoning = asks_for_thoughts(gemini_get(m.generationConfig, "thinkingConfig"));
    *ret = f;
    return PD_OK;
}

/* ---- edits -------------------------------------------------------------------- */

/* The body with other names of the model in it: what is copied up to where. */
struct rename {
    struct buf out;
    struct put put;
    struct span body, model;
    size_t at;
    unsigned count;
};

/* "models/old" becomes "models/new". */
static void rename_model(struct rename *r, struct json v)
{
    struct span inner = json_inner(v);
    size_t kept = inner.n;
    if (v.type != JSON_STRING)
        return;
    while (kept && inner.p[kept - 1] != '/')
        kept--;
    size_t at = (size_t)(inner.p - r->body.p) + kept;
    put_span(&r->put, span_of(r->body.p + r->at, at - r->at));
    put_json_inner(&r->put, r->model);
    r->at = at + inner.n - kept;
    r->count++;
}

static void rename_in(struct rename *r, struct json obj)
{
    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_init(&w, obj.type == JSON_OBJECT ? obj : (struct json){0});
    while (json_walk_next(&w, &key, &v))
        if (json_key_is(key, "model"))
            rename_model(r, v);
}

/* The model stands in the path. Where it is told again it must be the same: at the top, in what is to be counted, and in each of
 * the texts to be embedded. */
static void rename_all(struct rename *r)
{
    struct json_walk w, list;
    struct span key;
    struct json v, item;
    json_walk_doc(&w, r->body);
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "model"))
            rename_model(r, v);
        else if (gemini_key(key, "generateContentRequest"))
            rename_in(r, v);
        else if (json_key_is(key, "requests") && v.type == JSON_ARRAY) {
            json_walk_init(&list, v);
            while (json_walk_next(&list, NULL, &item))
                rename_in(r, item);
        }
    }
}

pd_err gemini_edit_request(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    parts[0] = f->body;
    *ret_count = 1;
    if (!e->model.p)
        return PD_OK;
    struct rename r = {.body = f->body, .model = e->model};
    buf_init(&r.out, 0);
    r.put = put_into(&r.out);
    rename_all(&r);
    if (r.count) {
        put_span(&r.put, span_from(f->body, r.at));
        parts[0] = r.put.err ? SPAN_NONE : arena_span(a, buf_span(&r.out));
    }
    buf_done(&r.out);
    return parts[0].p ? PD_OK : PD_NOMEM;
}

/* ---- errors ------------------------------------------------------------------- */

/* The words of google.rpc.Code that go with a status. */
const char *gemini_error_status(int status)
{
    switch (status) {
    case 401:
        return "UNAUTHENTICATED";
    case 403:
        return "PERMISSION_DENIED";
    case 404:
        return "NOT_FOUND";
    case 408:
    case 504:
        return "DEADLINE_EXCEEDED";
    case 409:
        return "ABORTED";
    case 402:
    case 429:
        return "RESOURCE_EXHAUSTED";
    case 499:
        return "CANCELLED";
    case 501:
        return "UNIMPLEMENTED";
    case 502:
    case 503:
    case 529:
        return "UNAVAILABLE";
    default:
        return status >= 500 ? "INTERNAL" : "INVALID_ARGUMENT";
    }
}

static void put_error(struct put *p, const struct client_error *e)
{
    put_text(p, "{\"error\":{\"code\":");
    put_int(p, e->status);
    put_text(p, ",\"message\":");
    put_json(p, e->message.p ? e->message : SPAN_LIT(""));
    put_text(p, ",\"status\":\"");
    put_text(p, gemini_error_status(e->status));
    put_text(p, "\"");
    if (e->code) {
        put_text(p, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":");
        put_json(p, span_str(e->code));
        put_text(p, ",\"domain\":\"perdure\"}]");
    }
    if (e->attempts_json.p) {
        put_text(p, ",\"attempts\":");
        put_span(p, e->attempts_json);
    }
    put_text(p, "}}");
}

pd_err gemini_put_error(const struct client_error *e, struct buf *out)
{
    struct put p = put_into(out);
    put_error(&p, e);
    return p.err;
}

pd_err gemini_put_error_event(const struct client_error *e, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "data: ");
    put_error(&p, e);
    put_text(&p, "\r\n\r\n");
    return p.err;
}

/* ---- one array in place of events ------------------------------------------------ */

pd_err gemini_array_item(struct buf *out, bool first, struct span object)
{
    pd_err e = buf_reserve(out, object.n + strlen("\r\n,\r\n"));
    if (e)
        return e;
    struct put p = put_into(out);
    put_text(&p, first ? "[" : "\r\n,\r\n");
    put_span(&p, object);
    return p.err;
}

pd_err gemini_array_end(struct buf *out, bool first)
{
    return buf_puts(out, first ? "[]" : "\r\n]");
}

/* ---- counting ------------------------------------------------------------------- */

static bool count_read(struct json obj, int64_t *ret_tokens)
{
    int64_t n = gemini_int(gemini_get(obj, "totalTokens"), -1);
    bool empty = n < 0 && gemini_get(obj, "promptTokensDetails").type == JSON_ARRAY; /* 0 is left out */
    if (n < 0 && !empty)
        return false;
    *ret_tokens = empty ? 0 : n;
    return true;
}

static pd_err count_put(int64_t tokens, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "{\"totalTokens\":");
    put_int(&p, tokens);
    put_text(&p, "}");
    return p.err;
}

static const struct count_ops count_ops = {count_read, count_put};

/* ---- the tables ------------------------------------------------------------------ */

const struct codec codec_gemini = {
    .name = "gemini",
    .kind = CODEC_CHAT,
    .maker = MSG_MAKER_GEMINI,
    .read_request = read_request,
    .edit_request = gemini_edit_request,
    .parse_request = gemini_parse_request,
    .parse_tools = gemini_parse_tools,
    .write_request = gemini_write_request,
    .turns_member = "contents",
    .streams = true,
    .reader = &gemini_reader,
    .collector = &gemini_collector,
    .encoder = &gemini_encoder,
    .stream_type = "text/event-stream",
    .keepalive =
        "\n\n", /* google-genai for Python takes a comment for a torn document; blank lines it passes over, as Node's does */
    .error_type = gemini_error_status,
    .put_error = gemini_put_error,
    .put_error_event = gemini_put_error_event,
};

const struct codec codec_gemini_count = {
    .name = "gemini-count",
    .kind = CODEC_COUNT,
    .maker = MSG_MAKER_GEMINI,
    .read_request = read_request,
    .edit_request = gemini_edit_request,
    .parse_request = gemini_parse_request,
    .write_request = gemini_write_count,
    .count = &count_ops,
    .error_type = gemini_error_status,
    .put_error = gemini_put_error,
    .put_error_event = gemini_put_error_event,
};
