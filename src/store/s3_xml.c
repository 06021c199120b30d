#include "store/s3_xml.h"

struct xml {
    struct span rest;
    char path[S3_XML_PATH_MAX + 1];
    size_t path_n;
    char text[S3_XML_TEXT_MAX];
    size_t text_n;
    bool leaf; /* no element ended in this one yet */
    bool ended;
};

/* Cuts off what is before `mark`, and the mark. */
static bool cut_at(struct span *s, const char *mark, struct span *ret)
{
    const char *at = s->n ? memmem(s->p, s->n, mark, strlen(mark)) : NULL;
    if (!at)
        return false;
    *ret = span_upto(*s, (size_t)(at - s->p));
    *s = span_from(*s, ret->n + strlen(mark));
    return true;
}

static pd_err add_text(struct xml *x, struct span s)
{
    if (s.n > sizeof(x->text) - x->text_n)
        return PD_TOOBIG;
    if (s.n)
        memcpy(x->text + x->text_n, s.p, s.n);
    x->text_n += s.n;
    return PD_OK;
}

static pd_err add_utf8(struct xml *x, uint64_t c)
{
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return PD_SYNTAX;
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    char u[5] = {(char)(first[n] | c >> (6 * (n - 1)))};
    for (size_t i = 1; i < n; i++)
        u[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3f));
    return add_text(x, span_of(u, n));
}

static bool hex_number(struct span s, uint64_t *ret)
{
    uint64_t v = 0;
    if (s.n == 0 || s.n > 6)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return false;
        v = v * 16 + (uint64_t)digit;
    }
    *ret = v;
    return true;
}

static pd_err add_entity(struct xml *x, struct span name)
{
    static const struct {
        const char *name, *text;
    } known[] = {{"lt", "<"}, {"gt", ">"}, {"amp", "&"}, {"quot", "\""}, {"apos", "'"}};
    uint64_t c;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (span_is(name, known[i].name))
            return add_text(x, span_str(known[i].text));
    if (span_starts(name, "#x") ? hex_number(span_from(name, 2), &c)
                                : span_starts(name, "#") && span_u64(span_from(name, 1), &c))
        return add_utf8(x, c);
    return PD_SYNTAX;
}

static pd_err read_text(struct xml *x, struct span raw)
{
    pd_err e = PD_OK;
    while (raw.n && !e) {
        const char *amp = memchr(raw.p, '&', raw.n);
        struct span plain = span_upto(raw, amp ? (size_t)(amp - raw.p) : raw.n), name;
        e = add_text(x, plain);
        raw = span_from(raw, plain.n);
        if (e || !raw.n)
            break;
        raw = span_from(raw, 1);
        e = cut_at(&raw, ";", &name) ? add_entity(x, name) : PD_SYNTAX;
    }
    return e;
}

static struct span without_namespace(struct span name)
{
    const char *colon = name.n ? memchr(name.p, ':', name.n) : NULL;
    return colon ? span_from(name, (size_t)(colon - name.p) + 1) : name;
}

static pd_err enter(struct xml *x, struct span name)
{
    if (x->ended || name.n == 0)
        return PD_SYNTAX;
    if (name.n + 1 > S3_XML_PATH_MAX - x->path_n)
        return PD_TOOBIG;
    if (x->path_n)
        x->path[x->path_n++] = '/';
    memcpy(x->path + x->path_n, name.p, name.n);
    x->path_n += name.n;
    x->path[x->path_n] = '\0';
    x->text_n = 0;
    x->leaf = true;
    return PD_OK;
}

static pd_err leave(struct xml *x, struct span name, s3_xml_fn *fn, void *ctx)
{
    size_t at = x->path_n;
    while (at > 0 && x->path[at - 1] != '/')
        at--;
    if (x->path_n == 0 || !span_eq(span_of(x->path + at, x->path_n - at), name))
        return PD_SYNTAX;
    pd_err e = fn(ctx, x->path, span_of(x->text, x->leaf ? x->text_n : 0));
    x->path_n = at ? at - 1 : 0;
    x->path[x->path_n] = '\0';
    x->leaf = false;
    x->text_n = 0;
    x->ended = x->path_n == 0;
    return e;
}

/* Where a tag ends: a '>' in an attribute's value does not count. */
static bool cut_tag(struct span *s, struct span *ret)
{
    char quote = '\0';
    for (size_t i = 0; i < s->n; i++) {
        char c = s->p[i];
        if (quote) {
            quote = c == quote ? '\0' : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '>') {
            *ret = span_upto(*s, i);
            *s = span_from(*s, i + 1);
            return true;
        }
    }
    return false;
}

static struct span tag_name(struct span tag)
{
    size_t n = 0;
    while (n < tag.n && !strchr(" \t\r\n/", tag.p[n]))
        n++;
    return without_namespace(span_upto(tag, n));
}

/* What begins with '<', which is taken already. */
static pd_err read_mark(struct xml *x, s3_xml_fn *fn, void *ctx)
{
    struct span inner;
    if (span_starts(x->rest, "!--"))
        return cut_at(&x->rest, "-->", &inner) ? PD_OK : PD_SYNTAX;
    if (span_starts(x->rest, "?"))
        return cut_at(&x->rest, "?>", &inner) ? PD_OK : PD_SYNTAX;
    if (span_starts(x->rest, "![CDATA[")) {
        x->rest = span_from(x->rest, strlen("![CDATA["));
        return x->path_n && cut_at(&x->rest, "]]>", &inner) ? add_text(x, inner) : PD_SYNTAX;
    }
    if (span_starts(x->rest, "!") || !cut_tag(&x->rest, &inner))
        return PD_SYNTAX;
    if (span_starts(inner, "/"))
        return leave(x, tag_name(span_from(inner, 1)), fn, ctx);
    pd_err e = enter(x, tag_name(inner));
    if (!e && span_ends(inner, "/"))
        e = leave(x, tag_name(inner), fn, ctx);
    return e;
}

pd_err s3_xml_read(struct span document, s3_xml_fn *fn, void *ctx)
{
    struct xml x = {.rest = document};
    pd_err e = PD_OK;
    if (span_starts(document, "\xef\xbb\xbf"))
        x.rest = span_from(document, 3);
    while (x.rest.n && !e) {
        const char *mark = memchr(x.rest.p, '<', x.rest.n);
        struct span raw = span_upto(x.rest, mark ? (size_t)(mark - x.rest.p) : x.rest.n);
        x.rest = span_from(x.rest, raw.n + (mark ? 1 : 0));
        if (!x.path_n && span_trim(raw).n)
            return PD_SYNTAX;
        if (x.path_n)
            e = read_text(&x, raw);
        if (!e && mark)
            e = read_mark(&x, fn, ctx);
    }
    return e ? e : x.ended ? PD_OK : PD_SYNTAX;
}
