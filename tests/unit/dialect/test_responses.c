#include "dialect/responses_priv.h"
#include "told.h"

static const struct codec *const responses = &codec_openai_responses;

/* ---- requests: read and written again ------------------------------------------------ */

/* The body that the neutral form of `in` becomes, and what was dropped on the way. */
static pd_err rewritten(struct span in, struct arena *a, struct buf *out, const char **ret_why)
{
    struct request_facts f;
    struct msg_request m;
    pd_err e = responses->read_request(in, &(struct request_line){0}, a, &f, ret_why);
    if (!e)
        e = responses->parse_request(&f, a, &m, ret_why);
    if (!e)
        e = responses->write_request(&m, &(struct write_want){.model = SPAN_LIT("t"), .stream = m.stream}, a, out);
    for (unsigned i = 0; !e && i < m.dropped_count; i++)
        e = buf_printf(out, " -%s", m.dropped[i]);
    return e;
}

static const struct {
    const char *name, *in, *out;
} rewrites[] = {
    {"a string", "{\"model\":\"m\",\"input\":\"hi \\\"you\\\"\"}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"hi \\\"you\\\"\"}]}]}"},
    {"instructions and messages",
     "{\"instructions\":\"be\\nkind\",\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"type\":\"message\","
     "\"role\":\"assistant\",\"id\":\"msg_1\",\"status\":\"completed\",\"content\":[{\"type\":\"output_text\","
     "\"text\":\"b\",\"annotations\":[]},{\"type\":\"refusal\",\"refusal\":\"no\"}]},{\"role\":\"developer\","
     "\"content\":[{\"type\":\"input_text\",\"text\":\"c\"}]},{\"role\":\"user\",\"content\":\"d\"}]}",
     "{\"model\":\"t\",\"store\":false,\"instructions\":\"be\\nkind\",\"input\":[{\"type\":\"message\",\"role\":"
     "\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]},{\"type\":\"message\",\"role\":"
     "\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"b\"},{\"type\":\"refusal\",\"refusal\":"
     "\"no\"}]},{\"type\":\"message\",\"role\":\"developer\",\"content\":[{\"type\":\"input_text\",\"text\":\"c\"}"
     "]},{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"d\"}]}]}"},
    {"instructions alone stay in the input", "{\"instructions\":\"s\",\"input\":[]}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"system\",\"content\":[{"
     "\"type\":\"input_text\",\"text\":\"s\"}]}]}"},
    {"images, files and audio",
     "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":\"data:image/"
     "jpeg;base64,AAAA\",\"detail\":\"low\"},{\"type\":\"input_image\",\"image_url\":\"https:\\/\\/x\\/"
     "a.png\"},{\"type\":\"input_image\",\"file_id\":\"file-1\"},{\"type\":\"input_image\",\"image_url\":{\"url\":"
     "\"https://y\"}},{\"type\":\"input_file\",\"filename\":\"a.pdf\",\"file_data\":\"data:application/"
     "pdf;base64,BBBB\"},{\"type\":\"input_file\",\"file_data\":\"CCCC\"},{\"type\":\"input_file\",\"file_url\":"
     "\"https://z/"
     "b.pdf\"},{\"type\":\"input_file\",\"file_id\":\"file-2\"},{\"type\":\"input_audio\",\"input_audio\":{"
     "\"data\":\"DDDD\",\"format\":\"mp3\"}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"EEEE\","
     "\"format\":\"wav\"}}]}]}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_image\",\"image_url\":\"data:image/"
     "jpeg;base64,AAAA\",\"detail\":\"low\"},{\"type\":\"input_image\",\"image_url\":\"https:\\/\\/x\\/"
     "a.png\"},{\"type\":\"input_image\",\"file_id\":\"file-1\"},{\"type\":\"input_image\",\"image_url\":\"https:/"
     "/y\"},{\"type\":\"input_file\",\"filename\":\"a.pdf\",\"file_data\":\"data:application/"
     "pdf;base64,BBBB\"},{\"type\":\"input_file\",\"filename\":\"document.pdf\",\"file_data\":\"data:application/"
     "pdf;base64,CCCC\"},{\"type\":\"input_file\",\"file_url\":\"https://z/"
     "b.pdf\"},{\"type\":\"input_file\",\"file_id\":\"file-2\"},{\"type\":\"input_audio\",\"input_audio\":{"
     "\"data\":\"DDDD\",\"format\":\"mp3\"}},{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"EEEE\","
     "\"format\":\"wav\"}}]}]}"},
    {"calls and results",
     "{\"input\":[{\"role\":\"user\",\"content\":\"go\"},{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":"
     "\"c1\",\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\\\"x\\\\ny\\\"}\",\"status\":\"completed\"},{\"type\":"
     "\"function_call\",\"call_id\":\"c2\",\"name\":\"g\",\"arguments\":\"\"},{\"type\":\"function_call_output\","
     "\"call_id\":\"c1\",\"output\":\"one\"},{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":[{"
     "\"type\":\"input_text\",\"text\":\"two\"},{\"type\":\"input_image\",\"image_url\":\"data:image/"
     "png;base64,AAAA\"}]},{\"role\":\"user\",\"content\":\"and?\"}]}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"go\"}]},{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\","
     "\"arguments\":\"{\\\"a\\\":\\\"x\\\\ny\\\"}\"},{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":"
     "\"g\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"one\"},{"
     "\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":[{\"type\":\"input_text\",\"text\":\"two\"},"
     "{\"type\":\"input_image\",\"image_url\":\"data:image/"
     "png;base64,AAAA\"}]},{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
     "\"and?\"}]}]}"},
    {"arguments that are no object",
     "{\"input\":[{\"role\":\"user\",\"content\":\"go\"},{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":"
     "\"f\",\"arguments\":\"{\\\"a\\\":\"},{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"\"}]"
     "}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"go\"}]},{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\","
     "\"arguments\":\"{\\\"a\\\":\"},{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"\"}]}"},
    {"free text tools",
     "{\"input\":[{\"role\":\"user\",\"content\":\"go\"},{\"type\":\"custom_tool_call\",\"call_id\":\"c1\","
     "\"name\":\"patch\",\"input\":\"*** "
     "\\\"x\\\"\\n\"},{\"type\":\"custom_tool_call_output\",\"call_id\":\"c1\",\"output\":\"done\"}],\"tools\":[{"
     "\"type\":\"custom\",\"name\":\"patch\",\"description\":\"d\",\"format\":{\"type\":\"grammar\",\"syntax\":"
     "\"lark\",\"definition\":\"start: "
     "x\"}},{\"type\":\"custom\",\"name\":\"plain\"}],\"tool_choice\":{\"type\":\"custom\",\"name\":\"patch\"}}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"go\"}]},{\"type\":\"custom_tool_call\",\"call_id\":\"c1\",\"name\":\"patch\","
     "\"input\":\"*** "
     "\\\"x\\\"\\n\"},{\"type\":\"custom_tool_call_output\",\"call_id\":\"c1\",\"output\":\"done\"}],\"tools\":[{"
     "\"type\":\"custom\",\"name\":\"patch\",\"description\":\"d\",\"format\":{\"type\":\"grammar\",\"syntax\":"
     "\"lark\",\"definition\":\"start: "
     "x\"}},{\"type\":\"custom\",\"name\":\"plain\"}],\"tool_choice\":{\"type\":\"custom\",\"name\":\"patch\"}}"},
    {"tools that the maker knows and the client runs",
     "{\"input\":[{\"role\":\"user\",\"content\":\"go\"},{\"type\":\"local_shell_call\",\"call_id\":\"c1\","
     "\"action\":{\"type\":\"exec\",\"command\":[\"ls\"]}},{\"type\":\"local_shell_call_output\",\"call_id\":"
     "\"c1\",\"output\":\"a "
     "b\"},{\"type\":\"shell_call\",\"call_id\":\"c2\",\"action\":{\"commands\":[\"ls\"]}},{\"type\":\"shell_call_"
     "output\",\"call_id\":\"c2\",\"output\":[{\"stdout\":\"x\",\"outcome\":{\"type\":\"exit\",\"exit_code\":0}}]}"
     ",{\"type\":\"computer_call\",\"call_id\":\"c3\",\"action\":{\"type\":\"screenshot\"}},{\"type\":\"computer_"
     "call_output\",\"call_id\":\"c3\",\"output\":{\"type\":\"computer_screenshot\",\"image_url\":\"data:image/"
     "png;base64,AAAA\"}}]}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"go\"}]},{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"local_shell\","
     "\"arguments\":\"{\\\"type\\\":\\\"exec\\\",\\\"command\\\":[\\\"ls\\\"]}\"},{\"type\":\"function_call_"
     "output\",\"call_id\":\"c1\",\"output\":\"a "
     "b\"},{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"shell\",\"arguments\":\"{\\\"commands\\\":["
     "\\\"ls\\\"]}\"},{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":\"[{\\\"stdout\\\":"
     "\\\"x\\\",\\\"outcome\\\":{\\\"type\\\":\\\"exit\\\",\\\"exit_code\\\":0}}]\"},{\"type\":\"function_call\","
     "\"call_id\":\"c3\",\"name\":\"computer\",\"arguments\":\"{\\\"type\\\":\\\"screenshot\\\"}\"},{\"type\":"
     "\"function_call_output\",\"call_id\":\"c3\",\"output\":[{\"type\":\"input_image\",\"image_url\":\"data:"
     "image/png;base64,AAAA\"}]}]}"},
    {"reasoning",
     "{\"input\":[{\"role\":\"user\",\"content\":\"go\"},{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[{"
     "\"type\":\"summary_text\",\"text\":\"one\"},{\"type\":\"summary_text\",\"text\":\"two\"}],\"encrypted_"
     "content\":\"SEAL\"},{\"type\":\"reasoning\",\"id\":\"rs_2\",\"summary\":[],\"content\":[{\"type\":"
     "\"reasoning_text\",\"text\":\"open\"}],\"encrypted_content\":null},{\"type\":\"reasoning\",\"id\":\"rs_3\","
     "\"summary\":[]},{\"role\":\"assistant\",\"content\":\"a\"}]}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"go\"}]},{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[{\"type\":\"summary_"
     "text\",\"text\":\"one\\n\\ntwo\"}],\"encrypted_content\":\"SEAL\"},{\"type\":\"reasoning\",\"summary\":[{"
     "\"type\":\"summary_text\",\"text\":\"open\"}]},{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{"
     "\"type\":\"output_text\",\"text\":\"a\"}]}],\"include\":[\"reasoning.encrypted_content\"]}"},
    {"hosted tools' history is left out",
     "{\"input\":[{\"role\":\"user\",\"content\":\"go\"},{\"type\":\"web_search_call\",\"id\":\"ws_1\",\"status\":"
     "\"completed\",\"action\":{\"type\":\"search\",\"query\":\"q\"}},{\"role\":\"assistant\",\"content\":"
     "\"found\"}],\"tools\":[{\"type\":\"web_search\"}],\"include\":[\"web_search_call.action.sources\"]}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"go\"}]},{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":"
     "\"output_text\",\"text\":\"found\"}]}],\"tools\":[{\"type\":\"web_search\"}]} -include -web_search_call"},
    {"tools",
     "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\",\"parameters\":{"
     "\"type\":\"object\",\"properties\":{}},\"strict\":true},{\"type\":\"function\",\"name\":\"g\","
     "\"parameters\":null},{\"type\":\"function\",\"name\":\"h\",\"strict\":null}],\"tool_choice\":{\"type\":"
     "\"function\",\"name\":\"f\"},\"parallel_tool_calls\":false}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]}],\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\","
     "\"parameters\":{\"type\":\"object\",\"properties\":{}},\"strict\":true},{\"type\":\"function\",\"name\":"
     "\"g\",\"parameters\":{\"type\":\"object\",\"properties\":{}},\"strict\":false},{\"type\":\"function\","
     "\"name\":\"h\",\"parameters\":{\"type\":\"object\",\"properties\":{}},\"strict\":false}],\"tool_choice\":{"
     "\"type\":\"function\",\"name\":\"f\"},\"parallel_tool_calls\":false}"},
    {"a namespace of tools",
     "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"function_call\",\"call_id\":\"c1\","
     "\"namespace\":\"agents\",\"name\":\"spawn\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_"
     "id\":\"c1\",\"output\":\"ok\"}],\"tools\":[{\"type\":\"namespace\",\"name\":\"agents\",\"description\":"
     "\"d\",\"tools\":[{\"type\":\"function\",\"name\":\"spawn\",\"parameters\":{\"type\":\"object\"}},{\"type\":"
     "\"function\",\"name\":\"wait_for_an_agent_with_a_name_that_is_longer_than_all_the_others\",\"parameters\":{"
     "\"type\":\"object\"}}]},{\"type\":\"function\",\"name\":\"f\"}],\"tool_choice\":\"required\"}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]},{\"type\":\"function_call\",\"call_id\":\"c1\",\"namespace\":\"agents\","
     "\"name\":\"spawn\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":"
     "\"ok\"}],\"tools\":[{\"type\":\"namespace\",\"name\":\"agents\",\"tools\":[{\"type\":\"function\",\"name\":"
     "\"spawn\",\"parameters\":{\"type\":\"object\"},\"strict\":false},{\"type\":\"function\",\"name\":\"wait_for_"
     "an_agent_with_a_name_that_is_longer_than_all_the_others\",\"parameters\":{\"type\":\"object\"},\"strict\":"
     "false}]},{\"type\":\"function\",\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{}},"
     "\"strict\":false}],\"tool_choice\":\"required\"}"},
    {"only some tools are allowed",
     "{\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"},{\"type\":\"function\",\"name\":\"g\"},{"
     "\"type\":\"web_search\"}],\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"required\",\"tools\":[{"
     "\"type\":\"function\",\"name\":\"g\"},{\"type\":\"web_search\"}]}}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]}],\"tools\":[{\"type\":\"function\",\"name\":\"g\",\"parameters\":{\"type\":"
     "\"object\",\"properties\":{}},\"strict\":false},{\"type\":\"web_search\"}],\"tool_choice\":\"required\"}"},
    {"settings",
     "{\"input\":\"x\",\"max_output_tokens\":99,\"temperature\":0.50,\"top_p\":1,\"top_logprobs\":3,\"include\":["
     "\"message.output_text.logprobs\",\"reasoning.encrypted_content\"],\"text\":{\"format\":{\"type\":\"json_"
     "schema\",\"name\":\"n\",\"description\":\"d\",\"schema\":{\"type\":\"object\"},\"strict\":true},"
     "\"verbosity\":\"low\"},\"reasoning\":{\"effort\":\"xhigh\",\"summary\":\"detailed\"},\"user\":\"u\","
     "\"safety_identifier\":\"s\",\"service_tier\":\"flex\",\"prompt_cache_key\":\"k\",\"store\":false,"
     "\"truncation\":\"disabled\",\"stream_options\":{\"include_obfuscation\":false},\"background\":false,"
     "\"previous_response_id\":null,\"conversation\":null,\"metadata\":null}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]}],\"max_output_tokens\":99,\"temperature\":0.50,\"top_p\":1,\"top_"
     "logprobs\":3,\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"description\":\"d\",\"schema\":"
     "{\"type\":\"object\"},\"strict\":true},\"verbosity\":\"low\"},\"reasoning\":{\"effort\":\"xhigh\","
     "\"summary\":\"auto\"},\"include\":[\"reasoning.encrypted_content\",\"message.output_text.logprobs\"],"
     "\"user\":\"s\",\"service_tier\":\"flex\",\"prompt_cache_key\":\"k\"}"},
    {"formats", "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_object\"}}}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]}],\"text\":{\"format\":{\"type\":\"json_object\"}}}"},
    {"a text format",
     "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"text\"}},\"reasoning\":{\"effort\":\"none\"}}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]}],\"text\":{\"format\":{\"type\":\"text\"}},\"reasoning\":{\"effort\":"
     "\"none\"}}"},
    {"what has no place is named",
     "{\"input\":\"x\",\"store\":true,\"metadata\":{\"a\":\"b\"},\"client_metadata\":{},\"truncation\":\"auto\","
     "\"max_tool_calls\":3,\"prompt_cache_retention\":\"24h\",\"tool_choice\":{\"type\":\"web_search\"},"
     "\"reasoning\":{\"effort\":\"wild\"},\"stream_options\":{\"include_obfuscation\":true}}",
     "{\"model\":\"t\",\"store\":false,\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"
     "\"input_text\",\"text\":\"x\"}]}]} -store -metadata -client_metadata -truncation -max_tool_calls "
     "-prompt_cache_retention -reasoning.effort -stream_options.include_obfuscation -tool_choice"},
    {"a part that nobody knows",
     "{\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[{\"type\":\"input_"
     "hologram\"}]}]}",
     "PD_UNSUPPORTED: input[1]: a content part of type \"input_hologram\" cannot be carried to a target of "
     "another format"},
    {"an item that nobody knows", "{\"input\":[{\"type\":\"compaction\",\"encrypted_content\":\"x\"}]}",
     "PD_UNSUPPORTED: input[0]: an item of type \"compaction\" cannot be carried to a target of another format"},
    {"a reference", "{\"input\":[{\"type\":\"item_reference\",\"id\":\"msg_1\"}]}",
     "PD_UNSUPPORTED: an item_reference names what is kept at its provider, and this target is of another format: "
     "send the whole conversation in \"input\""},
    {"a reference without a type", "{\"input\":[{\"id\":\"msg_1\"}]}",
     "PD_UNSUPPORTED: an item_reference names what is kept at its provider, and this target is of another format: "
     "send the whole conversation in \"input\""},
    {"an earlier response", "{\"input\":\"x\",\"previous_response_id\":\"resp_1\"}",
     "PD_UNSUPPORTED: previous_response_id names what is kept at its provider, and this target is of another "
     "format: send the whole conversation in \"input\""},
    {"a conversation", "{\"input\":\"x\",\"conversation\":{\"id\":\"conv_1\"}}",
     "PD_UNSUPPORTED: conversation names what is kept at its provider, and this target is of another format: send "
     "the whole conversation in \"input\""},
    {"a stored prompt", "{\"input\":\"x\",\"prompt\":{\"id\":\"pmpt_1\"}}",
     "PD_UNSUPPORTED: prompt names what is kept at its provider, and this target is of another format: send the "
     "whole conversation in \"input\""},
    {"in the background", "{\"input\":\"x\",\"background\":true}",
     "PD_UNSUPPORTED: \"background\" is not possible with a target of another format: wait for the answer"},
    {"an input that is a number", "{\"input\":7}", "PD_INVALID: \"input\" must be a string or an array of items"},
    {"an item that is a number", "{\"input\":[7]}", "PD_INVALID: input[0]: an item must be an object"},
    {"an unknown role", "{\"input\":[{\"role\":\"king\",\"content\":\"x\"}]}",
     "PD_INVALID: input[0]: \"role\" must be user, assistant, system or developer"},
    {"a tool without a name", "{\"input\":\"x\",\"tools\":[{\"type\":\"function\"}]}",
     "PD_INVALID: a tool needs a name"},
    {"a namespace without a name", "{\"input\":\"x\",\"tools\":[{\"type\":\"namespace\",\"tools\":[]}]}",
     "PD_INVALID: a namespace of tools needs a name"},
    {"tools that are no list", "{\"input\":\"x\",\"tools\":{}}", "PD_INVALID: \"tools\" must be an array"},
    {"an unknown choice", "{\"input\":\"x\",\"tool_choice\":\"maybe\"}",
     "PD_INVALID: \"tool_choice\" must be none, auto, required or an object"},
    {"a limit that is none", "{\"input\":\"x\",\"max_output_tokens\":\"many\"}",
     "PD_INVALID: \"max_output_tokens\" must be a whole number"},
    {"a temperature that is none", "{\"input\":\"x\",\"temperature\":\"hot\"}",
     "PD_INVALID: \"temperature\" must be a number"},
    {"a schema that is none", "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\"}}}",
     "PD_INVALID: \"text.format.schema\" must be an object"},
    {"an image without a place", "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
     "PD_INVALID: input[0]: an input_image needs image_url or file_id"},
    {"a result without a call", "{\"input\":[{\"type\":\"function_call_output\",\"output\":\"x\"}]}",
     "PD_INVALID: input[0]: a call's output needs a call_id"},
};

static void requests_are_read_and_written_again(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(rewrites) / sizeof(rewrites[0]); i++) {
        struct arena a;
        struct buf out;
        const char *why = NULL;
        arena_init(&a, 0, 0);
        buf_init(&out, 0);
        pd_err e = rewritten(span_str(rewrites[i].in), &a, &out, &why);
        if (e) {
            buf_clear(&out);
            assert_int_equal(buf_printf(&out, "%s: %s", pd_err_name(e), why), PD_OK);
        }
        if (!span_is(buf_span(&out), rewrites[i].out)) {
            print_error("%s: expected %s\n    got %.*s\n", rewrites[i].name, rewrites[i].out,
                        SPAN_FMT(buf_span(&out)));
            faults++;
        }
        buf_done(&out);
        arena_done(&a);
    }
    assert_int_equal(faults, 0);
}

/* What was written is read to the same, and so written to the same again. */
static void what_is_written_is_read_to_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rewrites) / sizeof(rewrites[0]); i++) {
        struct arena a;
        struct buf once, twice;
        const char *why;
        arena_init(&a, 0, 0);
        buf_init(&once, 0);
        buf_init(&twice, 0);
        if (!rewritten(span_str(rewrites[i].in), &a, &once, &why)) {
            struct span body = buf_span(&once);
            struct json first;
            assert_int_equal(json_first(body, &first, NULL), PD_OK); /* what was dropped stands behind it */
            assert_int_equal(rewritten(first.raw, &a, &twice, &why), PD_OK);
            if (!span_eq(first.raw, buf_span(&twice)))
                fail_msg("%s: %.*s", rewrites[i].name, SPAN_FMT(buf_span(&twice)));
        }
        buf_done(&once);
        buf_done(&twice);
        arena_done(&a);
    }
}

