/* What was shown of an answer: a log of deltas.
 *
 * An entry is a head of fixed size, then the delta's id, type, item and text. The text stands last, so that a piece that goes on
 * with it is appended and only the head's count changes. The same bytes are what a file has. */
#include "dialect/shown.h"

#include "base/mem.h"
#include "parse/json.h"

#include <assert.h>
#include <endian.h>

enum {
    HEAD_MARK = 0xd5, /* the first byte of each entry */
    /* offsets in the head; numbers are little-endian */
    AT_MARK = 0,
    AT_KIND = 1,
    AT_MAKER = 2,
    AT_STEP = 3, /* of STEP; its highest bit: legacy_function */
    AT_CHOICE = 4,
    AT_TOOL = 8,
    AT_PLACE = 12,
    AT_ID = 16, /* bytes of each */
    AT_TYPE = 20,
    AT_ITEM = 24,
    AT_TEXT = 28,
    HEAD = 32,
    LEGACY = 0x80,
};

void shown_init(struct shown *s)
{
    *s = (struct shown){0};
    buf_init(&s->log, SHOWN_MAX);
}

void shown_done(struct shown *s)
{
    buf_done(&s->log);
    mem_free(s->identity);
    shown_init(s);
}

void shown_clear(struct shown *s)
{
    struct buf log = s->log;
    mem_free(s->identity);
    *s = (struct shown){0};
    s->log = log;
    buf_clear(&s->log);
}

/* ---- heads ---------------------------------------------------------------------- */

/* Little-endian in one step: heads are read and written with every delta. */
static void put_number(char *p, uint32_t n)
{
    n = htole32(n);
    memcpy(p, &n, sizeof(n));
}

static uint32_t number_at(const char *p)
{
    uint32_t n;
    memcpy(&n, p, sizeof(n));
    return le32toh(n);
}

static void put_head(char *p, const struct msg_delta *d)
{
    p[AT_MARK] = (char)HEAD_MARK;
    p[AT_KIND] = (char)d->kind;
    p[AT_MAKER] = (char)d->maker;
    p[AT_STEP] = (char)((int)d->step | (d->legacy_function ? LEGACY : 0));
    put_number(p + AT_CHOICE, (uint32_t)d->choice);
    put_number(p + AT_TOOL, (uint32_t)d->tool);
    put_number(p + AT_PLACE, (uint32_t)d->place);
    put_number(p + AT_ID, (uint32_t)d->id.n);
    put_number(p + AT_TYPE, (uint32_t)d->type.n);
    put_number(p + AT_ITEM, (uint32_t)d->item.n);
    put_number(p + AT_TEXT, (uint32_t)d->text.n);
}

static size_t entry_bytes(const char *p)
{
    return (size_t)HEAD + number_at(p + AT_ID) + number_at(p + AT_TYPE) + number_at(p + AT_ITEM) +
           number_at(p + AT_TEXT);
}

static struct span take(const char **p, uint32_t n)
{
    struct span s = span_of(*p, n);
    *p += n;
    return s;
}

/* The entry at p as a delta. */
static struct msg_delta delta_at(const char *p)
{
    const char *rest = p + HEAD;
    struct msg_delta d = {
        .kind = (enum msg_delta_kind)(unsigned char)p[AT_KIND],
        .choice = (int)number_at(p + AT_CHOICE),
        .tool = (int)number_at(p + AT_TOOL),
        .maker = (enum msg_maker)(unsigned char)p[AT_MAKER],
        .legacy_function = ((unsigned char)p[AT_STEP] & LEGACY) != 0,
        .place = (int)number_at(p + AT_PLACE),
        .step = (enum msg_step)((unsigned char)p[AT_STEP] & ~LEGACY),
    };
    d.id = take(&rest, number_at(p + AT_ID));
    d.type = take(&rest, number_at(p + AT_TYPE));
    d.item = take(&rest, number_at(p + AT_ITEM));
    d.text = take(&rest, number_at(p + AT_TEXT));
    return d;
}

