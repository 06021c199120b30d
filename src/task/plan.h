/* plan.h - a plan: a goal and its tasks, from YAML.
 *
 *   goal: write a tool that counts words
 *   model: coder                      # what llm tasks ask for (a route, a model); each can say its own
 *   budget: {tokens: 2000000, cost: 5.00}
 *   defaults: {retries: 3, timeout: 10m, backoff: 2s}
 *   planner: {model: coder, most: 20} # in place of tasks: a model makes them, against PLAN_TASKS_SCHEMA
 *   tasks:
 *     - id: design
 *       kind: llm                     # llm | command | agent; told by its members when left out
 *       prompt: "List the functions it needs."
 *       schema: {type: object, ...}   # JSON Schema of the answer; or schema: file.json
 *     - id: write
 *       needs: [design]
 *       prompt: "Write it. The functions: ${design.output}"
 *       write: {path: wc.c, from: code}    # the answer (or a member of it) into a file
 *     - id: test
 *       needs: [write]
 *       command: ["make", "test"]     # or a string, given to sh -c
 *       checks:                       # run by perdure after the task; none and no schema: inconclusive
 *         - {command: "./wc < input | diff - expected", pin: [input, expected]}
 *         - {file: wc, exists: true}
 *         - {output: {matches: "^ok"}}
 *       idempotency_key: "deploy-${run}"   # an outside effect; exactly once by this key
 *       risky: true                   # a checkpoint before and after
 *       review: true                  # a person accepts it
 *     - id: polish
 *       agent: ["opencode", "run", "finish the tool"]
 *       needs: [test]
 *       stall: 10m                    # without progress: restarted
 *
 * Pure: text in, a plan out. What is wrong is said with line, place and remedy, as for the configuration. The plan is kept as JSON (one task, one
 * JSON object), so that a run is the same whatever becomes of the file. */
#ifndef PERDURE_TASK_PLAN_H
#define PERDURE_TASK_PLAN_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    PLAN_BYTES_MAX = 16 << 20,
    PLAN_TASKS_MAX = 100000,
    PLAN_ID_MAX = 100, /* bytes of a task's id: letters, digits, - _ . */
    PLAN_NEEDS_MAX = 1000,
    PLAN_WHY_BYTES = 640,
};

#define TASK_KINDS(X)                                                        \
    X(TASK_LLM, "llm", "a call to a model")                                  \
    X(TASK_COMMAND, "command", "a program whose end and output are checked") \
    X(TASK_AGENT, "agent", "a program that is kept going until it is done")
enum task_kind {
#define X(code, name, what) code,
    TASK_KINDS(X)
#undef X
        TASK_KIND_COUNT
};
const char *task_kind_name(enum task_kind k);

struct plan_task {
    struct span id;
    enum task_kind kind;
    const struct span *needs; /* ids */
    unsigned needs_count;
    struct span spec; /* JSON: every member as written, defaults filled in; schema files read in */
    unsigned retries; /* runs after the first */
    uint64_t timeout_ms, backoff_ms;
    bool review;
    unsigned line;
};
struct plan {
    struct span name, goal;  /* text */
    struct span planner;     /* JSON; empty: the tasks are given */
    struct plan_task *tasks; /* in an order in which needs come first */
    unsigned tasks_count;
    uint64_t budget_tokens; /* 0: none */
    uint64_t budget_picodollars;
    struct span defaults; /* JSON */
    struct span document; /* JSON: the whole plan but its tasks */
};

/* Reads a schema or another file that a plan names, relative to it; NULL: such members are refused. */
typedef pd_err plan_file_fn(void *ctx, const char *path, struct arena *a, struct span *ret);

/* Everything lives in `a`. PD_INVALID: `why` has "plan.yaml line 7: task \"test\" needs \"wirte\", which is no task: did you mean \"write\"?"
 * (unknown members, twice the same id, a circle of needs with its ids, kinds that do not fit their members). PD_TOOBIG, PD_NOMEM. */
pd_err plan_parse(struct span text, const char *name, plan_file_fn *file, void *file_ctx, struct arena *a,
                  struct plan *ret, char why[PLAN_WHY_BYTES]) PD_CHECKED;
/* A planner model's answer: {"tasks": [...]}, each as in the file, checked alike. `most`: tasks at most. */
pd_err plan_parse_tasks(struct span json, const struct plan *of, unsigned most, struct arena *a, struct plan *ret,
                        char why[PLAN_WHY_BYTES]) PD_CHECKED;
extern const char plan_tasks_schema[];
/* ${run}, ${task}, ${attempt}, ${id.output}, ${id.output.member}: filled in from `of`. Out of a text into a text. PD_NOTFOUND: `why` names it. */
typedef bool plan_value_fn(void *ctx, struct span name, struct buf *out);
pd_err plan_fill(struct span text, plan_value_fn *of, void *ctx, struct buf *out,
                 char why[PLAN_WHY_BYTES]) PD_CHECKED;

#endif
