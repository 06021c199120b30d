#include "conf/conf_priv.h"

#include <stdio.h>

bool conf_is_kind(struct conf_reader *r, const struct node *n, enum node_kind kind, const char *what)
{
    if (n->kind == kind)
        return true;
    static const char *const as_in[] = {
        [NODE_SCALAR] = "a single value",
        [NODE_LIST] = "a list, as in [a, b]",
        [NODE_MAP] = "a mapping, as in {name: value}",
    };
    if (n->kind == NODE_NULL)
        conf_error(r, n->line, "%s is empty: write %s", what, as_in[kind]);
    else
        conf_error(r, n->line, "%s is a %s: write %s", what, node_kind_name(n->kind), as_in[kind]);
    return false;
}

/* ---- ${VARIABLES} -------------------------------------------------------------- */

struct expansion {
    struct conf_reader *r;
    const struct node *n;
    const char *what;
    struct buf out;
    const char *variable;
    pd_err err;
};

static bool variable_name(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i && c >= '0' && c <= '9'))
            return false;
    }
    return s.n > 0;
}

/* What stands between "${" and "}". False: it was said what is wrong with it. */
static bool expand_one(struct expansion *x, struct span inside)
{
    struct span fallback = inside;
    struct span name = span_cut(&fallback, ':');
    bool has_fallback = fallback.p != NULL;
    if (!variable_name(name) || (has_fallback && !span_starts(fallback, "-"))) {
        conf_error(x->r, x->n->line,
                   "%s: a variable is written ${NAME} or ${NAME:-default}; for a plain ${ write $${", x->what);
        return false;
    }
    const char *variable = arena_strndup(&x->r->scratch, name.p, name.n);
    if (!variable) {
        x->err = PD_NOMEM;
        return false;
    }
    const char *value = x->r->env(x->r->env_ctx, variable);
    if (has_fallback && (!value || !*value)) {
        x->err = buf_add(&x->out, span_from(fallback, 1));
        return !x->err;
    }
    if (!value) {
        conf_error(x->r, x->n->line, "%s: the environment variable %s is not set: set it, or write ${%s:-default}",
                   x->what, variable, variable);
        return false;
    }
    if (*value && !x->variable)
        x->variable = variable;
    x->err = buf_puts(&x->out, value);
    return !x->err;
}

static bool expand(struct expansion *x)
{
    struct span s = x->n->text;
    while (s.n) {
        const char *dollar = memchr(s.p, '$', s.n);
        size_t plain = dollar ? (size_t)(dollar - s.p) : s.n;
        if ((x->err = buf_add(&x->out, span_upto(s, plain))))
            return false;
        s = span_from(s, plain);
        if (span_starts(s, "$${")) {
            x->err = buf_puts(&x->out, "${");
            s = span_from(s, 3);
        } else if (span_starts(s, "${")) {
            const char *end = memchr(s.p, '}', s.n);
            size_t n = end ? (size_t)(end - s.p) : 0;
            if (!end || memmem(s.p + 2, n - 2, "${", 2)) {
                conf_error(x->r, x->n->line,
                           end ? "%s: a ${...} cannot stand within another" : "%s: a ${ is not closed by a }",
                           x->what);
                return false;
            }
            if (!expand_one(x, span_of(s.p + 2, n - 2)))
                return false;
            s = span_from(s, n + 1);
        } else if (s.n) {
            x->err = buf_puts(&x->out, "$");
            s = span_from(s, 1);
        }
        if (x->err)
            return false;
    }
    return true;
}

static bool has_control(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return true;
    return false;
}

/* A value's text may hold variables; null is the empty text. */
bool conf_text(struct conf_reader *r, const struct node *n, const char *what, struct conf_value *ret)
{
    *ret = (struct conf_value){SPAN_LIT(""), NULL};
    if (n->kind == NODE_NULL)
        return true;
    if (!conf_is_kind(r, n, NODE_SCALAR, what))
        return false;
    struct expansion x = {.r = r, .n = n, .what = what};
    buf_init(&x.out, CONF_FILE_MAX);
    bool fine = expand(&x);
    struct span text = buf_size(&x.out) ? span_trim(buf_span(&x.out)) : SPAN_LIT("");
    const char *copy = fine ? arena_strndup(&r->scratch, text.p, text.n) : NULL;
    buf_done(&x.out);
    if (x.err == PD_TOOBIG)
        conf_error(r, n->line, "%s: longer than %d bytes with its variables filled in", what, CONF_FILE_MAX);
    else if (x.err || (fine && !copy))
        r->nomem = true;
    if (!copy)
        return false;
    text.p = copy;
    if (has_control(text)) {
        conf_error(r, n->line, "%s has a line break or another control character in it: write it on one line",
                   what);
        return false;
    }
    *ret = (struct conf_value){text, x.variable};
    return true;
}

