/* The top level of a file, and the checks that need all of it. */
#include "conf/conf_priv.h"
#include "parse/url.h"

#include <stdio.h>

/* Where each section stands: they refer to each other, so they are read in an order of ours and not of the file's. */
struct sections {
    const struct node *listen, *state, *providers, *routes, *resilience, *keys, *log, *log_level, *database,
        *snapshots;
};

#define SECTION(name)                                                                                \
    static void at_##name(struct conf_reader *r, void *into, const struct node *n, const char *what) \
    {                                                                                                \
        (void)r;                                                                                     \
        (void)what;                                                                                  \
        ((struct sections *)into)->name = n;                                                         \
    }
SECTION(listen)
SECTION(state)
SECTION(providers)
SECTION(routes)
SECTION(resilience)
SECTION(keys)
SECTION(log)
SECTION(log_level)
SECTION(database)
SECTION(snapshots)

static const struct conf_field fields[] = {
    {"listen", at_listen},
    {"state", at_state},
    {"providers", at_providers},
    {"routes", at_routes},
    {"resilience", at_resilience},
    {"keys", at_keys},
    {"log", at_log},
    {"log_level", at_log_level},
    {"database", at_database},
    {"snapshots", at_snapshots},
};

/* ---- log --------------------------------------------------------------------------- */

static void read_level(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        LOG_LEVELS(X)
#undef X
    };
    struct conf *c = into;
    struct conf_value v;
    char hint[60];
    if (!conf_text(r, n, what, &v) || log_level_parse(v.text, &c->log_level))
        return;
    conf_error(r, n->line, "%s is \"%.*s\"%s: write error, warn, info or debug", what,
               SPAN_FMT(span_upto(n->text, CONF_NAME_MAX)),
               nearest_hint(v.text, names, LOG_LEVEL_COUNT, hint, sizeof(hint)));
}

static void read_format(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_value v;
    if (!conf_text(r, n, what, &v))
        return;
    if (!span_is(v.text, "json") && !span_is(v.text, "text"))
        conf_error(r, n->line, "%s is \"%.*s\": write text or json", what,
                   SPAN_FMT(span_upto(n->text, CONF_NAME_MAX)));
    ((struct conf *)into)->log_json = span_is(v.text, "json");
}

static void read_log(struct conf_reader *r, const struct sections *s)
{
    static const struct conf_field log_fields[] = {{"level", read_level}, {"format", read_format}};
    if (s->log)
        conf_map(r, s->log, "log", log_fields, 2, NULL, r->c);
    if (!s->log_level)
        return;
    for (const struct entry *e = s->log && s->log->kind == NODE_MAP ? s->log->first : NULL; e; e = e->next)
        if (span_is(e->key->text, "level"))
            conf_error(r, s->log_level->line,
                       "log_level is given twice, here and as log.level on line %u: remove one", e->key->line);
    read_level(r, r->c, s->log_level, "log_level");
}

/* ---- listen ------------------------------------------------------------------------- */

static void read_listen(struct conf_reader *r, const struct node *n)
{
    const char **given = NULL;
    unsigned count = 0;
    if (!conf_words(r, n, "listen", &given, &count))
        return;
    if (count == 0)
        conf_error(r, n->line, "listen is empty: write an address and a port, as in 127.0.0.1:8080");
    for (unsigned i = 0; i < count; i++) {
        const char *why = NULL;
        const char *address = conf_listen_form(r, span_str(given[i]), &why);
        if (!address && why)
            conf_error(r, n->line, "listen \"%s\": %s", given[i], why);
        for (unsigned j = 0; j < i && address; j++)
            if (strcmp(given[j], address) == 0)
                conf_error(r, n->line, "listen has %s twice: remove one", address);
        given[i] = address ? address : "";
    }
    r->c->listen = given;
    r->c->listen_count = count;
}

/* ---- the whole ------------------------------------------------------------------------ */

void conf_read_file(struct conf_reader *r, const struct node *root)
{
    struct conf *c = r->c;
    struct sections s = {0};
    struct conf_scope server = {&c->settings, 0, SETTING_SERVER},
                      resilience = {&c->settings, 0, SETTING_RESILIENCE};
    if (root->kind == NODE_NULL) {
        conf_error(r, 0, "the file is empty: write at least `listen: 127.0.0.1:8080`, or start without a file");
        return;
    }
    conf_map(r, root, "", fields, sizeof(fields) / sizeof(fields[0]), &server, &s);
    if (s.resilience)
        conf_map(r, s.resilience, "resilience", NULL, 0, &resilience, NULL);
    conf_check_sense(r, &resilience, s.resilience ? s.resilience->line : 0, "resilience");
    read_log(r, &s);
    if (s.listen)
        read_listen(r, s.listen);
    if (s.state)
        conf_word(r, s.state, "state", &c->state);
    r->interval_said = (server.given >> (setting_find(SPAN_LIT("checkpoint_interval")) - setting_rows)) & 1;
    conf_read_store(r, s.database, s.snapshots);
    if (s.providers && s.providers->kind != NODE_NULL)
        conf_read_providers(r, s.providers);
    else
        conf_env_providers(r);
    if (s.routes)
        conf_read_routes(r, s.routes);
    if (s.keys)
        conf_read_keys(r, s.keys);
    if (!r->nomem)
        conf_check_all(r, s.listen ? s.listen->line : 0);
    if (c->settings.linger > 0 && c->settings.resume_keep == 0)
        conf_warn(
            r, s.resilience ? s.resilience->line : 0,
            "resilience: linger lets answers go on for clients that come back, and resume_keep: 0 keeps none "
            "of them: set resume_keep, or linger: 0");
}

/* A provider that is perdure itself would be a call that calls itself. */
static void check_ring(struct conf_reader *r, const struct conf_provider *p)
{
    struct url url;
    const char *why;
    char address[300];
    if (!p->base_url || url_parse(span_str(p->base_url), &url, &why) || url.tls)
        return;
    snprintf(address, sizeof(address), url.ipv6 ? "[%.*s]:%u" : "%.*s:%u", SPAN_FMT(url.host), url.port);
    if (!conf_is_loopback(address))
        return;
    for (unsigned i = 0; i < r->c->listen_count; i++) {
        const char *port = strrchr(r->c->listen[i], ':');
        uint64_t number;
        if (port && span_u64(span_str(port + 1), &number) && number == url.port)
            conf_error(
                r, p->line,
                "%s is called at %s, where perdure itself listens (%s): move one of the two to another port",
                p->name, p->base_url, r->c->listen[i]);
    }
}

void conf_check_all(struct conf_reader *r, unsigned listen_line)
{
    const struct conf *c = r->c;
    if (c->providers_count == 0 && r->report->errors == 0 && !r->presets->none_is_fine)
        conf_error(r, 0, "there is no provider: write one under providers:");
    for (unsigned i = 0; i < c->listen_count && c->keys_count == 0; i++)
        if (*c->listen[i] && !conf_is_loopback(c->listen[i])) {
            conf_error(r, listen_line,
                       "listen %s can be reached from other machines, and no client key is set, so anyone could "
                       "spend your keys: add "
                       "keys: [{name: me, key: \"${PERDURE_KEY}\"}] (without a file: PERDURE_KEYS), or listen on "
                       "127.0.0.1",
                       c->listen[i]);
            break;
        }
    for (unsigned i = 0; i < c->providers_count; i++)
        check_ring(r, &c->providers[i]);
}
