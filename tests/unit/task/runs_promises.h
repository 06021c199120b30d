/* runs_promises.h - what runs.h promises, the same for both databases. Includes its tests' lib; use RUNS_PROMISES(TEST). */
#ifndef PERDURE_TESTS_RUNS_PROMISES_H
#define PERDURE_TESTS_RUNS_PROMISES_H

#include "runs_lib.h"

#include <pthread.h>

#define THREE                                                          \
    "goal: g\nmodel: m\ndefaults: {retries: 1, backoff: 2s}\ntasks:\n" \
    "- {id: a, prompt: x}\n- {id: b, prompt: y, needs: a}\n- {id: c, command: z, needs: [a, b]}\n"
#define ONE_TASK "tasks:\n- {id: a, command: x, retries: 1, backoff: 2s}\n"

static void assert_state(const char *run, const char *task, const char *state)
{
    assert_string_equal(state_of(run, task), state);
}

/* ---- the usual way --------------------------------------------------------------------------- */

static void a_run_is_done_task_by_task_in_the_order_of_needs(void **state)
{
    (void)state;
    const char *run = create(THREE);
    assert_state(run, "a", "ready");
    assert_state(run, "b", "waiting");
    assert_state(run, "c", "waiting");
    struct claimed c = must_claim("w", "a"), none;
    assert_string_equal(c.run, run);
    assert_int_equal(c.epoch, 1);
    assert_int_equal(c.attempt, 1);
    assert_int_equal(c.kind, TASK_LLM);
    assert_int_equal(c.lease_ms, 10000);
    assert_true(span_is(buf_span(&c.inputs), "{}"));
    assert_int_equal(buf_size(&c.last_error), 0);
    assert_true(span_has(buf_span(&c.spec), "\"prompt\":\"x\""));
    assert_true(span_has(buf_span(&c.run_document), "\"goal\":\"g\""));
    assert_state(run, "a", "running");
    uint64_t wait;
    assert_int_equal(claim_by("w", "other", NULL, 0, &none, &wait), PD_NOTFOUND);
    assert_true(wait == UINT64_MAX);
    assert_int_equal(done(&c, "{\"n\": 5}"), PD_OK);
    claimed_done(&c);
    assert_state(run, "b", "ready");
    assert_state(run, "c", "waiting");
    c = must_claim("w", "b");
    assert_true(span_is(buf_span(&c.inputs), "{\"a\":{\"n\": 5}}"));
    assert_int_equal(done(&c, "\"two\""), PD_OK);
    claimed_done(&c);
    c = must_claim("w", "c");
    assert_int_equal(c.kind, TASK_COMMAND);
    assert_true(span_is(buf_span(&c.inputs), "{\"a\":{\"n\": 5},\"b\":\"two\"}"));
    assert_string_equal(run_state_of(run), "running");
    assert_int_equal(done(&c, ""), PD_OK);
    claimed_done(&c);
    assert_string_equal(run_state_of(run), "done");
    assert_string_equal(story(run, "c"), "claimed done");
    assert_non_null(
        strstr(json_of(ONE, run, ""),
               "\"counts\":{\"waiting\":0,\"ready\":0,\"running\":0,\"ambiguous\":0,\"review\":0,\"done\":3"));
    assert_non_null(strstr(json_of(ONE, run, ""), "\"a\""));
    assert_non_null(strstr(json_of(LIST, run, ""), run));
    assert_non_null(strstr(json_of(TASK, run, "b"), "\"inputs\":{\"a\":{\"n\": 5}}"));
}

static void the_same_key_gives_the_same_run(void **state)
{
    (void)state;
    const char *run = create_keyed(ONE_TASK, "k1"), *other = create_keyed(ONE_TASK, "k2");
    assert_string_not_equal(run, other);
    assert_string_equal(create_keyed(THREE, "k1"), run);
    assert_string_not_equal(create(ONE_TASK), create(ONE_TASK));
    assert_string_equal(sql("SELECT CAST(COUNT(*) AS TEXT) FROM tasks WHERE run = $1 AND $2 = ''", run, ""), "1");
}

static void a_creation_that_is_run_twice_makes_one_run(void **state)
{
    (void)state;
    struct op o = {.what = CREATE, .text = THREE, .key = "twice"};
    runs_new_id(o.id);
    char id[RUN_ID_BYTES];
    memcpy(id, o.id, sizeof(id));
    assert_int_equal(run_op(&o), PD_OK);
    assert_int_equal(run_op(&o), PD_OK);
    assert_true(o.is_new);
    assert_string_equal(o.id, id);
    assert_string_equal(sql("SELECT CAST(COUNT(*) AS TEXT) FROM tasks WHERE run = $1 AND $2 = ''", id, ""), "3");
}

static void a_claim_asked_for_again_is_the_same_task(void **state)
{
    (void)state;
    create("tasks:\n- {id: a, command: x}\n- {id: b, command: x}\n");
    struct claimed c, again, other;
    assert_int_equal(claim_by("w", "word", NULL, 0, &c, NULL), PD_OK);
    assert_int_equal(claim_by("w", "word", NULL, 0, &again, NULL), PD_OK);
    assert_string_equal(c.task, again.task);
    assert_int_equal(c.epoch, again.epoch);
    assert_true(span_eq(buf_span(&c.spec), buf_span(&again.spec)));
    assert_int_equal(claim_by("w", "word2", NULL, 0, &other, NULL), PD_OK);
    assert_string_not_equal(c.task, other.task);
    assert_string_equal(story(c.run, c.task), "claimed");
    claimed_done(&c), claimed_done(&again), claimed_done(&other);
}

