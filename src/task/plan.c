/* A plan as a whole: its members, its tasks one by one, then what they need of each other. */
#include "task/plan.h"

#include "base/hash.h"
#include "parse/json.h"
#include "parse/nearest.h"
#include "task/plan_priv.h"

#include <stdio.h>

enum { PLAN_MEMBERS_MAX = 32, CIRCLE_SHOWN = 8, HINT_IDS_MAX = 2000 };

static const struct tree_rules plan_rules = {
    .what = "plan",
    .empty = "write a goal and tasks",
    .depth = 64,
    .values = 4000000,
    .anchors = 1000,
    .entries = PLAN_TASKS_MAX,
};

const char *task_kind_name(enum task_kind k)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        TASK_KINDS(X)
#undef X
    };
    return (unsigned)k < TASK_KIND_COUNT ? names[k] : "";
}

/* A task while the plan is read. */
struct draft {
    const struct node *node;
    const struct node *needs;
    unsigned *need_at; /* which tasks */
    unsigned next;     /* of its needs, while they are put in order */
    enum { UNSEEN, BEGUN, PLACED } state;
};

struct reading {
    struct plan_reader r;
    struct plan *plan;
    struct plan_task *tasks; /* as in the file */
    struct draft *drafts;
    unsigned count;
    uint32_t *table; /* of ids: index + 1 */
    unsigned table_size;
    unsigned kinds; /* that may be made: bits */
};

/* ---- ids --------------------------------------------------------------------------------- */

static uint32_t *slot_of(const struct reading *x, struct span id)
{
    uint64_t at = hash_bytes(id, 0);
    for (;; at++) {
        uint32_t *slot = &x->table[at & (x->table_size - 1)];
        if (!*slot || span_eq(x->tasks[*slot - 1].id, id))
            return slot;
    }
}

static bool id_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
}

static bool read_id(struct reading *x, unsigned i, const struct node *n)
{
    const struct node *id = plan_get(n, "id");
    if (!id || id->kind != NODE_SCALAR || !id->text.n)
        return plan_say(&x->r, id ? id->line : n->line, "task %u has no id: write one, as in `id: test`", i + 1);
    if (id->text.n > PLAN_ID_MAX)
        return plan_say(&x->r, id->line, "the id \"%.*s...\" is longer than %d bytes",
                        SPAN_FMT(plan_short(id->text)), PLAN_ID_MAX);
    for (size_t k = 0; k < id->text.n; k++)
        if (!id_char(id->text.p[k]))
            return plan_say(&x->r, id->line,
                            "the id \"%.*s\" has another byte than letters, digits, '-', '_' and '.'",
                            SPAN_FMT(plan_short(id->text)));
    uint32_t *slot = slot_of(x, id->text);
    if (*slot)
        return plan_say(&x->r, id->line,
                        "the id \"%.*s\" is there twice, first in line %u: ids are to be different",
                        SPAN_FMT(plan_short(id->text)), x->tasks[*slot - 1].line);
    *slot = i + 1;
    x->tasks[i].id = arena_span(x->r.arena, id->text);
    x->tasks[i].line = n->line;
    return x->tasks[i].id.p ? true : plan_nomem(&x->r);
}

/* What was meant by a need that is no task. A plan of very many tasks is not searched. */
static const char *hint_id(struct reading *x, struct span id, char *out, size_t out_bytes)
{
    unsigned n = x->count < HINT_IDS_MAX ? x->count : HINT_IDS_MAX;
    const char **words = arena_alloc(&x->r.scratch, n * sizeof(*words));
    out[0] = '\0';
    for (unsigned i = 0; words && i < n; i++) {
        words[i] = arena_strndup(&x->r.scratch, x->tasks[i].id.p, x->tasks[i].id.n);
        if (!words[i])
            words = NULL;
    }
    return words ? nearest_hint(id, words, n, out, out_bytes) : out;
}

/* ---- one task ----------------------------------------------------------------------------- */

struct task_reading {
    struct reading *x;
    struct plan_task *t;
    const struct node *n;
    char what[PLAN_ID_MAX + 40]; /* task "test" */
    struct put out;
};

static bool find_kind(struct task_reading *k)
{
    static const char *const members[] = {"prompt", "command", "agent"};
    struct plan_reader *r = &k->x->r;
    const struct node *said = plan_get(k->n, "kind");
    int found = -1;
    for (int i = 0; i < TASK_KIND_COUNT; i++) {
        const struct node *m = plan_get(k->n, members[i]);
        if (!m)
            continue;
        if (found >= 0)
            return plan_say(r, m->line, "%s has both %s and %s: make two tasks of it", k->what, members[found],
                            members[i]);
        found = i;
    }
    if (said) {
        struct buf sink = {0};
        struct put p = put_into(&sink);
        char what[sizeof(k->what) + 8];
        snprintf(what, sizeof(what), "%s: kind", k->what);
        bool fine = plan_put_member(r, plan_member_of(SPAN_LIT("kind")), said, what, &p);
        buf_done(&sink);
        if (!fine)
            return p.err == PD_NOMEM ? plan_nomem(r) : false;
        for (int i = 0; i < TASK_KIND_COUNT; i++) {
            if (!span_is(said->text, task_kind_name((enum task_kind)i)))
                continue;
            if (found >= 0 && found != i)
                return plan_say(r, said->line, "%s is of kind %.*s and has a %s: remove one of both", k->what,
                                SPAN_FMT(said->text), members[found]);
            if (found < 0)
                return plan_say(r, k->n->line, "%s is of kind %.*s and has no %s", k->what, SPAN_FMT(said->text),
                                members[i]);
        }
    }
    if (found < 0)
        return plan_say(r, k->n->line, "%s has no prompt, command or agent: write one of them", k->what);
    k->t->kind = (enum task_kind)found;
    return true;
}

