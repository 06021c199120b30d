/* Ollama's own format: requests of /api/chat and /api/generate, answers spoken and read, edits, errors. */
#include "dialect/wire.h"
#include "translate.h"

#define HI "{\"role\":\"user\",\"content\":\"hi\"}"
#define ASK(m) "{\"model\":\"qwen3\",\"messages\":[" m "]"
#define END ",\"stream\":false}"

static void each_path_has_its_format(void **state)
{
    (void)state;
    const struct wire *w = wire_by_name(SPAN_LIT("ollama"));
    static const struct {
        const struct codec *client, *asked;
        const char *path;
    } rows[] = {
        {&codec_ollama, &codec_ollama, "/api/chat"},
        {&codec_ollama_generate, &codec_ollama_generate, "/api/generate"},
        {&codec_openai_chat, &codec_ollama, "/api/chat"},
        {&codec_openai_embeddings, &codec_ollama_embeddings, "/api/embed"},
    };
    assert_non_null(w);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span path;
        const struct codec *asked = wire_codec(w, rows[i].client);
        assert_ptr_equal(asked, rows[i].asked);
        struct wire_place at = {.prompt = asked == w->prompt};
        assert_int_equal(w->path(asked->kind, &at, NULL, &path), PD_OK);
        assert_true(span_is(path, rows[i].path));
    }
    w = wire_by_name(SPAN_LIT("gemini"));
    assert_ptr_equal(wire_codec(w, &codec_ollama_generate), &codec_gemini);
}

/* ---- requests ------------------------------------------------------------------------- */

static const struct translate_row same_rows[] = {
    {"the least", ASK(HI) "}", ASK(HI) END},
    {"settings",
     ASK(HI) ",\"options\":{\"num_predict\":9,\"temperature\":0.50,\"top_p\":1,\"top_k\":2,\"min_p\":0.1,\"seed\":"
             "7,"
             "\"presence_penalty\":1,\"frequency_penalty\":2,\"stop\":[\"a\\n\",\"b\"],\"num_ctx\":4096},"
             "\"format\":{\"type\": "
             "\"object\"},\"think\":true,\"logprobs\":true,\"top_logprobs\":3,\"keep_alive\":\"5m\"}",
     ASK(HI) ",\"format\":{\"type\": \"object\"},\"options\":{\"num_predict\":9,\"temperature\":0.50,\"top_p\":1,"
             "\"top_k\":2,\"min_p\":0.1,\"seed\":7,\"presence_penalty\":1,\"frequency_penalty\":2,"
             "\"stop\":[\"a\\n\",\"b\"]},\"think\":true,\"logprobs\":true,\"top_logprobs\":3" END},
    {"one stop, JSON, no limit, no thinking",
     ASK(HI) ",\"options\":{\"stop\":\"x\",\"num_predict\":-1},\"format\":\"json\",\"think\":false}",
     ASK(HI) ",\"format\":\"json\",\"options\":{\"stop\":[\"x\"]},\"think\":false" END},
    {"a round of calls",
     ASK("{\"role\":\"system\",\"content\":\"s\"}," HI
         ",{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\","
         "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\": "
         "1}}},{\"id\":\"call_x\",\"function\":{"
         "\"name\":\"g\",\"arguments\":\"{\\\"b\\\":2}\"}}]},{\"role\":\"tool\",\"tool_name\":\"f\",\"content\":"
         "\"1\"},"
         "{\"role\":\"tool\",\"tool_name\":\"g\",\"content\":\"2\"}") ",\"tools\":[{\"type\":\"function\","
                                                                      "\"function\":{\"name\":\"f\","
                                                                      "\"description\":\"d\",\"parameters\":{"
                                                                      "\"type\": \"object\"}}}]}",
     ASK("{\"role\":\"system\",\"content\":\"s\"}," HI
         ",{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\","
         "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\": "
         "1}}},{\"id\":\"call_x\",\"function\":{"
         "\"name\":\"g\",\"arguments\":{\"b\":2}}}]},{\"role\":\"tool\",\"content\":\"1\",\"tool_name\":\"f\"},"
         "{\"role\":\"tool\",\"content\":\"2\",\"tool_name\":\"g\",\"tool_call_id\":\"call_x\"}") ",\"tools\":[{"
                                                                                                  "\"type\":"
                                                                                                  "\"function\","
                                                                                                  "\"function\":{"
                                                                                                  "\"name\":\"f\","
                                                                                                  "\"description\""
                                                                                                  ":\"d\","
                                                                                                  "\"parameters\":"
                                                                                                  "{\"type\": "
                                                                                                  "\"object\"}}}"
                                                                                                  "]" END},
    {"images",
     ASK("{\"role\":\"user\",\"content\":\"?\",\"images\":[\"/9j/AA==\",\"data:image/gif;base64,R0lG\"]}") "}",
     ASK("{\"role\":\"user\",\"content\":\"?\",\"images\":[\"/9j/AA==\",\"R0lG\"]}") END},
    {"no messages", "{\"model\":\"qwen3\"}", "PD_INVALID: \"messages\" must be a list"},
    {"a role that is none", ASK("{\"role\":\"critic\"}") "}",
     "PD_INVALID: a message has a \"role\" that is none of system, user, assistant, tool"},
    {"an image that is none", ASK("{\"role\":\"user\",\"images\":[7]}") "}",
     "PD_INVALID: \"images\" must be a list of texts in base64"},
};

