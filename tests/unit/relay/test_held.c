/* Calls that were on hold when their process ended: who takes which hold up, how long it has lasted, and who comes too late. */
#include "relay/held.h"

#include "base/mem.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

enum { NOW = 1000000, KEY = 7 };

static void begun(struct held *h, uint64_t number, uint64_t key, uint64_t asked, uint64_t held, uint64_t since)
{
    /* its own number is not looked at: the record's is */
    const struct held_call c = {
        .number = 999, .key = key, .asked_wall_ms = asked, .held_ms = held, .since_wall_ms = since};
    held_record(h, &(struct journal_record){
                       .kind = JOURNAL_HOLD_BEGUN, .id = number, .payload = span_of((const char *)&c, sizeof(c))});
}

static void ended(struct held *h, uint64_t number)
{
    held_record(h, &(struct journal_record){.kind = JOURNAL_HOLD_ENDED, .id = number});
}

static void the_clock_of_a_hold_goes_on_while_there_is_no_process(void **state)
{
    (void)state;
    struct held *h = held_new();
    struct held_call got;
    begun(h, 1, KEY, 100, 5000, NOW - 300);
    assert_false(held_find(h, KEY, NOW, &got)); /* its process may still run */
    assert_int_equal(held_take_over(h, NULL, NOW), 1);
    assert_true(held_any(h));
    assert_false(held_find(h, KEY + 1, NOW, &got)); /* another request */
    assert_true(held_any(h));
    assert_true(held_find(h, KEY, NOW + 200, &got));
    assert_int_equal(got.number, 1);
    assert_int_equal(got.key, KEY);
    assert_int_equal(got.asked_wall_ms, 100);
    assert_int_equal(got.held_ms, 5000 + 300 + 200);
    assert_false(held_find(h, KEY, NOW + 200, &got)); /* it was taken up */
    assert_false(held_any(h));
    held_free(h);
}

static void a_clock_that_was_put_back_adds_nothing(void **state)
{
    (void)state;
    struct held *h = held_new();
    struct held_call got;
    begun(h, 1, KEY, 100, 5000, NOW + 9000);
    held_take_over(h, NULL, NOW);
    assert_true(held_find(h, KEY, NOW, &got));
    assert_int_equal(got.held_ms, 5000);
    held_free(h);
}

static void of_those_that_ask_for_the_same_the_first_goes_first(void **state)
{
    (void)state;
    static const uint64_t asked[] = {300, 100, 200}; /* each went on hold later than the one before */
    struct held *h = held_new();
    struct held_call got;
    for (unsigned i = 0; i < 3; i++)
        begun(h, i + 1, KEY, asked[i], 0, NOW + i);
    begun(h, 9, KEY + 1, 50, 0, NOW);
    assert_int_equal(held_take_over(h, NULL, NOW), 4);
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(held_find(h, KEY, NOW, &got));
        assert_int_equal(got.asked_wall_ms, i * 100);
    }
    assert_false(held_find(h, KEY, NOW, &got));
    assert_true(held_any(h));
    assert_true(held_find(h, KEY + 1, NOW, &got));
    assert_false(held_any(h));
    held_free(h);
}

static void who_waits_no_longer_is_not_awaited_and_who_waits_again_is_once(void **state)
{
    (void)state;
    struct held *h = held_new();
    struct held_call got;
    begun(h, 1, KEY, 100, 0, NOW);
    begun(h, 2, KEY + 1, 100, 0, NOW);
    ended(h, 1);
    ended(h, 3);                        /* was never begun, or its record is lost */
    begun(h, 2, KEY + 1, 100, 77, NOW); /* on hold again */
    assert_int_equal(held_take_over(h, NULL, NOW), 1);
    assert_false(held_find(h, KEY, NOW, &got));
    assert_true(held_find(h, KEY + 1, NOW, &got));
    assert_int_equal(got.held_ms, 77);
    held_free(h);
}

static void who_does_not_come_back_soon_is_forgotten(void **state)
{
    (void)state;
    for (uint64_t late = 0; late < 2; late++) {
        struct held *h = held_new();
        struct held_call got;
        begun(h, 1, KEY, 100, 0, NOW);
        begun(h, 2, KEY + 1, 100, 0, NOW);
        held_take_over(h, NULL, NOW);
        assert_int_equal(held_find(h, KEY, NOW + HELD_RETURN_MS - 1 + late, &got), !late);
        assert_int_equal(held_any(h), !late); /* the other one too */
        held_free(h);
    }
}

static void a_record_that_is_none_of_ours_changes_nothing(void **state)
{
    (void)state;
    struct held *h = held_new();
    struct held_call c = {.key = KEY};
    struct journal_record r = {
        .kind = JOURNAL_HOLD_BEGUN, .id = 1, .payload = span_of((const char *)&c, sizeof(c) - 1)};
    begun(h, 1, KEY, 100, 0, NOW);
    held_record(h, &r); /* of another version */
    r.kind = JOURNAL_RUN;
    r.payload.n = sizeof(c);
    held_record(h, &r);
    held_record(NULL, &r);
    assert_int_equal(held_take_over(h, NULL, NOW), 1);
    assert_true(held_find(h, KEY, NOW, &c));
    assert_int_equal(c.asked_wall_ms, 100);
    assert_int_equal(held_take_over(NULL, NULL, NOW), 0);
    assert_false(held_any(NULL));
    assert_false(held_find(NULL, KEY, NOW, &c));
    assert_null(held_free(h));
    assert_null(held_free(NULL));
}

