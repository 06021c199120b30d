#include "relay/follow.h"

#include "base/mem.h"
#include "base/text.h"
#include "dialect/encoder.h"
#include "relay/gateway.h"
#include "relay/routing.h"

#include <stdio.h>

enum {
    FOLLOW_OUT_MAX = 128 << 20,
    FOLLOW_PIECE = 256 * 1024, /* of what is there already, told before others get their turn */
    FOLLOW_HIGH = 64 * 1024,   /* more than this unsent: the client is waited for */
};

struct follows {
    struct worker *w;
    struct waker *waker;
    pthread_mutex_t lock;
    struct list woken; /* struct follow, by `wake` */
};

struct follow {
    struct list node; /* in answer->followers, under its lock */
    struct list wake; /* in follows->woken, under its lock */
    struct follows *follows;
    struct kept_answer *answer;
    struct request *rq;
    struct encoder *encoder; /* NULL: nothing is known of the answer yet */
    struct buf model;        /* the answer's, for the encoder */
    struct follow_want want;
    struct timer keepalive;
    struct timer next;     /* more is there already */
    uint64_t keepalive_ms; /* 0: none */
    size_t at;             /* told up to there */
    bool begun, sent, paused;
};

static void pump(struct follow *f);

static struct follow *follow_free(struct follow *f)
{
    struct kept_answer *a = f->answer;
    pthread_mutex_lock(&a->lock);
    if (!list_empty(&f->node))
        atomic_fetch_sub(&a->followers_count, 1);
    list_remove(&f->node);
    pthread_mutex_unlock(&a->lock);
    pthread_mutex_lock(&f->follows->lock);
    list_remove(&f->wake);
    pthread_mutex_unlock(&f->follows->lock);
    timer_stop(f->follows->w->loop, &f->keepalive);
    timer_stop(f->follows->w->loop, &f->next);
    encoder_free(f->encoder);
    buf_done(&f->model);
    kept_unref(a);
    mem_free(f);
    return NULL;
}

/* Its client has not got to the end: it may come back once more. One that only reads a call by its id is not that client. */
static void left_early(struct follow *f)
{
    struct kept_answer *a = f->answer;
    if (f->want.ids)
        return;
    pthread_mutex_lock(&a->lock);
    a->attended = false;
    bool there = a->state == KEPT_RUNNING || a->state == KEPT_WHOLE;
    pthread_mutex_unlock(&a->lock);
    if (there)
        kept_offer(a->kept, a, loop_now_ms(f->follows->w->loop));
}

/* ---- waking ---------------------------------------------------------------------------- */

static void on_woken(void *ctx)
{
    struct follows *all = ctx;
    for (;;) {
        pthread_mutex_lock(&all->lock);
        struct list *n = list_first(&all->woken);
        if (n)
            list_remove(n);
        pthread_mutex_unlock(&all->lock);
        if (!n)
            return;
        pump(LIST_OF(n, struct follow, wake));
    }
}

void follow_notify(struct kept_answer *a)
{
    if (!atomic_load(&a->followers_count))
        return;
    pthread_mutex_lock(&a->lock);
    for (struct list *n = a->followers.next; n != &a->followers; n = n->next) {
        struct follow *f = LIST_OF(n, struct follow, node);
        pthread_mutex_lock(&f->follows->lock);
        if (list_empty(&f->wake))
            list_push(&f->follows->woken, &f->wake);
        pthread_mutex_unlock(&f->follows->lock);
        waker_wake(f->follows->waker);
    }
    pthread_mutex_unlock(&a->lock);
}

struct follows *follows_new(struct worker *w)
{
    struct follows *f = mem_zalloc(sizeof(*f));
    if (!f)
        return NULL;
    f->w = w;
    list_init(&f->woken);
    pthread_mutex_init(&f->lock, NULL);
    f->waker = waker_new(w->loop, on_woken, f);
    if (!f->waker) {
        pthread_mutex_destroy(&f->lock);
        mem_free(f);
        return NULL;
    }
    return f;
}

struct follows *follows_free(struct follows *f)
{
    if (!f)
        return NULL;
    waker_free(f->waker);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
    return NULL;
}

/* ---- the client's side -------------------------------------------------------------------- */

static const char *type_of(const struct follow *f)
{
    return !f->want.stream || f->want.array ? "application/json" : f->want.codec->stream_type;
}

static pd_err begin(struct follow *f)
{
    const struct header h[] = {{SPAN_LIT("Content-Type"), span_str(type_of(f))},
                               {SPAN_LIT("x-request-id"), span_str(f->answer->id)},
                               {SPAN_LIT("x-perdure-joined"), span_str(f->answer->id)},
                               {SPAN_LIT("Cache-Control"), SPAN_LIT("no-cache")}};
    f->begun = true;
    return reply_begin(f->rq, 200, h, sizeof(h) / sizeof(h[0]), -1);
}

static void lost(struct follow *f)
{
    struct request *rq = f->rq;
    f->rq = NULL;
    reply_abort(rq);
    left_early(f);
    follow_free(f);
}

