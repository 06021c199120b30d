/* Bedrock's InvokeModel: what each family of models says, in chunks and whole; Claude's events for clients of Anthropic's format. */
#include "parse/base64.h"
#include "parse/eventstream.h"
#include "told.h"

#include <string.h>

#define METRICS "\"amazon-bedrock-invocationMetrics\":{\"inputTokenCount\":3,\"outputTokenCount\":2}"

enum { EVENTS_MAX = 8 };

static const struct row {
    const char *name;
    const char *events[EVENTS_MAX];
    const char *said; /* end, facts and deltas of choice 0 */
} rows[] = {
    {"Titan",
     {"{\"outputText\":\"a\\u00e9\",\"index\":0,\"completionReason\":null}",
      "{\"outputText\":\"b\",\"completionReason\":\"FINISH\"," METRICS "}"},
     "complete id() model() finish(stop FINISH) usage(3 -1 -1 2 -1)\n0 text(a\\u00e9b) reasoning() refusal()"},
    {"Llama",
     {"{\"generation\":\"a\",\"stop_reason\":null}",
      "{\"generation\":\"\",\"stop_reason\":\"length\"," METRICS "}"},
     "complete id() model() finish(length length) usage(3 -1 -1 2 -1)\n0 text(a) reasoning() refusal()"},
    {"Mistral",
     {"{\"outputs\":[{\"text\":\"a\",\"stop_reason\":null}]}",
      "{\"outputs\":[{\"text\":\"b\",\"stop_reason\":\"stop\"}]," METRICS "}"},
     "complete id() model() finish(stop stop) usage(3 -1 -1 2 -1)\n0 text(ab) reasoning() refusal()"},
    {"Cohere",
     {"{\"text\":\"a\",\"is_finished\":false}",
      "{\"is_finished\":true,\"finish_reason\":\"COMPLETE\"," METRICS "}"},
     "complete id() model() finish(stop COMPLETE) usage(3 -1 -1 2 -1)\n0 text(a) reasoning() refusal()"},
    {"Claude of old",
     {"{\"completion\":\"a\",\"stop_reason\":null}",
      "{\"completion\":\"\",\"stop_reason\":\"stop_sequence\"," METRICS "}"},
     "complete id() model() finish(stop stop_sequence) usage(3 -1 -1 2 -1)\n0 text(a) reasoning() refusal()"},
    {"OpenAI's kind",
     {"{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}",
      "{\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]," METRICS "}"},
     "complete id(c) model() finish(stop stop) usage(-1 -1 -1 -1 -1)\n0 text(a) reasoning() refusal()"},
    {"Nova",
     {"{\"messageStart\":{\"role\":\"assistant\"}}",
      "{\"contentBlockDelta\":{\"delta\":{\"text\":\"a\"},\"contentBlockIndex\":0}}",
      "{\"contentBlockStart\":{\"start\":{\"toolUse\":{\"toolUseId\":\"t\",\"name\":\"f\"}},\"contentBlockIndex\":"
      "1}}",
      "{\"contentBlockDelta\":{\"delta\":{\"toolUse\":{\"input\":\"{}\"}},\"contentBlockIndex\":1}}",
      "{\"messageStop\":{\"stopReason\":\"tool_use\"}}",
      "{\"metadata\":{\"usage\":{\"inputTokens\":3,\"outputTokens\":2,\"cacheReadInputTokenCount\":4}}," METRICS
      "}"},
     "complete id() model() finish(tool_calls tool_use) usage(7 4 -1 2 -1)\n0 text(a) reasoning() refusal() "
     "tool(t f {})"},
    {"Claude",
     {"{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"x\",\"usage\":{\"input_tokens\":3}}}",
      "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
      "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}",
      "{\"type\":\"content_block_stop\",\"index\":0}",
      "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}",
      "{\"type\":\"message_stop\"," METRICS "}"},
     "complete id(m) model(x) finish(stop end_turn) usage(3 -1 -1 2 -1)\n0 text(a) reasoning() refusal()"},
    {"Nova without its stop",
     {"{\"contentBlockDelta\":{\"delta\":{\"text\":\"a\"}}}"},
     "cut id() model() finish(none ) usage(-1 -1 -1 -1 -1)\n0 text(a) reasoning() refusal()"},
    {"Titan without its end",
     {"{\"outputText\":\"a\",\"completionReason\":null}"},
     "cut id() model() finish(none ) usage(-1 -1 -1 -1 -1)\n0 text(a) reasoning() refusal()"},
    {"Cohere gave up",
     {"{\"text\":\"a\"}", "{\"is_finished\":true,\"finish_reason\":\"ERROR\"," METRICS "}"},
     "cut id() model() finish(error ERROR) usage(3 -1 -1 2 -1)\n0 text(a) reasoning() refusal()"},
    {"a family that nobody knows",
     {"{\"image\":\"...\"}", "{" METRICS "}"},
     "complete id() model() finish(none ) usage(3 -1 -1 2 -1)\n0 text() reasoning() refusal()"},
};

