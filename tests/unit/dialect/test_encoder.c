/* The encoders' driver, by way of the chat format: which block is open when, what waits, what is made up, what is kept for makers. */
#include "base/mem.h"
#include "dialect/encoder.h"
#include "dialect/keep.h"
#include "told.h"

#define TEXT(s)                                                    \
    {                                                              \
        .kind = MSG_TEXT, .tool = -1, .text = { s, sizeof(s) - 1 } \
    }
#define THINK(s)                                                        \
    {                                                                   \
        .kind = MSG_REASONING, .tool = -1, .text = { s, sizeof(s) - 1 } \
    }
#define START(n, i, s)                                                                            \
    {                                                                                             \
        .kind = MSG_TOOL_START, .tool = n, .text = {s, sizeof(s) - 1}, .id = { i, sizeof(i) - 1 } \
    }
#define ARGS(n, s)                                                          \
    {                                                                       \
        .kind = MSG_TOOL_ARGUMENTS, .tool = n, .text = { s, sizeof(s) - 1 } \
    }
#define SIGN(n, m, s)                                                              \
    {                                                                              \
        .kind = MSG_SIGNATURE, .tool = n, .maker = m, .text = { s, sizeof(s) - 1 } \
    }
#define SEAL(m, i, s)                                                                                      \
    {                                                                                                      \
        .kind = MSG_SEALED, .tool = -1, .maker = m, .text = {s, sizeof(s) - 1}, .id = { i, sizeof(i) - 1 } \
    }
#define OTHER(c, s)                                                             \
    {                                                                           \
        .kind = MSG_TEXT, .choice = c, .tool = -1, .text = { s, sizeof(s) - 1 } \
    }

enum { DELTAS = 12 };

/* What is told, and what the client's own reader makes of the bytes: the same, in the order in which blocks may stand. */
static const struct row {
    const char *name;
    struct msg_delta deltas[DELTAS];
    const char *whole; /* as told_put() says it, without the empty choices */
} rows[] = {
    {"text in pieces is one text", {TEXT("a"), TEXT("b\\n"), TEXT("c")}, "0 text(ab\\nc) reasoning() refusal()"},
    {"reasoning, then text", {THINK("hm"), THINK("m"), TEXT("x")}, "0 text(x) reasoning(hmm) refusal()"},
    {"a call",
     {START(0, "t1", "f"), ARGS(0, "{\\\"a\\\":"), ARGS(0, "1}")},
     "0 text() reasoning() refusal() tool(t1 f {\\\"a\\\":1})"},
    {"a call without arguments has an empty object",
     {START(0, "t1", "f")},
     "0 text() reasoning() refusal() tool(t1 f {})"},
    {"calls one after the other",
     {START(0, "t1", "f"), ARGS(0, "{}"), START(1, "t2", "g"), ARGS(1, "{\\\"b\\\":2}")},
     "0 text() reasoning() refusal() tool(t1 f {}) tool(t2 g {\\\"b\\\":2})"},
    {"calls whose arguments come in turn",
     {START(0, "t1", "f"), START(1, "t2", "g"), ARGS(1, "{\\\"b\\\":"), ARGS(0, "{\\\"a\\\":"), ARGS(1, "2}"),
      ARGS(0, "1}")},
     "0 text() reasoning() refusal() tool(t1 f {\\\"a\\\":1}) tool(t2 g {\\\"b\\\":2})"},
    {"text behind an unfinished call waits for it",
     {START(0, "t1", "f"), ARGS(0, "{\\\"a\\\":"), TEXT("x"), ARGS(0, "1}")},
     "0 text(x) reasoning() refusal() tool(t1 f {\\\"a\\\":1})"},
    {"several choices",
     {TEXT("a"), OTHER(1, "b"), OTHER(0, "c")},
     "0 text(ac) reasoning() refusal()\n1 text(b) "
     "reasoning() refusal()"},
    {"a refusal", {{.kind = MSG_REFUSAL, .tool = -1, .text = {"no", 2}}}, "0 text() reasoning() refusal(no)"},
};

static const struct encode_want want_stream = {.model = {"m", 1}, .id = {"abc", 3}, .created = 7, .stream = true};
static const struct encode_want want_whole = {.model = {"m", 1}, .id = {"abc", 3}, .created = 7};
static const struct answer_facts facts = {.finish = MSG_FINISH_STOP, .usage = {10, 2, -1, 5, 1}};