static void their_number_is_bounded(void **state)
{
    (void)state;
    struct held *h = held_new();
    struct held_call got;
    for (unsigned i = 0; i < HELD_MOST + 10; i++) {
        const struct held_call c = {.key = i, .asked_wall_ms = 1};
        if (i == HELD_MOST) /* room for one */
            ended(h, 1);
        held_record(h, &(struct journal_record){.kind = JOURNAL_HOLD_BEGUN,
                                                .id = i + 1,
                                                .payload = span_of((const char *)&c, sizeof(c))});
    }
    assert_int_equal(held_take_over(h, NULL, NOW), HELD_MOST);
    assert_false(held_find(h, 0, NOW, &got));
    assert_true(held_find(h, HELD_MOST, NOW, &got));
    assert_false(held_find(h, HELD_MOST + 1, NOW, &got));
    held_free(h);
}

/* ---- through the journal ---- */

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/perdure-held-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static struct journal *open_journal(void)
{
    struct journal_rules rules;
    struct journal *j;
    journal_rules_default(&rules);
    assert_int_equal(journal_open(folder, &rules, 0, &j), PD_OK);
    return j;
}

static void on_record(void *ctx, const struct journal_record *r)
{
    held_record(ctx, r);
}

static struct held *read_back(struct journal_reader *r)
{
    struct held *h = held_new();
    assert_non_null(h);
    assert_int_equal(journal_read(r, on_record, h), PD_OK);
    return h;
}

/* Each start puts into its journal again what it still awaits, as it was: the time is counted when it is taken up, and once. */
static void a_hold_outlives_one_process_after_another(void **state)
{
    (void)state;
    const struct held_call one = {.number = 11,
                                  .key = KEY,
                                  .asked_wall_ms = 50,
                                  .held_ms = 5,
                                  .since_wall_ms = NOW},
                           two = {.number = 12, .key = KEY + 1, .asked_wall_ms = 60, .since_wall_ms = NOW};
    struct journal *j = open_journal();
    held_begun(j, &one);
    held_begun(j, &two);
    held_ended(j, two.number);
    held_begun(NULL, &one);
    held_ended(NULL, 1);
    assert_true(journal_flush(j));
    journal_close(j);
    for (unsigned starts = 0; starts < 2; starts++) {
        struct journal_reader *r = journal_reader_new(folder);
        struct held *h = read_back(r);
        j = open_journal();
        assert_int_equal(held_take_over(h, j, NOW), 1);
        assert_int_equal(journal_settle(j, r), PD_OK); /* what the one before had written is gone */
        journal_reader_free(r);
        journal_close(j);
        held_free(h);
    }
    struct journal_reader *r = journal_reader_new(folder);
    struct held *h = read_back(r);
    struct held_call got;
    held_take_over(h, NULL, NOW + 100);
    assert_true(held_find(h, KEY, NOW + 100, &got));
    assert_int_equal(got.number, 11);
    assert_int_equal(got.asked_wall_ms, 50);
    assert_int_equal(got.held_ms, 105);
    assert_false(held_any(h));
    held_free(h);
    journal_reader_free(r);
}

/* ---- no memory ---- */

static pd_err life(void *ctx)
{
    (void)ctx;
    struct held *h = held_new();
    struct held_call got;
    if (!h)
        return PD_NOMEM;
    begun(h, 1, KEY, 100, 0, NOW);
    begun(h, 2, KEY, 200, 0, NOW);
    unsigned n = held_take_over(h, NULL, NOW);
    bool found = held_find(h, KEY, NOW, &got);
    held_free(h);
    return n == 2 && found ? PD_OK : PD_NOMEM;
}

static void one_that_finds_no_memory_is_as_any_new_call(void **state)
{
    (void)state;
    assert_int_equal(torture(life, NULL), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_clock_of_a_hold_goes_on_while_there_is_no_process),
        cmocka_unit_test(a_clock_that_was_put_back_adds_nothing),
        cmocka_unit_test(of_those_that_ask_for_the_same_the_first_goes_first),
        cmocka_unit_test(who_waits_no_longer_is_not_awaited_and_who_waits_again_is_once),
        cmocka_unit_test(who_does_not_come_back_soon_is_forgotten),
        cmocka_unit_test(a_record_that_is_none_of_ours_changes_nothing),
        cmocka_unit_test(their_number_is_bounded),
        cmocka_unit_test_setup_teardown(a_hold_outlives_one_process_after_another, make_folder, remove_folder),
        cmocka_unit_test(one_that_finds_no_memory_is_as_any_new_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
