/* OpenAI Responses: a stream, collected. Its last event has the whole response; where a server leaves the output out of that, the
 * items come from the events that told each of them whole. */
#include "dialect/responses_priv.h"
#include "dialect/value_priv.h"

struct responses_collector {
    struct collector base;
    struct buf response; /* of the last event that had one */
    struct buf items;    /* joined by commas */
    size_t limit_bytes;
};

static pd_err init(struct collector *base, size_t limit_bytes)
{
    struct responses_collector *k = (struct responses_collector *)base;
    k->limit_bytes = limit_bytes;
    buf_init(&k->response, limit_bytes);
    buf_init(&k->items, limit_bytes);
    return PD_OK;
}

static void done(struct collector *base)
{
    struct responses_collector *k = (struct responses_collector *)base;
    buf_done(&k->response);
    buf_done(&k->items);
}

static pd_err add_item(struct responses_collector *k, struct json item)
{
    if (item.type != JSON_OBJECT)
        return PD_OK;
    if (buf_size(&k->response) + buf_size(&k->items) + item.raw.n + 1 > k->limit_bytes)
        return PD_TOOBIG;
    pd_err e = buf_size(&k->items) ? buf_puts(&k->items, ",") : PD_OK;
    return e ? e : buf_add(&k->items, item.raw);
}

static pd_err set_response(struct responses_collector *k, struct json response)
{
    if (response.type != JSON_OBJECT)
        return PD_OK;
    if (buf_size(&k->items) + response.raw.n > k->limit_bytes)
        return PD_TOOBIG;
    buf_clear(&k->response);
    return buf_add(&k->response, response.raw);
}

static pd_err add(struct collector *base, struct span type, struct json chunk)
{
    struct responses_collector *k = (struct responses_collector *)base;
    (void)type;
    if (json_is(json_get(chunk, "type"), "response.output_item.done"))
        return add_item(k, json_get(chunk, "item"));
    return set_response(k, json_get(chunk, "response"));
}

static pd_err write(struct collector *base, struct buf *out)
{
    struct responses_collector *k = (struct responses_collector *)base;
    struct span text = buf_span(&k->response);
    struct json response = {JSON_OBJECT, text};
    if (!text.n) /* no event of a response came */
        return PD_INVALID;
    struct json output = json_get(response, "output");
    if (value_has_items(output) || buf_size(&k->items) == 0)
        return buf_add(out, text);
    struct put p = put_into(out);
    if (output.type == JSON_NONE) {
        put_text(&p, "{\"output\":[");
        put_span(&p, buf_span(&k->items));
        put_text(&p, "],"); /* a response without any member has no status either, and is no response */
        put_span(&p, span_from(text, 1));
        return p.err;
    }
    put_span(&p, span_of(text.p, (size_t)(output.raw.p - text.p)));
    put_text(&p, "[");
    put_span(&p, buf_span(&k->items));
    put_text(&p, "]");
    put_span(&p, span_of(output.raw.p + output.raw.n, (size_t)(text.p + text.n - output.raw.p) - output.raw.n));
    return p.err;
}

const struct collector_ops responses_collector = {
    .bytes = sizeof(struct responses_collector),
    .init = init,
    .done = done,
    .add = add,
    .write = write,
};
