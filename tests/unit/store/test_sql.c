/* One text says the same to two databases. */
#include "store/sql.h"
#include "test.h"
#include "torture.h"

static const struct row {
    const char *name, *in;
    const char *pg, *lite; /* NULL: PD_SYNTAX */
    unsigned pg_args, lite_args;
} rows[] = {
    {"nothing to do", "SELECT 1", "SELECT 1", "SELECT 1", 0, 0},
    {"arguments by number", "VALUES ($2, $1, $2)", "VALUES ($2, $1, $2)", "VALUES (?2, ?1, ?2)", 2, 2},
    {"of one only", "a {pg:FOR UPDATE}b", "a FOR UPDATEb", "a b", 0, 0},
    {"of each", "{lite:BLOB}{pg:BYTEA} x", "BYTEA x", "BLOB x", 0, 0},
    {"an argument of one only", "$1{lite:, $2}", "$1", "?1, ?2", 1, 2},
    {"quotes are left alone", "'{pg:x} $1 it''s' \"{\" $1", "'{pg:x} $1 it''s' \"{\" $1",
     "'{pg:x} $1 it''s' \"{\" ?1", 1, 1},
    {"a brace in quotes ends nothing", "{pg:'}'}{lite:'{'}", "'}'", "'{'", 0, 0},
    {"comments are left alone", "a -- $1 {x\nb /* $2 { */ c", "a -- $1 {x\nb /* $2 { */ c",
     "a -- $1 {x\nb /* $2 { */ c", 0, 0},
    {"a comment up to the end", "a -- b", "a -- b", "a -- b", 0, 0},
    {"a dollar that is no argument", "a$ $x", "a$ $x", "a$ $x", 0, 0},
    {"ten and more", "$10 $100", "$10 $100", "?10 ?100", 100, 100},
    {"an open brace", "{pg:x", NULL, NULL, 0, 0},
    {"a brace too much", "x}", NULL, NULL, 0, 0},
    {"braces in braces", "{pg:{lite:x}}", NULL, NULL, 0, 0},
    {"another database", "{my:x}", NULL, NULL, 0, 0},
    {"an open quote", "'x", NULL, NULL, 0, 0},
    {"an open comment", "/* x", NULL, NULL, 0, 0},
    {"a quote alone", "'", NULL, NULL, 0, 0},
    {"an argument that is none", "$0", NULL, NULL, 0, 0},
    {"too many", "$101", NULL, NULL, 0, 0},
    {"far too many", "$4294967297", NULL, NULL, 0, 0},
};

static void check(const struct row *r, bool postgres)
{
    struct buf out;
    unsigned args = 99;
    const char *want = postgres ? r->pg : r->lite;
    buf_init(&out, 0);
    pd_err e = sql_expand(r->in, postgres, &out, &args);
    if (!want) {
        assert_int_equal(e, PD_SYNTAX);
    } else {
        assert_int_equal(e, PD_OK);
        assert_string_equal(out.p + out.head, want);
        assert_int_equal(buf_size(&out), strlen(want) + 1);
        assert_int_equal(args, postgres ? r->pg_args : r->lite_args);
    }
    buf_done(&out);
}

static void each_text_says_the_same_to_both(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check(&rows[i], true);
        check(&rows[i], false);
    }
}

static pd_err expand(void *ctx)
{
    struct buf out;
    unsigned args;
    buf_init(&out, 0);
    pd_err e = sql_expand(ctx, false, &out, &args);
    buf_done(&out);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char in[] = "SELECT {pg:a}{lite:b} FROM c WHERE d = $1";
    assert_true(torture(expand, in) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_text_says_the_same_to_both),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
