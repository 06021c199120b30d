#include "dialect/request_splice.h"

#include <assert.h>

pd_err splice_add(struct splices *s, struct arena *a, struct span site, struct span text)
{
    struct splice *x = arena_zalloc(a, sizeof(*x));
    if (!x)
        return PD_NOMEM;
    assert(!s->last || s->last->site.p + s->last->site.n <= site.p);
    x->site = site;
    x->text = text;
    if (s->last)
        s->last->next = x;
    else
        s->first = x;
    s->last = x;
    s->count++;
    return PD_OK;
}

static pd_err join(const struct splices *s, struct span body, struct arena *a, struct span *ret)
{
    size_t n = body.n;
    for (const struct splice *x = s->first; x; x = x->next)
        n += x->text.n; /* the sites' own bytes are room to spare */
    char *p = arena_alloc(a, n ? n : 1), *to = p;
    if (!p)
        return PD_NOMEM;
    const char *from = body.p, *end = body.p + body.n;
    for (const struct splice *x = s->first; x; x = x->next) {
        size_t before = (size_t)(x->site.p - from);
        memcpy(to, from, before);
        to += before;
        if (x->text.n)
            memcpy(to, x->text.p, x->text.n);
        to += x->text.n;
        from = x->site.p + x->site.n;
    }
    memcpy(to, from, (size_t)(end - from));
    to += end - from;
    *ret = span_of(p, (size_t)(to - p));
    return PD_OK;
}

static void add_part(struct span *parts, unsigned *count, struct span s)
{
    if (s.n)
        parts[(*count)++] = s;
}

pd_err splice_parts(const struct splices *s, struct span body, struct arena *a,
                    struct span parts[REQUEST_PARTS_MAX], unsigned *ret_count)
{
    if (2 * (size_t)s->count + 1 > REQUEST_PARTS_MAX) {
        pd_err e = join(s, body, a, &parts[0]);
        *ret_count = 1;
        return e;
    }
    unsigned count = 0;
    const char *from = body.p;
    for (const struct splice *x = s->first; x; x = x->next) {
        add_part(parts, &count, span_of(from, (size_t)(x->site.p - from)));
        add_part(parts, &count, x->text);
        from = x->site.p + x->site.n;
    }
    add_part(parts, &count, span_of(from, (size_t)(body.p + body.n - from)));
    *ret_count = count;
    return PD_OK;
}

pd_err splice_filter(struct json array, splice_fn *unwanted, struct arena *a, struct span *ret, unsigned *ret_left)
{
    struct json_walk w;
    struct json item;
    size_t n = 2;
    unsigned all = 0, left = 0;
    *ret = SPAN_NONE;
    json_walk_init(&w, array);
    while (json_walk_next(&w, NULL, &item)) {
        all++;
        if (unwanted(item))
            continue;
        n += item.raw.n + (left ? 1 : 0);
        left++;
    }
    *ret_left = left;
    if (left == all)
        return PD_OK;
    char *p = arena_alloc(a, n), *to = p;
    if (!p)
        return PD_NOMEM;
    *to++ = '[';
    json_walk_init(&w, array);
    while (json_walk_next(&w, NULL, &item)) {
        if (unwanted(item))
            continue;
        if (to != p + 1)
            *to++ = ',';
        memcpy(to, item.raw.p, item.raw.n);
        to += item.raw.n;
    }
    *to++ = ']';
    *ret = span_of(p, n);
    return PD_OK;
}
