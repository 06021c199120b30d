/* The pure parts of the simulation: scripts and their messages, faults and who gets them, schema examples, framing, answers. */
#include "base/mem.h"
#include "simulate/answer.h"
#include "simulate/dialect.h"
#include "simulate/schema.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>

/* ---- scripts -------------------------------------------------------------- */

static const struct {
    const char *name, *script;
    const char *says[4]; /* all of these are in the message */
} bad_scripts[] = {
    {"not JSON", "{\"providers\": {\"a\": {}\n", {"t.json", "not JSON", "comma"}},
    {"an unknown key", "{\n \"provider\": {}}", {"t.json line 2", "\"provider\"", "providers"}},
    {"an unknown key of a provider",
     "{\"providers\": {\n\"a\": {\n\"ttfb\": 1}}}",
     {"line 3", "provider a", "ttfb", "ttft"}},
    {"a time without a number",
     "{\"providers\": {\"a\": {\"ttft\": \"soon\"}}}",
     {"provider a", "ttft is \"soon\"", "200ms"}},
    {"a ratio over one", "{\"providers\": {\"a\": {\"jitter\": 2}}}", {"jitter is 2", "0 to 1"}},
    {"an unknown style", "{\"providers\": {\"a\": {\"style\": \"opnai\"}}}", {"opnai", "openai", "mistral"}},
    {"an unknown framing",
     "{\"providers\": {\"a\": {\"framing\": \"sse+xml\"}}}",
     {"framing has no \"xml\"", "jsonl"}},
    {"a port that is none", "{\"providers\": {\"a\": {\"port\": 70000}}}", {"port is 70000", "65535"}},
    {"a name that is none", "{\"providers\": {\"a b\": {}}}", {"a b", "letters"}},
    {"a fault without a name",
     "{\"providers\": {\"a\": {\"faults\": [{\"after\": 3}]}}}",
     {"provider a, fault 1", "without a name", "cut"}},
    {"a fault that is none",
     "{\"providers\": {\"a\": {\"faults\": [\n{\"fault\": \"cutt\"}]}}}",
     {"line 2", "fault 1", "cutt", "cut"}},
    {"a key of another fault",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"none\"}, {\"fault\": \"cut\", \"status\": 500}]}}}",
     {"fault 2", "\"status\" is no key of the fault \"cut\"", "after"}},
    {"a status fault without a status",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"status\"}]}}}",
     {"needs a status", "529"}},
    {"a status that is none",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"status\", \"status\": 99}]}}}",
     {"status is 99", "200"}},
    {"a shape of another fault",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"stall\", \"shape\": \"html\"}]}}}",
     {"stall", "comments"}},
    {"an error that has no name",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"status\", \"like\": \"x\"}]}}}",
     {"\"x\"", "context_length"}},
    {"a header that frames the body",
     "{\"providers\": {\"a\": {\"headers\": {\"Content-Length\": \"1\"}}}}",
     {"Content-Length", "short_length"}},
    {"a header that breaks the head",
     "{\"providers\": {\"a\": {\"headers\": {\"x\": \"a\\r\\nb: c\"}}}}",
     {"control byte"}},
    {"flapping with one time", "{\"providers\": {\"a\": {\"up\": \"1s\"}}}", {"both times"}},
    {"a turn that says nothing",
     "{\"providers\": {\"a\": {\"turns\": [{\"match\": \"x\"}]}}}",
     {"turn 1", "says nothing"}},
    {"a regex that does not compile",
     "{\"providers\": {\"a\": {\"turns\": [{\"regex\": \"(\", \"text\": \"x\"}]}}}",
     {"regex", "compile"}},
    {"a call without a name",
     "{\"providers\": {\"a\": {\"turns\": [{\"tool_calls\": [{\"arguments\": {}}]}]}}}",
     {"without a name", "\"name\""}},
    {"before_body with match",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"status\", \"status\": 413, \"before_body\": true, "
     "\"match\": \"x\"}]}}}",
     {"before_body", "match"}},
    {"to before from",
     "{\"providers\": {\"a\": {\"faults\": [{\"fault\": \"cut\", \"from\": 5, \"to\": 3}]}}}",
     {"to is before from"}},
};

static void a_bad_script_is_told_where_what_and_what_to_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_scripts) / sizeof(bad_scripts[0]); i++) {
        char why[READ_WHY] = "";
        struct script *s = script_new();
        assert_non_null(s);
        pd_err err = script_read(s, span_str(bad_scripts[i].script), "t.json", why);
        script_free(s);
        if (err == PD_OK)
            fail_msg("%s: accepted", bad_scripts[i].name);
        for (size_t k = 0; k < 4 && bad_scripts[i].says[k]; k++)
            if (!strstr(why, bad_scripts[i].says[k]))
                fail_msg("%s: \"%s\" does not say \"%s\"", bad_scripts[i].name, why, bad_scripts[i].says[k]);
    }
}

