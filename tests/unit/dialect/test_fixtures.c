/* Answers of providers, recorded and invented, against what an independent reader says they mean.
 *
 * Each stream is fed whole, byte by byte, and in two parts cut at every byte; of one larger than 20 KB at every byte of the
 * first and last 4 KB and at every 97th between. With the address sanitizer only every 5th of these cuts is made. */
#include "dialect/models.h"
#include "fixture.h"
#include "told.h"

enum { CUT_ALL = 20 * 1024, CUT_EDGE = 4 * 1024, CUT_STEP = 97 };
#if defined(__SANITIZE_ADDRESS__)
enum { CUT_EVERY = 5 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { CUT_EVERY = 5 };
#else
enum { CUT_EVERY = 1 };
#endif
#else
enum { CUT_EVERY = 1 };
#endif

static void fault(struct fixture *f, const char *what, struct span want, struct span got)
{
    f->faults++;
    fprintf(stderr, "%s: %s: expected \"%.*s\", got \"%.*s\"\n", f->file, what, SPAN_FMT(want), SPAN_FMT(got));
}

static void same(struct fixture *f, const char *what, struct span want, struct span got)
{
    if (!span_eq(want, got))
        fault(f, what, want, got);
}

static void same_number(struct fixture *f, const char *what, int64_t want, int64_t got)
{
    if (want != got) {
        f->faults++;
        fprintf(stderr, "%s: %s: expected %lld, got %lld\n", f->file, what, (long long)want, (long long)got);
    }
}

/* An expected text; null and absent are the empty text. */
static struct span expected_text(struct fixture *f, struct json v)
{
    struct span text = SPAN_NONE;
    if (v.type == JSON_STRING)
        assert_int_equal(json_text(v, f->arena, &text), PD_OK);
    return text;
}

static int64_t expected_number(struct json v, int64_t otherwise)
{
    int64_t n;
    return json_i64(v, &n) ? n : otherwise;
}

/* The text of what was collected escaped. */
static struct span plain(struct fixture *f, struct span escaped)
{
    struct span text = SPAN_NONE;
    if (!fixture_plain(f, escaped, &text))
        fault(f, "a text that cannot be unescaped", SPAN_NONE, escaped);
    return text;
}

/* ---- what was said ------------------------------------------------------------------ */

/* Where arguments are no text but an object, the collection has them as its own reader spells them. No text is no arguments. */
static void check_arguments(struct fixture *f, struct span want, struct span got)
{
    if (span_is(want, "{}") && got.n == 0)
        return;
    if (!span_eq(want, got) && json_check(want) == PD_OK && json_check(got) == PD_OK)
        same(f, "tool arguments", fixture_compact(f, want), fixture_compact(f, got));
    else
        same(f, "tool arguments", want, got);
}

static void check_tools(struct fixture *f, const struct told_choice *c)
{
    struct json_walk w;
    struct json tool;
    unsigned i = 0;
    json_walk_init(&w, json_get(f->expected, "tool_calls"));
    for (; json_walk_next(&w, NULL, &tool); i++) {
        if (i >= c->tool_count)
            continue;
        const struct told_tool *got = &c->tools[i];
        same(f, "tool id", expected_text(f, json_get(tool, "id")), plain(f, buf_span(&got->id)));
        same(f, "tool name", expected_text(f, json_get(tool, "name")), plain(f, buf_span(&got->name)));
        check_arguments(f, expected_text(f, json_get(tool, "arguments")), plain(f, buf_span(&got->arguments)));
        same_number(f, "legacy", json_is_true(json_get(tool, "legacy_function_call")), got->legacy);
    }
    same_number(f, "tool calls", i, c->tool_count);
}

/* Reasoning of Responses is a list of paragraphs; the collection's own reader joins them without a break. */
static struct span unbroken(struct fixture *f, struct span text)
{
    char *out = arena_strndup(f->arena, text.p ? text.p : "", text.n);
    size_t n = 0;
    if (f->codec != &codec_openai_responses)
        return text;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '\n')
            out[n++] = text.p[i];
    return span_of(out, n);
}

