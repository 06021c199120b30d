/* Where credentials come from, how they are kept, and what is said when there are none. Every secret of these tests has the word
 * "hush" in it, so that one can look for it where it must not be. */
#include "world.h"

#include "base/log.h"
#include "parse/date.h"
#include "rsa_key.h"

#define IMDS_CREDENTIALS                                                                            \
    "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"ASIAROLE\",\"SecretAccessKey\":" \
    "\"hush-role\",\"Token\":\"hush-token\",\"Expiration\":\"2100-01-01T00:00:00Z\"}"
#define IMDS_TOKEN                                                                                         \
    {                                                                                                      \
        "PUT", "/latest/api/token", 200, "hush-session\n", "X-aws-ec2-metadata-token-ttl-seconds", "21600" \
    }
#define IMDS_ROLES "/latest/meta-data/iam/security-credentials/"
#define IMDS_ROLE                                                                       \
    {                                                                                   \
        "GET", IMDS_ROLES, 200, "my-role\n", "X-aws-ec2-metadata-token", "hush-session" \
    }
#define IMDS_KEYS(status, body)                                                               \
    {                                                                                         \
        "GET", IMDS_ROLES "my-role", status, body, "X-aws-ec2-metadata-token", "hush-session" \
    }
#define IMDS_ENV "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:%P/"
#define KEYS_FILE "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = hush-file\n"
#define CONTAINER_KEYS                                                                           \
    "{\"RoleArn\":\"r\",\"AccessKeyId\":\"ASIABOX\",\"SecretAccessKey\":\"hush-box\",\"Token\":" \
    "\"hush-token\",\"Expiration\":\"2100-01-01T00:00:00Z\"}"
#define PEM_JSON "\"hush-no-key\""
#define USER_FILE(uri)                                                                                          \
    "{\"type\":\"authorized_user\",\"client_id\":\"id&x\",\"client_secret\":\"hush-client\",\"refresh_token\":" \
    "\"hush-refresh/1\",\"quota_project_id\":\"quota\",\"token_uri\":\"" uri "\"}"
#define TOKEN_URI "http://127.0.0.1:%P/token"
#define TOKEN "{\"access_token\":\"hush-ya29\",\"expires_in\":3599,\"token_type\":\"Bearer\"}"
#define METADATA_PATH "/computeMetadata/v1/instance/service-accounts/default/token"

struct row {
    const char *name;
    enum credential_cloud cloud;
    const char *env; /* "NAME=value" lines */
    struct conf_cloud given;
    const char *key;
    struct {
        const char *name, *text;
    } files[3];
    struct route routes[4];
    const char
        *want; /* "id/secret/token" or "Bearer x", then " of SOURCE"; or the sentence. "*" stands for anything. */
};

