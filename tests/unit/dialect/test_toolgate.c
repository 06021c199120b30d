/* Tool calls are handed on whole or not at all. */
#include "dialect/toolgate.h"
#include "told.h"

#include "base/mem.h"

static const struct codec *const formats[] = {&codec_openai_chat, &codec_openai_responses, &codec_anthropic,
                                              &codec_gemini,      &codec_bedrock_converse, &codec_ollama,
                                              &codec_mistral,     &codec_bedrock_invoke};

static struct span spelled(const char *s)
{
    return span_str(s);
}

/* ---- the tools of a request ------------------------------------------------------------- */

#define SCHEMA "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}"
#define CHAT_BODY                                                                                    \
    "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"add\",\"parameters\":" SCHEMA "}}," \
    "{\"type\":\"custom\",\"custom\":{\"name\":\"patch\"}},{\"type\":\"web_search\"}],"              \
    "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static const struct tools_row {
    const char *what;
    const struct codec *codec;
    const char *body, *tools; /* name kind schema-or-not, in order */
} tools_rows[] = {
    {"chat: functions, free text and hosted", &codec_openai_chat, CHAT_BODY, "add0+ patch1- web_search2- "},
    {"Mistral is chat", &codec_mistral, CHAT_BODY, "add0+ patch1- web_search2- "},
    {"chat: functions of old", &codec_openai_chat,
     "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"tools\"}],\"functions\":[{\"name\":\"f\","
     "\"parameters\":" SCHEMA "}]}",
     "f0+ "},
    {"of two members the last", &codec_anthropic,
     "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"\\\"tools\\\":[\"}],"
     "\"tools\":[],"
     "\"tools\":[{\"name\":\"a\",\"input_schema\":" SCHEMA
     "},{\"type\":\"custom\",\"name\":\"b\"},{\"type\":\"bash_20250124\",\"name\":\"bash\"}]}",
     "a0+ b0- bash2- "},
    {"Responses: functions in namespaces", &codec_openai_responses,
     "{\"model\":\"m\",\"input\":\"hi\",\"tools\":[{\"type\":\"namespace\",\"name\":\"ns\",\"tools\":[{\"type\":"
     "\"function\","
     "\"name\":\"f\",\"parameters\":" SCHEMA "}]},{\"type\":\"custom\",\"name\":\"c\"}]}",
     "ns__f0+ c1- "},
    {"Gemini: both spellings of a schema, both spellings of a key", &codec_gemini,
     "{\"contents\":[{\"parts\":[{\"text\":\"hi\"}]}],\"tools\":[{\"function_declarations\":[{\"name\":\"f\","
     "\"parameters\":"
     "{\"type\":\"OBJECT\"}},{\"name\":\"g\",\"parametersJsonSchema\":{}}]},{\"functionDeclarations\":[{\"name\":"
     "\"h\"}]}]}",
     "f0+ g0+ h0- "},
    {"Converse", &codec_bedrock_converse,
     "{\"toolConfig\":{\"tools\":[{\"toolSpec\":{\"name\":\"f\",\"inputSchema\":{\"json\":" SCHEMA
     "}}}]},\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"hi\"}]}]}",
     "f0+ "},
    {"Ollama", &codec_ollama,
     "{\"model\":\"m\",\"messages\":[],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
     "\"parameters\":" SCHEMA "}}]}",
     "f0+ "},
    {"none", &codec_openai_chat, "{\"model\":\"m\",\"messages\":[]}", ""},
    {"no list", &codec_openai_responses, "{\"model\":\"m\",\"tools\":3}", ""},
    {"a body that breaks off", &codec_gemini, "{\"tools\":[", ""},
};

static void describe(const struct msg_request *m, char *out, size_t bytes)
{
    size_t n = 0;
    out[0] = '\0';
    for (const struct msg_tool *t = m->tools; t; t = t->next)
        n += (size_t)snprintf(out + n, bytes - n, "%.*s%d%c ", SPAN_FMT(t->name), (int)t->kind,
                              t->schema.n ? '+' : '-');
}

