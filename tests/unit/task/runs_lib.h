/* runs_lib.h - the jobs of runs.h as plain calls, for tests: one database, one clock that the test moves. */
#ifndef PERDURE_TESTS_RUNS_LIB_H
#define PERDURE_TESTS_RUNS_LIB_H

#include "base/mem.h"
#include "parse/json.h"
#include "task/runs.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char where[300];
static struct db *db;
static uint64_t now_ms = 1000000, mono_ms = 5000;
static struct sweeper *sweeper;

static inline void open_db(void)
{
    char why[500] = "";
    struct db_rules rules;
    db_rules_default(&rules);
    pd_err e = db_open(where, &rules, &db, why, sizeof(why));
    if (e)
        fail_msg("%s", why);
    sweeper = sweeper_new();
    assert_non_null(sweeper);
}

static inline void close_db(void)
{
    db = db_close(db);
    sweeper = sweeper_free(sweeper);
}

/* Another process, with a monotonic clock that knows nothing of the one before. */
static inline void new_sweeper(uint64_t at_ms)
{
    sweeper_free(sweeper);
    sweeper = sweeper_new();
    assert_non_null(sweeper);
    mono_ms = at_ms;
}

struct op {
    enum {
        CREATE,
        CLAIM,
        BEAT,
        BEGIN,
        END,
        FINISH,
        SWEEP,
        REVIEW,
        WISH,
        ONE,
        LIST,
        TASK,
        EVENTS,
        REVIEWS,
        SQL
    } what;
    const char *text, *key, *run, *task;
    struct claim_wish wish;
    struct claimed *claimed;
    struct held_task held;
    struct step step;
    struct task_end end;
    struct review review;
    enum run_wish run_wish;
    struct events_wish events;
    uint64_t now_ms;
    /* what it gives */
    char id[RUN_ID_BYTES];
    bool is_new, over;
    uint64_t wait_ms;
    struct beat_answer beat;
    enum step_found found;
    enum task_state state;
    enum run_state run_state;
    unsigned ended;
    int64_t number;
    struct buf out;
    char why[PLAN_WHY_BYTES];
};

static inline pd_err op_on_text(void *ctx, const struct db_value *c, unsigned n)
{
    struct op *o = ctx;
    (void)n;
    o->number = c[0].n;
    return c[0].type == DB_TEXT ? buf_add(&o->out, c[0].s) : PD_OK;
}

static inline pd_err op_create(struct tx *t, struct op *o)
{
    struct arena a;
    struct plan p;
    arena_init(&a, 0, 0);
    pd_err e = plan_parse(span_str(o->text), "plan.yaml", NULL, &a, &p, o->why);
    if (!e)
        e = runs_create(t, &p, span_str(o->key), o->now_ms, o->id, &o->run_state, &o->is_new);
    arena_done(&a);
    return e;
}

static inline pd_err op_job(struct tx *t, void *ctx)
{
    struct op *o = ctx;
    buf_clear(&o->out);
    switch (o->what) {
    case CREATE:
        return op_create(t, o);
    case CLAIM:
        return runs_claim(t, &o->wish, o->now_ms, o->claimed, &o->wait_ms);
    case BEAT:
        return runs_beat(t, &o->held, span_str(o->text), o->now_ms, &o->beat);
    case BEGIN:
        return runs_step_begin(t, &o->held, &o->step, o->now_ms, &o->found, &o->out);
    case END:
        return runs_step_end(t, &o->held, o->step.name, span_str(o->text), o->now_ms);
    case FINISH:
        return runs_finish(t, &o->held, &o->end, o->now_ms, &o->state);
    case SWEEP:
        return runs_sweep(t, sweeper, mono_ms, o->now_ms, &o->ended);
    case REVIEW:
        return runs_review(t, &o->review, o->now_ms, &o->state, o->why);
    case WISH:
        return runs_wish(t, o->run, o->run_wish, span_str(o->text), o->now_ms, &o->run_state);
    case ONE:
        return runs_one_json(t, o->run, true, &o->out);
    case LIST:
        return runs_list_json(t, 10, &o->out);
    case TASK:
        return runs_task_json(t, o->run, o->task, &o->out);
    case EVENTS:
        return runs_events_json(t, &o->events, &o->out, &o->number, &o->over);
    case REVIEWS:
        return runs_reviews_json(t, &o->out);
    case SQL:
        return TX_RUN(t, o->text, op_on_text, o, DB_S(o->run), DB_S(o->task));
    }
    return PD_INVALID;
}

static inline pd_err run_op(struct op *o)
{
    o->now_ms = now_ms;
    return db_do(db, op_job, o);
}

static inline const char *out_of(struct op *o) /* lives until the next but 7 */
{
    static __thread char texts[8][65536];
    static __thread unsigned at;
    char *to = texts[at++ % 8];
    snprintf(to, sizeof(texts[0]), "%.*s", SPAN_FMT(buf_span(&o->out)));
    buf_done(&o->out);
    return to;
}

