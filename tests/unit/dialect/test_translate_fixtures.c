/* Every recorded answer in every other format: what its reader told is encoded, and the other format's reader says the same of the bytes.
 *
 * An answer goes streamed and whole, whichever way it came: a client may want the other. What the formats cannot both say is
 * in `formats` and nowhere else. */
#include "dialect/encoder_priv.h"
#include "fixture.h"
#include "told.h"

#include <string.h>

/* Where a call's arguments may be no JSON object (cut at the limit). Where they may not they are in {"input": "..."}. */
enum free_arguments { FREE_NOWHERE, FREE_IN_STREAMS, FREE_EVERYWHERE };

/* A format to translate into. */
static const struct format {
    const struct codec *codec;
    enum framing framing;
    enum free_arguments free_arguments;
    bool refusal;      /* has a place for a refusal's words; else they are text */
    bool refuses;      /* has a finish that says so, also where the other says "stop" */
    bool cache_read;   /* reports tokens that came from a cache */
    bool input_beside; /* and counts input without them: no total can be less */
    bool narrow_ids;   /* a call's id has letters, digits, '_' and '-' only */
    /* What finishes become; those that are missing stay. */
    struct {
        enum msg_finish from, to;
    } finishes[2];
} formats[] = {
    {.codec = &codec_openai_chat,
     .framing = FRAMING_LINES,
     .free_arguments = FREE_EVERYWHERE,
     .refusal = true,
     .cache_read = true},
    {.codec = &codec_openai_responses,
     .framing = FRAMING_LINES,
     .free_arguments = FREE_EVERYWHERE,
     .refusal = true,
     .cache_read = true},
    {.codec = &codec_anthropic,
     .framing = FRAMING_LINES,
     .free_arguments = FREE_IN_STREAMS,
     .refuses = true,
     .cache_read = true,
     .input_beside = true,
     .narrow_ids = true,
     .finishes = {{MSG_FINISH_CONTENT_FILTER, MSG_FINISH_REFUSAL}}},
    {.codec = &codec_gemini, .framing = FRAMING_LINES, .cache_read = true},
    {.codec = &codec_bedrock_converse,
     .framing = FRAMING_EVENTSTREAM,
     .free_arguments = FREE_IN_STREAMS,
     .cache_read = true,
     .input_beside = true},
    {.codec = &codec_ollama,
     .framing = FRAMING_LINES,
     .finishes = {{MSG_FINISH_CONTENT_FILTER, MSG_FINISH_STOP}, {MSG_FINISH_REFUSAL, MSG_FINISH_STOP}}},
};
enum { FORMATS = sizeof(formats) / sizeof(formats[0]) };

/* ---- what an answer says ---------------------------------------------------------------- */

static void put(struct buf *out, struct span s)
{
    assert_int_equal(buf_add(out, s), PD_OK);
}

static void put_named(struct buf *out, const char *name, struct span s)
{
    assert_int_equal(buf_printf(out, " %s(", name), PD_OK);
    put(out, s);
    put(out, SPAN_LIT(")"));
}

static struct span plain(struct fixture *f, const struct buf *escaped)
{
    struct span text = SPAN_NONE;
    assert_true(fixture_plain(f, buf_span(escaped), &text));
    return text;
}

static bool is_object(struct span json)
{
    struct span s = span_trim(json);
    return s.n && s.p[0] == '{' && json_check(s) == PD_OK;
}

/* Arguments as JSON; what is none as the format has it. */
static struct span arguments(struct fixture *f, const struct format *to, const struct told_tool *tool,
                             bool streamed)
{
    struct span text = plain(f, &tool->arguments);
    if (span_trim(text).n == 0)
        return SPAN_LIT("{}");
    if (is_object(text))
        return fixture_compact(f, text);
    if (to->free_arguments >= (streamed ? FREE_IN_STREAMS : FREE_EVERYWHERE))
        return text;
    char *made = arena_printf(f->arena, "{\"input\":\"%.*s\"}", SPAN_FMT(buf_span(&tool->arguments)));
    assert_non_null(made);
    return span_str(made);
}