static void put_chunk(struct buf *out, const char *inner)
{
    struct buf payload;
    buf_init(&payload, 0);
    assert_int_equal(buf_puts(&payload, "{\"bytes\":\""), PD_OK);
    assert_int_equal(base64_encode(span_str(inner), &payload), PD_OK);
    assert_int_equal(buf_puts(&payload, "\",\"p\":\"abcdef\"}"), PD_OK);
    assert_int_equal(
        eventstream_put(out, "event", SPAN_LIT("chunk"), SPAN_LIT("application/json"), buf_span(&payload)), PD_OK);
    buf_done(&payload);
}

static pd_err read_in(const struct codec *c, enum framing framing, struct span bytes, size_t cut,
                      struct reading *r)
{
    pd_err e = reading_init(r, c, framing, false);
    if (!e)
        e = reading_feed(r, span_upto(bytes, cut));
    if (!e)
        e = reading_feed(r, span_from(bytes, cut));
    return e ? e : answer_finish(r->an, &r->end);
}

static struct span said(const struct reading *r, struct buf *out)
{
    buf_clear(out);
    assert_int_equal(buf_printf(out, "%s ", end_name(r->end)), PD_OK);
    assert_int_equal(facts_put(answer_facts(r->an), out), PD_OK);
    assert_int_equal(told_put(r->told, out), PD_OK);
    struct span rest = buf_span(out);
    (void)span_cut(&rest, '\n');
    (void)span_cut(&rest, '\n');
    return span_of(buf_span(out).p, buf_size(out) - rest.n - 1);
}

static void each_family_is_understood_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf stream, got;
        buf_init(&stream, 0);
        buf_init(&got, 0);
        for (size_t k = 0; k < EVENTS_MAX && rows[i].events[k]; k++)
            put_chunk(&stream, rows[i].events[k]);
        for (size_t cut = 0; cut <= buf_size(&stream); cut++) {
            struct reading r;
            assert_int_equal(read_in(&codec_bedrock_invoke, FRAMING_CHUNKS, buf_span(&stream), cut, &r), PD_OK);
            struct span is = said(&r, &got);
            if (!span_is(is, rows[i].said))
                fail_msg("%s, cut at %zu:\n%.*s", rows[i].name, cut, SPAN_FMT(is));
            assert_true(span_eq(buf_span(&r.raw), buf_span(&stream))); /* who speaks it gets the frames */
            reading_done(&r);
        }
        buf_done(&stream);
        buf_done(&got);
    }
}

static void whole_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *body, *text, *finish;
        int64_t input, output;
        enum answer_end end;
    } bodies[] = {
        {"{\"inputTextTokenCount\":3,\"results\":[{\"tokenCount\":2,\"outputText\":\"a\",\"completionReason\":"
         "\"LENGTH\"}]}",
         "a", "length", 3, 2, ANSWER_COMPLETE},
        {"{\"generation\":\"a\",\"prompt_token_count\":3,\"generation_token_count\":2,\"stop_reason\":\"stop\"}",
         "a", "stop", 3, 2, ANSWER_COMPLETE},
        {"{\"outputs\":[{\"text\":\"a\",\"stop_reason\":\"stop\"}]}", "a", "stop", -1, -1, ANSWER_COMPLETE},
        {"{\"generations\":[{\"text\":\"a\",\"finish_reason\":\"COMPLETE\"}]}", "a", "stop", -1, -1,
         ANSWER_COMPLETE},
        {"{\"choices\":[{\"text\":\"a\",\"stop_reason\":\"length\"}]}", "a", "length", -1, -1, ANSWER_COMPLETE},
        {"{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_"
         "tokens\":3,"
         "\"completion_tokens\":2}}",
         "a", "stop", 3, 2, ANSWER_COMPLETE},
        {"{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"stop_reason\":\"end_turn\","
         "\"usage\":{"
         "\"input_tokens\":3,\"output_tokens\":2}}",
         "a", "stop", 3, 2, ANSWER_COMPLETE},
        {"{\"output\":{\"message\":{\"content\":[{\"text\":\"a\"}]}},\"stopReason\":\"end_turn\",\"usage\":{"
         "\"inputTokens\":3,\"outputTokens\":2}}",
         "a", "stop", 3, 2, ANSWER_COMPLETE},
        {"{\"embedding\":[1]}", "", "none", -1, -1, ANSWER_COMPLETE},
        {"{\"message\":\"no\"}", "", "none", -1, -1, ANSWER_FAILED},
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct answer_facts f;
        enum answer_end end;
        struct arena a;
        struct told *told = told_new();
        arena_init(&a, 0, 0);
        assert_int_equal(
            answer_read_whole(&codec_bedrock_invoke, span_str(bodies[i].body), &a, &f, &end, told_on_delta, told),
            PD_OK);
        bool same = span_is(buf_span(&told->choices[0].text), bodies[i].text) &&
                    strcmp(msg_finish_name(f.finish), bodies[i].finish) == 0 &&
                    f.usage.input_total == bodies[i].input && f.usage.output_total == bodies[i].output &&
                    end == bodies[i].end;
        if (!same)
            fail_msg("%s: %.*s %s %lld %lld %s", bodies[i].body, SPAN_FMT(buf_span(&told->choices[0].text)),
                     msg_finish_name(f.finish), (long long)f.usage.input_total, (long long)f.usage.output_total,
                     end_name(end));
        told_free(told);
        arena_done(&a);
    }
}

