/* Varied answers: anybody can check them, and a model that is asked to go on does so, in every manner. */
#include "simulate/answer.h"
#include "simulate/varied.h"
#include "test.h"
#include "torture.h"

#include "parse/utf8.h"

#include <stdio.h>
#include <stdlib.h>

enum { ITEMS = 23 };

static void make(struct buf *out, struct span so_far, uint64_t seed)
{
    struct rnd rnd = {seed};
    buf_init(out, 0);
    struct put put = put_into(out);
    assert_int_equal(varied_go_on(&put, so_far, ITEMS, &rnd), PD_OK);
}

static void a_text_differs_with_its_seed_and_is_whole(void **state)
{
    (void)state;
    struct buf a, b;
    make(&a, SPAN_NONE, 1);
    make(&b, SPAN_NONE, 2);
    assert_true(varied_whole(buf_span(&a), ITEMS));
    assert_true(varied_whole(buf_span(&b), ITEMS));
    assert_false(span_eq(buf_span(&a), buf_span(&b)));
    assert_true(utf8_valid(buf_span(&a)));
    buf_done(&a);
    buf_done(&b);
}

static void one_byte_lost_doubled_or_changed_is_seen(void **state)
{
    (void)state;
    struct buf a;
    make(&a, SPAN_NONE, 3);
    struct span text = buf_span(&a);
    char *copy = malloc(text.n + 1);
    assert_non_null(copy);
    for (size_t i = 0; i < text.n; i++) {
        memcpy(copy, text.p, i);
        memcpy(copy + i, text.p + i + 1, text.n - i - 1);
        assert_false(varied_whole(span_of(copy, text.n - 1), ITEMS));
        memcpy(copy, text.p, i + 1);
        memcpy(copy + i + 1, text.p + i, text.n - i);
        assert_false(varied_whole(span_of(copy, text.n + 1), ITEMS));
        memcpy(copy, text.p, text.n);
        copy[i] ^= 1;
        assert_false(varied_whole(span_of(copy, text.n), ITEMS));
    }
    free(copy);
    buf_done(&a);
}

/* Behind a cut between two like words nobody can tell an echo from the text going on. */
static void no_word_stands_twice_in_an_item(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct buf a;
        make(&a, SPAN_NONE, seed);
        const char *words[8];
        size_t lengths[8];
        unsigned count = 0, at = 0;
        struct span text = buf_span(&a);
        for (size_t i = 0; i <= text.n; i++) {
            if (i < text.n && text.p[i] != ' ')
                continue;
            struct span w = span_of(text.p + at, i - at);
            at = (unsigned)i + 1;
            if (span_has(w, "#") || span_has(w, "]")) {
                count = 0;
                continue;
            }
            for (unsigned k = 0; k < count; k++)
                assert_false(span_eq(w, span_of(words[k], lengths[k])));
            assert_true(count < 8);
            words[count] = w.p;
            lengths[count++] = w.n;
        }
        buf_done(&a);
    }
}

/* From every place between two characters, also when the blanks before it are gone. */
static void from_everywhere(struct span text)
{
    for (size_t i = 0; i <= text.n; i++) {
        struct buf rest, all;
        if (utf8_whole(span_upto(text, i)) != i)
            continue;
        make(&rest, span_upto(text, i), 5000 + i);
        buf_init(&all, 0);
        assert_int_equal(buf_add(&all, span_upto(text, i)), PD_OK);
        assert_int_equal(buf_add(&all, buf_span(&rest)), PD_OK);
        if (!varied_whole(buf_span(&all), ITEMS))
            fail_msg("cut at %zu: %.*s", i, SPAN_FMT(span_from(buf_span(&all), i > 60 ? i - 60 : 0)));
        size_t n = i;
        while (n && memchr(" \t\n", text.p[n - 1], 3))
            n--;
        buf_done(&rest);
        make(&rest, span_upto(text, n), 5000 + i); /* what was trimmed comes again */
        struct span again = buf_span(&rest), gone = span_of(text.p + n, i - n);
        if (again.n < gone.n || (gone.n && memcmp(again.p, gone.p, gone.n) != 0))
            fail_msg("trimmed at %zu: %.*s", i, SPAN_FMT(span_from(span_upto(text, i), i > 60 ? i - 60 : 0)));
        buf_done(&rest);
        buf_done(&all);
    }
}