static void a_script_is_read_whole(void **state)
{
    (void)state;
    char why[READ_WHY];
    struct script *s = script_new();
    const char *text = "{\"seed\": 7, \"control\": 0, \"providers\": {\"a\": {\"port\": 0, \"style\": "
                       "\"deepseek\", \"framing\": \"sse-crlf+no-done\","
                       "\"ttft\": \"1.5s\", \"token_delay\": \"100us\", \"models\": [\"m\", \"n\"], \"headers\": "
                       "{\"x-a\": \"b\"},"
                       "\"flapping\": {\"up\": \"2s\", \"down\": \"1s\", \"fault\": \"refuse\"},"
                       "\"faults\": [\"cut\", {\"fault\": \"status\", \"status\": 529, \"times\": 3, \"headers\": "
                       "{\"retry-after\": 2}}],"
                       "\"turns\": [{\"text\": \"one\"}, {\"regex\": \"^x+$\", \"tool_calls\": [{\"name\": \"f\", "
                       "\"arguments\": {\"a\": 1}}]}]}}}";
    assert_non_null(s);
    pd_err err = script_read(s, span_str(text), "t.json", why);
    if (err != PD_OK)
        fail_msg("%s", why);
    const struct script_provider *p = &s->providers[0];
    assert_int_equal(s->seed, 7);
    assert_string_equal(p->style->name, "deepseek");
    assert_int_equal(p->framing, FRAME_CRLF | FRAME_NO_DONE);
    assert_int_equal(p->ttft_us, 1500000);
    assert_int_equal(p->token_delay_us, 100);
    assert_int_equal(p->models.count, 2);
    assert_int_equal(p->flap.kind, FAULT_REFUSE);
    assert_int_equal(p->faults_count, 2);
    assert_int_equal(p->faults[0].times, 1);
    assert_int_equal(p->faults[1].times, 3);
    assert_true(span_is(p->faults[1].headers.at[0].value, "2"));
    assert_int_equal(p->turns_count, 2);
    assert_true(span_is(p->turns[1].calls[0].arguments, "{\"a\": 1}"));
    assert_int_equal(script_complete(s), PD_OK);
    script_free(s);
}

static void an_option_is_the_script_it_stands_for(void **state)
{
    (void)state;
    char why[READ_WHY];
    struct script *s = script_new();
    assert_non_null(s);
    assert_int_equal(
        script_option(s, "a:0,style=groq,ttft=20ms,fault=status,status=529,times=3,fault=cut,after=20,ttft=1s",
                      why),
        PD_OK);
    assert_int_equal(script_option(s, "b", why), PD_OK);
    assert_int_equal(script_complete(s), PD_OK);
    assert_int_equal(s->providers_count, 2);
    assert_int_equal(s->providers[0].port, 0);
    assert_int_equal(s->providers[1].port, 9102);
    assert_int_equal(s->providers[0].ttft_us, 20000);
    assert_int_equal(s->providers[0].faults_count, 2);
    assert_int_equal(s->providers[0].faults[0].status, 529);
    assert_int_equal(s->providers[0].faults[1].after, 20);
    assert_int_equal(s->providers[0].faults[1].ttft_us, 1000000);
    assert_int_equal(script_option(s, "c,ttft", why), PD_INVALID);
    assert_non_null(strstr(why, "key=value"));
    assert_int_equal(script_option(s, "c,fault=cut,style=groq", why), PD_INVALID);
    assert_non_null(strstr(why, "before fault="));
    script_free(s);
}

static pd_err read_a_script(void *ctx)
{
    char why[READ_WHY];
    struct script *s = script_new();
    pd_err err = s ? script_read(s, span_str(ctx), "t.json", why) : PD_NOMEM;
    if (err == PD_OK)
        err = script_option(s, "b,ttft=1s,fault=cut", why);
    if (err == PD_OK)
        err = script_complete(s);
    script_free(s);
    return err;
}

static void a_script_survives_every_failed_allocation(void **state)
{
    (void)state;
    char text[] = "{\"providers\": {\"a\\u0041\": {}, \"a\": {\"models\": [\"\\u0041\"], \"headers\": {\"x\": "
                  "\"\\u0041\"}, \"faults\": [\"cut\"],"
                  "\"turns\": [{\"regex\": \"a\", \"text\": \"\\u0041\", \"tool_calls\": [{\"name\": \"f\"}]}]}}}";
    char good[sizeof(text)];
    snprintf(good, sizeof(good), "%s", text);
    memcpy(strstr(good, "a\\u0041"), "abcdefg", 7); /* a plain name */
    assert_true(torture(read_a_script, good) >= 4);
}

