/* Gemini's generateContent: requests in and out, answers in and out, edits, errors, counting, embeddings.
 *
 * tests/fixtures/translation/gemini.json has the requests: what comes in, in which format, and what goes out. */
#include "dialect/embed.h"
#include "dialect/gemini.h"
#include "respoken.h"
#include "translation_rows.h"

/* ---- requests into other requests ---------------------------------------------------- */

#define ROWS "tests/fixtures/translation/gemini.json"

static void requests_become_what_the_file_says(void **state)
{
    (void)state;
    translations_each(ROWS, translation_check);
}

static void translating_survives_every_failed_allocation(void **state)
{
    (void)state;
    translations_each(ROWS, translation_torture);
}

/* ---- answers --------------------------------------------------------------------------- */

#define E(object) "data: {" object "}\r\n\r\n"
#define C(members) "\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[" members "]}}]"
#define FIN(word)                                                                                                 \
    "\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"" word "\"" \
    "}]"
#define NAMES "\"modelVersion\":\"g\",\"responseId\":\"r\""
#define USED                                                                                              \
    "\"usageMetadata\":{\"promptTokenCount\":5,\"cachedContentTokenCount\":2,\"candidatesTokenCount\":7," \
    "\"thoughtsTokenCount\":4,\"totalTokenCount\":16}"
#define HEAD "id(r) model(g) finish"
#define USAGE " usage(5 2 -1 11 4)\n"
#define NOTHING " usage(-1 -1 -1 -1 -1)\n"

