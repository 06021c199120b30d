#include "test.h"
#include "torture.h"

#include "base/mem.h"
#include "task/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char run_json[] =
    "{\"id\":\"r-1\",\"name\":\"plan.yaml\",\"goal\":\"words\",\"state\":\"running\",\"why\":\"\",\"created_ms\":"
    "1000,\"ended_ms\":0,\"tokens\":24310,"
    "\"cost\":0.0412,\"counts\":{\"waiting\":1,\"ready\":1,\"running\":1,\"ambiguous\":0,\"review\":1,\"done\":6,"
    "\"cancelled\":0,\"dropped\":0},\"tasks\":["
    "{\"id\":\"old\",\"state\":\"done\",\"attempt\":1,\"retries\":3,\"began_ms\":1000,\"ended_ms\":3000},"
    "{\"id\":\"compile\",\"state\":\"running\",\"attempt\":2,\"retries\":3,\"began_ms\":70000,\"progress\":{"
    "\"at\":\"runs make\",\"tokens_in\":5,"
    "\"tokens_out\":1200}},"
    "{\"id\":\"deploy\",\"state\":\"ready\",\"attempt\":2,\"retries\":3,\"due_ms\":77000,\"error\":{\"class\":"
    "\"exit\",\"message\":\"it ended\\nwith "
    "\\u001b[31m status 2\"}},"
    "{\"id\":\"judge\",\"state\":\"review\",\"attempt\":1,\"retries\":0,\"error\":{\"class\":\"unchecked\","
    "\"message\":\"nothing was checked\"}},"
    "{\"id\":\"later\",\"state\":\"waiting\",\"attempt\":0,\"retries\":3}]}";

static const struct progress_look plain = {.lines = 10, .now_ms = 73000};

static void a_run_is_a_bar_and_a_line_for_each_lively_task(void **state)
{
    (void)state;
    struct buf out = {0};
    unsigned lines;
    assert_int_equal(progress_run(span_str(run_json), &plain, &out, &lines), PD_OK);
    char *text = mem_strndup(buf_span(&out).p, buf_size(&out));
    assert_string_equal(
        text,
        "plan.yaml  ##############++........  6/10 done  1 running  1 review  24,310 tokens  $0.0412  1m12s\n"
        "  > compile             running    runs make                           attempt 2/4  1,205 tokens  3.0s\n"
        "  ~ deploy              ready      again in 4.0s                       attempt 2/4  exit: it ended with "
        "?[31m "
        "status 2\n"
        "  ? judge               review     waits for a person                  unchecked: nothing was checked\n");
    assert_int_equal(lines, 4);
    mem_free(text);
    buf_done(&out);
}

static void lines_are_cut_to_the_terminal_and_counted(void **state)
{
    (void)state;
    struct progress_look look = plain;
    struct buf out = {0};
    unsigned lines, seen = 0;
    look.width = 40;
    look.lines = 2;
    look.utf8 = true;
    assert_int_equal(progress_run(span_str(run_json), &look, &out, &lines), PD_OK);
    struct span rest = buf_span(&out);
    while (rest.n) {
        struct span line = span_cut(&rest, '\n');
        size_t cells = 0;
        for (size_t i = 0; i < line.n; i++)
            cells += (line.p[i] & 0xc0) != 0x80;
        assert_true(cells <= 40);
        seen++;
    }
    assert_int_equal(seen, lines);
    assert_int_equal(lines, 4); /* head, two tasks, "and 1 more" */
    assert_true(span_has(buf_span(&out), "and 1 more"));
    buf_done(&out);
}

static void nothing_in_it_moves_the_cursor(void **state)
{
    (void)state;
    struct buf out = {0};
    unsigned lines;
    assert_int_equal(progress_run(span_str(run_json), &plain, &out, &lines), PD_OK);
    for (size_t i = 0; i < buf_size(&out); i++) {
        char c = buf_span(&out).p[i];
        assert_true(c == '\n' || (c >= ' ' && c <= '~'));
    }
    buf_done(&out);
}

