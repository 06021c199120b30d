#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "test.h"

#include "base/clock.h"
#include "base/mem.h"
#include "meter/meter.h"
#include "torture.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char *text_of(struct meter *const *meters, unsigned count)
{
    struct buf out;
    buf_init(&out, 16 << 20);
    assert_int_equal(meter_write(meters, count, &out), PD_OK);
    char *text = mem_strndup(buf_span(&out).p, buf_size(&out));
    assert_non_null(text);
    buf_done(&out);
    return text;
}

/* The line, whole, is among the lines of the text. */
static void assert_line(const char *text, const char *line)
{
    size_t n = strlen(line);
    for (const char *at = text; (at = strstr(at, line)) != NULL; at += n)
        if ((at == text || at[-1] == '\n') && at[n] == '\n')
            return;
    fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void counts_are_read_back_and_written(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    meter_add(m, METER_REQUESTS, 1, LABELS("openai", "gpt-5"));
    meter_add(m, METER_REQUESTS, 2, LABELS("openai", "gpt-5"));
    meter_add(m, METER_REQUESTS, 1, LABELS("local", "qwen3"));
    meter_shift(m, METER_CALLS_RUNNING, 3, NO_LABELS);
    meter_shift(m, METER_CALLS_RUNNING, -1, NO_LABELS);
    meter_set(m, METER_LOOP_LAG, 0.25, NO_LABELS);
    assert_true(meter_value(m, METER_REQUESTS, LABELS("openai", "gpt-5")) == 3);
    assert_true(meter_value(m, METER_REQUESTS, LABELS("openai", "nobody")) == 0);
    assert_true(meter_value(m, METER_CALLS_RUNNING, NO_LABELS) == 2);

    char *text = text_of(&m, 1);
    assert_line(text, "# HELP llm_requests_total Upstream attempts started");
    assert_line(text, "# TYPE llm_requests_total counter");
    assert_line(text, "llm_requests_total{provider=\"openai\",model=\"gpt-5\"} 3");
    assert_line(text, "# TYPE perdure_calls_running gauge");
    assert_line(text, "perdure_calls_running 2");
    assert_line(text, "perdure_loop_lag_seconds 0.25");
    assert_true(strstr(text, "provider=\"local\"") < strstr(text, "llm_requests_total{provider=\"openai\""));
    mem_free(text);
    meter_free(m);
}

static void a_family_without_series_is_left_out_and_one_without_labels_is_zero(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    char *text = text_of(&m, 1);
    assert_null(strstr(text, "llm_requests_total"));
    assert_line(text, "perdure_calls_running 0");
    assert_line(text, "perdure_meter_lost_total 0");
    mem_free(text);
    meter_free(m);
}

static void histogram_buckets_are_cumulative_and_end_at_infinity(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    static const double attempts[] = {1, 1, 2, 3, 5, 20, 21, 100};
    for (unsigned i = 0; i < 8; i++)
        meter_observe(m, METER_CALL_ATTEMPTS, attempts[i], LABELS("coder"));
    meter_observe(m, METER_CALL_ATTEMPTS, NAN, LABELS("coder"));
    assert_true(meter_value(m, METER_CALL_ATTEMPTS, LABELS("coder")) == 8);

    char *text = text_of(&m, 1);
    assert_line(text, "# TYPE perdure_call_attempts histogram");
    assert_line(text, "perdure_call_attempts_bucket{route=\"coder\",le=\"1\"} 2");
    assert_line(text, "perdure_call_attempts_bucket{route=\"coder\",le=\"2\"} 3");
    assert_line(text, "perdure_call_attempts_bucket{route=\"coder\",le=\"4\"} 4");
    assert_line(text, "perdure_call_attempts_bucket{route=\"coder\",le=\"5\"} 5");
    assert_line(text, "perdure_call_attempts_bucket{route=\"coder\",le=\"20\"} 6");
    assert_line(text, "perdure_call_attempts_bucket{route=\"coder\",le=\"+Inf\"} 8");
    assert_line(text, "perdure_call_attempts_sum{route=\"coder\"} 153");
    assert_line(text, "perdure_call_attempts_count{route=\"coder\"} 8");
    mem_free(text);
    meter_free(m);
}

static void a_counter_never_goes_down(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    meter_add(m, METER_TOKENS, 5, LABELS("a", "b", "input"));
    meter_add(m, METER_TOKENS, -5, LABELS("a", "b", "input"));
    meter_add(m, METER_TOKENS, NAN, LABELS("a", "b", "input"));
    meter_add(m, METER_TOKENS, INFINITY, LABELS("a", "b", "input"));
    assert_true(meter_value(m, METER_TOKENS, LABELS("a", "b", "input")) == 5);
    meter_free(m);
}

static void label_values_are_escaped_and_stay_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain", "plain"},
        {"quote\"back\\line\n", "quote\\\"back\\\\line\\n"},
        {"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"bad \xff byte", "bad \xef\xbf\xbd byte"},
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
        {"surrogate \xed\xa0\x80", "surrogate \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"overlong \xc0\xaf", "overlong \xef\xbf\xbd\xef\xbf\xbd"},
        {"", ""},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct meter *m = meter_new();
        meter_add(m, METER_RELOADS, 1, LABELS(rows[i].in));
        char *text = text_of(&m, 1), line[200];
        snprintf(line, sizeof(line), "perdure_config_reloads_total{result=\"%s\"} 1", rows[i].out);
        assert_line(text, line);
        mem_free(text);
        meter_free(m);
    }
}

static void a_long_label_is_cut_between_characters(void **state)
{
    (void)state;
    char value[2 * METER_LABEL_BYTES];
    memset(value, 'x', sizeof(value));
    memcpy(value + METER_LABEL_BYTES - 1, "\xc3\xa4", 2);
    value[sizeof(value) - 1] = '\0';
    struct meter *m = meter_new();
    meter_add(m, METER_RELOADS, 1, LABELS(value));
    value[METER_LABEL_BYTES - 1] = '\0';
    assert_true(meter_value(m, METER_RELOADS, LABELS(value)) == 1);
    meter_free(m);
}

static void a_missing_label_counts_as_empty(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    meter_add(m, METER_TOKENS, 1, LABELS("a"));
    assert_true(meter_value(m, METER_TOKENS, LABELS("a", "", "")) == 1);
    meter_free(m);
}

/* What one tuple ends with is not what the next begins with. */
static void tuples_that_join_alike_are_not_mixed_up(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    meter_add(m, METER_REQUESTS, 1, LABELS("ab", "c"));
    meter_add(m, METER_REQUESTS, 2, LABELS("a", "bc"));
    meter_add(m, METER_REQUESTS, 4, LABELS("", "abc"));
    assert_true(meter_value(m, METER_REQUESTS, LABELS("ab", "c")) == 1);
    assert_true(meter_value(m, METER_REQUESTS, LABELS("a", "bc")) == 2);
    assert_true(meter_value(m, METER_REQUESTS, LABELS("", "abc")) == 4);
    meter_free(m);
}

/* Each tuple after each other, since what was counted last is not looked for. */
static void what_was_counted_last_is_not_taken_for_another(void **state)
{
    (void)state;
    static const char *const tuples[][3] = {
        {"a", "b", NULL}, {"a", "bc", NULL}, {"ab", "c", NULL}, {"a", "", NULL},    {"", "a", NULL},
        {"", "", NULL},   {"a", NULL, NULL}, {"abc", "", NULL}, {"ab", NULL, NULL}, {NULL, NULL, NULL}};
    enum { TUPLES = sizeof(tuples) / sizeof(tuples[0]) };
    struct meter *m = meter_new();
    for (unsigned i = 0; i < TUPLES; i++)
        for (unsigned k = 0; k < TUPLES; k++) {
            meter_add(m, METER_REQUESTS, 1, tuples[i]);
            double before = meter_value(m, METER_REQUESTS, tuples[k]);
            meter_add(m, METER_REQUESTS, 1, tuples[k]);
            assert_true(meter_value(m, METER_REQUESTS, tuples[k]) == before + 1);
        }
    meter_free(m);
}

static void series_beyond_the_limit_are_counted_together(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    char model[20];
    for (unsigned i = 0; i < METRIC_SERIES_MAX + 500; i++) {
        snprintf(model, sizeof(model), "m%u", i);
        meter_add(m, METER_REQUESTS, 1, LABELS("p", model));
    }
    assert_true(meter_value(m, METER_REQUESTS, LABELS("other", "other")) == 500);
    for (unsigned i = 0; i < METRIC_SERIES_MAX; i++) {
        snprintf(model, sizeof(model), "m%u", i);
        assert_true(meter_value(m, METER_REQUESTS, LABELS("p", model)) == 1);
    }
    char *text = text_of(&m, 1);
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, "\nllm_requests_total{")) != NULL; at++)
        lines++;
    assert_int_equal(lines, METRIC_SERIES_MAX + 1);
    mem_free(text);
    meter_free(m);
}

