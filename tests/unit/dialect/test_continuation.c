#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "dialect/continuation.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

/* ---- who honours what ------------------------------------------------------------------ */

static const struct {
    const char *model;
    const struct codec *codec;
    enum continue_way way, want;
    bool thinks;
} ways[] = {
    {"claude-3-haiku-20240307", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"claude-3-5-sonnet-latest", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"claude-sonnet-4-20250514", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"claude-opus-4-1", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"claude-sonnet-4-5-20250929", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"claude-sonnet-4-5-20250929", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_ASK, true},
    {"claude-sonnet-4-5@20250929", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"claude-opus-4-6", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"claude-sonnet-5", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"claude-opus-latest", &codec_anthropic, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"anthropic.claude-3-5-sonnet-20240620-v1:0", &codec_bedrock_converse, CONTINUE_TRAILING, CONTINUE_TRAILING,
     false},
    {"eu.anthropic.claude-sonnet-4-5-20250929-v1:0", &codec_bedrock_converse, CONTINUE_TRAILING, CONTINUE_TRAILING,
     false},
    {"us.anthropic.claude-opus-4-6-v1", &codec_bedrock_converse, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"amazon.nova-pro-v1:0", &codec_bedrock_converse, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"anthropic/claude-opus-4.6", &codec_openai_chat, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"gemini-2.5-pro", &codec_gemini, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"gpt-5", &codec_openai_responses, CONTINUE_TRAILING, CONTINUE_ASK, false},
    {"qwen3", &codec_ollama, CONTINUE_TRAILING, CONTINUE_TRAILING, false},
    {"qwen3", &codec_ollama, CONTINUE_TRAILING, CONTINUE_ASK, true},
    {"deepseek-chat", &codec_openai_chat, CONTINUE_PREFIX, CONTINUE_PREFIX, false},
    {"deepseek-reasoner", &codec_openai_chat, CONTINUE_PREFIX, CONTINUE_ASK, false},
    {"deepseek-chat", &codec_openai_responses, CONTINUE_PREFIX, CONTINUE_ASK, false},
    {"mistral-large-latest", &codec_mistral, CONTINUE_PREFIX, CONTINUE_PREFIX, false},
    {"magistral-medium", &codec_openai_chat, CONTINUE_PREFIX, CONTINUE_ASK, false},
    {"qwen3", &codec_openai_chat, CONTINUE_FINAL, CONTINUE_FINAL, false},
    {"qwen3", &codec_openai_responses, CONTINUE_FINAL, CONTINUE_ASK, false},
    {"x", &codec_openai_chat, CONTINUE_ASK, CONTINUE_ASK, false},
    {"x", &codec_openai_chat, CONTINUE_REPEAT, CONTINUE_REPEAT, true},
};

static void a_way_holds_for_the_models_that_honour_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct request_facts f = {.reasoning = ways[i].thinks};
        enum continue_way got = continue_way_for(ways[i].way, ways[i].codec, span_str(ways[i].model), &f);
        if (got != ways[i].want)
            fail_msg("%s in %s: %s", ways[i].model, ways[i].codec->name, continue_way_name(got));
    }
}

static void ways_have_names_and_their_joining(void **state)
{
    (void)state;
    for (int w = 0; w < CONTINUE_WAY_COUNT; w++) {
        enum continue_way found = CONTINUE_WAY_COUNT;
        assert_true(continue_way_find(span_str(continue_way_name((enum continue_way)w)), &found));
        assert_int_equal(found, w);
    }
    enum continue_way untouched = CONTINUE_FINAL;
    assert_false(continue_way_find(SPAN_LIT("off"), &untouched));
    assert_int_equal(untouched, CONTINUE_FINAL);
    assert_int_equal(continue_join_mode(CONTINUE_ASK), JOIN_ANCHOR);
    assert_int_equal(continue_join_mode(CONTINUE_TRAILING), JOIN_PREFILL);
    assert_int_equal(continue_join_mode(CONTINUE_PREFIX), JOIN_PREFILL);
    assert_int_equal(continue_join_mode(CONTINUE_FINAL), JOIN_PREFILL);
    assert_int_equal(continue_join_mode(CONTINUE_REPEAT), JOIN_REPEAT);
}

