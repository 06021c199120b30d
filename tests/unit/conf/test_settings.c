#include "conf_helper.h"

#include <string.h>

static const struct setting_row *row(const char *name)
{
    const struct setting_row *r = setting_find(span_str(name));
    assert_non_null(r);
    return r;
}

/* What is written, and what it means; UINT64_MAX: it is refused, and `why` is in the reason. */
static const struct {
    const char *setting, *text;
    uint64_t value;
    const char *why;
} rows[] = {
    {"ttft", "2s", 2000, NULL},
    {"ttft", "500ms", 500, NULL},
    {"ttft", "1m30s", 90000, NULL},
    {"ttft", "1.5s", 1500, NULL},
    {"ttft", "0.001s", 1, NULL},
    {"ttft", " 2s ", 2000, NULL},
    {"ttft", "0", 0, NULL},
    {"ttft", "0s", 0, NULL},
    {"ttft", "off", 0, NULL},
    {"ttft", "10m", 600000, NULL},
    {"ttft", "11m", UINT64_MAX, "write at most 10m"},
    {"ttft", "2", UINT64_MAX, "write a unit, as in \"2s\""},
    {"ttft", "2 s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "2sec", UINT64_MAX, "write a number and a unit"},
    {"ttft", "2S", UINT64_MAX, "write a number and a unit"},
    {"ttft", "-2s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "", UINT64_MAX, "write a number and a unit"},
    {"ttft", "1.s", UINT64_MAX, "write a number and a unit"},
    {"ttft", ".5s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "0.0001s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "1.0000001s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "99999999999999999999s", UINT64_MAX, "write a number and a unit"},
    {"ttft", "999999999d", UINT64_MAX, "write a number and a unit"},
    {"ttft", "213503d213503d", UINT64_MAX, "write at most"},
    {"call_timeout", "1d", 86400000, NULL},
    {"call_timeout", "24h", 86400000, NULL},
    {"call_timeout", "off", UINT64_MAX, "it cannot be switched off: write at least 100ms"},
    {"call_timeout", "10ms", UINT64_MAX, "write at least 100ms"},
    {"attempts", "3", 3, NULL},
    {"attempts", "0", UINT64_MAX, "write at least 1"},
    {"attempts", "21", UINT64_MAX, "write at most 20"},
    {"attempts", "three", UINT64_MAX, "write a whole number"},
    {"attempts", "3.0", UINT64_MAX, "write a whole number"},
    {"attempts", "18446744073709551616", UINT64_MAX, "write a whole number"},
    {"breaker_failures", "off", 0, NULL},
    {"body_limit", "64MB", 64 << 20, NULL},
    {"body_limit", "64 mb", 64 << 20, NULL},
    {"body_limit", "64MiB", 64 << 20, NULL},
    {"body_limit", "1.5KB", 1536, NULL},
    {"body_limit", "2048", 2048, NULL},
    {"body_limit", "1G", 1 << 30, NULL},
    {"body_limit", "2GB", UINT64_MAX, "write at most 1GB"},
    {"body_limit", "12", UINT64_MAX, "write at least 1KB"},
    {"body_limit", "64XB", UINT64_MAX, "write a number and a unit"},
    {"body_limit", "999999999GB", UINT64_MAX, "write a number and a unit"},
    {"retry_budget", "0.2", 200000, NULL},
    {"retry_budget", "20%", 200000, NULL},
    {"retry_budget", "0", 0, NULL},
    {"retry_budget", "10", 10000000, NULL},
    {"retry_budget", "10.1", UINT64_MAX, "write at most 10"},
    {"retry_budget", "a fifth", UINT64_MAX, "write a number or a percentage"},
    {"ttft_adaptive", "true", 1, NULL},
    {"ttft_adaptive", "No", 0, NULL},
    {"ttft_adaptive", "off", 0, NULL},
    {"ttft_adaptive", "1", UINT64_MAX, "write true or false"},
};

static void values_are_read_with_their_units_and_bounds(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = 77;
        char why[120] = "";
        pd_err e = setting_parse(row(rows[i].setting), span_str(rows[i].text), &value, why, sizeof(why));
        if (rows[i].value == UINT64_MAX) {
            if (e != PD_INVALID || value != 77 || !strstr(why, rows[i].why))
                fail_msg("%s \"%s\": %s, %llu, %s", rows[i].setting, rows[i].text, pd_err_name(e),
                         (unsigned long long)value, why);
        } else if (e || value != rows[i].value)
            fail_msg("%s \"%s\": %s, %llu, %s", rows[i].setting, rows[i].text, pd_err_name(e),
                     (unsigned long long)value, why);
    }
}

static void every_default_lies_within_its_bounds(void **state)
{
    (void)state;
    struct settings s;
    settings_default(&s);
    for (unsigned i = 0; i < setting_rows_count; i++) {
        uint64_t v;
        char why[120];
        if (setting_parse(&setting_rows[i], span_str(setting_rows[i].dflt), &v, why, sizeof(why)))
            fail_msg("%s: default %s: %s", setting_rows[i].name, setting_rows[i].dflt, why);
        assert_int_equal(v, setting_of(&s, &setting_rows[i]));
    }
    assert_int_equal(s.attempts, 3);
    assert_int_equal(s.ttft, 2000);
    assert_int_equal(s.stall, 30000);
    assert_int_equal(s.body_limit, 64 << 20);
    assert_int_equal(s.retry_budget, 200000);
    assert_int_equal(s.ttft_adaptive, 1);
}

/* What is printed reads back as the same value. */
static void a_printed_value_reads_back(void **state)
{
    (void)state;
    static const uint64_t values[] = {0,     1,     999,     1000,     1024,    1500,     60000,
                                      61000, 90000, 3600000, 86400000, 1 << 20, 123456789};
    for (unsigned i = 0; i < setting_rows_count; i++)
        for (unsigned j = 0; j < sizeof(values) / sizeof(values[0]); j++) {
            char text[32], why[120];
            uint64_t v = values[j], back;
            setting_format(&setting_rows[i], v, text, sizeof(text));
            if (setting_rows[i].type == SETTING_BOOL)
                v = v != 0;
            if (setting_parse(&setting_rows[i], span_str(text), &back, why, sizeof(why)) == PD_OK)
                assert_int_equal(back, v);
        }
    char text[32];
    assert_string_equal(setting_format(row("ttft"), 90000, text, sizeof(text)), "90s");
    assert_string_equal(setting_format(row("ttft"), 0, text, sizeof(text)), "off");
    assert_string_equal(setting_format(row("body_limit"), 64 << 20, text, sizeof(text)), "64MB");
    assert_string_equal(setting_format(row("body_rate"), 0, text, sizeof(text)), "0B");
    assert_string_equal(setting_format(row("retry_budget"), 200000, text, sizeof(text)), "0.2");
}

static void no_two_settings_have_one_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < setting_rows_count; i++)
        assert_ptr_equal(setting_find(span_str(setting_rows[i].name)), &setting_rows[i]);
    assert_null(setting_find(SPAN_LIT("tfft")));
}

