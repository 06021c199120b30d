/* OpenAI embeddings: never streamed, one model name to replace, a list of vectors back. */
#include "dialect/embed.h"
#include "dialect/openai_chat_priv.h"
#include "dialect/request_priv.h"

static void embeddings_member(void *ctx, struct span key, struct json v)
{
    struct json *user = ctx;
    if (json_key_is(key, "user"))
        *user = v;
}

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    (void)line;
    struct json user = {0};
    struct request_facts f;
    pd_err e = request_read(body, a, embeddings_member, &user, &f, ret_why);
    if (e)
        return e;
    if (json_inner(user).n && json_text(user, a, &f.user) == PD_NOMEM) {
        *ret_why = "out of memory while reading the request";
        return PD_NOMEM;
    }
    *ret = f;
    return PD_OK;
}

static pd_err word_of(struct json v, struct arena *a, struct span *ret)
{
    pd_err e = json_text(v, a, ret);
    return e == PD_NOMEM ? e : PD_OK;
}

static pd_err read_answer(struct span body, struct arena *a, struct embed_answer *ret, enum answer_end *ret_end)
{
    struct embed_answer an = {.usage = MSG_USAGE_NONE};
    struct json obj = {JSON_OBJECT, body}, item;
    struct json_walk w;
    pd_err e = word_of(json_get(obj, "model"), a, &an.model);
    if (!e)
        e = word_of(json_get(obj, "id"), a, &an.id);
    (void)usage_read(json_get(obj, "usage"), &an.usage);
    json_walk_init(&w, json_get(obj, "data"));
    while (!e && json_walk_next(&w, NULL, &item))
        e = embed_take_vector(&an, a, json_get(item, "embedding"));
    if (e)
        return e;
    *ret = an;
    *ret_end = answer_error_in(obj).type != JSON_NONE ? ANSWER_FAILED : an.count ? ANSWER_COMPLETE : ANSWER_EMPTY;
    return PD_OK;
}

/* ---- requests ---------------------------------------------------------------------- */

static pd_err parse_member(struct embed_request *m, struct arena *a, struct span key, struct json v,
                           const char **ret_why)
{
    int64_t n;
    if (json_key_is(key, "input"))
        return embed_take_input(m, a, v, true, ret_why);
    if (json_key_is(key, "dimensions"))
        m->dimensions = json_i64(v, &n) && n > 0 ? n : -1;
    else if (json_key_is(key, "encoding_format"))
        m->base64 = json_is(v, "base64");
    else if (json_key_is(key, "user"))
        m->user = json_inner(v);
    else if (!json_key_is(key, "model") && v.type != JSON_NULL)
        return embed_drop(m, a, key);
    return PD_OK;
}

static pd_err parse_request(const struct request_facts *f, struct arena *a, struct embed_request *ret,
                            const char **ret_why)
{
    return embed_parse(f, a, parse_member, ret, ret_why);
}

static void put_input(struct put *p, const struct embed_input *in)
{
    if (in->tokens.p) {
        put_span(p, in->tokens);
        return;
    }
    put_text(p, "\"");
    put_span(p, in->text);
    put_text(p, "\"");
}

static pd_err write_request(const struct embed_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out)
{
    struct put p = put_into(out);
    (void)a;
    put_text(&p, "{\"model\":");
    put_json(&p, want->model);
    put_text(&p, m->list || m->count > 1 ? ",\"input\":[" : ",\"input\":");
    for (const struct embed_input *in = m->first; in; in = in->next) {
        put_input(&p, in);
        put_text(&p, in->next ? "," : "");
    }
    put_text(&p, m->list || m->count > 1 ? "]" : "");
    if (m->dimensions > 0) {
        put_text(&p, ",\"dimensions\":");
        put_int(&p, m->dimensions);
    }
    put_text(&p, m->base64 ? ",\"encoding_format\":\"base64\"" : "");
    if (m->user.n) {
        put_text(&p, ",\"user\":\"");
        put_span(&p, m->user);
        put_text(&p, "\"");
    }
    put_text(&p, "}");
    return p.err;
}

/* ---- answers ------------------------------------------------------------------------ */

static pd_err put_answer(const struct embed_answer *an, const struct embed_request *asked, struct buf *out)
{
    struct put p = put_into(out);
    uint64_t index = 0, tokens = encoder_count(an->usage.input_total);
    put_text(&p, "{\"object\":\"list\",\"data\":[");
    for (const struct embed_vector *x = an->first; x; x = x->next) {
        put_text(&p, index ? ",{\"object\":\"embedding\",\"index\":" : "{\"object\":\"embedding\",\"index\":");
        put_uint(&p, index++);
        put_text(&p, ",\"embedding\":");
        if (asked->base64)
            embed_put_base64(&p, x);
        else
            embed_put_numbers(&p, x);
        put_text(&p, "}");
    }
    put_text(&p, "],\"model\":");
    put_json(&p, asked->model);
    put_text(&p, ",\"usage\":{\"prompt_tokens\":");
    put_uint(&p, tokens);
    put_text(&p, ",\"total_tokens\":");
    put_uint(&p, tokens);
    put_text(&p, "}}");
    return p.err;
}

static const struct embed_ops embed_ops = {parse_request, write_request, read_answer, put_answer};

const struct codec codec_openai_embeddings = {
    .name = "openai-embeddings",
    .kind = CODEC_EMBED,
    .read_request = read_request,
    .edit_request = request_edit,
    .embed = &embed_ops,
    .error_type = openai_error_type,
    .put_error = openai_put_error,
    .put_error_event = openai_put_error_event,
};
