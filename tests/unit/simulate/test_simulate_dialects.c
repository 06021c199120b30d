/* What all dialects of the simulation share: where a path leads, who signed what, blocks in their order, and every dialect's answer
 * under every failed allocation. What each of them says and refuses is told by tests/scenario/test_simulate_dialects.py. */
#include "base/mem.h"
#include "simulate/auth.h"
#include "simulate/dialect.h"
#include "simulate/sign.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>

/* ---- paths ----------------------------------------------------------------- */

static const struct {
    const char *path, *query;
    struct endpoint_headers headers;
    const char *is; /* dialect, operation, platform, model */
} paths[] = {
    {"/v1/chat/completions", "", {0}, "chat 1 0 -"},
    {"/openai/deployments/x/chat/completions", "", {0}, "chat 1 0 -"},
    {"/v1/embeddings", "", {0}, "chat 2 0 -"},
    {"/v1/responses", "", {0}, "responses 1 0 -"},
    {"/v1/messages", "beta=true", {0}, "messages 1 0 -"},
    {"/anthropic/v1/messages/count_tokens", "", {0}, "messages 3 0 -"},
    {"/v1beta/models/gemini-3-pro:generateContent", "", {0}, "gemini 1 0 gemini-3-pro"},
    {"/v1/models/gemini-3-pro:streamGenerateContent", "alt=sse", {0}, "gemini 1 0 gemini-3-pro stream sse"},
    {"/v1/models/m%3AstreamGenerateContent", "x=1&alt=sse", {0}, "gemini 1 0 m stream sse"},
    {"/v1beta/models/a:countTokens", "", {0}, "gemini 3 0 a"},
    {"/v1beta/models/a:batchEmbedContents", "", {0}, "gemini 2 0 a"},
    {"/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent",
     "",
     {0},
     "gemini 1 1 m stream"},
    {"/v1/projects/p/locations/l/publishers/anthropic/models/c@1:rawPredict", "", {0}, "messages 1 1 c@1"},
    {"/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict",
     "",
     {0},
     "messages 1 1 c stream"},
    {"/v1/projects/p/locations/l/publishers/google/models/c:rawPredict", "", {0}, "- 0"},
    {"/model/anthropic.claude%3A0/converse", "", {0}, "converse 1 2 anthropic.claude%3A0"},
    {"/model/arn:aws:bedrock:r:1:inference-profile/x/converse-stream",
     "",
     {0},
     "converse 1 2 arn:aws:bedrock:r:1:inference-profile/x stream"},
    {"/model/m/invoke-with-response-stream", "", {0}, "invoke 1 2 m stream"},
    {"/model/amazon.titan-embed-text-v2/invoke", "", {0}, "invoke 2 2 amazon.titan-embed-text-v2"},
    {"/model//converse", "", {0}, "- 0"},
    {"/api/chat", "", {0}, "ollama 1 0 -"},
    {"/api/tags", "", {0}, "ollama 4 0 -"},
    {"/v1/models", "", {0}, "chat 4 0 -"},
    {"/v1/models/a/b", "", {0}, "chat 4 0 a/b"},
    {"/v1/models", "", {.anthropic = true}, "messages 4 0 -"},
    {"/v1/models", "", {.google = true}, "gemini 4 0 -"},
    {"/v1beta/models", "", {0}, "gemini 4 0 -"},
    {"/v1beta/openai/models", "", {0}, "chat 4 0 -"},
    {"/v1beta/models/m:unknownVerb", "", {0}, "gemini 4 0 m:unknownVerb"},
    {"/nothing", "", {0}, "- 0"},
    {"", "", {0}, "- 0"},
};

static void a_path_leads_to_its_dialect(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char is[300] = "- 0";
        struct endpoint e = endpoint_find(span_str(paths[i].path), span_str(paths[i].query), paths[i].headers);
        if (e.op != OP_NONE)
            snprintf(is, sizeof(is), "%s %d %d %.*s%s%s", endpoint_dialect_name(e.dialect), (int)e.op,
                     (int)e.platform, SPAN_FMT(e.model.p ? e.model : SPAN_LIT("-")), e.streamed ? " stream" : "",
                     e.sse ? " sse" : "");
        if (strcmp(is, paths[i].is) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", paths[i].path, is, paths[i].is);
    }
}

