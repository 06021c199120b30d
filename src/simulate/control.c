#include "base/mem.h"
#include "simulate/sim.h"

#include <stdio.h>

enum { WAIT_CONDITIONS_MAX = 8, WAITERS_MAX = 10000, CONTROL_NAME_MAX = 64 };

struct condition {
    char name[CONTROL_NAME_MAX];
    uint64_t value;
};

struct waiter {
    struct list node;
    struct sim *sim;
    struct provider *provider; /* NULL: the sum over all */
    struct request *rq;
    struct timer timer;
    struct condition conditions[WAIT_CONDITIONS_MAX];
    unsigned count;
};

/* ---- figures -------------------------------------------------------------- */

/* "messages" counts answers, "messages.count", "gemini.embed" and "chat.models" the rest. */
static const char *const operation_words[] = {[OP_GENERATE] = "",
                                              [OP_EMBED] = ".embed",
                                              [OP_COUNT] = ".count",
                                              [OP_MODELS] = ".models",
                                              [OP_ABOUT] = ".about"};

static bool dialect_figure(const struct provider *p, const char *name, uint64_t *ret)
{
    for (unsigned d = 0; d < SIM_DIALECT_COUNT; d++) {
        const char *own = endpoint_dialect_name((enum sim_dialect_id)d);
        size_t n = strlen(own);
        for (unsigned op = OP_GENERATE; op <= OP_ABOUT; op++)
            if (strncmp(name, own, n) == 0 && strcmp(name + n, operation_words[op]) == 0) {
                *ret = p->by_dialect[d][op];
                return true;
            }
    }
    return false;
}

static bool figure_of(const struct provider *p, const char *name, uint64_t *ret)
{
    *ret = p->running;
    if (strcmp(name, "running") == 0)
        return true;
    *ret = p->held;
    if (strcmp(name, "held") == 0)
        return true;
#define X(counter, what)             \
    *ret = p->counter;               \
    if (strcmp(name, #counter) == 0) \
        return true;
    SIM_COUNTERS(X)
#undef X
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++) {
        *ret = p->by_fault[i];
        if (strcmp(name, fault_name(i)) == 0)
            return true;
    }
    return dialect_figure(p, name, ret);
}

static bool figure(const struct sim *sim, const struct provider *p, const char *name, uint64_t *ret)
{
    uint64_t one, sum = 0;
    if (p)
        return figure_of(p, name, ret);
    for (unsigned i = 0; i < sim->script->providers_count; i++) {
        if (!figure_of(&sim->providers[i], name, &one))
            return false;
        sum += one;
    }
    *ret = sum;
    return true;
}

static void put_request(struct put *out, const struct recent *n, bool with_body)
{
    put_printf(out,
               "{\"number\":%llu,\"dialect\":\"%s%s\",\"method\":\"%s\",\"path\":", (unsigned long long)n->number,
               endpoint_dialect_name(n->at.dialect), operation_words[n->at.op], n->method);
    put_json(out, span_str(n->path));
    put_text(out, ",\"query\":");
    put_json(out, span_str(n->query));
    put_printf(out,
               ",\"body_bytes\":%zu,\"sha256\":\"%s\",\"streamed\":%s,\"reused\":%s,\"fault\":\"%s\",\"headers\":",
               n->body_bytes, n->sha256, n->streamed ? "true" : "false", n->reused ? "true" : "false", n->fault);
    put_span(out, buf_size(&n->headers) ? buf_span(&n->headers) : SPAN_LIT("{}"));
    if (with_body) {
        put_text(out, ",\"body\":");
        if (json_check(buf_span(&n->body)) == PD_OK)
            put_span(out, buf_span(&n->body));
        else
            put_json(out, buf_span(&n->body));
    }
    put_text(out, "}");
}

/* The last `most`, the oldest first. */
static void put_requests(struct put *out, const struct provider *p, unsigned most, bool with_body)
{
    bool first = true;
    put_text(out, "[");
    for (unsigned i = 1; i <= SIM_RECENT; i++) {
        const struct recent *n = &p->recent[(p->requests + i) % SIM_RECENT];
        if (!n->number || SIM_RECENT - i >= most)
            continue;
        put_text(out, first ? "" : ",");
        put_request(out, n, with_body);
        first = false;
    }
    put_text(out, "]");
}

static void put_recent(struct put *out, const struct provider *p)
{
    put_text(out, ",\"recent\":");
    put_requests(out, p, SIM_RECENT, false);
}

static void put_state(struct put *out, const struct provider *p)
{
    const struct server_stats *stats = provider_stats(p);
    bool first = true;
    put_text(out, "{\"name\":");
    put_json(out, p->conf->name);
    put_printf(out, ",\"port\":%u,\"style\":\"%s\",\"listening\":%s,\"down\":%s,\"running\":%u,\"held\":%u",
               p->port, p->conf->style->name, stats ? "true" : "false", p->flapped ? "true" : "false", p->running,
               p->held);
#define X(counter, what) put_printf(out, ",\"%s\":%llu", #counter, (unsigned long long)p->counter);
    SIM_COUNTERS(X)
#undef X
    put_printf(out, ",\"connections_open\":%llu,\"connections_total\":%llu,\"faults_left\":%u,\"by_fault\":{",
               (unsigned long long)(stats ? stats->connections_open : 0),
               (unsigned long long)(stats ? stats->connections_total : 0), p->faults->count);
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++)
        if (p->by_fault[i]) {
            put_printf(out, "%s\"%s\":%llu", first ? "" : ",", fault_name(i), (unsigned long long)p->by_fault[i]);
            first = false;
        }
    put_text(out, "},\"by_dialect\":{");
    first = true;
    for (unsigned d = 0; d < SIM_DIALECT_COUNT; d++)
        for (unsigned op = OP_GENERATE; op <= OP_ABOUT; op++)
            if (p->by_dialect[d][op]) {
                put_printf(out, "%s\"%s%s\":%llu", first ? "" : ",", endpoint_dialect_name((enum sim_dialect_id)d),
                           operation_words[op], (unsigned long long)p->by_dialect[d][op]);
                first = false;
            }
    put_text(out, "}");
    put_recent(out, p);
    put_text(out, "}");
}

