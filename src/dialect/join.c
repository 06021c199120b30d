/* Where a new answer goes on from the text that was seen already. */
#include "dialect/join.h"

#include "base/mem.h"
#include "parse/put.h"
#include "parse/utf8.h"

enum {
    ECHO_LEAST = 12,    /* bytes of an end that was repeated: fewer can be the text itself going on */
    ECHO_MOST = 4096,   /* an echo that is longer is one of the whole text */
    START_LEAST = 16,   /* bytes after which a beginning is taken for the same beginning */
    SHORT_LEAST = 4,    /* the same where the whole text is short, if it is half of that */
    FRAGMENT_LEAST = 2, /* letters of a broken word that are recognised when the word comes again */
    FRAGMENT_MOST = 64,
};

/* Undoes the escapes of a JSON string that comes in pieces, cut anywhere. */
struct unescape {
    char escape[6]; /* of an escape that is not whole yet */
    unsigned n;
    uint32_t high; /* the first half of a surrogate pair; 0: none waits */
};

struct join {
    enum join_mode mode;
    enum join_state state;
    struct unescape un;
    char *seen;
    size_t seen_n, given;
    struct buf held; /* plain: what came and was not handed on */
    struct buf out;  /* escaped: what is handed on */
    size_t first;    /* where the text begins, behind white space */

    /* PREFILL: how far the new text, without white space before it, is a repetition from each of these places of the text on */
    size_t
        *starts; /* in order; those that still match. The first is the text's beginning while that one matches */
    unsigned starts_count;
    size_t lead, checked;   /* white space before the new text; bytes behind it that were compared */
    size_t echo;            /* the longest echo that was found: so many bytes; 0: none */
    size_t from_beginning;  /* so many bytes are those of the text's beginning */
    size_t line, from_line; /* where the last line starts, and how many bytes are that line's beginning's */
    size_t behind; /* JOINED: so much of the white space that was not given may come again: it is dropped */
};

/* ---- characters ------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_word(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_';
}

static bool is_inside_character(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* A letter of more than one byte with upper and lower case: Latin, Greek, Cyrillic. Scripts without spaces have other bytes. */
static bool is_wide_letter(char c)
{
    return ((unsigned char)c >= 0xc3 && (unsigned char)c <= 0xd4) || is_inside_character(c);
}

/* A word, or a character of a script without spaces, starts here. */
static bool starts_word(struct span s, size_t at)
{
    if (at == 0)
        return true;
    char before = s.p[at - 1], c = s.p[at];
    bool inside = is_word(before) && is_word(c);
    bool wide =
        (is_wide_letter(before) && (is_word(c) || is_wide_letter(c))) || (is_word(before) && is_wide_letter(c));
    return !inside && !is_inside_character(c) && !(wide && !((unsigned char)c >= 0xe0) && is_wide_letter(c)) &&
           !(is_wide_letter(before) && is_word(c));
}

size_t join_givable(struct span seen)
{
    size_t n = seen.n;
    while (n && is_space(seen.p[n - 1]))
        n--;
    return n;
}

struct span join_anchor(struct span seen)
{
    struct span s = span_upto(seen, join_givable(seen));
    size_t least = s.n > JOIN_ANCHOR_MOST ? s.n - JOIN_ANCHOR_MOST : 0;
    size_t at = least;
    while (at < s.n && (is_space(s.p[at]) || !starts_word(s, at)))
        at++;
    if (s.n - at >= JOIN_ANCHOR_LEAST)
        return span_from(s, at);
    at = least; /* one long word: from a character on */
    while (at < s.n && is_inside_character(s.p[at]))
        at++;
    return span_from(s, at);
}

/* ---- escapes --------------------------------------------------------------------------- */

