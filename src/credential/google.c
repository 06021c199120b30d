/* Google credentials, in the order of "Application Default Credentials": a file that is named, the one that gcloud leaves, the
 * metadata server. A service account asks for a token with a signed assertion (RFC 7523), a user with a refresh token (RFC 6749, 6). */
#include "credential/credential_priv.h"
#include "credential/secrets.h"
#include "parse/url.h"
#include "provider/jwt.h"

#include <stdarg.h>
#include <stdio.h>

enum { TOKEN_TIMEOUT_MS = 15000, METADATA_TIMEOUT_MS = 5000 };

#define SCOPE "https://www.googleapis.com/auth/cloud-platform"
#define TOKEN_URI "https://oauth2.googleapis.com/token"
#define JWT_GRANT "urn:ietf:params:oauth:grant-type:jwt-bearer"

/* What the steps keep. */
struct google_plan {
    const char *path;
    bool named; /* someone asked for this file */
    bool absent, failed;
    pd_err err;
    uint64_t wall_ms;
    struct span form; /* what is posted to the token endpoint */
    const char *token_uri;
};

static struct google_plan *plan_of(struct errand *e)
{
    return e->plan;
}

static void say(struct errand *e, pd_err err, const char *fmt, ...) PD_PRINTF(3, 4);
static void say(struct errand *e, pd_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->why, sizeof(e->why), fmt, args);
    va_end(args);
    plan_of(e)->err = err;
    plan_of(e)->failed = true;
}

/* ---- the file, on another thread -------------------------------------------------------- */

static pd_err put_encoded(struct buf *out, struct span s)
{
    pd_err e = PD_OK;
    for (size_t i = 0; i < s.n && !e; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~';
        e = plain ? buf_add(out, span_of(s.p + i, 1)) : buf_printf(out, "%%%02X", c);
    }
    return e;
}

struct pair {
    const char *name;
    struct span value;
};

/* application/x-www-form-urlencoded, into the arena. */
static pd_err make_form(struct errand *e, const struct pair *pairs, size_t count)
{
    struct buf out;
    buf_init(&out, CREDENTIAL_FILE_MAX);
    pd_err err = PD_OK;
    for (size_t i = 0; i < count && !err; i++) {
        err = buf_printf(&out, "%s%s=", i ? "&" : "", pairs[i].name);
        if (!err)
            err = put_encoded(&out, pairs[i].value);
    }
    struct span *form = &plan_of(e)->form;
    if (!err) {
        *form = arena_span(&e->arena, buf_span(&out));
        err = form->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&out);
    return err;
}

static void prepare_service_account(struct errand *e, const struct secrets_google *file)
{
    struct google_plan *plan = plan_of(e);
    if (!file->client_email.n || !file->private_key.n) {
        say(e, PD_INVALID, "%s is a service account without %s: download its key anew", plan->path,
            file->client_email.n ? "private_key" : "client_email");
        return;
    }
    struct jwt_grant grant = {.issuer = file->client_email,
                              .audience = span_str(plan->token_uri),
                              .scope = SPAN_LIT(SCOPE),
                              .key_id = file->private_key_id,
                              .key_pem = file->private_key,
                              .wall_ms = plan->wall_ms};
    struct span assertion;
    pd_err err = jwt_google_assertion(&grant, &e->arena, &assertion);
    if (err == PD_SYNTAX || err == PD_INVALID) {
        say(e, err, "%s: private_key is no RSA key in PEM: download it anew", plan->path);
        return;
    }
    const struct pair pairs[] = {{"grant_type", SPAN_LIT(JWT_GRANT)}, {"assertion", assertion}};
    if (!err)
        err = make_form(e, pairs, 2);
    if (err)
        say(e, err, "%s", pd_err_text(err));
}

