#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "simulate/sim.h"

#include <stdio.h>

/* ---- ends ----------------------------------------------------------------- */

static void count_tokens(struct play *r, uint64_t tokens)
{
    if (tokens > r->counted)
        r->provider->tokens += tokens - r->counted;
    r->counted = tokens > r->counted ? tokens : r->counted;
}

/* An unstreamed answer is generated too, whether or not someone waits for it to be sent. */
static void count_unsent(struct play *r, enum play_outcome outcome)
{
    uint64_t now = loop_now_us(r->provider->sim->loop), spent = now - r->began_us,
             all = r->answer.completion_tokens;
    if (outcome == OUTCOME_REFUSED || r->stage <= PLAY_STARTING || r->in.streamed)
        return;
    if (r->talked)
        count_tokens(r, all);
    else if (r->delay_us > 0 && spent > (uint64_t)r->ttft_us)
        count_tokens(r, (spent - (uint64_t)r->ttft_us) / (uint64_t)r->delay_us < all
                            ? (spent - (uint64_t)r->ttft_us) / (uint64_t)r->delay_us
                            : all);
}

void play_over(struct play *r, enum play_outcome outcome)
{
    struct provider *p = r->provider;
    struct sim *sim = p->sim;
    timer_stop(sim->loop, &r->timer);
    if (r->stage == PLAY_HELD)
        p->held--;
    count_unsent(r, outcome);
    switch (outcome) {
    case OUTCOME_COMPLETE:
        p->complete++;
        break;
    case OUTCOME_FAULTED:
        p->faulted++;
        break;
    case OUTCOME_CANCELLED:
        p->cancelled++;
        break;
    case OUTCOME_REFUSED:
        p->refused++;
        break;
    }
    p->running--;
    list_remove(&r->node);
    fault_set_unref(r->faults);
    wire_done(&r->wire);
    buf_done(&r->body);
    arena_done(&r->mem);
    mem_free(r);
    control_changed(sim);
}

void play_ended(struct play *r, enum play_outcome outcome)
{
    wire_end(&r->wire);
    play_over(r, outcome);
}

void play_fail(struct play *r)
{
    if (r->wire.rq)
        wire_cut(&r->wire);
    /* a fault of HTTP/1.1's framing cannot be done over HTTP/2: its stream is reset */
    play_over(r, r->fault ? OUTCOME_FAULTED : OUTCOME_REFUSED);
}

static void on_gone(void *ctx)
{
    struct play *r = ctx;
    r->wire.rq = NULL;
    play_over(r, r->provider->dropping || r->provider->sim->ending ? OUTCOME_FAULTED : OUTCOME_CANCELLED);
}

static void on_drain(void *ctx)
{
    struct play *r = ctx;
    if (!r->blocked)
        return;
    r->blocked = false;
    play_go(r);
}

/* ---- waiting -------------------------------------------------------------- */

static void on_timer(void *ctx)
{
    play_go(ctx);
}

void play_wake(struct play *r, uint64_t due_us)
{
    timer_arm(r->provider->sim->loop, &r->timer, due_us / 1000 + (due_us % 1000 != 0));
}

void play_release(struct play *r)
{
    if (r->stage != PLAY_HELD)
        return;
    r->provider->held--;
    r->stage = r->resume;
    r->due_us = loop_now_us(r->provider->sim->loop);
    r->until_us = 0;
    play_wake(r, r->due_us);
}

static int64_t jittered(struct play *r, int64_t us)
{
    return r->jitter > 0 ? (int64_t)((double)us * (1 + r->jitter * (2 * rnd_unit(&r->rnd) - 1))) : us;
}

/* ---- the head ------------------------------------------------------------- */

