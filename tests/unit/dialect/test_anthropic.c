/* Anthropic Messages: requests in and out, answers in and out, edits, errors.
 *
 * tests/fixtures/translation/anthropic.json has the requests: what comes in, in which format, and what goes out. */
#include "dialect/embed.h"
#include "dialect/merge_priv.h"
#include "respoken.h"
#include "translation_rows.h"

#include "base/hash.h"

/* ---- requests into other requests ---------------------------------------------------- */

#define ROWS "tests/fixtures/translation/anthropic.json"

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

#define EVENT(type, members) "event: " type "\ndata: {\"type\":\"" type "\"" members "}\n\n"
#define START                                                                                            \
    EVENT("message_start",                                                                               \
          ",\"message\":{\"id\":\"msg_1\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":3," \
          "\"cache_read_input_tokens\":2,\"output_tokens\":1}}")
#define OPEN(i, block) EVENT("content_block_start", ",\"index\":" i ",\"content_block\":{" block "}")
#define DELTA(i, delta) EVENT("content_block_delta", ",\"index\":" i ",\"delta\":{" delta "}")
#define STOP(i) EVENT("content_block_stop", ",\"index\":" i)
#define END(reason)                                                                                       \
    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"" reason "\"},\"usage\":{\"output_tokens\":7}") \
    EVENT("message_stop", "")
#define OPEN_TEXT(i) OPEN(i, "\"type\":\"text\",\"text\":\"\"")
#define TEXT(i, text) DELTA(i, "\"type\":\"text_delta\",\"text\":\"" text "\"")
#define OPEN_TOOL(i, id, name, input) \
    OPEN(i, "\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"" name "\",\"input\":" input)
#define INPUT(i, text) DELTA(i, "\"type\":\"input_json_delta\",\"partial_json\":\"" text "\"")
#define USAGE "usage(5 2 -1 7 -1)\n"
#define HEAD "id(msg_1) model(c) finish"