static pd_err put_code(struct buf *b, uint32_t c)
{
    char s[4];
    size_t n = 0;
    if (c < 0x80) {
        s[n++] = (char)c;
    } else if (c < 0x800) {
        s[n++] = (char)(0xc0 | c >> 6);
        s[n++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        s[n++] = (char)(0xe0 | c >> 12);
        s[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        s[n++] = (char)(0x80 | (c & 0x3f));
    } else {
        s[n++] = (char)(0xf0 | c >> 18);
        s[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        s[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        s[n++] = (char)(0x80 | (c & 0x3f));
    }
    return buf_add(b, span_of(s, n));
}

enum { REPLACEMENT = 0xfffd };

/* A surrogate that stays alone. */
static pd_err settle_high(struct unescape *u, struct buf *b)
{
    pd_err e = u->high ? put_code(b, REPLACEMENT) : PD_OK;
    u->high = 0;
    return e;
}

static uint32_t hex_of(const char *p)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : UINT32_MAX;
        if (digit == UINT32_MAX)
            return REPLACEMENT;
        v = v << 4 | digit;
    }
    return v;
}

static pd_err put_unit(struct unescape *u, struct buf *b, uint32_t c)
{
    if (u->high && c >= 0xdc00 && c <= 0xdfff) {
        uint32_t whole = 0x10000 + ((u->high - 0xd800) << 10) + (c - 0xdc00);
        u->high = 0;
        return put_code(b, whole);
    }
    pd_err e = settle_high(u, b);
    if (e)
        return e;
    if (c >= 0xd800 && c <= 0xdbff) {
        u->high = c;
        return PD_OK;
    }
    return put_code(b, c >= 0xdc00 && c <= 0xdfff ? REPLACEMENT : c);
}

/* One whole escape. */
static pd_err put_escape(struct unescape *u, struct buf *b)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    char c = u->escape[1];
    if (c == 'u')
        return put_unit(u, b, hex_of(u->escape + 2));
    pd_err e = settle_high(u, b);
    const char *known = c ? strchr(from, c) : NULL;
    return e ? e : put_code(b, known ? (uint32_t)(unsigned char)to[known - from] : (uint32_t)(unsigned char)c);
}

static pd_err unescape(struct unescape *u, struct span piece, struct buf *b)
{
    pd_err e = PD_OK;
    for (size_t i = 0; i < piece.n && !e;) {
        if (u->n == 0 && piece.p[i] != '\\') {
            const char *slash = memchr(piece.p + i, '\\', piece.n - i);
            size_t n = slash ? (size_t)(slash - piece.p) - i : piece.n - i;
            e = settle_high(u, b);
            if (!e)
                e = buf_add(b, span_of(piece.p + i, n));
            i += n;
            continue;
        }
        u->escape[u->n++] = piece.p[i++];
        if (u->n >= 2 && (u->escape[1] != 'u' || u->n == sizeof(u->escape))) {
            e = put_escape(u, b);
            u->n = 0;
        }
    }
    return e;
}

/* ---- prefill: echoes ------------------------------------------------------------------- */

static struct span seen_of(const struct join *j)
{
    return span_of(j->seen, j->seen_n);
}

/* The places from which on the text could be repeated: its beginning and the words near its end. */
static pd_err find_starts(struct join *j)
{
    struct span given = span_upto(seen_of(j), j->given);
    size_t from = given.n > ECHO_MOST ? given.n - ECHO_MOST : 0;
    j->starts = mem_alloc((given.n - from + 1) * sizeof(*j->starts));
    if (!j->starts)
        return PD_NOMEM;
    while (j->first < given.n && is_space(given.p[j->first]))
        j->first++;
    size_t first = j->first;
    if (first < given.n)
        j->starts[j->starts_count++] = first;
    for (size_t at = from > first ? from : first + 1; at < given.n; at++)
        if (!is_space(given.p[at]) && starts_word(given, at))
            j->starts[j->starts_count++] = at;
    j->line = given.n;
    while (j->line && given.p[j->line - 1] != '\n')
        j->line--;
    while (j->line < given.n && is_space(given.p[j->line]))
        j->line++;
    return PD_OK;
}

/* It is one piece over and over, or stands in the text a second time just before: then the text going on looks the same as an echo. */
static bool is_repetitive(const struct join *j, size_t start, size_t n)
{
    const char *x = j->seen + start;
    for (size_t period = 1; period <= n / 2 && n <= ECHO_MOST; period++)
        if (memcmp(x, x + period, n - period) == 0)
            return true;
    size_t before = join_givable(span_of(j->seen, start));
    return before >= n && memcmp(j->seen + before - n, x, n) == 0;
}

static bool all_letters(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_letter(s.p[i]) && !is_wide_letter(s.p[i]))
            return false;
    return s.n > 0;
}

/* Is a repetition of the text from `start` to its end one, or could it be the text going on? */
static bool counts_as_echo(const struct join *j, size_t start, bool whole)
{
    size_t n = j->given - start;
    if (whole && all_letters(span_of(j->seen + start, n)))
        return true;
    if (n < (whole ? (size_t)SHORT_LEAST : (size_t)ECHO_LEAST))
        return false;
    return !is_repetitive(j, start, n);
}