/* ---- bodies ---------------------------------------------------------------------------- */

/* The words of the user's turn are ours to choose: in what is compared they are "ASKED". */
static void put_shortened(struct buf *out, struct span text)
{
    static const char from[] = "The connection broke", to[] = "write these words alone.";
    for (size_t i = 0; i < text.n; i++) {
        struct span rest = span_from(text, i);
        if (!span_starts(rest, from)) {
            assert_int_equal(buf_add(out, span_upto(rest, 1)), PD_OK);
            continue;
        }
        while (!span_starts(span_from(text, i), to))
            i++;
        i += strlen(to) - 1;
        assert_int_equal(buf_puts(out, "ASKED"), PD_OK);
    }
}

/* The body as it goes out. */
static pd_err spliced(const struct codec *c, const struct request_edit *edit, struct span body,
                      enum continue_way way, struct span seen, struct arena *a, struct buf *out)
{
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count = 0;
    const char *why;
    struct continuation k = {.way = way, .seen = seen, .given = join_givable(seen)};
    pd_err e = c->read_request(body, &(struct request_line){0}, a, &f, &why);
    if (!e)
        e = c->edit_request(&f, edit, a, parts, &count);
    if (!e)
        e = continuation_splice(c, &f, &k, a, parts, &count);
    assert_true(count <= REQUEST_PARTS_MAX);
    for (unsigned i = 0; !e && i < count; i++)
        e = buf_add(out, parts[i]);
    return e;
}

