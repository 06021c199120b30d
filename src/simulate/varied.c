#include "simulate/varied.h"

#include <stdio.h>

/* Two, three and four bytes a character, joined and combining ones, both directions, and everything that is escaped or trimmed
 * somewhere. No word contains a blank, '#' or ';'. */
static const char *const words[] = {
    "amber",
    "falcon",
    "drifts",
    "beside",
    "a",
    "river",
    "of",
    "copper",
    "engine",
    "été",
    "Straße",
    "naïve",
    "Ελλάδα",
    "слово",
    "поток",
    "日本語",
    "한국어",
    "連続した流れ",
    "العربية",
    "שלום",
    "हिन्दी",
    "🦅",
    "👩‍🚀",
    "🇪🇺",
    "e\u0301galite\u0301",
    "\"quoted\"",
    "back\\slash",
    "C:\\path",
    "**bold**",
    "`code`",
    "_under_",
    "it's",
    "<tag>",
    "&amp",
    "{\"k\":1}",
    "line\nbreak",
    "tab\there",
    "---",
    "\\n",
    "%d",
    "$5",
    "~~",
    "|",
    "…",
    "“curly”",
    "data:",
    "🚀🔥",
    "𠮷野家",
    "𝒜ℬ",
    "😀",
    "</p>",
};
enum { WORDS = sizeof(words) / sizeof(words[0]), SUM_LETTERS = 8, FIXED_MAX = 40 };

/* FNV-1a: a reader in any language has it in three lines. */
static uint32_t sum_of(struct span head, struct span tail)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < head.n; i++)
        h = (h ^ (unsigned char)head.p[i]) * 16777619u;
    for (size_t i = 0; i < tail.n; i++)
        h = (h ^ (unsigned char)tail.p[i]) * 16777619u;
    return h;
}

static unsigned words_of(int64_t item)
{
    return 3 + (unsigned)(item % 4);
}

/* What stands before the words of an item: what follows the item before, and the number. */
static struct span before_words(int64_t item, char out[FIXED_MAX])
{
    static const char *const between[] = {"\n\n- ", " ", "\n", "  ", " "};
    int n = snprintf(out, FIXED_MAX, "%s[%lld] ", item > 1 ? between[(item - 1) % 5] : "", (long long)item);
    return span_of(out, (size_t)n);
}

/* ---- reading ---------------------------------------------------------------- */

/* A whole item at the start of the text: its length; 0: it is not whole, or wrong. */
static size_t item_at(struct span text, int64_t item)
{
    char fixed[FIXED_MAX], sum[SUM_LETTERS + 4];
    struct span before = before_words(item, fixed);
    if (text.n < before.n || memcmp(text.p, before.p, before.n) != 0)
        return 0;
    struct span rest = span_from(text, before.n);
    const char *end = rest.n ? memmem(rest.p, rest.n, " #", 2) : NULL;
    if (!end)
        return 0;
    struct span body = span_of(rest.p, (size_t)(end - rest.p));
    int n = snprintf(sum, sizeof(sum), " #%08x;", sum_of(body, SPAN_NONE));
    rest = span_from(rest, body.n);
    unsigned blanks = 0;
    for (size_t i = 0; i < body.n; i++)
        blanks += body.p[i] == ' ';
    if (blanks + 1 != words_of(item) || rest.n < (size_t)n || memcmp(rest.p, sum, (size_t)n) != 0)
        return 0;
    return before.n + body.n + (size_t)n;
}

bool varied_whole(struct span text, int64_t items)
{
    size_t n;
    for (int64_t i = 1; i <= items; i++) {
        if (!(n = item_at(text, i)))
            return false;
        text = span_from(text, n);
    }
    return text.n == 0;
}

bool varied_line_whole(struct span text)
{
    char sum[SUM_LETTERS + 4];
    const char *end = text.n ? memmem(text.p, text.n, " #", 2) : NULL;
    struct span body = end ? span_of(text.p, (size_t)(end - text.p)) : SPAN_NONE;
    int n = snprintf(sum, sizeof(sum), " #%08x;", sum_of(body, SPAN_NONE));
    return end && text.n == body.n + (size_t)n && memcmp(end, sum, (size_t)n) == 0;
}

/* ---- writing ---------------------------------------------------------------- */

