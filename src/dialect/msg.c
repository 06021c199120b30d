#include "dialect/msg.h"

#include <stdlib.h>

const char *msg_finish_name(enum msg_finish f)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        MSG_FINISHES(X)
#undef X
    };
    return f < MSG_FINISH_COUNT ? names[f] : "other";
}

const char *msg_maker_name(enum msg_maker m)
{
    static const char *const names[] = {"none", "anthropic", "gemini", "openai"};
    return m < MSG_MAKER_COUNT ? names[m] : "none";
}

void msg_request_init(struct msg_request *m)
{
    *m = (struct msg_request){
        .parallel = -1,
        .max_tokens = -1,
        .n = -1,
        .top_logprobs = -1,
        .format_strict = -1,
        .reasoning_tokens = -1,
        .reasoning_shown = -1,
    };
}

struct msg_turn *msg_turn_add(struct msg_request *m, struct arena *a, enum msg_role role)
{
    struct msg_turn *t = arena_zalloc(a, sizeof(*t));
    if (!t)
        return NULL;
    t->role = role;
    if (m->last)
        m->last->next = t;
    else
        m->first = t;
    return m->last = t;
}

struct msg_part *msg_part_add(struct msg_turn *t, struct arena *a, enum msg_part_kind kind)
{
    struct msg_part *p = arena_zalloc(a, sizeof(*p));
    if (!p)
        return NULL;
    p->kind = kind;
    if (t->last)
        t->last->next = p;
    else
        t->first = p;
    return t->last = p;
}

struct msg_part *msg_content_add(struct msg_part *result, struct arena *a, enum msg_part_kind kind)
{
    struct msg_part *p = arena_zalloc(a, sizeof(*p)), **at = &result->content;
    if (!p)
        return NULL;
    p->kind = kind;
    while (*at)
        at = &(*at)->next;
    return *at = p;
}

struct msg_tool *msg_tool_add(struct msg_request *m, struct arena *a, enum msg_tool_kind kind)
{
    struct msg_tool *t = arena_zalloc(a, sizeof(*t));
    if (!t)
        return NULL;
    t->kind = kind;
    t->strict = -1;
    if (m->last_tool)
        m->last_tool->next = t;
    else
        m->tools = t;
    return m->last_tool = t;
}

/* ---- what is dropped ---------------------------------------------------------- */

void msg_drop(struct msg_request *m, const char *name)
{
    for (unsigned i = 0; i < m->dropped_count; i++)
        if (strcmp(m->dropped[i], name) == 0)
            return;
    if (m->dropped_count == MSG_DROPPED_MAX)
        m->dropped_more++;
    else
        m->dropped[m->dropped_count++] = name;
}

enum { DROPPED_NAME_MAX = 64 };

static bool fits_header(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.' || c == '[' || c == ']';
}

pd_err msg_drop_span(struct msg_request *m, struct arena *a, struct span name)
{
    char word[DROPPED_NAME_MAX + 1];
    size_t n = name.n < DROPPED_NAME_MAX ? name.n : DROPPED_NAME_MAX;
    for (size_t i = 0; i < n; i++)
        word[i] = fits_header(name.p[i]) ? name.p[i] : '?';
    word[n] = '\0';
    for (unsigned i = 0; i < m->dropped_count; i++)
        if (strcmp(m->dropped[i], word) == 0)
            return PD_OK;
    char *kept = arena_strndup(a, word, n);
    if (!kept)
        return PD_NOMEM;
    msg_drop(m, kept);
    return PD_OK;
}

/* ---- calls and their results ---------------------------------------------------- */

bool msg_has(const struct msg_request *m, enum msg_part_kind kind)
{
    for (const struct msg_turn *t = m->first; t; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next)
            if (p->kind == kind)
                return true;
    return false;
}

/* A call that waits for its result. */
struct open_call {
    struct open_call *next;
    struct msg_part *call;
    bool answered;
};