static pd_err rewrite_one(void *in)
{
    struct arena a;
    struct buf out;
    const char *why = NULL;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    pd_err e = rewritten(span_str(in), &a, &out, &why);
    if (e != PD_NOMEM)
        e = PD_OK; /* rows that are refused anyway */
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void requests_survive_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rewrites) / sizeof(rewrites[0]); i++)
        torture_lenient(rewrite_one, (void *)(uintptr_t)rewrites[i].in); /* a sentence may be a shorter one */
}

/* ---- requests: facts and edits --------------------------------------------------------- */

static const struct {
    const char *name, *in, *out;
} facts[] = {
    {"the least", "{}", "model() max(-1) user()"},
    {"a first turn", "{\"model\":\"m\",\"input\":\"hi\",\"stream\":true}", "model(m) max(-1) user() stream"},
    {"a first turn of items", "{\"input\":[{\"role\":\"developer\"},{\"role\":\"user\",\"content\":\"a\"}]}",
     "model() max(-1) user()"},
    {"a later turn", "{\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\"}]}",
     "model() max(-1) user() continues"},
    {"a later turn, kept at the maker", "{\"input\":\"b\",\"previous_response_id\":\"resp_1\"}",
     "model() max(-1) user() continues"},
    {"tools, a limit and reasoning", "{\"tools\":[{}],\"max_output_tokens\":5,\"reasoning\":{\"effort\":\"low\"}}",
     "model() max(5) user() tools reasoning"},
    {"no reasoning", "{\"reasoning\":{\"effort\":\"none\"}}", "model() max(-1) user()"},
    {"a session", "{\"user\":\"u\",\"client_metadata\":{\"session_id\":\"s\"}}", "model() max(-1) user(s)"},
    {"a conversation", "{\"conversation\":{\"id\":\"c\"},\"user\":\"u\"}", "model() max(-1) user(c)"},
    {"the most exact hint wins", "{\"prompt_cache_key\":\"k\",\"client_metadata\":{\"session_id\":\"s\"}}",
     "model() max(-1) user(k)"},
};