static void a_claim_is_of_the_run_and_the_kinds_that_were_asked_for(void **state)
{
    (void)state;
    char run[RUN_ID_BYTES];
    struct claimed c;
    create(ONE_TASK);
    snprintf(run, sizeof(run), "%s", create("tasks:\n- {id: l, prompt: x, model: m}\n- {id: k, command: x}\n"));
    assert_int_equal(claim_by("w", "1", run, 1 << TASK_COMMAND, &c, NULL), PD_OK);
    assert_string_equal(c.task, "k");
    claimed_done(&c);
    assert_int_equal(claim_by("w", "2", run, 1 << TASK_AGENT, &c, NULL), PD_NOTFOUND);
    assert_int_equal(claim_by("w", "3", "r-none", 0, &c, NULL), PD_NOTFOUND);
    assert_int_equal(claim_by("w", "4", NULL, 1 << TASK_LLM, &c, NULL), PD_OK);
    assert_string_equal(c.task, "l");
    claimed_done(&c);
}

/* ---- failures ---------------------------------------------------------------------------------- */

static void what_fails_is_tried_again_after_a_pause_that_doubles_and_then_waits_for_a_person(void **state)
{
    (void)state;
    const char *run =
        create("tasks:\n- {id: a, command: x, retries: 2, backoff: 2s}\n- {id: b, command: y, needs: a}\n");
    struct claimed c = must_claim("w", "a"), none;
    uint64_t wait;
    assert_int_equal(failed(&c, "{\"class\":\"exit\",\"message\":\"it broke\"}"), PD_OK);
    claimed_done(&c);
    assert_state(run, "a", "ready");
    assert_int_equal(claim_by("w", "x", NULL, 0, &none, &wait), PD_NOTFOUND);
    assert_int_equal(wait, 2000);
    now_ms += 2000;
    c = must_claim("w", "a");
    assert_int_equal(c.attempt, 2);
    assert_true(span_has(buf_span(&c.last_error), "it broke"));
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    assert_int_equal(claim_by("w", "x", NULL, 0, &none, &wait), PD_NOTFOUND);
    assert_int_equal(wait, 4000);
    now_ms += 4000;
    c = must_claim("w", "a");
    assert_int_equal(c.attempt, 3);
    assert_int_equal(failed(&c, "{\"message\":\"at last\"}"), PD_OK);
    claimed_done(&c);
    assert_state(run, "a", "review");
    assert_state(run, "b", "waiting");
    assert_string_equal(run_state_of(run), "running");
    assert_non_null(strstr(json_of(REVIEWS, "", ""), "\"reason\":\"dead_letter\",\"message\":\"at last\""));
    assert_string_equal(story(run, "a"), "claimed failed claimed failed claimed review");
}

static void a_final_failure_is_not_tried_again(void **state)
{
    (void)state;
    const char *run = create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_FAILED, .final = true}, NULL), PD_OK);
    claimed_done(&c);
    assert_state(run, "a", "review");
}

static void what_was_not_checked_and_what_the_plan_says_wait_for_a_person(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x}\n- {id: b, command: x, review: true}\n");
    struct claimed a = must_claim("w", "a"), b = must_claim("w", "b");
    enum task_state s;
    assert_int_equal(finish(&a, &(struct task_end){.outcome = OUTCOME_INCONCLUSIVE, .output = SPAN_LIT("1")}, &s),
                     PD_OK);
    assert_int_equal(s, TASK_REVIEW);
    assert_int_equal(finish(&b, &(struct task_end){.outcome = OUTCOME_DONE, .output = SPAN_LIT("2")}, &s), PD_OK);
    assert_int_equal(s, TASK_REVIEW);
    const char *reviews = json_of(REVIEWS, "", "");
    assert_non_null(strstr(reviews, "\"reason\":\"inconclusive\""));
    assert_non_null(strstr(reviews, "\"reason\":\"plan\""));
    assert_int_equal(decide(run, "a", REVIEW_ACCEPT, ""), PD_OK);
    assert_int_equal(decide(run, "b", REVIEW_ACCEPT, ""), PD_OK);
    assert_string_equal(run_state_of(run), "done");
    claimed_done(&a), claimed_done(&b);
}

static void a_task_that_is_given_back_counts_no_attempt(void **state)
{
    (void)state;
    create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_RELEASED}, NULL), PD_OK);
    claimed_done(&c);
    c = must_claim("v", "a");
    assert_int_equal(c.attempt, 1);
    assert_int_equal(c.epoch, 2);
    claimed_done(&c);
}

/* ---- fencing -------------------------------------------------------------------------------------- */

/* A worker that was thought to be gone, and its task in another's hands. */
static struct claimed old_worker(struct claimed *new_worker)
{
    create(ONE_TASK);
    struct claimed old = must_claim("old", "a");
    enum step_found found;
    assert_int_equal(begin(&old, "s", STEP_PURE, "", &found, NULL), PD_OK);
    assert_int_equal(sweep(0), 0);
    assert_int_equal(sweep(9999), 0);
    assert_int_equal(sweep(1), 1);
    *new_worker = must_claim("new", "a");
    return old;
}

