/* told.h - what an answer told its reader, put together again, for tests of this room. */
#ifndef PERDURE_TESTS_TOLD_H
#define PERDURE_TESTS_TOLD_H

#include "base/arena.h"
#include "base/buf.h"
#include "dialect/codec.h"
#include "torture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

enum { TOLD_TOOLS = 32, TOLD_CHOICES = 4 };

struct told_tool {
    bool legacy;
    struct buf id, name, arguments; /* escaped, as they came */
};

struct told_choice {
    struct buf text, reasoning, refusal;
    struct buf
        others; /* signatures, sealed reasoning, media, citations, log probabilities: each "<kind tool maker text|id|type>" */
    unsigned tool_count;
    struct told_tool tools[TOLD_TOOLS];
};

struct told {
    struct told_choice choices[TOLD_CHOICES];
    pd_err err; /* a failed allocation of our own */
};

static inline void told_free(struct told *t)
{
    for (struct told_choice *c = t->choices; c < t->choices + TOLD_CHOICES; c++) {
        buf_done(&c->text);
        buf_done(&c->reasoning);
        buf_done(&c->refusal);
        buf_done(&c->others);
        for (unsigned i = 0; i < c->tool_count; i++) {
            buf_done(&c->tools[i].id);
            buf_done(&c->tools[i].name);
            buf_done(&c->tools[i].arguments);
        }
    }
    free(t);
}

static inline struct told *told_new(void)
{
    struct told *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    return t;
}

static inline void told_start(struct told *t, struct told_choice *c, const struct msg_delta *d)
{
    assert_int_equal(d->tool, c->tool_count); /* numbers go up one by one */
    assert_true(c->tool_count < TOLD_TOOLS);
    struct told_tool *tool = &c->tools[c->tool_count++];
    tool->legacy = d->legacy_function;
    t->err = t->err ? t->err : buf_add(&tool->name, d->text);
    t->err = t->err ? t->err : buf_add(&tool->id, d->id);
}

static inline void told_other(struct told *t, struct told_choice *c, const struct msg_delta *d)
{
    static const char *const names[] = {"text",   "reasoning", "refusal",  "tool",     "arguments", "signature",
                                        "sealed", "media",     "citation", "logprobs", "hosted"};
    struct buf *o = &c->others;
    t->err = t->err ? t->err : buf_printf(o, "<%s %d %s ", names[d->kind], d->tool, msg_maker_name(d->maker));
    t->err = t->err ? t->err : buf_add(o, d->text);
    t->err = t->err ? t->err : buf_printf(o, "|%.*s|%.*s>", SPAN_FMT(d->id), SPAN_FMT(d->type));
}

static inline void told_on_delta(void *ctx, const struct msg_delta *d)
{
    struct told *t = ctx;
    if (d->choice >= TOLD_CHOICES)
        return;
    struct told_choice *c = &t->choices[d->choice];
    struct buf *to = NULL;
    switch (d->kind) {
    case MSG_TEXT:
        to = &c->text;
        break;
    case MSG_REASONING:
        to = &c->reasoning;
        break;
    case MSG_REFUSAL:
        to = &c->refusal;
        break;
    case MSG_TOOL_START:
        told_start(t, c, d);
        return;
    case MSG_TOOL_ARGUMENTS:
        assert_true(d->tool >= 0 && (unsigned)d->tool < c->tool_count);
        to = &c->tools[d->tool].arguments;
        break;
    case MSG_SIGNATURE:
    case MSG_SEALED:
    case MSG_MEDIA:
    case MSG_CITATION:
    case MSG_LOGPROBS:
    case MSG_HOSTED:
        told_other(t, c, d);
        return;
    case MSG_STEP:
        return;
    }
    t->err = t->err ? t->err : buf_add(to, d->text);
}

/* One string that says all of it: two answers with the same one said the same. */
static inline pd_err told_put(const struct told *t, struct buf *out)
{
    pd_err e = t->err;
    for (unsigned k = 0; !e && k < TOLD_CHOICES; k++) {
        const struct told_choice *c = &t->choices[k];
        e = buf_printf(out, "%u text(%.*s) reasoning(%.*s) refusal(%.*s)", k, SPAN_FMT(buf_span(&c->text)),
                       SPAN_FMT(buf_span(&c->reasoning)), SPAN_FMT(buf_span(&c->refusal)));
        for (unsigned i = 0; !e && i < c->tool_count; i++)
            e = buf_printf(out, " tool(%.*s %.*s %.*s%s)", SPAN_FMT(buf_span(&c->tools[i].id)),
                           SPAN_FMT(buf_span(&c->tools[i].name)), SPAN_FMT(buf_span(&c->tools[i].arguments)),
                           c->tools[i].legacy ? " legacy" : "");
        if (!e && buf_size(&c->others))
            e = buf_printf(out, " others(%.*s)", SPAN_FMT(buf_span(&c->others)));
        if (!e)
            e = buf_puts(out, "\n");
    }
    return e;
}