static void facts_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        struct arena a;
        struct request_facts f;
        const char *why = NULL;
        arena_init(&a, 0, 0);
        assert_int_equal(responses->read_request(span_str(facts[i].in), &(struct request_line){0}, &a, &f, &why),
                         PD_OK);
        char *got = arena_printf(&a, "model(%.*s) max(%lld) user(%.*s)%s%s%s%s", SPAN_FMT(f.model),
                                 (long long)f.max_tokens, SPAN_FMT(f.user), f.stream ? " stream" : "",
                                 f.tools ? " tools" : "", f.continues ? " continues" : "",
                                 f.reasoning ? " reasoning" : "");
        if (strcmp(got, facts[i].out) != 0)
            fail_msg("%s: got %s", facts[i].name, got);
        arena_done(&a);
    }
}

static uint64_t prefix_of(const char *body)
{
    struct arena a;
    struct request_facts f;
    const char *why;
    arena_init(&a, 0, 0);
    assert_int_equal(responses->read_request(span_str(body), &(struct request_line){0}, &a, &f, &why), PD_OK);
    arena_done(&a);
    return f.prefix_hash;
}

static void every_turn_of_a_conversation_has_the_same_prefix(void **state)
{
    (void)state;
    uint64_t first = prefix_of("{\"instructions\":\"i\",\"input\":[{\"role\":\"user\",\"content\":\"a\"}]}");
    uint64_t later = prefix_of("{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":\"a\"},"
                               "{\"type\":\"function_call\"}],\"instructions\":\"i\"}");
    assert_true(first == later);
    assert_true(first != prefix_of("{\"instructions\":\"i\",\"input\":[{\"role\":\"user\",\"content\":\"b\"}]}"));
    assert_true(first != prefix_of("{\"instructions\":\"j\",\"input\":[{\"role\":\"user\",\"content\":\"a\"}]}"));
}

