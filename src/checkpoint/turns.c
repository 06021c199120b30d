#include "checkpoint/turns.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "checkpoint/known.h"
#include "checkpoint/left.h"
#include "dialect/encoder.h"
#include "dialect/shown.h"
#include "parse/put.h"

enum {
    BATCH = 128,
    SESSIONS = 2048, /* whose newest turn is remembered */
    NEWEST_BYTES_MAX = 8 << 20,
    BUCKETS = 256, /* of those that wait, by their conversations' beginnings */
    ANSWER_MAX = 64 << 20,
    GATHER_MS =
        20, /* so long others are waited for that are written with the first: one fsync is for all of them */
    LEFT_EVERY_MS = 2000,            /* an old process is at work: what it leaves is looked for */
    LEFT_MOST_MS = 24 * 3600 * 1000, /* after it, it is not any more */
    PACE_MS = 250,                   /* between two batches, at least, where many come */
};

/* Of a session: so its next turn need not gather from the database which messages it has already. What is remembered is true as long as it is the newest: such a
 * row is never changed, and never goes. */
struct newest {
    char agent[40], id[CHECKPOINT_ID_BYTES];
    struct buf names; /* it has them all */
    int64_t links;
};

struct turns {
    struct checkpoints *c; /* under `using`; NULL: a successor has the database */
    pthread_mutex_t using;
    char *left; /* NULL: no folder */
    uint64_t follow_until_ms;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list waiting, alike[BUCKETS];
    uint64_t bytes, most;
    unsigned waiting_count;
    struct known *known; /* this and the next: the thread's */
    struct packer *packer;
    uint64_t took_ms;      /* the newest batch */
    struct newest *newest; /* this and the next: the thread's */
    size_t newest_bytes;
    bool ending, said;
    pthread_t thread;
    struct turns_stats stats;
};

/* ---- what was written last ---------------------------------------------------------------- */

static struct newest *newest_of(struct turns *t, const struct turn *turn)
{
    return &t->newest[hash_bytes(span_str(turn->agent), 0) % SESSIONS];
}

static void remember(struct turns *t, const struct turn *turn, struct made *m)
{
    struct newest *n = newest_of(t, turn);
    t->newest_bytes += buf_size(&m->names) - buf_size(&n->names);
    text_copy(n->agent, sizeof(n->agent), span_str(turn->agent));
    text_copy(n->id, sizeof(n->id), span_str(m->id));
    n->links = m->links;
    buf_done(&n->names);
    n->names = m->names;
    m->names = (struct buf){0};
    for (unsigned i = 0; i < SESSIONS && t->newest_bytes > NEWEST_BYTES_MAX;
         i++) { /* a few are not worth an order */
        t->newest_bytes -= buf_size(&t->newest[i].names);
        buf_done(&t->newest[i].names);
        t->newest[i].id[0] = '\0';
    }
}

static void recall(struct turns *t, const struct turn *turn, struct made *m)
{
    const struct newest *n = newest_of(t, turn);
    if (!n->id[0] || !span_eq(span_str(n->agent), span_str(turn->agent)))
        return;
    m->before_id = span_str(n->id);
    m->before_names = buf_span(&n->names);
    m->before_links = n->links;
}

static void forget_all(struct turns *t)
{
    for (unsigned i = 0; i < SESSIONS; i++)
        buf_done(&t->newest[i].names);
}

/* ---- what waits ---------------------------------------------------------------------------- */

static void leave(struct turns *t, struct turn *turn)
{
    list_remove(&turn->node);
    list_remove(&turn->alike);
    t->waiting_count--;
}

static bool overtakes(const struct turn *later, const struct turn *t)
{
    return later->begins == t->begins && later->codec == t->codec && later->body.n >= t->body.n &&
           strcmp(later->agent, t->agent) == 0;
}

/* The one that waits and has nothing that `turn` has not; NULL: none. */
static struct turn *overtaken_by(struct turns *t, const struct turn *turn)
{
    struct list *alike = &t->alike[turn->begins % BUCKETS];
    if (turn->begins)
        LIST_EACH(node, alike)
    if (overtakes(turn, LIST_OF(node, struct turn, alike)))
        return LIST_OF(node, struct turn, alike);
    return NULL;
}

/* ---- a turn is made a checkpoint ----------------------------------------------------------- */

/* One that is being made, and what it points to. */
struct making {
    struct turn *turn;
    struct known *known;
    struct packer *packer;
    struct made *made;
    struct buf frame, answer, conversation, usage, names;
    struct span *messages;
    size_t count, room;
};

