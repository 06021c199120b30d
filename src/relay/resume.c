#include "relay/resume.h"

#include "base/clock.h"
#include "base/hash.h"
#include "relay/follow.h"
#include "relay/held.h"
#include "relay/relay_view.h"

#include <string.h>

enum { LINGER_LOOK_MS = 1000 }; /* an answer that is followed, and has no client of its own: is it still? */

/* ---- who asks for what ------------------------------------------------------------------ */

static uint64_t mix(uint64_t h, struct span s)
{
    return hash_bytes(s, h);
}

static uint64_t mix_number(uint64_t h, uint64_t n)
{
    return hash_bytes(span_of((const char *)&n, sizeof(n)), h);
}

static struct kept_key key_of(const struct relay *r)
{
    struct span once = request_header(r->rq, "idempotency-key");
    uint64_t who = r->what.key ? mix(11, span_str(r->what.key->name)) : 11;
    if (r->agent.n) /* two agents that ask the same are two who ask */
        who = mix(who, r->agent);
    struct kept_key k = {.idempotency = once.n ? mix(who + 1, once) | 1 : 0};
    uint64_t h = mix(who, span_str(r->what.codec->name));
    h = mix(h, request_path(r->rq));
    h = mix_number(h, r->facts.body.n);
    k.sketch = mix_number(h, r->facts.prefix_hash + r->facts.stream);
    return k;
}

static uint64_t body_hash(const struct relay *r)
{
    return hash_bytes(r->facts.body, 17) | 1;
}

/* ---- the beginning ------------------------------------------------------------------------ */

/* NULL: nothing is to be kept on disk. */
static struct journal *journal_of(const struct relay *r)
{
    struct gateway *g = r->w->gateway;
    return atomic_load(&g->resume_keep_ms) ? g->journal : NULL;
}

static bool takes_part(const struct relay *r)
{
    return r->what.codec->kind == CODEC_CHAT && r->what.codec->encoder && !r->facts.many;
}

bool resume_join(struct relay *r)
{
    struct kept_table *k = r->w->gateway->kept;
    if (!k || !takes_part(r))
        return false;
    struct kept_key key = key_of(r);
    uint64_t now = relay_now_ms(r);
    struct kept_answer *found = NULL;
    bool taken = false, may_have = kept_may_have(k, &key, now);
    if (may_have || key.idempotency)
        key.body = body_hash(r);
    if (may_have)
        found = kept_find(k, &key, now, &taken);
    if (found && taken) { /* a part that nobody works on: this call does */
        r->kept = found;
        found->key = key;
        return false;
    }
    if (found) {
        const struct follow_want want = {.codec = r->what.codec,
                                         .stream = r->facts.stream,
                                         .include_usage = r->facts.include_usage,
                                         .array = r->facts.line.array,
                                         .from = follow_position(request_header(r->rq, "last-event-id"))};
        meter_add(r->w->meter, METER_JOINED, 1, LABELS("running"));
        LOG(NULL, LOG_INFO, "call.joined", "to=%s", found->id);
        follow_start(r->w, r->rq, found, &want);
        r->rq = NULL;
        return true;
    }
    r->kept = kept_begin(k, r->id, r->what.codec);
    if (!r->kept)
        return false;
    r->kept->key = key;
    r->kept->began_wall_ms = r->began_wall_ms;
    r->kept->collected = !r->facts.stream;
    if (key.idempotency)
        kept_offer(k, r->kept, now);
    return false;
}

bool resume_is(const struct relay *r)
{
    return r->kept && r->kept->shown.any;
}

pd_err resume_replay(struct relay *r)
{
    struct encode_want want = {.model = shown_model(&r->kept->shown),
                               .id = span_from(span_str(r->id), 2),
                               .created = (int64_t)(r->began_wall_ms / 1000),
                               .stream = r->facts.stream,
                               .include_usage = r->facts.include_usage,
                               .array = r->facts.line.array};
    meter_add(r->w->meter, METER_JOINED, 1, LABELS("part"));
    LOG(&r->scope, LOG_INFO, "call.resumed", "from=%s bytes=%zu", r->kept->id, shown_end(&r->kept->shown));
    r->writer = encoder_new(r->what.codec, &want, COLLECT_MAX);
    if (!r->writer)
        return PD_NOMEM;
    shown_tell(&r->kept->shown, 0, encoder_delta, r->writer);
    struct span made;
    return encoder_bytes(r->writer, &made);
}