/* Before its kind is looked for: a "comand" is no task without a command. */
static bool names_known(struct task_reading *k)
{
    const char *words[PLAN_MEMBERS_MAX];
    for (unsigned i = 0; i < plan_members_count; i++)
        words[i] = plan_members[i].name;
    return plan_names_fine(&k->x->r, k->n, k->what, words, plan_members_count);
}

static bool names_fit(struct task_reading *k)
{
    for (const struct entry *e = k->n->first; e; e = e->next) {
        const struct member *m = plan_member_of(e->key->text);
        char in_ms[80];
        snprintf(in_ms, sizeof(in_ms), "%.*s_ms", SPAN_FMT(plan_short(e->key->text)));
        if (plan_get(k->n, in_ms))
            return plan_say(&k->x->r, e->key->line, "%s has both %.*s and %s: remove one", k->what,
                            SPAN_FMT(plan_short(e->key->text)), in_ms);
        if (m && m->kinds && !(m->kinds & (1u << k->t->kind)))
            return plan_say(&k->x->r, e->key->line, "%s is of kind %s, which has no \"%s\"", k->what,
                            task_kind_name(k->t->kind), m->name);
    }
    return true;
}

/* Where a member of this task stands: in the task, else among the defaults, else nowhere. */
static const struct node *value_of(const struct task_reading *k, const struct member *m)
{
    const struct node *n = plan_get(k->n, m->name);
    char in_ms[40];
    snprintf(in_ms, sizeof(in_ms), "%s_ms", m->name);
    if (m->want == WANT_DURATION && plan_get(k->n, in_ms))
        return NULL;
    if (!n && m->shared && (!m->kinds || (m->kinds & (1u << k->t->kind))))
        n = plan_get(k->x->r.defaults, m->name);
    return n;
}

/* What is a number of the task's own is kept beside its JSON. */
static bool note(struct task_reading *k, const struct member *m, const struct node *n)
{
    struct plan_reader *r = &k->x->r;
    uint64_t retries = k->t->retries;
    const struct {
        const char *name;
        uint64_t *to;
    } rows[] = {{"timeout", &k->t->timeout_ms}, {"backoff", &k->t->backoff_ms}, {"retries", &retries}};
    if (strcmp(m->name, "review") == 0)
        return plan_bool(r, n, k->what, &k->t->review);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strncmp(m->name, rows[i].name, strlen(rows[i].name)) != 0)
            continue;
        bool fine = m->want == WANT_DURATION ? plan_duration(r, n, k->what, m->least, m->most, rows[i].to)
                                             : span_u64(n->text, rows[i].to);
        k->t->retries = (unsigned)retries;
        return fine;
    }
    return true;
}

static bool put_members(struct task_reading *k)
{
    for (unsigned i = 0; i < plan_members_count; i++) {
        const struct member *m = &plan_members[i];
        const struct node *n = value_of(k, m);
        char what[sizeof(k->what) + 40];
        if (strcmp(m->name, "id") == 0 || strcmp(m->name, "kind") == 0 || !n)
            continue;
        if (n->kind == NODE_LIST && !n->first && m->want == WANT_NEEDS)
            continue;
        snprintf(what, sizeof(what), "%s: %s", k->what, m->name);
        if (!plan_put_member(&k->x->r, m, n, what, &k->out) || !note(k, m, n))
            return false;
    }
    return true;
}

