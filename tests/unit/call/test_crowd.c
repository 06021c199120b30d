/* Many calls at once: those that were held when their target comes back, and streams that all break in one moment. In virtual time. */
#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/mem.h"
#include "call_fixture.h"

enum { STEP = 10, FIRST_TOKEN_MS = 300, ANSWER_MS = 1500, REFUSED_MS = 20, SLICE_MS = 100, SLICES = 6000 };

struct client {
    struct call call;
    struct attempt room[CALL_ATTEMPTS_MAX];
    bool told;
    int attempt; /* running; -1 */
    unsigned target;
    uint64_t due_ms;   /* what comes next of it */
    bool shown, stays; /* gave its first token; runs until its provider dies */
    bool refused, down;
    unsigned ends, breaks;
};

struct crowd {
    struct fixture f;
    struct client *all;
    unsigned count, over, lost;
    unsigned running[TARGETS], most[TARGETS]; /* most 0: no limit */
    bool is_down[TARGETS];
    struct target *probed[TARGETS];
    uint64_t probe_ends_ms[TARGETS];
    unsigned starts[SLICES];         /* on the target that came back, in each 100 ms */
    unsigned moved[TARGETS][SLICES]; /* calls that moved there, in each 100 ms */
    uint64_t now;
};

static void on_ready(void *ctx, struct ticket *t)
{
    (void)ctx;
    ((struct client *)t->owner)->told = true;
}

static void crowd_begin(struct crowd *w, unsigned count)
{
    *w = (struct crowd){.count = count, .now = NOW};
    begin(&w->f);
    w->all = mem_calloc(count, sizeof(*w->all));
    assert_non_null(w->all);
    fleet_set_watch(w->f.fleet, &(struct fleet_watch){.ready = on_ready}, w);
}

static void crowd_end(struct crowd *w)
{
    assert_int_equal(queue_count(w->f.fleet), 0);
    mem_free(w->all);
    fleet_free(w->f.fleet);
}

static void starts(struct crowd *w, struct client *c, int attempt)
{
    c->attempt = attempt;
    c->target = c->call.attempts[attempt].target;
    c->shown = false;
    c->down = w->is_down[c->target];
    w->running[c->target]++;
    c->refused = w->most[c->target] && w->running[c->target] > w->most[c->target];
    c->due_ms = w->now + (c->down || c->refused ? REFUSED_MS : FIRST_TOKEN_MS);
    uint64_t slice = (w->now - NOW) / SLICE_MS;
    if (slice >= SLICES)
        return;
    w->starts[slice]++;
    if (attempt == 0)
        return;
    w->moved[c->target][slice]++;
    /* Slices are ours and not the target's: one window more than fit into it may end in one. */
    unsigned windows = SLICE_MS / INFLUX_MS + 1, each = INFLUX_LEAST + w->running[c->target] / INFLUX_SHARE;
    if (w->moved[c->target][slice] > windows * each)
        fail_msg("%u calls move to it in %u ms", w->moved[c->target][slice], (unsigned)SLICE_MS);
}

static void carry_out(struct crowd *w, struct client *c, const struct call_actions *acts)
{
    for (unsigned i = 0; i < acts->count; i++)
        switch (acts->list[i].act) {
        case CALL_START:
            starts(w, c, acts->list[i].attempt);
            break;
        case CALL_CANCEL:
            fail_msg("nothing here is slow");
            break;
        case CALL_COMMIT:
            break;
        case CALL_FINISH:
            w->over++;
            c->ends++;
            break;
        case CALL_FAIL:
        case CALL_BREAK:
            w->over++;
            w->lost++;
            c->ends++;
            break;
        }
}

static void ends(struct crowd *w, struct client *c, enum failure why)
{
    struct call_actions acts;
    int attempt = c->attempt;
    c->attempt = -1;
    w->running[c->target]--;
    if (why == FAILURE_NONE)
        call_complete(&c->call, attempt, w->now, &acts);
    else
        call_failed(&c->call, attempt, &(struct verdict){.failure = why}, w->now, &acts);
    carry_out(w, c, &acts);
}

static void answers(struct crowd *w, struct client *c)
{
    struct call_actions acts;
    if (c->down || c->refused) {
        ends(w, c, c->down ? FAILURE_CONNECT : FAILURE_OVERLOAD);
    } else if (!c->shown) {
        c->shown = true;
        c->due_ms = c->stays ? UINT64_MAX : w->now + ANSWER_MS;
        call_output(&c->call, c->attempt, w->now, &acts);
        carry_out(w, c, &acts);
    } else {
        ends(w, c, FAILURE_NONE);
    }
}

