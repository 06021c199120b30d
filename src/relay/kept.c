#include "relay/kept.h"

#include "base/mem.h"
#include "base/text.h"

enum { KEPT_ANSWERS_MAX = 16384, TIDY_EVERY_MS = 1000, BUCKETS = 1024 };

struct kept_table {
    pthread_mutex_t lock;         /* of the table; taken before an answer's */
    struct list answers;          /* oldest first */
    struct list buckets[BUCKETS]; /* by sketch, oldest first */
    struct kept_figures figures;
    uint64_t memory_bytes, keep_ms, tidy_at_ms;
};

const char *kept_state_name(enum kept_state s)
{
    static const char *const names[] = {
#define X(code, name, what) name,
        KEPT_STATES(X)
#undef X
    };
    return (unsigned)s < KEPT_STATE_COUNT ? names[s] : "?";
}

struct kept_table *kept_new(uint64_t memory_bytes, uint64_t keep_ms)
{
    struct kept_table *k = mem_zalloc(sizeof(*k));
    if (!k)
        return NULL;
    pthread_mutex_init(&k->lock, NULL);
    list_init(&k->answers);
    for (unsigned i = 0; i < BUCKETS; i++)
        list_init(&k->buckets[i]);
    kept_rules(k, memory_bytes, keep_ms);
    return k;
}

void kept_rules(struct kept_table *k, uint64_t memory_bytes, uint64_t keep_ms)
{
    pthread_mutex_lock(&k->lock);
    k->memory_bytes = memory_bytes;
    k->keep_ms = keep_ms;
    pthread_mutex_unlock(&k->lock);
}

/* ---- one answer --------------------------------------------------------------------- */

struct kept_answer *kept_begin(struct kept_table *k, const char *id, const struct codec *codec)
{
    struct kept_answer *a = mem_zalloc(sizeof(*a));
    if (!a)
        return NULL;
    a->kept = k;
    atomic_init(&a->refs, 1);
    list_init(&a->node);
    list_init(&a->bucket);
    list_init(&a->followers);
    pthread_mutex_init(&a->lock, NULL);
    shown_init(&a->shown);
    text_copy(a->id, sizeof(a->id), span_str(id));
    a->codec = codec;
    a->attended = true;
    a->usage = MSG_USAGE_NONE;
    return a;
}