pd_err play_add_header(struct play *r, struct span name, struct span value)
{
    if (!r->headers && !(r->headers = arena_alloc(&r->mem, sizeof(*r->headers) * WIRE_HEADERS_MAX)))
        return PD_NOMEM;
    for (unsigned i = 0; i < r->headers_count; i++)
        if (span_ieq(r->headers[i].name, name)) {
            r->headers[i].value = value; /* the later one wins: a fault's over the provider's */
            return PD_OK;
        }
    if (r->headers_count == WIRE_HEADERS_MAX)
        return PD_TOOBIG;
    r->headers[r->headers_count++] = (struct header){name, value};
    return PD_OK;
}

static pd_err add_headers(struct play *r, const struct read_headers *h)
{
    pd_err err = PD_OK;
    for (unsigned i = 0; i < h->count && err == PD_OK; i++)
        err = play_add_header(r, h->at[i].name, h->at[i].value);
    return err;
}

static pd_err add_one(void *ctx, struct span name, struct span value)
{
    return play_add_header(ctx, name, value);
}

/* Those that this dialect's providers send. */
static pd_err add_own_headers(struct play *r)
{
    const struct provider *p = r->provider;
    const char *number =
        arena_printf(&r->mem, "%.*s-%llu", SPAN_FMT(p->conf->name), (unsigned long long)r->number);
    bool model = !r->fixed && !r->failed;
    struct sim_headers h = {.mem = &r->mem,
                            .rnd = &r->rnd,
                            .conf = p->conf,
                            .at = &r->at,
                            .number = number,
                            .of = model ? &r->speech : NULL,
                            .now_s = clock_wall_ms() / 1000,
                            .streamed = r->in.streamed,
                            .failed = r->failed,
                            .status = r->status,
                            .request_id = r->request_id,
                            .error_type = r->error_type,
                            .add = add_one,
                            .ctx = r};
    if (!number)
        return PD_NOMEM;
    if (r->at.dialect == SIM_CHAT) /* on embeddings too */
        return play_add_header(r, span_str(p->conf->style->request_id_header), span_str(number));
    return r->dialect->headers ? r->dialect->headers(&h) : PD_OK;
}

pd_err play_begin(struct play *r, int64_t length)
{
    const struct provider *p = r->provider;
    pd_err err = add_own_headers(r);
    if (err == PD_OK)
        err = add_headers(r, &p->conf->headers);
    if (err == PD_OK && r->fault)
        err = add_headers(r, &r->fault->headers);
    if (err == PD_OK)
        err = wire_begin(&r->wire, r->status, r->headers, r->headers_count, length);
    r->head_sent = true;
    if (err == PD_OK && !(r->fault && r->fault->kind == FAULT_SLOW_HEAD))
        (void)wire_send_head(&r->wire, SIZE_MAX, &err);
    return err;
}

static struct span content_type(const struct play *r)
{
    const struct span wrong = SPAN_LIT("text/plain; charset=utf-8");
    if (r->fault && r->fault->kind == FAULT_WRONG_TYPE)
        return r->fault->content_type.p ? r->fault->content_type : wrong;
    const struct sim_dialect *d = r->dialect;
    if (!r->in.streamed || (r->at.dialect == SIM_GEMINI && !r->at.sse))
        return span_str(d->json_type ? d->json_type : "application/json");
    if (r->at.dialect != SIM_CHAT)
        return span_str(d->stream_type);
    if (r->wire.framing & FRAME_JSONL)
        return SPAN_LIT("application/x-ndjson");
    return r->wire.framing & FRAME_TEXT ? SPAN_LIT("text/plain; charset=utf-8") : span_str(d->stream_type);
}

static bool is_sse(const struct play *r)
{
    return r->in.streamed && strncmp(r->dialect->stream_type, "text/event-stream", 17) == 0 &&
           (r->at.dialect != SIM_GEMINI || r->at.sse);
}

static pd_err begin(struct play *r, int64_t length)
{
    pd_err err = play_add_header(r, SPAN_LIT("content-type"), content_type(r));
    if (err == PD_OK && is_sse(r))
        err = play_add_header(r, SPAN_LIT("cache-control"), SPAN_LIT("no-cache"));
    if (err == PD_OK)
        err = play_begin(r, length);
    if (err == PD_OK && r->wire.framing & FRAME_BOM && is_sse(r))
        err = wire_write(&r->wire, SPAN_LIT("\xef\xbb\xbf"));
    return err;
}