static const struct row rows[] = {
    /* ---- AWS ---- */
    {.name = "a bearer key that is given",
     .env = "AWS_ACCESS_KEY_ID=x",
     .key = "hush-key",
     .want = "Bearer hush-key of the configured key"},
    {.name = "keys that are given",
     .env = "AWS_ACCESS_KEY_ID=x",
     .given = {.access_key_id = "AKIAGIVEN", .secret_access_key = "hush-given", .session_token = "hush-t"},
     .want = "AKIAGIVEN/hush-given/hush-t of the config file"},
    {.name = "a bearer key of the environment",
     .env = "AWS_ACCESS_KEY_ID=x\nAWS_BEARER_TOKEN_BEDROCK=hush-abk",
     .want = "Bearer hush-abk of AWS_BEARER_TOKEN_BEDROCK"},
    {.name = "keys of the environment come before files",
     .env = "AWS_ACCESS_KEY_ID=AKIAENV\nAWS_SECRET_ACCESS_KEY=hush-env\nAWS_PROFILE=default",
     .files = {{".aws/credentials", KEYS_FILE}},
     .want = "AKIAENV/hush-env/ of AWS_ACCESS_KEY_ID"},
    {.name = "with a token",
     .env = "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=hush-env\nAWS_SESSION_TOKEN=hush-t",
     .want = "A/hush-env/hush-t of AWS_ACCESS_KEY_ID"},
    {.name = "half of the keys",
     .env = "AWS_SECRET_ACCESS_KEY=hush-env",
     .want = "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not: set both or none"},
    {.name = "expired ones",
     .env = "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=hush-env\nAWS_CREDENTIAL_EXPIRATION=2020-01-02T03:04:05+"
            "00:00",
     .want =
         "the credentials of AWS_ACCESS_KEY_ID expired at 2020-01-02T03:04:05Z (the clock of this machine says *"},
    {.name = "an expiration that is none",
     .env = "AWS_ACCESS_KEY_ID=A\nAWS_SECRET_ACCESS_KEY=hush-env\nAWS_CREDENTIAL_EXPIRATION=soon",
     .want = "AWS_CREDENTIAL_EXPIRATION is no moment: write it as in 2026-11-24T07:08:09Z"},
    {.name = "a given profile comes before the environment",
     .env = "AWS_ACCESS_KEY_ID=AKIAENV\nAWS_SECRET_ACCESS_KEY=hush-env",
     .given = {.profile = "x"},
     .files = {{".aws/credentials", "[x]\naws_access_key_id = AKIAX\naws_secret_access_key = hush-x\n"}},
     .want = "AKIAX/hush-x/ of profile \"x\" of *.aws/credentials"},
    {.name = "the default profile",
     .files = {{".aws/credentials", KEYS_FILE}},
     .want = "AKIAFILE/hush-file/ of profile \"default\" of *.aws/credentials"},
    {.name = "a profile of the config file",
     .env = "AWS_PROFILE=x",
     .files = {{".aws/config",
                "[profile x]\naws_access_key_id = A\naws_secret_access_key = hush-x\naws_session_token "
                "= hush-t\n"}},
     .want = "A/hush-x/hush-t of profile \"x\" of *.aws/config"},
    {.name = "files elsewhere",
     .env = "AWS_SHARED_CREDENTIALS_FILE=%F/mine\nAWS_CONFIG_FILE=~/other",
     .files = {{"mine", KEYS_FILE}, {"other", "[default]\nregion = x\n"}},
     .want = "AKIAFILE/hush-file/ of profile \"default\" of *mine"},
    {.name = "a profile that is nowhere",
     .env = "AWS_PROFILE=x",
     .files = {{".aws/credentials", KEYS_FILE}},
     .want = "profile \"x\" is not in *.aws/credentials nor in *.aws/config: write it there, or name another one"},
    {.name = "a profile without keys",
     .env = "AWS_PROFILE=x",
     .files = {{".aws/config", "[profile x]\nregion = eu-west-1\n"}},
     .want = "profile \"x\" of *.aws/config has no aws_access_key_id"},
    {.name = "a profile with half of the keys",
     .files = {{".aws/credentials", "[default]\naws_access_key_id = A\n"}},
     .want = "profile \"default\" of *.aws/credentials has aws_access_key_id, but no aws_secret_access_key"},
    {.name = "rubbish in a profile",
     .files = {{".aws/credentials", "[default]\nhush hush\n"}},
     .want = "*.aws/credentials line 2: neither [section] nor key = value"},
    {.name = "a profile that assumes a role",
     .env = "AWS_PROFILE=x",
     .files = {{".aws/credentials", KEYS_FILE},
               {".aws/config", "[profile x]\nrole_arn = r\nsource_profile = default\n"}},
     .want =
         "profile \"x\" assumes a role (role_arn), which perdure does not do: sign in with the AWS CLI and give "
         "perdure what `aws configure export-credentials --profile x --format env` prints"},
    {.name = "SSO",
     .files = {{".aws/config", "[default]\nsso_session = s\n"}},
     .want = "profile \"default\" signs in with SSO, which perdure does not do: *"},
    {.name = "a program",
     .files = {{".aws/config", "[default]\ncredential_process = hush\n"}},
     .want = "profile \"default\" runs a program (credential_process), which perdure does not do: *"},
    {.name = "a web identity",
     .env = "AWS_WEB_IDENTITY_TOKEN_FILE=/f\nAWS_ROLE_ARN=r",
     .want = "AWS_WEB_IDENTITY_TOKEN_FILE asks for a web identity, which perdure does not do: *"},
    {.name = "a container's endpoint",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%P/"
            "box?a=b\nAWS_CONTAINER_AUTHORIZATION_TOKEN=hush-a",
     .routes = {{"GET", "/box", 200, CONTAINER_KEYS, "Authorization", "hush-a"}},
     .want = "ASIABOX/hush-box/hush-token of the container's endpoint"},
    {.name = "a container's token in a file comes first",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%P/box\nAWS_CONTAINER_AUTHORIZATION_TOKEN=x\n"
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=%F/token",
     .files = {{"token", "hush-of-file\n"}},
     .routes = {{"GET", "/box", 200, CONTAINER_KEYS, "Authorization", "hush-of-file"}},
     .want = "ASIABOX/hush-box/hush-token of the container's endpoint"},
    {.name = "a container's token file that is not there",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%P/box\nAWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/"
            "none/t",
     .want = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE /none/t cannot be read: No such file or directory"},
    {.name = "a container's endpoint that refuses",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%P/hush-path",
     .routes = {{"GET", "/hush-path", 403, "{\"code\":\"AccessDenied\",\"message\":\"not you\"}", NULL, NULL}},
     .want = "the container's endpoint answered 403 AccessDenied: not you"},
    {.name = "a container's endpoint that is down",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1/x",
     .want = "the container's endpoint: *refused*"},
    {.name = "a container's endpoint that answers no JSON",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%P/x",
     .routes = {{"GET", "/x", 200, "<html>hush</html>", NULL, NULL}},
     .want = "the container's endpoint answered 200 with something that is no JSON of credentials"},
    {.name = "a container's endpoint somewhere",
     .env = "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://example.com/x",
     .want = "AWS_CONTAINER_CREDENTIALS_FULL_URI names example.com, which may be asked over https only"},
    {.name = "the role of a machine",
     .env = IMDS_ENV,
     .routes = {IMDS_TOKEN, IMDS_ROLE, IMDS_KEYS(200, IMDS_CREDENTIALS)},
     .want = "ASIAROLE/hush-role/hush-token of the EC2 role \"my-role\""},
    {.name = "no role",
     .env = IMDS_ENV,
     .routes = {IMDS_TOKEN},
     .want = "no AWS credentials: this EC2 machine has no role (http://127.0.0.1:*/ answered 404): attach one, *"},
    {.name = "a role that may not be taken",
     .env = IMDS_ENV,
     .routes = {IMDS_TOKEN, IMDS_ROLE,
                IMDS_KEYS(200, "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"EC2 cannot "
                               "assume the role\"}")},
     .want = "http://127.0.0.1:*/my-role answered 200 AssumeRoleUnauthorizedAccess: EC2 cannot assume the role"},
    {.name = "a role's keys that expired",
     .env = IMDS_ENV,
     .routes = {IMDS_TOKEN, IMDS_ROLE,
                IMDS_KEYS(200,
                          "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"hush\",\"Token\":\"hush\",\"Expiration\":"
                          "\"2020-01-01T00:00:00Z\"}")},
     .want = "the credentials of the EC2 role \"my-role\" expired at 2020-01-01T00:00:00Z (the clock of this "
             "machine says *"},
    {.name = "a machine that refuses a session",
     .env = IMDS_ENV,
     .routes = {{"PUT", "/latest/api/token", 403, "no", NULL, NULL}},
     .want = "http://127.0.0.1:*/latest/api/token answered 403"},
    {.name = "a role's name that is none",
     .env = IMDS_ENV,
     .routes = {IMDS_TOKEN, {"GET", IMDS_ROLES, 200, "<html> x", NULL, NULL}},
     .want = "http://127.0.0.1:*/ answered 200 with no name of a role"},
    {.name = "nothing anywhere",
     .env = "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1",
     .want = "no AWS credentials: none in AWS_ACCESS_KEY_ID, no profile \"default\" in *.aws/credentials, no "
             "container's "
             "endpoint, and no EC2 metadata service (http://127.0.0.1:1: *refused*)"},
    {.name = "nothing, and no machine is asked",
     .env = "AWS_EC2_METADATA_DISABLED=true",
     .want = "no AWS credentials: none in AWS_ACCESS_KEY_ID, *since AWS_EC2_METADATA_DISABLED is set"},

    /* ---- Google ---- */
    {.name = "a key of Google's that is given",
     .cloud = CREDENTIAL_GOOGLE,
     .key = "hush-key",
     .want = "Bearer hush-key of the configured key"},
    {.name = "a service account",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/key.json",
     .files = {{"key.json", "@ACCOUNT@"}},
     .routes = {{"POST", "/token", 200, TOKEN, "Content-Type", "application/x-www-form-urlencoded"}},
     .want = "Bearer hush-ya29 of *key.json"},
    {.name = "a user of gcloud",
     .cloud = CREDENTIAL_GOOGLE,
     .files = {{".config/gcloud/application_default_credentials.json", USER_FILE(TOKEN_URI)}},
     .routes = {{"POST", "/token", 200, TOKEN, NULL, NULL}},
     .want = "Bearer hush-ya29 of *application_default_credentials.json"},
    {.name = "gcloud's folder elsewhere",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "CLOUDSDK_CONFIG=%F/sdk",
     .files = {{"sdk/application_default_credentials.json", USER_FILE(TOKEN_URI)}},
     .routes = {{"POST", "/token", 200, TOKEN, NULL, NULL}},
     .want = "Bearer hush-ya29 of *sdk/*"},
    {.name = "the metadata server",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GCE_METADATA_HOST=127.0.0.1:%P",
     .routes = {{"GET", METADATA_PATH, 200, TOKEN, "Metadata-Flavor", "Google"}},
     .want = "Bearer hush-ya29 of the metadata server"},
    {.name = "a file that is not there",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=/none/k",
     .want = "/none/k cannot be read: No such file or directory"},
    {.name = "a file that is no JSON",
     .cloud = CREDENTIAL_GOOGLE,
     .given = {.credentials_file = "/dev/null"},
     .want = "/dev/null: it is no JSON file of Google credentials"},
    {.name = "a file of another type",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", "{\"type\":\"external_account\"}"}},
     .want =
         "*/k is of type \"external_account\", which perdure does not do: use the key of a service account, or *"},
    {.name = "a key that is none",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", "{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":" PEM_JSON "}"}},
     .want = "*/k: private_key is no RSA key in PEM: download it anew"},
    {.name = "an account without a key",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", "{\"type\":\"service_account\",\"client_email\":\"e\"}"}},
     .want = "*/k is a service account without private_key: download its key anew"},
    {.name = "a user without a token",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", "{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"hush\"}"}},
     .want = "*/k is a user's without refresh_token: run `gcloud auth application-default login` again"},
    {.name = "a token endpoint over plain HTTP",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", USER_FILE("http://example.com/t")}},
     .want = "*/k: token_uri is not https"},
    {.name = "a user whose token was taken back",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", USER_FILE(TOKEN_URI)}},
     .routes = {{"POST", "/token", 400,
                 "{\"error\":\"invalid_grant\",\"error_description\":\"Token has been expired or revoked.\"}",
                 NULL, NULL}},
     .want = "http://127.0.0.1:*/token answered 400 invalid_grant: Token has been expired or revoked."},
    {.name = "a token endpoint that is down",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", USER_FILE("http://127.0.0.1:1/token")}},
     .want = "http://127.0.0.1:1/token: *refused*"},
    {.name = "a token endpoint that answers no JSON",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", USER_FILE(TOKEN_URI)}},
     .routes = {{"POST", "/token", 200, "hush", NULL, NULL}},
     .want = "http://127.0.0.1:*/token answered 200 with something that is no JSON of a token"},
    {.name = "an error that is no JSON",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", USER_FILE(TOKEN_URI)}},
     .routes = {{"POST", "/token", 502, "<html>", NULL, NULL}},
     .want = "http://127.0.0.1:*/token answered 502"},
    {.name = "a token without an end",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GOOGLE_APPLICATION_CREDENTIALS=%F/k",
     .files = {{"k", USER_FILE(TOKEN_URI)}},
     .routes = {{"POST", "/token", 200, "{\"access_token\":\"hush\"}", NULL, NULL}},
     .want = "http://127.0.0.1:*/token answered 200 with no expires_in"},
    {.name = "a machine without an account",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GCE_METADATA_HOST=127.0.0.1:%P",
     .want = "the metadata server answered 404"},
    {.name = "nothing of Google's anywhere",
     .cloud = CREDENTIAL_GOOGLE,
     .env = "GCE_METADATA_HOST=127.0.0.1:1",
     .want =
         "no Google credentials: GOOGLE_APPLICATION_CREDENTIALS is not set, there is no *.json, and no metadata "
         "server (*refused*)"},
};
enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

