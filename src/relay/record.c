/* What is counted, logged and remembered when an attempt or a call ends. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "parse/put.h"
#include "relay/ledger.h"
#include "relay/lost.h"
#include "relay/relay_priv.h"
#include "relay/relay_view.h"
#include "state/journal.h"

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

/* 0 is for none: what came in the first millisecond came with the second. */
static uint32_t output_ms(const struct attempt *a)
{
    return a->output_at > 1 ? a->output_at - 1 : a->output_at;
}

/* Fills a record of this call as it stands; it has room for all its attempts. Reads only what is constant by now or written under the fleet's
 * lock, since the call may be another worker's. */
static void describe(const struct relay *r, uint64_t took_ms, struct call_record *rec)
{
    const struct call *c = &r->call;
    text_copy(rec->id, sizeof(rec->id), span_str(r->id));
    text_copy(rec->route, sizeof(rec->route), span_str(route_used(r->route)->name));
    text_copy(rec->key, sizeof(rec->key), span_str(r->what.key ? r->what.key->name : ""));
    text_copy(rec->agent, sizeof(rec->agent), r->agent);
    rec->began_wall_ms = r->began_wall_ms;
    rec->took_ms = (uint32_t)took_ms;
    rec->waited_ms = c->waited_ms;
    rec->held_ms = c->held_ms;
    rec->breaks = c->breaks;
    rec->continued = c->continued;
    rec->broke_by = c->broke_by;
    rec->continuing = c->continuing && c->state != CALL_OVER;
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
            .hedged = a->hedged,
            .started_ms = a->started_at - 1,
            .output_ms = output_ms(a),
            .ended_ms = a->ended_at ? a->ended_at - 1 : 0,
        };
    }
    for (const struct given_id *id = r->ids; id; id = id->next)
        text_copy(rec->attempts[id->attempt].request_id, sizeof(rec->attempts[0].request_id), span_str(id->text));
}

/* ---- the ledger's line ------------------------------------------------------------------- */

enum { LINE_USUAL_BYTES = 1024, SESSION_TEXT_BYTES = 20 };

/* As /api names it: "s-" and 16 hex digits. */
static struct span session_text(uint64_t session, char *out)
{
    char *at = out;
    *at++ = 's';
    *at++ = '-';
    for (int shift = 60; shift >= 0; shift -= 4)
        *at++ = "0123456789abcdef"[session >> shift & 15];
    return span_of(out, (size_t)(at - out));
}

/* Without printf: each call that ends has a line, and some thirty numbers in it. */
static void put_number(struct put *p, const char *before, uint64_t v)
{
    put_text(p, before);
    put_uint(p, v);
}

static void put_flag(struct put *p, const char *before, bool v)
{
    put_text(p, before);
    put_text(p, v ? "true" : "false");
}

/* -1: not known, and not there. */
static void put_count(struct put *p, const char *before, int64_t v)
{
    if (v >= 0)
        put_number(p, before, (uint64_t)v);
}

static void put_sums(struct put *p, const struct ledger_call *call)
{
#define X(name) put_count(p, ",\"" #name "\":", call->sums[LEDGER_##name]);
    LEDGER_SUMS(X)
#undef X
}

static void put_cost(struct put *p, int64_t pico)
{
    put_text(p, ",\"cost_usd\":");
    ledger_put_usd(p, pico);
}

static void put_attempt_line(struct put *p, const struct relay *r, const struct record_attempt *a, unsigned i)
{
    const struct spent *s = spent_find(r, (int)i);
    put_text(p, i ? ",{\"target\":" : "{\"target\":");
    put_json(p, span_str(a->target));
    put_text(p, ",\"state\":\"");
    put_text(p, attempt_state_name((enum attempt_state)a->state));
    put_text(p, "\",\"class\":\"");
    put_text(p, failure_row((enum failure)a->failure)->name);
    put_number(p, "\",\"status\":", a->status);
    put_flag(p, ",\"hedge\":", a->hedge);
    put_flag(p, ",\"continues\":", s && s->continues);
    put_number(p, ",\"started_ms\":", a->started_ms);
    put_number(p, ",\"first_output_ms\":", a->output_ms);
    put_number(p, ",\"ended_ms\":", a->ended_ms);
    if (a->request_id[0]) {
        put_text(p, ",\"request_id\":");
        put_json(p, span_str(a->request_id));
    }
    put_count(p, ",\"tokens_in\":", s ? s->tokens_in : 0);
    put_count(p, ",\"tokens_out\":", s ? s->tokens_out : 0);
    put_count(p, ",\"cache_read\":", s ? s->cache_read : -1);
    put_count(p, ",\"cache_write\":", s ? s->cache_write : -1);
    put_flag(p, ",\"estimated\":", s && s->estimated);
    put_cost(p, s ? s->cost_pico : 0);
    put_text(p, "}");
}