static void probes(struct crowd *w)
{
    uint64_t next;
    struct target *t;
    while ((t = fleet_probe_due(w->f.fleet, w->now, &next))) {
        w->probed[t->id] = t;
        w->probe_ends_ms[t->id] = w->now + REFUSED_MS;
    }
    for (unsigned i = 0; i < TARGETS; i++) {
        if (!w->probed[i] || w->probe_ends_ms[i] > w->now)
            continue;
        t = w->probed[i];
        w->probed[i] = NULL;
        struct verdict v = {.failure = w->is_down[i] ? FAILURE_CONNECT : FAILURE_NONE};
        fleet_probe_result(w->f.fleet, t, &v, w->now);
    }
}

static void arrives(struct crowd *w, struct client *c, bool stays)
{
    struct call_actions acts;
    c->attempt = -1;
    c->stays = stays;
    struct call_want want = w->f.want;
    want.owner = c;
    call_begin(&c->call, w->f.fleet, &want, w->now, &acts);
    call_give_room(&c->call, c->room);
    carry_out(w, c, &acts);
}

static void live(struct crowd *w, uint64_t ms, unsigned arrived)
{
    for (uint64_t until = w->now + ms; w->now < until && w->over < w->count; w->now += STEP) {
        probes(w);
        for (unsigned i = 0; i < arrived; i++) {
            struct client *c = &w->all[i];
            struct call_actions acts;
            if (c->call.state == CALL_OVER)
                continue;
            if (c->attempt >= 0 && c->due_ms <= w->now)
                answers(w, c);
            if (c->call.state == CALL_OVER || (!c->told && call_next(&c->call) > w->now))
                continue;
            c->told = false;
            call_wake(&c->call, w->now, &acts);
            carry_out(w, c, &acts);
        }
    }
}

/* Those that waited do not come all at once: a few, then twice as many in each round of first tokens. */
static void held_calls_come_back_a_few_first_then_twice_as_many(void **state)
{
    (void)state;
    enum { CALLS = 500, DOWN_MS = 60 * S };
    for (int adaptive = 0; adaptive < 2; adaptive++) {
        struct crowd w;
        crowd_begin(&w, CALLS);
        w.f.route.count = 1;
        w.f.settings.concurrency_adaptive = adaptive;
        w.f.want.in_session = true;
        w.f.want.hold_ms = UINT64_MAX;
        settle(&w.f);
        w.is_down[0] = true;
        for (unsigned i = 0; i < CALLS; i++) {
            arrives(&w, &w.all[i], false);
            if (i % 10 == 0)
                live(&w, STEP, i + 1);
        }
        live(&w, DOWN_MS, CALLS);
        assert_int_equal(w.over, 0);
        w.is_down[0] = false;
        memset(w.starts, 0, sizeof(w.starts));
        live(&w, 5 * MIN, CALLS);
        assert_int_equal(w.over, CALLS);
        assert_int_equal(w.lost, 0);

        unsigned first = 0, last = 0, peak = 0, sum = 0;
        printf("  %s: starts in each 100 ms:", adaptive ? "concurrency_adaptive" : "without it");
        for (unsigned i = 0; i < SLICES; i++) {
            if (!w.starts[i])
                continue;
            if (!first)
                first = i;
            last = i;
            /* No more than what had started before, and a few. */
            if (w.starts[i] > sum + 2 * LIMITER_RAMP_FIRST)
                fail_msg("%u at once behind %u", w.starts[i], sum);
            sum += w.starts[i];
            peak = w.starts[i] > peak ? w.starts[i] : peak;
            printf(" %u", w.starts[i]);
        }
        printf(": all within %u ms\n", (last - first + 1) * SLICE_MS);
        assert_int_equal(sum, CALLS);
        assert_true(w.starts[first] <= 3); /* breaker_trials */
        assert_true(peak < CALLS / 2);
        crowd_end(&w);
    }
}