static const struct stream_row {
    const char *name, *in, *facts, *said, *end;
} stream_rows[] = {
    {"text", E(C("{\"text\":\"a\"}") "," NAMES) E(C("{\"text\":\"b\\n\"}") "," NAMES) E(FIN("STOP") "," USED),
     HEAD "(stop STOP)" USAGE, "text(ab\\n) reasoning() refusal()", "complete"},
    {"thoughts and their signature",
     E(C("{\"text\":\"hm\",\"thought\":true}") "," NAMES)
         E(C("{\"text\":\"a\",\"thoughtSignature\":\"c2ln\"}") "," NAMES) E(FIN("STOP") "," USED),
     HEAD "(stop STOP)" USAGE, "text(a) reasoning(hm) refusal() others(<signature -1 gemini c2ln||>)", "complete"},
    {"a call, whole in one part",
     E(C("{\"functionCall\":{\"name\":\"f\",\"args\":{\"a\":\"\\\"\"},\"id\":\"k1\"},\"thoughtSignature\":"
         "\"c2ln\"}") "," NAMES) E(FIN("STOP") "," USED),
     HEAD "(tool_calls STOP)" USAGE,
     "text() reasoning() refusal() tool(k1 f {\\\"a\\\":\\\"\\\\\\\"\\\"}) others(<signature 0 gemini c2ln||>)",
     "complete"},
    {"calls without ids, of which only the first is signed",
     E(C("{\"functionCall\":{\"name\":\"f\",\"args\":{}},\"thoughtSignature\":\"c2ln\"},{\"functionCall\":{"
         "\"name\":\"g\"}}") "," NAMES) E(FIN("STOP") "," USED),
     HEAD "(tool_calls STOP)" USAGE,
     "text() reasoning() refusal() tool( f {}) tool( g {}) others(<signature 0 gemini c2ln||>)", "complete"},
    {"the limit cuts a call",
     E(C("{\"functionCall\":{\"name\":\"f\",\"args\":{}}}") "," NAMES) E(FIN("MAX_TOKENS")),
     HEAD "(length MAX_TOKENS)" NOTHING, "text() reasoning() refusal() tool( f {})", "complete"},
    {"a finish reason in the middle",
     E(FIN("STOP") "," NAMES) E(C("{\"text\":\"a\"}")) E(FIN("MAX_TOKENS") "," USED),
     HEAD "(length MAX_TOKENS)" USAGE, "text(a) reasoning() refusal()", "complete"},
    {"no finish reason", E(C("{\"text\":\"a\"}") "," NAMES "," USED), HEAD "(none )" USAGE,
     "text(a) reasoning() refusal()", "cut"},
    {"an end without a word", E(FIN("STOP") "," NAMES "," USED), HEAD "(stop STOP)" USAGE,
     "text() reasoning() refusal()", "empty"},
    {"an end with nothing but a signature",
     E("\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\",\"thoughtSignature\":\"c2ln\"}]},\"finishReason\":"
       "\"STOP\"}]," NAMES),
     HEAD "(stop STOP)" NOTHING, "text() reasoning() refusal() others(<signature -1 gemini c2ln||>)", "empty"},
    {"all tokens went into thoughts", E(FIN("MAX_TOKENS") "," NAMES "," USED), HEAD "(length MAX_TOKENS)" USAGE,
     "text() reasoning() refusal()", "complete"},
    {"reasons as numbers", E(C("{\"text\":\"a\"}") "," NAMES) E("\"candidates\":[{\"finishReason\":2}]"),
     HEAD "(length MAX_TOKENS)" NOTHING, "text(a) reasoning() refusal()", "complete"},
    {"0 is none", E(C("{\"text\":\"a\"}") "," NAMES) E("\"candidates\":[{\"finishReason\":0}]"),
     HEAD "(none )" NOTHING, "text(a) reasoning() refusal()", "cut"},
    {"of which those from 9 on mean one thing here and another there",
     E(C("{\"text\":\"a\"}") "," NAMES) E("\"candidates\":[{\"finishReason\":9}]"), HEAD "(other OTHER)" NOTHING,
     "text(a) reasoning() refusal()", "complete"},
    {"a prompt that is blocked", E("\"promptFeedback\":{\"blockReason\":\"SAFETY\"}," NAMES),
     HEAD "(content_filter SAFETY)" NOTHING, "text() reasoning() refusal()", "complete"},
    {"feedback that blocks nothing",
     E("\"promptFeedback\":{\"safetyRatings\":[]}," C("{\"text\":\"a\"}") "," NAMES) E(FIN("STOP")),
     HEAD "(stop STOP)" NOTHING, "text(a) reasoning() refusal()", "complete"},
    {"filtered", E(C("{\"text\":\"a\"}") "," NAMES) E("\"candidates\":[{\"finishReason\":\"RECITATION\"}]"),
     HEAD "(content_filter RECITATION)" NOTHING, "text(a) reasoning() refusal()", "complete"},
    {"a call that was no call", E("\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\"}]," NAMES),
     HEAD "(error MALFORMED_FUNCTION_CALL)" NOTHING, "text() reasoning() refusal()", "empty"},
    {"giving up after text", E(C("{\"text\":\"a\"}") "," NAMES) E(FIN("UNEXPECTED_TOOL_CALL")),
     HEAD "(error UNEXPECTED_TOOL_CALL)" NOTHING, "text(a) reasoning() refusal()", "cut"},
    {"an error event",
     E(C("{\"text\":\"a\"}") "," NAMES) E("\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}"),
     HEAD "(none )" NOTHING, "text(a) reasoning() refusal()", "failed"},
    {"two candidates, one of which does not end",
     E("\"candidates\":[{\"index\":0,\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"},"
       "{\"index\":1,\"content\":{\"parts\":[{\"text\":\"b\"}]}}]," NAMES),
     HEAD "(stop STOP)" NOTHING, "text(a) reasoning() refusal()", "cut"},
    {"a picture", E(C("{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"AAAA\"}}") "," NAMES) E(FIN("STOP")),
     HEAD "(stop STOP)" NOTHING, "text() reasoning() refusal() others(<media -1 none AAAA||image/png>)",
     "complete"},
    {"sources, told twice",
     E(C("{\"text\":\"a\"}") "," NAMES) E("\"candidates\":[{\"groundingMetadata\":{\"groundingChunks\":[{\"web\":{"
                                          "\"uri\":\"https://x\",\"title\":\"T\"}}]}}]")
         E("\"candidates\":[{\"finishReason\":\"STOP\",\"groundingMetadata\":{\"groundingChunks\":[{\"web\":{"
           "\"uri\":\"https://x\","
           "\"title\":\"T\"}},{\"web\":{\"uri\":\"https://y\",\"title\":\"U\"}}]}}]"),
     HEAD "(stop STOP)" NOTHING,
     "text(a) reasoning() refusal() others(<citation -1 none https://x|T|><citation -1 none https://y|U|>)",
     "complete"},
    {"log probabilities",
     E("\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"logprobsResult\":{\"chosenCandidates\":[{"
       "\"token\":\"a\","
       "\"logProbability\":-0.5}],\"topCandidates\":[{\"candidates\":[{\"token\":\"b\",\"logProbability\":-1}]}]}}"
       "]," NAMES) E(FIN("STOP")),
     HEAD "(stop STOP)" NOTHING,
     "text(a) reasoning() refusal() others(<logprobs -1 none "
     "[{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":null,\"top_logprobs\":"
     "[{\"token\":\"b\",\"logprob\":-1,\"bytes\":null}]}]||>)",
     "complete"},
    {"snake case",
     E("\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true,\"thought_signature\":\"c2ln\"}"
       ","
       "{\"function_call\":{\"name\":\"f\",\"args\":{}}}]},\"finish_reason\":\"STOP\"}],\"usage_metadata\":"
       "{\"prompt_token_count\":3,\"tool_use_prompt_token_count\":2},\"model_version\":\"g\",\"response_id\":"
       "\"r\""),
     HEAD "(tool_calls STOP) usage(5 -1 -1 -1 -1)\n",
     "text() reasoning(hm) refusal() tool( f {}) others(<signature -1 gemini c2ln||>)", "complete"},
};
enum { STREAM_ROWS = sizeof(stream_rows) / sizeof(stream_rows[0]) };

static void check_stream(const struct stream_row *row, enum framing framing, struct span in, size_t cut)
{
    struct reading r;
    struct buf facts, said;
    buf_init(&facts, 0);
    buf_init(&said, 0);
    read_stream(&r, &codec_gemini, framing, in, cut);
    assert_int_equal(facts_put(answer_facts(r.an), &facts), PD_OK);
    said_of(r.told, &said);
    if (!span_is(buf_span(&facts), row->facts) || !span_is(buf_span(&said), row->said) ||
        strcmp(end_name(r.end), row->end) != 0)
        fail_msg("%s, cut at %zu:\n%s\n%.*s%.*s", row->name, cut, end_name(r.end), SPAN_FMT(buf_span(&facts)),
                 SPAN_FMT(buf_span(&said)));
    if (framing == FRAMING_LINES)
        assert_true(span_eq(buf_span(&r.raw), in));
    buf_done(&facts);
    buf_done(&said);
    reading_done(&r);
}