/* Does this kind come in pieces that make one text? */
static bool in_pieces(enum msg_delta_kind kind)
{
    return kind == MSG_TEXT || kind == MSG_REASONING || kind == MSG_REFUSAL || kind == MSG_TOOL_ARGUMENTS;
}

/* ---- adding --------------------------------------------------------------------- */

static bool goes_on(const struct msg_delta *a, const struct msg_delta *b)
{
    return in_pieces(a->kind) && a->kind == b->kind && a->choice == b->choice && a->tool == b->tool &&
           a->legacy_function == b->legacy_function && a->place == b->place && span_eq(a->item, b->item) &&
           span_eq(a->id, b->id) && span_eq(a->type, b->type);
}

static void note(struct shown *s, const struct msg_delta *d)
{
    s->many |= d->choice != 0;
    switch (d->kind) {
    case MSG_TEXT:
        s->has_text = true;
        s->text_bytes += d->text.n;
        break;
    case MSG_REASONING:
    case MSG_SEALED:
        s->has_reasoning = true;
        break;
    case MSG_SIGNATURE:
        s->has_reasoning |= d->tool < 0 && d->maker == MSG_MAKER_ANTHROPIC;
        break;
    case MSG_TOOL_START:
    case MSG_TOOL_ARGUMENTS:
        s->has_calls = true;
        break;
    case MSG_REFUSAL:
    case MSG_MEDIA:
    case MSG_LOGPROBS:
    case MSG_HOSTED:
        s->has_other = true;
        break;
    case MSG_CITATION:
    case MSG_STEP:
        break;
    }
}

static pd_err add_piece(struct shown *s, struct span piece)
{
    char *head;
    pd_err e = buf_add(&s->log, piece);
    if (e)
        return e;
    head = s->log.p + s->log.head + s->last_at;
    put_number(head + AT_TEXT, number_at(head + AT_TEXT) + (uint32_t)piece.n);
    return PD_OK;
}

static pd_err add_entry(struct shown *s, const struct msg_delta *d)
{
    const struct span parts[] = {d->id, d->type, d->item, d->text};
    size_t bytes = HEAD, at = buf_size(&s->log);
    for (size_t i = 0; i < 4; i++) {
        if (parts[i].n > SHOWN_MAX)
            return PD_TOOBIG;
        bytes += parts[i].n;
    }
    pd_err e = buf_reserve(&s->log, bytes);
    if (e)
        return e;
    char *p = s->log.p + s->log.tail;
    put_head(p, d);
    p += HEAD;
    for (size_t i = 0; i < 4; i++) {
        if (parts[i].n)
            memcpy(p, parts[i].p, parts[i].n);
        p += parts[i].n;
    }
    buf_added(&s->log, bytes);
    s->last_at = at;
    s->any = true;
    return PD_OK;
}

pd_err shown_add(struct shown *s, const struct msg_delta *d)
{
    if (in_pieces(d->kind) && d->text.n == 0)
        return PD_OK;
    bool on = false;
    if (s->any && in_pieces(d->kind)) {
        struct msg_delta last = delta_at(buf_span(&s->log).p + s->last_at);
        on = goes_on(&last, d);
    }
    pd_err e = on ? add_piece(s, d->text) : add_entry(s, d);
    if (!e)
        note(s, d);
    return e;
}

/* ---- identity ------------------------------------------------------------------- */

/* What is there already, and then this. */
static pd_err set_identity(struct shown *s, struct span id, struct span model)
{
    char *both = mem_alloc(id.n + model.n);
    if (!both)
        return PD_NOMEM;
    if (id.p && id.n)
        memcpy(both, id.p, id.n);
    if (model.p && model.n)
        memcpy(both + id.n, model.p, model.n);
    mem_free(s->identity);
    s->identity = both;
    s->id_bytes = id.n;
    s->model_bytes = model.n;
    return PD_OK;
}

pd_err shown_identity(struct shown *s, struct span id, struct span model, int64_t created)
{
    if (!s->created)
        s->created = created;
    bool fresh = (!s->id_bytes && id.n) || (!s->model_bytes && model.n);
    return fresh ? set_identity(s, s->id_bytes ? shown_id(s) : id, s->model_bytes ? shown_model(s) : model)
                 : PD_OK;
}

