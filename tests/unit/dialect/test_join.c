#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "dialect/join.h"
#include "parse/put.h"
#include "parse/utf8.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

/* Everything that a joiner hands on of `piece` (escaped), fed in steps of `step` bytes; "!" when it failed. Freed by the caller. */
static pd_err joined(enum join_mode mode, struct span seen, struct span piece, size_t step, struct buf *out)
{
    struct join *j = join_new(mode, seen, join_givable(seen));
    enum join_state state = JOIN_LOOKING;
    struct span shown;
    pd_err e = j ? PD_OK : PD_NOMEM;
    for (size_t at = 0; !e && at < piece.n; at += step) {
        e = join_feed(j, span_upto(span_from(piece, at), step), &state, &shown);
        if (!e && state == JOIN_LOOKING)
            assert_int_equal(shown.n, 0);
        if (!e)
            e = buf_add(out, shown);
    }
    if (!e)
        e = join_end(j, &state, &shown);
    if (!e)
        e = buf_add(out, shown);
    if (!e) {
        assert_int_not_equal(state, JOIN_LOOKING);
        if (state == JOIN_FAILED)
            e = buf_puts(out, "!");
    }
    join_free(j);
    return e;
}

static void must_join(const char *name, enum join_mode mode, const char *seen, const char *piece, const char *want)
{
    struct span all = span_str(piece);
    for (size_t step = 1; step <= all.n + 1; step++) {
        struct buf b;
        buf_init(&b, 0);
        assert_int_equal(joined(mode, span_str(seen), all, step, &b), PD_OK);
        if (!span_is(buf_span(&b), want))
            fail_msg("%s, in steps of %zu: want \"%s\", got \"%.*s\"", name, step, want, SPAN_FMT(buf_span(&b)));
        buf_done(&b);
    }
}

