#include "relay/recall.h"

#include "base/hash.h"
#include "base/mem.h"

/* ---- writing --------------------------------------------------------------------------- */

struct recall_head {
    uint64_t sketch, body, idempotency, began_wall_ms;
    int64_t created;
    char id[24], codec[24];
    uint32_t id_bytes, model_bytes; /* the identity stands behind */
    uint8_t include_usage, array, collected;
};

struct recall_end {
    uint32_t state, finish;
    uint64_t at; /* the position behind all that was shown */
    struct msg_usage usage;
};

static uint64_t number_of(const struct kept_answer *a)
{
    return hash_bytes(span_str(a->id), 5);
}

static void put_begun(struct journal *j, const struct kept_answer *a)
{
    struct span id = shown_id(&a->shown), model = shown_model(&a->shown);
    struct recall_head h = {.sketch = a->key.sketch,
                            .body = a->key.body,
                            .idempotency = a->key.idempotency,
                            .began_wall_ms = a->began_wall_ms,
                            .created = a->shown.created,
                            .id_bytes = (uint32_t)id.n,
                            .model_bytes = (uint32_t)model.n,
                            .include_usage = a->include_usage,
                            .array = a->array,
                            .collected = a->collected};
    memcpy(h.id, a->id, sizeof(h.id));
    strncpy(h.codec, a->codec->name, sizeof(h.codec) - 1);
    const struct span parts[] = {span_of((const char *)&h, sizeof(h)), id, model};
    journal_put_parts(j, JOURNAL_ANSWER_BEGUN, number_of(a), parts, 3);
}

static void put_piece(struct recall *c, struct journal *j, const struct kept_answer *a)
{
    struct buf piece;
    uint64_t at = c->at; /* stands before it: a piece between two others may be lost with its disk block */
    buf_init(&piece, JOURNAL_RECORD_MAX);
    if (buf_add(&piece, span_of((const char *)&at, sizeof(at))) == PD_OK &&
        shown_save(&a->shown, c->at, &piece) == PD_OK &&
        journal_put(j, JOURNAL_ANSWER_PIECE, number_of(a), buf_span(&piece)))
        c->at = shown_end(&a->shown);
    buf_done(&piece);
}

void recall_write(struct recall *c, struct journal *j, struct kept_answer *a, uint64_t age_ms, uint64_t now_ms)
{
    if (!j || age_ms < RECALL_FROM_MS)
        return;
    size_t fresh = shown_end(&a->shown) - c->at; /* only this thread adds to it */
    if (!fresh || (now_ms < c->next_ms && fresh < RECALL_PIECE_BYTES))
        return;
    if (!c->begun)
        put_begun(j, a);
    c->begun = true;
    put_piece(c, j, a);
    c->next_ms = now_ms + RECALL_EVERY_MS;
}

void recall_anew(struct recall *c)
{
    c->begun = false;
    c->at = 0;
}

void recall_ended(struct recall *c, struct journal *j, struct kept_answer *a, enum kept_state state)
{
    bool wanted = c->begun || state == KEPT_PART || state == KEPT_WHOLE;
    if (!j || !wanted)
        return;
    if (!c->begun)
        put_begun(j, a);
    c->begun = true;
    if (state != KEPT_GONE && shown_end(&a->shown) > c->at)
        put_piece(c, j, a);
    struct recall_end e = {.state = state, .finish = a->finish, .at = shown_end(&a->shown), .usage = a->usage};
    journal_put(j, JOURNAL_ANSWER_ENDED, number_of(a), span_of((const char *)&e, sizeof(e)));
}

/* ---- reading ---------------------------------------------------------------------------- */

enum { BUCKETS = 1024 };
struct found {
    struct found *next;
    uint64_t number, last_ms; /* wall clock of its last record */
    struct kept_answer *answer;
    enum kept_state state;
};
struct recall_search {
    struct found *buckets[BUCKETS];
    struct kept_table *kept;
};

