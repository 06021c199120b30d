#include "parse/eventstream.h"

#include "base/mem.h"

#include <assert.h>
#include <zlib.h>

enum {
    PRELUDE_BYTES = 12,
    CRC_BYTES = 4,
    VALUE_MOST_BYTES = INT16_MAX, /* of a string or bytes: AWS's own writers take no more */
    /* Of the buffer, this much stays between messages: see sse.c. */
    KEPT_BYTES = 16 * 1024,
};

struct eventstream {
    eventstream_fn *on_message;
    void *ctx;
    size_t max_message;
    struct buf held; /* the unfinished message, as far as earlier feeds had it */
    size_t total;    /* its announced size; 0 until its prelude is whole */
    enum eventstream_fault fault;
};

/* The prelude's lengths, when they are sound. */
struct lengths {
    size_t total, headers;
};

const char *eventstream_fault_text(enum eventstream_fault fault)
{
    static const char *const texts[] = {
#define X(name, sentence) [EVENTSTREAM_FAULT_##name] = (sentence),
        EVENTSTREAM_FAULTS(X)
#undef X
    };
    assert((size_t)fault < sizeof(texts) / sizeof(texts[0]));
    return texts[fault];
}

struct eventstream *eventstream_new(size_t max_message, eventstream_fn *on_message, void *ctx)
{
    assert(max_message >= EVENTSTREAM_OVERHEAD);
    struct eventstream *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    s->on_message = on_message;
    s->ctx = ctx;
    s->max_message = max_message;
    buf_init(&s->held, max_message);
    return s;
}

struct eventstream *eventstream_free(struct eventstream *s)
{
    if (!s)
        return NULL;
    buf_done(&s->held);
    mem_free(s);
    return NULL;
}

size_t eventstream_pending(const struct eventstream *s)
{
    return buf_size(&s->held);
}

enum eventstream_fault eventstream_fault(const struct eventstream *s)
{
    return s->fault;
}

static pd_err fail(struct eventstream *s, enum eventstream_fault fault)
{
    s->fault = fault;
    bool toobig = fault == EVENTSTREAM_FAULT_HEADERS_TOOBIG || fault == EVENTSTREAM_FAULT_MESSAGE_TOOBIG ||
                  fault == EVENTSTREAM_FAULT_HEADER_COUNT;
    return toobig ? PD_TOOBIG : PD_SYNTAX;
}

/* ---- numbers on the wire ---------------------------------------------------------------- */