static const struct {
    const char *model;
    bool refuses;
} prefills[] = {
    {"claude-3-5-sonnet-20241022", false},
    {"claude-sonnet-4-20250514", false},
    {"claude-haiku-4-5-20251001", false},
    {"claude-opus-4-6", true},
    {"claude-sonnet-4.6", true},
    {"us.anthropic.claude-opus-4-7-v1:0", true},
    {"claude-opus-5", true},
    {"claude-sonnet-5-20270101", true},
    {"anthropic.claude-3-haiku-v1:0", false},
    {"claude-", false},
    {"gpt-5", false},
    {"", false},
};

static void claude_from_4_6_on_takes_no_prefill(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(prefills) / sizeof(prefills[0]); i++)
        if (ask_model_refuses_prefill(span_str(prefills[i].model)) != prefills[i].refuses)
            fail_msg("%s", prefills[i].model);
}

/* ---- base64 and signatures --------------------------------------------------- */

static void base64_goes_there_and_back(void **state)
{
    (void)state;
    struct arena mem;
    struct buf text;
    char bytes[40];
    arena_init(&mem, 0, 0);
    buf_init(&text, 0);
    for (size_t n = 0; n < sizeof(bytes); n++) {
        struct span back;
        bytes[n] = (char)(n * 37);
        buf_clear(&text);
        struct put out = put_into(&text);
        base64_put(&out, span_of(bytes, n));
        assert_int_equal(base64_read(buf_span(&text), &mem, &back), PD_OK);
        assert_true(span_eq(back, span_of(bytes, n)));
    }
    struct span back;
    assert_int_equal(base64_read(SPAN_LIT("-_-_"), &mem, &back), PD_OK); /* URL-safe too */
    assert_int_equal(base64_read(SPAN_LIT("a"), &mem, &back), PD_SYNTAX);
    assert_int_equal(base64_read(SPAN_LIT("ab c"), &mem, &back), PD_SYNTAX);
    buf_done(&text);
    arena_done(&mem);
}

static void a_signature_is_known_by_its_maker_for_its_text_alone(void **state)
{
    (void)state;
    struct arena mem;
    struct buf text;
    arena_init(&mem, 0, 0);
    buf_init(&text, 0);
    for (unsigned maker = MAKER_ANTHROPIC; maker <= MAKER_OPENAI; maker++) {
        buf_clear(&text);
        struct put out = put_into(&text);
        sign_put(&out, (enum maker)maker, "thinking", SPAN_LIT("so"), SPAN_LIT("seed"));
        struct span s = buf_span(&text);
        for (unsigned other = MAKER_ANTHROPIC; other <= MAKER_OPENAI; other++)
            assert_int_equal(sign_fits((enum maker)other, "thinking", SPAN_LIT("so"), s, &mem), maker == other);
        assert_false(sign_fits((enum maker)maker, "thinking", SPAN_LIT("no"), s, &mem));
        assert_false(sign_fits((enum maker)maker, "redacted", SPAN_LIT("so"), s, &mem));
        assert_false(sign_fits((enum maker)maker, "thinking", SPAN_LIT("so"), span_upto(s, s.n - 1), &mem));
        assert_false(sign_fits((enum maker)maker, "thinking", SPAN_LIT("so"), SPAN_NONE, &mem));
        text.p[text.head + 30] = text.p[text.head + 30] == 'A' ? 'B' : 'A';
        assert_false(sign_fits((enum maker)maker, "thinking", SPAN_LIT("so"), buf_span(&text), &mem));
    }
    buf_clear(&text);
    struct put out = put_into(&text);
    sign_id_put(&out, SPAN_LIT("abcdef"), "kept");
    assert_int_equal(buf_size(&text), 12);
    assert_true(sign_id_fits(buf_span(&text), "kept"));
    assert_false(sign_id_fits(buf_span(&text), "not kept"));
    assert_false(sign_id_fits(SPAN_LIT("abcdef000000"), "kept"));
    assert_false(sign_id_fits(SPAN_NONE, "kept"));
    buf_done(&text);
    arena_done(&mem);
}

/* ---- steps ------------------------------------------------------------------- */

/* A letter for each step: b(egin) o(pen) p(iece) c(lose) f(inish) e(nd). */
static void walk(struct answer *a, int stop_after, bool whole, char *out)
{
    static const char letters[] = "bopcfe.";
    struct steps s;
    uint64_t tokens = 0;
    int n = 0;
    steps_init(&s, a, true);
    for (;;) {
        if (n == stop_after)
            steps_stop(&s);
        steps_next(&s, whole, &tokens);
        if (s.step == STEP_OVER)
            break;
        out[n++] = letters[s.step];
    }
    out[n] = '\0';
}

