/* What is counted, logged and remembered when an attempt or a call ends. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "parse/put.h"
#include "relay/ledger.h"
#include "relay/relay_priv.h"
#include "relay/relay_view.h"

/* What is said of the request may quote it, and what cannot be read is the answer: the client is told, the log is not. */
static bool may_quote(enum failure f)
{
    return failure_row(f)->client_status == 0 || f == FAILURE_MALFORMED;
}

void log_attempt_end(struct relay *r, const struct run *run, const struct verdict *v, const char *how)
{
    enum log_level level = v ? LOG_WARN : LOG_DEBUG;
    if (level > log_threshold)
        return;
    char said[260], id[90];
    LOG(&r->scope, level, "attempt.end",
        "attempt=%d target=%s how=%s class=%s status=%d ms=%llu request_id=%s said=%s", run->n, run->target->name,
        how, v ? failure_row(v->failure)->name : "none", run->status,
        (unsigned long long)((loop_now_us(r->w->loop) - run->started_us) / 1000),
        log_quote(span_str(run->request_id), id, sizeof(id)),
        log_quote(span_str(v && !may_quote(v->failure) ? v->message : ""), said, sizeof(said)));
}

/* Fills a record of this call as it stands; it has room for all its attempts. Reads only what is constant by now or written under the fleet's
 * lock, since the call may be another worker's. */
static void describe(const struct relay *r, uint64_t took_ms, struct call_record *rec)
{
    const struct call *c = &r->call;
    text_copy(rec->id, sizeof(rec->id), span_str(r->id));
    text_copy(rec->route, sizeof(rec->route), span_str(route_used(r->route)->name));
    text_copy(rec->key, sizeof(rec->key), span_str(r->what.key ? r->what.key->name : ""));
    rec->began_wall_ms = r->began_wall_ms;
    rec->took_ms = (uint32_t)took_ms;
    rec->streamed = r->facts.stream;
    rec->attempts_count = c->attempts_count;
    for (unsigned i = 0; i < c->attempts_count; i++) {
        const struct attempt *a = &c->attempts[i];
        rec->attempts[i] = (struct record_attempt){
            .target = route_used(r->route)->targets[a->target].target->name,
            .state = a->state,
            .failure = a->failure,
            .status = a->state == ATTEMPT_DONE ? 200 : a->status, /* anything else is no success */
            .hedge = a->hedge,
            .started_ms = (uint32_t)(a->started_ms - c->began_ms),
            .output_ms = a->output_ms ? (uint32_t)(a->output_ms - c->began_ms) : 0,
            .ended_ms = a->ended_ms ? (uint32_t)(a->ended_ms - c->began_ms) : 0,
        };
        if (r->ids[i])
            text_copy(rec->attempts[i].request_id, sizeof(rec->attempts[i].request_id), span_str(r->ids[i]));
    }
}

static void put_line(struct put *p, const struct relay *r, const struct call_record *rec)
{
    const struct call *c = &r->call;
    put_printf(p, "{\"session\":\"s-%016llx\",\"id\":\"%s\",\"route\":", (unsigned long long)c->want.session,
               rec->id);
    put_json(p, span_str(rec->route));
    put_printf(p, ",\"outcome\":\"%s\",\"began_ms\":%llu,\"took_ms\":%u", call_outcome_name(rec->outcome),
               (unsigned long long)rec->began_wall_ms, rec->took_ms);
    put_printf(p, ",\"waited_ms\":%llu,\"held_ms\":%llu,\"continued\":%u", (unsigned long long)c->waited_ms,
               (unsigned long long)c->held_ms, c->continued);
    if (rec->tokens_in >= 0)
        put_printf(p, ",\"tokens_in\":%lld", (long long)rec->tokens_in);
    if (rec->tokens_out >= 0)
        put_printf(p, ",\"tokens_out\":%lld", (long long)rec->tokens_out);
    put_text(p, ",\"attempts\":[");
    for (unsigned i = 0; i < rec->attempts_count; i++) {
        const struct record_attempt *a = &rec->attempts[i];
        put_text(p, i ? ",{\"target\":" : "{\"target\":");
        put_json(p, span_str(a->target));
        put_printf(p,
                   ",\"class\":\"%s\",\"status\":%u,\"hedge\":%s,\"started_ms\":%u,\"first_output_ms\":%u,\"ended_"
                   "ms\":%u}",
                   failure_row((enum failure)a->failure)->name, a->status, a->hedge ? "true" : "false",
                   a->started_ms, a->output_ms, a->ended_ms);
    }
    put_text(p, "]}");
}

