/* What was shown of an answer is told again as it was, from any position, and outlives a file that was cut. */
#include "dialect/shown.h"
#include "told.h"

#include "base/mem.h"
#include "parse/json.h"

#define LIT(s)              \
    {                       \
        "" s, sizeof(s) - 1 \
    }
#define TEXT(s)                                      \
    {                                                \
        .kind = MSG_TEXT, .tool = -1, .text = LIT(s) \
    }
#define AT(k, s, at, name)                                                        \
    {                                                                             \
        .kind = (k), .tool = -1, .text = LIT(s), .place = (at), .item = LIT(name) \
    }
#define THINK(s)                                          \
    {                                                     \
        .kind = MSG_REASONING, .tool = -1, .text = LIT(s) \
    }
#define START(n, i, name)                                                    \
    {                                                                        \
        .kind = MSG_TOOL_START, .tool = (n), .id = LIT(i), .text = LIT(name) \
    }
#define ARGS(n, s)                                              \
    {                                                           \
        .kind = MSG_TOOL_ARGUMENTS, .tool = (n), .text = LIT(s) \
    }
#define STEP(how, at, name, word)                                                                        \
    {                                                                                                    \
        .kind = MSG_STEP, .tool = -1, .step = (how), .place = (at), .item = LIT(name), .type = LIT(word) \
    }

/* Everything that a delta can say. */
static const struct msg_delta all[] = {
    STEP(MSG_STEP_OPENED, 1, "rs_1", "reasoning"),
    AT(MSG_REASONING, "why ", 1, "rs_1"),
    AT(MSG_REASONING, "not", 1, "rs_1"),
    {.kind = MSG_SEALED, .tool = -1, .text = LIT("AAA="), .id = LIT("rs_1"), .maker = MSG_MAKER_OPENAI},
    STEP(MSG_STEP_CLOSED, 1, "rs_1", ""),
    TEXT("Gr\\u00fc\\u00df "),
    TEXT("\xc3\xa4 \\\\u00e4 \\ud83d\\ude00!"),
    {.kind = MSG_TEXT, .choice = 1, .tool = -1, .text = LIT("other")},
    TEXT("\\\"so\\\""),
    {.kind = MSG_CITATION, .tool = -1, .text = LIT("https://e.x"), .id = LIT("t"), .type = LIT("c")},
    {.kind = MSG_LOGPROBS, .tool = -1, .text = LIT("[{\"token\":\"a\"}]")},
    {.kind = MSG_REFUSAL, .tool = -1, .text = LIT("no")},
    START(0, "t1", "f"),
    ARGS(0, "{\\\"a\\\":"),
    ARGS(0, "1}"),
    START(1, "", "g"),
    ARGS(1, "{}"),
    {.kind = MSG_SIGNATURE, .tool = 1, .text = LIT("S"), .maker = MSG_MAKER_GEMINI},
    {.kind = MSG_TOOL_START, .tool = 2, .text = LIT("old"), .legacy_function = true},
    {.kind = MSG_MEDIA, .tool = -1, .text = LIT("AAAA"), .type = LIT("image/png")},
    {.kind = MSG_HOSTED, .tool = -1, .text = LIT("code_execution")},
};
enum { ALL = sizeof(all) / sizeof(all[0]) };

/* One line for each; what goes on with the line before it, as the parts of a text do that stands in two blocks, is added to that. */
static pd_err put_delta(struct buf *out, const struct msg_delta *d)
{
    char front[400];
    (void)snprintf(front, sizeof(front), "\n%d %d %d %d %d %d %d [%.*s|%.*s|%.*s|", (int)d->kind, d->choice,
                   d->tool, (int)d->maker, d->legacy_function, d->place, (int)d->step, SPAN_FMT(d->id),
                   SPAN_FMT(d->type), SPAN_FMT(d->item));
    struct span so_far = buf_span(out), last = SPAN_NONE;
    for (size_t i = 0; i < so_far.n; i++)
        if (so_far.p[i] == '\n' && i + 1 < so_far.n)
            last = span_from(so_far, i);
    bool on = d->text.n && span_starts(last, front);
    if (on)
        out->tail -= strlen("]");
    pd_err e = on ? PD_OK : buf_puts(out, front);
    return e ? e : buf_printf(out, "%.*s]", SPAN_FMT(d->text));
}