#define U "{\"role\":\"user\",\"content\":\"hi\"}"
static const struct {
    const char *name;
    const struct codec *codec;
    enum continue_way way;
    const char *seen, *body, *want;
} bodies[] = {
    {"chat, asked", &codec_openai_chat, CONTINUE_ASK, "One \"two\"\n", "{\"messages\":[" U " ] , \"stream\":true}",
     "{\"messages\":[" U
     ",{\"role\":\"assistant\",\"content\":\"One \\\"two\\\"\"},{\"role\":\"user\",\"content\":"
     "\"ASKED\"} ] , \"stream\":true}"},
    {"chat, trailing", &codec_openai_chat, CONTINUE_TRAILING, "One \n", "{\"messages\":[" U "]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}]}"},
    {"chat, prefix", &codec_openai_chat, CONTINUE_PREFIX, "One", "{\"messages\":[" U "]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\",\"prefix\":true}]}"},
    {"chat, final", &codec_openai_chat, CONTINUE_FINAL, "One", "{\"messages\":[" U "],\"n\":1 } ",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}],\"n\":1 "
     ",\"continue_final_message\":true,\"add_generation_prompt\":false} "},
    {"chat, repeat", &codec_openai_chat, CONTINUE_REPEAT, "One", "{\"messages\":[" U "]}",
     "{\"messages\":[" U "]}"},
    {"chat, nothing but white space seen", &codec_openai_chat, CONTINUE_FINAL, " \n", "{\"messages\":[" U "]}",
     "{\"messages\":[" U "]}"},
    {"chat, no turns", &codec_openai_chat, CONTINUE_TRAILING, "One", "{\"messages\":[ ]}",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"One\"} ]}"},
    {"chat, of two lists the last", &codec_openai_chat, CONTINUE_TRAILING, "One",
     "{\"messages\":[1],\"messages\":[" U "]}",
     "{\"messages\":[1],\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}]}"},
    {"chat, the client's own beginning", &codec_openai_chat, CONTINUE_TRAILING, " two",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One two\"}]}"},
    {"chat, the client's own beginning in parts", &codec_openai_chat, CONTINUE_ASK, " two",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"One\"}]}]}",
     "{\"messages\":[" U
     ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"One two\"}]},{\"role\":"
     "\"user\",\"content\":\"ASKED\"}]}"},
    {"chat, the client's own beginning as a prefix", &codec_mistral, CONTINUE_PREFIX, " two",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}]}",
     "{\"messages\":[" U ",{\"prefix\":true,\"role\":\"assistant\",\"content\":\"One two\"}]}"},
    {"chat, a prefix already", &codec_openai_chat, CONTINUE_PREFIX, " two",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\",\"prefix\":true}]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One two\",\"prefix\":true}]}"},
    {"chat, behind calls", &codec_openai_chat, CONTINUE_TRAILING, "Two",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\",\"tool_calls\":[]}]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\",\"tool_calls\":[]},{\"role\":\"assistant\","
     "\"content\":\"Two\"}]}"},
    {"chat, behind a tool's result", &codec_openai_chat, CONTINUE_TRAILING, "Two",
     "{\"messages\":[{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"x\"}]}",
     "{\"messages\":[{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"x\"},{\"role\":\"assistant\","
     "\"content\":"
     "\"Two\"}]}"},
    {"chat, a document was wanted", &codec_openai_chat, CONTINUE_TRAILING,
     "{\"a\":", "{\"response_format\":{\"type\":\"json_object\"},\"messages\":[" U "]}",
     "{\"response_format\":{\"type\":\"text\"},\"messages\":[" U
     ",{\"role\":\"assistant\",\"content\":\"{\\\"a\\\":\"}]}"},
    {"Messages, trailing", &codec_anthropic, CONTINUE_TRAILING, "One\n", "{\"max_tokens\":9,\"messages\":[" U "]}",
     "{\"max_tokens\":9,\"messages\":[" U
     ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"One\"}]}]}"},
    {"Messages, asked", &codec_anthropic, CONTINUE_ASK, "One", "{\"messages\":[" U "]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"One\"}]},{\"role\":"
     "\"user\",\"content\":[{"
     "\"type\":\"text\",\"text\":\"ASKED\"}]}]}"},
    {"Messages, a document was wanted", &codec_anthropic, CONTINUE_TRAILING, "{",
     "{\"output_config\":{\"effort\":\"low\",\"format\":{\"type\":\"json_schema\"}},\"messages\":[" U "]}",
     "{\"output_config\":{\"effort\":\"low\",\"format\":null},\"messages\":[" U
     ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"{\"}]}]}"},
    {"Gemini, asked", &codec_gemini, CONTINUE_ASK, "One",
     "{\"contents\":[{\"parts\":[{\"text\":\"hi\"}]}],\"generationConfig\":{\"responseMimeType\":\"application/"
     "json\"}}",
     "{\"contents\":[{\"parts\":[{\"text\":\"hi\"}]},{\"role\":\"model\",\"parts\":[{\"text\":\"One\"}]},{"
     "\"role\":"
     "\"user\",\"parts\":[{\"text\":\"ASKED\"}]}],\"generationConfig\":{\"responseMimeType\":null}}"},
    {"Gemini, the client's own beginning", &codec_gemini, CONTINUE_ASK, " two",
     "{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"One\"}]}]}",
     "{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"One "
     "two\"}]},{\"role\":\"user\",\"parts\":[{\"text\":"
     "\"ASKED\"}]}]}"},
    {"Gemini, behind its thoughts", &codec_gemini, CONTINUE_ASK, "One",
     "{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"hm\",\"thought\":true}]}]}",
     "{\"contents\":[{\"role\":\"model\",\"parts\":[{\"text\":\"hm\",\"thought\":true}]},{\"role\":\"model\","
     "\"parts\":[{"
     "\"text\":\"One\"}]},{\"role\":\"user\",\"parts\":[{\"text\":\"ASKED\"}]}]}"},
    {"Converse, trailing", &codec_bedrock_converse, CONTINUE_TRAILING, "One ",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"hi\"}]}]}",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"hi\"}]},{\"role\":\"assistant\",\"content\":[{"
     "\"text\":\"One\"}]}]}"},
    {"Ollama, trailing", &codec_ollama, CONTINUE_TRAILING, "One", "{\"format\":\"json\",\"messages\":[" U "]}",
     "{\"format\":null,\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}]}"},
    {"Responses, a list", &codec_openai_responses, CONTINUE_ASK, "One", "{\"input\":[" U "]}",
     "{\"input\":[" U
     ",{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"One\"}]},{"
     "\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
     "\"text\":"
     "\"ASKED\"}]}]}"},
    {"Responses, a text", &codec_openai_responses, CONTINUE_ASK, "One", "{\"input\":\"hi\\n\",\"model\":\"m\"}",
     "{\"input\":[{\"role\":\"user\",\"content\":\"hi\\n\"},{\"type\":\"message\",\"role\":\"assistant\","
     "\"content\":[{"
     "\"type\":\"output_text\",\"text\":\"One\"}]},{\"type\":\"message\",\"role\":\"user\","
     "\"content\":[{\"type\":\"input_text\",\"text\":\"ASKED\"}]}],\"model\":\"m\"}"},
    {"no list of turns", &codec_openai_chat, CONTINUE_ASK, "One", "{\"messages\":7}", "!PD_UNSUPPORTED"},
    {"no turns at all", &codec_gemini, CONTINUE_ASK, "One", "{}", "!PD_UNSUPPORTED"},
    {"one prompt", &codec_ollama_generate, CONTINUE_ASK, "One", "{\"prompt\":\"hi\"}", "!PD_UNSUPPORTED"},
};
enum { BODIES = sizeof(bodies) / sizeof(bodies[0]) };

