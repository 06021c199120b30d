/* `providers:`, and what makes a provider whole: its key and its address. */
#include "conf/conf_priv.h"
#include "parse/url.h"

#include <stdio.h>
#include <unistd.h>

enum { WEIGHT_MAX = 1000000, PROVIDERS_MAX = 200, HEADERS_MAX = 50 };

struct draft {
    struct conf_provider *p;
    struct conf_value key, url;
    const char *preset;
    bool key_said, url_said; /* what is wrong with it was said: do not go on to miss it */
    struct conf_scope scope;
};

static void read_preset(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct draft *d = into;
    if (!conf_word(r, n, what, &d->preset))
        d->preset = ""; /* it was said: do not go on to ask for a preset */
}

static void read_key(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct draft *d = into;
    d->key_said = !conf_text(r, n, what, &d->key);
    if (d->key_said || d->key.text.n == 0)
        return;
    const struct preset *preset = preset_find(r->presets, d->p->name);
    if (!d->key.variable)
        conf_warn(r, n->line,
                  "%s: the key itself stands in the file: keys belong in the environment; write \"${%s}\"", what,
                  preset && preset->key_env ? preset->key_env : "MY_KEY");
}

static void read_base_url(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct draft *d = into;
    d->url_said = !conf_text(r, n, what, &d->url);
    if (d->url_said || d->url.text.n)
        return;
    conf_error(r, n->line, "%s is empty: write a URL, or remove the line", what);
    d->url_said = true;
}

static void read_models(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct draft *)into)->p;
    if (!conf_words(r, n, what, &p->models, &p->models_count))
        return;
    for (unsigned i = 0; i < p->models_count; i++)
        if (strlen(p->models[i]) > CONF_MODEL_MAX)
            conf_error(r, n->line, "%s: a model's name has at most %d bytes", what, CONF_MODEL_MAX);
}

static bool header_name_fine(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.n > 0 && s.n <= CONF_NAME_MAX;
}

/* Written by the HTTP client itself: a second one would contradict it. */
static bool header_is_ours(struct span name)
{
    static const char *const ours[] = {"host",
                                       "content-length",
                                       "content-type",
                                       "content-encoding",
                                       "transfer-encoding",
                                       "connection",
                                       "keep-alive",
                                       "te",
                                       "trailer",
                                       "upgrade",
                                       "expect",
                                       "accept-encoding",
                                       "proxy-authorization"};
    for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (span_iis(name, ours[i]))
            return true;
    return false;
}

static bool read_header(struct conf_reader *r, const struct entry *e, const char *what, struct conf_header *ret)
{
    struct conf_value v;
    struct span name = e->key->text;
    if (!header_name_fine(name)) {
        conf_error(r, e->key->line, "%s: this is no header name: write letters, digits and '-'", what);
        return false;
    }
    if (header_is_ours(name)) {
        conf_error(r, e->key->line, "%s is written by perdure itself: remove it", what);
        return false;
    }
    if (!conf_text(r, e->value, what, &v))
        return false;
    ret->name = conf_copy(r, name);
    ret->value = conf_copy(r, v.text);
    return ret->name && ret->value;
}

static void read_headers(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct draft *)into)->p;
    if (n->kind == NODE_NULL || !conf_is_kind(r, n, NODE_MAP, what))
        return;
    if (n->entries > HEADERS_MAX) {
        conf_error(r, n->line, "%s: more than %d headers", what, HEADERS_MAX);
        return;
    }
    p->headers = conf_take(r, n->entries, sizeof(*p->headers));
    if (!p->headers)
        return;
    for (const struct entry *e = n->first; e; e = e->next) {
        char path[CONF_PATH_MAX];
        snprintf(path, sizeof(path), "%s.%.*s", what, SPAN_FMT(span_upto(e->key->text, CONF_NAME_MAX)));
        for (unsigned i = 0; i < p->headers_count; i++)
            if (span_iis(e->key->text, p->headers[i].name))
                conf_error(r, e->key->line, "%s stands here a second time: remove one", path);
        if (read_header(r, e, path, &p->headers[p->headers_count]))
            p->headers_count++;
    }
}

static void read_proxy(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct draft *)into)->p;
    struct conf_value v;
    struct url url;
    const char *why = "a proxy is spoken to over http://";
    if (!conf_text(r, n, what, &v))
        return;
    if (span_iis(v.text, "off") || span_iis(v.text, "none")) {
        p->proxy = "";
        return;
    }
    if (url_parse(v.text, &url, &why) || url.tls || url.path.n || url.query.n) {
        conf_error(r, n->line, "%s: %s; write \"http://host:port\", or \"off\" for none", what, why);
        return;
    }
    p->proxy = conf_copy(r, v.text);
}