static void whatever_was_said_so_far_is_gone_on_with(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 16; seed++) { /* together they have every word */
        struct buf a;
        make(&a, SPAN_NONE, seed);
        from_everywhere(buf_span(&a));
        buf_done(&a);
    }
}

static const struct {
    const char *name, *so_far;
    pd_err err;
} beginnings[] = {
    {"nothing", "", PD_OK},
    {"all words, and the blank behind them", "[1] a a a a ", PD_OK},
    {"the checksum's beginning", "[1] a a a a #952", PD_OK},
    {"a word too many", "[1] a a a a a", PD_SYNTAX},
    {"another number", "[2] a", PD_SYNTAX},
    {"something before it", "x[1] a", PD_SYNTAX},
    {"a wrong checksum", "[1] a a a a #0000", PD_SYNTAX},
    {"a checksum of other words", "[1] a a a a #00000000; [2] a", PD_SYNTAX},
    {"a word too few under its own checksum", "[1] a a a #f8aad964; [2] a", PD_SYNTAX},
    {"the item that follows is another", "[1] a a a a #95261d97; [3] a", PD_SYNTAX},
};

static void a_damaged_beginning_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        struct rnd rnd = {1};
        struct buf out;
        buf_init(&out, 0);
        struct put put = put_into(&out);
        pd_err err = varied_go_on(&put, span_str(beginnings[i].so_far), ITEMS, &rnd);
        if (err != beginnings[i].err)
            fail_msg("%s: %s", beginnings[i].name, pd_err_text(err));
        buf_done(&out);
    }
    struct buf a, out; /* more than all of it */
    struct rnd rnd = {1};
    make(&a, SPAN_NONE, 6);
    buf_init(&out, 0);
    struct put put = put_into(&out);
    assert_int_equal(varied_go_on(&put, buf_span(&a), ITEMS, &rnd), PD_OK);
    assert_int_equal(buf_size(&out), 0);
    assert_int_equal(buf_add(&a, SPAN_LIT(" ")), PD_OK);
    assert_int_equal(varied_go_on(&put, buf_span(&a), ITEMS, &rnd), PD_SYNTAX);
    buf_done(&a);
    buf_done(&out);
    assert_false(varied_whole(SPAN_LIT("[1] a a a #f8aad964;"), 1));
}

static pd_err make_all(void *ctx)
{
    struct rnd rnd = {7};
    struct buf out;
    (void)ctx;
    buf_init(&out, 0);
    struct put put = put_into(&out);
    pd_err err = varied_go_on(&put, SPAN_NONE, 200, &rnd);
    buf_done(&out);
    return err;
}

static void it_runs_out_of_memory_cleanly(void **state)
{
    (void)state;
    assert_true(torture(make_all, NULL) > 0);
}

/* ---- asked to go on --------------------------------------------------------------- */

struct talk {
    struct script *script;
    struct arena mem;
    struct ask rq;
    struct answer answer;
    struct refusal why;
    pd_err err;
};

static void ask_at(struct talk *t, const char *path, const char *keys, struct span body, uint64_t seed)
{
    char why[READ_WHY] = "", script[400];
    struct endpoint at = endpoint_find(span_str(path), SPAN_NONE, (struct endpoint_headers){0});
    snprintf(script, sizeof(script), "{\"providers\":{\"a\":{\"varied\":true,\"items\":%d%s}}}", ITEMS, keys);
    t->script = script_new();
    arena_init(&t->mem, 0, 0);
    assert_non_null(t->script);
    if (script_read(t->script, span_str(script), "t", why) != PD_OK)
        fail_msg("%s", why);
    struct reading r = {.conf = &t->script->providers[0],
                        .body = body,
                        .versioned = true,
                        .mem = &t->mem,
                        .ask = &t->rq,
                        .why = &t->why};
    t->err = ask_read(&r, &at);
    if (t->err == PD_OK)
        assert_int_equal(answer_make(&t->script->providers[0], seed, &t->rq, &t->mem, &t->answer), PD_OK);
}

static void done(struct talk *t)
{
    arena_done(&t->mem);
    script_free(t->script);
}

static const char *const paths[] = {
    "/v1/chat/completions", "/beta/chat/completions",           "/v1/messages",
    "/v1/responses",        "/v1beta/models/g:generateContent", "/model/anthropic.claude-sonnet-4-5/converse"};

