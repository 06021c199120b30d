#define PCRE2_CODE_UNIT_WIDTH 8
#include "task/checks.h"

#include "base/mem.h"
#include "parse/put.h"
#include "store/content.h"
#include "task/process.h"
#include "validate/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum verdict { PASSED, FAILED, UNMADE, STOPPED };

/* One check, while it is made. */
struct checking {
    const struct checks_ask *ask;
    struct arena *arena;
    char why[CHECKS_WHY_BYTES]; /* what it says, passed or not */
    pd_err err;
};

/* ---- small things ---------------------------------------------------------------------------------------------- */

static pd_err full_path(const char *dir, const char *path, char out[4096])
{
    int n = dir && path[0] != '/' ? snprintf(out, 4096, "%s/%s", dir, path) : snprintf(out, 4096, "%s", path);
    return n < 4096 ? PD_OK : PD_TOOBIG;
}

pd_err checks_read_file(const char *dir, const char *path, size_t most, struct buf *out)
{
    char whole[4096];
    struct stat st;
    pd_err e = full_path(dir, path, whole);
    int fd = e ? -1 : open(whole, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (e)
        return e;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? PD_NOTFOUND : PD_IO;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        e = PD_IO;
    else if ((uint64_t)st.st_size > most)
        e = PD_TOOBIG;
    while (!e) {
        e = buf_reserve(out, 65536);
        ssize_t n = e ? 0 : read(fd, out->p + out->tail, 65536);
        if (n > 0)
            buf_added(out, (size_t)n);
        else if (n < 0 && errno != EINTR)
            e = PD_IO;
        else if (n == 0)
            break;
        if (!e && buf_size(out) > most)
            e = PD_TOOBIG;
    }
    close(fd);
    return e;
}

pd_err checks_hash_file(const char *dir, const char *path, char ret[65])
{
    struct buf bytes = {0};
    struct content_name name;
    pd_err e = checks_read_file(dir, path, CHECKS_FILE_MAX, &bytes);
    if (!e)
        e = content_name_of(buf_span(&bytes), &name);
    if (!e)
        memcpy(ret, name.hex, 65);
    buf_done(&bytes);
    return e;
}

static const char *string_of(struct checking *c, struct json v)
{
    struct span s;
    if (v.type != JSON_STRING)
        return NULL;
    pd_err e = json_text(v, c->arena, &s);
    const char *text = e ? NULL : arena_strndup(c->arena, s.p, s.n);
    if (!text)
        c->err = e ? e : PD_NOMEM;
    return text;
}

PD_PRINTF(3, 4) static enum verdict say(struct checking *c, enum verdict v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, sizeof(c->why), fmt, ap);
    va_end(ap);
    return v;
}

/* ---- expressions -------------------------------------------------------------------------------------------------- */

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

struct tools {
    pcre2_general_context *general;
    pcre2_compile_context *compile;
    pcre2_match_context *match;
    pcre2_match_data *data;
    pcre2_code *code;
};

static bool tools_open(struct tools *t)
{
    *t = (struct tools){.general = pcre2_general_context_create(take, give, NULL)};
    if (!t->general)
        return false;
    t->compile = pcre2_compile_context_create(t->general);
    t->match = pcre2_match_context_create(t->general);
    t->data = pcre2_match_data_create(1, t->general);
    if (t->match)
        pcre2_set_match_limit(t->match, CHECKS_MATCH_LIMIT);
    return t->compile && t->match && t->data;
}

static void tools_close(struct tools *t)
{
    pcre2_code_free(t->code);
    pcre2_match_data_free(t->data);
    pcre2_match_context_free(t->match);
    pcre2_compile_context_free(t->compile);
    pcre2_general_context_free(t->general);
}

static enum verdict match_with(struct checking *c, struct tools *t, const char *re, struct span text, bool *ret)
{
    int code;
    PCRE2_SIZE at;
    t->code = pcre2_compile((PCRE2_SPTR)re, PCRE2_ZERO_TERMINATED,
                            PCRE2_MULTILINE | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &code, &at, t->compile);
    if (!t->code && code == PCRE2_ERROR_HEAP_FAILED) {
        c->err = PD_NOMEM;
        return UNMADE;
    }
    if (!t->code) {
        char what[120] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)what, sizeof(what));
        return say(c, UNMADE, "the expression \"%.200s\" is wrong at its byte %zu: %s", re, at, what);
    }
    int found = pcre2_match(t->code, (PCRE2_SPTR)(text.p ? text.p : ""), text.n, 0, 0, t->data, t->match);
    if (found == PCRE2_ERROR_NOMEMORY)
        c->err = PD_NOMEM;
    *ret = found >= 0;
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return say(c, UNMADE, "the expression \"%.200s\" takes too long here", re);
    return PASSED;
}

