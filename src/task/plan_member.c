/* Members of tasks: what may stand where, how it is written, and the JSON it becomes. */
#include "conf/conf.h"
#include "parse/json.h"
#include "parse/nearest.h"
#include "task/plan_priv.h"

#include <stdarg.h>
#include <stdio.h>

enum { LLM = 1 << TASK_LLM, COMMAND = 1 << TASK_COMMAND, AGENT = 1 << TASK_AGENT, MEMBERS_MAX = 40 };

/* clang-format off */
const struct member plan_members[] = {
    /* name             want            of kinds        in defaults  least   most */
    {"id",              WANT_TEXT,      0,              false, NULL,   NULL},
    {"kind",            WANT_KIND,      0,              false, NULL,   NULL},
    {"needs",           WANT_NEEDS,     0,              false, NULL,   NULL},
    {"prompt",          WANT_TEXT,      LLM,            false, NULL,   NULL},
    {"system",          WANT_TEXT,      LLM,            true,  NULL,   NULL},
    {"model",           WANT_TEXT,      LLM | AGENT,    true,  NULL,   NULL},
    {"max_tokens",      WANT_COUNT,     LLM,            true,  "1",    "10000000"},
    {"temperature",     WANT_NUMBER,    LLM,            true,  "0",    "2"},
    {"schema",          WANT_SCHEMA,    0,              false, NULL,   NULL},
    {"write",           WANT_WRITE,     0,              false, NULL,   NULL},
    {"command",         WANT_PROGRAM,   COMMAND,        false, NULL,   NULL},
    {"agent",           WANT_PROGRAM,   AGENT,          false, NULL,   NULL},
    {"stdin",           WANT_TEXT_ANY,  COMMAND,        false, NULL,   NULL},
    {"env",             WANT_ENV,       COMMAND | AGENT, true, NULL,   NULL},
    {"cwd",             WANT_TEXT,      COMMAND | AGENT, true, NULL,   NULL},
    {"stall",           WANT_DURATION,  AGENT,          true,  "1s",   "7d"},
    {"stall_ms",        WANT_MS,        AGENT,          false, "0",    "604800000"},
    {"checks",          WANT_CHECKS,    0,              false, NULL,   NULL},
    {"idempotency_key", WANT_TEXT,      0,              false, NULL,   NULL},
    {"resolve",         WANT_PROGRAM,   0,              false, NULL,   NULL},
    {"risky",           WANT_BOOL,      0,              true,  NULL,   NULL},
    {"review",          WANT_BOOL,      0,              true,  NULL,   NULL},
    {"retries",         WANT_COUNT,     0,              true,  "0",    "100"},
    {"timeout",         WANT_DURATION,  0,              true,  "10ms", "7d"},
    {"backoff",         WANT_DURATION,  0,              true,  "0s",   "1h"},
    {"timeout_ms",      WANT_MS,        0,              false, "0",    "604800000"},
    {"backoff_ms",      WANT_MS,        0,              false, "0",    "3600000"},
};
/* clang-format on */
const unsigned plan_members_count = sizeof(plan_members) / sizeof(plan_members[0]);

const struct member *plan_member_of(struct span name)
{
    for (unsigned i = 0; i < plan_members_count; i++)
        if (span_is(name, plan_members[i].name))
            return &plan_members[i];
    return NULL;
}

bool plan_say(struct plan_reader *r, unsigned line, const char *fmt, ...)
{
    if (r->err)
        return false;
    r->err = PD_INVALID;
    int n = line ? snprintf(r->why, PLAN_WHY_BYTES, "%.200s line %u: ", r->name, line)
                 : snprintf(r->why, PLAN_WHY_BYTES, "%.200s: ", r->name);
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->why + n, (size_t)(PLAN_WHY_BYTES - n), fmt, args);
    va_end(args);
    for (char *p = r->why; *p; p++) /* one line, whatever the plan's names hold */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return false;
}

bool plan_nomem(struct plan_reader *r)
{
    r->err = PD_NOMEM;
    return false;
}