/* A conversation of one question, the answer so far, and a turn of the user (NULL: none). */
static void put_body(struct put *out, const char *path, struct span so_far, const char *more, struct span turn,
                     const char *members)
{
    bool gemini = strstr(path, "generateContent") != NULL, converse = strstr(path, "converse") != NULL;
    bool responses = strstr(path, "responses") != NULL;
    const char *before = gemini ? "\"parts\":[{\"text\":" : converse ? "\"content\":[{\"text\":" : "\"content\":";
    const char *after = gemini || converse ? "}]" : "";
    put_printf(out, "{%s%s\"%s\":[{\"role\":\"user\",%s\"hi\"%s}",
               converse ? "" : "\"model\":\"claude-sonnet-4-5\",", members,
               gemini      ? "contents"
               : responses ? "input"
                           : "messages",
               before, after);
    if (so_far.p) {
        put_printf(out, ",{\"role\":\"%s\"%s,%s", gemini ? "model" : "assistant", more, before);
        put_json(out, so_far);
        put_printf(out, "%s}", after);
    }
    if (turn.p) {
        put_printf(out, ",{\"role\":\"user\",%s", before);
        put_json(out, turn);
        put_printf(out, "%s}", after);
    }
    put_text(out, "]}");
}

enum comes { RESTS, ECHOES_ALL, ECHOES_WORDS, AFRESH, REFUSED, ANCHORED, CHATTED };

static const struct {
    const char *name, *path, *keys, *more, *members;
    enum comes comes;
} prefills[] = {
    {"OpenAI answers afresh", "/v1/chat/completions", "", "", "", AFRESH},
    {"OpenRouter goes on", "/v1/chat/completions", ",\"style\":\"openrouter\"", "", "", RESTS},
    {"llama.cpp goes on", "/v1/chat/completions", ",\"style\":\"llamacpp\"", "", "", RESTS},
    {"vLLM answers afresh", "/v1/chat/completions", ",\"style\":\"vllm\"", "", "", AFRESH},
    {"vLLM goes on when it is asked to", "/v1/chat/completions", ",\"style\":\"vllm\"", "",
     "\"continue_final_message\":true,\"add_generation_prompt\":false,", RESTS},
    {"vLLM cannot do both", "/v1/chat/completions", ",\"style\":\"vllm\"", "", "\"continue_final_message\":true,",
     REFUSED},
    {"Mistral refuses an unmarked one", "/v1/chat/completions", ",\"style\":\"mistral\"", "", "", REFUSED},
    {"Mistral goes on with a marked one", "/v1/chat/completions", ",\"style\":\"mistral\"", ",\"prefix\":true", "",
     RESTS},
    {"DeepSeek answers an unmarked one afresh", "/beta/chat/completions", ",\"style\":\"deepseek\"", "", "",
     AFRESH},
    {"DeepSeek goes on under /beta", "/beta/chat/completions", ",\"style\":\"deepseek\"", ",\"prefix\":true", "",
     RESTS},
    {"and nowhere else", "/v1/chat/completions", ",\"style\":\"deepseek\"", ",\"prefix\":true", "", REFUSED},
    {"Claude goes on", "/v1/messages", "", "", "\"max_tokens\":9000,", RESTS},
    {"Claude on Bedrock goes on", "/model/anthropic.claude-sonnet-4-5/converse", "", "", "", RESTS},
    {"Responses answers afresh", "/v1/responses", "", "", "", AFRESH},
    {"Gemini answers afresh", "/v1beta/models/g:generateContent", "", "", "", AFRESH},
    {"an echo of all", "/v1/messages", ",\"prefill\":\"echo_all\"", "", "\"max_tokens\":9000,", ECHOES_ALL},
    {"an echo of words", "/v1/messages", ",\"prefill\":\"echo_words\"", "", "\"max_tokens\":9000,", ECHOES_WORDS},
    {"a refusal", "/v1/messages", ",\"prefill\":\"refuse\"", "", "\"max_tokens\":9000,", REFUSED},
    {"a refusal of Gemini's", "/v1beta/models/g:generateContent", ",\"prefill\":\"refuse\"", "", "", REFUSED},
    {"one that is not seen", "/v1/messages", ",\"prefill\":\"ignore\"", "", "\"max_tokens\":9000,", AFRESH},
    {"OpenAI's copy that goes on", "/v1/chat/completions", ",\"prefill\":\"honour\"", "", "", RESTS},
};

