#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "simulate/sim.h"

#include <openssl/sha.h>
#include <stdio.h>

struct door {
    struct list node; /* sim->doors */
    struct sim *sim;
    struct provider *provider; /* NULL: the control port */
    struct server *server;
};

/* ---- what was asked ------------------------------------------------------- */

static bool peer_seen(struct provider *p, const struct request *rq, bool mark)
{
    uint64_t hash = hash_bytes(span_str(request_peer(rq)), 1);
    uint64_t *slot = &p->peers[hash % SIM_PEERS];
    bool seen = *slot == hash;
    if (mark)
        *slot = hash;
    return seen;
}

static bool is_secret(struct span name)
{
    return span_iis(name, "authorization") || span_iis(name, "api-key") || span_iis(name, "x-api-key") ||
           span_iis(name, "cookie") || span_iis(name, "proxy-authorization") || span_iis(name, "x-goog-api-key") ||
           span_iis(name, "x-amz-security-token");
}

static void note_headers(struct recent *n, const struct request *rq)
{
    const struct http1_field *fields;
    unsigned count = request_headers(rq, &fields);
    struct put out = put_into(&n->headers);
    bool first = true;
    buf_clear(&n->headers);
    put_text(&out, "{");
    for (unsigned i = 0; i < count && buf_size(&n->headers) < SIM_RECENT_BYTES / 2; i++) {
        put_text(&out, first ? "" : ",");
        put_json(&out, fields[i].name);
        put_text(&out, ":");
        put_json(&out, is_secret(fields[i].name) ? SPAN_LIT("(not shown)") : span_upto(fields[i].value, 1000));
        first = false;
    }
    put_text(&out, "}");
    if (out.err != PD_OK)
        buf_clear(&n->headers);
}

static void copy_text(char *out, size_t out_bytes, struct span s)
{
    size_t n = s.n < out_bytes ? s.n : out_bytes - 1;
    if (n)
        memcpy(out, s.p, n);
    out[n] = '\0';
}

/* Google's clients may have the key there. */
static void note_query(struct recent *n, struct span query)
{
    char *out = n->query;
    size_t room = sizeof(n->query);
    out[0] = '\0';
    while (query.p && room > 1) {
        struct span value = span_cut(&query, '&'), key = span_cut(&value, '=');
        int wrote = snprintf(out, room, "%s%.*s%s%.*s", out == n->query ? "" : "&", SPAN_FMT(span_upto(key, 200)),
                             value.p ? "=" : "", SPAN_FMT(span_is(key, "key") ? SPAN_LIT("(not-shown)") : value));
        if (wrote < 0 || (size_t)wrote >= room)
            return;
        out += wrote;
        room -= (size_t)wrote;
    }
}

static void note_body(struct recent *n, struct span body)
{
    buf_clear(&n->body);
    if (body.n <= SIM_RECENT_BODY)
        (void)(buf_add(&n->body, body) == PD_OK); /* without memory it is not shown */
}

void provider_note(struct provider *p, struct request *rq, const struct endpoint *at, bool reused, bool streamed,
                   const char *fault)
{
    struct recent *n = &p->recent[p->requests % SIM_RECENT];
    struct span body = request_body(rq);
    unsigned char digest[SHA256_DIGEST_LENGTH];
    n->number = p->requests;
    n->reused = reused;
    n->streamed = streamed;
    n->body_bytes = body.n;
    n->at = *at;
    note_query(n, request_query(rq));
    note_body(n, body);
    copy_text(n->method, sizeof(n->method), request_method(rq));
    copy_text(n->path, sizeof(n->path), request_path(rq));
    copy_text(n->fault, sizeof(n->fault), span_str(fault));
    SHA256((const unsigned char *)(body.n ? body.p : ""), body.n, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        n->sha256[2 * i] = alphabet_hex[digest[i] >> 4];
        n->sha256[2 * i + 1] = alphabet_hex[digest[i] & 15];
    }
    note_headers(n, rq);
    if (p->sim->verbose)
        fprintf(stderr, "%.*s #%llu %s %s %zu bytes%s%s%s\n", SPAN_FMT(p->conf->name),
                (unsigned long long)n->number, n->method, n->path, body.n, reused ? ", reused connection" : "",
                *fault ? ", fault " : "", fault);
}

/* ---- requests ------------------------------------------------------------- */

