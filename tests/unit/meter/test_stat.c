#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

#include "base/rnd.h"
#include "meter/stat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void first_sample_is_the_average(void **state)
{
    (void)state;
    struct ewma e = {0};
    ewma_add(&e, 40);
    assert_true(e.value == 40);
    ewma_add(&e, 48);
    assert_true(e.value == 41); /* an eighth of the way */
    assert_int_equal(e.samples, 2);
    for (int i = 0; i < 200; i++)
        ewma_add(&e, 100);
    assert_true(fabs(e.value - 100) < 0.001);
}

static void without_samples_there_is_no_quantile(void **state)
{
    (void)state;
    struct quantile q = {0};
    assert_int_equal(quantile_at(&q, 0.5), 0);
}

/* One value alone is its own quantile: never less than it, and at most a bucket more. */
static void one_value_is_found_within_a_bucket(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms <= 3600 * 1000; ms += 1 + ms / 50) {
        struct quantile q = {0};
        quantile_add(&q, ms);
        uint64_t at = quantile_at(&q, 0.95);
        assert_true(at >= ms && at >= 1);
        assert_true((double)at <= (double)(ms ? ms : 1) * 1.09);
        assert_int_equal(quantile_at(&q, 0.01), at);
    }
}

static void longer_than_an_hour_counts_as_an_hour(void **state)
{
    (void)state;
    struct quantile q = {0};
    quantile_add(&q, UINT64_MAX);
    assert_int_equal(quantile_at(&q, 0.5), 3600 * 1000);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Against the sorted samples, while the window is not full. */
static void quantiles_are_those_of_the_sorted_samples(void **state)
{
    (void)state;
    struct rnd rnd = {42};
    for (unsigned n = 1; n <= QUANTILE_WINDOW; n += 5) {
        struct quantile q = {0};
        uint64_t samples[QUANTILE_WINDOW];
        for (unsigned i = 0; i < n; i++)
            quantile_add(&q, samples[i] = 1 + rnd_below(&rnd, i % 3 ? 900 : 90000));
        qsort(samples, n, sizeof(samples[0]), by_size);
        static const double ps[] = {0.01, 0.25, 0.5, 0.75, 0.95, 0.99};
        for (unsigned i = 0; i < sizeof(ps) / sizeof(ps[0]); i++) {
            uint64_t want = samples[(unsigned)ceil(ps[i] * n) - 1], at = quantile_at(&q, ps[i]);
            assert_true(at >= want && (double)at <= (double)want * 1.09);
        }
    }
}

/* A window of samples that all differ must not vanish when it is halved, nor stay for ever. */
static void old_samples_fade_and_lone_ones_are_not_lost(void **state)
{
    (void)state;
    struct quantile q = {0};
    double v = 1;
    for (unsigned i = 0; i < QUANTILE_WINDOW; i++, v *= 1.06)
        quantile_add(&q, (uint64_t)v);
    uint64_t before = quantile_at(&q, 0.5);
    quantile_add(&q, (uint64_t)pow(1.06, QUANTILE_WINDOW / 2));
    assert_in_range(q.total, QUANTILE_WINDOW / 2, QUANTILE_WINDOW / 2 + 1);
    uint64_t after = quantile_at(&q, 0.5);
    assert_true((double)after > (double)before * 0.85 && (double)after < (double)before * 1.2);

    for (unsigned i = 0; i < 12 * QUANTILE_WINDOW; i++)
        quantile_add(&q, 5);
    assert_int_equal(quantile_at(&q, 0.999), 5);
    assert_true(q.total <= QUANTILE_WINDOW);
}

static void the_window_never_overflows(void **state)
{
    (void)state;
    struct quantile q = {0};
    for (unsigned i = 0; i < 100000; i++) {
        quantile_add(&q, 7);
        unsigned sum = 0;
        if (i % 1000 == 0) {
            for (unsigned b = 0; b < QUANTILE_BUCKETS; b++)
                sum += q.count[b];
            assert_int_equal(sum, q.total);
        }
        assert_true(q.total <= QUANTILE_WINDOW);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_sample_is_the_average),
        cmocka_unit_test(without_samples_there_is_no_quantile),
        cmocka_unit_test(one_value_is_found_within_a_bucket),
        cmocka_unit_test(longer_than_an_hour_counts_as_an_hour),
        cmocka_unit_test(quantiles_are_those_of_the_sorted_samples),
        cmocka_unit_test(old_samples_fade_and_lone_ones_are_not_lost),
        cmocka_unit_test(the_window_never_overflows),
    };
    return cmocka_run_group_tests_name("stat", tests, NULL, NULL);
}
