/* `providers:`, and what makes a provider whole: its key and its address. */
#include "conf/conf_priv.h"
#include "parse/url.h"

#include <stdio.h>
#include <unistd.h>

enum { WEIGHT_MAX = 1000000, HEADERS_MAX = 50, PRESETS_MAX = 128 };

static void read_preset(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct provider_draft *d = into;
    if (!conf_word(r, n, what, &d->preset))
        d->preset = ""; /* it was said: do not go on to ask for a preset */
}

static void read_key(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct provider_draft *d = into;
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
    struct provider_draft *d = into;
    d->url_said = !conf_text(r, n, what, &d->url);
    if (d->url_said || d->url.text.n)
        return;
    conf_error(r, n->line, "%s is empty: write a URL, or remove the line", what);
    d->url_said = true;
}

static void read_models(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct provider_draft *)into)->p;
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
    struct conf_provider *p = ((struct provider_draft *)into)->p;
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
    struct conf_provider *p = ((struct provider_draft *)into)->p;
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
    struct conf_provider *p = ((struct provider_draft *)into)->p;
    if (conf_word(r, n, what, &p->ca_file) && access(p->ca_file, R_OK) != 0)
        conf_error(r, n->line, "%s: %s cannot be read: name a PEM file with the certificates to trust", what,
                   p->ca_file);
}

static void read_tls_verify(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    bool verify;
    if (!conf_bool(r, n, what, &verify))
        return;
    ((struct provider_draft *)into)->p->tls_insecure = !verify;
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
        ((struct provider_draft *)into)->p->stream = stream;
}

static void read_throttles(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    bool throttles;
    if (n->kind == NODE_SCALAR && span_iis(n->text, "auto"))
        return;
    if (conf_bool(r, n, what, &throttles))
        ((struct provider_draft *)into)->throttles = throttles ? 2 : 1;
}

static void read_continue(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct provider_draft *)into)->p;
    const char *word;
    if ((n->kind == NODE_SCALAR && span_iis(n->text, "auto")) || !conf_word(r, n, what, &word))
        return;
    char known[100] = "", hint[CONF_NAME_MAX + 40];
    size_t used = 0;
    for (unsigned i = 0; i < preset_continues_names_count; i++) {
        if (span_iis(span_str(word), preset_continues_names[i])) {
            p->continues = preset_continues_names[i];
            return;
        }
        used += (size_t)snprintf(known + used, sizeof(known) - used, ", %s", preset_continues_names[i]);
    }
    nearest_hint(span_str(word), preset_continues_names, preset_continues_names_count, hint, sizeof(hint));
    conf_error(r, n->line, "%s: \"%.*s\" is no way to go on with an answer%s; known are auto%s", what,
               SPAN_FMT(span_upto(span_str(word), CONF_NAME_MAX)), hint, known);
}

static void read_weight(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct provider_draft *)into)->p;
    if (!conf_count(r, n, what, WEIGHT_MAX, &p->weight))
        p->weight = 1;
}

/* ---- prices ---- */

enum { PRICE_MAX = 1000000, PRICE_DECIMALS = 6 }; /* dollars for a million tokens */

/* "3", "0.075": in millionths. */
static bool parse_dollars(struct span s, uint64_t *ret)
{
    uint64_t whole, part = 0;
    struct span decimals = s, digits = span_cut(&decimals, '.');
    if (!span_u64(digits, &whole) || whole > PRICE_MAX || decimals.n > PRICE_DECIMALS)
        return false;
    if (decimals.p && !span_u64(decimals, &part))
        return false;
    for (size_t i = decimals.n; i < PRICE_DECIMALS; i++)
        part *= 10;
    *ret = whole * 1000000 + part;
    return true;
}

static void read_dollars(struct conf_reader *r, const struct node *n, const char *what, uint64_t *ret)
{
    struct conf_value v;
    if (conf_text(r, n, what, &v) && !parse_dollars(v.text, ret))
        conf_error(r, n->line,
                   "%s is \"%.*s\": write dollars for a million tokens, from 0 to %d, as in 3.00 or 0.075", what,
                   SPAN_FMT(span_upto(n->text, CONF_NAME_MAX)), PRICE_MAX);
}

static void read_price_input(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_dollars(r, n, what, &((struct conf_price *)into)->input);
}

static void read_price_output(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_dollars(r, n, what, &((struct conf_price *)into)->output);
}

static void read_price_cache_read(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_dollars(r, n, what, &((struct conf_price *)into)->cache_read);
}

static void read_price_cache_write(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_dollars(r, n, what, &((struct conf_price *)into)->cache_write);
}

static const struct conf_field price_fields[] = {
    {"input", read_price_input},
    {"output", read_price_output},
    {"cache_read", read_price_cache_read},
    {"cache_write", read_price_cache_write},
};

