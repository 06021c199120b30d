/* Calls that were under way when their process was killed: each gets one line in the ledger, with what was known of it last. */
#include "relay/lost.h"

#include "base/hash.h"
#include "base/mem.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

static const char *line_of(const char *id, const char *outcome, unsigned out)
{
    static char text[400];
    snprintf(
        text, sizeof(text),
        "{\"session\":\"s-1\",\"id\":\"%s\",\"name\":\"\",\"outcome\":\"%s\",\"began_ms\":1000,\"took_ms\":%u,"
        "\"billed_out\":%u,\"estimated\":true,\"cost_usd\":null,\"attempts\":[]}",
        id, outcome, out, out);
    return text;
}

static void said(struct lost *l, uint32_t kind, uint64_t id, const char *payload)
{
    lost_record(l, &(struct journal_record){.kind = kind, .id = id, .payload = span_str(payload)});
}

/* As lost_running() and record.c write them. */
static void runs(struct lost *l, const char *id, unsigned out)
{
    said(l, JOURNAL_CALL, hash_bytes(span_str(id), 23), line_of(id, LOST_OUTCOME, out));
}

static void ends(struct lost *l, const char *id, unsigned out)
{
    said(l, JOURNAL_RUN, 77, line_of(id, "complete", out));
}

static char *shown(struct ledger *ledger)
{
    struct buf b = {0};
    struct put p = put_into(&b);
    ledger_show(ledger, span_str("s-1"), &p);
    assert_int_equal(p.err, PD_OK);
    assert_int_equal(buf_add(&b, span_of("", 1)), PD_OK);
    char *text = mem_strdup(buf_span(&b).p);
    buf_done(&b);
    return text;
}

static void what_never_ended_is_counted_with_what_was_written_last(void **state)
{
    (void)state;
    struct lost *l = lost_new();
    struct ledger *ledger = ledger_new();
    runs(l, "c-1", 10);
    runs(l, "c-2", 1);
    runs(l, "c-3", 5);
    ends(l, "c-2", 2);
    runs(l, "c-1", 30);
    ends(l, "c-4", 3); /* which ended before it had a line of its own */
    said(l, JOURNAL_RUN, 77, "no line");
    said(l, JOURNAL_HOLD_ENDED, hash_bytes(span_str("c-3"), 23), "");
    assert_int_equal(lost_take(l, ledger, NULL), 2);
    char *text = shown(ledger);
    assert_non_null(strstr(text, "\"calls\":2,"));
    assert_non_null(strstr(text, "\"billed_out\":35,")); /* 30 and 5 */
    assert_non_null(strstr(text, "\"id\":\"c-1\",\"name\":\"\",\"outcome\":\"interrupted\""));
    mem_free(text);
    struct ledger *other = ledger_new();
    assert_int_equal(lost_take(l, other, NULL), 0); /* they are taken */
    lost_free(l);
    ledger_free(ledger);
    ledger_free(other);
}

/* A record that is cut ends no call, and a line that is too long takes no other's place. */
static void what_cannot_be_read_changes_nothing(void **state)
{
    (void)state;
    struct lost *l = lost_new();
    struct ledger *ledger = ledger_new();
    char *large = mem_alloc(LEDGER_LINE_MAX + 2);
    assert_non_null(large);
    memset(large, ' ', LEDGER_LINE_MAX + 1);
    memcpy(large, "{}", 2);
    large[LEDGER_LINE_MAX + 1] = '\0';
    runs(l, "c-1", 10);
    said(l, JOURNAL_RUN, 77, "{\"id\":\"c-1\",");
    said(l, JOURNAL_CALL, hash_bytes(SPAN_LIT("c-1"), 23), large);
    assert_int_equal(lost_take(l, ledger, NULL), 1);
    char *text = shown(ledger);
    assert_non_null(strstr(text, "\"billed_out\":10,"));
    mem_free(text);
    mem_free(large);
    lost_free(l);
    ledger_free(ledger);
}

static void what_the_ledger_has_is_not_counted_again(void **state)
{
    (void)state;
    struct lost *l = lost_new();
    struct ledger *ledger = ledger_new();
    assert_int_equal(ledger_add(ledger, span_str(line_of("c-1", "complete", 9))), PD_OK);
    runs(l, "c-1", 4);
    said(l, JOURNAL_CALL, 5, "{\"no\":\"session\"}");
    assert_int_equal(lost_take(l, ledger, NULL), 0);
    char *text = shown(ledger);
    assert_non_null(strstr(text, "\"calls\":1,"));
    assert_non_null(strstr(text, "\"billed_out\":9,"));
    mem_free(text);
    runs(l, "c-9", 4);
    assert_int_equal(lost_take(l, NULL, NULL), 0); /* there is no ledger */
    lost_free(l);
    ledger_free(ledger);
    assert_null(lost_free(NULL));
}

static void many_are_bounded(void **state)
{
    (void)state;
    struct lost *l = lost_new();
    struct ledger *ledger = ledger_new();
    for (unsigned i = 0; i < 100; i++) {
        runs(l, "c-0", 1);
        ends(l, "c-0", 1);
    }
    for (unsigned i = 0; i < LOST_MOST + 100; i++) {
        char id[24];
        snprintf(id, sizeof(id), "c-%u", i);
        runs(l, id, 1);
    }
    assert_int_equal(lost_take(l, ledger, NULL), LOST_MOST);
    lost_free(l);
    ledger_free(ledger);
}

struct heard {
    unsigned lines, calls;
};

static void on_record(void *ctx, const struct journal_record *r)
{
    struct heard *h = ctx;
    h->lines += r->kind == JOURNAL_RUN;
    h->calls += r->kind == JOURNAL_CALL;
}

static void what_is_taken_is_written_as_an_ended_call(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_lost.XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct journal_rules rules;
    struct journal *j;
    journal_rules_default(&rules);
    assert_int_equal(journal_open(folder, &rules, 0, &j), PD_OK);
    struct lost *l = lost_new();
    struct ledger *ledger = ledger_new();
    lost_running(j, span_str("c-8"), span_str(line_of("c-8", LOST_OUTCOME, 4)));
    lost_running(NULL, span_str("c-8"), span_str(""));
    runs(l, "c-1", 4);
    assert_int_equal(lost_take(l, ledger, j), 1);
    assert_true(journal_flush(j));
    struct journal_reader *r = journal_reader_new(folder);
    struct heard h = {0};
    assert_int_equal(journal_read(r, on_record, &h), PD_OK);
    assert_int_equal(h.lines, 1);
    assert_int_equal(h.calls, 1);
    journal_reader_free(r);
    journal_close(j);
    lost_free(l);
    ledger_free(ledger);
    char command[100];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static pd_err read_some(void *ctx)
{
    (void)ctx;
    struct lost *l = lost_new();
    struct ledger *ledger = l ? ledger_new() : NULL;
    if (!ledger) {
        lost_free(l);
        return PD_NOMEM;
    }
    runs(l, "c-1", 10);
    runs(l, "c-1", 20);
    unsigned got = lost_take(l, ledger, NULL);
    lost_free(l);
    ledger_free(ledger);
    assert_true(got <= 1);
    return PD_OK;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture_lenient(read_some, NULL) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_never_ended_is_counted_with_what_was_written_last),
        cmocka_unit_test(what_cannot_be_read_changes_nothing),
        cmocka_unit_test(what_the_ledger_has_is_not_counted_again),
        cmocka_unit_test(many_are_bounded),
        cmocka_unit_test(what_is_taken_is_written_as_an_ended_call),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
