/* Embeddings of Bedrock's InvokeModel: each family in its own words, chosen by the model's name. Only providers speak it.
 *
 * Titan and Nova take one text at a time, Cohere a list. */
#include "dialect/converse_priv.h"
#include "dialect/embed.h"
#include "dialect/request_priv.h"
#include "dialect/request_splice.h"

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    struct request_facts f;
    pd_err e = request_read(body, a, NULL, NULL, &f, ret_why);
    if (e)
        return e;
    request_take_line(&f, line);
    f.stream = false;
    *ret = f;
    return PD_OK;
}

static pd_err edit_request(const struct request_facts *f, const struct request_edit *ed, struct arena *a,
                           struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    (void)ed;
    return splice_parts(&(struct splices){0}, f->body, a, parts, ret_count);
}

/* ---- requests ---------------------------------------------------------------------- */

static void put_quoted(struct put *p, const char *before, struct span escaped)
{
    put_text(p, before);
    put_text(p, "\"");
    put_span(p, escaped);
    put_text(p, "\"");
}

static void put_dimensions(struct put *p, const char *name, int64_t n)
{
    if (n <= 0)
        return;
    put_text(p, name);
    put_int(p, n);
}

/* The first version has one size. */
static void put_titan(struct put *p, const struct embed_request *m, struct span model)
{
    put_quoted(p, "{\"inputText\":", m->first->text);
    if (!span_has(model, "text-v1") && !span_has(model, "-g1-text"))
        put_dimensions(p, ",\"dimensions\":", m->dimensions);
    put_text(p, "}");
}

static void put_nova(struct put *p, const struct embed_request *m)
{
    put_text(
        p, "{\"taskType\":\"SINGLE_EMBEDDING\",\"singleEmbeddingParams\":{\"embeddingPurpose\":\"GENERIC_INDEX\"");
    put_dimensions(p, ",\"embeddingDimension\":", m->dimensions);
    put_quoted(p, ",\"text\":{\"truncationMode\":\"END\",\"value\":", m->first->text);
    put_text(p, "}}}");
}

/* Cohere wants to be told what the vectors are for; of documents when nobody says. */
static const char *input_type(struct span task)
{
    if (span_is(task, "RETRIEVAL_QUERY") || span_is(task, "QUESTION_ANSWERING") ||
        span_is(task, "CODE_RETRIEVAL_QUERY"))
        return "search_query";
    return span_is(task, "CLASSIFICATION") ? "classification"
           : span_is(task, "CLUSTERING")   ? "clustering"
                                           : "search_document";
}

static void put_cohere(struct put *p, const struct embed_request *m)
{
    put_text(p, "{\"texts\":[");
    for (const struct embed_input *in = m->first; in; in = in->next)
        put_quoted(p, in == m->first ? "" : ",", in->text);
    put_printf(p, "],\"input_type\":\"%s\"", input_type(m->task));
    put_dimensions(p, ",\"output_dimension\":", m->dimensions);
    put_text(p, "}");
}

static pd_err write_request(const struct embed_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out)
{
    struct put p = put_into(out);
    (void)a;
    bool cohere = span_has(want->model, "cohere.");
    if (embed_has_tokens(m) || !m->first || (m->count > 1 && !cohere))
        return PD_UNSUPPORTED;
    if (cohere)
        put_cohere(&p, m);
    else if (span_has(want->model, "nova"))
        put_nova(&p, m);
    else
        put_titan(&p, m, want->model);
    return p.err;
}

/* ---- answers ------------------------------------------------------------------------ */

static pd_err read_answer(struct span body, struct arena *a, struct embed_answer *ret, enum answer_end *ret_end)
{
    struct embed_answer an = {.usage = MSG_USAGE_NONE};
    struct json obj = {JSON_OBJECT, body}, item, list = json_get(obj, "embeddings");
    struct json_walk w;
    an.usage.input_total = reader_count(obj, "inputTextTokenCount");
    if (list.type == JSON_OBJECT) /* Cohere, by kinds of numbers */
        list = json_get(list, "float");
    pd_err e = embed_take_vector(&an, a, json_get(obj, "embedding"));
    json_walk_init(&w, list);
    while (!e && json_walk_next(&w, NULL, &item))
        e = embed_take_vector(&an, a,
                              item.type == JSON_OBJECT ? json_get(item, "embedding") : item); /* Nova: an object */
    if (e)
        return e;
    bool error =
        !an.count && (answer_error_in(obj).type != JSON_NONE || json_get(obj, "Message").type == JSON_STRING);
    *ret = an;
    *ret_end = error ? ANSWER_FAILED : an.count ? ANSWER_COMPLETE : ANSWER_EMPTY;
    return PD_OK;
}

static const struct embed_ops embed_ops = {.write = write_request, .read = read_answer};

const struct codec codec_bedrock_embeddings = {
    .name = "bedrock-embeddings",
    .kind = CODEC_EMBED,
    .read_request = read_request,
    .edit_request = edit_request,
    .embed = &embed_ops,
    .request_id_header = "x-amzn-requestid",
    .error_type_header = "x-amzn-errortype",
    .error_type = bedrock_error_type,
    .put_error = bedrock_put_error,
    .put_error_event = bedrock_put_error_event,
};
