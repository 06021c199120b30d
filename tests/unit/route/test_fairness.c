/* The queue with many in it: who gets how much, who waits how long, and what it costs. A slot is an attempt's end, which lets one more start. */
#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "base/mem.h"
#include "route/fleet.h"

#include <stdio.h>
#include <time.h>

enum { NOW = 1000 * 1000, KEYS = 20, CROWD = 10000 };

struct line {
    struct fleet *fleet;
    struct target *t, *other;
    struct route route, elsewhere;
    struct ticket *told; /* the last */
};

static void on_ready(void *ctx, struct ticket *t)
{
    ((struct line *)ctx)->told = t;
}

static void begin(struct line *l)
{
    struct settings s;
    settings_default(&s);
    *l = (struct line){.fleet = fleet_new(3)};
    assert_non_null(l->fleet);
    fleet_set_watch(l->fleet, &(struct fleet_watch){.ready = on_ready}, l);
    assert_int_equal(fleet_target(l->fleet, "p", "m", &s, &l->t), PD_OK);
    assert_int_equal(fleet_target(l->fleet, "q", "m", &s, &l->other), PD_OK);
    l->route = (struct route){.name = "r", .count = 1, .targets = {{.target = l->t, .weight = 1}}};
    l->elsewhere = (struct route){.name = "e", .count = 1, .targets = {{.target = l->other, .weight = 1}}};
}

static void end(struct line *l)
{
    assert_int_equal(queue_count(l->fleet), 0);
    fleet_free(l->fleet);
}

/* Who is told is the head; it starts. */
static struct ticket *slot(struct line *l, uint64_t now)
{
    if (!l->told)
        queue_tell(l->fleet, l->t, now);
    struct ticket *t = l->told;
    assert_non_null(t);
    l->told = NULL;
    assert_true(queue_may_start(l->fleet, t, l->t));
    queue_leave(l->fleet, t, true, now);
    return t;
}

/* An hour in which ten slots come each second and each key has more to do than its share: key k has up to (k + 1)^2 calls in line. */
static void keys_get_the_same_however_much_they_ask_for(void **state)
{
    (void)state;
    enum { SLOTS = 36000, MOST = KEYS * (KEYS + 1) * (2 * KEYS + 1) / 6 };
    static struct ticket tickets[MOST];
    static unsigned key_of[MOST];
    memset(tickets, 0, sizeof(tickets));
    struct line l;
    begin(&l);
    unsigned n = 0, longest[KEYS] = {0};
    double served[KEYS] = {0};
    for (unsigned k = KEYS; k-- > 0;)
        for (unsigned i = 0; i < (k + 1) * (k + 1); i++) {
            key_of[n] = k;
            queue_enter(l.fleet, &tickets[n], &l.route, 0, 0, k + 1, n % 5, NOW);
            n++;
        }
    for (unsigned i = 0; i < SLOTS; i++) {
        uint64_t now = NOW + i;
        struct ticket *t = slot(&l, now);
        unsigned k = key_of[t - tickets], waited = (unsigned)(now - t->since_ms);
        longest[k] = waited > longest[k] ? waited : longest[k];
        served[k]++;
        queue_enter(l.fleet, t, &l.route, 0, 0, k + 1, (unsigned)(t - tickets) % 5, now); /* its next call */
    }
    double sum = 0, squares = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        sum += served[k];
        squares += served[k] * served[k];
        unsigned of_a_session =
            ((k + 1) * (k + 1) + 4) / 5; /* five sessions in turn, each in a turn of all keys */
        assert_in_range(longest[k], 0, (of_a_session + 1) * 5 * KEYS);
    }
    double jain = sum * sum / (KEYS * squares);
    printf("  20 keys, 1 to 400 calls in line: Jain index %.4f; the longest wait of the smallest %u slots\n", jain,
           longest[0]);
    assert_true(jain > 0.999);
    for (unsigned i = 0; i < n; i++)
        queue_leave(l.fleet, &tickets[i], false, NOW + SLOTS);
    end(&l);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Ten thousand in line: each is served once, and nothing is done for all of them at once. */
static void a_long_line_costs_little(void **state)
{
    (void)state;
    static struct ticket tickets[CROWD];
    static const struct {
        const char *what;
        unsigned keys, sessions, elsewhere; /* of so many one waits for the other target */
    } rows[] = {{"20 keys, 50 sessions each", 20, 50, 0},
                {"one session", 1, 1, 0},
                {"each of its own key", CROWD, 1, 0},
                {"half of them for another target", 20, 50, 2}};
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct line l;
        begin(&l);
        memset(tickets, 0, sizeof(tickets));
        double began = seconds();
        for (unsigned i = 0; i < CROWD; i++) {
            bool away = rows[k].elsewhere && i % rows[k].elsewhere == 0;
            queue_enter(l.fleet, &tickets[i], away ? &l.elsewhere : &l.route, 0, 0, 1 + i % rows[k].keys,
                        i / rows[k].keys % rows[k].sessions, NOW);
        }
        double entered = seconds();
        unsigned here = queue_waiting_for(l.fleet, l.t);
        for (unsigned i = 0; i < here; i++)
            (void)slot(&l, NOW);
        double left = seconds();
        assert_int_equal(queue_waiting_for(l.fleet, l.t), 0);
        for (unsigned i = 0; i < CROWD; i++)
            queue_leave(l.fleet, &tickets[i], false, NOW);
        printf("  %-32s %7.0f ns to enter, %7.0f ns to start\n", rows[k].what, (entered - began) / CROWD * 1e9,
               (left - entered) / here * 1e9);
        assert_true(left - began < 20); /* not the square of them */
        end(&l);
    }
}

/* Without memory for a key or a session its calls share one place: each is served once, those in it in the order in which they came. */
static void without_memory_they_share_one_place(void **state)
{
    (void)state;
    enum { FEW = 12 };
    unsigned failures = 0;
    for (unsigned nth = 1;; nth++) {
        struct line l;
        begin(&l);
        struct ticket t[FEW] = {0};
        bool done[FEW] = {0};
        mem_fail_at(nth);
        for (unsigned i = 0; i < FEW; i++)
            queue_enter(l.fleet, &t[i], &l.route, 0, 0, 1 + i % 3, i % 2, NOW + i);
        bool failed = mem_failed();
        mem_fail_at(0);
        failures += failed;
        assert_int_equal(queue_count(l.fleet), FEW);
        for (unsigned served = 0; served < FEW; served++) {
            struct ticket *now = slot(&l, NOW);
            unsigned at = (unsigned)(now - t);
            assert_false(done[at]);
            for (unsigned before = 0; before < at; before++) /* of one key and session */
                assert_true(done[before] || before % 6 != at % 6 || failed);
            done[at] = true;
        }
        end(&l);
        if (!failed)
            break;
    }
    assert_int_equal(failures, 9); /* three keys, two sessions of each */

    struct line l; /* and when there is none at all */
    begin(&l);
    struct ticket t[FEW] = {0};
    for (unsigned i = 0; i < FEW; i++) {
        mem_fail_at(1);
        queue_enter(l.fleet, &t[i], &l.route, 0, 0, 1 + i % 3, i % 2, NOW + i);
        mem_fail_at(0);
    }
    for (unsigned i = 0; i < FEW; i++)
        assert_ptr_equal(slot(&l, NOW), &t[i]);
    end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_get_the_same_however_much_they_ask_for),
        cmocka_unit_test(a_long_line_costs_little),
        cmocka_unit_test(without_memory_they_share_one_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
