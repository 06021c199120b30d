#include "test.h"

#include "task/shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "@" is where something is filled in. */
static const struct row {
    const char *text;
    enum shell_place place;
} rows[] = {
    {"echo @", SHELL_EXPANDS},
    {"echo \"@", SHELL_EXPANDS},
    {"echo '@", SHELL_SINGLE},
    {"echo 'a'@", SHELL_EXPANDS},
    {"echo 'a' 'b@", SHELL_SINGLE},
    {"echo \"it's @", SHELL_EXPANDS},
    {"echo \"a\\\"'@", SHELL_EXPANDS},
    {"echo \\'@", SHELL_EXPANDS},
    {"echo \"a\" '@", SHELL_SINGLE},
    {"echo \"$(cat '@", SHELL_SINGLE},
    {"echo \"$(cat 'a')@", SHELL_EXPANDS},
    {"echo \"$(cat 'a') it's @", SHELL_EXPANDS},
    {"(cd a; echo '@", SHELL_SINGLE},
    {"# it's\necho @", SHELL_EXPANDS},
    {"echo a#it's '@", SHELL_EXPANDS},
    {"cat <<E\nit's @", SHELL_EXPANDS},
    {"cat <<'E'\nit's @", SHELL_AS_IS},
    {"cat <<\"E\"\n@", SHELL_AS_IS},
    {"cat <<\\E\n@", SHELL_AS_IS},
    {"cat <<-'E' > f\n\t@", SHELL_AS_IS},
    {"cat <<'E'\nit's\nE\necho @", SHELL_EXPANDS},
    {"cat <<-E\nit's\n\tE\necho '@", SHELL_SINGLE},
    {"cat <<'E'\nEE\n E\n@", SHELL_AS_IS},
    {"cat <<< 'a'\necho @", SHELL_EXPANDS},
    {"cat <<'E' '@", SHELL_SINGLE},
    {"@", SHELL_EXPANDS},
    {"\\@", SHELL_EXPANDS},
    {"'@", SHELL_SINGLE},
};

static void each_place_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span mark,
            text = span_upto(span_str(rows[i].text), (size_t)(strchr(rows[i].text, '@') - rows[i].text));
        enum shell_place place = shell_place(text, &mark);
        if (place != rows[i].place)
            fail_msg("%s: %d", rows[i].text, place);
        if (place == SHELL_AS_IS)
            assert_true(span_is(mark, "E"));
    }
}

static void a_line_that_ends_a_here_document_is_seen(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        bool ends;
    } values[] = {{"", false},    {"E", true},         {"a\nE", true},
                  {"E\nb", true}, {"a\n\tE\nb", true}, {"EE\nE \n e", false}};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        assert_int_equal(shell_ends_here(span_str(values[i].value), SPAN_LIT("E")), values[i].ends);
}

/* What does not end, at every length. */
static void no_text_is_read_beyond_its_end(void **state)
{
    (void)state;
    static const char all[] = "a \\ 'b' \"c\\\" $(d 'e' \"f\")\" # g's\ncat <<-'E' <<F <<< \\\n\tE\n((h)) <<";
    for (size_t n = 0; n < sizeof(all); n++) {
        struct span mark;
        char *copy = malloc(n + 1);
        memcpy(copy, all, n);
        (void)shell_place(span_of(copy, n), &mark);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_place_is_known),
        cmocka_unit_test(a_line_that_ends_a_here_document_is_seen),
        cmocka_unit_test(no_text_is_read_beyond_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
