#include "test.h"
#include "torture.h"

#include "base/mem.h"
#include "store/content.h"
#include "task/checks.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void put_file(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int open_folder(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/perdure-checks-XXXXXX");
    assert_non_null(mkdtemp(dir));
    put_file("a.txt", "one\ntwo\nthree\n");
    put_file("empty", "");
    char sub[100];
    snprintf(sub, sizeof(sub), "%s/sub", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    put_file("sub/b", "deep");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static const struct row {
    const char *name, *checks, *output;
    enum checks_found found;
    const char *why; /* is in it; NULL: empty */
} rows[] = {
    {"no checks at all", NULL, "\"x\"", CHECKS_NONE, NULL},
    {"an empty list is the plan's own word", "[]", "\"x\"", CHECKS_WAIVED, NULL},
    {"a command that ends well", "[{\"command\":\"true\"}]", "1", CHECKS_PASSED, NULL},
    {"a command as a list", "[{\"command\":[\"test\",\"-f\",\"a.txt\"]}]", "1", CHECKS_PASSED, NULL},
    {"a command that does not", "[{\"command\":\"echo no >&2; exit 3\"}]", "1", CHECKS_FAILED, "status 3: no"},
    {"a command that is killed", "[{\"command\":\"kill -9 $$\"}]", "1", CHECKS_FAILED, "signal 9"},
    {"a command in another folder", "[{\"command\":\"test -f b\",\"cwd\":\"sub\"}]", "1", CHECKS_PASSED, NULL},
    {"a command that does not end", "[{\"command\":\"sleep 100\",\"timeout_ms\":50}]", "1", CHECKS_FAILED,
     "within 50 ms"},
    {"a program that is not there", "[{\"command\":[\"no-such-program\"]}]", "1", CHECKS_UNMADE,
     "no-such-program"},
    {"a file that is there", "[{\"file\":\"a.txt\"}]", "1", CHECKS_PASSED, NULL},
    {"a file that is not", "[{\"file\":\"z\"}]", "1", CHECKS_FAILED, "z is not there"},
    {"a file that must not be", "[{\"file\":\"a.txt\",\"exists\":false}]", "1", CHECKS_FAILED, "must not be"},
    {"a file that must not be, and is not", "[{\"file\":\"z\",\"exists\":false}]", "1", CHECKS_PASSED, NULL},
    {"what is in a file", "[{\"file\":\"a.txt\",\"contains\":\"two\\nthr\"}]", "1", CHECKS_PASSED, NULL},
    {"what is not", "[{\"file\":\"a.txt\",\"contains\":\"four\"}]", "1", CHECKS_FAILED,
     "does not contain \"four\""},
    {"nothing is in an empty file", "[{\"file\":\"empty\",\"contains\":\"x\"}]", "1", CHECKS_FAILED,
     "does not contain"},
    {"lines of a file", "[{\"file\":\"a.txt\",\"matches\":\"^two$\"}]", "1", CHECKS_PASSED, NULL},
    {"lines that are not", "[{\"file\":\"a.txt\",\"matches\":\"^tw$\"}]", "1", CHECKS_FAILED, "does not match"},
    {"an expression that is none", "[{\"file\":\"a.txt\",\"matches\":\"(\"}]", "1", CHECKS_UNMADE,
     "is wrong at its byte"},
    {"an expression that takes for ever", "[{\"output\":{\"matches\":\"^(a+)+$\"}}]",
     "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"", CHECKS_UNMADE, "takes too long"},
    {"another hash", "[{\"file\":\"a.txt\",\"sha256\":\"00\"}]", "1", CHECKS_FAILED, "another content"},
    {"a folder is no file to read", "[{\"file\":\"sub\",\"contains\":\"x\"}]", "1", CHECKS_UNMADE,
     "cannot be read"},
    {"the output's text", "[{\"output\":{\"matches\":\"^ok\"}}]", "\"well\\nok so\"", CHECKS_PASSED, NULL},
    {"the output is another", "[{\"output\":{\"matches\":\"^ok\"}}]", "\"not ok\"", CHECKS_FAILED,
     "does not match"},
    {"the output contains", "[{\"output\":{\"contains\":\"\\\"q\\\"\"}}]", "\"a \\\"q\\\" b\"", CHECKS_PASSED,
     NULL},
    {"the output equals, blanks at the ends aside", "[{\"output\":{\"equals\":\"12\"}}]", "\" 12\\n\"",
     CHECKS_PASSED, NULL},
    {"a number equals one that is spelled in another way", "[{\"output\":{\"equals\":{\"n\":1.0}}}]",
     "{ \"n\" : 1 }", CHECKS_PASSED, NULL},
    {"the output does not equal", "[{\"output\":{\"equals\":\"12\"}}]", "\"13\"", CHECKS_FAILED, "should be"},
    {"a member of it", "[{\"output\":{\"member\":\"a.b\",\"equals\":\"x\"}}]", "{\"a\":{\"b\":\"x\"}}",
     CHECKS_PASSED, NULL},
    {"a member that is not there", "[{\"output\":{\"member\":\"a.c\",\"equals\":\"x\"}}]", "{\"a\":{\"b\":\"x\"}}",
     CHECKS_FAILED, "no member a.c"},
    {"a schema", "[{\"output\":{\"schema\":{\"type\":\"integer\"}}}]", "7", CHECKS_PASSED, NULL},
    {"a schema it does not fit", "[{\"output\":{\"schema\":{\"type\":\"integer\"}}}]", "\"7\"", CHECKS_FAILED,
     "does not fit"},
    {"no output at all", "[{\"output\":{\"contains\":\"x\"}}]", "", CHECKS_FAILED, "no output"},
    {"a check of no kind", "[{\"chekc\":1}]", "1", CHECKS_UNMADE, "one of command, file, output"},
    {"a failure goes over what cannot be told", "[{\"chekc\":1},{\"file\":\"z\"}]", "1", CHECKS_FAILED,
     "z is not there"},
    {"and stays", "[{\"file\":\"z\"},{\"chekc\":1},{\"file\":\"a.txt\"}]", "1", CHECKS_FAILED, "z is not there"},
    {"what cannot be told goes over what passed", "[{\"file\":\"a.txt\"},{\"chekc\":1},{\"file\":\"a.txt\"}]", "1",
     CHECKS_UNMADE, "one of"},
    {"a pin without a hash", "[{\"command\":\"true\",\"pin\":[\"a.txt\"]}]", "1", CHECKS_UNMADE, "no hashes"},
    {"a pinned file that was changed", "[{\"command\":\"true\",\"pin\":{\"a.txt\":\"00\"}}]", "1", CHECKS_FAILED,
     "a.txt was changed"},
    {"a pinned file that is gone", "[{\"command\":\"true\",\"pin\":{\"z\":\"00\"}}]", "1", CHECKS_FAILED,
     "cannot be read any more"},
};

static enum checks_found run(const struct row *r, struct buf *evidence, char why[CHECKS_WHY_BYTES])
{
    enum checks_found found = CHECKS_NONE;
    struct checks_ask ask = {.output = span_str(r->output), .dir = dir, .root = dir, .wake_fd = -1};
    if (r->checks)
        ask.checks = (struct json){JSON_ARRAY, span_str(r->checks)};
    assert_int_equal(checks_run(&ask, evidence, &found, why), PD_OK);
    return found;
}

static void each_check_finds_what_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct buf evidence = {0};
        char why[CHECKS_WHY_BYTES];
        enum checks_found found = run(r, &evidence, why);
        if (found != r->found || (r->why ? !strstr(why, r->why) : why[0] != '\0'))
            fail_msg("%s: found %d, \"%s\"", r->name, found, why);
        if (json_check(buf_span(&evidence)) != PD_OK)
            fail_msg("%s: evidence is no JSON: %.*s", r->name, SPAN_FMT(buf_span(&evidence)));
        buf_done(&evidence);
    }
}