static enum verdict matches(struct checking *c, struct json expression, struct span text, bool *ret)
{
    struct tools t;
    const char *re = string_of(c, expression);
    if (!re)
        return say(c, UNMADE, "an expression must be a text");
    enum verdict v = UNMADE;
    if (tools_open(&t))
        v = match_with(c, &t, re, text, ret);
    else
        c->err = PD_NOMEM;
    tools_close(&t);
    return v;
}

/* For messages. */
static const char *begin_of(struct checking *c, struct span s, size_t most)
{
    const char *text = arena_strndup(c->arena, s.p ? s.p : "", s.n < most ? s.n : most);
    if (!text)
        c->err = PD_NOMEM;
    return text ? text : "";
}

/* `contains` and `matches` of a check, on a text. */
static enum verdict look_at(struct checking *c, struct json check, struct span text, const char *what)
{
    struct json has = json_get(check, "contains"), re = json_get(check, "matches");
    const char *word = string_of(c, has);
    bool found = true;
    if (word && (word[0] == '\0' || !memmem(text.p ? text.p : "", text.n, word, strlen(word))))
        return say(c, FAILED, "%s does not contain \"%.200s\"; it begins \"%s\"", what, word,
                   begin_of(c, text, 200));
    enum verdict v = re.type == JSON_NONE ? PASSED : matches(c, re, text, &found);
    if (v != PASSED || found)
        return v;
    return say(c, FAILED, "%s does not match %s; it begins \"%s\"", what, begin_of(c, re.raw, 200),
               begin_of(c, text, 200));
}

/* ---- files ----------------------------------------------------------------------------------------------------------- */

static bool has_content_wish(struct json check)
{
    return json_get(check, "contains").type != JSON_NONE || json_get(check, "matches").type != JSON_NONE ||
           json_get(check, "sha256").type != JSON_NONE;
}

static enum verdict file_content(struct checking *c, struct json check, const char *path, struct span bytes)
{
    struct json sha = json_get(check, "sha256");
    char what[300];
    snprintf(what, sizeof(what), "the file %.250s", path);
    if (sha.type != JSON_NONE) {
        struct content_name name;
        c->err = content_name_of(bytes, &name);
        if (!c->err && !json_is(sha, name.hex))
            return say(c, FAILED, "%s has another content: its hash is %s", what, name.hex);
    }
    return c->err ? UNMADE : look_at(c, check, bytes, what);
}

static enum verdict check_file(struct checking *c, struct json check)
{
    const char *path = string_of(c, json_get(check, "file"));
    struct json exists = json_get(check, "exists");
    bool want = exists.type == JSON_NONE || json_is_true(exists);
    struct buf bytes = {0};
    char whole[4096];
    struct stat st;
    if (!path || full_path(c->ask->dir, path, whole))
        return say(c, UNMADE, "the path of a file must be a text");
    bool there = stat(whole, &st) == 0;
    if (there != want)
        return say(c, FAILED, want ? "the file %.300s is not there" : "the file %.300s is there, and must not be",
                   path);
    if (!there || !has_content_wish(check))
        return PASSED;
    pd_err e = checks_read_file(c->ask->dir, path, CHECKS_FILE_MAX, &bytes);
    c->err = e == PD_NOMEM ? e : PD_OK;
    enum verdict v = e ? say(c, UNMADE, "the file %.300s cannot be read: %s", path, pd_err_text(e))
                       : file_content(c, check, path, buf_span(&bytes));
    buf_done(&bytes);
    return v;
}

/* ---- output ----------------------------------------------------------------------------------------------------------- */

/* JSON that is spelled in another way is the same. */
static bool same_json(struct checking *c, struct json want, struct span have)
{
    struct buf schema = {0};
    bool fits = false;
    c->err = buf_printf(&schema, "{\"const\":%.*s}", SPAN_FMT(want.raw));
    if (!c->err)
        c->err = schema_check(buf_span(&schema), have, &fits, NULL, 0);
    buf_done(&schema);
    return fits;
}

static enum verdict output_equals(struct checking *c, struct json want, struct json have, struct span text)
{
    const char *as_text = string_of(c, want);
    if (as_text ? span_eq(span_trim(span_str(as_text)), span_trim(text)) : same_json(c, want, have.raw))
        return PASSED;
    return say(c, FAILED, "the output is %s and should be %s", begin_of(c, have.raw, 300),
               begin_of(c, want.raw, 300));
}