struct kept_answer *kept_ref(struct kept_answer *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

struct kept_answer *kept_unref(struct kept_answer *a)
{
    if (a && atomic_fetch_sub(&a->refs, 1) == 1) {
        shown_done(&a->shown);
        pthread_mutex_destroy(&a->lock);
        mem_free(a);
    }
    return NULL;
}

/* ---- the table: it has a reference of its own to each -------------------------------- */

static bool in_table(const struct kept_answer *a)
{
    return !list_empty(&a->node);
}

static size_t size_of(const struct kept_answer *a)
{
    return sizeof(*a) + shown_bytes(&a->shown);
}

static void leave(struct kept_table *k, struct kept_answer *a)
{
    list_remove(&a->node);
    list_remove(&a->bucket);
    k->figures.count--;
    kept_unref(a);
}

static void enter(struct kept_table *k, struct kept_answer *a)
{
    list_push(&k->answers, &a->node);
    list_push(&k->buckets[a->key.sketch % BUCKETS], &a->bucket);
    k->figures.count++;
    kept_ref(a);
}

static uint64_t running_bytes(struct kept_table *k)
{
    uint64_t bytes = 0;
    LIST_EACH(n, &k->answers)
    {
        struct kept_answer *a = LIST_OF(n, struct kept_answer, node);
        pthread_mutex_lock(&a->lock);
        bytes += a->state == KEPT_RUNNING ? size_of(a) : 0;
        pthread_mutex_unlock(&a->lock);
    }
    return bytes;
}

/* Old ones go, and the oldest while there are too many; looked at once a second. Those that run stay: their calls hold them anyway. */
static void tidy(struct kept_table *k, uint64_t now_ms)
{
    if (now_ms < k->tidy_at_ms && k->figures.count <= KEPT_ANSWERS_MAX)
        return;
    k->tidy_at_ms = now_ms + TIDY_EVERY_MS;
    uint64_t bytes = running_bytes(k);
    for (struct list *n = k->answers.prev, *before; n != &k->answers; n = before) {
        struct kept_answer *a = LIST_OF(n, struct kept_answer, node);
        before = n->prev;
        pthread_mutex_lock(&a->lock);
        bool runs = a->state == KEPT_RUNNING, old = a->expires_ms <= now_ms;
        size_t size = size_of(a);
        pthread_mutex_unlock(&a->lock);
        if (!runs && (old || bytes + size > k->memory_bytes || k->figures.count > KEPT_ANSWERS_MAX))
            leave(k, a);
        else if (!runs)
            bytes += size;
    }
    k->figures.bytes = bytes;
}

struct kept_table *kept_free(struct kept_table *k)
{
    if (!k)
        return NULL;
    LIST_EACH(n, &k->answers)
    {
        leave(k, LIST_OF(n, struct kept_answer, node));
    }
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
    return NULL;
}

/* May this request be a return for that answer? `exact`: the body was looked at. */
static bool fits(struct kept_answer *a, const struct kept_key *key, bool exact, uint64_t now_ms)
{
    if (a->state != KEPT_RUNNING && a->expires_ms <= now_ms)
        return false;
    if (a->key.sketch != key->sketch || !a->key.body || (exact && a->key.body != key->body))
        return false; /* an Idempotency-Key that is used again for another request means that one */
    return !a->attended || (key->idempotency && a->key.idempotency == key->idempotency);
}

static struct kept_answer *find(struct kept_table *k, const struct kept_key *key, bool exact, uint64_t now_ms,
                                bool *ret_taken)
{
    struct list *alike = &k->buckets[key->sketch % BUCKETS];
    for (struct list *n = alike->prev; n != alike; n = n->prev) { /* the newest first */
        struct kept_answer *a = LIST_OF(n, struct kept_answer, bucket);
        pthread_mutex_lock(&a->lock);
        bool found = fits(a, key, exact, now_ms);
        if (found && exact) {
            kept_ref(a);
            a->attended = true;
            if (a->state == KEPT_PART) {
                a->state = KEPT_RUNNING;
                *ret_taken = true;
                pthread_mutex_unlock(&a->lock);
                leave(k, a);
                return a;
            }
        }
        pthread_mutex_unlock(&a->lock);
        if (found)
            return a;
    }
    return NULL;
}

bool kept_may_have(struct kept_table *k, const struct kept_key *key, uint64_t now_ms)
{
    pthread_mutex_lock(&k->lock);
    bool taken, found = k->figures.count && find(k, key, false, now_ms, &taken);
    pthread_mutex_unlock(&k->lock);
    return found;
}

struct kept_answer *kept_find(struct kept_table *k, const struct kept_key *key, uint64_t now_ms, bool *ret_taken)
{
    *ret_taken = false;
    pthread_mutex_lock(&k->lock);
    struct kept_answer *a = find(k, key, true, now_ms, ret_taken);
    pthread_mutex_unlock(&k->lock);
    return a;
}

struct kept_answer *kept_by_id(struct kept_table *k, struct span id, uint64_t now_ms)
{
    struct kept_answer *found = NULL;
    pthread_mutex_lock(&k->lock);
    for (struct list *n = k->answers.prev; n != &k->answers && !found; n = n->prev) {
        struct kept_answer *a = LIST_OF(n, struct kept_answer, node);
        bool there = a->state == KEPT_RUNNING || a->expires_ms > now_ms;
        if (span_is(id, a->id) && there && (!a->collected || a->state == KEPT_WHOLE))
            found = kept_ref(a);
    }
    pthread_mutex_unlock(&k->lock);
    return found;
}

void kept_offer(struct kept_table *k, struct kept_answer *a, uint64_t now_ms)
{
    pthread_mutex_lock(&k->lock);
    if (!in_table(a) && k->keep_ms)
        enter(k, a);
    tidy(k, now_ms);
    pthread_mutex_unlock(&k->lock);
}

void kept_settle(struct kept_table *k, struct kept_answer *a, enum kept_state state, bool stays, uint64_t now_ms)
{
    pthread_mutex_lock(&k->lock);
    pthread_mutex_lock(&a->lock);
    a->state = state;
    a->expires_ms = now_ms + k->keep_ms;
    pthread_mutex_unlock(&a->lock);
    stays = stays && k->keep_ms;
    if (stays && !in_table(a))
        enter(k, a);
    else if (!stays && in_table(a))
        leave(k, a);
    tidy(k, now_ms);
    pthread_mutex_unlock(&k->lock);
}

struct kept_figures kept_figures(struct kept_table *k)
{
    pthread_mutex_lock(&k->lock);
    struct kept_figures f = k->figures;
    pthread_mutex_unlock(&k->lock);
    return f;
}