static void forget(struct relay *r)
{
    pthread_mutex_lock(&r->kept->lock);
    shown_clear(&r->kept->shown);
    pthread_mutex_unlock(&r->kept->lock);
    recall_anew(&r->recall);
    r->shown_lost = false;
}

void resume_afresh(struct relay *r)
{
    if (r->kept && r->kept->collected && r->kept->shown.any)
        forget(r);
}

bool resume_wants_all(struct relay *r)
{
    if (!r->kept)
        return false;
    pthread_mutex_lock(&r->kept->lock);
    bool others = r->kept->key.idempotency || !r->kept->attended;
    pthread_mutex_unlock(&r->kept->lock);
    return others;
}

void resume_give_up(struct relay *r)
{
    struct gateway *g = r->w->gateway;
    LOG(&r->scope, LOG_INFO, "call.afresh", "from=%s", r->kept->id);
    forget(r);
    r->writer = encoder_free(r->writer);
    r->seen_at = 0;
    r->earlier_tokens = 0;
    memset(r->ways, 0, sizeof(r->ways));
    fleet_lock(g->fleet);
    call_shows_nothing(&r->call);
    fleet_unlock(g->fleet);
}

struct kept_answer *relay_answer_of(struct gateway *g, struct span id, uint64_t now_ms)
{
    struct kept_answer *found = NULL;
    fleet_lock(g->fleet);
    for (struct list *n = g->calls.next; n != &g->calls && !found; n = n->next) {
        const struct relay *r = LIST_OF(n, struct relay, node);
        if (r->call.state != CALL_NEW && r->kept && !r->kept->collected &&
            span_is(id, r->id)) /* once it has begun, `kept` stays */
            found = kept_ref(r->kept);
    }
    fleet_unlock(g->fleet);
    return found ? found : kept_by_id(g->kept, id, now_ms);
}

/* ---- the end --------------------------------------------------------------------------------- */

void resume_expect(struct relay *r)
{
    struct kept_answer *a = r->kept;
    if (!a || !r->rq)
        return;
    uint64_t body = a->key.body ? a->key.body : body_hash(r);
    pthread_mutex_lock(&a->lock);
    a->key.body = body;
    a->attended = false;
    pthread_mutex_unlock(&a->lock);
}

void resume_give_back(struct relay *r)
{
    struct kept_answer *a = r->kept;
    pthread_mutex_lock(&a->lock);
    a->attended = false;
    pthread_mutex_unlock(&a->lock);
    kept_settle(r->w->gateway->kept, a, KEPT_PART, true, relay_now_ms(r));
}

static uint64_t linger_ms(const struct relay *r)
{
    return route_used(r->route)->settings.linger;
}

static bool is_followed(const struct relay *r)
{
    return r->kept && atomic_load(&r->kept->followers_count);
}

bool resume_lingers_on(struct relay *r)
{
    uint64_t wait_ms = linger_ms(r) > LINGER_LOOK_MS ? linger_ms(r) : LINGER_LOOK_MS;
    if (!is_followed(r))
        return false;
    r->orphan_until_ms = relay_now_ms(r) + wait_ms;
    return true;
}

bool resume_lingers(struct relay *r)
{
    bool comes = r->call.state == CALL_RELAYING || r->call.state == CALL_COLLECTING;
    if (!r->kept || !comes || !(is_followed(r) || linger_ms(r)))
        return false;
    r->orphan = r->begun = true;
    r->orphan_until_ms = relay_now_ms(r) + linger_ms(r);
    kept_offer(r->w->gateway->kept, r->kept, relay_now_ms(r));
    return true;
}

