/* A streamed answer, event by event: what it holds, and its bytes in proper framing.
 *
 * Most of what comes is SSE and goes on as it is. What some servers do instead is put right here: JSON lines without
 * "data:", several objects in one event because a blank line is missing, an error as a bare line, or over many lines, at the
 * end. The items of one array that is sent piece by piece become events. AWS's event streams go on as they are too, to clients that
 * speak them. */
#include "dialect/embed.h"
#include "dialect/reader_priv.h"

#include "base/mem.h"
#include "parse/base64.h"
#include "parse/eventstream.h"
#include "parse/jsonarray.h"
#include "parse/put.h"
#include "parse/sse.h"

#include <assert.h>
#include <stdio.h>

struct answer {
    const struct codec *codec;
    enum framing framing;
    struct sse *sse;            /* FRAMING_LINES */
    struct eventstream *frames; /* FRAMING_EVENTSTREAM, FRAMING_CHUNKS */
    struct buf inner;           /* the object that a frame was made around, or an error put together */
    struct jsonarray *array;    /* FRAMING_ARRAY */
    struct arena arena;
    struct reader *reader;
    answer_fn *on_event;
    void *ctx;
    struct buf frame; /* an event that had to be framed anew */
    struct buf bare;  /* bare lines that may be the beginning of an error */
    unsigned bare_looks;
};

/* Of an error over many bare lines: its bytes, and how often it is looked at whether it is whole. */
enum { BARE_MAX = 64 * 1024, BARE_LOOKS_MAX = 16 };

static pd_err on_sse(void *ctx, const struct sse_event *ev);
static pd_err on_frame(void *ctx, const struct eventstream_message *m);
static pd_err on_item(void *ctx, struct span item);

static bool open_framing(struct answer *an)
{
    switch (an->framing) {
    case FRAMING_LINES:
        an->sse = sse_new(ANSWER_EVENT_MAX, on_sse, an);
        return an->sse != NULL;
    case FRAMING_ARRAY:
        an->array = jsonarray_new(ANSWER_EVENT_MAX, on_item, an);
        return an->array != NULL;
    case FRAMING_EVENTSTREAM:
    case FRAMING_CHUNKS:
        an->frames = eventstream_new(ANSWER_EVENT_MAX, on_frame, an);
        return an->frames != NULL;
    }
    return false;
}

struct answer *answer_new(const struct codec *c, enum framing framing, answer_fn *on_event, void *ctx)
{
    assert(c->streams);
    struct answer *an = mem_zalloc(sizeof(*an));
    if (!an)
        return NULL;
    an->codec = c;
    an->framing = framing;
    an->on_event = on_event;
    an->ctx = ctx;
    arena_init(&an->arena, 128, 0); /* an id, a model and a finish reason, nearly always */
    buf_init(&an->frame, 0);        /* these as large as an event at most */
    buf_init(&an->inner, 0);
    buf_init(&an->bare, BARE_MAX);
    if (!open_framing(an) || reader_new(c, &an->arena, false, &an->reader))
        return answer_free(an);
    return an;
}

struct answer *answer_free(struct answer *an)
{
    if (!an)
        return NULL;
    sse_free(an->sse);
    eventstream_free(an->frames);
    jsonarray_free(an->array);
    reader_free(an->reader);
    buf_done(&an->frame);
    buf_done(&an->inner);
    buf_done(&an->bare);
    arena_done(&an->arena);
    mem_free(an);
    return NULL;
}

void answer_on_delta(struct answer *an, msg_delta_fn *fn, void *ctx)
{
    an->reader->on_delta = fn;
    an->reader->ctx = ctx;
}

const struct answer_facts *answer_facts(const struct answer *an)
{
    return &an->reader->facts;
}

struct answer_facts *answer_own_facts(struct answer *an)
{
    return &an->reader->facts;
}

/* ---- one event ---------------------------------------------------------------- */

/* How an object stood in the source, and so whether it can go on as it is. */
enum standing {
    FRAMED, /* an event of its own */
    JOINED, /* one of several in an event */
    BARE,   /* a line without "data:" */
};

/* On one line, as all clients can read it: in JSON a line end is white space. */
static pd_err frame(struct answer *an, struct span data, struct span *ret)
{
    buf_clear(&an->frame);
    pd_err e = buf_puts(&an->frame, "data: ");
    for (struct span rest = data; !e && rest.p;) {
        struct span line = span_cut(&rest, '\n');
        e = buf_add(&an->frame, rest.p ? span_trim(line) : line);
        if (!e && rest.p)
            e = buf_puts(&an->frame, " ");
    }
    if (!e)
        e = buf_puts(&an->frame, "\n\n");
    if (!e)
        *ret = buf_span(&an->frame);
    return e;
}

