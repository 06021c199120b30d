#include "relay/turn.h"

#include "base/mem.h"
#include "base/text.h"
#include "checkpoint/turns.h"
#include "relay/kept.h"

#include <stdio.h>

/* What a turn points to. */
struct given {
    struct turn turn;
    struct request *rq;
    struct kept_answer *kept; /* NULL: the answer is in `copy` */
    struct buf copy;
};

static struct turns *wanted(const struct relay *r)
{
    const struct codec *c = r->what.codec;
    struct turns *t = atomic_load(&r->w->gateway->turns);
    bool is_turn = t && r->call.want.in_session && r->call.want.session && c->kind == CODEC_CHAT &&
                   c->turns_member && !r->what.wrapper;
    return is_turn && routing_conf(r->routing)->settings.session_checkpoints ? t : NULL;
}

void turn_keep(struct relay *r, struct span answer)
{
    if (r->keeps_asked || !wanted(r))
        return;
    if (!r->facts.stream && buf_add(&r->answered, answer))
        return; /* without memory a checkpoint less */
    request_keep(r->asked);
    r->keeps_asked = true;
}

static void release(struct turn *t)
{
    struct given *g = (struct given *)(void *)t; /* its first member */
    request_release(g->rq);
    kept_unref(g->kept);
    buf_done(&g->copy);
    mem_free(g);
}

static void lock(struct turn *t, bool locks)
{
    struct kept_answer *a = ((struct given *)(void *)t)->kept;
    (void)(locks ? pthread_mutex_lock(&a->lock) : pthread_mutex_unlock(&a->lock));
}

static const struct target *answered_by(const struct relay *r)
{
    int winner = r->call.winner;
    return winner < 0 ? NULL : route_used(r->route)->targets[r->call.attempts[winner].target].target;
}

static void describe(const struct relay *r, struct turn *t)
{
    const struct target *by = answered_by(r);
    snprintf(t->agent, sizeof(t->agent), CHECKPOINT_SESSION "s-%016llx", (unsigned long long)r->call.want.session);
    text_copy(t->name, sizeof(t->name), r->session_name);
    text_copy(t->provider, sizeof(t->provider), span_str(by ? by->provider : ""));
    text_copy(t->model, sizeof(t->model), span_str(by ? by->model : ""));
    text_copy(t->call, sizeof(t->call), span_str(r->id));
}

/* Facts may be of another body than the one that is kept. */
static struct span within(struct span body, struct span s)
{
    return s.n && s.p >= body.p && s.p + s.n <= body.p + body.n ? s : SPAN_NONE;
}

void turn_give(struct relay *r)
{
    struct turns *turns = r->keeps_asked ? wanted(r) : NULL;
    bool whole = r->call.outcome == CALL_COMPLETE || r->call.outcome == CALL_CONTINUED;
    struct given *g = turns && whole ? mem_zalloc(sizeof(*g)) : NULL;
    if (!g)
        return;
    struct turn *t = &g->turn;
    *t = (struct turn){.codec = r->what.codec,
                       .body = request_body(r->asked),
                       .turns = within(request_body(r->asked), r->facts.turns),
                       .begins = r->facts.prefix_hash,
                       .usage = r->usage,
                       .finish = r->kept ? r->kept->finish : MSG_FINISH_STOP,
                       .release = release};
    describe(r, t);
    g->copy = r->answered;
    t->answer = buf_span(&g->copy);
    t->bytes = sizeof(*g) + t->body.n + t->answer.n;
    if (!t->answer.n && r->kept && r->kept->shown.any && !r->shown_lost) {
        g->kept = kept_ref(r->kept);
        t->shown = &g->kept->shown;
        t->lock = lock;
        t->bytes += shown_end(t->shown);
    }
    g->rq = r->asked;
    if (!turns_give(turns, t)) {
        kept_unref(g->kept);
        mem_free(g);
        return;
    }
    r->keeps_asked = false; /* both are the turn's now */
    r->answered = (struct buf){0};
}
