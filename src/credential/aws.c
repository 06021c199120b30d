/* AWS credentials, in the order in which AWS's own SDKs look: given ones, the environment, the profile files, a container's endpoint,
 * the role of an EC2 machine. Signing in with SSO, assuming roles and web identities are not done: who uses them is told. */
#include "credential/credential_priv.h"
#include "credential/profile.h"
#include "credential/secrets.h"
#include "parse/date.h"
#include "parse/url.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

enum { IMDS_TIMEOUT_MS = 2000, CONTAINER_TIMEOUT_MS = 5000 };

#define EXPORT_HINT                                                                                           \
    "sign in with the AWS CLI and give perdure what `aws configure export-credentials --profile %s --format " \
    "env` "                                                                                                   \
    "prints"

/* What the steps keep. */
struct aws_plan {
    const char *profile; /* its name */
    bool named;          /* someone asked for it: without it, nothing else is looked for */
    const char *credentials_path, *config_path;
    bool found, failed; /* by the files */
    pd_err err;

    const char *token_file, *token; /* Authorization of a container's endpoint */
    const char *container_url;
    const char *imds;       /* "http://169.254.169.254" */
    const char *imds_token; /* of a session */
    const char *role;
};

static struct aws_plan *plan_of(struct errand *e)
{
    return e->plan;
}

/* Fills in a set of signing credentials; false when out of memory. */
static bool take_keys(struct errand *e, struct span id, struct span secret, struct span token, const char *source)
{
    e->set->source = source;
    return source && errand_keep(e, id, &e->set->aws.access_key) &&
           errand_keep(e, secret, &e->set->aws.secret_key) && errand_keep(e, token, &e->set->aws.session_token);
}

/* ---- given and in the environment ------------------------------------------------------- */

static void found_keys(struct errand *e, const char *id, const char *secret, const char *token, const char *source)
{
    if (take_keys(e, span_str(id), span_str(secret), span_str(token), source))
        errand_found(e);
    else
        errand_nomem(e);
}

static void found_bearer(struct errand *e, const char *key, const char *source)
{
    e->set->source = source;
    if (errand_keep(e, span_str(key), &e->set->bearer))
        errand_found(e);
    else
        errand_nomem(e);
}

