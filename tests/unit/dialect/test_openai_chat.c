/* Chat requests into the neutral form and out of it again. */
#include "dialect/codec.h"
#include "torture.h"

#include "test.h"

#include <stdlib.h>

static const struct codec *const chat = &codec_openai_chat;

#define HEAD "{\"model\":\"m\","
#define SYS "{\"role\":\"system\",\"content\":\"s\"}"
#define USER "{\"role\":\"user\",\"content\":\"u\"}"
#define MESSAGES(list) "\"messages\":[" list "]"

/* out NULL: the same as in. */
static const struct row {
    const char *name, *in, *out, *dropped;
} rows[] = {
    {"a plain request", HEAD MESSAGES(SYS "," USER) "}", NULL, ""},
    {"escapes stay as they were spelled", HEAD MESSAGES("{\"role\":\"user\",\"content\":\"a\\u00e9\\n\\\"\"}") "}",
     NULL, ""},
    {"developer is system", HEAD MESSAGES("{\"role\":\"developer\",\"content\":\"s\"}") "}",
     HEAD MESSAGES(SYS) "}", ""},
    {"system in the middle stays there", HEAD MESSAGES(USER "," SYS "," USER) "}", NULL, ""},
    {"one text part is a text",
     HEAD MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]}") "}",
     HEAD MESSAGES(USER) "}", ""},
    {"parts stay parts",
     HEAD MESSAGES(
         "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\","
         "\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}}]}") "}",
     NULL, ""},
    {"images by data and by address",
     HEAD MESSAGES(
         "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/"
         "gif;base64,R0lG\",\"detail\":\"low\"}},{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://h/"
         "i.png\"}}]}") "}",
     NULL, ""},
    {"audio and files",
     HEAD MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"UklG\","
                   "\"format\":\"wav\"}},{\"type\":\"file\",\"file\":{\"filename\":\"a.pdf\",\"file_data\":\"data:"
                   "application/pdf;base64,JVBE\"}},{\"type\":\"file\",\"file\":{\"file_id\":\"file-1\"}}]}") "}",
     NULL, ""},
    {"calls and their results",
     HEAD MESSAGES(
         USER
         ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\\\"\\\\n\\\"}\"}},{\"id\":\"c2\",\"type\":"
         "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
         "\"c1\",\"content\":\"1\"},{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"2\"}," USER) "}",
     NULL, ""},
    {"no arguments are an empty object",
     HEAD MESSAGES(
         "{\"role\":\"assistant\",\"content\":\"t\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}") "}",
     HEAD MESSAGES(
         "{\"role\":\"assistant\",\"content\":\"t\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}") "}",
     ""},
    {"arguments that are no JSON stay as they are",
     HEAD MESSAGES("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\","
                   "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"cut\"}}]}") "}",
     NULL, ""},
    {"a function call of old is a tool call",
     HEAD MESSAGES(
         "{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
         "{\"role\":\"function\",\"name\":\"f\",\"content\":\"r\"}") "}",
     HEAD MESSAGES(
         "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_made_0\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"call_made_"
         "0\","
         "\"content\":\"r\"}") "}",
     ""},
    {"a custom tool's call",
     HEAD MESSAGES("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":\"custom\","
                   "\"custom\":{\"name\":\"f\",\"input\":\"any text\"}}]}") "}",
     NULL, ""},
    {"a refusal", HEAD MESSAGES("{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"}") "}", NULL, ""},
    {"reasoning is not sent back",
     HEAD MESSAGES("{\"role\":\"assistant\",\"content\":\"t\",\"reasoning_content\":\"hm\"}") "}",
     HEAD MESSAGES("{\"role\":\"assistant\",\"content\":\"t\"}") "}", ""},
    {"tools",
     HEAD MESSAGES(
         USER) ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
               "\"parameters\":{\"type\":\"object\"},\"strict\":true}},{\"type\":\"function\",\"function\":{"
               "\"name\":"
               "\"g\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}],\"tool_choice\":\"required\","
               "\"parallel_tool_calls\":false}",
     NULL, ""},
    {"a named tool",
     HEAD MESSAGES(
         USER) ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],\"tool_"
               "choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}",
     NULL, ""},
    {"a tool of the provider's own", HEAD MESSAGES(USER) ",\"tools\":[{\"type\":\"web_search_preview\",\"x\":1}]}",
     NULL, ""},
    {"settings",
     HEAD MESSAGES(
         USER) ",\"max_tokens\":5,\"temperature\":0.50,\"top_p\":1e-1,\"seed\":7,\"presence_penalty\":-1,"
               "\"frequency_penalty\":2,\"n\":2,\"logprobs\":true,\"top_logprobs\":3,\"stop\":[\"a\",\"b\"],"
               "\"user\":\"u\",\"service_tier\":\"flex\",\"prompt_cache_key\":\"k\",\"verbosity\":\"low\"}",
     NULL, ""},
    {"one stop word may be a text", HEAD MESSAGES(USER) ",\"stop\":\"a\"}",
     HEAD MESSAGES(USER) ",\"stop\":[\"a\"]}", ""},
    {"an answer in a schema",
     HEAD MESSAGES(
         USER) ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"description\":"
               "\"d\",\"schema\":{\"type\":\"object\"},\"strict\":true}}}",
     NULL, ""},
    {"an answer in JSON", HEAD MESSAGES(USER) ",\"response_format\":{\"type\":\"json_object\"}}", NULL, ""},
    {"effort, with the limit that reasoning models take",
     HEAD MESSAGES(USER) ",\"max_completion_tokens\":9,\"reasoning_effort\":\"high\"}", NULL, ""},
    {"effort under other names", HEAD MESSAGES(USER) ",\"reasoning\":{\"effort\":\"low\"},\"max_tokens\":9}",
     HEAD MESSAGES(USER) ",\"max_completion_tokens\":9,\"reasoning_effort\":\"low\"}", ""},
    {"what has no place is named, what says nothing is not",
     HEAD MESSAGES(USER) ",\"logit_bias\":{\"1\":2},\"store\":true,\"metadata\":{\"a\":\"b\"},\"x "
                         "y\":1,\"modalities\":null}",
     HEAD MESSAGES(USER) "}", "logit_bias x?y "},
};

