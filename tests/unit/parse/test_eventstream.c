/* The rows' bytes were made by an independent writer (Python's struct and zlib). Beside them, every event stream of a
 * larger collection of fixtures is read when there is one: see tests/unit/dialect/test_fixtures.c. */
#include "base/mem.h"
#include "parse/eventstream.h"
#include "parse/json.h"
#include "test.h"
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>

#define EVENT                                                                                             \
    "0b3a6576656e742d747970650700086d657461646174610d3a636f6e74656e742d747970650700106170706c69636174696" \
    "f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e74"

/* A message is written "[message_type event_type exception_type error_code error_message content_type|payload]",
 * absent headers as "-"; then its headers as "{name=type:number:value in hex}". */
static const struct row {
    const char *name, *hex, *out;
    pd_err err;
    enum eventstream_fault fault;
} rows[] = {
    {"nothing", "", "", PD_OK, 0},
    {"a message with nothing in it", "000000100000000005c248eb7d98c8ff", "[- - - - - -|]{}", PD_OK, 0},
    {"a payload alone", "0000001500000000cd22c79b68656c6c6f570c3496", "[- - - - - -|hello]{}", PD_OK, 0},
    {"an event", "0000006a0000004e27c4dc12" EVENT "7b227573616765223a7b7d7d9d064301",
     "[event metadata - - - application/json|{\"usage\":{}}]{:event-type=7:0:6d65746164617461 "
     ":content-type=7:0:6170706c69636174696f6e2f6a736f6e :message-type=7:0:6576656e74}",
     PD_OK, 0},
    {"an exception",
     "0000008800000061de0175f40f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e"
     "0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700"
     "09657863657074696f6e7b226d657373616765223a22736c6f7720646f776e227d832ee072",
     "[exception - throttlingException - - application/json|{\"message\":\"slow down\"}]"
     "{:exception-type=7:0:7468726f74746c696e67457863657074696f6e "
     ":content-type=7:0:6170706c69636174696f6e2f6a736f6e :message-type=7:0:657863657074696f6e}",
     PD_OK, 0},
    {"an error",
     "0000005c0000004ce7abf0180d3a6d6573736167652d747970650700056572726f720b3a6572726f722d636f646507000d49"
     "6e7465726e616c4572726f720e3a6572726f722d6d65737361676507000869742062726f6b65c0c21ee3",
     "[error - - InternalError it broke -|]{:message-type=7:0:6572726f72 "
     ":error-code=7:0:496e7465726e616c4572726f72 :error-message=7:0:69742062726f6b65}",
     PD_OK, 0},
    {"all ten types of header",
     "0000005e0000004e7365c25401740001660101620280017303fffe0169047fffffff016c0580000000000000000179060003"
     "0001020177070002c3a4017a080000018bcfe5687b017509000102030405060708090a0b0c0d0e0fc4a764a4",
     "[- - - - - -|]{t=0:1: f=1:0: b=2:-128:80 s=3:-2:fffe i=4:2147483647:7fffffff "
     "l=5:-9223372036854775808:8000000000000000 y=6:0:000102 w=7:0:c3a4 z=8:1700000000123:0000018bcfe5687b "
     "u=9:0:000102030405060708090a0b0c0d0e0f}",
     PD_OK, 0},
    {"an empty string and empty bytes", "0000001a0000000aafa7b95401610700000162060000f068f767",
     "[- - - - - -|]{a=7:0: b=6:0:}", PD_OK, 0},
    {"a known name with a value that is no string, and one in capitals",
     "0000003f0000002fed82cd670b3a6576656e742d74797065060001780d3a6d6573736167652d74797065000b3a4576656e742d"
     "54797065070001793ac83eb5",
     "[- - - - - -|]{:event-type=6:0:78 :message-type=0:1: :Event-Type=7:0:79}", PD_OK, 0},
    {"two messages",
     "00000021000000108434c9b90b3a6576656e742d747970650700016131b3288e900000002200000010c394b3690b3a657665"
     "6e742d7479706507000162323226f69416",
     "[- a - - - -|1]{:event-type=7:0:61}[- b - - - -|22]{:event-type=7:0:62}", PD_OK, 0},
    {"a wrong checksum of the prelude", "0000005f0000004e00000001" EVENT "785cc06ee7", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_PRELUDE_CRC},
    {"a length that was corrupted", "0100001500000000cd22c79b68656c6c6f570c3496", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_PRELUDE_CRC},
    {"a JSON text in the place of a stream", "7b226d657373616765223a2265787069726564227d", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_PRELUDE_CRC},
    {"a wrong checksum of a message", "0000005f0000004e4e05ebe4" EVENT "7800000001", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_MESSAGE_CRC},
    {"a header that was corrupted",
     "0000005f0000004e4e05ebe40b3a6576656e742d747970650700086e657461646174610d3a636f6e74656e742d7479706507"
     "00106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e7478bff25a74",
     "", PD_SYNTAX, EVENTSTREAM_FAULT_MESSAGE_CRC},
    {"a total below the overhead", "0000000f00000000e77248b845ab32b2", "", PD_SYNTAX, EVENTSTREAM_FAULT_LENGTHS},
    {"headers beyond the total", "0000001300000004450ff622616263c8508082", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_LENGTHS},
    {"headers above the limit", "00000010000200017141ac13593d2eb2", "", PD_TOOBIG,
     EVENTSTREAM_FAULT_HEADERS_TOOBIG},
    {"a message above the limit", "01800001000000001cfe1cb57803077f", "", PD_TOOBIG,
     EVENTSTREAM_FAULT_MESSAGE_TOOBIG},
    {"an unknown type of header", "0000001300000003db6b638101610affab9622", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_HEADER},
    {"a header without a name", "0000001200000002910c7aa700007bc1361e", "", PD_SYNTAX, EVENTSTREAM_FAULT_HEADER},
    {"a name beyond the headers", "0000001200000002910c7aa705613c039395", "", PD_SYNTAX, EVENTSTREAM_FAULT_HEADER},
    {"a name without a type", "0000001200000002910c7aa70161586f5691", "", PD_SYNTAX, EVENTSTREAM_FAULT_HEADER},
    {"half a string's length", "0000001400000004f72f2a3201610700ca8c1f30", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_HEADER},
    {"a string beyond the headers", "000000160000000663e1187e0161070002787393cbed", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_HEADER},
    {"a number beyond the headers", "000000160000000663e1187e0161040000000dceff8f", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_HEADER},
    {"two headers of one name", "0000001f0000000f172dc2ab0161070001310162000161070001321aa0f19f", "", PD_SYNTAX,
     EVENTSTREAM_FAULT_HEADER_TWICE},
    {"a good message before a bad one",
     "00000021000000108434c9b90b3a6576656e742d747970650700016131b3288e90000000110000000038a2615b3200000001",
     "[- a - - - -|1]{:event-type=7:0:61}", PD_SYNTAX, EVENTSTREAM_FAULT_MESSAGE_CRC},
    {"the end inside a message", "0000005f0000004e4e05ebe4" EVENT "78bff25a", "", PD_CUT,
     EVENTSTREAM_FAULT_UNFINISHED},
    {"the end inside a prelude", "00000021000000108434c9", "", PD_CUT, EVENTSTREAM_FAULT_UNFINISHED},
};
enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static unsigned nibble(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static struct span from_hex(const char *hex, char *room, size_t room_n)
{
    size_t n = strlen(hex) / 2;
    assert_true(n <= room_n);
    for (size_t i = 0; i < n; i++)
        room[i] = (char)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return span_of(room, n);
}

struct seen {
    struct buf text, raw;
    unsigned calls;
    const char *in_from, *in_to; /* the feed, to see what is copied */
    unsigned copied;
    pd_err answer;
};

static pd_err note_text(struct buf *out, struct span s, const char *after)
{
    return s.n ? buf_printf(out, "%.*s%s", SPAN_FMT(s), after) : buf_printf(out, "-%s", after);
}

static pd_err note_headers(struct buf *out, struct span headers)
{
    struct eventstream_header h;
    const char *before = "{";
    pd_err e = PD_OK;
    if (!headers.n)
        e = buf_puts(out, before);
    for (; !e && eventstream_header_next(&headers, &h); before = " ") {
        e = buf_printf(out, "%s%.*s=%d:%lld:", before, SPAN_FMT(h.name), (int)h.type, (long long)h.number);
        for (size_t i = 0; i < h.value.n && !e; i++)
            e = buf_printf(out, "%02x", (unsigned char)h.value.p[i]);
    }
    return e ? e : buf_puts(out, "}");
}

static pd_err note(void *ctx, const struct eventstream_message *m)
{
    struct seen *seen = ctx;
    seen->calls++;
    if (m->raw.p < seen->in_from || m->raw.p + m->raw.n > seen->in_to)
        seen->copied++;
    pd_err e = buf_add(&seen->raw, m->raw);
    const struct span named[] = {m->message_type, m->event_type,    m->exception_type,
                                 m->error_code,   m->error_message, m->content_type};
    if (!e)
        e = buf_puts(&seen->text, "[");
    for (size_t i = 0; i < 6 && !e; i++)
        e = note_text(&seen->text, named[i], i < 5 ? " " : "|");
    if (!e)
        e = buf_printf(&seen->text, "%.*s]", SPAN_FMT(m->payload));
    if (!e)
        e = note_headers(&seen->text, m->headers);
    return e ? e : seen->answer;
}

static void seen_done(struct seen *seen)
{
    buf_done(&seen->text);
    buf_done(&seen->raw);
}

/* Feeds in[0, a), in[a, b), then the rest in pieces of `step`. */
static pd_err feed(struct seen *seen, struct span in, size_t a, size_t b, size_t step,
                   enum eventstream_fault *ret_fault)
{
    struct eventstream *s = eventstream_new(EVENTSTREAM_MAX_MESSAGE, note, seen);
    if (!s)
        return PD_NOMEM;
    pd_err e = eventstream_feed(s, span_upto(in, a));
    if (!e)
        e = eventstream_feed(s, span_of(in.p + a, b - a));
    for (size_t at = b; at < in.n && !e; at += step)
        e = eventstream_feed(s, span_upto(span_from(in, at), step));
    if (!e)
        e = eventstream_finish(s);
    *ret_fault = eventstream_fault(s);
    if (!e)
        assert_int_equal(eventstream_pending(s), 0);
    s = eventstream_free(s);
    return e;
}

static void check(const struct row *r, size_t a, size_t b, size_t step)
{
    char room[512];
    struct span in = from_hex(r->hex, room, sizeof(room));
    struct seen seen = {0};
    enum eventstream_fault fault;
    pd_err e = feed(&seen, in, a, b, step, &fault);
    if (e != r->err || fault != r->fault || !span_is(buf_span(&seen.text), r->out))
        fail_msg("%s, cut at %zu and %zu: %s, %s, %.*s", r->name, a, b, pd_err_name(e),
                 eventstream_fault_text(fault), SPAN_FMT(buf_span(&seen.text)));
    if (!e && !span_eq(buf_span(&seen.raw), in))
        fail_msg("%s, cut at %zu and %zu: raw is not the input", r->name, a, b);
    seen_done(&seen);
}

static void same_messages_at_every_two_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++)
        for (size_t b = 0; b <= strlen(rows[i].hex) / 2; b++)
            for (size_t a = 0; a <= b; a++)
                check(&rows[i], a, b, SIZE_MAX / 2);
}