#define LONG_SEEN "The first thing is that the quick brown fox jumps over the lazy dog, and the second is th"
static const struct {
    const char *name;
    enum join_mode mode;
    const char *seen, *piece, *want;
} rows[] = {
    {"goes on exactly", JOIN_PREFILL, "Hello wor", "ld, how are you", "ld, how are you"},

    {"the same white space again", JOIN_PREFILL, "One line.\n\n", "\\n\\nTwo", "Two"},
    {"a part of the white space again", JOIN_PREFILL, "One line.\n\n", "\\n- two", "- two"},
    {"more white space than was seen", JOIN_PREFILL, "One line.\n", "\\n\\nTwo", "\\nTwo"},
    {"white space does not come again", JOIN_PREFILL, "One line.\n\n", "Two", "Two"},
    {"other white space than was seen", JOIN_PREFILL, "One line. ", "\\nTwo", "\\nTwo"},
    {"an echo of all", JOIN_PREFILL, "Hello wor", "Hello world", "ld"},
    {"an echo of all, white space too", JOIN_PREFILL, "Hello world. \n", "Hello world. \\nAnd", "And"},
    {"an echo of all, behind a line break", JOIN_PREFILL, "Hello wor", "\\nHello world", "ld"},
    {"an echo of a short word", JOIN_PREFILL, "I", "I think", " think"},
    {"one sign and the same sign: nobody knows", JOIN_PREFILL, "#", "# Title", "!"},
    {"an echo of the last words", JOIN_PREFILL, LONG_SEEN, "and the second is this", "is"},
    {"an echo of the last line", JOIN_PREFILL, "one\ntwo three four", "two three four five", " five"},
    {"an echo and nothing more", JOIN_PREFILL, LONG_SEEN, LONG_SEEN, ""},
    {"nothing at all", JOIN_PREFILL, LONG_SEEN, "", ""},
    {"the broken word again", JOIN_PREFILL, "a long time ag he sl", "slept well", "ept well"},
    {"the broken word again, in Greek", JOIN_PREFILL, "\xce\xb1 \xce\xba\xce\xb1\xce\xbb",
     "\xce\xba\xce\xb1\xce\xbb\xce\xb7", "\xce\xb7"},
    {"the same word without more letters goes on", JOIN_PREFILL, "he says: cous", "cous is good", "cous is good"},
    {"a restart that diverges", JOIN_PREFILL, LONG_SEEN, "The first thing is that a slow white cat", "!"},
    {"a restart of a short text that diverges", JOIN_PREFILL, "Hello wor", "Hello there", "!"},
    {"a restart that ends early", JOIN_PREFILL, LONG_SEEN, "The first thing is that", "!"},
    {"a line begun again in other words", JOIN_PREFILL, "one\nthe quick brown fox ju", "the quick brown dog", "!"},
    {"a table's row like the last", JOIN_PREFILL, "| a | b |\n|---|---|\n| 1 | 2 |\n", "| 1 | 3 |\\n",
     "| 1 | 3 |\\n"},
    {"one piece over and over goes on", JOIN_PREFILL, "so: 0, 0, 0, 0, 0, 0, 0, ", "0, 0, 0, 0, 0, 0, 0, 1",
     "0, 0, 0, 0, 0, 0, 0, 1"},
    {"all is one piece over and over: nobody knows", JOIN_PREFILL, "0, 0, 0, 0, 0, 0,", "0, 0, 0, 0, 0, 0, 1",
     "!"},
    {"escapes of two kinds", JOIN_PREFILL, "caf\xc3\xa9 au lait \"and\" /more",
     "caf\\u00e9 au lait \\u0022and\\\" \\/more\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
    {"a surrogate alone", JOIN_PREFILL, "x y z", " \\ud83d.", " \xef\xbf\xbd."},
    {"nothing but white space was seen", JOIN_PREFILL, "\n", "\\nHello", "Hello"},

    {"a whole word, and the next begins alike", JOIN_PREFILL, "they like foo ", "football", "football"},
    {"a word that begins like the last", JOIN_PREFILL, "we like the", " theory of it", " theory of it"},
    {"anchor: nothing but white space was seen", JOIN_ANCHOR, "\n", "\\nHello", "Hello"},
    {"anchor: fewer words, over and over", JOIN_ANCHOR, "so: ha ha ha ha ha ha ha ha", "ha ha ha ha ha ha end",
     "!"},
    {"anchor: inside a word it is none", JOIN_ANCHOR, "and it is a fine day",
     "Sand it is a fine day. But and it is a fine day today", " today"},
    {"anchor: repeats and goes on", JOIN_ANCHOR, LONG_SEEN, LONG_SEEN "is", "is"},
    {"anchor: the last words alone", JOIN_ANCHOR, LONG_SEEN,
     "the quick brown fox jumps over the lazy dog, and the second is this", "is"},
    {"anchor: chatter before it", JOIN_ANCHOR, "Hello wor, it is a beautiful day tod",
     "Sure! Here it goes:\\n\\nHello wor, it is a beautiful day today", "ay"},
    {"anchor: dots before it", JOIN_ANCHOR, "Hello wor, it is a beautiful day tod",
     "...Hello wor, it is a beautiful day today", "ay"},
    {"anchor: other white space", JOIN_ANCHOR, "It is a beautiful\n\nday tod", "It is a beautiful day today",
     "ay"},
    {"anchor: white space again", JOIN_ANCHOR, "It is a beautiful day\n", "It is a beautiful day\\nAnd", "And"},
    {"anchor: quoted is not the text", JOIN_ANCHOR, "It is a beautiful day tod",
     "After \\\"It is a beautiful day tod\\\" comes: ay", "!"},
    {"anchor: in a fence of its own", JOIN_ANCHOR, "It is a beautiful day tod",
     "```\\nIt is a beautiful day today\\n```", "!"},
    {"anchor: in the text's own fence", JOIN_ANCHOR, "Code:\n```c\nint main(void) { return",
     "```c\\nint main(void) { return 0; }\\n```", " 0; }\\n```"},
    {"anchor: not there", JOIN_ANCHOR, LONG_SEEN, "I am sorry, but I cannot do that.", "!"},
    {"anchor: the answer is over", JOIN_ANCHOR, "It is a beautiful day.", "It is a beautiful day.", ""},
    {"anchor: a short text at the start", JOIN_ANCHOR, "Yes", "Yes, it is", ", it is"},
    {"anchor: a short text in the middle of others", JOIN_ANCHOR, "Yes", "He said Yes, it is", "!"},
    {"anchor: a short text behind marks", JOIN_ANCHOR, "Yes", "...Yes, it is", ", it is"},
    {"anchor: nothing", JOIN_ANCHOR, "It is a beautiful day.", "", "!"},
    {"anchor: half of it", JOIN_ANCHOR, "It is a beautiful day.", "It is a beau", "!"},

    {"repeat: the same and more", JOIN_REPEAT, "Hello \n", "Hello \\nworld", "world"},
    {"repeat: another answer", JOIN_REPEAT, "Hello wor", "Hello there", "!"},
    {"repeat: shorter", JOIN_REPEAT, "Hello wor", "Hello", "!"},
    {"repeat: the same", JOIN_REPEAT, "Hello wor", "Hello wor", ""},
};

static void a_new_text_is_joined_or_said_to_be_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        must_join(rows[i].name, rows[i].mode, rows[i].seen, rows[i].piece, rows[i].want);
}

