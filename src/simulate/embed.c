#include "base/hash.h"
#include "simulate/dialect.h"

enum { EMBEDDINGS_INPUTS_MAX = 2048 };

/* ---- embeddings ----------------------------------------------------------- */

static double root(double v)
{
    double x = v > 1 ? v : 1;
    for (int i = 0; i < 40; i++)
        x = (x + v / x) / 2;
    return x;
}

/* A vector of length 1 from the seed and the input, as the provider would give it: floats, or their bytes. */
static void put_vector(struct put *out, uint64_t seed, struct span input, int64_t dimensions, float *vector,
                       bool base64)
{
    struct rnd rnd = {seed ^ hash_bytes(input, 0)};
    double length = 0;
    for (int64_t i = 0; i < dimensions; i++) {
        vector[i] = (float)(rnd_unit(&rnd) * 2 - 1);
        length += (double)vector[i] * (double)vector[i];
    }
    length = root(length);
    for (int64_t i = 0; i < dimensions; i++)
        vector[i] = (float)((double)vector[i] / length);
    if (base64) {
        put_text(out, "\"");
        base64_put(out, span_of((const char *)vector, (size_t)dimensions * sizeof(float)));
        put_text(out, "\"");
        return;
    }
    put_text(out, "[");
    for (int64_t i = 0; i < dimensions; i++)
        put_printf(out, i ? ",%.8g" : "%.8g", (double)vector[i]);
    put_text(out, "]");
}

struct embed {
    struct put *out;
    uint64_t seed;
    int64_t dimensions;
    float *vector;
    bool base64;
    unsigned count;
    uint64_t tokens;
};

static void put_one(struct embed *e, struct json input)
{
    put_printf(e->out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", e->count ? "," : "", e->count);
    put_vector(e->out, e->seed, input.raw, e->dimensions, e->vector, e->base64);
    put_text(e->out, "}");
    e->count++;
    e->tokens += input.raw.n / 4 + 1;
}

pd_err chat_embed(struct reading *r, const struct endpoint *at, uint64_t seed, struct put *out)
{
    struct json_walk w;
    struct json v, input = {0}, model = {0};
    struct span key;
    struct embed e = {.out = out, .seed = seed, .dimensions = r->conf->dimensions};
    (void)at;
    json_walk_doc(&w, r->body);
    while (json_walk_next(&w, &key, &v)) {
        if (json_key_is(key, "input"))
            input = v;
        else if (json_key_is(key, "model"))
            model = v;
        else if (json_key_is(key, "encoding_format"))
            e.base64 = json_is(v, "base64");
        else if (json_key_is(key, "dimensions"))
            (void)json_i64(v, &e.dimensions);
    }
    if (json_check(r->body) != PD_OK)
        return ask_refuse(r, "bad_request", "the body is not JSON");
    if (input.type != JSON_STRING && json_path(input, "0").type == JSON_NONE)
        return ask_refuse(r, "bad_request", "input is missing or empty");
    if (e.dimensions < 1 || e.dimensions > 16384)
        return ask_refuse(r, "bad_request", "dimensions is not in 1 to 16384");
    e.vector = arena_alloc(r->mem, (size_t)e.dimensions * sizeof(*e.vector));
    if (!e.vector)
        return PD_NOMEM;
    put_text(out, "{\"object\":\"list\",\"data\":[");
    if (input.type == JSON_STRING || json_path(input, "0").type == JSON_NUMBER) {
        put_one(&e, input); /* one text, or one list of tokens */
    } else {
        json_walk_init(&w, input);
        while (json_walk_next(&w, NULL, &v) && e.count < EMBEDDINGS_INPUTS_MAX)
            put_one(&e, v);
    }
    put_text(out, "],\"model\":\"");
    put_span(out, json_inner(model));
    put_text(out, "\",\"usage\":{\"prompt_tokens\":");
    put_uint(out, e.tokens);
    put_text(out, ",\"total_tokens\":");
    put_uint(out, e.tokens);
    put_text(out, "}}");
    return out->err;
}

pd_err put_embedding(struct put *out, const struct reading *r, uint64_t seed, struct span input,
                     int64_t dimensions)
{
    if (dimensions < 1 || dimensions > 16384)
        dimensions = r->conf->dimensions;
    float *vector = arena_alloc(r->mem, (size_t)dimensions * sizeof(*vector));
    if (!vector)
        return PD_NOMEM;
    put_vector(out, seed, input, dimensions, vector, false);
    return out->err;
}
