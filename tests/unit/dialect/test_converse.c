/* Bedrock's Converse: requests both ways, answers spoken and read, edits, errors. */
#include "dialect/encoder.h"
#include "parse/eventstream.h"
#include "translate.h"

#define CLAUDE "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
#define HI "{\"role\":\"user\",\"content\":[{\"text\":\"hi\"}]}"
#define MESSAGES(m) "{\"messages\":[" m "]"

/* ---- Converse as Converse -------------------------------------------------------------- */

static const struct translate_row same_rows[] = {
    {"the least", MESSAGES(HI) "}", MESSAGES(HI) "}"},
    {"system, settings",
     "{\"system\":[{\"text\":\"be \\u00e9\"},{\"cachePoint\":{\"type\":\"default\",\"ttl\":\"1h\"}}],"
     "\"inferenceConfig\":{\"maxTokens\":9,\"temperature\":0.50,\"topP\":1,\"stopSequences\":[\"a\\n\",\"b\"]},"
     "\"serviceTier\":{\"type\":\"flex\"},\"additionalModelRequestFields\":{\"top_k\":4},\"messages\":[" HI "]}",
     MESSAGES(HI) ",\"system\":[{\"text\":\"be \\u00e9\"},{\"cachePoint\":{\"type\":\"default\",\"ttl\":\"1h\"}}],"
                  "\"inferenceConfig\":{\"maxTokens\":9,\"temperature\":0.50,"
                  "\"stopSequences\":[\"a\\n\",\"b\"]},\"additionalModelRequestFields\":{\"top_k\":4},"
                  "\"serviceTier\":{\"type\":\"flex\"}}"},
    {"a round of calls, results first and in one message",
     MESSAGES(
         HI ",{\"role\":\"assistant\",\"content\":[{\"reasoningContent\":{\"reasoningText\":{\"text\":\"hm\","
            "\"signature\":\"c2ln\"}}},{\"text\":\"ok\"},{\"toolUse\":{\"toolUseId\":\"a\",\"name\":\"f\","
            "\"input\":{\"x\": 1}}},{\"toolUse\":{\"toolUseId\":\"b\",\"name\":\"g\",\"input\":{}}}]},"
            "{\"role\":\"user\",\"content\":[{\"text\":\"see\"},{\"toolResult\":{\"toolUseId\":\"a\","
            "\"content\":[{\"text\":\"1\"},{\"json\":{\"k\":\"v\"}}]}},{\"toolResult\":{\"toolUseId\":\"b\","
            "\"content\":[],\"status\":\"error\"}}]}") ",\"toolConfig\":{\"tools\":[{\"toolSpec\":{\"name\":\"f\","
                                                       "\"description\":\"does\",\"inputSchema\":{\"json\":{"
                                                       "\"type\":\"object\"}},\"strict\":true}},"
                                                       "{\"cachePoint\":{\"type\":\"default\"}},{\"systemTool\":{"
                                                       "\"name\":\"nova_grounding\"}}],"
                                                       "\"toolChoice\":{\"tool\":{\"name\":\"f\"}}}}",
     MESSAGES(
         HI
         ",{\"role\":\"assistant\",\"content\":[{\"reasoningContent\":{\"reasoningText\":{\"text\":\"hm\","
         "\"signature\":\"c2ln\"}}},{\"text\":\"ok\"},{\"toolUse\":{\"toolUseId\":\"a\",\"name\":\"f\","
         "\"input\":{\"x\": 1}}},{\"toolUse\":{\"toolUseId\":\"b\",\"name\":\"g\",\"input\":{}}}]},"
         "{\"role\":\"user\",\"content\":[{\"toolResult\":{\"toolUseId\":\"a\","
         "\"content\":[{\"text\":\"1\"},{\"text\":\"{\\\"k\\\":\\\"v\\\"}\"}]}},{\"toolResult\":{\"toolUseId\":"
         "\"b\","
         "\"content\":[{\"json\":{}}],\"status\":\"error\"}},{\"text\":\"see\"}]}") ",\"toolConfig\":{\"tools\":["
                                                                                    "{\"toolSpec\":{\"name\":"
                                                                                    "\"f\",\"description\":"
                                                                                    "\"does\",\"inputSchema\":{"
                                                                                    "\"json\":{\"type\":"
                                                                                    "\"object\"}},"
                                                                                    "\"strict\":true}},{"
                                                                                    "\"cachePoint\":{\"type\":"
                                                                                    "\"default\"}},{"
                                                                                    "\"systemTool\":{\"name\":"
                                                                                    "\"nova_grounding\"}}],"
                                                                                    "\"toolChoice\":{\"tool\":{"
                                                                                    "\"name\":\"f\"}}}}"},
    {"sealed reasoning is base64 of what Anthropic has as text",
     MESSAGES(HI ",{\"role\":\"assistant\",\"content\":[{\"reasoningContent\":{\"redactedContent\":\"RW93Qg==\"}},"
                 "{\"text\":\"x\"}]}," HI) "}",
     MESSAGES(HI ",{\"role\":\"assistant\",\"content\":[{\"reasoningContent\":{\"redactedContent\":\"RW93Qg==\"}},"
                 "{\"text\":\"x\"}]}," HI) "}"},
    {"media",
     MESSAGES("{\"role\":\"user\",\"content\":[{\"image\":{\"format\":\"jpeg\",\"source\":{\"bytes\":\"QUJD\"}}},"
              "{\"video\":{\"format\":\"mp4\",\"source\":{\"s3Location\":{\"uri\":\"s3://b/v.mp4\"}}}},"
              "{\"document\":{\"format\":\"pdf\",\"name\":\"a  b_c.d\",\"source\":{\"bytes\":\"QUJD\"}}},"
              "{\"document\":{\"format\":\"txt\",\"name\":\"n\",\"source\":{\"text\":\"A\\u0042C\"}}},"
              "{\"audio\":{\"format\":\"mp3\",\"source\":{\"bytes\":\"QUJD\"}}},{\"text\":\"?\"}]}") "}",
     MESSAGES("{\"role\":\"user\",\"content\":[{\"image\":{\"format\":\"jpeg\",\"source\":{\"bytes\":\"QUJD\"}}},"
              "{\"video\":{\"format\":\"mp4\",\"source\":{\"s3Location\":{\"uri\":\"s3://b/v.mp4\"}}}},"
              "{\"document\":{\"format\":\"pdf\",\"name\":\"a b c d-1\",\"source\":{\"bytes\":\"QUJD\"}}},"
              "{\"document\":{\"format\":\"txt\",\"name\":\"n-2\",\"source\":{\"bytes\":\"QUJD\"}}},"
              "{\"audio\":{\"format\":\"mp3\",\"source\":{\"bytes\":\"QUJD\"}}},{\"text\":\"?\"}]}") "}"},
    {"a schema is JSON in a string",
     MESSAGES(HI) ",\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":{"
                  "\"schema\":\"{\\\"type\\\":\\\"object\\\"}\",\"name\":\"N\",\"description\":\"D\"}}}}}",
     MESSAGES(HI) ",\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":{"
                  "\"schema\":\"{\\\"type\\\":\\\"object\\\"}\",\"name\":\"N\",\"description\":\"D\"}}}}}"},
    {"thinking, which takes no sampling",
     MESSAGES(HI) ",\"inferenceConfig\":{\"maxTokens\":5000,\"temperature\":1},"
                  "\"additionalModelRequestFields\":{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000}}}",
     MESSAGES(
         HI) ",\"inferenceConfig\":{\"maxTokens\":5000},"
             "\"additionalModelRequestFields\":{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000}}}"},
    {"what is blank is not written, and neither is a message of it",
     MESSAGES(HI ",{\"role\":\"assistant\",\"content\":[{\"text\":\"\"}]},{\"role\":\"user\",\"content\":["
                 "{\"text\":\" \\n\\t\"},{\"text\":\"x\"}]}") ",\"system\":[{\"text\":\" \"}]}",
     MESSAGES(HI ",{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}") "}"},
    {"guarded and cited text is text",
     MESSAGES("{\"role\":\"user\",\"content\":[{\"guardContent\":{\"text\":{\"text\":\"g\"}}}]},"
              "{\"role\":\"assistant\",\"content\":[{\"citationsContent\":{\"content\":[{\"text\":\"c\"}],"
              "\"citations\":[{\"title\":\"t\"}]}}]}") "}",
     MESSAGES("{\"role\":\"user\",\"content\":[{\"text\":\"g\"}]},{\"role\":\"assistant\",\"content\":[{\"text\":"
              "\"c\"}]}") "}"},
    {"a block that nobody knows", MESSAGES("{\"role\":\"user\",\"content\":[{\"searchResult\":{}}]}") "}",
     "PD_UNSUPPORTED: a message has a content block \"searchResult\", which cannot be carried to a provider of "
     "another "
     "format"},
    {"no messages", "{}", "PD_INVALID: \"messages\" must be a list"},
    {"a role that is none", MESSAGES("{\"role\":\"tool\",\"content\":[]}") "}",
     "PD_INVALID: a message has a \"role\" that is neither user nor assistant"},
    {"a schema that is no JSON",
     MESSAGES(HI) ",\"outputConfig\":{\"textFormat\":{\"structure\":{\"jsonSchema\":{\"schema\":\"{\"}}}}}",
     "PD_INVALID: \"outputConfig\" has a \"schema\" that is not JSON in a string"},
};

static void a_request_keeps_its_meaning(void **state)
{
    (void)state;
    assert_int_equal(translate_rows(&codec_bedrock_converse, &codec_bedrock_converse, CLAUDE, false, same_rows,
                                    sizeof(same_rows) / sizeof(same_rows[0])),
                     0);
}

/* ---- chat as Converse --------------------------------------------------------------------- */

#define CALLED                                                                                                    \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":" \
    "{"                                                                                                           \
    "\"name\":\"f\",\"arguments\":\"\"}},{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"g\","      \
    "\"arguments\":\"{\\\"a\\\":\\\"\\\\u00e9\\\"}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":" \
    "\"1\"},"                                                                                                     \
    "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"\"}"
#define CALLED_HERE                                                                                           \
    "{\"role\":\"assistant\",\"content\":[{\"toolUse\":{\"toolUseId\":\"c1\",\"name\":\"f\",\"input\":{}}},"  \
    "{\"toolUse\":{\"toolUseId\":\"c2\",\"name\":\"g\",\"input\":{\"a\":\"\\u00e9\"}}}]},{\"role\":\"user\"," \
    "\"content\":["                                                                                           \
    "{\"toolResult\":{\"toolUseId\":\"c1\",\"content\":[{\"text\":\"1\"}]}},{\"toolResult\":{\"toolUseId\":"  \
    "\"c2\","                                                                                                 \
    "\"content\":[{\"json\":{}}]}}"
#define SPEC(n) \
    "{\"toolSpec\":{\"name\":\"" n "\",\"inputSchema\":{\"json\":{\"type\":\"object\",\"properties\":{}}}}}"
#define F "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"

static const struct translate_row chat_rows[] = {
    {"calls and results; what follows them is in the same message, and tools that were not given are described",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}," CALLED ",{\"role\":\"user\",\"content\":\"go\"}]}",
     MESSAGES(HI "," CALLED_HERE
                 ",{\"text\":\"go\"}]}") ",\"toolConfig\":{\"tools\":[" SPEC("f") "," SPEC("g") "]}}"},
    {"no tools wanted, none called: none are given",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," F ",\"tool_choice\":\"none\"}", MESSAGES(HI) "}"},
    {"no tools wanted, some called: they stay",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}," CALLED "]," F ",\"tool_choice\":\"none\"}",
     MESSAGES(HI "," CALLED_HERE "]}") ",\"toolConfig\":{\"tools\":[" SPEC("f") "]}}"},
    {"a call is required",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," F ",\"tool_choice\":\"required\","
     "\"reasoning_effort\":\"high\"}",
     MESSAGES(HI) ",\"toolConfig\":{\"tools\":[" SPEC("f") "],\"toolChoice\":{\"any\":{}}}}"},
    {"effort is a budget within the limit",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"reasoning_effort\":\"high\",\"max_tokens\":3000}",
     MESSAGES(HI) ",\"inferenceConfig\":{\"maxTokens\":3000},\"additionalModelRequestFields\":{\"thinking\":{"
                  "\"type\":\"enabled\",\"budget_tokens\":2999}}}"},
    {"no room to think",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"reasoning_effort\":\"high\",\"max_tokens\":1000}",
     MESSAGES(HI) ",\"inferenceConfig\":{\"maxTokens\":1000}}"},
    {"calls without their reasoning: no thinking before the turn is over",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}," CALLED "]," F ",\"reasoning_effort\":\"high\"}",
     MESSAGES(HI "," CALLED_HERE "]}") ",\"toolConfig\":{\"tools\":[" SPEC("f") "]}}"},
    {"neighbours of one role are one message; system in the middle is the user's",
     "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"developer\",\"content\":\"d\"},"
     "{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"m\"},{\"role\":\"user\","
     "\"content\":\"b\"}]}",
     MESSAGES(
         "{\"role\":\"user\",\"content\":[{\"text\":\"a\"},{\"text\":\"m\"},{\"text\":\"b\"}]}") ",\"system\":[{"
                                                                                                 "\"text\":\"s\"},"
                                                                                                 "{\"text\":\"d\"}"
                                                                                                 "]}"},
    {"an image, a document by its name",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
     "\"data:image/png;base64,QUJD\"}},{\"type\":\"file\",\"file\":{\"filename\":\"r.docx\",\"file_data\":"
     "\"data:application/octet-stream;base64,QUJD\"}}]}]}",
     MESSAGES("{\"role\":\"user\",\"content\":[{\"image\":{\"format\":\"png\",\"source\":{\"bytes\":\"QUJD\"}}},"
              "{\"document\":{\"format\":\"docx\",\"name\":\"r docx\",\"source\":{\"bytes\":\"QUJD\"}}}]}") "}"},
    {"arguments that were cut short",
     "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\","
     "\"arguments\":\"{\\\"a\"}}]}]," F "}",
     MESSAGES("{\"role\":\"assistant\",\"content\":[{\"toolUse\":{\"toolUseId\":\"c\",\"name\":\"f\","
              "\"input\":{\"input\":\"{\\\"a\"}}}]}") ",\"toolConfig\":{\"tools\":[" SPEC("f") "]}}"},
};