static void the_tools_of_a_request_are_found_without_reading_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(tools_rows) / sizeof(tools_rows[0]); i++) {
        const struct tools_row *r = &tools_rows[i];
        struct request_facts f = {.body = span_str(r->body)};
        struct arena a;
        struct msg_request m;
        char found[256];
        arena_init(&a, 0, 0);
        assert_int_equal(r->codec->parse_tools(&f, &a, &m), PD_OK);
        describe(&m, found, sizeof(found));
        if (strcmp(found, r->tools) != 0)
            fail_msg("%s: %s instead of %s", r->what, found, r->tools);
        assert_null(m.first);
        arena_done(&a);
    }
}

static void every_format_with_tools_tells_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        assert_non_null(formats[i]->parse_tools);
    assert_null(codec_ollama_generate.parse_tools);
}

static pd_err read_tools(void *ctx)
{
    const struct tools_row *r = ctx;
    struct request_facts f = {.body = span_str(r->body)};
    struct arena a;
    struct msg_request m;
    arena_init(&a, 16, 0);
    pd_err e = r->codec->parse_tools(&f, &a, &m);
    arena_done(&a);
    return e;
}

static void reading_tools_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < 8; i++)
        assert_true(torture(read_tools, (void *)(uintptr_t)&tools_rows[i]) >= 1);
}

/* ---- judging ------------------------------------------------------------------------------ */

static void start(struct toolgate *g, int choice, int tool, const char *name)
{
    toolgate_delta(g, &(struct msg_delta){.kind = MSG_TOOL_START,
                                          .choice = choice,
                                          .tool = tool,
                                          .text = spelled(name),
                                          .id = SPAN_LIT("call_1")});
}

static void more(struct toolgate *g, int choice, int tool, const char *piece)
{
    toolgate_delta(g, &(struct msg_delta){
                          .kind = MSG_TOOL_ARGUMENTS, .choice = choice, .tool = tool, .text = spelled(piece)});
}

static const struct judge_row {
    const char *what, *name, *arguments; /* escaped */
    enum toolgate_verdict verdict;
    const char *why; /* a part of the sentence */
} judge_rows[] = {
    {"whole and fitting", "add", "{\\\"n\\\":1}", TOOLGATE_WHOLE, ""},
    {"white space around is none of our business", "add", "\\n {\\\"n\\\":1}\\t ", TOOLGATE_WHOLE, ""},
    {"a half call", "add", "{\\\"n\\\":1", TOOLGATE_BROKEN, "add"},
    {"a half string", "add", "{\\\"n", TOOLGATE_BROKEN, "add"},
    {"half an escape", "add", "{\\\"n\\\":1}\\u00", TOOLGATE_BROKEN, "add"},
    {"two objects", "add", "{\\\"n\\\":1}{\\\"n\\\":1}", TOOLGATE_BROKEN, "add"},
    {"a list is no object", "add", "[1]", TOOLGATE_BROKEN, "add"},
    {"a word is no object", "anything", "null", TOOLGATE_BROKEN, "anything"},
    {"no arguments are {}, and n is missing", "add", "", TOOLGATE_MISFIT, "add"},
    {"no arguments are {}, and that fits", "none", "", TOOLGATE_WHOLE, ""},
    {"does not fit", "add", "{\\\"n\\\":\\\"1\\\"}", TOOLGATE_MISFIT, "arguments.n"},
    {"an unlisted tool has to be JSON only", "ghost", "{\\\"n\\\":\\\"1\\\"}", TOOLGATE_WHOLE, ""},
    {"an unlisted tool has to be JSON", "ghost", "{\\\"n\\\":", TOOLGATE_BROKEN, "ghost"},
    {"free text", "patch", "*** Begin {", TOOLGATE_WHOLE, ""},
    {"the maker's own tool has to be JSON only", "bash", "{\\\"n\\\":1}", TOOLGATE_WHOLE, ""},
    {"the maker's own tool has to be JSON", "bash", "{\\\"n\\\"", TOOLGATE_BROKEN, "bash"},
    {"by the client's name", "my.add", "{}", TOOLGATE_MISFIT, "my.add"},
    {"by the name in its namespace", "plain", "{}", TOOLGATE_MISFIT, "plain"},
    {"a name spelled otherwise", "\\u0061dd", "{}", TOOLGATE_MISFIT, "dd"},
    {"a name that is a beginning of another", "ad", "{}", TOOLGATE_WHOLE, ""},
    {"a function that stands for free text", "edit", "{\\\"n\\\":\\\"1\\\"}", TOOLGATE_WHOLE, ""},
};

