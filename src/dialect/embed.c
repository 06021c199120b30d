/* What the formats of embeddings share: inputs, vectors, and the two shapes that a vector has. */
#include "dialect/embed.h"

#include "parse/base64.h"

#include <math.h>

struct embed_input *embed_input_add(struct embed_request *m, struct arena *a)
{
    struct embed_input *in = arena_zalloc(a, sizeof(*in));
    if (!in)
        return NULL;
    if (m->last)
        m->last->next = in;
    else
        m->first = in;
    m->count++;
    return m->last = in;
}

struct embed_vector *embed_vector_add(struct embed_answer *an, struct arena *a)
{
    struct embed_vector *x = arena_zalloc(a, sizeof(*x));
    if (!x)
        return NULL;
    if (an->last)
        an->last->next = x;
    else
        an->first = x;
    an->count++;
    return an->last = x;
}

pd_err embed_take_vector(struct embed_answer *an, struct arena *a, struct json v)
{
    if (v.type != JSON_ARRAY && v.type != JSON_STRING)
        return PD_OK;
    struct embed_vector *x = embed_vector_add(an, a);
    if (!x)
        return PD_NOMEM;
    if (v.type == JSON_ARRAY)
        x->numbers = v.raw;
    else
        x->base64 = json_inner(v);
    return PD_OK;
}

/* ---- requests ----------------------------------------------------------------------- */

pd_err embed_parse(const struct request_facts *f, struct arena *a, embed_member_fn *member,
                   struct embed_request *ret, const char **ret_why)
{
    struct json_walk w;
    struct json body, v;
    struct span key;
    *ret = (struct embed_request){.model = f->model, .dimensions = -1};
    *ret_why = "the body is not valid JSON";
    if (json_doc(f->body, &body))
        return PD_SYNTAX;
    *ret_why = "out of memory while reading the request";
    pd_err e = PD_OK;
    json_walk_init(&w, body);
    while (!e && json_walk_next(&w, &key, &v))
        e = member(ret, a, key, v, ret_why);
    if (!e && !ret->count) {
        *ret_why = "the request has no \"input\"";
        return PD_INVALID;
    }
    return e;
}

/* ---- inputs ------------------------------------------------------------------------- */

static pd_err add_one(struct embed_request *m, struct arena *a, struct json v, bool tokens, const char **ret_why)
{
    bool numbers = tokens && v.type == JSON_ARRAY && json_path(v, "0").type == JSON_NUMBER;
    if (v.type != JSON_STRING && !numbers) {
        *ret_why = "\"input\" must be a text or a list of texts";
        return PD_INVALID;
    }
    if (m->count == EMBED_INPUTS_MAX) {
        *ret_why = "\"input\" has too many items";
        return PD_INVALID;
    }
    struct embed_input *in = embed_input_add(m, a);
    if (!in)
        return PD_NOMEM;
    in->text = json_inner(v);
    in->tokens = numbers ? v.raw : SPAN_NONE;
    return PD_OK;
}

pd_err embed_take_input(struct embed_request *m, struct arena *a, struct json input, bool tokens,
                        const char **ret_why)
{
    struct json_walk w;
    struct json item;
    pd_err e = PD_OK;
    m->list = input.type == JSON_ARRAY && json_path(input, "0").type != JSON_NUMBER;
    if (!m->list)
        return add_one(m, a, input, tokens, ret_why);
    json_walk_init(&w, input);
    while (!e && json_walk_next(&w, NULL, &item))
        e = add_one(m, a, item, tokens, ret_why);
    if (!e && !m->count) {
        *ret_why = "\"input\" is empty";
        return PD_INVALID;
    }
    return e;
}

pd_err embed_drop(struct embed_request *m, struct arena *a, struct span key)
{
    struct msg_request names = {0}; /* which keeps a name fit for a header */
    pd_err e = msg_drop_span(&names, a, key);
    if (!e && m->dropped_count < MSG_DROPPED_MAX)
        m->dropped[m->dropped_count++] = names.dropped[0];
    return e;
}

bool embed_has_tokens(const struct embed_request *m)
{
    for (const struct embed_input *in = m->first; in; in = in->next)
        if (in->tokens.p)
            return true;
    return false;
}

/* ---- vectors -------------------------------------------------------------------------- */

enum { FLOAT_BYTES = 4 };

static float float_at(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static pd_err add_float(struct buf *b, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    char bytes[FLOAT_BYTES] = {(char)bits, (char)(bits >> 8), (char)(bits >> 16), (char)(bits >> 24)};
    return buf_add(b, span_of(bytes, sizeof(bytes)));
}

/* Nine digits are enough for a float32 to come back as it was; what is no number has no word in JSON. */
static void put_floats(struct put *p, struct span bytes)
{
    put_text(p, "[");
    for (size_t i = 0; i + FLOAT_BYTES <= bytes.n; i += FLOAT_BYTES) {
        float x = float_at(bytes.p + i);
        put_printf(p, "%s%.9g", i ? "," : "", isfinite(x) ? (double)x : 0.0);
    }
    put_text(p, "]");
}

static void note(struct put *p, pd_err e)
{
    if (e && !p->err)
        p->err = e;
}

void embed_put_numbers(struct put *p, const struct embed_vector *x)
{
    if (x->numbers.p) {
        put_span(p, x->numbers);
        return;
    }
    struct buf bytes;
    buf_init(&bytes, 0);
    pd_err e = base64_decode(x->base64, &bytes);
    note(p, e ? e : buf_size(&bytes) % FLOAT_BYTES ? PD_SYNTAX : PD_OK);
    put_floats(p, buf_span(&bytes));
    buf_done(&bytes);
}

static pd_err pack(struct span numbers, struct buf *out)
{
    struct json_walk w;
    struct json item;
    double d;
    pd_err e = PD_OK;
    json_walk_init(&w, (struct json){JSON_ARRAY, numbers});
    while (!e && json_walk_next(&w, NULL, &item))
        e = json_f64(item, &d) ? add_float(out, (float)d) : PD_SYNTAX;
    return e ? e : w.err;
}

void embed_put_base64(struct put *p, const struct embed_vector *x)
{
    put_text(p, "\"");
    if (x->numbers.p) {
        struct buf bytes;
        buf_init(&bytes, 0);
        pd_err e = pack(x->numbers, &bytes);
        note(p, e);
        if (!p->err)
            p->err = base64_encode(buf_span(&bytes), p->b);
        buf_done(&bytes);
    } else {
        put_span(p, x->base64);
    }
    put_text(p, "\"");
}