static void chat_becomes_converse(void **state)
{
    (void)state;
    assert_int_equal(translate_rows(&codec_openai_chat, &codec_bedrock_converse, CLAUDE, false, chat_rows,
                                    sizeof(chat_rows) / sizeof(chat_rows[0])),
                     0);
}

static const struct translate_row nova_rows[] = {
    {"Nova's own words",
     MESSAGES(HI) ",\"additionalModelRequestFields\":{\"reasoning_effort\":\"minimal\",\"top_k\":3}}",
     MESSAGES(HI) ",\"additionalModelRequestFields\":{\"reasoningConfig\":{\"type\":\"enabled\","
                  "\"maxReasoningEffort\":\"low\"},\"inferenceConfig\":{\"topK\":3}}}"},
    {"and back",
     MESSAGES(HI) ",\"additionalModelRequestFields\":{\"reasoningConfig\":{\"type\":\"enabled\","
                  "\"maxReasoningEffort\":\"medium\"},\"inferenceConfig\":{\"topK\":3}}}",
     MESSAGES(HI) ",\"additionalModelRequestFields\":{\"reasoningConfig\":{\"type\":\"enabled\","
                  "\"maxReasoningEffort\":\"medium\"},\"inferenceConfig\":{\"topK\":3}}}"},
};