static const struct stream_row {
    const char *name, *in, *end, *facts, *said; /* said: of choice 0 */
} stream_rows[] = {
    {"text and a ping",
     START OPEN_TEXT("0") EVENT("ping", "") TEXT("0", "a\\n") TEXT("0", "b") STOP("0") END("end_turn"), "complete",
     HEAD "(stop end_turn) " USAGE, "text(a\\nb) reasoning() refusal()"},
    {"a relay that starts twice", START START OPEN_TEXT("0") TEXT("0", "a") STOP("0") END("end_turn"), "complete",
     HEAD "(stop end_turn) " USAGE, "text(a) reasoning() refusal()"},
    {"thinking with its signature, and sealed",
     START OPEN("0", "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"")
         DELTA("0", "\"type\":\"thinking_delta\",\"thinking\":\"hm\"")
             DELTA("0", "\"type\":\"signature_delta\",\"signature\":\"sig\"") STOP("0")
                 OPEN("1", "\"type\":\"redacted_thinking\",\"data\":\"enc\"") STOP("1") OPEN_TEXT("2")
                     TEXT("2", "a") STOP("2") END("end_turn"),
     "complete", HEAD "(stop end_turn) " USAGE,
     "text(a) reasoning(hm) refusal() others(<signature -1 anthropic sig||><sealed -1 anthropic enc||>)"},
    {"tools: in pieces, none, all at once in the start",
     START OPEN_TOOL("0", "t1", "f", "{}") INPUT("0", "") INPUT("0", "{\\\"a\\\"") INPUT("0", ":1}") STOP("0")
         OPEN_TOOL("1", "t2", "g", "{}") INPUT("1", "") STOP("1") OPEN_TOOL("2", "t3", "h", "{\"b\":\"\\n\"}")
             STOP("2") END("tool_use"),
     "complete", HEAD "(tool_calls tool_use) " USAGE,
     "text() reasoning() refusal() tool(t1 f {\\\"a\\\":1}) tool(t2 g {}) tool(t3 h {\\\"b\\\":\\\"\\\\n\\\"})"},
    {"pieces count, not what a start has too",
     START OPEN_TOOL("0", "t1", "f", "{\"a\":1}") INPUT("0", "{\\\"a\\\":1}") STOP("0") END("tool_use"),
     "complete", HEAD "(tool_calls tool_use) " USAGE, "text() reasoning() refusal() tool(t1 f {\\\"a\\\":1})"},
    {"blocks in turn",
     START OPEN_TOOL("0", "t1", "f", "{}") OPEN_TOOL("1", "t2", "g", "{}") INPUT("1", "{}") INPUT("0", "{ }")
         STOP("1") STOP("0") END("tool_use"),
     "complete", HEAD "(tool_calls tool_use) " USAGE, "text() reasoning() refusal() tool(t1 f { }) tool(t2 g {})"},
    {"tools decide the finish", START OPEN_TOOL("0", "t1", "f", "{}") STOP("0") END("end_turn"), "complete",
     HEAD "(tool_calls end_turn) " USAGE, "text() reasoning() refusal() tool(t1 f {})"},
    {"a tool of the provider's own",
     START OPEN("0", "\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":{}")
         INPUT("0", "{\\\"q\\\":1}") STOP("0") OPEN("1", "\"type\":\"web_search_tool_result\",\"content\":[]")
             STOP("1") OPEN_TEXT("2") TEXT("2", "a") DELTA(
                 "2", "\"type\":\"citations_delta\",\"citation\":{\"type\":\"web_search_result_location\","
                      "\"url\":\"https://x\",\"title\":\"T\",\"cited_text\":\"c\"}") STOP("2") END("pause_turn"),
     "complete", HEAD "(pause pause_turn) " USAGE,
     "text(a) reasoning() refusal() others(<citation -1 none https://x|T|c>)"},
    {"unknown events, blocks and deltas",
     START EVENT("news", ",\"x\":1") OPEN_TEXT("0") DELTA("0", "\"type\":\"shiny_delta\",\"text\":\"no\"")
         TEXT("0", "a") STOP("0") TEXT("9", "b") END("end_turn"),
     "complete", HEAD "(stop end_turn) " USAGE, "text(ab) reasoning() refusal()"},
    {"cut before the stop", START OPEN_TEXT("0") TEXT("0", "a") STOP("0"), "cut",
     HEAD "(none ) usage(5 2 -1 1 -1)\n", "text(a) reasoning() refusal()"},
    {"cut before the last event",
     START OPEN_TEXT("0") TEXT("0", "a") STOP("0")
         EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}"),
     "cut", HEAD "(stop end_turn) " USAGE, "text(a) reasoning() refusal()"},
    {"an error in the middle",
     START OPEN_TEXT("0") TEXT("0", "a")
         EVENT("error", ",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}"),
     "failed", HEAD "(none ) usage(5 2 -1 1 -1)\n", "text(a) reasoning() refusal()"},
    {"the model spoke to say nothing", START END("end_turn"), "complete", HEAD "(stop end_turn) " USAGE,
     "text() reasoning() refusal()"},
    {"nothing at all",
     EVENT("message_start", ",\"message\":{\"id\":\"msg_1\",\"model\":\"c\"}")
         EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\"}") EVENT("message_stop", ""),
     "empty", HEAD "(stop end_turn) usage(-1 -1 -1 -1 -1)\n", "text() reasoning() refusal()"},
    {"a refusal", START END("refusal"), "complete", HEAD "(refusal refusal) " USAGE,
     "text() reasoning() refusal()"},
    {"counts overlay",
     START OPEN_TEXT("0") TEXT("0", "a") STOP("0")
         EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"input_tokens\":4,"
                                "\"cache_creation_input_tokens\":10,\"output_tokens\":7,"
                                "\"output_tokens_details\":{\"thinking_tokens\":6}}") EVENT("message_stop", ""),
     "complete", HEAD "(length max_tokens) usage(16 2 10 7 6)\n", "text(a) reasoning() refusal()"},
    {"a type in the framing alone",
     "event: ping\ndata: {}\n\n" START OPEN_TEXT("0") TEXT("0", "a") STOP("0") END("end_turn"), "complete",
     HEAD "(stop end_turn) " USAGE, "text(a) reasoning() refusal()"},
};

static void streams_read_the_same_at_every_split(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + sizeof(stream_rows) / sizeof(*row); row++)
        for (size_t cut = 0; cut <= strlen(row->in); cut++) {
            struct reading r;
            struct buf facts, said;
            buf_init(&facts, 0);
            buf_init(&said, 0);
            read_stream(&r, &codec_anthropic, FRAMING_LINES, span_str(row->in), cut);
            assert_int_equal(facts_put(answer_facts(r.an), &facts), PD_OK);
            said_of(r.told, &said);
            if (!span_is(buf_span(&facts), row->facts) || !span_is(buf_span(&said), row->said) ||
                strcmp(end_name(r.end), row->end) != 0)
                fail_msg("%s, cut at %zu:\n%s\n%.*s%.*s", row->name, cut, end_name(r.end),
                         SPAN_FMT(buf_span(&facts)), SPAN_FMT(buf_span(&said)));
            assert_true(span_eq(buf_span(&r.raw), span_str(row->in)));
            buf_done(&facts);
            buf_done(&said);
            reading_done(&r);
        }
}