static void put_states(struct put *out, const struct sim *sim, const struct provider *p)
{
    if (p) {
        put_state(out, p);
        return;
    }
    put_text(out, "{\"providers\":{");
    for (unsigned i = 0; i < sim->script->providers_count; i++) {
        put_text(out, i ? "," : "");
        put_json(out, sim->providers[i].conf->name);
        put_text(out, ":");
        put_state(out, &sim->providers[i]);
    }
    put_text(out, "}}");
}

/* ---- replies -------------------------------------------------------------- */

static void reply_json(struct request *rq, int status, struct span body)
{
    struct header type = {SPAN_LIT("content-type"), SPAN_LIT("application/json")};
    reply_simple(rq, status, &type, 1, body);
}

static void reply_state(struct sim *sim, struct provider *p, struct request *rq, int status)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_states(&out, sim, p);
    put_text(&out, "\n");
    if (out.err == PD_OK)
        reply_json(rq, status, buf_span(&text));
    else
        reply_abort(rq);
    buf_done(&text);
}

static void reply_error(struct request *rq, int status, const char *message)
{
    struct buf text;
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_text(&out, "{\"error\":{\"message\":");
    put_json(&out, span_str(message));
    put_text(&out, "}}\n");
    if (out.err == PD_OK)
        reply_json(rq, status, buf_span(&text));
    else
        reply_abort(rq);
    buf_done(&text);
}

/* ---- the query ------------------------------------------------------------ */

static struct span query_get(const struct request *rq, const char *name)
{
    struct span rest = request_query(rq);
    while (rest.p) {
        struct span value = span_cut(&rest, '&');
        struct span key = span_cut(&value, '=');
        if (span_is(key, name))
            return value.p ? value : SPAN_LIT("");
    }
    return SPAN_NONE;
}

/* ---- waiting -------------------------------------------------------------- */

static bool reached(const struct waiter *w)
{
    uint64_t now;
    for (unsigned i = 0; i < w->count; i++) {
        if (!figure(w->sim, w->provider, w->conditions[i].name, &now))
            return false;
        if (w->conditions[i].value == 0 ? now != 0 : now < w->conditions[i].value)
            return false;
    }
    return true;
}

static void waiter_free(struct waiter *w)
{
    timer_stop(w->sim->loop, &w->timer);
    list_remove(&w->node);
    mem_free(w);
}

static void wait_answered(struct waiter *w, int status)
{
    struct sim *sim = w->sim;
    struct provider *p = w->provider;
    struct request *rq = w->rq;
    waiter_free(w);
    reply_state(sim, p, rq, status);
}

static void wait_gone(void *ctx)
{
    waiter_free(ctx);
}

static void wait_timeout(void *ctx)
{
    struct waiter *w = ctx;
    wait_answered(w, 408);
}

static void check_waiters(void *ctx)
{
    struct sim *sim = ctx;
    LIST_EACH(node, &sim->waiters)
    {
        struct waiter *w = LIST_OF(node, struct waiter, node);
        if (reached(w))
            wait_answered(w, 200);
    }
}