static bool has(struct span in, const char *word)
{
    return in.n && memmem(in.p, in.n, word, strlen(word));
}

/* Never one that the item has already: words that come again look like an echo, and nobody could tell. */
static const char *new_word(struct span body, struct span made, struct rnd *rnd)
{
    const char *word;
    do
        word = words[rnd_below(rnd, WORDS)];
    while (has(body, word) || has(made, word));
    return word;
}

/* What is missing of a word that broke off. A word that is whole is left so, also when a longer one begins with it. */
static const char *rest_of_word(struct span part)
{
    const char *longer = NULL;
    for (unsigned i = 0; i < WORDS; i++) {
        if (span_is(part, words[i]))
            return "";
        if (!longer && strlen(words[i]) > part.n && part.n && memcmp(words[i], part.p, part.n) == 0)
            longer = words[i];
    }
    return longer ? longer + part.n : "";
}

/* The words of an item from behind `body` on, and its checksum. */
static pd_err finish_words(struct put *out, struct span body, int64_t item, struct rnd *rnd)
{
    char sum[SUM_LETTERS + 4];
    size_t began = buf_size(out->b);
    unsigned count = 0;
    size_t last = 0;
    for (size_t i = 0; i < body.n; i++)
        if (body.p[i] == ' ') {
            count++;
            last = i + 1;
        }
    struct span part = span_from(body, last);
    if (count > words_of(item) || (count == words_of(item) && part.n))
        return PD_SYNTAX;
    bool blank = body.n > 0 && part.n == 0; /* it ends with the blank behind a word */
    if (part.n) {
        put_text(out, rest_of_word(part));
        count++;
    }
    for (; count < words_of(item); count++, blank = false) {
        struct span made = span_from(buf_span(out->b), began);
        const char *next = new_word(body, made, rnd);
        put_text(out, blank || (body.n == 0 && count == 0) ? "" : " ");
        put_text(out, next);
    }
    if (out->err != PD_OK)
        return out->err;
    struct span made = span_from(buf_span(out->b), began);
    bool trailing = blank; /* all words are there, and the blank before the checksum */
    struct span whole = trailing ? span_upto(body, body.n - 1) : body;
    snprintf(sum, sizeof(sum), "%s#%08x;", trailing ? "" : " ", sum_of(whole, made));
    put_text(out, sum);
    return out->err;
}

/* The item that broke off: `part` is what is there of it. */
static pd_err finish_item(struct put *out, struct span part, int64_t item, struct rnd *rnd)
{
    char fixed[FIXED_MAX], sum[SUM_LETTERS + 4];
    struct span before = before_words(item, fixed);
    if (!part.p)
        part = SPAN_LIT("");
    size_t there = part.n < before.n ? part.n : before.n;
    if (!span_eq(span_upto(part, there), span_upto(before, there)))
        return PD_SYNTAX;
    put_span(out, span_from(before, there));
    struct span body = span_from(part, there);
    const char *end = body.n ? memmem(body.p, body.n, " #", 2) : NULL;
    if (!end)
        return finish_words(out, body, item, rnd);
    struct span rest = span_from(body, (size_t)(end - body.p)); /* within the checksum */
    body.n = (size_t)(end - body.p);
    int n = snprintf(sum, sizeof(sum), " #%08x;", sum_of(body, SPAN_NONE));
    if (rest.n >= (size_t)n || memcmp(rest.p, sum, rest.n) != 0)
        return PD_SYNTAX;
    put_text(out, sum + rest.n);
    return out->err;
}

pd_err varied_go_on(struct put *out, struct span so_far, int64_t items, struct rnd *rnd)
{
    int64_t item = 1;
    size_t n;
    while (item <= items && so_far.n && (n = item_at(so_far, item))) {
        so_far = span_from(so_far, n);
        item++;
    }
    if (item > items)
        return so_far.n ? PD_SYNTAX : out->err;
    pd_err err = finish_item(out, so_far, item, rnd);
    while (err == PD_OK && ++item <= items)
        err = finish_item(out, SPAN_NONE, item, rnd);
    return err;
}

void varied_put_line(struct put *out, struct rnd *rnd)
{
    if (out->err == PD_OK)
        out->err = finish_words(out, SPAN_NONE, 1, rnd);
}