bool conf_word(struct conf_reader *r, const struct node *n, const char *what, const char **ret)
{
    struct conf_value v;
    if (!conf_text(r, n, what, &v))
        return false;
    if (v.text.n == 0) {
        conf_error(r, n->line, "%s is empty: write a value or remove the line", what);
        return false;
    }
    const char *copy = conf_copy(r, v.text);
    if (!copy)
        return false;
    *ret = copy;
    return true;
}

bool conf_bool(struct conf_reader *r, const struct node *n, const char *what, bool *ret)
{
    struct conf_value v;
    if (!conf_text(r, n, what, &v))
        return false;
    if (span_iis(v.text, "true") || span_iis(v.text, "yes") || span_iis(v.text, "on"))
        *ret = true;
    else if (span_iis(v.text, "false") || span_iis(v.text, "no") || span_iis(v.text, "off"))
        *ret = false;
    else {
        conf_error(r, n->line, "%s is \"%.*s\": write true or false", what, SPAN_FMT(n->text));
        return false;
    }
    return true;
}

bool conf_count(struct conf_reader *r, const struct node *n, const char *what, uint64_t most, uint64_t *ret)
{
    struct conf_value v;
    uint64_t count;
    if (!conf_text(r, n, what, &v))
        return false;
    if (!span_u64(v.text, &count) || count > most) {
        conf_error(r, n->line, "%s is \"%.*s\": write a whole number from 0 to %llu", what, SPAN_FMT(n->text),
                   (unsigned long long)most);
        return false;
    }
    *ret = count;
    return true;
}

bool conf_words(struct conf_reader *r, const struct node *n, const char *what, const char ***ret,
                unsigned *ret_count)
{
    struct entry one = {.value = (struct node *)n};
    bool list = n->kind == NODE_LIST;
    const char **words = conf_take(r, list ? n->entries : 1, sizeof(*words));
    if (!words)
        return false;
    unsigned count = 0;
    bool fine = true;
    for (const struct entry *e = list ? n->first : &one; e; e = e->next) {
        if (!conf_word(r, e->value, what, &words[count])) {
            fine = false;
            continue;
        }
        for (unsigned i = 0; i < count; i++)
            if (strcmp(words[i], words[count]) == 0) {
                conf_error(r, e->value->line, "%s has \"%.*s\" twice", what, SPAN_FMT(e->value->text));
                fine = false;
            }
        count++;
    }
    if (!fine)
        return false;
    *ret = words;
    *ret_count = count;
    return true;
}

bool conf_name_fine(struct conf_reader *r, unsigned line, const char *what, struct span name)
{
    bool fine = name.n > 0 && name.n <= CONF_NAME_MAX;
    for (size_t i = 0; i < name.n && fine; i++) {
        char c = name.p[i];
        fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
               c == '-' || c == '_';
    }
    if (!fine)
        conf_error(r, line, "%s \"%.*s\": a name is 1 to %d letters, digits, '.', '-' and '_'", what,
                   SPAN_FMT(span_upto(name, CONF_NAME_MAX)), CONF_NAME_MAX);
    return fine;
}

/* ---- mappings ------------------------------------------------------------------- */

enum { WORDS_MAX = 128 };

/* The right place for a setting that stands in the wrong one; NULL: it is no setting. */
static const char *setting_elsewhere(struct span key)
{
    const struct setting_row *row = setting_find(key);
    if (!row)
        return NULL;
    return row->where == SETTING_SERVER ? "it stands at the top level of the file"
                                        : "it stands under `resilience:`";
}

static void say_unknown(struct conf_reader *r, const struct node *key, const char *what,
                        const struct conf_field *fields, unsigned fields_count, const struct conf_scope *scope)
{
    const char *words[WORDS_MAX];
    unsigned count = 0;
    for (unsigned i = 0; i < fields_count && count < WORDS_MAX; i++)
        words[count++] = fields[i].name;
    for (unsigned i = 0; scope && i < setting_rows_count && count < WORDS_MAX; i++)
        if (setting_rows[i].where == scope->where)
            words[count++] = setting_rows[i].name;

    const char *in = *what ? what : "a config";
    const char *elsewhere = setting_elsewhere(key->text);
    const char *near = nearest_word(key->text, words, count);
    if (elsewhere)
        conf_error(r, key->line, "\"%.*s\" does not belong in %s: %s", SPAN_FMT(key->text), in, elsewhere);
    else if (span_is(key->text, "<<"))
        conf_error(r, key->line, "%s: merging with << is not supported: write the entries out", in);
    else if (near)
        conf_error(r, key->line, "\"%.*s\" is not known in %s: did you mean \"%s\"?", SPAN_FMT(key->text), in,
                   near);
    else {
        char known[400] = "";
        size_t n = 0;
        for (unsigned i = 0; i < count && n < sizeof(known); i++)
            n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", words[i]);
        conf_error(r, key->line, "\"%.*s\" is not known in %s: remove it; known are %s",
                   SPAN_FMT(span_upto(key->text, CONF_NAME_MAX)), in, known);
    }
}