static void env_keys(struct errand *e)
{
    const char *id = errand_env(e, "AWS_ACCESS_KEY_ID"), *secret = errand_env(e, "AWS_SECRET_ACCESS_KEY");
    const char *expires = errand_env(e, "AWS_CREDENTIAL_EXPIRATION");
    if (!*id || !*secret)
        errand_failed(e, PD_INVALID, "%s is set, but %s is not: set both or none",
                      *id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                      *id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
    else if (*expires && !date_parse_iso(span_str(expires), &e->set->expires_ms))
        errand_failed(e, PD_INVALID,
                      "AWS_CREDENTIAL_EXPIRATION is no moment: write it as in 2026-11-24T07:08:09Z");
    else
        found_keys(e, id, secret, errand_env(e, "AWS_SESSION_TOKEN"), "AWS_ACCESS_KEY_ID");
}

/* ---- the profile files ------------------------------------------------------------------ */

/* The file that a variable names, or one in the home folder. NULL: out of memory; "": there is no home. */
static const char *file_path(struct errand *e, const char *variable, const char *in_home)
{
    const char *given = errand_env(e, variable), *home = errand_env(e, "HOME");
    if (*given && strncmp(given, "~/", 2) != 0)
        return arena_strndup(&e->arena, given, strlen(given));
    if (!*home)
        return "";
    return arena_printf(&e->arena, "%s/%s", home, *given ? given + 2 : in_home);
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

/* Reads a profile from a file that may not be there. False: it was said why. */
static bool read_profile(struct errand *e, const char *path, enum profile_file file, struct profile *ret)
{
    struct span text;
    const char *why;
    unsigned line;
    *ret = (struct profile){.found = false};
    if (!*path)
        return true;
    pd_err err = errand_read_file(path, &e->arena, &text, &why);
    if (err == PD_NOTFOUND)
        return true;
    if (err) {
        say(e, err, "%s cannot be read: %s", path, why ? why : pd_err_text(err));
        return false;
    }
    err = profile_read(text, file, span_str(plan_of(e)->profile), ret, &line);
    if (err)
        say(e, err, "%s line %u: neither [section] nor key = value", path, line);
    return !err;
}

/* What a profile says of credentials that we do not fetch; NULL: nothing. */
static const char *not_done(const struct profile *p)
{
    return p->role_arn.n ? "assumes a role (role_arn)" : NULL;
}
static const char *not_done_without_keys(const struct profile *p)
{
    return p->sso.n                  ? "signs in with SSO"
           : p->login.n              ? "signs in with a browser (login_session)"
           : p->credential_process.n ? "runs a program (credential_process)"
                                     : NULL;
}

/* The keys of one file; false when it has none. */
static bool keys_of(struct errand *e, const struct profile *p, const char *path)
{
    struct aws_plan *plan = plan_of(e);
    if (!p->access_key_id.n && !p->secret_access_key.n)
        return false;
    if (!p->access_key_id.n || !p->secret_access_key.n) {
        say(e, PD_INVALID, "profile \"%s\" of %s has %s, but no %s", plan->profile, path,
            p->access_key_id.n ? "aws_access_key_id" : "aws_secret_access_key",
            p->access_key_id.n ? "aws_secret_access_key" : "aws_access_key_id");
        return true;
    }
    const char *source = arena_printf(&e->set->arena, "profile \"%s\" of %s", plan->profile, path);
    plan->found = take_keys(e, p->access_key_id, p->secret_access_key, p->session_token, source);
    if (!plan->found)
        say(e, PD_NOMEM, "%s", pd_err_text(PD_NOMEM));
    return true;
}

static void say_not_found(struct errand *e)
{
    const struct aws_plan *plan = plan_of(e);
    const char *a = plan->credentials_path, *b = plan->config_path;
    say(e, PD_NOTFOUND, "profile \"%s\" is not in %s%s%s: write it there, or name another one", plan->profile,
        *a ? a : "the shared files (HOME is not set)", *a && *b ? " nor in " : "", *a ? b : "");
}

/* The file's text is the whole header; it changes while we run. */
static void read_token_file(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    struct span token;
    const char *why;
    pd_err err = errand_read_file(plan->token_file, &e->arena, &token, &why);
    if (!err) {
        token = span_trim(token);
        plan->token = arena_strndup(&e->arena, token.p, token.n);
        err = plan->token ? PD_OK : PD_NOMEM;
        why = pd_err_text(err);
    }
    if (err)
        say(e, err, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE %s cannot be read: %s", plan->token_file,
            why ? why : pd_err_text(err));
}

/* On another thread. */
static void work_files(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    struct profile keys, config;
    if (!read_profile(e, plan->credentials_path, PROFILE_CREDENTIALS, &keys) ||
        !read_profile(e, plan->config_path, PROFILE_CONFIG, &config))
        return;
    const char *how = not_done(&config) ? not_done(&config) : not_done(&keys);
    if (!how && (keys_of(e, &keys, plan->credentials_path) || keys_of(e, &config, plan->config_path)))
        return;
    if (!how)
        how = not_done_without_keys(&config) ? not_done_without_keys(&config) : not_done_without_keys(&keys);
    if (how)
        say(e, PD_UNSUPPORTED, "profile \"%s\" %s, which perdure does not do: " EXPORT_HINT, plan->profile, how,
            plan->profile);
    else if (plan->named && !keys.found && !config.found)
        say_not_found(e);
    else if (plan->named)
        say(e, PD_NOTFOUND, "profile \"%s\" of %s has no aws_access_key_id", plan->profile,
            keys.found ? plan->credentials_path : plan->config_path);
    else if (plan->container_url && plan->token_file)
        read_token_file(e);
}

/* ---- a container's endpoint ------------------------------------------------------------- */

/* The answer that ends both endpoints' chains. */
static void take_answer(struct errand *e, const char *source)
{
    struct secrets_aws answer;
    pd_err err = e->err ? e->err : secrets_aws_read(buf_span(&e->body), &e->arena, &answer);
    if (err == PD_NOMEM)
        errand_nomem(e);
    else if (e->err)
        errand_refused(e, SPAN_NONE, SPAN_NONE);
    else if (e->status != 200)
        errand_refused(e, err ? SPAN_NONE : answer.code, err ? SPAN_NONE : answer.message);
    else if (err)
        errand_malformed(e, "something that is no JSON of credentials");
    else if (!answer.access_key_id.n || !answer.secret_access_key.n) {
        if (answer.code.n || answer.message.n)
            errand_refused(e, answer.code, answer.message);
        else
            errand_malformed(e, "no AccessKeyId and SecretAccessKey");
    } else if (!take_keys(e, answer.access_key_id, answer.secret_access_key, answer.session_token, source)) {
        errand_nomem(e);
    } else {
        e->set->expires_ms = answer.expires_ms;
        errand_found(e);
    }
}

static void on_container(struct errand *e)
{
    take_answer(e, "the container's endpoint");
}

static void ask_container(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    struct http1_field fields[2] = {{SPAN_LIT("Accept"), SPAN_LIT("application/json")}};
    unsigned count = 1;
    if (plan->token && *plan->token)
        fields[count++] = (struct http1_field){SPAN_LIT("Authorization"), span_str(plan->token)};
    struct errand_request rq = {.method = "GET",
                                .url = plan->container_url,
                                .label = "the container's endpoint", /* its path is half a secret */
                                .fields = fields,
                                .fields_count = count,
                                .direct = true,
                                .timeout_ms = CONTAINER_TIMEOUT_MS};
    errand_fetch(e, &rq, on_container);
}

/* Plain HTTP only to this machine and to the addresses that AWS gave its agents: anyone else could read the secret. */
static bool container_host_allowed(const struct url *u)
{
    static const char *const known[] = {"localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "::1"};
    if (u->tls)
        return true;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (span_iis(u->host, known[i]))
            return true;
    char text[INET_ADDRSTRLEN];
    struct in_addr a;
    snprintf(text, sizeof(text), "%.*s", SPAN_FMT(span_upto(u->host, sizeof(text) - 1)));
    return inet_pton(AF_INET, text, &a) == 1 && (ntohl(a.s_addr) >> 24) == 127;
}

/* ---- the role of an EC2 machine --------------------------------------------------------- */

#define IMDS_ROLES "/latest/meta-data/iam/security-credentials/"

static void ask_imds(struct errand *e, const char *method, const char *path, struct http1_field field,
                     errand_fn *next)
{
    struct errand_request rq = {.method = method,
                                .url = plan_of(e)->imds,
                                .path = path,
                                .fields = &field,
                                .fields_count = 1,
                                .direct = true,
                                .timeout_ms = IMDS_TIMEOUT_MS};
    errand_fetch(e, &rq, next);
}

static struct http1_field session_field(const struct errand *e)
{
    const struct aws_plan *plan = e->plan;
    return (struct http1_field){SPAN_LIT("X-aws-ec2-metadata-token"), span_str(plan->imds_token)};
}

static void on_imds_credentials(struct errand *e)
{
    const char *role = plan_of(e)->role;
    const char *source = arena_printf(&e->set->arena, "the EC2 role \"%s\"", role);
    take_answer(e, source);
}

/* A word that can stand in a header and in a path. */
static const char *answered_word(struct errand *e)
{
    struct span word = buf_span(&e->body);
    word = span_trim(span_cut(&word, '\n'));
    for (size_t i = 0; i < word.n; i++)
        if ((unsigned char)word.p[i] <= ' ' || (unsigned char)word.p[i] >= 0x7f)
            return "";
    return arena_strndup(&e->arena, word.p, word.n);
}

static void on_imds_role(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    if (!e->err && e->status == 404) {
        errand_failed(e, PD_NOTFOUND,
                      "no AWS credentials: this EC2 machine has no role (%s answered 404): attach one, or set "
                      "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                      e->label);
        return;
    }
    if (e->err || e->status != 200) {
        errand_refused(e, SPAN_NONE, SPAN_NONE);
        return;
    }
    plan->role = answered_word(e);
    const char *path = plan->role ? arena_printf(&e->arena, IMDS_ROLES "%s", plan->role) : NULL;
    if (!path)
        errand_nomem(e);
    else if (!*plan->role || strchr(plan->role, '?') || strchr(plan->role, '/'))
        errand_malformed(e, "no name of a role");
    else
        ask_imds(e, "GET", path, session_field(e), on_imds_credentials);
}

static void on_imds_token(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    if (e->err) {
        errand_failed(
            e, PD_NOTFOUND,
            "no AWS credentials: none in AWS_ACCESS_KEY_ID, no profile \"%s\" in %s, no container's endpoint, "
            "and no EC2 metadata service (%s: %s)",
            plan->profile, *plan->credentials_path ? plan->credentials_path : "the shared files", plan->imds,
            e->trouble);
        return;
    }
    if (e->status != 200) {
        errand_refused(e, SPAN_NONE, SPAN_NONE);
        return;
    }
    plan->imds_token = answered_word(e);
    if (!plan->imds_token)
        errand_nomem(e);
    else if (!*plan->imds_token)
        errand_malformed(e, "no session token");
    else
        ask_imds(e, "GET", IMDS_ROLES, session_field(e), on_imds_role);
}

static void begin_imds(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    if (span_iis(span_str(errand_env(e, "AWS_EC2_METADATA_DISABLED")), "true")) {
        errand_failed(
            e, PD_NOTFOUND,
            "no AWS credentials: none in AWS_ACCESS_KEY_ID, no profile \"%s\" in %s, no container's endpoint, "
            "and the EC2 metadata service is not asked since AWS_EC2_METADATA_DISABLED is set",
            plan->profile, *plan->credentials_path ? plan->credentials_path : "the shared files");
        return;
    }
    const char *given = errand_env(e, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    bool v6 = span_iis(span_str(errand_env(e, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")), "ipv6");
    if (!*given)
        given = v6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254";
    char *base = arena_strndup(&e->arena, given, strlen(given));
    if (!base) {
        errand_nomem(e);
        return;
    }
    for (size_t n = strlen(base); n && base[n - 1] == '/';)
        base[--n] = '\0';
    plan->imds = base;
    struct http1_field life = {SPAN_LIT("X-aws-ec2-metadata-token-ttl-seconds"), SPAN_LIT("21600")};
    ask_imds(e, "PUT", "/latest/api/token", life, on_imds_token);
}

/* ---- the chain -------------------------------------------------------------------------- */

static void on_files(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    if (plan->failed)
        errand_failed_as_said(e, plan->err);
    else if (plan->found)
        errand_found(e);
    else if (plan->container_url)
        ask_container(e);
    else
        begin_imds(e);
}

/* The container's variables; false: over. */
static bool plan_container(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    const char *relative = errand_env(e, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = errand_env(e, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *why = NULL;
    struct url u;
    const char *token_file = errand_env(e, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    plan->token_file = *token_file ? arena_strndup(&e->arena, token_file, strlen(token_file)) : NULL;
    plan->token = errand_env(e, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (*relative)
        plan->container_url = arena_printf(&e->arena, "http://169.254.170.2%s", relative);
    else if (*full)
        plan->container_url = arena_strndup(&e->arena, full, strlen(full));
    else
        return true;
    if (!plan->container_url || (*token_file && !plan->token_file))
        errand_nomem(e);
    else if (url_parse(span_str(plan->container_url), &u, &why))
        errand_failed(e, PD_INVALID, "%s is no URL: %s",
                      *relative ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" : "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                      why);
    else if (!container_host_allowed(&u))
        errand_failed(e, PD_INVALID,
                      "AWS_CONTAINER_CREDENTIALS_FULL_URI names %.*s, which may be asked over https only",
                      SPAN_FMT(u.host));
    else
        return true;
    return false;
}

static void begin_files(struct errand *e)
{
    struct aws_plan *plan = plan_of(e);
    const char *given = e->source->given.profile;
    const char *from_env =
        *errand_env(e, "AWS_PROFILE") ? errand_env(e, "AWS_PROFILE") : errand_env(e, "AWS_DEFAULT_PROFILE");
    const char *name = given ? given : *from_env ? from_env : "default";
    plan->named = given || *from_env;
    plan->profile = arena_strndup(&e->arena, name, strlen(name));
    plan->credentials_path = file_path(e, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    plan->config_path = file_path(e, "AWS_CONFIG_FILE", ".aws/config");
    if (!plan->profile || !plan->credentials_path || !plan->config_path)
        errand_nomem(e);
    else if (plan->named || plan_container(e))
        errand_offload(e, work_files, on_files);
}

void aws_begin(struct errand *e)
{
    const struct conf_cloud *given = &e->source->given;
    e->plan = arena_zalloc(&e->arena, sizeof(struct aws_plan));
    if (!e->plan)
        errand_nomem(e);
    else if (e->source->key)
        found_bearer(e, e->source->key, "the configured key");
    else if (given->access_key_id && given->secret_access_key)
        found_keys(e, given->access_key_id, given->secret_access_key, given->session_token, "the config file");
    else if (given->profile)
        begin_files(e);
    else if (*errand_env(e, "AWS_BEARER_TOKEN_BEDROCK"))
        found_bearer(e, errand_env(e, "AWS_BEARER_TOKEN_BEDROCK"), "AWS_BEARER_TOKEN_BEDROCK");
    else if (*errand_env(e, "AWS_ACCESS_KEY_ID") || *errand_env(e, "AWS_SECRET_ACCESS_KEY"))
        env_keys(e);
    else if (*errand_env(e, "AWS_WEB_IDENTITY_TOKEN_FILE") && *errand_env(e, "AWS_ROLE_ARN"))
        errand_failed(
            e, PD_UNSUPPORTED,
            "AWS_WEB_IDENTITY_TOKEN_FILE asks for a web identity, which perdure does not do: use EKS Pod "
            "Identity, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    else
        begin_files(e);
}
