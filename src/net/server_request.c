#include "base/mem.h"
#include "net/server_priv.h"

/* ---- a request in one block: struct, fields, head and, when it came along, the body ---- */

static struct span moved(struct span s, struct span from, char *to)
{
    return s.p ? span_of(to + (s.p - from.p), s.n) : s;
}

struct request *request_new(struct conn *c, const struct http1_head *h, struct span head, struct span rest,
                            size_t *ret_taken)
{
    size_t body = 0;
    if (!h->chunked && h->content_length > 0 && (uint64_t)h->content_length <= rest.n)
        body = (size_t)h->content_length;

    size_t fields_bytes = h->fields_count * sizeof(struct http1_field);
    struct request *rq = mem_alloc(sizeof(*rq) + fields_bytes + head.n + body);
    if (!rq)
        return NULL;

    struct http1_field *fields = (struct http1_field *)(rq + 1);
    char *bytes = (char *)fields + fields_bytes;
    *rq = (struct request){
        .conn = c,
        .method = moved(h->method, head, bytes),
        .target = moved(h->target, head, bytes),
        .body = span_of(bytes + head.n, body),
        .fields = fields,
        .fields_count = h->fields_count,
        .minor_0 = h->minor == 0,
        .keep_alive = h->keep_alive,
        .expects = h->expect_continue,
        .is_head = span_is(h->method, "HEAD"),
    };
    memcpy(bytes, head.p, head.n);
    if (body)
        memcpy(bytes + head.n, rest.p, body);
    for (unsigned i = 0; i < h->fields_count; i++) {
        fields[i].name = moved(h->fields[i].name, head, bytes);
        fields[i].value = moved(h->fields[i].value, head, bytes);
    }
    buf_init(&rq->big, c->server->rules.body_bytes);
    c->server->stats.requests_open++;
    *ret_taken = body;
    return rq;
}

void request_free(struct request *rq)
{
    rq->conn->server->stats.requests_open--;
    rq->conn = NULL;
    rq->stream = NULL;
    if (!rq->kept)
        request_release(rq);
}

void request_keep(struct request *rq)
{
    rq->kept = true;
}

struct request *request_release(struct request *rq)
{
    if (rq) {
        buf_done(&rq->big);
        mem_free(rq);
    }
    return NULL;
}

/* ---- asking ---- */

struct span request_method(const struct request *rq)
{
    return rq->method;
}

struct span request_path(const struct request *rq)
{
    const char *q = memchr(rq->target.p, '?', rq->target.n);
    return q ? span_upto(rq->target, (size_t)(q - rq->target.p)) : rq->target;
}

void request_skip(struct request *rq, size_t n)
{
    rq->prefix = span_upto(rq->target, n);
    rq->target = span_from(rq->target, n);
}

struct span request_prefix(const struct request *rq)
{
    return rq->prefix;
}

struct span request_query(const struct request *rq)
{
    const char *q = memchr(rq->target.p, '?', rq->target.n);
    return q ? span_from(rq->target, (size_t)(q - rq->target.p) + 1) : SPAN_NONE;
}

struct span request_header(const struct request *rq, const char *name)
{
    return http1_find(rq->fields, rq->fields_count, name);
}

unsigned request_headers(const struct request *rq, const struct http1_field **ret)
{
    *ret = rq->fields;
    return rq->fields_count;
}

struct span request_body(const struct request *rq)
{
    return rq->body;
}
bool request_minor_0(const struct request *rq)
{
    return rq->minor_0;
}
uint64_t request_began_us(const struct request *rq)
{
    return rq->began_us;
}
uint64_t request_read_us(const struct request *rq)
{
    return rq->read_us;
}
const char *request_peer(const struct request *rq)
{
    return rq->conn->peer;
}
bool request_peer_is_loopback(const struct request *rq)
{
    return rq->conn->loopback;
}

void request_set_handler(struct request *rq, const struct request_handler *h, void *ctx)
{
    rq->handler = *h;
    rq->ctx = ctx;
}