static struct span id_of(struct fixture *f, const struct format *to, const struct told_tool *tool)
{
    struct span id = plain(f, &tool->id);
    if (!to->narrow_ids || !id.n)
        return id;
    char *made = arena_strndup(f->arena, id.p, id.n);
    assert_non_null(made);
    for (size_t i = 0; i < id.n; i++)
        if (!strchr("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", made[i]))
            made[i] = '_';
    return span_of(made, id.n);
}

static long long count(int64_t n)
{
    return n > 0 ? (long long)n : 0; /* what is not reported is 0 in formats that must have a number */
}

struct heard {
    struct told *told;
    struct answer_facts facts;
    enum answer_end end;
};

static enum msg_finish finish_in(const struct format *to, const struct heard *h)
{
    const struct told_choice *c = &h->told->choices[0];
    enum msg_finish f = h->facts.finish;
    if (f == MSG_FINISH_NONE) /* a server of old that tells none */
        return c->tool_count ? MSG_FINISH_TOOL_CALLS : MSG_FINISH_STOP;
    if (to->refuses && buf_size(&c->refusal))
        return MSG_FINISH_REFUSAL;
    for (size_t i = 0; i < sizeof(to->finishes) / sizeof(to->finishes[0]); i++)
        if (to->finishes[i].from && f == to->finishes[i].from)
            return to->finishes[i].to;
    return f;
}

static void put_usage(const struct format *to, const struct msg_usage *u, struct buf *out)
{
    long long input = count(u->input_total), cached = to->cache_read ? count(u->cache_read) : 0;
    if (to->input_beside && input < cached)
        input = cached;
    assert_int_equal(buf_printf(out, " usage(%lld %lld %lld)", input, cached, count(u->output_total)), PD_OK);
}

/* One line of all that must be the same. `ids_of`: ids are compared where this one has them. */
static void put_heard(struct fixture *f, const struct format *to, const struct heard *h, const struct told *ids_of,
                      bool streamed, struct buf *out)
{
    assert_int_equal(h->told->err, PD_OK);
    /* An answer that says nothing is whole in formats that tell why. */
    enum answer_end end = h->end == ANSWER_EMPTY && !h->facts.has_output ? ANSWER_COMPLETE : h->end;
    assert_int_equal(buf_printf(out, "%s finish(%s)", end_name(end), msg_finish_name(finish_in(to, h))), PD_OK);
    put_usage(to, &h->facts.usage, out);
    for (int k = 0; k < (to->codec->encoder->choices ? TOLD_CHOICES : 1); k++) {
        const struct told_choice *c = &h->told->choices[k];
        put(out, SPAN_LIT(" text("));
        put(out, plain(f, &c->text));
        if (!to->refusal)
            put(out, plain(f, &c->refusal));
        put(out, SPAN_LIT(")"));
        put_named(out, "reasoning", plain(f, &c->reasoning));
        put_named(out, "refusal", to->refusal ? plain(f, &c->refusal) : SPAN_NONE);
        for (unsigned i = 0; i < c->tool_count; i++) {
            const struct told_choice *ids = &ids_of->choices[k];
            bool has_id = i < ids->tool_count && buf_size(&ids->tools[i].id);
            put_named(out, "tool", plain(f, &c->tools[i].name));
            put_named(out, "id", has_id ? id_of(f, to, &c->tools[i]) : SPAN_NONE);
            put_named(out, "arguments", arguments(f, to, &c->tools[i], streamed));
        }
    }
}

/* ---- reading ------------------------------------------------------------------------------- */

static pd_err on_event(void *ctx, const struct answer_event *ev)
{
    (void)ctx;
    (void)ev;
    return PD_OK;
}

/* `parts`: how many the bytes of a stream come in. Facts live in `a`. */
static void read_answer(const struct codec *c, enum framing framing, bool streamed, struct span bytes,
                        size_t parts, struct arena *a, struct heard *h)
{
    h->told = told_new();
    if (!streamed) {
        assert_int_equal(answer_read_whole(c, bytes, a, &h->facts, &h->end, told_on_delta, h->told), PD_OK);
        return;
    }
    struct answer *an = answer_new(c, framing, on_event, NULL);
    assert_non_null(an);
    answer_on_delta(an, told_on_delta, h->told);
    for (size_t i = 0; i < parts; i++) {
        size_t from = bytes.n * i / parts, to = bytes.n * (i + 1) / parts;
        assert_int_equal(answer_feed(an, span_of(bytes.p + from, to - from)), PD_OK);
    }
    assert_int_equal(answer_finish(an, &h->end), PD_OK);
    h->facts = *answer_facts(an);
    h->facts.id = h->facts.model = h->facts.usage_raw = h->facts.finish_raw = h->facts.stop_sequence = SPAN_NONE;
    answer_free(an);
}

