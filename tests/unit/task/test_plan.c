#include "task/plan.h"

#include "parse/json.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>

#define WHOLE                                                                                  \
    "goal: count words\n"                                                                      \
    "model: coder\n"                                                                           \
    "budget: {tokens: 2000000, cost: 5.25}\n"                                                  \
    "defaults: {retries: 2, timeout: 5m, risky: true}\n"                                       \
    "tasks:\n"                                                                                 \
    "  - id: test\n"                                                                           \
    "    needs: [write]\n"                                                                     \
    "    command: [make, test]\n"                                                              \
    "    checks:\n"                                                                            \
    "      - {command: \"./wc < input\", pin: [input, expected], timeout: 10s}\n"              \
    "      - {file: wc, exists: true}\n"                                                       \
    "      - {output: {matches: \"^ok\", equals: 3}}\n"                                        \
    "    idempotency_key: \"deploy-${run}\"\n"                                                 \
    "    resolve: ./was-it\n"                                                                  \
    "    env: {A: 1, B: \"two\"}\n"                                                            \
    "    review: true\n"                                                                       \
    "  - id: design\n"                                                                         \
    "    prompt: \"List functions.\"\n"                                                        \
    "    schema: {type: object, properties: {n: {type: number, maximum: 5}}, required: [n]}\n" \
    "    temperature: 0.5\n"                                                                   \
    "  - id: write\n"                                                                          \
    "    needs: design\n"                                                                      \
    "    prompt: \"Write it: ${design.output.n} for $${HOME}\"\n"                              \
    "    write: {path: wc.c, from: code}\n"                                                    \
    "    retries: 0\n"                                                                         \
    "  - id: polish\n"                                                                         \
    "    agent: opencode run\n"                                                                \
    "    stall: 10m\n"                                                                         \
    "    needs: [test, design]\n"

static pd_err file_of(void *ctx, const char *path, struct arena *a, struct span *ret)
{
    (void)ctx, (void)a;
    if (strcmp(path, "bad.json") == 0)
        return *ret = SPAN_LIT("{\"type\":"), PD_OK;
    if (strcmp(path, "list.json") == 0)
        return *ret = SPAN_LIT("[1]"), PD_OK;
    if (strcmp(path, "good.json") != 0)
        return PD_NOTFOUND;
    *ret = SPAN_LIT("{\n \"type\": \"object\"\n}\n");
    return PD_OK;
}

static pd_err hash_of(void *ctx, const char *path, char ret[65])
{
    (void)ctx;
    memset(ret, path[0], 64);
    ret[64] = '\0';
    return strcmp(path, "gone") == 0 ? PD_NOTFOUND : PD_OK;
}

static const struct plan_files files = {file_of, hash_of, NULL};

static pd_err parse(const char *text, struct arena *a, struct plan *p, char *why)
{
    return plan_parse(span_str(text), "plan.yaml", &files, a, p, why);
}

static const struct plan_task *task(const struct plan *p, const char *id)
{
    for (unsigned i = 0; i < p->tasks_count; i++)
        if (span_is(p->tasks[i].id, id))
            return &p->tasks[i];
    fail_msg("no task %s", id);
    abort();
}

static struct json spec_of(const struct plan_task *t, const char *path)
{
    struct json v;
    assert_int_equal(json_check(t->spec), PD_OK);
    assert_int_equal(json_first(t->spec, &v, NULL), PD_OK);
    return json_path(v, path);
}

static void assert_raw(const struct plan_task *t, const char *path, const char *raw)
{
    struct span s = spec_of(t, path).raw;
    if (!span_is(s, raw))
        fail_msg("%s is %.*s, not %s", path, SPAN_FMT(s), raw);
}