static void read_price(struct conf_reader *r, const struct entry *e, const char *what, struct conf_price *ret)
{
    unsigned before = r->report->errors;
    *ret = (struct conf_price){conf_copy(r, e->key->text), UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    if (conf_is_kind(r, e->value, NODE_MAP, what))
        conf_map(r, e->value, what, price_fields, sizeof(price_fields) / sizeof(price_fields[0]), NULL, ret);
    if (r->report->errors == before && (ret->input == UINT64_MAX || ret->output == UINT64_MAX))
        conf_error(r, e->key->line, "%s: write both input and output, as in {input: 3.00, output: 15.00}", what);
    if (ret->cache_read == UINT64_MAX)
        ret->cache_read = ret->input;
    if (ret->cache_write == UINT64_MAX)
        ret->cache_write = ret->input;
}

static void read_prices(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct provider_draft *)into)->p;
    if (n->kind == NODE_NULL || !conf_is_kind(r, n, NODE_MAP, what))
        return;
    p->prices = conf_take(r, n->entries, sizeof(*p->prices));
    for (const struct entry *e = n->first; e && p->prices && !r->nomem; e = e->next) {
        char path[CONF_PATH_MAX];
        snprintf(path, sizeof(path), "%s.%.*s", what, SPAN_FMT(span_upto(e->key->text, CONF_NAME_MAX)));
        if (!conf_repeated(r, n, e, path))
            read_price(r, e, path, &p->prices[p->prices_count++]);
    }
}

const struct conf_price *conf_find_price(const struct conf_provider *p, const char *model)
{
    for (unsigned i = 0; i < p->prices_count; i++)
        if (strcmp(p->prices[i].model, model) == 0)
            return &p->prices[i];
    return NULL;
}

/* A price under a name that no model of the provider has is a slip of the pen. */
static void check_prices(struct conf_reader *r, const struct conf_provider *p)
{
    for (unsigned i = 0; i < p->prices_count && p->models_count && !r->nomem; i++) {
        bool known = false;
        for (unsigned k = 0; k < p->models_count && !known; k++)
            known = strcmp(p->models[k], p->prices[i].model) == 0;
        if (!known)
            conf_warn(r, p->line, "providers.%s.prices: its models have no \"%s\": the price is never used",
                      p->group, p->prices[i].model);
    }
}

static void read_query(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct provider_draft *)into)->p;
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

static void say_unknown_wire(struct conf_reader *r, unsigned line, const char *what, struct span wire)
{
    char known[400] = "", hint[CONF_NAME_MAX + 40];
    size_t n = 0;
    for (unsigned i = 0; i < preset_wire_names_count && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", preset_wire_names[i]);
    nearest_hint(wire, preset_wire_names, preset_wire_names_count, hint, sizeof(hint));
    conf_error(r, line, "%s: \"%.*s\" is no wire format%s; known are %s", what,
               SPAN_FMT(span_upto(wire, CONF_NAME_MAX)), hint, known);
}

/* "NAME" or "NAME@/prefix". */
static bool wire_fine(struct conf_reader *r, unsigned line, const char *what, const char *entry)
{
    struct span prefix = span_str(entry);
    struct span name = span_cut(&prefix, '@');
    bool known = false;
    for (unsigned i = 0; i < preset_wire_names_count && !known; i++)
        known = span_is(name, preset_wire_names[i]);
    if (!known)
        say_unknown_wire(r, line, what, name);
    for (size_t i = 0; i < prefix.n && known; i++)
        if (prefix.p[i] <= ' ' || prefix.p[i] > '~' || strchr("?#\\\"", prefix.p[i]))
            known = false;
    if (prefix.p && (prefix.n < 2 || prefix.p[0] != '/' || prefix.p[prefix.n - 1] == '/'))
        known = false;
    if (!known && prefix.p)
        conf_error(r, line, "%s: after '@' comes a path, as in \"openai-chat@/v1\"", what);
    return known;
}

static void read_wires(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_provider *p = ((struct provider_draft *)into)->p;
    const char **words;
    unsigned count;
    if (!conf_words(r, n, what, &words, &count))
        return;
    if (count == 0 || count >= PRESET_WIRES_MAX) {
        conf_error(r, n->line, "%s: write 1 to %d wire formats, the preferred first", what, PRESET_WIRES_MAX - 1);
        return;
    }
    const char **wires = conf_take(r, count + 1, sizeof(*wires));
    for (unsigned i = 0; i < count && wires; i++) {
        wires[i] = words[i];
        wire_fine(r, n->line, what, words[i]);
    }
    p->wires = wires;
}

static void read_resilience(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    conf_map(r, n, what, NULL, 0, &((struct provider_draft *)into)->scope, NULL);
}

static const struct conf_field fields[] = {
    {"preset", read_preset},
    {"key", read_key},
    {"base_url", read_base_url},
    {"models", read_models},
    {"headers", read_headers},
    {"proxy", read_proxy},
    {"ca_file", read_ca_file},
    {"tls_verify", read_tls_verify},
    {"stream", read_stream},
    {"weight", read_weight},
    {"query", read_query},
    {"resilience", read_resilience},
    {"wires", read_wires},
    {"region", conf_cloud_regions},
    {"regions", conf_cloud_regions},
    {"location", conf_cloud_regions},
    {"locations", conf_cloud_regions},
    {"project", conf_cloud_project},
    {"profile", conf_cloud_profile},
    {"access_key_id", conf_cloud_access_key_id},
    {"secret_access_key", conf_cloud_secret_access_key},
    {"session_token", conf_cloud_session_token},
    {"throttles_by_latency", read_throttles},
    {"continue", read_continue},
    {"credentials_file", conf_cloud_credentials_file},
    {"prices", read_prices},
};

/* ---- key and address ------------------------------------------------------------ */

static bool key_fine(struct span key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= ' ' || key.p[i] > '~')
            return false;
    return true;
}