static void an_old_worker_writes_nothing(void **state)
{
    (void)state;
    struct claimed now, old = old_worker(&now);
    enum step_found found;
    struct beat_answer b;
    char before[65536];
    snprintf(before, sizeof(before), "%s", json_of(TASK, old.run, "a"));
    assert_int_equal(beat(&old, &b), RUNS_FENCED);
    assert_int_equal(begin(&old, "t", STEP_EFFECT, "k", &found, NULL), RUNS_FENCED);
    assert_int_equal(end_step(&old, "s", "1"), RUNS_FENCED);
    for (int o = OUTCOME_DONE; o <= OUTCOME_RELEASED; o++)
        assert_int_equal(finish(&old, &(struct task_end){.outcome = (enum task_outcome)o, .tokens = 7}, NULL),
                         RUNS_FENCED);
    assert_string_equal(json_of(TASK, old.run, "a"), before);
    assert_int_equal(beat(&now, &b), PD_OK);
    assert_int_equal(begin(&now, "s", STEP_PURE, "", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_NEW);
    assert_int_equal(end_step(&now, "s", "1"), PD_OK);
    assert_int_equal(done(&now, "1"), PD_OK);
    assert_int_equal(beat(&now, &b), RUNS_FENCED);
    claimed_done(&old), claimed_done(&now);
}

static void a_swept_worker_is_refused_also_while_nobody_else_has_its_task(void **state)
{
    (void)state;
    create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    sweep(0);
    assert_int_equal(sweep(10000), 1);
    assert_int_equal(done(&c, "1"), RUNS_FENCED);
    assert_int_equal(beat(&c, NULL), RUNS_FENCED);
    assert_state(c.run, "a", "ready");
    claimed_done(&c);
}

static void finishing_twice_changes_nothing(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x, retries: 5}\n");
    struct claimed c = must_claim("w", "a");
    struct task_end end = {.outcome = OUTCOME_FAILED, .tokens = 10};
    enum task_state s;
    assert_int_equal(finish(&c, &end, &s), PD_OK);
    assert_int_equal(finish(&c, &end, &s), PD_OK);
    assert_int_equal(s, TASK_READY);
    assert_string_equal(
        sql("SELECT CAST(attempt * 1000 + tokens AS TEXT) FROM tasks WHERE run = $1 AND id = $2", run, "a"),
        "2010");
    claimed_done(&c);
    now_ms += 10000;
    c = must_claim("w", "a");
    assert_int_equal(done(&c, "1"), PD_OK);
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_DONE, .output = SPAN_LIT("2")}, &s), PD_OK);
    assert_int_equal(s, TASK_DONE);
    assert_string_equal(sql("SELECT output FROM task_results WHERE run = $1 AND task = $2", run, "a"), "1");
    claimed_done(&c);
}

static void a_program_is_told_when_another_task_uses_what_it_prints(void **state)
{
    (void)state;
    create("tasks:\n- {id: a, command: x}\n- {id: b, command: x, needs: [a]}\n- {id: c, command: \"${b.output}\", "
           "needs: "
           "[a, b]}\n");
    for (const char *id = "abc"; *id; id++) {
        char name[2] = {*id};
        struct claimed c = must_claim("w", name);
        struct json spec = {JSON_OBJECT, buf_span(&c.spec)};
        assert_int_equal(json_check(spec.raw), PD_OK);
        assert_int_equal(json_is_true(json_get(spec, "output_used")), *id == 'b');
        assert_int_equal(done(&c, "1"), PD_OK);
        claimed_done(&c);
    }
}

/* ---- sweeping ------------------------------------------------------------------------------------- */

static void who_beats_keeps_its_task_whatever_the_clocks_do(void **state)
{
    (void)state;
    create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    for (int i = 0; i < 50; i++) {
        now_ms += i % 2 ? 3600 * 1000 : -3000 * 1000; /* the wall clock jumps by an hour */
        assert_int_equal(sweep(9000), 0);
        assert_int_equal(beat(&c, NULL), PD_OK);
    }
    assert_int_equal(sweep(0), 0); /* sees the last beat */
    assert_int_equal(sweep(9999), 0);
    assert_int_equal(sweep(1), 1);
    assert_state(c.run, "a", "ready");
    claimed_done(&c);
}

/* Processes that live for `window_ms` each and sweep once a second: how many until the claim is ended, or `most` + 1. */
static unsigned processes_until_it_ends(uint64_t window_ms, unsigned most)
{
    for (unsigned n = 1; n <= most; n++) {
        new_sweeper(n % 2 ? 5 : 3600 * 1000);
        if (sweep(0))
            return n;
        for (uint64_t ms = 1000; ms <= window_ms; ms += 1000)
            if (sweep(1000))
                return n;
    }
    return most + 1;
}

static void a_lost_claim_ends_also_where_no_sweeper_lives_for_a_lease(void **state)
{
    (void)state;
    static const struct row {
        uint64_t window_ms;
        unsigned least, most; /* processes; the lease is 10 s */
    } rows[] = {{5000, 3, 3}, {4000, 3, 3}, {3300, 10, 10}, {2500, 10, 10}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *run = create(ONE_TASK);
        struct claimed c = must_claim("w", "a");
        assert_in_range(processes_until_it_ends(rows[i].window_ms, rows[i].most), rows[i].least, rows[i].most);
        assert_state(run, "a", "ready");
        assert_int_equal(beat(&c, NULL), RUNS_FENCED);
        claimed_done(&c);
        c = must_claim("next", "a"); /* what was watched of the one before is not held against it */
        assert_int_equal(processes_until_it_ends(rows[i].window_ms, rows[i].least - 1), rows[i].least);
        assert_int_equal(beat(&c, NULL), PD_OK);
        assert_int_equal(done(&c, "1"), PD_OK);
        claimed_done(&c);
    }
}

/* Each time the process is back it beats only after a third of its lease; or only in every second one. */
static void a_worker_that_lives_keeps_its_claim_however_often_the_sweeper_is_another(void **state)
{
    (void)state;
    create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    for (int n = 0; n < 40; n++) {
        new_sweeper((uint64_t)n);
        assert_int_equal(sweep(0), 0);
        for (int ms = 0; ms < 5000; ms += 1000) {
            if (ms == 3000 && (n < 20 || n % 2))
                assert_int_equal(beat(&c, NULL), PD_OK);
            assert_int_equal(sweep(1000), 0);
        }
    }
    assert_int_equal(done(&c, "1"), PD_OK);
    claimed_done(&c);
}