static void settings_have_each_familys_names(void **state)
{
    (void)state;
    assert_int_equal(translate_rows(&codec_bedrock_converse, &codec_bedrock_converse, "us.amazon.nova-2-lite-v1:0",
                                    false, nova_rows, sizeof(nova_rows) / sizeof(nova_rows[0])),
                     0);
    static const struct translate_row other[] = {
        {"gpt-oss", MESSAGES(HI) ",\"additionalModelRequestFields\":{\"reasoning_effort\":\"low\",\"top_k\":1}}",
         MESSAGES(HI) ",\"additionalModelRequestFields\":{\"reasoning_effort\":\"low\"}}"}};
    assert_int_equal(translate_rows(&codec_bedrock_converse, &codec_bedrock_converse, "openai.gpt-oss-120b-1:0",
                                    false, other, 1),
                     0);
    static const struct translate_row adaptive[] = {
        {"an effort in place of a budget",
         MESSAGES(
             HI) ",\"inferenceConfig\":{\"maxTokens\":9,\"temperature\":1,\"topP\":1},"
                 "\"additionalModelRequestFields\":{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":4000}}}",
         MESSAGES(
             HI) ",\"inferenceConfig\":{\"maxTokens\":9},\"additionalModelRequestFields\":{\"thinking\":{"
                 "\"type\":\"adaptive\",\"display\":\"summarized\"},\"output_config\":{\"effort\":\"medium\"}}}"},
        {"one way of sampling", MESSAGES(HI) ",\"inferenceConfig\":{\"temperature\":1,\"topP\":0.5}}",
         MESSAGES(HI) ",\"inferenceConfig\":{\"temperature\":1}}"},
        {"or the other", MESSAGES(HI) ",\"inferenceConfig\":{\"topP\":0.5}}",
         MESSAGES(HI) ",\"inferenceConfig\":{\"topP\":0.5}}"}};
    assert_int_equal(translate_rows(&codec_bedrock_converse, &codec_bedrock_converse,
                                    "us.anthropic.claude-opus-4-6-v1", false, adaptive, 3),
                     0);
    static const struct translate_row unsampled[] = {
        {"no sampling at all",
         MESSAGES(HI) ",\"inferenceConfig\":{\"temperature\":1,\"topP\":0.5},\"additionalModelRequestFields\":{"
                      "\"top_k\":1}}",
         MESSAGES(HI) "}"}};
    assert_int_equal(translate_rows(&codec_bedrock_converse, &codec_bedrock_converse, "anthropic.claude-opus-4-7",
                                    false, unsampled, 1),
                     0);
    static const struct translate_row old[] = {
        {"a schema in words, no strict tools",
         MESSAGES(
             HI) ",\"system\":[{\"text\":\"s\"}],\"toolConfig\":{\"tools\":[{\"toolSpec\":{\"name\":\"f\","
                 "\"inputSchema\":{"
                 "\"json\":{}},\"strict\":true}}]},\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\","
                 "\"structure\":{\"jsonSchema\":{\"schema\":\"{\\\"type\\\":\\\"object\\\"}\"}}}}}",
         MESSAGES(
             HI) ",\"system\":[{\"text\":\"s\"},{\"text\":\"Answer with one JSON value that is valid under the "
                 "following "
                 "JSON Schema and nothing else: no other text, no code "
                 "fence.\\n\\n{\\\"type\\\":\\\"object\\\"}\"}],"
                 "\"toolConfig\":{\"tools\":[{\"toolSpec\":{\"name\":\"f\",\"inputSchema\":{\"json\":{}}}}]}}"},
        {"with no other instructions",
         MESSAGES(HI) ",\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":{"
                      "\"schema\":\"{}\"}}}}}",
         MESSAGES(HI) ",\"system\":[{\"text\":\"Answer with one JSON value that is valid under the following JSON "
                      "Schema and "
                      "nothing else: no other text, no code fence.\\n\\n{}\"}]}"}};
    assert_int_equal(translate_rows(&codec_bedrock_converse, &codec_bedrock_converse,
                                    "us.anthropic.claude-sonnet-4-20250514-v1:0", false, old, 2),
                     0);
    static const struct translate_row llama[] = {
        {"no marks for who knows none",
         MESSAGES(
             "{\"role\":\"user\",\"content\":[{\"text\":\"a\"},{\"cachePoint\":{\"type\":\"default\"}}]}") "}",
         MESSAGES("{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}") "}"}};
    assert_int_equal(
        translate_rows(&codec_bedrock_converse, &codec_bedrock_converse, "meta.llama4-scout-17b", false, llama, 1),
        0);
}