static void meters_are_added_up(void **state)
{
    (void)state;
    struct meter *two[] = {meter_new(), meter_new()};
    meter_add(two[0], METER_REQUESTS, 3, LABELS("a", "x"));
    meter_add(two[1], METER_REQUESTS, 4, LABELS("a", "x"));
    meter_add(two[1], METER_REQUESTS, 1, LABELS("b", "x"));
    meter_shift(two[0], METER_CALLS_RUNNING, 1, NO_LABELS);
    meter_shift(two[1], METER_CALLS_RUNNING, 1, NO_LABELS);
    meter_set(two[1], METER_BREAKER_STATE, 1, LABELS("a", "x", "open"));
    meter_observe(two[0], METER_TTFT, 0.3, LABELS("a", "x"));
    meter_observe(two[1], METER_TTFT, 100, LABELS("a", "x"));
    char *text = text_of(two, 2);
    assert_line(text, "llm_requests_total{provider=\"a\",model=\"x\"} 7");
    assert_line(text, "llm_requests_total{provider=\"b\",model=\"x\"} 1");
    assert_line(text, "perdure_calls_running 2");
    assert_line(text, "perdure_breaker_state{provider=\"a\",model=\"x\",state=\"open\"} 1");
    assert_line(text, "llm_time_to_first_token_seconds_bucket{provider=\"a\",model=\"x\",le=\"0.25\"} 0");
    assert_line(text, "llm_time_to_first_token_seconds_bucket{provider=\"a\",model=\"x\",le=\"0.5\"} 1");
    assert_line(text, "llm_time_to_first_token_seconds_bucket{provider=\"a\",model=\"x\",le=\"60\"} 1");
    assert_line(text, "llm_time_to_first_token_seconds_bucket{provider=\"a\",model=\"x\",le=\"+Inf\"} 2");
    assert_line(text, "llm_time_to_first_token_seconds_sum{provider=\"a\",model=\"x\"} 100.3");
    mem_free(text);
    text = text_of(two, 2); /* a scrape changes nothing */
    assert_line(text, "llm_requests_total{provider=\"a\",model=\"x\"} 7");
    mem_free(text);
    meter_free(two[0]);
    meter_free(two[1]);
}