static uint64_t read_be(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

/* The n bytes as a signed number. */
static int64_t read_signed(const char *p, size_t n)
{
    unsigned spare = (unsigned)(64 - 8 * n);
    return (int64_t)(read_be(p, n) << spare) >> spare;
}

static uint32_t crc_of(const char *p, size_t n)
{
    return (uint32_t)crc32_z(0, (const unsigned char *)p, n);
}

/* ---- headers ---------------------------------------------------------------------------- */

/* How many bytes a value of fixed size takes; -1 when its length stands before it. */
static int fixed_bytes(enum eventstream_type type)
{
    switch (type) {
    case EVENTSTREAM_TRUE:
    case EVENTSTREAM_FALSE:
        return 0;
    case EVENTSTREAM_INT8:
        return 1;
    case EVENTSTREAM_INT16:
        return 2;
    case EVENTSTREAM_INT32:
        return 4;
    case EVENTSTREAM_INT64:
    case EVENTSTREAM_TIMESTAMP:
        return 8;
    case EVENTSTREAM_UUID:
        return 16;
    case EVENTSTREAM_BYTES:
    case EVENTSTREAM_STRING:
    case EVENTSTREAM_TYPE_COUNT:
        break;
    }
    return -1;
}

bool eventstream_header_next(struct span *headers, struct eventstream_header *ret)
{
    struct span in = *headers;
    size_t name_n = in.n ? (unsigned char)in.p[0] : 0;
    if (name_n == 0 || in.n < 1 + name_n + 1)
        return false;
    unsigned char type = (unsigned char)in.p[1 + name_n];
    if (type >= EVENTSTREAM_TYPE_COUNT)
        return false;
    struct eventstream_header h = {.name = span_of(in.p + 1, name_n), .type = (enum eventstream_type)type};
    in = span_from(in, 1 + name_n + 1);

    int fixed = fixed_bytes(h.type);
    size_t value_n = (size_t)fixed;
    if (fixed < 0) {
        if (in.n < 2)
            return false;
        value_n = (size_t)read_be(in.p, 2);
        in = span_from(in, 2);
    }
    if (in.n < value_n)
        return false;
    h.value = span_of(in.p, value_n);
    if (h.type == EVENTSTREAM_TRUE)
        h.number = 1;
    else if (fixed > 0 && h.type != EVENTSTREAM_UUID)
        h.number = read_signed(in.p, value_n);

    *headers = span_from(in, value_n);
    *ret = h;
    return true;
}

/* The message's own place for a header of this name; NULL for one that has none. */
static struct span *place_of(struct eventstream_message *m, struct span name)
{
    if (name.p[0] != ':')
        return NULL;
    if (span_is(name, ":message-type"))
        return &m->message_type;
    if (span_is(name, ":event-type"))
        return &m->event_type;
    if (span_is(name, ":content-type"))
        return &m->content_type;
    if (span_is(name, ":exception-type"))
        return &m->exception_type;
    if (span_is(name, ":error-code"))
        return &m->error_code;
    if (span_is(name, ":error-message"))
        return &m->error_message;
    return NULL;
}

/* Fills in what the headers say. */
static pd_err read_headers(struct eventstream *s, struct eventstream_message *m)
{
    struct span rest = m->headers;
    struct span names[EVENTSTREAM_MAX_HEADERS];
    for (size_t count = 0; rest.n; count++) {
        struct eventstream_header h;
        if (!eventstream_header_next(&rest, &h))
            return fail(s, EVENTSTREAM_FAULT_HEADER);
        if (count == EVENTSTREAM_MAX_HEADERS)
            return fail(s, EVENTSTREAM_FAULT_HEADER_COUNT);
        for (size_t i = 0; i < count; i++)
            if (span_eq(names[i], h.name))
                return fail(s, EVENTSTREAM_FAULT_HEADER_TWICE);
        names[count] = h.name;
        struct span *place = h.type == EVENTSTREAM_STRING ? place_of(m, h.name) : NULL;
        if (place)
            *place = h.value;
    }
    return PD_OK;
}

/* ---- messages --------------------------------------------------------------------------- */

/* The checksum first: without it the lengths mean nothing. */
static pd_err read_prelude(struct eventstream *s, const char *p, struct lengths *ret)
{
    if (crc_of(p, PRELUDE_BYTES - CRC_BYTES) != read_be(p + 8, CRC_BYTES))
        return fail(s, EVENTSTREAM_FAULT_PRELUDE_CRC);
    *ret = (struct lengths){(size_t)read_be(p, 4), (size_t)read_be(p + 4, 4)};
    if (ret->headers > EVENTSTREAM_MAX_HEADERS_BYTES)
        return fail(s, EVENTSTREAM_FAULT_HEADERS_TOOBIG);
    if (ret->total > s->max_message)
        return fail(s, EVENTSTREAM_FAULT_MESSAGE_TOOBIG);
    if (ret->total < EVENTSTREAM_OVERHEAD || ret->headers > ret->total - EVENTSTREAM_OVERHEAD)
        return fail(s, EVENTSTREAM_FAULT_LENGTHS);
    return PD_OK;
}

/* One message is there; its prelude is sound. */
static pd_err deliver(struct eventstream *s, const char *p, struct lengths len)
{
    size_t before_crc = len.total - CRC_BYTES;
    if (crc_of(p, before_crc) != read_be(p + before_crc, CRC_BYTES))
        return fail(s, EVENTSTREAM_FAULT_MESSAGE_CRC);
    struct eventstream_message m = {
        .headers = span_of(p + PRELUDE_BYTES, len.headers),
        .payload = span_of(p + PRELUDE_BYTES + len.headers, len.total - EVENTSTREAM_OVERHEAD - len.headers),
        .raw = span_of(p, len.total),
    };
    pd_err e = read_headers(s, &m);
    return e ? e : s->on_message(s->ctx, &m);
}

/* Adds to what is held until it is `upto` bytes; *in loses what was taken. */
static pd_err fill(struct eventstream *s, size_t upto, struct span *in)
{
    struct span part = span_upto(*in, upto - buf_size(&s->held));
    *in = span_from(*in, part.n);
    return buf_add(&s->held, part);
}

static void empty(struct eventstream *s)
{
    s->total = 0;
    buf_clear(&s->held);
    if (s->held.capacity > KEPT_BYTES)
        buf_done(&s->held);
}

/* Goes on with the message that earlier feeds began. */
static pd_err feed_held(struct eventstream *s, struct span *in)
{
    struct lengths len;
    pd_err e = PD_OK;
    if (s->total == 0) {
        e = fill(s, PRELUDE_BYTES, in);
        if (e || buf_size(&s->held) < PRELUDE_BYTES)
            return e;
        e = read_prelude(s, s->held.p, &len);
        if (e)
            return e;
        s->total = len.total;
    }
    e = fill(s, s->total, in);
    if (e || buf_size(&s->held) < s->total)
        return e;
    len = (struct lengths){s->total, (size_t)read_be(s->held.p + 4, 4)};
    e = deliver(s, s->held.p, len);
    empty(s);
    return e;
}

pd_err eventstream_feed(struct eventstream *s, struct span in)
{
    pd_err e = PD_OK;
    while (in.n && !e) {
        struct lengths len = {0};
        if (buf_size(&s->held) == 0 && in.n >= PRELUDE_BYTES) {
            e = read_prelude(s, in.p, &len);
            if (e)
                return e;
        }
        if (len.total == 0 || in.n < len.total) {
            e = feed_held(s, &in);
        } else {
            e = deliver(s, in.p, len);
            in = span_from(in, len.total);
        }
    }
    return e;
}

pd_err eventstream_finish(struct eventstream *s)
{
    if (buf_size(&s->held) == 0)
        return PD_OK;
    s->fault = EVENTSTREAM_FAULT_UNFINISHED;
    return PD_CUT;
}

/* ---- writing ---------------------------------------------------------------------------- */

static void put_be(struct buf *out, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out->p[out->tail++] = (char)(v >> 8 * (n - 1 - i));
}

static void put_bytes(struct buf *out, struct span s)
{
    if (s.n)
        memcpy(out->p + out->tail, s.p, s.n);
    buf_added(out, s.n);
}

static size_t string_header_bytes(struct span name, struct span value)
{
    return 1 + name.n + 1 + 2 + value.n;
}

static void put_string_header(struct buf *out, struct span name, struct span value)
{
    put_be(out, name.n, 1);
    put_bytes(out, name);
    put_be(out, EVENTSTREAM_STRING, 1);
    put_be(out, value.n, 2);
    put_bytes(out, value);
}

/* Room for the prelude and the headers behind it; the prelude is written when the payload's size is known. */
pd_err eventstream_begin(struct buf *out, const char *message_type, struct span type, struct span content_type,
                         size_t *ret_at)
{
    bool exception = strcmp(message_type, "exception") == 0;
    assert(exception || strcmp(message_type, "event") == 0);
    /* In the order in which Bedrock sends them. */
    const struct {
        struct span name, value;
    } headers[] = {
        {exception ? SPAN_LIT(":exception-type") : SPAN_LIT(":event-type"), type},
        {SPAN_LIT(":content-type"), content_type},
        {SPAN_LIT(":message-type"), span_str(message_type)},
    };
    if (type.n > VALUE_MOST_BYTES || content_type.n > VALUE_MOST_BYTES)
        return PD_TOOBIG;
    size_t headers_n = 0;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (headers[i].value.n)
            headers_n += string_header_bytes(headers[i].name, headers[i].value);
    pd_err e = buf_reserve(out, EVENTSTREAM_OVERHEAD + headers_n);
    if (e)
        return e;

    *ret_at = buf_size(out);
    put_be(out, 0, 4); /* the total: eventstream_end() knows it */
    put_be(out, headers_n, 4);
    put_be(out, 0, CRC_BYTES);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        if (headers[i].value.n)
            put_string_header(out, headers[i].name, headers[i].value);
    return PD_OK;
}

static void drop_from(struct buf *out, size_t at)
{
    out->tail = out->head + at;
}

pd_err eventstream_end(struct buf *out, size_t at)
{
    size_t total = buf_size(out) - at + CRC_BYTES;
    pd_err e = total > EVENTSTREAM_MAX_MESSAGE ? PD_TOOBIG : buf_reserve(out, CRC_BYTES);
    if (e) {
        drop_from(out, at);
        return e;
    }
    size_t end = out->tail;
    char *start = out->p + out->head + at;
    out->tail = out->head + at;
    put_be(out, total, 4);
    out->tail += 4; /* the headers' length stands there */
    put_be(out, crc_of(start, PRELUDE_BYTES - CRC_BYTES), CRC_BYTES);
    out->tail = end;
    put_be(out, crc_of(start, total - CRC_BYTES), CRC_BYTES);
    return PD_OK;
}

pd_err eventstream_put(struct buf *out, const char *message_type, struct span type, struct span content_type,
                       struct span payload)
{
    size_t at, before = buf_size(out);
    if (payload.n > EVENTSTREAM_MAX_MESSAGE)
        return PD_TOOBIG;
    pd_err e = eventstream_begin(out, message_type, type, content_type, &at);
    if (e)
        return e;
    e = buf_reserve(out, payload.n + CRC_BYTES);
    if (e) {
        drop_from(out, before);
        return e;
    }
    put_bytes(out, payload);
    return eventstream_end(out, at);
}