static pd_err add_message(struct making *k, struct span s)
{
    char name[NAME_BYTES];
    pd_err e = known_name(k->known, s, name);
    if (!e)
        e = buf_add(&k->names, span_of(name, NAME_BYTES));
    if (e)
        return e;
    if (k->count == k->room) {
        size_t room = k->room ? 2 * k->room : 64;
        void *list = mem_realloc(k->messages, room * sizeof(*k->messages));
        if (!list)
            return PD_NOMEM;
        k->messages = list;
        k->room = room;
    }
    k->messages[k->count++] = s;
    return k->count < CHECKPOINT_MESSAGES_MAX ? PD_OK : PD_TOOBIG;
}

/* The turns of a request: those of its last member of this name, as all parsers take it. */
static struct json find_turns(struct span body, const char *member)
{
    struct json_walk w;
    struct json v, found = {JSON_NONE, SPAN_NONE};
    struct span key;
    json_walk_doc(&w, body);
    while (json_walk_next(&w, &key, &v))
        if (json_key_is(key, member))
            found = v;
    return found;
}

/* The first message is the request without its turns: model, system, tools, which are the same from turn to turn. */
static pd_err cut_request(struct making *k)
{
    struct span body = k->turn->body;
    struct json turns = {JSON_ARRAY, k->turn->turns}, v;
    if (!turns.raw.n)
        turns = find_turns(body, k->turn->codec->turns_member);
    struct json_walk w;
    pd_err e = PD_OK;
    if (turns.type != JSON_ARRAY) /* Responses: a text alone */
        return add_message(k, body);
    struct put p = put_into(&k->frame);
    put_span(&p, span_upto(body, (size_t)(turns.raw.p - body.p)));
    put_text(&p, "[]");
    put_span(&p, span_from(body, (size_t)(turns.raw.p - body.p) + turns.raw.n));
    e = p.err ? p.err : add_message(k, span_trim(buf_span(&k->frame)));
    json_walk_doc(&w, turns.raw);
    while (!e && json_walk_next(&w, NULL, &v))
        e = add_message(k, v.raw);
    return e ? e : w.err ? PD_INVALID : PD_OK;
}

static pd_err encode_answer(struct making *k)
{
    struct turn *t = k->turn;
    const struct answer_facts facts = {
        .usage = t->usage, .finish = t->finish, .finish_raw = SPAN_LIT(""), .has_output = true};
    const struct encode_want want = {.model = span_str(t->model), .id = span_from(span_str(t->call), 2)};
    struct encoder *en = encoder_new(t->codec, &want, ANSWER_MAX);
    if (!en)
        return PD_NOMEM;
    if (t->lock)
        t->lock(t, true);
    shown_tell(t->shown, 0, encoder_delta, en);
    if (t->lock)
        t->lock(t, false);
    pd_err e = encoder_whole(en, &facts, &k->answer);
    encoder_free(en);
    return e;
}

static pd_err add_answer(struct making *k, bool *ret)
{
    struct turn *t = k->turn;
    struct span answer = span_trim(t->answer);
    pd_err e = PD_OK;
    if (!answer.n && t->shown && t->codec->encoder) {
        e = encode_answer(k);
        answer = span_trim(buf_span(&k->answer));
    }
    *ret = false;
    if (e)
        return e == PD_NOMEM ? e : PD_OK;
    e = add_message(k, answer);
    *ret = !e;
    return e == PD_INVALID ? PD_OK : e; /* what is no JSON is left out */
}

static void put_count(struct put *p, const char *name, int64_t n)
{
    if (n >= 0)
        put_printf(p, "%s\"%s\":%lld", p->b->tail - p->b->head > 1 ? "," : "", name, (long long)n);
}

static pd_err describe(struct making *k, bool answered)
{
    const struct turn *t = k->turn;
    struct put p = put_into(&k->conversation), u = put_into(&k->usage);
    put_text(&p, "{\"format\":");
    put_json(&p, span_str(t->codec->name));
    put_text(&p, ",\"model\":");
    put_json(&p, span_str(t->model));
    put_text(&p, ",\"call\":");
    put_json(&p, span_str(t->call));
    put_printf(&p, ",\"answer\":%s}", answered ? "true" : "false");
    put_text(&u, "{");
    put_count(&u, "input", t->usage.input_total);
    put_count(&u, "output", t->usage.output_total);
    put_text(&u, "}");
    return p.err ? p.err : u.err;
}