static void no_memory_is_taken_once_a_series_exists(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    meter_add(m, METER_REQUESTS, 1, LABELS("openai", "gpt-5"));
    meter_observe(m, METER_TTFT, 1, LABELS("openai", "gpt-5"));
    uint64_t before = mem_count();
    uint64_t start = clock_mono_us();
    enum { ROUNDS = 200000 };
    for (unsigned i = 0; i < ROUNDS; i++) {
        meter_add(m, METER_REQUESTS, 1, LABELS("openai", "gpt-5"));
        meter_observe(m, METER_TTFT, i % 7, LABELS("openai", "gpt-5"));
        meter_shift(m, METER_CALLS_RUNNING, 1, NO_LABELS);
    }
    print_message("%.0f ns a count\n", (double)(clock_mono_us() - start) * 1000 / (3 * ROUNDS));
    assert_int_equal(mem_count(), before);
    meter_free(m);
}

/* Out of memory a count is lost, and that is said; what was counted stays. */
static void lost_counts_are_counted(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    meter_add(m, METER_REQUESTS, 1, LABELS("a", "x"));
    mem_fail_at(1);
    meter_add(m, METER_REQUESTS, 1, LABELS("b", "x"));
    mem_fail_at(0);
    meter_add(m, METER_REQUESTS, 1, LABELS("a", "x"));
    assert_true(meter_value(m, METER_REQUESTS, LABELS("a", "x")) == 2);
    assert_true(meter_value(m, METER_REQUESTS, LABELS("b", "x")) == 0);
    assert_true(meter_value(m, METER_LOST, NO_LABELS) == 1);
    char *text = text_of(&m, 1);
    assert_line(text, "perdure_meter_lost_total 1");
    mem_free(text);
    meter_free(m);
}

static pd_err a_meters_life(void *ctx)
{
    (void)ctx;
    struct meter *m = meter_new();
    if (!m)
        return PD_NOMEM;
    for (unsigned i = 0; i < 20; i++) {
        char model[20];
        snprintf(model, sizeof(model), "m%u", i);
        meter_observe(m, METER_TTFT, i, LABELS("p", model));
    }
    struct buf out;
    buf_init(&out, 0);
    pd_err e = meter_write(&m, 1, &out);
    if (!e && meter_value(m, METER_LOST, NO_LABELS) > 0)
        e = PD_NOMEM;
    buf_done(&out);
    meter_free(m);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(a_meters_life, NULL) >= 60);
}

static void a_page_over_its_limit_is_refused(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    struct buf out;
    buf_init(&out, 1000);
    assert_int_equal(meter_write(&m, 1, &out), PD_TOOBIG);
    buf_done(&out);
    meter_free(m);
}