static void a_request_keeps_its_meaning(void **state)
{
    (void)state;
    assert_int_equal(translate_rows(&codec_ollama, &codec_ollama, "qwen3", false, same_rows,
                                    sizeof(same_rows) / sizeof(same_rows[0])),
                     0);
}

static const struct translate_row chat_rows[] = {
    {"parts are lines, ids stay, what is made up does not",
     "{\"model\":\"x\",\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\",\"content\":[{"
     "\"type\":\"text\","
     "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:"
     "image/png;base64,QUJD\"}}]},"
     "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"{"
     "\\\"a\"}}]},"
     "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"r\"}],\"reasoning_effort\":\"high\",\"max_"
     "completion_tokens\":5,"
     "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
     "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"type\":"
     "\"object\"}}}}",
     ASK("{\"role\":\"system\",\"content\":\"d\"},{\"role\":\"user\",\"content\":\"a\\nb\",\"images\":[\"QUJD\"]},"
         "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c1\",\"function\":{\"name\":\"f\","
         "\"arguments\":{"
         "\"input\":\"{\\\"a\"}}}]},{\"role\":\"tool\",\"content\":\"r\",\"tool_name\":\"f\",\"tool_call_id\":"
         "\"c1\"}") ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
                    "\"object\",\"properties\":{}}}}],"
                    "\"format\":{\"type\":\"object\"},\"options\":{\"num_predict\":5},\"think\":true" END},
    {"no tools wanted",
     "{\"model\":\"x\",\"messages\":[" HI
     "],\"tool_choice\":\"none\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}",
     ASK(HI) END},
};

static void chat_becomes_ollama(void **state)
{
    (void)state;
    assert_int_equal(translate_rows(&codec_openai_chat, &codec_ollama, "qwen3", false, chat_rows,
                                    sizeof(chat_rows) / sizeof(chat_rows[0])),
                     0);
    static const struct translate_row levels[] = {
        {"gpt-oss has levels", "{\"model\":\"x\",\"messages\":[" HI "],\"reasoning_effort\":\"minimal\"}",
         "{\"model\":\"gpt-oss:20b\",\"messages\":[" HI "],\"think\":\"low\",\"stream\":true}"}};
    assert_int_equal(translate_rows(&codec_openai_chat, &codec_ollama, "gpt-oss:20b", true, levels, 1), 0);
}

static const struct translate_row generate_rows[] = {
    {"a prompt is a message",
     "{\"model\":\"m\",\"system\":\"s\",\"prompt\":\"p\",\"images\":[\"iVBORw0KGgo=\"],\"options\":{\"seed\":1},"
     "\"suffix\":\"\","
     "\"context\":[],\"raw\":false}",
     ASK("{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"p\",\"images\":[\"iVBORw0KGgo="
         "\"]}") ",\"options\":{\"seed\":1}" END},
    {"a text between two", "{\"model\":\"m\",\"prompt\":\"p\",\"suffix\":\"s\"}",
     "PD_UNSUPPORTED: \"suffix\" asks for text between two texts, which only Ollama itself can write"},
    {"a conversation in tokens", "{\"model\":\"m\",\"prompt\":\"p\",\"context\":[1]}",
     "PD_UNSUPPORTED: \"context\" holds a conversation as Ollama's own tokens: send it to /api/chat as messages"},
    {"nothing", "{\"model\":\"m\"}", "PD_INVALID: \"prompt\" is empty"},
};

static void a_prompt_becomes_messages(void **state)
{
    (void)state;
    assert_int_equal(translate_rows(&codec_ollama_generate, &codec_ollama, "qwen3", false, generate_rows,
                                    sizeof(generate_rows) / sizeof(generate_rows[0])),
                     0);
}

static void a_stream_is_the_default(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        bool stream;
        const char *whole, *streamed; /* edited to have none, and one, with another model */
    } rows[] = {
        {"{\"model\":\"a\"}", true, "{\"stream\":false,\"model\":\"b\"}", "{\"model\":\"b\"}"},
        {"{ }", true, "{\"stream\":false,\"model\":\"b\" }", "{\"model\":\"b\" }"},
        {" {\"messages\":[]}\n", true, " {\"stream\":false,\"model\":\"b\",\"messages\":[]}\n",
         " {\"model\":\"b\",\"messages\":[]}\n"},
        {"{\"model\":\"a\",\"stream\":null}", true, "{\"model\":\"b\",\"stream\":false}",
         "{\"model\":\"b\",\"stream\":true}"},
        {"{\"model\":\"a\", \"stream\":false}", false, "{\"model\":\"b\", \"stream\":false}",
         "{\"model\":\"b\", \"stream\":true}"},
        {"{\"stream\":true,\"model\":\"a\"}", true, "{\"stream\":false,\"model\":\"b\"}",
         "{\"stream\":true,\"model\":\"b\"}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct request_facts f;
        const char *why;
        arena_init(&a, 0, 0);
        assert_int_equal(codec_ollama.read_request(span_str(rows[i].in), NULL, &a, &f, &why), PD_OK);
        assert_int_equal(f.stream, rows[i].stream);
        for (int force = 0; force < 2; force++) {
            struct span parts[REQUEST_PARTS_MAX];
            unsigned count;
            struct buf out;
            struct request_edit ed = {
                .model = SPAN_LIT("b"), .force_stream = force, .forbid_stream = !force, .want_usage = true};
            buf_init(&out, 0);
            assert_int_equal(codec_ollama.edit_request(&f, &ed, &a, parts, &count), PD_OK);
            for (unsigned k = 0; k < count; k++)
                assert_int_equal(buf_add(&out, parts[k]), PD_OK);
            if (!span_is(buf_span(&out), force ? rows[i].streamed : rows[i].whole))
                fail_msg("%s became %.*s", rows[i].in, SPAN_FMT(buf_span(&out)));
            buf_done(&out);
        }
        arena_done(&a);
    }
}

static void facts_are_found(void **state)
{
    (void)state;
    struct arena a;
    struct request_facts f, g;
    const char *why;
    arena_init(&a, 0, 0);
    assert_int_equal(codec_ollama.read_request(
                         SPAN_LIT(ASK(HI) ",\"tools\":[{}],\"think\":\"low\",\"options\":{\"num_predict\":3}}"),
                         NULL, &a, &f, &why),
                     PD_OK);
    assert_true(f.tools && f.reasoning && f.max_tokens == 3 && !f.continues);
    assert_int_equal(codec_ollama.read_request(SPAN_LIT(ASK(HI ",{\"role\":\"assistant\"}") ",\"think\":false}"),
                                               NULL, &a, &g, &why),
                     PD_OK);
    assert_true(g.prefix_hash == f.prefix_hash && g.continues && !g.reasoning && g.max_tokens == -1);
    assert_int_equal(codec_ollama_generate.read_request(SPAN_LIT("{\"prompt\":\"a\"}"), NULL, &a, &f, &why),
                     PD_OK);
    assert_int_equal(codec_ollama_generate.read_request(SPAN_LIT("{\"prompt\":\"b\"}"), NULL, &a, &g, &why),
                     PD_OK);
    assert_true(f.prefix_hash != g.prefix_hash);
    arena_done(&a);
}

/* ---- answers ------------------------------------------------------------------------------ */

static const struct msg_delta deltas[] = {
    {.kind = MSG_REASONING, .tool = -1, .text = {"hm", 2}},
    {.kind = MSG_SIGNATURE, .tool = -1, .text = {"c2ln", 4}, .maker = MSG_MAKER_ANTHROPIC},
    {.kind = MSG_TEXT, .tool = -1, .text = {"say \\\"", 6}},
    {.kind = MSG_LOGPROBS, .tool = -1, .text = {"[{\"token\":\"a\",\"logprob\":-1}]", 28}},
    {.kind = MSG_TEXT, .tool = -1, .text = {"x", 1}},
    {.kind = MSG_TOOL_START, .tool = 0, .text = {"f", 1}, .id = {"t1", 2}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = {"{\\\"a\\\":", 7}},
    {.kind = MSG_TOOL_ARGUMENTS, .tool = 0, .text = {"\\\"\\\\n\\\"}", 8}},
    {.kind = MSG_TOOL_START, .tool = 1, .text = {"g", 1}, .id = {"t2", 2}},
};
enum { DELTAS = sizeof(deltas) / sizeof(deltas[0]) };

static void what_is_spoken_reads_the_same(void **state)
{
    (void)state;
    struct spoken s = {.codec = &codec_ollama,
                       .framing = FRAMING_LINES,
                       .deltas = deltas,
                       .count = DELTAS,
                       .facts = {.usage = {30, 10, 5, 7, 2}, .finish = MSG_FINISH_TOOL_CALLS}};
    assert_spoken(&s,
                  "complete id() model(some-model) finish(tool_calls stop) usage(30 -1 -1 7 -1)\n"
                  "0 text(say \\\"x) reasoning(hm) refusal() tool(t1 f {\\\"a\\\":\\\"\\\\n\\\"}) tool(t2 g {}) "
                  "others(<logprobs -1 none [{\"token\":\"a\",\"logprob\":-1}]||>)");
}

static void generate_has_its_own_fields(void **state)
{
    (void)state;
    struct spoken s = {.codec = &codec_ollama_generate,
                       .framing = FRAMING_LINES,
                       .deltas = deltas,
                       .count = DELTAS,
                       .facts = {.usage = MSG_USAGE_NONE, .finish = MSG_FINISH_LENGTH}};
    assert_spoken(&s, "complete id() model(some-model) finish(length length) usage(0 -1 -1 0 -1)\n"
                      "0 text(say \\\"x) reasoning(hm) refusal() others(<logprobs -1 none "
                      "[{\"token\":\"a\",\"logprob\":-1}]||>)");
    struct buf b;
    buf_init(&b, 0);
    assert_int_equal(spoken_whole(&s, &b), PD_OK);
    assert_true(span_is(buf_span(&b), "{\"model\":\"some-model\",\"created_at\":\"2023-11-14T22:13:20Z\","
                                      "\"response\":\"say \\\"x\",\"thinking\":\"hm\","
                                      "\"logprobs\":[{\"token\":\"a\",\"logprob\":-1}],\"done\":true,\"done_"
                                      "reason\":\"length\",\"total_duration\":0,"
                                      "\"load_duration\":0,\"prompt_eval_count\":0,\"prompt_eval_duration\":0,"
                                      "\"eval_count\":0,\"eval_duration\":0}"));
    buf_done(&b);
}

static const struct {
    const char *name, *in, *events, *end;
} streams[] = {
    {"lines",
     "{\"message\":{\"content\":\"a\"},\"done\":false}\n{\"done\":true,\"done_reason\":\"stop\",\"eval_count\":1}"
     "\n",
     "[output]{\"message\":{\"content\":\"a\"},\"done\":false}\n"
     "[finish+usage+done]{\"done\":true,\"done_reason\":\"stop\",\"eval_count\":1}\n",
     "complete"},
    {"an empty line first", "{\"message\":{\"content\":\"\"},\"done\":false}\n",
     "[start]{\"message\":{\"content\":\"\"},\"done\":false}\n", "cut"},
    {"an error line", "{\"response\":\"a\",\"done\":false}\n{\"error\":\"gone\"}\n",
     "[output]{\"response\":\"a\",\"done\":false}\n[error]{\"error\":\"gone\"}\n", "failed"},
    {"a line that is half an object hides none behind it",
     "{\"message\":{\n{\"response\":\"a\",\"done\":false}\n{\n{\"done\":true,\"done_reason\":\"stop\"}\n",
     "[malformed]{\"message\":{\n[output]{\"response\":\"a\",\"done\":false}\n[malformed]{\n"
     "[finish+done]{\"done\":true,\"done_reason\":\"stop\"}\n",
     "complete"},
    {"nothing said", "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
     "[finish+done]{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n", "empty"},
    {"a model that was loaded", "{\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}\n",
     "[finish+done]{\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}\n", "complete"},
    {"a server of old gives no reason", "{\"response\":\"a\",\"done\":true}\n",
     "[output+finish+done]{\"response\":\"a\",\"done\":true}\n", "complete"},
    {"thinking alone",
     "{\"message\":{\"content\":\"\",\"thinking\":\"t\"},\"done\":true,\"done_reason\":\"length\"}\n",
     "[output+finish+done]{\"message\":{\"content\":\"\",\"thinking\":\"t\"},\"done\":true,\"done_reason\":"
     "\"length\"}\n",
     "complete"},
};

static void lines_are_events_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        struct span in = span_str(streams[i].in);
        for (size_t cut = 0; cut <= in.n; cut++) {
            struct reading r;
            assert_int_equal(reading_init(&r, &codec_ollama, FRAMING_LINES, false), PD_OK);
            assert_int_equal(reading_feed(&r, span_upto(in, cut)), PD_OK);
            assert_int_equal(reading_feed(&r, span_from(in, cut)), PD_OK);
            assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
            if (!span_is(buf_span(&r.events), streams[i].events) || strcmp(end_name(r.end), streams[i].end) != 0)
                fail_msg("%s, cut at %zu: %s\n%.*s", streams[i].name, cut, end_name(r.end),
                         SPAN_FMT(buf_span(&r.events)));
            reading_done(&r);
        }
    }
}