static pd_err make(struct making *k)
{
    char why[CHECKPOINT_WHY_BYTES];
    bool answered = false;
    const struct turn *t = k->turn;
    pd_err e = cut_request(k);
    if (!e)
        e = add_answer(k, &answered);
    if (!e)
        e = describe(k, answered);
    if (e)
        return e;
    const struct checkpoint cp = {.agent = span_str(t->agent),
                                  .task = span_str(t->name),
                                  .step_index = -1,
                                  .provider = span_str(t->provider),
                                  .reason = SPAN_LIT("turn"),
                                  .token_usage = buf_span(&k->usage),
                                  .conversation = buf_span(&k->conversation),
                                  .messages = k->messages,
                                  .messages_count = k->count};
    e = checkpoint_check_members(&cp, why, sizeof(why));
    k->made = e ? NULL : made_new(&cp, false);
    if (e || !k->made)
        return e ? e : PD_NOMEM;
    k->made->names = k->names;
    k->names = (struct buf){0};
    k->made->packer = k->packer;
    return made_write(k->made);
}

static void making_done(struct making *k)
{
    made_free(k->made);
    mem_free(k->messages);
    buf_done(&k->frame);
    buf_done(&k->answer);
    buf_done(&k->conversation);
    buf_done(&k->usage);
    buf_done(&k->names);
}

/* ---- several at once ---------------------------------------------------------------------------- */

struct batch {
    struct turns *t;
    struct making list[BATCH];
    unsigned count, from, to; /* from .. to are being written */
};

static pd_err write_turns(struct tx *tx, void *ctx)
{
    struct batch *b = ctx;
    pd_err e = PD_OK;
    for (unsigned i = b->from; i < b->to && !e; i++)
        if (b->list[i].made)
            e = write_job(tx, b->list[i].made, b->t->c->objects != NULL);
    return e;
}

static void count_turns(struct batch *b, unsigned n, pd_err e)
{
    struct turns *t = b->t;
    pthread_mutex_lock(&t->lock);
    t->stats.made += e ? 0 : n;
    t->stats.failed += e ? n : 0;
    bool news = e && !t->said;
    t->said = e != PD_OK;
    pthread_mutex_unlock(&t->lock);
    if (news)
        LOG(NULL, LOG_WARN, "turn.not_kept",
            "why=%s remedy=\"calls go on; the session's next turn has all of it again\"", pd_err_name(e));
}

/* Each a file, for the successor. */
static void leave_batch(struct batch *b)
{
    for (unsigned i = 0; i < b->count; i++)
        if (b->list[i].made)
            count_turns(b, 1, b->t->left ? left_write(b->t->left, b->list[i].made) : PD_CLOSED);
}

static unsigned make_batch(struct batch *b)
{
    unsigned fine = 0;
    for (unsigned i = 0; i < b->count; i++) {
        pd_err e = make(&b->list[i]);
        if (e)
            b->list[i].made = made_free(b->list[i].made);
        else
            recall(b->t, b->list[i].turn, b->list[i].made);
        fine += !e;
        if (e)
            count_turns(b, 1, e);
    }
    return fine;
}

static void write_batch(struct batch *b, unsigned fine)
{
    b->from = 0;
    b->to = b->count;
    pd_err e = fine ? db_do(b->t->c->db, write_turns, b) : PD_OK;
    bool alone = e && fine > 1; /* one that cannot be written takes nothing of the others with it */
    if (fine && !alone)
        count_turns(b, fine, e);
    for (unsigned i = 0; i < b->count; i++) {
        struct making *k = &b->list[i];
        if (!k->made)
            continue;
        pd_err own = e;
        if (alone) {
            b->from = i;
            b->to = i + 1;
            own = db_do(b->t->c->db, write_turns, b);
            count_turns(b, 1, own);
        }
        checkpoints_count(b->t->c, k->made, own);
        if (!own)
            remember(b->t, k->turn, k->made);
    }
}

/* The one that is there waits a little for others, and longer where there are many: what a session asks meanwhile overtakes it. */
static void gather(struct turns *t)
{
    uint64_t soon = clock_mono_ms() + GATHER_MS, paced = t->took_ms + PACE_MS, until = soon > paced ? soon : paced;
    const struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
    while (t->waiting_count < BATCH && !t->ending && clock_mono_ms() < until)
        pthread_cond_timedwait(&t->work, &t->lock, &at);
    t->took_ms = clock_mono_ms();
}

/* False: it is time to look at what was left. */
static bool wait_for_work(struct turns *t)
{
    uint64_t now = clock_mono_ms(), until = now + LEFT_EVERY_MS;
    const struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};
    if (now < t->follow_until_ms)
        return pthread_cond_timedwait(&t->work, &t->lock, &at) == 0;
    pthread_cond_wait(&t->work, &t->lock);
    return true;
}

static void look_for_left(struct turns *t)
{
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_lock(&t->using);
    if (t->c && t->left)
        (void)left_read(t->c, t->left);
    pthread_mutex_unlock(&t->using);
    pthread_mutex_lock(&t->lock);
}