/* With the settings as they are by default. */
static void streams_that_all_break_at_once_are_all_gone_on_with(void **state)
{
    (void)state;
    enum { CALLS = 5000 };
    static const struct {
        const char *where;
        unsigned targets, room;
        bool in_session; /* else there is no hold */
    } rows[] = {
        {"the other has room for all", 2, 0, false},
        {"the other has room for 2,000", 2, 2000, true},
        {"there is no other, and it comes back", 1, 0, false},
    };
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct crowd w;
        crowd_begin(&w, CALLS);
        w.f.route.count = rows[k].targets;
        w.f.want.can_continue = true;
        w.f.want.in_session = rows[k].in_session;
        w.f.want.hold_ms = UINT64_MAX;
        if (rows[k].targets == 2 && !rows[k].room)
            w.f.settings.retry_after_max = 0; /* to stand in line is no wait for recovery */
        settle(&w.f);
        for (unsigned i = 0; i < CALLS; i++)
            arrives(&w, &w.all[i], true);
        live(&w, 1 * S, CALLS);
        assert_int_equal(w.running[0], CALLS);
        w.is_down[0] = true;
        w.most[1] = rows[k].room;
        uint64_t broke_ms = w.now;
        for (unsigned i = 0; i < CALLS; i++) {
            w.all[i].stays = false;
            ends(&w, &w.all[i], FAILURE_RESET);
        }
        if (rows[k].targets == 1) { /* its front fell over */
            live(&w, 1 * S, CALLS);
            w.is_down[0] = false;
        }
        live(&w, 20 * MIN, CALLS);
        printf("  %u streams broke at once, %s: %u lost, the last whole after %.1f s\n", (unsigned)CALLS,
               rows[k].where, w.lost, (double)(w.now - broke_ms) / S);
        assert_int_equal(w.over, CALLS);
        assert_int_equal(w.lost, 0);
        if (rows[k].targets == 2 && !rows[k].room) /* the way over, and the answer */
            assert_true(w.now - broke_ms <= 1500 + FIRST_TOKEN_MS + ANSWER_MS);
        crowd_end(&w);
    }
}

/* What is alone at first doubles what it has in a third of a second; fresh calls are counted nowhere. */
static void a_target_takes_a_part_of_what_it_has_in_each_moment(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    settle(&f);
    struct target *t = f.t[0];
    uint64_t at, now = NOW;
    for (unsigned i = 0; i < 1000; i++)
        (void)target_start(t, 0, now);
    assert_int_equal(target_look(t, 0, now, &at), TARGET_FREE);
    for (int window = 0; window < 3; window++, now += INFLUX_MS) {
        unsigned moved = 0, most = INFLUX_LEAST + (t->running + 1) / INFLUX_SHARE;
        for (; target_look(t, 0, now + moved % INFLUX_MS, &at) == TARGET_FREE; moved++) {
            (void)target_start(t, 0, now + moved % INFLUX_MS);
            target_moved(t, now + moved % INFLUX_MS);
        }
        assert_int_equal(moved, most);
        assert_int_equal(target_look(t, 0, now, &at), TARGET_INFLUX);
        assert_int_equal(at, now + INFLUX_MS);
        assert_int_equal(target_look(t, 0, now + INFLUX_MS - 1, &at), TARGET_INFLUX);
        t->rest_until_ms = now + 5; /* what is worse is what is told */
        assert_int_equal(target_look(t, 0, now, &at), TARGET_RESTING);
        t->rest_until_ms = 0;
    }
    assert_int_equal(target_look(t, 0, now, &at), TARGET_FREE);
    fleet_free(f.fleet);
}

static void a_hedge_is_no_move_and_neither_is_a_first_attempt(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    settle(&f);
    struct call_actions acts;
    call_begin(&f.call, f.fleet, &f.want, NOW, &acts);
    call_wake(&f.call, call_next(&f.call), &acts);
    assert_int_equal(f.call.hedges, 1);
    assert_int_equal(f.t[0]->influx.started + f.t[1]->influx.started, 0);
    call_gone(&f.call, NOW + 3 * S, &acts);
    call_begin(&f.call, f.fleet, &f.want, NOW + 3 * S, &acts);
    call_failed(&f.call, 0, &(struct verdict){.failure = FAILURE_OVERLOAD}, NOW + 3 * S, &acts);
    assert_int_equal(f.call.attempts_count, 2);
    assert_int_equal(f.call.attempts[1].target, 1);
    assert_int_equal(f.t[1]->influx.started, 1);
    call_gone(&f.call, NOW + 3 * S, &acts);
    fleet_free(f.fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_calls_come_back_a_few_first_then_twice_as_many),
        cmocka_unit_test(streams_that_all_break_at_once_are_all_gone_on_with),
        cmocka_unit_test(a_target_takes_a_part_of_what_it_has_in_each_moment),
        cmocka_unit_test(a_hedge_is_no_move_and_neither_is_a_first_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