/* `head` and the answer are a whole text. */
static bool completes(struct span head, struct span text)
{
    struct buf all;
    buf_init(&all, 0);
    assert_int_equal(buf_add(&all, head), PD_OK);
    if (text.n)
        assert_int_equal(buf_add(&all, text), PD_OK);
    bool whole = varied_whole(buf_span(&all), ITEMS);
    buf_done(&all);
    return whole;
}

static void check(const char *name, const struct talk *t, struct span so_far, enum comes comes)
{
    static const char chat[] = "Sure, here it goes on:\n\n";
    struct span text = t->err == PD_OK ? t->answer.texts[0] : SPAN_NONE;
    bool fine = (t->err == PD_OK) == (comes != REFUSED);
    const char *at;
    if (t->err == PD_OK)
        fine = t->answer.continues == (comes != AFRESH) && !t->answer.strayed;
    switch (comes) {
    case RESTS:
        fine = fine && completes(so_far, text);
        break;
    case ECHOES_ALL:
        fine = fine && text.n > so_far.n && memcmp(text.p, so_far.p, so_far.n) == 0 && varied_whole(text, ITEMS);
        break;
    case ECHOES_WORDS:
    case ANCHORED:
    case CHATTED:
        if (fine && comes == CHATTED) {
            fine = span_starts(text, chat);
            text = span_from(text, sizeof(chat) - 1);
        }
        at = NULL;
        for (size_t i = 0; fine && text.n > 12 && i + 12 <= so_far.n; i++) /* the last place of these words */
            at = memcmp(so_far.p + i, text.p, 12) == 0 ? so_far.p + i : at;
        fine = at && completes(span_of(so_far.p, (size_t)(at - so_far.p)), text);
        break;
    case AFRESH:
        fine = fine && varied_whole(text, ITEMS);
        break;
    case REFUSED:
        fine = fine && t->why.message.n > 0;
        break;
    }
    if (!fine)
        fail_msg("%s: after \"%.*s\": %s \"%.*s\"", name,
                 SPAN_FMT(span_from(so_far, so_far.n > 40 ? so_far.n - 40 : 0)), pd_err_text(t->err),
                 SPAN_FMT(span_upto(text, 120)));
}

static void a_prefill_is_taken_as_the_real_server_takes_it(void **state)
{
    (void)state;
    struct buf a;
    make(&a, SPAN_NONE, 8);
    struct span so_far = span_upto(buf_span(&a), buf_size(&a) / 2);
    so_far.n = utf8_whole(so_far);
    while (memchr(" \t\n", so_far.p[so_far.n - 1], 3))
        so_far.n--;
    for (size_t i = 0; i < sizeof(prefills) / sizeof(prefills[0]); i++) {
        struct talk t;
        struct buf body;
        buf_init(&body, 0);
        struct put out = put_into(&body);
        put_body(&out, prefills[i].path, so_far, prefills[i].more, SPAN_NONE, prefills[i].members);
        ask_at(&t, prefills[i].path, prefills[i].keys, buf_span(&body), 100 + i);
        check(prefills[i].name, &t, so_far, prefills[i].comes);
        done(&t);
        buf_done(&body);
    }
    buf_done(&a);
}

static const struct {
    const char *keys;
    enum comes comes;
} goings_on[] = {
    {"", ANCHORED},
    {",\"continue\":\"anchor\"", ANCHORED},
    {",\"continue\":\"plain\"", RESTS},
    {",\"continue\":\"chatty\"", CHATTED},
    {",\"continue\":\"afresh\"", AFRESH},
};