static void the_turns_stand_behind_the_clients_and_all_else_stays(void **state)
{
    (void)state;
    for (int i = 0; i < BODIES; i++) {
        struct arena a;
        struct buf b, shortened;
        arena_init(&a, 0, 0);
        buf_init(&b, 0);
        buf_init(&shortened, 0);
        pd_err e = spliced(bodies[i].codec, &(struct request_edit){0}, span_str(bodies[i].body), bodies[i].way,
                           span_str(bodies[i].seen), &a, &b);
        if (e)
            assert_int_equal(buf_printf(&b, "!%s", pd_err_name(e)), PD_OK);
        else
            assert_int_equal(json_check(buf_span(&b)), PD_OK);
        put_shortened(&shortened, buf_span(&b));
        if (!span_is(buf_span(&shortened), bodies[i].want))
            fail_msg("%s: want %s\ngot  %.*s", bodies[i].name, bodies[i].want, SPAN_FMT(buf_span(&shortened)));
        buf_done(&b);
        buf_done(&shortened);
        arena_done(&a);
    }
}

static void other_edits_hold_beside_the_turns(void **state)
{
    (void)state;
    static const struct {
        struct request_edit edit;
        const struct codec *codec;
        const char *body, *want;
    } edited[] = {
        {{.model = {"new", 3}, .force_stream = true, .want_usage = true},
         &codec_openai_chat,
         "{\"model\":\"old\",\"messages\":[" U "],\"stream\":false}",
         "{\"stream_options\":{\"include_usage\":true},\"model\":\"new\",\"messages\":[" U
         ",{\"role\":\"assistant\",\"content\":\"One\"}],\"stream\":true}"},
        {{.drop_model = true, .version = "v"},
         &codec_anthropic,
         "{\"messages\":[" U "],\"model\":\"old\"}",
         "{\"anthropic_version\":\"v\",\"messages\":[" U
         ",{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"One\"}]}]}"},
        /* what perdure put into an earlier answer is taken out, and the list stands elsewhere then */
        {{.strip_foreign = true},
         &codec_anthropic,
         "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"x\","
         "\"signature\":\"perdure\"},{\"type\":\"text\",\"text\":\"a\"}]}," U "]}",
         NULL},
    };
    for (size_t i = 0; i < sizeof(edited) / sizeof(edited[0]); i++) {
        struct arena a;
        struct buf b;
        arena_init(&a, 0, 0);
        buf_init(&b, 0);
        assert_int_equal(spliced(edited[i].codec, &edited[i].edit, span_str(edited[i].body), CONTINUE_TRAILING,
                                 SPAN_LIT("One"), &a, &b),
                         PD_OK);
        assert_int_equal(json_check(buf_span(&b)), PD_OK);
        if (edited[i].want && !span_is(buf_span(&b), edited[i].want))
            fail_msg("want %s\ngot  %.*s", edited[i].want, SPAN_FMT(buf_span(&b)));
        assert_true(span_has(buf_span(&b), "\"text\":\"One\"}]}]") || edited[i].want);
        buf_done(&b);
        arena_done(&a);
    }
}