/* ---- faults --------------------------------------------------------------- */

static struct fault_set *set_of(const char *json)
{
    char why[READ_WHY];
    struct reader r;
    struct json doc;
    struct fault_set *s = fault_set_new(0);
    assert_non_null(s);
    reader_init(&r, "t", span_str(json), true, &s->mem, why);
    assert_int_equal(json_first(span_str(json), &doc, NULL), PD_OK);
    if (fault_read_list(&r, doc, &s->rows, &s->count) != PD_OK)
        fail_msg("%s", why);
    return s;
}

/* Who gets what, a letter for each request: the first of the fault's name, "." for none. */
static const struct {
    const char *name, *faults, *got;
} picks[] = {
    {"a list is consumed in order", "[{\"fault\": \"status\", \"status\": 500, \"times\": 2}, \"cut\"]",
     "ssc....."},
    {"none keeps a place", "[\"none\", \"none\", \"cut\"]", "nnc....."},
    {"times 0 is for ever", "[{\"fault\": \"cut\", \"times\": 0}]", "cccccccc"},
    {"from and to count requests", "[{\"fault\": \"cut\", \"from\": 3, \"to\": 5}]", "..ccc..."},
    {"a condition does not hold up what follows", "[{\"fault\": \"cut\", \"from\": 3, \"to\": 3}, \"silent\"]",
     "s.c....."},
    {"match looks into the body", "[{\"fault\": \"cut\", \"match\": \"odd\"}]", "c.c.c.c."},
    {"on keeps to its endpoint", "[{\"fault\": \"cut\", \"on\": \"embeddings\", \"times\": 0}]", "........"},
    {"rate 1 is everyone", "[{\"fault\": \"cut\", \"rate\": 1}]", "cccccccc"},
    {"since and until are times", "[{\"fault\": \"cut\", \"since\": \"2ms\", \"until\": \"4ms\"}]", "..cc...."},
    {"reused connections only", "[{\"fault\": \"reset\", \"when\": \"reused\", \"times\": 2}]", ".r.r...."},
};

static void each_request_gets_the_fault_that_is_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(picks) / sizeof(picks[0]); i++) {
        struct fault_set *s = set_of(picks[i].faults);
        char got[9] = "";
        for (unsigned k = 0; k < 8; k++) {
            struct fault_query q = {.seed = 1,
                                    .now_us = k * 1000,
                                    .on = FAULT_ON_CHAT,
                                    .reused = k & 1,
                                    .body = span_str(k & 1 ? "even" : "odd")};
            const struct fault *f = fault_pick(s, &q);
            got[k] = f ? fault_name(f->kind)[0] : '.';
        }
        if (strcmp(got, picks[i].got) != 0)
            fail_msg("%s: %s, not %s", picks[i].name, got, picks[i].got);
        fault_set_unref(s);
    }
}

static void a_seed_gives_the_same_faults_again_and_about_its_share(void **state)
{
    (void)state;
    unsigned hits = 0;
    struct fault_set *a = set_of("[{\"fault\": \"cut\", \"rate\": 0.2}]"),
                     *b = set_of("[{\"fault\": \"cut\", \"rate\": 0.2}]");
    for (unsigned i = 0; i < 2000; i++) {
        struct fault_query q = {.seed = 42, .on = FAULT_ON_CHAT};
        bool hit = fault_pick(a, &q) != NULL;
        assert_int_equal(hit, fault_pick(b, &q) != NULL);
        hits += hit;
    }
    assert_in_range(hits, 340, 460);
    fault_set_unref(a);
    fault_set_unref(b);
}

static void a_head_alone_takes_only_what_needs_no_body(void **state)
{
    (void)state;
    struct fault_set *s = set_of("[\"cut\", {\"fault\": \"status\", \"status\": 413, \"before_body\": true}]");
    struct fault_query head = {.on = FAULT_ON_CHAT, .head_only = true}, all = {.on = FAULT_ON_CHAT};
    assert_null(fault_pick(s, &head)); /* the cut comes first */
    assert_int_equal(fault_pick(s, &all)->kind, FAULT_CUT);
    assert_int_equal(fault_pick(s, &head)->kind, FAULT_STATUS);
    assert_null(fault_pick(s, &all));
    fault_set_unref(s);
}

