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

static pd_err add_vector(struct embed_answer *an, struct arena *a, struct json v)
{
    if (v.type != JSON_ARRAY && v.type != JSON_STRING)
        return PD_OK;
    struct embed_vector *x = arena_zalloc(a, sizeof(*x));
    if (!x)
        return PD_NOMEM;
    if (v.type == JSON_ARRAY)
        x->numbers = v.raw;
    else
        x->base64 = json_inner(v);
    if (an->last)
        an->last->next = x;
    else
        an->first = x;
    an->last = x;
    an->count++;
    return PD_OK;
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
        e = add_vector(&an, a, json_get(item, "embedding"));
    if (e)
        return e;
    *ret = an;
    *ret_end = answer_error_in(obj).type != JSON_NONE ? ANSWER_FAILED : an.count ? ANSWER_COMPLETE : ANSWER_EMPTY;
    return PD_OK;
}

static const struct embed_ops embed_ops = {.read = read_answer};

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