static void prepare_user(struct errand *e, const struct secrets_google *file)
{
    const char *missing = !file->client_id.n       ? "client_id"
                          : !file->client_secret.n ? "client_secret"
                          : !file->refresh_token.n ? "refresh_token"
                                                   : NULL;
    if (missing) {
        say(e, PD_INVALID, "%s is a user's without %s: run `gcloud auth application-default login` again",
            plan_of(e)->path, missing);
        return;
    }
    const struct pair pairs[] = {{"grant_type", SPAN_LIT("refresh_token")},
                                 {"client_id", file->client_id},
                                 {"client_secret", file->client_secret},
                                 {"refresh_token", file->refresh_token}};
    pd_err err = make_form(e, pairs, 4);
    if (err)
        say(e, err, "%s", pd_err_text(err));
}

/* Where the token is asked for: over plain HTTP on this machine only. */
static bool take_token_uri(struct errand *e, struct span given)
{
    struct google_plan *plan = plan_of(e);
    struct url u;
    const char *why;
    struct span uri = given.n ? given : SPAN_LIT(TOKEN_URI);
    plan->token_uri = arena_strndup(&e->arena, uri.p, uri.n);
    if (!plan->token_uri)
        say(e, PD_NOMEM, "%s", pd_err_text(PD_NOMEM));
    else if (strlen(plan->token_uri) != uri.n || url_parse(uri, &u, &why))
        say(e, PD_INVALID, "%s: token_uri is no URL", plan->path);
    else if (!u.tls && !span_is(u.host, "127.0.0.1") && !span_is(u.host, "::1") && !span_is(u.host, "localhost"))
        say(e, PD_INVALID, "%s: token_uri is not https", plan->path);
    return !plan->failed;
}

static void prepare(struct errand *e, const struct secrets_google *file)
{
    struct google_plan *plan = plan_of(e);
    bool account = span_is(file->type, "service_account");
    if (!account && !span_is(file->type, "authorized_user")) {
        char type[60];
        snprintf(type, sizeof(type), "%.*s", SPAN_FMT(span_upto(file->type, sizeof(type) - 1)));
        say(e, PD_UNSUPPORTED,
            "%s is of type \"%s\", which perdure does not do: use the key of a service account, or what `gcloud "
            "auth "
            "application-default login` leaves",
            plan->path, type);
        return;
    }
    if (!e->set->project.n && !errand_keep(e, file->project, &e->set->project))
        say(e, PD_NOMEM, "%s", pd_err_text(PD_NOMEM));
    else if (!errand_keep(e, file->quota_project, &e->set->quota_project))
        say(e, PD_NOMEM, "%s", pd_err_text(PD_NOMEM));
    else if (take_token_uri(e, file->token_uri)) {
        if (account)
            prepare_service_account(e, file);
        else
            prepare_user(e, file);
    }
}

static void work_file(struct errand *e)
{
    struct google_plan *plan = plan_of(e);
    struct secrets_google file;
    struct span text;
    const char *why;
    pd_err err = errand_read_file(plan->path, &e->arena, &text, &why);
    if (err == PD_NOTFOUND && !plan->named) {
        plan->absent = true;
    } else if (err) {
        say(e, err, "%s cannot be read: %s", plan->path, why ? why : pd_err_text(err));
    } else {
        err = secrets_google_read(text, &e->arena, &file);
        if (err)
            say(e, err, "%s: %s", plan->path,
                err == PD_NOMEM ? pd_err_text(err) : "it is no JSON file of Google credentials");
        else
            prepare(e, &file);
    }
}

/* ---- the token -------------------------------------------------------------------------- */

static void on_token(struct errand *e)
{
    struct secrets_token answer;
    pd_err err = e->err ? e->err : secrets_token_read(buf_span(&e->body), &e->arena, &answer);
    if (err == PD_NOMEM) {
        errand_nomem(e);
    } else if (e->err) {
        errand_refused(e, SPAN_NONE, SPAN_NONE);
    } else if (e->status != 200) {
        errand_refused(e, err ? SPAN_NONE : answer.code, err ? SPAN_NONE : answer.message);
    } else if (err) {
        errand_malformed(e, "something that is no JSON of a token");
    } else if (!answer.access_token.n || !answer.lifetime_ms) {
        errand_malformed(e, answer.access_token.n ? "no expires_in" : "no access_token");
    } else if (!errand_keep(e, answer.access_token, &e->set->bearer)) {
        errand_nomem(e);
    } else {
        e->set->expires_ms = errand_wall_ms(e) + answer.lifetime_ms;
        errand_found(e);
    }
}