static void put_left_out(struct task_reading *k)
{
    const struct {
        const char *name, *in_ms;
        unsigned long long v;
    } rows[] = {{"retries", "retries", k->t->retries},
                {"timeout", "timeout_ms", k->t->timeout_ms},
                {"backoff", "backoff_ms", k->t->backoff_ms}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (!value_of(k, plan_member_of(span_str(rows[i].name))) && !plan_get(k->n, rows[i].in_ms))
            put_printf(&k->out, ",\"%s\":%llu", rows[i].in_ms, rows[i].v);
}

static bool put_task(struct task_reading *k)
{
    const struct member *model = plan_member_of(SPAN_LIT("model"));
    put_text(&k->out, "{\"id\":");
    put_json(&k->out, k->t->id);
    put_printf(&k->out, ",\"kind\":\"%s\"", task_kind_name(k->t->kind));
    if (!put_members(k))
        return false;
    if (k->t->kind == TASK_LLM && !value_of(k, model) && k->x->plan->model.n) {
        put_text(&k->out, ",\"model\":");
        put_json(&k->out, k->x->plan->model);
    }
    put_left_out(k);
    put_text(&k->out, "}");
    return true;
}

static bool read_task(struct reading *x, unsigned i)
{
    struct plan_reader *r = &x->r;
    struct task_reading k = {.x = x, .t = &x->tasks[i], .n = x->drafts[i].node};
    struct buf json = {0};
    if (k.n->kind != NODE_MAP)
        return plan_say(r, k.n->line, "task %u is a %s: write a mapping with an id", i + 1,
                        node_kind_name(k.n->kind));
    if (!read_id(x, i, k.n))
        return false;
    snprintf(k.what, sizeof(k.what), "task \"%.*s\"", SPAN_FMT(k.t->id));
    if (!names_known(&k) || !find_kind(&k) || !names_fit(&k))
        return false;
    if (!(x->kinds & (1u << k.t->kind)))
        return plan_say(r, k.n->line, "%s is of kind %s, which the planner may not make", k.what,
                        task_kind_name(k.t->kind));
    k.t->retries = PLAN_RETRIES;
    k.t->backoff_ms = PLAN_BACKOFF_MS;
    k.t->timeout_ms = k.t->kind == TASK_AGENT ? 0 : PLAN_TIMEOUT_MS;
    x->drafts[i].needs = plan_get(k.n, "needs");
    k.out = put_into(&json);
    bool fine = put_task(&k);
    if (fine && k.out.err)
        fine = k.out.err == PD_NOMEM ? plan_nomem(r)
                                     : plan_say(r, k.n->line, "%s: %s", k.what, pd_err_text(k.out.err));
    if (fine) {
        k.t->spec = arena_span(r->arena, buf_span(&json));
        fine = k.t->spec.p ? true : plan_nomem(r);
    }
    buf_done(&json);
    if (!fine && k.out.err == PD_NOMEM && r->err == PD_INVALID)
        r->err = PD_NOMEM;
    return fine;
}

/* ---- needs ---------------------------------------------------------------------------------- */

static bool read_need(struct reading *x, unsigned i, const struct node *n, unsigned *at)
{
    char hint[200];
    struct plan_task *t = &x->tasks[i];
    uint32_t *slot = slot_of(x, n->text);
    if (!*slot)
        return plan_say(&x->r, n->line, "task \"%.*s\" needs \"%.*s\", which is no task%s", SPAN_FMT(t->id),
                        SPAN_FMT(plan_short(n->text)), hint_id(x, n->text, hint, sizeof(hint)));
    for (unsigned k = 0; k < t->needs_count; k++)
        if (x->drafts[i].need_at[k] == *slot - 1)
            return plan_say(&x->r, n->line, "task \"%.*s\" needs \"%.*s\" twice: remove one", SPAN_FMT(t->id),
                            SPAN_FMT(plan_short(n->text)));
    *at = *slot - 1;
    return true;
}

static bool read_needs(struct reading *x, unsigned i)
{
    const struct node *n = x->drafts[i].needs;
    struct plan_task *t = &x->tasks[i];
    struct entry one = {.value = (struct node *)n};
    unsigned count = !n || n->kind == NODE_NULL ? 0 : n->kind == NODE_LIST ? n->entries : 1;
    if (count > PLAN_NEEDS_MAX)
        return plan_say(&x->r, n->line, "task \"%.*s\" needs more than %d others", SPAN_FMT(t->id),
                        PLAN_NEEDS_MAX);
    struct span *needs = arena_zalloc(x->r.arena, (count + 1) * sizeof(*needs));
    x->drafts[i].need_at = arena_zalloc(&x->r.scratch, (count + 1) * sizeof(unsigned));
    if (!needs || !x->drafts[i].need_at)
        return plan_nomem(&x->r);
    t->needs = needs;
    for (const struct entry *e = !count ? NULL : n->kind == NODE_LIST ? n->first : &one; e; e = e->next) {
        unsigned at = 0;
        if (!read_need(x, i, e->value, &at))
            return false;
        x->drafts[i].need_at[t->needs_count] = at;
        needs[t->needs_count++] = x->tasks[at].id;
    }
    return true;
}

static bool say_circle(struct reading *x, const unsigned *stack, unsigned depth, unsigned again)
{
    char path[PLAN_WHY_BYTES];
    size_t n = 0;
    unsigned from = depth;
    while (from > 0 && stack[from - 1] != again)
        from--;
    from -= from > 0;
    path[0] = '\0';
    for (unsigned i = from; i < depth && n < 300; i++) {
        bool skip = depth - from > CIRCLE_SHOWN && i == from + CIRCLE_SHOWN - 1;
        n += (size_t)snprintf(path + n, sizeof(path) - n, "%.*s -> ",
                              SPAN_FMT(skip ? SPAN_LIT("...") : plan_short(x->tasks[stack[i]].id)));
        if (skip)
            break;
    }
    return plan_say(&x->r, x->tasks[again].line,
                    "tasks need each other in a circle: %s%.*s: remove one of these needs", path,
                    SPAN_FMT(plan_short(x->tasks[again].id)));
}

/* Puts the task and what it needs behind those that have their place. No recursion: a chain may be as long as the plan. */
static bool place(struct reading *x, unsigned i, unsigned *stack, struct plan_task *to, unsigned *placed)
{
    unsigned depth = 0;
    if (x->drafts[i].state == PLACED)
        return true;
    stack[depth++] = i;
    x->drafts[i].state = BEGUN;
    while (depth) {
        unsigned at = stack[depth - 1];
        struct draft *d = &x->drafts[at];
        if (d->next == x->tasks[at].needs_count) {
            d->state = PLACED;
            to[(*placed)++] = x->tasks[at];
            depth--;
            continue;
        }
        unsigned need = d->need_at[d->next++];
        if (x->drafts[need].state == BEGUN)
            return say_circle(x, stack, depth, need);
        if (x->drafts[need].state == UNSEEN) {
            x->drafts[need].state = BEGUN;
            stack[depth++] = need;
        }
    }
    return true;
}

static bool put_in_order(struct reading *x)
{
    struct plan_task *to = arena_zalloc(x->r.arena, x->count * sizeof(*to));
    unsigned *stack = arena_zalloc(&x->r.scratch, x->count * sizeof(*stack));
    unsigned placed = 0;
    if (!to || !stack)
        return plan_nomem(&x->r);
    for (unsigned i = 0; i < x->count; i++)
        if (!place(x, i, stack, to, &placed))
            return false;
    x->plan->tasks = to;
    x->plan->tasks_count = placed;
    return true;
}

/* ---- ${...} ---------------------------------------------------------------------------------- */

/* "id.output" or "id.output.member": whether this is one of that task's. */
static bool output_of(struct span name, struct span id)
{
    static const char output[] = ".output";
    struct span rest = span_from(name, id.n);
    return name.n > id.n && memcmp(name.p, id.p, id.n) == 0 && span_starts(rest, output) &&
           (rest.n == strlen(output) || rest.p[strlen(output)] == '.');
}

static bool reference_fine(struct reading *x, unsigned i, const struct node *n, struct span name)
{
    static const char *const words[] = {"run", "task", "attempt", "goal"};
    const struct plan_task *t = &x->tasks[i];
    for (unsigned k = 0; k < sizeof(words) / sizeof(words[0]); k++)
        if (span_is(name, words[k]))
            return true;
    for (unsigned k = 0; k < t->needs_count; k++)
        if (output_of(name, t->needs[k])) {
            x->tasks[x->drafts[i].need_at[k]].output_used = true;
            return true;
        }
    const char *dot = memmem(name.p, name.n, ".output", 7);
    if (!dot)
        return plan_say(
            &x->r, n->line,
            "task \"%.*s\" uses ${%.*s}, which is none of run, task, attempt, goal and ID.output: write $${%.*s} "
            "where the shell is to fill it in",
            SPAN_FMT(t->id), SPAN_FMT(plan_short(name)), SPAN_FMT(plan_short(name)));
    struct span id = span_of(name.p, (size_t)(dot - name.p));
    char hint[200];
    if (*slot_of(x, id))
        return plan_say(&x->r, n->line,
                        "task \"%.*s\" uses ${%.*s} and does not need \"%.*s\": add it to its needs",
                        SPAN_FMT(t->id), SPAN_FMT(plan_short(name)), SPAN_FMT(plan_short(id)));
    return plan_say(&x->r, n->line, "task \"%.*s\" uses ${%.*s}, and \"%.*s\" is no task%s", SPAN_FMT(t->id),
                    SPAN_FMT(plan_short(name)), SPAN_FMT(plan_short(id)), hint_id(x, id, hint, sizeof(hint)));
}

/* The next ${name} in the text from *at on; "$${" is none. 0: there is no more; -1: it is not closed. */
static int next_reference(struct span text, size_t *at, size_t *ret_from, struct span *ret_name)
{
    while (*at < text.n) {
        const char *p = memchr(text.p + *at, '$', text.n - *at);
        size_t i = p ? (size_t)(p - text.p) : text.n;
        if (i + 1 >= text.n)
            break;
        if (text.p[i + 1] == '$') {
            *at = i + (i + 2 < text.n && text.p[i + 2] == '{' ? 3 : 1);
            continue;
        }
        if (text.p[i + 1] != '{') {
            *at = i + 1;
            continue;
        }
        const char *end = memchr(text.p + i, '}', text.n - i);
        *ret_from = i;
        if (!end) {
            *ret_name = span_from(text, i + 2);
            return -1;
        }
        *ret_name = span_of(text.p + i + 2, (size_t)(end - text.p) - i - 2);
        *at = (size_t)(end - text.p) + 1;
        return 1;
    }
    *at = text.n;
    return 0;
}

static bool references_fine(struct reading *x, unsigned i, const struct node *n)
{
    size_t at = 0, from;
    struct span name;
    int found;
    for (const struct entry *e = n->first; e; e = e->next) {
        bool schema = e->key && span_is(e->key->text, "schema");
        if (!schema && !references_fine(x, i, e->value))
            return false;
    }
    while (n->kind == NODE_SCALAR && (found = next_reference(n->text, &at, &from, &name)) != 0) {
        if (found < 0)
            return plan_say(
                &x->r, n->line,
                "task \"%.*s\": \"${%.*s\" is not closed by a '}'; \"$${\" is the two bytes themselves",
                SPAN_FMT(x->tasks[i].id), SPAN_FMT(span_upto(name, 20)));
        if (!reference_fine(x, i, n, name))
            return false;
    }
    return true;
}

/* ---- the plan ---------------------------------------------------------------------------------- */

static bool read_tasks(struct reading *x, const struct node *n, unsigned most)
{
    struct plan_reader *r = &x->r;
    if (n->kind != NODE_LIST || !n->first)
        return plan_say(r, n->line, "tasks is %s: write a list with at least one task",
                        n->kind == NODE_LIST  ? "an empty list"
                        : n->kind == NODE_MAP ? "a mapping"
                                              : "a single value");
    x->count = n->entries;
    if (x->count > most)
        return plan_say(r, n->line, "%u tasks: at most %u may be", x->count, most);
    for (x->table_size = 16; x->table_size < 2 * x->count;)
        x->table_size *= 2;
    x->table = arena_zalloc(&r->scratch, x->table_size * sizeof(*x->table));
    x->tasks = arena_zalloc(&r->scratch, x->count * sizeof(*x->tasks));
    x->drafts = arena_zalloc(&r->scratch, x->count * sizeof(*x->drafts));
    if (!x->table || !x->tasks || !x->drafts)
        return plan_nomem(r);
    unsigned i = 0;
    for (const struct entry *e = n->first; e; e = e->next, i++) {
        x->drafts[i].node = e->value;
        if (!read_task(x, i))
            return false;
    }
    for (i = 0; i < x->count; i++)
        if (!read_needs(x, i) || !references_fine(x, i, x->drafts[i].node))
            return false;
    return put_in_order(x);
}

static bool text_member(struct reading *x, const struct node *root, const char *name, struct span *ret)
{
    const struct node *n = plan_get(root, name);
    if (!n)
        return true;
    if (n->kind != NODE_SCALAR || !span_trim(n->text).n)
        return plan_say(&x->r, n->line, "%s is %s: write a text", name,
                        n->kind == NODE_SCALAR || n->kind == NODE_NULL ? "empty" : node_kind_name(n->kind));
    *ret = arena_span(x->r.arena, n->text);
    return ret->p ? true : plan_nomem(&x->r);
}

static bool read_budget(struct reading *x, const struct node *n)
{
    static const char *const words[] = {"tokens", "cost"};
    if (!n)
        return true;
    if (n->kind != NODE_MAP)
        return plan_say(&x->r, n->line, "budget is a %s: write {tokens: 2000000, cost: 5.00}",
                        node_kind_name(n->kind));
    if (!plan_names_fine(&x->r, n, "budget", words, 2))
        return false;
    const struct node *tokens = plan_get(n, "tokens"), *cost = plan_get(n, "cost");
    if (tokens && !plan_count(&x->r, tokens, "budget: tokens", 1, INT64_MAX / 1000, &x->plan->budget_tokens))
        return false;
    if (cost && (cost->kind != NODE_SCALAR || !plan_dollars(cost->text, &x->plan->budget_picodollars) ||
                 !x->plan->budget_picodollars))
        return plan_say(&x->r, cost->line, "budget: cost is \"%.*s\": write dollars, as in 5.00",
                        SPAN_FMT(plan_short(cost->text)));
    return true;
}

static bool read_defaults(struct reading *x, const struct node *n)
{
    const char *words[PLAN_MEMBERS_MAX];
    unsigned count = 0;
    struct buf sink = {0};
    struct put p = put_into(&sink);
    if (!n)
        return true;
    if (n->kind != NODE_MAP)
        return plan_say(&x->r, n->line, "defaults is a %s: write {retries: 3, timeout: 10m}",
                        node_kind_name(n->kind));
    for (unsigned i = 0; i < plan_members_count; i++)
        if (plan_members[i].shared)
            words[count++] = plan_members[i].name;
    bool fine = plan_names_fine(&x->r, n, "defaults", words, count);
    for (const struct entry *e = n->first; fine && e; e = e->next) {
        char what[60];
        snprintf(what, sizeof(what), "defaults: %.*s", SPAN_FMT(plan_short(e->key->text)));
        fine = plan_put_member(&x->r, plan_member_of(e->key->text), e->value, what, &p);
    }
    buf_done(&sink);
    x->r.defaults = n;
    return fine && p.err ? plan_nomem(&x->r) : fine;
}

static bool read_kinds(struct reading *x, const struct node *n)
{
    struct entry one = {.value = (struct node *)n};
    x->kinds = n ? 0 : 1u << TASK_LLM;
    for (const struct entry *e = !n ? NULL : n->kind == NODE_LIST ? n->first : &one; e; e = e->next) {
        unsigned bit = 0;
        for (unsigned i = 0; i < TASK_KIND_COUNT && e->value->kind == NODE_SCALAR; i++)
            if (span_is(e->value->text, task_kind_name((enum task_kind)i)))
                bit = 1u << i;
        if (!bit)
            return plan_say(&x->r, e->value->line, "planner: kinds has \"%.*s\": write llm, command or agent",
                            SPAN_FMT(plan_short(e->value->text)));
        x->kinds |= bit;
    }
    return x->kinds ? true : plan_say(&x->r, n->line, "planner: kinds is empty: leave it out, or name one");
}

static bool read_planner(struct reading *x, const struct node *n, uint64_t *ret_most)
{
    static const char *const words[] = {"model", "most", "kinds", "prompt"};
    *ret_most = PLAN_PLANNER_MOST;
    if (n->kind != NODE_MAP)
        return plan_say(&x->r, n->line, "planner is a %s: write {model: NAME, most: 20}", node_kind_name(n->kind));
    if (!plan_names_fine(&x->r, n, "planner", words, 4))
        return false;
    const struct node *most = plan_get(n, "most"), *model = plan_get(n, "model"), *prompt = plan_get(n, "prompt");
    if (most && !plan_count(&x->r, most, "planner: most", 1, 1000, ret_most))
        return false;
    if (model ? model->kind != NODE_SCALAR || !model->text.n : !x->plan->model.n)
        return plan_say(&x->r, model ? model->line : n->line, "planner has no model: write {model: NAME}");
    if (prompt && prompt->kind != NODE_SCALAR)
        return plan_say(&x->r, prompt->line, "planner: prompt is a %s: write a text",
                        node_kind_name(prompt->kind));
    return read_kinds(x, plan_get(n, "kinds"));
}

static pd_err json_of(struct reading *x, const struct node *n, struct span *ret)
{
    struct buf b = {0};
    struct put p = put_into(&b);
    plan_put_node(&p, n);
    *ret = p.err ? SPAN_NONE : arena_span(x->r.arena, buf_span(&b));
    buf_done(&b);
    return p.err ? p.err : ret->p ? PD_OK : PD_NOMEM;
}

static bool keep_documents(struct reading *x, const struct node *root)
{
    static const char *const words[] = {"name", "goal", "model", "budget", "defaults", "planner"};
    struct buf b = {0};
    struct put p = put_into(&b);
    struct plan *plan = x->plan;
    const struct node *planner = plan_get(root, "planner"), *defaults = plan_get(root, "defaults");
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const struct node *n = plan_get(root, words[i]);
        if (!n || n->kind == NODE_NULL)
            continue;
        put_text(&p, buf_size(&b) ? "," : "{");
        put_printf(&p, "\"%s\":", words[i]);
        if (i < 3)
            put_json(&p, n->text);
        else
            plan_put_node(&p, n);
    }
    put_text(&p, buf_size(&b) ? "}" : "{}");
    pd_err e = p.err;
    if (!e && planner)
        e = json_of(x, planner, &plan->planner);
    if (!e && defaults)
        e = json_of(x, defaults, &plan->defaults);
    if (!e) {
        plan->document = arena_span(x->r.arena, buf_span(&b));
        e = plan->document.p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e ? plan_nomem(&x->r) : true;
}

/* It is put into each task that says no other, where references would be filled in: but the tasks they name are not known here. */
static bool model_fine(struct reading *x, const struct node *root)
{
    if (!span_has(x->plan->model, "${"))
        return true;
    return plan_say(&x->r, plan_get(root, "model")->line,
                    "model of a plan is a name, without \"${\": write a route or a model");
}

static bool read_head(struct reading *x, const struct node *root)
{
    static const char *const words[] = {"goal", "tasks", "name", "model", "budget", "defaults", "planner"};
    if (root->kind != NODE_MAP)
        return plan_say(&x->r, root->line,
                        "a plan is a mapping, and this is a %s: begin with `goal:` and `tasks:`",
                        node_kind_name(root->kind));
    return plan_names_fine(&x->r, root, "a plan", words, sizeof(words) / sizeof(words[0])) &&
           text_member(x, root, "name", &x->plan->name) && text_member(x, root, "goal", &x->plan->goal) &&
           text_member(x, root, "model", &x->plan->model) && model_fine(x, root) &&
           read_budget(x, plan_get(root, "budget")) && read_defaults(x, plan_get(root, "defaults"));
}

static bool read_plan(struct reading *x, const struct node *root)
{
    uint64_t most;
    if (!read_head(x, root))
        return false;
    const struct node *tasks = plan_get(root, "tasks"), *planner = plan_get(root, "planner");
    if (!x->plan->name.n && !(x->plan->name = arena_span(x->r.arena, span_str(x->r.name))).p)
        return plan_nomem(&x->r);
    if (!tasks && !planner)
        return plan_say(&x->r, root->line,
                        "the plan has no tasks: write `tasks:`, or a `planner:` that makes them");
    if (tasks && planner)
        return plan_say(&x->r, planner->line, "the plan has tasks and a planner: remove one of both");
    if (planner && !x->plan->goal.n)
        return plan_say(&x->r, planner->line, "a planner needs a goal: write `goal:`");
    if (planner ? !read_planner(x, planner, &most) : !read_tasks(x, tasks, PLAN_TASKS_MAX))
        return false;
    return keep_documents(x, root);
}

static void say_tree(void *ctx, unsigned line, const char *why)
{
    (void)plan_say(ctx, line, "%s", why);
}

static const struct node *read_tree(struct plan_reader *r, struct span text, bool json)
{
    struct tree_reader tree = {.rules = &plan_rules, .arena = &r->scratch, .say = say_tree, .ctx = r};
    const struct node *root = json ? tree_json(&tree, text) : tree_yaml(&tree, text);
    if (tree.nomem)
        (void)plan_nomem(r);
    return root;
}

static void begin(struct reading *x, const char *name, struct arena *a, struct plan *ret, char *why)
{
    *x = (struct reading){.r = {.name = name, .arena = a, .why = why}, .plan = ret, .kinds = ~0u};
    *ret = (struct plan){0};
    why[0] = '\0';
    arena_init(&x->r.scratch, 16384, PLAN_MEMORY_MAX);
}

static pd_err end(struct reading *x)
{
    arena_done(&x->r.scratch);
    return x->r.err;
}

pd_err plan_parse(struct span text, const char *name, const struct plan_files *files, struct arena *a,
                  struct plan *ret, char why[PLAN_WHY_BYTES])
{
    struct reading x;
    begin(&x, name, a, ret, why);
    x.r.files = files;
    if (text.n > PLAN_BYTES_MAX) {
        (void)plan_say(&x.r, 0, "the plan is larger than %d MB", PLAN_BYTES_MAX >> 20);
        (void)end(&x);
        return PD_TOOBIG;
    }
    bool json = span_starts(span_trim(text), "{") && json_check(text) == PD_OK;
    const struct node *root = read_tree(&x.r, text, json);
    if (root)
        (void)read_plan(&x, root);
    return end(&x);
}

pd_err plan_put_json(const struct plan *plan, struct buf *out)
{
    struct put p = put_into(out);
    struct span head = plan->document;
    bool empty = head.n <= 2;
    if (!plan->tasks_count) {
        put_span(&p, head);
        return p.err;
    }
    put_span(&p, span_upto(head, head.n - 1));
    put_text(&p, empty ? "\"tasks\":[" : ",\"tasks\":[");
    for (unsigned i = 0; i < plan->tasks_count; i++) {
        put_text(&p, i ? ",\n" : "\n");
        put_span(&p, plan->tasks[i].spec);
    }
    put_text(&p, "]}");
    return p.err;
}

/* ---- a planner -------------------------------------------------------------------------------------- */

const char plan_tasks_schema[] =
    "{\"type\":\"object\",\"required\":[\"tasks\"],\"properties\":{\"tasks\":{\"type\":\"array\",\"minItems\":1,"
    "\"items\":"
    "{\"type\":\"object\",\"required\":[\"id\"],\"properties\":{"
    "\"id\":{\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9._-]{1,100}$\"},"
    "\"needs\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"
    "\"prompt\":{\"type\":\"string\"},"
    "\"command\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]},"
    "\"agent\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]},"
    "\"schema\":{\"type\":\"object\"},"
    "\"write\":{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"from\":{\"type\":\"string\"}}"
    "},"
    "\"checks\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}}}}}}";

pd_err plan_of_document(struct span document, struct arena *a, struct plan *ret)
{
    struct json v, m;
    *ret = (struct plan){0};
    if (json_first(document, &v, NULL) != PD_OK)
        return PD_SYNTAX;
    const struct {
        const char *name;
        struct span *to;
    } texts[] = {{"name", &ret->name}, {"goal", &ret->goal}, {"model", &ret->model}};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        m = json_get(v, texts[i].name);
        pd_err e = m.type == JSON_STRING ? json_text(m, a, texts[i].to) : PD_OK;
        if (e)
            return e;
    }
    ret->planner = json_get(v, "planner").raw;
    ret->defaults = json_get(v, "defaults").raw;
    ret->document = document;
    return PD_OK;
}