static void streams_read_the_same_at_every_split(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + STREAM_ROWS; row++)
        for (size_t cut = 0; cut <= strlen(row->in); cut++)
            check_stream(row, FRAMING_LINES, span_str(row->in), cut);
}

/* ---- one array ---------------------------------------------------------------------------- */

static pd_err add_item(void *ctx, const struct answer_event *ev)
{
    struct buf *out = ctx;
    return gemini_array_item(out, buf_size(out) == 0, ev->json.raw);
}

/* What a stream is for a client that wants an array. */
static void as_array(struct span in, struct buf *out)
{
    enum answer_end end;
    struct answer *an = answer_new(&codec_gemini, FRAMING_LINES, add_item, out);
    assert_non_null(an);
    assert_int_equal(answer_feed(an, in), PD_OK);
    assert_int_equal(answer_finish(an, &end), PD_OK);
    assert_int_equal(gemini_array_end(out, buf_size(out) == 0), PD_OK);
    answer_free(an);
}

static void an_array_says_what_its_events_say(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + STREAM_ROWS; row++) {
        struct buf array;
        buf_init(&array, 0);
        as_array(span_str(row->in), &array);
        assert_int_equal(json_check(buf_span(&array)), PD_OK);
        for (size_t cut = 0; cut <= buf_size(&array); cut++)
            check_stream(row, FRAMING_ARRAY, buf_span(&array), cut);
        buf_done(&array);
    }
}

static void an_array_is_framed(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(gemini_array_item(&out, true, SPAN_LIT("{}")), PD_OK);
    assert_int_equal(gemini_array_item(&out, false, SPAN_LIT("{}")), PD_OK);
    assert_int_equal(gemini_array_end(&out, false), PD_OK);
    assert_true(span_is(buf_span(&out), "[{}\r\n,\r\n{}\r\n]"));
    buf_clear(&out);
    assert_int_equal(gemini_array_end(&out, true), PD_OK);
    assert_true(span_is(buf_span(&out), "[]"));
    buf_done(&out);
}

/* ---- events ------------------------------------------------------------------------------- */

/* What each event holds decides what the client is shown when. */
static void events_hold_what_they_should(void **state)
{
    (void)state;
    static const struct {
        const char *event;
        unsigned holds;
    } rows[] = {
        {E(C("{\"text\":\"\"}") "," USED), ANSWER_START | ANSWER_USAGE},
        {E(C("{\"text\":\"\",\"thoughtSignature\":\"c2ln\"}")), ANSWER_START},
        {E(C("{\"text\":\"a\"}") "," USED), ANSWER_OUTPUT | ANSWER_USAGE},
        {E(C("{\"executableCode\":{\"code\":\"1\"}}")), ANSWER_OUTPUT},
        {E(C("{\"functionCall\":{\"name\":\"f\",\"args\":{}}}")), ANSWER_OUTPUT},
        {E(USED), ANSWER_USAGE},
        {E(FIN("STOP")), ANSWER_FINISH},
        {E("\"unknown\":1"), 0},
        {E("\"error\":{\"code\":500,\"message\":\"\"}"), ANSWER_ERROR},
    };
    struct reading r;
    struct buf want;
    buf_init(&want, 0);
    assert_int_equal(reading_init(&r, &codec_gemini, FRAMING_LINES, false), PD_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(reading_feed(&r, span_str(rows[i].event)), PD_OK);
        assert_int_equal(buf_puts(&want, "["), PD_OK);
        assert_int_equal(holds_put(rows[i].holds, &want), PD_OK);
        assert_int_equal(buf_printf(&want, "]%s", rows[i].event), PD_OK);
    }
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    if (!span_eq(buf_span(&want), buf_span(&r.events)))
        fail_msg("expected %.*s\ngot %.*s", SPAN_FMT(buf_span(&want)), SPAN_FMT(buf_span(&r.events)));
    buf_done(&want);
    reading_done(&r);
}

/* ---- collected ---------------------------------------------------------------------------- */

