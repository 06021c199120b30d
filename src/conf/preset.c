#include "conf/preset.h"

#include <stdio.h>
#include <string.h>

const char *const preset_wire_names[] = {
#define X(name) name,
    PRESET_WIRES(X)
#undef X
};
const unsigned preset_wire_names_count = sizeof(preset_wire_names) / sizeof(preset_wire_names[0]);

const char *const preset_continues_names[] = {
#define X(name) name,
    PRESET_CONTINUES(X)
#undef X
};
const unsigned preset_continues_names_count = sizeof(preset_continues_names) / sizeof(preset_continues_names[0]);

struct span preset_wire_name(const char *entry)
{
    struct span rest = span_str(entry);
    return span_cut(&rest, '@');
}

bool preset_wire_find(const char *const *wires, const char *name, struct span *ret_prefix)
{
    for (; *wires; wires++) {
        struct span rest = span_str(*wires);
        if (!span_is(span_cut(&rest, '@'), name))
            continue;
        *ret_prefix = rest.p ? rest : SPAN_LIT("");
        return true;
    }
    *ret_prefix = SPAN_LIT("");
    return false;
}

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

/* ---- regions ---------------------------------------------------------------------- */

static const char *place_of(const char *url, size_t *ret_bytes)
{
    static const char *const words[] = {"{region}", "{location}"};
    for (unsigned i = 0; i < 2; i++) {
        const char *at = strstr(url, words[i]);
        *ret_bytes = strlen(words[i]);
        if (at)
            return at;
    }
    return NULL;
}

bool preset_url_has_place(const char *url)
{
    size_t n;
    return place_of(url, &n) != NULL;
}

/* Google's places that are not one location have hosts of their own; NULL: the rule holds. */
static const char *google_host(const char *place)
{
    static const struct {
        const char *place, *host;
    } hosts[] = {
        {"global", "https://aiplatform.googleapis.com"},
        {"us", "https://aiplatform.us.rep.googleapis.com"},
        {"eu", "https://aiplatform.eu.rep.googleapis.com"},
    };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        if (strcmp(place, hosts[i].place) == 0)
            return hosts[i].host;
    return NULL;
}

const char *preset_place_url(const char *url, const char *place, char *out, size_t out_bytes)
{
    static const char google[] = "https://{location}-aiplatform.googleapis.com";
    size_t word;
    const char *at = place_of(url, &word);
    const char *host = strcmp(url, google) == 0 ? google_host(place) : NULL;
    int n;
    if (!at || host) {
        n = snprintf(out, out_bytes, "%s", host ? host : url);
    } else {
        const char *rest = at + word;
        bool china = strncmp(place, "cn-", 3) == 0 && span_ends(span_str(rest), ".amazonaws.com");
        n = snprintf(out, out_bytes, "%.*s%s%s%s", (int)(at - url), url, place, rest, china ? ".cn" : "");
    }
    return n > 0 && (size_t)n < out_bytes ? out : NULL;
}
