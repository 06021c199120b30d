#include "base/clock.h"
#include "simulate/sim.h"

/* ---- what it gets --------------------------------------------------------- */

static pd_err make_id(struct play *r)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_text(&out, r->provider->conf->style->id_prefix);
    put_random(&out, &r->rnd, alphabet_alnum, 29);
    r->speech.id = out.err == PD_OK ? arena_span(&r->mem, buf_span(&text)) : SPAN_NONE;
    buf_done(&text);
    return r->speech.id.p ? PD_OK : PD_NOMEM;
}

static pd_err directive_fault(struct play *r)
{
    char why[READ_WHY];
    struct reader reader;
    struct fault *f = arena_alloc(&r->mem, sizeof(*f));
    if (!f)
        return PD_NOMEM;
    reader_init(&reader, "[[sim]]", r->answer.fault.raw, false, &r->mem, why);
    pd_err err = fault_read(&reader, r->answer.fault, f);
    if (err == PD_OK)
        r->fault = f;
    return err == PD_NOMEM ? err : PD_OK; /* a directive that cannot be read is text like any other */
}

static void pick_fault(struct play *r, unsigned on, bool reused)
{
    struct provider *p = r->provider;
    struct fault_query ask = {.seed = (uint64_t)p->sim->script->seed,
                              .now_us = loop_now_us(p->sim->loop),
                              .on = on,
                              .streamed = r->in.streamed,
                              .reused = reused,
                              .body = request_body(r->wire.rq)};
    const struct fault *f = fault_pick(p->faults, &ask);
    if (p->flapped && p->conf->flap.kind != FAULT_REFUSE)
        f = &p->conf->flap;
    if (f)
        r->fault = f;
    if (!r->fault)
        return;
    r->faults = fault_set_ref(p->faults);
    r->after = r->fault->after >= 0 ? (uint64_t)r->fault->after : FAULT_AFTER_DEFAULT;
    p->by_fault[r->fault->kind]++;
    if (!r->in.streamed && r->fault->kind == FAULT_ERROR_IN_STREAM) {
        struct fault *whole = arena_alloc(&r->mem, sizeof(*whole));
        if (!whole)
            return;
        *whole = *r->fault; /* no stream to be in: the body is the error */
        whole->kind = FAULT_ERROR_IN_200;
        r->fault = whole;
    }
}

static pd_err understand(struct play *r, struct request *rq, const char **why)
{
    struct provider *p = r->provider;
    pd_err err;
    uint64_t seed = (uint64_t)p->sim->script->seed;
    if (r->embeddings) {
        struct put out = put_into(&r->body);
        err = embeddings_put(p->conf, seed, request_body(rq), &r->mem, &out, why);
        return err != PD_OK ? err : out.err;
    }
    err = ask_read(request_body(rq), &r->mem, &r->in, why);
    if (err == PD_OK)
        err = answer_make(p->conf, seed, &r->in, &r->mem, &r->answer);
    if (err == PD_OK && r->answer.fault.type != JSON_NONE)
        err = directive_fault(r);
    r->speech = (struct speech){.conf = p->conf,
                                .rq = &r->in,
                                .answer = &r->answer,
                                .created = clock_wall_ms() / 1000,
                                .rnd = &r->rnd,
                                .mem = &r->mem};
    return err != PD_OK ? err : make_id(r);
}

static bool key_fits(const struct script_provider *conf, struct request *rq)
{
    if (!conf->key.p)
        return true;
    struct span given = request_header(rq, "authorization");
    if (span_starts(given, "Bearer "))
        given = span_from(given, 7);
    else
        given = request_header(rq, "api-key");
    return span_eq(given, conf->key);
}

static bool model_served(const struct script_provider *conf, struct span model)
{
    for (unsigned i = 0; conf->models_given && i < conf->models.count; i++)
        if (span_eq(conf->models.at[i], model))
            return true;
    return !conf->models_given;
}

static void refuse(struct play *r, int status, const char *like, const char *message)
{
    struct provider *p = r->provider;
    struct request *rq = r->wire.rq;
    r->wire.rq = NULL;
    request_set_handler(rq, &(struct request_handler){NULL, NULL}, NULL);
    provider_error(p, rq, status, like, message);
    play_over(r, OUTCOME_REFUSED);
}

void play_start(struct provider *p, struct request *rq, unsigned on, bool reused)
{
    const char *why = "";
    p->requests++;
    struct play *r = play_new(p, rq);
    if (!r) {
        provider_error(p, rq, 503, "unavailable", "The simulation is out of memory.");
        return;
    }
    r->embeddings = on == FAULT_ON_EMBEDDINGS;
    pd_err err = understand(r, rq, &why);
    if (err == PD_OK)
        pick_fault(r, on, reused);
    provider_note(p, rq, reused, r->in.streamed, r->fault ? fault_name(r->fault->kind) : "");
    control_changed(p->sim);
    if (!key_fits(p->conf, rq))
        refuse(r, 401, "auth", NULL);
    else if (err == PD_INVALID)
        refuse(r, 400, "bad_request", why);
    else if (err != PD_OK)
        play_fail(r);
    else if (!r->embeddings && !model_served(p->conf, r->in.model))
        refuse(r, 404, "model_not_found", NULL);
    else if (p->conf->concurrency && p->running > (uint64_t)p->conf->concurrency)
        refuse(r, 429, "rate_limit", "Too many requests at once: concurrency limit reached.");
    else if (!r->fault || !strike_before(r))
        play_go(r);
}