static pd_err edited(struct span body, const struct request_edit *ed, struct arena *a, struct buf *out)
{
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count;
    const char *why;
    pd_err e = responses->read_request(body, &(struct request_line){0}, a, &f, &why);
    if (!e)
        e = responses->edit_request(&f, ed, a, parts, &count);
    for (unsigned i = 0; !e && i < count; i++)
        e = buf_add(out, parts[i]);
    return e;
}

static const struct edit_row {
    const char *name, *in;
    struct request_edit edit;
    const char *out;
} edits[] = {
    {"nothing to do",
     " {\"input\":[ {\"type\":\"reasoning\",\"id\":\"rs_perdureA_0\"} ]} ",
     {.strip_foreign = false},
     " {\"input\":[ {\"type\":\"reasoning\",\"id\":\"rs_perdureA_0\"} ]} "},
    {"usage comes unasked",
     "{\"model\":\"a\",\"stream\":true}",
     {.model = {"b", 1}, .want_usage = true},
     "{\"model\":\"b\",\"stream\":true}"},
    {"foreign reasoning goes, the maker's own stays",
     "{\"model\":\"a\",\"input\":[{\"role\":\"user\"}, "
     "{\"type\":\"reasoning\",\"id\":\"rs_perdureA_0\",\"summary\":[]} ,"
     "{\"type\":\"reasoning\",\"id\":\"rs_1\"},{\"id\":\"rs_perdureA_1\",\"type\":\"reasoning\",\"encrypted_"
     "content\":null}],"
     "\"stream\":false}",
     {.model = {"b", 1}, .strip_foreign = true, .force_stream = true},
     "{\"model\":\"b\",\"input\":[{\"role\":\"user\"},{\"type\":\"reasoning\",\"id\":\"rs_1\"}],\"stream\":true}"},
    {"none of it is foreign",
     "{\"input\":[ {\"role\":\"user\",\"content\":\"rs_perdure\"} ]}",
     {.strip_foreign = true},
     "{\"input\":[ {\"role\":\"user\",\"content\":\"rs_perdure\"} ]}"},
    {"the first of several",
     "{\"input\":[{\"type\":\"reasoning\",\"id\":\"rs_perdure_x\"}, 7]}",
     {.strip_foreign = true},
     "{\"input\":[7]}"},
};

static pd_err edit_one(void *ctx)
{
    const struct edit_row *row = ctx;
    struct arena a;
    struct buf out;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    pd_err e = edited(span_str(row->in), &row->edit, &a, &out);
    if (!e && !span_is(buf_span(&out), row->out))
        fail_msg("%s: got %.*s", row->name, SPAN_FMT(buf_span(&out)));
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void only_what_has_to_change_changes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        assert_int_equal(edit_one((void *)(uintptr_t)&edits[i]), PD_OK);
        torture(edit_one, (void *)(uintptr_t)&edits[i]);
    }
}

/* ---- answers: told, written, read again -------------------------------------------------- */

/* A request whose tools the answers below call. */
static const char asked_body[] =
    "{\"input\":\"x\",\"tools\":[{\"type\":\"custom\",\"name\":\"patch\"},{\"type\":\"function\",\"name\":\"f\"},"
    "{\"type\":\"namespace\",\"name\":\"agents\",\"tools\":[{\"type\":\"function\",\"name\":\"spawn\"}]}],"
    "\"text\":{\"format\":{\"type\":\"json_object\"}},\"tool_choice\":\"required\",\"temperature\":0.5}";