struct endpoint provider_endpoint(const struct request *rq)
{
    struct endpoint_headers h = {.anthropic = request_header(rq, "anthropic-version").p != NULL,
                                 .google = request_header(rq, "x-goog-api-key").p != NULL};
    return endpoint_find(request_path(rq), request_query(rq), h);
}

static unsigned fault_on(const struct endpoint *at)
{
    switch (at->op) {
    case OP_GENERATE:
        return FAULT_ON_CHAT;
    case OP_EMBED:
        return FAULT_ON_EMBEDDINGS;
    case OP_COUNT:
        return FAULT_ON_COUNT;
    case OP_MODELS:
    case OP_ABOUT:
        return FAULT_ON_MODELS;
    case OP_NONE:
        break;
    }
    return 0;
}

/* A head that is put together before there is a run. */
struct early {
    struct header at[WIRE_HEADERS_MAX];
    size_t n;
};

static pd_err early_add(void *ctx, struct span name, struct span value)
{
    struct early *e = ctx;
    if (e->n == WIRE_HEADERS_MAX)
        return PD_TOOBIG;
    e->at[e->n++] = (struct header){name, value};
    return PD_OK;
}

static pd_err early_head(struct provider *p, const struct endpoint *at, const struct style_fault *f,
                         struct arena *mem, struct early *e)
{
    const struct sim_dialect *d = sim_dialects[at->dialect];
    struct rnd rnd = {p->requests * 77 + (uint64_t)p->sim->script->seed};
    const char *number = arena_printf(mem, "%.*s-%llu", SPAN_FMT(p->conf->name), (unsigned long long)p->requests);
    struct sim_headers h = {.mem = mem,
                            .rnd = &rnd,
                            .conf = p->conf,
                            .at = at,
                            .number = number,
                            .now_s = clock_wall_ms() / 1000,
                            .failed = f != NULL,
                            .status = f ? f->status : 200,
                            .request_id = f ? f->request_id : SPAN_NONE,
                            .error_type = f ? f->type : SPAN_NONE,
                            .add = early_add,
                            .ctx = e};
    pd_err err =
        number ? early_add(e, SPAN_LIT("content-type"), span_str(d->json_type ? d->json_type : "application/json"))
               : PD_NOMEM;
    if (err == PD_OK && d->headers && at->dialect != SIM_CHAT)
        err = d->headers(&h);
    return err;
}

void provider_refuse(struct provider *p, struct request *rq, const struct endpoint *at, const struct refusal *why)
{
    const struct sim_dialect *d = sim_dialects[at->dialect];
    struct style_fault f = {
        .status = why->status, .message = why->message, .type = why->type, .code = why->code, .param = why->param};
    struct early e = {.n = 0};
    struct arena mem;
    struct buf body;
    arena_init(&mem, 0, 0);
    buf_init(&body, 0);
    struct put out = put_into(&body);
    struct rnd rnd = {p->requests * 77 + (uint64_t)p->sim->script->seed};
    f.request_id = make_id(&mem, &rnd, "req_011C", 21, false);
    dialect_fault_fill(d, &f, span_str(why->like));
    if (why->body.p)
        put_span(&out, why->body);
    else
        d->put_error(&out, p->conf, at, &f);
    pd_err err = early_head(p, at, &f, &mem, &e);
    if (err == PD_OK && out.err == PD_OK)
        reply_simple(rq, f.status, e.at, e.n, buf_span(&body));
    else
        reply_abort(rq);
    buf_done(&body);
    arena_done(&mem);
}

void provider_error(struct provider *p, struct request *rq, const struct endpoint *at, int status,
                    const char *like, const char *message)
{
    struct refusal why = {.like = like, .status = status, .message = message ? span_str(message) : SPAN_NONE};
    provider_refuse(p, rq, at, &why);
}

static struct span header_of(void *ctx, const char *name)
{
    return request_header(ctx, name);
}

bool provider_allows(struct provider *p, struct request *rq, const struct endpoint *at, struct refusal *why)
{
    struct caller c = {.method = request_method(rq),
                       .path = request_path(rq),
                       .query = request_query(rq),
                       .body = request_body(rq),
                       .header = header_of,
                       .ctx = rq};
    return auth_check(p->conf, at, &c, clock_wall_ms() / 1000, why);
}