static void a_silence_is_written_down_in_steps_and_forgotten(void **state)
{
    (void)state;
    const char *run = create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    static const char kept[] = "SELECT CAST(silent_ms AS TEXT) FROM task_silence WHERE run = $1 AND task = $2";
    sweep(0);
    sweep(1249);
    assert_string_equal(sql(kept, run, "a"), "");
    sweep(1);
    assert_string_equal(sql(kept, run, "a"), "1250");
    sweep(1000);
    assert_string_equal(sql(kept, run, "a"), "1250");
    sweep(1000);
    assert_string_equal(sql(kept, run, "a"), "3250");
    assert_int_equal(beat(&c, NULL), PD_OK);
    sweep(1000);
    sweep(1250); /* of the new beat alone */
    assert_string_equal(sql(kept, run, "a"), "1250");
    assert_int_equal(done(&c, "1"), PD_OK);
    claimed_done(&c);
    for (int i = 0; i < 60; i++)
        sweep(0);
    assert_string_equal(sql(kept, run, "a"), "");
}

static void a_clock_that_was_ahead_makes_nothing_wait_for_it(void **state)
{
    (void)state;
    static const int64_t ahead_ms[] = {600 * 1000L, 48 * 3600 * 1000L};
    create("tasks:\n- {id: a, command: x, retries: 3, backoff: 2s}\n");
    for (size_t i = 0; i < sizeof(ahead_ms) / sizeof(ahead_ms[0]); i++) {
        struct claimed c = must_claim("w", "a");
        now_ms += ahead_ms[i];
        assert_int_equal(failed(&c, ""), PD_OK);
        claimed_done(&c);
        now_ms -= ahead_ms[i];
        assert_int_equal(claim("w", &c), PD_NOTFOUND);
        sweep(0);
        now_ms += 60 * 1000; /* its pause, from now on, is shorter */
    }
    struct claimed c = must_claim("w", "a");
    claimed_done(&c);
}

static void a_task_that_loses_every_worker_waits_for_a_person(void **state)
{
    (void)state;
    const char *run = create(ONE_TASK);
    for (int i = 0; i <= RUNS_LOSSES_MAX; i++) {
        struct claimed c = must_claim("w", "a");
        assert_int_equal(c.attempt, 1);
        claimed_done(&c);
        sweep(0);
        assert_int_equal(sweep(10000), 1);
    }
    assert_state(run, "a", "review");
    assert_non_null(strstr(json_of(REVIEWS, "", ""), "\"reason\":\"lost\""));
    assert_int_equal(decide(run, "a", REVIEW_RETRY, ""), PD_OK);
    struct claimed c = must_claim("w", "a");
    claimed_done(&c);
    sweep(0);
    sweep(10000);
    assert_state(run, "a", "ready");
}

/* ---- steps ---------------------------------------------------------------------------------------- */

static struct claimed next_worker(struct claimed *c)
{
    sweep(0);
    assert_true(sweep(10000) >= 1);
    claimed_done(c);
    return must_claim("next", "a");
}

static void a_recorded_step_is_given_back_to_every_later_worker(void **state)
{
    (void)state;
    create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    enum step_found found;
    const char *result;
    for (int kind = STEP_PURE; kind < STEP_KIND_COUNT; kind++) {
        assert_int_equal(begin(&c, step_kind_name((enum step_kind)kind), (enum step_kind)kind, "k", &found, NULL),
                         PD_OK);
        assert_int_equal(found, STEP_NEW);
        assert_int_equal(end_step(&c, step_kind_name((enum step_kind)kind), "{\"r\": 1}"), PD_OK);
        assert_int_equal(end_step(&c, step_kind_name((enum step_kind)kind), "{\"r\": 2}"),
                         PD_OK); /* the first holds */
    }
    for (int round = 0; round < 3; round++) {
        for (int kind = STEP_PURE; kind < STEP_KIND_COUNT; kind++) {
            assert_int_equal(
                begin(&c, step_kind_name((enum step_kind)kind), (enum step_kind)kind, "k", &found, &result),
                PD_OK);
            assert_int_equal(found, STEP_DONE);
            assert_string_equal(result, "{\"r\": 1}");
        }
        c = next_worker(&c);
    }
    assert_int_equal(end_step(&c, "never begun", "1"), PD_NOTFOUND);
    claimed_done(&c);
}

