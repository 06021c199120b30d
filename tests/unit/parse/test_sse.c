#include "base/buf.h"
#include "base/mem.h"
#include "parse/sse.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include "test.h"

/* Events as "[type|data|id]", without data as "[type||id]-", comments as "(text)", bare lines as "<text>". */
static const struct row {
    const char *name, *in, *out;
} rows[] = {
    {"one event", "data: a\n\n", "[|a|]"},
    {"CRLF is one line end", "data: a\r\ndata: b\r\n\r\n", "[|a\nb|]"},
    {"CR is a line end", "data: a\rdata: b\r\rdata: c\r\r", "[|a\nb|][|c|]"},
    {"all line ends mixed", "data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\n", "[|a\nb\nc|][|d|]"},
    {"LF then CR are two line ends", "data: a\n\rdata: b\n\n", "[|a|][|b|]"},
    {"no phantom blank line between CR and LF", "data: a\r\nid: 1\r\n\r\n", "[|a|1]"},
    {"CR alone, then CRLF", "data: a\r\rdata: b\r\n\r\ndata: c\r\r", "[|a|][|b|][|c|]"},
    {"a lone CR teaches not to wait, and LF comes after all", "x\ry\r\nz\r\rdata: a\r\n\r\n", "<x><y><z>[|a|]"},
    {"no phantom blank line where a lone CR was taught", "x\rdata: a\r\ndata: b\r\n\r\n", "<x>[|a\nb|]"},
    {"type and id", "event: ping\nid: 7\ndata: {}\n\n", "[ping|{}|7]"},
    {"the last type counts", "event: a\nevent: b\ndata: x\n\n", "[b|x|]"},
    {"one space after the colon goes, not two", "data:a\ndata: b\ndata:  c\n\n", "[|a\nb\n c|]"},
    {"data lines without a blank line between are one event", "data: {..}\ndata: {..}\n", "[|{..}\n{..}|]"},
    {"many data lines", "data: 1\ndata: 2\ndata: 3\ndata: 4\n\ndata: 5\n\n", "[|1\n2\n3\n4|][|5|]"},
    {"empty data is data", "data:\n\n", "[||]"},
    {"two empty data lines", "data\ndata:\n\n", "[|\n|]"},
    {"a field name alone", "data\n\n", "[||]"},
    {"an event without data", "event: ping\n\n", "[ping||]-"},
    {"an id after the data", "data: a\nid: 1\n\n", "[|a|1]"},
    {"unknown fields are stepped over", "foo: bar\ndata: a\nx-y_1:2\n\n", "[|a|]"},
    {"retry is no event of its own", "retry: 3000\ndata: a\n\n", "[|a|]"},
    {"a comment", ": keep-alive\n\ndata: a\n\n", "( keep-alive)[|a|]"},
    {"an empty comment", ":\n\n", "()"},
    {"two comments", ": a\n: b\n\n", "( a)( b)"},
    {"a comment inside an event belongs to it", "data: a\n: hm\ndata: b\n\n", "[|a\nb|]"},
    {"more blank lines than needed", "\n\ndata: a\n\n\n\ndata: b\n\n\n", "[|a|][|b|]"},
    {"a mark at the start", "\357\273\277data: a\n\n", "[|a|]"},
    {"a mark before a blank line", "\xef\xbb\xbf\ndata: a\n\n", "[|a|]"},
    {"a mark later is text", "data: a\n\n\357\273\277data: b\n\n", "[|a|]<\357\273\277data: b>"},
    {"a bare JSON line", "{\"error\": {\"message\": \"data: x\"}}\n", "<{\"error\": {\"message\": \"data: x\"}}>"},
    {"a bare line ends the event before it", "data: a\n{\"error\":1}\n\n", "[|a|]<{\"error\":1}>"},
    {"events go on after a bare line", "{\"error\":1}\ndata: a\n\n", "<{\"error\":1}>[|a|]"},
    {"an HTML page", "<html>\n<body>oh: no</body>\n</html>", "<<html>><<body>oh: no</body>><</html>>"},
    {"text", "upstream connect error\n", "<upstream connect error>"},
    {"one word is text", "error\n", "<error>"},
    {"a name with a blank is no field", "data : a\n\n", "<data : a>"},
    {"a JSON array and a string", "[{\"a\":1}]\n\"x\"\n", "<[{\"a\":1}]><\"x\">"},
    {"a colon far behind is no field", "oh no: x\n", "<oh no: x>"},
    {"the end without a blank line", "data: a\n", "[|a|]"},
    {"the end without a line end", "data: a", "[|a|]"},
    {"the end after a lone CR", "data: a\r", "[|a|]"},
    {"the end after a blank CR", "data: a\n\r", "[|a|]"},
    {"the end in the data", "data: {\"a\":1}\n\ndata: {\"a", "[|{\"a\":1}|][|{\"a|]"},
    {"the end in a field's name", "data: a\ndat", "[|a|]"},
    {"the end after a field's name", "data: a\ndata", "[|a|]"},
    {"the end in a bare line", "data: a\n\n{\"error", "[|a|]<{\"error>"},
    {"the end in a comment", ": a", "( a)"},
    {"nothing", "", ""},
    {"a field of an unknown name, cut", "daa::a t", ""},
};

