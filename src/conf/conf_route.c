/* `routes:` and `keys:`, the sections that name what others define. */
#include "conf/conf_priv.h"

#include <openssl/evp.h>

#include <stdio.h>

enum { TARGET_WEIGHT_MAX = 1000000, ROUTES_MAX = 1000, NAMES_MAX = 1000, KEY_SHORT = 16 };

const char *conf_strategy_name(enum conf_strategy s)
{
    switch (s) {
    case STRATEGY_WEIGHTED:
        return "weighted";
    case STRATEGY_PRIORITY:
        return "priority";
    case STRATEGY_LATENCY:
        return "latency";
    }
    return "?";
}

const char *conf_target_provider(const struct conf *c, const struct conf_target *t)
{
    const struct conf_provider *p = &c->providers[t->provider];
    return t->regions > 1 ? p->group : p->name;
}

/* ---- targets ---------------------------------------------------------------------- */

static void say_unknown_provider(struct conf_reader *r, unsigned line, const char *what, struct span model,
                                 struct span provider)
{
    const char *words[NAMES_MAX];
    unsigned count = 0;
    for (; count < r->c->providers_count && count < NAMES_MAX; count++)
        words[count] = r->c->providers[count].group;
    char hint[CONF_NAME_MAX + 40];
    nearest_hint(provider, words, count, hint, sizeof(hint));
    conf_error(r, line, "%s: \"%.*s\" names the provider \"%.*s\", which is not among providers%s", what,
               SPAN_FMT(model), SPAN_FMT(provider), hint);
}

static void check_listed(struct conf_reader *r, unsigned line, const char *what, const struct conf_provider *p,
                         const char *model)
{
    if (p->models_count == 0)
        return;
    for (unsigned i = 0; i < p->models_count; i++)
        if (strcmp(p->models[i], model) == 0)
            return;
    char hint[CONF_MODEL_MAX + 40];
    nearest_hint(span_str(model), p->models, p->models_count, hint, sizeof(hint));
    conf_warn(r, line, "%s: \"%s\" is not among the models of %s%s", what, model, p->name, hint);
}

/* The providers of one group stand together. */
static unsigned regions_from(const struct conf *c, unsigned first)
{
    unsigned n = 1;
    while (first + n < c->providers_count && strcmp(c->providers[first + n].group, c->providers[first].group) == 0)
        n++;
    return n;
}

/* "provider/model": the model may have slashes of its own. */
static bool read_model(struct conf_reader *r, const struct node *n, const char *what, struct conf_target *t)
{
    struct conf_value v;
    if (!conf_text(r, n, what, &v))
        return false;
    struct span model = v.text;
    struct span provider = span_cut(&model, '/');
    if (!model.n || !provider.n || model.n > CONF_MODEL_MAX) {
        conf_error(r, n->line, "%s is \"%.*s\": write provider/model, as in \"openai/gpt-5\"", what,
                   SPAN_FMT(span_upto(v.text, CONF_MODEL_MAX)));
        return false;
    }
    for (unsigned i = 0; i < r->c->providers_count; i++) {
        const struct conf_provider *p = &r->c->providers[i];
        bool all = span_is(provider, p->group);
        if (!all && !span_is(provider, p->name))
            continue;
        t->provider = i;
        t->regions = all ? regions_from(r->c, i) : 1;
        t->model = conf_copy(r, model);
        if (t->model)
            check_listed(r, n->line, what, p, t->model);
        return t->model != NULL;
    }
    say_unknown_provider(r, n->line, what, v.text, provider);
    return false;
}

struct target_draft {
    const struct node *model;
    struct conf_target *t;
};

static void take_model(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    (void)r;
    (void)what;
    ((struct target_draft *)into)->model = n;
}

static void take_weight(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_target *t = ((struct target_draft *)into)->t;
    if (!conf_count(r, n, what, TARGET_WEIGHT_MAX, &t->weight))
        t->weight = 1;
}