static bool needs_key(const struct preset *p)
{
    switch (p->auth) {
    case AUTH_BEARER:
    case AUTH_API_KEY:
    case AUTH_X_API_KEY:
    case AUTH_GOOG_KEY:
        return !p->local;
    case AUTH_OPTIONAL_BEARER:
    case AUTH_GOOGLE:
    case AUTH_SIGV4:
        return false;
    }
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
        if (key.n == 0 && p->preset->key_env_too) {
            variable = p->preset->key_env_too;
            key = span_str(conf_env(r, variable));
        }
        p->key_source = key.n ? variable : NULL;
    }
    if (!key_fine(key))
        conf_error(r, p->line,
                   "the key of %s (from %s) has a blank or another byte that no key has: give the key alone, "
                   "without \"Bearer\"",
                   p->name, p->key_source);
    else if (key.n)
        p->key = conf_copy(r, key);
    else if (needs_key(p->preset))
        conf_error(r, p->line,
                   p->preset->key_env
                       ? "%s has no key: set the environment variable %s, or write key: \"${MY_KEY}\""
                       : "%s has no key: write key: \"${%s}\" and set that variable",
                   p->name, p->preset->key_env ? p->preset->key_env : "MY_KEY");
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
    if (p->preset->url_drop && p->wires == p->preset->wires && span_ends(text, p->preset->url_drop))
        text.n -= strlen(p->preset->url_drop);
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
    if (url.path.n == 0 && strcmp(p->wires[0], "openai-chat") == 0)
        conf_warn(r, p->line, "the %s of %s ends at the host: servers of this kind are mostly found under /v1",
                  what, p->name);
}

/* The address of the provider's own region, where it has one. */
static struct span placed(struct conf_reader *r, struct conf_provider *p, struct span url)
{
    char room[1000];
    if (!p->region || !memchr(url.p, '{', url.n))
        return url;
    const char *whole = conf_copy(r, url);
    const char *there = whole ? preset_place_url(whole, p->region, room, sizeof(room)) : NULL;
    const char *kept = there ? conf_copy(r, span_str(there)) : NULL;
    return kept ? span_str(kept) : url;
}

static void find_url(struct conf_reader *r, struct conf_provider *p, const struct conf_value *given)
{
    const struct preset *preset = p->preset;
    const char *from_env = preset->url_env ? conf_env(r, preset->url_env) : "";
    char room[1000];
    if (given->text.n)
        check_url(r, p, placed(r, p, given->text), "base_url");
    else if (*from_env) {
        const char *url = preset_base_url(preset, from_env, room, sizeof(room));
        if (url)
            check_url(r, p, span_str(url), preset->url_env);
        else
            conf_error(r, p->line, "%s is no URL: write it as in \"http://127.0.0.1:8000/v1\"", preset->url_env);
    } else if (preset->base_url)
        p->base_url = placed(r, p, span_str(preset->base_url)).p;
    else if (preset->url_env)
        conf_error(r, p->line, "%s has no base_url: write one, as in \"http://127.0.0.1:8000/v1\", or set %s",
                   p->name, preset->url_env);
    else
        conf_error(r, p->line, "%s has no base_url: write one, as in \"http://127.0.0.1:8000/v1\"", p->name);
}