struct seen {
    struct buf text, raw;
    unsigned calls;
    const char *in_from, *in_to; /* the feed, to see what is copied */
    unsigned copied;
    pd_err answer;
};

static pd_err note(void *ctx, const struct sse_event *ev)
{
    struct seen *seen = ctx;
    seen->calls++;
    if (ev->raw.p < seen->in_from || ev->raw.p + ev->raw.n > seen->in_to)
        seen->copied++;
    if (buf_add(&seen->raw, ev->raw))
        return PD_NOMEM;
    if (ev->kind == SSE_EVENT && !ev->has_data && !ev->type.n && !ev->id.n)
        return seen->answer;
    pd_err e;
    if (ev->kind == SSE_COMMENT)
        e = buf_printf(&seen->text, "(%.*s)", SPAN_FMT(ev->data));
    else if (ev->kind == SSE_BARE)
        e = buf_printf(&seen->text, "<%.*s>", SPAN_FMT(ev->data));
    else
        e = buf_printf(&seen->text, "[%.*s|%.*s|%.*s]%s", SPAN_FMT(ev->type), SPAN_FMT(ev->data), SPAN_FMT(ev->id),
                       ev->has_data ? "" : "-");
    return e ? e : seen->answer;
}

static void seen_done(struct seen *seen)
{
    buf_done(&seen->text);
    buf_done(&seen->raw);
}

static bool holds(const struct buf *b, struct span s)
{
    return buf_size(b) == s.n && (s.n == 0 || span_eq(buf_span(b), s));
}

/* Feeds in[0, a), in[a, b) and the rest. */
static void check(const struct row *r, size_t a, size_t b)
{
    struct span in = span_str(r->in);
    struct seen seen = {0};
    struct sse *s = sse_new(4096, note, &seen);
    assert_non_null(s);
    assert_int_equal(sse_feed(s, span_of(in.p, a)), PD_OK);
    assert_int_equal(sse_feed(s, span_of(in.p + a, b - a)), PD_OK);
    assert_int_equal(sse_feed(s, span_of(in.p + b, in.n - b)), PD_OK);
    assert_int_equal(buf_size(&seen.raw) + sse_pending(s), in.n);
    assert_int_equal(sse_finish(s), PD_OK);
    assert_int_equal(sse_pending(s), 0);
    s = sse_free(s);
    if (!holds(&seen.text, span_str(r->out)))
        fail_msg("%s, cut at %zu and %zu: got %.*s", r->name, a, b, (int)buf_size(&seen.text), seen.text.p);
    if (!holds(&seen.raw, in))
        fail_msg("%s, cut at %zu and %zu: raw is not the input", r->name, a, b);
    seen_done(&seen);
}

static void same_events_and_bytes_at_every_two_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t b = 0; b <= strlen(rows[i].in); b++)
            for (size_t a = 0; a <= b; a++)
                check(&rows[i], a, b);
}

static void same_events_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct span in = span_str(rows[i].in);
        struct seen seen = {0};
        struct sse *s = sse_new(4096, note, &seen);
        for (size_t at = 0; at < in.n; at++)
            assert_int_equal(sse_feed(s, span_of(in.p + at, 1)), PD_OK);
        assert_int_equal(sse_finish(s), PD_OK);
        s = sse_free(s);
        if (!holds(&seen.text, span_str(rows[i].out)) || !holds(&seen.raw, in))
            fail_msg("%s: got %.*s", rows[i].name, (int)buf_size(&seen.text), seen.text.p);
        seen_done(&seen);
    }
}