/* The position behind what was sent: an event of its own without data, which moves the client's Last-Event-ID and is nothing else. */
static pd_err put_id(struct follow *f)
{
    char id[48];
    if (!f->want.ids)
        return PD_OK;
    int n = snprintf(id, sizeof(id), "id: %s:%zu\n\n", f->answer->id, f->at);
    struct span bytes = span_of(id, (size_t)n);
    return reply_write(f->rq, &bytes, 1);
}

static pd_err put_made(struct follow *f)
{
    struct span made;
    pd_err e = encoder_bytes(f->encoder, &made);
    if (!e && made.n && !f->begun)
        e = begin(f);
    if (!e && made.n)
        e = reply_write(f->rq, &made, 1);
    f->sent |= made.n > 0;
    if (!e && made.n)
        e = put_id(f);
    encoder_clear(f->encoder);
    return e;
}

static pd_err end_whole(struct follow *f, const struct answer_facts *facts)
{
    struct buf out;
    buf_init(&out, FOLLOW_OUT_MAX);
    pd_err e = encoder_whole(f->encoder, facts, &out);
    const struct header h[] = {{SPAN_LIT("Content-Type"), SPAN_LIT("application/json")},
                               {SPAN_LIT("x-request-id"), span_str(f->answer->id)},
                               {SPAN_LIT("x-perdure-joined"), span_str(f->answer->id)}};
    if (!e) {
        struct request *rq = f->rq;
        f->rq = NULL;
        reply_simple(rq, 200, h, sizeof(h) / sizeof(h[0]), buf_span(&out));
    }
    buf_done(&out);
    return e;
}

static void end_well(struct follow *f, const struct msg_usage *usage, enum msg_finish finish)
{
    struct answer_facts facts = {
        .usage = *usage, .finish = finish, .finish_raw = SPAN_LIT(""), .has_output = true};
    struct span made;
    pd_err e;
    if (!f->want.stream) {
        e = end_whole(f, &facts);
    } else {
        e = encoder_end(f->encoder, &facts);
        if (!e && !f->begun)
            e = begin(f);
        if (!e)
            e = encoder_bytes(f->encoder, &made);
        if (!e)
            e = reply_write(f->rq, &made, 1);
        if (!e) {
            struct request *rq = f->rq;
            f->rq = NULL;
            reply_end(rq);
        }
    }
    if (e)
        lost(f);
    else
        follow_free(f);
}

static pd_err put_error(struct follow *f, const struct client_error *ce, struct buf *out)
{
    if (!f->want.array)
        return codec_put_error_event(f->want.codec, ce, out);
    pd_err e = buf_puts(out, f->sent ? ",\r\n" : "["); /* one more item of an array that stays open */
    return e ? e : codec_put_error(f->want.codec, ce, out);
}

/* The call that was followed ended without an answer. */
static void end_badly(struct follow *f)
{
    static const char message[] =
        "the call that this request was joined to ended without a whole answer; ask again";
    struct request *rq = f->rq;
    if (!f->begun) {
        f->rq = NULL;
        relay_refuse(rq, f->want.codec, 503, "stream_interrupted", message, 1000);
        follow_free(f);
        return;
    }
    struct buf event = {0};
    struct client_error ce = {.status = 502,
                              .type = "api_error",
                              .code = "stream_interrupted",
                              .message = span_str(message),
                              .sequence = f->encoder ? encoder_sequence(f->encoder) : 0};
    if (put_error(f, &ce, &event) == PD_OK) {
        struct span bytes = buf_span(&event);
        if (reply_write(rq, &bytes, 1) == PD_OK)
            reply_flush(rq);
    }
    buf_done(&event);
    lost(f);
}

/* What the client has already is told to the encoder and not sent again: all before a position, which may stand inside a text. */
struct skip {
    struct encoder *encoder;
    unsigned rest, seen; /* deltas told from the position on; of all, so far */
    size_t first_bytes;  /* of the first of the rest */
    unsigned total;
};

static void count_rest(void *ctx, const struct msg_delta *d)
{
    struct skip *s = ctx;
    if (!s->rest++)
        s->first_bytes = d->text.n;
}

static void count_all(void *ctx, const struct msg_delta *d)
{
    (void)d;
    ((struct skip *)ctx)->total++;
}

static void tell_before(void *ctx, const struct msg_delta *d)
{
    struct skip *s = ctx;
    unsigned before = s->total - s->rest, i = s->seen++;
    struct msg_delta part = *d;
    if (i == before && d->text.n > s->first_bytes)
        part.text = span_upto(d->text, d->text.n - s->first_bytes);
    else if (i >= before)
        return;
    encoder_delta(s->encoder, &part);
}

static void skip(struct follow *f)
{
    struct shown *shown = &f->answer->shown;
    struct skip s = {.encoder = f->encoder};
    if (!f->want.from || f->want.from > shown_end(shown))
        return;
    shown_tell(shown, f->want.from, count_rest, &s);
    shown_tell(shown, 0, count_all, &s);
    shown_tell(shown, 0, tell_before, &s);
    f->at = f->want.from;
    encoder_clear(f->encoder);
}

