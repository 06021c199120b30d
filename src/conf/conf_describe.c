/* A config in words, for `perdure check`. No key is in it: what is said of a key is where it came from. */
#include "conf/conf_priv.h"

#include <stdio.h>

static int widest(int width, const char *s)
{
    int n = (int)strlen(s);
    return n > width && n <= 40 ? n : width;
}

static pd_err join(struct buf *out, const char *const *words, unsigned count)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; i < count && !e; i++)
        e = buf_printf(out, "%s%s", i ? ", " : "", words[i]);
    return e;
}

static pd_err write_keys(const struct conf *c, struct buf *out)
{
    if (c->keys_count == 0)
        return buf_puts(out, "keys       none: this machine only\n");
    pd_err e = buf_puts(out, "keys       ");
    for (unsigned i = 0; i < c->keys_count && !e; i++) {
        const struct conf_key *k = &c->keys[i];
        e = buf_printf(out, "%s%s%s", i ? ", " : "", k->name, k->admin ? " (admin)" : "");
        if (!e && k->routes_count)
            e = buf_puts(out, " (only ");
        if (!e)
            e = join(out, k->routes, k->routes_count);
        if (!e && k->routes_count)
            e = buf_puts(out, ")");
    }
    return e ? e : buf_puts(out, "\n");
}

static pd_err write_head(const struct conf *c, struct buf *out)
{
    static const char *const levels[] = {
#define X(code, name, what) name,
        LOG_LEVELS(X)
#undef X
    };
    char database[600];
    pd_err e = buf_printf(out, "config     %s\nlisten     ", c->path ? c->path : "the environment");
    if (!e)
        e = join(out, c->listen, c->listen_count);
    if (!e)
        e = buf_printf(out, "\nstate      %s\ndatabase   %s\nsnapshots  %s\nlog        %s, %s\n", c->state,
                       conf_database_shown(c->database, database, sizeof(database)), c->snapshots,
                       levels[c->log_level], c->log_json ? "json" : "text");
    return e ? e : write_keys(c, out);
}

/* How requests are signed, and where what signs them comes from. */
static pd_err write_credentials(const struct conf_provider *p, struct buf *out)
{
    const struct conf_cloud *cloud = &p->cloud;
    if (p->key)
        return buf_printf(out, p->key_source ? "key from %s" : "key given", p->key_source);
    if (p->preset->auth == AUTH_SIGV4) {
        if (cloud->access_key_id)
            return buf_puts(out, "AWS keys from the config file");
        return cloud->profile ? buf_printf(out, "AWS profile %s", cloud->profile)
                              : buf_puts(out, "AWS credentials of the environment");
    }
    if (p->preset->auth == AUTH_GOOGLE)
        return cloud->credentials_file
                   ? buf_printf(out, "Google credentials from %s, project %s", cloud->credentials_file,
                                cloud->project)
                   : buf_printf(out, "Google credentials of the environment, project %s", cloud->project);
    return buf_puts(out, "no key");
}

static pd_err write_wires(const struct conf_provider *p, struct buf *out)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; p->wires[i] && !e; i++)
        e = buf_printf(out, "%s%s", i ? " " : ", speaks ", p->wires[i]);
    return e;
}

static pd_err write_provider(const struct conf_provider *p, int name_width, int preset_width, int url_width,
                             struct buf *out)
{
    pd_err e = buf_printf(out, "  %-*s  %-*s  %-*s  ", name_width, p->name, preset_width, p->preset->name,
                          url_width, p->base_url);
    if (!e)
        e = write_credentials(p, out);
    if (!e && p->wires != p->preset->wires)
        e = write_wires(p, out);
    if (!e && p->weight != 1)
        e = buf_printf(out, ", weight %llu", (unsigned long long)p->weight);
    if (!e && p->stream >= 0)
        e = buf_puts(out, p->stream ? ", always streamed" : ", never streamed");
    if (!e && p->tls_insecure)
        e = buf_puts(out, ", certificate NOT verified");
    if (!e && p->proxy)
        e = buf_puts(out, *p->proxy ? ", through a proxy" : ", no proxy");
    if (!e && p->headers_count)
        e = buf_printf(out, ", %u header%s", p->headers_count, p->headers_count == 1 ? "" : "s");
    if (!e && p->prices_count)
        e = buf_printf(out, ", %u price%s", p->prices_count, p->prices_count == 1 ? "" : "s");
    if (!e && p->models_count)
        e = buf_printf(out, "\n  %-*s  models ", name_width, "");
    if (!e)
        e = join(out, p->models, p->models_count);
    return e ? e : buf_puts(out, "\n");
}