static pd_err tell(struct encoder *en, const struct msg_delta *deltas, unsigned most)
{
    struct span bytes;
    for (unsigned i = 0; i < most && (deltas[i].text.p || deltas[i].kind); i++)
        encoder_delta(en, &deltas[i]);
    return encoder_bytes(en, &bytes);
}

static void check_told(const struct row *row, const struct told *told, const char *how)
{
    struct buf got;
    buf_init(&got, 0);
    assert_int_equal(told_put(told, &got), PD_OK);
    struct span said = buf_span(&got);
    if (said.n < strlen(row->whole) || memcmp(said.p, row->whole, strlen(row->whole)) != 0)
        fail_msg("%s, %s: expected\n%s\ngot\n%.*s", row->name, how, row->whole, SPAN_FMT(said));
    buf_done(&got);
}

static void streamed_blocks_say_what_was_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct encoder *en = encoder_new(&codec_openai_chat, &want_stream, 1 << 20);
        struct reading r;
        struct span bytes;
        assert_non_null(en);
        assert_int_equal(reading_init(&r, &codec_openai_chat, FRAMING_LINES, false), PD_OK);
        assert_int_equal(tell(en, rows[i].deltas, DELTAS), PD_OK);
        assert_int_equal(encoder_end(en, &facts), PD_OK);
        assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
        assert_int_equal(reading_feed(&r, bytes), PD_OK);
        assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
        assert_int_equal(r.end, ANSWER_COMPLETE);
        assert_int_equal(answer_facts(r.an)->malformed, 0);
        check_told(&rows[i], r.told, "streamed");
        reading_done(&r);
        encoder_free(en);
    }
}

static void a_whole_answer_says_what_was_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct encoder *en = encoder_new(&codec_openai_chat, &want_whole, 1 << 20);
        struct buf out;
        struct arena a;
        struct answer_facts read;
        enum answer_end end;
        struct told *told = told_new();
        buf_init(&out, 0);
        arena_init(&a, 512, 0);
        assert_int_equal(tell(en, rows[i].deltas, DELTAS), PD_OK);
        assert_int_equal(encoder_whole(en, &facts, &out), PD_OK);
        assert_int_equal(
            answer_read_whole(&codec_openai_chat, buf_span(&out), &a, &read, &end, told_on_delta, told), PD_OK);
        assert_int_equal(end, ANSWER_COMPLETE);
        assert_int_equal(read.usage.input_total, 10);
        assert_int_equal(read.usage.output_total, 5);
        assert_int_equal(read.usage.cache_read, 2);
        check_told(&rows[i], told, "whole");
        told_free(told);
        arena_done(&a);
        buf_done(&out);
        encoder_free(en);
    }
}

/* A call streams while it is the oldest unfinished one; only what must wait does. */
static void arguments_stream_as_they_come(void **state)
{
    (void)state;
    struct encoder *en = encoder_new(&codec_openai_chat, &want_stream, 1 << 20);
    const struct msg_delta start = START(0, "t", "f"), piece = ARGS(0, "{\\\"a");
    struct span bytes;
    encoder_delta(en, &start);
    encoder_clear(en);
    encoder_delta(en, &piece);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_true(span_has(bytes, "{\\\"a"));
    encoder_free(en);
}

static void more_behind_a_whole_value_is_a_fault(void **state)
{
    (void)state;
    const struct msg_delta told[] = {START(0, "t", "f"), ARGS(0, "{}"), START(1, "u", "g"), ARGS(0, "{}")};
    struct encoder *en = encoder_new(&codec_openai_chat, &want_stream, 1 << 20);
    assert_int_equal(tell(en, told, 4), PD_SYNTAX);
    assert_int_equal(encoder_end(en, &facts), PD_SYNTAX);
    encoder_free(en);
}

