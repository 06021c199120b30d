/* The environment alone: every preset whose key, or for servers of one's own whose URL, is set. */
#include "conf/conf_priv.h"

#include <stdio.h>

enum { PRESETS_MAX = 128, ENV_KEYS_MAX = 1000 };

/* The order in which presets are tried, as indexes of the table. */
struct order {
    unsigned index[PRESETS_MAX];
    unsigned count;
    unsigned named; /* so many of them are PROVIDER_ORDER's */
};

static bool has(const struct order *o, unsigned index)
{
    for (unsigned i = 0; i < o->count; i++)
        if (o->index[i] == index)
            return true;
    return false;
}

static void say_unknown(struct conf_reader *r, struct span word)
{
    const char *words[PRESETS_MAX];
    unsigned count = 0;
    char known[400] = "", hint[CONF_NAME_MAX + 40];
    size_t n = 0;
    for (; count < r->presets->count && count < PRESETS_MAX; count++) {
        words[count] = r->presets->rows[count].name;
        if (n < sizeof(known))
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", count ? ", " : "", words[count]);
    }
    nearest_hint(word, words, count, hint, sizeof(hint));
    conf_error(r, 0, "PROVIDER_ORDER names \"%.*s\"%s%s", SPAN_FMT(span_upto(word, CONF_NAME_MAX)),
               *hint ? hint : ", which is no preset: known are ", *hint ? "" : known);
}

static void read_order(struct conf_reader *r, struct order *ret)
{
    *ret = (struct order){0};
    struct span rest = span_str(conf_env(r, "PROVIDER_ORDER"));
    unsigned presets = r->presets->count < PRESETS_MAX ? (unsigned)r->presets->count : PRESETS_MAX;
    while (rest.n) {
        struct span word = span_trim(span_cut(&rest, ','));
        unsigned i = 0;
        while (i < presets && !span_iis(word, r->presets->rows[i].name))
            i++;
        if (word.n == 0)
            continue;
        if (i == presets)
            say_unknown(r, word);
        else if (has(ret, i))
            conf_warn(r, 0, "PROVIDER_ORDER names %.*s twice: the first place counts", SPAN_FMT(word));
        else
            ret->index[ret->count++] = i;
    }
    ret->named = ret->count;
    for (unsigned i = 0; i < presets; i++)
        if (!has(ret, i))
            ret->index[ret->count++] = i;
}

/* The variable that must be set, and is not, for this preset to be served; NULL: all is there. */
static const char *missing(struct conf_reader *r, const struct preset *p)
{
    bool url = p->url_env && *conf_env(r, p->url_env);
    bool key = (p->key_env && *conf_env(r, p->key_env)) || (p->key_env_too && *conf_env(r, p->key_env_too));
    if (p->auth == AUTH_SIGV4 || p->auth == AUTH_GOOGLE)
        return conf_cloud_missing(r, p);
    if (p->local)
        return url ? NULL : p->url_env ? p->url_env : "base_url in a config file";
    if (!key)
        return p->key_env ? p->key_env : "key in a config file";
    return p->base_url || url ? NULL : p->url_env ? p->url_env : "base_url in a config file";
}

/* Said where someone has asked for the provider: by naming it, or by setting the other half of what it needs. */
static void say_left_out(struct conf_reader *r, const struct preset *p, const char *variable, bool named)
{
    if (named)
        conf_warn(r, 0, "PROVIDER_ORDER names %s, but %s is not set: it is not used", p->name, variable);
    else if (!p->local && p->key_env && *conf_env(r, p->key_env))
        conf_warn(r, 0, "%s is set, but %s is not: %s is not used", p->key_env, variable, p->name);
}

static void say_none(struct conf_reader *r)
{
    if (r->presets->none_is_fine)
        return;
    char variables[500] = "";
    size_t n = 0;
    for (size_t i = 0; i < r->presets->count && n < sizeof(variables); i++) {
        const struct preset *p = &r->presets->rows[i];
        const char *variable = p->local ? p->url_env : p->key_env;
        if (variable)
            n += (size_t)snprintf(variables + n, sizeof(variables) - n, "%s%s", n ? ", " : "", variable);
    }
    conf_error(r, 0, "no provider: set one of these variables, or name providers in a config file: %s", variables);
}

