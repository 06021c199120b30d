#include "base/mem.h"
#include "told.h"

#include <time.h>

#define HI                                                                                                      \
    "{\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":" \
    "null}]}"
#define ROLE "{\"id\":\"a\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}"
#define STOP "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}"
#define USE "{\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}"
#define D(json) "data: " json "\n\n"

/* What each event holds, and the bytes that go to the client. */
static const struct {
    const char *name, *in, *out, *end;
} rows[] = {
    {"the ordinary stream", D(ROLE) D(HI) D(STOP) D(USE) D("[DONE]"),
     "[start]" D(ROLE) "[output]" D(HI) "[finish]" D(STOP) "[usage+only]" D(USE) "[done]" D("[DONE]"), "complete"},
    {"the source's own bytes go on", "id: 7\r\nevent:message\r\ndata:" HI "\r\n\r\n",
     "[output]id: 7\r\nevent:message\r\ndata:" HI "\r\n\r\n", "cut"},
    {"an empty chunk behind output is no start", D(HI) D(ROLE), "[output]" D(HI) "[]" D(ROLE), "cut"},
    {"usage beside a finish reason is not alone",
     D("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}"),
     "[finish+usage]" D(
         "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}"),
     "empty"},
    {"usage before output does not stop the waiting",
     D("{\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}"),
     "[usage+start]" D("{\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}"), "cut"},
    {"null usage is none", D("{\"choices\":[],\"usage\":null}"), "[start]" D("{\"choices\":[],\"usage\":null}"),
     "cut"},
    {"usage without a number is none", D("{\"choices\":[],\"usage\":{}}"),
     "[start]" D("{\"choices\":[],\"usage\":{}}"), "cut"},
    {"keep-alives", ": wait\n\nevent: ping\n\ndata:\n\n",
     "[keepalive]: wait\n[keepalive]\nevent: ping\n\n[keepalive]data:\n\n", "empty"},
    {"a JSON line is framed", HI "\n", "[output]" D(HI), "cut"},
    {"a JSON line of usage is framed", USE "\n", "[usage+only]" D(USE), "cut"},
    {"a JSON line of something else is not for the client", "{\"hello\":1}\n", "[malformed]{\"hello\":1}\n",
     "empty"},
    {"[DONE] as a line is framed", HI "\n[DONE]", "[output]" D(HI) "[done]" D("[DONE]"), "cut"},
    {"an error as a line", HI "\n{\"error\":\"gone\"}", "[output]" D(HI) "[error]" D("{\"error\":\"gone\"}"),
     "failed"},
    {"joined objects are parted", "data: " ROLE "\ndata: " HI "\ndata: [DONE]\n\n",
     "[start]" D(ROLE) "[output]" D(HI) "[done]" D("[DONE]"), "cut"},
    {"objects in one line are parted", "data: " HI STOP "\n\n", "[output]" D(HI) "[finish]" D(STOP), "complete"},
    {"a bad one among joined ones is stepped over", "data: {\"choices\":[\ndata: " HI "\n\n",
     "[malformed]{\"choices\":[[output]" D(HI), "cut"},
    {"an object over two lines stays", "data: {\"choices\":\ndata: []}\n\n",
     "[start]data: {\"choices\":\ndata: []}\n\n", "cut"},
    {"joined, one over two lines", "data: {\"choices\":\ndata: []}\ndata: [DONE]\n\n",
     "[start]" D("{\"choices\": []}") "[done]" D("[DONE]"), "empty"},
    {"an error event", "event: error\ndata: {\"error\":{\"code\":1}}\n\n",
     "[error]event: error\ndata: {\"error\":{\"code\":1}}\n\n", "failed"},
    {"an error event of text", "event: error\ndata: no \"way\"\n\n", "[error]" D("{\"error\":\"no \\\"way\\\"\"}"),
     "failed"},
    {"an error beside a delta", D("{\"error\":{\"code\":1},\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"),
     "[output+error]" D("{\"error\":{\"code\":1},\"choices\":[{\"delta\":{\"content\":\"x\"}}]}"), "failed"},
    {"an error of groq's", D("{\"choices\":[],\"x_groq\":{\"error\":\"over\"}}"),
     "[error]" D("{\"choices\":[],\"x_groq\":{\"error\":\"over\"}}"), "failed"},
    {"a problem report", D("{\"status\":429,\"title\":\"Too Many Requests\"}"),
     "[error]" D("{\"status\":429,\"title\":\"Too Many Requests\"}"), "failed"},
    {"no JSON", D("{\"choices\":[") D("hello"), "[malformed]" D("{\"choices\":[") "[malformed]" D("hello"),
     "empty"},
    {"a scalar is no event", D("7"), "[malformed]" D("7"), "empty"},
    {"a tool call is output", D("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"c\"}]}}]}"),
     "[output]" D("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"c\"}]}}]}"), "cut"},
    {"sealed reasoning is output", D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"data\":\"QQ\"}]}}]}"),
     "[output]" D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"data\":\"QQ\"}]}}]}"), "cut"},
    {"empty reasoning is none",
     D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"text\":\"\",\"signature\":\"\"}]}}]}"),
     "[start]" D("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"text\":\"\",\"signature\":\"\"}]}}]}"),
     "cut"},
    {"an image is output", D("{\"choices\":[{\"delta\":{\"images\":[{}]}}]}"),
     "[output]" D("{\"choices\":[{\"delta\":{\"images\":[{}]}}]}"), "cut"},
    {"empty lists are none",
     D("{\"choices\":[{\"delta\":{\"images\":[],\"tool_calls\":[],\"annotations\":null}}]}"),
     "[start]" D("{\"choices\":[{\"delta\":{\"images\":[],\"tool_calls\":[],\"annotations\":null}}]}"), "cut"},
    {"a message in place of a delta",
     D("{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}"),
     "[output+finish]" D("{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}"),
     "complete"},
    {"a whole body with line ends is no stream", "{\n \"choices\": [\n {\"message\":{}}\n ]\n}\n",
     "[malformed]{\n \"choices\": [\n {\"message\":{}}\n ]\n}\n", "empty"},
    {"an error over many lines",
     D("{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}") "{\n  \"error\": {\n \"code\": 1\n  }\n}\n",
     "[output]" D("{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}") "[error]" D("{ \"error\": { \"code\": 1 } }"),
     "failed"},
    {"an error in a list over many lines", "[\n{\n\"error\": {\"code\": 1}\n}\n]\n",
     "[error]" D("{ \"error\": {\"code\": 1} }"), "failed"},
    {"an error over many lines, cut", "{\n\"error\": {\n", "[malformed]{\n\"error\": {\n", "empty"},
    {"an event behind half an error", "{\n\"error\": {\n" D("{\"choices\":[]}"),
     "[malformed]{\n\"error\": {\n[start]" D("{\"choices\":[]}"), "cut"},
};