static bool read_target(struct conf_reader *r, const struct node *n, const char *what, struct conf_target *t)
{
    static const struct conf_field fields[] = {{"model", take_model}, {"weight", take_weight}};
    t->weight = 1;
    if (n->kind == NODE_SCALAR)
        return read_model(r, n, what, t);
    if (!conf_is_kind(r, n, NODE_MAP, what))
        return false;
    struct target_draft d = {.t = t};
    conf_map(r, n, what, fields, 2, NULL, &d);
    if (d.model)
        return read_model(r, d.model, what, t);
    conf_error(r, n->line, "%s has no model: write {model: provider/model}", what);
    return false;
}

static void check_target_is_new(struct conf_reader *r, const struct conf_route *route, const struct conf_target *t,
                                unsigned line, const char *what)
{
    for (unsigned i = 0; i < route->targets_count; i++) {
        const struct conf_target *other = &route->targets[i];
        bool apart =
            t->provider + t->regions <= other->provider || other->provider + other->regions <= t->provider;
        if (!apart && strcmp(other->model, t->model) == 0)
            conf_error(r, line, "%s has %s/%s twice: remove one", what, conf_target_provider(r->c, t), t->model);
    }
}

/* ---- routes ------------------------------------------------------------------------ */

struct route_draft {
    struct conf_route *route;
    struct conf_scope scope;
    bool has_targets;
};

static void read_strategy(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    static const char *const names[] = {"weighted", "priority", "latency"};
    struct conf_route *route = ((struct route_draft *)into)->route;
    struct conf_value v;
    if (!conf_text(r, n, what, &v))
        return;
    for (unsigned i = 0; i < 3; i++)
        if (span_is(v.text, names[i])) {
            route->strategy = (enum conf_strategy)i;
            return;
        }
    char hint[60];
    struct span shown = span_upto(n->text, CONF_NAME_MAX);
    if (span_is(v.text, "cost"))
        conf_error(r, n->line, "%s: \"cost\" is not yet supported: write weighted, priority or latency", what);
    else
        conf_error(r, n->line, "%s is \"%.*s\"%s: write weighted, priority or latency", what, SPAN_FMT(shown),
                   *nearest_hint(v.text, names, 3, hint, sizeof(hint)) ? hint : "");
}

static void read_targets(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct route_draft *d = into;
    struct conf_route *route = d->route;
    d->has_targets = true;
    if (n->kind != NODE_NULL && !conf_is_kind(r, n, NODE_LIST, what))
        return;
    if (n->entries == 0) {
        conf_error(r, n->line, "%s is empty: write at least one, as in [{model: openai/gpt-5}]", what);
        return;
    }
    route->targets = conf_take(r, n->entries, sizeof(*route->targets));
    unsigned number = 0;
    uint64_t weights = 0;
    for (const struct entry *e = n->first; e && route->targets; e = e->next) {
        char path[CONF_PATH_MAX];
        struct conf_target *t = &route->targets[route->targets_count];
        snprintf(path, sizeof(path), "%s[%u]", what, number++);
        if (!read_target(r, e->value, path, t))
            continue;
        check_target_is_new(r, route, t, e->value->line, what);
        weights += t->weight;
        route->targets_count++;
    }
    if (route->targets_count == n->entries && weights == 0)
        conf_error(r, n->line,
                   "%s: every weight is 0, which means \"only when the others are down\": give one a weight",
                   what);
}

static void read_route_resilience(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    conf_map(r, n, what, NULL, 0, &((struct route_draft *)into)->scope, NULL);
}

