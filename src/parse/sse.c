#include "parse/sse.h"

#include "base/buf.h"
#include "base/mem.h"

#include <assert.h>

/* Of the buffers, this much stays between events: enough that ordinary events take no memory
 * anew, little enough that thousands of idle streams do not keep one large event each. */
enum { SSE_KEPT_BYTES = 16 * 1024 };

/* Offsets are from the first byte of the unfinished event, wherever that lies now. */
struct part {
    size_t at, n;
};

struct sse {
    sse_fn *on_event;
    void *ctx;
    size_t max_event;

    struct buf held; /* the unfinished event, as far as earlier feeds had it */
    size_t line_at;  /* in held: where its unfinished line starts */
    bool cr_waits;   /* held ends in a CR, and an LF may yet belong to it */
    bool cr_alone;   /* the last CR was a line end by itself: such streams need not wait */
    bool skip_lf;    /* the last feed ended in a CR that was taken for a line end */
    bool begun;      /* the first line, which may have a byte order mark, is over */

    bool fields; /* the unfinished event has a line of its own, not only blank ones */
    unsigned data_lines;
    struct part type, id, data;
    struct buf joined; /* the data, when it has several lines */
};

struct sse *sse_new(size_t max_event, sse_fn *on_event, void *ctx)
{
    assert(max_event > 0);
    struct sse *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    s->on_event = on_event;
    s->ctx = ctx;
    s->max_event = max_event;
    buf_init(&s->held, max_event);
    buf_init(&s->joined, max_event);
    return s;
}

struct sse *sse_free(struct sse *s)
{
    if (!s)
        return NULL;
    buf_done(&s->held);
    buf_done(&s->joined);
    mem_free(s);
    return NULL;
}

size_t sse_pending(const struct sse *s)
{
    return buf_size(&s->held);
}

/* All that is held; there is something. */
static struct span held_bytes(const struct sse *s)
{
    assert(s->held.p);
    return buf_span(&s->held);
}

static void empty(struct buf *b)
{
    buf_clear(b);
    if (b->capacity > SSE_KEPT_BYTES)
        buf_done(b);
}

static struct span part_of(const char *base, struct part part)
{
    return span_of(base + part.at, part.n);
}

/* Hands on the event that starts at `base` and whose source is raw_n bytes. */
static pd_err deliver(struct sse *s, const char *base, size_t raw_n)
{
    struct sse_event ev = {.kind = SSE_EVENT, .raw = span_of(base, raw_n), .has_data = s->data_lines > 0};
    ev.type = part_of(base, s->type);
    ev.id = part_of(base, s->id);
    ev.data = s->data_lines > 1 ? buf_span(&s->joined) : part_of(base, s->data);
    pd_err e = s->on_event(s->ctx, &ev);

    if (s->data_lines > 1)
        empty(&s->joined);
    s->fields = false;
    s->data_lines = 0;
    s->type = s->id = s->data = (struct part){0, 0};
    return e;
}

static pd_err deliver_line(struct sse *s, enum sse_kind kind, struct span line, struct span raw)
{
    struct sse_event ev = {.kind = kind, .data = line, .raw = raw};
    return s->on_event(s->ctx, &ev);
}

static pd_err add_data(struct sse *s, const char *base, struct part value)
{
    pd_err e = PD_OK;
    if (s->data_lines == 0) {
        s->data = value;
    } else {
        if (s->data_lines == 1)
            e = buf_add(&s->joined, part_of(base, s->data));
        if (!e)
            e = buf_add(&s->joined, SPAN_LIT("\n"));
        if (!e)
            e = buf_add(&s->joined, part_of(base, value));
    }
    s->data_lines++;
    return e;
}

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* How long the field name at the start of a line is; 0 when the line is no field. */
static size_t name_size(struct span line)
{
    size_t n = 0;
    while (n < line.n && name_byte(line.p[n]))
        n++;
    if (n < line.n)
        return line.p[n] == ':' ? n : 0;
    bool known = span_is(line, "data") || span_is(line, "event") || span_is(line, "id") || span_is(line, "retry");
    return known ? n : 0;
}

static pd_err add_field(struct sse *s, const char *base, struct part line, size_t name_n)
{
    s->fields = true;
    struct span name = span_of(base + line.at, name_n);
    size_t skip = name_n;
    if (skip < line.n) /* the colon, and one space after it */
        skip += skip + 1 < line.n && name.p[skip + 1] == ' ' ? 2 : 1;
    struct part value = {line.at + skip, line.n - skip};

    if (span_is(name, "data"))
        return add_data(s, base, value);
    if (span_is(name, "event"))
        s->type = value;
    else if (span_is(name, "id") && !(value.n && memchr(base + value.at, '\0', value.n)))
        s->id = value;
    return PD_OK;
}

/* One line is there. `end_at` is where the next one starts. *ret_gone says that all before end_at
 * was handed on, so that the next event starts there. */