static void collected_lines_are_one_object(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"a\\n\",\"thinking\":\"t\"},\"done\":"
         "false}\n"
         "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"b\",\"tool_calls\":[{\"id\":\"x\"}]},"
         "\"done\":false}\n"
         "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"new\":1},\"done\":true,\"eval_"
         "count\":2,\"newer\":{}}\n",
         "{\"model\":\"m\",\"done\":true,\"eval_count\":2,\"newer\":{},\"message\":{\"role\":\"assistant\","
         "\"content\":\"a\\nb\","
         "\"thinking\":\"t\",\"tool_calls\":[{\"id\":\"x\"}],\"new\":1}}"},
        {"{\"response\":\"a\",\"done\":false}\n{\"response\":\"b\",\"done\":true,\"context\":[1,2]}\n",
         "{\"done\":true,\"context\":[1,2],\"response\":\"ab\"}"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reading r;
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(reading_init(&r, &codec_ollama, FRAMING_LINES, true), PD_OK);
        assert_int_equal(reading_feed(&r, span_str(rows[i].in)), PD_OK);
        assert_int_equal(collector_write(r.collector, &out), PD_OK);
        if (!span_is(buf_span(&out), rows[i].out))
            fail_msg("%.*s", SPAN_FMT(buf_span(&out)));
        reading_done(&r);
        buf_done(&out);
    }
}

