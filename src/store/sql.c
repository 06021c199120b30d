#include "store/sql.h"

/* What is being read, and for whom. */
struct expand {
    struct span in;
    size_t at;
    bool postgres;
    struct buf *out;
    unsigned args;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A quoted text or a comment that begins here: its length; 0: none does; SIZE_MAX: it has no end. */
static size_t quoted(struct span s)
{
    const char *end = NULL;
    if (s.p[0] == '\'' || s.p[0] == '"') {
        end =
            memchr(s.p + 1, s.p[0], s.n - 1); /* a doubled quote is two texts beside each other: the same for us */
        return end ? (size_t)(end + 1 - s.p) : SIZE_MAX;
    }
    if (span_starts(s, "--")) {
        end = memchr(s.p, '\n', s.n);
        return end ? (size_t)(end + 1 - s.p) : s.n;
    }
    if (span_starts(s, "/*")) {
        end = memmem(s.p + 2, s.n - 2, "*/", 2);
        return end ? (size_t)(end + 2 - s.p) : SIZE_MAX;
    }
    return 0;
}

static pd_err argument(struct expand *x, bool keep)
{
    size_t end = x->at + 1;
    unsigned n = 0;
    while (end < x->in.n && is_digit(x->in.p[end]) && n <= SQL_ARGS_MAX)
        n = n * 10 + (unsigned)(x->in.p[end++] - '0');
    if (n == 0 || n > SQL_ARGS_MAX)
        return PD_SYNTAX;
    pd_err e = PD_OK;
    if (keep) {
        x->args = n > x->args ? n : x->args;
        e = buf_puts(x->out, x->postgres ? "$" : "?");
        e = e ? e : buf_add(x->out, span_of(x->in.p + x->at + 1, end - x->at - 1));
    }
    x->at = end;
    return e;
}

/* Copies, or passes over, until the end or the closing brace. */
static pd_err run_to(struct expand *x, bool in_braces, bool keep);

static pd_err braces(struct expand *x)
{
    struct span rest = span_from(x->in, x->at + 1);
    bool pg = span_starts(rest, "pg:"), lite = span_starts(rest, "lite:");
    if (!pg && !lite)
        return PD_SYNTAX;
    x->at += 1 + (pg ? 3 : 5);
    pd_err e = run_to(x, true, pg == x->postgres);
    if (!e)
        x->at++; /* the closing one */
    return e;
}

static pd_err run_to(struct expand *x, bool in_braces, bool keep)
{
    while (x->at < x->in.n) {
        struct span rest = span_from(x->in, x->at);
        char c = rest.p[0];
        if (c == '}')
            return in_braces ? PD_OK : PD_SYNTAX;
        pd_err e = PD_OK;
        size_t n = quoted(rest);
        if (n == SIZE_MAX || (c == '{' && in_braces))
            return PD_SYNTAX;
        if (c == '{') {
            e = braces(x);
        } else if (c == '$' && rest.n > 1 && is_digit(rest.p[1])) {
            e = argument(x, keep);
        } else {
            n = n ? n : 1;
            e = keep ? buf_add(x->out, span_upto(rest, n)) : PD_OK;
            x->at += n;
        }
        if (e)
            return e;
    }
    return in_braces ? PD_SYNTAX : PD_OK;
}

pd_err sql_expand(const char *sql, bool postgres, struct buf *out, unsigned *ret_args)
{
    struct expand x = {.in = span_str(sql), .postgres = postgres, .out = out};
    if (x.in.n > SQL_BYTES_MAX)
        return PD_TOOBIG;
    pd_err e = run_to(&x, false, true);
    e = e ? e : buf_add(out, span_of("", 1));
    if (!e)
        *ret_args = x.args;
    return e;
}