/* Compares what came anew with all places that still match. */
static void compare(struct join *j, struct span text)
{
    for (; j->checked < text.n && j->starts_count; j->checked++) {
        char c = text.p[j->checked];
        unsigned kept = 0;
        for (unsigned i = 0; i < j->starts_count; i++) {
            size_t start = j->starts[i];
            if (j->seen[start + j->checked] != c)
                continue;
            size_t n = j->checked + 1;
            bool whole = start == j->first;
            if (whole)
                j->from_beginning = n;
            if (start == j->line)
                j->from_line = n;
            if (start + n < j->given)
                j->starts[kept++] = start;
            else if (counts_as_echo(j, start, whole))
                j->echo = n;
        }
        j->starts_count = kept;
    }
}

/* The letters that the text breaks off in: 0 when it does not break off inside a word. */
static size_t fragment(const struct join *j)
{
    if (j->given != j->seen_n)
        return 0;
    size_t at = j->given;
    while (at && (is_letter(j->seen[at - 1]) || is_wide_letter(j->seen[at - 1])))
        at--;
    size_t n = j->given - at;
    bool word = at == 0 || (!is_word(j->seen[at - 1]) && (unsigned char)j->seen[at - 1] < 0x80);
    return word && n >= FRAGMENT_LEAST && n <= FRAGMENT_MOST ? n : 0;
}

/* The word that broke off comes again, and goes on: so many bytes were seen. *ret_more: cannot be told yet. */
static size_t word_again(const struct join *j, struct span text, bool over, bool *ret_more)
{
    size_t n = fragment(j);
    *ret_more = false;
    if (n == 0 || j->lead)
        return 0;
    size_t common = n < text.n ? n : text.n;
    if (memcmp(j->seen + j->given - n, text.p, common) != 0)
        return 0;
    *ret_more = text.n <= n && !over;
    return text.n > n && (is_letter(text.p[n]) || is_wide_letter(text.p[n])) ? n : 0;
}

static bool is_beginning(const struct join *j)
{
    size_t n = j->from_beginning;
    return n >= START_LEAST || (n >= SHORT_LEAST && 2 * n >= j->given - j->first);
}

/* The text broke off inside a line that is written once more, in other words. */
static bool is_line_again(const struct join *j)
{
    return j->given == j->seen_n && j->line > 0 && j->from_line >= START_LEAST;
}

/* All of the text came, and it is a sign or two or one piece over and over: nobody can tell whether it is repeated or gone on with. */
static bool is_riddle(const struct join *j)
{
    return j->given && j->from_beginning >= j->given - j->first && !j->echo;
}

static enum join_state look_prefill(struct join *j, struct span text, bool over, size_t *ret_seam)
{
    while (j->lead < text.n && is_space(text.p[j->lead]) && j->checked == 0)
        j->lead++;
    struct span rest = span_from(text, j->lead);
    if (!rest.n && !over && j->lead < JOIN_WINDOW)
        return JOIN_LOOKING;
    compare(j, rest);
    if (j->starts_count && rest.n && !over)
        return JOIN_LOOKING;
    if (j->echo) {
        *ret_seam = j->lead + j->echo;
        return JOIN_JOINED;
    }
    bool more;
    size_t word = word_again(j, rest, over, &more);
    if (more)
        return JOIN_LOOKING;
    *ret_seam = word;
    return is_riddle(j) || is_beginning(j) || is_line_again(j) ? JOIN_FAILED : JOIN_JOINED;
}

/* ---- anchor ---------------------------------------------------------------------------- */

enum matching { MATCH_NO, MATCH_MORE, MATCH_YES };

/* Does the anchor stand there? Runs of white space equal each other. *ret_end: where it ends. */
static enum matching match_anchor(struct span anchor, struct span text, size_t at, size_t *ret_end)
{
    size_t i = 0;
    while (i < anchor.n) {
        if (at >= text.n)
            return MATCH_MORE;
        if (is_space(anchor.p[i]) && is_space(text.p[at])) {
            while (i < anchor.n && is_space(anchor.p[i]))
                i++;
            while (at < text.n && is_space(text.p[at]))
                at++;
            continue;
        }
        if (anchor.p[i] != text.p[at])
            return MATCH_NO;
        i++;
        at++;
    }
    *ret_end = at;
    return MATCH_YES;
}