static bool read_answer(struct reading *x, struct span json, const struct plan *of)
{
    uint64_t most;
    const struct node *planner = read_tree(&x->r, of->planner, true);
    const struct node *defaults = planner && of->defaults.n ? read_tree(&x->r, of->defaults, true) : NULL;
    if (!planner || (of->defaults.n && !defaults))
        return false;
    x->plan->model = of->model;
    if (!read_planner(x, planner, &most) || !read_defaults(x, defaults))
        return false;
    x->r.no_programs = !(x->kinds & (1u << TASK_COMMAND | 1u << TASK_AGENT));
    const struct node *root = read_tree(&x->r, json, true);
    if (!root)
        return false;
    const struct node *tasks = root->kind == NODE_MAP ? plan_get(root, "tasks") : root;
    if (!tasks)
        return plan_say(&x->r, root->line, "there are no tasks: answer with {\"tasks\": [...]}");
    return read_tasks(x, tasks, (unsigned)most);
}

pd_err plan_parse_tasks(struct span json, const struct plan *of, struct arena *a, struct plan *ret,
                        char why[PLAN_WHY_BYTES])
{
    struct reading x;
    begin(&x, "the answer", a, ret, why);
    x.r.of = of;
    if (json.n > PLAN_BYTES_MAX)
        (void)plan_say(&x.r, 0, "larger than %d MB", PLAN_BYTES_MAX >> 20);
    else
        (void)read_answer(&x, json, of);
    return end(&x);
}

