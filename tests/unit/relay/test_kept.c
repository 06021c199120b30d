/* Who is given which kept answer, for how long, and that what is kept is bounded. */
#include "relay/kept.h"

#include "base/mem.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

enum { KEEP_MS = 60000 };

static const struct kept_key asked = {.sketch = 7, .body = 8};

static void text(struct kept_answer *a, size_t bytes)
{
    char *p = malloc(bytes);
    assert_non_null(p);
    memset(p, 'x', bytes);
    struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = span_of(p, bytes)};
    assert_int_equal(shown_add(&a->shown, &d), PD_OK);
    free(p);
}

static struct kept_answer *begin(struct kept_table *k, const char *id, struct kept_key key)
{
    struct kept_answer *a = kept_begin(k, id, &codec_openai_chat);
    assert_non_null(a);
    a->key = key;
    text(a, 10);
    return a;
}

static struct kept_answer *find(struct kept_table *k, struct kept_key key, uint64_t now_ms, bool *taken)
{
    bool may_have = kept_may_have(k, &key, now_ms);
    struct kept_answer *a = kept_find(k, &key, now_ms, taken);
    assert_true(may_have || !a);
    return a;
}

/* ---- who gets it ---- */

static void what_is_given_depends_on_how_it_ended_and_who_asks(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        enum kept_state as;
        bool attended;
        struct kept_key key, asks;
        bool found, taken;
    } rows[] = {
        {"a part whose client left", KEPT_PART, false, {7, 8, 0}, {7, 8, 0}, true, true},
        {"a whole one whose client left", KEPT_WHOLE, false, {7, 8, 0}, {7, 8, 0}, true, false},
        {"one that runs on without its client", KEPT_RUNNING, false, {7, 8, 0}, {7, 8, 0}, true, false},
        {"a client is there", KEPT_RUNNING, true, {7, 8, 0}, {7, 8, 0}, false, false},
        {"a client had all of it", KEPT_WHOLE, true, {7, 8, 0}, {7, 8, 0}, false, false},
        {"another body", KEPT_PART, false, {7, 8, 0}, {7, 9, 0}, false, false},
        {"another client", KEPT_PART, false, {7, 8, 0}, {6, 8, 0}, false, false},
        {"its body was never looked at", KEPT_PART, false, {7, 0, 0}, {7, 8, 0}, false, false},
        {"an Idempotency-Key, and a client is there", KEPT_RUNNING, true, {7, 8, 5}, {7, 8, 5}, true, false},
        {"an Idempotency-Key, and it is whole", KEPT_WHOLE, true, {7, 8, 5}, {7, 8, 5}, true, false},
        {"an Idempotency-Key, and it broke", KEPT_PART, true, {7, 8, 5}, {7, 8, 5}, true, true},
        {"the key used again for another request", KEPT_RUNNING, true, {7, 8, 5}, {6, 9, 5}, false, false},
        {"for one that differs in its body alone", KEPT_RUNNING, true, {7, 8, 5}, {7, 9, 5}, false, false},
        {"another Idempotency-Key", KEPT_RUNNING, true, {7, 8, 5}, {7, 8, 4}, false, false},
        {"none where one was sent", KEPT_RUNNING, true, {7, 8, 5}, {7, 8, 0}, false, false},
        {"none on both sides is not the same one", KEPT_WHOLE, true, {7, 8, 0}, {7, 8, 0}, false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kept_table *k = kept_new(1 << 20, KEEP_MS);
        assert_non_null(k);
        struct kept_answer *a = begin(k, "c-1", rows[i].key);
        bool taken = false;
        a->attended = rows[i].attended;
        kept_offer(k, a, 100);
        if (rows[i].as != KEPT_RUNNING)
            kept_settle(k, a, rows[i].as, true, 100);
        struct kept_answer *got = find(k, rows[i].asks, 200, &taken);
        if ((got == a) != rows[i].found || taken != rows[i].taken)
            fail_msg("%s: found %d, taken %d", rows[i].what, got == a, taken);
        if (got) {
            assert_true(got->attended);
            assert_int_equal(kept_figures(k).count, taken ? 0 : 1);
            assert_int_equal(got->state, taken ? KEPT_RUNNING : rows[i].as);
        }
        kept_unref(got);
        kept_unref(a);
        kept_free(k);
    }
}

