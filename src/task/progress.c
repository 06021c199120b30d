#include "task/progress.h"

#include "base/mem.h"
#include "parse/put.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { BAR_CELLS = 24, ID_CELLS = 18, AT_CELLS = 34, TEXT_MAX = 240, LINE_MAX_BYTES = 1024 };
enum {
    TREE_TASKS_MAX = 500, /* of more tasks a list is shown */
    TREE_DEPTH_MAX = 8,   /* deeper ones stand as deep as these */
    TREE_CELLS_MAX = 40,
};

/* ---- numbers and words ------------------------------------------------------------------------------------------------ */

static int64_t number(struct json v, const char *name)
{
    int64_t n;
    return json_i64(json_get(v, name), &n) && n > 0 ? n : 0;
}

/* As far as it can be printed, on one line. */
static const char *printable(struct span s, char out[TEXT_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < s.n && n + 1 < TEXT_MAX; i++) {
        char c = s.p[i];
        if (c == '\\' && i + 1 < s.n) {
            c = s.p[++i];
            if (c == 'u')
                i = i + 4 < s.n ? i + 4 : s.n;
            c = c == 'n' || c == 't' || c == 'r' ? ' ' : c == 'u' ? '?' : c;
        }
        out[n++] = c < ' ' || c > '~' ? '?' : c;
    }
    out[n] = '\0';
    return out;
}

static const char *text_of(struct json v, const char *path, char out[TEXT_MAX])
{
    return printable(json_inner(json_path(v, path)), out);
}

static const char *time_text(uint64_t ms, char out[24])
{
    unsigned long long s = ms / 1000;
    if (s < 60)
        snprintf(out, 24, "%llu.%llus", s, (unsigned long long)(ms % 1000 / 100));
    else if (s < 3600)
        snprintf(out, 24, "%llum%02llus", s / 60, s % 60);
    else
        snprintf(out, 24, "%lluh%02llum", s / 3600, s / 60 % 60);
    return out;
}

/* 12345 is 12,345. */
static const char *count_text(uint64_t n, char out[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), to = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = '\0';
    return out;
}

static const char *money_text(struct json v, char out[32])
{
    double usd = 0;
    (void)json_f64(json_get(v, "cost"), &usd);
    snprintf(out, 32, usd >= 1 ? "$%.2f" : "$%.4f", usd);
    return usd > 0 ? out : "";
}

static uint64_t since(struct json v, const char *name, uint64_t now_ms)
{
    uint64_t then = (uint64_t)number(v, name);
    return then && now_ms > then ? now_ms - then : 0;
}

static pd_err is_object(struct span s, struct json *ret)
{
    *ret = (struct json){JSON_OBJECT, span_trim(s)};
    return span_starts(ret->raw, "{") && !json_check(ret->raw) ? PD_OK : PD_INVALID;
}

/* ---- a line ------------------------------------------------------------------------------------------------------------- */

/* All ASCII but the bar, so bytes are cells. */
struct line {
    char p[LINE_MAX_BYTES];
    size_t n;
};

static void line_add(struct line *l, const char *fmt, ...) PD_PRINTF(2, 3);
static void line_add(struct line *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(l->p + l->n, sizeof(l->p) - l->n, fmt, ap);
    va_end(ap);
    l->n += n > 0 ? (size_t)n : 0;
    if (l->n >= sizeof(l->p))
        l->n = sizeof(l->p) - 1;
}

static void put_line(struct put *p, const struct line *l, const struct progress_look *look, const char *colour,
                     size_t before)
{
    size_t room = look->width > before ? look->width - before : look->width ? 0 : l->n, n = l->n;
    while (n && l->p[n - 1] == ' ')
        n--;
    if (n > room)
        n = room;
    if (look->colour && colour)
        put_printf(p, "\033[%sm%.*s\033[0m\n", colour, (int)n, l->p);
    else
        put_printf(p, "%.*s\n", (int)n, l->p);
}

/* ---- the bar ---------------------------------------------------------------------------------------------------------------- */

static uint64_t count_of(struct json run, const char *state)
{
    return (uint64_t)number(json_get(run, "counts"), state);
}

static uint64_t total_of(struct json run)
{
    struct json_walk w;
    struct json v;
    int64_t n;
    uint64_t total = 0;
    json_walk_init(&w, json_get(run, "counts"));
    while (json_walk_next(&w, NULL, &v))
        if (json_i64(v, &n) && n > 0)
            total += (uint64_t)n;
    return total;
}