static void an_answer_goes_block_by_block_and_can_be_stopped_anywhere(void **state)
{
    (void)state;
    char out[100];
    struct answer *a = mem_zalloc(sizeof(*a));
    assert_non_null(a);
    a->choices = 1;
    a->finish = "stop";
    a->texts[0] = SPAN_LIT("");
    walk(a, -1, false, out);
    assert_string_equal(out, "bocfe"); /* an empty text is a text */
    a->texts[0] = SPAN_LIT("one two");
    a->reasoning = SPAN_LIT("hm");
    a->redacted = true;
    a->calls[a->calls_count++] = (struct answer_call){SPAN_LIT("1"), SPAN_LIT("f"), SPAN_LIT("{\"a\": 1}")};
    walk(a, -1, false, out);
    assert_string_equal(out, "bopcocoppcoppcfe");
    walk(a, -1, true, out);
    assert_string_equal(out, "bopcocoppcopcfe");
    for (int i = 0; i < 16; i++) { /* what is open is closed, then it ends */
        walk(a, i, false, out);
        assert_string_equal(out + strlen(out) - 2, "fe");
        int open = 0;
        for (const char *c = out; *c; c++) {
            open += (*c == 'o') - (*c == 'c');
            assert_true(open == 0 || open == 1);
        }
        assert_int_equal(open, 0);
    }
    a->blank = true;
    walk(a, -1, false, out);
    assert_string_equal(out, "bfe");
    mem_free(a);
}

/* ---- every dialect ------------------------------------------------------------- */

#define TOOL_SCHEMA "{\"type\":\"object\",\"properties\":{\"at\":{\"type\":\"string\"}},\"required\":[\"at\"]}"

static const struct {
    const char *path, *body;
} requests[] = {
    {"/v1/chat/completions",
     "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0041 [[sim reasoning=2 "
     "tools=call]]\"}],"
     "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\\u0041\",\"parameters\":" TOOL_SCHEMA "}}]}"},
    {"/v1/responses", "{\"model\":\"m\",\"stream\":true,\"input\":\"a\\u0041 [[sim reasoning=2 "
                      "redacted=yes]]\",\"reasoning\":{\"summary\":\"auto\"},"
                      "\"include\":[\"reasoning.encrypted_content\"],\"tools\":[{\"type\":\"function\",\"name\":"
                      "\"f\",\"parameters\":" TOOL_SCHEMA "}]}"},
    {"/v1/messages", "{\"model\":\"claude-x\",\"max_tokens\":3000,\"stream\":true,\"thinking\":{\"type\":"
                     "\"enabled\",\"budget_tokens\":1024},\"messages\":"
                     "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u0041 [[sim redacted=yes "
                     "tools=call]]\"}]}],"
                     "\"tools\":[{\"name\":\"f\",\"input_schema\":" TOOL_SCHEMA "}]}"},
    {"/v1beta/models/gemini-3:streamGenerateContent",
     "{\"contents\":[{\"parts\":[{\"text\":\"a\\u0041\"}]}],\"tools\":[{\"functionDeclarations\":[{\"name\":\"f\","
     "\"parameters\":" TOOL_SCHEMA "}]}],\"generationConfig\":{\"thinkingConfig\":{\"includeThoughts\":true}}}"},
    {"/model/anthropic.claude%3A0/converse-stream",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"a\\u0041 [[sim redacted=yes tools=call]]\"}]}],"
     "\"additionalModelRequestFields\":{\"thinking\":{\"type\":\"adaptive\"}},"
     "\"toolConfig\":{\"tools\":[{\"toolSpec\":{\"name\":\"f\",\"inputSchema\":{\"json\":" TOOL_SCHEMA "}}}]}}"},
    {"/model/anthropic.claude%3A0/invoke-with-response-stream",
     "{\"anthropic_version\":\"bedrock-2023-05-31\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":"
     "\"hi [[sim tokens=3]]\"}]}"},
    {"/model/amazon.nova-lite/invoke-with-response-stream",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"image\":{\"format\":\"png\",\"source\":{\"bytes\":"
     "\"AAAA\"}}}]}]}"},
    {"/model/amazon.titan-x/invoke-with-response-stream", "{\"inputText\":\"hi [[sim tokens=3]]\"}"},
    {"/api/chat",
     "{\"model\":\"q\",\"think\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0041\",\"images\":["
     "\"AAAA\"]}],"
     "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":" TOOL_SCHEMA "}}]}"},
};

struct exchange {
    size_t index;
    bool good; /* without failed allocations: assert that it adds up */
};