void models_reply(struct provider *p, struct request *rq, const struct endpoint *at)
{
    const struct sim_dialect *d = sim_dialects[at->dialect];
    struct early e = {.n = 0};
    struct ask ask = {.at = *at};
    struct arena mem;
    struct buf text;
    arena_init(&mem, 0, 0);
    buf_init(&text, 0);
    struct refusal why = {.like = "model_not_found", .status = at->dialect == SIM_RESPONSES ? 404 : 0};
    struct reading r = {.conf = p->conf, .body = request_body(rq), .mem = &mem, .ask = &ask, .why = &why};
    struct put out = put_into(&text);
    pd_err err = PD_OK;
    if (at->op == OP_ABOUT)
        err = d->about(&r, request_path(rq), &out);
    else if (!d->models(p->conf, at->model.p ? at->model : SPAN_NONE, &out))
        err = PD_INVALID;
    if (err == PD_OK)
        err = early_head(p, at, NULL, &mem, &e);
    if (err == PD_INVALID)
        provider_refuse(p, rq, at, &why);
    else if (err != PD_OK || out.err != PD_OK)
        reply_abort(rq);
    else
        reply_simple(rq, 200, e.at, e.n, buf_span(&text));
    buf_done(&text);
    arena_done(&mem);
}

static void models_request(struct provider *p, struct request *rq, const struct endpoint *at, bool reused)
{
    struct fault_query ask = {.seed = (uint64_t)p->sim->script->seed,
                              .now_us = loop_now_us(p->sim->loop),
                              .on = FAULT_ON_MODELS,
                              .dialect = at->dialect,
                              .reused = reused};
    uint64_t before = p->faults->requests;
    bool public_list = strcmp(p->conf->style->name, "llamacpp") == 0; /* even with a key set */
    struct refusal why;
    const struct fault *f = fault_pick(p->faults, &ask);
    p->faults->requests = before; /* only what is asked of a model is numbered */
    p->by_dialect[at->dialect][at->op]++;
    if (f && f->kind == FAULT_RESET) {
        p->by_fault[f->kind]++;
        reply_reset(rq);
    } else if (f && f->kind == FAULT_STATUS) {
        p->by_fault[f->kind]++;
        strike_early(p, rq, at, f);
    } else if (!public_list && !provider_allows(p, rq, at, &why)) {
        provider_refuse(p, rq, at, &why);
    } else {
        models_reply(p, rq, at);
    }
    control_changed(p->sim);
}

static void on_head(void *ctx, struct request *rq)
{
    struct door *d = ctx;
    struct provider *p = d->provider;
    struct endpoint at = provider_endpoint(rq);
    unsigned on = fault_on(&at);
    if (!p || !(on & (FAULT_ON_CHAT | FAULT_ON_EMBEDDINGS | FAULT_ON_COUNT)))
        return;
    struct fault_query ask = {.seed = (uint64_t)p->sim->script->seed,
                              .now_us = loop_now_us(p->sim->loop),
                              .on = on,
                              .dialect = at.dialect,
                              .head_only = true,
                              .reused = peer_seen(p, rq, false)};
    const struct fault *f = fault_pick(p->faults, &ask);
    if (!f)
        return;
    p->requests++;
    p->faulted++;
    p->by_fault[f->kind]++;
    p->by_dialect[at.dialect][at.op]++;
    provider_note(p, rq, &at, peer_seen(p, rq, true), false, fault_name(f->kind));
    strike_early(p, rq, &at, f);
    control_changed(p->sim);
}

static void on_request(void *ctx, struct request *rq)
{
    struct door *d = ctx;
    struct provider *p = d->provider;
    struct span path = request_path(rq);
    if (span_starts(path, "/sim") || !p) {
        control_request(d->sim, p, rq);
        return;
    }
    bool reused = peer_seen(p, rq, true);
    struct endpoint at = provider_endpoint(rq);
    bool post = span_is(request_method(rq), "POST");
    if (span_is(path, "/"))
        reply_simple(rq, 200, NULL, 0, SPAN_LIT("The simulation is running\n"));
    else if (at.op == OP_NONE)
        provider_error(
            p, rq, &at, 404, "model_not_found",
            "There is nothing at this path: use /v1/chat/completions, /v1/responses, /v1/messages, "
            "/v1beta/models/M:generateContent, /model/M/converse, /api/chat, /v1/embeddings, /v1/models or "
            "/sim.");
    else if (at.op == OP_MODELS || at.op == OP_ABOUT)
        models_request(p, rq, &at, reused);
    else if (!post)
        provider_error(p, rq, &at, 405, "bad_request", "Use POST here.");
    else
        play_start(p, rq, &at, reused);
}