static void put_cells(struct put *p, const char *sign, uint64_t n, const char *colour)
{
    if (!n)
        return;
    if (colour)
        put_printf(p, "\033[%sm", colour);
    for (uint64_t i = 0; i < n; i++)
        put_text(p, sign);
    if (colour)
        put_text(p, "\033[0m");
}

static void put_bar(struct put *p, struct json run, const struct progress_look *look)
{
    uint64_t total = total_of(run), done = count_of(run, "done"), running = count_of(run, "running");
    uint64_t full = total ? done * BAR_CELLS / total : 0,
             half = total ? (done + running) * BAR_CELLS / total - full : 0;
    if (running && !half && full < BAR_CELLS)
        half = 1;
    put_cells(p, look->utf8 ? "\u2588" : "#", full, look->colour ? "32" : NULL);
    put_cells(p, look->utf8 ? "\u2592" : "+", half, look->colour ? "33" : NULL);
    put_cells(p, look->utf8 ? "\u2591" : ".", BAR_CELLS - full - half, look->colour ? "2" : NULL);
}

static void put_head(struct put *p, struct json run, const struct progress_look *look)
{
    static const char *const shown[] = {"running", "review", "ambiguous", "dropped", "cancelled"};
    char name[TEXT_MAX], count[32], money[32], took[24], why[TEXT_MAX], state[TEXT_MAX];
    struct line l = {.n = 0};
    text_of(run, "name", name);
    name[30] = '\0';
    size_t before = strlen(name[0] ? name : "run") + BAR_CELLS + 2;
    put_printf(p, "%s  ", name[0] ? name : "run");
    put_bar(p, run, look);
    line_add(&l, "  %llu/%llu done", (unsigned long long)count_of(run, "done"), (unsigned long long)total_of(run));
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
        if (count_of(run, shown[i]))
            line_add(&l, "  %llu %s", (unsigned long long)count_of(run, shown[i]), shown[i]);
    if (number(run, "tokens"))
        line_add(&l, "  %s tokens", count_text((uint64_t)number(run, "tokens"), count));
    if (*money_text(run, money))
        line_add(&l, "  %s", money);
    uint64_t end = number(run, "ended_ms") ? (uint64_t)number(run, "ended_ms") : look->now_ms;
    line_add(&l, "  %s", time_text(since(run, "created_ms", end), took));
    bool running = json_is(json_get(run, "state"), "running");
    if (!running)
        line_add(&l, "  %s", text_of(run, "state", state));
    if (*text_of(run, "why", why))
        line_add(&l, "%s%s", running ? "  " : ": ", why);
    put_line(p, &l, look, NULL, before);
}

/* ---- a task -------------------------------------------------------------------------------------------------------------------- */

#define SHOWN_STATES(X)       \
    X("running", ">", "36")   \
    X("review", "?", "33")    \
    X("ambiguous", "?", "33") \
    X("ready", "~", NULL)     \
    X("waiting", " ", "2")    \
    X("done", "+", "32")      \
    X("cancelled", "-", "2")  \
    X("dropped", "-", "31")
struct shown_state {
    const char *name, *sign, *colour;
};
static const struct shown_state shown_states[] = {
#define X(name, sign, colour) {name, sign, colour},
    SHOWN_STATES(X)
#undef X
};

static const struct shown_state *state_of(struct json task)
{
    static const struct shown_state unknown = {"?", " ", NULL};
    for (size_t i = 0; i < sizeof(shown_states) / sizeof(shown_states[0]); i++)
        if (json_is(json_get(task, "state"), shown_states[i].name))
            return &shown_states[i];
    return &unknown;
}

static void task_at(struct json task, const struct shown_state *s, const struct progress_look *look,
                    char out[TEXT_MAX])
{
    char took[24];
    uint64_t due = (uint64_t)number(task, "due_ms");
    if (strcmp(s->name, "running") == 0)
        text_of(task, "progress.at", out);
    else if (strcmp(s->name, "ready") == 0 && due > look->now_ms)
        snprintf(out, TEXT_MAX, "again in %s", time_text(due - look->now_ms, took));
    else if (strcmp(s->name, "review") == 0 || strcmp(s->name, "ambiguous") == 0)
        snprintf(out, TEXT_MAX, "waits for a person");
    else
        out[0] = '\0';
}