static void read_setting(struct conf_reader *r, struct conf_scope *scope, const struct setting_row *row,
                         const struct node *value, const char *what)
{
    struct conf_value v;
    char why[120];
    uint64_t bit = UINT64_C(1) << (row - setting_rows);
    if (scope->given & bit)
        conf_error(r, value->line, "%s is given twice, in `resilience:` and beside it: remove one", what);
    if (!conf_text(r, value, what, &v))
        return;
    if (setting_parse(row, v.text, setting_at(scope->settings, row), why, sizeof(why)))
        conf_error(r, value->line, "%s is \"%.*s\": %s", what, SPAN_FMT(value->text), why);
    scope->given |= bit;
}

bool conf_repeated(struct conf_reader *r, const struct node *map, const struct entry *e, const char *what)
{
    for (const struct entry *before = map->first; before != e; before = before->next)
        if (span_eq(before->key->text, e->key->text)) {
            conf_error(r, e->key->line, "%s stands here a second time, first on line %u: remove one", what,
                       before->key->line);
            return true;
        }
    return false;
}

void conf_map(struct conf_reader *r, const struct node *n, const char *what, const struct conf_field *fields,
              unsigned fields_count, struct conf_scope *scope, void *into)
{
    if (n->kind == NODE_NULL || !conf_is_kind(r, n, NODE_MAP, *what ? what : "the file"))
        return;
    for (const struct entry *e = n->first; e; e = e->next) {
        char path[CONF_PATH_MAX];
        snprintf(path, sizeof(path), "%s%s%.*s", what, *what ? "." : "",
                 SPAN_FMT(span_upto(e->key->text, CONF_NAME_MAX)));
        if (conf_repeated(r, n, e, path))
            continue;
        const struct conf_field *field = NULL;
        for (unsigned i = 0; i < fields_count && !field; i++)
            if (span_is(e->key->text, fields[i].name))
                field = &fields[i];
        const struct setting_row *row = scope ? setting_find(e->key->text) : NULL;
        if (field)
            field->read(r, into, e->value, path);
        else if (row && row->where == scope->where)
            read_setting(r, scope, row, e->value, path);
        else
            say_unknown(r, e->key, what, fields, fields_count, scope);
    }
}

static uint64_t bit_of(const char *name)
{
    return UINT64_C(1) << (setting_find(span_str(name)) - setting_rows);
}

static void check_order(struct conf_reader *r, const struct conf_scope *s, unsigned line, const char *what,
                        const char *small, const char *large)
{
    const struct setting_row *a = setting_find(span_str(small)), *b = setting_find(span_str(large));
    uint64_t low = setting_of(s->settings, a), high = setting_of(s->settings, b);
    char low_text[32], high_text[32];
    if (low <= high || !(s->given & (bit_of(small) | bit_of(large))))
        return;
    conf_warn(r, line, "%s: %s (%s) is longer than %s (%s), which wins", what, small,
              setting_format(a, low, low_text, sizeof(low_text)), large,
              setting_format(b, high, high_text, sizeof(high_text)));
}

void conf_check_sense(struct conf_reader *r, const struct conf_scope *scope, unsigned line, const char *what)
{
    uint64_t factor = scope->settings->throttle_factor;
    if (factor > 0 && factor <= 1000000 && (scope->given & bit_of("throttle_factor")))
        conf_error(r, line,
                   "%s: throttle_factor would find every answer slow: write a number above 1, or 0 for off", what);
    check_order(r, scope, line, what, "backoff", "backoff_max");
    check_order(r, scope, line, what, "breaker_hold", "breaker_hold_max");
    check_order(r, scope, line, what, "first_token_timeout", "call_timeout");
    check_order(r, scope, line, what, "connect_timeout", "call_timeout");
    check_order(r, scope, line, what, "stall", "call_timeout");
    const struct settings *s = scope->settings;
    if (s->keepalive == 0 && s->hold > 0 && (scope->given & (bit_of("keepalive") | bit_of("hold"))))
        conf_warn(r, line,
                  "%s: without keepalive a streaming client hears nothing while its call is on hold, and gives up "
                  "when its own timeout is over: set keepalive, or hold: 0",
                  what);
}