static void on_told(void *ctx, const struct msg_delta *d)
{
    assert_int_equal(put_delta(ctx, d), PD_OK);
}

static void told_from(const struct shown *s, size_t from, struct buf *out)
{
    buf_clear(out);
    assert_int_equal(shown_tell(s, from, on_told, out), shown_end(s));
}

static void fill(struct shown *s, const struct msg_delta *deltas, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(shown_add(s, &deltas[i]), PD_OK);
}

static void everything_is_told_again(void **state)
{
    (void)state;
    struct shown s;
    struct buf told, expected;
    buf_init(&told, 0);
    buf_init(&expected, 0);
    shown_init(&s);
    for (size_t i = 0; i < ALL; i++) {
        struct msg_delta d = all[i];
        size_t before = shown_end(&s);
        assert_int_equal(shown_add(&s, &d), PD_OK);
        buf_clear(&expected);
        assert_int_equal(put_delta(&expected, &d), PD_OK);
        told_from(&s, before, &told); /* what was added last, also when it went on with what was there */
        assert_true(span_eq(buf_span(&told), buf_span(&expected)));
    }
    told_from(&s, shown_end(&s), &told);
    assert_int_equal(buf_size(&told), 0);
    told_from(&s, shown_end(&s) + 1000, &told);
    assert_int_equal(buf_size(&told), 0);
    assert_true(s.has_text && s.has_reasoning && s.has_calls && s.has_other && s.many);
    shown_done(&s);
    buf_done(&told);
    buf_done(&expected);
}

static void pieces_of_one_text_are_one_entry(void **state)
{
    (void)state;
    enum { PIECES = 1000, PIECE = 4, MOST = 100 };
    static const struct msg_delta piece = TEXT("word"), none = TEXT(""), elsewhere = AT(MSG_TEXT, "word", 2, "");
    static const struct msg_delta item = AT(MSG_TEXT, "word", 2, "msg_1"), args[] = {ARGS(0, "1"), ARGS(1, "1")};
    struct shown s;
    struct buf told;
    buf_init(&told, 0);
    shown_init(&s);
    assert_int_equal(shown_add(&s, &none), PD_OK);
    assert_int_equal(shown_end(&s), 0);
    for (unsigned i = 0; i < PIECES; i++)
        assert_int_equal(shown_add(&s, &piece), PD_OK);
    assert_true(shown_end(&s) < PIECES * PIECE + MOST);
    assert_int_equal(s.text_bytes, PIECES * PIECE);
    shown_clear(&s);
    assert_int_equal(s.text_bytes + shown_end(&s) + s.has_text, 0);
    fill(&s, &piece, 1);
    fill(&s, &elsewhere, 1); /* another place, another item, another call: another entry */
    fill(&s, &item, 1);
    fill(&s, args, 2);
    told_from(&s, 0, &told);
    unsigned lines = 0;
    for (size_t i = 0; i < buf_size(&told); i++)
        lines += buf_span(&told).p[i] == '\n';
    assert_int_equal(lines, 5);
    shown_done(&s);
    buf_done(&told);
}

struct pieces {
    struct buf text;
    bool whole; /* what was told is fit for a JSON string of its own */
};