static void a_whole_plan_is_taken_with_its_defaults(void **state)
{
    (void)state;
    struct arena a;
    struct plan p;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    pd_err e = parse(WHOLE, &a, &p, why);
    assert_string_equal(why, "");
    assert_int_equal(e, PD_OK);
    assert_int_equal(p.tasks_count, 4);
    assert_int_equal(p.budget_tokens, 2000000);
    assert_int_equal(p.budget_picodollars, 5250000000000);
    assert_true(span_is(p.goal, "count words"));
    assert_true(span_is(p.name, "plan.yaml"));
    const char *order[] = {"design", "write", "test", "polish"};
    for (unsigned i = 0; i < 4; i++)
        assert_true(span_is(p.tasks[i].id, order[i]));
    const struct plan_task *t = task(&p, "test");
    assert_int_equal(t->kind, TASK_COMMAND);
    assert_int_equal(t->retries, 2);
    assert_int_equal(t->timeout_ms, 300000);
    assert_int_equal(t->backoff_ms, PLAN_BACKOFF_MS);
    assert_true(t->review);
    assert_int_equal(t->needs_count, 1);
    assert_true(span_is(t->needs[0], "write"));
    assert_raw(t, "command", "[\"make\",\"test\"]");
    assert_raw(t, "checks.0.command", "\"./wc < input\"");
    assert_int_equal(spec_of(t, "checks.0.pin.input").raw.n, 66);
    assert_raw(t, "checks.0.timeout_ms", "10000");
    assert_raw(t, "checks.1.exists", "true");
    assert_raw(t, "checks.2.output", "{\"matches\":\"^ok\",\"equals\":3}");
    assert_raw(t, "env", "{\"A\":\"1\",\"B\":\"two\"}");
    assert_raw(t, "resolve", "\"./was-it\"");
    assert_raw(t, "timeout_ms", "300000");
    assert_raw(t, "risky", "true");
    assert_int_equal(spec_of(t, "model").type, JSON_NONE);
    t = task(&p, "write");
    assert_int_equal(t->retries, 0);
    assert_raw(t, "retries", "0");
    assert_raw(t, "needs", "[\"design\"]");
    assert_raw(t, "model", "\"coder\"");
    assert_raw(t, "write", "{\"path\":\"wc.c\",\"from\":\"code\"}");
    t = task(&p, "design");
    assert_raw(t, "schema.properties.n.maximum", "5");
    assert_raw(t, "temperature", "0.5");
    t = task(&p, "polish");
    assert_raw(t, "stall_ms", "600000");
    assert_int_equal(json_check(p.document), PD_OK);
    for (unsigned i = 0; i < p.tasks_count; i++) /* by the prompt of `write` alone */
        assert_int_equal(p.tasks[i].output_used, span_is(p.tasks[i].id, "design"));
    arena_done(&a);
}

/* ---- what is refused, and in which words ------------------------------------------------------ */