void control_changed(struct sim *sim)
{
    if (!list_empty(&sim->waiters))
        loop_later(sim->loop, &sim->check);
}

void control_init(struct sim *sim)
{
    list_init(&sim->waiters);
    later_init(&sim->check, check_waiters, sim);
}

static bool read_conditions(struct waiter *w, uint64_t *ret_timeout_ms, char *why)
{
    struct span rest = request_query(w->rq);
    uint64_t now;
    int64_t us;
    while (rest.p) {
        struct span value = span_cut(&rest, '&');
        struct span key = span_cut(&value, '=');
        if (span_is(key, "provider") || key.n == 0)
            continue;
        if (span_is(key, "timeout")) {
            if (!read_time(value, &us)) {
                snprintf(why, READ_WHY, "timeout is no time: write timeout=5s");
                return false;
            }
            *ret_timeout_ms = (uint64_t)us / 1000;
            continue;
        }
        struct condition *c = &w->conditions[w->count];
        if (w->count == WAIT_CONDITIONS_MAX || key.n >= sizeof(c->name) || !span_u64(value, &c->value)) {
            snprintf(why, READ_WHY, "write at most %d conditions, as requests=3&running=0", WAIT_CONDITIONS_MAX);
            return false;
        }
        memcpy(c->name, key.p, key.n);
        c->name[key.n] = '\0';
        if (!figure(w->sim, w->provider, c->name, &now)) {
            snprintf(why, READ_WHY,
                     "nothing is counted under \"%s\": use requests, complete, faulted, cancelled, refused, "
                     "tokens, prompt_tokens, continued, strayed, struck, stalls, running, held, or the name of a "
                     "fault",
                     c->name);
            return false;
        }
        w->count++;
    }
    if (!w->count)
        snprintf(why, READ_WHY, "nothing to wait for: write /sim/wait?requests=3");
    return w->count > 0;
}

static void wait_request(struct sim *sim, struct provider *p, struct request *rq)
{
    static const struct request_handler handler = {wait_gone, NULL};
    char why[READ_WHY];
    uint64_t timeout_ms = SIM_WAIT_MS;
    struct waiter *w = mem_zalloc(sizeof(*w));
    if (!w) {
        reply_error(rq, 503, "out of memory");
        return;
    }
    *w = (struct waiter){.sim = sim, .provider = p, .rq = rq};
    timer_init(&w->timer, wait_timeout, w);
    list_push(&sim->waiters, &w->node);
    if (!read_conditions(w, &timeout_ms, why)) {
        waiter_free(w);
        reply_error(rq, 400, why);
        return;
    }
    if (reached(w)) {
        wait_answered(w, 200);
        return;
    }
    request_set_handler(rq, &handler, w);
    timer_arm(sim->loop, &w->timer, loop_now_ms(sim->loop) + timeout_ms);
}

/* ---- orders --------------------------------------------------------------- */

static void release(struct provider *p, uint64_t *most)
{
    LIST_EACH(node, &p->runs)
    {
        struct play *r = LIST_OF(node, struct play, node);
        if (r->stage != PLAY_HELD || *most == 0)
            continue;
        (*most)--;
        play_release(r);
    }
}

static void release_request(struct sim *sim, struct provider *p, struct request *rq)
{
    uint64_t most = UINT64_MAX;
    struct span n = query_get(rq, "n");
    if (n.p && !span_u64(n, &most)) {
        reply_error(rq, 400, "n is no number: write /sim/release?n=1, or leave n out to release all");
        return;
    }
    for (unsigned i = 0; i < sim->script->providers_count; i++)
        if (!p || p == &sim->providers[i])
            release(&sim->providers[i], &most);
    control_changed(sim);
    reply_state(sim, p, rq, 200);
}

/* The list as it stands: how many requests got each, and how often it did what it says. */
static void faults_shown(struct sim *sim, struct provider *p, struct request *rq)
{
    struct buf text;
    (void)sim;
    if (!p) {
        reply_error(rq, 400, "which provider? Write /sim/faults?provider=NAME, or use the provider's own port");
        return;
    }
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_text(&out, "[");
    for (unsigned i = 0; i < p->faults->count; i++) {
        const struct fault *f = &p->faults->rows[i];
        put_printf(&out, "%s{\"fault\":\"%s\",\"match\":", i ? "," : "", fault_name(f->kind));
        put_json(&out, f->match.p ? f->match : SPAN_LIT(""));
        put_printf(&out, ",\"used\":%lld,\"struck\":%lld}", (long long)f->used, (long long)f->struck);
    }
    put_text(&out, "]\n");
    if (out.err == PD_OK)
        reply_json(rq, 200, buf_span(&text));
    else
        reply_abort(rq);
    buf_done(&text);
}