/* The attempt after the last is the one that a person may order. */
static void put_attempt(struct line *l, int64_t attempt, int64_t most)
{
    line_add(l, "  attempt %lld/%lld", (long long)(attempt < most ? attempt : most), (long long)most);
}

/* Where a task stands in its column, and what it waits for. */
struct place {
    unsigned indent, cells;
    const char *waits;
};

static void put_task(struct put *p, struct json task, const struct place *place, const struct progress_look *look)
{
    char id[TEXT_MAX], at[TEXT_MAX], took[24], count[32], money[32], class[TEXT_MAX], message[TEXT_MAX];
    const struct shown_state *s = state_of(task);
    struct line l = {.n = 0};
    bool running = strcmp(s->name, "running") == 0;
    task_at(task, s, look, at);
    if (*place->waits)
        snprintf(at, sizeof(at), "%s", place->waits);
    at[AT_CELLS] = '\0';
    line_add(&l, "  %*s%s %-*s  %-9s  %-*s", (int)place->indent, "", s->sign, (int)(place->cells - place->indent),
             text_of(task, "id", id), s->name, AT_CELLS, at);
    if (number(task, "attempt") > 1)
        put_attempt(&l, number(task, "attempt"), number(task, "retries") + 1);
    uint64_t tokens = (uint64_t)number(task, "tokens");
    if (running)
        tokens += (uint64_t)(number(json_get(task, "progress"), "tokens_in") +
                             number(json_get(task, "progress"), "tokens_out"));
    if (tokens)
        line_add(&l, "  %s tokens", count_text(tokens, count));
    if (*money_text(task, money))
        line_add(&l, "  %s", money);
    uint64_t end = number(task, "ended_ms") ? (uint64_t)number(task, "ended_ms") : look->now_ms;
    if (number(task, "began_ms") && (running || strcmp(s->name, "done") == 0))
        line_add(&l, "  %s", time_text(since(task, "began_ms", end), took));
    if (strcmp(s->name, "done") != 0 && *text_of(task, "error.message", message))
        line_add(&l, "  %s: %s", text_of(task, "error.class", class), message);
    put_line(p, &l, look, s->colour, 0);
}

/* Whether a task is worth a line while the run goes on. */
static bool is_lively(struct json task)
{
    struct json s = json_get(task, "state");
    return json_is(s, "running") || json_is(s, "review") || json_is(s, "ambiguous") ||
           (json_is(s, "ready") && json_get(task, "error").type == JSON_OBJECT);
}

static pd_err put_tasks(struct put *p, struct json run, const struct progress_look *look, unsigned *ret)
{
    static const struct place place = {.cells = ID_CELLS, .waits = ""};
    struct json_walk w;
    struct json task;
    unsigned shown = 0, left = 0;
    json_walk_init(&w, json_get(run, "tasks"));
    while (json_walk_next(&w, NULL, &task)) {
        if (!is_lively(task))
            continue;
        if (shown == look->lines) {
            left++;
            continue;
        }
        put_task(p, task, &place, look);
        shown++;
    }
    if (left)
        put_printf(p, "    and %u more\n", left);
    *ret = shown + (left ? 1 : 0);
    return p->err;
}

pd_err progress_run(struct span run, const struct progress_look *look, struct buf *out, unsigned *ret_lines)
{
    struct json r;
    struct put p = put_into(out);
    pd_err e = is_object(run, &r);
    if (e)
        return e;
    put_head(&p, r, look);
    e = put_tasks(&p, r, look, ret_lines);
    ++*ret_lines;
    return e;
}

/* ---- the tree ------------------------------------------------------------------------------------------------------------------- */

#define NOWHERE UINT_MAX
/* Each task stands below the last of those it needs. */
struct twig {
    struct json task;
    struct span id;
    unsigned parent, child, next, depth; /* NOWHERE: none */
};
struct tree {
    struct json whole; /* a run, or a plan */
    struct twig *twigs;
    unsigned count, root, cells;
};

static struct json needs_of(const struct tree *t, const struct twig *g)
{
    char id[TEXT_MAX];
    struct json own = json_get(g->task, "needs");
    return own.type == JSON_ARRAY ? own : json_get(json_get(t->whole, "needs"), text_of(g->task, "id", id));
}

