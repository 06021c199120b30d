/* Gemini's embeddings: embedContent for one text, batchEmbedContents for a list. Which of the two an answer is for stands in the body. */
#include "dialect/embed.h"
#include "dialect/gemini_priv.h"
#include "dialect/request_priv.h"

static pd_err read_request(struct span body, const struct request_line *line, struct arena *a,
                           struct request_facts *ret, const char **ret_why)
{
    struct request_facts f;
    pd_err e = request_read(body, a, NULL, NULL, &f, ret_why);
    if (e)
        return e;
    gemini_take_line(&f, line);
    f.stream = false;
    *ret = f;
    return PD_OK;
}

/* ---- requests --------------------------------------------------------------------- */

struct item {
    struct json content, taskType, title, outputDimensionality, model, embedContentConfig, requests;
};
static const struct gemini_field item_rows[] = {
    GEMINI_FIELD(struct item, content),  GEMINI_FIELD(struct item, taskType),
    GEMINI_FIELD(struct item, title),    GEMINI_FIELD(struct item, outputDimensionality),
    GEMINI_FIELD(struct item, model),    GEMINI_FIELD(struct item, embedContentConfig),
    GEMINI_FIELD(struct item, requests),
};

struct parse {
    struct embed_request *m;
    struct arena *a;
    const char **why;
};

static pd_err wrong(struct parse *p, pd_err e, const char *sentence)
{
    *p->why = sentence;
    return e;
}

static void drop(struct embed_request *m, const char *name)
{
    for (unsigned i = 0; i < m->dropped_count; i++)
        if (strcmp(m->dropped[i], name) == 0)
            return;
    if (m->dropped_count < MSG_DROPPED_MAX)
        m->dropped[m->dropped_count++] = name;
}

static pd_err drop_other(void *ctx, struct span key, struct json v)
{
    struct parse *p = ctx;
    (void)v;
    char *name = arena_strndup(p->a, key.p, key.n < 64 ? key.n : 64);
    if (!name)
        return PD_NOMEM;
    drop(p->m, name);
    return PD_OK;
}