/* What each event holds decides what the client is shown when. */
static void events_hold_what_they_should(void **state)
{
    (void)state;
    static const struct {
        const char *event;
        unsigned holds;
    } rows[] = {
        {START, ANSWER_START | ANSWER_USAGE},
        {EVENT("ping", ""), ANSWER_START | ANSWER_KEEPALIVE},
        {OPEN_TEXT("0"), ANSWER_START},
        {TEXT("0", ""), ANSWER_START},
        {TEXT("0", "a"), ANSWER_OUTPUT},
        {EVENT("ping", ""), ANSWER_KEEPALIVE},
        {STOP("0"), 0},
        {OPEN_TOOL("1", "t", "f", "{}"), ANSWER_OUTPUT},
        {INPUT("1", ""), 0},
        {INPUT("1", "{}"), ANSWER_OUTPUT},
        {STOP("1"), 0},
        {EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":7}"),
         ANSWER_FINISH | ANSWER_USAGE},
        {EVENT("message_stop", ""), ANSWER_DONE},
        {EVENT("error", ",\"error\":{\"type\":\"api_error\",\"message\":\"\"}"), ANSWER_ERROR},
    };
    struct reading r;
    struct buf want;
    buf_init(&want, 0);
    assert_int_equal(reading_init(&r, &codec_anthropic, FRAMING_LINES, false), PD_OK);
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

/* Clients of this format go by "event:". */
static void events_get_their_name(void **state)
{
    (void)state;
    static const char in[] = "data: {\"type\":\"ping\"}\n\n{\"type\":\"message_stop\"}\n";
    static const char want[] = EVENT("ping", "") EVENT("message_stop", "");
    struct reading r;
    read_stream(&r, &codec_anthropic, FRAMING_LINES, span_str(in), 0);
    if (!span_is(buf_span(&r.raw), want))
        fail_msg("got %.*s", SPAN_FMT(buf_span(&r.raw)));
    reading_done(&r);
}

/* ---- collected ---------------------------------------------------------------------------- */