static void on_piece(void *ctx, const struct msg_delta *d)
{
    struct pieces *p = ctx;
    struct buf quoted;
    struct arena a;
    struct span text;
    buf_init(&quoted, 0);
    arena_init(&a, 0, 0);
    assert_int_equal(buf_printf(&quoted, "\"%.*s\"", SPAN_FMT(d->text)), PD_OK);
    p->whole &= json_text((struct json){JSON_STRING, buf_span(&quoted)}, &a, &text) == PD_OK &&
                json_check(buf_span(&quoted)) == PD_OK && !span_has(text, "\xef\xbf\xbd");
    assert_int_equal(buf_add(&p->text, d->text), PD_OK);
    arena_done(&a);
    buf_done(&quoted);
}

static void a_position_never_splits_a_character(void **state)
{
    (void)state;
    static const struct row {
        const char *name, *text;
        size_t at;
        const char *told;
    } rows[] = {
        {"plain", "abc", 1, "bc"},
        {"before an escape", "a\\nb", 1, "\\nb"},
        {"inside an escape", "a\\nb", 2, "\\nb"},
        {"behind an escape", "a\\nb", 3, "b"},
        {"inside a long escape", "a\\u00e4b", 4, "\\u00e4b"},
        {"in its last digit", "a\\u00e4b", 6, "\\u00e4b"},
        {"behind a long escape", "a\\u00e4b", 7, "b"},
        {"an escaped backslash and a u", "\\\\u00e4b", 2, "u00e4b"},
        {"between two backslashes", "\\\\u00e4b", 1, "\\\\u00e4b"},
        {"the third of four backslashes", "\\\\\\\\n", 3, "\\\\n"},
        {"three backslashes and an n", "\\\\\\nx", 3, "\\nx"},
        {"between a pair of surrogates", "a\\ud83d\\ude00b", 7, "\\ud83d\\ude00b"},
        {"inside the second of a pair", "a\\uD83D\\uDE00b", 9, "\\uD83D\\uDE00b"},
        {"behind a pair", "a\\ud83d\\ude00b", 13, "b"},
        {"no pair, backwards", "\\ude00\\ud83dx", 6, "\\ud83dx"},
        {"no pair, an escaped backslash", "\\\\ud83d\\ude00", 7, "\\ude00"},
        {"inside a letter of two bytes", "a\xc3\xa4", 2, "\xc3\xa4"},
        {"inside one of four", "a\xf0\x9f\x98\x80z", 4, "\xf0\x9f\x98\x80z"},
        {"behind it", "a\xf0\x9f\x98\x80z", 5, "z"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct shown s;
        struct pieces p = {.whole = true};
        const struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_str(rows[i].text)};
        shown_init(&s);
        fill(&s, &d, 1);
        size_t text_at = shown_end(&s) - d.text.n;
        (void)shown_tell(&s, text_at + rows[i].at, on_piece, &p);
        if (!span_is(buf_span(&p.text), rows[i].told))
            fail_msg("%s: got %.*s", rows[i].name, SPAN_FMT(buf_span(&p.text)));
        buf_done(&p.text);
        for (size_t from = 0; from <= shown_end(&s); from++) { /* and each rest is a text of its own */
            struct pieces rest = {.whole = true};
            (void)shown_tell(&s, from, on_piece, &rest);
            bool lone = strstr(rows[i].name, "no pair") != NULL;
            assert_true(rest.whole || lone);
            struct span end = span_from(d.text, d.text.n - buf_size(&rest.text));
            assert_true(span_eq(end, buf_span(&rest.text)));
            buf_done(&rest.text);
        }
        shown_done(&s);
    }
}