/* Among those before `end`: needs come first. */
static unsigned twig_of(const struct tree *t, struct span id, unsigned end)
{
    for (unsigned i = end; i-- > 0;)
        if (span_eq(t->twigs[i].id, id))
            return i;
    return NOWHERE;
}

static void find_parent(struct tree *t, unsigned i)
{
    struct twig *g = &t->twigs[i];
    struct json_walk w;
    struct json need;
    json_walk_init(&w, needs_of(t, g));
    while (json_walk_next(&w, NULL, &need)) {
        unsigned at = twig_of(t, json_inner(need), i);
        if (at != NOWHERE && (g->parent == NOWHERE || at > g->parent))
            g->parent = at;
    }
    if (g->parent != NOWHERE)
        g->depth = t->twigs[g->parent].depth + 1;
    unsigned indent = 2 * (g->depth < TREE_DEPTH_MAX ? g->depth : TREE_DEPTH_MAX);
    if (indent + g->id.n > t->cells)
        t->cells = indent + g->id.n < TREE_CELLS_MAX ? indent + (unsigned)g->id.n : TREE_CELLS_MAX;
}

static void hang(struct tree *t)
{
    t->root = NOWHERE;
    for (unsigned i = t->count; i-- > 0;) {
        struct twig *g = &t->twigs[i];
        unsigned *first = g->parent == NOWHERE ? &t->root : &t->twigs[g->parent].child;
        g->next = *first;
        *first = i;
    }
}

static pd_err tree_make(struct json whole, struct tree *t)
{
    struct json_walk w;
    struct json task;
    *t = (struct tree){.whole = whole, .cells = ID_CELLS};
    unsigned n = 0;
    json_walk_init(&w, json_get(whole, "tasks"));
    while (json_walk_next(&w, NULL, &task))
        n++;
    t->twigs = mem_zalloc((n + 1) * sizeof(*t->twigs));
    if (!t->twigs)
        return PD_NOMEM;
    json_walk_init(&w, json_get(whole, "tasks"));
    while (t->count < n && json_walk_next(&w, NULL, &task))
        t->twigs[t->count++] = (struct twig){task, json_inner(json_get(task, "id")), NOWHERE, NOWHERE, NOWHERE, 0};
    for (unsigned i = 0; i < n && n <= TREE_TASKS_MAX; i++)
        find_parent(t, i);
    hang(t);
    return PD_OK;
}

/* The next in the picture: below, else beside, else beside one above. */
static unsigned tree_next(const struct tree *t, unsigned i)
{
    if (t->twigs[i].child != NOWHERE)
        return t->twigs[i].child;
    while (i != NOWHERE && t->twigs[i].next == NOWHERE)
        i = t->twigs[i].parent;
    return i == NOWHERE ? NOWHERE : t->twigs[i].next;
}

static struct place place_of(const struct tree *t, const struct twig *g)
{
    unsigned depth = g->depth < TREE_DEPTH_MAX ? g->depth : TREE_DEPTH_MAX;
    return (struct place){.indent = 2 * depth, .cells = t->cells, .waits = ""};
}

/* "for a, b": those it needs that are not done. */
static void waits_for(const struct tree *t, unsigned i, char out[TEXT_MAX])
{
    struct json_walk w;
    struct json need;
    char id[TEXT_MAX];
    size_t n = 0;
    out[0] = '\0';
    if (t->count > TREE_TASKS_MAX || !json_is(json_get(t->twigs[i].task, "state"), "waiting"))
        return;
    json_walk_init(&w, needs_of(t, &t->twigs[i]));
    while (n < TEXT_MAX && json_walk_next(&w, NULL, &need)) {
        unsigned at = twig_of(t, json_inner(need), i);
        if (at != NOWHERE && !json_is(json_get(t->twigs[at].task, "state"), "done"))
            n += (size_t)snprintf(out + n, TEXT_MAX - n, n ? ", %s" : "for %s",
                                  text_of(t->twigs[at].task, "id", id));
    }
}

/* What a person can do about it. */
static void put_remedy(struct put *p, struct json run)
{
    char id[TEXT_MAX];
    if (count_of(run, "review"))
        put_text(p, "perdure review says what waits for a person, and takes the decision\n");
    if (json_is(json_get(run, "state"), "paused"))
        put_printf(p, "perdure runs resume %s goes on with it\n", text_of(run, "id", id));
}