static enum verdict check_output(struct checking *c, struct json check)
{
    struct json want = json_get(check, "output"), equals = json_get(want, "equals"),
                schema = json_get(want, "schema"), have;
    struct span text;
    const char *member = string_of(c, json_get(want, "member"));
    if (json_first(c->ask->output, &have, NULL) != PD_OK)
        return say(c, FAILED, "there is no output");
    if (member && (have = json_path(have, member)).type == JSON_NONE)
        return say(c, FAILED, "the output has no member %s", member);
    text = have.raw;
    if (have.type == JSON_STRING)
        c->err = json_text(have, c->arena, &text);
    enum verdict v = c->err ? UNMADE : look_at(c, want, text, "the output");
    if (v == PASSED && equals.type != JSON_NONE)
        v = output_equals(c, equals, have, text);
    if (v == PASSED && schema.type != JSON_NONE) {
        bool fits = false;
        char why[600];
        c->err = schema_check(schema.raw, have.raw, &fits, why, sizeof(why));
        if (!fits)
            v = say(c, FAILED, "the output does not fit the schema: %s", why);
    }
    return v;
}

/* ---- commands --------------------------------------------------------------------------------------------------------- */

/* The deciding files are what they were when the plan was read. */
static enum verdict check_pins(struct checking *c, struct json pins)
{
    struct json_walk w;
    struct json hash;
    struct span key;
    if (pins.type != JSON_NONE && pins.type != JSON_OBJECT)
        return say(c, UNMADE, "its pinned files have no hashes: they are made when `perdure run` reads the plan");
    json_walk_init(&w, pins);
    while (json_walk_next(&w, &key, &hash)) {
        char now[65];
        struct buf quoted = {0};
        c->err = buf_printf(&quoted, "\"%.*s\"", SPAN_FMT(key));
        const char *path = c->err ? NULL : string_of(c, (struct json){JSON_STRING, buf_span(&quoted)});
        pd_err e = path ? checks_hash_file(c->ask->root, path, now) : PD_NOMEM;
        buf_done(&quoted);
        if (e == PD_NOMEM)
            c->err = e;
        if (e)
            return say(c, FAILED, "the pinned file %.300s cannot be read any more: %s", path ? path : "",
                       pd_err_text(e));
        if (!json_is(hash, now))
            return say(c, FAILED, "the pinned file %.300s was changed", path);
    }
    return PASSED;
}

static const char *const *argv_of(struct checking *c, struct json command)
{
    unsigned n = 0;
    struct json_walk w;
    struct json word;
    if (command.type == JSON_STRING) {
        const char **argv = arena_zalloc(c->arena, 4 * sizeof(*argv));
        if (argv) {
            argv[0] = "sh";
            argv[1] = "-c";
            argv[2] = string_of(c, command);
        } else {
            c->err = PD_NOMEM;
        }
        return argv && argv[2] ? argv : NULL;
    }
    json_walk_init(&w, command);
    while (json_walk_next(&w, NULL, &word))
        n++;
    const char **argv = n ? arena_zalloc(c->arena, (n + 1) * sizeof(*argv)) : NULL;
    if (n && !argv)
        c->err = PD_NOMEM;
    json_walk_init(&w, command);
    for (unsigned i = 0; argv && i < n && json_walk_next(&w, NULL, &word); i++)
        if (!(argv[i] = string_of(c, word)))
            return NULL;
    return argv;
}

static enum verdict command_ended(struct checking *c, struct json check, struct process *p)
{
    struct process_result r = process_result(p);
    struct buf said = {0};
    c->err = process_output(p, PROCESS_STDOUT, &said);
    if (!c->err)
        c->err = process_output(p, PROCESS_STDERR, &said);
    struct span tail = span_trim(buf_span(&said));
    tail = span_from(tail, tail.n > 600 ? tail.n - 600 : 0);
    enum verdict v = r.how == PROCESS_EXITED && r.status == 0 ? PASSED : FAILED;
    if (r.how == PROCESS_LOST)
        v = say(c, UNMADE, "its process was lost");
    else if (r.how == PROCESS_SIGNALLED)
        say(c, v, "it was ended by signal %d: %.*s", r.status, SPAN_FMT(tail));
    else if (v == PASSED)
        say(c, v, "%.*s", SPAN_FMT(tail));
    else
        say(c, v, "it ended with status %d: %.*s", r.status, SPAN_FMT(tail));
    buf_done(&said);
    return v;
}