static struct found **place_of(struct recall_search *s, uint64_t number)
{
    struct found **at = &s->buckets[number % BUCKETS];
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

static void forget(struct found **at)
{
    struct found *f = *at;
    if (!f)
        return;
    *at = f->next;
    kept_unref(f->answer);
    mem_free(f);
}

static void read_begun(struct recall_search *s, const struct journal_record *r)
{
    struct recall_head h;
    if (r->payload.n < sizeof(h))
        return;
    memcpy(&h, r->payload.p, sizeof(h));
    struct span identity = span_from(r->payload, sizeof(h));
    h.id[sizeof(h.id) - 1] = h.codec[sizeof(h.codec) - 1] = '\0';
    const struct codec *codec = codec_by_name(span_str(h.codec));
    if (!codec || !codec->encoder || identity.n != (size_t)h.id_bytes + h.model_bytes)
        return;
    struct found **at = place_of(s, r->id);
    if (*at)
        forget(at);
    struct found *f = mem_zalloc(sizeof(*f));
    struct kept_answer *a = f ? kept_begin(s->kept, h.id, codec) : NULL;
    if (!a ||
        shown_identity(&a->shown, span_upto(identity, h.id_bytes), span_from(identity, h.id_bytes), h.created)) {
        kept_unref(a);
        mem_free(f);
        return;
    }
    a->key = (struct kept_key){h.sketch, h.body, h.idempotency};
    a->began_wall_ms = h.began_wall_ms;
    a->include_usage = h.include_usage;
    a->array = h.array;
    a->collected = h.collected;
    a->attended = false;
    *f = (struct found){.number = r->id, .last_ms = r->time_us / 1000, .answer = a, .state = KEPT_RUNNING};
    at = place_of(s, r->id);
    *at = f;
}

/* False: something that was shown is missing. */
static bool read_piece(struct found *f, struct span payload)
{
    uint64_t at;
    if (payload.n < sizeof(at))
        return false;
    memcpy(&at, payload.p, sizeof(at));
    return at == shown_end(&f->answer->shown) &&
           shown_load(&f->answer->shown, span_from(payload, sizeof(at))) == PD_OK;
}

static bool read_ended(struct found *f, struct span payload)
{
    struct recall_end e;
    if (payload.n != sizeof(e))
        return false;
    memcpy(&e, payload.p, sizeof(e));
    bool missing = e.state != KEPT_GONE && e.at != shown_end(&f->answer->shown);
    if (missing || e.state >= KEPT_STATE_COUNT || e.finish >= MSG_FINISH_COUNT)
        return false;
    f->state = (enum kept_state)e.state;
    f->answer->finish = (enum msg_finish)e.finish;
    f->answer->usage = e.usage;
    return true;
}

void recall_record(struct recall_search *s, const struct journal_record *r)
{
    if (r->kind == JOURNAL_ANSWER_BEGUN)
        read_begun(s, r);
    struct found *f = *place_of(s, r->id);
    if (!f || (r->kind != JOURNAL_ANSWER_PIECE && r->kind != JOURNAL_ANSWER_ENDED))
        return;
    f->last_ms = r->time_us / 1000;
    bool fine = r->kind == JOURNAL_ANSWER_ENDED ? read_ended(f, r->payload) : read_piece(f, r->payload);
    if (!fine)
        forget(place_of(s, r->id)); /* a piece is missing: it cannot be gone on with */
}

/* What was under way when the process ended is a part. One with tool calls was whole but for its end: it is asked anew. */
static enum kept_state left_as(const struct found *f)
{
    const struct shown *s = &f->answer->shown;
    if (f->state == KEPT_WHOLE)
        return KEPT_WHOLE;
    bool part = (f->state == KEPT_RUNNING || f->state == KEPT_PART) && s->has_text && !s->has_calls && !s->many;
    return part && (f->answer->key.body || f->answer->key.idempotency) ? KEPT_PART : KEPT_GONE;
}

static unsigned take(struct found *f, struct journal *j, struct kept_table *k, uint64_t now_ms)
{
    struct recall again = {0};
    enum kept_state state = left_as(f);
    if (state == KEPT_GONE)
        return 0;
    kept_settle(k, f->answer, state, true, now_ms);
    recall_ended(&again, j, f->answer, state);
    return 1;
}

unsigned recall_take(struct recall_search *s, struct journal *j, uint64_t keep_ms, bool all, uint64_t wall_ms,
                     uint64_t now_ms)
{
    unsigned count = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct found **at = &s->buckets[i]; *at;) {
            struct found *f = *at;
            if (f->state == KEPT_RUNNING && !all) {
                at = &f->next;
                continue;
            }
            if (f->last_ms + keep_ms > wall_ms)
                count += take(f, j, s->kept, now_ms);
            forget(at);
        }
    return count;
}

struct recall_search *recall_search_new(struct kept_table *k)
{
    struct recall_search *s = mem_zalloc(sizeof(*s));
    if (s)
        s->kept = k;
    return s;
}

struct recall_search *recall_search_free(struct recall_search *s)
{
    if (!s)
        return NULL;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (s->buckets[i])
            forget(&s->buckets[i]);
    mem_free(s);
    return NULL;
}
