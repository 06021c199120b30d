/* What every OpenAI request has: one object, a model, perhaps "stream". */
#include "dialect/request_priv.h"

#include "base/hash.h"

static const char *const no_memory = "out of memory while reading the request";

/* A sentence for the client. Without memory it is a shorter one. */
static pd_err fault(struct arena *a, pd_err e, const char **ret_why, const char *sentence, size_t at)
{
    char *text = arena_printf(a, "%s (byte %zu of the request body)", sentence, at);
    *ret_why = text ? text : sentence;
    return e;
}

static pd_err add_site(const struct request_facts *f, struct request_site *sites, unsigned *count, unsigned most,
                       struct json v, const char *what, const char **ret_why)
{
    if (*count == most) {
        *ret_why = what;
        return PD_INVALID;
    }
    sites[(*count)++] = (struct request_site){(uint32_t)(v.raw.p - f->body.p), (uint32_t)v.raw.n};
    return PD_OK;
}

static pd_err take_model(struct request_facts *f, struct json v, struct arena *a, const char **ret_why)
{
    if (v.type != JSON_STRING) {
        *ret_why = "\"model\" must be a string";
        return PD_INVALID;
    }
    pd_err e = json_text(v, a, &f->model);
    if (e == PD_SYNTAX)
        *ret_why = "\"model\" has an escape that JSON does not know";
    return e;
}

static pd_err take_stream(struct request_facts *f, struct json v, const char **ret_why)
{
    if (v.type != JSON_BOOL && v.type != JSON_NULL) {
        *ret_why = "\"stream\" must be true or false";
        return PD_INVALID;
    }
    f->stream = json_is_true(v);
    return PD_OK;
}

static pd_err take_member(struct request_facts *f, struct span key, struct json v, struct arena *a,
                          request_member_fn *member, void *ctx, const char **ret_why)
{
    pd_err e;
    if (json_key_is(key, "model")) {
        e = add_site(f, f->models, &f->models_count, sizeof(f->models) / sizeof(f->models[0]), v,
                     "\"model\" is given too often: send it once", ret_why);
        return e ? e : take_model(f, v, a, ret_why);
    }
    if (json_key_is(key, "stream")) {
        e = add_site(f, f->streams, &f->streams_count, sizeof(f->streams) / sizeof(f->streams[0]), v,
                     "\"stream\" is given too often: send it once", ret_why);
        return e ? e : take_stream(f, v, ret_why);
    }
    if (json_key_is(key, "stream_options")) {
        f->include_usage = json_is_true(json_get(v, "include_usage"));
        return add_site(f, f->options, &f->options_count, sizeof(f->options) / sizeof(f->options[0]), v,
                        "\"stream_options\" is given too often: send it once", ret_why);
    }
    if (member)
        member(ctx, key, v);
    return PD_OK;
}

/* Where the walk stopped, and why in words. */
static pd_err walk_fault(const struct json_walk *w, struct span body, struct arena *a, const char **ret_why)
{
    size_t at = body.n - w->rest.n;
    if (w->err == PD_TOOBIG)
        return fault(a, PD_SYNTAX, ret_why, "the JSON is nested too deep", at);
    if (w->rest.n == 0 || span_trim(w->rest).n == 0)
        return fault(a, PD_SYNTAX, ret_why, "the JSON object ends before it is closed", at);
    return fault(a, PD_SYNTAX, ret_why, "the body is not valid JSON", at);
}

pd_err request_read(struct span body, struct arena *a, request_member_fn *member, void *ctx,
                    struct request_facts *ret, const char **ret_why)
{
    struct request_facts f = {.body = body, .max_tokens = -1, .empty_object = true};
    *ret_why = NULL;
    struct span text = span_trim(body);
    if (text.n == 0) {
        *ret_why = "the request body is empty: send a JSON object";
        return PD_SYNTAX;
    }
    if (text.p[0] != '{')
        return fault(a, PD_SYNTAX, ret_why, "the body is not a JSON object", (size_t)(text.p - body.p));
    f.open_at = (size_t)(text.p - body.p) + 1;

    struct json_walk w;
    struct span key;
    struct json v;
    json_walk_doc(&w, body);
    while (json_walk_next(&w, &key, &v)) {
        f.empty_object = false;
        pd_err e = take_member(&f, key, v, a, member, ctx, ret_why);
        if (e == PD_NOMEM)
            *ret_why = no_memory;
        if (e)
            return e;
    }
    if (w.err)
        return walk_fault(&w, body, a, ret_why);
    struct span rest = span_trim(w.rest);
    if (rest.n)
        return fault(a, PD_SYNTAX, ret_why, "something follows the JSON object", (size_t)(rest.p - body.p));
    *ret = f;
    return PD_OK;
}

bool request_take_field(const struct request_field *rows, size_t count, struct span key, struct json v, void *ret)
{
    for (size_t i = 0; i < count; i++)
        if (json_key_is(key, rows[i].key)) {
            memcpy((char *)ret + rows[i].at, &v, sizeof(v));
            return true;
        }
    return false;
}

static bool is_users(struct json message, bool unnamed)
{
    struct json role = json_get(message, "role");
    return json_is(role, "user") || (unnamed && role.type != JSON_STRING);
}

/* Only so much of the beginning is looked at that a long prompt is not read twice; what lies beyond is taken for a conversation that goes
 * on. */
void request_take_prefix(struct request_facts *f, struct json system, struct json messages, bool unnamed)
{
    struct json_walk w;
    struct json message;
    struct span prefix = span_upto(messages.raw, PREFIX_MAX);
    f->turns = messages.type == JSON_ARRAY ? messages.raw : SPAN_NONE;
    f->continues = prefix.n < messages.raw.n;
    json_walk_doc(&w, prefix);
    while (json_walk_next(&w, NULL, &message)) {
        if (!is_users(message, unnamed))
            continue;
        prefix.n = (size_t)(message.raw.p + message.raw.n - prefix.p);
        f->continues = json_walk_next(&w, NULL, &message) || w.err;
        break;
    }
    f->prefix_hash = hash_bytes(prefix, system.raw.n ? hash_bytes(span_upto(system.raw, PREFIX_MAX), 0) : 0);
}

pd_err request_take_hint(struct request_facts *f, const struct json *words, size_t count, struct arena *a,
                         const char **ret_why)
{
    for (size_t i = 0; i < count; i++) {
        if (json_inner(words[i]).n == 0)
            continue;
        pd_err e = json_text(words[i], a, &f->user);
        if (e == PD_NOMEM)
            *ret_why = no_memory;
        if (e != PD_SYNTAX)
            return e;
    }
    return PD_OK;
}

void request_take_line(struct request_facts *f, const struct request_line *line)
{
    if (line)
        f->line = *line;
    f->model = f->line.model.p ? f->line.model : SPAN_LIT("");
    f->stream = f->line.stream;
    f->models_count = f->streams_count = f->options_count = 0;
}

struct json request_member(const struct request_facts *f, const char *key)
{
    struct json found = {0}, v;
    struct json_walk w;
    struct span k;
    json_walk_doc(&w, f->body);
    while (json_walk_next(&w, &k, &v))
        if (json_key_is(k, key))
            found = v;
    return found;
}

pd_err request_lenient(pd_err e)
{
    return e == PD_NOMEM ? e : PD_OK;
}