static void read_route(struct conf_reader *r, const struct entry *e, const char *what, struct conf_route *route)
{
    static const struct conf_field fields[] = {
        {"strategy", read_strategy}, {"targets", read_targets}, {"resilience", read_route_resilience}};
    struct route_draft d = {.route = route, .scope = {&route->settings, 0, SETTING_RESILIENCE}};
    route->name = conf_copy(r, e->key->text);
    route->line = e->key->line;
    route->settings = r->c->settings;
    conf_map(r, e->value, what, fields, sizeof(fields) / sizeof(fields[0]), &d.scope, &d);
    conf_check_sense(r, &d.scope, route->line, what);
    route->settings_given = d.scope.given;
    if (!d.has_targets && (e->value->kind == NODE_MAP || e->value->kind == NODE_NULL))
        conf_error(r, route->line, "%s has no targets: write targets: [{model: provider/model}]", what);
}

/* A route may be called as a model is, "openai/gpt-5" for one: it is looked for first. */
static bool route_name_fine(struct conf_reader *r, const struct node *key)
{
    struct span name = key->text;
    bool fine = name.n > 0 && name.n <= CONF_NAME_MAX;
    for (size_t i = 0; i < name.n && fine; i++)
        fine = name.p[i] > ' ' && name.p[i] <= '~';
    if (!fine)
        conf_error(r, key->line, "routes: a route's name is 1 to %d letters, digits and signs without blanks",
                   CONF_NAME_MAX);
    return fine;
}

void conf_read_routes(struct conf_reader *r, const struct node *n)
{
    if (n->kind == NODE_NULL || !conf_is_kind(r, n, NODE_MAP, "routes"))
        return;
    if (n->entries > ROUTES_MAX) {
        conf_error(r, n->line, "routes: more than %d", ROUTES_MAX);
        return;
    }
    struct conf *c = r->c;
    c->routes = conf_take(r, n->entries, sizeof(*c->routes));
    for (const struct entry *e = n->first; e && c->routes && !r->nomem; e = e->next) {
        char path[CONF_PATH_MAX];
        snprintf(path, sizeof(path), "routes.%.*s", SPAN_FMT(span_upto(e->key->text, CONF_NAME_MAX)));
        if (!conf_repeated(r, n, e, path) && route_name_fine(r, e->key))
            read_route(r, e, path, &c->routes[c->routes_count++]);
    }
}

/* ---- client keys -------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool from_hex(struct span s, unsigned char out[32])
{
    if (s.n != 64)
        return false;
    for (unsigned i = 0; i < 32; i++) {
        int high = hex_digit(s.p[2 * i]), low = hex_digit(s.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

void conf_key_fill(struct conf_reader *r, unsigned line, const char *what, struct span text, struct conf_key *ret)
{
    if (text.n == 0) {
        conf_error(r, line,
                   "%s is empty: write \"${MY_KEY}\" and set that variable, or sha256: and the key's hash", what);
        return;
    }
    if (span_starts(text, "sha256:")) {
        if (!from_hex(span_from(text, 7), ret->sha256))
            conf_error(r, line,
                       "%s: sha256: is followed by 64 hexadecimal digits, as printed by `printf %%s \"$KEY\" | "
                       "sha256sum`",
                       what);
        return;
    }
    if (text.n < KEY_SHORT)
        conf_warn(
            r, line,
            "%s is shorter than %d bytes and can be guessed: use a longer one, as from `openssl rand -hex 24`",
            what, KEY_SHORT);
    if (EVP_Digest(text.p, text.n, ret->sha256, NULL, EVP_sha256(), NULL) != 1)
        r->nomem = true;
}

struct key_draft {
    struct conf_key *key;
    const struct node *secret;
};

static void read_key_name(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_key *key = ((struct key_draft *)into)->key;
    if (conf_word(r, n, what, &key->name) && !conf_name_fine(r, n->line, what, span_str(key->name)))
        return;
    if (!key->name)
        key->name = ""; /* it was said: do not ask for one again */
}