static enum verdict check_command(struct checking *c, struct json check)
{
    struct json dir = json_get(check, "cwd");
    int64_t timeout;
    uint64_t limit_ms = CHECKS_TIMEOUT_DEFAULT_MS;
    struct process *p = NULL;
    char why[PROCESS_WHY_BYTES], where[4096];
    enum verdict v = check_pins(c, json_get(check, "pin"));
    if (v != PASSED || c->err)
        return v;
    struct process_rules r = {.argv = argv_of(c, json_get(check, "command")),
                              .env = c->ask->env,
                              .dir = c->ask->dir,
                              .output_bytes = CHECKS_SAID_MAX};
    if (!r.argv)
        return say(c, UNMADE, "a command must be a text or a list of texts");
    if (dir.type == JSON_STRING) {
        const char *named = string_of(c, dir);
        if (!named || full_path(c->ask->dir, named, where))
            return UNMADE;
        r.dir = where;
    }
    if (json_i64(json_get(check, "timeout_ms"), &timeout) && timeout > 0)
        limit_ms = (uint64_t)timeout;
    pd_err e = process_start(&r, &p, why);
    if (e) {
        c->err = e == PD_NOMEM ? e : PD_OK;
        return say(c, UNMADE, "%s", why);
    }
    if (process_wait(p, limit_ms, c->ask->wake_fd))
        v = command_ended(c, check, p);
    else if (c->ask->wake_fd >= 0 && process_woken(c->ask->wake_fd))
        v = STOPPED;
    else
        v = say(c, FAILED, "it did not end within %llu ms", (unsigned long long)limit_ms);
    process_free(p);
    return v;
}

/* ---- all of them ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *member;
    enum verdict (*make)(struct checking *c, struct json check);
} kinds[] = {{"command", check_command}, {"file", check_file}, {"output", check_output}};

static enum verdict check_one(struct checking *c, struct json check)
{
    c->why[0] = '\0';
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (json_get(check, kinds[i].member).type != JSON_NONE)
            return kinds[i].make(c, check);
    return say(c, UNMADE, "a check has one of command, file, output");
}

static void put_evidence(struct put *p, struct json check, enum verdict v, const char *said, bool first)
{
    put_text(p, first ? "{\"check\":" : ",{\"check\":");
    put_span(p, check.raw);
    put_printf(p, ",\"passed\":%s,\"said\":", v == PASSED ? "true" : v == FAILED ? "false" : "null");
    put_json(p, span_str(said));
    put_text(p, "}");
}

/* Every one is made, so that whoever tries again knows all that is wrong; a later failure goes over one that could not be made. */
static pd_err check_all(struct checking *c, struct buf *evidence, enum checks_found *ret,
                        char why[CHECKS_WHY_BYTES])
{
    struct put p = put_into(evidence);
    struct json_walk w;
    struct json check;
    bool first = true;
    *ret = CHECKS_NONE;
    put_text(&p, "[");
    json_walk_init(&w, c->ask->checks);
    while (*ret != CHECKS_STOPPED && json_walk_next(&w, NULL, &check)) {
        enum verdict v = check_one(c, check);
        if (c->err)
            return c->err;
        put_evidence(&p, check, v, c->why, first);
        first = false;
        enum checks_found as = v == PASSED   ? CHECKS_PASSED
                               : v == FAILED ? CHECKS_FAILED
                               : v == UNMADE ? CHECKS_UNMADE
                                             : CHECKS_STOPPED;
        if (*ret == CHECKS_NONE || (as != CHECKS_PASSED && *ret != CHECKS_FAILED) || as == CHECKS_STOPPED) {
            *ret = as;
            if (as != CHECKS_PASSED)
                snprintf(why, CHECKS_WHY_BYTES, "the check %.300s: %.700s", begin_of(c, check.raw, 300), c->why);
        }
    }
    put_text(&p, "]");
    return p.err;
}

pd_err checks_run(const struct checks_ask *a, struct buf *evidence, enum checks_found *ret,
                  char why[CHECKS_WHY_BYTES])
{
    struct arena arena;
    why[0] = '\0';
    arena_init(&arena, 4096, 0);
    struct checking c = {.ask = a, .arena = &arena};
    pd_err e = check_all(&c, evidence, ret, why);
    if (!e && *ret == CHECKS_NONE && a->checks.type != JSON_NONE)
        *ret = CHECKS_WAIVED;
    arena_done(&arena);
    return e;
}