static void a_large_body_is_not_copied(void **state)
{
    (void)state;
    enum { BYTES = 2 << 20 };
    char *body = malloc(BYTES + 100);
    int n = sprintf(body, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(body + n, 'x', BYTES);
    n += BYTES;
    n += sprintf(body + n, "\"}]}");
    struct arena a;
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count;
    const char *why;
    struct continuation k = {.way = CONTINUE_ASK, .seen = SPAN_LIT("One"), .given = 3};
    arena_init(&a, 0, 0);
    assert_int_equal(
        codec_openai_chat.read_request(span_of(body, (size_t)n), &(struct request_line){0}, &a, &f, &why), PD_OK);
    assert_int_equal(codec_openai_chat.edit_request(&f, &(struct request_edit){0}, &a, parts, &count), PD_OK);
    assert_int_equal(continuation_splice(&codec_openai_chat, &f, &k, &a, parts, &count), PD_OK);
    assert_int_equal(count, 3);
    assert_ptr_equal(parts[0].p, body);
    assert_ptr_equal(parts[2].p + parts[2].n, body + n);
    assert_true(a.used_bytes < 16 * 1024);
    arena_done(&a);
    free(body);
}

/* ---- neutral ----------------------------------------------------------------------------- */

static pd_err rewritten(const struct codec *to, struct span body, enum continue_way way, struct span seen,
                        struct arena *a, struct buf *out)
{
    struct request_facts f;
    struct msg_request m;
    const char *why;
    struct continuation k = {.way = way, .seen = seen, .given = join_givable(seen)};
    struct write_want want = {.model = SPAN_LIT("m"), .continues = (int)way};
    msg_request_init(&m);
    pd_err e = codec_openai_chat.read_request(body, &(struct request_line){0}, a, &f, &why);
    if (!e)
        e = codec_openai_chat.parse_request(&f, a, &m, &why);
    if (!e)
        e = continuation_add(&m, &k, a);
    return e ? e : to->write_request(&m, &want, a, out);
}

static const struct {
    const char *name;
    const struct codec *to;
    enum continue_way way;
    const char *seen, *body, *has, *has_not;
} written[] = {
    {"prefix", &codec_openai_chat, CONTINUE_PREFIX, "One \n", "{\"messages\":[" U "]}",
     "{\"role\":\"assistant\",\"content\":\"One\",\"prefix\":true}]", "continue_final"},
    {"final", &codec_openai_chat, CONTINUE_FINAL, "One", "{\"messages\":[" U "]}",
     "{\"role\":\"assistant\",\"content\":\"One\"}],\"continue_final_message\":true,\"add_generation_prompt\":"
     "false",
     "prefix"},
    {"asked", &codec_gemini, CONTINUE_ASK, "One", "{\"messages\":[" U "]}",
     "{\"role\":\"model\",\"parts\":[{\"text\":\"One\"}]},{\"role\":\"user\",\"parts\":[{\"text\":\"ASKED\"}]}]",
     "@"},
    {"trailing", &codec_anthropic, CONTINUE_TRAILING, "One", "{\"messages\":[" U "]}",
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"One\"}]}]", "ASKED"},
    {"the client's own beginning", &codec_anthropic, CONTINUE_TRAILING, " two",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"One\"}]}", "\"text\":\"One two\"}]}]", "ASKED"},
    {"behind calls", &codec_openai_chat, CONTINUE_PREFIX, "Two",
     "{\"messages\":[" U
     ",{\"role\":\"assistant\",\"content\":\"One\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
     "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}]}",
     "{\"role\":\"assistant\",\"content\":\"Two\",\"prefix\":true}]", "OneTwo"},
    {"one prefix alone", &codec_openai_chat, CONTINUE_PREFIX, "Two",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"One\"}," U "]}",
     "{\"role\":\"assistant\",\"content\":\"One\"}", "@"},
    {"nothing to repeat", &codec_openai_chat, CONTINUE_REPEAT, "One", "{\"messages\":[" U "]}",
     "\"messages\":[" U "]", "One"},
    {"no document any more", &codec_openai_chat, CONTINUE_ASK, "{\"a\":",
     "{\"response_format\":{\"type\":\"json_object\"},\"messages\":[" U "]}", "ASKED", "response_format"},
    {"less is left to say", &codec_openai_chat, CONTINUE_TRAILING, "1234567890123456789012345678901234567890",
     "{\"max_tokens\":100,\"messages\":[" U "]}", "\"max_tokens\":90", "@"},
    {"but something is", &codec_openai_chat, CONTINUE_TRAILING, "1234567890123456789012345678901234567890",
     "{\"max_tokens\":20,\"messages\":[" U "]}", "\"max_tokens\":16", "@"},
    {"and no more than was allowed", &codec_openai_chat, CONTINUE_TRAILING, "12345678901234567890",
     "{\"max_tokens\":3,\"messages\":[" U "]}", "\"max_tokens\":3", "@"},
};

static void the_neutral_form_has_the_turns_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++) {
        struct arena a;
        struct buf b, shortened;
        arena_init(&a, 0, 0);
        buf_init(&b, 0);
        buf_init(&shortened, 0);
        assert_int_equal(
            rewritten(written[i].to, span_str(written[i].body), written[i].way, span_str(written[i].seen), &a, &b),
            PD_OK);
        put_shortened(&shortened, buf_span(&b));
        if (!span_has(buf_span(&shortened), written[i].has) || span_has(buf_span(&shortened), written[i].has_not))
            fail_msg("%s: %.*s", written[i].name, SPAN_FMT(buf_span(&shortened)));
        buf_done(&b);
        buf_done(&shortened);
        arena_done(&a);
    }
}

