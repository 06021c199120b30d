/* neutral.h - a request's neutral form as text, for comparing two of them in tests of this room. */
#ifndef PERDURE_TESTS_NEUTRAL_H
#define PERDURE_TESTS_NEUTRAL_H

#include "base/buf.h"
#include "dialect/msg.h"
#include "parse/put.h"

static inline void neutral_word(struct put *p, const char *name, struct span s)
{
    if (!s.n)
        return;
    put_text(p, " ");
    put_text(p, name);
    put_text(p, "=");
    put_span(p, s);
}

static inline void neutral_number(struct put *p, const char *name, int64_t n, int64_t unsaid)
{
    if (n != unsaid)
        put_printf(p, " %s=%lld", name, (long long)n);
}

static inline void neutral_mark(struct put *p, bool cache, struct span ttl)
{
    put_text(p, cache ? " cache" : "");
    neutral_word(p, "ttl", ttl);
}

static inline void neutral_part(struct put *p, const struct msg_part *part)
{
    static const char *const kinds[] = {"text", "refusal", "reasoning", "media", "call", "result"};
    static const char *const media[] = {"image", "document", "audio", "video"};
    put_printf(p, "{%s", kinds[part->kind]);
    if (part->kind == MSG_PART_MEDIA)
        put_printf(p, " %s", media[part->media]);
    neutral_word(p, "text", part->arguments.p ? SPAN_NONE : part->text);
    neutral_word(p, "id", part->id);
    neutral_word(p, "name", part->name);
    neutral_word(p, "arguments", part->arguments);
    put_text(p, part->custom ? " custom" : "");
    put_text(p, part->failed ? " failed" : "");
    neutral_word(p, "type", part->media_type);
    neutral_word(p, "data", part->data);
    neutral_word(p, "url", part->url);
    neutral_word(p, "file", part->file_id);
    neutral_word(p, "file_name", part->file_name);
    neutral_word(p, "detail", part->detail);
    neutral_word(p, "signature", part->signature);
    neutral_word(p, "sealed", part->sealed);
    neutral_word(p, "seal_id", part->seal_id);
    if (part->maker != MSG_MAKER_NONE)
        put_printf(p, " of %s", msg_maker_name(part->maker));
    neutral_mark(p, part->cache, part->cache_ttl);
    for (const struct msg_part *c = part->content; c; c = c->next)
        neutral_part(p, c);
    put_text(p, "}");
}

/* Turns of one role that follow each other are one, in which results come first: that is how formats without such turns have it. */
static inline const struct msg_turn *neutral_turns(struct put *p, const struct msg_turn *t)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant"};
    const struct msg_turn *behind = t;
    while (behind && behind->role == t->role)
        behind = behind->next;
    put_text(p, roles[t->role]);
    for (int results = 1; results >= 0; results--)
        for (const struct msg_turn *s = t; s != behind; s = s->next) {
            if (results)
                neutral_word(p, "name", s->name);
            for (const struct msg_part *part = s->first; part; part = part->next)
                if ((part->kind == MSG_PART_TOOL_RESULT) == (results == 1))
                    neutral_part(p, part);
        }
    put_text(p, "\n");
    return behind;
}

static inline void neutral_tools(struct put *p, const struct msg_request *m)
{
    static const char *const kinds[] = {"function", "custom", "hosted"};
    static const char *const choices[] = {"unsaid", "auto", "none", "required", "named"};
    for (const struct msg_tool *t = m->tools; t; t = t->next) {
        put_printf(p, "tool %s", kinds[t->kind]);
        neutral_word(p, "name", t->name);
        neutral_word(p, "description", t->description);
        neutral_word(p, "schema", t->schema);
        neutral_number(p, "strict", t->strict, -1);
        neutral_word(p, "raw", t->raw);
        neutral_word(p, "space", t->space);
        neutral_word(p, "plain", t->plain_name);
        neutral_mark(p, t->cache, t->cache_ttl);
        put_text(p, "\n");
    }
    put_printf(p, "choice %s", choices[m->choice]);
    neutral_word(p, "name", m->choice_name);
    neutral_number(p, "parallel", m->parallel, -1);
    put_text(p, "\n");
}

static inline void neutral_settings(struct put *p, const struct msg_request *m)
{
    neutral_number(p, "max_tokens", m->max_tokens, -1);
    neutral_word(p, "temperature", m->temperature);
    neutral_word(p, "top_p", m->top_p);
    neutral_word(p, "top_k", m->top_k);
    neutral_word(p, "min_p", m->min_p);
    neutral_word(p, "seed", m->seed);
    neutral_word(p, "presence", m->presence_penalty);
    neutral_word(p, "frequency", m->frequency_penalty);
    neutral_number(p, "n", m->n, -1);
    neutral_number(p, "logprobs", m->logprobs, false);
    neutral_number(p, "top_logprobs", m->top_logprobs, -1);
    for (unsigned i = 0; i < m->stops_count; i++)
        neutral_word(p, "stop", m->stops[i]);
    neutral_number(p, "format", m->format, MSG_FORMAT_UNSAID);
    neutral_word(p, "format_name", m->format_name);
    neutral_word(p, "format_description", m->format_description);
    neutral_word(p, "format_schema", m->format_schema);
    neutral_number(p, "format_strict", m->format_strict, -1);
    neutral_number(p, "effort", m->effort, MSG_EFFORT_UNSAID);
    neutral_number(p, "reasoning_tokens", m->reasoning_tokens, -1);
    neutral_number(p, "reasoning_shown", m->reasoning_shown, -1);
    neutral_word(p, "user", m->user);
    neutral_word(p, "service_tier", m->service_tier);
    neutral_word(p, "cache_key", m->cache_key);
    neutral_word(p, "verbosity", m->verbosity);
    put_text(p, "\n");
}

static inline pd_err neutral_put(const struct msg_request *m, struct buf *out)
{
    struct put p = put_into(out);
    for (const struct msg_turn *t = m->first; t;)
        t = neutral_turns(&p, t);
    neutral_tools(&p, m);
    neutral_settings(&p, m);
    return p.err;
}

#endif