/* The RSA key of the RFC as a service account's file. */
static const char *account_file(char *out, size_t room)
{
    static const char pem[] = RSA_KEY_PKCS8;
    static const char head[] = "{\"type\":\"service_account\",\"project_id\":\"of-file\",\"client_email\":\"e@x\","
                               "\"private_key_id\":\"1\",\"token_uri\":\"" TOKEN_URI "\",\"private_key\":\"";
    size_t n = (size_t)snprintf(out, room, "%s", head);
    for (const char *p = pem; *p; p++)
        n += (size_t)(*p == '\n' ? snprintf(out + n, room - n, "\\n") : snprintf(out + n, room - n, "%c", *p));
    snprintf(out + n, room - n, "\"}");
    return out;
}

static bool matches(const char *text, const char *pattern)
{
    for (; *pattern && *pattern != '*'; pattern++, text++)
        if (*text != *pattern)
            return false;
    if (!*pattern)
        return !*text;
    for (;; text++) {
        if (matches(text, pattern + 1))
            return true;
        if (!*text)
            return false;
    }
}

static void told(struct world *w, enum credential_state state, char *out, size_t room)
{
    const struct credential_view *v = &w->view;
    if (state == CREDENTIAL_FAILED)
        snprintf(out, room, "%s", v->why);
    else if (v->bearer.n)
        snprintf(out, room, "Bearer %.*s of %s", SPAN_FMT(v->bearer), v->source);
    else
        snprintf(out, room, "%.*s/%.*s/%.*s of %s", SPAN_FMT(v->aws.access_key), SPAN_FMT(v->aws.secret_key),
                 SPAN_FMT(v->aws.session_token), v->source);
}