#define T "tasks:\n"
static const struct row {
    const char *name, *text, *says;
} rows[] = {
    {"nothing", "", "plan.yaml: the file is empty: write a goal and tasks"},
    {"a list", "- a\n",
     "plan.yaml line 1: a plan is a mapping, and this is a list: begin with `goal:` and `tasks:`"},
    {"no YAML", "goal: [\n", "plan.yaml line"},
    {"a tab", "goal: x\ntasks:\n\t- id: a\n", "indent with spaces, YAML takes no tabs"},
    {"a model that is no name", "model: a ${b}\n" T "- {id: a, prompt: x}\n",
     "plan.yaml line 1: model of a plan is a name"},
    {"an unknown member", "gaol: x\n", "plan.yaml line 1: a plan has no member \"gaol\": did you mean \"goal\"?"},
    {"a member twice", "goal: x\ngoal: y\n", "line 2: a plan has \"goal\" twice, first in line 1: remove one"},
    {"no tasks", "goal: x\n", "the plan has no tasks: write `tasks:`, or a `planner:` that makes them"},
    {"an empty list", "goal: x\ntasks: []\n",
     "line 2: tasks is an empty list: write a list with at least one task"},
    {"tasks as a mapping", "tasks: {a: 1}\n", "tasks is a mapping"},
    {"a task as a text", T "- a\n", "line 2: task 1 is a single value: write a mapping with an id"},
    {"no id", T "- prompt: x\n", "line 2: task 1 has no id: write one, as in `id: test`"},
    {"an id with a blank", T "- {id: a b, prompt: x}\n",
     "the id \"a b\" has another byte than letters, digits, '-', '_' and '.'"},
    {"an id twice", T "- {id: a, prompt: x}\n- {id: a, prompt: x}\n",
     "line 3: the id \"a\" is there twice, first in line 2: ids are to be different"},
    {"a kind with a slip", T "- {id: a, comand: make}\n",
     "task \"a\" has no member \"comand\": did you mean \"command\"?"},
    {"no kind", T "- {id: a}\n", "task \"a\" has no prompt, command or agent: write one of them"},
    {"two kinds", T "- {id: a, prompt: x, command: y}\n",
     "task \"a\" has both prompt and command: make two tasks of it"},
    {"a kind that does not fit", T "- {id: a, kind: llm, command: y}\n",
     "task \"a\" is of kind llm and has a command: remove one of both"},
    {"a kind without its member", T "- {id: a, kind: llm}\n", "task \"a\" is of kind llm and has no prompt"},
    {"an unknown kind", T "- {id: a, kind: comand, command: x}\n",
     "task \"a\": kind is \"comand\": write llm, command or agent: did you mean \"command\"?"},
    {"an unknown member of a task", T "- {id: a, promt: x, command: y}\n",
     "task \"a\" has no member \"promt\": did you mean \"prompt\"?"},
    {"a member of another kind", T "- {id: a, prompt: x, cwd: y}\n",
     "task \"a\" is of kind llm, which has no \"cwd\""},
    {"a need that is no task", T "- {id: write, prompt: x}\n- {id: test, prompt: x, needs: [wirte]}\n",
     "plan.yaml line 3: task \"test\" needs \"wirte\", which is no task: did you mean \"write\"?"},
    {"a need twice", T "- {id: a, prompt: x}\n- {id: b, prompt: x, needs: [a, a]}\n",
     "task \"b\" needs \"a\" twice"},
    {"itself", T "- {id: a, prompt: x, needs: a}\n",
     "line 2: tasks need each other in a circle: a -> a: remove one of these needs"},
    {"a circle",
     T "- {id: a, prompt: x, needs: c}\n- {id: b, prompt: x, needs: a}\n- {id: c, prompt: x, needs: b}\n",
     "tasks need each other in a circle: a -> c -> b -> a: remove one of these needs"},
    {"a circle behind a tail",
     T "- {id: t, prompt: x, needs: a}\n- {id: a, prompt: x, needs: b}\n- {id: b, prompt: x, needs: a}\n",
     "circle: a -> b -> a: remove"},
    {"a duration without unit", T "- {id: a, prompt: x, timeout: 10}\n",
     "task \"a\": timeout is \"10\": write a unit, as in \"10s\""},
    {"a duration over its limit", T "- {id: a, prompt: x, timeout: 8d}\n", "task \"a\": timeout is \"8d\""},
    {"retries that are no number", T "- {id: a, prompt: x, retries: many}\n",
     "task \"a\": retries is \"many\": write a whole number from 0 to 100"},
    {"a bool that is none", T "- {id: a, prompt: x, review: yes}\n",
     "task \"a\": review is \"yes\": write true or false"},
    {"an empty prompt", T "- {id: a, prompt: ' '}\n", "task \"a\": prompt is empty: write a text"},
    {"an empty command", T "- {id: a, command: []}\n", "task \"a\": command is an empty list"},
    {"a program's list with a mapping", T "- {id: a, command: [x, {y: 1}]}\n",
     "task \"a\": command is a mapping: write a text"},
    {"a schema that is a number", T "- {id: a, prompt: x, schema: [1]}\n", "task \"a\": schema is a list"},
    {"a schema file that is not there", T "- {id: a, prompt: x, schema: no.json}\n",
     "task \"a\": schema: no.json cannot be read: not found"},
    {"a schema file that is no JSON", T "- {id: a, prompt: x, schema: bad.json}\n", "bad.json is no JSON Schema"},
    {"a schema file that is a list", T "- {id: a, prompt: x, schema: list.json}\n", "list.json is no JSON Schema"},
    {"a write without a path", T "- {id: a, prompt: x, write: {from: code}}\n", "task \"a\": write has no path"},
    {"a check of no kind", T "- {id: a, prompt: x, checks: [{comand: y}]}\n",
     "task \"a\": checks: a check has no command, file or output: write one of them: did you mean \"command\"?"},
    {"a check of two kinds", T "- {id: a, prompt: x, checks: [{file: y, command: z}]}\n",
     "one check has both command and file: make two of it"},
    {"a check with another's member", T "- {id: a, prompt: x, checks: [{file: y, pin: [z]}]}\n",
     "has no member \"pin\""},
    {"an output check of nothing", T "- {id: a, prompt: x, checks: [{output: ok}]}\n", "write {matches: PATTERN}"},
    {"an environment as a list", T "- {id: a, command: x, env: [A]}\n", "task \"a\": env is a list"},
    {"a reference to what it does not need", T "- {id: a, prompt: x}\n- {id: b, prompt: \"${a.output}\"}\n",
     "task \"b\" uses ${a.output} and does not need \"a\": add it to its needs"},
    {"a reference to no task",
     T "- {id: design, prompt: x}\n- {id: b, prompt: \"${desing.output}\", needs: design}\n",
     "task \"b\" uses ${desing.output}, and \"desing\" is no task: did you mean \"design\"?"},
    {"a variable of the shell", T "- {id: a, command: \"echo ${HOME}\"}\n",
     "write $${HOME} where the shell is to fill it in"},
    {"a reference that is not closed", T "- {id: a, prompt: \"${run\"}\n", "\"${run\" is not closed by a '}'"},
    {"a reference deep in a check", T "- {id: a, prompt: x, checks: [{command: [a, \"${b.output}\"]}]}\n",
     "task \"a\" uses ${b.output}, and \"b\" is no task"},
    {"a duration in both spellings", T "- {id: a, prompt: x, timeout: 1s, timeout_ms: 5}\n",
     "task \"a\" has both timeout and timeout_ms: remove one"},
    {"milliseconds that are none", T "- {id: a, prompt: x, timeout_ms: 5s}\n",
     "timeout_ms is \"5s\": write a whole number"},
    {"a pinned file that is not there", T "- {id: a, prompt: x, checks: {command: y, pin: gone}}\n",
     "pin: gone cannot be read: not found"},
    {"a pin with half a hash", T "- {id: a, prompt: x, checks: {command: y, pin: {z: abc}}}\n",
     "is no SHA-256 in hex"},
    {"a budget of nothing", "budget: {tokens: 0}\n" T "- {id: a, prompt: x}\n", "budget: tokens is \"0\""},
    {"a budget that is no money", "budget: {cost: 5 euro}\n" T "- {id: a, prompt: x}\n",
     "budget: cost is \"5 euro\": write dollars, as in 5.00"},
    {"defaults that no default can be", "defaults: {prompt: x}\n" T "- {id: a, prompt: x}\n",
     "defaults has no member \"prompt\""},
    {"defaults that are wrong", "defaults: {timeout: soon}\n" T "- {id: a, prompt: x}\n",
     "defaults: timeout is \"soon\""},
    {"a planner and tasks", "goal: x\nplanner: {model: m}\n" T "- {id: a, prompt: x}\n",
     "the plan has tasks and a planner: remove one of both"},
    {"a planner without a goal", "planner: {model: m}\n", "a planner needs a goal"},
    {"a planner without a model", "goal: x\nplanner: {most: 3}\n", "planner has no model"},
    {"a planner of an unknown kind", "goal: x\nplanner: {model: m, kinds: [shell]}\n",
     "planner: kinds has \"shell\""},
    {"JSON with a fault in a task", "{\"tasks\": [\n{\"id\": \"a\",\n\"prompt\": 5, \"x\": 1}]}",
     "line 3: task \"a\" has no member \"x\""},
};