static pd_err read_in(struct span a, struct span b, struct reading *r)
{
    pd_err e = reading_init(r, &codec_openai_chat, FRAMING_LINES, false);
    if (!e)
        e = reading_feed(r, a);
    if (!e)
        e = reading_feed(r, b);
    return e ? e : answer_finish(r->an, &r->end);
}

static void events_are_framed_for_the_client_at_every_split(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span in = span_str(rows[i].in);
        for (size_t at = 0; at <= in.n; at++) {
            struct reading r;
            assert_int_equal(read_in(span_upto(in, at), span_from(in, at), &r), PD_OK);
            if (!span_is(buf_span(&r.events), rows[i].out) || strcmp(end_name(r.end), rows[i].end) != 0) {
                print_error("%s, cut at %zu: expected %s %s\n    got %.*s %s\n", rows[i].name, at, rows[i].out,
                            rows[i].end, SPAN_FMT(buf_span(&r.events)), end_name(r.end));
                faults++;
                at = in.n;
            }
            reading_done(&r);
        }
    }
    assert_int_equal(faults, 0);
}

static void facts_are_valid_between_events(void **state)
{
    (void)state;
    struct reading r;
    assert_int_equal(reading_init(&r, &codec_openai_chat, FRAMING_LINES, false), PD_OK);
    const struct answer_facts *f = answer_facts(r.an);
    assert_int_equal(f->usage.input_total, -1);
    assert_int_equal(reading_feed(&r, SPAN_LIT(D(ROLE))), PD_OK);
    assert_false(f->has_output);
    assert_true(span_is(f->id, "a"));
    assert_int_equal(f->model.n, 0);
    assert_int_equal(reading_feed(&r, SPAN_LIT(D(HI) "data: {\"cho")), PD_OK);
    assert_true(f->has_output);
    assert_int_equal(f->output_bytes, 2);
    assert_int_equal(f->finish, MSG_FINISH_NONE);
    assert_int_equal(
        reading_feed(&r,
                     SPAN_LIT("ices\":[{\"finish_reason\":\"length\"}],\"usage\":{\"completion_tokens\":9}}\n\n")),
        PD_OK);
    assert_int_equal(f->finish, MSG_FINISH_LENGTH);
    assert_true(span_is(f->finish_raw, "length"));
    assert_true(span_is(f->usage_raw, "{\"completion_tokens\":9}"));
    assert_int_equal(f->events, 3);
    assert_int_equal(reading_feed(&r, SPAN_LIT(D("{\"choices\":[],\"usage\":{}}"))), PD_OK);
    assert_int_equal(f->usage.output_total, 9); /* a report that says nothing undoes nothing */
    reading_done(&r);
}