static void put_pauses(struct put *p, const struct relay *r)
{
    const struct pause *list[PAUSES_MAX];
    unsigned n = 0;
    for (const struct pause *at = r->pauses; at && n < PAUSES_MAX; at = at->next)
        list[n++] = at;
    put_text(p, ",\"pauses\":[");
    for (unsigned i = n; i-- > 0;)
        put_printf(p, "%s{\"state\":\"%s\",\"from_ms\":%u,\"to_ms\":%u}", i + 1 < n ? "," : "",
                   call_state_name(list[i]->held ? CALL_HOLDING : CALL_WAITING), list[i]->from_ms, list[i]->to_ms);
    put_text(p, "]");
}

/* What all attempts come to. */
struct bill {
    int64_t in, out, cost_pico; /* cost -1: not known */
    bool estimated;
    unsigned lost; /* attempts that were cancelled since another was quicker */
};

static struct bill bill_of(const struct relay *r, const struct call_record *rec)
{
    struct bill b = {0};
    for (const struct spent *s = r->spent; s; s = s->next) {
        b.in += s->tokens_in;
        b.out += s->tokens_out;
        b.estimated |= s->estimated;
        b.cost_pico = b.cost_pico < 0 || s->cost_pico < 0 ? -1 : b.cost_pico + s->cost_pico;
    }
    for (unsigned i = 0; i < rec->attempts_count; i++)
        b.lost += rec->attempts[i].state == ATTEMPT_CANCELLED &&
                  (rec->attempts[i].hedge || rec->attempts[i].hedged) && rec->outcome != CALL_CLIENT_GONE;
    return b;
}

/* The tokens that the client has of the answer: all of it, or what came before it broke off. */
static int64_t shown_tokens(const struct relay *r)
{
    bool whole = r->call.outcome == CALL_COMPLETE || r->call.outcome == CALL_CONTINUED;
    return whole ? r->usage.output_total : (int64_t)r->earlier_tokens;
}

/* What the session's sums get from it. The spans are left to put_line(). */
static struct ledger_call summed(const struct relay *r, const struct call_record *rec)
{
    const struct call *c = &r->call;
    struct bill b = bill_of(r, rec);
    struct ledger_call call = {.ended_ms = (int64_t)(rec->began_wall_ms + rec->took_ms),
                               .cost_pico = b.cost_pico,
                               .estimated = b.estimated,
                               .attempts = rec->attempts_count,
                               .sums = {[LEDGER_waited_ms] = (int64_t)c->waited_ms,
                                        [LEDGER_held_ms] = (int64_t)c->held_ms,
                                        [LEDGER_breaks] = c->breaks,
                                        [LEDGER_continued] = c->continued,
                                        [LEDGER_hedges_lost] = b.lost,
                                        [LEDGER_tool_repairs] = r->tool_repairs,
                                        [LEDGER_tokens_in] = rec->tokens_in,
                                        [LEDGER_tokens_out] = shown_tokens(r),
                                        [LEDGER_billed_in] = b.in,
                                        [LEDGER_billed_out] = b.out}};
    for (unsigned i = 0; i < rec->attempts_count; i++) {
        call.failed += rec->attempts[i].failure != FAILURE_NONE;
        call.failures[rec->attempts[i].failure]++;
    }
    return call;
}

/* Returns where the session's name stands, without quotes. */
static struct span put_line(struct put *p, const struct relay *r, const struct call_record *rec,
                            const struct ledger_call *call, const char *outcome)
{
    put_text(p, "{\"session\":\"");
    put_span(p, call->session);
    put_text(p, "\",\"id\":\"");
    put_span(p, call->id);
    put_text(p, "\",\"name\":\"");
    size_t name_at = buf_size(p->b);
    put_json_inner(p, r->session_name);
    size_t name_end = buf_size(p->b);
    put_text(p, "\",\"route\":");
    put_json(p, span_str(rec->route));
    put_text(p, ",\"key\":");
    put_json(p, span_str(rec->key));
    put_text(p, ",\"agent\":");
    put_json(p, span_str(rec->agent));
    put_text(p, ",\"outcome\":\"");
    put_text(p, outcome);
    put_flag(p, "\",\"stream\":", rec->streamed);
    put_number(p, ",\"began_ms\":", rec->began_wall_ms);
    put_number(p, ",\"took_ms\":", rec->took_ms);
    put_sums(p, call);
    put_flag(p, ",\"estimated\":", call->estimated);
    put_cost(p, call->cost_pico);
    put_pauses(p, r);
    put_text(p, ",\"attempts\":[");
    for (unsigned i = 0; i < rec->attempts_count; i++)
        put_attempt_line(p, r, &rec->attempts[i], i);
    put_text(p, "]}");
    return span_upto(span_from(buf_span(p->b), name_at), name_end - name_at);
}