static inline pd_err facts_put(const struct answer_facts *f, struct buf *out)
{
    const struct msg_usage *u = &f->usage;
    return buf_printf(out, "id(%.*s) model(%.*s) finish(%s %.*s) usage(%lld %lld %lld %lld %lld)\n",
                      SPAN_FMT(f->id), SPAN_FMT(f->model), msg_finish_name(f->finish), SPAN_FMT(f->finish_raw),
                      (long long)u->input_total, (long long)u->cache_read, (long long)u->cache_write,
                      (long long)u->output_total, (long long)u->reasoning);
}

static inline const char *end_name(enum answer_end end)
{
    static const char *const names[] = {"complete", "cut", "empty", "failed"};
    return names[end];
}

/* "output+finish" */
static inline pd_err holds_put(unsigned holds, struct buf *out)
{
    static const char *const names[] = {"output", "finish",    "usage",     "only", "done",
                                        "error",  "keepalive", "malformed", "start"};
    const char *sep = "";
    pd_err e = PD_OK;
    for (unsigned i = 0; !e && i < sizeof(names) / sizeof(names[0]); i++) {
        if (!(holds & (1u << i)))
            continue;
        e = buf_printf(out, "%s%s", sep, names[i]);
        sep = "+";
    }
    return e;
}

/* A streamed answer read from parts, with all that was seen of it. */
struct reading {
    struct told *told;
    struct answer *an;
    struct collector *collector; /* NULL: none wanted */
    struct buf events;           /* "[holds]raw" of each */
    struct buf raw;              /* the bytes for the client */
    enum answer_end end;
};

static inline pd_err reading_on_event(void *ctx, const struct answer_event *ev)
{
    struct reading *r = ctx;
    pd_err e = buf_puts(&r->events, "[");
    if (!e)
        e = holds_put(ev->holds, &r->events);
    if (!e)
        e = buf_puts(&r->events, "]");
    if (!e)
        e = buf_add(&r->events, ev->raw);
    if (!e)
        e = buf_add(&r->raw, ev->raw);
    assert_true(((ev->holds & ANSWER_ERROR) != 0) == (ev->error.type != JSON_NONE));
    if (!e && r->collector && ev->json.type == JSON_OBJECT && !(ev->holds & ANSWER_ERROR))
        e = collector_add(r->collector, ev->type, ev->json);
    return e;
}

static inline pd_err reading_init(struct reading *r, const struct codec *c, enum framing framing, bool collect)
{
    *r = (struct reading){0};
    r->an = answer_new(c, framing, reading_on_event, r);
    if (!r->an)
        return PD_NOMEM;
    if (collect) {
        r->collector = collector_new(c, 64 << 20);
        if (!r->collector) {
            r->an = answer_free(r->an);
            return PD_NOMEM;
        }
    }
    r->told = told_new();
    answer_on_delta(r->an, told_on_delta, r->told);
    return PD_OK;
}

static inline void reading_done(struct reading *r)
{
    r->an = answer_free(r->an);
    r->collector = collector_free(r->collector);
    if (r->told)
        told_free(r->told);
    r->told = NULL;
    buf_done(&r->events);
    buf_done(&r->raw);
}

/* Each feed is its own allocation of exactly its size, so that reading beyond it or after it shows. */
static inline pd_err reading_feed(struct reading *r, struct span part)
{
    if (part.n == 0)
        return answer_feed(r->an, part);
    char *copy = malloc(part.n);
    assert_non_null(copy);
    memcpy(copy, part.p, part.n);
    pd_err e = answer_feed(r->an, span_of(copy, part.n));
    memset(copy, '#', part.n);
    free(copy);
    return e;
}

/* All that can be said of a reading, for comparing two. */
static inline pd_err reading_put(const struct reading *r, struct buf *out)
{
    const struct answer_facts *f = answer_facts(r->an);
    pd_err e =
        buf_printf(out, "%s events %u comments %u malformed %u bytes %llu %s%s%s%s\n", end_name(r->end), f->events,
                   f->comments, f->malformed, (unsigned long long)f->output_bytes, f->has_output ? "output " : "",
                   f->has_tool_calls ? "tools " : "", f->done ? "done " : "", f->error ? "error" : "");
    if (!e)
        e = facts_put(f, out);
    if (!e)
        e = buf_add(out, f->usage_raw);
    if (!e)
        e = told_put(r->told, out);
    return e ? e : buf_add(out, buf_span(&r->events));
}

#endif