/* Several parts are one text. */
static pd_err text_of(struct parse *p, struct json content, struct span *ret)
{
    struct json parts = json_get(content, "parts"), v;
    struct json_walk w;
    struct buf b;
    pd_err e = PD_OK;
    unsigned count = 0;
    buf_init(&b, 0);
    *ret = content.type == JSON_STRING ? json_inner(content) : SPAN_LIT("");
    json_walk_init(&w, parts);
    while (!e && json_walk_next(&w, NULL, &v)) {
        struct json text = json_get(v, "text");
        if (text.type != JSON_STRING)
            e = wrong(p, PD_UNSUPPORTED,
                      "only text can be embedded through a translation: a part is of another kind");
        else if (count++ == 0)
            *ret = json_inner(text);
        if (!e && count == 2 && buf_size(&b) == 0)
            e = buf_add(&b, *ret);
        if (!e && count >= 2)
            e = buf_add(&b, json_inner(text));
    }
    if (!e && count >= 2) {
        *ret = arena_span(p->a, buf_span(&b));
        e = ret->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

static pd_err add_input(struct parse *p, struct json v)
{
    struct item item = {0};
    struct embed_input *in = arena_zalloc(p->a, sizeof(*in));
    if (!in)
        return PD_NOMEM;
    if (p->m->count == EMBED_INPUTS_MAX)
        return wrong(p, PD_INVALID, "there are too many \"requests\"");
    struct gemini_fields fields = {item_rows, sizeof(item_rows) / sizeof(item_rows[0]), drop_other, p};
    pd_err e = gemini_read(v, &fields, &item);
    if (!e)
        e = gemini_read(item.embedContentConfig, &fields, &item); /* Vertex */
    if (e)
        return e;
    if (item.content.type != JSON_OBJECT && item.content.type != JSON_STRING)
        return wrong(p, PD_INVALID, "the request has no \"content\"");
    p->m->task = json_inner(item.taskType);
    p->m->title = json_inner(item.title);
    p->m->dimensions = gemini_int(item.outputDimensionality, -1);
    e = text_of(p, item.content, &in->text);
    if (e)
        return e;
    if (p->m->last)
        p->m->last->next = in;
    else
        p->m->first = in;
    p->m->last = in;
    p->m->count++;
    return PD_OK;
}

static pd_err parse_request(const struct request_facts *f, struct arena *a, struct embed_request *ret,
                            const char **ret_why)
{
    struct parse p = {ret, a, ret_why};
    struct json_walk w;
    struct json body, v;
    *ret = (struct embed_request){.model = f->model, .dimensions = -1};
    if (json_doc(f->body, &body))
        return wrong(&p, PD_SYNTAX, "the body is not valid JSON");
    *ret_why = "out of memory while reading the request";
    struct json requests = json_get(body, "requests");
    if (requests.type != JSON_ARRAY)
        return add_input(&p, body);
    ret->list = true;
    pd_err e = PD_OK;
    json_walk_init(&w, requests);
    while (!e && json_walk_next(&w, NULL, &v))
        e = add_input(&p, v);
    if (!e && !ret->count)
        return wrong(&p, PD_INVALID, "there are no \"requests\"");
    return e;
}

static void put_input(struct put *p, const struct embed_request *m, const struct write_want *want,
                      const struct embed_input *in)
{
    put_text(p, "{\"model\":\"models/");
    put_json_inner(p, want->model);
    put_text(p, "\",\"content\":{\"parts\":[{\"text\":\"");
    put_span(p, in->text);
    put_text(p, "\"}]}");
    if (m->task.n) {
        put_text(p, ",\"taskType\":\"");
        put_span(p, m->task);
        put_text(p, "\"");
    }
    if (m->title.n) {
        put_text(p, ",\"title\":\"");
        put_span(p, m->title);
        put_text(p, "\"");
    }
    if (m->dimensions > 0) {
        put_text(p, ",\"outputDimensionality\":");
        put_int(p, m->dimensions);
    }
    put_text(p, "}");
}

static pd_err write_request(const struct embed_request *m, const struct write_want *want, struct arena *a,
                            struct buf *out)
{
    struct put p = put_into(out);
    const char *sep = "{\"requests\":[";
    (void)a;
    if (!m->list && m->count == 1) {
        put_input(&p, m, want, m->first);
        return p.err;
    }
    for (const struct embed_input *in = m->first; in; in = in->next) {
        put_text(&p, sep);
        put_input(&p, m, want, in);
        sep = ",";
    }
    put_text(&p, m->first ? "]}" : "{\"requests\":[]}");
    return p.err;
}

/* ---- answers ---------------------------------------------------------------------- */

static pd_err read_answer(struct span body, struct arena *a, struct embed_answer *ret, enum answer_end *ret_end)
{
    struct embed_answer an = {.usage = MSG_USAGE_NONE};
    struct json obj = {JSON_OBJECT, body}, item;
    struct json_walk w;
    an.usage.input_total = gemini_int(gemini_get(gemini_get(obj, "usageMetadata"), "promptTokenCount"), -1);
    pd_err e = embed_take_vector(&an, a, json_path(obj, "embedding.values"));
    json_walk_init(&w, json_get(obj, "embeddings"));
    while (!e && json_walk_next(&w, NULL, &item))
        e = embed_take_vector(&an, a, json_get(item, "values"));
    if (e)
        return e;
    *ret = an;
    *ret_end = answer_error_in(obj).type != JSON_NONE ? ANSWER_FAILED : an.count ? ANSWER_COMPLETE : ANSWER_EMPTY;
    return PD_OK;
}

static pd_err put_answer(const struct embed_answer *an, const struct embed_request *asked, struct buf *out)
{
    struct put p = put_into(out);
    const char *sep = asked->list ? "{\"embeddings\":[" : "{\"embedding\":";
    put_text(&p, an->first ? "" : "{\"embeddings\":[");
    for (const struct embed_vector *x = an->first; x; x = x->next) {
        put_text(&p, sep);
        put_text(&p, "{\"values\":");
        embed_put_numbers(&p, x);
        put_text(&p, "}");
        sep = ",";
        if (!asked->list)
            break;
    }
    put_text(&p, asked->list || !an->first ? "]" : "");
    if (an->usage.input_total >= 0) {
        put_text(&p, ",\"usageMetadata\":{\"promptTokenCount\":");
        put_int(&p, an->usage.input_total);
        put_text(&p, "}");
    }
    put_text(&p, "}");
    return p.err;
}

const struct embed_ops gemini_embed = {parse_request, write_request, read_answer, put_answer};

const struct codec codec_gemini_embeddings = {
    .name = "gemini-embeddings",
    .kind = CODEC_EMBED,
    .maker = MSG_MAKER_GEMINI,
    .read_request = read_request,
    .edit_request = gemini_edit_request,
    .embed = &gemini_embed,
    .error_type = gemini_error_status,
    .put_error = gemini_put_error,
    .put_error_event = gemini_put_error_event,
};