/* ---- schema --------------------------------------------------------------- */

static const struct {
    const char *name, *schema, *example;
} schemas[] = {
    {"required members only",
     "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"string\"}},\"required\":["
     "\"b\"]}",
     "{\"b\":\"sample b\"}"},
    {"all members without required", "{\"properties\":{\"a\":{\"type\":\"boolean\"},\"b\":{\"type\":\"null\"}}}",
     "{\"a\":true,\"b\":null}"},
    {"the first of an enum", "{\"enum\":[\"x\",\"y\"]}", "\"x\""},
    {"const", "{\"const\":{\"k\":[1]}}", "{\"k\":[1]}"},
    {"bounds", "{\"type\":\"integer\",\"minimum\":4}", "4"},
    {"exclusive bounds", "{\"type\":\"integer\",\"exclusiveMinimum\":4,\"maximum\":9}", "5"},
    {"below one", "{\"type\":\"number\",\"maximum\":0.5}", "0.5"},
    {"multiples", "{\"type\":\"integer\",\"minimum\":6,\"multipleOf\":5}", "10"},
    {"type lists with null", "{\"type\":[\"null\",\"integer\"]}", "1"},
    {"anyOf with null", "{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"boolean\"}]}", "true"},
    {"a reference",
     "{\"$defs\":{\"n\":{\"type\":\"integer\"}},\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
     "n\"},\"minItems\":2}",
     "[1,1]"},
    {"a tuple",
     "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"items\":false}",
     "[1,\"sample\"]"},
    {"no items allowed", "{\"type\":\"array\",\"maxItems\":0,\"items\":{}}", "[]"},
    {"formats", "{\"type\":\"string\",\"format\":\"date\"}", "\"2026-01-02\""},
    {"lengths", "{\"type\":\"string\",\"minLength\":8,\"maxLength\":8}", "\"samplexx\""},
    {"nothing said", "{}", "\"sample\""},
    {"no schema", "null", "{}"},
};

static void an_example_fits_its_schema(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        struct json schema;
        struct buf text;
        buf_init(&text, 0);
        struct put out = put_into(&text);
        assert_int_equal(json_first(span_str(schemas[i].schema), &schema, NULL), PD_OK);
        schema_put_example(&out, schema);
        assert_int_equal(out.err, PD_OK);
        if (!span_is(buf_span(&text), schemas[i].example))
            fail_msg("%s: %.*s, not %s", schemas[i].name, SPAN_FMT(buf_span(&text)), schemas[i].example);
        buf_done(&text);
    }
}

static void a_schema_that_never_ends_is_ended(void **state)
{
    (void)state;
    const char *text = "{\"properties\":{\"a\":{\"$ref\":\"#\"},\"b\":{\"$ref\":\"#\"},\"c\":{\"$ref\":\"#\"}},"
                       "\"required\":[\"a\",\"b\",\"c\"]}";
    struct json schema;
    struct buf out_text;
    buf_init(&out_text, 0);
    struct put out = put_into(&out_text);
    assert_int_equal(json_first(span_str(text), &schema, NULL), PD_OK);
    schema_put_example(&out, schema);
    assert_int_equal(json_check(buf_span(&out_text)), PD_OK);
    assert_true(buf_size(&out_text) < 4 * 1024 * 1024);
    buf_done(&out_text);
}