/* ---- there and back ---------------------------------------------------------------------------- */

/* Encoded, split at a few places, and read back, it says `want`. */
static void check_format(struct fixture *f, const struct format *to, bool streamed, const struct heard *source)
{
    static const size_t splits[] = {1, 2, 7, 61};
    struct buf bytes, want, got;
    enum answer_end end;
    buf_init(&bytes, 0);
    buf_init(&want, 0);
    buf_init(&got, 0);
    assert_int_equal(fixture_encode(f, to->codec, streamed, &bytes, &end), PD_OK);
    assert_int_equal(end, ANSWER_COMPLETE);
    if (!streamed)
        assert_int_equal(json_check(buf_span(&bytes)), PD_OK);
    put_heard(f, to, source, source->told, streamed, &want);
    for (size_t i = 0; i < (streamed ? sizeof(splits) / sizeof(splits[0]) : 1); i++) {
        struct heard h;
        read_answer(to->codec, to->framing, streamed, buf_span(&bytes), splits[i], f->arena, &h);
        buf_clear(&got);
        put_heard(f, to, &h, source->told, streamed, &got);
        bool same = span_eq(buf_span(&want), buf_span(&got));
        if (!same) {
            f->faults++;
            fprintf(stderr, "%s as %s, %s, in %zu parts:\n  expected %.*s\n  got      %.*s\n", f->file,
                    to->codec->name, streamed ? "streamed" : "whole", splits[i], SPAN_FMT(buf_span(&want)),
                    SPAN_FMT(buf_span(&got)));
        }
        told_free(h.told);
        if (!same)
            break;
    }
    buf_done(&bytes);
    buf_done(&want);
    buf_done(&got);
}

struct visits {
    unsigned answers, faults;
};

static void check_one(void *ctx, struct fixture *f)
{
    struct visits *v = ctx;
    struct heard source;
    if (!f->codec || f->codec->kind != CODEC_CHAT)
        return;
    read_answer(f->codec, f->framing, f->streaming, f->body, 1, f->arena, &source);
    if (source.end == ANSWER_COMPLETE) {
        for (size_t i = 0; i < FORMATS; i++) {
            check_format(f, &formats[i], true, &source);
            check_format(f, &formats[i], false, &source);
        }
        v->answers++;
        v->faults += f->faults;
    }
    told_free(source.told);
}

static void our_fixtures_say_the_same_in_every_format(void **state)
{
    (void)state;
    struct visits v = {0};
    assert_int_equal(fixtures_each(FIXTURES_OURS, check_one, &v), PD_OK);
    assert_true(v.answers >= 20);
    assert_int_equal(v.faults, 0);
}

static void recorded_fixtures_say_the_same_in_every_format(void **state)
{
    (void)state;
    struct visits v = {0};
    const char *folder = fixtures_recorded();
    if (!folder && fixtures_required())
        fail_msg("there is no collection of recorded answers: set PERDURE_FIXTURES");
    if (!folder)
        skip();
    assert_int_equal(fixtures_each(folder, check_one, &v), PD_OK);
    print_message("%u recorded answers, each in %d formats, streamed and whole\n", v.answers, FORMATS);
    assert_true(v.answers > 0);
    assert_int_equal(v.faults, 0);
}

/* A format that answers are translated into and that is not in the table would not be tested. */
static void every_format_with_an_encoder_is_in_the_table(void **state)
{
    static const char *const names[] = {"openai-chat", "openai-responses", "anthropic-messages",
                                        "gemini",      "bedrock-converse", "bedrock-invoke",
                                        "ollama"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct codec *c = codec_by_name(span_str(names[i]));
        bool found = false;
        assert_non_null(c);
        for (size_t k = 0; k < FORMATS; k++)
            found |= formats[k].codec == c;
        assert_int_equal(found, c->encoder != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_with_an_encoder_is_in_the_table),
        cmocka_unit_test(our_fixtures_say_the_same_in_every_format),
        cmocka_unit_test(recorded_fixtures_say_the_same_in_every_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
