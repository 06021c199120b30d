/* perdure's own /api: providers with their state, calls with every attempt. No prompt, no answer, no key. */
#include "base/clock.h"
#include "dialect/codec.h"
#include "front/front_priv.h"
#include "relay/follow.h"
#include "relay/ledger.h"
#include "relay/record.h"
#include "relay/relay.h"
#include "relay/relay_view.h"
#include "relay/routing.h"

/* ---- /api/providers ---------------------------------------------------------------- */

static void put_number(struct put *p, const char *name, double v, bool known)
{
    put_printf(p, ",\"%s\":", name);
    if (known)
        put_printf(p, "%.1f", v);
    else
        put_text(p, "null");
}

static void put_left(struct put *p, const char *name, int64_t v)
{
    if (v >= 0)
        put_printf(p, ",\"%s\":%lld", name, (long long)v);
}

static void put_target(struct put *p, struct target *t, uint64_t now)
{
    uint64_t ready_at;
    uint64_t until = t->park_until_ms > t->rest_until_ms ? t->park_until_ms : t->rest_until_ms;
    put_text(p, "{\"model\":");
    put_json(p, span_str(t->model));
    put_printf(p, ",\"breaker\":\"%s\",\"running\":%u,\"ok\":%llu,\"failed\":%llu",
               breaker_state_name(t->breaker.state), t->running, (unsigned long long)t->ok_total,
               (unsigned long long)t->failed_total);
    put_printf(p, ",\"last_failure\":\"%s\",\"parked_for\":\"%s\",\"resting_ms\":%llu",
               failure_row(t->last_failure)->name, failure_row(t->parked_for)->name,
               (unsigned long long)(until > now ? until - now : 0));
    put_number(p, "ttft_ms", t->ttft_ms.value, t->ttft_ms.samples > 0);
    put_number(p, "ttft_p95_ms", (double)quantile_at(&t->ttft, 0.95), t->ttft.total > 0);
    put_number(p, "tokens_per_second", t->tokens_per_second.value, t->tokens_per_second.samples > 0);
    if (t->pace_watched) {
        put_printf(p, ",\"pace\":\"%s\"", pace_state_name(t->pace.state));
        put_number(p, "ttft_ratio", t->pace.ratio[PACE_TTFT], t->pace.ratio[PACE_TTFT] > 0);
        put_number(p, "token_ratio", t->pace.ratio[PACE_TOKEN], t->pace.ratio[PACE_TOKEN] > 0);
    }
    enum target_bar bar = target_look(t, 0, now, &ready_at);
    put_printf(p, ",\"unusable\":\"%s\"", target_bar_name(bar));
    put_number(p, "ready_in_ms", (double)(ready_at - now), bar != TARGET_FREE);
    put_number(p, "concurrency_limit", limiter_limit(&t->limiter), t->limiter.state != LIMITER_FREE);
    put_left(p, "requests_left", t->rate.requests_left);
    put_left(p, "tokens_left", t->rate.tokens_left);
    put_text(p, "}");
}

void serve_providers(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    const struct conf *c = routing_conf(w->routing);
    uint64_t now = loop_now_ms(w->loop);
    struct buf out = {0};
    struct put p = put_into(&out);
    put_text(&p, "{\"providers\":[");
    fleet_lock(w->gateway->fleet);
    for (unsigned i = 0; i < c->providers_count; i++) {
        const struct conf_provider *cp = &c->providers[i];
        const struct catalog_provider *known = catalog_find(&w->gateway->catalog, cp->name);
        put_text(&p, i ? ",{\"name\":" : "{\"name\":");
        put_json(&p, span_str(cp->name));
        put_text(&p, ",\"preset\":");
        put_json(&p, span_str(cp->preset->name));
        put_text(&p, ",\"base_url\":");
        put_json(&p, span_str(cp->base_url));
        if (cp->region) {
            put_text(&p, ",\"region\":");
            put_json(&p, span_str(cp->region));
        }
        put_printf(&p, ",\"models\":%u,\"targets\":[",
                   cp->models_count ? cp->models_count
                   : known          ? known->count
                                    : 0);
        bool any = false;
        for (unsigned k = 0; k < fleet_count(w->gateway->fleet); k++) {
            struct target *t = fleet_at(w->gateway->fleet, k);
            if (strcmp(t->provider, cp->name) != 0)
                continue;
            put_text(&p, any ? "," : "");
            put_target(&p, t, now);
            any = true;
        }
        put_text(&p, "]}");
    }
    fleet_unlock(w->gateway->fleet);
    put_text(&p, "]}");
    answer_json(rq, 200, &out, p.err);
}