static pd_err feed_all(struct seen *seen, size_t max_event, struct span in, size_t step)
{
    struct sse *s = sse_new(max_event, note, seen);
    if (!s)
        return PD_NOMEM;
    pd_err e = PD_OK;
    for (size_t at = 0; at < in.n && !e; at += step)
        e = sse_feed(s, span_upto(span_from(in, at), step));
    if (!e)
        e = sse_finish(s);
    s = sse_free(s);
    return e;
}

static void an_id_with_a_nul_is_ignored(void **state)
{
    (void)state;
    struct seen seen = {0};
    assert_int_equal(feed_all(&seen, 100, SPAN_LIT("id: 1\0002\ndata: a\n\n"), 100), PD_OK);
    assert_true(holds(&seen.text, SPAN_LIT("[|a|]")));
    seen_done(&seen);
}

/* When a blank line is there, its event is not kept waiting for more bytes. */
static void an_event_is_delivered_with_its_blank_line(void **state)
{
    (void)state;
    static const char *const ins[] = {"data: a\n\n", "data: a\r\n\r\n", "x\rdata: a\r\r", "{\"error\":1}\n"};
    for (size_t i = 0; i < sizeof(ins) / sizeof(ins[0]); i++) {
        struct seen seen = {0};
        struct sse *s = sse_new(100, note, &seen);
        for (const char *p = ins[i]; *p; p++)
            assert_int_equal(sse_feed(s, span_of(p, 1)), PD_OK);
        assert_int_equal(seen.calls, ins[i][0] == 'x' ? 2 : 1);
        assert_int_equal(sse_pending(s), 0);
        s = sse_free(s);
        seen_done(&seen);
    }
}

static pd_err note_raw(void *ctx, const struct sse_event *ev)
{
    return buf_printf(ctx, "%.*s#", SPAN_FMT(ev->raw));
}

static void each_event_carries_its_own_source_bytes(void **state)
{
    (void)state;
    struct span in = SPAN_LIT("\ndata: a\n\n: c\n\ndata: b\r\n{}\n\n\nx: 1\nid: 1\n\n");
    for (size_t cut = 0; cut <= in.n; cut++) {
        struct buf raws;
        buf_init(&raws, 0);
        struct sse *s = sse_new(100, note_raw, &raws);
        assert_int_equal(sse_feed(s, span_upto(in, cut)), PD_OK);
        assert_int_equal(sse_feed(s, span_from(in, cut)), PD_OK);
        assert_true(span_is(buf_span(&raws), "\ndata: a\n\n#: c\n#\ndata: b\r\n#{}\n#\n\nx: 1\nid: 1\n\n#"));
        assert_int_equal(sse_pending(s), 0);
        s = sse_free(s);
        buf_done(&raws);
    }
}

/* Of a CRLF stream that is split before its last LF, raw still ends in the whole line end. */
static void a_split_line_end_stays_with_its_event(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct sse *s = sse_new(100, note, &seen);
    assert_int_equal(sse_feed(s, SPAN_LIT("data: a\r\n\r")), PD_OK);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(sse_feed(s, SPAN_LIT("\n")), PD_OK);
    assert_true(holds(&seen.raw, SPAN_LIT("data: a\r\n\r\n")));
    assert_int_equal(sse_pending(s), 0);
    s = sse_free(s);
    seen_done(&seen);
}

static void events_of_one_feed_are_not_copied(void **state)
{
    (void)state;
    static const char in[] = "data: a\n\nevent: x\ndata: b\n\n: hm\n{}\ndata: c\r\n\r\ndata: cut";
    struct seen seen = {.in_from = in, .in_to = in + sizeof(in) - 1};
    struct sse *s = sse_new(100, note, &seen);
    assert_int_equal(sse_feed(s, span_of(in, sizeof(in) - 1)), PD_OK);
    assert_int_equal(seen.calls, 5);
    assert_int_equal(seen.copied, 0);
    s = sse_free(s);
    seen_done(&seen);
}

static pd_err count(void *ctx, const struct sse_event *ev)
{
    (void)ev;
    ++*(unsigned *)ctx;
    return PD_OK;
}