const struct node *plan_get(const struct node *map, const char *name)
{
    for (const struct entry *e = map ? map->first : NULL; e; e = e->next)
        if (e->key && span_is(e->key->text, name))
            return e->value;
    return NULL;
}

bool plan_names_fine(struct plan_reader *r, const struct node *map, const char *what, const char *const *words,
                     unsigned count)
{
    for (const struct entry *e = map->first; e; e = e->next) {
        bool known = false;
        for (unsigned i = 0; i < count && !known; i++)
            known = span_is(e->key->text, words[i]);
        if (!known) {
            char hint[120];
            return plan_say(r, e->key->line, "%s has no member \"%.*s\"%s", what,
                            SPAN_FMT(plan_short(e->key->text)),
                            nearest_hint(e->key->text, words, count, hint, sizeof(hint)));
        }
        for (const struct entry *before = map->first; before != e; before = before->next)
            if (span_eq(before->key->text, e->key->text))
                return plan_say(r, e->key->line, "%s has \"%.*s\" twice, first in line %u: remove one", what,
                                SPAN_FMT(plan_short(e->key->text)), before->key->line);
    }
    return true;
}

/* ---- values --------------------------------------------------------------------------- */

static bool looks_like_number(struct span s)
{
    return s.n && (s.p[0] == '-' || (s.p[0] >= '0' && s.p[0] <= '9')) && json_check(s) == PD_OK;
}

void plan_put_node(struct put *out, const struct node *n)
{
    if (n->kind == NODE_NULL) {
        put_text(out, "null");
    } else if (n->kind == NODE_SCALAR) {
        bool plain =
            !n->quoted && (span_is(n->text, "true") || span_is(n->text, "false") || looks_like_number(n->text));
        if (plain)
            put_span(out, n->text);
        else
            put_json(out, n->text);
    } else {
        put_text(out, n->kind == NODE_MAP ? "{" : "[");
        for (const struct entry *e = n->first; e; e = e->next) {
            put_text(out, e == n->first ? "" : ",");
            if (e->key) {
                put_json(out, e->key->text);
                put_text(out, ":");
            }
            plan_put_node(out, e->value);
        }
        put_text(out, n->kind == NODE_MAP ? "}" : "]");
    }
}

static bool is_text(struct plan_reader *r, const struct node *n, const char *what, bool may_be_empty)
{
    if (n->kind != NODE_SCALAR)
        return plan_say(r, n->line, "%s is a %s: write a text", what, node_kind_name(n->kind));
    if (memchr(n->text.p, 0, n->text.n))
        return plan_say(r, n->line, "%s has a NUL byte: remove it", what);
    return may_be_empty || span_trim(n->text).n ? true : plan_say(r, n->line, "%s is empty: write a text", what);
}

static bool put_text_value(struct plan_reader *r, const struct node *n, const char *what, bool may_be_empty,
                           struct put *out)
{
    if (!is_text(r, n, what, may_be_empty))
        return false;
    put_json(out, n->text);
    return true;
}

static bool put_texts(struct plan_reader *r, const struct node *n, const char *what, bool one_is_a_list,
                      struct put *out)
{
    if (n->kind == NODE_SCALAR) {
        put_text(out, one_is_a_list ? "[" : "");
        if (!put_text_value(r, n, what, false, out))
            return false;
        put_text(out, one_is_a_list ? "]" : "");
        return true;
    }
    if (n->kind != NODE_LIST || !n->first)
        return plan_say(r, n->line, "%s is %s: write a text, or a list of them", what,
                        n->kind == NODE_LIST  ? "an empty list"
                        : n->kind == NODE_MAP ? "a mapping"
                                              : "nothing");
    put_text(out, "[");
    for (const struct entry *e = n->first; e; e = e->next) {
        put_text(out, e == n->first ? "" : ",");
        if (!put_text_value(r, e->value, what, e != n->first, out))
            return false;
    }
    put_text(out, "]");
    return true;
}

