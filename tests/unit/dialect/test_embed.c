/* Embeddings of every format into every other: requests, answers, and the two shapes of a vector. */
#include "dialect/embed.h"
#include "torture.h"

#include "test.h"

#include <stdio.h>
#include <string.h>

#define BASE64 "AACAPwAAAL8=" /* 1, -0.5 */

/* ---- requests ------------------------------------------------------------------------- */

static const struct row {
    const struct codec *from;
    const char *in;
    const struct codec *to;
    const char *model, *out;
} rows[] = {
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":\"x\\n\"}", &codec_openai_embeddings, "m",
     "{\"model\":\"m\",\"input\":\"x\\n\"}"},
    {&codec_openai_embeddings,
     "{\"model\":\"a\",\"input\":[\"x\",\"y\"],\"dimensions\":3,\"encoding_format\":\"base64\",\"user\":\"u\"}",
     &codec_openai_embeddings, "m",
     "{\"model\":\"m\",\"input\":[\"x\",\"y\"],\"dimensions\":3,\"encoding_format\":\"base64\",\"user\":\"u\"}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[1, 2]}", &codec_openai_embeddings, "m",
     "{\"model\":\"m\",\"input\":[1, 2]}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[[1],[2,3]]}", &codec_openai_embeddings, "m",
     "{\"model\":\"m\",\"input\":[[1],[2,3]]}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[\"x\"],\"dimensions\":3}", &codec_ollama_embeddings,
     "m", "{\"model\":\"m\",\"input\":[\"x\"],\"dimensions\":3}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[1]}", &codec_ollama_embeddings, "m", "PD_UNSUPPORTED"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":\"x\",\"dimensions\":256}", &codec_bedrock_embeddings,
     "amazon.titan-embed-text-v2:0", "{\"inputText\":\"x\",\"dimensions\":256}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":\"x\",\"dimensions\":256}", &codec_bedrock_embeddings,
     "amazon.titan-embed-text-v1", "{\"inputText\":\"x\"}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[\"x\",\"y\"]}", &codec_bedrock_embeddings,
     "amazon.titan-embed-text-v2:0", "PD_UNSUPPORTED"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[\"x\",\"y\"]}", &codec_bedrock_embeddings,
     "cohere.embed-multilingual-v3", "{\"texts\":[\"x\",\"y\"],\"input_type\":\"search_document\"}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":\"x\",\"dimensions\":256}", &codec_bedrock_embeddings,
     "amazon.nova-2-multimodal-embeddings-v1:0",
     "{\"taskType\":\"SINGLE_EMBEDDING\",\"singleEmbeddingParams\":{\"embeddingPurpose\":\"GENERIC_INDEX\","
     "\"embeddingDimension\":256,\"text\":{\"truncationMode\":\"END\",\"value\":\"x\"}}}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[\"x\"]}", &codec_gemini_embeddings, "m",
     "{\"requests\":[{\"model\":\"models/m\",\"content\":{\"parts\":[{\"text\":\"x\"}]}}]}"},
    {&codec_ollama_embeddings, "{\"model\":\"a\",\"prompt\":\"x\"}", &codec_openai_embeddings, "m",
     "{\"model\":\"m\",\"input\":\"x\"}"},
    {&codec_ollama_embeddings, "{\"model\":\"a\",\"input\":[\"x\"],\"truncate\":true}", &codec_openai_embeddings,
     "m", "{\"model\":\"m\",\"input\":[\"x\"]}"},
    {&codec_ollama_embeddings, "{\"model\":\"a\",\"input\":\"x\"}", &codec_gemini_embeddings, "m",
     "{\"model\":\"models/m\",\"content\":{\"parts\":[{\"text\":\"x\"}]}}"},
    {&codec_gemini_embeddings, "{\"content\":{\"parts\":[{\"text\":\"x\"}]},\"taskType\":\"RETRIEVAL_QUERY\"}",
     &codec_bedrock_embeddings, "cohere.embed-v4:0", "{\"texts\":[\"x\"],\"input_type\":\"search_query\"}"},
    {&codec_gemini_embeddings,
     "{\"requests\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]},\"outputDimensionality\":5}]}",
     &codec_ollama_embeddings, "m", "{\"model\":\"m\",\"input\":[\"x\"],\"dimensions\":5}"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[]}", &codec_openai_embeddings, "m", "PD_INVALID"},
    {&codec_openai_embeddings, "{\"model\":\"a\",\"input\":[\"x\",7]}", &codec_openai_embeddings, "m",
     "PD_INVALID"},
    {&codec_openai_embeddings, "{\"model\":\"a\"}", &codec_openai_embeddings, "m", "PD_INVALID"},
    {&codec_ollama_embeddings, "{\"model\":\"a\",\"input\":[1]}", &codec_openai_embeddings, "m", "PD_INVALID"},
};