/* ---- /api/calls ------------------------------------------------------------------------ */

static void put_attempt(struct put *p, const struct record_attempt *a)
{
    put_text(p, "{\"target\":");
    put_json(p, span_str(a->target));
    put_printf(p, ",\"state\":\"%s\",\"class\":\"%s\",\"status\":%u,\"hedge\":%s,\"started_ms\":%u",
               attempt_state_name((enum attempt_state)a->state), failure_row((enum failure)a->failure)->name,
               a->status, a->hedge ? "true" : "false", a->started_ms);
    if (a->output_ms)
        put_printf(p, ",\"first_output_ms\":%u", a->output_ms);
    if (a->ended_ms)
        put_printf(p, ",\"ended_ms\":%u", a->ended_ms);
    if (a->request_id[0]) {
        put_text(p, ",\"request_id\":");
        put_json(p, span_str(a->request_id));
    }
    put_text(p, "}");
}

static void put_tokens(struct put *p, const char *name, int64_t v)
{
    put_printf(p, ",\"%s\":", name);
    if (v < 0)
        put_text(p, "null");
    else
        put_int(p, v);
}

/* What it went through that its attempts do not tell, as far as it did. */
static void put_pause(struct put *p, const struct call_record *r)
{
    put_printf(p, ",\"waited_ms\":%llu,\"held_ms\":%llu,\"breaks\":%u,\"continued\":%u",
               (unsigned long long)r->waited_ms, (unsigned long long)r->held_ms, r->breaks, r->continued);
    if (r->broke_by != FAILURE_NONE)
        put_printf(p, ",\"broke_by\":\"%s\",\"continuing\":%s", failure_row(r->broke_by)->name,
                   r->continuing ? "true" : "false");
    if (r->since_ms || r->until_ms)
        put_printf(p, ",\"since_ms\":%llu", (unsigned long long)r->since_ms);
    if (r->until_ms)
        put_printf(p, ",\"until_ms\":%llu", (unsigned long long)r->until_ms);
    if (r->next_ms)
        put_printf(p, ",\"next_ms\":%llu", (unsigned long long)r->next_ms);
}

static void put_record(struct put *p, const struct call_record *r, const char *state)
{
    put_printf(p, "{\"id\":\"%s\",\"route\":", r->id);
    put_json(p, span_str(r->route));
    put_text(p, ",\"key\":");
    put_json(p, span_str(r->key));
    put_text(p, ",\"agent\":");
    put_json(p, span_str(r->agent));
    put_printf(p, ",\"state\":\"%s\",\"outcome\":", state);
    put_json(p, span_str(strcmp(state, "over") == 0 ? call_outcome_name(r->outcome) : ""));
    put_printf(p, ",\"stream\":%s,\"began_ms\":%llu,\"took_ms\":%u,\"overhead_us\":%u,\"output_bytes\":%llu",
               r->streamed ? "true" : "false", (unsigned long long)r->began_wall_ms, r->took_ms, r->overhead_us,
               (unsigned long long)r->output_bytes);
    put_pause(p, r);
    put_tokens(p, "tokens_in", r->tokens_in);
    put_tokens(p, "tokens_out", r->tokens_out);
    put_text(p, ",\"attempts\":[");
    for (unsigned i = 0; i < r->attempts_count; i++) {
        put_text(p, i ? "," : "");
        put_attempt(p, &r->attempts[i]);
    }
    put_text(p, "]}");
}

struct view {
    struct put p;
    bool any;
    struct span only;
};

static void put_running(void *ctx, const struct call_record *r, const char *state)
{
    struct view *v = ctx;
    if (v->only.p && !span_is(v->only, r->id))
        return;
    put_text(&v->p, v->any ? "," : "");
    put_record(&v->p, r, state);
    v->any = true;
}