static void who_is_asked_is_told_the_last_words(void **state)
{
    (void)state;
    struct arena a;
    struct buf b;
    arena_init(&a, 0, 0);
    buf_init(&b, 0);
    assert_int_equal(spliced(&codec_openai_chat, &(struct request_edit){0}, SPAN_LIT("{\"messages\":[" U "]}"),
                             CONTINUE_ASK, SPAN_LIT("It is a \"beautiful\" day tod"), &a, &b),
                     PD_OK);
    assert_true(span_has(buf_span(&b), "are:\\n\\nIt is a \\\"beautiful\\\" day tod\\n\\nand go on"));
    buf_done(&b);
    arena_done(&a);
}

/* ---- memory ------------------------------------------------------------------------------ */

static pd_err splice_work(void *ctx)
{
    const int *i = ctx;
    struct arena a;
    struct buf b;
    arena_init(&a, 64, 0);
    buf_init(&b, 0);
    pd_err e = spliced(bodies[*i].codec, &(struct request_edit){0}, span_str(bodies[*i].body), bodies[*i].way,
                       span_str(bodies[*i].seen), &a, &b);
    buf_done(&b);
    arena_done(&a);
    return e == PD_UNSUPPORTED ? PD_OK : e;
}

static pd_err add_work(void *ctx)
{
    const size_t *i = ctx;
    struct arena a;
    struct buf b;
    arena_init(&a, 64, 0);
    buf_init(&b, 0);
    pd_err e =
        rewritten(written[*i].to, span_str(written[*i].body), written[*i].way, span_str(written[*i].seen), &a, &b);
    buf_done(&b);
    arena_done(&a);
    return e;
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (int i = 0; i < BODIES; i++)
        failed += torture(splice_work, &i); /* where nothing is put in nothing is taken */
    assert_true(failed > BODIES);
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++)
        assert_true(torture(add_work, &i) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_way_holds_for_the_models_that_honour_it),
        cmocka_unit_test(ways_have_names_and_their_joining),
        cmocka_unit_test(the_turns_stand_behind_the_clients_and_all_else_stays),
        cmocka_unit_test(other_edits_hold_beside_the_turns),
        cmocka_unit_test(a_large_body_is_not_copied),
        cmocka_unit_test(the_neutral_form_has_the_turns_too),
        cmocka_unit_test(who_is_asked_is_told_the_last_words),
        cmocka_unit_test(every_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