struct span shown_id(const struct shown *s)
{
    return span_of(s->identity, s->id_bytes);
}

struct span shown_model(const struct shown *s)
{
    return span_of(s->identity ? s->identity + s->id_bytes : NULL, s->model_bytes);
}

/* ---- characters ----------------------------------------------------------------- */

/* Where the escape begins that has a byte before `at` and one at or behind it; `at` when there is none. */
static size_t escape_begin(struct span text, size_t at)
{
    enum { LONGEST = 6 };
    for (size_t back = 1; back < LONGEST && back <= at; back++) {
        size_t begin = at - back, run = 0;
        if (text.p[begin] != '\\')
            continue;
        while (run < begin && text.p[begin - run - 1] == '\\')
            run++;
        if (run % 2) /* the second half of "\\" */
            continue;
        size_t length = begin + 1 < text.n && text.p[begin + 1] == 'u' ? LONGEST : 2;
        return begin + length > at ? begin : at;
    }
    return at;
}

static bool is_surrogate(struct span text, size_t at, const char *thirds)
{
    return at + 6 <= text.n && text.p[at] == '\\' && text.p[at + 1] == 'u' && (text.p[at + 2] | 0x20) == 'd' &&
           strchr(thirds, text.p[at + 3] | 0x20) && text.p[at + 3];
}

/* The beginning of the character that `at` stands in. */
static size_t character_begin(struct span text, size_t at)
{
    enum { UTF8_MORE = 3 };
    if (at >= text.n)
        return text.n;
    size_t begin = escape_begin(text, at);
    if (begin >= 6 && is_surrogate(text, begin, "cdef") && is_surrogate(text, begin - 6, "89ab") &&
        escape_begin(text, begin - 5) == begin - 6)
        return begin - 6;
    for (unsigned i = 0; i < UTF8_MORE && begin > 0 && ((unsigned char)text.p[begin] & 0xc0) == 0x80; i++)
        begin--;
    return begin;
}

/* ---- telling -------------------------------------------------------------------- */

/* The entry at `at`, of which all before `from` is known. False: nothing of it is new. */
static bool rest_of(const char *log, size_t at, size_t from, struct msg_delta *ret)
{
    size_t end = at + entry_bytes(log + at);
    if (end <= from)
        return false;
    *ret = delta_at(log + at);
    size_t text_at = end - ret->text.n;
    if (from > text_at && in_pieces(ret->kind))
        ret->text = span_from(ret->text, character_begin(ret->text, from - text_at));
    return true;
}

/* Where to begin looking: those who follow an answer ask for its last entry. */
static size_t first_entry(const struct shown *s, size_t from)
{
    return from >= s->last_at ? s->last_at : 0;
}

size_t shown_tell(const struct shown *s, size_t from, msg_delta_fn *fn, void *ctx)
{
    struct span log = buf_span(&s->log);
    struct msg_delta d;
    for (size_t at = first_entry(s, from); at < log.n; at += entry_bytes(log.p + at))
        if (rest_of(log.p, at, from, &d))
            fn(ctx, &d);
    return log.n;
}

size_t shown_tell_some(const struct shown *s, size_t from, size_t most, msg_delta_fn *fn, void *ctx)
{
    struct span log = buf_span(&s->log);
    struct msg_delta d;
    assert(most >= SHOWN_PIECE_LEAST); /* any character is smaller, so that something is told each time */
    for (size_t at = first_entry(s, from), end, told = 0; at < log.n; at = end) {
        end = at + entry_bytes(log.p + at);
        if (!rest_of(log.p, at, from, &d))
            continue;
        if (told && told + d.text.n > most)
            return at;
        if (d.text.n > most && in_pieces(d.kind)) {
            size_t text_at = end - d.text.n;
            d.text = span_upto(d.text, character_begin(d.text, most));
            fn(ctx, &d);
            return text_at + d.text.n;
        }
        fn(ctx, &d);
        told += end - at;
    }
    return log.n;
}