enum { SAID_MAX = 8 };
static const struct said {
    const char *name;
    struct {
        enum msg_delta_kind kind;
        int tool;
        const char *text, *id, *type;
    } deltas[SAID_MAX];
    enum msg_finish finish;
    const char *end; /* as read again */
    const char *told;
} said[] = {
    {"a text",
     {{MSG_TEXT, -1, "Hel", "", ""}, {MSG_TEXT, -1, "lo\\n", "", ""}},
     MSG_FINISH_STOP,
     "complete stop completed",
     "text(Hello\\n)"},
    {"reasoning, then a text",
     {{MSG_REASONING, -1, "hm", "", ""}, {MSG_TEXT, -1, "Hi", "", ""}},
     MSG_FINISH_STOP,
     "complete stop completed",
     "text(Hi) reasoning(hm)"},
    {"a refusal",
     {{MSG_REFUSAL, -1, "I ", "", ""}, {MSG_REFUSAL, -1, "will not", "", ""}},
     MSG_FINISH_REFUSAL,
     "complete stop completed",
     "refusal(I will not)"},
    {"two calls, their arguments in turn",
     {{MSG_TEXT, -1, "So", "", ""},
      {MSG_TOOL_START, 0, "f", "c1", ""},
      {MSG_TOOL_ARGUMENTS, 0, "{\\\"a\\\":", "", ""},
      {MSG_TOOL_START, 1, "g", "c2", ""},
      {MSG_TOOL_ARGUMENTS, 1, "{}", "", ""},
      {MSG_TOOL_ARGUMENTS, 0, "1}", "", ""}},
     MSG_FINISH_TOOL_CALLS,
     "complete tool_calls completed",
     "text(So) tool(c1 f {\\\"a\\\":1}) tool(c2 g {})"},
    {"a call without arguments",
     {{MSG_TOOL_START, 0, "f", "c1", ""}},
     MSG_FINISH_TOOL_CALLS,
     "complete tool_calls completed",
     "tool(c1 f {})"},
    {"the limit inside a call",
     {{MSG_TOOL_START, 0, "f", "c1", ""}, {MSG_TOOL_ARGUMENTS, 0, "{\\\"a", "", ""}},
     MSG_FINISH_LENGTH,
     "complete length incomplete:max_output_tokens",
     "tool(c1 f {\\\"a)"},
    {"a filter",
     {{MSG_TEXT, -1, "Hm", "", ""}},
     MSG_FINISH_CONTENT_FILTER,
     "complete content_filter incomplete:content_filter",
     "text(Hm)"},
    {"nothing, for a reason", {{0}}, MSG_FINISH_LENGTH, "complete length incomplete:max_output_tokens", ""},
    {"free text from a maker that has functions only",
     {{MSG_TOOL_START, 0, "patch", "c1", ""},
      {MSG_TOOL_ARGUMENTS, 0, "{\\\"input\\\": \\\"a \\\\\\\"b\\\\\\\"", "", ""},
      {MSG_TOOL_ARGUMENTS, 0, "\\\"}", "", ""}},
     MSG_FINISH_TOOL_CALLS,
     "complete tool_calls completed",
     "tool(c1 patch a \\\"b\\\")"},
    {"free text as it is",
     {{MSG_TOOL_START, 0, "patch", "c1", ""}, {MSG_TOOL_ARGUMENTS, 0, "*** x", "", ""}},
     MSG_FINISH_TOOL_CALLS,
     "complete tool_calls completed",
     "tool(c1 patch *** x)"},
    {"a tool of a namespace",
     {{MSG_TOOL_START, 0, "agents__spawn", "c1", ""}, {MSG_TOOL_ARGUMENTS, 0, "{}", "", ""}},
     MSG_FINISH_TOOL_CALLS,
     "complete tool_calls completed",
     "tool(c1 agents__spawn {})"},
    {"citations and a picture",
     {{MSG_TEXT, -1, "See", "", ""},
      {MSG_CITATION, -1, "https://x", "X", "cited"},
      {MSG_MEDIA, -1, "AAAA", "", "image/png"}},
     MSG_FINISH_STOP,
     "complete stop completed",
     "text(See) others(<citation -1 none https://x|X|><media -1 none AAAA||image/png>)"},
    {"what another maker sealed is not shown",
     {{MSG_REASONING, -1, "hm", "", ""},
      {MSG_SIGNATURE, -1, "SIG", "", ""},
      {MSG_SEALED, -1, "SEAL", "", ""},
      {MSG_TEXT, -1, "Hi", "", ""}},
     MSG_FINISH_STOP,
     "complete stop completed",
     "text(Hi) reasoning(hm)"},
    {"log probabilities",
     {{MSG_LOGPROBS, -1, "[{\"token\":\"a\",\"logprob\":-1}]", "", ""}, {MSG_TEXT, -1, "a", "", ""}},
     MSG_FINISH_STOP,
     "complete stop completed",
     "text(a) others(<logprobs -1 none [{\"token\":\"a\",\"logprob\":-1}]||>)"},
};

static const struct answer_facts said_facts = {.usage = {10, 4, -1, 7, 3}};

static void tell(const struct said *s, msg_delta_fn *fn, void *ctx)
{
    for (size_t i = 0; i < SAID_MAX && s->deltas[i].text; i++)
        fn(ctx, &(struct msg_delta){.kind = s->deltas[i].kind,
                                    .tool = s->deltas[i].tool,
                                    .text = span_str(s->deltas[i].text),
                                    .id = span_str(s->deltas[i].id),
                                    .type = span_str(s->deltas[i].type)});
}

static pd_err parse_asked(struct arena *a, struct msg_request *ret)
{
    struct request_facts f;
    const char *why;
    pd_err e = responses->read_request(span_str(asked_body), &(struct request_line){0}, a, &f, &why);
    return e ? e : responses->parse_request(&f, a, ret, &why);
}

/* The answer in this format: a stream's bytes, or a body. */
static pd_err written(const struct said *s, bool stream, struct buf *out)
{
    struct arena a;
    struct msg_request asked;
    struct answer_facts f = said_facts;
    struct span bytes;
    arena_init(&a, 0, 0);
    pd_err e = parse_asked(&a, &asked);
    struct encode_want want = {
        .model = SPAN_LIT("m"), .id = SPAN_LIT("A"), .created = 7, .stream = stream, .asked = &asked};
    struct encoder *en = e ? NULL : encoder_new(responses, &want, 1 << 20);
    if (!en) {
        arena_done(&a);
        return e ? e : PD_NOMEM;
    }
    f.finish = s->finish;
    tell(s, encoder_delta, en);
    if (stream) {
        e = encoder_end(en, &f);
        if (!e)
            e = encoder_bytes(en, &bytes);
        if (!e)
            e = buf_add(out, bytes);
    } else {
        e = encoder_whole(en, &f, out);
    }
    encoder_free(en);
    arena_done(&a);
    return e;
}

/* " text(...) tool(...)": what was told. */
static void put_told(const struct told *t, struct buf *out)
{
    const struct told_choice *c = &t->choices[0];
    const struct {
        const char *name;
        const struct buf *b;
    } texts[] = {{"text", &c->text}, {"reasoning", &c->reasoning}, {"refusal", &c->refusal}};
    assert_int_equal(t->err, PD_OK);
    for (size_t i = 0; i < 3; i++)
        if (buf_size(texts[i].b))
            assert_int_equal(buf_printf(out, " %s(%.*s)", texts[i].name, SPAN_FMT(buf_span(texts[i].b))), PD_OK);
    for (unsigned i = 0; i < c->tool_count; i++)
        assert_int_equal(buf_printf(out, " tool(%.*s %.*s %.*s)", SPAN_FMT(buf_span(&c->tools[i].id)),
                                    SPAN_FMT(buf_span(&c->tools[i].name)),
                                    SPAN_FMT(buf_span(&c->tools[i].arguments))),
                         PD_OK);
    if (buf_size(&c->others))
        assert_int_equal(buf_printf(out, " others(%.*s)", SPAN_FMT(buf_span(&c->others))), PD_OK);
}

/* "complete stop completed usage(10 4 7 3) text(...)": what a reader of this format makes of it. */
static void put_seen(const struct told *t, const struct answer_facts *f, enum answer_end end, struct buf *out)
{
    assert_int_equal(buf_printf(out, "%s %s %.*s usage(%lld %lld %lld %lld) id(%.*s)", end_name(end),
                                msg_finish_name(f->finish), SPAN_FMT(f->finish_raw),
                                (long long)f->usage.input_total, (long long)f->usage.cache_read,
                                (long long)f->usage.output_total, (long long)f->usage.reasoning, SPAN_FMT(f->id)),
                     PD_OK);
    put_told(t, out);
}

static void check_seen(const struct said *s, const char *how, const struct buf *seen)
{
    struct buf want;
    buf_init(&want, 0);
    assert_int_equal(buf_printf(&want, "%s usage(10 4 7 3) id(resp_A)%s%s", s->end, *s->told ? " " : "", s->told),
                     PD_OK);
    if (!span_eq(buf_span(&want), buf_span(seen)))
        fail_msg("%s, %s: expected %.*s\n    got %.*s", s->name, how, SPAN_FMT(buf_span(&want)),
                 SPAN_FMT(buf_span(seen)));
    buf_done(&want);
}