static void a_stream_is_collected_with_all_that_is_in_it(void **state)
{
    (void)state;
    static const char in[] = EVENT(
        "message_start", ",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"new\":[1],\"content\":[],"
                         "\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}")
        OPEN("0", "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"")
            DELTA("0", "\"type\":\"thinking_delta\",\"thinking\":\"h\"") DELTA(
                "0", "\"type\":\"thinking_delta\",\"thinking\":\"m\"")
                DELTA("0", "\"type\":\"signature_delta\",\"signature\":\"sig\"") STOP("0") OPEN(
                    "1", "\"type\":\"web_search_tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                         "{\"type\":\"text\",\"text\":\"b\"}]") STOP("1")
                    OPEN("2", "\"type\":\"text\",\"text\":\"so\",\"citations\":[]") TEXT("2", " it is")
                        DELTA("2", "\"type\":\"citations_delta\",\"citation\":{\"url\":\"u\"}") DELTA(
                            "2", "\"type\":\"citations_delta\",\"citation\":{\"url\":\"v\"}") STOP("2")
                            OPEN_TOOL("3", "t", "f", "{}") INPUT("3", "{\\\"a\\\": ") INPUT("3", "\\\"\\\\n\\\"}")
                                STOP("3") OPEN_TOOL("4", "t", "f", "{}") INPUT("4", "{\\\"a") STOP("4")
                                    OPEN_TOOL("5", "t", "f", "{}") INPUT("5", "") STOP("5")
                                        EVENT("message_delta",
                                              ",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},"
                                              "\"usage\":{\"output_tokens\":7},\"context_management\":{}")
                                            EVENT("message_stop", "");
    static const char want[] =
        "{\"id\":\"msg_1\",\"type\":\"message\",\"new\":[1],\"stop_reason\":\"max_tokens\",\"stop_sequence\":null,"
        "\"context_management\":{},\"content\":["
        "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"sig\"},"
        "{\"type\":\"web_search_tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
        "\"text\":\"b\"}]},"
        "{\"type\":\"text\",\"text\":\"so it is\",\"citations\":[{\"url\":\"u\"},{\"url\":\"v\"}]},"
        "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{\"a\": \"\\n\"}},"
        "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{\"INVALID_JSON\":\"{\\\"a\"}},"
        "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}],"
        "\"usage\":{\"input_tokens\":3,\"output_tokens\":7}}";
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    read_stream(&r, &codec_anthropic, FRAMING_LINES, span_str(in), 0);
    assert_int_equal(collector_write(r.collector, &out), PD_OK);
    if (!span_is(buf_span(&out), want))
        fail_msg("got %.*s", SPAN_FMT(buf_span(&out)));
    buf_done(&out);
    reading_done(&r);
}

static struct json parsed(const char *text)
{
    struct json v;
    assert_int_equal(json_first(span_str(text), &v, NULL), PD_OK);
    return v;
}

static void a_collected_message_has_a_limit_of_blocks(void **state)
{
    (void)state;
    struct collector *k = collector_new(&codec_anthropic, 64 << 20);
    char event[200];
    assert_non_null(k);
    for (unsigned i = 0; i <= MERGE_ITEMS_MAX; i++) {
        snprintf(
            event, sizeof(event),
            "{\"type\":\"content_block_start\",\"index\":%u,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
            i);
        assert_int_equal(collector_add(k, SPAN_LIT("content_block_start"), parsed(event)),
                         i < MERGE_ITEMS_MAX ? PD_OK : PD_TOOBIG);
    }
    collector_free(k);
}

/* ---- spoken -------------------------------------------------------------------------------- */

/* All that the neutral form has comes out again, streamed and whole. */
static void what_is_spoken_is_heard_the_same(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + sizeof(stream_rows) / sizeof(*row); row++)
        for (int stream = 0; stream < 2; stream++) {
            struct buf out, said;
            const char *end;
            struct span want = span_str(row->said);
            if (strcmp(row->end, "complete") != 0)
                continue;
            buf_init(&out, 0);
            buf_init(&said, 0);
            struct speech s = {
                &codec_anthropic, row->in, {.model = SPAN_LIT("c"), .id = SPAN_LIT("x"), .stream = stream}, &out};
            assert_int_equal(speak(&s), PD_OK);
            hear(&s, &said, &end);
            if (!span_eq(want, buf_span(&said)) || strcmp(end, "complete") != 0)
                fail_msg("%s (%s): %s\n%.*s\n%.*s", row->name, stream ? "stream" : "whole", end,
                         SPAN_FMT(buf_span(&said)), SPAN_FMT(buf_span(&out)));
            buf_done(&out);
            buf_done(&said);
        }
}

/* Deltas by hand, for what our own reader never tells. */
struct line {
    enum msg_delta_kind kind;
    const char *text, *id, *type;
    int tool;
    enum msg_maker maker;
};

static void spell(const struct line *lines, size_t count, const struct answer_facts *f, bool stream,
                  struct buf *out)
{
    struct encode_want want = {.model = SPAN_LIT("c"), .id = SPAN_LIT("x"), .stream = stream};
    struct encoder *en = encoder_new(&codec_anthropic, &want, 1 << 20);
    struct span bytes;
    assert_non_null(en);
    for (size_t i = 0; i < count; i++)
        encoder_delta(en, &(struct msg_delta){.kind = lines[i].kind,
                                              .tool = lines[i].tool,
                                              .text = span_str(lines[i].text),
                                              .id = span_str(lines[i].id ? lines[i].id : ""),
                                              .type = span_str(lines[i].type ? lines[i].type : ""),
                                              .maker = lines[i].maker});
    if (stream) {
        assert_int_equal(encoder_end(en, f), PD_OK);
        assert_int_equal(encoder_bytes(en, &bytes), PD_OK);
        assert_int_equal(buf_add(out, bytes), PD_OK);
    } else {
        assert_int_equal(encoder_whole(en, f, out), PD_OK);
    }
    encoder_free(en);
}

static const struct line foreign_lines[] = {
    {MSG_REASONING, "hm", NULL, NULL, -1, MSG_MAKER_NONE},
    {MSG_SEALED, "enc", "rs_1", NULL, -1, MSG_MAKER_OPENAI},
    {MSG_TEXT, "a", NULL, NULL, -1, MSG_MAKER_NONE},
    {MSG_CITATION, "https://x", "T", "c", -1, MSG_MAKER_NONE},
    {MSG_MEDIA, "AAAA", NULL, "image/png", -1, MSG_MAKER_NONE},
    {MSG_TOOL_START, "f", "functions.f:0", NULL, 0, MSG_MAKER_NONE},
    {MSG_TOOL_ARGUMENTS, "{\\\"a\\\":1}", NULL, NULL, 0, MSG_MAKER_NONE},
    {MSG_REFUSAL, "no", NULL, NULL, -1, MSG_MAKER_NONE},
};

static const struct answer_facts foreign_facts = {.usage = {20, 5, 3, 9, 4}, .finish = MSG_FINISH_STOP};

#define FOREIGN_CITATION                                                                                   \
    "{\"type\":\"web_search_result_location\",\"url\":\"https://x\",\"title\":\"T\",\"cited_text\":\"c\"," \
    "\"encrypted_index\":\"perdure-foreign\"}"
#define FOREIGN_USAGE                                                                                          \
    "\"usage\":{\"input_tokens\":12,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":5,\"output_" \
    "tokens\":9,"                                                                                              \
    "\"output_tokens_details\":{\"thinking_tokens\":4}}"

static void foreign_answers_are_marked(void **state)
{
    (void)state;
    static const char want[] = EVENT(
        "message_start", ",\"message\":{\"id\":\"msg_x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":"
                         "\"c\",\"content\":[],"
                         "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,"
                         "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}")
        OPEN("0", "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"")
            DELTA("0", "\"type\":\"thinking_delta\",\"thinking\":\"hm\"") DELTA(
                "0", "\"type\":\"signature_delta\",\"signature\":\"perdure-foreign\"") STOP("0") OPEN_TEXT("1")
                TEXT("1", "a") DELTA("1", "\"type\":\"citations_delta\",\"citation\":" FOREIGN_CITATION) STOP("1")
                    OPEN_TOOL("2", "functions_f_0", "f", "{}") INPUT("2", "{\\\"a\\\":1}") STOP("2") OPEN_TEXT("3")
                        TEXT("3", "no") STOP("3")
                            EVENT("message_delta",
                                  ",\"delta\":{\"stop_reason\":\"refusal\",\"stop_sequence\":null}," FOREIGN_USAGE)
                                EVENT("message_stop", "");
    static const char whole[] =
        "{\"id\":\"msg_x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":["
        "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"perdure-foreign\"},"
        "{\"type\":\"text\",\"text\":\"a\",\"citations\":[" FOREIGN_CITATION "]},"
        "{\"type\":\"tool_use\",\"id\":\"functions_f_0\",\"name\":\"f\",\"input\":{\"a\":1}},"
        "{\"type\":\"text\",\"text\":\"no\"}],\"stop_reason\":\"refusal\",\"stop_sequence\":null," FOREIGN_USAGE
        "}";
    for (int stream = 0; stream < 2; stream++) {
        struct buf out;
        buf_init(&out, 0);
        spell(foreign_lines, sizeof(foreign_lines) / sizeof(foreign_lines[0]), &foreign_facts, stream, &out);
        if (!span_is(buf_span(&out), stream ? want : whole))
            fail_msg("got %.*s", SPAN_FMT(buf_span(&out)));
        buf_done(&out);
    }
}

static void the_reason_to_stop_is_in_its_words(void **state)
{
    (void)state;
    static const struct line text[] = {{MSG_TEXT, "a", NULL, NULL, -1, MSG_MAKER_NONE}};
    static const struct line tool[] = {{MSG_TOOL_START, "f", "t", NULL, 0, MSG_MAKER_NONE}};
    static const struct {
        const struct line *line;
        enum msg_finish finish;
        const char *met, *want;
    } rows[] = {
        {text, MSG_FINISH_STOP, NULL, "\"stop_reason\":\"end_turn\",\"stop_sequence\":null"},
        {text, MSG_FINISH_STOP, "x\\n", "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"x\\n\""},
        {text, MSG_FINISH_LENGTH, NULL, "\"stop_reason\":\"max_tokens\",\"stop_sequence\":null"},
        {text, MSG_FINISH_CONTENT_FILTER, NULL, "\"stop_reason\":\"refusal\",\"stop_sequence\":null"},
        {text, MSG_FINISH_REFUSAL, NULL, "\"stop_reason\":\"refusal\",\"stop_sequence\":null"},
        {text, MSG_FINISH_PAUSE, NULL, "\"stop_reason\":\"pause_turn\",\"stop_sequence\":null"},
        {text, MSG_FINISH_TOOL_CALLS, NULL, "\"stop_reason\":\"end_turn\",\"stop_sequence\":null"},
        {text, MSG_FINISH_OTHER, NULL, "\"stop_reason\":\"end_turn\",\"stop_sequence\":null"},
        {tool, MSG_FINISH_STOP, NULL, "\"stop_reason\":\"tool_use\",\"stop_sequence\":null"},
        {tool, MSG_FINISH_TOOL_CALLS, NULL, "\"stop_reason\":\"tool_use\",\"stop_sequence\":null"},
        {tool, MSG_FINISH_LENGTH, NULL, "\"stop_reason\":\"max_tokens\",\"stop_sequence\":null"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int stream = 0; stream < 2; stream++) {
            struct answer_facts f = {.usage = MSG_USAGE_NONE, .finish = rows[i].finish};
            struct buf out;
            f.stop_sequence = span_str(rows[i].met);
            buf_init(&out, 0);
            spell(rows[i].line, 1, &f, stream, &out);
            if (!span_has(buf_span(&out), rows[i].want))
                fail_msg("%s: got %.*s", rows[i].want, SPAN_FMT(buf_span(&out)));
            buf_done(&out);
        }
}

static pd_err collect_once(void *ctx)
{
    struct reading r = {0};
    struct buf out;
    buf_init(&out, 0);
    pd_err e = reading_init(&r, &codec_anthropic, FRAMING_LINES, true);
    if (!e)
        e = reading_feed(&r, span_str(ctx));
    if (!e)
        e = answer_finish(r.an, &r.end);
    if (!e)
        e = collector_write(r.collector, &out);
    if (!e)
        e = r.told->err;
    buf_done(&out);
    reading_done(&r);
    return e;
}

static void answers_survive_every_failed_allocation(void **state)
{
    (void)state;
    for (const struct stream_row *row = stream_rows; row < stream_rows + sizeof(stream_rows) / sizeof(*row);
         row++) {
        char in[4096];
        snprintf(in, sizeof(in), "%s", row->in);
        assert_true(torture(collect_once, in) >= 4);
        if (strcmp(row->end, "complete") != 0)
            continue;
        for (int stream = 0; stream < 2; stream++) {
            struct buf out;
            buf_init(&out, 0);
            assert_int_equal(buf_reserve(&out, 64 * 1024), PD_OK); /* not the encoder's to lose */
            struct speech s = {
                &codec_anthropic, row->in, {.model = SPAN_LIT("c"), .id = SPAN_LIT("x"), .stream = stream}, &out};
            assert_true(torture(speak, &s) >= 4);
            buf_done(&out);
        }
    }
}

/* ---- facts and edits -------------------------------------------------------------------- */

static struct request_facts facts_of(const char *body, struct arena *a)
{
    struct request_line line = {0};
    struct request_facts f;
    const char *why = "";
    if (codec_anthropic.read_request(span_str(body), &line, a, &f, &why))
        fail_msg("%s: %s", body, why);
    return f;
}

static void requests_tell_what_routing_needs(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0, 0);
    struct request_facts f =
        facts_of("{\"model\":\"c\",\"max_tokens\":5,\"stream\":true,\"tools\":[{\"name\":\"f\"}],"
                 "\"thinking\":{\"type\":\"adaptive\"},\"metadata\":{\"user_id\":\"u\\u0031\"},"
                 "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
                 &a);
    assert_true(span_is(f.model, "c") && f.stream && f.tools && f.reasoning && !f.many && !f.continues);
    assert_int_equal(f.max_tokens, 5);
    assert_true(span_is(f.user, "u1"));
    f = facts_of(
        "{\"model\":\"c\",\"thinking\":{\"type\":\"disabled\"},\"tools\":[],\"metadata\":{\"user_id\":null},"
        "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"x\"}]}",
        &a);
    assert_true(!f.stream && !f.tools && !f.reasoning && f.continues && f.user.n == 0 && f.max_tokens == -1);
    struct request_line line = {.model = SPAN_LIT("path"), .stream = true};
    const char *why;
    assert_int_equal(codec_anthropic.read_request(SPAN_LIT("{\"messages\":[]}"), &line, &a, &f, &why), PD_OK);
    assert_true(span_is(f.model, "path") && f.stream && f.line.stream);
    arena_done(&a);
}

#define BEGINS(system, content, rest) \
    "{\"system\":" system ",\"messages\":[{\"role\":\"user\",\"content\":" content "}" rest "]}"

static void the_beginning_is_the_same_in_every_turn(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 0, 0);
    uint64_t first = facts_of(BEGINS("\"s\"", "\"hi\"", ""), &a).prefix_hash;
    static const struct {
        const char *body;
        bool same;
    } rows[] = {
        {BEGINS("\"s\"", "\"hi\"", ",{\"role\":\"assistant\",\"content\":\"x\"}"), true},
        {BEGINS("\"s\"", "[{\"type\":\"text\",\"text\":\"hi\",\"cache_control\":{\"type\":\"ephemeral\"}}]", ""),
         true},
        {BEGINS("[{\"type\":\"text\",\"text\":\"x-anthropic-billing-header: "
                "cch=1\"},{\"type\":\"text\",\"text\":\"s\"}]",
                "\"hi\"", ""),
         true},
        {BEGINS("\"t\"", "\"hi\"", ""), false},
        {BEGINS("\"s\"", "\"ho\"", ""), false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if ((facts_of(rows[i].body, &a).prefix_hash == first) != rows[i].same)
            fail_msg("%s", rows[i].body);
    uint64_t image =
        facts_of(BEGINS("\"s\"", "[{\"type\":\"image\",\"source\":{\"data\":\"A\"}}]", ""), &a).prefix_hash;
    assert_int_equal(
        facts_of(BEGINS("\"s\"", "[{\"type\":\"image\",\"cache_control\":{},\"source\":{\"data\":\"A\"}}]", ""),
                 &a)
            .prefix_hash,
        image);
    assert_int_not_equal(
        facts_of(BEGINS("\"s\"", "[{\"type\":\"image\",\"source\":{\"data\":\"B\"}}]", ""), &a).prefix_hash,
        image);
    arena_done(&a);
}

static const struct edit_row {
    const char *name, *in, *out;
    struct request_edit edit;
} edit_rows[] = {
    {"nothing to do", "{ \"model\" : \"c\", \"x\":1 }", "{ \"model\" : \"c\", \"x\":1 }", {.want_usage = true}},
    {"model and stream",
     "{ \"model\" : \"c\", \"x\":1 }",
     "{\"stream\":true, \"model\" : \"d\", \"x\":1 }",
     {.model = {"d", 1}, .force_stream = true}},
    {"the path has the model",
     "{\"model\":\"c\",\"x\":1,\"stream\":true}",
     "{\"anthropic_version\":\"v\",\"x\":1}",
     {.model = {"d", 1}, .drop_model = true, .version = "v"}},
    {"and the client its own version",
     "{\"anthropic_version\":\"w\", \"stream\":true, \"model\":\"c\"}",
     "{\"anthropic_version\":\"v\"}",
     {.drop_model = true, .force_stream = true, .version = "v"}},
    {"betas in the body, as Bedrock reads them",
     "{\"model\":\"c\",\"x\":1}",
     "{\"anthropic_version\":\"v\",\"anthropic_beta\":[\"a-1\",\"b-2\"],\"x\":1}",
     {.drop_model = true, .version = "v", .betas = {"a-1, b-2,", 9}}},
    {"but not a second time",
     "{\"anthropic_beta\":[\"z\"],\"x\":1}",
     "{\"anthropic_version\":\"v\",\"anthropic_beta\":[\"z\"],\"x\":1}",
     {.drop_model = true, .version = "v", .betas = {"a-1", 3}}},
    {"the path has all there is", "{\"stream\":true,\"model\":\"c\"}", "{}", {.drop_model = true}},
    {"foreign thinking goes",
     "{\"x\":1,\"messages\":[{\"role\":\"user\", \"content\":\"hi\"},{\"role\":\"assistant\", \"content\":["
     "{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"perdure-foreign\"},{\"type\":\"text\", "
     "\"text\":\"a\"}]},"
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"perdure-"
     "foreign\"}]},"
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"sig\"},"
     "{\"type\":\"text\",\"text\":\"b\",\"citations\":[{\"encrypted_index\":\"perdure-foreign\"}],\"y\":2}]}]}",
     "{\"x\":1,\"messages\":[{\"role\":\"user\", \"content\":\"hi\"},{\"role\":\"assistant\",\"content\":["
     "{\"type\":\"text\", \"text\":\"a\"}]},"
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"sig\"},"
     "{\"type\":\"text\",\"text\":\"b\",\"y\":2}]}]}",
     {.strip_foreign = true}},
    {"thinking is off when its turn lost it",
     "{\"context_management\":{},\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":9},\"messages\":["
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"signature\":\"perdure-foreign\"},{\"type\":"
     "\"tool_use\"}]},"
     "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]}",
     "{\"thinking\":{\"type\":\"disabled\"},\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_"
     "use\"}]},"
     "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]}]}",
     {.strip_foreign = true}},
    {"thinking stays when the user spoke since",
     "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":9},\"messages\":["
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"signature\":\"perdure-foreign\"},{\"type\":"
     "\"text\"}]},"
     "{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
     "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":9},\"messages\":["
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\"}]},{\"role\":\"user\",\"content\":[{\"type\":"
     "\"text\"}]}]}",
     {.strip_foreign = true}},
    {"thinking stays when there is an answer behind the results",
     "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":9},\"messages\":["
     "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]},{\"role\":\"assistant\",\"content\":["
     "{\"type\":\"thinking\",\"signature\":\"perdure-foreign\"},{\"type\":\"text\"}]},{\"role\":\"user\","
     "\"content\":\"x\"}]}",
     "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":9},\"messages\":["
     "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\"}]},{\"role\":\"assistant\",\"content\":["
     "{\"type\":\"text\"}]},{\"role\":\"user\",\"content\":\"x\"}]}",
     {.strip_foreign = true}},
    {"a text that looks like a mark stays",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"perdure-foreign\"}]}",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"perdure-foreign\"}]}",
     {.strip_foreign = true}},
};