static void errors_are_one_text(void **state)
{
    (void)state;
    struct buf b;
    struct client_error e = {.status = 404, .message = SPAN_LIT("no \"m\""), .attempts_json = SPAN_LIT("[1]")};
    buf_init(&b, 0);
    assert_int_equal(codec_ollama.put_error(&e, &b), PD_OK);
    assert_true(span_is(buf_span(&b), "{\"error\":\"no \\\"m\\\"\",\"attempts\":[1]}"));
    buf_clear(&b);
    assert_int_equal(codec_ollama.put_error_event(&e, &b), PD_OK);
    assert_true(span_is(buf_span(&b), "{\"error\":\"no \\\"m\\\"\",\"attempts\":[1]}\n"));
    assert_non_null(codec_ollama.error_type(500));
    buf_done(&b);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static pd_err request_work(void *ctx)
{
    struct arena a;
    struct buf out;
    const char *why = NULL;
    struct write_want want = {.model = SPAN_LIT("m")};
    arena_init(&a, 64, 0);
    buf_init(&out, 0);
    pd_err e = translate(&codec_ollama, NULL, span_str(ctx), &codec_ollama, &want, &a, &out, &why);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static pd_err collect_work(void *ctx)
{
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    pd_err e = reading_init(&r, &codec_ollama, FRAMING_LINES, true);
    if (!e)
        e = reading_feed(&r, buf_span(ctx));
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
    struct spoken s = {.codec = &codec_ollama,
                       .framing = FRAMING_LINES,
                       .deltas = deltas,
                       .count = DELTAS,
                       .facts = {.usage = MSG_USAGE_NONE, .finish = MSG_FINISH_STOP}};
    assert_true(torture(spoken_work, &s) >= 10);
    struct buf stream;
    buf_init(&stream, 0);
    assert_int_equal(spoken_stream(&s, &stream), PD_OK);
    assert_true(torture(collect_work, &stream) >= 8);
    buf_done(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_path_has_its_format),
        cmocka_unit_test(a_request_keeps_its_meaning),
        cmocka_unit_test(chat_becomes_ollama),
        cmocka_unit_test(a_prompt_becomes_messages),
        cmocka_unit_test(a_stream_is_the_default),
        cmocka_unit_test(facts_are_found),
        cmocka_unit_test(what_is_spoken_reads_the_same),
        cmocka_unit_test(generate_has_its_own_fields),
        cmocka_unit_test(lines_are_events_at_every_split),
        cmocka_unit_test(collected_lines_are_one_object),
        cmocka_unit_test(errors_are_one_text),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