pd_err progress_show(struct span run, const struct progress_look *look, struct buf *out)
{
    struct json r;
    struct tree t;
    char text[TEXT_MAX];
    struct put p = put_into(out);
    pd_err e = is_object(run, &r);
    if (!e)
        e = tree_make(r, &t);
    if (e)
        return e;
    put_printf(&p, "%s\n", text_of(r, "id", text));
    if (*text_of(r, "goal", text))
        put_printf(&p, "goal: %s\n", text);
    put_head(&p, r, look);
    for (unsigned i = t.root; i != NOWHERE; i = tree_next(&t, i)) {
        struct place place = place_of(&t, &t.twigs[i]);
        waits_for(&t, i, text);
        place.waits = text;
        put_task(&p, t.twigs[i].task, &place, look);
    }
    put_remedy(&p, r);
    mem_free(t.twigs);
    return p.err;
}

static void put_planned(struct put *p, const struct twig *g, const struct place *place,
                        const struct progress_look *look)
{
    static const char *const members[] = {"prompt", "command", "agent"};
    char id[TEXT_MAX], kind[TEXT_MAX], what[TEXT_MAX];
    struct line l = {.n = 0};
    line_add(&l, "  %*s%-*s  %-7s", (int)place->indent, "", (int)(place->cells - place->indent),
             text_of(g->task, "id", id), text_of(g->task, "kind", kind));
    for (int i = 0; i < 3; i++) {
        struct json v = json_get(g->task, members[i]), word;
        struct json_walk w;
        if (*text_of(g->task, members[i], what) && v.type == JSON_STRING)
            line_add(&l, "  %.60s", what);
        json_walk_init(&w, v);
        for (int k = 0; v.type == JSON_ARRAY && k < 8 && json_walk_next(&w, NULL, &word); k++)
            line_add(&l, "%s%.40s", k ? " " : "  ", printable(json_inner(word), what));
    }
    put_line(p, &l, look, NULL, 0);
}

pd_err progress_plan(struct span plan, const struct progress_look *look, struct buf *out)
{
    struct json whole;
    struct tree t;
    struct put p = put_into(out);
    pd_err e = is_object(plan, &whole);
    if (!e)
        e = tree_make(whole, &t);
    if (e)
        return e;
    for (unsigned i = t.root; i != NOWHERE; i = tree_next(&t, i)) {
        const struct place place = place_of(&t, &t.twigs[i]);
        put_planned(&p, &t.twigs[i], &place, look);
    }
    mem_free(t.twigs);
    return p.err;
}

/* ---- events ---------------------------------------------------------------------------------------------------------------------- */

static const char *clock_of(uint64_t wall_ms, char out[16])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || strftime(out, 16, "%H:%M:%S", &tm) == 0)
        out[0] = '\0';
    return out;
}

static void add_data(struct line *l, struct json data, const struct progress_look *look)
{
    char a[TEXT_MAX], b[TEXT_MAX], count[32], money[32], took[24];
    if (*text_of(data, "class", a))
        line_add(l, "  %s", a);
    else if (*text_of(data, "reason", a))
        line_add(l, "  %s", a);
    if (*text_of(data, "message", b) || *text_of(data, "why", b))
        line_add(l, "%s %s", *a ? ":" : " ", b);
    if (*text_of(data, "worker", a))
        line_add(l, "  by %s", a);
    if (number(data, "attempt") > 1)
        line_add(l, "  attempt %lld", (long long)number(data, "attempt"));
    if (number(data, "tokens"))
        line_add(l, "  %s tokens", count_text((uint64_t)number(data, "tokens"), count));
    if (*money_text(data, money))
        line_add(l, "  %s", money);
    if ((uint64_t)number(data, "due_ms") > look->now_ms)
        line_add(l, "  again in %s", time_text((uint64_t)number(data, "due_ms") - look->now_ms, took));
    if (*text_of(data, "decision", a))
        line_add(l, "  %s by %s", a, text_of(data, "who", b));
}