static void put_kinds(struct put *p, struct json kinds)
{
    static const char *const lines[] = {
        "- \\\"prompt\\\": what a model is asked. It sees nothing but this text, so say all of it.\\n",
        "- \\\"command\\\": a program with its arguments, as a list of strings.\\n",
        "- \\\"agent\\\": a program, as a list of strings, that works on until it is done.\\n",
    };
    for (int i = 0; i < TASK_KIND_COUNT; i++) {
        bool named = kinds.type == JSON_NONE ? i == TASK_LLM : json_is(kinds, task_kind_name((enum task_kind)i));
        struct json_walk w;
        struct json v;
        json_walk_init(&w, kinds);
        while (json_walk_next(&w, NULL, &v))
            named |= json_is(v, task_kind_name((enum task_kind)i));
        if (named)
            put_text(p, lines[i]);
    }
}

/* The goal is referred to, as in any prompt: a "${" of its own is then not taken for a reference. */
static void put_prompt(struct put *p, struct json planner, long long most)
{
    put_text(p, ",\"prompt\":\"Break a goal into tasks that a program carries out one by one.\\n\\n"
                "The goal: ${goal}\\n\\n");
    if (json_inner(json_get(planner, "prompt")).n) {
        put_span(p, json_inner(json_get(planner, "prompt")));
        put_text(p, "\\n\\n");
    }
    put_text(p, "Answer with one JSON object, {\\\"tasks\\\": [...]}, with at most ");
    put_int(p, most);
    put_text(p, " tasks. Each task has an \\\"id\\\" (letters, digits, - and _), \\\"needs\\\" (the ids of the "
                "tasks whose output it "
                "uses), and one of\\n");
    put_kinds(p, json_get(planner, "kinds"));
    put_text(
        p,
        "What nobody checks waits for a person: give each task \\\"checks\\\", a list of "
        "{\\\"output\\\": {\\\"contains\\\": TEXT}} or {\\\"file\\\": NAME, \\\"contains\\\": TEXT}, or, to one "
        "with a prompt, a \\\"schema\\\" (JSON Schema) of its answer.\\n");
    put_text(p, "A text may have $${ID.output} in it: the output of a task that it needs. \\\"write\\\": "
                "{\\\"path\\\": FILE} puts an "
                "answer into a file.\"");
}