/* With the event's type in front of it, as clients of some formats need it. */
static pd_err frame_named(struct answer *an, struct span type, struct span data, struct span *ret)
{
    char head[ANSWER_WORD_MAX + sizeof("event: \n")];
    pd_err e = frame(an, data, ret);
    if (e || !type.n || type.n > ANSWER_WORD_MAX)
        return e;
    int n = snprintf(head, sizeof(head), "event: %.*s\n", SPAN_FMT(type));
    e = buf_reserve(&an->frame, (size_t)n);
    if (e)
        return e;
    memmove(an->frame.p + an->frame.head + n, an->frame.p + an->frame.head, buf_size(&an->frame));
    memcpy(an->frame.p + an->frame.head, head, (size_t)n);
    buf_added(&an->frame, (size_t)n);
    *ret = buf_span(&an->frame);
    return PD_OK;
}

static pd_err give(struct answer *an, unsigned holds, struct span raw)
{
    struct answer_event ev = {.holds = holds, .raw = raw};
    return an->on_event(an->ctx, &ev);
}

static pd_err give_malformed(struct answer *an, struct span raw)
{
    an->reader->facts.malformed++;
    return give(an, ANSWER_MALFORMED, raw);
}

static pd_err give_done(struct answer *an, struct span raw, enum standing standing)
{
    pd_err e = standing == FRAMED ? PD_OK : frame(an, SPAN_LIT("[DONE]"), &raw);
    an->reader->facts.done = true;
    return e ? e : give(an, ANSWER_DONE, raw);
}

/* A chunk before any output: nothing in it ties the client to this answer yet. */
static bool is_start(const struct answer *an, unsigned holds)
{
    return !an->reader->facts.has_output && !(holds & (ANSWER_FINISH | ANSWER_ONLY_USAGE | ANSWER_ERROR));
}

/* An event of the type "error" is one, whatever the object looks like. */
static pd_err give_object(struct answer *an, struct span type, struct json obj, struct span raw,
                          enum standing standing)
{
    struct answer_event ev = {.type = type, .raw = raw, .json = obj};
    bool says_error = span_is(type, "error");
    pd_err e = an->codec->reader->read(an->reader, type, obj, &ev.holds, &ev.error);
    if (e)
        return e;
    if (says_error && !(ev.holds & ANSWER_ERROR)) {
        ev.error = obj;
        ev.holds |= ANSWER_ERROR;
        an->reader->facts.error = true;
    }
    if (is_start(an, ev.holds))
        ev.holds |= ANSWER_START;
    if (!(standing == BARE && (ev.holds & ANSWER_ERROR))) /* an error in place of an event is none */
        an->reader->facts.events++;
    if (an->codec->names_events && (standing != FRAMED || !type.n))
        e = frame_named(an, json_inner(json_get(obj, "type")), obj.raw, &ev.raw);
    else if (standing != FRAMED)
        e = frame(an, obj.raw, &ev.raw);
    return e ? e : an->on_event(an->ctx, &ev);
}

/* An error event whose data is text: put into the shape that errors have. */
static pd_err give_error_text(struct answer *an, struct span text)
{
    struct buf b;
    buf_init(&b, 0);
    pd_err e = buf_puts(&b, "{\"error\":");
    if (!e)
        e = json_put_str(&b, text);
    if (!e)
        e = buf_puts(&b, "}");
    if (!e)
        e = give_object(an, SPAN_LIT("error"), (struct json){JSON_OBJECT, buf_span(&b)}, SPAN_NONE, JOINED);
    buf_done(&b);
    return e;
}

static bool is_done(struct span s)
{
    return span_is(s, "[DONE]");
}

/* Is all of s one object? */
static bool whole_object(struct span s, struct json *ret)
{
    if (s.n == 0 || s.p[0] != '{' || json_check(s))
        return false;
    *ret = (struct json){JSON_OBJECT, s};
    return true;
}

/* The next piece of data in which several things were joined: an object, or else what is up to the line end. */
static struct span next_piece(struct span *rest)
{
    struct json first;
    struct span after, all = *rest;
    if (all.p[0] == '{' && json_first(all, &first, &after) == PD_OK) {
        *rest = span_trim(after);
        return first.raw;
    }
    struct span line = span_trim(span_cut(rest, '\n'));
    *rest = span_trim(*rest);
    return line;
}