static void ask_token(struct errand *e)
{
    static const struct http1_field type = {{"Content-Type", 12}, {"application/x-www-form-urlencoded", 33}};
    struct google_plan *plan = plan_of(e);
    e->set->source = arena_strndup(&e->set->arena, plan->path, strlen(plan->path));
    if (!e->set->source) {
        errand_nomem(e);
        return;
    }
    struct errand_request rq = {.method = "POST",
                                .url = plan->token_uri,
                                .fields = &type,
                                .fields_count = 1,
                                .body = plan->form,
                                .timeout_ms = TOKEN_TIMEOUT_MS};
    errand_fetch(e, &rq, on_token);
}

/* ---- the metadata server ---------------------------------------------------------------- */

static void on_metadata(struct errand *e)
{
    if (e->err) {
        errand_failed(
            e, PD_NOTFOUND,
            "no Google credentials: GOOGLE_APPLICATION_CREDENTIALS is not set, there is no %s, and no metadata "
            "server (%s)",
            *plan_of(e)->path ? plan_of(e)->path : "file of gcloud's", e->trouble);
        return;
    }
    on_token(e);
}

static void ask_metadata(struct errand *e)
{
    static const struct http1_field flavor = {{"Metadata-Flavor", 15}, {"Google", 6}};
    const char *host = errand_env(e, "GCE_METADATA_HOST");
    const char *url = arena_printf(&e->arena, "http://%s", *host ? host : "metadata.google.internal");
    if (!url) {
        errand_nomem(e);
        return;
    }
    e->set->source = "the metadata server";
    struct errand_request rq = {.method = "GET",
                                .url = url,
                                .path =
                                    "/computeMetadata/v1/instance/service-accounts/default/token?scopes=" SCOPE,
                                .fields = &flavor,
                                .fields_count = 1,
                                .label = "the metadata server",
                                .direct = true,
                                .timeout_ms = METADATA_TIMEOUT_MS};
    errand_fetch(e, &rq, on_metadata);
}

/* ---- the chain -------------------------------------------------------------------------- */

static void on_file(struct errand *e)
{
    struct google_plan *plan = plan_of(e);
    if (plan->failed)
        errand_failed_as_said(e, plan->err);
    else if (plan->absent)
        ask_metadata(e);
    else
        ask_token(e);
}

/* NULL: out of memory; "": there is no place for one. */
static const char *file_path(struct errand *e)
{
    static const char file[] = "application_default_credentials.json";
    const char *given = e->source->given.credentials_file;
    if (!given)
        given = errand_env(e, "GOOGLE_APPLICATION_CREDENTIALS");
    plan_of(e)->named = *given;
    const char *folder = errand_env(e, "CLOUDSDK_CONFIG"), *home = errand_env(e, "HOME");
    if (*given)
        return arena_strndup(&e->arena, given, strlen(given));
    if (*folder)
        return arena_printf(&e->arena, "%s/%s", folder, file);
    return *home ? arena_printf(&e->arena, "%s/.config/gcloud/%s", home, file) : "";
}

static void found_key(struct errand *e)
{
    e->set->source = "the configured key";
    if (errand_keep(e, span_str(e->source->key), &e->set->bearer))
        errand_found(e);
    else
        errand_nomem(e);
}

void google_begin(struct errand *e)
{
    const char *project =
        e->source->given.project ? e->source->given.project : errand_env(e, "GOOGLE_CLOUD_PROJECT");
    struct google_plan *plan = arena_zalloc(&e->arena, sizeof(*plan));
    e->plan = plan;
    if (!plan || !errand_keep(e, span_str(project), &e->set->project)) {
        errand_nomem(e);
        return;
    }
    if (e->source->key) {
        found_key(e);
        return;
    }
    plan->wall_ms = errand_wall_ms(e);
    plan->path = file_path(e);
    if (!plan->path)
        errand_nomem(e);
    else if (!*plan->path)
        ask_metadata(e);
    else
        errand_offload(e, work_file, on_file);
}