pd_err plan_planner_spec(const struct plan *of, struct arena *a, struct span *ret)
{
    struct json planner;
    struct buf b = {0};
    struct put p = put_into(&b);
    int64_t most = PLAN_PLANNER_MOST;
    if (json_first(of->planner, &planner, NULL) != PD_OK)
        return PD_SYNTAX;
    (void)json_i64(json_get(planner, "most"), &most);
    struct json model = json_get(planner, "model");
    put_text(&p, "{\"id\":\"" PLAN_PLANNER_ID "\",\"kind\":\"llm\",\"model\":");
    if (model.type == JSON_STRING)
        put_span(&p, model.raw);
    else
        put_json(&p, model.type == JSON_NONE ? of->model : model.raw);
    put_prompt(&p, planner, (long long)most);
    put_text(&p, ",\"schema\":");
    put_text(&p, plan_tasks_schema);
    put_printf(&p, ",\"retries\":%d,\"timeout_ms\":%d,\"backoff_ms\":%d}", PLAN_RETRIES, PLAN_TIMEOUT_MS,
               PLAN_BACKOFF_MS);
    pd_err e = p.err;
    if (!e) {
        *ret = arena_span(a, buf_span(&b));
        e = ret->p ? PD_OK : PD_NOMEM;
    }
    buf_done(&b);
    return e;
}