static struct msg_tool offered[] = {
    {.kind = MSG_TOOL_CUSTOM, .name = {"patch", 5}},
    {.kind = MSG_TOOL_HOSTED, .name = {"bash", 4}},
    {.kind = MSG_TOOL_FUNCTION, .name = {"none", 4}},
    {.kind = MSG_TOOL_FUNCTION, .name = {"edit", 4}, .free_text = true, .schema = {SCHEMA, sizeof(SCHEMA) - 1}},
    {.kind = MSG_TOOL_FUNCTION,
     .name = {"add", 3},
     .client_name = {"my.add", 6},
     .plain_name = {"plain", 5},
     .schema = {SCHEMA, sizeof(SCHEMA) - 1}},
};

static struct msg_request request(void)
{
    struct msg_request m;
    msg_request_init(&m);
    for (size_t i = 0; i + 1 < sizeof(offered) / sizeof(offered[0]); i++)
        offered[i].next = &offered[i + 1];
    m.tools = offered;
    return m;
}

static void a_call_is_judged_by_its_tool(void **state)
{
    (void)state;
    struct msg_request m = request();
    struct toolgate *g = toolgate_new(TOOLGATE_BYTES_MAX);
    for (size_t i = 0; i < sizeof(judge_rows) / sizeof(judge_rows[0]); i++) {
        const struct judge_row *r = &judge_rows[i];
        for (size_t cut = 0; cut <= strlen(r->arguments); cut++) {
            if (cut && r->arguments[cut - 1] == '\\')
                continue; /* readers cut no escape in two */
            char why[128], head[64];
            enum toolgate_verdict v = TOOLGATE_VERDICT_COUNT;
            toolgate_reset(g);
            start(g, 0, 0, r->name);
            snprintf(head, sizeof(head), "%.*s", (int)cut, r->arguments);
            more(g, 0, 0, head);
            more(g, 0, 0, r->arguments + cut);
            assert_int_equal(toolgate_judge(g, &m, &v, why, sizeof(why)), PD_OK);
            if (v != r->verdict || !strstr(why, r->why) || (v == TOOLGATE_WHOLE) != (why[0] == '\0'))
                fail_msg("%s: %s, \"%s\"", r->what, toolgate_verdict_name(v), why);
            assert_int_equal(toolgate_judge(g, &m, &v, NULL, 0), PD_OK); /* again: the same */
            assert_int_equal(v, r->verdict);
        }
    }
    toolgate_free(g);
}

static void calls_that_run_at_once_are_kept_apart(void **state)
{
    (void)state;
    struct msg_request m = request();
    struct toolgate *g = toolgate_new(TOOLGATE_BYTES_MAX);
    enum toolgate_verdict v;
    char why[128];
    start(g, 0, 0, "add");
    start(g, 0, 1, "add");
    start(g, 1, 0, "add");
    more(g, 0, 1, "{\\\"n\\\"");
    more(g, 1, 0, "{\\\"n\\\"");
    more(g, 0, 0, "{\\\"n\\\"");
    more(g, 0, 1, ":1}");
    more(g, 0, 0, ":0}");
    assert_int_equal(toolgate_judge(g, &m, &v, why, sizeof(why)), PD_OK);
    assert_int_equal(v, TOOLGATE_BROKEN); /* that of the other choice */
    more(g, 1, 0, ":2}");
    more(g, 3, 3, "nobody's");
    assert_int_equal(toolgate_judge(g, &m, &v, why, sizeof(why)), PD_OK);
    assert_int_equal(v, TOOLGATE_WHOLE);
    assert_string_equal(why, "");
    assert_int_equal(toolgate_judge(g, NULL, &v, why, sizeof(why)), PD_OK);
    assert_int_equal(v, TOOLGATE_WHOLE);

    struct toolgate_call c;
    assert_int_equal(toolgate_count(g), 3);
    assert_true(toolgate_call(g, 2, &c));
    assert_true(c.choice == 1 && c.tool == 0 && span_is(c.name, "add") && span_is(c.id, "call_1"));
    assert_int_equal(c.arguments_bytes, strlen("{\\\"n\\\":2}"));
    assert_false(toolgate_call(g, 3, &c));
    toolgate_free(g);
    toolgate_free(NULL);
}

