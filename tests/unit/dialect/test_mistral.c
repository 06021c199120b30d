/* Answers for Mistral's own clients: calls whole in one chunk, reasoning among the content's parts, usage with the finish reason. */
#include "../../lib/torture.h"
#include "translate.h"

static const struct msg_delta deltas[] = {
    {.kind = MSG_REASONING, .tool = -1, .text = {"h", 1}},
    {.kind = MSG_REASONING, .tool = -1, .text = {"m", 1}},
    {.kind = MSG_TEXT, .tool = -1, .text = {"say \\\"", 6}},
    {.kind = MSG_TEXT, .tool = -1, .text = {"x", 1}},
    {.kind = MSG_TOOL_START, .tool = 0, .text = {"f", 1}, .id = {"t1", 2}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = {"{\\\"a\\\":", 7}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = {"1}", 2}},
    {.kind = MSG_TOOL_START, .tool = 1, .text = {"g", 1}, .id = {"t2", 2}},
};
static const struct spoken answer = {.codec = &codec_mistral,
                                     .framing = FRAMING_LINES,
                                     .deltas = deltas,
                                     .count = sizeof(deltas) / sizeof(deltas[0]),
                                     .facts = {.usage = {30, 10, -1, 7, 2}, .finish = MSG_FINISH_TOOL_CALLS}};

#define HEAD(object)                                   \
    "{\"id\":\"chatcmpl-abc123\",\"object\":\"" object \
    "\",\"created\":1700000000,\"model\":\"some-model\",\"choices\":[{\"index\":0,"
#define CHUNK(delta) "data: " HEAD("chat.completion.chunk") "\"delta\":{" delta "},\"finish_reason\":null}]}\n\n"
#define THINKING(text) "{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"" text "\"}]}"
#define CALL_F                                                                                                    \
    "{\"index\":0,\"id\":\"t1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}" \
    "\"}}"
#define CALL_G \
    "{\"index\":1,\"id\":\"t2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}"
#define USAGE                                                                                                 \
    "\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":7,\"total_tokens\":37,\"prompt_tokens_details\":{" \
    "\"cached_tokens\":10},"                                                                                  \
    "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}"

static void assert_bytes(const struct buf *got, const char *want)
{
    if (!span_is(buf_span(got), want))
        fail_msg("expected\n%s\ngot\n%.*s", want, SPAN_FMT(buf_span(got)));
}

static void a_stream_has_its_calls_whole(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(spoken_stream(&answer, &out), PD_OK);
    assert_bytes(&out, CHUNK("\"role\":\"assistant\",\"content\":[" THINKING("h") "]")
                           CHUNK("\"content\":[" THINKING("m") "]") CHUNK("\"content\":\"say \\\"\"")
                               CHUNK("\"content\":\"x\"") CHUNK("\"content\":\"\",\"tool_calls\":[" CALL_F "]")
                                   CHUNK("\"content\":\"\",\"tool_calls\":[" CALL_G "]") "data: " HEAD(
                                       "chat.completion.chunk") "\"delta\":{\"content\":\"\"},\"finish_reason\":"
                                                                "\"tool_calls\"}]," USAGE "\n\ndata: [DONE]\n\n");
    buf_done(&out);
}

static void a_whole_answer_has_reasoning_among_its_parts(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(spoken_whole(&answer, &out), PD_OK);
    assert_bytes(&out, HEAD("chat.completion") "\"message\":{\"role\":\"assistant\",\"content\":[" THINKING(
                           "hm") ",{\"type\":\"text\",\"text\":\"say \\\"x\"}],\"tool_calls\":[" CALL_F "," CALL_G
                                 "]},\"finish_reason\":\"tool_calls\"}]," USAGE);
    buf_clear(&out);
    const struct spoken plain = {.codec = &codec_mistral,
                                 .deltas = deltas + 2,
                                 .count = 2,
                                 .facts = {.usage = {1, -1, -1, 2, -1}, .finish = MSG_FINISH_STOP}};
    assert_int_equal(spoken_whole(&plain, &out), PD_OK);
    assert_true(memmem(buf_span(&out).p, buf_size(&out), "\"content\":\"say \\\"x\"}", 19));
    buf_done(&out);
}

static void what_is_spoken_reads_the_same(void **state)
{
    (void)state;
    assert_spoken(
        &answer,
        "complete id(chatcmpl-abc123) model(some-model) finish(tool_calls tool_calls) usage(30 10 -1 7 2)\n"
        "0 text(say \\\"x) reasoning(hm) refusal() tool(t1 f {\\\"a\\\":1}) tool(t2 g {})");
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(spoken_work, (void *)&answer) >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_has_its_calls_whole),
        cmocka_unit_test(a_whole_answer_has_reasoning_among_its_parts),
        cmocka_unit_test(what_is_spoken_reads_the_same),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