static void a_step_whose_result_nobody_knows_is_resolved_by_its_kind(void **state)
{
    (void)state;
    const char *run = create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    enum step_found found;
    const char *result;
    assert_int_equal(begin(&c, "p", STEP_PURE, "", &found, NULL), PD_OK);
    assert_int_equal(begin(&c, "f", STEP_FILES, "", &found, NULL), PD_OK);
    assert_int_equal(begin(&c, "e", STEP_EFFECT, "key-1", &found, NULL), PD_OK);
    assert_int_equal(begin(&c, "e", STEP_EFFECT, "key-1", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_NEW); /* its own, asked again: the answer was lost */
    c = next_worker(&c);
    assert_string_equal(story(run, "a"), "claimed lost ambiguous claimed");
    assert_int_equal(begin(&c, "p", STEP_PURE, "", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_NEW);
    assert_int_equal(begin(&c, "f", STEP_FILES, "", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_AMBIGUOUS);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(begin(&c, "e", STEP_EFFECT, "key-1", &found, &result), PD_OK);
        assert_int_equal(found, STEP_AMBIGUOUS);
        assert_string_equal(result, "\"key-1\"");
    }
    assert_int_equal(end_step(&c, "e", "true"), PD_OK);
    assert_int_equal(begin(&c, "e", STEP_EFFECT, "key-1", &found, &result), PD_OK);
    assert_int_equal(found, STEP_DONE);
    claimed_done(&c);
}

static void an_effect_without_a_key_whose_worker_died_is_asked_of_a_person(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x}\n- {id: b, command: x, needs: a}\n");
    struct claimed c = must_claim("w", "a"), none;
    enum step_found found;
    assert_int_equal(begin(&c, "e", STEP_EFFECT, "", &found, NULL), PD_OK);
    sweep(0);
    assert_int_equal(sweep(10000), 1);
    assert_state(run, "a", "review");
    assert_int_equal(claim("w", &none), PD_NOTFOUND);
    assert_string_equal(story(run, "a"), "claimed lost ambiguous review");
    assert_non_null(strstr(json_of(REVIEWS, "", ""), "\"reason\":\"ambiguous\""));
    assert_int_equal(decide(run, "a", REVIEW_EDIT, "\"it was made\""), PD_OK);
    claimed_done(&c);
    c = must_claim("w", "b");
    assert_true(span_is(buf_span(&c.inputs), "{\"a\":\"it was made\"}"));
    claimed_done(&c);
}

static void a_worker_that_cannot_tell_says_so(void **state)
{
    (void)state;
    const char *run = create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    enum task_state s;
    assert_int_equal(
        finish(&c,
               &(struct task_end){.outcome = OUTCOME_AMBIGUOUS, .error = SPAN_LIT("{\"message\":\"no answer\"}")},
               &s),
        PD_OK);
    assert_int_equal(s, TASK_REVIEW);
    assert_string_equal(story(run, "a"), "claimed ambiguous review");
    claimed_done(&c);
}

static void a_failed_attempt_begins_anew_but_for_its_effects(void **state)
{
    (void)state;
    create("tasks:\n- {id: a, command: x, retries: 3, backoff: 1s}\n");
    struct claimed c = must_claim("w", "a");
    enum step_found found;
    for (int kind = STEP_PURE; kind < STEP_KIND_COUNT; kind++) {
        assert_int_equal(begin(&c, step_kind_name((enum step_kind)kind), (enum step_kind)kind, "k", &found, NULL),
                         PD_OK);
        assert_int_equal(end_step(&c, step_kind_name((enum step_kind)kind), "1"), PD_OK);
    }
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    now_ms += 1000;
    c = must_claim("w", "a");
    assert_int_equal(begin(&c, "pure", STEP_PURE, "k", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_NEW);
    assert_int_equal(begin(&c, "files", STEP_FILES, "k", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_NEW);
    assert_int_equal(begin(&c, "effect", STEP_EFFECT, "k", &found, NULL), PD_OK);
    assert_int_equal(found, STEP_DONE);
    claimed_done(&c);
}

/* ---- people ------------------------------------------------------------------------------------------ */

static void a_decision_is_taken_once(void **state)
{
    (void)state;
    static const enum review_decision all[] = {REVIEW_RETRY, REVIEW_EDIT, REVIEW_ACCEPT, REVIEW_DROP};
    for (unsigned i = 0; i < 4; i++) {
        const char *run = create("tasks:\n- {id: a, command: x, review: true}\n");
        struct claimed c = must_claim("w", "a");
        assert_int_equal(decide(run, "a", all[i], "{}"), PD_EXISTS); /* not yet */
        assert_int_equal(done(&c, "1"), PD_OK);
        assert_int_equal(decide(run, "a", all[i], "{}"), PD_OK);
        char after[65536];
        snprintf(after, sizeof(after), "%s", json_of(TASK, run, "a"));
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(decide(run, "a", all[k], "{}"), PD_EXISTS);
        assert_string_equal(json_of(TASK, run, "a"), after);
        claimed_done(&c);
        if (all[i] == REVIEW_RETRY)
            assert_int_equal(wish(run, RUN_CANCEL), PD_OK);
    }
    assert_int_equal(decide("r-none", "a", REVIEW_DROP, ""), PD_NOTFOUND);
}

static void a_retry_may_change_the_task_and_has_all_its_retries(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x, retries: 0, env: {A: b}}\n");
    struct claimed c = must_claim("w", "a");
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "[1]"), PD_INVALID);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "{\"id\": \"z\"}"), PD_INVALID);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "{\"command\": \"y\", \"stdin\": \"s\"}"), PD_OK);
    c = must_claim("w", "a");
    assert_int_equal(c.attempt, 2);
    assert_int_equal(json_check(buf_span(&c.spec)), PD_OK);
    assert_true(span_has(buf_span(&c.spec), "\"command\":\"y\""));
    assert_true(span_has(buf_span(&c.spec), "\"env\":{\"A\":\"b\"}"));
    assert_true(span_has(buf_span(&c.spec), "\"stdin\":\"s\""));
    assert_false(span_has(buf_span(&c.spec), "\"command\":\"x\""));
    claimed_done(&c);
}

static void a_retry_may_change_how_often_and_how_soon(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x, retries: 0}\n");
    struct claimed c = must_claim("w", "a");
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "{\"retries\": 101}"), PD_INVALID);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "{\"retries\": \"1\"}"), PD_INVALID);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "{\"backoff_ms\": -1}"), PD_INVALID);
    assert_int_equal(decide(run, "a", REVIEW_RETRY, "{\"retries\": 1, \"backoff_ms\": 120000}"), PD_OK);
    c = must_claim("w", "a");
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    assert_state(run, "a", "ready"); /* with 0 a person would be asked */
    now_ms += 59 * 1000;
    assert_int_equal(claim("w", &c), PD_NOTFOUND);
    now_ms += 300 * 1000;
    c = must_claim("w", "a");
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    assert_state(run, "a", "review");
}

