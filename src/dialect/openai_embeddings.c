/* OpenAI embeddings: never streamed, one model name to replace, a list of vectors back. */
#include "dialect/codec_priv.h"
#include "dialect/request_priv.h"

static void embeddings_member(void *ctx, struct span key, struct json v)
{
    struct json *user = ctx;
    if (json_key_is(key, "user"))
        *user = v;
}

static pd_err read_request(struct span body, struct arena *a, struct request_facts *ret, const char **ret_why)
{
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

const struct codec codec_openai_embeddings = {
    .name = "openai-embeddings",
    .read_request = read_request,
    .edit_request = request_edit,
    .path = "/embeddings",
    .streams = false,
    .has_reader = true,
};

static pd_err word_of(struct json v, struct arena *a, struct span *ret)
{
    pd_err e = json_text(v, a, ret);
    return e == PD_NOMEM ? e : PD_OK;
}

pd_err embeddings_read(struct json obj, struct arena *a, struct answer_facts *ret, enum answer_end *ret_end)
{
    struct answer_facts f = {.usage = MSG_USAGE_NONE};
    pd_err e = word_of(json_get(obj, "model"), a, &f.model);
    if (!e)
        e = word_of(json_get(obj, "id"), a, &f.id);
    if (e)
        return e;
    struct json usage = json_get(obj, "usage");
    if (usage_read(usage, &f.usage))
        f.usage_raw = usage.raw;
    f.error = answer_error_in(obj).type != JSON_NONE;
    f.has_output = json_path(obj, "data.0.embedding").type > JSON_NUMBER;
    *ret = f;
    *ret_end = f.error ? ANSWER_FAILED : f.has_output ? ANSWER_COMPLETE : ANSWER_EMPTY;
    return PD_OK;
}