static void set_up(struct world *w, const struct row *r)
{
    char account[4096];
    for (const char *at = r->env ? r->env : ""; *at;) {
        char line[200], *value;
        size_t n = strcspn(at, "\n");
        assert_true(n < sizeof(line));
        memcpy(line, at, n);
        line[n] = '\0';
        value = strchr(line, '=');
        *value++ = '\0';
        const char *name = strdup(line); /* lives as long as the test */
        world_set(w, name, value);
        at += n + (at[n] == '\n');
    }
    for (size_t i = 0; i < 3 && r->files[i].name; i++)
        world_file(w, r->files[i].name,
                   strcmp(r->files[i].text, "@ACCOUNT@") == 0 ? account_file(account, sizeof(account))
                                                              : r->files[i].text);
    for (size_t i = 0; i < 4 && r->routes[i].method; i++)
        w->routes[w->routes_count++] = r->routes[i];
    world_source(w, r->cloud, r->given, r->key);
    assert_non_null(w->c);
}

static void tear_down(struct world *w)
{
    for (unsigned i = 1; i < w->pairs; i++) /* the first is HOME */
        free((void *)(uintptr_t)w->names[i]);
    world_end(w);
}

static void each_source_gives_what_it_has_or_says_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct world w;
        char got[1200];
        world_begin(&w);
        set_up(&w, &rows[i]);
        told(&w, world_get(&w), got, sizeof(got));
        if (!matches(got, rows[i].want))
            fail_msg("%s:\n  %s\n  %s", rows[i].name, got, rows[i].want);
        tear_down(&w);
    }
}