static void what_is_told_in_parts_is_the_same_text(void **state)
{
    (void)state;
    static const char *const texts[] = {("a \\ud83d\\ude00 b \\\\ and \\n and \xf0\x9f\x98\x80 "
                                         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 the end of it"),
                                        "\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00", "short", ""};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        for (size_t most = SHOWN_PIECE_LEAST; most < 90; most++) {
            struct shown s;
            struct pieces once = {.whole = true}, parts = {.whole = true};
            const struct msg_delta d[] = {
                {.kind = MSG_REASONING, .tool = -1, .text = SPAN_LIT("it thinks for longer than one part")},
                {.kind = MSG_TEXT, .tool = -1, .text = span_str(texts[i])}};
            shown_init(&s);
            fill(&s, d, 2);
            size_t at = 0, rounds = 0;
            (void)shown_tell(&s, 0, on_piece, &once);
            while (at < shown_end(&s)) {
                size_t before = buf_size(&parts.text), to = shown_tell_some(&s, at, most, on_piece, &parts);
                assert_true(to > at);
                assert_true(buf_size(&parts.text) - before <= most);
                at = to;
                rounds++;
            }
            assert_true(parts.whole);
            assert_true(rounds > 1 || buf_size(&once.text) <= most);
            assert_true(span_eq(buf_span(&once.text), buf_span(&parts.text)));
            buf_done(&once.text);
            buf_done(&parts.text);
            shown_done(&s);
        }
}

static void all_text_is_given_plain(void **state)
{
    (void)state;
    struct shown s;
    struct buf out;
    buf_init(&out, 0);
    shown_init(&s);
    assert_int_equal(shown_text(&s, &out), PD_OK);
    assert_int_equal(buf_size(&out), 0);
    fill(&s, all, ALL);
    assert_int_equal(shown_text(&s, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "Gr\xc3\xbc\xc3\x9f \xc3\xa4 \\u00e4 \xf0\x9f\x98\x80!\"so\""));
    buf_clear(&out);
    shown_clear(&s);
    static const struct msg_delta halves[] = {TEXT("a\\ud83d"), THINK("between"), TEXT("\\ude00")};
    fill(&s, halves, 3); /* of one character, told in two events */
    assert_int_equal(shown_text(&s, &out), PD_OK);
    assert_true(span_is(buf_span(&out), "a\xf0\x9f\x98\x80"));
    shown_done(&s);
    buf_done(&out);
}

static void the_first_names_stay(void **state)
{
    (void)state;
    struct shown s;
    shown_init(&s);
    assert_int_equal(shown_id(&s).n + shown_model(&s).n, 0);
    assert_int_equal(shown_identity(&s, SPAN_NONE, SPAN_LIT("m"), 0), PD_OK);
    assert_int_equal(shown_identity(&s, SPAN_LIT("id-1"), SPAN_LIT("m2"), 7), PD_OK);
    assert_int_equal(shown_identity(&s, SPAN_LIT("id-2"), SPAN_LIT("m3"), 8), PD_OK);
    assert_true(span_is(shown_id(&s), "id-1"));
    assert_true(span_is(shown_model(&s), "m"));
    assert_int_equal(s.created, 7);
    shown_clear(&s);
    assert_int_equal(shown_id(&s).n + shown_model(&s).n + (size_t)s.created, 0);
    shown_done(&s);
}

/* Its bytes, up to a position that is the end of an entry. */
static bool has_bytes_of(const struct shown *a, const struct shown *b, size_t end)
{
    struct buf of_a, of_b;
    buf_init(&of_a, 0);
    buf_init(&of_b, 0);
    assert_int_equal(shown_save(a, 0, &of_a), PD_OK);
    assert_int_equal(shown_save(b, 0, &of_b), PD_OK);
    assert_int_equal(buf_size(&of_a), shown_end(a));
    bool same = span_eq(buf_span(&of_a), span_upto(buf_span(&of_b), end));
    buf_done(&of_a);
    buf_done(&of_b);
    return same;
}

static bool same_log(const struct shown *a, const struct shown *b)
{
    return has_bytes_of(a, b, shown_end(b)) && a->last_at == b->last_at && a->has_text == b->has_text &&
           a->has_other == b->has_other && a->text_bytes == b->text_bytes && a->many == b->many;
}

/* ---- long ones ------------------------------------------------------------------------ */

/* Words of 7 bytes at the least, among them escapes, pairs that are parted between two of them, and letters of several bytes. */
static const char *const words[] = {"word-0 ",
                                    "\\n\\\"\\\\ ",
                                    "a pair \\ud83d",
                                    "\\ude00 of it",
                                    "\xc3\xa4\xc3\xb6\xc3\xbc ",
                                    "\xf0\x9f\x98\x80 smile",
                                    "\\\\\\\\ud83d",
                                    "\\u00e4\\u00df "};
enum { WORDS = sizeof(words) / sizeof(words[0]), LONG = 300 };

/* One text of some blocks, with something before it and behind it. All of its bytes are in `ret`. */
static void fill_long(struct shown *s, struct buf *ret)
{
    static const struct msg_delta before = THINK("hm "), behind = START(0, "t1", "f");
    assert_int_equal(shown_add(s, &before), PD_OK);
    for (unsigned i = 0; i < LONG; i++) {
        struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_str(words[i % WORDS])};
        assert_int_equal(shown_add(s, &d), PD_OK);
        assert_int_equal(buf_add(ret, d.text), PD_OK);
    }
    assert_int_equal(shown_add(s, &behind), PD_OK);
}

