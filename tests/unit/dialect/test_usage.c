/* Token counts, wherever providers put them. */
#include "dialect/openai_chat_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

static const struct row {
    const char *name, *usage;
    struct msg_usage counts; /* all -1: there is none */
} rows[] = {
    {"the usual names", "{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}", {7, -1, -1, 3, -1}},
    {"details are inside",
     "{\"completion_tokens_details\":{\"reasoning_tokens\":2},\"prompt_tokens\":7,\"completion_tokens\":3,"
     "\"prompt_tokens_details\":{\"audio_tokens\":1,\"cached_tokens\":4,\"cache_write_tokens\":5}}",
     {7, 4, 5, 3, 2}},
    {"the newer names",
     "{\"input_tokens\":7,\"output_tokens\":3,\"input_tokens_details\":{\"cached_tokens\":4},"
     "\"output_tokens_details\":{\"reasoning_tokens\":2},\"cache_creation_input_tokens\":6}",
     {7, 4, 6, 3, 2}},
    {"beside the others",
     "{\"prompt_tokens\":7,\"prompt_cache_hit_tokens\":4,\"reasoning_tokens\":2}",
     {7, 4, -1, -1, 2}},
    {"of several the better name counts, whichever comes first",
     "{\"cached_tokens\":1,\"input_tokens\":8,\"prompt_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":4},"
     "\"cache_read_input_tokens\":9,\"output_tokens\":0}",
     {7, 4, -1, 0, -1}},
    {"what is no count is as if it were not there",
     "{\"prompt_tokens\":null,\"input_tokens\":8,\"completion_tokens\":-1,\"output_tokens\":3,\"prompt_tokens_"
     "details\":null,"
     "\"cached_tokens\":\"4\",\"reasoning_tokens\":1.5}",
     {8, -1, -1, 3, -1}},
    {"the same names at another place mean something else",
     "{\"other\":{\"prompt_tokens_details\":{\"cached_tokens\":4},\"cached_tokens\":4,\"prompt_tokens\":7},"
     "\"prompt_tokens_details\":{\"prompt_tokens\":7,"
     "\"deeper\":{\"cached_tokens\":4}},\"\":{\"prompt_tokens\":7}}",
     {-1, -1, -1, -1, -1}},
    {"an escaped name is that name", "{\"prompt\\u005ftokens\":7}", {7, -1, -1, -1, -1}},
    {"of a name that stands there twice the last",
     "{\"prompt_tokens\":7,\"prompt_tokens\":8}",
     {8, -1, -1, -1, -1}},
    {"nothing", "{}", {-1, -1, -1, -1, -1}},
    {"no object", "[7]", {-1, -1, -1, -1, -1}},
};

static void every_provider_s_names_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct json usage;
        struct msg_usage u = MSG_USAGE_NONE, none = MSG_USAGE_NONE;
        assert_int_equal(json_first(span_str(rows[i].usage), &usage, NULL), PD_OK);
        bool any = usage_read(usage, &u);
        if (memcmp(&u, &rows[i].counts, sizeof(u)) != 0 || any != (memcmp(&u, &none, sizeof(u)) != 0))
            fail_msg("%s", rows[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_provider_s_names_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