/* ---- events --------------------------------------------------------------- */

pd_err play_write(struct play *r, pd_err err)
{
    r->sent += buf_size(&r->provider->sim->frame);
    return err != PD_OK ? err : wire_write(&r->wire, buf_span(&r->provider->sim->frame));
}

static enum ping_kind ping_of(const struct play *r)
{
    unsigned shape = r->fault ? r->fault->shape : FAULT_SHAPE_DEFAULT;
    if (r->stage != PLAY_STALLED)
        return r->dialect == &sim_messages ? PING_PING : PING_COMMENT;
    return shape == FAULT_SHAPE_BLANK ? PING_BLANK : shape == FAULT_SHAPE_PINGS ? PING_PING : PING_COMMENT;
}

static pd_err put_comment(struct play *r)
{
    struct buf *frame = &r->provider->sim->frame;
    buf_clear(frame);
    struct put out = put_into(frame);
    if (!r->in.streamed) {
        frame_blank(&out, r->wire.framing);
    } else {
        r->stream.out = &out;
        r->stream.comment = r->comment.p ? r->comment : SPAN_LIT("keep-alive");
        if (r->stage == PLAY_STALLED && r->fault && r->fault->text.p)
            r->stream.comment = r->fault->text;
        r->dialect->ping(&r->stream, ping_of(r));
    }
    pd_err err = play_write(r, out.err);
    wire_flush(&r->wire);
    return err;
}

/* ---- stages --------------------------------------------------------------- */

static void set_timing(struct play *r)
{
    struct provider *p = r->provider;
    const struct script_provider *conf = p->conf;
    const struct fault *f = r->fault;
    r->ttft_us = conf->ttft_us + conf->drift_us * (int64_t)p->drifted++;
    r->delay_us = conf->token_delay_us;
    r->jitter = conf->jitter;
    if (f && f->ttft_us >= 0)
        r->ttft_us = f->ttft_us;
    if (f && f->token_delay_us >= 0)
        r->delay_us = f->token_delay_us;
    if (f && f->jitter >= 0)
        r->jitter = f->jitter;
    if (f && f->kind == FAULT_SLOW && f->drift_us > 0)
        r->ttft_us += f->drift_us * (f->used - 1);
    bool openai = r->at.dialect == SIM_CHAT || r->at.dialect == SIM_RESPONSES;
    r->comment = openai && conf->style->comment ? span_str(conf->style->comment) : SPAN_NONE;
    r->comment_every_us = conf->comment_every_us;
}

/* What is awaited goes out with comments where the style has them and the head is there already. */
static bool head_comes_early(const struct play *r)
{
    const struct script_provider *conf = r->provider->conf;
    if (r->fault && r->fault->kind == FAULT_KEEPALIVE)
        return true;
    if (r->wire.form != WIRE_PLAIN || r->fixed)
        return false;
    if (r->at.dialect != SIM_CHAT && r->at.dialect != SIM_RESPONSES)
        return r->in.streamed && conf->head_early == 1;
    if (!r->in.streamed)
        return conf->style->blank_lines && r->ttft_us >= r->comment_every_us;
    return conf->head_early >= 0 ? conf->head_early : conf->style->head_early;
}

/* It is read: it is paid for, whatever comes of it. */
static void count_prompt(struct play *r)
{
    if (r->fixed)
        return;
    r->provider->prompt_tokens += r->in.prompt_tokens;
    r->provider->continued += r->answer.continues;
    r->provider->strayed += r->answer.strayed;
}

