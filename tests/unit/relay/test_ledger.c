/* What a session's calls come to, and that what is kept of them is bounded. */
#include "relay/ledger.h"

#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "test.h"

static void add(struct ledger *l, const char *session, unsigned n)
{
    char line[400];
    snprintf(line, sizeof(line),
             "{\"session\":\"%s\",\"id\":\"c-%u\",\"began_ms\":%u,\"took_ms\":5,\"held_ms\":7,\"tokens_in\":null,"
             "\"tokens_out\":3,\"attempts\":[{\"class\":\"cut\"},{\"class\":\"none\"}]}",
             session, n, n);
    assert_int_equal(ledger_add(l, span_str(line)), PD_OK);
}

static bool shows(struct ledger *l, const char *id, const char *what)
{
    struct buf out = {0};
    struct put p = put_into(&out);
    bool found = ledger_show(l, span_str(id), &p);
    assert_int_equal(p.err, PD_OK);
    assert_true(!found || json_check(buf_span(&out)) == PD_OK);
    bool has = found && span_has(buf_span(&out), what);
    buf_done(&out);
    return has;
}

static void totals_are_exact_when_old_lines_are_gone(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    for (unsigned i = 1; i <= LEDGER_CALLS + 1; i++)
        add(l, "s-1", i);
    assert_true(shows(l, "s-1", "\"calls\":65,\"attempts\":130,\"failed\":65"));
    assert_true(shows(l, "s-1", "\"held_ms\":455,\"continued\":0,\"tokens_in\":0,\"tokens_out\":195"));
    assert_false(shows(l, "s-1", "\"c-1\""));
    assert_true(shows(l, "s-1", "\"list\":[{\"session\":\"s-1\",\"id\":\"c-2\""));
    assert_true(shows(l, "s-1", "\"c-65\""));
    ledger_free(l);
}

static void the_session_unused_longest_is_forgotten(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    char id[24];
    for (unsigned i = 0; i < LEDGER_SESSIONS; i++) {
        snprintf(id, sizeof(id), "s-%u", i);
        add(l, id, i);
    }
    add(l, "s-0", 1);
    add(l, "s-new", 1);
    assert_true(shows(l, "s-0", "\"calls\":2"));
    assert_false(shows(l, "s-1", ""));
    assert_true(shows(l, "s-2", "\"calls\":1"));
    ledger_free(l);
}

static void what_is_no_line_is_refused(void **state)
{
    (void)state;
    struct ledger *l = ledger_new();
    assert_non_null(l);
    static const char *const bad[] = {
        "", "[]", "{", "{}", "{\"session\":\"\"}", "{\"session\":\"123456789012345678901234\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ledger_add(l, span_str(bad[i])), PD_INVALID);
    ledger_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals_are_exact_when_old_lines_are_gone),
        cmocka_unit_test(the_session_unused_longest_is_forgotten),
        cmocka_unit_test(what_is_no_line_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
