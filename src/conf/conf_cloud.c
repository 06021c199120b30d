/* What providers of AWS and Google need beside a key: regions, a project, credentials. */
#include "conf/conf_priv.h"

#include <stdio.h>
#include <unistd.h>

static struct provider_draft *draft_of(void *into)
{
    return into;
}

/* ---- the keys of a provider ------------------------------------------------------- */

void conf_cloud_regions(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct provider_draft *d = draft_of(into);
    if (d->regions_what) {
        conf_error(r, n->line, "%s: the regions stand under another key already: keep one of them", what);
        return;
    }
    d->regions_what = conf_copy(r, span_str(what));
    d->regions_said = !conf_words(r, n, what, &d->regions, &d->regions_count);
    if (d->regions_said)
        return;
    if (d->regions_count == 0 || d->regions_count > CONF_REGIONS_MAX) {
        conf_error(r, n->line, "%s: write 1 to %d of them", what, CONF_REGIONS_MAX);
        d->regions_said = true;
    }
    for (unsigned i = 0; i < d->regions_count && !d->regions_said; i++) /* they become part of a host's name */
        if (strspn(d->regions[i], "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(d->regions[i]) ||
            strlen(d->regions[i]) > CONF_REGION_MAX) {
            conf_error(r, n->line, "%s: a region is written in small letters, digits and '-', as in us-east-1",
                       what);
            d->regions_said = true;
        }
}

static void read_word(struct conf_reader *r, void *into, const struct node *n, const char *what,
                      enum preset_auth of, const char **ret)
{
    struct provider_draft *d = draft_of(into);
    if (!conf_word(r, n, what, ret))
        *ret = NULL;
    if (of == AUTH_GOOGLE)
        d->google_what = conf_copy(r, span_str(what));
    else
        d->aws_what = conf_copy(r, span_str(what));
}

static void read_secret(struct conf_reader *r, void *into, const struct node *n, const char *what,
                        const char **ret)
{
    struct conf_value v;
    draft_of(into)->aws_what = conf_copy(r, span_str(what));
    if (!conf_text(r, n, what, &v))
        return;
    if (!v.variable)
        conf_warn(r, n->line,
                  "%s: the secret itself stands in the file: write \"${AWS_SECRET}\" and set that variable", what);
    if (v.text.n)
        *ret = conf_copy(r, v.text);
    else
        conf_error(r, n->line, "%s is empty: write it, or remove the line", what);
}

void conf_cloud_profile(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_word(r, into, n, what, AUTH_SIGV4, &draft_of(into)->p->cloud.profile);
}

void conf_cloud_access_key_id(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_word(r, into, n, what, AUTH_SIGV4, &draft_of(into)->p->cloud.access_key_id);
}

void conf_cloud_secret_access_key(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_secret(r, into, n, what, &draft_of(into)->p->cloud.secret_access_key);
}

void conf_cloud_session_token(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_secret(r, into, n, what, &draft_of(into)->p->cloud.session_token);
}

void conf_cloud_project(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    read_word(r, into, n, what, AUTH_GOOGLE, &draft_of(into)->p->cloud.project);
}

void conf_cloud_credentials_file(struct conf_reader *r, void *into, const struct node *n, const char *what)
{
    struct conf_cloud *cloud = &draft_of(into)->p->cloud;
    read_word(r, into, n, what, AUTH_GOOGLE, &cloud->credentials_file);
    if (cloud->credentials_file && access(cloud->credentials_file, R_OK) != 0)
        conf_error(r, n->line, "%s: %s cannot be read: name a JSON file of Google credentials", what,
                   cloud->credentials_file);
}

/* ---- what is not said ---------------------------------------------------------------- */

static void check_belongs(struct conf_reader *r, const struct provider_draft *d)
{
    const struct conf_provider *p = d->p;
    if (d->aws_what && p->preset->auth != AUTH_SIGV4)
        conf_error(r, p->line, "%s is for Amazon's providers, and %s is none: remove it", d->aws_what,
                   p->preset->name);
    if (d->google_what && p->preset->auth != AUTH_GOOGLE)
        conf_error(r, p->line, "%s is for Google's Vertex, and %s is another: remove it", d->google_what,
                   p->preset->name);
    if (!p->cloud.access_key_id != !p->cloud.secret_access_key)
        conf_error(r, p->line, "%s has one of access_key_id and secret_access_key: write both or none", p->name);
}

static const char *first_set(struct conf_reader *r, const char *a, const char *b)
{
    const char *value = conf_env(r, a);
    return *value ? value : conf_env(r, b);
}

/* "": none is named. */
static const char *env_region(struct conf_reader *r, const struct preset *p)
{
    if (p->auth == AUTH_SIGV4)
        return first_set(r, "AWS_REGION", "AWS_DEFAULT_REGION");
    if (p->auth != AUTH_GOOGLE)
        return "";
    const char *location = conf_env(r, "GOOGLE_CLOUD_LOCATION");
    return *location ? location : "global";
}

/* The region that the surroundings name. */
static void find_region(struct conf_reader *r, struct provider_draft *d)
{
    const char *region = env_region(r, d->p->preset);
    if (!*region) {
        conf_error(r, d->p->line,
                   d->p->preset->auth == AUTH_SIGV4
                       ? "%s has no region: write one, as in region: us-east-1, or set AWS_REGION"
                       : "%s has {region} in its base_url: write region:, too",
                   d->p->name);
        d->regions_said = true;
        return;
    }
    d->regions = conf_take(r, 1, sizeof(*d->regions));
    if (!d->regions)
        return;
    d->regions[0] = conf_copy(r, span_str(region));
    d->regions_count = d->regions[0] ? 1 : 0;
}

static bool needs_region(const struct provider_draft *d)
{
    const char *url = d->url.text.n ? d->url.text.p : d->p->preset->base_url;
    return d->p->preset->auth == AUTH_SIGV4 || d->p->preset->auth == AUTH_GOOGLE ||
           (url && preset_url_has_place(url));
}

void conf_cloud_finish(struct conf_reader *r, struct provider_draft *d)
{
    struct conf_provider *p = d->p;
    check_belongs(r, d);
    if (p->preset->auth == AUTH_GOOGLE && !p->cloud.project) {
        const char *project = conf_env(r, "GOOGLE_CLOUD_PROJECT");
        if (*project)
            p->cloud.project = conf_copy(r, span_str(project));
        else
            conf_error(r, p->line, "%s has no project: write project:, or set GOOGLE_CLOUD_PROJECT", p->name);
    }
    if (!needs_region(d)) {
        if (d->regions_what)
            conf_error(r, p->line, "%s: %s has no regions, or base_url has no {region} in it: remove it",
                       d->regions_what, p->preset->name);
        return;
    }
    if (!d->regions_what)
        find_region(r, d);
    if (d->regions_count > 1 && !d->regions_said && d->url.text.n && !preset_url_has_place(d->url.text.p))
        conf_error(r, p->line,
                   "%s: base_url would be the same in every region: write {region} where it stands in the URL",
                   p->name);
}

/* ---- from the environment alone ------------------------------------------------------- */

static const char *aws_missing(struct conf_reader *r)
{
    static const char *const signs[] = {"AWS_BEARER_TOKEN_BEDROCK",
                                        "AWS_ACCESS_KEY_ID",
                                        "AWS_PROFILE",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE"};
    for (unsigned i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (*conf_env(r, signs[i]))
            return *first_set(r, "AWS_REGION", "AWS_DEFAULT_REGION") ? NULL : "AWS_REGION";
    return "AWS_ACCESS_KEY_ID";
}

/* Where `gcloud auth application-default login` leaves them. */
static bool has_default_credentials(struct conf_reader *r)
{
    static const char file[] = "application_default_credentials.json";
    char path[1000];
    const char *folder = conf_env(r, "CLOUDSDK_CONFIG"), *home = conf_env(r, "HOME");
    int n = *folder ? snprintf(path, sizeof(path), "%s/%s", folder, file)
                    : snprintf(path, sizeof(path), "%s/.config/gcloud/%s", home, file);
    return (*folder || *home) && n > 0 && (size_t)n < sizeof(path) && access(path, R_OK) == 0;
}

static const char *google_missing(struct conf_reader *r)
{
    if (!*conf_env(r, "GOOGLE_APPLICATION_CREDENTIALS") && !has_default_credentials(r))
        return "GOOGLE_APPLICATION_CREDENTIALS";
    return *conf_env(r, "GOOGLE_CLOUD_PROJECT") ? NULL : "GOOGLE_CLOUD_PROJECT";
}

const char *conf_cloud_missing(struct conf_reader *r, const struct preset *p)
{
    return p->auth == AUTH_SIGV4 ? aws_missing(r) : google_missing(r);
}