static void what_has_no_output_cannot_be_accepted(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x, retries: 0}\n");
    struct claimed c = must_claim("w", "a");
    assert_int_equal(failed(&c, ""), PD_OK);
    claimed_done(&c);
    assert_int_equal(decide(run, "a", REVIEW_ACCEPT, ""), PD_INVALID);
    assert_int_equal(decide(run, "a", REVIEW_EDIT, ""), PD_INVALID);
    assert_state(run, "a", "review");
}

static void what_needs_a_dropped_task_is_dropped_too_and_the_run_has_failed(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x, retries: 0}\n- {id: b, command: x, needs: a}\n- {id: "
                             "c, command: x, needs: b}\n"
                             "- {id: d, command: x}\n- {id: e, command: x, needs: [c, d]}\n");
    struct claimed a = must_claim("w", "a"), d = must_claim("w", "d");
    assert_int_equal(failed(&a, ""), PD_OK);
    assert_int_equal(decide(run, "a", REVIEW_DROP, ""), PD_OK);
    static const char *const dropped[] = {"a", "b", "c", "e"};
    for (unsigned i = 0; i < 4; i++)
        assert_state(run, dropped[i], "dropped");
    assert_string_equal(story(run, "e"), "dropped");
    assert_state(run, "d", "running");
    assert_string_equal(run_state_of(run), "running");
    assert_int_equal(done(&d, ""), PD_OK);
    assert_string_equal(run_state_of(run), "failed");
    assert_non_null(strstr(json_of(ONE, run, ""), "\"why\":\"4 tasks were dropped\""));
    claimed_done(&a), claimed_done(&d);
}

/* ---- runs -------------------------------------------------------------------------------------------- */

static void a_paused_run_begins_nothing_and_goes_on_when_resumed(void **state)
{
    (void)state;
    const char *run = create("tasks:\n- {id: a, command: x}\n- {id: b, command: x}\n");
    struct claimed a = must_claim("w", "a"), c;
    struct beat_answer b;
    assert_int_equal(beat(&a, &b), PD_OK);
    assert_false(b.pause);
    assert_int_equal(wish(run, RUN_PAUSE), PD_OK);
    assert_int_equal(wish(run, RUN_PAUSE), PD_OK);
    assert_int_equal(claim("w", &c), PD_NOTFOUND);
    assert_int_equal(beat(&a, &b), PD_OK);
    assert_true(b.pause);
    assert_false(b.cancel);
    assert_int_equal(done(&a, ""), PD_OK);
    assert_string_equal(run_state_of(run), "paused");
    assert_int_equal(wish(run, RUN_RESUME), PD_OK);
    assert_int_equal(wish(run, RUN_RESUME), PD_OK);
    c = must_claim("w", "b");
    assert_int_equal(done(&c, ""), PD_OK);
    assert_int_equal(wish(run, RUN_RESUME), PD_INVALID);
    assert_int_equal(wish(run, RUN_PAUSE), PD_INVALID);
    assert_int_equal(wish(run, RUN_CANCEL), PD_INVALID);
    assert_int_equal(wish("r-none", RUN_CANCEL), PD_NOTFOUND);
    assert_string_equal(
        sql("SELECT {lite:GROUP_CONCAT}{pg:STRING_AGG}(what, ' ') FROM (SELECT what FROM run_events WHERE run = $1"
            " AND task = $2 ORDER BY seq) x",
            run, ""),
        "created paused resumed run_done");
    claimed_done(&a), claimed_done(&c);
}

static void a_cancelled_run_ends_at_once_and_its_workers_are_told(void **state)
{
    (void)state;
    const char *run = create(THREE);
    struct claimed a = must_claim("w", "a"), c;
    struct beat_answer b;
    assert_int_equal(wish(run, RUN_CANCEL), PD_OK);
    assert_int_equal(wish(run, RUN_CANCEL), PD_OK);
    assert_string_equal(run_state_of(run), "cancelled");
    assert_state(run, "c", "cancelled");
    assert_int_equal(beat(&a, &b), PD_OK);
    assert_true(b.cancel);
    enum step_found found;
    assert_int_equal(begin(&a, "s", STEP_EFFECT, "k", &found, NULL), RUNS_FENCED);
    enum task_state s;
    struct task_end end = {.outcome = OUTCOME_DONE, .output = SPAN_LIT("1"), .tokens = 5};
    assert_int_equal(finish(&a, &end, &s), PD_OK);
    assert_int_equal(finish(&a, &end, &s), PD_OK);
    assert_int_equal(s, TASK_CANCELLED);
    assert_string_equal(sql("SELECT CAST(tokens AS TEXT) FROM tasks WHERE run = $1 AND id = $2", run, "a"), "5");
    assert_int_equal(claim("w", &c), PD_NOTFOUND);
    assert_int_equal(wish(run, RUN_RESUME), PD_INVALID);
    claimed_done(&a);
}