static pd_err say_it(const struct speech *speech, const struct exchange *x)
{
    struct stream s;
    struct buf out_text, scratch;
    buf_init(&out_text, 0);
    buf_init(&scratch, 0);
    pd_err err = stream_init(&s, speech, FRAME_SSE, &scratch);
    struct put out = put_into(&out_text);
    while (err == PD_OK && stream_next(&s, &out) != PIECE_NONE)
        err = out.err;
    if (x->good) {
        assert_int_equal(err, PD_OK);
        assert_int_equal(s.tokens, speech->answer->completion_tokens);
        assert_true(buf_size(&out_text) > 50);
    }
    buf_clear(&out_text);
    out = put_into(&out_text);
    if (err == PD_OK) {
        whole_put(speech, &out);
        err = out.err;
        if (x->good && json_check(buf_span(&out_text)) != PD_OK)
            fail_msg("%s: %.*s", requests[x->index].path, SPAN_FMT(buf_span(&out_text)));
    }
    buf_done(&out_text);
    buf_done(&scratch);
    return err;
}

static pd_err exchange(void *ctx)
{
    const struct exchange *x = ctx;
    char why_text[READ_WHY];
    struct arena mem;
    struct ask *rq = mem_zalloc(sizeof(*rq));
    struct answer *a = mem_zalloc(sizeof(*a));
    struct refusal why;
    struct rnd rnd = {1};
    struct script *s = rq && a ? script_new() : NULL;
    pd_err err = s ? script_read(s, SPAN_LIT("{\"providers\":{\"a\":{}}}"), "t", why_text) : PD_NOMEM;
    arena_init(&mem, 0, 0);
    struct endpoint at = endpoint_find(span_str(requests[x->index].path), SPAN_NONE, (struct endpoint_headers){0});
    struct reading r = {
        err == PD_OK ? &s->providers[0] : NULL, span_str(requests[x->index].body), true, true, &mem, rq, &why};
    if (err == PD_OK)
        err = ask_read(&r, &at);
    if (x->good && err == PD_INVALID)
        fail_msg("%s: %.*s", requests[x->index].path, SPAN_FMT(why.message));
    if (err == PD_OK)
        err = answer_make(r.conf, 1, rq, &mem, a);
    if (err == PD_OK) {
        struct speech speech = {r.conf, rq, a, sim_dialects[at.dialect], SPAN_NONE, 1, &rnd, &mem};
        speech.id = answer_id(&speech);
        err = speech.id.p ? say_it(&speech, x) : PD_NOMEM;
    }
    arena_done(&mem);
    script_free(s);
    mem_free(a);
    mem_free(rq);
    return err;
}

static void every_dialect_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct exchange x = {i, true};
        assert_int_equal(exchange(&x), PD_OK);
        x.good = false;
        assert_true(torture(exchange, &x) >= 8);
    }
}

/* Every error that a script can name is JSON in every dialect, with a status of its own. */
static void every_error_is_json_in_every_dialect(void **state)
{
    (void)state;
    char why[READ_WHY];
    struct script *s = script_new();
    struct buf text;
    buf_init(&text, 0);
    assert_non_null(s);
    assert_int_equal(script_read(s, SPAN_LIT("{\"providers\":{\"a\":{}}}"), "t", why), PD_OK);
    for (unsigned d = 0; d < SIM_DIALECT_COUNT; d++)
        for (unsigned i = 0; i < error_likes_count; i++) {
            struct endpoint at = {.dialect = (enum sim_dialect_id)d, .op = OP_GENERATE, .streamed = i & 1};
            struct style_fault f = {0};
            struct put out = put_into(&text);
            buf_clear(&text);
            dialect_fault_fill(sim_dialects[d], &f, span_str(error_likes[i].name));
            sim_dialects[d]->put_error(&out, &s->providers[0], &at, &f);
            assert_int_equal(json_check(buf_span(&text)), PD_OK);
            assert_in_range(f.status, 400, 599);
            /* a status alone finds the words of that status */
            struct style_fault by_status = {.status = error_likes[i].status};
            dialect_fault_fill(sim_dialects[d], &by_status, SPAN_NONE);
            assert_int_equal(by_status.status, error_likes[i].status);
            assert_true(by_status.message.n > 0);
        }
    buf_done(&text);
    script_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_leads_to_its_dialect),
        cmocka_unit_test(claude_from_4_6_on_takes_no_prefill),
        cmocka_unit_test(base64_goes_there_and_back),
        cmocka_unit_test(a_signature_is_known_by_its_maker_for_its_text_alone),
        cmocka_unit_test(an_answer_goes_block_by_block_and_can_be_stopped_anywhere),
        cmocka_unit_test(every_dialect_survives_every_failed_allocation),
        cmocka_unit_test(every_error_is_json_in_every_dialect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
