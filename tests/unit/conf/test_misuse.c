#include "conf/misuse.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "usage: perdure x [OPTIONS]\n"
                           "       perdure x create [--step N]\n\n"
                           "  --listen ADDRESS  here\n"
                           "  --log-level WORD, --log-format WORD\n"
                           "  --KEY VALUE       for all: --ttft 3s\n"
                           "  --help\n\n"
                           "As in \"--continue\", or `perdure --other`. Not a-- b--c -- either. --listen again.\n";

static void the_options_are_those_of_the_help_each_once(void **state)
{
    (void)state;
    static const char *const want[] = {"--step", "--listen", "--log-level", "--log-format", "--ttft", "--help"};
    struct span got[MISUSE_WORDS_MAX];
    /* `perdure --other` is no option of this command, yet it cannot be told from one */
    unsigned n = misuse_known(help, got, MISUSE_WORDS_MAX), at = 0;
    for (unsigned i = 0; i < n; i++)
        if (!span_is(got[i], "--other"))
            assert_true(at < 6 && span_is(got[i], want[at++]));
    assert_int_equal(at, 6);
    assert_int_equal(misuse_known(help, got, 2), 2);
    assert_true(misuse_knows(help, "--log-format"));
    assert_false(misuse_knows(help, "--log"));
    assert_false(misuse_knows(help, "--continue"));
}

static const struct row {
    const char *name, *arg, *hint;
} rows[] = {
    {"a letter too few", "--lisen", ": did you mean \"--listen\"?"},
    {"two letters swapped", "--hepl", ": did you mean \"--help\"?"},
    {"one dash", "-listen", ": did you mean \"--listen\"?"},
    {"what stands behind = does not count", "--lisen=127.0.0.1:80", ": did you mean \"--listen\"?"},
    {"the beginning of one", "--log", ": did you mean \"--log-level\"?"},
    {"two dashes are the beginning of all, and mean none", "--", ""},
    {"nothing near", "--colour", ""},
    {"one letter", "-x", ""},
};

static void what_was_meant_is_said(void **state)
{
    (void)state;
    char hint[MISUSE_HINT_BYTES];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(misuse_near(help, rows[i].arg, hint), rows[i].hint) != 0)
            fail_msg("%s: %s -> \"%s\"", rows[i].name, rows[i].arg, hint);
}

/* An option as long as an argument can be: the sentence is cut, the hint is none. */
static void an_endless_option_is_cut(void **state)
{
    (void)state;
    static char arg[100000];
    char hint[MISUSE_HINT_BYTES];
    memset(arg, 'x', sizeof(arg) - 1);
    memcpy(arg, "--", 2);
    assert_string_equal(misuse_near(help, arg, hint), "");
}

/* What `tell` prints on stderr. */
static int said(int (*tell)(void), char *out, size_t room)
{
    int ends[2], kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    dup2(ends[1], STDERR_FILENO);
    int status = tell();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(ends[1]);
    ssize_t n = read(ends[0], out, room - 1);
    out[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    close(kept);
    return status;
}

static const char *const words[] = {"list", "show"};

#define CASES(X)                                                                                       \
    X(misspelled, misuse_option(X_, help, "--lisen"),                                                  \
      "there is no option \"--lisen\": did you mean \"--listen\"?")                                    \
    X(no_such, misuse_option(X_, help, "--colour=red"), "there is no option \"--colour\"")             \
    X(too_much, misuse_option(X_, help, "--help=yes"), "--help takes no value")                        \
    X(word, misuse_word(X_, "shwo", words, 2), "\"shwo\" is not understood: did you mean \"show\"?")   \
    X(more, misuse_word(X_, "more", NULL, 0), "\"more\" is not understood")                            \
    X(without, misuse_value(X_, "--listen", NULL, NULL), "--listen needs a value")                     \
    X(value, misuse_value(X_, "--step", "two", "write a number"), "--step is \"two\": write a number") \
    X(sentence, misuse(X_, "diff needs %d ids", 2), "diff needs 2 ids")
#define X_ "perdure x"

#define X(name, call, says)      \
    static int tell_##name(void) \
    {                            \
        return call;             \
    }
CASES(X)
#undef X

static void two_lines_are_said_and_no_more(void **state)
{
    (void)state;
    static const struct {
        int (*tell)(void);
        const char *says;
    } cases[] = {
#define X(name, call, says) {tell_##name, says},
        CASES(X)
#undef X
    };
    char got[1000], want[1000];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(said(cases[i].tell, got, sizeof(got)), MISUSE_WRONG);
        snprintf(want, sizeof(want), "perdure x: %s\n`perdure x --help` tells how it is called\n", cases[i].says);
        assert_string_equal(got, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_options_are_those_of_the_help_each_once),
        cmocka_unit_test(what_was_meant_is_said),
        cmocka_unit_test(an_endless_option_is_cut),
        cmocka_unit_test(two_lines_are_said_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