/* ---- doors ---------------------------------------------------------------- */

static void door_closed(void *ctx)
{
    struct door *d = ctx;
    struct sim *sim = d->sim;
    server_free(d->server);
    list_remove(&d->node);
    mem_free(d);
    if (sim->ending && list_empty(&sim->doors))
        loop_stop(sim->loop);
}

static void door_close(struct door *d)
{
    server_close(d->server, door_closed, d);
}

static void door_drained(void *ctx)
{
    door_close(ctx);
}

static pd_err door_open(struct sim *sim, struct provider *p, uint16_t *port, struct door **ret)
{
    static const struct server_handler handler = {on_head, on_request};
    struct server_rules rules;
    char address[300];
    server_rules_default(&rules);
    rules.body_bytes = SIM_BODY_BYTES;
    rules.connections = 1000000;             /* the descriptors are the limit */
    rules.write_stall_ms = 24 * 3600 * 1000; /* slow clients are what some tests are about */
    rules.idle_ms =
        p && p->conf->idle_close_us > 0 ? (uint64_t)(p->conf->idle_close_us + 999) / 1000 : 3600 * 1000;
    struct door *d = mem_zalloc(sizeof(*d));
    if (!d)
        return PD_NOMEM;
    d->sim = sim;
    d->provider = p;
    d->server = server_new(sim->loop, &rules, &handler, d);
    if (!d->server) {
        mem_free(d);
        return PD_NOMEM;
    }
    list_push(&sim->doors, &d->node);
    snprintf(address, sizeof(address), "%.*s:%u", SPAN_FMT(span_upto(sim->script->host, 200)), *port);
    pd_err err = server_listen(d->server, address, port);
    if (err != PD_OK) {
        door_close(d);
        return err;
    }
    *ret = d;
    return PD_OK;
}

static pd_err say_why(const struct sim *sim, struct span name, unsigned port, pd_err err, char *why)
{
    const char *what = err == PD_EXISTS ? "the port is taken: choose another, or 0 for a free one"
                       : err == PD_INVALID
                           ? "the address cannot be listened on: write a numeric one, as \"host\": \"127.0.0.1\""
                           : pd_err_text(err);
    snprintf(why, READ_WHY, "%.*s: cannot listen on %.*s:%u: %s", SPAN_FMT(name),
             SPAN_FMT(span_upto(sim->script->host, 100)), port, what);
    return err;
}

pd_err provider_open(struct provider *p, char *why)
{
    timer_stop(p->sim->loop, &p->up);
    later_cancel(&p->shut);
    if (p->door)
        return PD_OK;
    pd_err err = door_open(p->sim, p, &p->port, &p->door);
    return err == PD_OK ? PD_OK : say_why(p->sim, p->conf->name, p->port, err, why);
}

pd_err control_open(struct sim *sim, char *why)
{
    pd_err err = door_open(sim, NULL, &sim->control_port, &sim->control);
    return err == PD_OK ? PD_OK : say_why(sim, SPAN_LIT("control"), sim->control_port, err, why);
}

void doors_close(struct sim *sim)
{
    if (sim->ending)
        return;
    sim->ending = true;
    for (unsigned i = 0; i < sim->script->providers_count; i++)
        provider_done(&sim->providers[i]);
    LIST_EACH(node, &sim->doors)
    door_close(LIST_OF(node, struct door, node));
    if (list_empty(&sim->doors))
        loop_stop(sim->loop);
}

const struct server_stats *provider_stats(const struct provider *p)
{
    return p->door ? server_stats(p->door->server) : NULL;
}

/* ---- up and down ---------------------------------------------------------- */

static void shut_now(void *ctx)
{
    struct provider *p = ctx;
    struct door *d = p->door;
    if (!d)
        return;
    p->door = NULL;
    if (!p->shut_hard) {
        server_drain(d->server, door_drained, d);
        return;
    }
    p->dropping = true;
    door_close(d);
    p->dropping = false;
}

static void open_again(void *ctx)
{
    struct provider *p = ctx;
    char why[READ_WHY];
    if (provider_open(p, why) != PD_OK) /* the old socket may still be closing */
        timer_arm(p->sim->loop, &p->up, loop_now_ms(p->sim->loop) + 10);
}

void provider_shut(struct provider *p, bool hard, int64_t for_us)
{
    p->shut_hard = hard;
    loop_later(p->sim->loop, &p->shut);
    timer_stop(p->sim->loop, &p->up);
    if (for_us >= 0)
        timer_arm(p->sim->loop, &p->up, loop_now_ms(p->sim->loop) + (uint64_t)for_us / 1000 + 1);
}