static void read_ca_file(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct draft *)into)->p;
    if (conf_word(r, n, what, &p->ca_file) && access(p->ca_file, R_OK) != 0)
        conf_error(r, n->line, "%s: %s cannot be read: name a PEM file with the certificates to trust", what,
                   p->ca_file);
}

static void read_tls_verify(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    bool verify;
    if (!conf_bool(r, n, what, &verify))
        return;
    ((struct draft *)into)->p->tls_insecure = !verify;
    if (!verify)
        conf_warn(r, n->line,
                  "%s is false: anyone on the way can read the key and the prompts; better name their ca_file",
                  what);
}

static void read_stream(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    bool stream;
    if (n->kind == NODE_SCALAR && span_iis(n->text, "auto"))
        return;
    if (conf_bool(r, n, what, &stream))
        ((struct draft *)into)->p->stream = stream;
}

static void read_weight(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct draft *)into)->p;
    if (!conf_count(r, n, what, WEIGHT_MAX, &p->weight))
        p->weight = 1;
}

static void read_query(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct draft *)into)->p;
    struct conf_value v;
    if (!conf_text(r, n, what, &v))
        return;
    if (span_starts(v.text, "?"))
        v.text = span_from(v.text, 1);
    char room[CONF_PATH_MAX * 4];
    struct url url;
    const char *why = "it is too long";
    int n_room = snprintf(room, sizeof(room), "http://h/?%.*s", SPAN_FMT(v.text));
    if ((size_t)n_room >= sizeof(room) || url_parse(span_str(room), &url, &why))
        conf_error(r, n->line, "%s: %s; write it as in \"api-version=2024-10-21\"", what, why);
    else
        p->query = v.text.n ? conf_copy(r, v.text) : NULL;
}

static void read_resilience(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    conf_map(r, n, what, NULL, 0, &((struct draft *)into)->scope, NULL);
}

static const struct conf_field fields[] = {
    {"preset", read_preset},     {"key", read_key},
    {"base_url", read_base_url}, {"models", read_models},
    {"headers", read_headers},   {"proxy", read_proxy},
    {"ca_file", read_ca_file},   {"tls_verify", read_tls_verify},
    {"stream", read_stream},     {"weight", read_weight},
    {"query", read_query},       {"resilience", read_resilience},
};

/* ---- key and address ------------------------------------------------------------ */

static bool key_fine(struct span key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= ' ' || key.p[i] > '~')
            return false;
    return true;
}

static void find_key(struct conf_reader *r, struct conf_provider *p, const struct conf_value *given)
{
    const char *variable = p->preset->key_env;
    struct span key = given->text;
    if (key.n)
        p->key_source = given->variable ? conf_copy(r, span_str(given->variable)) : "the config file";
    else if (variable) {
        key = span_str(conf_env(r, variable));
        p->key_source = key.n ? variable : NULL;
    }
    if (!key_fine(key))
        conf_error(r, p->line,
                   "the key of %s (from %s) has a blank or another byte that no key has: give the key alone, "
                   "without \"Bearer\"",
                   p->name, p->key_source);
    else if (key.n)
        p->key = conf_copy(r, key);
    else if (!p->preset->local && p->preset->auth != AUTH_OPTIONAL_BEARER)
        conf_error(r, p->line,
                   variable ? "%s has no key: set the environment variable %s, or write key: \"${MY_KEY}\""
                            : "%s has no key: write key: \"${%s}\" and set that variable",
                   p->name, variable ? variable : "MY_KEY");
}

static bool loopback_host(const struct url *url)
{
    char address[300];
    snprintf(address, sizeof(address), url->ipv6 ? "[%.*s]:1" : "%.*s:1", SPAN_FMT(url->host));
    return conf_is_loopback(address);
}

static void check_url(struct conf_reader *r, struct conf_provider *p, struct span text, const char *what)
{
    struct url url;
    const char *why;
    while (text.n && text.p[text.n - 1] == '/')
        text.n--;
    if (url_parse(text, &url, &why)) {
        conf_error(r, p->line, "the %s of %s is no URL: %s", what, p->name, why);
        return;
    }
    if (url.user_info.p)
        conf_error(r, p->line, "the %s of %s has a user or password in it: keys are given as key:", what, p->name);
    else if (memchr(text.p, '?', text.n))
        conf_error(r, p->line, "the %s of %s has a query in it: write it as query:", what, p->name);
    else
        p->base_url = conf_copy(r, text);
    if (p->key && !url.tls && !loopback_host(&url))
        conf_warn(r, p->line, "%s is called over plain http: its key can be read on the way; use https", p->name);
    if (url.path.n == 0 && span_starts(span_str(p->preset->dialect), "openai"))
        conf_warn(r, p->line, "the %s of %s ends at the host: servers of this kind are mostly found under /v1",
                  what, p->name);
}