static void read_key_secret(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct key_draft *d = into;
    struct conf_value v;
    d->secret = n;
    if (!conf_text(r, n, what, &v))
        return;
    conf_key_fill(r, n->line, what, v.text, d->key);
    if (v.text.n && !v.variable && !span_starts(v.text, "sha256:"))
        conf_warn(r, n->line,
                  "%s: the key itself stands in the file: keys belong in the environment; write \"${MY_KEY}\" or "
                  "sha256: and its hash",
                  what);
}

static void read_key_routes(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_key *key = ((struct key_draft *)into)->key;
    if (n->kind == NODE_LIST && n->entries == 0)
        conf_error(r, n->line,
                   "%s is empty: name the routes that this key may use, or remove the line to allow all", what);
    else if (!conf_words(r, n, what, &key->routes, &key->routes_count))
        return;
    const char *words[NAMES_MAX];
    unsigned count = 0;
    for (; count < r->c->routes_count && count < NAMES_MAX; count++)
        words[count] = r->c->routes[count].name;
    for (unsigned i = 0; i < key->routes_count; i++) {
        bool known = false;
        for (unsigned j = 0; j < count && !known; j++)
            known = strcmp(key->routes[i], words[j]) == 0;
        char hint[CONF_NAME_MAX + 40];
        if (!known)
            conf_error(r, n->line, "%s: \"%.*s\" is not among routes%s", what,
                       SPAN_FMT(span_upto(span_str(key->routes[i]), CONF_NAME_MAX)),
                       nearest_hint(span_str(key->routes[i]), words, count, hint, sizeof(hint)));
    }
}

static void read_key_admin(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_key *key = ((struct key_draft *)into)->key;
    if (!conf_bool(r, n, what, &key->admin))
        key->admin = false;
}

static void read_client_key(struct conf_reader *r, const struct node *n, const char *what, struct conf_key *key)
{
    static const struct conf_field fields[] = {
        {"name", read_key_name}, {"key", read_key_secret}, {"routes", read_key_routes}, {"admin", read_key_admin}};
    struct key_draft d = {.key = key};
    if (!conf_is_kind(r, n, NODE_MAP, what))
        return;
    conf_map(r, n, what, fields, sizeof(fields) / sizeof(fields[0]), NULL, &d);
    if (!key->name)
        conf_error(r, n->line, "%s has no name: write name:, it stands in logs in the key's place", what);
    if (!d.secret)
        conf_error(r, n->line, "%s has no key: write key: \"${MY_KEY}\", or key: sha256: and the key's hash",
                   what);
}

void conf_read_keys(struct conf_reader *r, const struct node *n)
{
    if (n->kind == NODE_NULL || !conf_is_kind(r, n, NODE_LIST, "keys"))
        return;
    struct conf *c = r->c;
    c->keys = conf_take(r, n->entries, sizeof(*c->keys));
    unsigned number = 0;
    for (const struct entry *e = n->first; e && c->keys && !r->nomem; e = e->next) {
        char path[CONF_PATH_MAX];
        struct conf_key *key = &c->keys[c->keys_count];
        unsigned errors = r->report->errors;
        *key = (struct conf_key){0};
        snprintf(path, sizeof(path), "keys[%u]", number++);
        read_client_key(r, e->value, path, key);
        for (unsigned i = 0; key->name && i < c->keys_count && r->report->errors == errors; i++) {
            if (strcmp(c->keys[i].name, key->name) == 0)
                conf_error(r, e->value->line, "%s: the name \"%s\" is taken by another key: choose another", path,
                           key->name);
            else if (memcmp(c->keys[i].sha256, key->sha256, sizeof(key->sha256)) == 0)
                conf_error(r, e->value->line, "%s (%s) is the same key as %s: give each its own", path, key->name,
                           c->keys[i].name);
        }
        if (r->report->errors == errors)
            c->keys_count++;
    }
    /* A broken key is no reason to be told that there is none. */
    if (c->keys_count == 0 && n->entries && c->keys)
        c->keys_count = 1;
}