/* Claude's chunks, read for a client of Anthropic's own format: it gets server-sent events. */
static void anthropics_clients_get_events(void **state)
{
    (void)state;
    struct buf stream, want;
    buf_init(&stream, 0);
    buf_init(&want, 0);
    put_chunk(&stream, "{\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}");
    put_chunk(
        &stream,
        "{\"type\":\"content_block_delta\",\"index\":0,\n\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}");
    put_chunk(&stream, "{\"type\":\"message_stop\"," METRICS "}");
    assert_int_equal(eventstream_put(&stream, "exception", SPAN_LIT("modelTimeoutException"), SPAN_NONE,
                                     SPAN_LIT("{\"message\":\"late\"}")),
                     PD_OK);
    assert_int_equal(
        buf_puts(&want,
                 "[start]event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n"
                 "[output]event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0, "
                 "\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n"
                 "[done]event: message_stop\ndata: {\"type\":\"message_stop\"," METRICS "}\n\n"
                 "[error]event: error\ndata: {\"__type\":\"modelTimeoutException\",\"message\":\"late\"}\n\n"),
        PD_OK);
    for (size_t cut = 0; cut <= buf_size(&stream); cut++) {
        struct reading r;
        assert_int_equal(read_in(&codec_anthropic, FRAMING_CHUNKS, buf_span(&stream), cut, &r), PD_OK);
        if (!span_eq(buf_span(&r.events), buf_span(&want)))
            fail_msg("cut at %zu:\n%.*s", cut, SPAN_FMT(buf_span(&r.events)));
        reading_done(&r);
    }
    buf_done(&stream);
    buf_done(&want);
}

static void what_is_no_chunk_is_malformed(void **state)
{
    (void)state;
    static const char *const payloads[] = {
        "{\"bytes\":\"e30\"}",     "{\"bytes\":\"e30=\\n\"}", "{\"bytes\":7}", "{}", "{\"bytes\":\"W10=\"}", "[]",
        "{\"bytes\":\"e30=e30=\"}"};
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        struct buf b;
        struct reading r;
        buf_init(&b, 0);
        assert_int_equal(eventstream_put(&b, "event", SPAN_LIT("chunk"), SPAN_NONE, span_str(payloads[i])), PD_OK);
        assert_int_equal(read_in(&codec_bedrock_invoke, FRAMING_CHUNKS, buf_span(&b), 0, &r), PD_OK);
        if (answer_facts(r.an)->malformed != 1)
            fail_msg("%s was taken", payloads[i]);
        reading_done(&r);
        buf_done(&b);
    }
}

static void requests_pass_as_they_are(void **state)
{
    (void)state;
    struct arena a;
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX],
        body = SPAN_LIT(" {\"inputText\" : \"x\",\"max_tokens\":5,\"tools\":[{}]}\n");
    unsigned count;
    const char *why;
    struct request_line line = {.model = SPAN_LIT("m"), .stream = true};
    struct request_edit ed = {.model = SPAN_LIT("n"), .force_stream = true, .strip_foreign = true};
    arena_init(&a, 0, 0);
    assert_int_equal(codec_bedrock_invoke.read_request(body, &line, &a, &f, &why), PD_OK);
    assert_true(f.stream && f.tools && f.max_tokens == 5 && span_is(f.model, "m"));
    assert_int_equal(codec_bedrock_invoke.edit_request(&f, &ed, &a, parts, &count), PD_OK);
    assert_int_equal(count, 1);
    assert_true(span_eq(parts[0], body));
    arena_done(&a);
}

static pd_err read_work(void *ctx)
{
    struct reading r;
    pd_err e = read_in(&codec_bedrock_invoke, FRAMING_CHUNKS, buf_span(ctx), buf_size(ctx) / 2, &r);
    if (!e)
        e = r.told->err;
    reading_done(&r);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf stream;
        buf_init(&stream, 0);
        for (size_t k = 0; k < EVENTS_MAX && rows[i].events[k]; k++)
            put_chunk(&stream, rows[i].events[k]);
        assert_true(torture(read_work, &stream) >= 4);
        buf_done(&stream);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_family_is_understood_at_every_split),
        cmocka_unit_test(whole_bodies),
        cmocka_unit_test(anthropics_clients_get_events),
        cmocka_unit_test(what_is_no_chunk_is_malformed),
        cmocka_unit_test(requests_pass_as_they_are),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