enum { JOINED_FAULTS_MAX = 16 }; /* in one event; each costs a look at all that follows */

static pd_err take_pieces(struct answer *an, struct span data)
{
    unsigned faults = 0;
    while (data.n) {
        struct json obj;
        pd_err e;
        if (faults == JOINED_FAULTS_MAX)
            return give_malformed(an, data);
        struct span piece = next_piece(&data);
        if (is_done(piece))
            e = give_done(an, SPAN_NONE, JOINED);
        else if (whole_object(piece, &obj))
            e = give_object(an, SPAN_NONE, obj, SPAN_NONE, JOINED);
        else {
            e = give_malformed(an, piece);
            faults++;
        }
        if (e)
            return e;
    }
    return PD_OK;
}

static bool several(struct span data)
{
    struct json first;
    struct span rest;
    if (memchr(data.p, '\n', data.n))
        return true;
    return json_first(data, &first, &rest) == PD_OK && span_trim(rest).n > 0;
}

static pd_err take_event(struct answer *an, const struct sse_event *ev)
{
    struct span data = span_trim(ev->data);
    struct json obj;
    bool says_error = span_is(ev->type, "error");
    if (data.n == 0)
        return give(an, ANSWER_KEEPALIVE, ev->raw);
    if (is_done(data))
        return give_done(an, ev->raw, FRAMED);
    if (whole_object(data, &obj))
        return give_object(an, ev->type, obj, ev->raw, FRAMED);
    if (says_error)
        return give_error_text(an, data);
    return several(data) ? take_pieces(an, data) : give_malformed(an, ev->raw);
}

static pd_err give_bare(struct answer *an, struct json obj, struct span raw)
{
    bool chunk = an->codec->reader->is_event && an->codec->reader->is_event(obj);
    if (!chunk && answer_error_in(obj).type == JSON_NONE)
        return give_malformed(an, raw);
    return give_object(an, SPAN_NONE, obj, raw, an->codec->lines ? FRAMED : BARE);
}

/* ---- an error over many bare lines --------------------------------------------- */

static void forget_bare(struct answer *an)
{
    buf_done(&an->bare);
    an->bare_looks = 0;
}

/* What was gathered is no error after all. */
static pd_err flush_bare(struct answer *an)
{
    if (!buf_size(&an->bare))
        return PD_OK;
    pd_err e = give_malformed(an, buf_span(&an->bare));
    forget_bare(an);
    return e;
}

/* All of it is an object, or a list with one (Gemini puts errors into a list). */
static bool gathered_object(struct span text, struct json *ret)
{
    if (json_doc(text, ret))
        return false;
    if (ret->type == JSON_ARRAY)
        *ret = json_path(*ret, "0");
    return ret->type == JSON_OBJECT;
}

/* A line that may be the last. */
static pd_err look_at_bare(struct answer *an)
{
    struct json obj;
    struct span text = span_trim(buf_span(&an->bare));
    if (!gathered_object(text, &obj))
        return ++an->bare_looks < BARE_LOOKS_MAX ? PD_OK : flush_bare(an);
    if (answer_error_in(obj).type == JSON_NONE) /* a whole body is no stream */
        return flush_bare(an);
    pd_err e = give_object(an, SPAN_NONE, obj, text, BARE);
    forget_bare(an);
    return e;
}

static pd_err gather_bare(struct answer *an, struct span line)
{
    if (buf_size(&an->bare) + line.n + 1 > BARE_MAX) {
        pd_err e = flush_bare(an);
        return e ? e : give_malformed(an, line);
    }
    pd_err e = buf_add(&an->bare, line);
    if (!e)
        e = buf_puts(&an->bare, "\n");
    bool closes = line.p[0] == '}' || line.p[0] == ']';
    return e || !closes ? e : look_at_bare(an);
}

/* Only lines that can begin an object are kept waiting for its end. */
static bool begins_object(const struct answer *an, struct span line)
{
    return buf_size(&an->bare) || line.p[0] == '{' || line.p[0] == '[';
}

