/* What an agent knows of the gateway, and the gateway of it. */
#include "base/mem.h"
#include "parse/url.h"
#include "task/keep.h"

#include <stdio.h>
#include <string.h>

enum { ENV_MORE = 24 };
#define KEY_ANY "any"
#define KEY_PREFIX "perdure-agent-" /* front/agent.c knows it, and /agent/NAME */
#define PATH_PREFIX "/agent/"

static const struct {
    const char *name, *path; /* NULL path: no address but a key */
} addresses[] = {
    {"OPENAI_BASE_URL", "/v1"},     {"OPENAI_API_BASE", "/v1"}, {"ANTHROPIC_BASE_URL", ""},
    {"GOOGLE_GEMINI_BASE_URL", ""}, {"OPENAI_API_KEY", NULL},   {"ANTHROPIC_API_KEY", NULL},
    {"GEMINI_API_KEY", NULL},
};
enum { ADDRESSES = sizeof(addresses) / sizeof(addresses[0]) };

void keep_words_free(char **words)
{
    for (unsigned i = 0; words && words[i]; i++)
        mem_free(words[i]);
    mem_free(words);
}

/* "NAME=VALUE": the value, when it is of this name. */
static const char *value_of(const char *pair, const char *name)
{
    size_t n = name ? strlen(name) : 0;
    return n && strncmp(pair, name, n) == 0 && pair[n] == '=' ? pair + n + 1 : NULL;
}

/* What is set anew, and the admin key, which is not the agent's. */
static bool is_set_anew(const struct keep_rules *r, const char *pair)
{
    const char *const names[] = {"PERDURE_RESUME_FILE", "PERDURE_START", "AGENT_ID", r->key_variable};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (value_of(pair, names[i]))
            return true;
    return false;
}

static bool is_this_machine(struct span host)
{
    return span_iis(host, "localhost") || span_is(host, "127.0.0.1") || span_is(host, "::1");
}

/* Is it our gateway? Then what stands behind its address, without another agent's name. */
static bool is_gateway(const struct keep_rules *r, struct span value, struct span *ret_path)
{
    struct url theirs, ours;
    const char *why;
    struct span base = span_str(r->base ? r->base : "");
    if (url_parse(value, &theirs, &why) != PD_OK || url_parse(span_str(r->url), &ours, &why) != PD_OK)
        return false;
    bool same_host =
        span_ieq(theirs.host, ours.host) || (is_this_machine(theirs.host) && is_this_machine(ours.host));
    if (!same_host || theirs.tls != ours.tls || theirs.port != ours.port || theirs.query.n || theirs.user_info.p ||
        theirs.path.n < base.n || !span_eq(span_upto(theirs.path, base.n), base))
        return false;
    struct span path = span_from(theirs.path, base.n);
    if (path.n && path.p[0] != '/') /* /perduredness does not begin with /perdure */
        return false;
    if (span_starts(path, PATH_PREFIX)) {
        struct span rest = span_from(path, strlen(PATH_PREFIX)), name = span_cut(&rest, '/');
        path = span_from(path, strlen(PATH_PREFIX) + name.n);
    }
    *ret_path = path;
    return true;
}

static bool put(char **env, unsigned *n, struct buf *pair, pd_err e)
{
    env[*n] = e ? NULL : mem_strndup(buf_span(pair).p, buf_size(pair));
    buf_done(pair);
    return env[*n] && ++*n;
}

static bool put_env(char **env, unsigned *n, const char *name, const char *value)
{
    struct buf b = {0};
    return put(env, n, &b, buf_printf(&b, "%s=%s", name, value));
}

static bool put_address(char **env, unsigned *n, const struct keep_rules *r, const char *name, struct span path)
{
    struct buf b = {0};
    return put(env, n, &b,
               buf_printf(&b, "%s=%s%s" PATH_PREFIX "%s%.*s", name, r->url, r->base ? r->base : "", r->name,
                          SPAN_FMT(path)));
}

static bool put_key(char **env, unsigned *n, const struct keep_rules *r, const char *name)
{
    struct buf b = {0};
    return put(env, n, &b, buf_printf(&b, "%s=" KEY_PREFIX "%s", name, r->name));
}

/* Whoever has set it to our gateway, or to a key that is none, has not thereby said whose calls they are. */
static bool put_ours(char **env, unsigned *n, const struct keep_rules *r, const char *pair, bool set[ADDRESSES])
{
    struct span path;
    for (unsigned i = 0; i < ADDRESSES && r->url; i++) {
        const char *name = addresses[i].name, *value = value_of(pair, name);
        if (!value)
            continue;
        set[i] = true;
        if (addresses[i].path && is_gateway(r, span_str(value), &path))
            return put_address(env, n, r, name, path);
        if (!addresses[i].path && (strcmp(value, KEY_ANY) == 0 || span_starts(span_str(value), KEY_PREFIX)))
            return put_key(env, n, r, name);
    }
    return (env[*n] = mem_strdup(pair)) && ++*n;
}

static bool put_rest(char **env, unsigned *n, const struct keep_rules *r, const bool set[ADDRESSES], bool url_set)
{
    struct buf b = {0};
    bool fine = true;
    for (unsigned i = 0; i < ADDRESSES && fine && r->url; i++)
        if (!set[i])
            fine = addresses[i].path ? put_address(env, n, r, addresses[i].name, span_str(addresses[i].path))
                                     : put_key(env, n, r, addresses[i].name);
    return fine && (!r->url || url_set ||
                    put(env, n, &b, buf_printf(&b, "PERDURE_URL=%s%s", r->url, r->base ? r->base : "")));
}

char **keep_env(const struct keep_rules *r, char *const *ours, unsigned starts, const char *resume_path)
{
    char text[20];
    unsigned have = 0, n = 0;
    bool fine = true, set[ADDRESSES] = {false}, url_set = false;
    while (ours[have])
        have++;
    char **env = mem_calloc(have + ENV_MORE, sizeof(*env));
    if (!env)
        return NULL;
    for (unsigned i = 0; i < have && fine; i++) {
        if (is_set_anew(r, ours[i]))
            continue;
        url_set = url_set || value_of(ours[i], "PERDURE_URL");
        fine = put_ours(env, &n, r, ours[i], set);
    }
    snprintf(text, sizeof(text), "%u", starts);
    if (fine && put_rest(env, &n, r, set, url_set) && put_env(env, &n, "AGENT_ID", r->name) &&
        put_env(env, &n, "PERDURE_START", text) &&
        (!resume_path || put_env(env, &n, "PERDURE_RESUME_FILE", resume_path)))
        return env;
    keep_words_free(env);
    return NULL;
}
