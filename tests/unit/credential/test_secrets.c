#include "base/clock.h"
#include "credential/clock_skew.h"
#include "credential/secrets.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>

/* ---- AWS -------------------------------------------------------------------------------- */

static void answers_of_aws_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out; /* NULL: PD_SYNTAX */
        uint64_t expires_ms;
    } rows[] = {
        {"{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\\/x\",\"Token\":\"T\","
         "\"Expiration\":\"2026-11-24T07:08:09Z\"}",
         "A S/x T Success -", 1795504089000u},
        {"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":null}", "A S - - -", CLOCK_NEVER},
        {"{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no\"}", "- - - AssumeRoleUnauthorizedAccess no",
         CLOCK_NEVER},
        {"{\"code\":\"c\",\"message\":\"m\"}", "- - - c m", CLOCK_NEVER},
        {"{}", "- - - - -", CLOCK_NEVER},
        {"{\"AccessKeyId\":1}", NULL, 0},
        {"{\"Expiration\":\"soon\"}", NULL, 0},
        {"[]", NULL, 0},
        {"", NULL, 0},
        {"<html>", NULL, 0},
        {"{\"AccessKeyId\":\"A\"", NULL, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct secrets_aws got;
        char text[200];
        arena_init(&a, 0, 0);
        pd_err e = secrets_aws_read(span_str(rows[i].in), &a, &got);
        if (rows[i].out) {
            const struct span parts[] = {got.access_key_id, got.secret_access_key, got.session_token, got.code,
                                         got.message};
            size_t n = 0;
            assert_int_equal(e, PD_OK);
            for (size_t k = 0; k < 5; k++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s", k ? " " : "",
                                      SPAN_FMT(parts[k].n ? parts[k] : SPAN_LIT("-")));
            assert_string_equal(text, rows[i].out);
            assert_true(got.expires_ms == rows[i].expires_ms);
        } else {
            assert_int_equal(e, PD_SYNTAX);
        }
        arena_done(&a);
    }
}

/* ---- tokens ----------------------------------------------------------------------------- */

static void answers_of_token_endpoints_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *in, *token, *code, *message;
        uint64_t lifetime_ms;
        pd_err err;
    } rows[] = {
        {"{\"access_token\":\"ya29.x\",\"expires_in\":3599,\"token_type\":\"Bearer\"}", "ya29.x", "", "", 3599000,
         PD_OK},
        {"{\"access_token\":\"t\",\"expires_in\":\"3600\"}", "t", "", "", 3600000, PD_OK},
        {"{\"access_token\":\"t\",\"expires_in\":null}", "t", "", "", 0, PD_OK},
        {"{\"error\":\"invalid_grant\",\"error_description\":\"Bad \\\"x\\\"\"}", "", "invalid_grant", "Bad \"x\"",
         0, PD_OK},
        {"{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\",\"message\":\"no\"}}", "", "PERMISSION_DENIED",
         "no", 0, PD_OK},
        {"{\"access_token\":7}", "", "", "", 0, PD_SYNTAX},
        {"{\"expires_in\":-1}", "", "", "", 0, PD_SYNTAX},
        {"{\"expires_in\":99999999999}", "", "", "", 0, PD_SYNTAX},
        {"{\"expires_in\":\"soon\"}", "", "", "", 0, PD_SYNTAX},
        {"{\"expires_in\":true}", "", "", "", 0, PD_SYNTAX},
        {"Not Found", "", "", "", 0, PD_SYNTAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct secrets_token got;
        arena_init(&a, 0, 0);
        assert_int_equal(secrets_token_read(span_str(rows[i].in), &a, &got), rows[i].err);
        if (!rows[i].err) {
            assert_true(span_is(got.access_token, rows[i].token) && span_is(got.code, rows[i].code));
            assert_true(span_is(got.message, rows[i].message));
            assert_int_equal(got.lifetime_ms, rows[i].lifetime_ms);
        }
        arena_done(&a);
    }
}