static pd_err take_bare(struct answer *an, const struct sse_event *ev)
{
    struct span line = span_trim(ev->data);
    struct json obj;
    if (line.n == 0)
        return give(an, ANSWER_KEEPALIVE, ev->raw);
    bool gathering = buf_size(&an->bare) > 0;
    if (!gathering && is_done(line))
        return give_done(an, ev->raw, BARE);
    if ((!gathering || an->codec->lines) &&
        whole_object(line, &obj)) { /* in a stream of lines, whatever came before */
        pd_err e = flush_bare(an);
        return e ? e : give_bare(an, obj, ev->raw);
    }
    return begins_object(an, line) ? gather_bare(an, ev->data) : give_malformed(an, ev->raw);
}

static pd_err on_sse(void *ctx, const struct sse_event *ev)
{
    struct answer *an = ctx;
    pd_err e = ev->kind == SSE_BARE ? PD_OK : flush_bare(an);
    if (e)
        return e;
    switch (ev->kind) {
    case SSE_COMMENT:
        an->reader->facts.comments++;
        return give(an, ANSWER_KEEPALIVE, ev->raw);
    case SSE_BARE:
        return take_bare(an, ev);
    case SSE_EVENT:
        break;
    }
    return take_event(an, ev);
}

/* ---- the items of an array ------------------------------------------------------- */

static pd_err on_item(void *ctx, struct span item)
{
    struct answer *an = ctx;
    struct json obj;
    return whole_object(item, &obj) ? give_object(an, SPAN_NONE, obj, SPAN_NONE, JOINED)
                                    : give_malformed(an, item);
}

/* ---- AWS event streams ---------------------------------------------------------- */

/* A frame's object in the client's framing: as server-sent event when the format is one of these (Claude at InvokeModel). */
static pd_err reframe(struct answer *an, struct span type, struct span data, struct span *raw)
{
    bool sse = an->codec->stream_type && span_starts(span_str(an->codec->stream_type), "text/event-stream");
    return sse ? frame_named(an, type, data, raw) : PD_OK;
}

/* {"__type": NAME, "message": ...}, and what else the exception told: as an error has it that comes with a status. */
static pd_err put_exception(struct buf *out, const struct eventstream_message *m)
{
    struct json payload = {0};
    bool object = whole_object(span_trim(m->payload), &payload);
    struct span name = m->exception_type.n ? m->exception_type : m->error_code;
    struct put p = put_into(out);
    put_text(&p, "{\"__type\":");
    put_json(&p, name);
    struct span members = object ? span_trim(span_of(payload.raw.p + 1, payload.raw.n - 2)) : SPAN_NONE;
    if (members.n) {
        put_text(&p, ",");
        put_span(&p, members);
    } else {
        put_text(&p, ",\"message\":");
        put_json(&p, m->error_message.n ? m->error_message : m->payload);
    }
    put_text(&p, "}");
    return p.err;
}

static pd_err give_exception(struct answer *an, const struct eventstream_message *m)
{
    struct span name = m->exception_type.n ? m->exception_type : m->error_code;
    buf_clear(&an->inner);
    pd_err e = put_exception(&an->inner, m);
    if (e)
        return e;
    struct json obj = {JSON_OBJECT, buf_span(&an->inner)};
    struct answer_event ev = {.holds = ANSWER_ERROR, .type = name, .raw = m->raw, .json = obj, .error = obj};
    an->reader->facts.error = true;
    an->reader->facts.events++;
    e = reframe(an, SPAN_LIT("error"), obj.raw, &ev.raw);
    return e ? e : an->on_event(an->ctx, &ev);
}

/* {"bytes": "..."} around an event of another format. */
static pd_err take_chunk(struct answer *an, struct json around, struct span raw)
{
    struct json bytes = json_get(around, "bytes"), obj;
    buf_clear(&an->inner);
    pd_err e = bytes.type == JSON_STRING ? base64_decode(json_inner(bytes), &an->inner) : PD_SYNTAX;
    if (e == PD_SYNTAX || (!e && !whole_object(span_trim(buf_span(&an->inner)), &obj)))
        return give_malformed(an, raw);
    struct span type = e ? SPAN_NONE : json_inner(json_get(obj, "type"));
    if (!e)
        e = reframe(an, type, obj.raw, &raw);
    return e ? e : give_object(an, type, obj, raw, FRAMED);
}

static pd_err on_frame(void *ctx, const struct eventstream_message *m)
{
    struct answer *an = ctx;
    struct json obj;
    if (!span_is(m->message_type, "event"))
        return give_exception(an, m);
    if (!whole_object(span_trim(m->payload), &obj))
        return m->payload.n ? give_malformed(an, m->raw) : give(an, ANSWER_KEEPALIVE, m->raw);
    if (an->framing == FRAMING_CHUNKS)
        return take_chunk(an, obj, m->raw);
    return give_object(an, m->event_type, obj, m->raw, FRAMED);
}