struct long_told {
    struct buf text;
    unsigned deltas, others;
    bool whole;
};

static void on_long(void *ctx, const struct msg_delta *d)
{
    struct long_told *t = ctx;
    struct pieces p = {.whole = true};
    if (d->kind != MSG_TEXT) {
        t->others++;
        return;
    }
    on_piece(&p, d);
    t->whole &= p.whole;
    buf_done(&p.text);
    assert_int_equal(buf_add(&t->text, d->text), PD_OK);
    t->deltas++;
}

static void a_long_text_is_told_from_everywhere(void **state)
{
    (void)state;
    struct shown s;
    struct buf all_of_it;
    struct long_told once = {.whole = true};
    buf_init(&all_of_it, 0);
    shown_init(&s);
    fill_long(&s, &all_of_it);
    assert_int_equal(shown_tell(&s, 0, on_long, &once), shown_end(&s));
    assert_true(once.deltas > 3 && once.deltas < LONG / 10); /* it stands in blocks, and they are no small ones */
    assert_true(once.whole);
    assert_int_equal(once.others, 2);
    assert_true(span_eq(buf_span(&once.text), buf_span(&all_of_it)));
    for (size_t from = 0; from <= shown_end(&s); from++) {
        struct long_told rest = {.whole = true};
        assert_int_equal(shown_tell(&s, from, on_long, &rest), shown_end(&s));
        assert_true(rest.whole);
        size_t n = buf_size(&rest.text);
        assert_true(n <= buf_size(&all_of_it));
        assert_true(span_eq(buf_span(&rest.text), span_from(buf_span(&all_of_it), buf_size(&all_of_it) - n)));
        buf_done(&rest.text);
    }
    shown_done(&s);
    buf_done(&once.text);
    buf_done(&all_of_it);
}

static void a_long_text_is_told_in_parts_of_any_size(void **state)
{
    (void)state;
    struct buf all_of_it;
    struct shown s;
    shown_init(&s);
    buf_init(&all_of_it, 0);
    fill_long(&s, &all_of_it);
    for (size_t most = SHOWN_PIECE_LEAST; most < 2000; most += 1 + most / 5) {
        struct long_told parts = {.whole = true};
        for (size_t at = 0, to; at < shown_end(&s); at = to) {
            size_t before = buf_size(&parts.text);
            to = shown_tell_some(&s, at, most, on_long, &parts);
            assert_true(to > at);
            assert_true(buf_size(&parts.text) - before <= most);
        }
        assert_true(parts.whole);
        assert_int_equal(parts.others, 2);
        assert_true(span_eq(buf_span(&parts.text), buf_span(&all_of_it)));
        buf_done(&parts.text);
    }
    shown_done(&s);
    buf_done(&all_of_it);
}

