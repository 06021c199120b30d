/* Ollama's embeddings: /api/embed with one or many texts, and /api/embeddings of old with one "prompt". */
#include "dialect/embed.h"
#include "dialect/ollama_priv.h"
#include "dialect/request_priv.h"

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    (void)line;
    struct request_facts f;
    pd_err e = request_read(body, a, NULL, NULL, &f, ret_why);
    if (e)
        return e;
    f.stream = false; /* a member of that name means nothing here */
    f.streams_count = f.options_count = 0;
    *ret = f;
    return PD_OK;
}

/* A stream is neither to be asked for nor to be forbidden. */
static pd_err edit_request(const struct request_facts *f, const struct request_edit *e, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    struct request_edit ed = {.model = e->model};
    return request_edit(f, &ed, a, parts, ret_count);
}

/* ---- requests ---------------------------------------------------------------------- */

static pd_err parse_member(struct embed_request *m, struct arena *a, struct span key, struct json v,
                           const char **ret_why)
{
    int64_t n;
    if (json_key_is(key, "input"))
        return embed_take_input(m, a, v, false, ret_why);
    if (json_key_is(key, "prompt")) {
        m->bare = true;
        return embed_take_input(m, a, v, false, ret_why);
    }
    if (json_key_is(key, "dimensions"))
        m->dimensions = json_i64(v, &n) && n > 0 ? n : -1;
    else if (!json_key_is(key, "model") && v.type != JSON_NULL)
        return embed_drop(m, a, key);
    return PD_OK;
}

static pd_err parse_request(const struct request_facts *f, struct arena *a, struct embed_request *ret,
                            const char **ret_why)
{
    return embed_parse(f, a, parse_member, ret, ret_why);
}

static pd_err write_request(const struct embed_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out)
{
    struct put p = put_into(out);
    (void)a;
    if (embed_has_tokens(m))
        return PD_UNSUPPORTED;
    put_text(&p, "{\"model\":");
    put_json(&p, want->model);
    put_text(&p, m->list || m->count > 1 ? ",\"input\":[\"" : ",\"input\":\"");
    for (const struct embed_input *in = m->first; in; in = in->next) {
        put_span(&p, in->text);
        put_text(&p, in->next ? "\",\"" : "\"");
    }
    put_text(&p, m->list || m->count > 1 ? "]" : "");
    if (m->dimensions > 0) {
        put_text(&p, ",\"dimensions\":");
        put_int(&p, m->dimensions);
    }
    put_text(&p, "}");
    return p.err;
}

/* ---- answers ------------------------------------------------------------------------ */

static pd_err read_answer(struct span body, struct arena *a, struct embed_answer *ret, enum answer_end *ret_end)
{
    struct embed_answer an = {.usage = MSG_USAGE_NONE};
    struct json obj = {JSON_OBJECT, body}, item, model = json_get(obj, "model");
    struct json_walk w;
    pd_err e = json_inner(model).n ? json_text(model, a, &an.model) : PD_OK;
    if (e == PD_NOMEM)
        return e;
    an.usage.input_total = reader_count(obj, "prompt_eval_count");
    e = embed_take_vector(&an, a, json_get(obj, "embedding"));
    json_walk_init(&w, json_get(obj, "embeddings"));
    while (!e && json_walk_next(&w, NULL, &item))
        e = embed_take_vector(&an, a, item);
    if (e)
        return e;
    *ret = an;
    *ret_end = answer_error_in(obj).type != JSON_NONE ? ANSWER_FAILED : an.count ? ANSWER_COMPLETE : ANSWER_EMPTY;
    return PD_OK;
}

static pd_err put_answer(const struct embed_answer *an, const struct embed_request *asked, struct buf *out)
{
    struct put p = put_into(out);
    if (asked->bare) {
        put_text(&p, "{\"embedding\":");
        if (an->first)
            embed_put_numbers(&p, an->first);
        put_text(&p, an->first ? "}" : "[]}");
        return p.err;
    }
    put_text(&p, "{\"model\":");
    put_json(&p, asked->model);
    put_text(&p, ",\"embeddings\":[");
    for (const struct embed_vector *x = an->first; x; x = x->next) {
        embed_put_numbers(&p, x);
        put_text(&p, x->next ? "," : "");
    }
    put_text(&p, "],\"total_duration\":0,\"load_duration\":0,\"prompt_eval_count\":");
    put_uint(&p, encoder_count(an->usage.input_total));
    put_text(&p, "}");
    return p.err;
}

static const struct embed_ops embed_ops = {parse_request, write_request, read_answer, put_answer};

const struct codec codec_ollama_embeddings = {
    .name = "ollama-embeddings",
    .kind = CODEC_EMBED,
    .read_request = read_request,
    .edit_request = edit_request,
    .embed = &embed_ops,
    .error_type = ollama_error_type,
    .put_error = ollama_put_error,
    .put_error_event = ollama_put_error_event,
};