static pd_err translate_row(const struct row *r, struct arena *a, struct buf *out)
{
    struct request_facts f;
    struct embed_request m;
    const char *why = NULL;
    struct request_line line = {0};
    struct write_want want = {.model = span_str(r->model)};
    pd_err e = r->from->read_request(span_str(r->in), &line, a, &f, &why);
    if (!e)
        e = r->from->embed->parse(&f, a, &m, &why);
    if (e && e != PD_NOMEM)
        assert_non_null(why);
    return e ? e : r->to->embed->write(&m, &want, a, out);
}

static void requests_go_from_format_to_format(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct buf out;
        arena_init(&a, 0, 0);
        buf_init(&out, 0);
        pd_err e = translate_row(&rows[i], &a, &out);
        struct span got = e ? span_str(pd_err_name(e)) : buf_span(&out);
        if (!span_is(got, rows[i].out))
            fail_msg("%s for %s:\n%.*s", rows[i].in, rows[i].to->name, SPAN_FMT(got));
        buf_done(&out);
        arena_done(&a);
    }
}

/* ---- answers ---------------------------------------------------------------------------- */

static const struct {
    const struct codec *codec;
    const char *body;
    int64_t input;
} answers[] = {
    {&codec_openai_embeddings,
     "{\"data\":[{\"embedding\":[1,-0.5]}],\"model\":\"q\",\"usage\":{\"prompt_tokens\":3,\"total_tokens\":3}}",
     3},
    {&codec_openai_embeddings, "{\"data\":[{\"embedding\":\"" BASE64 "\"}],\"usage\":{\"prompt_tokens\":3}}", 3},
    {&codec_ollama_embeddings, "{\"model\":\"q\",\"embeddings\":[[1,-0.5]],\"prompt_eval_count\":3}", 3},
    {&codec_ollama_embeddings, "{\"embedding\":[1,-0.5]}", 0},
    {&codec_bedrock_embeddings, "{\"embedding\":[1,-0.5],\"inputTextTokenCount\":3}", 3},
    {&codec_bedrock_embeddings, "{\"embeddings\":[[1,-0.5]],\"id\":\"i\",\"response_type\":\"embeddings_floats\"}",
     0},
    {&codec_bedrock_embeddings, "{\"embeddings\":{\"float\":[[1,-0.5]]}}", 0},
    {&codec_bedrock_embeddings, "{\"embeddings\":[{\"embeddingType\":\"TEXT\",\"embedding\":[1,-0.5]}]}", 0},
    {&codec_gemini_embeddings, "{\"embedding\":{\"values\":[1,-0.5]}}", 0},
    {&codec_gemini_embeddings, "{\"embeddings\":[{\"values\":[1,-0.5]}]}", 0},
};

static void put_as(const struct codec *to, const struct embed_answer *an, struct embed_request asked,
                   const char *want)
{
    struct buf out;
    buf_init(&out, 0);
    asked.model = SPAN_LIT("m");
    assert_int_equal(to->embed->put(an, &asked, &out), PD_OK);
    if (!span_is(buf_span(&out), want))
        fail_msg("as %s:\n%.*s\n%s", to->name, SPAN_FMT(buf_span(&out)), want);
    buf_done(&out);
}

static void answers_go_from_format_to_format(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct arena a;
        struct embed_answer an;
        enum answer_end end;
        char want[256];
        int n = (int)answers[i].input;
        arena_init(&a, 0, 0);
        assert_int_equal(answers[i].codec->embed->read(span_str(answers[i].body), &a, &an, &end), PD_OK);
        assert_int_equal(end, ANSWER_COMPLETE);
        assert_int_equal(an.count, 1);
        const char *const shapes[] = {"[1,-0.5]", "\"" BASE64 "\""};
        for (int base64 = 0; base64 < 2; base64++) {
            snprintf(want, sizeof(want),
                     "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":%s}],"
                     "\"model\":\"m\","
                     "\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}",
                     shapes[base64], n, n);
            put_as(&codec_openai_embeddings, &an, (struct embed_request){.base64 = base64}, want);
        }
        snprintf(want, sizeof(want),
                 "{\"model\":\"m\",\"embeddings\":[[1,-0.5]],\"total_duration\":0,\"load_duration\":0,\"prompt_"
                 "eval_count\":%d}",
                 n);
        put_as(&codec_ollama_embeddings, &an, (struct embed_request){.list = true}, want);
        put_as(&codec_ollama_embeddings, &an, (struct embed_request){.bare = true}, "{\"embedding\":[1,-0.5]}");
        arena_done(&a);
    }
}

static void what_is_no_answer_does_not_pass_for_one(void **state)
{
    (void)state;
    static const struct {
        const struct codec *codec;
        const char *body;
        enum answer_end end;
    } bad[] = {
        {&codec_openai_embeddings, "{\"data\":[]}", ANSWER_EMPTY},
        {&codec_openai_embeddings, "{\"error\":{\"message\":\"no\"}}", ANSWER_FAILED},
        {&codec_ollama_embeddings, "{\"embeddings\":[]}", ANSWER_EMPTY},
        {&codec_ollama_embeddings, "{\"error\":\"no\"}", ANSWER_FAILED},
        {&codec_bedrock_embeddings, "{}", ANSWER_EMPTY},
        {&codec_bedrock_embeddings, "{\"message\":\"no\"}", ANSWER_FAILED},
        {&codec_bedrock_embeddings, "{\"Message\":\"no\"}", ANSWER_FAILED},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct arena a;
        struct embed_answer an;
        enum answer_end end;
        arena_init(&a, 0, 0);
        assert_int_equal(bad[i].codec->embed->read(span_str(bad[i].body), &a, &an, &end), PD_OK);
        assert_int_equal(end, bad[i].end);
        arena_done(&a);
    }
}

