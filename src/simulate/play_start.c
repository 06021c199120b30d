#include "base/clock.h"
#include "base/hash.h"
#include "simulate/sim.h"

/* ---- what it gets --------------------------------------------------------- */

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

static void pick_fault(struct play *r, bool reused)
{
    struct provider *p = r->provider;
    struct fault_query ask = {.seed = (uint64_t)p->sim->script->seed,
                              .now_us = loop_now_us(p->sim->loop),
                              .on = r->at.op == OP_GENERATE ? FAULT_ON_CHAT
                                    : r->at.op == OP_EMBED  ? FAULT_ON_EMBEDDINGS
                                                            : FAULT_ON_COUNT,
                              .dialect = r->at.dialect,
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
    r->fault_row = r->fault;
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

/* Varied words are other ones with every request. */
static uint64_t words_seed(const struct play *r)
{
    const struct script_provider *conf = r->provider->conf;
    uint64_t seed = (uint64_t)r->provider->sim->script->seed;
    return conf->varied ? hash_bytes(conf->name, seed + r->number) : seed;
}

static pd_err understand_model(struct play *r, struct reading *in)
{
    struct provider *p = r->provider;
    pd_err err = ask_read(in, &r->at);
    if (err == PD_OK)
        err = answer_make(p->conf, words_seed(r), &r->in, &r->mem, &r->answer);
    if (err == PD_OK && r->answer.fault.type != JSON_NONE)
        err = directive_fault(r);
    if (err != PD_OK)
        return err;
    r->speech = (struct speech){.conf = p->conf,
                                .rq = &r->in,
                                .answer = &r->answer,
                                .dialect = r->dialect,
                                .created = clock_wall_ms() / 1000,
                                .rnd = &r->rnd,
                                .mem = &r->mem};
    r->speech.id = answer_id(&r->speech);
    return r->speech.id.p ? PD_OK : PD_NOMEM;
}

static pd_err understand_fixed(struct play *r, struct reading *in)
{
    struct put out = put_into(&r->body);
    pd_err err;
    if (r->at.op == OP_EMBED && r->dialect->embed)
        err = r->dialect->embed(in, &r->at, (uint64_t)r->provider->sim->script->seed, &out);
    else if (r->at.op == OP_COUNT && r->dialect->count) {
        err = ask_read(in, &r->at);
        if (err == PD_OK)
            err = r->dialect->count(in, &out);
    } else {
        err = ask_refuse(in, "bad_request", "This cannot be asked here.");
    }
    return err != PD_OK ? err : out.err;
}

static pd_err understand(struct play *r, struct request *rq, struct refusal *why)
{
    struct reading in = {.conf = r->provider->conf,
                         .body = request_body(rq),
                         .versioned = request_header(rq, "anthropic-version").p != NULL,
                         .beta = request_header(rq, "anthropic-beta").p != NULL,
                         .mem = &r->mem,
                         .ask = &r->in,
                         .why = why};
    return r->fixed ? understand_fixed(r, &in) : understand_model(r, &in);
}

static bool model_served(const struct script_provider *conf, struct span model)
{
    for (unsigned i = 0; conf->models_given && i < conf->models.count; i++)
        if (span_eq(conf->models.at[i], model))
            return true;
    return !conf->models_given;
}

static void refuse(struct play *r, const struct refusal *why)
{
    struct provider *p = r->provider;
    struct request *rq = r->wire.rq;
    r->wire.rq = NULL;
    request_set_handler(rq, &(struct request_handler){NULL, NULL}, NULL);
    provider_refuse(p, rq, &r->at, why);
    play_over(r, OUTCOME_REFUSED);
}

static void refuse_model(struct play *r)
{
    static const struct {
        const char *before, *after;
    } says[SIM_DIALECT_COUNT] = {
        [SIM_RESPONSES] = {"The requested model '", "' does not exist."},
        [SIM_MESSAGES] = {"model: ", ""},
        [SIM_GEMINI] =
            {"models/",
             " is not found for API version v1beta, or is not supported for generateContent. Call ListModels "
             "to see the list of available models and their supported methods."},
        [SIM_OLLAMA] = {"model '", "' not found"},
    };
    struct refusal why = {.like = "model_not_found"};
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    if (says[r->at.dialect].before) {
        put_text(&out, says[r->at.dialect].before);
        put_span(&out, r->in.model);
        put_text(&out, says[r->at.dialect].after);
    }
    if (out.err == PD_OK && buf_size(&text))
        why.message = buf_span(&text);
    refuse(r, &why);
    buf_done(&text);
}

void play_start(struct provider *p, struct request *rq, const struct endpoint *at, bool reused)
{
    struct refusal why = {.like = "bad_request"}, door = {.like = "auth"};
    p->requests++;
    p->by_dialect[at->dialect][at->op]++;
    struct play *r = play_new(p, rq);
    if (!r) {
        provider_error(p, rq, at, 503, "unavailable", "The simulation is out of memory.");
        return;
    }
    r->at = *at;
    r->dialect = sim_dialects[at->dialect];
    r->fixed = at->op != OP_GENERATE;
    if (at->dialect == SIM_MESSAGES) /* errors repeat it, those in a stream too */
        r->request_id = make_id(&r->mem, &r->rnd, "req_011C", 21, false);
    pd_err err = understand(r, rq, &why);
    if (err == PD_OK)
        pick_fault(r, reused);
    provider_note(p, rq, at, reused, r->in.streamed, r->fault ? fault_name(r->fault->kind) : "");
    control_changed(p->sim);
    if (!provider_allows(p, rq, at, &door))
        refuse(r, &door);
    else if (err == PD_INVALID)
        refuse(r, &why);
    else if (err != PD_OK)
        play_fail(r);
    else if (!r->fixed && !model_served(p->conf, r->in.model))
        refuse_model(r);
    else if (p->conf->concurrency && p->running > (uint64_t)p->conf->concurrency)
        refuse(r, &(struct refusal){.like = "rate_limit",
                                    .message = SPAN_LIT("Too many requests at once: concurrency limit reached.")});
    else if (!r->fault || !strike_before(r))
        play_go(r);
}