/* One provider for each region, from the first on. */
static unsigned spread_over_regions(struct conf_reader *r, const struct provider_draft *d)
{
    struct conf_provider *p = d->p;
    unsigned count = d->regions_said ? 0 : d->regions_count;
    for (unsigned i = 1; i < count; i++)
        p[i] = p[0];
    for (unsigned i = 0; i < count; i++) {
        char name[CONF_NAME_MAX + CONF_REGION_MAX + 2];
        p[i].region = d->regions[i];
        snprintf(name, sizeof(name), "%s@%s", p[i].group, d->regions[i]);
        if (count > 1)
            p[i].name = conf_copy(r, span_str(name));
    }
    return count ? count : 1;
}

unsigned conf_provider_finish(struct conf_reader *r, struct provider_draft *d)
{
    struct conf_provider *p = d->p;
    p->group = p->name;
    if (!p->wires)
        p->wires = p->preset->wires;
    if (!p->query)
        p->query = p->preset->query;
    if (!p->continues)
        p->continues = p->preset->continues ? p->preset->continues : "ask";
    p->throttles_by_latency = d->throttles ? d->throttles == 2 : p->preset->throttles_by_latency;
    if (!d->key_said)
        find_key(r, p, &d->key);
    conf_cloud_finish(r, d);
    check_prices(r, p);
    unsigned count = spread_over_regions(r, d);
    for (unsigned i = 0; i < count && !d->url_said && !d->regions_said && !r->nomem; i++)
        find_url(r, &p[i], &d->url);
    return count;
}

/* ---- the section ----------------------------------------------------------------- */

static void find_preset(struct conf_reader *r, struct provider_draft *d, unsigned line)
{
    const char *name = d->preset ? d->preset : d->p->name;
    d->p->preset = preset_find(r->presets, name);
    if (d->p->preset || !*name)
        return;
    const char *words[PRESETS_MAX];
    unsigned count = 0;
    for (; count < r->presets->count && count < PRESETS_MAX; count++)
        words[count] = r->presets->rows[count].name;
    char known[400] = "", hint[CONF_NAME_MAX + 40];
    size_t n = 0;
    for (unsigned i = 0; i < count && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", words[i]);
    nearest_hint(span_str(name), words, count, hint, sizeof(hint));
    if (d->preset)
        conf_error(r, line, "providers.%s: \"%s\" is no preset%s%s%s", d->p->name, name, hint,
                   *hint ? "" : ": write one of ", *hint ? "" : known);
    else
        conf_error(
            r, line,
            "providers.%s is not the name of a preset%s Under a name of your own, write preset: too, one of %s",
            d->p->name, *hint ? hint : ".", known);
}

/* Fills in p, or one from p on for each region; returns how many. */
static unsigned read_provider(struct conf_reader *r, const struct entry *e, const char *what,
                              struct conf_provider *p)
{
    struct provider_draft d = {.p = p, .scope = {&p->settings, 0, SETTING_RESILIENCE}};
    p->name = conf_copy(r, e->key->text);
    if (!p->name)
        return 0;
    p->group = p->name;
    p->line = e->key->line;
    p->stream = -1;
    p->weight = 1;
    p->settings = r->c->settings;
    conf_map(r, e->value, what, fields, sizeof(fields) / sizeof(fields[0]), &d.scope, &d);
    conf_check_sense(r, &d.scope, p->line, what);
    find_preset(r, &d, p->line);
    return p->preset ? conf_provider_finish(r, &d) : 1;
}

/* How many providers an entry can become: one for each region that it lists. */
static unsigned room_of(const struct node *n)
{
    unsigned most = 1;
    for (const struct entry *e = n->kind == NODE_MAP ? n->first : NULL; e; e = e->next)
        if ((span_is(e->key->text, "regions") || span_is(e->key->text, "region") ||
             span_is(e->key->text, "location") || span_is(e->key->text, "locations")) &&
            e->value->kind == NODE_LIST && e->value->entries > most)
            most = e->value->entries;
    return most;
}

void conf_read_providers(struct conf_reader *r, const struct node *n)
{
    if (!conf_is_kind(r, n, NODE_MAP, "providers"))
        return;
    unsigned room = 0;
    for (const struct entry *e = n->first; e; e = e->next)
        room += room_of(e->value);
    if (room > CONF_PROVIDERS_MAX) {
        conf_error(r, n->line, "providers: more than %d, each region counted", CONF_PROVIDERS_MAX);
        return;
    }
    struct conf *c = r->c;
    c->providers = conf_take(r, room, sizeof(*c->providers));
    for (const struct entry *e = n->first; e && c->providers && !r->nomem; e = e->next) {
        char path[CONF_PATH_MAX];
        snprintf(path, sizeof(path), "providers.%.*s", SPAN_FMT(span_upto(e->key->text, CONF_NAME_MAX)));
        if (!conf_repeated(r, n, e, path) && conf_name_fine(r, e->key->line, "providers: the name", e->key->text))
            c->providers_count += read_provider(r, e, path, &c->providers[c->providers_count]);
    }
}
