#include "base/mem.h"
#include "told.h"

#define CHUNK(choice) "{\"id\":\"a\",\"object\":\"chat.completion.chunk\",\"choices\":[" choice "]}"
#define DELTA(delta) CHUNK("{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}")
#define MESSAGE(message)                                                                          \
    "{\"id\":\"a\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":" message \
    ",\"logprobs\":null,\"finish_reason\":null}]}"

/* Chunks, one a line, and what is made of them. */
static const struct {
    const char *name, *in, *out;
} rows[] = {
    {"nothing", "", "{\"object\":\"chat.completion\",\"choices\":[]}"},
    {"text grows, and stays escaped",
     DELTA("{\"role\":\"assistant\",\"content\":\"\"}") "\n" DELTA("{\"content\":\"a\\n\\ud83d\"}") "\n" DELTA(
         "{\"content\":\"\\ude00\"}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":\"a\\n\\ud83d\\ude00\"}")},
    {"without content it is null", DELTA("{}"), MESSAGE("{\"role\":\"assistant\",\"content\":null}")},
    {"null does not undo", DELTA("{\"content\":\"a\",\"refusal\":null}") "\n" DELTA("{\"content\":null}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":\"a\",\"refusal\":null}")},
    {"the finish reason and its neighbours",
     CHUNK("{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null,\"stop_reason\":null}") "\n" CHUNK(
         "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"stop_reason\":7}") "\n" DELTA("{\"content\":"
                                                                                               "\"\"}"),
     "{\"id\":\"a\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
     "\"content\":\"a\"},"
     "\"stop_reason\":7,\"logprobs\":null,\"finish_reason\":\"stop\"}]}"},
    {"the last usage, whole", "{\"usage\":{\"a\":1,\"b\":{\"c\":2}}}\n{\"usage\":{\"a\":2}}\n{\"usage\":null}",
     "{\"object\":\"chat.completion\",\"choices\":[],\"usage\":{\"a\":2}}"},
    {"names are said once",
     "{\"id\":\"\",\"created\":0,\"model\":\"\"}\n{\"id\":\"x\",\"created\":5,\"model\":\"m\"}\n{\"id\":\"y\","
     "\"created\":6,\"model\":\"\"}",
     "{\"id\":\"x\",\"created\":5,\"model\":\"m\",\"object\":\"chat.completion\",\"choices\":[]}"},
    {"unknown fields stay, numbers as they are spelled",
     "{\"x\":1.0,\"y\":{\"a\":[1e2]}}\n{\"z\":12345678901234567890,\"y\":{\"b\":-0.0}}",
     "{\"x\":1.0,\"y\":{\"a\":[1e2],\"b\":-0.0},\"z\":12345678901234567890,\"object\":\"chat.completion\","
     "\"choices\":[]}"},
    {"unknown fields are replaced",
     "{\"x\":[1],\"y\":\"a\",\"k\\u0065y\":1}\n{\"x\":[2],\"y\":\"b\",\"k\\u0065y\":2}",
     "{\"x\":[2],\"y\":\"b\",\"k\\u0065y\":2,\"object\":\"chat.completion\",\"choices\":[]}"},
    {"padding goes", "{\"obfuscation\":\"abc\",\"p\":\"ab\"}", "{\"object\":\"chat.completion\",\"choices\":[]}"},
    {"choices in order",
     CHUNK("{\"index\":2,\"delta\":{\"content\":\"c\"}}") "\n" CHUNK(
         "{\"index\":0,\"delta\":{\"content\":\"a\"}}"),
     "{\"id\":\"a\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
     "\"content\":\"a\"},\"logprobs\":null,"
     "\"finish_reason\":null},{\"index\":2,\"message\":{\"role\":\"assistant\",\"content\":\"c\"},\"logprobs\":"
     "null,\"finish_reason\":null}]}"},
    {"log probabilities are appended",
     CHUNK("{\"index\":0,\"delta\":{},\"logprobs\":{\"content\":[{\"t\":1}],\"refusal\":null}}") "\n" CHUNK(
         "{\"index\":0,\"delta\":{},\"logprobs\":null}") "\n" CHUNK("{\"index\":0,\"delta\":{},\"logprobs\":{"
                                                                    "\"content\":[{\"t\":2}],\"refusal\":null}}"),
     "{\"id\":\"a\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
     "\"content\":null},"
     "\"logprobs\":{\"content\":[{\"t\":1},{\"t\":2}],\"refusal\":null},\"finish_reason\":null}]}"},
    {"tool calls lose their index and empty content",
     DELTA(
         "{\"content\":\"\",\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}") "\n" DELTA("{\"tool_calls\":[{\"index\":0,"
                                                                           "\"function\":{\"arguments\":\"{"
                                                                           "\\\"a\"}}]}") "\n" DELTA("{\"tool_"
                                                                                                     "calls\":[{"
                                                                                                     "\"index\":0,"
                                                                                                     "\"id\":\"\","
                                                                                                     "\"function\""
                                                                                                     ":{\"name\":"
                                                                                                     "\"\","
                                                                                                     "\"arguments"
                                                                                                     "\":\"\\\":1}"
                                                                                                     "\"}}]}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
             "\"function\":{\"name\":\"f\","
             "\"arguments\":\"{\\\"a\\\":1}\"}}]}")},
    {"arguments that are an object become text",
     DELTA("{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"q\":\"\\\"\"}}}]}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\","
             "\"arguments\":\"{\\\"q\\\":\\\"\\\\\\\"\\\"}\"}}]}")},
    {"a function of old",
     DELTA("{\"function_call\":{\"name\":\"f\",\"arguments\":\"{\"}}") "\n" DELTA(
         "{\"function_call\":{\"arguments\":\"}\"}}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}}")},
    {"reasoning details by index and type",
     DELTA("{\"reasoning_details\":[{\"type\":\"t\",\"text\":\"a\",\"index\":0}]}") "\n" DELTA(
         "{\"reasoning_"
         "details\":[{"
         "\"type\":\"t\","
         "\"text\":\"b\","
         "\"index\":0,"
         "\"signature\":\"s\"}"
         "]}") "\n" DELTA("{\""
                          "rea"
                          "son"
                          "ing"
                          "_de"
                          "tai"
                          "ls"
                          "\":"
                          "[{"
                          "\"t"
                          "ype"
                          "\":"
                          "\"e"
                          "\","
                          "\"d"
                          "ata"
                          "\":"
                          "\"x"
                          "\","
                          "\"i"
                          "nde"
                          "x\""
                          ":0}"
                          "]"
                          "}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"reasoning_details\":[{\"type\":\"t\",\"text\":\"ab\","
             "\"index\":0,\"signature\":\"s\"},"
             "{\"type\":\"e\",\"data\":\"x\",\"index\":0}]}")},
    {"parts of one type go on",
     DELTA("{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"h\"}]}]}") "\n" DELTA(
         "{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"m\"}]}]}") "\n" DELTA("{\"content\":\"yes\"}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\","
             "\"text\":\"hm\"}]},"
             "{\"type\":\"text\",\"text\":\"yes\"}]}")},
    {"parts that are no text are kept apart",
     DELTA("{\"content\":[{\"type\":\"ref\",\"n\":[1]},{\"type\":\"ref\",\"n\":[2]}]}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":[{\"type\":\"ref\",\"n\":[1]},{\"type\":\"ref\",\"n\":[2]}]}")},
    {"tools the server ran are replaced, not doubled",
     DELTA("{\"executed_tools\":[{\"index\":0,\"arguments\":\"{}\"}]}") "\n" DELTA(
         "{\"executed_tools\":[{\"index\":0,\"arguments\":\"{}\",\"output\":\"o\"}]}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"executed_tools\":[{\"index\":0,\"arguments\":\"{}\","
             "\"output\":\"o\"}]}")},
    {"images are appended", DELTA("{\"images\":[{\"u\":1}]}") "\n" DELTA("{\"images\":[{\"u\":2}]}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"images\":[{\"u\":1},{\"u\":2}]}")},
    {"audio grows",
     DELTA("{\"audio\":{\"id\":\"i\",\"transcript\":\"a\"}}") "\n" DELTA(
         "{\"audio\":{\"transcript\":\"b\",\"data\":\"QQ\"}}"),
     MESSAGE("{\"role\":\"assistant\",\"content\":null,\"audio\":{\"id\":\"i\",\"transcript\":\"ab\",\"data\":"
             "\"QQ\"}}")},
    {"what changes its type is replaced", "{\"x\":{\"a\":1}}\n{\"x\":{\"b\":2}}\n{\"x\":3}\n{\"x\":{\"c\":4}}",
     "{\"x\":{\"c\":4},\"object\":\"chat.completion\",\"choices\":[]}"},
};

static pd_err add_lines(struct collector *k, struct span in)
{
    pd_err e = PD_OK;
    while (!e && in.n) {
        struct span line = span_cut(&in, '\n');
        assert_int_equal(json_check(line), PD_OK);
        e = collector_add(k, SPAN_NONE, (struct json){JSON_OBJECT, line});
    }
    return e;
}

static pd_err collect(struct span in, struct buf *out)
{
    struct collector *k = collector_new(&codec_openai_chat, 1 << 20);
    if (!k)
        return PD_NOMEM;
    pd_err e = add_lines(k, in);
    if (!e)
        e = collector_write(k, out);
    collector_free(k);
    return e;
}

static void chunks_become_one_answer(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(collect(span_str(rows[i].in), &out), PD_OK);
        if (!span_is(buf_span(&out), rows[i].out) || json_check(buf_span(&out))) {
            print_error("%s: expected %s\n    got %.*s\n", rows[i].name, rows[i].out, SPAN_FMT(buf_span(&out)));
            faults++;
        }
        buf_done(&out);
    }
    assert_int_equal(faults, 0);
}

/* ---- limits ---------------------------------------------------------------------- */

/* Adds chunks made from `format` until one is refused; what holds memory must have been stopped by then. */
static pd_err fill(const char *format, size_t limit, unsigned most)
{
    struct collector *k = collector_new(&codec_openai_chat, limit);
    assert_non_null(k);
    pd_err e = PD_OK;
    for (unsigned i = 0; !e && i < most; i++) {
        char in[512], *at;
        snprintf(in, sizeof(in), "%s", format);
        at = strchr(in, '#');
        if (at)
            memcpy(at,
                   (char[]){(char)('0' + i % 10), (char)('a' + i / 10 % 26), (char)('a' + i / 260 % 26),
                            (char)('a' + i / 6760 % 26)},
                   4);
        e = collector_add(k, SPAN_NONE, (struct json){JSON_OBJECT, span_str(in)});
    }
    collector_free(k);
    return e;
}

static void what_grows_meets_the_limit(void **state)
{
    (void)state;
    enum { LIMIT = 256 * 1024, MOST = 100000 };
    assert_int_equal(fill(DELTA("{\"content\":\"some words\"}"), LIMIT, MOST), PD_TOOBIG);
    assert_int_equal(fill("{\"x####\":1}", LIMIT, MOST), PD_TOOBIG);
    assert_int_equal(fill(CHUNK("{\"index\":0,\"logprobs\":{\"content\":[1]}}"), LIMIT, MOST), PD_TOOBIG);
    assert_int_equal(
        fill(DELTA("{\"tool_calls\":[{\"id\":\"####\",\"function\":{\"name\":\"f\"}}]}"), LIMIT, MOST), PD_TOOBIG);
    assert_int_equal(fill("{\"x####\":1}", 64 << 20, MOST), PD_TOOBIG); /* so many members are searched in vain */
}

static void what_is_replaced_does_not_count_again(void **state)
{
    (void)state;
    enum { LIMIT = 16 * 1024, MOST = 10000 };
    assert_int_equal(
        fill("{\"id\":\"####\",\"x\":\"####\",\"y\":{\"a\":\"####\"},\"usage\":{\"n\":\"####\"}}", LIMIT, MOST),
        PD_OK);
    assert_int_equal(fill(CHUNK("{\"index\":0,\"delta\":{\"content\":\"\"},\"filter\":{\"hate\":{\"filtered\":"
                                "false}},\"finish_reason\":\"####\"}"),
                          LIMIT, MOST),
                     PD_OK);
}

static void a_value_that_grows_is_not_kept_at_every_size(void **state)
{
    (void)state;
    struct collector *k = collector_new(&codec_openai_chat, 64 * 1024);
    struct buf chunk;
    assert_non_null(k);
    buf_init(&chunk, 0);
    for (int i = 1; i < 4000; i++) {
        buf_clear(&chunk);
        assert_int_equal(buf_printf(&chunk, "{\"x\":\"%0*d\"}", i, 0), PD_OK);
        assert_int_equal(collector_add(k, SPAN_NONE, (struct json){JSON_OBJECT, buf_span(&chunk)}), PD_OK);
    }
    buf_done(&chunk);
    collector_free(k);
}

static void a_limit_for_nothing_is_no_crash(void **state)
{
    (void)state;
    assert_null(collector_new(&codec_openai_chat, 8));
}

/* ---- and back ---------------------------------------------------------------------- */

static const struct {
    const char *name, *in;
    bool usage;
    const char *out;
} expansions[] = {
    {"text",
     "{\"id\":\"a\",\"object\":\"chat.completion\",\"model\":\"m\",\"x\":[1],\"choices\":[{\"index\":0,"
     "\"message\":{\"content\":\"hi\"},"
     "\"finish_reason\":\"stop\",\"k\":2}],\"usage\":{\"n\":1}}",
     true,
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"model\":\"m\",\"x\":[1],\"choices\":[{\"index\":0,"
     "\"delta\":{\"role\":\"assistant\","
     "\"content\":\"hi\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},"
     "\"finish_reason\":\"stop\",\"k\":2}],"
     "\"usage\":null}\n\n"
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"model\":\"m\",\"choices\":[],\"usage\":{\"n\":1}}"
     "\n\ndata: [DONE]\n\n"},
    {"usage that was not asked for", "{\"choices\":[],\"usage\":{\"n\":1}}", false, "data: [DONE]\n\n"},
    {"line ends between tokens",
     "{\"id\":\"a\",\n\"choices\":[{\"message\":{\"role\":\"tool\",\r\n\"content\":[\n{\"text\"\r:\r\"a\\nb\"}\n]}"
     "}]}",
     false,
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"tool\","
     "\"content\":[{\"text\":\"a\\nb\"}]},"
     "\"logprobs\":null,\"finish_reason\":null}]}\n\n"
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"
     "null}]}\n\ndata: [DONE]\n\n"},
    {"tool calls get an index",
     "{\"choices\":[{\"message\":{\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":"
     "1}}},"
     "{\"index\":0,\"id\":\"d\",\"function\":{\"arguments\":\"{}\"}}]}}]}",
     false,
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"tool_"
     "calls\":[{\"index\":0,\"id\":\"c\","
     "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},{\"index\":1,\"id\":\"d\",\"function\":{"
     "\"arguments\":\"{}\"}}]},\"logprobs\":null,"
     "\"finish_reason\":null}]}\n\n"
     "data: "
     "{\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":null}]}"
     "\n\ndata: [DONE]\n\n"},
};