/* ---- vectors ------------------------------------------------------------------------------- */

static void a_float_comes_back_as_it_was(void **state)
{
    (void)state;
    uint32_t bits = 0x3dcccccd;
    for (unsigned i = 0; i < 20000; i++, bits = bits * 1664525u + 1013904223u) {
        if ((bits >> 23 & 0xff) == 0xff)
            continue; /* no number */
        char bytes[4] = {(char)bits, (char)(bits >> 8), (char)(bits >> 16), (char)(bits >> 24)};
        struct buf text, numbers, again;
        buf_init(&text, 0);
        buf_init(&numbers, 0);
        buf_init(&again, 0);
        struct put p = put_into(&text);
        char list[64];
        float x;
        memcpy(&x, bytes, sizeof(x));
        snprintf(list, sizeof(list), "[%.9g]", (double)x);
        embed_put_base64(&p, &(struct embed_vector){.numbers = span_str(list)});
        assert_int_equal(p.err, PD_OK);
        struct put q = put_into(&numbers);
        struct span inner = span_of(buf_span(&text).p + 1, buf_size(&text) - 2);
        embed_put_numbers(&q, &(struct embed_vector){.base64 = inner});
        assert_true(q.err == PD_OK && span_is(buf_span(&numbers), list));
        buf_done(&text);
        buf_done(&numbers);
        buf_done(&again);
    }
}

static void what_is_no_vector_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"AAA=", "AACAPw", "AACA!w=="}, *const lists[] = {"[1,\"x\"]", "[null]",
                                                                                         "[[1]]"};
    for (size_t i = 0; i < 3; i++) {
        struct buf b;
        buf_init(&b, 0);
        struct put p = put_into(&b), q = put_into(&b);
        embed_put_numbers(&p, &(struct embed_vector){.base64 = span_str(texts[i])});
        embed_put_base64(&q, &(struct embed_vector){.numbers = span_str(lists[i])});
        assert_int_equal(p.err, PD_SYNTAX);
        assert_int_equal(q.err, PD_SYNTAX);
        buf_done(&b);
    }
}

/* ---- edits and memory ------------------------------------------------------------------------ */

static void only_the_model_is_edited(void **state)
{
    (void)state;
    struct arena a;
    struct request_facts f;
    struct span parts[REQUEST_PARTS_MAX];
    unsigned count;
    const char *why;
    struct request_edit ed = {.model = SPAN_LIT("b"), .forbid_stream = true, .want_usage = true};
    struct buf out;
    arena_init(&a, 0, 0);
    buf_init(&out, 0);
    struct span body = SPAN_LIT(" {\"input\" : [\"x\"] ,\"model\":\"a\",\"stream\":true}\n");
    assert_int_equal(codec_ollama_embeddings.read_request(body, NULL, &a, &f, &why), PD_OK);
    assert_false(f.stream);
    assert_int_equal(codec_ollama_embeddings.edit_request(&f, &ed, &a, parts, &count), PD_OK);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(buf_add(&out, parts[i]), PD_OK);
    assert_true(span_is(buf_span(&out), " {\"input\" : [\"x\"] ,\"model\":\"b\",\"stream\":true}\n"));
    buf_done(&out);
    arena_done(&a);
}

static pd_err request_work(void *ctx)
{
    struct arena a;
    struct buf out;
    arena_init(&a, 64, 0);
    buf_init(&out, 0);
    pd_err e = translate_row(ctx, &a, &out);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static pd_err answer_work(void *ctx)
{
    struct arena a;
    struct buf out;
    struct embed_answer an;
    enum answer_end end;
    struct embed_request asked = {.model = SPAN_LIT("m"), .list = true, .base64 = ctx != NULL};
    arena_init(&a, 64, 0);
    buf_init(&out, 0);
    pd_err e = codec_openai_embeddings.embed->read(span_str(answers[1].body), &a, &an, &end);
    if (!e)
        e = codec_ollama_embeddings.embed->put(&an, &asked, &out);
    if (!e)
        e = codec_openai_embeddings.embed->put(&an, &asked, &out);
    buf_done(&out);
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct row r = rows[i];
        if (r.out[0] == '{')
            assert_true(torture(request_work, &r) >= 1);
    }
    assert_true(torture(answer_work, NULL) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_from_format_to_format),
        cmocka_unit_test(answers_go_from_format_to_format),
        cmocka_unit_test(what_is_no_answer_does_not_pass_for_one),
        cmocka_unit_test(a_float_comes_back_as_it_was),
        cmocka_unit_test(what_is_no_vector_is_refused),
        cmocka_unit_test(only_the_model_is_edited),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