static void take(struct turns *t, struct batch *b)
{
    struct list *node;
    b->count = 0;
    pthread_mutex_lock(&t->lock);
    while (list_empty(&t->waiting) && !t->ending)
        if (!wait_for_work(t))
            look_for_left(t);
    gather(t);
    while (b->count < BATCH && (node = list_first(&t->waiting)) != NULL) {
        struct turn *turn = LIST_OF(node, struct turn, node);
        leave(t, turn);
        b->list[b->count++] = (struct making){.turn = turn, .known = t->known, .packer = t->packer};
    }
    pthread_mutex_unlock(&t->lock);
}

static void *turns_thread(void *ctx)
{
    struct turns *t = ctx;
    struct batch b = {.t = t};
    pthread_mutex_lock(&t->lock);
    look_for_left(t);
    pthread_mutex_unlock(&t->lock);
    for (;;) {
        take(t, &b);
        if (!b.count)
            return NULL;
        unsigned fine = make_batch(&b);
        pthread_mutex_lock(&t->using);
        if (t->c)
            write_batch(&b, fine);
        else
            leave_batch(&b);
        pthread_mutex_unlock(&t->using);
        for (unsigned i = 0; i < b.count; i++) {
            struct turn *turn = b.list[i].turn;
            size_t bytes = turn->bytes;
            making_done(&b.list[i]);
            turn->release(turn);
            pthread_mutex_lock(&t->lock);
            t->bytes -= bytes;
            pthread_mutex_unlock(&t->lock);
        }
    }
}

/* ---- the door --------------------------------------------------------------------------------------- */

struct turns *turns_new(struct checkpoints *c, uint64_t waiting_bytes)
{
    const struct turns_rules r = {.waiting_bytes = waiting_bytes};
    return turns_begin(c, &r);
}

void turns_leave(struct turns *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->using);
    t->c = NULL;
    pthread_mutex_unlock(&t->using);
}

void turns_return(struct turns *t, struct checkpoints *c)
{
    pthread_mutex_lock(&t->using);
    t->c = c;
    pthread_mutex_unlock(&t->using);
}

struct turns *turns_begin(struct checkpoints *c, const struct turns_rules *r)
{
    struct turns *t = mem_zalloc(sizeof(*t));
    if (!t)
        return NULL;
    t->c = c;
    t->most = r->waiting_bytes;
    t->left = r->left ? mem_strdup(r->left) : NULL;
    t->follow_until_ms = r->follows ? clock_mono_ms() + LEFT_MOST_MS : 0;
    pthread_mutex_init(&t->using, NULL);
    list_init(&t->waiting);
    for (unsigned i = 0; i < BUCKETS; i++)
        list_init(&t->alike[i]);
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->work, &attr);
    pthread_condattr_destroy(&attr);
    t->known = known_new();
    t->packer = packer_new();
    t->newest = mem_calloc(SESSIONS, sizeof(*t->newest));
    if (t->known && t->packer && t->newest && (t->left || !r->left) &&
        pthread_create(&t->thread, NULL, turns_thread, t) == 0)
        return t;
    known_free(t->known);
    packer_free(t->packer);
    mem_free(t->newest);
    mem_free(t->left);
    pthread_mutex_destroy(&t->using);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
    return NULL;
}

struct turns *turns_free(struct turns *t)
{
    if (!t)
        return NULL;
    pthread_mutex_lock(&t->lock);
    t->ending = true;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    forget_all(t);
    known_free(t->known);
    packer_free(t->packer);
    mem_free(t->newest);
    mem_free(t->left);
    pthread_mutex_destroy(&t->using);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
    return NULL;
}

bool turns_give(struct turns *t, struct turn *turn)
{
    pthread_mutex_lock(&t->lock);
    struct turn *earlier = overtaken_by(t, turn);
    uint64_t others = t->bytes - (earlier ? earlier->bytes : 0);
    bool fits = !t->ending && (!others || others + turn->bytes <= t->most);
    if (fits) {
        t->bytes = others + turn->bytes;
        list_push(earlier ? &earlier->node : &t->waiting, &turn->node); /* in its place */
        list_push(&t->alike[turn->begins % BUCKETS], &turn->alike);
        t->waiting_count++;
        if (earlier)
            leave(t, earlier);
        t->stats.overtaken += earlier != NULL;
        if (t->waiting_count == 1 || t->waiting_count == BATCH)
            pthread_cond_signal(&t->work);
    } else {
        t->stats.left_out++;
    }
    pthread_mutex_unlock(&t->lock);
    if (fits && earlier)
        earlier->release(earlier);
    return fits;
}

void turns_stats(struct turns *t, struct turns_stats *ret)
{
    pthread_mutex_lock(&t->lock);
    *ret = t->stats;
    pthread_mutex_unlock(&t->lock);
}