static void same_messages_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++)
        check(&rows[i], 0, 0, 1);
}

/* ---- what it costs ---------------------------------------------------------------------- */

static pd_err count(void *ctx, const struct eventstream_message *m)
{
    (void)m;
    ++*(unsigned *)ctx;
    return PD_OK;
}

static void put_event(struct buf *out, struct span payload)
{
    assert_int_equal(
        eventstream_put(out, "event", SPAN_LIT("contentBlockDelta"), SPAN_LIT("application/json"), payload),
        PD_OK);
}

static void messages_of_one_feed_are_not_copied(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, 0);
    put_event(&in, SPAN_LIT("{}"));
    put_event(&in, SPAN_LIT("{\"a\":1}"));
    size_t whole = buf_size(&in);
    put_event(&in, SPAN_LIT("cut"));
    struct span bytes = span_upto(buf_span(&in), whole + 20);
    struct seen seen = {.in_from = bytes.p, .in_to = bytes.p + bytes.n};
    struct eventstream *s = eventstream_new(1000, note, &seen);
    assert_int_equal(eventstream_feed(s, bytes), PD_OK);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(seen.copied, 0);
    assert_int_equal(eventstream_pending(s), 20);
    s = eventstream_free(s);
    seen_done(&seen);
    buf_done(&in);
}