static void a_part_is_given_to_one_alone_and_kept_again_when_it_breaks_again(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-1", asked);
    bool taken;
    a->attended = false;
    kept_settle(k, a, KEPT_PART, true, 0);
    assert_ptr_equal(find(k, asked, 1, &taken), a);
    assert_true(taken);
    assert_null(find(k, asked, 1, &taken));
    assert_false(taken);
    assert_null(kept_by_id(k, SPAN_LIT("c-1"), 1));
    a->attended = false;
    kept_settle(k, a, KEPT_PART, true, 2);
    kept_unref(a);
    assert_ptr_equal(find(k, asked, 3, &taken), a);
    assert_true(taken);
    kept_unref(a);
    kept_unref(a);
    kept_free(k);
}

static void a_client_that_came_back_is_the_one_that_is_there(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-1", asked);
    bool taken;
    a->attended = false;
    kept_offer(k, a, 0);
    assert_ptr_equal(find(k, asked, 1, &taken), a);
    assert_null(find(k, asked, 1, &taken)); /* the next is another call */
    kept_unref(a);
    kept_unref(a);
    kept_free(k);
}

static void of_two_that_fit_the_newest_is_given(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *old = begin(k, "c-1", asked), *fresh = begin(k, "c-2", asked);
    bool taken;
    old->attended = fresh->attended = false;
    kept_settle(k, old, KEPT_WHOLE, true, 0);
    kept_settle(k, fresh, KEPT_WHOLE, true, 0);
    assert_ptr_equal(find(k, asked, 1, &taken), fresh);
    assert_ptr_equal(find(k, asked, 1, &taken), old);
    for (int i = 0; i < 2; i++) {
        kept_unref(old);
        kept_unref(fresh);
    }
    kept_free(k);
}

static void by_its_id_one_is_found_whoever_attends_it(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-17", asked);
    assert_null(kept_by_id(k, SPAN_LIT("c-17"), 0)); /* not in the table */
    kept_offer(k, a, 0);
    assert_ptr_equal(kept_by_id(k, SPAN_LIT("c-17"), 0), a);
    assert_null(kept_by_id(k, SPAN_LIT("c-1"), 0));
    assert_null(kept_by_id(k, SPAN_LIT("c-171"), 0));
    kept_settle(k, a, KEPT_WHOLE, true, 0);
    assert_ptr_equal(kept_by_id(k, SPAN_LIT("c-17"), KEEP_MS - 1), a);
    assert_null(kept_by_id(k, SPAN_LIT("c-17"), KEEP_MS));
    for (int i = 0; i < 3; i++)
        kept_unref(a);
    kept_free(k);
}

/* ---- for how long, and how much ---- */

static void one_is_kept_so_long_from_its_end_and_no_longer(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-1", asked);
    bool taken;
    a->attended = false;
    kept_offer(k, a, 0);
    assert_true(kept_may_have(k, &asked, 10 * KEEP_MS)); /* it runs: its end is not yet */
    kept_settle(k, a, KEPT_PART, true, 1000);
    assert_true(kept_may_have(k, &asked, 1000 + KEEP_MS - 1));
    assert_false(kept_may_have(k, &asked, 1000 + KEEP_MS));
    assert_null(find(k, asked, 1000 + KEEP_MS, &taken));
    assert_int_equal(kept_figures(k).count, 1);
    struct kept_answer *b = begin(k, "c-2", (struct kept_key){1, 1, 0}); /* another's end clears up */
    kept_settle(k, b, KEPT_GONE, false, 1000 + KEEP_MS);
    assert_int_equal(kept_figures(k).count, 0);
    kept_unref(a);
    kept_unref(b);
    kept_free(k);
}

static void what_does_not_stay_leaves_the_table(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-1", asked);
    kept_offer(k, a, 0);
    kept_offer(k, a, 0); /* twice is once */
    assert_int_equal(kept_figures(k).count, 1);
    kept_settle(k, a, KEPT_WHOLE, false, 1);
    assert_int_equal(kept_figures(k).count, 0);
    assert_int_equal(a->state, KEPT_WHOLE); /* for who follows it */
    kept_unref(a);
    kept_free(k);
}

static void nothing_is_kept_when_nothing_is_to_be(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, 0);
    struct kept_answer *a = begin(k, "c-1", asked);
    a->attended = false;
    kept_offer(k, a, 0);
    assert_int_equal(kept_figures(k).count, 0);
    assert_false(kept_may_have(k, &asked, 0));
    kept_settle(k, a, KEPT_PART, true, 1);
    assert_int_equal(kept_figures(k).count, 0);
    kept_rules(k, 1 << 20, KEEP_MS); /* a new configuration */
    kept_settle(k, a, KEPT_PART, true, 1);
    assert_int_equal(kept_figures(k).count, 1);
    kept_unref(a);
    kept_free(k);
}