static size_t fences_in(struct span s)
{
    size_t n = 0;
    for (size_t i = 0; i + 3 <= s.n; i++)
        if (memcmp(s.p + i, "```", 3) == 0 && (i == 0 || s.p[i - 1] == '\n')) {
            n++;
            i += 2;
        }
    return n;
}

/* Nothing but marks around a quotation: quotes, dots, dashes, a code fence with its language, white space. */
static bool only_marks(struct span s)
{
    if (fences_in(s)) {
        struct span line = s;
        while (line.n && is_space(line.p[0]))
            line = span_from(line, 1);
        return span_starts(line, "```") && memchr(line.p, '\n', line.n) != NULL;
    }
    for (size_t i = 0; i < s.n; i++)
        if (is_word(s.p[i]))
            return false;
    return true;
}

/* The anchor was set in quotes of the answer's own, or in a code fence that the text has not: what ends there is not the text. */
static bool is_wrapped(const struct join *j, struct span text, size_t at, size_t end)
{
    static const char *const pairs[] = {"\"\"", "''", "``", "\xe2\x80\x9c\xe2\x80\x9d", "\xc2\xab\xc2\xbb"};
    struct span before = span_upto(text, at), behind = span_from(text, end);
    struct span anchor = join_anchor(seen_of(j));
    struct span own = span_of(j->seen, (size_t)(anchor.p - j->seen));
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        size_t n = strlen(pairs[i]) / 2;
        bool opens = before.n >= n && memcmp(before.p + before.n - n, pairs[i], n) == 0;
        bool closes = behind.n >= n && memcmp(behind.p, pairs[i] + n, n) == 0;
        bool had = own.n >= n && memcmp(own.p + own.n - n, pairs[i], n) == 0;
        if (opens && closes && !had)
            return true;
    }
    return fences_in(before) % 2 && fences_in(own) % 2 == 0;
}

/* A whole repetition from the beginning counts, too; compared byte for byte. */
static enum matching match_whole(struct join *j, struct span text)
{
    size_t n = text.n < j->given ? text.n : j->given;
    while (j->from_beginning < n && j->seen[j->from_beginning] == text.p[j->from_beginning])
        j->from_beginning++;
    if (j->from_beginning == j->given)
        return MATCH_YES;
    return j->from_beginning == text.n ? MATCH_MORE : MATCH_NO;
}

/* Fewer words than were asked for, at the very start: the anchor's own end. 0: not so. */
static size_t starts_with_end(const struct join *j, struct span anchor, struct span text)
{
    size_t lead = 0, end;
    while (lead < text.n && is_space(text.p[lead]))
        lead++;
    for (size_t at = 1; at + JOIN_ANCHOR_LEAST <= anchor.n; at++) {
        struct span words = span_from(anchor, at);
        if (is_space(anchor.p[at]) || !starts_word(anchor, at) ||
            is_repetitive(j, (size_t)(words.p - j->seen), words.n))
            continue;
        if (match_anchor(words, text, lead, &end) == MATCH_YES)
            return end;
    }
    return 0;
}

enum { QUOTE_MOST = 3 }; /* bytes behind an anchor that tell whether it was quoted */

static enum join_state look_anchor(struct join *j, struct span text, bool over, size_t *ret_seam)
{
    struct span anchor = join_anchor(seen_of(j));
    enum matching whole = match_whole(j, text);
    if (whole == MATCH_YES) {
        *ret_seam = j->given;
        return JOIN_JOINED;
    }
    if (whole == MATCH_MORE && !over)
        return JOIN_LOOKING;
    size_t end, most = text.n < JOIN_WINDOW ? text.n : JOIN_WINDOW;
    for (size_t at = 0; at < most; at++) {
        enum matching m = match_anchor(anchor, text, at, &end);
        if (m == MATCH_MORE && !over)
            return JOIN_LOOKING;
        if (m != MATCH_YES || (at && is_word(text.p[at - 1]) && is_word(text.p[at])))
            continue;
        /* What was repeated from the beginning and then went another way proves nothing inside of that. */
        if (is_beginning(j) && end <= j->from_beginning && (at || j->from_beginning > anchor.n + START_LEAST))
            continue;
        if (anchor.n < JOIN_ANCHOR_LEAST && !only_marks(span_upto(text, at)))
            continue; /* so few bytes stand in many a text */
        if (at && text.n - end < QUOTE_MOST && !over)
            return JOIN_LOOKING;
        *ret_seam = end;
        return is_wrapped(j, text, at, end) ? JOIN_FAILED : JOIN_JOINED;
    }
    *ret_seam = starts_with_end(j, anchor, text);
    if (*ret_seam)
        return JOIN_JOINED;
    return over || text.n >= JOIN_WINDOW ? JOIN_FAILED : JOIN_LOOKING;
}