static const struct row {
    const char *name, *event, *want;
} rows[] = {
    {"done", "{\"seq\":1,\"ms\":0,\"task\":\"a\",\"what\":\"done\",\"data\":{\"tokens\":1200,\"cost\":0.5}}",
     "a                   done  1,200 tokens  $0.5000\n"},
    {"failed",
     "{\"seq\":1,\"ms\":0,\"task\":\"a\",\"what\":\"failed\",\"data\":{\"class\":\"exit\",\"message\":\"no\","
     "\"attempt\":2,\"due_ms\":75000}}",
     "a                   failed  exit: no  attempt 2  again in 2.0s\n"},
    {"of the run", "{\"seq\":1,\"ms\":0,\"what\":\"paused\",\"data\":{\"why\":\"the budget\"}}",
     "run                 paused  the budget\n"},
    {"a person's",
     "{\"seq\":1,\"ms\":0,\"task\":\"a\",\"what\":\"decided\",\"data\":{\"decision\":\"accept\",\"who\":\"me\"}}",
     "a                   decided  accept by me\n"},
    {"steps are of no interest", "{\"seq\":1,\"ms\":0,\"task\":\"a\",\"what\":\"step\",\"data\":{\"step\":\"x\"}}",
     ""},
};

static void an_event_is_a_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = {0};
        assert_int_equal(progress_event(span_str(rows[i].event), &plain, &out), PD_OK);
        struct span got = span_from(buf_span(&out), buf_size(&out) ? 10 : 0); /* behind the clock */
        if (!span_is(got, rows[i].want))
            fail_msg("%s: %.*s", rows[i].name, SPAN_FMT(got));
        buf_done(&out);
    }
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "[]", "{", "null", "{\"runs\":1}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf out = {0};
        unsigned lines;
        assert_int_equal(progress_list(span_str(bad[i]), &plain, &out), PD_INVALID);
        assert_int_equal(progress_reviews(span_str(bad[i]), &plain, &out), PD_INVALID);
        if (i < 4)
            assert_int_equal(progress_run(span_str(bad[i]), &plain, &out, &lines), PD_INVALID);
        buf_done(&out);
    }
}

static void lists_show_what_there_is(void **state)
{
    (void)state;
    struct buf out = {0}, answer = {0};
    assert_int_equal(progress_list(SPAN_LIT("{\"runs\":[]}"), &plain, &out), PD_OK);
    assert_true(span_has(buf_span(&out), "no run yet"));
    assert_int_equal(buf_printf(&answer, "{\"runs\":[%s]}", run_json), PD_OK);
    assert_int_equal(progress_list(buf_span(&answer), &plain, &out), PD_OK);
    assert_true(span_has(buf_span(&out), "6/10"));
    assert_int_equal(
        progress_reviews(
            SPAN_LIT("{\"reviews\":[{\"run\":\"r-1\",\"task\":\"t\",\"reason\":\"dead_letter\",\"since_ms\":1,"
                     "\"error\":{\"message\":\"no luck\"},\"output\":{\"a\":1}}]}"),
            &plain, &out),
        PD_OK);
    assert_true(span_has(buf_span(&out), "no luck"));
    assert_int_equal(progress_show(span_str(run_json), &plain, &out), PD_OK);
    assert_true(span_has(buf_span(&out), "later"));
    buf_done(&out);
    buf_done(&answer);
}

static const char tree_json[] = "{\"id\":\"r-2\",\"name\":\"p\",\"state\":\"paused\",\"why\":\"tea\",\"created_"
                                "ms\":1000,\"counts\":{\"waiting\":2,"
                                "\"review\":1,\"done\":3},\"tasks\":["
                                "{\"id\":\"write\",\"state\":\"done\"},{\"id\":\"slow\",\"state\":\"done\"},"
                                "{\"id\":\"compile\",\"state\":\"done\"},{\"id\":\"bad\",\"state\":\"review\"},"
                                "{\"id\":\"both\",\"state\":\"waiting\"},{\"id\":\"last\",\"state\":\"waiting\"}],"
                                "\"needs\":{\"compile\":[\"write\"],\"bad\":[\"compile\"],\"both\":[\"bad\","
                                "\"slow\"],\"last\":[\"bad\",\"both\"]}}";

static void a_shown_run_is_a_tree_that_says_what_each_task_waits_for(void **state)
{
    (void)state;
    struct buf out = {0};
    assert_int_equal(progress_show(span_str(tree_json), &plain, &out), PD_OK);
    char *text = mem_strndup(buf_span(&out).p, buf_size(&out));
    assert_string_equal(text, "r-2\n"
                              "p  ############............  3/6 done  1 review  1m12s  paused: tea\n"
                              "  + write               done\n"
                              "    + compile           done\n"
                              "      ? bad             review     waits for a person\n"
                              "          both          waiting    for bad\n"
                              "            last        waiting    for bad, both\n"
                              "  + slow                done\n"
                              "perdure review says what waits for a person, and takes the decision\n"
                              "perdure runs resume r-2 goes on with it\n");
    mem_free(text);
    buf_done(&out);
}

