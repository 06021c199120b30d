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

/* Sizes as malloc() has them, without its own head. The first is small: it is all that an answer's next event needs. */
enum { BLOCK_FIRST = 256 - 8, BLOCK_LEAST = 512 - 8, BLOCK_MOST = 4096 - 8, BLOCK_SHARE = 8 };

struct shown_block {
    struct shown_block *next;
    uint32_t at; /* the position of its first byte */
    uint32_t used, capacity;
    char bytes[];
};

void shown_init(struct shown *s)
{
    *s = (struct shown){.limit_bytes = SHOWN_MAX};
}

static void free_blocks(struct shown_block *b)
{
    while (b) {
        struct shown_block *next = b->next;
        mem_free(b);
        b = next;
    }
}

void shown_done(struct shown *s)
{
    free_blocks(s->first);
    mem_free(s->identity);
    shown_init(s);
}

/* Has `b`, emptied, and nothing else. */
static void begin_with(struct shown *s, struct shown_block *b)
{
    size_t limit = s->limit_bytes;
    *s = (struct shown){.first = b, .last = b, .last_in = b, .limit_bytes = limit};
    if (!b)
        return;
    *b = (struct shown_block){.capacity = b->capacity};
    s->room = sizeof(*b) + b->capacity;
}

void shown_clear(struct shown *s)
{
    struct shown_block *largest = s->first;
    mem_free(s->identity);
    for (struct shown_block *b = s->first, *next; b; b = next) {
        next = b->next;
        if (b->capacity > largest->capacity) {
            mem_free(largest);
            largest = b;
        } else if (b != largest) {
            mem_free(b);
        }
    }
    begin_with(s, largest);
}

void shown_lend(struct shown *from, struct shown *to)
{
    struct shown_block *b = from->first;
    if (from->any || !b)
        return;
    if (to->first || from->room > BLOCK_MOST)
        mem_free(b);
    else
        begin_with(to, b);
    begin_with(from, NULL);
}