static void a_stream_is_collected_with_all_that_is_in_it(void **state)
{
    (void)state;
    static const char in[] = E(C("{\"text\":\"h\",\"thought\":true}") ",\"usageMetadata\":{\"promptTokenCount\":1,"
                                                                      "\"candidatesTokenCount\":9}," NAMES)
        E(C("{\"text\":\"m\",\"thought\":true}")) E(C("{\"text\":\"a\"}")) E(C("{\"text\":\"b\"}"))
            E(C("{\"functionCall\":{\"name\":\"f\",\"args\":{}},\"x\":1}"))
                E("\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},\"finishReason\":"
                  "\"STOP\","
                  "\"index\":0,\"safetyRatings\":[1]}],\"usageMetadata\":{\"promptTokenCount\":2},\"new\":{\"y\":["
                  "2]}");
    static const char want[] =
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true},{\"text\":\"ab\"},"
        "{\"functionCall\":{\"name\":\"f\",\"args\":{}},\"x\":1}],\"role\":\"model\"},\"finishReason\":\"STOP\","
        "\"index\":0,"
        "\"safetyRatings\":[1]}]," NAMES ",\"new\":{\"y\":[2]},\"usageMetadata\":{\"promptTokenCount\":2}}";
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    read_stream(&r, &codec_gemini, FRAMING_LINES, span_str(in), 0);
    assert_int_equal(collector_write(r.collector, &out), PD_OK);
    if (!span_is(buf_span(&out), want))
        fail_msg("expected %s\ngot      %.*s", want, SPAN_FMT(buf_span(&out)));
    buf_done(&out);
    reading_done(&r);
}

/* ---- spoken ------------------------------------------------------------------------------- */

enum shape { STREAMED, ARRAY, WHOLE };
static const char *const shape_names[] = {"streamed", "array", "whole"};

static struct encode_want want_of(enum shape shape)
{
    return (struct encode_want){
        .model = SPAN_LIT("g"), .id = SPAN_LIT("r"), .stream = shape != WHOLE, .array = shape == ARRAY};
}

/* Ids are made up where there are none, and a call that nobody signed gets the word for that; all else comes out as it went in. */
static void forget_made_up(struct buf *said)
{
    static const char *const made[] = {"call_made_r_1", "call_made_r_2", "call_made_r_3",
                                       "<signature 0 gemini skip_thought_signature_validator||>", " others()"};
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        assert_int_equal(buf_add(said, span_of("", 1)), PD_OK);
        for (char *at; (at = strstr(said->p, made[i]));)
            memmove(at, at + strlen(made[i]), strlen(at + strlen(made[i])) + 1);
        said->tail = said->head + strlen(said->p);
    }
}

/* The order between kinds is not compared, so sources may come behind the text. */
static void what_is_spoken_is_heard_the_same(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + STREAM_ROWS; row++)
        for (enum shape shape = STREAMED; shape <= WHOLE; shape++) {
            struct buf out, said;
            const char *end;
            if (strcmp(row->end, "complete") != 0)
                continue;
            buf_init(&out, 0);
            buf_init(&said, 0);
            struct speech s = {&codec_gemini, row->in, want_of(shape), &out};
            assert_int_equal(speak(&s), PD_OK);
            hear(&s, &said, &end);
            forget_made_up(&said);
            if (!span_is(buf_span(&said), row->said) || strcmp(end, "complete") != 0)
                fail_msg("%s (%s): %s\n%.*s\n%.*s", row->name, shape_names[shape], end, SPAN_FMT(buf_span(&said)),
                         SPAN_FMT(buf_span(&out)));
            buf_done(&out);
            buf_done(&said);
        }
}

/* Deltas by hand, as other makers' readers tell them. */
struct line {
    enum msg_delta_kind kind;
    const char *text, *id, *type;
    int tool;
    enum msg_maker maker;
};

static const struct line foreign_lines[] = {
    {MSG_REASONING, "hm", NULL, NULL, -1, MSG_MAKER_NONE},
    {MSG_SIGNATURE, "anthropic's", NULL, NULL, -1, MSG_MAKER_ANTHROPIC},
    {MSG_SEALED, "enc", "rs_1", NULL, -1, MSG_MAKER_OPENAI},
    {MSG_TEXT, "a", NULL, NULL, -1, MSG_MAKER_NONE},
    {MSG_CITATION, "https://x", "T", "c", -1, MSG_MAKER_NONE},
    {MSG_TOOL_START, "f", "toolu_1", NULL, 0, MSG_MAKER_NONE},
    {MSG_TOOL_ARGUMENTS, "{\\\"a\\\":", NULL, NULL, 0, MSG_MAKER_NONE},
    {MSG_TOOL_ARGUMENTS, "1}", NULL, NULL, 0, MSG_MAKER_NONE},
    {MSG_TOOL_START, "g", "toolu_2", NULL, 1, MSG_MAKER_NONE},
};
static const struct answer_facts foreign_facts = {.usage = {20, 5, 3, 9, 4}, .finish = MSG_FINISH_TOOL_CALLS};

#define FOREIGN_USAGE                                                                               \
    "\"usageMetadata\":{\"promptTokenCount\":20,\"candidatesTokenCount\":5,\"totalTokenCount\":29," \
    "\"cachedContentTokenCount\":5,\"thoughtsTokenCount\":4}"
#define FOREIGN_CALLS                                                                                \
    "{\"functionCall\":{\"id\":\"toolu_1\",\"name\":\"f\",\"args\":{\"a\":1}},\"thoughtSignature\":" \
    "\"skip_thought_signature_validator\"}"
#define FOREIGN_CALL_2 "{\"functionCall\":{\"id\":\"toolu_2\",\"name\":\"g\",\"args\":{}}}"
#define SOURCES ",\"groundingMetadata\":{\"groundingChunks\":[{\"web\":{\"uri\":\"https://x\",\"title\":\"T\"}}]}"
#define PIECE(part) \
    E("\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[" part "]},\"index\":0}]," NAMES)