/* A line that finds no memory is missing in the ledger: the call itself has ended well. */
static void book(struct relay *r, const struct call_record *rec)
{
    struct gateway *g = r->w->gateway;
    if (!g->ledger || r->call.want.session == 0)
        return;
    struct buf line = {0};
    struct put p = put_into(&line);
    put_line(&p, r, rec);
    pd_err e = p.err ? p.err : ledger_add(g->ledger, buf_span(&line));
    if (e)
        LOG(&r->scope, LOG_WARN, "ledger.lost", "why=%s", pd_err_name(e));
    buf_done(&line);
}

static void remember(struct relay *r, uint64_t took_ms)
{
    struct call_record *rec = mem_zalloc(sizeof(*rec) + r->call.attempts_count * sizeof(rec->attempts[0]));
    if (!rec)
        return; /* the list of recent calls is a convenience */
    describe(r, took_ms, rec);
    rec->outcome = r->call.outcome;
    rec->overhead_us = (uint32_t)r->overhead_us;
    rec->output_bytes = r->output_bytes;
    rec->tokens_in = r->usage.input_total;
    rec->tokens_out = r->usage.output_total;
    book(r, rec);
    struct gateway *g = r->w->gateway;
    fleet_lock(g->fleet);
    struct call_record *old = g->recent[g->recent_next % RECENT_CALLS];
    g->recent[g->recent_next++ % RECENT_CALLS] = rec;
    fleet_unlock(g->fleet);
    mem_free(old);
}

/* Every change of a call is made under the fleet's lock, so another worker's call can be read here. */
void relay_each_running(struct gateway *g, uint64_t now_ms,
                        void (*each)(void *ctx, const struct call_record *r, const char *state), void *ctx)
{
    _Alignas(struct call_record) char
        room[sizeof(struct call_record) + CALL_ATTEMPTS_MAX * sizeof(struct record_attempt)];
    struct call_record *rec = (struct call_record *)(void *)room;
    for (struct list *n = g->calls.next; n != &g->calls; n = n->next) {
        const struct relay *r = LIST_OF(n, struct relay, node);
        if (r->call.state == CALL_NEW)
            continue;
        *rec = (struct call_record){.tokens_in = -1, .tokens_out = -1};
        describe(r, now_ms - r->call.began_ms, rec);
        each(ctx, rec, call_state_name(r->call.state));
    }
}

void record_call(struct relay *r)
{
    const struct call *c = &r->call;
    const char *outcome = call_outcome_name(c->outcome);
    const char *route = route_label(r->route);
    uint64_t took_ms = (loop_now_us(r->w->loop) - r->began_us) / 1000;
    meter_add(r->w->meter, METER_CALLS, 1, LABELS(route, outcome));
    if (r->facts.stream)
        meter_add(r->w->meter, METER_STREAMS, 1, LABELS(outcome));
    meter_observe(r->w->meter, METER_CALL_ATTEMPTS, c->attempts_count, LABELS(route));
    meter_observe(r->w->meter, METER_OVERHEAD, (double)r->overhead_us / 1e6, NO_LABELS);
    if (c->denied)
        meter_add(r->w->meter, METER_BUDGET_DENIED, c->denied, LABELS("retry_or_hedge"));
    LOG(&r->scope, LOG_INFO, "call.end",
        "route=%s outcome=%s stream=%d attempts=%u ms=%llu overhead_us=%llu tokens_in=%lld tokens_out=%lld", route,
        outcome, r->facts.stream, c->attempts_count, (unsigned long long)took_ms,
        (unsigned long long)r->overhead_us, (long long)r->usage.input_total, (long long)r->usage.output_total);
    remember(r, took_ms);
}