enum { THREADS = 4, EACH = 20000 };

static void *count_much(void *pm)
{
    struct meter *m = pm;
    for (unsigned i = 0; i < EACH; i++) {
        char model[20];
        snprintf(model, sizeof(model), "m%u", i % 50);
        meter_add(m, METER_REQUESTS, 1, LABELS("p", model));
    }
    return NULL;
}

static void threads_lose_no_count(void **state)
{
    (void)state;
    struct meter *m = meter_new();
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_much, m), 0);
    for (unsigned i = 0; i < 20; i++)
        mem_free(text_of(&m, 1));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    double sum = 0;
    for (unsigned i = 0; i < 50; i++) {
        char model[20];
        snprintf(model, sizeof(model), "m%u", i);
        sum += meter_value(m, METER_REQUESTS, LABELS("p", model));
    }
    assert_true(sum == THREADS * EACH);
    meter_free(m);
}

/* One series of every family, so that each row is looked at. */
static struct meter *one_of_each(void)
{
    struct meter *m = meter_new();
    const char *const labels[] = {"a", "b \"quoted\"\n", "c\\d", "\xc3\xa4", "e", "f", NULL};
#define COUNTER(id) meter_add(m, METER_##id, 2, labels)
#define GAUGE(id) meter_set(m, METER_##id, 1.5, labels)
#define HISTOGRAM(id) meter_observe(m, METER_##id, 3, labels)
#define METRIC(id, name, type, buckets, label_names, help) type(id);
#include "meter/metrics.def"
#undef METRIC
    return m;
}

static void promtool_finds_no_fault(void **state)
{
    (void)state;
    if (system("command -v promtool >/dev/null 2>&1") != 0)
        skip();
    struct meter *m = one_of_each();
    char *text = text_of(&m, 1);
    FILE *promtool = popen("promtool check metrics 2>&1", "w");
    assert_non_null(promtool);
    assert_int_equal(fwrite(text, 1, strlen(text), promtool), strlen(text));
    assert_int_equal(pclose(promtool), 0);
    mem_free(text);
    meter_free(m);
}

/* What promtool would say, for machines without it. */
static void names_follow_the_conventions(void **state)
{
    (void)state;
    static const struct {
        const char *name, *help;
        enum metric_type type;
    } rows[] = {
#define METRIC(id, name, type, buckets, labels, help) {name, help, METRIC_##type},
#include "meter/metrics.def"
#undef METRIC
    };
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        assert_true(span_ends(span_str(rows[i].name), "_total") == (rows[i].type == METRIC_COUNTER));
        assert_true(strlen(rows[i].help) > 5);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(rows[i].name, rows[j].name);
    }
}

static void the_docs_table_has_a_row_for_each_metric(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(metrics_write_markdown(&out), PD_OK);
    struct span text = buf_span(&out);
    assert_true(span_has(text, "| `llm_failovers_total` | counter | `from`, `to`, `error_type` | Calls that went "
                               "on to another target |  |\n"));
    assert_true(span_has(
        text,
        "| `perdure_call_attempts` | histogram | `route` | Attempts that a call took | 1 2 3 4 5 8 12 20 |\n"));
    unsigned lines = 0;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    assert_int_equal(lines, METRIC_COUNT + 2);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_read_back_and_written),
        cmocka_unit_test(a_family_without_series_is_left_out_and_one_without_labels_is_zero),
        cmocka_unit_test(histogram_buckets_are_cumulative_and_end_at_infinity),
        cmocka_unit_test(a_counter_never_goes_down),
        cmocka_unit_test(label_values_are_escaped_and_stay_utf8),
        cmocka_unit_test(a_long_label_is_cut_between_characters),
        cmocka_unit_test(a_missing_label_counts_as_empty),
        cmocka_unit_test(tuples_that_join_alike_are_not_mixed_up),
        cmocka_unit_test(what_was_counted_last_is_not_taken_for_another),
        cmocka_unit_test(series_beyond_the_limit_are_counted_together),
        cmocka_unit_test(meters_are_added_up),
        cmocka_unit_test(no_memory_is_taken_once_a_series_exists),
        cmocka_unit_test(lost_counts_are_counted),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_page_over_its_limit_is_refused),
        cmocka_unit_test(threads_lose_no_count),
        cmocka_unit_test(promtool_finds_no_fault),
        cmocka_unit_test(names_follow_the_conventions),
        cmocka_unit_test(the_docs_table_has_a_row_for_each_metric),
    };
    return cmocka_run_group_tests_name("meter", tests, NULL, NULL);
}
