#include "base/clock.h"
#include "base/hash.h"
#include "simulate/sim.h"

enum { EMBEDDINGS_INPUTS_MAX = 2048 };

/* ---- embeddings ----------------------------------------------------------- */

static void put_base64(struct put *out, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char group[4];
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)(i + 1 < n ? p[i + 1] : 0) << 8 | (i + 2 < n ? p[i + 2] : 0);
        group[0] = digits[v >> 18 & 63];
        group[1] = digits[v >> 12 & 63];
        group[2] = i + 1 < n ? digits[v >> 6 & 63] : '=';
        group[3] = i + 2 < n ? digits[v & 63] : '=';
        put_span(out, span_of(group, 4));
    }
}

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
        put_base64(out, (const unsigned char *)vector, (size_t)dimensions * sizeof(float));
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

pd_err embeddings_put(const struct script_provider *p, uint64_t seed, struct span body, struct arena *mem,
                      struct put *out, const char **ret_why)
{
    struct json_walk w;
    struct json v, input = {0}, model = {0};
    struct span key;
    struct embed e = {.out = out, .seed = seed, .dimensions = p->dimensions};
    json_walk_doc(&w, body);
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
    *ret_why = w.err != PD_OK ? "the body is not JSON" : "input is missing or empty";
    if (w.err != PD_OK || (input.type != JSON_STRING && json_path(input, "0").type == JSON_NONE))
        return PD_INVALID;
    if (e.dimensions < 1 || e.dimensions > 16384) {
        *ret_why = "dimensions is not in 1 to 16384";
        return PD_INVALID;
    }
    e.vector = arena_alloc(mem, (size_t)e.dimensions * sizeof(*e.vector));
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

/* ---- models --------------------------------------------------------------- */

static void put_model(struct put *out, struct span id)
{
    put_text(out, "{\"id\":");
    put_json(out, id);
    put_text(out, ",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"simulated\"}");
}

void models_reply(struct provider *p, struct request *rq, struct span id)
{
    const struct span usual[] = {SPAN_LIT("sim-small"), SPAN_LIT("sim-large"), SPAN_LIT("sim-reason")};
    const struct span *at = p->conf->models_given ? p->conf->models.at : usual;
    unsigned count = p->conf->models_given ? p->conf->models.count : 3;
    struct header type = {SPAN_LIT("content-type"), SPAN_LIT("application/json")};
    struct buf text;
    bool found = false;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    if (!id.n)
        put_text(&out, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; i < count; i++) {
        if (id.n && !span_eq(id, at[i]))
            continue;
        found = true;
        put_text(&out, i && !id.n ? "," : "");
        put_model(&out, at[i]);
    }
    if (!id.n)
        put_text(&out, "]}");
    if (id.n && !found)
        provider_error(p, rq, 404, "model_not_found", NULL);
    else if (out.err != PD_OK)
        reply_abort(rq);
    else
        reply_simple(rq, 200, &type, 1, buf_span(&text));
    buf_done(&text);
}