static void put_recent(struct worker *w, struct view *v)
{
    struct gateway *g = w->gateway;
    for (unsigned i = 1; i <= RECENT_CALLS; i++) {
        const struct call_record *r = g->recent[(g->recent_next - i) % RECENT_CALLS];
        if (!r)
            break;
        put_running(v, r, "over");
    }
}

void serve_calls(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    struct buf out = {0};
    struct view v = {.p = put_into(&out)};
    put_text(&v.p, "{\"running\":[");
    fleet_lock(w->gateway->fleet);
    relay_each_running(w->gateway, loop_now_ms(w->loop), put_running, &v);
    put_text(&v.p, "],\"recent\":[");
    v.any = false;
    put_recent(w, &v);
    fleet_unlock(w->gateway->fleet);
    put_text(&v.p, "]}");
    answer_json(rq, 200, &out, v.p.err);
}

/* ---- /api/calls/ID/stream ----------------------------------------------------------------- */

static void serve_stream(struct worker *w, struct request *rq, struct span id)
{
    struct kept_answer *a = relay_answer_of(w->gateway, id, loop_now_ms(w->loop));
    if (!a) {
        relay_refuse(rq, &codec_openai_chat, 404, "not_found",
                     "no streamed call of this id is running or kept; resume_keep says how long one is", 0);
        return;
    }
    const struct follow_want want = {.codec = a->codec,
                                     .stream = true,
                                     .include_usage = true,
                                     .ids = span_has(span_str(a->codec->stream_type), "event-stream") &&
                                            !span_has(span_str(a->codec->stream_type), "amazon"),
                                     .from = follow_position(request_header(rq, "last-event-id"))};
    follow_start(w, rq, a, &want);
}

void serve_one_call(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    struct span below = span_from(request_path(rq), strlen(at->path));
    if (span_ends(below, "/stream")) {
        serve_stream(w, rq, span_upto(below, below.n - strlen("/stream")));
        return;
    }
    struct buf out = {0};
    struct view v = {.p = put_into(&out), .only = span_from(request_path(rq), strlen(at->path))};
    fleet_lock(w->gateway->fleet);
    relay_each_running(w->gateway, loop_now_ms(w->loop), put_running, &v);
    put_recent(w, &v);
    fleet_unlock(w->gateway->fleet);
    if (v.any || v.p.err) {
        answer_json(rq, 200, &out, v.p.err);
        return;
    }
    buf_done(&out);
    relay_refuse(rq, &codec_openai_chat, 404, "not_found", "no running or recent call has this id", 0);
}

/* ---- /api/sessions ----------------------------------------------------------------------- */

/* "limit=N" of a query. False: it is there, and no number from 1 on. */
static bool read_limit(struct span query, unsigned most, unsigned *ret)
{
    uint64_t n;
    *ret = most;
    while (query.p && query.n) {
        struct span one = span_cut(&query, '&');
        if (!span_starts(one, "limit="))
            continue;
        if (!span_u64(span_from(one, strlen("limit=")), &n) || n == 0)
            return false;
        *ret = n < most ? (unsigned)n : most;
    }
    return true;
}

void serve_sessions(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)at, (void)key;
    unsigned limit;
    if (!read_limit(request_query(rq), LEDGER_SESSIONS, &limit)) {
        relay_refuse(rq, &codec_openai_chat, 400, "bad_request", "limit is to be a whole number from 1 on", 0);
        return;
    }
    struct buf out = {0};
    struct put p = put_into(&out);
    if (w->gateway->ledger)
        ledger_list(w->gateway->ledger, limit, &p);
    else
        put_text(&p, "{\"sessions\":[]}");
    answer_json(rq, 200, &out, p.err);
}

void serve_one_session(struct worker *w, struct request *rq, const struct endpoint *at, const struct conf_key *key)
{
    (void)key;
    struct buf out = {0};
    struct put p = put_into(&out);
    struct span id = span_from(request_path(rq), strlen(at->path));
    if ((w->gateway->ledger && ledger_show(w->gateway->ledger, id, &p)) || p.err) {
        answer_json(rq, 200, &out, p.err);
        return;
    }
    buf_done(&out);
    relay_refuse(rq, &codec_openai_chat, 404, "not_found", "no session with an ended call has this id", 0);
}