static void a_message_is_delivered_with_its_last_byte(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, 0);
    put_event(&in, SPAN_LIT("{}"));
    unsigned calls = 0;
    struct eventstream *s = eventstream_new(1000, count, &calls);
    for (size_t at = 0; at < buf_size(&in); at++) {
        assert_int_equal(calls, 0);
        assert_int_equal(eventstream_feed(s, span_of(in.p + at, 1)), PD_OK);
    }
    assert_int_equal(calls, 1);
    s = eventstream_free(s);
    buf_done(&in);
}

static void a_steady_stream_allocates_nothing(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, 0);
    put_event(&in, SPAN_LIT("{\"delta\":{\"text\":\"hello\"}}"));
    struct span one = buf_span(&in);
    unsigned calls = 0;
    struct eventstream *s = eventstream_new(1000, count, &calls);
    uint64_t made = 0;
    for (unsigned round = 0; round < 300; round++) {
        if (round == 150)
            made = mem_count();
        size_t cut = round % one.n;
        assert_int_equal(eventstream_feed(s, span_upto(one, cut)), PD_OK);
        assert_int_equal(eventstream_feed(s, span_from(one, cut)), PD_OK);
    }
    assert_int_equal(calls, 300);
    assert_true(mem_count() == made);
    s = eventstream_free(s);
    buf_done(&in);
}