/* ---- framing -------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned framing;
    const char *event, *done;
} frames[] = {
    {"sse", FRAME_SSE, "data: {\"a\":1,\"b\":2}\n\n", "data: [DONE]\n\n"},
    {"CRLF", FRAME_CRLF, "data: {\"a\":1,\"b\":2}\r\n\r\n", "data: [DONE]\r\n\r\n"},
    {"CR", FRAME_CR, "data: {\"a\":1,\"b\":2}\r\r", "data: [DONE]\r\r"},
    {"no space", FRAME_NO_SPACE, "data:{\"a\":1,\"b\":2}\n\n", "data:[DONE]\n\n"},
    {"two data lines", FRAME_MULTILINE, "data: {\"a\":1,\ndata: \"b\":2}\n\n", "data: [DONE]\n\n"},
    {"JSON lines", FRAME_JSONL, "{\"a\":1,\"b\":2}\n", ""},
    {"no last blank line", FRAME_NO_FINAL_BLANK, "data: {\"a\":1,\"b\":2}\n\n", "data: [DONE]\n"},
    {"no [DONE]", FRAME_NO_DONE, "data: {\"a\":1,\"b\":2}\n\n", ""},
    {"event names", FRAME_EVENT_NAMES, "event: message\ndata: {\"a\":1,\"b\":2}\n\n", "data: [DONE]\n\n"},
};

static void each_framing_is_written_as_it_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct buf text;
        buf_init(&text, 0);
        struct put out = put_into(&text);
        frame_event(&out, frames[i].framing, SPAN_NONE, SPAN_LIT("{\"a\":1,\"b\":2}"));
        if (!span_is(buf_span(&text), frames[i].event))
            fail_msg("%s: %.*s", frames[i].name, SPAN_FMT(buf_span(&text)));
        buf_clear(&text);
        frame_done(&out, frames[i].framing);
        if (!span_is(buf_span(&text), frames[i].done))
            fail_msg("%s: the end is %.*s", frames[i].name, SPAN_FMT(buf_span(&text)));
        buf_done(&text);
    }
}

static void pieces_of_a_text_are_the_text_and_never_half_a_character(void **state)
{
    (void)state;
    const char *text =
        "Grüße aus Köln – 漢字漢字漢字漢字漢字漢字 and 🙂🙂🙂🙂🙂🙂 end";
    struct span rest = span_str(text);
    size_t count = 0;
    while (rest.n) {
        size_t n = frame_piece(rest);
        assert_true(n > 0 && n <= PIECE_MAX + 8);
        assert_true(n == rest.n || ((unsigned char)rest.p[n] & 0xc0) != 0x80);
        rest = span_from(rest, n);
        count++;
    }
    assert_int_equal(frame_pieces(span_str(text)), count);
    assert_int_equal(frame_pieces_size(span_str(text), count), strlen(text));
}

static void a_chunk_head_is_its_size_in_hex(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    frame_chunk_head(&out, 0x1f2e);
    assert_true(span_is(buf_span(&text), "1f2e\r\n"));
    buf_done(&text);
}

/* ---- answers -------------------------------------------------------------- */

struct talk {
    struct script *script;
    struct arena mem;
    struct ask rq;
    struct answer answer;
};

static const struct endpoint chat_endpoint = {.dialect = SIM_CHAT, .op = OP_GENERATE};

static pd_err read_chat(const struct script_provider *conf, const char *body, struct arena *mem, struct ask *ret)
{
    struct refusal why;
    struct reading r = {.conf = conf, .body = span_str(body), .mem = mem, .ask = ret, .why = &why};
    return ask_read(&r, &chat_endpoint);
}

static void say(struct talk *t, const char *provider, const char *body)
{
    char why[READ_WHY] = "";
    t->script = script_new();
    arena_init(&t->mem, 0, 0);
    assert_non_null(t->script);
    if (script_read(t->script, span_str(provider), "t", why) != PD_OK)
        fail_msg("%s", why);
    if (read_chat(&t->script->providers[0], body, &t->mem, &t->rq) != PD_OK)
        fail_msg("%s: refused", body);
    assert_int_equal(answer_make(&t->script->providers[0], 1, &t->rq, &t->mem, &t->answer), PD_OK);
}

static void unsay(struct talk *t)
{
    arena_done(&t->mem);
    script_free(t->script);
}

