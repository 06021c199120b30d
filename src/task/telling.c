#include "task/telling.h"

#include "base/mem.h"
#include "dialect/codec.h"

enum { COLLECTED_MAX = 4 * TELLING_TEXT_MAX };

struct telling {
    struct answer *reader;
    struct collector *collector;
    struct buf text, error;
    pd_err err; /* of a delta, which has no way to say it */
};

static void on_delta(void *ctx, const struct msg_delta *d)
{
    struct telling *t = ctx;
    if (d->kind == MSG_TEXT && d->choice == 0 && !t->err)
        t->err = buf_add(&t->text, d->text);
}

static pd_err on_event(void *ctx, const struct answer_event *ev)
{
    struct telling *t = ctx;
    if (ev->holds & ANSWER_ERROR) {
        pd_err e = buf_add(&t->error, ev->error.raw);
        return e ? e : PD_PROTO;
    }
    if (ev->json.type != JSON_OBJECT || (ev->holds & ANSWER_MALFORMED))
        return PD_OK;
    return collector_add(t->collector, ev->type, ev->json);
}

struct telling *telling_new(void)
{
    struct telling *t = mem_zalloc(sizeof(*t));
    if (!t)
        return NULL;
    t->text.limit_bytes = TELLING_TEXT_MAX;
    t->error.limit_bytes = TELLING_TEXT_MAX;
    t->reader = answer_new(&codec_openai_chat, FRAMING_LINES, on_event, t);
    t->collector = collector_new(&codec_openai_chat, COLLECTED_MAX);
    if (!t->reader || !t->collector)
        return telling_free(t);
    answer_on_delta(t->reader, on_delta, t);
    return t;
}

struct telling *telling_free(struct telling *t)
{
    if (!t)
        return NULL;
    answer_free(t->reader);
    collector_free(t->collector);
    buf_done(&t->text);
    buf_done(&t->error);
    mem_free(t);
    return NULL;
}

static pd_err what_came(const struct telling *t, pd_err e)
{
    if (!e)
        e = t->err;
    return e == PD_OK || e == PD_NOMEM || e == PD_TOOBIG ? e : PD_PROTO;
}

pd_err telling_take(struct telling *t, struct span bytes)
{
    return what_came(t, answer_feed(t->reader, bytes));
}

pd_err telling_end(struct telling *t, struct buf *out)
{
    enum answer_end end = ANSWER_CUT;
    pd_err e = what_came(t, answer_finish(t->reader, &end));
    if (!e && end != ANSWER_COMPLETE)
        e = PD_PROTO;
    return e ? e : collector_write(t->collector, out);
}

struct span telling_text(const struct telling *t)
{
    return buf_span(&t->text);
}

struct span telling_error(const struct telling *t)
{
    return buf_span(&t->error);
}