static void a_large_message_does_not_stay_in_memory(void **state)
{
    (void)state;
    enum { LARGE = 200000 };
    struct buf in;
    buf_init(&in, 0);
    char *text = mem_alloc(LARGE);
    memset(text, 'x', LARGE);
    put_event(&in, span_of(text, LARGE));
    mem_free(text);
    unsigned calls = 0;
    struct eventstream *s = eventstream_new(2 * LARGE, count, &calls);
    size_t before = mem_blocks();
    for (size_t at = 0; at < buf_size(&in); at += 1000)
        assert_int_equal(eventstream_feed(s, span_upto(span_from(buf_span(&in), at), 1000)), PD_OK);
    assert_int_equal(calls, 1);
    assert_int_equal(mem_blocks(), before);
    s = eventstream_free(s);
    buf_done(&in);
}

/* What was announced is not what is taken from memory. */
static void room_grows_with_what_has_come(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, 0);
    char *text = mem_zalloc(1000000);
    put_event(&in, span_of(text, 1000000));
    mem_free(text);
    unsigned calls = 0;
    struct eventstream *s = eventstream_new(EVENTSTREAM_MAX_MESSAGE, count, &calls);
    uint64_t made = mem_count();
    assert_int_equal(eventstream_feed(s, span_upto(buf_span(&in), 100)), PD_OK);
    assert_int_equal(eventstream_pending(s), 100);
    assert_int_equal(mem_count(), made + 1);
    s = eventstream_free(s);
    buf_done(&in);
}

/* ---- limits and failures ---------------------------------------------------------------- */

