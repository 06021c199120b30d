/* toolgate.c - what is kept of an answer's tool calls, and what they are worth. */
#include "dialect/toolgate.h"

#include "base/buf.h"
#include "base/mem.h"
#include "parse/json.h"
#include "validate/schema.h"

#include <stdarg.h>
#include <stdio.h>

/* A call as far as it has come. Name, id and arguments stand one behind the other: the arguments grow. */
struct call {
    int choice, tool;
    size_t name_bytes, id_bytes;
    struct buf
        bytes; /* name, id, '"', the arguments as they came: escaped, so that with a '"' it is a JSON string */
    bool legacy_function, free_text;
};

struct toolgate {
    struct call *calls;
    unsigned count, room; /* room: how many structs (and their buffers) there are */
    size_t bytes, limit_bytes;
    pd_err err;
};

const char *toolgate_verdict_name(enum toolgate_verdict v)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        TOOLGATE_VERDICTS(X)
#undef X
    };
    return v < TOOLGATE_VERDICT_COUNT ? names[v] : "";
}

struct toolgate *toolgate_new(size_t limit_bytes)
{
    struct toolgate *g = mem_zalloc(sizeof(*g));
    if (g)
        g->limit_bytes = limit_bytes;
    return g;
}

struct toolgate *toolgate_free(struct toolgate *g)
{
    if (!g)
        return NULL;
    for (unsigned i = 0; i < g->room; i++)
        buf_done(&g->calls[i].bytes);
    mem_free(g->calls);
    mem_free(g);
    return NULL;
}

void toolgate_reset(struct toolgate *g)
{
    g->count = 0;
    g->bytes = 0;
    g->err = PD_OK;
}

bool toolgate_any(const struct toolgate *g)
{
    return g->count > 0;
}

unsigned toolgate_count(const struct toolgate *g)
{
    return g->count;
}

pd_err toolgate_error(const struct toolgate *g)
{
    return g->err;
}

/* ---- taking ------------------------------------------------------------------------- */

static struct call *call_of(struct toolgate *g, const struct msg_delta *d)
{
    for (unsigned i = g->count; i > 0; i--) /* the last is nearly always the one */
        if (g->calls[i - 1].choice == d->choice && g->calls[i - 1].tool == d->tool)
            return &g->calls[i - 1];
    return NULL;
}

static pd_err make_room(struct toolgate *g)
{
    if (g->count < g->room)
        return PD_OK;
    unsigned room = g->room ? g->room * 2 : 4;
    struct call *calls = mem_realloc(g->calls, room * sizeof(*calls));
    if (!calls)
        return PD_NOMEM;
    g->calls = calls;
    for (; g->room < room; g->room++) {
        calls[g->room] = (struct call){0};
        buf_init(&calls[g->room].bytes, 0);
    }
    return PD_OK;
}

/* Counts what is about to be kept. */
static pd_err count_bytes(struct toolgate *g, size_t n)
{
    if (n > g->limit_bytes - g->bytes)
        return PD_TOOBIG;
    g->bytes += n;
    return PD_OK;
}

static pd_err begin(struct toolgate *g, const struct msg_delta *d)
{
    pd_err e = count_bytes(g, sizeof(struct call) + d->text.n + d->id.n + 1);
    if (!e)
        e = make_room(g);
    if (e)
        return e;
    struct call *c = &g->calls[g->count];
    struct buf bytes = c->bytes;
    buf_clear(&bytes);
    *c = (struct call){.choice = d->choice,
                       .tool = d->tool,
                       .name_bytes = d->text.n,
                       .id_bytes = d->id.n,
                       .bytes = bytes,
                       .legacy_function = d->legacy_function,
                       .free_text = d->free_text};
    e = buf_add(&c->bytes, d->text);
    if (!e)
        e = buf_add(&c->bytes, d->id);
    if (!e)
        e = buf_puts(&c->bytes, "\"");
    g->count += !e;
    return e;
}

static pd_err go_on(struct toolgate *g, const struct msg_delta *d)
{
    struct call *c = call_of(g, d);
    if (!c)
        return PD_OK; /* arguments of no call: nobody can be shown them either */
    pd_err e = count_bytes(g, d->text.n);
    return e ? e : buf_add(&c->bytes, d->text);
}

void toolgate_delta(void *gate, const struct msg_delta *d)
{
    struct toolgate *g = gate;
    if (!g->err && d->kind == MSG_TOOL_START)
        g->err = begin(g, d);
    else if (!g->err && d->kind == MSG_TOOL_ARGUMENTS)
        g->err = go_on(g, d);
}

/* ---- looking ------------------------------------------------------------------------ */

static struct span name_of(const struct call *c)
{
    return span_upto(buf_span(&c->bytes), c->name_bytes);
}