static void a_long_text_is_saved_in_goes(void **state)
{
    (void)state;
    enum { EVERY = 7 };
    struct shown s, back;
    struct buf file, plain, again;
    size_t saved = 0;
    buf_init(&file, 0);
    buf_init(&plain, 0);
    buf_init(&again, 0);
    shown_init(&s);
    shown_init(&back);
    for (unsigned i = 0; i < LONG; i++) {
        struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_str(words[i % WORDS])};
        assert_int_equal(shown_add(&s, &d), PD_OK);
        if (i % EVERY)
            continue;
        buf_clear(&file);
        assert_int_equal(shown_save(&s, saved, &file), PD_OK);
        saved = shown_end(&s);
        assert_int_equal(shown_load(&back, buf_span(&file)), PD_OK);
        assert_true(same_log(&s, &back));
    }
    buf_clear(&file);
    assert_int_equal(shown_save(&s, saved, &file), PD_OK);
    assert_int_equal(shown_load(&back, buf_span(&file)), PD_OK);
    assert_true(same_log(&s, &back));
    assert_int_equal(shown_text(&s, &plain), PD_OK);
    assert_int_equal(shown_text(&back, &again), PD_OK);
    assert_true(buf_size(&plain) && span_eq(buf_span(&plain), buf_span(&again)));
    shown_done(&s);
    shown_done(&back);
    buf_done(&file);
    buf_done(&plain);
    buf_done(&again);
}

/* Of thousands of answers that run at once: their bytes, and little more. */
static void a_long_answer_takes_little_more_than_its_bytes(void **state)
{
    (void)state;
    static const struct msg_delta piece = TEXT("the words of an answer, as they come, twenty times a second");
    struct shown s;
    shown_init(&s);
    while (shown_end(&s) < 100000) {
        assert_int_equal(shown_add(&s, &piece), PD_OK);
        assert_true(shown_bytes(&s) <= shown_end(&s) + shown_end(&s) / 5 + 600);
    }
    assert_true(shown_bytes(&s) <= shown_end(&s) + shown_end(&s) / 15);
    shown_done(&s);
}

static void an_empty_one_lends_its_block(void **state)
{
    (void)state;
    static const struct msg_delta piece = TEXT("some words");
    struct shown s, other;
    shown_init(&s);
    shown_init(&other);
    fill(&s, &piece, 1);
    shown_lend(&s, &other); /* not empty */
    assert_int_equal(shown_bytes(&other), 0);
    shown_clear(&s);
    size_t bytes = shown_bytes(&s), blocks = mem_blocks();
    assert_true(bytes > 0);
    shown_lend(&s, &other);
    assert_int_equal(shown_bytes(&s), 0);
    assert_int_equal(shown_bytes(&other), bytes);
    fill(&other, &piece, 1);
    assert_int_equal(mem_blocks(), blocks);
    fill(&s, &piece, 1);
    assert_true(same_log(&s, &other));
    shown_clear(&s);
    shown_lend(&s, &other); /* that has one, and what is in it stays */
    assert_int_equal(shown_bytes(&s), 0);
    assert_int_equal(mem_blocks(), blocks);
    assert_int_equal(shown_end(&other), 42);
    shown_done(&other);
    static char large[10000];
    memset(large, 'x', sizeof(large));
    struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_of(large, sizeof(large))};
    fill(&s, &d, 1);
    shown_clear(&s);
    shown_lend(&s, &other); /* a large one is not kept for all */
    assert_int_equal(shown_bytes(&s) + shown_bytes(&other), 0);
    assert_int_equal(mem_blocks(), blocks - 1);
    shown_done(&s);
    shown_done(&other);
}