/* ---- facts and edits ------------------------------------------------------------------------ */

static void facts_come_from_path_and_body(void **state)
{
    (void)state;
    struct arena a;
    struct request_facts f, g;
    const char *why = NULL;
    struct request_line line = {.model = SPAN_LIT("m"), .stream = true};
    arena_init(&a, 0, 0);
    struct span body = SPAN_LIT(
        "{\"model\":\"x\",\"stream\":false,\"messages\":[" HI "],\"inferenceConfig\":{\"maxTokens\":7},"
        "\"toolConfig\":{\"tools\":[{}]},\"additionalModelRequestFields\":{\"thinking\":{\"type\":\"adaptive\"}},"
        "\"requestMetadata\":{\"session_id\":\"s1\"}}");
    assert_int_equal(codec_bedrock_converse.read_request(body, &line, &a, &f, &why), PD_OK);
    assert_true(span_is(f.model, "m") && f.stream && f.tools && f.reasoning && f.max_tokens == 7);
    assert_true(span_is(f.user, "s1") && !f.continues);
    struct span next = SPAN_LIT("{\"messages\":[" HI ",{\"role\":\"assistant\",\"content\":[]}]}");
    assert_int_equal(codec_bedrock_converse.read_request(next, &line, &a, &g, &why), PD_OK);
    assert_true(g.continues && g.prefix_hash == f.prefix_hash && !g.reasoning && !g.tools);
    struct span other = SPAN_LIT("{\"system\":[{\"text\":\"s\"}],\"messages\":[" HI "]}");
    assert_int_equal(codec_bedrock_converse.read_request(other, &line, &a, &g, &why), PD_OK);
    assert_true(g.prefix_hash != f.prefix_hash);
    arena_done(&a);
}