static void read_whole(const struct said *s, struct span body)
{
    struct arena a;
    struct buf seen;
    struct answer_facts f;
    enum answer_end end;
    struct told *told = told_new();
    arena_init(&a, 0, 0);
    buf_init(&seen, 0);
    assert_int_equal(json_check(body), PD_OK);
    assert_int_equal(answer_read_whole(responses, body, &a, &f, &end, told_on_delta, told), PD_OK);
    put_seen(told, &f, end, &seen);
    check_seen(s, "whole", &seen);
    told_free(told);
    buf_done(&seen);
    arena_done(&a);
}

static void read_stream(const struct said *s, struct span stream, size_t at)
{
    struct reading r;
    struct buf seen;
    buf_init(&seen, 0);
    assert_int_equal(reading_init(&r, responses, FRAMING_LINES, at == 0), PD_OK);
    assert_int_equal(reading_feed(&r, span_upto(stream, at)), PD_OK);
    assert_int_equal(reading_feed(&r, span_from(stream, at)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    put_seen(r.told, answer_facts(r.an), r.end, &seen);
    check_seen(s, "streamed", &seen);
    if (r.collector) { /* and what is collected from it says the same */
        buf_clear(&seen);
        assert_int_equal(collector_write(r.collector, &seen), PD_OK);
        if (!strstr(s->told, "logprobs")) /* these are in the pieces only */
            read_whole(s, buf_span(&seen));
    }
    buf_done(&seen);
    reading_done(&r);
}

static void what_is_told_is_read_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        struct buf body, stream;
        buf_init(&body, 0);
        buf_init(&stream, 0);
        assert_int_equal(written(&said[i], false, &body), PD_OK);
        read_whole(&said[i], buf_span(&body));
        assert_int_equal(written(&said[i], true, &stream), PD_OK);
        for (size_t at = 0; at < buf_size(&stream); at++)
            read_stream(&said[i], buf_span(&stream), at);
        buf_done(&body);
        buf_done(&stream);
    }
}

/* The events of a stream, one a line: type, place and text. */
static void put_event_line(struct json ev, unsigned long number, struct buf *out)
{
    static const char *const places[] = {"output_index", "content_index", "summary_index", "annotation_index"};
    static const char *const texts[] = {"delta", "text", "arguments", "input", "refusal"};
    int64_t n;
    assert_true(json_i64(json_get(ev, "sequence_number"), &n) && (unsigned long)n == number);
    assert_int_equal(buf_printf(out, "%.*s", SPAN_FMT(json_inner(json_get(ev, "type")))), PD_OK);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (json_i64(json_get(ev, places[i]), &n))
            assert_int_equal(buf_printf(out, " %lld", (long long)n), PD_OK);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (json_get(ev, texts[i]).type == JSON_STRING)
            assert_int_equal(buf_printf(out, " \"%.*s\"", SPAN_FMT(json_inner(json_get(ev, texts[i])))), PD_OK);
    struct json item = json_get(ev, "item"), status = json_get(item, "status");
    if (item.type == JSON_OBJECT)
        assert_int_equal(buf_printf(out, " %.*s %.*s", SPAN_FMT(json_inner(json_get(item, "type"))),
                                    SPAN_FMT(json_inner(status))),
                         PD_OK);
    assert_int_equal(buf_puts(out, "\n"), PD_OK);
}

static void put_events(struct span stream, struct buf *out)
{
    unsigned long number = 0;
    while (stream.n) {
        struct span type = span_cut(&stream, '\n'), data = span_cut(&stream, '\n');
        struct json ev;
        assert_true(span_starts(type, "event: ") && span_starts(data, "data: "));
        data = span_from(data, 6);
        assert_int_equal(json_check(data), PD_OK);
        assert_int_equal(json_first(data, &ev, NULL), PD_OK);
        assert_true(span_eq(span_from(type, 7), json_inner(json_get(ev, "type"))));
        put_event_line(ev, number++, out);
        assert_true(stream.n && stream.p[0] == '\n');
        stream = span_from(stream, 1);
    }
}

static const struct said grammar = {
    "grammar",
    {{MSG_REASONING, -1, "hm", "", ""},
     {MSG_TEXT, -1, "a", "", ""},
     {MSG_TEXT, -1, "b", "", ""},
     {MSG_CITATION, -1, "https://x", "X", ""},
     {MSG_TOOL_START, 0, "f", "c1", ""},
     {MSG_TOOL_ARGUMENTS, 0, "{}", "", ""},
     {MSG_TOOL_START, 1, "patch", "c2", ""},
     {MSG_TOOL_ARGUMENTS, 1, "p", "", ""}},
    MSG_FINISH_TOOL_CALLS,
    "",
    "response.created\n"
    "response.in_progress\n"
    "response.output_item.added 0 reasoning in_progress\n"
    "response.reasoning_summary_part.added 0 0\n"
    "response.reasoning_summary_text.delta 0 0 \"hm\"\n"
    "response.reasoning_summary_text.done 0 0 \"hm\"\n"
    "response.reasoning_summary_part.done 0 0\n"
    "response.output_item.done 0 reasoning completed\n"
    "response.output_item.added 1 message in_progress\n"
    "response.content_part.added 1 0\n"
    "response.output_text.delta 1 0 \"a\"\n"
    "response.output_text.delta 1 0 \"b\"\n"
    "response.output_text.annotation.added 1 0 0\n"
    "response.output_text.done 1 0 \"ab\"\n"
    "response.content_part.done 1 0\n"
    "response.output_item.done 1 message completed\n"
    "response.output_item.added 2 function_call in_progress\n"
    "response.function_call_arguments.delta 2 \"{}\"\n"
    "response.function_call_arguments.done 2 \"{}\"\n"
    "response.output_item.done 2 function_call completed\n"
    "response.output_item.added 3 custom_tool_call in_progress\n"
    "response.custom_tool_call_input.delta 3 \"p\"\n"
    "response.custom_tool_call_input.done 3 \"p\"\n"
    "response.output_item.done 3 custom_tool_call completed\n"
    "response.completed\n",
};

static void a_stream_has_every_event_of_the_format(void **state)
{
    (void)state;
    struct buf stream, events;
    buf_init(&stream, 0);
    buf_init(&events, 0);
    assert_int_equal(written(&grammar, true, &stream), PD_OK);
    put_events(buf_span(&stream), &events);
    if (!span_is(buf_span(&events), grammar.told))
        fail_msg("got %.*s", SPAN_FMT(buf_span(&events)));
    buf_done(&stream);
    buf_done(&events);
}

static void a_response_repeats_what_was_asked(void **state)
{
    (void)state;
    struct buf body;
    struct json v;
    buf_init(&body, 0);
    assert_int_equal(written(&said[10], false, &body), PD_OK);
    assert_int_equal(json_first(buf_span(&body), &v, NULL), PD_OK);
    assert_true(json_is(json_get(v, "id"), "resp_A"));
    assert_true(json_is(json_get(v, "object"), "response"));
    assert_true(json_is(json_get(v, "model"), "m"));
    assert_true(span_is(json_get(v, "created_at").raw, "7"));
    assert_true(span_is(json_get(v, "temperature").raw, "0.5"));
    assert_true(json_is(json_get(v, "tool_choice"), "required"));
    assert_true(json_is(json_path(v, "text.format.type"), "json_object"));
    assert_true(span_is(json_get(v, "tools").raw, "[]"));
    assert_true(span_is(json_get(v, "instructions").raw, "null"));
    assert_true(span_is(json_path(v, "usage.total_tokens").raw, "17"));
    assert_true(json_is(json_path(v, "output.0.name"), "spawn")); /* the namespace is undone */
    assert_true(json_is(json_path(v, "output.0.namespace"), "agents"));
    assert_true(span_is(json_path(v, "usage.input_tokens_details.cache_write_tokens").raw, "0"));
    buf_done(&body);
}

