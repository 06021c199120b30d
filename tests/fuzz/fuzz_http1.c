/* fuzz_http1.c - heads and bodies of requests and responses: whole and split agree, and what is taken is what was there.
 *
 * Input: one byte that picks request (even) or response (odd), two bytes that say where to split, then the bytes of the wire. */
#include "parse/http1.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                             \
    do {                                                       \
        if (!(cond)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #cond); \
            abort();                                           \
        }                                                      \
    } while (0)

/* What was read of a wire, as one hash: bytes of the body, and how it ended. */
struct outcome {
    size_t head;
    pd_err head_err, body_err;
    bool done;
    uint64_t body_bytes, body_hash, used;
};

static void inside(struct span s, struct span all)
{
    MUST(s.n == 0 || (s.p >= all.p && s.p + s.n <= all.p + all.n));
}

static void check_head(const struct http1_head *h, struct span head)
{
    MUST(h->fields_count <= HTTP1_FIELDS_MAX);
    MUST(!(h->chunked && h->content_length >= 0));
    inside(h->method, head);
    inside(h->target, head);
    inside(h->reason, head);
    inside(h->host, head);
    for (unsigned i = 0; i < h->fields_count; i++) {
        struct span name = h->fields[i].name, value = h->fields[i].value;
        inside(name, head);
        inside(value, head);
        MUST(name.n > 0 && !memchr(name.p, ' ', name.n) && !memchr(name.p, ':', name.n));
        MUST(!value.n ||
             (!memchr(value.p, '\r', value.n) && !memchr(value.p, '\n', value.n) && !memchr(value.p, 0, value.n)));
    }
    if (h->request)
        MUST(h->target.n > 0 && (h->target.p[0] == '/' || span_is(h->target, "*")));
    else
        MUST(h->status >= 100 && h->status <= 599);
}

static void take_body(struct http1_body *b, struct span in, struct outcome *o)
{
    while (!o->body_err && in.n && !b->done) {
        size_t used;
        struct span data;
        o->body_err = http1_body_step(b, in, &used, &data);
        if (o->body_err)
            return;
        MUST(used <= in.n && data.n <= used);
        inside(data, in);
        if (!used)
            return;
        for (size_t i = 0; i < data.n; i++)
            o->body_hash = o->body_hash * 31 + (uint8_t)data.p[i];
        o->body_bytes += data.n;
        o->used += used;
        in = span_from(in, used);
    }
}

static struct outcome read_wire(struct span in, size_t cut, bool request)
{
    static struct http1_head h;
    struct outcome o = {0};
    size_t seen = 0;
    o.head = http1_head_size(span_upto(in, cut), &seen);
    MUST(seen <= cut);
    if (!o.head)
        o.head = http1_head_size(in, &seen);
    if (!o.head)
        return o;

    int status = 0;
    const char *why = NULL;
    struct span head = span_upto(in, o.head);
    o.head_err = request ? http1_request(head, &h, &status, &why) : http1_response(head, &h, &why);
    if (o.head_err) {
        MUST(why && (!request || (status >= 400 && status < 600)));
        return o;
    }
    check_head(&h, head);
    MUST(!request || !http1_head_hopeless(head, 0));

    struct http1_body b;
    http1_body_init(&b, request ? http1_request_framing(&h) : http1_response_framing(&h, false), h.content_length);
    struct span body = span_from(in, o.head);
    size_t first = cut > o.head ? cut - o.head : 0;
    take_body(&b, span_upto(body, first), &o);
    take_body(&b, span_from(body, first), &o);
    o.done = b.done;
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct span in = span_of((const char *)data + 3, size - 3);
    bool request = !(data[0] & 1);
    size_t cut = in.n ? (size_t)(data[1] << 8 | data[2]) % (in.n + 1) : 0;

    struct outcome whole = read_wire(in, 0, request), split = read_wire(in, cut, request);
    MUST(whole.head == split.head && whole.head_err == split.head_err && whole.body_err == split.body_err);
    MUST(whole.done == split.done && whole.body_bytes == split.body_bytes && whole.body_hash == split.body_hash);
    MUST(whole.body_err || whole.used == split.used);
    return 0;
}