static void foreign_answers_can_go_back(void **state)
{
    (void)state;
    static const char *const want[] = {
        [STREAMED] = PIECE("{\"text\":\"hm\",\"thought\":true}") PIECE("{\"text\":\"a\"}") PIECE(FOREIGN_CALLS)
            PIECE(FOREIGN_CALL_2) E("\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]}"
                                    ",\"finishReason\":\"STOP\","
                                    "\"index\":0" SOURCES "}]," FOREIGN_USAGE "," NAMES),
        [WHOLE] =
            "{\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"hm\",\"thought\":true},"
            "{\"text\":\"a\"}," FOREIGN_CALLS "," FOREIGN_CALL_2 "]},\"finishReason\":\"STOP\",\"index\":0" SOURCES
            "}]," FOREIGN_USAGE "," NAMES "}",
    };
    for (enum shape shape = STREAMED; shape <= WHOLE; shape += WHOLE) {
        struct encode_want how = {.model = SPAN_LIT("g"), .id = SPAN_LIT("r"), .stream = shape == STREAMED};
        struct encoder *en = encoder_new(&codec_gemini, &how, 1 << 20);
        struct buf out;
        struct span bytes;
        assert_non_null(en);
        buf_init(&out, 0);
        for (const struct line *l = foreign_lines; l < foreign_lines + sizeof(foreign_lines) / sizeof(*l); l++)
            encoder_delta(en, &(struct msg_delta){.kind = l->kind,
                                                  .tool = l->tool,
                                                  .text = span_str(l->text),
                                                  .id = span_str(l->id ? l->id : ""),
                                                  .type = span_str(l->type ? l->type : ""),
                                                  .maker = l->maker});
        if (shape == STREAMED) {
            assert_int_equal(encoder_end(en, &foreign_facts), PD_OK);
            assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
            assert_int_equal(buf_add(&out, bytes), PD_OK);
        } else {
            assert_int_equal(encoder_whole(en, &foreign_facts, &out), PD_OK);
        }
        if (!span_is(buf_span(&out), want[shape]))
            fail_msg("%s:\nexpected %s\ngot      %.*s", shape_names[shape], want[shape], SPAN_FMT(buf_span(&out)));
        assert_string_equal(encoder_dropped(en)[0], "sealed reasoning");
        assert_null(encoder_dropped(en)[1]);
        buf_done(&out);
        encoder_free(en);
    }
}

static void the_reason_to_stop_is_in_its_words(void **state)
{
    (void)state;
    static const struct {
        enum msg_finish finish;
        const char *word;
    } rows[] = {
        {MSG_FINISH_NONE, "STOP"},       {MSG_FINISH_STOP, "STOP"},      {MSG_FINISH_LENGTH, "MAX_TOKENS"},
        {MSG_FINISH_TOOL_CALLS, "STOP"}, {MSG_FINISH_REFUSAL, "SAFETY"}, {MSG_FINISH_CONTENT_FILTER, "SAFETY"},
        {MSG_FINISH_PAUSE, "OTHER"},     {MSG_FINISH_ERROR, "OTHER"},    {MSG_FINISH_OTHER, "OTHER"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct encode_want how = {.model = SPAN_LIT("g"), .id = SPAN_LIT("r")};
        struct answer_facts f = {.usage = MSG_USAGE_NONE, .finish = rows[i].finish};
        struct encoder *en = encoder_new(&codec_gemini, &how, 1 << 20);
        struct buf out;
        char want[256];
        buf_init(&out, 0);
        assert_non_null(en);
        assert_int_equal(encoder_whole(en, &f, &out), PD_OK);
        snprintf(want, sizeof(want),
                 "{\"candidates\":[{\"content\":{\"role\":\"model\"},\"finishReason\":\"%s\",\"index\":0}]," NAMES
                 "}",
                 rows[i].word);
        if (!span_is(buf_span(&out), want))
            fail_msg("expected %s\ngot      %.*s", want, SPAN_FMT(buf_span(&out)));
        buf_done(&out);
        encoder_free(en);
    }
}

/* A whole answer in the words of another format; returns what was dropped, or NULL. */
static const char *told_in(const struct codec *from, const char *body, const struct codec *to, struct buf *out)
{
    struct encode_want how = {.model = SPAN_LIT("g"), .id = SPAN_LIT("r")};
    struct encoder *en = encoder_new(to, &how, 1 << 20);
    struct answer_facts f;
    enum answer_end end;
    struct arena a;
    arena_init(&a, 0, 0);
    assert_non_null(en);
    assert_int_equal(answer_read_whole(from, span_str(body), &a, &f, &end, encoder_delta, en), PD_OK);
    assert_int_equal(end, ANSWER_COMPLETE);
    assert_int_equal(encoder_whole(en, &f, out), PD_OK);
    const char *dropped = encoder_dropped(en)[0]; /* a literal */
    encoder_free(en);
    arena_done(&a);
    return dropped;
}

static void each_choice_has_its_own_reason(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    told_in(&codec_openai_chat,
            "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"},"
            "{\"index\":1,\"message\":{\"content\":\"b\"},\"finish_reason\":\"length\"}]}",
            &codec_gemini, &out);
    assert_true(span_has(buf_span(&out), "\"finishReason\":\"STOP\",\"index\":0"));
    assert_true(span_has(buf_span(&out), "\"finishReason\":\"MAX_TOKENS\",\"index\":1"));
    buf_clear(&out);
    told_in(&codec_gemini,
            "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"SAFETY\"},"
            "{\"index\":1,\"content\":{\"parts\":[{\"text\":\"b\"}]},\"finishReason\":\"STOP\"}]}",
            &codec_openai_chat, &out);
    struct json body;
    assert_int_equal(json_first(buf_span(&out), &body, NULL), PD_OK);
    assert_true(json_is(json_path(body, "choices.0.finish_reason"), "content_filter"));
    assert_true(json_is(json_path(body, "choices.1.finish_reason"), "stop"));
    buf_done(&out);
}