#define FOREIGN "{\"reasoningContent\":{\"reasoningText\":{\"text\":\"hm\",\"signature\":\"perdure-foreign\"}}}"
#define OWN "{\"reasoningContent\":{\"reasoningText\":{\"text\":\"h\",\"signature\":\"EqQB\"}}}"

static void edit(const char *in, bool strip, struct arena *a, struct buf *out)
{
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count = 0;
    const char *why = NULL;
    struct request_line line = {.model = SPAN_LIT("m")};
    struct request_edit ed = {.model = SPAN_LIT("other"), .force_stream = true, .strip_foreign = strip};
    assert_int_equal(codec_bedrock_converse.read_request(span_str(in), &line, a, &f, &why), PD_OK);
    assert_int_equal(codec_bedrock_converse.edit_request(&f, &ed, a, parts, &count), PD_OK);
    buf_clear(out);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(buf_add(out, parts[i]), PD_OK);
}

static void only_foreign_reasoning_is_taken_out(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {" {\"messages\" : [" HI "] } ", " {\"messages\" : [" HI "] } "},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\": [" FOREIGN
         " , {\"text\":\"a\"} , {\"text\":\"b\"}] }]}",
         "{\"messages\":[{\"role\":\"assistant\",\"content\": [{\"text\":\"a\"},{\"text\":\"b\"}] }]}"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":[" OWN ", {\"text\":\"a\"}]}]}",
         "{\"messages\":[{\"role\":\"assistant\",\"content\":[" OWN ", {\"text\":\"a\"}]}]}"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":[" FOREIGN "]}]}",
         "{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"text\":\"hm\"}]}]}"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"perdure\"}]}]}",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"perdure\"}]}]}"},
    };
    struct arena a;
    struct buf out;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        edit(rows[i].in, true, &a, &out);
        if (!span_is(buf_span(&out), rows[i].out))
            fail_msg("%s\n  became   %.*s", rows[i].in, SPAN_FMT(buf_span(&out)));
        edit(rows[i].in, false, &a, &out);
        assert_true(span_is(buf_span(&out), rows[i].in));
    }
    buf_done(&out);
    arena_done(&a);
}

/* More messages than there may be parts. */
static void many_edits_are_one_part(void **state)
{
    (void)state;
    struct arena a;
    struct buf in, want, out;
    arena_init(&a, 0, 0);
    buf_init(&in, 0);
    buf_init(&want, 0);
    buf_init(&out, 0);
    assert_int_equal(buf_puts(&in, "{\"messages\":[" HI), PD_OK);
    assert_int_equal(buf_puts(&want, "{\"messages\":[" HI), PD_OK);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(buf_puts(&in, ", {\"role\":\"assistant\",\"content\":[" FOREIGN ",{\"text\":\"a\"}]}"),
                         PD_OK);
        assert_int_equal(buf_puts(&want, ", {\"role\":\"assistant\",\"content\":[{\"text\":\"a\"}]}"), PD_OK);
    }
    assert_int_equal(buf_add(&in, span_of("]}\n\0", 4)), PD_OK);
    assert_int_equal(buf_puts(&want, "]}\n"), PD_OK);
    edit(buf_span(&in).p, true, &a, &out);
    assert_true(span_eq(buf_span(&out), buf_span(&want)));
    buf_done(&in);
    buf_done(&want);
    buf_done(&out);
    arena_done(&a);
}

/* ---- answers ----------------------------------------------------------------------------------- */

static const struct msg_delta deltas[] = {
    {.kind = MSG_REASONING, .tool = -1, .text = {"hm", 2}},
    {.kind = MSG_REASONING, .tool = -1, .text = {" \\u00e9", 7}},
    {.kind = MSG_SIGNATURE, .tool = -1, .text = {"c2ln", 4}, .maker = MSG_MAKER_ANTHROPIC},
    {.kind = MSG_SEALED, .tool = -1, .text = {"EowB", 4}, .maker = MSG_MAKER_ANTHROPIC},
    {.kind = MSG_TEXT, .tool = -1, .text = {"say \\\"", 6}},
    {.kind = MSG_TEXT, .tool = -1, .text = {"x", 1}},
    {.kind = MSG_CITATION, .tool = -1, .text = {"https://a", 9}, .id = {"T", 1}, .type = {"c", 1}},
    {.kind = MSG_TOOL_START, .tool = 0, .text = {"f", 1}, .id = {"t1", 2}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = {"{\\\"a\\\":", 7}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = {"1}", 2}},
    {.kind = MSG_TOOL_START, .tool = 1, .text = {"g", 1}, .id = {"t2", 2}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 1, .text = {"{}", 2}},
};