static void check_status(const char *name, const char *status)
{
    size_t i = 0;
    struct buf body;
    struct json v;
    while (strcmp(said[i].name, name) != 0)
        i++;
    buf_init(&body, 0);
    assert_int_equal(written(&said[i], false, &body), PD_OK);
    assert_int_equal(json_first(buf_span(&body), &v, NULL), PD_OK);
    if (!json_is(json_path(v, "output.0.status"), status))
        fail_msg("%s: is not %s", name, status);
    buf_done(&body);
}

/* Agents do not run a call that is said to be incomplete. */
static void a_call_is_complete_when_its_arguments_are(void **state)
{
    (void)state;
    check_status("a tool of a namespace", "completed");
    check_status("a call without arguments", "completed");
    check_status("free text as it is", "completed");
    check_status("the limit inside a call", "incomplete");
}

/* What a client sends back of it is recognised as ours. */
static void foreign_reasoning_can_be_told(void **state)
{
    (void)state;
    struct buf body;
    struct json v;
    buf_init(&body, 0);
    assert_int_equal(written(&said[1], false, &body), PD_OK);
    assert_int_equal(json_first(buf_span(&body), &v, NULL), PD_OK);
    assert_true(span_starts(json_inner(json_path(v, "output.0.id")), RESPONSES_FOREIGN));
    assert_int_equal(json_path(v, "output.0.encrypted_content").type, JSON_NONE);
    buf_done(&body);
}

static pd_err write_stream(void *s)
{
    struct buf out;
    buf_init(&out, 0);
    pd_err e = written(s, true, &out);
    buf_done(&out);
    return e;
}

static pd_err write_whole(void *s)
{
    struct buf out;
    buf_init(&out, 0);
    pd_err e = written(s, false, &out);
    buf_done(&out);
    return e;
}

static void writing_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        assert_true(torture(write_stream, (void *)(uintptr_t)&said[i]) >= 4);
        assert_true(torture(write_whole, (void *)(uintptr_t)&said[i]) >= 4);
    }
}

/* ---- answers: what servers really send --------------------------------------------------- */

#define COMPLETED(output)                                                                                         \
    "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"model\":\"m\",\"status\":\"completed\"," \
    "\"output\":[" output "],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n"
#define TEXT_DELTA "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"Hi\"}\n\n"

static const struct stream_row {
    const char *name, *in, *out;
} streams[] = {
    {"no event lines, and a terminator", TEXT_DELTA COMPLETED("") "data: [DONE]\n\n", "complete stop text(Hi)"},
    {"no end", TEXT_DELTA, "cut none text(Hi)"},
    {"a terminator is no end", TEXT_DELTA "data: [DONE]\n\n", "cut none text(Hi)"},
    {"items that come whole only",
     "data: "
     "{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[{"
     "\"type\":\"output_text\",\"text\":\"Hi\"}]}}\n\n" COMPLETED(""),
     "complete stop text(Hi)"},
    {"output that the end alone has",
     COMPLETED("{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi\"}]},"
               "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"}"),
     "complete tool_calls text(Hi) tool(c f {})"},
    {"output told already is not told again",
     TEXT_DELTA COMPLETED("{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi\"}]}"),
     "complete stop text(Hi)"},
    {"arguments in the last event of the call",
     "data: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"type\":\"function_call\","
     "\"id\":\"fc\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"\"}}\n\n"
     "data: "
     "{\"type\":\"response.function_call_arguments.done\",\"output_index\":1,\"arguments\":\"{\\\"a\\\":1}\"}\n\n"
     "data: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"type\":\"function_call\","
     "\"id\":\"other\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}\n\n" COMPLETED(""),
     "complete tool_calls tool(c f {\\\"a\\\":1})"},
    {"a free text call",
     "data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"custom_tool_call\","
     "\"call_id\":\"c\",\"name\":\"p\",\"input\":\"\"}}\n\n"
     "data: "
     "{\"type\":\"response.custom_tool_call_input.delta\",\"output_index\":0,\"delta\":\"*\\n\"}\n\n" COMPLETED(
         ""),
     "complete tool_calls tool(c p *\\n)"},
    {"a call of a tool in a namespace",
     COMPLETED(
         "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"namespace\":\"n\",\"arguments\":\"{}\"}"),
     "complete tool_calls tool(c n__f {})"},
    {"reasoning in paragraphs, and its seal",
     "data: {\"type\":\"response.reasoning_summary_part.added\",\"output_index\":0,\"summary_index\":0}\n\n"
     "data: {\"type\":\"response.reasoning_summary_text.delta\",\"output_index\":0,\"delta\":\"a\"}\n\n"
     "data: {\"type\":\"response.reasoning_summary_part.added\",\"output_index\":0,\"summary_index\":1}\n\n"
     "data: {\"type\":\"response.reasoning_summary_text.delta\",\"output_index\":0,\"delta\":\"b\"}\n\n"
     "data: "
     "{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"id\":\"rs\","
     "\"summary\":[],\"encrypted_content\":\"SEAL\"}}\n\n" COMPLETED(""),
     "complete stop reasoning(a\\n\\nb) others(<sealed -1 openai SEAL|rs|>)"},
    {"open reasoning",
     COMPLETED(
         "{\"type\":\"reasoning\",\"content\":[{\"type\":\"reasoning_text\",\"text\":\"a\"}],\"summary\":[]}"),
     "complete stop reasoning(a)"},
    {"a citation",
     TEXT_DELTA "data: {\"type\":\"response.output_text.annotation.added\",\"output_index\":0,\"annotation\":{"
                "\"type\":\"url_citation\",\"url\":\"https://x\",\"title\":\"X\"}}\n\n" COMPLETED(""),
     "complete stop text(Hi) others(<citation -1 none https://x|X|>)"},
    {"a picture", COMPLETED("{\"type\":\"image_generation_call\",\"result\":\"AAAA\",\"output_format\":\"webp\"}"),
     "complete stop others(<media -1 none AAAA||image/webp>)"},
    {"hosted tools are passed by",
     "data: "
     "{\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"web_search_call\"}}\n\n"
     "data: {\"type\":\"response.web_search_call.searching\",\"output_index\":0}\n\n"
     "data: {\"type\":\"response.output_text.delta\",\"output_index\":1,\"delta\":\"Hi\"}\n\n" COMPLETED(""),
     "complete stop text(Hi)"},
    {"the limit",
     TEXT_DELTA "data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\","
                "\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[]}}\n\n",
     "complete length text(Hi)"},
    {"an end without output", COMPLETED(""), "empty stop"},
    {"an error, nested",
     "event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":\"c\",\"message\":\"m\"}}\n\n", "failed none"},
    {"an error, flat", TEXT_DELTA "data: {\"type\":\"error\",\"code\":\"c\",\"message\":\"m\"}\n\n",
     "failed none text(Hi)"},
    {"a failure",
     "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":"
     "\"server_error\",\"message\":\"m\"},\"output\":[]}}\n\n",
     "failed error"},
    {"an error without a type", "data: {\"error\":{\"message\":\"m\"}}\n\n", "failed none"},
    {"events that nobody knows", "data: {\"type\":\"response.dance\",\"error\":null}\n\n" TEXT_DELTA COMPLETED(""),
     "complete stop text(Hi)"},
};

static pd_err read_row(void *ctx)
{
    const struct stream_row *row = ctx;
    struct reading r;
    struct buf seen;
    buf_init(&seen, 0);
    pd_err e = reading_init(&r, responses, FRAMING_LINES, true);
    if (e)
        return e;
    e = reading_feed(&r, span_str(row->in));
    if (!e)
        e = answer_finish(r.an, &r.end);
    if (!e)
        e = r.told->err;
    if (!e) {
        e = buf_printf(&seen, "%s %s", end_name(r.end), msg_finish_name(answer_facts(r.an)->finish));
        if (!e) {
            put_told(r.told, &seen);
            if (!span_is(buf_span(&seen), row->out))
                fail_msg("%s: got %.*s", row->name, SPAN_FMT(buf_span(&seen)));
        }
    }
    buf_done(&seen);
    reading_done(&r);
    return e;
}