static void what_is_wrong_is_said_with_line_and_remedy(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena a;
        struct plan p;
        char why[PLAN_WHY_BYTES];
        arena_init(&a, 0, 0);
        pd_err e = parse(rows[i].text, &a, &p, why);
        if (e != PD_INVALID || !strstr(why, rows[i].says))
            fail_msg("%s: %s: \"%s\"", rows[i].name, pd_err_name(e), why);
        arena_done(&a);
    }
}

static void a_schema_is_read_from_its_file(void **state)
{
    (void)state;
    struct arena a;
    struct plan p;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    assert_int_equal(parse(T "- {id: a, prompt: x, schema: good.json}\n", &a, &p, why), PD_OK);
    assert_raw(&p.tasks[0], "schema", "{ \"type\": \"object\"}");
    assert_int_equal(plan_parse(SPAN_LIT(T "- {id: a, prompt: x, schema: good.json}\n"), "p", NULL, &a, &p, why),
                     PD_INVALID);
    assert_non_null(strstr(why, "none is read here"));
    arena_done(&a);
}

static void json_is_a_plan_too(void **state)
{
    (void)state;
    struct arena a;
    struct plan p;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    assert_int_equal(
        parse("{\"goal\": \"\\ud83d\\ude00\", \"tasks\": [{\"id\": \"a\", \"command\": [\"x\", \"\"], "
              "\"env\": {\"N\": 5}, \"retries\": 1}]}",
              &a, &p, why),
        PD_OK);
    assert_true(span_is(p.goal, "\xf0\x9f\x98\x80"));
    assert_raw(&p.tasks[0], "command", "[\"x\",\"\"]");
    assert_raw(&p.tasks[0], "env", "{\"N\":\"5\"}");
    arena_done(&a);
}