/* A line that finds no memory is missing in the ledger: the call itself has ended well. */
static void book(struct relay *r, const struct call_record *rec)
{
    struct gateway *g = r->w->gateway;
    if (!g->ledger || r->call.want.session == 0)
        return;
    struct buf line = {0};
    struct put p = put_into(&line);
    char session[SESSION_TEXT_BYTES];
    struct ledger_call call = summed(r, rec);
    call.session = session_text(r->call.want.session, session);
    call.id = span_str(rec->id);
    call.agent = span_str(rec->agent);
    p.err = buf_reserve(&line, LINE_USUAL_BYTES);
    call.name = put_line(&p, r, rec, &call, call_outcome_name(rec->outcome));
    pd_err e = p.err ? p.err : ledger_book(g->ledger, &call, buf_span(&line));
    if (e)
        LOG(&r->scope, LOG_WARN, "ledger.lost", "why=%s", pd_err_name(e));
    else
        (void)journal_put(g->journal, JOURNAL_RUN, r->call.want.session,
                          buf_span(&line)); /* it counts what it drops */
    buf_done(&line);
}

/* ---- while it runs ------------------------------------------------------------------------- */

static void note_pause(struct relay *r, uint64_t now)
{
    bool idle = r->was == CALL_WAITING || r->was == CALL_HOLDING;
    if (!idle || now == r->since_ms || r->pauses_count == PAUSES_MAX)
        return;
    struct pause *pause = arena_zalloc(&r->arena, sizeof(*pause));
    if (!pause)
        return;
    *pause = (struct pause){.next = r->pauses,
                            .held = r->was == CALL_HOLDING,
                            .from_ms = (uint32_t)(r->since_ms - r->call.began_ms),
                            .to_ms = (uint32_t)(now - r->call.began_ms)};
    r->pauses = pause;
    r->pauses_count++;
}

/* At the beginning, and when what is written would tell something else than is true by now. */
static void line_due(struct relay *r)
{
    if (!r->line_due_ms) {
        r->line_due_ms = r->call.began_ms + LOST_FROM_MS;
        r->line_gap_ms = LOST_GAP_LEAST_MS;
    } else if (r->line_ms && (r->call.state != r->was || r->call.attempts_count != r->line_attempts) &&
               r->line_ms + LOST_GAP_LEAST_MS < r->line_due_ms) {
        r->line_due_ms = r->line_ms + LOST_GAP_LEAST_MS;
    }
    r->line_attempts = r->call.attempts_count;
}

void record_step(struct relay *r)
{
    struct call *c = &r->call;
    uint64_t now = relay_now_ms(r);
    line_due(r);
    if (c->breaks != r->breaks_seen && c->broke_attempt >= 0) {
        const struct target *t = route_used(r->route)->targets[c->attempts[c->broke_attempt].target].target;
        meter_add(r->w->meter, METER_BREAKS, c->breaks - r->breaks_seen,
                  LABELS(t->provider, t->model, failure_row(c->broke_by)->name));
    }
    r->breaks_seen = c->breaks;
    if (c->state == r->was)
        return;
    note_pause(r, now);
    if (c->state == CALL_HOLDING || r->was == CALL_HOLDING)
        meter_shift(r->w->meter, METER_CALLS_HELD, c->state == CALL_HOLDING ? 1 : -1, NO_LABELS);
    r->was = c->state;
    r->since_ms = now;
}

/* ---- its end --------------------------------------------------------------------------------- */

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