static void a_steady_stream_allocates_nothing(void **state)
{
    (void)state;
    static const char in[] = "data: {\"a\":1}\n\nevent: x\r\ndata: b\r\ndata: c\r\n\r\n";
    struct span one = span_of(in, sizeof(in) - 1);
    unsigned calls = 0;
    struct sse *s = sse_new(1000, count, &calls);
    uint64_t made = 0;
    for (unsigned round = 0; round < 100; round++) {
        if (round == 10)
            made = mem_count();
        size_t cut = round % one.n;
        assert_int_equal(sse_feed(s, span_upto(one, cut)), PD_OK);
        assert_int_equal(sse_feed(s, span_from(one, cut)), PD_OK);
    }
    assert_int_equal(calls, 200);
    assert_true(mem_count() == made);
    s = sse_free(s);
}

static void an_event_larger_than_the_limit_is_refused_however_it_comes(void **state)
{
    (void)state;
    static const char *const big[] = {"data: 0123456789012345\n\n", "{0123456789012345678901}\n",
                                      "x: 1\nx: 2\nx: 3\nx: 4\nx: 5\n", "0123456789012345678901234567890",
                                      "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"};
    for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++)
        for (size_t step = 1; step <= strlen(big[i]); step++) {
            struct seen seen = {0};
            assert_int_equal(feed_all(&seen, 23, span_str(big[i]), step), PD_TOOBIG);
            seen_done(&seen);
        }
    for (size_t step = 1; step <= 24; step++) {
        struct seen seen = {0};
        assert_int_equal(feed_all(&seen, 24, SPAN_LIT("data: 0123456789012345\n\n"), step), PD_OK);
        seen_done(&seen);
    }
}

static void the_callbacks_failure_ends_the_feed(void **state)
{
    (void)state;
    static const char in[] = "data: a\n\ndata: b\n\n";
    for (size_t step = 1; step < sizeof(in); step++) {
        struct seen seen = {.answer = PD_CANCELLED};
        assert_int_equal(feed_all(&seen, 100, span_of(in, sizeof(in) - 1), step), PD_CANCELLED);
        assert_int_equal(seen.calls, 1);
        seen_done(&seen);
    }
}

static pd_err read_split(void *ctx)
{
    unsigned calls = 0;
    struct span in = span_str(ctx);
    struct sse *s = sse_new(1u << 20, count, &calls);
    if (!s)
        return PD_NOMEM;
    pd_err e = sse_feed(s, span_upto(in, 5));
    if (!e)
        e = sse_feed(s, span_from(in, 5));
    if (!e)
        e = sse_finish(s);
    s = sse_free(s);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    char in[] = "event: x\nid: 7\ndata: a\ndata: b\n\ndata: c\ndata: d\n: more";
    assert_true(torture(read_split, in) >= 3);
}

static void a_large_event_does_not_stay_in_memory(void **state)
{
    (void)state;
    enum { LARGE = 100000 };
    unsigned calls = 0;
    struct sse *s = sse_new(4 * LARGE, count, &calls);
    size_t before = mem_blocks();
    char *text = mem_alloc(LARGE);
    memset(text, 'x', LARGE);
    assert_int_equal(sse_feed(s, SPAN_LIT("data: ")), PD_OK);
    assert_int_equal(sse_feed(s, span_of(text, LARGE)), PD_OK);
    assert_int_equal(sse_feed(s, SPAN_LIT("\ndata: ")), PD_OK);
    assert_int_equal(sse_feed(s, span_of(text, LARGE)), PD_OK);
    assert_int_equal(sse_feed(s, SPAN_LIT("\n\n")), PD_OK);
    mem_free(text);
    assert_int_equal(calls, 1);
    assert_int_equal(mem_blocks(), before);
    s = sse_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_events_and_bytes_at_every_two_splits),
        cmocka_unit_test(same_events_byte_by_byte),
        cmocka_unit_test(an_id_with_a_nul_is_ignored),
        cmocka_unit_test(an_event_is_delivered_with_its_blank_line),
        cmocka_unit_test(each_event_carries_its_own_source_bytes),
        cmocka_unit_test(a_split_line_end_stays_with_its_event),
        cmocka_unit_test(events_of_one_feed_are_not_copied),
        cmocka_unit_test(a_steady_stream_allocates_nothing),
        cmocka_unit_test(an_event_larger_than_the_limit_is_refused_however_it_comes),
        cmocka_unit_test(the_callbacks_failure_ends_the_feed),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(a_large_event_does_not_stay_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