static struct span id_of(const struct call *c)
{
    return span_upto(span_from(buf_span(&c->bytes), c->name_bytes), c->id_bytes);
}

/* With the opening quote. */
static struct span text_of(const struct call *c)
{
    return span_from(buf_span(&c->bytes), c->name_bytes + c->id_bytes);
}

bool toolgate_call(const struct toolgate *g, unsigned i, struct toolgate_call *ret)
{
    if (i >= g->count)
        return false;
    const struct call *c = &g->calls[i];
    *ret = (struct toolgate_call){.choice = c->choice,
                                  .tool = c->tool,
                                  .name = name_of(c),
                                  .id = id_of(c),
                                  .arguments_bytes = text_of(c).n - 1,
                                  .legacy_function = c->legacy_function};
    return true;
}

/* ---- judging ------------------------------------------------------------------------ */

/* Two escaped names, which their makers may have escaped differently: compared by what they say. PD_NOMEM. */
static pd_err same_name(struct arena *a, struct span x, struct span y, bool *ret)
{
    *ret = span_eq(x, y);
    if (*ret || (!memchr(x.p, '\\', x.n) && !memchr(y.p, '\\', y.n)))
        return PD_OK;
    struct span plain[2] = {x, y};
    for (int i = 0; i < 2; i++) {
        char *quoted = arena_printf(a, "\"%.*s\"", SPAN_FMT(plain[i]));
        if (!quoted)
            return PD_NOMEM;
        pd_err e = json_text((struct json){JSON_STRING, span_str(quoted)}, a, &plain[i]);
        if (e == PD_NOMEM)
            return e;
    }
    *ret = span_eq(plain[0], plain[1]);
    return PD_OK;
}

static pd_err find_tool(const struct msg_request *tools, struct arena *a, struct span name,
                        const struct msg_tool **ret)
{
    *ret = NULL;
    for (const struct msg_tool *t = tools ? tools->tools : NULL; t && !*ret; t = t->next) {
        const struct span names[] = {t->name, t->client_name, t->plain_name};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            bool same = false;
            pd_err e = names[i].n && name.n ? same_name(a, name, names[i], &same) : PD_OK;
            if (e)
                return e;
            if (same)
                *ret = t;
        }
    }
    return PD_OK;
}

PD_PRINTF(3, 4)
static void say(char *why, size_t why_bytes, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (why && why_bytes)
        vsnprintf(why, why_bytes, fmt, args);
    va_end(args);
}

/* What was kept, closed with a quote, as the JSON text it stands for. */
static pd_err arguments_of(struct call *c, struct arena *a, struct span *ret)
{
    pd_err e = buf_puts(&c->bytes, "\"");
    if (e)
        return e;
    e = json_text((struct json){JSON_STRING, text_of(c)}, a, ret);
    c->bytes.tail--;
    *ret = e ? SPAN_NONE : span_trim(*ret);
    return e;
}

static pd_err judge(struct call *c, const struct msg_request *tools, struct arena *a, enum toolgate_verdict *ret,
                    char *why, size_t why_bytes)
{
    const struct msg_tool *t;
    struct span text;
    pd_err e = find_tool(tools, a, name_of(c), &t);
    *ret = TOOLGATE_WHOLE;
    if (e || c->free_text || (t && t->kind == MSG_TOOL_CUSTOM))
        return e;
    e = arguments_of(c, a, &text);
    if (e == PD_NOMEM || e == PD_TOOBIG)
        return e;
    if (!e && text.n == 0)
        text = SPAN_LIT("{}");
    if (e || text.p[0] != '{' || json_check(text)) {
        *ret = TOOLGATE_BROKEN;
        say(why, why_bytes, "the arguments of %.*s are not a JSON object, or not all of one",
            SPAN_FMT(name_of(c)));
        return PD_OK;
    }
    if (!t || t->free_text || t->schema.n == 0)
        return PD_OK;
    bool fits;
    char reason[256];
    e = schema_check(t->schema, text, &fits, reason, sizeof(reason));
    if (!e && !fits) {
        *ret = TOOLGATE_MISFIT;
        say(why, why_bytes, "%.*s: %s", SPAN_FMT(name_of(c)), reason);
    }
    return e;
}

pd_err toolgate_judge(struct toolgate *g, const struct msg_request *tools, enum toolgate_verdict *ret, char *why,
                      size_t why_bytes)
{
    struct arena a;
    enum toolgate_verdict v = TOOLGATE_WHOLE;
    pd_err e = g->err;
    say(why, why_bytes, "%s", "");
    arena_init(&a, 0, 0);
    for (unsigned i = 0; !e && v == TOOLGATE_WHOLE && i < g->count; i++) {
        e = judge(&g->calls[i], tools, &a, &v, why, why_bytes);
        arena_reset(&a);
    }
    arena_done(&a);
    if (!e)
        *ret = v;
    return e;
}