bool plan_duration(struct plan_reader *r, const struct node *n, const char *what, const char *least,
                   const char *most, uint64_t *ret)
{
    char why[200];
    const struct setting_row row = {
        .name = what, .dflt = least, .least = least, .most = most, .type = SETTING_DURATION};
    if (!is_text(r, n, what, false))
        return false;
    if (setting_parse(&row, n->text, ret, why, sizeof(why)) != PD_OK)
        return plan_say(r, n->line, "%s is \"%.*s\": %s", what, SPAN_FMT(plan_short(n->text)), why);
    return true;
}

bool plan_count(struct plan_reader *r, const struct node *n, const char *what, uint64_t least, uint64_t most,
                uint64_t *ret)
{
    if (n->kind == NODE_SCALAR && span_u64(n->text, ret) && *ret >= least && *ret <= most)
        return true;
    return plan_say(r, n->line, "%s is \"%.*s\": write a whole number from %llu to %llu", what,
                    SPAN_FMT(plan_short(n->text)), (unsigned long long)least, (unsigned long long)most);
}

bool plan_bool(struct plan_reader *r, const struct node *n, const char *what, bool *ret)
{
    *ret = n->kind == NODE_SCALAR && span_is(n->text, "true");
    if (*ret || (n->kind == NODE_SCALAR && span_is(n->text, "false")))
        return true;
    return plan_say(r, n->line, "%s is \"%.*s\": write true or false", what, SPAN_FMT(plan_short(n->text)));
}

bool plan_dollars(struct span text, uint64_t *ret)
{
    enum { DECIMALS = 12, WHOLE_MAX = 1000000 };
    uint64_t part = 0, whole = 0;
    struct span decimals = text, head = span_cut(&decimals, '.');
    if ((head.n && !span_u64(head, &whole)) || (!head.n && !decimals.n) || whole > WHOLE_MAX)
        return false;
    if (decimals.p && (decimals.n == 0 || !span_u64(span_upto(decimals, DECIMALS), &part)))
        return false;
    for (size_t i = 0; decimals.p && i < decimals.n; i++) /* what is under a picodollar is left out */
        if (decimals.p[i] < '0' || decimals.p[i] > '9')
            return false;
    for (size_t i = decimals.n; i < DECIMALS && decimals.p; i++)
        part *= 10;
    *ret = whole * 1000000000000u + part;
    return true;
}

static bool put_number(struct plan_reader *r, const struct member *m, const struct node *n, const char *what,
                       struct put *out)
{
    double v = 0, least = 0, most = 0;
    (void)json_f64((struct json){JSON_NUMBER, span_str(m->least)}, &least);
    (void)json_f64((struct json){JSON_NUMBER, span_str(m->most)}, &most);
    bool fine = n->kind == NODE_SCALAR && looks_like_number(n->text) &&
                json_f64((struct json){JSON_NUMBER, n->text}, &v) && v >= least && v <= most;
    if (!fine)
        return plan_say(r, n->line, "%s is \"%.*s\": write a number from %s to %s", what,
                        SPAN_FMT(plan_short(n->text)), m->least, m->most);
    put_span(out, n->text);
    return true;
}

static bool put_env(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    if (n->kind != NODE_MAP)
        return plan_say(r, n->line, "%s is a %s: write a mapping, as in {NAME: value}", what,
                        node_kind_name(n->kind));
    put_text(out, "{");
    for (const struct entry *e = n->first; e; e = e->next) {
        struct span name = e->key->text;
        if (!name.n || memchr(name.p, '=', name.n) || memchr(name.p, 0, name.n))
            return plan_say(r, e->key->line, "%s: \"%.*s\" is no name of a variable", what,
                            SPAN_FMT(plan_short(name)));
        put_text(out, e == n->first ? "" : ",");
        put_json(out, name);
        put_text(out, ":");
        if (!put_text_value(r, e->value, what, true, out))
            return false;
    }
    put_text(out, "}");
    return true;
}