static void find_url(struct conf_reader *r, struct conf_provider *p, const struct conf_value *given)
{
    const struct preset *preset = p->preset;
    const char *from_env = preset->url_env ? conf_env(r, preset->url_env) : "";
    char room[1000];
    if (given->text.n)
        check_url(r, p, given->text, "base_url");
    else if (*from_env) {
        const char *url = preset_base_url(preset, from_env, room, sizeof(room));
        if (url)
            check_url(r, p, span_str(url), preset->url_env);
        else
            conf_error(r, p->line, "%s is no URL: write it as in \"http://127.0.0.1:8000/v1\"", preset->url_env);
    } else if (preset->base_url)
        p->base_url = preset->base_url;
    else if (preset->url_env)
        conf_error(r, p->line, "%s has no base_url: write one, as in \"http://127.0.0.1:8000/v1\", or set %s",
                   p->name, preset->url_env);
    else
        conf_error(r, p->line, "%s has no base_url: write one, as in \"http://127.0.0.1:8000/v1\"", p->name);
}

void conf_provider_finish(struct conf_reader *r, struct conf_provider *p, const struct conf_value *key,
                          const struct conf_value *url)
{
    if (key)
        find_key(r, p, key);
    if (url)
        find_url(r, p, url);
    if (!p->query)
        p->query = p->preset->query;
}

/* ---- the section ----------------------------------------------------------------- */

static void find_preset(struct conf_reader *r, struct draft *d, unsigned line)
{
    const char *name = d->preset ? d->preset : d->p->name;
    d->p->preset = preset_find(r->presets, name);
    if (d->p->preset || !*name)
        return;
    const char *words[PROVIDERS_MAX];
    unsigned count = 0;
    for (; count < r->presets->count && count < PROVIDERS_MAX; count++)
        words[count] = r->presets->rows[count].name;
    char known[400] = "", hint[CONF_NAME_MAX + 40];
    size_t n = 0;
    for (unsigned i = 0; i < count && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", words[i]);
    conf_hint(span_str(name), words, count, hint, sizeof(hint));
    if (d->preset)
        conf_error(r, line, "providers.%s: \"%s\" is no preset%s%s%s", d->p->name, name, hint,
                   *hint ? "" : ": write one of ", *hint ? "" : known);
    else
        conf_error(
            r, line,
            "providers.%s is not the name of a preset%s Under a name of your own, write preset: too, one of %s",
            d->p->name, *hint ? hint : ".", known);
}

static void read_provider(struct conf_reader *r, const struct entry *e, const char *what, struct conf_provider *p)
{
    struct draft d = {.p = p, .scope = {&p->settings, 0, SETTING_RESILIENCE}};
    p->name = conf_copy(r, e->key->text);
    if (!p->name)
        return;
    p->line = e->key->line;
    p->stream = -1;
    p->weight = 1;
    p->settings = r->c->settings;
    conf_map(r, e->value, what, fields, sizeof(fields) / sizeof(fields[0]), &d.scope, &d);
    conf_check_sense(r, &d.scope, p->line, what);
    find_preset(r, &d, p->line);
    if (p->preset)
        conf_provider_finish(r, p, d.key_said ? NULL : &d.key, d.url_said ? NULL : &d.url);
}

void conf_read_providers(struct conf_reader *r, const struct node *n)
{
    if (!conf_is_kind(r, n, NODE_MAP, "providers"))
        return;
    if (n->entries > PROVIDERS_MAX) {
        conf_error(r, n->line, "providers: more than %d", PROVIDERS_MAX);
        return;
    }
    struct conf *c = r->c;
    c->providers = conf_take(r, n->entries, sizeof(*c->providers));
    for (const struct entry *e = n->first; e && c->providers && !r->nomem; e = e->next) {
        char path[CONF_PATH_MAX];
        snprintf(path, sizeof(path), "providers.%.*s", SPAN_FMT(span_upto(e->key->text, CONF_NAME_MAX)));
        if (!conf_repeated(r, n, e, path) && conf_name_fine(r, e->key->line, "providers: the name", e->key->text))
            read_provider(r, e, path, &c->providers[c->providers_count++]);
    }
}
