/* Ollama's own format: what requests say, edits and errors. Streams are JSON lines, and the default. */
#include "dialect/ollama_priv.h"
#include "dialect/request_priv.h"

#include "base/hash.h"

/* ---- requests ---------------------------------------------------------------------- */

struct members {
    struct json messages, prompt, system, tools, options, think;
};

static void member(void *ctx, struct span key, struct json v)
{
    static const struct request_field rows[] = {
        REQUEST_FIELD(struct members, messages), REQUEST_FIELD(struct members, prompt),
        REQUEST_FIELD(struct members, system),   REQUEST_FIELD(struct members, tools),
        REQUEST_FIELD(struct members, options),  REQUEST_FIELD(struct members, think)};
    request_take_field(rows, sizeof(rows) / sizeof(rows[0]), key, v, ctx);
}

/* Absent and null mean yes. */
static bool wants_stream(const struct request_facts *f)
{
    return f->streams_count == 0 || f->stream ||
           span_is(request_site(f, f->streams[f->streams_count - 1]), "null");
}

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    (void)line;
    struct members m = {0};
    struct request_facts f;
    int64_t n;
    pd_err e = request_read(body, a, member, &m, &f, ret_why);
    if (e)
        return e;
    f.stream = wants_stream(&f);
    f.include_usage = true; /* the last line always has it */
    f.options_count = 0;
    f.tools = json_path(m.tools, "0").type != JSON_NONE;
    f.reasoning = json_is_true(m.think) || (m.think.type == JSON_STRING && !json_is(m.think, "none"));
    if (json_i64(json_get(m.options, "num_predict"), &n) && n >= 0)
        f.max_tokens = n;
    if (m.messages.type == JSON_ARRAY)
        request_take_prefix(&f, m.system, m.messages, false);
    else
        f.prefix_hash = hash_bytes(span_upto(m.prompt.raw, PREFIX_MAX), hash_bytes(m.system.raw, 0));
    *ret = f;
    return PD_OK;
}

static size_t skip_space(struct span s, size_t at)
{
    while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t' || s.p[at] == '\n' || s.p[at] == '\r'))
        at++;
    return at;
}

/* Without a word a stream comes: to have none it must be said, right behind the '{'. */
static void insert_no_stream(const struct request_facts *f, struct span parts[REQUEST_PARTS_MAX], unsigned *count)
{
    struct span first = parts[0];
    size_t next = skip_space(first, f->open_at);
    bool last = next < first.n && first.p[next] == '}';
    for (unsigned i = *count; i > 1; i--)
        parts[i + 1] = parts[i - 1];
    parts[0] = span_upto(first, f->open_at);
    parts[1] = last ? SPAN_LIT("\"stream\":false") : SPAN_LIT("\"stream\":false,");
    parts[2] = span_from(first, f->open_at);
    *count += 2;
}

static pd_err edit_request(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    struct request_edit ed = *e;
    ed.want_usage = false;
    if (!f->streams_count)
        ed.force_stream = false; /* it comes by itself */
    pd_err err = request_edit(f, &ed, a, parts, ret_count);
    if (!err && e->forbid_stream && !f->streams_count)
        insert_no_stream(f, parts, ret_count);
    return err;
}

/* ---- errors to clients --------------------------------------------------------------- */

const char *ollama_error_type(int status)
{
    return status >= 500 ? "server_error" : "request_error"; /* not said in this format */
}

pd_err ollama_put_error(const struct client_error *e, struct buf *out)
{
    struct put p = put_into(out);
    put_text(&p, "{\"error\":");
    put_json(&p, e->message.p ? e->message : SPAN_LIT(""));
    if (e->attempts_json.p) {
        put_text(&p, ",\"attempts\":");
        put_span(&p, e->attempts_json);
    }
    put_text(&p, "}");
    return p.err;
}

pd_err ollama_put_error_event(const struct client_error *e, struct buf *out)
{
    pd_err err = ollama_put_error(e, out);
    return err ? err : buf_puts(out, "\n");
}

/* ---- the tables ----------------------------------------------------------------------- */

const struct codec codec_ollama = {
    .name = "ollama",
    .kind = CODEC_CHAT,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_request = ollama_parse_chat,
    .parse_tools = ollama_parse_tools,
    .write_request = ollama_write_chat,
    .turns_member = "messages",
    .lines = true,
    .streams = true,
    .reader = &ollama_reader,
    .collector = &ollama_collector,
    .encoder = &ollama_chat_encoder,
    .stream_type = "application/x-ndjson",
    .error_type = ollama_error_type,
    .put_error = ollama_put_error,
    .put_error_event = ollama_put_error_event,
};

/* Nobody is asked in it but by those who speak it: other formats go to /api/chat. */
const struct codec codec_ollama_generate = {
    .name = "ollama-generate",
    .kind = CODEC_CHAT,
    .read_request = read_request,
    .edit_request = edit_request,
    .parse_request = ollama_parse_generate,
    .lines = true,
    .streams = true,
    .reader = &ollama_reader,
    .collector = &ollama_collector,
    .encoder = &ollama_generate_encoder,
    .stream_type = "application/x-ndjson",
    .error_type = ollama_error_type,
    .put_error = ollama_put_error,
    .put_error_event = ollama_put_error_event,
};