/* What was large once is not given back with every event. */
static void what_is_emptied_keeps_its_largest_block(void **state)
{
    (void)state;
    struct shown s;
    struct buf text;
    buf_init(&text, 0);
    shown_init(&s);
    fill_long(&s, &text);
    shown_clear(&s);
    size_t kept = shown_bytes(&s);
    uint64_t made = mem_count();
    assert_true(kept >= 500 && kept < 5000);
    for (unsigned i = 0; i < LONG; i++) {
        struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_upto(buf_span(&text), kept / 2)};
        assert_int_equal(shown_add(&s, &d), PD_OK);
        shown_clear(&s);
    }
    assert_true(mem_count() == made);
    shown_done(&s);
    buf_done(&text);
}

/* ---- files --------------------------------------------------------------------------- */

/* Saved after every delta, as a file grows. */
static void what_is_saved_in_goes_is_the_same_log(void **state)
{
    (void)state;
    struct shown s, back;
    struct buf file;
    size_t saved = 0;
    buf_init(&file, 0);
    shown_init(&s);
    shown_init(&back);
    for (size_t i = 0; i < ALL; i++) {
        assert_int_equal(shown_add(&s, &all[i]), PD_OK);
        buf_clear(&file);
        assert_int_equal(shown_save(&s, saved, &file), PD_OK);
        saved = shown_end(&s);
        assert_int_equal(shown_load(&back, buf_span(&file)), PD_OK);
        assert_true(same_log(&s, &back));
    }
    buf_clear(&file);
    assert_int_equal(shown_save(&s, saved, &file), PD_OK);
    assert_int_equal(buf_size(&file), 0);
    shown_done(&s);
    shown_done(&back);
    buf_done(&file);
}

static void whole_entries_before_a_cut_stay(void **state)
{
    (void)state;
    struct shown s, back;
    struct buf file;
    size_t whole[ALL + 1] = {0}, n = 0; /* where entries end */
    buf_init(&file, 0);
    shown_init(&s);
    for (size_t i = 0; i < ALL; i++) {
        assert_int_equal(shown_add(&s, &all[i]), PD_OK);
        if (i + 1 == ALL || all[i].kind != all[i + 1].kind || all[i].choice != all[i + 1].choice)
            whole[++n] = shown_end(&s);
    }
    assert_int_equal(shown_save(&s, 0, &file), PD_OK);
    for (size_t cut = 0; cut <= buf_size(&file); cut++) {
        size_t expected = 0;
        for (size_t i = 0; i <= n; i++)
            if (whole[i] <= cut)
                expected = whole[i];
        shown_init(&back);
        char *copy = malloc(cut ? cut : 1); /* of exactly its size: reading behind it shows */
        assert_non_null(copy);
        memcpy(copy, buf_span(&file).p, cut);
        pd_err e = shown_load(&back, span_of(copy, cut));
        free(copy);
        assert_int_equal(e, cut == expected ? PD_OK : PD_SYNTAX);
        assert_true(has_bytes_of(&back, &s, expected));
        shown_done(&back);
    }
    shown_done(&s);
    buf_done(&file);
}

/* No byte that was changed makes it read beyond the end, tell what is no text, or anything but fail or load. */
static void a_damaged_file_is_refused_or_harmless(void **state)
{
    (void)state;
    struct shown s;
    struct buf file;
    buf_init(&file, 0);
    shown_init(&s);
    fill(&s, all, ALL);
    assert_int_equal(shown_save(&s, 0, &file), PD_OK);
    static const unsigned char bytes[] = {0, 1, '"', '\\', 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < buf_size(&file) * sizeof(bytes); i++) {
        struct shown back;
        struct buf told;
        char *at = file.p + file.head + i / sizeof(bytes), was = *at;
        *at = (char)bytes[i % sizeof(bytes)];
        buf_init(&told, 0);
        shown_init(&back);
        pd_err e = shown_load(&back, buf_span(&file));
        assert_true(e == PD_OK || e == PD_SYNTAX);
        told_from(&back, 0, &told);
        assert_false(memchr(buf_span(&told).p, 1, buf_size(&told)) != NULL);
        *at = was;
        shown_done(&back);
        buf_done(&told);
    }
    shown_done(&s);
    buf_done(&file);
}