static void what_is_spoken_reads_the_same(void **state)
{
    (void)state;
    struct spoken s = {.codec = &codec_bedrock_converse,
                       .framing = FRAMING_EVENTSTREAM,
                       .deltas = deltas,
                       .count = sizeof(deltas) / sizeof(deltas[0]),
                       .facts = {.usage = {30, 10, 5, 7, 2}, .finish = MSG_FINISH_TOOL_CALLS}};
    assert_spoken(&s, "complete id() model() finish(tool_calls tool_use) usage(30 10 5 7 -1)\n"
                      "0 text(say \\\"x) reasoning(hm \\u00e9) refusal() tool(t1 f {\\\"a\\\":1}) tool(t2 g {}) "
                      "others(<signature -1 anthropic c2ln||><sealed -1 anthropic EowB||>"
                      "<citation -1 none https://a|T|c>)");
}

static void foreign_reasoning_is_marked(void **state)
{
    (void)state;
    static const struct msg_delta said[] = {{.kind = MSG_REASONING, .tool = -1, .text = {"hm", 2}},
                                            {.kind = MSG_TEXT, .tool = -1, .text = {"x", 1}}};
    struct spoken s = {.codec = &codec_bedrock_converse,
                       .framing = FRAMING_EVENTSTREAM,
                       .deltas = said,
                       .count = 2,
                       .facts = {.usage = MSG_USAGE_NONE, .finish = MSG_FINISH_STOP}};
    assert_spoken(&s, "complete id() model() finish(stop end_turn) usage(0 -1 -1 0 -1)\n"
                      "0 text(x) reasoning(hm) refusal() others(<signature -1 anthropic perdure-foreign||>)");
}

static void calls_are_the_reason_where_none_is_given(void **state)
{
    (void)state;
    static const struct msg_delta said[] = {
        {.kind = MSG_TOOL_START, .tool = 0, .text = {"f", 1}, .id = {"t1", 2}}};
    struct spoken s = {
        .codec = &codec_bedrock_converse, .framing = FRAMING_EVENTSTREAM, .deltas = said, .count = 1};
    s.facts.usage = (struct msg_usage){1, -1, -1, 1, -1};
    assert_spoken(&s, "complete id() model() finish(tool_calls tool_use) usage(1 -1 -1 1 -1)\n"
                      "0 text() reasoning() refusal() tool(t1 f {})");
}

static void an_image_is_a_block(void **state)
{
    (void)state;
    static const struct msg_delta said[] = {
        {.kind = MSG_MEDIA, .tool = -1, .text = {"QUJD", 4}, .type = {"image/webp", 10}},
        {.kind = MSG_MEDIA, .tool = -1, .text = {"QUJD", 4}, .type = {"audio/wav", 9}},
        {.kind = MSG_TEXT, .tool = -1, .text = {"x", 1}}};
    struct spoken s = {.codec = &codec_bedrock_converse,
                       .framing = FRAMING_EVENTSTREAM,
                       .deltas = said,
                       .count = 3,
                       .facts = {.usage = {1, -1, -1, 1, -1}, .finish = MSG_FINISH_LENGTH}};
    assert_spoken(&s, "complete id() model() finish(length max_tokens) usage(1 -1 -1 1 -1)\n"
                      "0 text(x) reasoning() refusal() others(<media -1 none QUJD||image/webp>)");
}

/* ---- framing ------------------------------------------------------------------------------------- */

static pd_err put_event(struct buf *b, const char *kind, const char *type, const char *payload)
{
    return eventstream_put(b, kind, span_str(type), SPAN_LIT("application/json"), span_str(payload));
}