static void check_said(struct fixture *f, const struct told *t)
{
    const struct told_choice *c = &t->choices[0];
    assert_int_equal(t->err, PD_OK);
    same(f, "text", expected_text(f, json_get(f->expected, "text")), plain(f, buf_span(&c->text)));
    same(f, "reasoning", unbroken(f, expected_text(f, json_get(f->expected, "reasoning"))),
         unbroken(f, plain(f, buf_span(&c->reasoning))));
    same(f, "refusal", expected_text(f, json_get(f->expected, "refusal")), plain(f, buf_span(&c->refusal)));
    check_tools(f, c);
}

/* A part of the usage that is not reported is 0 in the collection. */
static void same_count(struct fixture *f, const char *what, int64_t want, int64_t got)
{
    if (!(want == 0 && got == -1))
        same_number(f, what, want, got);
}

static void check_facts(struct fixture *f, const struct answer_facts *facts)
{
    struct json usage = json_get(f->expected, "usage_norm"), finish = json_get(f->expected, "finish_norm");
    /* Of a Responses stream that breaks off the collection's reader has no names: it looks at the last event only. */
    bool named = f->codec != &codec_openai_responses || json_get(f->expected, "response_id").type == JSON_STRING;
    if (named)
        same(f, "response id", expected_text(f, json_get(f->expected, "response_id")), facts->id);
    if (named)
        same(f, "model", expected_text(f, json_get(f->expected, "model")), facts->model);
    if (json_is(finish, "other:failed")) /* "failed" is no other reason here: the provider gave up */
        finish = (struct json){JSON_STRING, SPAN_LIT("\"error\"")};
    struct span word = expected_text(f, json_get(f->expected, "finish_reason"));
    if (span_starts(word, "promptFeedback:")) /* the collection says where a blocked prompt's word stood */
        word = span_from(word, strlen("promptFeedback:"));
    same(f, "finish reason", word, facts->finish_raw);
    same(f, "finish", finish.type == JSON_STRING ? expected_text(f, finish) : SPAN_LIT("none"),
         span_str(msg_finish_name(facts->finish)));
    same_number(f, "input_total", expected_number(json_get(usage, "input_total"), -1), facts->usage.input_total);
    /* One server says it beside the details; the larger collection's reader looks into these only. */
    int64_t beside = expected_number(json_path(f->expected, "usage.cached_tokens"), -1);
    same_count(f, "cache_read", expected_number(json_get(usage, "cache_read"), beside), facts->usage.cache_read);
    same_number(f, "output_total", expected_number(json_get(usage, "output_total"), -1),
                facts->usage.output_total);
    int64_t thinking = expected_number(json_path(f->expected, "usage.output_tokens_details.thinking_tokens"), -1);
    same_number(f, "reasoning tokens", expected_number(json_get(usage, "reasoning"), thinking),
                facts->usage.reasoning);
    /* The larger collection never says it, although some bodies do. */
    if (json_get(usage, "cache_write").type == JSON_NUMBER)
        same_count(f, "cache_write", expected_number(json_get(usage, "cache_write"), -1),
                   facts->usage.cache_write);
    same_number(f, "usage reported", json_get(f->expected, "usage").type == JSON_OBJECT, facts->usage_raw.n > 0);
}

static void check_end(struct fixture *f, enum answer_end end)
{
    struct span outcome = json_inner(json_get(f->expected, "outcome"));
    const char *want = span_is(outcome, "success")      ? "complete"
                       : span_is(outcome, "blocked")    ? "complete"
                       : span_is(outcome, "incomplete") ? "cut"
                       : span_is(outcome, "empty")      ? "empty"
                                                        : "failed";
    same(f, "end", span_str(want), span_str(end_name(end)));
}

/* ---- streams -------------------------------------------------------------------------- */

static void read_parts(struct fixture *f, struct span a, struct span b, bool collect, struct reading *r)
{
    assert_int_equal(reading_init(r, f->codec, f->framing, collect), PD_OK);
    pd_err e = reading_feed(r, a);
    if (!e)
        e = reading_feed(r, b);
    if (!e)
        e = answer_finish(r->an, &r->end);
    if (e)
        fail_msg("%s: %s", f->file, pd_err_name(e));
}

static void check_same_when_cut(struct fixture *f, struct span want, size_t at)
{
    struct reading r;
    struct buf got;
    buf_init(&got, 0);
    read_parts(f, span_upto(f->body, at), span_from(f->body, at), false, &r);
    assert_int_equal(reading_put(&r, &got), PD_OK);
    if (!span_eq(want, buf_span(&got)))
        fault(f, arena_printf(f->arena, "cut at byte %zu", at), want, buf_span(&got));
    buf_done(&got);
    reading_done(&r);
}