static void over_the_memory_the_oldest_go_first_and_none_that_runs(void **state)
{
    (void)state;
    enum { COUNT = 10, EACH = 64 * 1024, MOST = 10 * EACH };
    struct kept_table *k = kept_new(MOST, KEEP_MS);
    struct kept_answer *runs = begin(k, "c-run", (struct kept_key){99, 99, 0});
    char id[24];
    bool taken;
    text(runs, 2 * EACH);
    runs->attended = false;
    kept_offer(k, runs, 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        snprintf(id, sizeof(id), "c-%u", (unsigned)i);
        struct kept_answer *a = begin(k, id, (struct kept_key){i, i + 1, 0});
        text(a, EACH);
        a->attended = false;
        kept_settle(k, a, KEPT_PART, true, i * 2000);
        kept_unref(a);
        assert_true(kept_figures(k).bytes <= MOST);
    }
    assert_true(kept_figures(k).bytes > MOST / 2);
    assert_true(kept_figures(k).count >= 2);
    struct kept_answer *last = find(k, (struct kept_key){COUNT - 1, COUNT, 0}, COUNT * 2000, &taken);
    assert_non_null(last);
    assert_null(find(k, (struct kept_key){0, 1, 0}, COUNT * 2000, &taken));
    struct kept_answer *still = find(k, (struct kept_key){99, 99, 0}, COUNT * 2000, &taken);
    assert_ptr_equal(still, runs);
    kept_unref(still);
    kept_unref(last);
    kept_unref(runs);
    kept_free(k);
}

/* A table of `runs` that still runs and two parts that were kept after it: which of them are there? */
static void with_one_that_runs(size_t runs_bytes, bool *ret_first, bool *ret_second)
{
    enum { EACH = 64 * 1024, MOST = 7 * EACH / 2 };
    struct kept_table *k = kept_new(MOST, KEEP_MS);
    struct kept_answer *runs = begin(k, "c-run", (struct kept_key){99, 99, 0});
    bool taken;
    text(runs, runs_bytes);
    runs->attended = false;
    kept_offer(k, runs, 0);
    for (uint64_t i = 1; i <= 2; i++) {
        struct kept_answer *a = begin(k, "c-1", (struct kept_key){i, i, 0});
        text(a, EACH);
        a->attended = false;
        kept_settle(k, a, KEPT_WHOLE, true, i * 2000);
        kept_unref(a);
    }
    assert_true(kept_figures(k).bytes > runs_bytes);
    assert_true(kept_figures(k).bytes <= MOST);
    struct kept_answer *first = find(k, (struct kept_key){1, 1, 0}, 4000, &taken),
                       *second = find(k, (struct kept_key){2, 2, 0}, 4000, &taken);
    *ret_first = first;
    *ret_second = second;
    kept_unref(first);
    kept_unref(second);
    kept_unref(runs);
    kept_free(k);
}

static void one_that_runs_takes_its_room_from_those_that_are_over(void **state)
{
    (void)state;
    bool first, second;
    with_one_that_runs(10, &first, &second);
    assert_true(first && second);
    with_one_that_runs(2 * 64 * 1024, &first, &second);
    assert_true(!first && second);
}

static void the_table_is_cleared_up_once_a_second(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, 100);
    struct kept_answer *a = begin(k, "c-1", asked), *b = begin(k, "c-2", (struct kept_key){1, 1, 0});
    kept_settle(k, a, KEPT_WHOLE, true, 5000);
    kept_settle(k, b, KEPT_GONE, false, 5999); /* `a` is old, and is not looked at yet */
    assert_int_equal(kept_figures(k).count, 1);
    kept_settle(k, b, KEPT_GONE, false, 6000);
    assert_int_equal(kept_figures(k).count, 0);
    assert_int_equal(kept_figures(k).bytes, 0);
    kept_unref(a);
    kept_unref(b);
    kept_free(k);
}

static void what_is_collected_is_told_to_nobody_before_it_is_whole(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-1", asked);
    a->collected = true;
    kept_offer(k, a, 0);
    assert_null(kept_by_id(k, SPAN_LIT("c-1"), 1));
    kept_settle(k, a, KEPT_PART, true, 1);
    assert_null(kept_by_id(k, SPAN_LIT("c-1"), 1));
    kept_settle(k, a, KEPT_WHOLE, true, 1);
    assert_ptr_equal(kept_by_id(k, SPAN_LIT("c-1"), 1), a);
    kept_unref(a);
    kept_unref(a);
    kept_free(k);
}

static void their_number_is_bounded_too(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(UINT64_MAX / 2, KEEP_MS);
    for (uint64_t i = 0; i < 16384 + 200; i++) {
        struct kept_answer *a = kept_begin(k, "c-1", &codec_openai_chat);
        assert_non_null(a);
        a->key = (struct kept_key){i, i + 1, 0};
        a->attended = false;
        kept_settle(k, a, KEPT_PART, true, 5);
        kept_unref(a);
        assert_true(kept_figures(k).count <= 16384);
    }
    kept_free(k);
}