/* One file and its hash: the one that stands there, else as the file is now. */
static bool put_pin(struct plan_reader *r, const struct node *path, const struct node *hash, const char *what,
                    struct put *out)
{
    char hex[65] = "";
    if (!is_text(r, path, what, false) || (hash && !is_text(r, hash, what, false)))
        return false;
    if (hash && hash->text.n != 64)
        return plan_say(r, hash->line, "%s: the hash of %.*s is no SHA-256 in hex: leave it out", what,
                        SPAN_FMT(plan_short(path->text)));
    pd_err e = hash || !r->files ? PD_OK : r->files->hash(r->files->ctx, path->text.p, hex);
    if (e == PD_NOMEM)
        return plan_nomem(r);
    if (e)
        return plan_say(r, path->line, "%s: %.*s cannot be read: %s", what, SPAN_FMT(plan_short(path->text)),
                        pd_err_text(e));
    put_json(out, path->text);
    put_text(out, ":");
    put_json(out, hash ? hash->text : span_str(hex));
    return true;
}

static bool put_pins(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    if (n->kind != NODE_MAP && !r->files)
        return put_texts(r, n, what, true, out); /* without hashes: a check that cannot be made */
    put_text(out, "{");
    if (n->kind == NODE_SCALAR && !put_pin(r, n, NULL, what, out))
        return false;
    for (const struct entry *e = n->first; e; e = e->next) {
        put_text(out, e == n->first ? "" : ",");
        if (!put_pin(r, e->key ? e->key : e->value, e->key ? e->value : NULL, what, out))
            return false;
    }
    put_text(out, "}");
    return true;
}

static bool put_schema_file(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    struct span text = SPAN_NONE;
    if (!r->files)
        return plan_say(r, n->line, "%s is the name of a file, and none is read here: write the schema itself",
                        what);
    pd_err e = r->files->read(r->files->ctx, n->text.p, &r->scratch, &text);
    if (e == PD_NOMEM)
        return plan_nomem(r);
    if (e)
        return plan_say(r, n->line, "%s: %.*s cannot be read: %s", what, SPAN_FMT(plan_short(n->text)),
                        pd_err_text(e));
    struct json v;
    if (json_check(text) != PD_OK || json_first(text, &v, NULL) != PD_OK ||
        (v.type != JSON_OBJECT && v.type != JSON_BOOL))
        return plan_say(r, n->line, "%s: %.*s is no JSON Schema: an object is expected", what,
                        SPAN_FMT(plan_short(n->text)));
    put_one_line(out, v.raw);
    return true;
}

static bool put_schema(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    if (n->kind == NODE_SCALAR && (n->quoted || (!span_is(n->text, "true") && !span_is(n->text, "false"))))
        return put_schema_file(r, n, what, out);
    if (n->kind != NODE_MAP && n->kind != NODE_SCALAR)
        return plan_say(r, n->line, "%s is a %s: write a JSON Schema, or the name of a file with one", what,
                        node_kind_name(n->kind));
    plan_put_node(out, n);
    return true;
}

/* What a model's plan writes stays where the run works. */
static bool path_fine(struct plan_reader *r, const struct node *n, const char *what)
{
    if (!r->of)
        return true;
    struct span rest = n->text;
    bool fine = !span_starts(rest, "/") && !span_has(rest, "${"); /* nor is it an answer that says where */
    while (fine && rest.p)
        fine = !span_is(span_cut(&rest, '/'), "..");
    return fine ? true
                : plan_say(r, n->line, "%s is \"%.*s\": write a path below the working folder", what,
                           SPAN_FMT(plan_short(n->text)));
}

static bool put_write(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    static const char *const words[] = {"path", "from"};
    if (n->kind == NODE_SCALAR) {
        put_text(out, "{\"path\":");
        bool fine = put_text_value(r, n, what, false, out) && path_fine(r, n, what);
        put_text(out, "}");
        return fine;
    }
    if (n->kind != NODE_MAP)
        return plan_say(r, n->line, "%s is a %s: write {path: FILE, from: MEMBER}", what, node_kind_name(n->kind));
    const struct node *path = plan_get(n, "path"), *from = plan_get(n, "from");
    if (!plan_names_fine(r, n, what, words, 2))
        return false;
    if (!path)
        return plan_say(r, n->line, "%s has no path: write {path: FILE, from: MEMBER}", what);
    put_text(out, "{\"path\":");
    if (!put_text_value(r, path, what, false, out) || !path_fine(r, path, what))
        return false;
    put_text(out, from ? ",\"from\":" : "");
    if (from && !put_text_value(r, from, what, false, out))
        return false;
    put_text(out, "}");
    return true;
}