/* What is sent on is read again to the same plan, without any file. */
static void a_plan_written_as_json_is_the_same_plan(void **state)
{
    (void)state;
    static const char *const texts[] = {WHOLE,
                                        T "- {id: a, agent: x, timeout: 1h}\n- {id: b, command: y, checks: "
                                          "none}\n- {id: c, prompt: z, schema: good.json}\n",
                                        "goal: g\nplanner: {model: m}\n"};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct arena a;
        struct plan p, again;
        struct buf json = {0};
        char why[PLAN_WHY_BYTES];
        arena_init(&a, 0, 0);
        assert_int_equal(parse(texts[i], &a, &p, why), PD_OK);
        assert_int_equal(plan_put_json(&p, &json), PD_OK);
        pd_err e = plan_parse(buf_span(&json), "sent", NULL, &a, &again, why);
        assert_string_equal(why, "");
        assert_int_equal(e, PD_OK);
        assert_int_equal(again.tasks_count, p.tasks_count);
        assert_true(span_eq(again.goal, p.goal));
        assert_int_equal(again.budget_picodollars, p.budget_picodollars);
        for (unsigned k = 0; k < p.tasks_count; k++) {
            const struct plan_task *x = &p.tasks[k], *y = &again.tasks[k];
            assert_true(span_eq(x->id, y->id));
            assert_int_equal(x->timeout_ms, y->timeout_ms);
            assert_int_equal(x->retries, y->retries);
            assert_int_equal(x->backoff_ms, y->backoff_ms);
            assert_int_equal(x->review, y->review);
            assert_int_equal(spec_of(x, "checks").raw.n, spec_of(y, "checks").raw.n);
            assert_true(span_eq(spec_of(x, "schema.type").raw, spec_of(y, "schema.type").raw));
        }
        buf_done(&json);
        arena_done(&a);
    }
}