static void check_same_byte_by_byte(struct fixture *f, struct span want)
{
    struct reading r;
    struct buf got;
    buf_init(&got, 0);
    assert_int_equal(reading_init(&r, f->codec, f->framing, false), PD_OK);
    for (size_t i = 0; i < f->body.n; i++)
        assert_int_equal(reading_feed(&r, span_of(f->body.p + i, 1)), PD_OK);
    assert_int_equal(answer_finish(r.an, &r.end), PD_OK);
    assert_int_equal(reading_put(&r, &got), PD_OK);
    if (!span_eq(want, buf_span(&got)))
        fault(f, "byte by byte", want, buf_span(&got));
    buf_done(&got);
    reading_done(&r);
}

static void check_every_cut(struct fixture *f, struct span want)
{
    size_t n = f->body.n;
    check_same_byte_by_byte(f, want);
    for (size_t at = 1; at < n; at += CUT_EVERY) {
        bool edge = n <= CUT_ALL || at < CUT_EDGE || at >= n - CUT_EDGE;
        if (edge || at % CUT_STEP < CUT_EVERY)
            check_same_when_cut(f, want, at);
    }
}

/* The client gets the source's own bytes, but for what was no SSE. */
static void check_raw(struct fixture *f, const struct reading *r)
{
    struct span raw = buf_span(&r->raw);
    if (f->framing == FRAMING_ARRAY || f->framing == FRAMING_CHUNKS ||
        json_is_true(json_get(f->expected, "error_not_sse_framed")) ||
        json_is_true(json_get(f->expected, "framed_anew")))
        return;
    if (raw.n > f->body.n || memcmp(raw.p, f->body.p, raw.n) != 0 || span_trim(span_from(f->body, raw.n)).n)
        fault(f, "bytes for the client", f->body, raw);
}

/* What is told in other pieces, or sealed anew, each time it is said: seals, log probabilities. */
static void forget_others(struct fixture *f, struct told *t)
{
    for (unsigned i = 0; f->codec == &codec_openai_responses && i < TOLD_CHOICES; i++)
        buf_clear(&t->choices[i].others);
}

static void check_whole_says(struct fixture *f, const char *what, struct span body, struct span want,
                             bool complete)
{
    struct answer_facts facts;
    enum answer_end end;
    struct buf got;
    struct told *told = told_new();
    buf_init(&got, 0);
    assert_int_equal(answer_read_whole(f->codec, body, f->arena, &facts, &end, told_on_delta, told), PD_OK);
    forget_others(f, told);
    assert_int_equal(facts_put(&facts, &got), PD_OK);
    assert_int_equal(told_put(told, &got), PD_OK);
    same(f, what, want, buf_span(&got));
    if (complete)
        same(f, what, SPAN_LIT("complete"), span_str(end_name(end)));
    buf_done(&got);
    told_free(told);
}

/* A call whose arguments were cut at the token limit has no place in a body whose arguments are an object. */
static bool has_cut_arguments(const struct fixture *f)
{
    struct json valid = json_path(f->expected, "tool_calls.0.arguments_valid_json");
    return valid.type == JSON_BOOL && !json_is_true(valid) && f->codec != &codec_openai_chat;
}

/* What is collected from a stream says what the stream said. */
static void check_collected(struct fixture *f, struct reading *r)
{
    if (has_cut_arguments(f))
        return;
    struct buf body, want;
    buf_init(&body, 0);
    buf_init(&want, 0);
    assert_int_equal(collector_write(r->collector, &body), PD_OK);
    same_number(f, "collected is JSON", PD_OK, json_check(buf_span(&body)));
    assert_int_equal(facts_put(answer_facts(r->an), &want), PD_OK);
    assert_int_equal(told_put(r->told, &want), PD_OK);
    check_whole_says(f, "collected", buf_span(&body), buf_span(&want), r->end == ANSWER_COMPLETE);
    buf_done(&body);
    buf_done(&want);
}