/* Once it is known whose answer it is: with its first output, or at its end. Under the answer's lock. */
static pd_err make_encoder(struct follow *f)
{
    struct kept_answer *a = f->answer;
    pd_err e = buf_add(&f->model, shown_model(&a->shown));
    if (e)
        return e;
    struct encode_want ew = {.model = buf_span(&f->model),
                             .id = span_from(span_str(a->id), 2),
                             .created = (int64_t)(a->began_wall_ms / 1000),
                             .stream = f->want.stream,
                             .include_usage = f->want.include_usage,
                             .array = f->want.array};
    f->encoder = encoder_new(f->want.codec, &ew, FOLLOW_OUT_MAX);
    if (!f->encoder)
        return PD_NOMEM;
    skip(f);
    return PD_OK;
}

/* In another turn of the loop, and when the client has taken what it was sent. */
static void go_on_later(struct follow *f)
{
    struct loop *l = f->follows->w->loop;
    reply_flush(f->rq);
    f->paused = reply_queued(f->rq) > FOLLOW_HIGH;
    if (!f->paused)
        timer_arm(l, &f->next, loop_now_ms(l));
}

static void on_next(void *ctx)
{
    pump(ctx);
}

static void pump(struct follow *f)
{
    struct kept_answer *a = f->answer;
    if (f->paused)
        return;
    pthread_mutex_lock(&a->lock);
    enum kept_state state = a->state;
    struct msg_usage usage = a->usage;
    enum msg_finish finish = a->finish;
    if (a->collected && state == KEPT_RUNNING) {
        pthread_mutex_unlock(&a->lock);
        return;
    }
    pd_err e = !f->encoder && (a->shown.any || state != KEPT_RUNNING) ? make_encoder(f) : PD_OK;
    if (f->encoder) /* one that does not stream gets a document, at once */
        f->at =
            shown_tell_some(&a->shown, f->at, f->want.stream ? FOLLOW_PIECE : SIZE_MAX, encoder_delta, f->encoder);
    bool more = f->encoder && f->at < shown_end(&a->shown);
    pthread_mutex_unlock(&a->lock);
    if (!e && f->encoder && f->want.stream)
        e = put_made(f);
    if (e) {
        lost(f);
        return;
    }
    if (more) {
        go_on_later(f);
        return;
    }
    if (state == KEPT_WHOLE) {
        end_well(f, &usage, finish);
        return;
    }
    if (state != KEPT_RUNNING) {
        end_badly(f);
        return;
    }
    reply_flush(f->rq);
    f->paused = reply_queued(f->rq) > FOLLOW_HIGH;
}

static void on_keepalive(void *ctx)
{
    struct follow *f = ctx;
    struct loop *l = f->follows->w->loop;
    struct span comment = f->want.array ? SPAN_LIT("\n") : span_str(f->want.codec->keepalive);
    pd_err e = f->begun ? PD_OK : begin(f);
    if (!e && !f->paused)
        e = reply_write(f->rq, &comment, 1);
    if (e)
        lost(f);
    else
        timer_arm(l, &f->keepalive, loop_now_ms(l) + f->keepalive_ms);
}

static void on_gone(void *ctx)
{
    struct follow *f = ctx;
    f->rq = NULL;
    left_early(f);
    follow_free(f);
}

static void on_drain(void *ctx)
{
    struct follow *f = ctx;
    f->paused = false;
    pump(f);
}

/* ---- the beginning --------------------------------------------------------------------------- */

size_t follow_position(struct span s)
{
    const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
    size_t n = 0;
    if (colon)
        s = span_from(s, (size_t)(colon + 1 - s.p));
    for (size_t i = 0; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && n < SHOWN_MAX; i++)
        n = n * 10 + (size_t)(s.p[i] - '0');
    return n;
}

static void too_little_memory(struct request *rq, const struct codec *codec)
{
    relay_refuse(rq, codec, 503, "out_of_memory", "perdure is out of memory; try again", 1000);
}

void follow_start(struct worker *w, struct request *rq, struct kept_answer *a, const struct follow_want *want)
{
    static const struct request_handler handler = {on_gone, on_drain};
    struct follow *f = mem_zalloc(sizeof(*f));
    if (!f) {
        kept_unref(a);
        too_little_memory(rq, want->codec);
        return;
    }
    *f = (struct follow){.follows = w->follows, .answer = a, .rq = rq, .want = *want};
    list_init(&f->node);
    list_init(&f->wake);
    timer_init(&f->keepalive, on_keepalive, f);
    timer_init(&f->next, on_next, f);
    request_set_handler(rq, &handler, f);
    buf_init(&f->model, 0);
    f->keepalive_ms = want->stream && want->codec->keepalive ? routing_conf(w->routing)->settings.keepalive : 0;
    if (f->keepalive_ms)
        timer_arm(w->loop, &f->keepalive, loop_now_ms(w->loop) + f->keepalive_ms);
    pthread_mutex_lock(&a->lock);
    list_push(&a->followers, &f->node);
    atomic_fetch_add(&a->followers_count, 1);
    bool any = a->shown.any;
    pthread_mutex_unlock(&a->lock);
    if (any && want->stream && begin(f)) {
        lost(f);
        return;
    }
    pump(f);
}
