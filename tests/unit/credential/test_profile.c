#include "credential/profile.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

static const struct row {
    const char *name, *text;
    enum profile_file file;
    const char *profile, *out; /* "found id/secret/token role sso process login", or "line N" */
} rows[] = {
    {"one profile", "[default]\naws_access_key_id = A\naws_secret_access_key=S\n", PROFILE_CREDENTIALS, "default",
     "1 A/S/"},
    {"not there", "[other]\naws_access_key_id = A\n", PROFILE_CREDENTIALS, "default", "0 //"},
    {"of several", "[a]\naws_access_key_id = A\n[b]\naws_access_key_id = B\n[c]\naws_access_key_id = C\n",
     PROFILE_CREDENTIALS, "b", "1 B//"},
    {"a token", "[a]\naws_session_token = T==\n", PROFILE_CREDENTIALS, "a", "1 //T=="},
    {"CRLF, blanks, a mark",
     "\xef\xbb\xbf[a]\r\n  aws_access_key_id =  A  \r\n\taws_secret_access_key\t=\tS\t\r\n", PROFILE_CREDENTIALS,
     "a", "1 A/S/"},
    {"an equal indent is another key", "[a]\n  aws_access_key_id = A\n  aws_secret_access_key = S\n",
     PROFILE_CREDENTIALS, "a", "1 A/S/"},
    {"a deeper line belongs to the key before", "[a]\ns3 =\n  aws_access_key_id = X\naws_secret_access_key = S\n",
     PROFILE_CONFIG, "x", "0 //"},
    {"and is stepped over", "[profile a]\ns3 =\n  aws_access_key_id = X\naws_secret_access_key = S\n",
     PROFILE_CONFIG, "a", "1 /S/"},
    {"comments", "# aws\n; aws\n[a] # mine\naws_access_key_id = A # B\naws_secret_access_key = S;# ; C\n",
     PROFILE_CREDENTIALS, "a", "1 A/S;#/"},
    {"a section twice", "[a]\naws_access_key_id = A\n[b]\n[a]\naws_secret_access_key = S\n", PROFILE_CREDENTIALS,
     "a", "1 A/S/"},
    {"a key twice", "[a]\naws_access_key_id = A\naws_access_key_id = B\n", PROFILE_CREDENTIALS, "a", "1 B//"},
    {"keys in capitals", "[a]\nAWS_ACCESS_KEY_ID = A\n", PROFILE_CREDENTIALS, "a", "1 A//"},
    {"config calls them profile", "[a]\naws_access_key_id = X\n[profile a]\naws_access_key_id = A\n",
     PROFILE_CONFIG, "a", "1 A//"},
    {"config's default has two names",
     "[default]\naws_access_key_id = A\n[profile default]\naws_secret_access_key = S\n", PROFILE_CONFIG, "default",
     "1 A/S/"},
    {"blanks in a section's head", "[ profile   a b ]\naws_access_key_id = A\n", PROFILE_CONFIG, "a b", "1 A//"},
    {"a word that only begins so", "[profiles a]\naws_access_key_id = A\n", PROFILE_CONFIG, "a", "0 //"},
    {"a session is no profile", "[sso-session a]\nsso_start_url = u\n", PROFILE_CONFIG, "a", "0 //"},
    {"a role", "[profile a]\nrole_arn = r\nsource_profile = b\n", PROFILE_CONFIG, "a", "1 // role"},
    {"SSO", "[profile a]\nsso_session = s\n", PROFILE_CONFIG, "a", "1 // sso"},
    {"a process", "[profile a]\ncredential_process = p\n", PROFILE_CONFIG, "a", "1 // process"},
    {"a login", "[profile a]\nlogin_session = p\n", PROFILE_CONFIG, "a", "1 // login"},
    {"an equals sign in a value", "[a]\naws_secret_access_key = a=b=\n", PROFILE_CREDENTIALS, "a", "1 /a=b=/"},
    {"an empty value", "[a]\naws_access_key_id =\n", PROFILE_CREDENTIALS, "a", "1 //"},
    {"no line end", "[a]\naws_access_key_id = A", PROFILE_CREDENTIALS, "a", "1 A//"},
    {"an open section head", "[a\naws_access_key_id = A", PROFILE_CREDENTIALS, "a", "1 A//"},
    {"no section", "aws_access_key_id = A\n", PROFILE_CREDENTIALS, "default", "0 //"},
    {"rubbish in ours", "[a]\n\nhello\n", PROFILE_CREDENTIALS, "a", "line 3"},
    {"no key", "[a]\n= x\n", PROFILE_CREDENTIALS, "a", "line 2"},
    {"rubbish in another's", "[a]\nhello\n[b]\naws_access_key_id = B\n", PROFILE_CREDENTIALS, "b", "1 B//"},
    {"nothing", "", PROFILE_CREDENTIALS, "a", "0 //"},
};

static const char *told(const struct row *r, struct span text, char *out, size_t n)
{
    struct profile p;
    unsigned line = 0;
    if (profile_read(text, r->file, span_str(r->profile), &p, &line))
        snprintf(out, n, "line %u", line);
    else
        snprintf(out, n, "%d %.*s/%.*s/%.*s%s%s%s%s", p.found, SPAN_FMT(p.access_key_id),
                 SPAN_FMT(p.secret_access_key), SPAN_FMT(p.session_token), p.role_arn.n ? " role" : "",
                 p.sso.n ? " sso" : "", p.credential_process.n ? " process" : "", p.login.n ? " login" : "");
    return out;
}

static void profiles_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char got[256];
        if (strcmp(told(&rows[i], span_str(rows[i].text), got, sizeof(got)), rows[i].out) != 0)
            fail_msg("%s: got %s", rows[i].name, got);
    }
}

/* Nothing is read behind the end, wherever the text ends. */
static void a_cut_file_is_read_to_its_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t n = 0; n < strlen(rows[i].text); n++) {
            char got[256], *copy = malloc(n ? n : 1);
            memcpy(copy, rows[i].text, n);
            told(&rows[i], span_of(copy, n), got, sizeof(got));
            free(copy);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles_are_read),
        cmocka_unit_test(a_cut_file_is_read_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