static void a_plan_is_a_tree_of_what_will_be_done(void **state)
{
    (void)state;
    static const char json[] =
        "{\"tasks\":[{\"id\":\"a\",\"kind\":\"llm\",\"prompt\":\"Write\\nit.\"},"
        "{\"id\":\"b\",\"kind\":\"command\",\"command\":[\"make\",\"\\u001b[2J\"],\"needs\":[\"a\"]},"
        "{\"id\":\"a-long-name-of-a-task-that-is-longer-than-its-column\",\"kind\":\"agent\",\"agent\":\"x\"}]}";
    struct buf out = {0};
    assert_int_equal(progress_plan(span_str(json), &plain, &out), PD_OK);
    char *text = mem_strndup(buf_span(&out).p, buf_size(&out));
    assert_string_equal(text, "  a                                         llm      Write it.\n"
                              "    b                                       command  make ?[2J\n"
                              "  a-long-name-of-a-task-that-is-longer-than-its-column  agent    x\n");
    mem_free(text);
    buf_done(&out);
    assert_int_equal(progress_plan(SPAN_LIT("[]"), &plain, &out), PD_INVALID);
    assert_int_equal(progress_plan(SPAN_LIT("{}"), &plain, &out), PD_OK);
    assert_int_equal(buf_size(&out), 0);
    buf_done(&out);
}

/* Deeper than it is indented, and longer than a tree may be. */
static void a_chain_and_a_crowd_are_shown_whole(void **state)
{
    (void)state;
    for (unsigned n = 30; n <= 600; n += 570) {
        struct buf json = {0}, out = {0};
        unsigned lines = 0;
        assert_int_equal(buf_puts(&json, "{\"tasks\":["), PD_OK);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(
                buf_printf(&json, "%s{\"id\":\"t%u\",\"needs\":[\"t%d\"]}", i ? "," : "", i, (int)i - 1), PD_OK);
        assert_int_equal(buf_puts(&json, "]}"), PD_OK);
        assert_int_equal(progress_plan(buf_span(&json), &plain, &out), PD_OK);
        struct span rest = buf_span(&out);
        while (rest.n) {
            struct span line = span_cut(&rest, '\n');
            char want[40];
            snprintf(want, sizeof(want), "%*st%u", n > 500 ? 2 : 2 + 2 * (int)(lines < 8 ? lines : 8), "", lines);
            assert_true(span_starts(line, want));
            lines++;
        }
        assert_int_equal(lines, n);
        buf_done(&out);
        buf_done(&json);
    }
}

static void a_run_that_waits_for_a_person_alone_does_not_run(void **state)
{
    (void)state;
    struct buf out = {0};
    assert_int_equal(
        progress_list(SPAN_LIT("{\"runs\":[{\"id\":\"r-1\",\"state\":\"running\",\"counts\":{\"review\":1}},"
                               "{\"id\":\"r-2\",\"state\":\"running\",\"counts\":{\"review\":1,\"ready\":1}}]}"),
                      &plain, &out),
        PD_OK);
    struct span rest = buf_span(&out);
    (void)span_cut(&rest, '\n');
    assert_true(span_has(span_cut(&rest, '\n'), " review "));
    assert_true(span_has(span_cut(&rest, '\n'), " running "));
    buf_done(&out);
}

static pd_err render(void *ctx)
{
    (void)ctx;
    struct buf out = {0};
    unsigned lines;
    struct progress_look look = {.utf8 = true, .colour = true, .width = 80, .lines = 2, .now_ms = 73000};
    pd_err e = progress_run(span_str(run_json), &look, &out, &lines);
    if (!e)
        e = progress_show(span_str(tree_json), &look, &out);
    buf_done(&out);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(render, NULL) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_a_bar_and_a_line_for_each_lively_task),
        cmocka_unit_test(lines_are_cut_to_the_terminal_and_counted),
        cmocka_unit_test(nothing_in_it_moves_the_cursor),
        cmocka_unit_test(an_event_is_a_line),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(lists_show_what_there_is),
        cmocka_unit_test(a_shown_run_is_a_tree_that_says_what_each_task_waits_for),
        cmocka_unit_test(a_plan_is_a_tree_of_what_will_be_done),
        cmocka_unit_test(a_chain_and_a_crowd_are_shown_whole),
        cmocka_unit_test(a_run_that_waits_for_a_person_alone_does_not_run),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
