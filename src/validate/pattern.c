/* pattern.c - ECMAScript's patterns by way of PCRE2. */
#include "validate/pattern.h"

#include "base/mem.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static void *take(size_t n, void *ctx)
{
    (void)ctx;
    return mem_alloc(n);
}

static void give(void *p, void *ctx)
{
    (void)ctx;
    mem_free(p);
}

static bool all_ascii(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] & 0x80)
            return false;
    return true;
}

/* Is what follows a backslash the same to both? Spaces, words and their edges are, as long as the text is ASCII. */
static bool same_escape(char c, bool ascii)
{
    if (c == 's' || c == 'S')
        return ascii;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return strchr("dDwWbBnrtfux", c) != NULL;
    return !(c & 0x80);
}

/* Groups: (?: (?= (?! (?<. PCRE2 has many more. */
static bool same_group(struct span rest)
{
    if (span_starts(rest, "(*"))
        return false;
    return !span_starts(rest, "(?") || (rest.n > 2 && strchr(":=!<", rest.p[2]) && rest.p[2]);
}

static bool same_meaning(struct span p, bool ascii)
{
    if (memchr(p.p, '\0', p.n) || span_has(p, "[:") || span_has(p, "[.") || span_has(p, "[=") || span_has(p, "{,"))
        return false;
    for (size_t i = 0; i < p.n; i++) {
        if (p.p[i] == '(' && !same_group(span_from(p, i)))
            return false;
        if (p.p[i] != '\\')
            continue;
        if (++i == p.n || !same_escape(p.p[i], ascii))
            return false;
    }
    return true;
}

struct tools {
    pcre2_general_context *general;
    pcre2_compile_context *compile;
    pcre2_match_context *match;
    pcre2_match_data *data;
    pcre2_code *code;
};

static void tools_done(struct tools *t)
{
    pcre2_code_free(t->code);
    pcre2_match_data_free(t->data);
    pcre2_match_context_free(t->match);
    pcre2_compile_context_free(t->compile);
    pcre2_general_context_free(t->general);
}

static pd_err tools_init(struct tools *t)
{
    *t = (struct tools){.general = pcre2_general_context_create(take, give, NULL)};
    if (!t->general)
        return PD_NOMEM;
    t->compile = pcre2_compile_context_create(t->general);
    t->match = pcre2_match_context_create(t->general);
    t->data = pcre2_match_data_create(1, t->general);
    if (!t->compile || !t->match || !t->data)
        return PD_NOMEM;
    pcre2_set_newline(t->compile, PCRE2_NEWLINE_ANYCRLF);
    pcre2_set_compile_extra_options(t->compile, PCRE2_EXTRA_ALT_BSUX);
    pcre2_set_match_limit(t->match, PATTERN_STEPS_MAX);
    return PD_OK;
}

static pd_err compile(struct tools *t, struct span pattern)
{
    const uint32_t options = PCRE2_UTF | PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_DOLLAR_ENDONLY |
                             PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_POSSESS;
    int code;
    size_t at;
    t->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, options, &code, &at, t->compile);
    return !t->code && code == PCRE2_ERROR_HEAP_FAILED ? PD_NOMEM : PD_OK;
}

static pd_err run(struct tools *t, struct span text, enum pattern_answer *ret)
{
    int n = pcre2_match(t->code, (PCRE2_SPTR)text.p, text.n, 0, 0, t->data, t->match);
    if (n == PCRE2_ERROR_NOMEMORY)
        return PD_NOMEM;
    *ret = n >= 0 ? PATTERN_YES : n == PCRE2_ERROR_NOMATCH ? PATTERN_NO : PATTERN_CANNOT_TELL;
    return PD_OK;
}

pd_err pattern_match(struct span pattern, struct span text, enum pattern_answer *ret)
{
    struct tools t;
    *ret = PATTERN_CANNOT_TELL;
    if (text.n == 0)
        text = SPAN_LIT("");
    if (pattern.n == 0) {
        *ret = PATTERN_YES;
        return PD_OK;
    }
    if (pattern.n > PATTERN_BYTES_MAX || text.n > PATTERN_TEXT_MAX || !same_meaning(pattern, all_ascii(text)))
        return PD_OK;
    pd_err e = tools_init(&t);
    if (!e)
        e = compile(&t, pattern);
    if (!e && t.code)
        e = run(&t, text, ret);
    tools_done(&t);
    return e;
}