#define TOOLS                                                                                                \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"read\",\"parameters\":{\"type\":\"object\"," \
    "\"properties\":{\"path\":{\"type\":\"string\"}},"                                                       \
    "\"required\":[\"path\"]}}},{\"type\":\"function\",\"function\":{\"name\":\"list\",\"parameters\":{}}}]"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define CALLED                                                                                                    \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{" \
    "\"name\":\"read\",\"arguments\":\"{}\"}}]},"
#define RESULT "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"42 apples\"}"
#define OTHER_RESULT "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"nothing\"},"
#define SCRIPT(keys) "{\"providers\":{\"a\":{" keys "}}}"
#define STEPS                                                                                               \
    "\"turns\":[{\"tool_calls\":[{\"name\":\"list\",\"arguments\":{\"in\":\".\"}}]},{\"text\":\"Done.\"},{" \
    "\"match\":\"apples\",\"text\":\"Fruit.\"}]"

static const struct {
    const char *name, *provider, *body, *text, *call, *arguments, *finish;
} answers[] = {
    {"a fixed answer", SCRIPT("\"answer\":\"Hello there\""), "{\"model\":\"m\",\"messages\":[" USER("hi") "]}",
     "Hello there", NULL, NULL, "stop"},
    {"a directive goes first", SCRIPT("\"answer\":\"x\""),
     "{\"model\":\"m\",\"messages\":[" USER("hi [[sim text=what I want]] bye") "]}", "what I want", NULL, NULL,
     "stop"},
    {"quoted in a directive", SCRIPT(""),
     "{\"model\":\"m\",\"messages\":[" USER("[[sim text=\\\"a b\\\" finish=length]]") "]}", "a b", NULL, NULL,
     "length"},
    {"parts of a message", SCRIPT(""),
     "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{"
     "\"url\":\"data:\"}},{\"type\":\"text\",\"text\":\"[[sim text=seen]]\"}]}]}",
     "seen", NULL, NULL, "stop"},
    {"tools are called", SCRIPT(""), "{\"model\":\"m\",\"messages\":[" USER("hi") "]," TOOLS "}", "", "read",
     "{\"path\":\"sample path\"}", "tool_calls"},
    {"the tool that was chosen", SCRIPT(""),
     "{\"model\":\"m\",\"messages\":[" USER(
         "hi") "]," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"list\"}}}",
     "", "list", "\"sample\"", "tool_calls"},
    {"no tool when none is allowed", SCRIPT("\"answer\":\"no\""),
     "{\"model\":\"m\",\"messages\":[" USER("hi") "]," TOOLS ",\"tool_choice\":\"none\"}", "no", NULL, NULL,
     "stop"},
    {"a result is quoted", SCRIPT(""),
     "{\"model\":\"m\",\"messages\":[" USER("hi") "," CALLED RESULT "]," TOOLS "}", "The tool answered: 42 apples",
     NULL, NULL, "stop"},
    {"a schema is followed", SCRIPT(""),
     "{\"model\":\"m\",\"messages\":[" USER(
         "hi") "],\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"object\","
               "\"properties\":{\"n\":"
               "{\"type\":\"integer\"}},\"required\":[\"n\"]}}}}",
     "{\"n\":1}", NULL, NULL, "stop"},
    {"max_tokens ends it", SCRIPT("\"answer\":\"one two three four\""),
     "{\"model\":\"m\",\"max_tokens\":2,\"messages\":[" USER("hi") "]}", "one two", NULL, NULL, "length"},
    {"the first step of a script", SCRIPT(STEPS), "{\"model\":\"m\",\"messages\":[" USER("hi") "]," TOOLS "}", "",
     "list", "{\"in\":\".\"}", "tool_calls"},
    {"a match goes before the steps", SCRIPT(STEPS),
     "{\"model\":\"m\",\"messages\":[" USER("hi") "," CALLED RESULT "]," TOOLS "}", "Fruit.", NULL, NULL, "stop"},
    {"the second step", SCRIPT(STEPS),
     "{\"model\":\"m\",\"messages\":[" USER("hi") "," CALLED OTHER_RESULT USER("go on") "]," TOOLS "}", "Done.",
     NULL, NULL, "stop"},
    {"a prefill is not a step", SCRIPT(STEPS),
     "{\"model\":\"m\",\"messages\":[" USER("hi") ",{\"role\":\"assistant\",\"content\":\"I \"}]," TOOLS "}", "",
     "list", "{\"in\":\".\"}", "tool_calls"},
    {"a new question calls a tool again", SCRIPT(""),
     "{\"model\":\"m\",\"messages\":[" USER("hi") "," CALLED RESULT "," USER("and now?") "]," TOOLS "}", "",
     "read", "{\"path\":\"sample path\"}", "tool_calls"},
    {"the script is over", SCRIPT(STEPS),
     "{\"model\":\"m\",\"messages\":[" USER("hi") "," CALLED OTHER_RESULT CALLED OTHER_RESULT USER(
         "go on") "]," TOOLS "}",
     "There is nothing left to do.", NULL, NULL, "stop"},
    {"a title is asked for without tools", SCRIPT(STEPS),
     "{\"model\":\"m\",\"messages\":[" USER("make a title") "]}", "A simulated session", NULL, NULL, "stop"},
    {"a prefill is continued where the server does that",
     SCRIPT("\"style\":\"vllm\",\"answer\":\"one two three\""),
     "{\"model\":\"m\",\"continue_final_message\":true,\"add_generation_prompt\":false,\"messages\":[" USER(
         "hi") ",{\"role\":\"assistant\",\"content\":\"one two\"}]}",
     " three", NULL, NULL, "stop"},
    {"and answered anew where that is not asked for", SCRIPT("\"style\":\"vllm\",\"answer\":\"one two three\""),
     "{\"model\":\"m\",\"messages\":[" USER("hi") ",{\"role\":\"assistant\",\"content\":\"one two\"}]}",
     "one two three", NULL, NULL, "stop"},
    {"and answered anew where not", SCRIPT("\"answer\":\"one two three\""),
     "{\"model\":\"m\",\"messages\":[" USER("hi") ",{\"role\":\"assistant\",\"content\":\"one two\"}]}",
     "one two three", NULL, NULL, "stop"},
};

static void the_answer_is_what_was_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct talk t;
        say(&t, answers[i].provider, answers[i].body);
        if (!span_is(t.answer.texts[0], answers[i].text))
            fail_msg("%s: \"%.*s\"", answers[i].name, SPAN_FMT(t.answer.texts[0]));
        if (!answers[i].call != !t.answer.calls_count)
            fail_msg("%s: %u calls", answers[i].name, t.answer.calls_count);
        if (answers[i].call && (!span_is(t.answer.calls[0].name, answers[i].call) ||
                                !span_is(t.answer.calls[0].arguments, answers[i].arguments)))
            fail_msg("%s: %.*s(%.*s)", answers[i].name, SPAN_FMT(t.answer.calls[0].name),
                     SPAN_FMT(t.answer.calls[0].arguments));
        if (strcmp(t.answer.finish, answers[i].finish) != 0)
            fail_msg("%s: finish_reason %s", answers[i].name, t.answer.finish);
        unsay(&t);
    }
}