static bool put_kind(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    const char *names[TASK_KIND_COUNT];
    for (unsigned i = 0; i < TASK_KIND_COUNT; i++) {
        names[i] = task_kind_name((enum task_kind)i);
        if (n->kind == NODE_SCALAR && span_is(n->text, names[i])) {
            put_json(out, n->text);
            return true;
        }
    }
    char hint[120];
    return plan_say(r, n->line, "%s is \"%.*s\": write llm, command or agent%s", what,
                    SPAN_FMT(plan_short(n->text)),
                    nearest_hint(n->text, names, TASK_KIND_COUNT, hint, sizeof(hint)));
}

/* ---- checks ---------------------------------------------------------------------------- */

struct check_member {
    const char *of, *name;
    enum member_want want;
};
static const struct check_member check_members[] = {
    {"command", "command", WANT_PROGRAM}, {"command", "pin", WANT_PINS},     {"command", "timeout", WANT_DURATION},
    {"command", "cwd", WANT_TEXT},        {"file", "file", WANT_TEXT},       {"file", "exists", WANT_BOOL},
    {"file", "contains", WANT_TEXT},      {"file", "matches", WANT_TEXT},    {"file", "sha256", WANT_TEXT},
    {"command", "timeout_ms", WANT_MS},   {"output", "output", WANT_OUTPUT}, {NULL, "name", WANT_TEXT},
};
static const struct check_member output_members[] = {
    {"output", "member", WANT_TEXT},  {"output", "contains", WANT_TEXT}, {"output", "matches", WANT_TEXT},
    {"output", "equals", WANT_NEEDS}, {"output", "schema", WANT_SCHEMA},
};
enum {
    CHECK_MEMBERS = sizeof(check_members) / sizeof(check_members[0]),
    OUTPUT_MEMBERS = sizeof(output_members) / sizeof(output_members[0]),
};

/* The members of a mapping by one of the tables above, those of `of` alone. */
static bool put_by_table(struct plan_reader *r, const struct node *n, const char *what, const char *of,
                         const struct check_member *rows, unsigned count, struct put *out)
{
    const char *words[MEMBERS_MAX];
    unsigned words_count = 0;
    for (unsigned i = 0; i < count; i++)
        if (!rows[i].of || strcmp(rows[i].of, of) == 0)
            words[words_count++] = rows[i].name;
    if (!plan_names_fine(r, n, what, words, words_count))
        return false;
    put_text(out, "{");
    bool any = false;
    for (unsigned i = 0; i < count; i++) {
        const struct node *v = plan_get(n, rows[i].name);
        char inner[200];
        struct buf one = {0};
        struct put p = put_into(&one);
        if (!v)
            continue;
        snprintf(inner, sizeof(inner), "%s: %s", what, rows[i].name);
        if (rows[i].want == WANT_NEEDS) { /* any value */
            put_printf(&p, ",\"%s\":", rows[i].name);
            plan_put_node(&p, v);
        } else {
            const struct member m = {.name = rows[i].name,
                                     .want = rows[i].want,
                                     .least = rows[i].want == WANT_MS ? "10" : "10ms",
                                     .most = rows[i].want == WANT_MS ? "604800000" : "7d"};
            if (!plan_put_member(r, &m, v, inner, &p)) {
                buf_done(&one);
                return false;
            }
        }
        put_span(out, span_from(buf_span(&one), any ? 0 : 1));
        if (p.err)
            out->err = p.err;
        buf_done(&one);
        any = true;
    }
    put_text(out, "}");
    return true;
}