static pd_err take_line(struct sse *s, const char *base, struct part line, size_t end_at, bool *ret_gone)
{
    *ret_gone = false;
    if (end_at > s->max_event)
        return PD_TOOBIG;
    if (!s->begun) {
        s->begun = true;
        if (line.n >= 3 && memcmp(base + line.at, "\xef\xbb\xbf", 3) == 0)
            line = (struct part){line.at + 3, line.n - 3};
    }
    if (line.n == 0) {
        *ret_gone = s->fields;
        return s->fields ? deliver(s, base, end_at) : PD_OK;
    }
    struct span text = part_of(base, line);
    if (text.p[0] == ':') {
        if (s->fields)
            return PD_OK; /* in the middle of an event it is part of its raw, or raw would be in two pieces */
        *ret_gone = true;
        return deliver_line(s, SSE_COMMENT, span_from(text, 1), span_of(base, end_at));
    }
    size_t name_n = text.n >= 5 && memcmp(text.p, "data:", 5) == 0 ? 4 : name_size(text);
    if (name_n)
        return add_field(s, base, line, name_n);

    size_t raw_at = 0;
    if (s->fields) {
        raw_at = line.at;
        pd_err e = deliver(s, base, raw_at);
        if (e)
            return e;
    }
    *ret_gone = true;
    return deliver_line(s, SSE_BARE, text, span_of(base + raw_at, end_at - raw_at));
}

/* The line that ends in held is over; its line end takes the last `end_n` bytes. */
static pd_err take_held_line(struct sse *s, size_t end_n)
{
    size_t size = buf_size(&s->held);
    struct part line = {s->line_at, size - end_n - s->line_at};
    bool gone;
    s->cr_waits = false;
    pd_err e = take_line(s, held_bytes(s).p, line, size, &gone);
    if (gone)
        empty(&s->held);
    s->line_at = buf_size(&s->held);
    return e;
}

/* The next CR and LF of a feed. Each byte is looked at once for each, however the lines end. */
struct eol {
    const char *cr, *lf, *end;
};

static const char *eol_next(struct eol *l, const char *from)
{
    size_t n = (size_t)(l->end - from);
    if (!l->lf || l->lf < from) {
        const char *at = memchr(from, '\n', n);
        l->lf = at ? at : l->end;
    }
    if (!l->cr || l->cr < from) {
        const char *at = memchr(from, '\r', n);
        l->cr = at ? at : l->end;
    }
    return l->lf < l->cr ? l->lf : l->cr;
}

/* Settles what the last feed left open: a CR at its very end. Returns how many bytes of `in` that took. */
static pd_err settle_cr(struct sse *s, struct span in, size_t *ret_used)
{
    bool lf = in.p[0] == '\n';
    *ret_used = 0;
    if (s->cr_waits) {
        s->cr_alone = !lf;
        if (!lf)
            return take_held_line(s, 1);
        *ret_used = 1;
        pd_err e = buf_add(&s->held, span_upto(in, 1));
        return e ? e : take_held_line(s, 2);
    }
    if (s->skip_lf && lf) {
        /* The line was taken already: the LF goes to what comes next, and is no blank line. */
        s->cr_alone = false;
        *ret_used = 1;
        pd_err e = buf_add(&s->held, span_upto(in, 1));
        s->line_at = buf_size(&s->held);
        s->skip_lf = false;
        return e;
    }
    s->skip_lf = false;
    return PD_OK;
}

/* Keeps the end of a feed that belongs to an unfinished line. */
static pd_err hold(struct sse *s, const char *start, const char *line, const char *end)
{
    if (start == end)
        return PD_OK;
    if (buf_size(&s->held) == 0)
        s->line_at = (size_t)(line - start);
    return buf_add(&s->held, span_of(start, (size_t)(end - start)));
}

pd_err sse_feed(struct sse *s, struct span in)
{
    if (in.n == 0)
        return PD_OK;
    size_t used;
    pd_err e = settle_cr(s, in, &used);
    if (e)
        return e;

    const char *end = in.p + in.n;
    const char *line = in.p + used; /* where the line starts, or goes on */
    const char *start = line;       /* where the event starts, or goes on */
    struct eol eol = {NULL, NULL, end};
    while (line < end) {
        const char *at = eol_next(&eol, line);
        if (at == end)
            break;
        const char *next = at + 1;
        if (*at == '\r') {
            if (next == end && !s->cr_alone) {
                s->cr_waits = true;
                break;
            }
            s->cr_alone = next == end || *next != '\n';
            s->skip_lf = next == end;
            next += s->cr_alone ? 0 : 1;
        }
        if (buf_size(&s->held)) {
            e = buf_add(&s->held, span_of(line, (size_t)(next - line)));
            if (!e)
                e = take_held_line(s, (size_t)(next - at));
            start = next;
        } else {
            bool gone;
            struct part part = {(size_t)(line - start), (size_t)(at - line)};
            e = take_line(s, start, part, (size_t)(next - start), &gone);
            if (gone)
                start = next;
        }
        if (e)
            return e;
        line = next;
    }
    return hold(s, start, line, end);
}

/* The stream was cut inside a field's name: that is no text line. */
static bool cut_name(struct span line)
{
    static const char *const names[] = {"data", "event", "id", "retry"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (line.n <= strlen(names[i]) && memcmp(line.p, names[i], line.n) == 0)
            return true;
    return false;
}

pd_err sse_finish(struct sse *s)
{
    if (buf_size(&s->held) == 0)
        return PD_OK;
    pd_err e = PD_OK;
    struct span rest = span_from(held_bytes(s), s->line_at);
    if (s->cr_waits)
        e = take_held_line(s, 1);
    else if (rest.n && !cut_name(rest))
        e = take_held_line(s, 0);
    if (e || buf_size(&s->held) == 0)
        return e;
    e = deliver(s, held_bytes(s).p, buf_size(&s->held));
    empty(&s->held);
    s->line_at = 0;
    return e;
}