/* Each task needs the one behind it in the file. */
static void a_chain_of_very_many_tasks_is_put_in_order(void **state)
{
    (void)state;
    enum { N = PLAN_TASKS_MAX };
    struct arena a;
    struct plan p;
    struct buf text = {0};
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    assert_int_equal(buf_puts(&text, T), PD_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(
            buf_printf(&text, i + 1 < N ? "- {id: t%d, command: x, needs: t%d}\n" : "- {id: t%d, command: x}\n", i,
                       i + 1),
            PD_OK);
    assert_int_equal(plan_parse(buf_span(&text), "p", NULL, &a, &p, why), PD_OK);
    assert_int_equal(p.tasks_count, N);
    for (unsigned i = 0; i < N; i += 997) {
        char id[20];
        snprintf(id, sizeof(id), "t%u", N - 1 - i);
        assert_true(span_is(p.tasks[i].id, id));
    }
    assert_int_equal(buf_puts(&text, "- {id: more, command: x}\n"), PD_OK);
    assert_int_equal(plan_parse(buf_span(&text), "p", NULL, &a, &p, why), PD_INVALID);
    assert_non_null(strstr(why, "more than 100000 entries"));
    buf_done(&text);
    arena_done(&a);
}

/* ---- planners ---------------------------------------------------------------------------------- */

#define PLANNER \
    "goal: sort \"things\"\nmodel: coder\ndefaults: {retries: 1}\nplanner: {most: 3, kinds: [llm, command]}\n"

static void a_planner_is_asked_for_tasks_and_its_answer_is_checked_as_a_plan(void **state)
{
    (void)state;
    static const struct row answers[] = {
        {"fine",
         "{\"tasks\": [{\"id\": \"a\", \"prompt\": \"x\"}, {\"id\": \"b\", \"command\": [\"y\", \"${a.output}\"], "
         "\"needs\": [\"a\"]}]}",
         ""},
        {"no JSON", "{\"tasks\": [", "the answer line 1: not JSON"},
        {"no tasks", "{\"steps\": []}", "there are no tasks: answer with"},
        {"too many", "{\"tasks\": [{\"id\": \"a\"}, {\"id\": \"b\"}, {\"id\": \"c\"}, {\"id\": \"d\"}]}",
         "4 tasks: at most 3 may be"},
        {"a kind that it may not make", "{\"tasks\": [{\"id\": \"a\", \"agent\": \"x\"}]}",
         "task \"a\" is of kind agent, which the planner may not make"},
        {"a need of nothing", "{\"tasks\": [{\"id\": \"a\", \"prompt\": \"x\", \"needs\": [\"z\"]}]}",
         "task \"a\" needs \"z\""},
        {"a file outside",
         "{\"tasks\": [{\"id\": \"a\", \"prompt\": \"x\", \"write\": {\"path\": \"b/../../x\"}}]}",
         "write a path below the working folder"},
        {"an absolute file", "{\"tasks\": [{\"id\": \"a\", \"prompt\": \"x\", \"write\": \"/etc/x\"}]}",
         "write a path below the working folder"},
        {"a schema file", "{\"tasks\": [{\"id\": \"a\", \"prompt\": \"x\", \"schema\": \"good.json\"}]}",
         "none is read here"},
    };
    struct arena a;
    struct plan p, of, made;
    struct span spec;
    struct json v;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    assert_int_equal(parse(PLANNER, &a, &p, why), PD_OK);
    assert_int_equal(p.tasks_count, 0);
    assert_int_equal(plan_planner_spec(&p, &a, &spec), PD_OK);
    assert_int_equal(json_check(spec), PD_OK);
    assert_int_equal(json_first(spec, &v, NULL), PD_OK);
    assert_true(json_is(json_get(v, "model"), "coder"));
    assert_true(span_has(json_get(v, "prompt").raw,
                         "The goal: ${goal}\\n")); /* filled in, not written: it may have a "${" */
    assert_true(span_has(json_get(v, "prompt").raw, "at most 3 tasks"));
    assert_true(span_has(json_get(v, "prompt").raw, "a program with its arguments"));
    assert_false(span_has(json_get(v, "prompt").raw, "works on until"));
    assert_int_equal(plan_of_document(p.document, &a, &of), PD_OK);
    for (unsigned i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        pd_err e = plan_parse_tasks(span_str(answers[i].text), &of, &a, &made, why);
        if (answers[i].says[0] ? e != PD_INVALID || !strstr(why, answers[i].says) : e != PD_OK)
            fail_msg("%s: %s", answers[i].name, why);
        if (!e) {
            assert_int_equal(made.tasks_count, 2);
            assert_int_equal(made.tasks[0].retries, 1);
            assert_raw(&made.tasks[0], "model", "\"coder\"");
        }
    }
    arena_done(&a);
}

static void a_planner_of_questions_makes_no_program_run(void **state)
{
    (void)state;
    static const struct row answers[] = {
        {"a check of an output",
         "{\"id\": \"a\", \"prompt\": \"x\", \"checks\": [{\"output\": {\"contains\": \"y\"}}]}", ""},
        {"a task", "{\"id\": \"a\", \"command\": \"x\"}", "of kind command, which the planner may not make"},
        {"a check", "{\"id\": \"a\", \"prompt\": \"x\", \"checks\": [{\"command\": \"x\"}]}",
         "is a program, which the planner may not make"},
        {"one check", "{\"id\": \"a\", \"prompt\": \"x\", \"checks\": {\"command\": [\"x\"]}}",
         "is a program, which the planner may not make"},
        {"a question about an effect",
         "{\"id\": \"a\", \"prompt\": \"x\", \"idempotency_key\": \"k\", \"resolve\": \"x\"}",
         "is a program, which the planner may not make"},
        {"a path that an answer gives",
         "{\"id\": \"b\", \"prompt\": \"x\"}, {\"id\": \"a\", \"prompt\": \"x\", \"needs\": [\"b\"], \"write\": "
         "\"${b.output}\"}",
         "write a path below the working folder"},
    };
    struct arena a;
    struct plan p, of, made;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 0, 0);
    assert_int_equal(parse("goal: x\nplanner: {model: m}\n", &a, &p, why), PD_OK);
    assert_int_equal(plan_of_document(p.document, &a, &of), PD_OK);
    for (unsigned i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        char text[400];
        snprintf(text, sizeof(text), "{\"tasks\": [%s]}", answers[i].text);
        pd_err e = plan_parse_tasks(span_str(text), &of, &a, &made, why);
        if (answers[i].says[0] ? e != PD_INVALID || !strstr(why, answers[i].says) : e != PD_OK)
            fail_msg("%s: %s", answers[i].name, why);
    }
    arena_done(&a);
}