static inline const char *create_keyed(const char *plan, const char *key)
{
    static __thread char ids[8][RUN_ID_BYTES];
    static __thread unsigned at;
    struct op o = {.what = CREATE, .text = plan, .key = key};
    runs_new_id(o.id);
    pd_err e = run_op(&o);
    if (e)
        fail_msg("%s: %s", pd_err_name(e), o.why);
    char *id = ids[at++ % 8];
    memcpy(id, o.id, RUN_ID_BYTES);
    return id;
}

static inline const char *create(const char *plan)
{
    return create_keyed(plan, "");
}

static inline pd_err claim_by(const char *worker, const char *word, const char *run, unsigned kinds,
                              struct claimed *ret, uint64_t *ret_wait)
{
    struct op o = {
        .what = CLAIM,
        .claimed = ret,
        .wish = {
            .worker = span_str(worker), .claim = span_str(word), .run = run, .kinds = kinds, .lease_ms = 10000}};
    pd_err e = run_op(&o);
    if (ret_wait)
        *ret_wait = o.wait_ms;
    return e;
}

static inline pd_err claim(const char *worker, struct claimed *ret)
{
    static _Atomic unsigned n;
    char word[CLAIM_BYTES];
    snprintf(word, sizeof(word), "%s-%u", worker, ++n);
    return claim_by(worker, word, NULL, 0, ret, NULL);
}

/* The claim, which there must be, of this task. */
static inline struct claimed must_claim(const char *worker, const char *task)
{
    struct claimed c;
    assert_int_equal(claim(worker, &c), PD_OK);
    assert_string_equal(c.task, task);
    return c;
}

static inline struct held_task held(const struct claimed *c)
{
    return (struct held_task){c->run, c->task, c->epoch};
}

static inline pd_err beat(const struct claimed *c, struct beat_answer *ret)
{
    struct op o = {.what = BEAT, .held = held(c), .text = ""};
    pd_err e = run_op(&o);
    if (ret)
        *ret = o.beat;
    return e;
}

static inline pd_err begin(const struct claimed *c, const char *step, enum step_kind kind, const char *key,
                           enum step_found *found, const char **result)
{
    struct op o = {.what = BEGIN, .held = held(c), .step = {step, kind, span_str(key)}};
    pd_err e = run_op(&o);
    *found = o.found;
    const char *text = out_of(&o);
    if (result)
        *result = text;
    return e;
}

static inline pd_err end_step(const struct claimed *c, const char *step, const char *result)
{
    struct op o = {.what = END, .held = held(c), .step = {.name = step}, .text = result};
    return run_op(&o);
}

static inline pd_err finish(const struct claimed *c, const struct task_end *end, enum task_state *ret)
{
    struct op o = {.what = FINISH, .held = held(c), .end = *end};
    pd_err e = run_op(&o);
    if (ret)
        *ret = o.state;
    return e;
}

static inline pd_err done(const struct claimed *c, const char *output)
{
    return finish(c, &(struct task_end){.outcome = OUTCOME_DONE, .output = span_str(output)}, NULL);
}

static inline pd_err failed(const struct claimed *c, const char *error)
{
    return finish(c, &(struct task_end){.outcome = OUTCOME_FAILED, .error = span_str(error)}, NULL);
}

static inline unsigned sweep(uint64_t pass_ms)
{
    struct op o = {.what = SWEEP};
    mono_ms += pass_ms;
    assert_int_equal(run_op(&o), PD_OK);
    return o.ended;
}

static inline pd_err decide(const char *run, const char *task, enum review_decision d, const char *value)
{
    struct op o = {.what = REVIEW, .review = {run, task, d, span_str(value), SPAN_LIT("ann")}};
    return run_op(&o);
}

static inline pd_err wish(const char *run, enum run_wish w)
{
    struct op o = {.what = WISH, .run = run, .run_wish = w, .text = "said so"};
    return run_op(&o);
}

static inline const char *sql(const char *text, const char *run, const char *task)
{
    struct op o = {.what = SQL, .text = text, .run = run, .task = task};
    pd_err e = run_op(&o);
    if (e)
        fail_msg("%s: %s", pd_err_name(e), text);
    return out_of(&o);
}

static inline const char *state_of(const char *run, const char *task)
{
    return sql("SELECT state FROM tasks WHERE run = $1 AND id = $2", run, task);
}

static inline const char *run_state_of(const char *run)
{
    return sql("SELECT state FROM runs WHERE id = $1 AND $2 = ''", run, "");
}

static inline const char *json_of(int what, const char *run, const char *task)
{
    struct op o = {.what = what, .run = run, .task = task};
    pd_err e = run_op(&o);
    if (e)
        fail_msg("%s", pd_err_name(e));
    const char *text = out_of(&o);
    if (json_check(span_str(text)) != PD_OK)
        fail_msg("no JSON: %s", text);
    return text;
}

/* "claimed done claimed failed": what happened to a task, in order. */
static inline const char *story(const char *run, const char *task)
{
    return sql("SELECT {lite:GROUP_CONCAT}{pg:STRING_AGG}(what, ' ') FROM (SELECT what FROM run_events WHERE run "
               "= $1 AND task = $2"
               " ORDER BY seq) x",
               run, task);
}

static inline void claims_done(struct claimed *c)
{
    claimed_done(c);
}

#endif