static void what_only_gemini_shows_is_named(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_string_equal(
        told_in(
            &codec_gemini,
            "{\"candidates\":[{\"content\":{\"parts\":[{\"executableCode\":{\"code\":\"1\"}},{\"text\":\"a\"}]},"
            "\"finishReason\":\"STOP\"}]}",
            &codec_anthropic, &out),
        "code_execution");
    buf_done(&out);
}

static pd_err collect_once(void *ctx)
{
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    pd_err e = reading_init(&r, &codec_gemini, FRAMING_LINES, true);
    if (e)
        return e;
    e = reading_feed(&r, span_str(ctx));
    if (!e)
        e = answer_finish(r.an, &r.end);
    if (!e)
        e = r.told->err;
    if (!e)
        e = collector_write(r.collector, &out);
    buf_done(&out);
    reading_done(&r);
    return e;
}

static void answers_survive_every_failed_allocation(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + STREAM_ROWS; row++) {
        char *in = strdup(row->in);
        assert_true(torture(collect_once, in) >= 3);
        free(in);
        for (enum shape shape = STREAMED; shape <= WHOLE; shape++) {
            struct buf out;
            buf_init(&out, 0);
            assert_int_equal(buf_reserve(&out, 16 * 1024), PD_OK);
            struct speech s = {&codec_gemini, row->in, want_of(shape), &out};
            assert_true(torture(speak, &s) >= 3);
            buf_done(&out);
        }
    }
}

/* ---- what routing needs -------------------------------------------------------------------- */

static struct request_facts facts_of(const struct codec *c, const char *body, const struct request_line *line,
                                     struct arena *a)
{
    struct request_facts f;
    const char *why = "";
    if (c->read_request(span_str(body), line, a, &f, &why))
        fail_msg("%s: %s", body, why);
    return f;
}

static void requests_tell_what_routing_needs(void **state)
{
    (void)state;
    struct request_line line = {.model = SPAN_LIT("g"), .stream = true, .array = true};
    struct arena a;
    arena_init(&a, 0, 0);
    struct request_facts f = facts_of(&codec_gemini,
                                      "{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}],\"tools\":[{}],\"generation_"
                                      "config\":{\"max_output_tokens\":7,"
                                      "\"candidateCount\":2,\"thinkingConfig\":{\"thinkingBudget\":-1}},\"model\":"
                                      "\"models/other\",\"stream\":false}",
                                      &line, &a);
    assert_true(span_is(f.model, "g"));
    assert_true(f.stream && f.line.array && f.tools && f.many && f.reasoning && f.include_usage && !f.continues);
    assert_int_equal(f.max_tokens, 7);
    assert_int_equal(f.user.n, 0);
    f = facts_of(&codec_gemini,
                 "{\"contents\":[],\"model\":\"models/"
                 "m\",\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":0}}}",
                 NULL, &a);
    assert_true(span_is(f.model, "m"));
    assert_true(!f.stream && !f.tools && !f.many && !f.reasoning);
    assert_int_equal(f.max_tokens, -1);
    f = facts_of(&codec_gemini_count,
                 "{\"generateContentRequest\":{\"model\":\"models/m\",\"contents\":[],\"tools\":[{}]}}", &line,
                 &a);
    assert_true(f.tools);
    arena_done(&a);
}

static void the_beginning_is_the_same_in_every_turn(void **state)
{
    (void)state;
#define SYSTEM(s) "\"systemInstruction\":{\"parts\":[{\"text\":\"" s "\"}]}"
#define FIRST "{\"role\":\"user\",\"parts\":[{\"text\":\"a\"}]}"
    struct arena a;
    arena_init(&a, 0, 0);
    struct request_facts one = facts_of(&codec_gemini, "{" SYSTEM("s") ",\"contents\":[" FIRST "]}", NULL, &a);
    struct request_facts two =
        facts_of(&codec_gemini, "{\"contents\":[" FIRST ",{\"role\":\"model\"}]," SYSTEM("s") "}", NULL, &a);
    struct request_facts other = facts_of(&codec_gemini, "{\"contents\":[" FIRST "]," SYSTEM("t") "}", NULL, &a);
    assert_true(one.prefix_hash == two.prefix_hash && one.prefix_hash != 0);
    assert_true(one.prefix_hash != other.prefix_hash);
    assert_true(!one.continues && two.continues);
    arena_done(&a);
}

