/* Any bytes as a plan, and as a planner's answer: refused with a reason or taken whole; what is taken is JSON, in an order in which needs come first,
 * and is the same when its own document is read again. */
#include "base/mem.h"
#include "parse/json.h"
#include "task/plan.h"

#include <stdio.h>
#include <stdlib.h>

#define HOLDS(what) ((what) ? (void)0 : (fprintf(stderr, "broken: %s\n", #what), abort()))

static pd_err value_of(void *ctx, struct span name, struct buf *out)
{
    (void)ctx, (void)name;
    return buf_puts(out, "x");
}

static void check_order(const struct plan *p, unsigned i)
{
    const struct plan_task *t = &p->tasks[i];
    for (unsigned k = 0; k < t->needs_count; k++) {
        bool before = false;
        for (unsigned j = 0; j < i && !before; j++)
            before = span_eq(p->tasks[j].id, t->needs[k]);
        HOLDS(before);
    }
}

static void check_taken(const struct plan *p)
{
    for (unsigned i = 0; i < p->tasks_count; i++) {
        const struct plan_task *t = &p->tasks[i];
        HOLDS(t->id.n > 0 && t->id.n <= PLAN_ID_MAX);
        HOLDS(t->kind < TASK_KIND_COUNT);
        HOLDS(t->retries <= PLAN_RETRIES_MAX);
        HOLDS(json_check(t->spec) == PD_OK);
        if (p->tasks_count < 500)
            check_order(p, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t blocks = mem_blocks();
    struct span text = span_of((const char *)data, n), spec;
    struct arena a;
    struct plan p, of, made;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    pd_err e = plan_parse(text, "fuzz", NULL, &a, &p, why);
    HOLDS(e == PD_OK || e == PD_INVALID);
    HOLDS((e == PD_OK) == (why[0] == '\0'));
    if (!e) {
        check_taken(&p);
        HOLDS(json_check(p.document) == PD_OK);
        struct buf json = {0};
        HOLDS(plan_put_json(&p, &json) == PD_OK);
        HOLDS(plan_parse(buf_span(&json), "again", NULL, &a, &made, why) == PD_OK &&
              made.tasks_count == p.tasks_count);
        buf_done(&json);
        HOLDS(plan_of_document(p.document, &a, &of) == PD_OK);
        HOLDS(!p.planner.n || (plan_planner_spec(&p, &a, &spec) == PD_OK && json_check(spec) == PD_OK));
    }
    of = (struct plan){.planner = SPAN_LIT("{\"model\":\"m\",\"kinds\":[\"llm\",\"command\"]}")};
    e = plan_parse_tasks(text, &of, &a, &made, why);
    HOLDS(e == PD_OK || e == PD_INVALID);
    if (!e)
        check_taken(&made);
    struct buf out = {0};
    e = plan_fill(text, value_of, NULL, &out, why);
    HOLDS(e == PD_OK || e == PD_NOTFOUND);
    buf_done(&out);
    arena_done(&a);
    HOLDS(mem_blocks() == blocks);
    return 0;
}