/* The hash when the plan was read, and the file as it is then, or not any more. */
static void a_pinned_file_is_the_one_of_the_plan(void **state)
{
    (void)state;
    char hash[65], checks[300], why[CHECKS_WHY_BYTES];
    struct buf evidence = {0};
    put_file("pinned", "expected\n");
    assert_int_equal(checks_hash_file(dir, "pinned", hash), PD_OK);
    snprintf(checks, sizeof(checks), "[{\"command\":\"touch ran\",\"pin\":{\"pinned\":\"%s\"}}]", hash);
    const struct row r = {"pin", checks, "1", CHECKS_PASSED, NULL};
    assert_int_equal(run(&r, &evidence, why), CHECKS_PASSED);
    char ran[100];
    snprintf(ran, sizeof(ran), "%s/ran", dir);
    assert_int_equal(unlink(ran), 0);
    put_file("pinned", "whatever comes\n");
    assert_int_equal(run(&r, &evidence, why), CHECKS_FAILED);
    assert_int_equal(access(ran, F_OK), -1); /* it was not even run */
    assert_int_equal(checks_hash_file(dir, "not there", hash), PD_NOTFOUND);
    buf_done(&evidence);
}

static void evidence_has_every_check_with_what_it_said(void **state)
{
    (void)state;
    struct buf evidence = {0};
    char why[CHECKS_WHY_BYTES];
    const struct row r = {"", "[{\"command\":\"echo said\"},{\"file\":\"z\"},{\"x\":1}]", "1", CHECKS_FAILED, ""};
    (void)run(&r, &evidence, why);
    struct json e = {JSON_ARRAY, buf_span(&evidence)};
    assert_true(json_is_true(json_path(e, "0.passed")));
    assert_true(json_is(json_path(e, "0.said"), "said"));
    assert_true(json_is(json_path(e, "0.check.command"), "echo said"));
    assert_true(span_is(json_path(e, "1.passed").raw, "false"));
    assert_int_equal(json_path(e, "2.passed").type, JSON_NULL);
    buf_done(&evidence);
}

