/* What an attempt is taken to have used, and what that costs. */
#include "relay/spent.h"

#include "conf/conf.h"
#include "dialect/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

static int64_t output(int64_t said, uint64_t bytes, bool *ret_estimated)
{
    struct answer_facts f = {.usage = MSG_USAGE_NONE, .output_bytes = bytes};
    f.usage.output_total = said;
    return spent_output(&f, ret_estimated);
}

static void what_was_reported_counts_unless_it_was_said_at_the_beginning(void **state)
{
    (void)state;
    static const struct {
        int64_t said;
        uint64_t bytes;
        int64_t want;
        bool estimated;
    } rows[] = {
        {20, 120, 20, false},                         /* a report in every chunk */
        {15, 120, 15, false},                         /* words of eight bytes */
        {14, 120, 30, true},                          /* longer ones are none */
        {1, 4000, 1000, true},                        /* said with the first event, as Anthropic's format does */
        {-1, 4000, 1000, true},                       /* not at all */
        {0, 400, 100, true},                          /* nothing yet */
        {0, 0, 0, true},        {500, 0, 500, false}, /* reasoning that is not shown */
        {7, 3, 7, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool estimated;
        int64_t got = output(rows[i].said, rows[i].bytes, &estimated);
        if (got != rows[i].want || estimated != rows[i].estimated)
            fail_msg("row %zu: %lld %d", i, (long long)got, estimated);
    }
}

/* $3, $15, $0.30 and $3.75 for a million */
static const struct conf_price price = {"m", 3000000, 15000000, 300000, 3750000};

static void each_kind_of_token_has_its_price(void **state)
{
    (void)state;
    struct spent s = {.tokens_in = 1000, .tokens_out = 100, .cache_read = -1, .cache_write = -1};
    assert_int_equal(spent_cost(&s, &price), 1000LL * 3000000 + 100LL * 15000000);
    s.cache_read = 600;
    assert_int_equal(spent_cost(&s, &price), 400LL * 3000000 + 600LL * 300000 + 100LL * 15000000);
    s.cache_write = 400;
    assert_int_equal(spent_cost(&s, &price), 600LL * 300000 + 400LL * 3750000 + 100LL * 15000000);
    s.cache_read = -1;
    assert_int_equal(spent_cost(&s, &price), 600LL * 3000000 + 400LL * 3750000 + 100LL * 15000000);
}

static void what_is_not_known_is_not_nothing(void **state)
{
    (void)state;
    struct spent s = {.tokens_in = 1, .cache_read = -1, .cache_write = -1};
    assert_int_equal(spent_cost(&s, NULL), -1);
    s = (struct spent){.tokens_out = 1, .cache_read = -1, .cache_write = -1};
    assert_int_equal(spent_cost(&s, NULL), -1);
    s.tokens_out = 0;
    assert_int_equal(spent_cost(&s, NULL), 0); /* an attempt that used nothing costs nothing, whatever the price */
}

static void numbers_that_make_no_sense_have_no_cost(void **state)
{
    (void)state;
    struct spent s = {.tokens_in = 10, .cache_read = 11, .cache_write = -1};
    assert_int_equal(spent_cost(&s, &price), -1);
    s = (struct spent){.tokens_in = 10, .cache_read = 6, .cache_write = 5};
    assert_int_equal(spent_cost(&s, &price), -1);
    s = (struct spent){.tokens_in = INT64_MAX, .cache_read = -1, .cache_write = -1};
    assert_int_equal(spent_cost(&s, &price), -1);
    s = (struct spent){
        .tokens_in = 3000000000000, .tokens_out = 200000000000, .cache_read = -1, .cache_write = -1};
    assert_int_equal(spent_cost(&s, &price), -1); /* each fits, their sum does not */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_reported_counts_unless_it_was_said_at_the_beginning),
        cmocka_unit_test(each_kind_of_token_has_its_price),
        cmocka_unit_test(what_is_not_known_is_not_nothing),
        cmocka_unit_test(numbers_that_make_no_sense_have_no_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