static pd_err edit_once(const struct edit_row *row, struct buf *out)
{
    struct arena a;
    struct request_line line = {0};
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count = 0;
    const char *why;
    arena_init(&a, 0, 0);
    pd_err e = codec_anthropic.read_request(span_str(row->in), &line, &a, &f, &why);
    if (!e)
        e = codec_anthropic.edit_request(&f, &row->edit, &a, parts, &count);
    for (unsigned i = 0; !e && out && i < count; i++)
        e = buf_add(out, parts[i]);
    arena_done(&a);
    return e;
}

static void edits_change_what_they_must_and_nothing_else(void **state)
{
    (void)state;
    for (const struct edit_row *row = edit_rows; row < edit_rows + sizeof(edit_rows) / sizeof(*row); row++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(edit_once(row, &out), PD_OK);
        if (!span_is(buf_span(&out), row->out))
            fail_msg("%s:\nexpected %s\ngot      %.*s", row->name, row->out, SPAN_FMT(buf_span(&out)));
        buf_done(&out);
    }
}

static pd_err edit_alone(void *ctx)
{
    return edit_once(ctx, NULL);
}

static void edits_survive_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 1; i < 7; i++) {
        struct edit_row row = edit_rows[i];
        torture(edit_alone, &row);
    }
}

/* ---- errors and counts ------------------------------------------------------------------- */

