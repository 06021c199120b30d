#include "parse/utf8.h"
#include "provider/redact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

static const struct {
    const char *in, *out;
} rows[] = {
    {"Incorrect API key provided: sk-fake-key. You can find it",
     "Incorrect API key provided: ***. You can find it"},
    {"sk-proj-abcDEF123456_-x", "***"},
    {"SK-abcdef is in capitals", "*** is in capitals"},
    {"Authorization: Bearer eyJhbGciOi.J9.abc_d-e, refused", "Authorization: ***, refused"},
    {"key cpk_0123456789abcdef.ghi!", "key ***!"},
    {"(nvapi-ABCDEF-123456)", "(***)"},
    {"'gsk_abcdef123456'", "'***'"},
    {"ABSKQmVkcm9ja0FQSUtleS1hYmM= was refused", "*** was refused"},
    {"bedrock-api-key-YmVkcm9jay5hbWF6b24 or AIzaSyA0123456789 or ya29.a0AfB_byC-1", "*** or *** or ***"},
    {"asia-northeast1 and us-east5", "asia-northeast1 and us-east5"},
    {"two: sk-aaaaaa sk-bbbbbb", "two: *** ***"},
    {"sk-abc is too short for a key", "sk-abc is too short for a key"},
    {"a task-specific risk-assessment of desk-bound", "a task-specific risk-assessment of desk-bound"},
    {"the bearer of this letter", "the bearer of this letter"},
    {"Your api key: ****-key is invalid", "Your api key: ****-key is invalid"},
    {"Invalid API key: 0123456789abcdef0123456789abcdef", "Invalid API key: ***"},
    {"api_key=0123456789abcdef0123 given", "api_key=*** given"},
    {"request 0123456789abcdef0123456789abcdef failed", "request 0123456789abcdef0123456789abcdef failed"},
    {"  two\r\n\tlines   here  ", "two lines here"},
    {"bell\a and \x7f", "bell? and ?"},
    {"broken \xff\xc3 utf-8", "broken ?? utf-8"},
    {"gr\xc3\xbc\xc3\x9f dich", "gr\xc3\xbc\xc3\x9f dich"},
    {"", ""},
};

static void no_key_gets_through(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[240];
        size_t n = redact_copy(span_str(rows[i].in), out, sizeof out);
        assert_int_equal(n, strlen(out));
        assert_string_equal(out, rows[i].out);
    }
}

/* Wherever the room ends: the text is a prefix of the whole one, is UTF-8, and holds no part of a key. */
static void every_cut_is_clean(void **state)
{
    (void)state;
    static const char in[] =
        "gr\xc3\xbc\xc3\x9f sk-secretsecret and key: abcdefghijklmnopqrstuvwxyz \xf0\x9f\x98\x80 end";
    char whole[200], out[200];
    redact_copy(span_str(in), whole, sizeof whole);
    for (size_t room = 1; room < sizeof whole; room++) {
        size_t n = redact_copy(span_str(in), out, room);
        assert_true(n < room);
        assert_int_equal(strncmp(whole, out, n), 0);
        assert_true(utf8_valid(span_of(out, n)));
        assert_null(strstr(out, "secret"));
        assert_null(strstr(out, "abcd"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_key_gets_through),
        cmocka_unit_test(every_cut_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