static void a_used_up_budget_pauses_the_run_and_says_so(void **state)
{
    (void)state;
    const char *run = create("budget: {tokens: 100, cost: 1.5}\ntasks:\n- {id: a, command: x}\n- {id: b, command: "
                             "x}\n- {id: c, command: x}\n"
                             "- {id: d, command: x}\n");
    struct claimed c = must_claim("w", "a");
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_DONE, .tokens = 99}, NULL), PD_OK);
    claimed_done(&c);
    c = must_claim("w", "b");
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_DONE, .tokens = 1}, NULL), PD_OK);
    claimed_done(&c);
    assert_string_equal(run_state_of(run), "paused");
    assert_non_null(
        strstr(json_of(ONE, run, ""),
               "\"why\":\"its budget of 100 tokens is used (100); resume it to let it use as much again\""));
    assert_int_equal(wish(run, RUN_RESUME), PD_OK);
    c = must_claim("w", "c");
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_DONE, .picodollars = 1500000000000}, NULL),
                     PD_OK);
    claimed_done(&c);
    assert_string_equal(run_state_of(run), "paused");
    const char *one = json_of(ONE, run, "");
    assert_non_null(strstr(one, "\"why\":\"its budget of $1.5 is used ($1.5)"));
    assert_non_null(strstr(one, "\"tokens\":100,\"cost\":1.5,\"budget\":{\"tokens\":100,\"cost\":1.5}"));
    assert_int_equal(wish(run, RUN_RESUME), PD_OK);
    c = must_claim("w", "d");
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_DONE, .tokens = 200}, NULL), PD_OK);
    claimed_done(&c);
    assert_string_equal(run_state_of(run), "done"); /* the last one: there is nothing to pause */
}

static void a_planner_makes_the_tasks_or_is_told_why_not(void **state)
{
    (void)state;
    const char *run = create("goal: g\nplanner: {model: m, most: 2}\n");
    assert_string_equal(run_state_of(run), "planning");
    struct claimed c = must_claim("w", PLAN_PLANNER_ID);
    assert_int_equal(c.kind, TASK_LLM);
    assert_int_equal(json_check(buf_span(&c.spec)), PD_OK);
    assert_int_equal(done(&c, "{\"tasks\":[{\"id\":\"a\",\"command\":\"rm\"}]}"), PD_OK);
    claimed_done(&c);
    assert_state(run, PLAN_PLANNER_ID, "ready");
    assert_int_equal(wish(run, RUN_PAUSE), PD_OK);
    assert_int_equal(wish(run, RUN_RESUME), PD_OK);
    assert_string_equal(run_state_of(run), "planning");
    now_ms += 100000;
    c = must_claim("w", PLAN_PLANNER_ID);
    assert_true(span_has(buf_span(&c.last_error), "which the planner may not make"));
    assert_int_equal(done(&c, "{\"tasks\":[{\"id\":\"a\",\"prompt\":\"x\"},{\"id\":\"b\",\"prompt\":\"y "
                              "${a.output}\",\"needs\":[\"a\"]}]}"),
                     PD_OK);
    assert_int_equal(done(&c, "{}"), PD_OK);
    claimed_done(&c);
    assert_string_equal(run_state_of(run), "running");
    c = must_claim("w", "a");
    assert_int_equal(done(&c, "1"), PD_OK);
    claimed_done(&c);
    c = must_claim("w", "b");
    assert_int_equal(done(&c, "1"), PD_OK);
    claimed_done(&c);
    assert_string_equal(run_state_of(run), "done");
}

static void a_person_can_give_the_plan_that_a_model_could_not(void **state)
{
    (void)state;
    const char *run = create("goal: g\nplanner: {model: m}\n");
    struct claimed c = must_claim("w", PLAN_PLANNER_ID);
    assert_int_equal(finish(&c, &(struct task_end){.outcome = OUTCOME_FAILED, .final = true}, NULL), PD_OK);
    claimed_done(&c);
    assert_int_equal(decide(run, PLAN_PLANNER_ID, REVIEW_EDIT, "{\"tasks\":[]}"), PD_INVALID);
    assert_state(run, PLAN_PLANNER_ID, "review");
    assert_int_equal(decide(run, PLAN_PLANNER_ID, REVIEW_EDIT, "{\"tasks\":[{\"id\":\"a\",\"prompt\":\"x\"}]}"),
                     PD_OK);
    c = must_claim("w", "a");
    claimed_done(&c);
}

static void events_are_told_from_where_one_has_read(void **state)
{
    (void)state;
    const char *run = create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    assert_int_equal(done(&c, ""), PD_OK);
    claimed_done(&c);
    struct op o = {.what = EVENTS, .events = {.run = run, .limit = 2}};
    assert_int_equal(run_op(&o), PD_OK);
    const char *first = out_of(&o);
    assert_non_null(strstr(first, "\"what\":\"created\""));
    assert_non_null(strstr(first, "\"what\":\"claimed\""));
    assert_null(strstr(first, "\"what\":\"done\""));
    assert_false(o.over);
    o.events.after = o.number;
    o.events.sse = true;
    assert_int_equal(run_op(&o), PD_OK);
    const char *second = out_of(&o);
    assert_int_equal(strncmp(second, "id: ", 4), 0);
    assert_non_null(strstr(second, "\"what\":\"done\""));
    assert_non_null(strstr(second, "\"what\":\"run_done\""));
    assert_false(o.over); /* as many as were asked for: there may be more */
    o.events.after = o.number;
    assert_int_equal(run_op(&o), PD_OK);
    assert_string_equal(out_of(&o), "");
    assert_true(o.over);
    o.events.run = "r-none";
    assert_int_equal(run_op(&o), PD_NOTFOUND);
    buf_done(&o.out);
}

