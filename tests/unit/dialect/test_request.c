#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "dialect/codec.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include "test.h"

static const struct codec *const chat = &codec_openai_chat;

/* The edited body, put together; the parts of the original must point into it. */
static pd_err edited(const struct codec *c, struct span body, const struct request_edit *ed, struct arena *a,
                     struct buf *out)
{
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count;
    const char *why;
    pd_err e = c->read_request(body, &(struct request_line){0}, a, &f, &why);
    if (!e)
        e = c->edit_request(&f, ed, a, parts, &count);
    for (unsigned i = 0; !e && i < count; i++)
        e = buf_add(out, parts[i]);
    return e;
}

/* ---- facts --------------------------------------------------------------------- */

/* What is known of a body, in words. */
static struct span facts_of(struct span body, struct arena *a)
{
    struct request_facts f;
    const char *why = NULL;
    pd_err e = chat->read_request(body, &(struct request_line){0}, a, &f, &why);
    char *text =
        e ? arena_printf(a, "%s: %s", pd_err_name(e), why)
          : arena_printf(a, "model(%.*s) max(%lld) user(%.*s)%s%s%s%s%s%s", SPAN_FMT(f.model),
                         (long long)f.max_tokens, SPAN_FMT(f.user), f.stream ? " stream" : "",
                         f.include_usage ? " usage" : "", f.tools ? " tools" : "", f.continues ? " continues" : "",
                         f.reasoning ? " reasoning" : "", f.many ? " many" : "");
    return span_str(text);
}

static const struct {
    const char *name, *in, *out;
} facts[] = {
    {"the least", "{}", "model() max(-1) user()"},
    {"a model", "{\"model\":\"m\"}", "model(m) max(-1) user()"},
    {"escapes are undone", "{\"mod\\u0065l\":\"a\\/b\"}", "model(a/b) max(-1) user()"},
    {"of two models the last", "{\"model\":\"a\",\"model\":\"b\"}", "model(b) max(-1) user()"},
    {"a first turn", "{\"messages\":[{},{\"role\":\"user\",\"content\":\"}]\\\"{\"} ]}", "model() max(-1) user()"},
    {"a later turn", "{\"messages\":[{},{\"role\":\"user\",\"content\":\"}]\\\"{\"},{}]}",
     "model() max(-1) user() continues"},
    {"a stream with usage", "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
     "model() max(-1) user() stream usage"},
    {"no stream", "{\"stream\":null}", "model() max(-1) user()"},
    {"tools", "{\"tools\":[{}]}", "model() max(-1) user() tools"},
    {"functions of old", "{\"functions\":[{}]}", "model() max(-1) user() tools"},
    {"an empty list of tools", "{\"tools\":[]}", "model() max(-1) user()"},
    {"n", "{\"n\":2}", "model() max(-1) user() many"},
    {"n is 1", "{\"n\":1.0}", "model() max(-1) user()"},
    {"the newer limit wins", "{\"max_completion_tokens\":5,\"max_tokens\":9}", "model() max(5) user()"},
    {"the older limit", "{\"max_completion_tokens\":null,\"max_tokens\":9e0}", "model() max(9) user()"},
    {"effort", "{\"reasoning_effort\":\"low\"}", "model() max(-1) user() reasoning"},
    {"no effort", "{\"reasoning_effort\":\"none\"}", "model() max(-1) user()"},
    {"reasoning", "{\"reasoning\":{\"effort\":\"high\"}}", "model() max(-1) user() reasoning"},
    {"reasoning switched off", "{\"reasoning\":{\"enabled\":false}}", "model() max(-1) user()"},
    {"thinking", "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":9}}", "model() max(-1) user() reasoning"},
    {"thinking switched off", "{\"thinking\":{\"type\":\"disabled\"}}", "model() max(-1) user()"},
    {"a switch", "{\"enable_thinking\":true}", "model() max(-1) user() reasoning"},
    {"a switch of the template", "{\"chat_template_kwargs\":{\"enable_thinking\":true}}",
     "model() max(-1) user() reasoning"},
    {"a user", "{\"user\":\"u\\n1\"}", "model() max(-1) user(u\n1)"},
    {"the more exact hint wins", "{\"metadata\":{\"session_id\":\"s\"},\"prompt_cache_key\":\"k\",\"user\":\"u\"}",
     "model() max(-1) user(k)"},
    {"a session", "{\"user\":\"u\",\"metadata\":{\"session_id\":\"s\"}}", "model() max(-1) user(s)"},
    {"space everywhere", " \r\n\t{ \"model\" : \"m\" , \"stream\" : true } \n", "model(m) max(-1) user() stream"},

    {"nothing", "", "PD_SYNTAX: the request body is empty: send a JSON object"},
    {"a list", " [1]", "PD_SYNTAX: the body is not a JSON object (byte 1 of the request body)"},
    {"not closed", "{\"model\":\"m\"",
     "PD_SYNTAX: the JSON object ends before it is closed (byte 12 of the request body)"},
    {"a string not closed", "{\"model\":\"m}",
     "PD_SYNTAX: the body is not valid JSON (byte 9 of the request body)"},
    {"a comma too many", "{\"a\":1,}", "PD_SYNTAX: the body is not valid JSON (byte 7 of the request body)"},
    {"no comma", "{\"a\":1 \"b\":2}", "PD_SYNTAX: the body is not valid JSON (byte 7 of the request body)"},
    {"something behind", "{} {}", "PD_SYNTAX: something follows the JSON object (byte 3 of the request body)"},
    {"a model that is no string", "{\"model\":7}", "PD_INVALID: \"model\" must be a string"},
    {"a model with a bad escape", "{\"model\":\"\\x\"}",
     "PD_SYNTAX: \"model\" has an escape that JSON does not know"},
    {"a stream that is no switch", "{\"stream\":\"yes\"}", "PD_INVALID: \"stream\" must be true or false"},
    {"too often",
     "{\"model\":\"\",\"model\":\"\",\"model\":\"\",\"model\":\"\",\"model\":\"\",\"model\":\"\",\"model\":\"\","
     "\"model\":\"\",\"model\":\"\"}",
     "PD_INVALID: \"model\" is given too often: send it once"},
};

