#include "conf/preset.h"

#include "base/span.h"

#include <stdio.h>

const struct preset *preset_find(const struct preset_table *t, const char *name)
{
    struct span wanted = span_str(name);
    for (size_t i = 0; i < t->count; i++)
        if (span_iis(wanted, t->rows[i].name))
            return &t->rows[i];
    return NULL;
}

/* "://host:port" in an absolute URL: where the authority is. */
static struct span authority_of(struct span url)
{
    for (size_t i = 0; i + 3 <= url.n; i++)
        if (memcmp(url.p + i, "://", 3) == 0) {
            struct span rest = span_from(url, i + 3);
            return span_cut(&rest, '/');
        }
    return SPAN_NONE;
}

/* ":11434" with its colon; empty when there is none. The colons inside [::1] are none. */
static struct span port_of(struct span authority)
{
    for (size_t i = authority.n; i-- > 0 && authority.p[i] != ']';)
        if (authority.p[i] == ':')
            return span_from(authority, i);
    return span_from(authority, authority.n);
}

const char *preset_base_url(const struct preset *p, const char *given, char *out, size_t out_bytes)
{
    struct span url = span_trim(span_str(given));
    while (url.n > 0 && url.p[url.n - 1] == '/')
        url.n--;
    if (url.n == 0)
        return NULL;

    struct span authority = authority_of(url);
    bool has_scheme = authority.p != NULL;
    struct span rest = has_scheme ? span_from(url, (size_t)(authority.p - url.p)) : url;
    struct span host = span_cut(&rest, '/');
    bool has_path = rest.p != NULL;

    struct span port = SPAN_NONE;
    if (!has_scheme && port_of(host).n == 0 && p->base_url)
        port = port_of(authority_of(span_str(p->base_url)));
    struct span scheme = has_scheme ? span_upto(url, (size_t)(authority.p - url.p)) : SPAN_LIT("http://");
    struct span path = has_path || !p->url_path ? SPAN_NONE : span_str(p->url_path);

    int n = snprintf(out, out_bytes, "%.*s%.*s%.*s%s%.*s%.*s", SPAN_FMT(scheme), SPAN_FMT(host), SPAN_FMT(port),
                     has_path ? "/" : "", SPAN_FMT(rest), SPAN_FMT(path));
    return n > 0 && (size_t)n < out_bytes ? out : NULL;
}