static void events_hold_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *type, *payload, *holds;
    } rows[] = {
        {"event", "messageStart", "{\"role\":\"assistant\"}", "[start]"},
        {"event", "contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"text\":\"\"}}", "[start]"},
        {"event", "contentBlockDelta", "{\"delta\":{\"text\":\"a\"},\"p\":\"abcd\"}", "[output]"},
        {"event", "contentBlockStart",
         "{\"contentBlockIndex\":1,\"start\":{\"toolUse\":{\"toolUseId\":\"t\",\"name\":\"f\"}}}", "[output]"},
        {"event", "somethingNew", "{\"delta\":{\"text\":\"a\"}}", "[]"},
        {"event", "contentBlockStop", "{", "[malformed]"},
        {"event", "contentBlockStop", "", "[keepalive]"},
        {"event", "messageStop", "{\"stopReason\":\"end_turn\"}", "[finish]"},
        {"event", "metadata", "{\"usage\":{\"inputTokens\":1,\"outputTokens\":2}}", "[usage+done]"},
        {"exception", "throttlingException", "{\"message\":\"slow\"}", "[error]"},
    };
    struct buf stream, want;
    struct reading r;
    buf_init(&stream, 0);
    buf_init(&want, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t at = buf_size(&stream);
        assert_int_equal(put_event(&stream, rows[i].kind, rows[i].type, rows[i].payload), PD_OK);
        assert_int_equal(buf_puts(&want, rows[i].holds), PD_OK);
        assert_int_equal(buf_add(&want, span_from(buf_span(&stream), at)), PD_OK);
    }
    assert_int_equal(reading_init(&r, &codec_bedrock_converse, FRAMING_EVENTSTREAM, false), PD_OK);
    assert_int_equal(reading_feed(&r, buf_span(&stream)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    assert_true(span_eq(buf_span(&r.events), buf_span(&want)));
    assert_int_equal(r.end, ANSWER_FAILED);
    assert_int_equal(answer_facts(r.an)->malformed, 1);
    reading_done(&r);
    buf_done(&stream);
    buf_done(&want);
}

static pd_err keep_error(void *ctx, const struct answer_event *ev)
{
    return ev->error.type == JSON_NONE ? PD_OK : buf_add(ctx, ev->error.raw);
}

static void an_exception_is_an_error_object(void **state)
{
    (void)state;
    static const struct {
        const char *payload, *error;
    } rows[] = {
        {"{\"message\":\"slow\",\"originalStatusCode\":529}",
         "{\"__type\":\"modelStreamErrorException\",\"message\":\"slow\",\"originalStatusCode\":529}"},
        {"{ }", "{\"__type\":\"modelStreamErrorException\",\"message\":\"{ }\"}"},
        {"no \"json\"", "{\"__type\":\"modelStreamErrorException\",\"message\":\"no \\\"json\\\"\"}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf stream, error;
        buf_init(&stream, 0);
        buf_init(&error, 0);
        assert_int_equal(put_event(&stream, "exception", "modelStreamErrorException", rows[i].payload), PD_OK);
        struct answer *an = answer_new(&codec_bedrock_converse, FRAMING_EVENTSTREAM, keep_error, &error);
        assert_int_equal(answer_feed(an, buf_span(&stream)), PD_OK);
        assert_true(span_is(buf_span(&error), rows[i].error));
        an = answer_free(an);
        buf_done(&stream);
        buf_done(&error);
    }
}

static void a_stream_is_whole_with_its_stop_and_its_last_frame(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(put_event(&b, "event", "contentBlockDelta", "{\"delta\":{\"text\":\"a\"}}"), PD_OK);
    size_t text = buf_size(&b);
    assert_int_equal(put_event(&b, "event", "messageStop", "{\"stopReason\":\"end_turn\"}"), PD_OK);
    size_t stop = buf_size(&b);
    assert_int_equal(put_event(&b, "event", "metadata", "{}"), PD_OK);
    for (size_t n = 0; n <= buf_size(&b); n++) {
        struct reading r;
        assert_int_equal(reading_init(&r, &codec_bedrock_converse, FRAMING_EVENTSTREAM, false), PD_OK);
        assert_int_equal(reading_feed(&r, span_upto(buf_span(&b), n)), PD_OK);
        assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
        bool whole = n == stop || n == buf_size(&b);
        assert_int_equal(r.end, whole ? ANSWER_COMPLETE : n == 0 ? ANSWER_EMPTY : ANSWER_CUT);
        reading_done(&r);
    }
    b.p[b.head + text + 20] ^= 1; /* a byte that the checksum covers */
    struct reading r;
    assert_int_equal(reading_init(&r, &codec_bedrock_converse, FRAMING_EVENTSTREAM, false), PD_OK);
    assert_int_equal(reading_feed(&r, buf_span(&b)), PD_SYNTAX);
    reading_done(&r);
    buf_done(&b);
}

static void whole_bodies_end_as_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum answer_end end;
    } rows[] = {
        {"{\"output\":{\"message\":{\"content\":[{\"text\":\"a\"}]}},\"stopReason\":\"end_turn\"}",
         ANSWER_COMPLETE},
        {"{\"output\":{\"message\":{\"content\":[]}},\"stopReason\":\"end_turn\"}", ANSWER_EMPTY},
        {"{\"output\":{\"message\":{\"content\":[]}},\"stopReason\":\"stop_sequence\"}", ANSWER_COMPLETE},
        {"{\"output\":{\"message\":{\"content\":[]}},\"stopReason\":\"guardrail_intervened\"}", ANSWER_COMPLETE},
        {"{\"output\":{\"message\":{\"content\":[{\"text\":\"a\"}]}},\"stopReason\":\"malformed_tool_use\"}",
         ANSWER_CUT},
        {"{\"output\":{\"message\":{\"content\":[{\"text\":\"a\"}]}}}", ANSWER_CUT},
        {"{\"message\":\"no\"}", ANSWER_FAILED},
        {"{\"Message\":\"no\"}", ANSWER_FAILED},
        {"{\"__type\":\"X\"}", ANSWER_FAILED},
        {"{}", ANSWER_EMPTY},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct answer_facts facts;
        enum answer_end end;
        struct arena a;
        arena_init(&a, 0, 0);
        assert_int_equal(
            answer_read_whole(&codec_bedrock_converse, span_str(rows[i].body), &a, &facts, &end, NULL, NULL),
            PD_OK);
        if (end != rows[i].end)
            fail_msg("%s: %s", rows[i].body, end_name(end));
        arena_done(&a);
    }
}

/* ---- errors -------------------------------------------------------------------------------------- */