static void a_value_over_its_limit_is_refused_and_nothing_is_written(void **state)
{
    (void)state;
    create(ONE_TASK);
    struct claimed c = must_claim("w", "a");
    char *big = mem_alloc(RUNS_VALUE_MAX + 2);
    assert_non_null(big);
    memset(big, '1', RUNS_VALUE_MAX + 1);
    big[RUNS_VALUE_MAX + 1] = '\0';
    enum step_found found;
    assert_int_equal(done(&c, big), PD_TOOBIG);
    assert_int_equal(failed(&c, big), PD_TOOBIG);
    assert_int_equal(begin(&c, "s", STEP_PURE, "", &found, NULL), PD_OK);
    assert_int_equal(end_step(&c, "s", big), PD_TOOBIG);
    assert_int_equal(begin(&c, "", STEP_PURE, "", &found, NULL), PD_TOOBIG);
    big[STEP_NAME_MAX + 1] = '\0';
    assert_int_equal(begin(&c, big, STEP_PURE, "", &found, NULL), PD_TOOBIG);
    assert_state(c.run, "a", "running");
    mem_free(big);
    claimed_done(&c);
}

/* ---- many at once -------------------------------------------------------------------------------------- */

enum { CROWD = 8, CROWD_TASKS = 200 };

struct crowd {
    pthread_t thread;
    int index, taken;
    pthread_mutex_t *lock;
    int *counts;
};

static void *take_all(void *ctx)
{
    struct crowd *me = ctx;
    char worker[20];
    snprintf(worker, sizeof(worker), "w%d", me->index);
    for (;;) {
        struct claimed c;
        pd_err e = claim(worker, &c);
        if (e == PD_NOTFOUND)
            return NULL;
        if (e)
            abort();
        pthread_mutex_lock(me->lock);
        me->counts[atoi(c.task + 1)]++;
        pthread_mutex_unlock(me->lock);
        if (done(&c, "1") != PD_OK)
            abort();
        claimed_done(&c);
        me->taken++;
    }
}

static void eight_that_claim_at_once_do_every_task_once(void **state)
{
    (void)state;
    struct buf plan = {0};
    struct crowd all[CROWD];
    int counts[CROWD_TASKS] = {0}, workers = 0;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    assert_int_equal(buf_puts(&plan, "tasks:\n"), PD_OK);
    for (int i = 0; i < CROWD_TASKS; i++)
        assert_int_equal(buf_printf(&plan, "- {id: t%d, command: x}\n", i), PD_OK);
    assert_int_equal(buf_add(&plan, span_of("", 1)), PD_OK);
    const char *run = create(buf_span(&plan).p);
    for (int i = 0; i < CROWD; i++) {
        all[i] = (struct crowd){.index = i, .lock = &lock, .counts = counts};
        assert_int_equal(pthread_create(&all[i].thread, NULL, take_all, &all[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(all[i].thread, NULL);
        workers += all[i].taken > 0;
    }
    for (int i = 0; i < CROWD_TASKS; i++)
        assert_int_equal(counts[i], 1);
    assert_true(workers > 1); /* else nothing was at once */
    sweep(0);                 /* two that ended at the same moment in PostgreSQL */
    assert_string_equal(run_state_of(run), "done");
    buf_done(&plan);
}

#define RUNS_PROMISES(T)                                                                \
    T(a_run_is_done_task_by_task_in_the_order_of_needs)                                 \
    T(the_same_key_gives_the_same_run)                                                  \
    T(a_creation_that_is_run_twice_makes_one_run)                                       \
    T(a_claim_asked_for_again_is_the_same_task)                                         \
    T(a_claim_is_of_the_run_and_the_kinds_that_were_asked_for)                          \
    T(what_fails_is_tried_again_after_a_pause_that_doubles_and_then_waits_for_a_person) \
    T(a_final_failure_is_not_tried_again)                                               \
    T(what_was_not_checked_and_what_the_plan_says_wait_for_a_person)                    \
    T(a_task_that_is_given_back_counts_no_attempt)                                      \
    T(an_old_worker_writes_nothing)                                                     \
    T(a_swept_worker_is_refused_also_while_nobody_else_has_its_task)                    \
    T(a_program_is_told_when_another_task_uses_what_it_prints)                          \
    T(finishing_twice_changes_nothing)                                                  \
    T(who_beats_keeps_its_task_whatever_the_clocks_do)                                  \
    T(a_lost_claim_ends_also_where_no_sweeper_lives_for_a_lease)                        \
    T(a_worker_that_lives_keeps_its_claim_however_often_the_sweeper_is_another)         \
    T(a_silence_is_written_down_in_steps_and_forgotten)                                 \
    T(a_clock_that_was_ahead_makes_nothing_wait_for_it)                                 \
    T(a_task_that_loses_every_worker_waits_for_a_person)                                \
    T(a_recorded_step_is_given_back_to_every_later_worker)                              \
    T(a_step_whose_result_nobody_knows_is_resolved_by_its_kind)                         \
    T(an_effect_without_a_key_whose_worker_died_is_asked_of_a_person)                   \
    T(a_worker_that_cannot_tell_says_so)                                                \
    T(a_failed_attempt_begins_anew_but_for_its_effects)                                 \
    T(a_decision_is_taken_once)                                                         \
    T(a_retry_may_change_the_task_and_has_all_its_retries)                              \
    T(a_retry_may_change_how_often_and_how_soon)                                        \
    T(what_has_no_output_cannot_be_accepted)                                            \
    T(what_needs_a_dropped_task_is_dropped_too_and_the_run_has_failed)                  \
    T(a_paused_run_begins_nothing_and_goes_on_when_resumed)                             \
    T(a_cancelled_run_ends_at_once_and_its_workers_are_told)                            \
    T(a_used_up_budget_pauses_the_run_and_says_so)                                      \
    T(a_planner_makes_the_tasks_or_is_told_why_not)                                     \
    T(a_person_can_give_the_plan_that_a_model_could_not)                                \
    T(events_are_told_from_where_one_has_read)                                          \
    T(a_value_over_its_limit_is_refused_and_nothing_is_written)                         \
    T(eight_that_claim_at_once_do_every_task_once)

#endif