/* ---- any text, cut anywhere ------------------------------------------------------------ */

static const char *const texts[] = {
    "The quick brown fox jumps over the lazy dog. It does so every day, and nobody knows why. Once, a traveller "
    "asked "
    "it; \"because I can\", it said, and jumped again.\n\nSince then there are two paragraphs in this story.\n",
    "Gr\xc3\xbc\xc3\x9f"
    "e aus K\xc3\xb6ln: die \xc3\x9c"
    "bung ist sch\xc3\xb6n, aber m\xc3\xbchsam. "
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, \xd0\xbc\xd0\xb8\xd1\x80! "
    "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c"
    "\xe3\x80\x82 \xf0\x9f\x98\x80\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd done.",
    "#include <stdio.h>\n\nint main(int argc, char **argv)\n{\n    for (int i = 0; i < argc; i++)\n"
    "        printf(\"%s\\n\", argv[i]);\n    return 0;\n}\n\nstatic int twice(int n)\n{\n    return 2 * n;\n}\n",
    "{\n  \"name\": \"perdure\",\n  \"tags\": [\"a\", \"b\", \"c\"],\n  \"nested\": {\"x\": 1.5, \"y\": [1, 2, 3, "
    "{\"z\": null}]},\n  \"text\": \"line\\nbreak \\\"quoted\\\" \\u00e9\"\n}\n",
    "| name  | value | unit |\n|-------|------:|------|\n| speed | 12    | m/s  |\n| mass  | 70    | kg   |\n"
    "| speed | 13    | m/s  |\n| force | 9.81  | N    |\n\n- a list\n- a longer list\n  - inside it\n- its end\n",
    "Here is the code:\n\n```python\ndef f(x):\n    return x + 1\n```\n\nIt adds one. Used as `f(2)`, it gives "
    "3.\n",
};
enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };

enum { EXACT, EXACT_NO_SPACE, ECHO_ALL, ECHO_LINE, ECHO_WORDS, ANCHORED, CHATTER, DOTS, RESTART, REPEATED, WAYS };

static enum join_mode mode_of(int way)
{
    return way < ANCHORED ? JOIN_PREFILL : way < REPEATED ? JOIN_ANCHOR : JOIN_REPEAT;
}

/* Where an echo of about that kind starts; `cut` when there is none to speak of. */
static size_t echo_from(struct span text, size_t given, int way)
{
    size_t at = given;
    if (way == ECHO_LINE)
        while (at && text.p[at - 1] != '\n')
            at--;
    else
        while (at && (given - at < 20 || text.p[at - 1] != ' '))
            at--;
    while (at < given && (text.p[at] == ' ' || text.p[at] == '\n'))
        at++;
    return given - at >= 12 ? at : given;
}

/* What a provider sends that was cut off there and behaves in that way; empty p: this does not occur. */
static char *sent(struct span text, size_t cut, int way, struct arena *a)
{
    struct span seen = span_upto(text, cut), anchor = join_anchor(seen);
    size_t given = join_givable(seen);
    struct span behind = span_from(text, given);
    size_t from;
    switch (way) {
    case EXACT_NO_SPACE: /* white space is on both sides of the cut: what it leaves out is then not these bytes */
        if (given < cut && cut < text.n && strchr(" \n", text.p[cut]))
            return NULL;
        return arena_printf(a, "%.*s", SPAN_FMT(span_from(text, cut)));
    case ECHO_ALL:
    case RESTART:
    case REPEATED:
        return arena_printf(a, "%.*s", SPAN_FMT(text));
    case ECHO_LINE:
    case ECHO_WORDS:
        from = echo_from(text, given, way);
        return from == given ? NULL : arena_printf(a, "%.*s", SPAN_FMT(span_from(text, from)));
    case ANCHORED:
        return arena_printf(a, "%.*s%.*s", SPAN_FMT(anchor), SPAN_FMT(behind));
    case CHATTER:
        return anchor.n < JOIN_ANCHOR_LEAST ? NULL
                                            : arena_printf(a, "Sure, this is how it goes on:\n\n%.*s%.*s",
                                                           SPAN_FMT(anchor), SPAN_FMT(behind));
    case DOTS:
        return !given ? NULL : arena_printf(a, "...%.*s%.*s", SPAN_FMT(anchor), SPAN_FMT(behind));
    default:
        return arena_printf(a, "%.*s", SPAN_FMT(behind));
    }
}

