/* plan.h - a plan: a goal and its tasks, from YAML.
 *
 *   goal: write a tool that counts words
 *   model: coder                      # what llm tasks ask for (a route, a model); each can say its own
 *   budget: {tokens: 2000000, cost: 5.00}
 *   defaults: {retries: 3, timeout: 10m, backoff: 2s}
 *   planner: {model: coder, most: 20, kinds: [llm]} # in place of tasks: a model makes them, against plan_tasks_schema
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
 *       resolve: ["./was-it-deployed", "deploy-${run}"]  # asked when a worker died amid the effect: 0 it was done, 1 it was not, else: nobody knows
 *       risky: true                   # a checkpoint before and after
 *       review: true                  # a person accepts it
 *     - id: polish
 *       agent: ["opencode", "run", "finish the tool"]
 *       needs: [test]
 *       stall: 10m                    # without progress: restarted
 *
 * A text that begins with '{' may be JSON as well. Text members may have ${...} (plan_fill()).
 *
 * Pure: text in, a plan out. What is wrong is said with line, place and remedy, as for the configuration. The plan is kept as JSON (one task, one
 * JSON object), so that a run is the same whatever becomes of the file. In it durations are milliseconds (`timeout_ms`, `backoff_ms`, `stall_ms`, of checks
 * too; they may be written so as well), `needs` and `checks` are lists (`checks: none`: an empty one), `pin` is {path: SHA-256}, `schema` is the schema itself, and `command`, `agent`, `resolve` are as written: a text is for sh -c. */
#ifndef PERDURE_TASK_PLAN_H
#define PERDURE_TASK_PLAN_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    PLAN_BYTES_MAX = 16 << 20,
    PLAN_TASKS_MAX = 100000,
    PLAN_ID_MAX = 100, /* bytes of a task's id: letters, digits, - _ . */
    PLAN_NEEDS_MAX = 1000,
    PLAN_CHECKS_MAX = 100,
    PLAN_MEMORY_MAX = 1 << 30, /* while it is read */
    PLAN_RETRIES_MAX = 100,
    PLAN_WHY_BYTES = 640,
    PLAN_FILL_MAX = 8 << 20, /* bytes that a text may become with everything filled in */
};
/* What a plan may leave out. */
enum {
    PLAN_RETRIES = 3,
    PLAN_BACKOFF_MS = 2000,
    PLAN_TIMEOUT_MS = 10 * 60 * 1000, /* of an agent: none */
    PLAN_PLANNER_MOST = 50,
};
/* The task that makes the others; no task of a file can be called so. */
#define PLAN_PLANNER_ID "@plan"

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
    bool output_used; /* by the text of another task; what it prints cannot be done without */
    unsigned line;
};
struct plan {
    struct span name, goal;  /* text */
    struct span model;       /* of llm tasks that name none; empty: none */
    struct span planner;     /* JSON; empty: the tasks are given */
    struct plan_task *tasks; /* in an order in which needs come first */
    unsigned tasks_count;
    uint64_t budget_tokens; /* 0: none */
    uint64_t budget_picodollars;
    struct span defaults; /* JSON */
    struct span document; /* JSON: the whole plan but its tasks */
};

/* The files beside a plan; paths are relative to it. */
struct plan_files {
    /* A schema that is the name of a file. */
    pd_err (*read)(void *ctx, const char *path, struct arena *a, struct span *ret);
    /* SHA-256 of a pinned file, in hex. */
    pd_err (*hash)(void *ctx, const char *path, char ret[65]);
    void *ctx;
};

/* Everything lives in `a`. `files` NULL: the names of schemas are refused, and pinned files stay without their hashes.
 * PD_INVALID: `why` has "plan.yaml line 7: task \"test\" needs \"wirte\", which is no task: did you mean \"write\"?"
 * (unknown members, twice the same id, a circle of needs with its ids, kinds that do not fit their members). PD_TOOBIG, PD_NOMEM. */
pd_err plan_parse(struct span text, const char *name, const struct plan_files *files, struct arena *a,
                  struct plan *ret, char why[PLAN_WHY_BYTES]) PD_CHECKED;
/* The plan as JSON that plan_parse() takes, with everything in it that was read from files: what `perdure run` sends. */
pd_err plan_put_json(const struct plan *p, struct buf *out) PD_CHECKED;
/* A planner model's answer: {"tasks": [...]}, each as in the file, checked alike, of the kinds that the plan lets it make and no more than
 * its `most`. What it writes stays below the folder the run works in. */
pd_err plan_parse_tasks(struct span json, const struct plan *of, struct arena *a, struct plan *ret,
                        char why[PLAN_WHY_BYTES]) PD_CHECKED;
extern const char plan_tasks_schema[];
/* The spec of PLAN_PLANNER_ID: an llm task whose answer plan_parse_tasks() reads. */
pd_err plan_planner_spec(const struct plan *p, struct arena *a, struct span *ret) PD_CHECKED;
/* A plan without its tasks, out of its `document`; for plan_parse_tasks(). */
pd_err plan_of_document(struct span document, struct arena *a, struct plan *ret) PD_CHECKED;

/* ${run}, ${task}, ${attempt}, ${goal}, ${id.output}, ${id.output.member}: filled in from `of`; "$${" is "${". Out of a text into a text.
 * PD_NOTFOUND: `why` names it. */
typedef pd_err plan_value_fn(void *ctx, struct span name, struct buf *out); /* PD_NOTFOUND: it is not known */
pd_err plan_fill(struct span text, plan_value_fn *of, void *ctx, struct buf *out,
                 char why[PLAN_WHY_BYTES]) PD_CHECKED;
/* "id.output" or "id.output.member" out of a claim's inputs: a string as its text, anything else as JSON. For a plan_value_fn. PD_NOTFOUND: there
 * is none. */
pd_err plan_input(struct span inputs, struct span name, struct buf *out) PD_CHECKED;

#endif