static pd_err start(struct play *r)
{
    uint64_t now = loop_now_us(r->provider->sim->loop);
    pd_err err = PD_OK;
    set_timing(r);
    count_prompt(r);
    if (r->fault)
        err = strike_prepare(r);
    if (err == PD_OK && r->in.streamed)
        err = stream_init(&r->stream, &r->speech, r->wire.framing, &r->provider->sim->event);
    int64_t wait = jittered(r, r->ttft_us);
    if (!r->in.streamed && !r->fixed)
        wait += jittered(r, r->delay_us * (int64_t)r->answer.completion_tokens);
    r->due_us = now + (uint64_t)wait;
    r->stage = PLAY_WAITING;
    r->comment_us = now;
    if (err == PD_OK && wait > 0 && head_comes_early(r)) {
        err = begin(r, -1);
        if (!r->comment.p && r->in.streamed)
            r->comment_us = r->due_us; /* the head alone */
        else if (!r->in.streamed)
            r->comment_us = now + (uint64_t)r->comment_every_us;
        if (r->head_sent && err == PD_OK)
            reply_flush(r->wire.rq);
    } else {
        r->comment_us = r->due_us;
    }
    return err;
}

/* True: go on now. */
static bool wait_first(struct play *r, pd_err *err)
{
    uint64_t now = loop_now_us(r->provider->sim->loop);
    while (now < r->due_us) {
        if (r->comment_us > now) {
            play_wake(r, r->comment_us < r->due_us ? r->comment_us : r->due_us);
            return false;
        }
        *err = put_comment(r);
        r->comment_us = now + (uint64_t)(r->comment_every_us > 0 ? r->comment_every_us : 1000000);
        if (*err != PD_OK)
            return false;
    }
    return true;
}

static pd_err begin_talking(struct play *r)
{
    pd_err err = PD_OK;
    r->stage = PLAY_TALKING;
    if (!r->in.streamed) {
        struct put out = put_into(&r->body);
        if (!r->fixed)
            whole_put(&r->speech, &out);
        err = out.err;
        if (err == PD_OK && r->fault)
            err = strike_body(r);
    }
    if (err == PD_OK && !r->head_sent) {
        bool chunked = r->in.streamed || (r->fault && r->fault->kind == FAULT_BAD_CHUNK);
        err = begin(r, chunked ? -1 : (int64_t)buf_size(&r->body));
        if (r->fault && r->fault->kind == FAULT_SLOW_HEAD)
            r->stage = PLAY_DRIPPING;
    }
    return err;
}

static bool drip(struct play *r, pd_err *err)
{
    uint64_t every = r->fault->every_us > 0 ? (uint64_t)r->fault->every_us : 10000;
    if (!wire_send_head(&r->wire, 1, err)) {
        r->stage = PLAY_TALKING;
        return *err == PD_OK;
    }
    play_wake(r, loop_now_us(r->provider->sim->loop) + every);
    return false;
}

static bool strikes_inside(const struct play *r)
{
    return r->fault && !r->struck && fault_kinds[r->fault->kind].where == FAULT_ACTS_INSIDE;
}

/* ---- unstreamed ----------------------------------------------------------- */

/* False: over, or waiting. */
static bool talk_whole(struct play *r, pd_err *err)
{
    r->talked = true;
    struct span body = buf_span(&r->body);
    if (strikes_inside(r)) {
        size_t part = strike_part(r);
        *err = wire_write(&r->wire, span_upto(body, part));
        r->body_sent = part;
        if (*err == PD_OK && strike_inside(r))
            return false;
    }
    if (*err == PD_OK)
        *err = wire_write(&r->wire, span_from(body, r->body_sent));
    if (*err != PD_OK)
        return false;
    play_ended(r, r->wire.form == WIRE_SHORT || r->spoiled ? OUTCOME_FAULTED : OUTCOME_COMPLETE);
    return false;
}

/* ---- streamed ------------------------------------------------------------- */