static void no_secret_is_in_a_sentence_or_a_line_of_the_log(void **state)
{
    (void)state;
    FILE *log = tmpfile();
    int saved = dup(STDERR_FILENO);
    enum log_level before = log_threshold;
    fflush(stderr);
    dup2(fileno(log), STDERR_FILENO);
    log_threshold = LOG_DEBUG;
    bool leaked = false;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct world w;
        world_begin(&w);
        set_up(&w, &rows[i]);
        world_get(&w);
        leaked |= strstr(w.view.why, "hush") != NULL || strstr(w.view.source, "hush") != NULL;
        tear_down(&w);
    }
    fflush(stderr);
    log_threshold = before;
    dup2(saved, STDERR_FILENO);
    close(saved);
    char line[2048];
    unsigned ready = 0, failed = 0;
    rewind(log);
    while (fgets(line, sizeof(line), log)) {
        ready += strstr(line, "credential.ready") != NULL;
        failed += strstr(line, "credential.failed") != NULL;
        leaked |= strstr(line, "hush") != NULL;
    }
    fclose(log);
    assert_false(leaked);
    assert_true(ready > 10 && failed > 20);
    assert_int_equal(ready + failed, ROW_COUNT);
}

/* ---- what is sent ----------------------------------------------------------------------- */

static const struct row *row_named(const char *name)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    fail_msg("no row \"%s\"", name);
    return &rows[0];
}