static void text_is_no_call_and_a_reset_forgets(void **state)
{
    (void)state;
    struct toolgate *g = toolgate_new(TOOLGATE_BYTES_MAX);
    enum toolgate_verdict v;
    toolgate_delta(g, &(struct msg_delta){.kind = MSG_TEXT, .tool = -1, .text = SPAN_LIT("hi")});
    assert_false(toolgate_any(g));
    assert_int_equal(toolgate_judge(g, NULL, &v, NULL, 0), PD_OK);
    assert_int_equal(v, TOOLGATE_WHOLE);
    start(g, 0, 0, "a");
    more(g, 0, 0, "{");
    assert_true(toolgate_any(g));
    toolgate_reset(g);
    assert_false(toolgate_any(g));
    start(g, 0, 0, "b");
    assert_int_equal(toolgate_judge(g, NULL, &v, NULL, 0), PD_OK);
    assert_int_equal(v, TOOLGATE_WHOLE);
    toolgate_free(g);
}

static void what_is_kept_has_a_limit(void **state)
{
    (void)state;
    struct toolgate *g = toolgate_new(1000);
    enum toolgate_verdict v;
    start(g, 0, 0, "a");
    for (int i = 0; i < 2000; i++)
        more(g, 0, 0, " ");
    assert_int_equal(toolgate_error(g), PD_TOOBIG);
    assert_int_equal(toolgate_judge(g, NULL, &v, NULL, 0), PD_TOOBIG);
    toolgate_reset(g);
    for (int i = 0; i < 100; i++)
        start(g, 0, i, "");
    assert_true(toolgate_count(g) < 20);
    assert_int_equal(toolgate_judge(g, NULL, &v, NULL, 0), PD_TOOBIG);
    toolgate_reset(g);
    assert_int_equal(toolgate_error(g), PD_OK);
    start(g, 0, 0, "a"); /* there is room again */
    assert_int_equal(toolgate_error(g), PD_OK);
    toolgate_free(g);
}

/* ---- as answers tell them -------------------------------------------------------------------- */