static void an_answer_outlives_the_table_with_who_holds_it(void **state)
{
    (void)state;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = begin(k, "c-1", asked);
    kept_settle(k, a, KEPT_WHOLE, true, 0);
    kept_free(k);
    assert_int_equal(shown_end(&a->shown) > 0, 1);
    assert_null(kept_unref(a));
    assert_null(kept_unref(NULL));
    assert_null(kept_free(NULL));
}

static void states_have_names(void **state)
{
    (void)state;
    assert_string_equal(kept_state_name(KEPT_RUNNING), "running");
    assert_string_equal(kept_state_name(KEPT_GONE), "gone");
    assert_string_equal(kept_state_name(KEPT_STATE_COUNT), "?");
}

/* ---- many threads ---- */

enum { THREADS = 4, ROUNDS = 3000 };
struct crowd {
    struct kept_table *k;
    struct kept_answer *a;
    _Atomic unsigned taken, holders;
};

/* Each takes the part up, is alone with it, and lets it break again. */
static void *takes_and_breaks(void *ctx)
{
    struct crowd *c = ctx;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        bool taken;
        struct kept_answer *a = kept_find(c->k, &asked, 1, &taken);
        if (!a)
            continue;
        if (taken) {
            if (atomic_fetch_add(&c->holders, 1) != 0)
                abort(); /* two had the same part */
            atomic_fetch_add(&c->taken, 1);
            pthread_mutex_lock(&a->lock);
            a->attended = false;
            pthread_mutex_unlock(&a->lock);
            atomic_fetch_sub(&c->holders, 1);
            kept_settle(c->k, a, KEPT_PART, true, 1);
        }
        kept_unref(a);
    }
    return NULL;
}

static void of_many_threads_one_has_the_part(void **state)
{
    (void)state;
    struct crowd c = {.k = kept_new(1 << 20, KEEP_MS)};
    pthread_t t[THREADS];
    c.a = begin(c.k, "c-1", asked);
    c.a->attended = false;
    kept_settle(c.k, c.a, KEPT_PART, true, 1);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, takes_and_breaks, &c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_true(c.taken > 0);
    assert_int_equal(kept_figures(c.k).count, 1);
    kept_unref(c.a);
    kept_free(c.k);
}

/* ---- no memory ---- */

static pd_err life(void *ctx)
{
    (void)ctx;
    struct kept_table *k = kept_new(1 << 20, KEEP_MS);
    struct kept_answer *a = k ? kept_begin(k, "c-1", &codec_openai_chat) : NULL;
    struct msg_delta d = {.kind = MSG_TEXT, .tool = -1, .text = SPAN_LIT("hello")};
    pd_err e = a ? shown_add(&a->shown, &d) : PD_NOMEM;
    if (!e) {
        bool taken;
        a->key = asked;
        a->attended = false;
        kept_offer(k, a, 0);
        kept_settle(k, a, KEPT_PART, true, 0);
        kept_unref(kept_find(k, &asked, 1, &taken));
    }
    kept_unref(a);
    kept_free(k);
    return e;
}

static void each_failed_allocation_is_told_and_nothing_leaks(void **state)
{
    (void)state;
    assert_true(torture(life, NULL) >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_depends_on_how_it_ended_and_who_asks),
        cmocka_unit_test(a_part_is_given_to_one_alone_and_kept_again_when_it_breaks_again),
        cmocka_unit_test(a_client_that_came_back_is_the_one_that_is_there),
        cmocka_unit_test(of_two_that_fit_the_newest_is_given),
        cmocka_unit_test(by_its_id_one_is_found_whoever_attends_it),
        cmocka_unit_test(one_is_kept_so_long_from_its_end_and_no_longer),
        cmocka_unit_test(what_does_not_stay_leaves_the_table),
        cmocka_unit_test(nothing_is_kept_when_nothing_is_to_be),
        cmocka_unit_test(over_the_memory_the_oldest_go_first_and_none_that_runs),
        cmocka_unit_test(one_that_runs_takes_its_room_from_those_that_are_over),
        cmocka_unit_test(the_table_is_cleared_up_once_a_second),
        cmocka_unit_test(what_is_collected_is_told_to_nobody_before_it_is_whole),
        cmocka_unit_test(their_number_is_bounded_too),
        cmocka_unit_test(an_answer_outlives_the_table_with_who_holds_it),
        cmocka_unit_test(states_have_names),
        cmocka_unit_test(of_many_threads_one_has_the_part),
        cmocka_unit_test(each_failed_allocation_is_told_and_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
