#include "task/shell.h"

enum { NESTED_MAX = 32 };

/* What is being read. */
struct reader {
    struct span text;
    size_t at;
    struct span mark;         /* of a here-document that begins with the next line */
    bool quoted;              /* the mark is */
    unsigned depth;           /* of $( and ( */
    bool doubled[NESTED_MAX]; /* within double quotes, on each */
};

static char here(const struct reader *r)
{
    return r->at < r->text.n ? r->text.p[r->at] : '\0';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Past the closing one. False: it is open. */
static bool skip_single(struct reader *r)
{
    const char *end = memchr(r->text.p + r->at, '\'', r->text.n - r->at);
    r->at = end ? (size_t)(end - r->text.p) + 1 : r->text.n;
    return end != NULL;
}

/* Behind "<<": the mark, with its quotes left out. */
static void read_mark(struct reader *r)
{
    if (here(r) == '<') { /* "<<<" is a text */
        r->at++;
        return;
    }
    r->at += here(r) == '-';
    while (is_blank(here(r)))
        r->at++;
    char q = here(r);
    r->quoted = q == '\'' || q == '"' || q == '\\';
    r->at += r->quoted;
    size_t from = r->at;
    while (r->at < r->text.n && !strchr(r->quoted && q != '\\' ? "'\"\n" : " \t\n;&|<>()", here(r)))
        r->at++;
    r->mark = span_of(r->text.p + from, r->at - from);
    r->at += r->quoted && q != '\\' && here(r) == q;
}

static struct span without_tabs(struct span line)
{
    while (line.n && line.p[0] == '\t')
        line = span_from(line, 1);
    return line;
}

/* Behind a line with a mark: past the here-document. False: it goes on. */
static bool skip_here(struct reader *r)
{
    struct span rest = span_from(r->text, r->at), line;
    while (rest.p && rest.n) {
        line = span_cut(&rest, '\n');
        bool whole = rest.p != NULL;
        if (whole && span_eq(without_tabs(line), r->mark)) {
            r->at = (size_t)(rest.p - r->text.p);
            r->mark = SPAN_NONE;
            return true;
        }
    }
    r->at = r->text.n;
    return false;
}

static void open_parenthesis(struct reader *r)
{
    if (r->depth + 1 < NESTED_MAX)
        r->doubled[++r->depth] = false;
}

/* One byte, or what it begins, outside of double quotes. False: the text ends within it. */
static bool read_plain(struct reader *r, bool word_begins, enum shell_place *ret)
{
    char c = r->text.p[r->at++];
    if (c == '\\') {
        r->at++;
    } else if (c == '"') {
        r->doubled[r->depth] = true;
    } else if (c == '(') {
        open_parenthesis(r);
    } else if (c == ')') {
        r->depth -= r->depth > 0;
    } else if (c == '\'') {
        *ret = SHELL_SINGLE;
        return skip_single(r);
    } else if (c == '#' && word_begins) {
        while (r->at < r->text.n && here(r) != '\n')
            r->at++;
    } else if (c == '<' && here(r) == '<') {
        r->at++;
        read_mark(r);
    } else if (c == '\n' && r->mark.p) {
        *ret = r->quoted ? SHELL_AS_IS : SHELL_EXPANDS;
        return skip_here(r);
    }
    return true;
}

static void read_doubled(struct reader *r)
{
    char c = r->text.p[r->at++];
    if (c == '\\') {
        r->at++;
    } else if (c == '"') {
        r->doubled[r->depth] = false;
    } else if (c == '$' && here(r) == '(') {
        r->at++;
        open_parenthesis(r);
    }
}

enum shell_place shell_place(struct span text, struct span *ret_mark)
{
    struct reader r = {.text = text};
    enum shell_place place = SHELL_EXPANDS;
    *ret_mark = SPAN_NONE;
    while (r.at < text.n) {
        bool word_begins = r.at == 0 || strchr(" \t\n;&|()", text.p[r.at - 1]);
        if (r.doubled[r.depth]) {
            read_doubled(&r);
        } else if (!read_plain(&r, word_begins, &place)) {
            *ret_mark = r.mark;
            return place;
        }
    }
    return SHELL_EXPANDS;
}

bool shell_ends_here(struct span value, struct span mark)
{
    while (value.p && value.n)
        if (span_eq(without_tabs(span_cut(&value, '\n')), mark))
            return true;
    return false;
}