static bool plain_cut(struct span text, size_t cut)
{
    return cut == text.n || ((unsigned char)text.p[cut] & 0xc0) != 0x80;
}

/* The text has the same bytes on both sides of the cut, or is about to begin its line or itself once more: there the text going on and an echo
 * are the same bytes, and no joiner can tell. */
static bool is_riddle(struct span text, size_t cut)
{
    size_t given = join_givable(span_upto(text, cut)), at = given;
    while (at < text.n && strchr(" \n", text.p[at]))
        at++;
    for (size_t n = 2; n <= given && at + n <= text.n; n++)
        if (memcmp(text.p + given - n, text.p + at, n) == 0)
            return true;
    for (size_t n = 6; 2 * n <= given; n++) /* or is one piece twice there already */
        if (memcmp(text.p + given - n, text.p + given - 2 * n, n) == 0)
            return true;
    return false;
}

static void try_cut(struct span text, size_t cut, int way, unsigned counts[3])
{
    struct arena a;
    struct buf shown, escaped;
    arena_init(&a, 0, 0);
    buf_init(&shown, 0);
    buf_init(&escaped, 0);
    char *piece = sent(text, cut, way, &a);
    if (piece) {
        struct put p = put_into(&escaped), want = put_into(&escaped);
        put_json_inner(&p, span_str(piece));
        size_t n = buf_size(&escaped);
        put_json_inner(&want, span_from(text, cut));
        struct span all = buf_span(&escaped);
        assert_int_equal(joined(mode_of(way), span_upto(text, cut), span_upto(all, n), 1 + cut % 7, &shown),
                         PD_OK);
        bool right = span_eq(buf_span(&shown), span_from(all, n));
        bool failed = span_is(buf_span(&shown), "!");
        if (!right && !failed && !is_riddle(text, cut))
            fail_msg("way %d, cut at %zu behind \"%.*s\": sent \"%.40s\", want \"%.*s\", got \"%.*s\"", way, cut,
                     SPAN_FMT(span_from(span_upto(text, cut), cut < 30 ? 0 : cut - 30)), piece,
                     SPAN_FMT(span_upto(span_from(text, cut), 60)), SPAN_FMT(span_upto(buf_span(&shown), 60)));
        counts[right ? 0 : failed ? 1 : 2]++;
    }
    buf_done(&shown);
    buf_done(&escaped);
    arena_done(&a);
}

static void a_text_cut_anywhere_is_whole_again_however_the_provider_goes_on(void **state)
{
    (void)state;
    unsigned counts[3] = {0};
    for (int t = 0; t < TEXTS; t++) {
        struct span text = span_str(texts[t]);
        for (size_t cut = 1; cut <= text.n; cut++)
            for (int way = 0; way < WAYS && plain_cut(text, cut); way++)
                try_cut(text, cut, way, counts);
    }
    printf("joined %u, said to be none %u, riddles %u\n", counts[0], counts[1], counts[2]);
    assert_true(counts[0] > 8000);
    assert_true(counts[1] * 100 < counts[0]); /* an honest no is rare */
    assert_true(counts[2] * 500 < counts[0]);
}

