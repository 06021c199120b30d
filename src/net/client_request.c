/* How an exchange begins its life: the request's head is checked and written. */
#include "net/client_priv.h"

#include "base/mem.h"
#include "base/text.h"

/* ---- what a head may hold --------------------------------------------------------------- */

static bool clean(struct span s, bool blanks)
{
    if (!blanks)
        return span_printable(s) && !memchr(s.p, ' ', s.n);
    while (!span_printable(s)) { /* the tab is no control byte here */
        const char *tab = memchr(s.p, '\t', s.n);
        if (!tab || !span_printable(span_upto(s, (size_t)(tab - s.p))))
            return false;
        s = span_from(s, (size_t)(tab - s.p) + 1);
    }
    return true;
}

static bool sane(const struct exchange_request *rq)
{
    if (rq->path.n == 0 || !clean(rq->path, false))
        return false;
    for (unsigned i = 0; i < rq->fields_count; i++)
        if (rq->fields[i].name.n == 0 || !clean(rq->fields[i].name, false) || !clean(rq->fields[i].value, true))
            return false;
    return true;
}

static bool has_field(const struct exchange_request *rq, const char *name)
{
    for (unsigned i = 0; i < rq->fields_count; i++)
        if (span_iis(rq->fields[i].name, name))
            return true;
    return false;
}

static size_t body_size(const struct exchange_request *rq)
{
    size_t n = 0;
    for (unsigned i = 0; i < rq->body_count; i++)
        n += rq->body[i].n;
    return n;
}

/* ---- writing it ---------------------------------------------------------------------------- */

/* Counts when `p` is NULL, so that what is counted and what is written cannot differ. */
struct pen {
    char *p;
    size_t n;
};

static void put(struct pen *w, struct span s)
{
    if (w->p && s.n)
        memcpy(w->p + w->n, s.p, s.n);
    w->n += s.n;
}

static void put_field(struct pen *w, struct span name, struct span value)
{
    put(w, name);
    put(w, SPAN_LIT(": "));
    put(w, value);
    put(w, SPAN_LIT("\r\n"));
}

static void write_head(struct pen *w, const struct origin *o, const struct exchange_request *rq, size_t body_bytes)
{
    bool absolute = o->proxy.host && !o->tls;
    put(w, span_str(rq->method));
    put(w, absolute ? SPAN_LIT(" http://") : SPAN_LIT(" "));
    if (absolute)
        put(w, span_str(o->authority));
    put(w, rq->path);
    put(w, SPAN_LIT(" HTTP/1.1\r\n"));
    put_field(w, SPAN_LIT("Host"), span_str(o->authority));
    if (absolute && o->proxy.authorization)
        put_field(w, SPAN_LIT("Proxy-Authorization"), span_str(o->proxy.authorization));
    for (unsigned i = 0; i < rq->fields_count; i++)
        put_field(w, rq->fields[i].name, rq->fields[i].value);
    if (!has_field(rq, "accept-encoding"))
        put_field(w, SPAN_LIT("Accept-Encoding"), SPAN_LIT("identity"));
    if (body_bytes || rq->body_count || strcmp(rq->method, "POST") == 0) {
        char digits[24];
        struct text t = text_in(digits, sizeof(digits));
        text_u64(&t, body_bytes);
        put_field(w, SPAN_LIT("Content-Length"), span_of(t.p, t.n));
    }
    put(w, SPAN_LIT("\r\n"));
}

/* The exchange and its parts are one block. The head is another: it goes before the answer does. */
static struct exchange *allocate(const struct origin *o, const struct exchange_request *rq, size_t body_bytes,
                                 size_t head_bytes)
{
    size_t parts_bytes = (1 + (size_t)rq->body_count) * sizeof(struct span);
    struct exchange *x = mem_alloc(sizeof(*x) + parts_bytes);
    char *head = x ? mem_alloc(head_bytes) : NULL;
    if (!head) {
        mem_free(x);
        return NULL;
    }
    *x = (struct exchange){
        .parts = (struct span *)(void *)(x + 1), .parts_count = 1 + rq->body_count, .head = head};
    struct pen w = {.p = head};
    write_head(&w, o, rq, body_bytes);
    x->parts[0] = span_of(w.p, w.n);
    if (rq->body_count)
        memcpy(x->parts + 1, rq->body, rq->body_count * sizeof(struct span));
    return x;
}

pd_err exchange_start(struct client *c, struct origin *o, const struct exchange_request *rq,
                      const struct exchange_handler *h, void *ctx, struct exchange **ret)
{
    if (!sane(rq))
        return PD_INVALID;
    size_t body_bytes = body_size(rq);
    struct pen count = {0};
    write_head(&count, o, rq, body_bytes);
    if (count.n > CLIENT_REQUEST_HEAD_MAX)
        return PD_TOOBIG;
    struct exchange *x = allocate(o, rq, body_bytes, count.n);
    if (!x)
        return PD_NOMEM;

    x->c = c;
    x->o = o;
    o->refs++;
    x->h = *h;
    x->ctx = ctx;
    x->fresh = rq->fresh;
    x->connect_ms = rq->connect_ms ? rq->connect_ms : c->rules.connect_ms;
    x->tls_ms = rq->connect_ms ? rq->connect_ms : c->rules.tls_ms;
    x->head_request = strcmp(rq->method, "HEAD") == 0;
    x->info.started_us = loop_now_us(c->loop);
    list_push(&c->exchanges, &x->node);
    exchange_set_out(x);
    *ret = x;
    return PD_OK;
}