static void token_endpoints_are_asked_as_the_rfcs_say(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    set_up(&w, row_named("a user of gcloud"));
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    assert_string_equal(w.body,
                        "grant_type=refresh_token&client_id=id%26x&client_secret=hush-client&refresh_token="
                        "hush-refresh%2F1");
    assert_true(span_is(w.view.quota_project, "quota") && w.view.project.n == 0);
    tear_down(&w);

    world_begin(&w);
    set_up(&w, row_named("a service account"));
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    assert_true(
        matches(w.body, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey*.*.*"));
    assert_true(span_is(w.view.project, "of-file"));
    tear_down(&w);
}

static void the_project_is_the_given_one_then_the_environments_then_the_files(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct row r = *row_named("a service account");
    r.env = "GOOGLE_APPLICATION_CREDENTIALS=%F/key.json\nGOOGLE_CLOUD_PROJECT=of-env";
    set_up(&w, &r);
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    assert_true(span_is(w.view.project, "of-env"));
    tear_down(&w);
    world_begin(&w);
    r.given.project = "given";
    set_up(&w, &r);
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    assert_true(span_is(w.view.project, "given"));
    tear_down(&w);
}

static void a_refusal_over_a_wrong_clock_says_so(void **state)
{
    (void)state;
    struct world w;
    char got[1200];
    world_begin(&w);
    w.now_ms -= 3600000;
    set_up(&w, row_named("a user whose token was taken back"));
    told(&w, world_get(&w), got, sizeof(got));
    assert_true(matches(
        got, "http://127.0.0.1:*/token answered 400 invalid_grant: Token has been expired or revoked.; the "
             "clock of this machine may be wrong: it says *Z, the server says *Z"));
    tear_down(&w);
}

/* ---- keeping and renewing --------------------------------------------------------------- */

static void begin_google(struct world *w)
{
    world_begin(w);
    set_up(w, row_named("the metadata server"));
    assert_int_equal(world_get(w), CREDENTIAL_READY);
    assert_int_equal(w->hits, 1);
}

static void a_set_is_kept_and_renewed_beside_before_it_expires(void **state)
{
    (void)state;
    struct world w;
    begin_google(&w);
    uint64_t first = w.view.generation, expires = w.view.expires_ms;
    assert_int_equal(expires, w.now_ms + 3599000);
    w.now_ms = expires - CREDENTIAL_AHEAD_MS - CREDENTIAL_JITTER_MS - 1;
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    assert_int_equal(w.hits, 1);

    w.now_ms = expires - CREDENTIAL_AHEAD_MS;
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    assert_int_equal(w.view.generation, first);
    for (int i = 0; i < 10; i++) /* one fetch, whoever asks */
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    while (w.view.generation == first) {
        world_turn(&w);
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    }
    assert_int_equal(w.hits, 2);
    assert_int_equal(w.view.expires_ms, w.now_ms + 3599000);
    tear_down(&w);
}

static void an_expired_set_is_not_used(void **state)
{
    (void)state;
    struct world w;
    begin_google(&w);
    w.now_ms = w.view.expires_ms - CREDENTIAL_MARGIN_MS;
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    assert_int_equal(w.hits, 2);
    tear_down(&w);
}

static void a_short_life_is_renewed_at_half_of_it(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct row r = *row_named("the metadata server");
    r.routes[0].body = "{\"access_token\":\"hush\",\"expires_in\":120}";
    set_up(&w, &r);
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    w.now_ms += 59000;
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    assert_int_equal(w.hits, 1);
    w.now_ms += 1000;
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    WORLD_UNTIL(&w, w.hits == 2);
    tear_down(&w);
}

static void a_failed_renewal_keeps_the_old_set_until_it_expires(void **state)
{
    (void)state;
    struct world w;
    begin_google(&w);
    uint64_t expires = w.view.expires_ms;
    w.routes[0].status = 503;
    w.now_ms = expires - CREDENTIAL_AHEAD_MS;
    for (unsigned hits = 2; hits <= 3; hits++) {
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
        WORLD_UNTIL(&w, w.hits == hits);
        /* The answer is on its way; what comes of it is seen when a get begins no fetch. */
        for (int i = 0; i < 50; i++)
            uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
        assert_int_equal(w.hits, hits);
        w.now_ms += CREDENTIAL_HOLD_MOST_MS;
    }
    w.now_ms = expires;
    assert_int_equal(world_get(&w), CREDENTIAL_FAILED);
    assert_true(matches(w.view.why, "the metadata server answered 503*"));
    tear_down(&w);
}

static void after_a_failure_nothing_is_asked_for_a_moment_that_grows(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct row r = *row_named("the metadata server");
    r.routes[0].status = 500;
    set_up(&w, &r);
    uint64_t hold = CREDENTIAL_HOLD_LEAST_MS;
    for (unsigned turn = 1; turn <= 7; turn++) {
        assert_int_equal(world_get(&w), CREDENTIAL_FAILED);
        assert_int_equal(w.hits, turn);
        w.now_ms += hold - 1;
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_FAILED);
        assert_int_equal(w.hits, turn);
        w.now_ms += 1;
        hold = 2 * hold < CREDENTIAL_HOLD_MOST_MS ? 2 * hold : CREDENTIAL_HOLD_MOST_MS;
    }
    w.routes[0].status = 200;
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    tear_down(&w);
}

static void a_clock_that_is_set_back_does_not_hold_for_long(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w);
    struct row r = *row_named("the metadata server");
    r.routes[0].status = 500;
    set_up(&w, &r);
    assert_int_equal(world_get(&w), CREDENTIAL_FAILED);
    w.now_ms -= 86400000;
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
    assert_int_equal(world_get(&w), CREDENTIAL_FAILED);
    assert_int_equal(w.hits, 2);
    tear_down(&w);
}