pd_err shown_text(const struct shown *s, struct buf *out)
{
    struct span log = buf_span(&s->log), text = SPAN_NONE;
    struct buf quoted;
    struct arena a;
    if (!s->has_text)
        return PD_OK;
    buf_init(&quoted, 0);
    arena_init(&a, 0, 0);
    pd_err e = buf_puts(&quoted, "\"");
    for (size_t at = 0; at < log.n && !e; at += entry_bytes(log.p + at)) {
        struct msg_delta d = delta_at(log.p + at);
        if (d.kind == MSG_TEXT && d.choice == 0)
            e = buf_add(&quoted, d.text);
    }
    if (!e)
        e = buf_puts(&quoted, "\"");
    if (!e)
        e = json_text((struct json){JSON_STRING, buf_span(&quoted)}, &a, &text);
    if (!e)
        e = buf_add(out, text);
    buf_done(&quoted);
    arena_done(&a);
    return e == PD_INVALID ? PD_SYNTAX : e;
}

/* ---- files ---------------------------------------------------------------------- */

pd_err shown_save(const struct shown *s, size_t from, struct buf *out)
{
    struct span log = buf_span(&s->log);
    size_t at = first_entry(s, from);
    while (at < log.n && at + entry_bytes(log.p + at) <= from)
        at += entry_bytes(log.p + at);
    if (at >= log.n)
        return PD_OK;
    size_t end = at + entry_bytes(log.p + at), before = buf_size(out);
    struct msg_delta d = delta_at(log.p + at);
    size_t text_at = end - d.text.n;
    pd_err e;
    if (from > text_at && in_pieces(d.kind)) { /* its head again, with what is new of its text */
        char head[HEAD];
        memcpy(head, log.p + at, HEAD);
        put_number(head + AT_TEXT, (uint32_t)(end - from));
        e = buf_add(out, span_of(head, HEAD));
        if (!e)
            e = buf_add(out, span_of(log.p + at + HEAD, text_at - at - HEAD));
        if (!e)
            e = buf_add(out, span_from(log, from));
    } else {
        e = buf_add(out, span_from(log, at));
    }
    if (e)
        out->tail = out->head + before;
    return e;
}

/* Fit for the inside of a JSON string, but for what a cut at both ends may have left out of a pair. */
static bool is_escaped(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == '"')
            return false;
        if (c != '\\')
            continue;
        if (++i >= s.n || !s.p[i] || !strchr("\"\\/bfnrtu", s.p[i]))
            return false;
        if (s.p[i] != 'u')
            continue;
        for (unsigned k = 0; k < 4; k++)
            if (++i >= s.n || !s.p[i] || !strchr("0123456789abcdefABCDEF", s.p[i]))
                return false;
    }
    return true;
}

static bool is_sound(const char *p)
{
    struct msg_delta d = delta_at(p);
    if ((unsigned)d.kind > MSG_STEP || (unsigned)d.maker >= MSG_MAKER_COUNT || (unsigned)d.step >= MSG_STEP_COUNT)
        return false;
    if (d.choice < 0 || d.tool < -1 || d.place < 0 || (d.kind == MSG_STEP) != (d.step != 0))
        return false;
    bool raw = d.kind == MSG_LOGPROBS || (d.kind == MSG_STEP && d.text.n);
    if (raw ? json_check(d.text) != PD_OK : !is_escaped(d.text))
        return false;
    return is_escaped(d.id) && is_escaped(d.type) && is_escaped(d.item);
}

pd_err shown_load(struct shown *s, struct span bytes)
{
    while (bytes.n) {
        if (bytes.n < HEAD || (unsigned char)bytes.p[AT_MARK] != HEAD_MARK || entry_bytes(bytes.p) > bytes.n ||
            !is_sound(bytes.p))
            return PD_SYNTAX;
        struct msg_delta d = delta_at(bytes.p);
        pd_err e = shown_add(s, &d);
        if (e)
            return e;
        bytes = span_from(bytes, entry_bytes(bytes.p));
    }
    return PD_OK;
}