static void a_turn_that_quotes_the_end_is_gone_on_with_in_every_dialect(void **state)
{
    (void)state;
    struct buf a;
    make(&a, SPAN_NONE, 9);
    for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++)
        for (size_t i = 0; i < sizeof(goings_on) / sizeof(goings_on[0]); i++)
            for (size_t n = 40; n < buf_size(&a); n += 97) {
                struct span so_far = span_upto(buf_span(&a), n);
                struct talk t;
                struct buf body, turn;
                so_far.n = utf8_whole(so_far);
                while (n % 2 &&
                       so_far.p[so_far.n - 1] != ' ') /* every second ends with a blank, which is not quoted */
                    so_far.n--;
                buf_init(&body, 0);
                buf_init(&turn, 0);
                struct put out = put_into(&turn);
                put_text(&out, "Your answer broke off. Repeat exactly <<");
                struct span anchor = span_from(so_far, so_far.n - 25);
                while (utf8_next(anchor) == 0) /* from a letter on */
                    anchor = span_from(anchor, 1);
                put_span(&out, n % 2 ? span_upto(anchor, anchor.n - 1) : anchor);
                put_text(&out, ">> and go on.");
                out = put_into(&body);
                put_body(&out, paths[p], so_far, "", buf_span(&turn),
                         strstr(paths[p], "converse") ? "" : "\"max_tokens\":9000,");
                ask_at(&t, paths[p], goings_on[i].keys, buf_span(&body), 300 + i);
                check(paths[p], &t, so_far, goings_on[i].comes);
                done(&t);
                buf_done(&body);
                buf_done(&turn);
            }
    buf_done(&a);
}

static void a_damaged_text_is_counted_as_one(void **state)
{
    (void)state;
    struct talk t;
    struct buf body;
    buf_init(&body, 0);
    struct put out = put_into(&body);
    put_body(&out, "/v1/messages", SPAN_LIT("[1] amber [3] falcon"), "", SPAN_NONE, "\"max_tokens\":9000,");
    ask_at(&t, "/v1/messages", "", buf_span(&body), 1);
    assert_int_equal(t.err, PD_OK);
    assert_false(t.answer.strayed); /* two words of an item of four: it may be */
    done(&t);
    buf_clear(&body);
    out = put_into(&body);
    put_body(&out, "/v1/messages", SPAN_LIT("[2] amber"), "", SPAN_NONE, "\"max_tokens\":9000,");
    ask_at(&t, "/v1/messages", "", buf_span(&body), 1);
    assert_int_equal(t.err, PD_OK);
    assert_true(t.answer.strayed && !t.answer.continues);
    assert_true(varied_whole(t.answer.texts[0], ITEMS));
    done(&t);
    buf_done(&body);
}

#define SEARCH                                                                                               \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"note\",\"parameters\":{\"type\":\"object\"," \
    "\"properties\":{\"line\":{\"type\":\"string\"}},\"required\":[\"line\"]}}}]"

static void arguments_are_checkable_and_a_text_may_go_before_them(void **state)
{
    (void)state;
    struct talk t;
    struct json line;
    struct span text;
    ask_at(
        &t, "/v1/chat/completions", ",\"preface\":true,\"parallel\":2",
        SPAN_LIT("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi [[sim items=3]]\"}]," SEARCH
                 "}"),
        1);
    assert_int_equal(t.err, PD_OK);
    assert_int_equal(t.answer.calls_count, 2);
    assert_true(varied_whole(t.answer.texts[0], 3));
    assert_string_equal(t.answer.finish, "tool_calls");
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(json_check(t.answer.calls[i].arguments), PD_OK);
        assert_int_equal(json_first(t.answer.calls[i].arguments, &line, NULL), PD_OK);
        assert_int_equal(json_text(json_get(line, "line"), &t.mem, &text), PD_OK);
        assert_true(varied_line_whole(text));
    }
    assert_false(span_eq(t.answer.calls[0].arguments, t.answer.calls[1].arguments));
    done(&t);
}

/* Words that are the same everywhere can be gone on with too; a question that quotes something is a question. */
static void an_answer_of_the_seed_is_gone_on_with(void **state)
{
    (void)state;
    struct talk t, again;
    char body[2000];
    const char *same = ",\"varied\":false";
    ask_at(&t, "/v1/chat/completions", same,
           SPAN_LIT("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"), 1);
    struct span whole = t.answer.texts[0], so_far = span_upto(whole, whole.n / 2);
    struct span end = span_from(so_far, so_far.n - 20);
    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\","
             "\"content\":\""
             "%.*s\"},{\"role\":\"user\",\"content\":\"Go on after: %.*s\"}]}",
             SPAN_FMT(so_far), SPAN_FMT(end));
    ask_at(&again, "/v1/chat/completions", same, span_str(body), 1);
    assert_true(again.answer.continues);
    assert_true(span_eq(again.answer.texts[0], span_from(whole, so_far.n - 20)));
    done(&again);
    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\","
             "\"content\":\""
             "something else entirely\"},{\"role\":\"user\",\"content\":\"What is something else entirely? [[sim "
             "tokens=3]]\"}]}");
    ask_at(&again, "/v1/chat/completions", same, span_str(body), 1);
    assert_false(again.answer.continues);
    assert_int_equal(again.answer.completion_tokens, 3);
    done(&again);
    done(&t);
}