/* Returns the state that is told. */
static enum call_state describe_pause(const struct call *c, uint64_t now_ms, struct call_record *rec)
{
    struct call_pause p;
    if (!call_pause(c, now_ms, &p))
        return c->state;
    rec->since_ms = p.since_ms - c->began_ms;
    rec->until_ms = p.until_ms ? p.until_ms - c->began_ms : 0;
    rec->next_ms = p.next_ms - c->began_ms;
    if (c->state == CALL_HOLDING)
        rec->held_ms += now_ms - c->wait_began_ms;
    else if (c->wait_counts)
        rec->waited_ms += now_ms - c->wait_began_ms;
    return p.state;
}

/* ---- a line for the case that it never ends --------------------------------------------------- */

uint64_t record_due(const struct relay *r)
{
    const struct gateway *g = r->w->gateway;
    return g->journal && g->ledger && r->call.want.session ? r->line_due_ms : CLOCK_NEVER;
}

/* What runs is told with what it has used so far; `list` has room for them. */
static struct spent *with_running(const struct relay *r, struct spent *list)
{
    struct spent *all = r->spent;
    for (int i = 0; i < CALL_RUNNING_MAX; i++) {
        const struct run *run = r->runs[i];
        if (!run || run->over || spent_find(r, run->n))
            continue;
        spent_so_far(r, run, list);
        list->next = all;
        all = list++;
    }
    return all;
}

/* As if it ended now. */
static void put_running(struct put *p, struct relay *r, struct call_record *rec, uint64_t now)
{
    char session[SESSION_TEXT_BYTES];
    struct spent running[CALL_RUNNING_MAX], *before = r->spent;
    describe(r, now - r->call.began_ms, rec);
    (void)describe_pause(&r->call, now, rec);
    for (unsigned i = 0; i < rec->attempts_count; i++)
        if (rec->attempts[i].state == ATTEMPT_RUNNING)
            rec->attempts[i].ended_ms = rec->took_ms;
    r->spent = with_running(r, running);
    struct ledger_call call = summed(r, rec);
    const struct spent *winner = r->facts.stream ? spent_find(r, r->call.winner) : NULL;
    call.sums[LEDGER_tokens_in] = r->first_input >= 0 ? r->first_input : winner ? winner->tokens_in : -1;
    call.sums[LEDGER_tokens_out] = (int64_t)r->earlier_tokens + (winner ? winner->tokens_out : 0);
    call.sums[LEDGER_waited_ms] = (int64_t)rec->waited_ms;
    call.sums[LEDGER_held_ms] = (int64_t)rec->held_ms;
    call.session = session_text(r->call.want.session, session);
    call.id = span_str(rec->id);
    (void)put_line(p, r, rec, &call, LOST_OUTCOME);
    r->spent = before;
}

void record_running(struct relay *r)
{
    _Alignas(struct call_record) char
        room[sizeof(struct call_record) + CALL_ATTEMPTS_MAX * sizeof(struct record_attempt)];
    struct call_record *rec = (struct call_record *)(void *)room;
    struct buf line = {0};
    struct put p = put_into(&line);
    uint64_t now = relay_now_ms(r);
    *rec = (struct call_record){.tokens_in = -1, .tokens_out = -1};
    p.err = buf_reserve(&line, LINE_USUAL_BYTES);
    put_running(&p, r, rec, now);
    if (!p.err)
        lost_running(r->w->gateway->journal, span_str(r->id), buf_span(&line));
    buf_done(&line);
    r->line_gap_ms = r->line_gap_ms * 2 < LOST_GAP_MOST_MS ? r->line_gap_ms * 2 : LOST_GAP_MOST_MS;
    r->line_ms = now;
    r->line_due_ms = now + r->line_gap_ms;
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
        enum call_state state = describe_pause(&r->call, now_ms, rec);
        rec->output_bytes = atomic_load_explicit(&r->output_so_far, memory_order_relaxed);
        each(ctx, rec, call_state_name(state));
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
    record_step(r); /* where it ended without a decision of its own */
    if (c->held_ms)
        meter_observe(r->w->meter, METER_HELD, (double)c->held_ms / 1e3, NO_LABELS);
    if (c->denied)
        meter_add(r->w->meter, METER_BUDGET_DENIED, c->denied, LABELS("retry_or_hedge"));
    LOG(&r->scope, LOG_INFO, "call.end",
        "route=%s outcome=%s stream=%d attempts=%u ms=%llu overhead_us=%llu tokens_in=%lld tokens_out=%lld", route,
        outcome, r->facts.stream, c->attempts_count, (unsigned long long)took_ms,
        (unsigned long long)r->overhead_us, (long long)r->usage.input_total, (long long)r->usage.output_total);
    remember(r, took_ms);
}
