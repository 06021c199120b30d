#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "test.h"

/* What one call writes to standard error, without the time. */
static char line[8192];

static void capture(int saved[2])
{
    fflush(stderr);
    assert_int_equal(pipe(saved), 0);
    int real = dup(STDERR_FILENO);
    assert_true(real >= 0 && dup2(saved[1], STDERR_FILENO) >= 0);
    close(saved[1]);
    saved[1] = real;
}

static size_t captured(int saved[2])
{
    dup2(saved[1], STDERR_FILENO); /* closes the pipe's last writing end, so that read() sees the end */
    close(saved[1]);
    size_t n = 0;
    ssize_t got;
    while ((got = read(saved[0], line + n, sizeof(line) - 1 - n)) > 0)
        n += (size_t)got;
    close(saved[0]);
    line[n] = '\0';
    return n;
}

#define CAPTURE(...)      \
    do {                  \
        int saved_[2];    \
        capture(saved_);  \
        __VA_ARGS__;      \
        captured(saved_); \
    } while (0)

static void reset_log(void)
{
    log_threshold = LOG_INFO;
    log_json = 0;
}

static int asked;
static int ask(void)
{
    return ++asked;
}

static void a_level_that_is_off_costs_nothing(void **state)
{
    (void)state;
    reset_log();
    CAPTURE(LOG(NULL, LOG_DEBUG, "a.b", "n=%d", ask()));
    assert_string_equal(line, "");
    assert_int_equal(asked, 0);
    log_threshold = LOG_DEBUG;
    CAPTURE(LOG(NULL, LOG_DEBUG, "a.b", "n=%d", ask()));
    assert_int_equal(asked, 1);
    assert_non_null(strstr(line, "Z debug a.b n=1\n"));
}

static void a_line_has_time_level_event_scope_and_fields(void **state)
{
    (void)state;
    reset_log();
    struct log_scope scope = {"call=c-1 attempt=2"};
    CAPTURE(LOG(&scope, LOG_WARN, "attempt.end", "class=%s status=%d", "overloaded", 529));
    assert_true(strlen(line) > 25 && line[10] == 'T' && line[19] == '.' && line[23] == 'Z');
    assert_string_equal(line + 24, " warn attempt.end call=c-1 attempt=2 class=overloaded status=529\n");
    CAPTURE(LOG(NULL, LOG_ERROR, "x.y", "%s", ""));
    assert_string_equal(line + 24, " error x.y\n");
}

static void json_lines_hold_the_same(void **state)
{
    (void)state;
    reset_log();
    log_json = 1;
    struct log_scope scope = {"call=c-1"};
    char quoted[64];
    CAPTURE(LOG(&scope, LOG_INFO, "a.b", "n=%d text=%s", 7,
                log_quote(SPAN_LIT("say \"hi\" \\ a=b"), quoted, sizeof(quoted))));
    assert_true(strlen(line) > 34);
    assert_memory_equal(line, "{\"time\":\"", 9);
    assert_string_equal(line + 9 + 24, "\",\"level\":\"info\",\"event\":\"a.b\",\"call\":\"c-1\",\"n\":\"7\","
                                       "\"text\":\"say \\\"hi\\\" \\\\ a=b\"}\n");
    reset_log();
}

static void a_line_that_is_too_long_is_cut_and_still_one_line(void **state)
{
    (void)state;
    char text[6000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    reset_log();
    for (log_json = 0; log_json < 2; log_json++) {
        CAPTURE(LOG(NULL, LOG_INFO, "a.b", "text=%s", text));
        size_t n = strlen(line);
        assert_true(n > 1000 && n < 5000 && line[n - 1] == '\n');
        assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    }
    reset_log();
}

static void a_json_line_ends_properly_whatever_its_fields(void **state)
{
    (void)state;
    char many[2400] = "", quotes[1600];
    for (int i = 0; i < 370; i++)
        strcat(many, "a=1 ");
    memset(quotes, '"', sizeof(quotes) - 1);
    quotes[sizeof(quotes) - 1] = '\0';
    const char *const fields[] = {
        many, quotes, "a=\"x\ny\" b=tab\there", "a=\xff\xc3 b=\"gr\xc3\xbc\xc3\x9f\"", "a", "a=\"open", "=", ""};
    reset_log();
    log_json = 1;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        CAPTURE(LOG(NULL, LOG_INFO, "a.b", "%s", fields[i]));
        size_t n = strlen(line);
        assert_true(n > 40 && strcmp(line + n - 2, "}\n") == 0 && (line[n - 3] == '"'));
        for (size_t k = 0; k + 1 < n; k++)
            assert_true((unsigned char)line[k] >= 0x20);
    }
    CAPTURE(LOG(NULL, LOG_INFO, "a.b", "%s", fields[3]));
    assert_non_null(strstr(line, "\"a\":\"??\",\"b\":\"gr\xc3\xbc\xc3\x9f\"}"));
    reset_log();
}

static void a_peers_text_is_one_quoted_value(void **state)
{
    (void)state;
    char out[1024];
    assert_string_equal(log_quote(SPAN_LIT("a b"), out, sizeof(out)), "\"a b\"");
    assert_string_equal(log_quote(SPAN_LIT("a\nb\x1b[31m\x7f"), out, sizeof(out)), "\"a.b.[31m.\"");
    assert_string_equal(log_quote(SPAN_LIT("\"\\"), out, sizeof(out)), "\"\\\"\\\\\"");
    assert_string_equal(log_quote(SPAN_NONE, out, sizeof(out)), "\"\"");
    char text[600];
    memset(text, '"', sizeof(text));
    assert_int_equal(strlen(log_quote(span_of(text, sizeof(text)), out, sizeof(out))), 2 * LOG_QUOTED_MAX + 2);
    for (size_t room = 1; room < 40; room++) {
        char small[40];
        memset(small, '#', sizeof(small));
        const char *s = log_quote(span_of(text, sizeof(text)), small, room);
        assert_true(strlen(s) < (room < 3 ? 3 : room));
        for (size_t i = room; i < sizeof(small); i++)
            assert_int_equal(small[i], '#');
    }
}

static void levels_have_names(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_COUNT;
    assert_true(log_level_parse(SPAN_LIT("error"), &level) && level == LOG_ERROR);
    assert_true(log_level_parse(SPAN_LIT("warn"), &level) && level == LOG_WARN);
    assert_true(log_level_parse(SPAN_LIT("info"), &level) && level == LOG_INFO);
    assert_true(log_level_parse(SPAN_LIT("debug"), &level) && level == LOG_DEBUG);
    assert_false(log_level_parse(SPAN_LIT("Debug"), &level));
    assert_false(log_level_parse(SPAN_LIT(""), &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_that_is_off_costs_nothing),
        cmocka_unit_test(a_line_has_time_level_event_scope_and_fields),
        cmocka_unit_test(json_lines_hold_the_same),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_still_one_line),
        cmocka_unit_test(a_json_line_ends_properly_whatever_its_fields),
        cmocka_unit_test(a_peers_text_is_one_quoted_value),
        cmocka_unit_test(levels_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