static pd_err write_providers(const struct conf *c, struct buf *out)
{
    int names = 4, presets = 4, urls = 4;
    for (unsigned i = 0; i < c->providers_count; i++) {
        names = widest(names, c->providers[i].name);
        presets = widest(presets, c->providers[i].preset->name);
        urls = widest(urls, c->providers[i].base_url);
    }
    pd_err e = buf_puts(out, "\nproviders\n");
    for (unsigned i = 0; i < c->providers_count && !e; i++)
        e = write_provider(&c->providers[i], names, presets, urls, out);
    return e;
}

static pd_err write_routes(const struct conf *c, struct buf *out)
{
    pd_err e =
        buf_puts(out, c->routes_count ? "\nroutes\n" : "\nroutes     none: models are called by their names\n");
    for (unsigned i = 0; i < c->routes_count && !e; i++) {
        const struct conf_route *route = &c->routes[i];
        e = buf_printf(out, "  %s: %s\n", route->name, conf_strategy_name(route->strategy));
        for (unsigned j = 0; j < route->targets_count && !e; j++) {
            const struct conf_target *t = &route->targets[j];
            e = buf_printf(out, "    %7llu  %s/%s%s\n", (unsigned long long)t->weight, conf_target_provider(c, t),
                           t->model, t->weight ? "" : "  (only when the others are down)");
        }
    }
    return e;
}

/* What `s` has otherwise than `base`, one a line; `*begun` says whether the heading stands already. */
static pd_err write_changes(const struct settings *s, const struct settings *base, const char *of, bool *begun,
                            struct buf *out)
{
    pd_err e = PD_OK;
    for (unsigned i = 0; i < setting_rows_count && !e; i++) {
        const struct setting_row *row = &setting_rows[i];
        uint64_t value = setting_of(s, row), was = setting_of(base, row);
        char now_text[32], was_text[32], name[CONF_PATH_MAX];
        if (value == was)
            continue;
        if (!*begun)
            e = buf_puts(out, "\nsettings that differ\n");
        *begun = true;
        snprintf(name, sizeof(name), "%s%s%s", of, *of ? ": " : "", row->name);
        if (!e)
            e = buf_printf(out, "  %-28s  %-6s  (otherwise %s)\n", name,
                           setting_format(row, value, now_text, sizeof(now_text)),
                           setting_format(row, was, was_text, sizeof(was_text)));
    }
    return e;
}

static pd_err write_settings(const struct conf *c, struct buf *out)
{
    struct settings defaults;
    bool begun = false;
    settings_default(&defaults);
    pd_err e = write_changes(&c->settings, &defaults, "", &begun, out);
    for (unsigned i = 0; i < c->providers_count && !e; i++)
        e = write_changes(&c->providers[i].settings, &c->settings, c->providers[i].name, &begun, out);
    for (unsigned i = 0; i < c->routes_count && !e; i++) {
        char of[CONF_PATH_MAX];
        snprintf(of, sizeof(of), "route %s", c->routes[i].name);
        e = write_changes(&c->routes[i].settings, &c->settings, of, &begun, out);
    }
    return e || begun ? e : buf_puts(out, "\nsettings   all at their defaults\n");
}

pd_err conf_describe(const struct conf *c, struct buf *out)
{
    pd_err e = write_head(c, out);
    if (!e)
        e = write_providers(c, out);
    if (!e)
        e = write_routes(c, out);
    return e ? e : write_settings(c, out);
}