static void a_message_above_its_limit_is_refused_by_its_prelude(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, 0);
    put_event(&in, SPAN_LIT("0123456789"));
    unsigned calls = 0;
    struct eventstream *s = eventstream_new(buf_size(&in) - 1, count, &calls);
    assert_int_equal(eventstream_feed(s, span_upto(buf_span(&in), 12)), PD_TOOBIG);
    assert_int_equal(eventstream_fault(s), EVENTSTREAM_FAULT_MESSAGE_TOOBIG);
    s = eventstream_free(s);
    s = eventstream_new(buf_size(&in), count, &calls);
    assert_int_equal(eventstream_feed(s, buf_span(&in)), PD_OK);
    assert_int_equal(calls, 1);
    s = eventstream_free(s);
    buf_done(&in);
}

/* The headers "aa", "ab", ... */
static void many_headers(struct buf *out, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const char header[] = {2, (char)('a' + i / 26), (char)('a' + i % 26), EVENTSTREAM_TRUE};
        assert_int_equal(buf_add(out, span_of(header, 4)), PD_OK);
    }
}

static void more_headers_than_the_limit_are_refused(void **state)
{
    (void)state;
    /* Made by the same independent writer: 128 headers "aa" to "ex", and 129. */
    static const struct {
        const char *prelude, *crc;
        unsigned n;
        pd_err err;
    } sides[] = {
        {"00000210000002007a3c8b62", "3a218f1e", 128, PD_OK},
        {"000002140000020488d1e9bb", "6efc4e27", 129, PD_TOOBIG},
    };
    for (size_t i = 0; i < 2; i++) {
        struct buf in;
        char room[16];
        unsigned calls = 0;
        buf_init(&in, 0);
        assert_int_equal(buf_add(&in, from_hex(sides[i].prelude, room, sizeof(room))), PD_OK);
        many_headers(&in, sides[i].n);
        assert_int_equal(buf_add(&in, from_hex(sides[i].crc, room, sizeof(room))), PD_OK);
        struct eventstream *s = eventstream_new(10000, count, &calls);
        assert_int_equal(eventstream_feed(s, buf_span(&in)), sides[i].err);
        assert_int_equal(eventstream_fault(s), i ? EVENTSTREAM_FAULT_HEADER_COUNT : EVENTSTREAM_FAULT_NONE);
        s = eventstream_free(s);
        buf_done(&in);
    }
}

static void the_callbacks_failure_ends_the_feed(void **state)
{
    (void)state;
    struct buf in;
    buf_init(&in, 0);
    put_event(&in, SPAN_LIT("1"));
    put_event(&in, SPAN_LIT("2"));
    for (size_t step = 1; step <= buf_size(&in); step++) {
        struct seen seen = {.answer = PD_CANCELLED};
        enum eventstream_fault fault;
        assert_int_equal(feed(&seen, buf_span(&in), 0, 0, step, &fault), PD_CANCELLED);
        assert_int_equal(fault, EVENTSTREAM_FAULT_NONE);
        assert_int_equal(seen.calls, 1);
        seen_done(&seen);
    }
    buf_done(&in);
}

static pd_err write_and_read(void *ctx)
{
    (void)ctx;
    struct buf in;
    struct seen seen = {0};
    enum eventstream_fault fault;
    buf_init(&in, 0);
    pd_err e = eventstream_put(&in, "event", SPAN_LIT("chunk"), SPAN_LIT("application/json"), SPAN_LIT("{}"));
    if (!e)
        e = eventstream_put(&in, "exception", SPAN_LIT("x"), SPAN_NONE, SPAN_NONE);
    if (!e)
        e = feed(&seen, buf_span(&in), 3, 9, 30, &fault);
    seen_done(&seen);
    buf_done(&in);
    return e;
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(torture(write_and_read, NULL) >= 4);
}

/* ---- writing ---------------------------------------------------------------------------- */