static void words_depend_on_seed_and_conversation_alone(void **state)
{
    (void)state;
    struct talk a, b, c, d;
    const char *hi = "{\"model\":\"m\",\"messages\":[" USER("hi") "]}";
    say(&a, SCRIPT("\"style\":\"openai\""), hi);
    say(&b, SCRIPT("\"style\":\"vllm\""), "{\"stream\":true,\"messages\":[" USER("hi") "], \"model\":\"other\"}");
    say(&c, SCRIPT("\"style\":\"vllm\""), "{\"model\":\"m\",\"messages\":[" USER("ho") "]}");
    assert_true(span_eq(a.answer.texts[0], b.answer.texts[0]));
    assert_false(span_eq(a.answer.texts[0], c.answer.texts[0]));
    assert_int_equal(a.answer.completion_tokens, 40);
    /* a conversation that broke off is continued by another provider to the same text */
    char body[1000];
    size_t cut = frame_pieces_size(a.answer.texts[0], 11);
    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[" USER("hi") ",{\"role\":\"assistant\",\"content\":\"%.*s\"}]}",
             (int)cut, a.answer.texts[0].p);
    say(&d, SCRIPT("\"style\":\"openrouter\""), body);
    assert_true(span_eq(d.answer.texts[0], span_from(a.answer.texts[0], cut)));
    unsay(&a);
    unsay(&b);
    unsay(&c);
    unsay(&d);
}

/* Streams an answer and returns what its chunks add up to. */
static void collect(struct talk *t, char *text, char *arguments, size_t n, unsigned *chunks, unsigned *usages,
                    unsigned *finishes)
{
    struct rnd rnd = {3};
    struct speech speech = {&t->script->providers[0], &t->rq, &t->answer, &sim_chat,
                            SPAN_LIT("id"),           1,      &rnd,       &t->mem};
    struct stream s;
    struct buf event, scratch;
    enum stream_piece piece = PIECE_START;
    buf_init(&event, 0);
    buf_init(&scratch, 0);
    text[0] = arguments[0] = '\0';
    *chunks = *usages = *finishes = 0;
    assert_int_equal(stream_init(&s, &speech, FRAME_JSONL, &scratch), PD_OK);
    while (piece != PIECE_NONE) {
        struct json doc;
        struct span part;
        struct put out = put_into(&event);
        buf_clear(&event);
        piece = stream_next(&s, &out);
        if (piece == PIECE_NONE)
            break;
        if (json_check(buf_span(&event)) != PD_OK)
            fail_msg("not JSON: %.*s", SPAN_FMT(buf_span(&event)));
        assert_int_equal(json_first(buf_span(&event), &doc, NULL), PD_OK);
        if (json_text(json_path(doc, "choices.0.delta.content"), &t->mem, &part) == PD_OK)
            snprintf(text + strlen(text), n - strlen(text), "%.*s", SPAN_FMT(part));
        if (json_text(json_path(doc, "choices.0.delta.tool_calls.0.function.arguments"), &t->mem, &part) == PD_OK)
            snprintf(arguments + strlen(arguments), n - strlen(arguments), "%.*s", SPAN_FMT(part));
        *usages += json_get(doc, "usage").type == JSON_OBJECT;
        *finishes += json_path(doc, "choices.0.finish_reason").type == JSON_STRING;
        ++*chunks;
    }
    assert_int_equal(s.tokens, t->answer.completion_tokens);
    buf_done(&event);
    buf_done(&scratch);
}

static void every_style_streams_json_that_adds_up_to_the_answer(void **state)
{
    (void)state;
    for (unsigned i = 0; i < styles_count; i++) {
        struct talk t;
        char provider[200], text[4000], arguments[4000];
        unsigned chunks, usages, finishes;
        snprintf(provider, sizeof(provider), SCRIPT("\"style\":\"%s\""), styles[i].name);
        say(&t, provider,
            "{\"model\":\"a\\\"b\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":"
            "[" USER("[[sim text=say \\\\\\\"hi\\\\\\\" – 漢字 now]]") "]}");
        collect(&t, text, arguments, sizeof(text), &chunks, &usages, &finishes);
        if (!span_is(t.answer.texts[0], text))
            fail_msg("%s: \"%s\", not \"%.*s\"", styles[i].name, text, SPAN_FMT(t.answer.texts[0]));
        assert_true(usages >= 1 && finishes >= 1);
        unsay(&t);

        say(&t, provider, "{\"model\":\"m\",\"stream\":true,\"messages\":[" USER("hi") "]," TOOLS "}");
        collect(&t, text, arguments, sizeof(text), &chunks, &usages, &finishes);
        if (!span_is(t.answer.calls[0].arguments, arguments))
            fail_msg("%s: arguments %s", styles[i].name, arguments);
        assert_int_equal(finishes, styles[i].usage == USAGE_REPEAT ? 2 : 1);
        assert_int_equal(usages > 0, styles[i].usage != USAGE_EXTRA);
        unsay(&t);
    }
}

static pd_err answer_one(void *ctx)
{
    struct arena mem;
    struct ask rq;
    struct answer *a = mem_zalloc(sizeof(*a));
    char text[READ_WHY];
    struct script *s = a ? script_new() : NULL;
    pd_err err = s ? script_read(s, SPAN_LIT(SCRIPT("")), "t", text) : PD_NOMEM;
    arena_init(&mem, 0, 0);
    if (err == PD_OK)
        err = read_chat(&s->providers[0], ctx, &mem, &rq);
    if (err == PD_OK)
        err = answer_make(&s->providers[0], 1, &rq, &mem, a);
    arena_done(&mem);
    script_free(s);
    mem_free(a);
    return err;
}

static void an_answer_survives_every_failed_allocation(void **state)
{
    (void)state;
    char body[] = "{\"model\":\"m\",\"messages\":[" USER(
        "say \\u0041 [[sim parallel=2 reasoning=3 fault=cut after=3]]") "]," TOOLS "}";
    assert_true(torture(answer_one, body) >= 4);
}

static void every_error_shape_is_json(void **state)
{
    (void)state;
    for (unsigned i = 0; i < styles_count; i++)
        for (unsigned k = 0; k < error_likes_count; k++) {
            struct buf text;
            buf_init(&text, 0);
            struct put out = put_into(&text);
            struct style_fault f = {.message = SPAN_LIT("a \"quoted\" text")};
            dialect_fault_fill(&sim_chat, &f, span_str(error_likes[k].name));
            style_put_error(&out, &styles[i], &f);
            assert_int_equal(out.err, PD_OK);
            if (json_check(buf_span(&text)) != PD_OK)
                fail_msg("%s: %.*s", styles[i].name, SPAN_FMT(buf_span(&text)));
            buf_done(&text);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_script_is_told_where_what_and_what_to_do),
        cmocka_unit_test(a_script_is_read_whole),
        cmocka_unit_test(an_option_is_the_script_it_stands_for),
        cmocka_unit_test(a_script_survives_every_failed_allocation),
        cmocka_unit_test(each_request_gets_the_fault_that_is_its_own),
        cmocka_unit_test(a_seed_gives_the_same_faults_again_and_about_its_share),
        cmocka_unit_test(a_head_alone_takes_only_what_needs_no_body),
        cmocka_unit_test(an_example_fits_its_schema),
        cmocka_unit_test(a_schema_that_never_ends_is_ended),
        cmocka_unit_test(each_framing_is_written_as_it_is_known),
        cmocka_unit_test(pieces_of_a_text_are_the_text_and_never_half_a_character),
        cmocka_unit_test(a_chunk_head_is_its_size_in_hex),
        cmocka_unit_test(the_answer_is_what_was_asked_for),
        cmocka_unit_test(words_depend_on_seed_and_conversation_alone),
        cmocka_unit_test(every_style_streams_json_that_adds_up_to_the_answer),
        cmocka_unit_test(an_answer_survives_every_failed_allocation),
        cmocka_unit_test(every_error_shape_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