/* ---- the whole stream ----------------------------------------------------------- */

pd_err answer_feed(struct answer *an, struct span bytes)
{
    if (an->frames)
        return eventstream_feed(an->frames, bytes);
    return an->array ? jsonarray_feed(an->array, bytes) : sse_feed(an->sse, bytes);
}

pd_err answer_finish(struct answer *an, enum answer_end *ret)
{
    pd_err e = an->frames  ? eventstream_finish(an->frames)
               : an->array ? jsonarray_finish(an->array)
                           : sse_finish(an->sse);
    bool cut = e == PD_CUT; /* inside an event */
    if (!e)
        e = flush_bare(an);
    if (e && !cut)
        return e;
    *ret = an->codec->reader->end(an->reader);
    if (cut && *ret != ANSWER_FAILED)
        *ret = ANSWER_CUT;
    return PD_OK;
}

/* ---- a whole answer --------------------------------------------------------------- */

static pd_err read_chat(const struct codec *c, struct json obj, struct arena *a, struct answer_facts *ret,
                        enum answer_end *ret_end, msg_delta_fn *on_delta, void *ctx)
{
    struct reader *r;
    struct json error = {0};
    unsigned holds = 0;
    pd_err e = reader_new(c, a, true, &r);
    if (e)
        return e;
    r->on_delta = on_delta;
    r->ctx = ctx;
    e = c->reader->read(r, SPAN_NONE, obj, &holds, &error);
    if (!e) {
        *ret = r->facts;
        *ret_end = c->reader->end(r);
    }
    reader_free(r);
    return e;
}

static pd_err read_vectors(const struct codec *c, struct json obj, struct arena *a, struct answer_facts *ret,
                           enum answer_end *ret_end)
{
    struct embed_answer an;
    pd_err e = c->embed->read(obj.raw, a, &an, ret_end);
    if (e)
        return e;
    ret->usage = an.usage;
    ret->model = an.model;
    ret->id = an.id;
    ret->has_output = an.count > 0;
    ret->error = *ret_end == ANSWER_FAILED;
    return PD_OK;
}

static void read_count(const struct codec *c, struct json obj, struct answer_facts *ret, enum answer_end *ret_end)
{
    ret->has_output = c->count->read(obj, &ret->usage.input_total);
    ret->error = !ret->has_output && answer_error_in(obj).type != JSON_NONE;
    *ret_end = ret->has_output ? ANSWER_COMPLETE : ret->error ? ANSWER_FAILED : ANSWER_EMPTY;
}

static pd_err read_object(const struct codec *c, struct json obj, struct arena *a, struct answer_facts *ret,
                          enum answer_end *ret_end, msg_delta_fn *on_delta, void *ctx)
{
    switch (c->kind) {
    case CODEC_EMBED:
        return read_vectors(c, obj, a, ret, ret_end);
    case CODEC_COUNT:
        read_count(c, obj, ret, ret_end);
        return PD_OK;
    case CODEC_CHAT:
        break;
    }
    return read_chat(c, obj, a, ret, ret_end, on_delta, ctx);
}

pd_err answer_read_whole(const struct codec *c, struct span body, struct arena *a, struct answer_facts *ret,
                         enum answer_end *ret_end, msg_delta_fn *on_delta, void *ctx)
{
    struct answer_facts none = {.usage = MSG_USAGE_NONE};
    struct span text = span_trim(body); /* empty lines before it are keep-alives of a server that was busy */
    if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
        text = span_trim(span_from(text, 3));
    *ret = none;
    if (text.n == 0) {
        *ret_end = ANSWER_EMPTY;
        return PD_OK;
    }
    struct json v;
    if (json_doc(text, &v)) {
        *ret_end = ANSWER_CUT;
        return PD_OK;
    }
    if (v.type == JSON_ARRAY)
        v = json_path(v, "0"); /* some wrap an error in a list */
    if (v.type == JSON_OBJECT)
        return read_object(c, v, a, ret, ret_end, on_delta, ctx);
    ret->error = v.type == JSON_STRING; /* a sentence in place of an answer */
    *ret_end = ret->error ? ANSWER_FAILED : ANSWER_EMPTY;
    return PD_OK;
}