static void what_is_written_is_what_another_writer_wrote(void **state)
{
    (void)state;
    static const struct {
        const char *row, *message_type, *type, *payload;
    } written[] = {
        {"an event", "event", "metadata", "{\"usage\":{}}"},
        {"an exception", "exception", "throttlingException", "{\"message\":\"slow down\"}"},
    };
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < ROW_COUNT; k++) {
            if (strcmp(rows[k].name, written[i].row) != 0)
                continue;
            char room[512];
            struct buf out;
            buf_init(&out, 0);
            assert_int_equal(eventstream_put(&out, written[i].message_type, span_str(written[i].type),
                                             SPAN_LIT("application/json"), span_str(written[i].payload)),
                             PD_OK);
            assert_true(span_eq(buf_span(&out), from_hex(rows[k].hex, room, sizeof(room))));
            buf_done(&out);
        }
}

static void what_does_not_fit_is_not_begun(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 120);
    put_event(&out, SPAN_LIT("{}"));
    size_t before = buf_size(&out);
    assert_int_equal(eventstream_put(&out, "event", SPAN_LIT("x"), SPAN_NONE, SPAN_LIT("{}")), PD_TOOBIG);
    assert_int_equal(buf_size(&out), before);
    buf_done(&out);

    char *large = mem_zalloc(EVENTSTREAM_MAX_MESSAGE);
    struct span whole = span_of(large, EVENTSTREAM_MAX_MESSAGE);
    buf_init(&out, 0);
    assert_int_equal(eventstream_put(&out, "event", span_upto(whole, 32768), SPAN_NONE, SPAN_NONE), PD_TOOBIG);
    assert_int_equal(eventstream_put(&out, "event", SPAN_LIT("x"), span_upto(whole, 32768), SPAN_NONE), PD_TOOBIG);
    assert_int_equal(eventstream_put(&out, "event", SPAN_LIT("x"), SPAN_NONE, whole), PD_TOOBIG);
    assert_int_equal(buf_size(&out), 0);
    assert_int_equal(eventstream_put(&out, "event", span_upto(whole, 32767), SPAN_NONE, SPAN_NONE), PD_OK);
    unsigned calls = 0;
    struct eventstream *s = eventstream_new(EVENTSTREAM_MAX_MESSAGE, count, &calls);
    assert_int_equal(eventstream_feed(s, buf_span(&out)), PD_OK);
    assert_int_equal(calls, 1);
    s = eventstream_free(s);
    buf_done(&out);
    mem_free(large);
}

static void a_payload_may_be_written_in_pieces(void **state)
{
    (void)state;
    struct buf whole, pieces;
    size_t at;
    buf_init(&whole, 0);
    buf_init(&pieces, 0);
    for (unsigned i = 0; i < 3; i++) { /* behind others, and behind bytes that left already */
        assert_int_equal(eventstream_put(&whole, "event", SPAN_LIT("x"), SPAN_LIT("a/b"), SPAN_LIT("{\"n\":1}")),
                         PD_OK);
        assert_int_equal(eventstream_begin(&pieces, "event", SPAN_LIT("x"), SPAN_LIT("a/b"), &at), PD_OK);
        assert_int_equal(buf_puts(&pieces, "{\"n\":"), PD_OK);
        assert_int_equal(buf_puts(&pieces, "1}"), PD_OK);
        assert_int_equal(eventstream_end(&pieces, at), PD_OK);
        assert_true(span_eq(buf_span(&whole), buf_span(&pieces)));
        buf_take(&whole, 7);
        buf_take(&pieces, 7);
    }
    size_t before = buf_size(&pieces);
    assert_int_equal(eventstream_begin(&pieces, "event", SPAN_LIT("x"), SPAN_NONE, &at), PD_OK);
    assert_int_equal(buf_reserve(&pieces, EVENTSTREAM_MAX_MESSAGE), PD_OK);
    buf_added(&pieces, EVENTSTREAM_MAX_MESSAGE);
    assert_int_equal(eventstream_end(&pieces, at), PD_TOOBIG);
    assert_int_equal(buf_size(&pieces), before);
    buf_done(&whole);
    buf_done(&pieces);
}

/* ---- the larger collection -------------------------------------------------------------- */