/* ---- limits -------------------------------------------------------------------------- */

static void a_log_has_a_limit_and_what_is_beyond_adds_nothing(void **state)
{
    (void)state;
    struct shown s;
    static const struct msg_delta piece = TEXT("0123456789"), other = THINK("0123456789");
    shown_init(&s);
    s.limit_bytes = 100; /* in place of SHOWN_MAX */
    assert_int_equal(shown_add(&s, &piece), PD_OK);
    assert_int_equal(shown_add(&s, &piece), PD_OK);
    assert_int_equal(shown_add(&s, &other), PD_OK);
    assert_int_equal(shown_end(&s), 94);
    assert_int_equal(shown_add(&s, &other), PD_TOOBIG);
    assert_int_equal(shown_add(&s, &piece), PD_TOOBIG);
    assert_int_equal(shown_end(&s), 94);
    assert_int_equal(s.text_bytes, 20);
    struct buf told;
    buf_init(&told, 0);
    told_from(&s, 0, &told);
    assert_true(span_has(buf_span(&told), "|01234567890123456789]") && span_has(buf_span(&told), "|0123456789]"));
    buf_done(&told);
    shown_done(&s);
}

static pd_err work(void *ctx)
{
    struct shown s, back;
    struct buf file;
    (void)ctx;
    shown_init(&s);
    shown_init(&back);
    buf_init(&file, 0);
    pd_err e = shown_identity(&s, SPAN_LIT("id"), SPAN_LIT("model"), 1);
    for (size_t i = 0; i < ALL && !e; i++) {
        size_t before = shown_end(&s);
        e = shown_add(&s, &all[i]);
        assert_true(!e || shown_end(&s) == before);
    }
    for (size_t i = 0; i < LONG && !e; i++) {
        struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_str(words[i % WORDS])};
        size_t before = shown_end(&s);
        e = shown_add(&s, &d);
        if (!e)
            continue;
        struct shown same; /* and all that was there is there, also where a character was to be moved */
        shown_init(&same);
        assert_int_equal(shown_save(&s, 0, &file), PD_OK);
        assert_int_equal(shown_load(&same, buf_span(&file)), PD_OK);
        assert_true(shown_end(&s) == before && shown_end(&same) == before);
        shown_done(&same);
    }
    if (!e)
        e = shown_save(&s, 0, &file);
    if (!e)
        e = shown_load(&back, buf_span(&file));
    buf_clear(&file);
    if (!e)
        e = shown_text(&s, &file);
    shown_done(&s);
    shown_done(&back);
    buf_done(&file);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(work, NULL) >= 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_told_again),
        cmocka_unit_test(pieces_of_one_text_are_one_entry),
        cmocka_unit_test(a_position_never_splits_a_character),
        cmocka_unit_test(what_is_told_in_parts_is_the_same_text),
        cmocka_unit_test(all_text_is_given_plain),
        cmocka_unit_test(the_first_names_stay),
        cmocka_unit_test(a_long_text_is_told_from_everywhere),
        cmocka_unit_test(a_long_text_is_told_in_parts_of_any_size),
        cmocka_unit_test(a_long_text_is_saved_in_goes),
        cmocka_unit_test(a_long_answer_takes_little_more_than_its_bytes),
        cmocka_unit_test(an_empty_one_lends_its_block),
        cmocka_unit_test(what_is_emptied_keeps_its_largest_block),
        cmocka_unit_test(what_is_saved_in_goes_is_the_same_log),
        cmocka_unit_test(whole_entries_before_a_cut_stay),
        cmocka_unit_test(a_damaged_file_is_refused_or_harmless),
        cmocka_unit_test(a_log_has_a_limit_and_what_is_beyond_adds_nothing),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests_name("dialect/shown", tests, NULL, NULL);
}