static pd_err parse(struct span body, struct arena *a, struct msg_request *ret, const char **why)
{
    struct request_facts f;
    pd_err e = chat->read_request(body, &(struct request_line){0}, a, &f, why);
    return e ? e : chat->parse_request(&f, a, ret, why);
}

static pd_err there_and_back(struct span body, struct arena *a, struct buf *out, struct msg_request *m)
{
    const struct write_want want = {.model = {"m", 1}};
    const char *why;
    pd_err e = parse(body, a, m, &why);
    return e ? e : chat->write_request(m, &want, a, out);
}

static void requests_come_back_as_they_went(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct buf out;
        struct msg_request m;
        char dropped[200] = "";
        arena_init(&a, 1024, 0);
        buf_init(&out, 0);
        assert_int_equal(there_and_back(span_str(rows[i].in), &a, &out, &m), PD_OK);
        const char *want = rows[i].out ? rows[i].out : rows[i].in;
        if (!span_is(buf_span(&out), want))
            fail_msg("%s: expected\n%s\ngot\n%.*s", rows[i].name, want, SPAN_FMT(buf_span(&out)));
        for (unsigned k = 0; k < m.dropped_count; k++) {
            strcat(dropped, m.dropped[k]);
            strcat(dropped, " ");
        }
        assert_string_equal(dropped, rows[i].dropped);
        buf_done(&out);
        arena_done(&a);
    }
}

static void what_cannot_be_carried_is_refused_with_a_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *in, *says;
        pd_err err;
    } bad[] = {
        {"{\"model\":\"m\"}", "no \"messages\"", PD_INVALID},
        {HEAD "\"messages\":1}", "must be a list", PD_INVALID},
        {HEAD MESSAGES("1") "}", "not an object", PD_INVALID},
        {HEAD MESSAGES("{\"role\":\"wizard\",\"content\":\"\"}") "}", "\"role\"", PD_INVALID},
        {HEAD MESSAGES("{\"role\":\"user\",\"content\":[{\"type\":\"hologram\",\"data\":\"x\"}]}") "}", "hologram",
         PD_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct arena a;
        struct msg_request m;
        const char *why = NULL;
        arena_init(&a, 1024, 0);
        assert_int_equal(parse(span_str(bad[i].in), &a, &m, &why), bad[i].err);
        assert_non_null(why);
        if (!strstr(why, bad[i].says))
            fail_msg("\"%s\" does not say %s", why, bad[i].says);
        arena_done(&a);
    }
}

/* Mistral's own words. */
static void mistral_gets_what_it_understands(void **state)
{
    (void)state;
    struct arena a;
    struct buf out;
    struct msg_request m;
    const char *why;
    const struct write_want want = {.model = {"m", 1}, .mistral = true};
    arena_init(&a, 1024, 0);
    buf_init(&out, 0);
    assert_int_equal(
        parse(SPAN_LIT(HEAD MESSAGES(USER) ",\"seed\":1,\"max_completion_tokens\":3,\"tools\":[{\"type\":"
                                           "\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],"
                                           "\"tool_choice\":\"required\"}"),
              &a, &m, &why),
        PD_OK);
    assert_int_equal(chat->write_request(&m, &want, &a, &out), PD_OK);
    assert_true(span_has(buf_span(&out), "\"tool_choice\":\"any\""));
    assert_true(span_has(buf_span(&out), "\"random_seed\":1"));
    assert_true(span_has(buf_span(&out), "\"max_tokens\":3"));
    buf_done(&out);
    arena_done(&a);
}

static pd_err round_one(void *ctx)
{
    struct arena a;
    struct buf out;
    struct msg_request m;
    arena_init(&a, 64, 0);
    buf_init(&out, 0);
    pd_err e = there_and_back(span_str(ctx), &a, &out, &m);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_true(torture(round_one, (void *)(uintptr_t)rows[i].in) >= 3);
}

/* Every beginning of a body is refused or read, and nothing beyond it is touched. */
static void no_prefix_crashes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t n = 0; n < strlen(rows[i].in); n++) {
            struct arena a;
            struct msg_request m;
            const char *why;
            char *copy = malloc(n + 1);
            arena_init(&a, 256, 0);
            memcpy(copy, rows[i].in, n);
            assert_int_not_equal(parse(span_of(copy, n), &a, &m, &why), PD_OK);
            free(copy);
            arena_done(&a);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back_as_they_went),
        cmocka_unit_test(what_cannot_be_carried_is_refused_with_a_sentence),
        cmocka_unit_test(mistral_gets_what_it_understands),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(no_prefix_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