size_t shown_bytes(const struct shown *s)
{
    return s->room + s->id_bytes + s->model_bytes;
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

/* Of an entry, all before its text: this stands in one block. */
static size_t front_bytes(const char *p)
{
    return (size_t)HEAD + number_at(p + AT_ID) + number_at(p + AT_TYPE) + number_at(p + AT_ITEM);
}

static size_t entry_bytes(const char *p)
{
    return front_bytes(p) + number_at(p + AT_TEXT);
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

static size_t room_in(const struct shown_block *b)
{
    return b ? b->capacity - b->used : 0;
}

/* A block with room for so many bytes in one piece. */
static pd_err add_block(struct shown *s, size_t bytes)
{
    size_t share = s->end / BLOCK_SHARE, size = sizeof(struct shown_block) + bytes;
    size_t least = !s->first ? BLOCK_FIRST : share < BLOCK_LEAST ? BLOCK_LEAST : share;
    if (least > BLOCK_MOST)
        least = BLOCK_MOST;
    if (size < least)
        size = least;
    struct shown_block *b = mem_alloc(size);
    if (!b)
        return PD_NOMEM;
    *b = (struct shown_block){.at = (uint32_t)s->end, .capacity = (uint32_t)(size - sizeof(*b))};
    if (s->last)
        s->last->next = b;
    else
        s->first = b;
    s->last = b;
    s->room += size;
    return PD_OK;
}

static void put(struct shown *s, struct span bytes)
{
    if (bytes.n)
        memcpy(s->last->bytes + s->last->used, bytes.p, bytes.n);
    s->last->used += (uint32_t)bytes.n;
    s->end += bytes.n;
}

static char *last_head(const struct shown *s)
{
    return s->last_in->bytes + (s->last_at - s->last_in->at);
}

/* Bytes at the end of the last block that are the beginning of the character that `piece` goes on with: some providers part a pair of surrogates. */
static size_t torn(const struct shown *s, struct span piece)
{
    enum { BACK = 64, AHEAD = 6 };
    char edge[BACK + AHEAD];
    const struct shown_block *b = s->last;
    if (piece.p[0] != '\\' && ((unsigned char)piece.p[0] & 0xc0) != 0x80)
        return 0;
    size_t text_at = b == s->last_in ? s->last_at - b->at + front_bytes(last_head(s)) : 0;
    size_t back = b->used - text_at < BACK ? b->used - text_at : BACK;
    size_t ahead = piece.n < AHEAD ? piece.n : AHEAD;
    memcpy(edge, b->bytes + b->used - back, back);
    memcpy(edge + back, piece.p, ahead);
    return back - character_begin(span_of(edge, back + ahead), back);
}

/* What of it fits goes into the last block, the rest into a new one: no character is parted. */
static pd_err add_parted(struct shown *s, struct span piece)
{
    struct shown_block *before = s->last;
    size_t here = character_begin(piece, room_in(before)), with = here ? 0 : torn(s, piece);
    struct span rest = span_from(piece, here), moved = span_of(before->bytes + before->used - with, with);
    size_t end = s->end;
    s->end = end + here - with;
    pd_err e = add_block(s, with + rest.n);
    if (e) {
        s->end = end;
        return e;
    }
    memcpy(before->bytes + before->used, piece.p, here);
    before->used = (uint32_t)(before->used + here - with);
    put(s, moved);
    put(s, rest);
    return PD_OK;
}

static pd_err add_piece(struct shown *s, struct span piece)
{
    pd_err e = PD_OK;
    if (piece.n > s->limit_bytes || s->end > s->limit_bytes - piece.n)
        return PD_TOOBIG;
    if (room_in(s->last) >= piece.n)
        put(s, piece);
    else
        e = add_parted(s, piece);
    char *head = last_head(s);
    if (!e)
        put_number(head + AT_TEXT, number_at(head + AT_TEXT) + (uint32_t)piece.n);
    return e;
}

static pd_err add_entry(struct shown *s, const struct msg_delta *d)
{
    const struct span parts[] = {d->id, d->type, d->item, d->text};
    char head[HEAD];
    size_t bytes = HEAD;
    for (size_t i = 0; i < 4; i++) {
        if (parts[i].n > SHOWN_MAX)
            return PD_TOOBIG;
        bytes += parts[i].n;
    }
    if (bytes > s->limit_bytes || s->end > s->limit_bytes - bytes)
        return PD_TOOBIG;
    pd_err e = room_in(s->last) < bytes ? add_block(s, bytes) : PD_OK;
    if (e)
        return e;
    s->last_at = s->end;
    s->last_in = s->last;
    s->any = true;
    put_head(head, d);
    put(s, span_of(head, HEAD));
    for (size_t i = 0; i < 4; i++)
        put(s, parts[i]);
    return PD_OK;
}

pd_err shown_add(struct shown *s, const struct msg_delta *d)
{
    if (in_pieces(d->kind) && d->text.n == 0)
        return PD_OK;
    bool on = false;
    if (s->any && in_pieces(d->kind)) {
        struct msg_delta last = delta_at(last_head(s));
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

/* ---- telling -------------------------------------------------------------------- */

/* A position and the block that it is in; NULL: behind the end. */
struct place {
    const struct shown_block *in;
    size_t at;
};

static void go_to(struct place *p, size_t at)
{
    p->at = at;
    while (p->in && at >= p->in->at + p->in->used)
        p->in = p->in->next;
}

/* What its block has from there on. */
static struct span from_here(const struct place *p)
{
    return span_of(p->in->bytes + (p->at - p->in->at), p->in->at + p->in->used - p->at);
}

/* The entry that is behind `from`, or that it is in. Those who follow an answer ask for its last one. */
static struct place find(const struct shown *s, size_t from)
{
    bool last = s->any && from >= s->last_at;
    struct place p = {.in = last ? s->last_in : s->first};
    go_to(&p, last ? s->last_at : 0);
    while (p.in) {
        size_t end = p.at + entry_bytes(from_here(&p).p);
        if (end > from)
            break;
        go_to(&p, end);
    }
    return p;
}

/* The part of a text at `text_at` that is in this block, from `from` on if that is in it: then from the beginning of its character. */
static struct span part_of(struct place *p, size_t text_at, size_t text_end, size_t from)
{
    go_to(p, from > text_at ? from : text_at);
    assert(p->in);
    size_t part_at = p->in->at > text_at ? p->in->at : text_at, before = p->at - part_at;
    p->at = part_at;
    struct span part = span_upto(from_here(p), text_end - part_at);
    size_t begin = before ? character_begin(part, before) : 0;
    p->at += begin;
    return span_from(part, begin);
}

size_t shown_tell_some(const struct shown *s, size_t from, size_t most, msg_delta_fn *fn, void *ctx)
{
    assert(most >= SHOWN_PIECE_LEAST); /* any character is smaller, so that something is told each time */
    size_t told = 0;
    for (struct place p = find(s, from); p.in;) {
        struct msg_delta d = delta_at(from_here(&p).p);
        size_t front = p.at + front_bytes(from_here(&p).p), end = front + d.text.n;
        if (in_pieces(d.kind)) {
            size_t entry_at = p.at;
            d.text = part_of(&p, front, end, from);
            for (;;) {
                if (told && told + d.text.n > most)
                    return p.at == front ? entry_at : p.at;
                if (d.text.n > most) {
                    d.text = span_upto(d.text, character_begin(d.text, most));
                    fn(ctx, &d);
                    return p.at + d.text.n;
                }
                fn(ctx, &d);
                told += d.text.n;
                if (p.at + d.text.n == end)
                    break;
                d.text = part_of(&p, p.at + d.text.n, end, 0);
            }
        } else {
            if (told && told + d.text.n > most)
                return p.at;
            fn(ctx, &d);
            told += HEAD + d.text.n;
        }
        go_to(&p, end);
    }
    return s->end;
}

size_t shown_tell(const struct shown *s, size_t from, msg_delta_fn *fn, void *ctx)
{
    return shown_tell_some(s, from, SIZE_MAX, fn, ctx);
}

struct quoting {
    struct buf text;
    pd_err err;
};

static void quote(void *ctx, const struct msg_delta *d)
{
    struct quoting *q = ctx;
    if (d->kind == MSG_TEXT && d->choice == 0 && !q->err)
        q->err = buf_add(&q->text, d->text);
}

pd_err shown_text(const struct shown *s, struct buf *out)
{
    struct span text = SPAN_NONE;
    struct quoting q;
    struct arena a;
    if (!s->has_text)
        return PD_OK;
    buf_init(&q.text, 0);
    arena_init(&a, 0, 0);
    q.err = buf_reserve(&q.text, (size_t)s->text_bytes + 2);
    if (!q.err)
        q.err = buf_puts(&q.text, "\"");
    shown_tell(s, 0, quote, &q);
    if (!q.err)
        q.err = buf_puts(&q.text, "\"");
    if (!q.err)
        q.err = json_text((struct json){JSON_STRING, buf_span(&q.text)}, &a, &text);
    if (!q.err)
        q.err = buf_add(out, text);
    buf_done(&q.text);
    arena_done(&a);
    return q.err == PD_INVALID ? PD_SYNTAX : q.err;
}

/* ---- files ---------------------------------------------------------------------- */

/* An entry's front again, with what is new of its text. */
static pd_err save_front(const char *entry, size_t text_bytes, struct buf *out)
{
    char head[HEAD];
    memcpy(head, entry, HEAD);
    put_number(head + AT_TEXT, (uint32_t)text_bytes);
    pd_err e = buf_add(out, span_of(head, HEAD));
    return e ? e : buf_add(out, span_of(entry + HEAD, front_bytes(entry) - HEAD));
}

pd_err shown_save(const struct shown *s, size_t from, struct buf *out)
{
    struct place p = find(s, from);
    if (!p.in)
        return PD_OK;
    const char *entry = from_here(&p).p;
    size_t before = buf_size(out), front = front_bytes(entry), text_at = p.at + front;
    bool inside = from > text_at && in_pieces((enum msg_delta_kind)(unsigned char)entry[AT_KIND]);
    pd_err e = buf_reserve(out, inside ? front + s->end - from : s->end - p.at);
    if (!e && inside) {
        e = save_front(entry, p.at + entry_bytes(entry) - from, out);
        go_to(&p, from);
    }
    for (; p.in && !e; go_to(&p, p.in->at + p.in->used))
        e = buf_add(out, from_here(&p));
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