/* ---- filling in --------------------------------------------------------------------------------- */

static pd_err value_of(void *ctx, struct span name, struct buf *out)
{
    if (span_is(name, "run"))
        return buf_puts(out, "r-1");
    return plan_input(span_str(ctx), name, out);
}

static void names_in_a_text_are_filled_in(void **state)
{
    (void)state;
    static const struct row texts[] = {
        {"none", "a $ b $x {y} $", "a $ b $x {y} $"},
        {"one", "deploy-${run}", "deploy-r-1"},
        {"two", "${run}${run}", "r-1r-1"},
        {"the shell's", "$${HOME} ${run} $${run}", "${HOME} r-1 ${run}"},
        {"a text", "<${a.output}>", "<x\"y>"},
        {"a number", "${b.output}", "{\"n\": 5, \"list\": [1, 2]}"},
        {"a member", "${b.output.n}/${b.output.list.1}", "5/2"},
        {"an id with points", "${a.b.output}", "deep"},
        {"filled in text is not filled in again", "${c.output}", "${run}"},
    };
    char inputs[] =
        "{\"a\": \"x\\\"y\", \"b\": {\"n\": 5, \"list\": [1, 2]}, \"a.b\": \"deep\", \"c\": \"${run}\"}";
    char why[PLAN_WHY_BYTES];
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf out = {0};
        pd_err e = plan_fill(span_str(texts[i].text), value_of, inputs, &out, why);
        if (e || !span_is(buf_span(&out), texts[i].says))
            fail_msg("%s: %.*s", texts[i].name, SPAN_FMT(buf_span(&out)));
        buf_done(&out);
    }
    struct buf out = {0};
    assert_int_equal(plan_fill(SPAN_LIT("${z.output}"), value_of, inputs, &out, why), PD_NOTFOUND);
    assert_string_equal(why, "${z.output} is not known here");
    assert_int_equal(plan_fill(SPAN_LIT("${b.output.m}"), value_of, inputs, &out, why), PD_NOTFOUND);
    assert_int_equal(plan_fill(SPAN_LIT("${run"), value_of, inputs, &out, why), PD_NOTFOUND);
    buf_done(&out);
}

/* ---- memory, and files cut anywhere ---------------------------------------------------------------- */

static pd_err read_whole(void *ctx)
{
    struct arena a;
    struct plan p;
    char why[PLAN_WHY_BYTES];
    arena_init(&a, 256, 0);
    pd_err e = parse(ctx, &a, &p, why);
    struct span spec;
    if (!e && p.planner.n)
        e = plan_planner_spec(&p, &a, &spec);
    if (!e && p.planner.n)
        e = plan_parse_tasks(SPAN_LIT("{\"tasks\": [{\"id\": \"a\", \"prompt\": \"x\\n\", \"needs\": []}]}"), &p,
                             &a, &p, why);
    arena_done(&a);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char whole[] = WHOLE, planner[] = PLANNER;
    assert_true(torture(read_whole, whole) > 10);
    assert_true(torture(read_whole, planner) > 10);
}

static void a_plan_cut_anywhere_is_refused_with_a_reason_or_taken(void **state)
{
    (void)state;
    static const char whole[] = WHOLE;
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct arena a;
        struct plan p;
        char why[PLAN_WHY_BYTES];
        arena_init(&a, 0, 0);
        pd_err e = plan_parse(span_of(whole, n), "plan.yaml", &files, &a, &p, why);
        assert_true(e == PD_OK || e == PD_INVALID);
        assert_int_equal(e == PD_OK, why[0] == '\0');
        arena_done(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_plan_is_taken_with_its_defaults),
        cmocka_unit_test(what_is_wrong_is_said_with_line_and_remedy),
        cmocka_unit_test(a_schema_is_read_from_its_file),
        cmocka_unit_test(json_is_a_plan_too),
        cmocka_unit_test(a_plan_written_as_json_is_the_same_plan),
        cmocka_unit_test(a_chain_of_very_many_tasks_is_put_in_order),
        cmocka_unit_test(a_planner_of_questions_makes_no_program_run),
        cmocka_unit_test(a_planner_is_asked_for_tasks_and_its_answer_is_checked_as_a_plan),
        cmocka_unit_test(names_in_a_text_are_filled_in),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_plan_cut_anywhere_is_refused_with_a_reason_or_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
