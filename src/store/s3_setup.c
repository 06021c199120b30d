#include "base/mem.h"
#include "credential/profile.h"
#include "parse/url.h"
#include "store/s3_priv.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

enum { PROFILE_FILE_MAX = 1 << 20, PATH_BYTES = 4096 };

struct setup {
    struct s3 *s;
    conf_env_fn *env;
    void *env_ctx;
    char *why;
    size_t why_bytes;
};

/* Empty counts as not set. */
static const char *variable(struct setup *u, const char *name)
{
    const char *value = u->env(u->env_ctx, name);
    return value && *value ? value : NULL;
}

#define SAY(u, e, ...) (snprintf((u)->why, (u)->why_bytes, __VA_ARGS__), (e))

/* ---- s3://BUCKET/PREFIX ------------------------------------------------------------------ */

static pd_err read_where(struct setup *u, const char *where)
{
    struct span bucket, prefix;
    char why[PLACE_WHY_BYTES];
    if (!span_starts(span_str(where), "s3://"))
        return SAY(u, PD_INVALID, "\"%.200s\": a bucket is written s3://BUCKET/PREFIX", where);
    if (!bucket_place(span_str(where), &bucket, &prefix, why))
        return SAY(u, PD_INVALID, "\"%.200s\": %s", where, why);
    snprintf(u->s->bucket, sizeof(u->s->bucket), "%.*s", SPAN_FMT(bucket));
    snprintf(u->s->prefix, sizeof(u->s->prefix), "%.*s%s", SPAN_FMT(prefix), prefix.n ? "/" : "");
    return PD_OK;
}

/* ---- the server -------------------------------------------------------------------------- */

static pd_err read_endpoint(struct setup *u, const char *name, const char *value)
{
    char text[S3_HOST_MAX + 10];
    struct url url;
    const char *reason = NULL;
    if (strlen(value) > S3_HOST_MAX)
        return SAY(u, PD_TOOBIG, "%s is longer than %d", name, S3_HOST_MAX);
    snprintf(text, sizeof(text), "%s%s", strstr(value, "://") ? "" : "http://", value);
    if (url_parse(span_str(text), &url, &reason) || url.query.n || url.user_info.p)
        return SAY(u, PD_INVALID, "%s is \"%.100s\": %s; it is written as in http://minio:9000", name,
                   strchr(value, '@') ? "..." : value, /* a password may be in it */
                   reason ? reason : "it has more than a host and a port");
    char port[10] = "";
    if (url.port != (url.tls ? 443 : 80))
        snprintf(port, sizeof(port), ":%u", url.port);
    snprintf(u->s->host, sizeof(u->s->host), "%s%.*s%s%s", url.ipv6 ? "[" : "", SPAN_FMT(url.host),
             url.ipv6 ? "]" : "", port);
    snprintf(u->s->base, sizeof(u->s->base), "%.*s", SPAN_FMT(url.path));
    u->s->tls = url.tls;
    return PD_OK;
}

static pd_err find_server(struct setup *u)
{
    static const char *const names[] = {"MINIO_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"};
    struct s3 *s = u->s;
    const char *region = variable(u, "AWS_REGION"), *ca = variable(u, "AWS_CA_BUNDLE");
    if (!region)
        region = variable(u, "AWS_DEFAULT_REGION");
    if (region && strlen(region) > SIGV4_SCOPE_MAX)
        return SAY(u, PD_INVALID, "AWS_REGION is longer than a region's name");
    snprintf(s->region, sizeof(s->region), "%s", region ? region : "us-east-1");
    if (ca && !(s->ca_file = mem_strdup(ca)))
        return SAY(u, PD_NOMEM, "out of memory");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = variable(u, names[i]);
        if (!value)
            continue;
        s->may_make = i == 0;
        s->path_style = true;
        return read_endpoint(u, names[i], value);
    }
    s->amazon = s->tls = true;
    s->path_style = strchr(s->bucket, '.') != NULL; /* no certificate is for a name with more dots */
    return PD_OK;
}

/* ---- who we are -------------------------------------------------------------------------- */

static bool plain(const char *value)
{
    for (; *value; value++)
        if ((unsigned char)*value <= ' ' || *value == 0x7f)
            return false;
    return true;
}