static bool put_check(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    static const char *const kinds[] = {"command", "file", "output"};
    const char *of = NULL;
    if (n->kind != NODE_MAP)
        return plan_say(r, n->line, "%s: a check is a %s: write {command: ...}, {file: ...} or {output: ...}",
                        what, node_kind_name(n->kind));
    for (unsigned i = 0; i < 3; i++) {
        if (!plan_get(n, kinds[i]))
            continue;
        if (of)
            return plan_say(r, n->line, "%s: one check has both %s and %s: make two of it", what, of, kinds[i]);
        of = kinds[i];
    }
    if (of)
        return put_by_table(r, n, what, of, check_members, CHECK_MEMBERS, out);
    char hint[120] = "";
    if (n->first)
        nearest_hint(n->first->key->text, kinds, 3, hint, sizeof(hint));
    return plan_say(r, n->line, "%s: a check has no command, file or output: write one of them%s", what, hint);
}

static bool put_checks(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    put_text(out, "[");
    if (n->kind == NODE_SCALAR && span_is(n->text, "none")) {
        put_text(out, "]");
        return true;
    }
    if (n->kind == NODE_MAP) {
        if (!put_check(r, n, what, out))
            return false;
    } else if (n->kind != NODE_LIST) {
        return plan_say(r, n->line, "%s is a %s: write a list of checks, or none", what, node_kind_name(n->kind));
    } else if (n->entries > PLAN_CHECKS_MAX) {
        return plan_say(r, n->line, "%s: more than %d", what, PLAN_CHECKS_MAX);
    }
    for (const struct entry *e = n->kind == NODE_LIST ? n->first : NULL; e; e = e->next) {
        put_text(out, e == n->first ? "" : ",");
        if (!put_check(r, e->value, what, out))
            return false;
    }
    put_text(out, "]");
    return true;
}

static bool put_output(struct plan_reader *r, const struct node *n, const char *what, struct put *out)
{
    if (n->kind != NODE_MAP || !n->first)
        return plan_say(r, n->line,
                        "%s is a %s: write {matches: PATTERN}, {contains: TEXT}, {equals: VALUE} or {schema: ...}",
                        what, node_kind_name(n->kind));
    return put_by_table(r, n, what, "output", output_members, OUTPUT_MEMBERS, out);
}

/* ---- one member ------------------------------------------------------------------------- */

bool plan_put_member(struct plan_reader *r, const struct member *m, const struct node *n, const char *what,
                     struct put *out)
{
    uint64_t v = 0, least = 0, most = 0;
    bool b = false;
    put_printf(out, ",\"%s%s\":", m->name, m->want == WANT_DURATION ? "_ms" : "");
    switch (m->want) {
    case WANT_TEXT:
        return put_text_value(r, n, what, false, out);
    case WANT_TEXT_ANY:
        return put_text_value(r, n, what, true, out);
    case WANT_PROGRAM:
        if (r->no_programs)
            return plan_say(r, n->line, "%s is a program, which the planner may not make", what);
        return put_texts(r, n, what, false, out);
    case WANT_TEXTS:
    case WANT_NEEDS:
        return put_texts(r, n, what, true, out);
    case WANT_DURATION:
        if (!plan_duration(r, n, what, m->least, m->most, &v))
            return false;
        put_uint(out, v);
        return true;
    case WANT_PINS:
        return put_pins(r, n, what, out);
    case WANT_MS:
    case WANT_COUNT:
        if (!span_u64(span_str(m->least), &least) || !span_u64(span_str(m->most), &most) ||
            !plan_count(r, n, what, least, most, &v))
            return false;
        put_uint(out, v);
        return true;
    case WANT_NUMBER:
        return put_number(r, m, n, what, out);
    case WANT_BOOL:
        if (!plan_bool(r, n, what, &b))
            return false;
        put_text(out, b ? "true" : "false");
        return true;
    case WANT_ENV:
        return put_env(r, n, what, out);
    case WANT_SCHEMA:
        return put_schema(r, n, what, out);
    case WANT_WRITE:
        return put_write(r, n, what, out);
    case WANT_CHECKS:
        return put_checks(r, n, what, out);
    case WANT_OUTPUT:
        return put_output(r, n, what, out);
    case WANT_KIND:
        return put_kind(r, n, what, out);
    }
    return false;
}
