#include "parse/jsonarray.h"

#include "base/buf.h"
#include "base/mem.h"

#include <assert.h>

/* Of the buffer, this much stays between items. */
enum { JSONARRAY_KEPT_BYTES = 16 * 1024 };

/* Where the next byte stands. */
enum place {
    BETWEEN, /* no item is open */
    NESTED,  /* in an object or array, outside of its strings */
    STRING,  /* in a string, of an item or in one */
    ESCAPE,  /* behind a backslash there */
    WORD,    /* in a scalar that is no string, or in what is no JSON */
};

struct jsonarray {
    jsonarray_fn *on_item;
    void *ctx;
    struct buf held; /* the unfinished item, as far as earlier feeds had it */
    enum place place;
    size_t depth; /* brackets open in the item */
    bool opened, closed;
};

struct jsonarray *jsonarray_new(size_t max_item, jsonarray_fn *on_item, void *ctx)
{
    assert(max_item > 0);
    struct jsonarray *j = mem_zalloc(sizeof(*j));
    if (!j)
        return NULL;
    j->on_item = on_item;
    j->ctx = ctx;
    buf_init(&j->held, max_item);
    return j;
}

struct jsonarray *jsonarray_free(struct jsonarray *j)
{
    if (!j)
        return NULL;
    buf_done(&j->held);
    mem_free(j);
    return NULL;
}

bool jsonarray_closed(const struct jsonarray *j)
{
    return j->closed;
}

size_t jsonarray_pending(const struct jsonarray *j)
{
    return buf_size(&j->held);
}

/* The item's last bytes are `tail`; what was held comes before them. */
static pd_err deliver(struct jsonarray *j, struct span tail)
{
    pd_err e = PD_OK;
    j->place = BETWEEN;
    if (tail.n > j->held.limit_bytes)
        return PD_TOOBIG;
    if (buf_size(&j->held) == 0)
        return j->on_item(j->ctx, span_trim(tail));
    e = buf_add(&j->held, tail);
    if (!e)
        e = j->on_item(j->ctx, span_trim(buf_span(&j->held)));
    buf_clear(&j->held);
    if (j->held.capacity > JSONARRAY_KEPT_BYTES)
        buf_done(&j->held);
    return e;
}

/* A byte while no item is open: true when it opens one. */
static bool opens(struct jsonarray *j, char c)
{
    switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
    case ',':
        return false;
    case ']':
        j->closed = j->opened;
        return false;
    case '[':
        if (!j->opened) {
            j->opened = true;
            return false;
        }
        j->depth = 1;
        j->place = NESTED;
        return true;
    case '{':
        j->depth = 1;
        j->place = NESTED;
        return true;
    case '"':
        j->depth = 0;
        j->place = STRING;
        return true;
    default:
        j->place = WORD;
        return true;
    }
}

/* A byte of the open item: true when it is its last one. */
static bool ends(struct jsonarray *j, char c)
{
    switch (j->place) {
    case ESCAPE:
        j->place = STRING;
        return false;
    case STRING:
        if (c == '\\')
            j->place = ESCAPE;
        else if (c == '"')
            j->place = NESTED;
        return c == '"' && j->depth == 0;
    case NESTED:
        if (c == '"')
            j->place = STRING;
        else if (c == '{' || c == '[')
            j->depth++;
        else if (c == '}' || c == ']')
            j->depth--;
        return j->depth == 0;
    case BETWEEN:
    case WORD:
        break;
    }
    return false;
}

static bool ends_word(char c)
{
    return c == ',' || c == ']' || c == '\n' || c == '\r';
}

pd_err jsonarray_feed(struct jsonarray *j, struct span in)
{
    size_t from = 0; /* where the open item goes on in `in` */
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        pd_err e = PD_OK;
        if (j->place == WORD && ends_word(c))
            e = deliver(j, span_of(in.p + from, i - from)); /* the byte itself belongs to no item */
        if (e)
            return e;
        if (j->place == BETWEEN) {
            if (opens(j, c))
                from = i;
            continue;
        }
        if (ends(j, c))
            e = deliver(j, span_of(in.p + from, i + 1 - from));
        if (e)
            return e;
    }
    return j->place == BETWEEN ? PD_OK : buf_add(&j->held, span_from(in, from));
}

pd_err jsonarray_finish(struct jsonarray *j)
{
    return j->place == BETWEEN ? PD_OK : deliver(j, SPAN_NONE);
}