static void ids_are_made_up_where_there_are_none(void **state)
{
    (void)state;
    const struct msg_delta told[] = {START(0, "", "f"), ARGS(0, "{}"), START(1, "", "g"), ARGS(1, "{}")};
    struct encoder *en = encoder_new(&codec_openai_chat, &want_stream, 1 << 20);
    struct span bytes;
    assert_int_equal(tell(en, told, 4), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_true(span_has(bytes, "\"" MSG_MADE_ID "abc_1\""));
    assert_true(span_has(bytes, "\"" MSG_MADE_ID "abc_2\""));
    encoder_free(en);
}

/* Where a line break ends an event, a provider's pretty printing must not. */
static void values_of_several_lines_are_written_on_one(void **state)
{
    const struct msg_delta told[] = {
        {.kind = MSG_LOGPROBS, .tool = -1, .text = SPAN_LIT("[\n {\"token\": \"a\",\r\n  \"logprob\": -1}\n]")},
        TEXT("a"),
        START(0, "t", "f"),
        ARGS(0, "{\\n \\\"a\\\": [1,\\r\\n 2]\\n}"),
    };
    struct encode_want want = want_stream;
    struct msg_request asked;
    static const struct {
        const struct codec *to;
        const char *logprobs, *more;
    } wants[] = {
        {&codec_openai_chat, "\"content\":[{\"token\": \"a\",  \"logprob\": -1}]", ""},
        {&codec_openai_responses, "\"logprobs\":[{\"token\": \"a\",  \"logprob\": -1}]",
         "\"schema\":{\"type\":\"object\"}"},
        {&codec_ollama, "\"logprobs\":[{\"token\": \"a\",  \"logprob\": -1}]", "\"arguments\":{ \"a\": [1, 2]}"},
        {&codec_gemini, "", "\"args\":{ \"a\": [1, 2]}"},
    };
    (void)state;
    msg_request_init(&asked);
    asked.format = MSG_FORMAT_SCHEMA;
    asked.format_schema = SPAN_LIT("{\n\"type\":\n\"object\"}");
    want.asked = &asked;
    for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
        struct encoder *en = encoder_new(wants[i].to, &want, 1 << 20);
        struct span bytes;
        assert_int_equal(tell(en, told, 4), PD_OK);
        assert_int_equal(encoder_end(en, &facts), PD_OK);
        assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
        assert_true(span_has(bytes, wants[i].logprobs));
        assert_true(span_has(bytes, wants[i].more));
        encoder_free(en);
    }
}

/* A tool whose name had to be made to fit the target is called by its own name again. */
static void the_client_sees_the_names_that_it_gave(void **state)
{
    (void)state;
    struct msg_tool tool = {.name = {"files_read_0", 12}, .client_name = {"files.read", 10}};
    struct msg_request asked = {.tools = &tool};
    struct encode_want want = want_stream;
    want.asked = &asked;
    const struct msg_delta told[] = {START(0, "t", "files_read_0"), START(1, "u", "other")};
    struct encoder *en = encoder_new(&codec_openai_chat, &want, 1 << 20);
    struct span bytes;
    assert_int_equal(tell(en, told, 2), PD_OK);
    assert_int_equal(encoder_end(en, &facts), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_true(span_has(bytes, "\"files.read\"") && span_has(bytes, "\"other\""));
    assert_false(span_has(bytes, "files_read_0"));
    encoder_free(en);
}

static void what_is_gathered_has_a_limit(void **state)
{
    (void)state;
    const struct msg_delta told[] = {TEXT("0123456789"), TEXT("0123456789")};
    struct encoder *en = encoder_new(&codec_openai_chat, &want_whole, 16);
    assert_int_equal(tell(en, told, 1), PD_NOMEM); /* not even a block fits */
    encoder_free(en);
    en = encoder_new(&codec_openai_chat, &want_whole, 1024);
    for (int i = 0; i < 200; i++)
        encoder_delta(en, &told[0]);
    assert_int_equal(tell(en, told, 1), PD_TOOBIG);
    encoder_free(en);
}

/* ---- what makers want back ------------------------------------------------------------ */

struct kept {
    struct buf said;
};

static void on_kept(void *ctx, struct span id, enum msg_maker maker, struct span blob)
{
    struct kept *k = ctx;
    assert_int_equal(buf_printf(&k->said, "%.*s %s %.*s\n", SPAN_FMT(id), msg_maker_name(maker), SPAN_FMT(blob)),
                     PD_OK);
    assert_int_equal(json_check(blob), PD_OK);
}

static void reasoning_and_signatures_are_kept_with_their_call(void **state)
{
    (void)state;
    static const struct {
        struct msg_delta deltas[8];
        const char *kept;
    } told[] = {
        {{THINK("why"), SIGN(-1, MSG_MAKER_ANTHROPIC, "S1"), SEAL(MSG_MAKER_ANTHROPIC, "", "R"), TEXT("x"),
          START(0, "t1", "f"), START(1, "t2", "f")},
         "t1 anthropic "
         "{\"reasoning\":[{\"text\":\"why\",\"signature\":\"S1\"},{\"sealed\":\"R\",\"id\":\"\"}]}\n"},
        {{THINK("why"), START(0, "t1", "f"), SIGN(0, MSG_MAKER_GEMINI, "G"), START(1, "t2", "f")},
         "t1 gemini {\"signature\":\"G\"}\n"},
        {{SEAL(MSG_MAKER_OPENAI, "rs_1", "E"), START(0, "t1", "f"), ARGS(0, "{}"),
          SEAL(MSG_MAKER_OPENAI, "rs_2", "F"), START(1, "t2", "f")},
         "t1 openai {\"reasoning\":[{\"sealed\":\"E\",\"id\":\"rs_1\"}]}\n"
         "t2 openai {\"reasoning\":[{\"sealed\":\"F\",\"id\":\"rs_2\"}]}\n"},
        {{SIGN(-1, MSG_MAKER_ANTHROPIC, "S"), START(0, "t1", "f")},
         "t1 anthropic {\"reasoning\":[{\"text\":\"\",\"signature\":\"S\"}]}\n"},
        {{THINK("unsigned"), START(0, "t1", "f")}, ""},
    };
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        for (int streamed = 0; streamed < 2; streamed++) {
            struct kept k;
            struct buf out;
            buf_init(&k.said, 0);
            buf_init(&out, 0);
            struct encoder *en = encoder_new(&codec_openai_chat, streamed ? &want_stream : &want_whole, 1 << 20);
            assert_int_equal(tell(en, told[i].deltas, 8), PD_OK);
            assert_int_equal(streamed ? encoder_end(en, &facts) : encoder_whole(en, &facts, &out), PD_OK);
            assert_int_equal(encoder_each_kept(en, on_kept, &k), PD_OK);
            assert_int_equal(buf_size(&k.said), strlen(told[i].kept));
            assert_memory_equal(buf_span(&k.said).p, told[i].kept, strlen(told[i].kept));
            encoder_free(en);
            buf_done(&k.said);
            buf_done(&out);
        }
    }
}

