/* What the official SDKs send back as the history of a conversation, written for a provider of another format. Each row is the shape that an SDK gave. */
#include "translate.h"

struct history {
    const char *name;
    const struct codec *from, *to;
    const char *model;
    const char *in, *out;
};

#define CHAT_CALLS                                                                                           \
    "{\"model\":\"gpt-4.1\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\","   \
    "\"content\":null,\"tool_calls\":"                                                                       \
    "[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"  \
    "{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":2}\"}}]}," \
    "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"one\"},"                                       \
    "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"two\"}]}"

static const struct history rows[] = {
    {"Ollama's keep the ids of calls, but results have only the name", &codec_ollama, &codec_openai_chat,
     "gpt-4.1",
     "{\"model\":\"m\",\"stream\":false,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":"
     "\"assistant\","
     "\"content\":\"\",\"tool_calls\":[{\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},"
     "{\"id\":\"c2\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":2}}}]},"
     "{\"role\":\"tool\",\"content\":\"one\",\"tool_name\":\"f\"},"
     "{\"role\":\"tool\",\"content\":\"two\",\"tool_name\":\"f\"}]}",
     CHAT_CALLS},
    {"Bedrock's results have ids, Gemini's want names", &codec_bedrock_converse, &codec_gemini, "gemini-2.5-flash",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"hi\"}]},{\"role\":\"assistant\",\"content\":["
     "{\"toolUse\":{\"toolUseId\":\"c1\",\"name\":\"f\",\"input\":{\"a\":1}}}]},{\"role\":\"user\",\"content\":["
     "{\"toolResult\":{\"toolUseId\":\"c1\",\"content\":[{\"text\":\"one\"}]}}]}]}",
     "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]},{\"role\":\"model\",\"parts\":[{"
     "\"functionCall\":{"
     "\"name\":\"f\",\"args\":{\"a\":1},\"id\":\"c1\"}}]},{\"role\":\"user\",\"parts\":[{\"functionResponse\":{"
     "\"name\":\"f\""
     ",\"response\":{\"result\":\"one\"},\"id\":\"c1\"}}]}]}"},
    {"Google's keep a stream as it came, a content for each piece", &codec_gemini, &codec_openai_chat, "gpt-4.1",
     "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"hi\"}]},"
     "{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"c1\",\"name\":\"f\",\"args\":{\"a\":1}}}]},"
     "{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"c2\",\"name\":\"f\",\"args\":{\"a\":2}}}]},"
     "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"id\":\"c1\",\"name\":\"f\",\"response\":{\"output\":"
     "\"one\"}}},"
     "{\"functionResponse\":{\"id\":\"c2\",\"name\":\"f\",\"response\":{\"output\":\"two\"}}}]}]}",
     CHAT_CALLS},
    {"Anthropic's thinking is shown when it is enabled", &codec_anthropic, &codec_openai_responses, "gpt-5",
     "{\"model\":\"c\",\"max_tokens\":4096,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024},"
     "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
     "{\"model\":\"gpt-5\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
     "\"type\":\"inp"
     "ut_text\",\"text\":\"hi\"}]}],\"max_output_tokens\":4096,\"reasoning\":{\"summary\":\"auto\"},\"include\":["
     "\"re"
     "asoning.encrypted_content\"]}"},
    {"and hidden when it is omitted", &codec_anthropic, &codec_openai_responses, "gpt-5",
     "{\"model\":\"c\",\"max_tokens\":4096,\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024,\"display\":"
     "\"omitted\"},\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
     "{\"model\":\"gpt-5\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
     "\"type\":\"inp"
     "ut_text\",\"text\":\"hi\"}]}],\"max_output_tokens\":4096}"},
    {"Bedrock's too", &codec_bedrock_converse, &codec_openai_responses, "gpt-5",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"hi\"}]}],\"additionalModelRequestFields\":"
     "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}}",
     "{\"model\":\"gpt-5\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{"
     "\"type\":\"inp"
     "ut_text\",\"text\":\"hi\"}]}],\"reasoning\":{\"summary\":\"auto\"},\"include\":[\"reasoning.encrypted_"
     "content"
     "\"]}"},
};

static void histories_are_understood(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct translate_row row = {rows[i].name, rows[i].in, rows[i].out};
        faults += translate_rows(rows[i].from, rows[i].to, rows[i].model, false, &row, 1);
    }
    assert_int_equal(faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(histories_are_understood)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
