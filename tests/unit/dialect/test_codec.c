#include "base/mem.h"
#include "dialect/models.h"
#include "told.h"

static void codecs_have_names(void **state)
{
    (void)state;
    assert_ptr_equal(codec_by_name(SPAN_LIT("openai-chat")), &codec_openai_chat);
    assert_ptr_equal(codec_by_name(SPAN_LIT("openai-embeddings")), &codec_openai_embeddings);
    assert_null(codec_by_name(SPAN_LIT("openai")));
    assert_null(codec_by_name(SPAN_NONE));
}

static void finishes_have_names(void **state)
{
    (void)state;
    assert_string_equal(msg_finish_name(MSG_FINISH_NONE), "none");
    assert_string_equal(msg_finish_name(MSG_FINISH_TOOL_CALLS), "tool_calls");
    assert_string_equal(msg_finish_name(MSG_FINISH_OTHER), "other");
}

static const struct {
    const char *name;
    struct client_error error;
    const char *out;
} errors[] = {
    {"the least",
     {.type = "server_error", .code = "overloaded", .message = {"busy", 4}},
     "{\"error\":{\"message\":\"busy\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}"},
    {"no code",
     {.type = "server_error", .message = {"busy", 4}},
     "{\"error\":{\"message\":\"busy\",\"type\":\"server_error\",\"param\":null,\"code\":null}}"},
    {"all of it, escaped",
     {.type = "t",
      .code = "c",
      .message = {"a\"\n\xff", 4},
      .param = {"model", 5},
      .attempts_json = {"[{\"n\":1}]", 9}},
     "{\"error\":{\"message\":\"a\\\"\\n\xef\xbf\xbd\",\"type\":\"t\",\"param\":\"model\",\"code\":\"c\","
     "\"attempts\":[{\"n\":1}]}}"},
    {"nothing at all",
     {.type = NULL},
     "{\"error\":{\"message\":\"\",\"type\":null,\"param\":null,\"code\":null}}"},
};

static void errors_are_written_for_bodies_and_streams(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(codec_put_error(&codec_openai_chat, &errors[i].error, &out), PD_OK);
        assert_int_equal(json_check(buf_span(&out)), PD_OK);
        if (!span_is(buf_span(&out), errors[i].out))
            fail_msg("%s: got %.*s", errors[i].name, SPAN_FMT(buf_span(&out)));
        buf_clear(&out);
        assert_int_equal(codec_put_error_event(&codec_openai_chat, &errors[i].error, &out), PD_OK);
        struct span event = buf_span(&out);
        assert_true(span_starts(event, "data: ") && span_ends(event, "}\n\n"));
        assert_true(span_is(span_trim(span_from(event, 6)), errors[i].out));
        buf_done(&out);
    }
}

static void an_error_event_is_read_as_an_error(void **state)
{
    (void)state;
    struct reading r;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(codec_put_error_event(&codec_openai_chat, &errors[2].error, &out), PD_OK);
    assert_int_equal(reading_init(&r, &codec_openai_chat, FRAMING_LINES, false), PD_OK);
    assert_int_equal(reading_feed(&r, buf_span(&out)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    assert_int_equal(r.end, ANSWER_FAILED);
    reading_done(&r);
    buf_done(&out);
}

static void an_error_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 80);
    assert_int_equal(buf_puts(&out, "before"), PD_OK);
    assert_int_equal(codec_put_error(&codec_openai_chat, &errors[2].error, &out), PD_TOOBIG);
    assert_int_equal(codec_put_error_event(&codec_openai_chat, &errors[2].error, &out), PD_TOOBIG);
    assert_true(span_is(buf_span(&out), "before"));
    buf_done(&out);
}

/* ---- whole answers ---------------------------------------------------------------- */

static void a_whole_answer_points_into_its_body(void **state)
{
    (void)state;
    static const char body[] =
        "{\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":1,"
        "\"cache_write_tokens\":3},\"completion_tokens_details\":{\"reasoning_tokens\":0}}}";
    struct arena a;
    struct answer_facts f;
    enum answer_end end;
    arena_init(&a, 0, 0);
    assert_int_equal(answer_read_whole(&codec_openai_chat, span_str(body), &a, &f, &end, NULL, NULL), PD_OK);
    assert_int_equal(end, ANSWER_COMPLETE);
    assert_ptr_equal(f.id.p, strstr(body, "a\","));
    assert_ptr_equal(f.usage_raw.p, strstr(body, "{\"prompt"));
    assert_true(span_is(f.finish_raw, "stop"));
    assert_int_equal(f.usage.input_total, 1);
    assert_int_equal(f.usage.cache_read, 1);
    assert_int_equal(f.usage.cache_write, 3);
    assert_int_equal(f.usage.output_total, 2);
    assert_int_equal(f.usage.reasoning, 0);
    assert_int_equal(a.used_bytes, 0);
    arena_done(&a);
}

/* ---- models ----------------------------------------------------------------------- */

static pd_err put_id(void *ctx, struct span id)
{
    struct buf *out = ctx;
    pd_err e = buf_add(out, id);
    return e ? e : buf_puts(out, ";");
}

static pd_err stop_at_once(void *ctx, struct span id)
{
    (void)ctx, (void)id;
    return PD_CANCELLED;
}

static const struct {
    const char *in;
    pd_err err;
    const char *out;
} lists[] = {
    {"{\"data\":[{\"id\":\"a\"},{\"id\":\"b\\/c\"}],\"has_more\":false}", PD_OK, "a;b/c;"},
    {"{\"models\":[{\"name\":\"models/a\"},{\"model\":\"b\"}]}", PD_OK, "models/a;b;"},
    {"[{\"id\":\"a\",\"name\":\"A\"},\"b\",7,{}]", PD_OK, "a;b;"},
    {"{\"data\":[]}", PD_OK, ""},
    {"{\"data\":{\"id\":\"a\"}}", PD_INVALID, ""},
    {"{\"error\":{\"message\":\"no\"}}", PD_INVALID, ""},
    {"\"a\"", PD_INVALID, ""},
    {"{\"data\":[{\"id\":\"a\"}", PD_SYNTAX, ""},
    {"", PD_SYNTAX, ""},
};

static void models_are_listed_whatever_the_shape(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct buf out;
        buf_init(&out, 0);
        assert_int_equal(models_read(span_str(lists[i].in), put_id, &out), lists[i].err);
        if (!span_is(buf_span(&out), lists[i].out))
            fail_msg("%s: got %.*s", lists[i].in, SPAN_FMT(buf_span(&out)));
        buf_done(&out);
    }
    assert_int_equal(models_read(SPAN_LIT("[\"a\"]"), stop_at_once, NULL), PD_CANCELLED);
}

static pd_err list_and_tell(void *ctx)
{
    (void)ctx;
    struct buf out;
    buf_init(&out, 0);
    pd_err e = models_read(span_str(lists[0].in), put_id, &out);
    if (!e)
        e = codec_put_error_event(&codec_openai_chat, &errors[2].error, &out);
    buf_done(&out);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(list_and_tell, NULL) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codecs_have_names),
        cmocka_unit_test(finishes_have_names),
        cmocka_unit_test(errors_are_written_for_bodies_and_streams),
        cmocka_unit_test(an_error_event_is_read_as_an_error),
        cmocka_unit_test(an_error_that_does_not_fit_leaves_nothing),
        cmocka_unit_test(a_whole_answer_points_into_its_body),
        cmocka_unit_test(models_are_listed_whatever_the_shape),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