/* Whether the format's own end mark came. Where the end of the body is all the proof there is, none is asked for. */
static void check_terminator(struct fixture *f, bool done)
{
    struct span want = expected_text(f, json_get(f->expected, "terminator"));
    if (!span_is(want, "eof"))
        same_number(f, "terminator", want.n > 0, done);
}

static void check_stream(struct fixture *f)
{
    struct reading r;
    struct buf said;
    buf_init(&said, 0);
    read_parts(f, f->body, SPAN_NONE, f->codec->collector != NULL, &r);
    const struct answer_facts *facts = answer_facts(r.an);
    check_said(f, r.told);
    check_facts(f, facts);
    check_end(f, r.end);
    if (f->framing != FRAMING_ARRAY) /* of whose items the collection has no number */
        same_number(f, "events", expected_number(json_get(f->expected, "events"), -1), facts->events);
    same_number(f, "comments", expected_number(json_get(f->expected, "sse_comments"), 0), facts->comments);
    same_number(f, "malformed", expected_number(json_get(f->expected, "malformed"), 0), facts->malformed);
    check_terminator(f, facts->done);
    check_raw(f, &r);
    assert_int_equal(reading_put(&r, &said), PD_OK);
    check_every_cut(f, buf_span(&said));
    forget_others(f, r.told);
    /* Responses says all of it in its last event: without that there is nothing to collect. */
    bool whole = f->codec != &codec_openai_responses || r.end == ANSWER_COMPLETE;
    if (r.collector && whole && facts->has_output && !facts->error)
        check_collected(f, &r);
    buf_done(&said);
    reading_done(&r);
}

/* ---- whole bodies --------------------------------------------------------------------- */

/* A whole answer as a stream says what it said. */
static void check_expanded(struct fixture *f, struct span want)
{
    struct reading r;
    struct buf stream, got;
    buf_init(&stream, 0);
    buf_init(&got, 0);
    assert_int_equal(answer_expand(f->codec, f->body, true, &stream), PD_OK);
    read_parts(f, buf_span(&stream), SPAN_NONE, true, &r);
    assert_int_equal(facts_put(answer_facts(r.an), &got), PD_OK);
    assert_int_equal(told_put(r.told, &got), PD_OK);
    same(f, "expanded", want, buf_span(&got));
    same(f, "expanded", SPAN_LIT("complete"), span_str(end_name(r.end)));
    same_number(f, "expanded ends in [DONE]", 1, answer_facts(r.an)->done);
    check_collected(f, &r);
    buf_done(&stream);
    buf_done(&got);
    reading_done(&r);
}

/* No part of a body passes for a whole one. */
static void check_no_prefix_is_whole(struct fixture *f, const struct codec *c)
{
    size_t least = span_trim(f->body).n;
    for (size_t n = 0; n < least; n++) {
        struct answer_facts facts;
        enum answer_end end;
        assert_int_equal(answer_read_whole(c, span_upto(f->body, n), f->arena, &facts, &end, NULL, NULL), PD_OK);
        if (end == ANSWER_COMPLETE) {
            same_number(f, "complete although cut", (int64_t)f->body.n, (int64_t)n);
            return;
        }
    }
}

static void check_whole_chat(struct fixture *f)
{
    struct answer_facts facts;
    enum answer_end end;
    struct told *told = told_new();
    struct buf said;
    buf_init(&said, 0);
    assert_int_equal(answer_read_whole(f->codec, f->body, f->arena, &facts, &end, told_on_delta, told), PD_OK);
    if (json_is(json_get(f->expected, "outcome"), "error")) {
        same_number(f, "an error is no answer", 1, end != ANSWER_COMPLETE && !facts.has_output);
    } else if (json_get(f->expected, "note").type == JSON_STRING) { /* nothing is said of what is in it */
        check_end(f, end);
    } else {
        check_said(f, told);
        check_facts(f, &facts);
        check_end(f, end);
    }
    check_no_prefix_is_whole(f, f->codec);
    if (f->codec == &codec_openai_chat && json_is(json_get(f->expected, "outcome"), "success")) {
        assert_int_equal(facts_put(&facts, &said), PD_OK);
        assert_int_equal(told_put(told, &said), PD_OK);
        check_expanded(f, buf_span(&said));
    }
    buf_done(&said);
    told_free(told);
}