/* ---- edits --------------------------------------------------------------------------------- */

static const struct edit_row {
    const char *name, *in, *model, *out;
} edit_rows[] = {
    {"nothing to do", "{ \"contents\" : [ ] }", NULL, "{ \"contents\" : [ ] }"},
    {"the path has the model", "{\"contents\":[]}", "new", "{\"contents\":[]}"},
    {"told again in the body", "{\"model\" : \"models/old\",\"contents\":[]}", "new",
     "{\"model\" : \"models/new\",\"contents\":[]}"},
    {"without a prefix", "{\"model\":\"old\"}", "n\"w", "{\"model\":\"n\\\"w\"}"},
    {"in what is counted",
     "{\"generateContentRequest\":{\"model\":\"models/old\",\"contents\":[{\"model\":\"models/old\"}]}}", "new",
     "{\"generateContentRequest\":{\"model\":\"models/new\",\"contents\":[{\"model\":\"models/old\"}]}}"},
    {"in each text", "{\"requests\":[{\"model\":\"models/old\",\"content\":{}},{ \"model\": \"models/old\" }]}",
     "new", "{\"requests\":[{\"model\":\"models/new\",\"content\":{}},{ \"model\": \"models/new\" }]}"},
};

static pd_err edit_once(const struct edit_row *row, struct buf *out)
{
    struct request_edit edit = {.model = row->model ? span_str(row->model) : SPAN_NONE,
                                .force_stream = true,
                                .want_usage = true,
                                .strip_foreign = true};
    struct span parts[REQUEST_PARTS_MAX];
    struct request_facts f;
    struct arena a;
    const char *why;
    unsigned count = 0;
    arena_init(&a, 0, 0);
    pd_err e = codec_gemini.read_request(span_str(row->in), NULL, &a, &f, &why);
    if (!e)
        e = codec_gemini.edit_request(&f, &edit, &a, parts, &count);
    for (unsigned i = 0; !e && i < count; i++)
        e = buf_add(out, parts[i]);
    arena_done(&a);
    return e;
}

static void edits_change_the_models_name_and_nothing_else(void **state)
{
    (void)state;
    for (const struct edit_row *row = edit_rows; row < edit_rows + sizeof(edit_rows) / sizeof(*row); row++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(edit_once(row, &out), PD_OK);
        if (!span_is(buf_span(&out), row->out))
            fail_msg("%s: %.*s", row->name, SPAN_FMT(buf_span(&out)));
        buf_done(&out);
    }
}

static pd_err edit_alone(void *ctx)
{
    struct buf out;
    buf_init(&out, 0);
    pd_err e = edit_once(ctx, &out);
    buf_done(&out);
    return e;
}

static void edits_survive_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 2; i < sizeof(edit_rows) / sizeof(edit_rows[0]); i++) {
        struct edit_row row = edit_rows[i];
        assert_true(torture(edit_alone, &row) >= 2);
    }
}

/* ---- errors -------------------------------------------------------------------------------- */

static void errors_are_in_its_shape(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *word;
    } rows[] = {
        {400, "INVALID_ARGUMENT"}, {401, "UNAUTHENTICATED"},    {403, "PERMISSION_DENIED"}, {404, "NOT_FOUND"},
        {413, "INVALID_ARGUMENT"}, {429, "RESOURCE_EXHAUSTED"}, {499, "CANCELLED"},         {500, "INTERNAL"},
        {502, "UNAVAILABLE"},      {503, "UNAVAILABLE"},        {504, "DEADLINE_EXCEEDED"}, {529, "UNAVAILABLE"},
    };
    struct buf out;
    char want[256];
    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct client_error e = {.status = rows[i].status, .type = "t", .message = SPAN_LIT("no \"way\"")};
        buf_clear(&out);
        assert_int_equal(codec_gemini.put_error(&e, &out), PD_OK);
        snprintf(want, sizeof(want), "{\"error\":{\"code\":%d,\"message\":\"no \\\"way\\\"\",\"status\":\"%s\"}}",
                 rows[i].status, rows[i].word);
        if (!span_is(buf_span(&out), want))
            fail_msg("%.*s", SPAN_FMT(buf_span(&out)));
        assert_string_equal(codec_gemini.error_type(rows[i].status), rows[i].word);
    }
    struct client_error e = {
        .status = 503, .code = "cut", .message = SPAN_LIT("m"), .attempts_json = SPAN_LIT("[1]")};
    buf_clear(&out);
    assert_int_equal(codec_gemini.put_error_event(&e, &out), PD_OK);
    assert_true(
        span_is(buf_span(&out),
                E("\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\",\"details\":[{\"@type\":"
                  "\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"cut\",\"domain\":\"perdure\"}],"
                  "\"attempts\":[1]}")));
    buf_done(&out);
}

/* ---- counting and embeddings ------------------------------------------------------------------ */

static void counts_are_read_and_written(void **state)
{
    (void)state;
    int64_t n = -1;
    struct buf out;
    buf_init(&out, 0);
    assert_true(codec_gemini_count.count->read((struct json){JSON_OBJECT, SPAN_LIT("{\"totalTokens\":31}")}, &n));
    assert_int_equal(n, 31);
    assert_false(codec_gemini_count.count->read((struct json){JSON_OBJECT, SPAN_LIT("{\"error\":{}}")}, &n));
    assert_int_equal(codec_gemini_count.count->put(31, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "{\"totalTokens\":31}"));
    buf_done(&out);
}