void conf_env_providers(struct conf_reader *r)
{
    struct conf *c = r->c;
    struct order order;
    read_order(r, &order);
    c->providers = conf_take(r, order.count, sizeof(*c->providers));
    for (unsigned i = 0; i < order.count && c->providers && !r->nomem; i++) {
        const struct preset *preset = &r->presets->rows[order.index[i]];
        const char *variable = missing(r, preset);
        if (variable) {
            say_left_out(r, preset, variable, i < order.named);
            continue;
        }
        struct conf_provider *p = &c->providers[c->providers_count++];
        *p = (struct conf_provider){
            .name = preset->name, .preset = preset, .stream = -1, .weight = 1, .settings = c->settings};
        conf_provider_finish(r, &(struct provider_draft){.p = p}); /* one: the environment names one region */
    }
    if (c->providers_count == 0 && r->report->errors == 0 && !r->nomem)
        say_none(r);
}

/* How many words stand between commas. */
static unsigned words_in(struct span s)
{
    unsigned n = 0;
    while (s.n)
        n += span_trim(span_cut(&s, ',')).n > 0;
    return n;
}

static void read_listen(struct conf_reader *r)
{
    struct span rest = span_str(conf_env(r, "PERDURE_LISTEN"));
    unsigned count = words_in(rest);
    if (count == 0)
        return;
    struct conf *c = r->c;
    const char **listen = conf_take(r, count, sizeof(*listen));
    if (!listen)
        return;
    c->listen = listen;
    c->listen_count = 0;
    while (rest.n) {
        struct span word = span_trim(span_cut(&rest, ','));
        const char *why = NULL;
        const char *address = word.n ? conf_listen_form(r, word, &why) : NULL;
        if (address)
            listen[c->listen_count++] = address;
        else if (why)
            conf_error(r, 0, "PERDURE_LISTEN \"%.*s\": %s", SPAN_FMT(span_upto(word, CONF_NAME_MAX)), why);
    }
}

static void read_keys(struct conf_reader *r)
{
    struct span rest = span_str(conf_env(r, "PERDURE_KEYS"));
    unsigned count = words_in(rest);
    if (count == 0)
        return;
    if (count > ENV_KEYS_MAX) {
        conf_error(r, 0, "PERDURE_KEYS has more than %d keys: use a config file", ENV_KEYS_MAX);
        return;
    }
    struct conf *c = r->c;
    c->keys = conf_take(r, count, sizeof(*c->keys));
    while (rest.n && c->keys && !r->nomem) {
        struct span word = span_trim(span_cut(&rest, ','));
        if (word.n == 0)
            continue;
        char what[60], name[20];
        struct conf_key *key = &c->keys[c->keys_count++];
        snprintf(name, sizeof(name), "key-%u", c->keys_count);
        snprintf(what, sizeof(what), "PERDURE_KEYS, number %u,", c->keys_count);
        key->name = conf_copy(r, span_str(name));
        conf_key_fill(r, 0, what, word, key);
    }
}

void conf_seconds(struct conf_reader *r, const char *variable, const char *setting, const char *what)
{
    struct span text = span_str(conf_env(r, variable));
    const struct setting_row *row = setting_find(span_str(setting));
    char with_unit[40], why[120];
    uint64_t digits;
    if (text.n == 0)
        return;
    struct span value = text;
    if (text.n < 20 && span_u64(text, &digits)) {
        snprintf(with_unit, sizeof(with_unit), "%.*ss", SPAN_FMT(text));
        value = span_str(with_unit);
    }
    if (setting_parse(row, value, setting_at(&r->c->settings, row), why, sizeof(why)))
        conf_error(r, 0, "%s is \"%.*s\": write %s (%s)", variable, SPAN_FMT(span_upto(text, 40)), what, why);
}

void conf_env_all(struct conf_reader *r)
{
    conf_seconds(r, "CLIENT_TIMEOUT", "first_token_timeout", "the seconds to wait for a first token, as in 60");
    read_listen(r);
    read_keys(r);
    conf_read_store(r, NULL, NULL);
    conf_env_providers(r);
    if (!r->nomem)
        conf_check_all(r, 0);
}