static void words_have_meanings(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        enum msg_finish finish;
    } words[] = {
        {"stop", MSG_FINISH_STOP},
        {"eos", MSG_FINISH_STOP},
        {"length", MSG_FINISH_LENGTH},
        {"model_length", MSG_FINISH_LENGTH},
        {"tool_calls", MSG_FINISH_TOOL_CALLS},
        {"function_call", MSG_FINISH_TOOL_CALLS},
        {"content_filter", MSG_FINISH_CONTENT_FILTER},
        {"insufficient_system_resource", MSG_FINISH_ERROR},
        {"error", MSG_FINISH_ERROR},
        {"moonlight", MSG_FINISH_OTHER},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct reading r;
        char in[256];
        snprintf(in, sizeof(in), "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n",
                 words[i].word);
        assert_int_equal(read_in(span_str(in), SPAN_NONE, &r), PD_OK);
        assert_int_equal(answer_facts(r.an)->finish, words[i].finish);
        assert_true(span_is(answer_facts(r.an)->finish_raw, words[i].word));
        reading_done(&r);
    }
}

static pd_err stop_at_output(void *ctx, const struct answer_event *ev)
{
    *(unsigned *)ctx += 1;
    return ev->holds & ANSWER_OUTPUT ? PD_CANCELLED : PD_OK;
}

static void what_the_callback_returns_ends_the_reading(void **state)
{
    (void)state;
    unsigned events = 0;
    struct answer *an = answer_new(&codec_openai_chat, FRAMING_LINES, stop_at_output, &events);
    assert_non_null(an);
    assert_int_equal(answer_feed(an, SPAN_LIT(D(ROLE) D(HI) D(HI))), PD_CANCELLED);
    assert_int_equal(events, 2);
    answer_free(an);
}

/* ---- limits ---------------------------------------------------------------------- */

static pd_err no_event(void *ctx, const struct answer_event *ev)
{
    (void)ctx, (void)ev;
    return PD_OK;
}

static void an_event_without_an_end_is_refused(void **state)
{
    (void)state;
    struct answer *an = answer_new(&codec_openai_chat, FRAMING_LINES, no_event, NULL);
    static char block[1 << 20];
    memset(block, 'x', sizeof(block));
    pd_err e = answer_feed(an, SPAN_LIT("data: "));
    for (int i = 0; !e && i < 64; i++)
        e = answer_feed(an, span_of(block, sizeof(block)));
    assert_int_equal(e, PD_TOOBIG);
    answer_free(an);
}

static void tool_calls_without_end_are_refused(void **state)
{
    (void)state;
    struct answer *an = answer_new(&codec_openai_chat, FRAMING_LINES, no_event, NULL);
    pd_err e = PD_OK;
    int i;
    for (i = 0; !e && i < 10000; i++) {
        char in[160];
        int n = snprintf(in, sizeof(in),
                         "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":%d,\"id\":\"c%d\"}]}}]}\n\n",
                         i, i);
        e = answer_feed(an, span_of(in, (size_t)n));
    }
    assert_int_equal(e, PD_TOOBIG);
    assert_int_equal(i, 4097);
    answer_free(an);
}