static void facts_are_found(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        struct arena a;
        arena_init(&a, 0, 0);
        size_t n = strlen(facts[i].in);
        char *copy = malloc(n ? n : 1); /* exactly as large, so that reading beyond it shows */
        memcpy(copy, facts[i].in, n);
        struct span got = facts_of(span_of(copy, n), &a);
        if (!span_is(got, facts[i].out)) {
            print_error("%s: expected %s\n    got %.*s\n", facts[i].name, facts[i].out, SPAN_FMT(got));
            faults++;
        }
        free(copy);
        arena_done(&a);
    }
    assert_int_equal(faults, 0);
}

static void a_body_cut_anywhere_is_refused(void **state)
{
    (void)state;
    static const char body[] =
        "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\\\"b\"}],\"n\":1.5}";
    for (size_t n = 0; n + 1 < sizeof(body); n++) {
        struct arena a;
        struct request_facts f;
        const char *why = NULL;
        arena_init(&a, 0, 0);
        assert_int_equal(chat->read_request(span_of(body, n), &(struct request_line){0}, &a, &f, &why), PD_SYNTAX);
        assert_non_null(why);
        arena_done(&a);
    }
}

static uint64_t prefix_of(const char *body)
{
    struct arena a;
    struct request_facts f;
    const char *why;
    arena_init(&a, 0, 0);
    assert_int_equal(chat->read_request(span_str(body), &(struct request_line){0}, &a, &f, &why), PD_OK);
    arena_done(&a);
    return f.prefix_hash;
}

static void every_turn_of_a_conversation_has_the_same_prefix(void **state)
{
    (void)state;
    uint64_t first =
        prefix_of("{\"model\":\"a\",\"messages\":[{\"role\":\"system\"},{\"role\":\"user\",\"content\":\"hi\"}]}");
    uint64_t later = prefix_of(
        "{\"messages\":[{\"role\":\"system\"},{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\"},"
        "{\"role\":\"user\",\"content\":\"and?\"}],\"model\":\"b\"}");
    uint64_t other = prefix_of("{\"messages\":[{\"role\":\"system\"},{\"role\":\"user\",\"content\":\"ho\"}]}");
    assert_true(first == later);
    assert_true(first != other);
}

