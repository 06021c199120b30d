#include "test.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "route/limiter.h"

#include <string.h>

enum { NOW = 1000 };

/* Streams that go on; all of a round show their first token at the same time. How many each round starts. */
static unsigned rounds(struct limiter *l, unsigned running, unsigned *started, unsigned most)
{
    unsigned before = 0, n = 0;
    for (uint64_t now = NOW; n < most; n++, now += 100) {
        for (unsigned i = 0; i < before; i++)
            limiter_success(l);
        before = 0;
        while (before <= 4 * LIMITER_RAMP_ROUND && limiter_allows(l, running, now)) {
            running++;
            before++;
        }
        started[n] = before;
    }
    return running;
}

static void rounds_of_a_ramp_double_and_then_grow_no_more(void **state)
{
    (void)state;
    for (unsigned running = 0; running <= 3000; running += 1500) {
        struct limiter l;
        unsigned started[20], all = 0;
        memset(&l, 0, sizeof(l));
        limiter_ramp(&l, running + LIMITER_RAMP_FIRST, NOW);
        rounds(&l, running, started, 20);
        for (unsigned n = 0; n < 20; n++) {
            unsigned doubled = n ? started[n - 1] * 2 : LIMITER_RAMP_FIRST;
            all += started[n];
            assert_true(started[n] <= 2 * LIMITER_RAMP_ROUND);
            if (n < 6)
                assert_int_equal(started[n], doubled);
            if (n > 8)
                assert_in_range(started[n], LIMITER_RAMP_ROUND, LIMITER_RAMP_ROUND + LIMITER_RAMP_FIRST);
        }
        assert_true(all > 10 * LIMITER_RAMP_ROUND);
    }
}

static void what_ends_makes_room_in_a_ramp_too(void **state)
{
    (void)state;
    struct limiter l;
    memset(&l, 0, sizeof(l));
    limiter_ramp(&l, 1, NOW);
    assert_false(limiter_allows(&l, LIMITER_RAMP_FIRST, NOW));
    assert_true(limiter_allows(&l, LIMITER_RAMP_FIRST - 1, NOW));
    limiter_success(&l);
    assert_true(limiter_allows(&l, LIMITER_RAMP_FIRST + 1, NOW));
    assert_false(limiter_allows(&l, LIMITER_RAMP_FIRST + 2, NOW));
    assert_true(limiter_allows(&l, 1, NOW + LIMITER_RAMP_LIFT_MS));
    assert_int_equal(l.state, LIMITER_FREE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_of_a_ramp_double_and_then_grow_no_more),
        cmocka_unit_test(what_ends_makes_room_in_a_ramp_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