static pd_err open_calls(struct msg_turn *t, struct arena *a, unsigned *number, struct open_call **ret)
{
    struct open_call **at = ret;
    for (struct msg_part *p = t->first; p; p = p->next) {
        if (p->kind != MSG_PART_TOOL_CALL)
            continue;
        struct open_call *o = arena_zalloc(a, sizeof(*o));
        if (!o)
            return PD_NOMEM;
        o->call = p;
        unsigned at_number = (*number)++;
        if (p->id.n == 0) {
            char *id = arena_printf(a, MSG_MADE_ID "%u", at_number);
            if (!id)
                return PD_NOMEM;
            p->id = span_str(id);
        }
        *at = o;
        at = &o->next;
    }
    return PD_OK;
}

/* By id; without one the first unanswered of that name; without a name too the first unanswered. */
static struct open_call *call_of(struct open_call *open, const struct msg_part *result)
{
    for (struct open_call *o = open; o; o = o->next) {
        if (o->answered)
            continue;
        bool fits = result->id.n     ? span_eq(o->call->id, result->id)
                    : result->name.n ? span_eq(o->call->name, result->name)
                                     : true;
        if (fits)
            return o;
    }
    return NULL;
}

pd_err msg_link(struct msg_request *m, struct arena *a)
{
    struct open_call *open = NULL;
    unsigned number = 0;
    for (struct msg_turn *t = m->first; t; t = t->next) {
        if (t->role == MSG_ASSISTANT) {
            struct open_call *more = NULL;
            pd_err e = open_calls(t, a, &number, &more);
            if (e)
                return e;
            if (more) { /* in front: an id that is used again means the newest call */
                struct open_call *last = more;
                while (last->next)
                    last = last->next;
                last->next = open;
                open = more;
            }
        }
        for (struct msg_part *p = t->first; p; p = p->next) {
            struct open_call *o = p->kind == MSG_PART_TOOL_RESULT ? call_of(open, p) : NULL;
            if (!o)
                continue;
            o->answered = true;
            p->id = o->call->id;
            if (!p->name.n)
                p->name = o->call->name;
            p->custom = o->call->custom;
        }
    }
    return PD_OK;
}

/* ---- size ------------------------------------------------------------------------ */

enum {
    ESTIMATE_BYTES_PER_TOKEN = 4, /* English text and code; other scripts cost more */
    ESTIMATE_PER_PART = 4,        /* roles and marks around it */
    ESTIMATE_PER_IMAGE = 1500,    /* about 1000 x 1000 pixels at Anthropic and OpenAI */
    ESTIMATE_PER_TOOL = 10,
};

static int64_t part_tokens(const struct msg_part *p)
{
    int64_t bytes = (int64_t)(p->text.n + p->name.n + p->arguments.n), tokens = ESTIMATE_PER_PART;
    if (p->kind == MSG_PART_MEDIA)
        tokens += p->media == MSG_IMAGE ? ESTIMATE_PER_IMAGE : (int64_t)p->data.n / 8;
    for (const struct msg_part *c = p->content; c; c = c->next)
        tokens += c->kind == MSG_PART_MEDIA ? ESTIMATE_PER_IMAGE : (int64_t)c->text.n / ESTIMATE_BYTES_PER_TOKEN;
    return tokens + bytes / ESTIMATE_BYTES_PER_TOKEN;
}

int64_t msg_estimate_tokens(const struct msg_request *m)
{
    int64_t tokens = 0;
    for (const struct msg_turn *t = m->first; t; t = t->next)
        for (const struct msg_part *p = t->first; p; p = p->next)
            tokens += part_tokens(p);
    for (const struct msg_tool *t = m->tools; t; t = t->next)
        tokens += ESTIMATE_PER_TOOL +
                  (int64_t)(t->name.n + t->description.n + t->schema.n + t->raw.n) / ESTIMATE_BYTES_PER_TOKEN;
    return tokens;
}

bool msg_is_system(const struct msg_turn *t)
{
    return t->role == MSG_SYSTEM || t->role == MSG_DEVELOPER;
}

const struct msg_turn *msg_behind_system(const struct msg_request *m)
{
    const struct msg_turn *t = m->first;
    while (t && msg_is_system(t))
        t = t->next;
    return t;
}

bool msg_is_blank(struct span escaped)
{
    for (size_t i = 0; i < escaped.n; i++) {
        if (escaped.p[i] == ' ')
            continue;
        if (escaped.p[i] != '\\' || i + 1 == escaped.n || !strchr("ntrf", escaped.p[i + 1]))
            return false;
        i++;
    }
    return true;
}