pd_err progress_event(struct span event, const struct progress_look *look, struct buf *out)
{
    struct json v;
    char when[16], task[TEXT_MAX], what[TEXT_MAX];
    struct line l = {.n = 0};
    struct put p = put_into(out);
    pd_err e = is_object(event, &v);
    if (e || json_is(json_get(v, "what"), "step"))
        return e;
    line_add(&l, "%s  %-*s  %s", clock_of((uint64_t)number(v, "ms"), when), ID_CELLS,
             *text_of(v, "task", task) ? task : "run", text_of(v, "what", what));
    add_data(&l, json_get(v, "data"), look);
    put_line(&p, &l, look, NULL, 0);
    return p.err;
}

/* ---- lists -------------------------------------------------------------------------------------------------------------------------- */

static pd_err list_of(struct span answer, const char *member, struct json_walk *ret)
{
    struct json whole;
    pd_err e = is_object(answer, &whole);
    struct json list = e ? (struct json){JSON_NONE, SPAN_NONE} : json_get(whole, member);
    json_walk_init(ret, list);
    return e ? e : list.type == JSON_ARRAY ? PD_OK : PD_INVALID;
}

/* A run that only a person can go on with is none that runs. */
static const char *list_state(struct json run, char out[TEXT_MAX])
{
    bool stands = json_is(json_get(run, "state"), "running") && count_of(run, "review") &&
                  !count_of(run, "running") && !count_of(run, "ready") && !count_of(run, "ambiguous");
    return stands ? "review" : text_of(run, "state", out);
}

pd_err progress_list(struct span answer, const struct progress_look *look, struct buf *out)
{
    struct json_walk w;
    struct json r;
    char id[TEXT_MAX], name[TEXT_MAX], state[TEXT_MAX], ago[24], count[32], money[32];
    struct put p = put_into(out);
    unsigned n = 0;
    pd_err e = list_of(answer, "runs", &w);
    while (!e && json_walk_next(&w, NULL, &r)) {
        struct line l = {.n = 0};
        if (n++ == 0)
            put_text(
                &p,
                "RUN                 NAME                STATE      DONE        BEGAN      TOKENS      COST\n");
        text_of(r, "name", name);
        name[18] = '\0';
        char done[24];
        snprintf(done, sizeof(done), "%llu/%llu", (unsigned long long)count_of(r, "done"),
                 (unsigned long long)total_of(r));
        line_add(&l, "%-18s  %-18s  %-9s  %-8s  %7s ago  %9s  %8s", text_of(r, "id", id), name,
                 list_state(r, state), done, time_text(since(r, "created_ms", look->now_ms), ago),
                 count_text((uint64_t)number(r, "tokens"), count), money_text(r, money));
        put_line(&p, &l, look, NULL, 0);
    }
    if (!e && n == 0)
        put_text(&p, "no run yet: `perdure run PLAN` begins one\n");
    return e ? e : p.err;
}

pd_err progress_reviews(struct span answer, const struct progress_look *look, struct buf *out)
{
    struct json_walk w;
    struct json r;
    char run[TEXT_MAX], task[TEXT_MAX], reason[TEXT_MAX], text[TEXT_MAX], ago[24];
    struct put p = put_into(out);
    unsigned n = 0;
    pd_err e = list_of(answer, "reviews", &w);
    while (!e && json_walk_next(&w, NULL, &r)) {
        n++;
        put_printf(&p, "%s %s  %s, since %s\n", text_of(r, "run", run), text_of(r, "task", task),
                   text_of(r, "reason", reason), time_text(since(r, "since_ms", look->now_ms), ago));
        if (*text_of(r, "message", text) || *text_of(r, "error.message", text))
            put_printf(&p, "    why:     %s\n", text);
        if (*text_of(r, "spec.prompt", text) || *text_of(r, "spec.command", text))
            put_printf(&p, "    task:    %s\n", text);
        struct json o = json_get(r, "output");
        if (o.type == JSON_STRING)
            put_printf(&p, "    output:  %s\n", text_of(r, "output", text));
        else if (o.type != JSON_NONE && o.type != JSON_NULL)
            put_printf(&p, "    output:  (JSON, %zu bytes; --json shows it)\n", o.raw.n);
    }
    if (!e && n == 0)
        put_text(&p, "nothing waits for a person\n");
    else if (!e)
        put_text(&p,
                 "\nperdure review retry|accept|drop RUN TASK, or perdure review edit RUN TASK --value JSON\n");
    return e ? e : p.err;
}
