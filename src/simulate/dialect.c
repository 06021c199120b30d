#include "simulate/dialect.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

const struct sim_dialect *const sim_dialects[SIM_DIALECT_COUNT] = {
#define X(code, name, what) [SIM_##code] = &sim_##name,
    SIM_DIALECTS(X)
#undef X
};

/* ---- errors ---------------------------------------------------------------- */

static const struct error_like *row_named(const struct sim_dialect *d, struct span like)
{
    for (unsigned i = 0; i < d->errors_count; i++)
        if (span_is(like, d->errors[i].name))
            return &d->errors[i];
    return NULL;
}

static const struct error_like *row_of_status(const struct sim_dialect *d, int status)
{
    for (unsigned i = 0; i < d->errors_count; i++)
        if (d->errors[i].status == status)
            return &d->errors[i];
    return row_named(d, status && status < 500 ? SPAN_LIT("bad_request") : SPAN_LIT("server_error"));
}

void dialect_fault_fill(const struct sim_dialect *d, struct style_fault *f, struct span like)
{
    const struct error_like *row = row_named(d, like);
    if (!row && like.n) { /* a name that this dialect has no words for: those of its status */
        const struct error_like *any = error_like_find(like);
        row = row_of_status(d, any ? any->status : f->status);
    }
    if (!row)
        row = row_of_status(d, f->status);
    if (!f->status)
        f->status = row->status;
    if (!f->message.p)
        f->message = span_str(row->message);
    if (!f->type.p)
        f->type = span_str(row->type);
    if (!f->code.p)
        f->code = row->code ? span_str(row->code) : SPAN_NONE;
}

const char *dialect_finish(const struct sim_dialect *d, const char *ours)
{
    for (const struct finish_word *w = d->finishes; w && w->ours; w++)
        if (strcmp(w->ours, ours) == 0)
            return w->theirs;
    return ours;
}

/* ---- events ---------------------------------------------------------------- */

struct put *event_begin(struct stream *s)
{
    buf_clear(s->scratch);
    s->json = put_into(s->scratch);
    return &s->json;
}

void event_end(struct stream *s, const char *type)
{
    if (s->json.err != PD_OK) {
        s->out->err = s->json.err;
        return;
    }
    s->speech->dialect->frame(s, span_str(type), buf_span(s->scratch));
}

void frame_named(struct stream *s, struct span type, struct span json)
{
    frame_event(s->out, s->framing, type, json);
}

void ping_comment(struct stream *s, enum ping_kind kind)
{
    if (kind == PING_BLANK)
        frame_blank(s->out, s->framing);
    else
        frame_comment(s->out, s->framing, s->comment);
}

/* ---- models ---------------------------------------------------------------- */

unsigned model_names(const struct script_provider *conf, const struct span **ret)
{
    static const struct span usual[] = {{"sim-small", 9}, {"sim-large", 9}, {"sim-reason", 10}};
    *ret = conf->models_given ? conf->models.at : usual;
    return conf->models_given ? conf->models.count : 3;
}

/* ---- ids and headers ------------------------------------------------------- */

struct span make_id(struct arena *mem, struct rnd *rnd, const char *prefix, unsigned letters, bool hex)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_text(&out, prefix);
    put_random(&out, rnd, hex ? alphabet_hex : alphabet_alnum, letters);
    struct span id = out.err == PD_OK ? arena_span(mem, buf_span(&text)) : SPAN_NONE;
    buf_done(&text);
    return id;
}

pd_err header_add(struct sim_headers *h, const char *name, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct span value = arena_span(h->mem, span_str(text));
    struct span copy = arena_span(h->mem, span_str(name));
    return copy.p && (value.p || !text[0]) ? h->add(h->ctx, copy, value) : PD_NOMEM;
}

void time_text(uint64_t seconds, char out[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0';
}

struct span answer_id(const struct speech *speech)
{
    const struct endpoint *at = &speech->rq->at;
    struct arena *mem = speech->mem;
    switch (at->dialect) {
    case SIM_CHAT:
        return make_id(mem, speech->rnd, speech->conf->style->id_prefix, 29, false);
    case SIM_RESPONSES:
        return responses_id(speech);
    case SIM_MESSAGES:
    case SIM_INVOKE:
        return make_id(mem, speech->rnd,
                       at->platform == PLATFORM_VERTEX    ? "msg_vrtx_01"
                       : at->platform == PLATFORM_BEDROCK ? "msg_bdrk_01"
                                                          : "msg_01",
                       22, false);
    case SIM_GEMINI:
        return make_id(mem, speech->rnd, "", 23, false);
    case SIM_CONVERSE:
    case SIM_OLLAMA:
        return make_id(mem, speech->rnd, "", 16, false); /* not sent: it makes signatures differ */
    case SIM_DIALECT_COUNT:
        break;
    }
    return SPAN_NONE;
}