static void a_refused_set_is_fetched_anew_but_not_all_the_time(void **state)
{
    (void)state;
    struct world w;
    begin_google(&w);
    uint64_t first = w.view.generation;
    credential_refused(w.c, first); /* it came just now */
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    w.now_ms += CREDENTIAL_RENEW_LEAST_MS;
    credential_refused(w.c, first - 1); /* another one's */
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_READY);
    credential_refused(w.c, first);
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    assert_int_equal(w.view.generation, first + 1);
    assert_int_equal(w.hits, 2);
    tear_down(&w);
}

/* Keys that someone put into the file are found when the old ones are refused. */
static void a_changed_file_is_read_when_its_keys_are_refused(void **state)
{
    (void)state;
    struct world w;
    char got[600];
    world_begin(&w);
    set_up(&w, row_named("the default profile"));
    assert_int_equal(world_get(&w), CREDENTIAL_READY);
    world_file(&w, ".aws/credentials", "[default]\naws_access_key_id = NEW\naws_secret_access_key = hush-new\n");
    w.now_ms += CREDENTIAL_RENEW_LEAST_MS;
    credential_refused(w.c, w.view.generation);
    told(&w, world_get(&w), got, sizeof(got));
    assert_true(matches(got, "NEW/hush-new/*"));
    tear_down(&w);
}

/* ---- waiting ---------------------------------------------------------------------------- */

struct pair {
    struct world *w;
    struct credential_waiter a, b;
    unsigned a_told, b_told;
    bool frees;
};

static void on_a(void *ctx)
{
    struct pair *p = ctx;
    p->a_told++;
    if (p->frees)
        p->w->c = credential_free(p->w->c);
    else
        credential_unwait(&p->b);
}

static void on_b(void *ctx)
{
    ((struct pair *)ctx)->b_told++;
}

/* The first one told may send the second away, or free it all. */
static void a_waiter_may_do_anything_when_it_is_told(void **state)
{
    (void)state;
    for (int frees = 0; frees <= 1; frees++) {
        struct world w;
        struct pair p = {.w = &w, .frees = frees};
        world_begin(&w);
        set_up(&w, row_named("the metadata server"));
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
        assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
        credential_wait(w.c, &p.a, on_a, &p);
        credential_wait(w.c, &p.b, on_b, &p);
        WORLD_UNTIL(&w, p.a_told);
        for (int i = 0; i < 5; i++)
            uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
        assert_int_equal(p.a_told, 1);
        assert_int_equal(p.b_told, 0);
        assert_int_equal(w.hits, 1);
        credential_unwait(&p.b);
        tear_down(&w);
    }
}

static void it_can_be_freed_at_any_point_of_a_fetch(void **state)
{
    (void)state;
    /* While a file is read on another thread: what it has goes when it is back. */
    struct world w;
    world_begin(&w);
    size_t before = mem_blocks();
    set_up(&w, row_named("a service account"));
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
    w.c = credential_free(w.c);
    WORLD_UNTIL(&w, mem_blocks() == before);
    tear_down(&w);
    /* While an endpoint thinks. */
    world_begin(&w);
    w.hold = true;
    set_up(&w, row_named("the metadata server"));
    assert_int_equal(credential_get(w.c, &w.view), CREDENTIAL_WAIT);
    WORLD_UNTIL(&w, w.held);
    w.c = credential_free(w.c);
    WORLD_UNTIL(&w, !w.held); /* the endpoint sees that nobody waits */
    tear_down(&w);
}