/* ---- filling in --------------------------------------------------------------------------------------- */

/* Text between two names, with "$${" made "${". */
static pd_err add_plain(struct buf *out, struct span s)
{
    while (s.n) {
        const char *p = memmem(s.p, s.n, "$${", 3);
        size_t n = p ? (size_t)(p - s.p) : s.n;
        pd_err e = buf_add(out, span_upto(s, n));
        if (e)
            return e;
        s = span_from(s, p ? n + 1 : n);
        if (p) {
            e = buf_add(out, SPAN_LIT("${"));
            if (e)
                return e;
            s = span_from(s, 2);
        }
    }
    return PD_OK;
}

pd_err plan_fill(struct span text, plan_value_fn *of, void *ctx, struct buf *out, char why[PLAN_WHY_BYTES])
{
    size_t at = 0, done = 0, from = 0, begun = buf_size(out);
    struct span name;
    int found;
    pd_err e = PD_OK;
    why[0] = '\0';
    while (!e && (found = next_reference(text, &at, &from, &name)) != 0) {
        e = add_plain(out, span_of(text.p + done, from - done));
        if (!e)
            e = found < 0 ? PD_NOTFOUND : of(ctx, name, out);
        if (e == PD_NOTFOUND) {
            snprintf(why, PLAN_WHY_BYTES, "${%.*s} is not known here", SPAN_FMT(plan_short(name)));
            return PD_NOTFOUND;
        }
        done = at;
        if (!e && buf_size(out) - begun > PLAN_FILL_MAX) {
            snprintf(why, PLAN_WHY_BYTES, "a text with everything filled in is larger than %d MB",
                     PLAN_FILL_MAX >> 20);
            return PD_TOOBIG;
        }
    }
    return e ? e : add_plain(out, span_from(text, done));
}

pd_err plan_input(struct span inputs, struct span name, struct buf *out)
{
    struct json all, v;
    struct json_walk w;
    struct span key;
    if (json_first(inputs, &all, NULL) != PD_OK)
        return PD_NOTFOUND;
    json_walk_init(&w, all);
    while (json_walk_next(&w, &key, &v)) {
        if (!output_of(name, key))
            continue;
        struct span path = span_from(name, key.n + strlen(".output."));
        char text[500];
        if (path.n >= sizeof(text))
            return PD_NOTFOUND;
        memcpy(text, path.p ? path.p : "", path.n);
        text[path.n] = '\0';
        if (path.n)
            v = json_path(v, text);
        if (v.type == JSON_NONE)
            return PD_NOTFOUND;
        if (v.type != JSON_STRING)
            return buf_add(out, v.raw);
        struct arena a;
        arena_init(&a, 0, 0);
        struct span plain;
        pd_err e = json_text(v, &a, &plain);
        if (!e)
            e = buf_add(out, plain);
        arena_done(&a);
        return e;
    }
    return PD_NOTFOUND;
}