static void errors_are_in_its_shape(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *type;
    } rows[] = {
        {400, "invalid_request_error"},
        {401, "authentication_error"},
        {402, "billing_error"},
        {403, "permission_error"},
        {404, "not_found_error"},
        {409, "conflict_error"},
        {413, "request_too_large"},
        {429, "rate_limit_error"},
        {500, "api_error"},
        {502, "api_error"},
        {503, "overloaded_error"},
        {504, "timeout_error"},
        {529, "overloaded_error"},
        {422, "invalid_request_error"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(codec_anthropic.error_type(rows[i].status), rows[i].type);
    struct client_error e = {.status = 503, .type = "api_error", .message = SPAN_LIT("no \"one\"")};
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(codec_put_error_event(&codec_anthropic, &e, &out), PD_OK);
    assert_true(span_is(buf_span(&out),
                        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
                        "\"message\":\"no \\\"one\\\"\"}}\n\n"));
    buf_clear(&out);
    e.code = "all_failed";
    e.attempts_json = SPAN_LIT("[1]");
    assert_int_equal(codec_put_error(&codec_anthropic, &e, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":"
                                        "\"no \\\"one\\\"\",\"code\":\"all_failed\",\"attempts\":[1]}}"));
    buf_done(&out);
}

static void counts_are_read_and_written(void **state)
{
    (void)state;
    struct arena a;
    struct answer_facts f;
    enum answer_end end;
    struct buf out;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    assert_int_equal(
        answer_read_whole(&codec_anthropic_count, SPAN_LIT("{\"input_tokens\":12}"), &a, &f, &end, NULL, NULL),
        PD_OK);
    assert_int_equal(end, ANSWER_COMPLETE);
    assert_int_equal(f.usage.input_total, 12);
    assert_int_equal(codec_anthropic_count.count->put(12, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "{\"input_tokens\":12}"));
    assert_int_equal(answer_read_whole(&codec_anthropic_count, SPAN_LIT("{\"type\":\"error\",\"error\":{}}"), &a,
                                       &f, &end, NULL, NULL),
                     PD_OK);
    assert_int_equal(end, ANSWER_FAILED);
    buf_done(&out);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_become_what_the_file_says),
        cmocka_unit_test(translating_survives_every_failed_allocation),
        cmocka_unit_test(streams_read_the_same_at_every_split),
        cmocka_unit_test(events_hold_what_they_should),
        cmocka_unit_test(events_get_their_name),
        cmocka_unit_test(a_stream_is_collected_with_all_that_is_in_it),
        cmocka_unit_test(a_collected_message_has_a_limit_of_blocks),
        cmocka_unit_test(what_is_spoken_is_heard_the_same),
        cmocka_unit_test(foreign_answers_are_marked),
        cmocka_unit_test(the_reason_to_stop_is_in_its_words),
        cmocka_unit_test(answers_survive_every_failed_allocation),
        cmocka_unit_test(requests_tell_what_routing_needs),
        cmocka_unit_test(the_beginning_is_the_same_in_every_turn),
        cmocka_unit_test(edits_change_what_they_must_and_nothing_else),
        cmocka_unit_test(edits_survive_every_failed_allocation),
        cmocka_unit_test(errors_are_in_its_shape),
        cmocka_unit_test(counts_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