static void errors_are_those_of_the_sdk(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *name, *exception;
    } rows[] = {
        {400, "ValidationException", "validationException"},
        {403, "AccessDeniedException", "validationException"},
        {404, "ResourceNotFoundException", "validationException"},
        {408, "ModelTimeoutException", "serviceUnavailableException"},
        {424, "ModelErrorException", "modelStreamErrorException"},
        {429, "ThrottlingException", "throttlingException"},
        {500, "InternalServerException", "internalServerException"},
        {503, "ServiceUnavailableException", "serviceUnavailableException"},
        {504, "ModelTimeoutException", "serviceUnavailableException"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf body, event, want;
        struct client_error e = {.status = rows[i].status, .type = "t", .message = SPAN_LIT("no \"way\"")};
        buf_init(&body, 0);
        buf_init(&event, 0);
        buf_init(&want, 0);
        assert_string_equal(codec_bedrock_converse.error_type(rows[i].status), rows[i].name);
        assert_int_equal(codec_bedrock_converse.put_error(&e, &body), PD_OK);
        assert_int_equal(buf_printf(&want, "{\"__type\":\"%s\",\"message\":\"no \\\"way\\\"\"}", rows[i].name),
                         PD_OK);
        assert_true(span_eq(buf_span(&body), buf_span(&want)));
        assert_int_equal(codec_bedrock_converse.put_error_event(&e, &event), PD_OK);
        buf_clear(&want);
        assert_int_equal(put_event(&want, "exception", rows[i].exception, ""), PD_OK);
        struct reading r;
        assert_int_equal(reading_init(&r, &codec_bedrock_converse, FRAMING_EVENTSTREAM, false), PD_OK);
        assert_int_equal(reading_feed(&r, buf_span(&event)), PD_OK);
        assert_true(answer_facts(r.an)->error && span_has(buf_span(&event), rows[i].exception));
        reading_done(&r);
        buf_done(&body);
        buf_done(&event);
        buf_done(&want);
    }
}

/* ---- memory --------------------------------------------------------------------------------------- */

static pd_err request_work(void *ctx)
{
    struct arena a;
    struct buf out;
    const char *why = NULL;
    struct request_line line = {.model = SPAN_LIT(CLAUDE)};
    struct write_want want = {.model = SPAN_LIT(CLAUDE)};
    arena_init(&a, 64, 0);
    buf_init(&out, 0);
    pd_err e =
        translate(&codec_bedrock_converse, &line, span_str(ctx), &codec_bedrock_converse, &want, &a, &out, &why);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static pd_err edit_work(void *ctx)
{
    struct arena a;
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count;
    const char *why;
    struct request_line line = {.model = SPAN_LIT("m")};
    struct request_edit ed = {.strip_foreign = true};
    arena_init(&a, 64, 0);
    pd_err e = codec_bedrock_converse.read_request(span_str(ctx), &line, &a, &f, &why);
    if (!e)
        e = codec_bedrock_converse.edit_request(&f, &ed, &a, parts, &count);
    arena_done(&a);
    return e;
}

static pd_err collect_work(void *ctx)
{
    struct span stream = buf_span(ctx);
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    pd_err e = reading_init(&r, &codec_bedrock_converse, FRAMING_EVENTSTREAM, true);
    if (!e)
        e = reading_feed(&r, stream);
    if (!e)
        e = answer_finish(r.an, &r.end);
    if (!e)
        e = r.told->err ? r.told->err : collector_write(r.collector, &out);
    reading_done(&r);
    buf_done(&out);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(same_rows) / sizeof(same_rows[0]); i++)
        if (same_rows[i].out[0] == '{')
            assert_true(torture(request_work, (void *)(uintptr_t)same_rows[i].in) >= 1);
    static const char foreign[] =
        "{\"messages\":[{\"role\":\"assistant\",\"content\":[" FOREIGN ",{\"text\":\"a\"}]},"
        "{\"role\":\"assistant\",\"content\":[" FOREIGN "]}]}";
    assert_true(torture(edit_work, (void *)(uintptr_t)foreign) >= 2);
    struct spoken s = {.codec = &codec_bedrock_converse,
                       .framing = FRAMING_EVENTSTREAM,
                       .deltas = deltas,
                       .count = sizeof(deltas) / sizeof(deltas[0]),
                       .facts = {.usage = MSG_USAGE_NONE, .finish = MSG_FINISH_STOP}};
    assert_true(torture(spoken_work, &s) >= 20);
    struct buf stream;
    buf_init(&stream, 0);
    assert_int_equal(spoken_stream(&s, &stream), PD_OK);
    assert_true(torture(collect_work, &stream) >= 10);
    buf_done(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_keeps_its_meaning),
        cmocka_unit_test(chat_becomes_converse),
        cmocka_unit_test(settings_have_each_familys_names),
        cmocka_unit_test(facts_come_from_path_and_body),
        cmocka_unit_test(only_foreign_reasoning_is_taken_out),
        cmocka_unit_test(many_edits_are_one_part),
        cmocka_unit_test(what_is_spoken_reads_the_same),
        cmocka_unit_test(foreign_reasoning_is_marked),
        cmocka_unit_test(calls_are_the_reason_where_none_is_given),
        cmocka_unit_test(an_image_is_a_block),
        cmocka_unit_test(events_hold_what_they_say),
        cmocka_unit_test(an_exception_is_an_error_object),
        cmocka_unit_test(a_stream_is_whole_with_its_stop_and_its_last_frame),
        cmocka_unit_test(whole_bodies_end_as_they_say),
        cmocka_unit_test(errors_are_those_of_the_sdk),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