/* Texts of words, signs, lines and characters thrown together; what repeats in them by chance is a riddle that is counted. */
static void random_texts_too(void **state)
{
    (void)state;
    static const char *const pieces[] = {"the ",
                                         "cat",
                                         " sat ",
                                         "on",
                                         " a ",
                                         "mat.",
                                         "\n",
                                         "\n\n",
                                         "- ",
                                         "| ",
                                         " |\n",
                                         "1",
                                         "2, ",
                                         "{\"a\": ",
                                         "}",
                                         "[",
                                         "]",
                                         "\\",
                                         "\"",
                                         "/",
                                         "\xc3\xa9",
                                         "\xce\xb1\xce\xb2 ",
                                         "\xe4\xbd\xa0",
                                         "\xe5\xa5\xbd",
                                         "\xf0\x9f\x98\x80",
                                         "return x;\n",
                                         "    ",
                                         "```\n",
                                         "However, ",
                                         "some",
                                         "thing ",
                                         "un",
                                         "believ",
                                         "able! "};
    uint32_t seed = 1;
    unsigned counts[3] = {0};
    for (int round = 0; round < 60; round++) {
        char room[600];
        size_t n = 0;
        while (n < 250) {
            seed = seed * 1664525u + 1013904223u;
            const char *piece = pieces[(seed >> 16) % (sizeof(pieces) / sizeof(pieces[0]))];
            n += (size_t)snprintf(room + n, sizeof(room) - n, "%s", piece);
        }
        for (size_t cut = 1; cut <= n; cut++)
            for (int way = 0; way < WAYS && plain_cut(span_of(room, n), cut); way++)
                try_cut(span_of(room, n), cut, way, counts);
    }
    printf("joined %u, said to be none %u, riddles %u\n", counts[0], counts[1], counts[2]);
    assert_true(counts[0] > 50000);
    assert_true(counts[1] * 30 < counts[0]);
    assert_true(counts[2] * 200 < counts[0]);
}

/* Words of another answer to the same question: what is shown is the seen text and its new part. */
static void another_text_behind_the_seam_is_shown_as_it_is(void **state)
{
    (void)state;
    struct span text = span_str(texts[0]);
    for (size_t cut = 20; cut < text.n; cut++) {
        char piece[400], want[400];
        struct span anchor = join_anchor(span_upto(text, cut));
        snprintf(want, sizeof(want), " -- and something else, %zu", cut);
        snprintf(piece, sizeof(piece), "%.*s%s", SPAN_FMT(anchor), want);
        struct buf escaped, shown;
        buf_init(&escaped, 0);
        buf_init(&shown, 0);
        struct put p = put_into(&escaped);
        put_json_inner(&p, span_str(piece));
        assert_int_equal(joined(JOIN_ANCHOR, span_upto(text, cut), buf_span(&escaped), 3, &shown), PD_OK);
        size_t dropped = text.p[cut - 1] == ' ' ? 1 : 0;
        assert_true(span_is(buf_span(&shown), want + dropped));
        buf_done(&escaped);
        buf_done(&shown);
    }
}

#define WORDS "Twelve words or so are what an anchor is made of, and none of it is a part of a word there, okxx"
static void what_stands_before_the_last_words_counts_too(void **state)
{
    (void)state;
    assert_int_equal(sizeof(WORDS) - 1,
                     JOIN_ANCHOR_MOST); /* so that what stands before them is no part of the anchor */
    must_join("a quote that the text opened", JOIN_ANCHOR, "Once upon a time she said, and I quote: \"" WORDS,
              "\\\"" WORDS "\\\" and", "\\\" and");
    must_join("a fence that the text opened", JOIN_ANCHOR, "It was this code:\n```\n" WORDS,
              "```\\n" WORDS "\\n```", "\\n```");
    must_join("last words that stood at the beginning, too", JOIN_ANCHOR, "Intro: " WORDS " and on, " WORDS,
              "Intro: " WORDS " another way", "!");
}

static void a_long_text_is_recognised_when_it_comes_again(void **state)
{
    (void)state;
    char text[6000];
    size_t n = 0;
    for (int i = 0; i < 500; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "word%d ", i * 7919 % 1000);
    for (int mode = JOIN_PREFILL; mode <= JOIN_REPEAT; mode++) {
        struct buf shown;
        size_t cut = 3 * JOIN_WINDOW;
        buf_init(&shown, 0);
        assert_int_equal(joined((enum join_mode)mode, span_of(text, cut), span_of(text, n), 9, &shown), PD_OK);
        assert_true(span_eq(buf_span(&shown), span_of(text + cut, n - cut)));
        buf_done(&shown);
    }
}

/* An answer that has nothing to do with the text is never put behind it where the seam can be told. */
static void what_does_not_belong_is_never_shown(void **state)
{
    (void)state;
    for (int t = 0; t < TEXTS; t++)
        for (int other = 0; other < TEXTS; other++) {
            struct span text = span_str(texts[t]);
            for (size_t cut = 40; cut < text.n && other != t; cut += 3) {
                if (!plain_cut(text, cut))
                    continue;
                for (int mode = JOIN_ANCHOR; mode <= JOIN_REPEAT; mode++) {
                    struct buf escaped, shown;
                    buf_init(&escaped, 0);
                    buf_init(&shown, 0);
                    struct put p = put_into(&escaped);
                    put_json_inner(&p, span_str(texts[other]));
                    assert_int_equal(
                        joined((enum join_mode)mode, span_upto(text, cut), buf_span(&escaped), 16, &shown), PD_OK);
                    assert_true(span_is(buf_span(&shown), "!"));
                    buf_done(&escaped);
                    buf_done(&shown);
                }
            }
        }
}