static void on_flap(void *ctx)
{
    struct provider *p = ctx;
    struct loop *l = p->sim->loop;
    p->flapped = !p->flapped;
    if (p->conf->flap.kind == FAULT_REFUSE && p->flapped)
        provider_shut(p, true, -1);
    else if (p->conf->flap.kind == FAULT_REFUSE)
        open_again(p);
    timer_arm(l, &p->flap,
              loop_now_ms(l) + (uint64_t)(p->flapped ? p->conf->flap_down_us : p->conf->flap_up_us) / 1000 + 1);
}

/* ---- start and end -------------------------------------------------------- */

/* The faults of the script, unused. */
static pd_err first_faults(struct provider *p)
{
    struct fault_set *s = fault_set_new(loop_now_us(p->sim->loop));
    if (!s)
        return PD_NOMEM;
    size_t bytes = sizeof(*s->rows) * p->conf->faults_count;
    s->rows = arena_alloc(&s->mem, bytes ? bytes : 1);
    if (!s->rows) {
        fault_set_unref(s);
        return PD_NOMEM;
    }
    if (bytes)
        memcpy(s->rows, p->conf->faults, bytes);
    s->count = p->conf->faults_count;
    fault_set_unref(p->faults);
    p->faults = s;
    return PD_OK;
}

pd_err provider_faults(struct provider *p, struct span json, char *why)
{
    struct reader r;
    struct json doc;
    struct fault_set *s = fault_set_new(loop_now_us(p->sim->loop));
    if (!s)
        return PD_NOMEM;
    struct span copy = arena_span(&s->mem, json);
    pd_err err = copy.p ? PD_OK : PD_NOMEM;
    why[0] = '\0';
    if (err == PD_OK) {
        reader_init(&r, "the fault list", copy, true, &s->mem, why);
        if (json_check(copy) != PD_OK || json_first(copy, &doc, NULL) != PD_OK)
            err =
                reader_fail(&r, copy, "this is not JSON: write a list, as [{\"fault\": \"cut\", \"after\": 10}]");
        else if (json_get(doc, "faults").type != JSON_NONE)
            err = fault_read_list(&r, json_get(doc, "faults"), &s->rows, &s->count);
        else
            err = fault_read_list(&r, doc, &s->rows, &s->count);
    }
    if (err != PD_OK) {
        fault_set_unref(s);
        return err;
    }
    fault_set_unref(p->faults);
    p->faults = s;
    return PD_OK;
}

void provider_reset(struct provider *p)
{
#define X(name, what) p->name = 0;
    SIM_COUNTERS(X)
#undef X
    memset(p->by_fault, 0, sizeof(p->by_fault));
    memset(p->by_dialect, 0, sizeof(p->by_dialect));
    p->drifted = 0;
    for (unsigned i = 0; i < SIM_RECENT; i++)
        p->recent[i].number = 0;
    (void)(first_faults(p) == PD_OK); /* without memory the old list stays */
}

pd_err provider_init(struct provider *p, struct sim *sim, const struct script_provider *conf)
{
    p->sim = sim;
    p->conf = conf;
    p->port = (uint16_t)conf->port;
    list_init(&p->runs);
    timer_init(&p->flap, on_flap, p);
    timer_init(&p->up, open_again, p);
    later_init(&p->shut, shut_now, p);
    for (unsigned i = 0; i < SIM_RECENT; i++) {
        buf_init(&p->recent[i].headers, SIM_RECENT_BYTES);
        buf_init(&p->recent[i].body, SIM_RECENT_BODY);
    }
    if (conf->flap_down_us > 0)
        timer_arm(sim->loop, &p->flap, loop_now_ms(sim->loop) + (uint64_t)conf->flap_up_us / 1000 + 1);
    return first_faults(p);
}

/* Timers only: runs end with their doors, the rest is freed by provider_free(). */
void provider_done(struct provider *p)
{
    timer_stop(p->sim->loop, &p->flap);
    timer_stop(p->sim->loop, &p->up);
    later_cancel(&p->shut);
}

void provider_free(struct provider *p)
{
    for (unsigned i = 0; i < SIM_RECENT; i++) {
        buf_done(&p->recent[i].headers);
        buf_done(&p->recent[i].body);
    }
    p->faults = fault_set_unref(p->faults);
}