static void a_worker_that_must_stop_does_not_wait_for_a_check(void **state)
{
    (void)state;
    int fd = eventfd(1, EFD_CLOEXEC);
    struct buf evidence = {0};
    enum checks_found found;
    char why[CHECKS_WHY_BYTES];
    const struct checks_ask ask = {
        .checks = {JSON_ARRAY, SPAN_LIT("[{\"command\":\"sleep 1000\"},{\"command\":\"true\"}]")},
        .output = SPAN_LIT("1"),
        .dir = dir,
        .wake_fd = fd};
    assert_int_equal(checks_run(&ask, &evidence, &found, why), PD_OK);
    assert_int_equal(found, CHECKS_STOPPED);
    buf_done(&evidence);
    close(fd);
}

static pd_err torture_one(void *ctx)
{
    (void)ctx;
    struct buf evidence = {0};
    enum checks_found found;
    char why[CHECKS_WHY_BYTES];
    const struct checks_ask ask = {
        .checks = {JSON_ARRAY,
                   SPAN_LIT("[{\"file\":\"a.txt\",\"contains\":\"tw\\u006f\",\"matches\":\"^on\"},{\"file\":\"z\"}"
                            ",{\"output\":{\"member\":\"a\","
                            "\"equals\":\"x\",\"schema\":{\"type\":\"string\"}}},{\"output\":{\"equals\":1}}]")},
        .output = SPAN_LIT("{\"a\":\"\\u0078\"}"),
        .dir = dir,
        .wake_fd = -1};
    pd_err e = checks_run(&ask, &evidence, &found, why);
    if (!e)
        assert_int_equal(found, CHECKS_FAILED);
    buf_done(&evidence);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture_lenient(torture_one, NULL) >= 6);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_check_finds_what_is),
        cmocka_unit_test(a_pinned_file_is_the_one_of_the_plan),
        cmocka_unit_test(evidence_has_every_check_with_what_it_said),
        cmocka_unit_test(a_worker_that_must_stop_does_not_wait_for_a_check),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, open_folder, remove_folder);
}