static void faults_request(struct sim *sim, struct provider *p, struct request *rq)
{
    char why[READ_WHY];
    if (!p) {
        reply_error(rq, 400, "which provider? Write /sim/faults?provider=NAME, or use the provider's own port");
        return;
    }
    pd_err err = provider_faults(p, request_body(rq), why);
    if (err != PD_OK)
        reply_error(rq, err == PD_NOMEM ? 503 : 400, why[0] ? why : pd_err_text(err));
    else
        reply_state(sim, p, rq, 200);
}

static void down_request(struct sim *sim, struct provider *p, struct request *rq)
{
    int64_t for_us = -1;
    struct span time = query_get(rq, "for");
    if (!p || (time.p && !read_time(time, &for_us))) {
        reply_error(rq, 400,
                    p ? "for is no time: write /sim/down?for=5s"
                      : "which provider? Write /sim/down?provider=NAME");
        return;
    }
    bool soft = span_is(query_get(rq, "running"), "keep");
    reply_state(sim, p, rq, 200);
    provider_shut(p, !soft, for_us);
}

static void up_request(struct sim *sim, struct provider *p, struct request *rq)
{
    char why[READ_WHY];
    if (!p)
        reply_error(rq, 400, "which provider? Write /sim/up?provider=NAME");
    else if (provider_open(p, why) != PD_OK)
        reply_error(rq, 503, why);
    else
        reply_state(sim, p, rq, 200);
}

static void reset_request(struct sim *sim, struct provider *p, struct request *rq)
{
    for (unsigned i = 0; i < sim->script->providers_count; i++)
        if (!p || p == &sim->providers[i])
            provider_reset(&sim->providers[i]);
    control_changed(sim);
    reply_state(sim, p, rq, 200);
}

/* What was asked, bodies included. */
static void requests_request(struct sim *sim, struct provider *p, struct request *rq)
{
    uint64_t most = SIM_RECENT;
    struct buf text;
    struct span last = query_get(rq, "last");
    (void)sim;
    if (!p || (last.p && !span_u64(last, &most))) {
        reply_error(rq, 400,
                    p ? "last is no number: write /sim/requests?last=1"
                      : "which provider? Write /sim/requests?provider=NAME");
        return;
    }
    buf_init(&text, 0);
    struct put out = put_into(&text);
    put_requests(&out, p, most > SIM_RECENT ? SIM_RECENT : (unsigned)most, true);
    put_text(&out, "\n");
    if (out.err == PD_OK)
        reply_json(rq, 200, buf_span(&text));
    else
        reply_abort(rq);
    buf_done(&text);
}

static const struct {
    const char *path, *method;
    void (*fn)(struct sim *sim, struct provider *p, struct request *rq);
} orders[] = {
    {"/sim/wait", "GET", wait_request},         {"/sim/release", "POST", release_request},
    {"/sim/faults", "POST", faults_request},    {"/sim/reset", "POST", reset_request},
    {"/sim/down", "POST", down_request},        {"/sim/up", "POST", up_request},
    {"/sim/requests", "GET", requests_request}, {"/sim/faults", "GET", faults_shown},
};

void control_request(struct sim *sim, struct provider *p, struct request *rq)
{
    struct span path = request_path(rq), name = query_get(rq, "provider");
    const char *other = NULL; /* the method that the path takes */
    if (name.p) {
        p = NULL;
        for (unsigned i = 0; i < sim->script->providers_count; i++)
            if (span_eq(sim->providers[i].conf->name, name))
                p = &sim->providers[i];
        if (!p) {
            reply_error(rq, 404, "no provider has this name: GET /sim/state on the control port lists them");
            return;
        }
    }
    if (span_is(path, "/sim/state") || span_is(path, "/sim")) {
        reply_state(sim, p, rq, 200);
        return;
    }
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        if (!span_is(path, orders[i].path))
            continue;
        if (span_is(request_method(rq), orders[i].method)) {
            orders[i].fn(sim, p, rq);
            return;
        }
        other = orders[i].method;
    }
    if (other) {
        reply_error(rq, 405, strcmp(other, "GET") == 0 ? "use GET here" : "use POST here");
        return;
    }
    reply_error(rq, 404,
                "use GET /sim/state, GET /sim/requests, GET /sim/wait?requests=N, POST /sim/faults, /sim/release, "
                "/sim/reset, "
                "/sim/down or /sim/up");
}