/* A beginning that is longer than what is looked at: its first bytes stand for it, and the conversation counts as one that goes on. */
static void a_long_beginning_is_known_by_its_first_bytes(void **state)
{
    (void)state;
    static const char front[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"";
    struct arena a;
    struct request_facts f;
    const char *why;
    uint64_t hash[2];
    for (int later = 0; later < 2; later++) {
        struct buf body = {0};
        assert_int_equal(buf_puts(&body, front), PD_OK);
        for (int i = 0; i < PREFIX_MAX; i += 8)
            assert_int_equal(buf_puts(&body, "long... "), PD_OK);
        assert_int_equal(buf_puts(&body, later ? "\"},{\"role\":\"assistant\"}]}" : "\"}]}"), PD_OK);
        arena_init(&a, 0, 0);
        assert_int_equal(chat->read_request(buf_span(&body), &(struct request_line){0}, &a, &f, &why), PD_OK);
        assert_true(f.continues);
        hash[later] = f.prefix_hash;
        arena_done(&a);
        buf_done(&body);
    }
    assert_true(hash[0] == hash[1]);
}

/* ---- edits --------------------------------------------------------------------- */

static const struct edit_row {
    const char *name, *in;
    struct request_edit edit;
    const char *out;
} edits[] = {
    {"nothing to do", "{ \"a\" : 1.0 }", {.force_stream = false}, "{ \"a\" : 1.0 }"},
    {"the model",
     "{\"x\":1e2,\"model\" : \"a\",\"y\":{}}",
     {.model = {"b", 1}},
     "{\"x\":1e2,\"model\" : \"b\",\"y\":{}}"},
    {"a model with quotes", "{\"model\":\"a\"}", {.model = {"b\"\\", 3}}, "{\"model\":\"b\\\"\\\\\"}"},
    {"every model",
     "{\"model\":\"a\",\"mod\\u0065l\":\"c\"}",
     {.model = {"b", 1}},
     "{\"model\":\"b\",\"mod\\u0065l\":\"b\"}"},
    {"a model that was missing", "{\"a\":1}", {.model = {"b", 1}}, "{\"model\":\"b\",\"a\":1}"},
    {"a model in an empty object", "{ }", {.model = {"b", 1}}, "{\"model\":\"b\" }"},
    {"a stream that was missing", "{\"a\":1}", {.force_stream = true}, "{\"stream\":true,\"a\":1}"},
    {"a stream that was false", "{\"stream\": false}", {.force_stream = true}, "{\"stream\": true}"},
    {"a stream that was null",
     "{\"stream\":null,\"a\":12345678901234567890}",
     {.force_stream = true},
     "{\"stream\":true,\"a\":12345678901234567890}"},
    {"a stream that is true stays", "{\"stream\" :true}", {.force_stream = true}, "{\"stream\" :true}"},
    {"usage with a stream that was missing",
     "{\"a\":1}",
     {.force_stream = true, .want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true},\"a\":1}"},
    {"all three",
     "{}",
     {.model = {"b", 1}, .force_stream = true, .want_usage = true},
     "{\"model\":\"b\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
    {"usage only with a stream", "{\"a\":1}", {.want_usage = true}, "{\"a\":1}"},
    {"usage into options",
     "{\"stream\":true,\"stream_options\":{ \"x\":0}}",
     {.want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true, \"x\":0}}"},
    {"usage into empty options",
     "{\"stream\":true,\"stream_options\":{ }}",
     {.want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true }}"},
    {"usage that was false",
     "{\"stream\":true,\"stream_options\":{\"include_usage\" : false,\"x\":0}}",
     {.want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\" : true,\"x\":0}}"},
    {"usage that is true stays",
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
     {.want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
    {"options that were null",
     "{\"stream\":true,\"stream_options\":null}",
     {.want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
    {"options that say it twice",
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true,\"include_usage\":false}}",
     {.want_usage = true},
     "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
    {"no stream", "{\"stream\":true,\"a\":1}", {.forbid_stream = true}, "{\"stream\":false,\"a\":1}"},
    {"no stream, none asked for", "{\"a\":1}", {.forbid_stream = true}, "{\"a\":1}"},
    {"no stream and no options, last",
     "{\"stream\":true, \"stream_options\" : {\"x\":[1]} }",
     {.forbid_stream = true},
     "{\"stream\":false }"},
    {"options first", "{ \"stream_options\":{}, \"a\":1}", {.forbid_stream = true}, "{  \"a\":1}"},
    {"options in the middle",
     "{\"a\":1,\"stream_options\":null,\"b\":2}",
     {.forbid_stream = true},
     "{\"a\":1,\"b\":2}"},
    {"options alone", "{\"stream_options\":{}}", {.forbid_stream = true}, "{}"},
    {"options twice alone", "{\"stream_options\":{} , \"stream_options\":1}", {.forbid_stream = true}, "{ }"},
    {"options twice, then more",
     "{\"stream_options\":{},\"stream_options\":1,\"a\":2}",
     {.forbid_stream = true},
     "{\"a\":2}"},
    {"options around",
     "{\"stream_options\":{},\"a\":2,\"stream\\u005foptions\":1}",
     {.forbid_stream = true},
     "{\"a\":2}"},
    {"options alone and a model",
     "{\"stream_options\":{}}",
     {.model = {"b", 1}, .forbid_stream = true},
     "{\"model\":\"b\"}"},
    {"options twice alone and a model",
     "{\"stream_options\":{},\"stream_options\":{} }",
     {.model = {"b", 1}, .forbid_stream = true},
     "{\"model\":\"b\" }"},
    {"options, a model and more",
     "{ \"stream_options\":{},\"z\":\"\xc3\xa9\"}",
     {.model = {"b", 1}, .forbid_stream = true},
     "{\"model\":\"b\", \"z\":\"\xc3\xa9\"}"},
    {"the same names further in stay",
     "{\"a\":{\"model\":\"x\",\"stream\":false,\"stream_options\":1},\"model\":\"y\",\"stream\":false}",
     {.model = {"b", 1}, .force_stream = true},
     "{\"a\":{\"model\":\"x\",\"stream\":false,\"stream_options\":1},\"model\":\"b\",\"stream\":true}"},
    {"space before and behind", "\n {\"model\":\"a\"}\n\n", {.model = {"b", 1}}, "\n {\"model\":\"b\"}\n\n"},
};

static void edits_change_nothing_else(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        struct arena a;
        struct buf out;
        arena_init(&a, 0, 0);
        buf_init(&out, 0);
        assert_int_equal(edited(chat, span_str(edits[i].in), &edits[i].edit, &a, &out), PD_OK);
        if (!span_is(buf_span(&out), edits[i].out) || json_check(buf_span(&out))) {
            print_error("%s: expected %s\n    got %.*s\n", edits[i].name, edits[i].out, SPAN_FMT(buf_span(&out)));
            faults++;
        }
        buf_done(&out);
        arena_done(&a);
    }
    assert_int_equal(faults, 0);
}

static void as_many_sites_as_are_allowed_fit_into_the_parts(void **state)
{
    (void)state;
    struct buf body, out;
    struct arena a;
    arena_init(&a, 0, 0);
    buf_init(&body, 0);
    buf_init(&out, 0);
    assert_int_equal(buf_puts(&body, "{"), PD_OK);
    for (int i = 0; i < 8; i++)
        assert_int_equal(buf_puts(&body, "\"model\":\"a\",\"stream\":false,\"stream_options\":{},"), PD_OK);
    assert_int_equal(buf_puts(&body, "\"end\":0}"), PD_OK);
    struct request_edit on = {.model = SPAN_LIT("b"), .force_stream = true, .want_usage = true};
    assert_int_equal(edited(chat, buf_span(&body), &on, &a, &out), PD_OK);
    assert_int_equal(json_check(buf_span(&out)), PD_OK);
    assert_false(span_has(buf_span(&out), "false"));
    buf_clear(&out);
    struct request_edit off = {.model = SPAN_LIT("b"), .forbid_stream = true};
    assert_int_equal(edited(chat, buf_span(&body), &off, &a, &out), PD_OK);
    assert_int_equal(json_check(buf_span(&out)), PD_OK);
    assert_false(span_has(buf_span(&out), "stream_options"));
    buf_done(&body);
    buf_done(&out);
    arena_done(&a);
}

/* A long conversation with everything in it that could be mistaken for structure. */
static void put_large_body(struct buf *b, const char *model, const char *stream)
{
    assert_int_equal(buf_printf(b, "{\"messages\":[{\"role\":\"system\",\"content\":\"x\"}"), PD_OK);
    for (int i = 0; i < 9000; i++)
        assert_int_equal(buf_printf(b,
                                    ",{\"role\":\"%s\",\"content\":\"%d \\\"model\\\":\\\"a\\\",]}{[ \\\\ \\u00e9 "
                                    "\xf0\x9f\x98\x80 %0200d\"}",
                                    i % 2 ? "assistant" : "user", i, i),
                         PD_OK);
    assert_int_equal(buf_puts(b, ",{\"deep\":"), PD_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf_puts(b, "[{\"model\":"), PD_OK);
    assert_int_equal(buf_puts(b, "1.0"), PD_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(buf_puts(b, "}]"), PD_OK);
    assert_int_equal(
        buf_printf(b, "}], \"model\" :%s , \"seed\":12345678901234567890,\"stream\":%s}", model, stream), PD_OK);
}

static void a_large_body_keeps_every_other_byte(void **state)
{
    (void)state;
    struct buf body, want, out;
    struct arena a;
    arena_init(&a, 0, 0);
    buf_init(&body, 0);
    buf_init(&want, 0);
    buf_init(&out, 0);
    put_large_body(&body, "\"old\"", "false");
    put_large_body(&want, "\"new\"", "true");
    assert_true(buf_size(&body) > 2 << 20);
    struct request_edit ed = {.model = SPAN_LIT("new"), .force_stream = true};
    assert_int_equal(edited(chat, buf_span(&body), &ed, &a, &out), PD_OK);
    assert_true(span_eq(buf_span(&out), buf_span(&want)));
    assert_true(a.used_bytes < 1024); /* nothing of the body is copied */
    buf_done(&body);
    buf_done(&want);
    buf_done(&out);
    arena_done(&a);
}

static void embeddings_are_read_and_edited(void **state)
{
    (void)state;
    static const char *const rows[] = {"{\"model\":\"m\",\"input\":\"a\"}",
                                       "{\"model\":\"m\",\"input\":[\"a\",\"b\"]}",
                                       "{\"model\":\"m\",\"input\":[[1],[2,3]]}", "{\"model\":\"m\"}"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct request_facts f;
        const char *why;
        arena_init(&a, 0, 0);
        assert_int_equal(
            codec_openai_embeddings.read_request(span_str(rows[i]), &(struct request_line){0}, &a, &f, &why),
            PD_OK);
        assert_true(f.prefix_hash == 0 && !f.stream);
        assert_true(span_is(f.model, "m"));
        arena_done(&a);
    }
    struct arena a;
    struct buf out;
    struct request_edit ed = {.model = SPAN_LIT("n")};
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    assert_int_equal(
        edited(&codec_openai_embeddings, span_str("{\"input\":[1.50],\"model\":\"m\"}"), &ed, &a, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "{\"input\":[1.50],\"model\":\"n\"}"));
    buf_done(&out);
    arena_done(&a);
}

/* ---- failures ------------------------------------------------------------------ */

static pd_err read_and_edit(void *ctx)
{
    const struct codec *c = ctx;
    struct request_edit ed = {.model = SPAN_LIT("n\n"), .force_stream = c->streams, .want_usage = true};
    struct arena a;
    struct buf out;
    arena_init(&a, 16, 0);
    buf_init(&out, 0);
    pd_err e = edited(c, SPAN_LIT("{\"model\":\"m\\u0041\",\"user\":\"u\\u0041\",\"input\":1}"), &ed, &a, &out);
    if (!e)
        e = edited(c, SPAN_LIT("{\"user\":\"u\"}"), &ed, &a, &out);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void requests_survive_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(read_and_edit, (void *)(uintptr_t)&codec_openai_chat) >= 6);
    assert_true(torture(read_and_edit, (void *)(uintptr_t)&codec_openai_embeddings) >= 5);
}

static void a_fault_is_told_without_memory_too(void **state)
{
    (void)state;
    struct arena a;
    struct request_facts f;
    const char *why = NULL;
    arena_init(&a, 0, 0);
    mem_fail_at(1);
    pd_err e = chat->read_request(SPAN_LIT("{\"a\":"), &(struct request_line){0}, &a, &f, &why);
    mem_fail_at(0);
    assert_int_equal(e, PD_SYNTAX);
    assert_string_equal(why, "the JSON object ends before it is closed");
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_found),
        cmocka_unit_test(a_body_cut_anywhere_is_refused),
        cmocka_unit_test(every_turn_of_a_conversation_has_the_same_prefix),
        cmocka_unit_test(a_long_beginning_is_known_by_its_first_bytes),
        cmocka_unit_test(edits_change_nothing_else),
        cmocka_unit_test(as_many_sites_as_are_allowed_fit_into_the_parts),
        cmocka_unit_test(a_large_body_keeps_every_other_byte),
        cmocka_unit_test(embeddings_are_read_and_edited),
        cmocka_unit_test(requests_survive_every_failed_allocation),
        cmocka_unit_test(a_fault_is_told_without_memory_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