/* A turn of a script is gone on with at any place of its text, and its calls come behind that; never another step's. */
static void a_scripted_turn_is_gone_on_with_up_to_its_calls(void **state)
{
    (void)state;
    const char *keys =
        ",\"varied\":false,\"turns\":[{\"text\":\"First I look around.\",\"tool_calls\":[{\"name\":\"note\","
        "\"arguments\":{\"line\":\"a\"}}]},{\"text\":\"Another step.\"}]";
    struct span whole = SPAN_LIT("First I look around.");
    for (unsigned asked = 0; asked < 2; asked++) {
        for (size_t n = 1; n <= whole.n; n++) {
            struct span so_far = span_upto(whole, n);
            char body[2000], turn[200] = "";
            struct talk t;
            if (so_far.p[n - 1] == ' ')
                continue;
            if (asked)
                snprintf(turn, sizeof(turn), ",{\"role\":\"user\",\"content\":\"Go on after: %.*s\"}",
                         SPAN_FMT(so_far));
            snprintf(body, sizeof(body),
                     "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":99,\"messages\":[{\"role\":\"user\","
                     "\"content\":\"hi\"},"
                     "{\"role\":\"assistant\",\"content\":\"%.*s\"}%s],\"tools\":[{\"name\":\"note\",\"input_"
                     "schema\":{\"type\":"
                     "\"object\"}}]}",
                     SPAN_FMT(so_far), turn);
            ask_at(&t, "/v1/messages", keys, span_str(body), 1);
            assert_int_equal(t.err, PD_OK);
            assert_true(t.answer.continues && !t.answer.strayed);
            assert_true(span_eq(t.answer.texts[0], asked ? whole : span_from(whole, n)));
            assert_int_equal(t.answer.calls_count, 1);
            assert_string_equal(t.answer.finish, "tool_calls");
            done(&t);
        }
    }
    struct talk t;
    ask_at(&t, "/v1/messages", keys,
           SPAN_LIT("{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":99,\"messages\":[{\"role\":\"user\","
                    "\"content\":\"hi\"},"
                    "{\"role\":\"assistant\",\"content\":\"First I look "
                    "up\"}],\"tools\":[{\"name\":\"note\",\"input_schema\":{"
                    "\"type\":\"object\"}}]}"),
           1);
    assert_true(t.answer.strayed && !t.answer.continues);
    assert_true(span_eq(t.answer.texts[0], whole));
    done(&t);
    ask_at(&t, "/v1/messages",
           ",\"varied\":false", /* calls without a script begin with no text, whatever the client began */
           SPAN_LIT("{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":99,\"messages\":[{\"role\":\"user\","
                    "\"content\":\"hi\"},"
                    "{\"role\":\"assistant\",\"content\":\"Well\"}],\"tools\":[{\"name\":\"note\",\"input_"
                    "schema\":{\"type\":\"object\"}}]}"),
           1);
    assert_true(t.answer.calls_count == 1 && !t.answer.strayed);
    done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_differs_with_its_seed_and_is_whole),
        cmocka_unit_test(one_byte_lost_doubled_or_changed_is_seen),
        cmocka_unit_test(no_word_stands_twice_in_an_item),
        cmocka_unit_test(whatever_was_said_so_far_is_gone_on_with),
        cmocka_unit_test(a_damaged_beginning_is_refused),
        cmocka_unit_test(it_runs_out_of_memory_cleanly),
        cmocka_unit_test(a_prefill_is_taken_as_the_real_server_takes_it),
        cmocka_unit_test(a_turn_that_quotes_the_end_is_gone_on_with_in_every_dialect),
        cmocka_unit_test(a_damaged_text_is_counted_as_one),
        cmocka_unit_test(arguments_are_checkable_and_a_text_may_go_before_them),
        cmocka_unit_test(a_scripted_turn_is_gone_on_with_up_to_its_calls),
        cmocka_unit_test(an_answer_of_the_seed_is_gone_on_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