static bool read_file(const char *path, struct buf *out)
{
    FILE *in = fopen(path, "rb");
    if (!in)
        return false;
    size_t n;
    do {
        assert_int_equal(buf_reserve(out, 64 * 1024), PD_OK);
        n = fread(out->p + out->tail, 1, 64 * 1024, in);
        buf_added(out, n);
    } while (n);
    fclose(in);
    return true;
}

/* Reads one body: whole, byte by byte, and a small one cut at every byte. */
static void check_body(const char *name, struct span body, bool bad, int64_t frames)
{
    struct seen whole = {0};
    enum eventstream_fault fault;
    pd_err e = feed(&whole, body, body.n, body.n, 1, &fault);
    if (bad ? (e != PD_SYNTAX && e != PD_TOOBIG) : e != PD_OK)
        fail_msg("%s: %s, %s", name, pd_err_name(e), eventstream_fault_text(fault));
    if (!bad && !span_eq(buf_span(&whole.raw), body))
        fail_msg("%s: raw is not the body", name);
    if (frames >= 0 && whole.calls != frames)
        fail_msg("%s: %u frames", name, whole.calls);
    size_t cuts = body.n < 2000 ? body.n : 0;
    for (size_t cut = 0; cut <= cuts; cut++) {
        struct seen split = {0};
        enum eventstream_fault also;
        assert_int_equal(feed(&split, body, cut, cut, cut ? SIZE_MAX / 2 : 1, &also), e);
        assert_int_equal(also, fault);
        assert_true(span_eq(buf_span(&split.text), buf_span(&whole.text)));
        seen_done(&split);
    }
    seen_done(&whole);
}

static void recorded_streams_read_as_expected(void **state)
{
    (void)state;
    const char *folder = getenv("PERDURE_FIXTURES"), *required = getenv("PERDURE_FIXTURES_REQUIRED");
    if (!folder || !*folder)
        folder = "../shared/fixtures";
    char path[512];
    struct buf text, body;
    buf_init(&text, 0);
    buf_init(&body, 0);
    snprintf(path, sizeof(path), "%s/index.json", folder);
    if (!read_file(path, &text)) {
        if (required && strcmp(required, "1") == 0)
            fail_msg("%s is not there: set PERDURE_FIXTURES", path);
        skip();
    }
    struct json index, entry;
    struct json_walk w;
    unsigned streams = 0;
    assert_int_equal(json_first(buf_span(&text), &index, NULL), PD_OK);
    json_walk_init(&w, json_get(index, "fixtures"));
    while (json_walk_next(&w, NULL, &entry)) {
        struct span file = json_inner(json_get(entry, "file"));
        if (!span_ends(file, ".eventstream.bin"))
            continue;
        snprintf(path, sizeof(path), "%s/%.*s", folder, SPAN_FMT(file));
        buf_clear(&body);
        assert_true(read_file(path, &body));
        struct json expected = json_get(entry, "expected");
        int64_t frames;
        if (!json_i64(json_get(expected, "frames"), &frames))
            frames = -1;
        check_body(path, buf_span(&body), json_is(json_get(expected, "outcome"), "decode_error"), frames);
        streams++;
    }
    print_message("%u recorded streams\n", streams);
    assert_true(streams > 0);
    buf_done(&body);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_messages_at_every_two_splits),
        cmocka_unit_test(same_messages_byte_by_byte),
        cmocka_unit_test(messages_of_one_feed_are_not_copied),
        cmocka_unit_test(a_message_is_delivered_with_its_last_byte),
        cmocka_unit_test(a_steady_stream_allocates_nothing),
        cmocka_unit_test(a_large_message_does_not_stay_in_memory),
        cmocka_unit_test(room_grows_with_what_has_come),
        cmocka_unit_test(a_message_above_its_limit_is_refused_by_its_prelude),
        cmocka_unit_test(more_headers_than_the_limit_are_refused),
        cmocka_unit_test(the_callbacks_failure_ends_the_feed),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(what_is_written_is_what_another_writer_wrote),
        cmocka_unit_test(what_does_not_fit_is_not_begun),
        cmocka_unit_test(a_payload_may_be_written_in_pieces),
        cmocka_unit_test(recorded_streams_read_as_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
