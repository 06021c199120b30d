#include "test.h"
#include "torture.h"

#include "base/mem.h"
#include "task/telling.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK(delta, end) "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{" delta "}" end "}]}\n\n"
#define SAYS(text) CHUNK("\"content\":\"" text "\"", "")
#define STOPS CHUNK("", ",\"finish_reason\":\"stop\"")
#define USED "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":3}}\n\n"
#define DONE "data: [DONE]\n\n"
#define BROKE "data: {\"error\":{\"message\":\"nobody can go on\",\"type\":\"api_error\",\"code\":\"cut\"}}\n\n"

static const struct row {
    const char *name, *in;
    pd_err err;
    const char *text, *content, *error; /* content: of the whole; error: its code */
} rows[] = {
    {"an answer", SAYS("Once ") SAYS("upon") STOPS USED DONE, PD_OK, "Once upon", "\"Once upon\"", ""},
    {"what is escaped stays so", SAYS("\\u00e9\\n") SAYS("\\\"x") STOPS USED DONE, PD_OK, "\\u00e9\\n\\\"x",
     "\"\\u00e9\\n\\\"x\"", ""},
    {"comments between", ": perdure\n\n" SAYS("a") ": perdure\n\n" SAYS("b") STOPS DONE, PD_OK, "ab", "\"ab\"",
     ""},
    {"reasoning is no text", CHUNK("\"reasoning_content\":\"hm\"", "") SAYS("a") STOPS DONE, PD_OK, "a", "\"a\"",
     ""},
    {"it only stops", SAYS("Once "), PD_PROTO, "Once ", NULL, ""},
    {"nothing came", "", PD_PROTO, "", NULL, ""},
    {"an error in its middle", SAYS("Once ") BROKE, PD_PROTO, "Once ", NULL, "cut"},
    {"an error before it", ": perdure\n\n" BROKE, PD_PROTO, "", NULL, "cut"},
    {"it is a page", "<html>no</html>\n", PD_PROTO, "", NULL, ""},
};

static bool same(struct span s, const char *text)
{
    return span_is(s, text);
}

/* Told in two pieces. */
static pd_err tell(const struct row *r, size_t cut, struct telling **ret, struct buf *out)
{
    struct span all = span_str(r->in);
    struct telling *t = telling_new();
    if (!t)
        return PD_NOMEM;
    pd_err e = telling_take(t, span_upto(all, cut));
    if (!e)
        e = telling_take(t, span_from(all, cut));
    if (!e)
        e = telling_end(t, out);
    *ret = t;
    return e;
}

static void it_is_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t cut = 0; cut <= strlen(rows[i].in); cut++) {
            const struct row *r = &rows[i];
            struct telling *t = NULL;
            struct buf out = {0};
            pd_err e = tell(r, cut, &t, &out);
            struct json whole = {JSON_OBJECT, buf_span(&out)}, error = {JSON_OBJECT, telling_error(t)};
            if (e != r->err || !same(telling_text(t), r->text) ||
                !same(r->content ? json_path(whole, "choices.0.message.content").raw : SPAN_LIT(""),
                      r->content ? r->content : "") ||
                !same(json_inner(json_path(error, "error.code")), r->error))
                fail_msg("%s, cut at %zu: %s, \"%.*s\", %.*s, %.*s", r->name, cut, pd_err_name(e),
                         SPAN_FMT(telling_text(t)), SPAN_FMT(whole.raw), SPAN_FMT(error.raw));
            telling_free(t);
            buf_done(&out);
        }
}

static void what_it_used_is_in_the_whole(void **state)
{
    (void)state;
    struct telling *t = NULL;
    struct buf out = {0};
    int64_t n = 0;
    assert_int_equal(tell(&rows[0], 0, &t, &out), PD_OK);
    assert_true(json_i64(json_path((struct json){JSON_OBJECT, buf_span(&out)}, "usage.completion_tokens"), &n));
    assert_int_equal(n, 3);
    telling_free(t);
    buf_done(&out);
}

static void an_answer_over_the_limit_is_too_big(void **state)
{
    (void)state;
    enum { PIECE = 1 << 20 };
    struct telling *t = telling_new();
    char *piece = malloc(PIECE + 200);
    size_t n = (size_t)sprintf(piece, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
    memset(piece + n, 'x', PIECE);
    n += PIECE;
    n += (size_t)sprintf(piece + n, "\"}}]}\n\n");
    pd_err e = PD_OK;
    unsigned i = 0;
    for (; !e && i < 40; i++)
        e = telling_take(t, span_of(piece, n));
    assert_int_equal(e, PD_TOOBIG);
    assert_int_equal(i, TELLING_TEXT_MAX / PIECE + 1);
    telling_free(t);
    free(piece);
}

static pd_err tell_all(void *ctx)
{
    struct telling *t = NULL;
    struct buf out = {0};
    const struct row *r = ctx;
    pd_err e = tell(r, strlen(r->in) / 2, &t, &out);
    telling_free(t);
    buf_done(&out);
    return e == r->err ? PD_OK : e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct row whole = rows[1];
    assert_true(torture(tell_all, &whole) >= 4);
    struct row broken = rows[6]; /* an error that cannot be kept is no memory either */
    assert_true(torture(tell_all, &broken) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_same_at_every_split),
        cmocka_unit_test(what_it_used_is_in_the_whole),
        cmocka_unit_test(an_answer_over_the_limit_is_too_big),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
