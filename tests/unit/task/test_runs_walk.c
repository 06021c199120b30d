/* Random walks: workers that live and die, people and clocks, against a plain model in memory that knows only what runs.h draws; and the properties of
 * resuming, with a worker that is killed everywhere. A walk is its seed: RUNS_SEED=n replays one. */
#include "base/rnd.h"
#include "runs_lib.h"

#include <unistd.h>

static char folder[64];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_walk.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof(where), "%s/perdure.db", folder);
    open_db();
    return 0;
}

static int drop(void **state)
{
    (void)state;
    static const char *const ends[] = {"", "-wal", "-shm", ".lock", "-journal"};
    close_db();
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char path[400];
        snprintf(path, sizeof(path), "%s%s", where, ends[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* ---- the model ---------------------------------------------------------------------------- */

enum { TASKS = 6, STEPS = 4, HANDLES = 12, WALKS = 60, OPS = 200, LEASE = 10000 };

static const char plan[] = "tasks:\n"
                           "- {id: t0, command: x, retries: 1, backoff: 1s}\n"
                           "- {id: t1, command: x, retries: 0}\n"
                           "- {id: t2, command: x, needs: t0, retries: 2, backoff: 1s}\n"
                           "- {id: t3, command: x, needs: [t0, t1], review: true, retries: 1, backoff: 1s}\n"
                           "- {id: t4, command: x, needs: t3, retries: 1, backoff: 1s}\n"
                           "- {id: t5, command: x, needs: [t2, t4], retries: 1, backoff: 1s}\n";
static const unsigned needs[TASKS] = {0, 0, 1 << 0, 1 << 0 | 1 << 1, 1 << 3, 1 << 2 | 1 << 4};
static const int64_t retries[TASKS] = {1, 0, 2, 1, 1, 1};
/* pure, files, an effect with a key, one without. */
static const enum step_kind step_kinds[STEPS] = {STEP_PURE, STEP_FILES, STEP_EFFECT, STEP_EFFECT};
static const char *const step_keys[STEPS] = {"", "", "k", ""};

struct m_step {
    bool begun, ended;
    int64_t epoch;
    int result;
};
struct m_task {
    enum task_state state;
    int64_t epoch, attempt, failures, losses, beat, seen_epoch, seen_beat;
    uint64_t due, since;
    bool seen, output;
    struct m_step steps[STEPS];
};
struct model {
    struct m_task t[TASKS];
    enum run_state run;
};

static bool m_over(const struct model *m)
{
    return m->run == RUN_DONE || m->run == RUN_FAILED || m->run == RUN_CANCELLED;
}

static void m_ended(struct model *m)
{
    bool undone = false;
    for (int i = 0; i < TASKS; i++) {
        enum task_state s = m->t[i].state;
        if (s != TASK_DONE && s != TASK_DROPPED && s != TASK_CANCELLED)
            return;
        undone |= s != TASK_DONE;
    }
    if (!m_over(m))
        m->run = undone ? RUN_FAILED : RUN_DONE;
}

static void m_done(struct model *m, int k)
{
    m->t[k].state = TASK_DONE;
    for (int i = 0; i < TASKS; i++) {
        bool all = m->t[i].state == TASK_WAITING;
        for (int n = 0; n < TASKS; n++)
            all &= !(needs[i] & (1u << n)) || m->t[n].state == TASK_DONE;
        if (all)
            m->t[i].state = TASK_READY;
    }
    m_ended(m);
}

static void m_drop(struct model *m, int k)
{
    m->t[k].state = TASK_DROPPED;
    for (int i = 0; i < TASKS; i++)
        if ((needs[i] & (1u << k)) && m->t[i].state == TASK_WAITING)
            m_drop(m, i);
}

static void m_forget(struct m_task *t)
{
    for (int s = 0; s < STEPS; s++)
        if (step_kinds[s] != STEP_EFFECT)
            t->steps[s] = (struct m_step){0};
}

static void m_finish(struct model *m, int k, enum task_outcome o, bool final)
{
    struct m_task *t = &m->t[k];
    if (o == OUTCOME_DONE)
        t->output = true;
    if (o == OUTCOME_RELEASED) {
        t->state = TASK_READY;
        t->due = 0;
    } else if (o == OUTCOME_DONE && k != 3) {
        m_done(m, k);
    } else if (o == OUTCOME_FAILED) {
        m_forget(t);
        t->state = final || t->failures >= retries[k] ? TASK_REVIEW : TASK_READY;
        t->due = t->state == TASK_READY ? now_ms + (1000u << t->failures) : 0;
        t->failures++;
        t->attempt++;
        t->losses = 0;
    } else {
        t->state = TASK_REVIEW;
    }
}

static unsigned m_sweep(struct model *m)
{
    unsigned ended = 0;
    for (int i = 0; i < TASKS; i++) {
        struct m_task *t = &m->t[i];
        bool running = t->state == TASK_RUNNING,
             same = t->seen && t->seen_epoch == t->epoch && t->seen_beat == t->beat;
        if (running && !same)
            t->since = mono_ms;
        t->seen = running;
        t->seen_epoch = t->epoch;
        t->seen_beat = t->beat;
        if (!running || mono_ms - t->since < LEASE)
            continue;
        bool keyed = t->steps[2].begun && !t->steps[2].ended, keyless = t->steps[3].begun && !t->steps[3].ended;
        t->losses++;
        t->epoch++;
        t->due = 0;
        t->state = keyless || t->losses > RUNS_LOSSES_MAX ? TASK_REVIEW : TASK_READY;
        (void)keyed;
        ended++;
    }
    return ended;
}

static int m_claimable(const struct model *m)
{
    int best = -1;
    for (int i = 0; i < TASKS && m->run == RUN_RUNNING; i++)
        if (m->t[i].state == TASK_READY && m->t[i].due <= now_ms && (best < 0 || m->t[i].due < m->t[best].due))
            best = i;
    return best;
}

/* ---- a walk ---------------------------------------------------------------------------------- */

struct walk {
    struct model m;
    struct rnd rnd;
    char run[RUN_ID_BYTES];
    struct claimed handles[HANDLES];
    int of[HANDLES]; /* which task */
    unsigned handles_count, claims;
    unsigned seen[TASK_STATE_COUNT], fenced, lost, ambiguous;
};

static unsigned pick(struct walk *w, unsigned n)
{
    return (unsigned)rnd_below(&w->rnd, n);
}

static void step_claim(struct walk *w)
{
    struct claimed c;
    int want = m_claimable(&w->m);
    pd_err e = claim("w", &c);
    assert_int_equal(e, want < 0 ? PD_NOTFOUND : PD_OK);
    if (want < 0)
        return;
    struct m_task *t = &w->m.t[want];
    assert_int_equal(atoi(c.task + 1), want);
    t->state = TASK_RUNNING;
    t->epoch++;
    t->beat = 0;
    assert_int_equal(c.epoch, t->epoch);
    assert_int_equal(c.attempt, t->attempt);
    unsigned at = w->claims++ % HANDLES;
    if (w->handles_count > at)
        claimed_done(&w->handles[at]);
    else
        w->handles_count = at + 1;
    w->handles[at] = c;
    w->of[at] = want;
}

static bool has(struct walk *w, unsigned h)
{
    struct m_task *t = &w->m.t[w->of[h]];
    bool held_still = t->state == TASK_RUNNING && t->epoch == w->handles[h].epoch;
    w->fenced += !held_still;
    return held_still;
}

static void step_beat(struct walk *w, unsigned h)
{
    struct beat_answer b;
    struct m_task *t = &w->m.t[w->of[h]];
    pd_err e = beat(&w->handles[h], &b);
    bool cancelled = t->state == TASK_CANCELLED && t->epoch == w->handles[h].epoch;
    if (cancelled) {
        assert_int_equal(e, PD_OK);
        assert_true(b.cancel);
    } else if (!has(w, h)) {
        assert_int_equal(e, RUNS_FENCED);
    } else {
        assert_int_equal(e, PD_OK);
        assert_int_equal(b.pause, w->m.run == RUN_PAUSED);
        t->beat++;
    }
}

static void step_begin(struct walk *w, unsigned h)
{
    static const char *const names[STEPS] = {"p", "f", "e", "n"};
    unsigned s = pick(w, STEPS);
    struct m_step *k = &w->m.t[w->of[h]].steps[s];
    enum step_found found, want;
    const char *result;
    pd_err e = begin(&w->handles[h], names[s], step_kinds[s], step_keys[s], &found, &result);
    if (!has(w, h)) {
        assert_int_equal(e, RUNS_FENCED);
        return;
    }
    int64_t epoch = w->handles[h].epoch;
    want = k->ended ? STEP_DONE : !k->begun || k->epoch == epoch || s == 0 ? STEP_NEW : STEP_AMBIGUOUS;
    assert_int_equal(e, PD_OK);
    assert_int_equal(found, want);
    if (want == STEP_DONE)
        assert_int_equal(atoi(result), k->result);
    w->ambiguous += want == STEP_AMBIGUOUS;
    if (want == STEP_NEW)
        *k = (struct m_step){.begun = true, .epoch = epoch};
}

static void step_end(struct walk *w, unsigned h)
{
    static const char *const names[STEPS] = {"p", "f", "e", "n"};
    unsigned s = pick(w, STEPS);
    struct m_step *k = &w->m.t[w->of[h]].steps[s];
    char result[20];
    int r = (int)pick(w, 1000000);
    snprintf(result, sizeof(result), "%d", r);
    pd_err e = end_step(&w->handles[h], names[s], result);
    if (!has(w, h)) {
        assert_int_equal(e, RUNS_FENCED);
        return;
    }
    assert_int_equal(e, k->begun ? PD_OK : PD_NOTFOUND);
    if (k->begun && !k->ended) {
        k->ended = true;
        k->result = r;
    }
}

static void step_finish(struct walk *w, unsigned h)
{
    struct m_task *t = &w->m.t[w->of[h]];
    enum task_state state, before = t->state;
    struct task_end end = {
        .outcome = (enum task_outcome)pick(w, 5), .final = pick(w, 8) == 0, .output = SPAN_NONE};
    if (end.outcome == OUTCOME_DONE)
        end.output = SPAN_LIT("1");
    bool same = t->epoch == w->handles[h].epoch;
    pd_err e = finish(&w->handles[h], &end, &state);
    if (!same) {
        assert_int_equal(e, RUNS_FENCED);
        return;
    }
    assert_int_equal(e, PD_OK);
    if (before == TASK_RUNNING)
        m_finish(&w->m, w->of[h], end.outcome, end.final);
    assert_int_equal(state, t->state);
}

static void step_sweep(struct walk *w)
{
    static const uint64_t passes[] = {0, 1, 5000, LEASE};
    uint64_t pass = passes[pick(w, 4)];
    mono_ms += pass;
    unsigned want = m_sweep(&w->m);
    w->lost += want;
    assert_int_equal(sweep(0), want);
}

static void step_review(struct walk *w)
{
    unsigned k = pick(w, TASKS);
    struct m_task *t = &w->m.t[k];
    enum review_decision d = (enum review_decision)pick(w, REVIEW_DECISION_COUNT);
    char id[4];
    snprintf(id, sizeof(id), "t%u", k);
    pd_err e = decide(w->run, id, d, d == REVIEW_EDIT ? "7" : "");
    if (t->state != TASK_REVIEW) {
        assert_int_equal(e, PD_EXISTS);
        return;
    }
    if (d == REVIEW_ACCEPT && !t->output) {
        assert_int_equal(e, PD_INVALID);
        return;
    }
    assert_int_equal(e, PD_OK);
    t->failures = t->losses = 0;
    if (d == REVIEW_RETRY) {
        m_forget(t);
        t->state = TASK_READY;
        t->due = 0;
    } else if (d == REVIEW_DROP) {
        m_drop(&w->m, (int)k);
        m_ended(&w->m);
    } else {
        t->output = true;
        m_done(&w->m, (int)k);
    }
}

static void step_wish(struct walk *w)
{
    unsigned n = pick(w, 20);
    enum run_wish wanted = n == 0 ? RUN_CANCEL : n < 8 ? RUN_PAUSE : RUN_RESUME;
    pd_err e = wish(w->run, wanted);
    if (m_over(&w->m)) {
        assert_int_equal(e, wanted == RUN_CANCEL && w->m.run == RUN_CANCELLED ? PD_OK : PD_INVALID);
        return;
    }
    assert_int_equal(e, PD_OK);
    w->m.run = wanted == RUN_CANCEL ? RUN_CANCELLED : wanted == RUN_PAUSE ? RUN_PAUSED : RUN_RUNNING;
    for (int i = 0; i < TASKS && wanted == RUN_CANCEL; i++)
        if (w->m.t[i].state != TASK_DONE && w->m.t[i].state != TASK_DROPPED)
            w->m.t[i].state = TASK_CANCELLED;
}

static void compare(struct walk *w)
{
    char want[400];
    size_t n = 0;
    for (int i = 0; i < TASKS; i++) {
        const struct m_task *t = &w->m.t[i];
        n += (size_t)snprintf(want + n, sizeof(want) - n, "%s%s %lld %lld %llu", i ? "," : "",
                              task_state_name(t->state), (long long)t->epoch, (long long)t->attempt,
                              (unsigned long long)(t->state == TASK_READY ? t->due : 0));
        w->seen[t->state]++;
    }
    assert_string_equal(sql("SELECT GROUP_CONCAT(s) FROM (SELECT state || ' ' || epoch || ' ' || attempt || ' ' "
                            "|| CASE state WHEN 'ready' THEN"
                            " due_ms ELSE 0 END AS s FROM tasks WHERE run = $1 AND $2 = '' ORDER BY position)",
                            w->run, ""),
                        want);
    assert_string_equal(run_state_of(w->run), run_state_name(w->m.run));
}

/* Mostly one that still has its task. */
static unsigned a_handle(struct walk *w)
{
    unsigned h = w->handles_count ? pick(w, w->handles_count) : 0;
    for (unsigned i = 0; i < w->handles_count && pick(w, 4); i++) {
        const struct m_task *t = &w->m.t[w->of[h]];
        if (t->state == TASK_RUNNING && t->epoch == w->handles[h].epoch)
            break;
        h = (h + 1) % w->handles_count;
    }
    return h;
}

static void one_step(struct walk *w)
{
    unsigned op = pick(w, 22), h = a_handle(w);
    if (op < 6 || (op < 16 && !w->handles_count))
        step_claim(w);
    else if (op < 8)
        step_beat(w, h);
    else if (op < 11)
        step_begin(w, h);
    else if (op < 13)
        step_end(w, h);
    else if (op < 16)
        step_finish(w, h);
    else if (op < 18)
        step_sweep(w);
    else if (op < 20)
        step_review(w);
    else if (op < 21)
        step_wish(w);
    else
        now_ms += pick(w, 3000);
}

static void walk(uint64_t seed, struct walk *w)
{
    *w = (struct walk){.rnd = {seed}, .m = {.run = RUN_RUNNING}};
    snprintf(w->run, sizeof(w->run), "%s", create(plan));
    for (int i = 0; i < TASKS; i++)
        w->m.t[i] = (struct m_task){.state = needs[i] ? TASK_WAITING : TASK_READY, .attempt = 1};
    for (int i = 0; i < OPS && !m_over(&w->m); i++) {
        one_step(w);
        compare(w);
    }
    if (!m_over(&w->m))
        assert_int_equal(wish(w->run, RUN_CANCEL), PD_OK); /* it claims nothing in the next walk */
    for (unsigned i = 0; i < w->handles_count; i++)
        claimed_done(&w->handles[i]);
}

static void every_walk_ends_where_the_model_does(void **state)
{
    (void)state;
    const char *one = getenv("RUNS_SEED");
    unsigned seen[TASK_STATE_COUNT] = {0}, fenced = 0, lost = 0, ambiguous = 0, runs[RUN_STATE_COUNT] = {0};
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1; seed <= WALKS || one; seed++) {
        static struct walk w;
        if (one || seed % 10 == 1)
            print_message("from seed %llu on\n", (unsigned long long)seed);
        walk(seed, &w);
        for (int s = 0; s < TASK_STATE_COUNT; s++)
            seen[s] += w.seen[s];
        fenced += w.fenced, lost += w.lost, ambiguous += w.ambiguous;
        runs[w.m.run]++;
        if (one)
            return;
    }
    for (int s = 0; s < TASK_STATE_COUNT;
         s++) /* a walk that went nowhere shows nothing; AMBIGUOUS does not last */
        if (s != TASK_AMBIGUOUS && !seen[s])
            fail_msg("no walk saw a task %s", task_state_name((enum task_state)s));
    print_message("%u fenced, %u lost, %u ambiguous\n", fenced, lost, ambiguous);
    assert_true(fenced > 500 && lost > 10 && ambiguous > 5);
    assert_true(runs[RUN_CANCELLED] && runs[RUN_FAILED]);
}

/* ---- resuming ------------------------------------------------------------------------------------- */

/* The world outside: an effect is made once for each key, and can be asked for. */
struct world {
    int made[8], asked, executed[8];
};

/* A worker's program: eight steps, each after the other, odd ones effects. Dies before the nth of its 24 moments; false: it died. */
static bool work(const struct claimed *c, struct world *world, int dies_at, int *prefix)
{
    int moment = 0;
    bool fresh = false;
    *prefix = 0;
    for (int s = 0; s < 8; s++) {
        char name[8], key[32], result[16];
        enum step_found found;
        enum step_kind kind = s % 2 ? STEP_EFFECT : STEP_PURE;
        snprintf(name, sizeof(name), "s%d", s);
        snprintf(key, sizeof(key), "%s-%d", c->task, s);
        snprintf(result, sizeof(result), "%d", s * 100);
        const char *recorded;
        if (moment++ == dies_at)
            return false;
        assert_int_equal(begin(c, name, kind, kind == STEP_EFFECT ? key : "", &found, &recorded), PD_OK);
        if (found == STEP_DONE) {
            assert_false(fresh); /* what is recorded is a prefix: nothing behind a new step */
            assert_string_equal(recorded, result);
            *prefix = s + 1;
            continue;
        }
        fresh = true;
        if (moment++ == dies_at)
            return false;
        if (found == STEP_AMBIGUOUS && world->made[s])
            world->asked++; /* asked by its key: it was made */
        else if (kind == STEP_EFFECT)
            world->made[s]++;
        world->executed[s]++;
        if (moment++ == dies_at)
            return false;
        assert_int_equal(end_step(c, name, result), PD_OK);
    }
    return true;
}

static void killed_anywhere_it_goes_on_behind_what_is_recorded_and_each_effect_is_made_once(void **state)
{
    (void)state;
    int asked = 0;
    for (int dies_at = 0; dies_at < 24; dies_at++) {
        struct world world = {0};
        int before = 0, prefix;
        const char *run = create("tasks:\n- {id: a, command: x}\n");
        struct claimed c = must_claim("w", "a");
        assert_false(work(&c, &world, dies_at, &before));
        sweep(0);
        assert_int_equal(sweep(LEASE), 1);
        claimed_done(&c);
        c = must_claim("w", "a");
        assert_true(work(&c, &world, -1, &prefix));
        assert_int_equal(prefix, dies_at / 3); /* all that was recorded, and no more */
        for (int s = 0; s < 8; s++) {
            assert_int_equal(world.made[s], s % 2);
            assert_true(world.executed[s] == 1 || (world.executed[s] == 2 && s == dies_at / 3));
        }
        asked += world.asked;
        assert_int_equal(done(&c, "1"), PD_OK);
        assert_string_equal(run_state_of(run), "done");
        claimed_done(&c);
    }
    assert_int_equal(asked, 4); /* the four that died between an effect and its record */
}

static void two_that_go_on_from_the_same_place_see_the_same_and_one_of_them_writes(void **state)
{
    (void)state;
    struct world world = {0};
    int prefix;
    create("tasks:\n- {id: a, command: x}\n");
    struct claimed old = must_claim("old", "a");
    assert_false(work(&old, &world, 12, &prefix)); /* not dead: only slow */
    sweep(0);
    assert_int_equal(sweep(LEASE), 1);
    struct claimed now = must_claim("new", "a");
    assert_true(span_eq(buf_span(&old.spec), buf_span(&now.spec)));
    assert_true(span_eq(buf_span(&old.inputs), buf_span(&now.inputs)));
    assert_true(work(&now, &world, -1, &prefix));
    assert_int_equal(prefix, 4);
    assert_int_equal(end_step(&old, "s4", "-1"), RUNS_FENCED);
    assert_int_equal(done(&old, "-1"), RUNS_FENCED);
    assert_int_equal(done(&now, "1"), PD_OK);
    claimed_done(&old), claimed_done(&now);
}

static void after_a_crash_everything_is_as_it_was(void **state)
{
    (void)state;
    char run[RUN_ID_BYTES], before[65536], task[65536];
    snprintf(run, sizeof(run), "%s", create(plan));
    struct claimed c = must_claim("w", "t0"), d = must_claim("w", "t1");
    enum step_found found;
    assert_int_equal(begin(&c, "s", STEP_PURE, "", &found, NULL), PD_OK);
    assert_int_equal(end_step(&c, "s", "5"), PD_OK);
    assert_int_equal(failed(&d, "{\"message\":\"m\"}"), PD_OK);
    for (int i = 0; i < 3; i++) {
        snprintf(before, sizeof(before), "%s", json_of(ONE, run, ""));
        snprintf(task, sizeof(task), "%s", json_of(TASK, run, "t0"));
        close_db();
        open_db();
        assert_string_equal(json_of(ONE, run, ""), before);
        assert_string_equal(json_of(TASK, run, "t0"), task);
    }
    assert_int_equal(sweep(0), 0); /* a new sweeper waits a whole lease for whoever may still be there */
    assert_int_equal(beat(&c, NULL), PD_OK);
    assert_int_equal(done(&c, "1"), PD_OK);
    claimed_done(&c), claimed_done(&d);
}

/* ---- memory ------------------------------------------------------------------------------------------- */

static pd_err a_life(void *ctx)
{
    struct op o = {.what = CREATE, .text = "tasks:\n- {id: a, command: x}\n", .key = ""};
    struct claimed c = {0};
    enum task_state s;
    (void)ctx;
    runs_new_id(o.id);
    pd_err e = run_op(&o);
    struct op k = {
        .what = CLAIM, .claimed = &c, .wish = {.worker = SPAN_LIT("w"), .claim = span_str(o.id), .run = o.id}};
    if (!e)
        e = run_op(&k);
    struct op b = {.what = BEGIN, .held = held(&c), .step = {"s", STEP_EFFECT, SPAN_LIT("key")}};
    if (!e)
        e = run_op(&b);
    if (!e)
        e = end_step(&c, "s", "1");
    struct op look = {.what = TASK, .run = o.id, .task = "a"};
    if (!e)
        e = run_op(&look);
    buf_done(&look.out);
    if (!e)
        e = finish(&c, &(struct task_end){.outcome = OUTCOME_DONE, .output = SPAN_LIT("1"), .tokens = 5}, &s);
    struct op ev = {.what = EVENTS, .events = {.run = o.id, .limit = 10}};
    if (!e)
        e = run_op(&ev);
    buf_done(&ev.out);
    claimed_done(&c);
    buf_done(&o.out), buf_done(&b.out);
    return e;
}

static pd_err a_life_from_nothing(void *ctx)
{
    char why[500];
    struct db_rules rules;
    db_rules_default(&rules);
    rules.patience_ms = 0;
    pd_err e = db_open(where, &rules, &db, why, sizeof(why));
    if (!e)
        e = a_life(ctx);
    db = db_close(db);
    return e;
}

static void no_failed_allocation_loses_anything(void **state)
{
    (void)state;
    close_db();
    assert_true(torture_lenient(a_life_from_nothing, NULL) > 50);
    open_db();
    assert_int_equal(a_life(NULL), PD_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        TEST(every_walk_ends_where_the_model_does),
        TEST(killed_anywhere_it_goes_on_behind_what_is_recorded_and_each_effect_is_made_once),
        TEST(two_that_go_on_from_the_same_place_see_the_same_and_one_of_them_writes),
        TEST(after_a_crash_everything_is_as_it_was),
        TEST(no_failed_allocation_loses_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