static const struct stream_row {
    const char *what;
    const struct codec *codec;
    const char *stream;
    bool free_text;
} stream_rows[] = {
    {"Responses tells arguments twice", &codec_openai_responses,
     "data: "
     "{\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"call_"
     "id\":\"c\","
     "\"name\":\"add\",\"arguments\":\"\"}}\n\n"
     "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":0,\"delta\":\"{\\\"n\\\":\"}\n\n"
     "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":0,\"delta\":\"1}\"}\n\n"
     "data: "
     "{\"type\":\"response.function_call_arguments.done\",\"output_index\":0,\"arguments\":\"{\\\"n\\\":1}\"}\n\n"
     "data: "
     "{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"call_id\":"
     "\"c\","
     "\"name\":\"add\",\"arguments\":\"{\\\"n\\\":1}\"}}\n\n",
     false},
    {"Responses: free text of a tool that is not listed", &codec_openai_responses,
     "data: "
     "{\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"custom_tool_call\",\"call_"
     "id\":\"c\","
     "\"name\":\"ghost\",\"input\":\"\"}}\n\n"
     "data: {\"type\":\"response.custom_tool_call_input.delta\",\"output_index\":0,\"delta\":\"no {json\"}\n\n"
     "data: {\"type\":\"response.custom_tool_call_input.done\",\"output_index\":0,\"input\":\"no {json\"}\n\n",
     true},
    {"chat: free text of a tool that is not listed", &codec_openai_chat,
     "data: "
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"custom\","
     "\"custom\":"
     "{\"name\":\"ghost\",\"input\":\"no {json\"}}]}}]}\n\n",
     true},
    {"chat: a function of old", &codec_openai_chat,
     "data: "
     "{\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"add\",\"arguments\":\"{\\\"n\\\"\"}}}]}"
     "\n\n"
     "data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\":1}\"}}}]}\n\n",
     false},
    {"chat: a function", &codec_openai_chat,
     "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":"
     "{\"name\":\"add\",\"arguments\":\"{\\\"n\\\":1}\"}}]}}]}\n\n",
     false},
    {"Messages", &codec_anthropic,
     "data: "
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"c\","
     "\"name\":\"add\","
     "\"input\":{}}}\n\n"
     "data: "
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{"
     "\\\"n\"}}\n\n"
     "data: "
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":"
     "\"\\\": 1}\"}}\n\n"
     "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
     false},
    {"Gemini tells a call whole", &codec_gemini,
     "data: "
     "{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"add\",\"args\":{\"n\":1}}}]}}]}\n\n",
     false},
};

static pd_err no_event(void *ctx, const struct answer_event *ev)
{
    (void)ctx;
    (void)ev;
    return PD_OK;
}

static void calls_are_whole_as_each_format_tells_them(void **state)
{
    (void)state;
    struct msg_request m = request();
    for (size_t i = 0; i < sizeof(stream_rows) / sizeof(stream_rows[0]); i++) {
        const struct stream_row *r = &stream_rows[i];
        struct toolgate *g = toolgate_new(TOOLGATE_BYTES_MAX);
        struct answer *an = answer_new(r->codec, FRAMING_LINES, no_event, NULL);
        enum toolgate_verdict v = TOOLGATE_VERDICT_COUNT;
        char why[128];
        answer_on_delta(an, toolgate_delta, g);
        assert_int_equal(answer_feed(an, span_str(r->stream)), PD_OK);
        assert_int_equal(toolgate_judge(g, &m, &v, why, sizeof(why)), PD_OK);
        if (v != TOOLGATE_WHOLE || toolgate_count(g) != 1)
            fail_msg("%s: %s, %u calls, \"%s\"", r->what, toolgate_verdict_name(v), toolgate_count(g), why);
        m.tools = NULL; /* by the answer alone */
        assert_int_equal(toolgate_judge(g, &m, &v, why, sizeof(why)), PD_OK);
        assert_int_equal(v, TOOLGATE_WHOLE);
        m = request();
        answer_free(an);
        toolgate_free(g);
    }
}

static pd_err gate_all(void *ctx)
{
    (void)ctx;
    struct msg_request m = request();
    struct toolgate *g = toolgate_new(TOOLGATE_BYTES_MAX);
    enum toolgate_verdict v;
    char why[128];
    if (!g)
        return PD_NOMEM;
    for (int i = 0; i < 6; i++) {
        start(g, 0, i, "\\u0061dd");
        more(g, 0, i, "{\\\"n\\\":");
        more(g, 0, i, "1}");
    }
    pd_err e = toolgate_judge(g, &m, &v, why, sizeof(why));
    toolgate_free(g);
    return e;
}

static void the_gate_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(gate_all, NULL) >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tools_of_a_request_are_found_without_reading_the_rest),
        cmocka_unit_test(every_format_with_tools_tells_them),
        cmocka_unit_test(reading_tools_survives_every_failed_allocation),
        cmocka_unit_test(a_call_is_judged_by_its_tool),
        cmocka_unit_test(calls_that_run_at_once_are_kept_apart),
        cmocka_unit_test(text_is_no_call_and_a_reset_forgets),
        cmocka_unit_test(what_is_kept_has_a_limit),
        cmocka_unit_test(calls_are_whole_as_each_format_tells_them),
        cmocka_unit_test(the_gate_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