/* ---- repeat ---------------------------------------------------------------------------- */

static enum join_state look_repeat(struct join *j, struct span text, bool over, size_t *ret_seam)
{
    size_t n = text.n < j->seen_n ? text.n : j->seen_n;
    if (memcmp(j->seen + j->checked, text.p + j->checked, n - j->checked) != 0)
        return JOIN_FAILED;
    j->checked = n;
    *ret_seam = j->seen_n;
    if (n == j->seen_n)
        return JOIN_JOINED;
    return over ? JOIN_FAILED : JOIN_LOOKING;
}

/* ---- the joiner ------------------------------------------------------------------------ */

struct join *join_new(enum join_mode mode, struct span seen, size_t given)
{
    struct join *j = mem_zalloc(sizeof(*j));
    if (!j)
        return NULL;
    buf_init(&j->held, 0);
    buf_init(&j->out, 0);
    j->mode = mode;
    j->seen = mem_alloc(seen.n ? seen.n : 1);
    if (!j->seen)
        return join_free(j);
    if (seen.n)
        memcpy(j->seen, seen.p, seen.n);
    j->seen_n = seen.n;
    size_t most = join_givable(seen);
    j->given = mode == JOIN_ANCHOR || given > most ? most : given;
    if (j->mode == JOIN_PREFILL && find_starts(j))
        return join_free(j);
    j->behind = mode == JOIN_REPEAT ? j->seen_n : j->given;
    return j;
}

struct join *join_free(struct join *j)
{
    if (!j)
        return NULL;
    buf_done(&j->held);
    buf_done(&j->out);
    mem_free(j->starts);
    mem_free(j->seen);
    mem_free(j);
    return NULL;
}

/* The only place that writes j->state. */
static void look(struct join *j, bool over)
{
    struct span text = buf_span(&j->held);
    size_t seam = 0;
    switch (j->mode) {
    case JOIN_PREFILL:
        j->state = look_prefill(j, text, over, &seam);
        break;
    case JOIN_ANCHOR:
        j->state = look_anchor(j, text, over, &seam);
        break;
    case JOIN_REPEAT:
        j->state = look_repeat(j, text, over, &seam);
        break;
    }
    if (j->state == JOIN_JOINED)
        buf_take(&j->held, seam);
}

/* Joined: the white space that was seen and not given is not shown again. */
static void drop_space(struct join *j)
{
    struct span text = buf_span(&j->held);
    size_t n = 0;
    while (n < text.n && j->behind < j->seen_n && text.p[n] == j->seen[j->behind]) {
        n++;
        j->behind++;
    }
    if (n < text.n)
        j->behind = j->seen_n;
    buf_take(&j->held, n);
}

/* Whole characters of what is held go out. */
static pd_err hand_on(struct join *j, bool over)
{
    drop_space(j);
    struct span text = buf_span(&j->held);
    size_t n = over ? text.n : utf8_whole(text);
    struct put p = put_into(&j->out);
    put_json_inner(&p, span_upto(text, n));
    if (p.err)
        return p.err;
    buf_take(&j->held, n);
    return PD_OK;
}

static pd_err go_on(struct join *j, bool over, enum join_state *ret_state, struct span *ret)
{
    if (j->state == JOIN_LOOKING)
        look(j, over);
    pd_err e = j->state == JOIN_JOINED ? hand_on(j, over) : PD_OK;
    if (j->state == JOIN_FAILED)
        buf_clear(&j->held);
    if (e)
        return e;
    *ret_state = j->state;
    *ret = buf_span(&j->out);
    return PD_OK;
}

pd_err join_feed(struct join *j, struct span piece, enum join_state *ret_state, struct span *ret)
{
    buf_clear(&j->out);
    pd_err e = j->state == JOIN_FAILED ? PD_OK : unescape(&j->un, piece, &j->held);
    return e ? e : go_on(j, false, ret_state, ret);
}

pd_err join_end(struct join *j, enum join_state *ret_state, struct span *ret)
{
    buf_clear(&j->out);
    j->un.n = 0;
    pd_err e = settle_high(&j->un, &j->held);
    return e ? e : go_on(j, true, ret_state, ret);
}