static void one_answer_becomes_chunks(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(expansions) / sizeof(expansions[0]); i++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(answer_expand(&codec_openai_chat, span_str(expansions[i].in), expansions[i].usage, &out),
                         PD_OK);
        if (!span_is(buf_span(&out), expansions[i].out)) {
            print_error("%s: expected %s\n    got %.*s\n", expansions[i].name, expansions[i].out,
                        SPAN_FMT(buf_span(&out)));
            faults++;
        }
        buf_done(&out);
    }
    assert_int_equal(faults, 0);
}

static void what_is_no_answer_is_not_expanded(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(answer_expand(&codec_openai_chat, SPAN_LIT("{\"choices\":["), true, &out), PD_SYNTAX);
    assert_int_equal(answer_expand(&codec_openai_chat, SPAN_LIT("{\"error\":{}}"), true, &out), PD_INVALID);
    assert_int_equal(answer_expand(&codec_openai_chat, SPAN_LIT(""), true, &out), PD_SYNTAX);
    assert_int_equal(buf_size(&out), 0);
    buf_done(&out);
}

static void a_stream_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 100);
    assert_int_equal(buf_puts(&out, "before"), PD_OK);
    assert_int_equal(answer_expand(&codec_openai_chat, span_str(expansions[0].in), true, &out), PD_TOOBIG);
    assert_true(span_is(buf_span(&out), "before"));
    buf_done(&out);
}

/* ---- failed allocations ---------------------------------------------------------- */

static pd_err collect_all(void *ctx)
{
    (void)ctx;
    struct buf out;
    pd_err e = PD_OK;
    buf_init(&out, 0);
    for (size_t i = 0; !e && i < sizeof(rows) / sizeof(rows[0]); i++) {
        e = collect(span_str(rows[i].in), &out);
        buf_clear(&out);
    }
    for (size_t i = 0; !e && i < sizeof(expansions) / sizeof(expansions[0]); i++)
        e = answer_expand(&codec_openai_chat, span_str(expansions[i].in), true, &out);
    buf_done(&out);
    return e;
}

static void collecting_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(collect_all, NULL) >= 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_become_one_answer),
        cmocka_unit_test(what_grows_meets_the_limit),
        cmocka_unit_test(what_is_replaced_does_not_count_again),
        cmocka_unit_test(a_value_that_grows_is_not_kept_at_every_size),
        cmocka_unit_test(a_limit_for_nothing_is_no_crash),
        cmocka_unit_test(one_answer_becomes_chunks),
        cmocka_unit_test(what_is_no_answer_is_not_expanded),
        cmocka_unit_test(a_stream_that_does_not_fit_leaves_nothing),
        cmocka_unit_test(collecting_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