#define ITEM(text) "{\"model\":\"models/e\",\"content\":{\"parts\":[{\"text\":\"" text "\"}]}"
#define SET ",\"taskType\":\"RETRIEVAL_QUERY\",\"title\":\"T\",\"outputDimensionality\":3}"
static const struct embed_row {
    const char *name, *in, *out, *answer, *put;
} embed_rows[] = {
    {"one text",
     "{\"content\":{\"parts\":[{\"text\":\"a\"},{\"text\":\"b\\n\"}]},\"taskType\":\"RETRIEVAL_QUERY\",\"title\":"
     "\"T\","
     "\"output_dimensionality\":3}",
     ITEM("ab\\n") SET, "{\"embedding\":{\"values\":[0.1,2]},\"usageMetadata\":{\"promptTokenCount\":3}}",
     "{\"embedding\":{\"values\":[0.1,2]},\"usageMetadata\":{\"promptTokenCount\":3}}"},
    {"a list of one", "{\"requests\":[{\"model\":\"models/x\",\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}",
     "{\"requests\":[" ITEM("a") "}]}", "{\"embeddings\":[{\"values\":[1]}]}",
     "{\"embeddings\":[{\"values\":[1]}]}"},
    {"a list", "{\"requests\":[" ITEM("a") "}," ITEM("b") "}]}", "{\"requests\":[" ITEM("a") "}," ITEM("b") "}]}",
     "{\"embeddings\":[{\"values\":[1]},{\"values\":[2]}]}",
     "{\"embeddings\":[{\"values\":[1]},{\"values\":[2]}]}"},
};

static pd_err embed_once(void *ctx)
{
    const struct embed_row *row = ctx;
    const struct embed_ops *ops = codec_gemini_embeddings.embed;
    struct write_want want = {.model = SPAN_LIT("e")};
    struct embed_request m;
    struct embed_answer an;
    struct request_facts f;
    enum answer_end end = ANSWER_EMPTY;
    struct arena a;
    struct buf out;
    const char *why = "";
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    pd_err e = codec_gemini_embeddings.read_request(span_str(row->in), NULL, &a, &f, &why);
    if (!e)
        e = ops->parse(&f, &a, &m, &why);
    if (!e)
        e = ops->write(&m, &want, &a, &out);
    if (!e && !span_is(buf_span(&out), row->out))
        fail_msg("%s: %.*s", row->name, SPAN_FMT(buf_span(&out)));
    buf_clear(&out);
    if (!e)
        e = ops->read(span_str(row->answer), &a, &an, &end);
    if (!e)
        e = ops->put(&an, &m, &out);
    if (!e && (!span_is(buf_span(&out), row->put) || end != ANSWER_COMPLETE))
        fail_msg("%s: %.*s", row->name, SPAN_FMT(buf_span(&out)));
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void embeddings_go_in_and_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(embed_rows) / sizeof(embed_rows[0]); i++) {
        struct embed_row row = embed_rows[i];
        assert_int_equal(embed_once(&row), PD_OK);
        assert_true(torture(embed_once, &row) >= 2);
    }
}

static void vectors_in_base64_become_numbers(void **state)
{
    (void)state;
    struct embed_vector x = {.base64 = SPAN_LIT("AACAPwAAAMA=")}; /* 1 and -2 */
    struct embed_answer an = {.first = &x, .last = &x, .count = 1, .usage = MSG_USAGE_NONE};
    struct embed_request asked = {0};
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(codec_gemini_embeddings.embed->put(&an, &asked, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "{\"embedding\":{\"values\":[1,-2]}}"));
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_become_what_the_file_says),
        cmocka_unit_test(translating_survives_every_failed_allocation),
        cmocka_unit_test(streams_read_the_same_at_every_split),
        cmocka_unit_test(an_array_says_what_its_events_say),
        cmocka_unit_test(an_array_is_framed),
        cmocka_unit_test(events_hold_what_they_should),
        cmocka_unit_test(a_stream_is_collected_with_all_that_is_in_it),
        cmocka_unit_test(what_is_spoken_is_heard_the_same),
        cmocka_unit_test(foreign_answers_can_go_back),
        cmocka_unit_test(the_reason_to_stop_is_in_its_words),
        cmocka_unit_test(each_choice_has_its_own_reason),
        cmocka_unit_test(what_only_gemini_shows_is_named),
        cmocka_unit_test(answers_survive_every_failed_allocation),
        cmocka_unit_test(requests_tell_what_routing_needs),
        cmocka_unit_test(the_beginning_is_the_same_in_every_turn),
        cmocka_unit_test(edits_change_the_models_name_and_nothing_else),
        cmocka_unit_test(edits_survive_every_failed_allocation),
        cmocka_unit_test(errors_are_in_its_shape),
        cmocka_unit_test(counts_are_read_and_written),
        cmocka_unit_test(embeddings_go_in_and_out),
        cmocka_unit_test(vectors_in_base64_become_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