static pd_err take_keys(struct setup *u, struct span access, struct span secret, struct span token)
{
    struct s3 *s = u->s;
    s->access = mem_strndup(access.p, access.n);
    s->secret = mem_strndup(secret.p, secret.n);
    s->token = token.n ? mem_strndup(token.p, token.n) : NULL;
    if (!s->access || !s->secret || (token.n && !s->token))
        return SAY(u, PD_NOMEM, "out of memory");
    if (!plain(s->access) || (s->token && !plain(s->token)))
        return SAY(u, PD_INVALID, "the access key or the session token has blanks or line ends in it");
    return PD_OK;
}

static pd_err keys_of_variables(struct setup *u, const char *access_name, const char *secret_name,
                                const char *token_name, bool *ret_found)
{
    const char *access = variable(u, access_name), *secret = variable(u, secret_name);
    const char *token = token_name ? variable(u, token_name) : NULL;
    *ret_found = access || secret;
    if (!*ret_found)
        return PD_OK;
    if (!access || !secret)
        return SAY(u, PD_NOTFOUND, "%s is set, but not %s", access ? access_name : secret_name,
                   access ? secret_name : access_name);
    return take_keys(u, span_str(access), span_str(secret), span_str(token));
}

static pd_err read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT || errno == ENOTDIR ? PD_NOTFOUND : PD_IO;
    pd_err e = PD_OK;
    size_t n = 1;
    while (!e && n > 0) {
        e = buf_reserve(out, 4096);
        n = e ? 0 : fread(out->p + out->tail, 1, 4096, f);
        buf_added(out, n);
    }
    if (!e && ferror(f))
        e = PD_IO;
    fclose(f);
    return e;
}

static pd_err keys_of_profile(struct setup *u, bool *ret_found)
{
    const char *given = variable(u, "AWS_SHARED_CREDENTIALS_FILE"), *home = variable(u, "HOME");
    const char *name = variable(u, "AWS_PROFILE");
    char path[PATH_BYTES];
    struct profile p = {.found = false};
    struct buf text;
    unsigned line = 0;
    *ret_found = false;
    if (!given && !home)
        return PD_OK;
    snprintf(path, sizeof(path), "%s%s", given ? given : home, given ? "" : "/.aws/credentials");
    buf_init(&text, PROFILE_FILE_MAX);
    pd_err e = read_file(path, &text);
    if (e == PD_NOTFOUND) {
        buf_done(&text);
        return PD_OK;
    }
    if (e) {
        e = SAY(u, e, "%.200s cannot be read: %s", path, e == PD_IO ? strerror(errno) : pd_err_text(e));
    } else if ((e = profile_read(buf_span(&text), PROFILE_CREDENTIALS, span_str(name ? name : "default"), &p,
                                 &line)) != PD_OK) {
        e = SAY(u, e, "%.200s line %u: neither [section] nor key = value", path, line);
    } else if (p.access_key_id.n && p.secret_access_key.n) {
        *ret_found = true;
        e = take_keys(u, p.access_key_id, p.secret_access_key, p.session_token);
    }
    buf_done(&text);
    return e;
}

static pd_err find_keys(struct setup *u)
{
    bool found = false;
    pd_err e = PD_OK;
    if (u->s->may_make)
        e = keys_of_variables(u, "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", NULL, &found);
    if (!e && !found)
        e = keys_of_variables(u, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", &found);
    if (!e && !found)
        e = keys_of_profile(u, &found);
    if (e || found)
        return e;
    return SAY(u, PD_NOTFOUND, "no keys for s3://%.60s: set %s", u->s->bucket,
               u->s->may_make ? "MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
                              : "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for another server than Amazon's "
                                "MINIO_ENDPOINT, MINIO_ACCESS_KEY and MINIO_SECRET_KEY");
}

pd_err s3_setup(struct s3 *s, const char *where, conf_env_fn *env, void *env_ctx, char *why, size_t why_bytes)
{
    struct setup u = {s, env, env_ctx, why, why_bytes};
    pd_err e = strlen(where) > OBJECTS_WHERE_MAX
                   ? SAY(&u, PD_TOOBIG, "the bucket and its prefix are longer than %d", OBJECTS_WHERE_MAX)
                   : read_where(&u, where);
    if (!e)
        e = find_server(&u);
    if (!e)
        e = find_keys(&u);
    if (!e && s->amazon)
        snprintf(s->o.where, sizeof(s->o.where), "%s", where);
    else if (!e)
        snprintf(s->o.where, sizeof(s->o.where), "%s at %s://%s%s", where, s->tls ? "https" : "http", s->host,
                 s->base);
    return e;
}