static void streams_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        assert_int_equal(read_row((void *)(uintptr_t)&streams[i]), PD_OK);
        for (size_t at = 0; at < strlen(streams[i].in); at++) {
            struct reading r, whole;
            struct buf a, b;
            struct span in = span_str(streams[i].in);
            buf_init(&a, 0);
            buf_init(&b, 0);
            assert_int_equal(reading_init(&whole, responses, FRAMING_LINES, false), PD_OK);
            assert_int_equal(reading_init(&r, responses, FRAMING_LINES, false), PD_OK);
            assert_int_equal(reading_feed(&whole, in), PD_OK);
            assert_int_equal(reading_feed(&r, span_upto(in, at)), PD_OK);
            assert_int_equal(reading_feed(&r, span_from(in, at)), PD_OK);
            assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
            assert_int_equal(answer_finish(whole.an, &whole.end), PD_OK);
            assert_int_equal(reading_put(&r, &a), PD_OK);
            assert_int_equal(reading_put(&whole, &b), PD_OK);
            if (!span_eq(buf_span(&a), buf_span(&b)))
                fail_msg("%s: cut at byte %zu", streams[i].name, at);
            buf_done(&a);
            buf_done(&b);
            reading_done(&r);
            reading_done(&whole);
        }
    }
}

static void what_events_hold(void **state)
{
    (void)state;
    struct reading r;
    static const char in[] =
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n" TEXT_DELTA
        "data: {\"type\":\"response.output_text.done\"}\n\n"
        "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[],\"usage\":{"
        "\"input_tokens\":1,\"output_tokens\":2}}}\n\n";
    assert_int_equal(reading_init(&r, responses, FRAMING_LINES, false), PD_OK);
    assert_int_equal(reading_feed(&r, span_str(in)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    struct span events = buf_span(&r.events);
    assert_true(span_starts(events, "[start]data: {\"type\":\"response.created\""));
    assert_true(span_has(events, "[output]data: {\"type\":\"response.output_text.delta\""));
    assert_true(span_has(events, "[]data: {\"type\":\"response.output_text.done\""));
    assert_true(span_has(events, "[finish+usage+done]data: {\"type\":\"response.completed\""));
    reading_done(&r);
}

static void a_job_in_the_background_is_an_answer(void **state)
{
    (void)state;
    struct arena a;
    struct answer_facts f;
    enum answer_end end;
    arena_init(&a, 0, 0);
    assert_int_equal(
        answer_read_whole(responses,
                          SPAN_LIT("{\"id\":\"r\",\"object\":\"response\",\"status\":\"queued\",\"output\":[]}"),
                          &a, &f, &end, NULL, NULL),
        PD_OK);
    assert_int_equal(end, ANSWER_COMPLETE);
    assert_true(span_is(f.finish_raw, "queued"));
    assert_int_equal(
        answer_read_whole(responses, SPAN_LIT("{\"error\":{\"message\":\"m\"}}"), &a, &f, &end, NULL, NULL),
        PD_OK);
    assert_int_equal(end, ANSWER_FAILED);
    arena_done(&a);
}

static void reading_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
        torture(read_row, (void *)(uintptr_t)&streams[i]);
}

/* ---- collecting ---------------------------------------------------------------------------- */

static void collect(const char *in, size_t limit, pd_err want_add, pd_err want_write, const char *want)
{
    struct collector *k = collector_new(responses, limit);
    struct span rest = span_str(in);
    struct buf out;
    pd_err e = PD_OK;
    assert_non_null(k);
    buf_init(&out, 0);
    while (rest.n && !e) {
        struct span line = span_cut(&rest, '\n');
        struct json v;
        assert_int_equal(json_first(line, &v, NULL), PD_OK);
        e = collector_add(k, SPAN_NONE, v);
    }
    assert_int_equal(e, want_add);
    if (!e) {
        assert_int_equal(collector_write(k, &out), want_write);
        if (!want_write && !span_is(buf_span(&out), want))
            fail_msg("got %.*s", SPAN_FMT(buf_span(&out)));
    }
    buf_done(&out);
    collector_free(k);
}

static void a_stream_is_collected_into_its_response(void **state)
{
    (void)state;
    static const char item[] = "{\"type\":\"response.output_item.done\",\"item\":{\"id\":\"i\"}}\n";
    char in[256];
    collect("{\"type\":\"response.created\",\"response\":{\"x\":1}}\n"
            "{\"type\":\"response.completed\",\"response\":{\"x\": 2,\"output\":[{}]}}",
            1 << 20, PD_OK, PD_OK, "{\"x\": 2,\"output\":[{}]}");
    snprintf(in, sizeof(in), "%s%s{\"type\":\"response.completed\",\"response\":{\"output\":[ ],\"y\":1}}", item,
             item);
    collect(in, 1 << 20, PD_OK, PD_OK, "{\"output\":[{\"id\":\"i\"},{\"id\":\"i\"}],\"y\":1}");
    snprintf(in, sizeof(in), "%s{\"type\":\"response.completed\",\"response\":{\"y\":1}}", item);
    collect(in, 1 << 20, PD_OK, PD_OK, "{\"output\":[{\"id\":\"i\"}],\"y\":1}");
    collect("{\"type\":\"response.output_text.delta\"}", 1 << 20, PD_OK, PD_INVALID, "");
    collect(item, 4, PD_TOOBIG, PD_OK, "");
    collect("{\"type\":\"response.created\",\"response\":{\"x\":1}}", 4, PD_TOOBIG, PD_OK, "");
}

/* ---- errors -------------------------------------------------------------------------------- */

static void errors_have_both_shapes_in_a_stream(void **state)
{
    (void)state;
    struct client_error error = {
        .status = 529, .type = "server_error", .code = "overloaded", .message = {"busy", 4}, .sequence = 7};
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(codec_put_error_event(responses, &error, &out), PD_OK);
    assert_true(
        span_is(buf_span(&out),
                "event: error\ndata: {\"type\":\"error\",\"sequence_number\":7,\"code\":\"overloaded\","
                "\"message\":\"busy\",\"param\":null,\"error\":{\"message\":\"busy\",\"type\":\"server_error\","
                "\"param\":null,\"code\":\"overloaded\"}}\n\n"));
    assert_int_equal(reading_init(&r, responses, FRAMING_LINES, false), PD_OK);
    assert_int_equal(reading_feed(&r, buf_span(&out)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    assert_int_equal(r.end, ANSWER_FAILED);
    reading_done(&r);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_read_and_written_again),
        cmocka_unit_test(what_is_written_is_read_to_the_same),
        cmocka_unit_test(requests_survive_every_failed_allocation),
        cmocka_unit_test(facts_are_found),
        cmocka_unit_test(every_turn_of_a_conversation_has_the_same_prefix),
        cmocka_unit_test(only_what_has_to_change_changes),
        cmocka_unit_test(what_is_told_is_read_again),
        cmocka_unit_test(a_stream_has_every_event_of_the_format),
        cmocka_unit_test(a_response_repeats_what_was_asked),
        cmocka_unit_test(a_call_is_complete_when_its_arguments_are),
        cmocka_unit_test(foreign_reasoning_can_be_told),
        cmocka_unit_test(writing_survives_every_failed_allocation),
        cmocka_unit_test(streams_are_read),
        cmocka_unit_test(what_events_hold),
        cmocka_unit_test(a_job_in_the_background_is_an_answer),
        cmocka_unit_test(reading_survives_every_failed_allocation),
        cmocka_unit_test(a_stream_is_collected_into_its_response),
        cmocka_unit_test(errors_have_both_shapes_in_a_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