static void an_answer_that_is_too_large_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct row r = *row_named("the metadata server");
    char *large = malloc(CREDENTIAL_ANSWER_MAX + 2);
    memset(large, ' ', CREDENTIAL_ANSWER_MAX + 1);
    large[CREDENTIAL_ANSWER_MAX + 1] = '\0';
    r.routes[0].body = large;
    world_begin(&w);
    set_up(&w, &r);
    assert_int_equal(world_get(&w), CREDENTIAL_FAILED);
    assert_true(matches(w.view.why, "*the answer is too large*"));
    tear_down(&w);
    free(large);
}

/* ---- memory ----------------------------------------------------------------------------- */

static pd_err fetch_once(void *ctx)
{
    const struct row *r = ctx;
    struct credential_setup setup = {.env = NULL}; /* nothing of it is needed for what is given */
    struct credential_source source = {"p", r->cloud, r->key, r->given};
    struct credential *c = credential_new(&setup, &source);
    if (!c)
        return PD_NOMEM;
    struct credential_view v;
    enum credential_state state = credential_get(c, &v);
    pd_err e = state == CREDENTIAL_READY ? PD_OK : PD_NOMEM;
    if (state == CREDENTIAL_FAILED)
        assert_string_equal(v.why, "out of memory");
    c = credential_free(c);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct row r = *row_named("keys that are given");
    assert_true(torture(fetch_once, &r) >= 4);
}

/* The endpoint suffers as well: what it cannot answer is a failure with a sentence too. */
static void survives_every_failed_allocation_on_the_way_to_an_answer(void **state)
{
    (void)state;
    /* What OpenSSL does with a failure is tested with the token it signs. */
    static const char *const names[] = {"the role of a machine", "a user of gcloud", "the default profile"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unsigned ready = 0;
        for (uint64_t n = 1; ready < 1; n++) {
            struct world w;
            world_begin(&w);
            set_up(&w, row_named(names[i]));
            mem_fail_at(n);
            enum credential_state got = world_get(&w);
            bool failed = mem_failed();
            mem_fail_at(0);
            if (got == CREDENTIAL_FAILED) {
                assert_true(failed);
                assert_true(*w.view.why);
                w.now_ms += CREDENTIAL_HOLD_MOST_MS;
                assert_int_equal(world_get(&w), CREDENTIAL_READY);
            }
            ready += !failed;
            tear_down(&w);
        }
    }
}

static int set_up_process(void **state)
{
    (void)state;
    log_threshold = LOG_ERROR;
    return net_process_init() == PD_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_source_gives_what_it_has_or_says_why_not),
        cmocka_unit_test(no_secret_is_in_a_sentence_or_a_line_of_the_log),
        cmocka_unit_test(token_endpoints_are_asked_as_the_rfcs_say),
        cmocka_unit_test(the_project_is_the_given_one_then_the_environments_then_the_files),
        cmocka_unit_test(a_refusal_over_a_wrong_clock_says_so),
        cmocka_unit_test(a_set_is_kept_and_renewed_beside_before_it_expires),
        cmocka_unit_test(an_expired_set_is_not_used),
        cmocka_unit_test(a_short_life_is_renewed_at_half_of_it),
        cmocka_unit_test(a_failed_renewal_keeps_the_old_set_until_it_expires),
        cmocka_unit_test(after_a_failure_nothing_is_asked_for_a_moment_that_grows),
        cmocka_unit_test(a_clock_that_is_set_back_does_not_hold_for_long),
        cmocka_unit_test(a_refused_set_is_fetched_anew_but_not_all_the_time),
        cmocka_unit_test(a_changed_file_is_read_when_its_keys_are_refused),
        cmocka_unit_test(a_waiter_may_do_anything_when_it_is_told),
        cmocka_unit_test(it_can_be_freed_at_any_point_of_a_fetch),
        cmocka_unit_test(an_answer_that_is_too_large_is_refused),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(survives_every_failed_allocation_on_the_way_to_an_answer),
    };
    return cmocka_run_group_tests(tests, set_up_process, NULL);
}