/* ---- steady state ---------------------------------------------------------------------- */

static const struct spoken {
    const struct codec *codec;
    enum framing framing;
} spoken[] = {
    {&codec_openai_chat, FRAMING_LINES}, {&codec_openai_responses, FRAMING_LINES},
    {&codec_anthropic, FRAMING_LINES},   {&codec_gemini, FRAMING_LINES},
    {&codec_ollama, FRAMING_LINES},      {&codec_bedrock_converse, FRAMING_EVENTSTREAM},
};
enum { SPOKEN = sizeof(spoken) / sizeof(spoken[0]), WORDS = 2000, WARM = 200 };

struct steady {
    struct encoder *en;
    unsigned events;
    uint64_t warm_count, last_count; /* allocations after WARM events, and now */
};

static pd_err on_steady(void *ctx, const struct answer_event *ev)
{
    struct steady *s = ctx;
    struct span bytes;
    (void)ev;
    assert_int_equal(encoder_bytes(s->en, &bytes), PD_OK);
    encoder_clear(s->en);
    if (++s->events == WARM)
        s->warm_count = mem_count();
    if (s->events < WORDS)
        s->last_count = mem_count();
    return PD_OK;
}

/* A long text of many events in that format. */
static void speak(const struct codec *c, struct buf *out)
{
    const struct msg_delta word = TEXT("word\\n ");
    struct encoder *en = encoder_new(c, &want_stream, 1 << 20);
    struct span bytes;
    for (int i = 0; i < WORDS; i++)
        encoder_delta(en, &word);
    assert_int_equal(encoder_end(en, &facts), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_int_equal(buf_add(out, bytes), PD_OK);
    encoder_free(en);
}

/* Formats that say all of the text again at the end keep it: their memory grows by doubling, which is no allocation an event. */
static void no_event_of_a_long_answer_allocates(void **state)
{
    (void)state;
    for (unsigned from = 0; from < SPOKEN; from++) {
        struct buf stream;
        buf_init(&stream, 0);
        speak(spoken[from].codec, &stream);
        for (unsigned to = 0; to < SPOKEN; to++) {
            struct steady s = {.en = encoder_new(spoken[to].codec, &want_stream, 1 << 20)};
            struct answer *an = answer_new(spoken[from].codec, spoken[from].framing, on_steady, &s);
            enum answer_end end;
            answer_on_delta(an, encoder_delta, s.en);
            for (struct span rest = buf_span(&stream); rest.n; rest = span_from(rest, 1400)) /* as packets come */
                assert_int_equal(answer_feed(an, span_upto(rest, 1400)), PD_OK);
            assert_int_equal(answer_finish(an, &end), PD_OK);
            assert_int_equal(end, ANSWER_COMPLETE);
            assert_true(s.events >= WORDS);
            if (s.last_count - s.warm_count > 12)
                fail_msg("%s to %s: %llu allocations in %u events", spoken[from].codec->name,
                         spoken[to].codec->name, (unsigned long long)(s.last_count - s.warm_count),
                         (unsigned)(WORDS - WARM));
            answer_free(an);
            encoder_free(s.en);
        }
        buf_done(&stream);
    }
}

static void blocks_have_a_limit(void **state)
{
    (void)state;
    static const struct msg_delta turns[] = {TEXT("a"), THINK("b")};
    struct encoder *en = encoder_new(&codec_openai_chat, &want_stream, 64 << 20);
    struct span bytes;
    assert_non_null(en);
    for (unsigned i = 0; i < ENCODER_BLOCKS_MAX; i++) {
        encoder_delta(en, &turns[i % 2]);
        assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
        encoder_clear(en);
    }
    encoder_delta(en, &turns[1]); /* goes on in the last one */
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    encoder_delta(en, &turns[0]);
    assert_int_equal(encoder_bytes(en, &bytes), PD_TOOBIG);
    encoder_free(en);
}

/* Each new block asks again: only so often, and never twice for an answer that ends. */
static void arguments_are_looked_at_for_their_end_within_a_limit(void **state)
{
    (void)state;
    static char spaces[8192];
    static const struct msg_delta start = START(0, "t", "f"), rest = ARGS(0, "\\\"a\\\":1}"),
                                  turns[] = {TEXT("a"), THINK("b")};
    const struct msg_delta half = {.kind = MSG_TOOL_ARGUMENTS, .text = {spaces, sizeof(spaces)}};
    memset(spaces, ' ', sizeof(spaces));
    spaces[0] = '{';
    struct encoder *en = encoder_new(&codec_anthropic, &want_stream, 8 << 20);
    struct span bytes;
    assert_non_null(en);
    encoder_delta(en, &start);
    encoder_delta(en, &half);
    for (unsigned i = 0; i < 8000; i++)
        encoder_delta(en, &turns[i % 2]);
    encoder_delta(en, &rest);
    assert_int_equal(encoder_end(en, &facts), PD_OK);
    assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
    assert_true(span_has(bytes, "\"partial_json\":\"\\\"a\\\":1}\""));
    assert_true(span_has(bytes, "message_stop"));
    encoder_free(en);
}

/* ---- out of memory ------------------------------------------------------------------- */

static pd_err encode_one(void *ctx)
{
    const struct row *row = ctx;
    struct encoder *en = encoder_new(&codec_openai_chat, &want_stream, 1 << 20);
    pd_err e = en ? tell(en, row->deltas, DELTAS) : PD_NOMEM;
    if (!e)
        e = encoder_end(en, &facts);
    encoder_free(en);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct row row = rows[i];
        assert_true(torture(encode_one, &row) >= 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streamed_blocks_say_what_was_told),
        cmocka_unit_test(a_whole_answer_says_what_was_told),
        cmocka_unit_test(arguments_stream_as_they_come),
        cmocka_unit_test(more_behind_a_whole_value_is_a_fault),
        cmocka_unit_test(ids_are_made_up_where_there_are_none),
        cmocka_unit_test(values_of_several_lines_are_written_on_one),
        cmocka_unit_test(the_client_sees_the_names_that_it_gave),
        cmocka_unit_test(what_is_gathered_has_a_limit),
        cmocka_unit_test(blocks_have_a_limit),
        cmocka_unit_test(arguments_are_looked_at_for_their_end_within_a_limit),
        cmocka_unit_test(reasoning_and_signatures_are_kept_with_their_call),
        cmocka_unit_test(no_event_of_a_long_answer_allocates),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