#define ACCOUNT                                                                                    \
    "{\"type\":\"service_account\",\"project_id\":\"p\",\"private_key_id\":\"k\",\"private_key\":" \
    "\"-----\\nabc\\n\",\"client_email\":\"e\",\"token_uri\":\"u\",\"universe_domain\":\"x\"}"

static void googles_files_are_read(void **state)
{
    (void)state;
    struct arena a;
    struct secrets_google got;
    arena_init(&a, 0, 0);
    assert_int_equal(secrets_google_read(SPAN_LIT(ACCOUNT), &a, &got), PD_OK);
    assert_true(span_is(got.type, "service_account") && span_is(got.project, "p"));
    assert_true(span_is(got.private_key, "-----\nabc\n") && span_is(got.private_key_id, "k"));
    assert_true(span_is(got.client_email, "e") && span_is(got.token_uri, "u") && got.refresh_token.n == 0);
    assert_int_equal(
        secrets_google_read(SPAN_LIT("{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":"
                                     "\"s\",\"refresh_token\":\"r\",\"quota_project_id\":\"q\"}"),
                            &a, &got),
        PD_OK);
    assert_true(span_is(got.client_id, "i") && span_is(got.client_secret, "s"));
    assert_true(span_is(got.refresh_token, "r") && span_is(got.quota_project, "q"));
    assert_int_equal(secrets_google_read(SPAN_LIT("[1]"), &a, &got), PD_SYNTAX);
    assert_int_equal(secrets_google_read(SPAN_LIT("{\"type\":[]}"), &a, &got), PD_SYNTAX);
    arena_done(&a);
}

static pd_err read_account(void *ctx)
{
    (void)ctx;
    struct arena a;
    struct secrets_google got;
    arena_init(&a, 16, 0);
    pd_err e = secrets_google_read(SPAN_LIT(ACCOUNT), &a, &got);
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(read_account, NULL) >= 1);
}

/* ---- clocks ----------------------------------------------------------------------------- */

static void a_wrong_clock_is_told_by_the_servers_date(void **state)
{
    (void)state;
    enum { MINUTE = 60 * 1000 };
    static const struct {
        const char *date;
        int64_t ours_ahead_ms, skew_ms;
    } rows[] = {
        {"Tue, 24 Nov 2026 07:08:09 GMT", 0, 0},
        {"Tue, 24 Nov 2026 07:08:09 GMT", 5 * MINUTE, 0},
        {"Tue, 24 Nov 2026 07:08:09 GMT", 5 * MINUTE + 1, 5 * MINUTE + 1},
        {"Tue, 24 Nov 2026 07:08:09 GMT", -5 * MINUTE - 1, -5 * MINUTE - 1},
        {"Tue, 24 Nov 2026 07:08:09 GMT", 120 * MINUTE, 120 * MINUTE},
        {"yesterday", 120 * MINUTE, 0},
        {NULL, 120 * MINUTE, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http1_head head = {.fields_count = rows[i].date ? 1 : 0,
                                  .fields = {{SPAN_LIT("date"), span_str(rows[i].date)}}};
        uint64_t ours = 1795504089000u + (uint64_t)rows[i].ours_ahead_ms;
        assert_int_equal(clock_skew_of(&head, ours), rows[i].skew_ms);
    }
    char text[CLOCK_SKEW_TEXT_BYTES];
    assert_string_equal(clock_skew_text(0, 1795504089000u, text), "");
    assert_string_equal(clock_skew_text(120 * MINUTE, 1795504089000u, text),
                        "the clock of this machine may be wrong: it says 2026-11-24T07:08:09Z, the server says "
                        "2026-11-24T05:08:09Z");
    assert_string_equal(clock_skew_text(-60 * MINUTE, 1795504089000u, text),
                        "the clock of this machine may be wrong: it says 2026-11-24T07:08:09Z, the server says "
                        "2026-11-24T08:08:09Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_of_aws_are_read),
        cmocka_unit_test(answers_of_token_endpoints_are_read),
        cmocka_unit_test(googles_files_are_read),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_wrong_clock_is_told_by_the_servers_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