/* May another call go on from what was shown? */
static bool is_part(const struct relay *r)
{
    const struct shown *s = &r->kept->shown;
    return s->has_text && !s->has_calls && !s->many && !r->shown_lost;
}

static enum kept_state settled_as(const struct relay *r)
{
    bool whole = r->call.outcome == CALL_COMPLETE || r->call.outcome == CALL_CONTINUED;
    if (whole)
        return r->shown_lost ? KEPT_GONE : KEPT_WHOLE; /* its client has it, whoever follows does not */
    bool told =
        r->call.outcome == CALL_CUT_BEFORE || r->call.outcome == CALL_ERROR; /* what had come goes for nothing */
    return is_part(r) && !told ? KEPT_PART : KEPT_GONE;
}

void resume_settle(struct relay *r)
{
    struct kept_answer *a = r->kept;
    if (!a)
        return;
    enum kept_state state = settled_as(r);
    pthread_mutex_lock(&a->lock);
    bool wanted = a->key.idempotency || !a->attended || state == KEPT_PART;
    bool stays = state != KEPT_GONE && a->key.body && wanted;
    pthread_mutex_unlock(&a->lock);
    /* First the journal: once it is in the table another worker's call may take it up. */
    recall_ended(&r->recall, journal_of(r), a, stays ? state : KEPT_GONE);
    kept_settle(r->w->gateway->kept, a, state, stays, relay_now_ms(r));
    follow_notify(a);
}

/* ---- on hold ------------------------------------------------------------------------------------ */

static uint64_t hold_key(const struct relay *r)
{
    return mix_number(key_of(r).sketch, body_hash(r));
}

static uint64_t hold_number(const struct relay *r)
{
    return hash_bytes(span_str(r->id), 19);
}

void resume_hold(struct relay *r, struct call_want *want)
{
    struct gateway *g = r->w->gateway;
    uint64_t wall_ms = clock_wall_ms(), now = relay_now_ms(r);
    struct held_call before;
    if (!held_any(g->held) || !held_find(g->held, hold_key(r), wall_ms, &before))
        return;
    held_ended(g->journal, before.number);
    uint64_t ago_ms = wall_ms > before.asked_wall_ms ? wall_ms - before.asked_wall_ms : 0;
    r->asked_wall_ms = before.asked_wall_ms;
    want->held_ms = before.held_ms;
    want->asked_ms = ago_ms < now ? now - ago_ms : 1;
    LOG(&r->scope, LOG_INFO, "call.held_before", "ms=%llu", (unsigned long long)before.held_ms);
}

void resume_holds(struct relay *r)
{
    struct journal *j = r->w->gateway->journal;
    bool holds = r->call.state == CALL_HOLDING;
    if (holds == r->hold_written || !j || (holds && !r->rq))
        return;
    r->hold_written = holds;
    const struct held_call h = {.number = hold_number(r),
                                .key = holds ? hold_key(r) : 0,
                                .asked_wall_ms = r->asked_wall_ms,
                                .held_ms = r->call.want.held_ms + r->call.held_ms,
                                .since_wall_ms = clock_wall_ms()};
    if (holds)
        held_begun(j, &h);
    else
        held_ended(j, h.number);
}

uint64_t resume_due(const struct relay *r)
{
    if (!r->kept || !journal_of(r) || shown_end(&r->kept->shown) == r->recall.at)
        return CLOCK_NEVER;
    uint64_t from = r->call.began_ms + RECALL_FROM_MS;
    return from > r->recall.next_ms ? from : r->recall.next_ms;
}

void resume_progress(struct relay *r)
{
    struct journal *j = journal_of(r);
    uint64_t now = relay_now_ms(r);
    if (!r->kept)
        return;
    if (j && r->rq && !r->kept->key.body && now - r->call.began_ms >= RECALL_FROM_MS)
        r->kept->key.body = body_hash(r);
    recall_write(&r->recall, j, r->kept, now - r->call.began_ms, now);
    follow_notify(r->kept);
}