/* The same question once more and another answer: it begins the same and goes another way before the seam. */
static void a_restart_that_goes_another_way_is_never_shown(void **state)
{
    (void)state;
    struct span text = span_str(texts[0]);
    for (size_t cut = 40; cut < text.n; cut++)
        for (size_t same = 20; same + 1 < join_givable(span_upto(text, cut)); same += 5)
            for (int mode = JOIN_PREFILL; mode <= JOIN_REPEAT; mode++) {
                char piece[400];
                snprintf(piece, sizeof(piece), "%.*s~ another way altogether", (int)same, text.p);
                struct buf escaped, shown;
                buf_init(&escaped, 0);
                buf_init(&shown, 0);
                struct put p = put_into(&escaped);
                put_json_inner(&p, span_str(piece));
                assert_int_equal(joined((enum join_mode)mode, span_upto(text, cut), buf_span(&escaped), 5, &shown),
                                 PD_OK);
                assert_true(span_is(buf_span(&shown), "!"));
                buf_done(&escaped);
                buf_done(&shown);
            }
}

static void memory_of_what_is_no_continuation_is_bounded(void **state)
{
    (void)state;
    struct join *j = join_new(JOIN_ANCHOR, SPAN_LIT("It is a beautiful day tod"), 25);
    enum join_state st = JOIN_LOOKING;
    struct span shown;
    size_t fed = 0;
    for (; st == JOIN_LOOKING; fed += 10)
        assert_int_equal(join_feed(j, SPAN_LIT("no seam   "), &st, &shown), PD_OK);
    assert_int_equal(st, JOIN_FAILED);
    assert_in_range(fed, JOIN_WINDOW, JOIN_WINDOW + 20);
    assert_int_equal(join_feed(j, SPAN_LIT("It is a beautiful day today"), &st, &shown), PD_OK);
    assert_int_equal(st, JOIN_FAILED);
    assert_int_equal(shown.n, 0);
    join_free(j);
}

static const struct {
    const char *seen, *anchor;
} anchors[] = {
    {"", ""},
    {"   ", ""},
    {"Yes", "Yes"},
    {"Yes.\n\n", "Yes."},
    {"It is a beautiful day tod", "It is a beautiful day tod"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
     "bb",
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bb"},
    {"0123456789 Twelve words or so are what an anchor is made of, and no word of it is a part of one, at its "
     "start",
     "Twelve words or so are what an anchor is made of, and no word of it is a part of one, at its start"},
};

static void an_anchor_is_the_last_whole_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(anchors) / sizeof(anchors[0]); i++) {
        struct span got = join_anchor(span_str(anchors[i].seen));
        assert_true(got.n <= JOIN_ANCHOR_MOST);
        if (i < 5)
            assert_true(span_is(got, anchors[i].anchor));
        else
            assert_true(got.n >= JOIN_ANCHOR_LEAST && span_ends(span_str(anchors[i].anchor), "") &&
                        utf8_valid(got));
    }
}

static pd_err work(void *ctx)
{
    struct buf b;
    buf_init(&b, 0);
    const size_t *i = ctx;
    pd_err e = joined(rows[*i].mode, span_str(rows[*i].seen), span_str(rows[*i].piece), 4, &b);
    buf_done(&b);
    return e;
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_true(torture(work, &i) > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_text_is_joined_or_said_to_be_none),
        cmocka_unit_test(a_text_cut_anywhere_is_whole_again_however_the_provider_goes_on),
        cmocka_unit_test(random_texts_too),
        cmocka_unit_test(another_text_behind_the_seam_is_shown_as_it_is),
        cmocka_unit_test(what_stands_before_the_last_words_counts_too),
        cmocka_unit_test(a_long_text_is_recognised_when_it_comes_again),
        cmocka_unit_test(what_does_not_belong_is_never_shown),
        cmocka_unit_test(a_restart_that_goes_another_way_is_never_shown),
        cmocka_unit_test(memory_of_what_is_no_continuation_is_bounded),
        cmocka_unit_test(an_anchor_is_the_last_whole_words),
        cmocka_unit_test(every_failed_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