/* One piece; true: go on. */
static bool talk(struct play *r, pd_err *err)
{
    struct sim *sim = r->provider->sim;
    if (r->due_us > loop_now_us(sim->loop)) {
        play_wake(r, r->due_us);
        return false;
    }
    if (strikes_inside(r) && strike_due(r))
        return !strike_inside(r);
    buf_clear(&sim->frame);
    struct put out = put_into(&sim->frame);
    enum stream_piece piece = stream_next(&r->stream, &out);
    size_t most = strikes_inside(r) ? strike_within(r, buf_span(&sim->frame)) : buf_size(&sim->frame);
    bool within = most < buf_size(&sim->frame);
    sim->frame.tail = sim->frame.head + most;
    *err = play_write(r, out.err);
    if (within && *err == PD_OK) {
        count_tokens(r, r->stream.tokens);
        return !strike_inside(r);
    }
    if (piece == PIECE_NONE) {
        if (*err == PD_OK)
            play_ended(r, r->wire.form == WIRE_SHORT || r->spoiled ? OUTCOME_FAULTED : OUTCOME_COMPLETE);
        return false;
    }
    if (piece == PIECE_TOKEN) {
        count_tokens(r, r->stream.tokens);
        if (r->delay_us > 0)
            r->due_us += (uint64_t)jittered(r, r->delay_us);
    }
    return *err == PD_OK;
}

static bool stalled(struct play *r, pd_err *err)
{
    uint64_t now = loop_now_us(r->provider->sim->loop);
    if (r->until_us && now >= r->until_us) {
        r->stage = r->resume;
        r->due_us = now;
        return true;
    }
    if (r->comment_every_us > 0 && now >= r->comment_us) {
        *err = put_comment(r);
        r->comment_us = now + (uint64_t)r->comment_every_us;
    }
    uint64_t next = r->until_us;
    if (r->comment_every_us > 0 && (!next || r->comment_us < next))
        next = r->comment_us;
    if (next)
        play_wake(r, next);
    return false;
}

/* One step of whatever stage it is in; false: it waits, or is over. */
static bool play_step(struct play *r, pd_err *err)
{
    switch (r->stage) {
    case PLAY_STARTING:
        *err = start(r);
        return *err == PD_OK;
    case PLAY_WAITING:
        if (!wait_first(r, err))
            return false;
        *err = begin_talking(r);
        return *err == PD_OK;
    case PLAY_DRIPPING:
        return drip(r, err);
    case PLAY_TALKING:
        return r->in.streamed ? talk(r, err) : talk_whole(r, err);
    case PLAY_STALLED:
        return stalled(r, err);
    case PLAY_HELD:
        if (r->until_us)
            play_release(r);
        return false;
    case PLAY_RESETTING:
        wire_reset(&r->wire);
        play_over(r, OUTCOME_FAULTED);
        return false;
    }
    return false;
}

void play_go(struct play *r)
{
    pd_err err = PD_OK;
    struct loop *loop = r->provider->sim->loop;
    for (unsigned i = 0; i < SIM_TURN_TOKENS; i++) {
        if (r->head_sent && reply_queued(r->wire.rq) > 64 * 1024) {
            r->blocked = true; /* the client is slow: on_drain goes on */
            return;
        }
        if (!play_step(r, &err)) {
            if (err != PD_OK)
                play_fail(r);
            return;
        }
    }
    play_wake(r, loop_now_us(loop) + 1000); /* the others' turn */
}

/* ---- a new one ------------------------------------------------------------ */

struct play *play_new(struct provider *p, struct request *rq)
{
    static const struct request_handler handler = {on_gone, on_drain};
    struct play *r = mem_zalloc(sizeof(*r));
    if (!r)
        return NULL;
    r->provider = p;
    r->status = 200;
    r->number = p->requests;
    r->began_us = loop_now_us(p->sim->loop);
    r->rnd.state =
        (uint64_t)p->sim->script->seed ^ (r->number * 0xd1342543de82ef95u) ^ hash_bytes(p->conf->name, 0);
    arena_init(&r->mem, 2048, 0);
    buf_init(&r->body, 0);
    wire_init(&r->wire, rq, &r->rnd);
    r->wire.framing = p->conf->framing;
    timer_init(&r->timer, on_timer, r);
    list_push(&p->runs, &r->node);
    p->running++;
    request_set_handler(rq, &handler, r);
    return r;
}