static void the_route_wins_over_the_provider_and_that_over_the_rest(void **state)
{
    (void)state;
    struct conf_provider p;
    struct conf_route r = {0};
    settings_default(&p.settings);
    settings_default(&r.settings);
    p.settings.ttft = 10;
    p.settings.stall = 20;
    r.settings.ttft = 30;
    r.settings.attempts = 7; /* not marked as given: only what holds in general */
    r.settings_given = UINT64_C(1) << (row("ttft") - setting_rows);
    struct settings s;
    settings_overlay(&r, &p, &s);
    assert_int_equal(s.ttft, 30);
    assert_int_equal(s.stall, 20);
    assert_int_equal(s.attempts, 3);
    settings_overlay(NULL, &p, &s);
    assert_int_equal(s.ttft, 10);
}

static void the_docs_table_has_a_row_for_each_setting(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(settings_write_markdown(&out), PD_OK);
    for (unsigned i = 0; i < setting_rows_count; i++) {
        char line[600];
        snprintf(line, sizeof(line), "| `%s` | %s | %s | %s | ", setting_rows[i].name, setting_rows[i].dflt,
                 setting_rows[i].least, setting_rows[i].most);
        assert_true(span_has(buf_span(&out), line));
        assert_null(strchr(setting_rows[i].what, '|'));
    }
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_with_their_units_and_bounds),
        cmocka_unit_test(every_default_lies_within_its_bounds),
        cmocka_unit_test(a_printed_value_reads_back),
        cmocka_unit_test(no_two_settings_have_one_name),
        cmocka_unit_test(the_route_wins_over_the_provider_and_that_over_the_rest),
        cmocka_unit_test(the_docs_table_has_a_row_for_each_setting),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