static void check_values(struct fixture *f, struct json vector)
{
    struct json want = json_get(f->expected, "first_values"), v, item;
    struct json_walk w;
    if (want.type == JSON_STRING) {
        same_number(f, "base64", 1, vector.type == JSON_STRING && json_inner(vector).n > json_inner(want).n);
        same(f, "first values", json_inner(want), span_upto(json_inner(vector), json_inner(want).n));
        return;
    }
    int64_t dimensions = 0;
    json_walk_init(&w, vector);
    while (json_walk_next(&w, NULL, &item)) {
        double a, b;
        v = json_path(want, arena_printf(f->arena, "%lld", (long long)dimensions++));
        if (v.type == JSON_NUMBER && json_f64(v, &a) && json_f64(item, &b))
            same_number(f, "a value", 1, a <= b && a >= b);
    }
    same_number(f, "dimensions", expected_number(json_get(f->expected, "dimensions"), -1), dimensions);
}

static void check_embeddings(struct fixture *f)
{
    struct answer_facts facts;
    enum answer_end end;
    struct json body, item;
    struct json_walk w;
    int64_t count = 0;
    assert_int_equal(answer_read_whole(f->codec, f->body, f->arena, &facts, &end, NULL, NULL), PD_OK);
    if (json_is(json_get(f->expected, "outcome"), "error")) {
        same_number(f, "an error is no answer", 1, end != ANSWER_COMPLETE && !facts.has_output);
        return;
    }
    check_end(f, end);
    same(f, "model", expected_text(f, json_get(f->expected, "model")), facts.model);
    same_number(f, "tokens", expected_number(json_path(f->expected, "usage.prompt_tokens"), -1),
                facts.usage.input_total);
    assert_int_equal(json_first(f->body, &body, NULL), PD_OK);
    bool gemini = f->codec == &codec_gemini_embeddings;
    json_walk_init(&w, json_get(body, gemini ? "embeddings" : "data"));
    while (json_walk_next(&w, NULL, &item))
        if (count++ == 0)
            check_values(f, json_get(item, gemini ? "values" : "embedding"));
    same_number(f, "count", expected_number(json_get(f->expected, "count"), -1), count);
}

struct listing {
    struct fixture *f;
    int64_t count;
};

static pd_err on_model(void *ctx, struct span id)
{
    struct listing *l = ctx;
    struct json want =
        json_path(l->f->expected, arena_printf(l->f->arena, "first_ids.%lld", (long long)l->count++));
    if (want.type == JSON_STRING)
        same(l->f, "a model's id", expected_text(l->f, want), id);
    return PD_OK;
}

static void check_models(struct fixture *f)
{
    struct listing l = {.f = f};
    pd_err e = models_read(f->body, on_model, &l);
    if (json_is(json_get(f->expected, "outcome"), "error")) {
        same_number(f, "an error is no list", PD_INVALID, e);
        return;
    }
    same_number(f, "read", PD_OK, e);
    same_number(f, "count", expected_number(json_get(f->expected, "count"), -1), l.count);
}

/* ---- the collections ------------------------------------------------------------------- */

struct visits {
    unsigned count, faults;
};

static void check_one(void *ctx, struct fixture *f)
{
    struct visits *v = ctx;
    if (!f->codec)
        check_models(f);
    else if (f->codec->kind == CODEC_EMBED)
        check_embeddings(f);
    else if (f->streaming)
        check_stream(f);
    else
        check_whole_chat(f);
    v->count++;
    v->faults += f->faults;
}

static void our_fixtures_read_as_written(void **state)
{
    (void)state;
    struct visits v = {0};
    assert_int_equal(fixtures_each(FIXTURES_OURS, check_one, &v), PD_OK);
    assert_true(v.count >= 20);
    assert_int_equal(v.faults, 0);
}

static void recorded_fixtures_read_as_expected(void **state)
{
    (void)state;
    struct visits v = {0};
    const char *folder = fixtures_recorded();
    if (!folder && fixtures_required())
        fail_msg("there is no collection of recorded answers: set PERDURE_FIXTURES");
    if (!folder)
        skip();
    assert_int_equal(fixtures_each(folder, check_one, &v), PD_OK);
    print_message("%u recorded fixtures\n", v.count);
    assert_true(v.count > 0);
    assert_int_equal(v.faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_fixtures_read_as_written),
        cmocka_unit_test(recorded_fixtures_read_as_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