static void a_long_stream_keeps_nothing_of_it(void **state)
{
    (void)state;
    struct answer *an = answer_new(&codec_openai_chat, FRAMING_LINES, no_event, NULL);
    size_t blocks = 0;
    for (int i = 0; i < 20000; i++) {
        char in[512];
        int n = snprintf(in, sizeof(in),
                         "data: "
                         "{\"id\":\"id-%d\",\"model\":\"m%d\",\"choices\":[{\"index\":%d,\"delta\":{\"content\":"
                         "\"w\",\"tool_calls\":"
                         "[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":%d}}}]},"
                         "\"finish_reason\":\"r%d\"}],"
                         "\"usage\":{\"prompt_tokens\":%d}}\n\n",
                         i, i, i % 3, i, i, i);
        assert_int_equal(answer_feed(an, span_of(in, (size_t)n)), PD_OK);
        if (i == 10)
            blocks = mem_blocks();
    }
    assert_int_equal(mem_blocks(), blocks);
    answer_free(an);
}

/* ---- the hot path ------------------------------------------------------------------ */

static void a_chunk_takes_no_memory(void **state)
{
    (void)state;
    static const char chunk[] = "data: "
                                "{\"id\":\"chatcmpl-123456789012345678901234\",\"object\":\"chat.completion."
                                "chunk\",\"created\":1700000000,\"model\":\"toy\","
                                "\"system_fingerprint\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" "
                                "word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    struct answer *an = answer_new(&codec_openai_chat, FRAMING_LINES, no_event, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(answer_feed(an, span_str(chunk)), PD_OK);
    uint64_t taken = mem_count();
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    enum { TIMES = 20000 };
    for (int i = 0; i < TIMES; i++)
        assert_int_equal(answer_feed(an, span_str(chunk)), PD_OK);
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_int_equal(mem_count(), taken);
    print_message("%zu bytes in %.0f ns\n", sizeof(chunk) - 1,
                  ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / TIMES);
    answer_free(an);
}

/* ---- failed allocations ---------------------------------------------------------- */

static const char everything[] =
    ": wait\n\n" D(ROLE) HI "\ndata: " HI "\ndata: " HI "\n\nevent: error\ndata: text\n\n" D(
        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\"}]}}]}")
        D("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":{"
          "\"a\":1}}}]},\"finish_reason\":\"x\"}]}") D(USE) D("[DONE]");

static pd_err read_everything(void *ctx)
{
    (void)ctx;
    enum answer_end end;
    struct answer *an = answer_new(&codec_openai_chat, FRAMING_LINES, no_event, NULL);
    if (!an)
        return PD_NOMEM;
    pd_err e = PD_OK;
    for (size_t i = 0; !e && i + 1 < sizeof(everything); i += 50)
        e = answer_feed(an, span_upto(span_from(span_str(everything), i), 50));
    if (!e)
        e = answer_finish(an, &end);
    answer_free(an);
    return e;
}

static const char whole[] = "{\"id\":\"a\\u0041\",\"model\":\"m\\u0041\",\"choices\":[{\"message\":{\"content\":"
                            "\"x\",\"tool_calls\":[{\"id\":\"c\",\"function\":"
                            "{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},\"finish_reason\":\"s\\u0041\"}],"
                            "\"usage\":{\"prompt_tokens\":1}}";

static pd_err read_whole(void *ctx)
{
    struct arena a;
    struct answer_facts f;
    enum answer_end end;
    arena_init(&a, 16, 0);
    pd_err e = answer_read_whole(&codec_openai_chat, span_str(whole), &a, &f, &end, NULL, ctx);
    if (!e)
        e = answer_read_whole(&codec_openai_embeddings, SPAN_LIT("{\"model\":\"m\\u0041\",\"data\":[]}"), &a, &f,
                              &end, NULL, ctx);
    arena_done(&a);
    return e;
}

static void reading_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(read_everything, NULL) >= 8);
    assert_true(torture(read_whole, NULL) >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_framed_for_the_client_at_every_split),
        cmocka_unit_test(facts_are_valid_between_events),
        cmocka_unit_test(words_have_meanings),
        cmocka_unit_test(what_the_callback_returns_ends_the_reading),
        cmocka_unit_test(an_event_without_an_end_is_refused),
        cmocka_unit_test(tool_calls_without_end_are_refused),
        cmocka_unit_test(a_long_stream_keeps_nothing_of_it),
        cmocka_unit_test(a_chunk_takes_no_memory),
        cmocka_unit_test(reading_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
